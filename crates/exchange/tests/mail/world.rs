//! A store with a patient and messages on their way, a clock that stands still, and a deliverer.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use exchange::{
    Breakers, Deliverer, FileDeliverer, FileOptions, MailOptions, MailTls, PushOptions, SmsDoor,
    SmsOptions,
};
use fhir::{Resource, ResourceType};
use ledger::{
    Clock, Entropy, Expected, Ledger, Location, ManualClock, OpenOptions, OutboxDraft, OutboxEntry,
    OutboxKey, Owner, RootKey, SystemClock, SystemEntropy, TenantId,
};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use trust::consent::Rules;
use trust::identity::{Session, SignIn};
use trust::outgoing::{
    CHANNEL_EMAIL, CHANNEL_LETTER, CHANNEL_LETTER_BATCH, CHANNEL_PUSH, CHANNEL_QUESTION,
    CHANNEL_SMS, CHANNEL_VOICE, CHANNEL_VOICE_BATCH, Message,
};
use trust::sms::Country;
use trust::{Action, Agent, Change, Permit, Purpose, Target, TextRules, Trust, TrustOptions, Unit};

use crate::patience::{Patience, in_time};

pub const TENANT: TenantId = TenantId(1);
pub const NOW_MS: u64 = 1_793_000_000_000;
pub const ADDRESS: &str = "ottilie.quandt@example.com";
pub const TEXT: &str = "Your care team has a question for you.\n\nPlease answer here: {link}";

pub struct World {
    pub folder: tempfile::TempDir,
    pub clock: ManualClock,
    pub trust: Trust,
}

pub struct Running {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Running {
    pub async fn stop(self) {
        self.stop.send(true).expect("the deliverer listens");
        let ended = in_time("it stops", self.task).await;
        ended.expect("without a panic");
    }
    /// As a crash would: nothing is finished.
    pub async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

/// Something that delivers, from now on.
fn started(deliverer: Deliverer) -> (Running, Breakers) {
    let (stop, stopped) = watch::channel(false);
    let breakers = deliverer.breakers();
    let task = tokio::spawn(deliverer.run(stopped));
    (Running { stop, task }, breakers)
}

/// A clock that is set while somebody sleeps by it, as when a machine was suspended: the sleep is long.
struct Suspended(ManualClock);

impl Clock for Suspended {
    fn now_ms(&self) -> u64 {
        self.0.now_ms()
    }
    fn real_wait(&self, until_ms: u64) -> Duration {
        Duration::from_millis(until_ms.saturating_sub(self.now_ms()))
    }
}

fn open(path: PathBuf, clock: Arc<dyn Clock>) -> Trust {
    open_under(path, clock, Arc::new(SystemClock), (None, None))
}

/// What the organisation says of text messages.
fn texts() -> TextRules {
    TextRules {
        country: Country::parse("US"),
        from: None,
        replies: true,
    }
}

fn open_under(
    path: PathBuf,
    clock: Arc<dyn Clock>,
    wall_clock: Arc<dyn Clock>,
    (policy_folder, rules): (Option<PathBuf>, Option<Rules>),
) -> Trust {
    let ledger = Ledger::open(OpenOptions {
        location: Location::Folder(path),
        root_key: RootKey::from_bytes([7; 32]),
        clock,
        entropy: Arc::new(SystemEntropy),
        dictionary: Vec::new(),
        cache_bytes: 1 << 20,
    })
    .expect("a ledger");
    let options = TrustOptions {
        ledger,
        wall_clock,
        policy_folder,
        session_idle_s: 900,
        session_absolute_s: 43_200,
    };
    let rules = rules.unwrap_or_else(|| Rules::load(Rules::DEFAULT).expect("rules"));
    Trust::under(options, rules).expect("trust")
}

impl World {
    pub async fn new() -> Self {
        let clock = ManualClock::new(NOW_MS);
        Self::over(clock.clone(), Arc::new(clock)).await
    }

