//! What one pod asks for, and where it may run.

use rstest::rstest;

use super::*;

/// A container of this name that asks for so much CPU.
fn named(name: &str, asks: &str) -> Value {
    with(cpu(asks), &json!({"name": name}))
}

fn lasting(asks: &str) -> Value {
    with(cpu(asks), &json!({"restartPolicy": "Always"}))
}

#[rstest]
#[case::container(json!({"container": cpu("500m")}), "cpu 500m, pods 1")]
#[case::script(json!({"script": cpu("1")}), "cpu 1, pods 1")]
#[case::container_set(json!({"containerSet": {"containers": [cpu("1"), cpu("2")]}}), "cpu 3, pods 1")]
#[case::resource(json!({"resource": {"action": "get"}}), "pods 1")]
#[case::data(json!({"data": {}}), "pods 1")]
#[case::http_by_the_agent(json!({"http": {"url": "u"}}), "cpu 10m, memory 62500Ki, pods 1")]
#[case::plugin_by_the_agent(json!({"plugin": {"hello": {}}}), "cpu 10m, memory 62500Ki, pods 1")]
#[case::one_agent_for_all(json!({"steps": [[call("a", "main2"), call("b", "one")], [call("c", "main2")]]}), "cpu 1010m, memory 62500Ki, pods 2")]
#[case::suspend(json!({"suspend": {}}), "")]
#[case::nothing_asked(json!({"container": {"image": "i"}}), "pods 1")]
#[case::a_limit_without_request_is_one(json!({"container": {"resources": {"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": 1}}}}), "cpu 1, memory 1Gi, pods 1")]
#[case::devices(json!({"container": {"resources": {"limits": {"nvidia.com/gpu": 1}}}}), "nvidia.com/gpu 1, pods 1")]
#[case::sidecars_run_beside(json!({"container": cpu("1"), "sidecars": [cpu("2"), cpu("3")]}), "cpu 6, pods 1")]
#[case::large_init_before(json!({"container": cpu("1"), "initContainers": [cpu("2"), cpu("4")]}), "cpu 4, pods 1")]
#[case::small_init_before(json!({"container": cpu("1"), "initContainers": [cpu("500m")]}), "cpu 1, pods 1")]
#[case::lasting_init(json!({"container": cpu("1"), "initContainers": [lasting("1")]}), "cpu 2, pods 1")]
#[case::init_beside_a_lasting_one(json!({"container": cpu("1"), "initContainers": [lasting("1"), cpu("3")]}), "cpu 4, pods 1")]
#[case::init_before_a_lasting_one(json!({"container": cpu("1"), "initContainers": [cpu("3"), lasting("1")]}), "cpu 3, pods 1")]
#[case::whole_pod(json!({"container": cpu("1"), "podResources": {"requests": {"cpu": "5"}, "limits": {"memory": "1Gi"}}}), "cpu 5, memory 1Gi, pods 1")]
#[case::limit_of_whole_pod(json!({"container": cpu("1"), "podResources": {"limits": {"cpu": "5"}}}), "cpu 1, pods 1")]
fn asks_for_what_its_containers_need(#[case] main: Value, #[case] expected: &str) {
    let mut workflow = workflow(&main);
    let agent = json!({"name": "main2", "http": {"url": "u"}});
    workflow["templates"].as_array_mut().unwrap().push(agent);
    assert_eq!(asked(&workflow), (expected.to_owned(), vec![]));
}

#[rstest]
#[case::container(json!({"container": {"image": "i"}}), "cpu 9, memory 1Gi, pods 1")]
#[case::by_resource(json!({"container": cpu("1")}), "cpu 1, memory 1Gi, pods 1")]
#[case::of_another_kind(json!({"script": {"image": "i"}}), "pods 1")]
#[case::whole_list_of_a_container_set(json!({"containerSet": {"containers": [cpu("2")]}}), "cpu 2, pods 1")]
fn template_defaults_say_what_a_template_leaves_open(#[case] main: Value, #[case] expected: &str) {
    let defaults = json!({
        "container": {"resources": {"requests": {"cpu": "9", "memory": "1Gi"}}},
        "containerSet": {"containers": [cpu("7")]},
    });
    let workflow = with(workflow(&main), &json!({"templateDefaults": defaults}));
    assert_eq!(asked(&workflow), (expected.to_owned(), vec![]));
}

#[test]
fn sidecars_of_the_defaults_are_merged_by_name() {
    let main = json!({"container": cpu("1"), "sidecars": [named("log", "2")]});
    let defaults = json!({"sidecars": [named("log", "4"), named("proxy", "8")], "initContainers": [named("i", "12")]});
    let workflow = with(workflow(&main), &json!({"templateDefaults": defaults}));
    assert_eq!(asked(&workflow), ("cpu 12, pods 1".to_owned(), vec![]));
}

