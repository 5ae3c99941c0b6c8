//! A client for a WEC from the kubeconfig in its Secret.
//!
//! Whoever may write that Secret must not be able to make the syncer run programs, read files or talk through a proxy
//! of theirs: such parts are refused before kube sees them.

use argosy_api::workload_cluster::SecretKey;
use argosy_runtime::client::configure;
use k8s_openapi::api::core::v1::Secret;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::Value;
use thiserror::Error;

/// What is wrong with a cluster's kubeconfig.
#[derive(Debug, Error)]
pub enum KubeconfigError {
    #[error("it has no key {key:?} (spec.kubeconfigSecret.key); it has {}", .present.join(", "))]
    NoKey { key: String, present: Vec<String> },
    #[error("key {key:?} holds no kubeconfig: {source}")]
    Parse { key: String, source: Box<serde_saphyr::Error> },
    #[error("key {key:?}: {field} is refused ({why}); expected a token or a client certificate inline")]
    Refused { key: String, field: String, why: &'static str },
    #[error("key {key:?}: {source}")]
    Use { key: String, source: kube::config::KubeconfigError },
    #[error("key {key:?}: no client can be made of it: {source}")]
    Build { key: String, source: kube::Error },
}

/// Makes clients of the kubeconfig in `secret`: the usual one, and one that lets nothing come for as long as it takes.
pub async fn clients(secret: &Secret, key: &SecretKey) -> Result<(Client, Client), KubeconfigError> {
    let key = key.key.clone();
    let kubeconfig = read(secret, &key)?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(|source| KubeconfigError::Use { key: key.clone(), source })?;
    configure(&mut config);
    // Nor does the syncer's own environment choose the way to a WEC.
    config.proxy_url = None;
    let mut patient = config.clone();
    patient.read_timeout = None;
    let build = |config| Client::try_from(config).map_err(|source| KubeconfigError::Build { key: key.clone(), source });
    Ok((build(config)?, build(patient)?))
}

/// The token that it signs in with, if it does with one.
pub fn token(secret: &Secret, key: &SecretKey) -> Option<String> {
    let bytes = secret.data.as_ref()?.get(&key.key)?;
    let kubeconfig: Value = serde_saphyr::from_slice(&bytes.0).ok()?;
    argosy_api::kubeconfig::token(&kubeconfig).map(ToOwned::to_owned)
}

/// Parses the kubeconfig and refuses what it must not hold.
fn read(secret: &Secret, key: &str) -> Result<Kubeconfig, KubeconfigError> {
    let data = secret.data.as_ref();
    let bytes = data.and_then(|data| data.get(key)).ok_or_else(|| KubeconfigError::NoKey {
        key: key.to_owned(),
        present: data.map(|data| data.keys().cloned().collect()).unwrap_or_default(),
    })?;
    let kubeconfig: Kubeconfig = serde_saphyr::from_slice(&bytes.0)
        .map_err(|source| KubeconfigError::Parse { key: key.to_owned(), source: Box::new(source) })?;
    match refused(&kubeconfig) {
        Some((field, why)) => Err(KubeconfigError::Refused { key: key.to_owned(), field, why }),
        None => Ok(kubeconfig),
    }
}

/// The first field that must not be there, and why.
fn refused(kubeconfig: &Kubeconfig) -> Option<(String, &'static str)> {
    const RUNS: &str = "it would run a program in the syncer";
    const ANYBODY: &str = "credentials would be shown to whoever answers: use https:// and certificate-authority-data";
    const READS: &str = "it would read a file of the syncer";
    let users = kubeconfig.auth_infos.iter().filter_map(|user| Some((&user.name, user.auth_info.as_ref()?)));
    let in_users = users.flat_map(|(name, user)| {
        [
            (user.exec.is_some(), "exec", RUNS),
            (user.auth_provider.is_some(), "auth-provider", RUNS),
            (user.token_file.is_some(), "tokenFile", READS),
            (user.client_certificate.is_some(), "client-certificate", READS),
            (user.client_key.is_some(), "client-key", READS),
        ]
        .map(|(is_there, field, why)| (is_there, format!("users[{name:?}].user.{field}"), why))
    });
    let clusters = kubeconfig.clusters.iter().filter_map(|cluster| Some((&cluster.name, cluster.cluster.as_ref()?)));
    let in_clusters = clusters.flat_map(|(name, cluster)| {
        [
            (cluster.certificate_authority.is_some(), "certificate-authority", READS),
            (cluster.proxy_url.is_some(), "proxy-url", "credentials would pass through the proxy"),
            (cluster.insecure_skip_tls_verify == Some(true), "insecure-skip-tls-verify", ANYBODY),
            (cluster.server.as_ref().is_some_and(|server| !server.starts_with("https://")), "server", ANYBODY),
        ]
        .map(|(is_there, field, why)| (is_there, format!("clusters[{name:?}].cluster.{field}"), why))
    });
    in_users.chain(in_clusters).find(|(is_there, ..)| *is_there).map(|(_, field, why)| (field, why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;
    use rstest::rstest;

    fn outcome(user: &str, cluster: &str) -> String {
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
             clusters: [{{name: c, cluster: {{server: 'https://127.0.0.1:1'{cluster}}}}}]\n\
             users: [{{name: u, user: {{{user}}}}}]\n"
        );
        let data = [("kubeconfig".to_owned(), ByteString(text.into_bytes()))].into();
        read(&Secret { data: Some(data), ..Secret::default() }, "kubeconfig")
            .map_or_else(|e| e.to_string(), |_| "ok".into())
    }

    #[rstest]
    #[case("token: t", "", "ok")]
    #[case("client-certificate-data: eA==, client-key-data: eA==", "", "ok")]
    #[case(
        "exec: {apiVersion: client.authentication.k8s.io/v1, command: sh}",
        "",
        r#"users["u"].user.exec is refused"#
    )]
    #[case("auth-provider: {name: gcp, config: {}}", "", r#"users["u"].user.auth-provider is refused"#)]
    #[case("tokenFile: /etc/passwd", "", r#"users["u"].user.tokenFile is refused"#)]
    #[case("client-certificate: /a, client-key-data: eA==", "", r#"users["u"].user.client-certificate is refused"#)]
    #[case("client-key: /a", "", r#"users["u"].user.client-key is refused"#)]
    #[case("token: t", ", certificate-authority: /a", r#"clusters["c"].cluster.certificate-authority is refused"#)]
    #[case(
        "token: t",
        ", insecure-skip-tls-verify: true",
        r#"clusters["c"].cluster.insecure-skip-tls-verify is refused"#
    )]
    #[case("token: t", ", proxy-url: 'http://p'", r#"clusters["c"].cluster.proxy-url is refused"#)]
    fn what_a_kubeconfig_may_hold(#[case] user: &str, #[case] cluster: &str, #[case] expected: &str) {
        let outcome = outcome(user, cluster);
        assert!(outcome.contains(expected), "{outcome}");
    }

    #[test]
    fn a_missing_key_and_garbage_are_named() {
        let secret = |text: &str| Secret {
            data: Some([("config".to_owned(), ByteString(text.into()))].into()),
            ..Secret::default()
        };
        let missing = read(&secret(""), "kubeconfig").unwrap_err().to_string();
        assert_eq!(missing, "it has no key \"kubeconfig\" (spec.kubeconfigSecret.key); it has config");
        let garbage = read(&secret("[1, 2"), "config").unwrap_err().to_string();
        assert!(garbage.starts_with("key \"config\" holds no kubeconfig: "), "{garbage}");
    }
}
