//! Journeys that begin at a date which the record says.
//!
//! What is written is looked at when it is written; the date is kept with a timer, and looked at again when the
//! timer is due. Both ask the record as it is then. So a date that moves is moved, one that is gone is called off,
//! and whoever comes to a date first, the feed or the timer, finds what the other has begun.

use super::{AT_WORK, CONFLICTS_MAX, Cause, Cure, TRIES, by_payload, cure, reference};
use crate::books::Books;
use crate::dates::{self, EntryDate, Occurrence, Occurrences, Past};
use crate::definition::Definition;
use crate::engine::Start;
use crate::entries::{AHEAD_MAX, Ahead, BEGINNINGS, Entries};
use crate::mover::{MoveError, Mover};
use crate::runner::Place;
use crate::stages::Starting;
use crate::time::HOUR_MS;
use crate::{Journeys, facts, room};
use fhir::{Resource, ResourceType};
use ledger::{Number, Timer};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use trust::{Permit, TrustError};

/// How long a beginning is put off that can't be worked on, before it is tried again.
pub(super) const PUT_OFF_MS: u64 = HOUR_MS;

/// What is to be done now about a date.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Nothing: it is ahead, or over.
    Rest,
    /// The journey begins; whether as one whose date was past already.
    Begin(Occurrence, bool),
    /// It doesn't begin, because the date was past already when it was learnt.
    TooLate(Occurrence),
}

/// What is to be done now about the dates of one fact: `planned` is what was planned by it before, `seen` when
/// it was written and who looks at it.
pub(crate) fn turn(
    date: &EntryDate,
    within_ms: Option<u64>,
    past: Option<Occurrence>,
    planned: Option<&Ahead>,
    seen: &Moment,
) -> Turn {
    let (learnt_ms, now_ms) = (seen.learnt_ms, seen.now_ms);
    let Some(past) = past else {
        return Turn::Rest;
    };
    let fresh = within_ms.is_none_or(|within_ms| now_ms.saturating_sub(past.at_ms) <= within_ms);
    // What was planned in time begins, however late somebody comes to it; what is found by looking through records
    // is news to everybody, and has to be fresh.
    let planned = planned.is_some_and(|planned| planned.key == past.key);
    if planned || past.at_ms > learnt_ms && (fresh || !seen.scanned) {
        return Turn::Begin(past, false);
    }
    match date.past {
        Past::Run if fresh => Turn::Begin(past, false),
        Past::Escalate(_) if fresh => Turn::Begin(past, true),
        // Every date that comes again has been before.
        _ if date.yearly => Turn::Rest,
        _ => Turn::TooLate(past),
    }
}

/// What a resource says of when a journey begins, if it is one that begins it.
pub(crate) fn said(definition: &Definition, fact: &Resource, now_ms: u64) -> Option<dates::Said> {
    let (date, event) = (
        definition.entry.date.as_ref()?,
        definition.entry.event.as_ref()?,
    );
    if fact.kind() != event.kind || !facts::test(&event.condition, fact, None, now_ms) {
        return None;
    }
    let mut anchors = definition.entry.anchors.iter();
    let (_, path) = anchors.find(|(name, _)| *name == date.begins.anchor)?;
    dates::said(path.as_ref()?, fact)
}

/// The types of resources whose dates begin a journey.
pub(super) fn kinds_of(starting: &Starting) -> BTreeSet<ResourceType> {
    let versions = starting.versions();
    let dated = versions.filter(|definition| definition.entry.date.is_some());
    dated
        .filter_map(|definition| definition.entry.kind())
        .collect()
}

fn name_of(starting: &Starting) -> Option<String> {
    let mut versions = starting.versions();
    versions.next().map(|definition| definition.name.clone())
}

/// When a date is looked at: what of the feed is known then, since when the fact is known, and the time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) number: Number,
    pub(crate) learnt_ms: u64,
    pub(crate) now_ms: u64,
    /// Whether it was found by looking through records.
    pub(crate) scanned: bool,
}

/// What the due beginnings of one patient and journey have in common.
struct Due<'a> {
    books: &'a Arc<Books>,
    permit: &'a Permit,
    starting: &'a Starting,
    journey: &'a str,
    timers: &'a [&'a Timer],
    moment: Moment,
}

