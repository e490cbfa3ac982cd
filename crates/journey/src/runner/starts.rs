//! How a journey starts for a patient: the entry event, who it is for, and what holds already.

use super::reference;
use crate::Journeys;
use crate::books::Books;
use crate::definition::{Again, Definition, ExitTrigger, Who};
use crate::engine::{self, Context, Fact, Start};
use crate::facts;
use crate::mover::{MoveError, Mover, instance_id};
use crate::request;
use crate::state::State;
use crate::time::DAY_MS;
use fhir::{Resource, ResourceType};
use std::collections::BTreeMap;

/// How often one entry event may start a journey in error and then be one again.
const STARTS_MAX: u32 = 16;

/// Where a journey of a patient is, or would be, by what it is keyed by.
pub(crate) enum Place {
    /// Nothing is there yet: the id that the instance would have.
    Free(String),
    /// An instance.
    Taken(String, Box<State>),
    /// One of this unit of work; or there were too many in error.
    Used,
}

impl Journeys {
    /// Starts the journeys whose entry a resource fulfils, or completes: the condition on the patient's
    /// record may come true after the entry event.
    pub(super) async fn start_journeys(
        &self,
        books: &Books,
        mover: &mut Mover<'_>,
        patient: &str,
        resource: &Resource,
        number: u64,
        now_ms: u64,
    ) -> Result<(), MoveError> {
        let starting = books.starting();
        let mut versions = Vec::new();
        for starting in &starting {
            for definition in starting.versions() {
                versions.push((starting, definition));
            }
        }
        for (starting, definition) in versions {
            // What begins by a date is planned (`begin.rs`).
            let by_event = definition
                .entry
                .kind()
                .filter(|_| definition.entry.date.is_none());
            let Some(event) = by_event else {
                continue;
            };
            if resource.kind() == event {
                let takes =
                    self.starts_on(mover, starting, definition.version, patient, Some(resource));
                if let Some(anchors) = facts::entry(definition, resource, now_ms)
                    && takes.await?
                {
                    self.start_one(
                        mover, definition, patient, resource, anchors, resource, number, now_ms,
                    )
                    .await?;
                }
            } else if facts::who_by_record(definition, resource, now_ms) {
                let mut entries: Vec<(Resource, BTreeMap<String, u64>)> = mover
                    .of_type(event, &[])
                    .await?
                    .into_iter()
                    .filter_map(|entry| {
                        let anchors = facts::entry(definition, &entry, now_ms)?;
                        Some((entry, anchors))
                    })
                    .collect();
                // The latest first: of several, only it may start a journey.
                let first = definition.entry.anchors.first().map(|(name, _)| name);
                entries.sort_by_key(|(_, anchors)| {
                    std::cmp::Reverse(first.and_then(|name| anchors.get(name)).copied())
                });
                for (entry, anchors) in entries {
                    let version = definition.version;
                    let takes = self.starts_on(mover, starting, version, patient, Some(&entry));
                    if !takes.await? {
                        continue;
                    }
                    self.start_one(
                        mover, definition, patient, &entry, anchors, resource, number, now_ms,
                    )
                    .await?;
                }
            }
        }
        Ok(())
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "the start of a journey rests on all of these"
    )]
    pub(super) async fn start_one(
        &self,
        mover: &mut Mover<'_>,
        definition: &Definition,
        patient: &str,
        entry: &Resource,
        anchors: BTreeMap<String, u64>,
        cause: &Resource,
        number: u64,
        now_ms: u64,
    ) -> Result<(), MoveError> {
        let Some(key) = entry.id() else { return Ok(()) };
        let Place::Free(instance) = self.place(mover, definition, patient, key).await? else {
            return Ok(());
        };
        let name = &definition.name;
        let ruled = definition.entry.again != Again::default();
        if ruled && mover.entries(name).await?.is_refused(key) {
            return Ok(());
        }
        if !self.who(mover, definition, entry, cause, now_ms).await? {
            return Ok(());
        }
        if !definition.entry.beside && self.is_running(mover, patient, &definition.name).await? {
            let refused = (key, reference(entry), "The patient is in it already");
            let refused = (refused.0, refused.1.as_str(), refused.2);
            return mover.refuse(name, refused, false).await;
        }
        let not_again = self.not_again(mover, definition, patient, now_ms);
        if let Some(why) = not_again.await? {
            let cause = reference(entry);
            return mover.refuse(name, (key, &cause, &why), true).await;
        }
        let exit = self
            .exit_already(mover, definition, patient, key, &anchors, now_ms)
            .await?;
        let start = Start {
            patient: patient.to_owned(),
            key: key.to_owned(),
            cause: reference(cause),
            number,
            anchors,
            exit,
            ..Start::default()
        };
        self.begin_one(mover, definition, &instance, start, now_ms)
            .await
    }

    /// Starts an instance, whatever caused it.
    pub(crate) async fn begin_one(
        &self,
        mover: &mut Mover<'_>,
        definition: &Definition,
        instance: &str,
        mut start: Start,
        now_ms: u64,
    ) -> Result<(), MoveError> {
        start.observations = self.history(mover, definition, now_ms).await?;
        let ids = mover.ids(definition);
        let mut decision = engine::start(
            definition,
            start,
            &Context {
                now_ms,
                instance,
                ids: &ids,
                limited: mover.asks_before(definition),
            },
        )?;
        if decision.state.ended.is_none() {
            decision.state.consents_ms = mover.consents_next(definition).await?;
        }
        mover.take(definition, instance, None, decision).await?;
        Ok(())
    }

    /// Where an entry event or a request would start the journey, or has. What ended as started in error
    /// doesn't count.
    pub(crate) async fn place(
        &self,
        mover: &Mover<'_>,
        definition: &Definition,
        patient: &str,
        key: &str,
    ) -> Result<Place, MoveError> {
        let by = if definition.entry.once { "once" } else { key };
        let (ledger, tenant) = (self.vault().ledger(), mover.tenant());
        // Keys of resources and orders are one patient's; others can be those of several, of whom the first of a
        // shard has the name that programs before this one know.
        let shared = definition.entry.once || key.starts_with(request::KEY);
        let own = shared.then(|| format!("{patient}/{by}"));
        'again: for again in 0..STARTS_MAX {
            let mut free = None;
            for by in own.as_deref().into_iter().chain([by]) {
                let id = instance_id(ledger, tenant, patient, &definition.name, by, again);
                if mover.moved(&id).is_some() {
                    return Ok(Place::Used);
                }
                match mover.instance(&id).await? {
                    None => free = Some(id),
                    Some((state, _)) if state.patient != patient => {}
                    Some((state, _)) if in_error(&state) => continue 'again,
                    Some((state, _)) => return Ok(Place::Taken(id, Box::new(state))),
                }
            }
            if let Some(id) = free {
                return Ok(Place::Free(id));
            }
        }
        Ok(Place::Used)
    }

    /// Whether a patient is in a journey, this unit of work considered.
    pub(crate) async fn is_running(
        &self,
        mover: &Mover<'_>,
        patient: &str,
        journey: &str,
    ) -> Result<bool, MoveError> {
        let under_way = |state: &State| state.running() && state.journey == journey;
        if mover.movers().any(|moved| under_way(&moved.after)) {
            return Ok(true);
        }
        for stored in self.under_way(mover.permit(), patient).await? {
            if mover.moved(&stored.id).is_none() && under_way(&State::from_json(&stored.body)?) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(super) async fn who(
        &self,
        mover: &Mover<'_>,
        definition: &Definition,
        entry: &Resource,
        cause: &Resource,
        now_ms: u64,
    ) -> Result<bool, MoveError> {
        Ok(facts::who_by_event(definition, entry, now_ms)
            || facts::who_by_record(definition, cause, now_ms)
            || self.who_by_all(mover, definition, now_ms).await?)
    }

    /// Whether something in the patient's record says that the journey is for them.
    pub(crate) async fn who_by_all(
        &self,
        mover: &Mover<'_>,
        definition: &Definition,
        now_ms: u64,
    ) -> Result<bool, MoveError> {
        for who in &definition.entry.who {
            if let Who::Has { kind, .. } = who {
                let found = mover.of_type(*kind, &[]).await?;
                if found
                    .iter()
                    .any(|resource| facts::who_by_record(definition, resource, now_ms))
                {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// The exit that already holds when the journey would start: the record can be ahead of the feed, and
    /// an event that came before the start will not come again.
    pub(crate) async fn exit_already(
        &self,
        mover: &mut Mover<'_>,
        definition: &Definition,
        patient: &str,
        key: &str,
        anchors: &BTreeMap<String, u64>,
        now_ms: u64,
    ) -> Result<Option<(String, String)>, MoveError> {
        let probe = crate::State::probe(definition, patient, key, anchors.clone(), now_ms);
        for exit in &definition.exits {
            let holds = match exit.trigger {
                ExitTrigger::ConsentWithdrawn => !mover.permitted(definition).await?,
                ExitTrigger::Segment(membership) => {
                    let (holds, _) = mover.segments(definition).await?;
                    holds.contains(&membership.hold())
                }
                ExitTrigger::Event(condition) => {
                    let kind = definition.conditions[condition].kind;
                    let resources: Vec<Resource> = if kind == ResourceType::Patient {
                        mover.person().await?.cloned().into_iter().collect()
                    } else {
                        mover.of_type(kind, &[]).await?
                    };
                    resources.iter().any(|resource| {
                        facts::exit_by(definition, resource, &probe, condition, now_ms)
                    })
                }
            };
            if holds {
                return Ok(Some((exit.id.clone(), exit.title.clone())));
            }
        }
        Ok(None)
    }

    /// Measurements that the rules may compare with, from before the start.
    pub(crate) async fn history(
        &self,
        mover: &Mover<'_>,
        definition: &Definition,
        now_ms: u64,
    ) -> Result<Vec<Fact>, MoveError> {
        let mut facts_found = Vec::new();
        for step in &definition.steps {
            let Some((code, within_ms)) = step.kind.compares() else {
                continue;
            };
            let since = fhir::date::instant(now_ms.saturating_sub(within_ms.saturating_mul(2)));
            // What is dated later is a mistake and says nothing; see the engine.
            let until = fhir::date::instant(now_ms.saturating_add(DAY_MS));
            let code = format!("{}|{}", trust::conventions::LOINC, code);
            let found = mover
                .of_type(
                    ResourceType::Observation,
                    &[
                        ("combo-code", &code),
                        ("date", &format!("ge{since}")),
                        ("date", &format!("le{until}")),
                    ],
                )
                .await?;
            facts_found.extend(found.iter().map(facts::read));
        }
        Ok(facts_found)
    }
}

pub(super) fn in_error(state: &State) -> bool {
    state
        .ending()
        .is_some_and(|(code, _)| code == engine::STARTED_IN_ERROR)
}
