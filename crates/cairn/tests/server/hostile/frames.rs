//! HTTP/2 as frames (RFC 9113): floods that cost a client little and a server much.

use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep};

use super::*;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// `GET /health/live` by the static table, and names and values in the clear (RFC 7541).
const REQUEST: &[u8] = b"\x82\x86\x41\x01x\x44\x0c/health/live";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A connection that has said hello.
async fn hello(house: &House) -> TcpStream {
    let mut stream = connected(house).await;
    let mut bytes = PREFACE.to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[]));
    stream.write_all(&bytes).await.expect("written");
    stream
}

/// Sends a flood until the server ends the connection, which it has to; the frames that come back, as far as
/// they come past what was still on its way, and how many bytes were sent.
async fn flooded(
    house: &House,
    flood: impl Iterator<Item = Vec<u8>>,
) -> (Vec<(u8, Vec<u8>)>, usize) {
    let mut stream = hello(house).await;
    let (mut reading, mut writing) = stream.split();
    let mut sent = 0;
    let sending = async {
        for bytes in flood {
            if writing.write_all(&bytes).await.is_err() {
                return;
            }
            sent += bytes.len();
        }
        // Whoever is left alone would stay.
        std::future::pending::<()>().await;
    };
    let mut answer = Vec::new();
    let reading = async {
        let mut part = [0; 4096];
        while let Ok(count) = reading.read(&mut part).await {
            if count == 0 {
                return;
            }
            answer.extend_from_slice(&part[..count]);
        }
    };
    // Both at once, until the server hangs up.
    let both = async {
        tokio::select! { () = sending => {}, () = reading => {} }
    };
    let ended = timeout(PATIENCE, both).await;
    assert!(ended.is_ok(), "the connection goes on");
    (frames(&answer), sent)
}

fn frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while bytes.len() >= 9 {
        let length = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]) as usize;
        let kind = bytes[3];
        let Some(payload) = bytes.get(9..9 + length) else {
            break;
        };
        frames.push((kind, payload.to_vec()));
        bytes = &bytes[9 + length..];
    }
    frames
}

/// The error code of the goodbye.
fn goodbye(frames: &[(u8, Vec<u8>)]) -> Option<u32> {
    let (_, payload) = frames.iter().rev().find(|(kind, _)| *kind == GOAWAY)?;
    Some(u32::from_be_bytes(payload.get(4..8)?.try_into().ok()?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_frames_end_their_own_connection_alone() {
    let house = impatient().await;
    // Requests that are taken back at once (CVE-2023-44487).
    let resets = (0..20_000_u32).map(|number| {
        let stream = 2 * number + 1;
        let mut both = frame(HEADERS, END_STREAM | END_HEADERS, stream, REQUEST);
        both.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
        both
    });
    let (told, _) = flooded(&house, resets).await;
    assert!(
        matches!(goodbye(&told), None | Some(11)),
        "ENHANCE_YOUR_CALM"
    );
    goes_on(&house).await;

    // Headers that never end (CVE-2024-27316).
    let first = frame(HEADERS, END_STREAM, 1, REQUEST);
    // A literal of four kilobytes that is not put into the table.
    let mut literal = vec![0x00, 0x01, b'x', 0x7f, 0x81, 0x1f];
    literal.resize(literal.len() + 4096, b'y');
    let more = (0..20_000).map(move |_| frame(CONTINUATION, 0, 1, &literal));
    let (told, sent) = flooded(&house, std::iter::once(first).chain(more)).await;
    assert!(sent < 16 << 20, "{sent} bytes were taken");
    assert_ne!(goodbye(&told), Some(0));
    goes_on(&house).await;

    // A large header once, and then a thousand times by its number in the table.
    let mut bomb = REQUEST.to_vec();
    bomb.extend([0x40, 0x01, b'x', 0x7f, 0x81, 0x1e]);
    bomb.resize(bomb.len() + 3968, b'y');
    bomb.extend(std::iter::repeat_n(0xbe, 10_000));
    let (told, _) = flooded(
        &house,
        [frame(HEADERS, END_STREAM | END_HEADERS, 1, &bomb)].into_iter(),
    )
    .await;
    // 431 is no entry of the static table, 200 is: a head that begins with it would be one.
    let answered = told
        .iter()
        .any(|(kind, head)| *kind == HEADERS && head.first() == Some(&0x88));
    assert!(!answered, "{told:?}");
    goes_on(&house).await;
    house.end().await;
}

/// Headers that never end and hold nothing, so that no bound of bytes stops them. This house would wait far longer
/// than the test does: what ends the connection is the bound of frames, not a time-out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn empty_frames_end_their_connection_by_their_number() {
    let house = house_with(|options| {
        options.limits.header_timeout_ms = 600_000;
        options.limits.body_timeout_ms = 600_000;
        options.limits.idle_timeout_ms = 600_000;
    })
    .await;
    // Few of them, and then nothing: it is waited for.
    let mut patient = hello(&house).await;
    let mut few = frame(HEADERS, END_STREAM, 1, REQUEST);
    few.extend(frame(CONTINUATION, 0, 1, &[]));
    patient.write_all(&few).await.expect("written");
    let (told, _) = flooded(
        &house,
        std::iter::once(frame(HEADERS, END_STREAM, 1, REQUEST))
            .chain((0..200_000).map(|_| frame(CONTINUATION, 0, 1, &[]))),
    )
    .await;
    assert!(
        matches!(goodbye(&told), None | Some(11)),
        "ENHANCE_YOUR_CALM"
    );
    goes_on(&house).await;
    let mut part = [0; 64];
    let until = Instant::now() + Duration::from_secs(2);
    while let Ok(read) = tokio::time::timeout_at(until, patient.read(&mut part)).await {
        assert!(read.expect("a connection that stays") > 0, "it was ended");
    }
    patient
        .write_all(&frame(CONTINUATION, END_HEADERS, 1, &[]))
        .await
        .expect("the connection stays");
    house.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_says_nothing_more_ends() {
    let house = house_with(|options| options.limits.idle_timeout_ms = 1_000).await;
    // After a request; within the headers of a second one; with a window that is shut.
    for more in [Vec::new(), frame(HEADERS, END_STREAM, 3, REQUEST)] {
        let mut stream = hello(&house).await;
        let mut bytes = frame(HEADERS, END_STREAM | END_HEADERS, 1, REQUEST);
        bytes.extend(&more);
        stream.write_all(&bytes).await.expect("written");
        let began = Instant::now();
        rest(&mut stream).await;
        assert!(began.elapsed() > Duration::from_millis(800));
    }
    // Who says something stays.
    let mut stream = hello(&house).await;
    for number in 0..8_u64 {
        sleep(Duration::from_millis(300)).await;
        let ping = frame(PING, 0, 0, &number.to_be_bytes());
        stream.write_all(&ping).await.expect("the connection stays");
        let request = frame(
            HEADERS,
            END_STREAM | END_HEADERS,
            u32::try_from(2 * number + 1).expect("small"),
            REQUEST,
        );
        stream
            .write_all(&request)
            .await
            .expect("the connection stays");
    }
    house.end().await;
}
