//! Who creates workflows, and how: under both kinds of rule each is placed like any other.

use anyhow::{Context, Result, ensure};
use argosy_api::WorkloadCluster;
use argosy_api::kubeconfig::{Endpoint, compose};
use kube::api::ListParams;
use kube::core::DynamicObject;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::ruled::{By, Ruled, under_both};
use super::{Case, case};
use crate::world::{World, labelled, sleeping, wait_for, workflows};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case!("a CronWorkflow's children are placed; it counts them, and takes them along", cron_workflow),
        case!("a workflow that an event makes at argo-server is placed", event_binding),
        case!("argo submit --from a WorkflowTemplate or a CronWorkflow is placed", submit_from),
        case!("argo resubmit is decided anew, and keeps its user's own choice", resubmit),
        case!("a dry run shows what would come of it, leaves nothing and takes no room", dry_run),
    ]
}

const LABEL: &str = "kubestellar.io/cluster";

async fn cron_workflow(world: World) -> Result<()> {
    under_both(world, "cron", |ruled| Box::pin(children(ruled))).await
}

fn cron(name: &str, suspended: bool) -> Value {
    json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "CronWorkflow", "metadata": {"name": name},
        "spec": {
            "schedules": ["* * * * *"], "concurrencyPolicy": "Forbid", "suspend": suspended,
            "workflowSpec": sleeping("", 1)["spec"],
        },
    })
}

async fn children(ruled: Ruled) -> Result<()> {
    ruled.send_to("name=cluster2", "cluster2").await?;
    ruled.apply(&[cron("minutely", false)], None).await?;
    let originals = ruled.world.originals(&ruled.namespace);
    let child = created(&ruled, "workflows.argoproj.io/cron-workflow=minutely").await?;
    let done = ruled.ran_in("cluster2", &child).await?;
    ensure!(done.owner_references().len() == 1, "the original has no owner");
    let copies = workflows(&ruled.world.wecs[1], &ruled.namespace);
    let copy = copies.get(&child).await?;
    // Its owner is no object of that cluster: the garbage collector there would take the copy away.
    ensure!(copy.owner_references().is_empty(), "the copy has an owner");
    wait_for("the CronWorkflow to count it", || async {
        let args = ["get", "cronworkflow", "minutely", "-n", &ruled.namespace, "-o", "json"];
        let shown: Value = serde_json::from_str(&ruled.world.run("kubectl", &args, "").await?)?;
        let active = shown["status"]["active"].as_array().into_iter().flatten();
        let is_active = active.clone().any(|one| one["name"] == child.as_str());
        let is_counted = shown["status"]["succeeded"].as_i64().is_some_and(|count| count > 0);
        Ok(if is_counted && !is_active { Ok(()) } else { Err(shown["status"].to_string()) })
    })
    .await?;
    ruled.world.run("kubectl", &["delete", "cronworkflow", "minutely", "-n", &ruled.namespace], "").await?;
    ruled.world.presence(&originals, &child, false).await?;
    ruled.world.presence(&copies, &child, false).await
}

/// Waits for a workflow that somebody creates; answers its name.
async fn created(ruled: &Ruled, selector: &str) -> Result<String> {
    wait_for(&format!("a workflow with {selector}"), || async {
        let found = ruled.world.originals(&ruled.namespace).list(&ListParams::default().labels(selector)).await?;
        Ok(found.items.first().map(ResourceExt::name_any).ok_or_else(|| "none yet".to_owned()))
    })
    .await
}

/// A template that takes a parameter.
fn template() -> Value {
    let mut spec = sleeping("", 1)["spec"].clone();
    spec["arguments"] = json!({"parameters": [{"name": "message", "value": "none"}]});
    json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "WorkflowTemplate", "metadata": {"name": "template"}, "spec": spec,
    })
}

async fn event_binding(world: World) -> Result<()> {
    under_both(world, "event", |ruled| Box::pin(event(ruled))).await
}

async fn event(ruled: Ruled) -> Result<()> {
    let url = ruled.world.testbed.argo_server()?.context("the testbed has no argo-server")?;
    let namespace = ruled.namespace.as_str();
    ruled.send_to("name=cluster2", "cluster2").await?;
    ruled.apply(&[template()], Some(1)).await?;
    let binding = json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "WorkflowEventBinding", "metadata": {"name": "binding"},
        "spec": {
            "event": {"selector": "discriminator == \"greet\" && payload.message != \"\""},
            "submit": {
                "workflowTemplateRef": {"name": "template"},
                "arguments": {"parameters": [{"name": "message", "valueFrom": {"event": "payload.message"}}]},
            },
        },
    });
    let sender = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "sender"}});
    let rights = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "sender"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "argo-aggregate-to-edit"},
        "subjects": [{"kind": "ServiceAccount", "name": "sender", "namespace": namespace}],
    });
    ruled.apply(&[binding, sender, rights], None).await?;
    let token = ruled.world.run("kubectl", &["create", "token", "sender", "-n", namespace], "").await?;
    let kubeconfig = compose("argo", &Endpoint { server: url, ca_data: None, tls_server_name: None }, &token);
    let server = testbed::cluster::client(serde_json::from_value(kubeconfig)?).await?;
    // Its rights take a moment to be in force.
    wait_for("argo-server to take the event", || async {
        let event = http::Request::post(format!("/api/v1/events/{namespace}/greet"))
            .header("Content-Type", "application/json")
            .body(json!({"message": "hello"}).to_string().into_bytes())?;
        Ok(server.request_text(event).await.map_err(|error| error.to_string()))
    })
    .await?;
    let name = created(&ruled, "workflows.argoproj.io/workflow-event-binding=binding").await?;
    ruled.ran_in("cluster2", &name).await?;
    let copy = workflows(&ruled.world.wecs[1], namespace).get(&name).await?;
    let message = &copy.data["spec"]["arguments"]["parameters"][0]["value"];
    ensure!(message == "\"hello\"" || message == "hello", "the copy's parameter is {message}");
    Ok(())
}

