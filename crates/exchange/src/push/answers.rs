//! What services answer, and what that means: of the message at one device, of the service, and of the message at all of
//! a patient's devices together.

use std::time::Duration;

use reqwest::header::RETRY_AFTER;
use reqwest::{Response, StatusCode};

use crate::carrier::Trouble;
use crate::check::{Reason, Refused};
use crate::outcome::Outcome;
use crate::retry::Meaning;

/// The longest that is waited because a service says so, seconds.
const RETRY_AFTER_MAX_S: u64 = 3_600;
/// How long a message waits that came too soon after others, where nothing is said.
pub(super) const TOO_SOON_S: u64 = 60;

/// What an answer, or none, says of the service, whatever it says of the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    Well,
    Ill,
    /// It wants fewer, after so long.
    Fewer(Duration),
}

/// What became of a message at one device.
#[derive(Debug)]
pub(super) enum Handed {
    Taken,
    /// The push service knows the device no more.
    Gone,
    Failed(Trouble),
}

pub(super) fn trouble(meaning: Meaning, words: impl Into<String>) -> Trouble {
    Trouble {
        meaning,
        words: words.into(),
        reason: Reason::PermanentFailure,
        after_ms: None,
    }
}

/// Sends a request, and says what became of it. Nothing of the answer but its status is read.
pub(super) async fn sent(request: reqwest::RequestBuilder) -> (Handed, Sign) {
    match request.send().await {
        Ok(answer) => means(answer.status(), retry_after_s(&answer)),
        Err(error) => broke(&error),
    }
}

/// How long a service wants to be left alone, seconds.
pub(super) fn retry_after_s(answer: &Response) -> Option<u64> {
    let said = answer.headers().get(RETRY_AFTER)?.to_str().ok()?.trim();
    // A date is taken for the longest time: our clock may be another than theirs.
    let after_s: u64 = said.parse().unwrap_or(RETRY_AFTER_MAX_S);
    Some(after_s.min(RETRY_AFTER_MAX_S))
}

/// What became of a request without an answer. An error's words have the address in them, and no more is said than what
/// it means.
pub(super) fn broke(error: &reqwest::Error) -> (Handed, Sign) {
    let (meaning, words) = if error.is_connect() {
        (
            Meaning::Unreachable,
            "the push service can't be reached, or its name leads to no public address",
        )
    } else {
        (
            Meaning::Unknown,
            "the push service gave no answer, so it may have taken it",
        )
    };
    (Handed::Failed(trouble(meaning, words)), Sign::Ill)
}

/// What an answer means (RFC 8030, sections 5, 7.3 and 8.4), of the device and of the service.
fn means(status: StatusCode, after_s: Option<u64>) -> (Handed, Sign) {
    let (meaning, sign) = match (status.as_u16(), after_s) {
        (200..=299, _) => return (Handed::Taken, Sign::Well),
        (404 | 410, _) => return (Handed::Gone, Sign::Well),
        // Too many for this one device.
        (429, _) => (Meaning::Busy, Sign::Well),
        (503, Some(after_s)) => (Meaning::Busy, Sign::Fewer(Duration::from_secs(after_s))),
        (408 | 500.., _) => (Meaning::Unknown, Sign::Ill),
        // It doesn't believe who we are: our clock is wrong, or the browser has named another key than it said. The
        // next channel has the message sooner than either is mended.
        (401 | 403, _) => {
            tracing::error!(
                status = status.as_u16(),
                "push: a service does not take our signature; is the clock right?"
            );
            (Meaning::Never, Sign::Well)
        }
        _ => (Meaning::Never, Sign::Well),
    };
    let after_s = after_s.or((status == StatusCode::TOO_MANY_REQUESTS).then_some(TOO_SOON_S));
    let words = format!("the push service answered {}", status.as_u16());
    let failed = Handed::Failed(Trouble {
        after_ms: after_s.map(|after_s| after_s * 1_000),
        ..trouble(meaning, words)
    });
    (failed, sign)
}