impl Journeys {
    /// Takes in what a resource says of dates by which journeys begin, that was written or deleted.
    pub(super) async fn plan_dates(
        &self,
        books: &Books,
        mover: &mut Mover<'_>,
        (kind, id): (ResourceType, &str),
        (number, now_ms): (Number, u64),
    ) -> Result<(), MoveError> {
        let mut fault = None;
        for starting in books.starting() {
            let Some(name) = name_of(&starting) else {
                continue;
            };
            let kinds = kinds_of(&starting);
            // What was past when the journey came to know of dates at all was past, however late it is read.
            let since_ms = books.dated_since(&name);
            let moment = Moment {
                number,
                learnt_ms: number.unix_ms().max(since_ms.unwrap_or(0)),
                now_ms,
                scanned: false,
            };
            let known = mover.known_entries(&name);
            let planned = async {
                if kinds.contains(&kind) {
                    self.plan_fact(mover, &starting, (kind, id), moment).await?;
                }
                if kind == ResourceType::Patient && kinds.iter().any(|other| *other != kind) {
                    self.plan_anew(mover, &starting, &kinds, moment).await?;
                }
                Ok::<(), MoveError>(())
            };
            if let Err(error) = planned.await {
                if !matches!(cure(&error), Cure::Bury) {
                    return Err(error);
                }
                // The other journeys are planned, and nothing of this one by half.
                mover.put_entries_back(&name, known);
                fault = fault.or(Some(error));
            }
        }
        fault.map_or(Ok(()), Err)
    }

    /// Looks at every date of a patient again, where they live by another clock now, or are known to be dead or alive
    /// otherwise than before.
    async fn plan_anew(
        &self,
        mover: &mut Mover<'_>,
        starting: &Starting,
        kinds: &BTreeSet<ResourceType>,
        moment: Moment,
    ) -> Result<(), MoveError> {
        let Some(name) = name_of(starting) else {
            return Ok(());
        };
        if !mover.has_entries(&name).await? {
            return Ok(());
        }
        let person = mover.person().await?;
        let dead = person.is_none_or(facts::deceased);
        let zone = person.and_then(room::zone_of);
        let zone = zone.as_ref().and_then(|zone| zone.iana_name());
        let zone = zone.map(str::to_owned);
        let entries = mover.entries(&name).await?;
        if entries.dead == dead && entries.zone == zone {
            return Ok(());
        }
        let mut gone: BTreeSet<(ResourceType, String)> = BTreeSet::new();
        for (id, ahead) in &entries.ahead {
            gone.extend(ResourceType::parse(&ahead.kind).map(|kind| (kind, id.clone())));
        }
        if dead {
            // Whatever the record says, nothing is ahead of who has died.
            entries.ahead.clear();
            gone.clear();
        } else {
            for kind in kinds.iter().filter(|kind| **kind != ResourceType::Patient) {
                for fact in mover.of_type(*kind, &[]).await? {
                    let id = fact.id().map(str::to_owned);
                    // What is another's begins nothing of this patient's.
                    let Some(id) = id.filter(|_| fact.patient() == Some(mover.patient())) else {
                        continue;
                    };
                    gone.remove(&(*kind, id.clone()));
                    self.plan_known(mover, starting, (*kind, &id), Some(fact), moment)
                        .await?;
                }
            }
        }
        // What was planned and is none of those any more, and what the patient's own resource says.
        for (kind, id) in gone {
            self.plan_fact(mover, starting, (kind, &id), moment).await?;
        }
        let entries = mover.entries(&name).await?;
        (entries.dead, entries.zone) = (dead, zone);
        Ok(())
    }

    /// One fact, as the record has it now: what is due by it begins, what is ahead is planned, and what it doesn't say
    /// any more is called off.
    pub(super) async fn plan_fact(
        &self,
        mover: &mut Mover<'_>,
        starting: &Starting,
        (kind, id): (ResourceType, &str),
        moment: Moment,
    ) -> Result<(), MoveError> {
        let Some(name) = name_of(starting) else {
            return Ok(());
        };
        // Before the record is looked at: what another process plans after that is a conflict.
        mover.entries(&name).await?;
        let fact = self.fact_now(mover, (kind, id)).await?;
        self.plan_known(mover, starting, (kind, id), fact, moment)
            .await
    }

