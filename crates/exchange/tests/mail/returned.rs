//! Mail that comes back: bounces, delays, complaints, and what is only made to look like them.

use exchange::{MailOptions, ReturnOptions, ReturnsDoor, Unreturned};
use ledger::{Expected, TenantId};
use serde_json::{Value, json};
use trust::attempts::Did;
use trust::outgoing::CHANNEL_MAIL_TAKEN;
use trust::{AddressStanding, Change, Unit, Vault};

use crate::attempts::dids;
use crate::patience::until;
use crate::peer::{Peer, Seen};
use crate::world::{ADDRESS, TENANT, World};

const SECRET: &str = "a secret that nobody guesses";
const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 24 * 60 * MINUTE_MS;

fn returns() -> ReturnOptions {
    ReturnOptions {
        address: "returns@bounces.hospital.example".to_owned(),
        secret: SECRET.to_owned(),
        wait_ms: 15 * MINUTE_MS,
    }
}

fn options(world: &World, peer: &Peer) -> MailOptions {
    MailOptions {
        returns: Some(returns()),
        ..world.options(peer.port)
    }
}

fn door(world: &World) -> ReturnsDoor {
    ReturnsDoor::new(world.trust.clone(), TENANT, &returns()).expect("a door")
}

/// A report in the form that Postfix writes, with the mail that it is about.
fn bounce(mail: &Seen, action: &str, status: &str) -> Vec<u8> {
    let sent = String::from_utf8(mail.raw()).expect("ASCII");
    format!(
        "Received: by mx.example (Postfix)\r\n\tid 4Z1; Mon, 26 Oct 2026 08:00:00 +0000 (UTC)\r\n\
         Date: Mon, 26 Oct 2026 08:00:00 +0000 (UTC)\r\nFrom: MAILER-DAEMON@mx.example (Mail Delivery System)\r\n\
         Subject: Undelivered Mail Returned to Sender\r\nTo: {to}\r\nAuto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"4Z1.1/mx.example\"\r\n\
         Message-Id: <4Z1@mx.example>\r\n\r\nThis is a MIME-encapsulated message.\r\n\r\n\
         --4Z1.1/mx.example\r\nContent-Description: Notification\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n\
         This is the mail system at host mx.example.\r\n\r\n<{who}>: host mx.example said: 550 Ottilie Quandt has moved\r\n\r\n\
         --4Z1.1/mx.example\r\nContent-Description: Delivery report\r\nContent-Type: message/delivery-status\r\n\r\n\
         Reporting-MTA: dns; mx.example\r\nX-Postfix-Queue-ID: 4Z1\r\nArrival-Date: Mon, 26 Oct 2026 08:00:00 +0000 (UTC)\r\n\r\n\
         Final-Recipient: rfc822; {who}\r\nOriginal-Recipient: rfc822;{who}\r\nAction: {action}\r\nStatus: {status}\r\n\
         Remote-MTA: dns; mx.example\r\nDiagnostic-Code: smtp; 550 {status} <{who}>: Ottilie Quandt has moved\r\n\r\n\
         --4Z1.1/mx.example\r\nContent-Description: Undelivered Message\r\nContent-Type: message/rfc822\r\n\r\n\
         Return-Path: <{to}>\r\n{sent}\r\n--4Z1.1/mx.example--\r\n",
        to = mail.return_path(),
        who = mail.to(),
    )
    .into_bytes()
}

/// A complaint as a provider sends it to an address that it was told.
fn complaint(mail: &Seen) -> Vec<u8> {
    format!(
        "From: <fbl@provider.example>\r\nTo: <returns@bounces.hospital.example>\r\nSubject: FW: hello\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=feedback-report; boundary=\"part\"\r\n\r\n\
         --part\r\nContent-Type: text/plain\r\n\r\nThis is an email abuse report.\r\n\
         --part\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\nUser-Agent: SomeGenerator/1.0\r\nVersion: 1\r\n\
         Original-Mail-From: <{}>\r\n\r\n--part\r\nContent-Type: message/rfc822\r\n\r\nFrom: <care@hospital.example>\r\nSubject: hello\r\n\r\nhello\r\n--part--\r\n",
        mail.return_path()
    )
    .into_bytes()
}

