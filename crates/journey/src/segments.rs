//! Segments: named populations, as conditions on one patient's record. Pure.
//!
//! A look says whether the patient is in, and when time alone can change that next: a birthday, a date that comes, the
//! end of a window. Conditions can't ask what time it is otherwise, so nobody has to be looked at to find out.

mod file;
pub(crate) mod gaps;
pub(crate) mod members;

pub use file::{check_segments, with_segments};

use crate::dates::{Begins, Said};
use crate::decode::build::{line, number, path, resource};
use crate::definition::{Definition, Path};
use crate::facts;
use crate::room::zone_of;
use crate::yaml::Node;
use fhir::path::Environment;
use fhir::{Resource, ResourceType};
use jiff::Timestamp;
use jiff::civil::Time;
use jiff::tz::TimeZone;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Numbers from here on stand for segments among the conditions that hold of an event: two for each, out and in.
const HOLDS_FROM: usize = 1 << 16;
/// The cause of what a look comes to, in place of a resource.
pub(crate) const CAUSE: &str = "segments";
/// What instances are keyed by that a segment begins.
const KEY: &str = "segment/";

/// What the instance is keyed by that a patient begins who has come into a segment at a time.
pub(crate) fn key(patient: &str, name: &str, since_ms: u64) -> String {
    format!("{KEY}{patient}/{name}/{since_ms}")
}

/// Whether a segment began what is keyed by this.
pub(crate) fn is_key(key: &str) -> bool {
    key.starts_with(KEY)
}

/// Being in a segment or not, as an exit or a wait asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Membership {
    /// Index into [`Definition::segments`]; beyond them where there is none of the name.
    pub(crate) segment: usize,
    pub(crate) inside: bool,
}

impl Membership {
    /// Its number among what holds of an event.
    pub(crate) fn hold(self) -> usize {
        HOLDS_FROM + 2 * self.segment + usize::from(self.inside)
    }
    /// What is asked for, in words.
    pub(crate) fn words(self, definition: &Definition) -> String {
        let segment = definition.segments.get(self.segment);
        let title = segment.map_or("", |segment| segment.title.as_str());
        let state = if self.inside { "in" } else { "not in" };
        format!("the patient to be {state} “{title}”")
    }
}

/// Reads a membership in one of these segments.
pub(crate) fn membership(node: &Node, segments: &[Segment]) -> Membership {
    let (name, inside) = match line(node, "entered") {
        Some(name) => (name, true),
        None => (line(node, "left").unwrap_or_default(), false),
    };
    Membership {
        segment: place_of(segments, &name),
        inside,
    }
}

pub(crate) fn place_of(segments: &[Segment], name: &str) -> usize {
    let found = segments.iter().position(|segment| segment.name == name);
    found.unwrap_or(segments.len())
}

/// A named population.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) name: String,
    pub(crate) title: String,
    /// Its name and what it says: the same in each version and journey where it is the same.
    pub(crate) key: String,
    /// All have to hold; of each the first is enough.
    all: Vec<Vec<Test>>,
}

#[derive(Debug, Clone)]
enum Test {
    Aged { from: Option<i64>, to: Option<i64> },
    Has(Has),
}

#[derive(Debug, Clone)]
struct Has {
    kind: ResourceType,
    /// Whether there has to be none.
    none: bool,
    condition: Option<Path>,
    dated: Option<Path>,
    within: Option<(String, Begins)>,
}

impl Segment {
    /// Reads what is of the right form. `zone` and `purpose` are the journey's.
    pub(crate) fn decode(name: &str, node: &Node, zone: &TimeZone, purpose: &str) -> Option<Self> {
        let items = node.get("all").map(Node::items).unwrap_or_default();
        let mut all = Vec::new();
        for item in items {
            let several = item.get("any").map(Node::items);
            let several = several.unwrap_or(std::slice::from_ref(item));
            all.push(several.iter().map(test).collect::<Option<Vec<_>>>()?);
        }
        let mut segment = Self {
            name: name.to_owned(),
            title: line(node, "title")?,
            key: String::new(),
            all,
        };
        let says = segment.says();
        let zone = zone.iana_name().unwrap_or("UTC");
        let hash = blake3::hash(format!("{says}\n{zone}\n{purpose}").as_bytes());
        segment.key = format!("{name}/{}", &hash.to_hex()[..16]);
        Some(segment)
    }

