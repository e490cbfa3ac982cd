//! What the ledger keeps of a patient's journey.

use crate::definition::Definition;
use crate::engine::{self, Fact, Outcome};
use crate::facts;
use crate::mover::message_key;
use crate::resources;
use crate::room::Book;
use crate::state::{State, TrailEntry, What, Which};
use fhir::{Resource, ResourceType};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use trust::consent::Rules;
use trust::conventions::{INSTANCE_SYSTEM, STEP_SYSTEM};

/// A version of a resource of the patient's record.
pub(super) struct Written {
    pub(super) number: u64,
    pub(super) at_ms: u64,
    /// As it was written; of a deletion, as it was before.
    pub(super) resource: Resource,
    pub(super) deleted: bool,
    /// The version before it, where there is one that was not deleted.
    pub(super) before: Option<Resource>,
}

/// A move of the real journey: a version of where the patient stood.
pub(super) struct Move {
    pub(super) number: u64,
    pub(super) at_ms: u64,
    /// The event that caused it.
    pub(super) cause: Option<u64>,
    /// When time was to move it, as it stood before.
    pub(super) due_ms: Option<u64>,
    /// The steps where the patient was before, one for each place.
    pub(super) was_at: Vec<String>,
    pub(super) entries: Vec<TrailEntry>,
}

impl Move {
    /// Whether somebody did it by hand.
    pub(super) fn is_by_hand(&self) -> bool {
        let mut entries = self.entries.iter();
        entries.any(|entry| match entry.what {
            What::Hand { .. } | What::Moved { .. } => true,
            What::Ended { .. } => entry.why == "staff",
            _ => false,
        })
    }
}

/// Something that a journey made, by what it is for whichever version makes it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Thing {
    pub(super) step: String,
    pub(super) kind: ResourceType,
    /// The message's words and channel; what sort of task.
    pub(super) sort: String,
    /// The how manieth.
    pub(super) nth: usize,
}

/// Something that the real journey made.
pub(super) struct Made {
    pub(super) reference: String,
    pub(super) opened_ms: u64,
    /// As it was made.
    pub(super) first: Resource,
}

/// What became of it, by others than the journey.
pub(super) struct Came {
    pub(super) at_ms: u64,
    pub(super) resource: Resource,
}

pub(super) struct History {
    pub(super) instance: String,
    pub(super) first: State,
    pub(super) last: State,
    pub(super) cause: String,
    /// The first makes the journey.
    pub(super) moves: Vec<Move>,
    pub(super) trail: Vec<TrailEntry>,
    /// In the order of their numbers.
    pub(super) record: Vec<Written>,
    /// The versions that the patient was on.
    pub(super) definitions: BTreeMap<u32, Arc<Definition>>,
    /// The steps of forms, by their canonical references.
    pub(super) forms: BTreeMap<String, String>,
    pub(super) until_ms: u64,
    pub(super) others: Vec<(u64, Book)>,
    pub(super) rules: Rules,
    pub(super) known_as: Vec<String>,
    pub(super) proxy: bool,
    /// Whether the patient has turned notifications on.
    pub(super) notified: bool,
    /// What is not kept, in words.
    pub(super) missing: Vec<String>,
}

/// The step in a resource that a journey's instance made, if it did.
pub(super) fn made_by(resource: &Resource, instance: &str) -> Option<String> {
    let identifiers = resource.get("identifier").and_then(Value::as_array)?;
    let value = |system: &str| {
        let mut of = identifiers.iter().filter(|one| one["system"] == system);
        of.next().and_then(|one| one["value"].as_str())
    };
    if value(INSTANCE_SYSTEM) != Some(instance) {
        return None;
    }
    let step = value(STEP_SYSTEM)?.rsplit('/').next()?;
    Some(step.to_owned())
}

/// What sort of thing a resource is that a journey made.
pub(super) fn sort_of(resource: &Resource, which: Option<Which>) -> String {
    match resource.kind() {
        ResourceType::Communication => {
            let medium = resource.text_at(&["medium", "0", "coding", "0", "code"]);
            // As limits know a message.
            let which = which.map(|which| message_key("", 0, which));
            format!(
                "{} {}",
                which.unwrap_or_default(),
                medium.unwrap_or_default()
            )
        }
        ResourceType::Task => resource
            .text_at(&["code", "coding", "0", "code"])
            .unwrap_or_default()
            .to_owned(),
        _ => String::new(),
    }
}

