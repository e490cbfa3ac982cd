//! What strangers try on purpose, over the real server. `docs/security/hostile.md` lists every way with its
//! test, here and elsewhere.

mod bodies;
mod doors;
mod frames;
mod others;
mod paths;
mod proofs;
mod proxies;
mod wire;

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::house::{House, house_with};

/// How long a connection may stay that should end; long enough for a machine that stands still for a while.
const PATIENCE: Duration = Duration::from_secs(40);

/// A server that waits for nobody long.
async fn impatient() -> House {
    house_with(|options| {
        options.limits.header_timeout_ms = 1_000;
        options.limits.body_timeout_ms = 1_000;
    })
    .await
}

async fn connected(house: &House) -> TcpStream {
    let stream = TcpStream::connect(house.server.address()).await;
    stream.expect("a connection")
}

/// All that a connection gets for some bytes, until the server ends it.
async fn raw(house: &House, bytes: &[u8]) -> String {
    let mut stream = connected(house).await;
    // The server may hang up before it has read all of it.
    let _ = stream.write_all(bytes).await;
    rest(&mut stream).await
}

/// What comes until the server ends the connection, which it has to.
async fn rest(stream: &mut TcpStream) -> String {
    let (mut answer, mut part) = (Vec::new(), [0; 4096]);
    let reading = async {
        loop {
            match stream.read(&mut part).await {
                Ok(0) | Err(_) => return,
                Ok(count) => answer.extend_from_slice(&part[..count]),
            }
        }
    };
    let ended = timeout(PATIENCE, reading).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(ended.is_ok(), "the connection was left open: {answer}");
    answer
}

/// The statuses of the answers that came over a connection of HTTP/1.1.
fn statuses(answer: &str) -> Vec<u16> {
    let heads = answer.match_indices("HTTP/1.");
    heads
        .filter_map(|(at, _)| answer.get(at + 9..at + 12)?.parse().ok())
        .collect()
}

/// Whether others are served as before.
async fn goes_on(house: &House) {
    let answer = house.bare(reqwest::Method::GET, "/health/ready").send();
    assert_eq!(answer.await.expect("an answer").status(), 200);
}
