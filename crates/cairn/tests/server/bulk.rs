//! Bulk export and import over HTTP: what is in the files and for whom, and what goes in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cairn::store::{self, TENANT};
use cairn::{Server, ServerOptions};
use fhir::ResourceType;
use ledger::{AuditDraft, Kind, Owner, SystemClock};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::sleep;
use trust::{Action, Agent, ExportJob, ExportOf, Purpose, Role, Target};

use crate::cluster::Cluster;
use crate::house::{self, assert_outcome, header, house};
use crate::patience::{Patience, found};

/// The manifest of an export, once the server that is asked has laid it out.
pub(crate) async fn laid_out(mut ask: impl AsyncFnMut() -> Response) -> Value {
    let mut patience = Patience::new();
    loop {
        let answer = ask().await;
        if answer.status() == 200 {
            return answer.json().await.expect("JSON");
        }
        assert_eq!(answer.status(), 202);
        patience.wait("an export takes too long").await;
    }
}

/// One or two servers over one store.
pub(crate) struct Site {
    pub(crate) servers: Vec<Server>,
    pub(crate) token: String,
    pub(crate) http: reqwest::Client,
    folder: TempDir,
    cluster: Option<Cluster>,
}

impl Site {
    pub(crate) async fn in_folder() -> Self {
        Self::over(None, 1).await
    }

    /// Two servers on one database.
    pub(crate) async fn in_database() -> Self {
        Self::over(Some(Cluster::new()), 2).await
    }

