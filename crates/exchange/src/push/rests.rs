//! Services that are left alone, each by itself: one of them keeps nothing from the patients of another.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::answers::Sign;
use super::services::Service;
use crate::breaker::{Breaker, Room};

/// The most hosts below a star of the list that are left alone at once. Who has a session can make names up.
const BELOW_MAX: usize = 256;

/// What is known of services that fail, by their origin; nothing of those that work. By each host below a star of the
/// list, because one that somebody made up would have the others left alone.
#[derive(Default)]
pub(super) struct Breakers {
    pub(super) failing: HashMap<String, Breaker>,
    below: usize,
}

impl Breakers {
    pub(super) fn rests_until(&self, origin: &str, now: Instant) -> Option<Instant> {
        match self.failing.get(origin)?.room(now, 0, 1) {
            Room::NoneUntil(until) => Some(until),
            Room::For(_) => None,
        }
    }

    /// Says when a service is left alone from now on.
    pub(super) fn saw(&mut self, service: &Service, sign: Sign, now: Instant) -> Option<Duration> {
        let origin = service.origin.as_str();
        if sign == Sign::Well {
            // What was under way when it began to be left alone doesn't end that.
            if self.rests_until(origin, now).is_some() {
                return None;
            }
            if self.failing.remove(origin).is_some() && service.is_below {
                self.below -= 1;
            }
            return None;
        }
        if !self.failing.contains_key(origin) {
            if service.is_below && self.below >= BELOW_MAX {
                return None;
            }
            self.below += usize::from(service.is_below);
        }
        let breaker = self.failing.entry(origin.to_owned());
        let breaker = breaker.or_insert_with(Breaker::new);
        match sign {
            Sign::Well => None,
            Sign::Ill => breaker.failed(now),
            Sign::Fewer(after) => breaker.throttled(now, Some(after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_somebody_made_up_leave_no_other_alone_and_are_few() {
        let now = Instant::now();
        let host = |name: &str, is_below| Service {
            origin: format!("https://{name}"),
            is_below,
        };
        let mut breakers = Breakers::default();
        let fail = |breakers: &mut Breakers, service: &Service| {
            for _ in 0..crate::breaker::FAILURES_MAX {
                breakers.saw(service, Sign::Ill, now);
            }
            breakers.rests_until(&service.origin, now).is_some()
        };
        assert!(fail(&mut breakers, &host("made-up.wide.example", true)));
        assert_eq!(breakers.rests_until("https://eu.wide.example", now), None);
        for number in 0..2 * BELOW_MAX {
            fail(
                &mut breakers,
                &host(&format!("{number}.wide.example"), true),
            );
        }
        assert_eq!(breakers.failing.len(), BELOW_MAX);
        // One that the list names is left alone all the same, until it works again.
        let named = host("push.example", false);
        assert!(fail(&mut breakers, &named));
        // What was under way by then doesn't end it.
        breakers.saw(&named, Sign::Well, now);
        assert!(breakers.rests_until(&named.origin, now).is_some());
        let now = now + crate::breaker::PAUSE_FIRST;
        breakers.saw(&named, Sign::Well, now);
        assert!(!breakers.failing.contains_key(&named.origin));
        breakers.saw(&host("7.wide.example", true), Sign::Well, now);
        assert_eq!(breakers.failing.len(), BELOW_MAX - 1);
        assert!(fail(&mut breakers, &host("more.wide.example", true)));
    }
}
