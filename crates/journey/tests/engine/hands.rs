//! What people do by hand: a journey that is held and goes on, and patients who are led elsewhere.

use crate::kinds::compiled;
use crate::run::{DAY, DISCHARGE, HOUR, Run, facts};
use journey::{Act, Definition, Fact, Outcome, timers};
use serde_json::json;
use std::sync::Arc;

const SEND: &str = "  first:
    title: Hello
    send: {title: Hello, words: Hello., channels: [email, portal], expires: 24h}
    next: pause
    on_failure: end
  pause: {title: Pause, wait: {for: 1d}, next: end}
";
const ASK: &str = "  first:
    title: How are you?
    ask:
      title: How are you?
      words: Please answer.
      questions: [{id: well, text: Well?, type: yes-no}]
      remind_after: 1d
      give_up_after: 2d
    answered: call
    no_answer: alarm
  call: {title: Call, task: {title: Call, reason: Because., role: coordinator, due: 2d}, next: end, overdue: {role: clinician, priority: urgent}}
  alarm: {title: Alarm, task: {title: Alarm, reason: Because., role: coordinator, due: 2d, outcomes: {reached: end}}, next: pause, overdue: end}
  pause: {title: Pause, wait: {for: 1d}, next: end}
";
const WAIT: &str = "  first: {title: Pause, wait: {for: 1d}, next: stay}
  stay: {title: Stay, wait: {event: Encounter, at_most: 20d}, next: again, not_come: none}
  again: {title: Pause, wait: {for: 1d}, next: end}
  none: {title: Pause, wait: {for: 1d}, next: end}
";
const TASK: &str = "  first:
    title: Call
    task: {title: Call, reason: Because., role: coordinator, due: 1d, outcomes: {reached: visit}}
    next: end
    overdue: {role: clinician, priority: urgent}
  visit:
    title: Visit
    book: {title: Visit, time: discharge + 10d at 10:00, minutes: 30, book_by: discharge + 5d at 12:00}
    next: end
    not_booked: pause
  pause: {title: Pause, wait: {for: 1d}, next: end}
";
const PARALLEL: &str = "  first: {title: Both, parallel: {branches: [short, long]}, next: after}
  short: {title: Short, wait: {for: 1d}, next: more}
  more: {title: More, wait: {for: 1d}, next: end}
  long: {title: Long, wait: {for: 3d}, next: end}
  after: {title: After, wait: {for: 1d}, next: end}
";
/// What staff choose from is called as a squad likes, as the way of a reply is in a form.
const CHOSEN: &str = "  first: {title: Both, parallel: {branches: [call, long]}, next: after}
  call:
    title: Call
    task: {title: Call, reason: Because., role: coordinator, due: 2d, outcomes: {unclear: more}}
    next: end
    overdue: end
  more: {title: More, wait: {for: 1d}, next: end}
  long: {title: Long, wait: {for: 3d}, next: end}
  after: {title: After, wait: {for: 1d}, next: end}
";
const REPEAT: &str = "  first: {title: Daily, repeat: {body: call, times: 5, pause: 1d}, next: after}
  call: {title: Call, task: {title: Call, reason: Because., role: coordinator, due: 2d}, next: end, overdue: end}
  after: {title: After, wait: {for: 1d}, next: end}
";
const RULES: &str = "  watch:
    title: Weight
    observe: {code: 29463-7, unit: kg, rises_more_than: 2, within: 3d, quiet_for: 1h}
    then: weight
  weight: {title: Weight, task: {title: Weight, reason: Because., role: coordinator, due: 9d}, next: end, overdue: end}
  first: {title: Pause, wait: {for: 1d}, next: looks}
  looks: {title: Insured?, check: {coverage: active}, yes: drawn, no: drawn}
  drawn:
    title: Drawn
    split: {arms: [{id: one, weight: 50, next: choice}, {id: two, weight: 50, next: choice}]}
  choice: {title: Choice, branch: {cases: [{when: looks.holds = true, next: long}], otherwise: long}}
  long: {title: Long, wait: {for: 30d}, next: done}
  done: {title: Done, exit: {reason: Completed}}
";

fn begin(steps: &str, email: Option<Outcome>) -> Run {
    Run::start(compiled(steps), email, facts())
}

