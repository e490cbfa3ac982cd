//! What holds whatever happens.

use crate::run::{DAY, DISCHARGE, HOUR, Names, Run};
use journey::{Context, Fact, Input, Outcome, step, timers};
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;

/// What a patient, staff and the world may do, with made-up and repeated ids among them.
#[derive(Debug, Clone)]
enum Act {
    Pass(u64),
    Answer {
        token: u32,
        breathless: bool,
    },
    Task {
        token: u32,
        status: &'static str,
        outcome: Option<&'static str>,
    },
    Visit {
        token: u32,
        status: &'static str,
    },
    Weight {
        id: u8,
        hours: u64,
        kg: f64,
    },
    Receipt {
        token: u32,
        slot: &'static str,
        index: u8,
        outcome: Outcome,
    },
    Discharge(i64),
    Exit(usize),
    Consent(bool),
    Repeat,
}

fn act() -> impl Strategy<Value = Act> {
    let status = prop::sample::select(vec!["completed", "cancelled", "in-progress", "rejected"]);
    let outcome = prop::sample::select(vec![
        None,
        Some("well"),
        Some("worse"),
        Some("not_reached"),
        Some("advised"),
    ]);
    let visit = prop::sample::select(vec![
        "booked",
        "cancelled",
        "fulfilled",
        "noshow",
        "proposed",
    ]);
    let slot = prop::sample::select(vec!["message", "invitation", "reminder"]);
    let receipt = prop::sample::select(vec![
        Outcome::Delivered,
        Outcome::NotDone("no-address".into()),
        Outcome::NotDone("consent".into()),
        Outcome::UnderWay,
    ]);
    prop_oneof![
        8 => (0..96u64).prop_map(|hours| Act::Pass(hours * HOUR)),
        3 => (1..12u32, any::<bool>()).prop_map(|(token, breathless)| Act::Answer { token, breathless }),
        3 => (1..14u32, status, outcome).prop_map(|(token, status, outcome)| Act::Task { token, status, outcome }),
        2 => (3..6u32, visit).prop_map(|(token, status)| Act::Visit { token, status }),
        5 => (0..30u8, 0..900u64, 75.0..95.0f64).prop_map(|(id, hours, kg)| Act::Weight { id, hours, kg }),
        3 => (1..10u32, slot, 0..3u8, receipt).prop_map(|(token, slot, index, outcome)| Act::Receipt { token, slot, index, outcome }),
        1 => (-3..4i64).prop_map(Act::Discharge),
        1 => (0..2usize).prop_map(Act::Exit),
        1 => prop::bool::weighted(0.8).prop_map(Act::Consent),
        3 => Just(Act::Repeat),
    ]
}

