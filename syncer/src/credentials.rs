//! The token by which the syncer signs in to the other cluster: renewed every day where `kubectl argosy join` made its
//! Secret, so that one good for a few days suffices.

use std::time::Duration;

use argosy_api::workload_cluster::SecretKey;
use argosy_api::{kubeconfig, names};
use argosy_runtime::client::{RequestError, within};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde::Deserialize;
use serde_json::{Value, json};
use thiserror::Error;
use tokio::time::sleep;

use crate::health::{Trouble, UNAUTHORIZED};
use crate::lease::Lease;

/// A token is renewed when it is this old, or half of its time is over.
const DAY: i64 = 24 * 3600;
/// How long a session lasts at least before it renews, which ends it: clocks may be far apart.
const PAUSE: Duration = Duration::from_secs(30);
/// A machine may sleep while we do: time is looked at this often.
const LOOK: Duration = Duration::from_secs(600);

/// What a service account's token says of itself. One that does not expire says less, and is none of these.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Claims {
    iat: i64,
    exp: i64,
    sub: String,
}

impl Claims {
    /// Namespace and name of the account.
    fn account(&self) -> Option<(&str, &str)> {
        self.sub.strip_prefix("system:serviceaccount:")?.split_once(':')
    }

    /// Seconds until it should be renewed.
    fn due_in(&self, now: Timestamp) -> u64 {
        let lifetime = self.exp.saturating_sub(self.iat);
        let due = self.iat.saturating_add(DAY.min(lifetime / 2));
        u64::try_from(due.saturating_sub(now.as_second())).unwrap_or_default()
    }
}

/// Why a token was not renewed; it is tried again.
#[derive(Debug, Error)]
enum RenewError {
    #[error("cannot read the Secret: {}", .source.message())]
    ReadSecret { source: RequestError },
    #[error(
        "the cluster grants no new token: {}{}", .source.message(),
        if .source.status() == Some(403) { " (`helm upgrade` argosy-member there, or join again)" } else { "" }
    )]
    Ask { source: RequestError },
    #[error("the cluster's answer holds no token")]
    Empty,
    #[error("the kubeconfig cannot be written")]
    Compose { source: Box<serde_saphyr::SerializeError> },
    #[error("the Lease is no longer held")]
    LeaseLost,
    #[error("cannot write the Secret: {}", .source.message())]
    WriteSecret { source: RequestError },
}

/// How a Secret holds a token.
pub enum Held<'a> {
    /// In a kubeconfig, under this key.
    Kubeconfig(&'a SecretKey),
    /// By itself, in the Secret of this name.
    Token(&'a str),
}

/// The key of a token that is held by itself.
const TOKEN: &str = "token";

impl Held<'_> {
    fn name(&self) -> &str {
        match self {
            Self::Kubeconfig(reference) => &reference.name,
            Self::Token(name) => name,
        }
    }

    fn key(&self) -> &str {
        match self {
            Self::Kubeconfig(reference) => &reference.key,
            Self::Token(_) => TOKEN,
        }
    }

    /// What the Secret holds, and what its token says.
    fn read(&self, secret: &Secret) -> Option<(Value, Claims)> {
        match self {
            Self::Kubeconfig(reference) => read(secret, &reference.key),
            Self::Token(_) => {
                let token = std::str::from_utf8(&secret.data.as_ref()?.get(TOKEN)?.0).ok()?;
                Some((json!(token), kubeconfig::claims(token)?))
            }
        }
    }

    /// The same with another token.
    fn with_token(&self, old: Value, token: &str) -> Result<String, RenewError> {
        match self {
            Self::Kubeconfig(_) => {
                let renewed = kubeconfig::with_token(old, token).ok_or(RenewError::Empty)?;
                serde_saphyr::to_string(&renewed).map_err(|source| RenewError::Compose { source: Box::new(source) })
            }
            Self::Token(_) => Ok(token.to_owned()),
        }
    }
}

/// The credentials of one session.
pub struct Credentials<'a> {
    /// The cluster where the Secret is, and its namespace there.
    pub store: &'a Client,
    pub namespace: &'a str,
    pub secret: Held<'a>,
    /// The cluster that they are for.
    pub issuer: &'a Client,
    pub lease: &'a Lease,
}

