//! An SMTP server that keeps what it gets, for the demo: its mailbox is read in the console.
//!
//! It speaks as much of RFC 5321 as a deliverer needs, listens on this machine only, offers neither
//! TLS nor sign-in, and forgets the oldest messages beyond its bounds. It is no mail server: nothing
//! is passed on. Written here because `mailin-embedded`, the one embeddable receiver among the crates,
//! takes a thread for each connection, can't be stopped, and rests on an abandoned PEM parser.

use std::collections::{BTreeSet, VecDeque};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ledger::{Clock, SystemClock};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

/// Messages that are kept.
pub const MESSAGES_MAX: usize = 10_000;
/// Bytes of text and subject that are kept; the oldest messages fall out beyond it.
pub const BYTES_MAX: usize = 64 << 20;
/// Bytes of a message as it arrives.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Recipients of one message (the least that RFC 5321, section 4.5.3.1.8, asks for).
pub const RECIPIENTS_MAX: usize = 100;
/// Conversations at once.
const CONVERSATIONS_MAX: usize = 64;
/// Bytes of a command line. RFC 5321, section 4.5.3.1.4, asks for 512; parameters may add to it.
const COMMAND_BYTES_MAX: u64 = 2_048;
/// Bytes of a message that are read at a time.
const PIECE_BYTES_MAX: u64 = 8_192;
/// Silence after which a conversation is ended (RFC 5321, section 4.5.3.2.7).
const IDLE_MAX: Duration = Duration::from_secs(300);

/// A message that the sink took.
#[derive(Debug, Clone)]
pub struct SunkMessage {
    /// Running number.
    pub number: u64,
    /// When, milliseconds since the epoch (wall clock).
    pub received_ms: u64,
    /// Envelope recipient.
    pub to: String,
    /// `Message-ID` header, without its angle brackets.
    pub message_id: String,
    /// Subject header, decoded.
    pub subject: String,
    /// Text part, decoded.
    pub text: String,
}

impl SunkMessage {
    fn bytes(&self) -> usize {
        self.to.len() + self.message_id.len() + self.subject.len() + self.text.len()
    }
}

/// The demo's mailbox. Cheap to clone; bounded (the oldest fall out beyond 10,000).
#[derive(Clone, Default)]
pub struct Mailbox {
    held: Arc<Mutex<Held>>,
}

#[derive(Default)]
struct Held {
    /// Oldest first; numbers rise by one.
    messages: VecDeque<SunkMessage>,
    bytes: usize,
    taken: u64,
    /// Domains, in lower case, whose mailboxes are closed.
    closed: BTreeSet<String>,
}

impl Mailbox {
    /// Newest first, `limit` of them, of one recipient if given.
    #[must_use]
    pub fn messages(&self, to: Option<&str>, limit: usize) -> Vec<SunkMessage> {
        let held = self.held();
        let wanted =
            |message: &&SunkMessage| to.is_none_or(|to| message.to.eq_ignore_ascii_case(to));
        held.messages
            .iter()
            .rev()
            .filter(wanted)
            .take(limit)
            .cloned()
            .collect()
    }

    /// One message.
    #[must_use]
    pub fn message(&self, number: u64) -> Option<SunkMessage> {
        let held = self.held();
        let place = held
            .messages
            .binary_search_by_key(&number, |message| message.number)
            .ok()?;
        held.messages.get(place).cloned()
    }

