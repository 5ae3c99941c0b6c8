//! What the control cluster knows of a workload cluster: the WorkloadCluster, and the Secret with its kubeconfig.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use argosy_api::workload_cluster::{Copy, SECRET_KEY, SecretKey};
use argosy_api::{SyncMode, WorkloadCluster};
use argosy_runtime::client::within;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use super::secret_name;
use crate::ask::{ask, told};
use crate::ownership;

/// What is there of a cluster.
#[derive(Debug)]
pub struct Known {
    pub cluster: Option<WorkloadCluster>,
    /// The Secret that `join` writes, or, of a cluster that is known, the one that it uses.
    pub secret: Option<Secret>,
}

impl Known {
    /// Asks the control cluster; refuses if Argosy is not installed there.
    pub async fn read(control: &Client, namespace: &str, name: &str) -> Result<Self> {
        let namespaces: Api<Namespace> = Api::all(control.clone());
        if ask(&format!("read namespace {namespace}"), namespaces.get_opt(namespace)).await?.is_none() {
            bail!(
                "the control cluster has no namespace {namespace}: install the chart argosy there first, or say with \
                 --namespace where it is"
            );
        }
        let cluster = find(control, name).await?;
        let secrets: Api<Secret> = Api::namespaced(control.clone(), namespace);
        let secret = secret_of(name, cluster.as_ref());
        let secret = ask(&format!("read Secret {namespace}/{secret}"), secrets.get_opt(&secret)).await?;
        Ok(Self { cluster, secret })
    }

    /// Both, of a cluster that has joined.
    pub fn joined(&self, name: &str) -> Result<(&SecretKey, &Secret)> {
        let again = format!("join {name} without --renew");
        let cluster = self.cluster.as_ref().with_context(|| format!("there is no WorkloadCluster {name}: {again}"))?;
        let reference = cluster.spec.kubeconfig_secret.as_ref();
        let reference =
            reference.with_context(|| format!("WorkloadCluster {name} has no kubeconfigSecret: {again}"))?;
        let secret = self.secret.as_ref();
        Ok((reference, secret.with_context(|| format!("there is no Secret {}: {again}", reference.name))?))
    }

    /// Whether a syncer inside of the cluster serves it.
    pub fn is_pull(&self) -> bool {
        self.cluster.as_ref().is_some_and(|cluster| cluster.spec.sync_mode == SyncMode::Pull)
    }
}

/// Name of the Secret that a cluster uses, or will when it has joined.
pub fn secret_of(name: &str, cluster: Option<&WorkloadCluster>) -> String {
    let reference = cluster.and_then(|cluster| cluster.spec.kubeconfig_secret.as_ref());
    reference.map_or_else(|| secret_name(name), |reference| reference.name.clone())
}

/// The WorkloadCluster of this name, if there is one.
pub async fn find(control: &Client, name: &str) -> Result<Option<WorkloadCluster>> {
    // A list, for a missing object and a missing CRD are both 404.
    Ok(list(control, &ListParams::default().fields(&format!("metadata.name={name}"))).await?.pop())
}

/// WorkloadClusters, by name.
pub async fn list(control: &Client, params: &ListParams) -> Result<Vec<WorkloadCluster>> {
    let clusters: Api<WorkloadCluster> = Api::all(control.clone());
    match within(clusters.list(params)).await {
        Ok(clusters) => Ok(clusters.items),
        Err(error) if error.status() == Some(404) => {
            bail!("the control cluster knows no WorkloadClusters: install the chart argosy there, or choose --context")
        }
        Err(error) => Err(told("list the WorkloadClusters", &error)),
    }
}

/// The kubeconfig in a Secret.
pub fn kubeconfig(secret: &Secret, key: &str) -> Result<Value> {
    let what = || format!("Secret {} holds no kubeconfig under {key:?}", secret.name_any());
    let bytes = secret.data.as_ref().and_then(|data| data.get(key)).with_context(what)?;
    serde_saphyr::from_slice(&bytes.0).with_context(what)
}

/// Writes the kubeconfig, over what was read before and nothing newer.
pub async fn write_secret(
    control: &Client,
    namespace: &str,
    cluster: &str,
    known: Option<&Secret>,
    key: Option<&str>,
    kubeconfig: &Value,
) -> Result<()> {
    let api: Api<Secret> = Api::namespaced(control.clone(), namespace);
    let name = known.map_or_else(|| secret_name(cluster), ResourceExt::name_any);
    let text = serde_saphyr::to_string(kubeconfig).context("the kubeconfig cannot be written as YAML")?;
    let data = BTreeMap::from([(key.unwrap_or(SECRET_KEY).to_owned(), ByteString(text.into_bytes()))]);
    let what = format!("write Secret {namespace}/{name}");
    match known {
        None => {
            let mut secret = Secret { data: Some(data), type_: Some("Opaque".to_owned()), ..Secret::default() };
            secret.metadata.name = Some(name.clone());
            secret.metadata.labels = Some(ownership::labels(cluster));
            ask(&what, api.create(&PostParams::default(), &secret)).await?;
        }
        Some(known) => {
            let metadata = json!({"resourceVersion": known.resource_version(), "labels": ownership::labels(cluster)});
            let patch = Patch::Merge(json!({"metadata": metadata, "data": data}));
            ask(&what, api.patch(&name, &PatchParams::default(), &patch)).await?;
        }
    }
    eprintln!("Secret {namespace}/{name}: done");
    Ok(())
}

