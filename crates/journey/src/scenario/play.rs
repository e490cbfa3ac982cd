//! A scenario is played: the world around one patient's journey, with real resources that are read as
//! the runner reads them.

mod acts;
mod dates;
mod room;

use super::file::{Given, Happening, Happens, Last, Scenario, When};
use super::whose::{PATIENT, of_patient};
use crate::Channel;
use crate::ahead::{INSTANCE, PlainIds, Run, World};
use crate::definition::{Definition, ExitTrigger};
use crate::engine::{self, Effect, Fact, Input, Manual, Outcome, Start};
use crate::facts;
use crate::kinds::Question;
use crate::request::{self, NotStarted};
use crate::resources::{self, Maker, Times};
use crate::room::Book;
use crate::state::{State, TrailEntry, Which};
use crate::time::DAY_MS;
use dates::Dated;
use fhir::{Resource, ResourceType};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use trust::consent::{Act, Rules};
use trust::conventions;

/// The resource that starts the journey.
const ENTRY: &str = "entry";

/// What starts the journey.
enum By {
    Event(Resource),
    /// With the times that it gives.
    Request(BTreeMap<String, String>),
}
/// Most moves of one scenario: more than the longest journey makes that waits at every step.
const MOVES_MAX: usize = 20_000;

/// What happened, by the list of `then` that tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sort {
    Sent,
    Task,
    HandedOver,
    Visit,
}

/// Something that happened.
#[derive(Debug, Clone)]
pub(crate) struct Happened {
    pub(crate) sort: Sort,
    pub(crate) at_ms: u64,
    pub(crate) step: String,
    pub(crate) channel: Option<Channel>,
    pub(crate) which: Option<Which>,
    pub(crate) role: Option<String>,
    /// Words as they are read.
    pub(crate) words: String,
}

/// What came of a scenario.
pub(crate) struct Played {
    pub(crate) happened: Vec<Happened>,
    pub(crate) trail: Vec<TrailEntry>,
    /// `None` when the journey did not start.
    pub(crate) state: Option<State>,
    /// Why it did not start.
    pub(crate) idle: Option<String>,
    /// What could not be played, in words.
    pub(crate) problem: Option<String>,
    pub(crate) now_ms: u64,
}

/// The world around the patient.
struct Stage {
    record: BTreeMap<String, Resource>,
    /// Steps and what was opened for them, in order.
    opened: Vec<(String, String)>,
    happened: Vec<Happened>,
    trail: Vec<TrailEntry>,
    /// E-mails of which the world says next what became of them.
    mail: Vec<String>,
    email: String,
    rules: Rules,
    minted: u32,
    /// What the journey itself wrote in this unit of work, in the order in which the feed has it.
    wrote: BTreeSet<(u16, String)>,
    /// What was sent, and waits for room.
    book: Book,
}

impl World for Stage {
    fn happens(
        &mut self,
        definition: &Definition,
        state: &State,
        effect: &Effect,
        now_ms: u64,
    ) -> Option<Input> {
        match effect {
            Effect::Ask { .. } => self.asked(definition, effect, now_ms),
            Effect::Send { .. } => self.send(definition, state, effect, now_ms),
            Effect::OpenForm { step, .. }
            | Effect::OpenTask { step, .. }
            | Effect::ProposeVisit { step, .. } => {
                self.open(definition, state, step, effect, now_ms);
                None
            }
            Effect::Look { step, n } => {
                let question = definition.step(step)?.kind.asks()?;
                let holds = self.is_so(definition, state, question, now_ms);
                Some(Input::Seen { n: *n, holds })
            }
            Effect::HandOver {
                task,
                role,
                priority,
            } => {
                let reference = format!("Task/{task}");
                self.change(&reference, |task| {
                    resources::hand_over(task, role, priority, now_ms);
                });
                let step = self.step_of(&reference);
                self.note(Sort::HandedOver, now_ms, &step, Some(role), String::new());
                None
            }
            Effect::CloseTask { task, done, why } => {
                self.change(&format!("Task/{task}"), |task| {
                    resources::close(task, *done, why, now_ms);
                });
                None
            }
            Effect::CallOff { message, code, why } => {
                let reference = format!("Communication/{}", message.communication);
                let waited = self.change(&reference, |found| {
                    resources::call_off(found, code, why);
                });
                (waited && code == engine::CALLED_OFF).then(|| Input::CalledOff(message.clone()))
            }
            // Nobody holds a journey in a scenario.
            Effect::Hold { .. } | Effect::Release { .. } => None,
            Effect::CancelVisit { appointment, why } => {
                self.change(&format!("Appointment/{appointment}"), |visit| {
                    resources::cancel(visit, why);
                });
                None
            }
        }
    }

