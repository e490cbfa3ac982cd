//! Stays and deaths after a discharge, and gaps, as somebody with the record would count them.

use super::*;
use crate::time::HOUR_MS;
use serde_json::json;
use std::sync::Arc;

const SMALL: &str = include_str!("../small.yaml");
/// 2026-01-01: the discharge, and the start of the journey.
const START: u64 = 1_767_225_600_000;

fn definition() -> Arc<Definition> {
    Definition::compile(SMALL, 1).unwrap()
}

fn state(key: &str) -> State {
    let state = json!({"f": 1, "j": "small", "v": 1, "p": "p", "k": key, "s": START, "n": 1});
    State::from_json(state.to_string().as_bytes()).unwrap()
}

/// A moment so many hours after the discharge.
fn at(hours: i64) -> String {
    let hour = i64::try_from(HOUR_MS).unwrap();
    fhir::date::moment(i64::try_from(START).unwrap() + hours * hour)
}

fn stay(id: &str, start: Option<String>, end: Option<String>, more: &Value) -> Value {
    let mut stay = json!({
        "resourceType": "Encounter", "id": id, "status": if end.is_some() { "finished" } else { "in-progress" },
        "class": {"system": CLASSES, "code": "IMP"}, "subject": {"reference": "Patient/p"}, "period": {}
    });
    for (name, value) in [("start", start), ("end", end)] {
        if let Some(value) = value {
            stay["period"][name] = json!(value);
        }
    }
    for (name, value) in more.as_object().unwrap() {
        stay[name] = value.clone();
    }
    stay
}

fn index() -> Value {
    stay("index", Some(at(-100)), Some(at(0)), &json!({}))
}

fn again(hours: i64, more: &Value) -> Value {
    stay("again", Some(at(hours)), Some(at(hours + 20)), more)
}

fn known(rows: &[Value], person: &Value) -> Known {
    let mut patient = json!({"resourceType": "Patient", "id": "p"});
    for (name, value) in person.as_object().unwrap() {
        patient[name] = value.clone();
    }
    let of = |value: &Value| Resource::from_value(value.clone()).unwrap();
    let mut known = Known {
        person: Some(of(&patient)),
        ..Known::default()
    };
    let rows = rows.iter().map(of).collect();
    known.of.insert(ResourceType::Encounter, rows);
    known
}

fn came(key: &str, known: &Known, day: u64) -> (OutcomeOf, Came) {
    let now_ms = START + day * DAY_MS;
    let mut found = outcomes(&definition(), &state(key), known, DAYS, now_ms);
    assert_eq!(found.len(), 1, "this journey has no gaps");
    let found = found.remove(0);
    (found.of, found.came)
}

fn yes(hours: u64) -> Came {
    Came::Yes {
        after_ms: hours * HOUR_MS,
    }
}

