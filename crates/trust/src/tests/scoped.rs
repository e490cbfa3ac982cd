//! Scopes of access tokens on every way into the record: each list has exactly the rows that a check of
//! every row gives.
use std::collections::BTreeSet;

use fhir::search::SortKey;
use ledger::{Number, Owner};

use super::*;
use crate::scopes::Scopes;
use crate::{Access, PastQuery};

/// A scope as the test knows it, apart from the code that reads it.
#[derive(Debug, Clone, Copy)]
struct Scope {
    level: &'static str,
    kind: &'static str,
    letters: &'static str,
    category: &'static str,
}

const fn scope(
    level: &'static str,
    kind: &'static str,
    letters: &'static str,
    category: &'static str,
) -> Scope {
    Scope {
        level,
        kind,
        letters,
        category,
    }
}

const OBSERVATIONS: [&[Scope]; 9] = [
    &[],
    &[scope("system", "Observation", "rs", "")],
    &[scope("system", "Observation", "rs", "laboratory")],
    &[
        scope("system", "Observation", "rs", "laboratory"),
        scope("system", "Observation", "s", "vital-signs"),
    ],
    &[scope("patient", "Observation", "rs", "")],
    &[scope("patient", "Observation", "rs", "vital-signs")],
    &[
        scope("patient", "Observation", "s", "vital-signs"),
        scope("system", "Observation", "r", "laboratory"),
    ],
    &[
        scope("patient", "*", "rs", ""),
        scope("system", "Observation", "s", "laboratory"),
    ],
    &[scope("system", "Observation", "r", "")],
];
const PATIENTS: [&[Scope]; 4] = [
    &[],
    &[scope("system", "Patient", "rs", "")],
    &[scope("patient", "Patient", "rs", "")],
    &[scope("system", "Patient", "s", "")],
];

/// What a row is, as far as scopes look at it.
#[derive(Debug, Clone)]
struct Row {
    kind: &'static str,
    id: String,
    patient: String,
    categories: Vec<&'static str>,
}

struct Given {
    scopes: Vec<Scope>,
    patient: Option<&'static str>,
}

impl Given {
    fn agent(&self) -> Agent {
        let texts = self.scopes.iter().map(|scope| {
            let filter = match scope.category {
                "" => String::new(),
                category => format!("?category={category}"),
            };
            format!("{}/{}.{}{filter}", scope.level, scope.kind, scope.letters)
        });
        let texts: Vec<String> = texts.collect();
        Agent {
            access: Some(Arc::new(Access {
                client: "c".to_owned(),
                client_name: "C".to_owned(),
                scopes: Scopes::parse(&texts.join(" ")).unwrap(),
                patient: self.patient.map(str::to_owned),
                round: 0,
                grant: None,
            })),
            ..staff(Role::Client)
        }
    }

    fn lets(&self, letter: char, kind: &str) -> bool {
        self.scopes
            .iter()
            .any(|scope| ["*", kind].contains(&scope.kind) && scope.letters.contains(letter))
    }

    /// The check of one row.
    fn covers(&self, letter: char, row: &Row) -> bool {
        // A token that is for one patient, whatever it does, is for this patient's record.
        self.scopes.iter().any(|scope| {
            ["*", row.kind].contains(&scope.kind)
                && scope.letters.contains(letter)
                && (scope.level != "patient" || self.patient == Some(row.patient.as_str()))
                && (scope.category.is_empty() || row.categories.contains(&scope.category))
        })
    }

    fn ids<'r>(&self, letters: &str, rows: impl IntoIterator<Item = &'r Row>) -> Vec<String> {
        let covered = rows
            .into_iter()
            .filter(|row| letters.chars().all(|letter| self.covers(letter, row)));
        covered.map(|row| row.id.clone()).collect()
    }
}

fn observation(row: &Row) -> Value {
    let category = |code: &&str| json!({"coding": [{"system": "http://c", "code": code}]});
    json!({
        "resourceType": "Observation",
        "id": row.id,
        "status": "final",
        "category": row.categories.iter().map(category).collect::<Vec<_>>(),
        "code": {"coding": [{"system": "http://c", "code": "x"}]},
        "subject": {"reference": format!("Patient/{}", row.patient)},
    })
}

