//! Calls by connectors, through the command line and the server, to a partner over HTTP.

use std::path::Path;

use serde_json::{Value, json};
use trust::Role;

use super::{Scene, journey};
use crate::collector::events;
use crate::house::{cairn, put, token};
use crate::patience::Patience;
use crate::{balp, binary};

const CONNECTORS: &str = "# What the journeys of this folder share.
connectors:
  # Rides, in JSON of several levels.
  ride:
    title: Order a ride
    takes:
      phone: {title: Where the driver calls, classes: [contact]}
      name: {title: Whom to ask for, classes: [identity]}
      kind: {title: The kind of seat, needed: false}
    call:
      path: /ok/bookings
      body: nested
      values:
        phone: {input: phone, as: passenger.phone}
        name: {input: name, as: passenger.name.family}
        kind: {input: kind, as: trip.seat, or: car}
      learns:
        booking: {path: booking.id, class: contact}
      timeout_s: 2
      retry: {times: 4, backoff_s: 1}
      compensate:
        path: /ok/cancellations
        values: {booking: {answer: booking, as: booking.id}}

  # A desk whose machine takes forms.
  note:
    title: A note for the desk
    takes:
      booking: {title: What is booked, classes: [contact]}
      words: {title: Fixed words}
    call:
      partner: rides
      path: /ok/notes
      body: form
      values:
        booking: {input: booking, as: Booking}
        words: {input: words, as: Words}
      compensate:
        path: /ok/notes
        values: {words: {is: No & never}}
";

/// A journey of two calls by connectors.
fn by_connectors() -> String {
    let whole = journey("ride", "ok");
    let start = whole.find("start: ride\n").expect("a start");
    let end = whole.find("  booked:\n").expect("a step");
    let steps = "start: ride
steps:
  ride:
    title: Order a ride
    call:
      connector: ride
      partner: rides
      with:
        phone: {patient: phone, or: none}
        name: {patient: family}
      up_to: 12h
    next: note
    failed: phone
    timed_out: phone
  note:
    title: Tell the desk
    call:
      connector: note
      with:
        booking: {learnt: ride.booking}
        words: {is: A ride + a note}
      up_to: 12h
      takes_back: [ride]
    next: booked
    failed: phone
    timed_out: phone
";
    format!("{}{steps}{}", &whole[..start], &whole[end..])
}

/// Publishes a file by command, as a squad does.
async fn publish(scene: &Scene, file: &Path) -> (Option<i32>, String) {
    let mut command = cairn();
    let base = scene.house.url("");
    command.args(["journey", "publish", "--server", &base]);
    command.env("CAIRN_TOKEN", &scene.squad).arg(file);
    let told = tokio::task::spawn_blocking(move || binary::told(&mut command, ""));
    told.await.expect("the command")
}

fn body(asked: &Value) -> &str {
    asked["body"].as_str().expect("a body")
}

/// Two versions of one file, which differ by what stands beside it when they are published.
#[tokio::test(flavor = "multi_thread")]
async fn connectors_are_published_with_the_journey_and_call_the_partner() {
    let scene = Scene::new().await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("ride.yaml");
    let shared = folder.path().join("connectors.yaml");
    std::fs::write(&file, by_connectors()).expect("written");
    std::fs::write(&shared, CONNECTORS).expect("written");
    let (code, words) = publish(&scene, &file).await;
    assert_eq!(code, Some(0), "{words}");
    assert!(words.contains("ride version 1"), "{words}");
    scene.discharge("p", "ok").await;
    let work = scene.until_work("p", "Tell them").await;

    let call = scene.task_of("p", "call", "Order a ride").await;
    let call = call.expect("the order");
    let key = call["id"].as_str().expect("an id").to_owned();
    let booking = format!("B-{}", &key[..8]);
    assert_eq!(
        work["reasonCode"]["text"],
        format!("Booked as {booking}."),
        "what a connector learns is the step's"
    );
    let got = scene.partner.got();
    assert_eq!(got.len(), 2, "{got:#?}");
    let (ride, note) = (&got[0], &got[1]);
    assert_eq!(
        (&ride["path"], &ride["method"]),
        (&json!("/ok/bookings"), &json!("POST"))
    );
    assert_eq!(ride["headers"]["content-type"], "application/json");
    let sent: Value = serde_json::from_str(body(ride)).expect("JSON");
    assert_eq!(
        sent,
        json!({"passenger": {"phone": "+1-617-555-0100", "name": {"family": "Berg-p"}}, "trip": {"seat": "car"}}),
        "nothing else leaves"
    );
    assert_eq!(note["path"], "/ok/notes");
    assert_eq!(
        note["headers"]["content-type"],
        "application/x-www-form-urlencoded"
    );
    assert_eq!(
        body(note),
        format!("Booking={booking}&Words=A+ride+%2B+a+note")
    );
    // What is signed is what is sent, whatever its form.
    for asked in &got {
        let signed = asked["headers"]["cairn-signature"].as_str();
        let (at, known) = signed
            .and_then(|signed| signed.strip_prefix("t=")?.split_once(",v1="))
            .expect("a signature");
        let key = asked["headers"]["idempotency-key"].as_str().expect("a key");
        let at_s = at.parse().expect("a second");
        let made =
            trust::partners::signature(super::SECRET.as_bytes(), at_s, key, body(asked).as_bytes());
        assert_eq!(known, made);
    }
    let officer = token(&scene.house.server, Role::PrivacyOfficer).await;
    let events = events(&scene.house, &officer).await;
    let mut told: Vec<&str> = events
        .iter()
        .filter(|event| balp::pattern(event) == Some("disclose"))
        .filter_map(|event| event["outcomeDesc"].as_str())
        .collect();
    told.sort_unstable();
    let because = "(contract baa until 2026-12-31, consents allow it)";
    assert_eq!(
        told,
        [
            format!("ride/1: rides is told contact {because}"),
            format!("ride/1: rides is told identity, contact {because}"),
        ]
    );

    // The connectors change. Who is under way keeps those of their version; who starts on the next has the new ones.
    let later = CONNECTORS.replace("/ok/cancellations", "/ok/v2/cancellations");
    std::fs::write(&shared, later.replace("/ok/bookings", "/ok/v2/bookings")).expect("written");
    let (code, words) = publish(&scene, &file).await;
    assert_eq!(code, Some(0), "{words}");
    assert!(words.contains("ride version 2"), "{words}");
    scene.discharge("q", "ok").await;
    scene.until_work("q", "Tell them").await;
    assert_eq!(scene.partner.got()[2]["path"], "/ok/v2/bookings");
    for patient in ["p", "q"] {
        put(
            &scene.house,
            &json!({"resourceType": "Patient", "id": patient, "name": [{"family": format!("Berg-{patient}")}], "deceasedBoolean": true}),
        )
        .await;
    }
    let mut patience = Patience::new();
    let backs = loop {
        let got = scene.partner.got();
        if got.len() == 8 {
            break got[4..].to_vec();
        }
        scene.house.clock.advance(250);
        patience.wait("the calls are not taken back").await;
    };
    let of = |path: &str| {
        backs
            .iter()
            .filter(|back| back["path"] == path)
            .collect::<Vec<_>>()
    };
    assert_eq!(of("/ok/notes").len(), 2, "{backs:#?}");
    for note in of("/ok/notes") {
        assert_eq!(body(note), "words=No+%26+never");
    }
    let (one, two) = (of("/ok/cancellations"), of("/ok/v2/cancellations"));
    assert_eq!((one.len(), two.len()), (1, 1), "{backs:#?}");
    assert_eq!(one[0]["headers"]["compensates"], json!(key));
    let sent: Value = serde_json::from_str(body(one[0])).expect("JSON");
    assert_eq!(sent, json!({"booking": {"id": booking}}));
    scene.house.end().await;
}

