//! Kinds of steps, each in a small journey of its own.

use crate::run::{Run, facts};
use journey::{Definition, Outcome, Start};
use std::sync::Arc;

/// A journey of these steps, which start with `first`.
fn named(name: &str, steps: &str) -> Arc<Definition> {
    let source = format!(
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
    );
    Definition::compile(&source, 1).unwrap()
}

fn begin(definition: &Arc<Definition>, patient: &str) -> Run {
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
