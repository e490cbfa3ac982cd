//! Small logs, counted by hand.

use super::super::case::{Answer, CaseEvent};
use super::super::outcomes::{Came, Outcome, OutcomeOf};
use super::super::report::{OutcomeReport, OutcomeRow, ScoreRow};
use super::*;
use crate::time::{DAY_MS, HOUR_MS};

const SMALL: &str = include_str!("../small.yaml");

fn definition() -> Arc<Definition> {
    Definition::compile(SMALL, 1).unwrap()
}

/// Adds a case of somebody of whom there is none yet.
fn add(sums: &mut Sums, case: &Case, groups: &Groups) {
    let patient = format!("p{}", sums.cases);
    sums.add(case, &patient, groups);
}

/// A case from what happened, by hours since its start: `+step` came there, `-step/way/since` left it, `!step` handed
/// over, `?step` led by hand, `x step` the journey ended while they were there, `=code` it ended, `~step` a late answer.
fn case(events: &[(u64, &str)]) -> Case {
    let mut case = Case {
        version: 1,
        ..Case::default()
    };
    for (hours, said) in events {
        let at_ms = hours * HOUR_MS;
        let (sort, rest) = said.split_at(1);
        let mut activity = rest.to_owned();
        let what = match sort {
            "+" => {
                case.here.push((activity.clone(), at_ms));
                What::Came
            }
            "-" => {
                let parts: Vec<&str> = rest.split('/').collect();
                activity = parts[0].to_owned();
                case.here.retain(|(step, _)| *step != activity);
                What::Left {
                    way: parts[1].to_owned(),
                    since_ms: parts[2].parse::<u64>().unwrap() * HOUR_MS,
                }
            }
            "!" => What::HandedOver,
            "?" => What::ByHand,
            "x" => What::BrokenOff,
            "~" => {
                activity = format!("{rest}:late");
                What::Done
            }
            "=" => {
                activity = format!("end:{rest}");
                case.ended = Some((at_ms, rest.to_owned()));
                case.here.clear();
                What::Done
            }
            other => panic!("{other}"),
        };
        case.events.push(CaseEvent {
            at_ms,
            activity,
            what,
        });
    }
    case
}

/// Answered, visited, through in two days.
fn answered() -> Case {
    case(&[
        (0, "+form"),
        (24, "-form/answered/0"),
        (24, "+both"),
        (24, "+visit"),
        (24, "+day"),
        (36, "-visit/done/24"),
        (48, "-day/after 1 day/24"),
        (48, "-both/all ended/24"),
        (48, "+finished"),
        (48, "=finished"),
    ])
}

/// Not answered in two days; the call was overdue, and then the patient died while waiting for the visit.
fn died() -> Case {
    case(&[
        (0, "+form"),
        (48, "-form/no answer/0"),
        (48, "+call"),
        (72, "!call"),
        (80, "-call/done/48"),
        (80, "+both"),
        (80, "+visit"),
        (80, "+day"),
        (90, "~form"),
        (90, "+letter"),
        (90, "-letter/delivered/90"),
        (100, "xvisit"),
        (100, "xday"),
        (100, "=death"),
    ])
}

/// Led by hand from the form to the end, without visit and day.
fn led() -> Case {
    case(&[
        (0, "+form"),
        (10, "?finished"),
        (10, "+finished"),
        (10, "=finished"),
    ])
}

fn step<'a>(report: &'a Report, id: &str) -> &'a StepReport {
    report.steps.iter().find(|step| step.id == id).unwrap()
}

fn near(told: Option<u64>, hours: u64) -> bool {
    let wanted = hours * HOUR_MS;
    told.is_some_and(|told| told.abs_diff(wanted) * 100 <= wanted * 2)
}

