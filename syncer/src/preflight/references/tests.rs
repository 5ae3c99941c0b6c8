//! One line for each path that a reference can stand at.

use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Map, Value, json};

use super::*;

/// `Kind name`, with `?` where the workflow runs without it, and `name/template` for calls. Argo's default repository,
/// which every workflow looks for, is left out.
fn found(spec: &Value, entry: Entry<'_>) -> String {
    let References { mut objects, calls, .. } = references(spec, entry);
    if spec["artifactRepositoryRef"].is_null() {
        objects.retain(|reference, _| reference.name != "artifact-repositories");
    }
    let object = |(reference, optional): (&Reference, &bool)| {
        format!("{} {}{}", reference.kind.name(), reference.name, if *optional { "?" } else { "" })
    };
    let objects = objects.iter().filter(|(reference, _)| !calls.iter().any(|call| call.of == **reference)).map(object);
    let calls = calls.iter().map(|call| format!("{} {}/{}", call.of.kind.name(), call.of.name, call.template));
    calls.chain(objects).collect::<Vec<_>>().join(", ")
}

/// A value at a path such as `arguments.parameters.0.valueFrom`; numbers are places in lists.
fn at(path: &str, value: Value) -> Value {
    path.rsplit('.').fold(value, |value, step| match step.parse::<usize>() {
        Ok(_) => json!([value]),
        Err(_) => json!({step: value}),
    })
}

#[rstest]
#[case::account("serviceAccountName", json!("x"), "ServiceAccount x")]
#[case::executor("executor.serviceAccountName", json!("x"), "ServiceAccount x")]
#[case::artifact_gc("artifactGC.serviceAccountName", json!("x"), "ServiceAccount x")]
#[case::pull_secrets("imagePullSecrets.0", json!({"name": "x"}), "Secret x")]
#[case::parameter("arguments.parameters.0.valueFrom.configMapKeyRef", json!({"name": "x"}), "ConfigMap x")]
#[case::optional_parameter("arguments.parameters.0.valueFrom.configMapKeyRef", json!({"name": "x", "optional": true}), "ConfigMap x?")]
#[case::parameter_with_default("arguments.parameters.0.valueFrom", json!({"configMapKeyRef": {"name": "x"}, "default": ""}), "ConfigMap x?")]
#[case::artifact("arguments.artifacts.0.s3.accessKeySecret", json!({"name": "x"}), "Secret x")]
#[case::volume("volumes.0.configMap", json!({"name": "x"}), "ConfigMap x")]
#[case::optional_volume("volumes.0.configMap", json!({"name": "x", "optional": true}), "ConfigMap x?")]
#[case::secret_volume("volumes.0.secret", json!({"secretName": "x"}), "Secret x")]
#[case::optional_secret("volumes.0.secret", json!({"secretName": "x", "optional": true}), "Secret x?")]
#[case::claim("volumes.0.persistentVolumeClaim.claimName", json!("x"), "PersistentVolumeClaim x")]
#[case::projected("volumes.0.projected.sources.0", json!({"configMap": {"name": "x"}, "secret": {"name": "y"}}), "ConfigMap x, Secret y")]
#[case::csi("volumes.0.csi.nodePublishSecretRef.name", json!("x"), "Secret x")]
#[case::azure_file("volumes.0.azureFile.secretName", json!("x"), "Secret x")]
#[case::other_volumes("volumes.0.rbd.secretRef.name", json!("x"), "Secret x")]
#[case::ephemeral("volumes.0.ephemeral.volumeClaimTemplate.spec.storageClassName", json!("x"), "StorageClass x")]
#[case::claim_templates("volumeClaimTemplates.0", json!({"metadata": {"name": "w"}, "spec": {"storageClassName": "x"}}), "StorageClass x")]
#[case::priority("podPriorityClassName", json!("x"), "PriorityClass x")]
#[case::repository("artifactRepositoryRef", json!({"configMap": "x", "key": "k"}), "ConfigMap x?")]
#[case::default_repository("artifactRepositoryRef", json!({"key": "k"}), "ConfigMap artifact-repositories?")]
#[case::semaphore("synchronization.semaphore.configMapKeyRef.name", json!("x"), "ConfigMap x")]
#[case::semaphores("synchronization.semaphores.0.configMapKeyRef.name", json!("x"), "ConfigMap x")]
#[case::semaphore_elsewhere("synchronization.semaphores.0", json!({"namespace": "n", "configMapKeyRef": {"name": "x"}}), "")]
#[case::hook("hooks.exit", json!({"templateRef": {"name": "x", "template": "t"}}), "WorkflowTemplate x/t")]
#[case::hook_arguments("hooks.exit.arguments.parameters.0.valueFrom.configMapKeyRef.name", json!("x"), "ConfigMap x")]
#[case::defaults("templateDefaults.container.envFrom.0.secretRef.name", json!("x"), "Secret x")]
#[case::not_known_before_the_run("serviceAccountName", json!("{{workflow.parameters.account}}"), "")]
#[case::no_name("serviceAccountName", json!("../secrets/x"), "")]
#[case::not_a_string("serviceAccountName", json!(7), "")]
fn of_a_workflow(#[case] path: &str, #[case] value: Value, #[case] expected: &str) {
    assert_eq!(found(&at(path, value), Entry::Workflow), expected);
}

