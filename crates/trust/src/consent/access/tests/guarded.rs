//! What must not open anything, and what must not use up the server.
use super::super::super::provision::PARTS_MAX;
use super::*;

/// A yes that nobody could confirm, or whose meaning is changed, stays none further in.
#[test]
fn what_permits_nothing_permits_nothing_further_in() {
    let weight = observation("w", WEIGHT, &[]);
    let who = client(Purpose::Treatment);
    let inner = json!([{"type": "permit", "class": [{"code": "Observation"}]}]);
    let changed = json!([{"url": "urn:x", "valueBoolean": true}]);
    for kind in ["permit", "deny"] {
        let plain = consent("2026-01-01", json!({"type": kind, "provision": inner}));
        assert!(
            shows(&closed(), std::slice::from_ref(&plain), &who, &weight),
            "{kind}"
        );
        let mut unverified = plain.clone();
        unverified.set("verification", json!([{"verified": false}]));
        assert!(!shows(&closed(), &[unverified], &who, &weight), "{kind}");
        let mut of_all = plain;
        of_all.set("modifierExtension", changed.clone());
        assert!(!shows(&closed(), &[of_all], &who, &weight), "{kind}");
        let provision = json!({"type": kind, "modifierExtension": changed, "provision": inner});
        let of_root = consent("2026-01-01", provision);
        assert!(!shows(&closed(), &[of_root], &who, &weight), "{kind}");
    }
}

// Proves: 45 CFR 164.508(b), 164.522(a)(1)(iii)
#[test]
fn a_period_that_cannot_be_read_is_none_for_a_yes_and_always_for_a_no() {
    let weight = observation("w", WEIGHT, &[]);
    let who = client(Purpose::Treatment);
    for period in [
        json!({"end": "soon"}),
        json!({"start": "2026-01-01", "end": "soon"}),
        json!({"start": "then", "end": "2030-01-01"}),
        json!(7),
    ] {
        let of = |kind: &str| consent("2026-01-01", json!({"type": kind, "period": period}));
        assert!(
            !shows(&closed(), &[of("permit")], &who, &weight),
            "{period}"
        );
        assert!(!shows(&open(), &[of("deny")], &who, &weight), "{period}");
    }
}

/// Who asks can't say more than the wider purpose.
#[test]
fn a_no_to_a_kind_of_a_purpose_counts_for_the_purpose() {
    let weight = observation("w", WEIGHT, &[]);
    for (code, purpose, expected) in [
        ("CLINTRCH", Purpose::Research, false),
        ("TRAIN", Purpose::Operations, false),
        ("COVAUTH", Purpose::Payment, false),
        ("CLINTRCH", Purpose::Operations, true),
        ("POPHLTH", Purpose::Treatment, true),
    ] {
        let yes = json!({"type": "permit",
            "provision": [{"type": "deny", "purpose": purposes(&[code])}]});
        let given = consent("2026-01-01", yes);
        let shown = shows(&closed(), &[given], &client(purpose), &weight);
        assert_eq!(shown, expected, "{code}");
        let narrow = json!({"type": "permit", "purpose": purposes(&[code])});
        let given = consent("2026-01-01", narrow);
        assert!(
            !shows(&closed(), &[given], &client(purpose), &weight),
            "{code}"
        );
    }
}

/// What a nested provision doesn't say it takes from the one around it, so many of both would be very many.
// Proves: 45 CFR 164.522(a)(1)(iii)
#[test]
fn a_consent_with_too_many_parts_denies_all() {
    let weight = observation("w", WEIGHT, &[]);
    let who = client(Purpose::Treatment);
    let of = |inner: usize| {
        let one = json!({"type": "permit"});
        let provision = json!({"type": "permit", "provision": vec![one; inner]});
        consent("2026-01-01", provision)
    };
    assert!(shows(&closed(), &[of(PARTS_MAX)], &who, &weight));
    assert!(!shows(&closed(), &[of(PARTS_MAX + 1)], &who, &weight));
    assert!(!shows(&open(), &[of(PARTS_MAX + 1)], &who, &weight));
}
