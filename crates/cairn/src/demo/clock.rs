//! The demo's care clock: stands still while the hospital is being set up, then runs fast.

use std::sync::OnceLock;
use std::time::Duration;

use ledger::{Clock, ScaledClock};

/// Milliseconds of a day.
pub(super) const DAY_MS: u64 = 86_400_000;

/// Milliseconds of an hour.
pub(super) const HOUR_MS: u64 = 3_600_000;

/// A clock that stands still until it is started.
pub(super) struct DemoClock {
    standing_ms: u64,
    running: OnceLock<ScaledClock>,
}

impl DemoClock {
    /// A clock that shows `standing_ms`.
    pub(super) fn new(standing_ms: u64) -> Self {
        Self {
            standing_ms,
            running: OnceLock::new(),
        }
    }

    /// Lets it run from `origin_ms`, `speed` times as fast as the real one. Only the first call counts.
    pub(super) fn start(&self, origin_ms: u64, speed: f64) {
        let _ = self
            .running
            .set(ScaledClock::new(origin_ms.max(self.standing_ms), speed));
    }
}

impl Clock for DemoClock {
    fn now_ms(&self) -> u64 {
        self.running.get().map_or(self.standing_ms, Clock::now_ms)
    }

    fn real_wait(&self, until_ms: u64) -> Duration {
        match self.running.get() {
            Some(running) => running.real_wait(until_ms),
            None if until_ms <= self.standing_ms => Duration::ZERO,
            // Nobody knows when the clock is started, so look again soon.
            None => Duration::from_millis(20),
        }
    }
}

/// How many times faster than real the clock runs when a day takes `seconds_per_day`.
pub(super) fn speed(seconds_per_day: f64) -> f64 {
    86_400.0 / seconds_per_day
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stands_still_until_started() {
        let clock = DemoClock::new(1_000);
        assert_eq!(clock.now_ms(), 1_000);
        assert_eq!(clock.real_wait(1_000), Duration::ZERO);
        assert!(clock.real_wait(2_000) > Duration::ZERO);
        clock.start(5_000, speed(4.0));
        assert!(clock.now_ms() >= 5_000);
    }

    #[test]
    fn a_day_takes_as_many_seconds_as_asked_for() {
        let clock = DemoClock::new(0);
        clock.start(0, speed(4.0));
        let wait_s = clock.real_wait(clock.now_ms() + DAY_MS).as_secs_f64();
        assert!((wait_s - 4.0).abs() < 0.2, "{wait_s}");
    }
}
