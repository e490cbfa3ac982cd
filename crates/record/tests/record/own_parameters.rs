//! Search parameters of one's own: from their definition to their end, whoever has heard of them.
use fhir::ResourceType as T;
use record::Caller;
use serde_json::{Value, json};
use trust::{Action, Agent, IndexStep, Permit, Purpose, Role, Target, Trust};

use crate::house::{House, TENANT, caller, client, json_of, pairs, wrong};

/// A system that sets the record up.
fn operator() -> Caller {
    caller(Role::Client, Purpose::Operations)
}

fn definition(id: &str, code: &str, kind: &str, expression: &str) -> Value {
    let base = expression.split('.').next().unwrap();
    json!({"resourceType": "SearchParameter", "id": id, "url": format!("http://example.org/{id}"), "name": "x",
        "status": "active", "description": "x", "code": code, "base": [base], "type": kind,
        "expression": expression})
}

const EYES: &str = "Patient.extension.where(url = 'urn:eye').value.ofType(CodeableConcept)";

async fn put(record: &record::Record, caller: &Caller, value: &Value) -> (u16, String) {
    let (kind, id) = (crate::house::kind_of(value), value["id"].as_str().unwrap());
    let body = value.to_string();
    match record.update(caller, kind, id, None, body.as_bytes()).await {
        Ok(answer) => (answer.status, String::new()),
        Err(error) => (error.status, error.outcome.to_string()),
    }
}

async fn define(house: &House, value: &Value) {
    let (status, words) = put(&house.record, &operator(), value).await;
    assert!(matches!(status, 200 | 201), "{status} {words}");
}

async fn permit(trust: &Trust) -> Permit {
    let agent = Agent::system(TENANT, "indexer");
    let target = Target::default();
    let decided = trust.decide(&agent, Purpose::Administration, Action::Index, target, "r");
    decided.await.unwrap()
}

/// Indexes until all is seen to be.
async fn index(trust: &Trust) {
    let permit = permit(trust).await;
    trust.vault().refresh_owns(TENANT).await.unwrap();
    for own in trust.vault().owns(TENANT).iter() {
        while trust.vault().index_own(&permit, own).await.unwrap() != IndexStep::Complete {}
    }
}

fn patient(id: &str, eyes: &str) -> Value {
    json!({"resourceType": "Patient", "id": id, "name": [{"family": "Berg"}],
        "extension": [{"url": "urn:eye", "valueCodeableConcept": {"coding": [{"system": "urn:c", "code": eyes}]}}]})
}

async fn ids(record: &record::Record, kind: T, query: &str) -> Vec<String> {
    let answer = record.search(&client(), kind, &pairs(query)).await;
    let bundle = json_of(&answer.unwrap());
    let entries = bundle["entry"].as_array().cloned().unwrap_or_default();
    let mut ids: Vec<String> = entries
        .iter()
        .map(|entry| entry["resource"]["id"].as_str().unwrap().to_owned())
        .collect();
    ids.sort();
    ids
}

/// Of a status: state and number of the unindexed.
async fn status(house: &House, id: &str) -> (String, u64) {
    let answer = house.record.search_parameter_status(&operator(), id).await;
    let told = json_of(&answer.unwrap());
    assert_eq!(told["parameter"][0]["valueBoolean"], true, "{told}");
    let parts = told["parameter"][1]["part"].as_array().unwrap();
    let part = |name: &str| parts.iter().find(|part| part["name"] == name).unwrap();
    let state = part("state")["valueCode"].as_str().unwrap().to_owned();
    (state, part("unindexed")["valueInteger"].as_u64().unwrap())
}

/// How many rows a search turned down after opening them.
async fn turned_down(house: &House, query: &str) -> u64 {
    let answer = house
        .record
        .explain(&client(), T::Patient, &pairs(query))
        .await;
    let told = json_of(&answer.unwrap());
    let list = told["parameter"].as_array().unwrap();
    let opened = list.iter().find(|one| one["name"] == "opened").unwrap();
    let parts = opened["part"].as_array().unwrap();
    let one = parts.iter().find(|one| one["name"] == "turned-down");
    one.unwrap()["valueInteger"].as_u64().unwrap()
}

