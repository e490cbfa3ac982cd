//! The FHIR routes: authentication, negotiation, and HTTP's words around the interactions.

use reqwest::Method;
use serde_json::{Value, json};

use crate::house::{assert_outcome, header, house, house_with, token};

fn patient() -> Value {
    json!({
        "resourceType": "Patient",
        "name": [{ "family": "Thornbury", "given": ["Ada"] }],
        "birthDate": "1950-04-01",
    })
}

// Proves: 45 CFR 164.312(a)(1), 164.312(e)(1)
#[tokio::test]
async fn a_stranger_gets_the_capabilities_and_nothing_else() {
    let house = house().await;
    let metadata = house
        .bare(Method::GET, "/fhir/r4/metadata")
        .send()
        .await
        .expect("an answer");
    assert_eq!(metadata.status(), 200);
    assert!(header(&metadata, "content-type").starts_with("application/fhir+json"));
    let metadata: Value = metadata.json().await.expect("JSON");
    assert_eq!(metadata["resourceType"], "CapabilityStatement");
    assert_eq!(metadata["fhirVersion"], "4.0.1");

    for (method, path) in [
        (Method::GET, "/fhir/r4/Patient"),
        (Method::GET, "/fhir/r4/Patient/1"),
        (Method::POST, "/fhir/r4/Patient"),
        (Method::POST, "/fhir/r4"),
        (Method::POST, "/fhir/r4/Patient/_search"),
        (Method::DELETE, "/fhir/r4/Patient/1"),
        (Method::GET, "/fhir/r4/Patient/1/_history"),
    ] {
        let response = house
            .bare(method.clone(), path)
            .send()
            .await
            .expect("an answer");
        assert_eq!(
            header(&response, "www-authenticate"),
            "Bearer realm=\"cairn\"",
            "{method} {path}"
        );
        assert_outcome(response, 401, "login").await;
    }
    // Addresses that are no UTF-8 are refused like others: by who may not, and then as what they are.
    for path in [
        "/fhir/r4/Patient/%ff",
        "/fhir/r4/%ff",
        "/fhir/r4/Patient/%ff/_history/1",
    ] {
        let stranger = house.bare(Method::GET, path).send().await;
        assert_outcome(stranger.expect("an answer"), 401, "login").await;
        let known = house.asked(Method::GET, path).send().await;
        assert_outcome(known.expect("an answer"), 400, "value").await;
    }
    let wrong = house
        .bare(Method::GET, "/fhir/r4/Patient")
        .bearer_auth("wrong")
        .send()
        .await
        .expect("an answer");
    assert!(header(&wrong, "www-authenticate").contains("invalid_token"));
    assert_outcome(wrong, 401, "login").await;
    house.end().await;
}

#[tokio::test]
async fn json_and_xml_are_spoken() {
    let house = house().await;
    let accept = async |value: &str| {
        let request = house
            .asked(Method::GET, "/fhir/r4/Patient")
            .header("accept", value);
        let answer = request.send().await.expect("an answer");
        (
            answer.status().as_u16(),
            header(&answer, "content-type").to_owned(),
        )
    };
    let (json, xml) = (
        "application/fhir+json; charset=utf-8",
        "application/fhir+xml; charset=utf-8",
    );
    for (value, status, kind) in [
        ("application/fhir+json", 200, json),
        ("application/json;q=0.9, text/html", 200, json),
        ("*/*", 200, json),
        ("application/fhir+xml", 200, xml),
        ("application/xml, application/json;q=0.9", 200, xml),
        ("text/turtle", 406, json),
    ] {
        assert_eq!(accept(value).await, (status, kind.to_owned()), "{value}");
    }
    let format = async |value: &str| {
        let request = house.asked(Method::GET, &format!("/fhir/r4/Patient?_format={value}"));
        let answer = request
            .header("accept", "text/html")
            .send()
            .await
            .expect("an answer");
        (
            answer.status().as_u16(),
            header(&answer, "content-type").to_owned(),
        )
    };
    assert_eq!(format("json").await, (200, json.to_owned()));
    assert_eq!(
        format("application/fhir%2Bjson").await,
        (200, json.to_owned())
    );
    assert_eq!(format("application/fhir+xml").await, (200, xml.to_owned()));
    assert_eq!(format("ttl").await.0, 406);

    let none = house.asked(Method::POST, "/fhir/r4/Patient").body("{}");
    assert_outcome(none.send().await.expect("an answer"), 415, "not-supported").await;
    let form = house.sent(Method::POST, "/fhir/r4/Patient/_search", &json!({}));
    assert_outcome(form.send().await.expect("an answer"), 415, "not-supported").await;
    house.end().await;
}

