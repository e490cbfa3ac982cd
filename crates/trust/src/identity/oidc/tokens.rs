//! The checks of identity tokens and logout tokens.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, Validation};
use serde_json::{Map, Value};

use super::keys::{IssuerKeys, algorithm, half_hash};
use crate::identity::secrets;

/// The most bytes of a token. Those with many groups of a person have some thousand.
const BYTES_MAX: usize = 64 << 10;
/// How far the clocks of both sides may be apart.
pub(super) const SKEW_S: u64 = 60;
/// How old a token may be that was made for what is under way. An identity token comes straight from the
/// issuer, a logout token within its tries to deliver it.
const AGE_MAX_S: u64 = 600;
/// How far ahead a logout token may end: so long it is remembered, so that it works once. Two minutes are
/// recommended (Back-Channel Logout 1.0, section 4).
const LOGOUT_LIFE_MAX_S: u64 = 3600;
/// The most bytes of a subject (OpenID Connect Core 1.0, section 2), and of other ids.
const ID_BYTES_MAX: usize = 255;
/// What a logout token says has happened.
const LOGOUT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// Why a token is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// The issuer's set, as it was given, has no such key. It may be newer than the set.
    #[error("the token is signed by a key that is not among the issuer's")]
    UnknownKey,
    /// Something is wrong with it.
    #[error("{0}")]
    Refused(&'static str),
}

/// What an identity token has to answer.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// Who was asked.
    pub issuer: &'a str,
    /// Who asked.
    pub client_id: &'a str,
    /// What was sent along, once.
    pub nonce: &'a str,
    /// The access token that came with the answer.
    pub access_token: &'a str,
}

/// An identity token that holds.
#[derive(Clone)]
pub struct IdToken {
    /// Whom the issuer signed in.
    pub subject: String,
    /// The session there, which a logout token names.
    pub session: Option<String>,
    /// When it was made, by the issuer's clock, seconds.
    pub made_s: u64,
    /// All that it says. Details of a person: not for logs.
    claims: Map<String, Value>,
}

/// A logout token that holds. It names a subject, a session, or both.
#[derive(Clone)]
pub struct LogoutToken {
    /// Who was signed out there.
    pub subject: Option<String>,
    /// The session that ended there; all of the subject's, if there is none.
    pub session: Option<String>,
    /// Its id, under which it works once.
    pub id: String,
    /// When it was made, by the issuer's clock, seconds.
    pub made_s: u64,
    /// When it can't be shown any more.
    pub ends_ms: u64,
}

impl IdToken {
    /// A claim that is a text. `email` and `phone_number` are what the person says, unless the issuer says that
    /// it looked: then they are told here, and otherwise not.
    #[must_use]
    pub fn verified(&self, name: &str) -> Option<&str> {
        let looked_at = match name {
            "email" => Some("email_verified"),
            "phone_number" => Some("phone_number_verified"),
            _ => None,
        };
        let is_verified =
            looked_at.is_none_or(|name| self.claims.get(name) == Some(&Value::Bool(true)));
        let text = self.claims.get(name).and_then(Value::as_str);
        text.filter(|text| is_verified && !text.is_empty())
    }

    /// When the person signed in there, by the issuer's clock, seconds; none where it doesn't say.
    #[must_use]
    pub fn signed_in_s(&self) -> Option<u64> {
        let at = self.claims.get("auth_time").and_then(Value::as_f64)?;
        (0.0..1e12).contains(&at).then_some(at as u64)
    }

    /// Whether the person was signed in there in one of the ways of `acr`, and by one of the methods of `amr`
    /// (RFC 8176). An empty list asks nothing.
    #[must_use]
    pub fn satisfies(&self, acr: &[String], amr: &[String]) -> bool {
        let way = self.claims.get("acr").and_then(Value::as_str);
        let methods = self.claims.get("amr").and_then(Value::as_array);
        let by_way = acr.is_empty() || way.is_some_and(|way| acr.iter().any(|one| one == way));
        let by_method = amr.is_empty()
            || methods.is_some_and(|methods| {
                let mut methods = methods.iter().filter_map(Value::as_str);
                methods.any(|method| amr.iter().any(|one| one == method))
            });
        by_way && by_method
    }
}

