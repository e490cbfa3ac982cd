//! From FHIR resources to facts, and the definition's conditions on resources. Pure.

mod insured;

pub(crate) use insured::{is_active, is_eligible};

use crate::Channel;
use crate::definition::{Definition, Path, Who};
use crate::engine::{Fact, Outcome};
use crate::state::State;
use fhir::path::Environment;
use fhir::{Resource, ResourceType};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use trust::conventions;

/// Longest answer that a journey keeps; the whole answer stays in the `QuestionnaireResponse`.
const ANSWER_CHARS_MAX: usize = 500;

/// Code of a message for which there is no address (`urn:cairn:not-done`).
pub(crate) const NO_ADDRESS: &str = "no-address";
/// The same of one to somebody who has died.
pub(crate) const DECEASED: &str = "deceased";

/// What a resource says. `Consent` is not here: what consents say together is for `trust` to decide.
pub(crate) fn read(resource: &Resource) -> Fact {
    let id = resource.id().unwrap_or_default().to_owned();
    let status = resource.text_at(&["status"]).unwrap_or_default();
    match resource.kind() {
        ResourceType::Observation => observation(resource, id, status),
        ResourceType::QuestionnaireResponse if matches!(status, "completed" | "amended") => {
            answers(resource)
        }
        ResourceType::Task if crate::kinds::is_call(resource) => Fact::Call {
            id,
            status: status.to_owned(),
            code: not_done_coded(resource),
            may_be_done: not_done_codes(resource).any(|code| code == conventions::MAY_BE_DONE),
            values: crate::kinds::learnt_of_call(resource),
        },
        ResourceType::Task => Fact::Task {
            id,
            status: status.to_owned(),
            outcome: task_outcome(resource),
            by: done_by(resource),
        },
        ResourceType::Communication if conventions::reply_code(resource).is_some() => {
            reply(resource)
        }
        ResourceType::Communication => {
            let outcome = match status {
                "completed" => Outcome::Delivered,
                "not-done" | "stopped" | "entered-in-error" => {
                    Outcome::NotDone(not_done_code(resource))
                }
                _ => Outcome::UnderWay,
            };
            Fact::Message { id, outcome }
        }
        ResourceType::Appointment => Fact::Visit {
            id,
            status: status.to_owned(),
            start_ms: time_at(resource, &["start"]),
            end_ms: time_at(resource, &["end"]),
        },
        _ => Fact::Other,
    }
}

fn observation(resource: &Resource, id: String, status: &str) -> Fact {
    let at_ms = [
        &["effectiveDateTime"][..],
        &["effectiveInstant"],
        &["effectivePeriod", "end"],
        &["effectivePeriod", "start"],
        &["issued"],
    ]
    .iter()
    .find_map(|path| time_at(resource, path));
    // What is known to be wrong or was never made counts as taken back.
    let taken_back = matches!(status, "entered-in-error" | "cancelled");
    let part = |code: Option<&Value>, quantity: Option<&Value>| {
        let value = quantity.filter(|_| !taken_back).and_then(quantity_of);
        (loinc_codes(code), value)
    };
    let (codes, value) = part(resource.get("code"), resource.get("valueQuantity"));
    let components = list(resource.get("component"))
        .iter()
        .map(|component| part(component.get("code"), component.get("valueQuantity")))
        .filter(|(codes, _)| !codes.is_empty());
    match at_ms {
        Some(at_ms) => Fact::Observation {
            id,
            codes,
            value,
            components: components.collect(),
            at_ms,
        },
        None => Fact::Other,
    }
}

fn loinc_codes(concept: Option<&Value>) -> Vec<String> {
    let text = |coding: &Value, name: &str| {
        let found = coding.get(name).and_then(Value::as_str);
        found.map(str::to_owned)
    };
    list(concept.and_then(|concept| concept.get("coding")))
        .iter()
        .filter(|coding| text(coding, "system").as_deref() == Some(conventions::LOINC))
        .filter_map(|coding| text(coding, "code"))
        .collect()
}

