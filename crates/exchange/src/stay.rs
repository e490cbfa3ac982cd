//! Whether a patient is in hospital when a message would leave. The question is pure; what it is asked of is looked up anew
//! each time.

use fhir::search::SearchQuery;
use fhir::{Resource, ResourceType};
use trust::attempts::{Did, attempts};
use trust::consent::Waits;
use trust::outgoing::WhileAdmitted;
use trust::{Action, Purpose, Question, Role};

use crate::attempt::Attempt;
use crate::check::{Reason, Refused};
use crate::deliverer::{DeliverError, Inner};
use crate::outcome::Outcome;

/// HL7's code system of classes of encounters.
const CLASS_SYSTEM: &str = "http://terminology.hl7.org/CodeSystem/v3-ActCode";
/// Classes of encounters in which somebody is in hospital (HL7 v3 `ActEncounterCode`): inpatient, acute and not, a short
/// stay, under observation, and in the emergency department.
const CLASSES: [&str; 6] = ["IMP", "ACUTE", "NONAC", "SS", "OBSENC", "EMER"];
/// Statuses in which they are there. Who is on leave from a ward is still its patient.
const STATUSES: &str = "arrived,triaged,in-progress,onleave";
/// How often it is asked anew whether a stay has ended, care clock: nothing tells a message that waits.
const AGAIN_MS: u64 = 15 * 60_000;
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

/// What becomes of a message to somebody in hospital.
fn decide(policy: WhileAdmitted, now_ms: u64, expires_ms: Option<u64>) -> Option<Outcome> {
    let not_done = |words: &str| Some(Outcome::NotDone(Refused::new(Reason::Admitted, words)));
    match policy {
        WhileAdmitted::Send => None,
        WhileAdmitted::Skip => {
            not_done("The patient is in hospital, and the journey sends this to nobody who is.")
        }
        WhileAdmitted::Hold => {
            let last_ms = expires_ms.map(|expires_ms| expires_ms.saturating_sub(LAST_MS));
            if last_ms.is_some_and(|last_ms| now_ms >= last_ms) {
                return not_done("The patient was in hospital for as long as it was of use.");
            }
            let again_ms = now_ms.saturating_add(AGAIN_MS);
            Some(Outcome::Waits {
                due_ms: last_ms.map_or(again_ms, |last_ms| again_ms.min(last_ms)),
                why: Waits::Stay,
            })
        }
    }
}

/// Whether a message waits for the end of a stay already. Asked again, that is no news.
pub(crate) fn waits_already(communication: &Resource) -> bool {
    let last = attempts(communication).pop();
    last.is_some_and(|last| {
        last.did == Did::Waits && last.reason.as_deref() == Some(Reason::Admitted.code())
    })
}

impl Attempt<'_> {
    /// What becomes of it where the patient is in hospital and its journey has said that it is not to go then; nothing where
    /// it goes.
    pub(crate) async fn admitted(&self) -> Result<Option<Outcome>, DeliverError> {
        let now_ms = self.inner.trust.vault().ledger().clock().now_ms();
        let (policy, expires_ms) = (self.message.while_admitted, self.message.expires_ms);
        // What goes anyway asks nothing.
        let Some(outcome) = decide(policy, now_ms, expires_ms) else {
            return Ok(None);
        };
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
        Ok(is_in.then_some(outcome))
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
        assert_eq!(decide(Send, NOW_MS, None), None);
        assert_eq!(reason(decide(Skip, NOW_MS, None)), "admitted");
        assert_eq!(decide(Hold, NOW_MS, None), waits(NOW_MS + AGAIN_MS));
        let ends_ms = NOW_MS + AGAIN_MS;
        assert_eq!(
            decide(Hold, NOW_MS, Some(ends_ms)),
            waits(ends_ms - LAST_MS)
        );
        assert_eq!(
            decide(Hold, ends_ms - LAST_MS - 1, Some(ends_ms)),
            waits(ends_ms - LAST_MS)
        );
        assert_eq!(
            reason(decide(Hold, ends_ms - LAST_MS, Some(ends_ms))),
            "admitted"
        );
    }
}
