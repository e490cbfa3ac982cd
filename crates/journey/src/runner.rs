//! The follower: events of the feed and due timers, turned into units of work.
//!
//! Nothing polls. The follower sleeps until the ledger says that a shard has new events or the next
//! timer is due. Shards are worked on side by side; within a shard, one thing after the other.

mod again;
mod begin;
mod elsewhere;
mod follow;
mod heard;
mod keep;
mod learn;
mod letters;
mod parts;
mod persons;
mod scan;
mod segments;
mod starts;

pub(crate) use begin::{Moment, Turn, said, turn};
pub(crate) use elsewhere::{BEHIND, Unread};
pub(crate) use heard::Heard;
pub(crate) use parts::{ended, lets_go, task_of};
pub(crate) use starts::Place;

use crate::books::{Books, Position, all_internals};
use crate::engine::{self, Context, Event as JourneyEvent, Fact, Ids, Input, Outcome};
use crate::facts;
use crate::mover::{MoveError, Mover};
use crate::state::State;
use crate::{JourneyError, Journeys};
use fhir::{Resource, ResourceType};
use ledger::{CursorMove, Event, LedgerError, Number, Shard, TenantId, Timer};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use trust::{Internal, InternalStored, Permit, TrustError, Versioned, kinds};

/// Shards of a tenant that are taken up at once: enough that their commits share flushes, few enough to
/// bound memory.
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
/// The longest sleep, real time. The sleep until the next timer is measured by a clock that stands still
/// while the machine is suspended and knows nothing of the care clock being set, so the care clock is
/// asked again this often; a look costs one short scan.
const SLEEP_MAX: Duration = Duration::from_secs(30);
/// Real time to wait when the next timer of the store is due but is another context's.
const FOREIGN_TIMER_WAIT: Duration = Duration::from_millis(200);

/// Patients of all tenants of this process who are moved at one moment. Whoever waits comes in order, and
/// gives its turn back after one event or one patient's timers, so that a tenant with many of them stands in
/// nobody's way for longer than that. Without a bound whoever reads meanwhile waits behind all of them: 151 ms
/// at p99 with four tenants whose timers came due in one minute, 17 ms with this bound
/// (`docs/decisions/0092-kept-counts.md`).
static AT_WORK: Semaphore = Semaphore::const_new(16);

/// In place of an instance, in the letter of an event of which it could not be told what begins by it.
const BEGINNING: &str = "beginning";

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
            | TrustError::Invalid(_)
            | TrustError::TooCostly(_)
            | TrustError::Unanswerable(_),
        )
        | MoveError::Engine(_)
        | MoveError::State(_)
        | MoveError::NoDefinition(_) => Cure::Bury,
        MoveError::Trust(_) | MoveError::Panicked => Cure::Wait,
    }
}

fn cursor_moved(error: &MoveError) -> bool {
    matches!(
        error,
        MoveError::Trust(TrustError::Ledger(LedgerError::CursorMoved { .. }))
    )
}

/// Whether another process has taken over the shard; then nothing was written, and nothing is wrong.
fn taken_over(error: &MoveError) -> bool {
    matches!(
        error,
        MoveError::Trust(TrustError::Ledger(LedgerError::Fenced(_)))
    )
}

/// The follower's name in the ledger.
pub(crate) fn consumer(tenant: TenantId) -> String {
    format!("journey/{}", tenant.0)
}

/// What an instance is told of.
struct Told<'a> {
    resource: &'a Resource,
    deleted: bool,
    number: u64,
    /// Whether it could not be worked on before, and others may have come since.
    again: bool,
}

/// One event to be worked on.
struct Errand<'a> {
    event: &'a Event,
    /// The follower's move, unless the event is played again.
    cursor: Option<CursorMove>,
    /// The shard that has to be held, unless anybody may do this.
    held: Option<Shard>,
    /// The one instance that it is for; everybody it concerns if none.
    only: Option<&'a str>,
    /// What goes into the commit besides: the end of the dead letter that this was.
    letter: Option<Internal>,
}

