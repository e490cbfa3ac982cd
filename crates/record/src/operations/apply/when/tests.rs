//! When actions are, in tables.

use super::*;

/// 1 March 2026, noon.
const NOON_MS: i64 = 1_772_366_400_000;

/// The times of actions, as `id start end`; each is written as `id`, `in` which group, `timing`, relations.
fn times(actions: &Value) -> Result<Vec<String>, String> {
    let list = actions.as_array().unwrap();
    let place_of = |id: &Value| list.iter().position(|one| one["id"] == *id);
    let mut timed: Vec<Timed<'_>> = list
        .iter()
        .map(|one| Timed {
            id: one["id"].as_str(),
            place: format!("at {}", one["id"].as_str().unwrap()),
            parent: one.get("in").and_then(place_of),
            parts: Vec::new(),
            timing: timing_of(one),
            days: (one["days"].as_array().into_iter().flatten())
                .filter_map(Value::as_i64)
                .collect(),
            related: one["related"].as_array().into_iter().flatten().collect(),
        })
        .collect();
    for place in 0..timed.len() {
        if let Some(parent) = timed[place].parent {
            timed[parent].parts.push(place);
        }
    }
    let born_ms = fhir::date::parse("1960-02-29").unwrap().start_ms;
    let spans = Times::of(&timed, NOON_MS, Some(born_ms));
    let spans = spans.map_err(|fault| format!("{}: {}", fault.place, fault.words))?;
    let said = |(one, span): (&Value, &Span)| {
        let end = span.end_ms.map_or_else(|| "-".to_owned(), instant);
        format!(
            "{} {} {end}",
            one["id"].as_str().unwrap(),
            instant(span.start_ms)
        )
        .replace(":00.000Z", "")
    };
    Ok(list.iter().zip(&spans).map(said).collect())
}

fn check(actions: &Value, expected: &[&str]) {
    assert_eq!(times(actions).unwrap(), expected, "{actions}");
}

#[test]
fn actions_are_when_their_timing_says() {
    let d = |value: i64, unit: &str| json!({"value": value, "unit": unit});
    for (kind, timing, expected) in [
        ("DateTime", json!("2026-04-01"), "a 2026-04-01T00:00 -"),
        (
            "Period",
            json!({"start": "2026-04-01", "end": "2026-04-03"}),
            "a 2026-04-01T00:00 2026-04-04T00:00",
        ),
        (
            "Age",
            json!({"value": 65, "code": "a"}),
            "a 2025-02-28T00:00 -",
        ),
        ("Duration", d(2, "d"), "a 2026-03-01T12:00 2026-03-03T12:00"),
        (
            "Duration",
            d(1, "mo"),
            "a 2026-03-01T12:00 2026-04-01T12:00",
        ),
        (
            "Range",
            json!({"low": d(1, "h"), "high": d(2, "h")}),
            "a 2026-03-01T13:00 2026-03-01T14:00",
        ),
        (
            "Timing",
            json!({"event": ["2026-04-01", "2026-04-05"]}),
            "a 2026-04-01T00:00 2026-04-05T00:00",
        ),
        (
            "Timing",
            json!({"repeat": {"boundsDuration": d(1, "wk"), "frequency": 1}}),
            "a 2026-03-01T12:00 2026-03-08T12:00",
        ),
        (
            "Timing",
            json!({"repeat": {"frequency": 1}}),
            "a 2026-03-01T12:00 -",
        ),
        // Ten times, twice a day: five days.
        (
            "Timing",
            json!({"repeat": {"count": 10, "frequency": 2, "period": 1, "periodUnit": "d"}}),
            "a 2026-03-01T12:00 2026-03-06T12:00",
        ),
        (
            "Timing",
            json!({"repeat": {"count": 2, "duration": 21, "durationUnit": "d"}}),
            "a 2026-03-01T12:00 2026-04-12T12:00",
        ),
        (
            "Timing",
            json!({"repeat": {"count": 3, "frequency": 1, "period": 1, "periodUnit": "wk", "boundsDuration": d(1, "wk")}}),
            "a 2026-03-01T12:00 2026-03-08T12:00",
        ),
    ] {
        let member = format!("timing{kind}");
        let actions = json!([{"id": "a", member: timing}]);
        check(&actions, &[expected]);
    }
}

