//! Visits by video: the way in on the patient's page and in the timeline, who is let in and when, and links that are good
//! once.

use std::sync::Arc;

use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use exchange::{Admitted, Redeemed, Telehealth, TelehealthPlace, Turned};
use fhir::ResourceType;
use futures_util::future::join_all;
use serde_json::{Value, json};
use trust::conventions::by_video;
use trust::{Trust, TrustOptions};

use crate::world::{Browser, DAY_MS, Page, START_MS, TENANT, World, check_html};

const MINUTE_MS: u64 = 60_000;
const HOUSE: &str = "https://cairn.example/fhir/r4";

fn place() -> TelehealthPlace {
    TelehealthPlace {
        join_url: "https://video.example.org/join".to_owned(),
        audience: None,
        partner: "video".to_owned(),
        secret: "a secret that nobody guesses".to_owned(),
    }
}

fn telehealth(trust: &Trust) -> Telehealth {
    Telehealth::new(trust.clone(), TENANT, place(), HOUSE, 15 * MINUTE_MS).unwrap()
}

fn partner(contract: &str, data: &str) -> String {
    format!(
        "[[partner]]\nname = 'video'\ntitle = 'Video'\nbase = 'https://video.example.org'\n\
         contract = 'baa'\nuntil = '{contract}'\ndata = [{data}]\npurposes = ['TREAT']\n"
    )
}

/// A world where visits are held by a partner with this entry.
async fn under(entry: &str) -> (tempfile::TempDir, World) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in trust::PolicySet::built_in_files() {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    std::fs::write(folder.path().join("partners.toml"), entry).unwrap();
    let world = World::with_policies_and(folder.path(), |web| {
        web.telehealth = Some(Arc::new(telehealth(&web.trust)));
    });
    let world = world.await;
    (folder, world)
}

pub(crate) async fn world() -> (tempfile::TempDir, World) {
    under(&partner("2026-12-31", "'health'")).await
}

/// A visit by video of half an hour that begins in five minutes.
pub(crate) async fn visit(world: &World, patient: &str, change: impl FnOnce(&mut Value)) -> String {
    let id = world.id_of(patient);
    let mut visit = json!({
        "resourceType": "Appointment", "id": id, "status": "booked", "description": "Check-up by video",
        "extension": by_video(), "start": "2026-03-01T08:05:00Z", "end": "2026-03-01T08:35:00Z",
        "minutesDuration": 30,
        "participant": [{"actor": {"reference": format!("Patient/{patient}")}, "status": "accepted"}]
    });
    change(&mut visit);
    world.put(vec![visit]).await;
    id
}

/// The link that a page goes on to.
fn link(page: &Page) -> String {
    let led = page.headers.get("refresh");
    let led = led.unwrap_or_else(|| panic!("{}: {}", page.status, page.body));
    let address = led.to_str().unwrap().strip_prefix("0; url=").unwrap();
    assert!(page.has(&format!("href=\"{address}\"")), "{}", page.body);
    address.to_owned()
}

fn token(page: &Page) -> String {
    let link = link(page);
    let token = link.strip_prefix("https://video.example.org/join#token=");
    token.unwrap_or_else(|| panic!("{link}")).to_owned()
}

