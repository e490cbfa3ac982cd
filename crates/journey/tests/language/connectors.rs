//! Connectors: what they may say, and what steps may give them.

use crate::{GOOD, TASK, partners};

/// A ride that any of several partners may be asked for.
pub(crate) const RIDES: &str = "connectors:
  ride_booking:
    title: Order a ride
    takes:
      phone: {title: Where the driver calls, classes: [contact]}
      well: {title: Whether they are well, classes: [health, contact]}
      seat: {title: The kind of seat, needed: false}
    call:
      partner: rides
      path: /bookings
      body: nested
      values:
        phone: {input: phone, as: passenger.phone}
        well: {input: well, as: passenger.well}
        seat: {input: seat, or: car}
        source: {is: cairn}
      learns:
        booking: {path: booking.id, class: contact}
      compensate:
        path: /cancellations
        values:
          booking: {answer: booking, as: booking.id}
          seat: {input: seat}
";

/// A call by it.
pub(crate) const CALL: &str = "      connector: ride_booking
      with:
        phone: {patient: phone, or: none}
        well: {learnt: questions.well}
      up_to: 1d
";

const WAYS: &str = "    next: end\n    failed: end\n    timed_out: end\n";

pub(crate) fn calling(call: &str) -> String {
    let source = GOOD.replacen(TASK, &format!("    call:\n{call}{WAYS}"), 1);
    assert_ne!(source, GOOD);
    source
}

/// GOOD with a call by a connector, and these.
pub(crate) fn with(connectors: &str, call: &str) -> String {
    format!("{}{connectors}", calling(call))
}

/// Breaks in GOOD: code, what is replaced, and by what that makes.
pub(crate) fn broken() -> [(&'static str, &'static str, String); 2] {
    let odd = "connectors:\n  odd: {title: Odd, call: {partner: rides, path: /x, values: {a: {input: b}}}}\nexits:\n";
    let none = CALL.replace("ride_booking", "ride_bookin");
    [
        ("J086", "exits:\n", GOOD.replacen("exits:\n", odd, 1)),
        ("J087", TASK, calling(&none)),
    ]
}

/// Where something stands, behind so many bytes.
fn said_behind(source: &str, behind: usize, at: &str) -> (usize, usize) {
    let found = source[behind..].find(at);
    let found = behind + found.unwrap_or_else(|| panic!("{at} in {source}"));
    let before = &source[..found];
    let line = before.matches('\n').count() + 1;
    (
        line,
        found - before.rfind('\n').map_or(0, |end| end + 1) + 1,
    )
}

pub(crate) fn said(source: &str, at: &str) -> (usize, usize) {
    said_behind(source, 0, at)
}

