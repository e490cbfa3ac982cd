//! A patient's journey as others see it: a `CarePlan` that begins, is held, goes on and ends with it. Pure.
//!
//! It is written when one of these happens, and not with each move: what is done meanwhile are resources of their own
//! that refer to it. Others may hold, let go on and end the journey by it ([`asked`]).

use crate::definition::Definition;
use crate::engine::{Act, Hand, Manual, STARTED_IN_ERROR};
use crate::resources::resource;
use crate::state::State;
use fhir::{Resource, ResourceType};
use serde_json::{Value, json};
use trust::conventions::{INSTANCE_SYSTEM, journey_canonical};

/// The most resources that a plan names. What is more is found by what it is based on.
const NAMED_MAX: usize = 100;
/// Whose name the history has for what was asked by the plan: a write over FHIR, whose audit record says who it was.
const BY: &str = "Another system, by the care plan";

/// The name that the plan's id is made from.
pub(crate) fn name(instance: &str) -> String {
    format!("care-plan/{instance}")
}

/// `CarePlan.status` of a journey.
pub(crate) fn status(definition: &Definition, state: &State) -> &'static str {
    match &state.ended {
        None if state.paused.is_some() => "on-hold",
        None => "active",
        Some(ended) if ended.code == STARTED_IN_ERROR => "entered-in-error",
        // By an exit rule, whatever was still to come, or by hand.
        Some(ended)
            if ended.code == "stopped"
                || definition.exits.iter().any(|exit| exit.id == ended.code) =>
        {
            "revoked"
        }
        Some(_) => "completed",
    }
}

/// The plan of a journey that begins. `made` are the resources that begin with it.
pub(crate) fn begun(
    definition: &Definition,
    instance: &str,
    id: &str,
    state: &State,
    made: &[String],
) -> Resource {
    let at = fhir::date::instant(state.started_ms);
    let mut plan = resource(
        ResourceType::CarePlan,
        id,
        json!({
            "identifier": [{"system": INSTANCE_SYSTEM, "value": instance}],
            "instantiatesCanonical": [journey_canonical(&definition.name, definition.version)],
            "intent": "plan",
            "title": definition.title,
            "subject": {"reference": format!("Patient/{}", state.patient)},
            "period": {"start": at},
            "created": at,
            "author": {"display": definition.owner},
        }),
    );
    bring(&mut plan, definition, state, made);
    plan
}

/// Brings a plan to where the journey has come.
pub(crate) fn bring(plan: &mut Resource, definition: &Definition, state: &State, made: &[String]) {
    plan.set("status", json!(status(definition, state)));
    if let Some(ended) = &state.ended {
        end(plan, ended.at_ms);
    }
    let mut activities = plan
        .get("activity")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let known: Vec<String> = activities.iter().filter_map(named).collect();
    let trail = state.trail.iter();
    let trail = trail.filter_map(|entry| entry.reference.clone());
    for reference in trail.chain(made.iter().cloned()) {
        if activities.len() >= NAMED_MAX {
            break;
        }
        if let Some(activity) = activity(&reference)
            && !known.contains(&reference)
            && !activities.contains(&activity)
        {
            activities.push(activity);
        }
    }
    if !activities.is_empty() {
        plan.set("activity", Value::Array(activities));
    }
}

fn end(plan: &mut Resource, at_ms: u64) {
    let mut period = plan.get("period").cloned().unwrap_or_else(|| json!({}));
    period["end"] = json!(fhir::date::instant(at_ms));
    plan.set("period", period);
}

/// Has a plan say what another version of the journey says; what others have written to it stays.
pub(crate) fn follow(plan: &mut Resource, from: &Definition, to: &Definition) {
    let (was, is) = (
        json!(journey_canonical(&from.name, from.version)),
        json!(journey_canonical(&to.name, to.version)),
    );
    let said = plan.get("instantiatesCanonical").and_then(Value::as_array);
    let mut said = said.cloned().unwrap_or_default();
    said.retain(|canonical| *canonical != was && *canonical != is);
    said.insert(0, is);
    plan.set("instantiatesCanonical", Value::Array(said));
    if plan.text_at(&["title"]) == Some(from.title.as_str()) {
        plan.set("title", json!(to.title));
    }
    if plan.text_at(&["author", "display"]) == Some(from.owner.as_str()) {
        plan.set("author", json!({"display": to.owner}));
    }
}

/// Ends the plan of a journey that goes on by a version which shows none.
pub(crate) fn put_away(plan: &mut Resource, definition: &Definition, state: &State, now_ms: u64) {
    if state.running() {
        plan.set("status", json!("revoked"));
        end(plan, now_ms);
    } else {
        bring(plan, definition, state, &[]);
    }
}

/// Takes the end of a plan back that was put away.
pub(crate) fn take_out(plan: &mut Resource) {
    if let Some(mut period) = plan.get("period").cloned()
        && let Some(members) = period.as_object_mut()
    {
        members.remove("end");
        plan.set("period", period);
    }
}

