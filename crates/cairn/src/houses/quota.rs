//! What one tenant may take of a server, so that others keep their share, and what strangers may take of that, so
//! that those who are known keep theirs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ledger::TenantQuota;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use trust::origin::Door;

/// Of the requests at once of a tenant, what share strangers may have under way besides: enough for sign-in pages,
/// and no more than a quarter is added to what the tenant takes of the server.
const STRANGERS: usize = 4;
/// And what share of it strangers may have that wait for their own client: for a form that arrives slowly, or an
/// answer that is taken slowly.
const SLOW: usize = 8;

/// The bounds of one tenant at one server.
pub(crate) struct Quota {
    tenant: String,
    rates: Option<Rates>,
    rooms: Option<Rooms>,
}

/// Requests a second: of people and systems that are known, and as many of strangers, so that these leave the
/// others' alone.
struct Rates {
    known: Bucket,
    strangers: Bucket,
}

/// Places for requests under way. Strangers have their own, so that they can't use up those of who is known.
struct Rooms {
    known: Arc<Semaphore>,
    /// Of those who show a token or a cookie, until it has turned out whose it is. Nobody waits for a client in
    /// here, so places come back as fast as the server works.
    claiming: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    slow: Arc<Semaphore>,
}

impl Rooms {
    fn new(at_once: u32) -> Self {
        let most = at_once.max(1) as usize;
        let room = |places: usize| Arc::new(Semaphore::new(places.max(1)));
        Self {
            known: room(most),
            claiming: room(most),
            strangers: room(most / STRANGERS),
            slow: room(most / SLOW),
        }
    }
}

/// Why a request has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// Too many a second; in so many seconds there is room again.
    Rate(u64),
    /// Too many at once.
    AtOnce,
}

/// As many requests a second, and as many in one go.
struct Bucket {
    per_s: f64,
    /// What is left, and when that was so.
    left: Mutex<(f64, Instant)>,
}

impl Bucket {
    fn new(per_s: u32) -> Self {
        let per_s = f64::from(per_s.max(1));
        Self {
            per_s,
            left: Mutex::new((per_s, Instant::now())),
        }
    }

    /// Takes one, or says how long it is until there is one.
    fn take(&self, now: Instant) -> Result<(), Duration> {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = now.saturating_duration_since(left.1).as_secs_f64();
        let there = (left.0 + passed * self.per_s).min(self.per_s);
        *left = (there, now);
        if there < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - there) / self.per_s));
        }
        left.0 = there - 1.0;
        Ok(())
    }

    /// Takes one that has been had already; what is owed is at most a second's worth.
    fn charge(&self) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.0 = (left.0 - 1.0).max(-self.per_s);
    }
}

impl Quota {
    /// The bounds that a tenant has, and for those at once the one that all have where it has none.
    pub(crate) fn new(tenant: &str, quota: TenantQuota, at_once: Option<u32>) -> Self {
        let rates = quota.requests_per_s.map(|per_s| Rates {
            known: Bucket::new(per_s),
            strangers: Bucket::new(per_s),
        });
        Self {
            tenant: tenant.to_owned(),
            rates,
            rooms: quota.at_once.or(at_once).map(Rooms::new),
        }
    }

    /// Lets a request in. `claims`: whether it shows anything by which who asks may be known. Nothing where there is
    /// no bound.
    pub(crate) fn admit(self: &Arc<Self>, claims: bool) -> Result<Option<Arc<Visit>>, Over> {
        if self.rates.is_none() && self.rooms.is_none() {
            return Ok(None);
        }
        if let Some(rates) = &self.rates
            && !claims
            && let Err(wait) = rates.strangers.take(Instant::now())
        {
            return Err(self.refused(Over::Rate(wait.as_secs() + 1)));
        }
        let place = match &self.rooms {
            None => None,
            Some(rooms) if claims => Some(self.place(&rooms.claiming)?),
            Some(rooms) => Some(self.place(&rooms.strangers)?),
        };
        Ok(Some(Arc::new(Visit {
            quota: Arc::clone(self),
            claims,
            stay: Mutex::new(Stay {
                place,
                is_known: false,
                is_slow: false,
                over: None,
            }),
        })))
    }

    fn place(&self, room: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Over> {
        let place = Arc::clone(room).try_acquire_owned();
        place.map_err(|_| self.refused(Over::AtOnce))
    }

    fn refused(&self, over: Over) -> Over {
        let bound = match over {
            Over::Rate(_) => "requests_per_s",
            Over::AtOnce => "at_once",
        };
        metrics::counter!("cairn_quota_refusals_total", "tenant" => self.tenant.clone(), "bound" => bound)
            .increment(1);
        over
    }
}

/// A request of a tenant that was let in, until its answer is taken.
pub(crate) struct Visit {
    quota: Arc<Quota>,
    claims: bool,
    stay: Mutex<Stay>,
}

struct Stay {
    place: Option<OwnedSemaphorePermit>,
    is_known: bool,
    is_slow: bool,
    /// Why it can't stay.
    over: Option<Over>,
}

impl Visit {
    fn stay(&self) -> MutexGuard<'_, Stay> {
        self.stay.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It has to be waited for its client. Whether a stranger may have that.
    pub(crate) fn waits(&self) -> bool {
        let mut stay = self.stay();
        if stay.is_known || stay.is_slow {
            return true;
        }
        let Some(rooms) = &self.quota.rooms else {
            return true;
        };
        match self.quota.place(&rooms.slow) {
            Ok(place) => {
                stay.place = Some(place);
                stay.is_slow = true;
                true
            }
            Err(over) => {
                stay.over = Some(over);
                false
            }
        }
    }

