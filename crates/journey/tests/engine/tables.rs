//! What happens, as tables.

use crate::run::{DAY, DISCHARGE, HOUR, Names, Run, facts, heart_failure};
use journey::{
    Context, Definition, EngineError, Event, Fact, Input, Outcome, Start, State, step, timers,
};
use serde_json::{Map, json};
use std::collections::BTreeMap;

// Tokens are numbered as they are entered: 1 welcome, 2 follow_up, 3 day_two, 4 visit, 5 day_thirty, ...

#[test]
fn all_goes_well() {
    let mut run = Run::delivered();
    run.weighing_until(2 * DAY);
    run.answer(
        "i/7/task",
        json!({"breathless": false, "swelling": false, "dizzy": false}),
    );
    run.visit("i/5/visit", "booked")
        .weighing_until(7 * DAY)
        .visit("i/5/visit", "fulfilled");
    run.weighing_until(30 * DAY);
    let survey = run
        .log
        .iter()
        .find(|line| line.contains("form survey"))
        .cloned();
    assert!(survey.is_some(), "{:#?}", run.log);
    run.weighing_until(30 * DAY + 5 * HOUR);
    let form = run
        .made
        .iter()
        .find(|made| made.ends_with("/task") && made.as_str() > "i/8")
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
            "2d00h close i/7/task done",
            "29d19h form survey",
            "29d19h invitation survey email",
            "30d05h close i/9/task done",
            "30d05h end finished",
        ]
    );
    assert_eq!(run.state.ending(), Some(("finished", "Completed")));
}

