//! Cohorts in virtual time: the same seed gives the same, what is assumed is what happens, and a changed
//! journey meets the same patients.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "a test says by failing what went wrong"
)]

use journey::{Behaviour, Definition, Simulated, Size, simulate};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn source() -> String {
    fs::read_to_string(root().join("journeys/heart-failure-discharge.yaml")).unwrap()
}

fn heart_failure() -> Arc<Definition> {
    Definition::compile(&source(), 1).unwrap()
}

const SIZE: Size = Size {
    patients: 120,
    days: 200,
    seed: 7,
    threads: 1,
};

/// Everybody does everything at once, and nothing is alarming.
const IDEAL: &str = "patients: {email_arrives: 1, answer: 1, answer_within: 1h, yes: 0, book: 1, book_within: 1h, come: 1}\nmeasurements: {29463-7: {share: 1, change_share: 0}}\n";

fn with(behaviour: &str) -> Simulated {
    let definition = heart_failure();
    let behaviour = Behaviour::parse(&definition, behaviour).unwrap();
    simulate(&definition, &behaviour, SIZE)
}

fn ended(report: &Simulated, code: &str) -> u64 {
    let mut endings = report.endings.iter();
    endings
        .find(|ending| ending.code == code)
        .map_or(0, |ending| ending.count)
}

fn messages(report: &Simulated) -> u64 {
    report.messages_by_day.values().flatten().sum()
}

#[test]
fn the_same_seed_gives_the_same_on_any_number_of_threads() {
    let definition = heart_failure();
    let run = |seed, threads| {
        simulate(
            &definition,
            &Behaviour::default(),
            Size {
                seed,
                threads,
                ..SIZE
            },
        )
    };
    let once = run(7, 1);
    assert_eq!(once, run(7, 3));
    assert_ne!(once.messages_by_day, run(8, 1).messages_by_day);
}

/// Reminders of visits are messages as others are.
#[test]
fn reminders_of_visits_are_counted() {
    let by = "      book_by: discharge + 5d at 12:00\n";
    let counted = |remind: &str, behaviour: &str| {
        let source = source().replacen(by, &format!("{by}{remind}"), 1);
        let definition = Definition::compile(&source, 1).unwrap();
        let behaviour = Behaviour::parse(&definition, behaviour).unwrap();
        messages(&simulate(&definition, &behaviour, SIZE))
    };
    let reminders = "      remind: [1d, 2h]\n";
    let without = counted("", IDEAL);
    // Two for each patient, but for the few whose visit is after the last day.
    let added = counted(reminders, IDEAL) - without;
    let most = 2 * u64::from(SIZE.patients);
    assert!((most - 12..=most).contains(&added), "{added}");
    // Who doesn't book is reminded of nothing.
    let nobody = IDEAL.replace("book: 1,", "book: 0,");
    assert_eq!(counted(reminders, &nobody), counted("", &nobody));
}

#[test]
fn nobody_is_lost() {
    let definition = heart_failure();
    let report = simulate(&definition, &Behaviour::default(), SIZE);
    let all: u64 = report.endings.iter().map(|ending| ending.count).sum();
    assert_eq!(all + report.under_way, 120);
    assert_eq!(report.starts_by_day.iter().sum::<u64>(), 120);
    assert!(report.refused.is_empty(), "{:?}", report.refused);
}

