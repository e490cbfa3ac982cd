//! The language from outside: the file in `journeys/`, the checker's codes, schema and reference.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "a test says by failing what went wrong"
)]

mod codes;
mod connectors;
mod entries;
mod learnt;
mod open;
mod post;
mod replies;
mod risk;
mod segments;
mod shared;
mod silence;
mod stays;
mod visits;
mod words;

use std::fs;
use std::path::PathBuf;
use trust::partners::{Contract, DataClass, Partner, Partners};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn heart_failure() -> String {
    fs::read_to_string(root().join("journeys/heart-failure-discharge.yaml")).unwrap()
}

/// A small journey without findings, to break in one place at a time.
const GOOD: &str = r#"name: small
title: A small journey
owner: A team
purpose: TREAT
reading_level: 8
at_most: 30d
entry:
  event: Encounter
  where: status = 'finished'
  anchors:
    discharge: period.end
  within: 3d
  per: event
exits:
  death:
    title: Died
    event: Patient
    where: deceased.exists() and deceased != false
  consent:
    title: Consent withdrawn
    consent: withdrawn
start: welcome
steps:
  welcome:
    title: Welcome
    send:
      title: Welcome
      words: Hello {patient.given|there}.
      channels: [email, portal]
      email:
        subject: News
        text: Read it at {link}
    next: pause
    on_failure: call
  pause:
    title: Pause
    wait:
      past_due: run
      until: discharge + 2d at 09:00
    next: questions
  questions:
    title: Questions
    ask:
      title: How are you?
      words: Please answer.
      questions:
        - id: well
          text: Are you well?
          type: yes-no
      remind_after: 24h
      give_up_after: 48h
    answered: decide
    no_answer: call
  decide:
    title: Well?
    branch:
      cases:
        - when: questions.well = false
          next: call
      otherwise: end
  call:
    title: Call
    task:
      title: Call
      reason: Not well.
      role: coordinator
      due: 24h
    next: end
    overdue: {role: clinician, priority: urgent}
  watch:
    title: Watch
    observe:
      code: 29463-7
      unit: kg
      rises_more_than: 2
      within: 3d
    then: call
"#;

/// The task of GOOD.
const TASK: &str = "    task:\n      title: Call\n      reason: Not well.\n      role: coordinator\n      due: 24h\n    next: end\n    overdue: {role: clinician, priority: urgent}\n";

/// Partners of whom one is bound, and cleared for how patients are reached.
fn partners() -> Partners {
    Partners::of([Partner {
        name: "rides".to_owned(),
        title: "Rides".to_owned(),
        base: "https://rides.example.org".to_owned(),
        carries: std::collections::BTreeSet::new(),
        contract: Contract::Baa,
        until: "2099-12-31".to_owned(),
        until_ms: u64::MAX,
        data: [DataClass::Contact].into(),
        purposes: vec![trust::Purpose::Treatment],
        token_file: None,
        signing_key_file: None,
        timeout_ms: 1_000,
        at_once: 1,
        private_network: false,
    }])
}

