use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

use super::*;

fn spec(value: &Value) -> Spec {
    serde_json::from_str(&value.to_string()).unwrap()
}

/// One WorkflowTemplate `lib` in namespace `team`, one ClusterWorkflowTemplate `shared`.
struct Library;

impl Templates for Library {
    fn workflow_template(&self, namespace: &str, name: &str) -> Option<Arc<Spec>> {
        (namespace == "team" && name == "lib").then(|| {
            Arc::new(spec(&json!({
                "entrypoint": "train", "nodeSelector": {"pool": "lib"},
                "arguments": {"parameters": [{"name": "cpu", "value": "3"}]},
                "templates": [
                    {"name": "train", "container": {"resources": {"requests": {"cpu": "{{workflow.parameters.cpu}}"}}}},
                    {"name": "twice", "steps": [[{"name": "a", "template": "train"}], [{"name": "b", "template": "train"}]]},
                ],
            })))
        })
    }

    fn cluster_workflow_template(&self, name: &str) -> Option<Arc<Spec>> {
        let template = json!({"templates": [{"name": "small", "script": {"resources": {"requests": {"cpu": "1m"}}}}]});
        (name == "shared").then(|| Arc::new(spec(&template)))
    }
}

fn ask(value: &Value) -> Demand {
    demand("team", &spec(value), &Library)
}

/// A container that asks for so much CPU.
fn cpu(cpu: &str) -> Value {
    json!({"name": "main", "resources": {"requests": {"cpu": cpu}}})
}

/// A workflow of these templates, of which `main` is the first; `one` asks for 1 CPU, `two` for 2.
fn workflow(main: Value) -> Value {
    let mut template = json!({"name": "main"});
    template.as_object_mut().unwrap().extend(main.as_object().unwrap().clone());
    json!({"entrypoint": "main", "templates": [
        template, {"name": "one", "container": cpu("1")}, {"name": "two", "container": cpu("2")},
        {"name": "sized", "inputs": {"parameters": [{"name": "cpu", "default": "4"}]}, "container": cpu("{{inputs.parameters.cpu}}")},
    ]})
}

fn peak(demand: &Demand) -> String {
    demand.peak.to_string()
}

