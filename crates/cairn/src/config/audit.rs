//! What is configured of the audit's logs.

use std::path::PathBuf;

use serde::Deserialize;

/// The audit's logs, and who witnesses them.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuditSettings {
    /// Whether checkpoints and hashes are served to everybody.
    pub open_log: bool,
    /// File with the verifier keys of witnesses, one a line.
    pub witness_keys_file: Option<PathBuf>,
    /// How many cosignatures make a checkpoint a witnessed one.
    pub witness_quorum: u16,
    /// How often witnesses with a URL are asked, seconds.
    pub witness_every_s: u64,
    /// Where the audit is told by syslog over TLS: `HOST:PORT`.
    pub syslog: Option<String>,
    /// File with the authority that signed the collector's certificate.
    pub syslog_ca_file: Option<PathBuf>,
    /// File with the certificate that is shown to the collector, with its chain.
    pub syslog_certificate_file: Option<PathBuf>,
    /// File with its key.
    pub syslog_private_key_file: Option<PathBuf>,
    /// Which end of a connection says that the collector has read everything.
    pub syslog_receipt: SyslogReceipt,
    /// Where the audit is told by OTLP over HTTP, the base URL; nowhere without one.
    pub otlp: Option<String>,
    /// PEM file of the authority that signed that collector's certificate.
    pub otlp_ca_file: Option<PathBuf>,
    /// PEM file of the certificate that is shown to it, with its chain.
    pub otlp_certificate_file: Option<PathBuf>,
    /// File with its key.
    pub otlp_private_key_file: Option<PathBuf>,
    /// File with headers of each request, such as `Authorization`.
    pub otlp_headers_file: Option<PathBuf>,
}

/// Which end of its connection says that a collector has read everything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyslogReceipt {
    /// Only an end with TLS's farewell (`close_notify`), which nobody on the way can feign.
    #[default]
    CloseNotify,
    /// That, or an orderly end of TCP's (`FIN`) without it.
    TcpFin,
}

impl Default for AuditSettings {
    fn default() -> Self {
        Self {
            open_log: false,
            witness_keys_file: None,
            witness_quorum: 1,
            witness_every_s: 60,
            syslog: None,
            syslog_ca_file: None,
            syslog_certificate_file: None,
            syslog_private_key_file: None,
            syslog_receipt: SyslogReceipt::default(),
            otlp: None,
            otlp_ca_file: None,
            otlp_certificate_file: None,
            otlp_private_key_file: None,
            otlp_headers_file: None,
        }
    }
}

impl AuditSettings {
    /// Whether what is given fits together.
    ///
    /// # Errors
    /// In words, when it doesn't.
    pub(super) fn check(&self) -> Result<(), String> {
        let refuse = |words: &str| Err(words.to_owned());
        if self.witness_quorum == 0 || self.witness_every_s == 0 {
            return refuse("audit.witness_quorum and audit.witness_every_s are at least 1");
        }
        if self.syslog_certificate_file.is_some() != self.syslog_private_key_file.is_some() {
            return refuse(
                "audit.syslog_certificate_file and audit.syslog_private_key_file belong together",
            );
        }
        let told = [&self.syslog_ca_file, &self.syslog_certificate_file];
        if self.syslog.is_none() && told.iter().any(|file| file.is_some()) {
            return refuse("files of audit.syslog are given, and audit.syslog is not");
        }
        if self.syslog.is_none() && self.syslog_receipt != SyslogReceipt::default() {
            return refuse("audit.syslog_receipt is given, and audit.syslog is not");
        }
        if self.otlp_certificate_file.is_some() != self.otlp_private_key_file.is_some() {
            return refuse(
                "audit.otlp_certificate_file and audit.otlp_private_key_file belong together",
            );
        }
        let told = [
            &self.otlp_ca_file,
            &self.otlp_certificate_file,
            &self.otlp_headers_file,
        ];
        if self.otlp.is_none() && told.iter().any(|file| file.is_some()) {
            return refuse("files of audit.otlp are given, and audit.otlp is not");
        }
        Ok(())
    }
}
