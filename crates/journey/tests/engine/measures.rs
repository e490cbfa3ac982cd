//! Means over a window, and readings that are missing.

use crate::kinds::{begin, compiled, source};
use crate::run::{DAY, DISCHARGE, HOUR, Run};
use journey::{Fact, timers};

fn watches(observe: &str) -> String {
    format!(
        "  first: {{title: First, wait: {{until: discharge + 30d}}, next: end}}
  watch:
    title: Watch
    observe: {observe}
    then: call
  call:
    title: Call
    task:
      title: Call
      reason: 'Silent for {{watch.hours|some}} hours.'
      role: coordinator
      due: 1d
    next: end
    overdue: {{role: clinician, priority: urgent}}
"
    )
}

const SILENT: &str = "{code: 29463-7, none_for: 3d, until: discharge + 20d}";

/// A reading, or one that turns out to be a mistake, so many hours after the discharge.
#[derive(Clone, Copy)]
enum Reading {
    At(u64),
    Of(u64, &'static str, f64, &'static str),
    Mistake(u64),
    /// Told of later than it was made.
    Late(u64, u64),
}
use Reading::{At, Late, Mistake, Of};

fn measured(run: &mut Run, id: &str, at_hour: u64, value: Option<(f64, &str)>, code: &str) {
    let fact = Fact::Observation {
        id: id.to_owned(),
        codes: vec![code.to_owned()],
        value: value.map(|(value, unit)| (value, unit.to_owned())),
        components: Vec::new(),
        at_ms: DISCHARGE + at_hour * HOUR,
    };
    run.event("Observation/o", fact, vec![]);
}

/// A blood pressure as devices and practices tell it: a panel with two components.
fn pressure(run: &mut Run, id: &str, at_hour: u64, systolic: f64, diastolic: f64) {
    let part = |code: &str, value| (vec![code.to_owned()], Some((value, "mm[Hg]".to_owned())));
    let fact = Fact::Observation {
        id: id.to_owned(),
        codes: vec!["85354-9".to_owned()],
        value: None,
        components: vec![part("8480-6", systolic), part("8462-4", diastolic)],
        at_ms: DISCHARGE + at_hour * HOUR,
    };
    run.event("Observation/o", fact, vec![]);
}

fn fired(run: &Run) -> Vec<u64> {
    let state = serde_json::to_value(&run.state).unwrap();
    let trail = state["h"].as_array().unwrap();
    trail
        .iter()
        .filter(|entry| entry["w"].get("fired").is_some())
        .map(|entry| (entry["t"].as_u64().unwrap() - DISCHARGE) / HOUR)
        .collect()
}

#[test]
fn a_component_is_a_reading() {
    let high = "{code: 8480-6, unit: 'mm[Hg]', above: 180, quiet_for: 12h}";
    let mut run = begin(&compiled(&watches(high)), "p");
    for (id, hour, systolic, diastolic) in [
        ("a", 24, 150.0, 190.0),
        ("b", 48, 185.0, 110.0),
        ("c", 72, 181.0, 95.0),
    ] {
        run.until(hour * HOUR);
        pressure(&mut run, id, hour, systolic, diastolic);
    }
    assert_eq!(fired(&run), [48, 72]);
    let silent = "{code: 8480-6, none_for: 3d, until: discharge + 6d}";
    let mut run = begin(&compiled(&watches(silent)), "p");
    run.until(60 * HOUR);
    pressure(&mut run, "a", 60, 130.0, 80.0);
    run.until(100 * HOUR);
    assert_eq!(fired(&run), [] as [u64; 0], "there was one");
    // The panel is a reading, too, where it is asked for as a whole.
    let whole = "{code: 85354-9, none_for: 3d, until: discharge + 6d}";
    let mut panel = begin(&compiled(&watches(whole)), "p");
    panel.until(60 * HOUR);
    pressure(&mut panel, "a", 60, 130.0, 80.0);
    panel.until(100 * HOUR);
    assert_eq!(fired(&panel), [] as [u64; 0], "there was one");
    // It turns out to have been a pulse: then there was none since the start.
    measured(&mut run, "a", 60, Some((130.0, "/min")), "8867-4");
    run.until(101 * HOUR);
    assert_eq!(fired(&run), [100]);
}

