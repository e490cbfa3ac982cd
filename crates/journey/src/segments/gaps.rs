//! Gaps in care: segments that ask for what is missing (`has_no`), and when what was missing came. Pure.
//!
//! The record as it is now is asked how it was at a moment: what is dated later doesn't count there. So only what is
//! missing by a date can be asked for, and what has no date counts as it is today.

use super::{Known, Next, Segment, Test, and, or, zone_of};
use fhir::Resource;
use jiff::tz::TimeZone;

/// Most moments of one patient that are looked at. Each date of what a segment asks for is one.
const MOMENTS_MAX: usize = 500;
/// Most looks at a resource of one patient: as many as there are resources, at each moment.
const LOOKS_MAX: usize = 200_000;

/// What became of a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gap {
    /// It was not open at the beginning.
    NotOpen,
    /// It is open at the end of the time.
    Open,
    /// It closed at this moment.
    Closed(u64),
    /// The patient is no longer one of whom it is asked, since this moment.
    Left(u64),
    /// It can't be told.
    Unknown,
}

/// How it is at one moment.
struct Moment {
    /// Whether what is asked for is missing.
    missing: Option<bool>,
    /// Whether the patient is one of whom it is asked.
    asked: Option<bool>,
    /// When time alone changes one of the two.
    next_ms: Option<u64>,
}

impl Segment {
    /// Whether it names a gap that can be looked for at moments past: all that it asks to be missing has a date, and
    /// nothing else would do in its place, or nobody could tell whether what was missing came.
    pub(crate) fn is_gap(&self) -> bool {
        let asks_for_none = |test: &Test| matches!(test, Test::Has(has) if has.none);
        let missing = self.all.iter().filter(|any| any.iter().any(asks_for_none));
        let mut missing = missing.flatten().peekable();
        missing.peek().is_some()
            && missing.all(|test| matches!(test, Test::Has(has) if has.none && has.dated.is_some()))
    }

    /// What became of the gap between two moments. `member` says that the patient was in the segment at the first of
    /// them, whatever the record says today of who that is.
    pub(crate) fn gap(
        &self,
        known: &Known,
        zone: &TimeZone,
        (from_ms, until_ms): (u64, u64),
        member: bool,
    ) -> Gap {
        let Some(person) = &known.person else {
            return Gap::Unknown;
        };
        let kinds = self.kinds();
        if super::is_replaced(person) || kinds.iter().any(|kind| known.kept.contains(kind)) {
            return Gap::Unknown;
        }
        let rows = kinds.iter().filter_map(|kind| known.of.get(kind));
        let rows: usize = rows.map(Vec::len).sum();
        let own = zone_of(person);
        let zone = own.as_ref().unwrap_or(zone);
        let first = self.at(known, person, zone, from_ms);
        match (first.missing, first.asked) {
            (Some(false), _) => return Gap::NotOpen,
            (_, Some(false)) if !member => return Gap::NotOpen,
            (Some(true), Some(true)) => {}
            (Some(true), _) if member => {}
            _ => return Gap::Unknown,
        }
        let was_asked = first.asked == Some(true);
        let mut next_ms = first.next_ms;
        for _ in 0..MOMENTS_MAX.min(LOOKS_MAX / rows.max(1)) {
            let Some(at_ms) = next_ms.filter(|at_ms| *at_ms <= until_ms) else {
                return Gap::Open;
            };
            let now = self.at(known, person, zone, at_ms);
            match (now.missing, now.asked) {
                (Some(false), _) => return Gap::Closed(at_ms),
                (_, Some(false)) if was_asked => return Gap::Left(at_ms),
                (None, _) => return Gap::Unknown,
                _ => next_ms = now.next_ms,
            }
        }
        Gap::Unknown
    }

