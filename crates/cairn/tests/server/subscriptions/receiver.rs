//! Who is notified: a server of the test's own, which notes what it is sent.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// How long a test goes on looking for what has to come soon. Looks are counted, and not the clock: a machine that
/// stands still for half a minute takes one look away.
pub(super) struct Looks(u32);

impl Looks {
    pub(super) fn new() -> Self {
        Self(1000)
    }

    /// Waits a little before the next look.
    pub(super) async fn wait(&mut self, what: &str) {
        assert!(self.0 > 0, "{what}");
        self.0 -= 1;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// One request.
#[derive(Debug, Clone)]
pub(super) struct Got {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Got {
    pub(super) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(other, _)| other == name);
        found.map_or("", |(_, value)| value)
    }
    pub(super) fn key(&self) -> &str {
        let key = self.header("idempotency-key");
        assert_eq!(key, self.header("x-request-id"));
        assert_eq!(key.len(), 32, "{self:?}");
        key
    }
}

#[derive(Default)]
struct Kept {
    got: Vec<Got>,
    /// How the next requests are answered; then all with 200.
    answers: VecDeque<u16>,
}

#[derive(Clone)]
pub(super) struct Receiver {
    pub(super) address: SocketAddr,
    kept: Arc<Mutex<Kept>>,
}

impl Receiver {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a port");
        let receiver = Self {
            address: listener.local_addr().expect("an address"),
            kept: Arc::default(),
        };
        let routes = axum::Router::new()
            .fallback(take)
            .with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        receiver
    }

    pub(super) fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn endpoint(&self) -> String {
        format!("{}/hook", self.origin())
    }

    /// How the next requests are answered.
    pub(super) fn answer(&self, statuses: &[u16]) {
        let mut kept = self.kept.lock().expect("a lock");
        kept.answers.extend(statuses);
    }

    pub(super) fn got(&self) -> Vec<Got> {
        self.kept.lock().expect("a lock").got.clone()
    }

    /// Waits until so many requests have come.
    pub(super) async fn until(&self, count: usize) -> Vec<Got> {
        let mut patience = Looks::new();
        loop {
            let got = self.got();
            if got.len() >= count {
                assert_eq!(got.len(), count, "{got:?}");
                return got;
            }
            patience
                .wait(&format!("{count} notifications; came: {got:?}"))
                .await;
        }
    }

    /// Waits until at least so many requests have come.
    pub(super) async fn until_at_least(&self, count: usize) {
        let mut patience = Looks::new();
        while self.got().len() < count {
            patience.wait(&format!("{count} notifications")).await;
        }
    }

    /// Waits until a request has come to a path.
    pub(super) async fn until_some(&self, path: &str) {
        let mut patience = Looks::new();
        while !self.got().iter().any(|got| got.path == path) {
            patience.wait(&format!("nothing comes to {path}")).await;
        }
    }

    /// From now on all is taken.
    pub(super) fn forget_answers(&self) {
        self.kept.lock().expect("a lock").answers.clear();
    }

    /// The resources that were sent.
    pub(super) fn paths(&self) -> Vec<String> {
        let mut paths: Vec<String> = self.got().into_iter().map(|got| got.path).collect();
        paths.sort();
        paths
    }
}

async fn take(State(receiver): State<Receiver>, request: Request) -> StatusCode {
    let (parts, body) = request.into_parts();
    let body: Bytes = body.collect().await.expect("a body").to_bytes();
    let headers = parts.headers.iter().map(|(name, value)| {
        let value = value.to_str().expect("text").to_owned();
        (name.to_string(), value)
    });
    let got = Got {
        method: parts.method.to_string(),
        path: parts.uri.to_string(),
        headers: headers.collect(),
        body: String::from_utf8(body.to_vec()).expect("text"),
    };
    let mut kept = receiver.kept.lock().expect("a lock");
    kept.got.push(got);
    let status = kept.answers.pop_front().unwrap_or(200);
    StatusCode::from_u16(status).expect("a status")
}

/// An endpoint that takes requests one by one, and answers as the test says, or not.
pub(super) struct ByHand(TcpListener);

impl ByHand {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        Self(listener.expect("a port"))
    }

    pub(super) fn origin(&self) -> String {
        let address = self.0.local_addr().expect("an address");
        format!("http://{address}")
    }

    /// Reads the next request to its end. Let go, the connection breaks off.
    pub(super) async fn taken(&self) -> Taken {
        let (mut stream, _) = self.0.accept().await.expect("a connection");
        let mut text = String::new();
        let mut part = [0; 4096];
        while !is_whole(&text) {
            let count = stream.read(&mut part).await.expect("a request");
            assert!(count > 0, "{text}");
            text.push_str(std::str::from_utf8(&part[..count]).expect("text"));
        }
        Taken { stream, text }
    }
}

/// A request that waits for its answer.
pub(super) struct Taken {
    stream: TcpStream,
    pub(super) text: String,
}

impl Taken {
    pub(super) async fn answer(mut self, status: u16) {
        let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
        let written = self.stream.write_all(answer.as_bytes()).await;
        written.expect("an answer");
    }
}

fn is_whole(request: &str) -> bool {
    let Some((head, body)) = request.split_once("\r\n\r\n") else {
        return false;
    };
    let mut lines = head.lines();
    let length = lines.find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.map_or(0, |length| length.parse().expect("a length"));
    body.len() == length
}
