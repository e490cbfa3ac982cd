//! A sorted search gives what a row-by-row check of everything gives, in the order that is asked for.
use std::cmp::Ordering;

use fhir::search::{IndexValue, index};
use ledger::Number;
use proptest::prelude::*;

use super::playing::{Plays, play_all};
use super::search::{KINDS, Model, clause, permit_of, visible};
use super::*;
use crate::SortedAt;

#[derive(Debug, Clone)]
struct Ask {
    kind: ResourceType,
    clause: Option<(&'static str, String)>,
    sort: Vec<(&'static str, bool)>,
    count: usize,
    who: u8,
}

fn keys(kind: ResourceType) -> &'static [&'static str] {
    match kind {
        ResourceType::Patient => &["family", "birthdate", "organization", "_id"],
        ResourceType::Observation => &["date", "code", "status", "subject"],
        ResourceType::Task => &["status", "authored-on"],
        ResourceType::Organization => &["name", "partof"],
        ResourceType::Encounter => &["date", "service-provider"],
        _ => &["_id", "patient"],
    }
}

fn asks() -> impl Strategy<Value = Vec<Ask>> {
    let ask = proptest::sample::select(KINDS.to_vec()).prop_flat_map(|kind| {
        let mut names = keys(kind).to_vec();
        names.push("_lastUpdated");
        let key = (proptest::sample::select(names), any::<bool>());
        (
            proptest::option::weighted(0.3, clause(kind)),
            proptest::collection::vec(key, 1..4),
            1..6usize,
            0..6u8,
        )
            .prop_map(move |(clause, sort, count, who)| Ask {
                kind,
                clause,
                sort,
                count,
                who,
            })
    });
    proptest::collection::vec(ask, 1..30)
}

/// What a resource has under a parameter, as text or time; several values are told apart by the order.
fn values(resource: &Resource, name: &str) -> Vec<(i64, String)> {
    let of = |value| match value {
        IndexValue::Token { code, .. } => Some((0, code)),
        IndexValue::String(text) | IndexValue::Reference(text) => Some((0, text)),
        IndexValue::Date { start_ms, .. } => Some((start_ms, String::new())),
        _ => None,
    };
    let entries = index(resource).into_iter();
    let entries = entries.filter(|entry| entry.parameter == name);
    entries.filter_map(|entry| of(entry.value)).collect()
}

/// Whether `one` may not come behind `other` in an order by one key.
fn order(
    (name, descending): (&str, bool),
    one: (Number, &Resource),
    other: (Number, &Resource),
) -> Ordering {
    if name == "_lastUpdated" {
        let order = one.0.cmp(&other.0);
        return if descending { order.reverse() } else { order };
    }
    let best = |resource| {
        let values = values(resource, name).into_iter();
        if descending {
            values.max()
        } else {
            values.min()
        }
    };
    match (best(one.1), best(other.1)) {
        (Some(one), Some(other)) if descending => other.cmp(&one),
        (Some(one), Some(other)) => one.cmp(&other),
        (one, other) => one.is_none().cmp(&other.is_none()),
    }
}

async fn check(
    house: &House,
    tenant: TenantId,
    model: &Model,
    ask: &Ask,
) -> Result<usize, TestCaseError> {
    let words = (ask.sort.iter()).map(|(name, descending)| match descending {
        true => format!("-{name}"),
        false => (*name).to_owned(),
    });
    let sort = words.collect::<Vec<_>>().join(",");
    let count = ask.count.to_string();
    let mut parameters = vec![
        ("_count", count.as_str()),
        ("_total", "accurate"),
        ("_sort", &sort),
    ];
    parameters.extend(
        ask.clause
            .iter()
            .map(|(name, value)| (*name, value.as_str())),
    );
    let query = query(ask.kind, &parameters);
    let permit = permit_of(house, tenant, ask.who, None).await;
    if !permit.allows(Action::Search, ask.kind) || query.sort.is_empty() {
        return Ok(0);
    }
    let now_ms = i64::try_from(house.now_ms()).unwrap();
    let mut expected: Vec<(Number, &Resource)> = visible(model, &permit, ask.kind, now_ms)
        .filter(|(number, one)| {
            query.matches(one) && crate::tokens::last_updated_matches(&query, *number)
        })
        .collect();
    expected.sort_by(|one, other| {
        let mut orders = ask.sort.iter().map(|key| order(*key, *one, *other));
        let order = orders.find(|order| order.is_ne());
        order.unwrap_or_else(|| other.0.cmp(&one.0))
    });
    let expected: Vec<&str> = expected.iter().map(|(_, one)| one.id().unwrap()).collect();
    let mut found = Vec::new();
    let mut at = None;
    loop {
        let page = house
            .vault()
            .search_sorted(&permit, &query, at)
            .await
            .unwrap();
        prop_assert_eq!(page.total, Some(expected.len()));
        prop_assert!(page.rows.len() <= ask.count && !page.moved);
        found.extend(
            page.rows
                .iter()
                .map(|row| row.resource.id().unwrap().to_owned()),
        );
        prop_assert_eq!(page.next.is_none(), found.len() == expected.len());
        let Some(last) = page.rows.last().filter(|_| page.next.is_some()) else {
            break;
        };
        let first = at.map_or(page.as_of, |at: SortedAt| at.first);
        at = Some(SortedAt {
            last: last.at,
            first,
        });
    }
    prop_assert_eq!(&found, &expected, "{}", sort);
    Ok(found.len())
}

// Proves: 45 CFR 164.312(a)(1)
#[test]
fn a_sorted_search_equals_a_sorted_check_of_everything() {
    let plays = Plays {
        first_tenant: 3000,
        cases: 48,
        seed: 20_261_127,
    };
    let given = play_all(&plays, asks(), &check);
    assert!(given > 300, "too few: {given}");
}

#[tokio::test]
async fn a_page_begins_behind_the_row_as_it_was() {
    let house = House::new().await;
    let permit = house
        .permit(&staff(Role::Clinician), Purpose::Treatment, Action::Search)
        .await
        .unwrap();
    let names = ["a", "c", "b", "d"];
    house.put(names.map(|name| a_patient(name, name))).await;
    let asked = query(
        ResourceType::Patient,
        &[("_sort", "family"), ("_count", "2")],
    );
    let ids = |page: &crate::SearchPage| {
        let ids = page
            .rows
            .iter()
            .map(|row| row.resource.id().unwrap().to_owned());
        ids.collect::<String>()
    };
    let vault = house.vault();
    let first = vault.search_sorted(&permit, &asked, None).await.unwrap();
    assert_eq!((ids(&first).as_str(), first.next.is_some()), ("ab", true));
    let at = Some(SortedAt {
        last: first.rows[1].at,
        first: first.as_of,
    });
    house.care.advance(1000);
    // The last row moves to the end, and one comes that would be in front.
    house.put([a_patient("b", "e"), a_patient("n", "a")]).await;
    let second = vault.search_sorted(&permit, &asked, at).await.unwrap();
    assert_eq!((ids(&second).as_str(), second.moved), ("cd", true));
    // Lists that are newest first say that they can't be sorted.
    let refused = vault.search(&permit, &asked, None).await;
    assert!(matches!(refused, Err(TrustError::Invalid(_))));
}
