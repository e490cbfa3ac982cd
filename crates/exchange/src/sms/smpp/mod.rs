//! A provider by SMPP 3.4: a connection that stays, over which messages go out and receipts, and what people send, come
//! in.
//!
//! One session at a time, bound as a transceiver. When it ends, what had no answer may have been taken, and the next one
//! is opened after a pause that grows. `session.rs` carries one, `pdu.rs` has its commands as octets, `brought.rs` takes
//! what comes by it; here is what is said in it.

mod brought;
mod named;
mod pdu;
mod session;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;
use trust::sms::Number;

use super::DeliveredWhen;
use super::door::SmsDoor;
use crate::carrier::Trouble;
use crate::check::Reason;
use crate::pace::Pace;
use crate::retry::Meaning;
use pdu::{Outgoing, Sender, id, status};
use session::{Answer, Closed, Session, Silent, Voice};

/// The first pause before a session is opened again, real time.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
/// The longest.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// The longest time that can be configured, milliseconds.
const TIME_MAX_MS: u64 = 24 * 3_600_000;
/// How many receipts are written down at once.
const RECEIPTS_AT_ONCE: usize = 64;
/// How many answers to what people send may be on their way.
const REPLIES_MAX: usize = 64;

/// How the provider is reached.
#[derive(Clone)]
pub struct SmppOptions {
    /// Host of the message centre.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Whether it speaks TLS from the first byte.
    pub tls: bool,
    /// PEM file with a certificate authority to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Who we are.
    pub system_id: String,
    /// The password; eight characters at most, by the protocol.
    pub password: String,
    /// The type of our system, if the provider wants one.
    pub system_type: String,
    /// The number, short code or name that messages come from.
    pub from: String,
    /// How it writes what it calls a message.
    pub message_ids: MessageIds,
    /// Messages that may wait for an answer at once.
    pub window: usize,
    /// Silence after which the other side is asked whether it is there, milliseconds.
    pub enquire_ms: u64,
    /// How long an answer may take, milliseconds.
    pub timeout_ms: u64,
}

impl std::fmt::Debug for SmppOptions {
    /// Shows all but the password.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("SmppOptions")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("tls", &self.tls)
            .field("ca_file", &self.ca_file)
            .field("system_id", &self.system_id)
            .field("system_type", &self.system_type)
            .field("from", &self.from)
            .field("message_ids", &self.message_ids)
            .field("window", &self.window)
            .field("enquire_ms", &self.enquire_ms)
            .field("timeout_ms", &self.timeout_ms)
            .finish()
    }
}

/// How a message centre writes what it calls a message, in its answer and in its receipts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MessageIds {
    /// The same in both.
    #[default]
    Same,
    /// In hexadecimal digits in its answer, in decimal ones in receipts.
    HexThenDecimal,
    /// The other way round.
    DecimalThenHex,
}

impl MessageIds {
    /// As the answer's is kept.
    fn of_answer(self, text: &str) -> String {
        match self {
            Self::Same => text.to_owned(),
            Self::HexThenDecimal => number(text, 16),
            Self::DecimalThenHex => number(text, 10),
        }
    }

    /// As that of a receipt would be kept.
    fn of_receipt(self, text: &str) -> String {
        match self {
            Self::Same => text.to_owned(),
            Self::HexThenDecimal => number(text, 10),
            Self::DecimalThenHex => number(text, 16),
        }
    }
}

/// A number in decimal digits; what is none stays as it is.
fn number(text: &str, radix: u32) -> String {
    match u128::from_str_radix(text, radix) {
        Ok(number) => number.to_string(),
        Err(_) => text.to_owned(),
    }
}

/// Whether somebody can be spoken to.
#[derive(Clone)]
enum Line {
    /// Not yet, or not for a moment.
    Opening,
    Open(Voice),
    Gone,
}

/// A provider by SMPP.
pub(crate) struct Smpp {
    options: SmppOptions,
    sender: Sender,
    delivered_when: DeliveredWhen,
    connector: Option<TlsConnector>,
    line: watch::Sender<Line>,
    window: Arc<Semaphore>,
    pace: Arc<Pace>,
    is_open: Arc<AtomicBool>,
}

