//! A namespace whose workflows are placed by a rule, whichever of the two says it: its annotations, or a policy.

use anyhow::{Context, Result, ensure};
use argosy_api::PlacementPolicy;
use futures::future::{BoxFuture, join_all};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::core::DynamicObject;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::placement::annotate;
use crate::world::{World, sleeping, stamp, wait_for};

/// What says where a namespace's workflows run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Namespace,
    Policy,
}

/// A namespace with a rule: `Ordered`, so that what is chosen is known beforehand, and `Reject`.
#[derive(Clone)]
pub(super) struct Ruled {
    pub(super) world: World,
    pub(super) namespace: String,
    pub(super) by: By,
}

const LABEL: &str = "kubestellar.io/cluster";

/// Checks the same in a namespace of each kind, at the same time.
pub(super) async fn under_both(
    world: World,
    what: &str,
    check: fn(Ruled) -> BoxFuture<'static, Result<()>>,
) -> Result<()> {
    let runs = [(By::Namespace, "namespace"), (By::Policy, "policy")].map(|(by, kind)| {
        let ruled = Ruled { world: world.clone(), namespace: format!("{what}-by-{kind}"), by };
        async move {
            ruled.world.namespace(&ruled.namespace, json!({})).await?;
            let checked = check(ruled.clone()).await;
            ruled.end().await?;
            checked.with_context(|| format!("ruled by a {kind}"))
        }
    });
    join_all(runs).await.into_iter().collect()
}

impl Ruled {
    /// Lets the clusters of this selector take the workflows, and waits until the first of them would.
    pub(super) async fn send_to(&self, clusters: &str, first: &str) -> Result<()> {
        match self.by {
            By::Namespace => {
                let rule = json!({
                    "argosy.dev/clusters": clusters, "argosy.dev/strategy": "Ordered", "argosy.dev/no-cluster": "Reject",
                });
                annotate(&self.world, &self.namespace, rule).await?;
            }
            By::Policy => {
                let policy = json!({
                    "apiVersion": "argosy.dev/v1alpha1", "kind": "PlacementPolicy",
                    "metadata": {"name": self.policy()},
                    "spec": {
                        "namespaces": format!("kubernetes.io/metadata.name={}", self.namespace),
                        "clusters": clusters, "strategy": "Ordered", "noCluster": "Reject",
                    },
                });
                let params = PatchParams::apply("e2e").force();
                self.policies().patch(&self.policy(), &params, &Patch::Apply(&policy)).await?;
            }
        }
        let (dry_run, probe) = (PostParams { dry_run: true, ..PostParams::default() }, sleeping("probe", 1));
        let probe: DynamicObject = serde_json::from_value(probe)?;
        wait_for("the rule to be in force", || async {
            let answer = self.world.originals(&self.namespace).create(&dry_run, &probe).await?;
            let cluster = answer.labels().get(LABEL).cloned().unwrap_or_default();
            Ok(if cluster == first { Ok(()) } else { Err(format!("it sends to {cluster:?}")) })
        })
        .await
    }

    /// Waits until the workflow has run in this cluster, and nowhere else, because the rule said so.
    pub(super) async fn ran_in(&self, cluster: &str, name: &str) -> Result<DynamicObject> {
        let rule = match self.by {
            By::Namespace => "namespace".to_owned(),
            By::Policy => format!("policy/{}", self.policy()),
        };
        self.ran_by(&rule, cluster, name).await
    }

    /// The same, with another reason.
    pub(super) async fn ran_by(&self, rule: &str, cluster: &str, name: &str) -> Result<DynamicObject> {
        let done = self.world.phase(&self.namespace, name, "Succeeded").await?;
        let label = done.labels().get(LABEL).map(String::as_str);
        ensure!(label == Some(cluster), "{name} went to {label:?}, not to {cluster}");
        let stamp = stamp(&done)?;
        ensure!(stamp["rule"] == rule, "{name} was placed by {}, not by {rule}", stamp["rule"]);
        let here = self.world.pods(&self.world.control, &self.namespace, name).await?;
        ensure!(here.is_empty(), "{name} has {} pods in the control cluster", here.len());
        Ok(done)
    }

    /// Runs a program that creates one workflow in the namespace and prints its name.
    pub(super) async fn created_by(&self, program: &str, args: &[&str], input: &str) -> Result<String> {
        let args = [args, &["-n", &self.namespace, "-o", "name"]].concat();
        let said = self.world.run(program, &args, input).await?;
        Ok(said.rsplit('/').next().unwrap_or(&said).to_owned())
    }

    /// Applies objects to the namespace, in the control cluster or in the workload cluster of this number as well.
    pub(super) async fn apply(&self, objects: &[Value], wec: Option<usize>) -> Result<()> {
        let namespace = json!([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}}]);
        // kubectl's own validation takes a schema of megabytes from an API server with the full CRDs.
        let apply = ["apply", "--server-side", "--validate=false", "-f", "-"];
        let args = [&apply[..], &["-n", &self.namespace]].concat();
        let list = |items: Value| json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
        if let Some(wec) = wec.and_then(|wec| self.world.testbed.wecs().get(wec)) {
            self.world.run_in(wec, "kubectl", &apply, &list(namespace)).await?;
            self.world.run_in(wec, "kubectl", &args, &list(json!(objects))).await?;
        }
        self.world.run("kubectl", &args, &list(json!(objects))).await.map(drop)
    }

    async fn end(&self) -> Result<()> {
        if self.by == By::Policy {
            self.policies().delete(&self.policy(), &DeleteParams::default()).await?;
        }
        Ok(())
    }

    fn policy(&self) -> String {
        format!("e2e-{}", self.namespace)
    }

    fn policies(&self) -> Api<PlacementPolicy> {
        Api::all(self.world.control.clone())
    }
}
