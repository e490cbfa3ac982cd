//! The push service of the tests, and the browsers that it knows.

use std::path::Path;

use exchange::{PushOptions, PushServices};
use serde_json::{Value, json};
use tokio::process::Command;
use trust::identity::NewPushDevice;

use crate::double::Double;

/// A running push service; ends with the value.
pub struct Pusher {
    port: u16,
    double: Double,
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
        let mut command = Command::new("node");
        command
            .arg(root.join("../exchange/tests/peers/push.js"))
            .arg(home);
        let (double, first) = Double::start(&mut command).await;
        let port = u16::try_from(first["port"].as_u64().expect("a port")).expect("a port");
        Self { port, double }
    }

    /// Where it is.
    pub fn origin(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn options(&self) -> PushOptions {
        PushOptions {
            services: PushServices::parse(&self.origin()).expect("a list"),
            contact: Some("mailto:it@hospital.example".to_owned()),
            fcm: None,
            apns: None,
            sender: "Northmoor General".to_owned(),
            portal_base: "https://portal.example/".to_owned(),
            timeout_ms: 20_000,
            parallel: 4,
            magic_links: false,
            meter: exchange::Meter::default(),
        }
    }

    /// What it does with the next messages.
    pub async fn next(&self, planned: Value) {
        self.double.ask(&json!({ "next": planned })).await;
    }

    /// A browser asks for a place, for whoever has this key.
    pub async fn subscribe(&self, key: &str) -> Subscribed {
        let mut answer = self.double.ask(&json!({ "subscribe": key })).await;
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
        self.double.ask(&json!({ "expire": browser.hash })).await;
    }

    /// What a browser has been shown, opened with its own key.
    pub async fn read(&self, browser: &Subscribed) -> Vec<Value> {
        let answer = self.double.ask(&json!({ "read": browser.hash })).await;
        let messages = answer["read"].as_array().expect("messages");
        let opened = messages.iter().map(|text| {
            let text = text.as_str().expect("a text");
            serde_json::from_str(text).expect("JSON")
        });
        opened.collect()
    }

    /// The requests that it has heard so far.
    pub fn heard(&self) -> Vec<Value> {
        self.double.heard()
    }

    /// Waits until it has heard `count` requests.
    pub async fn wait_for(&self, count: usize) -> Vec<Value> {
        self.double.wait_for(count, |_| true).await
    }
}