/// Checks an identity token that came from the token endpoint (OpenID Connect Core 1.0, section 3.1.3.7).
///
/// # Errors
/// `UnknownKey` when newer keys may help, `Refused` otherwise.
pub fn check_id_token(
    token: &str,
    keys: &IssuerKeys,
    asked: Asked<'_>,
    now_ms: u64,
) -> Result<IdToken, TokenFault> {
    let refused = |words| Err(TokenFault::Refused(words));
    let (algorithm, claims) = verified(token, keys, &["jwt"])?;
    check_origin(&claims, asked.issuer, asked.client_id)?;
    let (made_s, _) = check_times(&claims, now_ms)?;
    let nonce = text(&claims, "nonce").unwrap_or_default();
    if asked.nonce.is_empty() || !secrets::same(nonce, asked.nonce) {
        return refused("the token answers another sign-in than this (nonce)");
    }
    match claims.get("at_hash") {
        None => {}
        Some(Value::String(hash)) if *hash == half_hash(asked.access_token, algorithm) => {}
        Some(_) => return refused("the token is not of the access token beside it (at_hash)"),
    }
    let Some(subject) = id(&claims, "sub")? else {
        return refused("the token names nobody (sub)");
    };
    Ok(IdToken {
        subject,
        session: id(&claims, "sid")?,
        made_s,
        claims,
    })
}

/// Checks a logout token that was sent by the issuer, or by anybody (Back-Channel Logout 1.0, section 2.6).
/// Whether its id was seen before is for the caller to see.
///
/// # Errors
/// `UnknownKey` when newer keys may help, `Refused` otherwise.
pub fn check_logout_token(
    token: &str,
    keys: &IssuerKeys,
    issuer: &str,
    client_id: &str,
    now_ms: u64,
) -> Result<LogoutToken, TokenFault> {
    let refused = |words| Err(TokenFault::Refused(words));
    let (_, claims) = verified(token, keys, &["jwt", "logout+jwt"])?;
    check_origin(&claims, issuer, client_id)?;
    let (made_s, ends_s) = check_times(&claims, now_ms)?;
    if ends_s > now_ms / 1000 + LOGOUT_LIFE_MAX_S + SKEW_S {
        return refused("the logout token is good for more than an hour (exp)");
    }
    let event = claims.get("events").and_then(|events| events.get(LOGOUT));
    if !event.is_some_and(Value::is_object) {
        return refused("the token says of no logout (events)");
    }
    // An identity token can't be passed off as one.
    if claims.contains_key("nonce") {
        return refused("a logout token has no nonce");
    }
    let (subject, session) = (id(&claims, "sub")?, id(&claims, "sid")?);
    if subject.is_none() && session.is_none() {
        return refused("the logout token names neither somebody nor a session (sub, sid)");
    }
    let Some(id) = id(&claims, "jti")? else {
        return refused("the logout token has no id of its own (jti)");
    };
    Ok(LogoutToken {
        subject,
        session,
        id,
        made_s,
        ends_ms: (ends_s + SKEW_S + 1).saturating_mul(1000),
    })
}

