//! A pause: for a time, until a moment, an event or an answer, until the first of several, or until all of
//! several have come.

use super::{StepKind, Waiting, way};
use crate::check::Check;
use crate::decode::build::{Parts, length, line, path, resource};
use crate::definition::{Condition, Definition, Step, Target, Way};
use crate::engine::{Engine, EngineError, moment};
use crate::spec::{Field, Focus, Kind, Record, START_ANCHOR, Shape, may, must};
use crate::state::{Stand, State, Token};
use crate::time::{DAY_MS, Moment, say_day, say_duration, say_time};
use crate::words::thing;
use crate::yaml::{Node, Place};
use fhir::nearest;
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

static ONE: Record = Record {
    name: "one thing",
    doc: "One thing that is waited for.",
    one_of: &["for", "until", "event", "answer"],
    fields: &[FOR, UNTIL, EVENT, WHERE, ANSWER],
};

static LEG: Record = Record {
    name: "leg",
    doc: "One of several things that all have to come.",
    one_of: &["for", "until", "event", "answer", "first_of"],
    fields: &[
        FOR,
        UNTIL,
        EVENT,
        WHERE,
        ANSWER,
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
    one_of: &["for", "until", "event", "answer", "all_of"],
    fields: &[
        FOR,
        UNTIL,
        EVENT,
        WHERE,
        ANSWER,
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
    doc: "A pause: for a time, until a moment, until an event or an answer, until the first of several, or until all of several have come. What has come stays so, whatever comes between; a moment that moves is waited for again.",
    one_of: &["for", "until", "event", "answer", "first_of", "all_of"],
    fields: &[
        FOR,
        UNTIL,
        EVENT,
        WHERE,
        ANSWER,
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
            "With `until`: what happens when the moment is past already when the step is entered. Needed where that may be.",
        ),
        may(
            "at_most",
            Shape::Duration,
            "With `event`, `answer` and `all_of`: how long to wait; then `not_come` is gone.",
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

/// The label of the way that is gone then.
const PAST: &str = "past due";

/// A way on: all of these have to come, and of each the first is enough.
#[derive(Debug)]
struct Alternative {
    all: Vec<Vec<Leg>>,
    next: Target,
    label: String,
}

#[derive(Debug)]
struct Leg {
    /// Its number in the step, by which the state remembers that it has come.
    number: u16,
    trigger: Trigger,
    place: Place,
}

#[derive(Debug)]
enum Trigger {
    For(u64),
    Until(Moment),
    /// Index into [`Definition::conditions`].
    Event(usize),
    /// The step that asks.
    Answer(String),
}

/// Reads the legs of a step one after the other.
struct Legs<'a, 'b> {
    parts: &'a mut Parts<'b>,
    count: u16,
}

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
                label: format!("not come in {}", say_duration(at_most_ms)),
            });
        }
    }
    Some(Arc::new(Wait {
        alternatives,
        past_due,
        past,
    }))
}

impl Legs<'_, '_> {
    fn number(&mut self) -> u16 {
        let number = self.count;
        self.count = self.count.saturating_add(1);
        number
    }

    fn alternative(&mut self, node: &Node, next: Target) -> Option<Alternative> {
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
    fn is_time(&self) -> bool {
        matches!(self, Self::For(_) | Self::Until(_))
    }
    /// Whether it may be there when the step is entered.
    fn at_once(&self) -> bool {
        matches!(self, Self::Until(_) | Self::Answer(_))
    }
}

impl Leg {
    /// When it comes; what came already, at the beginning of time.
    fn comes_ms(&self, definition: &Definition, state: &State, token: &Token) -> Option<u64> {
        match &self.trigger {
            Trigger::For(length_ms) => Some(token.since_ms + length_ms),
            Trigger::Until(until) => Some(moment(definition, state, until)),
            Trigger::Event(_) | Trigger::Answer(_) => {
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
fn came(token: &Token) -> &[u16] {
    match &token.stand {
        Stand::Gathering { came } => came,
        _ => &[],
    }
}

fn waits(token: &Token) -> bool {
    matches!(token.stand, Stand::Waiting | Stand::Gathering { .. })
}

impl Alternative {
    fn legs(&self) -> impl Iterator<Item = &Leg> {
        self.all.iter().flatten()
    }
    /// When all of it has come, as far as can be told.
    fn comes_ms(&self, definition: &Definition, state: &State, token: &Token) -> Option<u64> {
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
    fn is_time(&self) -> bool {
        self.all
            .iter()
            .all(|first| first.iter().any(|leg| leg.trigger.is_time()))
    }
    /// What hasn't come of it, in words, if anything has to come that time alone doesn't bring.
    fn missing(&self, definition: &Definition, state: &State, token: &Token) -> Option<String> {
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

    /// Members that go together, or don't.
    fn check_members(&self, check: &mut Check<'_, '_>, step: &Step) {
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
                at_most && !(event || all_of || has("answer")),
                "J004",
                format!(
                    "`{id}` has `at_most`, which goes with `event`, `answer` and `all_of` only"
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

    /// What is said of a moment that is past, against what is waited for and where it leads.
    fn check_past(&self, check: &mut Check<'_, '_>, step: &Step) {
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
    fn check_answers(&self, check: &mut Check<'_, '_>) {
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
    fn check_all(&self, check: &mut Check<'_, '_>, step: &Step) {
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

impl StepKind for Wait {
    fn table(&self) -> &'static Kind {
        &KIND
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
                        entry.within_ms.filter(|_| first == Some(&until.anchor))
                    };
                    Some(after_ms + later_ms?)
                }
                Trigger::Event(_) | Trigger::Answer(_) => None,
            });
            legs.min()
        });
        times.min()
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
        if let Some((alternative, _)) = self.end(engine.definition, &engine.state, token) {
            engine.leave(token.n, &alternative.label, &alternative.next);
        }
        Ok(())
    }
    fn heard(&self, engine: &mut Engine<'_>, n: u32, holds: &[usize]) {
        let answered = engine.answered.clone();
        let news = self.take(engine, n, |trigger| match trigger {
            Trigger::Event(condition) => holds.contains(condition),
            Trigger::Answer(step) => answered.as_ref() == Some(step),
            Trigger::For(_) | Trigger::Until(_) => false,
        });
        // What time has brought is for its timer to say.
        if news {
            self.go_on(engine, n);
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

/// Whether the form of a step was answered and isn't open again.
fn is_answered(state: &State, step: &str) -> bool {
    let open = |token: &Token| token.step == step && matches!(token.stand, Stand::Asking { .. });
    state.facts.contains_key(step) && !state.tokens.iter().any(open)
}
