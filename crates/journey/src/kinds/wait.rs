//! A pause: for a time, until a moment, an event or an answer, until the first of several, or until all of
//! several have come.

mod check;
mod legs;

use super::{Carried, StepKind, Waiting, same_of, way};
use crate::check::Check;
use crate::decode::build::{Parts, length, line};
use crate::definition::{Definition, Step, Target, Way};
use crate::engine::{Effect, Engine, EngineError, moment};
use crate::segments::Membership;
use crate::spec::{Field, Focus, Kind, Record, START_ANCHOR, Shape, may, must};
use crate::state::{Stand, State, Token};
use crate::time::{DAY_MS, Moment, say_day, say_duration, say_time};
use crate::yaml::{Node, Place};
use legs::{Alternative, Leg, Legs, Trigger, came, is_answered, waits};
use std::sync::Arc;

const FOR: Field = may(
    "for",
    Shape::Duration,
    "A length of time since the step was entered.",
);
const UNTIL: Field = may(
    "until",
    Shape::Moment,
    "A point in time that hangs on an anchor. Among several things, one that is past has come.",
);
const EVENT: Field = may(
    "event",
    Shape::Resource,
    "An event of the patient's record: a resource of this type was written.",
);
const WHERE: Field = may(
    "where",
    Shape::Path(Focus::Resource),
    "With `event`: what must hold of the resource.",
);
const ANSWER: Field = may(
    "answer",
    Shape::Line,
    "An answer to the form of this `ask` step. One that came before the wait counts, unless the form is open again.",
);
const SEGMENT: Field = may(
    "segment",
    Shape::Record(&crate::spec::MEMBERSHIP),
    "The patient is in a segment, or is not; what is so already when the step is entered has come.",
);

static ONE: Record = Record {
    name: "one thing",
    doc: "One thing that is waited for.",
    one_of: &["for", "until", "event", "answer", "segment"],
    fields: &[FOR, UNTIL, EVENT, WHERE, ANSWER, SEGMENT],
};

static LEG: Record = Record {
    name: "leg",
    doc: "One of several things that all have to come.",
    one_of: &["for", "until", "event", "answer", "segment", "first_of"],
    fields: &[
        FOR,
        UNTIL,
        EVENT,
        WHERE,
        ANSWER,
        SEGMENT,
        may(
            "first_of",
            Shape::List(&Shape::Record(&ONE)),
            "Several things; the first of them that comes is enough.",
        ),
    ],
};

static ALTERNATIVE: Record = Record {
    name: "alternative",
    doc: "One of several things that are waited for.",
    one_of: &["for", "until", "event", "answer", "segment", "all_of"],
    fields: &[
        FOR,
        UNTIL,
        EVENT,
        WHERE,
        ANSWER,
        SEGMENT,
        may(
            "all_of",
            Shape::List(&Shape::Record(&ONE)),
            "Several things that all have to come.",
        ),
        must("next", Shape::Target, "Where to go when this comes first."),
    ],
};

static WAIT: Record = Record {
    name: "wait",
    doc: "A pause: for a time, until a moment, until an event, an answer or a segment, until the first of several, or until all of several have come. What has come stays so, whatever comes between; a moment that moves is waited for again.",
    one_of: &[
        "for", "until", "event", "answer", "segment", "first_of", "all_of",
    ],
    fields: &[
        FOR,
        UNTIL,
        EVENT,
        WHERE,
        ANSWER,
        SEGMENT,
        may(
            "past_due",
            Shape::Choice(&[
                ("run", "The journey goes on by `next` at once."),
                (
                    "skip",
                    "It goes on by `past`, and leaves out what would have followed.",
                ),
                (
                    "escalate",
                    "It goes on by `past`, which leads to a task for staff.",
                ),
            ]),
            "With `until`: what happens when the moment is past already when the step is entered, or when a journey goes on that was held at that moment. Needed where that may be.",
        ),
        may(
            "at_most",
            Shape::Duration,
            "With `event`, `answer`, `segment` and `all_of`: how long to wait; then `not_come` is gone.",
        ),
        may(
            "first_of",
            Shape::List(&Shape::Record(&ALTERNATIVE)),
            "Several things, each with its own `next`; the first that comes decides.",
        ),
        may(
            "all_of",
            Shape::List(&Shape::Record(&LEG)),
            "Several things; the journey goes on when all of them have come.",
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
            "past",
            Shape::Target,
            "Where to go when the moment is past already, with `past_due: skip` and `past_due: escalate`.",
        ),
        may(
            "not_come",
            Shape::Target,
            "Where to go when `at_most` has passed and not all has come.",
        ),
    ],
    example: "day_two:\n  title: Until the second day\n  wait:\n    until: discharge + 2d at 09:00\n    past_due: run\n  next: symptoms\n",
    decode,
};

