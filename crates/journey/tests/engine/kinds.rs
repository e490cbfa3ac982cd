//! Kinds of steps, each in a small journey of its own.

use crate::run::{Run, facts};
use journey::{Definition, Outcome, Start};
use std::sync::Arc;

pub(crate) fn compiled(steps: &str) -> Arc<Definition> {
    named("kinds", steps)
}

/// A journey of these steps, which start with `first`.
fn named(name: &str, steps: &str) -> Arc<Definition> {
    Definition::compile(&source(name, steps), 1).unwrap()
}

pub(crate) fn source(name: &str, steps: &str) -> String {
    format!(
        "name: {name}
title: Kinds of steps
owner: Team
purpose: TREAT
at_most: 60d
entry:
  event: Encounter
  where: status = 'finished'
  anchors: {{discharge: period.end}}
  within: 3d
  per: event
exits:
  death: {{title: Died, event: Patient, where: deceased.exists()}}
  consent: {{title: Consent withdrawn, consent: withdrawn}}
start: first
steps:
{steps}"
    )
}

pub(crate) fn begin(definition: &Arc<Definition>, patient: &str) -> Run {
    let facts = Start {
        patient: patient.to_owned(),
        ..facts()
    };
    Run::start(definition.clone(), Some(Outcome::Delivered), facts)
}

mod split {
    use super::*;
    use crate::run::{DAY, HOUR};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Draws at once, again after a day, and decides by what was drawn.
    fn trial(name: &str, early: u8, late: u8, holdout: u8) -> Arc<Definition> {
        let arms = |early_to: &str, late_to: &str| {
            format!(
                "      experiment: first-question
      arms:
        - {{id: early, weight: {early}, next: {early_to}}}
        - {{id: late, weight: {late}, next: {late_to}}}
      holdout: {{weight: {holdout}, next: pause}}
"
            )
        };
        named(
            name,
            &format!(
                "  first:
    title: When to ask
    split:
{}  pause: {{title: Pause, wait: {{for: 1d}}, next: again}}
  again:
    title: Once more
    split:
{}  decide:
    title: Early?
    branch:
      cases:
        - {{when: first.arm = 'early', next: early}}
        - {{when: again.arm = 'late', next: late}}
      otherwise: left_out
  early: {{title: Early, wait: {{for: 1d}}, next: end}}
  late: {{title: Late, wait: {{for: 1d}}, next: end}}
  left_out: {{title: Left out, wait: {{for: 1d}}, next: end}}
",
                arms("pause", "pause"),
                arms("decide", "decide").replace("next: pause", "next: decide"),
            ),
        )
    }

    fn arm(definition: &Arc<Definition>, patient: &str) -> String {
        let mut run = begin(definition, patient);
        run.until(DAY + 2 * HOUR);
        let at = run.state.at();
        assert_eq!(at.len(), 1, "{at:?}");
        at[0].to_owned()
    }

    #[test]
    fn arms_are_drawn_by_weight() {
        let definition = trial("kinds", 20, 50, 30);
        let mut drawn: BTreeMap<String, u32> = BTreeMap::new();
        for patient in 0..2000 {
            *drawn
                .entry(arm(&definition, &format!("p{patient}")))
                .or_default() += 1;
        }
        for (arm, expected) in [("early", 400_u32), ("late", 1000), ("left_out", 600)] {
            // Four standard deviations are 90 at most.
            assert!(drawn[arm].abs_diff(expected) < 90, "{drawn:?}");
        }
    }

    #[test]
    fn two_journeys_draw_each_for_itself() {
        let (one, other) = (trial("one", 50, 49, 1), trial("other", 50, 49, 1));
        let patients: Vec<String> = (0..400).map(|patient| format!("p{patient}")).collect();
        let same = patients
            .iter()
            .filter(|patient| arm(&one, patient) == arm(&other, patient))
            .count();
        assert!(
            (150..250).contains(&same),
            "{same} of 400 are in the same arm"
        );
    }

    #[test]
    fn who_is_left_out_is_so_whatever_the_arms_weigh() {
        let (one, other) = (trial("kinds", 10, 50, 40), trial("kinds", 50, 10, 40));
        for patient in 0..200 {
            let patient = format!("p{patient}");
            let out = |definition| arm(definition, &patient) == "left_out";
            assert_eq!(out(&one), out(&other), "{patient}");
        }
    }

