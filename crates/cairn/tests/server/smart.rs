//! SMART Backend Services over HTTP: how a system gets its tokens, and that its scopes hold on every way
//! into the record.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::routing::get;
use cairn::store::TENANT;
use ledger::{Clock as _, SystemClock};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use trust::Agent;
use trust::identity::{NewSystem, SystemKeys};

use crate::bulk::laid_out;
use crate::house::{
    House, administers, assert_outcome, cairn, header, house, house_with, keyed_folder, put,
};
use crate::signer::Signer;

pub(crate) const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// A registered system.
pub(crate) struct System {
    pub(crate) signer: Signer,
    pub(crate) id: String,
}

impl System {
    pub(crate) async fn new(house: &House, scopes: &str) -> Self {
        let signer = Signer::curve("key-1");
        let new = NewSystem {
            name: "Laboratory".to_owned(),
            keys: SystemKeys::Set(signer.jwks()),
            scopes: scopes.to_owned(),
        };
        let by = Agent::system(TENANT, "command-line");
        let identity = house.server.trust().identity();
        let id = identity.register_system(&by, &new).await.expect("an id");
        Self { signer, id }
    }

    pub(crate) fn proof(&self, house: &House, jti: &str) -> String {
        let now_s = SystemClock.now_ms() / 1000;
        let claims = json!({
            "iss": self.id, "sub": self.id, "aud": house.url("/oauth/token"),
            "exp": now_s + 240, "jti": jti,
        });
        self.signer.sign(&self.signer.header(), &claims)
    }

    pub(crate) async fn ask(&self, house: &House, jti: &str, scope: &str) -> Response {
        let proof = self.proof(house, jti);
        let form = [
            ("grant_type", "client_credentials"),
            ("client_assertion_type", ASSERTION_TYPE),
            ("client_assertion", &proof),
            ("scope", scope),
        ];
        post(house, "/oauth/token", &form).await
    }

    pub(crate) async fn token(&self, house: &House, jti: &str, scope: &str) -> String {
        let answer = self.ask(house, jti, scope).await;
        assert_eq!(answer.status(), StatusCode::OK);
        let body: Value = answer.json().await.expect("JSON");
        body["access_token"].as_str().expect("a token").to_owned()
    }
}

async fn post(house: &House, path: &str, form: &[(&str, &str)]) -> Response {
    let mut body = form_urlencoded::Serializer::new(String::new());
    body.extend_pairs(form);
    house
        .bare(Method::POST, path)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(body.finish())
        .send()
        .await
        .expect("an answer")
}

async fn assert_error(answer: Response, status: u16, code: &str) {
    assert_eq!(answer.status().as_u16(), status);
    assert_eq!(header(&answer, "cache-control"), "no-store");
    let body: Value = answer.json().await.expect("JSON");
    assert_eq!(body["error"], code, "{body}");
    assert!(
        body["error_description"]
            .as_str()
            .is_some_and(|words| !words.is_empty())
    );
}

#[tokio::test]
async fn the_server_says_how_tokens_are_had() {
    let house = house().await;
    let answer = house
        .bare(Method::GET, "/fhir/r4/.well-known/smart-configuration")
        .header("accept", "application/json")
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(header(&answer, "content-type"), "application/json");
    let said: Value = answer.json().await.expect("JSON");
    assert_eq!(said["token_endpoint"], house.url("/oauth/token"));
    assert_eq!(
        said["grant_types_supported"],
        json!(["authorization_code", "refresh_token", "client_credentials"])
    );
    assert_eq!(
        said["authorization_endpoint"],
        house.url("/oauth/authorize")
    );
    assert_eq!(said["code_challenge_methods_supported"], json!(["S256"]));
    assert_eq!(
        said["token_endpoint_auth_signing_alg_values_supported"],
        json!(["RS384", "ES384"])
    );
    assert_eq!(said["authorization_response_iss_parameter_supported"], true);
    let by_oauth: Value = house
        .bare(
            Method::GET,
            "/.well-known/oauth-authorization-server/fhir/r4",
        )
        .send()
        .await
        .expect("an answer")
        .json()
        .await
        .expect("JSON");
    assert_eq!(by_oauth["issuer"], house.url("/fhir/r4"));
    assert_eq!(by_oauth["token_endpoint"], said["token_endpoint"]);
    // Nothing is said to be there that isn't.
    for absent in ["registration_endpoint", "userinfo_endpoint"] {
        assert!(said.get(absent).is_none(), "{absent}");
    }
    let statement: Value = house
        .bare(Method::GET, "/fhir/r4/metadata")
        .send()
        .await
        .expect("an answer")
        .json()
        .await
        .expect("JSON");
    let security = &statement["rest"][0]["security"];
    assert_eq!(security["service"][0]["coding"][0]["code"], "SMART-on-FHIR");
    assert_eq!(
        security["extension"][0]["extension"][1]["valueUri"],
        house.url("/oauth/token")
    );
    house.end().await;
}