async fn take(world: &World, mail: &Seen, what: &[u8]) -> Result<(), Unreturned> {
    door(world).take(mail.return_path(), what, "test").await
}

/// Sends a message and waits until the server has it.
async fn sent(world: &World, peer: &Peer, patient: &str) -> (String, Seen) {
    let before = peer.seen().len();
    let id = world.queue(patient, |_| {}).await;
    let seen = peer.wait_for(before + 1).await;
    world.wait_for(patient, &id, "in-progress").await;
    (id, seen[before].clone())
}

fn code(communication: &Value) -> &str {
    communication["statusReason"]["coding"][0]["code"]
        .as_str()
        .unwrap_or_default()
}

fn notes(communication: &Value) -> Vec<&str> {
    let notes = communication["note"].as_array();
    let notes = notes.into_iter().flatten();
    let words = notes.filter_map(|note| note["text"].as_str());
    // What became of handing it over is none.
    words.filter(|words| words.starts_with("E-mail ")).collect()
}

/// Nothing of a server's words, of the patient or of the address is in it.
fn assert_plain(communication: &Value) {
    for part in ["statusReason", "note", "extension"] {
        let text = communication[part].to_string();
        for detail in ["Quandt", "moved", "example.com", "mx.example", "@"] {
            assert!(!text.contains(detail), "{detail}: {text}");
        }
    }
}

#[tokio::test]
async fn what_comes_back_fails_its_message_and_marks_the_address() {
    let world = World::new().await;
    let peer = Peer::start(&[]).await;
    let patient = world.patient(&[]).await;
    let running = world.run(options(&world, &peer));
    let (id, mail) = sent(&world, &peer, &patient).await;
    let (local, domain) = mail.return_path().split_once('@').expect("an address");
    assert!(
        local.starts_with("returns+m") && local.len() <= 64,
        "{local}"
    );
    assert_eq!(domain, "bounces.hospital.example");
    assert!(!mail.header("From").contains("returns"), "{mail:?}");

    let report = bounce(&mail, "failed", "5.1.1");
    take(&world, &mail, &report).await.expect("taken");
    let found = world.communication(&patient, &id).await;
    assert_eq!(found["status"], "not-done");
    assert_eq!(code(&found), "returned");
    assert_eq!(
        notes(&found),
        ["E-mail not delivered: there is no such mailbox (5.1.1)."]
    );
    assert_plain(&found);
    // Nobody takes it to have arrived when its time is over.
    world.clock.advance(DAY_MS);
    until("the entry is gone", async || taken(&world).await == 0).await;
    assert_eq!(world.communication(&patient, &id).await, found);

    // No more goes there, in whatever case it is written.
    let next = world.queue(&patient, |_| {}).await;
    let refused = world.wait_for(&patient, &next, "not-done").await;
    assert_eq!(code(&refused), "no-address");
    assert_plain(&refused);
    let mut resource = record(&world, &patient).await;
    resource["telecom"][0]["value"] = json!(ADDRESS.to_uppercase());
    world.put(&patient, resource.clone()).await;
    let next = world.queue(&patient, |_| {}).await;
    world.wait_for(&patient, &next, "not-done").await;
    // Another of the patient's addresses is used, and another patient's is not touched.
    resource["telecom"][1] = json!({"system": "email", "value": "o.quandt@example.org", "rank": 2});
    world.put(&patient, resource.clone()).await;
    let (_, mail) = sent(&world, &peer, &patient).await;
    assert_eq!(mail.to(), "o.quandt@example.org");
    let other = world.patient(&[]).await;
    let (_, mail) = sent(&world, &peer, &other).await;
    assert_eq!(mail.to(), ADDRESS);
    // It is not in the record of the patient.
    assert_eq!(
        record(&world, &patient).await["telecom"],
        resource["telecom"]
    );

    // Staff have cleared it. The same report, played again, doesn't mark it anew.
    clear(&world, &patient).await;
    take_again(&world, &report, &peer.seen()[0]).await;
    resource["telecom"]
        .as_array_mut()
        .expect("addresses")
        .truncate(1);
    world.put(&patient, resource).await;
    let (_, mail) = sent(&world, &peer, &patient).await;
    assert_eq!(mail.to(), ADDRESS.to_uppercase());
    running.stop().await;
}

