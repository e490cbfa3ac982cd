//! The draft is led through what really happened.
//!
//! Events come when they really did, in the order in which the journey was told of them. What others did with
//! something that the real journey made (answered its form, did its task, delivered its message) is done with what
//! the draft makes for the same, where the draft had made it by then; else nobody knows what they would have done.

mod looks;

use super::ReplayNote;
use super::history::{Came, History, Made, Move, Thing, Written, made_by, outcome, sort_of};
use crate::ahead::Run;
use crate::definition::{Definition, Step};
use crate::engine::{Act, Fact, Hand, Ids, Input, Manual, Start};
use crate::kinds::StepKind;
use crate::request;
use crate::resources;
use crate::segments;
use crate::stage::{Stage, reference};
use crate::state::{Done, State, TrailEntry, What, Which};
use crate::{diff, facts, runner};
use fhir::{Resource, ResourceType};
use ledger::Number;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use trust::conventions::TASK_ID_SYSTEM;

/// Most moves of one replay: more than the longest journey makes that waits at every step.
const MOVES_MAX: usize = 20_000;
/// The label under which a place is left that somebody sends a patient away from.
const BY_HAND: &str = "by hand";

/// Plain names, so that what the draft makes is never taken for what is there; arms are drawn as they really are.
struct DraftIds<'a>(&'a dyn Ids);

impl Ids for DraftIds<'_> {
    fn id(&self, name: &str) -> String {
        if name.starts_with("experiment/") {
            return self.0.id(name);
        }
        name.to_owned()
    }
    fn questionnaire(&self, step: &str) -> String {
        format!("Questionnaire/{step}")
    }
    fn questionnaire_of(&self, version: u32, step: &str) -> String {
        format!("Questionnaire/{version}/{step}")
    }
}

/// What came of it.
pub(super) struct Led {
    pub(super) trail: Vec<TrailEntry>,
    /// `None` when the draft did not begin.
    pub(super) state: Option<State>,
    pub(super) notes: Vec<ReplayNote>,
    /// What the draft made, as it made it and when, with what the real journey made for the same.
    pub(super) pairs: Vec<(u64, Option<String>, Resource)>,
}

/// What the real journey was told, or did, in its order.
struct Item {
    position: u64,
    at_ms: u64,
    what: Happens,
}

#[derive(Clone, Copy)]
enum Happens {
    /// A version of the record, by its place.
    Event(usize),
    /// Time moved it.
    Time(usize),
    /// Somebody did something by hand.
    Hand(usize),
}

/// Leads a draft through a history. `ids` are those of the real journey.
pub(super) fn lead(draft: &Definition, history: &History, ids: &dyn Ids) -> Led {
    let ids = DraftIds(ids);
    let mut leader = Leader::new(draft, history);
    let outcome = leader.all(&ids);
    if let Err(words) = outcome {
        let at_ms = leader.now_ms;
        leader.untold(at_ms, "", &words);
    }
    Led {
        trail: leader.stage.trail,
        state: leader.state,
        notes: leader.notes,
        pairs: leader.pairs,
    }
}

/// When the real journey was moved later than time was to move it: nobody worked on it in between.
struct Late {
    from_ms: u64,
    until_ms: u64,
}

struct Leader<'a> {
    draft: &'a Definition,
    history: &'a History,
    stage: Stage,
    now_ms: u64,
    state: Option<State>,
    notes: Vec<ReplayNote>,
    made: BTreeMap<Thing, Made>,
    came: BTreeMap<String, Came>,
    /// What the draft made for what the real journey made, by the real one.
    linked: BTreeMap<String, String>,
    /// The how manieth of each the draft has made.
    count: BTreeMap<(String, ResourceType, String), usize>,
    /// How much of what the draft opened was looked at.
    looked: usize,
    pairs: Vec<(u64, Option<String>, Resource)>,
    /// What becomes of messages of the draft, by when.
    mail: BTreeMap<(u64, usize), Resource>,
    lates: Vec<Late>,
    /// How much of the record has been written.
    written: usize,
    moves: usize,
    /// When the patient is to be looked at for the draft's segments.
    look_ms: Option<u64>,
}

