//! One patient of the cohort.

use super::model::{Kind, Model, Stop};
use super::tally::Tally;
use crate::Channel;
use crate::ahead::{INSTANCE, Run, World};
use crate::definition::{Definition, ExitTrigger};
use crate::engine::{self, About, Effect, EngineError, Fact, Input, Outcome, Start, channel_of};
use crate::facts::NO_ADDRESS;
use crate::mover::message_key;
use crate::room::{Asks, Book, Limits, Room};
use crate::state::{State, TrailEntry, What, Which};
use crate::time::{DAY_MS, HOUR_MS, MINUTE_MS};
use serde_json::{Map, Value, json};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use trust::consent::MessageRules;
use trust::conventions::CALL_STATUS;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A longest time that an e-mail takes.
const MAIL_MS: u64 = 10 * MINUTE_MS;
/// Of text messages that are answered by reply, those to which somebody first writes what is no answer.
pub(super) const UNCLEAR: f64 = 0.1;
/// In the first so many days a value may change for good.
const CHANGE_DAYS: u64 = 30;

/// What comes later.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Act {
    Mail {
        id: String,
        arrives: bool,
    },
    Answer {
        task: String,
        step: usize,
        times: u32,
    },
    Reply {
        task: String,
    },
    Task {
        id: String,
        step: usize,
        times: u32,
        /// Whether it is to confirm what another did.
        second: bool,
    },
    Partner {
        id: String,
        step: usize,
        times: u32,
    },
    Book {
        id: String,
        step: usize,
        start_ms: u64,
        end_ms: u64,
        times: u32,
    },
    Come {
        id: String,
        start_ms: u64,
        end_ms: u64,
        comes: bool,
    },
    Measure {
        reading: usize,
        day: u64,
    },
    Happens {
        condition: usize,
    },
    Withdraws,
}

/// The world around one patient.
pub(super) struct Patient<'a> {
    model: &'a Model<'a>,
    tally: &'a mut Tally,
    seed: u64,
    number: u32,
    begin_ms: u64,
    started_ms: u64,
    ahead: BinaryHeap<Reverse<(u64, u32, Act)>>,
    count: u32,
    /// How often each step opened something, so that the same draw is made whatever came before.
    times: Vec<u32>,
    /// What is open: the role of tasks, and messages on their way.
    tasks: HashMap<String, usize>,
    mail: Vec<String>,
    messages: u32,
    /// What was sent, and waits for room.
    book: Book,
}

/// Leads one patient along, until the journey or the time is over.
pub(super) fn lead(
    model: &Model<'_>,
    tally: &mut Tally,
    seed: u64,
    number: u32,
    (begin_ms, days): (u64, u32),
) -> Result<(), EngineError> {
    let end_ms = begin_ms + u64::from(days) * DAY_MS;
    let mut patient = Patient {
        model,
        tally,
        seed,
        number,
        begin_ms,
        started_ms: 0,
        ahead: BinaryHeap::new(),
        count: 0,
        times: vec![0; model.stops.len()],
        tasks: HashMap::new(),
        mail: Vec::new(),
        messages: 0,
        book: Book::default(),
    };
    let entry_ms = begin_ms + patient.within("arrival", "", 0, end_ms - begin_ms - HOUR_MS);
    patient.started_ms = entry_ms + HOUR_MS;
    let now_ms = patient.started_ms;
    patient.tally.started(patient.day(now_ms));
    patient.plan();
    let definition = model.definition;
    let anchors = definition.entry.anchors.iter();
    let begins = definition.entry.date.as_ref().map(|date| &date.begins);
    let anchor_ms = |name: &String| match begins {
        Some(begins) if begins.anchor == *name => begins.before_ms(now_ms, &definition.zone),
        _ => match model.behaviour.anchors.get(name) {
            Some((from_ms, to_ms)) => {
                entry_ms + from_ms + patient.within("anchor", name, 0, to_ms - from_ms)
            }
            None => entry_ms,
        },
    };
    let facts = Start {
        // Arms are drawn by it, so everybody has a name of their own, and another cohort other names.
        patient: format!("{seed}/{number}"),
        key: "entry".to_owned(),
        cause: "entry".to_owned(),
        number: 1,
        anchors: anchors
            .map(|(name, _)| (name.clone(), anchor_ms(name)))
            .collect(),
        ..Start::default()
    };
    let mut run = Run::start(definition, &facts, &BTreeMap::new(), now_ms, &mut patient)?;
    while run.running() && !model.is_stopped() {
        let due_ms = run.due_ms().unwrap_or(u64::MAX);
        let next_ms = patient
            .ahead
            .peek()
            .map_or(u64::MAX, |Reverse((at_ms, _, _))| *at_ms);
        if due_ms.min(next_ms) >= end_ms {
            break;
        }
        // As in production, the feed is read before a timer fires.
        if next_ms <= due_ms {
            if let Some(Reverse((at_ms, _, act))) = patient.ahead.pop() {
                run.wait(at_ms);
                patient.act(&mut run, act)?;
            }
        } else {
            run.fire(due_ms, &mut patient)?;
        }
    }
    let messages = patient.messages;
    tally.over(messages, run.state());
    Ok(())
}

