//! What somebody who may write Workflows in a workload cluster can do to the originals: to their own, write what they
//! like; to others, nothing.

use anyhow::{Result, ensure};
use argosy_api::names;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::{Case, case};
use crate::world::{World, sleeping, uid, wait_for, workflows};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case!("whatever a copy's status becomes, its original follows or says so, and no other is touched", statuses),
        case!("a forged copy is removed, and its pretended original is as it was", forged),
    ]
}

const NAMESPACE: &str = "hostile";

fn odd() -> Vec<Value> {
    let large = "x".repeat(1_200_000);
    vec![
        json!({"phase": 5}),
        json!({"phase": "Triumphant", "nodes": "none"}),
        json!({"nodes": {"a": null, "b": [], "~1/": {"phase": {}}}}),
        json!({"nodes": {"a": {"id": "elsewhere/other", "name": "other", "phase": "Running", "type": "Pod"}}}),
        json!({"compressedNodes": "H4sIAAAAAAAA", "nodes": null}),
        json!({"offloadNodeStatusVersion": "fnv:1"}),
        json!({"outputs": {"parameters": [{"name": "namespace", "value": "kube-system"}]}}),
        json!({"storedWorkflowTemplateSpec": {"suspend": false, "entrypoint": "e", "synchronization": []}}),
        json!({"message": large}),
        json!({"startedAt": "yesterday", "finishedAt": "2026-01-01T00:00:00Z"}),
        json!([1]),
        json!("over"),
    ]
}

/// Each of them in turn, in the status of a copy that its user has suspended, so that Argo leaves it alone.
async fn statuses(world: World) -> Result<()> {
    world.namespace(NAMESPACE, json!({"argosy.dev/clusters": "name=cluster1"})).await?;
    let mut held = sleeping("held", 0);
    held["metadata"]["annotations"] = json!({names::SUSPEND: "true"});
    let name = world.create(NAMESPACE, &held).await?;
    world.phase(NAMESPACE, &name, "Running").await?;
    let bystander = world.create(NAMESPACE, &held).await?;
    world.phase(NAMESPACE, &bystander, "Running").await?;
    let originals = world.originals(NAMESPACE);
    let before = originals.get(&bystander).await?.data["status"].take();
    let copies = workflows(&world.wecs[0], NAMESPACE);
    let fine = copies.get(&name).await?.data["status"].take();
    for status in odd() {
        let written = copies.patch(&name, &PatchParams::default(), &Patch::Merge(json!({"status": status}))).await;
        // The full CRD refuses most of it there already.
        if written.is_err() {
            continue;
        }
        let alive = world.create(NAMESPACE, &sleeping("alive", 0)).await?;
        world.phase(NAMESPACE, &alive, "Succeeded").await?;
    }
    let whole = json!([{"op": "add", "path": "/status", "value": fine}]);
    copies.patch(&name, &PatchParams::default(), &Patch::<()>::Json(serde_json::from_value(whole)?)).await?;
    wait_for("the original to show what its copy shows again", || async {
        let original = originals.get(&name).await?;
        Ok(crate::same::difference(&original, &copies.get(&name).await?)?.map_or(Ok(()), Err))
    })
    .await?;
    ensure!(originals.get(&bystander).await?.data["status"] == before, "another original was changed");
    world.run("argo", &["delete", "-n", NAMESPACE, "--all"], "").await?;
    Ok(())
}

async fn forged(world: World) -> Result<()> {
    let namespace = "forged";
    world.namespace(namespace, json!({"argosy.dev/clusters": "name=cluster1"})).await?;
    let name = world.create(namespace, &sleeping("real", 600)).await?;
    world.node(namespace, &name, &name, "Running").await?;
    let originals = world.originals(namespace);
    let original = originals.get(&name).await?;
    let copies = workflows(&world.wecs[0], namespace);
    let copy = copies.get(&name).await?;

    // All that a copy has, under another name.
    let mut forged = sleeping("forged", 600);
    let own = |mut annotations: std::collections::BTreeMap<String, String>| {
        annotations.retain(|key, _| key.starts_with(names::PREFIX));
        annotations.insert(names::COPY.to_owned(), "forged".to_owned());
        annotations
    };
    forged["metadata"] = json!({
        "name": "forged", "labels": copy.labels(), "annotations": own(copy.annotations().clone()),
    });
    forged["spec"]["suspend"] = json!(true);
    world.put_beside(&world.wecs[0], namespace, forged).await?;
    world.presence(&copies, "forged", false).await?;
    let after = originals.get(&name).await?;
    ensure!(after.data["status"] == original.data["status"], "the original was changed");
    ensure!(uid(&copies.get(&name).await?) == uid(&copy), "its copy was replaced");
    ensure!(originals.get_opt("forged").await?.is_none(), "an original was made of it");
    originals.delete(&name, &DeleteParams::background()).await?;
    Ok(())
}
