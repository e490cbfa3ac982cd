//! The push service of the tests, and the browsers that it knows.

use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use exchange::{PushOptions, PushServices};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::Mutex as AsyncMutex;
use tokio::sync::mpsc;
use trust::identity::NewPushDevice;

use crate::patience::{Patience, in_time};

/// A running push service; ends with the value.
pub struct Pusher {
    port: u16,
    heard: Arc<Mutex<Vec<Value>>>,
    input: AsyncMutex<ChildStdin>,
    answers: AsyncMutex<mpsc::UnboundedReceiver<Value>>,
    _child: Child,
}

/// A browser that has asked for a place at the push service.
pub struct Subscribed {
    pub endpoint: String,
    pub key: String,
    pub auth: String,
    /// The key that it was told of.
    pub signer: String,
    /// What the push service calls it.
    pub hash: String,
}

impl Subscribed {
    /// What the page is given, under a name.
    pub fn device(&self, name: &str) -> NewPushDevice {
        NewPushDevice {
            name: name.to_owned(),
            endpoint: self.endpoint.clone(),
            key: self.key.clone(),
            auth: self.auth.clone(),
            signer: self.signer.clone(),
        }
    }
}

impl Pusher {
    pub async fn start() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let home = root.join("../../target/peers/web-push-testing");
        assert!(
            home.join("node_modules").exists(),
            "the tests need npm's web-push-testing: run scripts/test once, or npm install --prefix {} web-push-testing",
            home.display()
        );
        let mut child = Command::new("node")
            .arg(root.join("../exchange/tests/peers/push.js"))
            .arg(home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .expect("the push service starts");
        let mut lines = BufReader::new(child.stdout.take().expect("standard output")).lines();
        let input = AsyncMutex::new(child.stdin.take().expect("standard input"));
        let first = in_time("the push service starts", lines.next_line()).await;
        let first = first.expect("a line").expect("a first line");
        let first: Value = serde_json::from_str(&first).expect("JSON");
        let port = u16::try_from(first["port"].as_u64().expect("a port")).expect("a port");
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (told, answers) = mpsc::unbounded_channel();
        let into = Arc::clone(&heard);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let mut line: Value = serde_json::from_str(&line).expect("JSON");
                match line.get_mut("heard") {
                    Some(heard) => into.lock().expect("a lock").push(heard.take()),
                    None => drop(told.send(line)),
                }
            }
        });
        Self {
            port,
            heard,
            input,
            answers: AsyncMutex::new(answers),
            _child: child,
        }
    }

    /// Where it is.
    pub fn origin(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn options(&self) -> PushOptions {
        PushOptions {
            services: PushServices::parse(&self.origin()).expect("a list"),
            contact: "mailto:it@hospital.example".to_owned(),
            sender: "Northmoor General".to_owned(),
            portal_base: "https://portal.example/".to_owned(),
            timeout_ms: 20_000,
            parallel: 4,
            magic_links: false,
            meter: exchange::Meter::default(),
        }
    }

    async fn ask(&self, what: &Value) -> Value {
        let line = format!("{what}\n");
        let mut input = self.input.lock().await;
        input.write_all(line.as_bytes()).await.expect("written");
        input.flush().await.expect("written");
        drop(input);
        let mut answers = self.answers.lock().await;
        let answer = in_time("the push service answers", answers.recv()).await;
        answer.expect("an answer")
    }

    /// What it does with the next messages.
    pub async fn next(&self, planned: Value) {
        self.ask(&json!({ "next": planned })).await;
    }

    /// A browser asks for a place, for whoever has this key.
    pub async fn subscribe(&self, key: &str) -> Subscribed {
        let mut answer = self.ask(&json!({ "subscribe": key })).await;
        let found = &mut answer["subscribed"];
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        Subscribed {
            endpoint: text(&found["endpoint"]),
            key: text(&found["keys"]["p256dh"]),
            auth: text(&found["keys"]["auth"]),
            signer: key.to_owned(),
            hash: text(&found["clientHash"]),
        }
    }

    /// A browser gives its place up.
    pub async fn expire(&self, browser: &Subscribed) {
        self.ask(&json!({ "expire": browser.hash })).await;
    }

    /// What a browser has been shown, opened with its own key.
    pub async fn read(&self, browser: &Subscribed) -> Vec<Value> {
        let answer = self.ask(&json!({ "read": browser.hash })).await;
        let messages = answer["read"].as_array().expect("messages");
        let opened = messages.iter().map(|text| {
            let text = text.as_str().expect("a text");
            serde_json::from_str(text).expect("JSON")
        });
        opened.collect()
    }

    /// The requests that it has heard so far.
    pub fn heard(&self) -> Vec<Value> {
        self.heard.lock().expect("a lock").clone()
    }

    /// Waits until it has heard `count` requests.
    pub async fn wait_for(&self, count: usize) -> Vec<Value> {
        let mut patience = Patience::new();
        loop {
            let heard = self.heard();
            if heard.len() >= count {
                return heard;
            }
            let words = format!("the push service has heard {} of {count}", heard.len());
            patience.wait(&words).await;
        }
    }
}