/// A value with its UCUM unit.
fn quantity_of(quantity: &Value) -> Option<(f64, String)> {
    let value = quantity
        .get("value")
        .and_then(Value::as_f64)
        .filter(|value| value.is_finite())?;
    let unit = quantity
        .get("code")
        .or_else(|| quantity.get("unit"))
        .and_then(Value::as_str)?;
    Some((value, unit.to_owned()))
}

fn answers(resource: &Resource) -> Fact {
    let mut answers = Map::new();
    collect_answers(resource.get("item"), &mut answers, 0);
    let identifier = resource.get("identifier");
    let task = identifier
        .filter(|identifier| {
            identifier.get("system").and_then(Value::as_str) == Some(conventions::TASK_ID_SYSTEM)
        })
        .and_then(|identifier| identifier.get("value").and_then(Value::as_str))
        .map(str::to_owned);
    Fact::Answers {
        task,
        questionnaire: resource.text_at(&["questionnaire"]).map(str::to_owned),
        answers,
    }
}

/// What a patient wrote after a question, where it is no answer to it.
fn reply(resource: &Resource) -> Fact {
    let about = resource.text_at(&["about", "0", "reference"]);
    let task = about.and_then(|about| about.strip_prefix("Task/"));
    match (conventions::reply_code(resource), task) {
        (Some(conventions::REPLY_UNCLEAR), Some(task)) => Fact::Reply {
            task: task.to_owned(),
        },
        _ => Fact::Other,
    }
}

fn collect_answers(items: Option<&Value>, answers: &mut Map<String, Value>, depth: usize) {
    if depth > 8 {
        return;
    }
    for item in list(items) {
        let values: Vec<Value> = list(item.get("answer"))
            .iter()
            .filter_map(answer_value)
            .collect();
        if let Some(link_id) = item.get("linkId").and_then(Value::as_str)
            && let Some(value) = match values.len() {
                0 => None,
                1 => values.into_iter().next(),
                _ => Some(Value::Array(values)),
            }
        {
            answers.insert(link_id.to_owned(), value);
        }
        collect_answers(item.get("item"), answers, depth + 1);
    }
}

fn answer_value(answer: &Value) -> Option<Value> {
    let (name, value) = answer
        .as_object()?
        .iter()
        .find(|(name, _)| name.starts_with("value"))?;
    match (name.as_str(), value) {
        ("valueCoding", coding) => coding.get("code").cloned(),
        ("valueQuantity", quantity) => quantity.get("value").cloned(),
        (_, Value::String(text)) => {
            Some(Value::String(text.chars().take(ANSWER_CHARS_MAX).collect()))
        }
        (_, Value::Bool(_) | Value::Number(_)) => Some(value.clone()),
        _ => None,
    }
}

/// How a task ended, as an outcome's id: `Not reached` becomes `not_reached`.
fn task_outcome(resource: &Resource) -> Option<String> {
    let words = list(resource.get("output")).iter().find_map(|output| {
        output
            .get("valueCode")
            .or_else(|| output.get("valueString"))
            .or_else(|| output.pointer("/valueCodeableConcept/coding/0/code"))
            .or_else(|| output.pointer("/valueCodeableConcept/text"))
            .and_then(Value::as_str)
    })?;
    let id: String = words
        .trim()
        .chars()
        .take(60)
        .map(|c| {
            if c.is_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '_'
            }
        })
        .collect();
    (!id.is_empty()).then_some(id)
}

/// Who owns a task: an account by its id, another identifier as `system|value`, or what is referred to.
pub(crate) fn owner(resource: &Resource) -> Option<String> {
    let identifier = |name: &str| resource.text_at(&["owner", "identifier", name]);
    match (identifier("system"), identifier("value")) {
        (Some(conventions::ACCOUNT_SYSTEM), Some(account)) => Some(account.to_owned()),
        (system, Some(value)) => Some(format!("{}|{value}", system.unwrap_or_default())),
        (_, None) => {
            let reference = resource.text_at(&["owner", "reference"])?;
            // Of whichever version of it, it is the same person.
            let parsed = fhir::Reference::parse(reference);
            Some(parsed.map_or_else(|| reference.to_owned(), |parsed| parsed.to_string()))
        }
    }
}

