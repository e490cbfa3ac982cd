//! A bulk export of everything, from its beginning to the last byte of its last file, again and again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_LOCATION, HOST};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::wire::Door;

/// How the measure is called.
pub(super) const NAME: &str = "$export";
/// Files that are downloaded at once: as many as the machine that the goals are for has cores.
const DOWNLOADS: usize = 2;
/// How often it is asked whether the files are there.
const EVERY: Duration = Duration::from_millis(10);

/// What came out of it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Exported {
    /// Resources, all runs together.
    pub(super) resources: u64,
    /// Bytes of the files.
    pub(super) bytes: u64,
    /// How long all of it took.
    pub(super) seconds: f64,
}

type Connection = SendRequest<Empty<Bytes>>;

async fn connect(door: &Door) -> Result<Connection> {
    let stream = TcpStream::connect(&door.address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn ask(
    connection: &mut Connection,
    door: &Door,
    method: Method,
    path: &str,
) -> Result<Response<hyper::body::Incoming>> {
    connection.ready().await?;
    let mut request = Request::builder()
        .method(method)
        .uri(format!("{}/{path}", door.base))
        .header(HOST, &door.address)
        .header("prefer", "respond-async");
    if let Some(token) = &door.token {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request.body(Empty::new()).context("a request")?;
    Ok(connection.send_request(request).await?)
}

/// The part of an address behind the base.
fn behind<'a>(door: &Door, address: &'a str) -> Result<&'a str> {
    let mark = format!("{}/", door.base);
    let place = address.find(&mark).context("an address of the server")?;
    Ok(&address[place + mark.len()..])
}

/// One export; how many resources and bytes came.
async fn once(door: &Door) -> Result<(u64, u64)> {
    let mut connection = connect(door).await?;
    let begun = ask(&mut connection, door, Method::GET, "$export").await?;
    ensure!(
        begun.status() == 202,
        "the export begins: {}",
        begun.status()
    );
    let status = begun.headers().get(CONTENT_LOCATION);
    let status = status.context("the address of its status")?.to_str()?;
    let status = behind(door, status)?.to_owned();
    begun.into_body().collect().await?;
    let manifest: Value = loop {
        let answer = ask(&mut connection, door, Method::GET, &status).await?;
        let code = answer.status().as_u16();
        let body = answer.into_body().collect().await?.to_bytes();
        match code {
            200 => break serde_json::from_slice(&body)?,
            202 => tokio::time::sleep(EVERY).await,
            other => anyhow::bail!("the status of the export: {other}"),
        }
    };
    let files = manifest["output"].as_array().context("files")?;
    let files: VecDeque<String> = (files.iter())
        .map(|file| Ok(behind(door, file["url"].as_str().context("an address")?)?.to_owned()))
        .collect::<Result<_>>()?;
    let files = Arc::new(Mutex::new(files));
    let mut workers = JoinSet::new();
    for _ in 0..DOWNLOADS {
        let (door, files) = (door.clone(), Arc::clone(&files));
        workers.spawn(async move { download(&door, &files).await });
    }
    let (mut resources, mut bytes) = (0, 0);
    while let Some(done) = workers.join_next().await {
        let (lines, length) = done??;
        resources += lines;
        bytes += length;
    }
    let ended = ask(&mut connection, door, Method::DELETE, &status).await?;
    ensure!(ended.status() == 202, "the export ends: {}", ended.status());
    Ok((resources, bytes))
}

/// Downloads file after file, and counts.
async fn download(door: &Door, files: &Mutex<VecDeque<String>>) -> Result<(u64, u64)> {
    let mut connection = connect(door).await?;
    let (mut lines, mut bytes) = (0, 0);
    loop {
        let next = files
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front();
        let Some(path) = next else {
            return Ok((lines, bytes));
        };
        let answer = ask(&mut connection, door, Method::GET, &path).await?;
        ensure!(answer.status() == 200, "a file: {}", answer.status());
        let mut body = answer.into_body();
        while let Some(frame) = body.frame().await {
            if let Ok(part) = frame?.into_data() {
                bytes += part.len() as u64;
                lines += part.iter().filter(|byte| **byte == b'\n').count() as u64;
            }
        }
    }
}

/// Exports everything for about so many seconds, at least once.
pub(super) async fn run(door: &Door, seconds: u64) -> Result<Exported> {
    let began = Instant::now();
    let mut result = Exported::default();
    while result.resources == 0 || began.elapsed() < Duration::from_secs(seconds) {
        let (resources, bytes) = once(door).await?;
        ensure!(resources > 0, "an export of everything has resources");
        result.resources += resources;
        result.bytes += bytes;
    }
    result.seconds = began.elapsed().as_secs_f64();
    Ok(result)
}