    async fn over(cluster: Option<Cluster>, count: usize) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        store::create_root_key(&store::root_key_path(folder.path())).expect("a key");
        let http = house::client().timeout(Duration::from_secs(60));
        let mut site = Self {
            servers: Vec::new(),
            token: String::new(),
            http: http.build().expect("a client"),
            folder,
            cluster,
        };
        for _ in 0..count {
            site.start().await;
        }
        site.token = house::token(&site.servers[0], Role::Client).await;
        site
    }

    async fn start(&mut self) {
        let folder = self.folder.path();
        let place = match &self.cluster {
            None => store::in_folder(folder),
            Some(cluster) => {
                let url = cluster.url("cairn");
                store::in_database(&url, None, None, "cairn", "").expect("a place")
            }
        };
        let key = store::root_key_path(folder);
        let ledger = store::open(place, key.as_path(), Arc::new(SystemClock), 16 << 20).await;
        let options = ServerOptions::new(ledger.expect("a store"), TENANT);
        let server = Server::start(options).await.expect("a server");
        self.servers.push(server);
    }

    /// Stops the first server, and starts another in its place.
    async fn restart(&mut self) {
        let server = self.servers.remove(0);
        server.stop().await.expect("a clean end");
        self.start().await;
    }

    /// A request to a server, those of one after those of another.
    pub(crate) fn to(&self, server: usize, method: Method, address: &str) -> RequestBuilder {
        let server = &self.servers[server % self.servers.len()];
        let path = address
            .split_once("/fhir/r4/")
            .map_or(address, |(_, path)| path);
        let url = format!("{}/fhir/r4/{path}", server.base_url());
        self.http.request(method, url).bearer_auth(&self.token)
    }

    pub(crate) async fn put(&self, resource: &Value) {
        let (kind, id) = (&resource["resourceType"], &resource["id"]);
        let path = format!(
            "{}/{}",
            kind.as_str().expect("a type"),
            id.as_str().expect("an id")
        );
        let answer = self
            .to(0, Method::PUT, &path)
            .header("content-type", "application/fhir+json")
            .body(resource.to_string())
            .send()
            .await
            .expect("an answer");
        assert!(
            answer.status().is_success(),
            "{path}: {}",
            answer.text().await.expect("text")
        );
    }

    pub(crate) async fn delete(&self, path: &str) {
        let answer = self
            .to(0, Method::DELETE, path)
            .send()
            .await
            .expect("an answer");
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
    }

    pub(crate) async fn kick_off(&self, path: &str) -> Response {
        let asked = self.to(0, Method::GET, path);
        asked
            .header("prefer", "respond-async")
            .send()
            .await
            .expect("an answer")
    }

    /// The address of a job's status.
    pub(crate) async fn began(&self, path: &str) -> String {
        let answer = self.kick_off(path).await;
        assert_eq!(answer.status(), 202, "{path}");
        header(&answer, "content-location").to_owned()
    }

    /// The manifest of a job, when it is there; asked of the last server.
    pub(crate) async fn manifest(&self, status: &str) -> Value {
        let mut patience = Patience::new();
        loop {
            let answer = self
                .to(1, Method::GET, status)
                .send()
                .await
                .expect("an answer");
            match answer.status().as_u16() {
                202 => {
                    assert!(header(&answer, "x-progress").contains(" types laid out"));
                    assert_eq!(header(&answer, "retry-after"), "1");
                }
                200 => {
                    assert_eq!(header(&answer, "content-type"), "application/json");
                    assert!(header(&answer, "expires").ends_with(" GMT"));
                    return answer.json().await.expect("JSON");
                }
                other => panic!("{status}: {other} {}", answer.text().await.expect("text")),
            }
            patience.wait("an export takes too long").await;
        }
    }

    async fn file(&self, url: &str) -> Vec<Value> {
        let answer = self
            .to(0, Method::GET, url)
            .header("accept", "application/fhir+ndjson")
            .send()
            .await
            .expect("an answer");
        assert_eq!(answer.status(), 200, "{url}");
        assert_eq!(header(&answer, "content-type"), "application/fhir+ndjson");
        let text = answer.text().await.expect("text");
        assert!(text.is_empty() || text.ends_with('\n'));
        let lines = text.lines().map(serde_json::from_str);
        lines.collect::<Result<_, _>>().expect("a resource a line")
    }

    /// What the files of one part of a manifest hold, by `Type/id`, each there once.
    pub(crate) async fn lines(&self, manifest: &Value, part: &str) -> BTreeMap<String, Value> {
        let mut found = BTreeMap::new();
        for one in manifest[part].as_array().expect("a list") {
            for line in self.file(one["url"].as_str().expect("an address")).await {
                let name = match part {
                    "deleted" => {
                        assert_eq!(line["type"], "transaction");
                        let request = &line["entry"][0]["request"];
                        assert_eq!(request["method"], "DELETE");
                        request["url"].as_str().expect("a name").to_owned()
                    }
                    _ => {
                        assert_eq!(line["resourceType"], one["type"]);
                        let id = line["id"].as_str().expect("an id");
                        format!("{}/{id}", one["type"].as_str().expect("a type"))
                    }
                };
                assert!(
                    found.insert(name.clone(), line).is_none(),
                    "{name} is there twice"
                );
            }
        }
        found
    }

    pub(crate) async fn export(&self, path: &str) -> BTreeMap<String, Value> {
        let manifest = self.manifest(&self.began(path).await).await;
        self.lines(&manifest, "output").await
    }

    /// The audit events of a sort, newest first.
    async fn audited(&self, subtype: &str) -> Vec<Value> {
        let officer = house::token(&self.servers[0], Role::PrivacyOfficer).await;
        let path = format!("AuditEvent?subtype=urn:cairn:audit-event|{subtype}");
        let asked = self
            .to(0, Method::GET, &path)
            .header("x-purpose-of-use", "HOPERAT");
        let mut asked = asked.build().expect("a request");
        let bearer = format!("Bearer {officer}").parse().expect("a header");
        asked.headers_mut().insert("authorization", bearer);
        let answer = self.http.execute(asked).await.expect("an answer");
        let events: Value = answer.json().await.expect("JSON");
        events["entry"].as_array().expect("events").clone()
    }

    pub(crate) async fn end(self) {
        for server in self.servers {
            server.stop().await.expect("a clean end");
        }
    }
}

pub(crate) fn patient(id: &str) -> Value {
    json!({"resourceType": "Patient", "id": id, "name": [{"family": format!("Berg-{id}")}]})
}

pub(crate) fn observation(id: &str, patient: &str, value: f64) -> Value {
    json!({"resourceType": "Observation", "id": id, "status": "final", "code": {"text": "x"},
        "meta": {"tag": [{"code": "t"}]}, "subject": {"reference": format!("Patient/{patient}")},
        "valueQuantity": {"value": value}})
}

