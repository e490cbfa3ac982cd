//! The message centre of the tests, by SMPP.

use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use exchange::{DeliveredWhen, MessageIds, SmppOptions, SmsOptions, SmsProvider};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::Mutex as AsyncMutex;
use tokio::sync::mpsc;

use crate::patience::{Patience, in_time};

/// States of messages (SMPP 3.4, 5.2.28).
pub const DELIVERED: u8 = 2;
pub const EXPIRED: u8 = 3;
pub const UNDELIVERABLE: u8 = 5;

/// What it has seen.
#[derive(Debug, Clone, Default)]
struct Seen {
    taken: Vec<Value>,
    /// All commands, in hexadecimal digits.
    octets: Vec<String>,
    bound: u64,
    refused: u64,
    unbound: u64,
}

/// A running message centre; ends with the value.
pub struct Centre {
    port: u16,
    seen: Arc<Mutex<Seen>>,
    input: AsyncMutex<ChildStdin>,
    answers: AsyncMutex<mpsc::UnboundedReceiver<Value>>,
    child: Child,
}

impl Centre {
    pub async fn start() -> Self {
        Self::start_as("cairn", &[]).await
    }

    /// One for another account, with files for TLS or without.
    pub async fn start_as(system_id: &str, files: &[&Path]) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let modules = root.join("../../target/peers/smpp-npm/node_modules");
        assert!(
            modules.join("smpp").exists(),
            "the tests need npm's smpp: run scripts/test once, or npm install smpp into {}",
            modules.display()
        );
        let mut command = Command::new("node");
        command
            .arg(root.join("../exchange/tests/peers/centre.js"))
            .arg(modules.canonicalize().expect("a folder"))
            .args([system_id, "secret"])
            .args(files);
        Self::by(&mut command).await
    }

    /// Another one, by PyPI's `smpp34`, which gives its messages names that begin so; at a port, or any.
    pub async fn start_smpp34(prefix: &str, port: Option<u16>) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = root.join("../../target/peers/smpp34/bin/python");
        assert!(
            python.exists(),
            "the tests need PyPI's smpp34: run scripts/test once, or make {} (python3 -m venv) and install smpp34 into it",
            python.display()
        );
        let mut command = Command::new(python);
        command
            .arg(root.join("../exchange/tests/peers/centre.py"))
            .arg(prefix)
            .args(port.map(|port| port.to_string()));
        Self::by(&mut command).await
    }

    async fn by(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .expect("the centre starts");
        let mut lines = BufReader::new(child.stdout.take().expect("standard output")).lines();
        let input = AsyncMutex::new(child.stdin.take().expect("standard input"));
        let first = in_time("the centre starts", lines.next_line()).await;
        let first = first.expect("a line").expect("a first line");
        let first: Value = serde_json::from_str(&first).expect("JSON");
        let port = u16::try_from(first["port"].as_u64().expect("a port")).expect("a port");
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (told, answers) = mpsc::unbounded_channel();
        let into = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let mut line: Value = serde_json::from_str(&line).expect("JSON");
                let mut seen = into.lock().expect("a lock");
                if let Some(message) = line.get_mut("message") {
                    seen.taken.push(message.take());
                } else if let Some(octets) = line["octets"].as_str() {
                    seen.octets.push(octets.to_owned());
                } else if let Some(count) = line["bound"].as_u64() {
                    seen.bound = count;
                } else if let Some(count) = line["refused"].as_u64() {
                    seen.refused = count;
                } else if let Some(count) = line["unbound"].as_u64() {
                    seen.unbound = count;
                } else {
                    let _ = told.send(line);
                }
            }
        });
        Self {
            port,
            seen,
            input,
            answers: AsyncMutex::new(answers),
            child,
        }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// SIGKILL, at once.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("killed");
    }

    pub fn smpp(&self) -> SmppOptions {
        SmppOptions {
            host: "127.0.0.1".to_owned(),
            port: self.port,
            tls: false,
            ca_file: None,
            system_id: "cairn".to_owned(),
            password: "secret".to_owned(),
            system_type: String::new(),
            from: "+16175550100".to_owned(),
            message_ids: MessageIds::Same,
            window: 4,
            enquire_ms: 30_000,
            timeout_ms: 10_000,
        }
    }

    pub fn options(&self) -> SmsOptions {
        self.options_with(|_| {})
    }

    pub fn options_with(&self, change: impl FnOnce(&mut SmppOptions)) -> SmsOptions {
        let mut smpp = self.smpp();
        change(&mut smpp);
        SmsOptions {
            provider: SmsProvider::Smpp(smpp),
            country: Some("US".to_owned()),
            delivered_when: DeliveredWhen::Delivered,
            portal_base: "https://portal.example/".to_owned(),
            callback_base: "https://care.example".to_owned(),
            parallel: 4,
            per_second: 1_000,
            price: None,
            magic_links: false,
            help: "Nobody reads this number.".to_owned(),
        }
    }

    async fn ask(&self, what: &Value) -> Value {
        let line = format!("{what}\n");
        // One question at a time, so that each has its own answer.
        let mut answers = self.answers.lock().await;
        let mut input = self.input.lock().await;
        input.write_all(line.as_bytes()).await.expect("written");
        input.flush().await.expect("written");
        drop(input);
        let answer = in_time("the centre answers", answers.recv()).await;
        answer.expect("an answer")
    }

    /// Does something, as `peers/centre.js` has it.
    pub async fn does(&self, what: Value) {
        self.ask(&what).await;
    }

    /// What it does with the next messages.
    pub async fn next(&self, planned: Value) {
        self.does(json!({ "next": planned })).await;
    }

    /// Brings something: the status that it was answered with.
    pub async fn bring(&self, what: Value) -> Option<u64> {
        self.ask(&json!({ "bring": what })).await["answered"].as_u64()
    }

    /// Brings several at once: the highest status that one was answered with.
    pub async fn burst(&self, all: &[Value]) -> Option<u64> {
        self.ask(&json!({ "burst": all })).await["answered"].as_u64()
    }

    /// The same by `data_sm`.
    pub async fn data(&self, what: Value) -> Option<u64> {
        self.ask(&json!({ "data": what })).await["answered"].as_u64()
    }

    /// Brings a receipt, as a centre does that keeps to the specification.
    pub async fn receipt(&self, message: &Value, state: u8) -> Option<u64> {
        let stat = match state {
            DELIVERED => "DELIVRD",
            EXPIRED => "EXPIRED",
            _ => "UNDELIV",
        };
        let id = message["id"].as_str().expect("a name");
        let mut receipt = words(message, id, stat);
        receipt["receipted_message_id"] = json!(id);
        receipt["message_state"] = json!(state);
        receipt["user_message_reference"] = message["mark"].clone();
        self.bring(receipt).await
    }

    /// Brings what somebody has sent to our number.
    pub async fn text(&self, from: &str, text: &str) -> Option<u64> {
        let what = json!({
            "source_addr": from, "source_addr_ton": 1, "source_addr_npi": 1,
            "destination_addr": "16175550100", "short_message": text
        });
        self.bring(what).await
    }

    pub fn taken(&self) -> Vec<Value> {
        self.seen.lock().expect("a lock").taken.clone()
    }

    /// All that was sent to it, as text where it is text.
    pub fn octets(&self) -> Vec<Vec<u8>> {
        let all = self.seen.lock().expect("a lock").octets.clone();
        all.iter().map(|one| unhex(one)).collect()
    }

    async fn until(&self, what: &str, test: impl Fn(&Seen) -> bool) {
        let mut patience = Patience::new();
        loop {
            let seen = self.seen.lock().expect("a lock").clone();
            if test(&seen) {
                return;
            }
            patience.wait(what).await;
        }
    }

    /// Waits until it has taken `count` messages.
    pub async fn wait_for(&self, count: usize) -> Vec<Value> {
        let what = format!("the centre has taken {count} messages");
        self.until(&what, |seen| seen.taken.len() >= count).await;
        self.taken()
    }

    /// Waits until somebody has bound so many times.
    pub async fn bound(&self, count: u64) {
        let what = format!("bound {count} times");
        self.until(&what, |seen| seen.bound >= count).await;
    }

    /// How often somebody has said that they go.
    pub fn unbinds(&self) -> u64 {
        self.seen.lock().expect("a lock").unbound
    }

    /// How often somebody has bound.
    pub fn binds(&self) -> u64 {
        self.seen.lock().expect("a lock").bound
    }

    pub async fn refused(&self, count: u64) {
        let what = format!("refused {count} times");
        self.until(&what, |seen| seen.refused >= count).await;
    }

    pub async fn unbound(&self, count: u64) {
        let what = format!("unbound {count} times");
        self.until(&what, |seen| seen.unbound >= count).await;
    }
}

/// A receipt by words alone.
pub fn words(message: &Value, id: &str, stat: &str) -> Value {
    let err = if stat == "DELIVRD" { "000" } else { "034" };
    json!({
        "esm_class": 4, "source_addr_ton": 1, "source_addr_npi": 1,
        "source_addr": message["to"], "destination_addr": message["from"],
        "short_message": format!("id:{id} sub:001 dlvrd:001 submit date:2611300000 done date:2611300000 stat:{stat} err:{err} text:")
    })
}

/// Octets of hexadecimal digits.
pub fn unhex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().as_chunks::<2>().0.iter();
    let octet = |pair: &[u8; 2]| {
        let pair = std::str::from_utf8(pair).expect("digits");
        u8::from_str_radix(pair, 16).expect("digits")
    };
    pairs.map(octet).collect()
}
