//! Scenarios beside journeys: what passes, what fails and how that is told, and what is covered.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "a test says by failing what went wrong"
)]

use journey::{Definition, Tested};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn heart_failure() -> Arc<Definition> {
    let path = root().join("journeys/heart-failure-discharge.yaml");
    Definition::compile(&fs::read_to_string(path).unwrap(), 1).unwrap()
}

/// Scenarios of the heart-failure journey, the discharge given.
fn scenarios(rest: &str) -> String {
    format!(
        "given:\n  now: 2026-03-02T11:00:00Z\n  entry:\n    status: finished\n    class: {{code: IMP}}\n    period: {{end: 2026-03-02T10:00:00Z}}\n    reasonCode: [{{coding: [{{system: http://snomed.info/sct, code: \"84114007\"}}]}}]\nscenarios:\n{rest}"
    )
}

fn tested(rest: &str) -> Tested {
    journey::test(&heart_failure(), &scenarios(rest)).unwrap()
}

/// The differences of the only scenario.
fn differences(rest: &str) -> Vec<String> {
    tested(rest).scenarios.remove(0).differences
}

#[test]
fn every_journey_passes_its_scenarios_and_they_go_all_its_ways() {
    for entry in fs::read_dir(root().join("journeys")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let Some(stem) = name.strip_suffix(".test.yaml") else {
            continue;
        };
        let source = fs::read_to_string(path.with_file_name(format!("{stem}.yaml"))).unwrap();
        let definition = Definition::compile(&source, 1).unwrap();
        let tested = journey::test(&definition, &fs::read_to_string(&path).unwrap()).unwrap();
        assert!(tested.passed(), "{}", tested.text());
        assert_eq!(tested.coverage(), 100, "{}", tested.text());
    }
}

#[test]
fn the_published_schema_is_the_form_of_scenarios() {
    let path = root().join("docs/journeys/scenarios.schema.json");
    let made = serde_json::to_string_pretty(&journey::scenario_schema()).unwrap() + "\n";
    #[allow(
        clippy::disallowed_methods,
        reason = "how a developer asks for the pages to be written anew"
    )]
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &made).unwrap();
    }
    assert!(
        fs::read_to_string(&path).unwrap_or_default() == made,
        "docs/journeys/scenarios.schema.json is not what the tables say; run the test with UPDATE_DOCS=1"
    );
}

