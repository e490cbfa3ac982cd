//! Codes, tokens, clients with keys, and clients that ask to be registered.

use super::*;
use crate::clients::{peer, script};

// Proves: 45 CFR 164.312(d)
#[tokio::test]
async fn codes_and_refresh_tokens_work_once_for_their_client() {
    let house = house().await;
    furnished(&house).await;
    let (client, other) = (app(&house).await, app(&house).await);
    let mut ann = Browser::patient(&house, "ann", "1950-02-03").await;
    let pairs = request(&house, &client, "offline_access patient/*.rs", &[]);
    let first = code(&mut ann, &pairs).await;
    let ask = async |changes: &[(&str, &str)]| {
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("client_id", client.as_str()),
            ("code", first.as_str()),
            ("redirect_uri", BACK),
            ("code_verifier", VERIFIER),
        ];
        for (name, value) in changes {
            form.retain(|(known, _)| known != name);
            if !value.is_empty() {
                form.push((name, value));
            }
        }
        post(&house, "/oauth/token", &form).await
    };
    let challenge = s256(VERIFIER);
    for (changes, status, error) in [
        ([("code_verifier", "")], 400, "invalid_request"),
        ([("code_verifier", "short")], 400, "invalid_grant"),
        (
            [("code_verifier", challenge.as_str())],
            400,
            "invalid_grant",
        ),
        (
            [("redirect_uri", "https://app.example.org/other")],
            400,
            "invalid_grant",
        ),
        ([("redirect_uri", "")], 400, "invalid_request"),
        ([("client_id", other.as_str())], 400, "invalid_grant"),
        ([("client_id", "nobody")], 401, "invalid_client"),
        ([("client_id", "")], 401, "invalid_client"),
        ([("client_secret", "x")], 401, "invalid_client"),
        ([("code", "c.nonsense")], 400, "invalid_grant"),
        (
            [("grant_type", "client_credentials")],
            401,
            "invalid_client",
        ),
        ([("grant_type", "password")], 400, "unsupported_grant_type"),
    ] {
        let answer = ask(&changes).await;
        assert_eq!(answer.status().as_u16(), status, "{changes:?}");
        assert_error(answer, status, error).await;
    }
    let told = tokens(ask(&[]).await).await;
    let token = text(&told, "access_token").to_owned();
    assert_eq!(
        get(&house, &token, "/fhir/r4/Patient/ann").await.status(),
        StatusCode::OK
    );
    // The code again: what came of it is over.
    assert_error(ask(&[]).await, 400, "invalid_grant").await;
    assert_outcome(
        get(&house, &token, "/fhir/r4/Patient/ann").await,
        401,
        "login",
    )
    .await;
    assert_error(
        refresh(&house, &client, text(&told, "refresh_token"), &[]).await,
        400,
        "invalid_grant",
    )
    .await;
    // At the same time: one at most, and then none.
    let both = code(&mut ann, &pairs).await;
    let (left, right) = tokio::join!(
        exchange(&house, &client, &both),
        exchange(&house, &client, &both)
    );
    assert!(!(left.status().is_success() && right.status().is_success()));

    let second = code(&mut ann, &pairs).await;
    let told = tokens(exchange(&house, &client, &second).await).await;
    let old = text(&told, "refresh_token").to_owned();
    assert_error(
        refresh(&house, &other, &old, &[]).await,
        400,
        "invalid_grant",
    )
    .await;
    for wide in [
        "patient/*.cruds",
        "user/*.rs",
        "offline_access patient/*.rs launch/patient",
        "nonsense",
    ] {
        assert_error(
            refresh(&house, &client, &old, &[("scope", wide)]).await,
            400,
            "invalid_scope",
        )
        .await;
    }
    let narrow = tokens(
        refresh(
            &house,
            &client,
            &old,
            &[("scope", "patient/Observation.rs")],
        )
        .await,
    )
    .await;
    assert_eq!(narrow["scope"], "patient/Observation.rs");
    assert_eq!(narrow["patient"], "ann");
    let token = text(&narrow, "access_token").to_owned();
    assert_outcome(
        get(&house, &token, "/fhir/r4/Patient/ann").await,
        403,
        "forbidden",
    )
    .await;
    assert_eq!(
        get(&house, &token, "/fhir/r4/Observation/lab-ann")
            .await
            .status(),
        StatusCode::OK
    );
    // The next one has all of it again; the one before it was used.
    let wide = tokens(refresh(&house, &client, text(&narrow, "refresh_token"), &[]).await).await;
    assert_eq!(wide["scope"], "offline_access patient/*.rs");
    assert_error(
        refresh(&house, &client, &old, &[]).await,
        400,
        "invalid_grant",
    )
    .await;
    assert_outcome(
        get(&house, text(&wide, "access_token"), "/fhir/r4/Patient/ann").await,
        401,
        "login",
    )
    .await;
    assert_error(
        refresh(&house, &client, text(&wide, "refresh_token"), &[]).await,
        400,
        "invalid_grant",
    )
    .await;
    // Given back: an access token by itself, a refresh token with all.
    let third = code(&mut ann, &pairs).await;
    let told = tokens(exchange(&house, &client, &third).await).await;
    let (token, renews) = (text(&told, "access_token"), text(&told, "refresh_token"));
    let give_back = async |client: &str, token: &str| {
        post(
            &house,
            "/oauth/revoke",
            &[("client_id", client), ("token", token)],
        )
        .await
        .status()
    };
    assert_eq!(give_back(&other, token).await, StatusCode::OK);
    assert_eq!(give_back(&other, renews).await, StatusCode::OK);
    assert_eq!(
        get(&house, token, "/fhir/r4/Patient/ann").await.status(),
        StatusCode::OK
    );
    assert_eq!(give_back(&client, token).await, StatusCode::OK);
    assert_eq!(
        get(&house, token, "/fhir/r4/Patient/ann").await.status(),
        StatusCode::UNAUTHORIZED
    );
    // An older one as well: it ends what came of it.
    let told = tokens(refresh(&house, &client, renews, &[]).await).await;
    assert_eq!(give_back(&client, renews).await, StatusCode::OK);
    assert_eq!(
        get(&house, text(&told, "access_token"), "/fhir/r4/Patient/ann")
            .await
            .status(),
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(give_back(&client, "nonsense").await, StatusCode::OK);
    house.end().await;
}