#[tokio::test]
async fn it_is_right_from_the_first_moment_and_fast_once_indexed() {
    let house = House::new().await;
    for (id, eyes) in [("a", "blue"), ("b", "green"), ("c", "blue")] {
        put(&house.record, &client(), &patient(id, eyes)).await;
    }
    let unknown = house
        .record
        .search(&client(), T::Patient, &pairs("eyes=blue"))
        .await;
    assert_eq!(wrong(unknown).0, 400);
    define(&house, &definition("eyes", "eyes", "token", EYES)).await;
    assert_eq!(
        ids(&house.record, T::Patient, "eyes=blue").await,
        ["a", "c"]
    );
    assert_eq!(status(&house, "eyes").await, ("indexing".to_owned(), 3));
    assert_eq!(turned_down(&house, "eyes=urn:c|blue").await, 1);
    index(&house.trust).await;
    assert_eq!(status(&house, "eyes").await, ("complete".to_owned(), 0));
    assert_eq!(turned_down(&house, "eyes=urn:c|blue").await, 0);
    for (query, found) in [
        ("eyes=blue", &["a", "c"][..]),
        ("eyes=urn:c|green,urn:x|blue", &["b"]),
        ("eyes:not=blue", &["b"]),
        ("eyes:missing=true", &[]),
        ("eyes=blue&family=berg&_sort=family", &["a", "c"]),
    ] {
        assert_eq!(
            ids(&house.record, T::Patient, query).await,
            found,
            "{query}"
        );
    }
    // What is written now is indexed by its own commit.
    put(&house.record, &client(), &patient("b", "blue")).await;
    put(&house.record, &client(), &patient("d", "green")).await;
    assert_eq!(status(&house, "eyes").await, ("complete".to_owned(), 0));
    assert_eq!(
        ids(&house.record, T::Patient, "eyes=blue").await,
        ["a", "b", "c"]
    );
    assert_eq!(turned_down(&house, "eyes=blue").await, 0);
    let statement = json_of(&house.record.metadata(
        TENANT,
        "http://x",
        &[("token", "http://x/token".to_owned())],
        "1",
    ));
    let types = statement["rest"][0]["resource"].as_array().unwrap();
    let patients = types.iter().find(|one| one["type"] == "Patient").unwrap();
    let named = patients["searchParam"].as_array().unwrap().iter();
    let own = named
        .filter(|one| one["name"] == "eyes")
        .collect::<Vec<_>>();
    assert_eq!(own[0]["definition"], "http://x/SearchParameter/eyes");
}

#[tokio::test]
async fn an_end_is_at_once_and_a_new_beginning_finds_everything() {
    let house = House::new().await;
    let active = definition("eyes", "eyes", "token", EYES);
    define(&house, &active).await;
    put(&house.record, &client(), &patient("a", "blue")).await;
    index(&house.trust).await;
    let mut retired = active.clone();
    retired["status"] = json!("retired");
    define(&house, &retired).await;
    let refused = house
        .record
        .search(&client(), T::Patient, &pairs("eyes=blue"))
        .await;
    assert_eq!(wrong(refused).0, 400);
    // Meanwhile one changes and one comes, neither indexed.
    put(&house.record, &client(), &patient("a", "green")).await;
    put(&house.record, &client(), &patient("b", "blue")).await;
    define(&house, &active).await;
    assert_eq!(ids(&house.record, T::Patient, "eyes=blue").await, ["b"]);
    assert_eq!(ids(&house.record, T::Patient, "eyes=green").await, ["a"]);
    assert_eq!(status(&house, "eyes").await, ("complete".to_owned(), 2));
    // Another definition under the same code is another index.
    let other = definition("eyes", "eyes", "string", "Patient.name.family");
    define(&house, &other).await;
    assert_eq!(status(&house, "eyes").await, ("indexing".to_owned(), 2));
    assert_eq!(ids(&house.record, T::Patient, "eyes=ber").await, ["a", "b"]);
    index(&house.trust).await;
    assert_eq!(ids(&house.record, T::Patient, "eyes=ber").await, ["a", "b"]);
    let gone = house
        .record
        .delete(&operator(), T::SearchParameter, "eyes", None)
        .await;
    gone.unwrap();
    let refused = house
        .record
        .search(&client(), T::Patient, &pairs("eyes=ber"))
        .await;
    assert_eq!(wrong(refused).0, 400);
}

