//! Search parameters of one's own wherever R4's can stand; definitions that repeat R4's; and lists by name.
use fhir::ResourceType as T;
use record::{Caller, PatchForm, Preconditions};
use serde_json::{Value, json};
use trust::{Action, Agent, IndexStep, Purpose, Role, Target};

use crate::house::{House, TENANT, caller, client, json_of, kind_of, observation, pairs, wrong};
use crate::privacy::deny;

fn operator() -> Caller {
    caller(Role::Client, Purpose::Operations)
}

fn definition(id: &str, code: &str, kind: &str, expression: &str) -> Value {
    let base = expression.split('.').next().unwrap();
    json!({"resourceType": "SearchParameter", "id": id, "url": format!("http://example.org/{id}"), "name": "x",
        "status": "active", "description": "x", "code": code, "base": [base], "type": kind,
        "expression": expression})
}

async fn put(house: &House, caller: &Caller, value: &Value) -> (u16, String) {
    let (kind, id) = (kind_of(value), value["id"].as_str().unwrap());
    let body = value.to_string();
    let none = Preconditions::default();
    let written = house
        .record
        .update_if(caller, kind, id, none, body.as_bytes());
    match written.await {
        Ok(answer) => (answer.status, String::new()),
        Err(error) => (error.status, error.outcome.to_string()),
    }
}

async fn define(house: &House, value: &Value) {
    let (status, words) = put(house, &operator(), value).await;
    assert!(matches!(status, 200 | 201), "{status} {words}");
}

async fn index(house: &House) {
    let agent = Agent::system(TENANT, "indexer");
    let (purpose, target) = (Purpose::Administration, Target::default());
    let decided = house
        .trust
        .decide(&agent, purpose, Action::Index, target, "r");
    let permit = decided.await.unwrap();
    let vault = house.trust.vault();
    for own in vault.owns(TENANT).iter() {
        while vault.index_own(&permit, own).await.unwrap() != IndexStep::Complete {}
    }
}

fn patient(id: &str, eyes: &str) -> Value {
    json!({"resourceType": "Patient", "id": id, "name": [{"family": id}],
        "extension": [{"url": "urn:eye", "valueCodeableConcept": {"text": format!("{eyes} eyes"),
            "coding": [{"system": "urn:c", "code": eyes}]}}]})
}

const EYES: &str = "Patient.extension.where(url = 'urn:eye').value.ofType(CodeableConcept)";

fn numbered(number: &str) -> Value {
    let mut value = patient("x", "blue");
    value["extension"][0]["valueCodeableConcept"]["coding"][0]["code"] = json!(number);
    value.as_object_mut().unwrap().remove("id");
    value
}

#[tokio::test]
async fn conditional_writes_are_aimed_by_it() {
    let house = House::new().await;
    for (id, eyes) in [("a", "blue"), ("b", "green"), ("c", "blue")] {
        put(&house, &client(), &patient(id, eyes)).await;
    }
    let record = &house.record;
    let create = async |criteria: &str, body: &Value| {
        let body = body.to_string();
        record
            .conditional_create(&client(), T::Patient, criteria, body.as_bytes())
            .await
    };
    // Nobody knows the parameter yet.
    assert_eq!(wrong(create("eyes=7", &numbered("7")).await).0, 400);
    define(&house, &definition("eyes", "eyes", "token", EYES)).await;
    for round in ["before it is indexed", "after"] {
        let code = if round == "after" { "8" } else { "7" };
        let criteria = format!("eyes=urn:c|{code}");
        let made = create(&criteria, &numbered(code)).await.unwrap();
        assert_eq!(made.status, 201, "{round}");
        assert_eq!(
            create(&criteria, &numbered(code)).await.unwrap().status,
            200
        );
        assert_eq!(wrong(create("eyes=blue", &numbered(code)).await).0, 412);
        assert_eq!(wrong(create("eyes=nine", &numbered(code)).await).0, 422);
        let mut changed = numbered(code);
        changed["gender"] = json!("female");
        let none = Preconditions::default();
        let body = changed.to_string();
        let updated = record
            .conditional_update(
                &client(),
                T::Patient,
                &pairs(&criteria),
                none,
                body.as_bytes(),
            )
            .await;
        assert_eq!(json_of(&updated.unwrap())["gender"], "female");
        let patch = json!([{"op": "replace", "path": "/gender", "value": "male"}]).to_string();
        let patched = record
            .conditional_patch(
                &client(),
                T::Patient,
                &pairs(&criteria),
                Preconditions::default(),
                PatchForm::Json,
                patch.as_bytes(),
            )
            .await;
        assert_eq!(json_of(&patched.unwrap())["gender"], "male");
        // In a transaction, with a condition that is no list of clauses.
        let entry = json!({"resource": numbered(code), "request": {"method": "POST", "url": "Patient",
            "ifNoneExist": format!("_filter=eyes eq {code} or eyes eq none")}});
        let bundle = house
            .bundle(&client(), "transaction", vec![entry])
            .await
            .unwrap();
        assert_eq!(
            bundle["entry"][0]["response"]["status"], "200 OK",
            "{round}"
        );
        let gone = record
            .conditional_delete(
                &client(),
                T::Patient,
                &pairs(&criteria),
                Preconditions::default(),
            )
            .await;
        assert_eq!(gone.unwrap().status, 204);
        assert_eq!(
            house.find(T::Patient, &criteria).await["entry"],
            Value::Null
        );
        assert_eq!(house.count(T::Patient).await, 3);
        index(&house).await;
    }
}

