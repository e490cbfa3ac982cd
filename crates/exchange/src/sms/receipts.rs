//! What a provider tells about a message that it has.

use fhir::{Resource, ResourceType};
use ledger::{Expected, LedgerError};
use serde_json::{Value, json};
use trust::attempts::{Attempted, Did};
use trust::conventions::{NOT_DONE_SYSTEM, SMS_SYSTEM};
use trust::outgoing::unanswered;
use trust::{Change, Permit, TrustError, Unit};

use super::door::{SmsDoor, Unheard};
use super::twilio::STOPPED;
use super::{DeliveredWhen, Referred, count_again, list, refer, references};
use crate::check::Reason;
use crate::outcome::is_waiting;

/// Where a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stand {
    /// The provider has it, or the network.
    UnderWay,
    /// The handset has it.
    Arrived,
    /// It won't arrive.
    Failed,
}

impl Stand {
    /// By the provider's word for it.
    pub(super) fn parse(text: &str, delivered_when: DeliveredWhen) -> Option<Self> {
        Some(match text {
            "sent" if delivered_when != DeliveredWhen::Delivered => Self::Arrived,
            "accepted" | "scheduled" | "queued" | "sending" | "sent" => Self::UnderWay,
            "delivered" | "read" => Self::Arrived,
            "undelivered" | "failed" | "canceled" => Self::Failed,
            _ => return None,
        })
    }
    /// The `status` label of the metric `sms_receipts_total`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::UnderWay => "under-way",
            Self::Arrived => "arrived",
            Self::Failed => "failed",
        }
    }
}

/// What became of a message.
#[derive(Debug)]
pub(super) struct Receipt<'a> {
    /// What the provider calls it.
    pub(super) reference: &'a str,
    pub(super) stand: Stand,
    /// Why it failed, as the provider counts reasons.
    pub(super) error: Option<u64>,
    /// Whether its message was found by its mark, because none has this name.
    pub(super) is_by_mark: bool,
}

impl Receipt<'_> {
    /// Whether it failed because whoever it is for has told the provider to stop.
    pub(super) fn is_of_stop(&self) -> bool {
        self.stand == Stand::Failed && self.error == Some(STOPPED)
    }
}

/// What a receipt has changed.
#[derive(Debug, PartialEq, Eq)]
struct Applied {
    changed: bool,
    /// It is of a message that was handed over before under another name.
    again: bool,
    /// It is of a message that the provider has once, and calls otherwise in its answers.
    differs: bool,
}

/// The name under which a receipt is written down. A message that is found by its mark, has a name, and was never handed
/// over without an answer, was handed over once: the provider calls it one thing in its answers and another in its
/// receipts.
fn name_of(communication: &Resource, receipt: &Receipt<'_>) -> Option<String> {
    let known = references(communication);
    let is_once = receipt.is_by_mark && unanswered(communication) == 0;
    let last = known.last().filter(|_| is_once);
    let last = last.filter(|_| !known.contains(&receipt.reference));
    last.map(|name| (*name).to_owned())
}

/// Writes a receipt into the `Communication`.
fn apply(communication: &mut Resource, receipt: &Receipt<'_>, now_ms: u64) -> Applied {
    let other = name_of(communication, receipt);
    let reference = other.as_deref().unwrap_or(receipt.reference);
    let referred = refer(communication, reference);
    let mut applied = Applied {
        changed: referred != Referred::Known,
        again: referred == Referred::Again,
        differs: other.is_some(),
    };
    if referred == Referred::Again {
        let words = "The provider has it twice: whoever it is for may get it again.";
        Attempted::new(Did::HandedOver, words, now_ms).write(communication);
    }
    if applied.changed && communication.get("sent").is_none() {
        communication.set("sent", json!(fhir::date::instant(now_ms)));
    }
    let status = communication
        .text_at(&["status"])
        .unwrap_or_default()
        .to_owned();
    match receipt.stand {
        // A message whose journey was held while it left has left.
        Stand::UnderWay => {
            if matches!(status.as_str(), "preparation" | "on-hold") {
                communication.set("status", json!("in-progress"));
                communication.remove("statusReason");
                applied.changed = true;
            }
        }
        // What has arrived has arrived, whatever the journey decided meanwhile.
        Stand::Arrived => {
            if !matches!(status.as_str(), "completed" | "entered-in-error") {
                communication.set("status", json!("completed"));
                communication.remove("statusReason");
                let words = "Receipt: it has arrived.";
                Attempted::new(Did::Arrived, words, now_ms).write(communication);
                applied.changed = true;
            }
        }
        Stand::Failed => {
            let is_open = is_waiting(communication) || status == "on-hold";
            applied.changed |= fails(communication, reference);
            // What was handed over again may arrive by another name.
            if is_open && all_failed(communication) {
                let code = receipt.error.map_or_else(String::new, |code| {
                    format!(" (the provider's error {code})")
                });
                let words = format!("It did not arrive{code}.");
                let reason = if receipt.error == Some(STOPPED) {
                    Reason::Preference
                } else {
                    Reason::PermanentFailure
                };
                let attempted = Attempted {
                    reason: Some(reason.code().to_owned()),
                    ..Attempted::new(Did::Returned, format!("Receipt: {words}"), now_ms)
                };
                attempted.write(communication);
                communication.set("status", json!("not-done"));
                communication.set(
                    "statusReason",
                    json!({
                        "coding": [{"system": NOT_DONE_SYSTEM, "code": reason.code()}],
                        "text": words
                    }),
                );
                applied.changed = true;
            }
        }
    }
    applied
}

