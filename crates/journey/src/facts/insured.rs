//! Whether a patient is insured, as the record knows: coverages, and what insurers have answered.

use super::list;
use fhir::Resource;
use jiff::tz::TimeZone;
use serde_json::Value;
use std::collections::BTreeMap;

/// Whether a resource with a period (a coverage) is active now. Its period's last day belongs to it, as days are
/// where the journey's people live.
pub(crate) fn is_active(resource: &Resource, now_ms: u64, zone: &TimeZone) -> bool {
    resource.text_at(&["status"]) == Some("active")
        && in_period(resource.get("period"), now_ms, zone)
}

/// How long an insurer's answer counts that names no benefit period.
const ANSWER_HOLDS_MS: i64 = 31 * 86_400_000;

/// Whether the newest answer of any insurer (`CoverageEligibilityResponse`) says that an insurance is in force now.
pub(crate) fn is_eligible<'a>(
    answers: impl Iterator<Item = &'a Resource>,
    now_ms: u64,
    zone: &TimeZone,
) -> bool {
    let now = i64::try_from(now_ms).unwrap_or(i64::MAX);
    let made = |answer: &Resource| {
        let text = answer.text_at(&["created"])?;
        let date = fhir::date::parse(text)?;
        Some(match text.contains('T') {
            true => date.start_ms,
            false => in_zone(date.start_ms, zone),
        })
    };
    let complete = answers.filter(|answer| {
        answer.text_at(&["status"]) == Some("active")
            && answer.text_at(&["outcome"]) == Some("complete")
    });
    // One that is dated later than now can't be the insurer's.
    let dated = complete
        .filter_map(|answer| Some((made(answer)?, answer)))
        .filter(|(made_ms, _)| *made_ms <= now);
    // Of each insurer the newest; of two of one day the one that came last.
    let mut newest: BTreeMap<String, (i64, &str, &Resource)> = BTreeMap::new();
    for (made_ms, answer) in dated {
        let insurer = answer.get("insurer").map(Value::to_string);
        let came = answer.text_at(&["meta", "lastUpdated"]).unwrap_or_default();
        let known = newest.entry(insurer.unwrap_or_default());
        let known = known.or_insert((made_ms, came, answer));
        if (made_ms, came) > (known.0, known.1) {
            *known = (made_ms, came, answer);
        }
    }
    newest.values().any(|(made_ms, _, answer)| {
        list(answer.get("insurance")).iter().any(|insurance| {
            let in_force = insurance.get("inforce") == Some(&Value::Bool(true));
            in_force
                && match insurance.get("benefitPeriod") {
                    Some(period) => in_period(Some(period), now_ms, zone),
                    None => now.saturating_sub(*made_ms) <= ANSWER_HOLDS_MS,
                }
        })
    })
}

/// Whether a period, if there is one, holds now.
fn in_period(period: Option<&Value>, now_ms: u64, zone: &TimeZone) -> bool {
    let now_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
    let date = |name: &str| {
        let text = period?.get(name)?.as_str()?;
        let mut date = fhir::date::parse(text)?;
        // A date alone is no moment until it is said where.
        if !text.contains('T') {
            for at_ms in [&mut date.start_ms, &mut date.end_ms] {
                *at_ms = in_zone(*at_ms, zone);
            }
        }
        Some(date)
    };
    date("start").is_none_or(|start| start.start_ms <= now_ms)
        && date("end").is_none_or(|end| now_ms < end.end_ms)
}

