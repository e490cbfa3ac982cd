//! Kinds of steps in whole files: what scenarios see of them, what a cohort makes of them, and that their
//! files keep their form.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "a test says by failing what went wrong"
)]

mod starters;

use journey::{Behaviour, Changes, Definition, Simulated, Size, Tested, simulate};
use std::fs;
use std::path::PathBuf;
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
    // Each of two events comes by a draw of its own: one of them to three in four.
    let some =
        of("patients: {answer: 1, answer_within: 1d}\nsteps: {both: {share: 0.5, within: 1d}}");
    assert!((80..=108).contains(&some.0), "{some:?}");
    keeps_its_form(
        TOGETHER,
        "at_most: 8d",
        "at_most: 9d",
        "steps.both.wait.at_most",
        Changes::Times,
    );
}

/// A cuff at home: its mean, and whether it is used at all.
const CUFF: &str = "start: month

steps:
  month:
    title: A month
    wait:
      until: discharge + 30d
    next: over

  high:
    title: High on average
    observe:
      code: 8480-6
      unit: mm[Hg]
      mean_above: 140
      readings: 3
      within: 7d
      quiet_for: 60d
    then: review

  silent:
    title: No readings
    observe:
      code: 8480-6
      none_for: 3d
      until: discharge + 20d
    then: call

  review:
    title: Review
    task:
      title: Review the blood pressure
      reason: The mean of {high.readings|some} readings was {high.mean|high} mm[Hg].
      role: clinician
      due: 2d
    next: end
    overdue: {role: clinician, priority: urgent}

  call:
    title: Call
    task:
      title: Ask about the cuff
      reason: Nothing was measured for {silent.hours|72} hours.
      role: coordinator
      due: 2d
    next: end
    overdue: {role: coordinator, priority: urgent}

  over:
    title: Over
    exit: {reason: Over}
";

#[test]
fn means_and_silence() {
    let measured = |hours: u32, value: u32| {
        format!(
            "      - {{after: {hours}h, measured: {{code: 8480-6, value: {value}, unit: 'mm[Hg]'}}}}\n"
        )
    };
    let high = [(20, 150), (24, 139), (24, 149)].map(|(hours, value)| measured(hours, value));
    let scenarios = format!(
        "  - name: nothing measured
    then: {{tasks: [{{step: call, role: coordinator, at: start + 72h, says: for 72 hours}}], ended: over, ended_at: discharge + 30d}}
  - name: high on average, then silent
    when:
{}      - {{after: 73h}}
    then:
      tasks:
        - {{step: review, role: clinician, at: start + 68h, says: mean of 3 readings was 146 mm}}
        - {{step: call, at: start + 140h}}
  - name: measured in time
    when:
{}      - {{at: discharge + 17d}}
    then: {{nothing_else: true}}
",
        high.concat(),
        (0..6).map(|_| measured(60, 120)).collect::<String>(),
    );
    let played = tested(CUFF, &scenarios);
    assert!(played.passed(), "{}", played.text());
    let tasks = |behaviour: &str| {
        let report = simulated(CUFF, behaviour);
        assert!(report.refused.is_empty(), "{:?}", report.refused);
        report.tasks_by_day.iter().sum::<u64>()
    };
    let of = |share: &str, start: u32| {
        tasks(&format!(
            "measurements: {{8480-6: {{start: {start}, spread: 2, share: {share}, change_share: 0}}}}"
        ))
    };
    assert_eq!(of("1", 120), 0);
    // Who starts in the last days is not silent for so long.
    let (high, silent) = (of("1", 150), of("0", 120));
    assert!(
        (110..=120).contains(&high) && (110..=120).contains(&silent),
        "{high} {silent}"
    );
    keeps_its_form(
        CUFF,
        "none_for: 3d",
        "none_for: 4d",
        "steps.silent.observe.none_for",
        Changes::Times,
    );
}

/// A form with a score, and what follows from it.
const MOOD: &str = "start: mood

steps:
  mood:
    title: Mood
    ask:
      title: The last two weeks
      words: Please tell us.
      questions:
        - {id: interest, text: Little interest?, type: choice, options: {never: Never, often: Often}, weights: {never: 0, often: 3}}
        - {id: nights, text: Nights without sleep?, type: whole-number, least: 0, most: 14}
      scores:
        total: {sum: [interest, nights]}
      give_up_after: 5d
    answered: decide
    no_answer: end

  decide:
    title: High?
    branch:
      cases:
        - {when: mood.total > 9, label: high, next: review}
      otherwise: end

  review:
    title: Review
    task:
      title: Look at the answers
      reason: The score is {mood.total|missing}.
      role: clinician
      due: 2d
    next: end
    overdue: {role: clinician, priority: urgent}
";

