use aws_lc_rs::hmac;
use serde_json::json;

use super::super::signer::Signer;
use super::*;

const NOW_MS: u64 = 1_772_366_400_000;
const NOW_S: u64 = NOW_MS / 1000;
const TOKEN: &str = "https://cairn.example/oauth/token";

fn claims() -> Value {
    json!({"iss": "c", "sub": "c", "aud": TOKEN, "exp": NOW_S + 300, "iat": NOW_S, "jti": "one"})
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    match value {
        Value::Null => {
            claims.as_object_mut().unwrap().shift_remove(name);
        }
        value => claims[name] = value,
    }
    claims
}

#[test]
fn both_of_smart_s_algorithms_hold() {
    for signer in [Signer::rsa("k"), Signer::curve("k")] {
        let keys = Keys::parse(&signer.jwks()).unwrap();
        let proof = signer.sign(&signer.header(), &claims());
        assert_eq!(claimed(&proof).as_deref(), Some("c"));
        let proved = check(&proof, (&keys, None), "c", TOKEN, NOW_MS).unwrap();
        assert_eq!(proved.id, "one");
        assert!(proved.ends_ms > NOW_MS + 300_000);
        // At the very end of its life, and no later.
        let at = |now_s: u64| check(&proof, (&keys, None), "c", TOKEN, now_s * 1000);
        assert!(at(NOW_S + 359).is_ok());
        assert_eq!(at(NOW_S + 360), Err("the client_assertion has expired"));
        assert!(proved.ends_ms > (NOW_S + 360) * 1000);
    }
}

// Proves: 45 CFR 164.312(d)
#[test]
fn claims_that_are_wrong_are_refused() {
    let signer = Signer::curve("k");
    let keys = Keys::parse(&signer.jwks()).unwrap();
    let fine = [
        with("aud", json!(["x", TOKEN])),
        with("exp", json!(NOW_S + 1)),
        with("exp", json!(NOW_S as f64 + 0.5)),
        with("iat", Value::Null),
        with("jti", json!("x".repeat(255))),
        with("nbf", json!(NOW_S)),
    ];
    for claims in fine {
        let proof = signer.sign(&signer.header(), &claims);
        assert!(
            check(&proof, (&keys, None), "c", TOKEN, NOW_MS).is_ok(),
            "{claims}"
        );
    }
    let wrong = [
        (with("iss", json!("d")), "iss"),
        (with("sub", json!("d")), "sub"),
        (with("sub", Value::Null), "sub"),
        (
            with("aud", json!("https://other.example/oauth/token")),
            "aud",
        ),
        (with("aud", json!("https://cairn.example")), "aud"),
        (with("aud", json!([])), "aud"),
        (with("aud", Value::Null), "aud"),
        (with("exp", Value::Null), "exp"),
        (with("exp", json!(NOW_S - 60)), "expired"),
        (with("exp", json!(NOW_S + 361)), "five minutes"),
        (with("exp", json!(1e300)), "seconds"),
        (with("exp", json!("soon")), "seconds"),
        (with("exp", json!(-1)), "seconds"),
        (with("nbf", json!(NOW_S + 61)), "future"),
        (with("iat", json!(NOW_S + 61)), "future"),
        (with("jti", Value::Null), "jti"),
        (with("jti", json!("")), "jti"),
        (with("jti", json!(7)), "jti"),
        (with("jti", json!("x".repeat(256))), "jti"),
    ];
    for (claims, words) in wrong {
        let proof = signer.sign(&signer.header(), &claims);
        let error = check(&proof, (&keys, None), "c", TOKEN, NOW_MS).unwrap_err();
        assert!(error.contains(words), "{claims}: {error}");
    }
}

