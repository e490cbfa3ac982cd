//! Notices to staff: that an emergency access waits for its review, by e-mail, without whose record it is.

use std::time::Duration;

use fhir::ResourceType;
use fhir::search::SearchQuery;
use trust::outgoing::{CHANNEL_EMAIL, CHANNEL_NOTICE, Notice};
use trust::{Action, Agent, Purpose, Role, Target};

use crate::patience::until;
use crate::peer::Peer;
use crate::world::{TENANT, World};

pub fn clinician() -> Agent {
    Agent {
        tenant: TENANT,
        id: "clinician-1".to_owned(),
        name: "Devi Rao".to_owned(),
        role: Role::Clinician,
        patient: None,
        access: None,
        signed_in: trust::SignedIn::default(),
    }
}

const OFFICERS: [&str; 2] = ["privacy@hospital.example", "on-call@hospital.example"];
const REASON: &str = "Ottilie Quandt is unconscious";

/// What the notes of the audit say, newest first.
pub async fn notes(world: &World) -> Vec<String> {
    let officer = Agent {
        id: "officer".to_owned(),
        role: Role::PrivacyOfficer,
        ..clinician()
    };
    let permit = world
        .trust
        .decide(
            &officer,
            Purpose::Operations,
            Action::Audit,
            Target::default(),
            "test",
        )
        .await
        .expect("a permit");
    let count = [("_count".to_owned(), "500".to_owned())];
    let query = SearchQuery::parse(ResourceType::AuditEvent, &count, false).expect("a query");
    let found = world.trust.vault().search(&permit, &query, None).await;
    let rows = found.expect("events").rows;
    let note = |row: &trust::Versioned| row.resource.text_at(&["outcomeDesc"]).map(str::to_owned);
    rows.iter().filter_map(note).collect()
}

// Proves: 45 CFR 164.308(a)(6)(ii)
#[tokio::test]
async fn privacy_officers_are_told_at_once_and_not_of_whom() {
    let world = World::new().await;
    let patient = world.patient(&[]).await;
    let identity = world.trust.identity();
    identity.alert_of_emergencies(OFFICERS.map(str::to_owned).to_vec());
    let peer = Peer::start(&[]).await;
    let running = world.run(world.options(peer.port));
    let access = identity
        .break_glass(&clinician(), &patient, REASON, "r")
        .await
        .expect("emergency access");
    peer.wait_for(2).await;
    // Asked for again, it is the same access, and nobody is told twice.
    identity
        .break_glass(&clinician(), &patient, REASON, "r")
        .await
        .expect("the same");
    tokio::time::sleep(Duration::from_millis(500)).await;
    running.stop().await;
    let seen = peer.seen();
    let mut to: Vec<&str> = seen.iter().map(super::peer::Seen::to).collect();
    to.sort_unstable();
    assert_eq!(to, ["on-call@hospital.example", "privacy@hospital.example"]);
    for mail in &seen {
        let text = mail.text();
        assert!(
            text.contains("https://portal.example/console/emergencies"),
            "{text}"
        );
        let whole = format!("{}{text}", mail.0);
        for secret in [
            "Quandt",
            "Ottilie",
            "MRN-",
            "Devi",
            "unconscious",
            &patient,
            &access.id,
            "List-Unsubscribe",
        ] {
            assert!(!whole.contains(secret), "{secret} in {whole}");
        }
    }
    // That each was sent is in the audit.
    let found = notes(&world).await;
    let sent = found
        .iter()
        .filter(|note| *note == "notice of emergency access: message sent by e-mail");
    assert_eq!(sent.count(), 2, "{found:?}");
}

/// Waits until a notice has been tried in vain.
async fn put_off(world: &World) {
    until("a notice is put off", async || {
        let found = notes(world).await;
        found.iter().any(|note| note.contains("put off"))
    })
    .await;
}

#[tokio::test]
async fn a_server_that_is_away_delays_the_notice_and_loses_none() {
    let world = World::new().await;
    let patient = world.patient(&[]).await;
    let identity = world.trust.identity();
    identity.alert_of_emergencies(vec![OFFICERS[0].to_owned()]);
    identity
        .break_glass(&clinician(), &patient, REASON, "r")
        .await
        .expect("emergency access");
    // Nobody listens there.
    let running = world.run(world.options(1));
    put_off(&world).await;
    running.stop().await;
    let world = world.reopen().await;
    world.clock.advance(10 * 60_000);
    let peer = Peer::start(&[]).await;
    let running = world.run(world.options(peer.port));
    peer.wait_for(1).await;
    running.stop().await;
    assert_eq!(peer.seen()[0].to(), OFFICERS[0]);
}

#[tokio::test]
async fn a_server_that_knows_no_notices_finds_none_to_take_out() {
    let world = World::new().await;
    let patient = world.patient(&[]).await;
    let identity = world.trust.identity();
    identity.alert_of_emergencies(OFFICERS.map(str::to_owned).to_vec());
    identity
        .break_glass(&clinician(), &patient, REASON, "r")
        .await
        .expect("emergency access");
    let waiting = async |world: &World, channel| {
        let ledger = world.trust.vault().ledger();
        let entries = ledger.outbox_due(channel, u64::MAX, 10).await;
        entries.expect("the outbox").len()
    };
    // Such a one takes out of this channel whatever is no message to a patient.
    assert_eq!(waiting(&world, CHANNEL_EMAIL).await, 0);
    assert_eq!(waiting(&world, CHANNEL_NOTICE).await, 2);
    // Put off, it stays where it was: nobody listens there.
    let running = world.run(world.options(1));
    put_off(&world).await;
    running.stop().await;
    assert_eq!(waiting(&world, CHANNEL_EMAIL).await, 0);
    assert_eq!(waiting(&world, CHANNEL_NOTICE).await, 2);
    let world = world.reopen().await;
    world.clock.advance(10 * 60_000);
    let peer = Peer::start(&[]).await;
    let running = world.run(world.options(peer.port));
    peer.wait_for(2).await;
    running.stop().await;
    assert_eq!(waiting(&world, CHANNEL_NOTICE).await, 0);
}

#[tokio::test]
async fn a_notice_that_lies_among_the_messages_is_sent() {
    let world = World::new().await;
    let patient = world.patient(&[]).await;
    let notice = Notice {
        to: OFFICERS[1].to_owned(),
        about: "emergency access".to_owned(),
        subject: "Emergency access waits for your review".to_owned(),
        text: "{link}".to_owned(),
        link_path: "/console/emergencies".to_owned(),
    };
    let body = serde_json::to_vec(&notice).expect("JSON");
    world.queue_body(&patient, body, Vec::new()).await;
    let peer = Peer::start(&[]).await;
    let running = world.run(world.options(peer.port));
    peer.wait_for(1).await;
    running.stop().await;
    assert_eq!(peer.seen()[0].to(), OFFICERS[1]);
    assert!(world.outbox().await.is_empty());
}