#[test]
fn actions_are_when_their_relations_say() {
    let lasts = json!({"value": 2, "unit": "h"});
    for (how, offset, expected) in [
        (
            "after-end",
            json!({"offsetDuration": {"value": 1, "unit": "h"}}),
            "b 2026-03-01T15:00 -",
        ),
        ("after", json!({}), "b 2026-03-01T14:00 -"),
        (
            "after-start",
            json!({"offsetDuration": {"value": 30, "unit": "min"}}),
            "b 2026-03-01T12:30 -",
        ),
        ("concurrent", json!({}), "b 2026-03-01T12:00 -"),
        ("concurrent-with-end", json!({}), "b 2026-03-01T14:00 -"),
        (
            "before-start",
            json!({"offsetDuration": {"value": 1, "unit": "d"}}),
            "b 2026-02-28T12:00 -",
        ),
        ("before-end", json!({}), "b 2026-03-01T14:00 -"),
        (
            "after-end",
            json!({"offsetRange": {"low": {"value": 1, "unit": "h"}, "high": {"value": 3, "unit": "h"}}}),
            "b 2026-03-01T15:00 2026-03-01T17:00",
        ),
        (
            "before",
            json!({"offsetRange": {"low": {"value": 1, "unit": "h"}, "high": {"value": 3, "unit": "h"}}}),
            "b 2026-03-01T09:00 2026-03-01T11:00",
        ),
    ] {
        let mut related = json!({"actionId": "a", "relationship": how});
        let members = offset.as_object().unwrap().clone();
        related.as_object_mut().unwrap().extend(members);
        // Whatever order they are written in.
        for actions in [
            json!([{"id": "b", "related": [related]}, {"id": "a", "timingDuration": lasts}]),
            json!([{"id": "a", "timingDuration": lasts}, {"id": "b", "related": [related]}]),
        ] {
            let found = times(&actions).unwrap();
            assert!(found.contains(&expected.to_owned()), "{how}: {found:?}");
        }
    }
}

#[test]
fn groups_and_chains() {
    let hour = json!({"value": 1, "unit": "h"});
    let after =
        |of: &str| json!([{"actionId": of, "relationship": "after-end", "offsetDuration": hour}]);
    // A group ends with the last of its parts; what lies in one begins with it.
    check(
        &json!([
            {"id": "g", "related": after("x")},
            {"id": "x", "timingDuration": hour},
            {"id": "p", "in": "g"},
            {"id": "q", "in": "g", "related": after("p"), "timingDuration": hour},
            {"id": "z", "related": after("g")},
        ]),
        &[
            "g 2026-03-01T14:00 -",
            "x 2026-03-01T12:00 2026-03-01T13:00",
            "p 2026-03-01T14:00 -",
            "q 2026-03-01T15:00 2026-03-01T16:00",
            "z 2026-03-01T17:00 -",
        ],
    );
    // Of several, after the last; between two, for as long as they leave.
    let mut both = after("x");
    both.as_array_mut()
        .unwrap()
        .push(json!({"actionId": "y", "relationship": "before-start"}));
    check(
        &json!([
            {"id": "x", "timingDuration": hour},
            {"id": "y", "timingDateTime": "2026-03-02T00:00:00Z"},
            {"id": "z", "related": both},
        ]),
        &[
            "x 2026-03-01T12:00 2026-03-01T13:00",
            "y 2026-03-02T00:00 -",
            "z 2026-03-01T14:00 2026-03-02T00:00",
        ],
    );
    // As long before as it lasts.
    check(
        &json!([
            {"id": "y", "timingDateTime": "2026-03-02T00:00:00Z"},
            {"id": "z", "timingDuration": hour, "related": [{"actionId": "y", "relationship": "before-start"}]},
        ]),
        &[
            "y 2026-03-02T00:00 -",
            "z 2026-03-01T23:00 2026-03-02T00:00",
        ],
    );
}

/// A count ends what has a day to begin with and none to end.
#[test]
fn what_is_counted_ends() {
    let timing = json!({"repeat": {"boundsPeriod": {"start": "2026-04-01"}, "count": 3, "period": 1, "periodUnit": "d"}});
    check(
        &json!([
            {"id": "a", "timingTiming": timing},
            {"id": "b", "related": [{"actionId": "a", "relationship": "after-end"}]}
        ]),
        &[
            "a 2026-04-01T00:00 2026-04-04T00:00",
            "b 2026-04-04T00:00 -",
        ],
    );
}

