//! Where a command is tried, and by which way it gets there.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::core::DynamicObject;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use super::Of;
use super::outcome::outcome;
use crate::world::{World, output, put, wait_for, workflows};

/// A namespace without a rule, and one whose workflows are routed.
const LOCAL: &str = "verbs-local";
const ROUTED: &str = "verbs-routed";
/// One whose workflows no cluster takes.
const WAITING: &str = "verbs-waiting";
/// Who signs in at argo-server.
const USER: &str = "user";

/// A namespace in which a command is tried.
#[derive(Clone)]
pub(super) struct Side {
    pub(super) world: World,
    pub(super) namespace: &'static str,
    pub(super) is_routed: bool,
    /// What makes argo ask argo-server; without it, it asks the API server itself.
    server: Option<Arc<[(&'static str, String)]>>,
}

/// All sides: both namespaces, through argo-server as well where that is asked for.
pub(super) async fn sides(world: &World, of: Of) -> Result<Vec<Side>> {
    world.namespace(LOCAL, json!({})).await?;
    // Argo fails a workflow whose pods' account is not there yet.
    let accounts: Api<ServiceAccount> = Api::namespaced(world.control.clone(), LOCAL);
    world.presence(&accounts, "default", true).await?;
    world.namespace(ROUTED, json!({"argosy.dev/clusters": "env=testbed"})).await?;
    world.namespace(WAITING, json!({"argosy.dev/clusters": "env=nowhere"})).await?;
    let side = |namespace, server| Side { world: world.clone(), namespace, is_routed: namespace == ROUTED, server };
    let mut sides = vec![side(LOCAL, None), side(ROUTED, None)];
    if matches!(of, Of::Argo | Of::Served) {
        let server = Some(signed_in(world).await?);
        sides.extend([side(LOCAL, server.clone()), side(ROUTED, server)]);
        // What the account may do takes a moment to be in force.
        for side in &sides[2..] {
            wait_for("argo-server to know its user", || async {
                Ok(side.argo(&["list", "-o", "name"], "").await.map_err(|error| error.to_string()))
            })
            .await?;
        }
        if of == Of::Served {
            sides.drain(..2);
        }
    }
    Ok(sides)
}

/// The environment of an argo that asks argo-server as a user who may do in these namespaces what their owner may.
async fn signed_in(world: &World) -> Result<Arc<[(&'static str, String)]>> {
    let url = world.testbed.argo_server()?.context("the testbed has no argo-server")?;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": USER}});
    put(&world.control, LOCAL, account).await?;
    for namespace in [LOCAL, ROUTED, WAITING] {
        let rights = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": USER},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin"},
            "subjects": [{"kind": "ServiceAccount", "name": USER, "namespace": LOCAL}],
        });
        put(&world.control, namespace, rights).await?;
    }
    let token = world.run("kubectl", &["create", "token", USER, "-n", LOCAL], "").await?;
    Ok(Arc::new([
        ("ARGO_SERVER", url.trim_start_matches("http://").to_owned()),
        ("ARGO_SECURE", "false".to_owned()),
        // As the UI and most programs ask.
        ("ARGO_HTTP1", "true".to_owned()),
        ("ARGO_TOKEN", format!("Bearer {token}")),
        ("KUBECONFIG", "/dev/null".to_owned()),
    ]))
}

impl Side {
    pub(super) fn name(&self) -> String {
        let way = if self.server.is_some() { ", through argo-server" } else { "" };
        format!("{}{way}", if self.is_routed { "routed" } else { "local" })
    }

    /// The same, where workflows wait for a cluster.
    pub(super) fn waiting(&self) -> Self {
        Self { namespace: WAITING, ..self.clone() }
    }

    /// A name that no other side uses.
    pub(super) fn own(&self, name: &str) -> String {
        if self.server.is_some() { format!("{name}-served") } else { name.to_owned() }
    }

    /// Runs argo with these words; answers what it printed.
    pub(super) async fn argo(&self, args: &[&str], input: &str) -> Result<String> {
        let args = [args, &["-n", self.namespace]].concat();
        let Some(server) = &self.server else { return self.world.run("argo", &args, input).await };
        let mut command = self.world.program("argo");
        command.args(args).envs(server.iter().map(|(name, value)| (name, value)));
        output(command, input).await
    }

