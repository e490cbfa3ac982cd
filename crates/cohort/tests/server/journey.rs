//! The heart-failure journey through all its branches in virtual time: real HTTP in, a real SMTP
//! server out, and a look at mailbox, tasks, timeline and audit tree afterwards. Works on the real
//! bundles when they lie beside the repository, on the own cohort otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cairn::store::TENANT;
use cairn::{Server, ServerOptions};
use cohort::bench::write_cohort;
use cohort::server::Fhir;
use ledger::{Clock as _, Ledger, Location, ManualClock, OpenOptions, RootKey, SystemEntropy};
use serde_json::{Value, json};
use trust::{Action, Agent, Purpose, Target};

use crate::peers::{Smtp, root, smtp};

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;
/// 2026-03-02T07:00:00Z.
const START_MS: u64 = 1_772_434_800_000;
/// How many bundles of the input are imported.
const BUNDLES: usize = 12;

/// What becomes of each patient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    AnswersAll,
    NeverAnswers,
    AnswersLate,
    Alarming,
    GainsWeight,
    Readmitted,
    Dies,
    Withdraws,
    NoMailbox,
}

const FATES: [Fate; 9] = [
    Fate::AnswersAll,
    Fate::NeverAnswers,
    Fate::AnswersLate,
    Fate::Alarming,
    Fate::GainsWeight,
    Fate::Readmitted,
    Fate::Dies,
    Fate::Withdraws,
    Fate::NoMailbox,
];

struct World {
    server: Server,
    fhir: Fhir,
    clock: ManualClock,
    smtp: Smtp,
    squad: trust::Permit,
}

fn input(folder: &Path) -> PathBuf {
    let real = root().join("../shared/data/synthea-r4-bundles.ndjson.gz");
    let path = folder.join("input.ndjson");
    let mut out = File::create(&path).expect("a file");
    let lines: Box<dyn Iterator<Item = String>> = if real.is_file() {
        let reader = BufReader::new(flate2::read::GzDecoder::new(
            File::open(&real).expect("readable"),
        ));
        Box::new(reader.lines().map(|line| line.expect("a line")))
    } else {
        let own = write_cohort(folder, 5, BUNDLES as u64).expect("a cohort");
        Box::new(
            BufReader::new(File::open(own).expect("readable"))
                .lines()
                .map(|line| line.expect("a line")),
        )
    };
    for line in lines
        .filter(|line| line.contains("\"Patient\""))
        .take(BUNDLES)
    {
        writeln!(out, "{line}").expect("written");
    }
    path
}

async fn permit(server: &Server, agent: &Agent, purpose: Purpose, action: Action) -> trust::Permit {
    server
        .trust()
        .decide(agent, purpose, action, Target::default(), "test")
        .await
        .expect("a permit")
}

impl World {
    async fn new(folder: &Path) -> Self {
        let clock = ManualClock::new(START_MS);
        let ledger = Ledger::open(OpenOptions {
            location: Location::Folder(folder.join("ledger")),
            root_key: RootKey::from_bytes([3; 32]),
            clock: Arc::new(clock.clone()),
            entropy: Arc::new(SystemEntropy),
            dictionary: Vec::new(),
            cache_bytes: 16 << 20,
        })
        .expect("a ledger");
        ledger.create_tenant(TENANT).await.expect("a tenant");
        let smtp = smtp(folder);
        let mut options = ServerOptions::new(ledger, TENANT);
        options.run_journeys = false;
        options.mail = Some(exchange::MailOptions {
            host: "127.0.0.1".into(),
            port: smtp.port(),
            tls: exchange::MailTls::None,
            credentials: None,
            from: "care@example.com".into(),
            message_id_domain: "example.com".into(),
            portal_base: String::new(),
            timeout_ms: 10_000,
            parallel: 4,
            magic_links: true,
            ca_file: None,
            meter: exchange::Meter::default(),
            dkim: None,
            returns: None,
        });
        let server = Server::start(options).await.expect("a server");
        let operator = Agent::system(TENANT, "command-line");
        let token = server
            .trust()
            .identity()
            .create_client(&operator, "hospital", trust::Role::Client)
            .await
            .expect("a token");
        let squad = permit(&server, &operator, Purpose::Operations, Action::Publish).await;
        let fhir = Fhir::new(server.base_url(), &token);
        Self {
            server,
            fhir,
            clock,
            smtp,
            squad,
        }
    }

