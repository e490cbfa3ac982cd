//! Patients are looked at for the segments that journeys ask about.
//!
//! What is written marks a patient, and a timer a little later has them looked at, once for all that came before it.
//! Each look reads what the segments ask of that patient's record, tells the journeys under way, begins those whose
//! segment the patient has come into, and sets the timer for when time alone can change something next. All of that is
//! one unit of work with what is known of the patient's segments, so that nobody comes into one twice.

use super::begin::PUT_OFF_MS;
use super::{AT_WORK, CONFLICTS_MAX, Cause, Cure, Place, TRIES, by_payload, cure};
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

/// What a look works on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    /// Whether the patient begins a journey.
    Journey(String),
    /// A journey under way.
    Instance(String),
}

/// What a look leaves out because it can't be worked on, so that it keeps nothing else of the patient from being done.
#[derive(Default)]
pub(super) struct Left {
    /// What is worked on now.
    at: Option<Part>,
    /// Whether somebody's time has come to be looked at, which is put off where it can't be done for everybody.
    due: bool,
    parts: BTreeMap<Part, MoveError>,
}

impl Left {
    /// Leaves out what was worked on when an error came; the error where that was nothing by itself.
    pub(super) fn out(&mut self, error: MoveError) -> Result<(), MoveError> {
        let Some(part) = self.at.take() else {
            return Err(error);
        };
        if self.parts.contains_key(&part) {
            return Err(error);
        }
        let (Part::Journey(what) | Part::Instance(what)) = &part;
        tracing::error!(what, %error, "a look for segments leaves out a journey that can't be worked on; it is tried again in an hour");
        metrics::counter!("journey_beginnings_put_off_total").increment(1);
        self.parts.insert(part, error);
        Ok(())
    }
    fn has_journey(&self, starting: &Starting) -> bool {
        let name = starting.versions().next().map(|one| one.name.clone());
        name.is_some_and(|name| self.parts.contains_key(&Part::Journey(name)))
    }
}

