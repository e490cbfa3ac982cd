//! Mail that came back is handed in over HTTP, with a secret.

use std::sync::{Arc, Mutex};

use cairn::store::TENANT;
use exchange::{MailOptions, MailTls, ReturnOptions};
use reqwest::{Method, StatusCode};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use trust::{Agent, Role};

use crate::house::{House, house, house_with};
use crate::patience::until;

const PATH: &str = "/channels/mail/returned";
const SECRET: &str = "a secret that nobody guesses";

/// A mail server that takes everything and keeps the envelopes' senders.
async fn mail_server() -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let senders: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = Arc::clone(&senders);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let kept = Arc::clone(&kept);
            tokio::spawn(async move {
                let (reader, mut writer) = stream.into_split();
                let mut lines = BufReader::new(reader).lines();
                let mut in_data = false;
                writer.write_all(b"220 ready\r\n").await.ok()?;
                while let Ok(Some(line)) = lines.next_line().await {
                    let loud = line.to_ascii_uppercase();
                    if let Some(sender) = line.strip_prefix("MAIL FROM:<") {
                        let sender = sender.split('>').next().unwrap_or_default();
                        kept.lock().expect("a lock").push(sender.to_owned());
                    }
                    let answer: &[u8] = match loud.split(' ').next() {
                        _ if in_data && line == "." => b"250 taken\r\n",
                        _ if in_data => continue,
                        Some("DATA") => b"354 go on\r\n",
                        Some("QUIT") => b"221 bye\r\n",
                        _ => b"250 yes\r\n",
                    };
                    in_data = loud == "DATA";
                    writer.write_all(answer).await.ok()?;
                }
                Some(())
            });
        }
    });
    (port, senders)
}

async fn with_returns(port: u16) -> House {
    house_with(|options| {
        options.mail = Some(MailOptions {
            host: "127.0.0.1".to_owned(),
            port,
            tls: MailTls::None,
            credentials: None,
            from: "care@hospital.example".to_owned(),
            message_id_domain: "hospital.example".to_owned(),
            portal_base: String::new(),
            timeout_ms: 10_000,
            parallel: 1,
            magic_links: false,
            ca_file: None,
            meter: exchange::Meter::default(),
            dkim: None,
            returns: Some(ReturnOptions {
                address: "returns@bounces.hospital.example".to_owned(),
                secret: SECRET.to_owned(),
                wait_ms: 900_000,
            }),
        });
    })
    .await
}

const BOUNCE: &str = "Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n\
    --b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.example\r\n\r\n\
    Action: failed\r\nStatus: 5.1.1\r\n\r\n--b--\r\n";

async fn hand_in(house: &House, secret: Option<&str>, to: Option<&str>, mail: Vec<u8>) -> u16 {
    let mut asked = house.bare(Method::POST, PATH).body(mail);
    if let Some(secret) = secret {
        asked = asked.bearer_auth(secret);
    }
    if let Some(to) = to {
        asked = asked.header("Cairn-Recipient", to);
    }
    let answer = asked.send().await.expect("an answer");
    let status = answer.status().as_u16();
    let body = answer.text().await.expect("a text");
    assert!(!body.contains('@'), "{body}");
    status
}

#[tokio::test]
async fn what_came_back_is_handed_in_with_a_secret() {
    let (port, senders) = mail_server().await;
    let house = with_returns(port).await;
    let patient = json!({"resourceType": "Patient", "id": "p", "birthDate": "1941-03-07"});
    let made = house.sent(Method::PUT, "/fhir/r4/Patient/p", &patient);
    let made = made.send().await.expect("an answer");
    assert_eq!(made.status(), StatusCode::CREATED);
    let identity = house.server.trust().identity();
    identity.alert_of_emergencies(vec!["privacy@hospital.example".to_owned()]);
    let clinician = Agent {
        tenant: TENANT,
        id: "clinician-1".to_owned(),
        name: "Devi Rao".to_owned(),
        role: Role::Clinician,
        patient: None,
        access: None,
        signed_in: trust::SignedIn::default(),
    };
    identity
        .break_glass(&clinician, "p", "She is unconscious", "r")
        .await
        .expect("emergency access");
    until("a notice has left", async || {
        !senders.lock().expect("a lock").is_empty()
    })
    .await;
    let sender = senders.lock().expect("a lock")[0].clone();
    assert!(sender.starts_with("returns+n"), "{sender}");
    let bounce = || BOUNCE.as_bytes().to_vec();
    let to = Some(sender.as_str());
    for wrong in [None, Some("x"), Some(""), Some(house.token.as_str())] {
        assert_eq!(hand_in(&house, wrong, to, bounce()).await, 401, "{wrong:?}");
    }
    let secret = Some(SECRET);
    assert_eq!(hand_in(&house, secret, None, bounce()).await, 400);
    assert_eq!(hand_in(&house, secret, to, bounce()).await, 204);
    let away = b"Subject: away\r\n\r\nUntil Monday".to_vec();
    assert_eq!(hand_in(&house, secret, to, away).await, 204);
    assert_eq!(hand_in(&house, secret, to, vec![b'x'; 2 << 20]).await, 413);
    for made_up in [
        "",
        "care@hospital.example",
        "returns+nabc@bounces.hospital.example",
    ] {
        assert_eq!(hand_in(&house, secret, Some(made_up), bounce()).await, 422);
    }
    // It opens nothing else.
    let other = house
        .bare(Method::GET, "/fhir/r4/Patient/p")
        .bearer_auth(SECRET);
    assert_eq!(
        other.send().await.expect("an answer").status(),
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test]
async fn where_nothing_comes_back_there_is_no_door() {
    let house = house().await;
    let status = hand_in(&house, Some(SECRET), Some("x@y.example"), Vec::new()).await;
    assert_eq!(status, 404);
}