    async fn put(&self, resource: Value) {
        let path = format!(
            "{}/{}",
            resource["resourceType"].as_str().expect("a type"),
            resource["id"].as_str().expect("an id")
        );
        let (status, answer) = self.fhir.put(&path, &resource).await.expect("an answer");
        assert!(
            status == 200 || status == 201,
            "PUT {path}: {status} {answer}"
        );
    }

    async fn all(&self, query: &str) -> Vec<Value> {
        let (status, bundle) = self.fhir.get(query).await.expect("an answer");
        assert_eq!(status, 200, "GET {query}: {bundle}");
        bundle["entry"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|entry| entry["resource"].clone())
            .collect()
    }

    /// Lets journeys and mail do everything that is due at this time.
    async fn settle(&self) {
        for _ in 0..200 {
            let moved = self.server.journeys().drain(TENANT).await.expect("drained");
            let outbox = self.server.ledger().next_outbox_ms().await.expect("asked");
            let waiting = outbox.is_some_and(|due| due <= self.clock.now_ms());
            if moved == 0 && !waiting {
                return;
            }
            if waiting {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        panic!("journeys and mail do not come to rest");
    }

    fn now(&self) -> String {
        fhir::date::instant(self.clock.now_ms())
    }

    /// The open form of a patient, answered with these items.
    async fn answer(&self, patient: &str, items: Value) -> bool {
        let forms = self
            .all(&format!(
                "Task?patient={patient}&code=complete-questionnaire"
            ))
            .await;
        let Some(form) = forms.iter().find(|task| {
            matches!(
                task["status"].as_str(),
                Some("requested" | "ready" | "received" | "accepted" | "in-progress")
            )
        }) else {
            return false;
        };
        let mut done = form.clone();
        done["status"] = json!("completed");
        let (status, answer) = self
            .fhir
            .post(
                "",
                &json!({"resourceType": "Bundle", "type": "transaction", "entry": [
                    {"resource": {
                        "resourceType": "QuestionnaireResponse", "status": "completed", "authored": self.now(),
                        "identifier": {"system": "urn:cairn:task", "value": form["id"]},
                        "questionnaire": form["input"][0]["valueCanonical"],
                        "subject": {"reference": format!("Patient/{patient}")}, "source": {"reference": format!("Patient/{patient}")},
                        "item": items,
                    }, "request": {"method": "POST", "url": "QuestionnaireResponse"}},
                    {"resource": done, "request": {"method": "PUT", "url": format!("Task/{}", form["id"].as_str().expect("an id"))}},
                ]}),
            )
            .await
            .expect("an answer");
        assert_eq!(status, 200, "{answer}");
        true
    }

    async fn weigh(&self, patient: &str, day: u64, kg: f64) {
        self.put(json!({
            "resourceType": "Observation", "id": format!("{patient}-weight-{day}"), "status": "final",
            "code": {"coding": [{"system": "http://loinc.org", "code": "29463-7"}]},
            "subject": {"reference": format!("Patient/{patient}")}, "effectiveDateTime": self.now(),
            "valueQuantity": {"value": kg, "unit": "kg", "system": "http://unitsofmeasure.org", "code": "kg"},
        }))
        .await;
    }

    async fn discharge(&self, patient: &str, id: &str) {
        self.put(stay(
            patient,
            id,
            "finished",
            &self.now(),
            Some(&self.now()),
        ))
        .await;
    }

    /// The staff's day: every open task is done.
    async fn work(&self, patients: impl Iterator<Item = &String>) {
        for patient in patients {
            for mut task in self
                .all(&format!(
                    "Task?patient={patient}&code=staff-task&status=requested"
                ))
                .await
            {
                task["status"] = json!("completed");
                self.put(task).await;
            }
        }
        self.settle().await;
    }

    async fn instances(&self, patient: &str) -> Vec<journey::InstanceView> {
        let reader = Agent::system(TENANT, "journey-engine");
        let permit = permit(
            &self.server,
            &reader,
            Purpose::Treatment,
            Action::Orchestrate,
        )
        .await;
        self.server
            .journeys()
            .of_patient(&permit, patient)
            .await
            .expect("instances")
    }
}

fn stay(patient: &str, id: &str, status: &str, start: &str, end: Option<&str>) -> Value {
    let mut stay = json!({
        "resourceType": "Encounter", "id": id, "status": status,
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
        "subject": {"reference": format!("Patient/{patient}")}, "period": {"start": start},
        "reasonCode": [{"coding": [{"system": "http://snomed.info/sct", "code": "84114007"}]}],
    });
    if let Some(end) = end {
        stay["period"]["end"] = json!(end);
    }
    stay
}

fn symptoms(breathless: bool) -> Value {
    json!([
        {"linkId": "breathless", "answer": [{"valueBoolean": breathless}]},
        {"linkId": "swelling", "answer": [{"valueBoolean": false}]},
        {"linkId": "dizzy", "answer": [{"valueBoolean": false}]},
    ])
}

/// Titles of staff tasks by patient, with their times in hours after the discharge.
async fn staff_tasks(world: &World, patient: &str) -> Vec<String> {
    let mut titles: Vec<String> = world
        .all(&format!("Task?patient={patient}&code=staff-task"))
        .await
        .iter()
        .filter_map(|task| {
            task["description"]
                .as_str()
                .or(task["code"]["text"].as_str())
                .map(str::to_owned)
        })
        .collect();
    titles.sort();
    titles
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_branch_of_the_journey_in_virtual_time() {
    let space = tempfile::tempdir().expect("a folder");
    let world = World::new(space.path()).await;
    let source = std::fs::read_to_string(root().join("journeys/heart-failure-discharge.yaml"))
        .expect("the journey");
    let first = world
        .server
        .journeys()
        .publish(&world.squad, &source)
        .await
        .expect("published");
    assert_eq!(first.version, 1);

    // Real people's histories, with discharges of long ago that must start nothing.
    let importer = Agent::system(TENANT, "importer");
    let options = record::import::ImportOptions {
        paths: vec![input(space.path())],
        rejects: space.path().join("rejects"),
        parallel: 4,
    };
    let imported = record::import::run(world.server.trust(), &importer, &options, &|_| ())
        .await
        .expect("imported");
    assert_eq!(imported.rejected, 0);
    world.settle().await;
    let mut patients: Vec<Value> = world
        .all("Patient?_count=100")
        .await
        .into_iter()
        .filter(|patient| {
            patient.get("deceasedDateTime").is_none() && patient.get("deceasedBoolean").is_none()
        })
        .collect();
    patients.sort_by_key(|patient| patient["id"].as_str().unwrap_or("").to_owned());
    assert!(
        patients.len() >= FATES.len(),
        "enough living patients: {}",
        patients.len()
    );
    let mut people: BTreeMap<Fate, String> = BTreeMap::new();
    let mut details = Vec::new();
    for (fate, patient) in FATES.into_iter().zip(&mut patients) {
        let id = patient["id"].as_str().expect("an id").to_owned();
        assert!(
            world.instances(&id).await.is_empty(),
            "an old discharge starts nothing"
        );
        let mailbox = if fate == Fate::NoMailbox {
            format!("gone-{fate:?}@example.com")
        } else {
            format!("{fate:?}@example.com")
        };
        patient["telecom"] = json!([{"system": "email", "value": mailbox, "rank": 1}]);
        // A name that can't come up by chance in a link or a boundary of parts, as "Wu" does.
        patient["name"] = json!([{"family": format!("Quillfeather-{fate:?}"), "given": [format!("Zebedee-{fate:?}")]}]);
        world.put(patient.clone()).await;
        details.push("Quillfeather".to_owned());
        details.push("Zebedee".to_owned());
        details.push(
            patient["birthDate"]
                .as_str()
                .expect("a birth date")
                .to_owned(),
        );
        people.insert(fate, id);
    }
    for id in people.values() {
        world.discharge(id, &format!("{id}-stay")).await;
    }
    world.settle().await;
    for id in people.values() {
        let instances = world.instances(id).await;
        assert_eq!(instances.len(), 1, "a discharge starts one journey");
        assert_eq!(instances[0].version, 1);
        assert!(
            !instances[0].waiting.is_empty() && !instances[0].planned.is_empty(),
            "it says what it waits for and what is planned"
        );
    }

    // The same discharge told again starts nothing more.
    world
        .discharge(
            &people[&Fate::AnswersAll],
            &format!("{}-stay", people[&Fate::AnswersAll]),
        )
        .await;
    world.settle().await;
    assert_eq!(world.instances(&people[&Fate::AnswersAll]).await.len(), 1);

    // The file is edited and published: version 2 for those who come from now on.
    let edited = source.replace("Welcome home", "Welcome back home");
    assert_ne!(edited, source);
    let second = world
        .server
        .journeys()
        .publish(&world.squad, &edited)
        .await
        .expect("published");
    assert_eq!(second.version, 2);
    assert_eq!(
        world
            .server
            .journeys()
            .publish(&world.squad, &edited)
            .await
            .expect("published")
            .version,
        2,
        "the same text again is no new version"
    );
    let late = patients
        .get(FATES.len())
        .map(|patient| patient["id"].as_str().expect("an id").to_owned());

    for step in 1..=(45 * 4) {
        world.clock.advance(6 * HOUR_MS);
        world.settle().await;
        let (day, hour) = (step / 4, (step % 4) * 6);
        if hour == 0 {
            for (fate, id) in &people {
                if matches!(fate, Fate::Dies | Fate::Readmitted) && day > 8 {
                    continue;
                }
                // Who doesn't answer stops to weigh themselves as well.
                if *fate == Fate::NeverAnswers && day > 5 {
                    continue;
                }
                let gain = if *fate == Fate::GainsWeight && day >= 6 {
                    2.6
                } else {
                    0.0
                };
                world.weigh(id, day, 80.0 + gain).await;
            }
            if day == 5
                && let Some(late) = &late
            {
                world.discharge(late, &format!("{late}-stay")).await;
            }
            if day == 9 {
                let id = &people[&Fate::Readmitted];
                world
                    .put(stay(
                        id,
                        &format!("{id}-again"),
                        "in-progress",
                        &world.now(),
                        None,
                    ))
                    .await;
                let id = &people[&Fate::Dies];
                let (_, mut patient) = world
                    .fhir
                    .get(&format!("Patient/{id}"))
                    .await
                    .expect("an answer");
                patient["deceasedDateTime"] = json!(world.now());
                world.put(patient).await;
                let id = &people[&Fate::Withdraws];
                let mut consent =
                    trust::consent::care_messages(id, false, world.clock.now_ms()).into_value();
                consent["id"] = json!(format!("{id}-withdrawn"));
                world.put(consent).await;
            }
            world.settle().await;
        }
        if hour == 12 {
            world.work(people.values()).await;
        }
        let answers = |fate: Fate| match fate {
            Fate::AnswersAll | Fate::GainsWeight | Fate::NoMailbox | Fate::Alarming => {
                day == 2 && hour == 18
            }
            Fate::AnswersLate => day == 3 && hour == 18,
            _ => false,
        };
        for (fate, id) in &people {
            if answers(*fate) {
                assert!(
                    world.answer(id, symptoms(*fate == Fate::Alarming)).await,
                    "{fate:?} has a form to answer on day {day}"
                );
            }
            if day == 31 && hour == 0 && *fate == Fate::AnswersAll {
                assert!(
                    world
                        .answer(
                            id,
                            json!([{"linkId": "score", "answer": [{"valueInteger": 9}]}])
                        )
                        .await,
                    "there is a survey"
                );
            }
            if day == 3 && hour == 0 && *fate == Fate::AnswersAll {
                let offers = world
                    .all(&format!("Appointment?patient={id}&status=proposed"))
                    .await;
                let mut visit = offers.first().expect("a visit is offered").clone();
                visit["status"] = json!("booked");
                world.put(visit).await;
            }
        }
        world.settle().await;
    }

    let mut tasks = BTreeMap::new();
    for (fate, id) in &people {
        tasks.insert(*fate, staff_tasks(&world, id).await);
    }
    let has = |fate: Fate, title: &str| tasks[&fate].iter().any(|task| task.contains(title));
    let (missing, weight, call, review, visit) = (
        "why no weight comes",
        "about their weight",
        "about their symptoms",
        "Review alarming symptoms",
        "day-7 visit",
    );
    for fate in FATES {
        assert_eq!(
            has(fate, missing),
            fate == Fate::NeverAnswers,
            "{fate:?}: {:?}",
            tasks[&fate]
        );
        assert_eq!(
            has(fate, weight),
            fate == Fate::GainsWeight,
            "{fate:?}: {:?}",
            tasks[&fate]
        );
        assert_eq!(
            has(fate, call),
            matches!(
                fate,
                Fate::NeverAnswers | Fate::Readmitted | Fate::Dies | Fate::Withdraws
            ),
            "{fate:?}: {:?}",
            tasks[&fate]
        );
        assert_eq!(
            has(fate, review),
            fate == Fate::Alarming,
            "{fate:?}: {:?}",
            tasks[&fate]
        );
        assert_eq!(
            has(fate, visit),
            fate != Fate::AnswersAll,
            "{fate:?}: {:?}",
            tasks[&fate]
        );
    }
    let mut endings = BTreeMap::new();
    for (fate, id) in &people {
        let instances = world.instances(id).await;
        let (_, ending) = instances[0]
            .ended
            .clone()
            .unwrap_or_else(|| panic!("{fate:?} has not ended: {:?}", instances[0].waiting));
        endings.insert(*fate, ending);
        assert!(
            instances[0].trail.len() >= 4,
            "the timeline tells what happened"
        );
        assert!(
            instances[0].trail.iter().all(|entry| !entry.why.is_empty()),
            "and why"
        );
        assert_eq!(
            instances[0].version, 1,
            "who started on version 1 stays there"
        );
    }
    for (fate, ending) in &endings {
        let expected = match fate {
            Fate::Readmitted => "hospital",
            Fate::Dies => "Died",
            Fate::Withdraws => "Consent",
            _ => "Completed",
        };
        assert!(ending.contains(expected), "{fate:?} ended with {ending}");
    }
    if let Some(late) = &late {
        assert_eq!(
            world.instances(late).await[0].version,
            2,
            "who came later is on version 2"
        );
    }

    // The mailbox: everybody with one was written to, nobody after the end, nothing about anybody.
    let mut mails: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (to, id) in world.smtp.taken() {
        mails.entry(to.to_lowercase()).or_default().insert(id);
    }
    for fate in FATES {
        let count = mails
            .get(&format!("{fate:?}@example.com").to_lowercase())
            .map_or(0, BTreeSet::len);
        match fate {
            Fate::NoMailbox => assert_eq!(count, 0),
            Fate::NeverAnswers => {
                assert!(count >= 4, "welcome, questions, reminder, survey: {count}");
            }
            _ => assert!(count >= 2, "{fate:?}: {count}"),
        }
    }
    let text = String::from_utf8_lossy(
        &std::fs::read(world.smtp.log().with_extension("log.text")).expect("mails"),
    )
    .into_owned();
    assert!(
        text.contains("There is a new message for you"),
        "the mails can be read: {text}"
    );
    for detail in &details {
        assert!(
            !text.contains(detail.as_str()),
            "a patient's detail left by e-mail"
        );
    }
    let undelivered = world
        .all(&format!(
            "Communication?subject=Patient/{}",
            people[&Fate::NoMailbox]
        ))
        .await;
    assert!(
        undelivered
            .iter()
            .any(|message| message["status"] == "not-done"
                && message["statusReason"]["coding"][0]["code"] == "permanent-failure"),
        "{undelivered:?}"
    );
    assert!(
        undelivered
            .iter()
            .any(|message| message["status"] == "completed"),
        "the next channel took over"
    );
    let withdrawn = world
        .all(&format!(
            "Communication?subject=Patient/{}",
            people[&Fate::Withdraws]
        ))
        .await;
    let nine_days = fhir::date::instant(START_MS + 9 * DAY_MS + HOUR_MS);
    assert!(
        withdrawn.iter().all(|message| message["sent"]
            .as_str()
            .is_none_or(|sent| sent < nine_days.as_str())),
        "nothing was sent after consent was withdrawn"
    );

    let report = world
        .server
        .ledger()
        .verify_audit(&|_| ())
        .await
        .expect("checked");
    assert!(
        report.broken.is_none() && report.checkpoint_ok,
        "{report:?}"
    );
    assert!(
        report.leaves > 500,
        "everything was audited: {}",
        report.leaves
    );
    println!(
        "journey: {} imported resources, {} mails, {} audit leaves in {} trees; tasks {tasks:?}; endings {endings:?}",
        imported.written,
        world.smtp.taken().len(),
        report.leaves,
        report.trees
    );
    world.server.stop().await.expect("a clean end");
}
