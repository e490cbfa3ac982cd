//! HTTP/1.1 as bytes: requests that two readers could understand differently, what is too large, and what
//! never ends.

use std::fmt::Write as _;

use reqwest::Method;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep};

use super::*;
use crate::patience::Patience;

/// What a smuggler puts behind a request, to be taken for another one.
const SMUGGLED: &str = "GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n";

/// A request to change the colours, which needs no session, with more headers and a body.
fn theme(headers: &str, body: &str) -> String {
    format!(
        "POST /theme HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-www-form-urlencoded\r\n{headers}\r\n{body}"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_second_request_hides_in_one() {
    let house = impatient().await;
    // Told to go away at once, or answered alone: what follows is never another request.
    let chunked = format!("7\r\nback=/x\r\n0\r\n\r\n{SMUGGLED}");
    let all = chunked.len();
    for (headers, body) in [
        (
            format!("content-length: {all}\r\ntransfer-encoding: chunked\r\n"),
            chunked.clone(),
        ),
        (
            format!("transfer-encoding: chunked\r\ncontent-length: {all}\r\n"),
            chunked.clone(),
        ),
        ("transfer-encoding: chunked\r\n".to_owned(), chunked.clone()),
        (
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n".to_owned(),
            chunked.clone(),
        ),
        (
            "transfer-encoding: gzip, chunked\r\n".to_owned(),
            chunked.clone(),
        ),
        (
            "content-length: 7\r\nconnection: content-length\r\ntransfer-encoding: chunked\r\n"
                .to_owned(),
            chunked.clone(),
        ),
    ] {
        let answer = raw(&house, theme(&headers, &body).as_bytes()).await;
        assert_eq!(statuses(&answer).len(), 1, "{headers}{answer}");
    }
    // Two readers could take these to be of different lengths.
    for headers in [
        "transfer-encoding : chunked\r\n",
        "transfer-encoding: xchunked\r\n",
        "transfer-encoding: chunked, identity\r\n",
        "transfer-encoding: \"chunked\"\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
        "transfer-encoding:\u{b}chunked\r\n",
        "content-length: 7\r\ncontent-length: 8\r\n",
        "content-length: 7, 8\r\n",
        "content-length: 7 8\r\n",
        "content-length: +7\r\n",
        "content-length: -7\r\n",
        "content-length: 0x7\r\n",
        "content-length: 7.0\r\n",
        "content-length: 99999999999999999999\r\n",
        "content-length : 7\r\n",
        "x: y\r\n content-length: 7\r\n",
        "x: y\rcontent-length: 7\r\n",
        "x: a\u{0}b\r\n",
        "x\u{0}: b\r\n",
        "(x): b\r\n",
        ": b\r\n",
        "host: y\r\n",
    ] {
        let answer = raw(
            &house,
            theme(headers, &format!("back=/x{SMUGGLED}")).as_bytes(),
        )
        .await;
        assert_eq!(statuses(&answer), [400], "{headers:?}: {answer}");
    }
    // Chunks whose size is none.
    for size in ["0x7", "+7", "-7", "7 7", "", ";", "fffffffffffffffff", "g"] {
        let body = format!("{size}\r\nback=/x\r\n0\r\n\r\n{SMUGGLED}");
        let answer = raw(
            &house,
            theme("transfer-encoding: chunked\r\n", &body).as_bytes(),
        )
        .await;
        let statuses = statuses(&answer);
        assert!(
            statuses.len() <= 1 && !statuses.contains(&303),
            "{size}: {answer}"
        );
    }
    for line in [
        "GET /health/live HTTP/1.1\r\n\r\n",
        "GET /health/live HTTP/1.1\r\nhost: x\r\nhost: x\r\n\r\n",
        "GET /health/\u{0}live HTTP/1.1\r\nhost: x\r\n\r\n",
        "GET /health/live\r\nhost: x\r\n\r\n",
        "GET /health/live HTTP/1.2\r\nhost: x\r\n\r\n",
        "GET  /health/live HTTP/1.1\r\nhost: x\r\n\r\n",
        "GET /health/live HTTP/1.1 x\r\nhost: x\r\n\r\n",
        "POST /theme HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "\u{0}\u{1}\u{2}\u{3}\r\n\r\n",
    ] {
        let answer = raw(&house, line.as_bytes()).await;
        let statuses = statuses(&answer);
        assert!(matches!(statuses[..], [] | [400]), "{line:?}: {answer}");
    }
    goes_on(&house).await;
    house.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_of_elsewhere_leads_nowhere() {
    let house = impatient().await;
    for (line, expected) in [
        ("GET http://evil.example/health/live HTTP/1.1", 200),
        ("GET //evil.example/health/live HTTP/1.1", 404),
        ("GET http://evil.example/ HTTP/1.1", 303),
        ("CONNECT evil.example:443 HTTP/1.1", 404),
        ("OPTIONS * HTTP/1.1", 404),
        ("TRACE / HTTP/1.1", 404),
    ] {
        let answer = raw(
            &house,
            format!("{line}\r\nhost: evil.example\r\nx-forwarded-host: evil.example\r\nforwarded: host=evil.example\r\nconnection: close\r\n\r\n").as_bytes(),
        )
        .await;
        assert_eq!(statuses(&answer), [expected], "{line}: {answer}");
        assert!(!answer.contains("evil"), "{line}: {answer}");
    }
    // Links are made from the server's own address, never from what a client says of it.
    let statement = house
        .asked(Method::GET, "/fhir/r4/Patient")
        .header("host", "evil.example")
        .header("x-forwarded-host", "evil.example")
        .header("x-forwarded-proto", "gopher");
    let statement = statement.send().await.expect("an answer");
    let text = statement.text().await.expect("text");
    assert!(text.contains(&house.url("/fhir/r4/Patient")), "{text}");
    assert!(!text.contains("evil") && !text.contains("gopher"), "{text}");
    house.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_is_refused_before_it_is_kept() {
    let house = impatient().await;
    let long = "a".repeat(70 << 10);
    for (head, expected) in [
        (
            format!("GET /{long} HTTP/1.1\r\nhost: x\r\n\r\n"),
            [414, 431],
        ),
        (
            format!("GET /health/live HTTP/1.1\r\nhost: x\r\nx: {long}\r\n\r\n"),
            [431, 431],
        ),
        (
            format!("GET /health/live HTTP/1.1\r\nhost: x\r\nx-{long}: y\r\n\r\n"),
            [431, 431],
        ),
        (
            format!(
                "GET /health/live HTTP/1.1\r\nhost: x\r\n{}\r\n",
                "x: y\r\n".repeat(200)
            ),
            [431, 431],
        ),
    ] {
        let answer = raw(&house, head.as_bytes()).await;
        let statuses = statuses(&answer);
        // A client that is still sending may see the connection reset instead.
        let fine = statuses.is_empty() || expected.contains(&statuses[0]);
        assert!(fine && statuses.len() <= 1, "{statuses:?}");
    }
    // What goes with chunks is bounded, too, though it is no body.
    let mut many = String::new();
    for _ in 0..20_000 {
        let _ = write!(many, "1;{}\r\nx\r\n", "e".repeat(20));
    }
    for body in [
        format!("1;{}\r\nx\r\n0\r\n\r\n", "e".repeat(1 << 20)),
        format!("{many}0\r\n\r\n"),
        format!("1\r\nx\r\n0\r\nx: {}\r\n\r\n", "y".repeat(1 << 20)),
        format!("1\r\nx\r\n0\r\n{}\r\n", "x: y\r\n".repeat(100_000)),
    ] {
        let answer = raw(
            &house,
            theme("transfer-encoding: chunked\r\n", &body).as_bytes(),
        )
        .await;
        assert!(
            !statuses(&answer).contains(&303),
            "{}: {answer}",
            &body[..40]
        );
    }
    goes_on(&house).await;
    house.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sends_a_byte_now_and_then_is_cut_off() {
    let house = impatient().await;
    let token = house.token.clone();
    for (head, drop) in [
        // Headers without end, the second request of a connection, a form's body, a body of FHIR in chunks.
        (
            "GET /health/live HTTP/1.1\r\nhost: x\r\n".to_owned(),
            "x: y\r\n",
        ),
        (
            "GET /health/live HTTP/1.1\r\nhost: x\r\n\r\nGET /health/live HTTP/1.1\r\n".to_owned(),
            "x: y\r\n",
        ),
        (
            format!(
                "POST /fhir/r4/Patient HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-type: application/fhir+json\r\ntransfer-encoding: chunked\r\n\r\n"
            ),
            "1\r\n \r\n",
        ),
        (
            format!(
                "POST /fhir/r4/Patient HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-type: application/fhir+json\r\ncontent-length: 1000\r\n\r\n"
            ),
            " ",
        ),
    ] {
        let mut stream = connected(&house).await;
        stream.write_all(head.as_bytes()).await.expect("written");
        let (mut reading, mut writing) = stream.split();
        let began = Instant::now();
        let dripping = async {
            while writing.write_all(drop.as_bytes()).await.is_ok() {
                sleep(Duration::from_millis(100)).await;
            }
        };
        let mut answer = Vec::new();
        let ending = async {
            let _ = reading.read_to_end(&mut answer).await;
        };
        let ended = timeout(PATIENCE, async {
            tokio::select! { () = dripping => {}, () = ending => {} }
        });
        assert!(ended.await.is_ok(), "{head} goes on");
        assert!(began.elapsed() > Duration::from_millis(500), "{head}");
    }
    goes_on(&house).await;
    house.end().await;
}

/// So many connections over which nothing is asked.
async fn several(house: &House, count: usize) -> Vec<TcpStream> {
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(connected(house).await);
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_have_a_bound_and_idle_ones_end() {
    const MOST: usize = 8;
    let house = house_with(|options| {
        options.limits.header_timeout_ms = 6_000;
        options.limits.connections = MOST;
    })
    .await;
    let mut held = several(&house, MOST).await;
    // Wait until they are all taken. A health check comes in beside them, and nothing else.
    let mut patience = Patience::new();
    let ask = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    loop {
        let answer = raw(&house, ask("/fhir/r4/metadata").as_bytes()).await;
        if statuses(&answer) == [503] {
            assert!(
                answer.contains("retry-after") && answer.contains("throttled"),
                "{answer}"
            );
            break;
        }
        let words = format!("connections have no bound: {answer}");
        // Those that waited too long have ended; never more than were meant are open at once.
        held.clear();
        patience.wait(&words).await;
        held = several(&house, MOST).await;
    }
    for path in ["/health/live", "/health/ready", "/metrics"] {
        assert_eq!(
            statuses(&raw(&house, ask(path).as_bytes()).await),
            [200],
            "{path}"
        );
    }
    // One address has eight of these; another one is turned away at once, without an answer.
    held.extend(several(&house, 8).await);
    loop {
        let mut more = connected(&house).await;
        let _ = more.write_all(SMUGGLED.as_bytes()).await;
        let mut answer = [0; 1];
        let told = timeout(Duration::from_millis(500), more.read(&mut answer)).await;
        if matches!(told, Ok(Ok(0) | Err(_))) {
            break;
        }
        held.clear();
        patience.wait("connections beside them have no bound").await;
        held = several(&house, MOST + 8).await;
    }
    // Their own time runs out without a request, and others come in.
    loop {
        // Bytes, since a library may wait for ever for a connection that was turned away in its beginnings.
        let answer = raw(&house, ask("/health/live").as_bytes()).await;
        if statuses(&answer) == [200] {
            break;
        }
        patience.wait("the places don't become free").await;
    }
    drop(held);
    // A connection that is just being ended gives its place back a moment later.
    let metrics = loop {
        if let Ok(answer) = house.bare(Method::GET, "/metrics").send().await {
            break answer.text().await.expect("text");
        }
        patience.wait("the places don't become free").await;
    };
    let counted = (metrics.lines())
        .find_map(|line| line.strip_prefix("cairn_http_turned_away_total "))
        .and_then(|count| count.parse::<u64>().ok());
    assert!(counted.is_some_and(|count| count > 0), "{counted:?}");
    house.end().await;
}
