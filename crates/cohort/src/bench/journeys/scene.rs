//! A store in a folder with some tenants, each with its journeys followed as the server follows them,
//! and patients to lead.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fhir::Resource;
use journey::Journeys;
use ledger::{
    Clock, Expected, Ledger, Location, OpenOptions, Owner, RootKey, SystemClock, SystemEntropy,
    TenantId,
};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use trust::{Action, Agent, Change, Permit, Purpose, Role, Target, Trust, TrustOptions, Unit};

/// The class of a stay that starts none of the journeys here.
pub(super) const STARTS_NOTHING: &str = "NONAC";
/// Patients that are written in one unit, and units at once, before anything is measured.
const PEOPLE_AT_ONCE: usize = 50;
const UNITS_AT_ONCE: usize = 8;
/// Seven letters a name, so that all patients weigh the same.
const NAMES: [&str; 4] = ["Ottilie", "Annelie", "Leopold", "Theodor"];

/// The system's clock, set ahead by some time: what is due tomorrow can be waited for today.
#[derive(Debug, Clone, Default)]
pub(super) struct Ahead(Arc<AtomicU64>);

impl Ahead {
    pub(super) fn jump(&self, by_ms: u64) {
        self.0.fetch_add(by_ms, Ordering::SeqCst);
    }
}

impl Clock for Ahead {
    fn now_ms(&self) -> u64 {
        SystemClock.now_ms() + self.0.load(Ordering::SeqCst)
    }
    fn real_wait(&self, until_ms: u64) -> Duration {
        Duration::from_millis(until_ms.saturating_sub(self.now_ms()))
    }
}

/// Who asks for a permit, and what for.
pub(super) struct Asks {
    name: &'static str,
    role: Role,
    purpose: Purpose,
    action: Action,
}

/// Writes what other systems write.
const IMPORTER: Asks = Asks {
    name: "importer",
    role: Role::System,
    purpose: Purpose::Operations,
    action: Action::Import,
};
const SQUAD: Asks = Asks {
    name: "bench",
    role: Role::Squad,
    purpose: Purpose::Operations,
    action: Action::Publish,
};
/// Reads what other systems read.
pub(super) const READER: Asks = Asks {
    name: "bench",
    role: Role::Client,
    purpose: Purpose::Treatment,
    action: Action::Read,
};

/// One tenant.
pub(super) struct Ward {
    pub(super) tenant: TenantId,
    pub(super) trust: Trust,
    pub(super) journeys: Journeys,
    /// Looks at the journeys' own documents.
    pub(super) engine: Permit,
}

impl Ward {
    async fn new(ledger: &Ledger, tenant: TenantId) -> Result<Self> {
        let trust = Trust::new(TrustOptions {
            ledger: ledger.only(tenant),
            wall_clock: Arc::new(SystemClock),
            policy_folder: None,
            session_idle_s: 900,
            session_absolute_s: 43_200,
        })?;
        let agent = Agent::system(tenant, "journey-engine");
        let engine = (Purpose::CareManagement, Action::Orchestrate);
        let engine = trust
            .decide(&agent, engine.0, engine.1, Target::default(), "bench")
            .await?;
        Ok(Self {
            tenant,
            journeys: Journeys::new(trust.clone()),
            trust,
            engine,
        })
    }

    /// A permit for one request, as each request has its own.
    pub(super) async fn permit(&self, asks: &Asks) -> Result<Permit> {
        let agent = Agent {
            role: asks.role,
            ..Agent::system(self.tenant, asks.name)
        };
        let target = Target::default();
        let permit = self
            .trust
            .decide(&agent, asks.purpose, asks.action, target, "bench");
        Ok(permit.await?)
    }

    pub(super) async fn publish(&self, source: &str) -> Result<()> {
        let permit = self.permit(&SQUAD).await?;
        self.journeys.publish(&permit, source).await?;
        Ok(())
    }

    /// The same tenant for a client of its own, which follows nothing.
    pub(super) async fn beside(&self, ledger: &Ledger) -> Result<Self> {
        Self::new(ledger, self.tenant).await
    }

    /// How many journeys are under way and over.
    pub(super) async fn counts(&self) -> Result<(u64, u64)> {
        let agent = Agent::system(self.tenant, "bench");
        let counts = self.journeys.counts(&agent).await?;
        Ok(counts.iter().fold((0, 0), |sum, (_, _, running, ended)| {
            (sum.0 + running, sum.1 + ended)
        }))
    }

