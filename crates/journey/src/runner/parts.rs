//! Journeys that other journeys begin: for the `Task` that asks for one, and its end in that `Task`.
//!
//! Such a `Task` counts only if a place of a journey under way stands for it, by an id that nobody can make
//! up; whoever else writes one begins nothing.

use crate::Journeys;
use crate::books::Books;
use crate::definition::Definition;
use crate::engine::{Ids, Start};
use crate::mover::{MoveError, Mover};
use crate::resources;
use crate::runner::Place;
use crate::state::State;
use fhir::{Resource, ResourceType};
use serde_json::{Value, json};
use trust::conventions::{JOURNEY_ORDER, TASK_SYSTEM};

/// Before the id of the `Task`, so that it is the id of no resource.
const KEY: &str = "journey:";

/// What a start that another journey asked for is keyed by.
fn key(task: &str) -> String {
    format!("{KEY}{task}")
}

/// The `Task` that asked for a start, if one did.
pub(crate) fn task_of(key: &str) -> Option<&str> {
    key.strip_prefix(KEY)
}

/// Whether a resource asks for a journey.
pub(super) fn is_order(resource: &Resource) -> bool {
    let codings = resource.at(&["code", "coding"]).and_then(Value::as_array);
    resource.kind() == ResourceType::Task
        && codings.into_iter().flatten().any(|coding| {
            coding.get("system").and_then(Value::as_str) == Some(TASK_SYSTEM)
                && coding.get("code").and_then(Value::as_str) == Some(JOURNEY_ORDER)
        })
}

/// Whether a resource is the order that began a journey, and is not open any more.
pub(crate) fn lets_go(resource: &Resource, state: &State) -> bool {
    resource.kind() == ResourceType::Task
        && task_of(&state.key).is_some_and(|task| resource.id() == Some(task))
        && !resources::open(resource)
}

/// Writes into an order how the journey that it asked for has ended.
pub(crate) fn ended(order: &mut Resource, code: &str, title: &str, now_ms: u64) {
    resources::close(order, true, title, now_ms);
    order.set(
        "output",
        json!([{"type": {"text": "outcome"}, "valueString": code}]),
    );
}

/// A place that stands for an order, and the journey that it begins.
fn ordered<'d>(
    definition: &'d Definition,
    state: &State,
    instance: &str,
    ids: &dyn Ids,
    order: &str,
) -> Option<&'d str> {
    state.tokens.iter().find_map(|token| {
        let kind = &definition.step(&token.step)?.kind;
        let begins = kind.begins()?;
        let (_, slot) = kind.makes()?;
        let id = ids.id(&format!("{instance}/{}/{slot}", token.n));
        (id == order).then_some(begins)
    })
}

impl Journeys {
    /// Begins the journey that an order asks for, if one of the patient's journeys stands for it; says in the
    /// order why not, if that can't be.
    ///
    /// # Errors
    /// `NoDefinition` where a newer program has published what is to be begun: that one can begin it.
    pub(super) async fn begin_part(
        &self,
        books: &Books,
        mover: &mut Mover<'_>,
        of: (&Definition, &State, &str),
        order: &Resource,
        (number, now_ms): (u64, u64),
    ) -> Result<(), MoveError> {
        let (parent, state, instance) = of;
        let Some(order_id) = order
            .id()
            .filter(|_| is_order(order) && resources::open(order))
        else {
            return Ok(());
        };
        let ids = mover.ids(parent);
        let Some(name) = ordered(parent, state, instance, &ids, order_id) else {
            return Ok(());
        };
        let live = books.live(name);
        let newest = live.as_ref().map(|live| live.stored.version);
        if let Some(unread) = books.unread_version(name).filter(|one| Some(*one) > newest) {
            return Err(MoveError::NoDefinition(format!("{name}/{unread}")));
        }
        let why_not = match live {
            None => Some(format!("There is no journey {name}")),
            Some(live) => {
                let definition = live.definition.clone();
                let key = key(order_id);
                let patient = state.patient.clone();
                let given = definition.entry.anchors.iter().map(|(anchor, _)| {
                    let at_ms = state.anchors.get(anchor).copied();
                    (anchor.clone(), at_ms.unwrap_or(now_ms))
                });
                let start = Start {
                    patient: patient.clone(),
                    key: key.clone(),
                    cause: format!("Task/{order_id}"),
                    number,
                    anchors: given.collect(),
                    ..Start::default()
                };
                match self.place(mover, &definition, &patient, &key).await? {
                    Place::Taken(_, found) if found.key == key => return Ok(()),
                    Place::Taken(..) | Place::Used => {
                        Some("A patient takes this journey once".to_owned())
                    }
                    Place::Free(id) => {
                        let why_not = self.why_not(mover, &definition, &start, now_ms).await?;
                        if why_not.is_none() {
                            self.begin_one(mover, &definition, &id, start, now_ms)
                                .await?;
                        }
                        why_not
                    }
                }
            }
        };
        if let Some(words) = why_not {
            mover.turn_down(order_id, &words).await?;
        }
        Ok(())
    }

    /// Why a journey that another asks for doesn't begin, in words without anything of the patient.
    async fn why_not(
        &self,
        mover: &mut Mover<'_>,
        definition: &Definition,
        start: &Start,
        now_ms: u64,
    ) -> Result<Option<String>, MoveError> {
        let (patient, entry) = (&start.patient, &definition.entry);
        if !entry.who.is_empty() && !self.who_by_all(mover, definition, now_ms).await? {
            return Ok(Some("It is not for this patient".to_owned()));
        }
        if !entry.beside && self.is_in(mover, patient, &definition.name).await? {
            return Ok(Some("The patient is in it already".to_owned()));
        }
        let not_again = self.not_again(mover, definition, patient, now_ms);
        if let Some(why) = not_again.await? {
            return Ok(Some(why));
        }
        if !mover.permitted(definition).await? {
            return Ok(Some("Consents don't allow it".to_owned()));
        }
        let (key, anchors) = (&start.key, &start.anchors);
        let exit = self
            .exit_already(mover, definition, patient, key, anchors, now_ms)
            .await?;
        Ok(exit.map(|(_, title)| format!("It would end at once: {title}")))
    }

    /// Whether a patient is in a journey and stays in it. One whose order was taken back is about to end: where
    /// a step is begun anew, the new order may be read before the end of the old one.
    async fn is_in(
        &self,
        mover: &Mover<'_>,
        patient: &str,
        journey: &str,
    ) -> Result<bool, MoveError> {
        let here = |state: &State| state.running() && state.journey == journey;
        if mover.movers().any(|moved| here(&moved.after)) {
            return Ok(true);
        }
        for stored in self.under_way(mover.permit(), patient).await? {
            if mover.moved(&stored.id).is_some() {
                continue;
            }
            let state = State::from_json(&stored.body)?;
            if !here(&state) {
                continue;
            }
            let Some(order) = task_of(&state.key) else {
                return Ok(true);
            };
            let kind = ResourceType::Task;
            let found = self.vault().load(mover.permit(), kind, order).await?;
            if found.is_none_or(|found| found.deleted || resources::open(&found.resource)) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