/// What a journey made, as an activity: what is asked for, or what came of it.
fn activity(reference: &str) -> Option<Value> {
    let (kind, _) = reference.split_once('/')?;
    let to = json!({"reference": reference});
    match kind {
        "Task" | "Appointment" => Some(json!({"reference": to})),
        "Communication" => Some(json!({"outcomeReference": [to]})),
        _ => None,
    }
}

fn named(activity: &Value) -> Option<String> {
    let of = |value: &Value| value.get("reference")?.as_str().map(str::to_owned);
    let asked = activity.get("reference").and_then(of);
    asked.or_else(|| of(activity.get("outcomeReference")?.get(0)?))
}

/// Whether a plan is over: whoever ended it, it stays as they left it.
pub(crate) fn is_over(plan: &Resource) -> bool {
    matches!(
        plan.text_at(&["status"]),
        Some("revoked" | "completed" | "entered-in-error")
    )
}

/// Whether a plan is revoked, as it is where a version that shows none has put it away.
pub(crate) fn is_revoked(plan: &Resource) -> bool {
    plan.text_at(&["status"]) == Some("revoked")
}

/// What somebody asks for who has written a status to the plan of a journey under way, and what the audit says of it.
pub(crate) fn asked(plan: &Resource, state: &State) -> Option<(Manual, &'static str)> {
    let hand = |act: Act, reason: &str| {
        Manual::Hand(Hand {
            act,
            reason: reason.to_owned(),
            by: BY.to_owned(),
            batch: None,
        })
    };
    let held = state.paused.is_some();
    if !state.running() {
        return None;
    }
    match plan.text_at(&["status"])? {
        "on-hold" if !held => Some((
            hand(Act::Pause, "The care plan was put on hold"),
            "held by its care plan",
        )),
        "active" if held => Some((
            hand(Act::Resume, "The care plan goes on"),
            "let go on by its care plan",
        )),
        "revoked" => Some((
            Manual::Stop("The care plan was revoked".to_owned()),
            "stopped by its care plan",
        )),
        "completed" => Some((
            Manual::Stop("The care plan was completed by others".to_owned()),
            "stopped by its care plan",
        )),
        "entered-in-error" => Some((
            Manual::Stop("The care plan was entered in error".to_owned()),
            "stopped by its care plan",
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOURNEY: &str = include_str!("../../../journeys/heart-failure-discharge.yaml");

    #[test]
    fn what_a_written_status_asks() {
        let definition = Definition::compile(JOURNEY, 1).unwrap();
        let start = State::probe(&definition, "p", "k", std::collections::BTreeMap::new(), 0);
        let held = State {
            paused: Some(crate::state::Paused::default()),
            ..start.clone()
        };
        let ended = |code: &str| State {
            ended: Some(crate::state::Ended {
                at_ms: 0,
                code: code.to_owned(),
                title: String::new(),
            }),
            ..start.clone()
        };
        let exit = definition.exits.first().unwrap().id.clone();
        for (state, shown) in [
            (&start, "active"),
            (&held, "on-hold"),
            (&ended("completed"), "completed"),
            (&ended("time_over"), "completed"),
            (&ended("stopped"), "revoked"),
            (&ended(&exit), "revoked"),
            (&ended(STARTED_IN_ERROR), "entered-in-error"),
        ] {
            assert_eq!(status(&definition, state), shown);
        }
        for (state, written, deed) in [
            (&start, "active", None),
            (&start, "draft", None),
            (&start, "on-hold", Some("held by its care plan")),
            (&start, "revoked", Some("stopped by its care plan")),
            (&start, "completed", Some("stopped by its care plan")),
            (&held, "on-hold", None),
            (&held, "active", Some("let go on by its care plan")),
            (&held, "entered-in-error", Some("stopped by its care plan")),
            (&ended("completed"), "active", None),
            (&ended("completed"), "revoked", None),
        ] {
            let mut plan = begun(&definition, "i", "c", state, &[]);
            plan.set("status", json!(written));
            assert_eq!(asked(&plan, state).map(|(_, deed)| deed), deed, "{written}");
        }
    }

    #[test]
    fn a_plan_names_each_resource_once_and_not_without_end() {
        let definition = Definition::compile(JOURNEY, 1).unwrap();
        let state = State::probe(&definition, "p", "k", std::collections::BTreeMap::new(), 0);
        let made: Vec<String> = (0..150).map(|number| format!("Task/{number}")).collect();
        let mut plan = begun(&definition, "i", "c", &state, &made[..2]);
        bring(
            &mut plan,
            &definition,
            &state,
            &["Task/1".to_owned(), "Communication/c".to_owned()],
        );
        let activities = plan.get("activity").and_then(Value::as_array).unwrap();
        assert_eq!(activities.len(), 3);
        assert_eq!(
            activities[2]["outcomeReference"][0]["reference"],
            "Communication/c"
        );
        bring(&mut plan, &definition, &state, &made);
        let activities = plan.get("activity").and_then(Value::as_array).unwrap();
        assert_eq!(activities.len(), NAMED_MAX);
        assert!(fhir::validate::check(&plan).is_empty());
    }
}