    /// The same for what was read of the record since the patient's beginnings of the journey were.
    async fn plan_known(
        &self,
        mover: &mut Mover<'_>,
        starting: &Starting,
        (kind, id): (ResourceType, &str),
        fact: Option<Resource>,
        moment: Moment,
    ) -> Result<(), MoveError> {
        let Some(name) = name_of(starting) else {
            return Ok(());
        };
        let planned = mover.entries(&name).await?.ahead.get(id).cloned();
        let found = self.dated(mover, starting, fact, moment.now_ms).await?;
        let Some((definition, fact, said)) = found else {
            mover.entries(&name).await?.ahead.remove(id);
            return Ok(());
        };
        let person = mover.person().await?;
        let dead = person.is_none_or(facts::deceased);
        let own = person.and_then(room::zone_of);
        let own_name = own.as_ref().and_then(|zone| zone.iana_name());
        let own_name = own_name.map(str::to_owned);
        let zone = own.unwrap_or_else(|| definition.zone.clone());
        let entries = mover.entries(&name).await?;
        (entries.dead, entries.zone) = (dead, own_name);
        if dead {
            entries.ahead.remove(id);
            return Ok(());
        }
        let Some(date) = &definition.entry.date else {
            return Ok(());
        };
        let Occurrences { past, next } = date.occurrences(said, &zone, moment.now_ms);
        let turn = turn(
            date,
            definition.entry.within_ms,
            past,
            planned.as_ref(),
            &moment,
        );
        let of = |key: &str| format!("{id}/{key}");
        let entries = mover.entries(&name).await?;
        match next {
            Some(next) if entries.ahead.len() < AHEAD_MAX || planned.is_some() => {
                entries.ahead.insert(id.to_owned(), Ahead::of(kind, next));
            }
            Some(next) => {
                let why = "There are too many dates ahead of this patient";
                let cause = reference(&fact);
                let refused = (of(&next.key), cause);
                mover
                    .refuse(&name, (&refused.0, &refused.1, why), false)
                    .await?;
            }
            None => {
                entries.ahead.remove(id);
            }
        }
        match turn {
            Turn::Rest => Ok(()),
            Turn::Begin(occurrence, late) => {
                let key = of(&occurrence.key);
                self.begin_by_date(mover, &definition, &fact, (&key, late), moment)
                    .await
            }
            Turn::TooLate(occurrence) => {
                let key = of(&occurrence.key);
                let free = self.place_of(mover, &definition, id, &key).await?;
                if matches!(free, Place::Free(_)) && !mover.entries(&name).await?.is_refused(&key) {
                    let why = "The date was past already when it was learnt";
                    mover
                        .refuse(&name, (&key, &reference(&fact), why), true)
                        .await?;
                }
                Ok(())
            }
        }
    }

    /// A fact as the record has it now, if it is this patient's.
    async fn fact_now(
        &self,
        mover: &mut Mover<'_>,
        (kind, id): (ResourceType, &str),
    ) -> Result<Option<Resource>, MoveError> {
        let patient = mover.patient().to_owned();
        if kind == ResourceType::Patient {
            return Ok(mover.person().await?.filter(|_| id == patient).cloned());
        }
        let found = self.vault().load(mover.permit(), kind, id).await?;
        let found = found.filter(|found| !found.deleted);
        let found = found.map(|found| found.resource);
        // What is another's now begins nothing of this patient's.
        Ok(found.filter(|found| found.patient() == Some(&patient)))
    }

    /// What a fact says, with the version on which the patient starts by it; nothing where it begins nothing.
    async fn dated(
        &self,
        mover: &mut Mover<'_>,
        starting: &Starting,
        fact: Option<Resource>,
        now_ms: u64,
    ) -> Result<Option<(Arc<Definition>, Resource, dates::Said)>, MoveError> {
        let patient = mover.patient().to_owned();
        let Some(fact) = fact else {
            return Ok(None);
        };
        for definition in starting.versions() {
            let takes = self.starts_on(mover, starting, definition.version, &patient, Some(&fact));
            if takes.await?
                && let Some(said) = said(definition, &fact, now_ms)
            {
                return Ok(Some((definition.clone(), fact, said)));
            }
        }
        Ok(None)
    }

