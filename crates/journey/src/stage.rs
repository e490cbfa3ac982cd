//! The world around one patient's journey in virtual time, with real resources that are made by the code that makes
//! them in production: for scenarios, and for what really happened played again.

use crate::Channel;
use crate::ahead::{PlainIds, World};
use crate::definition::{Definition, ExitTrigger};
use crate::engine::{self, Effect, Fact, Input, Outcome};
use crate::facts;
use crate::kinds::Question;
use crate::mover::message_key;
use crate::resources::{self, Maker, Times};
use crate::room::{Asks, Book, Limits, Room, zone_of};
use crate::segments::{Known, Segment};
use crate::state::{State, TrailEntry, Which};
use crate::time::DAY_MS;
use fhir::{Resource, ResourceType};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use trust::consent::{Act, Rules};
use trust::outgoing;

/// What happened, by the list of `then` that tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sort {
    Sent,
    Task,
    HandedOver,
    Visit,
    Called,
    TakenBack,
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

/// The world around the patient.
pub(crate) struct Stage {
    pub(crate) patient: String,
    /// The journey's id.
    pub(crate) instance: String,
    pub(crate) record: BTreeMap<String, Resource>,
    /// Steps and what was opened for them, in order.
    pub(crate) opened: Vec<(String, String)>,
    pub(crate) happened: Vec<Happened>,
    pub(crate) trail: Vec<TrailEntry>,
    /// E-mails and text messages of which the world says next what became of them.
    pub(crate) mail: Vec<String>,
    pub(crate) rules: Rules,
    /// What the care programmes here are known as.
    pub(crate) known_as: Vec<String>,
    /// Whether somebody acts for the patient who can be written to where they have no address.
    pub(crate) proxy: bool,
    /// Whether the patient has turned notifications on.
    pub(crate) notified: bool,
    /// What the journey itself wrote in this unit of work, in the order in which the feed has it.
    wrote: BTreeSet<(u16, String)>,
    /// What was sent, and waits for room.
    book: Book,
    /// What the patient's other journeys had sent, and what of theirs waited, from each number of the ledger on.
    pub(crate) others: Vec<(u64, Book)>,
    /// The number that has been reached.
    pub(crate) reached: u64,
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
            | Effect::ProposeVisit { step, .. }
            | Effect::TakeBack { step, .. } => {
                self.open(definition, state, step, effect, now_ms);
                None
            }
            Effect::Look { step, n } => {
                let question = definition.step(step)?.kind.asks()?;
                let holds = self.is_so(definition, state, question, now_ms);
                Some(Input::Seen { n: *n, holds })
            }
            Effect::LookAtSegments => {
                let (holds, _) = self.segments(definition, now_ms);
                Some(Input::Event(engine::Event::of_segments(holds)))
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
            Effect::Hold { message } => {
                let reference = format!("Communication/{}", message.communication);
                self.change(&reference, resources::hold);
                None
            }
            Effect::Release { message, .. } => {
                let reference = format!("Communication/{}", message.communication);
                self.change(&reference, |found| {
                    resources::release(found);
                });
                None
            }
            Effect::HoldTask { task } => {
                self.change(&format!("Task/{task}"), resources::hold_call);
                None
            }
            Effect::CallOn { task, .. } => {
                self.change(&format!("Task/{task}"), |task| {
                    resources::call_on(task);
                });
                None
            }
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

    fn gives_up(&mut self, n: u32, which: Which) {
        self.book.give_up(&message_key(&self.instance, n, which));
    }

    fn limited(&self, definition: &Definition) -> bool {
        self.limits(definition).any()
    }

    fn consents(&self, definition: &Definition, now_ms: u64) -> Option<Fact> {
        Some(self.consents_say(definition, now_ms))
    }
}

pub(crate) fn reference(resource: &Resource) -> String {
    format!("{}/{}", resource.kind(), resource.id().unwrap_or_default())
}

impl Stage {
    pub(crate) fn new(patient: &str, instance: &str, rules: Rules) -> Self {
        Self {
            patient: patient.to_owned(),
            instance: instance.to_owned(),
            record: BTreeMap::new(),
            opened: Vec::new(),
            happened: Vec::new(),
            trail: Vec::new(),
            mail: Vec::new(),
            rules,
            known_as: Vec::new(),
            proxy: false,
            notified: false,
            wrote: BTreeSet::new(),
            book: Book::default(),
            others: Vec::new(),
            reached: u64::MAX,
        }
    }

