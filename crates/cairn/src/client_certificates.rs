//! Certificates that clients connect with (mutual TLS, RFC 8705).
//!
//! The listener asks for one where the configuration says so, and takes whichever is shown, or none: that a client
//! holds its key is proved by the handshake, and whose it is, is looked at where the client says who it is. Behind
//! a proxy that ends TLS the certificate stands in a header (RFC 9440), which is believed of proxies that are named
//! and of nobody else.
//!
//! The authorities that certificates may lead to are read again when their file changes.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName};
use axum_server::tls::TlsInfo;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ledger::Clock;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use tokio::sync::watch;
use trust::identity::PeerCertificate;

use crate::clients::Addresses;

/// The certificate of who is connected to a proxy in front (RFC 9440).
const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
/// Those that lead from it to an authority.
const CLIENT_CERT_CHAIN: HeaderName = HeaderName::from_static("client-cert-chain");
/// Certificates of a chain that are looked at. One has two or three.
const CHAIN_MAX: usize = 10;
/// How often the authorities' file is looked at. What changed is taken when it is the same at the next look.
const LOOK: Duration = Duration::from_secs(2);
/// The most bytes of that file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// How certificates of clients reach the server.
#[derive(Debug, Clone, Default)]
pub struct ClientCertificates {
    /// Whether the server's own TLS asks for them.
    pub asked: bool,
    /// Those of the proxies that are named which write them into `Client-Cert`.
    pub told_by: Addresses,
    /// PEM file with the authorities that they may lead to.
    pub authorities: Option<PathBuf>,
}

impl ClientCertificates {
    pub(crate) fn are_taken(&self) -> bool {
        self.asked || !self.told_by.is_empty()
    }
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Asks every client for a certificate and takes any, or none, as long as the client holds its key.
#[derive(Debug)]
pub(crate) struct TakeAny(Arc<CryptoProvider>);

impl TakeAny {
    pub(crate) fn new() -> Self {
        Self(provider())
    }
}

impl ClientCertVerifier for TakeAny {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    // Clients that are known by their certificates themselves have them from no authority that could be named.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.0.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

/// The certificate that a request came with, and what leads from it to an authority.
#[derive(Clone)]
pub(crate) struct Presented(Arc<Vec<Vec<u8>>>);

impl Presented {
    /// That of a connection of the server's own TLS.
    pub(crate) fn by(connection: &TlsInfo) -> Option<Self> {
        let chain = &connection.peer_certificates;
        (!chain.is_empty()).then(|| Self(Arc::new(chain.clone())))
    }

    /// That of the header. One that is there twice, or that can't be read, is none.
    pub(crate) fn told(headers: &HeaderMap) -> Option<Self> {
        let mut lines = headers.get_all(CLIENT_CERT).iter();
        let (Some(only), None) = (lines.next(), lines.next()) else {
            return None;
        };
        let mut chain = vec![bytes(only.to_str().ok()?)?];
        for line in headers.get_all(CLIENT_CERT_CHAIN) {
            for item in line.to_str().ok()?.split(',') {
                if chain.len() > CHAIN_MAX {
                    return None;
                }
                chain.push(bytes(item)?);
            }
        }
        Some(Self(Arc::new(chain)))
    }

    /// What it says; nothing where it can't be read.
    pub(crate) fn certificate(&self) -> Option<PeerCertificate> {
        PeerCertificate::read(self.0.first()?)
    }
}

/// Takes the headers out, so that nobody believes what a stranger wrote there.
pub(crate) fn strip(headers: &mut HeaderMap) {
    headers.remove(CLIENT_CERT);
    headers.remove(CLIENT_CERT_CHAIN);
}

/// A sequence of bytes as headers have it (RFC 9651, section 3.3.5).
fn bytes(item: &str) -> Option<Vec<u8>> {
    let text = item.trim().strip_prefix(':')?.strip_suffix(':')?;
    STANDARD.decode(text).ok()
}

/// The authorities that certificates of clients may lead to. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Authorities {
    current: Arc<RwLock<Option<Arc<dyn ClientCertVerifier>>>>,
    wall_clock: Arc<dyn Clock>,
}

impl Authorities {
    /// Those of a file, if there is one.
    ///
    /// # Errors
    /// When the file can't be read, or holds none.
    pub(crate) fn read(
        file: Option<&Path>,
        wall_clock: Arc<dyn Clock>,
    ) -> Result<(Self, Option<Follow>), String> {
        let read = match file {
            Some(file) => {
                let words = |error| format!("{}: {error}", file.display());
                let pem = content(file).map_err(words)?;
                let verifier = verifier(&pem).map_err(words)?;
                Some((file, pem, verifier))
            }
            None => None,
        };
        let all = Self {
            current: Arc::new(RwLock::new(
                read.as_ref().map(|(.., verifier)| Arc::clone(verifier)),
            )),
            wall_clock,
        };
        let follow = read.map(|(file, used, _)| {
            metrics::gauge!("cairn_client_ca_file_refused").set(0.0);
            Follow {
                file: file.to_owned(),
                used,
                all: all.clone(),
            }
        });
        Ok((all, follow))
    }

    /// Whether there are any.
    pub(crate) fn are_there(&self) -> bool {
        self.now().is_some()
    }

    fn now(&self) -> Option<Arc<dyn ClientCertVerifier>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.clone()
    }