/// By the definition that CMS has: any unplanned stay within thirty days of the discharge, of which the first decides.
#[test]
fn who_was_in_hospital_again_is_counted_as_by_hand() {
    let plain = json!({});
    let elective = json!({"priority": {"coding": [{"system": ELECTIVE.0, "code": "EL"}]}});
    let moved = json!({"hospitalization": {"admitSource": {"coding": [{"system": TRANSFERRED.0, "code": "hosp-trans"}]}}});
    let second =
        |hours: i64, more: &Value| stay("second", Some(at(hours)), Some(at(hours + 20)), more);
    let cases: Vec<(&str, Vec<Value>, Came)> = vec![
        ("nothing more", vec![], Came::No),
        ("after ten days", vec![again(240, &plain)], yes(240)),
        ("at the last moment", vec![again(720, &plain)], yes(720)),
        ("a moment too late", vec![again(721, &plain)], Came::No),
        (
            "still there",
            vec![stay("again", Some(at(5)), None, &plain)],
            yes(5),
        ),
        (
            "the first of two",
            vec![second(300, &plain), again(240, &plain)],
            yes(240),
        ),
        ("planned", vec![again(240, &elective)], Came::Planned),
        (
            "unplanned after a planned one",
            vec![again(240, &elective), second(400, &plain)],
            Came::Planned,
        ),
        (
            "planned after an unplanned one",
            vec![again(240, &plain), second(400, &elective)],
            yes(240),
        ),
        (
            "an acute one",
            vec![again(
                240,
                &json!({"class": {"system": CLASSES, "code": "ACUTE"}}),
            )],
            yes(240),
        ),
        (
            "another one without a system",
            vec![again(240, &json!({"class": {"code": "NONAC"}}))],
            yes(240),
        ),
        (
            "in the ward for a day",
            vec![again(
                240,
                &json!({"class": {"system": CLASSES, "code": "AMB"}}),
            )],
            Came::No,
        ),
        (
            "in the emergency room alone",
            vec![again(
                240,
                &json!({"class": {"system": CLASSES, "code": "EMER"}}),
            )],
            Came::No,
        ),
        (
            "called off",
            vec![again(240, &json!({"status": "cancelled"}))],
            Came::No,
        ),
        (
            "ahead",
            vec![again(240, &json!({"status": "planned"}))],
            Came::No,
        ),
        (
            "by mistake",
            vec![again(240, &json!({"status": "entered-in-error"}))],
            Came::No,
        ),
        (
            "a ward of the same stay",
            vec![again(
                240,
                &json!({"partOf": {"reference": "Encounter/index"}}),
            )],
            Came::No,
        ),
        ("one of before", vec![again(-3000, &plain)], Came::No),
        // Home after 20 hours in the second one.
        (
            "a stay that went on at once",
            vec![again(0, &plain)],
            Came::No,
        ),
        (
            "one that went on at once, and back",
            vec![again(0, &plain), second(120, &plain)],
            yes(100),
        ),
        (
            "one that goes on at once",
            vec![stay("again", Some(at(0)), None, &plain)],
            Came::NotYet,
        ),
        (
            "one that began before, home from it after 50 hours, and back",
            vec![
                stay("again", Some(at(-10)), Some(at(50)), &plain),
                second(110, &plain),
            ],
            yes(60),
        ),
        (
            "one that began before and goes on",
            vec![stay("again", Some(at(-10)), None, &plain)],
            Came::NotYet,
        ),
        (
            "one that began before and was over nobody knows when",
            vec![stay(
                "again",
                Some(at(-10)),
                None,
                &json!({"status": "finished"}),
            )],
            Came::Unknown,
        ),
        (
            "one that was over as the other was",
            vec![stay("again", Some(at(-10)), Some(at(0)), &plain)],
            Came::No,
        ),
        // What was over before the discharge doesn't set it back.
        (
            "moved before, and back",
            vec![
                stay("again", Some(at(-20)), Some(at(-5)), &moved),
                second(715, &plain),
            ],
            yes(715),
        ),
        // Moved to another hospital, home from there after 20 hours.
        ("moved, and never back", vec![again(2, &moved)], Came::No),
        (
            "moved, and back",
            vec![again(2, &moved), second(122, &plain)],
            yes(100),
        ),
        (
            "moved, and 30 days later",
            vec![again(2, &moved), second(742, &plain)],
            yes(720),
        ),
        (
            "moved, and still there",
            vec![stay("again", Some(at(2)), None, &moved)],
            Came::NotYet,
        ),
        (
            "from elsewhere, ten days later",
            vec![again(240, &moved)],
            yes(240),
        ),
        (
            "nobody knows when",
            vec![stay("again", None, None, &plain)],
            Came::Unknown,
        ),
        (
            "begun nobody knows when, over before",
            vec![stay("again", None, Some(at(-50)), &plain)],
            Came::No,
        ),
        (
            "the day of the discharge",
            vec![stay("again", Some("2026-01-01".into()), None, &plain)],
            Came::Unknown,
        ),
        (
            "the day after it",
            vec![stay("again", Some("2026-01-02".into()), None, &plain)],
            yes(24),
        ),
    ];
    for (name, mut rows, expected) in cases {
        rows.push(index());
        let known = known(&rows, &json!({}));
        assert_eq!(
            came("index", &known, 40),
            (OutcomeOf::Readmission, expected),
            "{name}"
        );
    }
}

