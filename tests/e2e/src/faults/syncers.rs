//! Several syncers: how they share the clusters, and what becomes of workflows while they are killed and links fail.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use argosy_api::names;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use serde_json::json;
use testbed::links::{self, Fault, to_control, to_webhook, to_wec};
use testbed::{Testbed, argosy, process};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::table;
use crate::cases::scale::crowd;
use crate::cases::{Case, case};
use crate::dice::Dice;
use crate::world::{World, sleeping, wait_for};

const NAMESPACE: &str = "syncers";
/// How soon another syncer is to serve the clusters of one that was killed.
const TAKEOVER: Duration = Duration::from_secs(15);
/// How often, in the soak, a syncer is killed and something fails.
const KILL: Duration = Duration::from_secs(10);
const FAIL: Duration = Duration::from_secs(7);
/// How long it fails at most.
const LONGEST: Duration = Duration::from_secs(5);

pub fn cases() -> Vec<Case> {
    vec![case!("three syncers share the clusters, and take over from one that is killed within 15 s", takeover)]
}

pub fn soaks() -> Vec<Case> {
    vec![case!(
        "1,000 workflows run once and end right while syncers are killed every 10 s and links fail every 7 s",
        soak
    )]
}

/// Runs with three syncers, and with one again afterwards.
pub(super) async fn with_three<T>(world: &World, run: impl Future<Output = Result<T>>) -> Result<T> {
    let syncers = argosy::replicas(argosy::SYNCER);
    for syncer in &syncers {
        argosy::start(&world.testbed, syncer).await?;
    }
    let ran = run.await;
    for syncer in &syncers[1..] {
        process::stop(&world.testbed.layout, "control", syncer);
    }
    argosy::start(&world.testbed, argosy::SYNCER).await?;
    argosy::wait_until_ready(&world.testbed).await?;
    ran
}

/// Who serves each cluster.
async fn holders(world: &World) -> Result<BTreeMap<String, String>> {
    let leases: Api<Lease> = Api::namespaced(world.control.clone(), argosy::NAMESPACE);
    let mut holders = BTreeMap::new();
    for wec in world.testbed.wecs() {
        let lease = leases.get(&names::lease(&wec.name)).await?;
        let holder = lease.spec.and_then(|spec| spec.holder_identity).unwrap_or_default();
        holders.insert(wec.name.clone(), holder);
    }
    Ok(holders)
}

pub(super) async fn shared_by(world: &World, count: usize) -> Result<BTreeMap<String, String>> {
    wait_for(&format!("{count} syncers to share the clusters"), || async {
        let holders = holders(world).await?;
        let mut different: Vec<&String> = holders.values().filter(|holder| !holder.is_empty()).collect();
        different.sort();
        different.dedup();
        let is_so = different.len() == count;
        Ok(if is_so { Ok(holders) } else { Err(format!("{holders:?}")) })
    })
    .await
}

async fn takeover(world: World) -> Result<()> {
    world.namespace(NAMESPACE, json!({"argosy.dev/clusters": "name=cluster1"})).await?;
    with_three(&world, async {
        let before = shared_by(&world, 3).await?;
        let name = world.create(NAMESPACE, &sleeping("taken-over", 600)).await?;
        world.node(NAMESPACE, &name, &name, "Running").await?;
        let killed = before["cluster1"].clone();
        let start = Instant::now();
        ensure!(process::kill_at_once(&world.testbed.layout, "control", &killed), "{killed} did not run");
        world.finish(&world.wecs[0], NAMESPACE, &name).await?;
        world.phase(NAMESPACE, &name, "Succeeded").await?;
        let took = start.elapsed();
        ensure!(holders(&world).await?["cluster1"] != killed, "nobody took over");
        ensure!(took < TAKEOVER, "it took {:.1} s", took.as_secs_f64());
        table::tell(format!(
            "A syncer of three was killed: another brought the end of a workflow back {:.1} s after that.",
            took.as_secs_f64()
        ));
        argosy::start(&world.testbed, &killed).await?;
        // Which cluster is whose follows from who is there.
        ensure!(shared_by(&world, 3).await? == before, "the clusters are shared otherwise than before");
        Ok(())
    })
    .await
}

async fn soak(world: World) -> Result<()> {
    let dice = Dice::new()?;
    let seed = dice.seed;
    eprintln!("e2e: faults in the order of E2E_SEED={seed}");
    let lived = with_three(&world, async {
        shared_by(&world, 3).await?;
        let lived = crowd::live(world.clone(), Some(Box::pin(trouble(world.testbed.clone(), dice)))).await;
        links::set(&world.testbed, &all_links(&world.testbed), Fault::None).await?;
        lived
    })
    .await
    .with_context(|| format!("with E2E_SEED={seed}"))?;
    table::tell(format!(
        "{} workflows of 20 shapes on three syncers, one killed every {} s in turn, some link failing every {} s: all ended \
         after {} s, each as its cluster shows it, each pod once; all were gone {} s after their deletion.",
        lived.size,
        KILL.as_secs(),
        FAIL.as_secs(),
        lived.ended,
        lived.gone
    ));
    Ok(())
}

pub(super) fn all_links(testbed: &Testbed) -> Vec<String> {
    let syncers = argosy::replicas(argosy::SYNCER);
    let wecs = testbed.wecs().iter().map(|wec| to_wec(&wec.name));
    let own = [to_control(argosy::WEBHOOK), to_webhook()];
    syncers.iter().map(|syncer| to_control(syncer)).chain(wecs).chain(own).collect()
}

/// Kills syncers in turn and makes links fail, for ever.
pub(super) async fn trouble(testbed: Testbed, dice: Dice) -> Result<()> {
    tokio::select! {
        ended = kill_in_turn(&testbed) => ended,
        ended = fail(&testbed, dice) => ended,
    }
}

async fn kill_in_turn(testbed: &Testbed) -> Result<()> {
    let mut ticks = interval(KILL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    let syncers = argosy::replicas(argosy::SYNCER);
    for syncer in syncers.iter().cycle() {
        ticks.tick().await;
        ensure!(process::kill_at_once(&testbed.layout, "control", syncer), "{syncer} did not run");
        argosy::start(testbed, syncer).await?;
    }
    bail!("there is no syncer")
}

async fn fail(testbed: &Testbed, mut dice: Dice) -> Result<()> {
    let links = all_links(testbed);
    let mut ticks = interval(FAIL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let link = [dice.one_of(&links)];
        let fault = dice.one_of(&[Fault::Cut, Fault::BlackHole, Fault::Slow(Duration::from_millis(500))]);
        let length = LONGEST.mul_f64((1 + dice.below(100)) as f64 / 100.0);
        links::set(testbed, &link, fault).await?;
        sleep(length).await;
        links::set(testbed, &link, Fault::None).await?;
    }
}
