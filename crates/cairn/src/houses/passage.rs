//! Bodies on their way in and out: what they hold, and when they are given up.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::response::Response;
use http_body::{Frame, SizeHint};
use tokio::time::Sleep;
use tower::BoxError;

use super::quota::{Over, Visit};
use crate::clients::Counted;

/// An answer of a stranger that is no longer holds no place: it is with the connection at once.
const SHORT_BYTES: u64 = 64 << 10;

/// How long a stranger's body may take in all: a sign-in is less than a packet, and a telephone with a bad line sends
/// it again within seconds. Slower ones would have a place for as long as they like.
const STRANGERS_BODY: Duration = Duration::from_secs(20);

/// Ends when the house has been closed for some time.
pub(super) type Until = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Who a request comes from, and the places that it has.
pub(super) struct Visitor {
    pub(super) visit: Option<Arc<Visit>>,
    _counted: Option<Counted>,
}

impl Visitor {
    pub(super) fn new(visit: Option<Arc<Visit>>, counted: Option<Counted>) -> Self {
        Self {
            visit,
            _counted: counted,
        }
    }

    /// Why they can't stay, if they can't.
    pub(super) fn over(&self) -> Option<Over> {
        self.visit.as_ref()?.over()
    }

    /// What an answer goes on holding while it is taken. A stranger waits for nothing in the place of those whose
    /// work is being done.
    pub(super) fn leaves(mut self, answer: &Response) -> Result<Self, Over> {
        let Some(visit) = self.visit.as_ref().filter(|visit| !visit.is_known()) else {
            return Ok(self);
        };
        let is_short = (answer.body().size_hint().upper()).is_some_and(|most| most <= SHORT_BYTES);
        if is_short {
            self.visit = None;
        } else if !visit.waits() {
            return Err(visit.over().unwrap_or(Over::AtOnce));
        }
        Ok(self)
    }
}

/// A body that arrives. A stranger whose body has to be waited for has a place among those; where there is none
/// the request is given up.
pub(super) struct Arriving<B> {
    body: B,
    visit: Option<Arc<Visit>>,
    patience: Duration,
    /// Once it has been waited for.
    end: Option<Pin<Box<Sleep>>>,
}

impl<B: HttpBody> Arriving<B> {
    pub(super) fn new(body: B, visit: Option<Arc<Visit>>) -> Self {
        Self::within(body, visit, STRANGERS_BODY)
    }

    fn within(body: B, visit: Option<Arc<Visit>>, patience: Duration) -> Self {
        let visit = visit.filter(|_| !body.is_end_stream());
        Self {
            body,
            visit,
            patience,
            end: None,
        }
    }

    /// Why a body that isn't there can't be waited for, if it can't.
    fn refusal(&mut self, context: &mut Context<'_>) -> Option<&'static str> {
        let visit = self.visit.as_ref()?;
        if !visit.waits() {
            return Some("there is no place to wait for the body in");
        }
        let sleep = || Box::pin(tokio::time::sleep(self.patience));
        let end = self.end.get_or_insert_with(sleep);
        let is_over = end.as_mut().poll(context).is_ready();
        (is_over && visit.waits_too_long()).then_some("the body took too long to arrive")
    }
}

impl<B> HttpBody for Arriving<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if frame.is_pending()
            && let Some(refusal) = self.refusal(context)
        {
            return Poll::Ready(Some(Err(std::io::Error::other(refusal).into())));
        }
        if (matches!(frame, Poll::Ready(None)) || self.body.is_end_stream())
            && let Some(visit) = self.visit.take()
        {
            visit.has_waited();
        }
        frame.map(|frame| frame.map(|frame| frame.map_err(Into::into)))
    }
    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer that is taken: it holds places until it is over, and breaks off when its house has been closed for
/// some time. A broken answer is told to be one.
pub(super) struct Leaving {
    body: Body,
    until: Option<Until>,
    _visitor: Visitor,
}

impl Leaving {
    pub(super) fn new(body: Body, visitor: Visitor, until: Until) -> Self {
        let is_there = body
            .size_hint()
            .exact()
            .is_some_and(|bytes| bytes <= SHORT_BYTES);
        Self {
            until: (!is_there).then_some(until),
            body,
            _visitor: visitor,
        }
    }
}