#[test]
fn no_answer_is_reminded_then_called() {
    let mut run = Run::delivered();
    run.weighing_until(5 * DAY);
    assert_eq!(
        run.log(),
        [
            "0d01h message welcome email",
            "0d01h propose visit",
            "1d19h form symptoms",
            "1d19h invitation symptoms email",
            "2d19h reminder symptoms email",
            "3d19h task call",
            "4d19h hand over i/8/task to clinician urgent",
            "4d22h cancel i/5/visit",
            "4d22h task visit_task",
        ]
    );
    // The call leads on by its outcome.
    run.task("i/8/task", "completed", Some("worse"));
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
        run.weighing_until(4 * DAY);
        let before = run.log.len();
        run.task("i/8/task", status, outcome);
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
        run.until(2 * DAY).answer("i/7/task", answers.clone());
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
    run.weighing_until(4 * DAY)
        .answer("i/7/task", json!({"breathless": true}));
    assert_eq!(
        run.log[run.log.len() - 2..],
        ["4d00h close i/7/task done", "4d00h task review"]
    );
    assert!(run.state.at().contains(&"call"), "the call is still open");
    let before = run.state.clone();
    run.answer("i/7/task", json!({"breathless": false}));
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
    assert_eq!(run.log.last().unwrap(), "2d00h close i/7/task done");
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
        components: Vec::new(),
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

/// The clock of a scale, or a mistyped month: one reading of the future must not hide those of now.
#[test]
fn a_reading_of_the_future_blinds_no_watch() {
    let reading = |id: &str, hours: u64, kg: f64| Fact::Observation {
        id: id.into(),
        codes: vec!["29463-7".into()],
        value: Some((kg, "kg".into())),
        components: Vec::new(),
        at_ms: DISCHARGE + hours * HOUR,
    };
    let fired = |run: &Run| {
        run.log
            .iter()
            .filter(|line| line.contains("task weight_task"))
            .count()
    };
    // In the record before the start, and within the days that the rule watches.
    let start = Start {
        observations: vec![reading("future", 20 * 24, 80.0)],
        ..facts()
    };
    let mut run = Run::start(heart_failure(), Some(Outcome::Delivered), start);
    run.until(DAY).weight("a", 24, 80.0);
    run.until(2 * DAY).weight("b", 48, 86.0);
    assert_eq!(fired(&run), 1, "{:#?}", run.log);
    // Written while the journey runs.
    let mut run = Run::delivered();
    run.until(DAY)
        .weight("future", 20 * 24, 80.0)
        .weight("a", 24, 80.0);
    run.until(2 * DAY).weight("b", 48, 86.0);
    assert_eq!(fired(&run), 1, "{:#?}", run.log);
    // A reading of now that is dated anew into the future is taken out.
    let mut run = Run::delivered();
    run.until(DAY)
        .weight("a", 24, 80.0)
        .weight("a", 20 * 24, 80.0);
    run.until(2 * DAY).weight("b", 48, 86.0);
    assert_eq!(fired(&run), 0, "{:#?}", run.log);
}

/// What is still in the outbox when nobody needs it any more is called off, and the trail says so.
#[test]
fn messages_under_way_are_called_off() {
    // The journey ends while the welcome waits for a mail server.
    let mut run = Run::new(None);
    run.until(2 * HOUR);
    run.event("Encounter/e2", Fact::Other, vec![0]);
    let mut log = run.log.clone();
    log.sort_unstable();
    assert_eq!(
        log,
        [
            "0d01h message welcome email",
            "0d02h called-off i/1/message/0",
            "0d02h end readmission",
        ]
    );
    assert!(!run.state.running());
    // Delivered is delivered.
    let mut run = Run::delivered();
    run.until(2 * HOUR);
    run.event("Encounter/e2", Fact::Other, vec![0]);
    assert!(
        !run.log.iter().any(|line| line.contains("called-off")),
        "{:#?}",
        run.log
    );
    // An answer makes invitation and reminder useless.
    let mut run = Run::delivered();
    run.until(DAY);
    run.email = None;
    run.until(2 * DAY + 20 * HOUR)
        .answer("i/7/task", json!({"breathless": false}));
    assert_eq!(
        run.log
            .iter()
            .filter(|line| line.contains("called-off"))
            .collect::<Vec<_>>(),
        [
            "2d20h called-off i/7/invitation/0",
            "2d20h called-off i/7/reminder/0"
        ]
    );
    // A channel's time is over.
    let mut run = Run::new(None);
    run.until(26 * HOUR);
    assert!(
        run.log.contains(&"1d01h expired i/1/message/0".to_owned()),
        "{:#?}",
        run.log
    );
}

/// The wrong patient was discharged: the hospital takes the discharge back.
#[test]
fn a_discharge_that_was_none_ends_the_journey() {
    let mut run = Run::delivered();
    run.weighing_until(4 * DAY);
    assert!(run.event("Encounter/e1", Fact::EntryGone, vec![]));
    assert_eq!(
        run.state.ending(),
        Some(("started_in_error", "Started in error"))
    );
    assert!(timers(&run.definition, &run.state).is_empty());
    for closed in ["cancel i/5/visit", "close i/8/task cancelled"] {
        assert!(
            run.log.contains(&format!("4d00h {closed}")),
            "{:#?}",
            run.log
        );
    }
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
    // Who has it in the portal only may not know of the portal, so somebody calls.
    for (email, hours, at) in [
        (failed("permanent-failure"), 2, "0d01h"),
        (failed("no-address"), 2, "0d01h"),
        (None, 30, "1d01h"),
    ] {
        assert_eq!(
            welcome(email, hours),
            [
                "0d01h message welcome email".to_owned(),
                format!("{at} message welcome portal"),
                format!("{at} task welcome_call"),
            ]
        );
    }
    assert_eq!(
        welcome(Some(Outcome::Delivered), 30),
        ["0d01h message welcome email"]
    );
    // Without consent no other channel is tried; somebody calls, and the follow-up goes on. Who can't
    // sign in can't read it in the portal either.
    for code in ["consent", "no-sign-in"] {
        assert_eq!(
            welcome(failed(code), 2),
            ["0d01h message welcome email", "0d01h task welcome_call"],
            "{code}"
        );
    }
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
        run.until(2 * DAY).answer("i/7/task", json!({}));
        for (day, status) in acts {
            run.until(day * DAY).visit("i/5/visit", status);
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
            "4d22h cancel i/5/visit",
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
            Fact::Consent {
                permitted: false,
                next_ms: None,
            },
            vec![],
            "consent",
        ),
    ] {
        let mut run = Run::delivered();
        run.weighing_until(4 * DAY);
        run.event(reference, fact, holds);
        assert_eq!(run.state.ending().unwrap().0, code);
        assert_eq!(
            run.log[run.log.len() - 4..],
            [
                "4d00h cancel i/5/visit",
                "4d00h close i/8/task cancelled",
                "4d00h close i/7/task cancelled",
                &format!("4d00h end {code}")
            ],
            "{code}"
        );
        assert!(timers(&run.definition, &run.state).is_empty());
        let ended = run.state.clone();
        run.answer("i/7/task", json!({"breathless": true}))
            .weight("a", 90, 80.0)
            .task("i/8/task", "completed", None);
        assert_eq!(run.state, ended, "nothing moves after the end");
    }
    // The stay that started the journey is no readmission, and consent that still holds ends nothing.
    let mut run = Run::delivered();
    assert!(!run.event("Encounter/e1", Fact::Other, vec![0]));
    assert!(!run.event(
        "Consent/c",
        Fact::Consent {
            permitted: true,
            next_ms: None
        },
        vec![]
    ));
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
    run.weighing_until(60 * DAY);
    assert_eq!(run.state.ending().unwrap().0, "time_over");
    // Tasks of staff stay: somebody should still call.
    assert!(
        !run.log.iter().any(|line| line.contains("close i/8/task")),
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
fn what_comes_for_a_step_that_is_not_there_is_refused() {
    let mut run = Run::delivered();
    run.until(DAY);
    let mut stored: serde_json::Value = serde_json::from_slice(&run.state.to_json()).unwrap();
    stored["t"][0]["s"] = json!("elsewhere");
    let state = State::from_json(&serde_json::to_vec(&stored).unwrap()).unwrap();
    let id = "i/1/task".to_owned();
    let facts = [
        Input::Receipt {
            communication: "i/1/message/0".into(),
            outcome: Outcome::Delivered,
        },
        Input::Event(Event {
            number: 99,
            reference: format!("Task/{id}"),
            fact: Fact::Task {
                id,
                status: "completed".into(),
                outcome: None,
                by: None,
            },
            holds: Vec::new(),
        }),
    ];
    let context = Context {
        now_ms: run.now,
        instance: "i",
        ids: &Names,
        limited: false,
    };
    for input in facts {
        let refused =
            step(&heart_failure(), &state, input, &context).map(|decision| decision.changed);
        assert_eq!(refused, Err(EngineError::NoStep("elsewhere".into())));
    }
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
                ids: &Names,
                limited: false,
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
