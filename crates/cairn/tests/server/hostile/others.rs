//! What is somebody else's: by every id, on every route, by cursors and jobs, and to be changed by forms.

use std::collections::BTreeMap;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use trust::Role;

use super::*;
use crate::apps::{self, Browser, Staff};
use crate::bulk::laid_out;
use crate::house::{House, header, house, put, token};
use crate::routes::guards;

/// What stands in all that is of Bob, and nowhere else.
const BOBS: &str = "Quibblewick";

/// Bob's record, by type: the ids of what is in it.
async fn bobs(house: &House) -> BTreeMap<&'static str, String> {
    let bob = json!({"reference": "Patient/bob"});
    let text = json!({"text": BOBS});
    let mut ids = BTreeMap::new();
    for (kind, mut resource) in [
        (
            "Patient",
            json!({"birthDate": "1950-02-03", "name": [{"family": BOBS}]}),
        ),
        (
            "Observation",
            json!({"status": "final", "code": text, "subject": bob, "valueString": BOBS}),
        ),
        ("Condition", json!({"code": text, "subject": bob})),
        (
            "Communication",
            json!({"status": "completed", "subject": bob, "sent": "2026-02-28T10:00:00Z", "topic": text, "payload": [{"contentString": BOBS}]}),
        ),
        (
            "Appointment",
            json!({"status": "proposed", "start": "2026-03-08T10:00:00Z", "end": "2026-03-08T10:30:00Z", "description": BOBS, "participant": [{"actor": bob, "status": "needs-action"}]}),
        ),
        (
            "Questionnaire",
            json!({"url": "urn:q", "version": "1", "status": "active", "title": BOBS, "item": [{"linkId": "a", "text": "?", "type": "boolean"}]}),
        ),
        (
            "Task",
            json!({"status": "requested", "intent": "order", "code": {"coding": [{"system": "urn:cairn:task-code", "code": "complete-questionnaire"}]}, "description": BOBS, "for": bob, "owner": bob, "input": [{"type": {"text": "questionnaire"}, "valueCanonical": "urn:q|1"}]}),
        ),
        (
            "DocumentReference",
            json!({"status": "current", "subject": bob, "content": [{"attachment": {"title": BOBS, "contentType": "text/plain", "data": "UXVpYmJsZXdpY2s="}}]}),
        ),
    ] {
        // Of whom a form itself is nobody asks.
        if kind == "Questionnaire" {
            resource["title"] = "How are you?".into();
        }
        let id = if kind == "Patient" {
            "bob".to_owned()
        } else {
            format!("bobs-{}", kind.to_lowercase())
        };
        resource["resourceType"] = kind.into();
        resource["id"] = id.as_str().into();
        put(house, &resource).await;
        if kind != "Questionnaire" {
            ids.insert(kind, id);
        }
    }
    ids
}

/// Which versions of a record there are now.
async fn versions(house: &House, ids: &BTreeMap<&'static str, String>) -> Vec<(String, Value)> {
    let mut versions = Vec::new();
    for (kind, id) in ids {
        let path = format!("/fhir/r4/{kind}/{id}");
        let answer = house.asked(Method::GET, &path).send().await;
        let found: Value = answer.expect("an answer").json().await.expect("JSON");
        assert!(found["meta"]["versionId"].is_string(), "{path}: {found}");
        versions.push((path, found["meta"]["versionId"].clone()));
    }
    versions
}

/// The addresses of a page's list that begin so.
fn linked(page: &str, beginning: &str) -> Vec<String> {
    let links = page.match_indices(beginning);
    links
        .map(|(at, _)| {
            let rest = &page[at + beginning.len()..];
            rest.split(['"', '/', '?'])
                .next()
                .unwrap_or_default()
                .to_owned()
        })
        .filter(|id| !id.is_empty())
        .collect()
}

