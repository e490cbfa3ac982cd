//! Parts of resources and operations over HTTP; the `CapabilityStatement` names those that answer.

use reqwest::Method;
use serde_json::{Value, json};

use crate::house::{assert_outcome, header, house, house_with};

#[tokio::test]
async fn parts_and_operations_have_their_routes() {
    let house = house().await;
    let get = async |path: &str| -> Value {
        let answer = house
            .asked(Method::GET, &format!("/fhir/r4/{path}"))
            .send()
            .await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status(), 200, "{path}");
        answer.json().await.expect("JSON")
    };
    let post = async |path: &str, body: &Value| -> Value {
        let answer = house
            .sent(Method::POST, &format!("/fhir/r4/{path}"), body)
            .send()
            .await;
        let answer = answer.expect("an answer");
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        answer.json().await.expect("JSON")
    };
    let patient =
        json!({"resourceType": "Patient", "name": [{"family": "Berg"}], "photo": [{"title": "x"}]});
    let made = post("Patient", &patient).await;
    let id = made["id"].as_str().expect("an id");
    let marked = |resource: &Value| resource["meta"]["tag"][0]["code"] == "SUBSETTED";
    for path in [
        format!("Patient/{id}?_summary=true"),
        format!("Patient/{id}/_history/1?_elements=name"),
    ] {
        let part = get(&path).await;
        assert!(part.get("photo").is_none() && marked(&part), "{path}");
    }
    let count = get("Patient?_summary=count").await;
    assert_eq!(
        (count["total"].as_u64(), count.get("entry")),
        (Some(1), None)
    );

    let tag = json!({"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": {"tag": [{"code": "a"}]}}]});
    let added = post(&format!("Patient/{id}/$meta-add"), &tag).await;
    assert_eq!(added["parameter"][0]["valueMeta"]["tag"][0]["code"], "a");
    let meta = get(&format!("Patient/{id}/$meta")).await;
    assert_eq!(meta["parameter"][0]["valueMeta"]["versionId"], "2");
    let meta = get(&format!("Patient/{id}/_history/1/$meta")).await;
    assert_eq!(meta["parameter"][0]["valueMeta"]["versionId"], "1");
    let taken = post(&format!("Patient/{id}/$meta-delete"), &tag).await;
    assert_eq!(taken["parameter"][0]["valueMeta"]["versionId"], "3");

    let said = post(
        "Patient/$validate?mode=create",
        &json!({"resourceType": "Patient", "gender": "F"}),
    )
    .await;
    assert_eq!(said["issue"][0]["expression"][0], "Patient.gender");
    let said = get(&format!("Patient/{id}/$validate?mode=delete")).await;
    assert_eq!(said["issue"][0]["severity"], "information");

    let observation = json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"},
        "subject": {"reference": format!("Patient/{id}")}});
    post("Observation", &observation).await;
    let all = get(&format!("Patient/{id}/$everything?_count=1&_pretty=true")).await;
    assert_eq!(all["entry"].as_array().map(Vec::len), Some(1));
    let next = all["link"][1]["url"].as_str().expect("a link");
    assert!(next.ends_with("&_pretty=true"), "{next}");
    let rest = get(next.split_once("/fhir/r4/").expect("ours").1).await;
    assert_eq!(rest["entry"][0]["resource"]["resourceType"], "Observation");
    let told = get("Patient/$explain?family=berg&_format=json").await;
    assert_eq!(told["parameter"][1]["name"], "clause");
    assert_eq!(told["parameter"][1]["part"][0]["valueString"], "family");
    let asked = json!({"resourceType": "Parameters", "parameter": [{"name": "family", "valueString": "berg"}]});
    let posted = post("Patient/$explain", &asked).await;
    assert_eq!(posted["parameter"][1], told["parameter"][1]);
    let posted = json!({"resourceType": "Parameters", "parameter": [
        {"name": "_count", "valueInteger": 1}, {"name": "_type", "valueString": "Observation"}]});
    let posted = post(&format!("Patient/{id}/$everything"), &posted).await;
    assert_eq!(posted["total"], 1);
    let odd = json!({"resourceType": "Parameters", "parameter": [{"name": "_type", "part": []}]});
    let odd = house
        .sent(
            Method::POST,
            &format!("/fhir/r4/Patient/{id}/$everything"),
            &odd,
        )
        .send()
        .await;
    assert_eq!(odd.expect("an answer").status(), 400);
    let last = get(&format!("Observation/$lastn?patient=Patient/{id}")).await;
    assert_eq!(last["total"], 1);
    let asked = json!({"resourceType": "Parameters", "parameter": [{"name": "patient", "valueString": format!("Patient/{id}")}]});
    let last = post("Observation/$lastn", &asked).await;
    // What came in a body stays out of links.
    assert!(
        last["link"][0]["url"]
            .as_str()
            .is_some_and(|url| !url.contains(id))
    );

    for path in [
        "Group/1/$everything",
        "Patient/$lastn",
        "Patient/1/$nothing",
    ] {
        let answer = house
            .asked(Method::GET, &format!("/fhir/r4/{path}"))
            .send()
            .await;
        assert_eq!(answer.expect("an answer").status(), 404, "{path}");
    }
    let stranger = house
        .bare(Method::GET, &format!("/fhir/r4/Patient/{id}/$everything"))
        .send()
        .await;
    assert_outcome(stranger.expect("an answer"), 401, "login").await;

    // XML, too.
    let answer = house
        .asked(
            Method::GET,
            &format!("/fhir/r4/Patient/{id}?_summary=true&_format=xml"),
        )
        .send()
        .await;
    let answer = answer.expect("an answer");
    assert!(header(&answer, "content-type").starts_with("application/fhir+xml"));
    assert!(answer.text().await.expect("text").contains("SUBSETTED"));
    house.end().await;
}

