//! Conditions on what the journey has learnt: what its steps can't give is found before anybody waits for it.

use super::{GOOD, TASK};

/// GOOD with a form that asks for more, a task with outcomes, and all that gives something.
fn learning() -> String {
    let questions =
        "        - {id: kind, text: Which?, type: choice, options: {ache: An ache, burn: A burn}}
        - {id: level, text: How much?, type: whole-number}
        - {id: since, text: Since when?, type: date}
        - {id: other, text: What else?, type: text}
";
    let more = "  visit:
    title: Visit
    book: {title: Visit, time: discharge + 10d at 10:00, minutes: 30, book_by: discharge + 5d at 12:00}
    next: drawn
    not_booked: call
  drawn:
    title: Drawn
    split: {arms: [{id: early, weight: 50, next: end}, {id: late, weight: 50, next: end}]}
  healed: {title: Healed, goal: {event: Condition, where: abatement.exists(), journey: goes_on}}
";
    let source = GOOD
        .replacen(
            "      remind_after: 24h\n",
            &format!("{questions}      remind_after: 24h\n"),
            1,
        )
        .replacen(
            TASK,
            &TASK.replacen(
                "      due: 24h\n",
                "      due: 24h\n      outcomes: {reached: visit}\n",
                1,
            ),
            1,
        );
    let source = source.replacen("  watch:\n", &format!("{more}  watch:\n"), 1);
    assert_ne!(source, GOOD);
    source
}

const WHEN: &str = "        - when: questions.well = false\n";

/// The first finding of a journey with a condition: its code, whether it is an error, and its message.
fn found(condition: &str) -> Option<(String, bool, String)> {
    let source = learning();
    let at = source.lines().position(|line| format!("{line}\n") == WHEN);
    let quoted = condition.replace('\'', "''");
    let source = source.replacen(WHEN, &format!("        - when: '{quoted}'\n"), 1);
    let findings = journey::check(&source);
    let found = findings.first()?;
    assert_eq!(Some(found.line), at.map(|at| at + 1), "{found:?}");
    // Within the condition, which begins after its quote.
    assert!(found.column > 16, "{found:?}");
    Some((found.code.clone(), found.error, found.message.clone()))
}

#[test]
fn what_steps_can_give_is_asked_for_without_findings() {
    assert_eq!(journey::check(&learning()), []);
    for fine in [
        "questions.well",
        "questions.well = true and questions.level > 2",
        "questions.kind = 'ache' or questions.kind in ('ache' | 'burn')",
        "questions.kind != 'burn'",
        "questions.since < today()",
        "questions.other.contains('pain')",
        "questions.exists() and call.outcome.exists()",
        "call.outcome = 'reached' or call.outcome = 'done' or call.outcome = 'not done'",
        "welcome.delivered_by = 'email'",
        "visit.status = 'noshow' or visit.day.exists()",
        "drawn.arm = 'early'",
        "healed.reached = true",
        "watch.rise > 2.5 and watch.unit = 'kg' and watch.hours < 24",
        "iif(questions.well, 1, questions.level) > 0",
    ] {
        assert_eq!(found(fine), None, "{fine}");
    }
}

/// Each of these holds for nobody, whatever is answered.
#[test]
fn what_steps_cannot_give_is_an_error_where_it_stands() {
    for (condition, code, words) in [
        ("questions.well = 'no'", "J038", "`true` or `false`"),
        ("questions.kind = 'c'", "J038", "(ache, burn)"),
        ("questions.kind = 'bern'", "J038", "did you mean `burn`?"),
        ("questions.kind != 'bern'", "J038", "did you mean `burn`?"),
        (
            "questions.kind in ('ache' | 'bern')",
            "J038",
            "did you mean `burn`?",
        ),
        ("call.outcome = 'reched'", "J038", "did you mean `reached`?"),
        (
            "welcome.delivered_by = 'emial'",
            "J038",
            "did you mean `email`?",
        ),
        ("visit.status = 'no-show'", "J038", "did you mean `noshow`?"),
        ("drawn.arm = 'erly'", "J038", "did you mean `early`?"),
        ("questions.level > 'x'", "J038", "can't be compared"),
        ("questions.level", "J038", "has to be true or false"),
        ("questions", "J038", "has to be true or false"),
        ("questions.level + 'x' = 3", "J038", "can't be calculated"),
        ("healed.reached = 'true'", "J038", "are never equal"),
        ("watch.rise = 'much'", "J038", "are never equal"),
        ("watch.unit = 'lb'", "J038", "(kg)"),
        (
            "questions.exists(wel = true)",
            "J016",
            "did you mean `well`?",
        ),
        ("questions.well.code = 'x'", "J016", "no `code`"),
        ("questions.wel = 'no'", "J016", "did you mean `well`?"),
    ] {
        let (found, error, message) = found(condition).unwrap_or_else(|| panic!("{condition}"));
        assert!(
            found == code && error && message.contains(words),
            "{condition}: {found} {message}"
        );
    }
    // Where a number is there, it counts as true.
    let (code, error, _) = found("questions.level and questions.well").unwrap();
    assert_eq!((code.as_str(), error), ("J049", false));
}

#[test]
fn the_end_of_a_repeated_part_can_come() {
    let round = |until: &str| {
        let to = format!(
            "    repeat: {{body: again, times: 3, pause: 1d, until: {until}}}\n    next: end\n    never: end\n  again:\n    title: Again\n    wait: {{for: 1d}}\n    next: end\n"
        );
        let source = GOOD.replacen(TASK, &to, 1);
        assert_ne!(source, GOOD);
        let findings = journey::check(&source).into_iter();
        let mut findings = findings.filter(|found| found.error);
        findings.next().map(|found| (found.code, found.message))
    };
    assert_eq!(round("questions.well = true"), None);
    for until in ["questions.well = 'true'", "call.rounds"] {
        let (code, message) = round(until).unwrap_or_else(|| panic!("{until}"));
        assert_eq!(code, "J038", "{message}");
    }
}
