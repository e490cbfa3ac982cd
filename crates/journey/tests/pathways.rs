//! Kinds of steps in whole files: what scenarios see of them, what a cohort makes of them, and that their
//! files keep their form.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "a test says by failing what went wrong"
)]

use journey::{Behaviour, Changes, Definition, Simulated, Size, Tested, simulate};
use std::sync::Arc;

const HEAD: &str = "name: pathway
title: A pathway
owner: Team
purpose: TREAT
at_most: 60d

entry:
  event: Encounter
  where: status = 'finished'
  anchors:
    discharge: period.end
  within: 3d
  per: event

exits:
  death: {title: Died, event: Patient, where: deceased.exists() and deceased != false}
  consent: {title: Consent withdrawn, consent: withdrawn}

";

fn compiled(steps: &str) -> Arc<Definition> {
    Definition::compile(&format!("{HEAD}{steps}"), 1).unwrap()
}

/// Discharged on a Monday at ten, told of at eleven.
fn tested(steps: &str, scenarios: &str) -> Tested {
    let given = "given:\n  now: 2026-03-02T11:00:00Z\n  entry: {status: finished, class: {code: IMP}, period: {end: 2026-03-02T10:00:00Z}}\n";
    journey::test(&compiled(steps), &format!("{given}scenarios:\n{scenarios}")).unwrap()
}

fn simulated(steps: &str, behaviour: &str) -> Simulated {
    let definition = compiled(steps);
    let behaviour = Behaviour::parse(&definition, behaviour).unwrap();
    let size = Size {
        patients: 120,
        days: 200,
        seed: 7,
        threads: 2,
    };
    simulate(&definition, &behaviour, size)
}

fn ended(report: &Simulated, code: &str) -> u64 {
    let mut endings = report.endings.iter();
    endings
        .find(|ending| ending.code == code)
        .map_or(0, |ending| ending.count)
}

/// The file is in its form, and what is changed in it is told as what it is.
fn keeps_its_form(steps: &str, from: &str, to: &str, place: &str, what: Changes) {
    let file = format!("{HEAD}{steps}");
    assert_eq!(journey::format(&file).unwrap(), file);
    let changes = journey::diff(&file, &file.replacen(from, to, 1)).unwrap();
    let found: Vec<(&str, Changes)> = changes
        .iter()
        .map(|change| (change.place.as_str(), change.what))
        .collect();
    assert_eq!(found, [(place, what)]);
}

/// Asks, and waits for the answer, a measurement or a visit, and the second day.
const TOGETHER: &str = "start: [pain, both]

steps:
  pain:
    title: Pain
    ask:
      title: How is it?
      words: Please tell us.
      questions:
        - {id: level, text: How much?, type: whole-number, least: 0, most: 10}
      give_up_after: 5d
    answered: end
    no_answer: end

  both:
    title: Both have come
    wait:
      all_of:
        - answer: pain
        - first_of:
            - {event: Observation, where: status = 'final'}
            - {event: Encounter, where: status = 'planned'}
        - until: discharge + 2d
      at_most: 8d
    next: came
    not_come: missed

  came:
    title: Came
    exit: {reason: Came}

  missed:
    title: Missed
    exit: {reason: Missed}
";

#[test]
fn waits_for_several() {
    let played = tested(
        TOGETHER,
        "  - name: all of it
    when:
      - {after: 1h, measured: {code: 29463-7, value: 80, unit: kg}}
      - {after: 1h, answers: {step: pain, with: {level: 3}}}
    then: {ended: came, ended_at: discharge + 2d}
  - name: the answer last
    when:
      - {after: 1h, measured: {code: 29463-7, value: 80, unit: kg}}
      - {after: 3d, answers: {step: pain, with: {level: 3}}}
    then: {ended: came, ended_at: start + 73h}
  - name: no measurement
    when:
      - {after: 1h, answers: {step: pain, with: {level: 3}}}
    then: {ended: missed, ended_at: start + 8d}
",
    );
    assert!(played.passed(), "{}", played.text());
    let of = |behaviour: &str| {
        let report = simulated(TOGETHER, behaviour);
        assert!(report.refused.is_empty(), "{:?}", report.refused);
        (ended(&report, "came"), ended(&report, "missed"))
    };
    let all = of("patients: {answer: 1, answer_within: 1d}\nsteps: {both: {share: 1, within: 1d}}");
    assert!(all.0 > 110 && all.1 == 0, "{all:?}");
    let none = of("patients: {answer: 0}\nsteps: {both: {share: 1, within: 1d}}");
    assert!(none.0 == 0 && none.1 > 105, "{none:?}");
    let none = of("patients: {answer: 1, answer_within: 1d}\nsteps: {both: {share: 0}}");
    assert!(none.0 == 0 && none.1 > 105, "{none:?}");
    keeps_its_form(
        TOGETHER,
        "at_most: 8d",
        "at_most: 9d",
        "steps.both.wait.at_most",
        Changes::Times,
    );
}
