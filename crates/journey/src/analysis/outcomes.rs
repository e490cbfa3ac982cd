//! What came of a patient that no step, goal or ending of the journey tells: whether they were in hospital again, and
//! whether what was missing was done. Pure; the record is read elsewhere.
//!
//! Who has not been observed for long enough, who has died, and of whom it can't be told is neither one nor the other.

use crate::definition::Definition;
use crate::segments::gaps::{Gap, moments};
use crate::segments::{self, Known};
use crate::state::State;
use crate::time::DAY_MS;
use fhir::{Resource, ResourceType};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;

/// For how many days patients are observed where nobody says: what measures of readmission have.
pub const DAYS: u64 = 30;
/// For how many days somebody may have them observed. With any number, two analyses of days that follow each other would
/// tell of whom something came on the day between.
pub const DAYS_OF: [u64; 7] = [7, 14, 30, 60, 90, 180, 365];

/// Classes of an `Encounter` that is a stay in hospital: inpatient, and its two kinds.
const INPATIENT: [&str; 3] = ["IMP", "ACUTE", "NONAC"];
const CLASSES: &str = "http://terminology.hl7.org/CodeSystem/v3-ActCode";
/// States of a stay that is or was one.
const HAPPENED: [&str; 5] = ["arrived", "triaged", "in-progress", "onleave", "finished"];
/// `Encounter.priority` of a stay that was planned: elective.
const ELECTIVE: (&str, &str) = ("http://terminology.hl7.org/CodeSystem/v3-ActPriority", "EL");
/// `Encounter.hospitalization.admitSource` of a stay that goes on from one in another hospital.
const TRANSFERRED: (&str, &str) = (
    "http://terminology.hl7.org/CodeSystem/admit-source",
    "hosp-trans",
);

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeOf {
    /// A stay in hospital after the discharge from the one that began the journey.
    Readmission,
    /// A stay in hospital after the start of a journey that no discharge began.
    Admission,
    /// A gap, by the name of its segment.
    Gap(String),
}

/// What came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// It came, so long after.
    Yes {
        /// Milliseconds.
        after_ms: u64,
    },
    /// The first that came was planned.
    Planned,
    /// It did not come.
    No,
    /// They died before it came.
    Died,
    /// It is asked of them no more, for another reason.
    Left,
    /// They were not observed for long enough.
    NotYet,
    /// It can't be told: a date is missing, or something is kept back.
    Unknown,
}

/// What came of somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What was asked for.
    pub of: OutcomeOf,
    /// What came.
    pub came: Came,
}

/// The types that are read of each patient's record to tell what came of a journey's patients.
pub(crate) fn kinds(definition: &Definition) -> BTreeSet<ResourceType> {
    let gaps = definition.segments.iter().filter(|one| one.is_gap());
    let mut kinds: BTreeSet<ResourceType> = gaps.flat_map(segments::Segment::kinds).collect();
    kinds.insert(ResourceType::Encounter);
    kinds.remove(&ResourceType::Patient);
    kinds
}

/// What came of the patient of a journey within so many days, as the record says now.
pub(crate) fn outcomes(
    definition: &Definition,
    state: &State,
    known: &Known,
    days: u64,
    now_ms: u64,
) -> Vec<Outcome> {
    let ended = state.ended.as_ref();
    if ended.is_some_and(|ended| ended.code == "started_in_error") {
        return Vec::new();
    }
    let own = known.person.as_ref().and_then(crate::room::zone_of);
    let zone = own.as_ref().unwrap_or(&definition.zone);
    let asked = Asked {
        zone,
        died: known.person.as_ref().and_then(|person| died(person, zone)),
        known,
        days_ms: days * DAY_MS,
        now_ms,
    };
    let mut found = vec![asked.stay(definition, state)];
    for segment in definition.segments.iter().filter(|one| one.is_gap()) {
        let begins = definition
            .begins_by()
            .is_some_and(|one| one.name == segment.name);
        let member = begins && segments::is_key(&state.key);
        let came = asked.gap(segment, &definition.zone, state.started_ms, member);
        found.extend(came.map(|came| Outcome {
            of: OutcomeOf::Gap(segment.name.clone()),
            came,
        }));
    }
    found
}