/// In which hours after the discharge the rule fired.
fn fires(observe: &str, readings: &[Reading]) -> Vec<u64> {
    let mut run = begin(&compiled(&watches(observe)), "p");
    for (place, reading) in readings.iter().enumerate() {
        let hour = match reading {
            At(hour) | Of(hour, ..) | Mistake(hour) | Late(hour, _) => *hour,
        };
        run.until(hour * HOUR);
        let id = format!("o{place}");
        match *reading {
            At(hour) => measured(&mut run, &id, hour, Some((80.0, "kg")), "29463-7"),
            Of(hour, code, value, unit) => measured(&mut run, &id, hour, Some((value, unit)), code),
            Late(_, at_hour) => measured(&mut run, &id, at_hour, Some((80.0, "kg")), "29463-7"),
            Mistake(_) => {
                // The one before it was none.
                let id = format!("o{}", place - 1);
                measured(&mut run, &id, hour, None, "29463-7");
            }
        }
    }
    run.until(40 * DAY);
    fired(&run)
}

/// A clock that is ahead, and what is told of late.
#[test]
fn a_single_reading_counts_for_a_day_and_hides_no_other() {
    let high = "{code: 29463-7, unit: kg, above: 100, quiet_for: 1h}";
    let mut run = begin(&compiled(&watches(high)), "p");
    for (id, hour, at_hour, kilograms) in [
        ("normal, dated ahead", 10, 20, 80.0),
        ("of now", 12, 12, 101.0),
        ("dated ahead", 14, 34, 102.0),
        ("of now again", 16, 16, 103.0),
        ("told of late", 40, 17, 104.0),
        ("told of too late", 60, 35, 105.0),
    ] {
        run.until(hour * HOUR);
        measured(&mut run, id, at_hour, Some((kilograms, "kg")), "29463-7");
    }
    assert_eq!(fired(&run), [12, 14, 16, 40]);
}

#[test]
fn missing_readings_wake_by_time_and_a_reading_is_in_time() {
    let days = |days: u64| (1..=days).map(|day| At(day * 24)).collect::<Vec<_>>();
    let mut every_day = days(20);
    for (name, readings, expected) in [
        // The journey began an hour after the discharge.
        ("none at all", &[][..], &[73][..]),
        ("one, then none", &[At(24)], &[96]),
        ("in time", &[At(72), At(140)], &[73 + 139]),
        ("too late", &[At(80)], &[73, 152]),
        ("one that was a mistake", &[At(24), Mistake(25)], &[73]),
        (
            "one that was a mistake when it had fired",
            &[At(80), Mistake(81)],
            &[73],
        ),
        ("another code", &[Of(24, "8867-4", 80.0, "/min")], &[73]),
        ("told of later", &[Late(60, 50)], &[122]),
        ("told of when it had fired", &[Late(80, 50)], &[73, 122]),
        ("any unit", &[Of(24, "29463-7", 12.0, "stone")], &[96]),
    ] {
        assert_eq!(fires(SILENT, readings), expected, "{name}");
    }
    assert_eq!(
        fires(SILENT, &every_day),
        [] as [u64; 0],
        "nobody watches after the twentieth day"
    );
    every_day.pop();
    every_day.truncate(17);
    assert_eq!(fires(SILENT, &every_day), [20 * 24]);
}

#[test]
fn a_unit_says_which_readings_count() {
    let kilograms = "{code: 29463-7, unit: kg, none_for: 3d}";
    for (unit, fired) in [("g", 96), ("stone", 73)] {
        assert_eq!(
            fires(kilograms, &[Of(24, "29463-7", 80_000.0, unit)]),
            [fired],
            "{unit}"
        );
    }
}