pub(crate) fn group(id: &str, patients: &[&str]) -> Value {
    let member = |id: &&str| json!({"entity": {"reference": format!("Patient/{id}")}});
    let members: Vec<Value> = patients.iter().map(member).collect();
    json!({"resourceType": "Group", "id": id, "type": "person", "actual": true, "member": members})
}

pub(crate) fn names(lines: &BTreeMap<String, Value>) -> Vec<&str> {
    lines.keys().map(String::as_str).collect()
}

/// Consent to treatment, refused by the patient for everybody.
pub(crate) fn refusal(id: &str, patient: &str) -> Value {
    json!({"resourceType": "Consent", "id": id, "status": "active",
        "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]},
        "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "INFA"}]}],
        "patient": {"reference": format!("Patient/{patient}")},
        "dateTime": "2020-01-01",
        "policyRule": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "OPTOUT"}]},
        "provision": {"type": "deny"}})
}

/// Everything that a site has to do, whatever its store.
async fn story(site: &Site) {
    for id in ["a", "b", "c"] {
        site.put(&patient(id)).await;
        for number in 0..3 {
            let id_of = format!("{id}{number}");
            site.put(&observation(&id_of, id, f64::from(number))).await;
        }
    }
    site.put(&json!({"resourceType": "Organization", "id": "o", "name": "Hospital"}))
        .await;
    site.put(&group("g", &["a", "b"])).await;

    // The three levels.
    let everything = site.export("$export").await;
    let of_patients = [
        "Observation/a0",
        "Observation/a1",
        "Observation/a2",
        "Patient/a",
    ];
    assert_eq!(everything.len(), 14, "{:?}", names(&everything));
    assert!(everything.contains_key("Organization/o") && everything.contains_key("Group/g"));
    let read = site.to(0, Method::GET, "Observation/a1").send().await;
    let read = read
        .expect("an answer")
        .json::<Value>()
        .await
        .expect("JSON");
    assert_eq!(everything["Observation/a1"], read);
    // A group that names patients is in the record of the first of them.
    let patients = site.export("Patient/$export").await;
    assert_eq!(patients.len(), 13, "{:?}", names(&patients));
    assert!(!patients.contains_key("Organization/o"));
    let group = site
        .export("Group/g/$export?_type=Patient,Observation")
        .await;
    assert_eq!(group.len(), 8, "{:?}", names(&group));
    assert!(of_patients.iter().all(|name| group.contains_key(*name)));

    // Parts.
    let part = site
        .export("$export?_type=Observation&_elements=Observation.code")
        .await;
    assert_eq!(part.len(), 9);
    let one = &part["Observation/b1"];
    assert!(one.get("valueQuantity").is_none() && one["code"]["text"] == "x");
    assert!(one["meta"]["tag"].to_string().contains("SUBSETTED"));

    // As it was when it was asked for: what comes, changes and goes later.
    let status = site.began("$export?_type=Observation,Patient").await;
    let manifest = site.manifest(&status).await;
    let began = manifest["transactionTime"]
        .as_str()
        .expect("an instant")
        .to_owned();
    sleep(Duration::from_millis(20)).await;
    site.put(&observation("a0", "a", 70.0)).await;
    site.put(&observation("a3", "a", 3.0)).await;
    site.delete("Observation/b0").await;
    let then = site.lines(&manifest, "output").await;
    assert_eq!(then.len(), 11, "{:?}", names(&then));
    assert_eq!(then["Observation/a0"]["valueQuantity"]["value"], 0.0);
    assert_eq!(then["Observation/a0"]["meta"]["versionId"], "1");
    assert!(!then.contains_key("Observation/a3") && !then.contains_key("Observation/b0"));
    // A file can be had again, and says the same.
    assert_eq!(site.lines(&manifest, "output").await, then);

    // Since then.
    let status = site
        .began(&format!("$export?_type=Observation,Patient&_since={began}"))
        .await;
    let manifest = site.manifest(&status).await;
    let output = site.lines(&manifest, "output").await;
    let changed = ["Observation/a0", "Observation/a3"];
    assert!(changed.iter().all(|name| output.contains_key(*name)));
    assert!(
        !output.contains_key("Observation/a1"),
        "{:?}",
        names(&output)
    );
    let deleted = site.lines(&manifest, "deleted").await;
    assert_eq!(names(&deleted), ["Observation/b0"]);

    // A consent that is taken back between the beginning and the download counts at once.
    let status = site.began("$export").await;
    let manifest = site.manifest(&status).await;
    site.put(&refusal("no", "b")).await;
    let output = site.lines(&manifest, "output").await;
    let hidden: Vec<&String> = (output.keys())
        .filter(|name| name.starts_with("Observation/b"))
        .collect();
    assert!(hidden.is_empty(), "{hidden:?}");
    assert!(output.contains_key("Observation/c1") && output.contains_key("Patient/b"));
    // A deletion of what may not be seen is not told either.
    site.delete("Observation/b1").await;
    let status = site
        .began(&format!("$export?_type=Observation&_since={began}"))
        .await;
    let manifest = site.manifest(&status).await;
    assert!(site.lines(&manifest, "deleted").await.is_empty());

    // A client's jobs are its own, and end when it says so.
    let other = house::token(&site.servers[0], Role::Client).await;
    let url = manifest["output"][0]["url"].as_str().expect("an address");
    for (method, path) in [
        (Method::GET, status.as_str()),
        (Method::DELETE, status.as_str()),
        (Method::GET, url),
    ] {
        let asked = site.to(0, method, path).bearer_auth("");
        let mut asked = asked.build().expect("a request");
        let bearer = format!("Bearer {other}").parse().expect("a header");
        asked.headers_mut().insert("authorization", bearer);
        let answer = site.http.execute(asked).await.expect("an answer");
        assert_outcome(answer, 404, "not-found").await;
    }
    let ended = site.to(1, Method::DELETE, &status).send().await;
    assert_eq!(ended.expect("an answer").status(), 202);
    for path in [status.as_str(), url] {
        let answer = site
            .to(0, Method::GET, path)
            .send()
            .await
            .expect("an answer");
        assert_outcome(answer, 404, "not-found").await;
    }
}

