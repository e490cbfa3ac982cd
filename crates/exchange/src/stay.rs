//! Whether a patient is in hospital when a message would leave. The question is pure; what it is asked of is looked up anew
//! each time.

use fhir::search::SearchQuery;
use fhir::{Resource, ResourceType};
use trust::attempts::{Did, attempts};
use trust::consent::Waits;
use trust::outgoing::WhileAdmitted;
use trust::{Action, Purpose, Question, Role};

use crate::attempt::Attempt;
use crate::carrier::Carrier;
use crate::check::{Reason, Refused};
use crate::deliverer::{DeliverError, Inner};
use crate::files::next_closing;
use crate::outcome::Outcome;

/// HL7's code system of classes of encounters.
const CLASS_SYSTEM: &str = "http://terminology.hl7.org/CodeSystem/v3-ActCode";
/// Classes of encounters in which somebody is in hospital (HL7 v3 `ActEncounterCode`): inpatient, acute and not, a short
/// stay, under observation, and in the emergency department.
const CLASSES: [&str; 6] = ["IMP", "ACUTE", "NONAC", "SS", "OBSENC", "EMER"];
/// Statuses in which they are there. Who is on leave from a ward is still its patient.
const STATUSES: &str = "arrived,triaged,in-progress,onleave";
/// After how long it is asked first anew whether a stay has ended, care clock: nothing tells a message that waits.
const AGAIN_MS: u64 = 15 * 60_000;
/// After how long it is asked anew at the latest. Each look is a commit with a line of the audit, and some stays have no
/// end, because nobody closed them: a message that has waited for long is asked about as seldom.
const SELDOM_MS: u64 = 6 * 3_600_000;
/// How long before its time is over it is asked last, so that its journey hears why, and not only that it is late.
const LAST_MS: u64 = 60_000;

/// Whether one of a patient's encounters of these statuses is a stay that goes on. One whose end has passed is over,
/// whatever its status says, and one that begins later has not begun.
fn is_stay(encounter: &Resource, now_ms: u64) -> bool {
    let class = encounter.get("class");
    let system = class.and_then(|class| class["system"].as_str());
    let code = class.and_then(|class| class["code"].as_str());
    let is_of_class = system.is_none_or(|system| system == CLASS_SYSTEM)
        && code.is_some_and(|code| CLASSES.contains(&code));
    let at = |member| {
        let text = encounter.text_at(&["period", member])?;
        fhir::date::parse(text)
    };
    let now_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
    let is_over = at("end").is_some_and(|end| end.end_ms <= now_ms);
    let is_ahead = at("start").is_some_and(|start| start.start_ms > now_ms);
    is_of_class && !is_over && !is_ahead
}

/// Whether policies let the part look at stays. A policy folder of before says nothing of it: then messages go as they went
/// before, and don't wait for ever.
fn may_look(inner: &Inner, purpose: Purpose) -> bool {
    let question = Question {
        role: Role::System,
        part: Some(inner.carrier.part().to_owned()),
        purpose,
        action: Action::Search,
        kind: Some(ResourceType::Encounter),
        own: false,
        around: inner.trust.usual_around(),
    };
    inner.trust.policy_set().allows(&question)
}

/// Says so in the log, once.
pub(crate) fn tell_where_it_is_not_asked(inner: &Inner) {
    if !may_look(inner, Purpose::Treatment) {
        let (name, part) = (inner.carrier.name(), inner.carrier.part());
        tracing::warn!(
            part,
            "{name}: policies don't let this part look at Encounter, so messages go to who is in hospital as to everybody"
        );
    }
}

/// When a message that waits may be asked about next.
#[derive(Debug, Clone, Copy)]
enum Again {
    /// At any time, and then.
    Any(u64),
    /// Then, and not before: what goes out in batches is decided on when one is closed.
    Closing(u64),
}

/// When it is asked again: after as long as it has waited already, within bounds, so that it waits no more than twice as
/// long as it must.
fn again_ms(now_ms: u64, since_ms: u64) -> u64 {
    let waited_ms = now_ms.saturating_sub(since_ms);
    now_ms.saturating_add(waited_ms.clamp(AGAIN_MS, SELDOM_MS))
}