/// Held at once, for as long; what was said of it then begins with the log from there.
fn held(run: &mut Run, days: u64) {
    assert_eq!(run.hand(Act::Pause), Ok(true));
    run.log.clear();
    run.until(days * DAY);
    assert_eq!(run.log(), [""; 0], "nothing happens while it is held");
    assert!(timers(&run.definition, &run.state).is_empty());
}

fn goes_on(run: &mut Run) -> Vec<String> {
    assert_eq!(run.hand(Act::Resume), Ok(true));
    std::mem::take(&mut run.log)
}

#[test]
fn a_message_that_has_not_left_is_held_and_goes_out_later() {
    let mut run = begin(SEND, None);
    run.hand(Act::Pause).unwrap();
    assert_eq!(
        run.log(),
        ["0d01h message first email", "0d01h hold i/1/message/0"]
    );
    run.log.clear();
    run.until(4 * DAY);
    assert_eq!(run.log(), [""; 0]);
    // It has its time anew: the pause is no fault of the channel.
    assert_eq!(goes_on(&mut run), ["4d00h release i/1/message/0"]);
    run.until(5 * DAY - HOUR);
    assert_eq!(run.log(), [""; 0]);
    run.until(5 * DAY);
    assert_eq!(
        run.log(),
        ["5d00h expired i/1/message/0", "5d00h message first portal"]
    );
}

#[test]
fn a_message_that_fails_while_it_is_held_tries_the_next_channel_later() {
    let mut run = begin(SEND, None);
    held(&mut run, 2);
    let fact = Fact::Message {
        id: "i/1/message/0".into(),
        outcome: Outcome::NotDone("permanent-failure".into()),
    };
    run.event("Communication/c", fact, vec![]);
    assert_eq!(run.log(), [""; 0]);
    assert_eq!(goes_on(&mut run), ["2d00h message first portal"]);
    assert_eq!(run.state.at(), ["pause"]);
}

#[test]
fn a_message_that_had_left_is_taken_note_of_and_its_step_left_later() {
    let mut run = begin(SEND, None);
    held(&mut run, 2);
    let fact = Fact::Message {
        id: "i/1/message/0".into(),
        outcome: Outcome::Delivered,
    };
    run.event("Communication/c", fact, vec![]);
    assert_eq!(run.state.at(), [""; 0]);
    assert_eq!(goes_on(&mut run), [""; 0]);
    assert_eq!(run.state.at(), ["pause"]);
    // A day since it was begun, and not since the message.
    run.until(3 * DAY - HOUR);
    assert!(run.state.running());
    run.until(3 * DAY);
    assert!(!run.state.running());
}

#[test]
fn a_form_stays_open_and_its_answer_is_taken_in_at_once() {
    let mut run = begin(ASK, Some(Outcome::Delivered));
    held(&mut run, 1);
    run.answer("i/1/task", json!({"well": true}));
    assert_eq!(run.log(), ["1d00h close i/1/task done"]);
    run.log.clear();
    run.until(9 * DAY);
    assert_eq!(goes_on(&mut run), ["9d00h task call"]);
}

#[test]
fn a_form_without_an_answer_is_given_up_once_and_not_reminded_of() {
    let mut run = begin(ASK, Some(Outcome::Delivered));
    held(&mut run, 9);
    assert_eq!(
        goes_on(&mut run),
        ["9d00h close i/1/task cancelled", "9d00h task alarm"]
    );
    assert_eq!(run.state.at(), ["alarm"]);
}

#[test]
fn a_form_that_is_not_late_yet_is_reminded_of() {
    let mut run = begin(ASK, Some(Outcome::Delivered));
    run.hand(Act::Pause).unwrap();
    run.until(DAY + 12 * HOUR);
    run.log.clear();
    assert_eq!(goes_on(&mut run), ["1d12h reminder first email"]);
}

#[test]
fn waits_are_over_once_however_late() {
    let mut run = begin(WAIT, None);
    held(&mut run, 9);
    goes_on(&mut run);
    assert_eq!(run.state.at(), ["stay"]);
}