#[tokio::test]
async fn modifiers_and_words_are_those_of_others() {
    let house = House::new().await;
    define(&house, &definition("eyes", "eyes", "token", EYES)).await;
    let mut other = definition(
        "kept",
        "kept-by",
        "reference",
        "Patient.managingOrganization",
    );
    other["target"] = json!(["Organization"]);
    define(&house, &other).await;
    define(
        &house,
        &definition(
            "mrn",
            "mrn",
            "token",
            "Patient.identifier.where(use = 'usual')",
        ),
    )
    .await;
    put(&house, &client(), &patient("a", "blue")).await;
    let mut value = patient("b", "green");
    value["managingOrganization"] =
        json!({"reference": "Organization/o", "identifier": {"value": "17"}});
    value["identifier"] = json!([{"use": "usual", "value": "5", "type": {"coding": [{"system": "urn:t", "code": "MR"}]}}]);
    put(&house, &client(), &value).await;
    let organization = json!({"resourceType": "Organization", "id": "o", "name": "Berg"});
    put(&house, &client(), &organization).await;
    for (query, found) in [
        ("eyes:text=blue", &["a"][..]),
        ("eyes:text=eyes", &[]),
        ("kept-by:identifier=17", &["b"]),
        ("kept-by=o", &["b"]),
        ("kept-by:Organization=o", &["b"]),
        ("kept-by:missing=true", &["a"]),
        ("kept-by.name=berg", &["b"]),
        ("mrn:of-type=urn:t|MR|5", &["b"]),
        ("_sort=-kept-by", &["b", "a"]),
        ("_sort=eyes", &["a", "b"]),
        ("_filter=not(kept-by.name co \"er\")", &["a"]),
        (
            "_filter=kept-by[name sw b].name ew g or eyes eq none",
            &["b"],
        ),
    ] {
        for round in 0..2 {
            let bundle = house.find(T::Patient, query).await;
            let entries = bundle["entry"].as_array().cloned().unwrap_or_default();
            let ids: Vec<&str> = entries
                .iter()
                .map(|entry| entry["resource"]["id"].as_str().unwrap())
                .collect();
            assert_eq!(ids, found, "{query}, {round}");
            index(&house).await;
        }
    }
    for (query, words) in [
        ("kept-by=Patient/a", "can't refer to Patient"),
        ("eyes.name=x", "no reference parameter"),
        ("kept-by.eyes=x", "no search parameter of Organization"),
        ("eyes:of-type=a|b|c", "no identifiers"),
        ("_include=Patient:eyes", "kept-by"),
        ("hair=x", "eyes"),
    ] {
        let refused = house
            .record
            .search(&client(), T::Patient, &pairs(query))
            .await;
        let refused = refused.unwrap_err().outcome.to_string();
        assert!(refused.contains(words), "{query}: {refused}");
    }
    let both = house
        .find(T::Patient, "kept-by=o&_include=Patient:kept-by")
        .await;
    assert_eq!(both["entry"][1]["resource"]["id"], "o");
    let back = house
        .find(T::Organization, "_revinclude=Patient:kept-by")
        .await;
    assert_eq!(back["entry"][1]["resource"]["id"], "b");
    let all = house.find(T::Organization, "_revinclude=*").await;
    assert_eq!(all["entry"].as_array().unwrap().len(), 2);
    let has = "_has:Patient:kept-by:eyes=green";
    assert_eq!(
        house.find(T::Organization, has).await["entry"][0]["resource"]["id"],
        "o"
    );
    let statement = json_of(&house.record.metadata(
        TENANT,
        "http://x",
        &[("token", "http://x/oauth/token".to_owned())],
        "1",
    ));
    let types = statement["rest"][0]["resource"].as_array().unwrap();
    let of = |name: &str| types.iter().find(|one| one["type"] == name).unwrap();
    let listed = |one: &Value| one.as_array().unwrap().contains(&json!("Patient:kept-by"));
    assert!(listed(&of("Patient")["searchInclude"]));
    assert!(listed(&of("Organization")["searchRevInclude"]));
    assert!(!listed(&of("Practitioner")["searchRevInclude"]));
}