// Proves: 45 CFR 164.312(d)
#[tokio::test]
async fn a_system_gets_a_token_and_gives_it_back() {
    let house = house().await;
    let system = System::new(&house, "system/Patient.rs system/Observation.cruds").await;
    let answer = system
        .ask(&house, "1", "system/Patient.read system/Group.r")
        .await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(header(&answer, "cache-control"), "no-store");
    let body: Value = answer.json().await.expect("JSON");
    assert_eq!(body["token_type"], "bearer");
    assert_eq!(body["expires_in"], 300);
    assert_eq!(body["scope"], "system/Patient.rs");
    let token = body["access_token"].as_str().expect("a token");
    let get = async |path: &str| {
        let request = house.bare(Method::GET, path).bearer_auth(token);
        request.send().await.expect("an answer")
    };
    assert_eq!(get("/fhir/r4/Patient").await.status(), StatusCode::OK);
    assert_outcome(get("/fhir/r4/Observation").await, 403, "forbidden").await;
    assert_outcome(get("/fhir/r4/Observation/x").await, 403, "forbidden").await;
    // A token for FHIR is one for nothing else.
    assert_eq!(
        get("/audit/log/checkpoint").await.status(),
        StatusCode::UNAUTHORIZED
    );
    let published = house
        .bare(Method::POST, "/api/journeys")
        .bearer_auth(token)
        .body("journey: x")
        .send()
        .await
        .expect("an answer");
    assert_eq!(published.status(), StatusCode::UNAUTHORIZED);

    assert_error(
        system.ask(&house, "1", "system/Patient.rs").await,
        401,
        "invalid_client",
    )
    .await;
    assert_error(
        system.ask(&house, "2", "system/Group.r").await,
        400,
        "invalid_scope",
    )
    .await;
    let proof = system.proof(&house, "3");
    let form = [
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", proof.as_str()),
        ("token", token),
    ];
    let answer = post(&house, "/oauth/revoke", &form).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let refused = get("/fhir/r4/Patient").await;
    assert!(header(&refused, "www-authenticate").contains("invalid_token"));
    assert_outcome(refused, 401, "login").await;
    house.end().await;
}