impl<'a> Leader<'a> {
    fn new(draft: &'a Definition, history: &'a History) -> Self {
        let patient = &history.first.patient;
        let mut stage = Stage::new(patient, &history.instance, history.rules.clone());
        stage.known_as.clone_from(&history.known_as);
        stage.proxy = history.proxy;
        stage.notified = history.notified;
        stage.others.clone_from(&history.others);
        let late = |one: &Move| {
            let from_ms = one.due_ms?;
            (from_ms < one.at_ms).then_some(Late {
                from_ms,
                until_ms: one.at_ms,
            })
        };
        Self {
            draft,
            history,
            stage,
            now_ms: history.first.started_ms,
            state: None,
            notes: Vec::new(),
            made: history.made(),
            came: history.came(),
            linked: BTreeMap::new(),
            count: BTreeMap::new(),
            looked: 0,
            pairs: Vec::new(),
            mail: BTreeMap::new(),
            lates: history.moves.iter().filter_map(late).collect(),
            written: 0,
            moves: 0,
            look_ms: None,
        }
    }

    fn note(&mut self, untold: bool, at_ms: u64, step: &str, words: &str) {
        self.notes.push(ReplayNote {
            at_ms: Some(at_ms),
            step: step.to_owned(),
            untold,
            words: words.to_owned(),
        });
    }

    fn untold(&mut self, at_ms: u64, step: &str, words: &str) {
        self.note(true, at_ms, step, words);
    }

    fn taken(&mut self, at_ms: u64, step: &str, words: &str) {
        self.note(false, at_ms, step, words);
    }

    fn all(&mut self, ids: &DraftIds<'_>) -> Result<(), String> {
        let first = &self.history.moves[0];
        self.reach(first.number);
        self.now_ms = first.at_ms;
        let Some(start) = self.start() else {
            return Ok(());
        };
        let (draft, history) = (self.draft, self.history);
        let named = (history.instance.as_str(), ids as &dyn Ids);
        let run = Run::start_as(draft, &start, named, self.now_ms, &mut self.stage);
        let mut run = run.map_err(|error| error.to_string())?;
        self.mark();
        let done = self.run(&mut run);
        self.state = Some(run.state().clone());
        done
    }

    fn run(&mut self, run: &mut Run<'_>) -> Result<(), String> {
        self.settle(run)?;
        for item in self.items() {
            match item.what {
                Happens::Event(at) => {
                    self.advance(run, item.at_ms, false)?;
                    self.come_to(run, &item);
                    self.event(run, at)?;
                }
                Happens::Hand(at) => {
                    self.advance(run, item.at_ms, false)?;
                    self.come_to(run, &item);
                    self.hand(run, at)?;
                }
                Happens::Time(at) => {
                    let due_ms = self.history.moves[at].due_ms.unwrap_or(item.at_ms);
                    self.advance(run, due_ms.min(item.at_ms), false)?;
                    self.lates.retain(|late| late.until_ms > item.at_ms);
                    self.come_to(run, &item);
                    if run.running() && run.due_ms().is_some_and(|due_ms| due_ms <= item.at_ms) {
                        self.fire(run, item.at_ms)?;
                    }
                }
            }
            self.state = Some(run.state().clone());
        }
        self.advance(run, self.history.until_ms, true)
    }

