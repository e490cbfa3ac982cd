//! Waits for several things: each has to come, in any order, whatever comes between.

use crate::kinds::{begin, compiled, source};
use crate::run::{DAY, DISCHARGE, HOUR, Run};
use journey::{Fact, timers};
use serde_json::{Value, json};

/// What comes to a patient.
#[derive(Debug, Clone, Copy)]
enum Comes {
    /// An event of which this condition holds; that of the exit is the first.
    Event(usize),
    Answer,
    /// The discharge was so many days later.
    Moved(u64),
}
use Comes::{Answer, Event, Moved};

/// Asks at once, and waits beside it.
fn steps(wait: &str) -> String {
    format!(
        "  first:
    title: Both
    branch: {{cases: [{{when: 'true', next: [pain, both]}}], otherwise: end}}
  pain:
    title: Pain
    ask:
      title: How is it?
      words: Please tell us.
      questions: [{{id: level, text: How much?, type: whole-number}}]
      give_up_after: 3d
      channels: [portal]
    answered: end
    no_answer: end
    late_answer: end
  both:
    title: Waits
    wait: {wait}
  came: {{title: Came, exit: {{reason: Came}}}}
  not_come: {{title: Not come, exit: {{reason: Not come}}}}
"
    )
}

/// What becomes of somebody to whom this happens so many hours after the discharge: where, and in which hour.
fn becomes(wait: &str, acts: &[(u64, Comes)]) -> (String, u64) {
    let mut run = begin(&compiled(&steps(wait)), "p");
    for (hour, comes) in acts {
        run.until(hour * HOUR);
        act(&mut run, *comes);
    }
    run.until(50 * DAY);
    let (code, _) = run.state.ending().unwrap();
    let state = serde_json::to_value(&run.state).unwrap();
    let at_ms = state["e"]["t"].as_u64().unwrap();
    (code.to_owned(), (at_ms - DISCHARGE) / HOUR)
}

fn act(run: &mut Run, comes: Comes) {
    match comes {
        Event(condition) => {
            run.event("Observation/o", Fact::Other, vec![condition]);
        }
        Answer => {
            let form = run.made.iter().rfind(|made| made.ends_with("/task"));
            let form = form.unwrap().clone();
            run.answer(&form, json!({"level": 3}));
        }
        Moved(days) => {
            let moved = [("discharge".to_owned(), DISCHARGE + days * DAY)];
            run.event("Encounter/e1", Fact::Anchors(moved.into()), vec![]);
        }
    }
}

#[test]
fn all_of_several_have_to_come() {
    let all = "{all_of: [{event: Observation}, {until: discharge + 2d}, {answer: pain}], at_most: 10d}\n    next: came\n    not_come: not_come";
    let (came, not_come) = ("came", "not_come");
    for (name, acts, end, hour) in [
        ("nothing", &[][..], not_come, 241),
        ("two of three", &[(5, Answer)], not_come, 241),
        ("in time", &[(5, Answer), (9, Event(1))], came, 48),
        (
            "the other way round",
            &[(5, Event(1)), (9, Answer)],
            came,
            48,
        ),
        ("the event last", &[(5, Answer), (60, Event(1))], came, 60),
        ("a late answer", &[(5, Event(1)), (80, Answer)], came, 80),
        (
            "twice the same",
            &[(5, Event(1)), (9, Event(1))],
            not_come,
            241,
        ),
        (
            "another event",
            &[(5, Event(9)), (9, Answer)],
            not_come,
            241,
        ),
        (
            "the date moves before it is there",
            &[(5, Event(1)), (9, Answer), (10, Moved(3))],
            came,
            120,
        ),
        (
            "the date moves when it was there, and is waited for again",
            &[(5, Event(1)), (50, Moved(3)), (60, Answer)],
            came,
            120,
        ),
    ] {
        assert_eq!(becomes(all, acts), (end.to_owned(), hour), "{name}");
    }
}

#[test]
fn one_may_stand_in_the_other() {
    let first_in_all = "{all_of: [{first_of: [{event: Observation}, {event: Appointment}]}, {for: 1d}], at_most: 10d}\n    next: came\n    not_come: not_come";
    let all_in_first = "{first_of: [{all_of: [{event: Observation}, {event: Appointment}], next: came}, {for: 3d, next: not_come}]}";
    let answered = "{first_of: [{answer: pain, next: came}, {for: 5d, next: not_come}]}";
    for (wait, acts, end, hour) in [
        (first_in_all, &[(3, Event(2))][..], "came", 25),
        (first_in_all, &[(30, Event(1))], "came", 30),
        (first_in_all, &[], "not_come", 241),
        (all_in_first, &[(3, Event(1)), (4, Event(2))], "came", 4),
        (
            all_in_first,
            &[(3, Event(1)), (4, Event(1))],
            "not_come",
            73,
        ),
        (answered, &[(3, Answer)], "came", 3),
        (answered, &[(90, Answer)], "came", 90),
        (answered, &[], "not_come", 121),
    ] {
        assert_eq!(
            becomes(wait, acts),
            (end.to_owned(), hour),
            "{wait} {acts:?}"
        );
    }
}

