//! What is the same for all patients of a simulation, worked out once: roles, outcomes, questions, events.

use super::behaviour::{AtStep, Behaviour, Measured};
use crate::ahead::{INSTANCE, PlainIds};
use crate::definition::{Definition, ExitTrigger};
use crate::engine::Effect;
use crate::resources::Maker;
use crate::state::State;
use crate::units;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

/// A question and the answers that it takes.
pub(crate) struct Question {
    pub(crate) id: String,
    pub(crate) kind: Kind,
}

pub(crate) enum Kind {
    YesNo { yes: f64 },
    Number { least: f64, most: f64, whole: bool },
    Choice(Vec<String>),
}

/// A step as the cohort meets it.
pub(crate) struct Stop {
    pub(crate) at: AtStep,
    pub(crate) questions: Vec<Question>,
    /// Index into [`Model::roles`].
    pub(crate) role: usize,
    /// Outcomes of its task with their weights.
    pub(crate) outcomes: Vec<(String, f64)>,
    /// Conditions on events that are waited for here.
    pub(crate) awaited: Vec<usize>,
}

/// An exit's event.
pub(crate) struct Leaving {
    pub(crate) id: String,
    pub(crate) trigger: ExitTrigger,
    pub(crate) share: f64,
    pub(crate) within_ms: u64,
}

/// A goal's event.
pub(crate) struct Aim {
    pub(crate) id: String,
    pub(crate) condition: usize,
    pub(crate) share: f64,
    pub(crate) after_ms: u64,
    pub(crate) within_ms: u64,
}

/// A measurement that rules compare.
pub(crate) struct Reading {
    pub(crate) code: String,
    pub(crate) unit: String,
    pub(crate) measured: Measured,
}

pub(crate) struct Model<'a> {
    pub(crate) definition: &'a Definition,
    pub(crate) behaviour: &'a Behaviour,
    pub(crate) stops: Vec<Stop>,
    pub(crate) roles: Vec<String>,
    pub(crate) leaving: Vec<Leaving>,
    pub(crate) aims: Vec<Aim>,
    pub(crate) readings: Vec<Reading>,
    /// Whether nobody waits for the report any more.
    stopped: &'a AtomicBool,
}

impl<'a> Model<'a> {
    pub(crate) fn new(
        definition: &'a Definition,
        behaviour: &'a Behaviour,
        stopped: &'a AtomicBool,
    ) -> Self {
        let mut roles = vec![String::new()];
        let mut stops = Vec::new();
        let mut readings: BTreeMap<&str, Reading> = BTreeMap::new();
        for (index, step) in definition.steps.iter().enumerate() {
            let at = behaviour.at(&step.id);
            let task = task(definition, index);
            let role = task
                .as_ref()
                .and_then(|task| task.pointer("/performerType/0/coding/0/code"))
                .and_then(Value::as_str)
                .unwrap_or_default();
            let role = place_of(&mut roles, role);
            if let Some((code, _)) = step.kind.compares() {
                let measured = behaviour.measured(code);
                let fits = |unit: &&str| units::mismatch(code, unit).is_none();
                let unit = measured.unit.clone();
                let unit = unit.or_else(|| units::all_units().find(fits).map(str::to_owned));
                readings.entry(code).or_insert_with(|| Reading {
                    code: code.to_owned(),
                    unit: unit.unwrap_or_default(),
                    measured,
                });
            }
            stops.push(Stop {
                questions: questions(definition, index, &at, behaviour),
                role,
                outcomes: outcomes(task.as_ref(), &at),
                awaited: step.kind.awaits(),
                at,
            });
        }
        let leaving = definition.exits.iter().map(|exit| {
            let (share, within_ms) = behaviour.exits.get(&exit.id).copied().unwrap_or_default();
            Leaving {
                id: exit.id.clone(),
                trigger: exit.trigger,
                share,
                within_ms: within_ms.unwrap_or(definition.at_most_ms),
            }
        });
        let aims = definition.steps.iter().filter_map(|step| {
            let at = behaviour.at(&step.id);
            Some(Aim {
                id: step.id.clone(),
                condition: step.kind.aims()?,
                share: at.share.unwrap_or(0.0),
                after_ms: at.after_ms,
                within_ms: at.within_ms.unwrap_or(definition.at_most_ms),
            })
        });
        Self {
            leaving: leaving.collect(),
            aims: aims.collect(),
            definition,
            behaviour,
            stops,
            roles,
            readings: readings.into_values().collect(),
            stopped,
        }
    }