    /// What the real journey was told and did, in its order.
    fn items(&self) -> Vec<Item> {
        let history = self.history;
        let mut by_event: BTreeMap<u64, usize> = BTreeMap::new();
        let mut items = Vec::new();
        for (at, one) in history.moves.iter().enumerate().skip(1) {
            let what = match (one.is_by_hand(), one.cause) {
                (true, _) => Happens::Hand(at),
                (false, Some(event)) => {
                    by_event.entry(event).or_insert(at);
                    continue;
                }
                (false, None) => Happens::Time(at),
            };
            items.push(Item {
                position: one.number,
                at_ms: one.at_ms,
                what,
            });
        }
        let start = history.start_number();
        let first = &history.moves[0];
        // What could not be worked on at first was played again later, and holds nothing up.
        let mut soonest = u64::MAX;
        let mut in_turn: BTreeSet<u64> = BTreeSet::new();
        for (event, at) in by_event.iter().rev() {
            let number = history.moves[*at].number;
            if number < soonest {
                soonest = number;
                in_turn.insert(*event);
            }
        }
        let (mut floor, mut floor_ms) = (first.number, first.at_ms);
        for (at, written) in history.record.iter().enumerate() {
            if written.number <= start {
                continue;
            }
            let moved = by_event.get(&written.number).map(|at| &history.moves[*at]);
            let own = self
                .is_own_write(written)
                .then(|| history.move_of(written.number));
            let (position, at_ms) = match (moved, own.flatten()) {
                (Some(moved), _) => (moved.number, moved.at_ms),
                // What a move wrote is read after it.
                (None, Some(own)) => (own.number.max(floor), own.at_ms.max(floor_ms)),
                (None, None) => {
                    let at_ms = written.at_ms.max(floor_ms);
                    let late = self.lates.iter();
                    let mut late =
                        late.filter(|late| (late.from_ms..late.until_ms).contains(&at_ms));
                    let at_ms = late.next().map_or(at_ms, |late| late.until_ms);
                    (written.number.max(floor), at_ms)
                }
            };
            if moved.is_none() || in_turn.contains(&written.number) {
                (floor, floor_ms) = (floor.max(position), floor_ms.max(at_ms));
            }
            items.push(Item {
                position,
                at_ms,
                what: Happens::Event(at),
            });
        }
        // An event that moved the journey comes with its move; others before what else is there.
        items.sort_by_key(|item| item.position);
        items
    }

    fn come_to(&mut self, run: &mut Run<'_>, item: &Item) {
        self.reach(item.position.saturating_add(1));
        run.wait(item.at_ms);
        self.now_ms = self.now_ms.max(item.at_ms);
    }

    /// Writes into the record what was written before a number, but for what the journey made.
    fn reach(&mut self, number: u64) {
        let history = self.history;
        while let Some(written) = history.record.get(self.written)
            && written.number < number
        {
            self.written += 1;
            let is_made = self.is_of_journey(written);
            let resource = &written.resource;
            if is_made {
                continue;
            }
            if written.deleted {
                self.stage.record.remove(&reference(resource));
            } else {
                self.stage.put(resource.clone());
            }
        }
        self.stage.reached = number;
    }

    /// Whether the real journey wrote it itself.
    fn is_own_write(&self, written: &Written) -> bool {
        made_by(&written.resource, &self.history.instance).is_some()
            && written
                .before
                .as_ref()
                .is_none_or(|before| resources::is_own_change(before, &written.resource))
    }

    /// Whether a resource is of the real journey: what it made, its plan, and answers to its forms.
    fn is_of_journey(&self, written: &Written) -> bool {
        let resource = &written.resource;
        if resource.kind() == ResourceType::QuestionnaireResponse {
            return self.form_of(resource).is_some();
        }
        made_by(resource, &self.history.instance).is_some()
            || resource.kind() == ResourceType::CarePlan
                && resource
                    .get("identifier")
                    .and_then(Value::as_array)
                    .is_some_and(|list| {
                        list.iter()
                            .any(|one| one["value"] == self.history.instance.as_str())
                    })
    }

    /// The form of the real journey that a response answers: its `Task`, or its step where it names no task.
    fn form_of(&self, response: &Resource) -> Option<Result<String, String>> {
        let task = response.get("identifier").filter(|identifier| {
            identifier.get("system").and_then(Value::as_str) == Some(TASK_ID_SYSTEM)
        });
        let task = task.and_then(|identifier| identifier.get("value").and_then(Value::as_str));
        if let Some(task) = task {
            let reference = format!("Task/{task}");
            let mut made = self.made.values();
            return made
                .any(|made| made.reference == reference)
                .then_some(Ok(reference));
        }
        let canonical = response.text_at(&["questionnaire"])?;
        self.history.forms.get(canonical).cloned().map(Err)
    }