    /// What it asks for, as text that is the same for the same.
    fn says(&self) -> String {
        let text = |path: &Option<Path>| path.as_ref().map(|path| path.text.clone());
        let test = |test: &Test| match test {
            Test::Aged { from, to } => format!("aged {from:?} {to:?}"),
            Test::Has(has) => {
                let within = has.within.as_ref().map(|(text, _)| text);
                let (condition, dated) = (text(&has.condition), text(&has.dated));
                let (kind, none) = (has.kind, has.none);
                format!("{none} {kind} {condition:?} {dated:?} {within:?}")
            }
        };
        let all = self.all.iter();
        let all = all.map(|any| any.iter().map(test).collect::<Vec<_>>().join(" or "));
        all.collect::<Vec<_>>().join("\n")
    }

    /// The ages that everybody in it has, from and to.
    pub(crate) fn ages(&self) -> (i64, i64) {
        let mut ages = (0, i64::MAX);
        for any in &self.all {
            if let [Test::Aged { from, to }] = any.as_slice() {
                let (least, most) = (from.unwrap_or(0), to.unwrap_or(i64::MAX));
                ages = (ages.0.max(least), ages.1.min(most));
            }
        }
        ages
    }

    fn tests(&self) -> impl Iterator<Item = &Test> {
        self.all.iter().flatten()
    }

    /// The types of resources that say who is in it. What is said of the patient is asked always.
    pub(crate) fn kinds(&self) -> BTreeSet<ResourceType> {
        let kinds = self.tests().filter_map(|test| match test {
            Test::Aged { .. } => None,
            Test::Has(has) => Some(has.kind),
        });
        kinds.chain([ResourceType::Patient]).collect()
    }

    /// Whether a patient with this record is in it, and when time alone can change that.
    pub(crate) fn look(&self, known: &Known, zone: &TimeZone, now_ms: u64) -> Found {
        let Some(person) = known.person.as_ref().filter(|person| !is_over(person)) else {
            return Found {
                inside: Some(false),
                next_ms: None,
            };
        };
        let own = zone_of(person);
        let zone = own.as_ref().unwrap_or(zone);
        let mut next = Next {
            now_ms: i64::try_from(now_ms).unwrap_or(i64::MAX),
            next_ms: None,
        };
        let mut inside = Some(true);
        for any in &self.all {
            let mut holds = Some(false);
            for test in any {
                holds = or(holds, test.holds(known, person, zone, now_ms, &mut next));
            }
            inside = and(inside, holds);
        }
        Found {
            inside,
            next_ms: next.next_ms.and_then(|next_ms| u64::try_from(next_ms).ok()),
        }
    }
}

fn and(one: Option<bool>, other: Option<bool>) -> Option<bool> {
    match (one, other) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (Some(true), Some(true)) => Some(true),
        _ => None,
    }
}

fn or(one: Option<bool>, other: Option<bool>) -> Option<bool> {
    and(one.map(|holds| !holds), other.map(|holds| !holds)).map(|holds| !holds)
}

/// What a look comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    /// Whether the patient is in; nothing where that can't be told.
    pub(crate) inside: Option<bool>,
    /// When that can change by time alone.
    pub(crate) next_ms: Option<u64>,
}

/// What of a patient's record a look knows.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) person: Option<Resource>,
    pub(crate) of: BTreeMap<ResourceType, Vec<Resource>>,
    /// Types of which something is kept from who looks.
    pub(crate) kept: BTreeSet<ResourceType>,
}

/// Whether nobody is led along any more by a record: its patient has died, or another record has replaced it.
fn is_over(person: &Resource) -> bool {
    facts::deceased(person) || is_replaced(person)
}