/// What the server has noted of who completed a task: the system of the identifier, and its value.
fn completed_by(task: &Resource) -> Option<(&str, &str)> {
    let mut extensions = list(task.get("extension")).iter();
    let noted = extensions.find(|one| one["url"] == conventions::COMPLETED_BY_URL)?;
    let noted = &noted["valueIdentifier"];
    Some((noted["system"].as_str()?, noted["value"].as_str()?))
}

/// The system that completed a task, as `done_by` says it where that names no person.
pub(crate) fn done_by_system(task: &Resource) -> Option<String> {
    let (_, id) = completed_by(task).filter(|(system, _)| *system == conventions::CLIENT_SYSTEM)?;
    Some(format!("{}|{id}", conventions::CLIENT_SYSTEM))
}

/// Who completed a task: the person who signed in for it, whomever it names; of another system the owner whom that
/// names, else the system itself.
pub(crate) fn done_by(task: &Resource) -> Option<String> {
    match completed_by(task) {
        Some((conventions::ACCOUNT_SYSTEM, account)) => Some(account.to_owned()),
        _ => owner(task).or_else(|| done_by_system(task)),
    }
}

/// Says that a task was completed by somebody with this account.
pub(crate) fn set_done_by(task: &mut Resource, account: &str) {
    let account = json!({"system": conventions::ACCOUNT_SYSTEM, "value": account});
    let noted = json!({"url": conventions::COMPLETED_BY_URL, "valueIdentifier": account});
    task.set("extension", json!([noted]));
}

fn not_done_code(resource: &Resource) -> String {
    not_done_coded(resource).unwrap_or_else(|| "permanent-failure".to_owned())
}

fn not_done_coded(resource: &Resource) -> Option<String> {
    not_done_codes(resource).next().map(str::to_owned)
}

fn not_done_codes(resource: &Resource) -> impl Iterator<Item = &str> {
    let codings = list(resource.at(&["statusReason", "coding"])).iter();
    let ours = codings.filter(|coding| {
        coding.get("system").and_then(Value::as_str) == Some(conventions::NOT_DONE_SYSTEM)
    });
    ours.filter_map(|coding| coding.get("code").and_then(Value::as_str))
}

fn list(value: Option<&Value>) -> &[Value] {
    match value {
        Some(Value::Array(items)) => items,
        _ => &[],
    }
}

fn time_at(resource: &Resource, path: &[&str]) -> Option<u64> {
    time(resource.text_at(path)?)
}

pub(crate) fn time(text: &str) -> Option<u64> {
    u64::try_from(fhir::date::parse(text)?.start_ms).ok()
}

/// Whether a condition holds of a resource. One that can't be evaluated on it doesn't hold.
pub(crate) fn test(path: &Path, resource: &Resource, entry: Option<&Value>, now_ms: u64) -> bool {
    weigh(path, resource, entry, now_ms) == Some(true)
}

/// Whether a condition holds of a resource; nothing where it can't be evaluated on it.
pub(crate) fn weigh(
    path: &Path,
    resource: &Resource,
    entry: Option<&Value>,
    now_ms: u64,
) -> Option<bool> {
    let environment = Environment {
        variables: entry.map(|entry| ("entry", entry)).into_iter().collect(),
        now_ms: i64::try_from(now_ms).ok(),
    };
    match path.expression.test(resource.as_value(), &environment) {
        Ok(result) => Some(result == Some(true)),
        Err(error) => {
            tracing::debug!(line = path.place.line, %error, "a journey's condition can't be evaluated on this resource");
            None
        }
    }
}

/// What conditions call `%entry`.
pub(crate) fn entry_of(state: &State) -> Value {
    let mut entry = json!({"id": state.key});
    if let Value::Object(members) = &mut entry {
        for (name, at_ms) in &state.anchors {
            members.insert(name.clone(), json!(fhir::date::instant(*at_ms)));
        }
    }
    entry
}