/// A journey that begins by a date, in scenarios: it moves, is called off, is past, and comes by the patient's clock.
#[test]
fn dates_come_in_scenarios() {
    let source = |entry: &str| {
        format!(
            "name: dated
title: By a date
owner: Team
purpose: TREAT
at_most: 5d
entry:
{entry}exits:
  death: {{title: Died, event: Patient, where: deceased.exists() and deceased != false}}
  consent: {{title: Consent withdrawn, consent: withdrawn}}
start: tell
steps:
  tell:
    title: Tell
    task: {{title: Tell, reason: The date has come., role: coordinator, due: 1d}}
    next: end
    overdue: end
  look:
    title: Look
    task: {{title: Look, reason: It was past., role: clinician, due: 1d}}
    next: end
    overdue: end
"
        )
    };
    let visit = source(
        "  date: {of: Appointment, where: status = 'booked', begins: visit - 14d at 09:00, past_due: escalate, late: look}
  anchors: {visit: start}
  within: 7d
  per: event
",
    );
    let definition = Definition::compile(&visit, 1).unwrap();
    let given = "given:
  now: 2026-11-02T14:00:00Z
  entry: {status: booked, start: 2026-12-01T10:00:00Z}
scenarios:
";
    let moved = "{resource: {resourceType: Appointment, id: entry, status: booked, start: 2026-12-11T10:00:00Z}}";
    let gone = "{resource: {resourceType: Appointment, id: entry, status: cancelled, start: 2026-12-01T10:00:00Z}}";
    for (rest, fine) in [
        ("then: {tasks: [{step: tell, at: 2026-11-17T09:00:00Z}], is_at: [tell]}".to_owned(), true),
        ("then: {tasks: [{step: tell, at: 2026-11-17T10:00:00Z}], is_at: [tell]}".to_owned(), false),
        (format!("when: [{moved}]\n    then: {{tasks: [{{step: tell, at: 2026-11-27T09:00:00Z}}], is_at: [tell]}}"), true),
        (format!("when: [{gone}]\n    then: {{not_started: true}}"), true),
        ("when: [{at: 2026-11-05T00:00:00Z, deleted: Appointment/entry}]\n    then: {not_started: true}".to_owned(), true),
        ("given: {now: 2026-11-20T00:00:00Z}\n    then: {tasks: [{step: look, at: 2026-11-20T00:00:00Z}], is_at: [look]}".to_owned(), true),
        ("given: {now: 2026-11-25T00:00:00Z}\n    then: {not_started: true}".to_owned(), true),
        ("when: [{at: 2026-11-10T00:00:00Z, consent: withdrawn}]\n    then: {not_started: true}".to_owned(), true),
        ("then: {ended: completed, ended_at: 2026-11-18T09:00:00Z}".to_owned(), true),
    ] {
        let text = format!("{given}  - name: one\n    {rest}\n");
        let tested = journey::test(&definition, &text);
        let tested = tested.unwrap_or_else(|findings| panic!("{text}{findings:#?}"));
        assert_eq!(tested.passed(), fine, "{text}{}", tested.text());
    }

    let birthday = source(
        "  date: {of: Patient, begins: birth + 65y at 09:00, past_due: escalate, late: look}
  anchors: {birth: birthDate}
  within: 7d
  per: patient
",
    );
    let definition = Definition::compile(&birthday, 1).unwrap();
    for (patient, at) in [
        ("{birthDate: 1964-02-29}", "2029-02-28T09:00:00Z"),
        (
            "{birthDate: 1964-03-29, extension: [{url: http://hl7.org/fhir/StructureDefinition/tz-code, valueCode: Europe/Paris}]}",
            "2029-03-29T07:00:00Z",
        ),
    ] {
        let text = format!(
            "scenarios:\n  - name: one\n    given: {{patient: {patient}}}\n    then: {{tasks: [{{step: tell, at: {at}}}], is_at: [tell]}}\n"
        );
        let tested = journey::test(&definition, &text).unwrap();
        assert!(tested.passed(), "{text}{}", tested.text());
    }
}

/// The welcome and where the patient is then, with one thing wrong in each.
#[test]
fn what_is_not_as_expected_is_told() {
    let table: &[(&str, &str, &[&str])] = &[
        (
            "all is as expected",
            "then: {sent: [{step: welcome, by: email, at: start}], is_at: [day_thirty, day_two, follow_up, visit]}",
            &[],
        ),
        (
            "another channel",
            "then: {sent: [{step: welcome, by: portal}]}",
            &[
                "messages sent (- expected, + happened):",
                "  - welcome by portal",
                "  + 2026-03-02 11:00 welcome, message by email: “Hello Ida.",
            ],
        ),
        (
            "another time",
            "then: {sent: [{step: welcome, at: start + 1h}]}",
            &[
                "messages sent (- expected, + happened):",
                "  - 2026-03-02 12:00 welcome",
                "  + 2026-03-02 11:00 welcome, message by email: “Hello Ida.",
            ],
        ),
        (
            "one too many, and the rest is still seen to be right",
            "then: {sent: [{step: symptoms}, {step: welcome}]}",
            &[
                "messages sent (- expected, + happened):",
                "  - symptoms",
                "    2026-03-02 11:00 welcome, message by email: “Hello Ida.",
            ],
        ),
        (
            "nothing else, but there is",
            "then: {nothing_else: true, visits: [{step: visit}]}",
            &[
                "messages sent (- expected, + happened):",
                "  + 2026-03-02 11:00 welcome, message by email: “Hello Ida.",
            ],
        ),
        (
            "another place",
            "then: {is_at: [welcome]}",
            &[
                "the patient should be at welcome, but the patient is at day_thirty, day_two, follow_up, visit",
            ],
        ),
        (
            "another end",
            "then: {ended: finished}",
            &[
                "the journey should end as `finished`, but it ended as `time_over` (Longest time over)",
            ],
        ),
        (
            "another time of the end",
            "then: {ended: time_over, ended_at: start + 44d}",
            &["the journey should end at 2026-04-15 11:00, but it ended at 2026-04-16 11:00"],
        ),
        (
            "it should not start",
            "then: {not_started: true}",
            &[
                "the journey should not start, but the patient is at day_thirty, day_two, follow_up, visit",
            ],
        ),
        (
            "it does not start",
            "given: {now: 2026-03-09T11:00:00Z}\n    then: {is_at: [visit]}",
            &[
                "the journey did not start: the entry's condition does not hold, or the event is too old",
            ],
        ),
        (
            "nothing to act on",
            "when: [{task: {step: review}}]\n    then: {nothing_else: false}",
            &["line 10: `review` has opened no Task by then"],
        ),
        (
            "no such question",
            "when: [{at: discharge + 3d, answers: {step: symptoms, with: {breathles: true}}}]\n    then: {nothing_else: false}",
            &["line 10: `symptoms` asks no question `breathles`"],
        ),
        (
            "back in time",
            "when: [{after: 1d}, {at: start}]\n    then: {nothing_else: false}",
            &["line 10: 2026-03-02T11:00:00.000Z lies before the event before it"],
        ),
    ];
    for (name, rest, expected) in table {
        let found = differences(&format!("  - name: x\n    {rest}\n"));
        assert_eq!(found.len(), expected.len(), "{name}: {found:#?}");
        for (found, expected) in found.iter().zip(*expected) {
            assert!(
                found.starts_with(expected),
                "{name}: {found:?} should be {expected:?}"
            );
        }
    }
}