/// Answers of before count, unless the same is being asked again.
#[test]
fn an_answer_of_before_counts() {
    let after = |then: &str| {
        steps("{answer: pain, at_most: 10d}\n    next: came\n    not_come: not_come")
            .replace("next: [pain, both]", "next: pain")
            .replace("answered: end", "answered: pause")
            .replace(
                "  both:",
                &format!("  pause: {{title: Pause, wait: {{for: 2h}}, next: {then}}}\n  both:"),
            )
    };
    let answered = |steps: &str| {
        let mut run = begin(&compiled(steps), "p");
        act(&mut run, Answer);
        run.until(4 * HOUR);
        run
    };
    assert_eq!(answered(&after("both")).state.ending().unwrap().0, "came");
    let mut again = answered(&after("[pain, both]"));
    assert_eq!(again.state.at(), ["both", "pain"]);
    act(&mut again, Answer);
    assert_eq!(again.state.ending().unwrap().0, "came");
}

/// One event moves on only who waited for it before it came.
#[test]
fn what_has_come_is_kept_in_the_state_and_told() {
    let all = "{all_of: [{event: Observation}, {event: Appointment}], at_most: 10d}\n    next: came\n    not_come: not_come";
    let definition = compiled(&steps(all));
    let mut run = begin(&definition, "p");
    assert_eq!(serde_json::to_value(&run.state).unwrap()["f"], 1);
    act(&mut run, Event(2));
    let state = serde_json::to_value(&run.state).unwrap();
    assert_eq!(state["f"], 2, "programs that don't know it set it aside");
    let place = |token: &&Value| token["s"] == "both";
    let tokens = state["t"].as_array().unwrap();
    let stand = &tokens.iter().find(place).unwrap()["a"];
    assert_eq!(*stand, json!({"gathering": {"c": [1]}}));
    // What never comes by itself has one timer, the end of the wait.
    let due: Vec<u64> = timers(&definition, &run.state).into_values().collect();
    assert!(due.contains(&(DISCHARGE + 10 * DAY + HOUR)), "{due:?}");
}

#[test]
fn what_is_wrong_with_a_wait_for_several_is_found() {
    let ways = "\n    next: came\n    not_come: not_come";
    for (wait, code, words) in [
        (
            "{all_of: [{event: Observation}, {for: 1d}]}\n    next: [came, not_come]",
            "J012",
            "may never come",
        ),
        (
            "{all_of: [{event: Observation}, {for: 1d}], at_most: 5d}\n    next: [came, not_come]",
            "J013",
            "no `not_come`",
        ),
        (
            "{answer: pain}\n    next: [came, not_come]",
            "J012",
            "may never come",
        ),
        (
            "{all_of: [{event: Observation}], at_most: 5d}",
            "J041",
            "names one thing only",
        ),
        (
            "{all_of: [{event: Observation}, {first_of: [{for: 1d}]}], at_most: 5d}",
            "J041",
            "names one thing only",
        ),
        (
            "{all_of: [{event: Observation}, {for: 6d}], at_most: 5d}",
            "J041",
            "given up after 5 days",
        ),
        ("{answer: both, at_most: 5d}", "J041", "asks nothing"),
        (
            "{answer: pian, at_most: 5d}",
            "J006",
            "did you mean `pain`?",
        ),
        (
            "{all_of: [{event: Observation, where: staus = 'final'}, {for: 1d}], at_most: 5d}",
            "J038",
            "did you mean `status`?",
        ),
        (
            "{all_of: [{until: dischrge + 1d}, {for: 1d}], at_most: 5d}",
            "J025",
            "did you mean `discharge`?",
        ),
        (
            "{all_of: [{all_of: [{for: 1d}]}, {for: 1d}], at_most: 5d}",
            "J002",
            "`all_of` is not known in leg",
        ),
    ] {
        let ways = if wait.contains("next") { "" } else { ways };
        let file = source("kinds", &steps(&format!("{wait}{ways}")));
        let found = journey::check(&file);
        assert!(
            found
                .iter()
                .any(|found| found.code == code && found.message.contains(words)),
            "{wait}: {found:?}"
        );
    }
    let good = "{all_of: [{until: discharge + 1d}, {for: 1d}]}\n    next: [came, not_come]";
    assert_eq!(
        journey::check(&source("kinds", &steps(good))),
        [],
        "time alone brings it"
    );
}
