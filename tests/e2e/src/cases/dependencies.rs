//! What workflows refer to: copied where it may be, missed with a message where it is not, and never taken from others.

use anyhow::{Result, ensure};
use argosy_api::WorkloadCluster;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::DeleteParams;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::{Case, case};
use crate::world::{World, labelled, put, sleeping, wait_for};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case!("templates, those that they call, and ConfigMaps go along, as they are now", copied),
        case!("a missing ConfigMap is named, and the workflow runs once it appears", missing),
        case!("somebody else's ConfigMap of the same name is used and left alone", foreign),
        case!("nothing is copied for the sake of somebody else's template", not_for_others),
        case!("the credentials of a namespace's artifact repository are missed like any others", repository),
        case!("a retry waits for what the workflow needs, as its first run did", retried),
        case!("a Secret is copied only where the WorkloadCluster consents", secret),
    ]
}

const CLUSTER: &str = "kubestellar.io/cluster";

/// A ConfigMap that Argo takes parameters from.
fn greeting(name: &str, who: &str) -> Value {
    let labels = json!({"workflows.argoproj.io/configmap-type": "Parameter"});
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}, "data": {"who": who}})
}

/// A workflow for cluster1 whose step gets `who` from a ConfigMap.
fn greets(name: &str, config_map: &str) -> Value {
    let mut workflow = labelled(sleeping(name, 1), json!({CLUSTER: "cluster1"}));
    let from = json!({"configMapKeyRef": {"name": config_map, "key": "who"}});
    workflow["spec"]["arguments"] = json!({"parameters": [{"name": "who", "valueFrom": from}]});
    workflow["spec"]["templates"][0]["inputs"] =
        json!({"parameters": [{"name": "who", "value": "{{workflow.parameters.who}}"}]});
    workflow
}

/// Runs it to its end; answers whom it greeted, by what its nodes were given.
async fn greeted(world: &World, namespace: &str, workflow: &Value) -> Result<Vec<String>> {
    let name = world.create(namespace, workflow).await?;
    let original = world.phase(namespace, &name, "Succeeded").await?;
    let nodes = original.data["status"]["nodes"].as_object().cloned().unwrap_or_default();
    let given = nodes.values().filter_map(|node| node["inputs"]["parameters"][0]["value"].as_str());
    Ok(given.map(str::to_owned).collect())
}

async fn message(world: &World, namespace: &str, name: &str, expected: &str) -> Result<()> {
    wait_for(&format!("its message to say {expected:?}"), || async {
        // As a user would see it.
        let said = world.run("kubectl", &["get", "wf", "-n", namespace, name], "").await?;
        Ok(if said.contains(expected) { Ok(()) } else { Err(said) })
    })
    .await
}

async fn copied(world: World) -> Result<()> {
    let namespace = "dependencies";
    world.namespace(namespace, json!({})).await?;
    let template = |name: &str, entry: Value| {
        json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "WorkflowTemplate", "metadata": {"name": name},
            // An entry that nothing calls holds nothing up.
            "spec": {"templates": [entry, {"name": "unused", "container": {"image": "x", "envFrom": [{"secretRef": {"name": "nowhere"}}]}}]},
        })
    };
    let pass = |value: &str| json!({"parameters": [{"name": "who", "value": value}]});
    let own = greets("copied", "greeting");
    let mut leaf = own["spec"]["templates"][0].clone();
    leaf["inputs"] = json!({"parameters": [{"name": "who"}]});
    let call = json!({
        "name": "go", "inputs": {"parameters": [{"name": "who"}]},
        "steps": [[{"name": "s", "templateRef": {"name": "inner", "template": "sleep"}, "arguments": pass("{{inputs.parameters.who}}")}]],
    });
    put(&world.control, namespace, template("inner", leaf)).await?;
    put(&world.control, namespace, template("outer", call)).await?;
    let mut workflow = own;
    workflow["spec"]["entrypoint"] = json!("main");
    let step = json!({"name": "s", "templateRef": {"name": "outer", "template": "go"}, "arguments": pass("{{workflow.parameters.who}}")});
    workflow["spec"]["templates"] = json!([{"name": "main", "steps": [[step]]}]);

    for who in ["first", "second"] {
        put(&world.control, namespace, greeting("greeting", who)).await?;
        let given = greeted(&world, namespace, &workflow).await?;
        ensure!(given.iter().any(|given| given == who), "it was given {given:?}, not {who}");
    }
    let maps: Api<ConfigMap> = Api::namespaced(world.wecs[0].clone(), namespace);
    let copy = maps.get("greeting").await?;
    ensure!(copy.labels()["app.kubernetes.io/managed-by"] == "argosy", "the copy is not marked as Argosy's");
    Ok(())
}