#[rstest]
#[case::container(json!({"container": cpu("500m")}), "cpu 500m, pods 1")]
#[case::script(json!({"script": cpu("1")}), "cpu 1, pods 1")]
#[case::limits_only(json!({"container": {"resources": {"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": 1}}}}), "cpu 1, memory 1Gi, pods 1")]
#[case::nothing_asked(json!({"container": {"image": "i"}}), "pods 1")]
#[case::container_set(json!({"containerSet": {"containers": [cpu("1"), cpu("2")]}}), "cpu 3, pods 1")]
#[case::sidecars(json!({"container": cpu("1"), "sidecars": [cpu("2")]}), "cpu 3, pods 1")]
#[case::large_init(json!({"container": cpu("1"), "initContainers": [cpu("2"), cpu("4")]}), "cpu 4, pods 1")]
#[case::small_init(json!({"container": cpu("1"), "initContainers": [cpu("500m")]}), "cpu 1, pods 1")]
#[case::lasting_init(json!({"container": cpu("1"), "initContainers": [{"restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}}]}), "cpu 2, pods 1")]
#[case::resource(json!({"resource": {"action": "get"}}), "pods 1")]
#[case::data(json!({"data": {}}), "pods 1")]
#[case::http(json!({"http": {"url": "u"}}), "pods 1")]
#[case::suspend(json!({"suspend": {}}), "")]
#[case::devices(json!({"container": {"resources": {"limits": {"nvidia.com/gpu": 1}}}}), "nvidia.com/gpu 1, pods 1")]
#[case::steps(json!({"steps": [[{"name": "a", "template": "one"}, {"name": "b", "template": "two"}], [{"name": "c", "template": "two"}]]}), "cpu 3, pods 2")]
#[case::inline(json!({"steps": [[{"name": "a", "inline": {"container": cpu("7")}}]]}), "cpu 7, pods 1")]
#[case::items(json!({"steps": [[{"name": "a", "template": "one", "withItems": [1, {"x": 2}, [3]]}]]}), "cpu 3, pods 3")]
#[case::sequence(json!({"steps": [[{"name": "a", "template": "one", "withSequence": {"count": "5"}}]]}), "cpu 5, pods 5")]
#[case::backward_sequence(json!({"steps": [[{"name": "a", "template": "one", "withSequence": {"start": "4", "end": 2}}]]}), "cpu 3, pods 3")]
#[case::known_list(json!({"steps": [[{"name": "a", "template": "one", "withParam": "[1, 2]"}]]}), "cpu 2, pods 2")]
#[case::some_at_a_time(json!({"parallelism": 2, "steps": [[{"name": "a", "template": "one", "withSequence": {"count": "8"}}]]}), "cpu 2, pods 2")]
#[case::dag_list(json!({"dag": {"tasks": [{"name": "a", "template": "one"}, {"name": "b", "template": "two", "dependencies": ["a"]}, {"name": "c", "template": "two", "dependencies": ["a"]}, {"name": "d", "template": "one", "dependencies": ["b", "c"]}]}}), "cpu 4, pods 2")]
#[case::dag_expression(json!({"dag": {"tasks": [{"name": "a", "template": "one"}, {"name": "b", "template": "two", "depends": "a.Succeeded || !a.Failed"}]}}), "cpu 2, pods 1")]
#[case::cyclic_dag(json!({"dag": {"tasks": [{"name": "a", "template": "one", "depends": "b"}, {"name": "b", "template": "one", "depends": "a"}]}}), "cpu 2, pods 2")]
#[case::exit_handler_of_a_step(json!({"steps": [[{"name": "a", "template": "one", "onExit": "two"}]]}), "cpu 2, pods 1")]
#[case::hooks_run_beside(json!({"steps": [[{"name": "a", "template": "one", "hooks": {"running": {"template": "two"}}}]]}), "cpu 3, pods 2")]
#[case::recursion(json!({"steps": [[{"name": "a", "template": "one"}], [{"name": "b", "template": "main"}]]}), "cpu 1, pods 1")]
#[case::argument(json!({"steps": [[{"name": "a", "template": "sized", "arguments": {"parameters": [{"name": "cpu", "value": "2"}]}}]]}), "cpu 2, pods 1")]
#[case::default(json!({"steps": [[{"name": "a", "template": "sized"}]]}), "cpu 4, pods 1")]
#[case::template_ref(json!({"steps": [[{"name": "a", "templateRef": {"name": "shared", "template": "small", "clusterScope": true}}]]}), "cpu 1m, pods 1")]
fn what_a_template_asks_for(#[case] main: Value, #[case] expected: &str) {
    let demand = ask(&workflow(main));
    assert_eq!((peak(&demand).as_str(), demand.unknown), (expected, vec![]));
}

#[test]
fn only_what_the_entrypoint_leads_to_counts_and_exit_handlers_come_after() {
    let mut workflow = workflow(json!({"steps": [[{"name": "a", "template": "one"}]]}));
    assert_eq!(peak(&ask(&workflow)), "cpu 1, pods 1");
    workflow["onExit"] = json!("two");
    assert_eq!(peak(&ask(&workflow)), "cpu 2, pods 1");
    workflow["hooks"] = json!({"running": {"template": "sized"}});
    let demand = ask(&workflow);
    assert_eq!(peak(&demand), "cpu 4, pods 1");
    let pods: Vec<&str> = demand.pods.iter().map(|pod| pod.template.as_str()).collect();
    assert_eq!(pods, ["one", "two", "sized"]);
}

#[test]
fn a_workflow_made_from_a_template_has_its_entrypoint_parameters_and_nodes() {
    let demand = ask(&json!({"workflowTemplateRef": {"name": "lib"}}));
    assert_eq!(peak(&demand), "cpu 3, pods 1");
    assert_eq!(demand.pods[0].node_selector, [("pool".to_owned(), "lib".to_owned())].into());
    let own = json!({
        "workflowTemplateRef": {"name": "lib"}, "entrypoint": "twice", "nodeSelector": {"pool": "own"},
        "arguments": {"parameters": [{"name": "cpu", "value": "5"}]},
    });
    let demand = ask(&own);
    assert_eq!(peak(&demand), "cpu 5, pods 1");
    assert_eq!(demand.pods[0].node_selector, [("pool".to_owned(), "own".to_owned())].into());
}