#[tokio::test]
async fn a_resource_goes_in_as_xml_and_comes_out_as_either() {
    let house = house().await;
    let xml = r#"<Patient xmlns="http://hl7.org/fhir"><name><family value="Berg &amp; Tal"/><given value="Ada"/><given><extension url="http://x.org/a"><valueDecimal value="1.50"/></extension></given></name></Patient>"#;
    let sent = house
        .asked(Method::POST, "/fhir/r4/Patient")
        .header("content-type", "application/fhir+xml")
        .header("accept", "application/fhir+xml")
        .body(xml)
        .send()
        .await
        .expect("an answer");
    assert_eq!(sent.status(), 201);
    let location = header(&sent, "location").to_owned();
    let body = sent.text().await.expect("a body");
    assert!(body.contains(r#"<valueDecimal value="1.50"/>"#), "{body}");

    let path = location.split_once("/fhir/r4/").expect("an address").1;
    let path = format!(
        "/fhir/r4/{}",
        path.split("/_history").next().expect("a path")
    );
    let json = house
        .asked(Method::GET, &path)
        .send()
        .await
        .expect("an answer");
    let json = json.text().await.expect("a body");
    assert!(json.contains("1.50"), "digits stay: {json}");
    let value: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(value["name"][0]["family"], "Berg & Tal");
    assert_eq!(value["name"][0]["given"], json!(["Ada", null]));

    let pretty = house.asked(Method::GET, &format!("{path}?_format=xml&_pretty=true"));
    let pretty = pretty
        .send()
        .await
        .expect("an answer")
        .text()
        .await
        .expect("a body");
    assert!(pretty.contains("\n  <name>\n    <family"), "{pretty}");
    assert_eq!(fhir::xml::parse(pretty.as_bytes()).expect("XML"), value);

    // A page leads to the next in the same form.
    let page = house.asked(
        Method::GET,
        "/fhir/r4/Patient?_count=1&_format=application/fhir%2Bxml",
    );
    let page = page
        .send()
        .await
        .expect("an answer")
        .text()
        .await
        .expect("a body");
    let bundle = fhir::xml::parse(page.as_bytes()).expect("XML");
    let link = bundle["link"][0]["url"].as_str().expect("a link");
    assert!(link.ends_with("_format=application/fhir%2Bxml"), "{link}");

    // What is wrong is told in the form that was asked for.
    let wrong = house
        .asked(Method::POST, "/fhir/r4/Patient")
        .header("content-type", "application/fhir+xml")
        .header("accept", "application/fhir+xml")
        .body("<Patient xmlns='http://hl7.org/fhir'><nom value='x'/></Patient>")
        .send()
        .await
        .expect("an answer");
    assert_eq!(wrong.status(), 400);
    let outcome = fhir::xml::parse(&wrong.bytes().await.expect("a body")).expect("XML");
    assert_eq!(outcome["resourceType"], "OperationOutcome");
    let words = outcome["issue"][0]["diagnostics"].as_str().expect("words");
    assert!(words.contains("`nom` is no element of Patient"), "{words}");
    house.end().await;
}

#[tokio::test]
async fn addresses_that_are_none() {
    let house = house().await;
    for path in [
        "/fhir/r4/Patient/1/_history/1/more",
        "/fhir/r5/Patient",
        "/fhir/nothing",
    ] {
        let response = house
            .asked(Method::GET, path)
            .send()
            .await
            .expect("an answer");
        assert_outcome(response, 404, "not-found").await;
    }
    let unknown = house
        .asked(Method::GET, "/fhir/r4/Patiens")
        .send()
        .await
        .expect("an answer");
    assert_outcome(unknown, 404, "not-supported").await;
    for (method, path) in [
        (Method::PATCH, "/fhir/r4/Patient/1/_history"),
        (Method::PUT, "/fhir/r4"),
    ] {
        let response = house.asked(method, path).send().await.expect("an answer");
        assert_ne!(header(&response, "allow"), "", "{path}");
        assert_outcome(response, 405, "not-supported").await;
    }
    let purpose = house
        .asked(Method::GET, "/fhir/r4/Patient")
        .header("x-purpose-of-use", "CURIOSITY");
    assert_outcome(purpose.send().await.expect("an answer"), 400, "value").await;
    house.end().await;
}

#[tokio::test]
async fn a_resource_s_life_in_http_s_words() {
    let house = house().await;
    let made = house
        .sent(Method::POST, "/fhir/r4/Patient", &patient())
        .send()
        .await
        .expect("an answer");
    assert_eq!(made.status(), 201);
    assert_eq!(header(&made, "etag"), "W/\"1\"");
    assert_eq!(
        header(&made, "last-modified"),
        "Sun, 01 Mar 2026 12:00:00 GMT"
    );
    let location = header(&made, "location").to_owned();
    let base = house.url("/fhir/r4/Patient/");
    assert!(
        location.starts_with(&base) && location.ends_with("/_history/1"),
        "{location}"
    );
    let made: Value = made.json().await.expect("JSON");
    let id = made["id"].as_str().expect("an id");
    let path = format!("/fhir/r4/Patient/{id}");

    let read = house
        .asked(Method::GET, &path)
        .send()
        .await
        .expect("an answer");
    assert_eq!(
        (
            read.status().as_u16(),
            header(&read, "etag"),
            header(&read, "cache-control")
        ),
        (200, "W/\"1\"", "no-store")
    );
    let read: Value = read.json().await.expect("JSON");
    assert_eq!(read["meta"]["versionId"], "1");
    assert_eq!(read["name"][0]["family"], "Thornbury");
    let head = house
        .asked(Method::HEAD, &path)
        .send()
        .await
        .expect("an answer");
    assert_eq!(
        (head.status().as_u16(), header(&head, "etag")),
        (200, "W/\"1\"")
    );
    assert_eq!(head.bytes().await.expect("no body").len(), 0);
    let unchanged = house
        .asked(Method::GET, &path)
        .header("if-none-match", "W/\"1\"")
        .send()
        .await
        .expect("an answer");
    assert_eq!(unchanged.status(), 304);

    let mut changed = read.clone();
    changed["birthDate"] = json!("1950-04-02");
    let update = |if_match: &'static str| {
        house
            .sent(Method::PUT, &path, &changed)
            .header("if-match", if_match)
            .send()
    };
    assert_outcome(update("1").await.expect("an answer"), 400, "value").await;
    assert_eq!(update("W/\"7\"").await.expect("an answer").status(), 412);
    let updated = update("W/\"1\"").await.expect("an answer");
    assert_eq!(
        (updated.status().as_u16(), header(&updated, "etag")),
        (200, "W/\"2\"")
    );

    let conditional = |method: Method, name: &'static str, value: &'static str| {
        let to = if method == Method::POST {
            "/fhir/r4/Patient"
        } else {
            path.as_str()
        };
        house.sent(method, to, &changed).header(name, value).send()
    };
    for (method, name, value, status, code) in [
        (Method::PUT, "if-none-match", "*", 412, "conflict"),
        (Method::PUT, "if-none-match", "W/\"2\"", 412, "conflict"),
        (Method::PUT, "if-none-match", "x", 400, "value"),
        (
            Method::PUT,
            "if-unmodified-since",
            "Sun, 06 Nov 1994 08:49:37 GMT",
            412,
            "conflict",
        ),
        (
            Method::PATCH,
            "if-unmodified-since",
            "yesterday",
            400,
            "value",
        ),
        (Method::DELETE, "if-none-match", "*", 501, "not-supported"),
        (Method::DELETE, "if-match", "W/\"7\"", 412, "conflict"),
        (Method::POST, "if-match", "*", 501, "not-supported"),
    ] {
        let refused = conditional(method.clone(), name, value)
            .await
            .expect("an answer");
        assert_outcome(refused, status, code).await;
    }
    let still = house
        .asked(Method::GET, &path)
        .header("if-none-match", "\"1\", \"2\"");
    let still = still.send().await.expect("an answer");
    assert_eq!(still.status(), 304);
    let at = header(&still, "last-modified").to_owned();
    for (since, status) in [
        (at.as_str(), 304),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 200),
        ("yesterday", 200),
    ] {
        let asked = house
            .asked(Method::GET, &path)
            .header("if-modified-since", since);
        let answer = asked.send().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), status, "{since}");
    }

    let first: Value = house
        .asked(Method::GET, &format!("{path}/_history/1"))
        .send()
        .await
        .expect("an answer")
        .json()
        .await
        .expect("JSON");
    assert_eq!(first["birthDate"], "1950-04-01");
    let history: Value = house
        .asked(Method::GET, &format!("{path}/_history"))
        .send()
        .await
        .expect("an answer")
        .json()
        .await
        .expect("JSON");
    assert_eq!(
        (&history["type"], &history["total"]),
        (&json!("history"), &json!(2))
    );

    for found in [
        house.asked(
            Method::GET,
            "/fhir/r4/Patient?family=thornbury&_pretty=true",
        ),
        house
            .asked(Method::POST, "/fhir/r4/Patient/_search")
            .header("content-type", "application/x-www-form-urlencoded")
            .body("family=thornbury"),
        house
            .asked(
                Method::POST,
                "/fhir/r4/Patient/_search?birthdate=1950-04-02",
            )
            .header("content-type", "application/x-www-form-urlencoded")
            .body("family=thornbury"),
    ] {
        let found: Value = found
            .send()
            .await
            .expect("an answer")
            .json()
            .await
            .expect("JSON");
        assert_eq!(found["type"], "searchset", "{found}");
        assert_eq!(found["entry"][0]["resource"]["id"], id, "{found}");
    }
    // What came in a body is in no link, and the links lead on.
    let posted = house
        .asked(Method::POST, "/fhir/r4/Patient/_search")
        .header("content-type", "application/x-www-form-urlencoded")
        .body("family=thornbury&birthdate=1950-04-02");
    let posted: Value = posted
        .send()
        .await
        .expect("an answer")
        .json()
        .await
        .expect("JSON");
    let own = posted["link"][0]["url"].as_str().expect("a link");
    assert!(!own.contains("thornbury") && !own.contains("1950"), "{own}");
    let again = house.http.get(own).bearer_auth(&house.token).send();
    let again: Value = again.await.expect("an answer").json().await.expect("JSON");
    assert_eq!(again["entry"][0]["resource"]["id"], id, "{again}");
    let strange = house.asked(Method::GET, "/fhir/r4/Patient?favourite-colour=blue");
    assert_eq!(strange.send().await.expect("an answer").status(), 400);
    let lenient = house
        .asked(Method::GET, "/fhir/r4/Patient?favourite-colour=blue")
        .header("prefer", "handling=lenient");
    assert_eq!(lenient.send().await.expect("an answer").status(), 200);

    let gone = house
        .asked(Method::DELETE, &path)
        .send()
        .await
        .expect("an answer");
    assert_eq!(gone.status(), 204);
    assert_outcome(
        house
            .asked(Method::GET, &path)
            .send()
            .await
            .expect("an answer"),
        410,
        "deleted",
    )
    .await;
    house.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conditional_create_makes_one_resource() {
    let house = house().await;
    let organisation = json!({
        "resourceType": "Organization",
        "identifier": [{"system": "http://example.org/ids", "value": "ward-7"}],
        "name": "Ward 7",
    });
    let create = |criteria: &'static str| {
        house
            .sent(Method::POST, "/fhir/r4/Organization", &organisation)
            .header("if-none-exist", criteria)
            .send()
    };
    let criteria = "identifier=http://example.org/ids|ward-7";
    let first = create(criteria).await.expect("an answer");
    let second = create(criteria).await.expect("an answer");
    assert_eq!(
        (first.status().as_u16(), second.status().as_u16()),
        (201, 200)
    );
    let id = |value: Value| value["id"].as_str().expect("an id").to_owned();
    let first = id(first.json().await.expect("JSON"));
    assert_eq!(first, id(second.json().await.expect("JSON")));
    assert_outcome(
        create("nonsense=1").await.expect("an answer"),
        400,
        "not-supported",
    )
    .await;
    house.end().await;
}