    fn wrote(&mut self, entry: &TrailEntry) {
        self.trail.push(entry.clone());
    }

    fn limited(&self, definition: &Definition) -> bool {
        self.limits(definition).any()
    }

    fn consents(&self, definition: &Definition, now_ms: u64) -> Option<Fact> {
        Some(self.consents_say(definition, now_ms))
    }
}

fn reference(resource: &Resource) -> String {
    format!("{}/{}", resource.kind(), resource.id().unwrap_or_default())
}

impl Stage {
    fn note(&mut self, sort: Sort, at_ms: u64, step: &str, role: Option<&str>, words: String) {
        self.happened.push(Happened {
            sort,
            at_ms,
            step: step.to_owned(),
            channel: None,
            which: None,
            role: role.map(str::to_owned),
            words,
        });
    }

    fn put(&mut self, resource: Resource) {
        self.record.insert(reference(&resource), resource);
    }

    /// Puts what the journey makes.
    fn create(&mut self, made: Resource) {
        self.wrote.insert((made.kind().code(), reference(&made)));
        self.put(made);
    }

    /// Changes, for the journey, what is still open. Whether it was.
    fn change(&mut self, reference: &str, edit: impl FnOnce(&mut Resource)) -> bool {
        let found = self.record.get_mut(reference);
        let Some(found) = found.filter(|found| resources::open(found)) else {
            return false;
        };
        edit(found);
        let kind = found.kind().code();
        self.wrote.insert((kind, reference.to_owned()));
        true
    }

    /// What the unit of work that ends here wrote, as the feed brings it back.
    fn unit(&mut self) -> Vec<Resource> {
        let wrote = std::mem::take(&mut self.wrote);
        let wrote = wrote.into_iter();
        wrote
            .filter_map(|(_, reference)| self.record.get(&reference).cloned())
            .collect()
    }

    fn of_type(&self, kind: ResourceType) -> impl Iterator<Item = &Resource> {
        self.record
            .values()
            .filter(move |resource| resource.kind() == kind)
    }

    fn person(&self) -> Option<&Resource> {
        self.record.get(&format!("Patient/{PATIENT}"))
    }

    fn step_of(&self, reference: &str) -> String {
        let found = self.opened.iter().find(|(_, opened)| opened == reference);
        found.map(|(step, _)| step.clone()).unwrap_or_default()
    }

    /// The newest resource of a type that was opened for a step.
    fn newest(&self, step: &str, kind: ResourceType) -> Result<Resource, String> {
        let prefix = format!("{kind}/");
        self.opened
            .iter()
            .rev()
            .find(|(of, reference)| of == step && reference.starts_with(&prefix))
            .and_then(|(_, reference)| self.record.get(reference))
            .cloned()
            .ok_or_else(|| format!("`{step}` has opened no {kind} by then"))
    }

    /// Whether what a step asks of the record is so.
    fn is_so(
        &self,
        definition: &Definition,
        state: &State,
        question: &Question,
        now_ms: u64,
    ) -> bool {
        match question {
            Question::Consent(purpose) => self.allow(
                &Act {
                    purpose: *purpose,
                    ..definition.act(Vec::new())
                },
                now_ms,
            ),
            Question::Coverage => (self.of_type(ResourceType::Coverage))
                .any(|coverage| facts::is_active(coverage, now_ms, &definition.zone)),
            Question::Has(kind, condition) => {
                let entry = facts::entry_of(state);
                self.of_type(*kind).any(|resource| {
                    condition
                        .as_ref()
                        .is_none_or(|path| facts::test(path, resource, Some(&entry), now_ms))
                })
            }
        }
    }

