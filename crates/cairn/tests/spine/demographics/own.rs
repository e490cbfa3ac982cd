//! A patient's own access, by an application that they let in: what is told of their own number, and their card.
//! And another tenant, who sees nothing.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cairn::store::{self, TENANT};
use cairn::{Server, ServerOptions};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use trust::identity::{NewApp, SignIn, SystemKeys};
use trust::{Agent, Role};

use super::{Answer, BASE, NUMBERS, Spine, new_id, patient};
use crate::house::{client, header};

const BACK: &str = "https://app.example.org/back";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const BORN: &str = "2010-10-22";

fn query(pairs: &[(&str, &str)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(pairs);
    query.finish()
}

/// An access token of an application that a patient lets in.
async fn own_token(spine: &Spine, patient: &str) -> String {
    let house = &spine.house;
    let identity = house.server.trust().identity();
    let staff = Agent {
        role: Role::Coordinator,
        ..Agent::system(TENANT, "c")
    };
    let link = identity.make_link(&staff, patient, 3600, false).await;
    let signed = identity
        .use_link(TENANT, &link.expect("a link"), BORN)
        .await;
    let SignIn::Done { secret, session } = signed.expect("a session") else {
        panic!("not signed in");
    };
    let operator = Agent::system(TENANT, "command-line");
    let app = NewApp {
        name: "Own record".to_owned(),
        redirect_uris: vec![BACK.to_owned()],
        launch_uri: None,
        scopes: "patient/*.cruds".to_owned(),
        keys: SystemKeys::None,
    };
    let app = identity.register_app(&operator, &app).await.expect("an id");
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, VERIFIER.as_bytes());
    let (challenge, aud) = (URL_SAFE_NO_PAD.encode(digest), house.url("/fhir/r4"));
    let mut form = vec![
        ("response_type", "code"),
        ("client_id", app.as_str()),
        ("redirect_uri", BACK),
        ("scope", "patient/*.cruds"),
        ("state", "s"),
        ("aud", &aud),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ];
    let browser = client().redirect(reqwest::redirect::Policy::none());
    let browser = browser.build().expect("a client");
    let cookie = format!("cairn={secret}");
    let page = browser
        .get(house.url(&format!("/oauth/authorize?{}", query(&form))))
        .header("cookie", &cookie);
    let page = page
        .send()
        .await
        .expect("an answer")
        .text()
        .await
        .expect("a page");
    let field = |name: &str| {
        let tag = format!("name=\"{name}\" value=\"");
        let at = page.find(&tag).map(|at| at + tag.len());
        at.map(|at| page[at..].split('"').next().unwrap_or_default().to_owned())
    };
    let (csrf, agreed) = (
        session.csrf.clone(),
        field("agreed").unwrap_or_else(|| panic!("{page}")),
    );
    let whose = field("patient");
    form.extend([
        ("csrf", csrf.as_str()),
        ("decision", "allow"),
        ("agreed", &agreed),
    ]);
    form.extend(whose.iter().map(|id| ("patient", id.as_str())));
    let done = browser
        .post(house.url("/oauth/authorize"))
        .header("cookie", &cookie)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(query(&form));
    let done = done.send().await.expect("an answer");
    let refresh = header(&done, "refresh").to_owned();
    let (_, back) = refresh
        .split_once('?')
        .unwrap_or_else(|| panic!("{done:?}"));
    let code = form_urlencoded::parse(back.as_bytes()).find(|(name, _)| name == "code");
    let code = code.expect("a code").1.into_owned();
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", app.as_str()),
        ("code", &code),
        ("redirect_uri", BACK),
        ("code_verifier", VERIFIER),
    ];
    let request = house.bare(Method::POST, "/oauth/token");
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    let told = request.body(query(&form)).send().await.expect("an answer");
    let told: Value = told.json().await.expect("JSON");
    told["access_token"]
        .as_str()
        .unwrap_or_else(|| panic!("{told}"))
        .to_owned()
}

