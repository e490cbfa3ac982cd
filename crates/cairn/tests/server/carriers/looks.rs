//! What is looked at, and how: requests that were heard, the log, and words however they are written.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::extract::{Request, State};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt as _;

use super::PLANTED;

/// What was heard at a place where nobody of ours listens.
#[derive(Clone, Default)]
pub(super) struct Listener(pub(super) Arc<Mutex<Vec<String>>>);

impl Listener {
    pub(super) async fn start() -> (Self, String) {
        let listener = Self::default();
        let routes = axum::Router::new()
            .fallback(hears)
            .with_state(listener.clone());
        let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let socket = socket.expect("a port");
        let origin = format!("http://{}", socket.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(socket, routes).await });
        (listener, origin)
    }
}

async fn hears(State(listener): State<Listener>, request: Request) {
    let (head, body) = request.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    let text = format!("{head:?}\n{}", String::from_utf8_lossy(&body));
    listener.0.lock().expect("a lock").push(text);
}

/// What the process logs.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("a lock").extend(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Ours at the finest level, as it goes on from here in this process.
    pub(super) fn start() -> Self {
        let (log, ours) = (Self::default(), ["cairn", "web", "journey", "exchange"]);
        let more = ["record", "trust", "ledger", "spine"];
        let filter: Vec<String> = ours
            .iter()
            .chain(&more)
            .map(|one| format!("{one}=trace"))
            .collect();
        let into = log.clone();
        tracing_subscriber::fmt()
            .with_env_filter(format!("info,{}", filter.join(",")))
            .with_ansi(false)
            .with_writer(move || into.clone())
            .try_init()
            .expect("nobody else logs in this process");
        log
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("a lock")).into_owned()
    }
}

/// A planted word, in small letters and as it is in base 64, wherever in it it begins.
pub(super) fn needles(word: &str) -> Vec<String> {
    let mut all = vec![word.to_lowercase(), word.to_lowercase().replace(' ', "%20")];
    for skip in 0..3 {
        let padded = [&b"xxx"[..skip], word.as_bytes()].concat();
        let text = STANDARD.encode(&padded);
        // Without what the octets before it and behind it decide, too.
        all.push(text[[0, 2, 3][skip]..padded.len() * 8 / 6].to_lowercase());
    }
    all
}

/// The planted words that a text holds.
pub(super) fn held(text: &str) -> Vec<&'static str> {
    // As quoted-printable breaks lines (RFC 2045, section 6.7), and calendars do (RFC 5545, section 3.1).
    let text = text
        .replace("=\r\n", "")
        .replace("\r\n ", "")
        .to_lowercase();
    let holds = |word: &&str| needles(word).iter().any(|needle| text.contains(needle));
    PLANTED.into_iter().filter(|word| holds(word)).collect()
}

/// What left by each carrier, as who had it saw it.
#[derive(Default)]
pub(super) struct Left(BTreeMap<String, (String, Vec<&'static str>)>);

impl Left {
    /// By a carrier this left; `shows` stands in it, so that it is what was meant, and of what is planted it may hold what
    /// is cleared.
    pub(super) fn by(
        &mut self,
        carrier: &str,
        shows: &str,
        cleared: &[&'static str],
        text: String,
    ) {
        assert!(text.contains(shows), "{carrier} shows no {shows}: {text}");
        let before = self.0.insert(carrier.to_owned(), (text, cleared.to_vec()));
        assert!(before.is_none(), "{carrier} twice");
    }

    #[expect(clippy::print_stdout, reason = "what a test has counted is told")]
    pub(super) fn is_clean(&self) {
        let mut leaks = Vec::new();
        for (carrier, (text, cleared)) in &self.0 {
            for word in held(text) {
                if !cleared.contains(&word) {
                    leaks.push(format!("{word} in {carrier}"));
                }
            }
        }
        assert!(leaks.is_empty(), "{leaks:#?}");
        println!(
            "carriers: {} of them, {} planted words",
            self.0.len(),
            PLANTED.len()
        );
    }
}

/// What can't be seen is not looked at: each planted word is found however it is written.
#[test]
fn a_planted_word_is_found_however_it_is_written() {
    for word in PLANTED {
        let forms = [
            word.to_owned(),
            word.to_uppercase(),
            format!("{}=\r\n{}", &word[..3], &word[3..]),
            STANDARD.encode(word),
            STANDARD.encode(format!("x{word}, and more")),
            STANDARD.encode(format!("of {word}")),
        ];
        for form in forms {
            assert_eq!(held(&format!("Before {form} after")), [word], "{form}");
        }
    }
    assert_eq!(held("You have a new message"), [""; 0]);
}
