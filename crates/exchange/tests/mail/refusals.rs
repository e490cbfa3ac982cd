//! Mail that must not leave, although it is in the outbox.

use exchange::MailOptions;
use ledger::Owner;
use serde_json::{Value, json};
use trust::outgoing::Message;

use crate::patience::until;
use crate::peer::Peer;
use crate::world::{ADDRESS, NOW_MS, TENANT, World, assert_clean};

/// Queues, changes the world, delivers, and expects the code. Returns the `Communication`.
async fn refused(
    world: &World,
    patient: &str,
    message: impl FnOnce(&mut Message),
    between: impl AsyncFnOnce(),
    code: &str,
) -> Value {
    let peer = Peer::start(&[]).await;
    let id = world.queue(patient, message).await;
    between().await;
    let running = world.run(world.options(peer.port));
    let done = world.wait_for(patient, &id, "not-done").await;
    running.stop().await;
    assert_eq!(done["statusReason"]["coding"][0]["code"], code, "{done}");
    assert_eq!(
        done["statusReason"]["coding"][0]["system"],
        trust::conventions::NOT_DONE_SYSTEM
    );
    assert!(
        !done["statusReason"]["text"]
            .as_str()
            .expect("words")
            .is_empty()
    );
    assert_eq!(done.get("sent"), None);
    assert_clean(&done);
    assert!(world.outbox().await.is_empty());
    assert!(peer.seen().is_empty());
    done
}

// Proves: 45 CFR 164.508(b)
#[tokio::test]
async fn consent_withdrawn_after_queueing() {
    let world = World::new().await;
    let patient = world.patient(&[]).await;
    world.consent(&patient, "active").await;
    world.clock.advance(1_000);
    refused(
        &world,
        &patient,
        |_| {},
        async || world.consent(&patient, "inactive").await,
        "consent",
    )
    .await;
}

/// A denial of a part holds back what may be about it, and nothing else.
// Proves: 45 CFR 164.522(a)(1)(iii)
#[tokio::test]
async fn a_part_denied_after_queueing() {
    let deny = |patient: &str, id: String, class: &str| {
        json!({
            "resourceType": "Consent", "id": id, "status": "active",
            "scope": { "coding": [{ "system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy" }] },
            "patient": { "reference": format!("Patient/{patient}") }, "dateTime": "2026-01-01",
            "provision": { "type": "deny", "class": [{ "code": class }] }
        })
    };
    let world = World::new().await;
    let patient = world.patient(&[]).await;
    let ledger = world.trust.vault().ledger();
    let mint = || ledger.mint_id(TENANT, &Owner::Patient(patient.clone()));
    let by_measurements = |message: &mut Message| message.about = vec!["Observation".to_owned()];
    world.put(&patient, deny(&patient, mint(), "Claim")).await;
    let peer = Peer::start(&[]).await;
    let id = world.queue(&patient, by_measurements).await;
    let running = world.run(world.options(peer.port));
    world.wait_for(&patient, &id, "completed").await;
    running.stop().await;
    // Of older messages nobody knows what they are about.
    refused(&world, &patient, |_| {}, async || {}, "consent").await;
    let more = async || {
        world
            .put(&patient, deny(&patient, mint(), "Observation"))
            .await;
    };
    refused(&world, &patient, by_measurements, more, "consent").await;
}

// Proves: 45 CFR 164.522(b)(1)
#[tokio::test]
async fn e_mail_switched_off_after_queueing() {
    let world = World::new().await;
    let patient = world.patient(&[]).await;
    let off = json!({
        "resourceType": "Patient", "id": patient, "birthDate": "1941-03-07",
        "telecom": [{
            "extension": [{ "url": trust::conventions::NOT_WANTED_EXTENSION, "valueBoolean": true }],
            "system": "email", "value": ADDRESS
        }]
    });
    refused(
        &world,
        &patient,
        |_| {},
        async || world.put(&patient, off).await,
        "preference",
    )
    .await;
}

#[tokio::test]
async fn died_after_queueing() {
    let world = World::new().await;
    let patient = world.patient(&[]).await;
    let dead = json!({
        "resourceType": "Patient", "id": patient, "birthDate": "1941-03-07",
        "deceasedDateTime": "2026-10-26", "telecom": [{ "system": "email", "value": ADDRESS }]
    });
    refused(
        &world,
        &patient,
        |_| {},
        async || world.put(&patient, dead).await,
        "deceased",
    )
    .await;
}

