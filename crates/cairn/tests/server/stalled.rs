//! Clients that stop reading what they asked for, and clients that are just slow.

use std::time::Duration;

use axum::body::Bytes;
use axum::http::Request;
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::bulk;
use crate::house::{House, assert_outcome, header, house_with};
use crate::patience::until;

/// How long a client may stop.
const PATIENCE: Duration = Duration::from_secs(5);
/// Resources of a megabyte each: more than the buffers of a connection, however they grow.
const RESOURCES: usize = 24;

/// A server with an export of one large file; the path of the file.
async fn with_file() -> (House, String) {
    let house = house_with(|options| {
        options.limits.send_timeout_ms = u64::try_from(PATIENCE.as_millis()).expect("short");
    })
    .await;
    for number in 0..RESOURCES {
        let organization = json!({"resourceType": "Organization", "id": number.to_string(),
            "name": "x".repeat(1 << 20)});
        let path = format!("/fhir/r4/Organization/{number}");
        let answer = house.sent(Method::PUT, &path, &organization).send().await;
        assert_eq!(answer.expect("an answer").status(), 201);
    }
    let asked = house.asked(Method::GET, "/fhir/r4/$export?_type=Organization");
    let asked = asked.header("prefer", "respond-async").send().await;
    let status = header(&asked.expect("an answer"), "content-location").to_owned();
    let path = laid_out(&house, &status).await;
    (house, path)
}

/// The path of the one file of a job.
async fn laid_out(house: &House, status: &str) -> String {
    let (_, status) = status.split_once("/fhir").expect("an address");
    let status = format!("/fhir{status}");
    let manifest = bulk::laid_out(async || {
        let asked = house.asked(Method::GET, &status).send().await;
        asked.expect("an answer")
    })
    .await;
    let url = manifest["output"][0]["url"].as_str().expect("an address");
    let (_, path) = url.split_once("/fhir").expect("an address");
    format!("/fhir{path}")
}

/// A connection that has asked for something and has read the head of the answer.
async fn begun(house: &House, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(house.server.address())
        .await
        .expect("a connection");
    let head = format!(
        "GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n",
        house.token
    );
    stream.write_all(head.as_bytes()).await.expect("written");
    let mut answer = [0; 15];
    stream.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    stream
}

/// Until a download is let in, which its place being free allows.
async fn has_place(house: &House, path: &str) {
    until("a place is free", async || {
        let answer = house.asked(Method::GET, path).send().await;
        let answer = answer.expect("an answer");
        let is_let_in = answer.status() == 200;
        if is_let_in {
            let lines = answer.text().await.expect("text");
            assert_eq!(lines.lines().count(), RESOURCES);
        }
        is_let_in
    })
    .await;
}

