//! WorkloadClusters after ClusterProfiles of SIG Multicluster's cluster inventory, where its CRD is
//! (github.com/kubernetes-sigs/cluster-inventory-api).

mod plan;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use argosy_api::workload_cluster::{ArgoServer, Copy, SECRET_KEY, SECRET_SUFFIX, SecretKey, SyncMode};
use argosy_api::{WorkloadCluster, WorkloadClusterSpec, names};
use argosy_runtime::client::{RequestError, within};
use argosy_runtime::snapshot::Snapshot;
use argosy_runtime::{events, foreign};
use k8s_openapi::api::core::v1::{ObjectReference, Secret};
use kube::api::{GroupVersionKind, Patch, PatchParams, PostParams};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher;
use kube::{Api, Resource, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::sleep;

use super::{GATHER, Placer, SWEEP};
use plan::{Plan, Profile, Way, Wish, follows, plan};

const GROUP: &str = "multicluster.x-k8s.io";
const VERSION: &str = "v1alpha1";
const KIND: &str = "ClusterProfile";
const PLURAL: &str = "clusterprofiles";

/// In whose name a WorkloadCluster follows its profile: the API server keeps apart what is ours and what others set, and
/// takes away what we set before and no longer do.
const FOLLOWER: &str = "argosy-cluster-profile";
/// In whose name it is cordoned. Another one, so that taking the cordon back touches nothing else.
const CORDONER: &str = "argosy-cluster-profile-gone";

/// What has been written and said.
#[derive(Default)]
struct Done {
    /// By cluster: what was last written. What was written before and is no longer wished for does not show.
    wishes: HashMap<String, Wish>,
    /// By UID of what it is about.
    notes: BTreeMap<String, String>,
}

/// Follows ClusterProfiles, for ever.
pub(super) async fn follow(placer: &Placer) {
    let (profiles, ways) = (Snapshot::<Profile>::default(), Snapshot::<Way>::default());
    let kind = GroupVersionKind::gvk(GROUP, VERSION, KIND);
    let secrets: Api<PartialObjectMeta<Secret>> = Api::namespaced(placer.control.clone(), &placer.namespace);
    let secrets = events::watch(
        "secrets for clusterprofiles",
        secrets,
        watcher::Config::default().labels(names::CLUSTER_PROFILE),
    );
    let news = Notify::new();
    let changed = || news.notify_one();
    tokio::select! {
        () = profiles.follow(foreign::watch(placer.control.clone(), &kind, PLURAL), Profile::new, changed) => {}
        () = ways.follow(secrets, Way::new, changed) => {}
        () = act(placer, &profiles, &ways, &news) => {}
    }
}

async fn act(placer: &Placer, profiles: &Snapshot<Profile>, ways: &Snapshot<Way>, news: &Notify) {
    placer.known.synced().await;
    profiles.synced().await;
    ways.synced().await;
    let mut clusters = placer.known.changes();
    let mut done = Done::default();
    loop {
        let fine = done.carry_out(placer, plan(&values(profiles), &values(ways), &placer.known.clusters())).await;
        tokio::select! {
            () = news.notified() => {}
            _ = clusters.changed() => {}
            () = sleep(SWEEP), if !fine => {}
        }
        sleep(GATHER).await;
    }
}

fn values<V>(snapshot: &Snapshot<V>) -> Vec<Arc<V>> {
    snapshot.all().into_iter().map(|(_, value)| value).collect()
}

impl Done {
    /// Writes and says what has not been. Answers whether all of it worked.
    async fn carry_out(&mut self, placer: &Placer, plan: Plan) -> bool {
        self.tell(placer, plan.notes);
        self.wishes.retain(|name, _| plan.wishes.contains_key(name));
        let mut fine = true;
        for (name, wish) in plan.wishes {
            let is_done = self.wishes.get(&name) == Some(&wish) && wish.shows(placer.known.cluster(&name).as_deref());
            if is_done || !placer.lease.is_held() {
                continue;
            }
            match fulfil(placer, &name, &wish).await {
                Ok(()) => drop(self.wishes.insert(name, wish)),
                Err(error) => {
                    tracing::warn!(cluster = name, error = error.message(), "cannot write the WorkloadCluster");
                    fine = false;
                }
            }
        }
        fine
    }

    fn tell(&mut self, placer: &Placer, notes: BTreeMap<String, (ObjectReference, String)>) {
        self.notes.retain(|uid, _| notes.contains_key(uid));
        for (uid, (object, note)) in notes {
            if self.notes.get(&uid) != Some(&note) {
                tracing::warn!(kind = object.kind, namespace = object.namespace, name = object.name, note);
                placer.announcer.warn(object, "NotFollowed", &note);
                self.notes.insert(uid, note);
            }
        }
    }
}

/// Makes a WorkloadCluster so, if it still follows a profile.
async fn fulfil(placer: &Placer, name: &str, wish: &Wish) -> Result<(), RequestError> {
    let api: Api<WorkloadCluster> = Api::all(placer.control.clone());
    let known = match (within(api.get_opt(name)).await?, wish) {
        (Some(known), _) if follows(known.labels()) => known,
        (None, Wish::Follow { labels, .. }) => create(&api, name, labels).await?,
        // Gone, or somebody else's meanwhile: the watch brings it.
        _ => return Ok(()),
    };
    match wish {
        Wish::Follow { .. } => {
            apply(&api, &known, FOLLOWER, wish.fields()).await?;
            // The cordon that was ours; whoever else set one keeps it.
            if known.spec.cordoned { apply(&api, &known, CORDONER, json!({})).await } else { Ok(()) }
        }
        Wish::Cordon(why) => {
            apply(&api, &known, CORDONER, wish.fields()).await?;
            if !known.spec.cordoned {
                let note = format!(
                    "cordoned, for {why}: delete it when its workflows are done; to keep it, take label {} off it and uncordon it",
                    names::CLUSTER_PROFILE
                );
                tracing::warn!(cluster = name, note);
                placer.announcer.warn(known.object_ref(&()), "Cordoned", &note);
            }
            Ok(())
        }
    }
}

/// By a creation, which never changes what somebody else has made a moment ago. No namespace may use it yet, and no rule
/// selects it: what comes next says so.
async fn create(
    api: &Api<WorkloadCluster>,
    name: &str,
    labels: &BTreeMap<String, String>,
) -> Result<WorkloadCluster, RequestError> {
    let spec = WorkloadClusterSpec {
        sync_mode: SyncMode::Push,
        kubeconfig_secret: Some(SecretKey { name: format!("{name}{SECRET_SUFFIX}"), key: SECRET_KEY.to_owned() }),
        cordoned: false,
        namespaces: Vec::new(),
        create_namespaces: false,
        copy: Copy::default(),
        argo_server: ArgoServer::default(),
    };
    let mut cluster = WorkloadCluster::new(name, spec);
    cluster.metadata.labels =
        labels.get_key_value(names::CLUSTER_PROFILE).map(|(key, value)| [(key.clone(), value.clone())].into());
    let params = PostParams { field_manager: Some(FOLLOWER.to_owned()), ..PostParams::default() };
    let created = within(api.create(&params, &cluster)).await?;
    tracing::info!(cluster = name, profile = labels.get(names::CLUSTER_PROFILE), "made after its ClusterProfile");
    Ok(created)
}

/// Lets these be the fields that are set in the name of `manager`. Of this very object: not of one that was made meanwhile.
async fn apply(
    api: &Api<WorkloadCluster>,
    known: &WorkloadCluster,
    manager: &str,
    fields: Value,
) -> Result<(), RequestError> {
    let mut object = json!({
        "apiVersion": WorkloadCluster::api_version(&()), "kind": WorkloadCluster::kind(&()),
        "metadata": {"name": known.name_any(), "uid": known.uid()},
    });
    json_patch::merge(&mut object, &fields);
    let params = PatchParams::apply(manager).force();
    within(api.patch(&known.name_any(), &params, &Patch::Apply(&object))).await.map(drop)
}