#[test]
fn connectors_make_sense_by_themselves() {
    assert_eq!(journey::check(&with(RIDES, CALL)), []);
    assert_eq!(journey::check_connectors(RIDES), []);
    for (from, to, code, at, words) in [
        (
            "path: /bookings",
            "path: bookings",
            "J062",
            "bookings",
            "no path",
        ),
        (
            "path: /cancellations",
            "path: '/off?x=1'",
            "J062",
            "'/off",
            "no path",
        ),
        (
            "      path: /bookings\n      body: nested\n",
            "      operation: {name: $book}\n      body: form\n",
            "J062",
            "form",
            "leave `body` out",
        ),
        (
            "{input: phone, as",
            "{input: phne, as",
            "J086",
            "phne",
            "did you mean `phone`?",
        ),
        (
            "{answer: booking",
            "{answer: bookin",
            "J086",
            "bookin,",
            "did you mean `booking`?",
        ),
        (
            "{answer: booking",
            "{input: phone",
            "J062",
            "phone, as: booking",
            "consents may say no by then",
        ),
        (
            "source: {is: cairn}",
            "api_key: {is: cairn}",
            "J063",
            "cairn}",
            "a file that `partners.toml` names",
        ),
        (
            "source: {is: cairn}",
            "source: {is: cairn, as: X-Auth-Token}",
            "J063",
            "cairn,",
            "looks like a secret",
        ),
        (
            "source: {is: cairn}",
            "source: {is: cairn, as: X-Api-Key}",
            "J063",
            "cairn,",
            "`X-Api-Key` looks like a secret",
        ),
        (
            "source: {is: cairn}",
            "source: {is: cairn, as: pass.word}",
            "J063",
            "cairn,",
            "`pass.word` looks like a secret",
        ),
        (
            "      seat: {title",
            "      token: {title",
            "J063",
            "token: {title",
            "a secret",
        ),
        (
            "as: passenger.well",
            "as: passenger.phone",
            "J024",
            "{input: well",
            "another value",
        ),
        (
            "as: passenger.well",
            "as: passenger",
            "J062",
            "{input: well",
            "within the other",
        ),
        (
            "as: passenger.well",
            "as: passenger..well",
            "J062",
            "{input: well",
            "no name",
        ),
        (
            "booking: {path: booking.id",
            "status: {path: booking.id",
            "J024",
            "{path: booking",
            "the answer",
        ),
        (
            "{is: cairn}",
            "{is: cairn, learnt: questions.well}",
            "J002",
            "learnt",
            "is not known",
        ),
        (
            "{is: cairn}",
            "{is: cairn, patient: id}",
            "J003",
            "source",
            "exactly one",
        ),
        (
            "    title: Order a ride\n",
            "",
            "J003",
            "ride_booking",
            "needs `title`",
        ),
        (
            "      path: /bookings\n",
            "",
            "J003",
            "partner: rides",
            "exactly one",
        ),
        (
            "classes: [contact]",
            "classes: [contacts]",
            "J004",
            "contacts",
            "can't be",
        ),
        ("body: nested", "body: xml", "J004", "xml", "can't be"),
        (
            "  ride_booking:",
            "  ride-booking:",
            "J007",
            "ride-booking",
            "is no id",
        ),
    ] {
        assert!(RIDES.contains(from), "{from}");
        let connectors = RIDES.replacen(from, to, 1);
        let found = journey::check_connectors(&connectors);
        let errors: Vec<_> = found.iter().filter(|found| found.error).collect();
        let first = errors.first().unwrap_or_else(|| panic!("{to}: nothing"));
        assert_eq!(first.code, code, "{to}: {found:#?}");
        assert!(first.message.contains(words), "{to}: {found:#?}");
        let place = said(&connectors, at);
        assert_eq!((first.line, first.column), place, "{to}: {found:#?}");
        // The same in a journey's own.
        let call = CALL.replace(
            "ride_booking",
            if to.contains("ride-") {
                "ride-booking"
            } else {
                "ride_booking"
            },
        );
        let whole = with(&connectors, &call);
        let found = journey::check(&whole);
        let first = found.iter().find(|found| found.error).unwrap();
        assert_eq!(first.code, code, "{to}: {found:#?}");
        let behind = whole.len() - connectors.len();
        let place = said_behind(&whole, behind, at);
        assert_eq!((first.line, first.column), place, "{to}: {found:#?}");
    }
    // What goes nowhere is left to who writes it.
    let unused = RIDES.replacen(
        "      phone: {title",
        "      fax: {title: Fax, needed: false}\n      phone: {title",
        1,
    );
    let found = journey::check_connectors(&unused);
    let found: Vec<_> = found
        .iter()
        .map(|one| (one.code.as_str(), one.error))
        .collect();
    assert_eq!(found, [("J086", false)]);
    let many =
        (0..101).map(|n| format!("  c{n}: {{title: C, call: {{path: /c, partner: rides}}}}\n"));
    let many = format!("connectors:\n{}", many.collect::<String>());
    let found = journey::check_connectors(&many);
    assert_eq!(
        (found.len(), found[0].code.as_str(), found[0].line),
        (1, "J086", 102)
    );
}

