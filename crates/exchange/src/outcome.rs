//! What became of an attempt, and how it shows: in the `Communication`, the audit and the metrics.

use fhir::Resource;
use serde_json::json;
use trust::attempts::{Attempted, Did};
use trust::consent::Waits;
use trust::conventions::NOT_DONE_SYSTEM;

use crate::check::{Reason, Refused};
use crate::files::{Taken as Batched, batched};
use crate::sms::{Parts, Taken, known, taken};
use crate::stay::waits_already;

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
            let words = match outcome {
                Outcome::Notified { taken, of } => {
                    format!("Taken by the push service for {taken} of {of} devices.")
                }
                _ => "Handed over.".to_owned(),
            };
            Attempted::new(Did::HandedOver, words, now_ms).write(communication);
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
            let attempted = Attempted {
                reason: Some(refused.reason.code().to_owned()),
                ..Attempted::new(Did::NotSent, refused.words.clone(), now_ms)
            };
            attempted.write(communication);
        }
        Outcome::PutOff {
            due_ms,
            attempt,
            words,
            unanswered,
        } => {
            let (number, maybe) = (
                match attempt {
                    // It had no turn, so that was no attempt.
                    0 => "Put off".to_owned(),
                    _ => format!("Attempt {attempt} put off"),
                },
                if *unanswered {
                    ", and it may have arrived"
                } else {
                    ""
                },
            );
            let attempted = Attempted {
                next_ms: Some(*due_ms),
                ..Attempted::new(Did::PutOff, format!("{number}: {words}{maybe}."), now_ms)
            };
            attempted.write(communication);
            let text = format!(
                "Attempt {attempt} put off: {words}. Next at {}.",
                fhir::date::instant(*due_ms)
            );
            communication.set("statusReason", json!({ "text": text }));
        }
        Outcome::Known(parts) => {
            known(communication, parts.as_ref());
            let words = "The provider has it, as its receipt says.";
            Attempted::new(Did::HandedOver, words, now_ms).write(communication);
        }
        // When it is asked again says nothing of when the stay ends.
        Outcome::Waits {
            why: Waits::Stay, ..
        } => {
            if waits_already(communication) {
                return;
            }
            let words = format!("It waits for {}.", waits_for(Waits::Stay));
            communication.set("statusReason", json!({ "text": words }));
            let attempted = Attempted {
                reason: Some(code_of(Waits::Stay).to_owned()),
                ..Attempted::new(Did::Waits, words, now_ms)
            };
            attempted.write(communication);
        }
        Outcome::Waits { due_ms, why } => {
            let text = format!(
                "It waits for {} until {}.",
                waits_for(*why),
                fhir::date::instant(*due_ms)
            );
            communication.set("statusReason", json!({ "text": text }));
            let attempted = Attempted {
                reason: Some(code_of(*why).to_owned()),
                next_ms: Some(*due_ms),
                ..Attempted::new(
                    Did::Waits,
                    format!("It waits for {}.", waits_for(*why)),
                    now_ms,
                )
            };
            attempted.write(communication);
        }
        Outcome::Rests { .. } | Outcome::Cancelled => {}
    }
}

fn waits_for(why: Waits) -> &'static str {
    match why {
        Waits::Quiet => "the end of quiet hours",
        Waits::Capped => "room among the patient's messages",
        Waits::Question => "what may still come to the question before it",
        Waits::Stay => "the end of the patient's stay in hospital",
    }
}

/// The code of what a message waits for, which is that of what is not sent because it waited in vain.
fn code_of(why: Waits) -> &'static str {
    match why {
        Waits::Quiet => Reason::QuietHours,
        Waits::Capped => Reason::Capped,
        Waits::Question => Reason::QuestionOpen,
        Waits::Stay => Reason::Admitted,
    }
    .code()
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
