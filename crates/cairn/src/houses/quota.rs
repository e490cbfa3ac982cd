//! What one tenant may take of a server, so that others keep their share, and what strangers may take of that, so
//! that those who are known keep theirs.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ledger::TenantQuota;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use trust::origin::Door;

use crate::clients::{ByAddress, Counted, one_network};

/// Of the requests at once of a tenant, what share strangers may have under way besides, for sign-in pages: a quarter,
/// and at least so many that a page and what belongs to it come in at once.
const STRANGERS: usize = 4;
const STRANGERS_LEAST: usize = 16;
/// And what share of it strangers may have that wait for their own client: for a form that arrives slowly, or an
/// answer that is taken slowly.
const SLOW: usize = 8;
const SLOW_LEAST: usize = 8;
/// What share of what strangers have one address may have, so that nobody keeps all others from signing in.
const ONE_ADDRESS: u8 = 4;
/// Requests of one address that may come in one go, whatever the rate is: what belongs to a page is asked for at once.
const PAGE: f64 = 16.0;
/// Buckets that addresses share by chance.
const ADDRESSES: usize = 64;

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
    strangers: SharedRate,
    /// Of requests that show a token or a cookie that turns out to be nobody's. Each is taken for one until it has
    /// turned out otherwise, so that whoever makes tokens up comes no further than the rate.
    claiming: SharedRate,
}

/// Requests a second of which one address may have a share, so that nobody keeps all others out.
struct SharedRate {
    all: Bucket,
    by_address: Vec<Bucket>,
    hasher: RandomState,
}

impl SharedRate {
    /// That of strangers: one address has its share also of what comes in one go.
    fn of_strangers(per_s: u32) -> Self {
        let per_s = f64::from(per_s.max(1));
        Self::with(per_s, per_s, (per_s / f64::from(ONE_ADDRESS)).max(PAGE))
    }

    /// That of claims. Nobody has looked yet at those that come in one go, and all may be of people or systems that
    /// are known and come from one address: through an integration engine, or out of a hospital's network. So one
    /// address may have as many in one go as those who are known; what was made up comes back by an address's share.
    /// What addresses make up together keeps nobody out at another: only who has none shares one rate.
    fn of_claims(per_s: u32) -> Self {
        let per_s = f64::from(per_s.max(1));
        let one = per_s.max(PAGE);
        Self::with(per_s, one, one)
    }

    /// So many a second, of which so many come in one go, and so many of one address.
    fn with(per_s: f64, most: f64, most_of_one: f64) -> Self {
        let one = per_s / f64::from(ONE_ADDRESS);
        let by_address = (0..ADDRESSES).map(|_| Bucket::with(one, most_of_one));
        Self {
            all: Bucket::with(per_s, most),
            by_address: by_address.collect(),
            hasher: RandomState::new(),
        }
    }

    fn of(&self, client: Option<IpAddr>) -> Option<&Bucket> {
        let hash = self.hasher.hash_one(one_network(client?));
        let place = usize::try_from(hash % ADDRESSES as u64).ok()?;
        self.by_address.get(place)
    }

    fn take(&self, client: Option<IpAddr>, now: Instant) -> Result<(), Duration> {
        let own = self.of(client);
        own.map_or(Ok(()), |own| own.take(now))?;
        self.all
            .take(now)
            .inspect_err(|_| own.into_iter().for_each(Bucket::give_back))
    }

    /// As [`Self::take`] of an address that is known by its own share alone: others' must not keep it out. What has
    /// no address has that of all.
    fn take_own(&self, client: Option<IpAddr>, now: Instant) -> Result<(), Duration> {
        self.of(client).unwrap_or(&self.all).take(now)
    }

    fn give_back_own(&self, client: Option<IpAddr>) {
        self.of(client).unwrap_or(&self.all).give_back();
    }
}

/// Places for requests under way. Strangers have their own, so that they can't use up those of who is known.
struct Rooms {
    known: Arc<Semaphore>,
    /// Of those who show a token or a cookie, until it has turned out whose it is. Nobody waits for a client in
    /// here, so places come back as fast as the server works.
    claiming: Arc<Semaphore>,
    strangers: Shared,
    slow: Shared,
}

/// Places of which one address may have a share.
struct Shared {
    places: Arc<Semaphore>,
    by_address: ByAddress,
}

impl Shared {
    fn new(places: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(places)),
            by_address: ByAddress::new((places / usize::from(ONE_ADDRESS)).max(1)),
        }
    }

    /// One for an address, if it may have one more.
    fn place(&self, client: Option<IpAddr>) -> Option<Held> {
        let counted = match client {
            Some(client) => Some(self.by_address.one_more(client)?),
            None => None,
        };
        place(&self.places, counted)
    }
}