#[test]
fn steps_give_connectors_what_they_take() {
    for (from, to, at, words) in [
        (
            "connector: ride_booking",
            "connector: ride_bokking",
            "ride_bokking",
            "did you mean `ride_booking`?",
        ),
        (
            "        phone: {patient: phone, or: none}\n",
            "",
            "well",
            "needs `phone`: Where the driver calls",
        ),
        (
            "        phone:",
            "        phne: {is: x}\n        phone:",
            "phne",
            "takes no `phne`; did you mean `phone`?",
        ),
        (
            "{patient: phone, or: none}",
            "{patient: family}",
            "{patient: family}",
            "takes contact, and this may be of the data class identity",
        ),
        (
            "{patient: phone, or: none}",
            "{learnt: questions.well}",
            "{learnt",
            "takes contact, and this may be of the data class health",
        ),
        (
            "        well:",
            "        seat: {patient: gender}\n        well:",
            "{patient: gender}",
            "takes fixed words alone",
        ),
        (
            "{learnt: questions.well}",
            "{learnt: questions.well.exists()}",
            "{learnt",
            "data class identity",
        ),
        (
            "      up_to: 1d",
            "      partner: rides\n      up_to: 1d",
            "rides",
            "names the partner itself",
        ),
        (
            "      up_to: 1d",
            "      timeout_s: 5\n      up_to: 1d",
            "timeout_s",
            "is what the connector `ride_booking` says",
        ),
        (
            "      up_to: 1d",
            "      values: {x: {is: y}}\n      up_to: 1d",
            "values",
            "leave it out",
        ),
    ] {
        assert!(CALL.contains(from), "{from}");
        let source = with(RIDES, &CALL.replacen(from, to, 1));
        let found = journey::check(&source);
        // What would be told when the call is taken back is wrong besides, for a reason of its own.
        let found: Vec<_> = found.iter().filter(|found| found.error).collect();
        let found: Vec<_> = found.iter().filter(|found| found.code != "J062").collect();
        assert_eq!(found.len(), 1, "{to}: {found:#?}");
        assert_eq!(found[0].code, "J087", "{to}: {found:#?}");
        assert!(found[0].message.contains(words), "{to}: {found:#?}");
        let behind = source.find("      connector:").unwrap();
        let place = said_behind(&source, behind, at);
        assert_eq!((found[0].line, found[0].column), place, "{to}: {found:#?}");
    }
    for (call, code, words) in [
        // What is wrong with a value is told where the step gives it.
        (
            CALL.replace("questions.well", "questions.wel"),
            "J016",
            "did you mean `well`?",
        ),
        (
            CALL.replace("{patient: phone, or: none}", "{is: 'Bearer 5a1f'}"),
            "J063",
            "looks like a secret",
        ),
        (CALL.replace("up_to: 1d", "up_to: 5s"), "J009", "up_to"),
        (CALL.replace("      up_to: 1d\n", ""), "J003", "up_to"),
        (
            CALL.replace(
                "      connector: ride_booking\n",
                "      partner: rides\n      path: /x\n",
            ),
            "J087",
            "names none",
        ),
        (
            CALL.replace("      connector: ride_booking\n", "      path: /x\n"),
            "J003",
            "needs `partner`",
        ),
        (
            CALL.replace("      up_to: 1d", "      path: /x\n      up_to: 1d"),
            "J003",
            "exactly one",
        ),
        (
            CALL.replace("{patient: phone, or: none}", "{patient: phone, as: x}"),
            "J002",
            "`as`",
        ),
    ] {
        let source = with(RIDES, &call);
        let found = journey::check(&source);
        let first = found.iter().find(|found| found.error).unwrap();
        assert_eq!(first.code, code, "{call}: {found:#?}");
        assert!(first.message.contains(words), "{call}: {found:#?}");
        let lines = source.lines().count() - RIDES.lines().count();
        assert!(first.line <= lines, "in the journey: {first:?}");
    }
    let open = RIDES.replacen("      partner: rides\n", "", 1);
    assert_eq!(journey::check_connectors(&open), []);
    let found = journey::check(&with(&open, CALL));
    assert_eq!(
        (found.len(), found[0].code.as_str()),
        (1, "J087"),
        "{found:#?}"
    );
    let named = CALL.replace("      up_to", "      partner: rides\n      up_to");
    assert_eq!(journey::check(&with(&open, &named)), []);
    // A connector that nobody names, and conditions that name what it learns.
    let more = format!("{RIDES}  other: {{title: Other, call: {{partner: rides, path: /x}}}}\n");
    let found = journey::check(&with(&more, CALL));
    assert_eq!(
        (found.len(), found[0].code.as_str(), found[0].error),
        (1, "J093", false)
    );
    let asks = |member: &str| {
        let when = format!("when: questions.well = false or call.{member} = 'B7'");
        let source = with(RIDES, CALL).replacen("when: questions.well = false", &when, 1);
        let found = journey::check(&source).into_iter();
        let found = found.filter(|found| found.error).map(|found| found.code);
        found.collect::<Vec<_>>()
    };
    assert_eq!(asks("booking"), [""; 0]);
    assert_eq!(asks("bookin"), ["J016"]);
}