impl Smpp {
    /// Checks that the options fit together.
    pub(super) fn new(
        options: SmppOptions,
        delivered_when: DeliveredWhen,
        pace: Arc<Pace>,
    ) -> Result<Self, String> {
        if options.host.trim().is_empty() {
            return Err("the SMPP provider's host is empty".to_owned());
        }
        if !options.tls {
            if !crate::smtp::is_loopback(&options.host) {
                return Err(
                    "without TLS, text messages go only to a provider on this machine (localhost)"
                        .to_owned(),
                );
            }
            if options.ca_file.is_some() {
                return Err("a CA file has no effect without TLS".to_owned());
            }
        }
        let is_time = |ms: u64| (1..=TIME_MAX_MS).contains(&ms);
        if options.window == 0 || !is_time(options.enquire_ms) || !is_time(options.timeout_ms) {
            return Err(
                "by SMPP, the window is at least 1, and times are from a millisecond to a day"
                    .to_owned(),
            );
        }
        let SmppOptions {
            system_id,
            password,
            system_type,
            ..
        } = &options;
        if system_id.is_empty() || password.is_empty() {
            return Err("SMPP needs a system id and a password".to_owned());
        }
        if pdu::bind(system_id, password, system_type).is_none() {
            return Err(
                "SMPP takes a system id of at most 15 characters, a password of at most 8 and a system type of at most 12, of ASCII"
                    .to_owned(),
            );
        }
        let sender = Sender::parse(&options.from).ok_or(
            "by SMPP, text messages come from a number with its country, a short code, or a name of at most 11 letters",
        )?;
        let connector = options.tls.then(|| connector(&options)).transpose()?;
        Ok(Self {
            window: Arc::new(Semaphore::new(options.window)),
            line: watch::Sender::new(Line::Opening),
            is_open: Arc::default(),
            sender,
            delivered_when,
            connector,
            pace,
            options,
        })
    }

