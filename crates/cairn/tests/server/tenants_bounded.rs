//! What a tenant takes of a server, what strangers take of a tenant, and what ends when one is suspended.

use std::time::Duration;

use cairn::store::TENANT;
use ledger::{TenantId, TenantQuota};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, timeout};
use trust::{Action, Agent, Purpose, Role, Target};

use crate::bulk::laid_out;
use crate::patience::{self, Patience, in_time};
use crate::routes::{Who, person_of};
use crate::tenants::{NORTH, SOUTH, Two};

async fn connected(two: &Two) -> TcpStream {
    let stream = TcpStream::connect(two.server.address()).await;
    stream.expect("connected")
}

/// A request that never finishes its body.
async fn unfinished(two: &Two, host: &str, what: &str, headers: &str) -> TcpStream {
    let mut slow = connected(two).await;
    let head = format!(
        "{what} HTTP/1.1\r\nhost: {host}\r\n{headers}content-type: application/x-www-form-urlencoded\r\n\
         content-length: 1000\r\n\r\nuser="
    );
    slow.write_all(head.as_bytes()).await.expect("written");
    slow
}

/// What comes until the connection ends.
async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // It may be reset.
    let _ = in_time("the connection ends", stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

async fn bound(two: &Two, at_once: u32) {
    let quota = TenantQuota {
        at_once: Some(at_once),
        ..TenantQuota::default()
    };
    let ledger = two.server.ledger();
    let set = ledger.set_tenant(two.north, None, None, Some(quota)).await;
    set.expect("a quota");
    // Servers follow within two seconds; a machine that does other work as well takes longer.
    sleep(Duration::from_secs(5)).await;
}

async fn status(two: &Two, host: &str, path: &str, who: &Who) -> StatusCode {
    two.ask(host, &Method::GET, path, who).await.status
}

/// Asks until this is answered.
async fn until(two: &Two, host: &str, who: &Who, wanted: u16) {
    let what = format!("{host} answers {wanted}");
    patience::until(&what, async || {
        status(two, host, "/fhir/r4/Patient", who).await == wanted
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_take_no_place_of_those_who_are_known() {
    let two = Two::new().await;
    let known = Who::Token(two.token(two.north, Role::Client).await);
    let at_home = Who::Token(two.token(TENANT, Role::Client).await);
    let Who::Token(token) = &known else {
        unreachable!()
    };
    bound(&two, 8).await;
    // One address of strangers has two places to be slow in: with nothing shown, a cookie, or a token that nobody was
    // given.
    let kinds = [
        "",
        "cookie: cairn=1.nonsense\r\n",
        "authorization: Bearer 2.nonsense\r\n",
    ];
    let mut held = Vec::new();
    for headers in kinds.into_iter().cycle().take(12) {
        held.push(unfinished(&two, NORTH, "POST /sign-in", headers).await);
    }
    let mut refused = 0;
    for slow in &mut held {
        let mut answer = [0; 12];
        let told = timeout(Duration::from_secs(2), slow.read_exact(&mut answer)).await;
        if told.is_ok() {
            assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 429");
            refused += 1;
        }
    }
    assert_eq!(refused, held.len() - 2);
    // Who is known has all of them, and pages for strangers are there.
    for _ in 0..3 {
        assert_eq!(status(&two, NORTH, "/fhir/r4/Patient", &known).await, 200);
        assert_eq!(status(&two, NORTH, "/sign-in", &Who::Nobody).await, 200);
    }
    // So does the neighbour.
    assert_eq!(status(&two, SOUTH, "/fhir/r4/Patient", &at_home).await, 200);
    drop(held);

    // Who is known takes the tenant's places, and nobody else's.
    bound(&two, 1).await;
    let bearer = format!("authorization: Bearer {token}\r\n");
    let mut patience = Patience::every(Duration::from_secs(1));
    // It may itself come at a moment in which another request has the place.
    let slow = loop {
        let slow = unfinished(&two, NORTH, "PUT /fhir/r4/Patient/p", &bearer).await;
        patience.wait("a tenant has no bound").await;
        if status(&two, NORTH, "/fhir/r4/Patient", &known).await == 429 {
            break slow;
        }
    };
    let over = two
        .ask(NORTH, &Method::GET, "/fhir/r4/Patient", &known)
        .await;
    let outcome: Value = serde_json::from_str(&over.body).expect("JSON");
    assert_eq!(outcome["issue"][0]["code"], "throttled", "{outcome}");
    // What was refused has done nothing.
    let put = two
        .ask(NORTH, &Method::PUT, "/fhir/r4/Patient/q", &known)
        .await;
    assert_eq!(put.status, 429, "{put:?}");
    assert_eq!(status(&two, SOUTH, "/fhir/r4/Patient", &at_home).await, 200);
    drop(slow);
    until(&two, NORTH, &known, 200).await;
    assert_eq!(status(&two, NORTH, "/fhir/r4/Patient/q", &known).await, 404);
    two.end().await;
}

/// The path of the one file of an export of north's.
async fn exported(two: &Two, token: &str) -> String {
    let asked = async |path: &str| {
        let url = format!("http://{}{path}", two.server.address());
        let asked = two.http.get(url).header("host", NORTH).bearer_auth(token);
        asked
            .header("prefer", "respond-async")
            .send()
            .await
            .expect("an answer")
    };
    let begun = asked("/fhir/r4/$export?_type=Organization").await;
    assert_eq!(begun.status(), 202);
    let at = begun.headers()["content-location"].to_str().expect("text");
    let path = |url: &str| format!("/fhir{}", url.split_once("/fhir").expect("an address").1);
    let manifest = laid_out(async || asked(&path(at)).await).await;
    path(manifest["output"][0]["url"].as_str().expect("an address"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_way_ends_when_a_tenant_is_suspended() {
    const DRAIN: Duration = Duration::from_secs(2);
    let two = Two::with(|options| options.limits.drain_ms = 2_000).await;
    let token = two.token(two.north, Role::Client).await;
    let mut state = 1_u64;
    for number in 0..12 {
        let id = number.to_string();
        // Letters that don't compress, because a piece of the answer is as much as is stored in so many bytes.
        let name: String = (0..1 << 20)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                char::from(b'0' + u8::try_from(state >> 58).expect("six bits"))
            })
            .collect();
        let organization = json!({"resourceType": "Organization", "id": id, "name": name});
        two.put(NORTH, &token, &organization).await;
    }
    let path = exported(&two, &token).await;
    // A download by a client that takes its time and has no room for all of it, and a body that arrives.
    let socket = TcpSocket::new_v4().expect("a socket");
    socket
        .set_recv_buffer_size(64 << 10)
        .expect("a small buffer");
    let download = socket.connect(two.server.address()).await;
    let mut download = download.expect("connected");
    let head =
        format!("GET {path} HTTP/1.1\r\nhost: {NORTH}\r\nauthorization: Bearer {token}\r\n\r\n");
    download.write_all(head.as_bytes()).await.expect("written");
    let mut first = [0; 15];
    download.read_exact(&mut first).await.expect("an answer");
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    let bearer = format!("authorization: Bearer {token}\r\n");
    let mut upload = unfinished(&two, NORTH, "PUT /fhir/r4/Patient/p", &bearer).await;
    let Who::Person { cookie, .. } =
        person_of(&two.trust(two.north), two.north, Role::Coordinator).await
    else {
        unreachable!()
    };
    let mut live = connected(&two).await;
    let head = format!(
        "GET /console/live/worklist HTTP/1.1\r\nhost: {NORTH}\r\nconnection: close\r\n\
         cookie: cairn={cookie}\r\n\r\n"
    );
    live.write_all(head.as_bytes()).await.expect("written");
    live.read_exact(&mut first).await.expect("an answer");
    assert_eq!(&first, b"HTTP/1.1 200 OK");

    let ledger = two.server.ledger();
    ledger
        .suspend_tenant(two.north, true)
        .await
        .expect("suspended");
    two.until(NORTH, "/fhir/r4/metadata", 503).await;
    let began = Instant::now();
    let live_ends = async {
        rest(&mut live).await;
        began.elapsed()
    };
    let upload_ends = async {
        // The connection is there a while longer, for a client that still sends.
        let mut status = [0; 12];
        let read = in_time("an answer", upload.read_exact(&mut status)).await;
        read.expect("an answer");
        let took = began.elapsed();
        let answer = rest(&mut upload).await;
        (
            String::from_utf8_lossy(&status).into_owned() + &answer,
            took,
        )
    };
    let (live_took, (answer, upload_took)) = tokio::join!(live_ends, upload_ends);
    assert!(live_took < DRAIN, "{live_took:?}");
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.contains("is suspended"),
        "{answer}"
    );
    assert!(
        upload_took < DRAIN + Duration::from_secs(3),
        "{upload_took:?}"
    );
    // What is with the connection is still taken, a piece of it; then it breaks off.
    sleep(DRAIN).await;
    let mut taken = Vec::new();
    let _ = in_time("the download ends", download.read_to_end(&mut taken)).await;
    assert!(taken.len() < 11 << 20, "{}", taken.len());
    assert!(!taken.ends_with(b"\r\n0\r\n\r\n"));
    // All of it is there again afterwards.
    ledger
        .suspend_tenant(two.north, false)
        .await
        .expect("resumed");
    two.until(NORTH, "/fhir/r4/metadata", 200).await;
    let whole = two
        .ask(NORTH, &Method::GET, &path, &Who::Token(token))
        .await;
    assert_eq!(
        (whole.status, whole.body.lines().count()),
        (StatusCode::OK, 12)
    );
    two.end().await;
}

/// What is under way for a tenant that is renamed goes on, and ends once it is suspended.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_is_renamed_keeps_what_is_under_way() {
    let two = Two::with(|options| options.limits.drain_ms = 500).await;
    let token = two.token(two.north, Role::Client).await;
    let bearer = format!("authorization: Bearer {token}\r\n");
    let start = async || unfinished(&two, NORTH, "PUT /fhir/r4/Patient/p", &bearer).await;
    let (mut upload, mut endless) = (start().await, start().await);
    // Both are in the house before it is closed.
    until(&two, NORTH, &Who::Token(token.clone()), 200).await;
    let ledger = two.server.ledger();
    let renamed = ledger.set_tenant(two.north, Some("norden"), None, None);
    renamed.await.expect("renamed");
    // Servers follow within two seconds, and would have cut it after the half of one.
    sleep(Duration::from_secs(5)).await;
    until(&two, NORTH, &Who::Token(token.clone()), 200).await;
    upload.write_all(&[b'a'; 995]).await.expect("written");
    let mut first = [0; 12];
    let read = in_time("an answer", upload.read_exact(&mut first)).await;
    read.expect("an answer");
    // It is no JSON, and that is what is said.
    let first = String::from_utf8_lossy(&first);
    assert!(first.starts_with("HTTP/1.1 4"), "{first}");
    ledger
        .suspend_tenant(two.north, true)
        .await
        .expect("suspended");
    let cut = rest(&mut endless).await;
    assert!(cut.starts_with("HTTP/1.1 503"), "{cut}");
    two.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn live_pages_of_all_tenants_leave_connections_for_others() {
    // Half of these are for live pages.
    let two = Two::with(|options| options.limits.connections = 8).await;
    let mut cookies = Vec::new();
    for (host, tenant) in [(SOUTH, TENANT), (NORTH, two.north)] {
        let Who::Person { cookie, .. } =
            person_of(&two.trust(tenant), tenant, Role::Coordinator).await
        else {
            unreachable!()
        };
        cookies.push((host, cookie));
    }
    let mut open = Vec::new();
    let mut answers = Vec::new();
    for (host, cookie) in cookies.iter().cycle().take(6) {
        let mut live = connected(&two).await;
        let head = format!(
            "GET /console/live/worklist HTTP/1.1\r\nhost: {host}\r\ncookie: cairn={cookie}\r\n\r\n"
        );
        live.write_all(head.as_bytes()).await.expect("written");
        let mut first = [0; 12];
        let read = in_time("an answer", live.read_exact(&mut first)).await;
        read.expect("an answer");
        answers.push(String::from_utf8_lossy(&first).into_owned());
        open.push(live);
    }
    assert_eq!(answers[..4], ["HTTP/1.1 200"; 4]);
    assert_eq!(answers[4..], ["HTTP/1.1 429"; 2]);
    assert_eq!(status(&two, SOUTH, "/sign-in", &Who::Nobody).await, 200);
    two.end().await;
}

/// Gauges that each tenant has are of all of them.
#[tokio::test(flavor = "multi_thread")]
async fn gauges_are_of_all_tenants_together() {
    const JOURNEY: &str = include_str!("../../../../journeys/heart-failure-discharge.yaml");
    let two = Two::new().await;
    let publish = async |tenant: TenantId| {
        let trust = two.trust(tenant);
        let by = Agent::system(tenant, "command-line");
        let permit = trust
            .decide(
                &by,
                Purpose::Operations,
                Action::Publish,
                Target::default(),
                "",
            )
            .await
            .expect("a permit");
        let journeys = two.server.journeys_of(tenant).expect("it is served");
        journeys.publish(&permit, JOURNEY).await.expect("published");
    };
    for (host, tenant, patients) in [(SOUTH, TENANT, 1), (NORTH, two.north, 2)] {
        publish(tenant).await;
        let token = two.token(tenant, Role::Client).await;
        for number in 0..patients {
            let id = format!("p{number}");
            two.put(host, &token, &json!({"resourceType": "Patient", "id": id}))
                .await;
            discharged(&two, host, &token, &id).await;
        }
    }
    let mut patience = Patience::new();
    let running =
        "journey_instances{journey=\"heart-failure-discharge\",version=\"1\",state=\"running\"} ";
    loop {
        let address = two.server.address().to_string();
        let metrics = two.get(&address, "/metrics").await.body;
        let counted = metrics.lines().find_map(|line| line.strip_prefix(running));
        if counted == Some("3") {
            break;
        }
        patience.wait(&format!("{counted:?}")).await;
    }
    // What is not served is not counted.
    let ledger = two.server.ledger();
    ledger
        .suspend_tenant(two.north, true)
        .await
        .expect("suspended");
    two.until(NORTH, "/fhir/r4/metadata", 503).await;
    let address = two.server.address().to_string();
    let metrics = two.get(&address, "/metrics").await.body;
    assert!(metrics.contains(&format!("{running}1")), "{metrics}");
    two.end().await;
}

/// Puts a patient where the journey begins.
async fn discharged(two: &Two, host: &str, token: &str, patient: &str) {
    let encounter = json!({
        "resourceType": "Encounter",
        "id": format!("e-{patient}"),
        "status": "finished",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
        "subject": {"reference": format!("Patient/{patient}")},
        "reasonCode": [{"coding": [{"system": "http://snomed.info/sct", "code": "84114007"}]}],
        "period": {"end": fhir::date::instant(two.server.ledger().clock().now_ms())},
    });
    two.put(host, token, &encounter).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_stores_no_more_than_it_may() {
    let two = Two::new().await;
    let token = two.token(two.north, Role::Client).await;
    let asked = async |method: Method, path: &str, body: Value| {
        let url = format!("http://{}/fhir/r4{path}", two.server.address());
        let request = two.http.request(method, url).header("host", NORTH);
        let request = request
            .bearer_auth(&token)
            .header("content-type", "application/fhir+json");
        let answer = request
            .body(body.to_string())
            .send()
            .await
            .expect("an answer");
        (
            answer.status().as_u16(),
            answer.json::<Value>().await.unwrap_or_default(),
        )
    };
    let patient = |id: &str| json!({"resourceType": "Patient", "id": id});
    let put = async |id: &str| asked(Method::PUT, &format!("/Patient/{id}"), patient(id)).await;
    for id in ["a", "b"] {
        assert_eq!(put(id).await.0, 201);
    }
    let ledger = two.server.ledger();
    let quota = TenantQuota {
        documents: Some(3),
        ..TenantQuota::default()
    };
    let set = ledger.set_tenant(two.north, None, None, Some(quota)).await;
    set.expect("a quota");
    // As the command does it.
    let kinds: Vec<ledger::Kind> = fhir::ResourceType::all()
        .filter(|kind| *kind != fhir::ResourceType::AuditEvent)
        .map(|kind| ledger::Kind(kind.code()))
        .collect();
    let counted = ledger.count_stored(two.north, &kinds).await;
    assert_eq!(counted.expect("a count"), 2);
    assert_eq!(put("c").await.0, 201);
    let (status, outcome) = put("d").await;
    assert_eq!(status, 507, "{outcome}");
    assert_eq!(outcome["resourceType"], "OperationOutcome", "{outcome}");
    let words = outcome["issue"][0]["diagnostics"].to_string()
        + &outcome["issue"][0]["details"].to_string();
    assert!(
        words.contains("as many resources as it may (3)"),
        "{outcome}"
    );
    // Reading, changing and deleting go on, and a patient's word is always kept.
    assert_eq!(asked(Method::GET, "/Patient/a", Value::Null).await.0, 200);
    let changed = json!({"resourceType": "Patient", "id": "a", "gender": "other"});
    assert_eq!(asked(Method::PUT, "/Patient/a", changed).await.0, 200);
    let entry = |id: &str| json!({"resource": patient(id), "request": {"method": "PUT", "url": format!("Patient/{id}")}});
    let both =
        json!({"resourceType": "Bundle", "type": "transaction", "entry": [entry("d"), entry("e")]});
    assert_eq!(
        asked(Method::DELETE, "/Patient/b", Value::Null).await.0,
        204
    );
    assert_eq!(asked(Method::POST, "", both).await.0, 507);
    for id in ["d", "e"] {
        assert_eq!(
            asked(Method::GET, &format!("/Patient/{id}"), Value::Null)
                .await
                .0,
            404
        );
    }
    assert_eq!(put("d").await.0, 201);
    assert_eq!(put("e").await.0, 507);
    let consent = json!({"resourceType": "Consent", "id": "no", "status": "active",
        "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": {"reference": "Patient/a"},
        "policyRule": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "OPTIN"}]},
        "provision": {"type": "deny"}});
    // What comes with it needs room.
    let with = |others: &[Value]| {
        let no = json!({"resource": consent, "request": {"method": "PUT", "url": "Consent/no"}});
        let entries: Vec<Value> = others.iter().cloned().chain([no]).collect();
        json!({"resourceType": "Bundle", "type": "transaction", "entry": entries})
    };
    let (status, answer) = asked(Method::POST, "", with(&[entry("e")])).await;
    assert_eq!(status, 507, "{answer}");
    assert_eq!(asked(Method::GET, "/Consent/no", Value::Null).await.0, 404);
    let (status, answer) = asked(Method::POST, "", with(&[])).await;
    assert_eq!(status, 200, "{answer}");
    // The neighbour has no bound, and operators see how much there is.
    let ours = two.token(TENANT, Role::Client).await;
    for id in 0..5 {
        two.put(SOUTH, &ours, &patient(&format!("p{id}"))).await;
    }
    let address = two.server.address().to_string();
    let metrics = two.get(&address, "/metrics").await.body;
    assert!(
        metrics.contains("cairn_stored_resources{tenant=\"north\"} 4"),
        "{metrics}"
    );
    // A restored store has no count; it is made again when the house is opened.
    ledger.forget_stored(two.north).await.expect("forgotten");
    for (suspend, status) in [(true, 503), (false, 200)] {
        let change = ledger.suspend_tenant(two.north, suspend).await;
        change.expect("a change");
        two.until(NORTH, "/fhir/r4/metadata", status).await;
    }
    patience::until("somebody counts again", async || {
        ledger.stored(two.north).await.expect("a count") == Some(4)
    })
    .await;
    two.end().await;
}
