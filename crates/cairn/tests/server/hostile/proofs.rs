//! Tokens and proofs that are bent: what a client's assertion says of its key, its algorithm and whom it is for;
//! tokens shown again, at the wrong door, or for more than they are.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ledger::{Clock as _, SystemClock};
use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::*;
use crate::apps::{self, Browser};
use crate::house::{assert_outcome, house};
use crate::signer::Signer;
use crate::smart::{ASSERTION_TYPE, System};

async fn shown(house: &House, assertion: &str) -> Response {
    let form = [
        ("grant_type", "client_credentials"),
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", assertion),
        ("scope", "system/*.rs"),
    ];
    apps::post(house, "/oauth/token", &form).await
}

fn claims(house: &House, system: &System, changes: &Value) -> Value {
    let now_s = SystemClock.now_ms() / 1000;
    let mut claims = json!({
        "iss": system.id, "sub": system.id, "aud": house.url("/oauth/token"),
        "exp": now_s + 240, "iat": now_s, "nbf": now_s, "jti": "one",
    });
    for (name, value) in changes.as_object().expect("an object") {
        claims[name] = value.clone();
    }
    claims
}

/// A header with changes; `null` takes a member away.
fn header(signer: &Signer, changes: &Value) -> Value {
    let mut header = signer.header();
    let members = header.as_object_mut().expect("an object");
    for (name, value) in changes.as_object().expect("an object") {
        match value {
            Value::Null => drop(members.remove(name)),
            value => drop(members.insert(name.clone(), value.clone())),
        }
    }
    header
}