    /// How the draft would begin, if it would.
    fn start(&mut self) -> Option<Start> {
        let (draft, history, now_ms) = (self.draft, self.history, self.now_ms);
        let first = &history.first;
        let key = first.key.as_str();
        let by_segment = segments::is_key(key);
        let by_event = !request::is_key(key) && runner::task_of(key).is_none() && !by_segment;
        let kind = history.definition(first.version);
        let kind = kind.and_then(|definition| definition.entry.kind());
        // The key of a date is made of more than the resource that says it.
        let dated = draft.entry.date.is_some();
        let record = &self.stage.record;
        let entry = kind.and_then(|kind| record.get(&format!("{kind}/{key}")));
        let entry = entry.or_else(|| record.get(&history.cause).filter(|_| dated));
        let entry = entry
            .filter(|entry| by_event && kind == Some(entry.kind()))
            .cloned();
        let begins = match (&entry, by_event) {
            (Some(entry), _) if dated => Ok(facts::anchors(draft, entry)),
            (Some(entry), _) => facts::entry(draft, entry, now_ms)
                .ok_or("what began the journey is no entry of the draft, or too old for it"),
            (None, true) => Err("what began the journey is not in the record any more"),
            (None, false) if request::is_key(key) && draft.entry.request.is_none() => {
                Err("the draft is not started by request")
            }
            (None, false) if by_segment && !self.is_in(now_ms) => Err(
                "the patient was not in the segment by which the draft begins, if it begins by one",
            ),
            (None, false) => {
                let names = draft.entry.anchors.iter().map(|(name, _)| name);
                let missing = names.clone().any(|name| !first.anchors.contains_key(name));
                if missing && request::is_key(key) {
                    Err("the draft asks for a time that nobody was asked for")
                } else {
                    let anchors = names.map(|name| {
                        let at_ms = first.anchors.get(name).copied();
                        (name.clone(), at_ms.unwrap_or(now_ms))
                    });
                    Ok(anchors.collect())
                }
            }
        };
        let anchors: BTreeMap<String, u64> = match begins {
            Ok(anchors) => anchors,
            Err(words) => {
                let words = format!("The draft does not begin: {words}.");
                self.untold(now_ms, "", &words);
                return None;
            }
        };
        let at_once = match &entry {
            Some(entry) => facts::who_by_event(draft, entry, now_ms),
            None => draft.entry.who.is_empty(),
        };
        if !at_once && !self.stage.is_meant(draft, now_ms) {
            self.untold(
                now_ms,
                "",
                "The draft does not begin: it is not for this patient (`who`).",
            );
            return None;
        }
        let probe = State::probe(draft, &first.patient, key, anchors.clone(), now_ms);
        let exit = self.stage.exit_already(draft, &probe, now_ms);
        Some(Start {
            patient: first.patient.clone(),
            key: key.to_owned(),
            cause: history.cause.clone(),
            number: 1,
            anchors,
            observations: self.stage.history(draft, now_ms),
            exit,
            late: history.began_late(),
        })
    }