/// Whether another record has replaced a patient's.
pub(crate) fn is_replaced(person: &Resource) -> bool {
    let links = person.get("link").and_then(Value::as_array);
    let replaced = |link: &Value| link.get("type").and_then(Value::as_str) == Some("replaced-by");
    links.is_some_and(|links| links.iter().any(replaced))
}

/// The soonest moment ahead.
struct Next {
    now_ms: i64,
    next_ms: Option<i64>,
}

impl Next {
    /// Notes a moment. Whether it has come.
    fn has_come(&mut self, at_ms: i64) -> bool {
        if at_ms <= self.now_ms {
            return true;
        }
        self.next_ms = Some(self.next_ms.map_or(at_ms, |next_ms| next_ms.min(at_ms)));
        false
    }
}

fn test(node: &Node) -> Option<Test> {
    #[allow(
        clippy::cast_possible_truncation,
        reason = "the form is right: a whole number up to 150"
    )]
    if let Some(aged) = node.get("aged") {
        return Some(Test::Aged {
            from: number(aged, "from").map(|years| years as i64),
            to: number(aged, "to").map(|years| years as i64),
        });
    }
    let none = node.get("has").is_none();
    Some(Test::Has(Has {
        kind: resource(node, if none { "has_no" } else { "has" })?,
        none,
        condition: node.get("where").and_then(path),
        dated: node.get("dated").and_then(path),
        within: match line(node, "within") {
            Some(text) => Some((text.clone(), Begins::span(&text).ok()?)),
            None => None,
        },
    }))
}

impl Test {
    fn holds(
        &self,
        known: &Known,
        person: &Resource,
        zone: &TimeZone,
        now_ms: u64,
        next: &mut Next,
    ) -> Option<bool> {
        match self {
            Self::Aged { from, to } => {
                let born = person.text_at(&["birthDate"]).and_then(Said::parse);
                let Some(born) = born else {
                    return Some(false);
                };
                // Years are counted up to 150, which every calendar has.
                let birthday = |years: i64| match years {
                    0 => midnight(born, zone),
                    years => Begins::span(&format!("{years}y"))
                        .ok()?
                        .resolve(born, zone, 0),
                };
                let from = birthday(from.unwrap_or(0))?;
                let old_enough = next.has_come(from);
                let too_old = match to {
                    Some(to) => next.has_come(birthday(to + 1)?),
                    None => false,
                };
                Some(old_enough && !too_old)
            }
            Self::Has(has) => has.holds(known, person, zone, now_ms, next),
        }
    }
}

fn midnight(said: Said, zone: &TimeZone) -> Option<i64> {
    match said {
        Said::At(at_ms) => Some(at_ms),
        Said::Day(day) => {
            let zoned = day
                .to_datetime(Time::midnight())
                .to_zoned_datetime(zone.clone())
                .ok()?;
            Some(zoned.timestamp().as_millisecond())
        }
    }
}

impl Has {
    fn holds(
        &self,
        known: &Known,
        person: &Resource,
        zone: &TimeZone,
        now_ms: u64,
        next: &mut Next,
    ) -> Option<bool> {
        let rows = match self.kind {
            ResourceType::Patient => std::slice::from_ref(person),
            kind => known.of.get(&kind).map_or(&[][..], Vec::as_slice),
        };
        let mut there = Some(false);
        for row in rows {
            let fulfils = match &self.condition {
                Some(path) => facts::weigh(path, row, None, now_ms),
                None => Some(true),
            };
            let counts = match fulfils {
                Some(false) => Some(false),
                // When it counts is known also of one of which the rest isn't.
                fulfils => and(fulfils, self.counts(row, zone, next)),
            };
            there = or(there, counts);
        }
        if !self.none {
            return there;
        }
        if known.kept.contains(&self.kind) {
            return Some(false);
        }
        there.map(|there| !there)
    }

