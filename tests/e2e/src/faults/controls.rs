//! Two control clusters: sharing a workload cluster, or one in the place of the other.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use argosy_api::{WorkloadCluster, names};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use testbed::further::SECOND;
use testbed::{Cluster, argosy, further, process};

use crate::cases::{Case, case};
use crate::world::{World, labelled, namespace_in, phase_in, sleeping, uid, wait_for, workflows};

pub fn cases() -> Vec<Case> {
    vec![
        case!("two control clusters share a workload cluster, and neither touches what is the other's", shared),
        case!("a control cluster that was rebuilt leaves alone what ran, until it is adopted and goes on", rebuilt),
    ]
}

/// The workload cluster of both, and what both call it.
const WEC: &str = "cluster2";
const NAME: &str = "seine";
/// Namespace of the first one's account there; that of the second is called as Argosy's own in it.
const FIRST_ACCOUNT: &str = "argosy-first";

/// The second control cluster.
fn second(world: &World) -> Result<&Cluster> {
    world.testbed.cluster("cluster3")
}

/// A workflow of this very name, in [`WEC`], which no other case calls [`NAME`].
fn named(name: &str) -> Value {
    let mut workflow = labelled(sleeping(name, 600), json!({names::CLUSTER: NAME}));
    workflow["metadata"] = json!({"name": name, "labels": workflow["metadata"]["labels"]});
    workflow
}

async fn create(world: &World, cluster: &Cluster, namespace: &str, name: &str) -> Result<()> {
    let args = ["create", "-n", namespace, "-f", "-"];
    world.run_in(cluster, "kubectl", &args, &named(name).to_string()).await.map(drop)
}

/// Runs `kubectl argosy VERB NAME` about [`WEC`] in one of the control clusters.
async fn about(world: &World, control: &Cluster, verb: &str, more: &str) -> Result<String> {
    world.plugin(control, world.testbed.cluster(WEC)?, &format!("{verb} {NAME} {more}")).await
}

/// Runs with a second control cluster. [`WEC`] has joined both.
async fn with_second<T>(world: &World, id: Option<&str>, run: impl Future<Output = Result<T>>) -> Result<T> {
    let second = second(world)?;
    let ran = async {
        further::start_second(&world.testbed, second, id).await?;
        let args = format!("--namespace {SECOND} --member-namespace {SECOND} --namespaces * --create-namespaces");
        about(world, second, "join", &args).await?;
        run.await
    }
    .await;
    further::stop_second(&world.testbed, second).await?;
    ran
}

/// Lets [`WEC`] join the first control cluster while this runs.
async fn joined<T>(world: &World, run: impl Future<Output = Result<T>>) -> Result<T> {
    let first = world.testbed.control();
    let account = format!("--member-namespace {FIRST_ACCOUNT}");
    about(world, first, "join", &format!("{account} --namespaces * --create-namespaces")).await?;
    let ran = run.await;
    let left = about(world, first, "leave", &format!("{account} --force")).await;
    let ran = ran?;
    left.map(|_| ran)
}

async fn shared(world: World) -> Result<()> {
    joined(&world, share(&world)).await
}

async fn share(world: &World) -> Result<()> {
    const NAMESPACE: &str = "two-controls";
    let second = second(world)?;
    let (wec, theirs) = (&world.wecs[1], workflows(&second.client().await?, NAMESPACE));
    world.namespace(NAMESPACE, json!({})).await?;
    with_second(world, None, async {
        namespace_in(&second.client().await?, NAMESPACE, json!({})).await?;
        create(world, world.testbed.control(), NAMESPACE, "first").await?;
        world.node(NAMESPACE, "first", "first", "Running").await?;
        create(world, second, NAMESPACE, "second").await?;
        phase_in(&theirs, "second", "Running").await?;
        let copies = uids(world, NAMESPACE, &["first", "second"]).await?;

        // Each asks for a name that the other one has.
        create(world, second, NAMESPACE, "first").await?;
        create(world, world.testbed.control(), NAMESPACE, "second").await?;
        for taken in [phase_in(&theirs, "first", "Error").await?, world.phase(NAMESPACE, "second", "Error").await?] {
            let message = taken.data["status"]["message"].as_str().unwrap_or_default();
            ensure!(message.contains("that is not from here; it was left alone"), "it says {message:?}");
        }
        // And lets go of it again.
        theirs.delete("first", &Default::default()).await?;
        world.originals(NAMESPACE).delete("second", &Default::default()).await?;
        world.presence(&theirs, "first", false).await?;
        for name in ["first", "second"] {
            world.finish(wec, NAMESPACE, name).await?;
        }
        world.phase(NAMESPACE, "first", "Succeeded").await?;
        phase_in(&theirs, "second", "Succeeded").await?;
        ensure!(uids(world, NAMESPACE, &["first", "second"]).await? == copies, "they are other ones");
        theirs.delete("second", &Default::default()).await?;
        world.presence(&workflows(wec, NAMESPACE), "second", false).await?;
        ensure!(uids(world, NAMESPACE, &["first"]).await?["first"] == copies["first"], "the other one's went, too");
        world.originals(NAMESPACE).delete("first", &Default::default()).await?;
        world.presence(&workflows(wec, NAMESPACE), "first", false).await?;
        about(world, second, "leave", &format!("--namespace {SECOND} --member-namespace {SECOND}")).await.map(drop)
    })
    .await
}

