//! A connection that costs little: the client of a benchmark shares the machine with the server, and
//! what it uses is missing there.

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::server::ServerProcess;
use crate::visitor::FORM;

/// Where a FHIR server is and how to be let in.
#[derive(Debug, Clone)]
pub struct Door {
    /// `127.0.0.1:PORT`.
    pub address: String,
    /// The path of its FHIR base, without a slash at the end: `/fhir/r4`, or nothing.
    pub base: String,
    /// A bearer token, if it asks for one.
    pub token: Option<String>,
    /// The host that it is asked for, if not its address.
    pub host: Option<String>,
    /// The cookies of somebody who is signed in, where pages are asked for and not FHIR.
    pub cookie: Option<String>,
}

impl Door {
    /// The door of a Cairn server.
    pub(super) fn of(server: &ServerProcess, token: String) -> Self {
        Self {
            address: server.base.trim_start_matches("http://").to_owned(),
            base: "/fhir/r4".to_owned(),
            token: Some(token),
            host: None,
            cookie: None,
        }
    }

    /// The door of a Cairn server to its pages.
    pub(super) fn to_pages(server: &ServerProcess, cookie: String) -> Self {
        Self {
            base: String::new(),
            token: None,
            cookie: Some(cookie),
            ..Self::of(server, String::new())
        }
    }
}

/// One connection to a server, used again and again.
pub struct Wire {
    door: Door,
    sender: SendRequest<Full<Bytes>>,
}

impl Wire {
    /// Connects.
    ///
    /// # Errors
    /// The connection's.
    pub async fn open(door: &Door) -> Result<Self> {
        let stream = TcpStream::connect(&door.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self {
            door: door.clone(),
            sender,
        })
    }

    /// Asks, and gives status and body.
    ///
    /// # Errors
    /// The connection's.
    pub async fn ask(&mut self, method: Method, path: &str, body: Bytes) -> Result<(u16, Bytes)> {
        let (status, body) = self.begin(method, path, body).await?;
        Ok((status, body.collect().await?.to_bytes()))
    }

    /// Asks, and gives status and body as it comes.
    ///
    /// # Errors
    /// The connection's.
    pub async fn begin(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(u16, Incoming)> {
        if self.sender.ready().await.is_err() {
            // The server closed it; another one is opened, as any client does.
            let door = self.door.clone();
            *self = Self::open(&door).await?;
            self.sender.ready().await?;
        }
        // A base is asked without a slash behind it, unless it is the server's root.
        let slash = if path.is_empty() && !self.door.base.is_empty() {
            ""
        } else {
            "/"
        };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{slash}{path}", self.door.base))
            .header(HOST, self.door.host.as_ref().unwrap_or(&self.door.address));
        if let Some(token) = &self.door.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(cookie) = &self.door.cookie {
            request = request.header(COOKIE, cookie);
        }
        if !body.is_empty() {
            let kind = match self.door.cookie {
                Some(_) => FORM,
                None => "application/fhir+json",
            };
            request = request.header(CONTENT_TYPE, kind);
        }
        let request = request.body(Full::new(body)).context("a request")?;
        let answer = self.sender.send_request(request).await?;
        Ok((answer.status().as_u16(), answer.into_body()))
    }
}