#[test]
fn means_are_converted_and_fire() {
    let high = "{code: 8480-6, unit: 'mm[Hg]', mean_above: 140, within: 7d, readings: 3}";
    let pressure = |hour, value, unit| Of(hour, "8480-6", value, unit);
    for (name, readings, expected) in [
        (
            "above",
            vec![
                pressure(24, 150.0, "mm[Hg]"),
                pressure(48, 135.0, "mm[Hg]"),
                pressure(72, 137.0, "mm[Hg]"),
            ],
            &[72][..],
        ),
        // 20 kPa are 150 mm[Hg].
        (
            "in another unit",
            vec![
                pressure(24, 20.0, "kPa"),
                pressure(48, 135.0, "mm[Hg]"),
                pressure(72, 137.0, "mm[Hg]"),
            ],
            &[72],
        ),
        (
            "a unit that is none",
            vec![
                pressure(24, 150.0, "mm[Hg]"),
                pressure(48, 150.0, "cm"),
                pressure(72, 150.0, "mm[Hg]"),
            ],
            &[],
        ),
        (
            "below",
            vec![
                pressure(24, 139.0, "mm[Hg]"),
                pressure(48, 139.0, "mm[Hg]"),
                pressure(72, 139.0, "mm[Hg]"),
            ],
            &[],
        ),
    ] {
        assert_eq!(fires(high, &readings), expected, "{name}");
    }
}

/// Its timer follows from the readings; nothing of it has to be set or taken back.
#[test]
fn a_reading_moves_the_timer() {
    let definition = compiled(&watches(SILENT));
    let mut run = begin(&definition, "p");
    let due = |run: &Run| timers(&definition, &run.state).get("watch/watch").copied();
    assert_eq!(due(&run), Some(DISCHARGE + 73 * HOUR));
    run.until(24 * HOUR);
    measured(&mut run, "a", 24, Some((80.0, "kg")), "29463-7");
    assert_eq!(due(&run), Some(DISCHARGE + 96 * HOUR));
    // It needs nothing that earlier programs don't know.
    assert_eq!(serde_json::to_value(&run.state).unwrap()["f"], 1);
    run.until(96 * HOUR);
    assert_eq!(due(&run), None, "a silence fires once");
    let state = serde_json::to_value(&run.state).unwrap();
    assert_eq!(state["x"]["watch"]["hours"], 72);
    measured(&mut run, "b", 96, Some((80.0, "kg")), "29463-7");
    assert_eq!(due(&run), Some(DISCHARGE + 168 * HOUR));
}

#[test]
fn what_is_wrong_with_a_rule_is_found() {
    for (observe, code, words) in [
        (
            "{code: 29463-7, mean_above: 3, within: 3d}",
            "J003",
            "needs `unit`",
        ),
        (
            "{code: 29463-7, unit: kg, rises_more_than: 3}",
            "J003",
            "needs `within`",
        ),
        (
            "{code: 29463-7, unit: kg, none_for: 3d, within: 2d}",
            "J004",
            "`within` goes with",
        ),
        (
            "{code: 29463-7, none_for: 3d, quiet_for: 2d}",
            "J004",
            "`quiet_for` goes with",
        ),
        (
            "{code: 29463-7, unit: kg, rises_more_than: 3, within: 3d, readings: 3}",
            "J004",
            "goes with a mean only",
        ),
        (
            "{code: 29463-7, unit: kg, mean_above: 3, within: 3d, readings: 1}",
            "J004",
            "from 2 to 256",
        ),
        (
            "{code: 29463-7, unit: 'mm[Hg]', none_for: 3d}",
            "J022",
            "use kg",
        ),
        (
            "{code: 29463-7, none_for: 30m}",
            "J023",
            "shorter than an hour",
        ),
        ("{code: 29463-7, none_for: 60d}", "J023", "this never fires"),
        (
            "{code: 29463-7, none_for: 3d, rises_more_than: 2}",
            "J003",
            "exactly one of",
        ),
    ] {
        let found = journey::check(&source("kinds", &watches(observe)));
        assert!(
            found
                .iter()
                .any(|found| found.code == code && found.message.contains(words)),
            "{observe}: {found:?}"
        );
    }
    assert_eq!(journey::check(&source("kinds", &watches(SILENT))), []);
    let mean = watches("{code: 29463-7, unit: kg, mean_below: 60, within: 7d}");
    let found = journey::check(&source("kinds", &mean.replace("watch.hours", "watch.rise")));
    assert!(found.iter().any(|found| found.code == "J018"), "{found:?}");
    assert_eq!(
        journey::check(&source("kinds", &mean.replace("watch.hours", "watch.mean"))),
        []
    );
}