    pub(crate) fn note(
        &mut self,
        sort: Sort,
        at_ms: u64,
        step: &str,
        role: Option<&str>,
        words: String,
    ) {
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

    pub(crate) fn put(&mut self, resource: Resource) {
        self.record.insert(reference(&resource), resource);
    }

    /// Puts what the journey makes.
    pub(crate) fn create(&mut self, made: Resource) {
        self.wrote.insert((made.kind().code(), reference(&made)));
        self.put(made);
    }

    /// Changes, for the journey, what is still open. Whether it was.
    pub(crate) fn change(&mut self, reference: &str, edit: impl FnOnce(&mut Resource)) -> bool {
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
    pub(crate) fn unit(&mut self) -> Vec<Resource> {
        let wrote = std::mem::take(&mut self.wrote);
        let wrote = wrote.into_iter();
        wrote
            .filter_map(|(_, reference)| self.record.get(&reference).cloned())
            .collect()
    }

    pub(crate) fn of_type(&self, kind: ResourceType) -> impl Iterator<Item = &Resource> {
        self.record
            .values()
            .filter(move |resource| resource.kind() == kind)
    }

    pub(crate) fn person(&self) -> Option<&Resource> {
        self.record.get(&format!("Patient/{}", self.patient))
    }

    pub(crate) fn step_of(&self, reference: &str) -> String {
        let found = self.opened.iter().find(|(_, opened)| opened == reference);
        found.map(|(step, _)| step.clone()).unwrap_or_default()
    }

    /// The newest resource of a type that was opened for a step.
    pub(crate) fn newest(&self, step: &str, kind: ResourceType) -> Result<Resource, String> {
        let prefix = format!("{kind}/");
        self.opened
            .iter()
            .rev()
            .find(|(of, reference)| of == step && reference.starts_with(&prefix))
            .and_then(|(_, reference)| self.record.get(reference))
            .cloned()
            .ok_or_else(|| format!("`{step}` has opened no {kind} by then"))
    }

    /// Whether a text message was put on its way at a step.
    pub(crate) fn by_sms(&self, step: &str) -> bool {
        let opened = self.opened.iter().filter(|(of, _)| of == step);
        let mut found = opened.filter_map(|(_, reference)| self.record.get(reference));
        found.any(|one| {
            one.text_at(&["medium", "0", "coding", "0", "code"]) == Some("SMSWRIT")
                && one.text_at(&["status"]) != Some("not-done")
        })
    }

    /// How many replies to a form were no answer.
    pub(crate) fn replies(&self, task: &str) -> u32 {
        let about = format!("Task/{task}");
        let all = self.record.values();
        let of_form = all.filter(|one| {
            trust::conventions::reply_code(one) == Some(trust::conventions::REPLY_UNCLEAR)
                && one.text_at(&["about", "0", "reference"]) == Some(&about)
        });
        u32::try_from(of_form.count()).unwrap_or(u32::MAX)
    }

    /// Whether what a step asks of the record is so.
    pub(crate) fn is_so(
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
                    ..definition.act(self.known_as.clone())
                },
                now_ms,
            ),
            Question::Coverage => (self.of_type(ResourceType::Coverage))
                .any(|coverage| facts::is_active(coverage, now_ms, &definition.zone)),
            Question::Eligible => facts::is_eligible(
                self.of_type(ResourceType::CoverageEligibilityResponse),
                now_ms,
                &definition.zone,
            ),
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

    pub(crate) fn allow(&self, act: &Act, now_ms: u64) -> bool {
        let consents: Vec<Resource> = self.of_type(ResourceType::Consent).cloned().collect();
        let at_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
        trust::consent::decide_act(&self.rules, &consents, act, at_ms).permitted
    }

    pub(crate) fn consents_say(&self, definition: &Definition, now_ms: u64) -> Fact {
        let consents: Vec<Resource> = self.of_type(ResourceType::Consent).cloned().collect();
        let at_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
        Fact::Consent {
            permitted: self.allow(&definition.act(self.known_as.clone()), now_ms),
            next_ms: trust::consent::next_change_ms(&consents, at_ms)
                .and_then(|next_ms| u64::try_from(next_ms).ok()),
        }
    }

    pub(crate) fn send(
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
            about,
        } = effect
        else {
            return None;
        };
        let refused = if self.permitted(definition, now_ms) {
            self.refusal(*channel, now_ms)
        } else {
            Some("consent")
        };
        let maker = Maker {
            definition,
            instance: &self.instance,
            state,
            patient: self.person(),
            now_ms,
        };
        let times = Times::of(about.as_ref(), *expires_ms);
        let made = maker.communication(
            definition.step(step)?,
            *which,
            communication,
            *channel,
            about.as_ref(),
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
        if crate::room::reaches_out(*channel) {
            self.mail.push(communication.clone());
            return None;
        }
        Some(receipt(Outcome::Delivered))
    }

    pub(crate) fn open(
        &mut self,
        definition: &Definition,
        state: &State,
        step: &str,
        effect: &Effect,
        now_ms: u64,
    ) {
        let maker = Maker {
            definition,
            instance: &self.instance,
            state,
            patient: self.person(),
            now_ms,
        };
        let found = definition.step(step);
        let made = found.and_then(|step| step.kind.resource(&maker, &PlainIds, step, effect));
        let Some(made) = made else { return };
        let call = found.and_then(|step| step.kind.order(&maker, step, effect));
        if call.as_ref().is_none_or(|call| call.compensates.is_none()) {
            self.opened.push((step.to_owned(), reference(&made)));
        }
        match (effect, call) {
            (_, Some(call)) => self.calls(now_ms, step, &call),
            _ if crate::kinds::is_call(&made) => {}
            (Effect::OpenTask { .. }, None) => {
                let role = made
                    .get("performerType")
                    .and_then(|roles| roles.pointer("/0/coding/0/code"))
                    .and_then(Value::as_str)
                    .map(str::to_owned);
                let reason = made.text_at(&["reasonCode", "text"]).unwrap_or_default();
                let reason = reason.to_owned();
                self.note(Sort::Task, now_ms, step, role.as_deref(), reason);
            }
            (Effect::ProposeVisit { .. }, None) => {
                let words = made.text_at(&["patientInstruction"]).unwrap_or_default();
                let words = words.to_owned();
                self.note(Sort::Visit, now_ms, step, None, words);
            }
            _ => {}
        }
        self.create(made);
    }

    /// Notes that a partner is called, or asked to take a call back, with what it is told.
    fn calls(&mut self, now_ms: u64, step: &str, call: &outgoing::Call) {
        let sort = match call.compensates {
            None => Sort::Called,
            Some(_) => Sort::TakenBack,
        };
        let values = call.values.iter().map(|(name, value)| {
            let text = value.as_str().map(str::to_owned);
            format!("{name}: {}", text.unwrap_or_else(|| value.to_string()))
        });
        let words = values.collect::<Vec<_>>().join(", ");
        self.note(sort, now_ms, step, None, words);
    }

    /// Whether the consents let the journey send.
    pub(crate) fn permitted(&self, definition: &Definition, now_ms: u64) -> bool {
        matches!(
            self.consents_say(definition, now_ms),
            Fact::Consent {
                permitted: true,
                ..
            }
        )
    }

    fn refusal(&self, channel: Channel, now_ms: u64) -> Option<&'static str> {
        let mut refused = facts::refusal(self.person(), channel, now_ms);
        if channel == Channel::Push && refused.is_none() && !self.notified {
            refused = Some(facts::NO_ADDRESS);
        }
        // Who acts for a patient is written to by e-mail alone.
        let proxy = self.proxy && channel == Channel::Email;
        refused.filter(|code| *code != facts::NO_ADDRESS || !proxy)
    }

