//! How journeys begin: by dates, again, and by request.

use super::GOOD;

/// What a date needs, and where the checker points.
#[test]
fn dates_begin_journeys_as_the_entry_says() {
    let small = |entry: &str, words: &str| {
        format!(
            "name: small
title: Small
owner: A team
purpose: TREAT
at_most: 30d
entry:
{entry}exits:
  death: {{title: Died, event: Patient, where: deceased.exists() and deceased != false}}
  consent: {{title: Consent withdrawn, consent: withdrawn}}
start: call
steps:
  call:
    title: Call
    task: {{title: Call, reason: It is time., role: coordinator, due: 1d}}
    next: {words}
    overdue: {{role: clinician, priority: urgent}}
  rest:
    title: Rest
    wait: {{until: start + 2d, past_due: run}}
    next: end
"
        )
    };
    let visit = "  anchors: {visit: start}\n";
    for (date, more, expected) in [
        (
            "of: Appointment, begins: visit - 14d at 09:00, past_due: skip",
            "  per: event\n",
            None,
        ),
        (
            "of: Appointment, begins: visit - 14d, past_due: run",
            "  within: 3d\n  per: event\n",
            None,
        ),
        (
            "of: Appointment, begins: visit - 14d, past_due: escalate, late: call",
            "  within: 3d\n  per: event\n",
            None,
        ),
        (
            "of: Appointment, begins: visit + 1y, every: year, past_due: skip",
            "  per: date\n",
            None,
        ),
        (
            "of: Appointment, where: status = 'booked', begins: visit, past_due: skip",
            "  per: patient\n",
            None,
        ),
        (
            "of: Appointment, begins: visit - 14d",
            "  per: event\n",
            Some(("J003", 7, "past_due")),
        ),
        (
            "of: Appointment, begins: visit - 14d at 9, past_due: skip",
            "  per: event\n",
            Some(("J009", 7, "09:00")),
        ),
        (
            "of: Appointment, begins: visit - 5h at 09:00, past_due: skip",
            "  per: event\n",
            Some(("J009", 7, "whole days")),
        ),
        (
            "of: Appointment, begins: vist - 14d, past_due: skip",
            "  per: event\n",
            Some(("J025", 7, "did you mean `visit`?")),
        ),
        (
            "of: Appointment, begins: visit, every: year, past_due: skip",
            "  per: event\n",
            Some(("J070", 9, "per: date")),
        ),
        (
            "of: Appointment, begins: visit, past_due: escalate",
            "  within: 3d\n  per: event\n",
            Some(("J070", 7, "`late`")),
        ),
        (
            "of: Appointment, begins: visit, past_due: escalate, late: rest",
            "  within: 3d\n  per: event\n",
            Some(("J070", 7, "to nobody")),
        ),
        (
            "of: Appointment, begins: visit, past_due: skip, late: call",
            "  per: event\n",
            Some(("J070", 7, "alone")),
        ),
        (
            "of: Appointment, begins: visit, past_due: skip",
            "  within: 3d\n  per: event\n",
            Some(("J070", 9, "none does")),
        ),
        (
            "of: Appointment, begins: visit, every: year, past_due: run",
            "  per: date\n",
            Some(("J070", 7, "within")),
        ),
        (
            "of: Appointment, begins: visit, past_due: run",
            "  per: event\n",
            Some(("J036", 6, "within")),
        ),
        (
            "of: Appointment, begins: visit, past_due: skip",
            "  where: status = 'booked'\n  per: event\n",
            Some(("J070", 9, "date: where")),
        ),
        (
            "of: Appointment, begins: visit, past_due: skip",
            "  event: Encounter\n  where: status = 'booked'\n  per: event\n",
            Some(("J070", 7, "not both")),
        ),
        (
            "of: Organization, begins: visit, past_due: skip",
            "  per: event\n",
            Some(("J004", 6, "nobody's record")),
        ),
        (
            "of: Appointment, where: staus = 'booked', begins: visit, past_due: skip",
            "  per: event\n",
            Some(("J038", 7, "status")),
        ),
    ] {
        let entry = format!("  date: {{{date}}}\n{visit}{more}");
        let findings = journey::check(&small(&entry, "rest"));
        match expected {
            None => assert_eq!(findings, [], "{date}"),
            Some((code, line, words)) => {
                let hit = |found: &&journey::Finding| {
                    found.code == code && found.line == line && found.message.contains(words)
                };
                assert!(
                    findings.iter().any(|found| hit(&found)),
                    "{date}: {findings:#?}"
                );
            }
        }
    }
    let birth = "  date: {of: Patient, begins: birth + 65y at 09:00, past_due: skip}\n  anchors: {birth: birthDate}\n  per: patient\n";
    assert_eq!(journey::check(&small(birth, "rest")), []);
    let hung = small(birth, "rest").replace("start + 2d", "birth + 2d");
    let findings = journey::check(&hung);
    assert!(
        findings
            .iter()
            .any(|found| found.code == "J070" && found.line == 22),
        "{findings:#?}"
    );
}