#[rstest]
#[case::container("container.env.0.valueFrom.configMapKeyRef", json!({"name": "x"}), "ConfigMap x")]
#[case::optional("container.env.0.valueFrom.secretKeyRef", json!({"name": "x", "optional": true}), "Secret x?")]
#[case::script("script.envFrom.0.configMapRef.name", json!("x"), "ConfigMap x")]
#[case::init("initContainers.0.envFrom.0.secretRef.name", json!("x"), "Secret x")]
#[case::sidecar("sidecars.0.envFrom.0.secretRef.name", json!("x"), "Secret x")]
#[case::container_set("containerSet.containers.0.envFrom.0.secretRef.name", json!("x"), "Secret x")]
#[case::volume("volumes.0.secret.secretName", json!("x"), "Secret x")]
#[case::account("serviceAccountName", json!("x"), "ServiceAccount x")]
#[case::executor("executor.serviceAccountName", json!("x"), "ServiceAccount x")]
#[case::priority("priorityClassName", json!("x"), "PriorityClass x")]
#[case::semaphore("synchronization.semaphores.0.configMapKeyRef.name", json!("x"), "ConfigMap x")]
#[case::inputs("inputs.parameters.0.valueFrom.configMapKeyRef.name", json!("x"), "ConfigMap x")]
#[case::outputs("outputs.parameters.0.valueFrom.configMapKeyRef.name", json!("x"), "ConfigMap x")]
#[case::s3("inputs.artifacts.0.s3.encryptionOptions.serverSideCustomerKeySecret.name", json!("x"), "Secret x")]
#[case::gcs("outputs.artifacts.0.gcs.serviceAccountKeySecret.name", json!("x"), "Secret x")]
#[case::azure("inputs.artifacts.0.azure.accountKeySecret.name", json!("x"), "Secret x")]
#[case::oss("inputs.artifacts.0.oss.secretKeySecret.name", json!("x"), "Secret x")]
#[case::artifactory("inputs.artifacts.0.artifactory.passwordSecret.name", json!("x"), "Secret x")]
#[case::git("inputs.artifacts.0.git.sshPrivateKeySecret.name", json!("x"), "Secret x")]
#[case::hdfs("inputs.artifacts.0.hdfs", json!({"krbKeytabSecret": {"name": "x"}, "krbConfigConfigMap": {"name": "y"}}), "ConfigMap y, Secret x")]
#[case::http("inputs.artifacts.0.http.auth.oauth2.clientIDSecret.name", json!("x"), "Secret x")]
#[case::artifact_gc("outputs.artifacts.0.artifactGC.serviceAccountName", json!("x"), "ServiceAccount x")]
#[case::archive("archiveLocation.s3.accessKeySecret.name", json!("x"), "Secret x")]
#[case::data("data.source.artifactPaths.s3.accessKeySecret.name", json!("x"), "Secret x")]
#[case::manifest("resource.manifestFrom.artifact.s3.accessKeySecret.name", json!("x"), "Secret x")]
#[case::http_headers("http.headers.0.valueFrom.secretKeyRef.name", json!("x"), "Secret x")]
#[case::step("steps.0.0.templateRef", json!({"name": "x", "template": "t"}), "WorkflowTemplate x/t")]
#[case::cluster_scope("steps.0.0.templateRef", json!({"name": "x", "template": "t", "clusterScope": true}), "ClusterWorkflowTemplate x/t")]
#[case::step_arguments("steps.0.0.arguments.parameters.0.valueFrom.configMapKeyRef.name", json!("x"), "ConfigMap x")]
#[case::step_hooks("steps.0.0.hooks.running.templateRef", json!({"name": "x", "template": "t"}), "WorkflowTemplate x/t")]
#[case::task("dag.tasks.0.templateRef", json!({"name": "x", "template": "t"}), "WorkflowTemplate x/t")]
#[case::task_arguments("dag.tasks.0.arguments.artifacts.0.git.usernameSecret.name", json!("x"), "Secret x")]
#[case::task_hooks("dag.tasks.0.hooks.exit.templateRef", json!({"name": "x", "template": "t"}), "WorkflowTemplate x/t")]
#[case::inline("steps.0.0.inline.container.envFrom.0.secretRef.name", json!("x"), "Secret x")]
#[case::inline_in_inline("dag.tasks.0.inline.steps.0.0.inline.dag.tasks.0.templateRef", json!({"name": "x", "template": "t"}), "WorkflowTemplate x/t")]
#[case::memoization_is_the_controllers_own("memoize.cache.configMap.name", json!("x"), "")]
fn of_a_template(#[case] path: &str, #[case] value: Value, #[case] expected: &str) {
    let mut template = at(path, value);
    template["name"] = json!("main");
    let spec = json!({"entrypoint": "main", "templates": [template]});
    assert_eq!(found(&spec, Entry::Workflow), expected);
    assert_eq!(found(&spec, Entry::Template("main")), expected);
}

