//! What the checker says of rules whose readings may stop coming.

use crate::{GOOD, TASK};

/// GOOD, whose rule leads to this task, with more steps.
fn source(task: &str, more: &str) -> String {
    let source = GOOD.replacen(TASK, task, 1);
    assert!(task == TASK || source != GOOD);
    format!("{source}{more}")
}

/// What is said of readings that stop.
fn found(source: &str) -> Vec<(bool, String)> {
    let findings = journey::check(source).into_iter();
    let said = findings.filter(|finding| {
        // GOOD has nothing else to find, but for what is changed on purpose here.
        assert!(
            ["J081", "J014", "J080"].contains(&finding.code.as_str()),
            "{finding:?}\n{source}"
        );
        finding.code == "J081"
    });
    said.map(|finding| {
        let line = source.lines().nth(finding.line - 1).unwrap();
        assert!(line.contains("code: 29463-7"), "{finding:?}: {line}");
        (finding.error, finding.message)
    })
    .collect()
}

fn pressing(priority: &str) -> String {
    TASK.replacen(
        "      due: 24h\n    next: end\n    overdue: {role: clinician, priority: urgent}\n",
        &format!("      due: 24h\n      priority: {priority}\n    next: end\n    not_done: call\n    overdue: {{role: clinician, priority: stat}}\n"),
        1,
    )
}

fn silence(rest: &str, then: &str) -> String {
    format!("  silent:\n    title: Silent\n    observe: {{{rest}}}\n    then: {then}\n")
}

const NOBODY: &str = "`watch` leads to can't wait, and readings of body weight may stop coming: ";

#[test]
fn a_rule_about_a_risk_has_one_about_silence_beside_it() {
    let weight = "code: 29463-7, none_for: 3d";
    let shown = "  tell:\n    title: Tell\n    send: {title: Weigh, words: Please weigh yourself., channels: [portal]}\n    next: end\n    on_failure: call\n";
    for (priority, more, expected) in [
        // Who is not at risk is watched as before.
        ("urgent", String::new(), None),
        ("routine", String::new(), None),
        (
            "asap",
            String::new(),
            Some((
                true,
                "nobody would learn of it. Add an `observe` of the same code with `none_for: 3d`",
            )),
        ),
        ("asap", silence(weight, "call"), None),
        (
            "asap",
            silence("code: 29463-7, none_for: 36h", "call"),
            None,
        ),
        // Of something else.
        (
            "stat",
            silence("code: 8480-6, none_for: 3d", "call"),
            Some((true, "nobody would learn of it")),
        ),
        // It comes to nobody, or to the patient alone where the message arrives.
        (
            "stat",
            silence(weight, "pause_of_its_own")
                + "  pause_of_its_own: {title: Pause, wait: {for: 1d}, next: end}\n",
            Some((true, "by `silent` no task for staff is ever reached")),
        ),
        (
            "stat",
            silence(weight, "tell") + shown,
            Some((false, "by `silent` patients can get past every task")),
        ),
        // Readings four days apart are never three days missing, and never compared.
        (
            "stat",
            silence("code: 29463-7, none_for: 5d", "call"),
            Some((
                false,
                "`silent` notices after 5 days, and readings that are more than 3 days apart",
            )),
        ),
        (
            "stat",
            silence(
                "code: 29463-7, none_for: 3d, until: discharge + 10d",
                "call",
            ),
            Some((false, "`silent` stops watching before this rule does")),
        ),
        // One that is whole is enough, whatever stands beside it.
        (
            "stat",
            silence("code: 29463-7, none_for: 5d", "call")
                + &silence(weight, "call").replace("silent:", "hush:"),
            None,
        ),
        (
            "stat",
            silence("code: 29463-7, none_for: 5d", "call")
                + &silence(weight, "lost").replace("silent:", "hush:")
                + "  lost: {title: Pause, wait: {for: 1d}, next: end}\n",
            Some((false, "`silent` notices after 5 days")),
        ),
    ] {
        let found = found(&source(&pressing(priority), &more));
        let expected = expected.map(|(error, words)| (error, format!("{NOBODY}{words}")));
        assert_eq!(found.len(), usize::from(expected.is_some()), "{found:#?}");
        if let (Some((error, said)), Some((wanted, words))) = (found.first(), expected) {
            assert_eq!(*error, wanted, "{said}");
            assert!(
                said.starts_with(&format!("what {words}")),
                "{said}\n{words}"
            );
        }
    }
}

