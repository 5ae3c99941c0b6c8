//! Argo's commands, each tried on a local and on a routed workflow: what is seen of both must be the same.

mod archive;
mod outcome;
mod scripts;
mod shapes;
pub mod table;

use anyhow::{Result, ensure};
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use serde_json::json;

use crate::world::World;

/// A command, and what is done with it. The script is told in which namespace, and answers what was seen.
pub struct Verb {
    pub name: &'static str,
    run: fn(World, String) -> BoxFuture<'static, Result<String>>,
}

macro_rules! verb {
    ($name:literal, $run:path) => {
        $crate::verbs::Verb { name: $name, run: |world, namespace| Box::pin($run(world, namespace)) }
    };
}
use verb;

/// All but those that need an archive.
pub fn verbs() -> Vec<Verb> {
    scripts::verbs()
}

/// Those that need one.
pub fn archive_verbs() -> Vec<Verb> {
    archive::verbs()
}

/// The namespaces in which they are tried: one without a rule, and one whose workflows are routed.
const LOCAL: &str = "verbs-local";
const ROUTED: &str = "verbs-routed";

/// Tries a command on both sides.
///
/// # Errors
/// The two differ, or something else than the command failed.
pub async fn compare(world: World, verb: &Verb) -> Result<()> {
    world.namespace(LOCAL, json!({})).await?;
    // Argo fails a workflow whose pods' account is not there yet.
    let accounts: Api<ServiceAccount> = Api::namespaced(world.control.clone(), LOCAL);
    world.presence(&accounts, "default", true).await?;
    world.namespace(ROUTED, json!({"argosy.dev/clusters": "env=testbed"})).await?;
    let local = (verb.run)(world.clone(), LOCAL.to_owned());
    let routed = (verb.run)(world.clone(), ROUTED.to_owned());
    let (local, routed) = tokio::try_join!(local, routed)?;
    table::note(verb.name, &local);
    ensure!(local == routed, "on a local workflow: {local}\non a routed one:     {routed}");
    Ok(())
}
