//! The administrator's page: who has a way in, and taking it away at once.

use axum::http::StatusCode;
use trust::identity::{NewSystem, SystemKeys};
use trust::{Agent, Role};

use crate::world::{Browser, PASSWORD, TENANT, World, check_html};

const PAGE: &str = "/console/accounts";

/// The address of a form on the page that ends with `deed` and stands in the row of `name`.
async fn form_of(ada: &mut Browser, name: &str, deed: &str) -> String {
    let page = ada.get(PAGE).await;
    let row = page
        .body
        .split("<tr ")
        .skip(1)
        .find(|row| row.contains(name))
        .unwrap_or_else(|| panic!("no row of {name}: {}", page.body));
    row.split("action=\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .find(|path| path.ends_with(deed))
        .unwrap_or_else(|| panic!("no {deed} of {name}: {row}"))
        .to_owned()
}

fn is_signed_out(page: &crate::world::Page) -> bool {
    page.status == StatusCode::SEE_OTHER && page.location().starts_with("/sign-in")
}

// Proves: 45 CFR 164.308(a)(3)(ii)(C)
#[tokio::test(flavor = "multi_thread")]
async fn a_closed_account_is_out_at_once_and_can_come_back() {
    let world = World::new().await;
    let mut devi = world.staff("devi").await;
    devi.get("/console/worklist").await.shows("Worklist");
    let mut ada = world.staff("ada").await;
    let page = ada.get(PAGE).await;
    page.shows("6 accounts");
    page.shows("Devi Rao");
    check_html(PAGE, &page.body);
    assert_eq!(ada.get("/").await.location(), PAGE);

    let close = form_of(&mut ada, "Devi Rao", "/close").await;
    let done = ada.act(PAGE, &close, &[]).await;
    assert!(is_signed_out(&devi.get("/console/worklist").await));
    let said = ada.get(done.location()).await;
    said.shows("Account closed");
    check_html(PAGE, &said.body);
    let mut browser = world.browser();
    browser.get("/sign-in").await;
    browser
        .submit("/sign-in", &[("user", "devi"), ("password", PASSWORD)])
        .await
        .shows("User name or password is wrong.");
    ada.get("/console/accounts?state=closed")
        .await
        .shows("1 account.");
    let open = ada
        .get("/console/accounts?state=open&role=coordinator")
        .await;
    open.shows("1 account.");
    open.shows("Carla Ortiz");
    assert!(!open.has("Devi Rao"));
    ada.get("/console/accounts?state=closed&role=coordinator")
        .await
        .shows("No account fits");

    // Undone with one click, on the page that says it.
    let undo = form_of(&mut ada, "Devi Rao", "/reopen").await;
    assert!(said.has(&undo));
    ada.act(PAGE, &undo, &[("back", "/console/accounts?role=clinician")])
        .await;
    assert!(is_signed_out(&devi.get("/console/worklist").await));
    world.staff("devi").await;

    // Both are in the audit, with the account.
    let mut priya = world.staff("priya").await;
    let audit = priya.get("/console/audit?action=110137").await;
    audit.shows("Ada Berg (administrator)");
    audit.shows("was closed");
    audit.shows("was opened");
    priya
        .get("/console/audit?action=accounts")
        .await
        .shows("looked at the accounts");
}

// Proves: 45 CFR 164.308(a)(4)(ii)(C)
#[tokio::test(flavor = "multi_thread")]
async fn sessions_end_and_factors_are_reset_with_a_reason() {
    let world = World::new().await;
    let mut devi = world.staff("devi").await;
    let mut ada = world.staff("ada").await;
    let end = form_of(&mut ada, "Devi Rao", "/end-sessions").await;
    let done = ada.act(PAGE, &end, &[]).await;
    ada.get(done.location())
        .await
        .shows("Signed out everywhere");
    assert!(is_signed_out(&devi.get("/console/worklist").await));

    let mut devi = world.staff("devi").await;
    let reset = form_of(&mut ada, "Devi Rao", "/reset").await;
    let without = ada.act(PAGE, &reset, &[("reason", "  ")]).await;
    assert_eq!(without.status, StatusCode::BAD_REQUEST);
    assert!(without.has("Say why"));
    devi.get("/console/worklist").await.shows("Worklist");
    ada.act(
        PAGE,
        &reset,
        &[("reason", "telephone lost, seen in person")],
    )
    .await;
    assert!(is_signed_out(&devi.get("/console/worklist").await));
    let mut browser = world.browser();
    browser.get("/sign-in").await;
    browser
        .submit("/sign-in", &[("user", "devi"), ("password", PASSWORD)])
        .await
        .shows("Set up your second factor");
    let mut priya = world.staff("priya").await;
    priya
        .get("/console/audit?action=110137")
        .await
        .shows("telephone lost, seen in person");
}

// Proves: 45 CFR 164.308(a)(3)(ii)(C)
#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_revoked_for_good() {
    let world = World::new().await;
    let identity = world.trust.identity();
    let operator = Agent::system(TENANT, "demo");
    let token = identity
        .create_client(&operator, "Laboratory West", Role::Client)
        .await
        .unwrap();
    identity.bearer(&token).await.unwrap();
    let mut ada = world.staff("ada").await;
    let revoke = form_of(&mut ada, "Laboratory West", "/revoke").await;
    let without = ada.act(PAGE, &revoke, &[]).await;
    assert_eq!(without.status, StatusCode::BAD_REQUEST);
    identity.bearer(&token).await.unwrap();
    let done = ada
        .act(PAGE, &revoke, &[("reason", "the token leaked")])
        .await;
    assert!(identity.bearer(&token).await.is_err());
    let page = ada.get(done.location()).await;
    page.shows("Token revoked");
    page.shows("Revoked</span>");
    assert!(!page.has(&revoke), "it can't be revoked twice");
    check_html(PAGE, &page.body);
}

