//! What cases have in common: a testbed with Argosy, and the few things that they do in it.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use argosy_api::kubeconfig::{Endpoint, compose};
use argosy_api::workload_cluster::{READY, SECRET_KEY, SECRET_SUFFIX};
use argosy_api::{WorkloadCluster, names, packed, workflow};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind, PartialObjectMeta};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::{Map, Value, json};
use testbed::layout::Nodes;
use testbed::{Cluster, Testbed, argosy, process};
use tokio::process::Command;

/// How long anything may take on a busy machine; every wait is for a condition.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// A testbed with Argosy, and clients of its clusters.
#[derive(Clone)]
pub struct World {
    pub testbed: Testbed,
    pub control: Client,
    /// `cluster1` and `cluster2`.
    pub wecs: Vec<Client>,
}

/// One of Argosy's two programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    Webhook,
    Syncer,
}

impl Program {
    /// Its name as a daemon and as a Deployment.
    pub fn name(self) -> &'static str {
        match self {
            Self::Webhook => argosy::WEBHOOK,
            Self::Syncer => argosy::SYNCER,
        }
    }
}

impl World {
    pub async fn of(testbed: Testbed) -> Result<Self> {
        let control = testbed.control().client().await?;
        let mut wecs = Vec::new();
        for wec in testbed.wecs() {
            wecs.push(wec.client().await?);
        }
        Ok(Self { testbed, control, wecs })
    }

    /// Makes a namespace of the control cluster with these annotations.
    pub async fn namespace(&self, name: &str, annotations: Value) -> Result<()> {
        namespace_in(&self.control, name, annotations).await
    }

    /// Runs kubectl (or another program of the testbed's with the same flags) against the control cluster; answers what
    /// it printed, or as an error what it said.
    pub async fn run(&self, program: &str, args: &[&str], input: &str) -> Result<String> {
        self.run_in(self.testbed.control(), program, args, input).await
    }

    /// The same against another cluster.
    pub async fn run_in(&self, cluster: &Cluster, program: &str, args: &[&str], input: &str) -> Result<String> {
        let mut command = self.program(program);
        command.args(args).arg("--kubeconfig").arg(&cluster.kubeconfig);
        output(command, input).await
    }

    /// Runs `kubectl argosy` in a control cluster, about a workload cluster.
    pub async fn plugin(&self, control: &Cluster, member: &Cluster, args: &str) -> Result<String> {
        let member = member.kubeconfig.display().to_string();
        let mut args: Vec<&str> = args.split_whitespace().collect();
        args.extend(["--member-kubeconfig", &member]);
        self.run_in(control, "kubectl-argosy", &args, "").await
    }

    /// The kubeconfig by which the control cluster reaches a workload cluster that has joined.
    pub async fn way_to(&self, cluster: &str) -> Result<String> {
        let secrets: Api<Secret> = Api::namespaced(self.control.clone(), argosy::NAMESPACE);
        let secret = secrets.get(&format!("{cluster}{SECRET_SUFFIX}")).await?;
        let bytes = secret.data.and_then(|mut data| data.remove(SECRET_KEY)).context("the Secret has no kubeconfig")?;
        Ok(String::from_utf8(bytes.0)?)
    }

    /// One of the testbed's programs, to be run with [`output`].
    pub fn program(&self, name: &str) -> Command {
        Command::new(self.testbed.layout.bin().join(name))
    }

    /// Creates a workflow with `kubectl create`; answers its name.
    pub async fn create(&self, namespace: &str, workflow: &Value) -> Result<String> {
        let args = ["create", "-n", namespace, "-o", "name", "-f", "-"];
        let said = self.run("kubectl", &args, &workflow.to_string()).await?;
        Ok(said.rsplit('/').next().unwrap_or(&said).to_owned())
    }

    /// What the API server says when it refuses to create a workflow.
    pub async fn refusal(&self, namespace: &str, workflow: &Value) -> Result<String> {
        match self.create(namespace, workflow).await {
            Ok(name) => bail!("{namespace}/{name} was created"),
            Err(error) => Ok(error.to_string()),
        }
    }

    pub fn originals(&self, namespace: &str) -> Api<DynamicObject> {
        workflows(&self.control, namespace)
    }

    /// Waits until the original shows this phase and answers it.
    pub async fn phase(&self, namespace: &str, name: &str, phase: &str) -> Result<DynamicObject> {
        phase_in(&self.originals(namespace), name, phase).await
    }

    /// Waits until a node of an original, by the name that it is shown with, is in this phase.
    pub async fn node(&self, namespace: &str, name: &str, node: &str, phase: &str) -> Result<()> {
        wait_for(&format!("node {node} of {namespace}/{name} to be {phase}"), || async {
            let nodes = nodes(&self.originals(namespace).get(name).await?)?;
            let found = nodes.values().find(|one| one["displayName"] == node).map(|node| node["phase"].clone());
            Ok(if found.as_ref().is_some_and(|found| found == phase) {
                Ok(())
            } else {
                Err(format!("it is {found:?}"))
            })
        })
        .await
    }