/// Breaks in GOOD: code, what is replaced, by what, and where the finding must point (line of GOOD's
/// replaced text, counted by searching, plus an offset).
fn broken() -> Vec<(&'static str, &'static str, String)> {
    let long = format!(
        "  # {}\n  welcome:\n    title: Welcome\n    send:",
        "x".repeat(600_000)
    );
    let table: Vec<(&'static str, &'static str, &str)> = vec![
        ("J001", "owner: A team", "owner: [A team"),
        ("J088", "[email, portal]", "[email, letter, portal]"),
        (
            "J089",
            "      channels: [email, portal]\n",
            "      channels: [email, portal]\n      voice: {words: 'See {link}'}\n",
        ),
        ("J002", "remind_after: 24h", "remind_aftr: 24h"),
        ("J003", "title: A small journey\n", ""),
        ("J004", "channels: [email, portal]", "channels: email"),
        ("J005", "    wait:\n", "    weit:\n"),
        ("J006", "next: questions", "next: qestions"),
        ("J007", "name: small", "name: Small Journey"),
        ("J008", "purpose: TREAT", "purpose: FUN"),
        ("J009", "give_up_after: 48h", "give_up_after: soon"),
        ("J010", "next: questions", "next: call"),
        (
            "J011",
            "      until: discharge + 2d at 09:00\n    next: questions",
            "      until: discharge + 2d at 09:00",
        ),
        (
            "J012",
            "      until: discharge + 2d at 09:00",
            "      event: Appointment",
        ),
        ("J013", "    on_failure: call\n", ""),
        (
            "J014",
            "    overdue: {role: clinician, priority: urgent}\n",
            "",
        ),
        (
            "J015",
            "where: status = 'finished'",
            "where: status == 'finished'",
        ),
        (
            "J016",
            "when: questions.well = false",
            "when: questions.wel = false",
        ),
        (
            "J017",
            "text: Read it at {link}",
            "text: Dear {patient.given|patient}, read it at {link}",
        ),
        (
            "J018",
            "words: Please answer.",
            "words: Please answer {patient.shoesize}.",
        ),
        ("J019", "{patient.given|there}", "{patient.given}"),
        ("J020", "channels: [email, portal]", "channels: [pigeon]"),
        ("J021", "code: 29463-7", "code: 29463-8"),
        ("J022", "unit: kg", "unit: mm[Hg]"),
        ("J023", "rises_more_than: 2", "rises_more_than: -2"),
        (
            "J024",
            "  decide:\n    title: Well?",
            "  pause:\n    title: Well?",
        ),
        (
            "J025",
            "until: discharge + 2d at 09:00",
            "until: dischrge + 2d at 09:00",
        ),
        ("J026", "      otherwise: end", "      otherwise: decide"),
        (
            "J027",
            "start: welcome\nsteps:\n",
            "start: fork\nsteps:\n  fork:\n    title: Fork\n    parallel:\n      branches: [welcome, pause]\n    next: questions\n",
        ),
        (
            "J028",
            "  consent:\n    title: Consent withdrawn\n    consent: withdrawn\n",
            "",
        ),
        ("J029", "at_most: 30d\n", ""),
        ("J030", "remind_after: 24h", "remind_after: 72h"),
        (
            "J031",
            "at_most: 30d",
            "at_most: 30d\ntime_zone: Mars/Olympus",
        ),
        ("J032", "next: questions", "next: [questions, watch]"),
        ("J033", "type: yes-no", "type: choice"),
        (
            "J034",
            "text: Read it at {link}",
            "text: Read it in the portal",
        ),
        (
            "J035",
            "  welcome:\n    title: Welcome\n    send:",
            long.leak(),
        ),
        ("J036", "  within: 3d\n  per: event", "  per: event"),
        (
            "J037",
            "until: discharge + 2d at 09:00",
            "until: discharge + 60d",
        ),
        (
            "J038",
            "where: status = 'finished'",
            "where: staus = 'finished'",
        ),
        (
            "J039",
            "    branch:\n      cases:\n        - when: questions.well = false\n          next: call\n      otherwise: end\n",
            "    split:\n      arms:\n        - {id: early, weight: 50, next: call}\n        - {id: late, weight: 51, next: end}\n",
        ),
        (
            "J040",
            "    wait:\n      past_due: run\n      until: discharge + 2d at 09:00\n    next: questions\n",
            "    repeat: {body: end, times: 3, pause: 1d}\n    next: questions\n",
        ),
        (
            "J041",
            "      past_due: run\n      until: discharge + 2d at 09:00\n    next: questions\n",
            "      all_of: [{for: 2d}]\n    next: questions\n",
        ),
        (
            "J042",
            "          type: yes-no\n",
            "          type: yes-no\n      scores: {total: {sum: [wel]}}\n",
        ),
        (
            "J043",
            "    overdue: {role: clinician, priority: urgent}\n",
            "    not_confirmed: end\n    overdue: {role: clinician, priority: urgent}\n",
        ),
        ("J044", "      past_due: run\n", ""),
        (
            "J049",
            "where: status = 'finished'",
            "where: type.coding.code = 'emergency'",
        ),
        (
            "J050",
            "  within: 3d\n  per: event",
            "  within: 3d\n  request: {by: [clinician]}\n  per: event",
        ),
        (
            "J051",
            "      channels: [email, portal]\n",
            "      channels: [email, portal]\n      urgency: clinical\n",
        ),
        (
            "J094",
            "      channels: [email, portal]\n",
            "      channels: [email, portal]\n      urgency: clinical\n      because: Bleeding.\n      while_admitted: hold\n",
        ),
        (
            "J055",
            "purpose: TREAT",
            "purpose: TREAT\nlanguage: english?",
        ),
        (
            "J056",
            "      words: Hello {patient.given|there}.\n",
            "      words: Notwithstanding individual variability, anticoagulation necessitates comprehensive periodic laboratory surveillance of coagulation parameters.\n",
        ),
        (
            "J057",
            "        text: Read it at {link}\n",
            "        text: Read it at {link}\n      translations:\n        es: {title: Hola, words: Hola.}\n",
        ),
        (
            "J067",
            "        text: Read it at {link}\n",
            "        text: Read it at {link}\n      sms: {words: 'Вам пришло новое сообщение от лечащей команды. Пожалуйста, откройте ссылку и прочитайте его, когда будете дома: {link}'}\n",
        ),
        (
            "J060",
            TASK,
            "    call:\n      partner: nobody\n      path: /bookings\n      up_to: 1d\n    next: end\n    failed: end\n    timed_out: end\n",
        ),
        (
            "J061",
            TASK,
            "    call:\n      partner: rides\n      path: /bookings\n      values: {who: {patient: family}}\n      up_to: 1d\n    next: end\n    failed: end\n    timed_out: end\n",
        ),
        (
            "J062",
            TASK,
            "    call:\n      partner: rides\n      path: '/bookings/{patient.family}'\n      up_to: 1d\n    next: end\n    failed: end\n    timed_out: end\n",
        ),
        (
            "J063",
            TASK,
            "    call:\n      partner: rides\n      path: /bookings\n      values: {token: {is: 'abc'}}\n      up_to: 1d\n    next: end\n    failed: end\n    timed_out: end\n",
        ),
        (
            "J090",
            "exits:\n",
            "exits:\n  out: {title: Out, segment: {left: nobody}}\n",
        ),
        (
            "J091",
            "exits:\n",
            "segments:\n  old: {title: Old, all: [{aged: {from: 80, to: 70}}]}\nexits:\n  out: {title: Out, segment: {left: old}}\n",
        ),
        (
            "J092",
            "  within: 3d\n  per: event",
            "  within: 3d\n  segment: old\n  per: event\nsegments:\n  old: {title: Old, all: [{aged: {from: 80}}]}",
        ),
        (
            "J093",
            "exits:\n",
            "segments:\n  old: {title: Old, all: [{aged: {from: 80}}]}\nexits:\n",
        ),
        (
            "J058",
            "    wait:\n      past_due: run\n      until: discharge + 2d at 09:00\n    next: questions\n",
            "    journey: {begins: small, up_to: 10d}\n    not_begun: questions\n    time_over: questions\n    next: questions\n",
        ),
        (
            "J085",
            "      channels: [email, portal]\n",
            "      channels: [email, portal]\n      window: {from: '17:00', until: '09:00'}\n",
        ),
        (
            "J059",
            TASK,
            "    book: {title: Check-up, remind: [1d, 24h], time: discharge + 10d, minutes: 30, book_by: discharge + 2d}\n    next: end\n    not_booked: end\n",
        ),
        (
            "J064",
            TASK,
            "    book: {title: Check-up, invite: {words: Please book., again: [1d, 24h]}, time: discharge + 10d, minutes: 30, book_by: discharge + 2d}\n    next: end\n    not_booked: end\n",
        ),
        (
            "J065",
            "          type: yes-no\n",
            "          type: yes-no\n      translations: {es: {title: Hola, words: Hola., questions: [{id: wel, text: ¿Bien?}]}}\n",
        ),
        (
            "J070",
            "  within: 3d\n  per: event",
            "  within: 3d\n  per: date",
        ),
        (
            "J071",
            "  within: 3d\n  per: event",
            "  within: 3d\n  per: patient\n  again: {after: 90d}",
        ),
        (
            "J080",
            "      due: 24h\n    next: end\n    overdue: {role: clinician, priority: urgent}\n",
            "      due: 24h\n      priority: stat\n    next: end\n    not_done: end\n    overdue: decide\n",
        ),
        (
            "J081",
            "      due: 24h\n    next: end\n    overdue: {role: clinician, priority: urgent}\n",
            "      due: 24h\n      priority: stat\n    next: end\n    not_done: end\n    overdue: {role: clinician, priority: stat}\n",
        ),
        ("J082", "subject: News", "subject: Your treatment"),
        (
            "J083",
            "    then: call\n",
            "    then: tell\n  tell: {title: Tell, send: {title: Weight, words: Please rest., channels: [portal]}, next: end, on_failure: end}\n",
        ),
    ];
    table
        .into_iter()
        .map(|(code, from, to)| (code, from, GOOD.replacen(from, to, 1)))
        .chain(connectors::broken())
        .chain(replies::broken())
        .collect()
}

