//! Keepers against an API server in memory, and TLS handshakes by what they wrote there.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, too, fail by panicking")]

mod api_server;

use std::sync::Arc;
use std::time::Duration;

use api_server::{ApiServer, Kind};
use argosy_certs::{Args, Keeper, Kept, Kin, Readiness, Resolver};
use clap::Parser;
use http::Method;
use k8s_openapi::ByteString;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const NAME: &str = "argosy-webhook.argosy.svc";

#[derive(Parser)]
struct Program {
    #[command(flatten)]
    args: Args,
}

struct Replica {
    resolver: Arc<Resolver>,
    ready: watch::Receiver<Readiness>,
    kin: watch::Receiver<Option<Kin>>,
}

fn start(server: &Arc<ApiServer>, more: &[&str]) -> Replica {
    let args = ["webhook", "--tls-san", NAME, "--webhook-configuration", "argosy"];
    let args = Program::parse_from(args.into_iter().chain(more.iter().copied())).args;
    let (Kept { resolver, ready, kin }, task) =
        Keeper::start(server.client(), "argosy", args, CancellationToken::new());
    tokio::spawn(task);
    Replica { resolver, ready, kin }
}

impl Replica {
    async fn becomes(&mut self, wanted: Readiness) {
        let wait = self.ready.wait_for(|ready| *ready == wanted);
        tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap().unwrap();
    }
}

fn configuration() -> Value {
    json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
           "metadata": {"name": "argosy"}, "webhooks": [
               {"name": "route.argosy.dev", "clientConfig": {"url": "https://x"}, "sideEffects": "None",
                "admissionReviewVersions": ["v1"]}]})
}

fn decode(value: &Value) -> Vec<u8> {
    serde_json::from_value::<ByteString>(value.clone()).unwrap().0
}

fn ca_bundle(server: &ApiServer) -> Vec<u8> {
    decode(&server.get(Kind::Configuration).unwrap()["webhooks"][0]["clientConfig"]["caBundle"])
}

fn secret(server: &ApiServer) -> Value {
    server.get(Kind::Secret).unwrap()
}

/// Whether a client that trusts the configuration's bundle, as the API server does, gets through to this replica.
fn handshake(server: &ApiServer, replica: &Replica) -> Result<(), rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    for block in pem::parse_many(ca_bundle(server)).unwrap() {
        roots.add(CertificateDer::from(block.into_contents())).unwrap();
    }
    let client = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let client = client.with_root_certificates(roots).with_no_client_auth();
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = config.with_no_client_auth().with_cert_resolver(replica.resolver.clone());
    let mut client = ClientConnection::new(Arc::new(client), ServerName::try_from(NAME).unwrap())?;
    let mut server = ServerConnection::new(Arc::new(config))?;
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets()?;
        let mut wire = Vec::new();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    Ok(())
}

#[tokio::test]
async fn replicas_that_start_at_once_agree() {
    let server = ApiServer::new();
    server.set(Kind::Configuration, Some(configuration()));
    let mut replicas: Vec<Replica> = (0..5).map(|_| start(&server, &[])).collect();
    for replica in &mut replicas {
        replica.becomes(Ok(())).await;
        handshake(&server, replica).unwrap();
    }
    assert_eq!((server.writes(&Method::POST, Kind::Secret), server.writes(&Method::PUT, Kind::Secret)), (1, 0));
    assert_eq!(server.writes(&Method::PATCH, Kind::Configuration), 1);
    assert_eq!(ca_bundle(&server), decode(&secret(&server)["data"]["ca.crt"]));

    // One that comes later takes what is there.
    let mut late = start(&server, &[]);
    late.becomes(Ok(())).await;
    handshake(&server, &late).unwrap();
    assert_eq!(server.writes(&Method::POST, Kind::Secret), 1);

    // All know each other, and nobody knows the replicas of another Secret.
    let kin = |replica: &Replica| replica.kin.borrow().clone().unwrap();
    assert!(replicas.iter().all(|replica| kin(&late).knows(&kin(replica).token)));
    let elsewhere = ApiServer::new();
    elsewhere.set(Kind::Configuration, Some(configuration()));
    let mut stranger = start(&elsewhere, &[]);
    stranger.becomes(Ok(())).await;
    assert!(!kin(&late).knows(&kin(&stranger).token));
}

#[tokio::test]
async fn a_bundle_that_was_wiped_is_put_back() {
    let server = ApiServer::new();
    let mut replica = start(&server, &[]);
    replica.becomes(Err("there is no MutatingWebhookConfiguration of the given name")).await;
    for _ in 0..2 {
        server.set(Kind::Configuration, Some(configuration()));
        tokio::time::timeout(Duration::from_secs(20), async {
            while server.get(Kind::Configuration).unwrap()["webhooks"][0]["clientConfig"]["caBundle"].is_null() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
        .unwrap();
        replica.becomes(Ok(())).await;
        handshake(&server, &replica).unwrap();
    }
}

#[tokio::test]
async fn what_is_not_ours_is_left_alone_until_it_is_labelled() {
    let server = ApiServer::new();
    server.set(Kind::Configuration, Some(configuration()));
    let theirs = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "argosy-webhook-tls"},
                        "type": "Opaque", "data": {"password": "c2VjcmV0"}});
    server.set(Kind::Secret, Some(theirs));
    let mut replica = start(&server, &[]);
    replica.becomes(Err("the Secret holds something else")).await;
    assert_eq!(secret(&server)["data"], json!({"password": "c2VjcmV0"}));

    let mut ours = secret(&server);
    ours["metadata"]["labels"] = json!({"app.kubernetes.io/managed-by": "argosy"});
    server.set(Kind::Secret, Some(ours));
    replica.becomes(Ok(())).await;
    handshake(&server, &replica).unwrap();
    assert_eq!(
        (&secret(&server)["type"], &secret(&server)["data"]["password"]),
        (&json!("Opaque"), &json!("c2VjcmV0"))
    );
}

#[tokio::test]
async fn replicas_that_want_different_names_settle_on_a_certificate_for_all() {
    let server = ApiServer::new();
    server.set(Kind::Configuration, Some(configuration()));
    let mut old = start(&server, &["--tls-san", "old"]);
    old.becomes(Ok(())).await;
    let mut new = start(&server, &["--tls-san", "new"]);
    new.becomes(Ok(())).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(server.writes(&Method::PUT, Kind::Secret), 1);
    handshake(&server, &old).unwrap();
    handshake(&server, &new).unwrap();
}

/// Real time, with lifetimes of seconds: the served certificate and the published bundle never part.
#[tokio::test(flavor = "multi_thread")]
async fn certificates_and_cas_rotate_under_handshakes() {
    let server = ApiServer::new();
    server.set(Kind::Configuration, Some(configuration()));
    let lifetimes = ["--tls-lifetime", "10s", "--tls-ca-lifetime", "15s"];
    let mut replicas: Vec<Replica> = (0..3).map(|_| start(&server, &lifetimes)).collect();
    for replica in &mut replicas {
        replica.becomes(Ok(())).await;
    }
    let first = secret(&server)["data"]["ca.key"].clone();
    let end = tokio::time::Instant::now() + Duration::from_secs(14);
    while tokio::time::Instant::now() < end {
        for replica in &replicas {
            // The bundle was read a moment before: again, should it have changed in between.
            if handshake(&server, replica).is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
                handshake(&server, replica).unwrap();
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_ne!(secret(&server)["data"]["ca.key"], first);
    assert!(server.writes(&Method::PUT, Kind::Secret) >= 3);
}