/// `again` says something, of what can be taken again.
#[test]
fn rules_for_taking_a_journey_again_make_sense() {
    for (again, code) in [
        ("{after: 90d}", None),
        ("{after: 90d, since: began, at_most: 3}", None),
        ("{at_most: 2}", None),
        ("{since: began, at_most: 2}", Some("J071")),
        ("{since: began}", Some("J071")),
        ("{at_most: 1}", Some("J004")),
        ("{after: soon}", Some("J009")),
    ] {
        let source = GOOD.replacen(
            "  per: event",
            &format!("  per: event\n  again: {again}"),
            1,
        );
        let findings = journey::check(&source);
        let found = findings.first().map(|finding| finding.code.as_str());
        assert_eq!(found, code, "{again}: {findings:#?}");
    }
}

/// The entry of the small journey, replaced.
fn with_entry(entry: &str) -> Vec<(String, String)> {
    let (from, to) = (
        GOOD.find("entry:\n").unwrap(),
        GOOD.find("exits:\n").unwrap(),
    );
    let source = format!("{}entry: {entry}\n{}", &GOOD[..from], &GOOD[to..]);
    let findings = journey::check(&source).into_iter();
    findings.map(|found| (found.code, found.message)).collect()
}

#[test]
fn entries_by_request_are_whole_or_say_what_is_missing() {
    let event = "event: Encounter, where: status = 'finished', anchors: {discharge: period.end}, within: 3d, per: event";
    let asks = "asks: {discharge: Day of discharge}";
    let has = "{has: Condition, where: code.exists()}";
    for (entry, code, words) in [
        (
            format!("{{request: {{by: [clinician, coordinator, system], {asks}}}, per: patient}}"),
            "",
            "",
        ),
        (
            format!(
                "{{request: {{by: [system], {asks}}}, within: 3d, per: event, who: {{any: [{has}]}}}}"
            ),
            "",
            "",
        ),
        (
            format!("{{{event}, request: {{by: [clinician], {asks}}}}}"),
            "",
            "",
        ),
        (
            "{per: event}".to_owned(),
            "J003",
            "`event`, `date`, `segment` or `request`",
        ),
        (
            "{event: Encounter, per: event}".to_owned(),
            "J003",
            "`where` beside",
        ),
        (
            format!(
                "{{request: {{by: [clinician], {asks}}}, anchors: {{discharge: period.end}}, per: event}}"
            ),
            "J050",
            "requests alone",
        ),
        (
            format!("{{{event}, request: {{by: [clinician]}}}}"),
            "J050",
            "no time for `discharge`",
        ),
        (
            format!(
                "{{{event}, request: {{by: [clinician], asks: {{discharge: Day, other: Day}}}}}}"
            ),
            "J050",
            "`other` is no anchor",
        ),
        (
            format!(
                "{{request: {{by: [clinician], {asks}}}, per: event, who: {{any: [{{this: status = 'x'}}]}}}}"
            ),
            "J050",
            "nobody could be asked for",
        ),
        (
            format!("{{request: {{by: [clinician, clinician], {asks}}}, per: event}}"),
            "J024",
            "twice",
        ),
        (
            format!("{{request: {{by: [patient], {asks}}}, per: event}}"),
            "J004",
            "can't be `patient`",
        ),
        (
            "{request: {by: [clinician], asks: {discharge: Day, reason: Day}}, per: event}"
                .to_owned(),
            "J024",
            "`reason`",
        ),
    ] {
        let found = with_entry(&entry);
        if code.is_empty() {
            assert_eq!(found, [], "{entry}");
        } else {
            let told = |(of, message): &(String, String)| of == code && message.contains(words);
            assert!(found.iter().any(told), "{entry}: {found:#?}");
        }
    }
    let found = with_entry("{request: {by: [clinician]}, within: 3d, per: event}");
    assert!(
        found
            .iter()
            .any(|(code, message)| code == "J050" && message.contains("`within`")),
        "{found:#?}"
    );
}