/// Rows in the order in which they were written.
async fn rows(house: &House) -> (Vec<Row>, Vec<Row>) {
    let (mut patients, mut observations) = (Vec::new(), Vec::new());
    for n in 0..3 {
        let id = format!("p{n}");
        house.put([a_patient(&id, &format!("Family{n}"))]).await;
        patients.push(Row {
            kind: "Patient",
            patient: id.clone(),
            id,
            categories: Vec::new(),
        });
    }
    for n in 0..14 {
        let row = Row {
            kind: "Observation",
            id: format!("o{n:02}"),
            patient: format!("p{}", n % 3),
            categories: match n % 4 {
                0 => vec!["laboratory"],
                1 => vec!["vital-signs"],
                2 => vec!["laboratory", "vital-signs"],
                _ => vec!["survey"],
            },
        };
        house.put([observation(&row)]).await;
        observations.push(row);
    }
    (patients, observations)
}

fn newest_first(mut ids: Vec<String>) -> Vec<String> {
    ids.reverse();
    ids
}

fn set(ids: impl IntoIterator<Item = String>) -> BTreeSet<String> {
    ids.into_iter().collect()
}

fn ids_of(rows: &[crate::Versioned]) -> Vec<String> {
    let id = |row: &crate::Versioned| row.resource.id().unwrap().to_owned();
    rows.iter().map(id).collect()
}

/// All rows of a search, page by page, with what each page says of the total.
async fn pages(house: &House, permit: &Permit, query: &SearchQuery) -> (Vec<String>, Vec<usize>) {
    let (mut ids, mut totals, mut before) = (Vec::new(), Vec::new(), None);
    loop {
        let page = house.vault().search(permit, query, before).await.unwrap();
        texts_are_the_rows(house.vault(), (permit, query), before, &page).await;
        ids.extend(ids_of(&page.rows));
        totals.extend(page.total);
        before = page.next;
        if before.is_none() {
            return (ids, totals);
        }
    }
}

async fn permit(house: &House, agent: &Agent, action: Action) -> Result<Permit, TrustError> {
    house.permit(agent, Purpose::Treatment, action).await
}

// Proves: 45 CFR 164.312(a)(1), 164.308(a)(4)(ii)(B)
#[tokio::test]
async fn every_list_has_the_rows_of_a_row_by_row_check() {
    let house = House::new().await;
    let (patients, observations) = rows(&house).await;
    let mut seen = 0;
    for of_observations in OBSERVATIONS {
        for of_patients in PATIENTS {
            for patient in [None, Some("p1")] {
                let given = Given {
                    scopes: [of_observations, of_patients].concat(),
                    patient,
                };
                seen += check_lists(&house, &given, &patients, &observations).await;
            }
        }
    }
    // Not for nothing.
    assert!(seen > 300, "{seen}");
}

async fn check_lists(
    house: &House,
    given: &Given,
    patients: &[Row],
    observations: &[Row],
) -> usize {
    let (vault, agent) = (house.vault(), given.agent());
    let about = format!("{:?} {:?}", given.scopes, given.patient);
    let kind = ResourceType::Observation;
    let expected = newest_first(given.ids("s", observations));

    let Ok(permit_to_search) = permit(house, &agent, Action::Search).await else {
        assert!(
            !given.lets('s', "Observation") && !given.lets('s', "Patient"),
            "{about}"
        );
        return 0;
    };
    let all = query(kind, &[("_count", "4"), ("_total", "accurate")]);
    if !given.lets('s', "Observation") {
        assert!(
            is_refused(&vault.search(&permit_to_search, &all, None).await),
            "{about}"
        );
        return 0;
    }
    let (found, totals) = pages(house, &permit_to_search, &all).await;
    assert_eq!(found, expected, "{about}");
    assert!(
        totals.iter().all(|total| *total == expected.len()),
        "{about}"
    );
    // In another order, and beside another type.
    let mut sorted = query(kind, &[("_sort", "_id"), ("_total", "accurate")]);
    assert!(matches!(sorted.sort.as_slice(), [SortKey { .. }]));
    sorted.count = 1000;
    let page = vault
        .search_sorted(&permit_to_search, &sorted, None)
        .await
        .unwrap();
    assert_eq!(
        ids_of(&page.rows),
        newest_first(expected.clone()),
        "{about}"
    );
    assert_eq!(page.total, Some(expected.len()), "{about}");
    let both = [query(kind, &[]), query(ResourceType::Patient, &[])];
    let page = vault
        .search_types(&permit_to_search, &both, false, None)
        .await
        .unwrap();
    let of_both = given.ids("s", patients).into_iter().chain(expected.clone());
    assert_eq!(set(ids_of(&page.rows)), set(of_both), "{about}");
    // A search by what a filter hides finds nothing of it.
    let surveys = query(kind, &[("category", "survey")]);
    let page = vault
        .search(&permit_to_search, &surveys, None)
        .await
        .unwrap();
    let wanted = observations
        .iter()
        .filter(|row| row.categories.contains(&"survey"));
    assert_eq!(
        ids_of(&page.rows),
        newest_first(given.ids("s", wanted)),
        "{about}"
    );

    check_linked(
        house,
        given,
        &permit_to_search,
        patients,
        observations,
        &about,
    )
    .await;

    // Row by row.
    if let Ok(permit_to_read) = permit(house, &agent, Action::Read).await {
        for row in observations {
            let read = vault.read(&permit_to_read, kind, &row.id).await;
            if given.lets('r', "Observation") {
                let is_there = read.unwrap().is_some();
                assert_eq!(is_there, given.covers('r', row), "{about} {}", row.id);
            } else {
                assert!(is_refused(&read), "{about}");
            }
        }
    }
    if let Ok(permit_to_look_back) = permit(house, &agent, Action::History).await {
        for row in observations {
            let versions = vault
                .history(&permit_to_look_back, kind, &row.id, None, 10)
                .await;
            if given.lets('r', "Observation") {
                let is_there = !versions.unwrap().is_empty();
                assert_eq!(is_there, given.covers('r', row), "{about}");
            }
        }
        let past = PastQuery {
            kind: Some(kind),
            since: Number::default(),
            during: None,
            count: 100,
            words: String::new(),
        };
        let page = vault.past(&permit_to_look_back, &past, None).await;
        if given.lets('r', "Observation") {
            let found: Vec<String> = (page.unwrap().rows.iter())
                .map(|row| row.row.resource.id().unwrap().to_owned())
                .collect();
            assert_eq!(found, newest_first(given.ids("s", observations)), "{about}");
        } else {
            assert!(is_refused(&page), "{about}");
        }
    }
    expected.len()
}