#[test]
fn what_a_step_waits_for_that_was_put_off_is_remembered_for_it() {
    // The condition of the wait is the third, behind those of the two exits that look at events.
    let condition = 1;
    let mut run = begin(WAIT, None);
    run.until(DAY + 2 * HOUR);
    assert_eq!(run.state.at(), ["stay"]);
    held(&mut run, 3);
    assert!(run.event("Encounter/e2", Fact::Other, vec![condition]));
    assert_eq!(run.state.at(), [""; 0]);
    goes_on(&mut run);
    assert_eq!(run.state.at(), ["again"]);

    // Before the step was put off nobody would have waited for it.
    let mut run = begin(WAIT, None);
    held(&mut run, 3);
    assert!(!run.event("Encounter/e2", Fact::Other, vec![condition]));
    goes_on(&mut run);
    assert_eq!(run.state.at(), ["stay"]);
    // Sent to the wait by hand while it is held, it is met by what comes from then on.
    run.hand(Act::Pause).unwrap();
    let jump = Act::Jump {
        from: None,
        to: "stay".into(),
    };
    run.hand(jump).unwrap();
    assert!(run.event("Encounter/e3", Fact::Other, vec![condition]));
    goes_on(&mut run);
    assert_eq!(run.state.at(), ["again"]);
}

#[test]
fn a_task_that_is_done_leads_on_later_and_one_that_is_overdue_is_handed_over_then() {
    let mut run = begin(TASK, None);
    held(&mut run, 3);
    run.task("i/1/task", "completed", Some("reached"));
    assert_eq!(goes_on(&mut run), ["3d00h propose visit"]);

    let mut run = begin(TASK, None);
    held(&mut run, 3);
    assert_eq!(
        goes_on(&mut run),
        ["3d00h hand over i/1/task to clinician urgent"]
    );
    assert_eq!(run.state.at(), ["first"]);
}

#[test]
fn a_visit_is_booked_while_it_is_held_and_an_unbooked_one_taken_back_later() {
    for (booked, expected) in [(true, &[][..]), (false, &["8d00h cancel i/2/visit"])] {
        let mut run = begin(TASK, None);
        run.task("i/1/task", "completed", Some("reached"));
        held(&mut run, 8);
        if booked {
            run.visit("i/2/visit", "booked");
        }
        assert_eq!(goes_on(&mut run), expected);
        assert_eq!(run.state.at(), [if booked { "visit" } else { "pause" }]);
    }
}

#[test]
fn branches_join_later() {
    let mut run = begin(PARALLEL, None);
    held(&mut run, 9);
    goes_on(&mut run);
    // Both waits were over; the short branch begins its second one now.
    assert_eq!(run.state.at(), ["first", "more"]);
    held(&mut run, 12);
    goes_on(&mut run);
    assert_eq!(run.state.at(), ["after"]);
}

#[test]
fn rounds_that_were_missed_are_one() {
    let mut run = begin(REPEAT, None);
    run.task("i/2/task", "completed", None);
    held(&mut run, 9);
    assert_eq!(goes_on(&mut run), ["9d00h task call"]);
    // The last thing of a round, done while it is held, ends the round later.
    held(&mut run, 10);
    run.task("i/3/task", "completed", None);
    assert_eq!(run.state.at(), ["first"]);
    assert_eq!(goes_on(&mut run), [""; 0]);
    run.until(11 * DAY);
    assert_eq!(run.log(), ["11d00h task call"]);
}

#[test]
fn rules_go_on_watching_and_begin_what_follows_once() {
    let mut run = begin(RULES, None);
    run.hand(Act::Pause).unwrap();
    run.weight("a", 1, 80.0).weight("b", 2, 83.0);
    run.until(DAY);
    run.weight("c", 24, 86.0);
    run.until(2 * DAY);
    assert_eq!(run.log(), [""; 0]);
    assert_eq!(goes_on(&mut run), ["2d00h task weight", "2d00h look looks"]);
    assert_eq!(run.state.at(), ["long", "weight"]);
}