    /// Whether a resource counts now, by the date that it says; nothing where that can't be told.
    fn counts(&self, row: &Resource, zone: &TimeZone, next: &mut Next) -> Option<bool> {
        let Some(dated) = &self.dated else {
            return Some(true);
        };
        let within = self.within.as_ref().map(|(_, within)| within);
        let environment = Environment::default();
        let said = dated.expression.evaluate(row.as_value(), &environment);
        let said = said.ok()?;
        let said = said.first().map(fhir::path::Item::value);
        let Some((from, until)) = said.and_then(|said| window(said, within, zone)) else {
            return Some(false);
        };
        let has_begun = next.has_come(from);
        let is_over = until.is_some_and(|until| next.has_come(until));
        Some(has_begun && !is_over)
    }
}

/// From when and until when a resource counts, by what it says; nothing where that is no date.
fn window(said: &Value, within: Option<&Begins>, zone: &TimeZone) -> Option<(i64, Option<i64>)> {
    let after = |end: Said| match within {
        Some(within) => within.resolve(end, zone, 0),
        None => day_after(end, zone),
    };
    if let Some(text) = said.as_str() {
        let (from, end) = both(text)?;
        let until = within.and_then(|_| after(end));
        return Some((midnight(from, zone)?, until));
    }
    // A `Period`: without a start it has always been, without an end it goes on. Nothing else has either of them.
    let text = |name: &str| said.get(name).and_then(Value::as_str);
    let (start, end) = (text("start"), text("end"));
    start.or(end)?;
    let from = match start {
        Some(start) => midnight(both(start)?.0, zone)?,
        None => i64::MIN,
    };
    let until = match end {
        Some(end) => Some(after(both(end)?.1)?),
        None => None,
    };
    Some((from, until))
}

/// The first and the last of what a date says: of a year or a month its first and its last day.
fn both(text: &str) -> Option<(Said, Said)> {
    if let Some(said) = Said::parse(text) {
        return Some((said, said));
    }
    let parsed = fhir::date::parse(text)?;
    let day = |at_ms: i64| {
        let there = Timestamp::from_millisecond(at_ms).ok()?;
        Some(Said::Day(there.to_zoned_datetime(TimeZone::UTC).date()))
    };
    Some((day(parsed.start_ms)?, day(parsed.end_ms - 1)?))
}

/// When a date is over: a day at its end, a moment at once.
fn day_after(said: Said, zone: &TimeZone) -> Option<i64> {
    match said {
        Said::At(at_ms) => Some(at_ms),
        Said::Day(day) => midnight(Said::Day(day.tomorrow().ok()?), zone),
    }
}

impl Definition {
    /// The segments that its exits and waits ask about, by their place.
    pub(crate) fn watched(&self) -> BTreeSet<usize> {
        if self.segments.is_empty() {
            return BTreeSet::new();
        }
        let exits = self.exits.iter().filter_map(|exit| match exit.trigger {
            crate::definition::ExitTrigger::Segment(membership) => Some(membership.segment),
            _ => None,
        });
        let waits = self.steps.iter().flat_map(|step| step.kind.segments());
        let named = exits.chain(waits.map(|membership| membership.segment));
        named.filter(|place| *place < self.segments.len()).collect()
    }
    /// The segment that begins it.
    pub(crate) fn begins_by(&self) -> Option<&Segment> {
        self.segments.get(self.entry.segment?)
    }
    /// Looks at the segments that its exits and waits ask about: what holds, and when time can change it. `before` says
    /// of those of which it can't be told now whether the patient was in; where it never could, nothing holds.
    pub(crate) fn look(
        &self,
        known: &Known,
        now_ms: u64,
        before: &dyn Fn(&Segment) -> Option<bool>,
    ) -> (Vec<usize>, Option<u64>) {
        let (mut holds, mut next_ms) = (Vec::new(), None);
        for place in self.watched() {
            let segment = &self.segments[place];
            let found = segment.look(known, &self.zone, now_ms);
            let inside = found.inside.or_else(|| before(segment));
            let membership = inside.map(|inside| Membership {
                segment: place,
                inside,
            });
            holds.extend(membership.map(Membership::hold));
            next_ms = soonest(next_ms, found.next_ms);
        }
        (holds, next_ms)
    }
}

/// The sooner of two moments.
pub(crate) fn soonest(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    [one, other].into_iter().flatten().min()
}

#[cfg(test)]
mod tests;
