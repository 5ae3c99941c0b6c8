//! What runs at one time.

use rstest::rstest;

use super::*;

fn task(name: &str, template: &str, depends: &str) -> Value {
    with(call(name, template), &json!({"depends": depends}))
}

fn dag(tasks: &[Value]) -> Value {
    json!({"dag": {"tasks": tasks}})
}

#[rstest]
#[case::steps_of_a_group_together(json!({"steps": [[call("a", "one"), call("b", "two")]]}), "cpu 3, pods 2")]
#[case::groups_one_after_the_other(json!({"steps": [[call("a", "one"), call("b", "one")], [call("c", "two")]]}), "cpu 2, pods 2")]
#[case::tasks_at_once(dag(&[call("a", "one"), call("b", "two")]), "cpu 3, pods 2")]
#[case::tasks_in_a_row(dag(&[call("a", "one"), task("b", "two", "a")]), "cpu 2, pods 1")]
#[case::tasks_by_expression(dag(&[call("a", "one"), task("b", "two", "a.Succeeded || (!a.Failed)")]), "cpu 2, pods 1")]
#[case::tasks_by_list(json!({"dag": {"tasks": [
    call("a", "one"),
    {"name": "b", "template": "two", "dependencies": ["a"]},
    {"name": "c", "template": "two", "dependencies": ["a"]},
    {"name": "d", "template": "one", "dependencies": ["b", "c"]},
]}}), "cpu 4, pods 2")]
#[case::tasks_before_they_are_named(dag(&[task("c", "two", "b"), task("b", "one", "a"), call("a", "one")]), "cpu 2, pods 1")]
#[case::tasks_in_a_circle(dag(&[task("a", "one", "b"), task("b", "one", "a")]), "cpu 2, pods 2")]
#[case::only_what_leads_to_the_target(json!({"dag": {"target": "b", "tasks": [call("a", "one"), task("b", "one", "a"), call("c", "two")]}}), "cpu 1, pods 1")]
#[case::exit_handler_of_a_step(json!({"steps": [[with(call("a", "one"), &json!({"onExit": "two"}))]]}), "cpu 2, pods 1")]
#[case::exit_hook_of_a_step(json!({"steps": [[with(call("a", "one"), &json!({"hooks": {"exit": {"template": "two"}}}))]]}), "cpu 2, pods 1")]
#[case::other_hooks_run_beside(json!({"steps": [[with(call("a", "one"), &json!({"hooks": {"running": {"template": "two"}}}))]]}), "cpu 3, pods 2")]
#[case::recursion_comes_after(json!({"steps": [[call("a", "one")], [call("b", "main"), call("c", "two")]]}), "cpu 2, pods 1")]
#[case::daemons_stay(json!({"steps": [[call("d", "daemon")], [call("a", "one")], [call("b", "two")]]}), "cpu 12, pods 2")]
#[case::daemons_end_with_their_caller(json!({"steps": [[{"name": "a", "inline": {"steps": [[call("d", "daemon")]]}}], [call("a", "one")]]}), "cpu 10, pods 1")]
#[case::some_at_a_time(json!({"parallelism": 2, "steps": [[with(call("a", "one"), &json!({"withSequence": {"count": 8}}))]]}), "cpu 2, pods 2")]
#[case::parallelism_counts_calls(json!({"parallelism": 2, "steps": [[{"name": "a", "inline": {"steps": [[call("b", "one"), call("c", "one")]]}, "withItems": [1, 2, 3]}]]}), "cpu 4, pods 4")]
#[case::never_less_than_the_largest(json!({"parallelism": 1, "steps": [[call("a", "one"), call("b", "two"), call("c", "one")]]}), "cpu 2, pods 1")]
fn what_a_template_asks_for_at_one_time(#[case] main: Value, #[case] expected: &str) {
    let mut workflow = workflow(&main);
    let daemon = json!({"name": "daemon", "daemon": true, "container": cpu("10")});
    workflow["templates"].as_array_mut().unwrap().push(daemon);
    assert_eq!(asked(&workflow), (expected.to_owned(), vec![]));
}

#[rstest]
#[case::exit_handler_comes_after(json!({"onExit": "two"}), "cpu 3, pods 3")]
#[case::large_exit_handler(json!({"onExit": "sized"}), "cpu 4, pods 3")]
#[case::exit_hook(json!({"hooks": {"exit": {"template": "sized"}}}), "cpu 4, pods 3")]
#[case::exit_hook_with_arguments(json!({"hooks": {"exit": {"template": "sized", "arguments": {"parameters": [{"name": "cpu", "value": "9"}]}}}}), "cpu 9, pods 3")]
#[case::hooks_run_beside(json!({"hooks": {"running": {"template": "two", "expression": "true"}}}), "cpu 5, pods 4")]
#[case::parallelism(json!({"parallelism": 2}), "cpu 2, pods 2")]
#[case::parallelism_beyond(json!({"parallelism": 20}), "cpu 3, pods 3")]
#[case::never_less_than_a_pod(json!({"parallelism": 1, "onExit": "two"}), "cpu 2, pods 1")]
fn what_a_workflow_asks_for_at_one_time(#[case] more: Value, #[case] expected: &str) {
    let three = json!({"steps": [[with(call("a", "one"), &json!({"withItems": [1, 2, 3]}))]]});
    assert_eq!(asked(&with(workflow(&three), &more)), (expected.to_owned(), vec![]));
}
