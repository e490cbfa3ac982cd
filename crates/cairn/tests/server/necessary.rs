//! The minimum necessary, over HTTP: what is not needed for a purpose is in no answer, nobody finds it out by
//! searching, and nobody erases it by writing back what they were shown.

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use trust::Role;

use crate::bulk::laid_out;
use crate::house::{House, header, house, token};

const FHIR: &str = "/fhir/r4/";
const PURPOSE: &str = "x-purpose-of-use";
/// What is in elements that are not shown for payment, and nowhere else.
const SECRET: &str = "zyzzyva";

fn pay(house: &House, method: Method, path: &str) -> RequestBuilder {
    let asked = house.asked(method, &format!("{FHIR}{path}"));
    asked.header(PURPOSE, "HPAYMT")
}

fn pay_sent(house: &House, method: Method, path: &str, body: &Value) -> RequestBuilder {
    let asked = pay(house, method, path);
    let asked = asked.header("content-type", "application/fhir+json");
    asked.body(body.to_string())
}

fn by_form(asked: RequestBuilder, body: &str) -> RequestBuilder {
    let asked = asked.header("content-type", "application/x-www-form-urlencoded");
    asked.body(body.to_owned())
}

async fn answer(asked: RequestBuilder) -> (StatusCode, String) {
    let answer = asked.send().await.expect("an answer");
    (answer.status(), answer.text().await.expect("text"))
}

fn coded(code: &str) -> Value {
    json!({"coding": [{"system": "http://loinc.org", "code": code}], "text": SECRET})
}

fn observation() -> Value {
    json!({
        "resourceType": "Observation", "id": "o", "status": "final",
        "text": {"status": "generated", "div": format!("<div xmlns=\"http://www.w3.org/1999/xhtml\">{SECRET}</div>")},
        "contained": [{"resourceType": "Practitioner", "id": "c", "name": [{"family": SECRET}]}],
        "extension": [{"url": "http://example.org/e", "valueString": SECRET}],
        "category": [coded("laboratory")],
        "code": coded("29463-7"),
        "subject": {"reference": "Patient/p"},
        "encounter": {"reference": "Encounter/e"},
        "effectiveDateTime": "2026-02-01",
        "_effectiveDateTime": {"extension": [{"url": "http://example.org/e", "valueString": SECRET}]},
        "performer": [{"reference": "#c"}],
        "valueString": SECRET,
        "interpretation": [{"coding": [{"code": SECRET}]}],
        "device": {"reference": "Device/d"},
        "note": [{"text": SECRET}],
        "component": [{"code": {"text": SECRET}, "valueQuantity": {"value": 7, "unit": SECRET}}],
    })
}

async fn fill(house: &House) {
    let subject = json!({"reference": "Patient/p"});
    for resource in [
        json!({"resourceType": "Patient", "id": "p", "name": [{"family": "Adams"}], "birthDate": "1950-02-03",
            "contact": [{"name": {"family": SECRET}}], "maritalStatus": {"text": SECRET}}),
        json!({"resourceType": "Encounter", "id": "e", "status": "finished", "class": {"code": "AMB"},
            "subject": subject, "reasonCode": [coded("R1")], "hospitalization": {"preAdmissionIdentifier": {"value": SECRET}}}),
        json!({"resourceType": "Device", "id": "d", "serialNumber": SECRET, "patient": subject}),
        observation(),
        json!({"resourceType": "Claim", "id": "c", "status": "active", "use": "claim", "patient": subject,
            "type": {"text": "professional"}, "created": "2026-02-02", "provider": {"display": "A"},
            "priority": {"text": "normal"}, "insurance": [{"sequence": 1, "focal": true, "coverage": {"display": "B"}}]}),
    ] {
        let text = |name: &str| resource[name].as_str().expect("text");
        let path = format!("{FHIR}{}/{}", text("resourceType"), text("id"));
        let (status, body) = answer(house.sent(Method::PUT, &path, &resource)).await;
        assert!(status.is_success(), "{status} {body}");
    }
}

/// A cut answer: it is one, says so, and holds nothing that is not shown.
async fn is_cut(asked: RequestBuilder, way: &str) -> String {
    let (status, body) = answer(asked).await;
    assert!(status.is_success(), "{way}: {status} {body}");
    assert!(!body.contains(SECRET), "{way}: {body}");
    assert!(body.contains("SUBSETTED"), "{way}: {body}");
    body
}