#[tokio::test]
async fn a_patient_has_their_own_and_no_other() {
    let spine = Spine::new().await;
    spine.keep(&patient("r1", "9000000009", &json!({}))).await;
    spine.keep(&patient("r2", "9000000017", &json!({}))).await;
    let own = own_token(&spine, "r1").await;
    let get = async |path: &str| spine.get_as(&own, path).await;
    assert_eq!(get("/Patient/9000000009").await.fine()["id"], "9000000009");
    assert_eq!(
        get("/Patient/9000000009/RelatedPerson").await.fine()["total"],
        0
    );
    // Another's is no more told of than nobody's.
    for path in [
        "/Patient/9000000017",
        "/Patient/9111231130",
        "/Patient/9000000017/RelatedPerson",
        "/Coverage?subscriber:identifier=9000000017",
        "/Patient?family=Smith&birthdate=eq2010-10-22",
        "/Patient/_history",
    ] {
        get(path).await.refused(403, "ACCESS_DENIED");
    }
    get("/Patient/9000000000")
        .await
        .refused(400, "INVALID_RESOURCE_ID");
    // Applications of patients look and change nothing.
    let change = spine
        .ask_as(&own, Method::PATCH, "/Patient/9000000009")
        .header("if-match", "W/\"1\"")
        .header("content-type", "application/json-patch+json")
        .body(
            json!({"patches": [{"op": "replace", "path": "/gender", "value": "male"}]}).to_string(),
        );
    Answer::of(change).await.refused(403, "ACCESS_DENIED");
    let request = spine.ask_as(&own, Method::POST, "/Patient");
    let request = request
        .header("content-type", "application/json")
        .body("{}");
    Answer::of(request).await.refused(403, "ACCESS_DENIED");
    assert_eq!(spine.versions().await, 2);
    spine.house.end().await;
}

#[tokio::test]
async fn a_patient_s_card() {
    let spine = Spine::new().await;
    spine.keep(&patient("r1", "9000000009", &json!({}))).await;
    let card = json!({
        "resourceType": "Coverage", "id": "card", "status": "active",
        "type": {"coding": [{"system": "urn:cairn:coverage-type", "code": "ehic"}]},
        "subscriber": {"identifier": {"system": NUMBERS, "value": "9000000009"}},
        "identifier": [{"value": "29401395498043123948", "assigner": {"display": "France"}}],
        "payor": [{"identifier": {"value": "92847ADGJL"}}],
        "beneficiary": {"reference": "Patient/r1", "identifier": {"value": "178705ABC"}},
        "period": {"end": "2030-12-31"},
    });
    // What else pays for a patient is nothing of the service's.
    spine.keep(&json!({"resourceType": "Coverage", "id": "c", "status": "active", "beneficiary": {"reference": "Patient/r1"}, "payor": [{"display": "x"}]})).await;
    let own = own_token(&spine, "r1").await;
    let search = "/Coverage?subscriber:identifier=9000000009";
    let none = spine.get_as(&own, search).await;
    assert_eq!(none.fine()["total"], 0);
    assert_eq!(none.body["meta"]["versionId"], "1");
    assert_eq!(none.etag, "W/\"1\"");
    spine.keep(&card).await;
    let found = spine.get_as(&own, search).await;
    assert_eq!(found.fine()["total"], 1);
    let told = &found.body["entry"][0]["resource"];
    assert_eq!(told["identifier"][0]["value"], "29401395498043123948");
    assert_eq!(
        told["beneficiary"],
        json!({"identifier": {"value": "178705ABC"}})
    );
    assert!(
        told.get("type").is_none() && told.get("id").is_none(),
        "{told}"
    );
    // One of which a part is missing is not told.
    let mut half = card;
    half["payor"] = json!([{"display": "x"}]);
    spine.keep(&half).await;
    assert_eq!(spine.get_as(&own, search).await.fine()["total"], 0);
    // For patients alone, and in the one form.
    for token in [&spine.worker, &spine.house.token] {
        spine
            .get_as(token, search)
            .await
            .refused(403, "ACCESS_DENIED");
    }
    for wrong in [
        "/Coverage",
        "/Coverage?beneficiary=x",
        &format!("{search}&year=2003"),
    ] {
        spine
            .get_as(&own, wrong)
            .await
            .refused(400, "INVALID_SEARCH_DATA");
    }
    let request = spine.ask_as(&own, Method::POST, "/Coverage").body("{}");
    Answer::of(request)
        .await
        .refused(400, "UNSUPPORTED_SERVICE");
    spine.house.end().await;
}