    #[test]
    fn what_was_drawn_holds_whatever_the_weights_say_later() {
        let run = begin(&trial("kinds", 98, 1, 1), "p1");
        let mut state = serde_json::to_value(&run.state).unwrap();
        assert_eq!(state["b"]["first-question"], "early");
        state["b"]["first-question"] = "late".into();
        let mut run = run;
        run.state = serde_json::from_value(state).unwrap();
        run.until(DAY + 2 * HOUR);
        let facts = &serde_json::to_value(&run.state).unwrap()["x"];
        assert_eq!(facts["again"]["arm"], "late");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn everybody_is_in_one_arm_each_time(patient in "[a-z0-9]{1,12}", early in 1..90u8, holdout in 1..9u8) {
            let definition = trial("kinds", early, 100 - early - holdout, holdout);
            let first = arm(&definition, &patient);
            prop_assert_eq!(&first, &arm(&definition, &patient));
            let mut run = begin(&definition, &patient);
            run.until(DAY + 2 * HOUR);
            let state = serde_json::to_value(&run.state).unwrap();
            prop_assert_eq!(&state["x"]["first"], &state["x"]["again"]);
            prop_assert_eq!(&state["x"]["first"]["arm"], &state["b"]["first-question"]);
            prop_assert_eq!(&state["f"], 2);
        }
    }
}

mod repeat {
    use super::*;
    use crate::run::{DAY, HOUR};
    use journey::timers;
    use proptest::prelude::*;
    use serde_json::json;

    /// Asks every day, at most three times, until it hurts no more.
    const DAILY: &str = "  first:
    title: Daily
    repeat: {body: pain, times: 3, pause: 1d, until: pain.level = 0}
    next: well
    never: call
  pain:
    title: Pain
    ask:
      title: How is it?
      words: Please tell us.
      questions: [{id: level, text: How much?, type: whole-number, least: 0, most: 10}]
      give_up_after: 12h
      channels: [portal]
    answered: end
    no_answer: end
  well: {title: Well, wait: {for: 1h}, next: finished}
  call: {title: Call, wait: {for: 1h}, next: finished}
  finished: {title: Finished, exit: {reason: Over}}
";

    fn entries(run: &Run, what: &str) -> usize {
        let state = serde_json::to_value(&run.state).unwrap();
        let trail = state["h"].as_array().unwrap();
        trail
            .iter()
            .filter(|entry| entry["w"].get(what).is_some())
            .count()
    }

    #[test]
    fn it_goes_on_until_the_condition_holds_or_the_last_round_is_over() {
        // Answers by round; `None` is no answer.
        for (answers, rounds, end) in [
            (vec![Some(0)], 1, "well"),
            (vec![Some(4), Some(0)], 2, "well"),
            (vec![None, None, Some(0)], 3, "well"),
            (vec![Some(4), Some(3), Some(1)], 3, "call"),
            (vec![None, None, None], 3, "call"),
        ] {
            let mut run = begin(&compiled(DAILY), "p");
            for answer in &answers {
                assert!(run.state.at().contains(&"pain"), "{answers:?}");
                let form = run.made.iter().rfind(|made| made.ends_with("/task"));
                let (form, since) = (form.unwrap().clone(), run.now - crate::run::DISCHARGE);
                match answer {
                    Some(level) => run.answer(&form, json!({"level": level})),
                    None => run.until(since + 12 * HOUR),
                };
                if run.state.at() == ["first"] {
                    let since = run.now - crate::run::DISCHARGE;
                    run.until(since + DAY - 1);
                    assert_eq!(
                        run.state.at(),
                        ["first"],
                        "it pauses for a day: {answers:?}"
                    );
                    run.until(since + DAY);
                }
            }
            assert_eq!(run.state.at(), [end], "{answers:?}");
            assert_eq!(entries(&run, "round"), rounds, "{answers:?}");
            let state = serde_json::to_value(&run.state).unwrap();
            assert_eq!(state["x"]["first"]["rounds"], rounds);
            // The entries of rounds stay, so older programs go on setting the patient aside.
            assert_eq!(state["f"], 2);
        }
    }