    fn allow(&self, act: &Act, now_ms: u64) -> bool {
        let consents: Vec<Resource> = self.of_type(ResourceType::Consent).cloned().collect();
        let at_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
        trust::consent::decide_act(&self.rules, &consents, act, at_ms).permitted
    }

    fn consents_say(&self, definition: &Definition, now_ms: u64) -> Fact {
        let consents: Vec<Resource> = self.of_type(ResourceType::Consent).cloned().collect();
        let at_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
        Fact::Consent {
            permitted: self.allow(&definition.act(Vec::new()), now_ms),
            next_ms: trust::consent::next_change_ms(&consents, at_ms)
                .and_then(|next_ms| u64::try_from(next_ms).ok()),
        }
    }

    fn send(
        &mut self,
        definition: &Definition,
        state: &State,
        effect: &Effect,
        now_ms: u64,
    ) -> Option<Input> {
        let Effect::Send {
            step,
            communication,
            channel,
            which,
            expires_ms,
            form,
        } = effect
        else {
            return None;
        };
        let refused = if self.permitted(definition, now_ms) {
            facts::refusal(self.person(), *channel, now_ms)
        } else {
            Some("consent")
        };
        let maker = Maker {
            definition,
            instance: INSTANCE,
            state,
            patient: self.person(),
            now_ms,
        };
        let times = Times {
            due_ms: form.is_some().then_some(*expires_ms),
            visit_ms: None,
        };
        let made = maker.communication(
            definition.step(step)?,
            *which,
            communication,
            *channel,
            form.as_deref(),
            times,
            refused,
        )?;
        self.opened.push((step.clone(), reference(&made)));
        let receipt = |outcome| Input::Receipt {
            communication: communication.clone(),
            outcome,
        };
        let words = spoken(made.get("payload").and_then(|payload| payload.get(0)));
        self.create(made);
        if let Some(code) = refused {
            return Some(receipt(Outcome::NotDone(code.to_owned())));
        }
        self.happened.push(Happened {
            sort: Sort::Sent,
            at_ms: now_ms,
            step: step.clone(),
            channel: Some(*channel),
            which: Some(*which),
            role: None,
            words,
        });
        if *channel == Channel::Email {
            self.mail.push(communication.clone());
            return None;
        }
        Some(receipt(Outcome::Delivered))
    }

    fn open(
        &mut self,
        definition: &Definition,
        state: &State,
        step: &str,
        effect: &Effect,
        now_ms: u64,
    ) {
        let maker = Maker {
            definition,
            instance: INSTANCE,
            state,
            patient: self.person(),
            now_ms,
        };
        let found = definition.step(step);
        let made = found.and_then(|step| step.kind.resource(&maker, &PlainIds, step, effect));
        let Some(made) = made else { return };
        self.opened.push((step.to_owned(), reference(&made)));
        match effect {
            Effect::OpenTask { .. } => {
                let role = made
                    .get("performerType")
                    .and_then(|roles| roles.pointer("/0/coding/0/code"))
                    .and_then(Value::as_str)
                    .map(str::to_owned);
                let reason = made.text_at(&["reasonCode", "text"]).unwrap_or_default();
                let reason = reason.to_owned();
                self.note(Sort::Task, now_ms, step, role.as_deref(), reason);
            }
            Effect::ProposeVisit { .. } => {
                let words = made.text_at(&["patientInstruction"]).unwrap_or_default();
                let words = words.to_owned();
                self.note(Sort::Visit, now_ms, step, None, words);
            }
            _ => {}
        }
        self.create(made);
    }

    fn mint(&mut self) -> String {
        self.minted += 1;
        format!("r{}", self.minted)
    }
}

