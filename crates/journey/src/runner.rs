//! The follower: events of the feed and due timers, turned into units of work.
//!
//! Nothing polls. The follower sleeps until the ledger says that a shard has new events or the next
//! timer is due. Shards are worked on side by side; within a shard, one thing after the other.

use crate::books::{Books, Position};
use crate::definition::{Definition, Who};
use crate::engine::{self, Context, Event as JourneyEvent, Fact, Input, REPLAYED, Start};
use crate::facts;
use crate::mover::{MoveError, Moved, Mover, TIMER_CONSUMER, instance_id};
use crate::{DeadLetter, JourneyError, Journeys};
use fhir::{Resource, ResourceType};
use ledger::{
    CursorMove, Event, Expected, LedgerError, Number, Owner, SHARDS, Shard, TenantId, Timer,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use trust::{Internal, Permit, TrustError, Unit, Versioned, kinds};

/// Shards worked on at once: enough that their commits share flushes, few enough to bound memory.
const SHARDS_AT_ONCE: usize = 48;
/// Events read from a shard at once.
const EVENTS_AT_ONCE: usize = 256;
/// Timers taken at once.
const TIMERS_AT_ONCE: usize = 1024;
/// Events that may be passed over before the place is stored; what is read again after a crash.
const SKIPPED_MAX: usize = 512;
/// How often a conflict with another writer is tried again before the shard waits for its next turn.
const CONFLICTS_MAX: u32 = 32;
/// How often something that can't be worked on is tried before it becomes a dead letter.
const TRIES: u32 = 3;
/// Real time to wait after the store failed.
const FAULT_WAIT: Duration = Duration::from_millis(500);
/// Real time to wait when the next timer of the store is due but is another context's.
const FOREIGN_TIMER_WAIT: Duration = Duration::from_millis(200);

/// What to do about an error.
enum Cure {
    /// Read again and try again.
    Again,
    /// The store fails or is closed, or policy says no: stand still, lose nothing.
    Wait,
    /// The patient's key was destroyed: there is nobody to move.
    Skip,
    /// It will never work: keep it for people.
    Bury,
}

fn cure(error: &MoveError) -> Cure {
    match error {
        MoveError::Trust(TrustError::Ledger(
            LedgerError::Conflict | LedgerError::CursorMoved { .. },
        )) => Cure::Again,
        MoveError::Trust(TrustError::Ledger(LedgerError::KeyDestroyed)) => Cure::Skip,
        MoveError::Trust(
            TrustError::Ledger(LedgerError::Damaged(_) | LedgerError::Invalid(_))
            | TrustError::Damaged(_)
            | TrustError::Invalid(_),
        )
        | MoveError::Engine(_)
        | MoveError::State(_)
        | MoveError::NoDefinition(_) => Cure::Bury,
        MoveError::Trust(_) => Cure::Wait,
    }
}

fn cursor_moved(error: &MoveError) -> bool {
    matches!(
        error,
        MoveError::Trust(TrustError::Ledger(LedgerError::CursorMoved { .. }))
    )
}

/// The follower's name in the ledger.
pub(crate) fn consumer(tenant: TenantId) -> String {
    format!("journey/{}", tenant.0)
}

impl Journeys {
    /// Everything that is there to do on one shard's feed. Returns the moves made, and whether the end was reached.
    async fn shard(
        &self,
        books: &Books,
        permit: &Permit,
        shard: Shard,
        position: &mut Position,
    ) -> Result<u64, MoveError> {
        let ledger = self.vault().ledger();
        let name = consumer(books.tenant);
        if !position.known {
            position.stored = ledger
                .cursor(&name, shard)
                .await
                .map_err(TrustError::from)?;
            position.read = position.stored;
            position.known = true;
        }
        if ledger.shard_head(shard) <= position.read {
            return Ok(0);
        }
        let mut moves = 0;
        loop {
            let events = ledger
                .events(shard, position.read, EVENTS_AT_ONCE)
                .await
                .map_err(TrustError::from)?;
            if let Some(first) = events.first() {
                let behind_ms = self.now_ms().saturating_sub(first.at.number.unix_ms());
                #[allow(clippy::cast_precision_loss, reason = "seconds of a gauge")]
                metrics::gauge!("journey_feed_lag_seconds").set(behind_ms as f64 / 1000.0);
            }
            let full = events.len() == EVENTS_AT_ONCE;
            for event in events {
                let number = event.at.number;
                if self.may_matter(books, permit, &event).await? {
                    moves += self
                        .one_event(books, permit, shard, position, &event)
                        .await?;
                }
                if position.read < number {
                    position.read = number;
                    position.skipped += 1;
                }
            }
            if position.skipped >= SKIPPED_MAX {
                self.store_position(&name, books.tenant, shard, position)
                    .await?;
            }
            if !full {
                return Ok(moves);
            }
        }
    }

    /// Stores where the follower stands, without anything else.
    async fn store_position(
        &self,
        name: &str,
        tenant: TenantId,
        shard: Shard,
        position: &mut Position,
    ) -> Result<(), MoveError> {
        if position.read == position.stored {
            return Ok(());
        }
        let ledger = self.vault().ledger();
        let commit = ledger::Commit {
            cursor: Some(CursorMove {
                consumer: name.to_owned(),
                shard,
                from: position.stored,
                to: position.read,
            }),
            ..ledger::Commit::new(tenant)
        };
        match ledger.commit(commit).await {
            Ok(_) => position.stored = position.read,
            Err(LedgerError::CursorMoved { .. }) => position.known = false,
            Err(other) => return Err(TrustError::from(other).into()),
        }
        position.skipped = 0;
        Ok(())
    }

    /// Cheap tests that most events fail, before anything is opened.
    async fn may_matter(
        &self,
        books: &Books,
        permit: &Permit,
        event: &Event,
    ) -> Result<bool, MoveError> {
        if event.tenant != books.tenant || event.deleted {
            return Ok(false);
        }
        if event.kind == kinds::JOURNEY_DEFINITION {
            books.read_definitions(self.vault(), permit).await?;
            return Ok(false);
        }
        let interest = books.interest(event.kind);
        Ok(interest.starts || (interest.moves && !books.idle(event.at.shard)))
    }

    /// One event, until it is done, put off or buried.
    async fn one_event(
        &self,
        books: &Books,
        permit: &Permit,
        shard: Shard,
        position: &mut Position,
        event: &Event,
    ) -> Result<u64, MoveError> {
        let name = consumer(books.tenant);
        let mut tries = 0;
        let mut conflicts = 0;
        loop {
            let cursor = CursorMove {
                consumer: name.clone(),
                shard,
                from: position.stored,
                to: event.at.number,
            };
            match self
                .move_event(books, permit, event, Some(cursor), event.at.number.0)
                .await
            {
                Ok(0) => return Ok(0),
                Ok(moves) => {
                    *position = Position {
                        stored: event.at.number,
                        read: event.at.number,
                        skipped: 0,
                        known: true,
                    };
                    return Ok(moves);
                }
                Err(error) => match cure(&error) {
                    Cure::Again if conflicts < CONFLICTS_MAX => {
                        conflicts += 1;
                        if cursor_moved(&error) {
                            position.stored = self
                                .vault()
                                .ledger()
                                .cursor(&name, shard)
                                .await
                                .map_err(TrustError::from)?;
                            if position.stored >= event.at.number {
                                // Another follower was here first.
                                position.read = position.stored;
                                return Ok(0);
                            }
                        }
                    }
                    Cure::Skip => return Ok(0),
                    Cure::Bury => {
                        tries += 1;
                        if tries >= TRIES {
                            let cursor = CursorMove {
                                consumer: name.clone(),
                                shard,
                                from: position.stored,
                                to: event.at.number,
                            };
                            self.bury_event(permit, event, &error, cursor).await?;
                            *position = Position {
                                stored: event.at.number,
                                read: event.at.number,
                                skipped: 0,
                                known: true,
                            };
                            return Ok(0);
                        }
                    }
                    Cure::Again | Cure::Wait => return Err(error),
                },
            }
        }
    }

    /// What one event does, in one unit of work. Returns how many journeys moved.
    pub(crate) async fn move_event(
        &self,
        books: &Books,
        permit: &Permit,
        event: &Event,
        cursor: Option<CursorMove>,
        number: u64,
    ) -> Result<u64, MoveError> {
        let Some(found) = self.vault().load_at(permit, event.at).await? else {
            return Ok(0);
        };
        let Versioned {
            resource, deleted, ..
        } = found;
        if deleted {
            return Ok(0);
        }
        let patient = match resource.kind() {
            ResourceType::Patient => resource.id(),
            _ => resource.patient(),
        };
        let Some(patient) = patient.map(str::to_owned) else {
            return Ok(0);
        };
        let interest = books.interest(event.kind);
        let under_way = books.under_way(event.at.shard, &patient);
        if under_way.is_empty() && !interest.starts {
            return Ok(0);
        }
        let now_ms = self.now_ms();
        let mut mover = Mover::new(self.vault(), permit, &patient, now_ms);
        for instance in under_way {
            self.move_instance(books, &mut mover, &instance, &resource, number, now_ms)
                .await?;
        }
        if interest.starts {
            self.start_journeys(books, &mut mover, &patient, &resource, number, now_ms)
                .await?;
        }
        self.commit(
            books,
            permit,
            mover,
            cursor,
            Some(event.at.number),
            Vec::new(),
        )
        .await
    }

    /// Commits what a mover gathered and counts it.
    async fn commit(
        &self,
        books: &Books,
        permit: &Permit,
        mover: Mover<'_>,
        cursor: Option<CursorMove>,
        cause: Option<Number>,
        cleared: Vec<ledger::TimerKey>,
    ) -> Result<u64, MoveError> {
        let Some((mut unit, moved)) = mover.finish() else {
            return Ok(0);
        };
        unit.cursor = cursor;
        unit.cause = cause;
        for key in cleared {
            if !unit.timers_clear.contains(&key)
                && !unit.timers_set.iter().any(|timer| timer.key == key)
            {
                unit.timers_clear.push(key);
            }
        }
        self.vault().commit(permit, unit).await?;
        self.counted(books, &moved);
        Ok(u64::try_from(moved.len()).unwrap_or(u64::MAX))
    }

    fn counted(&self, books: &Books, moved: &[Moved]) {
        for one in moved {
            books.count(one, self.vault());
            metrics::counter!("journey_moves_total", "journey" => one.after.journey.clone())
                .increment(1);
            for (state, count) in
                books.with_counts(&one.after.journey, one.after.version, |counts| {
                    [("running", counts.running), ("ended", counts.ended)]
                })
            {
                #[allow(clippy::cast_precision_loss, reason = "a gauge of patients")]
                metrics::gauge!("journey_instances", "journey" => one.after.journey.clone(), "version" => one.after.version.to_string(), "state" => state).set(count as f64);
            }
        }
    }

    async fn move_instance(
        &self,
        books: &Books,
        mover: &mut Mover<'_>,
        instance: &str,
        resource: &Resource,
        number: u64,
        now_ms: u64,
    ) -> Result<(), MoveError> {
        let Some((state, version)) = mover.instance(instance).await? else {
            return Ok(());
        };
        let definition = definition(books, &state.journey, state.version)?;
        let mut fact = facts::read(resource);
        if resource.kind() == ResourceType::Consent {
            fact = Fact::Consent {
                permitted: mover.permitted(definition.purpose).await?,
            };
        } else if resource.kind() == definition.entry.event && resource.id() == Some(&state.key) {
            fact = Fact::Anchors(facts::anchors(&definition, resource));
        }
        let event = JourneyEvent {
            number,
            reference: reference(resource),
            fact,
            holds: facts::holds(&definition, resource, &state, now_ms),
        };
        let ids = mover.ids(&definition);
        let decision = engine::step(
            &definition,
            &state,
            Input::Event(event),
            &Context {
                now_ms,
                instance,
                ids: &ids,
            },
        )?;
        mover
            .take(&definition, instance, Some((&state, version)), decision)
            .await?;
        Ok(())
    }

    /// Starts the journeys whose entry a resource fulfils, or completes: the condition on the patient's
    /// record may come true after the entry event.
    async fn start_journeys(
        &self,
        books: &Books,
        mover: &mut Mover<'_>,
        patient: &str,
        resource: &Resource,
        number: u64,
        now_ms: u64,
    ) -> Result<(), MoveError> {
        for published in books.all_live() {
            let definition = &published.definition;
            if resource.kind() == definition.entry.event {
                if let Some(anchors) = facts::entry(definition, resource, now_ms) {
                    self.start_one(
                        mover, definition, patient, resource, anchors, resource, number, now_ms,
                    )
                    .await?;
                }
            } else if facts::who_by_record(definition, resource, now_ms) {
                for entry in mover.of_type(definition.entry.event, &[]).await? {
                    if let Some(anchors) = facts::entry(definition, &entry, now_ms) {
                        self.start_one(
                            mover, definition, patient, &entry, anchors, resource, number, now_ms,
                        )
                        .await?;
                    }
                }
            }
        }
        Ok(())
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "the start of a journey rests on all of these"
    )]
    async fn start_one(
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
        let by = if definition.entry.once { "once" } else { key };
        let instance = instance_id(
            self.vault().ledger(),
            mover.tenant(),
            patient,
            &definition.name,
            by,
        );
        if mover.instance(&instance).await?.is_some()
            || !self.who(mover, definition, entry, cause, now_ms).await?
        {
            return Ok(());
        }
        let exit = self
            .exit_already(mover, definition, patient, key, &anchors, now_ms)
            .await?;
        let observations = self.history(mover, definition, now_ms).await?;
        let ids = mover.ids(definition);
        let start = Start {
            patient: patient.to_owned(),
            key: key.to_owned(),
            cause: reference(cause),
            number,
            anchors,
            observations,
            exit,
        };
        let decision = engine::start(
            definition,
            start,
            &Context {
                now_ms,
                instance: &instance,
                ids: &ids,
            },
        )?;
        mover.take(definition, &instance, None, decision).await?;
        Ok(())
    }

    async fn who(
        &self,
        mover: &Mover<'_>,
        definition: &Definition,
        entry: &Resource,
        cause: &Resource,
        now_ms: u64,
    ) -> Result<bool, MoveError> {
        if facts::who_by_event(definition, entry, now_ms)
            || facts::who_by_record(definition, cause, now_ms)
        {
            return Ok(true);
        }
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
    async fn exit_already(
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
                crate::definition::ExitTrigger::ConsentWithdrawn => {
                    !mover.permitted(definition.purpose).await?
                }
                crate::definition::ExitTrigger::Event(condition) => {
                    let kind = definition.conditions[condition].kind;
                    let resources: Vec<Resource> = if kind == ResourceType::Patient {
                        mover.person().await?.cloned().into_iter().collect()
                    } else {
                        mover.of_type(kind, &[]).await?
                    };
                    resources
                        .iter()
                        .filter(|resource| {
                            !(kind == definition.entry.event && resource.id() == Some(key))
                        })
                        .any(|resource| {
                            facts::holds(definition, resource, &probe, now_ms).contains(&condition)
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
    async fn history(
        &self,
        mover: &Mover<'_>,
        definition: &Definition,
        now_ms: u64,
    ) -> Result<Vec<Fact>, MoveError> {
        let mut facts_found = Vec::new();
        for step in &definition.steps {
            let crate::definition::StepKind::Observe(rule) = &step.kind else {
                continue;
            };
            let since =
                fhir::date::instant(now_ms.saturating_sub(rule.within_ms.saturating_mul(2)));
            let code = format!("{}|{}", trust::conventions::LOINC, rule.code);
            let found = mover
                .of_type(
                    ResourceType::Observation,
                    &[("code", &code), ("date", &format!("ge{since}"))],
                )
                .await?;
            facts_found.extend(found.iter().map(facts::read));
        }
        Ok(facts_found)
    }

    /// The due timers of one shard.
    async fn due(
        &self,
        books: &Books,
        permit: &Permit,
        timers: &[Timer],
        read: Number,
    ) -> Result<u64, MoveError> {
        // Several timers of one patient's journey are one input.
        let mut instances: BTreeMap<String, Vec<&Timer>> = BTreeMap::new();
        for timer in timers {
            instances
                .entry(String::from_utf8_lossy(&timer.payload).into_owned())
                .or_default()
                .push(timer);
        }
        let mut moves = 0;
        for (instance, timers) in instances {
            let mut tries = 0;
            let mut conflicts = 0;
            loop {
                match self
                    .move_timers(books, permit, &instance, &timers, read)
                    .await
                {
                    Ok(moved) => {
                        moves += moved;
                        break;
                    }
                    Err(error) => match cure(&error) {
                        Cure::Again if conflicts < CONFLICTS_MAX => conflicts += 1,
                        Cure::Skip => {
                            self.clear(books.tenant, &timers).await?;
                            break;
                        }
                        Cure::Bury => {
                            tries += 1;
                            if tries >= TRIES {
                                self.bury_timer(permit, &instance, &timers, &error).await?;
                                break;
                            }
                        }
                        Cure::Again | Cure::Wait => return Err(error),
                    },
                }
            }
        }
        Ok(moves)
    }

    async fn move_timers(
        &self,
        books: &Books,
        permit: &Permit,
        instance: &str,
        timers: &[&Timer],
        read: Number,
    ) -> Result<u64, MoveError> {
        let now_ms = self.now_ms();
        let stored = self
            .vault()
            .internal(permit, kinds::JOURNEY_INSTANCE, instance)
            .await?;
        let Some(stored) = stored else {
            self.clear(books.tenant, timers).await?;
            return Ok(0);
        };
        let state = crate::State::from_json(&stored.body)?;
        let definition = definition(books, &state.journey, state.version)?;
        let mut mover = Mover::new(self.vault(), permit, &state.patient, now_ms);
        let ids = mover.ids(&definition);
        let decision = engine::step(
            &definition,
            &state,
            Input::Timer { read: read.0 },
            &Context {
                now_ms,
                instance,
                ids: &ids,
            },
        )?;
        if !mover
            .take(
                &definition,
                instance,
                Some((&state, stored.version)),
                decision,
            )
            .await?
        {
            self.clear(books.tenant, timers).await?;
            return Ok(0);
        }
        let keys = timers.iter().map(|timer| timer.key).collect();
        let moves = self.commit(books, permit, mover, None, None, keys).await?;
        for timer in timers {
            #[allow(clippy::cast_precision_loss, reason = "seconds of a histogram")]
            metrics::histogram!("journey_timer_lateness_seconds")
                .record(now_ms.saturating_sub(timer.key.due_ms) as f64 / 1000.0);
        }
        Ok(moves)
    }

    /// Takes timers away that nobody waits for.
    async fn clear(&self, tenant: TenantId, timers: &[&Timer]) -> Result<(), MoveError> {
        let commit = ledger::Commit {
            timers_clear: timers.iter().map(|timer| timer.key).collect(),
            ..ledger::Commit::new(tenant)
        };
        self.vault()
            .ledger()
            .commit(commit)
            .await
            .map_err(TrustError::from)?;
        Ok(())
    }

    async fn bury_event(
        &self,
        permit: &Permit,
        event: &Event,
        error: &MoveError,
        cursor: CursorMove,
    ) -> Result<(), MoveError> {
        let letter = DeadLetter {
            id: String::new(),
            shard: event.at.shard.0,
            number: event.at.number.0,
            kind: event.kind.0,
            instance: None,
            error: error.to_string(),
            at_ms: self.now_ms(),
        };
        let name = format!("dead-letter/event/{}/{}", letter.shard, letter.number);
        self.bury(
            permit,
            letter,
            &name,
            Unit {
                cursor: Some(cursor),
                cause: Some(event.at.number),
                ..Unit::default()
            },
        )
        .await
    }

    async fn bury_timer(
        &self,
        permit: &Permit,
        instance: &str,
        timers: &[&Timer],
        error: &MoveError,
    ) -> Result<(), MoveError> {
        let Some(first) = timers.first() else {
            return Ok(());
        };
        let letter = DeadLetter {
            id: String::new(),
            shard: first.key.shard.0,
            number: first.key.due_ms,
            kind: 0,
            instance: Some(instance.to_owned()),
            error: error.to_string(),
            at_ms: self.now_ms(),
        };
        let name = format!("dead-letter/timer/{instance}/{}", first.key.due_ms);
        self.bury(
            permit,
            letter,
            &name,
            Unit {
                timers_clear: timers.iter().map(|timer| timer.key).collect(),
                ..Unit::default()
            },
        )
        .await
    }

    /// Keeps what can't be worked on where people see it, in the same commit that passes it over.
    async fn bury(
        &self,
        permit: &Permit,
        mut letter: DeadLetter,
        name: &str,
        mut unit: Unit,
    ) -> Result<(), MoveError> {
        let ledger = self.vault().ledger();
        letter.id = ledger.derive_id(permit.tenant(), &Owner::Tenant, name);
        tracing::error!(letter = %letter.id, shard = letter.shard, number = letter.number, kind = letter.kind, error = %letter.error, "a journey could not be moved; kept as a dead letter");
        metrics::counter!("journey_dead_letters_total").increment(1);
        let existing = self
            .vault()
            .internal(permit, crate::DEAD_LETTER, &letter.id)
            .await?;
        unit.internals.push(Internal {
            kind: crate::DEAD_LETTER,
            id: letter.id.clone(),
            owner: Owner::Tenant,
            expected: existing.map_or(Expected::Absent, |stored| Expected::Version(stored.version)),
            body: serde_json::to_vec(&letter).unwrap_or_default(),
            deleted: false,
            tokens: vec![("state".to_owned(), "open".to_owned())],
        });
        unit.note = Some("journey: kept as a dead letter".to_owned());
        self.vault().commit(permit, unit).await?;
        Ok(())
    }

    /// Plays a dead letter again; it is gone when that went well.
    pub(crate) async fn play_again(
        &self,
        books: &Books,
        permit: &Permit,
        letter: &DeadLetter,
    ) -> Result<(), MoveError> {
        let shard = Shard(letter.shard);
        let Some(position) = books.positions.get(usize::from(letter.shard)) else {
            return Ok(());
        };
        let _turn = position.lock().await;
        if let Some(instance) = &letter.instance {
            self.move_timers(books, permit, instance, &[], Number::default())
                .await?;
        } else {
            let number = Number(letter.number);
            let found = self
                .vault()
                .ledger()
                .events(shard, Number(letter.number.saturating_sub(1)), 1)
                .await
                .map_err(TrustError::from)?;
            if let Some(event) = found.into_iter().find(|event| event.at.number == number) {
                self.move_event(books, permit, &event, None, REPLAYED)
                    .await?;
            }
        }
        Ok(())
    }

    /// Works on shards side by side. Returns the moves made; shards that have to wait go back into `dirty`.
    async fn round(
        &self,
        books: &Arc<Books>,
        permit: &Arc<Permit>,
        dirty: &mut BTreeSet<u16>,
    ) -> Result<u64, MoveError> {
        let mut work = tokio::task::JoinSet::new();
        let mut ahead: Vec<u16> = std::mem::take(dirty).into_iter().collect();
        let mut moves = 0;
        let mut fault = None;
        while !ahead.is_empty() || !work.is_empty() {
            while work.len() < SHARDS_AT_ONCE {
                let Some(shard) = ahead.pop() else { break };
                // Most shards have nothing new, and to see that needs no task.
                if let Ok(position) = books.positions[usize::from(shard)].try_lock()
                    && position.known
                    && self.vault().ledger().shard_head(Shard(shard)) <= position.read
                {
                    continue;
                }
                let (journeys, books, permit) = (self.clone(), books.clone(), permit.clone());
                work.spawn(async move {
                    let mut position = books.positions[usize::from(shard)].lock().await;
                    (
                        shard,
                        journeys
                            .shard(&books, &permit, Shard(shard), &mut position)
                            .await,
                    )
                });
            }
            match work.join_next().await {
                Some(Ok((_, Ok(made)))) => moves += made,
                Some(Ok((shard, Err(error)))) => {
                    dirty.insert(shard);
                    fault = Some(error);
                }
                Some(Err(panic)) => {
                    tracing::error!(%panic, "working on a shard's journeys failed");
                    // Which shard it was isn't known, so all are looked at again.
                    dirty.extend(0..SHARDS);
                    fault = Some(MoveError::Trust(TrustError::Invalid(
                        "a journey task panicked".to_owned(),
                    )));
                }
                None => {}
            }
        }
        metrics::gauge!("journey_feed_lag_seconds").set(0.0);
        fault.map_or(Ok(moves), Err)
    }

    /// Handles due timers, shard by shard side by side. Each shard's feed is read first, so that an answer
    /// that is there already comes before the reminder for it.
    async fn timers(&self, books: &Arc<Books>, permit: &Arc<Permit>) -> Result<u64, MoveError> {
        let mut moves = 0;
        loop {
            let due = self
                .vault()
                .ledger()
                .timers_due(TIMER_CONSUMER, self.now_ms(), TIMERS_AT_ONCE)
                .await
                .map_err(TrustError::from)?;
            let mut shards: HashMap<u16, Vec<Timer>> = HashMap::new();
            for timer in due.into_iter().filter(|timer| timer.tenant == books.tenant) {
                shards.entry(timer.key.shard.0).or_default().push(timer);
            }
            if shards.is_empty() {
                return Ok(moves);
            }
            let mut work = tokio::task::JoinSet::new();
            let mut ahead: Vec<(u16, Vec<Timer>)> = shards.into_iter().collect();
            while !ahead.is_empty() || !work.is_empty() {
                while work.len() < SHARDS_AT_ONCE {
                    let Some((shard, timers)) = ahead.pop() else {
                        break;
                    };
                    let (journeys, books, permit) = (self.clone(), books.clone(), permit.clone());
                    work.spawn(async move {
                        let mut position = books.positions[usize::from(shard)].lock().await;
                        let first = journeys
                            .shard(&books, &permit, Shard(shard), &mut position)
                            .await?;
                        Ok::<u64, MoveError>(
                            first
                                + journeys
                                    .due(&books, &permit, &timers, position.read)
                                    .await?,
                        )
                    });
                }
                match work.join_next().await {
                    Some(Ok(made)) => moves += made?,
                    Some(Err(panic)) => {
                        return Err(MoveError::Trust(TrustError::Invalid(format!(
                            "a journey task panicked: {panic}"
                        ))));
                    }
                    None => {}
                }
            }
        }
    }

    /// Handles everything that is there now: events, timers, and what they cause.
    pub(crate) async fn drain_all(&self, tenant: TenantId) -> Result<u64, JourneyError> {
        let permit = Arc::new(self.engine_permit(tenant).await?);
        let books = self.books(tenant).await?;
        let mut total = 0;
        loop {
            let mut all: BTreeSet<u16> = (0..SHARDS).collect();
            let moves =
                self.round(&books, &permit, &mut all).await? + self.timers(&books, &permit).await?;
            if moves == 0 {
                return Ok(total);
            }
            total += moves;
        }
    }

    /// Stores where the follower stands on every shard.
    async fn store_positions(&self, books: &Books) {
        let name = consumer(books.tenant);
        for (shard, position) in (0..SHARDS).zip(&books.positions) {
            let mut position = position.lock().await;
            if position.known
                && let Err(error) = self
                    .store_position(&name, books.tenant, Shard(shard), &mut position)
                    .await
            {
                // Nothing is lost: what was passed over is read again at the next start.
                tracing::warn!(shard, %error, "where the journeys stand could not be stored");
                return;
            }
        }
    }

    /// Follows feed and timers until `stop` turns true.
    pub(crate) async fn follow(
        &self,
        tenant: TenantId,
        mut stop: tokio::sync::watch::Receiver<bool>,
    ) {
        let ledger = self.vault().ledger().clone();
        // Before the first look, so that nothing falls between looking and listening.
        let mut news = ledger.watch();
        let mut dirty: BTreeSet<u16> = (0..SHARDS).collect();
        while !*stop.borrow() {
            let wait = match self.turn(tenant, &mut dirty).await {
                Ok(wait) => wait,
                Err(error) => {
                    tracing::error!(%error, "journeys stand still; trying again");
                    metrics::counter!("journey_faults_total").increment(1);
                    Some(FAULT_WAIT)
                }
            };
            if !dirty.is_empty() {
                tokio::select! {
                    _ = stop.changed() => {}
                    () = tokio::time::sleep(wait.unwrap_or(FAULT_WAIT).min(FAULT_WAIT)) => {}
                }
                continue;
            }
            let asleep = async {
                match wait {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = stop.changed() => if changed.is_err() { break },
                () = asleep => {}
                heard = news.recv() => {
                    let mut heard = Some(heard);
                    while let Some(one) = heard.take() {
                        match one {
                            Ok(shard) => { dirty.insert(shard.0); }
                            Err(RecvError::Lagged(_)) => dirty.extend(0..SHARDS),
                            Err(RecvError::Closed) => return,
                        }
                        heard = match news.try_recv() {
                            Ok(shard) => Some(Ok(shard)),
                            Err(tokio::sync::broadcast::error::TryRecvError::Lagged(by)) => Some(Err(RecvError::Lagged(by))),
                            Err(_) => None,
                        };
                    }
                }
            }
        }
        if let Ok(books) = self.books(tenant).await {
            self.store_positions(&books).await;
        }
    }

    /// Does what is there to do, then says how long there is nothing.
    async fn turn(
        &self,
        tenant: TenantId,
        dirty: &mut BTreeSet<u16>,
    ) -> Result<Option<Duration>, JourneyError> {
        let permit = Arc::new(self.engine_permit(tenant).await?);
        let books = self.books(tenant).await?;
        self.round(&books, &permit, dirty).await?;
        self.timers(&books, &permit).await?;
        let next = self
            .vault()
            .ledger()
            .next_timer_ms()
            .await
            .map_err(TrustError::from)?;
        Ok(next.map(|due_ms| {
            let wait = self.clock().real_wait(due_ms);
            if wait.is_zero() {
                FOREIGN_TIMER_WAIT
            } else {
                wait
            }
        }))
    }
}

fn definition(books: &Books, name: &str, version: u32) -> Result<Arc<Definition>, MoveError> {
    books
        .version(name, version)
        .map(|published| published.definition.clone())
        .ok_or_else(|| MoveError::NoDefinition(format!("{name}/{version}")))
}

fn reference(resource: &Resource) -> String {
    format!("{}/{}", resource.kind(), resource.id().unwrap_or_default())
}