    /// Where a date begins its journey, or has.
    async fn place_of(
        &self,
        mover: &Mover<'_>,
        definition: &Definition,
        id: &str,
        key: &str,
    ) -> Result<Place, MoveError> {
        let by = if definition.entry.each_date { key } else { id };
        let patient = mover.patient().to_owned();
        self.place(mover, definition, &patient, by).await
    }

    /// Begins a journey whose date has come, unless something keeps it from that, which is written down.
    async fn begin_by_date(
        &self,
        mover: &mut Mover<'_>,
        definition: &Definition,
        fact: &Resource,
        (key, late): (&str, bool),
        moment: Moment,
    ) -> Result<(), MoveError> {
        let now_ms = moment.now_ms;
        let id = fact.id().unwrap_or_default().to_owned();
        if mover.entries(&definition.name).await?.is_refused(key) {
            return Ok(());
        }
        let place = self.place_of(mover, definition, &id, key).await?;
        let Place::Free(instance) = place else {
            return Ok(());
        };
        let anchors = facts::anchors(definition, fact);
        let why = self
            .why_not_now(mover, definition, fact, &anchors, now_ms)
            .await?;
        if let Some(why) = why {
            let cause = reference(fact);
            return mover
                .refuse(&definition.name, (key, &cause, &why), true)
                .await;
        }
        let start = Start {
            patient: mover.patient().to_owned(),
            key: id,
            cause: reference(fact),
            number: moment.number.0,
            anchors,
            late,
            ..Start::default()
        };
        self.begin_one(mover, definition, &instance, start, now_ms)
            .await
    }

    /// Why a journey whose date has come doesn't begin, in words without anything of the patient.
    async fn why_not_now(
        &self,
        mover: &mut Mover<'_>,
        definition: &Definition,
        fact: &Resource,
        anchors: &BTreeMap<String, u64>,
        now_ms: u64,
    ) -> Result<Option<String>, MoveError> {
        let patient = mover.patient().to_owned();
        let words = |words: &str| Ok(Some(words.to_owned()));
        if !self.who(mover, definition, fact, fact, now_ms).await? {
            return words("It is not for this patient");
        }
        if !definition.entry.beside && self.is_running(mover, &patient, &definition.name).await? {
            return words("The patient is in it already");
        }
        let not_again = self.not_again(mover, definition, &patient, now_ms);
        if let Some(why) = not_again.await? {
            return Ok(Some(why));
        }
        if !mover.permitted(definition).await? {
            return words("Consents don't allow it");
        }
        let id = fact.id().unwrap_or_default();
        let exit = self
            .exit_already(mover, definition, &patient, id, anchors, now_ms)
            .await?;
        Ok(exit.map(|(_, title)| format!("It would end at once: {title}")))
    }