    fn limits(&self, definition: &Definition) -> Limits {
        Limits::of(self.rules.messages(), &definition.limits)
    }

    /// Whether a message that asks may go out, as the mover asks for it.
    fn asked(&mut self, definition: &Definition, effect: &Effect, now_ms: u64) -> Option<Input> {
        let Effect::Ask {
            step,
            n,
            which,
            channel,
            place,
            urgency,
            until_ms,
            ..
        } = effect
        else {
            return None;
        };
        let refused = self.refusal(*channel, now_ms).is_some();
        let room = if refused || !self.permitted(definition, now_ms) {
            Room::Free
        } else {
            let zone = self.person().and_then(zone_of);
            let zone = zone.unwrap_or_else(|| definition.zone.clone());
            let key = message_key(&self.instance, *n, *which);
            let asks = Asks {
                key: &key,
                urgency: *urgency,
                until_ms: *until_ms,
            };
            let limits = self
                .limits(definition)
                .within(definition.window(step, *which));
            let others = self
                .others
                .partition_point(|(from, _)| *from < self.reached);
            let others = others.checked_sub(1).map(|at| &self.others[at].1);
            self.book.ask_beside(others, &limits, &zone, &asks, now_ms)
        };
        Some(Input::Room {
            n: *n,
            which: *which,
            place: *place,
            room,
        })
    }