/// Who has not been observed for all the days is in none of the two, also who is back already: else those who come
/// back soon would be too many of them.
#[test]
fn who_was_not_observed_for_long_enough_is_apart() {
    for rows in [vec![index()], vec![index(), again(24, &json!({}))]] {
        let known = known(&rows, &json!({}));
        assert_eq!(came("index", &known, 29).1, Came::NotYet);
        assert_ne!(came("index", &known, 30).1, Came::NotYet);
    }
}

#[test]
fn the_dead_are_apart_unless_they_were_back_before() {
    let died = |when: &str| json!({"deceasedDateTime": when});
    for (name, rows, person, expected) in [
        ("within the days", vec![index()], died(&at(240)), Came::Died),
        ("after them", vec![index()], died(&at(721)), Came::No),
        ("on a day", vec![index()], died("2026-01-12"), Came::Died),
        ("in hospital", vec![index()], died(&at(0)), Came::Died),
        (
            "back before",
            vec![index(), again(100, &json!({}))],
            died(&at(110)),
            yes(100),
        ),
        (
            "nobody knows when",
            vec![index()],
            json!({"deceasedBoolean": true}),
            Came::Unknown,
        ),
        (
            "some time of the year",
            vec![index()],
            died("2026"),
            Came::Unknown,
        ),
        (
            "back, and nobody knows when",
            vec![index(), again(100, &json!({}))],
            json!({"deceasedBoolean": true}),
            yes(100),
        ),
        (
            "alive",
            vec![index()],
            json!({"deceasedBoolean": false}),
            Came::No,
        ),
    ] {
        assert_eq!(
            came("index", &known(&rows, &person), 40).1,
            expected,
            "{name}"
        );
    }
}

#[test]
fn what_can_not_be_told_is_not_told() {
    let mut hidden = known(&[index(), again(240, &json!({}))], &json!({}));
    hidden.kept.insert(ResourceType::Encounter);
    assert_eq!(came("index", &hidden, 40).1, Came::Unknown);
    let mut nobody = known(&[index()], &json!({}));
    nobody.person = None;
    assert_eq!(came("index", &nobody, 40).1, Came::Unknown);
    let replaced = json!({"link": [{"type": "replaced-by", "other": {"reference": "Patient/q"}}]});
    let merged = known(&[index(), again(240, &json!({}))], &replaced);
    assert_eq!(came("index", &merged, 40).1, Came::Unknown);
    // They are in it still.
    let going = known(
        &[stay("index", Some(at(-100)), None, &json!({}))],
        &json!({}),
    );
    assert_eq!(came("index", &going, 40).1, Came::NotYet);
    // The stay that began it is not there, has no end, or was a mistake.
    let none = known(&[again(240, &json!({}))], &json!({}));
    assert_eq!(
        came("index", &none, 40),
        (OutcomeOf::Readmission, Came::Unknown)
    );
    for mistaken in [
        stay(
            "index",
            Some(at(-100)),
            None,
            &json!({"status": "finished"}),
        ),
        stay(
            "index",
            Some(at(-100)),
            Some(at(0)),
            &json!({"status": "entered-in-error"}),
        ),
    ] {
        let known = known(&[mistaken], &json!({}));
        assert_eq!(came("index", &known, 40).1, Came::Unknown);
    }
}

/// Journeys that no discharge began are counted from their start.
#[test]
fn without_a_discharge_days_are_counted_from_the_start() {
    let visit = stay(
        "index",
        Some(at(-5)),
        Some(at(-1)),
        &json!({"class": {"code": "AMB"}}),
    );
    let rows = [visit, again(240, &json!({}))];
    for key in ["request:7", "journey:7", "segment/p/word/7", "index"] {
        let found = came(key, &known(&rows, &json!({})), 40);
        assert_eq!(found, (OutcomeOf::Admission, yes(240)), "{key}");
    }
    // A journey that begins at a date is keyed by the stay and that date.
    let known = known(&[index(), again(240, &json!({}))], &json!({}));
    let found = came("index/2026-01-01", &known, 40);
    assert_eq!(found, (OutcomeOf::Readmission, yes(240)));
}

