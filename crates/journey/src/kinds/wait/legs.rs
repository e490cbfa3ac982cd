//! The things that are waited for: what has come of them, and when the rest will.

use crate::decode::build::{Parts, length, line, path, resource};
use crate::definition::{Condition, Definition, Target};
use crate::engine::moment;
use crate::segments::{Membership, membership};
use crate::state::{Stand, State, Token};
use crate::time::{Moment, say_day, say_duration, say_time};
use crate::words::thing;
use crate::yaml::{Node, Place};

/// A way on: all of these have to come, and of each the first is enough.
#[derive(Debug)]
pub(super) struct Alternative {
    pub(super) all: Vec<Vec<Leg>>,
    pub(super) next: Target,
    pub(super) label: String,
}

#[derive(Debug)]
pub(super) struct Leg {
    /// Its number in the step, by which the state remembers that it has come.
    pub(super) number: u16,
    pub(super) trigger: Trigger,
    pub(super) place: Place,
}

#[derive(Debug)]
pub(super) enum Trigger {
    For(u64),
    Until(Moment),
    /// Index into [`Definition::conditions`].
    Event(usize),
    /// The step that asks.
    Answer(String),
    Segment(Membership),
}

/// Reads the legs of a step one after the other.
pub(super) struct Legs<'a, 'b> {
    pub(super) parts: &'a mut Parts<'b>,
    pub(super) count: u16,
}

impl Legs<'_, '_> {
    pub(super) fn number(&mut self) -> u16 {
        let number = self.count;
        self.count = self.count.saturating_add(1);
        number
    }

    pub(super) fn alternative(&mut self, node: &Node, next: Target) -> Option<Alternative> {
        let groups = match node.get("all_of") {
            Some(list) => list.items(),
            None => std::slice::from_ref(node),
        };
        let (mut all, mut labels) = (Vec::new(), Vec::new());
        for group in groups {
            let items = match group.get("first_of") {
                Some(list) => list.items(),
                None => std::slice::from_ref(group),
            };
            let (mut first, mut words) = (Vec::new(), Vec::new());
            for item in items {
                let (leg, label) = self.leg(item)?;
                first.push(leg);
                words.push(label);
            }
            all.push(first);
            labels.push(words.join(" or "));
        }
        Some(Alternative {
            all,
            next,
            label: labels.join(" and "),
        })
    }

    fn leg(&mut self, item: &Node) -> Option<(Leg, String)> {
        let mut place = item.place;
        let (trigger, label) = if let Some(length_ms) = length(item, "for") {
            let label = format!("after {}", say_duration(length_ms));
            (Trigger::For(length_ms), label)
        } else if let Some(until) = item.get("until") {
            place = until.place;
            let text = until.text()?;
            (Trigger::Until(Moment::parse(text).ok()?), text.to_owned())
        } else if let Some(answer) = item.get("answer") {
            place = answer.place;
            let step = answer.text()?.to_owned();
            let label = format!("{step} answered");
            (Trigger::Answer(step), label)
        } else if let Some(asked) = item.get("segment") {
            place = asked.place;
            let membership = membership(asked, self.parts.segments);
            let name = line(asked, "entered").or_else(|| line(asked, "left"))?;
            let state = if membership.inside { "in" } else { "not in" };
            (Trigger::Segment(membership), format!("{state} {name}"))
        } else {
            let kind = resource(item, "event")?;
            self.parts.conditions.push(Condition {
                kind,
                path: item.get("where").and_then(path),
            });
            let condition = self.parts.conditions.len() - 1;
            (Trigger::Event(condition), format!("{kind} came"))
        };
        let number = self.number();
        let leg = Leg {
            number,
            trigger,
            place,
        };
        Some((leg, label))
    }
}