/// What a step gives is held against what the partner is cleared for, and told where it stands in the file.
#[tokio::test(flavor = "multi_thread")]
async fn clearance_is_asked_of_what_a_connector_is_given() {
    let scene = Scene::new().await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("ride.yaml");
    std::fs::write(&file, by_connectors()).expect("written");
    std::fs::write(folder.path().join("connectors.yaml"), CONNECTORS).expect("written");
    let at = |text: &str| {
        let source = by_connectors();
        let found = source.find(text).expect("it is there");
        let before = &source[..found];
        let line = before.matches('\n').count() + 1;
        format!(
            "ride.yaml:{line}:{}",
            found - before.rfind('\n').map_or(0, |end| end + 1) + 1
        )
    };
    scene.put_partners("2026-12-31", "'contact'").await;
    let (code, words) = publish(&scene, &file).await;
    assert_eq!(code, Some(1), "{words}");
    let place = at("{patient: family}");
    assert!(
        words.contains(&format!("{place}: error J061")),
        "{place} {words}"
    );
    // Over HTTP the file has its connectors itself.
    let (status, said) = scene.publish(&by_connectors()).await;
    assert_eq!(
        (status, &said["findings"][0]["code"]),
        (422, &json!("J087")),
        "{said}"
    );
    scene
        .put_partners("2026-12-31", "'identity', 'contact'")
        .await;
    let whole = format!("{}{CONNECTORS}", by_connectors());
    let (status, said) = scene.publish(&whole).await;
    assert_eq!(status, 200, "{said}");
    // A clearance that is taken away after that is asked for again.
    scene.put_partners("2026-12-31", "'contact'").await;
    scene.discharge("p", "ok").await;
    scene.until_work("p", "Phone them").await;
    let call = scene.task_of("p", "call", "Order a ride").await;
    let call = call.expect("the order");
    assert_eq!(
        call["statusReason"]["coding"][0]["code"], "not-cleared",
        "{call:#}"
    );
    assert_eq!(scene.partner.got(), Vec::<Value>::new());
    scene.house.end().await;
}

/// `Retry-After` as a date, by the partner's own clock.
#[tokio::test(flavor = "multi_thread")]
async fn a_partner_names_the_date_when_it_is_to_be_asked_again() {
    let scene = Scene::new().await;
    let (status, said) = scene.publish(&journey("ride", "dated")).await;
    assert_eq!(status, 200, "{said}");
    scene.discharge("p", "dated").await;
    let mut patience = Patience::new();
    let next = loop {
        let call = scene.task_of("p", "call", "Order a ride").await;
        let said = call
            .as_ref()
            .and_then(|call| call["businessStatus"]["text"].as_str());
        if let Some((_, next)) = said.and_then(|said| said.split_once("Next at ")) {
            break next.trim_end_matches('.').to_owned();
        }
        patience.wait("the call is not put off").await;
    };
    let next = fhir::date::parse(&next).expect("a time").start_ms;
    let now = i64::try_from(crate::house::NOON_MS).expect("a time");
    assert!(
        (now + 3_590_000..now + 3_700_000).contains(&next),
        "{next} {now}"
    );
    scene.house.clock.advance(3_500_000);
    assert_eq!(scene.partner.got().len(), 1);
    scene.house.clock.advance(200_000);
    scene.until_work("p", "Tell them").await;
    assert_eq!(scene.partner.got().len(), 2);
    scene.house.end().await;
}