/// Which of the definition's conditions hold of a resource, for a patient's place in the journey.
pub(crate) fn holds(
    definition: &Definition,
    resource: &Resource,
    state: &State,
    now_ms: u64,
) -> Vec<usize> {
    if definition
        .conditions
        .iter()
        .all(|condition| condition.kind != resource.kind())
    {
        return Vec::new();
    }
    let entry = entry_of(state);
    definition
        .conditions
        .iter()
        .enumerate()
        .filter(|(_, condition)| {
            condition.kind == resource.kind()
                && condition
                    .path
                    .as_ref()
                    .is_none_or(|path| test(path, resource, Some(&entry), now_ms))
        })
        .map(|(index, _)| index)
        .collect()
}

/// The anchors' times in an entry resource.
pub(crate) fn anchors(definition: &Definition, resource: &Resource) -> BTreeMap<String, u64> {
    definition
        .entry
        .anchors
        .iter()
        .filter_map(|(name, path)| {
            let items = path
                .as_ref()?
                .expression
                .evaluate(resource.as_value(), &Environment::default())
                .ok()?;
            Some((name.clone(), time(items.first()?.value().as_str()?)?))
        })
        .collect()
}

/// Whether a resource is an entry event that is recent enough: its anchors, if so. Who the journey is
/// for is another question, which may need more of the record.
pub(crate) fn entry(
    definition: &Definition,
    resource: &Resource,
    now_ms: u64,
) -> Option<BTreeMap<String, u64>> {
    let event = definition.entry.event.as_ref()?;
    if resource.kind() != event.kind || !test(&event.condition, resource, None, now_ms) {
        return None;
    }
    let anchors = anchors(definition, resource);
    let first = definition
        .entry
        .anchors
        .first()
        .map(|(name, _)| anchors.get(name).copied());
    match (first, definition.entry.within_ms) {
        // An event without its time can't be told from one of an old history.
        (Some(None), _) => None,
        (Some(Some(at_ms)), Some(within_ms)) if now_ms.abs_diff(at_ms) > within_ms => None,
        _ => Some(anchors),
    }
}

/// Whether the resource that started a journey is still an entry event, judged at the time of the start:
/// that it has grown old since is no mistake.
pub(crate) fn still_entry(definition: &Definition, resource: &Resource, state: &State) -> bool {
    let event = definition.entry.event.as_ref();
    event.is_some_and(|event| test(&event.condition, resource, None, state.started_ms))
}

/// Whether a resource started the journey. A request's key is no id of any.
fn is_own(definition: &Definition, resource: &Resource, state: &State) -> bool {
    definition.entry.kind() == Some(resource.kind()) && resource.id() == Some(&state.key)
}

/// What a resource that was written, or deleted, says to a patient's place in a journey. Nothing when it
/// was deleted and nobody waits for that. What the consents say together is for `trust` to decide, so it
/// comes in from outside.
pub(crate) fn told(
    definition: &Definition,
    state: &State,
    resource: &Resource,
    deleted: bool,
    consents: Option<Fact>,
) -> Option<Fact> {
    let own = is_own(definition, resource, state);
    if !deleted && crate::runner::lets_go(resource, state) {
        Some(Fact::LetGo)
    } else if own && (deleted || !still_entry(definition, resource, state)) {
        Some(Fact::EntryGone)
    } else if deleted {
        None
    } else if own {
        Some(Fact::Anchors(anchors(definition, resource)))
    } else {
        Some(consents.unwrap_or_else(|| read(resource)))
    }
}

/// The exit that an earlier resource of the record fulfils when the journey would start.
pub(crate) fn exit_by(
    definition: &Definition,
    resource: &Resource,
    probe: &State,
    condition: usize,
    now_ms: u64,
) -> bool {
    // As the engine has it: a patient's own resource may start a journey, and end it.
    let own = is_own(definition, resource, probe) && resource.kind() != ResourceType::Patient;
    !own && holds(definition, resource, probe, now_ms).contains(&condition)
}