// Proves: 45 CFR 164.312(a)(1)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_is_what_may_be_seen_as_it_was() {
    let site = Site::in_folder().await;
    story(&site).await;
    site.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_on_one_database_export_the_same() {
    let site = Site::in_database().await;
    story(&site).await;
    site.end().await;
}

/// The types of a manifest's files, without their addresses.
fn types<'a>(manifest: &'a Value, part: &str) -> Vec<&'a str> {
    let files = manifest[part].as_array().expect("a list").iter();
    let files = files.inspect(|file| assert!(file.get("count").is_none(), "{file}"));
    files
        .map(|file| file["type"].as_str().expect("a type"))
        .collect()
}

// Proves: 45 CFR 164.522(a)(1)(iii)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_does_not_tell_what_a_patient_hides() {
    let site = Site::in_folder().await;
    site.put(&patient("b")).await;
    site.put(&refusal("no", "b")).await;
    let asked = async |since: Option<&str>| {
        let mut parameters = vec![
            json!({"name": "patient", "valueReference": {"reference": "Patient/b"}}),
            json!({"name": "_type", "valueString": "Observation,Condition"}),
        ];
        if let Some(since) = since {
            parameters.push(json!({"name": "_since", "valueInstant": since}));
        }
        let body = json!({"resourceType": "Parameters", "parameter": parameters});
        let answer = site
            .to(0, Method::POST, "Patient/$export")
            .header("prefer", "respond-async")
            .header("content-type", "application/fhir+json")
            .body(body.to_string())
            .send()
            .await
            .expect("an answer");
        assert_eq!(answer.status(), 202);
        let status = header(&answer, "content-location").to_owned();
        site.manifest(&status).await
    };
    let before = asked(None).await;
    let began = before["transactionTime"].as_str().expect("an instant");
    let none_since = asked(Some(began)).await;
    for number in 0..3 {
        site.put(&observation(&format!("b{number}"), "b", 1.0))
            .await;
    }
    site.delete("Observation/b0").await;
    let after = asked(None).await;
    let some_since = asked(Some(began)).await;
    for manifest in [&before, &none_since, &after, &some_since] {
        assert_eq!(types(manifest, "output"), ["Observation", "Condition"]);
        assert!(site.lines(manifest, "output").await.is_empty());
        assert!(site.lines(manifest, "deleted").await.is_empty());
    }
    assert!(types(&before, "deleted").is_empty() && types(&after, "deleted").is_empty());
    assert_eq!(types(&none_since, "deleted"), ["Bundle"]);
    assert_eq!(types(&some_since, "deleted"), ["Bundle"]);

    // Who asked, for what and about whom is in the audit.
    let events = site.audited("export-job").await;
    let of_b = events.iter().filter(|event| {
        let entities = event["resource"]["entity"].as_array();
        let entities = entities.map_or(&[][..], Vec::as_slice);
        let has_patient = (entities.iter()).any(|one| one["what"]["reference"] == "Patient/b");
        let query = (entities.iter())
            .find_map(|one| one["query"].as_str())
            .map(|text| STANDARD.decode(text).expect("base64"));
        let query = String::from_utf8(query.unwrap_or_default()).expect("text");
        has_patient && query.contains("/Patient/$export?_type=Observation,Condition")
    });
    assert_eq!(of_b.count(), 4, "{events:?}");
    site.end().await;
}