/// A template that only the cluster has is used, and what it refers to has to be there; it is not brought over.
async fn not_for_others(world: World) -> Result<()> {
    let namespace = "not-for-others";
    world.namespace(namespace, json!({})).await?;
    let wec = &world.wecs[0];
    put(wec, "", json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})).await?;
    put(&world.control, namespace, greeting("private", "nobody")).await?;
    let asks = greets("asks", "private");
    let mut template = json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "WorkflowTemplate", "metadata": {"name": "theirs"},
    });
    template["spec"] = asks["spec"].clone();
    put(wec, namespace, template).await?;
    let mut workflow = labelled(sleeping("uses-theirs", 1), json!({CLUSTER: "cluster1"}));
    workflow["spec"] = json!({"workflowTemplateRef": {"name": "theirs"}});
    let name = world.create(namespace, &workflow).await?;
    message(&world, namespace, &name, "there is no ConfigMap \"private\" there").await?;
    put(wec, namespace, greeting("private", "somebody")).await?;
    let original = world.phase(namespace, &name, "Succeeded").await?;
    let there: Api<ConfigMap> = Api::namespaced(wec.clone(), namespace);
    let data = there.get("private").await?.data.unwrap_or_default();
    ensure!(data.get("who").is_some_and(|who| who == "somebody"), "it was copied");
    ensure!(!original.data["status"]["nodes"].is_null(), "it has no nodes");
    Ok(())
}

async fn missing(world: World) -> Result<()> {
    world.namespace("missing", json!({})).await?;
    let name = world.create("missing", &greets("missing", "late")).await?;
    message(&world, "missing", &name, r#"there is no ConfigMap "late", neither there nor in the control cluster"#)
        .await?;
    put(&world.control, "missing", greeting("late", "somebody")).await?;
    world.phase("missing", &name, "Succeeded").await.map(drop)
}

async fn foreign(world: World) -> Result<()> {
    let (namespace, there) = ("foreign", &world.wecs[0]);
    world.namespace(namespace, json!({})).await?;
    put(there, "", json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})).await?;
    put(there, namespace, greeting("greeting", "theirs")).await?;
    put(&world.control, namespace, greeting("greeting", "ours")).await?;
    let maps: Api<ConfigMap> = Api::namespaced(there.clone(), namespace);
    let before = maps.get("greeting").await?;
    let given = greeted(&world, namespace, &greets("foreign", "greeting")).await?;
    ensure!(given == ["theirs"], "it was given {given:?}");
    ensure!(maps.get("greeting").await? == before, "the ConfigMap was changed");
    Ok(())
}

async fn retried(world: World) -> Result<()> {
    let namespace = "retried";
    world.namespace(namespace, json!({})).await?;
    let mut workflow = labelled(sleeping("retried", 1), json!({CLUSTER: "cluster1"}));
    workflow["spec"]["arguments"] = json!({"parameters": [{"name": "code", "value": "1"}]});
    let template = &mut workflow["spec"]["templates"][0];
    template["metadata"]["annotations"]["player.argosy.dev/exit-code"] = json!("{{workflow.parameters.code}}");
    let env = json!([{"name": "WHO", "valueFrom": {"configMapKeyRef": {"name": "greeting", "key": "who"}}}]);
    let (command, args) = (["sh", "-c"], ["exit {{workflow.parameters.code}}"]);
    template["container"] = json!({"image": "busybox", "command": command, "args": args, "env": env});
    put(&world.control, namespace, greeting("greeting", "first")).await?;
    let name = world.create(namespace, &workflow).await?;
    world.phase(namespace, &name, "Failed").await?;

    // As when nothing has used it for a while, and its owner has removed it.
    for client in [&world.wecs[0], &world.control] {
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
        maps.delete("greeting", &DeleteParams::default()).await?;
    }
    world.run("argo", &["retry", "-n", namespace, &name, "-p", "code=0"], "").await?;
    let expected = r#"its retry waits for cluster cluster1: there is no ConfigMap "greeting""#;
    message(&world, namespace, &name, expected).await?;
    put(&world.control, namespace, greeting("greeting", "second")).await?;
    let ended = world.phase(namespace, &name, "Succeeded").await?;
    ensure!(ended.data["status"]["message"].is_null(), "its message is {}", ended.data["status"]["message"]);
    let maps: Api<ConfigMap> = Api::namespaced(world.wecs[0].clone(), namespace);
    ensure!(maps.get("greeting").await?.data == Some([("who".into(), "second".into())].into()), "it was not copied");
    Ok(())
}

