//! KubeStellar's policies, where its CRDs are served.

use std::time::Duration;

use argosy_placement::kubestellar::{GROUP, VERSION};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher;
use kube::{Api, Client};
use serde::de::DeserializeOwned;

use super::snapshot::Snapshot;
use crate::client::within;
use crate::events;

/// How often it is looked whether the CRD has come or gone.
const LOOK: Duration = Duration::from_secs(10);

/// Follows objects of a kind whose CRD need not be there. Whether it is comes from the CRD itself: a kind can also be
/// unserved for a moment while an API server starts, and its policies do not cease to be for that.
pub(super) async fn follow<V: DeserializeOwned + Default>(
    client: Client,
    kind: &str,
    plural: &'static str,
    snapshot: &Snapshot<V>,
    changed: impl Fn(),
) {
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(GROUP, VERSION, kind), plural);
    let objects: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let crds: Api<PartialObjectMeta<CustomResourceDefinition>> = Api::all(client);
    let name = format!("{plural}.{GROUP}");
    loop {
        if is_there(&crds, &name).await {
            let events = events::watch(plural, objects.clone(), watcher::Config::default());
            tokio::select! {
                () = snapshot.follow(events, |object| spec(object), &changed) => {}
                () = is_gone(&crds, &name) => {}
            }
        }
        snapshot.clear(&changed);
        tokio::time::sleep(LOOK).await;
    }
}

/// What cannot be read is empty: KubeStellar's own schema keeps it from being.
fn spec<V: DeserializeOwned + Default>(object: &DynamicObject) -> V {
    object.data.get("spec").and_then(|spec| V::deserialize(spec).ok()).unwrap_or_default()
}

/// Asks until there is an answer.
async fn is_there(crds: &Api<PartialObjectMeta<CustomResourceDefinition>>, name: &str) -> bool {
    loop {
        match within(crds.get_metadata_opt(name)).await {
            Ok(found) => return found.is_some(),
            Err(error) => {
                tracing::warn!(name, error = error.message(), "cannot find out whether the CRD is there; trying again");
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
        }
    }
}

async fn is_gone(crds: &Api<PartialObjectMeta<CustomResourceDefinition>>, name: &str) {
    loop {
        tokio::time::sleep(LOOK).await;
        if !is_there(crds, name).await {
            return;
        }
    }
}