    /// Lets time pass until then; what is due then, too, where it is said.
    fn advance(&mut self, run: &mut Run<'_>, until_ms: u64, with_it: bool) -> Result<(), String> {
        loop {
            let within = |at_ms: u64| at_ms < until_ms || with_it && at_ms == until_ms;
            let mail_ms = self.mail.keys().next().map(|(at_ms, _)| *at_ms);
            let due_ms = run.due_ms().map(|due_ms| {
                // Nobody worked on it then.
                let lates = self.lates.iter();
                let lates = lates.filter(|late| (late.from_ms..late.until_ms).contains(&due_ms));
                lates.map(|late| late.until_ms).max().unwrap_or(due_ms)
            });
            let mail_ms = mail_ms.filter(|at_ms| within(*at_ms));
            let due_ms = due_ms.filter(|due_ms| run.running() && within(*due_ms));
            let look_ms = self.look_ms.filter(|at_ms| run.running() && within(*at_ms));
            let others_ms = crate::segments::soonest(mail_ms, due_ms);
            if let Some(look_ms) = look_ms
                && others_ms.is_none_or(|others_ms| look_ms < others_ms)
            {
                self.pass(run, look_ms);
                self.look_at_segments(run)?;
                continue;
            }
            match (mail_ms, due_ms) {
                (Some(mail_ms), due_ms) if due_ms.is_none_or(|due_ms| mail_ms <= due_ms) => {
                    self.pass(run, mail_ms);
                    if let Some((_, message)) = self.mail.pop_first() {
                        self.write(run, &message)?;
                    }
                }
                (_, Some(due_ms)) => {
                    self.pass(run, due_ms);
                    self.fire(run, due_ms)?;
                }
                _ => return Ok(()),
            }
        }
    }

    fn pass(&mut self, run: &mut Run<'_>, until_ms: u64) {
        let number = Number::at_ms(until_ms).0;
        if number > self.stage.reached {
            self.reach(number);
        }
        run.wait(until_ms);
        self.now_ms = self.now_ms.max(until_ms);
    }

    fn fire(&mut self, run: &mut Run<'_>, at_ms: u64) -> Result<(), String> {
        self.one_more()?;
        run.fire(at_ms, &mut self.stage)
            .map_err(|error| error.to_string())?;
        self.settle(run)
    }

    fn one_more(&mut self) -> Result<(), String> {
        self.moves += 1;
        if self.moves > MOVES_MAX {
            return Err("the draft goes round".to_owned());
        }
        Ok(())
    }

    /// Looks at what the draft has made, and gives it what it has written itself to read, as the feed does.
    fn settle(&mut self, run: &mut Run<'_>) -> Result<(), String> {
        self.look();
        let mut feed: VecDeque<Resource> = self.stage.unit().into();
        while let Some(written) = feed.pop_front() {
            self.one_more()?;
            self.read(run, &written, false)?;
            self.look();
            feed.extend(self.stage.unit());
        }
        Ok(())
    }

    fn read(&mut self, run: &mut Run<'_>, resource: &Resource, gone: bool) -> Result<(), String> {
        let (draft, now_ms) = (self.draft, self.now_ms);
        let consents = (resource.kind() == ResourceType::Consent)
            .then(|| self.stage.consents_say(draft, now_ms));
        let Some(fact) = facts::told(draft, run.state(), resource, gone, consents) else {
            return Ok(());
        };
        let holds = facts::holds(draft, resource, run.state(), now_ms);
        run.event(reference(resource), fact, holds, &mut self.stage)
            .map(drop)
            .map_err(|error| error.to_string())
    }

    fn write(&mut self, run: &mut Run<'_>, written: &Resource) -> Result<(), String> {
        self.stage.put(written.clone());
        self.read(run, written, false)?;
        self.settle(run)
    }

    /// Something was written to the real record.
    fn event(&mut self, run: &mut Run<'_>, at: usize) -> Result<(), String> {
        self.one_more()?;
        let history = self.history;
        let written = &history.record[at];
        self.mark();
        if self.is_of_journey(written) {
            return self.of_journey(run, written);
        }
        let resource = &written.resource;
        if written.deleted {
            self.stage.record.remove(&reference(resource));
            self.read(run, resource, true)?;
            return self.settle(run);
        }
        // What is read is what was written then; the record may be ahead of it.
        self.read(run, resource, false)?;
        self.settle(run)
    }