#[test]
fn the_heart_failure_journey_has_no_findings() {
    assert_eq!(journey::check(&heart_failure()), []);
    assert_eq!(journey::check(GOOD), []);
}

/// What overrides limits says why, and limits limit something.
#[test]
fn limits_of_messages_make_sense() {
    let message = "      channels: [email, portal]\n";
    for (from, to, fine) in [
        (message, "urgency: clinical\n      because: Bleeding.", true),
        (message, "urgency: important", true),
        (
            message,
            "urgency: important\n      because: Bleeding.",
            false,
        ),
        (message, "because: Bleeding.", false),
    ] {
        let source = GOOD.replacen(from, &format!("{from}      {to}\n"), 1);
        assert_eq!(journey::check(&source).is_empty(), fine, "{to}");
    }
    for (limits, code) in [
        ("{per_day: 2, per_week: 5}", None),
        ("{quiet: {from: \"21:00\", until: \"08:00\"}}", None),
        ("{per_day: 5, per_week: 2}", Some("J051")),
        ("{quiet: {from: \"21:00\", until: \"21:00\"}}", Some("J051")),
        ("{quiet: {from: \"21:00\", until: \"8\"}}", Some("J009")),
        ("{per_day: 0}", Some("J004")),
    ] {
        let source = GOOD.replacen("entry:", &format!("messages: {limits}\nentry:"), 1);
        let findings = journey::check(&source);
        let found = findings.first().map(|finding| finding.code.as_str());
        assert_eq!(found, code, "{limits}: {findings:#?}");
    }
}

