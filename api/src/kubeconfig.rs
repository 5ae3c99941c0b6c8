//! The kubeconfig of a WorkloadCluster as `kubectl argosy join` writes it and the syncer renews it: one cluster, one
//! user, one token, all of it inline.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The account that the control cluster's syncer signs in as.
pub const ACCOUNT: &str = "argosy-syncer";

/// How long a token is good for; the API server may grant less.
const TOKEN_SECONDS: i64 = 7 * 24 * 3600;

/// What the WEC's API server is asked for a token with.
pub fn token_request() -> TokenRequest {
    let spec = TokenRequestSpec { expiration_seconds: Some(TOKEN_SECONDS), ..TokenRequestSpec::default() };
    TokenRequest { spec, ..TokenRequest::default() }
}

/// Where an API server is, and by what it is recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `https://HOST:PORT`
    pub server: String,
    /// The CA's certificates, PEM in base64. Without it the syncer's own roots have to vouch for the server.
    pub ca_data: Option<String>,
    /// The name in the server's certificate, where it is not the address's.
    pub tls_server_name: Option<String>,
}

/// The kubeconfig for the cluster `name`.
pub fn compose(name: &str, endpoint: &Endpoint, token: &str) -> Value {
    with_user(name, endpoint, ACCOUNT, &json!({"token": token}))
}

/// The same for a user of this name who signs in so.
pub fn with_user(name: &str, endpoint: &Endpoint, user: &str, credentials: &Value) -> Value {
    let Endpoint { server, ca_data, tls_server_name } = endpoint;
    let mut cluster = json!({"server": server});
    let optional = [("certificate-authority-data", ca_data), ("tls-server-name", tls_server_name)];
    for (key, value) in optional {
        if let Some(value) = value {
            cluster[key] = json!(value);
        }
    }
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": user, "user": credentials}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": user}}],
        "current-context": name,
    })
}

/// The token that a kubeconfig signs in with.
pub fn token(kubeconfig: &Value) -> Option<&str> {
    let user = current_user(kubeconfig)?;
    named(&kubeconfig["users"], user)?.pointer("/user/token")?.as_str()
}

/// What a token says of itself, if it is one that says such things. It is not verified here: the cluster that it is for
/// does that, and we only go by it in what we ask of that cluster.
pub fn claims<T: DeserializeOwned>(token: &str) -> Option<T> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&payload).ok()
}

/// The same kubeconfig with another token; `None` if it signs in with none.
pub fn with_token(mut kubeconfig: Value, token: &str) -> Option<Value> {
    let user = current_user(&kubeconfig)?.to_owned();
    let users = kubeconfig.get_mut("users")?.as_array_mut()?;
    let user = users.iter_mut().find(|entry| entry["name"] == *user)?;
    let slot = user.pointer_mut("/user/token").filter(|slot| slot.is_string())?;
    *slot = json!(token);
    Some(kubeconfig)
}

fn current_user(kubeconfig: &Value) -> Option<&str> {
    let context = named(&kubeconfig["contexts"], kubeconfig["current-context"].as_str()?)?;
    context.pointer("/context/user")?.as_str()
}

fn named<'a>(entries: &'a Value, name: &str) -> Option<&'a Value> {
    entries.as_array()?.iter().find(|entry| entry["name"] == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint() -> Endpoint {
        Endpoint { server: "https://10.0.0.1:6443".into(), ca_data: Some("Q0E=".into()), tls_server_name: None }
    }

    #[test]
    fn a_token_is_found_and_replaced_and_nothing_else() {
        let first = compose("c", &endpoint(), "t1");
        assert_eq!(token(&first), Some("t1"));
        assert_eq!(with_token(first, "t2"), Some(compose("c", &endpoint(), "t2")));
    }

    #[test]
    fn what_is_not_known_of_the_server_is_left_out() {
        let composed = compose("c", &endpoint(), "t");
        let cluster = json!({"server": "https://10.0.0.1:6443", "certificate-authority-data": "Q0E="});
        assert_eq!(composed["clusters"][0]["cluster"], cluster);
    }

    #[test]
    fn without_a_token_there_is_none_to_replace() {
        let mut certificate = compose("c", &endpoint(), "t");
        certificate["users"][0]["user"] = json!({"client-certificate-data": "eA=="});
        assert_eq!(token(&certificate), None);
        assert_eq!(with_token(certificate, "t"), None);
        assert_eq!(with_token(json!("text"), "t"), None);
    }
}
