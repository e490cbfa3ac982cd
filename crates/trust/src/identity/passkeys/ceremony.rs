//! What is checked of a passkey (W3C Web Authentication, Level 3, sections 7.1 and 7.2), as functions of what a
//! browser sent and what was asked.
//!
//! No attestation is asked for, so that nothing here says which make of authenticator it is, and a registration
//! needs no more than the fixed part of the authenticator's data and the key as the browser gives it
//! (section 5.2.1.1): no CBOR is read.
use aws_lc_rs::digest;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    UnparsedPublicKey, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::identity::secrets::same;

/// The most bytes of an answer: a key of RSA with 8,192 bits and the longest id are about five thousand.
const ANSWER_BYTES_MAX: usize = 16 << 10;
/// Bytes of a credential's id (section 4, "Credential ID").
const CREDENTIAL_ID_BYTES: std::ops::RangeInclusive<usize> = 16..=1023;
/// Hash of the relying party's id, flags and counter.
const FIXED_BYTES: usize = 37;
const AAGUID_BYTES: usize = 16;
/// Ways to reach an authenticator that are remembered; the specification has six.
const TRANSPORTS_MAX: usize = 8;

const USER_PRESENT: u8 = 1;
const USER_VERIFIED: u8 = 1 << 2;
const BACKUP_ELIGIBLE: u8 = 1 << 3;
const BACKED_UP: u8 = 1 << 4;
const ATTESTED: u8 = 1 << 6;
const EXTENDED: u8 = 1 << 7;

/// Algorithms that are taken (COSE), the wanted one first: ECDSA on P-256, Ed25519, and RSA, which some
/// computers' own authenticators have only.
pub(super) const ALGORITHMS: [i32; 3] = [-7, -8, -257];

/// Whom passkeys are made for: this server, by the name that people reach it by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelyingParty {
    /// The host's name.
    pub id: String,
    /// Scheme, host and port, as a browser says them.
    pub origin: String,
    /// The organisation's name, shown when a passkey is made.
    pub name: String,
}

impl RelyingParty {
    /// Of the address that people reach the server by. None where browsers make no passkeys: without TLS, and
    /// where there is an address instead of a name. This machine itself is `localhost`, whatever its address.
    #[must_use]
    pub fn of(base_url: &str, name: &str) -> Option<Self> {
        let (scheme, rest) = base_url.split_once("://")?;
        let authority = rest.split(['/', '?', '#']).next()?.to_ascii_lowercase();
        let (host, port) = match authority.rfind(':') {
            Some(at) if !authority.ends_with(']') => {
                (&authority[..at], authority[at + 1..].parse::<u16>().ok()?)
            }
            _ => (authority.as_str(), if scheme == "https" { 443 } else { 80 }),
        };
        let is_here = ["localhost", "127.0.0.1", "[::1]"].contains(&host);
        let id = if is_here { "localhost" } else { host };
        let is_name = id.split('.').all(|label| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        }) && !id
            .rsplit('.')
            .next()
            .is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
        let usual = match scheme {
            "https" => 443,
            "http" if is_here => 80,
            _ => return None,
        };
        let port = if port == usual {
            String::new()
        } else {
            format!(":{port}")
        };
        is_name.then(|| Self {
            origin: format!("{scheme}://{id}{port}"),
            id: id.to_owned(),
            name: name.to_owned(),
        })
    }
}

/// A passkey's public half, and what is known of its authenticator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Credential {
    /// Base64url, as all that follows.
    pub(super) id: String,
    pub(super) algorithm: i32,
    /// `SubjectPublicKeyInfo`.
    pub(super) key: String,
    /// Signatures so far; zero where the authenticator doesn't count.
    pub(super) counter: u32,
    /// Whether it may be copied to other devices of its person.
    pub(super) eligible: bool,
    /// Whether it is.
    pub(super) backed_up: bool,
    pub(super) transports: Vec<String>,
}

/// What a browser sends of a new passkey.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct NewAnswer {
    pub(super) id: String,
    client_data: String,
    authenticator_data: String,
    public_key: String,
    algorithm: i32,
    #[serde(default)]
    transports: Vec<String>,
}

/// What a browser sends when a passkey is shown.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct ShownAnswer {
    pub(super) id: String,
    client_data: String,
    authenticator_data: String,
    signature: String,
    #[serde(default)]
    user_handle: Option<String>,
}

/// Why a passkey is not taken; the words are for the audit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Malformed,
    Purpose,
    Challenge,
    Origin,
    Framed,
    RelyingParty,
    NotPresent,
    NotVerified,
    Backup,
    Algorithm,
    Handle,
    Signature,
    Counter,
}

