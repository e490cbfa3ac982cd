//! Entries for patients' calendars, read by a library and kept by a calendar server that nobody here wrote.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use trust::outgoing::Visit;

use crate::peer::{Peer, Seen};
use crate::radicale::Radicale;
use crate::readers::ask;
use crate::world::{ADDRESS, World};

const APPOINTMENT: &str = "3f2504e0-4f89-41d3-9a0c-0305e82c3301";

/// A visit that begins at a time as it is written, half an hour long.
pub fn visit(start: &str, sequence: u32, cancelled: bool) -> Visit {
    let start_ms = fhir::date::parse(start).expect("a time").start_ms;
    let start_ms = u64::try_from(start_ms).expect("a time after 1970");
    Visit {
        appointment: APPOINTMENT.to_owned(),
        start_ms,
        end_ms: start_ms + 30 * 60_000,
        sequence,
        cancelled,
        online: false,
    }
}

/// Sends a message about each of these visits to one patient; the mails.
async fn mails(visits: Vec<Option<Visit>>) -> Vec<Seen> {
    let world = World::new().await;
    let peer = Peer::start(&[]).await;
    let patient = world.patient(&[]).await;
    let running = world.run(world.options(peer.port));
    for visit in visits {
        let id = world.queue(&patient, |message| message.visit = visit).await;
        world.wait_for(&patient, &id, "completed").await;
    }
    running.stop().await;
    peer.seen()
}

async fn read(mail: &Seen, zone: &str) -> Value {
    ask(
        "entry",
        &json!({"mail": STANDARD.encode(mail.raw()), "zone": zone}),
    )
    .await
}

#[tokio::test]
async fn a_visit_is_the_same_hour_in_every_zone_over_changes_of_the_clocks() {
    // Either side of the end and of the beginning of summer time in New York and in Berlin.
    let cases = [
        (
            "2026-10-31T10:00:00-04:00",
            "America/New_York",
            "2026-10-31T10:00:00-04:00",
        ),
        (
            "2026-11-02T10:00:00-05:00",
            "America/New_York",
            "2026-11-02T10:00:00-05:00",
        ),
        (
            "2027-03-13T10:00:00-05:00",
            "America/New_York",
            "2027-03-13T10:00:00-05:00",
        ),
        (
            "2027-03-15T10:00:00-04:00",
            "America/New_York",
            "2027-03-15T10:00:00-04:00",
        ),
        (
            "2026-10-24T09:30:00+02:00",
            "Europe/Berlin",
            "2026-10-24T09:30:00+02:00",
        ),
        (
            "2026-10-26T09:30:00+01:00",
            "Europe/Berlin",
            "2026-10-26T09:30:00+01:00",
        ),
        // The hour that there is twice.
        (
            "2026-11-01T01:30:00-04:00",
            "America/New_York",
            "2026-11-01T01:30:00-04:00",
        ),
        (
            "2026-11-01T01:30:00-05:00",
            "America/New_York",
            "2026-11-01T01:30:00-05:00",
        ),
    ];
    let visits = cases.iter().map(|(start, ..)| Some(visit(start, 0, false)));
    let mails = mails(visits.collect()).await;
    for (mail, (_, zone, expected)) in mails.iter().zip(cases) {
        let found = read(mail, zone).await;
        assert_eq!(found["entry"]["start"], expected, "{found}");
    }
}

#[tokio::test]
async fn an_entry_follows_its_visit_and_tells_nothing_of_it() {
    let visits = vec![
        Some(visit("2026-11-20T09:00:00Z", 0, false)),
        Some(visit("2026-11-21T09:00:00Z", 1, false)),
        Some(visit("2026-11-21T09:00:00Z", 2, true)),
        None,
    ];
    let mails = mails(visits).await;
    let mut found = Vec::new();
    for mail in &mails {
        found.push(read(mail, "UTC").await);
    }
    let part = |at: usize, name: &str| found[at]["entry"][name].clone();
    let methods = [0, 1, 2].map(|at| part(at, "method"));
    assert_eq!(methods, ["REQUEST", "REQUEST", "CANCEL"]);
    assert_eq!(methods, [0, 1, 2].map(|at| part(at, "parameter")));
    assert_eq!([0, 1, 2].map(|at| part(at, "sequence")), [0, 1, 2]);
    assert_eq!(part(2, "status"), "CANCELLED");
    assert!([1, 2].iter().all(|at| part(*at, "uid") == part(0, "uid")));
    assert_eq!(
        found[3]["entry"],
        Value::Null,
        "a message about no visit brings none"
    );
    for one in &found[..3] {
        let kinds = [
            "multipart/alternative",
            "text/plain",
            "text/html",
            "text/calendar",
        ];
        assert_eq!(one["kinds"], json!(kinds));
        let entry = &one["entry"];
        assert_eq!(entry["summary"], "Appointment");
        assert_eq!(entry["organizer"], "mailto:care@hospital.example");
        assert_eq!(entry["attendee"], format!("mailto:{ADDRESS}"));
        let names = [
            "ATTENDEE",
            "CLASS",
            "DESCRIPTION",
            "DTEND",
            "DTSTAMP",
            "DTSTART",
            "ORGANIZER",
            "SEQUENCE",
            "STATUS",
            "SUMMARY",
            "TRANSP",
            "UID",
        ];
        assert_eq!(entry["names"], json!(names));
        let text = one["text"].as_str().expect("a text").replace("\r\n ", "");
        for secret in [
            "Ottilie",
            "Quandt",
            "MRN",
            "1941",
            "Alder",
            "sign-in/link",
            "/portal/inbox",
        ] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
    }
}

#[tokio::test]
async fn a_calendar_server_keeps_the_newest() {
    let visits = vec![
        Some(visit("2026-11-20T09:00:00Z", 0, false)),
        Some(visit("2026-11-21T11:00:00Z", 1, false)),
    ];
    let mails = mails(visits).await;
    let server = Radicale::start().await;
    for mail in &mails {
        let found = read(mail, "UTC").await;
        let text = found["text"].as_str().expect("a text");
        // What is kept has no method (RFC 4791, section 4.1): whoever keeps it takes that out.
        let kept = text.replace("METHOD:REQUEST\r\n", "");
        server.put(APPOINTMENT, &kept).await;
    }
    let kept = server.get(APPOINTMENT).await;
    for line in [
        "SEQUENCE:1",
        "DTSTART:20261121T110000Z",
        "SUMMARY:Appointment",
    ] {
        assert!(
            kept.lines().any(|found| found.trim_end() == line),
            "{line}: {kept}"
        );
    }
    assert_eq!(server.listed().await, 1, "it is one entry");
}