// Proves: 45 CFR 164.312(d)
#[tokio::test]
async fn requests_for_tokens_that_are_wrong_say_so() {
    let house = house().await;
    let system = System::new(&house, "system/*.rs").await;
    let proof = system.proof(&house, "1");
    let fine = [
        ("grant_type", "client_credentials"),
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", proof.as_str()),
        ("scope", "system/*.rs"),
    ];
    let without = |name: &str| -> Vec<(&str, &str)> {
        let others = fine.iter().filter(|(other, _)| *other != name);
        others.copied().collect()
    };
    let with = |name: &'static str, value: &'static str| {
        let mut form = without(name);
        form.push((name, value));
        form
    };
    let twice = [fine.as_slice(), &[("scope", "system/Patient.r")]].concat();
    let many: Vec<(String, String)> = (0..40).map(|n| (format!("x{n}"), "y".to_owned())).collect();
    let many: Vec<(&str, &str)> = many
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let table = [
        (without("grant_type"), 400, "invalid_request"),
        (
            with("grant_type", "password"),
            400,
            "unsupported_grant_type",
        ),
        (
            with("grant_type", "authorization_code"),
            400,
            "invalid_request",
        ),
        (without("client_assertion_type"), 400, "invalid_request"),
        (
            with("client_assertion_type", "urn:x"),
            400,
            "invalid_request",
        ),
        (without("client_assertion"), 401, "invalid_client"),
        (with("client_assertion", "a.b.c"), 401, "invalid_client"),
        (with("client_secret", "secret"), 401, "invalid_client"),
        (without("scope"), 400, "invalid_scope"),
        (with("scope", "system/*.everything"), 400, "invalid_scope"),
        (twice, 400, "invalid_request"),
        (many, 400, "invalid_request"),
        (Vec::new(), 400, "invalid_request"),
    ];
    for (form, status, code) in table {
        let answer = post(&house, "/oauth/token", &form).await;
        assert_error(answer, status, code).await;
    }
    let basic = house
        .bare(Method::POST, "/oauth/token")
        .basic_auth(&system.id, Some("x"))
        .header("content-type", "application/x-www-form-urlencoded")
        .body("grant_type=client_credentials")
        .send()
        .await
        .expect("an answer");
    assert_error(basic, 401, "invalid_client").await;
    let as_json = house
        .bare(Method::POST, "/oauth/token")
        .header("content-type", "application/json")
        .body("{}")
        .send()
        .await
        .expect("an answer");
    assert_error(as_json, 400, "invalid_request").await;
    let large = "x".repeat(2 << 20);
    let answer = post(&house, "/oauth/token", &[("grant_type", &large)]).await;
    assert_error(answer, 413, "invalid_request").await;
    let got = house.bare(Method::GET, "/oauth/token?grant_type=client_credentials");
    let got = got.send().await.expect("an answer");
    assert_eq!(got.status(), StatusCode::METHOD_NOT_ALLOWED);
    // Nothing of this has used the proof up.
    let answer = post(&house, "/oauth/token", &fine).await;
    assert_eq!(answer.status(), StatusCode::OK);
    house.end().await;
}

fn observation(id: &str, patient: &str, category: &str) -> Value {
    json!({
        "resourceType": "Observation",
        "id": id,
        "status": "final",
        "category": [{"coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/observation-category",
            "code": category,
        }]}],
        "code": {"coding": [{"system": "http://loinc.org", "code": "718-7"}]},
        "subject": {"reference": format!("Patient/{patient}")},
        "effectiveDateTime": "2026-02-01",
    })
}

/// Ids of a type wherever they stand in an answer.
fn ids_in(value: &Value, kind: &str, found: &mut BTreeSet<String>) {
    if value["resourceType"] == kind
        && let Some(id) = value["id"].as_str()
    {
        found.insert(id.to_owned());
    }
    match value {
        Value::Array(all) => all.iter().for_each(|one| ids_in(one, kind, found)),
        Value::Object(all) => all.values().for_each(|one| ids_in(one, kind, found)),
        _ => {}
    }
}

fn ids(value: &Value, kind: &str) -> Vec<String> {
    let mut found = BTreeSet::new();
    ids_in(value, kind, &mut found);
    found.into_iter().collect()
}

/// A house with two patients and four observations, and a token for laboratories' results alone.
async fn laboratory() -> (House, String) {
    let house = house_with(|_| {}).await;
    for (id, family) in [("ann", "Berg"), ("bob", "Lie")] {
        let patient = json!({"resourceType": "Patient", "id": id, "name": [{"family": family}]});
        put(&house, &patient).await;
    }
    for (id, patient, category) in [
        ("lab-1", "ann", "laboratory"),
        ("lab-2", "bob", "laboratory"),
        ("vital-1", "ann", "vital-signs"),
        ("vital-2", "bob", "vital-signs"),
    ] {
        put(&house, &observation(id, patient, category)).await;
    }
    let scopes = "system/Patient.rs system/Observation.cruds?category=laboratory";
    let system = System::new(&house, scopes).await;
    let token = system.token(&house, "1", scopes).await;
    (house, token)
}