#[tokio::test]
async fn who_may_not_define_and_what_can_not_be_is_refused() {
    let house = House::new().await;
    let active = definition("eyes", "eyes", "token", EYES);
    assert_eq!(put(&house.record, &client(), &active).await.0, 403);
    // Any other is a resource like others.
    let mut draft = active.clone();
    draft["status"] = json!("draft");
    assert_eq!(put(&house.record, &client(), &draft).await.0, 201);
    define(&house, &active).await;
    for (status, caller) in [("retired", client()), ("active", client())] {
        let mut changed = active.clone();
        changed["status"] = json!(status);
        changed["code"] = json!("other");
        assert_eq!(
            put(&house.record, &caller, &changed).await.0,
            403,
            "{status}"
        );
    }
    let gone = house
        .record
        .delete(&client(), T::SearchParameter, "eyes", None)
        .await;
    assert_eq!(wrong(gone).0, 403);
    let asked = house
        .record
        .search_parameter_status(&client(), "eyes")
        .await;
    assert_eq!(wrong(asked).0, 403);
    let (status, words) = put(
        &house.record,
        &operator(),
        &definition("two", "eyes", "token", EYES),
    )
    .await;
    assert!(
        status == 422 && words.contains("another active"),
        "{status} {words}"
    );
    for (code, kind, expression, place) in [
        ("family", "token", EYES, "SearchParameter.code"),
        ("x", "composite", EYES, "SearchParameter.type"),
        ("x", "token", "Patient.name.(", "SearchParameter.expression"),
        ("x", "token", "Patient.name", "SearchParameter.expression"),
        ("x", "token", "AuditEvent.type", "SearchParameter.base"),
    ] {
        let value = definition("x", code, kind, expression).to_string();
        let operator = operator();
        let refused = (house.record)
            .update(&operator, T::SearchParameter, "x", None, value.as_bytes())
            .await
            .unwrap_err();
        assert!(matches!(refused.status, 400 | 422), "{}", refused.status);
        let places: Vec<_> = refused
            .outcome
            .issues
            .iter()
            .map(|issue| issue.expression.clone())
            .collect();
        assert!(
            places.contains(&Some(place.to_owned())),
            "{code} {kind}: {places:?}"
        );
    }
}

/// Two servers on one store: one that has not heard of a parameter writes documents without it.
#[tokio::test]
async fn what_another_server_wrote_that_has_not_heard_is_found() {
    let house = House::new().await;
    let deaf = Trust::new(trust::TrustOptions {
        ledger: house.trust.vault().ledger().clone(),
        wall_clock: std::sync::Arc::new(house.clock.clone()),
        policy_folder: None,
        session_idle_s: 900,
        session_absolute_s: 43_200,
    })
    .unwrap();
    let other = record::Record::new(deaf.clone());
    define(&house, &definition("eyes", "eyes", "token", EYES)).await;
    put(&house.record, &client(), &patient("a", "blue")).await;
    put(&house.record, &client(), &patient("b", "blue")).await;
    index(&house.trust).await;
    put(&other, &client(), &patient("b", "green")).await;
    put(&other, &client(), &patient("c", "blue")).await;
    assert_eq!(
        ids(&house.record, T::Patient, "eyes=blue").await,
        ["a", "c"]
    );
    assert_eq!(ids(&house.record, T::Patient, "eyes=green").await, ["b"]);
    assert_eq!(status(&house, "eyes").await, ("complete".to_owned(), 2));
    // It refuses what it doesn't know, until it hears.
    assert_eq!(
        wrong(
            other
                .search(&client(), T::Patient, &pairs("eyes=blue"))
                .await
        )
        .0,
        400
    );
    deaf.vault().refresh_owns(TENANT).await.unwrap();
    assert_eq!(ids(&other, T::Patient, "eyes=blue").await, ["a", "c"]);
    // Either goes over what there is.
    index(&deaf).await;
    assert_eq!(status(&house, "eyes").await, ("complete".to_owned(), 0));
    assert_eq!(
        ids(&house.record, T::Patient, "eyes=blue").await,
        ["a", "c"]
    );
}

