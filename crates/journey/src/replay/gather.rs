//! A journey's history, put together from what the ledger keeps: each move of the patient with what caused it, and
//! each version of the resources that the journey, or the draft, may go by.

use super::compare::compare;
use super::history::{History, Move, Written, due_ms};
use super::lead::lead;
use super::{REPLAYED_MAX, ReplaySummary, Replayed, Sums};
use crate::books::old_trail;
use crate::definition::Definition;
use crate::mover::{self, MoveError, questionnaire_id};
use crate::room::{Book, Limits, reaches_out};
use crate::service::{refused, staff};
use crate::state::{State, TrailEntry, What, Which};
use crate::{JourneyError, Journeys, MESSAGE_BOOK};
use fhir::{Resource, ResourceType};
use ledger::{Kind, Number, Owner, Shard};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use trust::{Action, Permit, TrustError, kinds};

/// Most moves of a journey that is played again: three a day for years.
const MOVES_MAX: u32 = 5_000;
/// Most versions of resources that are read for one journey; they are held in memory.
const VERSIONS_MAX: usize = 50_000;
/// Versions of a resource that are read at once.
const PAGE: usize = 500;
/// Events of a shard that are read at once, and that are looked through for what was deleted since.
const EVENTS: usize = 4_096;
const EVENTS_MAX: usize = 2_000_000;

impl Journeys {
    /// Plays a patient's journey again with a draft of it. Nothing is written but the audit of the look, and nothing
    /// is sent. The permit is one to steer, and nothing of the patient may be hidden from it: what the draft would
    /// have done tells of all that it goes by.
    ///
    /// # Errors
    /// `Unknown`; `Cannot` where the draft is of another journey or the history is too long; `Broken`, `Trust`.
    pub async fn replay(
        &self,
        permit: &Permit,
        draft: &Definition,
        instance: &str,
    ) -> Result<Replayed, JourneyError> {
        may(permit)?;
        let unknown = || JourneyError::Unknown(format!("instance {instance}"));
        let kind = kinds::JOURNEY_INSTANCE;
        let found = self.vault().internal(permit, kind, instance).await?;
        let patient = found.and_then(|found| found.patient).ok_or_else(unknown)?;
        if self.vault().may_hide(permit, &patient).await? {
            return Err(refused(
                "something of this patient's record may be hidden from this permit, and a replay would tell of it",
            ));
        }
        let note = format!("{}: played again with a draft", draft.name);
        let patients = BTreeSet::from([patient]);
        self.vault().record_look(permit, patients, &note).await?;
        self.played_again(permit, draft, instance).await
    }

    /// The same for the journeys of that name, so many of them in the order of their ids, which say nothing of
    /// anybody: how many go the same way, and what differs. Nobody is named; the audit says that it was asked.
    ///
    /// # Errors
    /// `Cannot`, `Trust`.
    pub async fn replay_many(
        &self,
        permit: &Permit,
        draft: &Definition,
        most: usize,
    ) -> Result<ReplaySummary, JourneyError> {
        may(permit)?;
        if most > REPLAYED_MAX {
            return Err(JourneyError::Cannot(format!(
                "at most {REPLAYED_MAX} journeys are played again at once"
            )));
        }
        let engine = self.engine_permit(permit.tenant()).await?;
        let of_name = [("journey", draft.name.as_str())];
        let kind = kinds::JOURNEY_INSTANCE;
        let all = crate::books::all_internals(self.vault(), &engine, kind, &of_name).await?;
        // Tokens can collide.
        let all = all.into_iter().filter_map(|stored| {
            let state = State::from_json(&stored.body).ok()?;
            (state.journey == draft.name).then_some((stored.id, state.patient))
        });
        let mut found: Vec<(String, String)> = all.collect();
        found.sort_unstable();
        let total = found.len();
        found.truncate(most);
        let note = format!("{}: {} played again with a draft", draft.name, found.len());
        let nobody = BTreeSet::new();
        self.vault().record_look(permit, nobody, &note).await?;
        let mut sums = Sums::of(total);
        for (instance, patient) in &found {
            // As for one: what the draft would have done tells of all that it goes by.
            if self.vault().may_hide(permit, patient).await? {
                sums.hidden();
                continue;
            }
            match self.played_again(permit, draft, instance).await {
                Ok(one) => sums.add(&one),
                Err(error) => sums.failed(why_not(error)?),
            }
        }
        Ok(sums.summary())
    }