/// Selectors of the workflow, of the template that calls the pod's, of the defaults, of the pod's own.
#[rstest]
#[case::of_the_workflow([json!({"by": "workflow"}), json!({}), json!({}), json!({})], "by=workflow")]
#[case::of_the_caller([json!({"by": "workflow", "more": "x"}), json!({"by": "caller"}), json!({}), json!({})], "by=caller")]
#[case::its_own([json!({"by": "workflow"}), json!({"by": "caller"}), json!({}), json!({"by": "template"})], "by=template")]
#[case::with_defaults([json!({"by": "workflow"}), json!({}), json!({"by": "default", "disk": "ssd"}), json!({"by": "template"})], "by=template,disk=ssd")]
#[case::parameter([json!({}), json!({}), json!({}), json!({"arch": "{{workflow.parameters.arch}}"})], "arch=arm64")]
fn runs_on_nodes_with_labels(#[case] selectors: [Value; 4], #[case] expected: &str) {
    let [of_workflow, of_caller, of_defaults, own] = selectors;
    let leaf = json!({"name": "leaf", "container": cpu("1"), "nodeSelector": own});
    let mut workflow = workflow(&json!({"steps": [[call("a", "leaf")]], "nodeSelector": of_caller}));
    workflow["templates"].as_array_mut().unwrap().push(leaf);
    workflow["nodeSelector"] = of_workflow;
    workflow["templateDefaults"] = json!({"nodeSelector": of_defaults});
    workflow["arguments"] = json!({"parameters": [{"name": "arch", "value": "arm64"}]});
    let demand = ask(&workflow);
    let pod = demand.pods.iter().find(|pod| pod.template == "leaf").unwrap();
    let selector: Vec<String> = pod.node_selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!((selector.join(",").as_str(), demand.unknown), (expected, vec![]));
}

/// Keys that are tolerated, one letter each, as above.
#[rstest]
#[case::of_the_workflow(["ab", "", "", ""], "ab")]
#[case::of_the_caller(["a", "b", "", ""], "b")]
#[case::its_own(["a", "b", "", "c"], "c")]
#[case::with_defaults(["a", "", "bc", "cd"], "cdb")]
fn tolerates_taints(#[case] keys: [&str; 4], #[case] expected: &str) {
    let exists = |keys: &str| keys.chars().map(|key| json!({"key": key, "operator": "Exists"})).collect::<Vec<_>>();
    let [of_workflow, of_caller, of_defaults, own] = keys.map(exists);
    let leaf = json!({"name": "leaf", "container": cpu("1"), "tolerations": own});
    let mut workflow = workflow(&json!({"steps": [[call("a", "leaf")]], "tolerations": of_caller}));
    workflow["templates"].as_array_mut().unwrap().push(leaf);
    workflow["tolerations"] = json!(of_workflow);
    workflow["templateDefaults"] = json!({"tolerations": of_defaults});
    let pod = &ask(&workflow).pods[0];
    let keys: String = pod.tolerations.iter().filter_map(|toleration| toleration.key.as_deref()).collect();
    assert_eq!(keys, expected);
}

#[test]
fn one_template_called_from_two_places_may_run_in_two() {
    let calls = |zone: &str| json!({"name": zone, "steps": [[call("x", "one")]], "nodeSelector": {"zone": zone}});
    let mut workflow = workflow(&json!({"steps": [[call("a", "east"), call("b", "west")]]}));
    workflow["templates"].as_array_mut().unwrap().extend([calls("east"), calls("west")]);
    let zones: Vec<String> = ask(&workflow).pods.iter().map(|pod| pod.node_selector["zone"].clone()).collect();
    assert_eq!(zones, ["east", "west"]);
}

#[rstest]
#[case::at_run_time(json!({"container": cpu("{{inputs.parameters.x}}")}), "template \"main\", container \"main\": requests.cpu is \"{{inputs.parameters.x}}\", which is known only at run time")]
#[case::no_quantity(json!({"container": cpu("much")}), "template \"main\", container \"main\": requests.cpu is \"much\", which is no quantity")]
#[case::of_a_sidecar(json!({"container": {}, "sidecars": [named("db", "{{=1+1}}")]}), "template \"main\", container \"db\": requests.cpu is \"{{=1+1}}\", which is known only at run time")]
#[case::of_the_whole_pod(json!({"container": {}, "podResources": {"limits": {"cpu": "x"}}}), "template \"main\", podResources.limits.cpu is \"x\", which is no quantity")]
#[case::selector(json!({"container": {}, "nodeSelector": {"zone": "{{steps.a.outputs.result}}"}}), "template \"main\": nodeSelector zone is \"{{steps.a.outputs.result}}\", which is known only at run time")]
#[case::patch(json!({"container": {}, "podSpecPatch": "{}"}), "template \"main\" has a podSpecPatch, which is not looked at")]
#[case::claims(json!({"container": {}, "resourceClaims": [{"name": "gpu"}]}), "template \"main\" has resourceClaims, which are not looked at")]
#[case::affinity(json!({"container": {}, "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}}}), "template \"main\" has a nodeAffinity, which is not looked at")]
#[case::kind(json!({"image": "i"}), "template \"main\" is of no known kind")]
fn what_cannot_be_told_is_said(#[case] main: Value, #[case] expected: &str) {
    assert_eq!(ask(&workflow(&main)).unknown, [expected]);
}

#[rstest]
#[case(json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{}]}}))]
#[case(json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{}]}}))]
#[case(json!(null))]
fn a_wish_for_nodes_is_no_demand(#[case] affinity: Value) {
    assert_eq!(ask(&workflow(&json!({"container": {}, "affinity": affinity}))).unknown, [""; 0]);
}
