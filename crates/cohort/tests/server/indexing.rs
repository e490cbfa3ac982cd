//! A search parameter of one's own on a real server that is killed while it goes over what was there, and
//! on two servers of one database, while others write: each search finds what there is.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use cohort::random::Random;
use cohort::server::{Fhir, ServerProcess, run};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::cluster::Cluster;
use crate::crash::text;
use crate::patience::Patience;

/// Documents that stay as they are. A step goes over some thousand, so that kills come in the middle.
const STEADY: usize = 6000;
const BLUE: usize = STEADY / 10;

fn patient(id: &str, eyes: &str) -> Value {
    json!({"resourceType": "Patient", "id": id, "name": [{"family": "Berg"}], "extension": [
        {"url": "urn:eye", "valueCodeableConcept": {"coding": [{"system": "urn:c", "code": eyes}]}}]})
}

fn definition() -> Value {
    json!({"resourceType": "SearchParameter", "id": "eyes", "url": "http://example.org/eyes", "name": "eyes",
        "status": "active", "description": "Colour of the eyes", "code": "eyes", "base": ["Patient"],
        "type": "token", "expression": "Patient.extension.where(url = 'urn:eye').value.ofType(CodeableConcept)"})
}

struct Setting {
    arguments: Vec<String>,
    log: PathBuf,
    token: String,
}

impl Setting {
    async fn start(&self) -> ServerProcess {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        let server = ServerProcess::start_with(&self.log, &arguments).await;
        server.unwrap_or_else(|error| {
            panic!(
                "{error}: {}",
                fs::read_to_string(&self.log).unwrap_or_default()
            )
        })
    }

    fn fhir(&self, server: &ServerProcess) -> Fhir {
        Fhir::new(&server.base, &self.token)
    }

    /// A request as who sets the record up.
    async fn operate(&self, server: &ServerProcess, path: &str, body: Option<&Value>) -> Value {
        let client = reqwest::Client::new();
        let address = format!("{}/fhir/r4/{path}", server.base);
        let request = match body {
            Some(body) => client
                .put(address)
                .header("content-type", "application/fhir+json")
                .body(body.to_string()),
            None => client.get(address),
        };
        let request = request
            .bearer_auth(&self.token)
            .header("x-purpose-of-use", "HOPERAT");
        let answer = request.send().await.expect("an answer");
        let status = answer.status();
        let text = answer.text().await.expect("a body");
        assert!(status.is_success(), "{status} {text}");
        serde_json::from_str(&text).expect("JSON")
    }

    /// State and number of the unindexed.
    async fn status(&self, server: &ServerProcess) -> (String, u64) {
        let told = self
            .operate(server, "SearchParameter/eyes/$status", None)
            .await;
        let parts = told["parameter"][1]["part"].as_array().expect("a base");
        let part = |name: &str| parts.iter().find(|part| part["name"] == name);
        (
            part("state").expect("a state")["valueCode"]
                .as_str()
                .expect("a code")
                .to_owned(),
            part("unindexed").expect("a number")["valueInteger"]
                .as_u64()
                .expect("a number"),
        )
    }

    /// Loads what stays as it is.
    async fn load(&self, server: &ServerProcess) {
        let fhir = self.fhir(server);
        for chunk in 0..STEADY / 500 {
            let entries: Vec<Value> = (0..500)
                .map(|place| {
                    let number = chunk * 500 + place;
                    let eyes = if number.is_multiple_of(10) { "blue" } else { "brown" };
                    let id = format!("steady-{number}");
                    json!({"resource": patient(&id, eyes), "request": {"method": "PUT", "url": format!("Patient/{id}")}})
                })
                .collect();
            let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": entries});
            let (status, answer) = fhir.post("", &bundle).await.expect("an answer");
            assert_eq!(status, 200, "{answer}");
        }
    }
}

/// Whether a search on a server finds all that stays; `None` when the server isn't there, or has not heard
/// of the parameter.
async fn finds_all(fhir: &Fhir) -> Option<usize> {
    let path = "Patient?eyes=urn:c|blue&_summary=count";
    let (status, answer) = fhir.get(path).await.ok()?;
    if status == 400 {
        return None;
    }
    assert_eq!(status, 200, "{answer}");
    usize::try_from(answer["total"].as_u64().expect("a total")).ok()
}