/// Whether a newer version of a journey was published than this program can read: an older one begins nothing.
fn is_unread(books: &Books, starting: &Starting) -> bool {
    let Some(known) = starting.live.as_ref().or(starting.versions().next()) else {
        return false;
    };
    let unread = books.unread_version(&known.name);
    unread.is_some_and(|unread| unread > known.version)
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
        let mut moves = 0;
        for (document, timers) in by_payload(timers) {
            let _turn = AT_WORK.acquire().await;
            let (mut tries, mut conflicts, mut left) = (0, 0, Left::default());
            loop {
                let looked = self.look_of(books, permit, (&document, &timers), read, &mut left);
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
                            if tries < TRIES && !error.is_of_instance() {
                                continue;
                            }
                            if let Err(error) = left.out(error) {
                                self.put_off(&timers, &error).await?;
                                break;
                            }
                            tries = 0;
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
        left: &mut Left,
    ) -> Result<u64, MoveError> {
        left.at = None;
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
        // Before anything is read, and before it is asked which versions there are: whoever marked the patient has
        // heard of the version that asks, which this process may not have yet.
        let members = mover.members().await?;
        // It has come: what is written from now on marks the patient anew.
        members.has_come(now_ms);
        left.due = true;
        self.hear(books, permit).await?;
        let letters = self.look_at(books, &mut mover, read, left).await?;
        let cause = Cause {
            held: timers.first().map(|timer| timer.key.shard),
            timers: timers.iter().map(|timer| timer.key).collect(),
            ..Cause::default()
        };
        let done = self.commit(books, permit, mover, cause).await?;
        books.letters(letters);
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

    /// Looks at one patient, as the record is now, and does what follows. When the patient is marked to be looked at is
    /// left as it is. How many letters there are of what is left out.
    pub(super) async fn look_at(
        &self,
        books: &Arc<Books>,
        mover: &mut Mover<'_>,
        number: Number,
        left: &mut Left,
    ) -> Result<i64, MoveError> {
        books.has_looked();
        metrics::counter!("journey_segment_looks_total").increment(1);
        left.at = None;
        let now_ms = mover.now_ms();
        // Before anything is read: what another process does about the patient after that is a conflict.
        mover.members().await?;
        let starting = books.starting();
        let starting: Vec<&Starting> = starting.iter().filter(|one| by_segment(one)).collect();
        let starting: Vec<&Starting> = starting
            .into_iter()
            .filter(|one| !left.has_journey(one) && !is_unread(books, one))
            .collect();
        let begins = starting.iter().flat_map(|one| one.versions().cloned());
        let begins: Vec<Arc<Definition>> = begins
            .filter(|definition| definition.begins_by().is_some())
            .collect();
        let under_way = self.watching(books, mover, left).await?;
        let (mut wanted, mut next_ms) = (Wanted::default(), None);
        let mut found = Vec::new();
        for definition in &begins {
            left.at = Some(Part::Journey(definition.name.clone()));
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
        for (id, _, _, definition) in &under_way {
            left.at = Some(Part::Instance(id.clone()));
            for place in definition.watched() {
                let segment = &definition.segments[place];
                if wanted.add(segment) {
                    let looked = mover.segment(definition, segment).await?;
                    next_ms = soonest(next_ms, looked.next_ms);
                    found.push((segment, looked.inside));
                }
            }
            // What of the record counts hangs on them too.
            next_ms = soonest(next_ms, mover.consents_next(definition).await?);
        }
        left.at = None;
        let records = mover.read();
        let members = mover.members().await?;
        let before = members.of.clone();
        for (segment, inside) in found {
            members.found(segment, inside, now_ms);
            if inside.is_none() {
                // Who was in one of the name may be in this: that is told when it can be.
                wanted.names.remove(&segment.name);
            }
        }
        for definition in &begins {
            if let Some(segment) = definition.begins_by() {
                members.first(segment, &definition.name, &before);
            }
        }
        members.read = records;
        if left.parts.is_empty() && !books.has_unread() {
            members.settle(&wanted.keys, &wanted.names);
            members.next_ms = next_ms;
        } else {
            // Somebody asks whom this program can't answer now. What is known for them is kept, and a look comes again.
            let again = left.due || !left.parts.is_empty();
            members.look_again(next_ms, now_ms, again.then_some(PUT_OFF_MS));
        }
        mover.has_looked();
        for one in starting {
            let name = one.versions().next().map(|one| one.name.clone());
            left.at = name.map(Part::Journey);
            self.begin_by_segments(mover, one, number, now_ms).await?;
        }
        for (id, version, state, definition) in &under_way {
            left.at = Some(Part::Instance(id.clone()));
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
                    limited: mover.asks_before(definition),
                },
            )?;
            mover
                .take(definition, id, Some((state, *version)), decision)
                .await?;
        }
        left.at = None;
        let mut letters = 0;
        for (part, error) in &left.parts {
            if let Part::Instance(instance) = part {
                letters += self.letter_of_look(mover, instance, error).await?;
            }
        }
        Ok(letters)
    }

    /// The patient's journeys under way that ask about segments.
    async fn watching(
        &self,
        books: &Books,
        mover: &Mover<'_>,
        left: &mut Left,
    ) -> Result<Vec<(String, u32, State, Arc<Definition>)>, MoveError> {
        let mut watching = Vec::new();
        for stored in self.under_way(mover.permit(), mover.patient()).await? {
            let part = Part::Instance(stored.id.clone());
            if left.parts.contains_key(&part) {
                continue;
            }
            left.at = Some(part);
            let state = State::from_json(&stored.body)?;
            let definition = self.known_version(books, mover.permit(), &state).await?;
            if state.running() && !definition.watched().is_empty() {
                watching.push((stored.id, stored.version, state, definition));
            }
        }
        left.at = None;
        Ok(watching)
    }

    /// Begins a journey for a patient who is in its segment and hasn't begun it for that yet.
    async fn begin_by_segments(
        &self,
        mover: &mut Mover<'_>,
        starting: &Starting,
        number: Number,
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
                            number: number.0,
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

#[cfg(test)]
mod tests {
    use super::super::heard::tests::{Two, file};
    use super::*;
    use crate::segments::members::LOOK_CONSUMER;
    use crate::segments::{Known, Membership};
    use fhir::ResourceType;
    use ledger::{Expected, Kind, Owner};
    use serde_json::json;
    use trust::{Internal, Unit, kinds};

    const OLD: &str = "  segment: old\n  per: event\nsegments:\n  old:\n    title: Old\n    all: [{aged: {from: 80}}]\n";
    const MINUTE: u64 = 60_000;

    async fn members(two: &Two, patient: &str) -> Members {
        let permit = two.first.engine_permit(two.tenant()).await.unwrap();
        let now_ms = two.first.now_ms();
        let mut mover = Mover::new(two.first.vault(), &permit, patient, now_ms);
        mover.members().await.unwrap().clone()
    }

    #[tokio::test]
    async fn a_look_knows_the_version_that_asks() {
        let two = Two::new().await;
        let (patient, _) = two.patient().await;
        two.publish(&OLD.replace("{aged: {from: 80}}", "{has: Appointment}"))
            .await;
        two.first.drain(two.tenant()).await.unwrap();
        two.visit(&patient, "visit").await;
        two.first.drain(two.tenant()).await.unwrap();
        assert_eq!(two.running(&patient).await, 0);
        two.clock.advance(MINUTE);
        // The second comes to the timer first, and has not read any feed since.
        let books = two.second.books(two.tenant()).await.unwrap();
        let permit = two.second.engine_permit(two.tenant()).await.unwrap();
        let ledger = two.second.vault().ledger();
        let due = ledger.timers_due(LOOK_CONSUMER, two.second.now_ms(), 10);
        let due = due.await.unwrap();
        assert_eq!(due.len(), 1);
        let looked = two.second.look_due(&books, &permit, &due, Number(1));
        assert_eq!(looked.await.unwrap(), 1);
        assert_eq!(two.running(&patient).await, 1);
    }

    #[tokio::test]
    async fn a_mark_is_cleared_by_its_own_look_alone() {
        let two = Two::new().await;
        let (patient, _) = two.patient().await;
        two.publish(OLD).await;
        two.first.drain(two.tenant()).await.unwrap();
        two.write_again(&patient).await;
        two.first.drain(two.tenant()).await.unwrap();
        let marked = members(&two, &patient).await;
        assert!(marked.look_ms.is_some());
        two.clock.advance(MINUTE);
        let journeys = &two.first;
        let books = journeys.books(two.tenant()).await.unwrap();
        let permit = journeys.engine_permit(two.tenant()).await.unwrap();
        let now_ms = journeys.now_ms();
        let mover = || Mover::new(journeys.vault(), &permit, &patient, now_ms);
        // As when records are looked through.
        let mut looks = mover();
        let mut left = Left::default();
        let look = journeys.look_at(&books, &mut looks, Number(1), &mut left);
        look.await.unwrap();
        journeys
            .commit(&books, &permit, looks, Cause::default())
            .await
            .unwrap();
        assert_eq!(members(&two, &patient).await.look_ms, marked.look_ms);
        // Who comes to a version while a look is under way makes that a conflict.
        let (mut looks, mut comes) = (mover(), mover());
        looks.members().await.unwrap().has_come(now_ms);
        comes.mark().await.unwrap();
        comes.members().await.unwrap().anew();
        let first = journeys.commit(&books, &permit, comes, Cause::default());
        assert!(first.await.unwrap().is_some());
        let second = journeys.commit(&books, &permit, looks, Cause::default());
        assert!(matches!(cure(&second.await.unwrap_err()), Cure::Again));
    }

    #[tokio::test]
    async fn what_can_not_be_read_keeps_nothing_else_from_being_done() {
        let two = Two::new().await;
        let (patient, _) = two.patient().await;
        let owner = Owner::Patient(patient.clone());
        let permit = two.first.engine_permit(two.tenant()).await.unwrap();
        let ledger = two.first.vault().ledger();
        let damaged = Internal {
            kind: kinds::JOURNEY_INSTANCE,
            id: ledger.derive_id(two.tenant(), &owner, "damaged"),
            owner,
            expected: Expected::Absent,
            body: b"{}".to_vec(),
            deleted: false,
            tokens: vec![
                ("patient".to_owned(), patient.clone()),
                ("state".to_owned(), "running".to_owned()),
            ],
        };
        let unit = Unit {
            patient: Some(patient.clone()),
            internals: vec![damaged],
            ..Unit::default()
        };
        two.first.vault().commit(&permit, unit).await.unwrap();
        two.publish(&OLD.replace("  per: event\n", "  per: event\n  while_running: beside\n"))
            .await;
        // By looking through the records, and by a timer.
        two.first.drain(two.tenant()).await.unwrap();
        let of_looks = async |two: &Two| {
            let letters = two.first.letters(&permit, &[("state", "open")]).await;
            let letters = letters.unwrap().into_iter();
            letters.filter(|(letter, _)| letter.kind == 0).count()
        };
        assert_eq!(two.running(&patient).await, 2);
        assert_eq!(of_looks(&two).await, 1);
        let put_off = two.first.now_ms() + PUT_OFF_MS;
        two.clock.advance(MINUTE);
        two.first.drain(two.tenant()).await.unwrap();
        assert_eq!(members(&two, &patient).await.due_ms(), Some(put_off));
        two.clock.advance(PUT_OFF_MS);
        two.first.drain(two.tenant()).await.unwrap();
        assert_eq!(of_looks(&two).await, 1);
        let put_off = members(&two, &patient).await.due_ms().unwrap();
        assert_eq!(put_off, two.first.now_ms() + PUT_OFF_MS);
    }

    #[tokio::test]
    async fn a_visit_of_several_patients_is_the_first_ones() {
        let two = Two::new().await;
        let ((one, _), (other, _)) = (two.patient().await, two.patient().await);
        two.publish(&OLD.replace("{aged: {from: 80}}", "{has: Appointment}"))
            .await;
        let who = |id: &str| json!({"actor": {"reference": format!("Patient/{id}")}, "status": "accepted"});
        two.put(json!({
            "resourceType": "Appointment", "id": "both", "status": "booked",
            "participant": [who(&one), who(&other)]
        }))
        .await;
        two.write_again(&other).await;
        two.first.drain(two.tenant()).await.unwrap();
        two.clock.advance(MINUTE);
        two.first.drain(two.tenant()).await.unwrap();
        assert_eq!(two.running(&one).await, 1);
        assert_eq!(two.running(&other).await, 0);
    }

    #[tokio::test]
    async fn a_segment_that_nobody_starts_by_any_more_marks_nobody() {
        let two = Two::new().await;
        two.publish(OLD).await;
        let books = two.first.books(two.tenant()).await.unwrap();
        let kind = Kind(ResourceType::Patient.code());
        two.first.drain(two.tenant()).await.unwrap();
        assert!(books.interest(kind).members);
        two.publish("  event: Procedure\n  where: status = 'completed'\n  anchors: {done: performedDateTime}\n  within: 3d\n  per: event\n")
            .await;
        two.first.drain(two.tenant()).await.unwrap();
        assert!(!books.interest(kind).members);
    }

    #[test]
    fn of_whom_it_could_never_be_told_nothing_holds() {
        let unclear = "{has: Patient, where: 'name.given.single().exists()'}";
        let text = file(&OLD.replace("{aged: {from: 80}}", unclear));
        let exit = "exits:\n  out: {title: Out, segment: {left: old}}\n";
        let definition = crate::check::compile(&text.replace("exits:\n", exit)).0;
        let definition = definition.unwrap();
        let person = json!({"resourceType": "Patient", "id": "p", "name": [{"given": ["A", "B"]}]});
        let known = Known {
            person: Some(fhir::Resource::from_value(person).unwrap()),
            ..Known::default()
        };
        let out = |inside| Membership { segment: 0, inside }.hold();
        for (before, holds) in [
            (None, vec![]),
            (Some(false), vec![out(false)]),
            (Some(true), vec![out(true)]),
        ] {
            let found = definition.look(&known, two_thousand(), &|_| before);
            assert_eq!(found.0, holds, "{before:?}");
        }
    }

    fn two_thousand() -> u64 {
        946_684_800_000
    }
}