fn claims(token: &str) -> Value {
    let part = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

async fn join(browser: &mut Browser, visit: &str) -> Page {
    let here = format!("/portal/visits/{visit}");
    browser.act(&here, &format!("{here}/join"), &[]).await
}

fn admitted(redeemed: Redeemed) -> Admitted {
    match redeemed {
        Redeemed::In(admitted) => admitted,
        Redeemed::Out(turned) => panic!("{turned:?}"),
    }
}

async fn redeem(world: &World, token: &str) -> Redeemed {
    telehealth(&world.trust).redeem(token, "r").await.unwrap()
}

/// The notes of the patient's audit about visits by video, each with what it was for.
async fn notes(world: &World, patient: &str) -> Vec<(String, String)> {
    let events = world.all(ResourceType::AuditEvent, patient).await;
    let of_video = events.iter().filter_map(|event| {
        let note = event.text_at(&["outcomeDesc"])?;
        let purpose = event.text_at(&["purposeOfEvent", "0", "coding", "0", "code"])?;
        let is_it = note.starts_with("telehealth: ");
        is_it.then(|| (note.to_owned(), purpose.to_owned()))
    });
    let mut found: Vec<_> = of_video.collect();
    found.reverse();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patient_joins_while_it_is_open_and_learns_why_not_otherwise() {
    let (_policies, world) = world().await;
    let ida = world.patient("Ida", "Berg").await;
    let id = visit(&world, &ida, |_| ()).await;
    let here = format!("/portal/visits/{id}");
    let mut browser = world.patients_browser(&ida).await;

    world.clock.set(START_MS - 20 * MINUTE_MS);
    let page = browser.get(&here).await;
    check_html(&here, &page.body);
    page.shows("You can join from Sunday 1 March, 07:50");
    assert!(!page.has("Join the visit"), "{}", page.body);
    let early = join(&mut browser, &id).await;
    assert_eq!(early.status, StatusCode::BAD_REQUEST);
    assert!(early.has("too early"), "{}", early.body);

    world.clock.advance(20 * MINUTE_MS);
    let page = browser.get(&here).await;
    check_html(&here, &page.body);
    page.shows("Join the visit</button>");
    page.shows("You can join until Sunday 1 March, 08:35");
    page.shows("the visit is at video.example.org");
    browser.get("/portal").await.shows("By video");
    let led = join(&mut browser, &id).await;
    check_html("the page that leads on", &led.body);
    let first = token(&led);
    let said = claims(&first);
    let names: Vec<_> = said.as_object().unwrap().keys().cloned().collect();
    assert_eq!(
        names,
        [
            "iss", "sub", "aud", "iat", "nbf", "exp", "jti", "room", "role"
        ]
    );
    assert_eq!(said["iss"], HOUSE);
    assert_eq!(said["aud"], "https://video.example.org");
    assert_eq!(said["role"], "guest");
    // For a minute; and from half a minute before, whichever a clock that is late looks at.
    let now_s = START_MS / 1000;
    assert_eq!(said["exp"], now_s + 60, "{said}");
    assert_eq!(
        (&said["iat"], &said["nbf"]),
        (&json!(now_s - 30), &json!(now_s - 30))
    );
    // Nothing of whose visit it is, nor of which.
    let whole = said.to_string();
    for detail in [ida.as_str(), id.as_str(), "Ida", "Berg", "MRN", "Check-up"] {
        assert!(!whole.contains(detail), "{detail}: {whole}");
    }

    let admitted = admitted(redeem(&world, &first).await);
    assert_eq!(said["room"], admitted.room);
    assert_eq!(said["sub"], admitted.subject);
    assert_eq!(admitted.role, "guest");
    assert_eq!(redeem(&world, &first).await, Redeemed::Out(Turned::Used));
    // Who was cut off goes in again, and the page says that somebody was in.
    let page = browser.get(&here).await;
    page.shows("Join the visit again");
    page.shows("If that was not you");

    // While it lasts it is the first thing on the page; then it is over.
    world.clock.advance(20 * MINUTE_MS);
    browser.get("/portal").await.shows("See the visit");
    world.clock.advance(15 * MINUTE_MS);
    let page = browser.get(&here).await;
    page.shows("Its time is over");
    assert!(!page.has("Join the visit"), "{}", page.body);
    assert!(!browser.get("/portal").await.has(&here));
    let late = join(&mut browser, &id).await;
    assert!(late.has("This visit is over"), "{}", late.body);

    let notes = notes(&world, &ida).await;
    // Who it was that came, and whose link was turned down, is who pressed for it: the same one, in all three.
    let sub = said["sub"].as_str().unwrap();
    let begun: Vec<_> = notes
        .iter()
        .map(|(note, _)| note.replace(sub, "SUB"))
        .collect();
    assert_eq!(
        begun,
        [
            "telehealth: the patient is not let in: it is too early",
            "telehealth: a link into the visit for the patient, who is guest SUB there; video is told health under that pseudonym (contract baa until 2026-12-31, consents allow it)",
            "telehealth: guest SUB came into the visit; the link is used",
            "telehealth: the link of guest SUB into the visit was turned down: used",
            "telehealth: the patient is not let in: its time is over",
        ]
    );
    assert_eq!(notes[1].1, "TREAT");
    assert_eq!(notes[2].1, "TREAT");
}

// Proves: 45 CFR 164.312(b)
#[tokio::test(flavor = "multi_thread")]
async fn that_somebody_comes_is_a_disclosure_by_whoever_pressed() {
    let (_policies, world) = world().await;
    let ida = world.patient("Ida", "Berg").await;
    let id = visit(&world, &ida, |_| ()).await;
    let mut browser = world.patients_browser(&ida).await;
    token(&join(&mut browser, &id).await);
    let events = world.all(ResourceType::AuditEvent, &ida).await;
    let disclosed: Vec<Value> = events
        .iter()
        .map(|event| event.as_value().clone())
        .filter(|event| event.to_string().contains("https://video.example.org"))
        .collect();
    assert_eq!(disclosed.len(), 1, "{disclosed:?}");
    let event = disclosed[0].to_string();
    assert!(event.contains(&format!("Appointment/{id}")), "{event}");
    assert_eq!(
        disclosed[0]["agent"][0]["who"]["reference"],
        format!("Patient/{ida}"),
        "{event}"
    );
    assert_eq!(disclosed[0]["agent"][0]["requestor"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_is_good_once_and_the_newest_alone() {
    let (_policies, world) = world().await;
    let ida = world.patient("Ida", "Berg").await;
    let id = visit(&world, &ida, |_| ()).await;
    let mut browser = world.patients_browser(&ida).await;
    let former = token(&join(&mut browser, &id).await);
    let newest = token(&join(&mut browser, &id).await);
    assert_ne!(former, newest);
    let replaced = Redeemed::Out(Turned::Replaced);
    assert_eq!(redeem(&world, &former).await, replaced);
    let admitted = admitted(redeem(&world, &newest).await);
    assert_eq!(redeem(&world, &former).await, replaced);
    assert_eq!(redeem(&world, &newest).await, Redeemed::Out(Turned::Used));
    // The room is that of the visit, and who comes again is the same one there.
    let again = claims(&token(&join(&mut browser, &id).await));
    assert_eq!(again["room"], admitted.room);
    assert_eq!(again["sub"], admitted.subject);
    // In another visit they are somebody else, elsewhere.
    let other = visit(&world, &ida, |_| ()).await;
    let other = claims(&token(&join(&mut browser, &other).await));
    assert_ne!(other["room"], again["room"]);
    assert_ne!(other["sub"], again["sub"]);

    // Its minute is over.
    let late = token(&join(&mut browser, &id).await);
    world.wall.advance(60_000);
    assert_eq!(redeem(&world, &late).await, Redeemed::Out(Turned::Expired));
}

/// Two servers over one store, and many tries at once: one alone lets somebody in.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_servers_one_lets_somebody_in_once() {
    let (policies, world) = world().await;
    let other = Trust::new(TrustOptions {
        ledger: world.ledger().clone(),
        wall_clock: Arc::new(world.wall.clone()),
        policy_folder: Some(policies.path().to_owned()),
        session_idle_s: 900,
        session_absolute_s: 8 * 3600,
    });
    let doors = [telehealth(&world.trust), telehealth(&other.unwrap())];
    let ida = world.patient("Ida", "Berg").await;
    let id = visit(&world, &ida, |_| ()).await;
    let mut browser = world.patients_browser(&ida).await;
    for round in 0..5 {
        let link = token(&join(&mut browser, &id).await);
        let tries = (0..12).map(|number| doors[number % 2].redeem(&link, "r"));
        let found: Vec<_> = join_all(tries)
            .await
            .into_iter()
            .map(Result::unwrap)
            .collect();
        let let_in = found.iter().filter(|one| matches!(one, Redeemed::In(_)));
        assert_eq!(let_in.count(), 1, "{round}: {found:?}");
        let used = found
            .iter()
            .filter(|one| **one == Redeemed::Out(Turned::Used));
        assert_eq!(used.count(), 11, "{round}: {found:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_link_lets_nobody_in() {
    let (_policies, world) = world().await;
    let ida = world.patient("Ida", "Berg").await;
    let id = visit(&world, &ida, |_| ()).await;
    let mut browser = world.patients_browser(&ida).await;
    let good = token(&join(&mut browser, &id).await);
    let parts: Vec<&str> = good.split('.').collect();
    let header = |alg: &str, typ: &str| {
        let text = URL_SAFE_NO_PAD.decode(parts[0]).unwrap();
        let mut header: Value = serde_json::from_slice(&text).unwrap();
        header["alg"] = json!(alg);
        header["typ"] = json!(typ);
        URL_SAFE_NO_PAD.encode(header.to_string())
    };
    let mut host = claims(&good);
    host["role"] = json!("host");
    let host = URL_SAFE_NO_PAD.encode(host.to_string());
    let jti = claims(&good)["jti"].as_str().unwrap().to_owned();
    // An identity token, by the same keys, is no link; nor is one that another organisation signed for another place.
    let elsewhere = TelehealthPlace {
        audience: Some("https://elsewhere.example".to_owned()),
        ..place()
    };
    let elsewhere = Telehealth::new(
        world.trust.clone(),
        TENANT,
        elsewhere,
        HOUSE,
        15 * MINUTE_MS,
    )
    .unwrap();
    let elsewhere = elsewhere.redeem(&good, "r").await.unwrap();
    assert_eq!(elsewhere, Redeemed::Out(Turned::Unknown));
    // Nor one that the same keys signed for an issuer of another name.
    let foreign = "https://other.example/fhir/r4";
    let foreign = Telehealth::new(
        world.trust.clone(),
        TENANT,
        place(),
        foreign,
        15 * MINUTE_MS,
    );
    let foreign = foreign.unwrap().redeem(&good, "r").await.unwrap();
    assert_eq!(foreign, Redeemed::Out(Turned::Unknown));
    // Nor one whose secret is another's.
    let identity = world.trust.identity();
    let mut bent = claims(&good);
    bent["jti"] = json!(format!("{}x", bent["jti"].as_str().unwrap()));
    let bent = identity.sign_visit(TENANT, &bent).await.unwrap();
    let bent = redeem(&world, &bent).await;
    assert!(matches!(bent, Redeemed::Out(_)), "{bent:?}");
    for bad in [
        String::new(),
        "x".to_owned(),
        jti,
        format!("{}.{}.", parts[0], parts[1]),
        format!("{}.{}.{}", header("none", "visit+jwt"), parts[1], ""),
        format!("{}.{}.{}", header("HS256", "visit+jwt"), parts[1], parts[2]),
        format!("{}.{}.{}", header("RS256", "JWT"), parts[1], parts[2]),
        format!("{}.{host}.{}", parts[0], parts[2]),
        format!("{good}A"),
        "x".repeat(5000),
    ] {
        let found = redeem(&world, &bad).await;
        assert_eq!(found, Redeemed::Out(Turned::Unknown), "{bad}");
    }
    // None of them used it up.
    admitted(redeem(&world, &good).await);
}

/// The place can't tell which visits are one patient's: ids carry the shard of their patient, and what it sees doesn't.
#[tokio::test(flavor = "multi_thread")]
async fn links_of_one_patient_have_nothing_in_common() {
    let (_policies, world) = world().await;
    let ida = world.patient("Ida", "Berg").await;
    let mut browser = world.patients_browser(&ida).await;
    let mut firsts = [const { std::collections::BTreeSet::new() }; 3];
    for _ in 0..8 {
        let id = visit(&world, &ida, |_| ()).await;
        let link = token(&join(&mut browser, &id).await);
        let said = claims(&link);
        for (seen, name) in firsts.iter_mut().zip(["jti", "sub", "room"]) {
            seen.insert(said[name].as_str().unwrap()[..2].to_owned());
        }
        // It is found by that all the same.
        admitted(redeem(&world, &link).await);
    }
    for seen in firsts {
        assert!(seen.len() > 3, "{seen:?}");
    }
}

/// What policies don't let be done stays so until somebody changes them: no 503, which asks to be tried again.
#[tokio::test(flavor = "multi_thread")]
async fn where_policies_let_nobody_in_a_link_finds_the_visit_shut() {
    let (_policies, world) = world().await;
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in trust::PolicySet::built_in_files() {
        // Without the policy, and the case that expects it.
        let text = match text.split_once("@id(\"telehealth-lets-in\")") {
            Some((before, rest)) => format!("{before}{}", rest.split_once("resource);").unwrap().1),
            None => text.replacen("by = [\"telehealth-lets-in\"]", "", 1),
        };
        let (case, expected) = ("tells who comes\"", "expect = \"permit\"");
        let text = match text.split_once(case) {
            Some((before, rest)) => {
                let rest = rest.replacen(expected, "expect = \"deny\"", 1);
                format!("{before}{case}{rest}")
            }
            None => text,
        };
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    std::fs::write(
        folder.path().join("partners.toml"),
        partner("2026-12-31", "'health'"),
    )
    .unwrap();
    let other = Trust::new(TrustOptions {
        ledger: world.ledger().clone(),
        wall_clock: Arc::new(world.wall.clone()),
        policy_folder: Some(folder.path().to_owned()),
        session_idle_s: 900,
        session_absolute_s: 8 * 3600,
    });
    let other = telehealth(&other.unwrap());
    let ida = world.patient("Ida", "Berg").await;
    let id = visit(&world, &ida, |_| ()).await;
    let mut browser = world.patients_browser(&ida).await;
    let link = token(&join(&mut browser, &id).await);
    let shut = other.redeem(&link, "r").await.unwrap();
    assert_eq!(shut, Redeemed::Out(Turned::Shut));
    // It was not used by that.
    admitted(redeem(&world, &link).await);
}

/// A visit of several is the record of the first of them: the others are not shown it in the portal, nor a button.
#[tokio::test(flavor = "multi_thread")]
async fn another_patient_of_a_visit_is_shown_no_button() {
    let (_policies, world) = world().await;
    let ida = world.patient("Ida", "Berg").await;
    let olaf = world.patient("Olaf", "Lie").await;
    let id = visit(&world, &ida, |visit| {
        let other =
            json!({"actor": {"reference": format!("Patient/{olaf}")}, "status": "accepted"});
        visit["participant"].as_array_mut().unwrap().push(other);
    })
    .await;
    let here = format!("/portal/visits/{id}");
    let mut browser = world.patients_browser(&ida).await;
    browser.get(&here).await.shows("Join the visit</button>");
    let mut browser = world.patients_browser(&olaf).await;
    assert_eq!(browser.get(&here).await.status, StatusCode::NOT_FOUND);
    let home = browser.get("/portal").await;
    assert!(
        !home.has(&id) && !home.has("Join the visit"),
        "{}",
        home.body
    );
    let pressed = browser
        .act("/portal/weight", &format!("{here}/join"), &[])
        .await;
    assert_eq!(pressed.status, StatusCode::NOT_FOUND);
}

/// Whoever reviews an emergency access finds what was told to others in it.
#[tokio::test(flavor = "multi_thread")]
async fn a_visit_in_an_emergency_is_in_the_audit_as_one() {
    let (_policies, world) = world().await;
    let ida = world.patient("Ida", "Berg").await;
    let subject = json!({"reference": format!("Patient/{ida}")});
    world
        .put(vec![
            json!({"resourceType": "Consent", "id": world.id_of(&ida), "status": "active",
                "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]},
                "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
                "dateTime": "2026-02-01", "patient": subject, "organization": [{"reference": "Organization/here"}],
                "provision": {"type": "deny", "class": [{"system": "http://hl7.org/fhir/resource-types", "code": "Condition"}]}}),
            json!({"resourceType": "Condition", "id": world.id_of(&ida), "subject": subject, "code": {"text": "Scabies"}}),
        ])
        .await;
    let id = visit(&world, &ida, |_| ()).await;
    let mut devi = world.staff("devi").await;
    let chart = format!("/console/patients/{ida}");
    let path = format!("{chart}/visits/{id}/join");
    for purpose in ["TREAT", "ETREAT"] {
        if purpose == "ETREAT" {
            crate::emergency::open(&mut devi, &ida).await;
        }
        token(&devi.act(&chart, &path, &[]).await);
        let found = notes(&world, &ida).await;
        let (note, found) = found.last().unwrap();
        assert!(
            note.contains("a link into the visit for a clinician"),
            "{note}"
        );
        assert_eq!(found, purpose);
    }
}

/// What becomes of a visit between the press and the place where it is held counts, and so does what stood before.
#[tokio::test(flavor = "multi_thread")]
async fn visits_that_are_not_open_let_nobody_in() {
    let (_policies, world) = world().await;
    let ida = world.patient("Ida", "Berg").await;
    let mut browser = world.patients_browser(&ida).await;
    for (status, words, pressed) in [
        (
            "proposed",
            "You can join here once it is booked",
            "not booked",
        ),
        ("cancelled", "It was called off", "was called off"),
        ("entered-in-error", "It was called off", "was called off"),
        ("noshow", "It is noted that you did not come", "nobody came"),
        ("fulfilled", "You were there", "This visit is over"),
    ] {
        let open = visit(&world, &ida, |_| ()).await;
        let link = token(&join(&mut browser, &open).await);
        let mut resource = world.get(ResourceType::Appointment, &open).await;
        resource.strip_meta();
        resource.set("status", json!(status));
        world.change(resource.as_value().clone(), 1).await;
        let shut = Redeemed::Out(Turned::Shut);
        assert_eq!(redeem(&world, &link).await, shut, "{status}");
        let page = browser.get(&format!("/portal/visits/{open}")).await;
        page.shows(words);
        assert!(!page.has("Join the visit"), "{status}: {}", page.body);
        let page = browser
            .act(
                "/portal/weight",
                &format!("/portal/visits/{open}/join"),
                &[],
            )
            .await;
        assert_eq!(page.status, StatusCode::BAD_REQUEST, "{status}");
        assert!(page.has(pressed), "{status}: {}", page.body);
    }
    // One that is moved to next week is too early.
    let moved = visit(&world, &ida, |_| ()).await;
    let link = token(&join(&mut browser, &moved).await);
    let mut resource = world.get(ResourceType::Appointment, &moved).await;
    resource.strip_meta();
    resource.set("start", json!("2026-03-08T08:05:00Z"));
    resource.set("end", json!("2026-03-08T08:35:00Z"));
    world.change(resource.as_value().clone(), 1).await;
    assert_eq!(redeem(&world, &link).await, Redeemed::Out(Turned::Shut));
    world.clock.advance(7 * DAY_MS);
    let mut browser = world.patients_browser(&ida).await;
    admitted(redeem(&world, &token(&join(&mut browser, &moved).await)).await);
    // One that isn't by video has no door at all.
    let here = visit(&world, &ida, |visit| visit["extension"] = json!([])).await;
    let page = browser
        .act(
            "/portal/weight",
            &format!("/portal/visits/{here}/join"),
            &[],
        )
        .await;
    assert_eq!(page.status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dead_and_those_who_said_no_are_not_told_of() {
    let (_policies, world) = world().await;
    for case in ["died", "no", "no messages"] {
        let ida = world.patient("Ida", "Berg").await;
        let id = visit(&world, &ida, |_| ()).await;
        let mut browser = world.patients_browser(&ida).await;
        let link = token(&join(&mut browser, &id).await);
        match case {
            "died" => {
                let mut patient = world.get(ResourceType::Patient, &ida).await;
                patient.strip_meta();
                patient.set("deceasedBoolean", json!(true));
                world.change(patient.as_value().clone(), 1).await;
            }
            "no" => {
                let no = json!({
                    "resourceType": "Consent", "id": world.id_of(&ida), "status": "active",
                    "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]},
                    "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
                    "patient": {"reference": format!("Patient/{ida}")}, "dateTime": "2026-02-01T08:00:00Z",
                    "policyRule": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "OPTOUT"}]}
                });
                world.put(vec![no]).await;
            }
            _ => {
                let mut no = trust::consent::care_messages(&ida, false, 1_772_000_000_000);
                no.set("id", json!(world.id_of(&ida)));
                world.put(vec![no.as_value().clone()]).await;
            }
        }
        let pressed = join(&mut browser, &id).await;
        if case == "no messages" {
            // Who wants no messages has still booked this visit.
            admitted(redeem(&world, &token(&pressed)).await);
            continue;
        }
        assert_eq!(pressed.status, StatusCode::FORBIDDEN, "{case}");
        let shut = Redeemed::Out(Turned::Shut);
        assert_eq!(redeem(&world, &link).await, shut, "{case}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_without_a_contract_is_told_nothing() {
    for entry in [
        partner("2026-02-28", "'health'"),
        partner("2026-12-31", "'identity'"),
        String::new(),
    ] {
        let (_policies, world) = under(&entry).await;
        let ida = world.patient("Ida", "Berg").await;
        let id = visit(&world, &ida, |_| ()).await;
        let mut browser = world.patients_browser(&ida).await;
        let pressed = join(&mut browser, &id).await;
        assert_eq!(pressed.status, StatusCode::FORBIDDEN, "{entry}");
        assert!(!pressed.headers.contains_key("refresh"));
        let notes = notes(&world, &ida).await;
        assert_eq!(notes.len(), 1, "{entry}: {notes:?}");
        assert!(notes[0].0.contains("is not let in"), "{notes:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn others_go_in_as_who_they_are_or_not_at_all() {
    let (_policies, world) = world().await;
    let ida = world.patient("Ida", "Berg").await;
    let id = visit(&world, &ida, |_| ()).await;
    let mut own = world.patients_browser(&ida).await;
    let guest = claims(&token(&join(&mut own, &id).await));

    // A clinician holds it, from the timeline.
    let chart = format!("/console/patients/{ida}");
    let path = format!("{chart}/visits/{id}/join");
    let mut devi = world.staff("devi").await;
    let page = devi.get(&chart).await;
    check_html(&chart, &page.body);
    page.shows("Join the visit</button>");
    let link = token(&devi.act(&chart, &path, &[]).await);
    let host = claims(&link);
    assert_eq!(host["role"], "host");
    assert_eq!(host["room"], guest["room"]);
    assert_ne!(host["sub"], guest["sub"]);
    let admitted = admitted(redeem(&world, &link).await);
    assert_eq!(admitted.role, "host");
    // The audit tells the host from the guest, and says no more of them than is so: the visit names no clinician.
    let said = notes(&world, &ida).await;
    let sub = |who: &Value| who["sub"].as_str().unwrap().to_owned();
    let came = format!("telehealth: host {} came into the visit", sub(&host));
    assert!(
        said.iter().any(|(note, _)| note.starts_with(&came)),
        "{said:?}"
    );
    for (who, role, subject) in [
        ("the patient", "guest", sub(&guest)),
        ("a clinician", "host", sub(&host)),
    ] {
        let made =
            format!("telehealth: a link into the visit for {who}, who is {role} {subject} there; ");
        assert!(
            said.iter().any(|(note, _)| note.starts_with(&made)),
            "{made}: {said:?}"
        );
    }

    // A coordinator sees that it is open, and holds none.
    let mut carla = world.staff("carla").await;
    let page = carla.get(&chart).await;
    page.shows("By video, open until");
    assert!(!page.has("Join the visit"), "{}", page.body);
    let refused = carla.act(&chart, &path, &[]).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);

    // Who acts for the patient goes in as somebody of their own; another patient doesn't at all.
    let acting = crate::proxies::authorised(&world, &ida, "a").await;
    let mut mona = crate::proxies::signed_in(&world, &acting).await;
    let proxy = claims(&token(&join(&mut mona, &id).await));
    assert_eq!(proxy["role"], "guest");
    assert_ne!(proxy["sub"], guest["sub"]);
    let olaf = world.patient("Olaf", "Lie").await;
    let mut olaf = world.patients_browser(&olaf).await;
    let path = format!("/portal/visits/{id}/join");
    let refused = olaf.act("/portal/weight", &path, &[]).await;
    assert!(
        [StatusCode::NOT_FOUND, StatusCode::FORBIDDEN].contains(&refused.status),
        "{}",
        refused.status
    );
    // Under the name of another patient's page it isn't found either.
    let path = format!(
        "/console/patients/{}/visits/{id}/join",
        world.patient("Eva", "Roe").await
    );
    let refused = devi.act(&chart, &path, &[]).await;
    assert!(!refused.headers.contains_key("refresh"), "{}", refused.body);
    // Who is signed out is asked to sign in.
    let out = world.browser().get(&format!("/portal/visits/{id}")).await;
    assert_eq!(out.status, StatusCode::SEE_OTHER);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_visits_are_held_there_is_no_door() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let id = visit(&world, &ida, |_| ()).await;
    let mut browser = world.patients_browser(&ida).await;
    let page = browser.get(&format!("/portal/visits/{id}")).await;
    page.shows("Your care team will tell you how to join");
    assert!(!page.has("from this page"), "{}", page.body);
    let pressed = join(&mut browser, &id).await;
    assert_eq!(pressed.status, StatusCode::NOT_FOUND);
}
