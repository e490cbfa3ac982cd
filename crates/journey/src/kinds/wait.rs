//! A pause: for a time, until a moment, until an event, or until the first of several.

use super::{StepKind, Waiting};
use crate::check::Check;
use crate::decode::build::{Parts, length, line, path, resource};
use crate::definition::{Condition, Definition, Step, Target, Way};
use crate::engine::{Engine, EngineError, moment};
use crate::spec::{Focus, Kind, Record, Shape, may, must};
use crate::state::{Stand, State, Token};
use crate::time::{Moment, say_day, say_duration, say_time};
use crate::words::thing;
use crate::yaml::{Node, Place};
use std::sync::Arc;

static ALTERNATIVE: Record = Record {
    name: "alternative",
    doc: "One of several things that are waited for.",
    one_of: &["for", "until", "event"],
    fields: &[
        may(
            "for",
            Shape::Duration,
            "A length of time since the step was entered.",
        ),
        may(
            "until",
            Shape::Moment,
            "A point in time that hangs on an anchor. When it has passed already, the journey goes on at once.",
        ),
        may(
            "event",
            Shape::Resource,
            "An event of the patient's record: a resource of this type was written.",
        ),
        may(
            "where",
            Shape::Path(Focus::Resource),
            "With `event`: what must hold of the resource.",
        ),
        must("next", Shape::Target, "Where to go when this comes first."),
    ],
};

static WAIT: Record = Record {
    name: "wait",
    doc: "A pause: for a time, until a moment, until an event, or until the first of several.",
    one_of: &["for", "until", "event", "first_of"],
    fields: &[
        may(
            "for",
            Shape::Duration,
            "A length of time since the step was entered.",
        ),
        may(
            "until",
            Shape::Moment,
            "A point in time that hangs on an anchor. When it has passed already, the journey goes on at once.",
        ),
        may(
            "event",
            Shape::Resource,
            "An event of the patient's record: a resource of this type was written.",
        ),
        may(
            "where",
            Shape::Path(Focus::Resource),
            "With `event`: what must hold of the resource.",
        ),
        may(
            "at_most",
            Shape::Duration,
            "With `event`: how long to wait; then `not_come` is gone.",
        ),
        may(
            "first_of",
            Shape::List(&Shape::Record(&ALTERNATIVE)),
            "Several things, each with its own `next`; the first that comes decides.",
        ),
    ],
};

pub(super) static KIND: Kind = Kind {
    name: "wait",
    doc: WAIT.doc,
    body: Shape::Record(&WAIT),
    ways: &[
        may(
            "next",
            Shape::Target,
            "Where to go then (not with `first_of`, where each alternative has its own).",
        ),
        may(
            "not_come",
            Shape::Target,
            "Where to go when `at_most` has passed without the event.",
        ),
    ],
    example: "day_two:\n  title: Until the second day\n  wait:\n    until: discharge + 2d at 09:00\n  next: symptoms\n",
    decode,
};

#[derive(Debug)]
struct Wait {
    alternatives: Vec<Alternative>,
}

#[derive(Debug)]
struct Alternative {
    trigger: Trigger,
    next: Target,
    label: String,
}

#[derive(Debug)]
enum Trigger {
    For(u64),
    Until(Moment),
    /// Index into [`Definition::conditions`].
    Event(usize),
}

fn decode(parts: &mut Parts<'_>) -> Option<Arc<dyn StepKind>> {
    let mut alternatives = Vec::new();
    if let Some(list) = parts.body.get("first_of") {
        for item in list.items() {
            let next = parts.target(item.get("next")?);
            alternatives.push(alternative(parts, item, next)?);
        }
    } else {
        let next = parts.way("next").unwrap_or_default();
        alternatives.push(alternative(parts, parts.body, next)?);
        if let Some(at_most_ms) = length(parts.body, "at_most") {
            alternatives.push(Alternative {
                trigger: Trigger::For(at_most_ms),
                next: parts.way("not_come").unwrap_or_default(),
                label: format!("not come in {}", say_duration(at_most_ms)),
            });
        }
    }
    Some(Arc::new(Wait { alternatives }))
}

fn alternative(parts: &mut Parts<'_>, item: &Node, next: Target) -> Option<Alternative> {
    let (trigger, label) = if let Some(length_ms) = length(item, "for") {
        (
            Trigger::For(length_ms),
            format!("after {}", say_duration(length_ms)),
        )
    } else if let Some(text) = line(item, "until") {
        (Trigger::Until(Moment::parse(&text).ok()?), text)
    } else {
        let kind = resource(item, "event")?;
        parts.conditions.push(Condition {
            kind,
            path: item.get("where").and_then(path),
        });
        (
            Trigger::Event(parts.conditions.len() - 1),
            format!("{kind} came"),
        )
    };
    Some(Alternative {
        trigger,
        next,
        label,
    })
}