// Proves: 45 CFR 164.308(a)(4)(ii)(B)
#[tokio::test(flavor = "multi_thread")]
async fn systems_with_keys_are_registered_approved_and_turned_down() {
    let world = World::new().await;
    let coordinate = "A".repeat(64);
    let keys = format!(
        r#"{{"keys":[{{"kty":"EC","kid":"k","crv":"P-384","x":"{coordinate}","y":"{coordinate}"}}]}}"#
    );
    let mut ada = world.staff("ada").await;
    let to = "/console/clients";
    let fields = |name: &'static str, scopes: &'static str| {
        [
            ("name", name),
            ("scopes", scopes),
            ("keys", keys.as_str()),
            ("purposes", "TREAT"),
            ("purposes", "HRESCH"),
        ]
    };
    for wrong in [
        fields("", "system/*.rs"),
        fields("Lab", "patient/*.rs"),
        fields("Lab", ""),
    ] {
        let page = ada.act(PAGE, to, &wrong).await;
        assert_eq!(page.status, StatusCode::BAD_REQUEST, "{wrong:?}");
    }
    // What for has to be said, and nobody's system has emergencies.
    for (purposes, words) in [
        ("", "say what the system asks for"),
        ("ETREAT", "no system can ask for ETREAT"),
    ] {
        let mut wrong = fields("Lab", "system/*.rs");
        (wrong[3], wrong[4]) = (("purposes", purposes), ("purposes", ""));
        let page = ada.act(PAGE, to, &wrong).await;
        assert_eq!(page.status, StatusCode::BAD_REQUEST, "{purposes}");
        assert!(page.has(words), "{}", page.body);
    }
    let done = ada
        .act(PAGE, to, &fields("Laboratory West", "system/Patient.read"))
        .await;
    let page = ada.get(done.location()).await;
    page.shows("Its client_id is");
    page.shows("system/Patient.rs");
    check_html(PAGE, &page.body);
    page.shows("For treatment, research");
    let purposes = form_of(&mut ada, "Laboratory West", "/purposes").await;
    let none = ada.act(PAGE, &purposes, &[("contract", "signed")]).await;
    assert_eq!(none.status, StatusCode::BAD_REQUEST);
    let fewer = [("purposes", "HPAYMT"), ("contract", "none")];
    let changed = ada.act(PAGE, &purposes, &fewer).await;
    let page = ada.get(changed.location()).await;
    page.shows("Purposes registered");
    page.shows("For payment");
    page.shows("No contract: nothing is disclosed to it");
    check_html(PAGE, &page.body);
    form_of(&mut ada, "Laboratory West", "/revoke").await;

    let identity = world.trust.identity();
    let ask = async |name: &str| {
        let system = NewSystem {
            name: name.to_owned(),
            keys: SystemKeys::Set(keys.clone()),
            scopes: "system/Patient.rs system/Observation.rs".to_owned(),
        };
        identity.ask_to_register(TENANT, &system).await.unwrap()
    };
    ask("Registry <b>North</b>").await.unwrap();
    ask("Registry South").await.unwrap();
    // Of an application it is seen where people are sent, before it is let in.
    let app = trust::identity::NewApp {
        name: "Growth Chart".to_owned(),
        redirect_uris: vec!["https://app.example.org/back".to_owned()],
        launch_uri: Some("https://app.example.org/launch".to_owned()),
        scopes: "launch patient/*.rs".to_owned(),
        keys: SystemKeys::None,
    };
    identity.ask_to_register_app(TENANT, &app).await.unwrap();
    let page = ada.get(PAGE).await;
    page.shows("https://app.example.org/back");
    page.shows("opens at <span class=\"mono\">https://app.example.org/launch</span>");
    let turn_down = form_of(&mut ada, "Growth Chart", "/revoke").await;
    ada.act(PAGE, &turn_down, &[("reason", "nobody knows it")])
        .await;
    let page = ada.get(PAGE).await;
    page.shows("Waits for approval");
    assert!(!page.has("<b>North</b>"), "a stranger's words are words");
    check_html(PAGE, &page.body);
    let approve = form_of(&mut ada, "North", "/approve").await;
    let wrong = ada.act(PAGE, &approve, &[("scopes", "user/*.rs")]).await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
    let approved = [
        ("scopes", "system/Patient.r"),
        ("contract", "signed"),
        ("purposes", "HOPERAT"),
    ];
    ada.act(PAGE, &approve, &approved).await;
    let page = ada.get(PAGE).await;
    page.shows("system/Patient.r<");
    page.shows("For operations");
    page.shows("Has a contract");
    assert!(!page.has(&approve), "it can't be approved twice");
    let turn_down = form_of(&mut ada, "Registry South", "/revoke").await;
    ada.act(PAGE, &turn_down, &[("reason", "nobody knows them")])
        .await;
    assert!(!ada.get(PAGE).await.has("Waits for approval"));
    let mut carla = world.staff("carla").await;
    let csrf = carla.get("/console/patients").await.field("csrf");
    for path in [to, approve.as_str()] {
        let page = carla
            .post(path, &[("csrf", csrf.as_str()), ("scopes", "system/*.rs")])
            .await;
        assert_eq!(page.status, StatusCode::FORBIDDEN, "{path}");
    }
}

