//! The doubles of FCM and APNs of the tests: no real one is asked.

use std::path::Path;

use exchange::{ApnsKey, ApnsOptions, FcmOptions, PushOptions, PushServices, ServiceAccount};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::double::Double;

/// Running doubles of both services; they end with the value.
pub struct Telephones {
    double: Double,
    said: Value,
    is_tls: bool,
}

impl Telephones {
    pub async fn start() -> Self {
        Self::with(None).await
    }

    /// APNs speaks TLS, with a certificate and its key.
    pub async fn start_tls(certificate: &Path, key: &Path) -> Self {
        Self::with(Some((certificate, key))).await
    }

    async fn with(tls: Option<(&Path, &Path)>) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let described = root.join("target/peers/fcm/fcm.v1.json");
        assert!(
            described.exists(),
            "the tests need Google's description of FCM: scripts/test fetches it to {}",
            described.display()
        );
        let mut command = Command::new("node");
        command
            .arg(root.join("crates/exchange/tests/peers/apps.js"))
            .arg(described);
        if let Some((certificate, key)) = tls {
            command.arg(certificate).arg(key);
        }
        let (double, said) = Double::start(&mut command).await;
        Self {
            double,
            said,
            is_tls: tls.is_some(),
        }
    }

    fn port(&self, of: &str) -> u64 {
        self.said[of].as_u64().expect("a port")
    }

    /// The service account's file, as Google's console gives it.
    pub fn account(&self) -> String {
        self.said["account"].to_string()
    }

    /// The team's key, as Apple's pages give it.
    pub fn key(&self) -> &str {
        self.said["key"].as_str().expect("a key")
    }

    pub fn fcm(&self) -> FcmOptions {
        FcmOptions {
            account: ServiceAccount::parse(&self.account()).expect("an account"),
            url: format!("http://127.0.0.1:{}", self.port("fcm")),
            ca_file: None,
            per_second: 1_000,
        }
    }

    pub fn apns(&self) -> ApnsOptions {
        let id = |name: &str| self.said["ids"][name].as_str().expect("an id").to_owned();
        let scheme = if self.is_tls { "https" } else { "http" };
        ApnsOptions {
            key: ApnsKey::parse(self.key()).expect("a key"),
            key_id: id("key"),
            team_id: id("team"),
            topic: id("topic"),
            url: format!("{scheme}://127.0.0.1:{}", self.port("apns")),
            ca_file: None,
            per_second: 1_000,
        }
    }

    /// Applications alone are told.
    pub fn options(&self) -> PushOptions {
        PushOptions {
            services: PushServices::parse("").expect("a list"),
            contact: None,
            fcm: Some(self.fcm()),
            apns: Some(self.apns()),
            sender: "Northmoor General".to_owned(),
            portal_base: "https://portal.example/".to_owned(),
            timeout_ms: 20_000,
            parallel: 4,
            magic_links: true,
            meter: exchange::Meter::default(),
        }
    }

    /// What a service does with the next messages.
    pub async fn next(&self, service: &str, planned: Value) {
        self.double
            .ask(&json!({ "next": { service: planned } }))
            .await;
    }

    /// What both services do with the next message.
    pub async fn both(&self, fcm: &Value, apns: &Value) {
        let next = json!({ "fcm": [fcm], "apns": [apns] });
        self.double.ask(&json!({ "next": next })).await;
    }

    /// An application was removed from its telephone, at a time.
    pub async fn gone(&self, token: &str, since_ms: u64) {
        self.double
            .ask(&json!({ "gone": token, "since": since_ms }))
            .await;
    }

    /// Access tokens are believed no more.
    pub async fn forget(&self) {
        self.double.ask(&json!({ "forget": true })).await;
    }

    /// What an application has been given.
    pub async fn read(&self, token: &str) -> Vec<Value> {
        let answer = self.double.ask(&json!({ "read": token })).await;
        answer["read"].as_array().expect("messages").clone()
    }

    /// The requests that a service has heard so far.
    pub fn heard(&self, service: &str) -> Vec<Value> {
        let mut heard = self.double.heard();
        heard.retain(|one| one["service"] == service);
        heard
    }

    /// Waits until a service has heard `count` requests.
    pub async fn wait_for(&self, service: &str, count: usize) -> Vec<Value> {
        let is_meant = |one: &Value| one["service"] == service;
        self.double.wait_for(count, is_meant).await
    }
}