    /// The due beginnings of one shard, whose feed was read up to a number.
    pub(super) async fn begin_due(
        &self,
        books: &Arc<Books>,
        permit: &Permit,
        timers: &[Timer],
        read: Number,
    ) -> Result<u64, MoveError> {
        let mut moves = 0;
        for (document, timers) in by_payload(timers) {
            let _turn = AT_WORK.acquire().await;
            let (mut tries, mut conflicts) = (0, 0);
            loop {
                let begun = self.begin_of(books, permit, (&document, &timers), read);
                match begun.await {
                    Ok(begun) => {
                        moves += begun;
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

    /// What is due of one patient's beginnings of a journey, one fact after the other. How much was done.
    async fn begin_of(
        &self,
        books: &Arc<Books>,
        permit: &Permit,
        (document, timers): (&str, &[&Timer]),
        read: Number,
    ) -> Result<u64, MoveError> {
        let found = self.vault().internal(permit, BEGINNINGS, document).await?;
        let Some(found) = found else {
            self.clear(books.tenant, timers).await?;
            return Ok(0);
        };
        let Entries {
            patient, journey, ..
        } = Entries::from_json(&found.body)?;
        let now_ms = self.now_ms();
        let mut mover = Mover::new(self.vault(), permit, &patient, now_ms);
        // As it is in the document that is written, not as it was found before. Whoever planned it has heard of the
        // version that begins by it, which this process may not have yet.
        let facts = mover.entries(&journey).await?.due(now_ms);
        self.hear(books, permit).await?;
        let starting = books.starting();
        let mut starting = starting.iter();
        let named = |starting: &&Starting| name_of(starting).as_ref() == Some(&journey);
        let Some(starting) = starting.find(named) else {
            if let Some(unread) = books.unread_version(&journey) {
                return Err(MoveError::NoDefinition(format!("{journey}/{unread}")));
            }
            // Nobody starts it any more.
            mover.entries(&journey).await?.ahead.clear();
            let done = self.begun(books, permit, mover, timers).await?;
            if done.is_none() {
                self.clear(books.tenant, timers).await?;
            }
            return Ok(done.unwrap_or_default());
        };
        let due = Due {
            books,
            permit,
            starting,
            journey: &journey,
            timers,
            moment: Moment {
                number: read,
                learnt_ms: now_ms,
                now_ms,
                scanned: false,
            },
        };
        let (mut first, mut moves) = (Some(mover), None);
        for (id, ahead) in &facts {
            let mover = first.take();
            let mover = mover.unwrap_or_else(|| Mover::new(self.vault(), permit, &patient, now_ms));
            let begun = self.begin_fact(&due, mover, &patient, id).await?;
            #[allow(clippy::cast_precision_loss, reason = "seconds of a histogram")]
            metrics::histogram!("journey_timer_lateness_seconds")
                .record(now_ms.saturating_sub(ahead.at_ms) as f64 / 1000.0);
            if let Some(begun) = begun {
                moves = Some(moves.unwrap_or(0) + begun);
            }
        }
        if facts.is_empty() {
            // They woke somebody for nothing. Where another process came to what was due, it has cleared them.
            self.clear(books.tenant, timers).await?;
        }
        Ok(moves.unwrap_or_default())
    }

    /// One fact that is due. If it can't be worked on, it is put off, and holds up nothing else of the patient.
    async fn begin_fact<'a>(
        &'a self,
        due: &Due<'a>,
        mover: Mover<'a>,
        patient: &str,
        id: &str,
    ) -> Result<Option<u64>, MoveError> {
        let (mut tries, mut conflicts) = (0, 0);
        let mut first = Some(mover);
        let again = || Mover::new(self.vault(), due.permit, patient, due.moment.now_ms);
        loop {
            let mover = first.take().unwrap_or_else(again);
            let error = match self.try_fact(due, mover, id).await {
                Ok(begun) => return Ok(begun),
                Err(error) => error,
            };
            match cure(&error) {
                Cure::Again if conflicts < CONFLICTS_MAX => conflicts += 1,
                Cure::Bury if tries + 1 < TRIES => tries += 1,
                Cure::Bury => {
                    let shard = due.timers.first().map(|timer| timer.key.shard.0);
                    tracing::error!(shard, %error, "a beginning of a journey can't be worked on; it is tried again in an hour");
                    metrics::counter!("journey_beginnings_put_off_total").increment(1);
                    let mut mover = again();
                    let entries = mover.entries(due.journey).await?;
                    if let Some(ahead) = entries.ahead.get_mut(id) {
                        // Known by the same key, so that it begins in time then.
                        ahead.at_ms = due.moment.now_ms.saturating_add(PUT_OFF_MS);
                    }
                    return self.begun(due.books, due.permit, mover, due.timers).await;
                }
                Cure::Again | Cure::Skip | Cure::Wait => return Err(error),
            }
        }
    }

    async fn try_fact(
        &self,
        due: &Due<'_>,
        mut mover: Mover<'_>,
        id: &str,
    ) -> Result<Option<u64>, MoveError> {
        let entries = mover.entries(due.journey).await?;
        let ahead = entries.ahead.get(id);
        let Some(ahead) = ahead.filter(|ahead| ahead.at_ms <= due.moment.now_ms) else {
            // Another process has come to it meanwhile.
            return Ok(None);
        };
        match ResourceType::parse(&ahead.kind) {
            Some(kind) => {
                self.plan_fact(&mut mover, due.starting, (kind, id), due.moment)
                    .await?;
            }
            None => {
                entries.ahead.remove(id);
            }
        }
        self.begun(due.books, due.permit, mover, due.timers).await
    }

    /// Writes what a mover has, and clears the timers with it; nothing is cleared where there is nothing to write.
    async fn begun(
        &self,
        books: &Arc<Books>,
        permit: &Permit,
        mover: Mover<'_>,
        timers: &[&Timer],
    ) -> Result<Option<u64>, MoveError> {
        let cause = Cause {
            held: timers.first().map(|timer| timer.key.shard),
            timers: timers.iter().map(|timer| timer.key).collect(),
            ..Cause::default()
        };
        self.commit(books, permit, mover, cause).await
    }

    /// Puts off what can't be worked on now, so that it stands before nobody else and isn't lost.
    pub(super) async fn put_off(
        &self,
        timers: &[&Timer],
        error: &MoveError,
    ) -> Result<(), MoveError> {
        let Some(first) = timers.first() else {
            return Ok(());
        };
        tracing::error!(shard = first.key.shard.0, %error, "a beginning of a journey, or a look for segments, can't be worked on; it is tried again in an hour");
        metrics::counter!("journey_beginnings_put_off_total").increment(1);
        let mut later = (*first).clone();
        later.key.due_ms = self.now_ms().saturating_add(PUT_OFF_MS);
        let commit = ledger::Commit {
            timers_clear: timers.iter().map(|timer| timer.key).collect(),
            timers_set: vec![later],
            held: Some(first.key.shard),
            ..ledger::Commit::new(first.tenant)
        };
        let done = self.vault().ledger().commit(commit).await;
        done.map_err(TrustError::from)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dates::Begins;
    use crate::definition::Target;

    fn occurrence(key: &str, at_ms: u64) -> Occurrence {
        Occurrence {
            key: key.to_owned(),
            at_ms,
        }
    }

    #[test]
    fn what_is_done_about_a_date_that_is_not_ahead() {
        let late = Past::Escalate(Target::default());
        // Learnt at 100, seen at 200.
        let seen = |scanned| Moment {
            number: Number(1),
            learnt_ms: 100,
            now_ms: 200,
            scanned,
        };
        let begins = |late| Turn::Begin(occurrence("k", 150), late);
        let was = |late| Turn::Begin(occurrence("k", 50), late);
        let table = [
            // Written in time, and somebody comes to it only now.
            (Past::Skip, false, None, 150, None, begins(false)),
            (Past::Skip, true, None, 150, None, begins(false)),
            // Past already when it was written.
            (
                Past::Skip,
                false,
                None,
                50,
                None,
                Turn::TooLate(occurrence("k", 50)),
            ),
            (Past::Run, false, None, 50, None, was(false)),
            (late.clone(), false, None, 50, None, was(true)),
            (Past::Run, false, Some(150), 50, None, was(false)),
            (
                Past::Run,
                false,
                Some(149),
                50,
                None,
                Turn::TooLate(occurrence("k", 50)),
            ),
            (late, true, Some(149), 50, None, Turn::Rest),
            (Past::Skip, true, None, 50, None, Turn::Rest),
            // Planned before: it is no news.
            (Past::Skip, false, None, 50, Some("k"), was(false)),
            (
                Past::Skip,
                false,
                None,
                50,
                Some("other"),
                Turn::TooLate(occurrence("k", 50)),
            ),
        ];
        for (past, yearly, within_ms, at_ms, planned, expected) in table {
            let date = EntryDate {
                begins: Begins::parse("b").unwrap(),
                yearly,
                past: past.clone(),
            };
            let planned =
                planned.map(|key| Ahead::of(ResourceType::Patient, occurrence(key, at_ms)));
            let found = turn(
                &date,
                within_ms,
                Some(occurrence("k", at_ms)),
                planned.as_ref(),
                &seen(false),
            );
            assert_eq!(found, expected, "{past:?} {yearly} {within_ms:?} {at_ms}");
        }
        // What is found by looking through records has to be fresh.
        let skip = EntryDate {
            begins: Begins::parse("b").unwrap(),
            yearly: false,
            past: Past::Skip,
        };
        for (within_ms, scanned, expected) in [
            (Some(49), false, begins(false)),
            (Some(49), true, Turn::TooLate(occurrence("k", 150))),
            (Some(50), true, begins(false)),
            (None, true, begins(false)),
        ] {
            let past = Some(occurrence("k", 150));
            let found = turn(&skip, within_ms, past, None, &seen(scanned));
            assert_eq!(found, expected, "{within_ms:?} {scanned}");
        }
        assert_eq!(
            turn(
                &EntryDate {
                    begins: Begins::parse("b").unwrap(),
                    yearly: false,
                    past: Past::Run
                },
                None,
                None,
                None,
                &seen(false)
            ),
            Turn::Rest
        );
    }
}