#[tokio::test]
async fn every_operation_that_is_named_is_there() {
    let house = house().await;
    let statement = house.bare(Method::GET, "/fhir/r4/metadata").send().await;
    let statement: Value = statement.expect("an answer").json().await.expect("JSON");
    let resources = statement["rest"][0]["resource"].as_array().expect("types");
    let mut names = 0;
    for resource in resources {
        let kind = resource["type"].as_str().expect("a type");
        for operation in resource["operation"].as_array().expect("operations") {
            let name = operation["name"].as_str().expect("a name");
            names += 1;
            let of_type = matches!(name, "validate" | "lastn" | "explain" | "match")
                || (kind, name) == ("Patient", "export");
            let id = if of_type { "" } else { "x/" };
            let path = format!("/fhir/r4/{kind}/{id}${name}");
            let method = match name {
                "meta" | "everything" | "lastn" | "explain" | "status" | "events" | "export" => {
                    Method::GET
                }
                _ => Method::POST,
            };
            // Without a token each is refused by itself, not as an address that there isn't.
            let answer = house.bare(method, &path).send().await.expect("an answer");
            assert_eq!(answer.status(), 401, "{path}");
        }
    }
    assert!(names > 400, "{names}");
    house.end().await;
}

#[tokio::test]
async fn a_house_that_only_warns_counts_what_it_took() {
    let house = house_with(|options| options.validation = record::Validation::Warn).await;
    let odd = json!({"resourceType": "Patient", "gender": "Zanzibari"});
    let answer = house
        .sent(Method::POST, "/fhir/r4/Patient", &odd)
        .header("prefer", "return=OperationOutcome")
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.status(), 201);
    let outcome: Value = answer.json().await.expect("JSON");
    let warning = &outcome["issue"][1];
    assert_eq!(
        (&warning["severity"], &warning["expression"][0]),
        (&json!("warning"), &json!("Patient.gender"))
    );
    assert!(!outcome.to_string().contains("Zanzibari"));
    house.end().await;
}
