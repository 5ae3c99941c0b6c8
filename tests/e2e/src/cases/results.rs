//! What workflows leave behind, artifacts and logs, and how argo-server in the control cluster shows it. All clusters share
//! a place for them.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use testbed::argo::browser::{Answer, Browser, artifact_path};
use testbed::artifacts;

use super::{Case, case};
use crate::world::{World, nodes, uid, wait_for, workflows};

/// Where containers run.
pub(super) fn cases() -> Vec<Case> {
    vec![
        case!("an artifact is read by the next step there, and served here", stored),
        case!("an artifact of 50 MB arrives whole", large),
        case!("logs are archived where the rule says so, and served when the pods are gone", logs),
        case!("argo-server answers its UI about a routed workflow as about a local one", shown),
    ]
}

/// Where there is an archive.
pub(super) fn archived() -> Vec<Case> {
    vec![case!("artifacts of a workflow that is in the archive alone are served here", from_the_archive)]
}

const ROUTED: &str = "results";
/// One whose rule has logs archived.
const LOGGED: &str = "results-logged";
/// One without a rule.
const LOCAL: &str = "results-local";

/// Makes the namespaces, which may store artifacts, and signs in.
async fn browser(world: &World) -> Result<Browser> {
    let rule = "name=cluster1";
    world.namespace(ROUTED, json!({"argosy.dev/clusters": rule})).await?;
    world.namespace(LOGGED, json!({"argosy.dev/clusters": rule, "argosy.dev/archive-logs": "true"})).await?;
    world.namespace(LOCAL, json!({})).await?;
    let all = [ROUTED, LOGGED, LOCAL];
    for namespace in all {
        artifacts::admit(&world.testbed, namespace).await?;
    }
    Browser::sign_in(&world.testbed, &all).await
}

/// A workflow of one step, `write`, which runs this script.
fn writing(name: &str, script: &str, outputs: Value) -> Value {
    json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": {"generateName": format!("{name}-")},
        "spec": {"entrypoint": "write", "templates": [{
            "name": "write", "outputs": outputs,
            "container": {"image": "busybox", "command": ["sh", "-c"], "args": [script]},
        }]},
    })
}

/// The body of an answer that must be one.
fn body(answer: Answer) -> Result<Vec<u8>> {
    ensure!(answer.status == 200, "argo-server answers {}: {}", answer.status, answer.text());
    Ok(answer.body)
}

async fn stored(world: World) -> Result<()> {
    let browser = browser(&world).await?;
    let script = "printf 'ahoy\\n\\000\\377' > /tmp/plain; printf ahoy > /tmp/packed";
    let outputs = json!({"artifacts": [
        {"name": "plain", "path": "/tmp/plain", "archive": {"none": {}}},
        {"name": "packed", "path": "/tmp/packed"},
    ]});
    let mut workflow = writing("stored", script, outputs);
    let from = |name: &str| json!({"name": name, "from": format!("{{{{steps.write.outputs.artifacts.{name}}}}}")});
    let templates = json!([
        {"name": "steps", "steps": [
            [{"name": "write", "template": "write"}],
            [{"name": "read", "template": "read", "arguments": {"artifacts": [from("plain"), from("packed")]}}],
        ]},
        workflow["spec"]["templates"][0].take(),
        {"name": "read",
         "inputs": {"artifacts": [{"name": "plain", "path": "/in/plain"}, {"name": "packed", "path": "/in/packed"}]},
         "container": {"image": "busybox", "command": ["sh", "-c"],
                       "args": ["test $(wc -c < /in/plain) = 7 && test $(cat /in/packed) = ahoy"]}},
    ]);
    workflow["spec"] = json!({"entrypoint": "steps", "templates": templates});
    let name = world.create(ROUTED, &workflow).await?;
    let original = world.phase(ROUTED, &name, "Succeeded").await?;
    for node in nodes(&original)?.values().filter(|node| node["type"] == "Pod") {
        ensure!(node["hostNodeName"] == "cluster1-node", "a step ran on {}", node["hostNodeName"]);
    }
    let plain = artifact_path(&original, "write", "plain")?;
    // By the path of the UI, by the older one that its users may have kept, and as what the next step got.
    let older = plain.replace("artifact-files/", "artifacts/").replace("/workflows/", "/").replace("/outputs/", "/");
    let got = artifact_path(&original, "read", "plain")?.replace("/outputs/", "/inputs/");
    for path in [&plain, &older, &got] {
        let bytes = body(browser.get(path).await?).with_context(|| path.clone())?;
        ensure!(bytes == b"ahoy\n\0\xff", "{path} is {bytes:?}");
    }
    let packed = body(browser.get(&artifact_path(&original, "write", "packed")?).await?)?;
    ensure!(packed.starts_with(&[0x1f, 0x8b]), "the other one is no archive: {packed:?}");
    Ok(())
}