/// What pages include, and what is found through others.
async fn check_linked(
    house: &House,
    given: &Given,
    permit: &Permit,
    patients: &[Row],
    observations: &[Row],
    about: &str,
) {
    let vault = house.vault();
    let (kind, of_patient) = (ResourceType::Observation, ResourceType::Patient);
    let shown = given.ids("s", observations);
    let including = query(kind, &[("_include", "Observation:subject:Patient")]);
    let page = vault.search(permit, &including, None).await;
    if given.lets('r', "Patient") && given.lets('s', "Patient") {
        let page = page.unwrap();
        let of_rows = observations.iter().filter(|row| shown.contains(&row.id));
        let referred = set(of_rows.map(|row| row.patient.clone()));
        let seen = patients.iter().filter(|row| referred.contains(&row.id));
        assert_eq!(
            set(ids_of(&page.included)),
            set(given.ids("s", seen)),
            "{about}"
        );
    } else {
        assert!(is_refused(&page), "{about}");
    }
    let chained = query(kind, &[("subject:Patient.family", "Family1")]);
    let page = vault.search(permit, &chained, None).await;
    if !given.lets('s', "Patient") {
        assert!(is_refused(&page), "{about}");
        return;
    }
    let ends = patients.iter().filter(|row| row.id == "p1");
    let ends = given.ids("s", ends);
    let linked = observations
        .iter()
        .filter(|row| ends.contains(&row.patient));
    assert_eq!(
        ids_of(&page.unwrap().rows),
        newest_first(given.ids("s", linked)),
        "{about}"
    );
    let has = query(of_patient, &[("_has:Observation:subject:code", "x")]);
    let page = vault.search(permit, &has, None).await.unwrap();
    let of_rows = observations.iter().filter(|row| shown.contains(&row.id));
    let having = set(of_rows.map(|row| row.patient.clone()));
    let seen = patients.iter().filter(|row| having.contains(&row.id));
    assert_eq!(
        set(ids_of(&page.rows)),
        set(given.ids("s", seen)),
        "{about}"
    );
    let back = query(of_patient, &[("_revinclude", "Observation:subject")]);
    let page = vault.search(permit, &back, None).await.unwrap();
    let matches = set(ids_of(&page.rows));
    let of_matches = observations
        .iter()
        .filter(|row| matches.contains(&row.patient));
    assert_eq!(
        set(ids_of(&page.included)),
        set(given.ids("s", of_matches)),
        "{about}"
    );
}