#[test]
fn what_is_assumed_is_what_happens() {
    let ideal = with(IDEAL);
    assert_eq!(ideal.tasks_by_day.iter().sum::<u64>(), 0);
    // Welcome, two invitations; whoever is still under way hasn't had all of them.
    assert_eq!((ideal.messages_max, ideal.messages_p95), (3, 3));
    assert_eq!(ended(&ideal, "finished") + ideal.under_way, 120);
    assert!(ideal.endings[0].days_median > 29.0 && ideal.endings[0].days_median < 31.0);

    type Case = (&'static str, &'static str, fn(&Simulated) -> bool);
    let table: &[Case] = &[
        (
            "no e-mail arrives: the portal, and a call for each",
            "patients: {email_arrives: 0}",
            |report| {
                report.messages_by_day["portal"].iter().sum::<u64>() >= 120
                    && report.tasks_by_day.iter().sum::<u64>() >= 120
            },
        ),
        (
            "nobody answers: reminders and calls",
            "patients: {answer: 0}",
            |report| {
                report.messages_max >= 5
                    && report.roles.iter().any(|load| load.role == "coordinator")
            },
        ),
        (
            "nobody books: calls for the visit",
            "patients: {book: 0}",
            |report| report.tasks_by_day.iter().sum::<u64>() > 50,
        ),
        (
            "everybody is readmitted",
            "exits: {readmission: {share: 1, within: 1d}}",
            |report| {
                ended(report, "readmission") + report.under_way == 120
                    && ended(report, "readmission") > 100
            },
        ),
        (
            "everybody withdraws",
            "exits: {consent: {share: 1, within: 1d}}",
            |report| ended(report, "consent") > 100,
        ),
        (
            "everybody gains weight",
            "measurements: {29463-7: {share: 1, spread: 0, change_share: 1}}",
            |report| {
                // One task each, but for changes on the first morning, before which nothing was measured.
                let tasks = report.tasks_by_day.iter().sum::<u64>();
                let base = with("measurements: {29463-7: {share: 1, spread: 0, change_share: 0}}");
                tasks > base.tasks_by_day.iter().sum::<u64>() + 80
            },
        ),
        (
            "tasks take longer than they may",
            "patients: {email_arrives: 0}\nsteps: {welcome_call: {within: 30d}}",
            |report| report.handed_over > 50,
        ),
        (
            "work is counted",
            "patients: {email_arrives: 0}\nstaff: {minutes: 30}\ncapacity: {coordinator: 0.4}\ncosts: {currency: EUR, message: {email: 1, portal: 0}, hour: {coordinator: 40}}",
            |report| {
                let load = report
                    .roles
                    .iter()
                    .find(|load| load.role == "coordinator")
                    .unwrap();
                let cost = report.cost.as_ref().unwrap();
                let emails: u64 = report.messages_by_day["email"].iter().sum();
                load.days_over > 50
                    && (load.hours * 2.0).fract() < 1e-9
                    && (cost.work - load.hours * 40.0).abs() < 1e-6
                    && (cost.messages - f64::from(u32::try_from(emails).unwrap())).abs() < 1e-6
            },
        ),
    ];
    for (name, behaviour, holds) in table {
        let report = with(behaviour);
        assert!(holds(&report), "{name}: {}", report.text());
    }
}

#[test]
fn a_changed_journey_meets_the_same_patients() {
    let behaviour = Behaviour::default();
    let this = simulate(&heart_failure(), &behaviour, SIZE);
    let run = |source: &str| simulate(&Definition::compile(source, 2).unwrap(), &behaviour, SIZE);
    // Other words change nothing of what happens.
    assert_eq!(
        run(&source().replace("Welcome home", "Good to have you back")),
        this
    );
    // Without the reminder of the symptom questions there are just the fewer messages.
    let quiet = source().replacen("      remind_after: 24h\n", "", 1);
    let against = run(&quiet);
    assert!(messages(&against) < messages(&this));
    assert_eq!(against.tasks_by_day, this.tasks_by_day);
    assert!(this.beside(&against).contains("messages per patient"));
}

