//! Signatures, checked by a library that nobody here wrote.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use exchange::{Dkim, MailOptions};
use serde_json::{Value, json};

use crate::peer::Peer;
use crate::readers::{ask, run};
use crate::world::World;

const DOMAIN: &str = "hospital.example";

/// A private key as a PEM file, and what the domain publishes of it.
async fn key(folder: &Path, kind: &str) -> (PathBuf, String) {
    let path = folder.join(format!("{kind}.pem"));
    let file = path.to_str().expect("a path");
    let arguments = match kind.strip_prefix("rsa") {
        Some(bits) => vec!["genrsa", "-out", file, bits],
        None => vec!["genpkey", "-algorithm", kind, "-out", file],
    };
    run("openssl", &arguments, b"").await;
    let arguments = ["pkey", "-in", file, "-pubout", "-outform", "DER"];
    let public = run("openssl", &arguments, b"").await;
    let record = if kind == "ed25519" {
        // RFC 8463, section 4: the key alone, which is the end of its DER form.
        let bare = public.get(public.len() - 32..).expect("32 bytes");
        format!("v=DKIM1; k=ed25519; p={}", STANDARD.encode(bare))
    } else {
        format!("v=DKIM1; k=rsa; p={}", STANDARD.encode(&public))
    };
    (path, record)
}

fn names(selector: &str) -> String {
    format!("{selector}._domainkey.{DOMAIN}")
}

async fn verified(mail: &[u8], dns: &Value) -> Vec<Value> {
    let asked = json!({"mail": STANDARD.encode(mail), "dns": dns});
    let answer = ask("dkim", &asked).await;
    answer["signatures"].as_array().expect("signatures").clone()
}

fn all_good(signatures: &[Value]) -> bool {
    !signatures.is_empty() && signatures.iter().all(|one| one["good"] == true)
}

fn with(mail: &[u8], change: impl FnOnce(String) -> String) -> Vec<u8> {
    let before = String::from_utf8(mail.to_vec()).expect("ASCII");
    let after = change(before.clone());
    assert_ne!(before, after, "nothing was changed");
    after.into_bytes()
}

