//! The demo's mailbox: for those who may read patients' messages, and with a line in the audit.

use axum::http::StatusCode;
use fhir::ResourceType;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::world::{World, check_html};

/// Gives a message to the mailbox's SMTP server.
async fn send(port: u16, message_id: &str, subject: &str) {
    let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    let mut line = String::new();
    stream.read_line(&mut line).await.unwrap();
    let content = format!(
        "From: care@example.com\r\nTo: ida@example.com\r\nMessage-ID: <{message_id}>\r\nSubject: {subject}\r\n\r\nPlease look.\r\n.\r\n"
    );
    for command in [
        "HELO test\r\n",
        "MAIL FROM:<care@example.com>\r\n",
        "RCPT TO:<ida@example.com>\r\n",
        "DATA\r\n",
        &content,
    ] {
        stream.write_all(command.as_bytes()).await.unwrap();
        line.clear();
        stream.read_line(&mut line).await.unwrap();
        assert!(line.starts_with(['2', '3']), "{command}: {line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_read_like_the_communication_that_it_delivered() {
    let world = World::new().await;
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    let port = world.mailbox.listen(0, stopped).await.unwrap();
    let ida = world.patient("Ida", "Berg").await;
    let communication = world.id_of(&ida);
    world
        .put(vec![json!({ "resourceType": "Communication", "id": communication, "status": "completed", "subject": { "reference": format!("Patient/{ida}") } })])
        .await;
    let of_ida = format!("{}@example.com", communication.replace('-', ""));
    send(port, &of_ida, "For Ida").await;
    send(
        port,
        "00000000000040008000000000000000@example.com",
        "For nobody",
    )
    .await;
    send(port, "hello@example.com", "From elsewhere").await;

    let mut sam = world.staff("sam").await;
    for path in ["/console/mailbox", "/console/mailbox/1"] {
        let page = sam.get(path).await;
        assert_eq!(page.status, StatusCode::FORBIDDEN, "{path}");
        assert!(!page.has("For Ida") && !page.has("ida@"));
    }
    assert!(!sam.get("/console/journeys").await.has("/console/mailbox"));

    let looks = async || {
        let events = world.all(ResourceType::AuditEvent, &ida).await;
        let by_carla = events.iter().filter(|event| {
            event.text_at(&["agent", "0", "name"]) == Some("Carla Ortiz")
                && String::from_utf8(event.to_json())
                    .unwrap()
                    .contains(&format!("Communication/{communication}"))
        });
        by_carla.count()
    };
    let mut carla = world.staff("carla").await;
    assert_eq!(looks().await, 0);
    let page = carla.get("/console/mailbox").await;
    page.shows("For Ida");
    assert!(!page.has("For nobody") && !page.has("From elsewhere"));
    check_html("mailbox", &page.body);
    assert_eq!(looks().await, 1);
    let page = carla.get("/console/mailbox/1").await;
    page.shows("Please look.");
    check_html("message", &page.body);
    assert_eq!(looks().await, 2);
    for other in ["2", "3", "4", "x"] {
        let page = carla.get(&format!("/console/mailbox/{other}")).await;
        assert!(
            matches!(page.status, StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST),
            "{other}"
        );
        assert!(!page.has("For nobody"));
    }
}