/// What becomes of a message to somebody in hospital.
fn decide(
    policy: WhileAdmitted,
    now_ms: u64,
    again: Again,
    expires_ms: Option<u64>,
) -> Option<Outcome> {
    let not_done = |words: &str| Some(Outcome::NotDone(Refused::new(Reason::Admitted, words)));
    match policy {
        WhileAdmitted::Send => None,
        WhileAdmitted::Skip => {
            not_done("The patient is in hospital, and the journey sends this to nobody who is.")
        }
        WhileAdmitted::Hold => {
            let last_ms = expires_ms.map(|expires_ms| expires_ms.saturating_sub(LAST_MS));
            let is_over = |last_ms| match again {
                Again::Any(_) => now_ms >= last_ms,
                Again::Closing(at_ms) => now_ms >= last_ms || at_ms > last_ms,
            };
            if last_ms.is_some_and(is_over) {
                return not_done("The patient was in hospital for as long as it was of use.");
            }
            let due_ms = match (again, last_ms) {
                (Again::Any(at_ms), Some(last_ms)) => at_ms.min(last_ms),
                (Again::Any(at_ms) | Again::Closing(at_ms), _) => at_ms,
            };
            Some(Outcome::Waits {
                due_ms,
                why: Waits::Stay,
            })
        }
    }
}

/// Since when a message waits for the end of a stay, if it does already.
fn waits_since(communication: &Resource) -> Option<u64> {
    let last = attempts(communication).pop()?;
    let is_stay = last.did == Did::Waits && last.reason.as_deref() == Some(Reason::Admitted.code());
    is_stay.then_some(last.at_ms)
}

/// Whether a message waits for the end of a stay already. Asked again, that is no news.
pub(crate) fn waits_already(communication: &Resource) -> bool {
    waits_since(communication).is_some()
}