/// Puts a row that no program can read as a resource.
async fn damage(house: &House, kind: T, id: &str) {
    let ledger = house.trust.vault().ledger();
    let mut commit = ledger::Commit::new(TENANT);
    commit.documents.push(ledger::Draft {
        kind: ledger::Kind(kind.code()),
        id: id.to_owned(),
        owner: ledger::Owner::Tenant,
        expected: ledger::Expected::Absent,
        body: b"{}".to_vec(),
        deleted: false,
        tokens: Vec::new(),
    });
    commit.audit = Some(ledger::AuditDraft {
        kind: ledger::Kind(T::AuditEvent.code()),
        id: ledger.mint_own_id(TENANT),
        shard: ledger::Shard(0),
        body: b"{}".to_vec(),
        parts: Vec::new(),
        tokens: Vec::new(),
    });
    ledger.commit(commit).await.unwrap();
}

/// A second server that hears when it is told to.
fn deaf(house: &House) -> Trust {
    Trust::new(trust::TrustOptions {
        ledger: house.trust.vault().ledger().clone(),
        wall_clock: std::sync::Arc::new(house.clock.clone()),
        policy_folder: None,
        session_idle_s: 900,
        session_absolute_s: 43_200,
    })
    .unwrap()
}

/// A walk goes on where it was, and the one that says that all is done is a whole one.
#[tokio::test]
async fn indexing_goes_on_from_where_it_was() {
    let house = House::new().await;
    let entries = (0..1100)
        .map(|_| {
            json!({"resource": {"resourceType": "Organization", "alias": ["Berg"]},
                   "request": {"method": "POST", "url": "Organization"}})
        })
        .collect();
    let minimal = crate::house::minimal();
    house
        .bundle(&minimal, "transaction", entries)
        .await
        .unwrap();
    let other = record::Record::new(deaf(&house));
    let alias = definition("alias", "alias", "string", "Organization.alias");
    define(&house, &alias).await;
    let permit = permit(&house.trust).await;
    let vault = house.trust.vault();
    let owns = vault.owns(TENANT);
    let own = owns.find(T::Organization, "alias").unwrap();
    let step = async || vault.index_own(&permit, own).await.unwrap();
    assert_eq!(step().await, IndexStep::Indexed(1024));
    let plain = json!({"resourceType": "Organization", "id": "o", "alias": ["Berg"]});
    put(&other, &client(), &plain).await;
    assert_eq!(step().await, IndexStep::Indexed(76));
    assert_eq!(step().await, IndexStep::Indexed(1));
    assert_eq!(step().await, IndexStep::Complete);
    assert_eq!(status(&house, "alias").await, ("complete".to_owned(), 0));
}

/// Values of many parameters have one bound: what is over is found by the check.
#[tokio::test]
async fn many_values_of_many_parameters_keep_no_document_out() {
    let house = House::new().await;
    let named = |id: &str, first: &str| {
        let mut names: Vec<String> = (0..100).map(|number| format!("{number}name")).collect();
        names.push(first.to_owned());
        json!({"resourceType": "Organization", "id": id, "alias": names})
    };
    // One is gone over, the other one is written with the parameters.
    put(&house.record, &client(), &named("old", "Berg")).await;
    for number in 0..60 {
        let code = format!("alias{number}");
        define(
            &house,
            &definition(&code, &code, "string", "Organization.alias"),
        )
        .await;
    }
    index(&house.trust).await;
    let (status, words) = put(&house.record, &client(), &named("new", "Berg")).await;
    assert_eq!(status, 201, "{words}");
    put(&house.record, &client(), &named("other", "Dahl")).await;
    for code in ["alias0", "alias59", "alias9"] {
        let found = ids(&house.record, T::Organization, &format!("{code}=berg")).await;
        assert_eq!(found, ["new", "old"], "{code}");
    }
}