// Proves: 45 CFR 164.312(a)(1), 164.514(d)(3)
#[tokio::test]
async fn every_way_to_look_shows_what_the_scopes_cover() {
    let (house, token) = laboratory().await;
    let get = async |path: &str| {
        let request = house.bare(Method::GET, &format!("/fhir/r4/{path}"));
        let answer = request.bearer_auth(&token).send().await.expect("an answer");
        let status = answer.status().as_u16();
        (status, answer.json::<Value>().await.expect("JSON"))
    };
    let lists = [
        "Observation",
        "Observation?_total=accurate",
        "Observation?_sort=-date",
        "Observation?code=718-7",
        "Observation?_filter=code%20eq%20718-7",
        "?_type=Observation,Patient",
        "Patient/ann/Observation",
        "Patient/ann/*",
        "Patient?_revinclude=Observation:subject",
        "Observation?_include=Observation:subject",
        "Observation?subject:Patient.family=Berg",
        "_history",
        "Observation/_history",
        "Patient/ann/$everything",
        "Observation/$lastn?patient=ann&max=9",
    ];
    for path in lists {
        let (status, body) = get(path).await;
        assert_eq!(status, 200, "{path}: {body}");
        let found = ids(&body, "Observation");
        let of_ann = path.contains("ann") || path.contains("Berg");
        let expected: &[&str] = if of_ann {
            &["lab-1"]
        } else {
            &["lab-1", "lab-2"]
        };
        assert_eq!(found, expected, "{path}");
        if path.contains("_total") {
            assert_eq!(body["total"], 2);
        }
    }
    for (path, status) in [
        ("Observation/lab-1", 200),
        ("Observation/vital-1", 404),
        ("Observation/vital-1/_history", 404),
        ("Observation/vital-1/_history/1", 404),
        ("Observation/nothing", 404),
        ("Encounter", 403),
        ("Patient?_revinclude=Encounter:subject", 403),
        ("Patient?_has:Encounter:subject:status=finished", 403),
        ("Patient/$explain?_revinclude=Encounter:subject", 403),
    ] {
        let (found, body) = get(path).await;
        assert_eq!(found, status, "{path}: {body}");
        assert!(
            ids(&body, "Observation")
                .iter()
                .all(|id| !id.starts_with("vital"))
        );
    }
    for (path, expected) in [
        ("Observation?category=vital-signs", 0),
        ("Observation?category:not=laboratory", 0),
        ("Observation?_id=vital-1", 0),
        ("Patient?_has:Observation:subject:category=vital-signs", 0),
        ("Patient?_has:Observation:subject:category=laboratory", 2),
    ] {
        let (_, body) = get(&format!("{path}&_total=accurate")).await;
        assert_eq!(body["total"], expected, "{path}: {body}");
    }
    // In a batch as by itself.
    let entry = |url: &str| json!({"request": {"method": "GET", "url": url}});
    let batch = json!({"resourceType": "Bundle", "type": "batch", "entry": [
        entry("Observation/vital-1"), entry("Observation/lab-1"), entry("Observation?_total=accurate"),
        entry("Encounter/x"),
    ]});
    let answer = house
        .bare(Method::POST, "/fhir/r4")
        .bearer_auth(&token)
        .header("content-type", "application/fhir+json")
        .body(batch.to_string())
        .send()
        .await
        .expect("an answer");
    let body: Value = answer.json().await.expect("JSON");
    let status = |at: usize| {
        body["entry"][at]["response"]["status"]
            .as_str()
            .map(|text| text[..3].to_owned())
    };
    assert_eq!(status(0).as_deref(), Some("404"), "{body}");
    assert_eq!(status(1).as_deref(), Some("200"));
    assert_eq!(body["entry"][2]["resource"]["total"], 2);
    assert_eq!(status(3).as_deref(), Some("403"));
    house.end().await;
}

