//! Certificates that systems prove themselves by when they connect (mutual TLS, RFC 8705), and what a system is
//! registered with to be known by them. Pure: the time comes in, and whether a certificate leads to an authority
//! that the server trusts is for the caller to see, who holds its connection.

use std::net::IpAddr;
use std::str::FromStr;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::Name;

use crate::TrustError;
use crate::identity::manage::invalid;

/// The most bytes of a certificate; those that are usual have one or two thousand.
pub const CERTIFICATE_BYTES_MAX: usize = 16 << 10;
/// The most certificates that a system is known by at a time: the old and the new, for some servers each.
const PINNED_MAX: usize = 10;
/// The most bytes of a name in a certificate.
const SUBJECT_BYTES_MAX: usize = 1000;
/// The most names of a certificate that are looked at.
const NAMES_MAX: usize = 100;

/// A name that a certificate has, and that a system is known by (RFC 8705, section 2.1.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubjectName {
    /// Of whom it is, as RFC 4514 writes it.
    SubjectDn(String),
    /// A name in DNS, in lower case.
    SanDns(String),
    /// A URI.
    SanUri(String),
    /// An address of the network.
    SanIp(IpAddr),
    /// An e-mail address.
    SanEmail(String),
}

impl SubjectName {
    /// The subject of certificates, as it is compared.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn subject(text: &str) -> Result<Self, TrustError> {
        let name = Name::from_str(text).ok();
        let name = name.filter(|name| !name.is_empty() && text.len() <= SUBJECT_BYTES_MAX);
        match name {
            Some(name) => Ok(Self::SubjectDn(name.to_string())),
            None => invalid(
                "the subject of a certificate is written as in RFC 4514, like CN=laboratory,O=Example \
                 (openssl x509 -noout -subject -nameopt RFC2253)",
            ),
        }
    }

    /// Another name of certificates: `dns:`, `uri:`, `ip:` or `email:`, and the name.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn alternative(text: &str) -> Result<Self, TrustError> {
        let is_plain = |name: &&str| {
            !name.is_empty()
                && name.len() <= SUBJECT_BYTES_MAX
                && name.bytes().all(|byte| byte.is_ascii_graphic())
        };
        let parts = text.split_once(':');
        let parts = parts.filter(|(_, name)| is_plain(name));
        match parts {
            // A wildcard would be known for whatever the authority gives names below it.
            Some(("dns", name)) if !name.contains('*') => {
                Ok(Self::SanDns(name.to_ascii_lowercase()))
            }
            Some(("uri", name)) => Ok(Self::SanUri(name.to_owned())),
            Some(("email", name)) if name.contains('@') => Ok(Self::SanEmail(name.to_owned())),
            Some(("ip", name)) if name.parse::<IpAddr>().is_ok() => {
                Ok(Self::SanIp(name.parse().map_err(|_| {
                    TrustError::Invalid("this is no address of a network".to_owned())
                })?))
            }
            _ => invalid(
                "another name of a certificate is like dns:laboratory.example.org, uri:urn:laboratory, ip:192.0.2.1 or \
                 email:laboratory@example.org, without wildcards",
            ),
        }
    }
}

/// A certificate that a system is known by itself, whoever signed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pinned {
    /// SHA-256 of the certificate (`x5t#S256`).
    x5t: String,
    from_ms: u64,
    ends_ms: u64,
}

/// What a system that proves itself by its certificate is known by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Certificates {
    /// A name in a certificate that leads to an authority which the server trusts (`tls_client_auth`).
    Named(SubjectName),
    /// One of these certificates themselves (`self_signed_tls_client_auth`).
    Pinned(Vec<Pinned>),
}

