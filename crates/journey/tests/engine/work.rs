//! Tasks up a ladder, and tasks that take two persons.

use crate::kinds::{begin, compiled, source};
use crate::run::{DISCHARGE, HOUR, Run};
use journey::{Act, timers};
use serde_json::{Value, json};

fn steps(task: &str, ways: &str) -> String {
    format!(
        "  first:
    title: Call
    task: {{title: Call, reason: To hear how it is., role: coordinator, due: 24h{task}}}
    next: done
{ways}
  done: {{title: Done, wait: {{for: 1d}}, next: end}}
  late: {{title: Late, wait: {{for: 1d}}, next: look}}
  look:
    title: Look
    task: {{title: Look, reason: It was late., role: clinician, due: 24h}}
    next: end
    overdue: {{role: clinician, priority: urgent}}
"
    )
}

const LADDER: &str = ", ladder: [{after: 4h, role: coordinator, priority: urgent}, {after: 12h, role: clinician, priority: asap}]";

fn up(overdue: &str) -> Run {
    begin(
        &compiled(&steps(
            LADDER,
            &format!("    not_done: late\n    overdue: {overdue}"),
        )),
        "p",
    )
}

fn stand(run: &Run) -> Value {
    serde_json::to_value(&run.state).unwrap()["t"][0]["a"].clone()
}

#[test]
fn a_task_goes_up_its_ladder_until_it_is_done() {
    let top = "{role: clinician, priority: stat}";
    for (hours, log) in [
        (4, &[][..]),
        (5, &["0d05h hand over i/1/task to coordinator urgent"][..]),
        (
            20,
            &[
                "0d05h hand over i/1/task to coordinator urgent",
                "0d13h hand over i/1/task to clinician asap",
            ],
        ),
        (
            200,
            &[
                "0d05h hand over i/1/task to coordinator urgent",
                "0d13h hand over i/1/task to clinician asap",
                "1d01h hand over i/1/task to clinician stat",
            ],
        ),
    ] {
        let mut run = up(top);
        run.until(hours * HOUR);
        assert_eq!(run.log()[1..], *log, "after {hours} hours");
        run.task("i/1/task", "completed", None);
        assert_eq!(run.state.at(), ["done"], "after {hours} hours");
        // What it was told is in the trail in words that every program knows.
        assert_eq!(serde_json::to_value(&run.state).unwrap()["f"], 1);
    }
    let mut run = up("late");
    run.until(25 * HOUR);
    assert_eq!(run.state.at(), ["late"]);
    assert_eq!(*run.log().last().unwrap(), "1d01h close i/1/task cancelled");
}

#[test]
fn a_rung_is_kept_in_the_state_and_has_its_timer() {
    let mut run = up("{role: clinician, priority: stat}");
    let due = |run: &Run| {
        let timers = timers(&run.definition, &run.state);
        let next = timers
            .into_iter()
            .min_by_key(|(_, due_ms)| *due_ms)
            .unwrap();
        (next.0, (next.1 - DISCHARGE) / HOUR)
    };
    assert_eq!(due(&run), ("1/rung".to_owned(), 5));
    assert_eq!(serde_json::to_value(&run.state).unwrap()["f"], 1);
    run.until(6 * HOUR);
    assert_eq!(stand(&run), json!({"working": {"h": false, "r": 1}}));
    assert_eq!(serde_json::to_value(&run.state).unwrap()["f"], 2);
    assert_eq!(due(&run), ("1/rung".to_owned(), 13));
    run.until(14 * HOUR);
    assert_eq!(due(&run), ("1/due".to_owned(), 25));
}

/// A house that was dark for a day takes all rungs at once, in their order.
#[test]
fn rungs_that_were_missed_come_in_their_order() {
    let mut run = up("{role: clinician, priority: stat}");
    run.now += 30 * HOUR;
    run.input(journey::Input::Timer { read: 0 });
    let priorities: Vec<&str> = run.log()[1..]
        .iter()
        .map(|line| line.rsplit(' ').next().unwrap())
        .collect();
    assert_eq!(priorities, ["urgent", "asap", "stat"]);
}

fn eyes() -> Run {
    let ways = "    not_confirmed: late\n    not_done: late\n    overdue: {role: clinician, priority: stat}";
    let outcomes = ", four_eyes: true, outcomes: {reached: done}";
    begin(&compiled(&steps(outcomes, ways)), "p")
}

/// Tasks are done by these, with these outcomes; where the patient is then, and what was opened.
fn done_by(acts: &[(&str, Option<&str>)]) -> (Run, Vec<String>) {
    let mut run = eyes();
    let mut opened: Vec<String> = Vec::new();
    for (by, outcome) in acts {
        let state = serde_json::to_value(&run.state).unwrap();
        let attempt = state.pointer("/t/0/a/working/y/a").and_then(Value::as_u64);
        let task = attempt.map_or("i/1/task".to_owned(), |attempt| {
            format!("i/1/task/{attempt}")
        });
        assert!(run.made.contains(&task), "{task} of {:?}", run.made);
        if by.is_empty() {
            run.task(&task, "completed", *outcome);
        } else {
            run.done_by(&task, by, *outcome);
        }
    }
    for line in run.log() {
        opened.extend(line.split_once(' ').map(|(_, what)| what.to_owned()));
    }
    (run, opened)
}

