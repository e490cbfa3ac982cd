//! What must not work: answers of others, answers to others, and tokens that are not what they say.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ledger::ManualClock;
use serde_json::{Value, json};

use super::issuer::{Answer, Issuer};
use super::*;
use crate::house::{NOON_MS, house_with};
use crate::signer::Signer;

const SUBJECT: &str = "employee-7";

/// A house with a provider, and somebody who is linked.
struct Scene {
    house: House,
    issuer: Issuer,
    key: Value,
    dora: Person,
}

impl Scene {
    async fn new() -> Self {
        let clock = ManualClock::new(NOON_MS);
        let issuer = Issuer::start(&clock).await;
        let key = client_key();
        let public = key.public_set();
        let (url, wall) = (issuer.url.clone(), clock.clone());
        let house = house_with(|options| {
            options.wall_clock = std::sync::Arc::new(wall);
            options.providers = vec![provider("hospital", &url, ClientAuthentication::Key(key))];
        })
        .await;
        let dora = Person::linked(&house.server, "dora", &issuer.url, SUBJECT).await;
        Self {
            house,
            issuer,
            key: public,
            dora,
        }
    }
    /// The way back that the provider would send somebody.
    fn back(&self, there: &str) -> String {
        let state = told(there, "state");
        self.back_with(&[
            ("code", "c-1"),
            ("state", &state),
            ("iss", &self.issuer.url),
        ])
    }
    fn back_with(&self, pairs: &[(&str, &str)]) -> String {
        let mut text = form_urlencoded::Serializer::new(String::new());
        let query = text.extend_pairs(pairs).finish();
        self.house
            .url(&format!("/sign-in/with/hospital/back?{query}"))
    }
    /// Signs somebody in, with whatever `change` makes of the claims.
    async fn arrive(&self, visitor: &mut Visitor, change: impl FnOnce(&mut Value)) -> Page {
        let there = visitor.leave(&self.house, "").await;
        let mut claims = self.issuer.claims(&there, SUBJECT);
        change(&mut claims);
        self.issuer.give(&self.issuer.sign(&claims));
        visitor.led(&self.back(&there)).await
    }
    /// Nobody is signed in, and the page says why.
    async fn is_out(&self, visitor: &mut Visitor, page: &Page, words: &str) {
        page.shows(words);
        assert!(!page.opens_a_session(), "{words}");
        assert!(!visitor.is_in(&self.house).await, "{words}");
    }
    async fn logout(&self, fields: &[(&str, &str)]) -> Page {
        let address = self.house.url("/sign-in/with/hospital/logout");
        let mut provider = Visitor::new();
        provider
            .send(Method::POST, &address, Some(fields), "none")
            .await
    }
}

fn s256(text: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    URL_SAFE_NO_PAD.encode(digest)
}

#[tokio::test]
async fn what_is_asked_and_sent() {
    let scene = Scene::new().await;
    let (house, issuer) = (&scene.house, &scene.issuer);
    let mut visitor = Visitor::new();
    let begin = house.url("/sign-in/with/hospital?next=%2Fconsole%2Fapps%3Fx%3D1");
    let page = visitor.get(&begin).await;
    let kept = page.cookies.iter().find(|cookie| cookie.starts_with(AWAY));
    let kept = kept.expect("what to come back with");
    for part in ["HttpOnly", "SameSite=Lax", "Max-Age=600", "Path=/"] {
        assert!(kept.contains(part), "{part}: {kept}");
    }
    assert!(kept.len() < 4000, "{}", kept.len());
    let there = page.leads();
    assert!(
        there.starts_with(&format!("{}/authorize?tenant=1&", issuer.url)),
        "{there}"
    );
    let redirect_uri = house.url("/sign-in/with/hospital/back");
    for (name, value) in [
        ("response_type", "code"),
        ("client_id", "cairn"),
        ("redirect_uri", &redirect_uri),
        ("scope", "openid profile"),
        ("code_challenge_method", "S256"),
    ] {
        assert_eq!(told(there, name), value);
    }
    issuer.give(&issuer.sign(&issuer.claims(there, SUBJECT)));
    let page = visitor.led(&scene.back(there)).await;
    assert_eq!(page.leads(), house.url("/console/apps?x=1"));
    assert!(visitor.is_in(house).await);
    assert_eq!(visitor.cookie(house, AWAY), None);

    let (form, proof) = issuer.said().token_requests[0].clone();
    assert_eq!(proof, "");
    assert_eq!(form["grant_type"], "authorization_code");
    assert_eq!(form["code"], "c-1");
    assert_eq!(form["redirect_uri"], redirect_uri);
    assert_eq!(s256(&form["code_verifier"]), told(there, "code_challenge"));
    assert_eq!(form["code_verifier"].len(), 43);
    let part = |at: usize| -> Value {
        let text = form["client_assertion"].split('.').nth(at).expect("a part");
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).expect("base64")).expect("JSON")
    };
    assert_eq!(part(0)["kid"], scene.key["keys"][0]["kid"]);
    assert_eq!(part(1)["aud"], format!("{}/token", issuer.url));
    assert_eq!(part(1)["iss"], "cairn");
    let keys = visitor.get(&house.url("/sign-in/with/hospital/keys")).await;
    let keys: Value = serde_json::from_str(&keys.body).expect("JSON");
    assert_eq!(keys, scene.key);
    assert_eq!(keys["keys"][0].get("d"), None);
    let nobody = visitor.get(&house.url("/sign-in/with/other")).await;
    assert_eq!(nobody.status, StatusCode::NOT_FOUND);
    scene.house.end().await;
}