#[tokio::test]
async fn a_transaction_with_and_without_the_slash() {
    let house = house().await;
    let bundle = json!({
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [{
            "fullUrl": "urn:uuid:6b1c1f0e-7d0b-4f5c-9a59-3f1d5a9f6a01",
            "resource": patient(),
            "request": { "method": "POST", "url": "Patient" },
        }],
    });
    for path in ["/fhir/r4", "/fhir/r4/"] {
        let done = house
            .sent(Method::POST, path, &bundle)
            .send()
            .await
            .expect("an answer");
        assert_eq!(done.status(), 200, "{path}");
        let done: Value = done.json().await.expect("JSON");
        assert_eq!(done["type"], "transaction-response");
        assert!(
            done["entry"][0]["response"]["status"]
                .as_str()
                .is_some_and(|status| status.starts_with("201")),
            "{done}"
        );
    }
    house.end().await;
}

// Proves: 45 CFR 164.312(a)(1)
#[tokio::test]
async fn roles_have_no_more_than_their_rights() {
    let house = house().await;
    let squad = token(&house.server, trust::Role::Squad).await;
    let refused = house
        .bare(Method::GET, "/fhir/r4/Patient")
        .bearer_auth(squad)
        .send()
        .await
        .expect("an answer");
    assert_outcome(refused, 403, "forbidden").await;
    house.end().await;
}

