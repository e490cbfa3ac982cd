//! What became of an attempt, and how it shows: in the `Communication`, the audit and the metrics.

use fhir::Resource;
use serde_json::json;
use trust::consent::Waits;
use trust::conventions::NOT_DONE_SYSTEM;

use crate::check::Refused;
use crate::files::{Taken as Batched, batched};
use crate::sms::{Parts, Taken, known, remark, taken};

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The server took it.
    Sent,
    /// Push services took it for so many of the patient's devices. Whether anybody sees it isn't known.
    Notified { taken: usize, of: usize },
    /// A provider took it, and tells later what became of it.
    Taken(Taken),
    /// A provider is known to have it: what it tells came before this could be written down. With what it took, where
    /// that is known.
    Known(Option<Parts>),
    /// It may not leave now: it is night there, or too many have gone out. It was not tried.
    Waits { due_ms: u64, why: Waits },
    /// The batch that is closed now has it.
    Batched(Box<Batched>),
    /// It will not be sent.
    NotDone(Refused),
    /// It will be tried again.
    PutOff {
        due_ms: u64,
        attempt: u32,
        words: String,
        /// Whether the other side may have it all the same.
        unanswered: bool,
    },
    /// What would take it is left alone until then. It was not tried, and nothing is said of it.
    Rests { due_ms: u64 },
    /// Its `Communication` is gone or no longer waits for it.
    Cancelled,
}

impl Outcome {
    /// Whether the other side has it by now.
    pub(crate) fn was_handed_over(&self) -> bool {
        matches!(
            self,
            Self::Sent | Self::Notified { .. } | Self::Taken(_) | Self::Known(_)
        )
    }
}

/// Whether the `Communication` still waits for its message to be sent.
pub(crate) fn is_waiting(communication: &Resource) -> bool {
    matches!(
        communication.text_at(&["status"]),
        Some("preparation" | "in-progress")
    )
}

/// Writes the outcome into the `Communication`.
pub(crate) fn mark(communication: &mut Resource, outcome: &Outcome, now_ms: u64) {
    match outcome {
        Outcome::Sent | Outcome::Notified { .. } => {
            communication.set("status", json!("completed"));
            communication.set("sent", json!(fhir::date::instant(now_ms)));
            communication.remove("statusReason");
            if let Outcome::Notified { taken, of } = outcome {
                let words = format!("Taken by the push service for {taken} of {of} devices.");
                remark(communication, &words, now_ms);
            }
        }
        Outcome::Taken(what) => taken(communication, what, now_ms),
        Outcome::Batched(what) => batched(communication, what, now_ms),
        Outcome::NotDone(refused) => {
            communication.set("status", json!("not-done"));
            communication.set(
                "statusReason",
                json!({
                    "coding": [{ "system": NOT_DONE_SYSTEM, "code": refused.reason.code() }],
                    "text": refused.words
                }),
            );
        }
        Outcome::PutOff {
            due_ms,
            attempt,
            words,
            ..
        } => {
            let text = format!(
                "Attempt {attempt} put off: {words}. Next at {}.",
                fhir::date::instant(*due_ms)
            );
            communication.set("statusReason", json!({ "text": text }));
        }
        Outcome::Known(parts) => known(communication, parts.as_ref()),
        Outcome::Waits { due_ms, why } => {
            let text = format!(
                "It waits for {} until {}.",
                waits_for(*why),
                fhir::date::instant(*due_ms)
            );
            communication.set("statusReason", json!({ "text": text }));
        }
        Outcome::Rests { .. } | Outcome::Cancelled => {}
    }
}

fn waits_for(why: Waits) -> &'static str {
    match why {
        Waits::Quiet => "the end of quiet hours",
        Waits::Capped => "room among the patient's messages",
        Waits::Question => "what may still come to the question before it",
    }
}

/// For the audit record. `what` is what the channel carries.
pub(crate) fn note(outcome: &Outcome, what: &str) -> String {
    match outcome {
        Outcome::Sent => format!("message sent by {what}"),
        Outcome::Notified { taken, of } => {
            format!("{what} taken by the push service for {taken} of {of} devices")
        }
        Outcome::Taken(taken) => format!(
            "{what} handed to the provider ({} segments)",
            taken.parts.segments
        ),
        Outcome::Batched(taken) => format!("{what} told {} ({})", taken.partner, taken.why),
        Outcome::Known(_) => format!("{what} is with the provider already"),
        Outcome::NotDone(refused) => format!("{what} not sent ({})", refused.reason.code()),
        Outcome::PutOff { attempt, .. } => format!("{what} put off after attempt {attempt}"),
        Outcome::Waits { why, .. } => format!("{what} waits for {}", waits_for(*why)),
        Outcome::Rests { .. } => format!("{what} waits for what takes it, which is left alone"),
        Outcome::Cancelled => format!("{what} no longer wanted"),
    }
}

/// Counts it in the metrics, which begin with what the channel is called.
pub(crate) fn count(outcome: &Outcome, name: &str) {
    match outcome {
        Outcome::Sent | Outcome::Notified { .. } => {
            metrics::counter!(format!("{name}_sent_total")).increment(1);
        }
        Outcome::Taken(taken) => {
            metrics::counter!(format!("{name}_sent_total")).increment(1);
            taken.parts.count();
        }
        Outcome::Known(parts) => {
            metrics::counter!(format!("{name}_known_total")).increment(1);
            if let Some(parts) = parts {
                parts.count();
            }
        }
        Outcome::NotDone(refused) => {
            metrics::counter!(format!("{name}_failed_total"), "reason" => refused.reason.code())
                .increment(1);
        }
        Outcome::Waits { .. } => metrics::counter!(format!("{name}_waiting_total")).increment(1),
        Outcome::PutOff { .. } | Outcome::Rests { .. } => {
            metrics::counter!(format!("{name}_put_off_total")).increment(1);
        }
        Outcome::Batched(_) => metrics::counter!(format!("{name}_batched_total")).increment(1),
        Outcome::Cancelled => metrics::counter!(format!("{name}_cancelled_total")).increment(1),
    }
}
