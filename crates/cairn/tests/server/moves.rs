//! Patients moved between versions of their journey over HTTP, and by command of a running server.

use std::process::{Command, Output};

use ledger::Clock;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use trust::Role;

use crate::house::{House, cairn, house, put, token};
use crate::patience::until;
use crate::versions::FIRST;

/// An answer of the route: its status and its JSON.
async fn asked(house: &House, token: &str, name: &str, body: &Value) -> (StatusCode, Value) {
    let path = format!("/api/journeys/{name}/move");
    let request = house
        .bare(Method::POST, &path)
        .bearer_auth(token)
        .json(body);
    let answer = request.send().await.expect("an answer");
    let status = answer.status();
    (status, answer.json().await.expect("JSON"))
}

async fn publish(house: &House, token: &str, source: &str) {
    let request = house.bare(Method::POST, "/api/journeys").bearer_auth(token);
    let answer = request
        .body(source.to_owned())
        .send()
        .await
        .expect("an answer");
    assert_eq!(
        answer.status(),
        200,
        "{}",
        answer.text().await.expect("text")
    );
}

/// Tasks of a patient for a role.
async fn tasks(house: &House, patient: &str, role: &str) -> usize {
    let path = format!("/fhir/r4/Task?patient={patient}&status=requested");
    let found = house.asked(Method::GET, &path).send().await;
    let found: Value = found.expect("an answer").json().await.expect("JSON");
    let entries = found["entry"].as_array().into_iter().flatten();
    let of_role =
        |entry: &&Value| entry["resource"]["performerType"][0]["coding"][0]["code"] == role;
    entries.filter(of_role).count()
}

fn words(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!(
        "{}{}",
        String::from_utf8_lossy(out),
        String::from_utf8_lossy(err)
    )
}

/// `cairn journey migrate` of the running server.
async fn migrate(house: &House, token: &str, more: &[&str]) -> Output {
    let mut command: Command = cairn();
    let server = house.url("");
    command.args(["journey", "migrate", "short", "--from", "1", "--to", "2"]);
    command.args(["--server", server.trim_end_matches('/'), "--token", token]);
    command.args(more);
    let done = tokio::task::spawn_blocking(move || command.output());
    done.await.expect("it ends").expect("the command")
}