impl Wait {
    /// The alternative that time brings first, and when.
    fn end(
        &self,
        definition: &Definition,
        state: &State,
        token: &Token,
    ) -> Option<(&Alternative, u64)> {
        self.alternatives
            .iter()
            .filter_map(|alternative| match &alternative.trigger {
                Trigger::For(length_ms) => Some((alternative, token.since_ms + length_ms)),
                Trigger::Until(until) => Some((alternative, moment(definition, state, until))),
                Trigger::Event(_) => None,
            })
            .min_by_key(|(_, due_ms)| *due_ms)
    }

    /// Members that go together, or don't.
    fn check_members(&self, check: &mut Check<'_, '_>, step: &Step) {
        let body = check.node(step, &["wait"]);
        let has = |name: &str| body.is_some_and(|body| body.get(name).is_some());
        let (first_of, event, at_most, path) =
            (has("first_of"), has("event"), has("at_most"), has("where"));
        let next = check.node(step, &["next"]).is_some();
        let not_come = check.node(step, &["not_come"]).is_some();
        let events_only = self
            .alternatives
            .iter()
            .all(|alternative| matches!(alternative.trigger, Trigger::Event(_)));
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
                !first_of && event && !at_most,
                "J012",
                format!(
                    "`{id}` waits for an event that may never come; add `at_most` and `not_come`"
                ),
            ),
            (
                at_most && !event,
                "J004",
                format!("`{id}` has `at_most`, which goes with `event` only"),
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
                first_of && events_only,
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
}

impl StepKind for Wait {
    fn table(&self) -> &'static Kind {
        &KIND
    }
    fn ways(&self) -> Vec<Way<'_>> {
        self.alternatives
            .iter()
            .map(|alternative| Way {
                label: alternative.label.clone(),
                target: &alternative.next,
                at_once: matches!(alternative.trigger, Trigger::Until(_)),
            })
            .collect()
    }

    fn check(&self, check: &mut Check<'_, '_>, step: &Step) {
        self.check_members(check, step);
    }
    fn moments(&self, check: &Check<'_, '_>, step: &Step) -> Vec<(&Moment, Place)> {
        let list = check.node(step, &["wait", "first_of"]);
        let mut moments = Vec::new();
        for (index, alternative) in self.alternatives.iter().enumerate() {
            if let Trigger::Until(moment) = &alternative.trigger {
                let node = list.map_or_else(
                    || check.node(step, &["wait", "until"]),
                    |list| list.items().get(index).and_then(|item| item.get("until")),
                );
                moments.push((moment, node.map_or(step.place, |node| node.place)));
            }
        }
        moments
    }

    fn enter(&self, engine: &mut Engine<'_>, _: &Step, n: u32) {
        let Some(token) = engine.token(n) else {
            return;
        };
        if let Some((alternative, due_ms)) = self.end(engine.definition, &engine.state, token)
            && due_ms <= engine.context.now_ms
        {
            engine.leave(n, &alternative.label, &alternative.next);
        }
    }
    fn timers(
        &self,
        definition: &Definition,
        state: &State,
        token: &Token,
    ) -> Vec<(&'static str, u64)> {
        if token.stand != Stand::Waiting {
            return Vec::new();
        }
        self.end(definition, state, token)
            .map(|(_, due_ms)| ("until", due_ms))
            .into_iter()
            .collect()
    }
    fn due(
        &self,
        engine: &mut Engine<'_>,
        _: &Step,
        token: &Token,
        _: &str,
    ) -> Result<(), EngineError> {
        if token.stand != Stand::Waiting {
            return Err(EngineError::NoStep(token.step.clone()));
        }
        if let Some((alternative, _)) = self.end(engine.definition, &engine.state, token) {
            engine.leave(token.n, &alternative.label, &alternative.next);
        }
        Ok(())
    }
    fn awaited(&self, holds: &[usize]) -> Option<(&str, &Target)> {
        self.alternatives
            .iter()
            .find(|alternative| {
                matches!(alternative.trigger, Trigger::Event(condition) if holds.contains(&condition))
            })
            .map(|alternative| (alternative.label.as_str(), &alternative.next))
    }

    fn waiting(&self, definition: &Definition, state: &State, token: &Token) -> Option<Waiting> {
        if token.stand != Stand::Waiting {
            return None;
        }
        let zone = &definition.zone;
        let until_ms = self.end(definition, state, token).map(|(_, due_ms)| due_ms);
        let events: Vec<String> = self
            .alternatives
            .iter()
            .filter_map(|alternative| match &alternative.trigger {
                Trigger::Event(condition) => definition
                    .conditions
                    .get(*condition)
                    .map(|condition| thing(condition.kind)),
                _ => None,
            })
            .collect();
        let what = match (events.is_empty(), until_ms) {
            (true, Some(until)) => format!(
                "Waits until {}, {}",
                say_day(until, zone),
                say_time(until, zone)
            ),
            (false, Some(until)) => format!(
                "Waits for {}, until {} at the latest",
                events.join(" or "),
                say_day(until, zone)
            ),
            (_, None) => format!("Waits for {}", events.join(" or ")),
        };
        Some(Waiting {
            what,
            plain: String::new(),
            until_ms,
        })
    }
    fn entered(&self, title: &str) -> Option<String> {
        Some(format!("Waiting: {title}"))
    }
    fn left(&self, _: &str, _: &str) -> Option<String> {
        None
    }
}