impl Rooms {
    fn new(at_once: u32) -> Self {
        let most = at_once.max(1) as usize;
        let room = |places: usize| Arc::new(Semaphore::new(places));
        Self {
            known: room(most),
            claiming: room(most),
            strangers: Shared::new((most / STRANGERS).max(STRANGERS_LEAST)),
            slow: Shared::new((most / SLOW).max(SLOW_LEAST)),
        }
    }

    /// One for who is not known and doesn't have to be waited for.
    fn home(&self, claims: bool, client: Option<IpAddr>) -> Option<Held> {
        if claims {
            place(&self.claiming, None)
        } else {
            self.strangers.place(client)
        }
    }
}

fn place(room: &Arc<Semaphore>, counted: Option<Counted>) -> Option<Held> {
    let place = Arc::clone(room).try_acquire_owned().ok()?;
    Some(Held {
        _place: place,
        _counted: counted,
    })
}

/// A place that a request has.
struct Held {
    _place: OwnedSemaphorePermit,
    _counted: Option<Counted>,
}

/// What a request shows by which it may be known who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    Nothing,
    /// A token or a cookie.
    Claim,
    /// A token or a cookie, where nobody looks at it.
    Unasked,
}

/// Why a request has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// Too many a second; in so many seconds there is room again.
    Rate(u64),
    /// Too many at once.
    AtOnce,
    /// A stranger's form took too long to arrive.
    Slow,
}

/// So many requests a second, and so many in one go.
struct Bucket {
    per_s: f64,
    most: f64,
    /// What is left, and when that was so.
    left: Mutex<(f64, Instant)>,
}

impl Bucket {
    fn new(per_s: u32) -> Self {
        let per_s = f64::from(per_s.max(1));
        Self::with(per_s, per_s)
    }

    fn with(per_s: f64, most: f64) -> Self {
        Self {
            per_s,
            most,
            left: Mutex::new((most, Instant::now())),
        }
    }

    /// Takes one, or says how long it is until there is one.
    fn take(&self, now: Instant) -> Result<(), Duration> {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = now.saturating_duration_since(left.1).as_secs_f64();
        let there = (left.0 + passed * self.per_s).min(self.most);
        *left = (there, now);
        if there < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - there) / self.per_s));
        }
        left.0 = there - 1.0;
        Ok(())
    }

    /// Gives back one that was taken.
    fn give_back(&self) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.0 = (left.0 + 1.0).min(self.most);
    }
}

impl Quota {
    /// The bounds that a tenant has, and for those at once the one that all have where it has none.
    pub(crate) fn new(tenant: &str, quota: TenantQuota, at_once: Option<u32>) -> Self {
        let rates = quota.requests_per_s.map(|per_s| Rates {
            known: Bucket::new(per_s),
            strangers: SharedRate::of_strangers(per_s),
            claiming: SharedRate::of_claims(per_s),
        });
        Self {
            tenant: tenant.to_owned(),
            rates,
            rooms: quota.at_once.or(at_once).map(Rooms::new),
        }
    }

    /// Lets a request in, by what it shows and its client's address, if that is told from others'. Nothing where there
    /// is no bound.
    pub(crate) fn admit(
        self: &Arc<Self>,
        shown: Shown,
        client: Option<IpAddr>,
    ) -> Result<Option<Arc<Visit>>, Over> {
        if self.rates.is_none() && self.rooms.is_none() {
            return Ok(None);
        }
        let claims = shown != Shown::Nothing;
        let home = match &self.rooms {
            None => None,
            Some(rooms) => {
                let place = rooms.home(claims, client);
                Some(place.ok_or_else(|| self.refused(Over::AtOnce))?)
            }
        };
        if let Some(rates) = &self.rates {
            let now = Instant::now();
            let taken = match shown {
                Shown::Nothing => rates.strangers.take(client, now),
                Shown::Claim => rates.claiming.take_own(client, now),
                Shown::Unasked => Ok(()),
            };
            taken.map_err(|wait| self.refused(Over::Rate(wait.as_secs() + 1)))?;
        }
        Ok(Some(Arc::new(Visit {
            quota: Arc::clone(self),
            claims,
            client,
            stay: Mutex::new(Stay {
                place: home,
                is_taken_for_nobody: shown == Shown::Claim,
                is_known: false,
                is_slow: false,
                over: None,
            }),
        })))
    }

