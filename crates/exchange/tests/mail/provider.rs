//! The provider of text messages of the tests.

use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use exchange::{DeliveredWhen, SmsDoor, SmsOptions, SmsProvider, Told, TwilioOptions, Unheard};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::Mutex as AsyncMutex;
use tokio::sync::mpsc;

use crate::patience::{Patience, in_time};

const ACCOUNT: &str = "AC0123456789abcdef";
const TOKEN: &str = "a-token-of-the-tests";
pub const OLD_TOKEN: &str = "the-token-before";
/// Where our server is, as the provider sees it.
pub const BASE: &str = "https://care.example";

/// A running provider; ends with the value.
pub struct Provider {
    port: u16,
    taken: Arc<Mutex<Vec<Value>>>,
    input: AsyncMutex<ChildStdin>,
    answers: AsyncMutex<mpsc::UnboundedReceiver<Value>>,
    _child: Child,
}

impl Provider {
    pub async fn start() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = root.join("../../target/peers/twilio/bin/python");
        assert!(
            python.exists(),
            "the tests need PyPI's twilio: run scripts/test once, or make {} (python3 -m venv) and install twilio into it",
            python.display()
        );
        let mut child = Command::new(python)
            .arg(root.join("../exchange/tests/peers/texts.py"))
            .args([ACCOUNT, TOKEN])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .expect("the provider starts");
        let mut lines = BufReader::new(child.stdout.take().expect("standard output")).lines();
        let input = AsyncMutex::new(child.stdin.take().expect("standard input"));
        let first = in_time("the provider starts", lines.next_line()).await;
        let first = first.expect("a line").expect("a first line");
        let first: Value = serde_json::from_str(&first).expect("JSON");
        let port = u16::try_from(first["port"].as_u64().expect("a port")).expect("a port");
        let taken = Arc::new(Mutex::new(Vec::new()));
        let (told, answers) = mpsc::unbounded_channel();
        let into = Arc::clone(&taken);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let mut line: Value = serde_json::from_str(&line).expect("JSON");
                match line.get_mut("message") {
                    Some(message) => into.lock().expect("a lock").push(message.take()),
                    None => drop(told.send(line)),
                }
            }
        });
        Self {
            port,
            taken,
            input,
            answers: AsyncMutex::new(answers),
            _child: child,
        }
    }

    pub fn options(&self) -> SmsOptions {
        SmsOptions {
            provider: SmsProvider::Http(TwilioOptions {
                base: format!("http://127.0.0.1:{}", self.port),
                account: ACCOUNT.to_owned(),
                token: TOKEN.to_owned(),
                old_token: Some(OLD_TOKEN.to_owned()),
                from: "+16175550100".to_owned(),
                timeout_ms: 20_000,
            }),
            country: Some("US".to_owned()),
            delivered_when: DeliveredWhen::Delivered,
            portal_base: "https://portal.example/".to_owned(),
            callback_base: BASE.to_owned(),
            parallel: 4,
            per_second: 1_000,
            price: exchange::Price::parse("0.0079", "USD"),
            magic_links: false,
            help: "Nobody reads this number.".to_owned(),
        }
    }

    async fn ask(&self, what: &Value) -> Value {
        let line = format!("{what}\n");
        let mut input = self.input.lock().await;
        input.write_all(line.as_bytes()).await.expect("written");
        input.flush().await.expect("written");
        drop(input);
        let mut answers = self.answers.lock().await;
        let answer = in_time("the provider answers", answers.recv()).await;
        answer.expect("an answer")
    }

    /// What it does with the next messages.
    pub async fn next(&self, planned: Value) {
        self.ask(&json!({ "next": planned })).await;
    }

    /// What it has taken so far.
    pub fn taken(&self) -> Vec<Value> {
        self.taken.lock().expect("a lock").clone()
    }

    /// Waits until it has taken `count` messages.
    pub async fn wait_for(&self, count: usize) -> Vec<Value> {
        let mut patience = Patience::new();
        loop {
            let taken = self.taken();
            if taken.len() >= count {
                return taken;
            }
            let words = format!("the provider has taken {} of {count} messages", taken.len());
            patience.wait(&words).await;
        }
    }

    /// The signature of a form that is posted to a path of ours.
    pub async fn sign(&self, path: &str, form: &[(&str, &str)]) -> String {
        self.sign_as(&format!("{BASE}{path}"), form, TOKEN).await
    }

    /// The same with a token, of a form that is posted to an address.
    pub async fn sign_as(&self, url: &str, form: &[(&str, &str)], token: &str) -> String {
        let form: serde_json::Map<String, Value> = (form.iter())
            .map(|(name, value)| ((*name).to_owned(), Value::from(*value)))
            .collect();
        let asked = json!({"sign": {"url": url, "form": form, "token": token}});
        let answer = self.ask(&asked).await;
        answer["signature"]
            .as_str()
            .expect("a signature")
            .to_owned()
    }

    /// Tells what became of a message, as the message said where.
    pub async fn receipt(
        &self,
        door: &SmsDoor,
        message: &Value,
        status: &str,
        error: Option<&str>,
    ) -> Result<(), Unheard> {
        let callback = message["StatusCallback"].as_str().expect("an address");
        let path = callback.strip_prefix(BASE).expect("our address");
        // What follows says how to bring it, and stays with the provider.
        let path = path
            .strip_suffix("#rc=5&rp=all")
            .expect("to be brought again");
        let (_, communication) = path.rsplit_once('/').expect("an id");
        let sid = message["sid"].as_str().expect("an id");
        let mut form = vec![
            ("MessageSid", sid),
            ("MessageStatus", status),
            ("To", message["To"].as_str().expect("a number")),
            ("AccountSid", ACCOUNT),
        ];
        form.extend(error.map(|error| ("ErrorCode", error)));
        let signature = self.sign(path, &form).await;
        let members = owned(&form);
        let told = Told {
            path,
            members: &members,
            signature: Some(&signature),
            request_id: "test",
        };
        door.receipt(communication, &told).await
    }

    /// Brings what somebody has sent to our number: the answer.
    pub async fn bring(&self, door: &SmsDoor, from: &str, text: &str) -> Option<String> {
        self.bring_with(door, from, text, &[]).await
    }

    /// The same with more in the form.
    pub async fn bring_with(
        &self,
        door: &SmsDoor,
        from: &str,
        text: &str,
        more: &[(&str, &str)],
    ) -> Option<String> {
        let path = exchange::SMS_HEARD_PATH;
        let form = [("From", from), ("To", "+16175550100"), ("Body", text)];
        let form = [&form, more].concat();
        let signature = self.sign(path, &form).await;
        let members = owned(&form);
        let told = Told {
            path,
            members: &members,
            signature: Some(&signature),
            request_id: "test",
        };
        door.heard(&told).await.expect("heard").reply
    }
}

pub fn owned(form: &[(&str, &str)]) -> Vec<(String, String)> {
    let pairs = form.iter();
    pairs
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}
