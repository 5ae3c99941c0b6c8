//! The workload cluster: how its administrator reaches it, and how the syncer will.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use argosy_api::kubeconfig::Endpoint;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::Args;
use http::Uri;
use kube::Client;
use kube::config::{Cluster, Kubeconfig};
use thiserror::Error;

use crate::connect::{self, ControlArgs};

/// What these options are about, in the help.
const HEADING: &str = "Workload cluster";

/// Where the workload cluster is, as its administrator.
#[derive(Debug, Args)]
pub struct MemberArgs {
    /// Context of the workload cluster [default: the current one of --member-kubeconfig]
    #[arg(long, value_name = "CONTEXT", help_heading = HEADING)]
    pub member_context: Option<String>,
    /// Kubeconfig file of the workload cluster [default: the control cluster's]
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    pub member_kubeconfig: Option<PathBuf>,
    /// Namespace in the workload cluster for the syncer's account; each control cluster needs one of its own
    #[arg(long, value_name = "NAMESPACE", default_value = "argosy", help_heading = HEADING)]
    pub member_namespace: String,
}

impl MemberArgs {
    /// Whether the command line says where it is.
    pub fn is_given(&self) -> bool {
        self.member_context.is_some() || self.member_kubeconfig.is_some()
    }

    /// Its kubeconfig.
    pub fn kubeconfig(&self, control: &ControlArgs) -> Result<Kubeconfig> {
        let file = self.member_kubeconfig.as_ref().or(control.kubeconfig.as_ref());
        connect::read(file.map(PathBuf::as_path))?.context("there is no kubeconfig: give one with --member-kubeconfig")
    }

    /// An administrator's client.
    pub async fn client(&self, kubeconfig: Kubeconfig) -> Result<Client> {
        connect::client(kubeconfig, self.member_context.as_deref()).await.context("the workload cluster")
    }
}

/// What the syncer is to be told of the way to the cluster, other than in the administrator's kubeconfig.
#[derive(Debug, Default, Args)]
pub struct WayArgs {
    /// The API server's address as the syncer reaches it [default: the one in the kubeconfig]
    #[arg(long, value_name = "URL", help_heading = HEADING)]
    pub server: Option<String>,
    /// File with the API server's CA (PEM) [default: what the kubeconfig says]
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    pub certificate_authority: Option<String>,
}

/// Why the syncer cannot be told the way.
#[derive(Debug, Error)]
pub enum WayError {
    #[error("the kubeconfig has no context {context:?}; it has {}", .present.join(", "))]
    NoContext { context: String, present: Vec<String> },
    #[error("the kubeconfig names no current context: choose one with --member-context")]
    NoCurrentContext,
    #[error("the kubeconfig's cluster {cluster:?} has no server")]
    NoServer { cluster: String },
    #[error("server {server:?} is no address; expected https://HOST[:PORT] (--server)")]
    BadServer { server: String },
    #[error(
        "server {server:?} is refused (the syncer's token would travel in the clear); expected https:// (--server)"
    )]
    Plain { server: String },
    #[error(
        "insecure-skip-tls-verify is refused (the syncer would hand its token to whoever answers); expected a CA in \
         the kubeconfig or --certificate-authority"
    )]
    Insecure,
    #[error(
        "proxy-url {proxy:?} is refused (the syncer uses no proxy: credentials would pass through it); say with \
         --server how the syncer reaches the cluster without it"
    )]
    Proxy { proxy: String },
    #[error("cannot read the CA's certificate {file:?}")]
    ReadCa { file: String, source: io::Error },
    #[error("{file:?} holds no certificate; expected PEM (-----BEGIN CERTIFICATE-----)")]
    BadCa { file: String },
}

/// What the syncer gets of the administrator's kubeconfig: address and CA of one cluster, nothing of the user.
pub fn endpoint(
    kubeconfig: &Kubeconfig,
    context: Option<&str>,
    way: &WayArgs,
    read: impl Fn(&str) -> io::Result<Vec<u8>>,
) -> Result<Endpoint, WayError> {
    let (name, cluster) = cluster(kubeconfig, context)?;
    if let (Some(proxy), None) = (&cluster.proxy_url, &way.server) {
        return Err(WayError::Proxy { proxy: proxy.clone() });
    }
    let server = way.server.as_ref().or(cluster.server.as_ref());
    let server = server.ok_or_else(|| WayError::NoServer { cluster: name.to_owned() })?;
    check(server)?;
    let inline = |file: &String| {
        let pem = read(file).map_err(|source| WayError::ReadCa { file: file.clone(), source })?;
        if !String::from_utf8_lossy(&pem).contains("-----BEGIN CERTIFICATE-----") {
            return Err(WayError::BadCa { file: file.clone() });
        }
        Ok(BASE64.encode(pem))
    };
    let ca_data = match (&way.certificate_authority, &cluster.certificate_authority_data) {
        (Some(file), _) => Some(inline(file)?),
        (None, _) if cluster.insecure_skip_tls_verify == Some(true) => return Err(WayError::Insecure),
        (None, Some(data)) => Some(data.clone()),
        (None, None) => cluster.certificate_authority.as_ref().map(inline).transpose()?,
    };
    Ok(Endpoint { server: server.clone(), ca_data, tls_server_name: cluster.tls_server_name.clone() })
}

