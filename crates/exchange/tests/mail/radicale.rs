//! A calendar server of others, `radicale`, on this machine.

use std::process::Stdio;

use reqwest::Method;
use tokio::process::{Child, Command};

use crate::patience::Patience;
use crate::readers::python;

/// A running server with one calendar; ends with the value.
pub struct Radicale {
    base: String,
    client: reqwest::Client,
    _folder: tempfile::TempDir,
    _child: Child,
}

impl Radicale {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        // A port that nobody has: taken and given back.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let child = Command::new(python())
            .args([
                "-m",
                "radicale",
                "--config",
                "/dev/null",
                "--auth-type",
                "none",
            ])
            .args(["--server-hosts", &format!("127.0.0.1:{port}")])
            .arg("--storage-filesystem-folder")
            .arg(folder.path())
            .args(["--logging-level", "error"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("radicale starts");
        let server = Self {
            base: format!("http://127.0.0.1:{port}/ottilie/visits"),
            client: reqwest::Client::new(),
            _folder: folder,
            _child: child,
        };
        let mut patience = Patience::new();
        loop {
            let made = server.ask("MKCALENDAR", "/", None).await;
            if made.is_ok_and(|answer| answer.status() == 201) {
                return server;
            }
            patience.wait("radicale makes no calendar").await;
        }
    }

    async fn ask(
        &self,
        method: &str,
        path: &str,
        body: Option<&str>,
    ) -> Result<reqwest::Response, reqwest::Error> {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let asked = self.client.request(method, format!("{}{path}", self.base));
        let asked = asked.basic_auth("ottilie", Some("x"));
        let asked = match body {
            Some(body) => asked
                .header("content-type", "text/calendar; charset=utf-8")
                .body(body.to_owned()),
            None => asked,
        };
        asked.send().await
    }

    /// Keeps an entry.
    pub async fn put(&self, name: &str, text: &str) {
        let path = format!("/{name}.ics");
        let answer = self.ask("PUT", &path, Some(text)).await.expect("an answer");
        let status = answer.status();
        assert!(
            status.is_success(),
            "{status}: {}",
            answer.text().await.unwrap_or_default()
        );
    }

    /// An entry as it is kept.
    pub async fn get(&self, name: &str) -> String {
        let path = format!("/{name}.ics");
        let answer = self.ask("GET", &path, None).await.expect("an answer");
        assert_eq!(answer.status(), 200);
        answer.text().await.expect("a text")
    }

    /// How many entries there are.
    pub async fn listed(&self) -> usize {
        let answer = self.ask("GET", "/", None).await.expect("an answer");
        let text = answer.text().await.expect("a text");
        text.matches("BEGIN:VEVENT").count()
    }
}
