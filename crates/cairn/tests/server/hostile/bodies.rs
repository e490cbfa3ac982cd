//! Bodies that grow when they are read, and bodies that say more than they may.

use reqwest::Method;
use serde_json::{Value, json};

use super::*;
use crate::house::{assert_outcome, header, house};

const XML: &str = "application/fhir+xml";
const JSON: &str = "application/fhir+json";

/// Routes that read a resource.
const READERS: [(&str, &str); 7] = [
    ("POST", "Patient"),
    ("PUT", "Patient/p"),
    ("POST", ""),
    ("POST", "Patient/$validate"),
    ("POST", "Patient/p/$meta-add"),
    ("PATCH", "Patient/p"),
    ("POST", "$import"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn xml_brings_nothing_along_and_grows_into_nothing() {
    let house = house().await;
    let canary = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(canary.path(), "Quibblewick").expect("written");
    let place = canary.path().display();
    // Somebody who would notice being asked.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("an address");
    let body = |inside: &str| {
        format!(
            "<Patient xmlns=\"http://hl7.org/fhir\"><name><family value=\"{inside}\"/></name></Patient>"
        )
    };
    let mut laughs = String::from("<!DOCTYPE lolz [<!ENTITY a0 \"lol\">");
    for level in 1..12 {
        laughs.push_str(&format!(
            "<!ENTITY a{level} \"{}\">",
            format!("&a{};", level - 1).repeat(10)
        ));
    }
    laughs.push_str("]>");
    let quadratic = format!(
        "<!DOCTYPE x [<!ENTITY a \"{}\">]>{}",
        "a".repeat(50_000),
        body(&"&a;".repeat(50_000))
    );
    let bombs = [
        laughs + &body("&a11;"),
        quadratic,
        format!(
            "<!DOCTYPE x [<!ENTITY e SYSTEM \"file://{place}\">]>{}",
            body("&e;")
        ),
        format!(
            "<!DOCTYPE x SYSTEM \"http://{address}/x.dtd\">{}",
            body("x")
        ),
        format!(
            "<!DOCTYPE x PUBLIC \"-//x\" \"http://{address}/x.dtd\">{}",
            body("x")
        ),
        format!(
            "<!DOCTYPE x [<!ENTITY % p SYSTEM \"http://{address}/p\"> %p;]>{}",
            body("x")
        ),
        format!(
            "<Patient xmlns=\"http://hl7.org/fhir\" xmlns:xi=\"http://www.w3.org/2001/XInclude\"><xi:include href=\"file://{place}\" parse=\"text\"/></Patient>"
        ),
        format!(
            "<Patient xmlns=\"http://hl7.org/fhir\">{}{}</Patient>",
            "<extension url=\"u\">".repeat(200_000),
            "</extension>".repeat(200_000)
        ),
        format!(
            "<Patient xmlns=\"http://hl7.org/fhir\" {}/>",
            "a=\"1\" ".repeat(200_000)
        ),
        format!(
            "<Patient xmlns=\"http://hl7.org/fhir\"><text><status value=\"generated\"/><div xmlns=\"http://www.w3.org/1999/xhtml\">{}{}</div></text></Patient>",
            "<b>".repeat(100_000),
            "</b>".repeat(100_000)
        ),
        body("&#0;"),
        body("&undefined;"),
        "\u{feff}\u{feff}<".to_owned(),
        "<?xml version=\"1.0\" encoding=\"UTF-7\"?>+ADw-Patient".to_owned(),
    ];
    // A new connection for each: who is refused before all is sent finds the old one closed.
    let http = reqwest::Client::builder().pool_max_idle_per_host(0);
    let http = http.build().expect("a client");
    for (number, bomb) in bombs.iter().enumerate() {
        for (method, path) in READERS {
            if path == "$import" && bomb.len() > 10_000 {
                continue;
            }
            let asked = http
                .request(
                    method.parse().expect("a method"),
                    house.url(&format!("/fhir/r4/{path}")),
                )
                .bearer_auth(&house.token)
                .header("content-type", XML)
                .header("prefer", "respond-async");
            let answer = timeout(PATIENCE, asked.body(bomb.clone()).send())
                .await
                .expect("it takes too long");
            let answer = answer.expect("an answer");
            let status = answer.status().as_u16();
            assert!(
                (400..500).contains(&status),
                "{number} {method} {path}: {status}"
            );
            let kind = header(&answer, "content-type").to_owned();
            let text = answer.text().await.expect("text");
            assert!(
                kind.starts_with("application/fhir+json"),
                "{number} {method} {path}: {kind}"
            );
            assert!(
                !text.contains("Quibblewick") && text.len() < 10_000,
                "{text}"
            );
        }
    }
    // A hint for browsers is passed over.
    let hint = format!(
        "<?xml-stylesheet href=\"http://{address}/x.xsl\"?>{}",
        body("x")
    );
    let asked = house
        .asked(Method::POST, "/fhir/r4/Patient")
        .header("content-type", XML);
    let answer = asked.body(hint).send().await.expect("an answer");
    assert_eq!(answer.status(), 201);
    let asked = timeout(Duration::from_millis(200), listener.accept()).await;
    assert!(asked.is_err(), "the server asked for what a document named");
    goes_on(&house).await;
    house.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_is_no_deeper_and_no_stranger_than_it_may_be() {
    let house = house().await;
    let deep = |open: &str, close: &str, levels: usize| {
        format!(
            "{{\"resourceType\":\"Patient\",\"id\":\"p\",\"extension\":{}{}}}",
            open.repeat(levels),
            close.repeat(levels)
        )
    };
    for (number, bomb) in [
        "[".repeat(1_000_000),
        "{\"a\":".repeat(1_000_000),
        deep("[", "]", 1_000_000),
        deep("[{\"extension\":", "}]", 100_000),
        deep("[{\"url\":\"u\",\"extension\":", "}]", 1_000),
        "{\"resourceType\":\"Patient\",\"resourceType\":\"Observation\"}".to_owned(),
        "{\"resourceType\":\"Patient\",\"id\":\"p\",\"id\":\"q\"}".to_owned(),
        "{\"resourceType\":\"Patient\",\"id\":\"p\",\"multipleBirthInteger\":1e999999}".to_owned(),
        format!(
            "{{\"resourceType\":\"Patient\",\"id\":\"p\",\"multipleBirthInteger\":{}}}",
            "9".repeat(1_000_000)
        ),
        "{\"resourceType\":\"Patient\",\"id\":\"p\",\"language\":\"\\ud800\"}".to_owned(),
        "{\"resourceType\":\"Patient\",\"id\":\"p\",\"__proto__\":{\"admin\":true}}".to_owned(),
        "{\"resourceType\":[\"Patient\"],\"id\":{\"$gt\":\"\"}}".to_owned(),
        "NaN".to_owned(),
        "\u{0}".to_owned(),
        "{\"resourceType\":\"Patient\",\"id\":\"p\"}{\"resourceType\":\"Patient\"}".to_owned(),
    ]
    .iter()
    .enumerate()
    {
        for (method, path) in READERS {
            // An import is refused by its form, before it has been sent whole.
            if path == "$import" && bomb.len() > 10_000 {
                continue;
            }
            let kind = if method == "PATCH" {
                "application/json-patch+json"
            } else {
                JSON
            };
            let asked = house.asked(
                method.parse().expect("a method"),
                &format!("/fhir/r4/{path}"),
            );
            let asked = asked
                .header("content-type", kind)
                .header("prefer", "respond-async");
            let answer = timeout(PATIENCE, asked.body(bomb.clone()).send())
                .await
                .expect("it takes too long");
            let answer = answer.expect("an answer");
            let status = answer.status().as_u16();
            let text = answer.text().await.expect("text");
            // `$validate` answers 200 with what is wrong.
            let told = path.ends_with("$validate") && status == 200 && text.contains("\"error\"");
            assert!(
                (400..500).contains(&status) || told,
                "{number} {method} {path}: {status} {text}"
            );
            assert!(
                text.len() < 20_000,
                "{number} {method} {path}: {} bytes",
                text.len()
            );
        }
    }
    goes_on(&house).await;
    house.end().await;
}

#[tokio::test]
async fn a_body_says_nothing_of_what_is_the_server_s() {
    let house = house().await;
    let get = async |path: &str| -> Value {
        house
            .asked(Method::GET, &format!("/fhir/r4/{path}"))
            .send()
            .await
            .expect("an answer")
            .json()
            .await
            .expect("JSON")
    };
    let bent = json!({
        "resourceType": "Patient", "id": "mine", "name": [{"family": "Berg"}],
        "meta": {"versionId": "99", "lastUpdated": "1999-01-01T00:00:00Z", "source": "urn:evil",
            "security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"}]},
    });
    // The server gives ids, versions and times.
    let made = house
        .sent(Method::POST, "/fhir/r4/Patient", &bent)
        .send()
        .await
        .expect("an answer");
    if made.status() == 201 {
        let made: Value = made.json().await.expect("JSON");
        assert_ne!(made["id"], "mine");
        assert_eq!(made["meta"]["versionId"], "1");
        assert!(
            !made["meta"]["lastUpdated"]
                .as_str()
                .expect("a time")
                .starts_with("1999"),
            "{made}"
        );
    } else {
        assert_eq!(made.status(), 422);
    }
    assert_eq!(
        house
            .asked(Method::GET, "/fhir/r4/Patient/mine")
            .send()
            .await
            .expect("an answer")
            .status(),
        404
    );
    let plain = json!({"resourceType": "Patient", "id": "p", "meta": {"versionId": "99", "lastUpdated": "1999-01-01T00:00:00Z"}});
    let put = house
        .sent(Method::PUT, "/fhir/r4/Patient/p", &plain)
        .send()
        .await
        .expect("an answer");
    assert_eq!(put.status(), 201);
    assert_eq!(get("Patient/p").await["meta"]["versionId"], "1");
    // The address and the body name the same.
    for (path, body) in [
        ("Patient/p", json!({"resourceType": "Patient", "id": "q"})),
        ("Patient/p", json!({"resourceType": "Patient"})),
        (
            "Patient/p",
            json!({"resourceType": "Observation", "id": "p", "status": "final", "code": {"text": "x"}}),
        ),
        ("Patient/..", json!({"resourceType": "Patient", "id": ".."})),
        (
            "Patient/a%2fb",
            json!({"resourceType": "Patient", "id": "a/b"}),
        ),
    ] {
        let answer = house
            .sent(Method::PUT, &format!("/fhir/r4/{path}"), &body)
            .send()
            .await
            .expect("an answer");
        assert!(
            (400..500).contains(&answer.status().as_u16()),
            "{path}: {}",
            answer.status()
        );
    }
    // Nobody writes the audit, or what the server keeps of itself.
    for (method, path, kind) in [
        (Method::POST, "AuditEvent", "AuditEvent"),
        (Method::PUT, "AuditEvent/a", "AuditEvent"),
        (Method::DELETE, "AuditEvent/a", "AuditEvent"),
    ] {
        let body = json!({"resourceType": kind, "id": "a"});
        let answer = house
            .sent(method, &format!("/fhir/r4/{path}"), &body)
            .send()
            .await
            .expect("an answer");
        assert_outcome(answer, 405, "not-supported").await;
    }
    let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
        {"resource": {"resourceType": "AuditEvent"}, "request": {"method": "POST", "url": "AuditEvent"}}]});
    let answer = house
        .sent(Method::POST, "/fhir/r4/", &bundle)
        .send()
        .await
        .expect("an answer");
    assert!(
        (400..500).contains(&answer.status().as_u16()),
        "{}",
        answer.status()
    );
    house.end().await;
}
