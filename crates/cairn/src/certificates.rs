//! The certificate and the private key of the server's own TLS, read again when their files change, so that a
//! renewal needs no restart. Connections that are open go on as they are.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum_server::tls_rustls::RustlsConfig;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;

use crate::client_certificates::{TakeAny, provider};
use crate::server::TlsFiles;

/// How often the files are looked at. What changed is taken when it is the same at the next look, so that a
/// certificate isn't tried with the key of another while both are being written.
const LOOK: Duration = Duration::from_secs(2);
/// The most bytes of a file; a chain has some ten thousand.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A certificate with its chain, and its key.
#[derive(PartialEq, Eq)]
struct Pair {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

async fn read(path: &Path) -> io::Result<Vec<u8>> {
    let size = tokio::fs::metadata(path).await?.len();
    if size > FILE_BYTES_MAX {
        return Err(io::Error::other("the file is too large for a certificate"));
    }
    tokio::fs::read(path).await
}

async fn pair(files: &TlsFiles) -> io::Result<Pair> {
    Ok(Pair {
        certificate: read(&files.certificate).await?,
        key: read(&files.private_key).await?,
    })
}

/// The listener's TLS with a certificate, and with those of clients if they are asked for.
async fn config(pair: &Pair, asks: bool) -> io::Result<Arc<ServerConfig>> {
    let (certificate, key) = (pair.certificate.clone(), pair.key.clone());
    if !asks {
        let config = RustlsConfig::from_pem(certificate, key).await?;
        return Ok(config.get_inner());
    }
    let made = tokio::task::spawn_blocking(move || {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&certificate).collect();
        let chain = chain.map_err(io::Error::other)?;
        let key = PrivateKeyDer::from_pem_slice(&key).map_err(io::Error::other)?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_client_cert_verifier(Arc::new(TakeAny::new()))
            .with_single_cert(chain, key)
            .map_err(io::Error::other)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    });
    made.await.map_err(io::Error::other)?
}

/// What is in use, and where it came from.
pub(crate) struct Certificates {
    config: RustlsConfig,
    /// Whether clients are asked for certificates.
    asks: bool,
    files: TlsFiles,
    used: Pair,
}

impl Certificates {
    /// Reads the files. `asks` is whether clients are asked for certificates.
    pub(crate) async fn open(files: TlsFiles, asks: bool) -> io::Result<Self> {
        let used = pair(&files).await?;
        let config = RustlsConfig::from_config(config(&used, asks).await?);
        metrics::gauge!("cairn_tls_files_refused").set(0.0);
        Ok(Self {
            config,
            asks,
            files,
            used,
        })
    }

    /// For the listener; it follows what is read later.
    pub(crate) fn config(&self) -> RustlsConfig {
        self.config.clone()
    }

    /// Looks at the files until `stopped`. What can't be used leaves what is in use, and is told once.
    pub(crate) async fn follow(mut self, mut stopped: watch::Receiver<bool>) {
        let mut before: Option<Pair> = None;
        let mut refused: Option<Pair> = None;
        let mut unread = false;
        loop {
            tokio::select! {
                // An error means that the server is gone.
                _ = stopped.wait_for(|stopped| *stopped) => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            let now = match pair(&self.files).await {
                Ok(now) => now,
                Err(error) => {
                    if !std::mem::replace(&mut unread, true) {
                        self.tell(&error);
                    }
                    continue;
                }
            };
            if std::mem::take(&mut unread) {
                metrics::gauge!("cairn_tls_files_refused").set(0.0);
                refused = None;
            }
            let is_steady = before.as_ref() == Some(&now);
            if now == self.used {
                if refused.take().is_some() {
                    metrics::gauge!("cairn_tls_files_refused").set(0.0);
                }
            } else if is_steady && refused.as_ref() != Some(&now) {
                match config(&now, self.asks).await {
                    Ok(config) => {
                        self.config.reload_from_config(config);
                        tracing::info!("TLS: the new certificate is in use");
                        metrics::gauge!("cairn_tls_files_refused").set(0.0);
                        refused = None;
                        self.used = now;
                        before = None;
                        continue;
                    }
                    Err(error) => {
                        self.tell(&error);
                        refused = Some(Pair {
                            certificate: now.certificate.clone(),
                            key: now.key.clone(),
                        });
                    }
                }
            }
            before = Some(now);
        }
    }

    fn tell(&self, error: &io::Error) {
        metrics::gauge!("cairn_tls_files_refused").set(1.0);
        let (certificate, key) = (
            self.files.certificate.display(),
            self.files.private_key.display(),
        );
        tracing::error!(
            %error,
            "TLS: {certificate} and {key} changed and can't be used; those from before stay in use"
        );
    }
}