/// Words that messages have in the trail, by the `Communication`.
pub(super) fn messages(trail: &[TrailEntry]) -> BTreeMap<String, Which> {
    let sent = trail.iter().filter_map(|entry| match entry.what {
        What::Sent { which, .. } => Some((entry.reference.clone()?, which)),
        _ => None,
    });
    sent.collect()
}

impl History {
    pub(super) fn start_number(&self) -> u64 {
        self.first.last
    }

    pub(super) fn definition(&self, version: u32) -> Option<&Arc<Definition>> {
        self.definitions.get(&version)
    }

    /// Whether it began as one whose date was past.
    pub(super) fn began_late(&self) -> bool {
        let Some(definition) = self.definition(self.first.version) else {
            return false;
        };
        let late = definition.entry.late().into_iter();
        let mut late = late
            .flat_map(|late| &late.steps)
            .map(|step| &definition.steps[*step].id);
        late.any(|step| {
            let mut trail = self.first.trail.iter();
            trail.any(|entry| entry.what == What::Entered && entry.step == *step)
        })
    }

    /// The move in whose commit something was written by the journey: it comes before the place where the patient
    /// stands then.
    pub(super) fn move_of(&self, number: u64) -> Option<&Move> {
        let at = self.moves.partition_point(|one| one.number < number);
        self.moves.get(at)
    }

    fn moved_ms(&self, number: u64) -> Option<u64> {
        self.move_of(number).map(|one| one.at_ms)
    }

    /// What the journey made, by what it is for.
    pub(super) fn made(&self) -> BTreeMap<Thing, Made> {
        let words = messages(&self.trail);
        let mut count: BTreeMap<(String, ResourceType, String), usize> = BTreeMap::new();
        let mut made = BTreeMap::new();
        for written in &self.record {
            let resource = &written.resource;
            let kind = resource.kind();
            let of_step = matches!(
                kind,
                ResourceType::Task | ResourceType::Communication | ResourceType::Appointment
            );
            if !of_step || written.before.is_some() || written.deleted {
                continue;
            }
            let Some(step) = made_by(resource, &self.instance) else {
                continue;
            };
            let reference = crate::stage::reference(resource);
            let sort = sort_of(resource, words.get(&reference).copied());
            let nth = count.entry((step.clone(), kind, sort.clone())).or_default();
            let thing = Thing {
                step,
                kind,
                sort,
                nth: *nth,
            };
            *nth += 1;
            made.insert(
                thing,
                Made {
                    reference,
                    opened_ms: self.moved_ms(written.number).unwrap_or(written.at_ms),
                    first: resource.clone(),
                },
            );
        }
        made
    }

    /// What others have made of each thing that the journey made, where it says how it is over: the first of it.
    pub(super) fn came(&self) -> BTreeMap<String, Came> {
        let mut came = BTreeMap::new();
        for written in &self.record {
            let resource = &written.resource;
            let reference = if resource.kind() == ResourceType::QuestionnaireResponse {
                match facts::read(resource) {
                    Fact::Answers {
                        task: Some(task), ..
                    } => format!("Task/{task}"),
                    _ => continue,
                }
            } else {
                let Some(before) = &written.before else {
                    continue;
                };
                let is_over =
                    !resources::open(resource) || resource.text_at(&["status"]) == Some("booked");
                if made_by(resource, &self.instance).is_none()
                    || !is_over
                    || resources::is_own_change(before, resource)
                {
                    continue;
                }
                crate::stage::reference(resource)
            };
            came.entry(reference).or_insert_with(|| Came {
                at_ms: written.at_ms,
                resource: resource.clone(),
            });
        }
        came
    }
}

/// What a message's resource says became of it.
pub(super) fn outcome(resource: &Resource) -> Option<Outcome> {
    match facts::read(resource) {
        Fact::Message { outcome, .. } if outcome != Outcome::UnderWay => Some(outcome),
        _ => None,
    }
}

/// When time moves a patient next, by the version that they were on.
pub(super) fn due_ms(definitions: &BTreeMap<u32, Arc<Definition>>, state: &State) -> Option<u64> {
    let definition = definitions.get(&state.version)?;
    engine::next_timer_ms(definition, state)
}
