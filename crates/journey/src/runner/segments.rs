//! Patients are looked at for the segments that journeys ask about.
//!
//! What is written marks a patient, and a timer a little later has them looked at, once for all that came before it.
//! Each look reads what the segments ask of that patient's record, tells the journeys under way, begins those whose
//! segment the patient has come into, and sets the timer for when time alone can change something next. All of that is
//! one unit of work with what is known of the patient's segments, so that nobody comes into one twice.

use super::{AT_WORK, CONFLICTS_MAX, Cause, Cure, Place, TRIES, cure};
use crate::Journeys;
use crate::books::Books;
use crate::definition::Definition;
use crate::engine::{self, Context, Event, Input, Start};
use crate::mover::{MoveError, Mover};
use crate::segments::members::{Members, SEGMENT_MEMBERS};
use crate::segments::{CAUSE, key, soonest};
use crate::stages::Starting;
use crate::state::State;
use ledger::{Number, Timer};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use trust::Permit;

/// Whether a version of a journey that takes patients begins by a segment.
pub(super) fn by_segment(starting: &Starting) -> bool {
    let mut versions = starting.versions();
    versions.any(|definition| definition.begins_by().is_some())
}

/// The segments that somebody asks about, by their keys and their names.
#[derive(Default)]
struct Wanted {
    keys: BTreeSet<String>,
    names: BTreeSet<String>,
}

impl Wanted {
    /// Adds one. Whether it is new.
    fn add(&mut self, segment: &crate::segments::Segment) -> bool {
        self.names.insert(segment.name.clone());
        self.keys.insert(segment.key.clone())
    }
}