#[test]
fn a_denial_and_an_exit_end_a_journey_that_is_held() {
    let denied = Fact::Consent {
        permitted: false,
        next_ms: None,
    };
    for (fact, holds, code) in [(denied, vec![], "consent"), (Fact::Other, vec![0], "death")] {
        let mut run = begin(TASK, None);
        held(&mut run, 3);
        run.event("Consent/c", fact, holds);
        assert_eq!(
            run.log(),
            [
                "3d00h close i/1/task cancelled".to_owned(),
                format!("3d00h end {code}")
            ]
        );
        assert_eq!(run.hand(Act::Resume), Ok(false), "it has ended");
    }
}

#[test]
fn its_longest_time_ends_it_when_it_goes_on() {
    let mut run = begin(WAIT, None);
    held(&mut run, 80);
    assert_eq!(goes_on(&mut run), ["80d00h end time_over"]);
}

/// Whether an event that a wait may be for is refused, because no more can be remembered.
fn is_full(run: &Run) -> bool {
    let event = journey::Event {
        number: 999,
        reference: "Encounter/e".into(),
        fact: Fact::Other,
        holds: vec![1],
    };
    let context = journey::Context {
        now_ms: run.now,
        instance: "i",
        ids: &crate::run::Names,
        limited: false,
    };
    let input = journey::Input::Event(event);
    match journey::step(&run.definition, &run.state, input, &context) {
        Err(error) => {
            assert_eq!(error, journey::EngineError::Full);
            true
        }
        Ok(_) => false,
    }
}

#[test]
fn more_than_can_be_remembered_is_refused_and_not_forgotten() {
    // Two waits for different things in turn, neither of which has begun.
    let steps = WAIT.replace(
        "wait: {for: 1d}, next: end}\n  none",
        "wait: {event: Observation, at_most: 20d}, next: end, not_come: end}\n  none",
    );
    let mut run = begin(&steps, None);
    run.hand(Act::Pause).unwrap();
    run.hand(Act::Skip { n: 1, way: 0 }).unwrap();
    for turn in 0..32 {
        for condition in [1, 2] {
            assert!(
                run.event("Encounter/e", Fact::Other, vec![condition]),
                "{turn}"
            );
        }
    }
    assert!(is_full(&run));
    goes_on(&mut run);
    assert!(!run.state.running(), "{:?}", run.state.at());
}

/// Two waits for the same in turn, beside a branch of their own.
const TWICE: &str = "  first: {title: Both, parallel: {branches: [one, other]}, next: end}
  one: {title: One, wait: {event: Encounter, at_most: 20d}, next: two, not_come: end}
  two: {title: Two, wait: {event: Encounter, at_most: 20d}, next: three, not_come: end}
  three: {title: Three, wait: {event: Encounter, at_most: 20d}, next: stay, not_come: end}
  other: {title: Other, wait: {for: 1d}, next: late}
  late: {title: Late, wait: {event: Encounter, at_most: 20d}, next: stay, not_come: end}
  stay: {title: Stay, wait: {for: 30d}, next: end}
";

#[test]
fn one_event_in_a_hold_leads_through_one_wait_and_two_equal_ones_through_two() {
    // Each wait has a condition of its own, and a visit fulfils them all.
    let arrive = |run: &mut Run| run.event("Encounter/e", Fact::Other, vec![1, 2, 3, 4]);
    for (events, at) in [
        (0, ["first", "one", "late"]),
        (1, ["first", "two", "stay"]),
        (2, ["first", "three", "stay"]),
        (3, ["first", "stay", "stay"]),
    ] {
        // As it is without a hold, and with one in which the other branch has been put off before.
        for is_held in [false, true] {
            let mut run = begin(TWICE, None);
            run.until(DAY - HOUR);
            if is_held {
                run.hand(Act::Pause).unwrap();
                run.hand(Act::Skip { n: 3, way: 0 }).unwrap();
            } else {
                run.until(DAY + HOUR);
            }
            for _ in 0..events {
                assert!(arrive(&mut run));
            }
            if is_held {
                run.until(DAY + HOUR);
                goes_on(&mut run);
            }
            let mut found = run.state.at();
            found.sort_unstable();
            let mut at = at.to_vec();
            at.sort_unstable();
            at.dedup();
            found.dedup();
            assert_eq!(found, at, "{events} events, held: {is_held}");
        }
    }
}