impl Trigger {
    /// Whether time alone brings it.
    pub(super) fn is_time(&self) -> bool {
        matches!(self, Self::For(_) | Self::Until(_))
    }
    /// Whether it may be there when the step is entered.
    pub(super) fn at_once(&self) -> bool {
        matches!(self, Self::Until(_) | Self::Answer(_) | Self::Segment(_))
    }
}

impl Leg {
    /// When it comes; what came already, at the beginning of time.
    pub(super) fn comes_ms(
        &self,
        definition: &Definition,
        state: &State,
        token: &Token,
    ) -> Option<u64> {
        match &self.trigger {
            Trigger::For(length_ms) => Some(token.since_ms + length_ms),
            Trigger::Until(until) => Some(moment(definition, state, until)),
            Trigger::Event(_) | Trigger::Answer(_) | Trigger::Segment(_) => {
                came(token).contains(&self.number).then_some(0)
            }
        }
    }
    /// What is waited for, in words.
    fn words(&self, definition: &Definition, state: &State, token: &Token) -> String {
        match &self.trigger {
            Trigger::Event(condition) => definition
                .conditions
                .get(*condition)
                .map(|condition| thing(condition.kind))
                .unwrap_or_default(),
            Trigger::Segment(membership) => membership.words(definition),
            Trigger::Answer(step) => {
                let asks = definition.step(step);
                let title = asks.map_or(step.as_str(), |step| step.title.as_str());
                format!("an answer to “{title}”")
            }
            Trigger::For(_) | Trigger::Until(_) => {
                let at_ms = self.comes_ms(definition, state, token).unwrap_or(0);
                let zone = &definition.zone;
                format!("{}, {}", say_day(at_ms, zone), say_time(at_ms, zone))
            }
        }
    }
}

/// The legs of a place that have come.
pub(super) fn came(token: &Token) -> &[u16] {
    match &token.stand {
        Stand::Gathering { came } => came,
        _ => &[],
    }
}

pub(super) fn waits(token: &Token) -> bool {
    matches!(token.stand, Stand::Waiting | Stand::Gathering { .. })
}

impl Alternative {
    pub(super) fn legs(&self) -> impl Iterator<Item = &Leg> {
        self.all.iter().flatten()
    }
    /// When all of it has come, as far as can be told.
    pub(super) fn comes_ms(
        &self,
        definition: &Definition,
        state: &State,
        token: &Token,
    ) -> Option<u64> {
        self.all
            .iter()
            .map(|first| {
                first
                    .iter()
                    .filter_map(|leg| leg.comes_ms(definition, state, token))
                    .min()
            })
            .try_fold(0, |last_ms, comes_ms| Some(comes_ms?.max(last_ms)))
    }
    /// Whether time alone brings all of it.
    pub(super) fn is_time(&self) -> bool {
        self.all
            .iter()
            .all(|first| first.iter().any(|leg| leg.trigger.is_time()))
    }
    /// What hasn't come of it, in words, if anything has to come that time alone doesn't bring.
    pub(super) fn missing(
        &self,
        definition: &Definition,
        state: &State,
        token: &Token,
    ) -> Option<String> {
        let missing = self
            .all
            .iter()
            .filter(|first| !first.iter().any(|leg| came(token).contains(&leg.number)));
        let missing: Vec<&Vec<Leg>> = missing.collect();
        if missing
            .iter()
            .all(|first| first.iter().all(|leg| leg.trigger.is_time()))
        {
            return None;
        }
        let words = missing.iter().map(|first| {
            let legs = first.iter();
            let words = legs.map(|leg| leg.words(definition, state, token));
            words.collect::<Vec<_>>().join(" or ")
        });
        Some(words.collect::<Vec<_>>().join(" and "))
    }
}

/// Whether the form of a step was answered and isn't open again.
pub(super) fn is_answered(state: &State, step: &str) -> bool {
    let open = |token: &Token| token.step == step && matches!(token.stand, Stand::Asking { .. });
    state.facts.contains_key(step) && !state.tokens.iter().any(open)
}