    /// Writes patients, each with a consent, and gives their ids.
    pub(super) async fn people(&self, count: usize) -> Result<Vec<String>> {
        let ledger = self.trust.vault().ledger();
        let ids: Vec<String> = (0..count)
            .map(|_| ledger.mint_own_id(self.tenant))
            .collect();
        let mut units = JoinSet::new();
        for (number, chunk) in ids.chunks(PEOPLE_AT_ONCE).enumerate() {
            if units.len() >= UNITS_AT_ONCE {
                units.join_next().await.context("a unit")???;
            }
            let name = NAMES[number % NAMES.len()];
            let rows: Vec<Value> = chunk.iter().flat_map(|id| person(id, name)).collect();
            let (trust, permit) = (self.trust.clone(), self.permit(&IMPORTER).await?);
            units.spawn(async move { put(&trust, &permit, rows).await });
        }
        while let Some(done) = units.join_next().await {
            done??;
        }
        Ok(ids)
    }

    /// An id for a resource of a patient's record.
    pub(super) fn mint(&self, patient: &str) -> String {
        let owner = Owner::Patient(patient.to_owned());
        self.trust.vault().ledger().mint_id(self.tenant, &owner)
    }

    pub(super) async fn put(&self, resource: Value) -> Result<()> {
        let permit = self.permit(&IMPORTER).await?;
        put(&self.trust, &permit, vec![resource]).await
    }

    /// A stay of a class that is over at a time: what starts the journeys here.
    pub(super) fn stay(&self, patient: &str, class: &str, end_ms: u64) -> Value {
        let begin_ms = end_ms.saturating_sub(2 * 86_400_000);
        json!({"resourceType": "Encounter", "id": self.mint(patient), "status": "finished",
            "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": class},
            "subject": {"reference": format!("Patient/{patient}")},
            "period": {"start": fhir::date::instant(begin_ms), "end": fhir::date::instant(end_ms)}})
    }
}

async fn put(trust: &Trust, permit: &Permit, resources: Vec<Value>) -> Result<()> {
    let mut unit = Unit::default();
    for resource in resources {
        unit.changes.push(Change::Put {
            resource: Resource::from_value(resource)?,
            expected: Expected::Absent,
        });
    }
    trust.vault().commit(permit, unit).await?;
    Ok(())
}

fn person(id: &str, name: &str) -> [Value; 2] {
    let coding = |system: &str, code: &str| json!({"coding": [{"system": system, "code": code}]});
    let scope = "http://terminology.hl7.org/CodeSystem/consentscope";
    let consent = json!({"resourceType": "Consent", "id": format!("c-{id}"), "status": "active",
        "scope": coding(scope, "patient-privacy"), "category": [coding("http://loinc.org", "59284-0")],
        "policyRule": coding("http://terminology.hl7.org/CodeSystem/v3-ActCode", "OPTIN"),
        "patient": {"reference": format!("Patient/{id}")}, "dateTime": "2026-01-01", "provision": {"type": "permit"}});
    let patient = json!({"resourceType": "Patient", "id": id, "name": [{"family": "Quandt", "given": [name]}],
        "birthDate": "1941-03-07"});
    [patient, consent]
}

/// The store and its tenants.
pub(super) struct Scene {
    pub(super) clock: Ahead,
    pub(super) ledger: Ledger,
    pub(super) wards: Vec<Arc<Ward>>,
    following: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
}

impl Scene {
    /// Makes a store with so many tenants, or opens the one that is there.
    pub(super) async fn open(folder: &Path, clock: &Ahead, tenants: u32) -> Result<Self> {
        let ledger = Ledger::open(OpenOptions {
            location: Location::Folder(folder.to_path_buf()),
            root_key: RootKey::from_bytes([7; 32]),
            clock: Arc::new(clock.clone()),
            entropy: Arc::new(SystemEntropy),
            dictionary: cairn::dictionaries::dictionaries(),
            cache_bytes: 256 << 20,
        })?;
        let mut wards = Vec::new();
        for number in 1..=tenants {
            let tenant = TenantId(number);
            ledger.create_tenant(tenant).await?;
            wards.push(Arc::new(Ward::new(&ledger, tenant).await?));
        }
        ensure!(!wards.is_empty(), "there are no tenants");
        Ok(Self {
            clock: clock.clone(),
            ledger,
            wards,
            following: Vec::new(),
            stop: watch::Sender::new(false),
        })
    }

    /// Lets everybody's journeys be followed, as a server does.
    pub(super) fn follow(&mut self) {
        for ward in &self.wards {
            let (journeys, tenant) = (ward.journeys.clone(), ward.tenant);
            let stopped = self.stop.subscribe();
            let task = tokio::spawn(async move { journeys.run(tenant, stopped).await });
            self.following.push(task);
        }
    }

    /// Ends what follows, then closes the store, as the server does.
    pub(super) async fn close(self) -> Result<()> {
        self.stop.send_replace(true);
        for task in self.following {
            task.await?;
        }
        self.ledger.close().await?;
        Ok(())
    }
}
