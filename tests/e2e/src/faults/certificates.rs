//! Certificates that are renewed, and webhooks that come and go, while workflows are created.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use serde_json::json;
use testbed::{argosy, process};
use tokio::time::{Instant, interval};

use crate::cases::outage::{TLS_SECRET, issue_anew};
use crate::cases::{Case, case};
use crate::creations::Creations;
use crate::world::{World, wait_for};

pub fn cases() -> Vec<Case> {
    vec![case!(
        "certificates and their CA are renewed, and webhooks end, while workflows are created: none is refused",
        renewed
    )]
}

const NAMESPACE: &str = "certificates";
/// Lives so short that a CA and several certificates end while one looks on.
const LIVES: [&str; 2] = ["--tls-lifetime=15s", "--tls-ca-lifetime=45s"];
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
    let creations = Creations::default();
    creations.during(world, NAMESPACE, followed(world)).await?;
    // A replica that is told to end answers what it was asked, and the other one goes on; then the other way round.
    for ending in [first, second] {
        let (layout, daemon) = (world.testbed.layout.clone(), ending.to_owned());
        let ends = async {
            let stopped = tokio::task::spawn_blocking(move || process::stop(&layout, "control", &daemon)).await?;
            ensure!(stopped, "it did not run");
            creations.more(100).await
        };
        creations.during(world, NAMESPACE, ends).await.with_context(|| format!("while {ending} ended"))?;
        argosy::start_with(&world.testbed, ending, &LIVES).await?;
        ready(world, ending).await?;
    }
    Ok(())
}

async fn part(world: &World, key: &str) -> Result<Vec<u8>> {
    let secrets: Api<Secret> = Api::namespaced(world.control.clone(), argosy::NAMESPACE);
    let data = secrets.get(TLS_SECRET).await?.data.context("the Secret is empty")?;
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

/// Waits until a webhook says that it is ready.
async fn ready(world: &World, webhook: &str) -> Result<()> {
    wait_for(&format!("{webhook} to be ready"), || async {
        Ok(world.ask(webhook, "/readyz").await.map(drop).map_err(|error| format!("{error:#}")))
    })
    .await
}
