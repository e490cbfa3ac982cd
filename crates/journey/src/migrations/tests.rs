//! Whatever the journeys and wherever the patient: what is foreseen of a move is what then happens.

use super::*;
use crate::ahead::PlainIds;
use crate::engine::{Decision, Effect, Outcome as Delivery, Start};
use crate::state::Which;
use proptest::prelude::*;
use std::fmt::Write as _;

const HOUR: u64 = 3_600_000;
/// 2026-11-02T14:00:00Z.
const BEGIN: u64 = 1_793_628_000_000;

/// A step of a chain: kind, and a length in hours.
type Link = (u8, u64);

/// A journey of these steps one after the other, by names that stay with them.
fn journey(links: &[(String, Link)], version: u32) -> Arc<Definition> {
    let mut source = "name: chain
title: A chain
owner: Team
purpose: TREAT
at_most: 900d
entry:
  event: Encounter
  where: status = 'finished'
  anchors: {discharge: period.end}
  within: 3d
  per: event
exits:
  death: {title: Died, event: Patient, where: deceased.exists()}
  consent: {title: Consent withdrawn, consent: withdrawn}
"
    .to_owned();
    let _ = writeln!(source, "start: {}\nsteps:", links[0].0);
    for (at, (id, (kind, hours))) in links.iter().enumerate() {
        let next = links.get(at + 1).map_or("end", |(id, _)| id.as_str());
        let _ = match kind % 5 {
            0 => writeln!(
                source,
                "  {id}: {{title: W, wait: {{for: {hours}h}}, next: {next}}}"
            ),
            1 => writeln!(
                source,
                "  {id}: {{title: S, send: {{title: S, words: 'After {hours}', channels: [portal]}}, next: {next}, on_failure: {next}}}"
            ),
            2 => writeln!(
                source,
                "  {id}: {{title: A, ask: {{title: A, words: Please., questions: [{{id: well, text: Well?, type: yes-no}}], remind_after: {hours}h, give_up_after: {}h, channels: [portal]}}, answered: {next}, no_answer: {next}}}",
                2 * hours
            ),
            3 => writeln!(
                source,
                "  {id}: {{title: T, task: {{title: T, reason: R., role: coordinator, due: {hours}h}}, next: {next}, overdue: {next}}}"
            ),
            _ => writeln!(
                source,
                "  {id}: {{title: B, book: {{title: B, time: discharge + 40d at 10:00, minutes: 30, book_by: 'discharge + {}d at 10:00'}}, next: {next}, not_booked: {next}}}",
                1 + hours / 8
            ),
        };
    }
    Definition::compile(&source, version)
        .unwrap_or_else(|findings| panic!("{findings:?}\n{source}"))
}

/// What happened, by kind, step and time.
type Log = Vec<(&'static str, String, u64)>;

/// Does what a decision asks for, as production does it: portal messages are delivered by being written.
fn done(definition: &Definition, decision: Decision, now_ms: u64, log: &mut Log) -> State {
    let mut state = decision.state;
    for effect in decision.effects {
        let (what, step) = match effect {
            Effect::Send {
                step,
                which,
                communication,
                ..
            } => {
                match which {
                    Which::Message | Which::Booked { .. } | Which::CalledOff { .. } => {
                        log.push(("message", step, now_ms));
                    }
                    Which::Reminder | Which::Ahead { .. } | Which::Again { .. } => {
                        log.push(("reminder", step, now_ms));
                    }
                    // It comes with its form.
                    Which::Invitation => {}
                }
                let outcome = Delivery::Delivered;
                let receipt = Input::Receipt {
                    communication,
                    outcome,
                };
                state = step_on(definition, &state, receipt, now_ms, log);
                continue;
            }
            Effect::OpenForm { step, .. } => ("form", step),
            Effect::OpenTask { step, .. } => ("task", step),
            Effect::ProposeVisit { step, .. } => ("visit", step),
            _ => continue,
        };
        log.push((what, step, now_ms));
    }
    state
}

fn context(now_ms: u64) -> Context<'static> {
    Context {
        now_ms,
        instance: "i",
        ids: &PlainIds,
        limited: false,
    }
}

fn step_on(
    definition: &Definition,
    state: &State,
    input: Input,
    now_ms: u64,
    log: &mut Log,
) -> State {
    let decision = engine::step(definition, state, input, &context(now_ms)).unwrap();
    done(definition, decision, now_ms, log)
}

/// Lets time pass.
fn until(
    definition: &Definition,
    mut state: State,
    now_ms: &mut u64,
    end_ms: u64,
    log: &mut Log,
) -> State {
    while let Some(due_ms) = engine::next_timer_ms(definition, &state).filter(|due| *due <= end_ms)
    {
        *now_ms = due_ms.max(*now_ms);
        state = step_on(definition, &state, Input::Timer { read: 0 }, *now_ms, log);
    }
    *now_ms = end_ms.max(*now_ms);
    state
}

