//! The engine from outside: tables of what happens to one patient in virtual time, and properties
//! that hold whatever happens.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "a test says by failing what went wrong"
)]

use journey::{
    Context, Definition, Effect, Event, Fact, Ids, Input, Outcome, Start, State, step, timers,
};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;
/// 2026-11-02T14:00:00Z, a Monday.
const DISCHARGE: u64 = 1_793_628_000_000;

struct Names;
impl Ids for Names {
    fn id(&self, name: &str) -> String {
        name.to_owned()
    }
    fn questionnaire(&self, step: &str) -> String {
        format!("Questionnaire/{step}")
    }
}

fn heart_failure() -> Arc<Definition> {
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
struct Run {
    definition: Arc<Definition>,
    state: State,
    now: u64,
    number: u64,
    /// What e-mail answers: delivered at once, refused at once, or nothing.
    email: Option<Outcome>,
    log: Vec<String>,
    made: BTreeSet<String>,
    inputs: Vec<(u64, Input)>,
}

impl Run {
    fn start(definition: Arc<Definition>, email: Option<Outcome>, facts: Start) -> Self {
        let now = DISCHARGE + HOUR;
        let context = Context {
            now_ms: now,
            instance: "i",
            ids: &Names,
        };
        let decision = journey::start(&definition, facts, &context).unwrap();
        let mut run = Self {
            definition,
            state: decision.state,
            now,
            number: 10,
            email,
            log: Vec::new(),
            made: BTreeSet::new(),
            inputs: Vec::new(),
        };
        run.effects(decision.effects);
        run
    }
    fn new(email: Option<Outcome>) -> Self {
        Self::start(heart_failure(), email, facts())
    }
    fn delivered() -> Self {
        Self::new(Some(Outcome::Delivered))
    }
    fn note(&mut self, what: &str) {
        let since = self.now - DISCHARGE;
        self.log
            .push(format!("{}d{:02}h {what}", since / DAY, since % DAY / HOUR));
    }
    fn effects(&mut self, effects: Vec<Effect>) {
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
                    let which = format!("{which:?}").to_lowercase();
                    (
                        Some(communication.clone()),
                        format!("{which} {step} {}", channel.name()),
                        outcome.map(|outcome| (communication, outcome)),
                    )
                }
                Effect::OpenForm { step, task, .. } => (Some(task), format!("form {step}"), None),
                Effect::OpenTask { step, task, .. } => (Some(task), format!("task {step}"), None),
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
    fn input(&mut self, input: Input) -> bool {
        self.inputs.push((self.now, input.clone()));
        let decision = step(
            &self.definition,
            &self.state,
            input,
            &Context {
                now_ms: self.now,
                instance: "i",
                ids: &Names,
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
    fn event(&mut self, reference: &str, fact: Fact, holds: Vec<usize>) -> bool {
        self.number += 1;
        self.input(Input::Event(Event {
            number: self.number,
            reference: reference.to_owned(),
            fact,
            holds,
        }))
    }
    /// Lets time pass; timers fire when they are due.
    fn until(&mut self, since_discharge: u64) -> &mut Self {
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
    fn answer(&mut self, task: &str, answers: Value) -> &mut Self {
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
    fn task(&mut self, id: &str, status: &str, outcome: Option<&str>) -> &mut Self {
        self.event(
            "Task/x",
            Fact::Task {
                id: id.to_owned(),
                status: status.to_owned(),
                outcome: outcome.map(str::to_owned),
            },
            vec![],
        );
        self
    }
    fn visit(&mut self, id: &str, status: &str) -> &mut Self {
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
    fn weight(&mut self, id: &str, hours: u64, kg: f64) -> &mut Self {
        let fact = Fact::Observation {
            id: id.to_owned(),
            codes: vec!["29463-7".into()],
            value: Some((kg, "kg".into())),
            at_ms: DISCHARGE + hours * HOUR,
        };
        self.event("Observation/o", fact, vec![]);
        self
    }
    fn log(&self) -> Vec<&str> {
        self.log.iter().map(String::as_str).collect()
    }
    /// The log without the messages by a channel, for tables about something else.
    fn work(&self) -> Vec<&str> {
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

fn facts() -> Start {
    Start {
        patient: "p".into(),
        key: "e1".into(),
        cause: "Encounter/e1".into(),
        number: 10,
        anchors: BTreeMap::from([("discharge".to_owned(), DISCHARGE)]),
        ..Start::default()
    }
}

// Tokens are numbered as they are entered: 1 welcome, 2 follow_up, 3 day_two, 4 visit, 5 day_thirty, ...

#[test]
fn all_goes_well() {
    let mut run = Run::delivered();
    run.until(2 * DAY);
    run.answer(
        "i/6/task",
        json!({"breathless": false, "swelling": false, "dizzy": false}),
    );
    run.visit("i/4/visit", "booked")
        .until(7 * DAY)
        .visit("i/4/visit", "fulfilled");
    run.until(30 * DAY);
    let survey = run
        .log
        .iter()
        .find(|line| line.contains("form survey"))
        .cloned();
    assert!(survey.is_some(), "{:#?}", run.log);
    run.until(30 * DAY + 5 * HOUR);
    let form = run
        .made
        .iter()
        .find(|made| made.ends_with("/task") && made.as_str() > "i/7")
        .cloned()
        .unwrap();
    run.answer(&form, json!({"score": 9, "comment": "good", "unknown": 1}));
    assert_eq!(
        run.log(),
        [
            "0d01h message welcome email",
            "0d01h propose visit",
            "1d19h form symptoms",
            "1d19h invitation symptoms email",
            "2d00h close i/6/task done",
            "29d19h form survey",
            "29d19h invitation survey email",
            "30d05h close i/8/task done",
            "30d05h end finished",
        ]
    );
    assert_eq!(run.state.ending(), Some(("finished", "Completed")));
}

#[test]
fn no_answer_is_reminded_then_called() {
    let mut run = Run::delivered();
    run.until(5 * DAY);
    assert_eq!(
        run.log(),
        [
            "0d01h message welcome email",
            "0d01h propose visit",
            "1d19h form symptoms",
            "1d19h invitation symptoms email",
            "2d19h reminder symptoms email",
            "3d19h task call",
            "4d19h hand over i/7/task to clinician urgent",
            "4d22h cancel i/4/visit",
            "4d22h task visit_task",
        ]
    );
    // The call leads on by its outcome.
    run.task("i/7/task", "completed", Some("worse"));
    assert_eq!(run.log.last().unwrap(), "5d00h task review");
}

#[test]
fn outcomes_of_the_call() {
    for (status, outcome, expected) in [
        ("completed", Some("well"), None),
        ("completed", None, None),
        ("completed", Some("something_else"), None),
        ("completed", Some("not_reached"), Some("task call_again")),
        ("completed", Some("worse"), Some("task review")),
        ("cancelled", None, None),
        ("in-progress", None, None),
    ] {
        let mut run = Run::delivered();
        run.until(4 * DAY);
        let before = run.log.len();
        run.task("i/7/task", status, outcome);
        let fresh: Vec<&str> = run.log[before..]
            .iter()
            .filter_map(|line| line.split_once(' ').map(|(_, what)| what))
            .collect();
        assert_eq!(
            fresh,
            expected.into_iter().collect::<Vec<_>>(),
            "{status} {outcome:?}"
        );
        assert_eq!(
            run.state.at().contains(&"call"),
            status == "in-progress",
            "{status}"
        );
    }
}

#[test]
fn alarming_answers_go_to_a_clinician_at_once() {
    for (answers, alarming) in [
        (
            json!({"breathless": true, "swelling": false, "dizzy": false}),
            true,
        ),
        (
            json!({"breathless": false, "swelling": false, "dizzy": true}),
            true,
        ),
        (
            json!({"breathless": false, "swelling": false, "dizzy": false}),
            false,
        ),
        (json!({}), false),
    ] {
        let mut run = Run::delivered();
        run.until(2 * DAY).answer("i/6/task", answers.clone());
        assert_eq!(
            run.log.iter().any(|line| line == "2d00h task review"),
            alarming,
            "{answers}"
        );
    }
}

#[test]
fn a_late_answer_still_counts() {
    let mut run = Run::delivered();
    run.until(4 * DAY)
        .answer("i/6/task", json!({"breathless": true}));
    assert_eq!(
        run.log[run.log.len() - 2..],
        ["4d00h close i/6/task done", "4d00h task review"]
    );
    assert!(run.state.at().contains(&"call"), "the call is still open");
    let before = run.state.clone();
    run.answer("i/6/task", json!({"breathless": false}));
    assert_eq!(run.state, before, "a second late answer changes nothing");
}

#[test]
fn an_answer_without_its_task_is_known_by_its_questionnaire() {
    let mut run = Run::delivered();
    run.until(2 * DAY);
    run.event(
        "QuestionnaireResponse/r",
        Fact::Answers {
            task: None,
            questionnaire: Some("Questionnaire/symptoms".into()),
            answers: Map::new(),
        },
        vec![],
    );
    assert_eq!(run.log.last().unwrap(), "2d00h close i/6/task done");
}

#[test]
fn a_weight_rise_is_a_task_at_once_and_not_again() {
    let mut run = Run::delivered();
    run.until(DAY).weight("a", 24, 82.0);
    run.until(3 * DAY)
        .weight("b", 72, 84.1)
        .weight("b", 72, 84.1)
        .weight("c", 73, 84.3);
    assert_eq!(
        run.log
            .iter()
            .filter(|line| line.contains("task weight_task"))
            .count(),
        1
    );
    assert!(
        run.log.contains(&"3d00h task weight_task".to_owned()),
        "{:#?}",
        run.log
    );
    // A further rise is another one.
    run.until(4 * DAY).weight("d", 96, 86.5);
    assert_eq!(
        run.log
            .iter()
            .filter(|line| line.contains("task weight_task"))
            .count(),
        2
    );
    // And nobody looks after the thirtieth day.
    run.until(31 * DAY)
        .weight("e", 31 * 24 - 1, 80.0)
        .weight("f", 31 * 24, 90.0);
    assert_eq!(
        run.log
            .iter()
            .filter(|line| line.contains("task weight_task"))
            .count(),
        2
    );
}

#[test]
fn a_baseline_from_before_the_start_counts() {
    let reading = |id: &str, hours_before: u64, kg: f64| Fact::Observation {
        id: id.into(),
        codes: vec!["29463-7".into()],
        value: Some((kg, "kg".into())),
        at_ms: DISCHARGE - hours_before * HOUR,
    };
    // In hospital the weight rose and fell; that is not this journey's matter.
    let start = Start {
        observations: vec![
            reading("x", 60, 80.0),
            reading("y", 30, 85.0),
            reading("z", 10, 82.0),
        ],
        ..facts()
    };
    let mut run = Run::start(heart_failure(), Some(Outcome::Delivered), start);
    assert!(!run.log.iter().any(|line| line.contains("weight_task")));
    run.until(DAY).weight("a", 24, 84.1);
    assert!(
        run.log.contains(&"1d00h task weight_task".to_owned()),
        "{:#?}",
        run.log
    );
}

#[test]
fn channels_fall_back_and_failures_have_a_way_on() {
    let welcome = |email: Option<Outcome>, hours: u64| {
        let mut run = Run::new(email);
        run.until(hours * HOUR);
        run.log
            .iter()
            .filter(|line| line.contains("welcome"))
            .cloned()
            .collect::<Vec<_>>()
    };
    let failed = |code: &str| Some(Outcome::NotDone(code.to_owned()));
    assert_eq!(
        welcome(failed("permanent-failure"), 2),
        [
            "0d01h message welcome email",
            "0d01h message welcome portal"
        ]
    );
    assert_eq!(
        welcome(failed("no-address"), 2),
        [
            "0d01h message welcome email",
            "0d01h message welcome portal"
        ]
    );
    assert_eq!(
        welcome(None, 30),
        [
            "0d01h message welcome email",
            "1d01h message welcome portal"
        ]
    );
    // Without consent no other channel is tried; somebody calls, and the follow-up goes on.
    assert_eq!(
        welcome(failed("consent"), 2),
        ["0d01h message welcome email", "0d01h task welcome_call"]
    );
    let mut run = Run::new(failed("consent"));
    run.until(2 * DAY);
    assert!(
        run.log.contains(&"1d19h form symptoms".to_owned()),
        "{:#?}",
        run.log
    );
}

#[test]
fn a_receipt_counts_once() {
    let mut run = Run::new(None);
    let receipt = |outcome: Outcome| Fact::Message {
        id: "i/1/message/0".into(),
        outcome,
    };
    assert!(!run.event("Communication/c", receipt(Outcome::UnderWay), vec![]));
    assert!(run.event(
        "Communication/c",
        receipt(Outcome::NotDone("permanent-failure".into())),
        vec![]
    ));
    assert!(!run.event(
        "Communication/c",
        receipt(Outcome::NotDone("permanent-failure".into())),
        vec![]
    ));
    assert_eq!(
        run.log
            .iter()
            .filter(|line| line.contains("welcome portal"))
            .count(),
        1
    );
    // The portal has delivered, so what e-mail says later is of no interest.
    assert!(!run.event("Communication/c", receipt(Outcome::Delivered), vec![]));
}

#[test]
fn visits() {
    let after = |acts: &[(u64, &str)], until: u64| {
        let mut run = Run::delivered();
        run.until(2 * DAY).answer("i/6/task", json!({}));
        for (day, status) in acts {
            run.until(day * DAY).visit("i/4/visit", status);
        }
        run.until(until * DAY);
        run.work()
            .into_iter()
            .filter(|line| line.contains("visit"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(after(&[(3, "booked")], 20), ["0d01h propose visit"]);
    assert_eq!(
        after(&[(3, "booked"), (6, "cancelled")], 7),
        ["0d01h propose visit", "6d00h task visit_task"]
    );
    assert_eq!(
        after(&[(3, "cancelled")], 4),
        ["0d01h propose visit", "3d00h task visit_task"]
    );
    assert_eq!(
        after(&[(3, "booked"), (7, "noshow")], 8),
        ["0d01h propose visit", "7d00h task visit_task"]
    );
    assert_eq!(
        after(&[], 6),
        [
            "0d01h propose visit",
            "4d22h cancel i/4/visit",
            "4d22h task visit_task"
        ]
    );
    assert_eq!(after(&[(3, "pending")], 4), ["0d01h propose visit"]);
}

#[test]
fn exits_end_everything() {
    // Conditions of the file, in order: 0 readmission, 1 death.
    for (reference, fact, holds, code) in [
        ("Encounter/e2", Fact::Other, vec![0], "readmission"),
        ("Patient/p", Fact::Other, vec![1], "death"),
        (
            "Consent/c",
            Fact::Consent { permitted: false },
            vec![],
            "consent",
        ),
    ] {
        let mut run = Run::delivered();
        run.until(4 * DAY);
        run.event(reference, fact, holds);
        assert_eq!(run.state.ending().unwrap().0, code);
        assert_eq!(
            run.log[run.log.len() - 4..],
            [
                "4d00h cancel i/4/visit",
                "4d00h close i/7/task cancelled",
                "4d00h close i/6/task cancelled",
                &format!("4d00h end {code}")
            ],
            "{code}"
        );
        assert!(timers(&run.definition, &run.state).is_empty());
        let ended = run.state.clone();
        run.answer("i/6/task", json!({"breathless": true}))
            .weight("a", 90, 80.0)
            .task("i/7/task", "completed", None);
        assert_eq!(run.state, ended, "nothing moves after the end");
    }
    // The stay that started the journey is no readmission, and consent that still holds ends nothing.
    let mut run = Run::delivered();
    assert!(!run.event("Encounter/e1", Fact::Other, vec![0]));
    assert!(!run.event("Consent/c", Fact::Consent { permitted: true }, vec![]));
    assert!(run.state.running());
}

#[test]
fn an_exit_that_holds_already_ends_the_journey_as_it_starts() {
    let run = Run::start(
        heart_failure(),
        None,
        Start {
            exit: Some(("death".into(), "Died".into())),
            ..facts()
        },
    );
    assert_eq!(run.state.ending(), Some(("death", "Died")));
    assert_eq!(run.log, Vec::<String>::new());
}

#[test]
fn the_longest_time_ends_what_is_left() {
    let mut run = Run::delivered();
    run.until(60 * DAY);
    assert_eq!(run.state.ending().unwrap().0, "time_over");
    // Tasks of staff stay: somebody should still call.
    assert!(
        !run.log.iter().any(|line| line.contains("close i/7/task")),
        "{:#?}",
        run.log
    );
}

#[test]
fn a_corrected_discharge_moves_what_waits_for_it() {
    let mut run = Run::delivered();
    let later = BTreeMap::from([("discharge".to_owned(), DISCHARGE + DAY)]);
    assert!(run.event("Encounter/e1", Fact::Anchors(later.clone()), vec![]));
    assert!(!run.event("Encounter/e1", Fact::Anchors(later), vec![]));
    run.until(3 * DAY);
    assert!(
        run.log.contains(&"2d19h form symptoms".to_owned()),
        "{:#?}",
        run.log
    );
    // An earlier one makes what is past due be done at once.
    let mut run = Run::delivered();
    run.until(DAY);
    run.event(
        "Encounter/e1",
        Fact::Anchors(BTreeMap::from([(
            "discharge".to_owned(),
            DISCHARGE - 2 * DAY,
        )])),
        vec![],
    );
    assert!(
        run.log.contains(&"1d00h form symptoms".to_owned()),
        "{:#?}",
        run.log
    );
}

#[test]
fn a_dark_house_catches_up_without_nonsense() {
    // The process was down from the first hour to the tenth day.
    let mut run = Run::delivered();
    run.now = DISCHARGE + 10 * DAY;
    run.input(Input::Timer { read: 0 });
    let log = run.log();
    assert!(log.contains(&"10d00h form symptoms"), "{log:#?}");
    assert!(log.contains(&"10d00h task visit_task"), "{log:#?}");
    assert!(
        !log.iter().any(|line| line.contains("reminder")),
        "{log:#?}"
    );
    // Reminder and end of a form both passed while it was dark: no reminder for what is given up at once.
    run.until(10 * DAY + HOUR);
    run.now = DISCHARGE + 13 * DAY;
    run.input(Input::Timer { read: 0 });
    assert!(
        !run.log.iter().any(|line| line.contains("reminder")),
        "{:#?}",
        run.log
    );
    assert!(
        run.log.contains(&"13d00h task call".to_owned()),
        "{:#?}",
        run.log
    );
}

#[test]
fn a_state_of_another_version_is_refused() {
    let run = Run::delivered();
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../journeys/heart-failure-discharge.yaml"
    );
    let second = Definition::compile(&std::fs::read_to_string(path).unwrap(), 2).unwrap();
    assert!(
        step(
            &second,
            &run.state,
            Input::Timer { read: 0 },
            &Context {
                now_ms: 0,
                instance: "i",
                ids: &Names
            }
        )
        .is_err()
    );
    assert!(State::from_json(br#"{"f":99}"#).is_err());
}

const EVENTS: &str = r"name: events
title: Events
owner: t
purpose: TREAT
at_most: 30d
entry: {event: Encounter, where: status = 'finished', anchors: {discharge: period.end}, within: 3d, per: event}
exits:
  death: {title: Died, event: Patient, where: deceased.exists()}
  consent: {title: Consent withdrawn, consent: withdrawn}
start: first
steps:
  first:
    title: First
    wait: {event: Procedure, at_most: 2d}
    next: second
    not_come: late
  second:
    title: Second
    wait:
      first_of:
        - {event: Procedure, next: end}
        - {for: 3d, next: late}
  late:
    title: Late
    task: {title: Late, reason: r, role: coordinator, due: 1d}
    next: end
    overdue: escalated
  escalated:
    title: Escalated
    task: {title: E, reason: r, role: clinician, due: 1d}
    next: end
    overdue: {role: clinician, priority: stat}
";

#[test]
fn one_event_moves_one_wait() {
    let definition = Definition::compile(EVENTS, 1).unwrap();
    // Conditions: 0 death, 1 first, 2 second.
    let mut run = Run::start(definition.clone(), None, facts());
    run.event("Procedure/p1", Fact::Other, vec![1, 2]);
    assert_eq!(run.state.at(), ["second"]);
    let input = run.inputs.last().unwrap().1.clone();
    assert!(!run.input(input), "the same event again is a repeat");
    run.event("Procedure/p2", Fact::Other, vec![1, 2]);
    assert_eq!(run.state.ending().unwrap().0, "completed");
    // Neither comes in time; the task is handed on to another step, then to another role.
    let mut run = Run::start(definition, None, facts());
    run.until(10 * DAY);
    assert_eq!(
        run.log(),
        [
            "2d01h task late",
            "3d01h close i/2/task cancelled",
            "3d01h task escalated",
            "4d01h hand over i/3/task to clinician stat"
        ]
    );
}

/// What a patient, staff and the world may do, with made-up and repeated ids among them.
#[derive(Debug, Clone)]
enum Act {
    Pass(u64),
    Answer {
        token: u32,
        breathless: bool,
    },
    Task {
        token: u32,
        status: &'static str,
        outcome: Option<&'static str>,
    },
    Visit {
        token: u32,
        status: &'static str,
    },
    Weight {
        id: u8,
        hours: u64,
        kg: f64,
    },
    Receipt {
        token: u32,
        slot: &'static str,
        index: u8,
        outcome: Outcome,
    },
    Discharge(i64),
    Exit(usize),
    Consent(bool),
    Repeat,
}

fn act() -> impl Strategy<Value = Act> {
    let status = prop::sample::select(vec!["completed", "cancelled", "in-progress", "rejected"]);
    let outcome = prop::sample::select(vec![
        None,
        Some("well"),
        Some("worse"),
        Some("not_reached"),
        Some("advised"),
    ]);
    let visit = prop::sample::select(vec![
        "booked",
        "cancelled",
        "fulfilled",
        "noshow",
        "proposed",
    ]);
    let slot = prop::sample::select(vec!["message", "invitation", "reminder"]);
    let receipt = prop::sample::select(vec![
        Outcome::Delivered,
        Outcome::NotDone("no-address".into()),
        Outcome::NotDone("consent".into()),
        Outcome::UnderWay,
    ]);
    prop_oneof![
        8 => (0..96u64).prop_map(|hours| Act::Pass(hours * HOUR)),
        3 => (1..12u32, any::<bool>()).prop_map(|(token, breathless)| Act::Answer { token, breathless }),
        3 => (1..14u32, status, outcome).prop_map(|(token, status, outcome)| Act::Task { token, status, outcome }),
        2 => (3..6u32, visit).prop_map(|(token, status)| Act::Visit { token, status }),
        5 => (0..30u8, 0..900u64, 75.0..95.0f64).prop_map(|(id, hours, kg)| Act::Weight { id, hours, kg }),
        3 => (1..10u32, slot, 0..3u8, receipt).prop_map(|(token, slot, index, outcome)| Act::Receipt { token, slot, index, outcome }),
        1 => (-3..4i64).prop_map(Act::Discharge),
        1 => (0..2usize).prop_map(Act::Exit),
        1 => prop::bool::weighted(0.8).prop_map(Act::Consent),
        3 => Just(Act::Repeat),
    ]
}

impl Run {
    fn act(&mut self, act: &Act) {
        match act.clone() {
            Act::Pass(by) => {
                let since = self.now - DISCHARGE + by;
                self.until(since);
            }
            Act::Answer { token, breathless } => {
                self.answer(
                    &format!("i/{token}/task"),
                    json!({"breathless": breathless}),
                );
            }
            Act::Task {
                token,
                status,
                outcome,
            } => {
                self.task(&format!("i/{token}/task"), status, outcome);
            }
            Act::Visit { token, status } => {
                self.visit(&format!("i/{token}/visit"), status);
            }
            Act::Weight { id, hours, kg } => {
                let hours = hours.min((self.now - DISCHARGE) / HOUR);
                self.weight(&format!("o{id}"), hours, kg);
            }
            Act::Receipt {
                token,
                slot,
                index,
                outcome,
            } => {
                self.event(
                    "Communication/c",
                    Fact::Message {
                        id: format!("i/{token}/{slot}/{index}"),
                        outcome,
                    },
                    vec![],
                );
            }
            Act::Discharge(days) => {
                let at = DISCHARGE.saturating_add_signed(days * DAY as i64);
                self.event(
                    "Encounter/e1",
                    Fact::Anchors(BTreeMap::from([("discharge".to_owned(), at)])),
                    vec![],
                );
            }
            Act::Exit(condition) => {
                self.event(
                    ["Encounter/e2", "Patient/p"][condition],
                    Fact::Other,
                    vec![condition],
                );
            }
            Act::Consent(permitted) => {
                self.event("Consent/c", Fact::Consent { permitted }, vec![]);
            }
            Act::Repeat => {
                let Some(Input::Event(event)) =
                    self.inputs.iter().rev().find_map(|(_, input)| {
                        matches!(input, Input::Event(_)).then(|| input.clone())
                    })
                else {
                    return;
                };
                // The same event of the feed again.
                assert!(
                    !self.input(Input::Event(event.clone())),
                    "a repeat must change nothing: {event:?}"
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nobody_is_ever_stuck(acts in prop::collection::vec(act(), 0..60), email in prop::sample::select(vec![None, Some(Outcome::Delivered), Some(Outcome::NotDone("permanent-failure".into()))])) {
        let mut run = Run::new(email);
        for act in &acts {
            run.act(act);
            // Whoever is under way is waiting for something that has an end.
            prop_assert_eq!(run.state.running(), !timers(&run.definition, &run.state).is_empty());
            prop_assert_eq!(run.state.running(), !run.state.at().is_empty());
        }
        run.until(46 * DAY);
        prop_assert!(!run.state.running(), "{:?}", run.state);
        // The same inputs again lead to the same state: nothing depends on anything else.
        let mut state = Run::new(None).state;
        for (now_ms, input) in &run.inputs {
            state = step(&run.definition, &state, input.clone(), &Context { now_ms: *now_ms, instance: "i", ids: &Names }).unwrap().state;
        }
        prop_assert_eq!(state, run.state);
    }

    #[test]
    fn the_same_fact_again_changes_nothing(acts in prop::collection::vec(act(), 1..40)) {
        let mut run = Run::new(None);
        for act in &acts {
            if matches!(act, Act::Pass(_) | Act::Repeat) {
                run.act(act);
                continue;
            }
            run.act(act);
            let before = run.state.clone();
            // Written again without a change: a new event that says the same.
            run.act(act);
            prop_assert_eq!(&run.state, &before, "{:?}", act);
        }
    }

    #[test]
    fn measurements_fire_whatever_their_order(first in 75.0..80.0f64, rise in 2.1..6.0f64, hours in 1..71u64, swap in any::<bool>()) {
        let mut run = Run::delivered();
        run.until(4 * DAY);
        let mut readings = vec![("a", 20u64, first), ("b", 20 + hours, first + rise)];
        if swap {
            readings.reverse();
        }
        for (id, at, kg) in readings {
            run.weight(id, at, kg);
        }
        prop_assert_eq!(run.log.iter().filter(|line| line.contains("weight_task")).count(), 1);
    }
}
