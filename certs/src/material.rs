//! What the Secret holds: the CAs of the bundle, the key of the one that signs, and the serving certificate.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use k8s_openapi::ByteString;
use pem::{EncodeConfig, LineEnding, Pem};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData,
};
use rustls::RootCertStore;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use sha2::{Digest, Sha256};
use thiserror::Error;
use x509_parser::extensions::GeneralName;

use crate::args::{Lifetimes, earlier, later};
use crate::kin::Kin;
use crate::plan::{Facts, Life, Signer, skew};

/// Key of the bundle: every CA that is trusted, the one that signs first.
pub(crate) const CA_CRT: &str = "ca.crt";
/// Key of the private key of the CA that signs.
pub(crate) const CA_KEY: &str = "ca.key";
/// Key of the serving certificate.
pub(crate) const TLS_CRT: &str = "tls.crt";
/// Key of the serving certificate's private key.
pub(crate) const TLS_KEY: &str = "tls.key";

const CERTIFICATE: &str = "CERTIFICATE";
const PRIVATE_KEY: &str = "PRIVATE KEY";

/// Usable contents of the Secret.
#[derive(Debug)]
pub struct Material {
    /// The bundle; the first one signs.
    authorities: Vec<Certificate>,
    authority_key: KeyPair,
    /// The serving certificate, and whatever comes between it and its CA.
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    serving: Life,
    names: BTreeSet<String>,
}

#[derive(Clone, Debug)]
struct Certificate {
    der: CertificateDer<'static>,
    life: Life,
}

