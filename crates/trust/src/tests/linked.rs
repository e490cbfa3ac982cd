//! What a search answers beside its matches, and what it finds through other resources, is what a check
//! of every resource would give.
use std::collections::{BTreeMap, BTreeSet};

use fhir::search::{Include, IndexValue, Owns, index};
use proptest::prelude::*;

use ledger::Number;

use super::playing::{Plays, play_all};
use super::search::{KINDS, Model, clause, permit_of, visible};
use super::*;
use crate::{PageAt, tokens};

/// A resource by type and id.
pub(super) type Name = (ResourceType, String);

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

/// Types that are searched by links.
pub(super) const LINKED: [ResourceType; 5] = [
    ResourceType::Patient,
    ResourceType::Observation,
    ResourceType::Encounter,
    ResourceType::Condition,
    ResourceType::Organization,
];

pub(super) fn links(kind: ResourceType) -> Vec<(&'static str, &'static [&'static str])> {
    const NAMES: &[&str] = &["b", "berg,v", "o,van", "b,o"];
    const CODES: &[&str] = &["29463-7,y", "8480-6,29463", "http://loinc.org|"];
    const STATUSES: &[&str] = &["final", "preliminary", "finished"];
    let own: Vec<(&str, &[&str])> = match kind {
        ResourceType::Patient => vec![
            ("organization.name", NAMES),
            ("organization.partof.name", NAMES),
            ("_has:Observation:patient:code", CODES),
            ("_has:Observation:subject:status:not", STATUSES),
            (
                "_has:Observation:patient:encounter.service-provider.name",
                NAMES,
            ),
            (
                "_has:Encounter:patient:_has:Observation:encounter:code",
                CODES,
            ),
            ("_has:Claim:patient:status", &["active"]),
            ("_has:Consent:patient:status", &["active", "inactive"]),
        ],
        ResourceType::Organization => vec![
            ("partof.name", NAMES),
            ("partof:Organization.partof.name", NAMES),
            ("_has:Patient:organization:name", NAMES),
            (
                "_has:Patient:organization:_has:Observation:patient:code",
                CODES,
            ),
            ("_has:Encounter:service-provider:patient.name", NAMES),
        ],
        ResourceType::Observation => vec![
            ("subject.name", NAMES),
            ("subject:Patient.organization.name:exact", &["Berg", "B"]),
            ("encounter.status", STATUSES),
            ("encounter.patient._has:Condition:patient:code", CODES),
        ],
        _ => vec![],
    };
    let whose: &[&str] = match kind {
        ResourceType::Patient | ResourceType::Organization => &[],
        _ => NAMES,
    };
    let any = [
        ("patient.family", whose),
        ("patient:Patient.organization.name", whose),
    ];
    let any = any.into_iter().filter(|(_, values)| !values.is_empty());
    own.into_iter().chain(any).collect()
}

/// Searches by one or two links, and perhaps something else.
fn linked_asks() -> impl Strategy<Value = Vec<Ask>> {
    let ask = proptest::sample::select(LINKED.to_vec()).prop_flat_map(|kind| {
        let link = proptest::sample::select(links(kind)).prop_flat_map(|(name, values)| {
            proptest::sample::select(values).prop_map(move |value| (name, (*value).to_owned()))
        });
        (
            proptest::option::weighted(0.15, clause(kind)),
            proptest::collection::vec(link, 1..3),
            1..8usize,
            0..6u8,
            proptest::option::weighted(0.1, 0..3u8),
        )
            .prop_map(move |(clauses, links, count, who, only)| Ask {
                kind,
                parameters: links.into_iter().chain(clauses).collect(),
                count,
                who,
                only,
            })
    });
    proptest::collection::vec(ask, 1..30)
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

/// What a permit lets see, with the numbers.
pub(super) type Seen<'a> = BTreeMap<Name, (Number, &'a Resource)>;

fn everything_seen<'a>(house: &House, model: &'a Model, permit: &'a Permit) -> Seen<'a> {
    let now_ms = i64::try_from(house.now_ms()).unwrap();
    let kinds = KINDS
        .iter()
        .filter(|kind| permit.allows(Action::Search, **kind));
    kinds
        .flat_map(|kind| visible(model, permit, *kind, now_ms).collect::<Vec<_>>())
        .map(|(number, resource)| (name_of(resource), (number, resource)))
        .collect()
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
            include
                .parameter
                .as_ref()
                .is_none_or(|named| named.name() == entry.parameter)
                && matches!(&entry.value, IndexValue::Reference(found) if *found == wanted)
        })
}

/// The types that a link needs to be searched; of those that it doesn't name, one will do.
pub(super) fn may_follow(may_search: &dyn Fn(ResourceType) -> bool, query: &SearchQuery) -> bool {
    query.links.iter().all(|link| {
        let inner = link.queries.iter();
        let allowed: Vec<_> = inner.filter(|inner| may_search(inner.kind)).collect();
        !allowed.is_empty() && allowed.iter().all(|inner| may_follow(may_search, inner))
    })
}