/// Whose stay goes on when a journey begins comes home later.
#[test]
fn who_is_in_hospital_at_the_start_is_observed_from_the_end_of_that() {
    let stay = |end: Option<i64>| stay("stay", Some(at(-10)), end.map(at), &json!({}));
    let back = stay(Some(40));
    let rows = [back, again(140, &json!({}))];
    let found = came("request:7", &known(&rows, &json!({})), 40);
    assert_eq!(found, (OutcomeOf::Admission, yes(100)));
    let found = came("request:7", &known(&[stay(None)], &json!({})), 40);
    assert_eq!(found.1, Came::NotYet);
}

#[test]
fn what_was_started_in_error_has_no_outcome() {
    let mut state = state("index");
    let known = known(&[index()], &json!({}));
    let now_ms = START + 40 * DAY_MS;
    let found = |state: &State| outcomes(&definition(), state, &known, DAYS, now_ms).len();
    assert_eq!(found(&state), 1);
    state.ended = Some(crate::state::Ended {
        at_ms: START,
        code: "started_in_error".to_owned(),
        title: String::new(),
    });
    assert_eq!(found(&state), 0);
}

const GAPS: &str = "segments:
  unchecked:
    title: No value in a year
    all:
      - has_no: Observation
        where: status = 'final'
        dated: effective
        within: 12mo
entry:
";

#[test]
fn gaps_are_counted_from_the_start() {
    let file = SMALL.replace("entry:\n", GAPS);
    let definition = Definition::compile(&file, 1).unwrap();
    assert_eq!(
        kinds(&definition),
        BTreeSet::from([ResourceType::Encounter, ResourceType::Observation])
    );
    // It is read for an analysis alone, and no care hangs on it, unless something else names it.
    assert!(!definition.about().contains(&ResourceType::Observation));
    let watched = file.replace(
        "exits:\n",
        "exits:\n  seen: {title: Seen, segment: {left: unchecked}}\n",
    );
    let watched = Definition::compile(&watched, 1).unwrap();
    assert!(watched.about().contains(&ResourceType::Observation));
    let gap = |rows: &[i64], person: &Value, day: u64| {
        let mut known = known(&[index()], person);
        let values = rows.iter().enumerate().map(|(place, hours)| {
            let value = json!({
                "resourceType": "Observation", "id": format!("o{place}"), "status": "final", "code": {"text": "A value"},
                "subject": {"reference": "Patient/p"}, "effectiveDateTime": at(*hours)
            });
            Resource::from_value(value).unwrap()
        });
        known.of.insert(ResourceType::Observation, values.collect());
        let now_ms = START + day * DAY_MS;
        let found = outcomes(&definition, &state("index"), &known, DAYS, now_ms);
        let name = OutcomeOf::Gap("unchecked".to_owned());
        let mut of_gap = found.into_iter().filter(|one| one.of == name);
        of_gap.next().map(|one| one.came)
    };
    let alive = json!({});
    let died = |hours: i64| json!({"deceasedDateTime": at(hours)});
    for (name, rows, person, day, expected) in [
        (
            "nothing was done",
            vec![],
            alive.clone(),
            40,
            Some(Came::No),
        ),
        (
            "done on the fifth day",
            vec![120],
            alive.clone(),
            40,
            Some(yes(120)),
        ),
        (
            "done too late",
            vec![721],
            alive.clone(),
            40,
            Some(Came::No),
        ),
        (
            "not missing at the start",
            vec![-1000],
            alive.clone(),
            40,
            None,
        ),
        (
            "not observed for long enough",
            vec![120],
            alive.clone(),
            29,
            Some(Came::NotYet),
        ),
        ("died before", vec![], died(200), 40, Some(Came::Died)),
        (
            "done before they died",
            vec![120],
            died(200),
            40,
            Some(yes(120)),
        ),
        ("died after the days", vec![], died(721), 40, Some(Came::No)),
        (
            "died nobody knows when",
            vec![],
            json!({"deceasedBoolean": true}),
            40,
            Some(Came::Unknown),
        ),
    ] {
        assert_eq!(gap(&rows, &person, day), expected, "{name}");
    }
}
