//! A client's proof that it is the client: a JWT signed with its key (RFC 7523, as SMART Backend Services
//! has it). Pure: the time comes in, and whether the proof was shown before is for the caller to see.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, Validation};
use serde_json::Value;

use super::keys::Keys;

/// The most bytes of a proof; those that are usual have under a thousand.
const BYTES_MAX: usize = 16 << 10;
/// How long a proof may be good for: five minutes (SMART App Launch 2.2, section 5.3.3).
const LIFE_MAX_S: u64 = 300;
/// How far the clocks of both sides may be apart.
const SKEW_S: u64 = 60;
/// The most bytes of a proof's id.
const ID_BYTES_MAX: usize = 255;

/// A proof that holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Proved {
    /// Its id, which it may be shown under once.
    pub(super) id: String,
    /// When it can't be shown any more.
    pub(super) ends_ms: u64,
}

/// The key that a proof says it is signed by.
pub(super) fn named_key(assertion: &str) -> Option<String> {
    Some(part(assertion, 0)?.get("kid")?.as_str()?.to_owned())
}

/// Who a proof says that it is of; nothing is proved by that.
pub(super) fn claimed(assertion: &str) -> Option<String> {
    let claims = part(assertion, 1)?;
    Some(claims.get("iss")?.as_str()?.to_owned())
}

/// A part of a JWT as JSON.
fn part(assertion: &str, position: usize) -> Option<Value> {
    if assertion.len() > BYTES_MAX {
        return None;
    }
    let text = assertion.split('.').nth(position)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

/// Whose a proof has to be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Of<'a> {
    pub(super) client: &'a str,
    /// Whether its `sub` has to say so, too; else it may be missing.
    pub(super) named: bool,
}

impl<'a> From<&'a str> for Of<'a> {
    fn from(client: &'a str) -> Self {
        Self {
            client,
            named: true,
        }
    }
}

/// Checks a proof of `client` for the address `audience`. `place` is where the client's keys are fetched
/// from, if they are. The error says what is wrong in words that the
/// client may be told: they tell nothing but what it sent.
pub(super) fn check<'a>(
    assertion: &str,
    (keys, place): (&Keys, Option<&str>),
    client: impl Into<Of<'a>>,
    audience: &str,
    now_ms: u64,
) -> Result<Proved, &'static str> {
    let Of { client, named } = client.into();
    const FORM: &str = "the client_assertion is no signed JWT";
    let header = part(assertion, 0).ok_or(FORM)?;
    let text = |name: &str| header.get(name).and_then(Value::as_str);
    // The algorithm is one of two whatever the header says, and the key's own.
    let algorithm = match text("alg") {
        Some("RS384") => Algorithm::RS384,
        Some("ES384") => Algorithm::ES384,
        _ => return Err("the client_assertion is not signed by RS384 or ES384"),
    };
    if header.get("crit").is_some() || header.get("b64").is_some() {
        return Err("the header of the client_assertion has an extension that is not understood");
    }
    if text("typ").is_some_and(|kind| !kind.eq_ignore_ascii_case("JWT")) {
        return Err("the client_assertion is of another type than JWT");
    }
    if header.get("jku").is_some() && (place.is_none() || text("jku") != place) {
        return Err("jku of the client_assertion is not the jwks_uri that the client registered");
    }
    let id = text("kid").ok_or("the header of the client_assertion names no key (kid)")?;
    let key = keys
        .find(id, algorithm)
        .ok_or("the client has no key of this kid and algorithm")?;
    let mut validation = Validation::new(algorithm);
    // Times are checked below, by the clock that this server goes by.
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    let claims = jsonwebtoken::decode::<Value>(assertion, &key, &validation)
        .map_err(|_| "the signature of the client_assertion is wrong")?
        .claims;
    let is_client = |name: &str| claims.get(name).and_then(Value::as_str) == Some(client);
    let has_no_subject = !named && claims.get("sub").is_none();
    if !is_client("iss") || !(is_client("sub") || has_no_subject) {
        return Err("iss and sub of the client_assertion must be the client_id");
    }
    let names_us = match claims.get("aud") {
        Some(Value::String(one)) => one == audience,
        Some(Value::Array(all)) => all.iter().any(|one| one.as_str() == Some(audience)),
        _ => false,
    };
    if !names_us {
        return Err("aud of the client_assertion must be the address of the token endpoint");
    }
    let now_s = now_ms / 1000;
    let time = |name: &str| match claims.get(name).map(Value::as_f64) {
        None => Ok(None),
        // Seconds of centuries are exact in a float.
        Some(Some(at)) if (0.0..1e12).contains(&at) => Ok(Some(at as u64)),
        Some(_) => Err("a time of the client_assertion is no number of seconds"),
    };
    let ends_s = time("exp")?.ok_or("exp of the client_assertion is missing")?;
    if ends_s + SKEW_S <= now_s {
        return Err("the client_assertion has expired");
    }
    if ends_s > now_s + LIFE_MAX_S + SKEW_S {
        return Err("exp of the client_assertion is more than five minutes ahead");
    }
    for name in ["nbf", "iat"] {
        if time(name)?.is_some_and(|at| at > now_s + SKEW_S) {
            return Err("the client_assertion is from the future");
        }
    }
    let id = claims.get("jti").and_then(Value::as_str);
    let id = id.filter(|id| !id.is_empty() && id.len() <= ID_BYTES_MAX);
    let id = id.ok_or("jti of the client_assertion is missing, or too long")?;
    Ok(Proved {
        id: id.to_owned(),
        ends_ms: (ends_s + SKEW_S + 1) * 1000,
    })
}

#[cfg(test)]
mod tests;
