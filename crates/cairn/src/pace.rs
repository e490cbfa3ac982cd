//! Clients that stop reading their answers.
//!
//! What is sent to a client waits in its connection until the client takes it. One that takes nothing for
//! as long as `limits.send_timeout_ms` is cut off, so that it gives its connection back, the answer in
//! memory, and whatever else its answer holds. However slowly it takes something, it goes on.
//!
//! [`Paced`] looks at the connection. A client of HTTP/2 can stop a single answer while the connection goes
//! on, so those answers are looked at one by one ([`answer`]).
//!
//! Connections have a bound as well, and those over which nothing goes any more are ended, so that nobody takes
//! all places by holding them. HTTP/1.1 has its own time between requests; over HTTP/2 a client could stay for
//! ever, also within the headers of a request that it never finishes.

use std::future::{Future, Ready, ready};
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready as done};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{Request, Version};
use axum::response::Response;
use axum_server::accept::Accept;
use futures_util::{StreamExt, stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, Sleep, timeout};
use tower::Service;

use crate::clients::{Bounds, ByAddress, Counted};
use crate::config::Limits;

/// Bytes that wait to be sent to one client before more are taken from its answer. The system says that there
/// is room again when half of them are gone, so this is how finely a client is seen to move.
#[cfg(target_os = "linux")]
const UNSENT_BYTES: u32 = 128 << 10;
/// An answer of HTTP/2 is handed on in pieces of so many bytes, each of which has to be taken in time. An
/// answer that is no longer is left alone.
const PIECE_BYTES: usize = 64 << 10;

/// Connections beside the bound, in which operators' routes alone are answered: health checks come in when all
/// others are taken. One address has a quarter of them at most.
const EXTRA: usize = 32;
/// How long one of those may last.
const EXTRA_LASTS: Duration = Duration::from_secs(10);

/// Marks requests of a connection that is beside the bound.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extra;

/// Files that are kept for the store, its peers and answers, beside connections.
const FILES_BESIDE: usize = 512;

fn count() {
    metrics::counter!("cairn_http_stalled_total").increment(1);
}

/// Makes accepted connections [`Paced`].
#[derive(Clone)]
pub(crate) struct Pace {
    /// How long a client may take nothing of its answer.
    patience: Duration,
    /// How long nothing may go over a connection on which nothing is asked for.
    idle: Duration,
    places: Arc<Semaphore>,
    extra: Arc<Semaphore>,
    extra_of_one: ByAddress,
    bounds: Bounds,
}

impl Pace {
    /// By the limits, with so many connections, of which one address has as many as its bounds say.
    pub(crate) fn of(limits: &Limits, connections: usize, bounds: Bounds) -> Self {
        Self {
            patience: Duration::from_millis(limits.send_timeout_ms),
            idle: Duration::from_millis(limits.idle_timeout_ms),
            places: Arc::new(Semaphore::new(connections)),
            extra: Arc::new(Semaphore::new(EXTRA)),
            extra_of_one: ByAddress::new(EXTRA / 4),
            bounds,
        }
    }

    /// A place for one more connection of an address.
    fn place(&self, peer: IpAddr) -> Option<PlaceOf> {
        let counted = self.bounds.connection(peer)?;
        if let Ok(place) = self.places.clone().try_acquire_owned() {
            return Some(PlaceOf {
                is_extra: false,
                _place: place,
                _counted: counted,
            });
        }
        let counted = self.extra_of_one.one_more(peer)?;
        let place = self.extra.clone().try_acquire_owned().ok()?;
        Some(PlaceOf {
            is_extra: true,
            _place: place,
            _counted: Some(counted),
        })
    }
}

/// The place of a connection, until it is dropped.
struct PlaceOf {
    is_extra: bool,
    _place: OwnedSemaphorePermit,
    _counted: Option<Counted>,
}

/// How many connections there may be. Where the process may open too few files for all of them, they are fewer,
/// because the store opens files as well and must not be without.
pub(crate) fn places(connections: usize) -> usize {
    let Some(files) = open_files_max() else {
        return connections;
    };
    let left = files.saturating_sub(FILES_BESIDE).max(files / 2).max(1);
    if left < connections {
        tracing::warn!(
            files,
            connections,
            left,
            "the process may open too few files for limits.connections; there are fewer connections"
        );
    }
    connections.min(left)
}

