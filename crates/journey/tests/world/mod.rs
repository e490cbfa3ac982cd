//! A store, a clock that stands still, journeys, and everybody around them: the hospital, patients,
//! staff and the mail.
#![allow(
    dead_code,
    clippy::expect_used,
    reason = "shared by test binaries, each of which uses a part"
)]

use fhir::search::SearchQuery;
use fhir::{Resource, ResourceType};
use journey::{GraphView, InstanceView, Journeys};
use ledger::{
    Expected, Ledger, Location, ManualClock, OpenOptions, Owner, RootKey, SystemEntropy, TenantId,
};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use trust::conventions::{BODY_WEIGHT, LOINC, NOT_DONE_SYSTEM, TASK_ID_SYSTEM};
use trust::outgoing::{CHANNEL_EMAIL, Message};
use trust::{Action, Agent, Change, Permit, Purpose, Role, Target, Trust, TrustOptions, Unit};

pub(crate) mod odd;

use odd::Odd;

pub(crate) const TENANT: TenantId = TenantId(1);
pub(crate) const HOUR: u64 = 3_600_000;
pub(crate) const DAY: u64 = 24 * HOUR;
/// 2026-11-02T14:00:00Z.
pub(crate) const START: u64 = 1_793_628_000_000;

/// What the mail does with what it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mail {
    Delivers,
    Refuses,
    Silent,
}

pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) clock: ManualClock,
    pub(crate) odd: Arc<Odd>,
    pub(crate) trust: Trust,
    pub(crate) journeys: Journeys,
    pub(crate) mail: Mail,
}

pub(crate) fn heart_failure() -> String {
    std::fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../journeys/heart-failure-discharge.yaml"
    ))
    .expect("the journey's file")
}

fn open(path: &Path, clock: &ManualClock) -> (Trust, Arc<Odd>) {
    open_at(Location::Folder(path.to_path_buf()), clock)
}

fn open_at(location: Location, clock: &ManualClock) -> (Trust, Arc<Odd>) {
    let odd = Arc::new(Odd::new(clock.clone()));
    // Beside the records, where they lie in a folder.
    let policies = match &location {
        Location::Folder(path) => Some(path.with_file_name("policies")),
        _ => None,
    };
    let options = OpenOptions {
        location,
        root_key: RootKey::from_bytes([7; 32]),
        clock: odd.clone(),
        entropy: Arc::new(SystemEntropy),
        dictionary: Vec::new(),
        cache_bytes: 1 << 20,
    };
    let ledger = Ledger::open_counted(options, &odd.asked).expect("a ledger");
    let trust = Trust::new(TrustOptions {
        ledger,
        wall_clock: Arc::new(clock.clone()),
        policy_folder: policies.filter(|policies| policies.is_dir()),
        session_idle_s: 900,
        session_absolute_s: 43_200,
    })
    .expect("trust");
    (trust, odd)
}

/// Somebody of the staff.
pub(crate) fn a_member(role: Role) -> Agent {
    Agent {
        tenant: TENANT,
        id: format!("{role:?}"),
        name: format!("A {role:?}"),
        role,
        patient: None,
        access: None,
        signed_in: trust::SignedIn::default(),
    }
}

impl World {
    pub(crate) async fn new(mail: Mail) -> Self {
        Self::with(mail, &heart_failure()).await
    }

    /// One whose first journey is of this file.
    pub(crate) async fn with(mail: Mail, source: &str) -> Self {
        Self::among(mail, source, None).await
    }

    /// With partners that may be called.
    pub(crate) async fn among(mail: Mail, source: &str, partners: Option<&str>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        if let Some(partners) = partners {
            let policies = folder.path().join("policies");
            std::fs::create_dir(&policies).expect("a folder");
            for (name, text) in trust::PolicySet::built_in_files() {
                std::fs::write(policies.join(name), text).expect("written");
            }
            std::fs::write(policies.join("partners.toml"), partners).expect("written");
        }
        let clock = ManualClock::new(START);
        let (trust, odd) = open(&folder.path().join("data"), &clock);
        trust
            .vault()
            .ledger()
            .create_tenant(TENANT)
            .await
            .expect("a tenant");
        let journeys = Journeys::new(trust.clone());
        let world = Self {
            folder,
            clock,
            odd,
            trust,
            journeys,
            mail,
        };
        world.publish(source).await;
        world
    }