impl Attempt<'_> {
    /// What becomes of it where the patient is in hospital and its journey has said that it is not to go then; nothing where
    /// it goes.
    pub(crate) async fn admitted(&self) -> Result<Option<Outcome>, DeliverError> {
        let now_ms = self.inner.trust.vault().ledger().clock().now_ms();
        let (policy, expires_ms) = (self.message.while_admitted, self.message.expires_ms);
        // What goes anyway asks nothing.
        if policy == WhileAdmitted::Send {
            return Ok(None);
        }
        if !may_look(self.inner, self.permit.purpose()) {
            return Ok(None);
        }
        let parameters = [
            (
                "patient".to_owned(),
                format!("Patient/{}", self.message.patient),
            ),
            ("status".to_owned(), STATUSES.to_owned()),
        ];
        let query = SearchQuery::parse(ResourceType::Encounter, &parameters, false)
            .map_err(|outcome| DeliverError::Query(outcome.summary()))?;
        let mut is_in = false;
        let vault = self.inner.trust.vault();
        let take = |row: trust::Versioned| {
            is_in |= is_stay(&row.resource, now_ms);
            is_in
        };
        vault.load_until(&self.permit, &query, take).await?;
        if !is_in {
            return Ok(None);
        }
        let again = match &self.inner.carrier {
            Carrier::Files(files) => {
                let closing_ms = next_closing(files, now_ms);
                Again::Closing(closing_ms.unwrap_or_else(|| now_ms.saturating_add(AGAIN_MS)))
            }
            _ => {
                let found = self.current().await?;
                let since_ms = found.and_then(|found| waits_since(&found.resource));
                Again::Any(again_ms(now_ms, since_ms.unwrap_or(now_ms)))
            }
        };
        Ok(decide(policy, now_ms, again, expires_ms))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// 28 February 2026, 10:00 UTC.
    const NOW_MS: u64 = 1_772_272_800_000;

    #[test]
    fn a_stay_is_of_a_class_and_goes_on() {
        let class = |code: &str| json!({"system": CLASS_SYSTEM, "code": code});
        let none = Value::Null;
        for (what, class, period, expected) in [
            ("inpatient", class("IMP"), none.clone(), true),
            ("acute", class("ACUTE"), none.clone(), true),
            ("not acute", class("NONAC"), none.clone(), true),
            ("emergency", class("EMER"), none.clone(), true),
            ("a short stay", class("SS"), none.clone(), true),
            ("observation", class("OBSENC"), none.clone(), true),
            (
                "without a system",
                json!({"code": "IMP"}),
                none.clone(),
                true,
            ),
            (
                "of another system",
                json!({"system": "urn:ours", "code": "IMP"}),
                none.clone(),
                false,
            ),
            ("outpatient", class("AMB"), none.clone(), false),
            ("at home", class("HH"), none.clone(), false),
            ("virtual", class("VR"), none.clone(), false),
            ("no class", none.clone(), none.clone(), false),
            ("begun", class("IMP"), json!({"start": "2026-02-20"}), true),
            (
                "begins later",
                class("IMP"),
                json!({"start": "2026-02-28T11:00:00Z"}),
                false,
            ),
            (
                "ends later",
                class("IMP"),
                json!({"end": "2026-02-28T10:00:01Z"}),
                true,
            ),
            (
                "ends today",
                class("IMP"),
                json!({"end": "2026-02-28"}),
                true,
            ),
            (
                "ended",
                class("IMP"),
                json!({"end": "2026-02-28T09:59:59Z"}),
                false,
            ),
        ] {
            let mut encounter =
                json!({"resourceType": "Encounter", "id": "e", "status": "in-progress"});
            for (name, value) in [("class", class), ("period", period)] {
                if !value.is_null() {
                    encounter[name] = value;
                }
            }
            let encounter = Resource::from_value(encounter).expect("an encounter");
            assert_eq!(is_stay(&encounter, NOW_MS), expected, "{what}");
        }
    }

    #[test]
    fn what_is_held_is_asked_again_until_its_last_minute() {
        let waits = |due_ms| {
            Some(Outcome::Waits {
                due_ms,
                why: Waits::Stay,
            })
        };
        let reason = |outcome: Option<Outcome>| match outcome {
            Some(Outcome::NotDone(refused)) => refused.reason.code(),
            other => panic!("{other:?}"),
        };
        use WhileAdmitted::{Hold, Send, Skip};
        let again = Again::Any(NOW_MS + AGAIN_MS);
        assert_eq!(decide(Send, NOW_MS, again, None), None);
        assert_eq!(reason(decide(Skip, NOW_MS, again, None)), "admitted");
        assert_eq!(decide(Hold, NOW_MS, again, None), waits(NOW_MS + AGAIN_MS));
        let ends_ms = NOW_MS + AGAIN_MS;
        let last_ms = ends_ms - LAST_MS;
        let any = |now_ms| decide(Hold, now_ms, Again::Any(now_ms + AGAIN_MS), Some(ends_ms));
        assert_eq!(any(NOW_MS), waits(last_ms));
        assert_eq!(any(last_ms - 1), waits(last_ms));
        assert_eq!(reason(any(last_ms)), "admitted");
        // What goes out in batches waits for one that is closed within its time, or is told at once that there is none.
        let closing = |at_ms| decide(Hold, NOW_MS, Again::Closing(at_ms), Some(ends_ms));
        assert_eq!(closing(last_ms), waits(last_ms));
        assert_eq!(reason(closing(last_ms + 1)), "admitted");
        let never = decide(Hold, NOW_MS, Again::Closing(ends_ms), None);
        assert_eq!(never, waits(ends_ms));
    }

    #[test]
    fn what_waits_for_long_is_asked_about_seldom() {
        const HOUR_MS: u64 = 3_600_000;
        let (mut now_ms, mut looks) = (NOW_MS, Vec::new());
        while now_ms < NOW_MS + 48 * HOUR_MS {
            let next_ms = again_ms(now_ms, NOW_MS);
            looks.push((next_ms - now_ms) / 60_000);
            now_ms = next_ms;
        }
        assert_eq!(looks[..7], [15, 15, 30, 60, 120, 240, 360]);
        assert!(looks[7..].iter().all(|minutes| *minutes == 360));
        assert_eq!(looks.len(), 13);
        // A clock that was put back asks no more often.
        assert_eq!(again_ms(NOW_MS, NOW_MS + HOUR_MS), NOW_MS + AGAIN_MS);
    }
}