    /// Something was written to what the real journey made.
    fn of_journey(&mut self, run: &mut Run<'_>, written: &Written) -> Result<(), String> {
        let mut resource = written.resource.clone();
        if resource.kind() == ResourceType::CarePlan {
            return Ok(());
        }
        if resource.kind() == ResourceType::QuestionnaireResponse {
            let step = match self.form_of(&resource) {
                Some(Ok(task)) => {
                    let Some(draft) = self.linked.get(&task) else {
                        return Ok(());
                    };
                    let id = draft.trim_start_matches("Task/").to_owned();
                    let identifier = json!({"system": TASK_ID_SYSTEM, "value": id});
                    resource.set("identifier", identifier);
                    self.stage.step_of(draft)
                }
                Some(Err(step)) => step,
                None => return Ok(()),
            };
            resource.set("questionnaire", json!(format!("Questionnaire/{step}")));
            return self.write(run, &resource);
        }
        let real = reference(&resource);
        if resource.kind() == ResourceType::CommunicationRequest {
            return self.called_off(run, &real);
        }
        let (Some(before), Some(draft)) = (&written.before, self.linked.get(&real).cloned()) else {
            return Ok(());
        };
        let Some(there) = self.stage.record.get(&draft).cloned() else {
            return Ok(());
        };
        let step = self.stage.step_of(&draft);
        if written.deleted || resources::is_own_change(before, &resource) {
            let closes = !resources::open(&resource) && resources::open(&there);
            if closes && resource.kind() != ResourceType::Communication {
                let now_ms = self.now_ms;
                self.untold(now_ms, &step, "It was closed for the real patient then, and is still open with the draft: nobody knows what would have come of it.");
            }
            return Ok(());
        }
        if !self.offers(&step, &resource) {
            let now_ms = self.now_ms;
            self.untold(
                now_ms,
                &step,
                "What was chosen is not offered by the draft: nobody knows what would have been.",
            );
            return Ok(());
        }
        let id = draft.split_once('/').map_or("", |(_, id)| id);
        resource.set_id(id);
        if let Some(identifier) = there.get("identifier") {
            resource.set("identifier", identifier.clone());
        }
        self.write(run, &resource)
    }

    /// A message that waited was called off by its request, if this is when it was.
    fn called_off(&mut self, run: &mut Run<'_>, request: &str) -> Result<(), String> {
        let mut trail = self.history.trail.iter();
        let entry = trail
            .find(|entry| entry.why == request && matches!(entry.what, What::Undelivered { .. }));
        let Some((entry, which)) = entry.and_then(|entry| match entry.what {
            What::Undelivered { which, .. } => Some((entry, which)),
            _ => None,
        }) else {
            return Ok(());
        };
        let now_ms = self.now_ms;
        if entry.at_ms != now_ms {
            return Ok(());
        }
        let state = run.state();
        let held = state.held.iter().find(|held| {
            let mut at = state.tokens.iter();
            held.which == which && at.any(|token| token.n == held.n && token.step == entry.step)
        });
        let Some(held) = held else {
            self.untold(
                now_ms,
                &entry.step,
                "The message was called off then, and does not wait with the draft.",
            );
            return Ok(());
        };
        let off = Manual::CallOff {
            n: held.n,
            which,
            by: request.to_owned(),
        };
        self.by_hand(run, Input::Manual(off), &entry.step)
    }

    /// Whether the outcome of a task is one that the draft offers, where the real version offered it.
    fn offers(&self, step: &str, task: &Resource) -> bool {
        let Fact::Task {
            outcome: Some(outcome),
            ..
        } = facts::read(task)
        else {
            return true;
        };
        let has = |step: Option<&Step>| {
            step.is_some_and(|step| step.ways().iter().any(|way| way.label == outcome))
        };
        let mut real = self.history.definitions.values();
        has(self.draft.step(step)) || !real.any(|real| has(real.step(step)))
    }

