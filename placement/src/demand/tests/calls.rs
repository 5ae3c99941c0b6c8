//! Which templates a workflow leads to, and with which parameters.

use rstest::rstest;

use super::*;

/// A call of `sized` with this argument.
fn sized(asks: &str) -> Value {
    with(call("a", "sized"), &json!({"arguments": {"parameters": [{"name": "cpu", "value": asks}]}}))
}

fn reference(name: &str, template: &str) -> Value {
    json!({"name": "a", "templateRef": {"name": name, "template": template}})
}

#[rstest]
#[case::template(call("a", "one"), "cpu 1, pods 1")]
#[case::inline(json!({"name": "a", "inline": {"container": cpu("7")}}), "cpu 7, pods 1")]
#[case::inline_in_inline(json!({"name": "a", "inline": {"steps": [[{"name": "a", "inline": {"dag": {"tasks": [call("a", "two")]}}}]]}}), "cpu 2, pods 1")]
#[case::template_ref(reference("lib", "one"), "cpu 100m, pods 1")]
#[case::a_template_ref_looks_up_others_beside_it(reference("lib", "has-one"), "cpu 100m, pods 1")]
#[case::a_template_ref_leaves_its_own_defaults_behind(reference("lib", "bare"), "pods 1")]
#[case::cluster_scope(json!({"name": "a", "templateRef": {"name": "shared", "template": "small", "clusterScope": true}}), "cpu 1m, pods 1")]
#[case::argument(sized("2"), "cpu 2, pods 1")]
#[case::number_as_argument(json!({"name": "a", "template": "sized", "arguments": {"parameters": [{"name": "cpu", "value": 0.5}]}}), "cpu 500m, pods 1")]
#[case::default(call("a", "sized"), "cpu 4, pods 1")]
#[case::argument_in_parts(sized("{{workflow.parameters.cores}}00m"), "cpu 600m, pods 1")]
#[case::argument_from_an_argument(sized("{{workflow.parameters.twice}}"), "cpu 66, pods 1")]
#[case::argument_from_the_callers_default(sized("{{ inputs.parameters.mine }}"), "cpu 8, pods 1")]
#[case::argument_from_the_callers_argument(sized("{{inputs.parameters.cores}}"), "cpu 6, pods 1")]
#[case::items(with(call("a", "one"), &json!({"withItems": [1, {"x": 2}, [3], null]})), "cpu 3, pods 3")]
#[case::arguments_from_items(with(sized("{{item}}"), &json!({"withItems": [1, 2]})), "cpu 3, pods 2")]
#[case::arguments_from_keys_of_items(with(sized("{{item.cpu}}"), &json!({"withItems": [{"cpu": "1"}, {"cpu": "{{workflow.parameters.cores}}"}]})), "cpu 7, pods 2")]
#[case::known_list(with(sized("{{item}}"), &json!({"withParam": "[1, 2, 3]"})), "cpu 6, pods 3")]
#[case::list_in_a_parameter(with(sized("{{item.c}}"), &json!({"withParam": "{{workflow.parameters.list}}"})), "cpu 5, pods 2")]
#[case::empty_list(with(call("a", "one"), &json!({"withParam": "[]"})), "")]
#[case::sequence(with(call("a", "one"), &json!({"withSequence": {"count": "{{workflow.parameters.cores}}"}})), "cpu 6, pods 6")]
#[case::backward_sequence(with(call("a", "one"), &json!({"withSequence": {"start": "4", "end": 2}})), "cpu 3, pods 3")]
#[case::recursion(json!({"name": "a", "template": "main"}), "")]
fn what_a_call_asks_for(#[case] call: Value, #[case] expected: &str) {
    let main = json!({
        "steps": [[call]],
        "inputs": {"parameters": [{"name": "mine", "default": "8"}, {"name": "cores", "value": "1"}]},
    });
    let arguments = json!({"parameters": [
        {"name": "cores", "value": 6},
        {"name": "twice", "value": "{{workflow.parameters.cores}}{{workflow.parameters.cores}}"},
        {"name": "list", "value": "[{\"c\": 2}, {\"c\": \"3\"}]"},
    ]});
    let workflow = with(workflow(&main), &json!({"arguments": arguments}));
    assert_eq!(asked(&workflow), (expected.to_owned(), vec![]));
}

