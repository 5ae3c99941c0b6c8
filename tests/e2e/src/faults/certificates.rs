//! Certificates that are renewed, and webhooks that come and go, while workflows are created.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;
use testbed::{argosy, process};
use tokio::time::{Instant, interval};

use crate::cases::{Case, case};
use crate::world::{World, sleeping, wait_for};

pub fn cases() -> Vec<Case> {
    vec![case!(
        "certificates and their CA are renewed, and webhooks end, while workflows are created: none is refused",
        renewed
    )]
}

const NAMESPACE: &str = "certificates";
const SECRET: &str = "argosy-webhook-tls";
/// Lives so short that a CA and several certificates end while one looks on.
const LIVES: [&str; 2] = ["--tls-lifetime=15s", "--tls-ca-lifetime=45s"];
/// How many create them, and how often each.
const USERS: usize = 4;
const EVERY: Duration = Duration::from_millis(100);
/// How long it may take until a CA has followed another.
const LONG: Duration = Duration::from_secs(180);

async fn renewed(world: World) -> Result<()> {
    world.namespace(NAMESPACE, json!({"argosy.dev/clusters": "env=testbed"})).await?;
    let webhooks = argosy::replicas(argosy::WEBHOOK);
    let [first, second, ..] = &webhooks[..] else { bail!("two webhooks") };
    for webhook in [first, second] {
        argosy::start_with(&world.testbed, webhook, &LIVES).await?;
    }
    let seen = in_turn(&world, first, second).await;
    process::stop(&world.testbed.layout, "control", second);
    argosy::start(&world.testbed, first).await?;
    issue_anew(&world).await?;
    argosy::wait_until_ready(&world.testbed).await?;
    seen
}

async fn in_turn(world: &World, first: &str, second: &str) -> Result<()> {
    issue_anew(world).await?;
    argosy::wait_until_ready(&world.testbed).await?;
    let created = AtomicU64::new(0);
    tokio::select! {
        ended = create(world, &created) => ended?,
        seen = followed(world) => seen?,
    }
    // A replica that is told to end answers what it was asked, and the other one goes on; then the other way round.
    for (ending, staying) in [(first, second), (second, first)] {
        let before = created.load(Ordering::Relaxed);
        let ends = async {
            let (layout, ending) = (world.testbed.layout.clone(), ending.to_owned());
            let stopped = tokio::task::spawn_blocking(move || process::stop(&layout, "control", &ending)).await?;
            ensure!(stopped, "it did not run");
            wait_for("more creations", || async {
                let more = created.load(Ordering::Relaxed) - before;
                Ok(if more >= 100 { Ok(()) } else { Err(format!("{more} in all")) })
            })
            .await
        };
        tokio::select! {
            ended = create(world, &created) => ended.with_context(|| format!("{ending} ends, {staying} stays"))?,
            ended = ends => ended?,
        }
        argosy::start_with(&world.testbed, ending, &LIVES).await?;
        ready(world, ending).await?;
    }
    Ok(())
}

/// Has a certificate and its CA issued anew.
async fn issue_anew(world: &World) -> Result<()> {
    let secrets: Api<Secret> = Api::namespaced(world.control.clone(), argosy::NAMESPACE);
    let before = part(world, "ca.crt").await?;
    secrets.delete(SECRET, &DeleteParams::default()).await?;
    wait_for("another certificate", || async {
        let now = part(world, "ca.crt").await.unwrap_or_default();
        Ok(if !now.is_empty() && now != before { Ok(()) } else { Err("not yet".to_owned()) })
    })
    .await
}

async fn part(world: &World, key: &str) -> Result<Vec<u8>> {
    let secrets: Api<Secret> = Api::namespaced(world.control.clone(), argosy::NAMESPACE);
    let data = secrets.get(SECRET).await?.data.context("the Secret is empty")?;
    Ok(data.get(key).with_context(|| format!("it has no {key}"))?.0.clone())
}

/// Waits until several certificates have followed each other, and a CA another.
async fn followed(world: &World) -> Result<()> {
    let (mut certificates, mut authorities) = (BTreeSet::new(), BTreeSet::new());
    let start = Instant::now();
    let mut ticks = interval(Duration::from_millis(500));
    while certificates.len() < 4 || authorities.len() < 3 {
        ticks.tick().await;
        certificates.insert(part(world, "tls.crt").await?);
        // With a new CA the bundle has both, and then the new one alone.
        authorities.insert(part(world, "ca.crt").await?);
        ensure!(
            start.elapsed() < LONG,
            "there were {} certificates and {} bundles of CAs in {} s",
            certificates.len(),
            authorities.len(),
            LONG.as_secs()
        );
    }
    Ok(())
}

/// Creates workflows (in dry runs, of which nothing is left), several at a time, until one is refused.
async fn create(world: &World, created: &AtomicU64) -> Result<()> {
    try_join_all((0..USERS).map(|_| create_in_turn(world, created))).await.map(drop)
}

async fn create_in_turn(world: &World, created: &AtomicU64) -> Result<()> {
    let api = world.originals(NAMESPACE);
    let workflow = serde_json::from_value(sleeping("load", 0))?;
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let mut ticks = interval(EVERY);
    loop {
        ticks.tick().await;
        let number = created.load(Ordering::Relaxed);
        api.create(&dry_run, &workflow).await.with_context(|| format!("creation {number}"))?;
        created.fetch_add(1, Ordering::Relaxed);
    }
}

/// Waits until a webhook says that it is ready.
async fn ready(world: &World, webhook: &str) -> Result<()> {
    wait_for(&format!("{webhook} to be ready"), || async {
        Ok(world.ask(webhook, "/readyz").await.map(drop).map_err(|error| format!("{error:#}")))
    })
    .await
}
