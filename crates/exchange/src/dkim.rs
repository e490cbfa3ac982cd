//! Signatures of e-mails (DKIM, RFC 6376; Ed25519 by RFC 8463), by which a receiver knows that a mail is from the
//! domain that it names and that nobody changed it on the way.
//!
//! What is signed is what was composed here, so none of what makes DKIM hard to verify is needed: no parsing of others'
//! mail, no DNS. See `docs/decisions/0137-signed-mail-and-calendars.md`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;

/// The smallest RSA key, bits: RFC 8301 lets verifiers turn smaller ones down.
const RSA_BITS_MIN: usize = 2_048;
/// The largest, bits: RFC 8301 asks verifiers for no more than 4096.
const RSA_BITS_MAX: usize = 4_096;
/// The most keys that sign one mail: one of each kind.
const KEYS_MAX: usize = 2;
/// Where a header is folded, characters.
const LINE: usize = 72;

/// Headers that are signed. Those in the second group are named once more than they are there, so that nobody can add
/// one that a reader would be shown instead.
const SIGNED: [&str; 6] = [
    "mime-version",
    "content-type",
    "content-transfer-encoding",
    "list-unsubscribe",
    "list-unsubscribe-post",
    "references",
];
const SIGNED_ONCE_MORE: [&str; 9] = [
    "from",
    "to",
    "subject",
    "date",
    "message-id",
    "auto-submitted",
    "reply-to",
    "cc",
    "sender",
];

/// What e-mails are signed with.
#[derive(Clone)]
pub struct Dkim {
    domain: String,
    keys: Vec<(String, Arc<Pair>)>,
}

impl std::fmt::Debug for Dkim {
    /// Shows domain and selectors, and nothing of the keys.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let selectors: Vec<&str> = self.selectors().collect();
        formatter
            .debug_struct("Dkim")
            .field("domain", &self.domain)
            .field("selectors", &selectors)
            .finish_non_exhaustive()
    }
}

enum Pair {
    Rsa(RsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Pair {
    fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "rsa-sha256",
            Self::Ed25519(_) => "ed25519-sha256",
        }
    }

    fn read(pem: &[u8]) -> Result<Self, String> {
        let der = PrivateKeyDer::from_pem_slice(pem).map_err(|_| {
            "it holds no private key in PEM form (and none that is encrypted is taken)".to_owned()
        })?;
        let rsa = match &der {
            PrivateKeyDer::Pkcs8(der) => {
                if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der())
                {
                    return Ok(Self::Ed25519(pair));
                }
                RsaKeyPair::from_pkcs8(der.secret_pkcs8_der())
            }
            PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
            _ => return Err(NO_KEY.to_owned()),
        };
        // A small key is turned down by the library, too, which says so in its own words.
        let rsa = rsa.map_err(|error| format!("{NO_KEY} ({error})"))?;
        let bits = rsa.public_modulus_len() * 8;
        if !(RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits) {
            return Err(format!(
                "an RSA key of {bits} bits; receivers take {RSA_BITS_MIN} to {RSA_BITS_MAX} (RFC 8301)"
            ));
        }
        Ok(Self::Rsa(rsa))
    }

    fn sign(&self, what: &[u8]) -> Result<Vec<u8>, String> {
        match self {
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(
                    &RSA_PKCS1_SHA256,
                    &SystemRandom::new(),
                    what,
                    &mut signature,
                )
                .map_err(|_| "the RSA key does not sign".to_owned())?;
                Ok(signature)
            }
            // RFC 8463, section 3: the hash is what is signed.
            Self::Ed25519(pair) => Ok(pair.sign(digest(&SHA256, what).as_ref()).as_ref().to_vec()),
        }
    }
}

/// What is said of a file that holds no key which signs e-mails.
const NO_KEY: &str =
    "it is no key that signs e-mails: an RSA key of 2048 to 4096 bits, or one of Ed25519";

