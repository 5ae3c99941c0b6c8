//! Several WorkloadClusters may lead to one cluster with one account there: what is done for one of them must leave the
//! others what they use.

use anyhow::Result;
use argosy_api::{WorkloadCluster, kubeconfig, names};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use serde::Deserialize;

use crate::ask::ask;
use crate::join::register;

/// Where an account is.
pub struct Account<'a> {
    pub member: &'a Client,
    pub namespace: &'a str,
}

impl Account<'_> {
    /// The WorkloadClusters other than `name` that sign in with it. `namespace`: Argosy's in the control cluster.
    pub async fn others(&self, control: &Client, namespace: &str, name: &str) -> Result<Vec<WorkloadCluster>> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.member.clone(), self.namespace);
        let what = format!("read ServiceAccount {}/{} in the workload cluster", self.namespace, kubeconfig::ACCOUNT);
        let account = ask(&what, accounts.get_opt(kubeconfig::ACCOUNT)).await?;
        let Some(uid) = account.and_then(|account| account.uid()) else { return Ok(Vec::new()) };
        let secrets: Api<Secret> = Api::namespaced(control.clone(), namespace);
        let mut others = Vec::new();
        for cluster in register::list(control, &ListParams::default()).await? {
            if cluster.name_any() == name {
                continue;
            }
            let Some(reference) = &cluster.spec.kubeconfig_secret else {
                // Its syncer inside signs in there with it.
                let (secret, there) = (names::agent_secret(&cluster.name_any()), self.member.clone());
                let api: Api<Secret> = Api::namespaced(there, self.namespace);
                let what = format!("read Secret {}/{secret} in the workload cluster", self.namespace);
                if ask(&what, api.get_opt(&secret)).await?.is_some() {
                    others.push(cluster);
                }
                continue;
            };
            let what = format!("read Secret {namespace}/{}", reference.name);
            let secret = ask(&what, secrets.get_opt(&reference.name)).await?;
            if secret.and_then(|secret| account_of(&secret, &reference.key)).is_some_and(|account| account == uid) {
                others.push(cluster);
            }
        }
        Ok(others)
    }
}

/// What tells a service account from every other, of this cluster or another, is in its tokens.
#[derive(Deserialize)]
struct Claims {
    #[serde(rename = "kubernetes.io")]
    bound: Option<Bound>,
    /// In a token that does not expire, from a Secret of type service-account-token.
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid")]
    uid: Option<String>,
}

#[derive(Deserialize)]
struct Bound {
    serviceaccount: Option<Named>,
}

#[derive(Deserialize)]
struct Named {
    uid: String,
}

/// UID of the service account that a kubeconfig signs in with; one that cannot be read signs in with none.
fn account_of(secret: &Secret, key: &str) -> Option<String> {
    let kubeconfig = register::kubeconfig(secret, key).ok()?;
    let claims: Claims = kubeconfig::claims(kubeconfig::token(&kubeconfig)?)?;
    claims.bound.and_then(|bound| bound.serviceaccount).map(|account| account.uid).or(claims.uid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use argosy_api::kubeconfig::Endpoint;
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use k8s_openapi::ByteString;
    use rstest::rstest;

    #[rstest]
    #[case::bound(r#"{"exp":1,"kubernetes.io":{"namespace":"n","serviceaccount":{"name":"a","uid":"u"}}}"#, Some("u"))]
    #[case::that_does_not_expire(r#"{"kubernetes.io/serviceaccount/service-account.uid":"u"}"#, Some("u"))]
    #[case::a_persons(r#"{"sub":"ann"}"#, None)]
    #[case::no_claims("text", None)]
    fn whom_a_kubeconfig_signs_in_as(#[case] payload: &str, #[case] expected: Option<&str>) {
        let endpoint = Endpoint { server: "https://h".into(), ca_data: None, tls_server_name: None };
        let token = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload));
        let text = serde_saphyr::to_string(&kubeconfig::compose("c", &endpoint, &token)).unwrap();
        let data = [("k".to_owned(), ByteString(text.into_bytes()))].into();
        let secret = Secret { data: Some(data), ..Secret::default() };
        assert_eq!(account_of(&secret, "k").as_deref(), expected);
        assert_eq!(account_of(&secret, "x"), None);
    }
}
