//! Time and randomness come in from outside, so that tests and the simulator can own them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A source of time, in milliseconds since the Unix epoch.
pub trait Clock: Send + Sync + 'static {
    /// The time now.
    fn now_ms(&self) -> u64;
    /// How long to sleep in real time until `until_ms`; zero when it has passed.
    fn real_wait(&self, until_ms: u64) -> Duration;
}

/// A source of random bytes for ids, keys and nonces.
pub trait Entropy: Send + Sync + 'static {
    /// Fills `buffer` with random bytes.
    fn fill(&self, buffer: &mut [u8]);
}

/// The operating system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

/// The operating system's random numbers.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

/// A clock that runs `speed` times as fast as the real one, from `origin_ms`.
#[derive(Debug, Clone)]
pub struct ScaledClock {
    origin_ms: u64,
    real_origin_ms: u64,
    speed: f64,
}

/// A clock that stands still until it is moved; for tests and virtual time.
#[derive(Debug, Clone, Default)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// A clock that shows `now_ms`.
    #[must_use]
    pub fn new(now_ms: u64) -> Self {
        Self(Arc::new(AtomicU64::new(now_ms)))
    }
    /// Moves the clock on by `by_ms`.
    pub fn advance(&self, by_ms: u64) {
        self.0.fetch_add(by_ms, Ordering::SeqCst);
    }
    /// Sets the clock.
    pub fn set(&self, now_ms: u64) {
        self.0.store(now_ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
    fn real_wait(&self, until_ms: u64) -> Duration {
        // Nobody can know when a test moves the clock, so look again soon.
        if until_ms <= self.now_ms() {
            Duration::ZERO
        } else {
            Duration::from_millis(2)
        }
    }
}

impl SystemClock {
    #[allow(
        clippy::disallowed_methods,
        reason = "the one place that reads the system clock"
    )]
    fn raw_ms() -> u64 {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| {
                u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
            })
    }
}

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        Self::raw_ms()
    }
    fn real_wait(&self, until_ms: u64) -> Duration {
        Duration::from_millis(until_ms.saturating_sub(self.now_ms()))
    }
}

impl ScaledClock {
    /// A clock that shows `origin_ms` now and runs `speed` (> 0) times as fast as the real one.
    #[must_use]
    pub fn new(origin_ms: u64, speed: f64) -> Self {
        Self {
            origin_ms,
            real_origin_ms: SystemClock::raw_ms(),
            speed: speed.max(f64::MIN_POSITIVE),
        }
    }
}

impl Clock for ScaledClock {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss
    )]
    fn now_ms(&self) -> u64 {
        let real_ms = SystemClock::raw_ms().saturating_sub(self.real_origin_ms);
        self.origin_ms + (real_ms as f64 * self.speed) as u64
    }
    #[allow(clippy::cast_precision_loss)]
    fn real_wait(&self, until_ms: u64) -> Duration {
        Duration::from_secs_f64(until_ms.saturating_sub(self.now_ms()) as f64 / 1000.0 / self.speed)
    }
}

impl Entropy for SystemEntropy {
    #[allow(
        clippy::disallowed_methods,
        clippy::expect_used,
        reason = "the one place that asks the system for randomness; without it nothing can be sealed"
    )]
    fn fill(&self, buffer: &mut [u8]) {
        getrandom::fill(buffer).expect("the operating system gives random bytes");
    }
}