#[tokio::test]
async fn bodies_are_bounded_in_size_and_in_time() {
    let house = house_with(|options| {
        options.limits.fhir_body_bytes = 1_000;
        options.limits.body_timeout_ms = 200;
    })
    .await;
    let mut large = patient();
    large["language"] = json!("x".repeat(1_000));
    let large = house
        .sent(Method::POST, "/fhir/r4/Patient", &large)
        .send()
        .await
        .expect("an answer");
    assert_outcome(large, 413, "too-long").await;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut slow = tokio::net::TcpStream::connect(house.server.address())
        .await
        .expect("a connection");
    let head = format!(
        "POST /fhir/r4/Patient HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/fhir+json\r\n\
         content-length: 100\r\nconnection: close\r\n\r\n{{",
        house.token
    );
    slow.write_all(head.as_bytes()).await.expect("written");
    let mut answer = String::new();
    slow.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    house.end().await;
}

#[tokio::test]
async fn large_answers_are_compressed() {
    let house = house().await;
    let plain = house
        .bare(Method::GET, "/fhir/r4/metadata")
        .send()
        .await
        .expect("an answer");
    assert_eq!(header(&plain, "content-encoding"), "");
    let packed = house
        .bare(Method::GET, "/fhir/r4/metadata")
        .header("accept-encoding", "gzip");
    let packed = packed.send().await.expect("an answer");
    assert_eq!(header(&packed, "content-encoding"), "gzip");
    house.end().await;
}