async fn uids(world: &World, namespace: &str, names: &[&str]) -> Result<BTreeMap<String, String>> {
    let mut uids = BTreeMap::new();
    for name in names {
        let copy = workflows(&world.wecs[1], namespace).get(name).await?;
        uids.insert((*name).to_owned(), uid(&copy));
    }
    Ok(uids)
}

async fn rebuilt(world: World) -> Result<()> {
    joined(&world, rebuild(&world)).await
}

async fn rebuild(world: &World) -> Result<()> {
    const NAMESPACE: &str = "rebuilt";
    const NAMES: [&str; 3] = ["ends-meanwhile", "ends-later", "is-stopped"];
    let second = second(world)?;
    let (wec, theirs) = (&world.wecs[1], workflows(&second.client().await?, NAMESPACE));
    world.namespace(NAMESPACE, json!({})).await?;
    for name in NAMES {
        create(world, world.testbed.control(), NAMESPACE, name).await?;
        world.node(NAMESPACE, name, name, "Running").await?;
    }
    let copies = uids(world, NAMESPACE, &NAMES).await?;
    let id = Api::<Namespace>::all(world.control.clone()).get("kube-system").await?.uid().unwrap_or_default();
    ensure!(process::stop(&world.testbed.layout, "control", argosy::SYNCER), "the syncer did not run");
    let went_on = with_second(world, Some(&id), async {
        namespace_in(&second.client().await?, NAMESPACE, json!({})).await?;
        let clusters: Api<WorkloadCluster> = Api::all(second.client().await?);
        let adopted = async || {
            let status = clusters.get(NAME).await?.status.unwrap_or_default();
            anyhow::Ok(status.condition("Adopted").map(|condition| condition.message.clone()))
        };
        wait_for("the second control cluster to say what it has found", || async {
            let said = adopted().await?.unwrap_or_default();
            Ok(if said.starts_with("3 workflows there ") { Ok(()) } else { Err(said) })
        })
        .await?;
        world.finish(wec, NAMESPACE, NAMES[0]).await?;
        phase_in(&workflows(wec, NAMESPACE), NAMES[0], "Succeeded").await?;

        let id = format!("--control-id {id}");
        let said = about(world, second, "adopt", &id).await?;
        ensure!(said.ends_with("adopted 3, left alone 0"), "it said {said:?}");
        phase_in(&theirs, NAMES[0], "Succeeded").await?;
        for name in &NAMES[1..] {
            phase_in(&theirs, name, "Running").await?;
        }
        ensure!(uids(world, NAMESPACE, &NAMES).await? == copies, "they began anew");
        world.finish(wec, NAMESPACE, NAMES[1]).await?;
        phase_in(&theirs, NAMES[1], "Succeeded").await?;
        world.run_in(second, "argo", &["stop", "-n", NAMESPACE, NAMES[2]], "").await?;
        phase_in(&theirs, NAMES[2], "Failed").await?;
        wait_for("nothing to be adopted any more", || async { Ok(adopted().await?.map_or(Ok(()), Err)) }).await?;
        for name in NAMES {
            theirs.delete(name, &Default::default()).await?;
            world.presence(&workflows(wec, NAMESPACE), name, false).await?;
        }
        let said = about(world, second, "adopt", &id).await?;
        ensure!(said == "adopted 0, left alone 0", "it said {said:?}");
        Ok(())
    })
    .await;
    argosy::start(&world.testbed, argosy::SYNCER).await?;
    argosy::wait_until_ready(&world.testbed).await?;
    for name in NAMES {
        world.originals(NAMESPACE).delete(name, &Default::default()).await?;
    }
    went_on
}