fn planned(one: &[PlannedView]) -> Log {
    let items = one.iter().filter_map(|item| {
        let what = match item.what.split_once(':')?.0 {
            "Message" => "message",
            "Form" => "form",
            "Reminder if there is no answer" => "reminder",
            "Visit proposed" => "visit",
            "Task for a coordinator" => "task",
            _ => return None,
        };
        Some((what, item.step.clone(), item.at_ms))
    });
    let mut items: Log = items.collect();
    items.sort();
    items
}

/// What becomes of a step in the other version.
#[derive(Debug, Clone)]
enum Fate {
    Same,
    Length(u64),
    Kind(u8),
    Renamed,
    Gone,
    Before(Link),
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        4 => Just(Fate::Same),
        3 => (2..60u64).prop_map(Fate::Length),
        1 => (0..5u8).prop_map(Fate::Kind),
        1 => Just(Fate::Renamed),
        1 => Just(Fate::Gone),
        1 => ((0..5u8), (2..60u64)).prop_map(Fate::Before),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_foreseen_of_a_move_is_what_then_happens(
        links in prop::collection::vec((((0..5u8), (2..60u64)), fate()), 2..8),
        (at_hours, held) in (0..260u64, prop::bool::weighted(0.1)),
    ) {
        let named: Vec<(String, Link)> = links.iter().enumerate()
            .map(|(at, (link, _))| (format!("s{at}"), *link)).collect();
        let from = journey(&named, 1);
        let (mut after, mut map) = (Vec::new(), Map::new());
        for ((id, link), (_, fate)) in named.iter().zip(&links) {
            match fate {
                Fate::Same => after.push((id.clone(), *link)),
                Fate::Length(hours) => after.push((id.clone(), (link.0, *hours))),
                Fate::Kind(kind) => after.push((id.clone(), (*kind, link.1))),
                Fate::Renamed => {
                    after.push((format!("{id}r"), *link));
                    map.insert(id.clone(), Goes::Step(format!("{id}r")));
                }
                Fate::Gone => {}
                Fate::Before(other) => {
                    after.push((format!("{id}n"), *other));
                    after.push((id.clone(), *link));
                }
            }
        }
        prop_assume!(!after.is_empty());
        let to = journey(&after, 2);
        let start = Start {
            patient: "p".to_owned(),
            key: "e".to_owned(),
            cause: "Encounter/e".to_owned(),
            number: 1,
            anchors: BTreeMap::from([("discharge".to_owned(), BEGIN)]),
            ..Start::default()
        };
        let (mut now_ms, mut log) = (BEGIN, Log::new());
        let begun = engine::start(&from, start, &context(now_ms)).unwrap();
        let state = done(&from, begun, now_ms, &mut log);
        let mut state = until(&from, state, &mut now_ms, BEGIN + at_hours * HOUR, &mut log);
        prop_assume!(state.running());
        let hand = |act| Hand { act, reason: "x".to_owned(), by: "y".to_owned(), batch: None };
        if held {
            let pause = Input::Manual(Manual::Hand(hand(Act::Pause)));
            state = step_on(&from, &state, pause, now_ms, &mut log);
        }
        let moved = engine::migrate(&state, &from, &to, &map, &[], &hand(Act::Resume), &context(now_ms)).unwrap();
        let at: Vec<String> = state.at().into_iter().map(str::to_owned).collect();
        let decision = match moved {
            Migration::Moves(decision) => *decision,
            Migration::Cannot(why) => {
                // Nobody is left without a step that is there, and nobody else is refused.
                prop_assert!(at.iter().any(|step| !map.contains_key(step) && to.step(step).is_none()), "{}", why);
                return Ok(());
            }
            other => panic!("{other:?}"),
        };
        prop_assert!(at.iter().all(|step| map.contains_key(step) || to.step(step).is_some()));
        let (next, mut foreseen) = words::at_once(&to, &state, decision.clone(), &context(now_ms));
        foreseen.extend(words::planned_up_to(&to, &next, "i", &PlainIds, now_ms, COMPARED_MAX));
        let mut then = Log::new();
        let end = done(&to, decision.clone(), now_ms, &mut then);
        let end = until(&to, end, &mut now_ms, BEGIN + 1000 * 24 * HOUR, &mut then);
        then.sort();
        prop_assert_eq!(planned(&foreseen), then);
        prop_assert!(held || !end.running());
        // What is stored is all of it, and it can be taken back to where it was where nothing was sent.
        prop_assert_eq!(&State::from_json(&decision.state.to_json()).unwrap(), &decision.state);
        let kept = decision.effects.is_empty() && decision.state.running();
        if kept {
            let back = engine::take_back(&decision.state, &to, &from, &hand(Act::Undo), &context(now_ms)).unwrap();
            prop_assert_eq!(back.state.at(), state.at());
            prop_assert_eq!(engine::timers(&from, &back.state), engine::timers(&from, &state));
        }
    }
}