    /// Waits until an object is there (or, with `false`, is not).
    pub async fn presence<K>(&self, api: &Api<K>, name: &str, present: bool) -> Result<()>
    where
        K: Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug,
    {
        wait_for(&format!("{name} to be {}", if present { "there" } else { "gone" }), || async {
            let is_there = api.get_opt(name).await?.is_some();
            Ok(if is_there == present { Ok(()) } else { Err("not yet".to_owned()) })
        })
        .await
    }

    /// Waits until a WorkloadCluster is ready, or is not for this reason; answers what it says then.
    pub async fn ready(&self, cluster: &str, reason: Option<&str>) -> Result<String> {
        let clusters: Api<WorkloadCluster> = Api::all(self.control.clone());
        wait_for(&format!("{cluster} to be {}", reason.unwrap_or("ready")), || async {
            let status = clusters.get(cluster).await?.status.unwrap_or_default();
            let Some(ready) = status.condition(READY) else { return Ok(Err("no condition".to_owned())) };
            let is_so = match reason {
                None => ready.status == "True",
                Some(reason) => ready.status == "False" && ready.reason == reason,
            };
            Ok(if is_so { Ok(ready.message.clone()) } else { Err(format!("{}: {}", ready.reason, ready.message)) })
        })
        .await
    }

    /// Ends one of Argosy's programs as a machine that fails would, at once; it stays down.
    pub async fn down(&self, program: Program) -> Result<()> {
        match self.testbed.state.nodes {
            Nodes::Played => {
                ensure!(process::stop(&self.testbed.layout, "control", program.name()), "it did not run");
                Ok(())
            }
            Nodes::Real => self.scale(program, 0).await,
        }
    }

    /// Starts it again and waits until it is ready.
    pub async fn up(&self, program: Program) -> Result<()> {
        match self.testbed.state.nodes {
            Nodes::Played => argosy::start(&self.testbed, program.name()).await?,
            Nodes::Real => self.scale(program, 1).await?,
        }
        argosy::wait_until_ready(&self.testbed).await
    }

    /// What a process of a played testbed says on its port for health and metrics.
    pub async fn ask(&self, daemon: &str, path: &str) -> Result<String> {
        let server = argosy::admin_url(&self.testbed, daemon)?;
        let kubeconfig = compose("e2e", &Endpoint { server, ca_data: None, tls_server_name: None }, "");
        let client = testbed::cluster::client(serde_json::from_value(kubeconfig)?).await?;
        Ok(client.request_text(http::Request::get(path).body(Vec::new())?).await?)
    }

    async fn scale(&self, program: Program, replicas: i32) -> Result<()> {
        let deployments: Api<Deployment> = Api::namespaced(self.control.clone(), argosy::NAMESPACE);
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        deployments.patch(program.name(), &PatchParams::default(), &patch).await?;
        let pods: Api<Pod> = Api::namespaced(self.control.clone(), argosy::NAMESPACE);
        let component = program.name().trim_start_matches("argosy-");
        let selector = ListParams::default().labels(&format!("app.kubernetes.io/component={component}"));
        wait_for(&format!("{replicas} pods of {}", program.name()), || async {
            let ready = pods.list(&selector).await?.items.iter().filter(|pod| is_ready(pod)).count();
            let all = pods.list(&selector).await?.items.len();
            let wanted = usize::try_from(replicas).unwrap_or_default();
            let fine = ready == wanted && (wanted > 0 || all == 0);
            Ok(if fine { Ok(()) } else { Err(format!("{ready} ready of {all}")) })
        })
        .await
    }

    /// Pods of a workflow in a cluster; shadows of those in others are none.
    pub async fn pods(&self, client: &Client, namespace: &str, workflow: &str) -> Result<Vec<Pod>> {
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let selector = format!("{}={workflow},!{}", names::ARGO_WORKFLOW, names::SHADOW);
        Ok(pods.list(&ListParams::default().labels(&selector)).await?.items)
    }

    /// Lets the pods of a workflow that run in a played cluster end now.
    pub async fn finish(&self, client: &Client, namespace: &str, workflow: &str) -> Result<()> {
        let now = Patch::Merge(json!({"metadata": {"annotations": {"player.argosy.dev/duration": "0s"}}}));
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        for pod in self.pods(client, namespace, workflow).await? {
            pods.patch(&pod.name_any(), &PatchParams::default(), &now).await?;
        }
        Ok(())
    }

    /// Waits until a workflow has no pods in a cluster.
    pub async fn pods_gone(&self, client: &Client, namespace: &str, workflow: &str) -> Result<()> {
        wait_for(&format!("the pods of {workflow} to go"), || async {
            let pods = self.pods(client, namespace, workflow).await?;
            Ok(if pods.is_empty() { Ok(()) } else { Err(format!("{} are there", pods.len())) })
        })
        .await
    }

