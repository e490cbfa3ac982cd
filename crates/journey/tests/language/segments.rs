//! Segments: what they may say, where they stand, and what names them.

use crate::GOOD;

const OLD: &str = "segments:\n  old:\n    title: Old\n    all: [{aged: {from: 80}}]\n";

/// GOOD with these segments and an exit that names `old`.
fn with(segments: &str) -> String {
    GOOD.replacen(
        "exits:\n",
        &format!("{segments}exits:\n  out: {{title: Out, segment: {{left: old}}}}\n"),
        1,
    )
}

fn codes(source: &str) -> Vec<String> {
    let findings = journey::check(source).into_iter();
    findings.map(|found| found.code).collect()
}

#[test]
fn conditions_of_segments_make_sense() {
    assert_eq!(journey::check(&with(OLD)), []);
    for (condition, code, words) in [
        ("{aged: {to: 80}}", None, ""),
        ("{aged: {}}", Some("J091"), "no age"),
        ("{aged: {from: 80, to: 79}}", Some("J091"), "nobody"),
        ("{aged: {from: 200}}", Some("J004"), "0 to 150"),
        (
            "{aged: {from: 1}, dated: birthDate}",
            Some("J091"),
            "goes with `has`",
        ),
        ("{has: Observation}", None, ""),
        (
            "{has: Observation, dated: effective, within: 12mo}",
            None,
            "",
        ),
        ("{has: Encounter, dated: period}", None, ""),
        ("{has: Observation, within: 12mo}", Some("J091"), "`dated`"),
        (
            "{has: Observation, dated: effective, within: soon}",
            Some("J009"),
            "length",
        ),
        (
            "{has: Observation, dated: efective, within: 1y}",
            Some("J038"),
            "effective",
        ),
        ("{has: Observation, dated: code}", Some("J091"), "a Period"),
        (
            "{has: Observation, dated: value.ofType(Quantity)}",
            Some("J091"),
            "a Period",
        ),
        ("{has: Condition, dated: onset}", None, ""),
        (
            "{has: Condition, dated: onset.ofType(Age)}",
            Some("J091"),
            "a Period",
        ),
        (
            "{has: Procedure, dated: performed.ofType(Period)}",
            None,
            "",
        ),
        (
            "{has: Observation, dated: effective.ofType(Timing)}",
            Some("J091"),
            "a Period",
        ),
        ("{has: Condition, dated: onset | recordedDate}", None, ""),
        (
            "{has_no: Observation, where: staus = 'final'}",
            Some("J038"),
            "status",
        ),
        ("{has: Organization}", Some("J091"), "nobody's record"),
        ("{has: Claim}", Some("J091"), "no matter of care"),
        (
            "{has: Condition, where: onset < today()}",
            Some("J091"),
            "`today()`",
        ),
        (
            "{has: Condition, dated: 'iif(now() > onset, onset, recordedDate)'}",
            Some("J091"),
            "`now()`",
        ),
        (
            "{any: [{aged: {from: 80}}]}",
            Some("J091"),
            "one condition only",
        ),
        ("{any: [{aged: {from: 80}}, {has: Condition}]}", None, ""),
        (
            "{any: [{aged: {from: 80}}, {has: Condition}], where: 'true'}",
            Some("J091"),
            "beside",
        ),
        (
            "{has: Condition, has_no: Condition}",
            Some("J003"),
            "exactly one",
        ),
    ] {
        let source = with(&OLD.replace("{aged: {from: 80}}", condition));
        let findings = journey::check(&source);
        let found = findings.first();
        assert_eq!(
            found.map(|found| found.code.as_str()),
            code,
            "{condition}: {findings:#?}"
        );
        assert!(
            found.is_none_or(|found| found.message.contains(words)),
            "{findings:#?}"
        );
        // The shared file says the same.
        let shared = journey::check_segments(&OLD.replace("{aged: {from: 80}}", condition));
        assert_eq!(
            shared.first().map(|found| found.code.as_str()),
            code,
            "{condition}: {shared:#?}"
        );
    }
}

#[test]
fn a_segment_begins_a_journey_by_itself() {
    let entry = "  event: Encounter\n  where: status = 'finished'\n  anchors:\n    discharge: period.end\n  within: 3d\n  per: event\n";
    assert!(GOOD.contains(entry));
    let base = with(OLD).replace("discharge + 2d at 09:00", "start + 2d at 09:00");
    for (entry_is, expected) in [
        ("  segment: old\n  per: event\n", &[][..]),
        ("  segment: old\n  per: patient\n", &[]),
        (
            "  segment: old\n  per: event\n  again: {after: 3d}\n  request: {by: [clinician]}\n",
            &[],
        ),
        ("  segment: old\n  per: date\n", &["J070"]),
        ("  segment: old\n  per: event\n  within: 3d\n", &["J092"]),
        (
            "  segment: old\n  per: event\n  who: {any: [{this: active}]}\n",
            &["J092"],
        ),
        (
            "  segment: old\n  per: event\n  who: {any: [{has: Condition, where: subject.exists()}]}\n",
            &[],
        ),
        (
            "  segment: old\n  per: event\n  request: {by: [clinician], asks: {day: The day}}\n",
            &["J092"],
        ),
        ("  segment: odl\n  per: event\n", &["J090"]),
    ] {
        let source = base.replacen(entry, entry_is, 1);
        assert_eq!(
            codes(&source),
            expected,
            "{entry_is}: {:#?}",
            journey::check(&source)
        );
    }
    let both = base.replacen("  within: 3d\n", "  within: 3d\n  segment: old\n", 1);
    assert!(
        codes(&both).iter().all(|code| code == "J092"),
        "{:#?}",
        journey::check(&both)
    );
}