    /// Whether something in the record says that the journey is for the patient.
    pub(crate) fn is_meant(&self, definition: &Definition, now_ms: u64) -> bool {
        let mut record = self.record.values();
        record.any(|resource| facts::who_by_record(definition, resource, now_ms))
    }

    /// The exit that holds already when the journey would start: its id and title.
    pub(crate) fn exit_already(
        &self,
        definition: &Definition,
        probe: &State,
        now_ms: u64,
    ) -> Option<(String, String)> {
        let exit = definition.exits.iter().find(|exit| match exit.trigger {
            ExitTrigger::ConsentWithdrawn => !self.permitted(definition, now_ms),
            ExitTrigger::Segment(membership) => {
                let (holds, _) = self.segments(definition, now_ms);
                holds.contains(&membership.hold())
            }
            ExitTrigger::Event(condition) => self
                .record
                .values()
                .any(|resource| facts::exit_by(definition, resource, probe, condition, now_ms)),
        })?;
        Some((exit.id.clone(), exit.title.clone()))
    }

    /// What the segments of a journey are looked at by.
    pub(crate) fn known(&self, definition: &Definition) -> Known {
        let kinds = definition.segments.iter().flat_map(Segment::kinds);
        let of = |kind: ResourceType| (kind, self.of_type(kind).cloned().collect());
        Known {
            person: self.person().cloned(),
            of: kinds.map(of).collect(),
            kept: BTreeSet::new(),
        }
    }

    /// Which segments hold that the journey's exits and waits ask about, and when time can change that.
    pub(crate) fn segments(
        &self,
        definition: &Definition,
        now_ms: u64,
    ) -> (Vec<usize>, Option<u64>) {
        if definition.watched().is_empty() {
            return (Vec::new(), None);
        }
        definition.look(&self.known(definition), now_ms, &|_| None)
    }

    /// Measurements that the rules may compare with, from before the start.
    pub(crate) fn history(&self, definition: &Definition, now_ms: u64) -> Vec<Fact> {
        let mut found = Vec::new();
        for step in &definition.steps {
            let Some((code, within_ms)) = step.kind.compares() else {
                continue;
            };
            let since_ms = now_ms.saturating_sub(within_ms.saturating_mul(2));
            let until_ms = now_ms.saturating_add(DAY_MS);
            let read = self.of_type(ResourceType::Observation).map(facts::read);
            found.extend(read.filter(|fact| {
                matches!(fact, Fact::Observation { codes, components, at_ms, .. }
                    if (codes.iter()).chain(components.iter().flat_map(|(codes, _)| codes)).any(|other| other == code)
                        && (since_ms..=until_ms).contains(at_ms))
            }));
        }
        found
    }
}

/// The words of a payload.
fn spoken(payload: Option<&Value>) -> String {
    let words = payload.and_then(|payload| payload.get("contentString"));
    words.and_then(Value::as_str).unwrap_or_default().to_owned()
}
