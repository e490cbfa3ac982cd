//! What is wrong with a wait.

use super::legs::{Alternative, Leg, Trigger};
use super::{PastDue, Wait};
use crate::check::Check;
use crate::decode::build::length;
use crate::definition::Step;
use crate::time::say_duration;
use crate::yaml::{Node, Place};
use fhir::nearest;

impl Wait {
    /// Members that go together, or don't.
    pub(super) fn check_members(&self, check: &mut Check<'_, '_>, step: &Step) {
        let body = check.node(step, &["wait"]);
        let has = |name: &str| body.is_some_and(|body| body.get(name).is_some());
        let (first_of, at_most, path) = (has("first_of"), has("at_most"), has("where"));
        let (event, all_of) = (has("event"), has("all_of"));
        let next = check.node(step, &["next"]).is_some();
        let not_come = check.node(step, &["not_come"]).is_some();
        let by_time = self.alternatives.iter().any(Alternative::is_time);
        let id = &step.id;
        let rules = [
            (
                first_of && next,
                "J011",
                format!(
                    "`{id}` has `next` beside `first_of`; each alternative has its own `next`, remove this one"
                ),
            ),
            (
                !first_of && !next,
                "J011",
                format!("`{id}` needs `next`: where to go after the wait"),
            ),
            (
                !first_of && !by_time,
                "J012",
                format!(
                    "`{id}` waits for {} that may never come; add `at_most` and `not_come`",
                    if event { "an event" } else { "what is there" }
                ),
            ),
            (
                at_most && !(event || all_of || has("answer") || has("segment")),
                "J004",
                format!(
                    "`{id}` has `at_most`, which goes with `event`, `answer`, `segment` and `all_of` only"
                ),
            ),
            (
                path && !event,
                "J004",
                format!("`{id}` has `where`, which goes with `event` only"),
            ),
            (
                at_most && !not_come,
                "J013",
                format!(
                    "`{id}` has no `not_come`: say what happens when the event hasn't come in time"
                ),
            ),
            (
                not_come && !at_most,
                "J012",
                format!("`{id}` has `not_come` but no `at_most`, so it is never gone"),
            ),
            (
                first_of && !by_time,
                "J012",
                format!(
                    "`{id}` waits for events only, none of which may ever come; add an alternative with `for` or `until`"
                ),
            ),
        ];
        for (wrong, code, message) in rules {
            if wrong {
                check.findings.error(code, step.place, message);
            }
        }
    }

    /// What is said of a moment that is past, against what is waited for and where it leads.
    pub(super) fn check_past(&self, check: &mut Check<'_, '_>, step: &Step) {
        let place = check.at(step, &["wait", "past_due"]);
        let goes = matches!(self.past_due, Some(PastDue::Skip | PastDue::Escalate));
        let id = &step.id;
        let leads_to_work = self.past.as_ref().is_some_and(|past| {
            let mut steps = past.steps.iter();
            steps.any(|step| check.definition.steps[*step].kind.is_work())
        });
        let rules = [
            (
                self.past_due.is_some() && self.until().is_none(),
                "J004",
                format!("`{id}` has `past_due`, which goes with `until` only"),
            ),
            (
                goes && self.past.is_none(),
                "J013",
                format!("`{id}` has no `past`: say where to go when the moment is past"),
            ),
            (
                !goes && self.past.is_some(),
                "J012",
                format!(
                    "`{id}` has `past` but no `past_due: skip` or `escalate`, so it is never gone"
                ),
            ),
            (
                self.past_due == Some(PastDue::Escalate) && self.past.is_some() && !leads_to_work,
                "J044",
                format!("`{id}` escalates to nobody: let `past` lead to a task for staff"),
            ),
        ];
        for (wrong, code, message) in rules {
            if wrong {
                check.findings.error(code, place, message);
            }
        }
    }

    /// Steps whose answers are waited for: they have to be there, and to ask.
    pub(super) fn check_answers(&self, check: &mut Check<'_, '_>) {
        for leg in self.legs() {
            let Trigger::Answer(asked) = &leg.trigger else {
                continue;
            };
            let definition = check.definition;
            let asks = |step: &&Step| step.kind.is_answered();
            let known = definition.steps.iter().filter(asks);
            match definition.step(asked) {
                Some(step) if step.kind.is_answered() => {}
                Some(_) => {
                    let words = format!("`{asked}` asks nothing, so it is never answered");
                    check.findings.error("J041", leg.place, words);
                }
                None => {
                    let near = nearest(asked, known.map(|step| step.id.as_str()))
                        .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
                    let words = format!("there is no step `{asked}`{near}");
                    check.findings.error("J006", leg.place, words);
                }
            }
        }
    }

    /// Waits for all of several that can't come to anything, or are none.
    pub(super) fn check_all(&self, check: &mut Check<'_, '_>, step: &Step) {
        let body = check.node(step, &["wait"]);
        let at_most_ms = body.and_then(|body| length(body, "at_most"));
        let lists = body.into_iter().flat_map(|body| {
            let inner = body.get("first_of").map_or(&[][..], Node::items);
            let all = inner.iter().chain([body]);
            let nested = body.get("all_of").map_or(&[][..], Node::items);
            all.filter_map(|node| Some(("all_of", node.get("all_of")?)))
                .chain(
                    nested
                        .iter()
                        .filter_map(|leg| Some(("first_of", leg.get("first_of")?))),
                )
        });
        let short: Vec<(&str, Place)> = lists
            .filter(|(_, list)| list.items().len() < 2)
            .map(|(name, list)| (name, list.place))
            .collect();
        for (name, place) in short {
            let words = format!("`{name}` names one thing only; wait for it by itself");
            check.findings.error("J041", place, words);
        }
        let (Some(at_most_ms), Some(all)) = (at_most_ms, self.alternatives.first()) else {
            return;
        };
        for first in &all.all {
            let longest = |leg: &Leg| matches!(leg.trigger, Trigger::For(length_ms) if length_ms >= at_most_ms);
            if first.iter().all(longest) {
                let place = first.first().map_or(step.place, |leg| leg.place);
                let words = format!(
                    "this comes when the wait has been given up after {}, so `next` is never gone",
                    say_duration(at_most_ms)
                );
                check.findings.error("J041", place, words);
            }
        }
    }
}