    /// A server on a database that others share; it takes its part of the shards.
    pub(crate) async fn server(url: &str, clock: &ManualClock) -> Self {
        let location = Location::Postgres(ledger::Postgres {
            url: url.to_owned(),
            password: None,
            ca_file: None,
            schema: "cairn".to_owned(),
            replicas: Vec::new(),
        });
        let (trust, odd) = open_at(location, clock);
        trust.vault().ledger().lease_shards().expect("leases");
        Self {
            folder: tempfile::tempdir().expect("a folder"),
            clock: clock.clone(),
            odd,
            journeys: Journeys::new(trust.clone()),
            trust,
            mail: Mail::Delivers,
        }
    }

    pub(crate) async fn publish(&self, source: &str) {
        let permit = self.staff(Role::Squad, Action::Publish).await;
        self.journeys
            .publish(&permit, source)
            .await
            .expect("published");
    }

    /// Closes the store and opens it again, as a restart does.
    pub(crate) async fn reopen(self) -> Self {
        let Self {
            folder,
            clock,
            trust,
            journeys,
            mail,
            ..
        } = self;
        trust.vault().ledger().close().await.expect("closed");
        drop((journeys, trust));
        let (trust, odd) = open(&folder.path().join("data"), &clock);
        Self {
            folder,
            clock,
            odd,
            journeys: Journeys::new(trust.clone()),
            trust,
            mail,
        }
    }