#[test]
fn mistakes_in_a_file_of_scenarios_are_found_at_their_place() {
    let table = [
        (
            "  - nam: x\n    then: {}\n",
            "J002",
            9,
            5,
            "did you mean `name`?",
        ),
        ("  - name: x\n", "J003", 9, 5, "needs `then`"),
        (
            "  - name: x\n    then: {is_at: visti}\n",
            "J006",
            10,
            19,
            "did you mean `visit`?",
        ),
        (
            "  - name: x\n    then: {ended: over}\n",
            "J004",
            10,
            19,
            "never ends as `over`",
        ),
        (
            "  - name: x\n    when: [{after: soon}]\n    then: {}\n",
            "J009",
            10,
            20,
            "no duration",
        ),
        (
            "  - name: x\n    when: [{at: dischage + 2d}]\n    then: {}\n",
            "J009",
            10,
            17,
            "did you mean `discharge`?",
        ),
        (
            "  - name: x\n    when: [{after: 1d, at: start}]\n    then: {}\n",
            "J003",
            10,
            12,
            "not both",
        ),
        (
            "  - name: x\n    when: [{consent: given, stopped: y}]\n    then: {}\n",
            "J003",
            10,
            12,
            "don't go together",
        ),
        (
            "  - name: x\n    when: [{resource: {resourceType: Encouter}}]\n    then: {}\n",
            "J004",
            10,
            38,
            "did you mean `Encounter`?",
        ),
        (
            "  - name: x\n    when: [{resource: {status: finished}}]\n    then: {}\n",
            "J003",
            10,
            23,
            "needs its `resourceType`",
        ),
        (
            "  - name: x\n    given: {record: [{resourceType: Coverage, beneficiary: {reference: Patient/p}}]}\n    then: {}\n",
            "J004",
            10,
            22,
            "this Coverage is of `Patient/p`",
        ),
        (
            "  - name: x\n    given: {entry: {subject: {reference: Patient/p}}}\n    then: {}\n",
            "J004",
            10,
            20,
            "this Encounter is of `Patient/p`",
        ),
        (
            "  - name: x\n    when: [{resource: {resourceType: Patient, id: p}}]\n    then: {}\n",
            "J004",
            10,
            23,
            "this Patient is of `Patient/p`",
        ),
        (
            "  - name: x\n    then: {sent: [{step: welcome, by: post}]}\n",
            "J004",
            10,
            39,
            "one of email, sms, push, letter, voice, portal",
        ),
        (
            "  - name: x\n    then: {}\n  - name: x\n    then: {}\n",
            "J024",
            11,
            5,
            "another scenario",
        ),
        (
            "  - name: x\n    then: {}\n    then: {}\n",
            "J024",
            11,
            5,
            "stands twice",
        ),
        ("  - name: [x\n", "J001", 9, 11, "no YAML"),
        ("  []\n", "J003", 1, 1, "no scenario"),
    ];
    for (rest, code, line, column, words) in table {
        let findings = journey::test(&heart_failure(), &scenarios(rest)).unwrap_err();
        let found = &findings[0];
        assert_eq!(
            (found.code.as_str(), found.line, found.column),
            (code, line, column),
            "{rest}: {}",
            found.message
        );
        assert!(found.message.contains(words), "{rest}: {}", found.message);
    }
}