#[tokio::test]
async fn what_is_not_an_export_is_refused() {
    let house = house().await;
    let asked = |path: &str| {
        house
            .asked(Method::GET, &format!("/fhir/r4/{path}"))
            .header("prefer", "respond-async")
    };
    for (path, status, code) in [
        ("$export?_type=Nothing", 400, "value"),
        ("$export?_since=soon", 400, "value"),
        ("$export?_outputFormat=text/csv", 400, "value"),
        (
            "$export?includeAssociatedData=LatestProvenanceResources",
            400,
            "not-supported",
        ),
        ("$export?organizeOutputBy=Patient", 400, "not-supported"),
        ("$export?zanzibar=x", 400, "not-supported"),
        ("$export?_elements=zanzibar", 400, "value"),
        ("$export?_type=AuditEvent", 403, "forbidden"),
        ("$export?patient=Patient/1", 400, "not-supported"),
        ("Patient/$export?_type=Organization", 400, "value"),
        ("Observation/$export", 404, "not-supported"),
        ("Patient/x/$export", 404, "not-supported"),
        ("Group/x/$export", 404, "not-found"),
        ("$export/0123456789abcdef", 404, "not-found"),
        (
            "$export/0123456789abcdef/0.Patient.ndjson",
            404,
            "not-found",
        ),
    ] {
        let answer = asked(path).send().await.expect("an answer");
        assert_outcome(answer, status, code).await;
    }
    // Never at once, never to nobody, never for an emergency or by a clinician's account.
    let answer = house.asked(Method::GET, "/fhir/r4/$export").send().await;
    assert_outcome(answer.expect("an answer"), 400, "required").await;
    let answer = house.bare(Method::GET, "/fhir/r4/$export").send().await;
    assert_outcome(answer.expect("an answer"), 401, "login").await;
    let answer = asked("$export").header("x-purpose-of-use", "ETREAT").send();
    assert_outcome(answer.await.expect("an answer"), 403, "forbidden").await;
    let clinician = house::token(&house.server, Role::Clinician).await;
    let answer = house
        .bare(Method::GET, "/fhir/r4/$export")
        .bearer_auth(clinician)
        .header("prefer", "respond-async")
        .send();
    assert_outcome(answer.await.expect("an answer"), 403, "forbidden").await;
    // A lenient client is told what was passed over.
    let lenient = house
        .asked(Method::GET, "/fhir/r4/$export?organizeOutputBy=Patient")
        .header("prefer", "respond-async, handling=lenient");
    let answer = lenient.send().await.expect("an answer");
    assert_eq!(answer.status(), 202);
    // As many as there may be, and no more, also when they are asked for at once.
    let many = (0..3 * record::EXPORT_JOBS_MAX).map(|_| asked("$export").send());
    let answers = futures_util::future::join_all(many).await;
    let began = (answers.into_iter())
        .filter(|answer| answer.as_ref().expect("an answer").status() == 202)
        .count();
    assert_eq!(began, record::EXPORT_JOBS_MAX - 1);
    let answer = asked("$export").send().await.expect("an answer");
    assert_outcome(answer, 429, "throttled").await;
    house.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destroyed_key_and_a_restart_between_beginning_and_download() {
    let mut site = Site::in_folder().await;
    for id in ["a", "b"] {
        site.put(&patient(id)).await;
        site.put(&observation(&format!("{id}0"), id, 1.0)).await;
    }
    let status = site.began("$export?_type=Patient,Observation").await;
    site.restart().await;
    let manifest = site.manifest(&status).await;
    site.restart().await;
    assert_eq!(site.lines(&manifest, "output").await.len(), 4);

    // Each look is in the audit, with whose records it was in.
    let events = site.audited("export").await;
    assert_eq!(events.len(), 2, "one of each file: {events:?}");
    for event in &events {
        let text = event.to_string();
        assert!(
            text.contains("Patient/a") && text.contains("Patient/b"),
            "{text}"
        );
    }

    let ledger = site.servers[0].ledger();
    let owner = Owner::Patient("a".to_owned());
    let id = ledger.mint_id(TENANT, &owner);
    let draft = AuditDraft {
        kind: Kind(ResourceType::AuditEvent.code()),
        shard: ledger.shard_of(TENANT, &owner, &id),
        body: format!("{{\"resourceType\":\"AuditEvent\",\"id\":\"{id}\"}}").into_bytes(),
        parts: Vec::new(),
        tokens: Vec::new(),
        id,
    };
    let destroyed = ledger.destroy_patient_key(TENANT, "a", draft).await;
    destroyed.expect("destroyed");
    let left = site.lines(&manifest, "output").await;
    assert_eq!(names(&left), ["Observation/b0", "Patient/b"]);

    // A job of a server that stopped at once is taken up by who is asked for it.
    let trust = site.servers[0].trust();
    let own = trust
        .identity()
        .bearer(&site.token)
        .await
        .expect("a client");
    let asked = |agent: Agent| async move {
        let (purpose, target) = (Purpose::Treatment, Target::default());
        trust
            .decide(&agent, purpose, Action::Export, target, "r")
            .await
    };
    let job = ExportJob {
        caller: own.id.clone(),
        purpose: Purpose::Treatment,
        request: "x".to_owned(),
        kinds: vec!["Patient".to_owned()],
        of: ExportOf::Patients,
        since: None,
        elements: Vec::new(),
        filters: Vec::new(),
        ignored: Vec::new(),
        expires_ms: 4_000_000_000_000,
        layout: None,
    };
    let permit = asked(own.clone()).await.expect("a permit");
    let vault = trust.vault();
    vault
        .keep_export(&permit, "left", &job)
        .await
        .expect("kept");
    let over = ExportJob {
        expires_ms: 1,
        ..job
    };
    vault
        .keep_export(&permit, "over", &over)
        .await
        .expect("kept");
    let manifest = site.manifest("$export/left").await;
    assert_eq!(names(&site.lines(&manifest, "output").await), ["Patient/b"]);
    let answer = site.to(0, Method::GET, "$export/over").send().await;
    assert_outcome(answer.expect("an answer"), 404, "not-found").await;
    let swept = site.servers[0].record().sweep_exports(TENANT).await;
    assert_eq!(swept.expect("swept"), 1);
    site.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_hangs_up_gives_the_place_free() {
    let site = Site::in_folder().await;
    site.put(&patient("a")).await;
    for number in 0..24 {
        let mut large = observation(&format!("a{number}"), "a", 1.0);
        large["note"] = json!([{"text": "x".repeat(1 << 20)}]);
        site.put(&large).await;
    }
    let manifest = site
        .manifest(&site.began("$export?_type=Observation").await)
        .await;
    let url = manifest["output"][0]["url"].as_str().expect("an address");
    let mut waiting = Vec::new();
    for _ in 0..record::EXPORT_DOWNLOADS_MAX {
        let answer = site
            .to(0, Method::GET, url)
            .send()
            .await
            .expect("an answer");
        assert_eq!(answer.status(), 200);
        waiting.push(answer);
    }
    let refused = site.to(0, Method::GET, url).send().await;
    assert_outcome(refused.expect("an answer"), 429, "throttled").await;
    drop(waiting);
    let lines = found("a free place", async || {
        let asked = site.to(0, Method::GET, url).send().await;
        let answer = asked.expect("an answer");
        let is_let_in = answer.status() == 200;
        let text = answer.text().await.expect("text");
        is_let_in.then_some(text)
    })
    .await;
    assert_eq!(lines.lines().count(), 24);
    site.end().await;
}

fn parameter(answer: &Value, name: &str) -> String {
    let list = answer["parameter"].as_array().expect("parameters");
    let one = list.iter().find(|one| one["name"] == name).expect("one");
    one["valueString"].as_str().expect("text").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_exported_can_be_imported_elsewhere() {
    let (from, to) = (Site::in_folder().await, Site::in_folder().await);
    for id in ["a", "b"] {
        from.put(&patient(id)).await;
        for number in 0..20 {
            let id_of = format!("{id}{number}");
            from.put(&observation(&id_of, id, 1.0)).await;
        }
    }
    let there = from.export("$export").await;
    let lines: String = there.values().map(|line| format!("{line}\n")).collect();
    let import = |body: reqwest::Body| {
        to.to(0, Method::POST, "$import")
            .header("content-type", "application/fhir+ndjson")
            .body(body)
    };
    // In pieces that end anywhere, then again packed.
    let pieces: Vec<Result<Vec<u8>, std::io::Error>> = lines
        .as_bytes()
        .chunks(777)
        .map(|piece| Ok(piece.to_vec()))
        .collect();
    let pieces = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
    let answer = import(pieces).send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    let answer: Value = answer.json().await.expect("JSON");
    assert_eq!(answer["resourceType"], "Parameters");
    let count = there.len().to_string();
    assert_eq!(parameter(&answer, "written"), count, "{answer}");
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, lines.as_bytes()).expect("packed");
    let packed = packed.finish().expect("packed");
    let answer = import(packed.into()).send().await.expect("an answer");
    let answer: Value = answer.json().await.expect("JSON");
    assert_eq!(parameter(&answer, "unchanged"), count, "{answer}");
    assert_eq!(parameter(&answer, "written"), "0");
    let mut here = to.export("$export").await;
    for (name, mut line) in there {
        let mut other = here.remove(&name).expect("there, too");
        for line in [&mut line, &mut other] {
            line["meta"]
                .as_object_mut()
                .expect("meta")
                .remove("lastUpdated");
        }
        assert_eq!(line, other);
    }
    assert!(here.is_empty(), "{:?}", names(&here));

    // What is refused is told by its line, and stops nothing.
    let some = format!(
        "{}\nnonsense\n\n{}\n{{\"resourceType\": \"Zanzibar\"}}\n",
        patient("c"),
        patient("d")
    );
    let answer = import(some.into()).send().await.expect("an answer");
    let answer: Value = answer.json().await.expect("JSON");
    assert_eq!(parameter(&answer, "written"), "2", "{answer}");
    assert_eq!(parameter(&answer, "rejected"), "2", "{answer}");
    let list = answer["parameter"].as_array().expect("parameters");
    let issues = &list.last().expect("one")["resource"]["issue"];
    let words = |place: usize| issues[place]["diagnostics"].as_str().unwrap_or_default();
    assert!(
        words(0).starts_with("line 2: ") && words(1).starts_with("line 5: "),
        "{issues}"
    );
    // More than can be told of is an error, not a shorter list.
    let many = "{}\n".repeat(record::IMPORT_REJECTS_MAX + 1);
    let answer = import(many.into()).send().await.expect("an answer");
    assert_outcome(answer, 422, "too-costly").await;
    // What breaks off is not taken for the whole.
    let broken: Vec<Result<Vec<u8>, std::io::Error>> = vec![
        Ok(format!("{}\n", patient("e")).into_bytes()),
        Err(std::io::Error::other("the client stumbled")),
    ];
    let broken = reqwest::Body::wrap_stream(futures_util::stream::iter(broken));
    assert!(import(broken).send().await.is_err());
    // Nobody else may, and nothing else is taken.
    let answer = to
        .to(0, Method::POST, "$import")
        .header("content-type", "application/fhir+json")
        .body("{}")
        .send()
        .await
        .expect("an answer");
    assert_outcome(answer, 415, "not-supported").await;
    let clinician = house::token(&to.servers[0], Role::Clinician).await;
    let mut asked = import("".into()).build().expect("a request");
    let bearer = format!("Bearer {clinician}").parse().expect("a header");
    asked.headers_mut().insert("authorization", bearer);
    let answer = to.http.execute(asked).await.expect("an answer");
    assert_outcome(answer, 403, "forbidden").await;
    from.end().await;
    to.end().await;
}
