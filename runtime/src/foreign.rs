//! Objects of other projects' kinds, whose CRDs need not be there.

use std::future::ready;
use std::time::Duration;

use futures::{StreamExt, stream};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use tokio::time::sleep;

use crate::client::within;
use crate::events::{self, Events};

/// How often it is looked whether the CRD has come or gone.
const LOOK: Duration = Duration::from_secs(10);

type Crds = Api<PartialObjectMeta<CustomResourceDefinition>>;

/// Events of all objects of a kind, for ever; where its CRD is not, that there are none. Whether it is there comes from
/// the CRD itself: a kind can also be unserved for a moment while an API server starts, and its objects do not cease to be
/// for that.
pub fn watch(client: Client, kind: &GroupVersionKind, plural: &'static str) -> Events<DynamicObject> {
    let name = format!("{plural}.{}", kind.group);
    let resource = ApiResource::from_gvk_with_plural(kind, plural);
    let objects: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let crds: Crds = Api::all(client);
    let looks = stream::repeat((crds, name, objects)).then(move |(crds, name, objects)| async move {
        let none = stream::iter([Event::Init, Event::InitDone]);
        if is_there(&crds, &name).await {
            let served = events::watch(plural, objects, watcher::Config::default());
            served.take_until(is_gone(crds, name)).chain(none).left_stream()
        } else {
            none.right_stream()
        }
    });
    Box::pin(looks.flat_map(|look| look.chain(stream::once(sleep(LOOK)).filter_map(|()| ready(None)))))
}

/// Asks until there is an answer.
async fn is_there(crds: &Crds, name: &str) -> bool {
    loop {
        match within(crds.get_metadata_opt(name)).await {
            Ok(found) => return found.is_some(),
            Err(error) => {
                tracing::warn!(name, error = error.message(), "cannot find out whether the CRD is there; trying again");
                sleep(Duration::from_secs(2)).await;
            }
        }
    }
}

async fn is_gone(crds: Crds, name: String) {
    loop {
        sleep(LOOK).await;
        if !is_there(&crds, &name).await {
            return;
        }
    }
}
