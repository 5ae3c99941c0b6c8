//! KubeStellar's policies, where its CRDs are served.

use argosy_placement::kubestellar::{GROUP, VERSION};
use kube::Client;
use kube::api::{DynamicObject, GroupVersionKind};
use serde::de::DeserializeOwned;

use crate::foreign;
use crate::snapshot::Snapshot;

/// Follows the policies of a kind, for ever.
pub(super) async fn follow<V: DeserializeOwned + Default>(
    client: Client,
    kind: &str,
    plural: &'static str,
    snapshot: &Snapshot<V>,
    changed: impl Fn(),
) {
    let events = foreign::watch(client, &GroupVersionKind::gvk(GROUP, VERSION, kind), plural);
    snapshot.follow(events, |object| spec(object), changed).await;
}

/// What cannot be read is empty: KubeStellar's own schema keeps it from being.
fn spec<V: DeserializeOwned + Default>(object: &DynamicObject) -> V {
    object.data.get("spec").and_then(|spec| V::deserialize(spec).ok()).unwrap_or_default()
}