    /// A world whose sleeps are as long as its clock says when they begin.
    pub async fn suspended() -> Self {
        let clock = ManualClock::new(NOW_MS);
        Self::over(clock.clone(), Arc::new(Suspended(clock))).await
    }

    /// A world under the policies of a folder, which know the time by its clock.
    pub async fn under(policies: &std::path::Path) -> Self {
        let clock = ManualClock::new(NOW_MS);
        let folder = tempfile::tempdir().expect("a folder");
        let wall = Arc::new(clock.clone());
        let policies = (Some(policies.to_owned()), None);
        let trust = open_under(folder.path().join("data"), wall.clone(), wall, policies);
        Self::with(folder, clock, trust).await
    }

    /// A world under the policies of a folder, in which sessions and proofs are of the real time, as other services ask.
    pub async fn bound(policies: &std::path::Path) -> Self {
        let clock = ManualClock::new(NOW_MS);
        let folder = tempfile::tempdir().expect("a folder");
        let shown = Arc::new(clock.clone());
        let policies = (Some(policies.to_owned()), None);
        let path = folder.path().join("data");
        let trust = open_under(path, shown, Arc::new(SystemClock), policies);
        Self::with(folder, clock, trust).await
    }

    /// A world whose organisation says this of messages.
    pub async fn ruled(messages: &str) -> Self {
        let clock = ManualClock::new(NOW_MS);
        let folder = tempfile::tempdir().expect("a folder");
        let text = format!("name = \"ours\"\nextends = \"us-hipaa\"\n[messages]\n{messages}\n");
        let rules = Rules::parse("ours.toml", &text).expect("rules");
        let shown = Arc::new(clock.clone());
        let path = folder.path().join("data");
        let trust = open_under(path, shown, Arc::new(SystemClock), (None, Some(rules)));
        Self::with(folder, clock, trust).await
    }

    /// A world whose text messages come from a number.
    pub async fn numbered(from: &str) -> Self {
        let clock = ManualClock::new(NOW_MS);
        let folder = tempfile::tempdir().expect("a folder");
        let trust = open(folder.path().join("data"), Arc::new(clock.clone()));
        trust.vault().set_texts(TextRules {
            from: Some(from.to_owned()),
            ..texts()
        });
        Self::with(folder, clock, trust).await
    }

    /// A world in which nobody has said of which country numbers are.
    pub async fn nowhere() -> Self {
        let clock = ManualClock::new(NOW_MS);
        let folder = tempfile::tempdir().expect("a folder");
        let trust = open(folder.path().join("data"), Arc::new(clock.clone()));
        trust.vault().set_texts(TextRules::default());
        Self::with(folder, clock, trust).await
    }

    async fn over(clock: ManualClock, shown: Arc<dyn Clock>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let trust = open(folder.path().join("data"), shown);
        Self::with(folder, clock, trust).await
    }

    async fn with(folder: tempfile::TempDir, clock: ManualClock, trust: Trust) -> Self {
        trust.vault().set_texts(texts());
        trust
            .vault()
            .ledger()
            .create_tenant(TENANT)
            .await
            .expect("a tenant");
        Self {
            folder,
            clock,
            trust,
        }
    }

    /// Closes the store and opens it again.
    pub async fn reopen(self) -> Self {
        let Self {
            folder,
            clock,
            trust,
        } = self;
        trust.vault().ledger().close().await.expect("closed");
        drop(trust);
        let trust = open(folder.path().join("data"), Arc::new(clock.clone()));
        trust.vault().set_texts(texts());
        Self {
            folder,
            clock,
            trust,
        }
    }