impl Certificates {
    /// These certificates themselves, each in DER.
    ///
    /// # Errors
    /// `Invalid` when there are none or too many, or one can't be read.
    pub fn pinned<'a>(all: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, TrustError> {
        let mut pinned: Vec<Pinned> = Vec::new();
        for der in all {
            let Some(read) = PeerCertificate::read(der) else {
                return invalid("a certificate can't be read, or has more than 16 KB");
            };
            if pinned.iter().all(|known| known.x5t != read.x5t) {
                pinned.push(Pinned {
                    x5t: read.x5t,
                    from_ms: read.from_ms,
                    ends_ms: read.ends_ms,
                });
            }
        }
        if pinned.is_empty() || pinned.len() > PINNED_MAX {
            return invalid("a system is known by 1 to 10 certificates");
        }
        Ok(Self::Pinned(pinned))
    }

    /// Whether it is worth registering at this time.
    pub(super) fn check(&self, now_ms: u64) -> Result<(), TrustError> {
        match self {
            Self::Pinned(all) if all.iter().any(|one| now_ms >= one.ends_ms) => {
                invalid("a certificate has expired")
            }
            Self::Named(_) | Self::Pinned(_) => Ok(()),
        }
    }

    /// The name that this is, if it is one.
    pub(super) fn name(&self) -> Option<&SubjectName> {
        match self {
            Self::Named(name) => Some(name),
            Self::Pinned(_) => None,
        }
    }

    /// Whether a certificate is of whom this is: it has the name, or is one of those that are known.
    pub(super) fn is_of(&self, shown: &PeerCertificate) -> bool {
        match self {
            Self::Named(SubjectName::SubjectDn(name)) => *name == shown.subject,
            Self::Named(name) => shown.names.contains(name),
            Self::Pinned(all) => all.iter().any(|one| one.x5t == shown.x5t),
        }
    }

    /// Whether whoever is known by this is known by another as well.
    pub(super) fn is_within(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Pinned(own), Self::Pinned(others)) => own
                .iter()
                .all(|one| others.iter().any(|other| other.x5t == one.x5t)),
            _ => self == other,
        }
    }

    /// Checks a certificate that a client connected with. `is_trusted` tells whether it leads to an authority that
    /// the server trusts. The error says what is wrong in words that the client may be told: it sent it all.
    pub(super) fn prove(
        &self,
        shown: &PeerCertificate,
        is_trusted: bool,
        now_ms: u64,
    ) -> Result<(), &'static str> {
        if now_ms < shown.from_ms {
            return Err("the certificate of the connection is not valid yet");
        }
        if now_ms >= shown.ends_ms {
            return Err("the certificate of the connection has expired");
        }
        if matches!(self, Self::Named(_)) && !is_trusted {
            return Err(
                "the certificate of the connection leads to no authority that this server trusts for clients",
            );
        }
        match self.is_of(shown) {
            true => Ok(()),
            false => Err("the certificate of the connection is not that of this client"),
        }
    }

    /// Whether a certificate that was shown before is still one that this knows: by its thumbprint, or by the name in
    /// it that its client was known by then.
    pub(super) fn still_knows(
        &self,
        thumbprint: &str,
        name: Option<&SubjectName>,
        now_ms: u64,
    ) -> bool {
        match self {
            Self::Named(own) => name == Some(own),
            Self::Pinned(all) => all
                .iter()
                .any(|one| one.x5t == thumbprint && (one.from_ms..one.ends_ms).contains(&now_ms)),
        }
    }

    /// For the audit.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Named(_) => "the name in its certificate".to_owned(),
            Self::Pinned(all) => format!("{} certificates", all.len()),
        }
    }
}

/// The certificate that a client connected with, and showed that it holds the key of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCertificate {
    x5t: String,
    from_ms: u64,
    ends_ms: u64,
    subject: String,
    names: Vec<SubjectName>,
}

impl PeerCertificate {
    /// Reads a certificate in DER; nothing where it can't be read.
    #[must_use]
    pub fn read(der: &[u8]) -> Option<Self> {
        if der.len() > CERTIFICATE_BYTES_MAX {
            return None;
        }
        let certificate = Certificate::from_der(der).ok()?.tbs_certificate;
        let time = |time: x509_cert::time::Time| {
            u64::try_from(time.to_unix_duration().as_millis()).unwrap_or(u64::MAX)
        };
        let names = match certificate.get::<SubjectAltName>() {
            Ok(Some((_, names))) => names.0.iter().take(NAMES_MAX).filter_map(name).collect(),
            Ok(None) => Vec::new(),
            // Two of them, or one that can't be read: then nothing is known by it.
            Err(_) => return None,
        };
        Some(Self {
            x5t: thumbprint(der),
            from_ms: time(certificate.validity.not_before),
            // It is good for the whole second that it names.
            ends_ms: time(certificate.validity.not_after).saturating_add(1000),
            subject: certificate.subject.to_string(),
            names,
        })
    }

    /// SHA-256 of the certificate, in base64url: `x5t#S256` of tokens that are bound to it.
    #[must_use]
    pub fn thumbprint(&self) -> &str {
        &self.x5t
    }

    /// When it is good no more.
    pub(super) fn ends_ms(&self) -> u64 {
        self.ends_ms
    }
}

fn thumbprint(der: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, der))
}

/// A name of a certificate, if it is one that a system can be known by.
fn name(name: &GeneralName) -> Option<SubjectName> {
    Some(match name {
        GeneralName::DnsName(name) => SubjectName::SanDns(name.as_str().to_ascii_lowercase()),
        GeneralName::UniformResourceIdentifier(uri) => SubjectName::SanUri(uri.to_string()),
        GeneralName::Rfc822Name(address) => SubjectName::SanEmail(address.to_string()),
        GeneralName::IpAddress(address) => {
            let bytes = address.as_bytes();
            let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
            let six = <[u8; 16]>::try_from(bytes).map(IpAddr::from);
            SubjectName::SanIp(four.or(six).ok()?)
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