#[tokio::test]
async fn no_address() {
    let world = World::new().await;
    let patient = world
        .patient(&[(
            "telecom",
            json!([{ "system": "phone", "value": "+1-617-555-0142" }]),
        )])
        .await;
    refused(&world, &patient, |_| {}, async || {}, "no-address").await;
}

/// Whoever writes a record writes no lines of the conversation with the mail server, and no headers.
#[tokio::test]
async fn lines_within_an_address_reach_nobody() {
    let world = World::new().await;
    for address in [
        "o.quandt@example.com\r\nBcc: y@example.org",
        "o.quandt@example.com\nBcc: y@example.org",
        "o.quandt@example.com>\r\nRCPT TO:<y@example.org",
        "o.quandt@example.com\ry@example.org",
        "\"o.quandt\r\n\"@example.com",
        "o.quandt@example.com, y@example.org",
        "o.quandt@example.com\0",
    ] {
        let telecom = json!([{ "system": "email", "value": address }]);
        let patient = world.patient(&[("telecom", telecom)]).await;
        refused(&world, &patient, |_| {}, async || {}, "no-address").await;
    }
}

/// Legal and common in imported records; mail that can't be opened would be tried for ever.
#[tokio::test]
async fn no_birth_date_to_check_the_link_with() {
    let world = World::new().await;
    let peer = Peer::start(&[]).await;
    let patient = world.patient(&[]).await;
    let person = json!({
        "resourceType": "Patient", "id": patient,
        "telecom": [{ "system": "email", "value": ADDRESS }]
    });
    world.put(&patient, person).await;
    let id = world.queue(&patient, |_| {}).await;
    let running = world.run(MailOptions {
        magic_links: true,
        ..world.options(peer.port)
    });
    let done = world.wait_for(&patient, &id, "not-done").await;
    running.stop().await;
    assert_eq!(done["statusReason"]["coding"][0]["code"], "no-sign-in");
    assert!(world.outbox().await.is_empty());
    assert!(peer.seen().is_empty());
    // Where links don't sign in, nothing is missing.
    let id = world.queue(&patient, |_| {}).await;
    let running = world.run(world.options(peer.port));
    world.wait_for(&patient, &id, "completed").await;
    running.stop().await;
}

#[tokio::test]
async fn an_address_that_is_somebody_elses_by_now() {
    let world = World::new().await;
    let peer = Peer::start(&[]).await;
    let patient = world
        .patient(&[(
            "telecom",
            json!([
                { "system": "email", "value": "somebody.else@example.com", "period": { "end": "2024-06-30" } },
                { "system": "email", "value": ADDRESS, "period": { "start": "2024-07-01" } }
            ]),
        )])
        .await;
    let id = world.queue(&patient, |_| {}).await;
    let running = world.run(world.options(peer.port));
    world.wait_for(&patient, &id, "completed").await;
    running.stop().await;
    let seen = peer.seen();
    assert_eq!(
        seen.iter().map(crate::peer::Seen::to).collect::<Vec<_>>(),
        [ADDRESS]
    );
}

/// The machine was suspended, or its clock set: the sleep until the next entry knows nothing of it.
#[tokio::test]
async fn what_became_due_while_the_clock_was_set_is_noticed_soon() {
    const HOUR_MS: u64 = 3_600_000;
    let world = World::suspended().await;
    let patient = world.patient(&[]).await;
    let id = world
        .queue_for(&patient, 6 * HOUR_MS, |message| {
            message.expires_ms = Some(NOW_MS + HOUR_MS);
        })
        .await;
    let running = world.run(world.options(9));
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    world.clock.advance(7 * HOUR_MS);
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(31)).await;
    tokio::time::resume();
    let done = world.wait_for(&patient, &id, "not-done").await;
    assert_eq!(done["statusReason"]["coding"][0]["code"], "expired");
    running.stop().await;
}

