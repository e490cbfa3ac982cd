//! Resources as entries of the timeline: when, which kind, what, in which state.

use std::collections::HashMap;

use fhir::{Resource, ResourceType, human};
use maud::{Markup, html};
use serde_json::Value;
use trust::conventions::{
    INSTANCE_SYSTEM, REPLY_ANSWER, REPLY_LATE, REPLY_UNCLEAR, TASK_ID_SYSTEM, TASK_SYSTEM,
    reply_code,
};

use super::words::{
    answers, consent_words, delivery, is_about_messages, medium, payload, status_words, value_of,
};
use crate::context::Ctx;
use crate::layout::{self, State};
use crate::tasks::{TaskRow, step_of};
use crate::time::{self, Times, fhir_time};

/// Kinds of entries, as the filter has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Group {
    Journey,
    Tasks,
    Messages,
    Forms,
    Visits,
    Measurements,
    Conditions,
    Medicines,
    Consents,
    Other,
}

impl Group {
    /// All, with the value in the address, the word on the filter, and the resource types read.
    pub(crate) const ALL: [(Self, &'static str, &'static str); 10] = [
        (Self::Journey, "journey", "Journey"),
        (Self::Tasks, "tasks", "Tasks"),
        (Self::Messages, "messages", "Messages"),
        (Self::Forms, "forms", "Forms"),
        (Self::Visits, "visits", "Visits"),
        (Self::Measurements, "measurements", "Measurements"),
        (Self::Conditions, "conditions", "Conditions"),
        (Self::Medicines, "medicines", "Medicines"),
        (Self::Consents, "consents", "Consents"),
        (Self::Other, "other", "Other"),
    ];
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(_, value, _)| *value == text)
            .map(|(group, ..)| *group)
    }
    /// The resource types that an entry of this kind is made from.
    pub(crate) fn types(self) -> &'static [ResourceType] {
        match self {
            Self::Journey => &[],
            Self::Tasks => &[ResourceType::Task],
            Self::Messages => &[ResourceType::Communication],
            Self::Forms => &[ResourceType::QuestionnaireResponse, ResourceType::Task],
            Self::Visits => &[ResourceType::Encounter, ResourceType::Appointment],
            Self::Measurements => &[ResourceType::Observation],
            Self::Conditions => &[ResourceType::Condition],
            Self::Medicines => &[ResourceType::MedicationRequest],
            Self::Consents => &[ResourceType::Consent],
            Self::Other => &[
                ResourceType::Procedure,
                ResourceType::Immunization,
                ResourceType::DiagnosticReport,
                ResourceType::CarePlan,
                ResourceType::ImagingStudy,
            ],
        }
    }
}

/// An entry of the timeline.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// `Type/id`, or a name of its own for a journey's step.
    pub(crate) key: String,
    pub(crate) at_ms: i64,
    /// Whether the time of day is known.
    pub(crate) timed: bool,
    pub(crate) group: Group,
    /// The kind in a word.
    pub(crate) kind: &'static str,
    pub(crate) title: String,
    /// A value that belongs to the title (of a measurement).
    pub(crate) value: String,
    pub(crate) state: Option<Markup>,
    pub(crate) detail: Option<Markup>,
    /// What the journey has to do with it.
    pub(crate) why: Option<String>,
    pub(crate) alarm: bool,
    /// Whether a journey did it.
    pub(crate) step: bool,
}

/// The first time among these members; members may be periods.
fn when(times: &Times, resource: &Resource, members: &[&[&str]]) -> Option<(i64, bool)> {
    members
        .iter()
        .find_map(|path| fhir_time(times, resource.text_at(path)?))
        .map(|(ms, _, timed)| (ms, timed))
}

fn concept(resource: &Resource, member: &str) -> String {
    resource
        .get(member)
        .map(|value| human::codeable(value.get(0).unwrap_or(value)))
        .unwrap_or_default()
}

/// A term without SNOMED CT's semantic tag, which is for coders: `Anemia (disorder)` is `Anemia`.
pub(crate) fn plain_term(term: &str) -> &str {
    const TAGS: [&str; 12] = [
        "disorder",
        "finding",
        "procedure",
        "situation",
        "event",
        "person",
        "substance",
        "product",
        "regime/therapy",
        "observable entity",
        "qualifier value",
        "morphologic abnormality",
    ];
    term.strip_suffix(')')
        .and_then(|term| term.rsplit_once(" ("))
        .filter(|(_, tag)| TAGS.contains(tag))
        .map_or(term, |(term, _)| term)
}