/// Why a message can't go out to a person by a channel, as a code of `urn:cairn:not-done`.
/// `no-address` isn't the last word: somebody who acts for the patient may have one.
pub(crate) fn refusal(
    person: Option<&Resource>,
    channel: Channel,
    now_ms: u64,
) -> Option<&'static str> {
    let Some(person) = person else {
        return Some(NO_ADDRESS);
    };
    if deceased(person) {
        return Some(DECEASED);
    }
    let now_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
    let channels = match channel {
        // Where notifications are turned on is no part of the record: whoever asks knows it.
        Channel::Portal | Channel::Push => return None,
        Channel::Email => {
            let mut channels = trust::consent::channels(person, now_ms);
            channels.retain(|channel| channel.kind == "email" && !channel.address.is_empty());
            channels
        }
        Channel::Sms => trust::consent::texts(person, now_ms),
        Channel::Voice => trust::consent::calls(person, now_ms),
        Channel::Letter => {
            return match trust::consent::postal(person, now_ms) {
                Ok(_) => None,
                Err(trust::consent::NoPostal::Unwanted) => Some("preference"),
                Err(_) => Some(NO_ADDRESS),
            };
        }
    };
    if channels.is_empty() {
        return Some(NO_ADDRESS);
    }
    (!channels.iter().any(|channel| channel.wanted)).then_some("preference")
}

/// Whether the entry resource alone says that the journey is for this patient.
pub(crate) fn who_by_event(definition: &Definition, resource: &Resource, now_ms: u64) -> bool {
    let who = &definition.entry.who;
    who.is_empty()
        || who
            .iter()
            .any(|who| matches!(who, Who::This(path) if test(path, resource, None, now_ms)))
}

/// Whether a resource of the patient's record says that the journey is for them.
pub(crate) fn who_by_record(definition: &Definition, resource: &Resource, now_ms: u64) -> bool {
    definition
        .entry
        .who
        .iter()
        .any(|who| matches!(who, Who::Has { kind, condition } if *kind == resource.kind() && condition.as_ref().is_none_or(|path| test(path, resource, None, now_ms))))
}