#[rstest]
#[case::output(
    sized("{{steps.x.outputs.result}}"),
    "template \"sized\", container \"main\": requests.cpu is \"{{inputs.parameters.cpu}}\", which is known only at run time"
)]
#[case::value_from(with(call("a", "sized"), &json!({"arguments": {"parameters": [{"name": "cpu", "valueFrom": {"configMapKeyRef": {}}}]}})), "template \"sized\", container \"main\": requests.cpu is \"{{inputs.parameters.cpu}}\", which is known only at run time")]
#[case::circle(
    sized("{{workflow.parameters.circle}}"),
    "template \"sized\", container \"main\": requests.cpu is \"{{inputs.parameters.cpu}}\", which is known only at run time"
)]
#[case::list(with(call("a", "one"), &json!({"withParam": "{{steps.x.outputs.result}}"})), "how often template \"main\" repeats \"a\" is known only at run time")]
#[case::count(with(call("a", "one"), &json!({"withSequence": {"count": "{{inputs.parameters.n}}"}})), "how often template \"main\" repeats \"a\" is known only at run time")]
#[case::template(call("a", "three"), "there is no template \"three\"")]
#[case::reference(reference("x", "y"), "there is no WorkflowTemplate \"x\"")]
#[case::cluster_reference(json!({"name": "a", "templateRef": {"name": "lib", "template": "one", "clusterScope": true}}), "there is no ClusterWorkflowTemplate \"lib\"")]
#[case::template_of_a_reference(reference("lib", "three"), "WorkflowTemplate \"lib\" has no template \"three\"")]
#[case::in_a_template_of_a_reference(
    reference("lib", "train"),
    "template \"lib/train\", container \"main\": requests.cpu is \"{{workflow.parameters.cpu}}\", which is known only at run time"
)]
fn what_only_a_run_can_tell_is_said(#[case] call: Value, #[case] expected: &str) {
    let arguments = json!({"parameters": [{"name": "circle", "value": "{{workflow.parameters.circle}}"}]});
    let workflow = with(workflow(&json!({"steps": [[call]]})), &json!({"arguments": arguments}));
    assert_eq!(ask(&workflow).unknown, [expected]);
}

#[rstest]
#[case::missing(json!({"workflowTemplateRef": {"name": "x"}, "entrypoint": "main"}), "there is no WorkflowTemplate \"x\"")]
#[case::missing_for_all(json!({"workflowTemplateRef": {"name": "x", "clusterScope": true}}), "there is no ClusterWorkflowTemplate \"x\"")]
#[case::no_entrypoint(json!({"templates": [{"name": "a", "container": {}}]}), "the spec names no entrypoint")]
#[case::no_such_entrypoint(json!({"entrypoint": "b"}), "there is no template \"b\"")]
fn a_workflow_without_a_beginning_asks_for_nothing_known(#[case] spec: Value, #[case] expected: &str) {
    assert_eq!(asked(&spec), (String::new(), vec![expected.to_owned()]));
}

#[rstest]
#[case::its_entrypoint_and_arguments(json!({}), "cpu 3, pods 1")]
#[case::own_entrypoint(json!({"entrypoint": "one"}), "cpu 100m, pods 1")]
#[case::own_arguments(json!({"arguments": {"parameters": [{"name": "cpu", "value": "5"}]}}), "cpu 5, pods 1")]
#[case::its_defaults(json!({"entrypoint": "bare"}), "cpu 20m, pods 1")]
#[case::own_defaults_before_its(json!({"entrypoint": "bare", "templateDefaults": {"container": cpu("30m")}}), "cpu 30m, pods 1")]
#[case::own_exit_handler(json!({"onExit": "twice", "arguments": {"parameters": [{"name": "cpu", "value": "7"}]}}), "cpu 7, pods 1")]
fn a_workflow_made_from_a_template_adds_to_it(#[case] own: Value, #[case] expected: &str) {
    let spec = with(json!({"workflowTemplateRef": {"name": "lib"}}), &own);
    assert_eq!(asked(&spec), (expected.to_owned(), vec![]));
}

#[test]
fn selectors_of_a_workflow_and_its_template_are_merged() {
    let demand = ask(&json!({"workflowTemplateRef": {"name": "lib"}, "nodeSelector": {"pool": "own"}}));
    let expected = [("disk", "ssd"), ("pool", "own")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(demand.pods[0].node_selector, expected.into());
}

#[test]
fn only_what_the_entrypoint_leads_to_counts() {
    let pods = |value: &Value| ask(value).pods.into_iter().map(|pod| pod.template).collect::<Vec<_>>();
    let mut workflow = workflow(&json!({"steps": [[call("a", "one"), reference("lib", "one")]]}));
    assert_eq!(pods(&workflow), ["one", "lib/one"]);
    workflow["onExit"] = json!("two");
    workflow["hooks"] = json!({"running": {"template": "sized"}});
    assert_eq!(pods(&workflow), ["one", "lib/one", "sized", "two"]);
}

#[test]
fn pods_that_are_alike_are_told_once() {
    let same = json!({"name": "a", "inline": {"script": cpu("1000m")}});
    assert_eq!(ask(&workflow(&json!({"steps": [[call("a", "one"), same, call("c", "one")]]}))).pods.len(), 1);
}