/// What a commit comes from.
#[derive(Default)]
pub(crate) struct Cause {
    /// What the feed or a timer asks for is the holder's to do; what people do is done anywhere.
    held: Option<Shard>,
    cursor: Option<CursorMove>,
    event: Option<Number>,
    /// Timers that are over.
    timers: Vec<ledger::TimerKey>,
    /// What the audit says that was done, if people did it: without anything of the patient.
    deed: Option<String>,
}

impl Cause {
    /// What people do, with what the audit says that it was.
    pub(crate) fn by_hand(deed: impl Into<String>) -> Self {
        Self {
            deed: Some(deed.into()),
            ..Self::default()
        }
    }
}

/// Time that has passed for one instance.
struct Passed<'a> {
    timers: &'a [&'a Timer],
    /// Up to where the feed has been read.
    read: Number,
    /// The end of the dead letter that this was.
    letter: Option<Internal>,
    held: Option<Shard>,
}

impl Journeys {
    /// Everything that is there to do on one shard's feed. Returns the moves made.
    async fn shard(
        &self,
        books: &Arc<Books>,
        permit: &Permit,
        shard: Shard,
        position: &mut Position,
    ) -> Result<u64, MoveError> {
        let outcome = self.follow_shard(books, permit, shard, position).await;
        if outcome.as_ref().is_err_and(taken_over) {
            // What was read here was not handled here.
            position.known = false;
        }
        outcome
    }

    /// Reads a shard's feed to its end for somebody who is about to act on a patient of it: where this process holds it
    /// all of it, else what is the patient's. Up to where the patient's journeys know it then. The caller has the
    /// shard's position.
    ///
    /// # Errors
    /// `Cannot` with [`BEHIND`] where another process follows it and has to go on first.
    pub(crate) async fn read_feed(
        &self,
        books: &Arc<Books>,
        (shard, patient): (Shard, &str),
        position: &mut Position,
    ) -> Result<Number, JourneyError> {
        let ledger = self.vault().ledger();
        let permit = self.engine_permit(books.tenant).await?;
        if ledger.holds(shard) {
            let head = ledger.shard_head_now(shard).await;
            head.map_err(TrustError::from)?;
            self.shard(books, &permit, shard, position).await?;
            if position.known {
                return Ok(position.read);
            }
            // It was taken over meanwhile.
        }
        Box::pin(self.tell_unread(books, &permit, shard, patient)).await
    }

