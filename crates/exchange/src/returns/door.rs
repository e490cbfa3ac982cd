//! Where a mail server hands in what came back.

use fhir::{Resource, ResourceType};
use ledger::{Expected, LedgerError, TenantId};
use serde_json::{Value, json};
use trust::conventions::NOT_DONE_SYSTEM;
use trust::{
    Action, AddressMark, AddressTrouble, Agent, Change, Permit, Purpose, Target, Trust, TrustError,
    Unit, Vault,
};

use super::address::{Of, ReturnTo, same};
use super::believe::sent_to;
use super::report::{self, Says, Status};
use super::{ReturnOptions, uuid};
use crate::check::Reason;
use crate::deliverer::{CONFLICTS_MAX, PART};

/// The fewest characters of a secret: who guesses it can say that messages did not arrive.
const SECRET_MIN: usize = 20;
/// How long after it was sent a message can come back, milliseconds: mail servers try for four to five days (RFC 5321,
/// section 4.5.4.1), and some tell late. What comes after that is an old report played again.
const FAILS_WITHIN_MS: u64 = 15 * 24 * 3_600_000;
/// How long after it was sent somebody can complain of it, milliseconds.
const COMPLAINED_OF_WITHIN_MS: u64 = 90 * 24 * 3_600_000;
/// The most reports that are written down with one message: who makes up ever new ones fills nothing.
const NOTES_MAX: usize = 12;
/// What the note of a report begins with.
const NOTE: &str = "E-mail ";

/// Takes what came back.
pub struct ReturnsDoor {
    trust: Trust,
    tenant: TenantId,
    to: ReturnTo,
    secret: String,
}

/// Why something that came back was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Unreturned {
    /// It is of no mail that was sent from here, or the address was made up.
    #[error("no mail was sent from here with this return address")]
    Unknown,
    /// It came before it was written down that its mail was sent.
    #[error("its mail is still under way")]
    TooEarly,
    /// The message kept changing meanwhile.
    #[error("the message kept changing")]
    Contended,
    /// The store's or a policy's fault.
    #[error(transparent)]
    Trust(TrustError),
}

impl From<TrustError> for Unreturned {
    fn from(error: TrustError) -> Self {
        Self::Trust(error)
    }
}

impl ReturnsDoor {
    /// Checks options.
    ///
    /// # Errors
    /// In words, when the address or the secret won't do.
    pub fn new(trust: Trust, tenant: TenantId, options: &ReturnOptions) -> Result<Self, String> {
        if options.secret.len() < SECRET_MIN {
            return Err(format!(
                "the secret for mail that comes back has fewer than {SECRET_MIN} characters"
            ));
        }
        Ok(Self {
            trust,
            tenant,
            to: ReturnTo::parse(&options.address)?,
            secret: options.secret.clone(),
        })
    }

    /// Whether somebody may hand mail in.
    #[must_use]
    pub fn admits(&self, secret: Option<&str>) -> bool {
        secret.is_some_and(|secret| same(secret.as_bytes(), self.secret.as_bytes()))
    }

    /// Takes a mail that came back to `recipient`.
    ///
    /// # Errors
    /// See [`Unreturned`]. What says nothing that we understand is no error.
    pub async fn take(
        &self,
        recipient: &str,
        mail: &[u8],
        request_id: &str,
    ) -> Result<(), Unreturned> {
        let report = report::read(mail);
        metrics::counter!("mail_returned_total", "what" => name(report.says)).increment(1);
        let ledger = self.trust.vault().ledger();
        let read = |address: &str| self.to.read(ledger, self.tenant, address);
        let of = read(recipient).or_else(|| {
            // Complaints come to where the provider was told to send them, and name the mail within.
            let complaint = report.says == Says::Complaint;
            read(report.of.as_deref().filter(|_| complaint)?)
        });
        match of {
            None => Err(Unreturned::Unknown),
            Some(Of::Notice(id)) => {
                if let Says::Failed(status) = report.says {
                    let code = status.map(|status| status.to_string());
                    // Somebody has to be told in another way.
                    tracing::error!(outbox = %crate::deliverer::hex(id), code, "mail: a notice to staff came back");
                }
                Ok(())
            }
            Some(Of::Message(id)) => self.note(&uuid(id), report.says, request_id).await,
        }
    }

    async fn permit(&self, patient: Option<&str>, request_id: &str) -> Result<Permit, TrustError> {
        let agent = Agent::system(self.tenant, PART);
        let target = Target {
            kind: Some(ResourceType::Communication),
            patient: patient.map(str::to_owned),
        };
        self.trust
            .decide(
                &agent,
                Purpose::Operations,
                Action::Send,
                target,
                request_id,
            )
            .await
    }