#[tokio::test]
async fn definitions_that_repeat_r4s_are_taken_and_r4s_answer() {
    let house = House::new().await;
    let with = |mut value: Value, name: &str, member: Value| {
        value[name] = member;
        value
    };
    let core =
        |code: &str, kind: &str, expression: &str| definition("core", code, kind, expression);
    let derived = |url: &str, value: Value| {
        let url = format!("http://hl7.org/fhir/SearchParameter/{url}");
        with(value, "derivedFrom", json!(url))
    };
    for value in [
        core("birthdate", "date", "Patient.birthDate"),
        core(
            "onset-date",
            "date",
            "Condition.onset.as(dateTime)|Condition.onset.as(Period)",
        ),
        core(
            "onset-date",
            "date",
            "Condition.onset.ofType(Period) | Condition.onset.ofType(dateTime)",
        ),
        derived(
            "individual-birthdate",
            core("birthdate", "date", "Patient.birthDate.value"),
        ),
        derived("Resource-id", core("_id", "token", "Resource.id")),
        with(
            core("_id", "token", "Resource.id"),
            "base",
            json!(["Encounter"]),
        ),
        derived(
            "Observation-code-value-quantity|4.0.1",
            core("code-value-quantity", "composite", "Observation"),
        ),
    ] {
        let mut value = value;
        if value["code"] == "_id" {
            value["base"] = json!(["Patient"]);
        }
        define(&house, &value).await;
        assert!(house.trust.vault().owns(TENANT).is_empty(), "{value}");
        let told = house
            .record
            .search_parameter_status(&operator(), "core")
            .await;
        let told = json_of(&told.unwrap());
        assert_eq!(told["parameter"][0]["valueBoolean"], false);
        let reason = told["parameter"][1]["valueString"].as_str().unwrap();
        assert!(reason.contains("R4 has it already"), "{reason}");
    }
    // R4's for one type, and one's own for the other.
    let both = json!({"base": ["Patient", "Practitioner"], "expression": "Patient.birthDate | Practitioner.birthDate"});
    let mut value = core("birthdate", "date", "Patient.birthDate");
    for (name, member) in both.as_object().unwrap() {
        value[name] = member.clone();
    }
    define(&house, &value).await;
    let owns = house.trust.vault().owns(TENANT);
    assert_eq!(
        owns.iter().map(|own| own.base()).collect::<Vec<_>>(),
        [T::Practitioner]
    );
    let practitioner =
        json!({"resourceType": "Practitioner", "id": "d", "birthDate": "1970-01-01"});
    put(&house, &client(), &practitioner).await;
    let found = house.find(T::Practitioner, "birthdate=1970").await;
    assert_eq!(found["entry"][0]["resource"]["id"], "d");
    for (value, words) in [
        (
            core("birthdate", "date", "Patient.deceased.ofType(dateTime)"),
            "has already",
        ),
        (
            core("birthdate", "token", "Patient.birthDate"),
            "of the type date",
        ),
        (
            derived(
                "individual-gender",
                core("birthdate", "date", "Patient.deceased.ofType(dateTime)"),
            ),
            "`Patient.birthDate`",
        ),
    ] {
        let (status, told) = put(&house, &operator(), &value).await;
        assert!(status == 422 && told.contains(words), "{status} {told}");
    }
}