/// Waits until as many clients were cut off as there are downloads at once.
async fn all_cut(house: &House) {
    until("all of them are cut off", async || {
        let metrics = house.bare(Method::GET, "/metrics").send().await;
        let metrics = metrics.expect("an answer").text().await.expect("text");
        let counted =
            (metrics.lines()).find_map(|line| line.strip_prefix("cairn_http_stalled_total "));
        let counted = counted.map_or(0, |count| count.parse().expect("a number"));
        counted == record::EXPORT_DOWNLOADS_MAX
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_stops_reading_is_cut_off_and_gives_the_place_back() {
    let (house, path) = with_file().await;
    let stopped = (0..record::EXPORT_DOWNLOADS_MAX).map(|_| begun(&house, &path));
    let stopped = join_all(stopped).await;
    let refused = house.asked(Method::GET, &path).send().await;
    assert_outcome(refused.expect("an answer"), 429, "throttled").await;
    // None of them hangs up.
    has_place(&house, &path).await;
    all_cut(&house).await;
    for mut stream in stopped {
        let mut rest = Vec::new();
        let ended = timeout(Duration::from_secs(60), stream.read_to_end(&mut rest)).await;
        // Reset, or at an end that is not the end of the answer.
        let ended = ended.expect("the connection ends");
        assert!(ended.is_err() || !rest.ends_with(b"\r\n0\r\n\r\n"));
        assert!(rest.len() < RESOURCES << 20);
    }
    house.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_begins_while_all_places_are_taken() {
    let (house, path) = with_file().await;
    let stopped = (0..record::EXPORT_DOWNLOADS_MAX).map(|_| begun(&house, &path));
    let stopped = join_all(stopped).await;
    // It is begun, laid out and asked for as if there were no downloads; its files wait.
    let asked = house.asked(Method::GET, "/fhir/r4/$export?_type=Organization");
    let asked = asked.header("prefer", "respond-async").send().await;
    let asked = asked.expect("an answer");
    assert_eq!(asked.status(), 202);
    let own = laid_out(&house, header(&asked, "content-location")).await;
    drop(stopped);
    has_place(&house, &own).await;
    // Many more clients than places, all at once: each gets all of it in the end.
    join_all((0..2 * record::EXPORT_DOWNLOADS_MAX).map(|_| has_place(&house, &own))).await;
    house.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_slowly_gets_all_of_it() {
    let (house, path) = with_file().await;
    let mut stream = begun(&house, &path).await;
    let began = Instant::now();
    let mut answer = Vec::new();
    let mut part = vec![0; 256 << 10];
    // Less than half a megabyte a second for the first part of it, with pauses that are shorter than the time
    // that a client may stop.
    while !answer.ends_with(b"\r\n0\r\n\r\n") {
        let count = stream.read(&mut part).await.expect("read");
        assert!(count > 0, "cut off after {} bytes", answer.len());
        answer.extend_from_slice(&part[..count]);
        if began.elapsed() < 2 * PATIENCE {
            sleep(PATIENCE / 8).await;
        }
    }
    assert!(began.elapsed() > 2 * PATIENCE);
    assert!(answer.len() > RESOURCES << 20);
    house.end().await;
}

/// A connection of HTTP/2.
async fn second(house: &House) -> h2::client::SendRequest<Bytes> {
    let stream = TcpStream::connect(house.server.address()).await;
    let (client, connection) = h2::client::handshake(stream.expect("a connection"))
        .await
        .expect("HTTP/2");
    tokio::spawn(connection);
    client
}

async fn asked_by(
    client: &mut h2::client::SendRequest<Bytes>,
    house: &House,
    path: &str,
) -> h2::RecvStream {
    let request = Request::get(format!("http://x{path}"))
        .header("authorization", format!("Bearer {}", house.token))
        .body(())
        .expect("a request");
    let (answer, _) = client.send_request(request, true).expect("sent");
    let answer = answer.await.expect("an answer");
    assert_eq!(answer.status(), 200);
    answer.into_body()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_of_http_2_that_is_not_taken_ends_and_the_connection_goes_on() {
    let (house, path) = with_file().await;
    let mut client = second(&house).await;
    let stopped = (0..record::EXPORT_DOWNLOADS_MAX).map(|_| {
        let mut client = client.clone();
        let (house, path) = (&house, &path);
        async move { asked_by(&mut client, house, path).await }
    });
    let stopped = join_all(stopped).await;
    let refused = house.asked(Method::GET, &path).send().await;
    assert_outcome(refused.expect("an answer"), 429, "throttled").await;
    has_place(&house, &path).await;
    all_cut(&house).await;
    // What has come is followed by an error, not by an end. All of them at once, since they share what the
    // connection lets through.
    let ends = stopped.into_iter().map(|mut body| async move {
        loop {
            match body.data().await {
                Some(Ok(bytes)) => {
                    let released = body.flow_control().release_capacity(bytes.len());
                    released.expect("released");
                }
                Some(Err(error)) => return error.is_reset(),
                None => return false,
            }
        }
    });
    let ends = timeout(Duration::from_secs(60), join_all(ends)).await;
    assert!(ends.expect("ends").into_iter().all(|is_reset| is_reset));
    // Who takes it gets all of it, by the same connection.
    let mut body = asked_by(&mut client, &house, &path).await;
    let (mut bytes, mut lines) = (0, 0);
    while let Some(part) = body.data().await {
        let part = part.expect("data");
        bytes += part.len();
        lines += part.iter().filter(|byte| **byte == b'\n').count();
        let released = body.flow_control().release_capacity(part.len());
        released.expect("released");
    }
    assert_eq!(lines, RESOURCES);
    assert!(bytes > RESOURCES << 20);
    house.end().await;
}
