//! What became of an attempt, and how it shows: in the `Communication`, the audit and the metrics.

use fhir::Resource;
use serde_json::json;
use trust::conventions::NOT_DONE_SYSTEM;

use crate::check::Refused;

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The server took it.
    Sent,
    /// It will not be sent.
    NotDone(Refused),
    /// It will be tried again.
    PutOff {
        due_ms: u64,
        attempt: u32,
        words: String,
    },
    /// Its `Communication` is gone or no longer waits for it.
    Cancelled,
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
        Outcome::Sent => {
            communication.set("status", json!("completed"));
            communication.set("sent", json!(fhir::date::instant(now_ms)));
            communication.remove("statusReason");
        }
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
        } => {
            let text = format!(
                "Attempt {attempt} put off: {words}. Next at {}.",
                fhir::date::instant(*due_ms)
            );
            communication.set("statusReason", json!({ "text": text }));
        }
        Outcome::Cancelled => {}
    }
}

/// For the audit record.
pub(crate) fn note(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Sent => "message sent by e-mail".to_owned(),
        Outcome::NotDone(refused) => format!("e-mail not sent ({})", refused.reason.code()),
        Outcome::PutOff { attempt, .. } => format!("e-mail put off after attempt {attempt}"),
        Outcome::Cancelled => "e-mail no longer wanted".to_owned(),
    }
}

/// Counts it in the metrics.
pub(crate) fn count(outcome: &Outcome) {
    match outcome {
        Outcome::Sent => metrics::counter!("mail_sent_total").increment(1),
        Outcome::NotDone(refused) => {
            metrics::counter!("mail_failed_total", "reason" => refused.reason.code()).increment(1);
        }
        Outcome::PutOff { .. } => metrics::counter!("mail_put_off_total").increment(1),
        Outcome::Cancelled => metrics::counter!("mail_cancelled_total").increment(1),
    }
}
