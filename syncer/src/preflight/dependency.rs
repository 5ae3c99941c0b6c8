//! The copy of an object that a workflow refers to.

use std::collections::BTreeMap;

use argosy_api::names;
use argosy_runtime::patch::add;
use json_patch::PatchOperation;
use kube::ResourceExt;
use kube::api::{DynamicObject, ObjectMeta, TypeMeta};
use serde_json::{Map, Value, json};

use super::kind::Kind;
use super::plan::There;

/// kubectl's own record of the object, which would be wrong there.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Which object it is a copy of, in which state.
pub fn source(origin: &DynamicObject) -> String {
    let metadata = &origin.metadata;
    let of = |field: &Option<String>| field.clone().unwrap_or_default();
    format!("{}@{}", of(&metadata.uid), of(&metadata.resource_version))
}

/// Whose an object in the WEC is, by its labels and annotations.
pub fn ownership(metadata: &ObjectMeta, control_id: &str) -> There {
    let label = |name| metadata.labels.as_ref().and_then(|labels| labels.get(name)).map(String::as_str);
    if label(names::MANAGED_BY) == Some(names::MANAGER) && label(names::CONTROL) == Some(control_id) {
        There::Ours { source: metadata.annotations.as_ref().and_then(|all| all.get(names::SOURCE)).cloned() }
    } else {
        There::Foreign
    }
}

/// Why an object is nothing to copy, whatever is consented to.
pub fn barred(kind: Kind, origin: &DynamicObject) -> Option<&'static str> {
    let r#type = origin.data["type"].as_str().unwrap_or_default();
    (kind == Kind::Secret && r#type == "kubernetes.io/service-account-token")
        .then_some("it is a token of the control cluster")
}

/// Builds the copy: the same name, content, labels (Argo finds parameters' ConfigMaps by one) and annotations, marked as
/// ours and with what it is a copy of.
pub fn copy_of(kind: Kind, origin: &DynamicObject, control_id: &str) -> DynamicObject {
    let ours = |name: &String| name.starts_with(names::PREFIX);
    let mut labels = origin.metadata.labels.clone().unwrap_or_default();
    labels.retain(|name, _| !ours(name));
    labels.insert(names::MANAGED_BY.to_owned(), names::MANAGER.to_owned());
    labels.insert(names::CONTROL.to_owned(), control_id.to_owned());
    let mut annotations: BTreeMap<String, String> = origin.metadata.annotations.clone().unwrap_or_default();
    annotations.retain(|name, _| !ours(name) && name != LAST_APPLIED);
    annotations.insert(names::SOURCE.to_owned(), source(origin));

    let mut data = content(kind, origin);
    // Only at creation: it cannot be changed later.
    if let Some(r#type) = origin.data.get("type").filter(|_| kind == Kind::Secret) {
        data.insert("type".to_owned(), r#type.clone());
    }
    let resource = kind.api_resource();
    DynamicObject {
        types: Some(TypeMeta { api_version: resource.api_version, kind: resource.kind }),
        metadata: ObjectMeta {
            name: origin.metadata.name.clone(),
            namespace: origin.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        data: Value::Object(data),
    }
}

fn content(kind: Kind, origin: &DynamicObject) -> Map<String, Value> {
    let of = |field: &str| origin.data.get(field).filter(|value| !value.is_null()).cloned().unwrap_or(json!({}));
    kind.content().iter().map(|field| ((*field).to_owned(), of(field))).collect()
}

/// What makes an older copy equal to this one, if it is still at this resourceVersion.
pub fn update(kind: Kind, copy: &DynamicObject, resource_version: &str) -> Vec<PatchOperation> {
    let mut operations = vec![
        add(&["metadata", "resourceVersion"], json!(resource_version)),
        add(&["metadata", "labels"], json!(copy.labels())),
        add(&["metadata", "annotations"], json!(copy.annotations())),
    ];
    operations.extend(content(kind, copy).into_iter().map(|(field, value)| add(&[&field], value)));
    operations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(data: Value) -> DynamicObject {
        let mut object = json!({
            "metadata": {
                "name": "x", "namespace": "team", "uid": "u", "resourceVersion": "7", "finalizers": ["f"],
                "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "p"}],
                "labels": {"workflows.argoproj.io/configmap-type": "Parameter", "app.kubernetes.io/managed-by": "Helm"},
                "annotations": {"note": "n", "kubectl.kubernetes.io/last-applied-configuration": "{}"},
            },
        });
        object.as_object_mut().unwrap().extend(data.as_object().unwrap().clone());
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn a_copy_is_the_content_marked_as_ours() {
        let copy = copy_of(Kind::ConfigMap, &origin(json!({"data": {"k": "v"}, "immutable": true})), "control-id");
        assert_eq!(
            serde_json::to_value(&copy).unwrap(),
            json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {
                    "name": "x", "namespace": "team",
                    "labels": {
                        "workflows.argoproj.io/configmap-type": "Parameter",
                        "app.kubernetes.io/managed-by": "argosy", "argosy.dev/control": "control-id",
                    },
                    "annotations": {"note": "n", "argosy.dev/source": "u@7"},
                },
                "data": {"k": "v"}, "binaryData": {},
            })
        );
        assert_eq!(ownership(&copy.metadata, "control-id"), There::Ours { source: Some("u@7".into()) });
        assert_eq!(ownership(&copy.metadata, "another"), There::Foreign);
    }

    #[test]
    fn an_update_takes_away_what_its_origin_no_longer_has() {
        let old =
            copy_of(Kind::ConfigMap, &origin(json!({"data": {"k": "v"}, "binaryData": {"b": "AA=="}})), "control-id");
        let new = copy_of(Kind::ConfigMap, &origin(json!({"data": {"l": "w"}})), "control-id");
        let mut object = serde_json::to_value(&old).unwrap();
        json_patch::patch(&mut object, &update(Kind::ConfigMap, &new, "9")).unwrap();
        assert_eq!((&object["data"], &object["binaryData"]), (&json!({"l": "w"}), &json!({})));
        assert_eq!(object["metadata"]["resourceVersion"], "9");
    }

    #[test]
    fn a_secret_keeps_its_type_and_a_token_stays_at_home() {
        let secret = origin(json!({"type": "kubernetes.io/tls", "data": {"tls.key": ""}}));
        assert_eq!(copy_of(Kind::Secret, &secret, "c").data["type"], "kubernetes.io/tls");
        assert_eq!(barred(Kind::Secret, &secret), None);
        assert!(barred(Kind::Secret, &origin(json!({"type": "kubernetes.io/service-account-token"}))).is_some());
    }
}