/// What a mail of an earlier attempt says, which went to another address, fails nothing that went to this one.
#[tokio::test]
async fn what_went_to_a_former_address_fails_nothing_else() {
    let world = World::new().await;
    // The first attempt is put off by the server, which has it all the same.
    let peer = Peer::start(&["--reply-to-content", "451 4.3.0 later"]).await;
    let patient = world.patient(&[]).await;
    let running = world.run(options(&world, &peer));
    let id = world.queue(&patient, |_| {}).await;
    let first = peer.wait_for(1).await.remove(0);
    world.wait_put_off(&patient, &id, 1).await;
    running.stop().await;
    let mut resource = record(&world, &patient).await;
    resource["telecom"][0]["value"] = json!("new@example.org");
    world.put(&patient, resource).await;
    let peer = Peer::start(&[]).await;
    let running = world.run(options(&world, &peer));
    world.to_next_attempt().await;
    let second = peer.wait_for(1).await.remove(0);
    assert_eq!((first.to(), second.to()), (ADDRESS, "new@example.org"));
    assert_ne!(first.return_path(), second.return_path());
    world.wait_for(&patient, &id, "in-progress").await;
    take(&world, &first, &bounce(&first, "failed", "5.1.1"))
        .await
        .expect("taken");
    let found = world.communication(&patient, &id).await;
    assert_eq!(found["status"], "in-progress");
    assert_eq!(notes(&found).len(), 1, "{found}");
    let expected = [Did::PutOff, Did::HandedOver, Did::PutOff];
    assert_eq!(dids(&found), expected, "it did not fail: {found}");
    assert_plain(&found);
    // Neither address is marked.
    let (_, mail) = sent(&world, &peer, &patient).await;
    assert_eq!(mail.to(), "new@example.org");
    take(&world, &second, &bounce(&second, "failed", "5.1.1"))
        .await
        .expect("taken");
    assert_eq!(code(&world.communication(&patient, &id).await), "returned");
    running.stop().await;
}

/// What waits for bounces asks no mail server, so one that doesn't answer keeps no journey waiting.
#[tokio::test]
async fn a_mail_server_that_does_not_answer_keeps_nothing_under_way() {
    let world = World::new().await;
    let peer = Peer::start(&[]).await;
    let patient = world.patient(&[]).await;
    let running = world.run(options(&world, &peer));
    let (id, _) = sent(&world, &peer, &patient).await;
    running.stop().await;
    // As many as there may be at once wait for its answer.
    let peer = Peer::start(&["--hang-after-data"]).await;
    let hangs = MailOptions {
        timeout_ms: 600_000,
        parallel: 2,
        ..options(&world, &peer)
    };
    for _ in 0..4 {
        world.queue(&patient, |_| {}).await;
    }
    let running = world.run(hangs);
    peer.wait_for(2).await;
    world.clock.advance(16 * MINUTE_MS);
    world.wait_for(&patient, &id, "completed").await;
    running.kill().await;
}

/// A store that is closed has not said that a mail is none of ours.
#[tokio::test]
async fn what_nobody_can_tell_comes_again() {
    let world = World::new().await;
    let door = door(&world);
    let made_up = format!("returns+m{}@bounces.hospital.example", "a".repeat(48));
    let known = door.take(&made_up, b"x", "test").await;
    assert!(matches!(known, Err(Unreturned::Unknown)), "{known:?}");
    let ledger = world.trust.vault().ledger().clone();
    ledger.close().await.expect("closed");
    for recipient in [made_up.as_str(), "care@hospital.example"] {
        let asked = door.take(recipient, b"x", "test").await;
        assert!(matches!(asked, Err(Unreturned::Trust(_))), "{asked:?}");
    }
}