    /// Writes down with a message what came back of it.
    async fn note(
        &self,
        communication: &str,
        says: Says,
        request_id: &str,
    ) -> Result<(), Unreturned> {
        let vault = self.trust.vault();
        let of_nobody = self.permit(None, request_id).await?;
        for _ in 0..CONFLICTS_MAX {
            let kind = ResourceType::Communication;
            let found = vault.load(&of_nobody, kind, communication).await;
            let found = match found {
                // Its patient's record was destroyed.
                Err(TrustError::Ledger(LedgerError::KeyDestroyed)) => None,
                found => found?,
            };
            let Some(found) = found.filter(|found| !found.deleted) else {
                return Err(Unreturned::Unknown);
            };
            let mut resource = found.resource;
            let Some(patient) = resource.patient().map(str::to_owned) else {
                return Err(Unreturned::Unknown);
            };
            let Some(address_id) = sent_to(&resource).map(str::to_owned) else {
                return Err(Unreturned::TooEarly);
            };
            let now_ms = vault.ledger().clock().now_ms();
            let applied = apply(&mut resource, says, now_ms);
            if !applied.changed {
                return Ok(());
            }
            let permit = self.permit(Some(&patient), request_id).await?;
            resource.strip_meta();
            let mut unit = Unit {
                changes: vec![Change::Put {
                    resource,
                    expected: Expected::Version(found.version),
                }],
                patient: Some(patient.clone()),
                note: Some(format!("an e-mail came back: {}", words(says))),
                ..Unit::default()
            };
            if let Some(mark) = &applied.mark {
                let (known, expected) = vault.address_mark(&permit, &address_id).await?;
                // A complaint stays one when the mailbox is gone besides.
                if known.is_none() {
                    let mark = Vault::mark_address(&patient, &address_id, Some(mark), expected);
                    unit.internals.push(mark);
                }
            }
            match vault.commit(&permit, unit).await {
                Ok(_) => {
                    if let Some(mark) = &applied.mark {
                        let why = match mark.why {
                            AddressTrouble::Bounced => "bounced",
                            AddressTrouble::Complained => "complained",
                        };
                        metrics::counter!("mail_addresses_marked_total", "why" => why).increment(1);
                    }
                    return Ok(());
                }
                Err(TrustError::Ledger(LedgerError::Conflict)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Unreturned::Contended)
    }
}

/// The `what` label of the metric `mail_returned_total`.
fn name(says: Says) -> &'static str {
    match says {
        Says::Failed(_) => "failed",
        Says::Delayed(_) => "delayed",
        Says::Arrived => "arrived",
        Says::Complaint => "complaint",
        Says::Other => "other",
    }
}

/// What is written down, for people: codes and nothing of another's words.
fn words(says: Says) -> String {
    let because = |status: Option<Status>| {
        status.map_or_else(
            || "a mail server gave no reason".to_owned(),
            |status| format!("{} ({status})", status.words()),
        )
    };
    match says {
        Says::Failed(status) => format!("not delivered: {}", because(status)),
        Says::Delayed(status) => format!("delayed, and still tried: {}", because(status)),
        Says::Arrived => "delivered, a mail server says".to_owned(),
        Says::Complaint => "who got it told their provider that it is unwanted".to_owned(),
        Says::Other => "nothing that is understood here".to_owned(),
    }
}

/// What a report has changed.
struct Applied {
    changed: bool,
    mark: Option<AddressMark>,
}

/// Writes a report into its message. One that comes again changes nothing, so that no address is marked by it that
/// somebody has cleared since.
fn apply(communication: &mut Resource, says: Says, now_ms: u64) -> Applied {
    let nothing = Applied {
        changed: false,
        mark: None,
    };
    let sent_ms = communication
        .text_at(&["sent"])
        .and_then(fhir::date::parse)
        .and_then(|sent| u64::try_from(sent.start_ms).ok());
    let within_ms = match says {
        Says::Other => return nothing,
        Says::Complaint => COMPLAINED_OF_WITHIN_MS,
        _ => FAILS_WITHIN_MS,
    };
    if sent_ms.is_none_or(|sent_ms| now_ms.saturating_sub(sent_ms) > within_ms) {
        return nothing;
    }
    let status = communication.text_at(&["status"]).unwrap_or_default();
    let status = status.to_owned();
    let under_way = status == "in-progress";
    let mut mark = None;
    match says {
        Says::Arrived if !under_way => return nothing,
        Says::Arrived => {
            communication.set("status", json!("completed"));
            communication.remove("statusReason");
        }
        // What is delayed and said to be delivered, or failed, by now is not news.
        Says::Delayed(_) if !matches!(status.as_str(), "in-progress" | "completed") => {
            return nothing;
        }
        Says::Delayed(_) => {}
        Says::Failed(code) => {
            if code.is_some_and(Status::is_about_the_address) {
                mark = Some(AddressTrouble::Bounced);
            }
            if matches!(status.as_str(), "in-progress" | "completed") {
                communication.set("status", json!("not-done"));
                let reason = json!({
                    "coding": [{"system": NOT_DONE_SYSTEM, "code": Reason::Returned.code()}],
                    "text": format!("It came back. {}.", capital(&words(says))),
                });
                communication.set("statusReason", reason);
            }
        }
        Says::Complaint => mark = Some(AddressTrouble::Complained),
        Says::Other => return nothing,
    }
    if !remark(communication, &format!("{NOTE}{}.", words(says)), now_ms) {
        return nothing;
    }
    let code = match says {
        Says::Failed(status) => status.map(|status| status.to_string()),
        _ => None,
    };
    Applied {
        changed: true,
        mark: mark.map(|why| AddressMark {
            why,
            code,
            at_ms: now_ms,
        }),
    }
}

/// Adds the note of a report to a message; false where it stands there already, or there are too many.
fn remark(communication: &mut Resource, text: &str, now_ms: u64) -> bool {
    let notes = communication.get("note").and_then(Value::as_array);
    let mut notes = notes.cloned().unwrap_or_default();
    let reports = notes.iter().filter_map(|note| note["text"].as_str());
    let reports: Vec<&str> = reports.filter(|text| text.starts_with(NOTE)).collect();
    if reports.len() >= NOTES_MAX || reports.contains(&text) {
        return false;
    }
    notes.push(json!({"text": text, "time": fhir::date::instant(now_ms)}));
    communication.set("note", Value::Array(notes));
    true
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next();
    first
        .into_iter()
        .flat_map(char::to_uppercase)
        .chain(letters)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT_MS: u64 = 1_793_000_000_000;

    fn message(status: &str) -> Resource {
        Resource::from_value(json!({
            "resourceType": "Communication", "id": "c", "status": status,
            "sent": fhir::date::instant(SENT_MS)
        }))
        .expect("a message")
    }

    fn failed(code: &str) -> Says {
        let mail = format!(
            "Content-Type: multipart/report; boundary=b\r\n\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\nAction: failed\r\nStatus: {code}\r\n--b--\r\n"
        );
        report::read(mail.as_bytes()).says
    }

    #[test]
    fn reports_change_a_message_once_and_mark_an_address_once() {
        let day_ms = 24 * 3_600_000;
        use AddressTrouble::{Bounced, Complained};
        for (before, says, after_ms, after, mark) in [
            ("in-progress", failed("5.1.1"), 0, "not-done", Some(Bounced)),
            (
                "completed",
                failed("5.1.1"),
                day_ms,
                "not-done",
                Some(Bounced),
            ),
            ("in-progress", failed("5.2.2"), 0, "not-done", None),
            ("in-progress", failed("4.4.7"), 0, "not-done", None),
            ("in-progress", failed("x"), 0, "not-done", None),
            ("stopped", failed("5.1.1"), 0, "stopped", Some(Bounced)),
            (
                "entered-in-error",
                failed("5.2.2"),
                0,
                "entered-in-error",
                None,
            ),
            ("in-progress", Says::Delayed(None), 0, "in-progress", None),
            ("completed", Says::Delayed(None), 0, "completed", None),
            ("in-progress", Says::Arrived, 0, "completed", None),
            (
                "completed",
                Says::Complaint,
                60 * day_ms,
                "completed",
                Some(Complained),
            ),
        ] {
            let mut message = message(before);
            let applied = apply(&mut message, says, SENT_MS + after_ms);
            assert!(applied.changed, "{before} {says:?}");
            assert_eq!(applied.mark.map(|mark| mark.why), mark, "{before} {says:?}");
            assert_eq!(
                message.text_at(&["status"]),
                Some(after),
                "{before} {says:?}"
            );
            let again = apply(&mut message, says, SENT_MS + after_ms);
            assert!(
                !again.changed && again.mark.is_none(),
                "{before} {says:?} again"
            );
        }
        for (before, says, after_ms) in [
            ("not-done", Says::Arrived, 0),
            ("not-done", Says::Delayed(None), 0),
            ("completed", Says::Arrived, 0),
            ("completed", Says::Other, 0),
            ("completed", failed("5.1.1"), 16 * day_ms),
            ("completed", Says::Complaint, 91 * day_ms),
        ] {
            let mut message = message(before);
            let applied = apply(&mut message, says, SENT_MS + after_ms);
            assert!(
                !applied.changed && applied.mark.is_none(),
                "{before} {says:?}"
            );
            assert_eq!(
                message.text_at(&["status"]),
                Some(before),
                "{before} {says:?}"
            );
        }
    }

    #[test]
    fn notes_have_a_bound() {
        let mut message = message("completed");
        let mut changed = 0;
        for detail in 0..100 {
            let says = failed(&format!("5.3.{detail}"));
            message.set("status", json!("completed"));
            changed += usize::from(apply(&mut message, says, SENT_MS).changed);
        }
        assert!(changed <= NOTES_MAX, "{changed}");
        let notes = message.get("note").and_then(Value::as_array);
        assert!(notes.is_some_and(|notes| notes.len() <= NOTES_MAX));
    }
}
