//! Who asks the kubelet, and whether they may: as a kubelet itself finds out (by the client CA of the cluster or a
//! TokenReview, then a SubjectAccessReview on `nodes/proxy`).

use std::collections::BTreeMap;

use argosy_runtime::client::within;
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};
use rustls::pki_types::CertificateDer;
use tokio::sync::Semaphore;
use x509_parser::parse_x509_certificate;

use super::Refusal;

/// Of whoever can reach the port, so many are asked about at a time: the API server has other things to do for us.
const ASKED_AT_ONCE: usize = 8;
/// The group of everybody who has said who they are.
const AUTHENTICATED: &str = "system:authenticated";

/// Whom a connection is from: the user and groups of a client certificate, which the handshake has verified.
#[derive(Clone, Debug, Default)]
pub struct Peer(Option<Caller>);

/// Somebody who asks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Caller {
    user: String,
    uid: Option<String>,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

/// Asks the control cluster's API server about callers.
pub struct Auth {
    tokens: Api<TokenReview>,
    accesses: Api<SubjectAccessReview>,
    asking: Semaphore,
}

impl Peer {
    /// Kubernetes reads the common name as the user and organisations as groups.
    pub fn new(certificate: Option<&CertificateDer<'_>>) -> Self {
        let named = certificate.and_then(|certificate| {
            let (_, certificate) = parse_x509_certificate(certificate).ok()?;
            let subject = certificate.subject();
            let user = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
            let groups = subject.iter_organization().filter_map(|group| group.as_str().ok()).map(ToOwned::to_owned);
            Some(Caller { user, groups: groups.chain([AUTHENTICATED.to_owned()]).collect(), ..Caller::default() })
        });
        Self(named)
    }
}

impl Auth {
    pub fn new(control: &Client) -> Self {
        Self {
            tokens: Api::all(control.clone()),
            accesses: Api::all(control.clone()),
            asking: Semaphore::new(ASKED_AT_ONCE),
        }
    }

    /// Who asks.
    pub async fn who(&self, peer: &Peer, headers: &HeaderMap) -> Result<Caller, Refusal> {
        if let Some(caller) = &peer.0 {
            return Ok(caller.clone());
        }
        let unknown = || Refusal(StatusCode::UNAUTHORIZED, "Unauthorized".to_owned());
        let header = headers.get(AUTHORIZATION).and_then(|header| header.to_str().ok());
        let token = header.and_then(|header| header.strip_prefix("Bearer ")).ok_or_else(unknown)?;
        let spec = TokenReviewSpec { token: Some(token.trim().to_owned()), ..TokenReviewSpec::default() };
        let review = TokenReview { spec, ..TokenReview::default() };
        let _turn = self.asking.acquire().await;
        let review = within(self.tokens.create(&PostParams::default(), &review)).await;
        let status = review.map_err(|error| cannot_ask("who asks", &error.message()))?.status.unwrap_or_default();
        let user = status.user.filter(|_| status.authenticated == Some(true)).ok_or_else(unknown)?;
        Ok(Caller {
            user: user.username.unwrap_or_default(),
            uid: user.uid,
            groups: user.groups.unwrap_or_default(),
            extra: user.extra.unwrap_or_default(),
        })
    }

    /// Whether they may do that to a node (all nodes without a name).
    pub async fn may(&self, caller: &Caller, verb: &str, node: Option<&str>) -> Result<(), Refusal> {
        let Caller { user, uid, groups, extra } = caller.clone();
        let resource = ResourceAttributes {
            verb: Some(verb.to_owned()),
            version: Some("v1".to_owned()),
            resource: Some("nodes".to_owned()),
            subresource: Some("proxy".to_owned()),
            name: node.map(ToOwned::to_owned),
            ..ResourceAttributes::default()
        };
        let spec = SubjectAccessReviewSpec {
            user: Some(user),
            uid,
            groups: Some(groups),
            extra: Some(extra),
            resource_attributes: Some(resource),
            ..SubjectAccessReviewSpec::default()
        };
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let _turn = self.asking.acquire().await;
        let review = within(self.accesses.create(&PostParams::default(), &review)).await;
        let status = review.map_err(|error| cannot_ask("whether that is allowed", &error.message()))?.status;
        if status.is_some_and(|status| status.allowed && status.denied != Some(true)) {
            return Ok(());
        }
        let node = node.map_or_else(|| "all nodes".to_owned(), |node| format!("node {node}"));
        let why = format!("Forbidden (user={}, verb={verb}, resource=nodes, subresource=proxy, {node})", caller.user);
        Err(Refusal(StatusCode::FORBIDDEN, why))
    }
}

fn cannot_ask(what: &str, why: &str) -> Refusal {
    let why = format!("argosy-syncer cannot ask the control cluster's API server {what}: {why}");
    Refusal(StatusCode::INTERNAL_SERVER_ERROR, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_names_its_user_and_groups() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, "kube-apiserver-kubelet-client");
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "kubeadm:cluster-admins");
        let certificate = params.self_signed(&key).unwrap();
        let caller = Peer::new(Some(certificate.der())).0.unwrap();
        assert_eq!(caller.user, "kube-apiserver-kubelet-client");
        assert_eq!(caller.groups, ["kubeadm:cluster-admins", AUTHENTICATED]);
        assert_eq!(Peer::new(None).0, None);
    }
}
