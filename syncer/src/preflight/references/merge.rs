//! A Workflow made from a WorkflowTemplate: what runs is both.

use serde_json::Value;

/// The Workflow's spec over the WorkflowTemplate's, as Argo merges them: what the Workflow says counts, objects merge, and
/// so do lists of what has names.
pub fn merged(workflow: &Value, template: &Value) -> Value {
    match (workflow, template) {
        (Value::Null, template) => template.clone(),
        (Value::Object(workflow), Value::Object(template)) => {
            let mut both = template.clone();
            for (field, value) in workflow {
                let value = merged(value, template.get(field).unwrap_or(&Value::Null));
                both.insert(field.clone(), value);
            }
            Value::Object(both)
        }
        (Value::Array(workflow), Value::Array(template)) => {
            let names: Vec<&Value> = workflow.iter().map(|item| &item["name"]).filter(|name| !name.is_null()).collect();
            let rest = template.iter().filter(|item| !names.contains(&&item["name"]));
            Value::Array(workflow.iter().chain(rest).cloned().collect())
        }
        (workflow, _) => workflow.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_workflow_counts_and_the_template_fills_in() {
        let workflow = json!({"serviceAccountName": "own", "arguments": {"parameters": [{"name": "a", "value": "1"}]}});
        let template = json!({
            "entrypoint": "e", "serviceAccountName": "theirs",
            "arguments": {"parameters": [
                {"name": "a", "valueFrom": {"configMapKeyRef": {"name": "unused", "key": "k"}}},
                {"name": "b", "valueFrom": {"configMapKeyRef": {"name": "used", "key": "k"}}},
            ]},
        });
        assert_eq!(
            merged(&workflow, &template),
            json!({
                "entrypoint": "e", "serviceAccountName": "own",
                "arguments": {"parameters": [
                    {"name": "a", "value": "1"},
                    {"name": "b", "valueFrom": {"configMapKeyRef": {"name": "used", "key": "k"}}},
                ]},
            })
        );
    }
}