#[test]
fn a_jump_in_a_hold_that_is_taken_back_forgets_nothing_that_came() {
    let condition = 1;
    let mut run = begin(WAIT, None);
    run.hand(Act::Pause).unwrap();
    // The wait for a visit is put off, and a visit comes.
    run.hand(Act::Skip { n: 1, way: 0 }).unwrap();
    assert!(run.event("Encounter/e", Fact::Other, vec![condition]));
    let jump = |to: &str| Act::Jump {
        from: None,
        to: to.into(),
    };
    run.hand(jump("none")).unwrap();
    run.hand(Act::Undo).unwrap();
    goes_on(&mut run);
    assert_eq!(run.state.at(), ["again"]);
    // What somebody is sent to isn't met by what came before.
    let mut run = begin(WAIT, None);
    run.hand(Act::Pause).unwrap();
    run.hand(Act::Skip { n: 1, way: 0 }).unwrap();
    assert!(run.event("Encounter/e", Fact::Other, vec![condition]));
    run.hand(jump("stay")).unwrap();
    goes_on(&mut run);
    assert_eq!(run.state.at(), ["stay"]);
}

#[test]
fn events_from_before_all_that_waits_now_make_room() {
    let mut run = begin(WAIT, None);
    run.hand(Act::Pause).unwrap();
    run.hand(Act::Skip { n: 1, way: 0 }).unwrap();
    for _ in 0..64 {
        assert!(run.event("Encounter/e", Fact::Other, vec![1]));
    }
    // Sent to the wait anew, and that confirmed by going on with it: none of these is for it.
    let jump = Act::Jump {
        from: None,
        to: "stay".into(),
    };
    run.hand(jump).unwrap();
    assert!(is_full(&run), "what could be taken back is kept");
    let moved = Fact::Anchors([("discharge".to_owned(), DISCHARGE + HOUR)].into());
    assert!(run.event("Encounter/discharge", moved, vec![]));
    assert!(!is_full(&run), "nobody can take it back any more");
}

#[test]
fn a_date_that_passes_in_a_hold_goes_as_one_that_is_past() {
    let steps = |past_due: &str| {
        format!(
            "  first:
    title: Until the third day
    wait: {{until: discharge + 3d at 09:00, past_due: {past_due}}}
    next: on_time{}
  on_time: {{title: On time, wait: {{for: 9d}}, next: end}}
  too_late: {{title: Too late, task: {{title: Too late, reason: Because., role: coordinator, due: 9d}}, next: end, overdue: end}}
",
            if past_due == "run" { "" } else { "\n    past: too_late" }
        )
    };
    for (past_due, at) in [
        ("run", "on_time"),
        ("skip", "too_late"),
        ("escalate", "too_late"),
    ] {
        let steps = steps(past_due);
        let steps = if past_due == "run" {
            steps.split("  too_late").next().unwrap().to_owned()
        } else {
            steps
        };
        let mut run = begin(&steps, None);
        run.until(DAY);
        run.hand(Act::Pause).unwrap();
        run.until(2 * DAY);
        goes_on(&mut run);
        assert_eq!(
            run.state.at(),
            ["first"],
            "a hold before it changes nothing"
        );
        run.hand(Act::Pause).unwrap();
        run.until(5 * DAY);
        goes_on(&mut run);
        assert_eq!(run.state.at(), [at], "{past_due}");
        // Without a hold it is gone by `next` when it comes.
        let mut run = begin(&steps, None);
        run.until(5 * DAY);
        assert_eq!(run.state.at(), ["on_time"], "{past_due}");
    }
}

#[test]
fn a_form_skipped_as_answered_is_answered_for_who_waits_for_it() {
    let steps = "  first: {title: Both, parallel: {branches: [form, waits]}, next: end}
  form:
    title: How are you?
    ask:
      title: How are you?
      words: Please answer.
      questions: [{id: well, text: Well?, type: yes-no}]
      give_up_after: 2d
    answered: stay
    no_answer: stay
  waits: {title: Waits, wait: {answer: form, at_most: 9d}, next: told, not_come: end}
  told: {title: Told, wait: {for: 20d}, next: end}
  stay: {title: Stay, wait: {for: 20d}, next: end}
";
    for (way, at) in [
        (0, ["first", "stay", "told"]),
        (1, ["first", "stay", "waits"]),
    ] {
        let mut run = begin(steps, Some(Outcome::Delivered));
        run.hand(Act::Skip { n: 2, way }).unwrap();
        let mut found = run.state.at();
        found.sort_unstable();
        assert_eq!(found, at, "{way}");
    }
}