/// The claims of a token whose signature holds, and its algorithm.
fn verified(
    token: &str,
    keys: &IssuerKeys,
    types: &[&str],
) -> Result<(Algorithm, Map<String, Value>), TokenFault> {
    let refused = TokenFault::Refused;
    if token.len() > BYTES_MAX {
        return Err(refused("the token is too long"));
    }
    let header = token.split('.').next().and_then(|part| {
        let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
        serde_json::from_slice::<Map<String, Value>>(&bytes).ok()
    });
    let header = header.ok_or(refused("the token is no signed JWT"))?;
    let algorithm = text(&header, "alg").and_then(algorithm);
    let algorithm = algorithm.ok_or(refused(
        "the token is not signed by an algorithm that is taken",
    ))?;
    if header.contains_key("crit") || header.contains_key("b64") {
        return Err(refused(
            "the token's header has an extension that is not understood",
        ));
    }
    let kind = header
        .get("typ")
        .map(|kind| kind.as_str().unwrap_or_default().to_ascii_lowercase());
    if kind.is_some_and(|kind| !types.contains(&kind.trim_start_matches("application/"))) {
        return Err(refused("the token is of another type (typ)"));
    }
    let id = match header.get("kid") {
        None => None,
        Some(id) => Some(
            id.as_str()
                .ok_or(refused("the token's key id is no text"))?,
        ),
    };
    // The set alone says which keys are the issuer's: jku, jwk and x5u of the header are not looked at.
    let key = keys.find(id, algorithm)?;
    let mut validation = Validation::new(algorithm);
    // These are checked by our own clock and words.
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    let token = jsonwebtoken::decode::<Map<String, Value>>(token, &key, &validation)
        .map_err(|_| refused("the token's signature is wrong"))?;
    Ok((algorithm, token.claims))
}

/// From whom, and for whom. A token for others besides is refused: it would be good at theirs, and what they
/// were given good here.
fn check_origin(
    claims: &Map<String, Value>,
    issuer: &str,
    client_id: &str,
) -> Result<(), TokenFault> {
    let refused = |words| Err(TokenFault::Refused(words));
    if text(claims, "iss") != Some(issuer) {
        return refused("the token is of another issuer (iss)");
    }
    let is_ours = match claims.get("aud") {
        Some(Value::String(one)) => one == client_id,
        Some(Value::Array(all)) => {
            !all.is_empty() && all.iter().all(|one| one.as_str() == Some(client_id))
        }
        _ => false,
    };
    if !is_ours {
        return refused("the token is for somebody else (aud)");
    }
    if claims
        .get("azp")
        .is_some_and(|azp| azp.as_str() != Some(client_id))
    {
        return refused("the token was asked for by somebody else (azp)");
    }
    Ok(())
}

/// When a token was made that is good now, and when it ends.
fn check_times(claims: &Map<String, Value>, now_ms: u64) -> Result<(u64, u64), TokenFault> {
    let refused = TokenFault::Refused;
    let now_s = now_ms / 1000;
    let time = |name: &str| match claims.get(name).map(Value::as_f64) {
        None => Ok(None),
        // Seconds of centuries are exact in a float.
        Some(Some(at)) if (0.0..1e12).contains(&at) => Ok(Some(at as u64)),
        Some(_) => Err(refused("a time of the token is no number of seconds")),
    };
    let ends_s = time("exp")?.ok_or(refused("the token does not say when it ends (exp)"))?;
    if ends_s + SKEW_S <= now_s {
        return Err(refused("the token has expired"));
    }
    let made_s = time("iat")?.ok_or(refused("the token does not say when it was made (iat)"))?;
    if made_s + AGE_MAX_S + SKEW_S <= now_s {
        return Err(refused("the token was made too long ago (iat)"));
    }
    for at in [Some(made_s), time("nbf")?].into_iter().flatten() {
        if at > now_s + SKEW_S {
            return Err(refused("the token is from the future"));
        }
    }
    Ok((made_s, ends_s))
}

fn text<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    claims.get(name).and_then(Value::as_str)
}

/// An id, if it is there.
fn id(claims: &Map<String, Value>, name: &str) -> Result<Option<String>, TokenFault> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::String(id)) if (1..=ID_BYTES_MAX).contains(&id.len()) => Ok(Some(id.clone())),
        Some(_) => Err(TokenFault::Refused(
            "an id in the token (sub, sid, jti) is no text, empty or too long",
        )),
    }
}
