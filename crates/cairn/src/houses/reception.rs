//! Where requests come in: each is led to the house whose host it names, within what its client, its tenant and
//! all together may have under way, and given up when the house is closed.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::ConnectInfo;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Request, Uri, header};
use axum::response::Response;
use axum::routing::future::RouteFuture;
use axum_server::tls::TlsInfo;
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::{BoxError, Service};
use trust::origin::Door;

use super::passage::{Arriving, Leaving, Until, Visitor};
use super::quota::Shown;
use super::turns::{Turn, Turns};
use super::{Houses, Place};
use crate::client_certificates::{Presented, strip};
use crate::clients::{Addresses, Bounds};
use crate::http::{CHANNELS, Closed, Entrance, SIGNATURE, is_for_operators};
use crate::pace::Extra;

/// Leads requests to their houses. A copy is one count.
#[derive(Clone)]
pub(crate) struct Reception {
    houses: Arc<Houses>,
    /// Health and metrics.
    office: Router,
    /// The refusal of what has no house.
    closed: Router,
    /// What one client may have under way.
    bounds: Bounds,
    /// The proxies that tell the certificates of their clients.
    certificates_told_by: Addresses,
    /// Places for live pages of all houses together: each holds a connection for as long as it is looked at.
    live: Arc<Semaphore>,
    turns: Arc<Turns>,
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
        // As one sends who has no name to ask for (RFC 9110, section 7.2), health checks among them.
        (Some(value), None) if value.is_empty() => None,
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

/// What a request shows by which it may be known who asks, where anybody looks at that.
fn shown(path: &str, headers: &HeaderMap) -> Shown {
    // What a provider tells comes in great numbers from a few addresses. Its signature says who it is, and is looked at
    // before anything else.
    if path.starts_with(CHANNELS) && headers.contains_key(SIGNATURE) {
        return Shown::Claim;
    }
    let claims = [header::AUTHORIZATION, header::COOKIE];
    if !claims.iter().any(|name| headers.contains_key(name)) {
        return Shown::Nothing;
    }
    let asks_nobody = ["/static/", "/.well-known/", "/fhir/r4/.well-known/"];
    if asks_nobody.iter().any(|prefix| path.starts_with(prefix))
        || path == "/fhir/r4/metadata"
        || path == "/sw.js"
    {
        return Shown::Unasked;
    }
    Shown::Claim
}

impl Reception {
    pub(crate) fn new(
        houses: Arc<Houses>,
        office: Router,
        closed: Router,
        (bounds, certificates_told_by): (Bounds, Addresses),
        live: usize,
    ) -> Self {
        Self {
            houses,
            office,
            closed,
            bounds,
            certificates_told_by,
            live: Arc::new(Semaphore::new(live)),
            turns: Arc::new(Turns::new()),
        }
    }

    /// The certificate of who asks. That of a proxy is its own, and its word stands for that of who asks.
    fn presented<B>(&self, peer: Option<SocketAddr>, request: &Request<B>) -> Option<Presented> {
        if let Some(peer) = peer.filter(|peer| self.bounds.is_proxy(*peer)) {
            let tells = self.bounds.is_one_of(&self.certificates_told_by, peer);
            return tells.then(|| Presented::told(request.headers())).flatten();
        }
        let connection = request.extensions().get::<Arc<TlsInfo>>();
        connection.and_then(|connection| Presented::by(connection))
    }