    /// A patient's journeys of a name, the newest first. That it was asked is in the patient's audit: whether somebody
    /// is in a journey tells something, too.
    ///
    /// # Errors
    /// `Trust`.
    pub async fn replayable(
        &self,
        permit: &Permit,
        journey: &str,
        patient: &str,
    ) -> Result<Vec<String>, JourneyError> {
        may(permit)?;
        let note = format!("{journey}: looked for what can be played again with a draft");
        let patients = BTreeSet::from([patient.to_owned()]);
        self.vault().record_look(permit, patients, &note).await?;
        let tokens = [("patient", patient), ("journey", journey)];
        let kind = kinds::JOURNEY_INSTANCE;
        let all = crate::books::all_internals(self.vault(), permit, kind, &tokens).await?;
        let of = all.into_iter().filter(|stored| {
            stored.patient.as_deref() == Some(patient)
                && State::from_json(&stored.body).is_ok_and(|state| state.journey == journey)
        });
        Ok(of.map(|stored| stored.id).collect())
    }

    async fn played_again(
        &self,
        permit: &Permit,
        draft: &Definition,
        instance: &str,
    ) -> Result<Replayed, JourneyError> {
        let engine = self.engine_permit(permit.tenant()).await?;
        let history = self.gathered(&engine, draft, instance).await?;
        let ids = self.ids_of(&engine, &history.first, history.first.version);
        let led = lead(draft, &history, &ids);
        compare(draft, &history, led)
    }