/// The cluster of a context, and its name.
fn cluster<'a>(kubeconfig: &'a Kubeconfig, context: Option<&str>) -> Result<(&'a str, &'a Cluster), WayError> {
    let name = context.or(kubeconfig.current_context.as_deref()).ok_or(WayError::NoCurrentContext)?;
    let found = kubeconfig.contexts.iter().find(|named| named.name == name).and_then(|named| named.context.as_ref());
    let context = found.ok_or_else(|| WayError::NoContext {
        context: name.to_owned(),
        present: kubeconfig.contexts.iter().map(|named| named.name.clone()).collect(),
    })?;
    let name = context.cluster.as_str();
    let cluster = kubeconfig.clusters.iter().find(|named| named.name == name).and_then(|named| named.cluster.as_ref());
    cluster.map(|cluster| (name, cluster)).ok_or_else(|| WayError::NoServer { cluster: name.to_owned() })
}

fn check(server: &str) -> Result<(), WayError> {
    let uri = server.parse::<Uri>().ok().filter(|uri| uri.host().is_some_and(|host| !host.is_empty()));
    match uri.as_ref().and_then(Uri::scheme_str) {
        Some("https") => Ok(()),
        Some("http") => Err(WayError::Plain { server: server.to_owned() }),
        _ => Err(WayError::BadServer { server: server.to_owned() }),
    }
}

/// Whether the address means the machine that asks, so that another machine would reach itself by it.
pub fn is_loopback(server: &str) -> bool {
    let uri = server.parse::<Uri>().ok();
    let host = uri.as_ref().and_then(Uri::host).unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match host.parse::<IpAddr>() {
        Ok(address) => address.is_loopback() || address.is_unspecified(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const PEM: &str = "-----BEGIN CERTIFICATE-----\n";

    fn told(cluster: &str, context: Option<&str>, way: &WayArgs) -> String {
        let text = format!(
            "current-context: c\ncontexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n\
             clusters: [{{name: k, cluster: {{{cluster}}}}}]\nusers: [{{name: u, user: {{exec: {{command: sh}}}}}}]\n"
        );
        let kubeconfig = Kubeconfig::from_yaml(&text).unwrap();
        let read = |file: &str| match file {
            "/ca" => Ok(PEM.into()),
            "/text" => Ok("text".into()),
            _ => Err(io::ErrorKind::NotFound.into()),
        };
        match endpoint(&kubeconfig, context, way, read) {
            Ok(endpoint) => [
                Some(endpoint.server),
                endpoint.ca_data.map(|data| format!("ca={data}")),
                endpoint.tls_server_name.map(|name| format!("as={name}")),
            ]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(" "),
            Err(error) => error.to_string(),
        }
    }

    #[rstest]
    #[case::inline("server: 'https://h:1', certificate-authority-data: Q0E=", "https://h:1 ca=Q0E=")]
    #[case::a_file_is_inlined(
        "server: 'https://h', certificate-authority: /ca",
        "https://h ca=LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCg=="
    )]
    #[case::publicly_signed("server: 'https://h'", "https://h")]
    #[case::another_name("server: 'https://h', tls-server-name: n", "https://h as=n")]
    #[case::a_file_that_is_missing(
        "server: 'https://h', certificate-authority: /x",
        "cannot read the CA's certificate \"/x\""
    )]
    #[case::a_file_of_something_else(
        "server: 'https://h', certificate-authority: /text",
        "\"/text\" holds no certificate; expected PEM (-----BEGIN CERTIFICATE-----)"
    )]
    #[case::insecure(
        "server: 'https://h', insecure-skip-tls-verify: true",
        "insecure-skip-tls-verify is refused (the syncer would hand its token to whoever answers); expected a CA in the kubeconfig or --certificate-authority"
    )]
    #[case::by_proxy(
        "server: 'https://h', proxy-url: 'http://p'",
        "proxy-url \"http://p\" is refused (the syncer uses no proxy: credentials would pass through it); say with --server how the syncer reaches the cluster without it"
    )]
    #[case::plain(
        "server: 'http://h'",
        "server \"http://h\" is refused (the syncer's token would travel in the clear); expected https:// (--server)"
    )]
    #[case::no_address("server: h", "server \"h\" is no address; expected https://HOST[:PORT] (--server)")]
    #[case::none("", "the kubeconfig's cluster \"k\" has no server")]
    fn what_the_syncer_gets_of_a_kubeconfig(#[case] cluster: &str, #[case] expected: &str) {
        assert_eq!(told(cluster, None, &WayArgs::default()), expected);
    }

    #[rstest]
    #[case::server(Some("https://i"), None, "https://i ca=Q0E=")]
    #[case::ca(None, Some("/ca"), "https://h ca=LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCg==")]
    fn what_the_command_line_says_goes_first(
        #[case] server: Option<&str>,
        #[case] ca: Option<&str>,
        #[case] expected: &str,
    ) {
        let way = WayArgs { server: server.map(str::to_owned), certificate_authority: ca.map(str::to_owned) };
        assert_eq!(told("server: 'https://h', certificate-authority-data: Q0E=", None, &way), expected);
    }

    #[test]
    fn a_server_of_ones_own_makes_the_proxy_needless() {
        let way = WayArgs { server: Some("https://i".into()), ..WayArgs::default() };
        assert_eq!(told("server: 'https://h', proxy-url: 'http://p'", None, &way), "https://i");
    }

    #[test]
    fn a_wrong_context_is_answered_with_the_right_ones() {
        let told = told("server: 'https://h'", Some("x"), &WayArgs::default());
        assert_eq!(told, "the kubeconfig has no context \"x\"; it has c");
    }

    #[rstest]
    #[case("https://127.0.0.1:43211", true)]
    #[case("https://localhost:6443", true)]
    #[case("https://[::1]:6443", true)]
    #[case("https://0.0.0.0:6443", true)]
    #[case("https://10.0.0.1:6443", false)]
    #[case("https://localhost.example.com", false)]
    fn addresses_that_mean_the_machine_itself(#[case] server: &str, #[case] expected: bool) {
        assert_eq!(is_loopback(server), expected);
    }
}