struct Asked<'a> {
    known: &'a Known,
    zone: &'a TimeZone,
    /// Between which moments they died, if they did.
    died: Option<(i64, i64)>,
    days_ms: u64,
    now_ms: u64,
}

/// A stay in hospital, with from when to when its beginning and its end may have been.
struct Stay<'a> {
    id: &'a str,
    start: Option<(i64, i64)>,
    end: Option<(i64, i64)>,
    planned: bool,
    transferred: bool,
    /// Whether they are still there, as far as its status says.
    goes_on: bool,
}

impl Stay<'_> {
    /// Whether somebody was in it still, or again at once, when they left another stay or began a journey.
    fn follows(&self, since: (i64, i64), by_discharge: bool) -> bool {
        let Some(start) = self.start else {
            return false;
        };
        let day = i64::try_from(DAY_MS).unwrap_or(i64::MAX);
        let is_over = self.end.is_some_and(|end| end.1 <= since.0);
        let has_begun = start.1 <= since.0;
        let is_near =
            start.0 <= since.1.saturating_add(day) && start.1 >= since.0.saturating_sub(day);
        !is_over && (has_begun || by_discharge && self.transferred && is_near)
    }
}

impl Asked<'_> {
    fn stay(&self, definition: &Definition, state: &State) -> Outcome {
        // No discharge began what somebody or another journey asked for, or what a segment began.
        let by_other = segments::is_key(&state.key)
            || state.key.starts_with(crate::request::KEY)
            || crate::runner::task_of(&state.key).is_some();
        let by_stay = definition.entry.kind() == Some(ResourceType::Encounter) && !by_other;
        let rows = self.known.of.get(&ResourceType::Encounter);
        let rows = rows.map_or(&[][..], Vec::as_slice);
        // A journey that begins at a date is keyed by the resource and that date.
        let began = state.key.split('/').next().unwrap_or_default();
        let began = rows.iter().find(|row| row.id() == Some(began));
        let by_discharge = by_stay && began.is_none_or(is_inpatient);
        let came = if by_discharge {
            let stays = stays(rows, self.zone);
            let index = stays
                .iter()
                .find(|stay| began.is_some_and(|began| began.id() == Some(stay.id)));
            // Without it, or without its end, nobody knows since when they are at home.
            match index.map(|index| (index, index.end)) {
                Some((index, Some(end))) => self.back(&stays, Some(index.id), end),
                Some((index, None)) if index.goes_on => Came::NotYet,
                _ => Came::Unknown,
            }
        } else {
            let at_ms = i64::try_from(state.started_ms).unwrap_or(i64::MAX);
            self.back(&stays(rows, self.zone), None, (at_ms, at_ms))
        };
        Outcome {
            of: if by_discharge {
                OutcomeOf::Readmission
            } else {
                OutcomeOf::Admission
            },
            came,
        }
    }

    /// Whether somebody was in hospital again after a moment.
    fn back(&self, stays: &[Stay<'_>], index: Option<&str>, since: (i64, i64)) -> Came {
        let (mut since, mut same) = (since, BTreeSet::from_iter(index));
        // Who was moved to another hospital, or is still in one, has not been at home.
        while let Some(next) = stays
            .iter()
            .find(|stay| !same.contains(stay.id) && stay.follows(since, index.is_some()))
        {
            same.insert(next.id);
            match next.end {
                Some(end) => since = (since.0.max(end.0), since.1.max(end.1)),
                None if next.goes_on => return Came::NotYet,
                None => return Came::Unknown,
            }
        }
        let Some(until) = since.1.checked_add_unsigned(self.days_ms) else {
            return Came::Unknown;
        };
        if until > i64::try_from(self.now_ms).unwrap_or(i64::MAX) {
            return Came::NotYet;
        }
        let person = self.known.person.as_ref();
        // What became of whom another record stands for now, that one has.
        if person.is_none_or(segments::is_replaced)
            || self.known.kept.contains(&ResourceType::Encounter)
        {
            return Came::Unknown;
        }
        let mut first: Option<(i64, bool)> = None;
        for stay in stays.iter().filter(|stay| !same.contains(stay.id)) {
            match (stay.start, stay.end) {
                (Some((from, _)), _) if from > since.1 => {
                    let earlier = first.is_none_or(|(first, _)| from < first);
                    if from <= until && earlier {
                        first = Some((from, stay.planned));
                    }
                }
                (_, Some((_, last))) if last <= since.0 => {}
                // Which of the two was first can't be told.
                _ => return Came::Unknown,
            }
        }
        match (first, self.died) {
            (Some((_, true)), _) => Came::Planned,
            (Some((from, false)), _) => Came::Yes {
                after_ms: from.abs_diff(since.1),
            },
            (None, Some((_, last))) if last <= until => Came::Died,
            (None, Some((from, _))) if from <= until => Came::Unknown,
            (None, _) => Came::No,
        }
    }

    /// What became of a gap; nothing where it was not open.
    fn gap(
        &self,
        segment: &segments::Segment,
        zone: &TimeZone,
        from_ms: u64,
        member: bool,
    ) -> Option<Came> {
        let until_ms = from_ms.saturating_add(self.days_ms);
        // Nothing of what is ahead of now is looked at.
        let window = (from_ms, until_ms.min(self.now_ms));
        let found = segment.gap(self.known, zone, window, member);
        let died = |until_ms: u64| {
            let until_ms = i64::try_from(until_ms).unwrap_or(i64::MAX);
            match self.died {
                Some((_, last)) if last <= until_ms => Some(Came::Died),
                Some((from, _)) if from <= until_ms => Some(Came::Unknown),
                _ => None,
            }
        };
        Some(match found {
            Gap::NotOpen => return None,
            _ if until_ms > self.now_ms => Came::NotYet,
            Gap::Unknown => Came::Unknown,
            Gap::Closed(at_ms) => Came::Yes {
                after_ms: at_ms.saturating_sub(from_ms),
            },
            Gap::Left(at_ms) => died(at_ms).unwrap_or(Came::Left),
            Gap::Open => died(until_ms).unwrap_or(Came::No),
        })
    }
}

