//! A scenario is played: the world around one patient's journey, with real resources that are read as
//! the runner reads them.

mod dates;
mod others;
mod replies;
mod segments;

use super::file::{Given, Happening, Happens, Last, Scenario, When};
use super::whose::{PATIENT, of_patient};
use crate::ahead::{INSTANCE, Run};
use crate::definition::Definition;
use crate::engine::{self, Input, Manual, Start};
use crate::facts;
use crate::request::{self, NotStarted};
use crate::resources;
use crate::stage::{Happened, Stage, reference};
use crate::state::{State, TrailEntry};
use dates::Dated;
use fhir::{Resource, ResourceType};
use segments::Looks;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use trust::consent::Rules;
use trust::conventions;

/// The resource that starts the journey.
const ENTRY: &str = "entry";

/// What starts the journey.
enum By {
    Event(Resource),
    /// With the times that it gives.
    Request(BTreeMap<String, String>),
    Segment,
}
/// Most moves of one scenario: more than the longest journey makes that waits at every step.
const MOVES_MAX: usize = 20_000;

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
                let why = player.why_not_in();
                idle = Some(why.unwrap_or_else(|| player.why_idle()));
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
    email: String,
    minted: u32,
    /// A date by which the journey is to begin.
    dated: Dated,
    looks: Looks,
}

impl<'a> Player<'a> {
    /// Starts the journey; if it does not start, says why.
    fn start(definition: &'a Definition, given: &Given) -> Result<(Self, Option<String>), String> {
        let rules = given.rules.as_deref().unwrap_or(Rules::DEFAULT);
        let rules = Rules::load(rules).map_err(|error| error.to_string())?;
        let mut player = Self {
            definition,
            stage: Stage::new(PATIENT, INSTANCE, rules),
            run: None,
            now_ms: 0,
            email: given.email.clone().unwrap_or_else(|| "arrives".to_owned()),
            minted: 0,
            dated: Dated::default(),
            looks: Looks::default(),
        };
        player.stage.notified = given.notifications.as_deref() == Some("on");
        let by = player.fill(given)?;
        if definition.entry.date.is_some()
            && let By::Event(entry) = &by
        {
            player.await_date(entry, given)?;
            return Ok((player, None));
        }
        if matches!(by, By::Segment) {
            player.await_segment(given)?;
            return Ok((player, None));
        }
        let first = definition.entry.anchors.first();
        let first_ms = first.and_then(|(name, _)| match &by {
            By::Event(entry) => facts::anchors(definition, entry).get(name).copied(),
            By::Request(times) => facts::time(times.get(name)?),
            By::Segment => None,
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
            let id = self.mint();
            self.stage.put(resource(value.clone(), None, &id)?);
        }
        if let Some(times) = &given.request {
            return Ok(By::Request(times.clone()));
        }
        if self.definition.entry.segment.is_some() {
            return Ok(By::Segment);
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
            By::Segment => Ok(BTreeMap::new()),
        };
        let anchors = match anchors {
            Ok(anchors) => anchors,
            Err(why) => return Ok(Some(why)),
        };
        let at_once = match by {
            By::Event(entry) => facts::who_by_event(definition, entry, now_ms),
            By::Request(_) | By::Segment => definition.entry.who.is_empty(),
        };
        if !at_once && !self.stage.is_meant(definition, now_ms) {
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
            By::Segment => (self.segment_key(), crate::segments::CAUSE.to_owned()),
        };
        let probe = State::probe(definition, PATIENT, &key, anchors.clone(), now_ms);
        let exit = self.stage.exit_already(definition, &probe, now_ms);
        let by_event = matches!(by, By::Event(_)) && !dated;
        if let (false, Some((_, title))) = (by_event, &exit) {
            return Ok(Some(NotStarted::Ends(title.clone()).to_string()));
        }
        let facts = Start {
            patient: PATIENT.to_owned(),
            key,
            cause,
            number: 1,
            anchors,
            observations: self.stage.history(definition, now_ms),
            exit,
            late: self.dated.late,
        };
        let run = Run::start(definition, &facts, arms, now_ms, &mut self.stage);
        self.run = Some(run.map_err(|error| error.to_string())?);
        self.read_own()?;
        self.settle()?;
        self.look_at_segments()?;
        Ok(None)
    }

    fn mint(&mut self) -> String {
        self.minted += 1;
        format!("r{}", self.minted)
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
            && (self.running().is_some() || self.awaits_segment())
            && self.time_comes(u64::MAX)?
        {
            moves += 1;
            if moves > MOVES_MAX {
                return Err("the journey does not come to an end".to_owned());
            }
        }
        Ok(())
    }

    /// Lets come what comes by time alone next, up to a time. Whether anything did.
    fn time_comes(&mut self, until_ms: u64) -> Result<bool, String> {
        let due_ms = self.running().and_then(Run::due_ms);
        let due_ms = due_ms.filter(|due_ms| *due_ms <= until_ms);
        let look_ms = self.looks_ms().filter(|look_ms| *look_ms <= until_ms);
        match (due_ms, look_ms) {
            (due_ms, Some(look_ms)) if due_ms.is_none_or(|due_ms| look_ms < due_ms) => {
                self.now_ms = self.now_ms.max(look_ms);
                if let Some(run) = &mut self.run {
                    run.wait(self.now_ms);
                }
                self.look_at_segments()?;
            }
            (Some(due_ms), _) => {
                self.fire(due_ms)?;
            }
            _ => return Ok(false),
        }
        self.settle()?;
        Ok(true)
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
        while self.time_comes(at_ms)? {
            moves += 1;
            if moves > MOVES_MAX {
                return Err("the journey goes round".to_owned());
            }
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
            Happens::Reply { step, says } => self.reply(step, says)?,
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
            Happens::Partner {
                step,
                status,
                answers,
                fails,
            } => self.partner(step, (*status, answers), fails.as_deref())?,
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
                let id = id.clone().unwrap_or_else(|| self.mint());
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
                consent.set_id(&self.mint());
                consent
            }
            Happens::Resource(value) => {
                let id = self.mint();
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
        self.read_own()?;
        self.look_at_segments()
    }

    /// A resource is written, and the journey reads it.
    fn write(&mut self, written: &Resource) -> Result<(), String> {
        self.stage.put(written.clone());
        self.read(written, false)?;
        self.look_at_date()?;
        self.read_own()?;
        self.look_at_segments()
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
        while self.email != "held"
            && let Some(id) = self.stage.mail.pop()
        {
            let found = self.stage.record.get(&format!("Communication/{id}"));
            let Some(mut message) = found.filter(|found| resources::open(found)).cloned() else {
                continue;
            };
            if self.email == "arrives" {
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