    /// Whether the real patient was asked the same at a step.
    fn asks_the_same(&self, step: &str, made: &Made, draft: &Resource) -> bool {
        let Some(after) = self.draft.step(step) else {
            return true;
        };
        if draft.kind() == ResourceType::Appointment {
            let when = |visit: &Resource| visit.text_at(&["start"]).map(str::to_owned);
            return when(&made.first) == when(draft);
        }
        if !after.kind.is_answered() {
            return after.kind.begins().is_none_or(|begins| {
                let mut real = self.history.definitions.values();
                real.any(|real| real.step(step).and_then(|step| step.kind.begins()) == Some(begins))
            });
        }
        let questions = |step: &Step| {
            let body = step.said.get(step.kind_name());
            body.and_then(|body| body.get("questions")).cloned()
        };
        let mut real = self.history.definitions.values();
        real.any(|real| {
            let before = real.step(step);
            before.is_some_and(|before| {
                diff::same(questions(before).as_ref(), questions(after).as_ref())
            })
        })
    }

    /// Looks at what the draft has made since.
    fn look(&mut self) {
        while let Some((step, draft)) = self.stage.opened.get(self.looked).cloned() {
            self.looked += 1;
            let Some(resource) = self.stage.record.get(&draft).cloned() else {
                continue;
            };
            let which = draft
                .strip_prefix("Communication/")
                .and_then(|id| Which::of_slot(id.rsplit('/').nth(1)?));
            let kind = resource.kind();
            let sort = sort_of(&resource, which);
            let nth = self
                .count
                .entry((step.clone(), kind, sort.clone()))
                .or_default();
            let thing = Thing {
                step: step.clone(),
                kind,
                sort,
                nth: *nth,
            };
            *nth += 1;
            self.meets(&thing, &draft, resource);
        }
    }

    /// The draft has made something: what the real journey made for the same decides what comes of it.
    fn meets(&mut self, thing: &Thing, draft: &str, resource: Resource) {
        let (now_ms, step) = (self.now_ms, thing.step.as_str());
        let made = self.made.get(thing);
        let real = made.map(|made| made.reference.clone());
        let opened_ms = made.map_or(now_ms, |made| made.opened_ms);
        let is_exact = made.is_some() && opened_ms == now_ms;
        let is_same = made.is_none_or(|made| self.asks_the_same(step, made, &resource));
        // A message that could not even be sent says so from the first.
        let refused = made.filter(|made| outcome(&made.first).is_some());
        let refused = refused.map(|made| (now_ms, made.first.clone()));
        let came = real.as_ref().and_then(|real| self.came.get(real));
        let came = came.map(|came| (came.at_ms, came.resource.clone()));
        self.pairs.push((now_ms, real.clone(), resource.clone()));
        if thing.kind == ResourceType::Communication {
            if !resources::open(&resource) || (is_exact && refused.is_none()) {
                // What becomes of it is known, or will be told.
                if let Some(real) = real {
                    self.linked.insert(real, draft.to_owned());
                }
                return;
            }
            let came = came.filter(|(_, came)| outcome(came).is_some());
            let came = came.map(|(at_ms, came)| {
                let after_ms = at_ms.saturating_sub(opened_ms);
                (now_ms.saturating_add(after_ms), came)
            });
            let mut message = resource;
            let (at_ms, words) = match refused.or(came) {
                Some((at_ms, real)) => {
                    for name in ["status", "statusReason"] {
                        if let Some(value) = real.get(name) {
                            message.set(name, value.clone());
                        }
                    }
                    let words = "It is taken to fare as the real message did, after as long.";
                    (at_ms, words)
                }
                None => {
                    message.set("status", json!("completed"));
                    let words =
                        "There was no such message that left, so it is taken to arrive at once.";
                    (now_ms, words)
                }
            };
            self.taken(now_ms, step, words);
            let place = self.pairs.len();
            self.mail.insert((at_ms, place), message);
            return;
        }
        let came_ms = came.map(|(at_ms, _)| at_ms);
        match real {
            None => self.untold(
                now_ms,
                step,
                "Nobody was asked this then, so it is played as if nobody did anything about it.",
            ),
            Some(_) if !is_same => self.untold(
                now_ms,
                step,
                "Something else was asked then, so it is played as if nobody did anything about it.",
            ),
            Some(_) if came_ms.is_some_and(|came_ms| came_ms < now_ms) => self.untold(
                now_ms,
                step,
                "It was done before the draft asks for it, so it is played as if nobody did anything about it.",
            ),
            Some(real) => {
                if !is_exact {
                    self.taken(
                        now_ms,
                        step,
                        "It is asked for at another time, and taken to be done when it really was.",
                    );
                }
                self.linked.insert(real, draft.to_owned());
            }
        }
    }

