//! Where a mail server hands in what came back.

use fhir::{Resource, ResourceType};
use ledger::{Expected, LedgerError, TenantId};
use serde_json::{Value, json};
use trust::attempts::{Attempted, Did};
use trust::conventions::NOT_DONE_SYSTEM;
use trust::{
    Action, AddressMark, AddressStanding, AddressTrouble, Agent, Change, Permit, Purpose, Target,
    Trust, TrustError, Unit, Vault, kinds,
};

use super::address::{Of, ReturnTo, same, short};
use super::believe::sent_to;
use super::report::{self, Says, Status};
use super::{ReturnOptions, uuid};
use crate::attempt::CONFLICTS_MAX;
use crate::check::Reason;
use crate::mail::PART;

/// The fewest characters of a secret: who guesses it can say that messages did not arrive.
const SECRET_MIN: usize = 20;
/// How long after it was sent a message can come back, milliseconds: mail servers try for four to five days (RFC 5321,
/// section 4.5.4.1), and some tell late. What comes after that is an old report played again.
const FAILS_WITHIN_MS: u64 = 15 * 24 * 3_600_000;
/// How long after it was sent somebody can complain of it, milliseconds.
const COMPLAINED_OF_WITHIN_MS: u64 = 90 * 24 * 3_600_000;
/// How long after a first report of what may pass a second one marks the address, milliseconds.
const ANOTHER_DAY_MS: u64 = 20 * 3_600_000;
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
        let ledger = self.trust.vault().ledger();
        let read = |address: &str| {
            let read = self.to.read(ledger, self.tenant, address);
            read.map_err(|error| Unreturned::Trust(error.into()))
        };
        let own = read(recipient)?;
        // Complaints come to where the provider was told to send them, and name the mail within. What comes to any other
        // address isn't looked at.
        if own.is_none() && !self.to.is_bare(recipient) {
            return Err(self.unknown().await);
        }
        let report = report::read(mail);
        let mut of = own;
        if own.is_none() && report.says == Says::Complaint {
            for named in &report.of {
                of = of.or(read(named)?);
            }
        }
        let Some((of, went_to)) = of else {
            return Err(self.unknown().await);
        };
        metrics::counter!("mail_returned_total", "what" => name(report.says)).increment(1);
        match of {
            Of::Notice(id) => {
                if let Says::Failed(status) = report.says {
                    let code = status.map(|status| status.to_string());
                    // Somebody has to be told in another way.
                    tracing::error!(outbox = %crate::deliverer::hex(id), code, "mail: a notice to staff came back");
                }
                Ok(())
            }
            Of::Message(id) => {
                let is_to = |address_id: &str| {
                    let right = short(ledger, self.tenant, of, address_id);
                    right.map(|right| right == went_to)
                };
                let id = uuid(id);
                Box::pin(self.note(&id, is_to, report.says, request_id)).await
            }
        }
    }

    /// That it is of no mail of ours; or that nobody can tell, because the keys by which it would be known are not there.
    async fn unknown(&self) -> Unreturned {
        let ledger = self.trust.vault().ledger();
        let asked = ledger.get(self.tenant, kinds::ADDRESS_MARK, "-").await;
        match asked {
            Ok(_) => Unreturned::Unknown,
            Err(error) => Unreturned::Trust(error.into()),
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
        is_to: impl Fn(&str) -> Result<bool, LedgerError>,
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
            let to_it = is_to(&address_id).map_err(TrustError::from)?;
            let permit = self.permit(Some(&patient), request_id).await?;
            let (standing, expected) = vault.address_standing(&permit, &address_id).await?;
            let now_ms = vault.ledger().clock().now_ms();
            // One of an earlier attempt, which went to another address, says nothing of this one.
            let applied = if to_it {
                apply(&mut resource, &standing, says, now_ms)
            } else {
                of_another_address(&mut resource, says, now_ms)
            };
            if !applied.changed {
                return Ok(());
            }
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
            if let Some(standing) = &applied.standing {
                let standing = Vault::stand_address(&patient, &address_id, standing, expected);
                unit.internals.push(standing);
            }
            let before = standing.mark.map(|mark| mark.why);
            let marked = applied.standing.and_then(|standing| standing.mark);
            let marked = marked
                .map(|mark| mark.why)
                .filter(|why| before != Some(*why));
            match vault.commit(&permit, unit).await {
                Ok(_) => {
                    if let Some(why) = marked {
                        let why = match why {
                            AddressTrouble::Bounced | AddressTrouble::Other => "bounced",
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

/// What a report says, as attempts have it.
fn did(says: Says) -> Did {
    match says {
        Says::Failed(_) => Did::Returned,
        Says::Delayed(_) | Says::Other => Did::Delayed,
        Says::Arrived => Did::Arrived,
        Says::Complaint => Did::Unwanted,
    }
}

/// What a report has changed.
#[derive(Default)]
struct Applied {
    changed: bool,
    /// How the address stands by now, if that has changed.
    standing: Option<AddressStanding>,
}

/// When a message was sent, if a report can still be of it.
fn sent_within(communication: &Resource, says: Says, now_ms: u64) -> Option<u64> {
    let sent = communication.text_at(&["sent"]).and_then(fhir::date::parse);
    let sent_ms = sent.and_then(|sent| u64::try_from(sent.start_ms).ok())?;
    let within_ms = match says {
        Says::Other => return None,
        Says::Complaint => COMPLAINED_OF_WITHIN_MS,
        _ => FAILS_WITHIN_MS,
    };
    (now_ms.saturating_sub(sent_ms) <= within_ms).then_some(sent_ms)
}

/// Writes down a report of an attempt that went elsewhere: as a note, and nothing more.
fn of_another_address(communication: &mut Resource, says: Says, now_ms: u64) -> Applied {
    let text = format!("{NOTE}to a former address {}.", words(says));
    Applied {
        changed: sent_within(communication, says, now_ms).is_some()
            // The message itself went on to another address.
            && remark(communication, (Did::PutOff, &text), now_ms),
        standing: None,
    }
}

/// Writes a report into its message. One that comes again changes nothing.
fn apply(
    communication: &mut Resource,
    standing: &AddressStanding,
    says: Says,
    now_ms: u64,
) -> Applied {
    let Some(sent_ms) = sent_within(communication, says, now_ms) else {
        return Applied::default();
    };
    let status = communication.text_at(&["status"]).unwrap_or_default();
    let status = status.to_owned();
    let under_way = status == "in-progress";
    let text = format!("{NOTE}{}.", words(says));
    if !remark(communication, (did(says), &text), now_ms) {
        return Applied::default();
    }
    match says {
        Says::Arrived if under_way => {
            communication.set("status", json!("completed"));
            communication.remove("statusReason");
        }
        // What is delayed and said to be delivered, or failed, by now is not news.
        Says::Delayed(_) if under_way || status == "completed" => {}
        Says::Arrived | Says::Delayed(_) => return Applied::default(),
        // What counts as delivered already stays in the portal: its journey has gone on, and offers it nowhere else.
        Says::Failed(_) if under_way => {
            communication.set("status", json!("not-done"));
            let reason = json!({
                "coding": [{"system": NOT_DONE_SYSTEM, "code": Reason::Returned.code()}],
                "text": format!("It came back. {}.", capital(&words(says))),
            });
            communication.set("statusReason", reason);
        }
        Says::Failed(_) | Says::Complaint | Says::Other => {}
    }
    // What was sent before somebody let the address be written to again was known to them, or would have been.
    let is_old = standing
        .cleared_ms
        .is_some_and(|cleared_ms| sent_ms <= cleared_ms);
    Applied {
        changed: true,
        standing: (!is_old).then(|| told(standing, says, now_ms)).flatten(),
    }
}

/// How an address stands after a report of a mail that went there, if that is news.
fn told(standing: &AddressStanding, says: Says, now_ms: u64) -> Option<AddressStanding> {
    let marked = |why, code: Option<Status>| AddressStanding {
        mark: Some(AddressMark {
            why,
            code: code.map(|code| code.to_string()),
            at_ms: now_ms,
        }),
        ..standing.clone()
    };
    let known = standing.mark.as_ref().map(|mark| mark.why);
    match says {
        // It stays one when the mailbox is gone besides, and it weighs more than that it was.
        Says::Complaint if known != Some(AddressTrouble::Complained) => {
            Some(marked(AddressTrouble::Complained, None))
        }
        Says::Failed(Some(code)) if known.is_none() => {
            if code.is_about_the_address() {
                return Some(marked(AddressTrouble::Bounced, Some(code)));
            }
            if !code.may_be_about_the_address() {
                return None;
            }
            match standing.doubted_ms {
                Some(doubted_ms) if now_ms.saturating_sub(doubted_ms) >= ANOTHER_DAY_MS => {
                    Some(marked(AddressTrouble::Bounced, Some(code)))
                }
                Some(_) => None,
                None => Some(AddressStanding {
                    doubted_ms: Some(now_ms),
                    ..standing.clone()
                }),
            }
        }
        _ => None,
    }
}

/// Adds the note of a report to a message; false where it stands there already. Of too many, the oldest goes.
fn remark(communication: &mut Resource, (did, text): (Did, &str), now_ms: u64) -> bool {
    let notes = communication.get("note").and_then(Value::as_array);
    let mut notes = notes.cloned().unwrap_or_default();
    let is_report =
        |note: &Value| (note["text"].as_str()).is_some_and(|text| text.starts_with(NOTE));
    if notes.iter().any(|note| note["text"] == text) {
        return false;
    }
    if notes.iter().filter(|note| is_report(note)).count() >= NOTES_MAX
        && let Some(oldest) = notes.iter().position(is_report)
    {
        notes.remove(oldest);
    }
    notes.push(Attempted::new(did, text, now_ms).note());
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
        let fresh = AddressStanding::default();
        for (before, says, after_ms, after, mark) in [
            ("in-progress", failed("5.1.1"), 0, "not-done", Some(Bounced)),
            // What counts as delivered stays: it lies in the portal.
            (
                "completed",
                failed("5.1.1"),
                day_ms,
                "completed",
                Some(Bounced),
            ),
            ("in-progress", failed("5.2.2"), 0, "not-done", None),
            ("in-progress", failed("5.1.2"), 0, "not-done", None),
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
            let applied = apply(&mut message, &fresh, says, SENT_MS + after_ms);
            assert!(applied.changed, "{before} {says:?}");
            let marked = applied.standing.and_then(|standing| standing.mark);
            assert_eq!(marked.map(|mark| mark.why), mark, "{before} {says:?}");
            assert_eq!(
                message.text_at(&["status"]),
                Some(after),
                "{before} {says:?}"
            );
            let again = apply(&mut message, &fresh, says, SENT_MS + after_ms);
            assert!(
                !again.changed && again.standing.is_none(),
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
            let applied = apply(&mut message, &fresh, says, SENT_MS + after_ms);
            assert!(
                !applied.changed && applied.standing.is_none(),
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
    fn what_is_known_of_an_address_grows_with_what_comes_back() {
        let hour_ms = 3_600_000;
        let fresh = AddressStanding::default();
        let why = |standing: &AddressStanding| standing.mark.as_ref().map(|mark| mark.why);
        // What may pass marks when it comes on another day, too.
        let doubted = told(&fresh, failed("5.1.2"), SENT_MS).expect("a doubt");
        assert_eq!((why(&doubted), doubted.doubted_ms), (None, Some(SENT_MS)));
        assert_eq!(told(&doubted, failed("5.1.2"), SENT_MS + hour_ms), None);
        let marked = told(&doubted, failed("5.2.1"), SENT_MS + 24 * hour_ms).expect("a mark");
        assert_eq!(why(&marked), Some(AddressTrouble::Bounced));
        assert_eq!(told(&fresh, failed("5.2.2"), SENT_MS), None);
        // A complaint takes the place of a bounce, and no bounce that of a complaint.
        let complained = told(&marked, Says::Complaint, SENT_MS).expect("a mark");
        assert_eq!(why(&complained), Some(AddressTrouble::Complained));
        assert_eq!(told(&complained, failed("5.1.1"), SENT_MS), None);
        assert_eq!(told(&complained, Says::Complaint, SENT_MS), None);
        // Of what was sent before somebody cleared it, nothing marks it again.
        for (cleared_ms, marks) in [(SENT_MS + 1, false), (SENT_MS - 1, true)] {
            let cleared = AddressStanding {
                cleared_ms: Some(cleared_ms),
                ..fresh.clone()
            };
            let mut message = message("in-progress");
            let applied = apply(&mut message, &cleared, failed("5.1.1"), SENT_MS + hour_ms);
            assert!(applied.changed);
            assert_eq!(applied.standing.is_some(), marks, "{cleared_ms}");
        }
    }

    #[test]
    fn what_went_elsewhere_is_noted_alone() {
        let mut message = message("in-progress");
        let applied = of_another_address(&mut message, failed("5.1.1"), SENT_MS);
        assert!(applied.changed && applied.standing.is_none());
        assert_eq!(message.text_at(&["status"]), Some("in-progress"));
        assert!(!of_another_address(&mut message, failed("5.1.1"), SENT_MS).changed);
    }

    #[test]
    fn notes_have_a_bound_that_swallows_nothing() {
        let mut message = message("completed");
        let fresh = AddressStanding::default();
        for detail in 0..100 {
            let says = failed(&format!("5.3.{detail}"));
            assert!(apply(&mut message, &fresh, says, SENT_MS).changed);
            let notes = message.get("note").and_then(Value::as_array);
            assert!(notes.is_some_and(|notes| notes.len() <= NOTES_MAX));
        }
        message.set("status", json!("in-progress"));
        let applied = apply(&mut message, &fresh, failed("5.1.1"), SENT_MS);
        assert!(applied.standing.is_some());
        assert_eq!(message.text_at(&["status"]), Some("not-done"));
    }
}