/// What one transaction defines is looked at together.
#[tokio::test]
async fn definitions_of_one_transaction_are_checked_together() {
    let house = House::new().await;
    let all = async |definitions: Vec<Value>| {
        let entry = |value: Value| {
            let url = format!("SearchParameter/{}", value["id"].as_str().unwrap());
            json!({"resource": value, "request": {"method": "PUT", "url": url}})
        };
        let entries = definitions.into_iter().map(entry).collect();
        house.bundle(&operator(), "transaction", entries).await
    };
    let eyes = |id: &str| definition(id, "eyes", "token", EYES);
    let refused = all(vec![eyes("a"), eyes("b")]).await;
    assert_eq!(wrong(refused).0, 422);
    let numbered = |count: usize| -> Vec<Value> {
        let named = (0..count).map(|number| (format!("d{number}"), format!("c{number}")));
        named
            .map(|(id, code)| definition(&id, &code, "token", EYES))
            .collect()
    };
    assert_eq!(wrong(all(numbered(101)).await).0, 422);
    assert!(house.trust.vault().owns(TENANT).is_empty());
    all(vec![eyes("a")]).await.unwrap();
    // One takes the place of another.
    let mut retired = eyes("a");
    retired["status"] = json!("retired");
    all(vec![eyes("b"), retired]).await.unwrap();
    assert_eq!(status(&house, "b").await, ("indexing".to_owned(), 0));
    all(numbered(99)).await.unwrap();
    assert_eq!(wrong(all(vec![eyes("c")]).await).0, 422);
}

#[tokio::test]
async fn a_row_that_can_not_be_read_keeps_no_other_from_its_turn() {
    let house = House::new().await;
    put(&house.record, &client(), &patient("a", "blue")).await;
    damage(&house, T::Organization, "odd").await;
    let plain = json!({"resourceType": "Organization", "id": "o", "alias": ["Berg"]});
    put(&house.record, &client(), &plain).await;
    damage(&house, T::SearchParameter, "odd").await;
    define(&house, &definition("eyes", "eyes", "token", EYES)).await;
    let alias = definition("alias", "alias", "string", "Organization.alias");
    define(&house, &alias).await;
    let permit = permit(&house.trust).await;
    let vault = house.trust.vault();
    assert_eq!(vault.unread_definitions(TENANT), 1);
    let owns = vault.owns(TENANT);
    let alias = owns.find(T::Organization, "alias").unwrap();
    let first = vault.index_own(&permit, alias).await.unwrap();
    assert_eq!(first, IndexStep::Indexed(1));
    // It is never said to be complete.
    for _ in 0..2 {
        let next = vault.index_own(&permit, alias).await.unwrap();
        assert_eq!(next, IndexStep::Left(1));
    }
    assert_eq!(status(&house, "alias").await, ("indexing".to_owned(), 1));
    let eyes = owns.find(T::Patient, "eyes").unwrap();
    while vault.index_own(&permit, eyes).await.unwrap() != IndexStep::Complete {}
    assert_eq!(status(&house, "eyes").await, ("complete".to_owned(), 0));
}

/// A generator with a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

/// A parameter: code, type, expression; what is asked; whether a patient matches that, found without the
/// code that is tested.
type Case = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    fn(&Value) -> bool,
);

fn extension<'a>(patient: &'a Value, url: &str) -> &'a Value {
    let list = patient["extension"].as_array().unwrap();
    list.iter()
        .find(|one| one["url"] == url)
        .unwrap_or(&Value::Null)
}

fn number(patient: &Value) -> Option<f64> {
    extension(patient, "urn:n")["valueDecimal"].as_f64()
}