#[tokio::test]
async fn a_secret_is_sent_as_the_provider_takes_it() {
    let clock = ManualClock::new(NOON_MS);
    for (methods, in_body) in [
        (Value::Null, false),
        (json!(["client_secret_post", "client_secret_basic"]), false),
        (json!(["client_secret_post"]), true),
    ] {
        let issuer = Issuer::start(&clock).await;
        issuer.describe("token_endpoint_auth_methods_supported", methods);
        let (url, wall) = (issuer.url.clone(), clock.clone());
        let secret = ClientAuthentication::Secret("a:b c".to_owned());
        let house = house_with(|options| {
            options.wall_clock = std::sync::Arc::new(wall);
            options.providers = vec![provider("hospital", &url, secret)];
        })
        .await;
        let mut visitor = Visitor::new();
        let there = visitor.leave(&house, "").await;
        let (state, iss) = (told(&there, "state"), &issuer.url);
        let back = format!("/sign-in/with/hospital/back?code=c&state={state}&iss={iss}");
        visitor.led(&house.url(&back)).await;
        let (form, proof) = issuer.said().token_requests[0].clone();
        if in_body {
            assert_eq!(
                (proof.as_str(), form["client_secret"].as_str()),
                ("", "a:b c")
            );
        } else {
            assert_eq!(proof, format!("Basic {}", STANDARD.encode("cairn:a%3Ab+c")));
            assert!(!form.contains_key("client_secret"));
        }
        house.end().await;
    }
}