#[test]
fn what_no_scenario_reaches_is_named() {
    let tested = tested("  - name: x\n    then: {ended: time_over}\n");
    assert!(tested.passed());
    assert!(tested.coverage() < 100);
    assert!(tested.steps_missed.contains(&"welcome_call".to_owned()));
    assert!(!tested.steps_missed.contains(&"welcome".to_owned()));
    assert!(
        tested
            .ways_missed
            .contains(&"welcome -> follow_up (not delivered)".to_owned())
    );
    assert!(
        !tested
            .ways_missed
            .contains(&"welcome -> reached (delivered)".to_owned())
    );
    assert!(tested.text().contains("no scenario comes to welcome_call"));
}

#[test]
fn what_happened_is_told_where_a_scenario_fails() {
    let failed = tested("  - name: x\n    then: {is_at: [welcome]}\n").text();
    assert!(failed.contains("FAILED  x"), "{failed}");
    assert!(
        failed.contains(
            "2026-03-02 11:00 Delivered: Welcome message (a message's delivery was reported, or the patient wrote back)"
        ),
        "{failed}"
    );
}

#[test]
fn the_guides_journey_passes_the_guides_scenario() {
    let guide = fs::read_to_string(root().join("docs/journeys/guide.md")).unwrap();
    let block = |begins: &str| {
        let start = guide.find(begins).unwrap();
        let end = guide[start..].find("```").unwrap();
        guide[start..start + end].to_owned()
    };
    let definition = Definition::compile(&block("name: knee-replacement"), 1).unwrap();
    let tested = journey::test(&definition, &block("given:\n  now:")).unwrap();
    assert!(tested.passed(), "{}", tested.text());
}

/// A journey that looks at the record three times, each way with an end of its own.
const LOOKS: &str = "name: looks
title: Looks at the record
owner: Team
purpose: TREAT
at_most: 60d
entry:
  event: Encounter
  where: status = 'finished'
  anchors: {discharge: period.end}
  within: 3d
  per: event
exits:
  death: {title: Died, event: Patient, where: deceased.exists() and deceased != false}
  consent: {title: Consent withdrawn, consent: withdrawn}
start: weighed
steps:
  weighed:
    title: Weighed?
    check: {has: Observation, where: status = 'final'}
    yes: has_weight
    no: insured
  insured:
    title: Insured?
    check: {coverage: active}
    yes: has_coverage
    no: allowed
  allowed:
    title: May be asked?
    check: {consent: HRESCH}
    yes: may_ask
    no: has_nothing
  has_weight: {title: Has a weight, exit: {reason: has_weight}}
  has_coverage: {title: Has a coverage, exit: {reason: has_coverage}}
  may_ask: {title: May be asked, exit: {reason: may_ask}}
  has_nothing: {title: Has nothing, exit: {reason: has_nothing}}
";

#[test]
fn a_look_sees_the_scenarios_record_at_its_moment() {
    let definition = Definition::compile(LOOKS, 1).unwrap();
    let weight = |status: &str| {
        format!(
            "{{resourceType: Observation, status: {status}, code: {{text: Weight}}, subject: {{reference: Patient/patient}}}}"
        )
    };
    let coverage = |end: &str| {
        format!(
            "{{resourceType: Coverage, status: active, payor: [{{display: Insurer}}], period: {{end: {end}}}}}"
        )
    };
    for (record, end) in [
        (weight("final"), "has_weight"),
        (weight("preliminary"), "has_nothing"),
        (coverage("2026-12-31"), "has_coverage"),
        // Over the day before.
        (coverage("2026-03-01"), "has_nothing"),
        (
            format!("{}, {}", coverage("2026-12-31"), weight("final")),
            "has_weight",
        ),
        (String::new(), "has_nothing"),
    ] {
        let source = format!(
            "given:\n  now: 2026-03-02T11:00:00Z\n  entry: {{status: finished, class: {{code: IMP}}, period: {{end: 2026-03-02T10:00:00Z}}}}\n  record: [{record}]\nscenarios:\n  - name: x\n    then: {{ended: {end}}}\n"
        );
        let tested = journey::test(&definition, &source).unwrap();
        assert!(tested.passed(), "{record}: {}", tested.text());
    }
}