// Proves: 45 CFR 164.312(d)
#[tokio::test]
async fn an_app_with_a_key_proves_it_and_asks_what_its_tokens_are() {
    let house = house().await;
    furnished(&house).await;
    let signer = Signer::curve("key-1");
    let client = app_with(&house, SystemKeys::Set(signer.jwks()), BACK).await;
    let mut ann = Browser::patient(&house, "ann", "1950-02-03").await;
    let pairs = request(&house, &client, "offline_access patient/*.rs", &[]);
    let code = code(&mut ann, &pairs).await;
    assert_error(
        exchange(&house, &client, &code).await,
        401,
        "invalid_client",
    )
    .await;
    let number = std::cell::Cell::new(0);
    let proved = async |path: &str, form: &[(&str, &str)]| {
        number.set(number.get() + 1);
        let claims = json!({
            "iss": client, "sub": client, "aud": house.url("/oauth/token"),
            "exp": SystemClock.now_ms() / 1000 + 240, "jti": number.get().to_string(),
        });
        let proof = signer.sign(&signer.header(), &claims);
        let mut all = vec![
            (
                "client_assertion_type",
                "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            ),
            ("client_assertion", proof.as_str()),
        ];
        all.extend(form);
        post(&house, path, &all).await
    };
    let form = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("redirect_uri", BACK),
        ("code_verifier", VERIFIER),
    ];
    let mut named = form.to_vec();
    named.push(("client_id", "somebody-else"));
    assert_error(proved("/oauth/token", &named).await, 401, "invalid_client").await;
    let system = [
        ("grant_type", "client_credentials"),
        ("scope", "system/*.rs"),
    ];
    assert_error(
        proved("/oauth/token", &system).await,
        400,
        "unauthorized_client",
    )
    .await;
    let told = tokens(proved("/oauth/token", &form).await).await;
    let (token, renews) = (text(&told, "access_token"), text(&told, "refresh_token"));
    let asked = async |token: &str| -> Value {
        tokens(proved("/oauth/introspect", &[("token", token)]).await).await
    };
    for token in [token, renews] {
        let state = asked(token).await;
        assert_eq!(state["active"], true, "{state}");
        assert_eq!(
            (text(&state, "client_id"), text(&state, "patient")),
            (client.as_str(), "ann")
        );
        assert_eq!(state["scope"], "offline_access patient/*.rs");
    }
    for token in ["nonsense", &house.token] {
        assert_eq!(asked(token).await, json!({"active": false}));
    }
    let unproved = post(
        &house,
        "/oauth/introspect",
        &[("client_id", &client), ("token", token)],
    )
    .await;
    assert_error(unproved, 401, "invalid_client").await;
    let renewed = tokens(
        proved(
            "/oauth/token",
            &[("grant_type", "refresh_token"), ("refresh_token", renews)],
        )
        .await,
    )
    .await;
    assert_eq!(asked(renews).await, json!({"active": false}));
    assert_eq!(
        proved(
            "/oauth/revoke",
            &[("token", text(&renewed, "refresh_token"))]
        )
        .await
        .status(),
        StatusCode::OK
    );
    assert_eq!(asked(token).await, json!({"active": false}));
    house.end().await;
}

