//! Logs of routed workflows at the one door, while their pods are there.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use argosy_api::names;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{ListParams, Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject, Request};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::{Value, json};
use testbed::argosy;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;

use super::steady::versions_until;
use super::{Case, case};
use crate::world::{World, labelled, output, sleeping, wait_for};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case!("kubectl logs and argo logs follow a pod of a routed workflow", follow),
        case!("the shadow of a pod shows its state, takes no commands, and goes with its workflow", shadow),
        case!("a shadow costs one write to come, and one for each state of its pod", writes),
        case!("the log of a pod that is no routed workflow's is nobody's here", strangers),
        case!("the syncer makes and deletes no pods and nodes but its own, and nobody else makes a shadow", held),
        case!("a quota that refuses a shadow costs the live log alone, and an Event says so", quota),
    ]
}

const NAMESPACE: &str = "default";

/// A workflow in `cluster1` that prints a line a second.
pub(crate) fn printing(name: &str, seconds: u32) -> Value {
    let mut workflow = labelled(sleeping(name, seconds), json!({names::CLUSTER: "cluster1"}));
    let print = format!("for i in $(seq 1 {seconds}); do echo main line $i; sleep 1; done");
    workflow["spec"]["templates"][0]["container"] =
        json!({"image": "busybox", "command": ["sh", "-c"], "args": [print]});
    workflow
}

/// A command that runs, line by line.
pub(crate) struct Lines {
    // Ends with this.
    _child: Child,
    lines: tokio::io::Lines<BufReader<tokio::process::ChildStdout>>,
}

impl Lines {
    pub(crate) fn of(world: &World, program: &str, args: &[&str]) -> Result<Self> {
        let mut command = world.program(program);
        command.args(args).arg("--kubeconfig").arg(&world.testbed.control().kubeconfig);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        Ok(Self { _child: child, lines })
    }

    /// The next one; `None`: it ended.
    pub(crate) async fn next(&mut self) -> Result<Option<String>> {
        let next = tokio::time::timeout(crate::world::PATIENCE, self.lines.next_line());
        Ok(next.await.context("nothing is printed")??)
    }
}

/// The shadow of a workflow's first pod, as soon as it is in a phase.
pub(crate) async fn shadow_of(world: &World, namespace: &str, workflow: &str, phase: &str) -> Result<Pod> {
    let pods: Api<Pod> = Api::namespaced(world.control.clone(), namespace);
    let selector = format!("{}={workflow},{}", names::ARGO_WORKFLOW, names::SHADOW);
    wait_for(&format!("a shadow of {workflow} to be {phase}"), || async {
        let found = pods.list(&ListParams::default().labels(&selector)).await?.items.into_iter().next();
        let now = found.as_ref().and_then(|pod| pod.status.as_ref()?.phase.clone());
        Ok(found.filter(|_| now.as_deref() == Some(phase)).ok_or(format!("it is {now:?}")))
    })
    .await
}

/// Whether a virtual node is ready, as its condition says; `None`: it says nothing.
pub(crate) async fn readiness(world: &World, cluster: &str) -> Result<Option<String>> {
    let nodes: Api<Node> = Api::all(world.control.clone());
    let status = nodes.get(&names::virtual_node(cluster)).await?.status;
    let ready = status.into_iter().flat_map(|status| status.conditions.unwrap_or_default());
    Ok(ready.into_iter().find(|condition| condition.type_ == "Ready").map(|ready| ready.status))
}