/// How many files the process may open, where the system tells.
fn open_files_max() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

impl<S> Accept<TcpStream, S> for Pace {
    type Stream = Paced;
    type Service = Busy<S>;
    type Future = Ready<io::Result<(Paced, Busy<S>)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let peer = match stream.peer_addr() {
            Ok(peer) => peer.ip(),
            Err(error) => return ready(Err(error)),
        };
        let Some(place) = self.place(peer) else {
            metrics::counter!("cairn_http_turned_away_total").increment(1);
            return ready(Err(io::Error::other("there are too many connections")));
        };
        #[cfg(target_os = "linux")]
        if let Err(error) = socket2::SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT_BYTES) {
            return ready(Err(error));
        }
        let asked: Arc<AtomicUsize> = Arc::default();
        let is_extra = place.is_extra;
        let paced = Paced {
            stream,
            patience: self.patience,
            waiting: None,
            idle: self.idle,
            moved: Instant::now(),
            quiet: None,
            asked: asked.clone(),
            until: is_extra.then(|| Box::pin(tokio::time::sleep(EXTRA_LASTS))),
            _place: place,
        };
        let busy = Busy {
            service,
            asked,
            is_extra,
        };
        ready(Ok((paced, busy)))
    }
}

/// Counts what is asked for over a connection and has no answer yet.
#[derive(Debug, Clone)]
pub(crate) struct Busy<S> {
    service: S,
    asked: Arc<AtomicUsize>,
    is_extra: bool,
}

impl<S, B> Service<Request<B>> for Busy<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Asking<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if self.is_extra {
            request.extensions_mut().insert(Extra);
        }
        let one = One::more(&self.asked);
        Asking {
            answer: Box::pin(self.service.call(request)),
            _one: one,
        }
    }
}

/// An answer that is waited for.
pub(crate) struct Asking<F> {
    answer: Pin<Box<F>>,
    _one: One,
}

impl<F: Future> Future for Asking<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.answer.as_mut().poll(context)
    }
}

/// One of those that are counted, until it is dropped.
struct One(Arc<AtomicUsize>);

impl One {
    fn more(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count.clone())
    }
}

impl Drop for One {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection that ends when nothing of what is sent is taken for some time, or when nothing at all goes over
/// it and nothing is asked for.
pub(crate) struct Paced {
    stream: TcpStream,
    patience: Duration,
    /// Since something waits to be taken.
    waiting: Option<Pin<Box<Sleep>>>,
    idle: Duration,
    /// When something last came or went.
    moved: Instant,
    /// Rings when nothing may have moved for long; kept from read to read, since setting it costs more than
    /// looking at the clock.
    quiet: Option<Pin<Box<Sleep>>>,
    asked: Arc<AtomicUsize>,
    /// When it ends, whatever goes over it.
    until: Option<Pin<Box<Sleep>>>,
    _place: PlaceOf,
}

impl Paced {
    fn sent(
        &mut self,
        context: &mut Context<'_>,
        outcome: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if outcome.is_ready() {
            self.waiting = None;
            self.moved = Instant::now();
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

    /// Ready when nothing has moved for too long.
    fn rests(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let ends = self.moved + self.idle;
            let quiet =
                (self.quiet).get_or_insert_with(|| Box::pin(tokio::time::sleep_until(ends)));
            done!(quiet.as_mut().poll(context));
            let now = Instant::now();
            // An answer may take its time; it ends by other bounds.
            let busy = self.asked.load(Ordering::Relaxed) > 0 || self.waiting.is_some();
            let next = if busy { now + self.idle } else { ends };
            if next <= now {
                return Poll::Ready(());
            }
            quiet.as_mut().reset(next);
        }
    }
}

impl AsyncRead for Paced {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(until) = &mut self.until
            && until.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "a connection beside the bound is short",
            )));
        }
        if let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(context, buffer) {
            self.moved = Instant::now();
            return Poll::Ready(read);
        }
        done!(self.rests(context));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "nothing goes over the connection any more",
        )))
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