const CASES: [Case; 12] = [
    ("eyes", "token", EYES, "eyes=c1", |p| {
        extension(p, "urn:eye")["valueCodeableConcept"]["coding"][0]["code"] == "c1"
    }),
    ("eyes", "token", EYES, "eyes:not=c1", |p| {
        extension(p, "urn:eye")["valueCodeableConcept"]["coding"][0]["code"] != "c1"
    }),
    ("eyes", "token", EYES, "eyes:missing=true", |p| {
        extension(p, "urn:eye").is_null()
    }),
    (
        "nick",
        "string",
        "Patient.name.where(use = 'nickname').given",
        "nick=an",
        |p| {
            let names = p["name"].as_array().unwrap().iter();
            names.filter(|name| name["use"] == "nickname").any(|name| {
                name["given"][0]
                    .as_str()
                    .unwrap()
                    .to_lowercase()
                    .starts_with("an")
            })
        },
    ),
    (
        "nick",
        "string",
        "Patient.name.where(use = 'nickname').given",
        "nick:contains=na",
        |p| {
            let names = p["name"].as_array().unwrap().iter();
            names.filter(|name| name["use"] == "nickname").any(|name| {
                name["given"][0]
                    .as_str()
                    .unwrap()
                    .to_lowercase()
                    .contains("na")
            })
        },
    ),
    (
        "since",
        "date",
        "Patient.extension.where(url = 'urn:d').value.ofType(date)",
        "since=ge2001-02-01",
        |p| {
            extension(p, "urn:d")["valueDate"]
                .as_str()
                .is_some_and(|date| date >= "2001-02-01")
        },
    ),
    (
        "since",
        "date",
        "Patient.extension.where(url = 'urn:d').value.ofType(date)",
        "since=2001-02",
        |p| {
            extension(p, "urn:d")["valueDate"]
                .as_str()
                .is_some_and(|date| date.starts_with("2001-02"))
        },
    ),
    (
        "score",
        "number",
        "Patient.extension.where(url = 'urn:n').value.ofType(decimal)",
        "score=gt4",
        |p| number(p).is_some_and(|n| n > 4.0),
    ),
    (
        "score",
        "number",
        "Patient.extension.where(url = 'urn:n').value.ofType(decimal)",
        "score=lt3",
        |p| number(p).is_some_and(|n| n < 3.0),
    ),
    (
        "dose",
        "quantity",
        "Patient.extension.where(url = 'urn:q').value.ofType(Quantity)",
        "dose=le3000|http://unitsofmeasure.org|mg",
        |p| {
            extension(p, "urn:q")["valueQuantity"]["value"]
                .as_f64()
                .is_some_and(|grams| grams <= 3.0)
        },
    ),
    (
        "site",
        "uri",
        "Patient.extension.where(url = 'urn:u').value.ofType(uri)",
        "site=urn:s:1",
        |p| extension(p, "urn:u")["valueUri"] == "urn:s:1",
    ),
    (
        "home",
        "reference",
        "Patient.extension.where(url = 'urn:r').value.ofType(Reference)",
        "home=Organization/o1",
        |p| extension(p, "urn:r")["valueReference"]["reference"] == "Organization/o1",
    ),
];

fn random_patient(random: &mut Random, id: &str) -> Value {
    let mut extensions = vec![json!({"url": "urn:always", "valueBoolean": true})];
    let mut maybe = |random: &mut Random, value: Value| {
        if random.below(3) > 0 {
            extensions.push(value);
        }
    };
    let n = random.below(3);
    maybe(
        random,
        json!({"url": "urn:eye", "valueCodeableConcept": {"coding": [{"system": "urn:c", "code": format!("c{n}")}]}}),
    );
    let n = 1 + random.below(4);
    maybe(
        random,
        json!({"url": "urn:d", "valueDate": format!("2001-0{n}-1{n}")}),
    );
    let n = random.below(7);
    maybe(random, json!({"url": "urn:n", "valueDecimal": n}));
    let n = 1 + random.below(5);
    maybe(
        random,
        json!({"url": "urn:q", "valueQuantity": {"value": n, "unit": "g", "system": "http://unitsofmeasure.org", "code": "g"}}),
    );
    let n = random.below(3);
    maybe(
        random,
        json!({"url": "urn:u", "valueUri": format!("urn:s:{n}")}),
    );
    let n = random.below(3);
    maybe(
        random,
        json!({"url": "urn:r", "valueReference": {"reference": format!("Organization/o{n}")}}),
    );
    let given = ["Anna", "Andrea", "Hanna", "Bo"][random.below(4)];
    let usage = ["nickname", "official"][random.below(2)];
    json!({"resourceType": "Patient", "id": id, "extension": extensions,
        "name": [{"family": "Berg"}, {"use": usage, "given": [given]}]})
}