/// A journey of two experiments: one at its start, one a day later.
const ARMS: &str = "start: first
steps:
  first:
    title: First
    split:
      arms: [{id: a, weight: 49, next: pause}, {id: b, weight: 50, next: end_b}]
      holdout: {weight: 1, next: left_out}
  pause: {title: A day, wait: {for: 1d}, next: second}
  second:
    title: Second
    split:
      experiment: later
      arms: [{id: x, weight: 1, next: end_x}, {id: z, weight: 99, next: end_z}]
  end_b: {title: B, exit: {reason: b}}
  left_out: {title: Left out, exit: {reason: left_out}}
  end_x: {title: X, exit: {reason: x}}
  end_z: {title: Z, exit: {reason: z}}
";

/// The journey of looks with other steps, and scenarios of it.
fn of_steps(steps: &str, scenarios: &str) -> Result<Tested, Vec<journey::Finding>> {
    let (head, _) = LOOKS.split_once("start: ").unwrap();
    let definition = Definition::compile(&format!("{head}{steps}"), 1).unwrap();
    let given = "given:\n  now: 2026-03-02T11:00:00Z\n  entry: {status: finished, class: {code: IMP}, period: {end: 2026-03-02T10:00:00Z}}\n";
    journey::test(&definition, &format!("{given}{scenarios}"))
}

#[test]
fn scenarios_choose_arms_and_go_through_all_of_them() {
    let tested = of_steps(
        ARMS,
        "  arms: {first: a, later: x}
scenarios:
  - {name: those of all, then: {ended: end_x, ended_at: start + 1d}}
  - {name: one, given: {arms: {first: a, later: z}}, then: {ended: end_z}}
  - {name: another, given: {arms: {first: b}}, then: {ended: end_b}}
  - {name: left out, given: {arms: {first: holdout}}, then: {ended: left_out}}
",
    );
    let tested = tested.unwrap();
    assert!(tested.passed(), "{}", tested.text());
    assert_eq!(tested.coverage(), 100, "{}", tested.text());
}

#[test]
fn arms_that_do_not_exist_are_found_at_their_place() {
    for (arms, column, words) in [
        ("{frist: a}", 10, "did you mean `first`?"),
        ("{second: x}", 10, "no experiment `second`"),
        ("{first: c}", 17, "(one of holdout, a, b)"),
        ("{later: holdout}", 17, "no arm `holdout`"),
    ] {
        let rest = format!("  arms: {arms}\nscenarios:\n  - {{name: x, then: {{}}}}\n");
        let found = of_steps(ARMS, &rest).unwrap_err().remove(0);
        assert_eq!(
            (found.code.as_str(), found.line, found.column),
            ("J006", 4, column),
            "{arms}"
        );
        assert!(found.message.contains(words), "{arms}: {}", found.message);
    }
}

/// A journey that waits for what it writes itself, beside the step that writes it.
fn own_writes(waits: &str) -> String {
    format!(
        "start: [seen, call]
steps:
  call:
    title: Call
    task: {{title: Call, reason: To hear how it is., role: coordinator, due: 2d}}
    next: end
    overdue: end
  seen:
    title: Seen
    wait: {{{waits}, at_most: 5d}}
    next: found
    not_come: missed
  found: {{title: Found, exit: {{reason: found}}}}
  missed: {{title: Missed, exit: {{reason: missed}}}}
"
    )
}

#[test]
fn what_the_journey_writes_itself_is_read_as_in_production() {
    for (waits, scenario) in [
        (
            "event: Task, where: status = 'requested'",
            "then: {ended: found, ended_at: start}",
        ),
        // The task that the journey closes when it is overdue.
        (
            "event: Task, where: status = 'cancelled'",
            "then: {ended: found, ended_at: start + 2d}",
        ),
        (
            "event: Task, where: status = 'on-hold'",
            "then: {ended: missed, ended_at: start + 5d}",
        ),
    ] {
        let scenarios = format!("scenarios:\n  - name: x\n    {scenario}\n");
        let tested = of_steps(&own_writes(waits), &scenarios).unwrap();
        assert!(tested.passed(), "{waits}: {}", tested.text());
    }
}

