//! The MutatingWebhookConfiguration's side: whom the API server trusts.

use k8s_openapi::api::admissionregistration::v1::{MutatingWebhook, MutatingWebhookConfiguration};
use serde_json::{Value, json};

/// The strategic merge patch that gives every webhook of the configuration this bundle; `None` where each has it.
///
/// It carries the resourceVersion that was looked at, so that nobody undoes what another has written since.
pub(crate) fn correction(configuration: &MutatingWebhookConfiguration, bundle: &[u8]) -> Option<Value> {
    let lacks =
        |webhook: &&MutatingWebhook| webhook.client_config.ca_bundle.as_ref().is_none_or(|present| present.0 != bundle);
    let bundle = k8s_openapi::ByteString(bundle.to_vec());
    let corrected: Vec<Value> = configuration
        .webhooks
        .iter()
        .flatten()
        .filter(lacks)
        .map(|webhook| json!({"name": webhook.name, "clientConfig": {"caBundle": &bundle}}))
        .collect();
    let version = &configuration.metadata.resource_version;
    (!corrected.is_empty()).then(|| json!({"metadata": {"resourceVersion": version}, "webhooks": corrected}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration(bundles: &[Option<&str>]) -> MutatingWebhookConfiguration {
        let webhooks: Vec<Value> = bundles
            .iter()
            .enumerate()
            .map(|(i, bundle)| {
                let bundle = bundle.map(|bundle| k8s_openapi::ByteString(bundle.as_bytes().to_vec()));
                json!({"name": format!("w{i}"), "clientConfig": {"url": "https://x", "caBundle": bundle},
                       "sideEffects": "None", "admissionReviewVersions": ["v1"]})
            })
            .collect();
        serde_json::from_value(json!({"metadata": {"name": "argosy", "resourceVersion": "7"}, "webhooks": webhooks}))
            .unwrap()
    }

    #[test]
    fn only_webhooks_with_another_bundle_are_corrected() {
        let patch = correction(&configuration(&[Some("ca"), None, Some("old"), Some("")]), b"ca").unwrap();
        assert_eq!(
            patch,
            json!({"metadata": {"resourceVersion": "7"}, "webhooks": [
                {"name": "w1", "clientConfig": {"caBundle": "Y2E="}},
                {"name": "w2", "clientConfig": {"caBundle": "Y2E="}},
                {"name": "w3", "clientConfig": {"caBundle": "Y2E="}},
            ]})
        );
    }

    #[test]
    fn nothing_is_written_where_nothing_differs() {
        assert_eq!(correction(&configuration(&[Some("ca")]), b"ca"), None);
        assert_eq!(correction(&MutatingWebhookConfiguration::default(), b"ca"), None);
    }
}