    /// The store as it lies on disk now, opened by another process: what a crash would leave.
    pub(crate) fn after_crash(&self) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        copy(self.folder.path(), folder.path());
        let clock = ManualClock::new(self.now());
        let (trust, odd) = open(&folder.path().join("data"), &clock);
        Self {
            folder,
            clock,
            odd,
            journeys: Journeys::new(trust.clone()),
            trust,
            mail: self.mail,
        }
    }

    pub(crate) fn now(&self) -> u64 {
        ledger::Clock::now_ms(&self.clock)
    }

    pub(crate) async fn part(&self, part: &str, purpose: Purpose, action: Action) -> Permit {
        self.trust
            .decide(
                &Agent::system(TENANT, part),
                purpose,
                action,
                Target::default(),
                "test",
            )
            .await
            .expect("a permit")
    }

    pub(crate) async fn staff(&self, role: Role, action: Action) -> Permit {
        let agent = a_member(role);
        let purpose = if role == Role::Squad {
            Purpose::Operations
        } else {
            Purpose::Treatment
        };
        self.trust
            .decide(&agent, purpose, action, Target::default(), "test")
            .await
            .expect("a permit")
    }

    /// Writes resources of a patient's record in one unit, as the hospital's systems do.
    pub(crate) async fn put(&self, resources: Vec<Value>) {
        let permit = self
            .part("importer", Purpose::Operations, Action::Import)
            .await;
        let mut changes = Vec::new();
        for resource in resources {
            let mut resource = Resource::from_value(resource).expect("a resource");
            resource.strip_meta();
            let found = self
                .trust
                .vault()
                .load(&permit, resource.kind(), resource.id().expect("an id"))
                .await
                .expect("loaded");
            let expected = found.map_or(Expected::Absent, |found| Expected::Version(found.version));
            changes.push(Change::Put { resource, expected });
        }
        self.trust
            .vault()
            .commit(
                &permit,
                Unit {
                    changes,
                    ..Unit::default()
                },
            )
            .await
            .expect("written");
    }

    pub(crate) fn mint(&self, patient: &str) -> String {
        self.trust
            .vault()
            .ledger()
            .mint_id(TENANT, &Owner::Patient(patient.to_owned()))
    }

    pub(crate) fn instant(&self) -> String {
        fhir::date::instant(self.now())
    }

    pub(crate) async fn patient_with_telecom(&self, telecom: Value) -> String {
        let id = self.trust.vault().ledger().mint_own_id(TENANT);
        self.patient_of_id(&id, telecom).await;
        id
    }

    /// Somebody with this id.
    pub(crate) async fn patient_named(&self, id: &str) {
        self.patient_of_id(id, email()).await;
    }

    async fn patient_of_id(&self, id: &str, telecom: Value) {
        let mut patient = json!({"resourceType": "Patient", "id": id, "name": [{"family": "Quandt", "given": ["Ottilie"]}], "birthDate": "1941-03-07"});
        if telecom != json!([]) {
            patient["telecom"] = telecom;
        }
        self.put(vec![patient]).await;
        self.consent(id, true).await;
        self.condition(id).await;
    }

    pub(crate) async fn patient(&self) -> String {
        self.patient_with_telecom(email()).await
    }

    pub(crate) async fn patient_without_condition(&self) -> String {
        let id = self.trust.vault().ledger().mint_own_id(TENANT);
        self.put(vec![
            json!({"resourceType": "Patient", "id": id, "name": [{"family": "Quandt"}]}),
        ])
        .await;
        id
    }

    /// Patients whose records lie in one shard.
    pub(crate) async fn neighbours(&self, count: usize) -> Vec<String> {
        let ledger = self.trust.vault().ledger();
        let mut ids: Vec<String> = vec![ledger.mint_own_id(TENANT)];
        while ids.len() < count {
            let id = ledger.mint_own_id(TENANT);
            ids.extend((id[..2] == ids[0][..2]).then_some(id));
        }
        for id in &ids {
            self.patient_of_id(id, email()).await;
        }
        ids
    }

    pub(crate) async fn condition(&self, patient: &str) {
        self.put(vec![json!({
            "resourceType": "Condition", "id": self.mint(patient), "subject": {"reference": format!("Patient/{patient}")},
            "clinicalStatus": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": "active"}]},
            "code": {"coding": [{"system": "http://snomed.info/sct", "code": "84114007"}]}
        })])
        .await;
    }

    pub(crate) async fn consent(&self, patient: &str, permitted: bool) {
        self.clock.advance(1);
        let mut consent = trust::consent::care_messages(patient, permitted, self.now());
        consent.set_id(&self.mint(patient));
        self.put(vec![consent.into_value()]).await;
        if !permitted {
            self.drain().await;
        }
    }

    /// Insures a patient.
    pub(crate) async fn cover(&self, patient: &str, status: &str, end: &str) {
        let subject = json!({"reference": format!("Patient/{patient}")});
        self.put(vec![json!({
            "resourceType": "Coverage", "id": self.mint(patient), "status": status,
            "beneficiary": subject, "payor": [subject], "period": {"end": end}
        })])
        .await;
    }

    /// Operates on a patient.
    pub(crate) async fn operate(&self, patient: &str) {
        self.put(vec![json!({
            "resourceType": "Procedure", "id": self.mint(patient), "status": "completed",
            "subject": {"reference": format!("Patient/{patient}")}, "performedDateTime": self.instant()
        })])
        .await;
        self.drain().await;
    }

    /// Discharges a patient as long ago as said.
    pub(crate) async fn discharge(&self, patient: &str, ago_ms: u64) {
        let end = self.now() - ago_ms;
        self.stay(patient, end - 5 * DAY, end).await;
    }

    /// A stay that is told of when it is over.
    pub(crate) async fn stay(&self, patient: &str, start_ms: u64, end_ms: u64) {
        self.put(vec![json!({
            "resourceType": "Encounter", "id": self.mint(patient), "status": "finished",
            "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
            "subject": {"reference": format!("Patient/{patient}")},
            "period": {"start": fhir::date::instant(start_ms), "end": fhir::date::instant(end_ms)}
        })])
        .await;
    }

    /// Sets the status of all of a patient's stays.
    pub(crate) async fn stays_are(&self, patient: &str, status: &str) {
        for mut stay in self.of(patient, ResourceType::Encounter).await {
            stay.set("status", json!(status));
            self.put(vec![stay.into_value()]).await;
        }
        self.drain().await;
    }

    /// Deletes all of a patient's resources of a type.
    pub(crate) async fn delete(&self, patient: &str, kind: ResourceType) {
        let permit = self.staff(Role::Client, Action::Delete).await;
        let mut changes = Vec::new();
        for found in self.of(patient, kind).await {
            let id = found.id().expect("an id").to_owned();
            let found = self
                .trust
                .vault()
                .load(&permit, kind, &id)
                .await
                .expect("loaded")
                .expect("there");
            changes.push(Change::Delete {
                kind,
                id,
                owner: Owner::Patient(patient.to_owned()),
                expected: Expected::Version(found.version),
            });
        }
        let unit = Unit {
            changes,
            ..Unit::default()
        };
        self.trust
            .vault()
            .commit(&permit, unit)
            .await
            .expect("deleted");
        self.drain().await;
    }

    /// Discharges a patient from the stay that they are in.
    pub(crate) async fn discharge_again(&self, patient: &str) {
        for mut stay in self.of(patient, ResourceType::Encounter).await {
            if stay.text_at(&["status"]) == Some("in-progress") {
                stay.set("status", json!("finished"));
                let start = stay.text_at(&["period", "start"]).map(str::to_owned);
                stay.set("period", json!({"start": start, "end": self.instant()}));
                self.put(vec![stay.into_value()]).await;
            }
        }
        self.drain().await;
    }

    pub(crate) async fn touch_encounter(&self, patient: &str) {
        let found = self.of(patient, ResourceType::Encounter).await;
        self.put(found.into_iter().map(Resource::into_value).collect())
            .await;
    }

    pub(crate) async fn admit(&self, patient: &str) {
        self.admit_at(patient, self.now()).await;
    }

    pub(crate) async fn admit_at(&self, patient: &str, at_ms: u64) {
        self.put(vec![json!({
            "resourceType": "Encounter", "id": self.mint(patient), "status": "in-progress",
            "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
            "subject": {"reference": format!("Patient/{patient}")}, "period": {"start": fhir::date::instant(at_ms)}
        })])
        .await;
        self.drain().await;
    }

    pub(crate) async fn die(&self, patient: &str) {
        let mut resource = self.read(ResourceType::Patient, patient).await;
        resource.set("deceasedDateTime", json!(self.instant()));
        self.put(vec![resource.into_value()]).await;
        self.drain().await;
    }

    pub(crate) async fn weight(&self, patient: &str, kg: f64) {
        self.weight_quietly(patient, kg).await;
        self.drain().await;
    }

    /// Without letting the journeys work on it here and now.
    pub(crate) async fn weight_quietly(&self, patient: &str, kg: f64) {
        self.weight_of(patient, kg, self.now()).await;
    }

    pub(crate) async fn weight_of(&self, patient: &str, kg: f64, at_ms: u64) {
        self.put(vec![json!({
            "resourceType": "Observation", "id": self.mint(patient), "status": "final",
            "subject": {"reference": format!("Patient/{patient}")}, "effectiveDateTime": fhir::date::instant(at_ms),
            "code": {"coding": [{"system": LOINC, "code": BODY_WEIGHT}]},
            "valueQuantity": {"value": kg, "unit": "kg", "system": "http://unitsofmeasure.org", "code": "kg"}
        })])
        .await;
    }

    /// Answers a form as the portal does: response and task in one unit.
    pub(crate) async fn answer(&self, form: &Resource, answers: &[(&str, Value)]) {
        self.answer_quietly(form, answers).await;
        self.drain().await;
    }

    pub(crate) async fn answer_quietly(&self, form: &Resource, answers: &[(&str, Value)]) {
        let patient = form.patient().expect("a patient");
        let mut task = form.clone();
        task.set("status", json!("completed"));
        let items: Vec<Value> = answers
            .iter()
            .map(|(id, value)| json!({"linkId": id, "answer": [value]}))
            .collect();
        let response = json!({
            "resourceType": "QuestionnaireResponse", "id": self.mint(patient), "status": "completed",
            "identifier": {"system": TASK_ID_SYSTEM, "value": form.id()},
            "questionnaire": form.text_at(&["input", "0", "valueCanonical"]),
            "subject": {"reference": format!("Patient/{patient}")}, "item": items
        });
        self.put(vec![task.into_value(), response]).await;
    }

    pub(crate) async fn finish_task(&self, task: &Resource, outcome: Option<&str>) {
        let mut task = task.clone();
        task.set("status", json!("completed"));
        if let Some(outcome) = outcome {
            task.set(
                "output",
                json!([{"type": {"text": "outcome"}, "valueString": outcome}]),
            );
        }
        self.put(vec![task.into_value()]).await;
        self.drain().await;
    }

    pub(crate) async fn visit(&self, patient: &str, status: &str) {
        for mut visit in self.of(patient, ResourceType::Appointment).await {
            visit.set("status", json!(status));
            self.put(vec![visit.into_value()]).await;
        }
        self.drain().await;
    }

    pub(crate) async fn rebook(&self, patient: &str, minutes: u64) {
        for mut visit in self.of(patient, ResourceType::Appointment).await {
            visit.set("status", json!("booked"));
            visit.set(
                "start",
                json!(fhir::date::instant(START + 7 * DAY + minutes * 60_000)),
            );
            visit.remove("end");
            self.put(vec![visit.into_value()]).await;
        }
        self.drain().await;
    }

    /// Follows the feed in the background, as the server does.
    pub(crate) fn follow(
        &self,
    ) -> (
        tokio::sync::watch::Sender<bool>,
        tokio::task::JoinHandle<()>,
    ) {
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let journeys = self.journeys.clone();
        (
            stop,
            tokio::spawn(async move { journeys.run(TENANT, stopped).await }),
        )
    }

    /// Waits until something holds, half a minute at most.
    pub(crate) async fn wait_for<F: Future<Output = bool>>(&self, holds: impl Fn() -> F) {
        for _ in 0..600 {
            if holds().await {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("it did not come true in time");
    }

    /// Journeys and mail in turn, until both have nothing to do.
    pub(crate) async fn drain(&self) {
        loop {
            let moves = self.journeys.drain(TENANT).await.expect("drained");
            if self.deliver().await == 0 && moves == 0 {
                return;
            }
        }
    }

    async fn deliver(&self) -> usize {
        if self.mail == Mail::Silent {
            return 0;
        }
        let ledger = self.trust.vault().ledger();
        let due = ledger
            .outbox_due(CHANNEL_EMAIL, self.now(), 100)
            .await
            .expect("due");
        let count = due.len();
        for entry in due {
            let message: Message = serde_json::from_slice(&entry.body).expect("a message");
            let permit = self
                .part("mail-deliverer", Purpose::Treatment, Action::Send)
                .await;
            let found = self
                .trust
                .vault()
                .load(&permit, ResourceType::Communication, &message.communication)
                .await
                .expect("loaded")
                .expect("the message's resource is in the same commit");
            let mut resource = found.resource;
            if self.mail == Mail::Delivers {
                resource.set("status", json!("completed"));
                resource.set("sent", json!(self.instant()));
            } else {
                resource.set("status", json!("not-done"));
                resource.set(
                    "statusReason",
                    json!({"coding": [{"system": NOT_DONE_SYSTEM, "code": "permanent-failure"}]}),
                );
            }
            let unit = Unit {
                changes: vec![Change::Put {
                    resource,
                    expected: Expected::Version(found.version),
                }],
                outbox_remove: vec![entry.key],
                ..Unit::default()
            };
            self.trust
                .vault()
                .commit(&permit, unit)
                .await
                .expect("settled");
        }
        count
    }

    pub(crate) async fn outbox(&self) -> usize {
        self.trust
            .vault()
            .ledger()
            .outbox_due(CHANNEL_EMAIL, u64::MAX >> 20, 1000)
            .await
            .expect("due")
            .len()
    }

    pub(crate) async fn outgoing(&self) -> Vec<Message> {
        let due = self
            .trust
            .vault()
            .ledger()
            .outbox_due(CHANNEL_EMAIL, self.now(), 1000)
            .await
            .expect("due");
        due.iter()
            .map(|entry| serde_json::from_slice(&entry.body).expect("a message"))
            .collect()
    }

    /// Lets time pass until so long after the beginning, timer by timer.
    pub(crate) async fn until(&self, since_start_ms: u64) {
        let end = START + since_start_ms;
        loop {
            self.drain().await;
            let next = self
                .trust
                .vault()
                .ledger()
                .next_timer_ms()
                .await
                .expect("timers");
            match next.filter(|due| *due <= end) {
                Some(due) => self.clock.set(due.max(self.now())),
                None => break,
            }
        }
        self.clock.set(end.max(self.now()));
        self.drain().await;
    }

    pub(crate) async fn pass(&self, by_ms: u64) {
        self.until(self.now() - START + by_ms).await;
    }

    async fn look(&self) -> Permit {
        self.part("importer", Purpose::Operations, Action::Import)
            .await
    }

    pub(crate) async fn read(&self, kind: ResourceType, id: &str) -> Resource {
        let permit = self.look().await;
        self.trust
            .vault()
            .load(&permit, kind, id)
            .await
            .expect("loaded")
            .expect("there")
            .resource
    }

    /// The audit events that name a patient.
    pub(crate) async fn audits(&self, patient: &str) -> Vec<Resource> {
        let agent = Agent {
            tenant: TENANT,
            id: "auditor".to_owned(),
            name: "Auditor".to_owned(),
            role: Role::PrivacyOfficer,
            patient: None,
            access: None,
            signed_in: trust::SignedIn::default(),
        };
        let permit = self
            .trust
            .decide(
                &agent,
                Purpose::Operations,
                Action::Audit,
                Target::default(),
                "test",
            )
            .await
            .expect("a permit");
        let parameters = [
            ("patient".to_owned(), patient.to_owned()),
            ("_count".to_owned(), "1000".to_owned()),
        ];
        let query = SearchQuery::parse(ResourceType::AuditEvent, &parameters, false);
        let page = self
            .trust
            .vault()
            .search(&permit, &query.expect("a query"), None)
            .await;
        let rows = page.expect("found").rows;
        rows.into_iter().map(|row| row.resource).collect()
    }

    /// A patient's resources of a type, in the order of their first versions.
    pub(crate) async fn of(&self, patient: &str, kind: ResourceType) -> Vec<Resource> {
        let permit = self.look().await;
        let query = SearchQuery::parse(
            kind,
            &[
                ("patient".to_owned(), patient.to_owned()),
                ("_count".to_owned(), "1000".to_owned()),
            ],
            false,
        )
        .expect("a query");
        let mut rows: Vec<Resource> = self
            .trust
            .vault()
            .load_search(&permit, &query, None)
            .await
            .expect("found")
            .rows
            .into_iter()
            .map(|row| row.resource)
            .collect();
        rows.sort_by_key(|resource| {
            resource
                .text_at(&["authoredOn"])
                .or(resource.text_at(&["meta", "lastUpdated"]))
                .unwrap_or_default()
                .to_owned()
        });
        rows
    }

    /// Staff tasks in words.
    pub(crate) async fn tasks(&self, patient: &str) -> Vec<String> {
        let text = |task: &Resource, path: &[&str]| task.text_at(path).unwrap_or("?").to_owned();
        self.of(patient, ResourceType::Task)
            .await
            .iter()
            .filter(|task| task.text_at(&["code", "coding", "0", "code"]) == Some("staff-task"))
            .map(|task| {
                format!(
                    "{} {} {}: {}",
                    text(task, &["performerType", "0", "coding", "0", "code"]),
                    text(task, &["priority"]),
                    text(task, &["description"]),
                    text(task, &["status"])
                )
            })
            .collect()
    }

    pub(crate) async fn forms(&self, patient: &str) -> Vec<String> {
        self.of(patient, ResourceType::Task)
            .await
            .iter()
            .filter(|task| {
                task.text_at(&["code", "coding", "0", "code"]) == Some("complete-questionnaire")
            })
            .map(|task| {
                format!(
                    "{}: {}",
                    task.text_at(&["description"]).unwrap_or("?"),
                    task.text_at(&["status"]).unwrap_or("?")
                )
            })
            .collect()
    }

    pub(crate) async fn task(&self, patient: &str, description: &str) -> Resource {
        self.of(patient, ResourceType::Task)
            .await
            .into_iter()
            .find(|task| task.text_at(&["description"]) == Some(description))
            .expect("the task is there")
    }

    /// Messages in words, in the order in which they were planned.
    pub(crate) async fn messages(&self, patient: &str) -> Vec<String> {
        let view = self.views(patient).await;
        let all = self.of(patient, ResourceType::Communication).await;
        let order: Vec<String> = view
            .iter()
            .rev()
            .flat_map(|view| &view.trail)
            .filter_map(|entry| entry.reference.clone())
            .collect();
        let mut found: Vec<(usize, String)> = all
            .iter()
            .map(|message| {
                let reference = format!("Communication/{}", message.id().expect("an id"));
                let place = order
                    .iter()
                    .position(|one| *one == reference)
                    .expect("each message is in the trail");
                let code = message
                    .text_at(&["statusReason", "coding", "0", "code"])
                    .map_or_else(String::new, |code| format!(" {code}"));
                let words = format!(
                    "{} by {}: {}{code}",
                    message.text_at(&["topic", "text"]).unwrap_or("?"),
                    message
                        .text_at(&["medium", "0", "coding", "0", "code"])
                        .unwrap_or("?"),
                    message.text_at(&["status"]).unwrap_or("?")
                );
                (place, words)
            })
            .collect();
        found.sort();
        found.into_iter().map(|(_, words)| words).collect()
    }

    /// How many messages there are, whether or not their journey is shown.
    pub(crate) async fn messages_now(&self, patient: &str) -> usize {
        self.of(patient, ResourceType::Communication).await.len()
    }

    pub(crate) async fn visits(&self, patient: &str) -> Vec<String> {
        self.of(patient, ResourceType::Appointment)
            .await
            .iter()
            .map(|visit| visit.text_at(&["status"]).unwrap_or("?").to_owned())
            .collect()
    }

    pub(crate) async fn views(&self, patient: &str) -> Vec<InstanceView> {
        let permit = self.staff(Role::Coordinator, Action::Search).await;
        self.journeys
            .of_patient(&permit, patient)
            .await
            .expect("views")
    }

    pub(crate) async fn view(&self, patient: &str) -> InstanceView {
        let mut views = self.views(patient).await;
        assert_eq!(views.len(), 1, "one journey");
        views.remove(0)
    }

    pub(crate) async fn graph(&self, version: Option<u32>) -> GraphView {
        let permit = self.staff(Role::Squad, Action::Observe).await;
        self.journeys
            .graph(&permit, "heart-failure-discharge", version)
            .await
            .expect("a graph")
    }
}

fn email() -> Value {
    json!([{"system": "email", "value": "ottilie.quandt@example.com"}])
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("the folder") {
        let entry = entry.expect("an entry");
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            // A file may be compacted away while it is copied, as it may be when a process dies.
            let _ = std::fs::copy(&path, &target);
        }
    }
}