/// Who is at risk is seen by somebody, whatever happens.
#[test]
fn what_cannot_wait_comes_to_somebody() {
    let task = "      due: 24h\n    next: end\n    overdue: {role: clinician, priority: urgent}\n";
    let stat =
        |rest: &str| format!("      due: 24h\n      priority: stat\n    next: end\n{rest}\n");
    let other = "  silent:\n    title: Silent\n    observe: {code: 29463-7, none_for: 3d}\n    then: other\n  other:\n    title: Other\n    task:\n      title: Call\n      reason: Not well.\n      role: clinician\n      due: 2h\n    next: end\n    overdue: {role: clinician, priority: urgent}\n";
    let clinical =
        "      channels: [email, portal]\n      urgency: clinical\n      because: Bleeding.\n";
    let welcome = "    next: pause\n    on_failure: call\n";
    let handed_on = "    not_done: other\n    overdue: {role: clinician, priority: stat}";
    for (changes, expected) in [
        // Tasks.
        (vec![(task, stat(handed_on))], None),
        (vec![(task, stat("    not_done: other\n    overdue: other"))], None),
        (vec![(task, stat("    not_done: other\n    overdue: end"))], Some(("J080", true, "no task for staff is ever reached"))),
        (vec![(task, stat("    not_done: other\n    overdue: decide"))], Some(("J080", false, "get past every task"))),
        (vec![(task, stat("    not_done: other\n    overdue: {role: clinician, priority: asap}"))], Some(("J080", true, "less than it was"))),
        (vec![(task, stat("    overdue: {role: clinician, priority: stat}"))], Some(("J080", false, "`not_done`"))),
        // A rung counts, and falls.
        (vec![(task, format!("      due: 24h\n      ladder:\n        - {{after: 2h, role: clinician, priority: asap}}\n    next: end\n{handed_on}\n").replace("priority: stat", "priority: urgent"))], Some(("J080", true, "less than it was"))),
        // Messages.
        (vec![("      channels: [email, portal]\n", clinical.into())], None),
        (vec![("      channels: [email, portal]\n", clinical.into()), (welcome, "    next: pause\n    on_failure: end\n".into())], Some(("J080", true, "no task"))),
        (vec![("      channels: [email, portal]\n", clinical.into()), (welcome, "    next: pause\n    on_failure: pause\n".into())], Some(("J080", false, "get past"))),
        // Forms.
        (vec![("      remind_after: 24h\n", "      urgency: clinical\n      because: Bleeding.\n      remind_after: 24h\n".into())], None),
        (vec![("      remind_after: 24h\n", "      urgency: clinical\n      because: Bleeding.\n      remind_after: 24h\n".into()), ("no_answer: call", "no_answer: end".into())], Some(("J080", true, "no task"))),
        // What comes after the parts of a round or a branch counts for what ends inside.
        (vec![
            ("start: welcome", "start: both".into()),
            ("steps:\n", "steps:\n  both:\n    title: Both\n    parallel:\n      branches: [welcome, rest]\n    next: other\n  rest:\n    title: Rest\n    wait: {for: 2d}\n    next: end\n".into()),
            ("      channels: [email, portal]\n", clinical.into()),
            (welcome, "    next: end\n    on_failure: end\n".into()),
        ], None),
    ] {
        let mut source = format!("{GOOD}{other}");
        for (from, to) in &changes {
            assert!(source.contains(from), "{from}");
            source = source.replacen(from, to, 1);
        }
        let findings = journey::check(&source);
        let risk = |code: &str| code == "J080";
        let found: Vec<_> = findings.iter().filter(|found| risk(&found.code)).collect();
        let told: Vec<_> = found.iter().map(|found| (found.code.as_str(), found.error)).collect();
        let wanted: Vec<_> = expected.iter().map(|(code, error, _)| (*code, *error)).collect();
        assert_eq!(told, wanted, "{source}\n{findings:#?}");
        if let Some((_, _, words)) = expected {
            assert!(found[0].message.contains(words), "{found:?}");
        }
        let others = findings
            .iter()
            .filter(|found| !risk(&found.code) && !matches!(found.code.as_str(), "J010" | "J014"));
        assert_eq!(others.count(), 0, "{source}\n{findings:#?}");
    }
}