async fn take_again(world: &World, report: &[u8], mail: &Seen) {
    take(world, mail, report).await.expect("taken");
}

async fn record(world: &World, patient: &str) -> Value {
    let permit = world.hospital(patient).await;
    let kind = fhir::ResourceType::Patient;
    let found = world.trust.vault().load(&permit, kind, patient).await;
    found
        .expect("loaded")
        .expect("a patient")
        .resource
        .into_value()
}

async fn clear(world: &World, patient: &str) {
    let vault = world.trust.vault();
    let permit = world.hospital(patient).await;
    let id = vault.address_id(TENANT, patient, ADDRESS);
    let read = || vault.address_standing(&permit, &id);
    let (standing, expected) = read().await.expect("read");
    let mark = standing.mark.expect("a mark");
    assert_eq!(mark.code.as_deref(), Some("5.1.1"));
    assert!(matches!(expected, Expected::Version(1)));
    let cleared = AddressStanding {
        cleared_ms: Some(vault.ledger().clock().now_ms()),
        ..AddressStanding::default()
    };
    let unit = Unit {
        internals: vec![Vault::stand_address(patient, &id, &cleared, expected)],
        patient: Some(patient.to_owned()),
        changes: Vec::<Change>::new(),
        ..Unit::default()
    };
    vault.commit(&permit, unit).await.expect("committed");
    assert_eq!(read().await.expect("read").0.mark, None);
}

async fn taken(world: &World) -> usize {
    let ledger = world.trust.vault().ledger();
    let entries = ledger.outbox_due(CHANNEL_MAIL_TAKEN, u64::MAX, 100).await;
    entries.expect("the outbox").len()
}

#[tokio::test]
async fn what_does_not_come_back_in_its_time_is_taken_to_have_arrived() {
    let world = World::new().await;
    let peer = Peer::start(&[]).await;
    let patient = world.patient(&[]).await;
    let running = world.run(options(&world, &peer));
    let (id, mail) = sent(&world, &peer, &patient).await;
    let found = world.communication(&patient, &id).await;
    assert!(found["sent"].is_string(), "{found}");
    // What is delayed is still waited for; a mailbox that is full is no address that is gone.
    take(&world, &mail, &bounce(&mail, "delayed", "4.4.1"))
        .await
        .expect("taken");
    let found = world.communication(&patient, &id).await;
    assert_eq!(found["status"], "in-progress");
    assert_eq!(notes(&found).len(), 1, "{found}");
    // Killed and started again meanwhile.
    running.kill().await;
    let world = world.reopen().await;
    let running = world.run(options(&world, &peer));
    world.clock.advance(14 * MINUTE_MS);
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(
        world.communication(&patient, &id).await["status"],
        "in-progress"
    );
    world.clock.advance(2 * MINUTE_MS);
    let found = world.wait_for(&patient, &id, "completed").await;
    assert!(found.get("statusReason").is_none(), "{found}");
    assert_eq!(peer.seen().len(), 1, "it was sent once");

    // One that comes back later still counts; after weeks it is an old one that is played again.
    let (late, mail) = sent(&world, &peer, &patient).await;
    world.clock.advance(DAY_MS);
    world.wait_for(&patient, &late, "completed").await;
    take(&world, &mail, &bounce(&mail, "failed", "5.2.2"))
        .await
        .expect("taken");
    let found = world.communication(&patient, &late).await;
    // It stays, because the patient finds it in the portal.
    assert_eq!(found["status"], "completed");
    assert_eq!(
        notes(&found),
        ["E-mail not delivered: the mailbox is full (5.2.2)."]
    );
    let (old, mail) = sent(&world, &peer, &patient).await;
    world.clock.advance(20 * DAY_MS);
    world.wait_for(&patient, &old, "completed").await;
    take(&world, &mail, &bounce(&mail, "failed", "5.1.1"))
        .await
        .expect("taken");
    assert_eq!(
        world.communication(&patient, &old).await["status"],
        "completed"
    );

    // One whose worth is over by then is not waited for.
    let now_ms = world.trust.vault().ledger().clock().now_ms();
    let id = world
        .queue(&patient, |message| {
            message.expires_ms = Some(now_ms + 5 * MINUTE_MS);
        })
        .await;
    world.wait_for(&patient, &id, "completed").await;
    // And a server that says that it is delivered ends the wait.
    let (id, mail) = sent(&world, &peer, &patient).await;
    take(&world, &mail, &bounce(&mail, "delivered", "2.0.0"))
        .await
        .expect("taken");
    assert_eq!(
        world.communication(&patient, &id).await["status"],
        "completed"
    );
    running.stop().await;
}

