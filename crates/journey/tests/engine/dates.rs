//! Dates that are past when somebody comes to wait for them.

use crate::kinds::{begin, compiled, source};
use crate::run::{DAY, DISCHARGE, HOUR};
use journey::Fact;

/// Something first, and then the wait for a moment; a call where something leads to it.
fn steps(first: &str, wait: &str) -> String {
    let call = "  call:
    title: Call
    task: {title: Call, reason: The date was past., role: coordinator, due: 1d}
    next: end
    overdue: {role: clinician, priority: urgent}
";
    format!(
        "  first:
{first}
  date:
    title: The date
    wait: {wait}
  came: {{title: Came, wait: {{for: 1d}}, next: end}}
  other: {{title: Other, wait: {{for: 20d}}, next: end}}
{}",
        if wait.contains("call") { call } else { "" }
    )
}

/// A pause of so long before it.
fn after(pause: &str, wait: &str) -> String {
    let first = format!("    title: First\n    wait: {{for: {pause}}}\n    next: [date, other]");
    steps(&first, wait)
}

const WAYS: [(&str, &str); 3] = [
    (
        "{until: discharge + 2d, past_due: run}\n    next: came",
        "came",
    ),
    (
        "{until: discharge + 2d, past_due: skip}\n    next: came\n    past: end",
        "",
    ),
    (
        "{until: discharge + 2d, past_due: escalate}\n    next: came\n    past: call",
        "call",
    ),
];

#[test]
fn what_a_past_date_does_is_said() {
    for (wait, at) in WAYS {
        // Its date is an hour before or after who comes.
        for (pause, past) in [("46h", false), ("48h", true)] {
            let mut run = begin(&compiled(&after(pause, wait)), "p");
            run.until(47 * HOUR);
            let waits = run.state.at() == ["date", "other"];
            assert_eq!(waits, !past, "{wait} after {pause}");
            run.until(48 * HOUR);
            if !past {
                assert_eq!(run.state.at(), ["came", "other"], "{wait} after {pause}");
                continue;
            }
            run.until(49 * HOUR);
            let mut expected = vec!["other"];
            expected.extend(Some(at).filter(|at| !at.is_empty()));
            expected.sort_unstable();
            assert_eq!(run.state.at(), expected, "{wait} after {pause}");
            let trail = serde_json::to_value(&run.state).unwrap()["h"].to_string();
            assert_eq!(trail.contains("past due"), at != "came", "{wait}");
        }
    }
}

/// A correction that moves the date while it is waited for is not the same: the wait ends when it is over.
#[test]
fn a_date_that_moves_into_the_past_ends_the_wait() {
    let (wait, _) = WAYS[1];
    let mut run = begin(&compiled(&after("1h", wait)), "p");
    run.until(12 * HOUR);
    let moved = [("discharge".to_owned(), DISCHARGE - 3 * DAY)];
    run.event("Encounter/e1", Fact::Anchors(moved.into()), vec![]);
    assert_eq!(run.state.at(), ["came", "other"]);
}

/// Whether the checker asks what happens when the moment is past.
fn asks(steps: &str) -> bool {
    let found = journey::check(&source("kinds", steps));
    found.iter().any(|found| found.code == "J044")
}

#[test]
fn it_is_demanded_where_a_date_may_be_past() {
    let wait = |until: &str| format!("{{until: {until}}}\n    next: came");
    let ask = "    title: First
    ask:
      title: How is it?
      words: Please tell us.
      questions: [{id: level, text: How much?, type: whole-number}]
      give_up_after: 4d
      channels: [portal]
    answered: date
    no_answer: [date, other]";
    let task = |overdue: &str| {
        format!(
            "    title: First
    task: {{title: First, reason: Why., role: coordinator, due: 2d}}
    next: [date, other]
    overdue: {overdue}"
        )
    };
    let parallel = "    title: First
    parallel: {branches: [date, other]}
    next: end";
    // Events are told of up to three days late.
    for (name, steps, demanded) in [
        ("after nothing", after("1h", &wait("discharge + 4d")), false),
        ("told of late", after("1h", &wait("discharge + 3d")), true),
        (
            "an hour's pause",
            after("25h", &wait("discharge + 4d")),
            true,
        ),
        (
            "a time of day",
            after("1h", &wait("discharge + 4d at 09:00")),
            true,
        ),
        (
            "a time of day, a day later",
            after("1h", &wait("discharge + 6d at 09:00")),
            false,
        ),
        ("of the start", after("1h", &wait("start + 2h")), false),
        (
            "of the start, and past",
            after("2h", &wait("start + 1h")),
            true,
        ),
        (
            "an answer takes time",
            steps(ask, &wait("discharge + 7d")),
            false,
        ),
        (
            "an answer takes too long",
            steps(ask, &wait("discharge + 6d")),
            true,
        ),
        (
            "a task that is left",
            steps(&task("[date, other]"), &wait("discharge + 5d")),
            false,
        ),
        (
            "a task that stays",
            steps(
                &task("{role: clinician, priority: urgent}"),
                &wait("discharge + 30d"),
            ),
            true,
        ),
        (
            "side by side",
            steps(parallel, &wait("discharge + 3d at 09:00")),
            true,
        ),
        (
            "side by side, in time",
            steps(parallel, &wait("discharge + 5d at 09:00")),
            false,
        ),
    ] {
        assert_eq!(
            asks(&steps),
            demanded,
            "{name}: {:?}",
            journey::check(&source("kinds", &steps))
        );
    }
    // Round and round, nobody knows how late it gets.
    let round = after("1h", &wait("discharge + 40d")).replace(
        "came: {title: Came, wait: {for: 1d}, next: end}",
        "came: {title: Came, wait: {for: 1d}, next: [date, other]}",
    );
    assert!(asks(&round));
    // Other anchors than the first may lie wherever they like.
    let other = source("kinds", &after("1h", &wait("admission + 30d"))).replace(
        "{discharge: period.end}",
        "{discharge: period.end, admission: period.start}",
    );
    let found = journey::check(&other);
    assert!(found.iter().any(|found| found.code == "J044"), "{found:?}");
}

#[test]
fn what_is_said_has_to_fit() {
    for (wait, code, words) in [
        (
            "{until: discharge + 2d, past_due: skip}\n    next: came",
            "J013",
            "no `past`",
        ),
        (
            "{until: discharge + 2d, past_due: run}\n    next: came\n    past: end",
            "J012",
            "never gone",
        ),
        (
            "{until: discharge + 9d}\n    next: came\n    past: end",
            "J012",
            "never gone",
        ),
        (
            "{until: discharge + 2d, past_due: escalate}\n    next: came\n    past: came",
            "J044",
            "escalates to nobody",
        ),
        (
            "{for: 2d, past_due: run}\n    next: came",
            "J004",
            "goes with `until` only",
        ),
        (
            "{first_of: [{until: discharge + 2d, next: came}, {for: 1d, next: end}], past_due: run}",
            "J004",
            "goes with `until` only",
        ),
        (
            "{until: discharge + 2d, past_due: wait}\n    next: came",
            "J004",
            "can't be `wait`",
        ),
    ] {
        let found = journey::check(&source("kinds", &after("1h", wait)));
        assert!(
            found
                .iter()
                .any(|found| found.code == code && found.message.contains(words)),
            "{wait}: {found:?}"
        );
    }
    for (wait, _) in WAYS {
        assert_eq!(
            journey::check(&source("kinds", &after("1h", wait))),
            [],
            "{wait}"
        );
    }
}