#[test]
fn a_small_log_is_as_counted_by_hand() {
    let now_ms = 10 * DAY_MS;
    let mut sums = Sums::new(definition(), now_ms);
    let nobody = Groups::new();
    for one in [answered(), answered(), died(), led(), case(&[(0, "+form")])] {
        add(&mut sums, &one, &nobody);
    }
    let report = sums.report();
    assert_eq!(
        (report.cases, report.running, report.ended, report.moved),
        (5, 1, 4, 0)
    );
    let form = step(&report, "form");
    assert_eq!((form.reached, form.came, form.here), (5, 5, 1));
    assert_eq!((form.left, form.ended_here, form.ran_out), (3, 0, 1));
    assert_eq!((form.answered_late, form.late()), (1, 1));
    // 24, 24 and 48 hours, and ten days of the one who is there.
    assert_eq!(form.spent_ms, 96 * HOUR_MS + 10 * DAY_MS);
    assert!(
        near(form.dwell.p50_ms, 24) && near(form.dwell.p90_ms, 48),
        "{form:?}"
    );
    let both = step(&report, "both");
    assert_eq!(
        (both.left, both.spent_ms),
        (2, 0),
        "its time is that of what it has"
    );
    let call = step(&report, "call");
    assert_eq!((call.reached, call.handed_over, call.ran_out), (1, 1, 0));
    let visit = step(&report, "visit");
    assert_eq!((visit.reached, visit.left, visit.ended_here), (3, 2, 1));
    assert_eq!((visit.weight, form.weight), (2, 1));
    assert_eq!(step(&report, "finished").by_hand, 1);
    let endings: Vec<(&str, u64)> = (report.endings.iter())
        .map(|ending| (ending.code.as_str(), ending.count))
        .collect();
    assert_eq!(endings, [("finished", 3), ("death", 1)]);
    assert_eq!(report.endings[1].title, "Died");
    // 48, 48, 100 and 10 hours.
    assert_eq!(report.length.count, 4);
    assert!(near(report.length.p50_ms, 48) && near(report.length.p90_ms, 100));

    // Paths: two went the first, one each the others.
    assert_eq!((report.paths_known, report.paths_untold), (4, 0));
    let first = &report.paths[0];
    assert_eq!(
        (first.count, first.ended, first.deviations),
        (2, 2, Some(0))
    );
    assert_eq!(
        first.path,
        ["form", "both", "visit", "day", "finished", "end:finished"]
    );
    let under_way = report.paths.iter().find(|path| path.path == ["form"]);
    assert_eq!(
        under_way.map(|path| (path.ended, path.deviations)),
        Some((0, None))
    );
    let pair = |from: &str, to: &str| {
        let found = report.follows.iter();
        let mut found = found.filter(|(a, b, _)| a == from && b == to);
        found.next().map_or(0, |(_, _, count)| *count)
    };
    assert_eq!((pair("form", "both"), pair("form", "call")), (2, 1));
    assert_eq!((pair("form", "finished"), pair("day", "form:late")), (1, 1));
    assert_eq!(report.first, [("form".to_owned(), 5)]);
    assert_eq!(
        report.last,
        [
            ("end:death".to_owned(), 1),
            ("end:finished".to_owned(), 3),
            ("form".to_owned(), 1)
        ]
    );

    // Conformance of the four that are over: the one led by hand has two activities too many (the end that it came
    // to), and misses an ending that the graph has from the form, three of at most three and one.
    let fitness = &report.fitness;
    assert_eq!(
        (fitness.measured, fitness.not_measured, fitness.fit),
        (4, 0, 3)
    );
    let led = report
        .paths
        .iter()
        .find(|path| path.path.len() == 3)
        .unwrap();
    assert_eq!(led.deviations, Some(3));
    let close = |told: Option<f64>, wanted: f64| (told.unwrap() - wanted).abs() < 1e-9;
    assert!(
        close(fitness.mean, (1.0 + 1.0 + 1.0 + 0.25) / 4.0),
        "{fitness:?}"
    );
    // Of all: three of 7 + 7 + 9 + 4.
    assert!(close(fitness.of_log, 1.0 - 3.0 / 27.0), "{fitness:?}");
    // Weighted: call and visit count two. 8 + 8 + 11 + 4.
    assert!(close(fitness.weighted, 1.0 - 3.0 / 31.0), "{fitness:?}");
    let text = report.text();
    assert!(
        text.contains("form: reached by 5 (100.0 %), 1 there now"),
        "{text}"
    );
}

