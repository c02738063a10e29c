//! TLS of OVSDB connections: both sides show a certificate that the authority signed.
//!
//! # Invariants
//! - TLS 1.2 or later; a client without a certificate of the authority gets no session.
//! - Files are read again for each listener and each call, so that renewed certificates take effect with the next.

use std::{io, path::Path, path::PathBuf, sync::Arc};

use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    rustls::{
        ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion,
        crypto::{CryptoProvider, ring},
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
        server::WebPkiClientVerifier,
        version::{TLS12, TLS13},
    },
};

/// Where key and certificates are, and which versions are spoken.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tls {
    /// PEM file of the private key.
    pub private_key: PathBuf,
    /// PEM file of the certificate for it, and of those between it and the authority's.
    pub certificate: PathBuf,
    /// PEM file of the authority's certificates.
    pub ca_certificate: PathBuf,
    /// Versions.
    pub versions: Versions,
}

/// Versions of TLS.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Versions {
    tls12: bool,
    tls13: bool,
}

impl Default for Versions {
    fn default() -> Self {
        Self { tls12: true, tls13: true }
    }
}

impl Versions {
    /// Reads `SSL.ssl_protocols`: a list, a range or a lower bound (ovn-nb(5)); empty means all.
    pub fn parse(text: &str) -> Result<Self, String> {
        let version = |text: &str| match text.trim() {
            "TLSv1.2" => Ok(2),
            "TLSv1.3" => Ok(3),
            other => Err(format!("ssl_protocols: expected TLSv1.2 or TLSv1.3, got {other:?}")),
        };
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let (low, high) = match text.trim().strip_suffix('+') {
            Some(low) => (version(low)?, 3),
            None => match text.split_once('-') {
                Some((low, high)) => (version(low)?, version(high)?),
                None => {
                    let list = text.split([',', ' ']).filter(|word| !word.is_empty());
                    let list = list.map(version).collect::<Result<Vec<i32>, _>>()?;
                    return Ok(Self { tls12: list.contains(&2), tls13: list.contains(&3) });
                }
            },
        };
        if low > high {
            return Err(format!("ssl_protocols: expected a range from low to high, got {text:?}"));
        }
        Ok(Self { tls12: low == 2, tls13: high == 3 })
    }

    fn list(self) -> Vec<&'static SupportedProtocolVersion> {
        [(self.tls12, &TLS12), (self.tls13, &TLS13)]
            .into_iter()
            .filter(|(on, _)| *on)
            .map(|(_, v)| v)
            .collect()
    }
}

impl Tls {
    /// For sockets that wait.
    pub(super) fn acceptor(&self) -> io::Result<TlsAcceptor> {
        let provider = provider();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(self.authorities()?.into(), provider.clone());
        let verifier = verifier.build().map_err(io::Error::other)?;
        let builder = ServerConfig::builder_with_provider(provider);
        let builder = builder.with_protocol_versions(&self.versions.list()).map_err(io::Error::other)?;
        let config = builder.with_client_cert_verifier(verifier).with_single_cert(self.chain()?, self.key()?);
        Ok(TlsAcceptor::from(Arc::new(config.map_err(|error| wrong(&self.certificate, error))?)))
    }

    /// For calls.
    pub(super) fn connector(&self) -> io::Result<TlsConnector> {
        let builder = ClientConfig::builder_with_provider(provider());
        let builder = builder.with_protocol_versions(&self.versions.list()).map_err(io::Error::other)?;
        let builder = builder.with_root_certificates(self.authorities()?);
        let config = builder.with_client_auth_cert(self.chain()?, self.key()?);
        Ok(TlsConnector::from(Arc::new(config.map_err(|error| wrong(&self.certificate, error))?)))
    }

    fn authorities(&self) -> io::Result<RootCertStore> {
        let mut store = RootCertStore::empty();
        for certificate in certificates(&self.ca_certificate)? {
            store.add(certificate).map_err(|error| wrong(&self.ca_certificate, error))?;
        }
        Ok(store)
    }

    fn chain(&self) -> io::Result<Vec<CertificateDer<'static>>> {
        certificates(&self.certificate)
    }

    fn key(&self) -> io::Result<PrivateKeyDer<'static>> {
        PrivateKeyDer::from_pem_file(&self.private_key).map_err(|error| wrong(&self.private_key, error))
    }
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let list = read.map_err(|error| wrong(path, error))?;
    if list.is_empty() { Err(wrong(path, "it holds no certificate")) } else { Ok(list) }
}

fn wrong(path: &Path, why: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {why}", path.display()))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_lists_ranges_and_bounds() {
        let both = Versions::default();
        for (text, expected) in [
            ("", both),
            ("TLSv1.2,TLSv1.3", both),
            ("TLSv1.2+", both),
            ("TLSv1.2-TLSv1.3", both),
            ("TLSv1.3", Versions { tls12: false, tls13: true }),
            ("TLSv1.2", Versions { tls12: true, tls13: false }),
            ("TLSv1.3+", Versions { tls12: false, tls13: true }),
            ("TLSv1.2-TLSv1.2", Versions { tls12: true, tls13: false }),
        ] {
            assert_eq!(Versions::parse(text), Ok(expected), "{text}");
        }
        for text in ["TLSv1.1", "TLSv1", "x", "TLSv1.3-TLSv1.2", "TLSv1.2,SSLv3"] {
            assert!(Versions::parse(text).is_err(), "{text}");
        }
    }
}
