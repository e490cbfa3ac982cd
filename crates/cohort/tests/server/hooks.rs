//! A receiver of notifications that fails, and a server that is killed while it sends: nothing is lost, what comes twice is
//! counted and known by its id, and an operator has everything sent again, under kills as well.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use cohort::random::Random;
use cohort::server::{Fhir, run};
use serde_json::json;
use tokio::time::sleep;

use crate::crash::{now_ms, patient, text, weight};
use crate::patience::Patience;
use crate::subscriptions::{Servers, put};

const PATIENTS: usize = 6;
const WEIGHTS: usize = 8;
const KILLS: usize = 6;
/// One request in so many is refused, and one in so many is taken with an answer that says otherwise.
const REFUSES: u64 = 16;
const BREAKS: u64 = 24;

/// What came: which resource, under which id, of which replay, and whether the receiver said that it took it.
#[derive(Debug, Clone)]
struct Came {
    path: String,
    id: String,
    replay: String,
    is_taken: bool,
}

/// Who is notified, and fails now and then.
#[derive(Clone)]
struct Flaky(Arc<Mutex<(Random, Vec<Came>)>>);

impl Flaky {
    async fn start(seed: u64) -> (Self, SocketAddr) {
        let flaky = Self(Arc::new(Mutex::new((Random::new(seed), Vec::new()))));
        let routes = axum::Router::new().fallback(take).with_state(flaky.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move { axum::serve(listener, routes).await });
        (flaky, address)
    }

    fn came(&self) -> Vec<Came> {
        self.0.lock().expect("unpoisoned").1.clone()
    }

    /// Ids of what was taken, by resource.
    fn ids(&self, is_of: impl Fn(&Came) -> bool) -> BTreeMap<String, BTreeSet<String>> {
        let mut ids: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for came in self
            .came()
            .into_iter()
            .filter(|came| came.is_taken && is_of(came))
        {
            ids.entry(came.path).or_default().insert(came.id);
        }
        ids
    }
}