/// Whether a resource matches a query, links included, by looking at every resource.
pub(super) fn matches(
    query: &SearchQuery,
    seen: &Seen<'_>,
    number: Number,
    resource: &Resource,
) -> bool {
    let mut plain = query.clone();
    plain.links.clear();
    plain.matches(resource)
        && tokens::last_updated_matches(&plain, number)
        && query.links.iter().all(|link| {
            let way = Include {
                reverse: false,
                iterate: false,
                source: None,
                parameter: Some(link.parameter.clone()),
                target: None,
                owns: Owns::default(),
            };
            link.queries.iter().any(|inner| {
                let of_kind = seen.iter().filter(|((kind, _), _)| *kind == inner.kind);
                of_kind.into_iter().any(|(name, (number, other))| {
                    let linked = if link.reverse {
                        refers(&way, other, &name_of(resource))
                    } else {
                        refers(&way, resource, name)
                    };
                    linked && matches(inner, seen, *number, other)
                })
            })
        })
}

async fn check_links(
    house: &House,
    tenant: TenantId,
    model: &Model,
    ask: &Ask,
) -> Result<usize, TestCaseError> {
    let count = ask.count.to_string();
    let mut parameters: Vec<(&str, &str)> = vec![("_count", &count), ("_total", "accurate")];
    parameters.extend(
        ask.parameters
            .iter()
            .map(|(name, value)| (*name, value.as_str())),
    );
    let query = query(ask.kind, &parameters);
    let permit = permit_of(house, tenant, ask.who, ask.only).await;
    let vault = house.vault();
    let may_search = |kind| permit.allows(Action::Search, kind);
    if !may_search(ask.kind) || !may_follow(&may_search, &query) {
        let refused = vault.search(&permit, &query, None).await;
        prop_assert!(
            matches!(refused, Err(TrustError::Refused(_))),
            "{:?}",
            query.used
        );
        return Ok(0);
    }
    let seen = everything_seen(house, model, &permit);
    let mut expected: Vec<(Number, String)> = (seen.iter())
        .filter(|((kind, _), (number, one))| {
            *kind == ask.kind && matches(&query, &seen, *number, one)
        })
        .map(|((_, id), (number, _))| (*number, id.clone()))
        .collect();
    expected.sort_unstable();
    expected.reverse();
    let expected: Vec<String> = expected.into_iter().map(|(_, id)| id).collect();
    let mut rows = Vec::new();
    let mut before = None;
    loop {
        let page = vault.search(&permit, &query, before).await.unwrap();
        texts_are_the_rows(vault, (&permit, &query), before, &page).await;
        prop_assert_eq!(page.total, Some(expected.len()), "{:?}", &query.used);
        rows.extend(page.rows.iter().map(|row| name_of(&row.resource).1));
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    prop_assert_eq!(&rows, &expected, "{:?}", &query.used);
    Ok(rows.len())
}

/// What an include brings in, by looking at every resource.
fn beside(query: &SearchQuery, seen: &Seen<'_>, matches: &BTreeSet<Name>) -> BTreeSet<Name> {
    let mut included: BTreeSet<Name> = BTreeSet::new();
    let mut round = matches.clone();
    let mut first = true;
    while !round.is_empty() {
        let mut fresh = BTreeSet::new();
        for include in query.includes.iter().filter(|one| first || one.iterate) {
            for name in &round {
                for (other, (_, resource)) in seen {
                    let linked = if include.reverse {
                        refers(include, resource, name)
                    } else {
                        refers(include, seen[name].1, other)
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
) -> Result<usize, TestCaseError> {
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
        return Ok(0);
    }
    let seen = everything_seen(house, model, &permit);
    let mut at: Option<PageAt> = None;
    let mut included = 0;
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
        included += found.len();
        match page.next {
            Some(before) => {
                let first = at.map_or(page.as_of, |at| at.first);
                at = Some(PageAt { before, first });
            }
            None => return Ok(included),
        }
    }
}

fn plays(first_tenant: u32) -> Plays {
    Plays {
        first_tenant,
        cases: 64,
        seed: 20_261_127,
    }
}

// Proves: 45 CFR 164.312(a)(1)
#[test]
fn what_is_included_equals_a_check_of_everything() {
    let included = play_all(&plays(1000), asks(), &check);
    assert!(included > 120, "too few: {included}");
}

// Proves: 45 CFR 164.312(a)(1)
#[test]
fn what_links_find_equals_a_check_of_everything() {
    let found = play_all(&plays(2000), linked_asks(), &check_links);
    assert!(found > 120, "too few: {found}");
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

#[tokio::test]
async fn links_are_followed_from_the_end_that_has_few() {
    let house = House::new().await;
    let permit = house
        .permit(&staff(Role::Clinician), Purpose::Treatment, Action::Search)
        .await
        .unwrap();
    let mut all = vec![
        a_patient("p", "Berg"),
        a_patient("q", "Dahl"),
        a_patient("r", "Dahl"),
    ];
    all[1]["active"] = true.into();
    all.extend((0..2001).map(|number| a_weight(&format!("w{number}"), "q", "2026-06-01")));
    house.put(all).await;
    let find = async |kind, parameters: &[(&str, &str)]| {
        let page = house
            .vault()
            .search(&permit, &query(kind, parameters), None)
            .await?;
        let ids = page
            .rows
            .iter()
            .map(|row| row.resource.id().unwrap().to_owned());
        Ok::<_, TrustError>(ids.collect::<Vec<_>>())
    };
    let weighed = ("_has:Observation:patient:code", "29463-7");
    // There are too many weights to begin with them, but few patients.
    assert_eq!(
        find(ResourceType::Patient, &[weighed]).await.unwrap(),
        ["q"]
    );
    let named = find(ResourceType::Patient, &[("family", "dahl"), weighed]).await;
    assert_eq!(named.unwrap(), ["q"]);
    let nobody = find(ResourceType::Patient, &[("family", "berg"), weighed]).await;
    assert!(nobody.unwrap().is_empty());
    // Many weights, but few patients that they are about.
    let by_name = find(
        ResourceType::Observation,
        &[("patient.family", "dahl"), ("_count", "3")],
    )
    .await;
    assert_eq!(by_name.unwrap().len(), 3);
    // A link to nothing doesn't look at everything.
    let nothing = query(ResourceType::Observation, &[("patient.family", "x")]);
    let resolved = nothing.linked([fhir::search::Resources::default()]);
    let plan = tokens::plan(house.ledger(), TENANT, &resolved, None);
    assert_eq!(plan.query, ledger::Query::Or(Vec::new()));

    // With many at both ends it is too costly.
    let many = (0..2001).map(|number| a_patient(&format!("p{number}"), "Many"));
    house.put(many).await;
    let both = find(ResourceType::Observation, &[("patient.family", "many")]).await;
    assert!(matches!(both, Err(TrustError::TooCostly(_))), "{both:?}");
    // Another condition on either end makes it few.
    let few = find(
        ResourceType::Observation,
        &[("patient.family", "many"), ("_id", "w1,w2")],
    );
    assert!(few.await.unwrap().is_empty());
    let few = find(
        ResourceType::Observation,
        &[("patient.active", "true"), ("_id", "w1,w2")],
    );
    assert_eq!(few.await.unwrap().len(), 2);
}

// Proves: 45 CFR 164.312(a)(1)
#[tokio::test]
async fn a_link_is_no_way_to_find_out_what_may_not_be_seen() {
    let house = House::new().await;
    house
        .put([
            a_patient("p", "Berg"),
            a_patient("q", "Dahl"),
            a_weight("wp", "p", "2026-06-01"),
            a_weight("wq", "q", "2026-06-01"),
            json!({
                "resourceType": "Consent", "id": "c", "patient": {"reference": "Patient/p"},
                "status": "active", "dateTime": "2026-06-01",
                "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]},
                "provision": {"type": "deny"},
            }),
        ])
        .await;
    let coordinator = house
        .permit(
            &staff(Role::Coordinator),
            Purpose::CareManagement,
            Action::Search,
        )
        .await
        .unwrap();
    let weighed = query(
        ResourceType::Patient,
        &[("_has:Observation:patient:code", "29463-7")],
    );
    let page = house
        .vault()
        .search(&coordinator, &weighed, None)
        .await
        .unwrap();
    let ids: Vec<_> = page
        .rows
        .iter()
        .map(|row| row.resource.id().unwrap())
        .collect();
    assert_eq!(ids, ["q"], "the chart of the other is hidden");
    // Whoever may not see observations learns nothing of them.
    let officer = house
        .permit(
            &staff(Role::PrivacyOfficer),
            Purpose::Operations,
            Action::Search,
        )
        .await
        .unwrap();
    let before = house.audits(TENANT).await;
    let refused = house.vault().search(&officer, &weighed, None).await;
    assert!(matches!(refused, Err(TrustError::Refused(_))));
    assert_eq!(
        house.audits(TENANT).await,
        before + 1,
        "the refusal is audited"
    );
}

#[tokio::test]
async fn pages_say_when_what_they_were_found_by_has_changed() {
    let house = House::new().await;
    let permit = house
        .permit(&staff(Role::Clinician), Purpose::Treatment, Action::Search)
        .await
        .unwrap();
    house
        .put([
            a_patient("p", "Berg"),
            a_weight("w1", "p", "2026-06-01"),
            a_weight("w2", "p", "2026-06-01"),
            a_patient("q", "Dahl"),
            a_weight("w3", "q", "2026-06-01"),
        ])
        .await;
    let asked = query(
        ResourceType::Observation,
        &[("patient.family", "berg"), ("_count", "1")],
    );
    let vault = house.vault();
    let first = vault.search_at(&permit, &asked, None).await.unwrap();
    let at = PageAt {
        before: first.next.unwrap(),
        first: first.as_of,
    };
    let second = vault.search_at(&permit, &asked, Some(at)).await.unwrap();
    assert_eq!((second.rows.len(), second.moved), (1, false));
    house.care.advance(1000);
    house.put([a_patient("q", "Berg")]).await;
    let second = vault.search_at(&permit, &asked, Some(at)).await.unwrap();
    assert_eq!((second.rows.len(), second.moved), (1, true));
}
