//! The journey service: publishing, what pages want to know, and the way into the runner.

use crate::analysis::Analysing;
use crate::books::{Books, Figures, Published, StoredDefinition, old_trail};
use crate::definition::{Definition, ExitTrigger};
use crate::engine::{self, Context, Input, Manual};
use crate::mover::{MoveError, Mover, PatientIds, questionnaire_id};
use crate::passages::by_version;
use crate::runner::{self, Cause};
use crate::stages::{Rollout, Starting, StoredStage, VersionStage};
use crate::state::TrailEntry;
use crate::{
    DEAD_LETTER, DeadLetter, Finding, GraphView, HandView, InstanceView, JourneyError, State,
    Stopped, TrailView, VersionView, check, hands, kept, words,
};
use ledger::{Clock, Expected, LedgerError, Owner, TenantId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OnceCell;
use trust::{
    Action, Agent, Change, Internal, Permit, Purpose, Refusal, Target, Trust, TrustError, Unit,
    Vault, kinds,
};

/// Journeys of one patient that are shown at most.
const OF_PATIENT_MAX: usize = 200;
/// How often publishing is tried again when somebody else publishes at the same time.
const PUBLISH_TRIES: usize = 8;

/// The journey service. Cheap to clone; clones share their counts, so make one and hand it round.
#[derive(Clone)]
pub struct Journeys {
    inner: Arc<Inner>,
}

struct Inner {
    trust: Trust,
    clock: Arc<dyn Clock>,
    books: Mutex<HashMap<TenantId, Arc<OnceCell<Arc<Books>>>>>,
    /// With fewer journeys than this no counts are kept.
    few: u64,
    analysing: Analysing,
}

impl Journeys {
    /// What a journey would tell partners that they may not be told now; with `words`, what its fixed words would by
    /// the list that the checker has.
    pub(crate) fn uncleared(&self, definition: &Definition, words: bool) -> Vec<crate::Finding> {
        let set = self.inner.trust.policy_set();
        check::partners(definition, set.partners(), self.now_ms(), words)
    }

    /// Over trust.
    #[must_use]
    pub fn new(trust: Trust) -> Self {
        Self::keeping_counts_from(trust, kept::FEW)
    }

    /// The same, which keeps counts in the store from so many journeys on; for tests that have fewer than
    /// those from which on it pays.
    #[must_use]
    pub fn keeping_counts_from(trust: Trust, few: u64) -> Self {
        let clock = trust.vault().ledger().clock();
        Self {
            inner: Arc::new(Inner {
                trust,
                clock,
                books: Mutex::default(),
                few,
                analysing: Analysing::default(),
            }),
        }
    }

    pub(crate) fn vault(&self) -> &Vault {
        self.inner.trust.vault()
    }
    pub(crate) fn clock(&self) -> &dyn Clock {
        self.inner.clock.as_ref()
    }
    pub(crate) fn few(&self) -> u64 {
        self.inner.few
    }
    pub(crate) fn now_ms(&self) -> u64 {
        self.inner.clock.now_ms()
    }

    /// The permit under which patients are moved.
    pub(crate) async fn engine_permit(&self, tenant: TenantId) -> Result<Permit, JourneyError> {
        let agent = Agent::system(tenant, "journey-engine");
        Ok(self
            .inner
            .trust
            .decide(
                &agent,
                Purpose::CareManagement,
                Action::Orchestrate,
                Target::default(),
                "journey-engine",
            )
            .await?)
    }

    /// The permit by which it is decided of whom an analysis tells, whoever asks for it.
    pub(crate) async fn analyst_permit(&self, tenant: TenantId) -> Result<Permit, JourneyError> {
        let agent = Agent::system(tenant, "journey-analyst");
        let (trust, whom) = (&self.inner.trust, Target::default());
        let decided = trust.decide(
            &agent,
            Purpose::Operations,
            Action::Observe,
            whom,
            "analysis",
        );
        Ok(decided.await?)
    }

    /// What is being analysed.
    pub(crate) fn analysing(&self) -> &Analysing {
        &self.inner.analysing
    }

    /// A tenant's books, opened at first use.
    pub(crate) async fn books(&self, tenant: TenantId) -> Result<Arc<Books>, JourneyError> {
        let cell = self
            .inner
            .books
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(tenant)
            .or_default()
            .clone();
        let books = cell
            .get_or_try_init(|| async {
                let permit = Arc::new(self.engine_permit(tenant).await?);
                let books = Arc::new(Books::open(self.vault(), &permit).await?);
                self.catch_up(&books, &permit).await?;
                Ok::<_, JourneyError>(books)
            })
            .await?;
        Ok(books.clone())
    }

    /// A tenant's books if somebody has opened them.
    pub(crate) fn open_books(&self, tenant: TenantId) -> Option<Arc<Books>> {
        let books = self
            .inner
            .books
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        books.get(&tenant)?.get().cloned()
    }

    pub(crate) fn published(
        books: &Books,
        name: &str,
        version: Option<u32>,
    ) -> Result<Arc<Published>, JourneyError> {
        let found = match version {
            Some(version) => books.version(name, version),
            None => books.live(name),
        };
        found.ok_or_else(|| {
            JourneyError::Unknown(version.map_or_else(
                || name.to_owned(),
                |version| format!("{name}, version {version}"),
            ))
        })
    }

    /// Checks and publishes a file as the journey's next version; the same text again changes nothing.
    ///
    /// # Errors
    /// `Findings`, `Trust`.
    pub async fn publish(
        &self,
        permit: &Permit,
        source: &str,
    ) -> Result<VersionView, JourneyError> {
        let tenant = permit.tenant();
        let books = self.books(tenant).await?;
        let (definition, findings) = self.compiled(&books, source).await?;
        // What was kept of it under way goes live as it is.
        if let Some(definition) = &definition {
            let same = |kept: &StoredStage| {
                kept.source == source
                    && matches!(kept.stage, VersionStage::Checked | VersionStage::Staged)
            };
            let under_way = books.stages_of(&definition.name).into_iter();
            if let Some(kept) = under_way.rev().find(same) {
                let (to, whom) = (VersionStage::Live, Rollout::default());
                return self
                    .set_stage(permit, &kept.name, kept.version, to, &whom, "published")
                    .await;
            }
        }
        // What is published goes on, whatever the checker has learnt since.
        let live = (definition.as_ref()).and_then(|definition| books.live(&definition.name));
        if let Some(live) = live.filter(|live| live.stored.source == source) {
            return Ok(books.view(&live));
        }
        let errors = findings.iter().any(|finding| finding.error);
        // What was live once may be so again: the way back is not closed by what the checker has learnt since.
        let back = |of: &Definition| books.was_live(&of.name, source);
        let (definition, back) = match definition {
            Some(definition) if back(&definition) => (definition, true),
            Some(definition) if !errors => (definition, false),
            _ => return Err(JourneyError::Findings(findings)),
        };
        let definition = Arc::new(definition);
        // What another server has published may not have been heard of here.
        if definition
            .steps
            .iter()
            .any(|step| step.kind.begins().is_some())
        {
            let engine = self.engine_permit(tenant).await?;
            books.read_definitions(self.vault(), &engine).await?;
        }
        let of = definition.clone();
        let beside = move |journeys: &Self, books: &Books| {
            let mut wrong = check::others(&of, &|name| books.begins(name));
            wrong.extend(journeys.uncleared(&of, !back));
            (wrong, journeys.among_others(books, &of))
        };
        let (wrong, mut among) = self.beside(&books, beside).await?;
        if !wrong.is_empty() {
            return Err(JourneyError::Findings(wrong));
        }
        if back {
            among.extend(check::as_warnings(findings));
        }
        let told = |view: VersionView| VersionView {
            findings: among.clone(),
            ..view
        };
        let ledger = self.vault().ledger();
        for _ in 0..PUBLISH_TRIES {
            let live = books.live(&definition.name);
            if let Some(live) = &live
                && live.stored.source == source
            {
                return Ok(told(books.view(live)));
            }
            if let Some(staged) = books.staged(&definition.name) {
                return Err(JourneyError::Cannot(format!(
                    "version {staged} of {} is staged; make it live or take it back first",
                    definition.name
                )));
            }
            let version = books.newest_number(&definition.name) + 1;
            let now_ms = self.now_ms();
            let agent = permit.agent();
            let stored = StoredDefinition {
                name: definition.name.clone(),
                version,
                source: source.to_owned(),
                published_ms: now_ms,
                published_by: if agent.name.is_empty() {
                    agent.id.clone()
                } else {
                    agent.name.clone()
                },
                staged: false,
            };
            let journey = format!("{}/{version}", definition.name);
            let changes = definition
                .steps
                .iter()
                .filter_map(|step| {
                    step.kind.questionnaire(
                        &definition,
                        version,
                        step,
                        &questionnaire_id(ledger, tenant, &journey, &step.id),
                        now_ms,
                    )
                })
                .map(|resource| Change::Put {
                    resource,
                    expected: Expected::Absent,
                })
                .collect();
            let unit = Unit {
                changes,
                internals: vec![Internal {
                    kind: kinds::JOURNEY_DEFINITION,
                    id: ledger.derive_id(tenant, &Owner::Tenant, &format!("definition/{journey}")),
                    owner: Owner::Tenant,
                    expected: Expected::Absent,
                    body: serde_json::to_vec(&stored).unwrap_or_default(),
                    deleted: false,
                    tokens: vec![("name".to_owned(), definition.name.clone())],
                }],
                note: Some(format!("{}: version {version} published", definition.name)),
                ..Unit::default()
            };
            match self.vault().commit(permit, unit).await {
                Ok(_) => {
                    books.add(stored);
                    let name = &definition.name;
                    let published = Self::published(&books, name, Some(version))?;
                    return Ok(told(books.view(&published)));
                }
                Err(TrustError::Ledger(LedgerError::Conflict)) => {
                    let engine = self.engine_permit(tenant).await?;
                    books.read_definitions(self.vault(), &engine).await?;
                }
                Err(other) => return Err(other.into()),
            }
        }
        Err(JourneyError::Trust(TrustError::Ledger(
            LedgerError::Conflict,
        )))
    }

    /// What a journey comes to together with the others on which patients start, by the limits of messages.
    pub(crate) fn among_others(&self, books: &Books, definition: &Definition) -> Vec<Finding> {
        let starting = books.starting();
        let others = starting.iter().flat_map(Starting::versions);
        let rules = self.vault().rules().messages();
        check::conflicts(definition, others.map(|other| &**other), rules)
    }

    /// All versions of all journeys, by name, newest version first.
    ///
    /// # Errors
    /// `Trust`.
    pub async fn versions(&self, permit: &Permit) -> Result<Vec<VersionView>, JourneyError> {
        staff(permit)?;
        let books = self.books(permit.tenant()).await?;
        let mut versions: Vec<VersionView> = (books.all().iter())
            .map(|published| books.view(published))
            .chain(books.drafts())
            .collect();
        versions.sort_by(|a, b| a.name.cmp(&b.name).then(b.version.cmp(&a.version)));
        Ok(versions)
    }

    /// The languages that messages of live journeys are there in (BCP 47). They tell nothing of anybody.
    ///
    /// # Errors
    /// `Trust`.
    pub async fn languages(&self, tenant: TenantId) -> Result<Vec<String>, JourneyError> {
        let books = self.books(tenant).await?;
        let mut found = std::collections::BTreeSet::new();
        for published in books.all_live() {
            found.extend(published.definition.languages());
        }
        Ok(found.into_iter().collect())
    }

    /// The graph of a version (`None`: the live one) with its counts.
    ///
    /// # Errors
    /// `Unknown`, `Trust`.
    pub async fn graph(
        &self,
        permit: &Permit,
        name: &str,
        version: Option<u32>,
    ) -> Result<GraphView, JourneyError> {
        staff(permit)?;
        let books = self.books(permit.tenant()).await?;
        let published = Self::published(&books, name, version)?;
        let stored = &published.stored;
        let counts = books.counts(&stored.name, stored.version);
        let (nodes, edges) = counts.graph(&published.definition);
        let (moved_in, moved_out) = counts.moved();
        let started = counts.started();
        let mut endings: Vec<(String, u64)> = counts.endings.into_iter().collect();
        endings.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        Ok(GraphView {
            version: books.view(&published),
            started,
            moved_in,
            moved_out,
            nodes,
            edges,
            endings,
            source: stored.source.clone(),
        })
    }

    /// A published version (`None`: the live one) as definitions of FHIR: a `Bundle`, its `PlanDefinition` first.
    ///
    /// # Errors
    /// `Unknown`, `Trust`.
    pub async fn exported(
        &self,
        permit: &Permit,
        name: &str,
        version: Option<u32>,
    ) -> Result<serde_json::Value, JourneyError> {
        staff(permit)?;
        let books = self.books(permit.tenant()).await?;
        let published = Self::published(&books, name, version)?;
        let stored = &published.stored;
        crate::faces::exported(&published.definition, &stored.source)
            .map_err(|_| JourneyError::Broken(format!("{name}, version {}", stored.version)))
    }

    /// A patient's journeys, running ones first.
    ///
    /// # Errors
    /// `Trust`.
    pub async fn of_patient(
        &self,
        permit: &Permit,
        patient: &str,
    ) -> Result<Vec<InstanceView>, JourneyError> {
        if permit.only_patient().is_some_and(|only| only != patient) {
            return Err(refused("this permit is for another patient"));
        }
        let books = self.books(permit.tenant()).await?;
        let mut views = Vec::new();
        for document in self.stored_of(permit, patient).await? {
            let state = State::from_json(&document.body)
                .map_err(|error| JourneyError::Broken(error.to_string()))?;
            if state.patient == patient {
                views.push(self.view(permit, &books, &document.id, &state).await?);
            }
        }
        views.sort_by_key(|view| (view.ended.is_some(), std::cmp::Reverse(view.started_ms)));
        Ok(views)
    }

    /// A patient's journeys that run, as far as this program knows them, and how many may run besides.
    ///
    /// # Errors
    /// `Trust`.
    pub async fn running(
        &self,
        permit: &Permit,
        patient: &str,
    ) -> Result<(Vec<InstanceView>, usize), JourneyError> {
        staff(permit)?;
        let books = self.books(permit.tenant()).await?;
        let (mut running, mut unknown) = (Vec::new(), 0);
        for document in self.stored_of(permit, patient).await? {
            let state = match State::from_json(&document.body) {
                Ok(state) if state.patient != patient || state.ended.is_some() => continue,
                Ok(state) => state,
                Err(_) => {
                    unknown += 1;
                    continue;
                }
            };
            match self.view(permit, &books, &document.id, &state).await {
                Ok(view) => {
                    let known = Self::published(&books, &state.journey, Some(state.version))?;
                    let hand = hands::view(&known.definition, &state, document.version);
                    running.push(InstanceView { hand, ..view });
                }
                Err(JourneyError::Trust(error)) => return Err(error.into()),
                Err(_) => unknown += 1,
            }
        }
        running.sort_by_key(|view| std::cmp::Reverse(view.started_ms));
        Ok((running, unknown))
    }

    /// What is stored under a patient's token. Tokens can collide, opened states can't.
    async fn stored_of(
        &self,
        permit: &Permit,
        patient: &str,
    ) -> Result<Vec<trust::InternalStored>, JourneyError> {
        let of_patient = [("patient", patient)];
        let kind = kinds::JOURNEY_INSTANCE;
        let stored = self
            .vault()
            .internals(permit, kind, &of_patient, None, OF_PATIENT_MAX);
        Ok(stored.await?)
    }

    async fn view(
        &self,
        permit: &Permit,
        books: &Books,
        instance: &str,
        state: &State,
    ) -> Result<InstanceView, JourneyError> {
        let published = Self::published(books, &state.journey, Some(state.version))?;
        let definition = &published.definition;
        let ids = PatientIds {
            ledger: self.vault().ledger(),
            tenant: permit.tenant(),
            owner: Owner::Patient(state.patient.clone()),
            journey: format!("{}/{}", state.journey, state.version),
        };
        let mut entries = old_trail(self.vault(), permit, instance, state).await?;
        entries.extend(state.trail.iter().cloned());
        Ok(InstanceView {
            id: instance.to_owned(),
            patient: state.patient.clone(),
            journey: state.journey.clone(),
            title: definition.title.clone(),
            version: state.version,
            started_ms: state.started_ms,
            ended: state
                .ended
                .as_ref()
                .map(|ended| (ended.at_ms, ended.title.clone())),
            waiting: words::waits(definition, state, instance, &ids, self.now_ms()),
            trail: Self::told(books, state, definition, &entries),
            planned: words::planned(definition, state, instance, &ids, self.now_ms()),
            act: definition.act(self.vault().programmes_known_as(permit.tenant()).await?),
            hand: HandView::default(),
            ends_without_consent: definition
                .exits
                .iter()
                .any(|exit| exit.trigger == ExitTrigger::ConsentWithdrawn),
        })
    }

    /// What has happened, each part in the words of the version under which it did.
    fn told(
        books: &Books,
        state: &State,
        definition: &Definition,
        entries: &[TrailEntry],
    ) -> Vec<TrailView> {
        let mut told = Vec::new();
        for (version, _, entries) in by_version(entries, state.version) {
            let of_version = books.version(&state.journey, version);
            let of_version = of_version.as_ref().map(|found| found.definition.as_ref());
            let by = of_version.unwrap_or(definition);
            told.extend(
                entries
                    .iter()
                    .filter_map(|entry| words::trail(by, state, entry)),
            );
        }
        told
    }

    /// Journeys by state, for metrics: (name, version, running, ended).
    ///
    /// # Errors
    /// `Trust`.
    pub async fn counts(
        &self,
        agent: &Agent,
    ) -> Result<Vec<(String, u32, u64, u64)>, JourneyError> {
        let books = self.books(agent.tenant).await?;
        Ok(books
            .all()
            .iter()
            .map(|published| books.view(published))
            .map(|view| (view.name, view.version, view.running, view.ended))
            .collect())
    }

    /// Ends a journey by hand, with the reason in words. Whether it ran until then.
    ///
    /// # Errors
    /// `Unknown`, `Trust`.
    pub async fn stop(
        &self,
        permit: &Permit,
        instance: &str,
        reason: &str,
    ) -> Result<bool, JourneyError> {
        staff(permit)?;
        works(permit)?;
        let engine = self.engine_permit(permit.tenant()).await?;
        let books = self.books(permit.tenant()).await?;
        let unknown = || JourneyError::Unknown(format!("instance {instance}"));
        let found = self
            .vault()
            .internal(permit, kinds::JOURNEY_INSTANCE, instance)
            .await?;
        let state = State::from_json(&found.ok_or_else(unknown)?.body)
            .map_err(|error| JourneyError::Broken(error.to_string()))?;
        // Whoever moves patients of a shard takes turns, so that the counts see moves in their order.
        let owner = Owner::Patient(state.patient);
        let shard = self
            .vault()
            .ledger()
            .shard_of(permit.tenant(), &owner, instance);
        let turn = books.positions.get(usize::from(shard.0));
        let _turn = turn.ok_or_else(unknown)?.lock().await;
        loop {
            let stored = self
                .vault()
                .internal(permit, kinds::JOURNEY_INSTANCE, instance)
                .await?;
            let stored = stored.ok_or_else(unknown)?;
            let state = State::from_json(&stored.body)
                .map_err(|error| JourneyError::Broken(error.to_string()))?;
            let known = self.known_version(&books, &engine, &state).await?;
            let definition = &*known;
            let mut mover = Mover::new(self.vault(), &engine, &state.patient, self.now_ms());
            mover.asked_by(permit);
            let decision = {
                let ids = mover.ids(definition);
                let context = Context {
                    now_ms: self.now_ms(),
                    instance,
                    ids: &ids,
                    limited: mover.limits(definition).any(),
                };
                let stop = Input::Manual(Manual::Stop(reason.to_owned()));
                engine::step(definition, &state, stop, &context)
                    .map_err(|error| JourneyError::Broken(error.to_string()))?
            };
            mover
                .take(
                    definition,
                    instance,
                    Some((&state, stored.version)),
                    decision,
                )
                .await?;
            let cause = Cause::by_hand("stopped by hand");
            match self.commit(&books, &engine, mover, cause).await {
                Ok(moved) => return Ok(moved.is_some()),
                Err(MoveError::Trust(TrustError::Ledger(LedgerError::Conflict))) => {}
                Err(other) => return Err(other.into()),
            }
        }
    }

    /// Ends a patient's journey by hand, if it is that patient's. Whether it ran until then.
    ///
    /// # Errors
    /// `Unknown`, `Broken`, `Trust`.
    pub async fn stop_one(
        &self,
        permit: &Permit,
        patient: &str,
        instance: &str,
        reason: &str,
    ) -> Result<bool, JourneyError> {
        let of_patient = self.stored_of(permit, patient).await?;
        let mut found = of_patient.iter();
        let found = found.find(|document| document.id == instance);
        let found = found.ok_or_else(|| JourneyError::Unknown(format!("instance {instance}")))?;
        let state = State::from_json(&found.body);
        if state.is_ok_and(|state| state.patient != patient) {
            return Err(JourneyError::Unknown(format!("instance {instance}")));
        }
        let stopped = self.stop(permit, instance, reason).await;
        // It is there; what isn't known is its version.
        stopped.map_err(|error| match error {
            JourneyError::Unknown(version) => JourneyError::Broken(version),
            other => other,
        })
    }

    /// Ends all of a patient's journeys that run, by hand, one after the other: what can't be stopped keeps none of
    /// the others running. What happens to the patient later can begin journeys again.
    ///
    /// # Errors
    /// `Trust`, where not even one could be stopped.
    pub async fn stop_all(
        &self,
        permit: &Permit,
        patient: &str,
        reason: &str,
    ) -> Result<Stopped, JourneyError> {
        staff(permit)?;
        let mut stopped = Stopped::default();
        let mut first = None;
        let mut running = Vec::new();
        for document in self.stored_of(permit, patient).await? {
            match State::from_json(&document.body) {
                Ok(state) if state.patient != patient || state.ended.is_some() => {}
                Ok(state) => running.push((state.started_ms, is_part(&state), document.id)),
                Err(_) => stopped.failed += 1,
            }
        }
        // A journey before what it has begun: the end of that one would lead it on.
        running.sort_unstable();
        for (_, _, instance) in running {
            match self.stop(permit, &instance, reason).await {
                Ok(true) => stopped.stopped += 1,
                // It has ended by itself meanwhile.
                Ok(false) => {}
                Err(error) => {
                    stopped.failed += 1;
                    if let JourneyError::Trust(error) = error {
                        first.get_or_insert(error);
                    }
                }
            }
        }
        match first {
            Some(error) if stopped.stopped == 0 => Err(JourneyError::Trust(error)),
            _ => Ok(stopped),
        }
    }

    /// What could not be worked on, newest first.
    ///
    /// # Errors
    /// `Trust`.
    pub async fn dead_letters(
        &self,
        permit: &Permit,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, JourneyError> {
        staff(permit)?;
        let stored = self
            .vault()
            .internals(permit, DEAD_LETTER, &[("state", "open")], None, limit)
            .await?;
        Ok(stored
            .iter()
            .filter_map(|document| serde_json::from_slice(&document.body).ok())
            .collect())
    }

    /// Plays a dead letter again, e.g. after a repair; it is gone when that went well.
    ///
    /// # Errors
    /// `Unknown`, `Trust`, `Broken` when it still can't be worked on.
    pub async fn retry(&self, tenant: TenantId, letter: &str) -> Result<(), JourneyError> {
        let permit = self.engine_permit(tenant).await?;
        let books = self.books(tenant).await?;
        let stored = self.vault().internal(&permit, DEAD_LETTER, letter).await?;
        let stored =
            stored.ok_or_else(|| JourneyError::Unknown(format!("dead letter {letter}")))?;
        let Ok(parsed) = serde_json::from_slice::<DeadLetter>(&stored.body) else {
            return Err(JourneyError::Broken(
                "the dead letter does not parse".to_owned(),
            ));
        };
        self.play_again(&books, &permit, &parsed, stored.version)
            .await?;
        Ok(())
    }

    /// Plays a dead letter again for somebody who answers for journeys; the audit has who.
    ///
    /// # Errors
    /// As [`Journeys::retry`].
    pub async fn retry_by_hand(&self, permit: &Permit, letter: &str) -> Result<(), JourneyError> {
        staff(permit)?;
        if permit.action() != Action::Publish {
            return Err(refused(
                "this permit is not for those who answer for journeys",
            ));
        }
        let found = self.vault().internal(permit, DEAD_LETTER, letter).await?;
        found.ok_or_else(|| JourneyError::Unknown(format!("dead letter {letter}")))?;
        let unit = Unit {
            note: Some(format!(
                "journeys: dead letter {letter} is played again by hand"
            )),
            ..Unit::default()
        };
        self.vault().commit(permit, unit).await?;
        self.retry(permit.tenant(), letter).await
    }

    /// Plays all dead letters again, in the order in which they came. Returns how many are gone, and
    /// those that still can't be worked on with the reason in words.
    ///
    /// # Errors
    /// `Trust`, when the letters can't be read.
    pub async fn retry_all(
        &self,
        tenant: TenantId,
    ) -> Result<(u64, Vec<(DeadLetter, String)>), JourneyError> {
        let permit = self.engine_permit(tenant).await?;
        let books = self.books(tenant).await?;
        let (mut done, mut left) = (0, Vec::new());
        for (letter, version) in self.letters(&permit, &[("state", "open")]).await? {
            match self.play_again(&books, &permit, &letter, version).await {
                Ok(()) => done += 1,
                Err(error) => left.push((letter, error.to_string())),
            }
        }
        Ok((done, left))
    }

    /// How far the journeys are behind: the age of the oldest event on the feed that nobody has read
    /// yet, milliseconds of the care clock; 0 when all are read. True whatever becomes of the follower,
    /// because the feed is asked and not it.
    ///
    /// # Errors
    /// `Trust`.
    pub async fn feed_lag_ms(&self, tenant: TenantId) -> Result<u64, JourneyError> {
        self.lag_ms(tenant).await
    }

    /// How the journeys of a tenant stand, if anybody has looked at them yet.
    #[must_use]
    pub fn figures(&self, tenant: TenantId) -> Option<Figures> {
        Some(self.open_books(tenant)?.figures())
    }

    /// Follows the feed and the timers and moves patients, works on batches, and looks through records for dates,
    /// until `stop` turns true.
    pub async fn run(&self, tenant: TenantId, stop: tokio::sync::watch::Receiver<bool>) {
        tokio::join!(
            self.follow(tenant, stop.clone()),
            self.steer(tenant, stop.clone()),
            self.look_through(tenant, stop)
        );
    }

    /// Handles everything that is there to handle now (events and due timers), then returns; for
    /// tests and virtual time. Returns how many moves were made.
    ///
    /// # Errors
    /// `Trust`.
    pub async fn drain(&self, tenant: TenantId) -> Result<u64, JourneyError> {
        self.drain_all(tenant).await
    }
}

pub(crate) fn refused(reason: &str) -> JourneyError {
    JourneyError::Trust(TrustError::Refused(Refusal {
        reason: reason.to_owned(),
        because: Vec::new(),
    }))
}

/// What is done to patients' journeys is work. It is written by the engine's rights, since whoever does it need not be
/// let to write all that comes of it; the audit has their name.
pub(crate) fn works(permit: &Permit) -> Result<(), JourneyError> {
    if matches!(permit.action(), Action::Work | Action::Orchestrate) {
        return Ok(());
    }
    Err(refused("this permit is not for work with patients"))
}

/// Lists over all patients aren't for permits that are limited to one.
pub(crate) fn staff(permit: &Permit) -> Result<(), JourneyError> {
    if permit.only_patient().is_some() {
        Err(refused("this permit is for one patient's own record"))
    } else {
        Ok(())
    }
}

/// Whether another journey began it.
fn is_part(state: &State) -> bool {
    runner::task_of(&state.key).is_some()
}
