//! Three nodes on one database, one of them killed or stopped again and again, while patients come in
//! and are led through a journey. Whoever holds a patient's shard moves them; nobody does it twice.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cairn::store;
use cohort::random::Random;
use cohort::server::{Fhir, ServerProcess, run};
use ledger::{Clock, ManualClock, SystemClock};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use crate::cluster::Cluster;
use crate::crash::{condition, encounter, entries, is_staff, now_ms, patient, text, weight};
use crate::patience::Patience;
use crate::peers::{root, smtp};

const NODES: usize = 3;
const PATIENTS: usize = 30;
/// Kills and stops, in turn.
const DISTURBANCES: usize = 6;
/// The shards of a node that is gone are another's within this time.
const HANDED_OVER_WITHIN: Duration = Duration::from_secs(10);
/// Longer than a node counts as alive without saying so, so that a stopped one loses its shards.
const STOPPED_FOR: Duration = Duration::from_secs(8);

/// A node, or the place of one that is down.
#[derive(Clone)]
struct Node {
    base: Arc<Mutex<Option<String>>>,
}

struct Nodes {
    cluster: Cluster,
    arguments: Vec<String>,
    log: PathBuf,
    running: Vec<Option<ServerProcess>>,
    nodes: Vec<Node>,
}

impl Nodes {
    async fn start(&mut self, node: usize) {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        let server = ServerProcess::start_with(&self.log, &arguments)
            .await
            .unwrap_or_else(|error| {
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                panic!("{error}: {log}")
            });
        *self.nodes[node].base.lock().expect("unpoisoned") = Some(server.base.clone());
        self.running[node] = Some(server);
    }

    /// Shards whose holder counts as alive, and the number of nodes that do.
    fn standing(&self) -> (usize, usize) {
        let sql = "SET ROLE cairn_service; SELECT \
                   (SELECT count(*) FROM cairn.shard JOIN cairn.node ON id = lease_holder WHERE until > now()), \
                   (SELECT count(*) FROM cairn.node WHERE until > now())";
        let answer = self.cluster.sql("cairn", "cairn", sql);
        let line = answer.lines().last().expect("an answer");
        let (held, alive) = line.split_once('|').expect("two counts");
        (
            held.parse().expect("a count"),
            alive.parse().expect("a count"),
        )
    }

    /// Waits until so many nodes hold all shards; how long that took.
    async fn until_held_by(&self, nodes: usize) -> Duration {
        let began = Instant::now();
        let mut patience = Patience::every(Duration::from_millis(100));
        while self.standing() != (256, nodes) {
            let standing = self.standing();
            let words = format!("{standing:?} instead of all shards held by {nodes} nodes");
            patience.wait(&words).await;
        }
        began.elapsed()
    }
}

/// Everything that a patient does, in order.
fn story(number: usize) -> Vec<(String, Value)> {
    let end = fhir::date::instant(now_ms() - 3_600_000);
    let mut story = vec![
        (format!("Patient/crash-{number}"), patient(number)),
        (format!("Condition/crash-{number}-hf"), condition(number)),
        (
            format!("Encounter/crash-{number}-stay"),
            encounter(number, &end),
        ),
    ];
    for (day, kg) in [(2, 80.0), (1, 81.0), (0, 83.5)] {
        let id = format!("crash-{number}-weight-{day}");
        let at = fhir::date::instant(now_ms() - day * 86_400_000);
        let mut reading = weight(number, kg, &at);
        reading["id"] = json!(id);
        story.push((format!("Observation/{id}"), reading));
    }
    story
}

/// Puts a resource to whichever node answers, until one says that it is done.
async fn put(nodes: &[Node], token: &str, random: &mut Random, path: &str, body: &Value) {
    loop {
        let node = &nodes[usize::try_from(random.below(NODES as u64)).expect("few")];
        let base = node.base.lock().expect("unpoisoned").clone();
        let Some(base) = base else {
            sleep(Duration::from_millis(20)).await;
            continue;
        };
        let fhir = Fhir::new(&base, token);
        // A node that is stopped takes the request and does not answer.
        match timeout(Duration::from_secs(2), fhir.put(path, body)).await {
            Ok(Ok((200 | 201, _))) => return,
            // The database refuses those that come while a node's connections are being cut.
            Ok(Ok((status, answer))) => assert!(status >= 500, "{path}: {status} {answer}"),
            Ok(Err(_)) | Err(_) => {}
        }
        sleep(Duration::from_millis(20)).await;
    }
}