#[test]
fn held_and_let_go_on_at_once_nothing_is_another() {
    for (steps, email) in [
        (SEND, None),
        (ASK, None),
        (WAIT, None),
        (TASK, None),
        (PARALLEL, None),
        (REPEAT, None),
        (RULES, None),
    ] {
        let mut run = begin(steps, email);
        let timers_before = timers(&run.definition, &run.state);
        let at: Vec<String> = run.state.at().into_iter().map(str::to_owned).collect();
        let on_the_way = run.on_the_way.clone();
        run.hand(Act::Pause).unwrap();
        assert!(run.hand(Act::Pause).unwrap_err().contains("held already"));
        run.hand(Act::Resume).unwrap();
        assert!(run.hand(Act::Resume).unwrap_err().contains("not held"));
        assert_eq!(timers(&run.definition, &run.state), timers_before);
        assert_eq!(run.state.at(), at);
        assert_eq!(run.on_the_way, on_the_way);
    }
}

/// Skips the first place by each way there, and says where that leads and what comes of it.
fn skips(steps: &str, before: fn(&mut Run)) -> Vec<(Vec<String>, Vec<String>)> {
    (0..)
        .map_while(|way| {
            let mut run = begin(steps, None);
            before(&mut run);
            run.log.clear();
            let n = 1;
            match run.hand(Act::Skip { n, way }) {
                Ok(changed) => assert!(changed),
                Err(why) => {
                    assert!(why.contains("no such way"), "{why}");
                    return None;
                }
            }
            let at = run.state.at().into_iter().map(str::to_owned).collect();
            Some((at, run.log))
        })
        .collect()
}

#[test]
fn places_are_skipped_by_each_way_that_they_have() {
    let nothing: fn(&mut Run) = |_| {};
    let round: fn(&mut Run) = |run| {
        run.task("i/2/task", "completed", None);
    };
    for (steps, before, expected) in [
        (
            SEND,
            nothing,
            vec![
                ("pause", vec!["called-off i/1/message/0"]),
                ("", vec!["called-off i/1/message/0", "end completed"]),
            ],
        ),
        (
            ASK,
            nothing,
            vec![
                (
                    "call",
                    vec![
                        "called-off i/1/invitation/0",
                        "close i/1/task cancelled",
                        "task call",
                    ],
                ),
                (
                    "alarm",
                    vec![
                        "called-off i/1/invitation/0",
                        "close i/1/task cancelled",
                        "task alarm",
                    ],
                ),
            ],
        ),
        (WAIT, nothing, vec![("stay", vec![])]),
        (
            TASK,
            nothing,
            vec![
                ("visit", vec!["close i/1/task cancelled", "propose visit"]),
                ("", vec!["close i/1/task cancelled", "end completed"]),
            ],
        ),
        // What waits for others is not skipped; they are.
        (PARALLEL, nothing, vec![]),
        (REPEAT, nothing, vec![]),
        (
            REPEAT,
            round,
            vec![("call first", vec!["task call"]), ("after", vec![])],
        ),
        (RULES, nothing, vec![("long", vec!["look looks"])]),
    ] {
        let found = skips(steps, before);
        let strip = |line: &String| line.split_once(' ').unwrap().1.to_owned();
        let found: Vec<(String, Vec<String>)> = found
            .iter()
            .map(|(at, log)| (at.join(" "), log.iter().map(strip).collect()))
            .collect();
        let expected: Vec<(String, Vec<String>)> = expected
            .into_iter()
            .map(|(at, log)| (at.to_owned(), log.into_iter().map(str::to_owned).collect()))
            .collect();
        // Effects are worked on one after the other, what follows from one before the next.
        let sorted = |mut rows: Vec<(String, Vec<String>)>| {
            rows.iter_mut().for_each(|(_, log)| log.sort());
            rows
        };
        assert_eq!(sorted(found), sorted(expected), "{steps}");
    }
}