    async fn follow_shard(
        &self,
        books: &Arc<Books>,
        permit: &Permit,
        shard: Shard,
        position: &mut Position,
    ) -> Result<u64, MoveError> {
        let ledger = self.vault().ledger();
        if !ledger.holds(shard) {
            // Another process moves these patients. Where it has come to is read anew when they come here.
            position.known = false;
            self.observe(books, permit, shard).await?;
            self.forget_read(books, shard).await?;
            return Ok(0);
        }
        let name = consumer(books.tenant);
        let lease = ledger.lease(shard);
        if !position.known || position.lease != lease {
            // It has just come here. What waits for this program is of before all that is still to be read.
            position.known = false;
            self.observe(books, permit, shard).await?;
            self.recover(books, permit, shard).await?;
            position.lease = lease;
            books.batches.notify_one();
            books.scans.notify_one();
            position.stored = ledger
                .cursor(&name, shard)
                .await
                .map_err(TrustError::from)?;
            position.read = position.stored;
            position.known = true;
            self.forget_read(books, shard).await?;
        }
        books.has_read(shard, position.read);
        if ledger.shard_head(shard) <= position.read {
            return Ok(0);
        }
        let mut moves = 0;
        loop {
            let events = ledger
                .events(shard, position.read, EVENTS_AT_ONCE)
                .await
                .map_err(TrustError::from)?;
            let full = events.len() == EVENTS_AT_ONCE;
            self.hear_before(books, permit, &events).await?;
            for event in events {
                let number = event.at.number;
                self.learn(books, permit, &event).await?;
                if Self::may_matter(books, &event) {
                    let _turn = AT_WORK.acquire().await;
                    moves += self
                        .one_event(books, permit, shard, position, &event)
                        .await?;
                }
                if position.read < number {
                    position.read = number;
                    position.skipped += 1;
                }
                books.has_read(shard, position.read);
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
            held: Some(shard),
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
    fn may_matter(books: &Books, event: &Event) -> bool {
        if event.tenant != books.tenant {
            return false;
        }
        let interest = books.interest(event.kind);
        let watched = interest.watched && !books.idle(event.at.shard);
        if interest.dates || interest.members || watched {
            return true;
        }
        if event.deleted {
            // What started a journey is gone; nobody waits for anything else to be gone.
            return interest.entry && !books.idle(event.at.shard);
        }
        if interest.starts || interest.moves && !books.idle(event.at.shard) {
            return true;
        }
        // What a move wrote means nothing: where an event moved it, it has that cause.
        interest.steers
            && event.cause.is_none()
            && !books.learnt.has_written(event.at)
            && !books.idle(event.at.shard)
    }

    /// One event, until it is done, put off or buried.
    async fn one_event(
        &self,
        books: &Arc<Books>,
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
            let errand = Errand {
                event,
                held: Some(shard),
                cursor: Some(cursor),
                only: None,
                letter: None,
            };
            match self.move_event(books, permit, errand).await {
                Ok(None) => return Ok(0),
                Ok(Some(moves)) => {
                    *position = Position {
                        stored: event.at.number,
                        read: event.at.number,
                        skipped: 0,
                        ..*position
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
                            self.bury_event(books, permit, event, &error, cursor)
                                .await?;
                            *position = Position {
                                stored: event.at.number,
                                read: event.at.number,
                                skipped: 0,
                                ..*position
                            };
                            return Ok(0);
                        }
                    }
                    Cure::Again | Cure::Wait => return Err(error),
                },
            }
        }
    }

    /// What one event does, in one unit of work. Returns how many journeys moved; nothing when there was
    /// nothing to write.
    async fn move_event(
        &self,
        books: &Arc<Books>,
        permit: &Permit,
        errand: Errand<'_>,
    ) -> Result<Option<u64>, MoveError> {
        let event = errand.event;
        let Some((found, before)) = self.vault().load_both_at(permit, event.at).await? else {
            return Ok(None);
        };
        let Some(patient) = elsewhere::patient_of((&found, before.as_ref())) else {
            return Ok(None);
        };
        let Versioned {
            resource, deleted, ..
        } = found;
        // What is deleted doesn't say any more whose it was.
        let said = before.as_ref().unwrap_or(&resource);
        let fact = (said.kind(), said.id().unwrap_or_default().to_owned());
        let starts = errand.only.is_none() && !deleted && books.interest(event.kind).starts;
        let for_it = errand.only.is_none_or(|only| only == BEGINNING);
        let interest = books.interest(event.kind);
        let plans = for_it && interest.dates;
        let under_way = match errand.only {
            Some(only) => {
                let kind = kinds::JOURNEY_INSTANCE;
                let stored = self.vault().internal(permit, kind, only).await?;
                stored.into_iter().collect()
            }
            None => self.under_way(permit, &patient).await?,
        };
        let marks = for_it && (interest.members || interest.watched && !under_way.is_empty());
        if under_way.is_empty() && !starts && !plans && !marks && errand.letter.is_none() {
            return Ok(None);
        }
        let now_ms = self.now_ms();
        let mut mover = Mover::new(self.vault(), permit, &patient, now_ms);
        let resource = self.under_one_name(permit, resource).await?;
        // Whoever follows the shard says what can't be worked on: nobody else's letter would keep them from working on it.
        let sets_aside = errand.cursor.is_some();
        let mut letters = 0;
        let mut go_on = Vec::new();
        for stored in under_way {
            let told = Told {
                resource: &resource,
                deleted,
                number: event.at.number.0,
                again: errand.letter.is_some(),
            };
            match self
                .move_instance(books, &mut mover, &stored, &told, now_ms)
                .await
            {
                // The patient's other journeys go on.
                Err(error) if error.is_of_instance() && sets_aside => {
                    let letter = self.set_aside(permit, event, &stored.id, &error).await?;
                    mover.also(letter);
                    letters += 1;
                }
                other => {
                    if other? {
                        go_on.push(stored.id);
                    }
                }
            }
        }
        if starts {
            self.start_journeys(
                books,
                &mut mover,
                &patient,
                &resource,
                event.at.number.0,
                now_ms,
            )
            .await?;
        }
        if plans || marks {
            let fact = (fact.0, fact.1.as_str());
            let at = (event.at.number, now_ms);
            let done = async {
                if marks {
                    mover.mark().await?;
                }
                if plans {
                    self.plan_dates(books, &mut mover, fact, at).await?;
                }
                Ok::<(), MoveError>(())
            };
            match done.await {
                // What is under way of the patient goes on.
                Err(error) if sets_aside && matches!(cure(&error), Cure::Bury) => {
                    let letter = self.set_aside(permit, event, BEGINNING, &error).await?;
                    mover.also(letter);
                    letters += 1;
                }
                planned => planned?,
            }
        }
        if let Some(letter) = errand.letter {
            mover.also(letter);
        }
        let moved = self
            .commit(
                books,
                permit,
                mover,
                Cause {
                    held: errand.held,
                    cursor: errand.cursor,
                    event: Some(event.at.number),
                    timers: Vec::new(),
                    deed: None,
                },
            )
            .await?;
        books.letters(letters);
        for instance in go_on {
            // Boxed, because what is played again are events, too.
            Box::pin(self.play_held(books, &instance)).await;
        }
        Ok(moved)
    }

    /// Commits what a mover gathered and counts it. The two belong together: somebody whose start is
    /// durable but who isn't counted would be passed over where nobody else is under way. So they are done by a task
    /// of their own, which ends even when whoever waits for it is gone.
    pub(crate) async fn commit(
        &self,
        books: &Arc<Books>,
        permit: &Permit,
        mover: Mover<'_>,
        cause: Cause,
    ) -> Result<Option<u64>, MoveError> {
        let Some((mut unit, moved)) = mover.finish() else {
            return Ok(None);
        };
        unit.held = cause.held;
        unit.cursor = cause.cursor;
        unit.cause = cause.event;
        if let (Some(note), Some(moved)) = (&mut unit.note, cause.deed) {
            *note = note.replace(": moved", &format!(": {moved}"));
        }
        for key in cause.timers {
            if !unit.timers_clear.contains(&key)
                && !unit.timers_set.iter().any(|timer| timer.key == key)
            {
                unit.timers_clear.push(key);
            }
        }
        let (journeys, books, permit) = (self.clone(), books.clone(), permit.clone());
        let done = tokio::spawn(async move {
            journeys.begin(&books, &moved);
            let is_place: Vec<bool> = (unit.internals.iter())
                .map(|internal| internal.kind == kinds::JOURNEY_INSTANCE)
                .collect();
            let steers = books.steered_by(&unit.changes);
            let outcome = journeys.vault().commit(&permit, unit).await;
            if let Ok(receipt) = &outcome {
                books.wrote(receipt, &steers);
            }
            let made: Option<Vec<_>> = outcome.as_ref().ok().map(|receipt| {
                let places = receipt.internals.iter().zip(is_place);
                let places =
                    places.filter_map(|(written, is_place)| is_place.then_some(written.at));
                places.collect()
            });
            journeys
                .ended(&books, &permit, &moved, made.as_deref())
                .await;
            outcome?;
            // Also where nobody moved: what was written is on the feed, and somebody may.
            Ok(Some(u64::try_from(moved.len()).unwrap_or(u64::MAX).max(1)))
        });
        done.await.unwrap_or(Err(MoveError::Panicked))
    }

    /// A patient's journeys that are under way, as they are stored now; those that can't be read too.
    pub(crate) async fn under_way(
        &self,
        permit: &Permit,
        patient: &str,
    ) -> Result<Vec<InternalStored>, MoveError> {
        let tokens = [("patient", patient), ("state", "running")];
        let kind = kinds::JOURNEY_INSTANCE;
        let mut found = all_internals(self.vault(), permit, kind, &tokens).await?;
        // Tokens can collide.
        found.retain(|stored| stored.patient.as_deref() == Some(patient));
        found.sort_unstable_by(|one, other| one.id.cmp(&other.id));
        Ok(found)
    }

    /// Tells one of the patient's journeys of an event. Whether it goes on by it that was held.
    async fn move_instance(
        &self,
        books: &Books,
        mover: &mut Mover<'_>,
        stored: &InternalStored,
        told: &Told<'_>,
        now_ms: u64,
    ) -> Result<bool, MoveError> {
        let (instance, version) = (stored.id.as_str(), stored.version);
        let state = State::from_json(&stored.body)?;
        let (resource, deleted) = (told.resource, told.deleted);
        let definition = self.known_version(books, mover.permit(), &state).await?;
        if definition.care_plan && resource.kind() == ResourceType::CarePlan && !deleted {
            let asked = mover.asked_by_plan(instance, &definition, &state, resource);
            if let Some(manual) = asked.await? {
                let mut decision = {
                    let ids = mover.ids(&definition);
                    let context = Context {
                        now_ms,
                        instance,
                        ids: &ids,
                        limited: mover.asks_before(&definition),
                    };
                    engine::step(&definition, &state, Input::Manual(manual), &context)?
                };
                decision.state.knows(Number(told.number));
                let before = Some((&state, version));
                let goes_on = state.paused.is_some()
                    && decision.state.running()
                    && decision.state.paused.is_none();
                mover.take(&definition, instance, before, decision).await?;
                return Ok(goes_on);
            }
        }
        if resource.kind() == ResourceType::CommunicationRequest && !deleted {
            let asked = mover.asked_by_order(instance, &definition, &state, resource);
            if let Some(manual) = asked.await? {
                let mut decision = {
                    let ids = mover.ids(&definition);
                    let context = Context {
                        now_ms,
                        instance,
                        ids: &ids,
                        limited: mover.asks_before(&definition),
                    };
                    engine::step(&definition, &state, Input::Manual(manual), &context)?
                };
                decision.state.knows(Number(told.number));
                let before = Some((&state, version));
                mover.take(&definition, instance, before, decision).await?;
                return Ok(false);
            }
        }
        if !deleted && parts::is_order(resource) {
            let (of, at) = ((&*definition, &state, instance), (told.number, now_ms));
            self.begin_part(books, mover, of, resource, at).await?;
        }
        let consents = if resource.kind() == ResourceType::Consent {
            Some(Fact::Consent {
                permitted: mover.permitted(&definition).await?,
                next_ms: mover.consents_next(&definition).await?,
            })
        } else {
            None
        };
        let Some(fact) = facts::told(&definition, &state, resource, deleted, consents) else {
            return Ok(false);
        };
        let event = JourneyEvent {
            // What has come since is no reason to take it for a repeat.
            number: if told.again && told.number <= state.last {
                engine::REPLAYED
            } else {
                told.number
            },
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
                limited: mover.asks_before(&definition),
            },
        )?;
        mover
            .take(&definition, instance, Some((&state, version)), decision)
            .await?;
        Ok(false)
    }