// Proves: 45 CFR 164.308(a)(3)(ii)(C)
#[tokio::test(flavor = "multi_thread")]
async fn a_patient_is_shut_out_of_the_portal() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let mut own = world.patients_browser(&ida).await;
    own.get("/portal").await.shows("Ida");
    let mut ada = world.staff("ada").await;
    for nobody in ["", "nobody", "<b>"] {
        let page = ada.act(PAGE, PAGE, &[("patient", nobody)]).await;
        assert_eq!(page.status, StatusCode::BAD_REQUEST, "{nobody}");
    }
    let done = ada.act(PAGE, PAGE, &[("patient", &ida)]).await;
    assert!(is_signed_out(&own.get("/portal").await));
    let page = ada.get(done.location()).await;
    page.shows("Portal closed for this patient");
    page.shows("1 account.");
    assert!(
        !page.has("Ida Berg"),
        "administrators see no patients' names"
    );
    let operator = Agent::system(TENANT, "demo");
    let secret = world
        .trust
        .identity()
        .make_link(&operator, &ida, 3600, true)
        .await
        .unwrap();
    let link = format!("/sign-in/link/{secret}");
    own.get(&link).await;
    own.submit(&link, &[("birth_date", "1941-03-07")])
        .await
        .shows("The date does not match, or the link is too old");
    let reopen = form_of(&mut ada, "Patient …", "/reopen").await;
    ada.act(PAGE, &reopen, &[]).await;
    let done = own.submit(&link, &[("birth_date", "1941-03-07")]).await;
    assert_eq!(done.location(), "/portal");
}

