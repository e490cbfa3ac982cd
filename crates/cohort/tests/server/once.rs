//! Requests that must have one outcome however often they come: keys and criteria, raced on two servers of
//! one database, and through SIGKILL.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cohort::random::Random;
use cohort::server::{Fhir, ServerProcess, run};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::cluster::Cluster;
use crate::crash::text;
use crate::patience::in_time;

const RACERS: usize = 32;
/// Kills of a server while requests with keys come in.
const KILLS: u64 = 8;
const KEYS: usize = 48;

/// Sends a resource or bundle with some headers; status, `Location` and body.
async fn post(
    http: &reqwest::Client,
    (base, token): (&str, &str),
    path: &str,
    headers: &[(&str, &str)],
    body: &Value,
) -> Result<(u16, String, Value), reqwest::Error> {
    let fhir = Fhir::over(http.clone(), base, token);
    fhir.send(Method::POST, path, headers, Some(body)).await
}

async fn get(http: &reqwest::Client, (base, token): (&str, &str), path: &str) -> Value {
    let request = http
        .get(format!("{base}/fhir/r4/{path}"))
        .bearer_auth(token);
    let answer = request.send().await.expect("an answer");
    assert_eq!(answer.status(), 200, "{path}");
    answer.json().await.expect("JSON")
}

