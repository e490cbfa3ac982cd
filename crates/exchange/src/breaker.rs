//! When the mail server can't be reached, leave it alone for a while instead of hammering it with
//! every message that is due.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

/// How many conversations in a row must fail before deliveries pause.
pub(crate) const FAILURES_MAX: u32 = 5;
/// The first pause. Real time, because it is about a server and not about care.
pub(crate) const PAUSE_FIRST: Duration = Duration::from_secs(1);
/// The longest pause.
pub(crate) const PAUSE_MAX: Duration = Duration::from_secs(60);

/// How a breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BreakerStanding {
    /// The other side is there, as far as is known.
    Closed,
    /// Its pause is over, and one delivery goes first to see whether it is back.
    HalfOpen,
    /// It is left alone.
    Open,
}

/// A breaker, as operators are shown it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakerView {
    /// `mail`, `sms`, `push` or `calls`.
    pub channel: &'static str,
    /// Who is on the other side: `server`, `provider`, the origin of a push service, or a partner's name.
    pub provider: String,
    /// How it stands.
    pub standing: BreakerStanding,
}

type Look = dyn Fn() -> Vec<BreakerView> + Send + Sync;

/// The breakers of something that delivers, as they stand whenever they are looked at.
#[derive(Clone)]
pub struct Breakers(Arc<Look>);

impl Breakers {
    pub(crate) fn new(look: impl Fn() -> Vec<BreakerView> + Send + Sync + 'static) -> Self {
        Self(Arc::new(look))
    }

    /// As they stand now. Of push services those that work are not among them.
    #[must_use]
    pub fn now(&self) -> Vec<BreakerView> {
        (self.0)()
    }
}

impl std::fmt::Debug for Breakers {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_list().entries(self.now()).finish()
    }
}

/// Counts failures in a row, whatever message they befell.
#[derive(Debug)]
pub(crate) struct Breaker {
    failures: u32,
    pause: Duration,
    open_until: Option<Instant>,
}

/// How many deliveries may start now, and when to ask again if none.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Room {
    For(usize),
    NoneUntil(Instant),
}

impl Breaker {
    pub(crate) fn new() -> Self {
        Self {
            failures: 0,
            pause: PAUSE_FIRST,
            open_until: None,
        }
    }

    /// Room beside the `busy` deliveries that are under way. After a pause one delivery goes first,
    /// to see whether the server is back.
    pub(crate) fn room(&self, now: Instant, busy: usize, parallel: usize) -> Room {
        match self.open_until {
            None => Room::For(parallel.saturating_sub(busy)),
            Some(until) if now < until => Room::NoneUntil(until),
            Some(_) => Room::For(1_usize.saturating_sub(busy)),
        }
    }

    /// How it stands.
    pub(crate) fn standing(&self, now: Instant) -> BreakerStanding {
        match self.open_until {
            None => BreakerStanding::Closed,
            Some(until) if now < until => BreakerStanding::Open,
            Some(_) => BreakerStanding::HalfOpen,
        }
    }

    /// The server was there and talked.
    pub(crate) fn worked(&mut self) {
        *self = Self::new();
    }

    /// The server wants fewer at a time, after a while that it may say. Returns the pause that begins with this, if one
    /// does.
    pub(crate) fn throttled(&mut self, now: Instant, after: Option<Duration>) -> Option<Duration> {
        self.failures = self.failures.max(FAILURES_MAX.saturating_sub(1));
        let pause = self.failed(now)?.max(after.unwrap_or_default());
        self.open_until = Some(now + pause);
        Some(pause)
    }

    /// The server was not there. Returns the pause that begins with this, if one does.
    pub(crate) fn failed(&mut self, now: Instant) -> Option<Duration> {
        self.failures = self.failures.saturating_add(1);
        let open = self.open_until.is_some_and(|until| now < until);
        // Conversations that were under way when the pause began fail too; they don't lengthen it.
        if self.failures < FAILURES_MAX || open {
            return None;
        }
        let pause = self.pause;
        self.open_until = Some(now + pause);
        self.pause = (pause * 2).min(PAUSE_MAX);
        Some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_after_failures_in_a_row_and_probes_with_one() {
        let start = Instant::now();
        let mut breaker = Breaker::new();
        for _ in 1..FAILURES_MAX {
            assert_eq!(breaker.failed(start), None);
        }
        assert_eq!(breaker.room(start, 3, 8), Room::For(5));
        assert_eq!(breaker.failed(start), Some(PAUSE_FIRST));
        assert_eq!(
            breaker.room(start, 0, 8),
            Room::NoneUntil(start + PAUSE_FIRST)
        );
        assert_eq!(
            breaker.failed(start),
            None,
            "a late failure doesn't lengthen the pause"
        );
        let after = start + PAUSE_FIRST;
        assert_eq!(breaker.standing(start), BreakerStanding::Open);
        assert_eq!(breaker.standing(after), BreakerStanding::HalfOpen);
        assert_eq!(breaker.room(after, 0, 8), Room::For(1));
        assert_eq!(breaker.room(after, 1, 8), Room::For(0));
        assert_eq!(breaker.failed(after), Some(PAUSE_FIRST * 2));
        breaker.worked();
        assert_eq!(breaker.standing(after), BreakerStanding::Closed);
        assert_eq!(breaker.room(after, 0, 8), Room::For(8));
        assert_eq!(breaker.failed(after), None);
    }

    #[test]
    fn pauses_at_once_when_the_server_wants_fewer() {
        let start = Instant::now();
        let mut breaker = Breaker::new();
        assert_eq!(breaker.throttled(start, None), Some(PAUSE_FIRST));
        assert_eq!(breaker.throttled(start, None), None, "it pauses already");
        let after = start + PAUSE_FIRST;
        assert_eq!(breaker.room(after, 0, 8), Room::For(1));
        assert_eq!(breaker.throttled(after, None), Some(PAUSE_FIRST * 2));
        // As long as it says.
        let mut breaker = Breaker::new();
        let asked = Duration::from_secs(90);
        assert_eq!(breaker.throttled(start, Some(asked)), Some(asked));
        let late = start + asked - Duration::from_millis(1);
        assert_eq!(breaker.room(late, 0, 8), Room::NoneUntil(start + asked));
        assert_eq!(breaker.room(start + asked, 0, 8), Room::For(1));
    }

    #[test]
    fn a_success_between_keeps_it_closed() {
        let now = Instant::now();
        let mut breaker = Breaker::new();
        for _ in 0..100 {
            for _ in 1..FAILURES_MAX {
                assert_eq!(breaker.failed(now), None);
            }
            breaker.worked();
        }
    }

    #[test]
    fn pauses_grow_to_their_bound() {
        let mut now = Instant::now();
        let mut breaker = Breaker::new();
        let mut last = Duration::ZERO;
        for _ in 0..40 {
            if let Some(pause) = breaker.failed(now) {
                now += pause;
                last = pause;
            }
        }
        assert_eq!(last, PAUSE_MAX);
    }
}