#[tokio::test]
async fn tokens_that_are_not_what_they_say_let_nobody_in() {
    let scene = Scene::new().await;
    let (house, issuer) = (&scene.house, &scene.issuer);
    let now_s = issuer.now_s();
    let mut visitor = Visitor::new();
    let wrong: [(&str, Value, &str); 11] = [
        ("iss", json!("http://127.0.0.1:1"), "of another issuer"),
        ("aud", json!("other"), "for somebody else"),
        ("aud", json!(["cairn", "other"]), "for somebody else"),
        ("azp", json!("other"), "by somebody else"),
        ("nonce", json!("another"), "another sign-in"),
        ("nonce", Value::Null, "another sign-in"),
        ("exp", json!(now_s - 61), "has expired"),
        ("iat", json!(now_s - 661), "too long ago"),
        ("nbf", json!(now_s + 61), "from the future"),
        ("at_hash", json!("AAAAAAAAAAAAAAAAAAAAAA"), "at_hash"),
        ("sub", json!(""), "empty or too long"),
    ];
    for (name, value, words) in wrong {
        let page = scene
            .arrive(&mut visitor, |claims| claims[name] = value)
            .await;
        scene.is_out(&mut visitor, &page, words).await;
    }

    // Signed otherwise than by the issuer's key.
    let stranger = Signer::curve("key-1");
    let unknown = Signer::curve("key-2");
    let encoded = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    type Forge<'a> = Box<dyn Fn(&Value) -> String + 'a>;
    let forged: Vec<(&str, Forge<'_>)> = vec![
        (
            "not signed by an algorithm",
            Box::new(|claims| format!("{}.{}.", encoded(&json!({"alg": "none"})), encoded(claims))),
        ),
        (
            "not signed by an algorithm",
            Box::new(|claims| {
                // The public key, taken for the secret of a MAC.
                let header = json!({"alg": "HS256", "kid": "key-1"});
                let signed = format!("{}.{}", encoded(&header), encoded(claims));
                let secret = issuer.signer.jwks();
                let key =
                    aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret.as_bytes());
                let tag = aws_lc_rs::hmac::sign(&key, signed.as_bytes());
                format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
            }),
        ),
        (
            "signature is wrong",
            Box::new(|claims| stranger.sign(&stranger.header(), claims)),
        ),
        (
            "signature is wrong",
            Box::new(|claims| {
                let mut header = stranger.header();
                header["jwk"] = stranger.jwk();
                header["jku"] = json!("http://127.0.0.1:9/keys");
                stranger.sign(&header, claims)
            }),
        ),
        (
            "not among the issuer",
            Box::new(|claims| unknown.sign(&unknown.header(), claims)),
        ),
        (
            "of another type",
            Box::new(|claims| {
                let mut header = issuer.signer.header();
                header["typ"] = json!("logout+jwt");
                issuer.signer.sign(&header, claims)
            }),
        ),
        ("no signed JWT", Box::new(|_| "token".to_owned())),
        (
            "another sign-in",
            Box::new(|_| issuer.sign(&issuer.logout("j-1"))),
        ),
    ];
    for (words, forge) in forged {
        let there = visitor.leave(house, "").await;
        issuer.give(&forge(&issuer.claims(&there, SUBJECT)));
        let page = visitor.led(&scene.back(&there)).await;
        scene.is_out(&mut visitor, &page, words).await;
    }
    // However often somebody shows a key that isn't there, the provider is asked for it once in a while.
    assert!(
        issuer.said().key_requests <= 2,
        "{}",
        issuer.said().key_requests
    );

    // And what is right lets in, so that all of this means something.
    let page = scene.arrive(&mut visitor, |_| {}).await;
    assert!(page.opens_a_session(), "{}", page.body);
    assert!(visitor.is_in(house).await);
    scene.house.end().await;
}

#[tokio::test]
async fn answers_that_no_provider_gives_let_nobody_in() {
    let scene = Scene::new().await;
    let issuer = &scene.issuer;
    let mut visitor = Visitor::new();
    let long = "x".repeat(100_000);
    let table = [
        (Answer::Json(json!({})), "holds no identity token"),
        (
            Answer::Json(json!({"access_token": "a", "token_type": "Bearer"})),
            "holds no identity token",
        ),
        (
            Answer::Json(json!({"access_token": "a", "token_type": "mac", "id_token": "i"})),
            "holds no identity token",
        ),
        (
            Answer::Text(
                StatusCode::BAD_REQUEST,
                "{\"error\":\"invalid_grant\"}".to_owned(),
            ),
            "it refused the code",
        ),
        (
            Answer::Text(
                StatusCode::UNAUTHORIZED,
                "{\"error\":\"invalid_client\"}".to_owned(),
            ),
            "does not take this server for its client",
        ),
        (
            Answer::Text(
                StatusCode::BAD_REQUEST,
                "<script>alert(1)</script>".to_owned(),
            ),
            "it refused the code",
        ),
        (
            Answer::Text(StatusCode::BAD_GATEWAY, String::new()),
            "can't be reached",
        ),
        (Answer::Text(StatusCode::OK, long), "can't be reached"),
        (
            Answer::Redirect(format!("{}/elsewhere", issuer.url)),
            "it refused the code",
        ),
        (Answer::Silence, "can't be reached"),
    ];
    for (answer, words) in table {
        let there = visitor.leave(&scene.house, "").await;
        issuer.said().token = answer;
        let page = visitor.led(&scene.back(&there)).await;
        assert!(!page.body.contains("<script>alert"), "{}", page.body);
        scene.is_out(&mut visitor, &page, words).await;
    }
    scene.house.end().await;
}