fn text(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

#[tokio::test]
async fn a_bent_proof_opens_nothing_and_is_told_nothing_of_others() {
    let house = house().await;
    let system = System::new(&house, "system/*.rs").await;
    let (fine, stranger) = (&system.signer, Signer::curve("key-1"));
    let good = claims(&house, &system, &json!({}));
    let now_s = SystemClock.now_ms() / 1000;
    let mut bent = Vec::new();
    // Without a signature, whatever the letters of the algorithm.
    for name in ["none", "None", "NONE", "nOnE", "", "null"] {
        let head = text(&header(fine, &json!({"alg": name})));
        let (_, rest) = fine
            .sign(&fine.header(), &good)
            .split_once('.')
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .expect("parts");
        let (body, signature) = rest.split_once('.').expect("parts");
        bent.push(format!("{head}.{body}."));
        bent.push(format!("{head}.{body}.{signature}"));
    }
    // By a secret that everybody knows: the public key, in each form that somebody may have kept it in.
    for secret in [fine.jwk().to_string(), fine.jwks(), String::new()] {
        for name in ["HS256", "HS384", "HS512"] {
            let signed = format!(
                "{}.{}",
                text(&header(fine, &json!({"alg": name}))),
                text(&good)
            );
            let key = hmac::Key::new(hmac::HMAC_SHA384, secret.as_bytes());
            let tag = hmac::sign(&key, signed.as_bytes());
            bent.push(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag)));
        }
    }
    // By a key of a stranger, that the header brings along or says where it is.
    for changes in [
        json!({}),
        json!({"jwk": stranger.jwk()}),
        json!({"jku": house.url("/keys")}),
        json!({"x5u": "https://evil.example/cert"}),
        json!({"x5c": ["MIIB"]}),
        json!({"kid": "../../key-1"}),
        json!({"kid": "/dev/null"}),
        json!({"kid": "https://evil.example/jwks#key-1"}),
        json!({"kid": "key-1' OR '1'='1"}),
        json!({"kid": "key-1\u{0}"}),
        json!({"kid": "x".repeat(12_000)}),
        json!({"kid": ["key-1"]}),
        json!({"kid": {"$ne": ""}}),
        json!({"kid": null}),
    ] {
        bent.push(stranger.sign(&header(&stranger, &changes), &good));
    }
    // By the right key, of a proof that isn't one.
    for changes in [
        json!({"crit": ["exp"]}),
        json!({"crit": ["b64"], "b64": false}),
        json!({"typ": "at+jwt"}),
        json!({"alg": "ES256"}),
        json!({"alg": "RS384"}),
        json!({"kid": null}),
        json!({"kid": "key-2"}),
        json!({"jku": "https://evil.example/jwks"}),
    ] {
        bent.push(fine.sign(&header(fine, &changes), &good));
    }
    for changes in [
        json!({"iss": "somebody"}),
        json!({"sub": "somebody"}),
        json!({"iss": null}),
        json!({"aud": "https://evil.example/oauth/token"}),
        json!({"aud": house.url("")}),
        json!({"aud": house.url("/oauth/token/")}),
        json!({"aud": house.url("/fhir/r4")}),
        json!({"aud": []}),
        json!({"aud": null}),
        json!({"exp": now_s - 61}),
        json!({"exp": now_s + 3600}),
        json!({"exp": now_s.to_string()}),
        json!({"exp": -1}),
        json!({"exp": 1e300}),
        json!({"exp": null}),
        json!({"nbf": now_s + 3600}),
        json!({"iat": now_s + 3600}),
        json!({"jti": ""}),
        json!({"jti": 7}),
        json!({"jti": "x".repeat(300)}),
        json!({"jti": null}),
    ] {
        bent.push(fine.sign(&fine.header(), &claims(&house, &system, &changes)));
    }
    // In other clothes.
    let proof = fine.sign(&fine.header(), &good);
    bent.push(format!("{proof}=="));
    bent.push(format!("{proof}.{proof}"));
    bent.push(format!(" {proof}"));
    bent.push(proof.replace('.', ".."));
    bent.push(
        json!({"protected": text(&fine.header()), "payload": text(&good), "signature": "x"})
            .to_string(),
    );
    bent.push("x".repeat(900_000));
    for assertion in &bent {
        let answer = shown(&house, assertion).await;
        let short: String = assertion.chars().take(200).collect();
        assert_eq!(answer.status(), 401, "{short}");
        let told = answer.text().await.expect("text");
        assert!(
            told.contains("invalid_client") && !told.contains("evil"),
            "{told}"
        );
    }
    // The one that they were made from is good: once.
    assert_eq!(shown(&house, &proof).await.status(), 200);
    assert_eq!(shown(&house, &proof).await.status(), 401);
    // Of another client with another key of the same name, it proves the other one alone.
    let other = System::new(&house, "system/*.rs").await;
    let forged = fine.sign(
        &fine.header(),
        &claims(&house, &other, &json!({"jti": "two"})),
    );
    assert_eq!(shown(&house, &forged).await.status(), 401);
    house.end().await;
}

