//! Argo Workflows in a cluster: CRDs, settings and rights from the manifests of the pinned module, and the real
//! workflow-controller as a process of this machine that signs in as the service account `argo/argo`, the way those
//! manifests run it as a pod. In the same way argo-server, where it is asked for.

pub mod browser;
pub mod server;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams, PostParams};
use kube::config::Kubeconfig;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::artifacts::Artifacts;
use crate::cluster::{client, token};
use crate::database::Database;
use crate::layout::CONTROL;
use crate::layout::write_file;
use crate::process::{self, Daemon, wait_until};
use crate::{Cluster, Layout, Progress, programs::Programs};

/// The namespace of the controller, its settings and its service account; workflows may run in it, too.
pub const NAMESPACE: &str = "argo";
/// The controller's service account.
pub const SERVICE_ACCOUNT: &str = "argo";
/// The controller's daemon, for [`process::stop`].
pub const CONTROLLER: &str = "workflow-controller";
/// The image of Argo's own containers in a pod.
pub const EXECUTOR_IMAGE: &str = "quay.io/argoproj/argoexec:v3.7.4";

/// The variable by which Argo's programs keep all nodes in the database; `true` or anything else.
const OFFLOAD_ALL: &str = "ALWAYS_OFFLOAD_NODE_STATUS";
/// The controller logs this as soon as it has seen everything there is and gets to work.
const AT_WORK: &str = "Starting CronWorkflow controller";
/// How long one write, and how long the start of the controller, may take. The full CRDs keep an API server busy for half
/// a minute of processor time.
const PATIENCE: Duration = Duration::from_secs(180);
const FIELD_MANAGER: &str = "testbed";
/// On a CRD: which content of its file it was applied from.
const MANIFEST: &str = "testbed.argosy.dev/manifest";

/// Which of Argo's CRDs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum CrdFlavour {
    /// Without validation of specs; what upstream installs by default.
    #[default]
    Minimal,
    /// With it.
    Full,
}

/// How Argo is to be installed.
pub struct Wanted<'a> {
    /// Its CRDs.
    pub crds: CrdFlavour,
    /// The database for its archive, and for what is too large for etcd.
    pub database: Option<&'a Database>,
    /// Where its artifacts go.
    pub artifacts: Option<&'a Artifacts>,
}

impl Wanted<'_> {
    /// Whether all nodes of a cluster's workflows are kept in the database, not those of large ones only.
    fn offloads_all(&self, cluster: &Cluster) -> bool {
        self.database.is_some() && cluster.name != CONTROL
    }
}

/// Installs Argo Workflows in a cluster, starts its controller, which serves all namespaces, and waits until it is at
/// work. May be called again: then it mends what is missing, and leaves a controller that runs alone.
///
/// # Errors
/// The API server refuses an object, or the controller does not come to work; with the object's or the log's name.
pub async fn install(
    layout: &Layout,
    programs: &Programs,
    cluster: &Cluster,
    wanted: &Wanted<'_>,
    progress: &Progress,
) -> Result<()> {
    let step = progress.step(format!("Argo Workflows in {}", cluster.name));
    let work = async {
        let client = cluster.client().await?;
        step.detail("definitions");
        install_crds(&client, programs.argo_manifests(), wanted.crds).await?;
        step.detail("settings and rights");
        let database = wanted.database.map(|database| database.settings(&cluster.name));
        let settings = settings(database, wanted.artifacts.map(Artifacts::settings))?;
        for object in objects(programs.argo_manifests(), &settings)? {
            apply(&client, &object).await?;
        }
        step.detail("controller");
        let _turn = match wanted.database {
            Some(database) => Some(database.turn().await),
            None => None,
        };
        start_controller(layout, programs, cluster, &client, wanted).await
    };
    work.await.with_context(|| format!("{}: installing Argo Workflows", cluster.name))?;
    step.done("");
    Ok(())
}

async fn install_crds(client: &Client, manifests: &Path, flavour: CrdFlavour) -> Result<()> {
    let folder = match flavour {
        CrdFlavour::Minimal => "base/crds/minimal",
        CrdFlavour::Full => "base/crds/full",
    };
    let folder = manifests.join(folder);
    let entries = std::fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?;
    let mut crds = Vec::new();
    for entry in entries.flatten() {
        let file = entry.file_name();
        let plural = file.to_str().and_then(|name| name.strip_prefix("argoproj.io_")?.strip_suffix(".yaml"));
        if let Some(plural) = plural {
            crds.push((plural.to_owned(), entry.path()));
        }
    }
    ensure!(!crds.is_empty(), "no CRDs in {}", folder.display());
    let installs = crds.iter().map(|(plural, file)| install_crd(client, plural, file));
    futures::future::try_join_all(installs).await?;
    wait_until("Argo's CRDs", PATIENCE, None, || async {
        let served = client.list_api_group_resources("argoproj.io/v1alpha1").await?;
        let missing: Vec<_> = crds
            .iter()
            .map(|(plural, _)| plural.as_str())
            .filter(|plural| !served.resources.iter().any(|resource| resource.name == *plural))
            .collect();
        ensure!(missing.is_empty(), "not served yet: {}", missing.join(", "));
        Ok(())
    })
    .await
}