// Proves: 45 CFR 164.312(d)
#[test]
fn signatures_that_are_no_signatures_are_refused() {
    let (signer, other) = (Signer::rsa("k"), Signer::rsa("k"));
    let curve = Signer::curve("e");
    let set = json!({"keys": [signer.jwk(), curve.jwk()]}).to_string();
    let keys = Keys::parse(&set).unwrap();
    let header = |name: &str, value: Value| {
        let mut header = signer.header();
        header[name] = value;
        header
    };
    let text = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let parts = |header: &Value, signature: &[u8]| {
        let signature = URL_SAFE_NO_PAD.encode(signature);
        format!("{}.{}.{signature}", text(header), text(&claims()))
    };
    // The public key as the secret of a MAC: what takes the header's word for it is taken in.
    let by_mac = |algorithm: &str| {
        let head = header("alg", json!(algorithm));
        let signed = format!("{}.{}", text(&head), text(&claims()));
        let key = hmac::Key::new(
            hmac::HMAC_SHA384,
            signer.jwk()["n"].as_str().unwrap().as_bytes(),
        );
        parts(&head, hmac::sign(&key, signed.as_bytes()).as_ref())
    };
    let fine = signer.sign(&signer.header(), &claims());
    let (signed, signature) = fine.rsplit_once('.').unwrap();
    let mut bent = URL_SAFE_NO_PAD.decode(signature).unwrap();
    bent[0] ^= 1;
    let changed = text(&with("jti", json!("two")));
    let head = signed.split('.').next().unwrap();
    let table = [
        (parts(&header("alg", json!("none")), b""), "RS384 or ES384"),
        (parts(&header("alg", json!("None")), b""), "RS384 or ES384"),
        (by_mac("HS384"), "RS384 or ES384"),
        (by_mac("HS256"), "RS384 or ES384"),
        (by_mac("RS384"), "signature"),
        (
            signer.sign(&header("alg", json!("RS256")), &claims()),
            "RS384 or ES384",
        ),
        (
            signer.sign(&header("alg", json!(["RS384"])), &claims()),
            "RS384 or ES384",
        ),
        // The key of one algorithm for another.
        (
            signer.sign(&header("kid", json!("e")), &claims()),
            "kid and algorithm",
        ),
        (
            signer.sign(&header("alg", json!("ES384")), &claims()),
            "kid and algorithm",
        ),
        (
            signer.sign(&header("kid", json!("../k")), &claims()),
            "kid and algorithm",
        ),
        (signer.sign(&header("kid", Value::Null), &claims()), "kid"),
        (
            signer.sign(&header("crit", json!(["exp"])), &claims()),
            "extension",
        ),
        (
            signer.sign(&header("b64", json!(false)), &claims()),
            "extension",
        ),
        (
            signer.sign(&header("jku", json!("https://a.org/jwks")), &claims()),
            "jku",
        ),
        (
            signer.sign(&header("typ", json!("at+jwt")), &claims()),
            "type",
        ),
        // Another key under the same name, brought along in the header.
        (other.sign(&signer.header(), &claims()), "signature"),
        (
            other.sign(&header("jwk", other.jwk()), &claims()),
            "signature",
        ),
        (
            format!("{signed}.{}", URL_SAFE_NO_PAD.encode(&bent)),
            "signature",
        ),
        (format!("{signed}."), "signature"),
        (signed.to_owned(), "signature"),
        (format!("{head}.{changed}.{signature}"), "signature"),
        (format!("{fine}.{signature}"), "signature"),
        (String::new(), "no signed JWT"),
        ("a.b.c".to_owned(), "no signed JWT"),
        ("x".repeat(BYTES_MAX + 1), "no signed JWT"),
    ];
    for (proof, words) in table {
        let error = check(&proof, (&keys, None), "c", TOKEN, NOW_MS).unwrap_err();
        assert!(error.contains(words), "{proof}: {error}");
    }
    assert!(check(&fine, (&keys, None), "c", TOKEN, NOW_MS).is_ok());
    // Keys that are fetched: from the place that was registered.
    let place = Some("https://a.org/jwks");
    for (jku, fine) in [
        (json!("https://a.org/jwks"), true),
        (json!("https://b.org"), false),
    ] {
        let proof = signer.sign(&header("jku", jku), &claims());
        let checked = check(&proof, (&keys, place), "c", TOKEN, NOW_MS);
        assert_eq!(checked.is_ok(), fine);
    }
    assert!(check(&fine, (&keys, place), "c", TOKEN, NOW_MS).is_ok());
}