/// Each step that names a connector becomes as large as it.
#[test]
fn connectors_are_no_larger_than_calls_are() {
    for (values, fine) in [(400, true), (600, false)] {
        let values: String = (0..values)
            .map(|n| format!("        v{n}: {{is: x}}\n"))
            .collect();
        let large = format!(
            "connectors:\n  large:\n    title: Large\n    call:\n      partner: rides\n      path: /x\n      values:\n{values}"
        );
        let call = "      connector: large\n      up_to: 1d\n";
        for found in [
            journey::check_connectors(&large),
            journey::check(&with(&large, call)),
        ] {
            let codes: Vec<&str> = found.iter().map(|one| one.code.as_str()).collect();
            assert_eq!(
                codes,
                if fine { vec![] } else { vec!["J035"] },
                "{found:#?}"
            );
        }
    }
}

/// All steps together are no larger than a file that is read with ease.
#[test]
fn what_connectors_come_to_is_bounded() {
    let values: String = (0..300)
        .map(|n| format!("        v{n}: {{is: x}}\n"))
        .collect();
    let large = format!(
        "connectors:\n  large:\n    title: Large\n    call:\n      partner: rides\n      path: /x\n      values:\n{values}"
    );
    for (steps, fine) in [(30, true), (40, false)] {
        let more = (0..steps).map(|n| {
            format!("  c{n}:\n    title: Call\n    call: {{connector: large, up_to: 1d}}\n{WAYS}")
        });
        let more = more.collect::<String>();
        let call = "      connector: large\n      up_to: 1d\n";
        let source = with(&format!("{more}{large}"), call);
        let mut found = journey::check(&source);
        // That nothing leads to them doesn't matter here.
        found.retain(|one| one.error && one.code == "J035");
        assert_eq!(found.is_empty(), fine, "{steps}: {found:#?}");
        // A file that was published is read all the same.
        if let Some(found) = found.first() {
            assert!(found.message.contains("20000"), "{found:#?}");
            assert_eq!(found.line, said(&source, "connector: large").0);
        }
    }
}

/// What is taken back names the step in FHIRPath.
#[test]
fn a_step_named_like_a_word_of_fhirpath_takes_nothing_back() {
    let named = |connectors: &str, step: &str| {
        let source = with(connectors, CALL).replacen("  call:\n    title", "  STEP:\n    title", 1);
        let source = source.replace(": call\n", ": STEP\n");
        let found = journey::check(&source.replace("STEP", step)).into_iter();
        let found = found.filter(|one| one.code == "J087" && one.error);
        found.map(|one| one.message).collect::<Vec<_>>()
    };
    assert!(with(RIDES, CALL).contains("  call:\n    title"));
    let found = named(RIDES, "implies");
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].contains("a word of FHIRPath"), "{found:#?}");
    assert_eq!(named(RIDES, "ride"), [""; 0]);
    let answer = "          booking: {answer: booking, as: booking.id}\n";
    assert!(RIDES.contains(answer));
    let fine = RIDES.replacen(answer, "", 1);
    assert_eq!(named(&fine, "implies"), [""; 0], "it names no answer");
}

/// What is given and isn't there stops the call, also where the connector could do without it.
#[test]
fn what_may_stop_a_call_that_could_do_without_is_said() {
    let note = RIDES.replacen(
        "      seat: {title",
        "      note: {title: A note, classes: [contact], needed: false}\n      seat: {title",
        1,
    );
    let note = note.replacen(
        "        source: {is",
        "        note: {input: note}\n        source: {is",
        1,
    );
    for (given, or, stops) in [
        ("{patient: email}", "", true),
        ("{learnt: call.booking}", "", true),
        ("{patient: email, or: none}", "", false),
        ("{patient: email}", ", or: none", false),
        ("{is: ring}", "", false),
    ] {
        let call = CALL.replacen(
            "        well:",
            &format!("        note: {given}\n        well:"),
            1,
        );
        let source = with(
            &note.replacen("{input: note", &format!("{{input: note{or}"), 1),
            &call,
        );
        let mut found = journey::check(&source);
        found.retain(|one| one.code == "J087");
        assert_eq!(found.len(), usize::from(stops), "{given}{or}: {found:#?}");
        if let Some(found) = found.first() {
            assert!(!found.error, "{found:#?}");
            assert!(
                found.message.contains("can do without `note`"),
                "{found:#?}"
            );
            assert_eq!((found.line, found.column), said(&source, given));
        }
    }
    let without = with(&note, CALL);
    assert_eq!(journey::check(&without), []);
}

