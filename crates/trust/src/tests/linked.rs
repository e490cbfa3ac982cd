//! What a search answers beside its matches, and what it finds through other resources, is what a check
//! of every resource would give.
use std::collections::{BTreeMap, BTreeSet};

use fhir::search::{Include, IndexValue, index};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};

use super::search::{KINDS, Model, clause, permit_of, play, visible, writes};
use super::*;
use crate::PageAt;

/// A resource by type and id.
type Name = (ResourceType, String);

#[derive(Debug, Clone)]
struct Ask {
    kind: ResourceType,
    parameters: Vec<(&'static str, String)>,
    count: usize,
    who: u8,
    only: Option<u8>,
}

fn includes(kind: ResourceType) -> Vec<(&'static str, &'static str)> {
    let own = match kind {
        ResourceType::Patient => vec![
            ("_include", "Patient:organization"),
            ("_include", "Patient:*"),
            ("_revinclude", "Observation:patient"),
            ("_revinclude", "Observation:subject:Patient"),
            ("_revinclude", "Claim:patient"),
            ("_revinclude", "Condition:*"),
        ],
        ResourceType::Observation => vec![
            ("_include", "Observation:subject"),
            ("_include", "Observation:subject:Group"),
            ("_include", "Observation:encounter"),
            ("_include", "Observation:*:Encounter"),
        ],
        ResourceType::Encounter => vec![
            ("_include", "Encounter:service-provider"),
            ("_revinclude", "Observation:encounter"),
        ],
        ResourceType::Organization => vec![
            ("_include", "Organization:partof"),
            ("_revinclude", "Organization:partof"),
            ("_revinclude", "Patient:organization"),
        ],
        ResourceType::Task => vec![("_include", "Task:patient:Patient")],
        _ => vec![],
    };
    let any = [
        ("_include", "*"),
        ("_revinclude", "*"),
        ("_include:iterate", "*"),
        ("_include:iterate", "Patient:organization"),
        ("_include:iterate", "Organization:partof"),
        (
            "_include:iterate",
            "Encounter:service-provider:Organization",
        ),
        ("_revinclude:iterate", "Observation:encounter"),
        ("_revinclude:iterate", "Encounter:patient"),
        ("_revinclude:iterate", "Claim:patient"),
    ];
    own.into_iter().chain(any).collect()
}

fn asks() -> impl Strategy<Value = Vec<Ask>> {
    let ask = proptest::sample::select(KINDS.to_vec()).prop_flat_map(|kind| {
        let include = proptest::sample::select(includes(kind))
            .prop_map(|(name, value)| (name, value.to_owned()));
        (
            proptest::option::weighted(0.3, clause(kind)),
            proptest::collection::vec(include, 1..4),
            1..8usize,
            0..6u8,
            proptest::option::weighted(0.2, 0..3u8),
        )
            .prop_map(move |(clauses, includes, count, who, only)| Ask {
                kind,
                parameters: clauses.into_iter().chain(includes).collect(),
                count,
                who,
                only,
            })
    });
    proptest::collection::vec(ask, 1..30)
}

fn name_of(resource: &Resource) -> Name {
    (resource.kind(), resource.id().unwrap().to_owned())
}

/// Whether a resource refers to another in the way that an include asks for.
fn refers(include: &Include, from: &Resource, to: &Name) -> bool {
    let wanted = format!("{}/{}", to.0, to.1);
    include.source.is_none_or(|source| source == from.kind())
        && include.target.is_none_or(|target| target == to.0)
        && index(from).iter().any(|entry| {
            include.parameter.is_none_or(|name| name == entry.parameter)
                && matches!(&entry.value, IndexValue::Reference(found) if *found == wanted)
        })
}

/// What an include brings in, by looking at every resource.
fn beside(
    query: &SearchQuery,
    seen: &BTreeMap<Name, &Resource>,
    matches: &BTreeSet<Name>,
) -> BTreeSet<Name> {
    let mut included: BTreeSet<Name> = BTreeSet::new();
    let mut round = matches.clone();
    let mut first = true;
    while !round.is_empty() {
        let mut fresh = BTreeSet::new();
        for include in query.includes.iter().filter(|one| first || one.iterate) {
            for name in &round {
                for (other, resource) in seen {
                    let linked = if include.reverse {
                        refers(include, resource, name)
                    } else {
                        refers(include, seen[name], other)
                    };
                    if linked && !matches.contains(other) && !included.contains(other) {
                        fresh.insert(other.clone());
                    }
                }
            }
        }
        included.extend(fresh.iter().cloned());
        round = fresh;
        first = false;
    }
    included
}

/// Types that an include names and that are looked at with it.
fn named(include: &Include) -> Option<(Action, ResourceType)> {
    if include.reverse {
        include.source.map(|kind| (Action::Search, kind))
    } else {
        include.target.map(|kind| (Action::Read, kind))
    }
}

async fn check(
    house: &House,
    tenant: TenantId,
    model: &Model,
    ask: &Ask,
    included: &mut usize,
) -> Result<(), TestCaseError> {
    let count = ask.count.to_string();
    let mut parameters: Vec<(&str, &str)> = vec![("_count", &count)];
    parameters.extend(
        ask.parameters
            .iter()
            .map(|(name, value)| (*name, value.as_str())),
    );
    let query = query(ask.kind, &parameters);
    let permit = permit_of(house, tenant, ask.who, ask.only).await;
    let vault = house.vault();
    let allowed = permit.allows(Action::Search, ask.kind)
        && (query.includes.iter().filter_map(named))
            .all(|(action, kind)| permit.allows(action, kind));
    if !allowed {
        let refused = vault.search(&permit, &query, None).await;
        prop_assert!(matches!(refused, Err(TrustError::Refused(_))));
        return Ok(());
    }
    let now_ms = i64::try_from(house.now_ms()).unwrap();
    let seen: BTreeMap<Name, &Resource> = (KINDS.iter())
        .filter(|kind| permit.allows(Action::Search, **kind))
        .flat_map(|kind| visible(model, &permit, *kind, now_ms))
        .map(|(_, resource)| (name_of(resource), resource))
        .collect();
    let mut at: Option<PageAt> = None;
    loop {
        let page = vault.search_at(&permit, &query, at).await.unwrap();
        let matches: BTreeSet<Name> = page.rows.iter().map(|row| name_of(&row.resource)).collect();
        let found: Vec<Name> = page
            .included
            .iter()
            .map(|row| name_of(&row.resource))
            .collect();
        let each: BTreeSet<Name> = found.iter().cloned().collect();
        prop_assert_eq!(each.len(), found.len(), "one is there twice");
        prop_assert_eq!(each, beside(&query, &seen, &matches), "{:?}", &query.used);
        *included += found.len();
        match page.next {
            Some(before) => {
                let first = at.map_or(page.as_of, |at| at.first);
                at = Some(PageAt { before, first });
            }
            None => return Ok(()),
        }
    }
}

#[test]
fn what_is_included_equals_a_check_of_everything() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let house = runtime.block_on(House::new());
    let tenants = std::cell::Cell::new(1000);
    let included = std::cell::Cell::new(0);
    let mut runner = TestRunner::new(Config {
        cases: 64,
        rng_seed: RngSeed::Fixed(20_261_127),
        failure_persistence: None,
        ..Config::default()
    });
    let result = runner.run(&(writes(), asks()), |(writes, asks)| {
        tenants.set(tenants.get() + 1);
        let tenant = TenantId(tenants.get());
        house.care.set(NOW_MS);
        runtime.block_on(async {
            house.ledger().create_tenant(tenant).await.unwrap();
            let model = play(&house, tenant, &writes).await;
            let mut count = included.get();
            for ask in &asks {
                check(&house, tenant, &model, ask, &mut count).await?;
            }
            included.set(count);
            Ok(())
        })
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    assert!(included.get() > 300, "too few: {}", included.get());
}

#[tokio::test]
async fn too_much_to_include_is_a_clear_error_and_what_is_included_is_audited() {
    let house = House::new().await;
    let clinician = house
        .permit(&staff(Role::Clinician), Purpose::Treatment, Action::Search)
        .await
        .unwrap();
    house
        .put([a_patient("p", "Berg"), a_patient("q", "Dahl")])
        .await;
    let weights = |numbers: std::ops::Range<usize>| {
        numbers.map(|number| a_weight(&format!("w{number}"), "p", "2026-06-01"))
    };
    house.put(weights(0..3)).await;
    let asked = query(
        ResourceType::Patient,
        &[("_revinclude", "Observation:patient")],
    );
    let before = house.audits(TENANT).await;
    let page = house
        .vault()
        .search(&clinician, &asked, None)
        .await
        .unwrap();
    assert_eq!((page.rows.len(), page.included.len()), (2, 3));
    let events = house.audit_events(TENANT).await;
    assert_eq!(events.len(), before + 1, "one leaf for all of it");
    let text = String::from_utf8(events[0].to_json()).unwrap();
    for name in ["Patient/p", "Patient/q", "Observation/w0", "Observation/w2"] {
        assert!(text.contains(name), "{name}");
    }

    house.put(weights(3..1001)).await;
    let refused = house.vault().search(&clinician, &asked, None).await;
    assert!(
        matches!(refused, Err(TrustError::TooCostly(_))),
        "{refused:?}"
    );
    let other = query(
        ResourceType::Patient,
        &[("family", "dahl"), ("_revinclude", "Observation:patient")],
    );
    let page = house
        .vault()
        .search(&clinician, &other, None)
        .await
        .unwrap();
    assert_eq!((page.rows.len(), page.included.len()), (1, 0));
}