async fn follow(world: World) -> Result<()> {
    let name = world.create(NAMESPACE, &printing("prints", 8)).await?;
    let pod = shadow_of(&world, NAMESPACE, &name, "Running").await?.name_any();
    let mut by_argo = Lines::of(&world, "argo", &["logs", "-n", NAMESPACE, "-f", "--no-color", &name])?;
    let mut by_kubectl = Lines::of(&world, "kubectl", &["logs", "-n", NAMESPACE, "-f", "-c", "main", &pod])?;
    let first = by_kubectl.next().await?.context("no line")?;
    ensure!(first.ends_with("line 1"), "the first line is {first:?}");
    let status = world.originals(NAMESPACE).get(&name).await?.data["status"]["phase"].take();
    ensure!(status == "Running", "the first line came when it was {status}");
    let mut seen = vec![first];
    while let Some(line) = by_kubectl.next().await? {
        seen.push(line);
    }
    // On real nodes, Argo's executor has a word to say, too.
    seen.retain(|line| line.contains("main line"));
    ensure!(seen.len() >= 8 && seen.iter().zip(1..).all(|(line, n)| line.ends_with(&format!("line {n}"))), "{seen:?}");
    let mut by_argo_seen = Vec::new();
    while let Some(line) = by_argo.next().await? {
        by_argo_seen
            .extend(line.strip_prefix(&format!("{pod}: ")).filter(|line| line.contains("main line")).map(String::from));
    }
    ensure!(by_argo_seen == seen, "argo logs printed {by_argo_seen:?}, kubectl logs {seen:?}");
    // What has ended can be read again, in part, as there.
    world.phase(NAMESPACE, &name, "Succeeded").await?;
    for options in [&["--tail=3"][..], &["--timestamps"], &["--timestamps", "--tail=1"]] {
        let args = [&["logs", "-n", NAMESPACE, "-c", "main", &pod], options].concat();
        let here = world.run("kubectl", &args, "").await?;
        let there = world.run_in(world.testbed.cluster("cluster1")?, "kubectl", &args, "").await?;
        ensure!(here == there && !here.is_empty(), "{options:?}: {here:?}, not {there:?}");
    }
    Ok(())
}

async fn shadow(world: World) -> Result<()> {
    let name = world.create(NAMESPACE, &printing("shadowed", 600)).await?;
    let shadow = shadow_of(&world, NAMESPACE, &name, "Running").await?;
    let pods = world.pods(&world.wecs[0], NAMESPACE, &name).await?;
    let [pod] = &pods[..] else { anyhow::bail!("it has {} pods", pods.len()) };
    ensure!(pod.name_any() == shadow.name_any(), "it is called {}", shadow.name_any());
    let containers = |pod: &Pod| -> Option<Vec<_>> {
        let statuses = pod.status.as_ref()?.container_statuses.as_ref()?.iter();
        Some(statuses.map(|status| (status.name.clone(), status.ready, status.state.clone())).collect())
    };
    ensure!(containers(pod) == containers(&shadow), "{:?}, not {:?}", containers(&shadow), containers(pod));
    let ready = readiness(&world, "cluster1").await?;
    ensure!(ready.as_deref() == Some("True"), "its node: {ready:?}");
    let pod = shadow.name_any();
    let commands: [&[&str]; 3] = [
        &["exec", "-n", NAMESPACE, &pod, "-c", "main", "--", "true"],
        &["attach", "-n", NAMESPACE, &pod, "-c", "main"],
        &["port-forward", "-n", NAMESPACE, &pod, "0:80"],
    ];
    for command in commands {
        let mut kubectl = world.program("kubectl");
        kubectl.arg("--kubeconfig").arg(&world.testbed.control().kubeconfig).args(command);
        let refused = output(kubectl, "").await.err().context("it was let in")?;
        let refused = format!("{refused:#}");
        ensure!(refused.contains("runs in cluster cluster1"), "kubectl {}: {refused}", command[0]);
    }
    world.run("kubectl", &["delete", "wf", "-n", NAMESPACE, &name], "").await?;
    let shadows: Api<Pod> = Api::namespaced(world.control.clone(), NAMESPACE);
    world.presence(&shadows, &pod, false).await
}

async fn writes(world: World) -> Result<()> {
    // The pod of a workflow of one step has its name.
    let name = "counted".to_owned();
    let pods = ApiResource::erase::<Pod>(&());
    let versions = |client: &Client| {
        let pods = Api::namespaced_with(client.clone(), NAMESPACE, &pods);
        let is_last = |pod: &DynamicObject| pod.data["status"]["phase"] == "Succeeded";
        tokio::spawn(versions_until(pods, name.clone(), is_last))
    };
    let (shadows, pods) = (versions(&world.control), versions(&world.wecs[0]));
    let mut workflow = printing(&name, 3);
    workflow["metadata"]["name"] = name.clone().into();
    world.create(NAMESPACE, &workflow).await?;
    world.phase(NAMESPACE, &name, "Succeeded").await?;
    let state = |pod: &DynamicObject| {
        let status = &pod.data["status"];
        let states = status["containerStatuses"].as_array().into_iter().flatten();
        json!([status["phase"], status["message"], states.map(|status| &status["state"]).collect::<Vec<_>>()])
    };
    let (shadows, pods) = (shadows.await??, pods.await??);
    let mut states: Vec<Value> = pods.iter().map(state).collect();
    states.dedup();
    ensure!(shadows.len() <= 1 + states.len(), "{} writes to the shadow for {states:#?}", shadows.len());
    world.run("kubectl", &["delete", "wf", "-n", NAMESPACE, &name], "").await.map(drop)
}