#[test]
fn scores_of_forms() {
    let played = tested(
        MOOD,
        "  - name: high
    when: [{after: 1h, answers: {step: mood, with: {interest: often, nights: 7}}}]
    then: {tasks: [{step: review, says: The score is 10.}]}
  - name: low
    when: [{after: 1h, answers: {step: mood, with: {interest: never, nights: 9}}}]
    then: {ended: completed, nothing_else: false}
",
    );
    assert!(played.passed(), "{}", played.text());
    let tasks = |nights: u32| {
        let report = simulated(
            MOOD,
            &format!(
                "patients: {{answer: 1, answer_within: 1h}}\nsteps: {{mood: {{answers: {{nights: {nights}}}}}}}"
            ),
        );
        report.tasks_by_day.iter().sum::<u64>()
    };
    assert_eq!((tasks(0), tasks(14)), (0, 120));
    // The score is what decides: half of the patients have three more by the other answer.
    let some = tasks(7);
    assert!((30..=90).contains(&some), "{some}");
    keeps_its_form(
        MOOD,
        "{never: 0, often: 3}",
        "{never: 0, often: 2}",
        "steps.mood.ask.questions.interest.weights.often",
        Changes::Other,
    );
}

/// Work that goes up a ladder and takes two persons.
const WORK: &str = "start: dose

steps:
  dose:
    title: Change of the dose
    task:
      title: Change the dose
      reason: The laboratory value is out of range.
      role: clinician
      due: 12h
      ladder:
        - {after: 2h, role: clinician, priority: urgent}
        - {after: 6h, role: clinician, priority: stat}
      four_eyes: true
      outcomes:
        changed: changed
        left: end
    next: end
    not_confirmed: again
    overdue: again

  again:
    title: Talk about it
    task:
      title: Agree on the dose
      reason: The change of the dose was not confirmed.
      role: clinician
      due: 12h
    next: end
    overdue: {role: clinician, priority: stat}

  changed:
    title: Changed
    exit: {reason: Changed}
";

#[test]
fn ladders_and_second_persons() {
    let played = tested(
        WORK,
        "  - name: two persons
    when:
      - {after: 1h, task: {step: dose, outcome: changed, by: anna}}
      - {after: 30m, task: {step: dose, outcome: confirmed, by: berta}}
    then:
      tasks:
        - {step: dose, role: clinician, at: start}
        - {step: dose, role: clinician, at: start + 1h, says: Another person did this (changed)}
      ended: changed
      ended_at: start + 90m
      nothing_else: true
  - name: one person twice, up the ladder
    when:
      - {after: 3h, task: {step: dose, outcome: changed, by: anna}}
      - {after: 1h, task: {step: dose, outcome: confirmed, by: anna}}
      - {after: 4h, task: {step: dose, outcome: not_confirmed, by: berta}}
    then:
      tasks:
        - {step: dose, at: start}
        - {step: dose, at: start + 3h}
        - {step: dose, at: start + 4h}
        - {step: again, at: start + 8h}
      handed_over:
        - {step: dose, at: start + 2h}
        - {step: dose, at: start + 6h}
      is_at: [again]
  - name: nobody
    when: [{after: 13h}]
    then:
      handed_over:
        - {step: dose, at: start + 2h}
        - {step: dose, at: start + 6h}
      is_at: [again]
",
    );
    assert!(played.passed(), "{}", played.text());
    let report = simulated(
        WORK,
        "staff: {within: 1h}\nsteps: {dose: {outcomes: {changed: 1}}}",
    );
    assert!(report.refused.is_empty(), "{:?}", report.refused);
    // Whoever started in the last hour may be under way.
    assert!(ended(&report, "changed") >= 118);
    let tasks = report.tasks_by_day.iter().sum::<u64>();
    assert!((236..=240).contains(&tasks), "two for each: {tasks}");
    let slow = simulated(WORK, "staff: {within: 30d}");
    assert!(slow.handed_over > 200, "{}", slow.handed_over);
    keeps_its_form(
        WORK,
        "after: 6h",
        "after: 7h",
        "steps.dose.task.ladder.2.after",
        Changes::Times,
    );
}

/// A visit on the second day that is over for some.
const DATED: &str = "start: told

steps:
  told:
    title: Told
    ask:
      title: Are you at home?
      words: Please tell us.
      questions:
        - {id: home, text: Are you at home?, type: yes-no}
      give_up_after: 4d
    answered: second_day
    no_answer: second_day

  second_day:
    title: The second day
    wait:
      until: discharge + 2d
      past_due: escalate
    next: on_time
    past: call

  call:
    title: Call
    task:
      title: Ask how the second day was
      reason: The second day was over before the patient could be asked.
      role: coordinator
      due: 1d
    next: late
    overdue: late

  on_time:
    title: On time
    exit: {reason: On time}

  late:
    title: Late
    exit: {reason: Late}
