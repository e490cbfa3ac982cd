//! One cause, one unit of work: what a journey's decision becomes in the record.

mod calls;
mod entries;
mod ids;
mod look;
mod mails;
mod ordered;
mod orders;
mod plan;
mod room;
mod segments;

pub(crate) use ids::{PatientIds, instance_id, questionnaire_id};
pub(crate) use look::{search, shown};
pub(crate) use room::{book_id, key as message_key};

use crate::counts::Before;
use crate::definition::{Channel, Definition};
use crate::engine::{self, Context, Decision, Effect, Ids, Input, Outcome};
use crate::facts;
use crate::passages::{PASSAGE, Passage, by_version};
use crate::resources::{self, Maker, Times};
use crate::room::Asks;
use crate::state::{State, TrailEntry};
use fhir::{Resource, ResourceType};
use ledger::{Expected, Ledger, Owner, TenantId, Timer, TimerKey};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use trust::consent::{Sort, Wishes};
use trust::conventions::is_by_video;
use trust::{Change, Internal, Permit, TrustError, Unit, Vault, kinds};

/// The journeys' number as a consumer of timers.
pub(crate) const TIMER_CONSUMER: u16 = 1;

/// Why a unit of work could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MoveError {
    #[error(transparent)]
    Trust(#[from] TrustError),
    #[error(transparent)]
    Engine(#[from] engine::EngineError),
    #[error(transparent)]
    State(#[from] crate::StateError),
    #[error("no definition {0}")]
    NoDefinition(String),
    /// The words of a panic may hold a patient's, so they are not here.
    #[error("a task of the journeys panicked")]
    Panicked,
}

impl MoveError {
    /// Whether this patient's place in this journey can't be worked on by this program, whatever the
    /// event, while everything else can.
    pub(crate) fn is_of_instance(&self) -> bool {
        matches!(
            self,
            Self::NoDefinition(_) | Self::State(_) | Self::Engine(engine::EngineError::Full)
        )
    }
    /// Whether another version of this program can be expected to do better: it was here before.
    pub(crate) fn is_of_version(&self) -> bool {
        use crate::StateError;
        matches!(
            self,
            Self::NoDefinition(_) | Self::State(StateError::Format(_) | StateError::Newer(_))
        )
    }
}

/// What one instance did in a unit of work, for the counts once it is durable.
pub(crate) struct Moved {
    pub(crate) instance: String,
    /// The version of the stored state that this makes.
    pub(crate) version: u32,
    pub(crate) before: Before,
    pub(crate) after: State,
    pub(crate) entries: Vec<TrailEntry>,
}

/// A unit of work in the making, for one patient.
pub(crate) struct Mover<'a> {
    vault: &'a Vault,
    permit: &'a Permit,
    patient: String,
    now_ms: u64,
    unit: Unit,
    /// Resources read or made, and whether they were changed: later effects of the same cause see earlier ones.
    drafts: BTreeMap<(u16, String), Draft>,
    person: Option<Option<Resource>>,
    consents: Option<Vec<Resource>>,
    /// What the care programmes here are known as, once the consents are read.
    known_as: Vec<String>,
    moved: Vec<Moved>,
    /// What steps have asked the record for, for the audit.
    looked_for: BTreeSet<ResourceType>,
    /// What others had done by a journey's `CarePlan`, for the audit.
    deed: Option<&'static str>,
    /// What the patient's journeys have sent, once a message has asked for room.
    book: Option<room::Opened>,
    /// Which messages the patient wants, once one was to go out.
    wishes: Option<Wishes>,
    /// What begins the patient's journeys, where it was looked at, by the journey's name.
    entries: BTreeMap<String, entries::Opened>,
    /// The segments that the patient is in, where it was looked at, and what of the record that is told by.
    members: Option<segments::Opened>,
    seen: segments::Seen,
}

struct Draft {
    resource: Resource,
    expected: Expected,
    changed: bool,
}

impl<'a> Mover<'a> {
    pub(crate) fn new(vault: &'a Vault, permit: &'a Permit, patient: &str, now_ms: u64) -> Self {
        Self {
            vault,
            permit,
            patient: patient.to_owned(),
            now_ms,
            unit: Unit {
                patient: Some(patient.to_owned()),
                ..Unit::default()
            },
            drafts: BTreeMap::new(),
            person: None,
            consents: None,
            known_as: Vec::new(),
            moved: Vec::new(),
            looked_for: BTreeSet::new(),
            deed: None,
            book: None,
            wishes: None,
            entries: BTreeMap::new(),
            members: None,
            seen: segments::Seen::default(),
        }
    }

    pub(crate) fn tenant(&self) -> TenantId {
        self.permit.tenant()
    }
    pub(crate) fn permit(&self) -> &'a Permit {
        self.permit
    }
    pub(crate) fn patient(&self) -> &str {
        &self.patient
    }
    fn owner(&self) -> Owner {
        Owner::Patient(self.patient.clone())
    }
    pub(crate) fn ids(&self, definition: &Definition) -> PatientIds<'a> {
        PatientIds {
            ledger: self.vault.ledger(),
            tenant: self.tenant(),
            owner: self.owner(),
            journey: format!("{}/{}", definition.name, definition.version),
        }
    }

    /// The patient, read once.
    pub(crate) async fn person(&mut self) -> Result<Option<&Resource>, MoveError> {
        if self.person.is_none() {
            let found = self
                .vault
                .load(self.permit, ResourceType::Patient, &self.patient)
                .await?;
            self.person = Some(
                found
                    .filter(|found| !found.deleted)
                    .map(|found| found.resource),
            );
        }
        Ok(self.person.as_ref().and_then(Option::as_ref))
    }

    /// What makes resources for a step. The patient is there once they were read.
    fn maker<'b>(
        &'b self,
        definition: &'b Definition,
        instance: &'b str,
        state: &'b State,
    ) -> Maker<'b> {
        Maker {
            definition,
            instance,
            state,
            patient: self.person.as_ref().and_then(Option::as_ref),
            now_ms: self.now_ms,
        }
    }

    /// All resources of a type in the patient's record.
    pub(crate) async fn of_type(
        &self,
        kind: ResourceType,
        more: &[(&str, &str)],
    ) -> Result<Vec<Resource>, MoveError> {
        search(self.vault, self.permit, kind, &self.patient, more).await
    }

    /// Whether the patient's consents allow what a journey does now.
    pub(crate) async fn permitted(&mut self, definition: &Definition) -> Result<bool, MoveError> {
        self.permits(definition, definition.purpose).await
    }

    /// Whether they allow a purpose, for what a journey is about.
    async fn permits(
        &mut self,
        definition: &Definition,
        purpose: trust::Purpose,
    ) -> Result<bool, MoveError> {
        if self.consents.is_none() {
            self.consents = Some(self.of_type(ResourceType::Consent, &[]).await?);
            self.known_as = self.vault.programmes_known_as(self.tenant()).await?;
        }
        let now_ms = i64::try_from(self.now_ms).unwrap_or(i64::MAX);
        Ok(trust::consent::decide_act(
            self.vault.rules(),
            self.consents.as_deref().unwrap_or_default(),
            &trust::consent::Act {
                purpose,
                ..definition.act(self.known_as.clone())
            },
            now_ms,
        )
        .permitted)
    }

    /// When the patient's consents may come to say something else, by their dates.
    pub(crate) async fn consents_next(
        &mut self,
        definition: &Definition,
    ) -> Result<Option<u64>, MoveError> {
        self.permitted(definition).await?;
        let consents = self.consents.as_deref().unwrap_or_default();
        let now_ms = i64::try_from(self.now_ms).unwrap_or(i64::MAX);
        let next_ms = trust::consent::next_change_ms(consents, now_ms);
        Ok(next_ms.and_then(|next_ms| u64::try_from(next_ms).ok()))
    }

    /// The state to which an instance came in this unit of work.
    pub(crate) fn moved(&self, instance: &str) -> Option<&State> {
        let found = self.moved.iter().rev();
        found
            .filter(|moved| moved.instance == instance)
            .map(|moved| &moved.after)
            .next()
    }

    /// Instances that moved in this unit of work.
    pub(crate) fn movers(&self) -> impl Iterator<Item = &Moved> {
        self.moved.iter()
    }

    /// Whose name the audit has for what is done.
    pub(crate) fn asked_by(&mut self, permit: &Permit) {
        self.unit.asked = Some(permit.clone());
    }

    /// Takes a document of the journeys' own along.
    pub(crate) fn also(&mut self, internal: Internal) {
        self.unit.internals.push(internal);
    }

    /// Sets every timer that an instance waits for, whatever is set: some were cleared behind the
    /// state's back.
    pub(crate) fn set_timers(
        &mut self,
        definition: &Definition,
        instance: &str,
        before: &State,
        ids: &PatientIds<'_>,
    ) {
        let state = self.moved(instance).unwrap_or(before).clone();
        self.timers(definition, instance, &BTreeMap::new(), &state, ids);
    }

    /// Reads a running instance.
    pub(crate) async fn instance(&self, instance: &str) -> Result<Option<(State, u32)>, MoveError> {
        let Some(stored) = self
            .vault
            .internal(self.permit, kinds::JOURNEY_INSTANCE, instance)
            .await?
        else {
            return Ok(None);
        };
        Ok(Some((State::from_json(&stored.body)?, stored.version)))
    }

    /// Takes an engine's decision into the unit: effects, state, timers. Returns whether there was a change.
    pub(crate) async fn take(
        &mut self,
        definition: &Definition,
        instance: &str,
        before: Option<(&State, u32)>,
        decision: Decision,
    ) -> Result<bool, MoveError> {
        self.take_over(definition, definition, instance, before, decision)
            .await
    }

    /// The same of a decision that leads from one version to another.
    pub(crate) async fn take_over(
        &mut self,
        from: &Definition,
        definition: &Definition,
        instance: &str,
        before: Option<(&State, u32)>,
        decision: Decision,
    ) -> Result<bool, MoveError> {
        if !decision.changed && decision.effects.is_empty() {
            return Ok(false);
        }
        let ids = self.ids(definition);
        let mut state = decision.state;
        let mut effects: std::collections::VecDeque<Effect> = decision.effects.into();
        while let Some(effect) = effects.pop_front() {
            // What becomes of an effect needs much room, which everybody who moves somebody would else hold.
            let outcome = Box::pin(self.effect(definition, instance, &state, &ids, effect));
            if let Some(input) = outcome.await? {
                let limited = self.asks_before(definition);
                let context = Context {
                    now_ms: self.now_ms,
                    instance,
                    ids: &ids,
                    limited,
                };
                let next = engine::step(definition, &state, input, &context)?;
                state = next.state;
                effects.extend(next.effects);
            }
        }
        self.watch(definition, before.map(|(state, _)| state), &state)
            .await?;
        self.tell_of_end(before, &state).await?;
        let was = before.map(|(state, _)| state);
        self.give_up_turns(instance, was, &state).await?;
        self.show_orders(definition, instance, was, &state, &ids)
            .await?;
        self.show((from, definition), instance, was, &state, &ids)
            .await?;
        let old = was.map(|state| engine::timers(from, state));
        self.timers(definition, instance, &old.unwrap_or_default(), &state, &ids);
        self.store(definition, instance, before, state);
        Ok(true)
    }

    /// Does one effect. What is known of a message or of the record at once comes back as the engine's next input.
    async fn effect(
        &mut self,
        definition: &Definition,
        instance: &str,
        state: &State,
        ids: &PatientIds<'_>,
        effect: Effect,
    ) -> Result<Option<Input>, MoveError> {
        match effect {
            Effect::Ask {
                step,
                n,
                which,
                channel,
                place,
                urgency,
                until_ms,
                ..
            } => {
                let waited = state.held.iter();
                let mut waited = waited.filter(|held| (held.n, held.which) == (n, which));
                // It may have been called off since the feed was read.
                if let Some(held) = waited.next()
                    && let Some(asked) = self.called_off(ids, instance, held).await?
                {
                    return Ok(Some(Input::Manual(asked)));
                }
                if let Some(places) = self.in_order(definition, state, &step, (n, which)).await? {
                    return Ok(Some(Input::Ways { n, which, places }));
                }
                let key = room::key(instance, n, which);
                let asks = Asks {
                    key: &key,
                    urgency,
                    until_ms,
                };
                let sort = definition.sort(&step, which);
                let window = definition.window(&step, which);
                let room = self.room(definition, (channel, sort), window, &asks);
                let room = room.await?;
                Ok(Some(Input::Room {
                    n,
                    which,
                    place,
                    room,
                }))
            }
            Effect::Send {
                step,
                communication,
                channel,
                which,
                expires_ms,
                about,
            } => {
                let sort = definition.sort(&step, which);
                let refused = self.refusal(definition, (channel, sort)).await?;
                self.person().await?;
                let maker = self.maker(definition, instance, state);
                let Some(step) = definition.step(&step) else {
                    return Ok(None);
                };
                let times = Times::of(about.as_ref(), expires_ms);
                let made = maker.communication(
                    step,
                    which,
                    &communication,
                    channel,
                    about.as_ref(),
                    times,
                    refused,
                );
                let (id, about) = (&communication, about.as_ref());
                let message = maker.outgoing(step, which, channel, id, expires_ms, about);
                if let Some(made) = made {
                    self.create(made);
                }
                match (refused, channel) {
                    (Some(code), _) => Ok(Some(Input::Receipt {
                        communication,
                        outcome: Outcome::NotDone(code.to_owned()),
                    })),
                    // Who opens the portal finds it there: it is delivered by being written.
                    (None, Channel::Portal) => Ok(Some(Input::Receipt {
                        communication,
                        outcome: Outcome::Delivered,
                    })),
                    (
                        None,
                        Channel::Email
                        | Channel::Sms
                        | Channel::Push
                        | Channel::Letter
                        | Channel::Voice,
                    ) => {
                        if let Some(mut message) = message {
                            self.look_at_visit(&mut message).await?;
                            self.post(channel, &communication, &message);
                        }
                        Ok(None)
                    }
                }
            }
            Effect::OpenForm { ref step, .. }
            | Effect::OpenTask { ref step, .. }
            | Effect::ProposeVisit { ref step, .. }
            | Effect::TakeBack { ref step, .. } => {
                let Some(step) = definition.step(step) else {
                    return Ok(None);
                };
                if step.kind.names_patient() {
                    self.person().await?;
                }
                let maker = self.maker(definition, instance, state);
                let made = step.kind.resource(&maker, ids, step, &effect);
                let call = step.kind.order(&maker, step, &effect);
                if let Some(made) = made {
                    self.create(made);
                }
                if let Some(call) = call {
                    self.call(&call);
                }
                Ok(None)
            }
            Effect::HoldTask { .. } | Effect::CallOn { .. } => {
                self.call_waits(definition, instance, state, &effect)
                    .await?;
                Ok(None)
            }
            Effect::Look { step, n } => {
                let asked = definition.step(&step).and_then(|step| step.kind.asks());
                let Some(question) = asked else {
                    return Ok(None);
                };
                Ok(Some(match self.look(definition, state, question).await? {
                    Some(holds) => Input::Seen { n, holds },
                    None => Input::Unclear { n },
                }))
            }
            Effect::LookAtSegments => {
                let (holds, _) = self.segments(definition).await?;
                Ok(Some(Input::Event(engine::Event::of_segments(holds))))
            }
            Effect::HandOver {
                task,
                role,
                priority,
            } => {
                let now_ms = self.now_ms;
                self.change(ResourceType::Task, &task, |task| {
                    resources::hand_over(task, &role, &priority, now_ms);
                })
                .await?;
                Ok(None)
            }
            Effect::CloseTask { task, done, why } => {
                let now_ms = self.now_ms;
                self.change(ResourceType::Task, &task, |task| {
                    resources::close(task, done, &why, now_ms);
                })
                .await?;
                Ok(None)
            }
            Effect::CallOff { message, code, why } => {
                let mut waited = false;
                let id = &message.communication;
                self.change(ResourceType::Communication, id, |found| {
                    waited = resources::calls_off(found, &code, &why);
                })
                .await?;
                // That its time was over is in the trail already.
                Ok((waited && code == engine::CALLED_OFF).then_some(Input::CalledOff(message)))
            }
            Effect::Hold { message } => {
                let id = &message.communication;
                self.change(ResourceType::Communication, id, resources::hold)
                    .await?;
                Ok(None)
            }
            Effect::Release {
                message,
                expires_ms,
                about,
            } => {
                let (mut held, mut unanswered) = (false, 0);
                let id = &message.communication;
                self.change(ResourceType::Communication, id, |found| {
                    unanswered = trust::outgoing::unanswered(found);
                    held = resources::release(found);
                })
                .await?;
                if held && let Some(step) = definition.step(&message.step) {
                    self.person().await?;
                    let maker = self.maker(definition, instance, state);
                    let (which, channel, about) = (message.which, message.channel, about.as_ref());
                    let mail = maker.outgoing(step, which, channel, id, expires_ms, about);
                    if let Some(mut mail) = mail {
                        // As often it was handed over before it was held.
                        mail.unanswered = unanswered;
                        self.look_at_visit(&mut mail).await?;
                        self.post(channel, id, &mail);
                    }
                }
                Ok(None)
            }
            Effect::CancelVisit { appointment, why } => {
                self.change(ResourceType::Appointment, &appointment, |visit| {
                    resources::cancel(visit, &why);
                })
                .await?;
                Ok(None)
            }
        }
    }

    /// Why a message can't go out by a channel, as a code of `urn:cairn:not-done`; checked again at delivery.
    async fn refusal(
        &mut self,
        definition: &Definition,
        (channel, sort): (Channel, Option<Sort>),
    ) -> Result<Option<&'static str>, MoveError> {
        if !self.permitted(definition).await? {
            return Ok(Some("consent"));
        }
        let now_ms = self.now_ms;
        let refused = facts::refusal(self.person().await?, channel, now_ms);
        if refused != Some(facts::DECEASED)
            && let Some(why) = self.unwelcome(channel, sort).await?
        {
            return Ok(Some(why.code()));
        }
        let person = self.person().await?;
        if let (Some(facts::NO_ADDRESS), Channel::Email, Some(person)) = (refused, channel, person)
        {
            // A small child has no address: whoever acts for them may take the message.
            let person = person.clone();
            let tenant = self.tenant();
            let proxy = self.vault.proxy_to_write_to(tenant, &person).await?;
            return Ok(refused.filter(|_| proxy.is_none()));
        }
        if let (None, Channel::Sms, Some(person)) = (refused, channel, person) {
            let person = person.clone();
            return self.no_text(&person).await;
        }
        if let (None, Channel::Voice, Some(person)) = (refused, channel, person) {
            let (person, at_ms) = (person.clone(), i64::try_from(now_ms).unwrap_or(i64::MAX));
            let found = self.vault.calls_to(&person, at_ms);
            return Ok(found.is_err().then_some(facts::NO_ADDRESS));
        }
        if let (None, Channel::Push, Some(person)) = (refused, channel, person) {
            let person = person.clone();
            return self.no_push(&person).await;
        }
        // That what goes there comes back is known before, and the next channel is tried at once.
        if channel == Channel::Email && refused.is_none() && self.is_barred().await? {
            return Ok(Some(facts::NO_ADDRESS));
        }
        Ok(refused)
    }

    /// Says in an entry for a calendar whether its visit is by video, by the visit itself: it was made by an earlier version,
    /// or somebody has changed it since.
    async fn look_at_visit(&self, message: &mut trust::outgoing::Message) -> Result<(), MoveError> {
        let Some(entry) = message.visit.as_mut().filter(|entry| !entry.cancelled) else {
            return Ok(());
        };
        let kind = ResourceType::Appointment;
        let key = (kind.code(), entry.appointment.clone());
        entry.online = match self.drafts.get(&key) {
            Some(draft) => is_by_video(&draft.resource),
            None => {
                let found = self.vault.load(self.permit, kind, &entry.appointment);
                let found = found.await?.filter(|found| !found.deleted);
                found.is_some_and(|found| is_by_video(&found.resource))
            }
        };
        Ok(())
    }

    fn create(&mut self, resource: Resource) {
        let key = (
            resource.kind().code(),
            resource.id().unwrap_or_default().to_owned(),
        );
        self.drafts.insert(
            key,
            Draft {
                resource,
                expected: Expected::Absent,
                changed: true,
            },
        );
    }

    /// A resource as it is in this unit, read once; nothing where there is none, or it was deleted.
    async fn draft(
        &mut self,
        kind: ResourceType,
        id: &str,
    ) -> Result<Option<&mut Draft>, MoveError> {
        let key = (kind.code(), id.to_owned());
        if !self.drafts.contains_key(&key) {
            let found = self.vault.load(self.permit, kind, id).await?;
            let Some(found) = found.filter(|found| !found.deleted) else {
                return Ok(None);
            };
            let draft = Draft {
                resource: found.resource,
                expected: Expected::Version(found.version),
                changed: false,
            };
            self.drafts.insert(key.clone(), draft);
        }
        Ok(self.drafts.get_mut(&key))
    }

    /// Changes a resource that is still open; what somebody else has closed stays as they left it.
    async fn change(
        &mut self,
        kind: ResourceType,
        id: &str,
        edit: impl FnOnce(&mut Resource),
    ) -> Result<(), MoveError> {
        if let Some(draft) = self.draft(kind, id).await?
            && resources::open(&draft.resource)
        {
            edit(&mut draft.resource);
            draft.changed = true;
        }
        Ok(())
    }

    fn timers(
        &mut self,
        definition: &Definition,
        instance: &str,
        old: &BTreeMap<String, u64>,
        after: &State,
        ids: &PatientIds<'_>,
    ) {
        let new = engine::timers(definition, after);
        let shard = ids.ledger.shard_of(ids.tenant, &ids.owner, instance);
        let key = |name: &str, due_ms: u64| TimerKey {
            shard,
            due_ms,
            id: sixteen(&ids.id(&format!("timer/{instance}/{name}"))),
        };
        for (name, due_ms) in old {
            if new.get(name) != Some(due_ms) {
                self.unit.timers_clear.push(key(name, *due_ms));
            }
        }
        for (name, due_ms) in &new {
            if old.get(name) != Some(due_ms) {
                self.unit.timers_set.push(Timer {
                    key: key(name, *due_ms),
                    tenant: ids.tenant,
                    consumer: TIMER_CONSUMER,
                    payload: instance.as_bytes().to_vec(),
                });
            }
        }
    }

    fn store(
        &mut self,
        definition: &Definition,
        instance: &str,
        before: Option<(&State, u32)>,
        mut state: State,
    ) {
        let seen = before.map_or(0, |(state, _)| state.trail_total());
        let fresh = seen.saturating_sub(state.moved as usize);
        let entries: Vec<TrailEntry> = state.trail.iter().skip(fresh).cloned().collect();
        for (version, first, entries) in by_version(&entries, state.version) {
            let Some(passage) = Passage::of(&state, version, instance, entries) else {
                continue;
            };
            let id = format!("passage/{instance}/{}", seen + first);
            self.unit.internals.push(Internal {
                kind: PASSAGE,
                id: self
                    .vault
                    .ledger()
                    .derive_id(self.tenant(), &self.owner(), &id),
                owner: self.owner(),
                expected: Expected::Absent,
                body: serde_json::to_vec(&passage).unwrap_or_default(),
                deleted: false,
                tokens: passage.tokens(),
            });
        }
        while let Some((first, old)) = state.take_old_trail() {
            self.unit.internals.push(Internal {
                kind: kinds::JOURNEY_TRAIL,
                id: trail_id(
                    self.vault.ledger(),
                    self.tenant(),
                    &self.owner(),
                    instance,
                    first,
                ),
                owner: self.owner(),
                expected: Expected::Absent,
                body: serde_json::to_vec(&old).unwrap_or_default(),
                deleted: false,
                tokens: vec![("instance".into(), instance.to_owned())],
            });
        }
        let version = format!("{}/{}", definition.name, definition.version);
        let mut tokens = vec![
            ("patient".to_owned(), state.patient.clone()),
            ("journey".to_owned(), definition.name.clone()),
            ("version".to_owned(), version.clone()),
            (
                "state".to_owned(),
                if state.running() { "running" } else { "ended" }.to_owned(),
            ),
        ];
        if state.paused.is_some() {
            tokens.push(("held".to_owned(), "yes".to_owned()));
        }
        tokens.extend(
            state
                .at()
                .into_iter()
                .map(|step| ("at".to_owned(), format!("{version}/{step}"))),
        );
        self.unit.internals.push(Internal {
            kind: kinds::JOURNEY_INSTANCE,
            id: instance.to_owned(),
            owner: self.owner(),
            expected: before.map_or(Expected::Absent, |(_, version)| Expected::Version(version)),
            body: state.to_json(),
            deleted: false,
            tokens,
        });
        self.moved.push(Moved {
            instance: instance.to_owned(),
            version: before.map_or(1, |(_, version)| version.saturating_add(1)),
            before: Before::of(before.map(|(state, _)| state)),
            after: state,
            entries,
        });
    }

    /// The finished unit and who moved; `None` when nothing is to be written.
    pub(crate) fn finish(mut self) -> Option<(Unit, Vec<Moved>)> {
        self.keep_book();
        let begins = self.keep_entries();
        let looked = self.keep_members();
        if self.moved.is_empty()
            && !self.drafts.values().any(|draft| draft.changed)
            && self.unit.internals.is_empty()
            && self.unit.timers_set.is_empty()
        {
            return None;
        }
        self.unit.changes = std::mem::take(&mut self.drafts)
            .into_values()
            .filter(|draft| draft.changed)
            .map(|draft| Change::Put {
                resource: draft.resource,
                expected: draft.expected,
            })
            .collect();
        let mut notes: HashMap<&str, usize> = HashMap::new();
        for moved in &self.moved {
            *notes.entry(moved.after.journey.as_str()).or_default() += 1;
        }
        let mut names: Vec<&str> = notes.into_keys().collect();
        names.sort_unstable();
        let kept = begins.as_deref().or(looked);
        self.unit.note = Some(if let (true, Some(kept)) = (names.is_empty(), kept) {
            kept.to_owned()
        } else if names.is_empty() && !self.unit.changes.is_empty() {
            "journeys: one that was asked for was not begun".to_owned()
        } else if names.is_empty() {
            "journeys: dead letters".to_owned()
        } else {
            format!("{}: {}", names.join(", "), self.deed.unwrap_or("moved"))
        });
        if let (Some(note), false) = (&mut self.unit.note, self.looked_for.is_empty()) {
            let kinds = self.looked_for.iter().map(|kind| kind.name());
            let kinds: Vec<&str> = kinds.collect();
            note.push_str(&format!("; looked for {}", kinds.join(", ")));
        }
        Some((self.unit, self.moved))
    }
}

/// Id of a document with older trail entries, by the number of the first.
pub(crate) fn trail_id(
    ledger: &Ledger,
    tenant: TenantId,
    owner: &Owner,
    instance: &str,
    first: u32,
) -> String {
    ledger.derive_id(tenant, owner, &format!("trail/{instance}/{first}"))
}
/// The sixteen bytes of an id in UUID form.
pub(crate) fn sixteen(id: &str) -> [u8; 16] {
    let mut bytes = [0u8; 16];
    let digits: Vec<u8> = id
        .bytes()
        .filter_map(|byte| char::from(byte).to_digit(16))
        .filter_map(|digit| u8::try_from(digit).ok())
        .collect();
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        *byte = pair.iter().fold(0, |value, digit| (value << 4) | digit);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_bytes_of_an_id() {
        assert_eq!(
            sixteen("00112233-4455-6677-8899-aabbccddeeff"),
            [
                0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd,
                0xee, 0xff
            ]
        );
    }
}