fn library() -> Value {
    let needs =
        |name: &str, secret: &str| json!({"name": name, "container": {"envFrom": [{"secretRef": {"name": secret}}]}});
    let calls = |name: &str, callee: &str| json!({"name": name, "steps": [[{"template": callee}]]});
    json!({
        "serviceAccountName": "of-the-library",
        "templates": [needs("a", "for-a"), needs("b", "for-b"), calls("to-a", "a"), calls("any", "{{item}}"), calls("loop", "loop")],
    })
}

#[rstest]
#[case::only_what_is_reached("to-a", "Secret for-a")]
#[case::any_of_them("any", "Secret for-a, Secret for-b")]
#[case::a_loop_ends("loop", "")]
#[case::no_such_template("none", "")]
fn of_a_library(#[case] template: &str, #[case] expected: &str) {
    assert_eq!(found(&library(), Entry::Template(template)), expected);
}

#[rstest]
#[case::entrypoint(json!({"entrypoint": "to-a"}), "Secret for-a, ServiceAccount of-the-library")]
#[case::handlers(json!({"entrypoint": "loop", "onExit": "a", "hooks": {"h": {"template": "b"}}}), "Secret for-a, Secret for-b, ServiceAccount of-the-library")]
#[case::own_account(json!({"entrypoint": "loop", "serviceAccountName": "own"}), "ServiceAccount own")]
fn of_a_workflow_made_from_a_template(#[case] workflow: Value, #[case] expected: &str) {
    assert_eq!(found(&merged(&workflow, &library()), Entry::Workflow), expected);
}

#[test]
fn what_is_needed_once_is_not_optional() {
    let env = json!([{"configMapRef": {"name": "x", "optional": true}}, {"configMapRef": {"name": "x"}}]);
    let spec = json!({"entrypoint": "m", "templates": [{"name": "m", "container": {"envFrom": env}}]});
    assert_eq!(found(&spec, Entry::Workflow), "ConfigMap x");
}