    pub fn options(&self, port: u16) -> MailOptions {
        MailOptions {
            host: "127.0.0.1".to_owned(),
            port,
            tls: MailTls::None,
            credentials: None,
            from: "Northmoor General <care@hospital.example>".to_owned(),
            message_id_domain: "hospital.example".to_owned(),
            portal_base: "https://portal.example/".to_owned(),
            timeout_ms: 20_000,
            parallel: 4,
            magic_links: false,
            ca_file: None,
            meter: exchange::Meter::default(),
            dkim: None,
            returns: None,
        }
    }

    pub fn run(&self, options: MailOptions) -> Running {
        self.run_seen(options).0
    }

    /// The same, with whether its server is there.
    pub fn run_seen(&self, options: MailOptions) -> (Running, Breakers) {
        let deliverer = Deliverer::mail(self.trust.clone(), options);
        started(deliverer.expect("options that fit together"))
    }

    /// Takes text messages to a provider.
    pub fn run_texts(&self, options: SmsOptions) -> Running {
        self.run_texts_seen(options).0
    }

    /// The same, with whether the provider is there.
    pub fn run_texts_seen(&self, options: SmsOptions) -> (Running, Breakers) {
        let door = Arc::new(self.door(&options));
        let deliverer = Deliverer::sms(self.trust.clone(), door, options);
        started(deliverer.expect("options that fit together"))
    }

    /// Takes notifications to push services.
    pub fn run_push(&self, options: PushOptions) -> Running {
        let deliverer = Deliverer::push(self.trust.clone(), options);
        started(deliverer.expect("options that fit together")).0
    }

    /// Hands letters or telephone calls over.
    pub fn run_files(&self, options: FileOptions) -> Running {
        let deliverer = FileDeliverer::new(self.trust.clone(), TENANT, options);
        let deliverer = deliverer.expect("options that fit together");
        let (stop, stopped) = watch::channel(false);
        Running {
            stop,
            task: tokio::spawn(deliverer.run(stopped)),
        }
    }

    /// Closes the store and opens it again, under the policies of a folder.
    pub async fn reopen_under(self, policies: &std::path::Path) -> Self {
        let Self {
            folder,
            clock,
            trust,
        } = self;
        trust.vault().ledger().close().await.expect("closed");
        drop(trust);
        let wall = Arc::new(clock.clone());
        let policies = (Some(policies.to_owned()), None);
        let trust = open_under(folder.path().join("data"), wall.clone(), wall, policies);
        trust.vault().set_texts(texts());
        Self {
            folder,
            clock,
            trust,
        }
    }

    /// A session of a patient, who came by a link.
    pub async fn session(&self, patient: &str) -> Session {
        let identity = self.trust.identity();
        let operator = Agent::system(TENANT, "demo");
        let link = identity.make_link(&operator, patient, 3_600, true).await;
        let done = identity
            .use_link(TENANT, &link.expect("a link"), "1941-03-07")
            .await;
        match done.expect("signed in") {
            SignIn::Done { session, .. } => session,
            other => panic!("{other:?}"),
        }
    }

    /// Where the provider tells us something.
    pub fn door(&self, options: &SmsOptions) -> SmsDoor {
        SmsDoor::new(self.trust.clone(), TENANT, options).expect("options that fit together")
    }

    /// The record of a patient now.
    pub async fn record(&self, patient: &str) -> Value {
        let permit = self.journey(patient).await;
        let kind = ResourceType::Patient;
        let found = self.trust.vault().load(&permit, kind, patient).await;
        found
            .expect("loaded")
            .expect("a patient")
            .resource
            .into_value()
    }

    async fn permit(&self, part: &str, purpose: Purpose, action: Action, patient: &str) -> Permit {
        let agent = Agent::system(TENANT, part);
        let target = Target {
            kind: None,
            patient: Some(patient.to_owned()),
        };
        self.trust
            .decide(&agent, purpose, action, target, "test")
            .await
            .expect("a permit")
    }

    /// As a journey acts.
    pub async fn journey(&self, patient: &str) -> Permit {
        self.permit(
            "journey-engine",
            Purpose::Treatment,
            Action::Orchestrate,
            patient,
        )
        .await
    }