#[tokio::test]
async fn mail_is_signed_so_that_nobody_changes_it_on_the_way() {
    let world = World::new().await;
    let folder = tempfile::tempdir().expect("a folder");
    let (rsa, rsa_record) = key(folder.path(), "rsa2048").await;
    let (ed, ed_record) = key(folder.path(), "ed25519").await;
    let files = [("s1".to_owned(), rsa), ("s2".to_owned(), ed)];
    let dkim = Dkim::read(DOMAIN, &files).expect("keys");
    let peer = Peer::start(&[]).await;
    let patient = world.patient(&[]).await;
    let id = world
        .queue(&patient, |message| {
            message.subject = "Grüße   aus Ihrem Krankenhaus: eine Nachricht, die länger ist als eine Zeile sein darf, und so gefaltet wird".to_owned();
            message.text = "Guten Tag,  \n\n\nbitte lesen Sie: {link}\n\n   eingerückt\t\tund Ähnliches. \n\n\n".to_owned();
        })
        .await;
    let running = world.run(MailOptions {
        dkim: Some(dkim),
        ..world.options(peer.port)
    });
    world.wait_for(&patient, &id, "completed").await;
    running.stop().await;
    let mail = peer.seen()[0].raw();
    let dns = json!({names("s1"): rsa_record, names("s2"): ed_record});

    let signatures = verified(&mail, &dns).await;
    assert_eq!(signatures.len(), 2, "{signatures:?}");
    for (signature, algorithm) in signatures.iter().zip(["rsa-sha256", "ed25519-sha256"]) {
        assert_eq!(signature["good"], true, "{signature}");
        assert_eq!(signature["algorithm"], algorithm);
        assert_eq!(signature["domain"], DOMAIN);
        let headers = signature["headers"].as_array().expect("headers");
        let count = |name: &str| headers.iter().filter(|known| *known == name).count();
        for name in [
            "from",
            "to",
            "subject",
            "date",
            "message-id",
            "auto-submitted",
        ] {
            assert_eq!(count(name), 2, "{name}: {signature}");
        }
        for name in ["content-type", "mime-version", "list-unsubscribe"] {
            assert_eq!(count(name), 1, "{name}: {signature}");
        }
        assert_eq!(
            count("reply-to"),
            1,
            "one that is added breaks it: {signature}"
        );
    }

    // What is changed or added on the way shows; what a mail server may do to it doesn't.
    let changes: [(&str, Vec<u8>); 7] = [
        (
            "subject",
            with(&mail, |mail| mail.replacen("Subject: ", "Subject: x", 1)),
        ),
        (
            "date",
            with(&mail, |mail| mail.replacen("Date: ", "Date: 1", 1)),
        ),
        (
            "body",
            with(&mail, |mail| mail.replacen("portal", "evil", 1)),
        ),
        (
            "a second sender",
            with(&mail, |mail| format!("From: evil@evil.example\r\n{mail}")),
        ),
        (
            "a second subject",
            with(&mail, |mail| format!("Subject: evil\r\n{mail}")),
        ),
        (
            "an answer elsewhere",
            with(&mail, |mail| {
                format!("Reply-To: evil@evil.example\r\n{mail}")
            }),
        ),
        (
            "no longer automatic",
            with(&mail, |mail| mail.replacen("auto-generated", "no", 1)),
        ),
    ];
    for (what, changed) in changes {
        let signatures = verified(&changed, &dns).await;
        assert_eq!(signatures.len(), 2, "{what}");
        assert!(
            signatures.iter().all(|one| one["good"] == false),
            "{what}: {signatures:?}"
        );
    }
    let received = with(&mail, |mail| {
        format!(
            "Received: by mx.example\r\n{}\r\n\r\n",
            mail.replacen("To: ", "To:  ", 1)
        )
    });
    assert!(all_good(&verified(&received, &dns).await));
    // Another's key is none of the domain's.
    let (_, other) = key(folder.path(), "rsa3072").await;
    let wrong = json!({names("s1"): other, names("s2"): ed_record});
    let signatures = verified(&mail, &wrong).await;
    assert_eq!(signatures[0]["good"], false);
    assert_eq!(signatures[1]["good"], true);
}

#[tokio::test]
async fn keys_that_receivers_would_not_take_are_told_at_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let (small, _) = key(folder.path(), "rsa1024").await;
    let (rsa, _) = key(folder.path(), "rsa2048").await;
    let (again, _) = key(folder.path(), "rsa3072").await;
    let (agreement, _) = key(folder.path(), "x25519").await;
    let text = folder.path().join("text");
    std::fs::write(&text, "hello").expect("written");
    let gone = folder.path().join("gone");
    let one = |path: &Path| vec![("s1".to_owned(), path.to_owned())];
    let cases = [
        (DOMAIN, one(&small), "2048"),
        (DOMAIN, one(&agreement), "no key that signs"),
        (DOMAIN, one(&text), "no private key in PEM"),
        (DOMAIN, one(&gone), "No such file"),
        (DOMAIN, Vec::new(), "no key"),
        ("hospital", one(&rsa), "domain"),
        ("hospital.example; x=y", one(&rsa), "domain"),
        (DOMAIN, vec![("s 1".to_owned(), rsa.clone())], "selector"),
        (
            DOMAIN,
            vec![
                ("s1".to_owned(), rsa.clone()),
                ("S1".to_owned(), again.clone()),
            ],
            "twice",
        ),
        (
            DOMAIN,
            vec![("s1".to_owned(), rsa.clone()), ("s2".to_owned(), again)],
            "same kind",
        ),
    ];
    for (domain, files, words) in cases {
        let error = Dkim::read(domain, &files).expect_err(words);
        assert!(error.contains(words), "{error} doesn't say {words}");
        assert!(!error.contains("PRIVATE KEY"), "{error}");
    }
    // A signature of one domain says nothing for another's address.
    let world = World::new().await;
    let dkim = Dkim::read("clinic.example", &one(&rsa)).expect("a key");
    let options = MailOptions {
        dkim: Some(dkim),
        ..world.options(25)
    };
    let error = exchange::Deliverer::mail(world.trust.clone(), options).err();
    assert!(error.is_some_and(|error| error.contains("clinic.example")));
}
