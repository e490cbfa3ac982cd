//! Clients that stop reading their answers.
//!
//! What is sent to a client waits in its connection until the client takes it. One that takes nothing for
//! as long as `limits.send_timeout_ms` is cut off, so that it gives its connection back, the answer in
//! memory, and whatever else its answer holds. However slowly it takes something, it goes on.
//!
//! [`Paced`] looks at the connection. A client of HTTP/2 can stop a single answer while the connection goes
//! on, so those answers are looked at one by one ([`answer`]).

use std::future::{Future, Ready, ready};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready as done};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::Version;
use axum::response::Response;
use axum_server::accept::Accept;
use futures_util::{StreamExt, stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Sleep, timeout};

/// Bytes that wait to be sent to one client before more are taken from its answer. The system says that there
/// is room again when half of them are gone, so this is how finely a client is seen to move.
#[cfg(target_os = "linux")]
const UNSENT_BYTES: u32 = 128 << 10;
/// An answer of HTTP/2 is handed on in pieces of so many bytes, each of which has to be taken in time. An
/// answer that is no longer is left alone.
const PIECE_BYTES: usize = 64 << 10;

fn count() {
    metrics::counter!("cairn_http_stalled_total").increment(1);
}

/// Makes accepted connections [`Paced`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace(pub(crate) Duration);

impl<S> Accept<TcpStream, S> for Pace {
    type Stream = Paced;
    type Service = S;
    type Future = Ready<io::Result<(Paced, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        #[cfg(target_os = "linux")]
        if let Err(error) = socket2::SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT_BYTES) {
            return ready(Err(error));
        }
        let paced = Paced {
            stream,
            patience: self.0,
            waiting: None,
        };
        ready(Ok((paced, service)))
    }
}

/// A connection that ends when nothing of what is sent is taken for some time.
pub(crate) struct Paced {
    stream: TcpStream,
    patience: Duration,
    /// Since something waits to be taken.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Paced {
    fn sent(
        &mut self,
        context: &mut Context<'_>,
        outcome: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if outcome.is_ready() {
            self.waiting = None;
            return outcome;
        }
        let patience = self.patience;
        let waiting = (self.waiting).get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        done!(waiting.as_mut().poll(context));
        count();
        // What was sent and not taken is dropped with the connection, instead of being offered on.
        let _ = self.stream.set_zero_linger();
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the client takes nothing of its answer",
        )))
    }
}

impl AsyncRead for Paced {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Paced {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.sent(context, outcome)
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.sent(context, outcome)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// Looks after a long answer of HTTP/2: it ends early, and is told to be broken, when no piece of it is taken
/// for some time.
pub(crate) fn answer(version: Version, patience: Duration, response: Response) -> Response {
    let most = response.body().size_hint().upper();
    if version < Version::HTTP_2 || most.is_some_and(|most| most <= PIECE_BYTES as u64) {
        return response;
    }
    let (parts, body) = response.into_parts();
    let (sender, receiver) = mpsc::channel(1);
    // Until the end has been seen: a panic in the making of an answer must not look like one.
    let is_broken = Arc::new(AtomicBool::new(true));
    tokio::spawn(hand_on(body, sender, patience, Arc::clone(&is_broken)));
    let pieces = stream::unfold(Some((receiver, is_broken)), |state| async {
        let (mut receiver, is_broken) = state?;
        match receiver.recv().await {
            Some(piece) => Some((piece, Some((receiver, is_broken)))),
            None if is_broken.load(Ordering::Acquire) => {
                let error = io::Error::new(io::ErrorKind::TimedOut, "it was not taken in time");
                Some((Err(axum::Error::new(error)), None))
            }
            None => None,
        }
    });
    Response::from_parts(parts, Body::from_stream(pieces))
}

async fn hand_on(
    body: Body,
    sender: mpsc::Sender<Result<Bytes, axum::Error>>,
    patience: Duration,
    is_broken: Arc<AtomicBool>,
) {
    let mut data = body.into_data_stream();
    loop {
        let part = tokio::select! {
            part = data.next() => part,
            () = sender.closed() => return,
        };
        let mut pieces = Vec::new();
        match part {
            Some(Ok(mut bytes)) => {
                while bytes.len() > PIECE_BYTES {
                    pieces.push(Ok(bytes.split_to(PIECE_BYTES)));
                }
                pieces.push(Ok(bytes));
            }
            Some(Err(error)) => pieces.push(Err(error)),
            None => {
                is_broken.store(false, Ordering::Release);
                return;
            }
        }
        for piece in pieces {
            match timeout(patience, sender.send(piece)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return,
                Err(_) => {
                    count();
                    return;
                }
            }
        }
    }
}