#[tokio::test]
async fn a_secret_of_one_sort_is_none_of_another() {
    let house = house().await;
    apps::furnished(&house).await;
    let client = apps::app(&house).await;
    let mut ann = Browser::patient(&house, "ann", "1950-02-03").await;
    let pairs = apps::request(&house, &client, "offline_access patient/*.rs", &[]);
    let code = apps::code(&mut ann, &pairs).await;
    let told = apps::tokens(apps::exchange(&house, &client, &code).await).await;
    let told = |name: &str| told[name].as_str().expect("a token").to_owned();
    let (access, refresh) = (told("access_token"), told("refresh_token"));
    let cookie = ann.cookies.iter().find(|(name, _)| name == "cairn");
    let cookie = cookie.expect("a session").1.clone();
    let system = System::new(&house, "system/*.rs").await;
    let of_system = system.token(&house, "1", "system/*.rs").await;

    // FHIR takes access tokens, in its header alone.
    let inner = refresh.strip_prefix("r.").expect("its form").to_owned();
    for secret in [
        &code,
        &refresh,
        &cookie,
        &inner,
        &inner[..inner.len() / 2].to_owned(),
        &access[..access.len() - 1].to_owned(),
        &format!("{access}x"),
        &format!("0{access}"),
        &access.to_uppercase(),
        &String::new(),
        &"x".repeat(20_000),
    ] {
        let answer = apps::get(&house, secret, "/fhir/r4/Patient/ann").await;
        assert_outcome(answer, 401, "login").await;
    }
    let inside = |name: &str| format!("/fhir/r4/Patient/ann?{name}={access}");
    for path in [
        inside("access_token"),
        inside("token"),
        inside("Authorization"),
    ] {
        let answer = house
            .bare(Method::GET, &path)
            .send()
            .await
            .expect("an answer");
        assert_outcome(answer, 401, "login").await;
    }
    for (name, value) in [
        ("cookie", format!("cairn={cookie}")),
        ("cookie", format!("cairn={access}; access_token={access}")),
        ("authorization", format!("Basic {access}")),
        ("authorization", access.clone()),
        ("authorization", format!("Bearer{access}")),
        ("x-access-token", access.clone()),
    ] {
        let asked = house.bare(Method::GET, "/fhir/r4/Patient/ann");
        let answer = asked.header(name, value).send().await.expect("an answer");
        assert_outcome(answer, 401, "login").await;
    }
    // Pages take the session's cookie alone.
    for secret in [&access, &refresh, &code, &of_system, &house.token] {
        for (name, value) in [
            ("cookie", format!("cairn={secret}")),
            ("cookie", format!("__Host-cairn={secret}")),
            ("authorization", format!("Bearer {secret}")),
        ] {
            let asked = Browser::new(&house)
                .http
                .get(house.url("/portal"))
                .header(name, value);
            let answer = asked.send().await.expect("an answer");
            assert_eq!(answer.status(), 303, "{name}");
        }
    }
    // The token endpoint takes each for what it is.
    for secret in [
        &access,
        &cookie,
        &code,
        &of_system,
        &inner,
        &String::from("r."),
    ] {
        let answer = apps::refresh(&house, &client, secret, &[]).await;
        assert_eq!(answer.status(), 400);
    }
    for secret in [&access, &refresh, &cookie, &inner] {
        let answer = apps::exchange(&house, &client, secret).await;
        assert_eq!(answer.status(), 400);
    }
    // A launch, a link to sign in, and a session's other secrets aren't tokens either; nor is one behind another.
    let both = house
        .bare(Method::GET, "/fhir/r4/Patient/ann")
        .header("authorization", "Bearer nonsense")
        .header("authorization", format!("Bearer {access}"));
    assert_eq!(both.send().await.expect("an answer").status(), 401);
    assert_eq!(
        apps::get(&house, &access, "/fhir/r4/Patient/ann")
            .await
            .status(),
        200
    );
    house.end().await;
}