/// Two servers on one store, each hearing when it likes; definitions come, change and go; documents are
/// written by both; the index is worked on in between. Whenever a server knows a parameter, it finds by it
/// what looking at every document finds.
#[tokio::test]
async fn every_search_finds_what_looking_at_everything_finds() {
    let (mut searches, mut unindexed) = (0, 0);
    for seed in 1..=4 {
        let mut random = Random(seed);
        let house = House::new().await;
        let second = Trust::new(trust::TrustOptions {
            ledger: house.trust.vault().ledger().clone(),
            wall_clock: std::sync::Arc::new(house.clock.clone()),
            policy_folder: None,
            session_idle_s: 900,
            session_absolute_s: 43_200,
        })
        .unwrap();
        let trusts = [house.trust.clone(), second.clone()];
        let records = [house.record.clone(), record::Record::new(second)];
        let mut kept: std::collections::BTreeMap<String, Value> = std::collections::BTreeMap::new();
        for _ in 0..120 {
            let one = random.below(2);
            match random.below(12) {
                0..=4 => {
                    let id = format!("p{}", random.below(20));
                    let value = random_patient(&mut random, &id);
                    let (status, words) = put(&records[one], &client(), &value).await;
                    assert!(matches!(status, 200 | 201), "{words}");
                    kept.insert(id, value);
                }
                5 => {
                    let id = format!("p{}", random.below(20));
                    if kept.remove(&id).is_some() {
                        records[one]
                            .delete(&client(), T::Patient, &id, None)
                            .await
                            .unwrap();
                    }
                }
                6 | 7 => {
                    let (code, kind, expression, ..) = CASES[random.below(CASES.len())];
                    let mut value = definition(code, code, kind, expression);
                    if random.below(4) == 0 {
                        value["status"] = json!("retired");
                    }
                    let (status, words) = put(&records[one], &operator(), &value).await;
                    assert!(matches!(status, 200 | 201), "{words}");
                }
                8 => trusts[one].vault().refresh_owns(TENANT).await.unwrap(),
                9 => {
                    let permit = permit(&trusts[one]).await;
                    let owns = trusts[one].vault().owns(TENANT);
                    let all: Vec<_> = owns.iter().collect();
                    if !all.is_empty() {
                        let own = all[random.below(all.len())];
                        trusts[one].vault().index_own(&permit, own).await.unwrap();
                    }
                }
                10 if random.below(4) == 0 => {
                    let ledger = trusts[one].vault().ledger();
                    ledger.rotate_token_keys(TENANT, &|_| {}).await.unwrap();
                }
                _ => {}
            }
            let (code, _, _, query, matches) = CASES[random.below(CASES.len())];
            let owns = trusts[one].vault().owns(TENANT);
            let Some(own) = owns.find(T::Patient, code) else {
                continue;
            };
            let permit = permit(&trusts[one]).await;
            let indexing = trusts[one].vault().indexing(&permit, own).await;
            unindexed += indexing.unwrap().unindexed;
            let wanted: Vec<String> = kept
                .iter()
                .filter(|(_, value)| matches(value))
                .map(|(id, _)| id.clone())
                .collect();
            let found = ids(&records[one], T::Patient, query).await;
            assert_eq!(found, wanted, "seed {seed}, {query}");
            searches += 1;
        }
    }
    assert!(searches > 100 && unindexed > 100, "{searches} {unindexed}");
}