impl Dkim {
    /// Reads keys from `files`, each with its selector.
    ///
    /// # Errors
    /// In words, when there is no key, a name is no name, or a file holds no key that receivers would take.
    pub fn read(domain: &str, files: &[(String, PathBuf)]) -> Result<Self, String> {
        if !is_name(domain) || !domain.contains('.') {
            return Err(format!("the domain {domain:?} is not one"));
        }
        if files.is_empty() {
            return Err("there is no key".to_owned());
        }
        if files.len() > KEYS_MAX {
            return Err(format!(
                "{} keys; there are at most {KEYS_MAX}, one of RSA and one of Ed25519",
                files.len()
            ));
        }
        let mut keys: Vec<(String, Arc<Pair>)> = Vec::new();
        for (selector, path) in files {
            if !is_name(selector) {
                return Err(format!(
                    "the selector {selector:?} is not one: letters, digits, hyphens and dots"
                ));
            }
            if keys
                .iter()
                .any(|(known, _)| known.eq_ignore_ascii_case(selector))
            {
                return Err(format!("the selector {selector:?} stands twice"));
            }
            let told = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
            let pem = std::fs::read(path).map_err(|error| told(&error))?;
            let pair = Pair::read(&pem).map_err(|error| told(&error))?;
            if keys
                .iter()
                .any(|(_, known)| known.algorithm() == pair.algorithm())
            {
                return Err(told(
                    &"a second key of the same kind; there is one of RSA and one of Ed25519",
                ));
            }
            keys.push((selector.to_ascii_lowercase(), Arc::new(pair)));
        }
        Ok(Self {
            domain: domain.to_ascii_lowercase(),
            keys,
        })
    }

    /// The domain that signs.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The names under which the domain publishes its keys.
    pub fn selectors(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|(selector, _)| selector.as_str())
    }

    /// Whether it speaks for addresses of a domain: for its own, and for those below it. For others a signature would
    /// be valid and say nothing to who looks at the sender (RFC 7489, section 3.1.1).
    #[must_use]
    pub fn speaks_for(&self, domain: &str) -> bool {
        let domain = domain.to_ascii_lowercase();
        domain == self.domain
            || domain
                .strip_suffix(&self.domain)
                .is_some_and(|rest| rest.ends_with('.'))
    }

    /// The mail with a signature of each key above it.
    pub(crate) fn sign(&self, mail: &[u8], now_ms: u64) -> Result<Vec<u8>, String> {
        let (head, body) = split(mail);
        let headers = headers(head);
        let body_hash = STANDARD.encode(digest(&SHA256, &relaxed_body(body)));
        let names = names_of(&headers);
        let mut signed = Vec::with_capacity(mail.len() + 1_024);
        for (selector, pair) in &self.keys {
            let header = self.header(selector, pair, &headers, &names, &body_hash, now_ms)?;
            signed.extend_from_slice(header.as_bytes());
        }
        signed.extend_from_slice(mail);
        Ok(signed)
    }

    fn header(
        &self,
        selector: &str,
        pair: &Pair,
        headers: &[(String, String)],
        names: &[&str],
        body_hash: &str,
        now_ms: u64,
    ) -> Result<String, String> {
        let mut value = format!(
            " v=1; a={}; c=relaxed/relaxed; d={};\r\n\ts={selector}; t={};\r\n\th={};\r\n\tbh={body_hash};\r\n\tb=",
            pair.algorithm(),
            self.domain,
            now_ms / 1_000,
            folded(names),
        );
        let mut what = String::new();
        // The last of a name is signed first; those that are not there count as nothing (section 5.4.2).
        let mut left: Vec<&(String, String)> = headers.iter().collect();
        for name in names {
            if let Some(place) = left.iter().rposition(|(known, _)| known == name) {
                let (name, value) = left.remove(place);
                let _ = write!(what, "{name}:{value}\r\n");
            }
        }
        let _ = write!(what, "dkim-signature:{}", relaxed(&value));
        let signature = STANDARD.encode(pair.sign(what.as_bytes())?);
        let mut rest = signature.as_str();
        while rest.len() > LINE {
            let (line, more) = rest.split_at(LINE);
            let _ = write!(value, "{line}\r\n\t");
            rest = more;
        }
        Ok(format!("DKIM-Signature:{value}{rest}\r\n"))
    }
}

/// Whether a text is made of labels as DNS has them.
fn is_name(text: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

/// The names of what is signed, in order.
fn names_of(headers: &[(String, String)]) -> Vec<&'static str> {
    let there = |name: &&str| headers.iter().filter(|(known, _)| known == *name).count();
    let plain = SIGNED
        .iter()
        .flat_map(|name| std::iter::repeat_n(*name, there(name)));
    let more = SIGNED_ONCE_MORE
        .iter()
        .flat_map(|name| std::iter::repeat_n(*name, there(name) + 1));
    more.chain(plain).collect()
}