async fn strangers(world: World) -> Result<()> {
    // In the same namespace of the cluster, and with a workflow's label; nobody here made it.
    let stranger = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "stranger-pod", "namespace": NAMESPACE, "labels": {names::ARGO_WORKFLOW: "stranger-pod"}},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "busybox", "command": ["sleep", "600"]}]},
    });
    let there = world.testbed.cluster("cluster1")?;
    world.run_in(there, "kubectl", &["apply", "-f", "-"], &stranger.to_string()).await?;
    let tried = async {
        let name = world.create(NAMESPACE, &printing("own", 600)).await?;
        // By now, that of the stranger would be there, too.
        shadow_of(&world, NAMESPACE, &name, "Running").await?;
        let pods: Api<Pod> = Api::namespaced(world.control.clone(), NAMESPACE);
        ensure!(pods.get_opt("stranger-pod").await?.is_none(), "it has a shadow");
        // Somebody puts a pod of its name where its log would be.
        let mut bait = stranger.clone();
        bait["spec"]["nodeName"] = names::virtual_node("cluster1").into();
        bait["spec"]["tolerations"] = json!([{"operator": "Exists"}]);
        world.run("kubectl", &["apply", "-f", "-"], &bait.to_string()).await?;
        let read = world.run("kubectl", &["logs", "-n", NAMESPACE, "stranger-pod"], "").await;
        let read = read.err().map(|error| format!("{error:#}")).unwrap_or_default();
        ensure!(read.contains("no pod of a routed workflow") || read.contains("not found"), "its log: {read:?}");
        world.presence(&pods, "stranger-pod", false).await.context("what nobody will run")?;
        world.run("kubectl", &["delete", "wf", "-n", NAMESPACE, &name], "").await.map(drop)
    }
    .await;
    world.run_in(there, "kubectl", &["delete", "pod", "-n", NAMESPACE, "stranger-pod", "--wait=false"], "").await?;
    tried
}