#[derive(Debug)]
struct Wait {
    alternatives: Vec<Alternative>,
    past_due: Option<PastDue>,
    past: Option<Target>,
}

/// What happens when a moment is past for who comes to wait for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PastDue {
    Run,
    Skip,
    Escalate,
}

/// How the label begins of the way that is gone where nothing has come.
const NOT_COME: &str = "not come in";

/// The label of the way that is gone then.
const PAST: &str = "past due";

fn decode(parts: &mut Parts<'_>) -> Option<Arc<dyn StepKind>> {
    let (body, next) = (parts.body, parts.way("next").unwrap_or_default());
    let not_come = parts.way("not_come").unwrap_or_default();
    let past = parts.way("past");
    let past_due = line(body, "past_due").map(|said| match said.as_str() {
        "skip" => PastDue::Skip,
        "escalate" => PastDue::Escalate,
        _ => PastDue::Run,
    });
    let mut legs = Legs { parts, count: 0 };
    let mut alternatives = Vec::new();
    if let Some(list) = body.get("first_of") {
        for item in list.items() {
            let next = legs.parts.target(item.get("next")?);
            alternatives.push(legs.alternative(item, next)?);
        }
    } else {
        alternatives.push(legs.alternative(body, next)?);
        if let Some(at_most_ms) = length(body, "at_most") {
            let number = legs.number();
            alternatives.push(Alternative {
                all: vec![vec![Leg {
                    number,
                    trigger: Trigger::For(at_most_ms),
                    place: body.place,
                }]],
                next: not_come,
                label: format!("{NOT_COME} {}", say_duration(at_most_ms)),
            });
        }
    }
    Some(Arc::new(Wait {
        alternatives,
        past_due,
        past,
    }))
}

impl Wait {
    fn legs(&self) -> impl Iterator<Item = &Leg> {
        self.alternatives.iter().flat_map(Alternative::legs)
    }

    /// The alternative that comes first, and when, if nothing else does.
    fn end(
        &self,
        definition: &Definition,
        state: &State,
        token: &Token,
    ) -> Option<(&Alternative, u64)> {
        self.alternatives
            .iter()
            .filter_map(|alternative| {
                Some((alternative, alternative.comes_ms(definition, state, token)?))
            })
            .min_by_key(|(_, due_ms)| *due_ms)
    }

    /// Notes what has come to a place. Whether anything has.
    fn take(&self, engine: &mut Engine<'_>, n: u32, has_come: impl Fn(&Trigger) -> bool) -> bool {
        let Some(token) = engine.token(n) else {
            return false;
        };
        let before = came(token);
        let legs = self.legs().filter(|leg| has_come(&leg.trigger));
        let news: Vec<u16> = legs
            .map(|leg| leg.number)
            .filter(|number| !before.contains(number))
            .collect();
        if news.is_empty() {
            return false;
        }
        let mut now = [before, &news].concat();
        now.sort_unstable();
        if let Some(stand) = engine.stand_mut(n) {
            *stand = Stand::Gathering { came: now };
        }
        // What was before it can't come back without losing it.
        engine.state.undo = None;
        true
    }

    /// Goes on if enough has come.
    fn go_on(&self, engine: &mut Engine<'_>, n: u32) {
        if let Some(token) = engine.token(n)
            && let Some((alternative, due_ms)) = self.end(engine.definition, &engine.state, token)
            && due_ms <= engine.context.now_ms
        {
            engine.leave(n, &alternative.label, &alternative.next);
        }
    }