";

#[test]
fn dates_that_are_past() {
    let played = tested(
        DATED,
        "  - name: on time
    when: [{after: 5h, answers: {step: told, with: {home: true}}}]
    then: {ended: on_time, ended_at: discharge + 2d}
  - name: too late
    when:
      - {after: 3d, answers: {step: told, with: {home: true}}}
      - {after: 1h, task: {step: call}}
    then:
      tasks: [{step: call, role: coordinator, at: start + 3d}]
      ended: late
  - name: never
    then:
      tasks: [{step: call, at: start + 4d}]
      ended: late
",
    );
    assert!(played.passed(), "{}", played.text());
    assert_eq!(played.coverage(), 100, "{}", played.text());
    let on_time = |within: &str| {
        let report = simulated(
            DATED,
            &format!("patients: {{answer: 1, answer_within: {within}}}"),
        );
        assert!(report.refused.is_empty(), "{:?}", report.refused);
        (ended(&report, "on_time"), ended(&report, "late"))
    };
    let (all, none) = on_time("1d");
    assert!(all > 110 && none == 0, "{all} {none}");
    let (some, late) = on_time("4d");
    assert!(some > 30 && late > 30, "{some} {late}");
    keeps_its_form(
        DATED,
        "past: call",
        "past: [call, late]",
        "steps.second_day.past",
        Changes::Ways,
    );
}

/// Each recipe can be published, passes its own scenarios, and is gone through whole by them; all of them are named.
#[test]
fn recipes_do_what_they_say() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folder = root.join("docs/journeys/recipes");
    let named = fs::read_to_string(folder.join("README.md")).unwrap();
    let file = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let (segments, connectors) = (file("segments.yaml"), file("connectors.yaml"));
    assert_eq!(journey::check_segments(&segments), []);
    assert_eq!(journey::check_connectors(&connectors), []);
    for shared in [&segments, &connectors] {
        assert_eq!(journey::format(shared).unwrap(), *shared);
    }
    let mut count = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let Some(stem) = name
            .strip_suffix(".yaml")
            .filter(|stem| !stem.ends_with(".test") && !["segments", "connectors"].contains(stem))
        else {
            continue;
        };
        count += 1;
        let own = fs::read_to_string(&path).unwrap();
        let source = journey::with_segments(&own, &segments).unwrap().text;
        let source = journey::with_connectors(&source, &connectors).unwrap().text;
        assert_eq!(journey::check(&source), [], "{name}");
        let definition = Definition::compile(&source, 1).unwrap();
        assert_eq!(definition.name, stem, "a recipe has the name of its file");
        let scenarios = fs::read_to_string(folder.join(format!("{stem}.test.yaml"))).unwrap();
        let tested = journey::test(&definition, &scenarios);
        let tested = tested.unwrap_or_else(|findings| panic!("{name}: {findings:#?}"));
        assert!(tested.passed(), "{name}\n{}", tested.text());
        assert_eq!(tested.coverage(), 100, "{name}\n{}", tested.text());
        assert!(
            named.contains(&format!("[{stem}]({stem}.yaml)")),
            "{name} is not named"
        );
        let canonical = journey::format(&own).unwrap();
        assert_eq!(canonical, own, "{name} is not in its canonical form");
    }
    assert_eq!(count, 16);
}

/// A message that is not needed any more gives up its turn in a scenario, as it does in production: what comes after
/// it doesn't wait behind it.
#[test]
fn what_is_called_off_while_it_waits_takes_nobodys_place() {
    let file = format!(
        "{HEAD}messages: {{per_day: 1}}
start: [hello, question, later]
steps:
  hello:
    title: Hello
    send: {{title: Hello, words: Hello., channels: [email, portal]}}
    next: end
    on_failure: end
  question:
    title: Question
    ask:
      title: Question
      words: Please answer.
      urgency: important
      questions: [{{id: well, text: Are you well?, type: yes-no}}]
      give_up_after: 5d
    answered: end
    no_answer: end
  later: {{title: A day later, wait: {{for: 24h}}, next: more}}
  more:
    title: More
    send: {{title: More, words: More., channels: [email, portal], expires: 5d}}
    next: end
    on_failure: end
"
    );
    let scenarios = "given:
  now: 2026-03-02T11:00:00Z
  entry: {status: finished, class: {code: IMP}, period: {end: 2026-03-02T10:00:00Z}}
scenarios:
  - name: Answered before the invitation could go
    when:
      - after: 1h
        answers: {step: question, with: {well: true}}
    then:
      sent:
        - {step: hello, by: email, at: start}
        - {step: more, by: email, at: start + 24h}
      ended: completed
";
    let tested = journey::test(&Definition::compile(&file, 1).unwrap(), scenarios).unwrap();
    assert!(tested.passed(), "{}", tested.text());
}