impl World for Patient<'_> {
    fn happens(
        &mut self,
        definition: &Definition,
        _: &State,
        effect: &Effect,
        now_ms: u64,
    ) -> Option<Input> {
        match effect {
            Effect::Ask {
                step,
                n,
                which,
                place,
                urgency,
                until_ms,
                ..
            } => {
                let channel =
                    (definition.step(step)).and_then(|step| channel_of(step, *which, *place));
                // What will be refused takes nobody's place.
                if channel == Some(Channel::Push) && !self.is_notified() {
                    return Some(Input::Room {
                        n: *n,
                        which: *which,
                        place: *place,
                        room: Room::Free,
                    });
                }
                let key = message_key(INSTANCE, *n, *which);
                let asks = Asks {
                    key: &key,
                    urgency: *urgency,
                    until_ms: *until_ms,
                };
                let limits = Limits::of(&MessageRules::default(), &definition.limits)
                    .within(definition.window(step, *which));
                let zone = &definition.zone;
                Some(Input::Room {
                    n: *n,
                    which: *which,
                    place: *place,
                    room: self.book.ask(&limits, zone, &asks, now_ms),
                })
            }
            Effect::Send {
                step,
                communication,
                channel,
                which,
                about,
                ..
            } => {
                let form = about.as_ref().and_then(About::form);
                if let Some(task) =
                    form.filter(|_| *channel == Channel::Sms && *which == Which::Invitation)
                {
                    self.reply(step, task, now_ms);
                }
                self.send(step, communication, *channel, now_ms)
            }
            Effect::OpenForm { step, task, .. } => {
                self.open_form(step, task, now_ms);
                None
            }
            Effect::OpenTask {
                step,
                task,
                whose,
                confirms,
                ..
            } => {
                self.open_task(step, task, confirms.is_some(), now_ms);
                if let Some((role, _)) = whose {
                    self.goes_to(task, role);
                }
                None
            }
            Effect::ProposeVisit {
                step,
                appointment,
                start_ms,
                end_ms,
                ..
            } => {
                self.propose(step, appointment, (*start_ms, *end_ms), now_ms);
                None
            }
            Effect::Look { step, n } => {
                let (place, stop) = self.model.stop(step)?;
                let share = stop.at.share.unwrap_or(0.5);
                let times = self.again(place);
                let holds = self.share("look", step, times) < share;
                Some(Input::Seen { n: *n, holds })
            }
            Effect::HandOver { task, role, .. } => {
                self.tally.handed_over += 1;
                self.goes_to(task, role);
                None
            }
            Effect::CloseTask { task, .. } => {
                self.tasks.remove(task);
                None
            }
            Effect::CallOff { message, code, .. } => {
                let place = self
                    .mail
                    .iter()
                    .position(|id| *id == message.communication)?;
                self.mail.swap_remove(place);
                (code == engine::CALLED_OFF).then(|| Input::CalledOff(message.clone()))
            }
            // Nobody holds a journey in a simulation, and who takes a call back is no matter of it. What comes of
            // segments is drawn, as with events.
            Effect::CancelVisit { .. }
            | Effect::LookAtSegments
            | Effect::Hold { .. }
            | Effect::Release { .. }
            | Effect::HoldTask { .. }
            | Effect::CallOn { .. }
            | Effect::TakeBack { .. } => None,
        }
    }

    fn limited(&self, definition: &Definition) -> bool {
        Limits::of(&MessageRules::default(), &definition.limits).any()
    }

    fn gives_up(&mut self, n: u32, which: Which) {
        self.book.give_up(&message_key(INSTANCE, n, which));
    }

    fn wrote(&mut self, entry: &TrailEntry) {
        if entry.what != What::Entered {
            return;
        }
        let Some((place, stop)) = self.model.stop(&entry.step) else {
            return;
        };
        if stop.awaited.is_empty() {
            return;
        }
        let times = self.again(place);
        let share = stop.at.share.unwrap_or(0.5);
        for (nth, condition) in stop.awaited.iter().enumerate() {
            // Each comes or doesn't by a draw of its own.
            let what = match nth {
                0 => "event".to_owned(),
                _ => format!("event/{nth}"),
            };
            if self.share(&what, &entry.step, times) < share {
                let within_ms = stop.at.within_ms.unwrap_or(DAY_MS * 7);
                let within_ms = within_ms.saturating_sub(stop.at.after_ms);
                let after_ms = stop.at.after_ms + self.within(&what, &entry.step, times, within_ms);
                let at_ms = entry.at_ms + after_ms;
                let condition = *condition;
                self.later(at_ms, Act::Happens { condition });
            }
        }
    }
}