impl Credentials<'_> {
    /// Renews the token whenever that is due; the change of the Secret then ends the session. Does not return.
    pub async fn keep(&self) {
        let name = self.secret.name();
        loop {
            sleep(PAUSE).await;
            match self.renew_if_due().await {
                Ok(Some(wait)) => sleep(wait.min(LOOK)).await,
                // A change of the Secret ends the session, so there is nothing to come back for.
                Ok(None) => std::future::pending().await,
                Err(error) => {
                    tracing::warn!(secret = name, %error, "cannot renew the token; trying again");
                    sleep(LOOK).await;
                }
            }
        }
    }

    /// How long until the next look; `None` where there is nothing to renew.
    async fn renew_if_due(&self) -> Result<Option<Duration>, RenewError> {
        let Self { store, namespace, secret: held, issuer, lease } = self;
        let secrets: Api<Secret> = Api::namespaced((*store).clone(), namespace);
        let secret = within(secrets.get(held.name())).await;
        let secret = secret.map_err(|source| RenewError::ReadSecret { source })?;
        if !is_joined(&secret) {
            return Ok(None);
        }
        let Some((old, claims)) = held.read(&secret) else { return Ok(None) };
        let Some((account_namespace, account)) = claims.account() else { return Ok(None) };
        let due_in = claims.due_in(Timestamp::now());
        if due_in > 0 {
            return Ok(Some(Duration::from_secs(due_in)));
        }
        let accounts: Api<ServiceAccount> = Api::namespaced((*issuer).clone(), account_namespace);
        let request = kubeconfig::token_request();
        let answer = within(accounts.create_token_request(account, &PostParams::default(), &request)).await;
        let granted = answer.map_err(|source| RenewError::Ask { source })?.status.ok_or(RenewError::Empty)?;
        let text = held.with_token(old, &granted.token)?;
        if !lease.is_held() {
            return Err(RenewError::LeaseLost);
        }
        let data = json!({held.key(): ByteString(text.into_bytes())});
        let patch = Patch::Merge(json!({"metadata": {"resourceVersion": secret.resource_version()}, "data": data}));
        let written = within(secrets.patch(held.name(), &PatchParams::default(), &patch)).await;
        written.map_err(|source| RenewError::WriteSecret { source })?;
        tracing::info!(secret = held.name(), until = %granted.expiration_timestamp.0, "renewed the token");
        Ok(Some(LOOK))
    }
}

fn is_joined(secret: &Secret) -> bool {
    secret.labels().contains_key(names::JOINED)
}

/// The kubeconfig, and what its token says.
fn read(secret: &Secret, key: &str) -> Option<(Value, Claims)> {
    let kubeconfig: Value = serde_saphyr::from_slice(&secret.data.as_ref()?.get(key)?.0).ok()?;
    let claims = kubeconfig::claims(kubeconfig::token(&kubeconfig)?)?;
    Some((kubeconfig, claims))
}

/// What is wrong with a cluster that refuses our credentials, if it is that they have expired.
pub fn explain(trouble: Trouble, cluster: &str, secret: &Secret, key: &str) -> Trouble {
    match expired(secret, key, Timestamp::now()).filter(|_| trouble.reason == UNAUTHORIZED) {
        None => trouble,
        Some(since) => {
            let remedy = if is_joined(secret) {
                format!("get a new one with `kubectl argosy join {cluster} --renew`")
            } else {
                format!("put a new one into Secret {}, key {key:?}", secret.name_any())
            };
            let message = format!("the token for the cluster expired at {since}: {remedy}");
            Trouble { reason: "CredentialsExpired", message }
        }
    }
}