impl Journeys {
    /// The due looks of one shard, whose feed was read up to a number.
    pub(super) async fn look_due(
        &self,
        books: &Arc<Books>,
        permit: &Permit,
        timers: &[Timer],
        read: Number,
    ) -> Result<u64, MoveError> {
        let mut documents: BTreeMap<String, Vec<&Timer>> = BTreeMap::new();
        for timer in timers {
            let document = String::from_utf8_lossy(&timer.payload).into_owned();
            documents.entry(document).or_default().push(timer);
        }
        let mut moves = 0;
        for (document, timers) in documents {
            let _turn = AT_WORK.acquire().await;
            let (mut tries, mut conflicts) = (0, 0);
            loop {
                let looked = self.look_of(books, permit, (&document, &timers), read);
                match looked.await {
                    Ok(looked) => {
                        moves += looked;
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
                                self.put_off(&timers, &error).await?;
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

    async fn look_of(
        &self,
        books: &Arc<Books>,
        permit: &Permit,
        (document, timers): (&str, &[&Timer]),
        read: Number,
    ) -> Result<u64, MoveError> {
        let found = self.vault().internal(permit, SEGMENT_MEMBERS, document);
        let Some(found) = found.await? else {
            self.clear(books.tenant, timers).await?;
            return Ok(0);
        };
        let members = Members::from_json(&found.body)?;
        let now_ms = self.now_ms();
        if members.due_ms().is_none_or(|due_ms| due_ms > now_ms) {
            // They woke somebody for nothing: another process has come to it, and has set what is ahead.
            self.clear_but(books, timers, &members).await?;
            return Ok(0);
        }
        let mut mover = Mover::new(self.vault(), permit, &members.patient, now_ms);
        self.look_at(books, &mut mover, read, now_ms).await?;
        let cause = Cause {
            held: timers.first().map(|timer| timer.key.shard),
            timers: timers.iter().map(|timer| timer.key).collect(),
            ..Cause::default()
        };
        let done = self.commit(books, permit, mover, cause).await?;
        if done.is_none() {
            self.clear(books.tenant, timers).await?;
        }
        Ok(done.unwrap_or_default())
    }

    /// Clears timers that are over, but for the one that is still ahead.
    async fn clear_but(
        &self,
        books: &Arc<Books>,
        timers: &[&Timer],
        members: &Members,
    ) -> Result<(), MoveError> {
        let ahead = members.due_ms();
        let over = timers.iter().copied();
        let over: Vec<&Timer> = over
            .filter(|timer| Some(timer.key.due_ms) != ahead)
            .collect();
        self.clear(books.tenant, &over).await
    }

    /// Looks at one patient, as the record is now, and does what follows.
    pub(super) async fn look_at(
        &self,
        books: &Arc<Books>,
        mover: &mut Mover<'_>,
        read: Number,
        now_ms: u64,
    ) -> Result<(), MoveError> {
        books.has_looked();
        metrics::counter!("journey_segment_looks_total").increment(1);
        let starting = books.starting();
        let starting: Vec<&Starting> = starting.iter().filter(|one| by_segment(one)).collect();
        let begins = starting.iter().flat_map(|one| one.versions().cloned());
        let begins: Vec<Arc<Definition>> = begins
            .filter(|definition| definition.begins_by().is_some())
            .collect();
        let under_way = self.watching(books, mover).await?;
        let (mut wanted, mut next_ms) = (Wanted::default(), None);
        let mut found = Vec::new();
        for definition in &begins {
            if let Some(segment) = definition.begins_by()
                && wanted.add(segment)
            {
                let looked = mover.segment(definition, segment).await?;
                next_ms = soonest(next_ms, looked.next_ms);
                found.push((segment, looked.inside));
            }
            // Who may not be led along by their consents begins when these come to allow it.
            next_ms = soonest(next_ms, mover.consents_next(definition).await?);
        }
        for (_, _, _, definition) in &under_way {
            for place in definition.watched() {
                let segment = &definition.segments[place];
                if wanted.add(segment) {
                    let looked = mover.segment(definition, segment).await?;
                    next_ms = soonest(next_ms, looked.next_ms);
                    found.push((segment, looked.inside));
                }
            }
        }
        let records = mover.read();
        let members = mover.members().await?;
        let before = members.of.clone();
        for (segment, inside) in found {
            members.found(segment, inside, now_ms);
        }
        for definition in &begins {
            if let Some(segment) = definition.begins_by() {
                members.first(segment, &definition.name, &before);
            }
        }
        members.settle(&wanted.keys, &wanted.names);
        (members.look_ms, members.next_ms, members.read) = (None, next_ms, records);
        mover.has_looked();
        for one in starting {
            self.begin_by_segments(mover, one, read, now_ms).await?;
        }
        for (id, version, state, definition) in &under_way {
            if mover.moved(id).is_some() {
                continue;
            }
            let (holds, _) = mover.segments(definition).await?;
            let ids = mover.ids(definition);
            let decision = engine::step(
                definition,
                state,
                Input::Event(Event::of_segments(holds)),
                &Context {
                    now_ms,
                    instance: id,
                    ids: &ids,
                    limited: mover.limits(definition).any(),
                },
            )?;
            mover
                .take(definition, id, Some((state, *version)), decision)
                .await?;
        }
        Ok(())
    }

    /// The patient's journeys under way that ask about segments. Those that this program can't work on are told by one
    /// that can: they are set aside with the events that move them.
    async fn watching(
        &self,
        books: &Books,
        mover: &Mover<'_>,
    ) -> Result<Vec<(String, u32, State, Arc<Definition>)>, MoveError> {
        let mut watching = Vec::new();
        for stored in self.under_way(mover.permit(), mover.patient()).await? {
            let Ok(state) = State::from_json(&stored.body) else {
                continue;
            };
            let Some(published) = books.version(&state.journey, state.version) else {
                continue;
            };
            let definition = published.definition.clone();
            if state.running() && !definition.watched().is_empty() {
                watching.push((stored.id, stored.version, state, definition));
            }
        }
        Ok(watching)
    }

    /// Begins a journey for a patient who is in its segment and hasn't begun it for that yet.
    async fn begin_by_segments(
        &self,
        mover: &mut Mover<'_>,
        starting: &Starting,
        read: Number,
        now_ms: u64,
    ) -> Result<(), MoveError> {
        let mut begun = false;
        for definition in starting.versions() {
            let Some(segment) = definition.begins_by() else {
                continue;
            };
            let (patient, name) = (mover.patient().to_owned(), &definition.name);
            let members = mover.members().await?;
            let Some(is_told) = members.is_told(segment, name) else {
                continue;
            };
            let since_ms = members.of.get(&segment.key).map(|member| member.since_ms);
            let takes = self.starts_on(mover, starting, definition.version, &patient, None);
            if !takes.await? {
                continue;
            }
            if is_told {
                begun = true;
                continue;
            }
            if !mover.permitted(definition).await? {
                continue;
            }
            let key = key(&patient, &segment.name, since_ms.unwrap_or(now_ms));
            let place = self.place(mover, definition, &patient, &key).await?;
            if let Place::Free(instance) = place {
                let why = self.why_not_by_segment(mover, definition, &key, now_ms);
                let cause = format!("Patient/{patient}");
                match why.await? {
                    Some(why) => mover.refuse(name, (&key, &cause, &why), true).await?,
                    None => {
                        let start = Start {
                            patient,
                            key,
                            cause: CAUSE.to_owned(),
                            number: read.0,
                            ..Start::default()
                        };
                        self.begin_one(mover, definition, &instance, start, now_ms)
                            .await?;
                    }
                }
            }
            mover.members().await?.tell(segment, name);
            begun = true;
        }
        // Who comes to another version later has begun for the stay in that one's segment, too.
        for definition in starting.versions().filter(|_| begun) {
            if let Some(segment) = definition.begins_by() {
                mover.members().await?.tell(segment, &definition.name);
            }
        }
        Ok(())
    }

    /// Why a journey doesn't begin whose segment the patient has come into, in words without anything of the patient.
    async fn why_not_by_segment(
        &self,
        mover: &mut Mover<'_>,
        definition: &Definition,
        key: &str,
        now_ms: u64,
    ) -> Result<Option<String>, MoveError> {
        let patient = mover.patient().to_owned();
        let words = |words: &str| Ok(Some(words.to_owned()));
        let who = &definition.entry.who;
        if !who.is_empty() && !self.who_by_all(mover, definition, now_ms).await? {
            return words("It is not for this patient");
        }
        if !definition.entry.beside && self.is_running(mover, &patient, &definition.name).await? {
            return words("The patient is in it already");
        }
        let not_again = self.not_again(mover, definition, &patient, now_ms);
        if let Some(why) = not_again.await? {
            return Ok(Some(why));
        }
        let none = BTreeMap::new();
        let exit = self
            .exit_already(mover, definition, &patient, key, &none, now_ms)
            .await?;
        Ok(exit.map(|(_, title)| format!("It would end at once: {title}")))
    }
}