/// Between which moments a patient died, if they did: at any time where it isn't said.
fn died(person: &Resource, zone: &TimeZone) -> Option<(i64, i64)> {
    if !crate::facts::deceased(person) {
        return None;
    }
    let said = person.text_at(&["deceasedDateTime"]);
    let said = said.and_then(|said| moments(said, zone));
    Some(said.unwrap_or((i64::MIN, i64::MAX)))
}

fn is_inpatient(row: &Resource) -> bool {
    let class = &row.as_value()["class"];
    let of_hl7 = class["system"]
        .as_str()
        .is_none_or(|system| system == CLASSES);
    let code = class["code"].as_str().unwrap_or_default();
    of_hl7 && INPATIENT.contains(&code)
}

/// Whether a concept has a code of a system, or without one.
fn has(concept: &Value, (system, code): (&str, &str)) -> bool {
    let codings = concept["coding"].as_array().into_iter().flatten();
    let mut codings = codings.filter(|one| one["system"].as_str().is_none_or(|of| of == system));
    codings.any(|one| one["code"] == code)
}

/// The stays in hospital, without those that are part of another.
fn stays<'a>(rows: &'a [Resource], zone: &TimeZone) -> Vec<Stay<'a>> {
    let happened = |row: &&Resource| {
        let status = row.text_at(&["status"]).unwrap_or_default();
        HAPPENED.contains(&status) && is_inpatient(row) && row.get("partOf").is_none()
    };
    let stays = rows.iter().filter(happened).map(|row| {
        let said = |name: &str| row.text_at(&["period", name]);
        let of = |name: &str| said(name).and_then(|said| moments(said, zone));
        let value = row.as_value();
        Stay {
            id: row.id().unwrap_or_default(),
            start: of("start"),
            end: of("end"),
            planned: has(&value["priority"], ELECTIVE),
            transferred: has(&value["hospitalization"]["admitSource"], TRANSFERRED),
            goes_on: row.text_at(&["status"]) != Some("finished"),
        }
    });
    stays.collect()
}

#[cfg(test)]
mod tests;