    /// As the hospital's systems write.
    pub async fn hospital(&self, patient: &str) -> Permit {
        self.permit("importer", Purpose::Operations, Action::Import, patient)
            .await
    }

    /// A patient who can be written to, with `change` made to them. Returns the id.
    pub async fn patient(&self, change: &[(&str, Value)]) -> String {
        let id = self.trust.vault().ledger().mint_own_id(TENANT);
        let mut patient = json!({
            "resourceType": "Patient", "id": id, "birthDate": "1941-03-07",
            "identifier": [{ "system": "urn:test:mrn", "value": "MRN-0081277" }],
            "name": [{ "family": "Quandt", "given": ["Ottilie"] }],
            "telecom": [
                { "system": "email", "value": ADDRESS, "rank": 1 },
                { "system": "phone", "value": "+1-617-555-0142", "rank": 2 }
            ],
            "address": [{ "line": ["12 Alder Street"], "city": "Ashbrook", "postalCode": "01991" }]
        });
        for (name, value) in change {
            patient[*name] = value.clone();
        }
        self.put(&id, patient).await;
        id
    }

    /// Writes a resource of a patient, as its next version.
    pub async fn put(&self, patient: &str, resource: Value) {
        let mut resource = Resource::from_value(resource).expect("a resource");
        resource.strip_meta();
        let permit = self.hospital(patient).await;
        let id = resource.id().expect("an id").to_owned();
        let found = self
            .trust
            .vault()
            .load(&permit, resource.kind(), &id)
            .await
            .expect("loaded");
        let expected = found.map_or(Expected::Absent, |found| Expected::Version(found.version));
        let unit = Unit {
            changes: vec![Change::Put { resource, expected }],
            ..Unit::default()
        };
        self.trust
            .vault()
            .commit(&permit, unit)
            .await
            .expect("committed");
    }

