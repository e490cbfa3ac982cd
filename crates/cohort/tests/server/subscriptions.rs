//! Servers killed while they notify of what is written: every version is told of, and what is told twice comes under
//! one key.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use cohort::random::Random;
use cohort::server::{Fhir, ServerProcess, run};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::cluster::Cluster;
use crate::crash::{now_ms, patient, text, weight};
use crate::patience::Patience;

const PATIENTS: usize = 8;
const WEIGHTS: usize = 12;
const KILLS: usize = 8;

/// Who is notified: it takes everything, and notes of which resource and under which key.
#[derive(Clone, Default)]
struct Receiver(Arc<Mutex<Vec<(String, String)>>>);

impl Receiver {
    async fn start() -> (Self, SocketAddr) {
        let receiver = Self::default();
        let routes = Router::new().fallback(take).with_state(receiver.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move { axum::serve(listener, routes).await });
        (receiver, address)
    }

    /// Keys by resource.
    fn keys(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut keys: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (path, key) in self.0.lock().expect("unpoisoned").iter().cloned() {
            keys.entry(path).or_default().insert(key);
        }
        keys
    }

    fn count(&self) -> usize {
        self.0.lock().expect("unpoisoned").len()
    }
}

async fn take(State(receiver): State<Receiver>, request: Request) {
    let key = request.headers()["idempotency-key"].to_str();
    let key = key.expect("text").to_owned();
    let path = request.uri().path().trim_start_matches("/hook/").to_owned();
    (receiver.0.lock().expect("unpoisoned")).push((path, key));
}

/// Servers on one store.
pub(crate) struct Servers {
    pub(crate) arguments: Vec<String>,
    pub(crate) log: std::path::PathBuf,
    pub(crate) running: Vec<Option<ServerProcess>>,
    pub(crate) bases: Arc<Mutex<Vec<String>>>,
}

impl Servers {
    pub(crate) async fn start(&mut self, place: usize) {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        let server = ServerProcess::start_with(&self.log, &arguments).await;
        let server = server.expect("a server");
        self.bases.lock().expect("unpoisoned")[place].clone_from(&server.base);
        self.running[place] = Some(server);
    }

    pub(crate) async fn kill_and_start(&mut self, place: usize) {
        let server = self.running[place].take().expect("running");
        server.kill().expect("killed");
        self.start(place).await;
    }
}

/// Writes one resource at whichever server answers, until one says that it is done.
pub(crate) async fn put(
    bases: &Mutex<Vec<String>>,
    token: &str,
    random: &mut Random,
    resource: &Value,
) {
    let of = |name: &str| resource[name].as_str().expect("text");
    let path = format!("{}/{}", of("resourceType"), of("id"));
    loop {
        let base = {
            let bases = bases.lock().expect("unpoisoned");
            bases[usize::try_from(random.below(bases.len() as u64)).expect("few")].clone()
        };
        let sent = Fhir::new(&base, token);
        if let Ok(Ok((200 | 201, _))) =
            timeout(Duration::from_secs(2), sent.put(&path, resource)).await
        {
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// The test, with so many servers on the store that these arguments name. Gives what happened, in words.
async fn notify_of_everything(space: &Path, store: &[&str], servers: usize, seed: u64) -> String {
    let mut random = Random::new(seed);
    let (receiver, address) = Receiver::start().await;
    let client = ["client", "create", "--name", "ward", "--role", "client"];
    let printed = run(&[&client[..], store].concat(), "").expect("a token");
    let token = printed.lines().last().expect("a token").to_owned();
    let origins = format!("subscriptions.origins=http://{address}");
    let mut arguments: Vec<String> = store.iter().map(|&one| one.to_owned()).collect();
    if let Some(url) = arguments.iter().position(|one| one == "--store-url") {
        arguments[url] = "--set".to_owned();
        arguments[url + 1] = format!("store.url={}", arguments[url + 1]);
    }
    arguments.extend(["--set".to_owned(), origins]);
    let mut all = Servers {
        arguments,
        log: space.join("log"),
        running: (0..servers).map(|_| None).collect(),
        bases: Arc::new(Mutex::new(vec![String::new(); servers])),
    };
    for place in 0..servers {
        all.start(place).await;
    }
    let base = all.bases.lock().expect("unpoisoned")[0].clone();
    let asked = json!({"resourceType": "Subscription", "status": "requested", "reason": "a test",
        "criteria": "Observation?code=http://loinc.org|29463-7",
        "channel": {"type": "rest-hook", "endpoint": format!("http://{address}/hook"), "payload": "application/fhir+json"}});
    let (status, made) =
        (Fhir::new(&base, &token).post("Subscription", &asked).await).expect("an answer");
    assert_eq!((status, &made["status"]), (201, &json!("active")), "{made}");

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
                    // So that there is something to do through all of the kills.
                    sleep(Duration::from_millis(random.below(600))).await;
                }
            })
        })
        .collect();
    for kill in 0..KILLS {
        sleep(Duration::from_millis(100 + random.below(600))).await;
        all.kill_and_start(kill % servers).await;
    }
    for writer in writers {
        writer.await.expect("everything was taken");
    }

    // As many keys as versions, of each.
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
    let told = || -> BTreeMap<String, usize> {
        let keys = receiver.keys().into_iter();
        keys.map(|(path, keys)| (path, keys.len())).collect()
    };
    let mut patience = Patience::every(Duration::from_millis(100));
    while told() != versions {
        let (told, wanted): (usize, usize) = (told().values().sum(), versions.values().sum());
        let words = format!("seed {seed:#x}: {told} notifications of {wanted} versions");
        patience.wait(&words).await;
    }
    // What is told once more says so by its key, and nothing comes that was not written.
    sleep(Duration::from_secs(1)).await;
    assert_eq!(told(), versions, "seed {seed:#x}");
    let (_, stands) = (fhir
        .get(&format!(
            "Subscription/{}",
            made["id"].as_str().expect("an id")
        ))
        .await)
        .expect("an answer");
    assert_eq!(stands["status"], "active", "{stands}");
    let wanted: usize = versions.values().sum();
    let told = format!(
        "subscriptions: seed {seed:#x}, {servers} server(s), {KILLS} kills; {wanted} versions, {} requests",
        receiver.count()
    );
    for server in all.running.into_iter().flatten() {
        assert!(server.terminate().expect("ended"), "a clean end");
    }
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_again_and_again_notifies_of_everything() {
    let space = tempfile::tempdir().expect("a folder");
    let data = space.path().join("data");
    run(&["key", "create", "--data", text(&data)], "").expect("a key");
    let store = ["--data", text(&data)];
    let told = notify_of_everything(space.path(), &store, 1, 0x5b_0001).await;
    println!("{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_of_which_one_is_killed_notify_of_everything() {
    let space = tempfile::tempdir().expect("a folder");
    let cluster = Cluster::new();
    let url = cluster.url("cairn");
    let key = space.path().join("root.key");
    run(&["key", "create", "--root-key", text(&key)], "").expect("a key");
    let store = ["--store-url", url.as_str(), "--root-key", text(&key)];
    let told = notify_of_everything(space.path(), &store, 2, 0x5b_0002).await;
    println!("{told}");
}