    /// The moment that is waited for, if nothing else is.
    fn until(&self) -> Option<&Moment> {
        let [only] = self.alternatives.as_slice() else {
            return None;
        };
        match only.all.as_slice() {
            [first] => match first.as_slice() {
                [
                    Leg {
                        trigger: Trigger::Until(until),
                        ..
                    },
                ] => Some(until),
                _ => None,
            },
            _ => None,
        }
    }
}

impl StepKind for Wait {
    fn table(&self) -> &'static Kind {
        &KIND
    }
    fn ran_out(&self, label: &str) -> bool {
        label.starts_with(NOT_COME)
    }
    fn ways(&self) -> Vec<Way<'_>> {
        let past = self.past.as_ref();
        let past = past.map(|target| way(PAST, target, true));
        let ways = self.alternatives.iter().map(|alternative| Way {
            label: alternative.label.clone(),
            target: &alternative.next,
            at_once: alternative
                .all
                .iter()
                .all(|first| first.iter().any(|leg| leg.trigger.at_once())),
        });
        ways.chain(past).collect()
    }
    fn awaits(&self) -> Vec<usize> {
        self.legs()
            .filter_map(|leg| match leg.trigger {
                Trigger::Event(condition) => Some(condition),
                Trigger::Segment(membership) => Some(membership.hold()),
                _ => None,
            })
            .collect()
    }
    fn segments(&self) -> Vec<Membership> {
        self.legs()
            .filter_map(|leg| match leg.trigger {
                Trigger::Segment(membership) => Some(membership),
                _ => None,
            })
            .collect()
    }

    fn check(&self, check: &mut Check<'_, '_>, step: &Step) {
        self.check_members(check, step);
        self.check_answers(check);
        self.check_all(check, step);
        self.check_past(check, step);
    }
    fn leaves_within(&self, definition: &Definition, label: &str) -> Option<u64> {
        if label == PAST {
            return Some(0);
        }
        let entry = &definition.entry;
        let first = entry.anchors.first().map(|(name, _)| name);
        let times = self.alternatives.iter().filter_map(|alternative| {
            let [only] = alternative.all.as_slice() else {
                return None;
            };
            let legs = only.iter().filter_map(|leg| match &leg.trigger {
                Trigger::For(length_ms) => Some(*length_ms),
                Trigger::Until(until) => {
                    let after_ms = u64::try_from(until.offset_ms).unwrap_or(0) + DAY_MS;
                    let later_ms = if until.anchor == START_ANCHOR {
                        Some(0)
                    } else {
                        entry.before_ms().filter(|_| first == Some(&until.anchor))
                    };
                    Some(after_ms + later_ms?)
                }
                Trigger::Event(_) | Trigger::Answer(_) | Trigger::Segment(_) => None,
            });
            legs.min()
        });
        times.min()
    }
    fn arrives(&self, definition: &Definition, label: &str, here_ms: u64) -> u64 {
        let entry = &definition.entry;
        let first = entry.anchors.first().map(|(name, _)| name);
        let comes = |leg: &Leg| match &leg.trigger {
            Trigger::For(length_ms) => here_ms.saturating_add(*length_ms),
            Trigger::Until(until) => {
                // An anchor before the start, and a time of day, bring it nearer.
                let before_ms = if until.anchor == START_ANCHOR {
                    Some(0)
                } else {
                    entry.before_ms().filter(|_| first == Some(&until.anchor))
                };
                let day_ms = if until.at.is_some() { DAY_MS } else { 0 };
                let offset_ms = u64::try_from(until.offset_ms).unwrap_or(0);
                let comes_ms =
                    before_ms.map_or(0, |before_ms| offset_ms.saturating_sub(before_ms + day_ms));
                comes_ms.max(here_ms)
            }
            Trigger::Event(_) | Trigger::Answer(_) | Trigger::Segment(_) => here_ms,
        };
        let of_label = |alternative: &&Alternative| alternative.label == label;
        let Some(alternative) = self.alternatives.iter().find(of_label) else {
            return here_ms;
        };
        let all = alternative.all.iter();
        let all = all.filter_map(|first| first.iter().map(comes).min());
        all.max().unwrap_or(here_ms)
    }
    fn comes_to_late(&self) -> Option<&Moment> {
        self.until().filter(|_| self.past_due.is_none())
    }
    fn moments(&self, _: &Check<'_, '_>, _: &Step) -> Vec<(&Moment, Place)> {
        self.legs()
            .filter_map(|leg| match &leg.trigger {
                Trigger::Until(moment) => Some((moment, leg.place)),
                _ => None,
            })
            .collect()
    }

    fn enter(&self, engine: &mut Engine<'_>, _: &Step, n: u32) {
        if let (Some(until), Some(past)) = (self.until(), &self.past)
            && moment(engine.definition, &engine.state, until) < engine.context.now_ms
        {
            engine.leave(n, PAST, past);
            return;
        }
        let state = &engine.state;
        let answered: Vec<&str> = self
            .legs()
            .filter_map(|leg| match &leg.trigger {
                Trigger::Answer(step) if is_answered(state, step) => Some(step.as_str()),
                _ => None,
            })
            .collect();
        self.take(
            engine,
            n,
            |trigger| matches!(trigger, Trigger::Answer(step) if answered.contains(&step.as_str())),
        );
        if !self.segments().is_empty() {
            engine.effects.push(Effect::LookAtSegments);
        }
        self.go_on(engine, n);
    }
    fn timers(
        &self,
        definition: &Definition,
        state: &State,
        token: &Token,
    ) -> Vec<(&'static str, u64)> {
        if !waits(token) {
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
        if !waits(token) {
            return Err(EngineError::NoStep(token.step.clone()));
        }
        if let (Some(since_ms), Some(until), Some(past)) =
            (engine.held_since_ms, self.until(), &self.past)
        {
            // It passed in a hold: who goes on comes to it too late.
            let at_ms = moment(engine.definition, &engine.state, until);
            if (since_ms..engine.context.now_ms).contains(&at_ms) {
                engine.leave(token.n, PAST, past);
                return Ok(());
            }
        }
        if let Some((alternative, _)) = self.end(engine.definition, &engine.state, token) {
            engine.leave(token.n, &alternative.label, &alternative.next);
        }
        Ok(())
    }
    fn heard(&self, engine: &mut Engine<'_>, n: u32, holds: &[usize]) {
        let answered = engine.answered.clone();
        let news = self.take(engine, n, |trigger| match trigger {
            Trigger::Event(condition) => holds.contains(condition),
            Trigger::Segment(membership) => holds.contains(&membership.hold()),
            Trigger::Answer(step) => answered.as_ref() == Some(step),
            Trigger::For(_) | Trigger::Until(_) => false,
        });
        // What time has brought is for its timer to say.
        if news {
            self.go_on(engine, n);
        }
    }

    fn carried(&self, stand: &Stand, before: &Node, after: &Node) -> Carried {
        // What has come is remembered by numbers, which are those of the same list only.
        let legs = [
            "for", "until", "event", "where", "answer", "segment", "first_of", "all_of", "at_most",
        ];
        match stand {
            Stand::Gathering { .. } if !same_of(before, after, KIND.name, &legs) => Carried::Not(
                "some of what it waits for has come, and the new version waits for other things",
            ),
            _ => Carried::As,
        }
    }

    fn waiting(&self, definition: &Definition, state: &State, token: &Token) -> Option<Waiting> {
        if !waits(token) {
            return None;
        }
        let zone = &definition.zone;
        let until_ms = self.end(definition, state, token).map(|(_, due_ms)| due_ms);
        let awaited: Vec<String> = self
            .alternatives
            .iter()
            .filter_map(|alternative| alternative.missing(definition, state, token))
            .collect();
        let what = match (awaited.is_empty(), until_ms) {
            (true, Some(until)) => format!(
                "Waits until {}, {}",
                say_day(until, zone),
                say_time(until, zone)
            ),
            (false, Some(until)) => format!(
                "Waits for {}, until {} at the latest",
                awaited.join(" or "),
                say_day(until, zone)
            ),
            (_, None) => format!("Waits for {}", awaited.join(" or ")),
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
    fn left(&self, title: &str, label: &str) -> Option<String> {
        (label == PAST).then(|| format!("The date was past already: {title}"))
    }
}
