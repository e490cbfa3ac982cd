//! What a journey takes of the files beside it leaves the rest of it as it is.

use crate::GOOD;
use crate::connectors::{CALL, RIDES, calling, said, with};
use journey::{with_connectors, with_segments};

/// A segment that GOOD's exit names, and a file of it.
const OLD: &str = "segments:\n  old:\n    title: Old\n    all: [{aged: {from: 80}}]\n";

type Merge = fn(&str, &str) -> Result<journey::Merged, journey::NotMerged>;

fn left(source: &str) -> String {
    source.replacen(
        "exits:\n",
        "exits:\n  out: {title: Out, segment: {left: old}}\n",
        1,
    )
}

/// With its exits behind all else.
fn exits_last(source: &str) -> String {
    let from = source.find("exits:\n").expect("exits");
    let rest = &source[from + 7..];
    let lines = rest.lines().take_while(|line| line.starts_with(' '));
    let long: usize = lines.map(|line| line.len() + 1).sum();
    let end = from + 7 + long;
    format!(
        "{}{}{}",
        &source[..from],
        &source[end..],
        &source[from..end]
    )
}

/// A connector with an anchor of a name that the journey has, too.
fn anchored() -> String {
    RIDES.replacen(
        "      body: nested\n",
        "      body: nested\n      retry: &again {times: 50}\n",
        1,
    )
}

#[test]
fn what_is_taken_takes_no_anchors_along() {
    // Between an anchor of the journey's own and what names it. Members that nobody knows are for the checker.
    let own = "connectors:\n  other:\n    title: Other\n    call: {partner: rides, path: /x, retry: &again {times: 1}}\nlater: {retry: *again}\n";
    let journey = format!("{}{own}", calling(CALL));
    let found = with_connectors(&journey, &anchored()).unwrap_err();
    assert!(found.in_journey, "{found:#?}");
    let first = &found.findings[0];
    assert_eq!(
        (first.code.as_str(), (first.line, first.column)),
        ("J086", said(&journey, "later:"))
    );
    assert!(first.message.contains("anchors"), "{first:#?}");
    // Another name of it does no harm, and neither does the same behind what names it.
    let fine = anchored().replace("&again", "&tries");
    assert!(with_connectors(&journey, &fine).is_ok());
    let behind = format!(
        "{}connectors:\n  other:\n    title: Other\n    call: {{partner: rides, path: /x, retry: &again {{times: 1}}}}\n",
        calling(CALL)
    );
    assert!(with_connectors(&behind, &anchored()).is_ok());
    // An anchor of the journey's is none of the file's.
    let alias = anchored().replace("&again {times: 50}", "*again");
    assert!(!with_connectors(&journey, &alias).unwrap_err().in_journey);
    // So it is with segments.
    let segments = OLD.replace("{from: 80}", "&age {from: 80}");
    let own = "segments:\n  young:\n    title: Young\n    all: [{aged: &age {from: 20}}]\nlater: *age\nexits:\n  on: {title: On, segment: {left: young}}\n";
    let journey = left(GOOD).replacen("exits:\n", own, 1);
    let found = with_segments(&journey, &segments).unwrap_err();
    let first = &found.findings[0];
    assert_eq!(
        (
            found.in_journey,
            first.code.as_str(),
            (first.line, first.column)
        ),
        (true, "J091", said(&journey, "later:"))
    );
    assert!(with_segments(&journey, OLD).is_ok());
}

#[test]
fn a_text_at_the_end_stays_as_it_is() {
    let words = "\nlater: |+\n  Some words.\n";
    let plain = "\nlater: Some words.\n";
    // Behind all else, where no empty line comes between.
    for (journey, merge, shared) in [
        (calling(CALL), with_connectors as Merge, RIDES),
        (left(GOOD), with_segments, OLD),
    ] {
        for (end, between) in [(words, ""), (plain, "\n")] {
            let journey = format!("{}{end}", journey.trim_end());
            let merged = merge(&journey, shared).unwrap();
            let rest = merged.text.strip_prefix(&journey).expect("the journey");
            let member = &shared[..shared.find('\n').expect("a line")];
            assert!(rest.starts_with(&format!("{between}{member}\n")), "{rest}");
        }
    }
    // Between its own and what follows nothing would keep the empty lines in their place.
    let own = OLD
        .replace("  old:", "  young:")
        .replace("title: Old", "title: |+\n      Young\n\n");
    let journey = left(GOOD).replacen("exits:\n", &format!("{own}exits:\n"), 1);
    assert!(
        with_segments(&journey, OLD).is_ok(),
        "its last is no such text"
    );
    let own = "segments:\n  young:\n    all: [{aged: {to: 20}}]\n    title: |+\n      Young\n\n";
    let journey = left(GOOD).replacen("exits:\n", &format!("{own}exits:\n"), 1);
    let found = with_segments(&journey, OLD).unwrap_err();
    let first = &found.findings[0];
    assert_eq!(
        (found.in_journey, (first.line, first.column)),
        (true, said(&journey, "young:")),
        "{first:#?}"
    );
    assert!(first.message.contains("`|+`"), "{first:#?}");
}

#[test]
fn what_is_in_braces_is_told_where_it_is() {
    let own = "connectors: {other: {title: Other, call: {partner: rides, path: /x}}}\n";
    let journey = format!("{}{own}", calling(CALL));
    let found = with_connectors(&journey, RIDES).unwrap_err();
    let first = &found.findings[0];
    assert_eq!(
        (found.in_journey, (first.line, first.column)),
        (true, said(&journey, "{other: {title"))
    );
    assert!(first.message.contains("in braces"), "{first:#?}");
    // In the file, it is the file's.
    let braces = "connectors: {ride_booking: {title: R, call: {partner: rides, path: /x}}}\n";
    let found = with_connectors(&calling(CALL), braces).unwrap_err();
    let first = &found.findings[0];
    assert_eq!(
        (found.in_journey, (first.line, first.column)),
        (false, said(braces, "ride_booking"))
    );
}

