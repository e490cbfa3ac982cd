//! How often one client may ask, told in headers before it is too often.
//!
//! Each client has a bucket of as many requests as it has a second, filled again at that rate. It is of this
//! process: several servers of one store count each for themselves.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use tokio::time::Instant;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// The most clients that are remembered; those whose buckets are full need not be.
const CLIENTS_MAX: usize = 10_000;

/// Buckets of clients.
pub(crate) struct Pace {
    per_second: u32,
    buckets: Mutex<HashMap<String, Bucket>>,
}

struct Bucket {
    left: f64,
    at: Instant,
}

/// Where a client stands after a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stand {
    per_second: u32,
    left: u32,
    /// Whether this request is one too many.
    pub(crate) is_over: bool,
}

impl Pace {
    pub(crate) fn new(per_second: u32) -> Self {
        Self {
            per_second,
            buckets: Mutex::default(),
        }
    }

    /// Counts a request of a client.
    pub(crate) fn take(&self, client: &str) -> Stand {
        let (now, most) = (Instant::now(), f64::from(self.per_second));
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let filled = |bucket: &Bucket| {
            let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
            (bucket.left + passed * most).min(most)
        };
        if buckets.len() >= CLIENTS_MAX && !buckets.contains_key(client) {
            buckets.retain(|_, bucket| filled(bucket) < most);
            // Whoever may ask most loses least by beginning anew.
            if buckets.len() >= CLIENTS_MAX {
                let fullest = buckets
                    .iter()
                    .max_by(|(_, one), (_, other)| filled(one).total_cmp(&filled(other)));
                let fullest = fullest.map(|(client, _)| client.clone());
                fullest.and_then(|client| buckets.remove(&client));
            }
        }
        let left = buckets.get(client).map_or(most, filled);
        let is_over = left < 1.0;
        let left = if is_over { left } else { left - 1.0 };
        buckets.insert(client.to_owned(), Bucket { left, at: now });
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let whole = left as u32;
        Stand {
            per_second: self.per_second,
            left: whole,
            is_over,
        }
    }
}

impl Stand {
    /// Tells it as draft-ietf-httpapi-ratelimit-headers has it.
    pub(crate) fn tell(&self, headers: &mut HeaderMap) {
        let policy = format!("\"client\";q={};w=1", self.per_second);
        let limit = format!("\"client\";r={};t=1", self.left);
        for (name, value) in [(POLICY, policy), (LIMIT, limit)] {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        }
        if self.is_over {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_bucket_is_emptied_and_filled_again() {
        let pace = Pace::new(2);
        let stands = |client: &str| {
            let stand = pace.take(client);
            (stand.is_over, stand.left)
        };
        assert_eq!(stands("a"), (false, 1));
        assert_eq!(stands("a"), (false, 0));
        assert_eq!(stands("a"), (true, 0));
        // Another's is another.
        assert_eq!(stands("b"), (false, 1));
        tokio::time::advance(Duration::from_millis(500)).await;
        assert_eq!(stands("a"), (false, 0));
        assert_eq!(stands("a"), (true, 0));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(stands("a"), (false, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn not_all_clients_that_ever_were_are_remembered() {
        let pace = Pace::new(1);
        for client in 0..CLIENTS_MAX {
            pace.take(&client.to_string());
        }
        tokio::time::advance(Duration::from_secs(2)).await;
        pace.take("one more");
        let buckets = pace.buckets.lock().expect("no panic");
        assert_eq!(buckets.len(), 1);
    }
}