    fn at(&self, known: &Known, person: &Resource, zone: &TimeZone, at_ms: u64) -> Moment {
        let mut next = Next {
            now_ms: i64::try_from(at_ms).unwrap_or(i64::MAX),
            next_ms: None,
        };
        let (mut missing, mut asked) = (Some(true), Some(true));
        for any in &self.all {
            let mut holds = Some(false);
            for test in any {
                holds = or(holds, test.holds(known, person, zone, at_ms, &mut next));
            }
            let asks_for_none = |test: &Test| matches!(test, Test::Has(has) if has.none);
            let of = if any.iter().any(asks_for_none) {
                &mut missing
            } else {
                &mut asked
            };
            *of = and(*of, holds);
        }
        Moment {
            missing,
            asked,
            next_ms: next.next_ms.and_then(|next_ms| u64::try_from(next_ms).ok()),
        }
    }
}

/// From the first to the last moment that a date, a time, a month or a year can mean.
pub(crate) fn moments(text: &str, zone: &TimeZone) -> Option<(i64, i64)> {
    let (first, last) = super::both(text)?;
    let from = super::midnight(first, zone)?;
    let until = super::day_after(last, zone)?;
    Some((from, if until > from { until - 1 } else { until }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::Definition;
    use crate::time::DAY_MS;
    use fhir::ResourceType;
    use serde_json::{Value, json};

    /// 2026-01-01.
    const START: u64 = 1_767_225_600_000;

    fn segment(all: &str) -> (Segment, TimeZone) {
        let file = format!(
            "name: gaps\ntitle: Gaps\nowner: Team\npurpose: TREAT\nat_most: 400d\ntime_zone: UTC\nsegments:\n  gap:\n    title: A gap\n    all:\n{all}entry:\n  segment: gap\n  per: event\nexits:\n  death: {{title: Died, event: Patient, where: deceased.exists()}}\n  consent: {{title: Consent withdrawn, consent: withdrawn}}\nstart: call\nsteps:\n  call:\n    title: Call\n    task: {{title: Call, reason: Overdue., role: coordinator, due: 200d}}\n    next: end\n    overdue: end\n"
        );
        let definition = Definition::compile(&file, 1).unwrap();
        (definition.segments[0].clone(), definition.zone.clone())
    }

    fn day(day: u64) -> String {
        fhir::date::instant(START + day * DAY_MS)
    }

    fn known(born: &str, rows: &[(&str, &str, Value)]) -> Known {
        let of = |value: Value| Resource::from_value(value).unwrap();
        let mut known = Known {
            person: Some(of(
                json!({"resourceType": "Patient", "id": "p", "birthDate": born}),
            )),
            ..Known::default()
        };
        for (place, (kind, status, more)) in rows.iter().enumerate() {
            let mut row = json!({
                "resourceType": kind, "id": format!("r{place}"), "status": status,
                "subject": {"reference": "Patient/p"}, "code": {"text": "HbA1c"}
            });
            for (name, value) in more.as_object().unwrap() {
                row[name] = value.clone();
            }
            let row = of(row);
            known.of.entry(row.kind()).or_default().push(row);
        }
        known
    }

    const HBA1C: &str = "      - aged: {from: 18, to: 75}\n      - has_no: Observation\n        where: status = 'final'\n        dated: effective\n        within: 12mo\n";

    /// What becomes of a gap is as somebody with the record would count it.
    #[test]
    fn gaps_close_by_what_comes_and_not_by_what_was_there() {
        let (gap, zone) = segment(HBA1C);
        assert!(gap.is_gap());
        let at = |days: i64, status: &'static str| {
            let at_ms = i64::try_from(START).unwrap() + days * i64::try_from(DAY_MS).unwrap();
            let when = fhir::date::moment(at_ms);
            ("Observation", status, json!({"effectiveDateTime": when}))
        };
        let window = (START, START + 90 * DAY_MS);
        let closed = |days: u64| Gap::Closed(START + days * DAY_MS);
        for (name, born, rows, expected) in [
            ("nothing came", "1970-05-01", vec![], Gap::Open),
            (
                "a value came",
                "1970-05-01",
                vec![at(40, "final")],
                closed(40),
            ),
            (
                "the first counts",
                "1970-05-01",
                vec![at(60, "final"), at(7, "final")],
                closed(7),
            ),
            (
                "one of no use came",
                "1970-05-01",
                vec![at(40, "entered-in-error")],
                Gap::Open,
            ),
            (
                "an old one counts no more",
                "1970-05-01",
                vec![at(-500, "final"), at(3, "final")],
                closed(3),
            ),
            (
                "one of this year closes it before",
                "1970-05-01",
                vec![at(-100, "final")],
                Gap::NotOpen,
            ),
            (
                "after the time",
                "1970-05-01",
                vec![at(91, "final")],
                Gap::Open,
            ),
            (
                "at its last moment",
                "1970-05-01",
                vec![at(90, "final")],
                closed(90),
            ),
            (
                "too old at the beginning",
                "1940-05-01",
                vec![at(4, "final")],
                Gap::NotOpen,
            ),
            // 76 on 2026-02-10, day 40.
            (
                "too old on the way",
                "1950-02-10",
                vec![at(41, "final")],
                Gap::Left(START + 40 * DAY_MS),
            ),
            (
                "in time before that",
                "1950-02-10",
                vec![at(39, "final")],
                closed(39),
            ),
        ] {
            let known = known(born, &rows);
            assert_eq!(gap.gap(&known, &zone, window, false), expected, "{name}");
        }
    }

    #[test]
    fn what_is_kept_back_or_has_no_patient_is_not_told() {
        let (gap, zone) = segment(HBA1C);
        let window = (START, START + 90 * DAY_MS);
        let mut merged = known("1970-05-01", &[]);
        let link = json!([{"type": "replaced-by", "other": {"reference": "Patient/q"}}]);
        merged.person.as_mut().unwrap().set("link", link);
        assert_eq!(gap.gap(&merged, &zone, window, true), Gap::Unknown);
        let mut known = known("1970-05-01", &[]);
        known.kept.insert(ResourceType::Observation);
        assert_eq!(gap.gap(&known, &zone, window, true), Gap::Unknown);
        assert_eq!(
            gap.gap(&Known::default(), &zone, window, true),
            Gap::Unknown
        );
    }

    /// Whoever a segment began the journey for was in it, also where the record says otherwise today.
    #[test]
    fn a_member_stays_one_whose_condition_is_resolved_since() {
        let (gap, zone) = segment(
            "      - has: Condition\n        where: clinicalStatus.coding.exists(code = 'active')\n      - has_no: Observation\n        dated: effective\n        within: 12mo\n",
        );
        let came = json!({"effectiveDateTime": day(5)});
        let known = known("1970-05-01", &[("Observation", "final", came)]);
        let window = (START, START + 30 * DAY_MS);
        assert_eq!(gap.gap(&known, &zone, window, false), Gap::NotOpen);
        assert_eq!(
            gap.gap(&known, &zone, window, true),
            Gap::Closed(START + 5 * DAY_MS)
        );
    }

    #[test]
    fn what_is_missing_without_a_date_is_no_gap_that_could_be_looked_for() {
        for (all, is) in [
            (HBA1C, true),
            ("      - has_no: Observation\n", false),
            ("      - aged: {from: 18}\n", false),
            (
                "      - has: Observation\n        dated: effective\n",
                false,
            ),
            (
                "      - has_no: Observation\n        dated: effective\n      - has_no: Condition\n",
                false,
            ),
            (
                "      - any:\n          - has_no: Observation\n            dated: effective\n          - aged: {from: 70}\n",
                false,
            ),
            (
                "      - any:\n          - has_no: Observation\n            dated: effective\n          - has_no: Condition\n            dated: recordedDate\n",
                true,
            ),
        ] {
            assert_eq!(segment(all).0.is_gap(), is, "{all}");
        }
    }

    #[test]
    fn dates_are_from_their_first_moment_to_their_last() {
        let start = i64::try_from(START).unwrap();
        let day = i64::try_from(DAY_MS).unwrap();
        for (text, expected) in [
            ("2026-01-01T00:00:00Z", Some((start, start))),
            ("2026-01-01", Some((start, start + day - 1))),
            ("2026-01", Some((start, start + 31 * day - 1))),
            ("soon", None),
        ] {
            assert_eq!(moments(text, &TimeZone::UTC), expected, "{text}");
        }
    }
}
