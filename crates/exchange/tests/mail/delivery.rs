//! Mail that arrives.

use exchange::{Deliverer, MailOptions, MailTls};

use crate::peer::{Peer, certificate};
use crate::world::{ADDRESS, NOW_MS, World};

// Proves: 45 CFR 164.312(e)(2)(ii)
#[tokio::test]
async fn arrives_over_starttls_with_a_password_and_is_recorded() {
    let world = World::new().await;
    let (certificate, key) = certificate(world.folder.path()).await;
    let (pem, key) = (certificate.to_str().unwrap(), key.to_str().unwrap());
    let peer = Peer::start(&[
        "--certificate",
        pem,
        "--key",
        key,
        "--auth",
        "cairn:open sesame",
    ])
    .await;
    let patient = world.patient(&[]).await;
    world.consent(&patient, "active").await;
    let id = world.queue(&patient, |_| {}).await;
    let running = world.run(MailOptions {
        tls: MailTls::Starttls,
        credentials: Some(("cairn".to_owned(), "open sesame".to_owned())),
        ca_file: Some(certificate),
        ..world.options(peer.port)
    });
    let done = world.wait_for(&patient, &id, "completed").await;
    running.stop().await;

    assert_eq!(done["sent"], fhir::date::instant(NOW_MS));
    assert_eq!(done.get("statusReason"), None);
    assert!(world.outbox().await.is_empty());
    let seen = peer.seen();
    assert_eq!(seen.len(), 1);
    let mail = &seen[0];
    assert_eq!(
        (mail.to(), mail.0["from"].as_str().unwrap()),
        (ADDRESS, "care@hospital.example")
    );
    assert_eq!(
        (mail.0["tls"].as_bool(), mail.0["user"].as_str()),
        (Some(true), Some("cairn"))
    );
    assert_eq!(mail.header("Auto-Submitted"), "auto-generated");
    assert_eq!(
        mail.header("List-Unsubscribe"),
        "<https://portal.example/portal/preferences>"
    );
    assert_eq!(mail.header("To"), ADDRESS, "no name beside the address");
    assert_eq!(
        mail.text(),
        format!(
            "Your care team has a question for you.\n\nPlease answer here: https://portal.example/portal/inbox/{id}\n"
        )
    );
    assert!(mail.message_id().ends_with("@hospital.example>"));
}

/// What is within a subject or a text stays there: it makes no header, no recipient and no mail of its own.
#[tokio::test]
async fn lines_within_a_message_make_no_headers_and_no_mail() {
    let world = World::new().await;
    let peer = Peer::start(&[]).await;
    let patient = world.patient(&[]).await;
    world.consent(&patient, "active").await;
    let subjects = [
        "A message\r\nBcc: y@example.org",
        "A message\nTo: y@example.org\n\nHello",
        "A message\r\n.\r\nMAIL FROM:<y@example.org>",
    ];
    for subject in subjects {
        let id = world
            .queue(&patient, |message| {
                message.subject = subject.to_owned();
                message.text = "One\r\n.\r\nMAIL FROM:<y@example.org>\r\nRCPT TO:<y@example.org>\r\nDATA\r\nTwo\n.\nthree\r.\rfour {link}".to_owned();
            })
            .await;
        let running = world.run(world.options(peer.port));
        world.wait_for(&patient, &id, "completed").await;
        running.stop().await;
    }
    let seen = peer.seen();
    assert_eq!(seen.len(), subjects.len(), "{seen:?}");
    for mail in &seen {
        assert_eq!(mail.0["to"], serde_json::json!([ADDRESS]));
        assert_eq!(mail.0["from"], "care@hospital.example");
        assert_eq!((mail.header("To"), mail.header("Bcc")), (ADDRESS, ""));
        assert!(mail.header("Subject").starts_with("A message "), "{mail:?}");
        let text = mail.text();
        assert!(
            text.contains("MAIL FROM") && text.contains("four https://"),
            "{text:?}"
        );
    }
}

#[tokio::test]
async fn arrives_over_tls_from_the_first_byte() {
    let world = World::new().await;
    let (certificate, key) = certificate(world.folder.path()).await;
    let arguments = [
        "--certificate",
        certificate.to_str().unwrap(),
        "--key",
        key.to_str().unwrap(),
        "--implicit",
    ];
    let peer = Peer::start(&arguments).await;
    let patient = world.patient(&[]).await;
    let id = world.queue(&patient, |_| {}).await;
    let running = world.run(MailOptions {
        tls: MailTls::Implicit,
        ca_file: Some(certificate),
        ..world.options(peer.port)
    });
    world.wait_for(&patient, &id, "completed").await;
    running.stop().await;
    assert_eq!(peer.seen().len(), 1);
}

// Proves: 45 CFR 164.312(e)(2)(ii)
#[tokio::test]
async fn an_unknown_certificate_keeps_mail_and_password_in() {
    let world = World::new().await;
    let (certificate, key) = certificate(world.folder.path()).await;
    let (pem, key) = (certificate.to_str().unwrap(), key.to_str().unwrap());
    let peer = Peer::start(&[
        "--certificate",
        pem,
        "--key",
        key,
        "--auth",
        "cairn:open sesame",
    ])
    .await;
    let patient = world.patient(&[]).await;
    let id = world.queue(&patient, |_| {}).await;
    let running = world.run(MailOptions {
        tls: MailTls::Starttls,
        credentials: Some(("cairn".to_owned(), "open sesame".to_owned())),
        ..world.options(peer.port)
    });
    world.wait_put_off(&patient, &id, 1).await;
    running.stop().await;
    assert!(peer.seen().is_empty());
    assert_eq!(world.outbox().await.len(), 1);
}