/// What a WorkloadCluster is to be.
pub struct Wish {
    pub mode: SyncMode,
    pub labels: BTreeMap<String, String>,
    pub namespaces: Vec<String>,
    /// `None` leaves it as it is.
    pub create_namespaces: Option<bool>,
    pub copy: Copy,
}

impl Wish {
    /// The patch that makes it so, of nothing or of what is there. Only what is wished for changes.
    fn patch(&self, name: &str, known: Option<&WorkloadCluster>) -> Value {
        let mut labels = self.labels.clone();
        labels.extend(ownership::labels(name));
        let secret = (self.mode == SyncMode::Push).then(|| json!({"name": secret_of(name, known), "key": SECRET_KEY}));
        let mut spec = json!({
            "syncMode": self.mode,
            "kubeconfigSecret": secret,
            "namespaces": self.namespaces,
            "copy": self.copy,
        });
        if let Some(create_namespaces) = self.create_namespaces {
            spec["createNamespaces"] = json!(create_namespaces);
        }
        // No resourceVersion: the syncer writes the status of the same object every few seconds.
        json!({"metadata": {"name": name, "labels": labels}, "spec": spec})
    }
}

/// Writes the WorkloadCluster.
pub async fn write_cluster(control: &Client, name: &str, known: Option<&WorkloadCluster>, wish: &Wish) -> Result<()> {
    let api: Api<WorkloadCluster> = Api::all(control.clone());
    let what = format!("write WorkloadCluster {name}");
    let patch = wish.patch(name, known);
    if known.is_none() {
        let mut cluster = patch;
        cluster["apiVersion"] = json!(<WorkloadCluster as kube::Resource>::api_version(&()));
        cluster["kind"] = json!(<WorkloadCluster as kube::Resource>::kind(&()));
        let cluster: WorkloadCluster = serde_json::from_value(cluster).context("the WorkloadCluster is no good")?;
        ask(&what, api.create(&PostParams::default(), &cluster)).await?;
    } else {
        ask(&what, api.patch(name, &PatchParams::default(), &Patch::Merge(&patch))).await?;
    }
    eprintln!("WorkloadCluster {name}: done");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> WorkloadCluster {
        serde_json::from_value(json!({
            "apiVersion": "argosy.dev/v1alpha1", "kind": "WorkloadCluster",
            "metadata": {"name": "c", "labels": {"old": "label"}},
            "spec": {"kubeconfigSecret": {"name": "s"}, "createNamespaces": true, "cordoned": true},
        }))
        .unwrap()
    }

    #[test]
    fn joining_again_changes_what_is_given() {
        let wish = Wish {
            mode: SyncMode::Push,
            labels: [("env".to_owned(), "prod".to_owned())].into(),
            namespaces: vec!["a".into()],
            create_namespaces: None,
            copy: Copy { templates: true, config_maps: false, secrets: false },
        };
        let copy = json!({"templates": true, "configMaps": false, "secrets": false});
        let ours = json!({"env": "prod", "argosy.dev/joined": "c", "app.kubernetes.io/managed-by": "argosy"});
        assert_eq!(
            wish.patch("c", None),
            json!({
                "metadata": {"name": "c", "labels": ours},
                "spec": {"syncMode": "Push", "kubeconfigSecret": {"name": "c-kubeconfig", "key": "kubeconfig"}, "namespaces": ["a"], "copy": copy},
            })
        );
        assert_eq!(
            wish.patch("c", Some(&known())),
            json!({
                "metadata": {"name": "c", "labels": ours},
                "spec": {"syncMode": "Push", "kubeconfigSecret": {"name": "s", "key": "kubeconfig"}, "namespaces": ["a"], "copy": copy},
            })
        );
        let pulled = Wish { mode: SyncMode::Pull, ..wish }.patch("c", Some(&known()));
        assert_eq!((&pulled["spec"]["syncMode"], &pulled["spec"]["kubeconfigSecret"]), (&json!("Pull"), &json!(null)));
    }

    #[test]
    fn a_cluster_that_has_not_joined_has_nothing_to_renew() {
        let told = |known: Known| known.joined("c").unwrap_err().to_string();
        assert_eq!(
            told(Known { cluster: None, secret: None }),
            "there is no WorkloadCluster c: join c without --renew"
        );
        assert_eq!(
            told(Known { cluster: Some(known()), secret: None }),
            "there is no Secret s: join c without --renew"
        );
    }

    #[test]
    fn a_kubeconfig_is_read_from_its_key() {
        let data = [("k".to_owned(), ByteString(b"current-context: c".to_vec()))].into();
        let mut secret = Secret { data: Some(data), ..Secret::default() };
        secret.metadata.name = Some("s".into());
        assert_eq!(kubeconfig(&secret, "k").unwrap(), json!({"current-context": "c"}));
        assert_eq!(kubeconfig(&secret, "x").unwrap_err().to_string(), "Secret s holds no kubeconfig under \"x\"");
    }
}
