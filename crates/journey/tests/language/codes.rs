//! Codes in conditions, and misspelt names.

use super::GOOD;

/// What is found of a condition of the entry: code, whether it is an error, and the text from its place on.
fn of(kind: &str, condition: &str) -> Vec<(String, bool, String)> {
    let quoted = condition.replace('\'', "''");
    let source = GOOD
        .replacen("event: Encounter", &format!("event: {kind}"), 1)
        .replacen(
            "  where: status = 'finished'",
            &format!("  where: '{quoted}'"),
            1,
        )
        .replacen("period.end", "meta.lastUpdated", 1);
    assert_ne!(source, GOOD);
    let found = journey::check(&source).into_iter();
    found
        .map(|found| {
            let line = source.lines().nth(found.line - 1).unwrap();
            let at: String = line.chars().skip(found.column - 1).collect();
            (found.code, found.error, at)
        })
        .collect()
}

#[test]
fn check_digits_are_held_to_where_codes_stand() {
    let sct = "system = 'http://snomed.info/sct'";
    let loinc = "system = 'http://loinc.org'";
    for (kind, condition, expected) in [
        (
            "Condition",
            format!("code.coding.exists({sct} and code = '84114007')"),
            None,
        ),
        (
            "Condition",
            format!("code.coding.exists({sct} and code = '84114008')"),
            Some((true, "84114008")),
        ),
        (
            "Condition",
            format!("code.coding.where({sct}).exists(code = '84114007' or code = '84114008')"),
            Some((true, "84114008")),
        ),
        (
            "Condition",
            format!("code.coding.where({sct}).code contains '48114007'"),
            Some((true, "48114007")),
        ),
        (
            "Condition",
            "code.coding.exists(system = %sct and code in ('44054006' | '44054007'))".to_owned(),
            Some((true, "44054007")),
        ),
        (
            "Observation",
            format!("code.coding.exists({loinc} and code = '4548-4')"),
            None,
        ),
        (
            "Observation",
            format!("code.coding.exists(code = '12345-0' and {loinc})"),
            Some((true, "12345-0")),
        ),
        // Answers of LOINC have letters.
        (
            "Observation",
            format!("value.ofType(CodeableConcept).coding.exists({loinc} and code = 'LA6576-8')"),
            None,
        ),
        // Without a system it may be another one.
        (
            "Observation",
            "code.coding.exists(code = '12345-0')".to_owned(),
            Some((false, "12345-0")),
        ),
        (
            "Condition",
            "code.coding.exists(code = '84114008')".to_owned(),
            Some((false, "84114008")),
        ),
        (
            "Condition",
            "code.coding.exists(system = 'urn:local' and code = '84114008')".to_owned(),
            None,
        ),
        (
            "MedicationRequest",
            "medication.ofType(CodeableConcept).coding.exists(code = '310100')".to_owned(),
            None,
        ),
        (
            "Condition",
            "code.coding.exists(code = '1234')".to_owned(),
            None,
        ),
    ] {
        let found = of(kind, &condition);
        let found: Vec<_> = found.iter().filter(|(code, ..)| code == "J021").collect();
        match expected {
            None => assert!(found.is_empty(), "{condition}: {found:?}"),
            Some((error, code)) => {
                assert_eq!(found.len(), 1, "{condition}: {found:?}");
                assert_eq!(found[0].1, error, "{condition}");
                // The place is that of the text, with its quotes.
                let at = found[0].2.trim_start_matches('\'');
                assert!(at.starts_with(code), "{condition}: {at}");
            }
        }
    }
}

/// Segments of a file that journeys share name codes, too.
#[test]
fn codes_of_shared_segments_are_looked_at() {
    let segments = |code: &str| {
        format!(
            "segments:\n  overdue:\n    title: Overdue\n    all:\n      - has: Condition\n        where: code.coding.exists(system = 'http://snomed.info/sct' and code = '{code}')\n"
        )
    };
    assert_eq!(journey::check_segments(&segments("44054006")), []);
    let found = journey::check_segments(&segments("44054007"));
    assert_eq!((found[0].code.as_str(), found[0].line), ("J021", 6));
}

#[test]
fn misspelt_names_are_suggested() {
    for (from, to, near) in [
        ("remind_after: 24h", "remind_aftr: 24h", "`remind_after`"),
        ("next: questions", "next: qestions", "`questions`"),
        ("    wait:\n", "    weit:\n", "`wait`"),
        ("role: coordinator", "role: cordinator", "`coordinator`"),
        ("event: Encounter", "event: Encouter", "`Encounter`"),
        ("when: questions.well", "when: question.well", "`questions`"),
    ] {
        let findings = journey::check(&GOOD.replacen(from, to, 1));
        assert!(
            findings
                .iter()
                .any(|finding| finding.message.contains(near)),
            "{to}: {findings:#?}"
        );
    }
}
