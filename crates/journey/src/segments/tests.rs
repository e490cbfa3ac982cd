use super::*;
use crate::time::zone;
use proptest::prelude::*;
use serde_json::json;

fn ms(text: &str) -> u64 {
    u64::try_from(fhir::date::parse(text).unwrap().start_ms).unwrap()
}

fn segment(all: &str) -> Segment {
    let node = Node::parse(&format!("title: Some\nall: {all}\n")).unwrap();
    Segment::decode("some", &node, &zone("UTC").unwrap(), "TREAT").unwrap()
}

fn resource(value: Value) -> Resource {
    Resource::from_value(value).unwrap()
}

/// A record of a person born on a day, and these resources.
fn known(born: &str, rows: &[Value]) -> Known {
    let mut known = Known {
        person: Some(resource(
            json!({"resourceType": "Patient", "id": "p", "birthDate": born}),
        )),
        ..Known::default()
    };
    for row in rows {
        let row = resource(row.clone());
        known.of.entry(row.kind()).or_default().push(row);
    }
    known
}

fn measured(at: &str) -> Value {
    json!({"resourceType": "Observation", "id": "o", "status": "final", "effectiveDateTime": at})
}

fn look(segment: &Segment, known: &Known, now: &str) -> (Option<bool>, Option<String>) {
    let found = segment.look(known, &zone("UTC").unwrap(), ms(now));
    let next = found.next_ms.map(fhir::date::instant);
    (found.inside, next)
}

fn at(text: &str) -> Option<String> {
    Some(fhir::date::instant(ms(text)))
}

#[test]
fn ages_change_on_birthdays() {
    let between = segment("[{aged: {from: 60, to: 74}}]");
    for (born, now, inside, next) in [
        (
            "1966-11-30",
            "2026-11-29T12:00:00Z",
            Some(false),
            at("2026-11-30"),
        ),
        (
            "1966-11-30",
            "2026-11-30T00:00:00Z",
            Some(true),
            at("2041-11-30"),
        ),
        (
            "1951-11-30",
            "2026-11-29T23:59:59Z",
            Some(true),
            at("2026-11-30"),
        ),
        ("1951-11-30", "2026-11-30T00:00:00Z", Some(false), None),
        // A birthday that the year doesn't have is the day before.
        (
            "1968-02-29",
            "2043-02-27T12:00:00Z",
            Some(true),
            at("2043-02-28"),
        ),
        // A year is no birthday.
        ("1966", "2026-11-29T12:00:00Z", Some(false), None),
    ] {
        assert_eq!(
            look(&between, &known(born, &[]), now),
            (inside, next),
            "{born} {now}"
        );
    }
    let newborn = segment("[{aged: {to: 0}}]");
    let born = known("2026-11-20", &[]);
    assert_eq!(look(&newborn, &born, "2026-11-19T00:00:00Z").0, Some(false));
    assert_eq!(
        look(&newborn, &born, "2026-11-29T00:00:00Z"),
        (Some(true), at("2027-11-20"))
    );
}

#[test]
fn windows_move_and_say_when_they_end() {
    let none =
        segment("[{has_no: Observation, where: status = 'final', dated: effective, within: 12mo}]");
    let some =
        segment("[{has: Observation, where: status = 'final', dated: effective, within: 12mo}]");
    for (said, now, there, next) in [
        ("2026-01-31", "2026-11-30T00:00:00Z", true, at("2027-01-31")),
        (
            "2026-01-31T10:00:00Z",
            "2027-01-31T09:59:59Z",
            true,
            at("2027-01-31T10:00:00Z"),
        ),
        ("2026-01-31T10:00:00Z", "2027-01-31T10:00:00Z", false, None),
        // What is ahead counts from then on.
        (
            "2026-12-24T10:00:00Z",
            "2026-11-30T00:00:00Z",
            false,
            at("2026-12-24T10:00:00Z"),
        ),
        // A month counts from its first day until a year after its last.
        ("2025-11", "2026-11-29T23:59:59Z", true, at("2026-11-30")),
        ("2025-11", "2026-11-30T00:00:00Z", false, None),
        ("2025", "2026-12-30T00:00:00Z", true, at("2026-12-31")),
    ] {
        let record = known("1950-01-01", &[measured(said)]);
        assert_eq!(
            look(&some, &record, now),
            (Some(there), next.clone()),
            "{said} {now}"
        );
        assert_eq!(
            look(&none, &record, now),
            (Some(!there), next),
            "{said} {now}"
        );
    }
    // By the patient's own clock.
    let mut record = known("1950-01-01", &[measured("2026-01-31")]);
    let tz = json!([{"url": "http://hl7.org/fhir/StructureDefinition/tz-code", "valueCode": "America/New_York"}]);
    if let Some(person) = &mut record.person {
        person.set("extension", tz);
    }
    assert_eq!(
        look(&none, &record, "2027-01-31T04:59:59Z"),
        (Some(false), at("2027-01-31T05:00:00Z"))
    );
    // What says no date doesn't count.
    let undated = json!({"resourceType": "Observation", "id": "o", "status": "final"});
    let record = known("1950-01-01", &[undated]);
    assert_eq!(
        look(&none, &record, "2026-11-30T00:00:00Z"),
        (Some(true), None)
    );
}