#[test]
fn days_are_counted_in_each_cycle() {
    let cycles =
        |count: i64| json!({"repeat": {"count": count, "duration": 21, "durationUnit": "d"}});
    check(
        &json!([
            {"id": "c", "timingTiming": cycles(2)},
            {"id": "a", "in": "c", "days": [1, 8]},
            {"id": "b", "in": "c", "days": [1], "related": [{"actionId": "a", "relationship": "concurrent-with-start"}]},
            {"id": "z", "related": [{"actionId": "c", "relationship": "after-end"}]},
        ]),
        &[
            "c 2026-03-01T12:00 2026-04-12T12:00",
            "a 2026-03-01T12:00 2026-03-29T12:00",
            "b 2026-03-01T12:00 2026-03-22T12:00",
            "z 2026-04-12T12:00 -",
        ],
    );
    for (actions, words) in [
        (json!([{"id": "a", "days": [1]}]), "no group around"),
        (
            json!([{"id": "c", "timingTiming": cycles(2)}, {"id": "a", "in": "c", "days": [22]}]),
            "doesn't have",
        ),
        (
            json!([{"id": "c", "timingTiming": cycles(2)}, {"id": "a", "in": "c", "days": [i64::MIN]}]),
            "doesn't have",
        ),
        (
            json!([{"id": "c", "timingTiming": cycles(2)}, {"id": "a", "in": "c", "days": [0]}]),
            "doesn't have",
        ),
        (
            json!([{"id": "c", "timingTiming": cycles(300)}, {"id": "a", "in": "c", "days": [1, 2]}]),
            "more than 500",
        ),
        (
            json!([{"id": "c", "timingTiming": cycles(2)}, {"id": "a", "in": "c", "days": [2]},
                {"id": "b", "in": "c", "days": [1], "related": [{"actionId": "a", "relationship": "after-end"}]}]),
            "not so on the days",
        ),
        (
            json!([{"id": "c", "timingTiming": cycles(2)}, {"id": "a", "in": "c", "days": [2], "timingDuration": {"value": 1, "unit": "h"}}]),
            "timing besides",
        ),
    ] {
        let said = times(&actions).unwrap_err();
        assert!(said.contains(words), "{actions}: {said}");
    }
}

#[test]
fn what_can_not_be_is_said() {
    let related = |of: &str, how: &str| json!([{"actionId": of, "relationship": how}]);
    let mut squeezed = related("a", "after");
    let before = json!({"actionId": "b", "relationship": "before"});
    squeezed.as_array_mut().unwrap().push(before);
    for (actions, words) in [
        (
            json!([{"id": "a", "related": related("b", "after")}, {"id": "b", "related": related("a", "after")}]),
            "depends on itself",
        ),
        (
            json!([{"id": "a", "related": related("a", "after")}]),
            "no other action",
        ),
        (
            json!([{"id": "a", "related": related("gone", "after")}]),
            "no other action",
        ),
        (
            json!([{"id": "g"}, {"id": "a", "in": "g", "related": related("g", "after-end")}]),
            "depends on itself",
        ),
        (
            json!([{"id": "a", "timingDateTime": "2026-05-01"}, {"id": "b"}, {"id": "c", "related": squeezed}]),
            "ends later",
        ),
        (
            json!([{"id": "a", "timingTiming": {"repeat": {"frequency": 1, "period": 1, "periodUnit": "d"}}},
                {"id": "b", "related": related("a", "after-end")}]),
            "without an end",
        ),
        (
            json!([{"id": "a", "timingDuration": {"value": 1, "unit": "kg"}}]),
            "unit of time",
        ),
        (
            json!([{"id": "a", "timingDuration": {"value": 1e9, "unit": "d"}}]),
            "hundred years",
        ),
        (
            json!([{"id": "a", "timingDuration": {"value": 1.5, "unit": "mo"}}]),
            "whole numbers",
        ),
        (
            json!([{"id": "a", "timingDuration": {"unit": "h"}}]),
            "no length",
        ),
        (
            json!([{"id": "a", "timingDuration": {"value": 1, "unit": "h", "comparator": "<"}}]),
            "comparator",
        ),
    ] {
        let said = times(&actions).unwrap_err();
        assert!(said.contains(words), "{actions}: {said}");
    }
}