async fn held(world: World) -> Result<()> {
    let syncer = format!("system:serviceaccount:{}:{}", argosy::NAMESPACE, argosy::SYNCER);
    let pod = |node: &str, labels: Value| {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "tried", "namespace": NAMESPACE, "labels": labels},
            "spec": {"nodeName": node, "containers": [{"name": "main", "image": "busybox"}]},
        })
    };
    let node = |name: &str, labels: Value| json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}});
    let lease = |name: &str| json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name, "namespace": "kube-node-lease"}});
    let of = |cluster: &str| json!({names::SHADOW: cluster});
    let is = |cluster: &str| json!({names::NODE_CLUSTER: cluster});
    let table = [
        ("the syncer makes a shadow", Some(&syncer), pod("argosy-cluster1", of("cluster1")), None),
        (
            "the syncer makes a pod on another cluster's node",
            Some(&syncer),
            pod("argosy-x", of("cluster1")),
            Some("only shadows"),
        ),
        ("the syncer makes a pod that runs", Some(&syncer), pod("real", of("cluster1")), Some("only shadows")),
        ("the syncer makes a pod without a node", Some(&syncer), pod("", of("cluster1")), Some("only shadows")),
        (
            "the syncer makes a pod without a label",
            Some(&syncer),
            pod("argosy-cluster1", json!({})),
            Some("only shadows"),
        ),
        ("the syncer makes a virtual node", Some(&syncer), node("argosy-x", is("x")), None),
        ("the syncer makes a node", Some(&syncer), node("x", is("x")), Some("only virtual nodes")),
        (
            "the syncer makes a node without a label",
            Some(&syncer),
            node("argosy-x", json!({})),
            Some("only virtual nodes"),
        ),
        ("the syncer says that a virtual node is there", Some(&syncer), lease("argosy-x"), None),
        ("the syncer says that a node is there", Some(&syncer), lease("x"), Some("only the Leases of virtual nodes")),
        ("somebody makes a shadow", None, pod("argosy-cluster1", of("cluster1")), Some("only Argosy's syncer")),
        ("somebody makes a pod", None, pod("", json!({})), None),
    ];
    for (what, who, object, refused) in table {
        let mut args = vec!["create", "--dry-run=server", "-f", "-"];
        args.extend(who.iter().flat_map(|who| ["--as", who.as_str()]));
        let answer = world.run("kubectl", &args, &object.to_string()).await;
        match (answer, refused) {
            (Ok(_), None) => {}
            (Err(error), Some(why)) if format!("{error:#}").contains(why) => {}
            (answer, _) => anyhow::bail!("{what}: {answer:?}"),
        }
    }
    // What is there already.
    let name = world.create(NAMESPACE, &printing("held", 600)).await?;
    let shadow = shadow_of(&world, NAMESPACE, &name, "Running").await?.name_any();
    let own = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "held-own", "namespace": NAMESPACE},
        "spec": {"containers": [{"name": "main", "image": "busybox", "command": ["sleep", "600"]}]},
    });
    world.run("kubectl", &["apply", "-f", "-"], &own.to_string()).await?;
    let to_other = format!("{}=cluster2", names::SHADOW);
    let own_node =
        world.run("kubectl", &["get", "nodes", "-l", &format!("!{}", names::NODE_CLUSTER), "-o", "name"], "").await?;
    let own_node = own_node.lines().next().context("the control cluster has no node")?;
    let held = ["--type=merge", "-p", r#"{"metadata":{"finalizers":["example.com/mine"]}}"#];
    let commands: [(&[&str], &str); 5] = [
        (&[&["patch", "pod", &shadow], &held[..]].concat(), "only Argosy's syncer"),
        (&["delete", "pod", "held-own", "--as", &syncer], "deletes pods there alone"),
        (&["label", own_node, "seen=yes", "--as", &syncer], "only virtual nodes"),
        (&["label", "--overwrite", "pod", &shadow, &to_other], "only Argosy's syncer"),
        (&["label", "pod", "held-own", &to_other], "only Argosy's syncer"),
    ];
    for (command, why) in commands {
        let refused = world.run("kubectl", &[&["-n", NAMESPACE], command].concat(), "").await.err();
        let refused = refused.map(|error| format!("{error:#}")).unwrap_or_default();
        ensure!(refused.contains(why), "kubectl {command:?}: {refused:?}");
    }
    // kubectl would read it first, which the syncer may not.
    let failed = Patch::Merge(json!({"status": {"phase": "Failed"}}));
    let pods = Request::new(Pod::url_path(&(), Some(NAMESPACE)));
    let mut request = pods.patch_subresource("status", "held-own", &PatchParams::default(), &failed)?;
    request.headers_mut().insert("impersonate-user", syncer.parse()?);
    let refused = world.control.request_text(request).await.err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(refused.contains("only shadows"), "the syncer ends a pod: {refused:?}");
    world.run("kubectl", &["label", "-n", NAMESPACE, "pod", &shadow, "seen=yes"], "").await?;
    world.run("kubectl", &["delete", "-n", NAMESPACE, "pod", "held-own", "--wait=false"], "").await?;
    world.run("kubectl", &["delete", "wf", "-n", NAMESPACE, &name], "").await.map(drop)
}

async fn quota(world: World) -> Result<()> {
    const TIGHT: &str = "tight";
    world.namespace(TIGHT, json!({"argosy.dev/clusters": "name=cluster1"})).await?;
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none", "namespace": TIGHT},
        "spec": {"hard": {"pods": "0"}},
    });
    world.run("kubectl", &["apply", "-f", "-"], &quota.to_string()).await?;
    let is_counted = ["get", "resourcequota", "-n", TIGHT, "none", "-o", "jsonpath={.status.hard.pods}"];
    wait_for("the quota to be in force", || async {
        let hard = world.run("kubectl", &is_counted, "").await?;
        Ok(if hard.trim() == "0" { Ok(()) } else { Err(hard) })
    })
    .await?;
    let name = world.create(TIGHT, &sleeping("tight", 5)).await?;
    world.phase(TIGHT, &name, "Succeeded").await?;
    let events =
        ["get", "events", "-n", TIGHT, "--field-selector", "reason=NoLiveLogs", "-o", "jsonpath={.items[*].message}"];
    wait_for("an Event", || async {
        let said = world.run("kubectl", &events, "").await?;
        Ok(if said.contains("exceeded quota") { Ok(()) } else { Err(said) })
    })
    .await
}
