//! Syslog over TLS: messages as RFC 5424 has them, framed and sent as RFC 5425 says.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::atna::Message;
use crate::config::SyslogReceipt;

/// Facility 10 (security and authorisation), severity 5 (notice): the priority of ATNA's messages.
const PRIORITY: u8 = 10 * 8 + 5;
/// ITI-20's name for a DICOM audit message.
const MESSAGE_ID: &str = "IHE+DICOM";
/// How long connecting, sending a batch, and waiting for its end may take, each.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a batch isn't known to have been read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreached {
    #[error("{0} can't be reached: {1}")]
    Connect(String, std::io::Error),
    #[error("{0} takes too long")]
    Late(String),
    #[error("{0} ended the connection before it had read everything: {1}")]
    Cut(String, std::io::Error),
    #[error(
        "{0} ended the connection without TLS's close_notify, so it isn't known whether it has read everything. \
         If it never sends one (rsyslog's driver gtls), audit.syslog_receipt says what else counts"
    )]
    NoFarewell(String),
}

/// Where the audit is told by syslog.
pub struct SyslogCollector {
    /// Host and port.
    address: String,
    name: ServerName<'static>,
    tls: TlsConnector,
    host: String,
    receipt: SyslogReceipt,
}

impl std::fmt::Debug for SyslogCollector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SyslogCollector")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl SyslogCollector {
    /// A collector at `HOST:PORT`, whose certificate an authority of the file has signed, or one that the
    /// machine knows. `identity` is the certificate, with its chain, and the key that this server shows
    /// when it is asked for one. `host` is what this server calls itself.
    ///
    /// # Errors
    /// In words, when something of it can't be used.
    pub fn new(
        address: &str,
        authorities: Option<&Path>,
        identity: Option<(&Path, &Path)>,
        host: &str,
    ) -> Result<Self, String> {
        let (name, port) = address
            .rsplit_once(':')
            .ok_or_else(|| format!("{address} is not HOST:PORT"))?;
        if port.parse::<u16>().is_err() {
            return Err(format!("{address} is not HOST:PORT"));
        }
        let name = name
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let name = ServerName::try_from(name).map_err(|_| format!("{address} names no host"))?;
        let mut roots = rustls::RootCertStore::empty();
        if let Some(path) = authorities {
            for certificate in certificates(path)? {
                roots
                    .add(certificate)
                    .map_err(|error| format!("{}: {error}", path.display()))?;
            }
        } else {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        if roots.is_empty() {
            return Err("no certificate authority is known: name a PEM file with one".to_owned());
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots);
        let config = match identity {
            None => config.with_no_client_auth(),
            Some((chain, key)) => {
                let shown = key.display();
                let key = PrivateKeyDer::from_pem_file(key)
                    .map_err(|error| format!("{shown}: {error}"))?;
                config
                    .with_client_auth_cert(certificates(chain)?, key)
                    .map_err(|error| format!("{shown}: {error}"))?
            }
        };
        Ok(Self {
            address: address.to_owned(),
            name,
            tls: TlsConnector::from(Arc::new(config)),
            host: header(host),
            receipt: SyslogReceipt::default(),
        })
    }

    /// The same, but for which end of a connection says that everything was read.
    #[must_use]
    pub fn taking(self, receipt: SyslogReceipt) -> Self {
        Self { receipt, ..self }
    }

    /// Adds a message to a batch.
    pub(super) fn frame(&self, message: &Message, batch: &mut Vec<u8>) {
        let when = message.when.as_deref().unwrap_or("-");
        let host = &self.host;
        // The mark says that what follows is UTF-8.
        let text = format!(
            "<{PRIORITY}>1 {when} {host} cairn {} {MESSAGE_ID} - \u{feff}{}",
            std::process::id(),
            message.xml
        );
        batch.extend_from_slice(format!("{} ", text.len()).as_bytes());
        batch.extend_from_slice(text.as_bytes());
    }

    /// Sends a batch over a connection of its own; returns when the other side has read it to its end.
    pub(super) async fn send(&self, batch: &[u8]) -> Result<(), Unreached> {
        let late = |_| Unreached::Late(self.address.clone());
        let connecting = async {
            let stream = TcpStream::connect(&self.address).await?;
            self.tls.connect(self.name.clone(), stream).await
        };
        let mut stream = tokio::time::timeout(PATIENCE, connecting)
            .await
            .map_err(late)?
            .map_err(|error| Unreached::Connect(self.address.clone(), error))?;
        let cut = |error| Unreached::Cut(self.address.clone(), error);
        let sending = async {
            stream.write_all(batch).await?;
            stream.flush().await?;
            stream.shutdown().await
        };
        tokio::time::timeout(PATIENCE, sending)
            .await
            .map_err(late)?
            .map_err(cut)?;
        // Who has not read everything resets the connection instead of ending it.
        let ending = async {
            let mut rest = [0; 64];
            loop {
                match stream.read(&mut rest).await {
                    Ok(0) => return Ok(()),
                    Ok(_) => {}
                    Err(error) => return judge(self.receipt, &self.address, error),
                }
            }
        };
        tokio::time::timeout(PATIENCE, ending).await.map_err(late)?
    }
}