#[tokio::test]
async fn an_app_s_token_opens_no_more_than_it_was_given() {
    let house = house().await;
    apps::furnished(&house).await;
    let client = apps::app(&house).await;
    let mut ann = Browser::patient(&house, "ann", "1950-02-03").await;
    let pairs = apps::request(
        &house,
        &client,
        "patient/Observation.rs patient/Patient.r",
        &[],
    );
    let code = apps::code(&mut ann, &pairs).await;
    let told = apps::tokens(apps::exchange(&house, &client, &code).await).await;
    let token = told["access_token"].as_str().expect("a token").to_owned();
    let body = |kind: &str, id: &str, patient: &str| {
        json!({"resourceType": kind, "id": id, "status": "final", "code": {"text": "x"},
            "subject": {"reference": format!("Patient/{patient}")}})
    };
    // Nothing is written, by any verb, in a batch, or under another verb's name.
    let batch = |method: &str, url: &str, resource: Value| {
        let mut entry = json!({"request": {"method": method, "url": url}});
        if !resource.is_null() {
            entry["resource"] = resource;
        }
        json!({"resourceType": "Bundle", "type": "batch", "entry": [entry]})
    };
    for (method, path, sent) in [
        (
            "PUT",
            "Observation/lab-ann",
            body("Observation", "lab-ann", "ann"),
        ),
        ("PUT", "Observation/new", body("Observation", "new", "ann")),
        (
            "PUT",
            "Observation?code=718-7",
            body("Observation", "lab-ann", "ann"),
        ),
        ("POST", "Observation", body("Observation", "x", "ann")),
        (
            "PUT",
            "Patient/ann",
            json!({"resourceType": "Patient", "id": "ann"}),
        ),
        (
            "PUT",
            "Patient/bob",
            json!({"resourceType": "Patient", "id": "bob"}),
        ),
        ("DELETE", "Observation/lab-ann", json!({})),
        ("DELETE", "Observation?code=718-7", json!({})),
        (
            "POST",
            "Observation/lab-ann/$meta-add",
            json!({"resourceType": "Parameters"}),
        ),
        ("POST", "$import", json!({})),
        (
            "POST",
            "",
            json!({"resourceType": "Bundle", "type": "transaction", "entry": [
            {"resource": body("Observation", "x", "ann"), "request": {"method": "POST", "url": "Observation"}}]}),
        ),
    ] {
        let asked = house.bare(
            method.parse().expect("a method"),
            &format!("/fhir/r4/{path}"),
        );
        let answer = asked
            .bearer_auth(&token)
            .header("prefer", "respond-async")
            .header(
                "content-type",
                if path == "$import" {
                    "application/fhir+ndjson"
                } else {
                    "application/fhir+json"
                },
            )
            .header("x-http-method-override", "GET")
            .body(sent.to_string())
            .send()
            .await
            .expect("an answer");
        assert_outcome(answer, 403, "forbidden").await;
    }
    for (method, url, sent) in [
        (
            "PUT",
            "Observation/lab-ann",
            body("Observation", "lab-ann", "ann"),
        ),
        ("POST", "Observation", body("Observation", "x", "ann")),
        ("DELETE", "Observation/lab-ann", Value::Null),
        ("GET", "Observation/lab-bob", Value::Null),
        ("GET", "Patient/bob", Value::Null),
        ("GET", "Condition", Value::Null),
    ] {
        let asked = house.bare(Method::POST, "/fhir/r4/").bearer_auth(&token);
        let asked = asked.header("content-type", "application/fhir+json");
        let answer = asked
            .body(batch(method, url, sent).to_string())
            .send()
            .await
            .expect("an answer");
        let whole = answer.status();
        let told: Value = answer.json().await.expect("JSON");
        let status = told["entry"][0]["response"]["status"]
            .as_str()
            .unwrap_or_default();
        assert!(
            whole == 403 || status.starts_with("403") || status.starts_with("404"),
            "{method} {url}: {whole} {told}"
        );
    }
    for (path, sort) in [
        ("Patient/bob", "[403, 404]"),
        ("Patient/bob/Observation", "nothing"),
        ("Patient/bob/$everything", "[403, 404]"),
        ("Observation/lab-bob", "[403, 404]"),
        ("Observation/lab-bob/_history", "[403, 404]"),
        ("Observation/lab-bob/_history/1", "[403, 404]"),
        ("Observation?patient=bob", "nothing"),
        ("Observation?subject:Patient.name=Lie", "nothing"),
        ("Observation?_id=lab-bob", "nothing"),
        ("Observation?_include=Observation:subject", "nothing"),
        ("Observation/_history", "nothing"),
        ("_history", "nothing"),
        ("$export", "[403]"),
        ("Patient/$export", "[403]"),
        ("AuditEvent", "[403]"),
    ] {
        let asked = house
            .bare(Method::GET, &format!("/fhir/r4/{path}"))
            .bearer_auth(&token);
        let answer = asked
            .header("prefer", "respond-async")
            .send()
            .await
            .expect("an answer");
        let status = answer.status().as_u16();
        let text = answer.text().await.expect("text");
        // The links of a bundle say what was asked for.
        let mut told: Value = serde_json::from_str(&text).unwrap_or_default();
        if let Some(bundle) = told.as_object_mut() {
            bundle.shift_remove("link");
        }
        let told = told.to_string();
        assert!(
            !told.contains("bob\"") && !told.contains("Lie"),
            "{path}: {text}"
        );
        let fine = match sort {
            "nothing" => status < 500,
            list => list.contains(&status.to_string()),
        };
        assert!(fine, "{path}: {status} {text}");
    }
    // It was for reading: all is as it was.
    let now: Value = house
        .asked(Method::GET, "/fhir/r4/Observation/lab-ann")
        .send()
        .await
        .expect("an answer")
        .json()
        .await
        .expect("JSON");
    assert_eq!(now["meta"]["versionId"], "1");
    house.end().await;
}