#[tokio::test]
async fn descriptions_that_lead_elsewhere_are_not_followed() {
    let clock = ManualClock::new(NOON_MS);
    let table = [
        ("issuer", json!("http://127.0.0.1:1"), "of another issuer"),
        (
            "token_endpoint",
            json!("http://10.0.0.1/token"),
            "token_endpoint",
        ),
        ("jwks_uri", json!("file:///etc/passwd"), "jwks_uri"),
        ("jwks_uri", Value::Null, "jwks_uri"),
        (
            "authorization_endpoint",
            json!("javascript:alert(1)"),
            "authorization_endpoint",
        ),
        (
            "authorization_endpoint",
            json!("http://user:pass@127.0.0.1/x"),
            "authorization_endpoint",
        ),
    ];
    let described = table.map(|(name, value, words)| (Some((name, value)), None, words));
    let elsewhere = Answer::Redirect("http://127.0.0.1:9/".to_owned());
    let others = [
        (elsewhere, "can't be reached"),
        (Answer::Silence, "can't be reached"),
        (
            Answer::Text(StatusCode::OK, "no JSON".to_owned()),
            "no JSON object",
        ),
        (
            Answer::Text(StatusCode::OK, " ".repeat(100_000)),
            "can't be reached",
        ),
        (
            Answer::Text(StatusCode::NOT_FOUND, String::new()),
            "can't be reached",
        ),
    ];
    let others = others.map(|(answer, words)| (None, Some(answer), words));
    for (part, answer, words) in described.into_iter().chain(others) {
        let issuer = Issuer::start(&clock).await;
        if let Some((name, value)) = part {
            issuer.describe(name, value);
        }
        if let Some(answer) = answer {
            issuer.said().description = answer;
        }
        let (url, key) = (issuer.url.clone(), client_key());
        let house = house_with(|options| {
            options.providers = vec![provider("hospital", &url, ClientAuthentication::Key(key))];
        })
        .await;
        let mut visitor = Visitor::new();
        let page = visitor.get(&house.url("/sign-in/with/hospital")).await;
        assert_eq!(page.location, None, "{words}");
        page.shows(words);
        page.shows("name=\"password\"");
        // Signing out doesn't depend on the provider.
        let left = visitor.get(&house.url("/sign-in/with/hospital/left")).await;
        left.shows("You are signed out here");
        house.end().await;
    }
}

#[tokio::test]
async fn an_answer_goes_to_the_browser_that_asked() {
    let scene = Scene::new().await;
    let (house, issuer) = (&scene.house, &scene.issuer);
    // An attacker begins, signs in at the provider as themselves, and gives the victim the way back.
    let (mut attacker, mut victim) = (Visitor::new(), Visitor::new());
    let there = attacker.leave(house, "").await;
    issuer.give(&issuer.sign(&issuer.claims(&there, SUBJECT)));
    let back = scene.back(&there);
    let page = victim.led(&back).await;
    let words = "did not begin in this browser";
    scene.is_out(&mut victim, &page, words).await;
    // The same while the victim has a sign-in of their own under way, which goes on.
    let own = victim.leave(house, "").await;
    let page = victim.led(&back).await;
    scene.is_out(&mut victim, &page, words).await;
    assert!(issuer.said().token_requests.is_empty(), "a code was used");
    // What the attacker's browser kept is no use without the state that goes with it.
    let away = attacker.cookie(house, AWAY).expect("a cookie").to_owned();
    let mut other = Visitor::new();
    other.set_cookie(house, AWAY, &away);
    let page = other.led(&scene.back(&own)).await;
    scene.is_out(&mut other, &page, words).await;
    issuer.give(&issuer.sign(&issuer.claims(&own, SUBJECT)));
    let page = victim.led(&scene.back(&own)).await;
    assert!(page.opens_a_session(), "{}", page.body);
    // It worked once.
    let page = victim.led(&scene.back(&own)).await;
    page.shows(words);
    assert_eq!(issuer.said().token_requests.len(), 1);

    // Another site can't begin a sign-in.
    let page = victim
        .led(&house.url("/sign-in/with/hospital?next=%2Fconsole%2Fapps"))
        .await;
    assert_eq!(page.leads(), house.url("/sign-in?next=%2Fconsole%2Fapps"));
    assert!(page.cookies.is_empty());
    // What takes too long has ended.
    let mut slow = Visitor::new();
    let there = slow.leave(house, "").await;
    issuer.clock.advance(600_000);
    let page = slow.led(&scene.back(&there)).await;
    scene
        .is_out(&mut slow, &page, "longer than ten minutes")
        .await;
    scene.house.end().await;
}

