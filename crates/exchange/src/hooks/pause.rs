//! When a notification is tried again, and when a subscription is given up. In the time of the care clock, like what
//! is notified of.

/// The pause after the first failure, milliseconds.
const PAUSE_FIRST_MS: u64 = 5_000;
/// The longest pause.
const PAUSE_MAX_MS: u64 = 3_600_000;
/// Pauses vary by up to this share (one in so many), so that those put off together don't come back together.
const JITTER: u64 = 8;
/// How long deliveries may fail in a row before the subscription is turned off.
pub(super) const GIVE_UP_MS: u64 = 24 * 3_600_000;
/// How often one notification is tried: with the pauses above, for about as long.
pub(super) const ATTEMPTS_MAX: u32 = 33;

/// The pause after so many failures (at least one); `dice` is a random number.
pub(super) fn pause_ms(failures: u32, dice: u64) -> u64 {
    let doublings = failures.saturating_sub(1).min(32);
    let plain_ms = PAUSE_FIRST_MS
        .saturating_mul(1 << doublings)
        .min(PAUSE_MAX_MS);
    plain_ms + dice % (plain_ms / JITTER + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_their_bound() {
        for (failures, plain_ms) in [
            (1, 5_000),
            (2, 10_000),
            (10, 2_560_000),
            (11, PAUSE_MAX_MS),
            (u32::MAX, PAUSE_MAX_MS),
        ] {
            assert_eq!(pause_ms(failures, 0), plain_ms, "after {failures}");
            for dice in [1, 77, u64::MAX] {
                let longer = plain_ms..=plain_ms + plain_ms / JITTER;
                assert!(
                    longer.contains(&pause_ms(failures, dice)),
                    "after {failures}"
                );
            }
        }
    }

    #[test]
    fn one_notification_is_tried_for_about_as_long_as_a_subscription() {
        let total_ms: u64 = (1..ATTEMPTS_MAX).map(|made| pause_ms(made, 0)).sum();
        assert!((22..26).contains(&(total_ms / 3_600_000)), "{total_ms}");
    }
}
