//! When to try again, and when to give up.
//!
//! All of this is in the time of the care clock: a message's worth runs out with the journey's time,
//! and in an accelerated demo the retries keep their place among the journey's steps. What protects
//! the mail server is in real time: see `breaker.rs`.

use crate::check::Reason;

/// The pause before the second attempt, milliseconds. Greylisting servers commonly let a message in
/// after one to five minutes.
pub(crate) const PAUSE_FIRST_MS: u64 = 60_000;
/// The longest pause between attempts, milliseconds.
pub(crate) const PAUSE_MAX_MS: u64 = 4 * 3_600_000;
/// How many attempts a message gets. With the pauses above they reach over about two days: less than
/// the four to five of RFC 5321 (section 4.5.4.1), because a journey that learns of a failure calls
/// the patient instead.
pub(crate) const ATTEMPTS_MAX: u32 = 20;
/// Pauses vary by this share both ways, so that messages put off together don't come back together.
pub(crate) const JITTER: f64 = 0.2;

/// What a failure means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// The server is not there for us; says nothing about the message.
    Unreachable,
    /// The server is there and wants this message later.
    Later,
    /// The server is there and wants fewer at a time; it has not looked at this one.
    Busy,
    /// The server will never take this message.
    Never,
    /// The connection broke after the whole message was sent: it may have been taken.
    Unknown,
}

/// The pause before a message is tried again that the server had no time for, milliseconds.
const BUSY_MS: u64 = 2_000;

/// After a server had no time for a message, which had `made` attempts before: soon, or when it says, and with as many
/// attempts as before.
pub(crate) fn soon(made: u32, now_ms: u64, expires_ms: Option<u64>, after_ms: Option<u64>) -> Next {
    let pause_ms = after_ms.unwrap_or(BUSY_MS).clamp(BUSY_MS, PAUSE_MAX_MS);
    let due_ms = now_ms.saturating_add(pause_ms);
    if expires_ms.is_some_and(|expires_ms| due_ms > expires_ms) {
        return Next::GiveUp(Reason::Expired);
    }
    Next::Again {
        due_ms,
        attempt: made,
    }
}

/// What comes after an attempt that did not deliver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// Try again at `due_ms` as attempt number `attempt` + 1.
    Again { due_ms: u64, attempt: u32 },
    /// Don't.
    GiveUp(Reason),
}

/// After `made` attempts in all (at least one), at `now_ms`; `dice` is a random number.
pub(crate) fn next(made: u32, now_ms: u64, expires_ms: Option<u64>, dice: u64) -> Next {
    if made >= ATTEMPTS_MAX {
        return Next::GiveUp(Reason::RetriesExhausted);
    }
    let due_ms = now_ms.saturating_add(pause_ms(made, dice));
    // The next attempt would only find out that it is too late, so the journey hears of it now.
    if expires_ms.is_some_and(|expires_ms| due_ms > expires_ms) {
        return Next::GiveUp(Reason::Expired);
    }
    Next::Again {
        due_ms,
        attempt: made,
    }
}

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "hours in milliseconds are small and positive"
)]
fn pause_ms(made: u32, dice: u64) -> u64 {
    let doublings = made.saturating_sub(1).min(32);
    let plain_ms = PAUSE_FIRST_MS
        .saturating_mul(1 << doublings)
        .min(PAUSE_MAX_MS);
    let spread = (dice >> 11) as f64 / (1_u64 << 53) as f64 * 2.0 - 1.0;
    (plain_ms as f64 * (1.0 + spread * JITTER)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_their_bound_and_keep_within_the_jitter() {
        for (made, plain_ms) in [
            (1, 60_000),
            (2, 120_000),
            (3, 240_000),
            (8, 7_680_000),
            (9, PAUSE_MAX_MS),
            (19, PAUSE_MAX_MS),
            (u32::MAX, PAUSE_MAX_MS),
        ] {
            let (least, most) = (pause_ms(made, 0), pause_ms(made, u64::MAX));
            assert_eq!(least, plain_ms * 8 / 10, "after {made}");
            assert!(
                (plain_ms * 12 / 10 - 1..=plain_ms * 12 / 10).contains(&most),
                "after {made}: {most}"
            );
        }
    }

    #[test]
    fn gives_up_when_attempts_or_worth_run_out() {
        let middle = u64::MAX / 2 + 1;
        let table = [
            (
                1,
                None,
                Next::Again {
                    due_ms: 1_060_000,
                    attempt: 1,
                },
            ),
            (
                1,
                Some(1_060_000),
                Next::Again {
                    due_ms: 1_060_000,
                    attempt: 1,
                },
            ),
            (1, Some(1_059_999), Next::GiveUp(Reason::Expired)),
            (
                19,
                None,
                Next::Again {
                    due_ms: 1_000_000 + PAUSE_MAX_MS,
                    attempt: 19,
                },
            ),
            (20, None, Next::GiveUp(Reason::RetriesExhausted)),
            (20, Some(0), Next::GiveUp(Reason::RetriesExhausted)),
        ];
        for (made, expires_ms, expected) in table {
            assert_eq!(
                next(made, 1_000_000, expires_ms, middle),
                expected,
                "{made} {expires_ms:?}"
            );
        }
    }

    #[test]
    fn all_attempts_together_reach_over_about_two_days() {
        let total_ms: u64 = (1..ATTEMPTS_MAX)
            .map(|made| pause_ms(made, u64::MAX / 2 + 1))
            .sum();
        assert!(
            (40..56).contains(&(total_ms / 3_600_000)),
            "{} h",
            total_ms / 3_600_000
        );
    }
}