    /// A `Consent` to messages with this status.
    pub async fn consent(&self, patient: &str, status: &str) {
        let id = self
            .trust
            .vault()
            .ledger()
            .mint_id(TENANT, &Owner::Patient(patient.to_owned()));
        let resource = json!({
            "resourceType": "Consent", "id": id, "status": status,
            "scope": { "coding": [{ "system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy" }] },
            "category": [{ "coding": [{ "system": "urn:cairn:consent-category", "code": "care-messages" }] }],
            "patient": { "reference": format!("Patient/{patient}") },
            "dateTime": fhir::date::instant(self.trust.vault().ledger().clock().now_ms()),
            "provision": {
                "type": "permit",
                "purpose": [{ "system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "TREAT" }]
            }
        });
        self.put(patient, resource).await;
    }

    /// Queues a message as a journey does. Returns the id of its `Communication`.
    pub async fn queue(&self, patient: &str, change: impl FnOnce(&mut Message)) -> String {
        self.queue_for(patient, 0, change).await
    }

    /// Queues a message that is due after a while.
    pub async fn queue_for(
        &self,
        patient: &str,
        after_ms: u64,
        change: impl FnOnce(&mut Message),
    ) -> String {
        let owner = Owner::Patient(patient.to_owned());
        let ledger = self.trust.vault().ledger();
        let communication = ledger.mint_id(TENANT, &owner);
        let mut message = Message {
            patient: patient.to_owned(),
            proxy: None,
            communication: communication.clone(),
            channel: "email".to_owned(),
            purpose: "TREAT".to_owned(),
            about: Vec::new(),
            subject: "A message from your care team".to_owned(),
            text: TEXT.to_owned(),
            link_path: format!("/portal/inbox/{communication}"),
            journey: "heart-failure-discharge/1".to_owned(),
            step: "welcome".to_owned(),
            expires_ms: None,
            hours: None,
            sort: None,
            unanswered: 0,
            language: None,
            script: None,
            segments: None,
            question: None,
            visit: None,
            while_admitted: trust::outgoing::WhileAdmitted::Send,
        };
        change(&mut message);
        let (medium, channel) = match message.channel.as_str() {
            "sms" if message.question.is_some() => ("SMSWRIT", CHANNEL_QUESTION),
            "sms" => ("SMSWRIT", CHANNEL_SMS),
            "push" => ("PUSH", CHANNEL_PUSH),
            "letter" => ("MAILWRIT", CHANNEL_LETTER),
            "voice" => ("PHONE", CHANNEL_VOICE),
            _ => ("EMAILWRIT", CHANNEL_EMAIL),
        };
        let resource = Resource::from_value(json!({
            "resourceType": "Communication", "id": communication, "status": "preparation",
            "identifier": [{ "system": trust::conventions::INSTANCE_SYSTEM, "value": "one" }],
            "subject": { "reference": format!("Patient/{patient}") },
            "medium": [{ "coding": [{ "system": trust::conventions::MEDIUM_SYSTEM, "code": medium }] }],
            "topic": { "text": "How you are" },
            "payload": [{ "contentString": "How are you today?" }]
        }))
        .expect("a resource");
        let change = Change::Put {
            resource,
            expected: Expected::Absent,
        };
        self.queue_body_for(
            patient,
            after_ms,
            (channel, serde_json::to_vec(&message).expect("JSON")),
            vec![change],
        )
        .await;
        communication
    }

    /// Queues whatever this is, with changes in the same commit.
    pub async fn queue_body(&self, patient: &str, body: Vec<u8>, changes: Vec<Change>) {
        let body = (CHANNEL_EMAIL, body);
        self.queue_body_for(patient, 0, body, changes).await;
    }

    async fn queue_body_for(
        &self,
        patient: &str,
        after_ms: u64,
        (channel, body): (u16, Vec<u8>),
        changes: Vec<Change>,
    ) {
        let owner = Owner::Patient(patient.to_owned());
        let ledger = self.trust.vault().ledger();
        let mut id = [0; 16];
        SystemEntropy.fill(&mut id);
        let due_ms = ledger.clock().now_ms() + after_ms;
        let key = OutboxKey {
            shard: ledger.shard_of(TENANT, &owner, patient),
            due_ms,
            id,
        };
        let draft = OutboxDraft {
            key,
            owner,
            channel,
            attempt: 0,
            body,
        };
        let unit = Unit {
            changes,
            outbox_add: vec![draft],
            patient: Some(patient.to_owned()),
            ..Unit::default()
        };
        let permit = self.journey(patient).await;
        self.trust
            .vault()
            .commit(&permit, unit)
            .await
            .expect("committed");
    }

    /// The `Communication` now.
    pub async fn communication(&self, patient: &str, id: &str) -> Value {
        let permit = self.journey(patient).await;
        let found = self
            .trust
            .vault()
            .load(&permit, ResourceType::Communication, id)
            .await
            .expect("loaded");
        found.expect("a Communication").resource.into_value()
    }

    /// The organisation has another key for push services from now on.
    pub async fn change_push_key(&self) {
        use base64::Engine as _;
        let ledger = self.trust.vault().ledger();
        let made = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING);
        let made = made.and_then(|pair| pair.to_pkcs8v1()).expect("a key");
        let secret = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(made.as_ref());
        let id = ledger.derive_own_id(TENANT, "push key");
        let mut commit = ledger::Commit::new(TENANT);
        commit.audit = Some(ledger::AuditDraft {
            kind: ledger::Kind(ResourceType::AuditEvent.code()),
            id: ledger.mint_own_id(TENANT),
            shard: ledger::Shard(0),
            body: b"{}".to_vec(),
            parts: Vec::new(),
            tokens: Vec::new(),
        });
        commit.documents = vec![ledger::Draft {
            kind: ledger::Kind(1141),
            id,
            owner: Owner::Tenant,
            expected: Expected::Version(1),
            body: json!({ "secret": secret }).to_string().into_bytes(),
            deleted: false,
            tokens: Vec::new(),
        }];
        ledger.commit(commit).await.expect("committed");
    }

    /// Whether a text stands as it is in any file of the store.
    pub fn holds(&self, text: &str) -> bool {
        let (mut folders, mut looked) = (vec![self.folder.path().to_owned()], 0);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let bytes = std::fs::read(path).expect("a file");
                looked += bytes.len();
                let mut windows = bytes.windows(text.len());
                if windows.any(|window| window == text.as_bytes()) {
                    return true;
                }
            }
        }
        assert!(looked > 0, "the store has no files");
        false
    }

