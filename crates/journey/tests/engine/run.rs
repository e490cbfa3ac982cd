//! One patient in virtual time.

use journey::{
    Act, Context, Definition, Effect, Event, Fact, Hand, Ids, Input, Manual, Outcome, Room, Start,
    State, Which, step, timers,
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, OnceLock};

pub(crate) const HOUR: u64 = 3_600_000;
pub(crate) const DAY: u64 = 24 * HOUR;
/// 2026-11-02T14:00:00Z, a Monday.
pub(crate) const DISCHARGE: u64 = 1_793_628_000_000;

pub(crate) struct Names;
impl Ids for Names {
    fn id(&self, name: &str) -> String {
        name.to_owned()
    }
    fn questionnaire(&self, step: &str) -> String {
        format!("Questionnaire/{step}")
    }
    fn questionnaire_of(&self, version: u32, step: &str) -> String {
        format!("Questionnaire/{version}/{step}")
    }
}

pub(crate) fn heart_failure() -> Arc<Definition> {
    static DEFINITION: OnceLock<Arc<Definition>> = OnceLock::new();
    DEFINITION
        .get_or_init(|| {
            let path = concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../../journeys/heart-failure-discharge.yaml"
            );
            Definition::compile(&std::fs::read_to_string(path).unwrap(), 1).unwrap()
        })
        .clone()
}

/// One patient in virtual time.
pub(crate) struct Run {
    pub(crate) definition: Arc<Definition>,
    pub(crate) state: State,
    pub(crate) now: u64,
    pub(crate) number: u64,
    /// What e-mail answers: delivered at once, refused at once, or nothing.
    pub(crate) email: Option<Outcome>,
    /// What the record says to whatever is asked of it.
    pub(crate) record: bool,
    /// Whether messages ask for room, and what they are told in turn; there is room besides.
    pub(crate) limited: bool,
    pub(crate) rooms: VecDeque<Room>,
    /// In which order the patient wants the channels of the first message that asks.
    pub(crate) ways: Option<Vec<u8>>,
    pub(crate) log: Vec<String>,
    pub(crate) made: BTreeSet<String>,
    /// Calls that were taken back, and what was kept of what they had learnt.
    pub(crate) backs: Vec<(String, Option<serde_json::Map<String, Value>>)>,
    /// Messages of which nobody has heard what became of them.
    pub(crate) on_the_way: BTreeSet<String>,
    /// Messages that are held back.
    pub(crate) held: BTreeSet<String>,
    pub(crate) inputs: Vec<(u64, Input)>,
}