#[test]
fn a_journey_does_not_chase_its_own_tail() {
    let entry = "  event: Encounter\n  where: status = 'finished'\n  anchors:\n    discharge: period.end\n  within: 3d\n  per: event\n";
    let by = |all: &str, again: &str| {
        let source = with(&OLD.replace("{aged: {from: 80}}", all));
        let source = source.replace("discharge + 2d at 09:00", "start + 2d at 09:00");
        let is = format!("  segment: old\n  per: event\n{again}");
        codes(&source.replacen(entry, &is, 1))
    };
    for kind in ["Task", "CarePlan", "Communication"] {
        let none = format!("{{has_no: {kind}}}");
        assert_eq!(by(&none, ""), ["J092"], "{kind}");
        assert_eq!(by(&none, "  again: {at_most: 3}\n"), ["J092"], "{kind}");
        assert_eq!(by(&none, "  again: {after: 30d}\n"), [""; 0], "{kind}");
    }
    assert_eq!(by("{has_no: Observation}", ""), [""; 0]);
}

#[test]
fn waits_for_segments_have_an_end() {
    let until = "      past_due: run\n      until: discharge + 2d at 09:00\n    next: questions\n";
    assert!(GOOD.contains(until));
    for (wait, expected) in [
        (
            "      segment: {entered: old}\n    next: questions\n",
            &["J012"][..],
        ),
        (
            "      segment: {entered: old}\n      at_most: 3d\n    next: questions\n    not_come: questions\n",
            &[],
        ),
        (
            "      segment: {entered: old, left: old}\n      at_most: 3d\n    next: questions\n    not_come: questions\n",
            &["J003"],
        ),
        (
            "      all_of: [{segment: {left: old}}, {for: 1d}]\n      at_most: 3d\n    next: questions\n    not_come: questions\n",
            &[],
        ),
        (
            "      first_of: [{segment: {left: old}, next: questions}]\n",
            &["J012"],
        ),
        (
            "      first_of: [{segment: {left: old}, next: questions}, {for: 1d, next: end}]\n",
            &[],
        ),
        (
            "      first_of: [{segment: {left: odl}, next: questions}, {for: 1d, next: end}]\n",
            &["J090"],
        ),
    ] {
        let source = with(OLD).replacen(until, wait, 1);
        assert_eq!(
            codes(&source),
            expected,
            "{wait}: {:#?}",
            journey::check(&source)
        );
    }
}

#[test]
fn shared_segments_are_taken_as_they_are_named() {
    let shared = "# Of this folder.\nsegments:\n  # Young.\n  young:\n    title: Young\n    all:\n      - aged: {to: 30}\n\n  # Old, and\n  # so on.\n  old:\n    title: Old\n    all:\n      - has: Patient\n        where: >-\n          birthDate.exists()\n          and active\n      - aged: {from: 80}\n\n  # Never.\n  never: {title: Never, all: [{aged: {from: 150}}]}\n";
    assert_eq!(journey::check_segments(shared), []);
    let journey = with("");
    assert_eq!(codes(&journey), ["J090"]);
    let whole = journey::with_segments(&journey, shared).unwrap().text;
    assert_eq!(journey::check(&whole), []);
    assert!(whole.starts_with(&journey), "its lines keep their numbers");
    assert!(
        whole.contains("# Old, and") && !whole.contains("young") && !whole.contains("never"),
        "{whole}"
    );
    assert_eq!(journey::with_segments(&whole, shared).unwrap().text, whole);
    // Beside its own, at their column, which the shared ones don't replace.
    let own = GOOD.replacen(
        "exits:\n",
        "segments:\n    young:\n        title: My young\n        all: [{aged: {to: 20}}]\n\n# Exits.\nexits:\n  out: {title: Out, segment: {left: old}}\n  on: {title: On, segment: {left: young}}\n",
        1,
    );
    let whole = journey::with_segments(&own, shared).unwrap().text;
    assert_eq!(journey::check(&whole), [], "{whole}");
    assert!(
        whole.contains("My young") && !whole.contains("title: Young"),
        "{whole}"
    );
    // A name that is nowhere stays one, and what names nothing stays as it is.
    let odd = journey.replace("left: old", "left: odl");
    assert_eq!(journey::with_segments(&odd, shared).unwrap().text, odd);
    assert_eq!(
        journey::with_segments(GOOD, "no: segments").unwrap().text,
        GOOD
    );
    // What is wrong with the file is told with its own lines.
    let wrong = shared.replace("{from: 80}", "{}");
    let findings = journey::with_segments(&journey, &wrong)
        .unwrap_err()
        .findings;
    assert_eq!(
        (findings[0].code.as_str(), findings[0].line),
        ("J091", 18),
        "{findings:#?}"
    );
}