/// Connectors name no connectors, so there are no circles of them.
#[test]
fn connectors_stand_for_no_connectors() {
    let circle = "connectors:\n  one: {title: One, call: {connector: one, up_to: 1d}}\n";
    let found = journey::check_connectors(circle);
    assert!(
        found
            .iter()
            .any(|one| one.code == "J002" && one.message.contains("`connector`")),
        "{found:#?}"
    );
    let found = journey::check(&with(circle, CALL));
    assert!(found.iter().any(|one| one.error), "{found:#?}");
}

#[test]
fn what_a_partner_is_cleared_for_is_held_against_what_the_step_gives() {
    let check = |source: &str| journey::check_with(source, &partners(), 0);
    let found = check(&with(RIDES, CALL));
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0].code, "J061");
    assert!(
        found[0].message.contains("`well` would be told to rides"),
        "{found:#?}"
    );
    let source = with(RIDES, CALL);
    assert_eq!(
        (found[0].line, found[0].column),
        said(&source, "{learnt: questions.well}")
    );
    // Of the same input, what is a contact may be told.
    let fine = CALL.replace("{learnt: questions.well}", "{patient: email}");
    assert_eq!(check(&with(RIDES, &fine)), []);
    // What the connector tells itself is found where the step names it.
    let own = RIDES.replace("{is: cairn}", "{patient: birth_date}");
    let source = with(&own, &fine);
    let found = check(&source);
    assert_eq!(
        (found.len(), found[0].code.as_str()),
        (1, "J061"),
        "{found:#?}"
    );
    assert_eq!(
        (found[0].line, found[0].column),
        said(&source, "ride_booking")
    );
    let other = with(&RIDES.replace("partner: rides", "partner: ridez"), &fine);
    let found = check(&other);
    assert_eq!(found[0].code, "J060", "{found:#?}");
    assert_eq!(
        (found[0].line, found[0].column),
        said(&other, "ride_booking")
    );
}

#[test]
fn shared_connectors_are_taken_as_they_are_named() {
    let shared = format!(
        "# Of this folder.\n{RIDES}\n  # Never.\n  never:\n    title: Never\n    call: {{partner: rides, path: /never}}\n"
    );
    let shared = shared.replace(
        "  ride_booking:",
        "  # Rides, and\n  # so on.\n  ride_booking:",
    );
    assert_eq!(journey::check_connectors(&shared), []);
    assert_eq!(journey::format(&shared).unwrap(), shared);
    let journey = calling(CALL);
    let found = journey::check(&journey);
    assert_eq!(found[0].code, "J087", "{found:#?}");
    let whole = journey::with_connectors(&journey, &shared).unwrap().text;
    assert_eq!(journey::check(&whole), []);
    assert!(whole.starts_with(&journey), "its lines keep their numbers");
    assert!(
        whole.contains("# Rides, and") && !whole.contains("never"),
        "{whole}"
    );
    assert_eq!(
        journey::with_connectors(&whole, &shared).unwrap().text,
        whole
    );
    assert_eq!(
        journey::with_connectors(GOOD, "no: connectors")
            .unwrap()
            .text,
        GOOD
    );
    // Its own is not replaced.
    let own = with(&RIDES.replace("Order a ride", "My ride"), CALL);
    assert_eq!(journey::with_connectors(&own, &shared).unwrap().text, own);
    // What is wrong with the file is told with its own lines.
    let wrong = shared.replace("path: /bookings", "path: bookings");
    let found = journey::with_connectors(&journey, &wrong)
        .unwrap_err()
        .findings;
    assert_eq!(
        (found[0].code.as_str(), (found[0].line, found[0].column)),
        ("J062", said(&wrong, "bookings"))
    );
    let braces = "connectors: {ride_booking: {title: R, call: {partner: rides, path: /x}}}\n";
    let found = journey::with_connectors(&journey, braces)
        .unwrap_err()
        .findings;
    assert!(
        found[0].code == "J086" && found[0].message.contains("without braces"),
        "{found:#?}"
    );
    // What changed in a connector is a change of the journey.
    let later = shared.replace("path: /bookings", "path: /v2/bookings");
    let later = journey::with_connectors(&journey, &later).unwrap().text;
    let changes = journey::diff(&whole, &later).unwrap();
    assert_eq!(changes.len(), 1, "{changes:#?}");
    assert_eq!(changes[0].place, "connectors.ride_booking.call.path");
}