#[test]
fn a_step_left_out_that_matters_weighs_more() {
    let mut sums = Sums::new(definition(), DAY_MS);
    let without = |step: &str| {
        let mut case = answered();
        case.events.retain(|event| event.activity != step);
        case
    };
    add(&mut sums, &without("visit"), &Groups::new());
    let visit = sums.report().fitness;
    let mut sums = Sums::new(definition(), DAY_MS);
    add(&mut sums, &without("day"), &Groups::new());
    let day = sums.report().fitness;
    assert_eq!((visit.mean, visit.of_log), (day.mean, day.of_log));
    // One of 5 and 1; by weight two of 5 and 1, and one of 6 and 1.
    assert_eq!(visit.of_log, Some(1.0 - 1.0 / 6.0));
    assert_eq!(visit.weighted, Some(1.0 - 2.0 / 6.0));
    assert_eq!(day.weighted, Some(1.0 - 1.0 / 7.0));
    assert_eq!(visit.deviations[0].activity, "visit");
    assert_eq!(
        (visit.deviations[0].skipped, visit.deviations[0].extra),
        (1, 0)
    );
}

#[test]
fn who_came_from_another_version_is_counted_and_not_held_against_this_one() {
    let mut sums = Sums::new(definition(), DAY_MS);
    let moved = Case {
        moved: true,
        ..answered()
    };
    add(&mut sums, &moved, &Groups::new());
    let report = sums.report();
    assert_eq!((report.cases, report.moved, report.ended), (1, 1, 1));
    assert_eq!(
        (report.fitness.measured, report.fitness.not_measured),
        (0, 1)
    );
    assert_eq!(report.fitness.of_log, None);
}

#[test]
fn paths_beyond_the_bound_are_counted_and_said() {
    let mut sums = Sums::new(definition(), DAY_MS);
    // Each of another length: the activities of all together are what is bounded.
    for length in 1..2_000_usize {
        let events: Vec<(u64, &str)> = std::iter::repeat_n((0, "+form"), length).collect();
        add(&mut sums, &case(&events), &Groups::new());
    }
    assert!(sums.path_events <= PATH_EVENTS_MAX && sums.paths.len() <= PATHS_MAX);
    let report = sums.report();
    assert_eq!(report.paths_known + report.paths_untold, 1_999);
    assert!(report.paths_untold > 0);
    assert_eq!(report.cases, 1_999);
    assert!(report.text().contains("not told apart"));
}

#[test]
fn answers_are_added_up_where_they_are_many() {
    let answered = |value: f64| Case {
        answers: vec![
            Answer {
                step: "form".to_owned(),
                question: "score".to_owned(),
                value,
            },
            // What a rule has learnt is no answer.
            Answer {
                step: "visit".to_owned(),
                question: "rise".to_owned(),
                value: 4.0,
            },
        ],
        ..Case::default()
    };
    let told = |cases: u32| {
        let mut sums = Sums::new(definition(), DAY_MS);
        for number in 0..cases {
            let value = if number % 2 == 0 { 2.0 } else { 6.0 };
            add(&mut sums, &answered(value), &Groups::new());
        }
        let scores = sums.report().scores;
        assert_eq!(scores.len(), 1);
        assert_eq!(
            (scores[0].step.as_str(), scores[0].question.as_str()),
            ("form", "score")
        );
        (scores[0].count, scores[0].mean, scores[0].deviation)
    };
    assert_eq!(told(10), (None, None, None));
    let (count, mean, deviation) = told(12);
    assert_eq!((count, mean), (Some(12), Some(4.0)));
    assert!((deviation.unwrap() - 2.0).abs() < 1e-9);
}

fn came(came: Came) -> Vec<Outcome> {
    vec![Outcome {
        of: OutcomeOf::Readmission,
        came,
    }]
}

const BACK: Came = Came::Yes {
    after_ms: 10 * DAY_MS,
};

fn scored(value: f64) -> Vec<Answer> {
    vec![Answer {
        step: "form".to_owned(),
        question: "score".to_owned(),
        value,
    }]
}