/// Two patients on the first version, and a second one that asks another role.
async fn followed() -> (House, String) {
    let house = house().await;
    let squad = token(&house.server, Role::Squad).await;
    publish(&house, &squad, FIRST).await;
    let done = fhir::date::instant(house.clock.now_ms());
    for id in ["p1", "p2"] {
        put(
            &house,
            &json!({"resourceType": "Patient", "id": id, "name": [{"family": "Berg"}]}),
        )
        .await;
        put(
            &house,
            &json!({
                "resourceType": "Procedure", "id": format!("{id}-o"), "status": "completed",
                "subject": {"reference": format!("Patient/{id}")}, "performedDateTime": done,
            }),
        )
        .await;
        until("the journey begins", async || {
            tasks(&house, id, "coordinator").await == 1
        })
        .await;
    }
    publish(
        &house,
        &squad,
        &FIRST.replace("role: coordinator", "role: clinician"),
    )
    .await;
    let steerer = token(&house.server, Role::Steerer).await;
    (house, steerer)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_is_previewed_asked_for_and_followed_over_http() {
    let (house, steerer) = followed().await;
    let body = json!({"from": 1, "to": 2});
    let nobody = house
        .bare(Method::POST, "/api/journeys/short/move")
        .json(&body);
    assert_eq!(nobody.send().await.expect("an answer").status(), 401);
    for role in [
        Role::Client,
        Role::Squad,
        Role::Clinician,
        Role::PrivacyOfficer,
    ] {
        let other = token(&house.server, role).await;
        let (status, said) = asked(&house, &other, "short", &body).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{role:?}: {said}");
        let path = "/api/batches/x";
        let looked = house
            .bare(Method::GET, path)
            .bearer_auth(&other)
            .send()
            .await;
        assert_eq!(looked.expect("an answer").status(), 403, "{role:?}");
    }
    for (body, status, said) in [
        (json!({"from": 1}), 400, "`from` and `to`"),
        (
            json!({"from": 1, "to": 2, "force": true}),
            400,
            "`from` and `to`",
        ),
        (
            json!({"from": 1, "to": 2, "first": 1, "share": 5}),
            400,
            "not both",
        ),
        (json!({"from": 1, "to": 2, "share": 0}), 400, "1 to 100"),
        (
            json!({"from": 1, "to": 2, "reason": "Other role"}),
            400,
            "`seen` is missing",
        ),
        (
            json!({"from": 1, "to": 2, "reason": " ", "seen": "x"}),
            400,
            "one line",
        ),
        (
            json!({"from": 1, "to": 2, "reason": "x", "seen": "x", "rate": 51}),
            400,
            "1 to 50",
        ),
        (json!({"from": 1, "to": 9}), 404, "no such journey"),
        (
            json!({"from": 2, "to": 2}),
            409,
            "both versions are the same",
        ),
        (
            json!({"from": 1, "to": 2, "reason": "x", "seen": "x"}),
            409,
            "",
        ),
    ] {
        let (got, told) = asked(&house, &steerer, "short", &body).await;
        assert_eq!(got.as_u16(), status, "{body}: {told}");
        let words = told["error"].as_str().expect("words");
        assert!(words.contains(said), "{body}: {told}");
    }
    let (status, _) = asked(&house, &steerer, "none", &body).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let wrong = json!({"from": 1, "to": 2, "map": "call: nowhere\n"});
    let (status, told) = asked(&house, &steerer, "short", &wrong).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{told}");
    let finding = &told["findings"][0];
    assert_eq!(
        (&finding["line"], &finding["column"]),
        (&json!(1), &json!(7)),
        "{told}"
    );

    // A coordinator's token does the same, where a deployment makes one.
    let coordinator = token(&house.server, Role::Coordinator).await;
    let (status, theirs) = asked(&house, &coordinator, "short", &body).await;
    assert_eq!(status, StatusCode::OK, "{theirs}");
    let (status, told) = asked(&house, &steerer, "short", &body).await;
    assert_eq!(status, StatusCode::OK, "{told}");
    assert_eq!(told, theirs);
    assert_eq!(
        (&told["preview"]["total"], &told["preview"]["moves"]),
        (&json!(2), &json!(2))
    );
    let seen = told["seen"].clone();
    let each = json!({"from": 1, "to": 2, "each_after": ""});
    let (_, listed) = asked(&house, &steerer, "short", &each).await;
    assert_eq!(listed["each"].as_array().map(Vec::len), Some(2), "{listed}");
    assert_eq!(
        (&listed["each"][0]["outcome"], &listed["next"]),
        (&json!("moves"), &Value::Null)
    );
    for id in ["p1", "p2"] {
        let quoted = format!("\"{id}\"");
        assert!(
            !told.to_string().contains(&quoted) && !listed.to_string().contains(&quoted),
            "{listed}"
        );
        assert_eq!(
            tasks(&house, id, "coordinator").await,
            1,
            "nothing was changed"
        );
    }
    let begin = json!({"from": 1, "to": 2, "reason": "Other role", "seen": seen});
    let (status, begun) = asked(&house, &steerer, "short", &begin).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{begun}");
    let path = format!("/api/batches/{}", begun["batch"].as_str().expect("an id"));
    let batch = async || -> Value {
        let looked = house
            .bare(Method::GET, &path)
            .bearer_auth(&steerer)
            .send()
            .await;
        looked.expect("an answer").json().await.expect("JSON")
    };
    until("the move is done", async || {
        batch().await["stage"] == "done"
    })
    .await;
    let batch = batch().await;
    assert_eq!(
        (&batch["total"], &batch["tried"], &batch["failed"]),
        (&json!(2), &json!(2), &json!(0)),
        "{batch}"
    );
    for id in ["p1", "p2"] {
        assert_eq!(
            (
                tasks(&house, id, "coordinator").await,
                tasks(&house, id, "clinician").await
            ),
            (0, 1)
        );
    }
    let none = house
        .bare(Method::GET, "/api/batches/none")
        .bearer_auth(&steerer)
        .send()
        .await;
    assert_eq!(none.expect("an answer").status(), 404);
    for wrong in ["after=x", "after=", "count=501", "count=-1", "count=x"] {
        let path = format!("{path}?{wrong}");
        let refused = house.bare(Method::GET, &path).bearer_auth(&steerer);
        assert_eq!(refused.send().await.expect("an answer").status(), 400);
    }
    house.end().await;
}

/// All that the audit has, newest first.
async fn audit(house: &House) -> Vec<Value> {
    let officer = token(&house.server, Role::PrivacyOfficer).await;
    let path = "/fhir/r4/AuditEvent?_count=200";
    let found = house.bare(Method::GET, path).bearer_auth(officer);
    let found = found.header("x-purpose-of-use", "HOPERAT").send().await;
    let found: Value = found.expect("an answer").json().await.expect("JSON");
    let entries = found["entry"].as_array().cloned().unwrap_or_default();
    entries
        .iter()
        .map(|entry| entry["resource"].clone())
        .collect()
}

// Proves: 45 CFR 164.312(a)(1), 164.312(b)
#[tokio::test(flavor = "multi_thread")]
async fn a_steerer_s_token_opens_nothing_else_and_is_in_the_audit_by_its_name() {
    let (house, _) = followed().await;
    let operator = trust::Agent::system(cairn::store::TENANT, "command-line");
    let identity = house.server.trust().identity();
    let token = identity.create_client(&operator, "Nightly deploys", Role::Steerer);
    let token = token.await.expect("a token");
    for purpose in ["TREAT", "CAREMGT", "HOPERAT"] {
        for path in [
            "Patient/p1",
            "Patient",
            "Task?patient=p1",
            "CarePlan?patient=p1",
            "AuditEvent",
            "Questionnaire",
            "Patient/p1/$everything",
            "$export",
        ] {
            let asked = house.bare(Method::GET, &format!("/fhir/r4/{path}"));
            let asked = asked
                .bearer_auth(&token)
                .header("x-purpose-of-use", purpose);
            let asked = asked.header("prefer", "respond-async").send().await;
            let status = asked.expect("an answer").status();
            assert_eq!(status, StatusCode::FORBIDDEN, "{path} {purpose}");
        }
    }
    for (method, path) in [
        (Method::GET, "/api/journeys/short"),
        (Method::POST, "/api/journeys"),
        (Method::POST, "/fhir/r4/Patient"),
        (Method::POST, "/fhir/r4/$start-journey"),
    ] {
        let asked = house.bare(method, path).bearer_auth(&token);
        let asked = asked.header("content-type", "application/fhir+json");
        let asked = asked.body(r#"{"resourceType":"Patient"}"#).send().await;
        let status = asked.expect("an answer").status();
        let kept_out = [StatusCode::FORBIDDEN, StatusCode::NOT_FOUND].contains(&status);
        assert!(kept_out, "{path}: {status}");
    }
    // Pages are for people, who have a session.
    let page = house
        .bare(Method::GET, "/console/batches")
        .bearer_auth(&token);
    let page = page.send().await.expect("an answer");
    let body = page.text().await.expect("text");
    assert!(!body.contains("Many journeys at once"), "{body}");

    let preview = json!({"from": 1, "to": 2});
    let (status, told) = asked(&house, &token, "short", &preview).await;
    assert_eq!(status, StatusCode::OK, "{told}");
    let seen = &told["seen"];
    let begin = json!({"from": 1, "to": 2, "reason": "Other role", "seen": seen});
    let (status, begun) = asked(&house, &token, "short", &begin).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{begun}");
    let id = begun["batch"].as_str().expect("an id");
    let audit = audit(&house).await;
    let asked_for = audit.iter().find(|event| {
        let said = event["outcomeDesc"].as_str().unwrap_or_default();
        said.contains(id) && said.contains("for 2")
    });
    let asked_for = asked_for
        .unwrap_or_else(|| panic!("{audit:#?}"))
        .to_string();
    for said in ["Nightly deploys", "steerer", "CAREMGT"] {
        assert!(asked_for.contains(said), "{said}: {asked_for}");
    }
    // Its name stands in the history of each, as a person's does.
    until("they are moved", async || {
        tasks(&house, "p1", "clinician").await == 1
    })
    .await;
    house.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_moves_the_patients_of_a_running_server() {
    let (house, steerer) = followed().await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("map.yaml");
    let map = file.to_str().expect("a path");
    std::fs::write(&file, "# who was to be called\ncal: stay\n").expect("written");
    let told = migrate(&house, &steerer, &["--map-file", map]).await;
    assert_eq!(told.status.code(), Some(1), "{}", words(&told));
    let place = format!("{map}:2:1: error J006");
    assert!(words(&told).contains(&place), "{}", words(&told));
    for (token, more, said) in [
        ("wrong", vec![], "401"),
        (house.token.as_str(), vec![], "403"),
        (steerer.as_str(), vec!["--apply"], "--reason"),
        (
            steerer.as_str(),
            vec!["--map", "call=stay", "--map", "call=hold"],
            "--map names call twice",
        ),
        (steerer.as_str(), vec!["--data", "x"], "cannot be used with"),
        (
            steerer.as_str(),
            vec!["--of", "other"],
            "cannot be used with",
        ),
        (
            steerer.as_str(),
            vec!["--root-key", "x"],
            "cannot be used with",
        ),
        (
            steerer.as_str(),
            vec!["--store-url", "postgres://x"],
            "cannot be used with",
        ),
    ] {
        let refused = migrate(&house, token, &more).await;
        assert!(!refused.status.success());
        assert!(
            words(&refused).contains(said),
            "{said}: {}",
            words(&refused)
        );
    }
    std::fs::write(&file, "call: stay\n").expect("written");
    let told = migrate(&house, &steerer, &["--map-file", map]).await;
    assert!(
        words(&told).contains("2 stay on their version"),
        "{}",
        words(&told)
    );
    let preview = words(&migrate(&house, &steerer, &["--each"]).await);
    for said in [
        "2 of 2 journeys would be moved, 2 of them with something else planned than now.",
        "new: Task for a clinician: Call (2 patients, 2 times)",
        " moves, 1 things differ",
        "Nothing was changed; --apply --reason TEXT moves them.",
    ] {
        assert!(preview.contains(said), "{said}: {preview}");
    }
    assert!(!preview.contains("p1"), "it names no patient: {preview}");
    let one = ["--first", "1", "--apply", "--reason", "Other role"];
    let moved = migrate(&house, &steerer, &one).await;
    assert!(moved.status.success(), "{}", words(&moved));
    assert!(
        words(&moved).contains("1 done, 0 not done, 0 wait"),
        "{}",
        words(&moved)
    );
    assert!(words(&moved).contains("It has begun: /console/batches/"));
    let left = words(&migrate(&house, &steerer, &[]).await);
    assert!(left.contains("1 of 1 journeys would be moved"), "{left}");
    house.end().await;
}