/// Whether a patient is known to be dead.
pub(crate) fn deceased(patient: &Resource) -> bool {
    patient.get("deceasedDateTime").is_some()
        || patient.get("deceasedBoolean") == Some(&Value::Bool(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(value: Value) -> Resource {
        Resource::from_value(value).unwrap()
    }

    #[test]
    fn measurements() {
        let weight = |status: &str, quantity: Value| {
            read(&resource(json!({
                "resourceType": "Observation", "id": "o1", "status": status,
                "code": {"coding": [{"system": "http://loinc.org", "code": "29463-7"}, {"system": "urn:local", "code": "W"}]},
                "effectiveDateTime": "2026-11-26T08:00:00Z", "valueQuantity": quantity
            })))
        };
        let Fact::Observation {
            codes,
            value,
            at_ms,
            ..
        } = weight("final", json!({"value": 82.5, "unit": "kg", "code": "kg"}))
        else {
            panic!()
        };
        assert_eq!(codes, ["29463-7"]);
        assert_eq!(value, Some((82.5, "kg".to_owned())));
        assert_eq!(at_ms, 1_795_680_000_000);
        assert!(matches!(
            weight("entered-in-error", json!({"value": 82.5, "code": "kg"})),
            Fact::Observation { value: None, .. }
        ));
        assert!(matches!(
            weight("final", json!({"unit": "kg"})),
            Fact::Observation { value: None, .. }
        ));
    }

    /// A blood pressure has its values in components; the panel itself has none.
    #[test]
    fn components_are_measurements_too() {
        let component = |code: &str, quantity: Value| json!({"code": {"coding": [{"system": "http://loinc.org", "code": code}]}, "valueQuantity": quantity});
        let pressure = |status: &str| {
            read(&resource(json!({
                "resourceType": "Observation", "id": "o1", "status": status,
                "code": {"coding": [{"system": "http://loinc.org", "code": "85354-9"}]},
                "effectiveDateTime": "2026-11-26T08:00:00Z",
                "component": [
                    component("8480-6", json!({"value": 182, "code": "mm[Hg]"})),
                    component("8462-4", json!({"unit": "mm[Hg]"})),
                    {"code": {"text": "cuff"}, "valueString": "large"}
                ]
            })))
        };
        let Fact::Observation {
            codes,
            value,
            components,
            ..
        } = pressure("final")
        else {
            panic!()
        };
        assert_eq!((codes, value), (vec!["85354-9".to_owned()], None));
        let systolic = (
            vec!["8480-6".to_owned()],
            Some((182.0, "mm[Hg]".to_owned())),
        );
        assert_eq!(components, [systolic, (vec!["8462-4".to_owned()], None)]);
        let Fact::Observation { components, .. } = pressure("entered-in-error") else {
            panic!()
        };
        assert!(components.iter().all(|(_, value)| value.is_none()));
    }

    #[test]
    fn answers_of_all_types() {
        let response = json!({
            "resourceType": "QuestionnaireResponse", "id": "r1", "status": "completed",
            "identifier": {"system": conventions::TASK_ID_SYSTEM, "value": "t1"}, "questionnaire": "Questionnaire/q1",
            "item": [
                {"linkId": "a", "answer": [{"valueBoolean": true}]},
                {"linkId": "g", "item": [{"linkId": "b", "answer": [{"valueInteger": 7}]}]},
                {"linkId": "c", "answer": [{"valueCoding": {"code": "x"}}, {"valueCoding": {"code": "y"}}]},
                {"linkId": "d", "answer": []}
            ]
        });
        let Fact::Answers {
            task,
            questionnaire,
            answers,
        } = read(&resource(response.clone()))
        else {
            panic!()
        };
        assert_eq!(task.as_deref(), Some("t1"));
        assert_eq!(questionnaire.as_deref(), Some("Questionnaire/q1"));
        assert_eq!(
            Value::Object(answers),
            json!({"a": true, "b": 7, "c": ["x", "y"]})
        );
        let mut draft = response;
        draft["status"] = json!("in-progress");
        assert_eq!(read(&resource(draft)), Fact::Other);
    }

    #[test]
    fn outcomes_of_tasks_and_messages() {
        let task = json!({"resourceType": "Task", "id": "t", "status": "completed", "output": [{"type": {"text": "outcome"}, "valueString": "Not reached"}]});
        assert_eq!(
            read(&resource(task)),
            Fact::Task {
                id: "t".into(),
                status: "completed".into(),
                outcome: Some("not_reached".into()),
                by: None
            }
        );
        for (owner, by) in [
            (
                json!({"identifier": {"system": conventions::ACCOUNT_SYSTEM, "value": "a1"}, "display": "Carla"}),
                Some("a1"),
            ),
            (
                json!({"reference": "Practitioner/devi"}),
                Some("Practitioner/devi"),
            ),
            (
                json!({"reference": "Practitioner/devi/_history/3"}),
                Some("Practitioner/devi"),
            ),
            // What has another system isn't an account of the same value.
            (
                json!({"identifier": {"system": "urn:staff", "value": "a1"}}),
                Some("urn:staff|a1"),
            ),
            (json!({"identifier": {"value": "a1"}}), Some("|a1")),
            (json!({"display": "Carla"}), None),
        ] {
            let task =
                json!({"resourceType": "Task", "id": "t", "status": "completed", "owner": owner});
            let Fact::Task { by: found, .. } = read(&resource(task)) else {
                panic!()
            };
            assert_eq!(found.as_deref(), by);
        }
        for (status, code, expected) in [
            ("completed", None, Outcome::Delivered),
            (
                "not-done",
                Some("no-address"),
                Outcome::NotDone("no-address".into()),
            ),
            (
                "not-done",
                None,
                Outcome::NotDone("permanent-failure".into()),
            ),
            ("preparation", None, Outcome::UnderWay),
        ] {
            let mut message = json!({"resourceType": "Communication", "id": "c", "status": status});
            if let Some(code) = code {
                message["statusReason"] =
                    json!({"coding": [{"system": conventions::NOT_DONE_SYSTEM, "code": code}]});
            }
            assert_eq!(
                read(&resource(message)),
                Fact::Message {
                    id: "c".into(),
                    outcome: expected
                }
            );
        }
    }
}