// Proves: 45 CFR 164.312(a)(1)
#[tokio::test]
async fn what_is_written_lies_within_the_scopes_before_and_after() {
    let house = House::new().await;
    let (_, observations) = rows(&house).await;
    let given = Given {
        scopes: vec![
            scope("system", "Observation", "crud", "laboratory"),
            scope("patient", "Observation", "cru", "vital-signs"),
        ],
        patient: Some("p1"),
    };
    let agent = given.agent();
    let may = permit(&house, &agent, Action::Transaction).await.unwrap();
    let row = |id: &str, patient: &str, category: &'static str| Row {
        kind: "Observation",
        id: id.to_owned(),
        patient: patient.to_owned(),
        categories: vec![category],
    };
    let write = async |row: &Row, expected| {
        house
            .vault()
            .commit(&may, put(observation(row), expected))
            .await
    };
    for (new, fine) in [
        (row("n1", "p0", "laboratory"), true),
        (row("n2", "p1", "vital-signs"), true),
        (row("n3", "p0", "vital-signs"), false),
        (row("n4", "p1", "survey"), false),
    ] {
        let written = write(&new, Expected::Absent).await;
        assert_eq!(written.is_ok(), fine, "{new:?}");
        assert!(fine || is_refused(&written));
    }
    for (old, category, fine) in [
        // A laboratory's result of p0, of p1's vital signs, and a survey of p0.
        (&observations[0], "laboratory", true),
        (&observations[0], "vital-signs", false),
        (&observations[1], "vital-signs", true),
        (&observations[1], "survey", false),
        (&observations[3], "laboratory", false),
        (&observations[9], "laboratory", false),
    ] {
        let now = house
            .vault()
            .load(
                &house.importer(TENANT).await,
                ResourceType::Observation,
                &old.id,
            )
            .await
            .unwrap()
            .unwrap();
        let changed = row(&old.id, &old.patient, category);
        let written = write(&changed, Expected::Version(now.version)).await;
        assert_eq!(written.is_ok(), fine, "{old:?} {category}");
        assert!(fine || is_refused(&written));
    }
    for (old, fine) in [
        (&observations[4], true),
        (&observations[7], false),
        (&observations[13], false),
    ] {
        let unit = Unit {
            changes: vec![Change::Delete {
                kind: ResourceType::Observation,
                id: old.id.clone(),
                expected: Expected::Version(1),
                owner: Owner::Patient(old.patient.clone()),
            }],
            ..Unit::default()
        };
        let deleted = house.vault().commit(&may, unit).await;
        assert_eq!(deleted.is_ok(), fine, "{old:?}");
        assert!(fine || is_refused(&deleted));
    }
    // Other types aren't written at all.
    let patient = house
        .vault()
        .commit(&may, put(a_patient("q", "Lie"), Expected::Absent))
        .await;
    assert!(is_refused(&patient));
}

// Proves: 45 CFR 164.312(a)(1)
#[tokio::test]
async fn a_token_for_one_patient_opens_no_other_record_and_no_service() {
    let house = House::new().await;
    rows(&house).await;
    let given = Given {
        scopes: vec![scope("patient", "*", "cruds", "")],
        patient: Some("p1"),
    };
    let agent = given.agent();
    let of = |patient: &str| Target {
        kind: Some(ResourceType::Patient),
        patient: Some(patient.to_owned()),
    };
    let decide = async |target| {
        let trust = &house.trust;
        trust
            .decide(&agent, Purpose::Treatment, Action::Read, target, "r")
            .await
    };
    assert!(is_refused(&decide(of("p0")).await));
    let own = decide(of("p1")).await.unwrap();
    assert_eq!(own.only_patient(), Some("p1"));
    let free = decide(Target::default()).await.unwrap();
    assert_eq!(free.only_patient(), Some("p1"));
    for action in [
        Action::Export,
        Action::Import,
        Action::Index,
        Action::Audit,
        Action::Publish,
        Action::Steer,
        Action::Observe,
        Action::Work,
        Action::Administer,
        Action::Account,
    ] {
        for purpose in Purpose::ALL {
            let decided = house.permit(&agent, purpose, action).await;
            assert!(is_refused(&decided), "{action:?} {purpose:?}");
        }
    }
    // Without a patient there is nothing that is the patient's.
    let nobody = Given {
        scopes: given.scopes,
        patient: None,
    };
    let permit = permit(&house, &nobody.agent(), Action::Search)
        .await
        .unwrap();
    let all = query(ResourceType::Patient, &[]);
    let page = house.vault().search(&permit, &all, None).await.unwrap();
    assert!(page.rows.is_empty());
}
