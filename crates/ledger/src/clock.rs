//! Time and randomness come in from outside, so that tests and the simulator can own them.
//!
//! **A step of the system's clock is not followed by a process that runs.** Numbers only rise: one commit
//! under a clock that shows the year 2099 would take all later records there, and one step back keeps
//! timers from firing. So the process counts on from the time that it had, by how long it has run, tells
//! of the step again and again, and takes the system's clock as it is when it starts anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use crate::{Ledger, LedgerError};

/// What a clock may be set by at once and be followed: more than time services correct little by little,
/// and less than moves a reminder.
pub const CLOCK_STEP_MAX_MS: u64 = 60_000;
/// How often a step is told of.
const STEP_TOLD_EVERY_MS: u64 = 60_000;
/// Two readings that lie further apart than this are not of one moment: the process stood still.
const READING_MAX_MS: u64 = 1_000;

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

/// The operating system's clock, as it was when the process first looked, and as it has gone on since;
/// steps of more than [`CLOCK_STEP_MAX_MS`] are not followed.
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

/// A clock that is followed in small steps.
#[derive(Debug)]
struct Followed {
    /// What has to be added to the time that the machine has run; `i64::MIN` before the first look.
    offset_ms: AtomicI64,
    told_ms: AtomicU64,
}

impl Followed {
    const fn new() -> Self {
        Self {
            offset_ms: AtomicI64::new(i64::MIN),
            told_ms: AtomicU64::new(0),
        }
    }

    /// The time, after `running_ms` of the machine's run, when its clock shows `shown_ms`; and by how much
    /// that one was set ahead (negative: back), where it is not followed.
    fn follow(&self, shown_ms: u64, running_ms: u64) -> (u64, Option<i64>) {
        let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
        let shown_offset = signed(shown_ms).saturating_sub(signed(running_ms));
        let known = self.offset_ms.load(Ordering::Relaxed);
        let step = shown_offset.saturating_sub(known);
        if known == i64::MIN || step.unsigned_abs() <= CLOCK_STEP_MAX_MS {
            // Another thread may have looked a moment before or after; either is right.
            self.offset_ms.store(shown_offset, Ordering::Relaxed);
            return (shown_ms, None);
        }
        let goes_on_ms = signed(running_ms).saturating_add(known);
        (u64::try_from(goes_on_ms).unwrap_or(0), Some(step))
    }

    fn tell(&self, step_ms: i64, running_ms: u64) {
        let told_ms = self.told_ms.load(Ordering::Relaxed);
        if (told_ms == 0 || running_ms.saturating_sub(told_ms) >= STEP_TOLD_EVERY_MS)
            && self
                .told_ms
                .compare_exchange(
                    told_ms,
                    running_ms.max(1),
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                )
                .is_ok()
        {
            tracing::error!(
                seconds = step_ms / 1000,
                "the system's clock was set while this process ran, and is not followed: set it right, or, if it is right \
                 now, start the process anew"
            );
        }
    }
}

static SYSTEM: Followed = Followed::new();

impl SystemClock {
    /// By how much the system's clock was set ahead (negative: back) while this process ran, in
    /// milliseconds, where that is not followed; else zero.
    #[must_use]
    pub fn step_ms() -> i64 {
        let (shown_ms, running_ms) = Self::read();
        SYSTEM.follow(shown_ms, running_ms).1.unwrap_or(0)
    }

    /// What the system's clock shows, and how long the machine has run.
    fn read() -> (u64, u64) {
        loop {
            let before_ms = crate::held::now_ms();
            let shown_ms = Self::raw_ms();
            let running_ms = crate::held::now_ms();
            if running_ms.saturating_sub(before_ms) <= READING_MAX_MS {
                return (shown_ms, running_ms);
            }
        }
    }

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
        let (shown_ms, running_ms) = Self::read();
        let (now_ms, step) = SYSTEM.follow(shown_ms, running_ms);
        if let Some(step) = step {
            SYSTEM.tell(step, running_ms);
        }
        now_ms
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
            real_origin_ms: SystemClock.now_ms(),
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
        let real_ms = SystemClock.now_ms().saturating_sub(self.real_origin_ms);
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

impl Ledger {
    /// By how many milliseconds this process's clock is ahead of the database's (negative: behind), as
    /// exactly as asking it takes time; `None` for a store in a folder.
    ///
    /// # Errors
    /// `Storage`, `Closed`.
    pub async fn clock_ahead_ms(&self) -> Result<Option<i64>, LedgerError> {
        let backend = self.backend()?;
        let clock = self.clock();
        let ahead = tokio::task::spawn_blocking(move || {
            let Some(store) = backend.shared() else {
                return Ok(None);
            };
            let theirs_ms = store.clock_ms()?;
            Ok(Some(clock.now_ms().cast_signed() - theirs_ms.cast_signed()))
        })
        .await;
        ahead.map_err(|error| LedgerError::Storage(error.to_string()))?
    }

    /// By how many milliseconds the newest record is ahead of this process's clock. Where that is much, the
    /// clock was wrong then or is now; times of new records follow the newest's until the clock has come
    /// there.
    #[must_use]
    pub fn newest_ahead_ms(&self) -> u64 {
        let newest_ms = self.last_number().unix_ms();
        newest_ms.saturating_sub(self.clock().now_ms())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_700_000_000_000;
    const HOUR_MS: u64 = 3_600_000;

    #[test]
    fn a_clock_that_is_corrected_little_by_little_is_followed() {
        let clock = Followed::new();
        let mut shown_ms = NOW_MS;
        for second in 0..1_000 {
            shown_ms += 1_500;
            assert_eq!(clock.follow(shown_ms, second * 1_000), (shown_ms, None));
        }
        let back_ms = shown_ms - CLOCK_STEP_MAX_MS;
        assert_eq!(clock.follow(back_ms, 999_000), (back_ms, None));
    }

    #[test]
    fn a_step_is_not_followed_and_told() {
        for step_ms in [
            -HOUR_MS.cast_signed(),
            75 * 365 * 24 * HOUR_MS.cast_signed(),
        ] {
            let clock = Followed::new();
            clock.follow(NOW_MS, 5_000);
            let shown_ms = (NOW_MS + 10).checked_add_signed(step_ms).unwrap();
            assert_eq!(clock.follow(shown_ms, 5_010), (NOW_MS + 10, Some(step_ms)));
            // As long as it shows that, and no longer.
            let later_ms = shown_ms + 2 * HOUR_MS;
            let running_ms = 5_010 + 2 * HOUR_MS;
            let goes_on_ms = NOW_MS + 10 + 2 * HOUR_MS;
            assert_eq!(
                clock.follow(later_ms, running_ms),
                (goes_on_ms, Some(step_ms))
            );
            assert_eq!(clock.follow(goes_on_ms, running_ms), (goes_on_ms, None));
        }
    }

    #[test]
    fn a_machine_that_slept_is_no_step() {
        let clock = Followed::new();
        clock.follow(NOW_MS, 5_000);
        let woken = (NOW_MS + 8 * HOUR_MS, 5_000 + 8 * HOUR_MS);
        assert_eq!(clock.follow(woken.0, woken.1), (woken.0, None));
    }

    #[test]
    fn the_system_clock_is_this_years() {
        assert!(SystemClock.now_ms() > NOW_MS);
        assert_eq!(SystemClock::step_ms(), 0);
    }
}