async fn repository(world: World) -> Result<()> {
    let namespace = "repository";
    world.namespace(namespace, json!({})).await?;
    let annotations = json!({"workflows.argoproj.io/default-artifact-repository": "store"});
    let store = "s3: {bucket: b, endpoint: s3.example, accessKeySecret: {name: store, key: k}}";
    let repositories = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "data": {"store": store},
        "metadata": {"name": "artifact-repositories", "annotations": annotations},
    });
    put(&world.control, namespace, repositories).await?;
    let plain = labelled(sleeping("plain", 1), json!({CLUSTER: "cluster1"}));
    let mut stores = plain.clone();
    stores["spec"]["templates"][0]["outputs"] = json!({"artifacts": [{"name": "a", "path": "/tmp/a"}]});
    let name = world.create(namespace, &stores).await?;
    let expected =
        r#"there is no Secret "store" there, and it may not be copied (spec.copy.secrets of the WorkloadCluster)"#;
    message(&world, namespace, &name, expected).await?;
    world.run("argo", &["stop", "-n", namespace, &name], "").await?;
    world.phase(namespace, &name, "Failed").await?;
    // One that stores nothing does not need it.
    let name = world.create(namespace, &plain).await?;
    world.phase(namespace, &name, "Succeeded").await.map(drop)
}

async fn secret(world: World) -> Result<()> {
    let key = json!({"secretKeyRef": {"name": "password", "key": "p"}});
    let mut workflow = labelled(sleeping("secret", 1), json!({CLUSTER: "cluster1"}));
    workflow["spec"]["templates"][0]["container"]["env"] = json!([{"name": "P", "valueFrom": key}]);
    let password =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "password"}, "stringData": {"p": "x"}});
    put(&world.control, "default", password).await?;
    let name = world.create("default", &workflow).await?;
    let expected =
        r#"there is no Secret "password" there, and it may not be copied (spec.copy.secrets of the WorkloadCluster)"#;
    message(&world, "default", &name, expected).await?;
    let secrets: Api<Secret> = Api::namespaced(world.wecs[0].clone(), "default");
    ensure!(secrets.get_opt("password").await?.is_none(), "it was copied");

    // Another WorkloadCluster that leads to the same cluster, and consents.
    let clusters: Api<WorkloadCluster> = Api::all(world.control.clone());
    let consents = json!({
        "apiVersion": "argosy.dev/v1alpha1", "kind": "WorkloadCluster", "metadata": {"name": "consents"},
        "spec": {"kubeconfigSecret": {"name": "cluster1-kubeconfig"}, "namespaces": ["default"], "copy": {"secrets": true}},
    });
    put(&world.control, "", consents).await?;
    let ran = async {
        workflow["metadata"]["labels"][CLUSTER] = json!("consents");
        let second = wait_for("the cluster to be ready", || async {
            Ok(world.create("default", &workflow).await.map_err(|error| error.to_string()))
        })
        .await?;
        world.phase("default", &second, "Succeeded").await?;
        ensure!(secrets.get_opt("password").await?.is_some(), "it was not copied");
        // Now that it is there, the first one runs as well.
        world.phase("default", &name, "Succeeded").await
    }
    .await;
    clusters.delete("consents", &DeleteParams::default()).await?;
    ran.map(drop)
}