#[test]
fn reports_say_what_they_rest_on() {
    let text = simulate(&heart_failure(), &Behaviour::default(), SIZE).text();
    for words in [
        "None of it is data",
        "70 % of forms are answered",
        "Exit readmission: 0 %",
        "seed 7",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(with(IDEAL).text().contains("100 % of forms are answered"));
}

#[test]
fn mistakes_in_a_file_of_behaviour_are_found_at_their_place() {
    let table = [
        (
            "patients: {anwser: 1}\n",
            "J002",
            1,
            12,
            "did you mean `answer`?",
        ),
        (
            "patients: {answer: 2}\n",
            "J004",
            1,
            20,
            "a share from 0 to 1",
        ),
        (
            "steps: {symtoms: {}}\n",
            "J006",
            1,
            9,
            "did you mean `symptoms`?",
        ),
        ("exits: {readmision: {}}\n", "J006", 1, 9, "no exit"),
        ("staff: {within: 3}\n", "J004", 1, 17, "a duration"),
    ];
    for (source, code, line, column, words) in table {
        let findings = Behaviour::parse(&heart_failure(), source).unwrap_err();
        let found = &findings[0];
        assert_eq!(
            (found.code.as_str(), found.line, found.column),
            (code, line, column),
            "{source}"
        );
        assert!(found.message.contains(words), "{source}: {}", found.message);
    }
}

#[test]
fn behaviour_beside_journeys_is_well_formed_and_its_schema_is_published() {
    let path = root().join("journeys/heart-failure-discharge.behaviour.yaml");
    let behaviour = Behaviour::parse(&heart_failure(), &fs::read_to_string(path).unwrap()).unwrap();
    assert!(
        simulate(&heart_failure(), &behaviour, SIZE)
            .refused
            .is_empty()
    );
    let path = root().join("docs/journeys/behaviour.schema.json");
    let made = serde_json::to_string_pretty(&journey::behaviour_schema()).unwrap() + "\n";
    #[allow(
        clippy::disallowed_methods,
        reason = "how a developer asks for the pages to be written anew"
    )]
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &made).unwrap();
    }
    assert!(
        fs::read_to_string(&path).unwrap_or_default() == made,
        "docs/journeys/behaviour.schema.json is not what the tables say; run the test with UPDATE_DOCS=1"
    );
}

/// Looks at the record have the answers that are assumed of them.
#[test]
fn a_look_is_so_as_often_as_is_assumed() {
    let source = source().replace("start: welcome\n\nsteps:\n", "start: insured\nsteps:\n  insured:\n    title: Insured?\n    check: {coverage: active}\n    yes: welcome\n    no: uninsured\n  uninsured: {title: Uninsured, exit: {reason: uninsured}}\n");
    let definition = Definition::compile(&source, 1).unwrap();
    let uninsured = |share: &str| {
        let behaviour = format!("steps: {{insured: {{share: {share}}}}}\n");
        let behaviour = Behaviour::parse(&definition, &behaviour).unwrap();
        ended(&simulate(&definition, &behaviour, SIZE), "uninsured")
    };
    assert_eq!(uninsured("1"), 0);
    assert_eq!(uninsured("0"), u64::from(SIZE.patients));
    let some = uninsured("0.75");
    assert!((15..=45).contains(&some), "{some}");
}

/// A journey that is nothing but an experiment, each arm with an end of its own after some days.
fn experiment(early_days: u32) -> Arc<Definition> {
    let (head, _) = HEAD.split_once("start: ").unwrap();
    let source = format!(
        "{head}start: trial
steps:
  trial:
    title: When to ask
    split:
      arms:
        - {{id: early, weight: 45, next: pause}}
        - {{id: late, weight: 45, next: late}}
      holdout: {{weight: 10, next: left_out}}
  pause: {{title: A pause, wait: {{for: {early_days}d}}, next: early}}
  early: {{title: Early, exit: {{reason: early}}}}
  late: {{title: Late, exit: {{reason: late}}}}
  left_out: {{title: Left out, exit: {{reason: left_out}}}}
"
    );
    Definition::compile(&source, 1).unwrap()
}

const HEAD: &str = "name: looking
title: Looking on
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
start: trial
";

#[test]
fn arms_have_their_shares_of_the_cohort_and_a_changed_journey_the_same_ones() {
    let size = |seed| Size {
        patients: 1000,
        days: 400,
        seed,
        threads: 2,
    };
    let arms = |definition: &Definition, seed| {
        let report = simulate(definition, &Behaviour::default(), size(seed));
        ["early", "late", "left_out"].map(|arm| ended(&report, arm))
    };
    let definition = experiment(1);
    let drawn = [7, 8].map(|seed| arms(&definition, seed));
    for shares in drawn {
        // Four times the standard deviation of such a draw.
        let bounds = [387..=513, 387..=513, 62..=138];
        assert!(
            std::iter::zip(&bounds, &shares).all(|(bounds, share)| bounds.contains(share)),
            "{shares:?}"
        );
    }
    assert_ne!(drawn[0], drawn[1]);
    assert_eq!(arms(&experiment(2), 7)[1..], drawn[0][1..]);
}

