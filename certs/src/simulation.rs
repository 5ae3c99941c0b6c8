//! Years of renewals in a virtual clock, with an API server that learns of a bundle late.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{Timestamp, ToSpan};
use k8s_openapi::ByteString;
use rstest::rstest;
use rustls::RootCertStore;
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::aws_lc_rs;
use rustls::server::ParsedCertificate;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::parse_x509_certificate;

use crate::args::Lifetimes;
use crate::material::{CA_CRT, CA_KEY, Material, TLS_CRT, TLS_KEY};
use crate::plan::{Found, Plan, plan};

const NAME: &str = "argosy-webhook.argosy.svc";

fn names() -> BTreeSet<String> {
    [NAME.to_owned(), "127.0.0.1".to_owned()].into()
}

fn start() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

/// Whether a client that trusts this bundle would accept this server now, CAs' own expiry included (as Go checks it).
fn accepts(bundle: &[u8], material: &Material, now: Timestamp) -> bool {
    let mut roots = RootCertStore::empty();
    for block in pem::parse_many(bundle).unwrap() {
        let (_, ca) = parse_x509_certificate(block.contents()).unwrap();
        if now.as_second() < ca.validity().not_after.timestamp() {
            roots.add(CertificateDer::from(block.contents().to_vec())).unwrap();
        }
    }
    let key = material.certified_key().unwrap();
    let leaf = ParsedCertificate::try_from(&key.cert[0]).unwrap();
    let at = UnixTime::since_unix_epoch(Duration::from_secs(now.as_second().try_into().unwrap()));
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms.all;
    verify_server_cert_signed_by_trust_anchor(&leaf, &roots, &[], at, algorithms).is_ok()
        && [NAME, "127.0.0.1"]
            .into_iter()
            .all(|name| verify_server_name(&leaf, &ServerName::try_from(name).unwrap()).is_ok())
}

/// What the keeper does about a plan.
fn carry_out(plan: Plan, material: Option<Material>, lifetimes: Lifetimes, now: Timestamp) -> Option<Material> {
    let issued = match (plan, material) {
        (Plan::Keep { .. } | Plan::Stuck, material) => return material,
        (Plan::AddAuthority { .. }, Some(material)) => material.with_new_authority(lifetimes, now),
        (Plan::Renew { names, .. }, Some(material)) => material.with_new_certificate(&names, lifetimes, now),
        (_, _) => Material::begin(&names(), lifetimes, now),
    };
    // Through the Secret and back.
    Some(Material::read(&issued.unwrap().data()).unwrap())
}

#[rstest]
#[case::by_default(Lifetimes::default(), 10 * 60, 12 * 365 * 24 * 60 * 60)]
#[case::in_a_hurry(Lifetimes { serving: Duration::from_secs(40), authority: Duration::from_secs(120) }, 1, 1200)]
#[case::serving_outlives_ca(Lifetimes { serving: Duration::from_secs(900), authority: Duration::from_secs(120) }, 1, 900)]
fn no_renewal_is_ever_noticed(#[case] lifetimes: Lifetimes, #[case] step: i64, #[case] span: i64) {
    let mut now = start();
    let mut material: Option<Material> = None;
    // The bundle that was told to the API server, and when; it goes by it from the next step on.
    let (mut told, mut trusted) = (Vec::new(), Vec::new());
    let (mut renewals, mut authorities) = (0, BTreeSet::new());
    let mut quiet = 0;
    while now < start() + span.seconds() {
        if let Some(material) = &material {
            let bundle = material.bundle();
            trusted = std::mem::replace(&mut told, bundle);
        }
        let found = material.as_ref().map_or(Found::Absent, |material| Found::Usable(material.facts()));
        let published = material.as_ref().is_some_and(|material| material.bundle() == told);
        let plan = plan(&found, &names(), published, now);
        let next = match &plan {
            // Nothing happens while nothing changes.
            Plan::Keep { until } if quiet > 3 => *until,
            _ => now + step.seconds(),
        };
        quiet = if matches!(plan, Plan::Keep { .. }) { quiet + 1 } else { 0 };
        renewals += usize::from(quiet == 0);
        material = carry_out(plan, material, lifetimes, now);
        let serving = material.as_ref().unwrap();
        authorities.insert(serving.data()[CA_KEY].0.clone());
        if trusted.is_empty() {
            trusted = serving.bundle();
        }
        assert!(accepts(&trusted, serving, now), "at {now}, after {renewals} renewals");
        now = next;
    }
    assert!(authorities.len() > 3 && renewals > 10, "{} CAs, {renewals} renewals", authorities.len());
    let bundled = pem::parse_many(&trusted).unwrap().len();
    assert!(bundled <= 2, "{bundled} CAs in the bundle at the end");
}

fn data() -> BTreeMap<String, ByteString> {
    Material::begin(&names(), Lifetimes::default(), start()).unwrap().data()
}

#[rstest]
#[case::no_ca(CA_CRT, None, "key ca.crt is missing")]
#[case::no_ca_key(CA_KEY, None, "key ca.key is missing")]
#[case::no_certificate(TLS_CRT, Some(""), "key tls.crt holds no \"CERTIFICATE\" block")]
#[case::no_key(TLS_KEY, Some("no PEM"), "key tls.key holds no \"PRIVATE KEY\" block")]
#[case::broken_pem(
    TLS_CRT,
    Some("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"),
    "key tls.crt is not PEM"
)]
#[case::broken_der(
    TLS_CRT,
    Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
    "key tls.crt holds a certificate that cannot be read"
)]
#[case::broken_key(
    TLS_KEY,
    Some("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
    "key tls.key holds a private key that cannot be read"
)]
fn a_broken_secret_is_told_by_its_key(#[case] key: &str, #[case] value: Option<&str>, #[case] message: &str) {
    let mut data = data();
    match value {
        Some(value) => data.insert(key.to_owned(), ByteString(value.into())),
        None => data.remove(key),
    };
    let error = Material::read(&data).unwrap_err().to_string();
    assert!(error.starts_with(message), "{error}");
}

#[rstest]
#[case(CA_KEY, "key ca.key does not belong to a certificate in key ca.crt")]
#[case(TLS_KEY, "key tls.key does not belong to a certificate in key tls.crt")]
fn keys_of_another_certificate_are_found_out(#[case] key: &str, #[case] message: &str) {
    let mut mixed = data();
    mixed.insert(key.to_owned(), data()[key].clone());
    assert_eq!(Material::read(&mixed).unwrap_err().to_string(), message);
}

#[test]
fn secret_keys_stay_out_of_debug_output() {
    let material = Material::read(&data()).unwrap();
    assert!(format!("{material:?}").contains("secret key elided"));
}