    /// Where a request goes, and who comes with it; without a house, why.
    fn lead<B>(&self, request: &Request<B>, entrance: &mut Entrance) -> Result<Led, Closed> {
        let table = self.houses.table();
        let is_operators = is_for_operators(request.uri().path());
        let host = match &table.any {
            // Whoever serves everybody needs no host, but an operator's address is not to be had by two names.
            Some(_) if !is_operators => Ok(None),
            _ => host_of(request.uri(), request.headers()),
        };
        let host = host.map_err(|()| Closed::Unclear)?;
        let place = (table.any.as_ref()).or_else(|| table.hosts.get(&host?));
        if is_operators && (place.is_none() || table.any.is_some()) {
            return Ok(Led::ToOffice);
        }
        if request.extensions().get::<Extra>().is_some() {
            return Err(Closed::Full);
        }
        let counted = match entrance.client {
            Some(client) => self.bounds.request(client).ok_or_else(|| {
                metrics::counter!("cairn_client_refusals_total").increment(1);
                Closed::TooMany
            })?,
            None => None,
        };
        match place {
            None => Err(Closed::Nobody),
            Some(Place::Closed(closed)) => Err(*closed),
            Some(Place::Open(house, quota)) => {
                let shown = shown(request.uri().path(), request.headers());
                let client = (entrance.client).filter(|client| self.bounds.tells(*client));
                let visit = quota.admit(shown, client).map_err(Closed::Over)?;
                entrance.door = visit.clone().map(|visit| visit as Arc<dyn Door>);
                let visitor = Visitor::new(visit, counted);
                // Whoever serves everybody has no neighbours.
                let has_neighbours = table.any.is_none();
                let turn = has_neighbours.then(|| self.turns.of_request(house.entry.id));
                let until = house.until_cut();
                Ok(Led::Home(house.router.clone(), visitor, until, turn))
            }
        }
    }

    /// The answer of who comes to no house.
    fn refuse<B>(&self, mut request: Request<B>, closed: Closed) -> RouteFuture<Infallible>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        request.extensions_mut().insert(closed);
        self.closed.clone().call(request)
    }
}

/// Where a request was led.
enum Led {
    ToOffice,
    Home(Router, Visitor, Until, Option<Turn>),
}

impl<B> Service<Request<B>> for Reception
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> Answering {
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
        let peer = peer.map(|peer| peer.0);
        let client = peer.map(|peer| self.bounds.client(peer, request.headers()));
        let presented = self.presented(peer, &request);
        strip(request.headers_mut());
        if let Some(presented) = presented {
            request.extensions_mut().insert(presented);
        }
        let mut entrance = Entrance { client, door: None };
        let led = self.lead(&request, &mut entrance);
        request.extensions_mut().insert(entrance);
        match led {
            Err(closed) => Answering {
                answer: self.refuse(request, closed),
                stay: None,
            },
            Ok(Led::ToOffice) => Answering {
                answer: self.office.call(request),
                stay: None,
            },
            Ok(Led::Home(mut router, visitor, until, turn)) => {
                let stay = Stay {
                    head: head_of(&request),
                    reception: self.clone(),
                    visitor,
                    until,
                    turn,
                };
                let request = request.map(|body| Arriving::new(body, stay.visitor.visit.clone()));
                Answering {
                    answer: router.call(request),
                    stay: Some(Box::new(stay)),
                }
            }
        }
    }
}

/// What is needed of a request to refuse it in the form that it asks for.
fn head_of<B>(request: &Request<B>) -> Request<Body> {
    let mut head = Request::new(Body::empty());
    *head.method_mut() = request.method().clone();
    *head.uri_mut() = request.uri().clone();
    *head.version_mut() = request.version();
    for name in [header::HOST, header::ACCEPT] {
        if let Some(value) = request.headers().get(&name) {
            head.headers_mut().insert(name, value.clone());
        }
    }
    head
}

/// An answer in the making.
pub(crate) struct Answering {
    answer: RouteFuture<Infallible>,
    /// While it may still be given up.
    stay: Option<Box<Stay>>,
}

struct Stay {
    head: Request<Body>,
    reception: Reception,
    visitor: Visitor,
    until: Until,
    turn: Option<Turn>,
}

impl Answering {
    /// Gives up what is under way, and answers why. What was done and not answered is as if the connection had
    /// broken.
    fn give_up(&mut self, closed: Closed) {
        if let Some(stay) = self.stay.take() {
            let Stay {
                head, reception, ..
            } = *stay;
            self.answer = reception.refuse(head, closed);
        }
    }
}

