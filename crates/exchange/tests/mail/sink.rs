//! The demo's own receiver.

use exchange::sink::{MESSAGE_BYTES_MAX, MESSAGES_MAX, Mailbox, RECIPIENTS_MAX};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::patience::until;
use crate::world::{ADDRESS, World};

struct Client(BufReader<TcpStream>);

impl Client {
    async fn new(port: u16) -> Self {
        let mut client = Self(BufReader::new(
            TcpStream::connect(("127.0.0.1", port))
                .await
                .expect("connected"),
        ));
        assert!(client.reply().await.starts_with("220 "));
        client
    }
    async fn reply(&mut self) -> String {
        let mut all = String::new();
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).await.expect("a line");
            let last = line.as_bytes().get(3) != Some(&b'-');
            all.push_str(&line);
            if last {
                return all;
            }
        }
    }
    async fn send(&mut self, text: &str) {
        self.0
            .get_mut()
            .write_all(text.as_bytes())
            .await
            .expect("sent");
    }
    async fn ask(&mut self, line: &str) -> String {
        self.send(&format!("{line}\r\n")).await;
        self.reply().await
    }
    async fn expect(&mut self, line: &str, code: &str) {
        let reply = self.ask(line).await;
        assert!(reply.starts_with(code), "{line}: {reply}");
    }
}

async fn sink() -> (Mailbox, u16, watch::Sender<bool>) {
    let mailbox = Mailbox::default();
    let (stop, stopped) = watch::channel(false);
    let port = mailbox.listen(0, stopped).await.expect("a port");
    (mailbox, port, stop)
}

#[tokio::test]
async fn takes_mail_word_by_word() {
    let (mailbox, port, _stop) = sink().await;
    let mut client = Client::new(port).await;
    for (line, code) in [
        ("MAIL FROM:<a@b.example>", "503"),
        ("EHLO here", "250-"),
        ("RCPT TO:<c@d.example>", "503"),
        ("DATA", "503"),
        ("MAIL FROM:a@b.example", "501"),
        ("MAIL FROM:<a@b.example> SIZE=99999999", "552"),
        ("mail from:<a@b.example> BODY=8BITMIME", "250"),
        ("MAIL FROM:<a@b.example>", "503"),
        ("RCPT TO:<>", "501"),
        ("RCPT TO: <c@d.example>", "250"),
        ("RCPT TO:<e@f.example>", "250"),
        ("NOOP", "250"),
        ("VRFY c", "252"),
        ("WHAT", "502"),
        ("DATA", "354"),
    ] {
        client.expect(line, code).await;
    }
    client.send("Message-ID: <1@b.example>\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nContent-Type: text/plain; charset=utf-8\r\n").await;
    client.send("Content-Transfer-Encoding: quoted-printable\r\n\r\n..leading dot\r\n.. two\r\n=C3=A4\r\n").await;
    client.expect(".", "250").await;
    // The envelope is gone after a message.
    client.expect("RCPT TO:<g@h.example>", "503").await;
    client.expect("RSET", "250").await;
    client.expect("QUIT", "221").await;

    assert_eq!(mailbox.count(), 2);
    let all = mailbox.messages(None, 10);
    assert_eq!(
        all.iter()
            .map(|message| message.to.as_str())
            .collect::<Vec<_>>(),
        ["e@f.example", "c@d.example"]
    );
    let message = mailbox.message(1).expect("the first");
    assert_eq!(message.to, "c@d.example");
    assert_eq!(message.message_id, "1@b.example");
    assert_eq!(message.subject, "Grüße");
    assert_eq!(message.text, ".leading dot\n. two\nä\n");
    assert_eq!(mailbox.messages(Some("C@D.example"), 10).len(), 1);
    assert!(mailbox.messages(Some("x@d.example"), 10).is_empty());
    assert!(mailbox.message(3).is_none() && mailbox.message(0).is_none());
}