// Proves: 45 CFR 164.308(a)(3)(ii)(A)
#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_takes_anything_away_nor_an_administrator_their_own() {
    let world = World::new().await;
    let mut ada = world.staff("ada").await;
    let close = form_of(&mut ada, "Devi Rao", "/close").await;
    let page = ada.get(PAGE).await;
    let own_row = page
        .body
        .split("<tr ")
        .skip(1)
        .find(|row| row.contains("Ada Berg"))
        .unwrap();
    assert!(!own_row.contains("/close\"") && !own_row.contains("/reset\""));
    let own_id = own_row
        .split("data-key=\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap()
        .to_owned();
    let page = ada.act(PAGE, &format!("{PAGE}/{own_id}/close"), &[]).await;
    assert_eq!(page.status, StatusCode::BAD_REQUEST);
    assert!(page.has("nobody closes or opens their own account"));
    for user in ["carla", "devi", "priya", "sam"] {
        let mut browser = world.staff(user).await;
        let csrf = browser.get("/console/sign-in").await.field("csrf");
        for path in [close.as_str(), PAGE, "/console/clients/x/revoke"] {
            let fields = [("csrf", csrf.as_str()), ("reason", "x"), ("patient", "x")];
            let page = browser.post(path, &fields).await;
            assert_eq!(page.status, StatusCode::FORBIDDEN, "{user} at {path}");
        }
    }
    let mut devi = world.staff("devi").await;
    devi.get("/console/worklist").await.shows("Worklist");
}

/// Who signs in at the organisation's provider needs no password here.
#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_switched_off_and_on() {
    let world = World::new().await;
    let identity = world.trust.identity();
    let operator = Agent::system(TENANT, "command-line");
    let devi = identity.account_named(&operator, "devi").await;
    let devi = devi.unwrap().unwrap();
    let (purpose, action) = (trust::Purpose::Administration, trust::Action::Administer);
    let target = trust::Target::default();
    let permit = world.trust.decide(&operator, purpose, action, target, "");
    let permit = permit.await.unwrap();
    let mut ada = world.staff("ada").await;
    // There is no way in but by it yet.
    assert!(!ada.get(PAGE).await.has("/password-off"));
    let linked = identity.link_account(&permit, &devi, "https://login.example", "7");
    linked.await.unwrap();
    let mut signed_in = world.staff("devi").await;
    let off = form_of(&mut ada, "Devi Rao", "/password-off").await;
    let done = ada.act(PAGE, &off, &[]).await;
    let said = ada.get(done.location()).await;
    said.shows("Password switched off");
    check_html(PAGE, &said.body);
    assert!(is_signed_out(&signed_in.get("/console/worklist").await));
    let mut browser = world.browser();
    browser.get("/sign-in").await;
    browser
        .submit("/sign-in", &[("user", "devi"), ("password", PASSWORD)])
        .await
        .shows("User name or password is wrong.");
    let on = form_of(&mut ada, "Devi Rao", "/password-on").await;
    let done = ada.act(PAGE, &on, &[]).await;
    ada.get(done.location()).await.shows("Password switched on");
    world.staff("devi").await;
}
