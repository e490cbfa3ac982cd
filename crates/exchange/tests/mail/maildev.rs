//! Another mail server of others, `maildev`: what it makes of our mail, and what becomes of it when it is killed.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::{Child, Command};
use trust::outgoing::Visit;

use crate::patience::{Patience, until};
use crate::world::World;

/// A running server; ends with the value.
struct Maildev {
    smtp: u16,
    web: u16,
    child: Child,
}

/// A port that nobody has: taken and given back.
fn port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

impl Maildev {
    async fn start(folder: &Path, smtp: u16) -> Self {
        let program = Path::new(env!("CARGO_MANIFEST_DIR"))
            .ancestors()
            .nth(2)
            .expect("the workspace")
            .join("target/peers/mail-npm/node_modules/maildev/dist/bin/maildev.js");
        assert!(
            program.exists(),
            "the tests need another mail server: run scripts/test once, or npm install --prefix target/peers/mail-npm maildev"
        );
        let web = port();
        let child = Command::new("node")
            .arg(program)
            .args(["--ip", "127.0.0.1", "--web-ip", "127.0.0.1", "--silent"])
            .args(["--smtp", &smtp.to_string(), "--web", &web.to_string()])
            .arg("--mail-directory")
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("maildev starts");
        let server = Self { smtp, web, child };
        let mut patience = Patience::new();
        while server.mails().await.is_none() {
            patience.wait("maildev does not answer").await;
        }
        server
    }

    /// What it has understood of each mail.
    async fn mails(&self) -> Option<Vec<Value>> {
        let url = format!("http://127.0.0.1:{}/api/email", self.web);
        let answer = reqwest::get(url).await.ok()?;
        answer.json().await.ok()
    }

    async fn kill(mut self) {
        self.child.kill().await.expect("killed");
    }
}

#[tokio::test]
async fn another_server_understands_what_is_sent() {
    let world = World::new().await;
    let folder = tempfile::tempdir().expect("a folder");
    let server = Maildev::start(folder.path(), port()).await;
    let patient = world.patient(&[]).await;
    let id = world
        .queue(&patient, |message| {
            message.subject = "Grüße aus Ihrem Krankenhaus".to_owned();
            message.visit = Some(Visit {
                appointment: "3f2504e0-4f89-41d3-9a0c-0305e82c3301".to_owned(),
                start_ms: 1_793_100_000_000,
                end_ms: 1_793_101_800_000,
                sequence: 0,
                cancelled: false,
            });
        })
        .await;
    let running = world.run(world.options(server.smtp));
    world.wait_for(&patient, &id, "completed").await;
    running.stop().await;
    let mails = server.mails().await.expect("mails");
    assert_eq!(mails.len(), 1, "{mails:?}");
    let mail = &mails[0];
    assert_eq!(mail["subject"], "Grüße aus Ihrem Krankenhaus");
    let text = mail["text"].as_str().unwrap_or_default();
    let html = mail["html"].as_str().unwrap_or_default();
    for words in [text, html] {
        assert!(words.contains("Please answer here"), "{mail}");
        assert!(
            words.contains(&format!("https://portal.example/portal/inbox/{id}")),
            "{mail}"
        );
    }
    assert_eq!(mail["attachments"][0]["contentType"], "text/calendar");
    server.kill().await;
}

/// How often each message is in a folder of mails, by its `Message-ID`.
fn counted(folder: &Path) -> BTreeMap<String, usize> {
    let mut counted = BTreeMap::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "eml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        // One that it was writing when it was killed was not taken either: it ends with the last boundary.
        let is_whole = text.trim_end().ends_with("--");
        let id = text
            .lines()
            .find_map(|line| line.strip_prefix("Message-ID: "));
        if let Some(id) = id.filter(|_| is_whole) {
            *counted.entry(id.trim().to_owned()).or_default() += 1;
        }
    }
    counted
}

#[tokio::test]
async fn a_server_that_is_killed_while_mails_come_in_costs_none() {
    const MESSAGES: usize = 60;
    let world = World::new().await;
    let folder = tempfile::tempdir().expect("a folder");
    let smtp = port();
    let mut server = Maildev::start(folder.path(), smtp).await;
    let mut queued = Vec::new();
    for _ in 0..MESSAGES {
        let patient = world.patient(&[]).await;
        let id = world.queue(&patient, |_| {}).await;
        queued.push((patient, id));
    }
    let running = world.run(world.options(smtp));
    for share in [MESSAGES / 4, MESSAGES / 2] {
        until("a share has come in", async || {
            counted(folder.path()).len() >= share
        })
        .await;
        server.kill().await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        world.clock.advance(10 * 60_000);
        server = Maildev::start(folder.path(), smtp).await;
        // What was put off while it was gone is due again, and so on until all is sent.
        world.clock.advance(60 * 60_000);
    }
    for (patient, id) in &queued {
        let mut patience = Patience::new();
        while world.communication(patient, id).await["status"] != "completed" {
            world.clock.advance(10 * 60_000);
            patience.wait("a message is not sent").await;
        }
    }
    running.stop().await;
    let counted = counted(folder.path());
    assert_eq!(counted.len(), MESSAGES, "each came in");
    let doubles = counted.values().sum::<usize>() - MESSAGES;
    println!("{MESSAGES} messages, 2 kills of the server, {doubles} doubles");
    // At most what was under way at each kill.
    assert!(doubles <= 2 * world.options(smtp).parallel, "{doubles}");
    assert!(world.outbox().await.is_empty());
    server.kill().await;
}