    /// Whether the session is open, as it is told while it is kept.
    pub(crate) fn standing(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_open)
    }

    /// Keeps a session open, and takes what comes by it, until `stop` turns true.
    pub(crate) async fn keep(&self, door: &Arc<SmsDoor>, mut stop: watch::Receiver<bool>) {
        let patience = Duration::from_millis(self.options.timeout_ms);
        let mut pause = PAUSE_FIRST;
        while !*stop.borrow_and_update() {
            let opened = tokio::select! {
                opened = self.open() => opened,
                _ = stop.changed() => break,
            };
            let outcome = match opened {
                Ok(session) => {
                    tracing::info!("sms: the session with the provider is open");
                    metrics::counter!("sms_binds_total", "outcome" => "bound").increment(1);
                    let began = Instant::now();
                    self.carry(session, door, &mut stop).await;
                    if *stop.borrow() {
                        break;
                    }
                    tracing::warn!("sms: the session with the provider has ended");
                    // One that ends at once is no better than none.
                    if began.elapsed() > PAUSE_MAX {
                        pause = PAUSE_FIRST;
                    }
                    if pause > patience {
                        self.line.send_replace(Line::Gone);
                    }
                    None
                }
                Err(Closed::Unreachable(why)) => Some(("unreachable", why.to_owned())),
                Err(Closed::Refused(why)) => Some(("refused", why)),
            };
            if let Some((outcome, why)) = outcome {
                self.line.send_replace(Line::Gone);
                metrics::counter!("sms_binds_total", "outcome" => outcome).increment(1);
                tracing::warn!(
                    why,
                    pause_ms = pause.as_millis(),
                    "sms: there is no session with the provider, and text messages wait"
                );
            }
            tokio::select! {
                () = sleep(pause) => pause = (pause * 2).min(PAUSE_MAX),
                _ = stop.changed() => {}
            }
        }
        self.line.send_replace(Line::Gone);
    }

    /// Takes what comes by a session until it is over.
    async fn carry(&self, session: Session, door: &Arc<SmsDoor>, stop: &mut watch::Receiver<bool>) {
        let Session {
            voice,
            mut texts,
            mut receipts,
            mut late,
            mut runs,
        } = session;
        self.line.send_replace(Line::Open(voice.clone()));
        self.is_open.store(true, Ordering::Relaxed);
        let (mut noting, mut replying) = (JoinSet::new(), JoinSet::new());
        let how = self.how();
        let since_ms = door.trust.vault().ledger().clock().now_ms();
        let mut untaken = false;
        {
            let hearing = async {
                // In the order in which they came: a START after a STOP is not a STOP after a START.
                while let Some(text) = texts.recv().await {
                    while replying.try_join_next().is_some() {}
                    let Ok(reply) = brought::hear(door, &voice, &text, since_ms).await else {
                        // All that has no answer comes again, in its order.
                        return true;
                    };
                    let reply = reply.filter(|_| replying.len() < REPLIES_MAX);
                    let Some((body, count)) = reply.and_then(|reply| self.reply(&reply)) else {
                        continue;
                    };
                    let (voice, pace) = (voice.clone(), Arc::clone(&self.pace));
                    let window = Arc::clone(&self.window);
                    // A courtesy: what was asked for is written down.
                    replying.spawn(async move {
                        pace.turn().await;
                        pace.spend(count.saturating_sub(1));
                        let _turn = window.acquire().await;
                        let _ = voice.ask(id::SUBMIT, body).await;
                    });
                }
                false
            };
            tokio::pin!(hearing);
            loop {
                tokio::select! {
                    _ = stop.changed() => break,
                    _ = runs.join_next() => break,
                    heard = &mut hearing => {
                        untaken = heard;
                        break;
                    }
                    Some(_) = noting.join_next() => {}
                    one = receipts.recv(), if noting.len() < RECEIPTS_AT_ONCE => {
                        let Some(one) = one else { break };
                        let (door, voice) = (Arc::clone(door), voice.clone());
                        noting.spawn(async move { brought::note(&door, &voice, &one, how).await });
                    }
                    Some(one) = late.recv(), if noting.len() < RECEIPTS_AT_ONCE => {
                        let door = Arc::clone(door);
                        noting.spawn(async move { brought::late(&door, &one, how).await });
                    }
                }
            }
        }
        self.is_open.store(false, Ordering::Relaxed);
        let is_stopped = *stop.borrow();
        self.line.send_replace(if is_stopped {
            Line::Gone
        } else {
            Line::Opening
        });
        if !is_stopped && !untaken {
            // What is not answered will be brought again.
            return;
        }
        // What is being written down is answered before the last word.
        let patience = Duration::from_millis(self.options.timeout_ms);
        let ended = async {
            while noting.join_next().await.is_some() {}
            while replying.join_next().await.is_some() {}
        };
        let _ = timeout(patience, ended).await;
        drop((noting, replying, voice));
        let last = async { while runs.join_next().await.is_some() {} };
        let _ = timeout(patience * 2, last).await;
    }

    /// How what comes is read.
    fn how(&self) -> brought::How {
        brought::How {
            message_ids: self.options.message_ids,
            delivered_when: self.delivered_when,
        }
    }

    /// An answer to somebody, as a command, and how many segments it takes.
    fn reply(&self, reply: &brought::Reply) -> Option<(Vec<u8>, u32)> {
        let outgoing = Outgoing {
            from: &self.sender,
            to: reply.to.as_str(),
            text: &reply.text,
            has_receipt: false,
            mark: None,
        };
        let count = trust::sms::segments(&reply.text).count;
        Some((outgoing.body()?, u32::try_from(count).unwrap_or(u32::MAX)))
    }

    /// Connects and binds.
    async fn open(&self) -> Result<Session, Closed> {
        let patience = Duration::from_millis(self.options.timeout_ms);
        let place = (self.options.host.as_str(), self.options.port);
        let Ok(Ok(stream)) = timeout(patience, TcpStream::connect(place)).await else {
            return Err(Closed::Unreachable("it could not be reached"));
        };
        // Commands are small, and each is waited for.
        let _ = stream.set_nodelay(true);
        let Some(connector) = &self.connector else {
            return session::open(stream, &self.options).await;
        };
        let Ok(name) = ServerName::try_from(self.options.host.clone()) else {
            return Err(Closed::Unreachable("its host is no name for a certificate"));
        };
        match timeout(patience, connector.connect(name, stream)).await {
            Ok(Ok(stream)) => session::open(stream, &self.options).await,
            Ok(Err(_)) | Err(_) => Err(Closed::Unreachable(
                "TLS with it failed, or its certificate is not trusted",
            )),
        }
    }

    /// Waits until there is somebody to speak to, or is nobody for now, and a message may be under way.
    pub(super) async fn turn(&self) {
        let patience = Duration::from_millis(self.options.timeout_ms);
        let mut line = self.line.subscribe();
        let found = line.wait_for(|line| !matches!(line, Line::Opening));
        let _ = timeout(patience, found).await;
        // Those who come together may still wait for one another when they hand over.
        drop(self.window.acquire().await);
    }

    /// Somebody to speak to.
    fn voice(&self) -> Option<Voice> {
        match &*self.line.borrow() {
            Line::Open(voice) => Some(voice.clone()),
            Line::Opening | Line::Gone => None,
        }
    }

    /// Hands a message over: what the provider calls it. `communication` is the message's id, `has_receipt` whether it is
    /// to be told what becomes of it.
    pub(super) async fn send(
        &self,
        to: &Number,
        (text, communication): (&str, &str),
        has_receipt: bool,
    ) -> Result<String, Trouble> {
        let Ok(_turn) = self.window.acquire().await else {
            return Err(not_there());
        };
        let Some(voice) = self.voice() else {
            return Err(not_there());
        };
        let outgoing = Outgoing {
            from: &self.sender,
            to: to.as_str(),
            text,
            has_receipt,
            mark: Some(mark_of(communication)),
        };
        let Some(body) = outgoing.body() else {
            let words = "the message fits into no command of SMPP";
            return Err(trouble(Meaning::Never, words));
        };
        match voice.submit(body, communication).await {
            // One that says yes has taken it, whatever it calls it.
            Ok(Answer {
                status: status::OK,
                body,
            }) => Ok(self
                .how()
                .name(pdu::taken_as(&body).as_deref(), communication)),
            Ok(answer) => Err(refused(answer.status)),
            Err(Silent::Unsent) => Err(not_there()),
            Err(Silent::Unknown) => Err(unknown()),
        }
    }
}

