//! Live parts of pages, as server-sent events.
//!
//! The ledger says which shards have news; an event that matters to the page makes it read again,
//! at most once a second, under a session and permits that are checked anew each time. The reading
//! is audited like any other, so a stream reads only when something happened.
//!
//! What a page shows has to be taken off it when its person may no longer see it. A stream says three things:
//! `part` brings an element anew; `end` has the page emptied, and says why; `pause` says that there is no news for
//! a while, and the page asks again by itself. Its address says what the page was decided under, so that one that
//! looked away (a hidden tab, a broken connection) is drawn anew when it comes back to another hour, policy set,
//! network, or the end of an emergency access. A page that can't reach the server stays as it is and says so.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::http::{HeaderValue, header};
use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use fhir::ResourceType;
use futures_util::stream;
use ledger::{Event, Kind, Number, SHARDS, Shard};
use maud::Markup;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};
use tokio::time::Instant;
use trust::PolicySlice;

use crate::context::{App, Ctx, Fields};
use crate::error::PageError;

/// Streams that may be open at once; beyond it a page says that it is not live. Each holds one
/// connection and a few kilobytes, so that a thousand cost less than a page of the cache.
pub(crate) const STREAMS_MAX: usize = 1000;
/// A part is read again at most this often.
const PAUSE: Duration = Duration::from_secs(1);
/// The session is looked at this often even when nothing happens.
const CHECK: Duration = Duration::from_secs(10);
/// Events of a shard looked at in one go.
const EVENTS: usize = 500;

/// The parts of a page: element id and content.
pub(crate) type Parts = Vec<(&'static str, Markup)>;
type Rendering = Pin<Box<dyn Future<Output = Result<Parts, PageError>> + Send>>;

/// What a stream follows and how it makes its parts.
pub(crate) struct Source {
    /// The one shard that matters; `None`: all.
    pub(crate) shard: Option<Shard>,
    /// Whether an event matters to the page.
    pub(crate) matters: fn(Kind) -> bool,
    /// Makes the parts anew.
    pub(crate) render: Box<dyn Fn(Ctx) -> Rendering + Send + Sync>,
}

/// Adds to a live address where the page stood when it was made and what it was decided under, so that nothing
/// between then and the stream's first breath is missed. Comes before anything of the page is decided. What is
/// added stands first: of a field that comes twice the first counts.
pub(crate) fn address(ctx: &Ctx, path: &str, query: &str) -> String {
    let after = ctx.app.ledger().last_number().0;
    let under = mark(&slice(ctx));
    let joint = if query.is_empty() { "" } else { "&" };
    format!("{path}?after={after}&under={under}{joint}{query}")
}

/// Adds until when an emergency access lasts that something on the page is shown under, which is known when the
/// page is there.
pub(crate) fn with_emergency(ctx: &Ctx, address: &str) -> String {
    match ctx.emergency_until_ms.load(Ordering::Relaxed) {
        0 => address.to_owned(),
        until_ms => address.replacen("?", &format!("?{EMERGENCY}={until_ms}&"), 1),
    }
}

const EMERGENCY: &str = "emergency";

/// What the page that a stream is for was asked for with: links in its parts lead to pages, not to streams.
pub(crate) fn shown(fields: &Fields) -> Fields {
    let of_page =
        |(name, _): &&(String, String)| !["after", "under", EMERGENCY].contains(&name.as_str());
    Fields(fields.0.iter().filter(of_page).cloned().collect())
}

fn slice(ctx: &Ctx) -> PolicySlice {
    ctx.app.web.trust.policy_slice(&ctx.session.agent)
}

/// A slice is known again by this. It tells nothing of networks and sessions to whoever sees the address.
fn mark(slice: &PolicySlice) -> String {
    let hash = blake3::hash(slice.to_string().as_bytes());
    hash.to_hex()[..MARK_CHARS].to_owned()
}

/// As many tell slices apart, of which there are some thousand.
const MARK_CHARS: usize = 24;

/// What a browser asks for where it wants events.
pub(crate) const EVENT_STREAM: &str = "text/event-stream";

/// The answer to a page that asks for its stream and that its person may no longer see: no script sees why a stream
/// is refused, so this is one that ends at once, and has the page emptied.
pub(crate) fn over(error: &PageError) -> Option<Response> {
    may_not(error).map(ended)
}

fn ended(words: &str) -> Response {
    let end = Sent::default().event("end").data(words);
    let stream = stream::iter([Ok::<_, Infallible>(end)]);
    no_store(Sse::new(stream).into_response())
}

/// Why a page may be shown no longer, if that is what an error says, and what to do.
fn may_not(error: &PageError) -> Option<&'static str> {
    match error {
        PageError::SignedOut(_) => {
            Some("You are signed out, so this page shows nothing any more. Sign in again.")
        }
        PageError::Refused(_) | PageError::NotFound | PageError::Erased => Some(
            "You may no longer see this page as it was, so it shows nothing any more. Load it again to see what you may.",
        ),
        _ => None,
    }
}