// Proves: 45 CFR 164.502(b)(1), 164.514(d)(2), 164.514(d)(3), 164.514(d)(5)
#[tokio::test(flavor = "multi_thread")]
async fn no_answer_for_payment_holds_the_clinical_note() {
    let house = house().await;
    fill(&house).await;
    let (_, whole) = answer(house.asked(Method::GET, &format!("{FHIR}Observation/o"))).await;
    assert!(whole.contains(SECRET) && !whole.contains("SUBSETTED"));
    for path in [
        "Observation/o",
        "Observation/o?_format=xml",
        "Observation/o?_elements=note,value,code",
        "Observation/o?_summary=text",
        "Observation/o/_history/1",
        "Observation/o/_history",
        "Observation/_history",
        "_history",
        "Observation?patient=Patient/p",
        "Observation?_sort=_id",
        "Observation?code=29463-7&_total=accurate",
        "?_type=Observation,Encounter",
        "Patient/p/Observation",
        "Patient/p/*",
        "Patient?_id=p&_revinclude=Observation:patient",
        "Patient?_id=p&_revinclude=*",
        "Encounter?_id=e&_revinclude=Observation:encounter",
        "Observation?_include=*",
        "Patient/p/$everything",
        "Observation/$lastn?patient=Patient/p&max=1",
        "Observation/o/$meta",
        "Patient/p",
        "Encounter/e",
        "Device/d",
    ] {
        is_cut(pay(&house, Method::GET, path), path).await;
    }
    // What payment needs is there, and what has to be there and is not shown is said to be masked.
    let body = is_cut(pay(&house, Method::GET, "Observation/o"), "read").await;
    let body: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(body["code"]["coding"][0]["code"], "29463-7");
    assert_eq!(body["subject"]["reference"], "Patient/p");
    assert_eq!(body["effectiveDateTime"], "2026-02-01");
    for gone in [
        "note",
        "valueString",
        "component",
        "text",
        "contained",
        "extension",
        "device",
    ] {
        assert_eq!(body[gone], Value::Null, "{gone}");
    }
    let read = pay(&house, Method::GET, "Observation/o")
        .send()
        .await
        .expect("an answer");
    assert_eq!(header(&read, "etag"), "W/\"1\"");
    let form = pay(&house, Method::POST, "Observation/_search");
    is_cut(by_form(form, "patient=Patient/p"), "_search").await;
    for kind in ["batch", "transaction"] {
        let urls = ["Observation/o", "Observation?patient=Patient/p"];
        let entries: Vec<Value> = (urls.iter())
            .map(|url| json!({"request": {"method": "GET", "url": url}}))
            .collect();
        let bundle = json!({"resourceType": "Bundle", "type": kind, "entry": entries});
        is_cut(pay_sent(&house, Method::POST, "", &bundle), kind).await;
    }
    let mut new = observation();
    new.as_object_mut().expect("an object").remove("id");
    let again = pay_sent(&house, Method::POST, "Observation", &new)
        .header("if-none-exist", "encounter=Encounter/e")
        .header("prefer", "return=representation");
    is_cut(again, "If-None-Exist").await;
    // Bills are shown whole.
    let (status, body) = answer(pay(&house, Method::GET, "Claim/c")).await;
    assert!(status.is_success() && !body.contains("SUBSETTED"), "{body}");
    exported(&house).await;
    house.end().await;
}

async fn exported(house: &House) {
    let path_of =
        |url: &str| url[url.find(FHIR).expect("an address here") + FHIR.len()..].to_owned();
    let begin = pay(
        house,
        Method::GET,
        "$export?_type=Observation,Patient,Encounter",
    );
    let begun = begin.header("prefer", "respond-async").send().await;
    let begun = begun.expect("an answer");
    assert_eq!(begun.status(), 202);
    let status = path_of(header(&begun, "content-location"));
    // A job is its client's, for whatever the client asks now.
    let manifest = laid_out(async || {
        let asked = pay(house, Method::GET, &status).send().await;
        asked.expect("an answer")
    })
    .await;
    let files = manifest["output"].as_array().expect("files");
    assert_eq!(files.len(), 3, "{manifest}");
    for file in files {
        let url = path_of(file["url"].as_str().expect("an address"));
        // The purpose of the job counts, not that of the download.
        let asked = house.asked(Method::GET, &format!("{FHIR}{url}"));
        is_cut(asked.header(PURPOSE, "TREAT"), "a file of an export").await;
    }
}

