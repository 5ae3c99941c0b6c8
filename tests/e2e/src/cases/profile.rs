//! Clusters from a cluster inventory: WorkloadClusters that follow ClusterProfiles.

use anyhow::{Context, Result, ensure};
use argosy_api::WorkloadCluster;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::{Case, case};
use crate::world::{World, sleeping, wait_for, workflows};

pub(super) fn cases() -> Vec<Case> {
    vec![case!(
        "a cluster of the inventory takes workflows by its profile's labels, and is cordoned without it",
        follows
    )]
}

const GROUP: &str = "multicluster.x-k8s.io";
const CRD: &str = "clusterprofiles.multicluster.x-k8s.io";
/// The cluster, and the namespace whose workflows it takes.
const NAME: &str = "inventoried";
const FLEET: &str = "fleet";

/// As in kubernetes-sigs/cluster-inventory-api, but for the depth of its status.
fn crd() -> Value {
    let text = json!({"type": "string"});
    let manager = json!({"type": "object", "required": ["name"], "properties": {"name": text}});
    let spec = json!({
        "type": "object", "required": ["clusterManager"],
        "properties": {"displayName": text, "clusterManager": manager},
    });
    let status = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let schema = json!({"type": "object", "required": ["spec"], "properties": {"spec": spec, "status": status}});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": CRD},
        "spec": {
            "group": GROUP, "scope": "Namespaced",
            "names": {
                "kind": "ClusterProfile", "listKind": "ClusterProfileList",
                "plural": "clusterprofiles", "singular": "clusterprofile",
            },
            "versions": [{
                "name": "v1alpha1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": schema}, "subresources": {"status": {}},
            }],
        },
    })
}

/// What the case works on.
struct Inventory {
    world: World,
    profiles: Api<DynamicObject>,
    clusters: Api<WorkloadCluster>,
    secrets: Api<Secret>,
}

async fn follows(world: World) -> Result<()> {
    let kind = GroupVersionKind::gvk(GROUP, "v1alpha1", "ClusterProfile");
    let resource = ApiResource::from_gvk_with_plural(&kind, "clusterprofiles");
    let inventory = Inventory {
        profiles: Api::namespaced_with(world.control.clone(), FLEET, &resource),
        clusters: Api::all(world.control.clone()),
        secrets: Api::namespaced(world.control.clone(), "argosy"),
        world,
    };
    let result = inventory.story().await;
    inventory.clear().await?;
    result
}

impl Inventory {
    async fn story(&self) -> Result<()> {
        let crds: Api<CustomResourceDefinition> = Api::all(self.world.control.clone());
        crds.patch(CRD, &PatchParams::apply("e2e").force(), &Patch::Apply(&crd())).await?;
        self.world.namespace(FLEET, json!({})).await?;
        self.world.namespace(NAME, json!({"argosy.dev/clusters": "orbit=moon"})).await?;
        self.profile(json!({"orbit": "moon", "x-k8s.io/cluster-manager": "e2e"})).await?;
        let waiting = self.world.create(NAME, &sleeping("waits", 1)).await?;
        self.world.phase(NAME, &waiting, "Pending").await?;

        self.secret().await?;
        self.until("it is made", |cluster| {
            cluster.labels().get("orbit").is_some_and(|orbit| orbit == "moon")
                && cluster.labels().get("x-k8s.io/cluster-manager").is_some_and(|manager| manager == "e2e")
                && cluster.spec.namespaces == [NAME]
        })
        .await?;
        // What the profile does not say is its administrator's.
        let own = Patch::Merge(json!({"metadata": {"labels": {"by": "hand"}}, "spec": {"createNamespaces": true}}));
        self.clusters.patch(NAME, &PatchParams::default(), &own).await?;
        let done = self.world.phase(NAME, &waiting, "Succeeded").await?;
        ensure!(done.labels().get("kubestellar.io/cluster").is_some_and(|label| label == NAME), "it ran elsewhere");

        self.profile(json!({"x-k8s.io/cluster-manager": "e2e"})).await?;
        self.until("it loses the label", |cluster| !cluster.labels().contains_key("orbit")).await?;
        let outside = self.world.create(NAME, &sleeping("outside", 1)).await?;
        let outside = self.world.phase(NAME, &outside, "Pending").await?;
        let message = outside.data["status"]["message"].as_str().unwrap_or_default();
        ensure!(message.contains("none has such labels"), "it waits for {message:?}");

        self.profiles.delete(NAME, &DeleteParams::default()).await?;
        self.until("it is cordoned", |cluster| {
            let why = cluster.annotations().get("argosy.dev/cordoned");
            cluster.spec.cordoned && why.is_some_and(|why| why.contains("no ClusterProfile fleet/inventoried"))
        })
        .await?;
        self.profile(json!({"orbit": "moon"})).await?;
        self.until("it is back", |cluster| {
            !cluster.spec.cordoned
                && !cluster.annotations().contains_key("argosy.dev/cordoned")
                && cluster.labels().contains_key("orbit")
                && cluster.labels().contains_key("by")
                && cluster.spec.create_namespaces
        })
        .await?;
        self.world.phase(NAME, &outside.name_any(), "Succeeded").await.map(drop)
    }