    /// Creates an object as the administrator, beside Argosy.
    pub async fn put_beside(&self, client: &Client, namespace: &str, object: Value) -> Result<DynamicObject> {
        let object: DynamicObject = serde_json::from_value(object)?;
        Ok(workflows(client, namespace).create(&PostParams::default(), &object).await?)
    }
}

/// Runs a command; answers what it printed, or as an error what it said.
pub async fn output(mut command: Command, input: &str) -> Result<String> {
    use tokio::io::AsyncWriteExt;
    let pipe = std::process::Stdio::piped;
    let mut child = command.stdin(pipe()).stdout(pipe()).stderr(pipe()).kill_on_drop(true).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).await?;
    }
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.context("it did not end")??;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    ensure!(output.status.success(), "{}", text(&output.stderr));
    Ok(text(&output.stdout))
}

/// Makes a namespace with these annotations.
pub async fn namespace_in(client: &Client, name: &str, annotations: Value) -> Result<()> {
    let metadata = json!({"name": name, "annotations": annotations});
    put(client, "", json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})).await
}

/// Applies an object as the administrator; `namespace` is empty for one that has none.
pub async fn put(client: &Client, namespace: &str, object: Value) -> Result<()> {
    let object: DynamicObject = serde_json::from_value(object)?;
    let types = object.types.as_ref().context("an object without a kind")?;
    let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(types)?);
    let api: Api<DynamicObject> = match namespace {
        "" => Api::all_with(client.clone(), &resource),
        namespace => Api::namespaced_with(client.clone(), namespace, &resource),
    };
    api.patch(&object.name_any(), &PatchParams::apply("e2e").force(), &Patch::Apply(&object)).await?;
    Ok(())
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"))
}

/// Workflows of a namespace.
pub fn workflows(client: &Client, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &workflow::api_resource())
}

/// Waits until one of them shows this phase and answers it.
pub async fn phase_in(workflows: &Api<DynamicObject>, name: &str, phase: &str) -> Result<DynamicObject> {
    wait_for(&format!("{name} to be {phase}"), || async {
        let object = workflows.get(name).await?;
        let shown = object.data["status"]["phase"].as_str().unwrap_or("nothing").to_owned();
        if ["Succeeded", "Failed", "Error"].contains(&shown.as_str()) && shown != phase {
            return Ok(Err(format!("it ended {shown}: {}", object.data["status"]["message"])));
        }
        Ok(if shown == phase { Ok(object) } else { Err(format!("it is {shown}")) })
    })
    .await
}

/// The same, as far as their metadata.
pub fn metadata(client: &Client, namespace: &str) -> Api<PartialObjectMeta<workflow::Workflow<(), ()>>> {
    Api::namespaced(client.clone(), namespace)
}

/// A workflow of one step that takes this long, played or real.
pub fn sleeping(name: &str, seconds: u32) -> Value {
    json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow",
        "metadata": {"generateName": format!("{name}-")},
        "spec": {
            "entrypoint": "sleep",
            "templates": [{
                "name": "sleep",
                "metadata": {"annotations": {"player.argosy.dev/duration": format!("{seconds}s")}},
                "container": {"image": "busybox", "command": ["sleep"], "args": [seconds.to_string()]},
            }],
        },
    })
}

/// The same with labels.
pub fn labelled(mut workflow: Value, labels: Value) -> Value {
    workflow["metadata"]["labels"] = labels;
    workflow
}

/// Asks until the answer is good; says in the end what it was last.
pub async fn wait_for<T, F>(what: &str, mut ask: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<Result<T, String>>>,
{
    let start = tokio::time::Instant::now();
    loop {
        let last = match ask().await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(why)) => why,
            Err(error) => format!("{error:#}"),
        };
        ensure!(start.elapsed() < PATIENCE, "waited {} s for {what}: {last}", PATIENCE.as_secs());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The nodes of a workflow, in whichever form it carries them.
pub fn nodes(workflow: &DynamicObject) -> Result<Map<String, Value>> {
    let status = &workflow.data["status"];
    match status["compressedNodes"].as_str().filter(|packed| !packed.is_empty()) {
        Some(packed) => {
            let text = packed::unpack(packed).context("its nodes cannot be unpacked")?;
            Ok(serde_json::from_str(&text)?)
        }
        None => Ok(status["nodes"].as_object().cloned().unwrap_or_default()),
    }
}

/// The placement annotation of an original.
pub fn stamp(original: &DynamicObject) -> Result<Value> {
    let stamp = original.annotations().get("argosy.dev/placement").context("it has no stamp")?;
    Ok(serde_json::from_str(stamp)?)
}

/// The UID of an object that came from the API server.
pub fn uid(object: &DynamicObject) -> String {
    object.uid().unwrap_or_default()
}
