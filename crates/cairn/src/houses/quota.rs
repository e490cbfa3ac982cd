//! What one tenant may take of a server, so that others keep their share.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ledger::TenantQuota;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// The bounds of one tenant at one server.
pub(crate) struct Quota {
    tenant: String,
    rate: Option<Bucket>,
    at_once: Option<Arc<Semaphore>>,
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
}

impl Quota {
    /// The bounds that a tenant has, and for those at once the one that all have where it has none.
    pub(crate) fn new(tenant: &str, quota: TenantQuota, at_once: Option<u32>) -> Self {
        let at_once = quota.at_once.or(at_once);
        Self {
            tenant: tenant.to_owned(),
            rate: quota.requests_per_s.map(Bucket::new),
            at_once: at_once.map(|most| Arc::new(Semaphore::new(most.max(1) as usize))),
        }
    }

    /// Lets a request in, which holds what it is given until its answer is taken.
    pub(crate) fn admit(&self) -> Result<Option<OwnedSemaphorePermit>, Over> {
        let held = match &self.at_once {
            None => None,
            Some(room) => match Arc::clone(room).try_acquire_owned() {
                Ok(held) => Some(held),
                Err(_) => return Err(self.refused(Over::AtOnce)),
            },
        };
        if let Some(bucket) = &self.rate
            && let Err(wait) = bucket.take(Instant::now())
        {
            return Err(self.refused(Over::Rate(wait.as_secs() + 1)));
        }
        Ok(held)
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

    #[test]
    fn room_comes_back_with_what_held_it() {
        let quota = Quota::new("north", TenantQuota::default(), Some(2));
        let (first, second) = (quota.admit(), quota.admit());
        assert!(first.is_ok() && second.is_ok());
        assert_eq!(quota.admit().err(), Some(Over::AtOnce));
        drop(first);
        assert!(quota.admit().is_ok());
        let own = TenantQuota {
            at_once: Some(1),
            ..TenantQuota::default()
        };
        let quota = Quota::new("north", own, Some(2));
        let _held = quota.admit();
        assert_eq!(quota.admit().err(), Some(Over::AtOnce));
        let none = Quota::new("north", TenantQuota::default(), None);
        assert!(none.admit().is_ok_and(|held| held.is_none()));
    }
}