/// Whether a text can be what a provider calls a message. What has a meaning in a search is in none.
fn is_reference(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b",|\\$".contains(&byte);
    (1..=64).contains(&text.len()) && text.bytes().all(is_plain)
}

/// What a provider calls a message, as it is kept and looked for: a name that can't be has another of ours in its place.
fn reference(said: &str) -> String {
    if is_reference(said) {
        return said.to_owned();
    }
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, said.as_bytes());
    let octets = hash.as_ref().iter().take(16);
    octets.fold("x-".to_owned(), |name, octet| format!("{name}{octet:02x}"))
}

/// By what a message is known beside its number, where a receipt has a name that nobody has written down: two octets of
/// its id's hash. SMPP 3.4 has it come back in receipts (`user_message_reference`, 5.3.2.17).
fn mark_of(communication: &str) -> u16 {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, communication.as_bytes());
    match hash.as_ref() {
        [high, low, ..] => u16::from_be_bytes([*high, *low]),
        _ => 0,
    }
}

fn connector(options: &SmppOptions) -> Result<TlsConnector, String> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = &options.ca_file {
        let told = |error: &dyn std::fmt::Display| format!("CA file {}: {error}", path.display());
        let all = CertificateDer::pem_file_iter(path).map_err(|error| told(&error))?;
        for certificate in all {
            let certificate = certificate.map_err(|error| told(&error))?;
            roots.add(certificate).map_err(|error| told(&error))?;
        }
    }
    if roots.is_empty() {
        return Err("no certificate authority is known: name a PEM file with one".to_owned());
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn trouble(meaning: Meaning, words: impl Into<String>) -> Trouble {
    Trouble {
        meaning,
        words: words.into(),
        reason: Reason::PermanentFailure,
        after_ms: None,
    }
}

fn not_there() -> Trouble {
    trouble(
        Meaning::Unreachable,
        "there is no session with the provider of text messages",
    )
}

fn unknown() -> Trouble {
    let words =
        "the provider of text messages gave no answer to the message, so it may have taken it";
    trouble(Meaning::Unknown, words)
}

/// What it means that the provider didn't take a message. It has said so: it has not.
fn refused(found: u32) -> Trouble {
    let meaning = match found {
        status::THROTTLED | status::QUEUE_FULL => Meaning::Busy,
        status::INVALID_LENGTH | status::INVALID_RECIPIENT | status::NEVER | status::REJECTED => {
            Meaning::Never
        }
        // What is wrong may be over soon, or is the provider's own, and nobody else waits for it.
        status::SYSTEM_ERROR
        | status::SUBMIT_FAILED
        | status::NOT_NOW
        | status::DELIVERY_FAILED
        | status::UNKNOWN_ERROR
        | 0x400..=0x4FF => Meaning::Later,
        // The bind, the sender, the form: ours to mend, and nothing about the message.
        _ => Meaning::Unreachable,
    };
    let words = session::words(found);
    let words = format!("the provider of text messages answered {words}");
    trouble(meaning, words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(host: &str) -> SmppOptions {
        SmppOptions {
            host: host.to_owned(),
            port: 2775,
            tls: false,
            ca_file: None,
            system_id: "cairn".to_owned(),
            password: "secret-1".to_owned(),
            system_type: String::new(),
            from: "+16175550100".to_owned(),
            message_ids: MessageIds::Same,
            window: 1,
            enquire_ms: 1,
            timeout_ms: 1,
        }
    }

    fn made(options: SmppOptions) -> Result<Smpp, String> {
        Smpp::new(options, DeliveredWhen::Delivered, Arc::new(Pace::new(1)))
    }

    #[test]
    fn refusals_mean_different_things() {
        for (found, meaning) in [
            (0x58, Meaning::Busy),
            (0x14, Meaning::Busy),
            (0x0B, Meaning::Never),
            (0x01, Meaning::Never),
            (0x65, Meaning::Never),
            (0x66, Meaning::Never),
            (0x08, Meaning::Later),
            (0x45, Meaning::Later),
            (0x64, Meaning::Later),
            (0xFE, Meaning::Later),
            (0xFF, Meaning::Later),
            (0x432, Meaning::Later),
            // The sender, the bind, a parameter that it doesn't know, a command, a type of number.
            (0x0A, Meaning::Unreachable),
            (0x04, Meaning::Unreachable),
            (0xC1, Meaning::Unreachable),
            (0x03, Meaning::Unreachable),
            (0x50, Meaning::Unreachable),
        ] {
            let trouble = refused(found);
            assert_eq!(trouble.meaning, meaning, "{found:#x}");
            assert!(trouble.words.contains("0x000"), "{}", trouble.words);
        }
    }

    #[test]
    fn what_is_configured_is_checked_when_it_is_told() {
        assert!(made(options("127.0.0.1")).is_ok());
        let error = made(options("smpp.example")).err().expect("no TLS");
        assert_eq!(
            error,
            "without TLS, text messages go only to a provider on this machine (localhost)"
        );
        let changed = |change: &dyn Fn(&mut SmppOptions)| {
            let mut options = options("127.0.0.1");
            change(&mut options);
            made(options).err()
        };
        let error = changed(&|options| options.ca_file = Some("ca.pem".into()));
        assert_eq!(
            error.as_deref(),
            Some("a CA file has no effect without TLS")
        );
        for change in [
            (|options| options.password = "nine-char".to_owned()) as fn(&mut SmppOptions),
            |options| options.password.clear(),
            |options| options.system_id.clear(),
            |options| options.from = "MG0123456789abcdef".to_owned(),
            |options| options.host = " ".to_owned(),
            |options| options.window = 0,
            |options| options.enquire_ms = u64::MAX,
            |options| {
                options.tls = true;
                options.ca_file = Some("/nowhere/ca.pem".into());
            },
        ] {
            assert!(changed(&change).is_some());
        }
        assert!(!format!("{:?}", options("x")).contains("secret-1"));
    }

    #[test]
    fn names_are_compared_in_the_digits_that_a_centre_writes() {
        use MessageIds::{DecimalThenHex, HexThenDecimal, Same};
        for (ids, answer, receipt) in [
            (Same, "00Ab-7", "00Ab-7"),
            (HexThenDecimal, "0001E240", "0000123456"),
            (HexThenDecimal, "1e240", "123456"),
            (DecimalThenHex, "123456", "0001E240"),
            (HexThenDecimal, "not-a-number", "not-a-number"),
        ] {
            assert_eq!(ids.of_answer(answer), ids.of_receipt(receipt), "{answer}");
        }
        assert_ne!(Same.of_answer("1e240"), Same.of_receipt("123456"));
        for (text, is) in [("m1", true), ("a-b.c:d", true), ("", false), ("a|b", false)] {
            assert_eq!(is_reference(text), is, "{text}");
        }
        let long = "x".repeat(65);
        assert!(!is_reference(&long));
        assert_eq!(reference("m1"), "m1");
        for other in ["a|b", "", long.as_str()] {
            let name = reference(other);
            assert!(is_reference(&name) && name == reference(other), "{name}");
        }
        assert_ne!(reference("a|b"), reference("a|c"));
    }

    #[test]
    fn marks_are_spread() {
        let marks: std::collections::HashSet<u16> = (0..1_000)
            .map(|number| mark_of(&number.to_string()))
            .collect();
        assert!(marks.len() > 950, "{}", marks.len());
    }
}