// Proves: 45 CFR 164.312(c)(1), 164.308(a)(7)(ii)(C)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_of_which_one_is_killed_or_stopped_lose_and_double_nothing() {
    let seed = 0x3_0de5;
    let mut random = Random::new(seed);
    let space = tempfile::tempdir().expect("a folder");
    let cluster = Cluster::new();
    let url = cluster.url("cairn");
    let smtp = smtp(space.path());
    let config = space.path().join("cairn.toml");
    fs::write(&config, format!("[smtp]\nhost = \"127.0.0.1\"\nport = {}\ntls = \"none\"\nfrom = \"care@example.com\"\n", smtp.port())).expect("written");
    let key = space.path().join("root.key");
    run(&["key", "create", "--root-key", text(&key)], "").expect("a key");
    let store = ["--store-url", url.as_str(), "--root-key", text(&key)];
    let client = |role: &str| {
        let command = ["client", "create", "--name", role, "--role", role];
        let printed = run(&[&command[..], &store[..]].concat(), "").expect("a token");
        printed.lines().last().expect("a token").to_owned()
    };
    let (token, squad) = (client("client"), client("squad"));

    let none = || Node {
        base: Arc::default(),
    };
    let mut nodes = Nodes {
        arguments: vec![
            "--config".into(),
            text(&config).into(),
            "--root-key".into(),
            text(&key).into(),
            "--set".into(),
            format!("store.url={url}"),
        ],
        log: space.path().join("log"),
        running: (0..NODES).map(|_| None).collect(),
        nodes: (0..NODES).map(|_| none()).collect(),
        cluster,
    };
    for node in 0..NODES {
        nodes.start(node).await;
    }
    let base = nodes.running[0].as_ref().expect("running").base.clone();
    let journey = root().join("journeys/heart-failure-discharge.yaml");
    run(
        &[
            "journey",
            "publish",
            "--server",
            &base,
            "--token",
            &squad,
            text(&journey),
        ],
        "",
    )
    .expect("published");
    nodes.until_held_by(NODES).await;

    // Patients come in, at whichever node answers.
    let next = Arc::new(AtomicUsize::new(0));
    let writers: Vec<_> = (0..4u64)
        .map(|writer| {
            let (nodes, token, next) = (nodes.nodes.clone(), token.clone(), Arc::clone(&next));
            let mut random = Random::new(seed ^ (writer + 1) << 40);
            tokio::spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= PATIENTS {
                        return;
                    }
                    for (path, body) in story(number) {
                        put(&nodes, &token, &mut random, &path, &body).await;
                        // So that there is something to do through all of the disturbances.
                        sleep(Duration::from_millis(250)).await;
                    }
                }
            })
        })
        .collect();

    let mut handed_over = Vec::new();
    for disturbance in 0..DISTURBANCES {
        sleep(Duration::from_millis(500 + random.below(1_000))).await;
        let node = usize::try_from(random.below(NODES as u64)).expect("few");
        if disturbance % 2 == 0 {
            nodes.running[node]
                .take()
                .expect("running")
                .kill()
                .expect("killed");
            *nodes.nodes[node].base.lock().expect("unpoisoned") = None;
            let took = nodes.until_held_by(NODES - 1).await;
            handed_over.push(took.as_millis());
            assert!(took < HANDED_OVER_WITHIN, "handed over after {took:?}");
            nodes.start(node).await;
        } else {
            let server = nodes.running[node].as_ref().expect("running");
            server.signal("STOP").expect("stopped");
            sleep(STOPPED_FOR).await;
            server.signal("CONT").expect("goes on");
        }
        nodes.until_held_by(NODES).await;
    }
    for writer in writers {
        writer.await.expect("everything was taken");
    }

    // It comes to rest: everybody is welcomed, and there is a task for everybody.
    let fhir = Fhir::new(&nodes.running[1].as_ref().expect("running").base, &token);
    let mut patience = Patience::every(Duration::from_millis(500));
    let (mut sent, mut tasks);
    loop {
        (sent, tasks) = (Vec::new(), Vec::new());
        for number in 0..PATIENTS {
            let communications = format!("Communication?subject=Patient/crash-{number}");
            let (_, bundle) = fhir.get(&communications).await.expect("an answer");
            let completed = |one: &Value| one["status"] == "completed";
            sent.extend(entries(&bundle).into_iter().filter(completed));
            let (_, bundle) = fhir
                .get(&format!("Task?patient=Patient/crash-{number}"))
                .await
                .expect("an answer");
            tasks.extend(entries(&bundle).into_iter().filter(is_staff));
        }
        let of = |resources: &[Value], path: &str| -> usize {
            let who = resources
                .iter()
                .filter_map(|one| one[path]["reference"].as_str());
            who.collect::<BTreeSet<_>>().len()
        };
        if of(&sent, "subject") == PATIENTS && of(&tasks, "for") == PATIENTS {
            break;
        }
        let (sent, tasks) = (sent.len(), tasks.len());
        let words = format!("{sent} messages and {tasks} tasks for {PATIENTS} patients");
        patience.wait(&format!("seed {seed:#x}: {words}")).await;
    }
    for number in 0..PATIENTS {
        let who = format!("Patient/crash-{number}");
        let of_them = |resources: &[Value], path: &str| {
            let theirs = |one: &&Value| one[path]["reference"] == who.as_str();
            resources.iter().filter(theirs).count()
        };
        assert_eq!(
            of_them(&tasks, "for"),
            1,
            "seed {seed:#x}: one task for {who}"
        );
        for (path, _) in story(number) {
            let (status, _) = fhir.get(&path).await.expect("an answer");
            assert_eq!(
                status, 200,
                "seed {seed:#x}: acknowledged {path} is missing"
            );
        }
    }
    // Every message under one Message-ID, however often it was handed over.
    let (by_recipient, taken) = smtp.by_recipient();
    let distinct: usize = by_recipient.values().map(BTreeSet::len).sum();
    let mails = sent
        .iter()
        .filter(|one| one["medium"][0]["coding"][0]["code"] == "EMAILWRIT")
        .count();
    assert_eq!(
        distinct, mails,
        "seed {seed:#x}: as many Message-IDs as messages"
    );

    // A clean stop of one: the others hold its shards within two seconds.
    let server = nodes.running[2].take().expect("running");
    assert!(server.terminate().expect("ended"), "a clean end");
    let given_back = nodes.until_held_by(NODES - 1).await;
    assert!(
        given_back < Duration::from_secs(2),
        "given back after {given_back:?}"
    );
    for node in 0..NODES - 1 {
        let server = nodes.running[node].take().expect("running");
        assert!(server.terminate().expect("ended"), "a clean end");
    }
    let verified = run(&[&["audit", "verify"][..], &store[..]].concat(), "").expect("sound");
    println!(
        "nodes: seed {seed:#x}, {DISTURBANCES} disturbances, handed over after {handed_over:?} ms, given back after {given_back:?}; {mails} messages, {} deliveries, {} tasks; {}",
        taken,
        tasks.len(),
        verified.lines().next().unwrap_or("")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_clock_is_wrong_does_not_join() {
    let space = tempfile::tempdir().expect("a folder");
    let cluster = Cluster::new();
    let key = space.path().join("root.key");
    run(&["key", "create", "--root-key", text(&key)], "").expect("a key");
    let open = |clock: Arc<dyn Clock>| {
        let place = store::in_database(&cluster.url("cairn"), None, None, "cairn", "");
        store::open(place.expect("a place"), key.as_path(), clock, 8 << 20)
    };
    let ledger = open(Arc::new(SystemClock)).await.expect("opened");
    ledger.close().await.expect("closed");
    for (now_ms, way) in [
        (SystemClock.now_ms() + 120_000, "ahead of"),
        (SystemClock.now_ms() - 120_000, "behind"),
    ] {
        let refused = open(Arc::new(ManualClock::new(now_ms))).await;
        let words = refused.err().expect("refused").to_string();
        assert!(words.contains(way), "{words}");
    }
    let ledger = open(Arc::new(ManualClock::new(SystemClock.now_ms()))).await;
    ledger.expect("opened").close().await.expect("closed");
}

#[tokio::test]
async fn a_mistyped_schema_is_no_store() {
    let space = tempfile::tempdir().expect("a folder");
    let cluster = Cluster::new();
    let url = cluster.url("cairn");
    let key = space.path().join("root.key");
    run(&["key", "create", "--root-key", text(&key)], "").expect("a key");
    let backups = space.path().join("backups");
    for command in [
        &["audit", "verify"][..],
        &["key", "rotate", "--tenant"],
        &["backup", "--to", text(&backups)],
    ] {
        let store = [
            "--store-url",
            url.as_str(),
            "--store-schema",
            "cairm",
            "--root-key",
            text(&key),
        ];
        let refused = run(&[command, &store[..]].concat(), "").expect_err("refused");
        assert!(
            refused
                .to_string()
                .contains("there is no store in the schema cairm"),
            "{refused}"
        );
    }
    let made = "SELECT count(*) FROM pg_namespace WHERE nspname = 'cairm'";
    assert_eq!(cluster.sql("cairn", "cairn", made), "0");
    assert!(!backups.exists());
    // The same for a folder that is empty.
    let empty = space.path().join("data");
    fs::create_dir(&empty).expect("a folder");
    let command = [
        "audit",
        "verify",
        "--data",
        text(&empty),
        "--root-key",
        text(&key),
    ];
    let refused = run(&command, "").expect_err("refused").to_string();
    assert!(refused.contains("there is no store in"), "{refused}");
}