impl Fault {
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Malformed => "passkey: the answer can't be read",
            Self::Purpose => "passkey: an answer to another question",
            Self::Challenge => "passkey: an answer to another challenge",
            Self::Origin => "passkey: used at another origin",
            Self::Framed => "passkey: used in a frame of another site",
            Self::RelyingParty => "passkey: made for another server",
            Self::NotPresent => "passkey: nobody was there",
            Self::NotVerified => "passkey: the person was not verified",
            Self::Backup => "passkey: what is said about copies is not what was said before",
            Self::Algorithm => "passkey: a key that is not taken",
            Self::Handle => "passkey: another person's",
            Self::Signature => "passkey: signature wrong",
            Self::Counter => "passkey: its count went back, so there may be a copy of it",
        }
    }
}

/// What an answer has to answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected<'a> {
    pub(super) party: &'a RelyingParty,
    pub(super) challenge: &'a str,
    /// The user handle that the account's passkeys were made with.
    pub(super) handle: &'a str,
    /// Whether the authenticator has to say it: it does where it was asked for any passkey.
    pub(super) says_handle: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClientData {
    #[serde(rename = "type")]
    purpose: String,
    challenge: String,
    origin: String,
    #[serde(default)]
    cross_origin: bool,
    top_origin: Option<String>,
}

struct AuthenticatorData<'a> {
    flags: u8,
    counter: u32,
    credential: Option<&'a [u8]>,
}

/// Reads an answer.
pub(super) fn read<'a, T: Deserialize<'a>>(answer: &'a str) -> Result<T, Fault> {
    if answer.len() > ANSWER_BYTES_MAX {
        return Err(Fault::Malformed);
    }
    serde_json::from_str(answer).map_err(|_| Fault::Malformed)
}

/// Checks a new passkey.
pub(super) fn check_new(expected: Expected<'_>, answer: &NewAnswer) -> Result<Credential, Fault> {
    check_client(expected, "webauthn.create", &decoded(&answer.client_data)?)?;
    let bytes = decoded(&answer.authenticator_data)?;
    let data = check_authenticator(expected, &bytes)?;
    let id = decoded(&answer.id)?;
    if data.credential != Some(id.as_slice()) || !CREDENTIAL_ID_BYTES.contains(&id.len()) {
        return Err(Fault::Malformed);
    }
    let algorithm = algorithm(answer.algorithm)?;
    ParsedPublicKey::new(algorithm, decoded(&answer.public_key)?).map_err(|_| Fault::Algorithm)?;
    let mut transports = answer.transports.clone();
    transports.retain(|one| {
        one.len() <= 32
            && one
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'-')
    });
    transports.truncate(TRANSPORTS_MAX);
    Ok(Credential {
        id: answer.id.clone(),
        algorithm: answer.algorithm,
        key: answer.public_key.clone(),
        counter: data.counter,
        eligible: data.flags & BACKUP_ELIGIBLE != 0,
        backed_up: data.flags & BACKED_UP != 0,
        transports,
    })
}

/// Checks a passkey that is shown, and gives it as it is from now on.
pub(super) fn check_shown(
    expected: Expected<'_>,
    answer: &ShownAnswer,
    credential: &Credential,
) -> Result<Credential, Fault> {
    if answer.id != credential.id {
        return Err(Fault::Handle);
    }
    match &answer.user_handle {
        Some(handle) => {
            let handle = String::from_utf8(decoded(handle)?).map_err(|_| Fault::Handle)?;
            if !same(&handle, expected.handle) {
                return Err(Fault::Handle);
            }
        }
        None if expected.says_handle => return Err(Fault::Handle),
        None => {}
    }
    let client = decoded(&answer.client_data)?;
    check_client(expected, "webauthn.get", &client)?;
    let mut signed = decoded(&answer.authenticator_data)?;
    let data = check_authenticator(expected, &signed)?;
    let (counter, backed_up) = (data.counter, data.flags & BACKED_UP != 0);
    if (data.flags & BACKUP_ELIGIBLE != 0) != credential.eligible {
        return Err(Fault::Backup);
    }
    signed.extend_from_slice(digest::digest(&digest::SHA256, &client).as_ref());
    UnparsedPublicKey::new(algorithm(credential.algorithm)?, decoded(&credential.key)?)
        .verify(&signed, &decoded(&answer.signature)?)
        .map_err(|_| Fault::Signature)?;
    // Section 7.2, step 22: an authenticator that counts never signs twice with one count.
    if (counter > 0 || credential.counter > 0) && counter <= credential.counter {
        return Err(Fault::Counter);
    }
    Ok(Credential {
        counter,
        backed_up,
        ..credential.clone()
    })
}

fn decoded(text: &str) -> Result<Vec<u8>, Fault> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| Fault::Malformed)
}

fn algorithm(of: i32) -> Result<&'static dyn VerificationAlgorithm, Fault> {
    match of {
        -7 => Ok(&ECDSA_P256_SHA256_ASN1),
        -8 => Ok(&ED25519),
        -257 => Ok(&RSA_PKCS1_2048_8192_SHA256),
        _ => Err(Fault::Algorithm),
    }
}