/// A page without what differs from request to request.
fn timeless(page: &str) -> String {
    let mut page = page.to_owned();
    for (beginning, end) in [("Request <code>", "</code>"), (" data-wall=\"", "\">")] {
        while let Some(at) = page.find(beginning) {
            let length = page[at..].find(end).unwrap_or(page.len() - at);
            page.replace_range(at..at + length, "");
        }
    }
    page
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_sees_what_is_another_s_by_its_id() {
    let house = house().await;
    apps::furnished(&house).await;
    let ids = bobs(&house).await;
    // What belongs to Bob beside FHIR: an app that he let in, and his lines of who looked.
    let client = apps::app(&house).await;
    let mut bob = Browser::patient(&house, "bob", "1950-02-03").await;
    let pairs = apps::request(&house, &client, "offline_access patient/*.rs", &[]);
    let code = apps::code(&mut bob, &pairs).await;
    apps::tokens(apps::exchange(&house, &client, &code).await).await;
    let grant = linked(&bob.get("/portal/apps").await.body, "/portal/apps/").remove(0);
    let line = linked(
        &bob.get("/portal/record?own=yes").await.body,
        "/portal/record/",
    )
    .remove(0);
    let mut all: Vec<(&str, String)> = ids.iter().map(|(kind, id)| (*kind, id.clone())).collect();
    all.push(("AuditEvent", line.clone()));
    all.push(("Patient", grant.clone()));

    let mut ann = Browser::patient(&house, "ann", "1950-02-03").await;
    let pairs = apps::request(&house, &client, "patient/*.rs", &[]);
    let code = apps::code(&mut ann, &pairs).await;
    let told = apps::tokens(apps::exchange(&house, &client, &code).await).await;
    let app = told["access_token"].as_str().expect("a token").to_owned();
    let squad = token(&house.server, Role::Squad).await;
    let mut ada = Browser::new(&house);
    let administrator = Staff::new(&house, "ada", Role::Administrator).await;
    ada.staff(&administrator, "/sign-in").await;

    let (mut tried, mut seen) = (0, 0);
    for route in guards().keys() {
        let (method, route) = route.split_once(' ').expect("a route");
        if method != "GET" || !route.contains('{') || route.contains("{secret}") {
            continue;
        }
        for (kind, id) in &all {
            let at = |id: &str| {
                let mut path = route.to_owned();
                for (name, value) in [
                    ("{type}", *kind),
                    ("{kind}", *kind),
                    ("{id}", id),
                    ("{task}", id),
                    ("{of}", "Observation"),
                    ("{version}", "1"),
                    ("{step}", id),
                    ("{name}", id),
                    ("{job}", id),
                    ("{file}", "1"),
                    ("{number}", "1"),
                    ("{shard}", "00"),
                    ("{*tile}", "0/000"),
                    ("{*rest}", id),
                    ("{deed}", "done"),
                    ("{journey}", id),
                    ("{batch}", id),
                    ("{event}", line.as_str()),
                    ("{patient}", "bob"),
                    ("{provider}", id),
                    ("{code}", id),
                ] {
                    path = path.replace(name, value);
                }
                assert!(!path.contains('{'), "{path}");
                path
            };
            let path = at(id);
            let pages = route.starts_with("/portal") || route.starts_with("/console");
            for (name, who) in [("ann", &mut ann), ("ada", &mut ada)] {
                // A list that a route keeps open never ends; whoever it isn't for is told so at once.
                let page = timeout(PATIENCE, who.get(&path))
                    .await
                    .unwrap_or_else(|_| panic!("{path} stays open for {name}"));
                assert!(!page.body.contains(BOBS), "{path}: {}", page.body);
                assert!(!page.location.contains(BOBS), "{path}");
                assert!(page.status.as_u16() < 500, "{path}: {}", page.status);
                tried += 1;
            }
            // As what isn't there: nobody learns that it is.
            if route.starts_with("/portal") && pages {
                let (there, absent) =
                    (ann.get(&path).await, ann.get(&at("0123456789abcdef")).await);
                assert_eq!(there.status, absent.status, "{path}");
                assert_eq!(timeless(&there.body), timeless(&absent.body), "{path}");
            }
            for token in [&app, &squad] {
                let answer = apps::get(&house, token, &path).await;
                let status = answer.status();
                let text = answer.text().await.expect("text");
                assert!(!text.contains(BOBS), "{path}: {text}");
                assert!(status.as_u16() < 500, "{path}: {status}");
                tried += 1;
            }
        }
    }
    // He himself sees it, so that not to be seen means something.
    for path in [
        "/portal",
        "/portal/inbox/bobs-communication",
        "/portal/visits/bobs-appointment",
        "/portal/forms/bobs-task",
        &format!("/portal/record/{line}"),
        "/portal/apps",
    ] {
        let page = bob.get(path).await;
        assert_eq!(page.status, StatusCode::OK, "{path}");
        seen += usize::from(page.body.contains(BOBS));
    }
    assert!(tried > 1_000 && seen > 2, "{tried} {seen}");

    // Nor is it changed: by forms with her own word, and by those of the console.
    let csrf = ann.get("/portal/apps").await.field("csrf");
    let before = house.server.ledger().last_number();
    let kept_before = versions(&house, &ids).await;
    for (path, fields) in [
        ("/portal/forms/bobs-task".to_owned(), vec![("q-a", "yes")]),
        (
            "/portal/visits/bobs-appointment".to_owned(),
            vec![("answer", "accept")],
        ),
        (format!("/portal/apps/{grant}/end"), vec![]),
        (format!("/console/apps/{grant}/end"), vec![]),
        ("/console/tasks/bobs-task/done".to_owned(), vec![]),
        ("/console/tasks/bobs-task/claim".to_owned(), vec![]),
        (
            "/console/worklist".to_owned(),
            vec![("deed", "claim"), ("task", "bobs-task/1")],
        ),
        (
            "/console/patients/bob/consents/make".to_owned(),
            vec![("do", "new"), ("type", "deny")],
        ),
        (
            "/console/patients/bob/emergency".to_owned(),
            vec![("reason", "Unconscious, nobody to ask")],
        ),
        (
            "/console/patients/bob/apps".to_owned(),
            vec![("app", client.as_str())],
        ),
        ("/console/accounts/bob/close".to_owned(), vec![]),
    ] {
        let mut form = vec![("csrf", csrf.as_str())];
        form.extend(fields);
        let page = ann.post(&path, &form).await;
        assert!(
            page.status.is_client_error(),
            "{path}: {} {}",
            page.status,
            page.location
        );
        assert!(!page.body.contains(BOBS), "{path}: {}", page.body);
    }
    // Her own forms change nobody else's record, whatever stands in them beside.
    let mass = [
        ("csrf", csrf.as_str()),
        ("kg", "80"),
        ("patient", "bob"),
        ("subject", "Patient/bob"),
        ("id", "bobs-observation"),
        ("resourceType", "Patient"),
        ("meta.security", "x"),
        ("performer", "Practitioner/x"),
        ("owner", "bob"),
        ("effectiveDateTime", "1999-01-01"),
        ("status", "entered-in-error"),
    ];
    assert_eq!(
        ann.post("/portal/weight", &mass).await.status,
        StatusCode::SEE_OTHER
    );
    let wanted = [
        ("csrf", csrf.as_str()),
        ("wanted", "1"),
        ("patient", "bob"),
        ("role", "administrator"),
        ("telecom", "mailto:evil@example.org"),
        ("name", "Evil"),
    ];
    ann.post("/portal/preferences", &wanted).await;
    let mut changed = Vec::new();
    for shard in 0..ledger::SHARDS {
        let events = house
            .server
            .ledger()
            .events(ledger::Shard(shard), before, 1_000)
            .await;
        changed.extend(
            events
                .expect("events")
                .into_iter()
                .filter(|event| event.kind != trust::kinds::SESSION),
        );
    }
    let kept: Value = house
        .asked(
            Method::GET,
            "/fhir/r4/Observation?code=29463-7&_sort=-_lastUpdated",
        )
        .send()
        .await
        .expect("an answer")
        .json()
        .await
        .expect("JSON");
    let weight = &kept["entry"][0]["resource"];
    assert_eq!(weight["subject"]["reference"], "Patient/ann", "{kept}");
    assert!(
        weight["status"] == "final" && weight["id"] != "bobs-observation",
        "{weight}"
    );
    let hers: Value = house
        .asked(Method::GET, "/fhir/r4/Patient/ann")
        .send()
        .await
        .expect("an answer")
        .json()
        .await
        .expect("JSON");
    assert!(!hers.to_string().to_lowercase().contains("evil"), "{hers}");
    assert_eq!(versions(&house, &ids).await, kept_before);
    assert!(changed.len() <= 3, "{changed:?}");
    assert_eq!(
        bob.get("/portal/apps").await.fields("csrf").len(),
        2,
        "his app is still there"
    );
    house.end().await;
}

#[tokio::test]
async fn a_cursor_or_a_job_of_another_opens_nothing() {
    let house = house().await;
    apps::furnished(&house).await;
    bobs(&house).await;
    let client = apps::app(&house).await;
    let mut ann = Browser::patient(&house, "ann", "1950-02-03").await;
    let pairs = apps::request(&house, &client, "patient/*.rs", &[]);
    let code = apps::code(&mut ann, &pairs).await;
    let told = apps::tokens(apps::exchange(&house, &client, &code).await).await;
    let app = told["access_token"].as_str().expect("a token").to_owned();
    let other = token(&house.server, Role::Client).await;
    let mut cursors = Vec::new();
    for path in [
        "Observation?_count=1",
        "Observation?_count=1&_sort=_id",
        "?_type=Observation,Condition&_count=1",
        "_history?_count=1",
        "Patient?_count=1&_revinclude=Observation:subject",
        "Patient/bob/*?_count=1",
        "Observation/_history?_count=1",
    ] {
        let found: Value = house
            .asked(Method::GET, &format!("/fhir/r4/{path}"))
            .send()
            .await
            .expect("an answer")
            .json()
            .await
            .expect("JSON");
        let next = found["link"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|link| link["relation"] == "next");
        let Some(next) = next.and_then(|link| link["url"].as_str()) else {
            continue;
        };
        cursors.push(next.strip_prefix(&house.url("")).expect("ours").to_owned());
    }
    assert!(cursors.len() > 4, "{cursors:?}");
    for cursor in &cursors {
        let answer = apps::get(&house, &app, cursor).await;
        let status = answer.status();
        let text = answer.text().await.expect("text");
        assert!(
            !text.contains(BOBS) && !text.contains("/bob") && status.as_u16() < 500,
            "{cursor}: {status} {text}"
        );
        // A cursor for another question, and one with a letter changed, are none.
        let (_, word) = cursor.split_once("_cursor=").expect("a cursor");
        let word = word.split('&').next().expect("a word");
        let mut bent = Vec::new();
        for place in [0, word.len() / 2, word.len() - 1] {
            let mut letters: Vec<char> = word.chars().collect();
            letters[place] = if letters[place] == '0' { '1' } else { '0' };
            bent.push(letters.into_iter().collect::<String>());
        }
        bent.extend([
            word[1..].to_owned(),
            format!("{word}0"),
            "0".repeat(word.len()),
            "%00".to_owned(),
            "-1".to_owned(),
            "'".to_owned(),
        ]);
        for bent in bent {
            let answer = house
                .asked(Method::GET, &cursor.replace(word, &bent))
                .send()
                .await
                .expect("an answer");
            assert!(
                (400..500).contains(&answer.status().as_u16()),
                "{cursor} {bent}: {}",
                answer.status()
            );
        }
        let elsewhere = house
            .asked(Method::GET, &format!("/fhir/r4/Encounter?_cursor={word}"))
            .send()
            .await
            .expect("an answer");
        assert!(
            (400..500).contains(&elsewhere.status().as_u16()),
            "{cursor}: {}",
            elsewhere.status()
        );
    }
    // A job is its client's; to others it isn't there, to the letter.
    let asked = house
        .asked(Method::GET, "/fhir/r4/$export")
        .header("prefer", "respond-async");
    let begun = asked.send().await.expect("an answer");
    let job = header(&begun, "content-location")
        .strip_prefix(&house.url(""))
        .expect("ours")
        .to_owned();
    let manifest = laid_out(async || {
        let asked = house.asked(Method::GET, &job).send().await;
        asked.expect("an answer")
    })
    .await;
    let file = manifest["output"][0]["url"]
        .as_str()
        .expect("a file")
        .strip_prefix(&house.url(""))
        .expect("ours")
        .to_owned();
    let none =
        job.rsplit_once('/').expect("a job").0.to_owned() + "/00000000000000000000000000000000";
    let mut words = Vec::new();
    for path in [&job, &file, &none] {
        for method in [Method::GET, Method::DELETE] {
            if path == &file && method == Method::DELETE {
                continue;
            }
            let answer = house
                .bare(method.clone(), path)
                .bearer_auth(&other)
                .send()
                .await
                .expect("an answer");
            assert_eq!(answer.status(), 404, "{method} {path}");
            words.push(answer.text().await.expect("text"));
        }
        let answer = apps::get(&house, &app, path).await;
        assert!(
            [401, 403, 404].contains(&answer.status().as_u16()),
            "{path}"
        );
    }
    assert_eq!(words[0], words[3], "a job of others is told from none");
    let still = house
        .asked(Method::GET, &file)
        .send()
        .await
        .expect("an answer");
    assert_eq!(still.status(), 200);
    house.end().await;
}
