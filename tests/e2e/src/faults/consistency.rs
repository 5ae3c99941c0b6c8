//! Writers on both sides at once, while things fail: what they wrote arrives, in order.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use futures::future::{join_all, try_join_all};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::core::DynamicObject;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use serde_json::json;
use testbed::links::{self, Fault};
use tokio::time::{Instant, sleep, timeout};

use super::syncers::{all_links, shared_by, trouble, with_three};
use crate::cases::{Case, case};
use crate::dice::Dice;
use crate::verbs::shapes::gated;
use crate::world::{World, nodes, sleeping, uid, wait_for, workflows};

pub fn cases() -> Vec<Case> {
    vec![case!(
        "what is written on both sides while things fail arrives there, in order, and nothing comes back",
        writers
    )]
}

const NAMESPACE: &str = "consistency";
/// How long they write, and how often at most.
const LONG: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(400);
/// How many workflows are written to.
const COUNT: usize = 4;
/// What no other writer writes: a number in a copy's status, and one in the message of the original's gate.
const BELOW: &str = "estimatedDuration";
const GATE: [&str; 2] = ["--node-field-selector", "displayName=gate"];

async fn writers(world: World) -> Result<()> {
    let dice = Dice::new()?;
    let seed = dice.seed;
    world.namespace(NAMESPACE, json!({"argosy.dev/clusters": "env=testbed", "argosy.dev/strategy": "Spread"})).await?;
    let tried = with_three(&world, async {
        shared_by(&world, 3).await?;
        let mut names = Vec::new();
        for _ in 0..COUNT {
            let name = world.create(NAMESPACE, &gated()).await?;
            world.node(NAMESPACE, &name, "gate", "Running").await?;
            names.push(name);
        }
        let written = tokio::select! {
            written = write(&world, &names) => written,
            ended = trouble(world.testbed.clone(), dice) => Err(ended.err().context("the trouble ended")?),
        };
        links::set(&world.testbed, &all_links(&world.testbed), Fault::None).await?;
        for (name, last) in names.iter().zip(written?) {
            arrived(&world, name, last).await?;
        }
        Ok(())
    })
    .await;
    let deleted = world.run("argo", &["delete", "-n", NAMESPACE, "--all"], "").await;
    tried.with_context(|| format!("with E2E_SEED={seed}"))?;
    deleted.map(drop)
}

/// The last numbers that were written to one workflow, on the copy and on the original.
#[derive(Clone, Copy, Debug)]
struct Last {
    below: u64,
    above: u64,
}

async fn write(world: &World, names: &[String]) -> Result<Vec<Last>> {
    let one = |name: String| async move {
        let copies = copies_of(world, &name).await?;
        let (here, there) = (world.originals(NAMESPACE), copies.clone());
        let until = Instant::now() + LONG;
        let (below, above, (), ()) = tokio::try_join!(
            write_below(&copies, &name, until),
            write_above(world, &name, until),
            in_order(here, &name, until, |object| object.data["status"][BELOW].as_u64()),
            in_order(there, &name, until, told),
        )?;
        anyhow::Ok(Last { below, above })
    };
    let (written, ()) =
        tokio::try_join!(try_join_all(names.iter().cloned().map(one)), come_and_go(world, Instant::now() + LONG))?;
    Ok(written)
}

/// The workflows of the cluster that one runs in.
async fn copies_of(world: &World, name: &str) -> Result<Api<DynamicObject>> {
    for wec in &world.wecs {
        let api = workflows(wec, NAMESPACE);
        if api.get_opt(name).await?.is_some() {
            return Ok(api);
        }
    }
    anyhow::bail!("{name} has no copy")
}

/// Counts up in the copy's status.
async fn write_below(copies: &Api<DynamicObject>, name: &str, until: Instant) -> Result<u64> {
    let mut last = 0;
    while Instant::now() < until {
        let patch = Patch::Merge(json!({"status": {BELOW: last + 1}}));
        copies.patch(name, &PatchParams::default(), &patch).await?;
        last += 1;
        sleep(PAUSE).await;
    }
    Ok(last)
}

/// Counts up in the message of the original's gate; what is refused was not written.
async fn write_above(world: &World, name: &str, until: Instant) -> Result<u64> {
    let (mut last, mut next) = (0, 1_u64);
    while Instant::now() < until {
        let number = next.to_string();
        let args = [&["node", "set", name, "-n", NAMESPACE, "--message", &number], &GATE[..]].concat();
        if world.run("argo", &args, "").await.is_ok() {
            last = next;
        }
        next += 1;
        sleep(PAUSE).await;
    }
    ensure!(last > 0, "each message was refused");
    Ok(last)
}

/// The number in the message of its gate.
fn told(object: &DynamicObject) -> Option<u64> {
    let nodes = nodes(object).ok()?;
    let gate = nodes.values().find(|node| node["displayName"] == "gate")?;
    gate["message"].as_str()?.parse().ok()
}

/// Watches a number in one object, which never becomes smaller.
async fn in_order(
    api: Api<DynamicObject>,
    name: &str,
    until: Instant,
    number: impl Fn(&DynamicObject) -> Option<u64>,
) -> Result<()> {
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut events = std::pin::pin!(watcher::watcher(api, config).default_backoff());
    let mut largest = 0;
    while let Ok(Some(event)) = timeout(until.saturating_duration_since(Instant::now()), events.next()).await {
        let (Ok(Event::Apply(object)) | Ok(Event::InitApply(object))) = event else { continue };
        let now = number(&object).unwrap_or_default();
        ensure!(now >= largest, "{name} showed {largest}, and then {now}");
        largest = now;
    }
    Ok(())
}

/// Creates and deletes a workflow of one name, over and over; nothing of any stays.
async fn come_and_go(world: &World, until: Instant) -> Result<()> {
    let mut workflow = sleeping("again", 600);
    workflow["metadata"] = json!({"name": "again"});
    let originals = world.originals(NAMESPACE);
    let mut created = 0;
    while Instant::now() < until {
        if world.create(NAMESPACE, &workflow).await.is_ok() {
            created += 1;
            sleep(PAUSE).await;
            originals.delete("again", &DeleteParams::background()).await?;
        }
        sleep(PAUSE).await;
    }
    ensure!(created > 0, "each creation was refused");
    Ok(())
}

/// Both last values are on both sides, and what came and went is gone.
async fn arrived(world: &World, name: &str, last: Last) -> Result<()> {
    let copies = copies_of(world, name).await?;
    wait_for(&format!("{last:?} to be on both sides of {name}"), || async {
        let (original, copy) = (world.originals(NAMESPACE).get(name).await?, copies.get(name).await?);
        let seen = [&original, &copy].map(|object| (object.data["status"][BELOW].as_u64(), told(object)));
        let is_so = seen.iter().all(|seen| *seen == (Some(last.below), Some(last.above)));
        Ok(if is_so { Ok(()) } else { Err(format!("original and copy: {seen:?}")) })
    })
    .await?;
    wait_for("nothing to be left of what came and went", || async {
        let left = join_all(world.wecs.iter().map(|wec| async {
            let copy = workflows(wec, NAMESPACE).get_opt("again").await?;
            let pods = world.pods(wec, NAMESPACE, "again").await?.len();
            anyhow::Ok((copy.as_ref().map(uid), pods))
        }))
        .await;
        let left = left.into_iter().collect::<Result<Vec<_>>>()?;
        Ok(if left.iter().all(|left| *left == (None, 0)) { Ok(()) } else { Err(format!("{left:?}")) })
    })
    .await
}