// Proves: 45 CFR 164.502(b)(1)
#[tokio::test(flavor = "multi_thread")]
async fn nobody_finds_out_by_searching_what_is_not_shown() {
    let house = house().await;
    fill(&house).await;
    let probes = [
        (
            format!("Observation?value-string={SECRET}"),
            "value-string",
            "value",
        ),
        (
            "Observation?value-string=nothing".to_owned(),
            "value-string",
            "value",
        ),
        (
            "Observation?value-quantity:missing=true".to_owned(),
            "value-quantity",
            "value",
        ),
        (
            format!("Observation?code:text={SECRET}"),
            "code",
            "code.text",
        ),
        (
            "Observation?component-code=x".to_owned(),
            "component-code",
            "component",
        ),
        (
            "Observation?combo-value-quantity=gt5".to_owned(),
            "combo-value-quantity",
            "value",
        ),
        (
            "Observation?code-value-quantity=29463-7$gt5".to_owned(),
            "code-value-quantity",
            "value",
        ),
        (format!("Observation?_content={SECRET}"), "_content", "text"),
        (format!("Observation?_text={SECRET}"), "_text", "text"),
        (
            format!("Observation?_filter=value-string eq {SECRET}"),
            "value-string",
            "value",
        ),
        (
            format!("Observation?_filter=not (value-string eq {SECRET})"),
            "value-string",
            "value",
        ),
        (
            "Observation?_sort=value-quantity".to_owned(),
            "value-quantity",
            "value",
        ),
        ("Observation?device=Device/d".to_owned(), "device", "device"),
        (
            "Observation?_include=Observation:device".to_owned(),
            "device",
            "device",
        ),
        (
            format!("Observation?encounter:Encounter.special-arrangement={SECRET}"),
            "special-arrangement",
            "hospitalization",
        ),
        (
            format!("Patient?_has:Observation:patient:value-string={SECRET}"),
            "value-string",
            "value",
        ),
        (
            "Device?_has:Observation:device:_id=o".to_owned(),
            "device",
            "device",
        ),
        (
            format!("Patient/p/Observation?value-string={SECRET}"),
            "value-string",
            "value",
        ),
        (
            format!("Observation/$lastn?patient=Patient/p&value-string={SECRET}"),
            "value-string",
            "value",
        ),
        (
            format!("Observation/$explain?value-string={SECRET}"),
            "value-string",
            "value",
        ),
    ];
    for (path, parameter, element) in &probes {
        let (status, body) = answer(pay(&house, Method::GET, path)).await;
        let body: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(status, StatusCode::FORBIDDEN, "{path}: {body}");
        assert_eq!(body["resourceType"], "OperationOutcome");
        let words = body["issue"][0]["diagnostics"].as_str().expect("words");
        assert!(
            words.contains(&format!("parameter {parameter} looks at ")),
            "{path}: {words}"
        );
        assert!(words.contains(&format!(".{element}")), "{path}: {words}");
        assert!(
            words.contains("is not shown to the role client for HPAYMT (rule payment-"),
            "{words}"
        );
        assert!(!words.contains(SECRET), "{words}");
        // Who treats may ask.
        let (status, body) = answer(house.asked(Method::GET, &format!("{FHIR}{path}"))).await;
        assert!(status.is_success(), "{path}: {status} {body}");
    }
    // In a batch, as a form, as a condition of a write, and as a filter of an export, it is the same.
    let asked = format!("Observation?value-string={SECRET}");
    let bundle = json!({"resourceType": "Bundle", "type": "batch", "entry": [{"request": {"method": "GET", "url": asked}}]});
    let (_, body) = answer(pay_sent(&house, Method::POST, "", &bundle)).await;
    assert!(
        body.contains("403") && !body.contains("\"total\""),
        "{body}"
    );
    let form = pay(&house, Method::POST, "Observation/_search");
    let form = by_form(form, &format!("value-string={SECRET}"));
    assert_eq!(answer(form).await.0, StatusCode::FORBIDDEN);
    let mut new = observation();
    new.as_object_mut().expect("an object").remove("id");
    let create = pay_sent(&house, Method::POST, "Observation", &new)
        .header("if-none-exist", format!("value-string={SECRET}"));
    assert_eq!(answer(create).await.0, StatusCode::FORBIDDEN);
    let export = pay(
        &house,
        Method::GET,
        &format!("$export?_type=Observation&_typeFilter=Observation%3Fvalue-string%3D{SECRET}"),
    );
    let (status, body) = answer(export.header("prefer", "respond-async")).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{body}");
    // What is not named and not shown is not followed.
    let (_, body) = answer(pay(&house, Method::GET, "Observation?_id=o&_include=*")).await;
    assert!(
        body.contains("Encounter/e") && !body.contains("Device/d"),
        "{body}"
    );
    let (_, body) = answer(pay(&house, Method::GET, "Device?_id=d&_revinclude=*")).await;
    assert!(!body.contains("Observation/o"), "{body}");
    house.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_seen_in_part_is_not_written_back() {
    let house = house().await;
    fill(&house).await;
    let (_, shown) = answer(pay(&house, Method::GET, "Observation/o")).await;
    let mut shown: Value = serde_json::from_str(&shown).expect("JSON");
    let tests = json!([{"op": "test", "path": "/valueString", "value": SECRET}]);
    let put = |body: &Value, path: &str| pay_sent(&house, Method::PUT, path, body);
    let patched = pay(&house, Method::PATCH, "Observation/o")
        .header("content-type", "application/json-patch+json")
        .body(tests.to_string());
    let by_path = json!({"resourceType": "Parameters", "parameter": [{"name": "operation", "part": [
        {"name": "type", "valueCode": "delete"},
        {"name": "path", "valueString": format!("Observation.where(value = '{SECRET}').category")}]}]});
    let bundle = |kind: &str, request: Value| json!({"resourceType": "Bundle", "type": kind, "entry": [{"resource": observation(), "request": request}]});
    let update = json!({"method": "PUT", "url": "Observation/o"});
    let requests = [
        ("update", put(&shown, "Observation/o")),
        (
            "conditional update",
            put(&shown, "Observation?encounter=Encounter/e"),
        ),
        ("JSON Patch", patched),
        (
            "FHIRPath Patch",
            pay_sent(&house, Method::PATCH, "Observation/o", &by_path),
        ),
        ("delete", pay(&house, Method::DELETE, "Observation/o")),
        (
            "conditional delete",
            pay(&house, Method::DELETE, "Observation?encounter=Encounter/e"),
        ),
        (
            "transaction",
            pay_sent(
                &house,
                Method::POST,
                "",
                &bundle("transaction", update.clone()),
            ),
        ),
        (
            "$meta-add",
            pay_sent(
                &house,
                Method::POST,
                "Observation/o/$meta-add",
                &json!({"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": {"tag": [{"code": "x"}]}}]}),
            ),
        ),
    ];
    for (way, request) in requests {
        let (status, body) = answer(request).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{way}: {body}");
        assert!(
            body.contains("is shown Observation in part for HPAYMT"),
            "{way}: {body}"
        );
        assert!(!body.contains(SECRET), "{way}: {body}");
    }
    let (_, body) = answer(pay_sent(&house, Method::POST, "", &bundle("batch", update))).await;
    assert!(body.contains("403") && !body.contains(SECRET), "{body}");
    // Under a purpose that shows it whole, what was shown in part is still no whole.
    let treat = house.sent(Method::PUT, &format!("{FHIR}Observation/o"), &shown);
    assert_eq!(answer(treat).await.0, StatusCode::UNPROCESSABLE_ENTITY);
    let (_, whole) = answer(house.asked(Method::GET, &format!("{FHIR}Observation/o"))).await;
    let whole: Value = serde_json::from_str(&whole).expect("JSON");
    assert_eq!(whole["meta"]["versionId"], "1");
    assert_eq!(whole["note"], observation()["note"]);
    // A new one is theirs to make, and is shown to them as all are; bills are theirs to change.
    shown.as_object_mut().expect("an object").remove("id");
    let mut new = observation();
    new.as_object_mut().expect("an object").remove("id");
    let made = pay_sent(&house, Method::POST, "Observation", &new);
    assert_eq!(answer(made).await.0, StatusCode::CREATED);
    let (_, claim) = answer(pay(&house, Method::GET, "Claim/c")).await;
    let claim: Value = serde_json::from_str(&claim).expect("JSON");
    assert!(answer(put(&claim, "Claim/c")).await.0.is_success());
    // The audit says by which rule an answer was cut.
    let officer = token(&house.server, Role::PrivacyOfficer).await;
    let asked = house
        .bare(Method::GET, &format!("{FHIR}AuditEvent?action=R&_count=50"))
        .header(PURPOSE, "HOPERAT")
        .bearer_auth(officer);
    let (_, body) = answer(asked).await;
    assert!(
        body.contains("urn:cairn:policy:elements:payment-clinical"),
        "{body}"
    );
    house.end().await;
}

