//! Clusters with other versions of Argo Workflows: what a cluster does not know is said, not dropped without a word.

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;

use super::{Case, case};
use crate::world::{World, labelled, sleeping, wait_for};

pub(super) fn cases() -> Vec<Case> {
    vec![case!("a field of the spec that a cluster does not know is named", dropped)]
}

const FIELD: &str = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/ofALaterVersion";

/// The control cluster gets a field that the others do not have, as a later version of Argo would bring it.
async fn dropped(world: World) -> Result<()> {
    patch(&world, json!([{"op": "add", "path": FIELD, "value": {"type": "string"}}])).await?;
    let named = named(&world).await;
    patch(&world, json!([{"op": "remove", "path": FIELD}])).await?;
    named
}

async fn named(world: &World) -> Result<()> {
    let mut workflow = labelled(sleeping("skew", 1), json!({"kubestellar.io/cluster": "cluster1"}));
    workflow["spec"]["ofALaterVersion"] = json!("x");
    wait_for("the control cluster to know the field", || async {
        let args = ["create", "--dry-run=server", "-o", "jsonpath={.spec.ofALaterVersion}", "-f", "-"];
        let kept = world.run("kubectl", &args, &workflow.to_string()).await?;
        Ok(if kept == "x" { Ok(()) } else { Err(kept) })
    })
    .await?;
    let name = world.create("default", &workflow).await?;
    world.phase("default", &name, "Succeeded").await?;
    let events: Api<Event> = Api::namespaced(world.control.clone(), "default");
    let of_it = ListParams::default().fields(&format!("involvedObject.name={name},reason=FieldsDropped"));
    let note = wait_for("an event that names the field", || async {
        let mut notes = events.list(&of_it).await?.items.into_iter().filter_map(|event| event.message);
        Ok(notes.next_back().ok_or("there is none".to_owned()))
    })
    .await?;
    ensure!(note.contains("cluster cluster1 does not know spec.ofALaterVersion,"), "it says {note:?}");
    Ok(())
}

async fn patch(world: &World, operations: serde_json::Value) -> Result<()> {
    let definitions: Api<CustomResourceDefinition> = Api::all(world.control.clone());
    let patch: Patch<()> = Patch::Json(serde_json::from_value(operations)?);
    definitions.patch("workflows.argoproj.io", &PatchParams::default(), &patch).await?;
    Ok(())
}