    fn refused(&self, over: Over) -> Over {
        let bound = match over {
            Over::Rate(_) => "requests_per_s",
            Over::AtOnce | Over::Slow => "at_once",
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
    client: Option<IpAddr>,
    stay: Mutex<Stay>,
}

struct Stay {
    place: Option<Held>,
    /// Whether it is counted as a claim that is nobody's.
    is_taken_for_nobody: bool,
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
        let place = rooms.slow.place(self.client);
        if place.is_some() {
            stay.place = place;
            stay.is_slow = true;
        } else {
            stay.over = Some(self.quota.refused(Over::AtOnce));
        }
        stay.is_slow
    }

    /// What was waited for is there: the place goes to whoever waits next, if there is one of the others.
    pub(crate) fn has_waited(&self) {
        let mut stay = self.stay();
        let Some(rooms) = self.quota.rooms.as_ref().filter(|_| stay.is_slow) else {
            return;
        };
        if stay.is_known {
            return;
        }
        let place = rooms.home(self.claims, self.client);
        if place.is_some() {
            stay.place = place;
            stay.is_slow = false;
        }
    }

    /// It was waited for long enough, unless it has turned out who asks.
    pub(crate) fn waits_too_long(&self) -> bool {
        let mut stay = self.stay();
        if !stay.is_known {
            stay.over = Some(self.quota.refused(Over::Slow));
        }
        !stay.is_known
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

impl Stay {
    /// It is not counted as a claim that is nobody's any more.
    fn is_somebody(&mut self, quota: &Quota, client: Option<IpAddr>) {
        if let Some(rates) = quota.rates.as_ref().filter(|_| self.is_taken_for_nobody) {
            rates.claiming.give_back_own(client);
        }
        self.is_taken_for_nobody = false;
    }
}

impl Door for Visit {
    fn known(&self) -> bool {
        let mut stay = self.stay();
        if stay.is_known {
            return true;
        }
        let quota = &self.quota;
        stay.is_somebody(quota, self.client);
        let rate = quota.rates.as_ref().map_or(Ok(()), |rates| {
            let taken = rates.known.take(Instant::now());
            taken.map_err(|wait| quota.refused(Over::Rate(wait.as_secs() + 1)))
        });
        let place = rate.and_then(|()| match &quota.rooms {
            Some(rooms) => {
                let place = place(&rooms.known, None).map(Some);
                place.ok_or_else(|| quota.refused(Over::AtOnce))
            }
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

    fn at(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, last]))
    }

    const CLAIM: Shown = Shown::Claim;
    const NOTHING: Shown = Shown::Nothing;

    fn let_in(quota: &Arc<Quota>, shown: Shown, client: Option<IpAddr>) -> Arc<Visit> {
        let visit = quota.admit(shown, client).expect("room");
        visit.expect("there are bounds")
    }

    #[test]
    fn room_comes_back_with_what_held_it() {
        let quota = quota(Some(2), None);
        let visits = [let_in(&quota, CLAIM, None), let_in(&quota, CLAIM, None)];
        assert!(visits.iter().all(|visit| visit.known()));
        // Who comes now is looked at, and then there is no room.
        let third = let_in(&quota, CLAIM, None);
        assert!(!third.known());
        assert_eq!(third.over(), Some(Over::AtOnce));
        drop((third, visits));
        assert!(let_in(&quota, CLAIM, None).known());
        // The one that all have, and none at all.
        let own = TenantQuota::default();
        let quota = Arc::new(Quota::new("north", own, Some(1)));
        let _held = let_in(&quota, CLAIM, None);
        assert_eq!(quota.admit(CLAIM, None).err(), Some(Over::AtOnce));
        let none = Arc::new(Quota::new("north", own, None));
        assert!(none.admit(CLAIM, None).is_ok_and(|visit| visit.is_none()));
    }

    #[test]
    fn strangers_take_no_place_of_who_is_known() {
        let quota = quota(Some(64), None);
        let strangers: Vec<_> = (0..16)
            .map(|number| let_in(&quota, NOTHING, at(number)))
            .collect();
        assert_eq!(quota.admit(NOTHING, at(99)).err(), Some(Over::AtOnce));
        // Eight of them send a form slowly, which frees their places; one more may not.
        assert!((strangers[..8].iter()).all(|visit| visit.waits() && visit.waits()));
        assert!(!strangers[8].waits());
        assert_eq!(strangers[8].over(), Some(Over::AtOnce));
        let more: Vec<_> = (20..28)
            .map(|number| let_in(&quota, NOTHING, at(number)))
            .collect();
        assert_eq!(quota.admit(NOTHING, at(99)).err(), Some(Over::AtOnce));
        // A form that is there makes room for the next, as soon as there is a place for its answer.
        strangers[0].has_waited();
        assert!(!more[1].waits());
        drop(more);
        strangers[0].has_waited();
        assert!(let_in(&quota, NOTHING, at(30)).waits());
        let known: Vec<_> = (0..64).map(|_| let_in(&quota, CLAIM, at(1))).collect();
        assert!(known.iter().all(|visit| visit.known() && visit.waits()));
        assert!(!let_in(&quota, CLAIM, at(1)).known());
    }

    #[test]
    fn one_address_has_a_quarter_of_what_strangers_have() {
        let quota = quota(Some(64), None);
        let one: Vec<_> = (0..4).map(|_| let_in(&quota, NOTHING, at(1))).collect();
        assert_eq!(quota.admit(NOTHING, at(1)).err(), Some(Over::AtOnce));
        let other = let_in(&quota, NOTHING, at(2));
        assert!(one[0].waits() && one[1].waits() && !one[2].waits());
        assert!(other.waits());
        // With a cookie that it made up, it has no more to be slow in.
        assert!(!let_in(&quota, CLAIM, at(1)).waits());
        // Where addresses are not told from each other they have all.
        let all: Vec<_> = (0..9).map(|_| let_in(&quota, NOTHING, None)).collect();
        assert_eq!(all.iter().filter(|visit| visit.waits()).count(), 5);
    }

    #[test]
    fn strangers_leave_the_rate_of_who_is_known() {
        let quota = quota(None, Some(2));
        assert!(quota.admit(NOTHING, None).is_ok());
        assert!(quota.admit(NOTHING, None).is_ok());
        assert_eq!(quota.admit(NOTHING, None).err(), Some(Over::Rate(1)));
        let known = [let_in(&quota, CLAIM, None), let_in(&quota, CLAIM, None)];
        assert!(known.iter().all(|visit| visit.known()));
        let third = let_in(&quota, CLAIM, None);
        assert!(!third.known());
        assert_eq!(third.over(), Some(Over::Rate(1)));
    }

    #[test]
    fn one_address_has_a_quarter_of_the_rate_of_strangers() {
        let quota = quota(None, Some(80));
        let come_in = |client| {
            let tries = (0..99).map(|_| quota.admit(NOTHING, client));
            tries.filter(Result::is_ok).count()
        };
        let of_one = come_in(at(1));
        assert!((20..24).contains(&of_one), "{of_one}");
        // Two addresses share a bucket by chance, all of them hardly.
        let of_others: usize = (2..9).map(|last| come_in(at(last))).sum();
        assert!((40..70).contains(&of_others), "{of_others}");
        // Where addresses are not told from each other they have all.
        let all = self::quota(None, Some(80));
        let of_all = (0..99).filter(|_| all.admit(NOTHING, None).is_ok()).count();
        assert!((80..90).contains(&of_all), "{of_all}");
    }

    #[test]
    fn claims_that_are_nobodys_have_a_rate() {
        let quota = quota(None, Some(80));
        // Who is known, and who is not asked, owe nothing afterwards.
        for _ in 0..99 {
            drop(let_in(&quota, Shown::Unasked, at(1)));
        }
        for _ in 0..40 {
            assert!(let_in(&quota, CLAIM, at(1)).known());
        }
        let claiming = &quota.rates.as_ref().expect("a rate").claiming;
        let now = Instant::now();
        let taken = |client, after_s| {
            let at = now + Duration::from_secs(after_s);
            (0..999)
                .filter(|_| claiming.take_own(client, at).is_ok())
                .count()
        };
        // Of one address there are as many as of those that are known.
        assert_eq!((taken(at(1), 0), taken(None, 0)), (80, 80));
        assert!(matches!(quota.admit(CLAIM, at(1)), Err(Over::Rate(_))));
        // It comes back with time, a quarter of it for one address.
        assert_eq!((taken(at(1), 10), taken(None, 10)), (80, 80));
        assert_eq!((taken(at(1), 11), taken(None, 11)), (20, 80));
    }

    #[test]
    fn made_up_claims_of_many_addresses_keep_nobody_else_out() {
        let quota = quota(None, Some(80));
        for last in 2..6 {
            for _ in 0..99 {
                drop(quota.admit(CLAIM, at(last)));
            }
        }
        // Two addresses share a bucket by chance, five hardly all.
        let comes_in = |last: &u8| quota.admit(CLAIM, at(*last)).is_ok();
        assert!((6..20).filter(comes_in).count() > 5);
        // A client has more than one address of IPv6.
        let of_network = |last: u16| Some(IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, last]));
        let come_in = (0..200).filter(|last| quota.admit(CLAIM, of_network(*last)).is_ok());
        assert!(come_in.count() < 90);
    }

    #[test]
    fn all_who_are_known_may_come_at_once_from_one_address() {
        let quota = quota(None, Some(80));
        // Nobody has looked at any of them before all are let in.
        let visits: Vec<_> = (0..80).map(|_| let_in(&quota, CLAIM, at(1))).collect();
        assert!(visits.iter().all(|visit| visit.known()));
    }
}