    /// What the ledger keeps of a journey.
    async fn gathered(
        &self,
        engine: &Permit,
        draft: &Definition,
        instance: &str,
    ) -> Result<History, JourneyError> {
        let (vault, tenant) = (self.vault(), engine.tenant());
        let books = self.books(tenant).await?;
        let kind = kinds::JOURNEY_INSTANCE;
        let stored = vault.internal(engine, kind, instance).await?;
        let stored = stored.ok_or_else(|| JourneyError::Unknown(format!("instance {instance}")))?;
        let last = State::from_json(&stored.body).map_err(MoveError::from)?;
        if last.journey != draft.name {
            return Err(JourneyError::Cannot(format!(
                "the draft is of {}, and the patient is in {}",
                draft.name, last.journey
            )));
        }
        if stored.version > MOVES_MAX {
            return Err(JourneyError::Cannot(format!(
                "it was moved {} times; at most {MOVES_MAX} moves are played again",
                stored.version
            )));
        }
        let owner = Owner::Patient(last.patient.clone());
        let shard = vault.ledger().shard_of(tenant, &owner, instance);
        let mut states = Vec::new();
        for version in 1..=stored.version {
            let found = vault.internal_version(engine, kind, instance, version);
            let found = found.await?.ok_or_else(|| {
                JourneyError::Broken(format!("version {version} of {instance} is not there"))
            })?;
            let state = State::from_json(&found.body).map_err(MoveError::from)?;
            states.push((found.at.number, state));
        }
        let mut definitions = BTreeMap::new();
        for (_, state) in &states {
            if let Entry::Vacant(place) = definitions.entry(state.version) {
                let published = Self::published(&books, &state.journey, Some(state.version))?;
                place.insert(published.definition.clone());
            }
        }
        let mut trail = old_trail(vault, engine, instance, &last).await?;
        trail.extend(last.trail.iter().cloned());
        let moves = self.moves(shard, &states, &definitions, &trail).await?;
        let first = states
            .first()
            .map(|(_, state)| state.clone())
            .ok_or_else(|| JourneyError::Broken(format!("{instance} was never begun")))?;
        let mut missing = Vec::new();
        let record = self
            .record(
                engine,
                draft,
                &definitions,
                (&first, shard),
                &trail,
                &mut missing,
            )
            .await?;
        let person = record.iter().rev();
        let mut person = person
            .filter(|written| written.resource.kind() == ResourceType::Patient && !written.deleted);
        let (proxy, notified) = match person.next() {
            Some(person) => {
                let proxy = vault.proxy_to_write_to(tenant, &person.resource).await?;
                let at_ms = i64::try_from(self.now_ms()).unwrap_or(i64::MAX);
                let devices = vault.notifies_on(tenant, &person.resource, at_ms).await?;
                (proxy.is_some(), devices.is_ok())
            }
            None => (false, false),
        };
        let now_ms = self.now_ms();
        let due_ms = due_ms(&definitions, &last).filter(|due_ms| *due_ms <= now_ms);
        if due_ms.is_some() {
            missing.push(
                "The journey was not worked on since it was due; it is played up to then."
                    .to_owned(),
            );
        }
        let ledger = vault.ledger();
        let form = |version: &u32, step: &str| {
            let journey = format!("{}/{version}", last.journey);
            let id = questionnaire_id(ledger, tenant, &journey, step);
            (format!("Questionnaire/{id}"), step.to_owned())
        };
        let forms = definitions.iter().flat_map(|(version, definition)| {
            let steps = definition.steps.iter();
            let asks = steps.filter(|step| step.kind.is_answered());
            asks.map(move |step| form(version, &step.id))
        });
        Ok(History {
            instance: instance.to_owned(),
            cause: trail
                .first()
                .map(|entry| entry.why.clone())
                .unwrap_or_default(),
            moves,
            record,
            forms: forms.collect(),
            until_ms: due_ms.map_or(now_ms, |due_ms| due_ms.saturating_sub(1)),
            others: self
                .others(engine, draft, instance, &trail, &last.patient)
                .await?,
            rules: vault.rules().clone(),
            known_as: vault.programmes_known_as(tenant).await?,
            proxy,
            notified,
            missing,
            first,
            last,
            trail,
            definitions,
        })
    }

    /// The moves, each with the event that caused it.
    async fn moves(
        &self,
        shard: Shard,
        states: &[(Number, State)],
        definitions: &BTreeMap<u32, Arc<Definition>>,
        trail: &[TrailEntry],
    ) -> Result<Vec<Move>, JourneyError> {
        let ledger = self.vault().ledger();
        let mut moves = Vec::new();
        let mut before: Option<&State> = None;
        for (number, state) in states {
            let behind = Number(number.0.saturating_sub(1));
            let events = ledger.events(shard, behind, 1).await;
            let event = events.map_err(TrustError::from)?;
            let event = event.first().filter(|event| event.at.number == *number);
            let from = before.map_or(0, State::trail_total);
            let entries = trail.get(from..state.trail_total()).unwrap_or_default();
            let at_ms = entries.first().map(|entry| entry.at_ms);
            moves.push(Move {
                number: number.0,
                at_ms: at_ms.unwrap_or(number.unix_ms()),
                cause: event.and_then(|event| event.cause).map(|cause| cause.0),
                due_ms: before.and_then(|before| due_ms(definitions, before)),
                was_at: before.map_or_else(Vec::new, |before| {
                    let places = before.tokens.iter();
                    places.map(|token| token.step.clone()).collect()
                }),
                entries: entries.to_vec(),
            });
            before = Some(state);
        }
        Ok(moves)
    }