impl Run {
    fn act(&mut self, act: &Act) {
        match act.clone() {
            Act::Pass(by) => {
                let since = self.now - DISCHARGE + by;
                self.until(since);
            }
            Act::Answer { token, breathless } => {
                self.answer(
                    &format!("i/{token}/task"),
                    json!({"breathless": breathless}),
                );
            }
            Act::Task {
                token,
                status,
                outcome,
            } => {
                self.task(&format!("i/{token}/task"), status, outcome);
            }
            Act::Visit { token, status } => {
                self.visit(&format!("i/{token}/visit"), status);
            }
            Act::Weight { id, hours, kg } => {
                let hours = hours.min((self.now - DISCHARGE) / HOUR);
                self.weight(&format!("o{id}"), hours, kg);
            }
            Act::Receipt {
                token,
                slot,
                index,
                outcome,
            } => {
                self.event(
                    "Communication/c",
                    Fact::Message {
                        id: format!("i/{token}/{slot}/{index}"),
                        outcome,
                    },
                    vec![],
                );
            }
            Act::Discharge(days) => {
                let at = DISCHARGE.saturating_add_signed(days * DAY as i64);
                self.event(
                    "Encounter/e1",
                    Fact::Anchors(BTreeMap::from([("discharge".to_owned(), at)])),
                    vec![],
                );
            }
            Act::Exit(condition) => {
                self.event(
                    ["Encounter/e2", "Patient/p"][condition],
                    Fact::Other,
                    vec![condition],
                );
            }
            Act::Consent(permitted) => {
                self.event(
                    "Consent/c",
                    Fact::Consent {
                        permitted,
                        next_ms: None,
                    },
                    vec![],
                );
            }
            Act::Repeat => {
                let Some(Input::Event(event)) =
                    self.inputs.iter().rev().find_map(|(_, input)| {
                        matches!(input, Input::Event(_)).then(|| input.clone())
                    })
                else {
                    return;
                };
                // The same event of the feed again.
                assert!(
                    !self.input(Input::Event(event.clone())),
                    "a repeat must change nothing: {event:?}"
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nobody_is_ever_stuck(acts in prop::collection::vec(act(), 0..60), email in prop::sample::select(vec![None, Some(Outcome::Delivered), Some(Outcome::NotDone("permanent-failure".into()))])) {
        let mut run = Run::new(email);
        for act in &acts {
            run.act(act);
            // Whoever is under way is waiting for something that has an end.
            prop_assert_eq!(run.state.running(), !timers(&run.definition, &run.state).is_empty());
            prop_assert_eq!(run.state.running(), !run.state.at().is_empty());
        }
        run.until(46 * DAY);
        prop_assert!(!run.state.running(), "{:?}", run.state);
        // The same inputs again lead to the same state: nothing depends on anything else.
        let mut state = Run::new(None).state;
        for (now_ms, input) in &run.inputs {
            state = step(&run.definition, &state, input.clone(), &Context { now_ms: *now_ms, instance: "i", ids: &Names, limited: false }).unwrap().state;
        }
        prop_assert_eq!(state, run.state);
    }

    #[test]
    fn the_same_fact_again_changes_nothing(acts in prop::collection::vec(act(), 1..40)) {
        let mut run = Run::new(None);
        for act in &acts {
            if matches!(act, Act::Pass(_) | Act::Repeat) {
                run.act(act);
                continue;
            }
            run.act(act);
            let before = run.state.clone();
            // Written again without a change: a new event that says the same.
            run.act(act);
            prop_assert_eq!(&run.state, &before, "{:?}", act);
        }
    }

    #[test]
    fn measurements_fire_whatever_their_order(first in 75.0..80.0f64, rise in 2.1..6.0f64, hours in 1..71u64, swap in any::<bool>()) {
        let mut run = Run::delivered();
        run.until(4 * DAY);
        let mut readings = vec![("a", 20u64, first), ("b", 20 + hours, first + rise)];
        if swap {
            readings.reverse();
        }
        for (id, at, kg) in readings {
            run.weight(id, at, kg);
        }
        prop_assert_eq!(run.log.iter().filter(|line| line.contains("weight_task")).count(), 1);
    }
}

fn by_hand() -> impl Strategy<Value = journey::Act> {
    use journey::Act as Hand;
    let step = prop::sample::select(vec![
        "welcome",
        "follow_up",
        "day_two",
        "symptoms",
        "call",
        "visit",
        "survey",
        "reached",
    ]);
    let n = 1..14u32;
    prop_oneof![
        4 => Just(Hand::Pause),
        3 => Just(Hand::Resume),
        2 => (n.clone(), 0..3usize).prop_map(|(n, way)| Hand::Skip { n, way }),
        1 => n.clone().prop_map(|n| Hand::Retry { n }),
        2 => (prop::option::of(n), step).prop_map(|(from, to)| Hand::Jump { from, to: to.to_owned() }),
        1 => Just(Hand::Undo),
    ]
}

fn is_held(run: &Run) -> bool {
    let stored: serde_json::Value = serde_json::from_slice(&run.state.to_json()).unwrap();
    stored.get("d").is_some()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_people_do_by_hand_nobody_is_stuck(
        acts in prop::collection::vec(prop_oneof![3 => act().prop_map(Ok), 1 => by_hand().prop_map(Err)], 0..60),
        email in prop::sample::select(vec![None, Some(Outcome::Delivered), Some(Outcome::NotDone("permanent-failure".into()))]),
    ) {
        let mut run = Run::new(email);
        for act in &acts {
            let (held, logged) = (is_held(&run), run.log.len());
            match act {
                Ok(act) => run.act(act),
                // What can't be done is refused, and nothing has happened then.
                Err(act) => { let _ = run.hand(act.clone()); }
            }
            if held && is_held(&run) {
                let begins = |line: &&String| ["message", "invitation", "reminder", "form", "task", "propose", "hand", "look"].contains(&line.split(' ').nth(1).unwrap());
                prop_assert_eq!(run.log[logged..].iter().find(begins), None);
                prop_assert!(timers(&run.definition, &run.state).is_empty());
            }
        }
        let _ = run.hand(journey::Act::Resume);
        prop_assert!(!is_held(&run));
        run.until(46 * DAY);
        prop_assert!(!run.state.running(), "{:?}", run.state);
        // The same inputs again lead to the same state.
        let mut state = Run::new(None).state;
        for (now_ms, input) in &run.inputs {
            state = step(&run.definition, &state, input.clone(), &Context { now_ms: *now_ms, instance: "i", ids: &Names, limited: false }).unwrap().state;
        }
        prop_assert_eq!(state, run.state);
    }
}

/// Of a journey that is held no time is up. What says nothing new doesn't find out that it would be, either.
#[test]
fn what_is_told_again_while_it_is_held_changes_nothing() {
    let mut run = Run::delivered();
    run.until(10 * DAY);
    run.hand(journey::Act::Pause).unwrap();
    run.until(14 * DAY);
    run.act(&Act::Weight {
        id: 0,
        hours: 12 * 24,
        kg: 75.0,
    });
    // In three days without a weight it is silent, but nobody is asked while it is held.
    run.until(15 * DAY + HOUR);
    run.act(&Act::Repeat);
}