#[test]
fn the_template_that_it_is_made_from() {
    let name = |value: Value| made_from(&value).map(|reference| reference.to_string()).unwrap_or_default();
    assert_eq!(name(json!({"workflowTemplateRef": {"name": "x"}})), "WorkflowTemplate \"x\"");
    assert_eq!(
        name(json!({"workflowTemplateRef": {"name": "x", "clusterScope": true}})),
        "ClusterWorkflowTemplate \"x\""
    );
    assert_eq!(name(json!({"workflowTemplateRef": {"name": "{{x}}"}})), "");
}

/// JSON that is made of the words that are looked for, in places where they make no sense.
fn anything() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "templates",
        "name",
        "steps",
        "dag",
        "tasks",
        "inline",
        "templateRef",
        "template",
        "hooks",
        "arguments",
        "parameters",
        "valueFrom",
        "configMapKeyRef",
        "volumes",
        "container",
        "env",
        "inputs",
        "artifacts",
        "s3",
        "entrypoint",
        "onExit",
        "workflowTemplateRef",
        "synchronization",
        "semaphores",
        "x",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(8, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((word.clone(), inner), 0..6).prop_map(|fields| Value::from(
                fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<Map<_, _>>()
            )),
        ]
    })
}

proptest! {
    #[test]
    fn any_json_is_walked_and_only_names_come_of_it(workflow in anything(), template in anything(), name in ".{0,6}") {
        let both = merged(&workflow, &template);
        for found in [references(&both, Entry::Workflow), references(&template, Entry::Template(&name))] {
            prop_assert!(found.objects.keys().all(|reference| is_name(&reference.name)));
            prop_assert!(found.calls.iter().all(|call| found.objects.contains_key(&call.of)));
        }
    }
}

fn credentials(reference: Value, stores: bool) -> String {
    let repository = |secret: &str| format!("s3: {{bucket: b, accessKeySecret: {{name: {secret}, key: k}}}}");
    let config_map = json!({
        "metadata": {"name": "artifact-repositories", "annotations": {(DEFAULT_REPOSITORY): "one"}},
        "data": {
            "one": repository("a"), "two": repository("b"), "broken": "{", "logs": format!("archiveLogs: true\n{}", repository("c")),
        },
    });
    let spec = json!({"artifactRepositoryRef": reference});
    let found = of_repository(&spec, &serde_json::from_value(config_map).unwrap(), stores);
    found.keys().map(|reference| reference.name.as_str()).collect::<Vec<_>>().join(" ")
}

#[rstest]
#[case::default(json!(null), true, "a")]
#[case::named(json!({"key": "two"}), true, "b")]
#[case::not_used(json!({"key": "two"}), false, "")]
#[case::logs_go_there(json!({"key": "logs"}), false, "c")]
#[case::no_such_key(json!({"key": "three"}), true, "")]
#[case::no_repository(json!({"key": "broken"}), true, "")]
fn credentials_of_the_repository(#[case] reference: Value, #[case] stores: bool, #[case] expected: &str) {
    assert_eq!(credentials(reference, stores), expected);
}

#[rstest]
#[case::an_output(json!({"outputs": {"artifacts": [{"name": "a", "path": "/a"}]}}), true)]
#[case::with_a_store_of_its_own(json!({"outputs": {"artifacts": [{"name": "a", "s3": {"key": "k"}}]}}), false)]
#[case::raw(json!({"inputs": {"artifacts": [{"name": "a", "raw": {"data": ""}}]}}), false)]
#[case::logs(json!({"archiveLocation": {"archiveLogs": true}}), true)]
#[case::values_alone(json!({"outputs": {"parameters": [{"name": "a"}]}}), false)]
fn what_is_stored_in_the_repository(#[case] template: Value, #[case] stores: bool) {
    let spec = json!({"templates": [template]});
    assert_eq!(references(&spec, Entry::Workflow).stores, stores);
}
