use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RSA_PSS_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::*;
use crate::identity::KEYS_BYTES_MAX;

mod again;
mod flow;

const NOW_MS: u64 = 1_772_366_400_000;
const NOW_S: u64 = NOW_MS / 1000;
const ISSUER: &str = "https://login.hospital.example";
/// The example of OpenID Connect Core 1.0, appendix A.3, has this access token beside this `at_hash`.
const ACCESS_TOKEN: &str = "jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y";
const AT_HASH: &str = "77QmUPtjPfzWtF2AnpK9RQ";
const ASKED: Asked<'static> = Asked {
    issuer: ISSUER,
    client_id: "cairn",
    nonce: "n-1",
    access_token: ACCESS_TOKEN,
};

enum Pair {
    Rsa(Box<RsaKeyPair>),
    Curve(EcdsaKeyPair),
    Edwards(Ed25519KeyPair),
}

/// An issuer's key. It signs with AWS-LC itself, so that what checks signatures is not what made them.
struct Issuer(Pair, &'static str);

impl Issuer {
    fn rsa(id: &'static str) -> Self {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        Self(Pair::Rsa(Box::new(pair)), id)
    }
    fn curve(id: &'static str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self(Pair::Curve(pair), id)
    }
    fn edwards(id: &'static str) -> Self {
        Self(Pair::Edwards(Ed25519KeyPair::generate().unwrap()), id)
    }
    fn jwk(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match &self.0 {
            Pair::Rsa(pair) => {
                let key = pair.public_key();
                let n = text(key.modulus().big_endian_without_leading_zero());
                json!({"kty": "RSA", "kid": self.1, "use": "sig", "n": n, "e": "AQAB"})
            }
            Pair::Curve(pair) => {
                let point = pair.public_key().as_ref();
                let (x, y) = (text(&point[1..33]), text(&point[33..65]));
                json!({"kty": "EC", "kid": self.1, "crv": "P-256", "x": x, "y": y})
            }
            Pair::Edwards(pair) => {
                let x = text(pair.public_key().as_ref());
                json!({"kty": "OKP", "kid": self.1, "crv": "Ed25519", "x": x})
            }
        }
    }
    fn header(&self, algorithm: &str) -> Value {
        json!({"alg": algorithm, "kid": self.1})
    }
    fn sign(&self, header: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", encoded(header), encoded(claims));
        let random = SystemRandom::new();
        let signature = match &self.0 {
            Pair::Rsa(pair) => {
                let of = match header["alg"].as_str() {
                    Some("PS256") => &RSA_PSS_SHA256,
                    _ => &RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(of, &random, signed.as_bytes(), &mut signature)
                    .unwrap();
                signature
            }
            Pair::Curve(pair) => {
                let signature = pair.sign(&random, signed.as_bytes()).unwrap();
                signature.as_ref().to_vec()
            }
            Pair::Edwards(pair) => pair.sign(signed.as_bytes()).as_ref().to_vec(),
        };
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn encoded(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn keys(all: &[&Issuer]) -> IssuerKeys {
    let all: Vec<_> = all.iter().map(|issuer| issuer.jwk()).collect();
    IssuerKeys::parse(&json!({"keys": all}).to_string()).unwrap()
}

fn claims() -> Value {
    json!({"iss": ISSUER, "aud": "cairn", "sub": "248", "sid": "s-1", "nonce": "n-1", "iat": NOW_S, "exp": NOW_S + 300})
}

fn logout() -> Value {
    json!({
        "iss": ISSUER, "aud": "cairn", "sub": "248", "sid": "s-1", "jti": "j-1", "iat": NOW_S, "exp": NOW_S + 120,
        "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
    })
}

/// With one claim set, or (null) taken away.
fn with(mut claims: Value, name: &str, value: Value) -> Value {
    let all = claims.as_object_mut().unwrap();
    match value {
        Value::Null => drop(all.shift_remove(name)),
        value => drop(all.insert(name.to_owned(), value)),
    }
    claims
}

/// The words of a refusal; empty where the token holds.
fn words<T>(outcome: Result<T, TokenFault>) -> String {
    outcome
        .err()
        .map(|fault| fault.to_string())
        .unwrap_or_default()
}

fn asked(token: &str, keys: &IssuerKeys) -> String {
    words(check_id_token(token, keys, ASKED, NOW_MS))
}

#[test]
fn tokens_of_each_kind_of_key_hold() {
    let (rsa, curve, edwards) = (Issuer::rsa("r"), Issuer::curve("c"), Issuer::edwards("e"));
    let keys = keys(&[&rsa, &curve, &edwards]);
    let table = [
        (&rsa, "RS256"),
        (&rsa, "PS256"),
        (&curve, "ES256"),
        (&edwards, "EdDSA"),
    ];
    for (issuer, algorithm) in table {
        let token = issuer.sign(&issuer.header(algorithm), &claims());
        let found = check_id_token(&token, &keys, ASKED, NOW_MS).ok().unwrap();
        assert_eq!(found.subject, "248", "{algorithm}");
        assert_eq!(found.session.as_deref(), Some("s-1"), "{algorithm}");
        // Without a key id the only key that fits is meant.
        let bare = json!({"alg": algorithm});
        assert_eq!(asked(&issuer.sign(&bare, &claims()), &keys), "");
    }
}

#[test]
fn claims_that_are_wrong_are_refused() {
    let issuer = Issuer::curve("c");
    let keys = keys(&[&issuer]);
    let table = [
        ("aud", json!(["cairn"]), ""),
        ("azp", json!("cairn"), ""),
        ("at_hash", json!(AT_HASH), ""),
        ("sid", Value::Null, ""),
        ("sub", json!("x".repeat(255)), ""),
        ("nbf", json!(NOW_S + 60), ""),
        ("exp", json!(NOW_S - 59), ""),
        ("iat", json!(NOW_S - 659), ""),
        ("iss", json!("https://login.other.example"), "iss"),
        ("iss", json!(format!("{ISSUER}/")), "iss"),
        ("iss", Value::Null, "iss"),
        ("aud", json!("other"), "aud"),
        ("aud", json!(["cairn", "other"]), "aud"),
        ("aud", json!([]), "aud"),
        ("aud", Value::Null, "aud"),
        ("azp", json!("other"), "azp"),
        ("azp", json!(7), "azp"),
        ("nonce", json!("n-2"), "nonce"),
        ("nonce", json!(""), "nonce"),
        ("nonce", Value::Null, "nonce"),
        ("exp", json!(NOW_S - 60), "expired"),
        ("exp", Value::Null, "exp"),
        ("exp", json!("soon"), "seconds"),
        ("exp", json!(1e300), "seconds"),
        ("iat", json!(NOW_S + 61), "future"),
        ("iat", json!(NOW_S - 660), "too long ago"),
        ("iat", Value::Null, "iat"),
        ("nbf", json!(NOW_S + 61), "future"),
        ("at_hash", json!("AAAAAAAAAAAAAAAAAAAAAA"), "at_hash"),
        ("at_hash", json!(7), "at_hash"),
        ("sub", Value::Null, "sub"),
        ("sub", json!(""), "sub"),
        ("sub", json!(248), "sub"),
        ("sub", json!("x".repeat(256)), "sub"),
        ("sid", json!(["s-1"]), "sid"),
    ];
    for (name, value, expected) in table {
        let claims = with(claims(), name, value);
        let found = asked(&issuer.sign(&issuer.header("ES256"), &claims), &keys);
        let is_right = found.contains(expected) && found.is_empty() == expected.is_empty();
        assert!(is_right, "{claims}: {found}");
    }
    // A sign-in without a nonce is none, whatever the token says.
    let token = issuer.sign(&issuer.header("ES256"), &with(claims(), "nonce", json!("")));
    let none = Asked { nonce: "", ..ASKED };
    assert!(words(check_id_token(&token, &keys, none, NOW_MS)).contains("nonce"));
}

#[test]
fn signatures_that_are_no_signatures_are_refused() {
    let (rsa, curve) = (Issuer::rsa("r"), Issuer::curve("c"));
    let (other, new) = (Issuer::rsa("r"), Issuer::rsa("new"));
    let keys = keys(&[&rsa, &curve]);
    let fine = rsa.sign(&rsa.header("RS256"), &claims());
    assert_eq!(asked(&fine, &keys), "");
    let (signed, signature) = fine.rsplit_once('.').unwrap();
    let (head, _) = signed.split_once('.').unwrap();
    let swapped = encoded(&with(claims(), "sub", json!("1")));
    let mut bent = URL_SAFE_NO_PAD.decode(signature).unwrap();
    bent[0] ^= 1;
    let bent = URL_SAFE_NO_PAD.encode(bent);
    // The public key as the secret of a MAC: what takes the header's word for it is taken in.
    let by_mac = |algorithm: &str| {
        let signed = format!("{}.{}", encoded(&rsa.header(algorithm)), encoded(&claims()));
        let key = rsa.jwk()["n"].as_str().unwrap().to_owned();
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
        let tag = hmac::sign(&key, signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
    };
    let unsigned =
        |name: &str| format!("{}.{}.", encoded(&json!({"alg": name})), encoded(&claims()));
    let headed =
        |name: &str, value: Value| rsa.sign(&with(rsa.header("RS256"), name, value), &claims());
    let own = other.jwk();
    let table = [
        (unsigned("none"), "algorithm"),
        (unsigned("None"), "algorithm"),
        (by_mac("HS256"), "algorithm"),
        (by_mac("RS256"), "signature"),
        (headed("alg", json!(["RS256"])), "algorithm"),
        (headed("alg", Value::Null), "algorithm"),
        (format!("{signed}.{bent}"), "signature"),
        (format!("{signed}."), "signature"),
        (format!("{head}.{swapped}.{signature}"), "signature"),
        // Somebody else's key under the issuer's id, also when the header brings it along.
        (other.sign(&rsa.header("RS256"), &claims()), "signature"),
        (
            other.sign(&with(rsa.header("RS256"), "jwk", own), &claims()),
            "signature",
        ),
        // The key of one algorithm for another, and one that is not published yet.
        (
            rsa.sign(&json!({"alg": "ES256", "kid": "r"}), &claims()),
            "not among",
        ),
        (new.sign(&new.header("RS256"), &claims()), "not among"),
        (headed("kid", json!(["r"])), "key id"),
        (headed("crit", json!(["exp"])), "extension"),
        (headed("typ", json!("at+jwt")), "type"),
        (headed("typ", json!("logout+jwt")), "type"),
        (headed("typ", json!("JWT")), ""),
        (String::new(), "JWT"),
        ("a.b.c".to_owned(), "JWT"),
        (format!("{fine}.x"), "signature"),
        ("x".repeat((64 << 10) + 1), "too long"),
    ];
    for (token, expected) in table {
        let found = asked(&token, &keys);
        let is_right = found.contains(expected) && found.is_empty() == expected.is_empty();
        assert!(is_right, "{expected}: {found}");
    }
    // A key that isn't there may be newer than the set; only then is it worth asking again.
    let token = new.sign(&new.header("RS256"), &claims());
    let found = check_id_token(&token, &keys, ASKED, NOW_MS).err();
    assert_eq!(found, Some(TokenFault::UnknownKey));
}

#[test]
fn a_token_that_two_keys_may_have_signed_names_its_key() {
    let (old, new) = (Issuer::rsa("old"), Issuer::rsa("new"));
    let keys = keys(&[&old, &new]);
    assert_eq!(asked(&new.sign(&new.header("RS256"), &claims()), &keys), "");
    let bare = new.sign(&json!({"alg": "RS256"}), &claims());
    assert!(asked(&bare, &keys).contains("more than one"));
}

#[test]
fn logout_tokens_hold_and_don_t() {
    let issuer = Issuer::curve("c");
    let keys = keys(&[&issuer]);
    let check = |token: &str| check_logout_token(token, &keys, ISSUER, "cairn", NOW_MS);
    let header = with(issuer.header("ES256"), "typ", json!("logout+jwt"));
    let found = check(&issuer.sign(&header, &logout())).ok().unwrap();
    assert_eq!(found.id, "j-1");
    assert_eq!(found.subject.as_deref(), Some("248"));
    assert_eq!(found.session.as_deref(), Some("s-1"));
    // Remembered for as long as it can be shown.
    let shown_at = |now_ms| {
        let token = issuer.sign(&header, &logout());
        words(check_logout_token(&token, &keys, ISSUER, "cairn", now_ms))
    };
    assert_eq!(shown_at((NOW_S + 179) * 1000), "");
    assert!(shown_at((NOW_S + 180) * 1000).contains("expired"));
    assert!(found.ends_ms > (NOW_S + 180) * 1000);
    let event = "http://schemas.openid.net/event/backchannel-logout";
    let table = [
        ("sub", Value::Null, ""),
        ("sid", Value::Null, ""),
        ("nonce", json!("n-1"), "nonce"),
        ("events", Value::Null, "events"),
        ("events", json!({}), "events"),
        ("events", json!([event]), "events"),
        ("events", json!({event: true}), "events"),
        ("jti", Value::Null, "jti"),
        ("jti", json!(""), "jti"),
        ("iss", json!("https://login.other.example"), "iss"),
        ("aud", json!("other"), "aud"),
        ("exp", Value::Null, "exp"),
        ("exp", json!(NOW_S + 3661), "hour"),
        ("iat", json!(NOW_S - 660), "too long ago"),
    ];
    for (name, value, expected) in table {
        let claims = with(logout(), name, value);
        let found = words(check(&issuer.sign(&header, &claims)));
        let is_right = found.contains(expected) && found.is_empty() == expected.is_empty();
        assert!(is_right, "{claims}: {found}");
    }
    let nobody = with(with(logout(), "sub", Value::Null), "sid", Value::Null);
    assert!(words(check(&issuer.sign(&header, &nobody))).contains("neither"));
    // Neither can be passed off as the other.
    let of_sign_in = issuer.sign(&issuer.header("ES256"), &claims());
    assert!(words(check(&of_sign_in)).contains("events"));
    let of_logout = issuer.sign(&issuer.header("ES256"), &logout());
    assert!(asked(&of_logout, &keys).contains("nonce"));
}

#[test]
fn what_a_token_says_of_the_sign_in_and_the_person() {
    let issuer = Issuer::curve("c");
    let keys = keys(&[&issuer]);
    let found = |more: &Value| {
        let mut claims = claims();
        for (name, value) in more.as_object().unwrap() {
            claims = with(claims, name, value.clone());
        }
        let token = issuer.sign(&issuer.header("ES256"), &claims);
        check_id_token(&token, &keys, ASKED, NOW_MS).ok().unwrap()
    };
    let list = |all: &[&str]| all.iter().map(|&one| one.to_owned()).collect::<Vec<_>>();
    let strong = found(&json!({"acr": "gold", "amr": ["pwd", "otp"]}));
    for (acr, amr, expected) in [
        (&[][..], &[][..], true),
        (&["gold"], &[], true),
        (&["silver", "gold"], &["hwk", "otp"], true),
        (&["silver"], &["otp"], false),
        (&["gold"], &["hwk"], false),
    ] {
        let is_met = strong.satisfies(&list(acr), &list(amr));
        assert_eq!(is_met, expected, "{acr:?} {amr:?}");
    }
    // What isn't said isn't so.
    let silent = found(&json!({}));
    assert!(!silent.satisfies(&list(&["gold"]), &[]));
    assert!(!silent.satisfies(&[], &list(&["otp"])));
    let named = found(&json!({"preferred_username": "carla", "email": "carla@hospital.example"}));
    assert_eq!(named.verified("preferred_username"), Some("carla"));
    assert_eq!(named.verified("email"), None);
    for (verified, expected) in [
        (json!(true), Some("carla@hospital.example")),
        (json!(false), None),
        (json!("true"), None),
    ] {
        let more = json!({"email": "carla@hospital.example", "email_verified": verified});
        assert_eq!(found(&more).verified("email"), expected, "{more}");
    }
}

#[test]
fn key_sets_that_are_taken_and_not() {
    let rsa = |bytes: usize| {
        let n = URL_SAFE_NO_PAD.encode(vec![0xff; bytes]);
        json!({"kty": "RSA", "kid": "a", "n": n, "e": "AQAB"})
    };
    let key = |name: &str, value: Value| with(rsa(256), name, value);
    let strange = json!({"kty": "new", "kid": "b"});
    let table = [
        (json!({"keys": [rsa(256)]}), ""),
        (
            json!({"keys": [strange, key("use", json!("enc")), rsa(256)]}),
            "",
        ),
        (json!({"keys": []}), "no key"),
        (json!({"keys": [strange]}), "no key"),
        (json!({"keys": [rsa(128)]}), "no key"),
        (json!({"keys": [rsa(1025)]}), "no key"),
        (json!({"keys": [key("use", json!("enc"))]}), "no key"),
        (json!({"keys": [key("key_ops", json!(["sign"]))]}), "no key"),
        (
            json!({"keys": [rsa(256), key("d", json!("AQAB"))]}),
            "private",
        ),
        (
            json!({"keys": [{"kty": "oct", "k": "AAAA"}, rsa(256)]}),
            "private",
        ),
        (json!({"keys": vec![strange.clone(); 101]}), "100"),
        (json!([]), "has no keys"),
        (json!({"keys": {}}), "has no keys"),
    ];
    for (set, expected) in table {
        let found = IssuerKeys::parse(&set.to_string()).err();
        let found = found.map(|error| error.to_string()).unwrap_or_default();
        let is_right = found.contains(expected) && found.is_empty() == expected.is_empty();
        assert!(is_right, "{set}: {found}");
    }
    assert!(IssuerKeys::parse(&" ".repeat(KEYS_BYTES_MAX + 1)).is_err());
    assert!(IssuerKeys::parse("no JSON").is_err());
}