#[tokio::test]
async fn apps_ask_to_be_registered_and_are_told_what_there_is() {
    let house = house_with(|options| options.open_registration = true).await;
    let metadata = json!({
        "client_name": "Growth Chart",
        "redirect_uris": [BACK, "http://127.0.0.1/back"],
        "token_endpoint_auth_method": "none",
        "scope": "openid email launch/patient patient/*.rs",
    });
    let register = async |body: &Value| {
        let request = house
            .bare(Method::POST, "/oauth/register")
            .header("content-type", "application/json");
        request
            .body(body.to_string())
            .send()
            .await
            .expect("an answer")
    };
    let with = |name: &str, value: Value| {
        let mut changed = metadata.clone();
        changed[name] = value;
        changed
    };
    for wrong in [
        with("redirect_uris", json!([])),
        with("redirect_uris", json!("https://app.example.org/back")),
        with("redirect_uris", json!(["http://app.example.org/back"])),
        with("redirect_uris", json!(["https://app.example.org/back#x"])),
        with("redirect_uris", json!(["javascript:alert(1)"])),
        with("grant_types", json!(["implicit"])),
        with("grant_types", json!(["refresh_token"])),
        with(
            "grant_types",
            json!(["authorization_code", "client_credentials"]),
        ),
        with("response_types", json!(["token"])),
        with("token_endpoint_auth_method", json!("client_secret_basic")),
        with("token_endpoint_auth_method", json!("private_key_jwt")),
        with("jwks", json!({"keys": []})),
        with("scope", json!("system/*.rs")),
        with("scope", json!("openid")),
        with("launch_uri", json!("http://app.example.org/launch")),
        with("launch_uri", json!("https://evil.example/launch")),
    ] {
        assert_error(register(&wrong).await, 400, "invalid_client_metadata").await;
    }
    let answer = register(&metadata).await;
    assert_eq!(answer.status(), StatusCode::CREATED);
    let told: Value = answer.json().await.expect("JSON");
    assert_eq!(told["token_endpoint_auth_method"], "none");
    assert_eq!(told["redirect_uris"], metadata["redirect_uris"]);
    // What was taken, without what there is none of here.
    assert_eq!(told["scope"], "launch/patient openid patient/*.rs");
    let id = text(&told, "client_id");
    furnished(&house).await;
    let mut ann = Browser::patient(&house, "ann", "1950-02-03").await;
    let pairs = request(
        &house,
        id,
        "patient/*.rs",
        &[("redirect_uri", "http://127.0.0.1:4567/back")],
    );
    assert_eq!(
        ann.get(&address(&pairs)).await.status,
        StatusCode::BAD_REQUEST
    );
    let trust = house.server.trust();
    let permit = administers(&house.server).await;
    let wrong = trust
        .identity()
        .approve_system(&permit, id, "system/*.rs")
        .await;
    assert!(wrong.is_err());
    trust
        .identity()
        .approve_system(&permit, id, "patient/Observation.rs")
        .await
        .expect("approved");
    // With less than it asked for, and at any port of the person's own machine.
    let page = ann.get(&address(&pairs)).await;
    assert_eq!(page.fields("agreed"), ["patient/Observation.rs"]);
    assert!(
        page.policy.contains("form-action 'self';"),
        "{}",
        page.policy
    );
    let done = agree(&mut ann, &page, &pairs, None).await;
    assert!(
        done.location
            .starts_with("http://127.0.0.1:4567/back?code="),
        "{}",
        done.location
    );
    let code = done.told("code").expect("a code");
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", id),
        ("code", code.as_str()),
        ("redirect_uri", "http://127.0.0.1:4567/back"),
        ("code_verifier", VERIFIER),
    ];
    let told = tokens(post(&house, "/oauth/token", &form).await).await;
    // Without a patient's context in its scopes it is told whose record it is all the same.
    assert_eq!(told["patient"], "ann");
    let token = text(&told, "access_token");
    assert_eq!(
        get(&house, token, "/fhir/r4/Observation/lab-ann")
            .await
            .status(),
        StatusCode::OK
    );
    trust
        .identity()
        .revoke_client(&permit, id, "no more")
        .await
        .expect("revoked");
    assert_outcome(
        get(&house, token, "/fhir/r4/Observation/lab-ann").await,
        401,
        "login",
    )
    .await;
    assert_eq!(
        ann.get(&address(&pairs)).await.status,
        StatusCode::BAD_REQUEST
    );
    house.end().await;
}