// Proves: 45 CFR 164.312(a)(1)
#[tokio::test]
async fn writes_stay_within_the_scopes() {
    let (house, token) = laboratory().await;
    let send = async |method: Method, path: &str, body: &Value| {
        let request = house.bare(method, &format!("/fhir/r4/{path}"));
        let request = request
            .bearer_auth(&token)
            .header("content-type", "application/fhir+json")
            .body(body.to_string());
        request.send().await.expect("an answer").status().as_u16()
    };
    let lab = |id: &str| observation(id, "ann", "laboratory");
    let vital = |id: &str| observation(id, "ann", "vital-signs");
    assert_eq!(send(Method::POST, "Observation", &lab("x")).await, 201);
    assert_eq!(send(Method::POST, "Observation", &vital("x")).await, 403);
    assert_eq!(
        send(Method::PUT, "Observation/lab-1", &lab("lab-1")).await,
        200
    );
    // Not out of what it may see, nor into it.
    assert_eq!(
        send(Method::PUT, "Observation/lab-1", &vital("lab-1")).await,
        403
    );
    assert!(send(Method::PUT, "Observation/vital-1", &lab("vital-1")).await >= 400);
    let patient = json!({"resourceType": "Patient", "id": "ann"});
    assert_eq!(send(Method::PUT, "Patient/ann", &patient).await, 403);
    // As of what isn't there; it is, as will be seen.
    assert_eq!(
        send(Method::DELETE, "Observation/vital-1", &json!({})).await,
        204
    );
    assert_eq!(
        send(Method::DELETE, "Observation/lab-2", &json!({})).await,
        204
    );
    let put = |url: &str, resource: Value| json!({"resource": resource, "request": {"method": "PUT", "url": url}});
    let both = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
        put("Observation/lab-1", lab("lab-1")), put("Observation/new", vital("new")),
    ]});
    assert_eq!(send(Method::POST, "", &both).await, 403);
    let all = json!({"resourceType": "Observation"});
    let category = "category=vital-signs";
    let deleted = send(Method::DELETE, &format!("Observation?{category}"), &all).await;
    assert!(deleted < 500);
    // Whoever may see all finds what was there, as it was.
    for (id, version) in [("vital-1", "1"), ("vital-2", "1"), ("lab-1", "2")] {
        let request = house.asked(Method::GET, &format!("/fhir/r4/Observation/{id}"));
        let found: Value = request
            .send()
            .await
            .expect("an answer")
            .json()
            .await
            .expect("JSON");
        assert_eq!(found["meta"]["versionId"], version, "{id}");
    }
    let request = house.asked(Method::GET, "/fhir/r4/Observation/new");
    assert_eq!(request.send().await.expect("an answer").status(), 404);
    house.end().await;
}

// Proves: 45 CFR 164.312(a)(1), 164.514(d)(3)
#[tokio::test]
async fn an_export_has_what_the_scopes_cover() {
    let (house, token) = laboratory().await;
    let get = async |url: &str| {
        let request = house.http.get(url).bearer_auth(&token);
        let request = request.header("prefer", "respond-async");
        request.send().await.expect("an answer")
    };
    let begun = get(&house.url("/fhir/r4/$export")).await;
    assert_eq!(begun.status(), StatusCode::ACCEPTED);
    let place = header(&begun, "content-location").to_owned();
    let manifest = laid_out(async || get(&place).await).await;
    let mut lines = Vec::new();
    for file in manifest["output"].as_array().expect("files") {
        let text = get(file["url"].as_str().expect("a url")).await;
        assert_eq!(text.status(), StatusCode::OK);
        let text = text.text().await.expect("text");
        lines.extend(
            text.lines()
                .map(|line| serde_json::from_str::<Value>(line).expect("JSON")),
        );
    }
    let lines = Value::Array(lines);
    assert_eq!(ids(&lines, "Observation"), ["lab-1", "lab-2"]);
    assert_eq!(ids(&lines, "Patient"), ["ann", "bob"]);
    let named = get(&house.url("/fhir/r4/$export?_type=Encounter")).await;
    assert_outcome(named, 403, "forbidden").await;
    // Who may not read all of it begins none.
    let system = System::new(&house, "system/Patient.r").await;
    let other = system.token(&house, "1", "system/Patient.r").await;
    let refused = house
        .bare(Method::GET, "/fhir/r4/$export")
        .bearer_auth(&other)
        .header("prefer", "respond-async")
        .send()
        .await
        .expect("an answer");
    assert_outcome(refused, 403, "forbidden").await;
    house.end().await;
}

/// A place of keys, which counts who asks.
async fn key_host(keys: String) -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let hits = Arc::new(AtomicUsize::new(0));
    let count = hits.clone();
    let large = format!("{}{keys}", " ".repeat(100_000));
    let routes = axum::Router::new()
        .route("/jwks", get(move || async move { keys }))
        .route("/large", get(move || async move { large }))
        .route(
            "/moved",
            get(|| async { axum::response::Redirect::temporary("/jwks") }),
        )
        .route(
            "/broken",
            get(|| async { StatusCode::INTERNAL_SERVER_ERROR }),
        )
        .layer(axum::middleware::from_fn(
            move |request: axum::extract::Request, next: axum::middleware::Next| {
                count.fetch_add(1, Ordering::SeqCst);
                next.run(request)
            },
        ));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (address, hits)
}