/// Since when, if they have.
fn expired(secret: &Secret, key: &str, now: Timestamp) -> Option<Timestamp> {
    let (_, claims) = read(secret, key)?;
    Timestamp::from_second(claims.exp).ok().filter(|since| *since <= now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use argosy_api::kubeconfig::Endpoint;
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use rstest::rstest;

    const SUB: &str = "system:serviceaccount:argosy:argosy-syncer";

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn token(payload: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload))
    }

    #[rstest]
    #[case::a_service_accounts(&token(r#"{"iat":1,"exp":2,"sub":"system:serviceaccount:n:a","aud":["x"]}"#), Some(("n", "a")))]
    #[case::a_persons(&token(r#"{"iat":1,"exp":2,"sub":"ann"}"#), None)]
    #[case::one_that_does_not_expire(&token(r#"{"iat":1,"sub":"system:serviceaccount:n:a"}"#), None)]
    #[case::no_json(&token("x"), None)]
    #[case::no_base64("a.ä.c", None)]
    #[case::opaque("abcdef.0123456789abcdef", None)]
    #[case::empty("", None)]
    fn whose_a_token_is(#[case] token: &str, #[case] expected: Option<(&str, &str)>) {
        let claims = kubeconfig::claims::<Claims>(token);
        assert_eq!(claims.as_ref().and_then(Claims::account), expected);
    }

    const WEEK: i64 = 7 * DAY;

    #[rstest]
    #[case::new(0, WEEK, 0, 24 * 3600)]
    #[case::of_this_morning(0, WEEK, 20 * 3600, 4 * 3600)]
    #[case::a_day_old(0, WEEK, DAY, 0)]
    #[case::long_expired(0, WEEK, 9 * DAY, 0)]
    #[case::granted_for_an_hour_only(0, 3600, 0, 1800)]
    #[case::from_a_clock_that_is_ahead(100, WEEK, 0, 100 + 24 * 3600)]
    #[case::nonsense(i64::MAX, i64::MIN, 0, i64::MAX as u64)]
    fn when_a_token_is_due(#[case] iat: i64, #[case] exp: i64, #[case] now: i64, #[case] expected: u64) {
        let due_in = Claims { iat, exp, sub: SUB.into() }.due_in(at(now));
        // Of nonsense it matters only that it is no panic.
        assert!(due_in == expected || iat == i64::MAX, "{due_in}");
    }

    fn secret(is_joined: bool, exp: i64) -> Secret {
        let endpoint = Endpoint { server: "https://h".into(), ca_data: None, tls_server_name: None };
        let token = token(&json!({"iat": 0, "exp": exp, "sub": SUB}).to_string());
        let text = serde_saphyr::to_string(&kubeconfig::compose("c", &endpoint, &token)).unwrap();
        let mut secret = Secret {
            data: Some([("kubeconfig".to_owned(), ByteString(text.into_bytes()))].into()),
            ..Secret::default()
        };
        secret.metadata.name = Some("c-kubeconfig".into());
        secret.metadata.labels = is_joined.then(|| [(names::JOINED.to_owned(), "c".to_owned())].into());
        secret
    }

    #[rstest]
    #[case::expired(
        UNAUTHORIZED,
        true,
        5,
        "CredentialsExpired: the token for the cluster expired at 1970-01-01T00:00:05Z: get a new one with `kubectl argosy join c --renew`"
    )]
    #[case::a_secret_made_by_hand(
        UNAUTHORIZED,
        false,
        5,
        "CredentialsExpired: the token for the cluster expired at 1970-01-01T00:00:05Z: put a new one into Secret c-kubeconfig, key \"kubeconfig\""
    )]
    #[case::revoked_before_its_time(UNAUTHORIZED, true, 253_402_207_000, "Unauthorized: m")]
    #[case::not_reached_at_all("Unreachable", true, 5, "Unreachable: m")]
    fn expired_credentials_are_told_from_others(
        #[case] reason: &'static str,
        #[case] is_joined: bool,
        #[case] exp: i64,
        #[case] expected: &str,
    ) {
        let trouble = Trouble { reason, message: "m".into() };
        let explained = explain(trouble, "c", &secret(is_joined, exp), "kubeconfig");
        assert_eq!(format!("{}: {}", explained.reason, explained.message), expected);
    }

    #[test]
    fn a_kubeconfig_without_an_expiring_token_is_left_alone() {
        let mut other = secret(true, 5);
        other.data = Some([("kubeconfig".to_owned(), ByteString(b"users: []".to_vec()))].into());
        assert!(read(&other, "kubeconfig").is_none());
        assert!(read(&other, "x").is_none());
        assert!(read(&Secret::default(), "x").is_none());
    }
}