    /// Who is asked anew has one form open, and not one of each round.
    #[test]
    fn a_form_of_before_closes_when_its_questions_are_asked_anew() {
        let late = DAILY.replace("no_answer: end", "no_answer: end\n    late_answer: end");
        assert_ne!(late, DAILY);
        let mut run = begin(&compiled(&late), "p");
        let forms = |run: &Run| -> Vec<String> {
            let forms = run.made.iter().filter(|made| made.ends_with("/task"));
            forms.cloned().collect()
        };
        run.until(14 * HOUR);
        let first = forms(&run)[0].clone();
        let closed = |run: &Run, form: &str| {
            let close = format!("close {form} cancelled");
            run.log.iter().any(|line| line.contains(&close))
        };
        assert!(!closed(&run, &first), "{:?}", run.log);
        run.until(14 * HOUR + DAY);
        assert_eq!(forms(&run).len(), 2);
        assert!(closed(&run, &first), "{:?}", run.log);
        let before = run.state.clone();
        run.answer(&first, json!({"level": 9}));
        assert_eq!(run.state, before, "the form of before is nobody's any more");
        let second = forms(&run)[1].clone();
        run.answer(&second, json!({"level": 0}));
        assert_eq!(run.state.at(), ["well"]);
    }

    #[test]
    fn a_round_ends_when_all_of_it_has_ended() {
        let mut run = begin(
            &compiled(
                "  first:
    title: Twice
    repeat: {body: [short, fork], times: 2, pause: 1h}
    next: over
  short: {title: Short, wait: {for: 1h}, next: end}
  fork:
    title: Fork
    branch: {cases: [{when: first.rounds = 1, next: [long, longer]}], otherwise: end}
  long: {title: Long, wait: {for: 2h}, next: end}
  longer: {title: Longer, wait: {for: 5h}, next: end}
  over: {title: Over, wait: {for: 1h}, next: end}
",
            ),
            "p",
        );
        for (hour, at) in [
            (1, vec!["first", "long", "longer", "short"]),
            (3, vec!["first", "longer"]),
            (6, vec!["first"]),
            (7, vec!["first", "short"]),
            (8, vec!["over"]),
        ] {
            run.until(hour * HOUR);
            assert_eq!(run.state.at(), at, "after {hour} hours");
        }
    }

    #[test]
    fn time_that_was_missed_gives_one_round() {
        let definition = compiled(
            "  first:
    title: Hourly
    repeat: {body: nothing, times: 100, pause: 1h}
    next: end
  nothing: {title: Nothing, branch: {cases: [{when: 'false', next: end}], otherwise: end}}
",
        );
        let mut run = begin(&definition, "p");
        run.now += 10 * DAY;
        run.input(journey::Input::Timer { read: 0 });
        assert_eq!(entries(&run, "round"), 2);
        assert_eq!(
            timers(&definition, &run.state).into_values().min(),
            Some(run.now + HOUR)
        );
    }