#[test]
fn what_a_skip_says_was_done_is_learnt() {
    let steps = TASK
        .replace("next: end\n    overdue", "next: told\n    overdue")
        .replace("{reached: visit}", "{reached: told}")
        + "  told: {title: Told, branch: {cases: [{when: first.outcome = 'reached', next: visit}], otherwise: pause}}\n";
    for (way, at) in [(0, "visit"), (1, "pause")] {
        let mut run = begin(&steps, None);
        run.hand(Act::Skip { n: 1, way }).unwrap();
        assert_eq!(run.state.at(), [at]);
    }
}

#[test]
fn patients_are_sent_where_their_place_allows() {
    let jump = |from, to: &str| Act::Jump {
        from,
        to: to.to_owned(),
    };
    for (steps, act, expected) in [
        (ASK, jump(None, "pause"), Ok("pause")),
        (ASK, jump(Some(1), "pause"), Ok("pause")),
        (ASK, jump(Some(9), "pause"), Err("not there any more")),
        (ASK, jump(None, "nowhere"), Err("no such step")),
        // Into branches only as a whole, and within one.
        (PARALLEL, jump(None, "more"), Err("only gone through whole")),
        (PARALLEL, jump(Some(2), "more"), Ok("first long more")),
        (PARALLEL, jump(Some(2), "long"), Ok("first long")),
        (CHOSEN, jump(None, "more"), Err("only gone through whole")),
        (CHOSEN, jump(Some(2), "more"), Ok("first long more")),
        (
            PARALLEL,
            jump(Some(2), "after"),
            Err("only gone through whole"),
        ),
        (
            PARALLEL,
            jump(Some(1), "more"),
            Err("only gone through whole"),
        ),
        (PARALLEL, jump(Some(1), "after"), Ok("after")),
        (PARALLEL, jump(None, "after"), Ok("after")),
        (PARALLEL, jump(None, "first"), Ok("first long short")),
        (REPEAT, jump(None, "call"), Err("only gone through whole")),
        (REPEAT, jump(None, "after"), Ok("after")),
        (RULES, jump(None, "watch"), Err("it watches")),
        // What a rule starts is a branch of its own.
        (RULES, jump(None, "weight"), Ok("weight")),
        (RULES, jump(None, "done"), Ok("")),
    ] {
        let mut run = begin(steps, None);
        match (run.hand(act.clone()), expected) {
            (Ok(true), Ok(at)) => assert_eq!(run.state.at().join(" "), at, "{act:?}"),
            (Err(why), Err(words)) => assert!(why.contains(words), "{why}"),
            (found, expected) => panic!("{act:?}: {found:?}, not {expected:?}"),
        }
    }
    // The branch that stays joins the one that was led on.
    let mut run = begin(PARALLEL, None);
    run.hand(jump(Some(2), "more")).unwrap();
    run.until(4 * DAY);
    assert_eq!(run.state.at(), ["after"]);
}

#[test]
fn while_it_is_held_a_patient_is_led_elsewhere_and_nothing_of_before_happens() {
    let mut run = begin(ASK, Some(Outcome::Delivered));
    held(&mut run, 9);
    run.hand(Act::Jump {
        from: None,
        to: "pause".into(),
    })
    .unwrap();
    assert_eq!(run.log(), ["9d00h close i/1/task cancelled"]);
    run.log.clear();
    // And elsewhere again: only the last counts.
    run.hand(Act::Jump {
        from: None,
        to: "call".into(),
    })
    .unwrap();
    assert_eq!(goes_on(&mut run), ["9d00h task call"]);
    assert_eq!(run.state.at(), ["call"]);
}

#[test]
fn a_step_is_begun_anew() {
    let mut run = begin(ASK, None);
    run.until(DAY - HOUR);
    run.log.clear();
    run.hand(Act::Retry { n: 1 }).unwrap();
    assert_eq!(
        run.work(),
        [
            "0d23h called-off i/1/invitation/0",
            "0d23h close i/1/task cancelled",
            "0d23h form first"
        ]
    );
    // With all its time.
    run.until(2 * DAY + 20 * HOUR);
    assert_eq!(run.state.at(), ["first"]);
}