    /// All versions of what the patient's record has of the types that the journey or the draft goes by.
    async fn record(
        &self,
        engine: &Permit,
        draft: &Definition,
        definitions: &BTreeMap<u32, Arc<Definition>>,
        (first, shard): (&State, Shard),
        trail: &[TrailEntry],
        missing: &mut Vec<String>,
    ) -> Result<Vec<Written>, JourneyError> {
        let vault = self.vault();
        let patient = first.patient.as_str();
        let mut types: BTreeSet<ResourceType> = [
            ResourceType::Appointment,
            ResourceType::CarePlan,
            ResourceType::QuestionnaireResponse,
            ResourceType::Task,
        ]
        .into();
        types.extend(draft.about());
        for definition in definitions.values() {
            types.extend(definition.about());
        }
        let mut ids: BTreeSet<(ResourceType, String)> = BTreeSet::new();
        ids.insert((ResourceType::Patient, patient.to_owned()));
        for kind in &types {
            if *kind == ResourceType::Patient {
                continue;
            }
            let found = mover::search(vault, engine, *kind, patient, &[]).await?;
            let found = found.iter().filter_map(Resource::id);
            ids.extend(found.map(|id| (*kind, id.to_owned())));
        }
        // What moved it and is gone since.
        for entry in trail {
            let parts = entry.why.split_once('/');
            let parts = parts.and_then(|(kind, id)| Some((ResourceType::parse(kind)?, id)));
            ids.extend(parts.map(|(kind, id)| (kind, id.to_owned())));
        }
        let mut written = Vec::new();
        for (kind, id) in ids {
            self.versions_of(engine, kind, &id, patient, &mut written)
                .await?;
        }
        self.gone(
            engine,
            shard,
            first.last,
            patient,
            &types,
            &mut written,
            missing,
        )
        .await?;
        written.sort_by_key(|written| written.number);
        written.dedup_by_key(|written| written.number);
        Ok(written)
    }

    async fn versions_of(
        &self,
        engine: &Permit,
        kind: ResourceType,
        id: &str,
        patient: &str,
        written: &mut Vec<Written>,
    ) -> Result<(), JourneyError> {
        let (vault, tenant) = (self.vault(), engine.tenant());
        let mut places = Vec::new();
        let mut below = None;
        loop {
            let ledger = vault.ledger();
            let page = ledger
                .history(tenant, Kind(kind.code()), id, below, PAGE)
                .await
                .map_err(TrustError::from)?;
            below = page.last().map(|stored| stored.version);
            let is_last = page.len() < PAGE;
            places.extend(page.into_iter().map(|stored| stored.at));
            if written.len() + places.len() > VERSIONS_MAX {
                return Err(JourneyError::Cannot(format!(
                    "there are more than {VERSIONS_MAX} versions in the record of what it goes by"
                )));
            }
            if is_last {
                break;
            }
        }
        let mut before: Option<Resource> = None;
        for at in places.into_iter().rev() {
            let Some((row, gone)) = vault.load_both_at(engine, at).await? else {
                continue;
            };
            let resource = gone.unwrap_or(row.resource);
            let whose = match kind {
                ResourceType::Patient => resource.id(),
                _ => resource.patient(),
            };
            if whose != Some(patient) {
                before = None;
                continue;
            }
            let resource = self.under_one_name(engine, resource).await?;
            let deleted = row.deleted;
            written.push(Written {
                number: at.number.0,
                at_ms: at.number.unix_ms(),
                resource: resource.clone(),
                deleted,
                before: before.take(),
            });
            before = Some(resource).filter(|_| !deleted);
        }
        Ok(())
    }