#[test]
fn periods_count_while_they_last() {
    let during = segment("[{has: Encounter, dated: period}]");
    let since = segment("[{has: Encounter, dated: period, within: 21d}]");
    let stay = |period: Value| {
        let stay =
            json!({"resourceType": "Encounter", "id": "e", "status": "finished", "period": period});
        known("1950-01-01", &[stay])
    };
    let week = stay(json!({"start": "2026-11-01", "end": "2026-11-07"}));
    for (now, inside, next) in [
        ("2026-10-30T00:00:00Z", false, at("2026-11-01")),
        ("2026-11-07T23:00:00Z", true, at("2026-11-08")),
        ("2026-11-08T00:00:00Z", false, None),
    ] {
        assert_eq!(look(&during, &week, now), (Some(inside), next), "{now}");
    }
    assert_eq!(
        look(&since, &week, "2026-11-27T00:00:00Z"),
        (Some(true), at("2026-11-28"))
    );
    let open = stay(json!({"start": "2026-11-01T10:00:00Z"}));
    assert_eq!(
        look(&since, &open, "2030-01-01T00:00:00Z"),
        (Some(true), None)
    );
}

#[test]
fn what_says_no_date_does_not_count_and_what_can_not_be_told_decides_nothing() {
    let now = "2026-11-30T00:00:00Z";
    for said in [
        json!({"onsetAge": {"value": 40, "unit": "a"}}),
        json!({"onsetRange": {"low": {"value": 40}}}),
        json!({"onsetPeriod": {}}),
        json!({"onsetString": "long ago"}),
    ] {
        let mut condition = json!({"resourceType": "Condition", "id": "c"});
        for (name, value) in said.as_object().unwrap() {
            condition[name] = value.clone();
        }
        let record = known("1950-01-01", &[condition]);
        let (has, has_no) = (
            segment("[{has: Condition, dated: onset}]"),
            segment("[{has_no: Condition, dated: onset, within: 1y}]"),
        );
        assert_eq!(look(&has, &record, now), (Some(false), None), "{said}");
        assert_eq!(look(&has_no, &record, now), (Some(true), None), "{said}");
    }
    // Two dates of which one was to be named.
    let unclear = "dated: (effective | issued).single(), within: 1y";
    let two = json!({"resourceType": "Observation", "id": "o", "status": "final",
        "effectiveDateTime": "2026-01-31", "issued": "2026-02-01T10:00:00Z"});
    let record = known("1950-01-01", &[two]);
    for has in ["has", "has_no"] {
        let unclear = segment(&format!("[{{{has}: Observation, {unclear}}}]"));
        assert_eq!(look(&unclear, &record, now).0, None, "{has}");
    }
}