/// What hides a row may lie in a part of it that is not shown.
#[tokio::test(flavor = "multi_thread")]
async fn consents_are_asked_about_the_whole_of_a_row() {
    let house = house().await;
    fill(&house).await;
    let mut hidden = observation();
    hidden["id"] = "h".into();
    hidden["component"][0]["code"] =
        json!({"coding": [{"system": "http://loinc.org", "code": "75622-1"}]});
    let consent = json!({
        "resourceType": "Consent", "id": "no", "status": "active", "dateTime": "2026-01-01",
        "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": {"reference": "Patient/p"}, "policyRule": {"text": "privacy"},
        "provision": {"type": "permit", "provision": [{"type": "deny", "securityLabel": [
            {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "HIV"}]}]},
    });
    for (path, resource) in [("Observation/h", &hidden), ("Consent/no", &consent)] {
        let put = house.sent(Method::PUT, &format!("{FHIR}{path}"), resource);
        let (status, body) = answer(put).await;
        assert!(status.is_success(), "{status} {body}");
    }
    let (status, _) = answer(house.asked(Method::GET, &format!("{FHIR}Observation/h"))).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let (status, _) = answer(pay(&house, Method::GET, "Observation/h")).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    for path in [
        "Observation?patient=Patient/p&_total=accurate",
        "Observation?_sort=_id",
        "Observation?code=29463-7",
        "Patient/p/$everything",
        "Patient?_id=p&_revinclude=Observation:patient",
        "Observation/_history",
        "_history",
    ] {
        let (status, body) = answer(pay(&house, Method::GET, path)).await;
        assert!(status.is_success(), "{path}: {body}");
        assert!(body.contains("Observation/o"), "{path}: {body}");
        assert!(!body.contains("Observation/h"), "{path}: {body}");
    }
    let mut new = observation();
    new.as_object_mut().expect("an object").remove("id");
    let create =
        pay_sent(&house, Method::POST, "Observation", &new).header("if-none-exist", "_id=h");
    let (status, body) = answer(create).await;
    assert_eq!(status, StatusCode::PRECONDITION_FAILED, "{body}");
    house.end().await;
}

