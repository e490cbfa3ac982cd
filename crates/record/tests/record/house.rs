//! A record over a real trust and ledger in a temporary folder.
use std::sync::Arc;

use fhir::ResourceType;
use ledger::{Clock, Ledger, Location, ManualClock, OpenOptions, RootKey, SystemEntropy, TenantId};
use record::{Answer, Caller, PreferReturn, Record, RecordError};
use serde_json::{Value, json};
use tempfile::TempDir;
use trust::{Agent, Purpose, Role, Trust, TrustOptions};

/// 2026-11-26T00:00:00Z.
pub const NOW_MS: u64 = 1_795_651_200_000;
pub const BASE: &str = "http://127.0.0.1:8080/fhir/r4";
pub const TENANT: TenantId = TenantId(1);

pub struct House {
    pub folder: TempDir,
    pub clock: ManualClock,
    pub ledger: Ledger,
    pub trust: Trust,
    pub record: Record,
}

impl House {
    pub async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = ManualClock::new(NOW_MS);
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let ledger = Ledger::open(OpenOptions {
            location: Location::Folder(folder.path().join("store")),
            root_key: RootKey::from_bytes([7; 32]),
            clock: shared.clone(),
            entropy: Arc::new(SystemEntropy),
            dictionary: Vec::new(),
            cache_bytes: 16 << 20,
        })
        .unwrap();
        ledger.create_tenant(TENANT).await.unwrap();
        let trust = Trust::new(TrustOptions {
            ledger: ledger.clone(),
            wall_clock: shared,
            policy_folder: None,
            session_idle_s: 900,
            session_absolute_s: 43_200,
        })
        .unwrap();
        let record = Record::new(trust.clone());
        Self {
            folder,
            clock,
            ledger,
            trust,
            record,
        }
    }
    pub fn importer() -> Agent {
        Agent::system(TENANT, "importer")
    }
    /// Creates a resource and says its id.
    pub async fn create(&self, value: &Value) -> String {
        let answer = self
            .record
            .create(&client(), kind_of(value), value.to_string().as_bytes())
            .await
            .unwrap();
        assert_eq!(answer.status, 201);
        json_of(&answer)["id"].as_str().unwrap().to_owned()
    }
    pub async fn patient(&self, family: &str) -> String {
        self.create(&json!({"resourceType": "Patient", "name": [{"family": family}]}))
            .await
    }
    pub async fn read(&self, kind: ResourceType, id: &str) -> Value {
        json_of(&self.record.read(&client(), kind, id).await.unwrap())
    }
    pub async fn bundle(
        &self,
        caller: &Caller,
        kind: &str,
        entries: Vec<Value>,
    ) -> Result<Value, RecordError> {
        let bundle = json!({"resourceType": "Bundle", "type": kind, "entry": entries});
        self.record
            .bundle(caller, bundle.to_string().as_bytes())
            .await
            .map(|answer| json_of(&answer))
    }
    pub async fn find(&self, kind: ResourceType, query: &str) -> Value {
        json_of(
            &self
                .record
                .search(&client(), kind, &pairs(query))
                .await
                .unwrap(),
        )
    }
    pub async fn count(&self, kind: ResourceType) -> u64 {
        self.find(kind, "_count=1&_total=accurate").await["total"]
            .as_u64()
            .unwrap()
    }
    /// A file in the temporary folder.
    pub fn file(&self, name: &str, bytes: &[u8]) -> std::path::PathBuf {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

/// A system that reads and writes for treatment.
pub fn client() -> Caller {
    caller(Role::Client, Purpose::Treatment)
}

pub fn caller(role: Role, purpose: Purpose) -> Caller {
    Caller {
        agent: Agent {
            tenant: TENANT,
            id: "test".to_owned(),
            name: "Test".to_owned(),
            role,
            patient: None,
            access: None,
            signed_in: trust::SignedIn::default(),
        },
        purpose,
        request_id: "request".to_owned(),
        base: BASE.to_owned(),
        lenient: false,
        freshness: trust::Freshness::default(),
        prefer_return: PreferReturn::Representation,
        once: None,
    }
}

pub fn minimal() -> Caller {
    Caller {
        prefer_return: PreferReturn::Minimal,
        ..client()
    }
}

pub fn json_of(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap()
}

pub fn kind_of(value: &Value) -> ResourceType {
    ResourceType::parse(value["resourceType"].as_str().unwrap()).unwrap()
}

pub fn pairs(query: &str) -> Vec<(String, String)> {
    let pair = |part: &str| {
        part.split_once('=')
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
    };
    query.split('&').filter_map(pair).collect()
}

/// The pairs of a link of a bundle, with percent-encoding undone.
pub fn link(bundle: &Value, relation: &str) -> Option<Vec<(String, String)>> {
    let links = bundle["link"].as_array()?;
    let url = links.iter().find(|link| link["relation"] == relation)?["url"].as_str()?;
    let query = url.split_once('?').map_or("", |(_, query)| query);
    Some(pairs(&query.replace("%7C", "|")))
}

/// Status and first issue code of an error, after checking that its body is an outcome.
#[track_caller]
pub fn wrong<T: std::fmt::Debug>(result: Result<T, RecordError>) -> (u16, String) {
    let error = result.unwrap_err();
    let outcome: Value = serde_json::from_slice(&error.to_json()).unwrap();
    assert_eq!(outcome["resourceType"], "OperationOutcome");
    (
        error.status,
        outcome["issue"][0]["code"].as_str().unwrap().to_owned(),
    )
}

pub fn observation(patient: &str, code: &str) -> Value {
    json!({
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "subject": {"reference": format!("Patient/{patient}")},
    })
}
