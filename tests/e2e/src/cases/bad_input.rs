//! What bad input gets: a refusal or a condition that says which object, which field, what was expected.

use anyhow::{Result, ensure};
use argosy_api::WorkloadCluster;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use super::{Case, case};
use crate::world::{World, labelled, sleeping, wait_for};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case!("an annotation that cannot be read refuses, with its column", unreadable_annotation),
        case!("a label that names no cluster refuses, with those that there are", unknown_cluster),
        case!("a cluster that does not consent refuses", no_consent),
        case!("a rule that rejects what no cluster can take says why", nothing_fits),
        case!("a user's label outside the rule refuses", label_outside_the_rule),
        case!("a kubeconfig with exec is a condition that names Secret, key and field", broken_kubeconfig),
        case!("no WorkloadCluster may be called local", called_local),
    ]
}

async fn refused(world: &World, namespace: &str, labels: serde_json::Value, expected: &[&str]) -> Result<()> {
    let said = world.refusal(namespace, &labelled(sleeping("bad", 1), labels)).await?;
    for part in expected {
        ensure!(said.contains(part), "{part:?} is not in {said:?}");
    }
    Ok(())
}

async fn unreadable_annotation(world: World) -> Result<()> {
    world.namespace("bad-annotation", json!({"argosy.dev/clusters": "env in prod"})).await?;
    let expected = ["argosy.dev/clusters", "bad-annotation", "column 8", "expected `(`", "env in prod"];
    refused(&world, "bad-annotation", json!({}), &expected).await
}

async fn unknown_cluster(world: World) -> Result<()> {
    let expected = ["kubestellar.io/cluster=nowhere", "no such WorkloadCluster", "cluster1"];
    refused(&world, "default", json!({"kubestellar.io/cluster": "nowhere"}), &expected).await
}

async fn no_consent(world: World) -> Result<()> {
    let clusters: Api<WorkloadCluster> = Api::all(world.control.clone());
    let cluster = json!({
        "apiVersion": "argosy.dev/v1alpha1", "kind": "WorkloadCluster", "metadata": {"name": "choosy"},
        "spec": {"kubeconfigSecret": {"name": "cluster1-kubeconfig"}, "namespaces": ["somebody-elses"]},
    });
    clusters.patch("choosy", &PatchParams::apply("e2e").force(), &Patch::Apply(&cluster)).await?;
    let labels = json!({"kubestellar.io/cluster": "choosy"});
    let said = wait_for("the refusal", || async {
        let said = world.refusal("default", &labelled(sleeping("bad", 1), labels.clone())).await?;
        Ok(if said.contains("spec.namespaces") { Ok(said) } else { Err(said) })
    })
    .await;
    clusters.delete("choosy", &DeleteParams::default()).await?;
    ensure!(said?.contains("does not take workflows of namespace \"default\""), "it names no namespace");
    Ok(())
}

async fn nothing_fits(world: World) -> Result<()> {
    let rule = json!({"argosy.dev/clusters": "env=moon", "argosy.dev/no-cluster": "Reject"});
    world.namespace("nothing-fits", rule).await?;
    refused(&world, "nothing-fits", json!({}), &["env=moon", "nothing-fits", "none has such labels", "cluster1"]).await
}

async fn label_outside_the_rule(world: World) -> Result<()> {
    world.namespace("only-cluster2", json!({"argosy.dev/clusters": "name=cluster2"})).await?;
    let labels = json!({"kubestellar.io/cluster": "cluster1"});
    refused(&world, "only-cluster2", labels, &["kubestellar.io/cluster=cluster1", "name=cluster2"]).await?;
    let local = json!({"kubestellar.io/cluster": "local"});
    refused(&world, "only-cluster2", local, &["kubestellar.io/cluster=local", "name=cluster2"]).await
}

async fn broken_kubeconfig(world: World) -> Result<()> {
    let secrets: Api<Secret> = Api::namespaced(world.control.clone(), "argosy");
    let clusters: Api<WorkloadCluster> = Api::all(world.control.clone());
    let apply = PatchParams::apply("e2e").force();
    let kubeconfig = "current-context: c\ncontexts: [{name: c, context: {cluster: c, user: u}}]\n\
                      clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}]\n\
                      users: [{name: u, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: sh}}}]\n";
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "broken"}, "stringData": {"kubeconfig": kubeconfig},
    });
    let cluster = json!({
        "apiVersion": "argosy.dev/v1alpha1", "kind": "WorkloadCluster", "metadata": {"name": "broken"},
        "spec": {"kubeconfigSecret": {"name": "broken"}, "namespaces": ["*"]},
    });
    secrets.patch("broken", &apply, &Patch::Apply(&secret)).await?;
    clusters.patch("broken", &apply, &Patch::Apply(&cluster)).await?;
    let message = wait_for("the condition", || async {
        let status = clusters.get("broken").await?.status.unwrap_or_default();
        let condition = status.condition("Ready").filter(|condition| condition.status == "False");
        Ok(condition.map(|condition| condition.message.clone()).ok_or_else(|| "none yet".to_owned()))
    })
    .await;
    // Not ready: nothing is placed there, and the others are as they were.
    world.namespace("strict", json!({"argosy.dev/clusters": "*", "argosy.dev/no-cluster": "Reject"})).await?;
    let placed =
        world.refusal("strict", &labelled(sleeping("bad", 1), json!({"kubestellar.io/cluster": "broken"}))).await;
    clusters.delete("broken", &DeleteParams::default()).await?;
    secrets.delete("broken", &DeleteParams::default()).await?;
    let message = message?;
    for part in ["Secret argosy/broken", "\"kubeconfig\"", "users[\"u\"].user.exec", "expected a token"] {
        ensure!(message.contains(part), "{part:?} is not in {message:?}");
    }
    let placed = placed?;
    ensure!(placed.contains("not ready") && placed.contains("Secret argosy/broken"), "it was refused with {placed:?}");
    Ok(())
}

async fn called_local(world: World) -> Result<()> {
    let clusters: Api<WorkloadCluster> = Api::all(world.control.clone());
    let cluster = json!({
        "apiVersion": "argosy.dev/v1alpha1", "kind": "WorkloadCluster", "metadata": {"name": "local"},
        "spec": {"kubeconfigSecret": {"name": "x"}},
    });
    let applied = clusters.patch("local", &PatchParams::apply("e2e").force(), &Patch::Apply(&cluster)).await;
    let said = applied.err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(said.contains("means the control cluster itself"), "the API server said {said:?}");
    Ok(())
}