async fn large(world: World) -> Result<()> {
    let browser = browser(&world).await?;
    let script = "dd if=/dev/urandom of=/tmp/large bs=1M count=50 && sha256sum /tmp/large | cut -c 1-64 > /tmp/sum";
    let outputs = json!({
        "parameters": [{"name": "sum", "valueFrom": {"path": "/tmp/sum"}}],
        "artifacts": [{"name": "large", "path": "/tmp/large", "archive": {"none": {}}}],
    });
    let name = world.create(ROUTED, &writing("large", script, outputs)).await?;
    let original = world.phase(ROUTED, &name, "Succeeded").await?;
    let node = nodes(&original)?.values().next().cloned().context("it has no node")?;
    let sum = node["outputs"]["parameters"][0]["value"].as_str().context("it has no sum")?.to_owned();
    let bytes = body(browser.get(&artifact_path(&original, &name, "large")?).await?)?;
    ensure!(bytes.len() == 50 << 20, "{} bytes arrived", bytes.len());
    let arrived: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    ensure!(arrived == sum, "what arrived is not what was written");
    Ok(())
}

async fn logs(world: World) -> Result<()> {
    let browser = browser(&world).await?;
    let mut workflow = writing("logs", "for word in one two three; do echo ahoy $word; done", json!({}));
    workflow["spec"]["podGC"] = json!({"strategy": "OnPodCompletion"});
    let name = world.create(LOGGED, &workflow).await?;
    let original = world.phase(LOGGED, &name, "Succeeded").await?;
    world.pods_gone(&world.wecs[0], LOGGED, &name).await?;
    let printed = body(browser.get(&artifact_path(&original, &name, "main-logs")?).await?)?;
    let printed = String::from_utf8_lossy(&printed).into_owned();
    ensure!(printed == "ahoy one\nahoy two\nahoy three\n", "its log is {printed:?}");
    // Argo's CLI knows the logs of pods only, of local ones as of these.
    let said = world.run("argo", &["logs", "-n", LOGGED, &name], "").await?;
    ensure!(said.is_empty(), "argo logs says {said:?}");

    let copy = workflows(&world.wecs[0], LOGGED).get(&name).await?;
    ensure!(copy.data["spec"]["archiveLogs"] == true, "the copy's spec is {}", copy.data["spec"]);
    // A user's own word goes before the rule's.
    workflow["spec"]["archiveLogs"] = false.into();
    let name = world.create(LOGGED, &workflow).await?;
    let original = world.phase(LOGGED, &name, "Succeeded").await?;
    let outputs = nodes(&original)?.values().map(|node| node["outputs"]["artifacts"].clone()).next();
    ensure!(outputs == Some(Value::Null), "its logs were archived: {outputs:?}");
    Ok(())
}

async fn from_the_archive(world: World) -> Result<()> {
    let browser = browser(&world).await?;
    let mut workflow = writing("archived", "", json!({}));
    // Nodes that are played store nothing.
    let key = "results/archived/file";
    artifacts::put(&world.testbed, key, b"ahoy\n")?;
    let outputs = json!({"artifacts": [{"name": "file", "s3": {"key": key}}]}).to_string();
    workflow["spec"]["templates"][0]["metadata"] = json!({"annotations": {"player.argosy.dev/outputs": outputs}});
    let name = world.create(ROUTED, &workflow).await?;
    let uid = wait_for(&format!("{name} to be archived"), || async {
        let original = world.originals(ROUTED).get(&name).await?;
        let state = original.labels().get("workflows.argoproj.io/workflow-archiving-status").cloned();
        Ok(if state.as_deref() == Some("Archived") { Ok(uid(&original)) } else { Err(format!("it is {state:?}")) })
    })
    .await?;
    world.run("kubectl", &["delete", "wf", "-n", ROUTED, &name], "").await?;
    world.presence(&world.originals(ROUTED), &name, false).await?;
    for path in [
        format!("artifact-files/{ROUTED}/archived-workflows/{uid}/{name}/outputs/file"),
        format!("artifacts-by-uid/{uid}/{name}/file"),
    ] {
        let bytes = body(browser.get(&path).await?).with_context(|| path.clone())?;
        ensure!(bytes == b"ahoy\n", "{path} is {bytes:?}");
    }
    Ok(())
}

/// Fields of a list and of its watch that the UI asks for.
const LISTED: &str = "metadata,items.metadata.uid,items.metadata.name,items.metadata.namespace,\
                      items.metadata.creationTimestamp,items.metadata.labels,items.metadata.annotations,\
                      items.status.phase,items.status.message,items.status.finishedAt,items.status.startedAt,\
                      items.status.estimatedDuration,items.status.progress,items.spec.suspend";

/// What only a routed workflow shows, or only a local one.
const OWN: [&str; 7] = [
    ".metadata.annotations.argosy.dev/",
    ".metadata.labels.kubestellar.io/cluster",
    // Written by the controller that makes the pods; without it, pods are named as all of Argo names them now.
    ".metadata.annotations.workflows.argoproj.io/pod-name-format",
    ".metadata.managedFields",
    ".metadata.finalizers",
    ".spec.suspend",
    // What the cluster that it ran in has collected, or will.
    ".status.artifactGCStatus",
];