/// Applies one CRD, unless it is there already from the same file: the full ones cost an API server seconds each.
async fn install_crd(client: &Client, plural: &str, file: &Path) -> Result<()> {
    let text = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    let version = format!("{:016x}", hasher.finish());
    let name = format!("{plural}.argoproj.io");
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let present = tokio::time::timeout(PATIENCE, definitions.get_metadata_opt(&name)).await;
    let present =
        present.with_context(|| format!("reading {name}: no answer"))?.with_context(|| format!("reading {name}"))?;
    if present.is_some_and(|present| present.annotations().get(MANIFEST) == Some(&version)) {
        return Ok(());
    }
    let [crd] = &mut read_manifests(file)?[..] else {
        bail!("{}: expected one CustomResourceDefinition", file.display())
    };
    crd["metadata"]["annotations"][MANIFEST] = version.into();
    apply(client, crd).await
}

/// The controller's settings, in YAML.
fn settings(persistence: Option<Value>, artifacts: Option<Value>) -> Result<String> {
    let mut settings = json!({
        "executor": {"imagePullPolicy": "IfNotPresent"},
        // Controllers that share a machine's network would fight for the port, and lose.
        "metricsConfig": {"enabled": false},
    });
    for (field, setting) in [("persistence", persistence), ("artifactRepository", artifacts)] {
        if let Some(setting) = setting {
            settings[field] = setting;
        }
    }
    serde_saphyr::to_string(&settings).context("writing the controller's settings")
}

/// Everything but the CRDs, in an order that can be applied.
fn objects(manifests: &Path, settings: &str) -> Result<Vec<Value>> {
    let mut objects = vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}),
        Database::secret(NAMESPACE),
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "workflow-controller-configmap", "namespace": NAMESPACE},
            "data": {"config": settings}
        }),
        // Upstream's minimum for the executor, for every service account instead of one by one.
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": "argo-executor"},
            "rules": [
                {"apiGroups": ["argoproj.io"], "resources": ["workflowtaskresults"], "verbs": ["create", "patch"]}
            ]
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": "argo-executor"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "argo-executor"},
            "subjects": [
                {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:serviceaccounts"}
            ]
        }),
    ];
    const RBAC: &str = "cluster-install-no-crds/workflow-controller-rbac";
    for file in [
        "base/workflow-controller/workflow-controller-sa.yaml",
        &format!("{RBAC}/workflow-aggregate-roles.yaml"),
        &format!("{RBAC}/workflow-controller-clusterrole.yaml"),
        &format!("{RBAC}/workflow-controller-clusterrolebinding.yaml"),
        &format!("{RBAC}/workflow-controller-role.yaml"),
        &format!("{RBAC}/workflow-controller-rolebinding.yaml"),
    ] {
        objects.extend(read_manifests(&manifests.join(file))?.into_iter().map(in_namespace));
    }
    Ok(objects)
}

/// Puts an object, and the service accounts that it speaks of, into [`NAMESPACE`], as `kubectl apply -n` and
/// kustomize do.
fn in_namespace(mut object: Value) -> Value {
    if !object["kind"].as_str().is_some_and(|kind| kind.starts_with("Cluster")) {
        object["metadata"]["namespace"] = NAMESPACE.into();
    }
    for subject in object.get_mut("subjects").and_then(Value::as_array_mut).into_iter().flatten() {
        subject["namespace"] = NAMESPACE.into();
    }
    object
}

fn read_manifests(file: &Path) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    serde_saphyr::from_multiple(&text).with_context(|| format!("{}: not YAML", file.display()))
}

async fn apply(client: &Client, object: &Value) -> Result<()> {
    let field = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (api_version, kind) = (field(&object["apiVersion"]), field(&object["kind"]));
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let name = field(&object["metadata"]["name"]);
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &kind));
    let api: Api<DynamicObject> = match object["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let patch = Patch::Apply(object);
    let applied = tokio::time::timeout(PATIENCE, api.patch(&name, &params, &patch));
    let timeout = || format!("applying {kind} {name}: no answer within {} s", PATIENCE.as_secs());
    applied.await.with_context(timeout)?.with_context(|| format!("applying {kind} {name}"))?;
    Ok(())
}

