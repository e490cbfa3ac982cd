//! Graphs and differences of definitions.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "a test says by failing what went wrong"
)]

use journey::{Changes, Definition, Drawing, diff, draw};
use std::fs;

fn source() -> String {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../journeys/heart-failure-discharge.yaml"
    );
    fs::read_to_string(path).unwrap()
}

#[test]
fn graphs_have_every_step_way_and_exit() {
    let definition = Definition::compile(&source(), 1).unwrap();
    let table: &[(Drawing, &[&str])] = &[
        (
            Drawing::Dot,
            &[
                "digraph \"heart-failure-discharge\" {",
                "  \"welcome\" [label=\"send: Welcome message\"];",
                "  \"start\" -> \"welcome\" [label=\"\"];",
                "  \"symptoms\" -> \"call\" [label=\"no answer\"];",
                "  \"call\" -> \"end\" [label=\"well\"];",
                "  \"anywhere\" -> \"exit death\" [label=\"\", style=dashed];",
                "}",
            ],
        ),
        (
            Drawing::Mermaid,
            &[
                "flowchart TD",
                "  n_welcome[\"send: Welcome message\"]",
                "  n_start --> n_welcome",
                "  n_symptoms -->|\"no answer\"| n_call",
                "  n_call -->|\"well\"| n_end",
                "  n_anywhere -.-> n_exit_death",
            ],
        ),
    ];
    for (drawing, lines) in table {
        let drawn = draw(&definition, *drawing);
        for line in *lines {
            assert!(
                drawn.lines().any(|found| found == *line),
                "{line} is not in {drawn}"
            );
        }
        let arrows = drawn
            .matches(if *drawing == Drawing::Dot {
                " -> "
            } else {
                "-->"
            })
            .count();
        // 44 ways of the journey, three exits (Mermaid draws those with another arrow).
        assert_eq!(
            arrows,
            if *drawing == Drawing::Dot { 49 } else { 46 },
            "{drawn}"
        );
    }
}

#[test]
fn quotes_in_titles_do_not_break_graphs() {
    let source = source().replace("title: Welcome message", "title: The \"hello\"");
    let definition = Definition::compile(&source, 1).unwrap();
    assert!(draw(&definition, Drawing::Dot).contains("send: The \\\"hello\\\""));
    assert!(draw(&definition, Drawing::Mermaid).contains("send: The #quot;hello#quot;"));
}

#[test]
fn differences_are_told_as_what_they_are() {
    use Changes::{Added, Other, Removed, Times, Ways, Words};
    type Case = (
        &'static str,
        &'static str,
        &'static [(Changes, &'static str)],
    );
    let table: &[Case] = &[
        ("", "", &[]),
        (
            "Welcome home",
            "Hello",
            &[(Words, "steps.welcome.send.title")],
        ),
        (
            "expires: 24h",
            "expires: 12h",
            &[(Times, "steps.welcome.send.expires")],
        ),
        ("at_most: 45d", "at_most: 60d", &[(Times, "at_most")]),
        (
            "discharge + 2d at 09:00",
            "discharge + 3d at 09:00",
            &[(Times, "steps.day_two.wait.until")],
        ),
        (
            "late_answer: assess",
            "late_answer: call",
            &[(Ways, "steps.symptoms.late_answer")],
        ),
        (
            "well: end",
            "well: review",
            &[(Ways, "steps.call.task.outcomes.well")],
        ),
        (
            "rises_more_than: 2",
            "rises_more_than: 3",
            &[(Other, "steps.weight_watch.observe.rises_more_than")],
        ),
        (
            "text: Do you feel dizzy, or have you fainted?",
            "text: Are you dizzy?",
            &[(Words, "steps.symptoms.ask.questions.dizzy.text")],
        ),
        (
            "channels: [email, portal]",
            "channels: [portal]",
            &[(Other, "steps.welcome.send.channels")],
        ),
        (
            "{role: coordinator, priority: urgent}",
            "{priority: urgent, role: coordinator}",
            &[],
        ),
        (
            "name: heart-failure-discharge",
            "name: another",
            &[(Other, "name")],
        ),
    ];
    for (from, to, expected) in table {
        let after = if from.is_empty() {
            source()
        } else {
            source().replacen(from, to, 1)
        };
        let changes = diff(&source(), &after).unwrap();
        let found: Vec<(Changes, &str)> = changes
            .iter()
            .map(|change| (change.what, change.place.as_str()))
            .collect();
        assert_eq!(found, *expected, "{from} -> {to}");
    }
    let before = source().replace("call_again", "second_call");
    let changes = diff(&before, &source()).unwrap();
    let steps: Vec<(Changes, &str)> = changes
        .iter()
        .filter(|change| matches!(change.what, Added | Removed))
        .map(|change| (change.what, change.place.as_str()))
        .collect();
    assert_eq!(
        steps,
        [(Added, "steps.call_again"), (Removed, "steps.second_call")]
    );
    let told = journey::diff_text(&changes);
    assert!(
        told.starts_with("Steps that are new:\n  steps.call_again\n    + Second call\n"),
        "{told}"
    );
}

#[test]
fn files_with_errors_are_not_compared() {
    assert!(
        diff(
            &source(),
            &source().replace("purpose: TREAT", "purpose: NONE")
        )
        .is_err()
    );
}