/// As US Core defines them: through the value of an extension, whatever its type.
#[tokio::test]
async fn values_of_extensions_need_no_type() {
    let house = House::new().await;
    let race = "Patient.extension.where(url = 'urn:race').extension.value.code";
    define(&house, &definition("race", "race", "token", race)).await;
    let asserted = "Condition.extension.where(url = 'urn:asserted').value";
    define(
        &house,
        &definition("asserted", "asserted-date", "date", asserted),
    )
    .await;
    let value = json!({"resourceType": "Patient", "id": "a", "extension": [{"url": "urn:race", "extension": [
        {"url": "ombCategory", "valueCoding": {"system": "urn:s", "code": "2106-3"}},
        {"url": "text", "valueString": "White"}]}]});
    put(&house, &client(), &value).await;
    let value = json!({"resourceType": "Condition", "id": "c", "subject": {"reference": "Patient/a"},
        "extension": [{"url": "urn:asserted", "valueDateTime": "2026-01-02"}]});
    let (status, words) = put(&house, &client(), &value).await;
    assert_eq!(status, 201, "{words}");
    for (kind, query, found) in [
        (T::Patient, "race=2106-3", true),
        (T::Patient, "race=White", false),
        (T::Patient, "race:missing=false", true),
        (T::Condition, "asserted-date=2026-01", true),
        (T::Condition, "asserted-date=gt2026-02", false),
        (T::Condition, "_sort=asserted-date", true),
    ] {
        let is_found = house.find(kind, query).await["entry"].is_array();
        assert_eq!(is_found, found, "{query}");
    }
}

fn list(id: &str, code: &str, more: &Value) -> Value {
    let mut value = json!({"resourceType": "List", "id": id, "status": "current", "mode": "working",
        "subject": {"reference": "Patient/a"},
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "entry": [{"item": {"reference": format!("Condition/{id}")}}]});
    for (name, one) in more.as_object().unwrap() {
        value[name] = one.clone();
    }
    value
}

#[tokio::test]
async fn lists_by_name_are_those_that_are_current() {
    let house = House::new().await;
    for id in ["a", "b"] {
        put(&house, &client(), &patient(id, "blue")).await;
    }
    let condition = |id: &str, patient: &str| json!({"resourceType": "Condition", "id": id, "subject": {"reference": format!("Patient/{patient}")}});
    for id in ["one", "two", "old", "picture", "drug", "none"] {
        put(&house, &client(), &condition(id, "a")).await;
    }
    put(&house, &client(), &condition("other", "b")).await;
    let asked = "patient=a&_list=$current-problems&_sort=_id";
    let ask = async |query: &str| {
        let found = house
            .record
            .search(&client(), T::Condition, &pairs(query))
            .await?;
        let bundle = json_of(&found);
        let entries = bundle["entry"].as_array().cloned().unwrap_or_default();
        let ids = entries
            .iter()
            .map(|entry| entry["resource"]["id"].as_str().unwrap().to_owned());
        Ok(ids.collect::<Vec<_>>())
    };
    // Nobody has said what is current; that there is nothing would be another answer.
    assert_eq!(wrong(ask(asked).await), (400, "not-found".to_owned()));
    let none = json!({});
    for value in [
        list("old", "46105-3", &json!({"status": "retired"})),
        list("picture", "46105-3", &json!({"mode": "snapshot"})),
        list("drug", "10160-0", &none),
        list(
            "other",
            "46105-3",
            &json!({"subject": {"reference": "Patient/b"}}),
        ),
    ] {
        put(&house, &client(), &value).await;
    }
    assert_eq!(wrong(ask(asked).await).0, 400);
    put(&house, &client(), &list("one", "46105-3", &none)).await;
    assert_eq!(ask(asked).await.unwrap(), ["one"]);
    put(&house, &client(), &list("two", "11450-4", &none)).await;
    assert_eq!(ask(asked).await.unwrap(), ["one", "two"]);
    assert_eq!(
        ask("patient=a&_list=$current-medications").await.unwrap(),
        ["drug"]
    );
    let empty = list("one", "46105-3", &json!({"entry": []}));
    let mut empty = empty;
    empty.as_object_mut().unwrap().remove("entry");
    put(&house, &client(), &empty).await;
    assert_eq!(ask(asked).await.unwrap(), ["two"]);
    // A list that there is and that holds nothing says that there is nothing.
    let empty_allergies = {
        let mut value = list("allergies", "52472-8", &none);
        value.as_object_mut().unwrap().remove("entry");
        value
    };
    put(&house, &client(), &empty_allergies).await;
    assert!(
        ask("patient=a&_list=$current-allergies")
            .await
            .unwrap()
            .is_empty()
    );
    for query in [
        "_list=$current-problems",
        "patient=a&_list=$current-drug-allergies",
    ] {
        assert_eq!(wrong(ask(query).await).0, 400, "{query}");
    }
}