/// Whether a connection that did not end as TLS has it is a receipt.
fn judge(receipt: SyslogReceipt, address: &str, error: std::io::Error) -> Result<(), Unreached> {
    // An end without TLS's farewell (`close_notify`) may be anybody's on the way, or that of a collector that was
    // killed.
    let is_bare = error.kind() == std::io::ErrorKind::UnexpectedEof;
    match receipt {
        SyslogReceipt::TcpFin if is_bare => Ok(()),
        SyslogReceipt::CloseNotify if is_bare => Err(Unreached::NoFarewell(address.to_owned())),
        _ => Err(Unreached::Cut(address.to_owned(), error)),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let shown = path.display();
    let found = CertificateDer::pem_file_iter(path).map_err(|error| format!("{shown}: {error}"))?;
    let found: Result<Vec<_>, _> = found.collect();
    match found {
        Ok(found) if found.is_empty() => Err(format!("{shown}: there is no certificate in it")),
        Ok(found) => Ok(found),
        Err(error) => Err(format!("{shown}: {error}")),
    }
}

/// A value of a header of RFC 5424: printable ASCII without spaces, 255 characters at most.
fn header(text: &str) -> String {
    let text: String = text
        .chars()
        .filter(char::is_ascii_graphic)
        .take(255)
        .collect();
    if text.is_empty() {
        "-".to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_printable() {
        assert_eq!(header("cairn.example.org"), "cairn.example.org");
        assert_eq!(header("a b\r\nc\u{e9}"), "abc");
        assert_eq!(header(" \n"), "-");
        assert_eq!(header(&"x".repeat(300)).len(), 255);
    }

    #[test]
    fn a_reset_is_never_a_receipt_and_a_missing_farewell_has_words_of_its_own() {
        use std::io::ErrorKind::{ConnectionReset, UnexpectedEof};
        for (receipt, kind, words) in [
            (
                SyslogReceipt::default(),
                UnexpectedEof,
                Some("audit.syslog_receipt"),
            ),
            (
                SyslogReceipt::default(),
                ConnectionReset,
                Some("before it had read"),
            ),
            (SyslogReceipt::TcpFin, UnexpectedEof, None),
            (
                SyslogReceipt::TcpFin,
                ConnectionReset,
                Some("before it had read"),
            ),
        ] {
            let said = judge(receipt, "collector:6514", kind.into()).err();
            let said = said.map(|error| error.to_string());
            match (words, &said) {
                (None, None) => {}
                (Some(words), Some(said)) => assert!(said.contains(words), "{said}"),
                _ => panic!("{receipt:?}, {kind}: {said:?}"),
            }
        }
        let mut named = crate::config::KEYS.iter();
        assert!(named.any(|key| key.name == "audit.syslog_receipt"));
    }

    #[test]
    fn what_is_no_collector_is_refused_in_words() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("x.pem");
        std::fs::write(&file, "nothing").expect("written");
        for (address, authorities, words) in [
            ("collector", None, "is not HOST:PORT"),
            ("collector:many", None, "is not HOST:PORT"),
            ("a b:6514", None, "names no host"),
            ("collector:6514", Some(file.as_path()), "no certificate"),
            (
                "collector:6514",
                Some(Path::new("/nowhere.pem")),
                "/nowhere.pem",
            ),
        ] {
            let refused = SyslogCollector::new(address, authorities, None, "x").expect_err(address);
            assert!(refused.contains(words), "{address}: {refused}");
        }
    }
}