async fn take(State(flaky): State<Flaky>, request: Request) -> Response {
    let header = |name: &str| {
        let value = request.headers().get(name).map(|value| value.to_str());
        value.map_or(String::new(), |value| value.expect("text").to_owned())
    };
    assert_eq!(header("webhook-id"), header("idempotency-key"));
    assert!(header("webhook-signature").starts_with("v1,"), "signed");
    let mut flaky = flaky.0.lock().expect("unpoisoned");
    let (refuses, breaks) = (flaky.0.below(REFUSES) == 0, flaky.0.below(BREAKS) == 0);
    let path = request.uri().path().trim_start_matches("/hook/");
    let came = Came {
        path: path.to_owned(),
        id: header("webhook-id"),
        replay: header("cairn-replay"),
        is_taken: !refuses,
    };
    flaky.1.push(came);
    if refuses {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    if breaks {
        // It has it, and says that it doesn't: whoever sends can't know.
        return StatusCode::BAD_GATEWAY.into_response();
    }
    StatusCode::OK.into_response()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_fails_and_a_server_that_is_killed_lose_nothing_and_all_can_be_sent_again()
{
    let seed = 0x5b_0154;
    let space = tempfile::tempdir().expect("a folder");
    let data = space.path().join("data");
    let store = ["--data", text(&data)];
    run(&["key", "create", "--data", text(&data)], "").expect("a key");
    let mut random = Random::new(seed);
    let (flaky, address) = Flaky::start(seed ^ 1).await;
    let client = ["client", "create", "--name", "ward", "--role", "client"];
    let printed = run(&[&client[..], &store].concat(), "").expect("a token");
    let token = printed.lines().last().expect("a token").to_owned();
    let mut arguments: Vec<String> = store.iter().map(|&one| one.to_owned()).collect();
    let origins = format!("subscriptions.origins=http://{address}");
    arguments.extend(["--set".to_owned(), origins]);
    let mut all = Servers {
        arguments,
        log: space.path().join("log"),
        running: vec![None],
        bases: Arc::new(Mutex::new(vec![String::new()])),
    };
    all.start(0).await;
    let base = all.bases.lock().expect("unpoisoned")[0].clone();
    let asked = json!({"resourceType": "Subscription", "status": "requested", "reason": "a test",
        "criteria": "Observation?code=http://loinc.org|29463-7",
        "channel": {"type": "rest-hook", "endpoint": format!("http://{address}/hook"), "payload": "application/fhir+json"}});
    let made = Fhir::new(&base, &token).post("Subscription", &asked).await;
    let (status, made) = made.expect("an answer");
    assert_eq!((status, &made["status"]), (201, &json!("active")), "{made}");
    let id = made["id"].as_str().expect("an id").to_owned();
    let since = fhir::date::instant(now_ms());

    let writers: Vec<_> = (0..PATIENTS)
        .map(|number| {
            let (bases, token) = (Arc::clone(&all.bases), token.clone());
            let mut random = Random::new(seed ^ ((number as u64 + 1) << 40));
            tokio::spawn(async move {
                let mut who = patient(number);
                who["id"] = json!(format!("crash-{number}"));
                put(&bases, &token, &mut random, &who).await;
                for count in 0..WEIGHTS {
                    let mut reading = weight(number, 80.0, &fhir::date::instant(now_ms()));
                    reading["id"] = json!(format!("w-{number}-{count}"));
                    put(&bases, &token, &mut random, &reading).await;
                    sleep(Duration::from_millis(random.below(800))).await;
                }
            })
        })
        .collect();
    for _ in 0..KILLS {
        sleep(Duration::from_millis(200 + random.below(1200))).await;
        all.kill_and_start(0).await;
    }
    for writer in writers {
        writer.await.expect("everything was taken");
    }

    // As many ids as versions, of each: nothing is lost, and what came more than once came under one id.
    let base = all.bases.lock().expect("unpoisoned")[0].clone();
    let fhir = Fhir::new(&base, &token);
    let mut versions = BTreeMap::new();
    for number in 0..PATIENTS {
        for count in 0..WEIGHTS {
            let path = format!("Observation/w-{number}-{count}");
            let (status, found) = fhir.get(&path).await.expect("an answer");
            assert_eq!(status, 200, "seed {seed:#x}: {path}");
            let version = found["meta"]["versionId"].as_str().expect("a version");
            versions.insert(path, version.parse::<usize>().expect("a number"));
        }
    }
    let counted = |ids: &BTreeMap<String, BTreeSet<String>>| -> BTreeMap<String, usize> {
        let all = ids.iter().map(|(path, ids)| (path.clone(), ids.len()));
        all.collect()
    };
    let mut patience = Patience::every(Duration::from_millis(200));
    while counted(&flaky.ids(|_| true)) != versions {
        let told: usize = counted(&flaky.ids(|_| true)).values().sum();
        let wanted: usize = versions.values().sum();
        let words = format!("seed {seed:#x}: {told} notifications of {wanted} versions");
        patience.wait(&words).await;
    }
    let (first, requests) = (flaky.ids(|_| true), flaky.came());
    let taken = requests.iter().filter(|came| came.is_taken).count();
    let wanted: usize = versions.values().sum();
    println!(
        "hooks: seed {seed:#x}, {KILLS} kills; {wanted} versions, {} requests, {} refused, {} doubles",
        requests.len(),
        requests.len() - taken,
        taken - wanted
    );

    // An operator has all of it sent again, of the server that has the store open, which is killed meanwhile.
    let replay = ["subscription", "replay", &id, "--since", &since];
    let printed = run(&[&replay[..], &store].concat(), "").expect("it is asked for");
    let replay = printed.split(' ').nth(1).expect("an id").to_owned();
    for _ in 0..2 {
        sleep(Duration::from_millis(50 + random.below(400))).await;
        all.kill_and_start(0).await;
    }
    let is_again = |came: &Came| came.replay == replay;
    let mut patience = Patience::every(Duration::from_millis(200));
    while flaky.ids(is_again) != first {
        let told: usize = counted(&flaky.ids(is_again)).values().sum();
        let words = format!("seed {seed:#x}: {told} of {wanted} sent again");
        patience.wait(&words).await;
    }
    // Under the ids that they had: there is none that is new.
    assert_eq!(flaky.ids(|_| true), first, "seed {seed:#x}");

    // What came of it, as the operator sees it: of resources the type alone.
    let list = run(&[&["subscription", "list"][..], &store].concat(), "").expect("a list");
    assert!(list.contains(&id) && !list.contains("missed"), "{list}");
    let deliveries = ["subscription", "deliveries", &id];
    let mut patience = Patience::every(Duration::from_millis(200));
    let deliveries = loop {
        let told = run(&[&deliveries[..], &store].concat(), "").expect("a list");
        assert_eq!(told.lines().count(), wanted, "{told}");
        // The last may be taken and not yet written down.
        let is_settled = |line: &str| line.contains("replayed 1") && line.contains(" taken:");
        if told.lines().all(is_settled) {
            break told;
        }
        patience.wait(&told).await;
    };
    assert!(!deliveries.contains("w-0-0"), "{deliveries}");
    let secret = ["subscription", "rotate-secret", &id];
    let secret = run(&[&secret[..], &store].concat(), "").expect("a secret");
    assert!(secret.starts_with("whsec_"), "a secret");
    let nothing = ["subscription", "replay", &id, "--missed"];
    let nothing = run(&[&nothing[..], &store].concat(), "").expect_err("nothing was missed");
    assert!(
        nothing.to_string().contains("nothing of that kind"),
        "{nothing}"
    );
    for server in all.running.into_iter().flatten() {
        assert!(server.terminate().expect("ended"), "a clean end");
    }
}