/// The moment at which a zone's clocks say what those of UTC say at a moment.
fn in_zone(utc_ms: i64, zone: &TimeZone) -> i64 {
    let moment = jiff::Timestamp::from_millisecond(utc_ms).ok();
    let there = moment.and_then(|moment| {
        let civil = moment.to_zoned_datetime(TimeZone::UTC).datetime();
        civil.to_zoned_datetime(zone.clone()).ok()
    });
    there.map_or(utc_ms, |there| there.timestamp().as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn resource(value: Value) -> Resource {
        Resource::from_value(value).unwrap()
    }

    #[test]
    fn coverages_hold_in_their_period() {
        let coverage = |status: &str, period: Value| {
            let made =
                json!({"resourceType": "Coverage", "id": "c", "status": status, "period": period});
            is_active(&resource(made), 1_795_680_000_000, &TimeZone::UTC)
        };
        // It is 26 November 2026, 08:00.
        for (status, period, active) in [
            (
                "active",
                json!({"start": "2026-01-01", "end": "2026-11-26"}),
                true,
            ),
            ("active", json!({"start": "2026-11-26"}), true),
            ("active", json!({"end": "2026"}), true),
            ("active", Value::Null, true),
            ("active", json!({"end": "2026-11-25"}), false),
            ("active", json!({"start": "2026-11-27"}), false),
            ("cancelled", json!({"start": "2026-01-01"}), false),
            ("draft", Value::Null, false),
        ] {
            assert_eq!(
                coverage(status, period.clone()),
                active,
                "{status} {period}"
            );
        }
    }

    #[test]
    fn what_the_insurer_answered_last_counts() {
        let answer = |created: &str, outcome: &str, insurance: Value| {
            resource(
                json!({"resourceType": "CoverageEligibilityResponse", "status": "active", "outcome": outcome,
                "created": created, "insurance": [insurance]}),
            )
        };
        let in_force = |period: Value| json!({"inforce": true, "benefitPeriod": period});
        let year = in_force(json!({"start": "2026-01-01", "end": "2026-12-31"}));
        let over = in_force(json!({"start": "2025-01-01", "end": "2025-12-31"}));
        let open = json!({"inforce": true});
        let not = json!({"inforce": false});
        for (name, answers, eligible) in [
            ("nobody asked", vec![], false),
            (
                "in force",
                vec![answer("2026-03-01", "complete", year.clone())],
                true,
            ),
            (
                "its period is over",
                vec![answer("2026-03-01", "complete", over)],
                false,
            ),
            (
                "without a period, of this month",
                vec![answer("2026-11-01", "complete", open.clone())],
                true,
            ),
            (
                "without a period, of long ago",
                vec![answer("2026-10-01", "complete", open)],
                false,
            ),
            (
                "not in force",
                vec![answer("2026-11-01", "complete", not.clone())],
                false,
            ),
            (
                "the newest counts, whatever the order",
                vec![
                    answer("2026-11-02", "complete", not.clone()),
                    answer("2026-03-01", "complete", year.clone()),
                ],
                false,
            ),
            (
                "an error is no answer",
                vec![
                    answer("2026-11-02", "error", not),
                    answer("2026-03-01", "complete", year.clone()),
                ],
                true,
            ),
            (
                "of tomorrow",
                vec![answer("2026-11-27", "complete", year)],
                false,
            ),
        ] {
            let told = is_eligible(answers.iter(), 1_795_680_000_000, &TimeZone::UTC);
            assert_eq!(told, eligible, "{name}");
            let turned = answers.iter().rev();
            assert_eq!(
                is_eligible(turned, 1_795_680_000_000, &TimeZone::UTC),
                eligible,
                "{name}, turned"
            );
        }
        let of = |insurer: &str, updated: &str, in_force: bool| {
            resource(
                json!({"resourceType": "CoverageEligibilityResponse", "status": "active", "outcome": "complete",
                "meta": {"lastUpdated": updated}, "created": "2026-11-26",
                "insurer": {"reference": format!("Organization/{insurer}")}, "insurance": [{"inforce": in_force}]}),
            )
        };
        let (early, late) = ("2026-11-26T05:00:00Z", "2026-11-26T06:00:00Z");
        for (name, answers, eligible) in [
            (
                "another insurer says no",
                [of("a", early, true), of("b", late, false)],
                true,
            ),
            (
                "the same says no later",
                [of("a", early, true), of("a", late, false)],
                false,
            ),
            (
                "the same says yes later",
                [of("a", early, false), of("a", late, true)],
                true,
            ),
        ] {
            for order in [[0, 1], [1, 0]] {
                let answers = order.map(|at: usize| &answers[at]);
                let told = is_eligible(answers.into_iter(), 1_795_680_000_000, &TimeZone::UTC);
                assert_eq!(told, eligible, "{name}");
            }
        }
        // It is 27 November already in Auckland.
        let auckland = crate::time::zone("Pacific/Auckland").unwrap();
        let today = answer("2026-11-27", "complete", json!({"inforce": true}));
        let now_ms = 1_795_680_000_000 + 4 * 3_600_000;
        assert!(is_eligible([&today].into_iter(), now_ms, &auckland));
        assert!(!is_eligible([&today].into_iter(), now_ms, &TimeZone::UTC));
    }

    /// The last day of a coverage is over when it is over where the journey's people live.
    #[test]
    fn days_of_coverages_are_those_of_the_journeys_zone() {
        let ends = resource(json!({"resourceType": "Coverage", "status": "active",
            "period": {"start": "2026-11-26", "end": "2026-11-26"}}));
        let timed = resource(json!({"resourceType": "Coverage", "status": "active",
            "period": {"end": "2026-11-26T12:00:00Z"}}));
        for (zone, utc, active, by_time) in [
            ("UTC", "2026-11-26T23:59:00Z", true, false),
            ("UTC", "2026-11-27T00:00:00Z", false, false),
            ("America/Los_Angeles", "2026-11-27T07:59:00Z", true, false),
            ("America/Los_Angeles", "2026-11-27T08:00:00Z", false, false),
            ("America/Los_Angeles", "2026-11-26T07:59:00Z", false, true),
            ("Pacific/Auckland", "2026-11-26T10:59:00Z", true, true),
            ("Pacific/Auckland", "2026-11-26T11:00:00Z", false, true),
        ] {
            let now_ms = fhir::date::parse(utc).unwrap().start_ms.unsigned_abs();
            let zone_there = crate::time::zone(zone).unwrap();
            assert_eq!(
                is_active(&ends, now_ms, &zone_there),
                active,
                "{zone} {utc}"
            );
            assert_eq!(
                is_active(&timed, now_ms, &zone_there),
                by_time,
                "{zone} {utc}"
            );
        }
    }
}