// Proves: 45 CFR 164.312(e)(2)(ii)
#[tokio::test]
async fn a_server_without_starttls_gets_nothing() {
    let world = World::new().await;
    let peer = Peer::start(&[]).await;
    let patient = world.patient(&[]).await;
    let id = world.queue(&patient, |_| {}).await;
    let running = world.run(MailOptions {
        tls: MailTls::Starttls,
        ..world.options(peer.port)
    });
    let found = world.wait_put_off(&patient, &id, 1).await;
    running.stop().await;
    assert!(
        found["statusReason"]["text"]
            .as_str()
            .unwrap()
            .contains("offers no encryption"),
        "{found}"
    );
    assert!(peer.seen().is_empty());
}

#[tokio::test]
async fn many_messages_arrive_once_each_and_in_parallel_bounds() {
    let world = World::new().await;
    let peer = Peer::start(&[]).await;
    let mut queued = Vec::new();
    for _ in 0..5 {
        let patient = world.patient(&[]).await;
        for _ in 0..5 {
            let id = world.queue(&patient, |_| {}).await;
            queued.push((patient.clone(), id));
        }
    }
    let running = world.run(world.options(peer.port));
    for (patient, id) in &queued {
        world.wait_for(patient, id, "completed").await;
    }
    // One that comes later is noticed without a poll.
    let patient = world.patient(&[]).await;
    let id = world.queue(&patient, |_| {}).await;
    world.wait_for(&patient, &id, "completed").await;
    running.stop().await;
    let mut ids: Vec<String> = peer
        .seen()
        .iter()
        .map(|seen| seen.message_id().to_owned())
        .collect();
    ids.sort();
    ids.dedup();
    assert_eq!((peer.seen().len(), ids.len()), (26, 26));
}

// Proves: 45 CFR 164.312(d)
#[tokio::test]
async fn a_magic_link_leads_through_the_sign_in() {
    let world = World::new().await;
    let peer = Peer::start(&[]).await;
    let patient = world.patient(&[]).await;
    let id = world.queue(&patient, |_| {}).await;
    let running = world.run(MailOptions {
        magic_links: true,
        ..world.options(peer.port)
    });
    world.wait_for(&patient, &id, "completed").await;
    running.stop().await;
    let text = peer.seen()[0].text();
    let (_, link) = text
        .split_once("https://portal.example/sign-in/link/")
        .expect("a link");
    let (secret, next) = link.trim().split_once("?next=").expect("where it goes on");
    assert_eq!(next, format!("/portal/inbox/{id}"));
    let identity = world.trust.identity();
    assert!(
        identity
            .use_link(crate::world::TENANT, secret, "1941-03-08")
            .await
            .is_err()
    );
    identity
        .use_link(crate::world::TENANT, secret, "1941-03-07")
        .await
        .expect("signed in");
}

#[tokio::test]
async fn options_that_do_not_fit_together_are_refused_in_words() {
    let world = World::new().await;
    let plain = world.options(25);
    let elsewhere = || MailOptions {
        host: "mail.example".to_owned(),
        ..plain.clone()
    };
    let not_pem = world.folder.path().join("not.pem");
    std::fs::write(&not_pem, "hello").unwrap();
    let table = [
        (elsewhere(), "without TLS"),
        (
            MailOptions {
                host: " ".to_owned(),
                ..plain.clone()
            },
            "host",
        ),
        (
            MailOptions {
                from: "nobody".to_owned(),
                ..plain.clone()
            },
            "sender",
        ),
        (
            MailOptions {
                message_id_domain: "a b".to_owned(),
                ..plain.clone()
            },
            "Message-ID",
        ),
        (
            MailOptions {
                message_id_domain: String::new(),
                ..plain.clone()
            },
            "Message-ID",
        ),
        (
            MailOptions {
                portal_base: "portal.example".to_owned(),
                ..plain.clone()
            },
            "portal",
        ),
        (
            MailOptions {
                parallel: 0,
                ..plain.clone()
            },
            "at once",
        ),
        (
            MailOptions {
                timeout_ms: 0,
                ..plain.clone()
            },
            "time-out",
        ),
        (
            MailOptions {
                ca_file: Some(not_pem.clone()),
                ..plain.clone()
            },
            "without TLS",
        ),
        (
            MailOptions {
                tls: MailTls::Starttls,
                ca_file: Some(not_pem.clone()),
                ..plain.clone()
            },
            "certificate",
        ),
        (
            MailOptions {
                tls: MailTls::Starttls,
                ca_file: Some("/nowhere.pem".into()),
                ..plain.clone()
            },
            "/nowhere.pem",
        ),
    ];
    for (options, expected) in table {
        let words = Deliverer::mail(world.trust.clone(), options)
            .err()
            .expect("refused");
        assert!(words.contains(expected), "{words} does not say {expected}");
    }
    Deliverer::mail(
        world.trust.clone(),
        MailOptions {
            tls: MailTls::Starttls,
            ..elsewhere()
        },
    )
    .expect("taken");
    let shown = format!(
        "{:?}",
        MailOptions {
            credentials: Some(("u".to_owned(), "secret".to_owned())),
            ..plain
        }
    );
    assert!(!shown.contains("secret"), "{shown}");
}
