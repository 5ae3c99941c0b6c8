//! Specs as nobody writes them, or as somebody writes them who means harm.

use std::fmt::Write;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use rstest::rstest;

use super::*;

#[rstest]
#[case::text(json!("x"), "the spec has a wrong type")]
#[case::list(json!([{}]), "the spec has a wrong type")]
#[case::templates(json!({"templates": 5}), "the spec: templates has a wrong type and counts as absent")]
#[case::template(json!({"templates": [5, {"name": "main", "container": {}}]}), "the spec: templates[0] has a wrong type and counts as absent")]
#[case::quantity(json!({"templates": [{"name": "main", "container": {"resources": {"requests": {"cpu": ["1"]}}}}]}), "template \"main\": container.resources.requests[\"cpu\"] has a wrong type and counts as absent")]
#[case::steps(json!({"templates": [{"name": "main", "container": {}, "steps": [{}]}]}), "template \"main\": steps[0] has a wrong type and counts as absent")]
#[case::defaults(json!({"templateDefaults": {"sidecars": {}}, "templates": [{"name": "main", "container": {}}]}), "templateDefaults: sidecars has a wrong type and counts as absent")]
fn a_field_of_a_wrong_type_counts_as_absent(#[case] mut spec: Value, #[case] expected: &str) {
    if let Some(spec) = spec.as_object_mut() {
        spec.insert("entrypoint".to_owned(), json!("main"));
    }
    assert_eq!(ask(&spec).unknown.last().unwrap(), expected);
}

#[test]
fn only_oddities_on_the_way_are_told() {
    let mut workflow = workflow(&json!({"container": cpu("1"), "sidecars": null}));
    workflow["templates"].as_array_mut().unwrap().push(json!({"name": "unused", "container": 5}));
    assert_eq!(asked(&workflow), ("cpu 1, pods 1".to_owned(), vec![]));
}

#[test]
fn sentences_are_few_and_short() {
    let long = "x".repeat(100_000);
    let calls: Vec<Value> = (0..100).map(|n| call(&format!("c{n}"), &format!("{n}{long}"))).collect();
    let unknown = ask(&workflow(&json!({"steps": [calls]}))).unknown;
    assert_eq!(unknown.len(), UNKNOWN);
    assert!(unknown.iter().all(|sentence| sentence.len() < 300));
}

#[test]
fn of_many_pods_the_largest_are_kept() {
    let demand = ask(&different_pods());
    let largest = demand.pods.iter().map(|pod| pod.requests.get("cpu")).max();
    assert_eq!((largest, demand.unknown), (Some(7_999), vec![]));
    assert!(demand.pods.len() <= EXACT);
}

/// One template that calls the next one twice, and so on.
fn doubling(levels: usize, arguments: &Value) -> Value {
    let next = |level: usize| {
        let call = |name: &str| with(call(name, &format!("t{}", level + 1)), &json!({"arguments": arguments}));
        json!({
            "name": format!("t{level}"), "steps": [[call("a"), call("b")]],
            "inputs": {"parameters": [{"name": "x", "default": "1"}]},
        })
    };
    let mut templates: Vec<Value> = (0..levels).map(next).collect();
    let last = json!({
        "name": format!("t{levels}"), "container": cpu("{{inputs.parameters.x}}"),
        "inputs": {"parameters": [{"name": "x", "default": "1"}]},
    });
    templates.push(last);
    json!({"entrypoint": "t0", "templates": templates})
}

#[test]
fn what_is_called_again_is_known() {
    assert_eq!(ask(&doubling(40, &json!({}))).peak.get("pods"), 1 << 40);
}

fn growing() -> Value {
    let twice = json!({"parameters": [{"name": "x", "value": "{{inputs.parameters.x}}{{inputs.parameters.x}}"}]});
    doubling(60, &twice)
}

/// A call within each template, and only the last one has a pod.
fn deep() -> Value {
    doubling(5_000, &json!({}))
}

/// All templates call all.
fn tangle() -> Value {
    let all =
        |n: usize| -> Vec<Value> { (0..60).map(|other| call(&format!("{n}-{other}"), &format!("t{other}"))).collect() };
    let templates: Vec<Value> = (0..60).map(|n| json!({"name": format!("t{n}"), "steps": [all(n)]})).collect();
    json!({"entrypoint": "t0", "templates": templates})
}

fn long_chain() -> Value {
    let task = |n: usize| with(call(&format!("t{n}"), "one"), &json!({"depends": format!("t{}", n + 1)}));
    workflow(&json!({"dag": {"tasks": (0..15_000).map(task).collect::<Vec<_>>()}}))
}

/// Each item makes another pod, with many resources.
fn loops() -> Value {
    let requests: BTreeMap<String, Value> =
        (0..3_000).map(|n| (format!("r{n}"), json!("{{inputs.parameters.cpu}}"))).collect();
    let arguments = json!({"parameters": [{"name": "cpu", "value": "{{item}}"}]});
    let items: Vec<usize> = (0..20_000).collect();
    let call = with(call("a", "wide"), &json!({"arguments": arguments, "withItems": items}));
    let mut workflow = workflow(&json!({"steps": [[call.clone()], [call]]}));
    let wide = json!({
        "name": "wide", "container": {"resources": {"requests": requests}},
        "inputs": {"parameters": [{"name": "cpu"}]},
    });
    workflow["templates"].as_array_mut().unwrap().push(wide);
    workflow
}