/// What it shows is of patients, and no copy of it is kept; by itself it would say no more than that one has to be
/// checked.
fn no_store(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

struct Stream {
    ctx: Ctx,
    source: Source,
    watch: broadcast::Receiver<Shard>,
    /// How far each shard has been looked at.
    seen: HashMap<Shard, Number>,
    after: Number,
    /// Hash of what was sent last, by part.
    sent: HashMap<&'static str, blake3::Hash>,
    queue: VecDeque<Sent>,
    dirty: bool,
    next_render: Instant,
    next_check: Instant,
    over: bool,
    /// Where the page was asked for from.
    client: Option<IpAddr>,
    /// What was decided under when it was drawn.
    slice: PolicySlice,
    /// Whether what is on the page may have been let be shown by what holds no longer, until it is drawn anew.
    stale: bool,
    /// How often keys had been forgotten when it was looked at last.
    forgotten: u64,
    _slot: OwnedSemaphorePermit,
}

impl Stream {
    /// Looks at the shards' events; notes whether one matters.
    async fn look(&mut self, shard: Option<Shard>) -> Result<(), PageError> {
        let ledger = self.ctx.app.ledger().clone();
        let shards: Vec<Shard> = match (shard, self.source.shard) {
            (Some(shard), Some(wanted)) if shard != wanted => return Ok(()),
            (Some(shard), _) | (None, Some(shard)) => vec![shard],
            (None, None) => (0..SHARDS).map(Shard).collect(),
        };
        for shard in shards {
            let mut position = self.seen.get(&shard).copied().unwrap_or(self.after);
            while ledger.shard_head(shard) > position {
                let events = ledger.events(shard, position, EVENTS).await?;
                let Some(last) = events.last() else { break };
                position = last.at.number;
                let tenant = self.ctx.app.web.tenant;
                let matters =
                    |event: &&Event| event.tenant == tenant && (self.source.matters)(event.kind);
                for event in events.iter().filter(matters) {
                    self.dirty = true;
                    // It may be what let something be shown that is on the page.
                    self.stale |= event.kind == Kind(ResourceType::Consent.code());
                }
            }
            self.seen.insert(shard, position);
        }
        Ok(())
    }

    /// Whether the session still holds.
    async fn check(&mut self) -> Result<bool, PageError> {
        self.next_check = Instant::now() + CHECK;
        match session_still_holds(&self.ctx).await {
            Err(error @ PageError::SignedOut(_)) => {
                self.end(may_not(&error).unwrap_or(UNSURE));
                Ok(false)
            }
            Ok(()) => {
                self.over_with_emergency();
                self.over_with_policies();
                self.over_with_keys();
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    /// What was shown under an emergency access whose time is over is taken off the page.
    fn over_with_emergency(&mut self) {
        let until_ms = &self.ctx.emergency_until_ms;
        let ends_ms = until_ms.load(Ordering::Relaxed);
        if ends_ms > 0 && self.ctx.app.web.trust.wall_clock().now_ms() >= ends_ms {
            until_ms.store(0, Ordering::Relaxed);
            self.is_stale();
        }
    }

    /// What is shown doesn't outlive the hour, the policies, or what else around the person let it be shown: the
    /// page is drawn anew.
    fn over_with_policies(&mut self) {
        let slice = slice(&self.ctx);
        if slice != self.slice {
            self.slice = slice;
            self.is_stale();
        }
    }

    /// What a key sealed that is destroyed is taken off the page.
    fn over_with_keys(&mut self) {
        let forgotten = self.ctx.app.ledger().keys_forgotten();
        if forgotten != self.forgotten {
            self.forgotten = forgotten;
            self.is_stale();
        }
    }

    fn is_stale(&mut self) {
        self.stale = true;
        self.dirty = true;
    }

    /// Nothing more comes, and the page is emptied.
    fn end(&mut self, words: &str) {
        self.last("end", words);
    }

    fn last(&mut self, event: &str, words: &str) {
        let event = Sent::default().event(event).data(words);
        self.queue.push_back(event);
        self.over = true;
    }

    async fn render(&mut self) -> Result<(), PageError> {
        self.dirty = false;
        self.next_render = Instant::now() + PAUSE;
        if !self.check().await? {
            return Ok(());
        }
        let number = self.ctx.app.ledger().last_number().0;
        let parts = (self.source.render)(self.ctx.later()).await?;
        let must = std::mem::take(&mut self.stale);
        for (id, content) in parts {
            let html = content.into_string();
            // Times inside move by themselves in the browser, so only news is sent.
            let hash = blake3::hash(html.as_bytes());
            if self.sent.insert(id, hash) != Some(hash) {
                let data = serde_json::json!({ "id": id, "html": html, "must": must }).to_string();
                self.queue.push_back(
                    Sent::default()
                        .event("part")
                        .id(number.to_string())
                        .data(data),
                );
            }
        }
        Ok(())
    }

    /// Waits for something to do, and does it.
    async fn turn(&mut self) -> Result<(), PageError> {
        if self.dirty && Instant::now() >= self.next_render {
            return self.render().await;
        }
        let wake = if self.dirty {
            self.next_render.min(self.next_check)
        } else {
            self.next_check
        };
        tokio::select! {
            news = self.watch.recv() => match news {
                Ok(shard) => self.look(Some(shard)).await,
                Err(RecvError::Lagged(_)) => self.look(None).await,
                Err(RecvError::Closed) => {
                    self.last("pause", "The server is stopping.");
                    Ok(())
                }
            },
            () = tokio::time::sleep_until(wake) => {
                if Instant::now() >= self.next_check { self.check().await?; }
                Ok(())
            }
        }
    }

    /// The next event, worked out as a part of the request that the page came from.
    async fn next(self) -> Option<(Result<Sent, Infallible>, Self)> {
        match self.client {
            Some(client) => trust::origin::at(client, self.next_here()).await,
            None => self.next_here().await,
        }
    }

    async fn next_here(mut self) -> Option<(Result<Sent, Infallible>, Self)> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Some((Ok(event), self));
            }
            if self.over {
                return None;
            }
            if let Err(error) = self.turn().await {
                if let PageError::Internal(inside) = &error {
                    tracing::error!(request_id = %self.ctx.request.id, error = %inside, "live page failed");
                }
                match may_not(&error) {
                    Some(words) => self.end(words),
                    // Whether what is there may be seen still is not known.
                    None if self.stale => self.end(UNSURE),
                    None => self.last("pause", "Something went wrong, so this page is not live."),
                }
            }
        }
    }
}

const UNSURE: &str = "It can't be told whether you may still see this page as it was, so it shows nothing any more. Load it again.";

/// Looks at the session without keeping it awake: an open page is no sign of a person.
async fn session_still_holds(ctx: &Ctx) -> Result<(), PageError> {
    ctx.app
        .web
        .trust
        .identity()
        .peek(&ctx.secret)
        .await
        .map(|_| ())
        .map_err(Into::into)
}

/// Answers with a stream.
pub(crate) async fn serve(
    ctx: Ctx,
    fields: &Fields,
    last_event_id: Option<&str>,
    source: Source,
) -> Response {
    let slice = slice(&ctx);
    let is_other = fields
        .get("under")
        .is_some_and(|under| under != mark(&slice));
    let shown_until = fields.get(EMERGENCY).and_then(|text| text.parse().ok());
    let stands_until = ctx.emergency_until_ms.load(Ordering::Relaxed);
    let stale = is_other || shown_until.is_some_and(|until_ms: u64| until_ms != stands_until);
    let Ok(slot) = slots(&ctx.app).try_acquire_owned() else {
        return match stale {
            true => ended(UNSURE),
            false => PageError::LockedOut(30).into_response(),
        };
    };
    let after = last_event_id
        .or_else(|| fields.get("after"))
        .and_then(|text| text.parse().ok());
    let after = Number(after.unwrap_or_else(|| ctx.app.ledger().last_number().0));
    let watch = ctx.app.ledger().watch();
    let forgotten = ctx.app.ledger().keys_forgotten();
    let now = Instant::now();
    let mut stream = Stream {
        ctx,
        source,
        watch,
        seen: HashMap::new(),
        after,
        sent: HashMap::new(),
        queue: VecDeque::from([Sent::default().comment("live")]),
        dirty: stale,
        next_render: now,
        next_check: now + CHECK,
        over: false,
        client: trust::origin::current(),
        slice,
        stale,
        forgotten,
        _slot: slot,
    };
    if let Err(error) = stream.look(None).await {
        return match stale {
            true => ended(UNSURE),
            false => error.into_response(),
        };
    }
    let response = Sse::new(stream::unfold(stream, Stream::next))
        .keep_alive(KeepAlive::new().interval(Duration::from_secs(15)))
        .into_response();
    no_store(response)
}

fn slots(app: &App) -> Arc<Semaphore> {
    app.streams.clone()
}