    /// Whether nobody waits for the report any more.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// The place of a role, also of one that only hand-overs name.
    pub(crate) fn role(&self, role: &str) -> usize {
        let found = self.roles.iter().position(|known| known == role);
        found.unwrap_or(0)
    }

    /// A step's place.
    pub(crate) fn stop(&self, step: &str) -> Option<(usize, &Stop)> {
        let place = *self.definition.index.get(step)?;
        Some((place, self.stops.get(place)?))
    }
}

fn place_of(roles: &mut Vec<String>, role: &str) -> usize {
    if let Some(place) = roles.iter().position(|known| known == role) {
        return place;
    }
    roles.push(role.to_owned());
    roles.len() - 1
}

/// The task that a step opens for staff, if it does: made as in production.
fn task(definition: &Definition, index: usize) -> Option<Value> {
    let step = &definition.steps[index];
    let state = State::probe(definition, "patient", "entry", BTreeMap::new(), 0);
    let maker = Maker {
        definition,
        instance: INSTANCE,
        state: &state,
        patient: None,
        now_ms: 0,
    };
    let effect = Effect::OpenTask {
        step: step.id.clone(),
        task: "task".to_owned(),
        due_ms: 0,
        whose: None,
        confirms: None,
    };
    let made = step.kind.resource(&maker, &PlainIds, step, &effect)?;
    Some(made.into_value())
}

fn outcomes(task: Option<&Value>, at: &AtStep) -> Vec<(String, f64)> {
    if !at.outcomes.is_empty() {
        return at.outcomes.clone();
    }
    let offered = task
        .and_then(|task| task.get("input"))
        .and_then(Value::as_array);
    offered
        .into_iter()
        .flatten()
        .filter_map(|input| Some((input.get("valueString")?.as_str()?.to_owned(), 1.0)))
        .collect()
}

fn questions(
    definition: &Definition,
    index: usize,
    at: &AtStep,
    behaviour: &Behaviour,
) -> Vec<Question> {
    let step = &definition.steps[index];
    let form = step
        .kind
        .questionnaire(definition, definition.version, step, &step.id, 0);
    let items = form
        .as_ref()
        .and_then(|form| form.get("item"))
        .and_then(Value::as_array);
    items
        .into_iter()
        .flatten()
        .filter_map(|item| question(item, at, behaviour))
        .collect()
}

fn question(item: &Value, at: &AtStep, behaviour: &Behaviour) -> Option<Question> {
    let text = |name: &str| item.get(name).and_then(Value::as_str);
    let id = text("linkId")?.to_owned();
    let said = at.answers.get(&id).copied();
    let bound = |name: &str| {
        let url = format!("http://hl7.org/fhir/StructureDefinition/{name}");
        let extensions = item.get("extension")?.as_array()?;
        let found = extensions
            .iter()
            .find(|found| found.get("url") == Some(&Value::from(url.as_str())))?;
        found
            .get("valueInteger")
            .or_else(|| found.get("valueDecimal"))?
            .as_f64()
    };
    let kind = match text("type")? {
        "boolean" => Kind::YesNo {
            yes: said.unwrap_or(behaviour.yes),
        },
        number @ ("integer" | "decimal") => {
            let (least, most) = (
                bound("minValue").unwrap_or(0.0),
                bound("maxValue").unwrap_or(10.0),
            );
            // Around the middle that is asked for, as wide as the bounds allow.
            let reach = said.map(|middle| (middle - least).min(most - middle).max(0.0));
            let (least, most) = match (said, reach) {
                (Some(middle), Some(reach)) => (middle - reach, middle + reach),
                _ => (least, most),
            };
            Kind::Number {
                least,
                most,
                whole: number == "integer",
            }
        }
        "choice" => Kind::Choice(
            item.get("answerOption")?
                .as_array()?
                .iter()
                .filter_map(|option| {
                    Some(option.pointer("/valueCoding/code")?.as_str()?.to_owned())
                })
                .collect(),
        ),
        _ => return None,
    };
    Some(Question { id, kind })
}