fn different_pods() -> Value {
    let template = |n: usize| json!({"name": format!("t{n}"), "container": cpu(&format!("{n}m"))});
    let mut templates: Vec<Value> = (0..8_000).map(template).collect();
    let calls: Vec<Value> = (0..8_000).map(|n| call(&format!("c{n}"), &format!("t{n}"))).collect();
    templates.push(json!({"name": "main", "steps": [calls]}));
    json!({"entrypoint": "main", "templates": templates})
}

/// What lasts has to be counted in each group.
fn empty_groups() -> Value {
    let requests: BTreeMap<String, u8> = (0..3_000).map(|n| (format!("r{n}"), 1)).collect();
    let mut groups = vec![json!([]); 100_000];
    groups[0] = json!([{"name": "a", "inline": {"daemon": true, "container": {"resources": {"requests": requests}}}}]);
    workflow(&json!({"steps": groups}))
}

/// What is merged by name or key, with itself.
fn long_lists() -> Value {
    let tolerations: Vec<Value> = (0..60_000).map(|n| json!({"key": format!("k{n}")})).collect();
    let containers: Vec<Value> = (0..30_000).map(|n| json!({"name": format!("c{n}")})).collect();
    let mut workflow = workflow(&json!({"container": {}, "tolerations": tolerations, "sidecars": containers}));
    workflow["templateDefaults"] = json!({"tolerations": tolerations, "sidecars": containers});
    workflow
}

#[rstest]
#[case::long_lists(&long_lists())]
#[case::growing(&growing())]
#[case::deep(&deep())]
#[case::tangle(&tangle())]
#[case::long_chain(&long_chain())]
#[case::loops(&loops())]
#[case::different_pods(&different_pods())]
#[case::empty_groups(&empty_groups())]
fn no_spec_takes_long(#[case] value: &Value) {
    let spec = spec(value);
    let begin = Instant::now();
    demand("team", &spec, &Library);
    let took = begin.elapsed();
    // Far less on any machine; without bounds it would be minutes, or no end.
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn inline_templates_nest_without_end() {
    let mut text = String::from(r#"{"entrypoint":"t","templates":[{"name":"t","#);
    for _ in 0..5_000 {
        text.write_str(r#""steps":[[{"name":"a","inline":{"#).unwrap();
    }
    text.write_str(r#""container":{}"#).unwrap();
    text.write_str(&"}}]]".repeat(5_000)).unwrap();
    text.write_str("}]}").unwrap();
    let spec: Spec = serde_json::from_str(&text).unwrap();
    assert!(demand("team", &spec, &NoTemplates).unknown[0].ends_with("has a wrong type and counts as absent"));
}

/// JSON that has the names of fields at any place.
fn anything() -> impl Strategy<Value = Value> {
    let text = "main|a|b|exit|\\{\\{item\\}\\}|\\{\\{inputs.parameters.a\\}\\}|\\{\\{workflow.parameters.a\\}\\}|[0-9]{1,3}m?|a && b.Failed|.{0,4}";
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (0..20_i64).prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    let key = "entrypoint|templates|arguments|parameters|name|value|default|valueFrom|container|script|containerSet|containers|\
        resources|requests|limits|cpu|steps|dag|tasks|template|templateRef|inline|withItems|withParam|withSequence|count|start|\
        end|hooks|exit|onExit|depends|dependencies|inputs|suspend|http|sidecars|initContainers|parallelism|templateDefaults|\
        nodeSelector|tolerations|key|target|podResources|workflowTemplateRef|clusterScope";
    leaf.prop_recursive(8, 256, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(key, inner, 0..8).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

/// Templates that make some sense and call each other.
fn workflows() -> impl Strategy<Value = Value> {
    let quantity = "[0-9]{1,3}m?|\\{\\{inputs.parameters.x\\}\\}|";
    let template = (0..5_usize, 0..5_usize, 0..3_usize, quantity, prop::option::of(0..4_u64), anything());
    let template = template.prop_map(|(a, b, kind, quantity, parallelism, anything)| {
        let argument = json!({"parameters": [{"name": "x", "value": "{{item}}"}]});
        let call = |name: &str, to: usize| {
            json!({"name": name, "template": format!("t{to}"), "depends": "b", "arguments": argument, "withItems": anything})
        };
        let kind = match kind {
            0 => json!({"steps": [[call("a", a), call("b", b)]]}),
            1 => json!({"dag": {"tasks": [call("a", a), call("b", b)]}}),
            _ => json!({"container": cpu(&quantity), "sidecars": anything}),
        };
        with(kind, &json!({"parallelism": parallelism, "inputs": {"parameters": [{"name": "x"}]}}))
    });
    prop::collection::vec(template, 1..5).prop_map(|templates| {
        let named = templates.iter().enumerate().map(|(n, template)| with(json!({"name": format!("t{n}")}), template));
        json!({"entrypoint": "t0", "onExit": "t1", "templates": named.collect::<Vec<_>>()})
    })
}

proptest! {
    #[test]
    fn any_json_is_a_spec(spec in anything()) {
        let read: Result<Spec, _> = serde_json::from_str(&spec.to_string());
        let read = read.unwrap();
        prop_assert_eq!(&read, &serde_json::from_value(spec).unwrap());
        demand("team", &read, &Library);
    }

    #[test]
    fn the_same_spec_asks_for_the_same(value in workflows()) {
        let demand = ask(&value);
        prop_assert_eq!(&ask(&value), &demand);
        prop_assert!(demand.pods.iter().all(|pod| pod.requests.fits_in(&demand.peak)), "the peak holds each of its pods");
    }
}