#[tokio::test]
async fn answers_in_the_name_of_others_are_told_apart() {
    let scene = Scene::new().await;
    let (house, issuer) = (&scene.house, &scene.issuer);
    let mut visitor = Visitor::new();
    let state = |there: &str| told(there, "state");
    let there = visitor.leave(house, "").await;
    let state_1 = state(&there);
    let page = visitor
        .led(&scene.back_with(&[
            ("code", "c"),
            ("state", &state_1),
            ("iss", "http://127.0.0.1:1"),
        ]))
        .await;
    scene
        .is_out(&mut visitor, &page, "of another issuer (iss)")
        .await;
    // The provider says that it always names itself.
    let there = visitor.leave(house, "").await;
    let page = visitor
        .led(&scene.back_with(&[("code", "c"), ("state", &state(&there))]))
        .await;
    scene
        .is_out(&mut visitor, &page, "does not say whom it is from (iss)")
        .await;
    assert!(issuer.said().token_requests.is_empty(), "a code was used");
    // Parts that come twice mean one thing to one reader and another to the next.
    let there = visitor.leave(house, "").await;
    let own = state(&there);
    let page = visitor
        .led(&scene.back_with(&[
            ("code", "c"),
            ("state", &own),
            ("state", "x"),
            ("iss", &issuer.url),
        ]))
        .await;
    assert_eq!(page.status, StatusCode::BAD_REQUEST);
    scene.is_out(&mut visitor, &page, "a part twice").await;
    // A "no" is shown by its code, and nothing else that stands in the address.
    for (error, words) in [
        ("access_denied", "You were not signed in at Hospital Login."),
        ("login_required", "did not sign you in (login_required)"),
        (
            "<b>evil</b>",
            "did not sign you in (the answer has no code)",
        ),
    ] {
        let there = visitor.leave(house, "").await;
        let pairs = [
            ("error", error),
            ("error_description", "call 555 0100"),
            ("state", &state(&there)),
            ("iss", &issuer.url),
        ];
        let page = visitor.led(&scene.back_with(&pairs)).await;
        assert!(
            !page.body.contains("555 0100") && !page.body.contains("evil"),
            "{}",
            page.body
        );
        scene.is_out(&mut visitor, &page, words).await;
    }
    scene.house.end().await;
}

#[tokio::test]
async fn nobody_is_led_elsewhere_or_keeps_a_planted_session() {
    let scene = Scene::new().await;
    let (house, issuer) = (&scene.house, &scene.issuer);
    for next in [
        "https%3A%2F%2Fevil.example",
        "%2F%2Fevil.example",
        "%2Fconsole%2F%2Fevil.example",
        "%2Fsign-out",
        "%2Fconsole%2F%5Cevil",
    ] {
        let mut visitor = Visitor::new();
        let there = visitor.leave(house, &format!("?next={next}")).await;
        issuer.give(&issuer.sign(&issuer.claims(&there, SUBJECT)));
        let page = visitor.led(&scene.back(&there)).await;
        assert_eq!(page.leads(), house.url("/console/worklist"), "{next}");
    }
    // A session cookie that somebody planted is not the one that is opened.
    let mut visitor = Visitor::new();
    let planted = "1.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    visitor.set_cookie(house, SESSION, planted);
    let page = scene.arrive(&mut visitor, |_| {}).await;
    assert!(page.opens_a_session());
    let opened = visitor
        .cookie(house, SESSION)
        .expect("a session")
        .to_owned();
    assert_ne!(opened, planted);
    // And of two sign-ins each has its own.
    let mut again = Visitor::new();
    again.set_cookie(house, SESSION, &opened);
    scene.arrive(&mut again, |_| {}).await;
    assert_ne!(again.cookie(house, SESSION), Some(opened.as_str()));
    // What is too long to come back to is said, not cut off.
    let long = format!(
        "/sign-in/with/hospital?next=%2Foauth%2Fauthorize%3F{}",
        "x".repeat(2000)
    );
    let page = Visitor::new().get(&house.url(&long)).await;
    assert_eq!(page.status, StatusCode::BAD_REQUEST);
    page.shows("too long an address to come back to");
    scene.house.end().await;
}