async fn start_controller(
    layout: &Layout,
    programs: &Programs,
    cluster: &Cluster,
    client: &Client,
    wanted: &Wanted<'_>,
) -> Result<()> {
    let kubeconfig = kubeconfig_of(layout, cluster, client, CONTROLLER, SERVICE_ACCOUNT).await?;
    let log = layout.logs().join(&cluster.name).join(format!("{CONTROLLER}.log"));
    let before = std::fs::metadata(&log).map_or(0, |metadata| metadata.len());
    let controller = Daemon::new(layout, &cluster.name, CONTROLLER, programs.path(CONTROLLER)?)
        .args([
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--namespace={NAMESPACE}"),
            format!("--executor-image={EXECUTOR_IMAGE}"),
            // Its own 20 requests a second would be all that a benchmark measures.
            "--qps=200".to_owned(),
            "--burst=400".to_owned(),
        ])
        .env("LEADER_ELECTION_DISABLE", "true")
        // A change of a pod is looked at after this time; 10 s by itself, 1 s also in Argo's own tests.
        .env("DEFAULT_REQUEUE_TIME", "1s")
        .env(OFFLOAD_ALL, wanted.offloads_all(cluster).to_string())
        // So often CronWorkflows look at what became of their workflows; 10 s by itself.
        .env("CRON_SYNC_PERIOD", "1s")
        .in_netns(cluster.netns.as_deref())
        .start()?;
    let from = if controller.fresh { before } else { 0 };
    wait_until(CONTROLLER, PATIENCE, Some(&controller), || async {
        let written = std::fs::read(&log).with_context(|| format!("reading {}", log.display()))?;
        let new = written.get(usize::try_from(from)?..).unwrap_or_default();
        ensure!(String::from_utf8_lossy(new).contains(AT_WORK), "it has not logged {AT_WORK:?} yet");
        Ok(())
    })
    .await
}

/// A kubeconfig by which a daemon signs in as an account of [`NAMESPACE`].
async fn kubeconfig_of(
    layout: &Layout,
    cluster: &Cluster,
    client: &Client,
    daemon: &str,
    account: &str,
) -> Result<PathBuf> {
    let kubeconfig = layout.cluster_dir(&cluster.name).join(format!("{daemon}.kubeconfig"));
    if !signs_in(&kubeconfig, account).await {
        let token = token(client, NAMESPACE, account).await?;
        // One that runs with a token that is no good any more must not be taken for one that works.
        process::stop(layout, &cluster.name, daemon);
        write_file(&kubeconfig, cluster.kubeconfig_with_token(account, &token)?, 0o600)?;
    }
    Ok(kubeconfig)
}

/// Whether a kubeconfig is there that signs in as an account.
async fn signs_in(kubeconfig: &Path, account: &str) -> bool {
    let ask = async {
        let client = client(Kubeconfig::read_from(kubeconfig)?).await?;
        let reviews: Api<SelfSubjectReview> = Api::all(client);
        let (params, question) = (PostParams::default(), SelfSubjectReview::default());
        let review = reviews.create(&params, &question);
        let review = tokio::time::timeout(Duration::from_secs(10), review).await??;
        anyhow::Ok(review.status.and_then(|status| status.user_info).and_then(|user| user.username))
    };
    let expected = format!("system:serviceaccount:{NAMESPACE}:{account}");
    kubeconfig.exists() && ask.await.is_ok_and(|user| user.as_deref() == Some(expected.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_go_to_the_namespace_with_the_accounts_they_speak_of() {
        let binding = in_namespace(json!({
            "kind": "RoleBinding", "metadata": {"name": "b"}, "subjects": [{"kind": "ServiceAccount", "name": "argo"}]
        }));
        assert_eq!(binding["metadata"]["namespace"], NAMESPACE);
        assert_eq!(binding["subjects"][0]["namespace"], NAMESPACE);
        let cluster_binding = in_namespace(json!({
            "kind": "ClusterRoleBinding", "metadata": {"name": "b"}, "subjects": [{"kind": "ServiceAccount", "name": "a"}]
        }));
        assert_eq!(cluster_binding["metadata"].get("namespace"), None);
        assert_eq!(cluster_binding["subjects"][0]["namespace"], NAMESPACE);
        let role = in_namespace(json!({"kind": "ClusterRole", "metadata": {"name": "r"}}));
        assert_eq!(role, json!({"kind": "ClusterRole", "metadata": {"name": "r"}}));
    }
}