#[test]
fn two_persons_do_it_and_one_is_not_two() {
    let (anna, berta) = ("anna", "berta");
    for (name, acts, at, opened) in [
        ("nobody", &[][..], "first", &["task first"][..]),
        (
            "one",
            &[(anna, Some("reached"))],
            "first",
            &["task first", "confirm first"],
        ),
        (
            "two",
            &[(anna, Some("reached")), (berta, Some("confirmed"))],
            "done",
            &["task first", "confirm first"],
        ),
        (
            "two, without outcomes",
            &[(anna, None), (berta, None)],
            "done",
            &["task first", "confirm first"],
        ),
        (
            "one twice",
            &[(anna, None), (anna, Some("confirmed"))],
            "first",
            &["task first", "confirm first", "confirm first"],
        ),
        (
            "one twice, then another",
            &[(anna, None), (anna, None), (berta, None)],
            "done",
            &["task first", "confirm first", "confirm first"],
        ),
        (
            "somebody who isn't named",
            &[("", None)],
            "first",
            &["task first", "task first"],
        ),
        (
            "somebody who isn't named confirms",
            &[(anna, None), ("", Some("confirmed"))],
            "first",
            &["task first", "confirm first", "confirm first"],
        ),
        (
            "not confirmed",
            &[(anna, Some("reached")), (berta, Some("not_confirmed"))],
            "late",
            &["task first", "confirm first"],
        ),
        (
            "something else is no yes",
            &[(anna, Some("reached")), (berta, Some("other"))],
            "late",
            &["task first", "confirm first"],
        ),
    ] {
        let (run, found) = done_by(acts);
        assert_eq!(run.state.at(), [at], "{name}");
        assert_eq!(found, opened, "{name}");
    }
    let (run, _) = done_by(&[(anna, Some("reached")), (berta, None)]);
    let state = serde_json::to_value(&run.state).unwrap();
    assert_eq!(
        state["x"]["first"]["outcome"], "reached",
        "the first one's outcome counts"
    );
}

/// Neither by giving up on the task nor by hand does one person lead on what two have to do.
#[test]
fn one_person_does_not_lead_on_what_two_have_to_do() {
    let ways = "    not_confirmed: late\n    overdue: {role: clinician, priority: stat}";
    let begun = || {
        let outcomes = ", four_eyes: true, outcomes: {reached: done}";
        begin(&compiled(&steps(outcomes, ways)), "p")
    };
    for status in ["cancelled", "rejected", "failed"] {
        let mut run = begun();
        run.task("i/1/task", status, None);
        assert_eq!(run.state.at(), ["late"], "{status}");
    }
    for way in 0..5 {
        let mut run = begun();
        if run.hand(Act::Skip { n: 1, way }).is_ok() {
            assert_eq!(run.state.at(), ["late"], "way {way}");
        }
    }
}

#[test]
fn what_was_done_first_is_done_once() {
    let (mut run, _) = done_by(&[("anna", Some("reached"))]);
    assert_eq!(
        stand(&run),
        json!({"working": {"h": false, "y": {"a": 1, "f": "anna", "o": "reached"}}})
    );
    assert_eq!(serde_json::to_value(&run.state).unwrap()["f"], 2);
    // The first task again says nothing to the second.
    let before = run.state.clone();
    run.done_by("i/1/task", "berta", None);
    assert_eq!(run.state, before);
    // Overdue is the one that is open.
    run.until(25 * HOUR);
    assert_eq!(
        *run.log().last().unwrap(),
        "1d01h hand over i/1/task/1 to clinician stat"
    );
    // Who confirms it then does so as it stands: for clinicians, at once.
    run.done_by("i/1/task/1", "anna", None);
    assert_eq!(
        *run.log().last().unwrap(),
        "1d01h confirm first for clinician stat"
    );
    run.task("i/1/task/2", "cancelled", None);
    assert_eq!(run.state.at(), ["late"]);
}

#[test]
fn what_is_wrong_with_work_is_found() {
    let overdue = "    overdue: {role: clinician, priority: stat}";
    let good_eyes = format!("    not_confirmed: late\n{overdue}");
    for (task, ways, code, words) in [
        (
            ", ladder: [{after: 24h, role: clinician, priority: asap}]",
            "    not_done: late\n",
            "J043",
            "say it in `overdue`",
        ),
        (
            ", ladder: [{after: 4h, role: clinician, priority: asap}, {after: 4h, role: clinician, priority: stat}]",
            "    not_done: late\n",
            "J043",
            "no later than the one before",
        ),
        (
            ", ladder: [{after: 4h, role: clinician}]",
            "    not_done: late\n",
            "J003",
            "rung needs `priority`",
        ),
        (
            ", four_eyes: true",
            "    not_done: late\n",
            "J013",
            "no `not_confirmed`",
        ),
        ("", "    not_confirmed: late\n", "J043", "never gone"),
    ] {
        let file = source("kinds", &steps(task, &format!("{ways}{overdue}")));
        let found = journey::check(&file);
        assert!(
            found
                .iter()
                .any(|found| found.code == code && found.message.contains(words)),
            "{task}: {found:?}"
        );
    }
    for (task, ways) in [
        (LADDER, format!("    not_done: late\n{overdue}")),
        (", four_eyes: true", good_eyes),
    ] {
        assert_eq!(journey::check(&source("kinds", &steps(task, &ways))), []);
    }
}