/// What can be known of FHIRPath without data.
#[test]
fn conditions_that_can_never_hold_are_errors() {
    for (condition, words) in [
        ("staus = 'finished'", "did you mean `status`?"),
        ("status = 'finshed'", "did you mean `finished`?"),
        ("status", "has to be true or false"),
        ("status = 1", "are never equal"),
        ("length > 'long'", "can't be compared"),
    ] {
        let source = GOOD.replacen(
            "where: status = 'finished'",
            &format!("where: {condition}"),
            1,
        );
        let findings = journey::check(&source);
        let found = findings.iter().find(|found| found.code == "J038");
        let found = found.unwrap_or_else(|| panic!("{condition}: {findings:#?}"));
        assert!(found.error && found.message.contains(words), "{found:?}");
    }
    let source = GOOD.replacen("discharge: period.end", "discharge: period", 1);
    assert_ne!(source, GOOD);
    let findings = journey::check(&source);
    assert!(
        findings.iter().any(|found| found.code == "J038"),
        "{findings:#?}"
    );
}

#[test]
fn every_code_is_found_in_a_broken_file_and_points_near_the_break() {
    let mut missing: Vec<&str> = journey::CODES.iter().map(|(code, _)| *code).collect();
    for (code, from, source) in broken() {
        assert_ne!(source, GOOD, "{code}: nothing was broken");
        let findings = journey::check_with(&source, &partners(), 0);
        let finding = findings.iter().find(|finding| finding.code == code);
        let Some(finding) = finding else {
            panic!("{code} is not found: {findings:#?}")
        };
        let broken_at = GOOD[..GOOD.find(from).unwrap()].lines().count();
        let lines = source.lines().count();
        assert!(
            finding.line >= 1 && finding.line <= lines && finding.column >= 1,
            "{code}: {finding:?}"
        );
        // Findings about the graph point at the step, so a break is a few lines away at most.
        let graph = [
            "J026", "J003", "J008", "J010", "J011", "J013", "J014", "J027", "J028", "J029", "J035",
            "J080", "J081", "J083",
        ];
        if !graph.contains(&code) {
            assert!(
                finding.line.abs_diff(broken_at) <= 4,
                "{code} at line {} but broken near {broken_at}: {finding:?}",
                finding.line
            );
        }
        assert!(
            finding.message.len() > 20,
            "{code} says too little: {finding:?}"
        );
        missing.retain(|missing| *missing != code);
    }
    // What other journeys send is found when it is published, where they are known.
    missing.retain(|missing| *missing != "J072");
    assert_eq!(
        missing,
        Vec::<&str>::new(),
        "codes without a failing example"
    );
}