#[test]
fn the_last_act_is_taken_back_while_nothing_has_come_of_it() {
    let skip = Act::Skip { n: 1, way: 0 };
    // A wait goes on as it was, with its time.
    let mut run = begin(WAIT, None);
    run.until(20 * HOUR);
    run.hand(skip.clone()).unwrap();
    assert_eq!(run.state.at(), ["stay"]);
    run.hand(Act::Undo).unwrap();
    assert_eq!(run.state.at(), ["first"]);
    assert!(
        run.hand(Act::Undo)
            .unwrap_err()
            .contains("nothing was skipped")
    );
    run.until(DAY + HOUR);
    assert_eq!(run.state.at(), ["stay"]);

    // A task is opened anew, and what the skip said was done isn't learnt any more.
    let mut run = begin(TASK, None);
    run.hand(skip.clone()).unwrap();
    run.log.clear();
    run.hand(Act::Undo).unwrap();
    assert_eq!(run.log(), ["0d01h cancel i/2/visit", "0d01h task first"]);
    assert!(
        !String::from_utf8(run.state.to_json())
            .unwrap()
            .contains("outcome\":\"reached")
    );

    // Branches stand as they stood.
    let mut run = begin(PARALLEL, None);
    run.hand(Act::Jump {
        from: None,
        to: "after".into(),
    })
    .unwrap();
    run.hand(Act::Undo).unwrap();
    assert_eq!(run.state.at(), ["first", "long", "short"]);
    run.until(3 * DAY + HOUR);
    assert_eq!(run.state.at(), ["after"]);

    // While it is held too, and then nothing has happened at all.
    let mut run = begin(WAIT, None);
    run.hand(Act::Pause).unwrap();
    run.hand(skip.clone()).unwrap();
    run.hand(Act::Undo).unwrap();
    goes_on(&mut run);
    assert_eq!(run.state.at(), ["first"]);
}

#[test]
fn what_has_come_of_an_act_is_not_taken_back() {
    // Something has happened since.
    let mut run = begin(ASK, Some(Outcome::Delivered));
    run.hand(Act::Skip { n: 1, way: 0 }).unwrap();
    run.until(4 * DAY);
    assert!(run.hand(Act::Undo).unwrap_err().contains("moved on since"));
    // A message lies in the portal: whoever opens it has read it.
    let steps = format!(
        "  first: {{title: Pause, wait: {{for: 1d}}, next: hello}}\n{}",
        SEND.replace("first:", "hello:")
            .replace("[email, portal]", "[portal]")
    );
    let mut run = begin(&steps, None);
    run.hand(Act::Skip { n: 1, way: 0 }).unwrap();
    assert!(
        run.hand(Act::Undo).unwrap_err().contains("portal"),
        "{:?}",
        run.log
    );
    // One by e-mail is called off, which whoever asks for it makes sure of.
    let mut run = begin(&steps.replace("[portal]", "[email]"), None);
    run.hand(Act::Skip { n: 1, way: 0 }).unwrap();
    run.hand(Act::Undo).unwrap();
    assert_eq!(run.log.last().unwrap(), "0d01h called-off i/2/message/0");
    assert_eq!(run.state.at(), ["first"]);
}

#[test]
fn a_batch_that_was_here_before_changes_nothing() {
    let mut run = begin(WAIT, None);
    assert_eq!(
        run.hand_of(Act::Skip { n: 1, way: 0 }, Some("b1")),
        Ok(true)
    );
    let before = run.state.clone();
    assert_eq!(
        run.hand_of(Act::Skip { n: 1, way: 0 }, Some("b1")),
        Ok(false)
    );
    assert_eq!(run.state, before);
    assert_eq!(run.hand_of(Act::Pause, Some("b2")), Ok(true));
}

#[test]
fn who_did_what_and_why_stands_in_the_history() {
    let definition: Arc<Definition> = compiled(WAIT);
    let mut run = Run::start(definition, None, facts());
    run.hand(Act::Pause).unwrap();
    let stored: serde_json::Value = serde_json::from_slice(&run.state.to_json()).unwrap();
    assert_eq!(stored["f"], 2, "older programs set it aside");
    let trail = stored["h"].as_array().unwrap();
    assert_eq!(
        trail.last().unwrap()["w"],
        json!({"hand": {"a": "paused", "r": "In hospital", "b": "Carla"}})
    );
}