/// Why the contents of the Secret cannot be used: which key, and what is wrong with it.
#[derive(Debug, Error)]
pub enum MaterialError {
    #[error("key {key} is missing")]
    Missing { key: &'static str },
    #[error("key {key} is not PEM")]
    ReadPem { key: &'static str, source: pem::PemError },
    #[error("key {key} holds no {expected:?} block")]
    NoBlock { key: &'static str, expected: &'static str },
    #[error("key {key} holds a certificate that cannot be read: {problem}")]
    ReadCertificate { key: &'static str, problem: String },
    #[error("key {key} holds a private key that cannot be read: {problem}")]
    ReadKey { key: &'static str, problem: String },
    #[error("key {key} does not belong to a certificate in key {certificate}")]
    Mismatch { key: &'static str, certificate: &'static str },
}

/// Issuing a certificate failed.
#[derive(Debug, Error)]
pub enum IssueError {
    #[error("a key could not be generated")]
    GenerateKey { source: rcgen::Error },
    #[error("a CA certificate could not be issued")]
    IssueAuthority { source: rcgen::Error },
    #[error("a certificate for {names:?} could not be issued")]
    IssueCertificate { names: Vec<String>, source: rcgen::Error },
}

impl Material {
    /// A new CA, and a certificate for these names.
    pub fn begin(names: &BTreeSet<String>, lifetimes: Lifetimes, now: Timestamp) -> Result<Self, IssueError> {
        let (authority, authority_key) = issue_authority(lifetimes.authority, now)?;
        let issued = issue_certificate(&authority, &authority_key, names, lifetimes.serving, now)?;
        Ok(Self {
            authorities: vec![authority],
            authority_key,
            chain: vec![issued.certificate.der],
            key: issued.key,
            serving: issued.certificate.life,
            names: names.clone(),
        })
    }

    /// The same with a new CA in the bundle, which signs from now on; the serving certificate stays.
    pub fn with_new_authority(self, lifetimes: Lifetimes, now: Timestamp) -> Result<Self, IssueError> {
        let (authority, authority_key) = issue_authority(lifetimes.authority, now)?;
        let former = self.authorities.into_iter().filter(|former| now < former.life.until);
        Ok(Self { authorities: std::iter::once(authority).chain(former).collect(), authority_key, ..self })
    }

    /// The same with a new serving certificate. CAs that have expired leave the bundle.
    pub fn with_new_certificate(
        self,
        names: &BTreeSet<String>,
        lifetimes: Lifetimes,
        now: Timestamp,
    ) -> Result<Self, IssueError> {
        let mut authorities = self.authorities;
        let issued = match authorities.first() {
            Some(authority) => issue_certificate(authority, &self.authority_key, names, lifetimes.serving, now)?,
            None => return Self::begin(names, lifetimes, now),
        };
        authorities.retain(|authority| now < authority.life.until);
        Ok(Self {
            authorities,
            authority_key: self.authority_key,
            chain: vec![issued.certificate.der],
            key: issued.key,
            serving: issued.certificate.life,
            names: names.clone(),
        })
    }

    /// Reads a Secret's data.
    pub fn read(data: &BTreeMap<String, ByteString>) -> Result<Self, MaterialError> {
        let key_pem = one_of(data, CA_KEY, |tag| tag == PRIVATE_KEY, PRIVATE_KEY)?;
        let authority_key = KeyPair::try_from(key_pem.contents())
            .map_err(|error| MaterialError::ReadKey { key: CA_KEY, problem: error.to_string() })?;
        let mut authorities = Vec::new();
        let spki = authority_key.subject_public_key_info();
        let mut signs = None;
        for der in certificates(data, CA_CRT)? {
            let (life, _, key) = inspect(CA_CRT, &der)?;
            signs = signs.or((key == spki).then_some(authorities.len()));
            authorities.push(Certificate { der, life });
        }
        let signs = signs.ok_or(MaterialError::Mismatch { key: CA_KEY, certificate: CA_CRT })?;
        authorities.swap(0, signs);

        let chain = certificates(data, TLS_CRT)?;
        let leaf = chain.first().ok_or(MaterialError::NoBlock { key: TLS_CRT, expected: CERTIFICATE })?;
        let (serving, names, _) = inspect(TLS_CRT, leaf)?;
        let key_pem = one_of(data, TLS_KEY, |tag| tag.ends_with(PRIVATE_KEY), PRIVATE_KEY)?;
        let key = PrivateKeyDer::try_from(key_pem.into_contents())
            .map_err(|problem| MaterialError::ReadKey { key: TLS_KEY, problem: problem.to_owned() })?;
        let material = Self { authorities, authority_key, chain, key, serving, names };
        material.certified_key()?;
        Ok(material)
    }

    /// The data for the Secret.
    pub fn data(&self) -> BTreeMap<String, ByteString> {
        let tag = match &self.key {
            PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
            PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
            _ => PRIVATE_KEY,
        };
        let entry = |key: &str, pem: Vec<u8>| (key.to_owned(), ByteString(pem));
        BTreeMap::from([
            entry(CA_CRT, self.bundle()),
            entry(CA_KEY, encode(PRIVATE_KEY, [self.authority_key.serialized_der()])),
            entry(TLS_CRT, encode(CERTIFICATE, &self.chain)),
            entry(TLS_KEY, encode(tag, [self.key.secret_der()])),
        ])
    }

    /// What the API server is to trust, as PEM.
    pub fn bundle(&self) -> Vec<u8> {
        encode(CERTIFICATE, self.authorities.iter().map(|authority| &authority.der))
    }

    /// What replicas that read the same Secret know each other by.
    pub(crate) fn kin(&self, name: String) -> Kin {
        // Whoever has the CA's key may read everything that replicas tell each other, and nobody else has it.
        let mut token = Sha256::new_with_prefix(b"argosy: replicas among themselves\0");
        token.update(self.authority_key.serialized_der());
        let authorities = self.authorities.iter().map(|authority| authority.der.to_vec()).collect();
        Kin { authorities, name, token: token.finalize().iter().map(|byte| format!("{byte:02x}")).collect() }
    }

    /// What rustls serves.
    pub fn certified_key(&self) -> Result<Arc<CertifiedKey>, MaterialError> {
        CertifiedKey::from_der(self.chain.clone(), self.key.clone_key(), &provider()).map(Arc::new).map_err(|error| {
            match error {
                rustls::Error::InconsistentKeys(_) => MaterialError::Mismatch { key: TLS_KEY, certificate: TLS_CRT },
                error => MaterialError::ReadKey { key: TLS_KEY, problem: error.to_string() },
            }
        })
    }

    /// When the serving certificate is valid.
    pub(crate) fn serving(&self) -> Life {
        self.serving
    }

    /// Whether both serve the same certificate.
    pub(crate) fn serves_the_same_as(&self, other: &Self) -> bool {
        self.chain == other.chain
    }

    pub(crate) fn facts(&self) -> Facts {
        let signed = |authority: &Certificate| self.leaf().is_some_and(|leaf| self.has_signed(authority, leaf));
        let signer = match self.authorities.iter().position(signed) {
            Some(0) => Signer::Current,
            Some(_) => Signer::Former,
            None => Signer::Nobody,
        };
        let never = Life { from: Timestamp::MIN, until: Timestamp::MIN };
        Facts {
            authority: self.authorities.first().map_or(never, |authority| authority.life),
            serving: self.serving,
            names: self.names.clone(),
            signer,
        }
    }

    fn leaf(&self) -> Option<&CertificateDer<'static>> {
        self.chain.first()
    }

    /// Whether whoever trusts this CA alone accepts the certificate, at a time when it is valid.
    fn has_signed(&self, authority: &Certificate, leaf: &CertificateDer<'_>) -> bool {
        let mut roots = RootCertStore::empty();
        let seconds = u64::try_from(self.serving.from.as_second()).unwrap_or_default();
        let (Ok(()), Ok(leaf)) = (roots.add(authority.der.clone()), ParsedCertificate::try_from(leaf)) else {
            return false;
        };
        let between = self.chain.get(1..).unwrap_or_default();
        let at = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let algorithms = provider().signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&leaf, &roots, between, at, algorithms).is_ok()
    }
}

/// The one provider of cryptography in all of Argosy.
fn provider() -> CryptoProvider {
    aws_lc_rs::default_provider()
}

struct Issued {
    certificate: Certificate,
    key: PrivateKeyDer<'static>,
}

fn issue_authority(lifetime: Duration, now: Timestamp) -> Result<(Certificate, KeyPair), IssueError> {
    let key = KeyPair::generate().map_err(|source| IssueError::GenerateKey { source })?;
    let life = Life { from: whole(earlier(now, skew(lifetime))), until: whole(later(now, lifetime)) };
    let mut params = params(life);
    // A name of its own, so that whoever verifies does not have to try CAs of one name in turn.
    params.distinguished_name.push(DnType::CommonName, format!("argosy {}", whole(now)));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let issued = params.self_signed(&key).map_err(|source| IssueError::IssueAuthority { source })?;
    Ok((Certificate { der: issued.into(), life }, key))
}

fn issue_certificate(
    authority: &Certificate,
    authority_key: &KeyPair,
    names: &BTreeSet<String>,
    lifetime: Duration,
    now: Timestamp,
) -> Result<Issued, IssueError> {
    let failed = |source| IssueError::IssueCertificate { names: names.iter().cloned().collect(), source };
    let key = KeyPair::generate().map_err(|source| IssueError::GenerateKey { source })?;
    let until = later(now, lifetime).min(authority.life.until);
    let life = Life { from: whole(earlier(now, skew(lifetime))), until: whole(until) };
    let mut params = params(life);
    let alternatives = CertificateParams::new(names.iter().cloned().collect::<Vec<_>>()).map_err(failed)?;
    params.subject_alt_names = alternatives.subject_alt_names;
    params.distinguished_name.push(DnType::CommonName, "argosy webhook");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let issuer = Issuer::from_ca_cert_der(&authority.der, authority_key).map_err(failed)?;
    let issued = params.signed_by(&key, &issuer).map_err(failed)?;
    Ok(Issued { certificate: Certificate { der: issued.into(), life }, key: key.into() })
}

fn params(life: Life) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = SystemTime::from(life.from).into();
    params.not_after = SystemTime::from(life.until).into();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
}

/// Certificates count in whole seconds; so do the lives that are compared with theirs.
fn whole(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

fn encode<D: AsRef<[u8]>>(tag: &str, contents: impl IntoIterator<Item = D>) -> Vec<u8> {
    let pems: Vec<Pem> = contents.into_iter().map(|der| Pem::new(tag, der.as_ref())).collect();
    let unix = EncodeConfig::new().set_line_ending(LineEnding::LF);
    pem::encode_many_config(&pems, unix).into_bytes()
}

fn blocks(data: &BTreeMap<String, ByteString>, key: &'static str) -> Result<Vec<Pem>, MaterialError> {
    let value = data.get(key).ok_or(MaterialError::Missing { key })?;
    pem::parse_many(&value.0).map_err(|source| MaterialError::ReadPem { key, source })
}

fn one_of(
    data: &BTreeMap<String, ByteString>,
    key: &'static str,
    is: impl Fn(&str) -> bool,
    expected: &'static str,
) -> Result<Pem, MaterialError> {
    let found = blocks(data, key)?.into_iter().find(|block| is(block.tag()));
    found.ok_or(MaterialError::NoBlock { key, expected })
}

fn certificates(
    data: &BTreeMap<String, ByteString>,
    key: &'static str,
) -> Result<Vec<CertificateDer<'static>>, MaterialError> {
    let found: Vec<_> = blocks(data, key)?
        .into_iter()
        .filter(|block| block.tag() == CERTIFICATE)
        .map(|block| CertificateDer::from(block.into_contents()))
        .collect();
    if found.is_empty() { Err(MaterialError::NoBlock { key, expected: CERTIFICATE }) } else { Ok(found) }
}

/// A certificate's life, its names, and its public key (SubjectPublicKeyInfo).
fn inspect(key: &'static str, der: &[u8]) -> Result<(Life, BTreeSet<String>, Vec<u8>), MaterialError> {
    let failed = |problem: String| MaterialError::ReadCertificate { key, problem };
    let (_, certificate) = x509_parser::parse_x509_certificate(der).map_err(|error| failed(error.to_string()))?;
    let time = |time: x509_parser::time::ASN1Time| {
        Timestamp::from_second(time.timestamp()).map_err(|error| failed(error.to_string()))
    };
    let validity = certificate.validity();
    let life = Life { from: time(validity.not_before)?, until: time(validity.not_after)? };
    let names = certificate.subject_alternative_name().map_err(|error| failed(error.to_string()))?;
    let names = names.into_iter().flat_map(|names| &names.value.general_names).filter_map(name).collect();
    Ok((life, names, certificate.public_key().raw.to_vec()))
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::IPAddress(octets) => match octets.len() {
            4 => <[u8; 4]>::try_from(*octets).ok().map(|octets| IpAddr::from(octets).to_string()),
            _ => <[u8; 16]>::try_from(*octets).ok().map(|octets| IpAddr::from(octets).to_string()),
        },
        _ => None,
    }
}
