//! What does not work of routed workflows yet does no harm.

use anyhow::{Result, ensure};
use serde_json::json;

use super::{Case, case};
use crate::world::{World, labelled, sleeping};

pub(super) fn cases() -> Vec<Case> {
    vec![case!("argo submit --log of a routed workflow ends with it", log)]
}

/// Its pods' logs are not here; the command must not wait for them.
async fn log(world: World) -> Result<()> {
    let workflow = labelled(sleeping("logged", 2), json!({"kubestellar.io/cluster": "cluster1"}));
    let said = world.run("argo", &["submit", "--log", "-n", "default", "/dev/stdin"], &workflow.to_string()).await?;
    let name = said.lines().find_map(|line| line.strip_prefix("Name:")).unwrap_or_default().trim();
    let done = world.originals("default").get(name).await?;
    ensure!(
        done.data["status"]["phase"] == "Succeeded",
        "it came back before the end: {}",
        done.data["status"]["phase"]
    );
    Ok(())
}