    #[test]
    fn what_is_wrong_with_it_is_found() {
        let file = |repeat: &str, pain: &str| {
            format!(
                "name: kinds
title: Kinds of steps
owner: Team
purpose: TREAT
at_most: 60d
entry: {{event: Encounter, where: status = 'finished', anchors: {{discharge: period.end}}, within: 3d, per: event}}
exits:
  death: {{title: Died, event: Patient, where: deceased.exists()}}
  consent: {{title: Consent withdrawn, consent: withdrawn}}
start: first
steps:
  first:
    title: Daily
    repeat: {repeat}
  pain: {{title: Pain, wait: {{for: 1h}}, next: {pain}}}
  call: {{title: Call, wait: {{for: 1h}}, next: end}}
"
            )
        };
        let good = "{body: pain, times: 3, pause: 1d}\n    next: call";
        assert_eq!(journey::check(&file(good, "end")), []);
        for (repeat, pain, code) in [
            (
                "{body: end, times: 3, pause: 1d}\n    next: [call, pain]",
                "end",
                "J040",
            ),
            (
                "{body: pain, times: 3, pause: 0h}\n    next: call",
                "end",
                "J009",
            ),
            (good, "first", "J040"),
            (good, "call", "J027"),
            (
                "{body: pain, times: 1, pause: 1d}\n    next: call",
                "end",
                "J004",
            ),
            ("{body: pain, times: 3}\n    next: call", "end", "J003"),
            (
                "{body: pain, times: 90, pause: 1d}\n    next: call",
                "end",
                "J037",
            ),
            (
                "{body: pain, times: 3, pause: 1d, until: first.rounds = 2}\n    next: call",
                "end",
                "J013",
            ),
            (
                "{body: pain, times: 3, pause: 1d}\n    next: call\n    never: end",
                "end",
                "J012",
            ),
            (
                "{body: pain, times: 3, pause: 1d, until: pain.level = 2}\n    next: call\n    never: end",
                "end",
                "J016",
            ),
            // The end of a round is no end of the journey.
            (
                "{body: pain, times: 3, pause: 1d}\n    next: first\n    # call",
                "end",
                "J011",
            ),
        ] {
            let found = journey::check(&file(repeat, pain));
            assert!(
                found.iter().any(|finding| finding.code == code),
                "{repeat} {pain}: {found:?}"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn it_always_ends_and_never_goes_more_often(acts in prop::collection::vec((0..72u64, 1..12u32, 0..4u8), 0..24)) {
            let mut run = begin(&compiled(DAILY), "p");
            for (hours, token, level) in acts {
                let since = run.now - crate::run::DISCHARGE;
                run.until(since + hours * HOUR);
                run.answer(&format!("i/{token}/task"), json!({"level": level}));
                prop_assert!(entries(&run, "round") <= 3);
                prop_assert_eq!(run.state.running(), !run.state.at().is_empty());
            }
            run.until(10 * DAY);
            prop_assert_eq!(run.state.ending(), Some(("finished", "Over")));
        }
    }
}

mod goal {
    use super::*;
    use crate::run::{DAY, HOUR};
    use journey::{Fact, Input};

    // Conditions by number: 0 death, 1 walks, 2 home.
    fn aims(open_tasks: &str) -> Arc<Definition> {
        compiled(&format!(
            "  first: {{title: First, wait: {{for: 3d}}, next: decide}}
  call:
    title: Call
    task: {{title: Call, reason: To see., role: coordinator, due: 1d}}
    next: end
    overdue: {{role: clinician, priority: urgent}}
  decide:
    title: Walks?
    branch: {{cases: [{{when: walks.reached = true, next: end}}], otherwise: call}}
  walks:
    title: Walks
    goal: {{event: Observation, where: value = true, journey: goes_on}}
  home:
    title: Lives at home
    goal: {{event: Encounter, journey: ends{open_tasks}}}
"
        ))
    }

    fn reach(run: &mut Run, conditions: &[usize]) -> bool {
        run.event("Observation/o", Fact::Other, conditions.to_vec())
    }

    #[test]
    fn it_is_reached_once_and_known_from_then_on() {
        let mut run = begin(&aims(""), "p");
        run.until(DAY);
        assert!(reach(&mut run, &[1]));
        let first = run.state.clone();
        run.until(2 * DAY);
        assert!(!reach(&mut run, &[1]), "once is enough");
        assert_eq!(run.state, first);
        let state = serde_json::to_value(&run.state).unwrap();
        assert_eq!(state["g"]["walks"], crate::run::DISCHARGE + DAY);
        assert_eq!(state["f"], 2);
        assert_eq!(
            state["h"].as_array().unwrap().last().unwrap()["w"],
            "reached"
        );
        run.until(4 * DAY);
        assert_eq!(run.state.ending(), Some(("completed", "Completed")));
        // Who hasn't reached it is called.
        let mut run = begin(&aims(""), "p");
        run.until(3 * DAY + 2 * HOUR);
        assert_eq!(run.state.at(), ["call"]);
    }

    #[test]
    fn it_ends_the_journey_where_the_file_says_so() {
        for (open_tasks, closes) in [
            ("", true),
            (", open_tasks: close", true),
            (", open_tasks: keep", false),
        ] {
            let mut run = begin(&aims(open_tasks), "p");
            run.until(3 * DAY + 2 * HOUR);
            assert!(reach(&mut run, &[2]));
            assert_eq!(run.state.ending(), Some(("home", "Lives at home")));
            assert_eq!(
                run.log.iter().any(|line| line.contains("close i/")),
                closes,
                "{open_tasks}"
            );
        }
    }

    #[test]
    fn exits_come_first_and_repeats_are_nothing() {
        let mut run = begin(&aims(""), "p");
        reach(&mut run, &[0, 1, 2]);
        assert_eq!(run.state.ending(), Some(("death", "Died")));
        // One event can reach several; the feed may bring it twice.
        let mut run = begin(&aims(""), "p");
        reach(&mut run, &[1, 2]);
        let state = serde_json::to_value(&run.state).unwrap();
        assert_eq!(state["g"].as_object().unwrap().len(), 2);
        let Some((_, Input::Event(event))) = run.inputs.last().cloned() else {
            panic!()
        };
        assert!(!run.input(Input::Event(event)));
    }
}

mod check {
    use super::*;
    use journey::{Context, Effect, Input, Manual, State, start, step};

    fn looks() -> Arc<Definition> {
        compiled(
            "  first:
    title: Weighed?
    check: {has: Observation}
    yes: again
    no: insured
  again: {title: Pause, wait: {for: 1d}, next: first}
  insured:
    title: Insured?
    check: {coverage: active}
    yes: end
    no: allowed
  allowed:
    title: May be asked?
    check: {consent: HRESCH}
    yes: end
    no: decide
  decide:
    title: Weighed?
    branch: {cases: [{when: first.holds = false, next: end}], otherwise: again}
",
        )
    }

    #[test]
    fn the_way_is_what_the_record_says_at_the_moment() {
        let mut run = begin(&looks(), "p");
        assert_eq!(
            run.log()[..4],
            [
                "0d01h look first",
                "0d01h look insured",
                "0d01h look allowed",
                "0d01h end completed"
            ]
        );
        run = {
            let mut run = Run::start_with(looks(), true);
            assert_eq!(run.state.at(), ["again"]);
            run.record = false;
            run.until(2 * crate::run::DAY);
            run
        };
        assert_eq!(run.state.ending(), Some(("completed", "Completed")));
        assert_eq!(serde_json::to_value(&run.state).unwrap()["f"], 1);
    }

    #[test]
    fn what_no_journey_looks_at_is_refused() {
        let good = "check: {has: Observation}\n    yes: end\n    no: end\n";
        for (from, to, found) in [
            (good, good.to_owned(), None),
            ("Observation", "Claim".to_owned(), Some("J004")),
            ("Observation", "AuditEvent".to_owned(), Some("J004")),
            ("Observation", "Library".to_owned(), Some("J004")),
            ("has: Observation", "coverage: active".to_owned(), None),
            ("has: Observation", "consent: FUN".to_owned(), Some("J004")),
            (
                "has: Observation",
                "coverage: active, where: status = 'x'".to_owned(),
                Some("J004"),
            ),
            (
                "has: Observation",
                "has: Observation, coverage: active".to_owned(),
                Some("J003"),
            ),
            (
                "Observation}",
                "Observation, where: staus = 'final'}".to_owned(),
                Some("J038"),
            ),
            ("    no: end\n", String::new(), Some("J011")),
        ] {
            let steps = format!(
                "  first:\n    title: First\n    {}",
                good.replacen(from, &to, 1)
            );
            let findings = journey::check(&source("kinds", &steps));
            let codes: Vec<&str> = findings
                .iter()
                .map(|finding| finding.code.as_str())
                .collect();
            assert_eq!(
                codes,
                found.into_iter().collect::<Vec<_>>(),
                "{to}: {findings:?}"
            );
        }
    }

    #[test]
    fn a_replay_asks_nobody() {
        let first = Run::start_with(looks(), true);
        let mut run = Run::start_with(looks(), true);
        run.record = false;
        run.until(2 * crate::run::DAY);
        let done = first.inputs.len();
        let mut state = first.state;
        for (now_ms, input) in &run.inputs[done..] {
            let context = Context {
                now_ms: *now_ms,
                instance: "i",
                ids: &crate::run::Names,
                limited: false,
            };
            state = step(&run.definition, &state, input.clone(), &context)
                .unwrap()
                .state;
        }
        assert_eq!(state, run.state);
    }

    /// A condition that can't be evaluated is not taken for a "no" in silence.
    #[test]
    fn what_cannot_be_told_is_said_and_is_not_so() {
        let definition = looks();
        let (asking, n) = pending(&definition);
        let context = Context {
            now_ms: 0,
            instance: "i",
            ids: &crate::run::Names,
            limited: false,
        };
        let told = step(&definition, &asking, Input::Unclear { n }, &context).unwrap();
        let told = told.state;
        assert_eq!(told.at(), ["insured"]);
        let trail = serde_json::to_string(&told).unwrap();
        assert!(trail.contains("unclear"), "{trail}");
    }

    /// A journey that has asked and was not told yet, and the place that asked.
    fn pending(definition: &Arc<Definition>) -> (State, u32) {
        let context = Context {
            now_ms: 0,
            instance: "i",
            ids: &crate::run::Names,
            limited: false,
        };
        let started = start(definition, facts(), &context).unwrap();
        let asked = started.effects.iter().find_map(|effect| match effect {
            Effect::Look { n, .. } => Some(*n),
            _ => None,
        });
        (started.state, asked.unwrap())
    }

    /// Somebody who has left the place that asked is told nothing: here the journey ends while it waits to be told.
    #[test]
    fn who_is_no_longer_there_is_told_nothing() {
        let definition = looks();
        let (asking, n) = pending(&definition);
        let context = Context {
            now_ms: 1,
            instance: "i",
            ids: &crate::run::Names,
            limited: false,
        };
        let stop = Input::Manual(Manual::Stop("Moved".to_owned()));
        let ended = step(&definition, &asking, stop, &context).unwrap().state;
        for holds in [true, false] {
            let told = step(&definition, &ended, Input::Seen { n, holds }, &context).unwrap();
            assert!(!told.changed && told.state == ended && told.effects.is_empty());
        }
        // In a journey that goes on, of places that nobody is at.
        let mut run = Run::start_with(looks(), true);
        for n in [1, 2, 9] {
            assert!(!run.input(Input::Seen { n, holds: false }), "{n}");
        }
    }

    #[test]
    fn endings_have_names_of_their_own() {
        let ends = |id: &str| {
            format!(
                "  first:\n    title: First\n    check: {{has: Observation}}\n    yes: {id}\n    no: end\n  {id}: {{title: Last, exit: {{reason: Last}}}}\n"
            )
        };
        let goal = |id: &str, then: &str| {
            format!(
                "  first: {{title: Pause, wait: {{for: 1d}}, next: end}}\n  {id}:\n    title: Goal\n    goal: {{event: Observation, where: status = 'final', journey: {then}}}\n"
            )
        };
        for (steps, found) in [
            (ends("last"), None),
            (ends("completed"), Some("J024")),
            (ends("started_in_error"), Some("J024")),
            // An exit of the file.
            (ends("death"), Some("J024")),
            (goal("well", "ends"), None),
            (goal("time_over", "ends"), Some("J024")),
            (goal("stopped", "goes_on"), None),
        ] {
            let findings = journey::check(&source("kinds", &steps));
            let codes = findings.iter().map(|finding| finding.code.as_str());
            assert_eq!(
                codes.collect::<Vec<_>>(),
                Vec::from_iter(found),
                "{steps}: {findings:?}"
            );
        }
    }

    #[test]
    fn nothing_waits_for_what_journeys_do_not_look_at() {
        for (event, found) in [("Observation", None), ("Claim", Some("J004"))] {
            for steps in [
                format!(
                    "  first:\n    title: Wait\n    wait: {{event: {event}, where: id.exists(), at_most: 3d}}\n    next: end\n    not_come: end\n"
                ),
                format!(
                    "  first: {{title: Pause, wait: {{for: 1d}}, next: end}}\n  paid:\n    title: Goal\n    goal: {{event: {event}, where: id.exists(), journey: ends}}\n"
                ),
            ] {
                let findings = journey::check(&source("kinds", &steps));
                let codes = findings.iter().filter(|finding| finding.error);
                let codes: Vec<&str> = codes.map(|finding| finding.code.as_str()).collect();
                assert_eq!(codes, Vec::from_iter(found), "{steps}: {findings:?}");
            }
        }
    }
}