    /// All outbox entries, due or not.
    pub async fn outbox(&self) -> Vec<OutboxEntry> {
        let ledger = self.trust.vault().ledger();
        let mut all = Vec::new();
        for channel in [
            CHANNEL_EMAIL,
            CHANNEL_SMS,
            CHANNEL_PUSH,
            CHANNEL_QUESTION,
            CHANNEL_LETTER,
            CHANNEL_VOICE,
            CHANNEL_LETTER_BATCH,
            CHANNEL_VOICE_BATCH,
        ] {
            let due = ledger.outbox_due(channel, u64::MAX, 10_000).await;
            all.extend(due.expect("the outbox"));
        }
        all
    }

    /// Puts an entry into the outbox once more, due so much later, as of a message that was held and let go.
    pub async fn queue_again(&self, patient: &str, entry: &OutboxEntry, after_ms: u64) {
        let mut key = entry.key;
        SystemEntropy.fill(&mut key.id);
        key.due_ms += after_ms;
        let draft = OutboxDraft {
            key,
            owner: Owner::Patient(patient.to_owned()),
            channel: entry.channel,
            attempt: 0,
            body: entry.body.clone(),
        };
        let unit = Unit {
            outbox_add: vec![draft],
            patient: Some(patient.to_owned()),
            ..Unit::default()
        };
        let permit = self.journey(patient).await;
        let committed = self.trust.vault().commit(&permit, unit).await;
        committed.expect("committed");
    }

    /// Waits until the `Communication` has this status.
    pub async fn wait_for(&self, patient: &str, id: &str, status: &str) -> Value {
        self.wait_until(patient, id, &format!("status {status}"), |found| {
            found["status"] == status
        })
        .await
    }

    /// Waits until attempt number `attempt` has been put off.
    pub async fn wait_put_off(&self, patient: &str, id: &str, attempt: u32) -> Value {
        let wanted = format!("Attempt {attempt} put off");
        let found = self
            .wait_until(patient, id, &wanted, |found| {
                found["statusReason"]["text"]
                    .as_str()
                    .is_some_and(|text| text.starts_with(&wanted))
            })
            .await;
        assert_eq!(found["status"], "preparation");
        found
    }

    async fn wait_until(
        &self,
        patient: &str,
        id: &str,
        what: &str,
        test: impl Fn(&Value) -> bool,
    ) -> Value {
        let mut patience = Patience::new();
        loop {
            let found = self.communication(patient, id).await;
            if test(&found) {
                return found;
            }
            patience.wait(&format!("no {what}: {found}")).await;
        }
    }

    /// Moves the clock to the next attempt.
    pub async fn to_next_attempt(&self) {
        let entries = self.outbox().await;
        let due_ms = entries
            .iter()
            .map(|entry| entry.key.due_ms)
            .max()
            .expect("something to be sent");
        self.clock.set(due_ms);
    }
}

/// Fails when a server's words or an address got into the `Communication`.
pub fn assert_clean(communication: &Value) {
    let text = communication["statusReason"].to_string();
    for detail in ["@", "example.com", "uandt", "peer.example"] {
        assert!(!text.contains(detail), "{detail} in {text}");
    }
}