#[test]
fn a_template_leaves_open_what_its_caller_its_defaults_or_its_workflow_say() {
    let mut workflow =
        workflow(json!({"steps": [[{"name": "a", "template": "bare"}]], "nodeSelector": {"by": "caller"}}));
    workflow["templates"].as_array_mut().unwrap().push(json!({"name": "bare", "container": {"image": "i"}}));
    workflow["nodeSelector"] = json!({"by": "workflow"});
    workflow["tolerations"] = json!([{"key": "k", "operator": "Exists"}]);
    workflow["templateDefaults"] = json!({"container": cpu("9"), "sidecars": [cpu("1")]});
    let demand = ask(&workflow);
    assert_eq!(peak(&demand), "cpu 10, pods 1");
    assert_eq!(demand.pods[0].node_selector["by"], "caller");
    assert_eq!(demand.pods[0].tolerations[0].key.as_deref(), Some("k"));
}

#[rstest]
#[case::quantity(json!({"container": cpu("{{inputs.parameters.x}}")}), "template \"main\", container \"main\": requests.cpu is \"{{inputs.parameters.x}}\", which is known only at run time")]
#[case::no_quantity(json!({"container": cpu("much")}), "template \"main\", container \"main\": requests.cpu is \"much\", which is no quantity")]
#[case::output(json!({"steps": [[{"name": "a", "template": "sized", "arguments": {"parameters": [{"name": "cpu", "value": "{{steps.x.outputs.result}}"}]}}]]}), "template \"sized\", container \"main\": requests.cpu is \"{{inputs.parameters.cpu}}\", which is known only at run time")]
#[case::list(json!({"steps": [[{"name": "a", "template": "one", "withParam": "{{steps.x.outputs.result}}"}]]}), "how often \"a\" is repeated is known only at run time")]
#[case::template(json!({"steps": [[{"name": "a", "template": "three"}]]}), "there is no template \"three\"")]
#[case::reference(json!({"steps": [[{"name": "a", "templateRef": {"name": "x", "template": "y"}}]]}), "there is no WorkflowTemplate \"x\"")]
#[case::patch(json!({"container": cpu("1"), "podSpecPatch": "{}"}), "template \"main\" has a podSpecPatch, which may change what its pods ask for")]
#[case::affinity(json!({"container": cpu("1"), "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}}}), "template \"main\" has a node affinity, which is not looked at")]
fn what_only_a_run_can_tell_is_said(#[case] main: Value, #[case] expected: &str) {
    assert_eq!(ask(&workflow(main)).unknown, [expected]);
}

#[test]
fn a_spec_that_argo_could_not_read_either_is_no_error() {
    for odd in [json!("x"), json!(1), json!([]), json!({"templates": 5}), json!({"templates": [{"steps": "x"}]})] {
        let demand = ask(&odd);
        assert!(demand.pods.is_empty());
        assert!(odd == json!([]) || demand.unknown[0].starts_with("spec cannot be read: "), "{demand:?}");
    }
}

#[test]
fn nested_doubling_ends() {
    let level = |n: usize| {
        let call = |name: &str| json!({"name": name, "template": format!("t{}", n + 1)});
        json!({"name": format!("t{n}"), "steps": [[call("a"), call("b")]]})
    };
    let mut templates: Vec<Value> = (0..40).map(level).collect();
    templates.push(json!({"name": "t40", "container": cpu("1")}));
    let demand = ask(&json!({"entrypoint": "t0", "templates": templates}));
    assert_eq!(demand.peak.get("pods"), 1 << 40);
}

proptest! {
    #[test]
    fn the_same_spec_asks_for_the_same(
        templates in prop::collection::vec((0..4usize, 0..4usize, 0..3usize), 1..5),
        quantity in "[0-9]{1,3}m?|[{]{2}inputs.parameters.x[}]{2}|",
    ) {
        let templates: Vec<Value> = templates.iter().enumerate().map(|(i, (a, b, kind))| {
            let call = |name: &str, to: usize| json!({"name": name, "template": format!("t{to}"), "depends": "b"});
            let name = format!("t{i}");
            match kind {
                0 => json!({"name": name, "steps": [[call("a", *a), call("b", *b)]]}),
                1 => json!({"name": name, "dag": {"tasks": [call("a", *a), call("b", *b)]}}),
                _ => json!({"name": name, "container": cpu(&quantity)}),
            }
        }).collect();
        let value = json!({"entrypoint": "t0", "templates": templates});
        let demand = ask(&value);
        prop_assert_eq!(&ask(&value), &demand);
        let one_pod = demand.pods.iter().all(|pod| pod.requests.fits_in(&demand.peak));
        prop_assert!(one_pod, "the peak holds each of its pods");
    }
}
