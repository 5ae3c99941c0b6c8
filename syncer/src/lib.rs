//! The syncer: for each WorkloadCluster a task that delivers the workflows routed to it, returns their status and
//! removes what is left over. The folder reads as a workflow's life: `preflight`, `deliver`, `status`, `originals`, `finish`;
//! `plan` decides which of these comes next.

mod announce;
mod argo_server;
mod args;
mod cluster;
mod condition;
mod copy;
mod credentials;
mod deliver;
mod desk;
mod end;
mod finish;
mod health;
mod hydrate;
mod inside;
mod intents;
mod inventory;
mod kubeconfig;
mod kubelet;
mod lease;
mod members;
mod metrics;
mod originals;
mod pace;
mod placer;
mod plan;
mod preflight;
mod queue;
mod readable;
mod readiness;
mod registry;
mod shadows;
mod size;
mod status;
mod work;

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use argosy_runtime::known::Known;
use argosy_runtime::shutdown::{self, essential};
use argosy_runtime::{admin, client};
use kube::Client;

pub use args::Args;

use crate::announce::Announcer;
use crate::cluster::Shared;
use crate::inside::Inside;
use crate::kubelet::Kubelet;
use crate::members::Members;
use crate::metrics::Metrics;

/// Runs until a signal.
pub async fn run(args: Args) -> Result<()> {
    let Args { namespace, identity, control_id, keep_unused, client, kubelet, inside, admin, logs } = args;
    logs.init()?;
    let shutdown = shutdown::on_signal().context("cannot listen for signals")?;
    let listener = admin.bind().await.context("cannot listen for health and metrics (--admin-listen)")?;
    let control = client.client().await?;
    let (kubelet, logs_served) = Kubelet::bind(kubelet, control.clone(), shutdown.clone()).await?;
    let inside = Inside::new(inside).await?;
    let identity = inside.as_ref().map_or(identity.clone(), |inside| inside.identity(&identity));

    let metrics = Metrics::default();
    let mut registry = prometheus_client::registry::Registry::default();
    metrics.register(&mut registry);
    let (known, keep_known) = Known::watch(control.clone(), shutdown.clone());
    let readiness = Arc::clone(&known);
    let is_ready = move || {
        if readiness.is_synced() { Ok(()) } else { Err("namespaces, policies and WorkloadClusters are not listed yet") }
    };
    let admin = admin::serve(listener, registry, Arc::new(is_ready), shutdown.clone().cancelled_owned());

    let work = async {
        let control_uid = control_uid(&control).await.context("cannot read the control cluster's identity")?;
        let control_id = control_id.unwrap_or_else(|| control_uid.clone());
        tokio::select! {
            () = known.synced() => {}
            () = shutdown.cancelled() => return Ok(()),
        }
        tracing::info!(control_id, identity, "syncer starts");
        let announcer = Announcer::new(control.clone(), &identity);
        let (members, roll) = Members::new(control.clone(), &namespace, &identity);
        let inside = inside.map(Arc::new);
        let is_inside = inside.is_some();
        let shared = Shared {
            control,
            namespace,
            identity,
            control_id,
            control_uid,
            keep_unused,
            known,
            announcer,
            members,
            kubelet,
            inside,
        };
        let registry = registry::run(shared.clone(), metrics, shutdown.clone());
        if is_inside {
            // Whatever is about more than its own cluster is not for it to do.
            registry.await;
        } else {
            tokio::join!(registry, placer::run(shared, shutdown.clone()), roll.keep(shutdown.clone()));
        }
        anyhow::Ok(())
    };
    tokio::select! {
        done = work => done,
        served = essential(admin, &shutdown) => bail!("the admin server ended: {served:?}"),
        served = essential(logs_served, &shutdown) => bail!("live logs are served no longer: {served:?}"),
        () = essential(keep_known, &shutdown) => bail!("the watches of the control cluster ended"),
    }
}

/// What tells the control cluster from any other.
pub(crate) async fn control_uid(control: &Client) -> Result<String> {
    client::kube_system_uid(control).await?.context("namespace kube-system has no UID")
}