    /// The due timers of one shard.
    async fn due(
        &self,
        books: &Arc<Books>,
        permit: &Permit,
        timers: &[Timer],
        read: Number,
    ) -> Result<u64, MoveError> {
        let mut moves = 0;
        // Several timers of one patient's journey are one input.
        for (instance, timers) in by_payload(timers) {
            let _turn = AT_WORK.acquire().await;
            let mut tries = 0;
            let mut conflicts = 0;
            loop {
                match self
                    .move_timers(
                        books,
                        permit,
                        &instance,
                        Passed {
                            timers: &timers,
                            read,
                            letter: None,
                            held: timers.first().map(|timer| timer.key.shard),
                        },
                    )
                    .await
                {
                    Ok(moved) => {
                        moves += moved.unwrap_or_default();
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
                            if tries >= TRIES || error.is_of_instance() {
                                self.bury_timers(books, permit, &instance, &timers, &error)
                                    .await?;
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

    /// What time does to one instance. With the end of a dead letter, all its timers are set anew.
    async fn move_timers(
        &self,
        books: &Arc<Books>,
        permit: &Permit,
        instance: &str,
        passed: Passed<'_>,
    ) -> Result<Option<u64>, MoveError> {
        let Passed {
            timers,
            read,
            letter,
            held,
        } = passed;
        let now_ms = self.now_ms();
        let stored = self
            .vault()
            .internal(permit, kinds::JOURNEY_INSTANCE, instance)
            .await?;
        let Some(stored) = stored else {
            self.clear(books.tenant, timers).await?;
            return Ok(None);
        };
        let state = State::from_json(&stored.body)?;
        let definition = self.known_version(books, permit, &state).await?;
        let mut mover = Mover::new(self.vault(), permit, &state.patient, now_ms);
        // A denial that begins on a day, or a permission that ends on one, is like one that is given then.
        let said = if state.consents_ms.is_some_and(|due_ms| due_ms <= now_ms) {
            Some(JourneyEvent {
                number: engine::REPLAYED,
                reference: "timer".to_owned(),
                fact: Fact::Consent {
                    permitted: mover.permitted(&definition).await?,
                    next_ms: mover.consents_next(&definition).await?,
                },
                holds: Vec::new(),
            })
        } else {
            None
        };
        let ids = mover.ids(&definition);
        // What has left by then may have arrived: that nobody knows yet is no reason to do something in its place.
        let of = (now_ms, instance);
        let overdue = engine::overdue_messages(&definition, &state, of, |name| ids.id(name));
        let left = Box::pin(mover.left_in_time(overdue)).await?;
        let decision = {
            let context = Context {
                now_ms,
                instance,
                ids: &ids,
                limited: mover.asks_before(&definition),
            };
            let arrived = left.into_iter().map(|communication| Input::Receipt {
                communication,
                outcome: Outcome::Delivered,
            });
            let first = said.map(Input::Event).into_iter().chain(arrived);
            let last = Input::Timer { read: read.0 };
            engine::steps(&definition, &state, (first, last), &context)?
        };
        let changed = mover
            .take(
                &definition,
                instance,
                Some((&state, stored.version)),
                decision,
            )
            .await?;
        if let Some(letter) = letter {
            mover.set_timers(&definition, instance, &state, &ids);
            mover.also(letter);
        } else if !changed {
            self.clear(books.tenant, timers).await?;
            return Ok(None);
        }
        let cause = Cause {
            held,
            timers: timers.iter().map(|timer| timer.key).collect(),
            ..Cause::default()
        };
        let moves = self.commit(books, permit, mover, cause).await?;
        for timer in timers {
            #[allow(clippy::cast_precision_loss, reason = "seconds of a histogram")]
            metrics::histogram!("journey_timer_lateness_seconds")
                .record(now_ms.saturating_sub(timer.key.due_ms) as f64 / 1000.0);
        }
        Ok(moves)
    }

    /// Takes timers away that nobody waits for.
    async fn clear(&self, tenant: TenantId, timers: &[&Timer]) -> Result<(), MoveError> {
        if timers.is_empty() {
            return Ok(());
        }
        let commit = ledger::Commit {
            timers_clear: timers.iter().map(|timer| timer.key).collect(),
            held: timers.first().map(|timer| timer.key.shard),
            ..ledger::Commit::new(tenant)
        };
        self.vault()
            .ledger()
            .commit(commit)
            .await
            .map_err(TrustError::from)?;
        Ok(())
    }
}

/// Timers by what their payload names: an instance, or a document of a patient's.
fn by_payload(timers: &[Timer]) -> BTreeMap<String, Vec<&Timer>> {
    let mut named: BTreeMap<String, Vec<&Timer>> = BTreeMap::new();
    for timer in timers {
        let name = String::from_utf8_lossy(&timer.payload).into_owned();
        named.entry(name).or_default().push(timer);
    }
    named
}

fn reference(resource: &Resource) -> String {
    format!("{}/{}", resource.kind(), resource.id().unwrap_or_default())
}