#[tokio::test]
async fn another_tenant_sees_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = store::root_key_path(folder.path());
    store::create_root_key(&key).expect("a key");
    let clock = Arc::new(ledger::SystemClock);
    let place = store::in_folder(folder.path());
    let ledger = store::open(place, &key, clock, 16 << 20)
        .await
        .expect("a store");
    let hosts = |host: &str| vec![host.to_owned()];
    let names = hosts("south.example");
    let south = ledger.set_tenant(TENANT, Some("south"), Some(&names), None);
    south.await.expect("a tenant");
    let north = ledger.add_tenant("north", &hosts("north.example")).await;
    let north = north.expect("a tenant").id;
    let west = ledger.add_tenant("west", &hosts("west.example")).await;
    let west = west.expect("a tenant").id;
    let own = tempfile::tempdir().expect("a folder");
    std::fs::write(own.path().join("west.toml"), "demographics_serve = false\n").expect("written");
    let mut options = ServerOptions::new(ledger, TENANT);
    options.demographics.serve = true;
    options.tenants_folder = Some(own.path().to_owned());
    let server = Server::start(options).await.expect("a server");
    let http = client()
        .timeout(Duration::from_secs(30))
        .build()
        .expect("a client");
    let token = async |tenant, role| {
        let trust = server.trust_of(tenant).expect("it is served");
        let by = Agent::system(tenant, "command-line");
        let made = trust.identity().create_client(&by, "test", role).await;
        made.expect("a token")
    };
    let ask = |host: &str, token: &str, method: Method, path: &str| {
        let request = http.request(method, format!("http://{}{path}", server.address()));
        let request = request
            .header("host", host)
            .header("x-request-id", new_id());
        request.bearer_auth(token)
    };
    let writer = token(TENANT, Role::Client).await;
    let kept = ask("south.example", &writer, Method::PUT, "/fhir/r4/Patient/r1")
        .header("content-type", "application/fhir+json")
        .body(patient("r1", "9000000009", &json!({})).to_string());
    assert_eq!(
        kept.send().await.expect("an answer").status(),
        StatusCode::CREATED
    );
    let (here, there) = (
        token(TENANT, Role::Clinician).await,
        token(north, Role::Clinician).await,
    );
    let path = format!("{BASE}/Patient/9000000009");
    let search = format!("{BASE}/Patient?family=Smith&birthdate=eq2010-10-22");
    Answer::of(ask("south.example", &here, Method::GET, &path))
        .await
        .fine();
    let answer = Answer::of(ask("north.example", &there, Method::GET, &path)).await;
    answer.refused(404, "RESOURCE_NOT_FOUND");
    let found = Answer::of(ask("north.example", &there, Method::GET, &search)).await;
    assert!(found.numbers().is_empty());
    let feed = format!("{BASE}/Patient/_history");
    let fed = Answer::of(ask("north.example", &there, Method::GET, &feed)).await;
    assert!(fed.fine().get("entry").is_none(), "{fed:?}");
    let change = ask("north.example", &there, Method::PATCH, &path)
        .header("if-match", "W/\"1\"")
        .header("content-type", "application/json-patch+json")
        .body(
            json!({"patches": [{"op": "replace", "path": "/gender", "value": "male"}]}).to_string(),
        );
    Answer::of(change).await.refused(404, "RESOURCE_NOT_FOUND");
    // The south's credentials are none in the north.
    let answer = Answer::of(ask("north.example", &here, Method::GET, &path)).await;
    answer.refused(401, "ACCESS_DENIED");
    // A tenant has its own word on whether it is served.
    let elsewhere = token(west, Role::Clinician).await;
    let answer = Answer::of(ask("west.example", &elsewhere, Method::GET, &path)).await;
    answer.refused(404, "UNSUPPORTED_SERVICE");
    server.stop().await.expect("a clean end");
}