async fn submit_from(world: World) -> Result<()> {
    under_both(world, "from", |ruled| Box::pin(from(ruled))).await
}

async fn from(ruled: Ruled) -> Result<()> {
    ruled.send_to("name=cluster1", "cluster1").await?;
    ruled.apply(&[template()], Some(0)).await?;
    ruled.apply(&[cron("never", true)], None).await?;
    for source in ["workflowtemplate/template", "cronwf/never"] {
        let name = ruled.created_by("argo", &["submit", "--from", source], "").await?;
        ruled.ran_in("cluster1", &name).await.with_context(|| format!("from {source}"))?;
    }
    Ok(())
}

async fn resubmit(world: World) -> Result<()> {
    under_both(world, "resubmit", |ruled| Box::pin(again(ruled))).await
}

async fn again(ruled: Ruled) -> Result<()> {
    ruled.send_to("name=cluster1", "cluster1").await?;
    let first = ruled.world.create(&ruled.namespace, &sleeping("first", 1)).await?;
    ruled.ran_in("cluster1", &first).await?;
    // The rule changes; what the first one inherited from it is not the user's choice.
    ruled.send_to("name=cluster2", "cluster2").await?;
    let second = ruled.created_by("argo", &["resubmit", &first], "").await?;
    ruled.ran_in("cluster2", &second).await?;
    // By itself the rule now sends to cluster1.
    ruled.send_to("name in (cluster1,cluster2)", "cluster1").await?;
    let own = labelled(sleeping("own", 1), json!({LABEL: "cluster2"}));
    let own = ruled.world.create(&ruled.namespace, &own).await?;
    ruled.ran_by("label", "cluster2", &own).await?;
    let same = ruled.created_by("argo", &["resubmit", &own], "").await?;
    ruled.ran_by("label", "cluster2", &same).await.map(drop)
}

async fn dry_run(world: World) -> Result<()> {
    under_both(world, "dry-run", |ruled| Box::pin(only_shown(ruled))).await
}

async fn only_shown(ruled: Ruled) -> Result<()> {
    // Each has a cluster to itself, whose room it can count on.
    let (cluster, wec) = match ruled.by {
        By::Namespace => ("cluster1", 0),
        By::Policy => ("cluster2", 1),
    };
    ruled.send_to(&format!("name={cluster}"), cluster).await?;
    let mut workflow = sleeping("dry-run", 300);
    let most = format!("{}m", free_cpu(&ruled, cluster).await? * 6 / 10);
    workflow["spec"]["templates"][0]["container"]["resources"] = json!({"requests": {"cpu": most}});
    let text = workflow.to_string();
    // Two of them have no room beside each other.
    for _ in 0..2 {
        for (program, args) in [
            ("kubectl", ["create", "--dry-run=server", "-o", "json", "-n", &ruled.namespace, "-f", "-"].as_slice()),
            ("argo", ["submit", "--server-dry-run", "-o", "json", "-n", &ruled.namespace, "-"].as_slice()),
        ] {
            let shown = ruled.world.run(program, args, &text).await.with_context(|| format!("{program} {args:?}"))?;
            let shown: DynamicObject = serde_json::from_str(&shown).with_context(|| format!("{program}: {shown}"))?;
            ensure!(shown.labels().get(LABEL).is_some_and(|label| label == cluster), "{program} shows no cluster");
            ensure!(shown.annotations().contains_key("argosy.dev/placement"), "{program} shows no reason");
            ensure!(shown.data["spec"]["suspend"] == true, "{program} shows it without suspend");
        }
    }
    for client in [&ruled.world.control, &ruled.world.wecs[wec]] {
        let left = workflows(client, &ruled.namespace).list_metadata(&ListParams::default()).await?;
        ensure!(left.items.is_empty(), "a dry run left {:?}", left.items[0].name_any());
    }
    let name = ruled.world.create(&ruled.namespace, &workflow).await.context("a dry run took the room")?;
    let refused = ruled.world.refusal(&ruled.namespace, &workflow).await;
    ruled.world.run("kubectl", &["delete", "wf", "-n", &ruled.namespace, &name], "").await?;
    let refused = refused.context("and yet the first took no room")?;
    ensure!(refused.contains("cpu"), "the second is refused with {refused:?}");
    Ok(())
}

/// Thousandths of a CPU that are free on the emptiest node of a cluster.
async fn free_cpu(ruled: &Ruled, cluster: &str) -> Result<i64> {
    let clusters: Api<WorkloadCluster> = Api::all(ruled.world.control.clone());
    wait_for("the cluster's figures", || async {
        let capacity = clusters.get(cluster).await?.status.and_then(|status| status.capacity);
        let nodes = capacity.iter().flat_map(|capacity| &capacity.nodes).flat_map(|group| &group.free);
        let free = nodes.map(|free| argosy_placement::Resources::from(free).get("cpu")).max();
        Ok(free.filter(|free| *free > 0).ok_or_else(|| "it shows none".to_owned()))
    })
    .await
}
