//! Visits by video through the server: a patient joins by the portal, and the place where visits are held, with libraries
//! that nobody here wrote, checks and redeems the link. That the rest of what can be in the way is in the tests of the
//! pages.

use cairn::ServerOptions;
use cairn::store::{self, TENANT};
use exchange::TelehealthPlace;
use ledger::Clock as _;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;
use trust::Role;
use trust::conventions::by_video;

use crate::apps::{Browser, Page, Staff};
use crate::clients::{peer, said, script};
use crate::house::{House, house, house_with, put, token as token_of};
use crate::patience::until;
use crate::policies;
use crate::routes::person_of;
use crate::tenants::{NORTH, SOUTH, Two};

const DOOR: &str = "/channels/telehealth/redeem";
const SECRET: &str = "a secret that nobody guesses";
const JOIN: &str = "https://video.example.org/join";

fn place() -> TelehealthPlace {
    TelehealthPlace {
        join_url: JOIN.to_owned(),
        audience: None,
        partner: "video".to_owned(),
        secret: SECRET.to_owned(),
    }
}

fn folder() -> TempDir {
    let folder = policies::folder();
    let entry = "[[partner]]\nname = 'video'\ntitle = 'Video'\nbase = 'https://video.example.org'\n\
                 contract = 'baa'\nuntil = '2099-12-31'\ndata = ['health']\npurposes = ['TREAT']\n";
    policies::put(&folder, "partners.toml", entry);
    folder
}

fn with_visits(options: &mut ServerOptions, folder: &TempDir) {
    options.telehealth = Some(place());
    options.policy_folder = Some(folder.path().to_owned());
}

/// A patient, and a visit by video at noon.
async fn furnished(house: &House) {
    put(
        house,
        &json!({"resourceType": "Patient", "id": "ann", "birthDate": "1950-02-03", "name": [{"family": "Quibblewick"}]}),
    )
    .await;
    put(
        house,
        &json!({
            "resourceType": "Appointment", "id": "visit", "status": "booked", "description": "Your check-up",
            "extension": by_video(), "start": "2026-03-01T12:00:00Z", "end": "2026-03-01T12:30:00Z",
            "participant": [{"actor": {"reference": "Patient/ann"}, "status": "accepted"}]
        }),
    )
    .await;
}

async fn join(browser: &mut Browser<'_>) -> Page {
    let page = browser.get("/portal/visits/visit").await;
    page.shows("Join the visit</button>");
    let csrf = page.field("csrf");
    let path = "/portal/visits/visit/join";
    let led = browser.post(path, &[("csrf", &csrf)]).await;
    assert_eq!(led.status, StatusCode::OK, "{}", led.body);
    assert!(
        led.location.starts_with(&format!("{JOIN}#token=")),
        "{}",
        led.location
    );
    for detail in ["Quibblewick", "ann", "Your check-up"] {
        assert!(!led.location.contains(detail), "{detail}: {}", led.location);
    }
    led
}

fn token(page: &Page) -> &str {
    page.location.split("#token=").nth(1).expect("a token")
}

async fn redeem(house: &House, secret: Option<&str>, body: String) -> (StatusCode, Value) {
    let mut asked = house.bare(Method::POST, DOOR);
    if let Some(secret) = secret {
        asked = asked.bearer_auth(secret);
    }
    let asked = asked.header("content-type", "application/x-www-form-urlencoded");
    let answer = asked.body(body).send().await.expect("an answer");
    let status = answer.status();
    let text = answer.text().await.expect("text");
    (status, serde_json::from_str(&text).unwrap_or(Value::Null))
}