    /// Writes the profile, with these labels and no others.
    async fn profile(&self, labels: Value) -> Result<()> {
        let profile = json!({
            "apiVersion": format!("{GROUP}/v1alpha1"), "kind": "ClusterProfile",
            "metadata": {"name": NAME, "labels": labels},
            "spec": {"displayName": "a cluster", "clusterManager": {"name": "e2e"}},
        });
        wait_for("ClusterProfiles to be served", || async {
            let applied = self.profiles.patch(NAME, &PatchParams::apply("e2e").force(), &Patch::Apply(&profile)).await;
            Ok(applied.map(drop).map_err(|error| error.to_string()))
        })
        .await
    }

    /// A way to the second cluster, which says that it leads to the profile's.
    async fn secret(&self) -> Result<()> {
        let data = self.secrets.get("cluster2-kubeconfig").await?.data.context("cluster2 has no kubeconfig")?;
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "data": data,
            "metadata": {
                "name": format!("{NAME}-kubeconfig"),
                "labels": {"argosy.dev/cluster-profile": FLEET},
                "annotations": {"argosy.dev/namespaces": NAME},
            },
        });
        let name = format!("{NAME}-kubeconfig");
        self.secrets.patch(&name, &PatchParams::apply("e2e").force(), &Patch::Apply(&secret)).await?;
        Ok(())
    }

    async fn until(&self, what: &str, is_so: impl Fn(&WorkloadCluster) -> bool) -> Result<()> {
        wait_for(what, || async {
            let Some(cluster) = self.clusters.get_opt(NAME).await? else { return Ok(Err("there is none".to_owned())) };
            Ok(if is_so(&cluster) { Ok(()) } else { Err(format!("{:?} {:?}", cluster.metadata.labels, cluster.spec)) })
        })
        .await
    }

    /// First the workflows, whose copies need the cluster to go.
    async fn clear(&self) -> Result<()> {
        let originals = self.world.originals(NAME);
        originals.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
        wait_for("the copies to go", || async {
            let copies = workflows(&self.world.wecs[1], NAME).list(&ListParams::default()).await?.items.len();
            Ok(if copies == 0 { Ok(()) } else { Err(format!("{copies} are there")) })
        })
        .await?;
        let gone = |deleted: Result<(), kube::Error>| match deleted {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            other => other,
        };
        let now = DeleteParams::default();
        gone(self.secrets.delete(&format!("{NAME}-kubeconfig"), &now).await.map(drop))?;
        gone(self.clusters.delete(NAME, &now).await.map(drop))?;
        let crds: Api<CustomResourceDefinition> = Api::all(self.world.control.clone());
        gone(crds.delete(CRD, &now).await.map(drop))?;
        Ok(())
    }
}
