//! The certificate that is served, exchangeable under a running server.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// Hands every new connection the current certificate. Connections that are open keep theirs, so that an exchange
/// drops none. Before the first certificate is there, handshakes fail.
#[derive(Debug, Default)]
pub struct Resolver {
    current: ArcSwapOption<CertifiedKey>,
}

impl Resolver {
    pub(crate) fn exchange(&self, next: Arc<CertifiedKey>) {
        self.current.store(Some(next));
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current.load_full()
    }
}