/// The titles of forms that were asked for, by the task's id.
pub(crate) fn forms(resources: &[Resource]) -> HashMap<String, String> {
    resources
        .iter()
        .filter(|resource| resource.kind() == ResourceType::Task && is_form(resource))
        .filter_map(|task| {
            Some((
                task.id()?.to_owned(),
                task.text_at(&["description"])?.to_owned(),
            ))
        })
        .collect()
}

/// Whether a task is a form for the patient to fill in.
pub(crate) fn is_form(task: &Resource) -> bool {
    task.at(&["code", "coding"])
        .and_then(Value::as_array)
        .is_some_and(|codings| {
            codings.iter().any(|coding| {
                coding["system"] == TASK_SYSTEM && coding["code"] == "complete-questionnaire"
            })
        })
}

/// The entry of a resource; `None` when it is none of the timeline's concern.
pub(crate) fn entry(
    ctx: &Ctx,
    resource: &Resource,
    asked: &HashMap<String, String>,
) -> Option<Entry> {
    let times = &ctx.times;
    let status = resource.text_at(&["status"]).unwrap_or_default();
    if status == "entered-in-error" {
        return None;
    }
    let updated: &[&str] = &["meta", "lastUpdated"];
    let at = |members: &[&[&str]]| {
        when(times, resource, members).or_else(|| when(times, resource, &[updated]))
    };
    let kind = resource.kind();
    let mut entry = Entry {
        key: resource.reference()?.to_string(),
        at_ms: 0,
        timed: true,
        group: Group::Other,
        kind: "",
        title: plain_term(&resource.display()).to_owned(),
        value: String::new(),
        state: None,
        detail: None,
        why: None,
        alarm: false,
        step: resource
            .get("identifier")
            .and_then(Value::as_array)
            .is_some_and(|identifiers| {
                identifiers
                    .iter()
                    .any(|identifier| identifier["system"] == INSTANCE_SYSTEM)
            }),
    };
    let (at, group, word) = match kind {
        ResourceType::Encounter => {
            let inpatient = resource.text_at(&["class", "code"]) == Some("IMP");
            let reason = concept(resource, "reasonCode");
            if !reason.is_empty() {
                plain_term(&reason).clone_into(&mut entry.value);
            }
            if inpatient {
                entry.title = "Inpatient stay".to_owned();
            }
            if let Some((_, end, _)) = resource
                .text_at(&["period", "end"])
                .and_then(|text| fhir_time(times, text))
                .filter(|_| inpatient)
            {
                entry.detail = Some(html! { p class="small quiet" { "Until " (end) } });
            }
            entry.state = match status {
                "in-progress" | "arrived" | "triaged" => Some(layout::state(
                    State::Running,
                    if inpatient {
                        "In hospital"
                    } else {
                        "Under way"
                    },
                )),
                "planned" => Some(layout::state(State::Waiting, "Planned")),
                "cancelled" => Some(layout::state(State::Failed, "Cancelled")),
                _ => None,
            };
            (
                at(&[&["period", "start"]])?,
                Group::Visits,
                if inpatient { "Stay" } else { "Visit" },
            )
        }
        ResourceType::Appointment => {
            entry.state = Some(match status {
                "proposed" | "pending" | "waitlist" => {
                    layout::state(State::NeedsYou, "Offered, not booked")
                }
                "booked" | "arrived" | "checked-in" => layout::state(State::Waiting, "Booked"),
                "fulfilled" => layout::state(State::Done, "Took place"),
                "noshow" => layout::state(State::Failed, "Did not come"),
                "cancelled" => layout::state(State::Failed, "Declined or cancelled"),
                other => layout::state(State::Waiting, &status_words(other)),
            });
            entry.detail = crate::video::for_staff(ctx, resource);
            (
                at(&[&["start"], &["created"]])?,
                Group::Visits,
                "Appointment",
            )
        }
        ResourceType::Condition => {
            let clinical = concept(resource, "clinicalStatus");
            entry.state = Some(
                if clinical == "active" || clinical == "recurrence" || clinical == "relapse" {
                    layout::state(State::Running, "Active")
                } else {
                    layout::state(
                        State::Done,
                        if clinical.is_empty() {
                            "Recorded"
                        } else {
                            "Over"
                        },
                    )
                },
            );
            (
                at(&[
                    &["onsetDateTime"],
                    &["onsetPeriod", "start"],
                    &["recordedDate"],
                ])?,
                Group::Conditions,
                "Condition",
            )
        }
        ResourceType::Observation => {
            entry.value = value_of(resource);
            (
                at(&[
                    &["effectiveDateTime"],
                    &["effectivePeriod", "start"],
                    &["issued"],
                ])?,
                Group::Measurements,
                "Measured",
            )
        }
        ResourceType::MedicationRequest => {
            entry.state = Some(match status {
                "active" => layout::state(State::Running, "Active"),
                "stopped" | "cancelled" => layout::state(State::Failed, "Stopped"),
                "on-hold" => layout::state(State::Waiting, "On hold"),
                _ => layout::state(State::Done, "Finished"),
            });
            entry.value = resource
                .text_at(&["dosageInstruction", "0", "text"])
                .unwrap_or_default()
                .to_owned();
            (at(&[&["authoredOn"]])?, Group::Medicines, "Medicine")
        }
        ResourceType::QuestionnaireResponse => {
            let answers = answers(resource);
            entry.title = "Form answered".to_owned();
            // The form's name is the task's that asked for it.
            let task = resource.text_at(&["identifier", "value"]);
            entry.value = task
                .and_then(|task| asked.get(task))
                .cloned()
                .unwrap_or_default();
            entry.state = Some(layout::state(State::Done, "Answered"));
            entry.detail = (!answers.is_empty()).then(|| html! { dl class="facts" { @for (question, answer) in &answers { dt { (question) } dd { (answer) } } } });
            entry.step |= resource.text_at(&["identifier", "system"]) == Some(TASK_ID_SYSTEM);
            (at(&[&["authored"]])?, Group::Forms, "Form")
        }
        ResourceType::Task if is_form(resource) => {
            let row = TaskRow::of(resource);
            entry.title = row.title.clone();
            entry.state = Some(if row.is_open() {
                layout::state(State::Waiting, "Waits for the patient")
            } else if status == "completed" {
                layout::state(State::Done, "Answered")
            } else {
                layout::state(State::Failed, "Not answered")
            });
            (at(&[&["authoredOn"]])?, Group::Forms, "Form")
        }
        ResourceType::Task => {
            let row = TaskRow::of(resource);
            entry.alarm = row.is_open() && row.priority != "routine";
            entry.title = row.title.clone();
            entry.why = (!row.reason.is_empty()).then(|| row.reason.clone());
            entry.state = Some(
                html! { (row.state_mark()) @if row.overdue(times.care_ms) { " " span class="overdue" { "overdue" } } },
            );
            entry.detail = Some(html! {
                @if let Some(outcome) = &row.outcome { p { "Ended: " (outcome.replace(['-', '_'], " ")) } }
                @if let Some((_, name)) = &row.owner { p class="quiet small" { "With " (name) } }
            });
            (at(&[&["authoredOn"]])?, Group::Tasks, "Task")
        }
        ResourceType::Communication => {
            entry.title = resource
                .text_at(&["topic", "text"])
                .unwrap_or("Message")
                .to_owned();
            entry.state = Some(match reply_code(resource) {
                Some(REPLY_ANSWER) => layout::state(State::Done, "An answer"),
                Some(REPLY_UNCLEAR) => layout::state(State::Waiting, "No answer to the question"),
                Some(REPLY_LATE) => {
                    layout::state(State::Waiting, "Came when its question was closed")
                }
                Some(_) => layout::state(State::Waiting, "Nobody was told of it"),
                None => delivery(times, resource),
            });
            let words = payload(resource);
            let id = resource.id().unwrap_or_default();
            let way = super::attempts::of_staff(times, resource);
            entry.detail = (!words.is_empty() || way.is_some()).then(|| {
                html! {
                    @if !words.is_empty() { details id={ "words-" (id) } { summary class="small" { "The words" } @for part in words { p class="words" { (part) } } } }
                    @if let Some(way) = way { (way) }
                }
            });
            (at(&[&["sent"]])?, Group::Messages, medium(resource))
        }
        ResourceType::Consent => {
            let permits = resource.text_at(&["provision", "type"]) != Some("deny");
            let (state, word) = match (status, permits) {
                ("active", true) => (State::Done, "Given"),
                ("active", false) => (State::Failed, "Refused"),
                ("inactive" | "rejected", _) => (State::Failed, "Withdrawn"),
                _ => (State::Waiting, "Not in force"),
            };
            entry.title = if is_about_messages(resource) {
                "Consent to messages and follow-up".to_owned()
            } else {
                let set = ctx.app.web.trust.policy_set();
                format!("Consent for {}", consent_words(resource, set.purposes()))
            };
            entry.state = Some(layout::state(state, word));
            // A withdrawal is a new version of the same consent: it happened when that was written.
            (
                if word == "Withdrawn" {
                    at(&[updated])?
                } else {
                    at(&[&["dateTime"]])?
                },
                Group::Consents,
                "Consent",
            )
        }
        ResourceType::Procedure => (
            at(&[&["performedDateTime"], &["performedPeriod", "start"]])?,
            Group::Other,
            "Procedure",
        ),
        ResourceType::Immunization => {
            (at(&[&["occurrenceDateTime"]])?, Group::Other, "Vaccination")
        }
        ResourceType::DiagnosticReport => (
            at(&[
                &["effectiveDateTime"],
                &["effectivePeriod", "start"],
                &["issued"],
            ])?,
            Group::Other,
            "Report",
        ),
        ResourceType::CarePlan => (
            at(&[&["period", "start"], &["created"]])?,
            Group::Other,
            "Care plan",
        ),
        ResourceType::ImagingStudy => (at(&[&["started"]])?, Group::Other, "Imaging"),
        _ => return None,
    };
    (entry.at_ms, entry.timed, entry.group, entry.kind) = (at.0, at.1, group, word);
    if entry.why.is_none()
        && let Some((journey, _, step)) = step_of(resource)
    {
        entry.why = Some(format!(
            "{}, step {}",
            journey.replace('-', " "),
            step.replace(['-', '_'], " ")
        ));
    }
    Some(entry)
}

