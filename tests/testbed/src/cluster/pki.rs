//! The certificates and keys of one cluster: a CA of its own, the API server's, the API server's towards kubelets, the
//! administrator's, and the pair of keys for service accounts' tokens.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType, SigningKey,
};
use serde_json::{Value, json};

use crate::Testbed;
use crate::layout::{create_private_dir, write_file};

/// Where a cluster's certificates and keys lie; all keys can be read by their owner only.
#[derive(Debug, Clone)]
pub struct Pki {
    dir: PathBuf,
}

impl Pki {
    /// The cluster's certificates in `dir`, made at the first call. `names` and `addresses` are what the API server is
    /// called.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn ensure(dir: &Path, cluster: &str, names: &[&str], addresses: &[IpAddr]) -> Result<Self> {
        let pki = Self { dir: dir.to_owned() };
        if dir.exists() {
            return Ok(pki);
        }
        // Made beside and renamed: a killed run leaves all of it or nothing.
        let temporary = dir.with_extension("new");
        if temporary.exists() {
            fs::remove_dir_all(&temporary).with_context(|| format!("removing {}", temporary.display()))?;
        }
        create_private_dir(&temporary)?;
        generate(&temporary, cluster, names, addresses).with_context(|| format!("{cluster}: making certificates"))?;
        fs::rename(&temporary, dir).with_context(|| format!("renaming {}", temporary.display()))?;
        Ok(pki)
    }

    /// The path of one of the files: `ca.crt`, `ca.key`, `apiserver.{crt,key}`, `kubelet-client.{crt,key}`,
    /// `admin.{crt,key}`, `service-accounts.{key,pub}`.
    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.join(file)
    }

    /// The content of one of the files.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(&self, file: &str) -> Result<String> {
        let path = self.path(file);
        fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    }

    /// The administrator's kubeconfig for the API server at `server`.
    ///
    /// # Errors
    /// The files cannot be read.
    pub fn admin_kubeconfig(&self, cluster: &str, server: &str) -> Result<String> {
        let credentials = json!({
            "client-certificate-data": BASE64.encode(self.read("admin.crt")?),
            "client-key-data": BASE64.encode(self.read("admin.key")?),
        });
        super::kubeconfig(cluster, server, &self.read("ca.crt")?, "admin", &credentials)
    }
}

/// A service account's token as if it had been granted so many hours ago, for so many from now on.
///
/// # Errors
/// It is no such token of this cluster's.
pub fn dated(testbed: &Testbed, cluster: &str, token: &str, ago: i64, until: i64) -> Result<String> {
    let pki = Pki { dir: testbed.layout.cluster_dir(cluster).join("pki") };
    let mut parts = token.split('.');
    let (header, payload) = parts.next().zip(parts.next()).context("no token")?;
    let mut claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload)?)?;
    for (claim, hours) in [("iat", -ago), ("nbf", -ago), ("exp", until)] {
        claims[claim] = json!(jiff::Timestamp::now().as_second() + hours * 3600);
    }
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let key = KeyPair::from_pem(&pki.read("service-accounts.key")?)?;
    let signature = fixed(&SigningKey::sign(&key, signed.as_bytes())?).context("no ECDSA signature")?;
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

/// An ECDSA signature over P-256 as JSON Web Signatures have it (RFC 7518, 3.4): both numbers in 32 bytes each, instead of
/// DER's integers.
fn fixed(der: &[u8]) -> Option<Vec<u8>> {
    let mut rest = der.get(2..)?;
    let mut numbers = Vec::new();
    for _ in 0..2 {
        let length = usize::from(*rest.get(1)?);
        let number = rest.get(2..2 + length)?;
        let number = &number[number.len().saturating_sub(32)..];
        numbers.resize(numbers.len() + 32 - number.len(), 0);
        numbers.extend_from_slice(number);
        rest = &rest[2 + length..];
    }
    Some(numbers)
}

fn generate(dir: &Path, cluster: &str, names: &[&str], addresses: &[IpAddr]) -> Result<()> {
    let ca_key = KeyPair::generate()?;
    let mut ca = params(&format!("{cluster} CA"), None);
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    let ca_certificate = ca.self_signed(&ca_key)?;
    write_file(&dir.join("ca.crt"), ca_certificate.pem(), 0o644)?;
    write_file(&dir.join("ca.key"), ca_key.serialize_pem(), 0o600)?;
    let issuer = Issuer::new(ca, ca_key);

    let mut server = params("kube-apiserver", None);
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    for name in names {
        server.subject_alt_names.push(SanType::DnsName((*name).try_into()?));
    }
    server.subject_alt_names.extend(addresses.iter().map(|address| SanType::IpAddress(*address)));
    sign(dir, "apiserver", server, &issuer)?;

    for (file, name) in [("kubelet-client", "kube-apiserver-kubelet-client"), ("admin", "admin")] {
        let mut client = params(name, Some("system:masters"));
        client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        sign(dir, file, client, &issuer)?;
    }

    let tokens = KeyPair::generate()?;
    write_file(&dir.join("service-accounts.pub"), tokens.public_key_pem(), 0o644)?;
    write_file(&dir.join("service-accounts.key"), tokens.serialize_pem(), 0o600)
}

fn params(common_name: &str, organization: Option<&str>) -> CertificateParams {
    // rcgen's default validity (1975 to 4096) suits a testbed: no clock ever makes it fail.
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, common_name);
    if let Some(organization) = organization {
        params.distinguished_name.push(DnType::OrganizationName, organization);
    }
    params
}

fn sign(dir: &Path, file: &str, mut params: CertificateParams, issuer: &Issuer<'_, KeyPair>) -> Result<()> {
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, issuer)?;
    write_file(&dir.join(format!("{file}.crt")), certificate.pem(), 0o644)?;
    write_file(&dir.join(format!("{file}.key")), key.serialize_pem(), 0o600)
}