/// Answers and outcomes by group, of 112 people who can be counted by hand.
#[test]
fn answers_and_outcomes_stand_side_by_side_where_they_are_many() {
    let mut sums = Sums::new(definition(), 100 * DAY_MS);
    let group = |by: &str, name: &str| Groups::from([(by.to_owned(), name.to_owned())]);
    // 40 of the first: 20 back, 20 not; they answer 2 and 4 by turns. 42 of the third: 12 back, 15 not, 15 not observed
    // for long enough; all answer 6. 25 of the fifth: 12 back; ten answer. Five of whom it isn't known.
    for (name, count) in [
        ("1 (most deprived)", 40),
        ("3", 42),
        ("5", 25),
        ("not known", 5),
    ] {
        for number in 0..count {
            let (outcome, answer) = match name {
                "1 (most deprived)" if number < 20 => (BACK, Some(2.0)),
                "1 (most deprived)" => (Came::No, Some(4.0)),
                "3" if number < 12 => (BACK, Some(6.0)),
                "3" if number < 27 => (Came::No, Some(6.0)),
                "3" => (Came::NotYet, Some(6.0)),
                "5" if number < 12 => (BACK, (number < 10).then_some(1.0)),
                "5" => (Came::No, None),
                _ => (Came::Planned, None),
            };
            let case = Case {
                answers: answer.map(scored).unwrap_or_default(),
                outcomes: came(outcome),
                ..answered()
            };
            add(&mut sums, &case, &group("deprivation", name));
        }
    }
    let report = sums.report();
    let outcome = &report.outcomes[0];
    assert_eq!(
        (outcome.measured, outcome.yes, outcome.not_yet),
        (Some(97), Some(44), Some(15))
    );
    // Five are few, and what is left of those who are measured would tell of them.
    assert_eq!((outcome.planned, outcome.no), (None, None));
    assert!(near(outcome.after_p50_ms, 240));
    // Five of whom it isn't known are few, so the next larger group isn't told either.
    let row = |group: &str, measured, yes, percent| OutcomeRow {
        group: group.to_owned(),
        measured,
        yes,
        percent,
    };
    assert_eq!(
        outcome.groups[0].rows,
        [
            row("1 (most deprived)", Some(40), Some(20), Some(50)),
            row("3", Some(27), Some(12), Some(44)),
            row("5", None, None, None),
            row("not known", None, None, None),
        ]
    );
    let score = &report.scores[0];
    assert_eq!(score.count, Some(92));
    // Ten answers of the fifth are few, and could be made from all and those of the other two.
    let of = |row: &ScoreRow| (row.count, row.mean, row.deviation);
    let rows = &score.groups[0].rows;
    let groups: Vec<&str> = rows.iter().map(|row| row.group.as_str()).collect();
    // Nobody of those of whom it isn't known answered, which is not told either.
    assert_eq!(groups, ["1 (most deprived)", "3", "5", "not known"]);
    assert_eq!(of(&rows[1]), (Some(42), Some(6.0), Some(0.0)));
    for row in [0, 2, 3] {
        assert_eq!(of(&rows[row]), (None, None, None), "{row}");
    }
    let text = report.text();
    for said in [
        "In hospital again after the discharge, within 0 days\n  unplanned: 44 of 97 (45.3 %)",
        "  not told: planned\n  not told: not in hospital\n  15: not observed for so long yet, apart\n",
        "    1 (most deprived): 50 % (20 of 40)\n    3: 44 % (12 of 27)\n    5: not told\n",
        "      3: 6.00 on average, give or take 0.00, of 42\n",
    ] {
        assert!(text.contains(said), "{text}");
    }
}

/// Thirty of one arm and thirty of the other are three less than all.
#[test]
fn who_is_in_no_group_can_not_be_made_from_the_others() {
    let mut sums = Sums::new(definition(), 100 * DAY_MS);
    let of = |arm: Option<&str>, outcome: Came, answer: f64| Case {
        arms: arm
            .map(|arm| ("two".to_owned(), arm.to_owned()))
            .into_iter()
            .collect(),
        answers: scored(answer),
        outcomes: came(outcome),
        ..answered()
    };
    // One before anybody was drawn, two after.
    add(&mut sums, &of(None, BACK, 9.0), &Groups::new());
    for number in 0..60 {
        let outcome = if number % 4 < 2 { BACK } else { Came::No };
        let arm = if number % 2 == 0 { "a" } else { "b" };
        add(&mut sums, &of(Some(arm), outcome, 2.0), &Groups::new());
    }
    for _ in 0..2 {
        add(&mut sums, &of(None, BACK, 9.0), &Groups::new());
    }
    let report = sums.report();
    let rows = &report.splits[0].rows;
    let cases: Vec<(&str, Option<u64>)> = (rows.iter())
        .map(|row| (row.group.as_str(), row.cases))
        .collect();
    assert_eq!(report.splits[0].by, "arm of two");
    assert_eq!(cases, [("a", None), ("b", Some(30)), ("in none", None)]);
    let outcome = &report.outcomes[0];
    assert_eq!((outcome.measured, outcome.yes), (Some(63), Some(33)));
    let yes: Vec<Option<u64>> = outcome.groups[0].rows.iter().map(|row| row.yes).collect();
    assert_eq!(yes, [None, Some(15), None]);
    let score = &report.scores[0];
    assert_eq!(score.count, Some(63));
    let means: Vec<Option<f64>> = score.groups[0].rows.iter().map(|row| row.mean).collect();
    assert_eq!(means, [None, Some(2.0), None]);
}

