//! Where requests come in: each is led to the house whose host it names.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Request, Uri, header};
use axum::response::Response;
use axum::routing::future::RouteFuture;
use http_body_util::BodyExt;
use tokio::sync::OwnedSemaphorePermit;
use tower::{BoxError, Service};

use super::{Houses, Place};
use crate::http::{Closed, is_for_operators};

/// Leads requests to their houses. A copy is one count.
#[derive(Clone)]
pub(crate) struct Reception {
    houses: Arc<Houses>,
    /// Health and metrics.
    office: Router,
    /// The refusal of what has no house.
    closed: Router,
}

/// The host that a request names, in lower case and without its port; `None` when it names none, `Err` when
/// it names several.
fn host_of(uri: &Uri, headers: &HeaderMap) -> Result<Option<String>, ()> {
    let plain = |authority: &Authority| {
        let host = authority.host().trim_end_matches('.');
        host.to_ascii_lowercase()
    };
    let mut named = headers.get_all(header::HOST).iter();
    let header = match (named.next(), named.next()) {
        (None, _) => None,
        (Some(value), None) => {
            let text = value.to_str().map_err(|_| ())?;
            Some(plain(&text.parse::<Authority>().map_err(|_| ())?))
        }
        _ => return Err(()),
    };
    match (uri.authority().map(plain), header) {
        (Some(asked), Some(named)) if asked != named => Err(()),
        (asked, named) => Ok(asked.or(named)),
    }
}

impl Reception {
    pub(crate) fn new(houses: Arc<Houses>, office: Router, closed: Router) -> Self {
        Self {
            houses,
            office,
            closed,
        }
    }

    /// Where a request goes, and what it holds while it is there.
    fn lead<B>(&self, request: &mut Request<B>) -> (Router, Option<OwnedSemaphorePermit>) {
        let table = self.houses.table();
        let (place, closed) = match &table.any {
            Some(place) => (Some(place), Closed::Nobody),
            None => match host_of(request.uri(), request.headers()) {
                Ok(host) => (host.and_then(|host| table.hosts.get(&host)), Closed::Nobody),
                Err(()) => (None, Closed::Unclear),
            },
        };
        let operators =
            is_for_operators(request.uri().path()) && (place.is_none() || table.any.is_some());
        if operators {
            return (self.office.clone(), None);
        }
        let closed = match place {
            None => closed,
            Some(Place::Closed(closed)) => *closed,
            Some(Place::Open(house, quota)) => match quota.admit() {
                Ok(held) => return (house.router.clone(), held),
                Err(over) => Closed::Over(over),
            },
        };
        request.extensions_mut().insert(closed);
        (self.closed.clone(), None)
    }
}

impl<B> Service<Request<B>> for Reception
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> Answering {
        let (mut router, held) = self.lead(&mut request);
        Answering {
            answer: router.call(request),
            held,
        }
    }
}

/// An answer in the making.
pub(crate) struct Answering {
    answer: RouteFuture<Infallible>,
    held: Option<OwnedSemaphorePermit>,
}

impl Future for Answering {
    type Output = Result<Response, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = Pin::new(&mut self.answer).poll(context);
        answer.map(|Ok(answer)| {
            let held = self.held.take();
            Ok(match held {
                Some(held) if !is_live(&answer) => holding(answer, held),
                // A live page waits for news, and its streams are bounded by themselves.
                _ => answer,
            })
        })
    }
}

fn is_live(answer: &Response) -> bool {
    (answer.headers().get(header::CONTENT_TYPE))
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
}

/// The same answer, which holds something until it is taken or given up.
fn holding(answer: Response, held: OwnedSemaphorePermit) -> Response {
    let (parts, body) = answer.into_parts();
    // An error is passed on as it is; what matters is that this lives as long as the body, whose length it
    // does not hide.
    let body = body.map_err(move |error| {
        let _ = &held;
        error
    });
    Response::from_parts(parts, Body::new(body))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn hosts_are_told_from_what_is_asked() {
        let host = |uri: &str, named: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for name in named {
                headers.append(header::HOST, HeaderValue::from_static(name));
            }
            host_of(&uri.parse().expect("a URI"), &headers)
        };
        let north = Ok(Some("north.example".to_owned()));
        assert_eq!(host("/x", &["north.example"]), north);
        assert_eq!(host("/x", &["NORTH.example.:8443"]), north);
        assert_eq!(host("https://north.example/x", &[]), north);
        assert_eq!(host("http://north.example:80/x", &["north.example"]), north);
        assert_eq!(host("/x", &[]), Ok(None));
        assert_eq!(host("/x", &["[::1]:80"]), Ok(Some("[::1]".to_owned())));
        for (uri, named) in [
            ("/x", &["north.example", "south.example"][..]),
            ("/x", &["north.example", "north.example"]),
            ("https://north.example/x", &["south.example"]),
            ("/x", &["north.example, south.example"]),
            ("/x", &["north.example/south.example"]),
            ("/x", &[""]),
        ] {
            assert_eq!(host(uri, named), Err(()), "{uri} {named:?}");
        }
    }

    #[tokio::test]
    async fn an_answer_holds_its_place_until_it_is_taken() {
        let room = Arc::new(tokio::sync::Semaphore::new(1));
        let hold = || Arc::clone(&room).try_acquire_owned();
        let answer = holding(Response::new(Body::from("words")), hold().expect("room"));
        assert_eq!(answer.body().size_hint().exact(), Some(5));
        assert!(hold().is_err());
        let taken = axum::body::to_bytes(answer.into_body(), 9).await;
        assert_eq!(taken.expect("a body"), "words");
        let given_up = holding(Response::new(Body::from("words")), hold().expect("room"));
        drop(given_up);
        assert!(hold().is_ok());
    }
}