/// The words of a payload.
fn spoken(payload: Option<&Value>) -> String {
    let words = payload.and_then(|payload| payload.get("contentString"));
    words.and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Members as a resource of the patient; there is one `Patient` only.
fn resource(mut value: Value, kind: Option<ResourceType>, id: &str) -> Result<Resource, String> {
    if let Some(kind) = kind {
        value["resourceType"] = json!(kind.name());
    }
    let mut resource = Resource::from_value(value).map_err(|outcome| outcome.summary())?;
    if resource.kind() == ResourceType::Patient {
        resource.set_id(PATIENT);
    } else if resource.id().is_none() {
        resource.set_id(id);
    }
    Ok(of_patient(resource))
}

/// Plays a scenario.
pub(crate) fn play(definition: &Definition, scenario: &Scenario) -> Played {
    let mut idle = None;
    match Player::start(definition, &scenario.given) {
        Err(problem) => Played {
            happened: Vec::new(),
            trail: Vec::new(),
            state: None,
            idle,
            problem: Some(problem),
            now_ms: 0,
        },
        Ok((mut player, begun)) => {
            let mut problem = None;
            match begun {
                Some(why) => idle = Some(why),
                None => problem = player.all(scenario).err(),
            }
            if player.run.is_none() && idle.is_none() {
                idle = Some(player.why_idle());
            }
            player.played(idle, problem)
        }
    }
}

struct Player<'a> {
    definition: &'a Definition,
    stage: Stage,
    run: Option<Run<'a>>,
    now_ms: u64,
    /// A date by which the journey is to begin.
    dated: Dated,
}

impl<'a> Player<'a> {
    /// Starts the journey; if it does not start, says why.
    fn start(definition: &'a Definition, given: &Given) -> Result<(Self, Option<String>), String> {
        let rules = given.rules.as_deref().unwrap_or(Rules::DEFAULT);
        let stage = Stage {
            record: BTreeMap::new(),
            opened: Vec::new(),
            happened: Vec::new(),
            trail: Vec::new(),
            mail: Vec::new(),
            email: given.email.clone().unwrap_or_else(|| "arrives".to_owned()),
            rules: Rules::load(rules).map_err(|error| error.to_string())?,
            minted: 0,
            wrote: BTreeSet::new(),
            book: Book::default(),
        };
        let mut player = Self {
            definition,
            stage,
            run: None,
            now_ms: 0,
            dated: Dated::default(),
        };
        let by = player.fill(given)?;
        if definition.entry.date.is_some()
            && let By::Event(entry) = &by
        {
            player.await_date(entry, given)?;
            return Ok((player, None));
        }
        let first = definition.entry.anchors.first();
        let first_ms = first.and_then(|(name, _)| match &by {
            By::Event(entry) => facts::anchors(definition, entry).get(name).copied(),
            By::Request(times) => facts::time(times.get(name)?),
        });
        let now_ms = given.now_ms.or(first_ms);
        player.now_ms = now_ms
            .ok_or("`given` needs `now`: there is no time for the first anchor".to_owned())?;
        let why = player.begin(&by, &given.arms)?;
        Ok((player, why))
    }

    /// Puts what is given into the record.
    fn fill(&mut self, given: &Given) -> Result<By, String> {
        let person = given.patient.clone().unwrap_or_else(|| {
            json!({"name": [{"given": ["Ida"], "family": "Sample"}], "birthDate": "1950-01-01",
                   "telecom": [{"system": "email", "value": "ida@example.org"}]})
        });
        let person = resource(person, Some(ResourceType::Patient), PATIENT)?;
        self.stage.put(person);
        for value in &given.record {
            let id = self.stage.mint();
            self.stage.put(resource(value.clone(), None, &id)?);
        }
        if let Some(times) = &given.request {
            return Ok(By::Request(times.clone()));
        }
        let kind = self.definition.entry.kind();
        if kind == Some(ResourceType::Patient) {
            // There is one patient, who starts the journey by what is said of them.
            let mut person = self.stage.person().cloned().ok_or("no patient")?;
            let more = given.entry.as_ref().and_then(Value::as_object);
            for (name, value) in more.into_iter().flatten() {
                person.set(name, value.clone());
            }
            self.stage.put(person.clone());
            return Ok(By::Event(person));
        }
        let members = given
            .entry
            .clone()
            .ok_or("`given` needs `entry` or `request`: what starts the journey".to_owned())?;
        let mut entry = resource(members, kind, ENTRY)?;
        entry.set_id(ENTRY);
        self.stage.put(entry.clone());
        Ok(By::Event(entry))
    }

