//! What parameters and artifacts refer to.

use serde_json::Value;

use super::{Kind, References, items};

/// The stores whose credentials are Secrets.
const STORES: [&str; 8] = ["s3", "gcs", "azure", "oss", "artifactory", "git", "hdfs", "http"];

impl References {
    /// Arguments, inputs or outputs.
    pub(super) fn values(&mut self, values: &Value) {
        for parameter in items(&values["parameters"]) {
            let from = &parameter["valueFrom"];
            let selector = &from["configMapKeyRef"];
            // Argo takes the default where the ConfigMap is missing.
            let optional = selector["optional"] == true || !from["default"].is_null();
            self.need(Kind::ConfigMap, &selector["name"], optional);
        }
        for artifact in items(&values["artifacts"]) {
            self.artifact(artifact);
            self.stores |= STORES.iter().chain(&["raw"]).all(|store| artifact[store].is_null());
        }
    }

    pub(super) fn artifact(&mut self, artifact: &Value) {
        self.location(artifact);
        self.need(Kind::ServiceAccount, &artifact["artifactGC"]["serviceAccountName"], false);
    }

    pub(super) fn location(&mut self, location: &Value) {
        STORES.iter().for_each(|store| self.credentials(&location[store]));
    }

    /// In every store the selectors of Secrets are called `…Secret`; the one of a ConfigMap is `krbConfigConfigMap`.
    fn credentials(&mut self, store: &Value) {
        for (field, value) in store.as_object().into_iter().flatten() {
            if field.ends_with("Secret") {
                self.selector(Kind::Secret, value);
            } else if field.ends_with("ConfigMap") {
                self.selector(Kind::ConfigMap, value);
            } else {
                self.credentials(value);
            }
        }
    }
}