#[tokio::test]
async fn keys_are_fetched_where_the_configuration_lets_them() {
    let signer = Signer::rsa("key-1");
    let (address, hits) = key_host(signer.jwks()).await;
    let (elsewhere, hits_elsewhere) = key_host(signer.jwks()).await;
    let house = house_with(|options| {
        options.key_origins = format!("https://keys.example.org http://{address}");
    })
    .await;
    let at = async |url: String, signer: Signer| {
        let new = NewSystem {
            name: "Laboratory".to_owned(),
            keys: SystemKeys::At(url),
            scopes: "system/*.rs".to_owned(),
        };
        let by = Agent::system(TENANT, "command-line");
        let identity = house.server.trust().identity();
        let id = identity.register_system(&by, &new).await.expect("an id");
        System { signer, id }
    };
    let mut system = at(format!("http://{address}/jwks"), signer).await;
    for jti in ["1", "2"] {
        let answer = system.ask(&house, jti, "system/*.rs").await;
        assert_eq!(answer.status(), StatusCode::OK);
    }
    assert_eq!(
        hits.load(Ordering::SeqCst),
        1,
        "the second time it was known"
    );
    // Whoever makes keys up doesn't make this server ask for them.
    system.signer = Signer::curve("key-2");
    for jti in ["3", "4", "5"] {
        assert_error(
            system.ask(&house, jti, "system/*.rs").await,
            401,
            "invalid_client",
        )
        .await;
    }
    assert_eq!(hits.load(Ordering::SeqCst), 1);
    for (url, is_asked) in [
        (format!("http://{address}/moved"), true),
        (format!("http://{address}/broken"), true),
        (format!("http://{address}/large"), true),
        (format!("http://{elsewhere}/jwks"), false),
        (format!("http://{address}@{elsewhere}/jwks"), false),
        (format!("http://localhost:{}/jwks", address.port()), false),
        ("http://keys.example.org/jwks".to_owned(), false),
    ] {
        let before = hits.load(Ordering::SeqCst);
        let system = at(url.clone(), Signer::curve("key-1")).await;
        assert_error(
            system.ask(&house, "1", "system/*.rs").await,
            401,
            "invalid_client",
        )
        .await;
        let asked = hits.load(Ordering::SeqCst) - before;
        assert_eq!(asked, usize::from(is_asked), "{url}");
    }
    assert_eq!(hits_elsewhere.load(Ordering::SeqCst), 0);
    house.end().await;
}

// Proves: 45 CFR 164.308(a)(4)(ii)(C)
#[test]
fn systems_are_registered_listed_and_revoked_by_command() {
    let folder = keyed_folder();
    let keys = folder.path().join("client.jwks");
    std::fs::write(&keys, Signer::curve("key-1").jwks()).expect("written");
    let run = |arguments: &[&str]| {
        let mut command = cairn();
        command
            .arg("client")
            .args(arguments)
            .arg("--data")
            .arg(folder.path());
        let output = command.output().expect("cairn runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        (
            output.status.success(),
            text(&output.stdout),
            text(&output.stderr),
        )
    };
    let keys = keys.to_str().expect("text");
    let register = |scopes: &str, more: &[&str]| {
        run(&[
            &["register", "--name", "Laboratory", "--scopes", scopes],
            more,
        ]
        .concat())
    };
    let (fine, id, wrong) = register("system/Observation.read", &["--keys", keys]);
    assert!(fine, "{wrong}");
    let (fine, _, wrong) = register("patient/Observation.rs", &["--keys", keys]);
    assert!(!fine && wrong.contains("system/Observation.rs"), "{wrong}");
    let (fine, ..) = register("system/*.rs", &[]);
    assert!(!fine);
    let (fine, _, wrong) = register("system/*.rs", &["--keys-url", "ftp://x"]);
    assert!(!fine && wrong.contains("https://"), "{wrong}");
    let (fine, other, _) = register(
        "system/*.rs",
        &["--keys-url", "https://keys.example.org/jwks"],
    );
    assert!(fine && other != id);
    let (_, listed, _) = run(&["list"]);
    let line = |id: &str| {
        listed
            .lines()
            .find(|line| line.contains(id))
            .map(str::to_owned)
    };
    let line = line(&id).expect("a line");
    assert!(
        line.starts_with("active") && line.contains("system/Observation.rs"),
        "{line}"
    );
    let (fine, _, wrong) = run(&["approve", &id, "--scopes", "system/*.rs"]);
    assert!(!fine && wrong.contains("waits"), "{wrong}");
    let (fine, _, wrong) = run(&["revoke", &id, "--reason", "contract ended"]);
    assert!(fine, "{wrong}");
    let (_, listed, _) = run(&["list"]);
    let line = listed
        .lines()
        .find(|line| line.contains(&id))
        .expect("a line");
    assert!(line.starts_with("revoked"), "{line}");
}