    /// As the runner does: entry, for whom, exits that hold already, measurements of before.
    fn begin(
        &mut self,
        by: &By,
        arms: &BTreeMap<String, String>,
    ) -> Result<Option<String>, String> {
        let (definition, now_ms) = (self.definition, self.now_ms);
        let dated = definition.entry.date.is_some();
        let anchors = match by {
            By::Event(entry) if dated => Ok(facts::anchors(definition, entry)),
            By::Event(entry) => facts::entry(definition, entry, now_ms).ok_or_else(|| {
                "the entry's condition does not hold, or the event is too old".to_owned()
            }),
            By::Request(given) => match &definition.entry.request {
                Some(asked) => request::times(definition, asked, given, now_ms)
                    .map_err(|refused| refused.to_string()),
                None => Err("the journey is not started by request".to_owned()),
            },
        };
        let anchors = match anchors {
            Ok(anchors) => anchors,
            Err(why) => return Ok(Some(why)),
        };
        let record = || self.stage.record.values();
        let at_once = match by {
            By::Event(entry) => facts::who_by_event(definition, entry, now_ms),
            By::Request(_) => definition.entry.who.is_empty(),
        };
        let meant =
            at_once || record().any(|resource| facts::who_by_record(definition, resource, now_ms));
        if !meant {
            return Ok(Some(
                "the journey is not for this patient (`who`)".to_owned(),
            ));
        }
        let (key, cause) = match by {
            By::Event(entry) => {
                let id = entry.id().unwrap_or(ENTRY);
                (id.to_owned(), reference(entry))
            }
            By::Request(_) => (request::key(ENTRY), request::cause("the scenario")),
        };
        let probe = State::probe(definition, PATIENT, &key, anchors.clone(), now_ms);
        let exit = definition.exits.iter().find(|exit| match exit.trigger {
            ExitTrigger::ConsentWithdrawn => !self.stage.permitted(definition, now_ms),
            ExitTrigger::Event(condition) => record()
                .any(|resource| facts::exit_by(definition, resource, &probe, condition, now_ms)),
        });
        let exit = exit.map(|exit| (exit.id.clone(), exit.title.clone()));
        if let (true, Some((_, title))) = (dated || matches!(by, By::Request(_)), &exit) {
            return Ok(Some(NotStarted::Ends(title.clone()).to_string()));
        }
        let facts = Start {
            patient: PATIENT.to_owned(),
            key,
            cause,
            number: 1,
            anchors,
            observations: self.history(),
            exit,
            late: self.dated.late,
        };
        let run = Run::start(definition, &facts, arms, now_ms, &mut self.stage);
        self.run = Some(run.map_err(|error| error.to_string())?);
        self.read_own()?;
        self.settle()?;
        Ok(None)
    }

    fn history(&self) -> Vec<Fact> {
        let mut found = Vec::new();
        for step in &self.definition.steps {
            let Some((code, within_ms)) = step.kind.compares() else {
                continue;
            };
            let since_ms = self.now_ms.saturating_sub(within_ms.saturating_mul(2));
            let until_ms = self.now_ms.saturating_add(DAY_MS);
            let read = self
                .stage
                .of_type(ResourceType::Observation)
                .map(facts::read);
            found.extend(read.filter(|fact| {
                matches!(fact, Fact::Observation { codes, at_ms, .. }
                    if codes.iter().any(|other| other == code) && (since_ms..=until_ms).contains(at_ms))
            }));
        }
        found
    }