#[tokio::test]
async fn an_explanation_tells_of_conditions_and_of_what_is_being_indexed() {
    let house = House::new().await;
    define(&house, &definition("eyes", "eyes", "token", EYES)).await;
    put(&house, &client(), &patient("a", "blue")).await;
    let explain = async |query: &str| {
        let told = house
            .record
            .explain(&client(), T::Patient, &pairs(query))
            .await;
        let told = json_of(&told.unwrap());
        let list = told["parameter"].as_array().unwrap().clone();
        move |name: &str| list.iter().find(|one| one["name"] == name).cloned()
    };
    let part = |of: &Value, name: &str| {
        let parts = of["part"].as_array().unwrap().iter();
        parts
            .filter(|one| one["name"] == name)
            .cloned()
            .collect::<Vec<_>>()
    };
    let clause = (explain("eyes=blue").await)("clause").unwrap();
    assert_eq!(part(&clause, "indexing")[0]["valueBoolean"], true);
    index(&house).await;
    let clause = (explain("eyes=blue").await)("clause").unwrap();
    assert_eq!(part(&clause, "indexing"), [] as [Value; 0]);
    assert_eq!(part(&clause, "way")[0]["valueCode"], "lists");
    let told = explain("_filter=eyes eq blue or not(organization.name co \"PRIVATE\")").await;
    let condition = told("condition").unwrap();
    assert_eq!(part(&condition, "joined")[0]["valueCode"], "any");
    assert_eq!(
        part(&part(&condition, "clause")[0], "parameter")[0]["valueString"],
        "eyes"
    );
    let not = &part(&condition, "condition")[0];
    assert_eq!(part(not, "joined")[0]["valueCode"], "not");
    assert_eq!(
        part(&part(not, "link")[0], "parameter")[0]["valueString"],
        "organization"
    );
    assert!(!condition.to_string().contains("PRIVATE"));
    let step = told("clause").unwrap();
    assert_eq!(part(&step, "parameter")[0]["valueString"], "_filter");
}

// Proves: 45 CFR 164.312(a)(1)
#[tokio::test]
async fn what_is_hidden_has_no_part_in_a_condition() {
    let house = House::new().await;
    let (berg, dahl) = (house.patient("Berg").await, house.patient("Dahl").await);
    let hidden = house.create(&observation(&dahl, "75622-1")).await;
    let mut panel = observation(&berg, "85354-9");
    panel["hasMember"] = json!([{"reference": format!("Observation/{hidden}")}]);
    house.create(&panel).await;
    let mut problems = list(
        "l",
        "46105-3",
        &json!({"entry": [{"item": {"reference": format!("Observation/{hidden}")}}]}),
    );
    problems["subject"] = json!({"reference": format!("Patient/{dahl}")});
    house.create(&problems).await;
    deny(&house, &dahl).await;
    let clinician = caller(Role::Clinician, Purpose::Treatment);
    let coordinator = caller(Role::Coordinator, Purpose::Treatment);
    let count = async |caller: &Caller, query: &str| {
        let found = house
            .record
            .search(caller, T::Observation, &pairs(query))
            .await?;
        Ok(json_of(&found)["entry"].as_array().map_or(0, Vec::len))
    };
    let is = "_filter=has-member.code eq 75622-1 or code eq none";
    let is_not = "_filter=not(has-member.code eq 75622-1) and code eq 85354-9";
    for (caller, found, left) in [(&clinician, 1, 0), (&coordinator, 0, 1)] {
        assert_eq!(count(caller, is).await.unwrap(), found);
        assert_eq!(count(caller, is_not).await.unwrap(), left);
    }
    let current = format!("patient={dahl}&_list=$current-problems");
    assert_eq!(count(&clinician, &current).await.unwrap(), 1);
    let told = wrong(count(&coordinator, &current).await);
    assert_eq!(told, (400, "not-found".to_owned()));
}