/// One that was put off, held and let go has two entries in the outbox.
#[tokio::test]
async fn what_a_server_has_is_not_sent_again_by_another_entry() {
    for revoked in [false, true] {
        let world = World::new().await;
        let peer = Peer::start(&["--close-at", "data", "--times", "1"]).await;
        let patient = world.patient(&[]).await;
        let id = world.queue(&patient, |_| {}).await;
        let running = world.run(options(&world, &peer));
        world.wait_put_off(&patient, &id, 1).await;
        let first = world.outbox().await.remove(0);
        world
            .queue_body(&patient, first.body.clone(), Vec::new())
            .await;
        until("it has left", async || {
            world.communication(&patient, &id).await["sent"].is_string()
        })
        .await;
        if revoked {
            // What has left is not "not done" because nothing may leave any more.
            world.consent(&patient, "inactive").await;
        }
        world.to_next_attempt().await;
        until("both entries are gone", async || {
            world.outbox().await.is_empty()
        })
        .await;
        let found = world.communication(&patient, &id).await;
        assert_eq!(found["status"], "in-progress", "{found}");
        assert_eq!(peer.seen().len(), 1, "it was sent once");
        running.stop().await;
    }
}

#[tokio::test]
async fn who_complains_gets_no_more() {
    let world = World::new().await;
    let peer = Peer::start(&[]).await;
    let patient = world.patient(&[]).await;
    let running = world.run(options(&world, &peer));
    let (id, mail) = sent(&world, &peer, &patient).await;
    // It comes to where the provider was told to send complaints, and names the mail within.
    let to = "returns@bounces.hospital.example";
    let report = complaint(&mail);
    door(&world).take(to, &report, "test").await.expect("taken");
    let found = world.communication(&patient, &id).await;
    // It has arrived, after all.
    assert_eq!(found["status"], "in-progress");
    assert_eq!(notes(&found).len(), 1, "{found}");
    let next = world.queue(&patient, |_| {}).await;
    let refused = world.wait_for(&patient, &next, "not-done").await;
    assert_eq!(code(&refused), "preference");
    running.stop().await;
    // A bounce can't be handed in that way: it has no address of its own.
    let report = bounce(&mail, "failed", "5.1.1");
    let error = door(&world).take(to, &report, "test").await;
    assert!(matches!(error, Err(Unreturned::Unknown)), "{error:?}");
}