    fn all(&mut self, scenario: &Scenario) -> Result<(), String> {
        for happening in &scenario.when {
            self.one(happening)
                .map_err(|problem| format!("line {}: {problem}", happening.line))?;
        }
        while let Some(due_ms) = self.comes_ms() {
            self.date_comes(due_ms)?;
        }
        let mut moves = 0;
        while matches!(scenario.then.last, Last::Ended { .. })
            && let Some(due_ms) = self.running().and_then(Run::due_ms)
        {
            moves += 1;
            if moves > MOVES_MAX {
                return Err("the journey does not come to an end".to_owned());
            }
            self.fire(due_ms)?;
        }
        Ok(())
    }

    fn running(&self) -> Option<&Run<'a>> {
        self.run.as_ref().filter(|run| run.running())
    }

    fn fire(&mut self, due_ms: u64) -> Result<(), String> {
        if let Some(run) = &mut self.run {
            run.fire(due_ms, &mut self.stage)
                .map_err(|error| error.to_string())?;
            self.now_ms = self.now_ms.max(run.now_ms());
        }
        self.read_own()?;
        self.settle()
    }

    /// The time that is said, as the journey's anchors are now.
    fn time(&self, when: &When) -> u64 {
        match when {
            When::Instant(at_ms) => *at_ms,
            When::After(length_ms) => self.now_ms + length_ms,
            When::Moment(moment) => self.run.as_ref().map_or(self.now_ms, |run| {
                engine::moment(self.definition, run.state(), moment)
            }),
        }
    }

    fn one(&mut self, happening: &Happening) -> Result<(), String> {
        let at_ms = happening
            .at
            .as_ref()
            .map_or(self.now_ms, |at| self.time(at));
        if at_ms < self.now_ms {
            return Err(format!(
                "{} lies before the event before it",
                fhir::date::instant(at_ms)
            ));
        }
        while let Some(due_ms) = self.comes_ms().filter(|due_ms| *due_ms <= at_ms) {
            self.date_comes(due_ms)?;
        }
        let mut moves = 0;
        while let Some(due_ms) = self
            .running()
            .and_then(Run::due_ms)
            .filter(|due| *due <= at_ms)
        {
            moves += 1;
            if moves > MOVES_MAX {
                return Err("the journey goes round".to_owned());
            }
            self.fire(due_ms)?;
        }
        self.now_ms = at_ms;
        if let Some(run) = &mut self.run {
            run.pass(at_ms, &mut self.stage)
                .map_err(|error| error.to_string())?;
        }
        self.happen(&happening.what)?;
        self.settle()
    }

    fn happen(&mut self, what: &Happens) -> Result<(), String> {
        let written = match what {
            Happens::Nothing => return Ok(()),
            Happens::Stopped(reason) => {
                return self.input(Input::Manual(Manual::Stop(reason.clone())));
            }
            Happens::Deleted(reference) => return self.delete(reference),
            Happens::Delivered { step } => {
                let mut message = self.stage.newest(step, ResourceType::Communication)?;
                message.set("status", json!("completed"));
                self.stage
                    .mail
                    .retain(|id| Some(id.as_str()) != message.id());
                message
            }
            Happens::Failed { step, code } => {
                let mut message = self.stage.newest(step, ResourceType::Communication)?;
                resources::call_off(&mut message, code, "Said by the scenario");
                self.stage
                    .mail
                    .retain(|id| Some(id.as_str()) != message.id());
                message
            }
            Happens::Answers { step, with } => self.answers(step, with)?,
            Happens::Task {
                step,
                outcome,
                status,
                by,
            } => {
                let mut task = self.stage.newest(step, ResourceType::Task)?;
                task.set("status", json!(status));
                if let Some(by) = by {
                    let who = json!({"system": conventions::ACCOUNT_SYSTEM, "value": by});
                    task.set("owner", json!({"identifier": who}));
                }
                if let Some(outcome) = outcome {
                    let said = json!([{"type": {"text": "outcome"}, "valueString": outcome}]);
                    task.set("output", said);
                }
                task
            }
            Happens::Visit {
                step,
                status,
                start,
            } => self.visit(step, status, start.as_ref())?,
            Happens::Measured {
                code,
                value,
                unit,
                at,
                id,
            } => {
                let at_ms = at.as_ref().map_or(self.now_ms, |at| self.time(at));
                let id = id.clone().unwrap_or_else(|| self.stage.mint());
                let members = json!({
                    "status": "final",
                    "code": {"coding": [{"system": conventions::LOINC, "code": code}]},
                    "effectiveDateTime": fhir::date::instant(at_ms),
                    "valueQuantity": {"value": value, "unit": unit, "code": unit}
                });
                resource(members, Some(ResourceType::Observation), &id)?
            }
            Happens::Consent { given } => {
                let mut consent = trust::consent::care_messages(PATIENT, *given, self.now_ms);
                consent.set_id(&self.stage.mint());
                consent
            }
            Happens::Resource(value) => {
                let id = self.stage.mint();
                resource(value.clone(), None, &id)?
            }
        };
        self.write(&written)
    }

    fn delete(&mut self, named: &str) -> Result<(), String> {
        let gone = self
            .stage
            .record
            .remove(named)
            .ok_or_else(|| format!("there is no {named} in the record"))?;
        self.read(&gone, true)?;
        self.look_at_date()?;
        self.read_own()
    }

    /// A resource is written, and the journey reads it.
    fn write(&mut self, written: &Resource) -> Result<(), String> {
        self.stage.put(written.clone());
        self.read(written, false)?;
        self.look_at_date()?;
        self.read_own()
    }

    /// Reads what the journey has written itself, as the feed brings it back: after the unit of work that
    /// wrote it, and before time passes. What comes of that is written behind it.
    fn read_own(&mut self) -> Result<(), String> {
        let mut feed: VecDeque<Resource> = self.stage.unit().into();
        let mut moves = 0;
        while let Some(written) = feed.pop_front() {
            moves += 1;
            if moves > MOVES_MAX {
                return Err("the journey goes round by what it writes itself".to_owned());
            }
            self.read(&written, false)?;
            feed.extend(self.stage.unit());
        }
        Ok(())
    }

    fn read(&mut self, resource: &Resource, deleted: bool) -> Result<(), String> {
        let definition = self.definition;
        let Some(run) = &mut self.run else {
            return Ok(());
        };
        let consents = (resource.kind() == ResourceType::Consent)
            .then(|| self.stage.consents_say(definition, self.now_ms));
        let Some(fact) = facts::told(definition, run.state(), resource, deleted, consents) else {
            return Ok(());
        };
        let holds = facts::holds(definition, resource, run.state(), self.now_ms);
        run.event(reference(resource), fact, holds, &mut self.stage)
            .map(drop)
            .map_err(|error| error.to_string())
    }

    fn input(&mut self, input: Input) -> Result<(), String> {
        let Some(run) = &mut self.run else {
            return Ok(());
        };
        run.input(input, &mut self.stage)
            .map(drop)
            .map_err(|error| error.to_string())?;
        self.read_own()
    }

    /// What becomes of e-mails of which the scenario says nothing.
    fn settle(&mut self) -> Result<(), String> {
        while self.stage.email != "held"
            && let Some(id) = self.stage.mail.pop()
        {
            let found = self.stage.record.get(&format!("Communication/{id}"));
            let Some(mut message) = found.filter(|found| resources::open(found)).cloned() else {
                continue;
            };
            if self.stage.email == "arrives" {
                message.set("status", json!("completed"));
            } else {
                resources::call_off(&mut message, "permanent-failure", "Said by the scenario");
            }
            self.write(&message)?;
        }
        Ok(())
    }

    fn played(self, idle: Option<String>, problem: Option<String>) -> Played {
        Played {
            happened: self.stage.happened,
            trail: self.stage.trail,
            state: self.run.map(|run| run.state().clone()),
            idle,
            problem,
            now_ms: self.now_ms,
        }
    }
}
