//! Where workflows go: policies, those of KubeStellar too, and what becomes of workflows that no cluster can take.

use anyhow::{Result, ensure};
use argosy_api::PlacementPolicy;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::{Case, case};
use crate::world::{World, labelled, sleeping, stamp, wait_for, workflows};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case!("what no cluster can take waits with a reason, and goes as soon as one can", waits),
        case!("a policy rules the namespaces that it selects, and takes out what it says", by_policy),
        case!("a policy that cannot be read is refused by the API server, or refuses workflows", unreadable_policy),
        case!("KubeStellar's policy and transform route the article's workflow as they are", kubestellar),
    ]
}

pub(super) async fn annotate(world: &World, namespace: &str, annotations: Value) -> Result<()> {
    let namespaces: Api<Namespace> = Api::all(world.control.clone());
    let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
    namespaces.patch(namespace, &PatchParams::default(), &patch).await?;
    Ok(())
}

async fn waits(world: World) -> Result<()> {
    world.namespace("waits", json!({"argosy.dev/clusters": "name=cluster9"})).await?;
    let names =
        [world.create("waits", &sleeping("waits", 1)).await?, world.create("waits", &sleeping("waits", 1)).await?];
    for name in &names {
        let waiting = world.phase("waits", name, "Pending").await?;
        let message = waiting.data["status"]["message"].as_str().unwrap_or_default();
        for part in ["waits for a cluster", "name=cluster9", "none has such labels", "cluster1"] {
            ensure!(message.contains(part), "{part:?} is not in {message:?}");
        }
        ensure!(waiting.labels().get("kubestellar.io/cluster").is_some_and(String::is_empty), "it has no empty label");
        ensure!(waiting.data["spec"]["suspend"] == true, "it is not suspended");
    }
    annotate(&world, "waits", json!({"argosy.dev/clusters": "name=cluster2"})).await?;
    for name in &names {
        let done = world.phase("waits", name, "Succeeded").await?;
        ensure!(
            done.labels().get("kubestellar.io/cluster").is_some_and(|label| label == "cluster2"),
            "it ran elsewhere"
        );
        ensure!(stamp(&done)?["cluster"] == "cluster2", "its stamp says {}", stamp(&done)?);
        ensure!(done.data["status"].get("message").is_none(), "it kept {}", done.data["status"]["message"]);
    }
    Ok(())
}

async fn by_policy(world: World) -> Result<()> {
    let policies: Api<PlacementPolicy> = Api::all(world.control.clone());
    let policy = json!({
        "apiVersion": "argosy.dev/v1alpha1", "kind": "PlacementPolicy", "metadata": {"name": "e2e-policy"},
        "spec": {
            "namespaces": "kubernetes.io/metadata.name=by-policy", "clusters": "name=cluster2",
            "remove": ["$.metadata.labels['secret.example.com/owner']", "$.spec.arguments"],
        },
    });
    world.namespace("by-policy", json!({})).await?;
    policies.patch("e2e-policy", &PatchParams::apply("e2e").force(), &Patch::Apply(&policy)).await?;
    let ruled = async |wanted: bool| {
        let namespaces: Api<Namespace> = Api::all(world.control.clone());
        wait_for("the note on the namespace", || async {
            let namespace = namespaces.get("by-policy").await?;
            let noted = namespace.annotations().get("argosy.dev/ruled").is_some_and(|ruled| ruled == "true");
            Ok(if noted == wanted { Ok(()) } else { Err(format!("ruled is {noted}")) })
        })
        .await
    };
    ruled(true).await?;
    wait_for("the policy to be accepted", || async {
        let status = policies.get("e2e-policy").await?.status.unwrap_or_default();
        let accepted = status.conditions.iter().any(|one| one.type_ == "Accepted" && one.status == "True");
        Ok(if accepted { Ok(()) } else { Err(format!("{:?}", status.conditions)) })
    })
    .await?;
    let mut workflow = labelled(sleeping("by-policy", 1), json!({"secret.example.com/owner": "me", "team": "a"}));
    workflow["spec"]["arguments"] = json!({"parameters": [{"name": "a", "value": "b"}]});
    let name = world.create("by-policy", &workflow).await?;
    let done = world.phase("by-policy", &name, "Succeeded").await?;
    ensure!(stamp(&done)?["rule"] == "policy/e2e-policy", "its stamp says {}", stamp(&done)?);
    let copy = workflows(&world.wecs[1], "by-policy").get(&name).await?;
    ensure!(copy.labels().contains_key("team"), "the copy lost a label that stays");
    ensure!(!copy.labels().contains_key("secret.example.com/owner"), "the copy kept the label");
    ensure!(
        copy.data["spec"]["arguments"].get("parameters").is_none(),
        "the copy kept {}",
        copy.data["spec"]["arguments"]
    );
    policies.delete("e2e-policy", &DeleteParams::default()).await?;
    ruled(false).await?;
    let name = world.create("by-policy", &sleeping("no-policy", 1)).await?;
    let here = world.phase("by-policy", &name, "Succeeded").await?;
    ensure!(!here.annotations().contains_key("argosy.dev/placement"), "it is stamped without a rule");
    Ok(())
}