/// A client library that nobody here wrote says where to send the person, who agrees and is sent back.
async fn with_library(mut command: tokio::process::Command) {
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

    const OWN: &str = "http://127.0.0.1:49152/back";
    let house = house().await;
    context::visited(&house).await;
    let client = identity::app_of(&house, "http://127.0.0.1/back").await;
    let mut ann = Browser::patient(&house, "ann", "1950-02-03").await;
    let mut child = command
        .args([house.url("/fhir/r4").as_str(), &client, OWN])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("it starts");
    let mut said = BufReader::new(child.stdout.take().expect("its words")).lines();
    let mut told = child.stdin.take().expect("its ear");
    let run = async {
        let url = said.next_line().await.expect("text").expect("an address");
        let path = url.strip_prefix(&house.url("")).expect("ours").to_owned();
        let (_, query) = path.split_once('?').expect("a query");
        let pairs: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes())
            .into_owned()
            .collect();
        let mut page = ann.get(&path).await;
        if page.body.contains("Which visit is") {
            let csrf = page.field("csrf");
            let mut form = borrowed(&pairs);
            form.extend([
                ("csrf", csrf.as_str()),
                ("decision", "choose"),
                ("encounter", "new"),
            ]);
            page = ann.post("/oauth/authorize", &form).await;
        }
        let done = agree(&mut ann, &page, &pairs, None).await;
        assert!(
            done.location.starts_with(OWN),
            "{} {}",
            done.location,
            done.body
        );
        let line = format!("{}\n", done.location);
        told.write_all(line.as_bytes()).await.expect("it listens");
        drop(told);
        assert_eq!(
            said.next_line().await.expect("text").as_deref(),
            Some("fine")
        );
        assert!(child.wait().await.expect("it ends").success());
    };
    let patience = std::time::Duration::from_secs(120);
    tokio::time::timeout(patience, run)
        .await
        .expect("it ends in time");
    house.end().await;
}

#[tokio::test]
async fn openid_client_launches() {
    let mut command = tokio::process::Command::new("node");
    command
        .arg(script("launch_openid_client.mjs"))
        .arg(peer("oauth-npm/node_modules/openid-client/build/index.js"));
    with_library(command).await;
}

#[tokio::test]
async fn authlib_launches() {
    let mut command = tokio::process::Command::new(peer("oauth/bin/python"));
    command.arg(script("launch_authlib.py"));
    with_library(command).await;
}

#[tokio::test]
async fn fhirclient_launches() {
    let mut command = tokio::process::Command::new(peer("fhir/bin/python"));
    command.arg(script("launch_fhirclient.py"));
    with_library(command).await;
}