/// A list with colons, in lines that are not too long.
fn folded(names: &[&str]) -> String {
    let mut list = String::new();
    let mut line = 0;
    for (place, name) in names.iter().enumerate() {
        if place > 0 {
            list.push(':');
            line += 1;
        }
        if line + name.len() > LINE {
            list.push_str("\r\n\t ");
            line = 0;
        }
        list.push_str(name);
        line += name.len();
    }
    list
}

/// Head and body of a mail; the empty line between them is in neither.
fn split(mail: &[u8]) -> (&[u8], &[u8]) {
    match mail.windows(4).position(|four| four == b"\r\n\r\n") {
        Some(place) => (&mail[..place + 2], &mail[place + 4..]),
        None => (mail, &[]),
    }
}

/// The headers in the relaxed form (section 3.4.2): name in small letters, value without folds.
fn headers(head: &[u8]) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    let text = String::from_utf8_lossy(head);
    for line in text.split("\r\n") {
        if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = found.last_mut() {
                value.push_str(line);
            }
        } else if let Some((name, value)) = line.split_once(':') {
            found.push((name.trim_end().to_ascii_lowercase(), value.to_owned()));
        }
    }
    for (_, value) in &mut found {
        *value = relaxed(value);
    }
    found
}

/// A header's value in the relaxed form: what is blank is one space, and there is none at the ends.
fn relaxed(value: &str) -> String {
    let words = value
        .split([' ', '\t', '\r', '\n'])
        .filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ")
}

/// A body in the relaxed form (section 3.4.4).
fn relaxed_body(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 2);
    // Where the body ends: blank lines behind it are not signed.
    let mut end = 0;
    for line in body.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let begins = out.len();
        let mut blank = false;
        for byte in line {
            if matches!(byte, b' ' | b'\t') {
                blank = true;
                continue;
            }
            if std::mem::take(&mut blank) {
                out.push(b' ');
            }
            out.push(*byte);
        }
        let is_empty = out.len() == begins;
        out.extend_from_slice(b"\r\n");
        if !is_empty {
            end = out.len();
        }
    }
    out.truncate(end);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_and_headers_are_put_into_their_relaxed_form() {
        for (body, expected) in [
            ("", ""),
            ("\r\n", ""),
            (" \t \r\n\r\n", ""),
            // The example of RFC 6376, section 3.4.5.
            (" C \r\nD \t E\r\n\r\n\r\n", " C\r\nD E\r\n"),
            ("a\r\n\r\nb", "a\r\n\r\nb\r\n"),
        ] {
            assert_eq!(
                relaxed_body(body.as_bytes()),
                expected.as_bytes(),
                "{body:?}"
            );
        }
        let found = headers(b"A: X\r\nB : Y\t\r\n\tZ  \r\n");
        let expected = [("a", "X"), ("b", "Y Z")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(found, expected);
    }

    #[test]
    fn what_a_reader_is_shown_is_signed_once_more_than_it_is_there() {
        let headers = headers(b"From: a\r\nTo: b\r\nX-Other: c\r\nMIME-Version: 1.0\r\n");
        let names = names_of(&headers);
        let count = |name| names.iter().filter(|known| **known == name).count();
        assert_eq!(count("from"), 2);
        assert_eq!(count("to"), 2);
        assert_eq!(count("subject"), 1);
        assert_eq!(count("mime-version"), 1);
        assert_eq!(count("content-type"), 0);
        assert_eq!(count("x-other"), 0);
        for line in folded(&names).split("\r\n") {
            assert!(line.len() < 78, "{line}");
        }
    }

    #[test]
    fn a_domain_speaks_for_itself_and_what_is_below_it() {
        let dkim = Dkim {
            domain: "hospital.example".to_owned(),
            keys: Vec::new(),
        };
        for (domain, expected) in [
            ("hospital.example", true),
            ("Hospital.Example", true),
            ("mail.hospital.example", true),
            ("nothospital.example", false),
            ("example", false),
            ("hospital.example.org", false),
        ] {
            assert_eq!(dkim.speaks_for(domain), expected, "{domain}");
        }
    }

    #[test]
    fn names_are_labels() {
        for (name, expected) in [
            ("s1", true),
            ("2026-a.mail", true),
            ("", false),
            ("a..b", false),
            ("-a", false),
            ("a b", false),
            ("a;b=c", false),
            ("a\r\nb", false),
        ] {
            assert_eq!(is_name(name), expected, "{name:?}");
        }
    }
}