#[tokio::test(flavor = "multi_thread")]
async fn authlib_checks_and_redeems_a_link_once() {
    let folder = folder();
    let house = house_with(|options| with_visits(options, &folder)).await;
    furnished(&house).await;
    // The keys are there before anybody joins, so that nobody keeps an empty set.
    let keys = house.bare(Method::GET, "/oauth/keys").send().await;
    let keys: Value = keys.expect("an answer").json().await.expect("JSON");
    assert_eq!(keys["keys"].as_array().map(Vec::len), Some(1), "{keys}");
    let mut ann = Browser::patient(&house, "ann", "1950-02-03").await;
    let led = join(&mut ann).await;
    let mut command = Command::new(peer("oauth/bin/python"));
    command
        .arg(script("visit_authlib.py"))
        .arg(house.url("/fhir/r4"))
        .arg(house.url(DOOR))
        .arg(SECRET)
        .arg(&led.location);
    let told: Value = serde_json::from_str(&said(&mut command).await).expect("JSON");
    assert_eq!(told["role"], "guest");
    let now_s = ledger::SystemClock.now_ms() / 1000;
    assert!(told["exp"].as_u64().expect("a time") >= now_s, "{told}");

    // A clinician holds it: another person, in the same room.
    let staff = Staff::new(&house, "devi", Role::Clinician).await;
    let mut devi = Browser::new(&house);
    devi.staff(&staff, "/sign-in").await;
    let page = devi.get("/console/patients/ann").await;
    page.shows("Join the visit</button>");
    let csrf = page.field("csrf");
    let path = "/console/patients/ann/visits/visit/join";
    let led = devi.post(path, &[("csrf", &csrf)]).await;
    let (status, host) = redeem(&house, Some(SECRET), format!("token={}", token(&led))).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        (&host["active"], &host["role"]),
        (&json!(true), &json!("host"))
    );
    assert_eq!(host["room"], told["room"]);
    assert_ne!(host["sub"], told["sub"]);
    house.end().await;
}