#[tokio::test]
async fn logout_tokens_that_are_not_the_provider_s_end_nothing() {
    let scene = Scene::new().await;
    let (house, issuer) = (&scene.house, &scene.issuer);
    let mut visitor = Visitor::new();
    scene.arrive(&mut visitor, |_| {}).await;
    assert!(visitor.is_in(house).await);
    let with = |name: &str, value: Value| {
        let mut claims = issuer.logout("j-1");
        claims["sub"] = json!(SUBJECT);
        claims[name] = value;
        claims
    };
    let stranger = Signer::curve("key-1");
    let there = visitor.leave(house, "").await;
    let identity = issuer.claims(&there, SUBJECT);
    let long = "x".repeat(70_000);
    let table = [
        (
            issuer.sign(&with("iss", json!("http://127.0.0.1:1"))),
            "another issuer",
        ),
        (issuer.sign(&with("aud", json!("other"))), "somebody else"),
        (
            issuer.sign(&with("exp", json!(issuer.now_s() - 61))),
            "expired",
        ),
        (
            issuer.sign(&with("exp", json!(issuer.now_s() + 9_000))),
            "more than an hour",
        ),
        (issuer.sign(&with("jti", Value::Null)), "jti"),
        (issuer.sign(&with("sub", Value::Null)), "is no text"),
        (issuer.sign(&with("events", json!({}))), "no logout"),
        (issuer.sign(&with("nonce", json!("n"))), "no nonce"),
        (
            stranger.sign(&stranger.header(), &with("sub", json!(SUBJECT))),
            "signature is wrong",
        ),
        (issuer.sign(&identity), "no logout"),
        (String::new(), "no logout_token"),
        ("x".to_owned(), "no signed JWT"),
        (long, "too long"),
    ];
    for (token, words) in table {
        let page = scene.logout(&[("logout_token", &token)]).await;
        assert_eq!(page.status, StatusCode::BAD_REQUEST, "{words}");
        let body: Value = serde_json::from_str(&page.body).expect("JSON");
        assert_eq!(body["error"], "invalid_request");
        let said = body["error_description"].as_str().expect("words");
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_eq!(scene.logout(&[]).await.status, StatusCode::BAD_REQUEST);
    assert!(visitor.is_in(house).await);

    // Twice in one form, then once: it ends the session, and what comes after it stays when it comes again.
    let token = issuer.sign(&with("sub", json!(SUBJECT)));
    let twice = [("logout_token", token.as_str()), ("logout_token", &token)];
    assert_eq!(scene.logout(&twice).await.status, StatusCode::BAD_REQUEST);
    assert!(visitor.is_in(house).await);
    assert_eq!(scene.logout(&twice[..1]).await.status, StatusCode::OK);
    assert!(!visitor.is_in(house).await);
    issuer.clock.advance(2_000);
    scene.arrive(&mut visitor, |_| {}).await;
    assert_eq!(scene.logout(&twice[..1]).await.status, StatusCode::OK);
    assert!(visitor.is_in(house).await);
    scene.house.end().await;
}

#[tokio::test]
async fn what_stands_for_two_factors_is_what_the_configuration_says() {
    let scene = Scene::new().await;
    let mut visitor = Visitor::new();
    for amr in [
        Value::Null,
        json!([]),
        json!(["pwd"]),
        json!("mfa"),
        json!(["MFA"]),
    ] {
        let page = scene
            .arrive(&mut visitor, |claims| claims["amr"] = amr.clone())
            .await;
        page.shows("Your one-time code");
        assert!(!page.opens_a_session(), "{amr}");
    }
    assert!(!visitor.is_in(&scene.house).await);
    // An account that is closed stays so, whatever the provider says.
    let identity = scene.house.server.trust().identity();
    let by = Agent::system(TENANT, "command-line");
    let id = identity
        .account_named(&by, "dora")
        .await
        .expect("asked")
        .expect("an account");
    let permit = administers(&scene.house.server).await;
    identity
        .set_active(&permit, &id, false)
        .await
        .expect("closed");
    let page = scene.arrive(&mut visitor, |_| {}).await;
    scene
        .is_out(&mut visitor, &page, "Your account here is closed.")
        .await;
    scene.house.end().await;
}

/// The provider remembers somebody in this browser; a session that nobody used any more has ended here. Whoever
/// sits down there next is not let in by one press.
// Proves: 45 CFR 164.312(a)(2)(iii)
#[tokio::test]
async fn what_a_provider_remembers_opens_no_session_that_ended_here() {
    let scene = Scene::new().await;
    let (house, issuer) = (&scene.house, &scene.issuer);
    let morning_s = issuer.now_s();
    let since = |at_s: u64| move |claims: &mut Value| claims["auth_time"] = json!(at_s);
    let mut visitor = Visitor::new();
    let page = scene.arrive(&mut visitor, since(morning_s)).await;
    assert!(page.opens_a_session());
    issuer.clock.advance(16 * 60_000);
    assert!(!visitor.is_in(house).await);
    // They are led there once more, to sign in anew.
    let again = async |visitor: &mut Visitor| {
        let page = scene.arrive(visitor, since(morning_s)).await;
        assert!(!page.opens_a_session());
        let there = page.leads().to_owned();
        assert_eq!(told(&there, "prompt"), "login");
        assert_eq!(told(&there, "max_age"), "0");
        there
    };
    // A provider that does not listen, and one that does not say when: only a factor shown here lets anybody in.
    for at_s in [json!(morning_s), Value::Null] {
        let there = again(&mut visitor).await;
        let mut claims = issuer.claims(&there, SUBJECT);
        claims["auth_time"] = at_s;
        if claims["auth_time"].is_null() {
            claims.as_object_mut().expect("claims").remove("auth_time");
        }
        issuer.give(&issuer.sign(&claims));
        let page = visitor.led(&scene.back(&there)).await;
        scene
            .is_out(&mut visitor, &page, "Your one-time code")
            .await;
        let wrong = visitor.code(house, &page, "000000").await;
        assert!(!wrong.opens_a_session() && !visitor.is_in(house).await);
        let code = scene.dora.code_at(issuer.now_s());
        let done = visitor.code(house, &page, &code).await;
        assert!(done.opens_a_session() && visitor.is_in(house).await);
        issuer.clock.advance(16 * 60_000);
        assert!(!visitor.is_in(house).await);
    }
    // Whoever does is let in; and what came back comes back once, with this code or another.
    let there = again(&mut visitor).await;
    let note = visitor.cookie(house, AWAY).expect("a note").to_owned();
    let mut claims = issuer.claims(&there, SUBJECT);
    since(issuer.now_s())(&mut claims);
    issuer.give(&issuer.sign(&claims));
    let page = visitor.led(&scene.back(&there)).await;
    assert!(page.opens_a_session(), "{}", page.body);
    let mut other = Visitor::new();
    other.set_cookie(house, AWAY, &note);
    let before = issuer.said().token_requests.len();
    let page = other.led(&scene.back(&there)).await;
    scene.is_out(&mut other, &page, "came back before").await;
    assert_eq!(
        issuer.said().token_requests.len(),
        before,
        "a code was used"
    );
    // And from our own pages somebody asks for it themselves.
    let there = visitor.leave(house, "?anew=yes").await;
    assert_eq!(told(&there, "prompt"), "login");
    let next = "?next=%2Foauth%2Fauthorize%3Fprompt%3Dlogin";
    let there = visitor.leave(house, next).await;
    assert_eq!(told(&there, "max_age"), "0");
    let there = visitor.leave(house, "").await;
    assert!(!there.contains("max_age"), "{there}");
    // Who has no factor of their own is not let in.
    let identity = house.server.trust().identity();
    let permit = administers(&house.server).await;
    let reset = identity.reset_second_factor(&permit, &scene.dora.id, "lost");
    reset.await.expect("no factor");
    let there = visitor.leave(house, "?anew=yes").await;
    let mut claims = issuer.claims(&there, SUBJECT);
    since(morning_s)(&mut claims);
    issuer.give(&issuer.sign(&claims));
    let page = visitor.led(&scene.back(&there)).await;
    scene
        .is_out(&mut visitor, &page, "You have to sign in anew")
        .await;
    scene.house.end().await;
}