#[tokio::test]
async fn refuses_mail_to_mailboxes_that_are_closed() {
    let (mailbox, port, _stop) = sink().await;
    mailbox.close_domain("Closed.example");
    let mut client = Client::new(port).await;
    for (line, code) in [
        ("EHLO here", "250-"),
        ("MAIL FROM:<a@b.example>", "250"),
        ("RCPT TO:<c@closed.EXAMPLE>", "550 5.1.1"),
        ("DATA", "503"),
        ("RCPT TO:<c@not.closed.example>", "250"),
        ("RCPT TO:<closed.example@d.example>", "250"),
    ] {
        client.expect(line, code).await;
    }
}

#[tokio::test]
async fn keeps_its_bounds() {
    let (mailbox, port, _stop) = sink().await;
    let mut client = Client::new(port).await;
    client.expect("EHLO here", "250").await;
    client.expect("MAIL FROM:<a@b.example>", "250").await;
    for _ in 0..RECIPIENTS_MAX {
        client.expect("RCPT TO:<c@d.example>", "250").await;
    }
    client.expect("RCPT TO:<c@d.example>", "452").await;
    client.expect("DATA", "354").await;
    let line = "x".repeat(998) + "\r\n";
    client.send("Subject: large\r\n\r\n").await;
    for _ in 0..=MESSAGE_BYTES_MAX / line.len() {
        client.send(&line).await;
    }
    client.expect(".", "552").await;
    assert_eq!(mailbox.count(), 0);

    for round in 0..=MESSAGES_MAX / RECIPIENTS_MAX {
        client.expect("MAIL FROM:<a@b.example>", "250").await;
        let mut recipients = String::new();
        for place in 0..RECIPIENTS_MAX {
            recipients.push_str(&format!(
                "RCPT TO:<{}@d.example>\r\n",
                round * RECIPIENTS_MAX + place
            ));
        }
        client.send(&recipients).await;
        for _ in 0..RECIPIENTS_MAX {
            assert!(client.reply().await.starts_with("250"));
        }
        client.expect("DATA", "354").await;
        client.expect("Subject: s\r\n\r\nt\r\n.", "250").await;
    }
    let kept = mailbox.messages(None, usize::MAX);
    assert_eq!(kept.len(), MESSAGES_MAX);
    assert_eq!(mailbox.count(), (MESSAGES_MAX + RECIPIENTS_MAX) as u64);
    assert_eq!(
        kept[0].to,
        format!("{}@d.example", MESSAGES_MAX + RECIPIENTS_MAX - 1)
    );
    assert_eq!(
        kept[MESSAGES_MAX - 1].to,
        format!("{RECIPIENTS_MAX}@d.example")
    );

    client.send(&"y".repeat(4_000)).await;
    assert!(client.reply().await.starts_with("500"));
    let mut rest = String::new();
    assert_eq!(
        client.0.read_line(&mut rest).await.unwrap_or(0),
        0,
        "it hangs up"
    );
}

#[tokio::test]
async fn stops_when_told() {
    let (_mailbox, port, stop) = sink().await;
    let mut client = Client::new(port).await;
    client.expect("EHLO here", "250").await;
    stop.send(true).expect("heard");
    let mut rest = String::new();
    assert_eq!(
        client.0.read_line(&mut rest).await.unwrap_or(0),
        0,
        "it hangs up"
    );
    until("it listens no more", async || {
        TcpStream::connect(("127.0.0.1", port)).await.is_err()
    })
    .await;
}

#[tokio::test]
async fn takes_what_the_deliverer_sends() {
    let world = World::new().await;
    let (mailbox, port, _stop) = sink().await;
    let patient = world.patient(&[]).await;
    let id = world
        .queue(&patient, |message| {
            message.subject = "Grüße – wie geht’s?".to_owned();
            message.text = format!("{}\n.\n..dots\n{{link}}", "ä".repeat(200));
        })
        .await;
    let running = world.run(world.options(port));
    world.wait_for(&patient, &id, "completed").await;
    running.stop().await;
    let message = mailbox.messages(Some(ADDRESS), 1).remove(0);
    assert_eq!(message.subject, "Grüße – wie geht’s?");
    assert_eq!(
        message.text,
        format!(
            "{}\n.\n..dots\nhttps://portal.example/portal/inbox/{id}\n",
            "ä".repeat(200)
        )
    );
    assert!(message.message_id.ends_with("@hospital.example"));
    assert!(message.received_ms > 0);
}