impl HttpBody for Leaving {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Some(until) = &mut self.until
            && until.as_mut().poll(context).is_ready()
        {
            self.until = None;
            self.body = Body::empty();
            metrics::counter!("cairn_answers_cut_total").increment(1);
            let error = std::io::Error::other("the organisation is suspended");
            return Poll::Ready(Some(Err(axum::Error::new(error))));
        }
        Pin::new(&mut self.body).poll_frame(context)
    }
    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use ledger::TenantQuota;
    use trust::origin::Door;

    use super::super::quota::{Quota, Shown};
    use super::*;

    fn quota() -> Arc<Quota> {
        Arc::new(Quota::new("north", TenantQuota::default(), Some(1)))
    }

    fn never() -> Until {
        Box::pin(std::future::pending())
    }

    #[tokio::test]
    async fn an_answer_holds_its_place_until_it_is_taken() {
        let quota = quota();
        let known = || {
            let visit = quota
                .admit(Shown::Claim, None)
                .expect("room")
                .expect("bounds");
            visit.known().then(|| Visitor::new(Some(visit), None))
        };
        let held = |visitor: Visitor| {
            let answer = Response::new(Body::from("words"));
            let visitor = visitor.leaves(&answer).expect("it may stay");
            answer.map(|body| Body::new(Leaving::new(body, visitor, never())))
        };
        let answer = held(known().expect("room"));
        assert_eq!(answer.body().size_hint().exact(), Some(5));
        assert!(known().is_none());
        let taken = axum::body::to_bytes(answer.into_body(), 9).await;
        assert_eq!(taken.expect("a body"), "words");
        let given_up = held(known().expect("room"));
        drop(given_up);
        assert!(known().is_some());
    }

    #[tokio::test]
    async fn a_strangers_answer_holds_a_place_only_where_it_is_long() {
        let quota = quota();
        let client = Some(std::net::IpAddr::from([192, 0, 2, 1]));
        let stranger = || Visitor::new(quota.admit(Shown::Nothing, client).expect("room"), None);
        let answer = |bytes| Response::new(Body::from(vec![0; bytes]));
        let (short, long) = (answer(9), answer(1 << 20));
        let held = stranger().leaves(&short).expect("it may go");
        let one = stranger().leaves(&long).expect("there is a place");
        let two = stranger().leaves(&long).expect("there is one more");
        assert!(stranger().leaves(&long).is_err());
        assert!(stranger().leaves(&short).is_ok());
        drop((held, one, two));
        assert!(stranger().leaves(&long).is_ok());
    }

    /// A body of which a byte comes each hundredth of a second, and never the last.
    struct Trickle(Pin<Box<Sleep>>);

    impl HttpBody for Trickle {
        type Data = Bytes;
        type Error = std::io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
            std::task::ready!(self.0.as_mut().poll(context));
            self.0 = Box::pin(tokio::time::sleep(Duration::from_millis(10)));
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"a")))))
        }
    }

    #[tokio::test]
    async fn a_strangers_form_has_an_end() {
        let quota = quota();
        let arriving = |visit: &Arc<Visit>| {
            let body = Trickle(Box::pin(tokio::time::sleep(Duration::from_millis(10))));
            let mut body =
                Arriving::within(body, Some(Arc::clone(visit)), Duration::from_millis(200));
            async move {
                let mut bytes = 0;
                while bytes < 99 {
                    let next =
                        std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context));
                    match next.await {
                        Some(Ok(_)) => bytes += 1,
                        _ => break,
                    }
                }
                bytes
            }
        };
        let stranger = quota
            .admit(Shown::Nothing, None)
            .expect("room")
            .expect("bounds");
        let came = arriving(&stranger).await;
        assert!(came <= 20, "{came}");
        assert_eq!(stranger.over(), Some(Over::Slow));
        let known = quota
            .admit(Shown::Claim, None)
            .expect("room")
            .expect("bounds");
        assert!(known.known());
        assert_eq!(arriving(&known).await, 99);
        assert_eq!(known.over(), None);
    }

    #[tokio::test]
    async fn an_answer_breaks_off_and_says_so() {
        let visitor = Visitor::new(None, None);
        let endless = futures_util::stream::repeat_with(|| Ok::<_, axum::Error>("line\n"));
        let until: Until = Box::pin(async {
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
        });
        let mut body = Leaving::new(Body::from_stream(endless), visitor, until);
        let mut frames = 0;
        loop {
            let next = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context));
            match next.await.expect("it does not end") {
                Ok(_) => frames += 1,
                Err(_) => break,
            }
            assert!(frames < 100);
        }
        assert!(frames > 0);
    }
}