/// What policies don't let go at this hour is not given up.
#[tokio::test]
async fn what_policies_refuse_at_night_goes_by_day() {
    const AT_NIGHT: &str = r#"@id("no-mail-at-night")
@says("No mail goes before eight.")
forbid (principal in Part::"mail-deliverer", action == Action::"send", resource)
when { context.time.hour < 8 };
"#;
    let folder = tempfile::tempdir().expect("a folder");
    let files = trust::PolicySet::built_in_files().chain([("night.cedar", AT_NIGHT)]);
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).expect("written");
    }
    // It is 07:33.
    let world = World::under(folder.path()).await;
    let patient = world.patient(&[]).await;
    let peer = Peer::start(&[]).await;
    let id = world.queue(&patient, |_| {}).await;
    let running = world.run(world.options(peer.port));
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert!(peer.seen().is_empty());
    assert_eq!(world.outbox().await.len(), 1);
    world.clock.advance(30 * 60_000);
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(61)).await;
    tokio::time::resume();
    world.wait_for(&patient, &id, "completed").await;
    running.stop().await;
    assert_eq!(peer.seen().len(), 1);
    assert!(world.outbox().await.is_empty());
}

#[tokio::test]
async fn expired() {
    let world = World::new().await;
    let patient = world.patient(&[]).await;
    let late = |message: &mut Message| message.expires_ms = Some(NOW_MS + 1);
    refused(
        &world,
        &patient,
        late,
        async || world.clock.advance(5),
        "expired",
    )
    .await;
}

// Proves: 45 CFR 164.312(e)(1)
#[tokio::test]
async fn patient_details_in_subject_or_text() {
    let world = World::new().await;
    let patient = world.patient(&[]).await;
    let texts = [
        ("A message", "Dear Mrs Quandt, please see {link}"),
        ("Ottilie, a message", "Please see {link}"),
        ("A message", "You were born on 7 March 1941. {link}"),
        ("About MRN-0081277", "{link}"),
        ("A message", "We called 617-555-0142. {link}"),
        ("A message", "We come to 12 Alder Street. {link}"),
    ];
    for (subject, text) in texts {
        let words = |message: &mut Message| {
            message.subject = subject.to_owned();
            message.text = text.to_owned();
        };
        let done = refused(&world, &patient, words, async || {}, exchange::PHI_GUARD).await;
        for detail in ["Quandt", "Ottilie", "1941", "0081277", "0142", "Alder"] {
            assert!(!done["statusReason"].to_string().contains(detail), "{done}");
        }
    }
}

#[tokio::test]
async fn a_purpose_that_nobody_knows() {
    let world = World::new().await;
    let patient = world.patient(&[]).await;
    let curious = |message: &mut Message| message.purpose = "CURIOSITY".to_owned();
    refused(&world, &patient, curious, async || {}, "consent").await;
}

#[tokio::test]
async fn an_entry_that_cannot_be_read_stays_and_holds_nobody_up() {
    let world = World::new().await;
    let peer = Peer::start(&[]).await;
    let patient = world.patient(&[]).await;
    world
        .queue_body(&patient, b"{ not a message".to_vec(), Vec::new())
        .await;
    world.clock.advance(1);
    let good = world.queue(&patient, |_| {}).await;
    let running = world.run(MailOptions {
        parallel: 1,
        ..world.options(peer.port)
    });
    world.wait_for(&patient, &good, "completed").await;
    running.stop().await;
    // A newer program may be able to read it.
    let left = world.outbox().await;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].body, b"{ not a message");
    assert_eq!(peer.seen().len(), 1);
}

#[tokio::test]
async fn a_communication_that_no_longer_waits() {
    let world = World::new().await;
    let peer = Peer::start(&[]).await;
    let patient = world.patient(&[]).await;
    let id = world.queue(&patient, |_| {}).await;
    let mut cancelled = world.communication(&patient, &id).await;
    cancelled["status"] = json!("stopped");
    world.put(&patient, cancelled).await;
    let running = world.run(world.options(peer.port));
    until("nothing waits", async || world.outbox().await.is_empty()).await;
    running.stop().await;
    assert!(world.outbox().await.is_empty());
    assert_eq!(
        world.communication(&patient, &id).await["status"],
        "stopped"
    );
    assert!(peer.seen().is_empty());
}