#[test]
fn goals_are_reached_as_often_and_as_soon_as_is_assumed() {
    let (head, _) = HEAD.split_once("start: ").unwrap();
    let source = |ends: &str| {
        format!(
            "{head}start: pause
steps:
  pause: {{title: A pause, wait: {{for: 40d}}, next: end}}
  walks: {{title: Walks, goal: {{event: Observation, where: status = 'final', journey: {ends}}}}}
"
        )
    };
    let run = |ends: &str, behaviour: &str| {
        let definition = Definition::compile(&source(ends), 1).unwrap();
        let behaviour = Behaviour::parse(&definition, behaviour).unwrap();
        simulate(&definition, &behaviour, SIZE)
    };
    let said = "steps: {walks: {share: 1, within: 20d}}";
    // Nobody reaches what nothing is said of, and the report says so.
    let silent = run("goes_on", "{}");
    assert_eq!(
        (silent.goals[0].count, silent.goals[0].days_median),
        (0, 0.0)
    );
    assert!(silent.text().contains("Goal walks: 0 % of patients"));
    let all = run("goes_on", said);
    let goal = &all.goals[0];
    // Who starts in the last days has not reached it when the time is over.
    assert!((105..=120).contains(&goal.count), "{goal:?}");
    assert!((goal.share - f64::from(u32::try_from(goal.count).unwrap()) / 120.0).abs() < 1e-9);
    assert!((8.0..12.0).contains(&goal.days_median), "{goal:?}");
    assert!((17.0..=20.0).contains(&goal.days_p95), "{goal:?}");
    assert_eq!(ended(&all, "walks"), 0);
    assert!(all.text().contains("Goals reached:"));
    assert!(
        all.text()
            .contains("Goal walks: 100 % of patients, within 20")
    );
    assert!(all.beside(&silent).contains("reached, walks"));
    let some = run("goes_on", "steps: {walks: {share: 0.5, within: 20d}}");
    assert!((40..=75).contains(&some.goals[0].count), "{:?}", some.goals);
    // A goal that ends the journey does.
    let ends = run("ends", said);
    assert_eq!(ended(&ends, "walks"), ends.goals[0].count);
    assert_eq!(ends.goals[0], *goal);
}

/// Partners answer, refuse and are silent as often as is assumed.
#[test]
fn partners_answer_as_often_as_is_assumed() {
    let source = source().replace("start: welcome\n\nsteps:\n", "start: ride\nsteps:\n  ride:\n    title: Order a ride\n    call: {partner: rides, path: /bookings, up_to: 1d}\n    next: welcome\n    failed: lost\n    timed_out: late\n  lost: {title: Lost, exit: {reason: lost}}\n  late: {title: Late, exit: {reason: late}}\n");
    let definition = Definition::compile(&source, 1).unwrap();
    let count = |outcomes: &str| {
        let behaviour = format!("steps: {{ride: {{outcomes: {{{outcomes}}}}}}}\n");
        let behaviour = Behaviour::parse(&definition, &behaviour).unwrap();
        let report = simulate(&definition, &behaviour, SIZE);
        (ended(&report, "lost"), ended(&report, "late"))
    };
    let all = u64::from(SIZE.patients);
    assert_eq!(count("answered: 1"), (0, 0));
    assert_eq!(count("failed: 1"), (all, 0));
    assert_eq!(count("silent: 1"), (0, all));
    let (lost, late) = count("answered: 1, failed: 1, silent: 1");
    assert!(
        (20..=60).contains(&lost) && (20..=60).contains(&late),
        "{lost} {late}"
    );
}