impl Future for Answering {
    type Output = Result<Response, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(stay) = &mut self.stay
            && stay.until.as_mut().poll(context).is_ready()
        {
            self.give_up(Closed::Suspended);
        }
        let turn = self.stay.as_mut().and_then(|stay| stay.turn.as_mut());
        let step = match turn {
            Some(turn) => Some(std::task::ready!(turn.poll_step(context))),
            None => None,
        };
        let answer = Pin::new(&mut self.answer).poll(context);
        drop(step);
        // Whoever asked turned out to have no room, or no place to wait in.
        let over = (self.stay.as_ref()).and_then(|stay| stay.visitor.over());
        let Some(over) = over else {
            return answer.map(|Ok(answer)| self.leave(answer, context));
        };
        drop(answer);
        self.give_up(Closed::Over(over));
        Pin::new(&mut self.answer).poll(context)
    }
}

impl Answering {
    /// Hands an answer on, with what it holds until it is taken.
    fn leave(
        &mut self,
        answer: Response,
        context: &mut Context<'_>,
    ) -> Result<Response, Infallible> {
        let Some(stay) = self.stay.take() else {
            return Ok(answer);
        };
        let Stay {
            head,
            reception,
            visitor,
            until,
            ..
        } = *stay;
        if !is_live(&answer) {
            return Ok(match visitor.leaves(&answer) {
                Ok(visitor) => answer.map(|body| Body::new(Leaving::new(body, visitor, until))),
                Err(over) => reception.refused_now(head, Closed::Over(over), context),
            });
        }
        // A live page waits for news: it has a place among those, and not the one of a request.
        drop(visitor);
        match Arc::clone(&reception.live).try_acquire_owned() {
            Ok(place) => Ok(holding(answer, place)),
            Err(_) => Ok(reception.refused_now(head, Closed::NotLive, context)),
        }
    }
}

impl Reception {
    /// The refusal instead of an answer that is there. It waits for nothing.
    fn refused_now(
        &self,
        head: Request<Body>,
        closed: Closed,
        context: &mut Context<'_>,
    ) -> Response {
        let mut refusal = self.refuse(head, closed);
        match Pin::new(&mut refusal).poll(context) {
            Poll::Ready(Ok(refusal)) => refusal,
            Poll::Pending => {
                let mut refusal = Response::new(Body::empty());
                *refusal.status_mut() = axum::http::StatusCode::SERVICE_UNAVAILABLE;
                refusal
            }
        }
    }
}

fn is_live(answer: &Response) -> bool {
    (answer.headers().get(header::CONTENT_TYPE))
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
}

/// The same answer, which holds a place until it is taken or given up.
fn holding(answer: Response, place: OwnedSemaphorePermit) -> Response {
    answer.map(|body| {
        Body::new(body.map_err(move |error| {
            let _ = &place;
            error
        }))
    })
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_signature_is_a_claim_where_it_is_looked_at() {
        let mut headers = HeaderMap::new();
        headers.insert(SIGNATURE, HeaderValue::from_static("x"));
        for (path, expected) in [
            ("/channels/sms/heard", Shown::Claim),
            ("/channels/sms/status/x", Shown::Claim),
            ("/sign-in", Shown::Nothing),
            ("/static/x", Shown::Nothing),
        ] {
            assert_eq!(shown(path, &headers), expected, "{path}");
        }
        let none = HeaderMap::new();
        assert_eq!(shown("/channels/sms/heard", &none), Shown::Nothing);
    }

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
        assert_eq!(host("/x", &[""]), Ok(None));
        assert_eq!(host("/x", &["[::1]:80"]), Ok(Some("[::1]".to_owned())));
        for (uri, named) in [
            ("/x", &["north.example", "south.example"][..]),
            ("/x", &["north.example", "north.example"]),
            ("https://north.example/x", &["south.example"]),
            ("/x", &["north.example, south.example"]),
            ("/x", &["north.example/south.example"]),
        ] {
            assert_eq!(host(uri, named), Err(()), "{uri} {named:?}");
        }
    }
}