#[tokio::test]
async fn what_is_made_up_is_refused_and_does_nothing() {
    let world = World::new().await;
    let peer = Peer::start(&[]).await;
    let patient = world.patient(&[]).await;
    let running = world.run(options(&world, &peer));
    let (id, mail) = sent(&world, &peer, &patient).await;
    running.stop().await;
    let before = world.communication(&patient, &id).await;
    let report = bounce(&mail, "failed", "5.1.1");
    let right = mail.return_path().to_owned();
    let token_at = right.find('+').expect("a token") + 2;
    // Each character of the token is needed as it is.
    for at in [
        token_at,
        token_at + 10,
        token_at + 26,
        token_at + 30,
        token_at + 40,
        token_at + 47,
    ] {
        let mut forged = right.clone().into_bytes();
        forged[at] = if forged[at] == b'a' { b'b' } else { b'a' };
        let forged = String::from_utf8(forged).expect("ASCII");
        let error = door(&world).take(&forged, &report, "test").await;
        assert!(
            matches!(error, Err(Unreturned::Unknown)),
            "{forged}: {error:?}"
        );
    }
    for forged in [
        "",
        "returns@bounces.hospital.example",
        "returns+m@bounces.hospital.example",
        &right.replacen("+m", "+n", 1),
        &right.replacen("+m", "+x", 1),
        &right.replacen('@', "a@", 1),
        &right.replace("bounces.", "evil."),
        &right.replace("returns+", "return+"),
        &format!("returns+m{}@bounces.hospital.example", "7".repeat(48)),
    ] {
        let error = door(&world).take(forged, &report, "test").await;
        assert!(
            matches!(error, Err(Unreturned::Unknown)),
            "{forged}: {error:?}"
        );
    }
    // Mail servers may change the case; what is no report says nothing.
    for harmless in [
        &b""[..],
        b"Subject: I am away\r\n\r\nUntil Monday.",
        &vec![b'a'; 1 << 20],
        "Content-Type: multipart/report; boundary=b\r\n\r\n--b\r\n"
            .repeat(5_000)
            .as_bytes(),
    ] {
        let taken = door(&world)
            .take(&right.to_uppercase(), harmless, "test")
            .await;
        assert!(taken.is_ok(), "{taken:?}");
    }
    assert_eq!(world.communication(&patient, &id).await, before);
    // What is of a tenant is so at no other's door.
    let elsewhere = TenantId(2);
    let ledger = world.trust.vault().ledger();
    ledger.create_tenant(elsewhere).await.expect("a tenant");
    let other = ReturnsDoor::new(world.trust.clone(), elsewhere, &returns()).expect("a door");
    let error = other.take(&right, &report, "test").await;
    assert!(matches!(error, Err(Unreturned::Unknown)), "{error:?}");
    // The right one counts, once.
    take(&world, &mail, &report).await.expect("taken");
    let after = world.communication(&patient, &id).await;
    assert_eq!(after["status"], "not-done");
    take(&world, &mail, &report).await.expect("taken");
    assert_eq!(
        world.communication(&patient, &id).await["meta"],
        after["meta"]
    );

    assert!(door(&world).admits(Some(SECRET)));
    for wrong in [
        None,
        Some(""),
        Some("a secret"),
        Some("A secret that nobody guesses"),
    ] {
        assert!(!door(&world).admits(wrong), "{wrong:?}");
    }
    let mut short = returns();
    short.secret = "short".to_owned();
    assert!(ReturnsDoor::new(world.trust.clone(), TENANT, &short).is_err());
}

#[tokio::test]
async fn what_comes_back_before_it_was_written_down_that_it_left_comes_again() {
    let world = World::new().await;
    // The server has it, and takes its time to say so.
    let peer = Peer::start(&["--delay-ms", "1500"]).await;
    let patient = world.patient(&[]).await;
    let running = world.run(options(&world, &peer));
    let id = world.queue(&patient, |_| {}).await;
    let mail = peer.wait_for(1).await.remove(0);
    let report = bounce(&mail, "failed", "5.1.1");
    let early = take(&world, &mail, &report).await;
    assert!(matches!(early, Err(Unreturned::TooEarly)), "{early:?}");
    world.wait_for(&patient, &id, "in-progress").await;
    take(&world, &mail, &report).await.expect("taken");
    assert_eq!(code(&world.communication(&patient, &id).await), "returned");
    running.stop().await;
}

#[tokio::test]
async fn a_server_without_returns_sends_as_before_and_finishes_what_one_with_them_began() {
    let world = World::new().await;
    let peer = Peer::start(&[]).await;
    let patient = world.patient(&[]).await;
    let running = world.run(options(&world, &peer));
    let (id, _) = sent(&world, &peer, &patient).await;
    running.stop().await;
    let running = world.run(world.options(peer.port));
    let plain = world.queue(&patient, |_| {}).await;
    let found = world.wait_for(&patient, &plain, "completed").await;
    assert!(found.get("extension").is_none(), "{found}");
    assert_eq!(peer.seen()[1].return_path(), "care@hospital.example");
    world.clock.advance(DAY_MS);
    world.wait_for(&patient, &id, "completed").await;
    running.stop().await;
    assert_eq!(peer.seen().len(), 2);
}