/// What argo-server says of a workflow, each answer by what was asked for.
async fn seen(world: &World, browser: &Browser, namespace: &str) -> Result<Vec<(&'static str, String)>> {
    let outputs = json!({"artifacts": [{"name": "file", "path": "/tmp/file", "archive": {"none": {}}}]});
    let mut workflow = writing("shown", "echo ahoy | tee /tmp/file", outputs);
    let name = format!("shown-{namespace}");
    workflow["metadata"] = json!({"name": name});
    workflow["spec"]["archiveLogs"] = true.into();
    let originals = world.originals(namespace);
    if originals.get_opt(&name).await?.is_some() {
        // Of an earlier run in a testbed that was kept.
        originals.delete(&name, &Default::default()).await?;
        world.presence(&originals, &name, false).await?;
    }
    let one = format!("listOptions.fieldSelector=metadata.namespace={namespace},metadata.name={name}");
    let watch = format!("api/v1/workflow-events/{namespace}?{one}");
    // argo-server lets nobody watch a workflow by name that is not there yet.
    world.create(namespace, &workflow).await?;
    let events = browser.events(&watch, |events| {
        let last = events.last().map(|event| &event["object"]);
        last.is_some_and(|last| last["metadata"]["labels"]["workflows.argoproj.io/completed"] == "true")
    });
    let events = events.await?;
    let original = world.phase(namespace, &name, "Succeeded").await?;
    let file = artifact_path(&original, &name, "file")?;
    let wrong = artifact_path(&original, &name, "nothing")?;
    let by_uid = |what: &str| {
        let id = uid(&original);
        format!("{what}/{id}/{name}/file")
    };
    let types: BTreeSet<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    let last = events.last().context("there was no event")?;
    let mut seen = vec![("watch", format!("{types:?}\n{}", shape(&last["object"])))];
    // As long as the pod is there, which has the name of a workflow of one step.
    let log = format!("api/v1/workflows/{namespace}/{name}/log?podName={name}&logOptions.container=main");
    let lines = browser
        .events(&format!("{log}&logOptions.follow=true"), |lines| lines.last().is_some_and(|l| l["content"] == "ahoy"))
        .await?;
    seen.push(("its log", shape(lines.last().context("it has no line")?)));
    let asked = [
        ("list", format!("api/v1/workflows/{namespace}?listOptions.limit=50&{one}&fields={LISTED}")),
        ("get", format!("api/v1/workflows/{namespace}/{name}")),
        ("an artifact", file),
        ("its archived log", artifact_path(&original, &name, "main-logs")?),
        ("an artifact that is not there", wrong),
        ("an artifact by UID", by_uid("artifacts-by-uid")),
        (
            "an artifact of the archive",
            format!("artifact-files/{namespace}/archived-workflows/{}/{name}/outputs/file", uid(&original)),
        ),
    ];
    for (what, path) in asked {
        let answer = browser.get(&path).await?;
        let text = answer.text();
        let shown = serde_json::from_str(&text).map_or(text, |json: Value| match json.get("items") {
            Some(items) => shape(&items[0]),
            None => shape(&json),
        });
        seen.push((what, format!("{} {}\n{shown}", answer.status, answer.content_type)));
    }
    for node in nodes(&original)?.values() {
        let expected = if namespace == LOCAL { "control-node" } else { "cluster1-node" };
        ensure!(node["hostNodeName"] == expected, "it ran on {}", node["hostNodeName"]);
    }
    Ok(seen)
}

/// All fields of an object, with the kinds of their values; nodes by the names that they are shown with.
fn shape(value: &Value) -> String {
    fn walk(at: &str, value: &Value, found: &mut BTreeSet<String>) {
        if OWN.iter().any(|own| at.starts_with(own)) {
            return;
        }
        let kind = match value {
            Value::Object(fields) => {
                for (key, value) in fields {
                    let key = if at.ends_with(".nodes") { "NODE" } else { key };
                    walk(&format!("{at}.{key}"), value, found);
                }
                if !fields.is_empty() { return } else { "{}" }
            }
            Value::Array(items) => {
                items.iter().for_each(|item| walk(&format!("{at}[]"), item, found));
                return;
            }
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Number(_) => "number",
            Value::String(_) => "string",
        };
        found.insert(format!("{at}:{kind}"));
    }
    let mut found = BTreeSet::new();
    walk("", value, &mut found);
    found.into_iter().collect::<Vec<_>>().join("\n")
}

async fn shown(world: World) -> Result<()> {
    let browser = browser(&world).await?;
    let (here, there) = tokio::try_join!(seen(&world, &browser, LOCAL), seen(&world, &browser, ROUTED))?;
    for ((what, here), (_, there)) in here.iter().zip(&there) {
        let lines = |text: &str| text.lines().map(ToOwned::to_owned).collect::<BTreeSet<_>>();
        let (one, other) = (lines(here), lines(there));
        ensure!(
            one == other,
            "{what}: only of a local one {:?}, only of a routed one {:?}",
            one.difference(&other).collect::<Vec<_>>(),
            other.difference(&one).collect::<Vec<_>>()
        );
    }
    Ok(())
}