fn patient(family: &str) -> Value {
    json!({"resourceType": "Patient", "name": [{"family": family}], "identifier": [{"system": "urn:race", "value": family}]})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_clients_of_two_servers_make_one_resource() {
    let space = tempfile::tempdir().expect("a folder");
    let cluster = Cluster::new();
    let url = cluster.url("cairn");
    let (key, log) = (space.path().join("root.key"), space.path().join("log"));
    run(&["key", "create", "--root-key", text(&key)], "").expect("a key");
    let store = ["--store-url", url.as_str(), "--root-key", text(&key)];
    let command = ["client", "create", "--name", "racer", "--role", "client"];
    let printed = run(&[&command[..], &store[..]].concat(), "").expect("a token");
    let token = printed.lines().last().expect("a token").to_owned();
    let at = format!("store.url={url}");
    let arguments = ["--root-key", text(&key), "--set", &at];
    let mut servers = Vec::new();
    for _ in 0..2 {
        let server = ServerProcess::start_with(&log, &arguments).await;
        servers.push(server.expect("a server"));
    }
    let http = reqwest::Client::new();
    let bases: Vec<String> = servers.iter().map(|server| server.base.clone()).collect();

    // By a key, by criteria, by both in a transaction, and by criteria of an update.
    for round in ["key", "criteria", "transaction", "batch"] {
        let racing: Vec<_> = (0..RACERS)
            .map(|racer| {
                let (http, token, base) = (http.clone(), token.clone(), bases[racer % 2].clone());
                tokio::spawn(async move {
                    let criteria = format!("identifier=urn:race|{round}");
                    let entry = json!({"resource": patient(round), "request": {"method": "POST", "url": "Patient"}});
                    let bundle = json!({"resourceType": "Bundle", "type": round, "entry": [entry]});
                    let (path, headers, body) = match round {
                        "key" => ("Patient", [("idempotency-key", round)], patient(round)),
                        "criteria" => ("Patient", [("if-none-exist", criteria.as_str())], patient(round)),
                        _ => ("", [("idempotency-key", round)], bundle),
                    };
                    loop {
                        let answer = post(&http, (&base, &token), path, &headers, &body).await;
                        let (status, location, body) = answer.expect("an answer");
                        match status {
                            200 | 201 if path.is_empty() => {
                                let entry = &body["entry"][0]["response"];
                                let location = entry["location"].as_str().expect("a location");
                                return (entry["status"].clone(), location.to_owned());
                            }
                            200 | 201 => return (json!(status), location),
                            // With so many at once one may have to come again, and may.
                            409 => sleep(Duration::from_millis(10)).await,
                            _ => panic!("{round}: {status} {body}"),
                        }
                    }
                })
            })
            .collect();
        let (mut places, mut statuses) = (BTreeSet::new(), BTreeMap::new());
        for one in racing {
            let (status, place) = one.await.expect("an answer");
            assert!(
                place.starts_with("Patient/") && place.ends_with("/_history/1"),
                "{place}"
            );
            places.insert(place);
            *statuses.entry(status.to_string()).or_insert(0) += 1;
        }
        assert_eq!(places.len(), 1, "{round}: {places:?} {statuses:?}");
        for base in &bases {
            let found = format!("Patient?identifier=urn:race|{round}");
            let found = get(&http, (base, &token), &found).await;
            assert_eq!(found["total"], 1, "{round}: {found}");
        }
        let made = if round == "criteria" { 1 } else { RACERS };
        let created: usize = (statuses.iter())
            .filter(|(status, _)| status.contains("201"))
            .map(|(_, count)| count)
            .sum();
        assert_eq!(created, made, "{round}: {statuses:?}");
        println!("once: {round}: {statuses:?}");
    }
    let past = get(&http, (&bases[1], &token), "Patient/_history").await;
    assert_eq!(past["total"], 4, "one version of each, ever");
    for server in servers {
        assert!(server.terminate().expect("ended"), "a clean end");
    }
}

// Proves: 45 CFR 164.312(e)(2)(i)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_with_keys_are_carried_out_once_through_kills() {
    let seed = 0x0ce;
    let mut random = Random::new(seed);
    let space = tempfile::tempdir().expect("a folder");
    let (data, log) = (space.path().join("data"), space.path().join("log"));
    run(&["key", "create", "--data", text(&data)], "").expect("a key");
    let command = [
        "client",
        "create",
        "--data",
        text(&data),
        "--name",
        "one",
        "--role",
        "client",
    ];
    let printed = run(&command, "").expect("a token");
    let token = printed.lines().last().expect("a token").to_owned();
    let http = reqwest::Client::new();
    // Each comes until it is answered, and again after that.
    let mut open: Vec<usize> = (0..KEYS).collect();
    let mut places: BTreeMap<usize, String> = BTreeMap::new();
    for round in 0..=KILLS {
        let server = ServerProcess::start(&data, &log, &[]).await;
        let server = server.expect("a server");
        let (base, is_last) = (server.base.clone(), round == KILLS);
        if is_last || open.is_empty() {
            open = (0..KEYS).collect();
        }
        let work = async {
            for number in open.clone() {
                // Twice, so that an answer that was lost and one that was not are the same.
                for _ in 0..2 {
                    let Ok(place) = keyed(&http, (&base, &token), number).await else {
                        return;
                    };
                    let known = places.entry(number).or_insert_with(|| place.clone());
                    assert_eq!(*known, place, "seed {seed:#x}: the first answer again");
                }
                open.retain(|other| *other != number);
            }
        };
        if !is_last {
            // Nobody waits for the end of what is under way when it is killed.
            let lives = Duration::from_millis(100 + random.below(400));
            let _ = timeout(lives, work).await;
            server.kill().expect("killed");
            continue;
        }
        in_time("all are answered", work).await;
        assert_eq!(open, [0; 0]);
        let past = get(&http, (&base, &token), "Patient/_history?_count=1000").await;
        assert_eq!(past["total"], KEYS, "seed {seed:#x}: each once");
        let distinct: BTreeSet<_> = places.values().collect();
        assert_eq!(distinct.len(), KEYS);
        assert!(server.terminate().expect("ended"), "a clean end");
    }
    println!("once: seed {seed:#x}, {KILLS} kills, {KEYS} keys");
}

/// One request with a key, a create or a transaction; where what it made lies.
async fn keyed(
    http: &reqwest::Client,
    server: (&str, &str),
    number: usize,
) -> Result<String, reqwest::Error> {
    let name = format!("kill-{number}");
    let entry =
        json!({"resource": patient(&name), "request": {"method": "POST", "url": "Patient"}});
    let (path, body) = match number % 2 {
        0 => ("Patient", patient(&name)),
        _ => (
            "",
            json!({"resourceType": "Bundle", "type": "transaction", "entry": [entry]}),
        ),
    };
    let headers = [("idempotency-key", name.as_str())];
    let (status, location, answer) = post(http, server, path, &headers, &body).await?;
    assert!(matches!(status, 200 | 201), "{status} {answer}");
    let place = answer["entry"][0]["response"]["location"].as_str();
    Ok(place.map_or(location, str::to_owned))
}