    /// How many were taken in all.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.held().taken
    }

    /// From now on refuses mail to a domain for good, as a provider does for addresses that are no longer.
    pub fn close_domain(&self, domain: &str) {
        self.held().closed.insert(domain.to_ascii_lowercase());
    }

    /// Whether mail to an address is refused.
    fn is_closed(&self, address: &str) -> bool {
        let domain = address.rsplit('@').next().unwrap_or_default();
        self.held().closed.contains(&domain.to_ascii_lowercase())
    }

    /// Starts the sink on a loopback port (0: any) and returns the port.
    ///
    /// # Errors
    /// When the port can't be bound.
    pub async fn listen(&self, port: u16, stop: watch::Receiver<bool>) -> std::io::Result<u16> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let port = listener.local_addr()?.port();
        tokio::spawn(accept(self.clone(), listener, stop));
        Ok(port)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps one copy for each recipient. False when it isn't a message.
    fn take(&self, recipients: &[String], content: &[u8]) -> bool {
        let Some(parsed) = mail_parser::MessageParser::default().parse(content) else {
            return false;
        };
        let received_ms = SystemClock.now_ms();
        let mut held = self.held();
        for to in recipients {
            held.taken += 1;
            let message = SunkMessage {
                number: held.taken,
                received_ms,
                to: to.clone(),
                message_id: parsed.message_id().unwrap_or_default().to_owned(),
                subject: parsed.subject().unwrap_or_default().to_owned(),
                text: parsed
                    .body_text(0)
                    .unwrap_or_default()
                    .replace("\r\n", "\n"),
            };
            held.bytes += message.bytes();
            held.messages.push_back(message);
            while held.messages.len() > MESSAGES_MAX || held.bytes > BYTES_MAX {
                let Some(oldest) = held.messages.pop_front() else {
                    break;
                };
                held.bytes -= oldest.bytes();
            }
        }
        true
    }
}