fn check_client(expected: Expected<'_>, purpose: &str, json: &[u8]) -> Result<(), Fault> {
    let data: ClientData = serde_json::from_slice(json).map_err(|_| Fault::Malformed)?;
    if data.purpose != purpose {
        return Err(Fault::Purpose);
    }
    if !same(&data.challenge, expected.challenge) {
        return Err(Fault::Challenge);
    }
    if data.origin != expected.party.origin {
        return Err(Fault::Origin);
    }
    if data.cross_origin || data.top_origin.is_some() {
        return Err(Fault::Framed);
    }
    Ok(())
}

fn check_authenticator<'a>(
    expected: Expected<'_>,
    bytes: &'a [u8],
) -> Result<AuthenticatorData<'a>, Fault> {
    let (fixed, rest) = bytes
        .split_at_checked(FIXED_BYTES)
        .ok_or(Fault::Malformed)?;
    let (party, rest_of_fixed) = fixed.split_at(32);
    let (flags, counter) = (rest_of_fixed[0], &rest_of_fixed[1..]);
    let counter = u32::from_be_bytes(counter.try_into().map_err(|_| Fault::Malformed)?);
    let wanted = digest::digest(&digest::SHA256, expected.party.id.as_bytes());
    if party != wanted.as_ref() {
        return Err(Fault::RelyingParty);
    }
    if flags & USER_PRESENT == 0 {
        return Err(Fault::NotPresent);
    }
    // What makes a passkey two factors: to have it, and the finger or word that it asks for.
    if flags & USER_VERIFIED == 0 {
        return Err(Fault::NotVerified);
    }
    if flags & BACKED_UP != 0 && flags & BACKUP_ELIGIBLE == 0 {
        return Err(Fault::Backup);
    }
    let credential = if flags & ATTESTED == 0 {
        if rest.is_empty() != (flags & EXTENDED == 0) {
            return Err(Fault::Malformed);
        }
        None
    } else {
        let (length, rest) = rest
            .get(AAGUID_BYTES..)
            .and_then(<[u8]>::split_first_chunk::<2>)
            .ok_or(Fault::Malformed)?;
        let length = usize::from(u16::from_be_bytes(*length));
        Some(rest.get(..length).ok_or(Fault::Malformed)?)
    };
    Ok(AuthenticatorData {
        flags,
        counter,
        credential,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relying_party_is_a_name_over_tls_or_this_machine() {
        for (base_url, found) in [
            (
                "https://care.example",
                Some(("care.example", "https://care.example")),
            ),
            (
                "https://Care.Example:8443/x",
                Some(("care.example", "https://care.example:8443")),
            ),
            (
                "https://care.example:443",
                Some(("care.example", "https://care.example")),
            ),
            (
                "http://127.0.0.1:8080",
                Some(("localhost", "http://localhost:8080")),
            ),
            ("http://[::1]:80", Some(("localhost", "http://localhost"))),
            ("https://[::1]", Some(("localhost", "https://localhost"))),
            ("http://care.example", None),
            ("https://192.0.2.7", None),
            ("https://[2001:db8::1]", None),
            ("https://user@care.example", None),
            ("https://care.example:x", None),
            ("https://cäre.example", None),
            ("https://", None),
            ("care.example", None),
        ] {
            let party = RelyingParty::of(base_url, "Care");
            let party = party
                .as_ref()
                .map(|party| (party.id.as_str(), party.origin.as_str()));
            assert_eq!(party, found, "{base_url}");
        }
    }

    #[test]
    fn what_is_too_short_or_too_long_is_not_read() {
        let party = RelyingParty::of("https://care.example", "").unwrap();
        let expected = Expected {
            party: &party,
            challenge: "c",
            handle: "h",
            says_handle: false,
        };
        let hash = digest::digest(&digest::SHA256, b"care.example");
        let data = |flags: u8, rest: &[u8]| [hash.as_ref(), &[flags, 0, 0, 0, 9], rest].concat();
        let both = USER_PRESENT | USER_VERIFIED;
        let fault = |bytes: &[u8]| check_authenticator(expected, bytes).err();
        assert_eq!(fault(&data(both, b"")), None);
        for (bytes, why) in [
            (data(both, b"")[..36].to_vec(), Fault::Malformed),
            (Vec::new(), Fault::Malformed),
            (data(both, b"x"), Fault::Malformed),
            (data(both | EXTENDED, b""), Fault::Malformed),
            (data(both | ATTESTED, &[0; 17]), Fault::Malformed),
            (
                data(both | ATTESTED, &[&[0; 16][..], &[0, 9], &[1; 8]].concat()),
                Fault::Malformed,
            ),
            (data(USER_VERIFIED, b""), Fault::NotPresent),
            (data(USER_PRESENT, b""), Fault::NotVerified),
            (data(both | BACKED_UP, b""), Fault::Backup),
        ] {
            assert_eq!(fault(&bytes), Some(why), "{bytes:?}");
        }
        let long = format!("\"{}\"", "x".repeat(ANSWER_BYTES_MAX));
        assert_eq!(read::<String>(&long).err(), Some(Fault::Malformed));
    }
}
