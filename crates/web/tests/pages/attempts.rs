//! Every attempt at a message with its receipt: on the timeline for staff, and in the portal what concerns the patient.

use fhir::Resource;
use serde_json::json;
use trust::attempts::{Attempted, Did};
use trust::conventions::{MEDIUM_SYSTEM, SMS_COST_URL, SMS_SEGMENTS_URL};
use trust::costs::MESSAGE_COST_URL;

use crate::world::{World, check_html};

/// 28 February 2026, 10:00 UTC.
const SENT_MS: u64 = 1_772_272_800_000;
const MINUTE_MS: u64 = 60_000;

#[tokio::test(flavor = "multi_thread")]
async fn attempts_and_receipts_are_on_the_timeline_and_in_the_portal() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let id = world.id_of(&ida);
    let mut message = Resource::from_value(json!({
        "resourceType": "Communication", "id": id, "status": "completed",
        "subject": { "reference": format!("Patient/{ida}") },
        "sent": "2026-02-28T10:00:00Z", "received": "2026-02-28T11:30:00Z",
        "medium": [{ "coding": [{ "system": MEDIUM_SYSTEM, "code": "SMSWRIT" }] }],
        "extension": [
            { "url": SMS_SEGMENTS_URL, "valuePositiveInt": 2 },
            { "url": SMS_COST_URL, "valueMoney": { "value": 0.0158, "currency": "USD" } }
        ],
        "topic": { "text": "Welcome home" },
        "payload": [{ "contentString": "Please weigh yourself." }],
        "note": [{ "text": "rang twice, is at her daughter's" }]
    }))
    .expect("a message");
    let put_off = Attempted {
        next_ms: Some(SENT_MS),
        ..Attempted::new(
            Did::PutOff,
            "Attempt 1 put off: the provider could not be reached.",
            SENT_MS - MINUTE_MS,
        )
    };
    put_off.write(&mut message);
    let words = "Handed to the provider: 2 segments, GSM-7.";
    Attempted::new(Did::HandedOver, words, SENT_MS).write(&mut message);
    let words = "Receipt: it has arrived. <b>";
    Attempted::new(Did::Arrived, words, SENT_MS + MINUTE_MS).write(&mut message);
    world.put(vec![message.into_value()]).await;

    let mut carla = world.staff("carla").await;
    let path = format!("/console/patients/{ida}");
    let chart = carla.get(&path).await;
    let mut at = 0;
    for shown in [
        "Attempts and receipts",
        "28 Feb 2026, 09:59",
        "Put off",
        "Attempt 1 put off: the provider could not be reached.",
        "Next: Sat 28 Feb 2026, 10:00",
        "Handed over",
        "Handed to the provider: 2 segments, GSM-7.",
        "28 Feb 2026, 10:01",
        "Arrived",
        "Receipt: it has arrived. &lt;b&gt;",
        "28 Feb 2026, 11:30",
        "Opened",
        "It took 2 segments: 0.0158 USD.",
    ] {
        let found = chart.body[at..].find(shown);
        at += found.unwrap_or_else(|| panic!("no {shown} where it belongs:\n{}", chart.body));
    }
    assert!(!chart.has("daughter"), "another's note is no attempt");
    check_html(&path, &chart.body);

    let mut own = world.patients_browser(&ida).await;
    let path = format!("/portal/inbox/{id}");
    let page = own.get(&path).await;
    page.shows("How this message came to you");
    page.shows("Sent by text message, Saturday 28 February");
    page.shows("It arrived, Saturday 28 February");
    for staffs in ["provider", "Attempt 1", "segments", "USD", "daughter"] {
        assert!(
            !page.has(staffs),
            "{staffs} is none of the patient's concern"
        );
    }
    check_html(&path, &page.body);
}

/// What each channel cost is on the timeline, and the patient reads of each how it came.
#[tokio::test(flavor = "multi_thread")]
async fn every_channel_tells_its_cost_and_its_way() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let mut carla = world.staff("carla").await;
    let mut own = world.patients_browser(&ida).await;
    for (medium, cost, staff, patients) in [
        (
            "EMAILWRIT",
            json!(0.0004),
            "It cost 0.0004 USD.",
            "Sent by e-mail, ",
        ),
        (
            "PUSH",
            json!(0.0001),
            "It cost 0.0001 USD.",
            "Sent as a notification to your devices, ",
        ),
        (
            "MAILWRIT",
            json!(0.85),
            "It cost 0.85 USD.",
            "Given out to be printed and posted as a letter, ",
        ),
        (
            "PHONE",
            json!(2),
            "It cost 2.00 USD.",
            "Given to those who call you, ",
        ),
    ] {
        let id = world.id_of(&ida);
        let mut message = Resource::from_value(json!({
            "resourceType": "Communication", "id": id, "status": "completed",
            "subject": { "reference": format!("Patient/{ida}") },
            "sent": "2026-02-28T10:00:00Z",
            "medium": [{ "coding": [{ "system": MEDIUM_SYSTEM, "code": medium }] }],
            "extension": [{ "url": MESSAGE_COST_URL, "valueMoney": { "value": cost, "currency": "USD" } }],
            "topic": { "text": "Welcome home" },
            "payload": [{ "contentString": "Please weigh yourself." }]
        }))
        .expect("a message");
        Attempted::new(Did::HandedOver, "Handed over.", SENT_MS).write(&mut message);
        world.put(vec![message.into_value()]).await;
        carla
            .get(&format!("/console/patients/{ida}"))
            .await
            .shows(staff);
        let page = own.get(&format!("/portal/inbox/{id}")).await;
        page.shows("How this message came to you");
        page.shows(patients);
        assert!(!page.has("USD"), "{medium}: what it cost is none of theirs");
    }
}