#[test]
fn what_is_not_known_decides_nothing() {
    let now = "2026-11-30T00:00:00Z";
    // A condition that can't be evaluated on this resource.
    let unclear = "where: code.coding.code.single() = 'x'";
    let two = json!({"resourceType": "Observation", "id": "o", "status": "final", "code": {"coding": [{"code": "x"}, {"code": "y"}]}});
    let record = known("1950-01-01", &[two]);
    for (all, inside) in [
        (format!("[{{has: Observation, {unclear}}}]"), None),
        (format!("[{{has_no: Observation, {unclear}}}]"), None),
        (
            format!("[{{aged: {{to: 18}}}}, {{has: Observation, {unclear}}}]"),
            Some(false),
        ),
        (
            format!("[{{any: [{{aged: {{from: 18}}}}, {{has: Observation, {unclear}}}]}}]"),
            Some(true),
        ),
        (
            format!("[{{any: [{{aged: {{to: 18}}}}, {{has: Observation, {unclear}}}]}}]"),
            None,
        ),
    ] {
        assert_eq!(look(&segment(&all), &record, now).0, inside, "{all}");
    }
    // What is kept from who looks is not taken to be missing.
    let mut record = known("1950-01-01", &[]);
    let none = segment("[{has_no: Observation}]");
    assert_eq!(look(&none, &record, now).0, Some(true));
    record.kept.insert(ResourceType::Observation);
    assert_eq!(look(&none, &record, now).0, Some(false));
    // The dead are in nothing, nor is a record that another has replaced.
    for over in [
        json!({"deceasedBoolean": true}),
        json!({"link": [{"type": "replaced-by", "other": {"reference": "Patient/q"}}]}),
    ] {
        let mut record = known("1950-01-01", &[]);
        if let (Some(person), Value::Object(members)) = (&mut record.person, over) {
            for (name, value) in members {
                person.set(&name, value);
            }
        }
        assert_eq!(
            look(&segment("[{aged: {from: 18}}]"), &record, now).0,
            Some(false)
        );
    }
}

#[test]
fn a_segment_is_known_by_what_it_says() {
    let one = segment("[{has: Condition, where: 'true', dated: recorded, within: 1y}]");
    let same =
        segment("\n  - within: 1y\n    has: Condition\n    dated: recorded\n    where: \"true\"");
    assert_eq!(one.key, same.key);
    for other in [
        "[{has: Condition, where: 'false', dated: recorded, within: 1y}]",
        "[{has_no: Condition, where: 'true', dated: recorded, within: 1y}]",
        "[{has: Condition, where: 'true', dated: recorded, within: 12mo}]",
        "[{has: Condition, where: 'true', dated: onset, within: 1y}]",
        "[{any: [{has: Condition, where: 'true', dated: recorded, within: 1y}, {aged: {from: 1}}]}]",
    ] {
        assert_ne!(segment(other).key, one.key, "{other}");
    }
}

proptest! {
    /// Until the moment that a look names nothing changes by time alone.
    #[test]
    fn nothing_changes_before_the_next_moment(
        days in prop::collection::vec((0u32..1500, 0u32..24), 0..4),
        stay in (0u32..1500, 0u32..30),
        now_day in 0u32..2000,
        steps in prop::collection::vec(0.0f64..1.0, 4),
        which in 0usize..4,
    ) {
        let all = [
            "[{has_no: Observation, dated: effective, within: 12mo}]",
            "[{has: Observation, dated: effective, within: 90d}, {aged: {from: 18, to: 19}}]",
            "[{any: [{has: Encounter, dated: period, within: 36h}, {has: Observation, dated: effective}]}]",
            "[{has: Encounter, dated: period}, {has_no: Observation, dated: effective, within: 2w}]",
        ];
        let segment = segment(all[which]);
        let begin = ms("2024-01-01");
        let day = 86_400_000u64;
        let rows: Vec<Value> = days.iter().map(|(at_day, hour)| {
            let at_ms = begin + u64::from(*at_day) * day + u64::from(*hour) * 3_600_000;
            let text = fhir::date::instant(at_ms);
            measured(if *hour == 0 { &text[..10] } else { &text })
        }).collect();
        let text = |days: u32| fhir::date::instant(begin + u64::from(days) * day)[..10].to_owned();
        let encounter = json!({"resourceType": "Encounter", "id": "e", "status": "finished",
            "period": {"start": text(stay.0), "end": text(stay.0 + stay.1)}});
        let record = known("2006-06-15", &[&rows[..], &[encounter]].concat());
        let utc = zone("UTC").unwrap();
        let now_ms = begin + u64::from(now_day) * day + 12_345;
        let found = segment.look(&record, &utc, now_ms);
        let end_ms = found.next_ms.unwrap_or(now_ms + 4000 * day);
        prop_assert!(end_ms > now_ms);
        for step in steps {
            #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some moment in between")]
            let at_ms = now_ms + ((end_ms - 1 - now_ms) as f64 * step) as u64;
            let then = segment.look(&record, &utc, at_ms);
            prop_assert_eq!(then.inside, found.inside, "at {}", fhir::date::instant(at_ms));
            prop_assert_eq!(then.next_ms, found.next_ms);
        }
    }
}