#[test]
fn what_is_given_is_in_the_patients_record() {
    let steps = "start: covered
steps:
  covered:
    title: Covered?
    check: {has: Coverage, where: beneficiary.reference = 'Patient/patient'}
    yes: waits
    no: uncovered
  waits:
    title: Waits
    wait: {event: Observation, where: subject.reference = 'Patient/patient', at_most: 5d}
    next: measured
    not_come: missed
  uncovered: {title: Uncovered, exit: {reason: uncovered}}
  measured: {title: Measured, exit: {reason: measured}}
  missed: {title: Missed, exit: {reason: missed}}
";
    let scenarios =
        "  record: [{resourceType: Coverage, status: active, payor: [{display: Insurer}]}]
scenarios:
  - name: a short form
    when: [{after: 1d, measured: {code: 29463-7, value: 80, unit: kg}}]
    then: {ended: measured, ended_at: start + 1d}
  - name: a resource
    when: [{after: 1d, resource: {resourceType: Observation, status: final, code: {text: Weight}}}]
    then: {ended: measured, ended_at: start + 1d}
";
    let tested = of_steps(steps, scenarios).unwrap();
    assert!(tested.passed(), "{}", tested.text());
}

/// A journey that is started by request, or by an event.
fn by_request() -> Arc<Definition> {
    let path = root().join("journeys/heart-failure-discharge.yaml");
    let source = fs::read_to_string(path).unwrap().replacen(
        "  per: event\n",
        "  per: event\n  request: {by: [clinician], asks: {discharge: Day of discharge}}\n",
        1,
    );
    Definition::compile(&source, 1).unwrap()
}

#[test]
fn a_scenario_starts_by_request() {
    let condition = "{resourceType: Condition, clinicalStatus: {coding: [{code: active}]}, code: {coding: [{system: http://snomed.info/sct, code: '84114007'}]}}";
    for (given, then, passes) in [
        (
            format!(
                "{{request: {{times: {{discharge: 2026-03-02T10:00:00Z}}}}, record: [{condition}]}}"
            ),
            "{is_at: [day_thirty, day_two, follow_up, visit]}",
            true,
        ),
        // The condition on the event is none of a request.
        (
            "{request: {times: {discharge: 2026-03-02T10:00:00Z}}}".to_owned(),
            "{not_started: true}",
            true,
        ),
        (
            format!("{{request: {{}}, record: [{condition}]}}"),
            "{not_started: true}",
            true,
        ),
        (
            format!(
                "{{now: 2026-03-12T10:00:00Z, request: {{times: {{discharge: 2026-03-02T10:00:00Z}}}}, record: [{condition}]}}"
            ),
            "{not_started: true}",
            true,
        ),
        (
            format!(
                "{{request: {{times: {{discharge: 2026-03-02T10:00:00Z}}}}, record: [{condition}]}}"
            ),
            "{not_started: true}",
            false,
        ),
    ] {
        let source = scenarios(&format!(
            "  - name: x\n    given: {given}\n    when: [{{after: 1h}}]\n    then: {then}\n"
        ));
        let tested = journey::test(&by_request(), &source).unwrap();
        assert_eq!(tested.passed(), passes, "{given}: {}", tested.text());
    }
    let both = scenarios(
        "  - name: x\n    given: {request: {}, entry: {status: finished}}\n    then: {not_started: true}\n",
    );
    assert!(journey::test(&by_request(), &both).is_err());
    let none = scenarios("  - name: x\n    given: {request: {}}\n    then: {not_started: true}\n");
    assert!(journey::test(&heart_failure(), &none).is_err());
}

/// Who reads the graph sees how it starts.
#[test]
fn a_drawing_says_that_staff_start_it() {
    let drawn = journey::draw(&by_request(), journey::Drawing::Mermaid);
    assert!(
        drawn.contains("starts the journey, or staff when asked to"),
        "{drawn}"
    );
}

