//! A cluster that nobody hears of for longer than the rule allows.

use anyhow::{Context, Result, ensure};
use argosy_api::{Delivery, names};
use kube::ResourceExt;
use serde_json::json;
use testbed::links::{self, Fault, to_wec};

use crate::cases::{Case, case};
use crate::world::{World, phase_in, sleeping, uid, wait_for, workflows};

pub fn cases() -> Vec<Case> {
    vec![case!("only what is rerunnable leaves a lost cluster, and the run that it had there never counts", lost)]
}

const NAMESPACE: &str = "lost";

async fn lost(world: World) -> Result<()> {
    let rule = json!({
        "argosy.dev/clusters": "env=testbed", "argosy.dev/strategy": "Ordered",
        "argosy.dev/lost-cluster": "Reschedule", "argosy.dev/lost-after": "3s",
    });
    world.namespace(NAMESPACE, rule).await?;
    let mut rerunnable = sleeping("rerunnable", 600);
    rerunnable["metadata"]["annotations"] = json!({names::RERUNNABLE: "true"});
    let mut running = Vec::new();
    for workflow in [rerunnable, sleeping("once", 600)] {
        let name = world.create(NAMESPACE, &workflow).await?;
        world.node(NAMESPACE, &name, &name, "Running").await?;
        ensure!(cluster(&world, &name).await? == "cluster1", "{name} is not in the first cluster");
        running.push(name);
    }
    let [moved, stays] = &running[..] else { anyhow::bail!("two workflows") };
    let before = workflows(&world.wecs[0], NAMESPACE).get(stays).await?;
    let link = [to_wec("cluster1")];
    links::set(&world.testbed, &link, Fault::Cut).await?;
    let meanwhile = meanwhile(&world, moved).await;
    links::set(&world.testbed, &link, Fault::None).await?;
    meanwhile?;

    world.presence(&workflows(&world.wecs[0], NAMESPACE), moved, false).await.context("the run that was lost")?;
    world.pods_gone(&world.wecs[0], NAMESPACE, moved).await?;
    let phase = world.originals(NAMESPACE).get(moved).await?.data["status"]["phase"].take();
    ensure!(phase == "Running", "what ended in the lost cluster counted: {phase}");
    let number = &cluster(&world, moved).await?["cluster".len()..];
    let wec = &world.wecs[number.parse::<usize>()? - 1];
    let copy = workflows(wec, NAMESPACE).get(moved).await?;
    ensure!(copy.annotations().get(names::ATTEMPT).is_some_and(|attempt| attempt == "2"), "it is no second attempt");
    world.finish(wec, NAMESPACE, moved).await?;
    world.phase(NAMESPACE, moved, "Succeeded").await?;

    ensure!(cluster(&world, stays).await? == "cluster1", "{stays} was moved");
    world.finish(&world.wecs[0], NAMESPACE, stays).await?;
    world.phase(NAMESPACE, stays, "Succeeded").await?;
    let after = workflows(&world.wecs[0], NAMESPACE).get(stays).await?;
    ensure!(uid(&before) == uid(&after), "{stays} was delivered twice");
    Ok(())
}

async fn meanwhile(world: &World, moved: &str) -> Result<()> {
    wait_for("another cluster to run it", || async {
        let now = cluster(world, moved).await?;
        Ok(if !["", "cluster1"].contains(&now.as_str()) { Ok(()) } else { Err(format!("it is in {now:?}")) })
    })
    .await?;
    world.node(NAMESPACE, moved, moved, "Running").await?;
    let original = world.originals(NAMESPACE).get(moved).await?;
    let delivery = original.annotations().get(names::DELIVERY).context("it was not delivered")?;
    let why = serde_json::from_str::<Delivery>(delivery)?.moved.unwrap_or_default();
    ensure!(why.starts_with("cluster cluster1 has not answered for "), "it was moved because {why:?}");
    // The run that nobody hears of goes on, and ends.
    world.finish(&world.wecs[0], NAMESPACE, moved).await?;
    phase_in(&workflows(&world.wecs[0], NAMESPACE), moved, "Succeeded").await.context("the lost run").map(drop)
}

async fn cluster(world: &World, name: &str) -> Result<String> {
    Ok(world.originals(NAMESPACE).get(name).await?.labels().get(names::CLUSTER).cloned().unwrap_or_default())
}