/// Until when both watch counts where both say so, by the same anchor.
#[test]
fn a_rule_about_silence_watches_as_long() {
    for (rule, silent, fine) in [
        ("", "", true),
        ("discharge + 10d", "", true),
        ("", "discharge + 10d", false),
        ("discharge + 10d", "discharge + 10d", true),
        ("discharge + 10d", "discharge + 12d", true),
        ("discharge + 10d", "discharge + 9d", false),
        // Nobody knows which is first.
        ("discharge + 10d", "start + 9d", true),
    ] {
        let until = |moment: &str| match moment {
            "" => String::new(),
            moment => format!(", until: {moment}"),
        };
        let more = silence(
            &format!("code: 29463-7, none_for: 3d{}", until(silent)),
            "call",
        );
        let source = source(&pressing("stat"), &more);
        let source = match rule {
            "" => source,
            moment => source.replacen(
                "      within: 3d\n",
                &format!("      within: 3d\n      until: {moment}\n"),
                1,
            ),
        };
        assert_eq!(found(&source).is_empty(), fine, "{rule} {silent}");
    }
}

/// A message that can't wait is about a risk too, wherever it comes on the way.
#[test]
fn what_a_rule_comes_to_later_counts() {
    let later = TASK.replacen("    next: end\n", "    next: warn\n", 1);
    let warn = |urgency: &str| {
        format!(
            "  warn:\n    title: Warn\n    send: {{title: Call us, words: Call us., channels: [portal]{urgency}}}\n    next: end\n    on_failure: call\n"
        )
    };
    assert_eq!(found(&source(&later, &warn(""))), []);
    let pressing = warn(", urgency: clinical, because: The weight rises.");
    assert_eq!(found(&source(&later, &pressing)).len(), 1);
}

#[test]
fn without_its_rule_about_silence_the_shipped_journey_is_no_journey() {
    let file = crate::heart_failure();
    let from = file.find("  weight_missing:\n").unwrap();
    let to = file.find("  weight_missing_task:\n").unwrap();
    let without = format!("{}{}", &file[..from], &file[to..]);
    let findings = journey::check(&without).into_iter();
    let codes: Vec<(String, bool)> = findings.map(|one| (one.code, one.error)).collect();
    assert!(codes.contains(&("J081".to_owned(), true)), "{codes:?}");
}

/// A rule about one reading compares none, and a panel is silent about its components too.
#[test]
fn single_readings_and_panels_have_silences_too() {
    let rise = "      code: 29463-7\n      unit: kg\n      rises_more_than: 2\n      within: 3d\n";
    assert!(GOOD.contains(rise), "{GOOD}");
    for (rule, silent, fine) in [
        (
            "code: 29463-7\n      unit: kg\n      above: 120",
            "29463-7, none_for: 3d",
            true,
        ),
        (
            "code: 29463-7\n      unit: kg\n      above: 120",
            "29463-7, none_for: 5d",
            true,
        ),
        (
            "code: 8480-6\n      unit: 'mm[Hg]'\n      above: 180",
            "85354-9, none_for: 3d",
            true,
        ),
        (
            "code: 8480-6\n      unit: 'mm[Hg]'\n      above: 180",
            "8480-6, none_for: 3d",
            true,
        ),
        (
            "code: 8480-6\n      unit: 'mm[Hg]'\n      above: 180",
            "8462-4, none_for: 3d",
            false,
        ),
        (
            "code: 8480-6\n      unit: 'mm[Hg]'\n      above: 180",
            "29463-7, none_for: 3d",
            false,
        ),
    ] {
        let source = source(
            &pressing("stat"),
            &silence(&format!("code: {silent}"), "call"),
        );
        let source = source.replacen(rise, &format!("      {rule}\n"), 1);
        let found = journey::check(&source);
        let found: Vec<_> = found.iter().filter(|one| one.code == "J081").collect();
        assert_eq!(found.is_empty(), fine, "{rule} {silent}: {found:?}");
    }
}