    pub(super) async fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.world.run("kubectl", &[args, &["-n", self.namespace]].concat(), "").await
    }

    /// Creates a workflow; answers its name.
    pub(super) async fn created(&self, workflow: &Value) -> Result<String> {
        self.argo(&["submit", "-o", "name", "/dev/stdin"], &workflow.to_string()).await
    }

    /// The workflow that the user created.
    pub(super) async fn get(&self, name: &str) -> Result<DynamicObject> {
        Ok(self.world.originals(self.namespace).get(name).await?)
    }

    /// Waits until a workflow has ended, and says how.
    pub(super) async fn ended(&self, name: &str) -> Result<String> {
        self.seen(name, |object| {
            let is_done = object.labels().get("workflows.argoproj.io/completed").is_some_and(|done| done == "true");
            is_done && object.data["status"]["finishedAt"].is_string()
        })
        .await
    }

    /// Waits until a workflow is seen so, and says how it is.
    pub(super) async fn seen(&self, name: &str, so: impl Fn(&DynamicObject) -> bool) -> Result<String> {
        wait_for(&format!("{}/{name}", self.namespace), || async {
            let object = self.get(name).await?;
            Ok(if so(&object) { Ok(outcome(&object)) } else { Err(outcome(&object)) })
        })
        .await
    }

    /// Creates a workflow and waits until this node runs.
    pub(super) async fn running(&self, workflow: &Value, node: &str) -> Result<String> {
        let name = self.created(workflow).await?;
        self.seen(&name, |object| phase_of(object, node) == "Running").await?;
        Ok(name)
    }

    /// The clusters in which its workflows may run.
    pub(super) fn clusters(&self) -> &[Client] {
        if self.is_routed { &self.world.wecs } else { std::slice::from_ref(&self.world.control) }
    }

    /// Its workflows where they run, by name: each cluster's own.
    pub(super) fn runs(&self) -> Vec<Api<DynamicObject>> {
        self.clusters().iter().map(|client| workflows(client, self.namespace)).collect()
    }

    /// Whether Argo's controller where its workflows run has logged this about one of them.
    pub(super) fn is_logged(&self, which: &str, what: &str) -> Result<bool> {
        let testbed = &self.world.testbed;
        let clusters = if self.is_routed { testbed.wecs() } else { std::slice::from_ref(testbed.control()) };
        for cluster in clusters {
            let log = testbed.layout.logs().join(&cluster.name).join("workflow-controller.log");
            let text = String::from_utf8_lossy(&std::fs::read(log)?).into_owned();
            let is_it = |line: &str| line.contains(what) && line.split_whitespace().any(|word| word == which);
            if text.lines().any(is_it) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The pods of a workflow; none of a routed one's is in the control cluster.
    pub(super) async fn pods(&self, name: &str) -> Result<Vec<(Client, Pod)>> {
        if self.is_routed {
            let astray = self.world.pods(&self.world.control, self.namespace, name).await?;
            ensure!(astray.is_empty(), "{name} is routed, and {} pods of it are in the control cluster", astray.len());
        }
        let mut pods = Vec::new();
        for client in self.clusters() {
            let here = self.world.pods(client, self.namespace, name).await?;
            pods.extend(here.into_iter().map(|pod| (client.clone(), pod)));
        }
        Ok(pods)
    }

    /// Waits until a workflow has so many pods.
    pub(super) async fn pod_count(&self, name: &str, count: usize) -> Result<()> {
        wait_for(&format!("{name} to have {count} pods"), || async {
            let pods = self.pods(name).await?;
            Ok(if pods.len() == count { Ok(()) } else { Err(format!("it has {}", pods.len())) })
        })
        .await
    }

    /// Lets the pods of a workflow that run end now.
    pub(super) async fn finish(&self, name: &str) -> Result<()> {
        for client in self.clusters() {
            self.world.finish(client, self.namespace, name).await?;
        }
        Ok(())
    }

    /// Waits until a workflow, its copy and its pods are gone.
    pub(super) async fn gone(&self, name: &str) -> Result<()> {
        self.world.presence(&self.world.originals(self.namespace), name, false).await?;
        for run in self.runs() {
            self.world.presence(&run, name, false).await?;
        }
        self.pod_count(name, 0).await
    }
}

/// The phase of a node; empty: there is none yet.
pub(super) fn phase_of(object: &DynamicObject, node: &str) -> String {
    let found = node_of(object, node);
    found.and_then(|node| node["phase"].as_str()).unwrap_or_default().to_owned()
}

/// A node by the name that it is shown with; a workflow of one pod is that pod.
pub(super) fn node_of<'a>(object: &'a DynamicObject, node: &str) -> Option<&'a Value> {
    let nodes = object.data["status"]["nodes"].as_object();
    let name = object.name_any();
    let shown = if node == ITSELF { &name } else { node };
    nodes.into_iter().flat_map(|nodes| nodes.values()).find(|one| one["displayName"] == shown)
}

/// The node of a workflow that is one pod.
pub(super) const ITSELF: &str = "";