#[tokio::test]
async fn quantities_are_found_across_units() {
    let house = house().await;
    let put = async |path: &str, body: Value| {
        let sent = house.sent(Method::PUT, &format!("/fhir/r4/{path}"), &body);
        let answer = sent.send().await.expect("an answer");
        assert_eq!(answer.status(), 201, "{path}");
    };
    put("Patient/p", json!({"resourceType": "Patient", "id": "p"})).await;
    let ucum = "http://unitsofmeasure.org";
    for (id, value, code) in [
        ("light", 5, "mg"),
        ("heavy", 6, "mg"),
        ("other", 7, "g"),
        ("volume", 9, "mL"),
        ("pressure", 120, "mm[Hg]"),
    ] {
        put(
            &format!("Observation/{id}"),
            json!({
                "resourceType": "Observation", "id": id, "status": "final", "code": { "text": "x" },
                "subject": { "reference": "Patient/p" },
                "valueQuantity": { "value": value, "unit": code, "system": ucum, "code": code },
            }),
        )
        .await;
    }
    put(
        "Observation/words",
        json!({
            "resourceType": "Observation", "id": "words", "status": "final", "code": { "text": "x" },
            "subject": { "reference": "Patient/p" }, "valueString": "much",
        }),
    )
    .await;
    put(
        "RiskAssessment/risk",
        json!({
            "resourceType": "RiskAssessment", "id": "risk", "status": "final", "subject": { "reference": "Patient/p" },
            "prediction": [{ "probabilityDecimal": 0.25 }],
        }),
    )
    .await;
    for (asked, expected) in [
        (
            "Observation?value-quantity=gt5.4||mg",
            vec!["other", "heavy"],
        ),
        ("Observation?value-quantity=lt5.4||mg", vec!["light"]),
        (
            "Observation?value-quantity=0.006|http://unitsofmeasure.org|g",
            vec!["heavy"],
        ),
        (
            "Observation?value-quantity=ge7000|http://unitsofmeasure.org|mg",
            vec!["other"],
        ),
        ("Observation?value-quantity=15.9986||kPa", vec!["pressure"]),
        ("Observation?value-quantity=9", vec!["volume"]),
        (
            "Observation?combo-value-quantity=gt8",
            vec!["pressure", "volume"],
        ),
        ("Observation?component-value-quantity=gt8", vec![]),
        (
            "Observation?value-quantity=ap5.5||mg",
            vec!["heavy", "light"],
        ),
        (
            "Observation?value-quantity=5||mg,9||mL",
            vec!["volume", "light"],
        ),
        (
            "Observation?value-quantity=gt5.4||mg&value-quantity=lt1||g",
            vec!["heavy"],
        ),
        (
            "Observation?value-quantity=ne5||mg&_count=9",
            vec!["other", "heavy"],
        ),
        ("Observation?value-quantity:missing=true", vec!["words"]),
        ("RiskAssessment?probability=gt0.2", vec!["risk"]),
        ("RiskAssessment?probability=gt0.25", vec![]),
        ("RiskAssessment?probability=0.30", vec![]),
        ("RiskAssessment?probability=0.25", vec!["risk"]),
    ] {
        let answer = house
            .asked(Method::GET, &format!("/fhir/r4/{asked}"))
            .send()
            .await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status(), 200, "{asked}");
        let bundle: Value = answer.json().await.expect("JSON");
        let found: Vec<&str> = (bundle["entry"].as_array().into_iter().flatten())
            .filter_map(|entry| entry["resource"]["id"].as_str())
            .collect();
        assert_eq!(found, expected, "{asked}");
    }
    let wrong = house
        .asked(Method::GET, "/fhir/r4/Observation?value-quantity=5mg")
        .send()
        .await;
    assert_outcome(wrong.expect("an answer"), 400, "value").await;
    let metadata = house
        .bare(Method::GET, "/fhir/r4/metadata")
        .send()
        .await
        .expect("an answer");
    let metadata: Value = metadata.json().await.expect("JSON");
    let resources = metadata["rest"][0]["resource"]
        .as_array()
        .expect("resources");
    let observation = resources
        .iter()
        .find(|one| one["type"] == "Observation")
        .expect("observations");
    let parameter = json!({ "name": "value-quantity", "type": "quantity" });
    assert!(
        observation["searchParam"]
            .as_array()
            .expect("parameters")
            .contains(&parameter)
    );
    house.end().await;
}