/// Marks what a provider calls a message as over: it won't arrive by that name. Whether it wasn't yet.
fn fails(communication: &mut Resource, reference: &str) -> bool {
    let mut identifiers = list(communication, "identifier");
    let is_it = |one: &&mut Value| one["system"] == SMS_SYSTEM && one["value"] == reference;
    let Some(found) = identifiers.iter_mut().find(is_it) else {
        return false;
    };
    if found["use"] == "old" {
        return false;
    }
    found["use"] = json!("old");
    communication.set("identifier", Value::Array(identifiers));
    true
}

/// Whether it won't arrive by any of its names.
fn all_failed(communication: &Resource) -> bool {
    let identifiers = list(communication, "identifier");
    let mut names = identifiers.iter().filter(|one| one["system"] == SMS_SYSTEM);
    names.all(|name| name["use"] == "old")
}

/// What of a receipt is for those who operate.
fn tell_of(applied: &Applied) {
    if applied.again {
        count_again();
    }
    if applied.differs {
        metrics::counter!("sms_unknown_receipts_total").increment(1);
        tracing::warn!(
            "sms: the provider calls a message otherwise in its receipt than in its answer, and it was found by its mark: see smpp.message_ids"
        );
    }
}

impl SmsDoor {
    /// Writes a receipt down. False when somebody else changed the message meanwhile.
    pub(super) async fn note(
        &self,
        permit: &Permit,
        communication: &str,
        receipt: &Receipt<'_>,
    ) -> Result<bool, Unheard> {
        let vault = self.trust.vault();
        if !fhir::is_id(communication) {
            return Err(Unheard::Unknown);
        }
        let kind = ResourceType::Communication;
        let found = vault.load(permit, kind, communication).await?;
        let found = found.filter(|found| !found.deleted);
        let found = found.ok_or(Unheard::Unknown)?;
        let mut resource = found.resource;
        let Some(patient) = resource.patient().map(str::to_owned) else {
            return Err(Unheard::Unknown);
        };
        let now_ms = vault.ledger().clock().now_ms();
        let applied = apply(&mut resource, receipt, now_ms);
        if !applied.changed {
            tell_of(&applied);
            return Ok(true);
        }
        resource.strip_meta();
        let unit = Unit {
            changes: vec![Change::Put {
                resource,
                expected: Expected::Version(found.version),
            }],
            patient: Some(patient),
            note: Some(format!(
                "receipt of a text message: {}",
                receipt.stand.name()
            )),
            ..Unit::default()
        };
        match vault.commit(permit, unit).await {
            Ok(_) => {
                tell_of(&applied);
                Ok(true)
            }
            Err(TrustError::Ledger(LedgerError::Conflict)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(status: &str) -> Resource {
        Resource::from_value(json!({"resourceType": "Communication", "id": "c", "status": status}))
            .expect("a message")
    }

    #[test]
    fn receipts_move_a_message_on_and_never_back() {
        use Stand::{Arrived, Failed, UnderWay};
        for (before, stands, after) in [
            ("preparation", &[UnderWay][..], "in-progress"),
            ("preparation", &[Arrived], "completed"),
            ("in-progress", &[UnderWay, Arrived], "completed"),
            ("in-progress", &[Arrived, UnderWay], "completed"),
            ("in-progress", &[Failed], "not-done"),
            ("in-progress", &[Arrived, Failed], "completed"),
            ("in-progress", &[Failed, Arrived], "completed"),
            // Called off, or too late: it goes its way, and what arrived has arrived.
            ("stopped", &[UnderWay], "stopped"),
            ("stopped", &[Failed], "stopped"),
            ("not-done", &[Arrived], "completed"),
            ("on-hold", &[UnderWay], "in-progress"),
            ("on-hold", &[Failed], "not-done"),
            ("on-hold", &[Arrived], "completed"),
            ("entered-in-error", &[Arrived], "entered-in-error"),
        ] {
            let mut message = message(before);
            for stand in stands {
                let receipt = Receipt {
                    reference: "SM1",
                    stand: *stand,
                    error: Some(30_003),
                    is_by_mark: false,
                };
                apply(&mut message, &receipt, 0);
                let again = apply(&mut message, &receipt, 1);
                assert!(!again.changed && !again.again, "{before} {stands:?} twice");
            }
            assert_eq!(
                message.text_at(&["status"]),
                Some(after),
                "{before} {stands:?}"
            );
            assert_eq!(references(&message), ["SM1"]);
        }
    }

    #[test]
    fn one_of_two_names_that_fails_is_no_failure() {
        let receipt = |reference, stand| Receipt {
            reference,
            stand,
            error: Some(30_003),
            is_by_mark: false,
        };
        for (second, expected) in [(Stand::Failed, "not-done"), (Stand::Arrived, "completed")] {
            let mut message = message("in-progress");
            apply(&mut message, &receipt("SM1", Stand::UnderWay), 0);
            apply(&mut message, &receipt("SM2", Stand::UnderWay), 0);
            assert!(apply(&mut message, &receipt("SM2", Stand::Failed), 0).changed);
            assert_eq!(message.text_at(&["status"]), Some("in-progress"));
            // Told again it says nothing of the other.
            assert!(!apply(&mut message, &receipt("SM2", Stand::Failed), 0).changed);
            assert_eq!(message.text_at(&["status"]), Some("in-progress"));
            apply(&mut message, &receipt("SM1", second), 0);
            assert_eq!(message.text_at(&["status"]), Some(expected));
        }
    }

    #[test]
    fn words_of_providers_mean_what_the_configuration_says() {
        use DeliveredWhen::{Delivered, Sent};
        for (word, when, expected) in [
            ("queued", Delivered, Some(Stand::UnderWay)),
            ("sent", Delivered, Some(Stand::UnderWay)),
            ("sent", Sent, Some(Stand::Arrived)),
            ("delivered", Sent, Some(Stand::Arrived)),
            ("undelivered", Sent, Some(Stand::Failed)),
            ("received", Delivered, None),
            ("", Delivered, None),
        ] {
            assert_eq!(Stand::parse(word, when), expected, "{word} {when:?}");
        }
    }

    #[test]
    fn a_message_that_the_provider_has_twice_is_known() {
        let mut message = message("in-progress");
        let receipt = |reference| Receipt {
            reference,
            stand: Stand::UnderWay,
            error: None,
            is_by_mark: false,
        };
        assert!(!apply(&mut message, &receipt("SM1"), 0).again);
        assert!(apply(&mut message, &receipt("SM2"), 0).again);
        assert!(!apply(&mut message, &receipt("SM2"), 0).again);
        assert_eq!(references(&message), ["SM1", "SM2"]);
    }

    #[test]
    fn a_message_that_is_called_otherwise_in_receipts_is_there_once() {
        let receipt = |stand| Receipt {
            reference: "255",
            stand,
            error: None,
            is_by_mark: true,
        };
        let mut once = message("in-progress");
        refer(&mut once, "ff");
        let applied = apply(&mut once, &receipt(Stand::Failed), 0);
        assert!(applied.differs && applied.changed && !applied.again);
        assert_eq!(once.text_at(&["status"]), Some("not-done"));
        assert_eq!(references(&once), ["ff"]);
        // Brought again it is the same.
        assert!(!apply(&mut once, &receipt(Stand::Failed), 0).changed);
        assert_eq!(references(&once), ["ff"]);
        // One that was handed over without an answer may be there twice.
        let mut twice = message("in-progress");
        refer(&mut twice, "ff");
        trust::outgoing::set_unanswered(&mut twice, 1);
        assert!(apply(&mut twice, &receipt(Stand::Failed), 0).again);
        assert_eq!(twice.text_at(&["status"]), Some("in-progress"));
        assert_eq!(references(&twice), ["ff", "255"]);
    }
}