    /// Somebody did something by hand to the real journey.
    fn hand(&mut self, run: &mut Run<'_>, at: usize) -> Result<(), String> {
        self.one_more()?;
        let history = self.history;
        let one = &history.moves[at];
        let now_ms = self.now_ms;
        for entry in &one.entries {
            let (act, reason, by) = match &entry.what {
                What::Hand { act, reason, by } => (*act, reason.clone(), by.clone()),
                What::Moved { from, to, .. } => {
                    let words = format!(
                        "The patient was moved from version {from} to version {to} then; the draft is the same all the time."
                    );
                    self.taken(now_ms, "", &words);
                    return Ok(());
                }
                What::Ended { title, .. } if entry.why == "staff" => {
                    let stop = Input::Manual(Manual::Stop(title.clone()));
                    return self.by_hand(run, stop, &entry.step);
                }
                _ => continue,
            };
            let Some(act) = self.act_of(run.state(), one, entry, act) else {
                self.untold(now_ms, &entry.step, "What was done by hand then can't be done with the draft: the patient is not at that step.");
                return Ok(());
            };
            let hand = Hand {
                act,
                reason,
                by,
                batch: None,
            };
            let step = entry.step.clone();
            return self.by_hand(run, Input::Manual(Manual::Hand(hand)), &step);
        }
        Ok(())
    }

    fn by_hand(&mut self, run: &mut Run<'_>, input: Input, step: &str) -> Result<(), String> {
        if !run.running() {
            return Ok(());
        }
        if let Err(error) = run.input(input, &mut self.stage) {
            let words =
                format!("What was done by hand then can't be done with the draft: {error}.");
            let now_ms = self.now_ms;
            self.untold(now_ms, step, &words);
            return Ok(());
        }
        self.settle(run)
    }

    /// An act by hand on where the patient is with the draft.
    fn act_of(&self, state: &State, one: &Move, entry: &TrailEntry, done: Done) -> Option<Act> {
        let place = |step: &str| state.tokens.iter().find(|token| token.step == step);
        let left = |step: &str| {
            one.entries.iter().find_map(|left| match &left.what {
                What::Left { label, .. } if left.step == step => Some(label.as_str()),
                _ => None,
            })
        };
        Some(match done {
            Done::Paused => Act::Pause,
            Done::Resumed => Act::Resume,
            Done::Undone => Act::Undo,
            Done::Skipped => {
                let token = place(&entry.step)?;
                let kind: &dyn StepKind = self.draft.step(&entry.step)?.kind.as_ref();
                let label = left(&entry.step)?;
                let ways = kind.skips(&token.stand);
                let way = ways.iter().position(|way| way.label == label)?;
                Act::Skip { n: token.n, way }
            }
            Done::Retried => Act::Retry {
                n: place(&entry.step)?.n,
            },
            Done::Jumped => {
                let is_sent = |left: &&TrailEntry| matches!(&left.what, What::Left { label, .. } if label == BY_HAND);
                let sent: Vec<&TrailEntry> = one.entries.iter().filter(is_sent).collect();
                // From everywhere the places are left in their order; from one of them, what it waits for comes first.
                let steps = sent.iter().map(|left| &left.step);
                let from = if steps.eq(&one.was_at) {
                    None
                } else {
                    Some(place(&sent.last()?.step)?.n)
                };
                Act::Jump {
                    from,
                    to: entry.step.clone(),
                }
            }
        })
    }
}