/// The patient's night, by the rule pack or by the journey.
#[test]
fn scenarios_keep_quiet_hours() {
    let source = fs::read_to_string(root().join("journeys/heart-failure-discharge.yaml")).unwrap();
    let quiet = "messages: {quiet: {from: \"10:30\", until: \"15:00\"}}\nentry:";
    let quiet = Definition::compile(&source.replacen("entry:", quiet, 1), 1).unwrap();
    let rest = |at: &str| {
        scenarios(&format!(
            "  - name: quiet\n    when: [{{after: 10h}}]\n    then: {{sent: [{{step: welcome, by: email, at: {at}}}]}}\n"
        ))
    };
    let (now, later) = ("discharge + 1h", "discharge + 5h");
    for (definition, at) in [(&heart_failure(), now), (&quiet, later)] {
        let tested = journey::test(definition, &rest(at)).unwrap();
        assert!(tested.passed(), "{at}: {}", tested.text());
    }
    let folder = tempfile::tempdir().unwrap();
    let pack = folder.path().join("ours.toml");
    let text = "name = \"ours\"\nextends = \"us-hipaa\"\n[messages]\nquiet = { from = \"10:30\", until = \"15:00\" }\n";
    fs::write(&pack, text).unwrap();
    let with = format!("given:\n  rules: {}", pack.display());
    let source = rest(later).replacen("given:", &with, 1);
    let tested = journey::test(&heart_failure(), &source).unwrap();
    assert!(tested.passed(), "{}", tested.text());
}

/// A call of two days, and what comes of it.
const CALLS: &str = "start: ride
steps:
  ride:
    title: Order a ride
    call:
      partner: rides
      path: /bookings
      values:
        name: {patient: given}
        kind: {is: wheelchair}
      learns:
        booking: {path: id, class: contact}
      accepts: [409]
      up_to: 2d
      compensate:
        path: /cancellations
        values: {booking: {learnt: ride.booking}}
    next: which
    failed: lost
    timed_out: late
  which:
    title: Full?
    branch:
      cases: [{when: ride.status = 409, next: full}]
      otherwise: pause
  pause: {title: A pause, wait: {for: 5d}, next: booked}
  booked: {title: Booked, exit: {reason: booked}}
  full: {title: Full, exit: {reason: full}}
  lost: {title: Lost, exit: {reason: lost}}
  late: {title: Late, exit: {reason: late}}
";

#[test]
fn scenarios_say_what_partners_answer() {
    let tested = of_steps(
        CALLS,
        "scenarios:
  - name: answered
    when: [{after: 1h, partner: {step: ride, answers: {booking: B7}}}]
    then: {called: [{step: ride, at: start, says: 'kind: wheelchair'}], taken_back: [], ended: booked}
  - name: full
    when: [{after: 1h, partner: {step: ride, status: 409}}]
    then: {ended: full, taken_back: []}
  - name: not reached
    when: [{after: 1h, partner: {step: ride, fails: not-reached}}]
    then: {ended: lost, taken_back: []}
  - name: perhaps done
    when: [{after: 1h, partner: {step: ride, fails: retries-exhausted}}]
    then: {ended: lost, taken_back: [{step: ride, at: start + 1h}]}
  - name: silent
    then: {ended: late, ended_at: start + 2d, taken_back: [{step: ride, at: start + 2d}], tasks: []}
  - name: broken off
    when:
      - {after: 1h, partner: {step: ride, answers: {booking: B7}}}
      - {after: 1d, consent: withdrawn}
    then: {ended: consent, taken_back: [{step: ride, at: start + 1d1h, says: 'booking: B7'}]}
",
    );
    let tested = tested.unwrap();
    assert!(tested.passed(), "{}", tested.text());
    assert_eq!(tested.coverage(), 100, "{}", tested.text());
    for (event, words) in [
        ("{step: pause}", "`pause` calls no partner"),
        (
            "{step: ride, answers: {bookin: x}}",
            "did you mean `booking`?",
        ),
        (
            "{step: ride, fails: x, status: 400}",
            "a call that fails has no answer",
        ),
    ] {
        let rest =
            format!("scenarios:\n  - {{name: x, when: [{{partner: {event}}}], then: {{}}}}\n");
        let found = of_steps(CALLS, &rest).unwrap_err().remove(0);
        assert!(found.message.contains(words), "{found:?}");
    }
}