/// A biller asks for payment and for nothing else, whatever they say.
// Proves: 45 CFR 164.502(b)(1), 164.514(d)(2)
#[tokio::test(flavor = "multi_thread")]
async fn a_biller_sees_what_is_billed() {
    let house = house().await;
    fill(&house).await;
    let biller = token(&house.server, Role::Biller).await;
    let ask = |path: &str| {
        let asked = house.bare(Method::GET, &format!("{FHIR}{path}"));
        asked.bearer_auth(&biller)
    };
    for path in [
        "Observation/o",
        "Observation?patient=Patient/p",
        "Patient/p/$everything",
        "Patient/p",
    ] {
        is_cut(ask(path), path).await;
    }
    assert_eq!(answer(ask("Claim/c")).await.0, StatusCode::OK);
    for purpose in ["TREAT", "ETREAT", "HOPERAT", "PATRQT"] {
        let (status, body) = answer(ask("Observation/o").header(PURPOSE, purpose)).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{purpose}: {body}");
        assert!(!body.contains(SECRET));
    }
    for path in [
        format!("Observation?value-string={SECRET}"),
        "Consent?patient=Patient/p".to_owned(),
    ] {
        assert_eq!(answer(ask(&path)).await.0, StatusCode::FORBIDDEN, "{path}");
    }
    house.end().await;
}