impl Run {
    pub(crate) fn start(definition: Arc<Definition>, email: Option<Outcome>, facts: Start) -> Self {
        Self::begin(definition, email, facts, false, (None, None))
    }
    /// With a record that says this to whatever is asked of it.
    pub(crate) fn start_with(definition: Arc<Definition>, record: bool) -> Self {
        let email = Some(Outcome::Delivered);
        Self::begin(definition, email, facts(), record, (None, None))
    }
    /// Whose messages ask, and are told this in turn.
    pub(crate) fn start_limited(definition: Arc<Definition>, rooms: &[Room]) -> Self {
        let rooms = Some(rooms.iter().copied().collect());
        let email = Some(Outcome::Delivered);
        Self::begin(definition, email, facts(), false, (rooms, None))
    }
    /// Whose first message is to try its channels in this order, of which all but the portal answer this.
    pub(crate) fn start_in_order(
        definition: Arc<Definition>,
        ways: &[u8],
        answer: Option<Outcome>,
    ) -> Self {
        let ways = Some(ways.to_vec());
        let rooms = Some(VecDeque::new());
        Self::begin(definition, answer, facts(), false, (rooms, ways))
    }
    fn begin(
        definition: Arc<Definition>,
        email: Option<Outcome>,
        facts: Start,
        record: bool,
        (rooms, ways): (Option<VecDeque<Room>>, Option<Vec<u8>>),
    ) -> Self {
        let limited = rooms.is_some();
        let rooms = rooms.unwrap_or_default();
        let now = DISCHARGE + HOUR;
        let context = Context {
            now_ms: now,
            instance: "i",
            ids: &Names,
            limited,
        };
        let decision = journey::start(&definition, facts, &context).unwrap();
        let mut run = Self {
            definition,
            state: decision.state,
            now,
            number: 10,
            email,
            record,
            limited,
            rooms,
            ways,
            log: Vec::new(),
            made: BTreeSet::new(),
            backs: Vec::new(),
            on_the_way: BTreeSet::new(),
            held: BTreeSet::new(),
            inputs: Vec::new(),
        };
        run.effects(decision.effects);
        run
    }
    pub(crate) fn new(email: Option<Outcome>) -> Self {
        Self::start(heart_failure(), email, facts())
    }
    pub(crate) fn delivered() -> Self {
        Self::new(Some(Outcome::Delivered))
    }
    pub(crate) fn note(&mut self, what: &str) {
        let since = self.now - DISCHARGE;
        self.log
            .push(format!("{}d{:02}h {what}", since / DAY, since % DAY / HOUR));
    }
    pub(crate) fn effects(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            let (made, what, receipt) = match effect {
                Effect::Send {
                    step,
                    communication,
                    channel,
                    which,
                    ..
                } => {
                    let outcome = if channel == journey::Channel::Portal {
                        Some(Outcome::Delivered)
                    } else {
                        self.email.clone()
                    };
                    let which = match which {
                        Which::Ahead { time, minutes } => format!("reminder {time}/{minutes}"),
                        Which::Again { minutes } => format!("reminder after/{minutes}"),
                        Which::Booked { time } => format!("booked {time}"),
                        Which::CalledOff { n, time } => format!("called off {n}/{time}"),
                        other => format!("{other:?}").to_lowercase(),
                    };
                    if outcome.is_none() {
                        self.on_the_way.insert(communication.clone());
                    }
                    (
                        Some(communication.clone()),
                        format!("{which} {step} {}", channel.name()),
                        outcome.map(|outcome| (communication, outcome)),
                    )
                }
                Effect::CallOff { message, code, .. } => {
                    // As the runner does: what has arrived can't be called off.
                    let held = self.held.remove(&message.communication);
                    if self.on_the_way.remove(&message.communication) || held {
                        self.note(&format!("{code} {}", message.communication));
                        if code == "called-off" {
                            self.input(Input::CalledOff(message));
                        }
                    }
                    continue;
                }
                Effect::Hold { message } => {
                    if self.on_the_way.remove(&message.communication) {
                        self.note(&format!("hold {}", message.communication));
                        self.held.insert(message.communication);
                    }
                    continue;
                }
                Effect::Release { message, .. } => {
                    if self.held.remove(&message.communication) {
                        self.note(&format!("release {}", message.communication));
                        self.on_the_way.insert(message.communication);
                    }
                    continue;
                }
                Effect::Ask {
                    step,
                    n,
                    which,
                    place,
                    until_ms,
                    ..
                } => {
                    self.note(&format!("ask {step}"));
                    assert!(until_ms > self.now, "what is too late doesn't ask");
                    if let Some(places) = self.ways.take() {
                        self.input(Input::Ways { n, which, places });
                        continue;
                    }
                    let room = self.rooms.pop_front().unwrap_or(Room::Free);
                    self.input(Input::Room {
                        n,
                        which,
                        place,
                        room,
                    });
                    continue;
                }
                Effect::LookAtSegments => continue,
                Effect::Look { step, n } => {
                    self.note(&format!("look {step}"));
                    let holds = self.record;
                    self.input(Input::Seen { n, holds });
                    continue;
                }
                Effect::OpenForm { step, task, .. } => (Some(task), format!("form {step}"), None),
                Effect::OpenTask {
                    step,
                    task,
                    whose,
                    confirms,
                    ..
                } => {
                    let what = if confirms.is_some() {
                        "confirm"
                    } else {
                        "task"
                    };
                    let whose = whose
                        .filter(|(role, _)| role != "coordinator")
                        .map_or_else(String::new, |(role, priority)| {
                            format!(" for {role} {priority}")
                        });
                    (Some(task), format!("{what} {step}{whose}"), None)
                }
                Effect::HandOver {
                    task,
                    role,
                    priority,
                } => (None, format!("hand over {task} to {role} {priority}"), None),
                Effect::CloseTask { task, done, .. } => (
                    None,
                    format!("close {task} {}", if done { "done" } else { "cancelled" }),
                    None,
                ),
                Effect::ProposeVisit {
                    step, appointment, ..
                } => (Some(appointment), format!("propose {step}"), None),
                Effect::CancelVisit { appointment, .. } => {
                    (None, format!("cancel {appointment}"), None)
                }
                Effect::HoldTask { task } => (None, format!("hold {task}"), None),
                Effect::CallOn { task, .. } => (None, format!("call on {task}"), None),
                Effect::TakeBack {
                    task,
                    call,
                    after,
                    learnt,
                    ..
                } => {
                    let after = after.map_or_else(String::new, |after| format!(" after {after}"));
                    self.backs.push((call.clone(), learnt));
                    (Some(task), format!("take back {call}{after}"), None)
                }
            };
            if let Some(made) = made {
                assert!(self.made.insert(made.clone()), "{made} was made twice");
            }
            self.note(&what);
            if let Some((communication, outcome)) = receipt {
                self.input(Input::Receipt {
                    communication,
                    outcome,
                });
            }
        }
    }
    pub(crate) fn input(&mut self, input: Input) -> bool {
        self.inputs.push((self.now, input.clone()));
        let decision = step(
            &self.definition,
            &self.state,
            input,
            &Context {
                now_ms: self.now,
                instance: "i",
                ids: &Names,
                limited: self.limited,
            },
        )
        .unwrap();
        let changed = decision.changed;
        assert_eq!(
            changed,
            decision.state != self.state,
            "`changed` must tell the truth"
        );
        assert!(changed || decision.effects.is_empty());
        let was_running = self.state.running();
        self.state = decision.state;
        assert_eq!(
            State::from_json(&self.state.to_json()).unwrap(),
            self.state,
            "the stored form must be the whole state"
        );
        self.effects(decision.effects);
        if was_running && let Some((code, _)) = self.state.ending() {
            let what = format!("end {code}");
            self.note(&what);
        }
        changed
    }
    pub(crate) fn event(&mut self, reference: &str, fact: Fact, holds: Vec<usize>) -> bool {
        self.number += 1;
        self.input(Input::Event(Event {
            number: self.number,
            reference: reference.to_owned(),
            fact,
            holds,
        }))
    }
    /// Lets time pass; timers fire when they are due.
    pub(crate) fn until(&mut self, since_discharge: u64) -> &mut Self {
        let end = DISCHARGE + since_discharge;
        while let Some(due) = timers(&self.definition, &self.state)
            .into_values()
            .min()
            .filter(|due| *due <= end)
        {
            self.now = self.now.max(due);
            assert!(
                self.input(Input::Timer { read: self.number }),
                "a due timer must do something: {:?}",
                timers(&self.definition, &self.state)
            );
        }
        self.now = self.now.max(end);
        self
    }
    /// The same for who weighs themselves each day, and always the same.
    pub(crate) fn weighing_until(&mut self, since_discharge: u64) -> &mut Self {
        let next = (self.now - DISCHARGE) / DAY + 1;
        for day in next..since_discharge.div_ceil(DAY) {
            self.until(day * DAY)
                .weight(&format!("w{day}"), day * 24, 80.0);
        }
        self.until(since_discharge)
    }
    /// Somebody steps in; the reason why it can't be done, if it can't.
    pub(crate) fn hand(&mut self, act: Act) -> Result<bool, String> {
        self.hand_of(act, None)
    }
    /// The same for a batch.
    pub(crate) fn hand_of(&mut self, act: Act, batch: Option<&str>) -> Result<bool, String> {
        let input = Input::Manual(Manual::Hand(Hand {
            act,
            reason: "In hospital".to_owned(),
            by: "Carla".to_owned(),
            batch: batch.map(str::to_owned),
        }));
        let context = Context {
            now_ms: self.now,
            instance: "i",
            ids: &Names,
            limited: self.limited,
        };
        match step(&self.definition, &self.state, input.clone(), &context) {
            Ok(_) => Ok(self.input(input)),
            Err(error) => Err(error.to_string()),
        }
    }
    pub(crate) fn answer(&mut self, task: &str, answers: Value) -> &mut Self {
        let Value::Object(answers) = answers else {
            panic!()
        };
        self.event(
            "QuestionnaireResponse/r",
            Fact::Answers {
                task: Some(task.to_owned()),
                questionnaire: None,
                answers,
            },
            vec![],
        );
        self
    }
    pub(crate) fn task(&mut self, id: &str, status: &str, outcome: Option<&str>) -> &mut Self {
        self.event(
            "Task/x",
            Fact::Task {
                id: id.to_owned(),
                status: status.to_owned(),
                outcome: outcome.map(str::to_owned),
                by: None,
            },
            vec![],
        );
        self
    }
    /// A task is done by somebody who is named.
    /// A partner answers, or a call comes to nothing for a reason.
    pub(crate) fn partner(&mut self, id: &str, answers: Result<Value, &str>) -> &mut Self {
        let (status, code, values) = match answers {
            Ok(Value::Object(values)) => ("completed", None, values),
            Ok(_) => panic!("an answer is an object"),
            Err(code) => ("failed", Some(code.to_owned()), serde_json::Map::new()),
        };
        let fact = Fact::Call {
            id: id.to_owned(),
            status: status.to_owned(),
            code,
            may_be_done: false,
            values,
        };
        self.event(&format!("Task/{id}"), fact, vec![]);
        self
    }
    /// A call comes to nothing for a reason, after an attempt that the partner may have heard.
    pub(crate) fn partner_after_silence(&mut self, id: &str, code: &str) -> &mut Self {
        let fact = Fact::Call {
            id: id.to_owned(),
            status: "failed".to_owned(),
            code: Some(code.to_owned()),
            may_be_done: true,
            values: serde_json::Map::new(),
        };
        self.event(&format!("Task/{id}"), fact, vec![]);
        self
    }
    pub(crate) fn done_by(&mut self, id: &str, by: &str, outcome: Option<&str>) -> &mut Self {
        let fact = Fact::Task {
            id: id.to_owned(),
            status: "completed".to_owned(),
            outcome: outcome.map(str::to_owned),
            by: Some(by.to_owned()),
        };
        self.event("Task/x", fact, vec![]);
        self
    }
    pub(crate) fn visit(&mut self, id: &str, status: &str) -> &mut Self {
        self.event(
            "Appointment/x",
            Fact::Visit {
                id: id.to_owned(),
                status: status.to_owned(),
                start_ms: Some(DISCHARGE + 7 * DAY),
                end_ms: None,
            },
            vec![],
        );
        self
    }
    pub(crate) fn weight(&mut self, id: &str, hours: u64, kg: f64) -> &mut Self {
        let fact = Fact::Observation {
            id: id.to_owned(),
            codes: vec!["29463-7".into()],
            value: Some((kg, "kg".into())),
            components: Vec::new(),
            at_ms: DISCHARGE + hours * HOUR,
        };
        self.event("Observation/o", fact, vec![]);
        self
    }
    pub(crate) fn log(&self) -> Vec<&str> {
        self.log.iter().map(String::as_str).collect()
    }
    /// The log without the messages by a channel, for tables about something else.
    pub(crate) fn work(&self) -> Vec<&str> {
        self.log()
            .into_iter()
            .filter(|line| {
                !["message", "invitation", "reminder"]
                    .iter()
                    .any(|word| line.split(' ').nth(1) == Some(word))
            })
            .collect()
    }
}

pub(crate) fn facts() -> Start {
    Start {
        patient: "p".into(),
        key: "e1".into(),
        cause: "Encounter/e1".into(),
        number: 10,
        anchors: BTreeMap::from([("discharge".to_owned(), DISCHARGE)]),
        ..Start::default()
    }
}