/// Changes other documents' eyes until told to stop; none of them is blue.
async fn keep_writing(fhir: Fhir, stop: Arc<AtomicBool>, written: Arc<AtomicUsize>, writer: usize) {
    let mut random = Random::new(writer as u64);
    while !stop.load(Ordering::SeqCst) {
        let id = format!("moving-{writer}-{}", random.below(50));
        let eyes = ["green", "grey"][usize::from(random.below(2) == 1)];
        let path = format!("Patient/{id}");
        // Its server may be dead.
        match fhir.put(&path, &patient(&id, eyes)).await {
            Ok((status, answer)) => {
                assert!(matches!(status, 200 | 201 | 409), "{status} {answer}");
                written.fetch_add(1, Ordering::SeqCst);
            }
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn until_complete(setting: &Setting, server: &ServerProcess) {
    let mut patience = Patience::every(Duration::from_millis(50));
    loop {
        // Success is said only where nothing is left.
        let total = finds_all(&setting.fhir(server)).await;
        assert!(total.is_none_or(|total| total == BLUE), "{total:?}");
        let (state, unindexed) = setting.status(server).await;
        if state == "complete" && unindexed == 0 {
            return;
        }
        patience.wait(&format!("{state} {unindexed}")).await;
    }
}

fn setting(space: &Path, store: &[&str], serve: &[String]) -> Setting {
    let command = ["client", "create", "--name", "client", "--role", "client"];
    let printed = run(&[&command[..], store].concat(), "").expect("a token");
    Setting {
        arguments: serve.to_vec(),
        log: space.join("log"),
        token: printed.lines().last().expect("a token").to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_is_killed_again_and_again_ends_whole() {
    let space = tempfile::tempdir().expect("a folder");
    let data = space.path().join("data");
    run(&["key", "create", "--data", text(&data)], "").expect("a key");
    let store = ["--data", text(&data)];
    let setting = setting(space.path(), &store, &store.map(str::to_owned));
    let mut server = setting.start().await;
    setting.load(&server).await;
    setting
        .operate(&server, "SearchParameter/eyes", Some(&definition()))
        .await;
    let mut random = Random::new(40);
    let mut seen = 0;
    for _ in 0..6 {
        let total = finds_all(&setting.fhir(&server)).await;
        assert_eq!(total, Some(BLUE));
        seen += usize::from(setting.status(&server).await.0 == "indexing");
        sleep(Duration::from_millis(random.below(60))).await;
        server.kill().expect("killed");
        server = setting.start().await;
    }
    assert!(seen > 0, "no kill came while it was indexing");
    until_complete(&setting, &server).await;
    assert_eq!(finds_all(&setting.fhir(&server)).await, Some(BLUE));
    assert!(server.terminate().expect("a signal"));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_find_the_same_while_one_of_them_is_killed() {
    let space = tempfile::tempdir().expect("a folder");
    let cluster = Cluster::new();
    let url = cluster.url("cairn");
    let key = space.path().join("root.key");
    run(&["key", "create", "--root-key", text(&key)], "").expect("a key");
    let store = ["--store-url", url.as_str(), "--root-key", text(&key)];
    let serve = [
        "--root-key",
        text(&key),
        "--set",
        &format!("store.url={url}"),
    ];
    let setting = setting(space.path(), &store, &serve.map(str::to_owned));
    let (one, mut two) = (setting.start().await, setting.start().await);
    setting.load(&one).await;
    let stop = Arc::new(AtomicBool::new(false));
    let written = Arc::new(AtomicUsize::new(0));
    let writers: Vec<_> = [&one, &two]
        .into_iter()
        .enumerate()
        .map(|(number, server)| {
            let (stop, written) = (Arc::clone(&stop), Arc::clone(&written));
            tokio::spawn(keep_writing(setting.fhir(server), stop, written, number))
        })
        .collect();
    setting
        .operate(&one, "SearchParameter/eyes", Some(&definition()))
        .await;
    for round in 0..4_u64 {
        for server in [&one, &two] {
            let total = finds_all(&setting.fhir(server)).await;
            assert!(total.is_none_or(|total| total == BLUE), "{total:?}");
        }
        assert_eq!(
            finds_all(&setting.fhir(&one)).await,
            Some(BLUE),
            "who took it has heard"
        );
        sleep(Duration::from_millis(200 * round)).await;
        two.kill().expect("killed");
        two = setting.start().await;
    }
    until_complete(&setting, &one).await;
    stop.store(true, Ordering::SeqCst);
    for writer in writers {
        writer.await.expect("a writer");
    }
    assert!(written.load(Ordering::SeqCst) > 20);
    // The other one has heard by now at the latest, and finds what changed hands on both.
    until_complete(&setting, &two).await;
    let body = patient("steady-1", "blue");
    let (status, answer) = setting
        .fhir(&two)
        .put("Patient/steady-1", &body)
        .await
        .expect("an answer");
    assert_eq!(status, 200, "{answer}");
    for server in [&one, &two] {
        assert_eq!(finds_all(&setting.fhir(server)).await, Some(BLUE + 1));
    }
    assert!(one.terminate().expect("a signal") && two.terminate().expect("a signal"));
}