#[tokio::test]
async fn systems_ask_to_be_registered_where_that_is_open() {
    let signer = Signer::curve("key-1");
    let keys: Value = serde_json::from_str(&signer.jwks()).expect("JSON");
    let metadata = json!({
        "client_name": "Laboratory",
        "grant_types": ["client_credentials"],
        "token_endpoint_auth_method": "private_key_jwt",
        "scope": "system/Patient.rs",
        "jwks": keys,
        "software_id": "x",
    });
    let register = async |house: &House, body: &Value| {
        let request = house.bare(Method::POST, "/oauth/register");
        let request = request.header("content-type", "application/json");
        request
            .body(body.to_string())
            .send()
            .await
            .expect("an answer")
    };
    let closed = house().await;
    assert_error(register(&closed, &metadata).await, 403, "access_denied").await;
    closed.end().await;

    let house = house_with(|options| options.open_registration = true).await;
    let said: Value = house
        .bare(Method::GET, "/fhir/r4/.well-known/smart-configuration")
        .send()
        .await
        .expect("an answer")
        .json()
        .await
        .expect("JSON");
    assert_eq!(said["registration_endpoint"], house.url("/oauth/register"));
    let with = |name: &str, value: Value| {
        let mut changed = metadata.clone();
        changed[name] = value;
        changed
    };
    for wrong in [
        json!({}),
        json!([]),
        with("client_name", json!("")),
        with("client_name", json!(7)),
        with(
            "grant_types",
            json!(["client_credentials", "authorization_code"]),
        ),
        with("grant_types", json!("client_credentials")),
        with("redirect_uris", json!(["https://x.org"])),
        with("token_endpoint_auth_method", json!("none")),
        with("token_endpoint_auth_method", json!("client_secret_basic")),
        with("scope", json!("patient/*.rs")),
        with("scope", json!("nonsense")),
        with("jwks_uri", json!("https://keys.example.org/jwks")),
        with("jwks", json!({"keys": []})),
        with("jwks", json!("https://keys.example.org/jwks")),
    ] {
        assert_error(
            register(&house, &wrong).await,
            400,
            "invalid_client_metadata",
        )
        .await;
    }
    let answer = register(&house, &metadata).await;
    assert_eq!(answer.status(), StatusCode::CREATED);
    let told: Value = answer.json().await.expect("JSON");
    let id = told["client_id"].as_str().expect("an id").to_owned();
    assert_eq!(told["scope"], "system/Patient.rs");
    assert!(told.get("client_secret").is_none());
    let system = System { signer, id };
    assert_error(
        system.ask(&house, "1", "system/Patient.rs").await,
        401,
        "invalid_client",
    )
    .await;
    let trust = house.server.trust();
    let permit = administers(&house.server).await;
    let approved = trust
        .identity()
        .approve_system(&permit, &system.id, "system/Patient.rs")
        .await;
    approved.expect("approved");
    let answer = system.ask(&house, "2", "system/Patient.rs").await;
    assert_eq!(answer.status(), StatusCode::OK);
    // The list of those that wait has an end.
    for _ in 0..trust::identity::WAITING_MAX {
        assert_eq!(
            register(&house, &metadata).await.status(),
            StatusCode::CREATED
        );
    }
    let full = register(&house, &metadata).await;
    assert!(!header(&full, "retry-after").is_empty());
    assert_error(full, 429, "temporarily_unavailable").await;
    house.end().await;
}