async fn unreadable_policy(world: World) -> Result<()> {
    let policies: Api<PlacementPolicy> = Api::all(world.control.clone());
    let policy = |clusters: &str, remove: &str| {
        json!({
            "apiVersion": "argosy.dev/v1alpha1", "kind": "PlacementPolicy", "metadata": {"name": "e2e-unreadable"},
            "spec": {"namespaces": "kubernetes.io/metadata.name=unreadable", "clusters": clusters, "remove": [remove]},
        })
    };
    let apply = PatchParams::apply("e2e").force();
    for (wrong, expected) in [(policy("env in prod", "$.spec"), "label selector"), (policy("*", "spec"), "JSONPath")] {
        let said = policies.patch("e2e-unreadable", &apply, &Patch::Apply(&wrong)).await.err();
        let said = said.map(|error| error.to_string()).unwrap_or_default();
        ensure!(said.contains(expected), "the API server said {said:?}");
    }
    world.namespace("unreadable", json!({})).await?;
    policies.patch("e2e-unreadable", &apply, &Patch::Apply(&policy("*", "$.spec["))).await?;
    let told = wait_for("the condition", || async {
        let status = policies.get("e2e-unreadable").await?.status.unwrap_or_default();
        let condition = status.conditions.into_iter().find(|one| one.type_ == "Accepted" && one.status == "False");
        Ok(condition.map(|condition| condition.message).ok_or_else(|| "none yet".to_owned()))
    })
    .await;
    let refused = world.refusal("unreadable", &sleeping("unreadable", 1)).await;
    policies.delete("e2e-unreadable", &DeleteParams::default()).await?;
    for said in [told?, refused?] {
        for part in ["spec.remove[0] of PlacementPolicy \"e2e-unreadable\"", "column"] {
            ensure!(said.contains(part), "{part:?} is not in {said:?}");
        }
    }
    Ok(())
}

const KUBESTELLAR: &str = "control.kubestellar.io";

/// KubeStellar's CRDs as far as they matter here: group, version, kind and scope.
fn crd(kind: &str, plural: &str) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{KUBESTELLAR}")},
        "spec": {
            "group": KUBESTELLAR, "scope": "Cluster",
            "names": {"kind": kind, "listKind": format!("{kind}List"), "plural": plural, "singular": kind.to_lowercase()},
            "versions": [{
                "name": "v1alpha1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
            }],
        },
    })
}

async fn kubestellar(world: World) -> Result<()> {
    let crds: Api<CustomResourceDefinition> = Api::all(world.control.clone());
    let apply = PatchParams::apply("e2e").force();
    let kinds = [("BindingPolicy", "bindingpolicies"), ("CustomTransform", "customtransforms")];
    for (kind, plural) in kinds {
        crds.patch(&format!("{plural}.{KUBESTELLAR}"), &apply, &Patch::Apply(&crd(kind, plural))).await?;
    }
    // As the article and kubestellar/galaxy (scripts/argo-wf) have them, but for the label's value: other cases use it.
    let binding = json!({
        "wantSingletonReportedState": true,
        "clusterSelectors": [{"matchLabels": {"name": "cluster1"}}],
        "downsync": [{"objectSelectors": [
            {"matchLabels": {"kubestellar.io/cluster": "cluster1", "from": "the-article"}},
            {"matchLabels": {"kubestellar.io/cluster": "cluster2", "from": "the-article"}},
        ]}],
    });
    let transform = json!({
        "apiGroup": "argoproj.io", "resource": "workflows",
        "remove": [
            "$.spec.suspend", "$.metadata.labels[\"workflows.argoproj.io/completed\"]",
            "$.metadata.labels[\"workflows.argoproj.io/phase\"]", "$.metadata.labels[\"to-be-removed\"]",
        ],
    });
    for ((kind, plural), (name, spec)) in
        kinds.into_iter().zip([("e2e-binding", binding), ("e2e-transform", transform)])
    {
        let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(KUBESTELLAR, "v1alpha1", kind), plural);
        let api: Api<DynamicObject> = Api::all_with(world.control.clone(), &resource);
        let object = json!({
            "apiVersion": format!("{KUBESTELLAR}/v1alpha1"), "kind": kind, "metadata": {"name": name}, "spec": spec,
        });
        wait_for(&format!("{kind} to be served"), || async {
            Ok(api.patch(name, &apply, &Patch::Apply(&object)).await.map(drop).map_err(|error| error.to_string()))
        })
        .await?;
    }
    let result = route_by_binding(&world).await;
    for (_, plural) in kinds {
        crds.delete(&format!("{plural}.{KUBESTELLAR}"), &DeleteParams::default()).await?;
    }
    result
}

async fn route_by_binding(world: &World) -> Result<()> {
    let article = |cluster: &str| {
        let labels = json!({"kubestellar.io/cluster": cluster, "from": "the-article", "to-be-removed": "x"});
        let mut workflow = labelled(sleeping("binding", 1), labels);
        workflow["spec"]["suspend"] = json!(true);
        workflow
    };
    wait_for("the binding to be in force at the webhook", || async {
        let said = world.refusal("default", &article("cluster2")).await?;
        let expected = "BindingPolicy \"e2e-binding\" allows only clusters with \"name=cluster1\"";
        Ok(if said.contains(expected) { Ok(()) } else { Err(said) })
    })
    .await?;
    wait_for("the transform to be in force at the syncer", || async {
        let name = world.create("default", &article("cluster1")).await?;
        let done = world.phase("default", &name, "Succeeded").await?;
        ensure!(stamp(&done)?["rule"] == "label", "its stamp says {}", stamp(&done)?);
        let copy = workflows(&world.wecs[0], "default").get(&name).await?;
        ensure!(copy.data["spec"].get("suspend").is_none(), "the copy is suspended");
        let kept = copy.labels().contains_key("to-be-removed");
        Ok(if kept { Err("the copy kept what the transform takes out".to_owned()) } else { Ok(()) })
    })
    .await
}
