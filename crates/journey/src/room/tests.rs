use super::*;
use crate::time::{HOUR_MS, zone};
use fhir::Resource;
use jiff::Timestamp;
use jiff::civil::Weekday;
use serde_json::json;

/// Where FHIR has somebody's time zone.
const ZONE_EXTENSION: &str = "http://hl7.org/fhir/StructureDefinition/tz-code";

fn at(text: &str) -> u64 {
    u64::try_from(text.parse::<Timestamp>().unwrap().as_millisecond()).unwrap()
}

fn quiet(from: &str, until: &str) -> Limits {
    let time = |text| trust::consent::time_of_day(text).unwrap();
    Limits {
        quiet: vec![QuietHours {
            from: time(from),
            until: time(until),
        }],
        ..Limits::default()
    }
}

#[test]
fn quiet_hours_end_by_the_clock_on_the_wall() {
    let night = ("21:00", "08:00");
    for (zone_name, (from, until), now, ends) in [
        ("UTC", night, "2026-03-01T20:59:59Z", None),
        (
            "UTC",
            night,
            "2026-03-01T21:00:00Z",
            Some("2026-03-02T08:00:00Z"),
        ),
        (
            "UTC",
            night,
            "2026-03-02T07:59:59Z",
            Some("2026-03-02T08:00:00Z"),
        ),
        ("UTC", night, "2026-03-02T08:00:00Z", None),
        (
            "UTC",
            ("12:00", "14:00"),
            "2026-03-02T13:00:00Z",
            Some("2026-03-02T14:00:00Z"),
        ),
        ("UTC", ("12:00", "14:00"), "2026-03-02T11:00:00Z", None),
        // The patient's evening, not the server's.
        ("America/New_York", night, "2026-03-02T01:00:00Z", None),
        (
            "America/New_York",
            night,
            "2026-03-02T02:00:00Z",
            Some("2026-03-02T13:00:00Z"),
        ),
        // The night in which the clocks go forward is an hour shorter, and the other an hour longer.
        (
            "Europe/Berlin",
            night,
            "2026-03-28T20:00:00Z",
            Some("2026-03-29T06:00:00Z"),
        ),
        (
            "Europe/Berlin",
            night,
            "2026-10-24T20:00:00Z",
            Some("2026-10-25T07:00:00Z"),
        ),
        // They would end in the hour that there isn't.
        (
            "Europe/Berlin",
            ("21:00", "02:30"),
            "2026-03-28T23:00:00Z",
            Some("2026-03-29T01:30:00Z"),
        ),
        // They end in the hour that there is twice: the first time, and again where it is that hour again.
        (
            "Europe/Berlin",
            ("21:00", "02:30"),
            "2026-10-24T23:00:00Z",
            Some("2026-10-25T00:30:00Z"),
        ),
        (
            "Europe/Berlin",
            ("21:00", "02:30"),
            "2026-10-25T00:40:00Z",
            None,
        ),
        (
            "Europe/Berlin",
            ("21:00", "02:30"),
            "2026-10-25T01:10:00Z",
            Some("2026-10-25T01:30:00Z"),
        ),
        // In the south it is the other way round.
        (
            "Australia/Sydney",
            night,
            "2026-04-04T10:30:00Z",
            Some("2026-04-04T22:00:00Z"),
        ),
        (
            "Australia/Sydney",
            night,
            "2026-10-03T11:30:00Z",
            Some("2026-10-03T21:00:00Z"),
        ),
        // Over a leap day.
        (
            "UTC",
            night,
            "2028-02-28T22:00:00Z",
            Some("2028-02-29T08:00:00Z"),
        ),
        (
            "UTC",
            night,
            "2028-02-29T22:00:00Z",
            Some("2028-03-01T08:00:00Z"),
        ),
    ] {
        let found = quiet(from, until).quiet_ends(at(now), &zone(zone_name).unwrap());
        assert_eq!(found, ends.map(at), "{zone_name} {now}");
    }
}

fn limits(per_day: u32, kept: u32) -> Limits {
    let rules = MessageRules {
        per_day: Some(per_day),
        kept_for_important: kept,
        ..MessageRules::default()
    };
    Limits::of(&rules, &Own::default())
}

fn ask(book: &mut Book, limits: &Limits, key: &str, urgency: Urgency, now_ms: u64) -> Room {
    let asks = Asks {
        key,
        urgency,
        until_ms: now_ms + 3 * DAY_MS,
    };
    book.ask(limits, &TimeZone::UTC, &asks, now_ms)
}