/// What came of some, of a version's patients that are as many of each.
fn totals(of: &[(Came, u64)]) -> OutcomeReport {
    let mut sums = Sums::new(definition(), 100 * DAY_MS);
    for (outcome, count) in of {
        for _ in 0..*count {
            let case = Case {
                outcomes: came(*outcome),
                ..answered()
            };
            add(&mut sums, &case, &Groups::new());
        }
    }
    sums.report().outcomes.remove(0)
}

#[test]
fn what_came_of_few_is_not_told_of_all_either() {
    let few = totals(&[(BACK, 3), (Came::No, 40)]);
    assert_eq!((few.yes, few.planned, few.no), (None, None, None));
    assert_eq!((few.measured, few.share()), (Some(43), None));
    let few = totals(&[(BACK, 40), (Came::No, 3)]);
    assert_eq!((few.yes, few.no, few.share()), (None, None, None));
    assert_eq!(few.after_p50_ms, None);
    // Those who died are what is missing of all.
    let few = totals(&[(BACK, 20), (Came::No, 40), (Came::Died, 3)]);
    assert_eq!((few.measured, few.share()), (None, None));
    assert_eq!((few.yes, few.no, few.died), (Some(20), None, None));
    assert_eq!((few.not_yet, few.unknown), (None, None));
    let few = totals(&[(BACK, 20), (Came::Died, 3)]);
    assert_eq!((few.yes, few.measured, few.died), (None, None, None));
    // With others who stand apart they are not.
    let more = [
        (BACK, 20),
        (Came::No, 40),
        (Came::Died, 3),
        (Came::Unknown, 12),
    ];
    let more = totals(&more);
    assert_eq!(more.share(), Some((20, 60)));
    assert_eq!((more.no, more.planned), (Some(40), Some(0)));
    assert_eq!((more.died, more.unknown, more.left), (None, None, Some(0)));
    assert!(more.after_p50_ms.is_some());
    // Few in all.
    let few = totals(&[(BACK, 5), (Came::NotYet, 30)]);
    assert_eq!((few.measured, few.yes, few.not_yet), (None, None, None));
    // Of all the same.
    let all = totals(&[(Came::No, 30)]);
    assert_eq!((all.share(), all.no), (Some((0, 30)), Some(30)));
    assert_eq!(all.after_p50_ms, None);
}

/// Thirty journeys of three people are three people.
#[test]
fn people_are_counted_and_not_journeys() {
    let told = |people: u32| {
        let mut sums = Sums::new(definition(), 100 * DAY_MS);
        for number in 0..60_u32 {
            let case = Case {
                answers: scored(2.0),
                outcomes: came(if number % 2 == 0 { BACK } else { Came::No }),
                ..answered()
            };
            let groups = Groups::from([("sex".to_owned(), "female".to_owned())]);
            sums.add(&case, &format!("p{}", number % people), &groups);
        }
        let report = sums.report();
        let row = &report.splits[0].rows[0];
        let of_group = &report.outcomes[0].groups[0].rows[0];
        let scores = &report.scores[0];
        (
            (row.cases, of_group.percent, report.outcomes[0].yes),
            (scores.count, scores.mean),
        )
    };
    assert_eq!(told(3), ((None, None, None), (None, None)));
    let many = ((Some(60), Some(50), Some(30)), (Some(60), Some(2.0)));
    assert_eq!(told(60), many);
}
