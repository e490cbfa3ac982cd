//! What tokens show and what they don't (`docs/security/threat-model.md`). All of it is counted over
//! fixed keys, so a failure is a change and no bad luck.

use std::collections::HashSet;

use crate::keys::TenantKeys;
use crate::{Kind, TenantId, Token};

fn keys(tenant: u32) -> TenantKeys {
    // Secrets that differ by one bit, as no two tenants' do.
    let mut secret = [0x5a; 32];
    secret[31] = tenant as u8;
    TenantKeys::derive(TenantId(tenant), &secret)
}

/// The share of bits that two tokens have in common, over many pairs.
fn agreement(pairs: impl Iterator<Item = (Token, Token)>) -> f64 {
    let (mut same, mut all) = (0, 0);
    for (one, two) in pairs {
        same += (one.0 ^ two.0).count_zeros();
        all += 64;
    }
    f64::from(same) / f64::from(all)
}

const VALUES: u32 = 20_000;

// Proves: 45 CFR 164.312(a)(2)(iv)
#[test]
fn equal_values_are_unrelated_across_tenants_kinds_parameters_and_uses() {
    let (one, two) = (keys(2), keys(3));
    let value = |number: u32| format!("value-{number}");
    let base = |number| one.token(Kind(1), "code", &value(number));
    let others: [(&str, &dyn Fn(u32) -> Token); 5] = [
        ("tenant", &|number| {
            two.token(Kind(1), "code", &value(number))
        }),
        ("kind", &|number| one.token(Kind(2), "code", &value(number))),
        ("parameter", &|number| {
            one.token(Kind(1), "codf", &value(number))
        }),
        ("use", &|number| {
            one.range_tokens(Kind(1), "code", i64::from(number))[0]
        }),
        ("value", &|number| {
            one.token(Kind(1), "code", &value(number + 1))
        }),
    ];
    let all: HashSet<Token> = (0..VALUES).map(base).collect();
    assert_eq!(all.len(), VALUES as usize);
    for (what, other) in others {
        // Half of the bits, within six standard deviations of a fair coin.
        let share = agreement((0..VALUES).map(|number| (base(number), other(number))));
        let bound = 6.0 * 0.5 / (f64::from(VALUES) * 64.0).sqrt();
        assert!((share - 0.5).abs() < bound, "{what}: {share}");
        if what != "value" {
            assert!(
                (0..VALUES).all(|number| !all.contains(&other(number))),
                "{what}"
            );
        }
    }
}

// Proves: 45 CFR 164.312(a)(2)(iv)
#[test]
fn no_order_shows_at_any_level() {
    let keys = keys(2);
    let tokens: Vec<Vec<Token>> = (0..i64::from(VALUES))
        .map(|day| keys.range_tokens(Kind(1), "date", day))
        .collect();
    for level in 0..6 {
        let mut cells: Vec<Token> = tokens.iter().map(|tokens| tokens[level]).collect();
        cells.dedup();
        let steps = cells.len() - 1;
        if steps < 30 {
            continue;
        }
        // A walk over neighbours rises as often as it falls; the variance of the number of rises in a
        // random order is (n + 1) / 12.
        let rises = cells.windows(2).filter(|pair| pair[0] < pair[1]).count();
        let off = (rises as f64 - steps as f64 / 2.0).abs();
        let bound = 6.0 * ((steps as f64 + 2.0) / 12.0).sqrt();
        assert!(off < bound, "level {level}: {rises} of {steps}");
        let share = agreement(cells.windows(2).map(|pair| (pair[0], pair[1])));
        let bound = 6.0 * 0.5 / (steps as f64 * 64.0).sqrt();
        assert!((share - 0.5).abs() < bound, "level {level}: {share}");
    }
    // Levels of one day are no closer to one another than to anything else.
    let pairs = tokens.iter().map(|tokens| (tokens[0], tokens[1]));
    assert!((agreement(pairs) - 0.5).abs() < 6.0 * 0.5 / (f64::from(VALUES) * 64.0).sqrt());
}

#[test]
fn names_in_rows_are_unrelated_across_tenants_and_uses() {
    let (one, two) = (keys(2), keys(3));
    let mut names = HashSet::new();
    for number in 0..1000 {
        let id = format!("patient-{number}");
        for keys in [&one, &two] {
            assert!(names.insert(keys.head_key(Kind(1), &id).id));
            assert!(names.insert(keys.head_key(Kind(2), &id).id));
            assert!(names.insert(keys.subject_key(&id).subject));
        }
    }
}

#[test]
fn tokens_and_names_stay_when_secrets_are_added() {
    let (before, after) = (keys(2), keys(2).with(&[9; 32]));
    assert_eq!(
        before.token(Kind(1), "code", "x"),
        after.token(Kind(1), "code", "x")
    );
    assert_eq!(before.head_key(Kind(1), "x"), after.head_key(Kind(1), "x"));
    assert_eq!(before.subject_key("x"), after.subject_key("x"));
    let (first, second) = (after.sealing(1).unwrap(), after.sealing(2).unwrap());
    assert_eq!(before.newest(), first);
    let all = [
        first.audit,
        first.common,
        first.wrap,
        second.audit,
        second.common,
        second.wrap,
    ];
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
}