/// An identity token says who somebody is. It opens nothing, at no door, for nobody; neither does one that is bent.
#[tokio::test]
async fn an_identity_token_is_no_key() {
    use crate::apps::identity::{app_of, claims};

    let house = house().await;
    apps::furnished(&house).await;
    let client = app_of(&house, apps::BACK).await;
    let mut ann = Browser::patient(&house, "ann", "1950-02-03").await;
    let scope = "openid fhirUser offline_access patient/*.rs";
    let pairs = apps::request(&house, &client, scope, &[]);
    let code = apps::code(&mut ann, &pairs).await;
    let told = apps::tokens(apps::exchange(&house, &client, &code).await).await;
    let token = apps::text(&told, "id_token");
    let parts: Vec<_> = token.split('.').collect();
    let unsigned = format!("{}.{}.", text(&json!({"alg": "none"})), parts[1]);
    let marked = format!("t.{token}");
    let of_tenant = format!("1.{}", parts[2]);
    for shown in [token, &unsigned, &marked, &of_tenant, parts[1]] {
        for path in [
            "/fhir/r4/Patient/ann",
            "/fhir/r4/Patient",
            "/fhir/r4/$export",
        ] {
            let request = house.bare(Method::GET, path).bearer_auth(shown);
            let answer = request.header("prefer", "respond-async").send().await;
            assert_outcome(answer.expect("an answer"), 401, "login").await;
        }
        for (method, path) in [
            (Method::POST, "/api/journeys"),
            (Method::GET, "/audit/log/checkpoint"),
        ] {
            let request = house.bare(method, path).bearer_auth(shown);
            assert_eq!(request.send().await.expect("an answer").status(), 401);
        }
        let answer = apps::refresh(&house, &client, shown, &[]).await;
        apps::assert_error(answer, 400, "invalid_grant").await;
        let answer = apps::exchange(&house, &client, shown).await;
        apps::assert_error(answer, 400, "invalid_grant").await;
        let form = [
            ("grant_type", "refresh_token"),
            ("client_assertion_type", ASSERTION_TYPE),
            ("client_assertion", shown),
            ("refresh_token", apps::text(&told, "refresh_token")),
        ];
        let answer = apps::post(&house, "/oauth/token", &form).await;
        apps::assert_error(answer, 401, "invalid_client").await;
        let form = [("client_id", client.as_str()), ("token", shown)];
        let answer = apps::post(&house, "/oauth/revoke", &form).await;
        assert_eq!(answer.status(), 200);
    }
    // A system that has a key learns nothing of it.
    let system = System::new(&house, "system/*.rs").await;
    let assertion = system.signer.sign(
        &header(&system.signer, &json!({})),
        &super::proofs::claims(&house, &system, &json!({})),
    );
    let form = [
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", assertion.as_str()),
        ("token", token),
    ];
    let answer = apps::post(&house, "/oauth/introspect", &form).await;
    assert_eq!(apps::tokens(answer).await, json!({"active": false}));
    // All that was tried ended nothing: the refresh token is still the application's.
    let again = apps::refresh(&house, &client, apps::text(&told, "refresh_token"), &[]).await;
    apps::tokens(again).await;
    // Nobody's name is in it.
    assert!(!claims(token).to_string().contains("Berg"));
    house.end().await;
}