impl Patient<'_> {
    /// A number from 0 to 1 that hangs on nothing but the seed, the patient and what it is for. So a changed
    /// journey meets the same patients.
    #[allow(clippy::cast_precision_loss, reason = "53 bits fit")]
    fn share(&self, what: &str, step: &str, times: u32) -> f64 {
        let mut bytes = [0u8; 160];
        let mut length = 0;
        for part in [
            &self.number.to_le_bytes()[..],
            &times.to_le_bytes(),
            what.as_bytes(),
            b"/",
            step.as_bytes(),
        ] {
            let taken = part.len().min(bytes.len() - length);
            bytes[length..length + taken].copy_from_slice(&part[..taken]);
            length += taken;
        }
        (xxh3_64_with_seed(&bytes[..length], self.seed) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A time drawn evenly between nothing and this.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "milliseconds of years fit, and are not negative"
    )]
    fn within(&self, what: &str, step: &str, times: u32, within_ms: u64) -> u64 {
        (self.share(&format!("{what} time"), step, times) * within_ms as f64) as u64
    }

    fn day(&self, at_ms: u64) -> usize {
        usize::try_from(at_ms.saturating_sub(self.begin_ms) / DAY_MS).unwrap_or(usize::MAX)
    }

    fn again(&mut self, step: usize) -> u32 {
        self.times[step] += 1;
        self.times[step]
    }

    fn later(&mut self, at_ms: u64, act: Act) {
        self.count += 1;
        self.ahead.push(Reverse((at_ms, self.count, act)));
    }

    /// What lies ahead of the patient whatever the journey does.
    fn plan(&mut self) {
        let model = self.model;
        for exit in &model.leaving {
            if self.share("exit", &exit.id, 0) < exit.share {
                let at_ms = self.started_ms + self.within("exit", &exit.id, 0, exit.within_ms);
                let act = match exit.trigger {
                    ExitTrigger::Event(condition) => Act::Happens { condition },
                    ExitTrigger::Segment(membership) => Act::Happens {
                        condition: membership.hold(),
                    },
                    ExitTrigger::ConsentWithdrawn => Act::Withdraws,
                };
                self.later(at_ms, act);
            }
        }
        for aim in &model.aims {
            if self.share("goal", &aim.id, 0) < aim.share {
                let within_ms = aim.within_ms.saturating_sub(aim.after_ms);
                let after_ms = aim.after_ms + self.within("goal", &aim.id, 0, within_ms);
                let at_ms = self.started_ms + after_ms;
                let condition = aim.condition;
                self.later(at_ms, Act::Happens { condition });
            }
        }
        for reading in 0..model.readings.len() {
            self.measure_on(reading, 1);
        }
    }

    /// Mornings at seven, a few minutes more or less.
    fn measure_on(&mut self, reading: usize, day: u64) {
        let morning_ms = (self.started_ms / DAY_MS + day) * DAY_MS + 7 * HOUR_MS;
        self.later(morning_ms, Act::Measure { reading, day });
    }

    fn send(
        &mut self,
        step: &str,
        communication: &str,
        channel: Channel,
        now_ms: u64,
    ) -> Option<Input> {
        if channel == Channel::Push && !self.is_notified() {
            return Some(Input::Receipt {
                communication: communication.to_owned(),
                outcome: Outcome::NotDone(NO_ADDRESS.to_owned()),
            });
        }
        self.messages += 1;
        self.tally.message(channel, self.day(now_ms));
        if channel == Channel::Portal {
            return Some(Input::Receipt {
                communication: communication.to_owned(),
                outcome: Outcome::Delivered,
            });
        }
        let share = self.model.behaviour.email_arrives;
        let arrives = self.share("mail", step, self.messages) < share;
        let at_ms = now_ms + self.within("mail", step, self.messages, MAIL_MS);
        self.mail.push(communication.to_owned());
        let id = communication.to_owned();
        self.later(at_ms, Act::Mail { id, arrives });
        None
    }

    /// Whether the patient has turned notifications on.
    fn is_notified(&self) -> bool {
        self.share("notifications", "", 0) < self.model.behaviour.notifications
    }

    fn open_form(&mut self, step: &str, task: &str, now_ms: u64) {
        let behaviour = self.model.behaviour;
        let Some((place, stop)) = self.model.stop(step) else {
            return;
        };
        let times = self.again(place);
        self.tally.forms += 1;
        if self.share("answer", step, times) < stop.at.share.unwrap_or(behaviour.answer) {
            let within_ms = stop.at.within_ms.unwrap_or(behaviour.answer_within_ms);
            let at_ms = now_ms + self.within("answer", step, times, within_ms);
            let task = task.to_owned();
            self.later(
                at_ms,
                Act::Answer {
                    task,
                    step: place,
                    times,
                },
            );
        }
    }

    /// Some write at first what is no answer, where the form is answered by reply.
    fn reply(&mut self, step: &str, task: &str, now_ms: u64) {
        let model = self.model;
        let Some((place, stop)) = model.stop(step) else {
            return;
        };
        let kind = &model.definition.steps[place].kind;
        if kind.by_reply(&model.definition.language).is_none() {
            return;
        }
        let times = self.times[place];
        if self.share("unclear", step, times) < stop.at.unclear.unwrap_or(UNCLEAR) {
            let at_ms = now_ms + self.within("unclear", step, times, HOUR_MS);
            let task = task.to_owned();
            self.later(at_ms, Act::Reply { task });
        }
    }

    fn goes_to(&mut self, task: &str, role: &str) {
        let role = self.model.role(role);
        if let Some(of) = self.tasks.get_mut(task)
            && role > 0
        {
            *of = role;
        }
    }

    fn open_task(&mut self, step: &str, task: &str, second: bool, now_ms: u64) {
        let behaviour = self.model.behaviour;
        let Some((place, stop)) = self.model.stop(step) else {
            return;
        };
        let times = self.again(place);
        if self.model.definition.steps[place].kind.calls().is_some() {
            self.tasks.insert(task.to_owned(), 0);
            let within_ms = stop.at.within_ms.unwrap_or(HOUR_MS);
            let at_ms = now_ms + self.within("call", step, times, within_ms);
            let id = task.to_owned();
            let step = place;
            return self.later(at_ms, Act::Partner { id, step, times });
        }
        // What another journey does is no work of this one's staff.
        if self.model.definition.steps[place].kind.is_work() {
            self.tally.task(self.day(now_ms));
        }
        self.tasks.insert(task.to_owned(), stop.role);
        let within_ms = stop.at.within_ms.unwrap_or(behaviour.task_within_ms);
        let at_ms = now_ms + self.within("task", step, times, within_ms);
        let id = task.to_owned();
        self.later(
            at_ms,
            Act::Task {
                id,
                step: place,
                times,
                second,
            },
        );
    }

    fn propose(&mut self, step: &str, visit: &str, (start_ms, end_ms): (u64, u64), now_ms: u64) {
        let behaviour = self.model.behaviour;
        let Some((place, stop)) = self.model.stop(step) else {
            return;
        };
        let times = self.again(place);
        self.tally.visits += 1;
        if self.share("book", step, times) < stop.at.share.unwrap_or(behaviour.book) {
            let within_ms = stop.at.within_ms.unwrap_or(behaviour.book_within_ms);
            let at_ms = now_ms + self.within("book", step, times, within_ms);
            let act = Act::Book {
                id: visit.to_owned(),
                step: place,
                start_ms,
                end_ms,
                times,
            };
            self.later(at_ms, act);
        }
    }

    fn act(&mut self, run: &mut Run<'_>, act: Act) -> Result<(), EngineError> {
        match act {
            Act::Mail { id, arrives } => {
                let Some(place) = self.mail.iter().position(|other| *other == id) else {
                    return Ok(());
                };
                self.mail.swap_remove(place);
                let outcome = if arrives {
                    Outcome::Delivered
                } else {
                    Outcome::NotDone("permanent-failure".to_owned())
                };
                self.tell(run, Fact::Message { id, outcome })
            }
            Act::Answer { task, step, times } => {
                let answers = self.answers(step, times);
                let fact = Fact::Answers {
                    task: Some(task),
                    questionnaire: None,
                    answers,
                };
                self.tell(run, fact)
            }
            Act::Reply { task } => self.tell(run, Fact::Reply { task }),
            Act::Task {
                id,
                step,
                times,
                second,
            } => {
                // What was closed meanwhile is nobody's work any more.
                let Some(role) = self.tasks.remove(&id) else {
                    return Ok(());
                };
                let stop = &self.model.stops[step];
                if self.model.definition.steps[step].kind.is_work() {
                    let minutes = stop.at.minutes.unwrap_or(self.model.behaviour.task_minutes);
                    self.tally.worked(role, self.day(run.now_ms()), minutes);
                }
                let (outcome, by) = if second {
                    (Some("confirmed".to_owned()), "second")
                } else {
                    (self.outcome(stop, step, times), "first")
                };
                let by = Some(by.to_owned());
                let status = "completed".to_owned();
                self.tell(
                    run,
                    Fact::Task {
                        id,
                        status,
                        outcome,
                        by,
                    },
                )
            }
            Act::Partner { id, step, times } => {
                // What was called off or given up on meanwhile is waited for no more.
                if self.tasks.remove(&id).is_none() {
                    return Ok(());
                }
                let outcome = self.outcome(&self.model.stops[step], step, times);
                let (status, code) = match outcome.as_deref() {
                    Some("silent") => return Ok(()),
                    Some("failed") => ("failed", Some("permanent-failure".to_owned())),
                    _ => ("completed", None),
                };
                let status = status.to_owned();
                let values = [(CALL_STATUS.to_owned(), json!(200))].into_iter().collect();
                let fact = Fact::Call {
                    id,
                    status,
                    code,
                    may_be_done: false,
                    values,
                };
                self.tell(run, fact)
            }
            Act::Book {
                id,
                step,
                start_ms,
                end_ms,
                times,
            } => {
                let comes = self.share("come", &self.model.definition.steps[step].id, times)
                    < self.model.behaviour.come;
                // Who does not come is noted at the end of the day.
                let at_ms = if comes { end_ms } else { end_ms + 8 * HOUR_MS };
                let again = id.clone();
                let act = Act::Come {
                    id: again,
                    start_ms,
                    end_ms,
                    comes,
                };
                self.later(at_ms.max(run.now_ms()), act);
                self.tell(run, visit(id, "booked", start_ms, end_ms))
            }
            Act::Come {
                id,
                start_ms,
                end_ms,
                comes,
            } => {
                let status = if comes { "fulfilled" } else { "noshow" };
                self.tell(run, visit(id, status, start_ms, end_ms))
            }
            Act::Measure { reading, day } => self.measure(run, reading, day),
            Act::Happens { condition } => run
                .event("event".to_owned(), Fact::Other, vec![condition], self)
                .map(drop),
            Act::Withdraws => self.tell(
                run,
                Fact::Consent {
                    permitted: false,
                    next_ms: None,
                },
            ),
        }
    }

    fn tell(&mut self, run: &mut Run<'_>, fact: Fact) -> Result<(), EngineError> {
        run.event(String::new(), fact, Vec::new(), self).map(drop)
    }

    fn measure(&mut self, run: &mut Run<'_>, reading: usize, day: u64) -> Result<(), EngineError> {
        let model = self.model;
        let Some(of) = model.readings.get(reading) else {
            return Ok(());
        };
        self.measure_on(reading, day + 1);
        let times = u32::try_from(day).unwrap_or(0);
        if self.share("measured", &of.code, times) >= of.measured.share {
            return Ok(());
        }
        let mut value = of.measured.start;
        value += (self.share("spread", &of.code, times) * 2.0 - 1.0) * of.measured.spread;
        let changes = self.share("change", &of.code, 0) < of.measured.change_share;
        let changed_ms = self.within("change", &of.code, 0, CHANGE_DAYS * DAY_MS);
        if changes && day * DAY_MS > changed_ms {
            value += of.measured.change;
        }
        let fact = Fact::Observation {
            id: format!("{}/{day}", of.code),
            codes: vec![of.code.clone()],
            value: Some((value, of.unit.clone())),
            components: Vec::new(),
            at_ms: run.now_ms(),
        };
        self.tell(run, fact)
    }

    fn answers(&self, step: usize, times: u32) -> Map<String, Value> {
        let id = &self.model.definition.steps[step].id;
        let mut answers = Map::new();
        for question in &self.model.stops[step].questions {
            let drawn = self.share(&question.id, id, times);
            let value = match &question.kind {
                Kind::YesNo { yes } => json!(drawn < *yes),
                Kind::Number { least, most, whole } => number(*least, *most, *whole, drawn),
                Kind::Choice(codes) => match codes.get(index(drawn, codes.len())) {
                    Some(code) => json!(code),
                    None => continue,
                },
            };
            answers.insert(question.id.clone(), value);
        }
        answers
    }

    fn outcome(&self, stop: &Stop, step: usize, times: u32) -> Option<String> {
        let total: f64 = stop.outcomes.iter().map(|(_, weight)| weight).sum();
        let id = &self.model.definition.steps[step].id;
        let mut drawn = self.share("outcome", id, times) * total;
        let found = stop.outcomes.iter().find(|(_, weight)| {
            drawn -= weight;
            drawn < 0.0
        });
        found.map(|(outcome, _)| outcome.clone())
    }
}

fn visit(id: String, status: &str, start_ms: u64, end_ms: u64) -> Fact {
    Fact::Visit {
        id,
        status: status.to_owned(),
        start_ms: Some(start_ms),
        end_ms: Some(end_ms),
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a share of a short list's length"
)]
fn index(drawn: f64, length: usize) -> usize {
    (drawn * length as f64) as usize
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "bounds are within a million"
)]
fn number(least: f64, most: f64, whole: bool, drawn: f64) -> Value {
    if whole {
        json!((least + drawn * (most - least + 1.0)).floor().min(most) as i64)
    } else {
        json!(least + drawn * (most - least))
    }
}