/// The names of allergies; `None` entries have no name recorded.
pub(crate) fn allergies(rows: &[Resource]) -> Vec<String> {
    rows.iter()
        .filter(|allergy| {
            let verification = concept(allergy, "verificationStatus");
            let clinical = concept(allergy, "clinicalStatus");
            verification != "entered-in-error"
                && verification != "refuted"
                && clinical != "resolved"
                && clinical != "inactive"
        })
        .map(|allergy| {
            let name = concept(allergy, "code");
            let name = plain_term(&name);
            let name = name.strip_prefix("Allergy to ").unwrap_or(name);
            if name.is_empty() {
                "an allergy without a name"
            } else {
                name
            }
            .to_owned()
        })
        .collect()
}

/// When the patient died, if they did; an empty text when only the fact is recorded.
pub(crate) fn deceased(patient: &Resource) -> Option<String> {
    match (
        patient.get("deceasedBoolean"),
        patient.text_at(&["deceasedDateTime"]),
    ) {
        (_, Some(at)) => Some(time::day(at.get(..10).unwrap_or(at))),
        (Some(Value::Bool(true)), None) => Some(String::new()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn resource(value: Value) -> Resource {
        Resource::from_value(value).unwrap()
    }

    #[test]
    fn terms_lose_their_tags_only() {
        for (term, plain) in [
            ("Anemia (disorder)", "Anemia"),
            ("Heart failure (left) (disorder)", "Heart failure (left)"),
            ("Weight (kg)", "Weight (kg)"),
            ("Anemia", "Anemia"),
        ] {
            assert_eq!(plain_term(term), plain);
        }
    }

    #[test]
    fn consents_and_deaths() {
        let consent = resource(
            json!({ "resourceType": "Consent", "provision": { "purpose": [{ "code": "TREAT" }, { "code": "HRESCH" }] } }),
        );
        let known = trust::Purposes::default();
        assert_eq!(consent_words(&consent, &known), "treatment, research");
        assert_eq!(
            deceased(&resource(
                json!({ "resourceType": "Patient", "deceasedBoolean": false })
            )),
            None
        );
        assert_eq!(
            deceased(&resource(
                json!({ "resourceType": "Patient", "deceasedDateTime": "2026-03-01T10:00:00Z" })
            )),
            Some("1 Mar 2026".to_owned())
        );
    }
}