/// The whole way in a browser: past the policy that lets no form of ours lead elsewhere, with the link in no line that a
/// server writes down.
#[tokio::test(flavor = "multi_thread")]
async fn a_browser_goes_in_and_comes_again() {
    let folder = folder();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let port = listener
        .expect("a port")
        .local_addr()
        .expect("an address")
        .port();
    let house = house_with(|options| {
        with_visits(options, &folder);
        options.telehealth = Some(TelehealthPlace {
            join_url: format!("http://127.0.0.1:{port}/join"),
            ..place()
        });
    })
    .await;
    furnished(&house).await;
    put(
        &house,
        &json!({
            "resourceType": "Appointment", "id": "early", "status": "booked", "description": "Your next check-up",
            "extension": by_video(), "start": "2026-03-08T12:00:00Z", "end": "2026-03-08T12:30:00Z",
            "participant": [{"actor": {"reference": "Patient/ann"}, "status": "accepted"}]
        }),
    )
    .await;
    let identity = house.server.trust().identity();
    let link = identity
        .make_link(&crate::apps::agent(Role::Coordinator), "ann", 3600, false)
        .await
        .expect("a link");
    let staff = Staff::new(&house, "devi", Role::Clinician).await;
    let mut devi = Browser::new(&house);
    devi.staff(&staff, "/sign-in").await;
    let cookies = devi.cookies.iter().filter(|(name, _)| name == "cairn");
    let cookie = cookies.map(|(_, value)| value.clone()).collect::<String>();
    let mut command = Command::new("node");
    command
        .arg(script("visit_in_browser.mjs"))
        .arg(peer("npm/node_modules/playwright-core"))
        .arg(house.url(""))
        .arg(house.url(&format!("/sign-in/link/{link}")))
        .args(["1950-02-03", &port.to_string(), SECRET, &cookie]);
    assert_eq!(said(&mut command).await, "fine");
    house.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jose_checks_a_link_by_the_published_keys() {
    let folder = folder();
    let house = house_with(|options| with_visits(options, &folder)).await;
    furnished(&house).await;
    let mut ann = Browser::patient(&house, "ann", "1950-02-03").await;
    let led = join(&mut ann).await;
    let mut command = Command::new("node");
    command
        .arg(script("visit_jose.mjs"))
        .arg(peer("oauth-npm/node_modules/jose/dist/webapi/index.js"))
        .arg(house.url("/fhir/r4"))
        .arg(&led.location)
        .arg("https://video.example.org");
    assert_eq!(said(&mut command).await, "fine");
    house.end().await;
}

// Proves: 45 CFR 164.312(d)
#[tokio::test(flavor = "multi_thread")]
async fn links_are_redeemed_by_who_shows_the_secret_and_stay_used() {
    let folder = folder();
    let house = house_with(|options| with_visits(options, &folder)).await;
    furnished(&house).await;
    let mut ann = Browser::patient(&house, "ann", "1950-02-03").await;
    let led = join(&mut ann).await;
    let form = || format!("token={}", token(&led));
    for wrong in [None, Some("x"), Some(""), Some(house.token.as_str())] {
        let (status, _) = redeem(&house, wrong, form()).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{wrong:?}");
    }
    let (status, _) = redeem(&house, Some(SECRET), "link=x".to_owned()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let (status, _) = redeem(&house, Some(SECRET), "x".repeat(20_000)).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    let (status, told) = redeem(&house, Some(SECRET), "token=x".to_owned()).await;
    assert_eq!(
        (status, told),
        (StatusCode::OK, json!({"active": false, "why": "unknown"}))
    );
    let (_, told) = redeem(&house, Some(SECRET), form()).await;
    assert_eq!(told["active"], true, "{told}");
    // It opens nothing else.
    let other = house.bare(Method::GET, "/fhir/r4/Patient/ann");
    let other = other.bearer_auth(SECRET).send().await.expect("an answer");
    assert_eq!(other.status(), StatusCode::UNAUTHORIZED);

    // Another process over the same store knows that it was used.
    let House {
        server,
        clock,
        http,
        token: client,
        folder: data,
    } = house;
    let address = server.address();
    server.stop().await.expect("a clean end");
    let key = store::root_key_path(data.path());
    let again = store::open(
        store::in_folder(data.path()),
        &key,
        std::sync::Arc::new(clock.clone()),
        16 << 20,
    );
    let mut options = ServerOptions::new(again.await.expect("a store"), TENANT);
    with_visits(&mut options, &folder);
    options.listen = address;
    let server = cairn::Server::start(options).await.expect("a server");
    let house = House {
        server,
        clock,
        http,
        token: client,
        folder: data,
    };
    let (_, told) = redeem(&house, Some(SECRET), form()).await;
    assert_eq!(told, json!({"active": false, "why": "used"}));
    house.end().await;
}

#[tokio::test]
async fn where_no_visits_are_held_nothing_is_redeemed() {
    let house = house().await;
    let (status, _) = redeem(&house, Some(SECRET), "token=x".to_owned()).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    house.end().await;
}

/// What one organisation's place is let do opens nothing of another's, and the server's own is nobody's of several.
#[tokio::test(flavor = "multi_thread")]
async fn each_tenant_has_a_place_of_its_own_or_none() {
    let folder = folder();
    let own = tempfile::tempdir().expect("a folder");
    std::fs::write(
        own.path().join("secret"),
        "the north's own secret, no other's\n",
    )
    .expect("written");
    let text = "telehealth_join_url = 'https://north-video.example/join'\ntelehealth_partner = 'video'\n\
                telehealth_secret_file = 'secret'\n";
    std::fs::write(own.path().join("north.toml"), text).expect("written");
    let two = Two::with(|options| {
        with_visits(options, &folder);
        options.tenants_folder = Some(own.path().to_owned());
    })
    .await;
    let asked = async |host: &str, secret: &str| {
        let url = format!("http://{}{DOOR}", two.server.address());
        let asked = two.http.post(url).header("host", host).bearer_auth(secret);
        let asked = asked.header("content-type", "application/x-www-form-urlencoded");
        let answer = asked.body("token=x").send().await.expect("an answer");
        answer.status().as_u16()
    };
    two.until(NORTH, "/fhir/r4/metadata", 200).await;
    let norths = "the north's own secret, no other's";
    assert_eq!(asked(NORTH, norths).await, 200);
    assert_eq!(asked(NORTH, SECRET).await, 401);
    assert_eq!(asked(SOUTH, SECRET).await, 404);
    assert_eq!(asked(SOUTH, norths).await, 404);
    two.end().await;
}

/// A link of one organisation is none of another's, though both send people to one place and show it the same secret.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_of_one_organisation_opens_no_visit_of_another() {
    let folder = folder();
    let own = tempfile::tempdir().expect("a folder");
    std::fs::write(own.path().join("secret"), format!("{SECRET}\n")).expect("written");
    for name in ["north.toml", "south.toml"] {
        let text = format!(
            "telehealth_join_url = '{JOIN}'\ntelehealth_partner = 'video'\ntelehealth_secret_file = 'secret'\n"
        );
        std::fs::write(own.path().join(name), text).expect("written");
    }
    let two = Two::with(|options| {
        with_visits(options, &folder);
        options.tenants_folder = Some(own.path().to_owned());
    })
    .await;
    two.until(NORTH, "/fhir/r4/metadata", 200).await;
    let now_ms = ledger::SystemClock.now_ms();
    let at = |ms| fhir::date::instant(ms);
    let client = two.token(two.north, Role::Client).await;
    let patient = json!({"resourceType": "Patient", "id": "p", "name": [{"family": "Northern"}]});
    two.put(NORTH, &client, &patient).await;
    let visit = json!({
        "resourceType": "Appointment", "id": "v", "status": "booked", "extension": by_video(),
        "start": at(now_ms - 60_000), "end": at(now_ms + 1_800_000),
        "participant": [{"actor": {"reference": "Patient/p"}, "status": "accepted"}]
    });
    two.put(NORTH, &client, &visit).await;
    let devi = person_of(&two.trust(two.north), two.north, Role::Clinician).await;
    let path = "/console/patients/p/visits/v/join";
    let led = two.ask(NORTH, &Method::POST, path, &devi).await;
    let refresh = led.headers.iter().find(|(name, _)| name == "refresh");
    let (_, address) = refresh.unwrap_or_else(|| panic!("{led:?}"));
    let link = address.split("#token=").nth(1).expect("a token");
    let redeemed = async |host: &str| -> Value {
        let url = format!("http://{}{DOOR}", two.server.address());
        let asked = two.http.post(url).header("host", host).bearer_auth(SECRET);
        let asked = asked.header("content-type", "application/x-www-form-urlencoded");
        let answer = asked.body(format!("token={link}")).send().await;
        let answer = answer.expect("an answer").text().await.expect("text");
        serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{answer}"))
    };
    let foreign = json!({"active": false, "why": "unknown"});
    assert_eq!(redeemed(SOUTH).await, foreign);
    // It was good, and still is where it was made.
    assert_eq!(redeemed(NORTH).await["active"], true);
    two.end().await;
}

const JOURNEY: &str = "name: video-check
title: Check-up by video
owner: Team
purpose: TREAT
at_most: 30d
entry:
  event: Encounter
  where: status = 'finished'
  anchors: {discharge: period.end}
  within: 9d
  per: event
exits:
  death: {title: Died, event: Patient, where: deceased.exists()}
  consent: {title: Consent withdrawn, consent: withdrawn}
start: visit
steps:
  visit:
    title: Check-up by video
    book:
      title: Your check-up
      by: video
      time: discharge + 2d at 12:00
      minutes: 20
      book_by: discharge + 1d at 12:00
    next: end
    not_booked: end
";

/// A journey proposes a visit by video, the patient accepts it, and joins when it is time.
#[tokio::test(flavor = "multi_thread")]
async fn a_journey_s_visit_by_video_is_joined() {
    let folder = folder();
    let house = house_with(|options| with_visits(options, &folder)).await;
    let squad = token_of(&house.server, Role::Squad).await;
    let asked = house.bare(Method::POST, "/api/journeys");
    let asked = asked.bearer_auth(&squad).body(JOURNEY).send().await;
    let asked = asked.expect("an answer");
    let (status, said) = (asked.status(), asked.text().await.expect("text"));
    assert!(status.is_success(), "{status} {said}");
    put(
        &house,
        &json!({"resourceType": "Patient", "id": "ann", "birthDate": "1950-02-03", "name": [{"family": "Quibblewick"}]}),
    )
    .await;
    put(
        &house,
        &json!({"resourceType": "Encounter", "id": "stay", "status": "finished", "subject": {"reference": "Patient/ann"},
            "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
            "period": {"start": "2026-02-20T10:00:00Z", "end": "2026-03-01T08:00:00Z"}}),
    )
    .await;
    let mut ann = Browser::patient(&house, "ann", "1950-02-03").await;
    until("a visit is proposed", async || {
        house.clock.advance(10);
        proposed(&house).await.is_some()
    })
    .await;
    let visit = proposed(&house).await.expect("a visit");
    assert_eq!(visit["extension"], by_video());
    let here = format!("/portal/visits/{}", visit["id"].as_str().expect("an id"));
    let page = ann.get(&here).await;
    page.shows("You can join here once it is booked");
    let csrf = page.field("csrf");
    let accepted = ann
        .post(&here, &[("csrf", &csrf), ("answer", "accept")])
        .await;
    assert_eq!(
        accepted.location, "/portal?said=booked",
        "{}",
        accepted.body
    );
    ann.get(&here)
        .await
        .shows("You can join from Tuesday 3 March, 11:45");
    house.clock.set(crate::house::NOON_MS + 2 * 86_400_000);
    let page = ann.get(&here).await;
    page.shows("You can join until Tuesday 3 March, 12:20");
    let csrf = page.field("csrf");
    let led = ann.post(&format!("{here}/join"), &[("csrf", &csrf)]).await;
    let (_, told) = redeem(&house, Some(SECRET), format!("token={}", token(&led))).await;
    assert_eq!(told["active"], true, "{told}");
    house.end().await;
}

async fn proposed(house: &House) -> Option<Value> {
    let path = "/fhir/r4/Appointment?patient=Patient/ann";
    let found = house.asked(Method::GET, path).send().await;
    let found: Value = found.expect("an answer").json().await.expect("JSON");
    found["entry"].get(0).map(|entry| entry["resource"].clone())
}