    /// Whether a certificate leads to one of them now, and is one to connect with.
    pub(crate) fn trust(&self, presented: &Presented) -> bool {
        let Some(verifier) = self.now() else {
            return false;
        };
        let mut chain = (presented.0.iter()).map(|der| CertificateDer::from(der.as_slice()));
        let Some(own) = chain.next() else {
            return false;
        };
        let between: Vec<_> = chain.take(CHAIN_MAX).collect();
        let now = Duration::from_millis(self.wall_clock.now_ms());
        let now = UnixTime::since_unix_epoch(now);
        verifier.verify_client_cert(&own, &between, now).is_ok()
    }
}

fn content(file: &Path) -> Result<Vec<u8>, String> {
    let size = std::fs::metadata(file).map_err(|error| error.to_string())?;
    if size.len() > FILE_BYTES_MAX {
        return Err("the file is too large for certificates".to_owned());
    }
    std::fs::read(file).map_err(|error| error.to_string())
}

fn verifier(pem: &[u8]) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| format!("no PEM: {error}"))?;
        let added = roots.add(certificate);
        added.map_err(|error| format!("a certificate can't be used: {error}"))?;
    }
    if roots.is_empty() {
        return Err("the file holds no certificates".to_owned());
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    verifier.build().map_err(|error| error.to_string())
}

/// Looks at the authorities' file.
pub(crate) struct Follow {
    file: PathBuf,
    used: Vec<u8>,
    all: Authorities,
}

impl Follow {
    /// Until `stopped`. What can't be used leaves those in use, and is told once.
    pub(crate) async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let mut before: Option<Result<Vec<u8>, String>> = None;
        let mut told = None;
        loop {
            tokio::select! {
                // An error means that the server is gone.
                _ = stopped.wait_for(|stopped| *stopped) => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            let file = self.file.clone();
            let Ok(now) = tokio::task::spawn_blocking(move || content(&file)).await else {
                continue;
            };
            let is_steady = before.as_ref() == Some(&now);
            before = Some(now.clone());
            let read = match now {
                Ok(pem) if pem == self.used => Ok(None),
                Ok(_) if !is_steady => continue,
                Ok(pem) => verifier(&pem).map(|verifier| Some((pem, verifier))),
                Err(error) => Err(error),
            };
            match read {
                Ok(changed) => {
                    if let Some((pem, verifier)) = changed {
                        tracing::info!(
                            "the new authorities for certificates of clients are in use"
                        );
                        let mut current =
                            (self.all.current.write()).unwrap_or_else(PoisonError::into_inner);
                        *current = Some(verifier);
                        self.used = pem;
                    }
                    told = None;
                    metrics::gauge!("cairn_client_ca_file_refused").set(0.0);
                }
                Err(error) if told.as_ref() != Some(&error) => {
                    metrics::gauge!("cairn_client_ca_file_refused").set(1.0);
                    tracing::error!(
                        %error,
                        "oauth.client_ca_file changed and can't be used; the authorities from before stay in use"
                    );
                    told = Some(error);
                }
                Err(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn headers_that_tell_a_certificate() {
        let chain = |lines: &[(HeaderName, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, line) in lines {
                headers.append(name, HeaderValue::from_static(line));
            }
            Presented::told(&headers).map(|told| told.0.as_ref().clone())
        };
        let (own, more) = (CLIENT_CERT, CLIENT_CERT_CHAIN);
        let of = |text: &[&str]| {
            let all = text.iter().map(|text| text.as_bytes().to_vec());
            Some(all.collect::<Vec<_>>())
        };
        assert_eq!(chain(&[]), None);
        assert_eq!(chain(&[(own.clone(), ":YQ==:")]), of(&["a"]));
        let both = [(own.clone(), " :YQ==: "), (more.clone(), ":Yg==:,  :Yw==:")];
        assert_eq!(chain(&both), of(&["a", "b", "c"]));
        let lines = [
            (own.clone(), ":YQ==:"),
            (more.clone(), ":Yg==:"),
            (more.clone(), ":Yw==:"),
        ];
        assert_eq!(chain(&lines), of(&["a", "b", "c"]));
        // A chain without a certificate, two certificates, and what is none.
        assert_eq!(chain(&[(more.clone(), ":Yg==:")]), None);
        assert_eq!(
            chain(&[(own.clone(), ":YQ==:"), (own.clone(), ":YQ==:")]),
            None
        );
        for wrong in [
            "",
            "YQ==",
            ":YQ==",
            ":YQ:",
            ":YQ==:;a=b",
            ":YQ==:, :YQ==:",
            "::: ",
        ] {
            assert_eq!(chain(&[(own.clone(), wrong)]), None, "{wrong}");
            assert_eq!(
                chain(&[(own.clone(), ":YQ==:"), (more.clone(), wrong)]).is_none(),
                wrong != ":YQ==:, :YQ==:",
                "{wrong}"
            );
        }
        let long = ":YQ==:,".repeat(CHAIN_MAX) + ":YQ==:";
        let mut headers = HeaderMap::new();
        headers.append(CLIENT_CERT, HeaderValue::from_static(":YQ==:"));
        headers.append(CLIENT_CERT_CHAIN, long.parse().expect("a value"));
        assert!(Presented::told(&headers).is_none());
        strip(&mut headers);
        assert!(headers.is_empty());
    }
}