/// An application that keeps no secret need not name itself with a refresh token; one that has a key still proves
/// itself, and a name that is another's is none.
#[tokio::test]
async fn a_refresh_token_says_whose_it_is() {
    let house = house().await;
    furnished(&house).await;
    let (client, other) = (app(&house).await, app(&house).await);
    let mut ann = Browser::patient(&house, "ann", "1950-02-03").await;
    let pairs = request(&house, &client, "offline_access patient/*.rs", &[]);
    let code = code(&mut ann, &pairs).await;
    let told = tokens(exchange(&house, &client, &code).await).await;
    let refreshed = async |token: &str, more: &[(&str, &str)]| {
        let mut form = vec![("grant_type", "refresh_token"), ("refresh_token", token)];
        form.extend(more);
        post(&house, "/oauth/token", &form).await
    };
    let first = text(&told, "refresh_token");
    let wrong = refreshed(first, &[("client_id", &other)]).await;
    assert_error(wrong, 400, "invalid_grant").await;
    for token in ["r.1.a.1.b", "r.nonsense", "x", text(&told, "access_token")] {
        assert_error(refreshed(token, &[]).await, 401, "invalid_client").await;
    }
    let told = tokens(refreshed(first, &[]).await).await;
    // An older one ends the grant, whoever shows it.
    assert_error(refreshed(first, &[]).await, 400, "invalid_grant").await;
    let last = text(&told, "refresh_token");
    assert_error(refreshed(last, &[]).await, 401, "invalid_client").await;
    let signer = Signer::curve("key-1");
    let with_key = app_with(&house, SystemKeys::Set(signer.jwks()), BACK).await;
    let pairs = request(&house, &with_key, "offline_access patient/*.rs", &[]);
    let code = self::code(&mut ann, &pairs).await;
    let now_s = SystemClock.now_ms() / 1000;
    let assertion = signer.sign(
        &signer.header(),
        &json!({
            "iss": with_key, "sub": with_key, "aud": house.url("/oauth/token"), "exp": now_s + 240, "jti": "r",
        }),
    );
    let form = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("redirect_uri", BACK),
        ("code_verifier", VERIFIER),
        ("client_assertion_type", crate::smart::ASSERTION_TYPE),
        ("client_assertion", &assertion),
    ];
    let told = tokens(post(&house, "/oauth/token", &form).await).await;
    let token = text(&told, "refresh_token");
    assert_error(refreshed(token, &[]).await, 401, "invalid_client").await;
    house.end().await;
}

/// Runs one of the scripts with SMART's own library for pages, in Chromium, from another port than the server's.
async fn in_browser(
    name: &str,
    house: &House,
    client: &str,
    port: std::net::SocketAddr,
    more: [&str; 2],
) {
    let output = tokio::process::Command::new("node")
        .arg(script(name))
        .arg(peer("npm/node_modules/playwright-core"))
        .arg(peer("fhir-app-npm/package/build/fhir-client.pure.min.js"))
        .args([&house.url("/fhir/r4"), client, &port.port().to_string()])
        .args(more)
        .kill_on_drop(true)
        .output();
    let patience = std::time::Duration::from_secs(120);
    let output = tokio::time::timeout(patience, output).await;
    let output = output.expect("it ends in time").expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "fine");
}

#[tokio::test]
async fn fhirclient_launches_in_a_browser() {
    let house = house().await;
    context::visited(&house).await;
    let client = identity::app_of(&house, "http://127.0.0.1/app").await;
    let identity = house.server.trust().identity();
    let coordinator = agent(Role::Coordinator);
    let link = identity.make_link(&coordinator, "ann", 3600, false).await;
    let link = house.url(&format!("/sign-in/link/{}", link.expect("a link")));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let port = listener.expect("a port").local_addr().expect("an address");
    let more = [link.as_str(), "1950-02-03"];
    in_browser("launch_in_browser.mjs", &house, &client, port, more).await;
    house.end().await;
}

/// The same library where somebody of the staff opens the application from a patient's page.
#[tokio::test]
async fn fhirclient_is_opened_from_a_patient_s_page() {
    let house = house().await;
    context::visited(&house).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let port = listener.expect("a port").local_addr().expect("an address");
    let app = NewApp {
        name: "Growth Chart".to_owned(),
        redirect_uris: vec![format!("http://{port}/app")],
        launch_uri: Some(format!("http://{port}/launch")),
        scopes: "launch patient/*.rs".to_owned(),
        keys: SystemKeys::None,
    };
    let identity = house.server.trust().identity();
    let client = identity.register_app(&by(), &app).await.expect("an id");
    let dora = Staff::new(&house, "dora", Role::Clinician).await;
    let mut browser = Browser::new(&house);
    browser.staff(&dora, "/sign-in").await;
    let cookies = serde_json::to_string(&browser.cookies).expect("JSON");
    let more = [cookies.as_str(), "/console/patients/ann/apps"];
    in_browser("open_in_browser.mjs", &house, &client, port, more).await;
    house.end().await;
}