async fn accept(mailbox: Mailbox, listener: TcpListener, mut stop: watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(CONVERSATIONS_MAX));
    loop {
        let next = async {
            let seat = Arc::clone(&room).acquire_owned().await;
            (seat, listener.accept().await)
        };
        let (seat, stream) = tokio::select! {
            () = stopped(&mut stop) => return,
            (seat, accepted) = next => match accepted {
                Ok((stream, _)) => (seat, stream),
                Err(error) => {
                    // Out of file descriptors, most likely: waiting lets some come back.
                    tracing::warn!(%error, "mail sink: a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let (mailbox, mut stop) = (mailbox.clone(), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                // A broken conversation concerns nobody: the deliverer sees it and tries again.
                _ = Conversation::new(mailbox, stream).run() => {}
                () = stopped(&mut stop) => {}
            }
            drop(seat);
        });
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that nobody is left who could say "stop" later.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// One connection's state.
struct Conversation {
    mailbox: Mailbox,
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    greeted: bool,
    from: Option<String>,
    recipients: Vec<String>,
}

/// What to do after a command.
enum Then {
    Say(&'static str),
    Receive,
    Leave,
}

impl Conversation {
    fn new(mailbox: Mailbox, stream: TcpStream) -> Self {
        let (reader, writer) = stream.into_split();
        Self {
            mailbox,
            reader: BufReader::new(reader),
            writer,
            greeted: false,
            from: None,
            recipients: Vec::new(),
        }
    }

    async fn run(mut self) -> std::io::Result<()> {
        self.say("220 localhost Cairn mail sink").await?;
        let mut line = Vec::new();
        loop {
            line.clear();
            let mut bounded = (&mut self.reader).take(COMMAND_BYTES_MAX);
            let reading = bounded.read_until(b'\n', &mut line);
            let Ok(read) = timeout(IDLE_MAX, reading).await else {
                return self
                    .say("421 4.4.2 localhost Too long silent, closing")
                    .await;
            };
            if read? == 0 {
                return Ok(());
            }
            if !line.ends_with(b"\n") {
                return self.say("500 5.5.6 Line too long, closing").await;
            }
            let Ok(command) = std::str::from_utf8(&line) else {
                self.say("500 5.5.2 Not UTF-8").await?;
                continue;
            };
            match self.obey(command.trim_end_matches(['\r', '\n'])) {
                Then::Say(reply) => self.say(reply).await?,
                Then::Receive => self.receive().await?,
                Then::Leave => return self.say("221 2.0.0 Bye").await,
            }
        }
    }

    fn obey(&mut self, line: &str) -> Then {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim();
        match verb.to_ascii_uppercase().as_str() {
            "EHLO" => {
                self.reset();
                self.greeted = true;
                Then::Say(
                    "250-localhost\r\n250-SIZE 1048576\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 ENHANCEDSTATUSCODES",
                )
            }
            "HELO" => {
                self.reset();
                self.greeted = true;
                Then::Say("250 localhost")
            }
            "MAIL" => Then::Say(self.mail(rest)),
            "RCPT" => Then::Say(self.recipient(rest)),
            "DATA" if self.recipients.is_empty() => Then::Say("503 5.5.1 Recipients first"),
            "DATA" => Then::Receive,
            "RSET" => {
                self.reset();
                Then::Say("250 2.0.0 Forgotten")
            }
            "NOOP" => Then::Say("250 2.0.0 Yes"),
            "VRFY" => Then::Say("252 2.1.5 Send some mail and see"),
            "QUIT" => Then::Leave,
            _ => Then::Say("502 5.5.1 Command not known"),
        }
    }

    fn mail(&mut self, rest: &str) -> &'static str {
        if !self.greeted {
            return "503 5.5.1 EHLO first";
        }
        if self.from.is_some() {
            return "503 5.5.1 There is a sender already";
        }
        let Some((address, parameters)) = path(rest, "FROM:") else {
            return "501 5.5.4 MAIL FROM:<address>";
        };
        let size = parameters.split_whitespace().find_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            name.eq_ignore_ascii_case("SIZE")
                .then(|| value.parse::<usize>().unwrap_or(usize::MAX))
        });
        if size.is_some_and(|size| size > MESSAGE_BYTES_MAX) {
            return "552 5.3.4 Too large";
        }
        self.from = Some(address.to_owned());
        "250 2.1.0 Sender taken"
    }

    fn recipient(&mut self, rest: &str) -> &'static str {
        if self.from.is_none() {
            return "503 5.5.1 MAIL first";
        }
        if self.recipients.len() >= RECIPIENTS_MAX {
            return "452 4.5.3 Too many recipients";
        }
        match path(rest, "TO:") {
            Some((address, _)) if self.mailbox.is_closed(address) => {
                "550 5.1.1 There is no such mailbox any more"
            }
            Some((address, _)) if !address.is_empty() => {
                self.recipients.push(address.to_owned());
                "250 2.1.5 Recipient taken"
            }
            _ => "501 5.5.4 RCPT TO:<address>",
        }
    }

    fn reset(&mut self) {
        self.from = None;
        self.recipients.clear();
    }

    /// Reads the message up to the line with a single dot, and undoes the stuffing of dots.
    async fn receive(&mut self) -> std::io::Result<()> {
        self.say("354 End with <CRLF>.<CRLF>").await?;
        let mut content = Vec::new();
        let mut piece = Vec::new();
        let mut too_large = false;
        let mut line_starts = true;
        loop {
            piece.clear();
            let mut bounded = (&mut self.reader).take(PIECE_BYTES_MAX);
            let reading = bounded.read_until(b'\n', &mut piece);
            let Ok(read) = timeout(IDLE_MAX, reading).await else {
                return self
                    .say("421 4.4.2 localhost Too long silent, closing")
                    .await;
            };
            if read? == 0 {
                return Ok(());
            }
            if line_starts && piece == b".\r\n" {
                break;
            }
            let kept = if line_starts && piece.starts_with(b".") {
                &piece[1..]
            } else {
                &piece[..]
            };
            line_starts = piece.ends_with(b"\n");
            // The rest is read all the same, because the other side listens only at the end.
            too_large |= content.len() + kept.len() > MESSAGE_BYTES_MAX;
            if !too_large {
                content.extend_from_slice(kept);
            }
        }
        let recipients = std::mem::take(&mut self.recipients);
        self.reset();
        if too_large {
            self.say("552 5.3.4 Too large").await
        } else if self.mailbox.take(&recipients, &content) {
            self.say("250 2.0.0 Taken").await
        } else {
            self.say("554 5.6.0 Not a message").await
        }
    }

    async fn say(&mut self, reply: &str) -> std::io::Result<()> {
        self.writer
            .write_all(format!("{reply}\r\n").as_bytes())
            .await?;
        self.writer.flush().await
    }
}

/// The address and the parameters of `FROM:<address> parameters`.
fn path<'a>(rest: &'a str, keyword: &str) -> Option<(&'a str, &'a str)> {
    let start = rest.get(..keyword.len())?;
    if !start.eq_ignore_ascii_case(keyword) {
        return None;
    }
    rest[keyword.len()..]
        .trim_start()
        .strip_prefix('<')?
        .split_once('>')
}