/// A journey of which a call is the last step.
fn calling(call: &str) -> String {
    let to = format!("    call:\n{call}    next: end\n    failed: end\n    timed_out: end\n");
    let source = GOOD.replace(TASK, &to);
    assert_ne!(source, GOOD);
    source
}

#[test]
fn calls_tell_partners_what_they_are_cleared_for() {
    let check = |call: &str, now_ms| {
        let found = journey::check_with(&calling(call), &partners(), now_ms);
        let found = found
            .iter()
            .map(|one| format!("{} {}", one.code, one.message));
        found.collect::<Vec<_>>().join("; ")
    };
    let call = |more: &str| {
        format!("      partner: rides\n      path: /bookings\n      up_to: 1d\n{more}")
    };
    let values = |values: &str| call(&format!("      values: {{{values}}}\n"));
    for (what, expected) in [
        (values("phone: {patient: phone}"), ""),
        (values("kind: {is: wheelchair}"), ""),
        (values("from: {is: today, as: periodStart}"), ""),
        (values("from: {is: today, as: 'a b'}"), "J062"),
        (values("a: {is: x}, b: {is: y, as: a}"), "J024"),
        (
            values("born: {patient: birth_date}"),
            "J061 `born` would be told to rides: rides is not cleared for the data class `identity`",
        ),
        // What patients answer is about their health, whatever it is.
        (
            values("well: {learnt: questions.well}"),
            "J061 `well` would be told to rides: rides is not cleared for the data class `health`",
        ),
        // What can't be followed may be anything.
        (
            values("all: {learnt: questions.well.exists()}"),
            "J061 `all` would be told to rides: rides is not cleared for the data class `identity`",
        ),
        (
            values("all: {learnt: questions}"),
            "J061 `all` would be told to rides: rides is not cleared for the data class `identity`",
        ),
        // Quotes within quotes, and comments, hide nothing.
        (
            values("all: {learnt: \"call.ride & \\\" patient's \\\" & questions.well\", or: none}")
                + "      learns: {ride: {path: id, class: contact}}\n",
            "J061 `all` would be told to rides: rides is not cleared for the data class `identity`",
        ),
        (
            values("all: {learnt: \"call.ride /* it's */ & questions.well\", or: none}")
                + "      learns: {ride: {path: id, class: contact}}\n",
            "J061 `all` would be told to rides: rides is not cleared for the data class `identity`",
        ),
        (
            values("own: {learnt: \"call.ride & ' at ' & call.status\", or: none}")
                + "      learns: {ride: {path: id, class: contact}}\n",
            "J061 `own` would be told to rides: rides is not cleared for the data class `health`",
        ),
        (
            values("own: {learnt: \"call.ride & ' at ' & call.hour\", or: none}")
                + "      learns: {ride: {path: id, class: contact}, hour: {path: hour, class: contact}}\n",
            "",
        ),
        (
            values("own: {learnt: call.ride, or: none}")
                + "      learns: {ride: {path: id, class: contact}}\n",
            "",
        ),
        (
            values("own: {learnt: call.ride}")
                + "      learns: {ride: {path: id, class: contact}}\n",
            "J062",
        ),
        (
            values("own: {learnt: call.ride, or: none}")
                + "      learns: {ride: {path: id, class: identity}}\n",
            "J061",
        ),
        (values("x: {learnt: questions.wel}"), "J016"),
        (values("x: {learnt: 1 + 1}"), "J016"),
        (values("api_key: {is: abc}"), "J063"),
        (values("header: {is: Bearer abc}"), "J063"),
        (
            call("      learns: {status: {path: id, class: contact}}\n"),
            "J024",
        ),
        (
            call("      takes_back: [questions]\n"),
            "J062 `questions` is no call with `compensate`",
        ),
        (call("      takes_back: [qestions]\n"), "J006"),
        (call("      takes_back: [call]\n"), "J062"),
        (
            call("      compensate: {path: /off, values: {x: {patient: phone}}}\n"),
            "J062 what takes a call back tells nothing of the patient",
        ),
        (
            call("      compensate: {path: /off, values: {x: {learnt: questions.well}}}\n"),
            "J062 what takes a call back names fixed words",
        ),
        (
            call(
                "      compensate: {path: /off, values: {x: {learnt: \"call.ride & \\\" it's \\\" & questions.well\"}}}\n      learns: {ride: {path: id, class: contact}}\n",
            ),
            "J062 what takes a call back names fixed words",
        ),
        (call("      compensate: {path: /../off}\n"), "J062"),
        (
            call("      timeout_s: 300\n").replace("up_to: 1d", "up_to: 1m"),
            "J062 one attempt may take longer",
        ),
        (
            call("").replace("path: /bookings", "path: bookings"),
            "J062",
        ),
        (
            call("").replace("path: /bookings", "path: /bookings?x=1"),
            "J062",
        ),
        (
            call("").replace("path: /bookings", "path: //elsewhere.example"),
            "J062",
        ),
        (
            call("").replace("path: /bookings", "operation: {name: $match, on: Patient}"),
            "",
        ),
        (
            call("").replace("path: /bookings", "operation: {name: match}"),
            "J062",
        ),
        (
            call("").replace(
                "path: /bookings",
                "operation: {name: $match, on: Patient/x/y}",
            ),
            "J062",
        ),
        (
            call("").replace(
                "path: /bookings",
                "operation: {name: $match}\n      method: put",
            ),
            "J062 a FHIR operation is a `POST`",
        ),
        (
            call("").replace("partner: rides", "partner: ridez"),
            "J060 there is no partner `ridez` in partners.toml; did you mean `rides`?",
        ),
    ] {
        let found = check(&what, 0);
        assert!(
            found.contains(expected) && found.is_empty() == expected.is_empty(),
            "{what}: {found}"
        );
    }
    let fine = values("phone: {patient: phone}");
    assert!(check(&fine, u64::MAX).starts_with("J060 The contract with rides ended on 2099-12-31"));
    let care = calling(&fine).replace("purpose: TREAT", "purpose: CAREMGT");
    let found = journey::check_with(&care, &partners(), 0);
    assert_eq!(found.len(), 1, "{found:?}");
    let line = care
        .lines()
        .position(|line| line.contains("partner: rides"));
    assert_eq!(
        (found[0].code.as_str(), Some(found[0].line - 1)),
        ("J061", line),
        "{found:?}"
    );
    // Without the partners, as `check` sees it, nothing is said of them.
    assert_eq!(journey::check(&care), []);
    let ways = calling(&fine).replace("    failed: end\n", "");
    let found = journey::check(&ways);
    assert_eq!(found[0].code, "J013", "{found:?}");
}