    /// What was deleted since the journey began, which no search finds.
    #[allow(
        clippy::too_many_arguments,
        reason = "each says something else of where to look"
    )]
    async fn gone(
        &self,
        engine: &Permit,
        shard: Shard,
        since: u64,
        patient: &str,
        types: &BTreeSet<ResourceType>,
        written: &mut Vec<Written>,
        missing: &mut Vec<String>,
    ) -> Result<(), JourneyError> {
        let (vault, tenant) = (self.vault(), engine.tenant());
        let (mut place, mut passed) = (Number(since), 0);
        let mut found = BTreeSet::new();
        loop {
            let events = vault.ledger().events(shard, place, EVENTS).await;
            let events = events.map_err(TrustError::from)?;
            passed += events.len();
            for event in &events {
                let kind = ResourceType::from_code(event.kind.0);
                let kind = kind.filter(|kind| types.contains(kind));
                let Some(kind) = kind.filter(|_| event.deleted && event.tenant == tenant) else {
                    continue;
                };
                let both = match vault.load_both_at(engine, event.at).await {
                    // Another's, whose key was destroyed.
                    Err(TrustError::Ledger(ledger::LedgerError::KeyDestroyed)) => None,
                    both => both?,
                };
                if let Some((row, Some(was))) = both
                    && was.patient() == Some(patient)
                    && let Some(id) = row.resource.id()
                {
                    found.insert((kind, id.to_owned()));
                }
            }
            match events.last() {
                Some(last) if events.len() == EVENTS => place = last.at.number,
                _ => break,
            }
            if passed >= EVENTS_MAX {
                missing.push("More was written since than is looked through for what was deleted; what was deleted and moved nothing then is not played.".to_owned());
                break;
            }
            tokio::task::yield_now().await;
        }
        for (kind, id) in found {
            self.versions_of(engine, kind, &id, patient, written)
                .await?;
        }
        Ok(())
    }

    /// What the patient's other journeys had sent, where that limits what the draft sends.
    async fn others(
        &self,
        engine: &Permit,
        draft: &Definition,
        instance: &str,
        trail: &[TrailEntry],
        patient: &str,
    ) -> Result<Vec<(u64, Book)>, JourneyError> {
        let (vault, tenant) = (self.vault(), engine.tenant());
        if !Limits::of(vault.rules().messages(), &draft.limits).has_caps() {
            return Ok(Vec::new());
        }
        let id = mover::book_id(vault.ledger(), tenant, patient);
        let Some(stored) = vault.internal(engine, MESSAGE_BOOK, &id).await? else {
            return Ok(Vec::new());
        };
        let own = trail.iter().filter(|entry| match entry.what {
            // That a visit was called off counts in no limit.
            What::Sent { channel, which } => {
                reaches_out(channel) && !matches!(which, Which::CalledOff { .. })
            }
            _ => false,
        });
        let own: Vec<u64> = own.map(|entry| entry.at_ms).collect();
        let mut others = Vec::new();
        for version in 1..=stored.version {
            let found = vault.internal_version(engine, MESSAGE_BOOK, &id, version);
            if let Some(found) = found.await? {
                let book = Book::read(&found.body).of_others(instance, &own);
                others.push((found.at.number.0, book));
            }
        }
        Ok(others)
    }
}

/// Why a journey could not be played again, in words that name nobody; the error where none could.
fn why_not(error: JourneyError) -> Result<&'static str, JourneyError> {
    use ledger::LedgerError;
    match error {
        JourneyError::Trust(
            TrustError::Damaged(_)
            | TrustError::Ledger(LedgerError::Damaged(_) | LedgerError::KeyDestroyed),
        ) => Ok("something of its record can't be read"),
        JourneyError::Trust(error) => Err(error.into()),
        JourneyError::Cannot(_) => {
            Ok("its history is too long, or the draft is of another journey")
        }
        JourneyError::Unknown(_) => Ok("it, or a version of it, is not known here"),
        _ => Ok("what is stored of it can't be worked on by this program"),
    }
}

/// Whether somebody may ask for replays: who steers, and the parts of Cairn.
fn may(permit: &Permit) -> Result<(), JourneyError> {
    staff(permit)?;
    if matches!(permit.action(), Action::Steer | Action::Orchestrate) {
        return Ok(());
    }
    Err(refused(
        "this permit is not for what patients' journeys did",
    ))
}
