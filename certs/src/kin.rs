//! How replicas that share a Secret know each other.

use std::fmt;

use sha2::{Digest, Sha256};

/// What replicas that share a Secret know, and nobody else does.
#[derive(Clone, PartialEq, Eq)]
pub struct Kin {
    /// The CAs of the bundle, as DER.
    pub authorities: Vec<Vec<u8>>,
    /// A name that is on each replica's serving certificate.
    pub name: String,
    /// What a replica shows to another to be let in. It follows from the key of the CA that signs.
    pub token: String,
}

impl Kin {
    /// Whether this is the token. Hashes are compared, so that the time that it takes tells nothing about it.
    pub fn knows(&self, token: &str) -> bool {
        Sha256::digest(token) == Sha256::digest(&self.token)
    }
}

impl fmt::Debug for Kin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kin").field("name", &self.name).finish_non_exhaustive()
    }
}