#[test]
fn positions_are_exact_where_they_can_be() {
    let table = [
        ("next: questions", "next: qestions", "qestions"),
        (
            "where: status = 'finished'",
            "where: status == 'finished'",
            "= 'finished'",
        ),
        (
            "when: questions.well = false",
            "when: questions.wel = false",
            "questions.wel",
        ),
        (
            "text: Read it at {link}",
            "text: Dear {patient.given|x}, {link}",
            "{patient",
        ),
        ("remind_after: 24h", "remind_aftr: 24h", "remind_aftr"),
        ("code: 29463-7", "code: 29463-8", "29463-8"),
    ];
    for (from, to, word) in table {
        let source = GOOD.replacen(from, to, 1);
        let start = source.find(to).unwrap() + to.find(word).unwrap();
        let line = source[..start].matches('\n').count() + 1;
        let column = start - source[..start].rfind('\n').map_or(0, |at| at + 1) + 1;
        let findings = journey::check(&source);
        assert!(
            findings
                .iter()
                .any(|finding| finding.error && (finding.line, finding.column) == (line, column)),
            "{to}: {line}:{column} not in {findings:#?}"
        );
    }
}

#[test]
fn all_mistakes_are_found_at_once() {
    let source = GOOD
        .replace("role: coordinator", "role: cook")
        .replace("type: yes-no", "type: maybe")
        .replace("priority: urgent", "priority: soon");
    assert_eq!(
        journey::check(&source)
            .iter()
            .filter(|finding| finding.error)
            .count(),
        3
    );
}