    /// Why it can't stay, if it can't.
    pub(crate) fn over(&self) -> Option<Over> {
        self.stay().over
    }

    /// Whether it has turned out who asks.
    pub(crate) fn is_known(&self) -> bool {
        self.stay().is_known
    }
}

impl Door for Visit {
    fn known(&self) -> bool {
        let mut stay = self.stay();
        if stay.is_known {
            return true;
        }
        let quota = &self.quota;
        let rate = quota.rates.as_ref().map_or(Ok(()), |rates| {
            let taken = rates.known.take(Instant::now());
            taken.map_err(|wait| quota.refused(Over::Rate(wait.as_secs() + 1)))
        });
        let place = rate.and_then(|()| match &quota.rooms {
            Some(rooms) => quota.place(&rooms.known).map(Some),
            None => Ok(None),
        });
        match place {
            Ok(place) => {
                stay.place = place;
                stay.is_known = true;
                true
            }
            Err(over) => {
                stay.over = Some(over);
                false
            }
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let stay = self.stay.get_mut().unwrap_or_else(PoisonError::into_inner);
        // Whoever shows a token that is nobody's is a stranger after all.
        if self.claims
            && !stay.is_known
            && stay.over.is_none()
            && let Some(rates) = &self.quota.rates
        {
            rates.strangers.charge();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_rate_and_no_more() {
        let bucket = Bucket::new(4);
        let start = Instant::now();
        let taken = |at_ms| {
            let at = start + Duration::from_millis(at_ms);
            (0..10).filter(|_| bucket.take(at).is_ok()).count()
        };
        // What is left over is not saved up beyond one second's worth.
        assert_eq!(taken(0), 4);
        assert_eq!(taken(500), 2);
        assert_eq!(taken(60_000), 4);
        let wait = bucket
            .take(start + Duration::from_millis(60_000))
            .unwrap_err();
        assert_eq!(wait, Duration::from_millis(250));
    }

    fn quota(at_once: Option<u32>, requests_per_s: Option<u32>) -> Arc<Quota> {
        let quota = TenantQuota {
            at_once,
            requests_per_s,
            documents: None,
        };
        Arc::new(Quota::new("north", quota, None))
    }

    fn let_in(quota: &Arc<Quota>, claims: bool) -> Arc<Visit> {
        let visit = quota.admit(claims).expect("room");
        visit.expect("there are bounds")
    }

    #[test]
    fn room_comes_back_with_what_held_it() {
        let quota = quota(Some(2), None);
        let visits = [let_in(&quota, true), let_in(&quota, true)];
        assert!(visits.iter().all(|visit| visit.known()));
        // Who comes now is looked at, and then there is no room.
        let third = let_in(&quota, true);
        assert!(!third.known());
        assert_eq!(third.over(), Some(Over::AtOnce));
        drop((third, visits));
        assert!(let_in(&quota, true).known());
        // The one that all have, and none at all.
        let own = TenantQuota::default();
        let quota = Arc::new(Quota::new("north", own, Some(1)));
        let _held = let_in(&quota, true);
        assert_eq!(quota.admit(true).err(), Some(Over::AtOnce));
        let none = Arc::new(Quota::new("north", own, None));
        assert!(none.admit(true).is_ok_and(|visit| visit.is_none()));
    }

    #[test]
    fn strangers_take_no_place_of_who_is_known() {
        let quota = quota(Some(16), None);
        let strangers: Vec<_> = (0..4).map(|_| let_in(&quota, false)).collect();
        assert_eq!(quota.admit(false).err(), Some(Over::AtOnce));
        // Two of them send a form slowly, which frees their places; a third may not.
        assert!(strangers[0].waits() && strangers[1].waits() && strangers[1].waits());
        assert!(!strangers[2].waits());
        assert_eq!(strangers[2].over(), Some(Over::AtOnce));
        let _more = [let_in(&quota, false), let_in(&quota, false)];
        assert_eq!(quota.admit(false).err(), Some(Over::AtOnce));
        let known: Vec<_> = (0..16).map(|_| let_in(&quota, true)).collect();
        assert!(known.iter().all(|visit| visit.known() && visit.waits()));
        assert!(!let_in(&quota, true).known());
    }

    #[test]
    fn strangers_leave_the_rate_of_who_is_known() {
        let quota = quota(None, Some(2));
        assert!(quota.admit(false).is_ok() && quota.admit(false).is_ok());
        assert_eq!(quota.admit(false).err(), Some(Over::Rate(1)));
        let known = [let_in(&quota, true), let_in(&quota, true)];
        assert!(known.iter().all(|visit| visit.known()));
        let third = let_in(&quota, true);
        assert!(!third.known());
        assert_eq!(third.over(), Some(Over::Rate(1)));
        // Tokens that are nobody's count among strangers' afterwards, up to what a second brings.
        drop([(); 9].map(|()| let_in(&quota, true)));
        let strangers = &quota.rates.as_ref().expect("a rate").strangers;
        let soon = Instant::now() + Duration::from_millis(900);
        assert!(strangers.take(soon).is_err());
        let later = Instant::now() + Duration::from_millis(2_100);
        assert!(strangers.take(later).is_ok());
    }
}