#[tokio::test]
async fn answers_say_which_sequence_they_have_reached() {
    let house = house().await;
    let reached = |response: &reqwest::Response| -> u64 {
        header(response, "cairn-sequence")
            .parse()
            .expect("a number")
    };
    let created = house.sent(Method::POST, "/fhir/r4/Patient", &patient());
    let created = created.send().await.expect("an answer");
    assert_eq!(created.status(), 201);
    let written = reached(&created);
    let id = created.json::<Value>().await.expect("JSON")["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let path = format!("/fhir/r4/Patient/{id}");
    for path in [
        path.as_str(),
        "/fhir/r4/Patient?family=Thornbury",
        &format!("{path}/_history"),
    ] {
        // What was read now was read after what was written before.
        let now = house.asked(Method::GET, path).send().await;
        let now = now.expect("an answer");
        assert_eq!(now.status(), 200, "{path}");
        assert!(reached(&now) > written, "{path}");
        let known = house.asked(Method::GET, path);
        let known = known.header("Cairn-Sequence", written.to_string());
        let known = known.send().await.expect("an answer");
        assert_eq!(
            (known.status().as_u16(), reached(&known)),
            (200, written),
            "{path}"
        );
    }
    for wrong in ["", "soon", "-1", "1, 2"] {
        let request = house
            .asked(Method::GET, &path)
            .header("Cairn-Sequence", wrong);
        assert_outcome(request.send().await.expect("an answer"), 400, "value").await;
    }
    // Who may not see anything is told nothing.
    let stranger = house.bare(Method::GET, &path).send().await;
    assert!(
        !stranger
            .expect("an answer")
            .headers()
            .contains_key("cairn-sequence")
    );
    house.end().await;
}

/// `_source` is what a resource says of where it comes from, whatever else is asked for; a named query is
/// refused, also by who wants unknown parameters to be passed over.
#[tokio::test]
async fn a_source_is_asked_for_and_named_queries_are_refused() {
    let house = house().await;
    for (id, source) in [
        ("lab", Some("http://acme.org/lab/7#a")),
        ("ward", Some("http://acme.org/ward")),
        ("none", None),
    ] {
        let mut patient = json!({"resourceType": "Patient", "id": id, "gender": "female"});
        if let Some(source) = source {
            patient["meta"] = json!({"source": source});
        }
        let path = format!("/fhir/r4/Patient/{id}");
        let answer = house.sent(Method::PUT, &path, &patient).send().await;
        assert_eq!(answer.expect("an answer").status(), 201, "{id}");
    }
    for (asked, expected) in [
        ("_source=http://acme.org/lab/7%23a", vec!["lab"]),
        ("_source=http://acme.org/lab/7", vec![]),
        (
            "_source=http://acme.org/ward,http://acme.org/lab/7%23a",
            vec!["ward", "lab"],
        ),
        ("_source:below=http://acme.org", vec!["ward", "lab"]),
        ("_source:above=http://acme.org/ward/3", vec!["ward"]),
        ("_source:missing=true&gender=female", vec!["none"]),
        ("_source:missing=false&_total=accurate", vec!["ward", "lab"]),
        ("_filter=_source%20eq%20http://acme.org/ward", vec!["ward"]),
    ] {
        let path = format!("/fhir/r4/Patient?{asked}");
        let answer = house.asked(Method::GET, &path).send().await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status(), 200, "{asked}");
        let bundle: Value = answer.json().await.expect("JSON");
        let found: Vec<&str> = (bundle["entry"].as_array().into_iter().flatten())
            .filter_map(|entry| entry["resource"]["id"].as_str())
            .collect();
        assert_eq!(found, expected, "{asked}");
    }
    for preferred in ["handling=strict", "handling=lenient"] {
        let asked = house.asked(Method::GET, "/fhir/r4/Patient?_query=recent&gender=female");
        let answer = asked.header("prefer", preferred).send().await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status(), 400, "{preferred}");
        let outcome: Value = answer.json().await.expect("JSON");
        assert_eq!(outcome["issue"][0]["code"], "not-supported");
        let words = outcome["issue"][0]["diagnostics"].as_str().expect("words");
        assert!(words.contains("none is defined here"), "{words}");
    }
}