fn capped(at_ms: u64) -> Room {
    let why = Why::Capped;
    Room::Until { at_ms, why }
}

#[test]
fn so_many_go_out_in_a_day_and_the_next_waits_for_the_first_to_be_past() {
    let (mut book, limits) = (Book::default(), limits(2, 0));
    let begin = at("2026-03-02T08:00:00Z");
    let mut go = |key: &str, hour: u64| {
        ask(
            &mut book,
            &limits,
            key,
            Urgency::Routine,
            begin + hour * HOUR_MS,
        )
    };
    assert_eq!(go("a", 0), Room::Free);
    assert_eq!(go("b", 1), Room::Free);
    assert_eq!(go("c", 2), capped(begin + 24 * HOUR_MS));
    assert_eq!(
        go("d", 3),
        capped(begin + 25 * HOUR_MS),
        "behind the one that waits"
    );
    // The second doesn't take the place of the first, though it asks before.
    assert_eq!(go("d", 24), capped(begin + 25 * HOUR_MS));
    assert_eq!(go("c", 24), Room::Free);
    assert_eq!(go("d", 25), Room::Free);
}

#[test]
fn what_is_important_comes_first_and_what_is_clinical_at_once() {
    let (mut book, limits) = (Book::default(), limits(2, 1));
    let begin = at("2026-03-02T08:00:00Z");
    let mut go = |key: &str, urgency, hour: u64| {
        ask(&mut book, &limits, key, urgency, begin + hour * HOUR_MS)
    };
    assert_eq!(go("a", Urgency::Routine, 0), Room::Free);
    // One place is kept.
    assert_eq!(go("b", Urgency::Routine, 1), capped(begin + 24 * HOUR_MS));
    assert_eq!(go("c", Urgency::Important, 2), Room::Free);
    assert_eq!(go("d", Urgency::Important, 3), capped(begin + 24 * HOUR_MS));
    assert_eq!(go("e", Urgency::Clinical, 4), Room::Free);
    // What was sent at once counts, too.
    assert_eq!(
        go("d", Urgency::Important, 24),
        capped(begin + 26 * HOUR_MS)
    );
    assert_eq!(go("d", Urgency::Important, 26), Room::Free);
}

#[test]
fn quiet_hours_and_limits_are_asked_together() {
    let mut limits = limits(1, 0);
    limits.quiet = quiet("21:00", "08:00").quiet;
    let mut book = Book::default();
    let evening = at("2026-03-02T20:30:00Z");
    assert_eq!(
        ask(&mut book, &limits, "a", Urgency::Routine, evening),
        Room::Free
    );
    // A day later it is quiet as well.
    let later = evening + 40 * 60_000;
    let expected = Room::Until {
        at_ms: at("2026-03-03T20:30:00Z"),
        why: Why::Quiet,
    };
    assert_eq!(
        ask(&mut book, &limits, "b", Urgency::Routine, later),
        expected
    );
    assert_eq!(
        ask(&mut book, &limits, "c", Urgency::Clinical, later),
        Room::Free
    );
    let after = ask(&mut book, &limits, "b", Urgency::Routine, evening + DAY_MS);
    assert_eq!(after, capped(at("2026-03-04T08:00:00Z")));
}