/// What became of a message at all devices together.
pub(super) fn together(handed: Vec<Handed>) -> Result<Outcome, Trouble> {
    let of = handed.len();
    let mut taken = 0;
    let mut worst: Option<Trouble> = None;
    for one in handed {
        match one {
            Handed::Taken => taken += 1,
            Handed::Gone => {}
            Handed::Failed(trouble) => {
                worst = Some(match worst {
                    Some(other) if weight(&other) >= weight(&trouble) => other,
                    _ => trouble,
                });
            }
        }
    }
    match worst {
        _ if taken > 0 => Ok(Outcome::Notified { taken, of }),
        Some(trouble) => Err(trouble),
        None => Ok(Outcome::NotDone(Refused::new(
            Reason::NoAddress,
            "None of the patient's devices takes notifications any more.",
        ))),
    }
}

/// Of several troubles, the one that leads on: what may work later goes before what never will.
fn weight(trouble: &Trouble) -> u8 {
    match trouble.meaning {
        Meaning::Never => 0,
        Meaning::Busy => 1,
        Meaning::Later => 2,
        Meaning::Unreachable => 3,
        Meaning::Unknown => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_mean_different_things() {
        for (status, expected) in [
            (200, "taken"),
            (201, "taken"),
            (202, "taken"),
            (404, "gone"),
            (410, "gone"),
            (429, "Busy"),
            (500, "Unknown"),
            (503, "Unknown"),
            (401, "Never"),
            (403, "Never"),
            (302, "Never"),
            (400, "Never"),
            (413, "Never"),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            let found = match means(status, None).0 {
                Handed::Taken => "taken".to_owned(),
                Handed::Gone => "gone".to_owned(),
                Handed::Failed(trouble) => format!("{:?}", trouble.meaning),
            };
            assert_eq!(found, expected, "{status}");
        }
    }

    /// What one device gets tells nothing of its service, whoever says where that device is.
    #[test]
    fn a_service_is_left_alone_for_what_it_says_of_itself() {
        let hour = Duration::from_secs(3_600);
        for (status, after_s, sign, after_ms) in [
            (201, None, Sign::Well, None),
            (410, None, Sign::Well, None),
            (429, Some(3_600), Sign::Well, Some(3_600_000)),
            (429, None, Sign::Well, Some(60_000)),
            (401, None, Sign::Well, None),
            (403, Some(5), Sign::Well, Some(5_000)),
            (400, None, Sign::Well, None),
            (500, None, Sign::Ill, None),
            (503, None, Sign::Ill, None),
            (503, Some(3_600), Sign::Fewer(hour), Some(3_600_000)),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            let (handed, found) = means(status, after_s);
            assert_eq!(found, sign, "{status} {after_s:?}");
            let said = match handed {
                Handed::Failed(trouble) => trouble.after_ms,
                Handed::Taken | Handed::Gone => None,
            };
            assert_eq!(said, after_ms, "{status} {after_s:?}");
        }
    }

    #[test]
    fn one_device_that_has_it_is_enough_and_what_may_work_later_is_tried_again() {
        let failed = |meaning| Handed::Failed(trouble(meaning, "no"));
        let told = together(vec![Handed::Taken, failed(Meaning::Unknown), Handed::Gone]);
        assert_eq!(told.expect("told"), Outcome::Notified { taken: 1, of: 3 });
        let none = together(vec![Handed::Gone, Handed::Gone]);
        assert!(
            matches!(none, Ok(Outcome::NotDone(refused)) if refused.reason == Reason::NoAddress)
        );
        let again = together(vec![
            failed(Meaning::Never),
            Handed::Gone,
            failed(Meaning::Busy),
        ]);
        assert_eq!(again.expect_err("not told").meaning, Meaning::Busy);
        let never = together(vec![failed(Meaning::Never), Handed::Gone]);
        assert_eq!(never.expect_err("not told").meaning, Meaning::Never);
    }
}