mod members {
    use super::super::members::Members;
    use super::*;
    use std::collections::BTreeSet;

    const YEAR: &str = "[{has_no: Observation, dated: effective, within: 12mo}]";
    const HALF: &str = "[{has_no: Observation, dated: effective, within: 6mo}]";

    /// One look at these, for one journey each.
    fn look(members: &mut Members, now_ms: u64, found: &[(&Segment, &str, Option<bool>)]) {
        let before = members.of.clone();
        for (segment, _, inside) in found {
            members.found(segment, *inside, now_ms);
        }
        for (segment, journey, _) in found {
            members.first(segment, journey, &before);
        }
    }

    #[test]
    fn segments_of_one_name_are_entered_each_by_itself() {
        let (year, half) = (segment(YEAR), segment(HALF));
        let mut members = Members::new("p");
        look(
            &mut members,
            1,
            &[(&year, "a", Some(true)), (&half, "b", Some(false))],
        );
        members.tell(&year, "a");
        // Of another journey, and in it for the first time.
        look(
            &mut members,
            2,
            &[(&year, "a", Some(true)), (&half, "b", Some(true))],
        );
        assert_eq!(members.is_told(&half, "b"), Some(false));
        members.tell(&half, "b");
        // A second stay, while the other goes on.
        look(
            &mut members,
            3,
            &[(&year, "a", Some(true)), (&half, "b", Some(false))],
        );
        look(
            &mut members,
            4,
            &[(&year, "a", Some(true)), (&half, "b", Some(true))],
        );
        assert_eq!(members.is_told(&half, "b"), Some(false));
        assert_eq!(members.of[&half.key].since_ms, 4);
        assert_eq!(members.of[&year.key].since_ms, 1);
    }

    #[test]
    fn a_segment_that_says_something_else_is_taken_over_once() {
        let (year, half) = (segment(YEAR), segment(HALF));
        let mut members = Members::new("p");
        look(&mut members, 1, &[(&year, "a", Some(true))]);
        members.tell(&year, "a");
        // Another version of it, beside the first.
        look(
            &mut members,
            2,
            &[(&year, "a", Some(true)), (&half, "a", Some(true))],
        );
        assert_eq!(members.is_told(&half, "a"), Some(true));
        look(
            &mut members,
            3,
            &[(&year, "a", Some(true)), (&half, "a", Some(false))],
        );
        look(
            &mut members,
            4,
            &[(&year, "a", Some(true)), (&half, "a", Some(true))],
        );
        assert_eq!(members.is_told(&half, "a"), Some(false));
        // In place of the first, which the patient leaves with that.
        let mut members = Members::new("p");
        look(&mut members, 1, &[(&year, "a", Some(true))]);
        members.tell(&year, "a");
        look(
            &mut members,
            2,
            &[(&year, "a", Some(false)), (&half, "a", Some(true))],
        );
        assert_eq!(members.is_told(&half, "a"), Some(true));
        let (keys, names) = ([half.key.clone()], ["some".to_owned()]);
        members.settle(&BTreeSet::from(keys), &BTreeSet::from(names));
        assert!(members.of.contains_key(&half.key));
    }

    #[test]
    fn what_could_not_be_told_is_not_the_first_look() {
        let (year, half) = (segment(YEAR), segment(HALF));
        let mut members = Members::new("p");
        look(&mut members, 1, &[(&year, "a", Some(true))]);
        members.tell(&year, "a");
        look(
            &mut members,
            2,
            &[(&year, "a", Some(true)), (&half, "a", None)],
        );
        look(
            &mut members,
            3,
            &[(&year, "a", Some(true)), (&half, "a", Some(true))],
        );
        assert_eq!(members.is_told(&half, "a"), Some(true));
    }
}