#[test]
fn what_is_stored_is_read_again_and_what_is_newer_says_nothing() {
    let (mut book, limits) = (Book::default(), limits(1, 0));
    ask(&mut book, &limits, "a", Urgency::Routine, DAY_MS);
    ask(&mut book, &limits, "b", Urgency::Routine, DAY_MS + 1);
    let stored = serde_json::to_vec(&book).unwrap();
    assert_eq!(Book::read(&stored), book);
    assert_eq!(Book::read(br#"{"f":2,"s":[1]}"#), Book::default());
    // After a week nothing is left.
    ask(&mut book, &limits, "c", Urgency::Routine, 9 * DAY_MS);
    assert_eq!((book.sent.len(), book.waits.len()), (1, 0));
}

#[test]
fn the_zone_is_the_patients_own_or_that_of_an_address_in_use() {
    let extension = |code: &str| json!([{"url": ZONE_EXTENSION, "valueCode": code}]);
    let own = json!({"resourceType": "Patient", "extension": extension("Asia/Tokyo"), "address": [{"extension": extension("Europe/Rome")}]});
    let moved = json!({"resourceType": "Patient", "address": [
        {"use": "old", "extension": extension("Asia/Tokyo")}, {"city": "Rome", "extension": extension("Europe/Rome")}
    ]});
    let unknown = json!({"resourceType": "Patient", "extension": extension("Mars/Olympus")});
    for (person, expected) in [
        (own, Some("Asia/Tokyo")),
        (moved, Some("Europe/Rome")),
        (unknown, None),
    ] {
        let person = Resource::from_value(person).unwrap();
        let found = zone_of(&person);
        let name = found.as_ref().and_then(TimeZone::iana_name);
        assert_eq!(name, expected);
    }
}

#[test]
fn a_window_opens_by_the_clock_on_the_wall() {
    let office = |days: &[Weekday]| Window {
        from: trust::consent::time_of_day("09:00").unwrap(),
        until: trust::consent::time_of_day("17:00").unwrap(),
        days: days.to_vec(),
    };
    use Weekday::{Friday, Monday, Sunday, Thursday, Tuesday, Wednesday};
    let weekdays = [Monday, Tuesday, Wednesday, Thursday, Friday];
    for (zone_name, days, now, opens) in [
        ("UTC", &[][..], "2026-03-02T09:00:00Z", None),
        ("UTC", &[], "2026-03-02T16:59:59Z", None),
        (
            "UTC",
            &[],
            "2026-03-02T17:00:00Z",
            Some("2026-03-03T09:00:00Z"),
        ),
        (
            "UTC",
            &[],
            "2026-03-02T08:59:59Z",
            Some("2026-03-02T09:00:00Z"),
        ),
        // 27 March 2026 is a Friday, and in the following night but one the clocks go forward in Berlin.
        (
            "UTC",
            &weekdays,
            "2026-03-27T17:00:00Z",
            Some("2026-03-30T09:00:00Z"),
        ),
        (
            "Europe/Berlin",
            &weekdays,
            "2026-03-27T16:30:00Z",
            Some("2026-03-30T07:00:00Z"),
        ),
        ("Europe/Berlin", &[Sunday], "2026-03-29T10:00:00Z", None),
        (
            "Europe/Berlin",
            &[Sunday],
            "2026-03-29T15:00:00Z",
            Some("2026-04-05T07:00:00Z"),
        ),
        // Still Sunday there, and so closed.
        (
            "America/New_York",
            &weekdays,
            "2026-03-02T03:00:00Z",
            Some("2026-03-02T14:00:00Z"),
        ),
    ] {
        let zone = zone(zone_name).unwrap();
        let now = at(now);
        let opening = quiet_until(&[], Some(&office(days)), &zone, now);
        assert_eq!(opening, opens.map(at), "{zone_name} {now}");
    }
    for (days, hours) in [
        (&[][..], 16),
        (&weekdays, 64),
        (&[Sunday], 160),
        (&[Monday, Thursday], 88),
    ] {
        assert_eq!(
            office(days).longest_closed_ms(),
            hours * HOUR_MS,
            "{days:?}"
        );
    }
}

/// Beside quiet hours and limits: it goes when all of them let it.
#[test]
fn a_window_and_quiet_hours_hold_together() {
    let window = Window {
        from: trust::consent::time_of_day("07:00").unwrap(),
        until: trust::consent::time_of_day("10:00").unwrap(),
        days: Vec::new(),
    };
    let limits = quiet("21:00", "08:00").within(Some(&window));
    let ask = |urgency, now: &str| {
        let asks = Asks {
            key: "i/1/message",
            urgency,
            until_ms: u64::MAX,
        };
        Book::default().ask(&limits, &TimeZone::UTC, &asks, at(now))
    };
    let until = |text: &str| Room::Until {
        at_ms: at(text),
        why: Why::Quiet,
    };
    let routine = |now: &str| ask(Urgency::Routine, now);
    assert_eq!(
        routine("2026-03-02T07:30:00Z"),
        until("2026-03-02T08:00:00Z")
    );
    assert_eq!(routine("2026-03-02T08:00:00Z"), Room::Free);
    assert_eq!(
        routine("2026-03-02T10:00:00Z"),
        until("2026-03-03T08:00:00Z")
    );
    assert_eq!(ask(Urgency::Clinical, "2026-03-02T23:00:00Z"), Room::Free);
}