#[test]
fn own_and_shared_ones_stand_in_one_file() {
    // Of names that are others' beginnings each is its own.
    let shared = format!(
        "{RIDES}  ride: {{title: Short, call: {{partner: rides, path: /short}}}}\n  ride_booking_later:\n    title: Later\n    call: {{partner: rides, path: /later}}\n"
    );
    assert_eq!(journey::check_connectors(&shared), []);
    let merged = with_connectors(&calling(CALL), &shared).unwrap();
    assert!(!merged.text.contains("/later") && !merged.text.contains("/short"));
    assert_eq!(journey::check(&merged.text), []);
    let short = "      connector: ride\n      up_to: 1d\n";
    let merged = with_connectors(&calling(short), &shared).unwrap();
    assert!(merged.text.contains("/short") && !merged.text.contains("/later"));
    assert_eq!(journey::check(&merged.text), []);
    // Its own, deeper, between others of its members, and one of the file.
    let own = "connectors:\n    mine:\n        title: Mine\n        call: {partner: rides, path: /mine}\n# Exits.\nexits:\n";
    let journey = calling(CALL).replacen("exits:\n", own, 1);
    let merged = with_connectors(&journey, RIDES).unwrap();
    let codes: Vec<_> = journey::check(&merged.text)
        .into_iter()
        .map(|one| (one.code, one.error))
        .collect();
    assert_eq!(codes, [("J093".to_owned(), false)], "{}", merged.text);
    assert!(
        merged.text.contains("\n    ride_booking:\n"),
        "{}",
        merged.text
    );
    // Each line stands where its author wrote it.
    let inserted = merged.inserted.expect("lines of the file");
    for (number, line) in merged.text.lines().enumerate() {
        let column = line.len() - line.trim_start().len() + 1;
        let (is_shared, at, column) = inserted.origin(number + 1, column);
        let source = if is_shared { RIDES } else { &journey };
        let there = source.lines().nth(at - 1).expect("a line");
        assert_eq!(there.trim(), line.trim(), "{number}");
        if !line.is_empty() {
            assert_eq!(column, there.len() - there.trim_start().len() + 1, "{line}");
        }
    }
}

#[test]
fn a_journeys_own_wins_and_says_so() {
    let mine = RIDES.replace("Order a ride", "My ride");
    let own = with(&mine, CALL);
    let merged = with_connectors(&own, RIDES).unwrap();
    assert_eq!(
        (merged.text.as_str(), merged.inserted),
        (own.as_str(), None)
    );
    let [found] = merged.warnings.as_slice() else {
        panic!("{:#?}", merged.warnings);
    };
    assert_eq!((found.code.as_str(), found.error), ("J086", false));
    let behind = own.find("connectors:\n").expect("its own");
    let line = own[..behind].matches('\n').count() + 2;
    assert_eq!((found.line, found.column), (line, 3));
    assert!(found.message.contains("the journey's own counts"));
    // The same is the same.
    assert_eq!(
        with_connectors(&with(RIDES, CALL), RIDES).unwrap().warnings,
        []
    );
    let young = OLD.replace("80", "20");
    let journey = left(GOOD).replacen("exits:\n", &format!("{young}exits:\n"), 1);
    let merged = with_segments(&journey, OLD).unwrap();
    assert_eq!(merged.warnings.len(), 1, "{:#?}", merged.warnings);
    assert_eq!(merged.warnings[0].code, "J091");
}

#[test]
fn lines_end_as_they_end() {
    let crlf = |text: &str| text.replace('\n', "\r\n");
    let own =
        "connectors:\n  mine:\n    title: Mine\n    call: {partner: rides, path: /mine}\nexits:\n";
    let between = calling(CALL).replacen("exits:\n", own, 1);
    for journey in [calling(CALL), between] {
        let plain = with_connectors(&journey, RIDES).unwrap();
        for (journey, shared) in [
            (crlf(&journey), crlf(RIDES)),
            (crlf(&journey), RIDES.to_owned()),
            (journey.clone(), crlf(RIDES)),
        ] {
            let merged = with_connectors(&journey, &shared).unwrap();
            assert_eq!(merged.text.replace('\r', ""), plain.text);
            assert_eq!(merged.inserted, plain.inserted);
            assert_eq!(journey::check(&merged.text), journey::check(&plain.text));
            let lines = journey.matches("\r\n").count();
            assert_eq!(merged.text.matches("\r\n").count(), lines, "as they were");
        }
    }
    // One without an end at the end.
    let journey = calling(CALL);
    let merged = with_connectors(journey.trim_end(), RIDES.trim_end()).unwrap();
    assert_eq!(journey::check(&merged.text), []);
}

#[test]
fn segments_and_connectors_are_taken_together() {
    let journey = exits_last(&left(&calling(CALL)));
    let with_both = with_segments(&journey, OLD).unwrap();
    let whole = with_connectors(&with_both.text, RIDES).unwrap();
    assert_eq!(journey::check(&whole.text), [], "{}", whole.text);
    assert!(whole.text.starts_with(&journey));
    // The other way round it says the same.
    let other = with_connectors(&journey, RIDES).unwrap();
    let other = with_segments(&other.text, OLD).unwrap();
    assert_eq!(journey::diff(&whole.text, &other.text).unwrap(), []);
}