/// Compares a page with what it must be; `UPDATE_DOCS=1` writes it instead.
fn keep_equal(path: &str, expected: &str) {
    let file = root().join(path);
    #[allow(
        clippy::disallowed_methods,
        reason = "how a developer asks for the pages to be written anew"
    )]
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&file, expected).unwrap();
    }
    let found = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        found == expected,
        "{path} is not what the language's tables say; run the test with UPDATE_DOCS=1"
    );
}

#[test]
fn the_published_schema_and_reference_are_the_language() {
    let schema = serde_json::to_string_pretty(&journey::schema()).unwrap() + "\n";
    keep_equal("docs/journeys/journey.schema.json", &schema);
    let segments = serde_json::to_string_pretty(&journey::segments_schema()).unwrap() + "\n";
    keep_equal("docs/journeys/segments.schema.json", &segments);
    let connectors = serde_json::to_string_pretty(&journey::connectors_schema()).unwrap() + "\n";
    keep_equal("docs/journeys/connectors.schema.json", &connectors);
    keep_equal("docs/journeys/reference.md", &journey::reference());
}

#[test]
fn every_code_is_documented_with_its_meaning() {
    let page = fs::read_to_string(root().join("docs/journeys/checks.md")).unwrap();
    for (code, meaning) in journey::CODES {
        assert!(
            page.contains(&format!("## {code} ")),
            "docs/journeys/checks.md has no section for {code}"
        );
        assert!(
            page.contains(meaning),
            "docs/journeys/checks.md doesn't say of {code}: {meaning}"
        );
    }
    let documented = page.lines().filter(|line| line.starts_with("## J")).count();
    assert_eq!(
        documented,
        journey::CODES.len(),
        "docs/journeys/checks.md documents codes that don't exist"
    );
}

#[test]
fn the_examples_of_the_pages_are_good() {
    let guide = fs::read_to_string(root().join("docs/journeys/guide.md")).unwrap();
    let files: Vec<&str> = guide
        .split("```yaml\n")
        .skip(1)
        .filter_map(|part| part.split("```").next())
        .filter(|part| part.starts_with("name:"))
        .collect();
    assert!(!files.is_empty());
    for file in files {
        assert_eq!(journey::check(file), [], "{file}");
    }
}

/// A short file of aliases within aliases is turned down before it is laid out.
#[test]
fn aliases_stand_for_no_more_than_a_journey_has() {
    let twenty = |anchor: &str, each: &str| {
        let items = vec![each; 20].join(", ");
        format!("{anchor}: &{anchor} [{items}]\n")
    };
    let all = [("a", "x"), ("b", "*a"), ("c", "*b"), ("d", "*c")];
    let source: String = all.iter().map(|(name, each)| twenty(name, each)).collect();
    assert!(source.len() < 1000);
    let findings = journey::check(&source);
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].code, "J001");
    assert!(findings[0].message.contains("budget"), "{findings:?}");
}
