//! Tests over a real store: what goes through the whole crate.

mod asked;
mod audit;
pub(crate) mod balp;
mod consents;
mod denied;
mod every_way;
mod exported;
mod limits;
mod linked;
mod necessary;
mod playing;
mod quantities;
mod relations;
mod scoped;
mod search;
mod shelved;
mod sorted;
mod vault;

use std::sync::Arc;

use fhir::search::SearchQuery;
use fhir::{Resource, ResourceType};
use ledger::{
    Expected, Hit, Ledger, Location, ManualClock, Number, OpenOptions, RootKey, SystemEntropy,
    TenantId,
};
use serde_json::{Value, json};

use crate::{
    Action, Agent, Change, PageAt, Permit, Purpose, Role, SearchPage, Target, Trust, TrustError,
    TrustOptions, Unit, Vault, Versioned,
};

pub(crate) const TENANT: TenantId = TenantId(1);
pub(crate) const OTHER: TenantId = TenantId(2);
/// 2026-06-15T12:00Z.
pub(crate) const NOW_MS: u64 = 1_781_524_800_000;

/// A store with two tenants, and clocks that stand still.
pub(crate) struct House {
    pub(crate) trust: Trust,
    pub(crate) care: ManualClock,
    pub(crate) wall: ManualClock,
    _folder: tempfile::TempDir,
}

impl House {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (care, wall) = (ManualClock::new(NOW_MS), ManualClock::new(NOW_MS));
        let ledger = Ledger::open(OpenOptions {
            location: Location::Folder(folder.path().to_owned()),
            root_key: RootKey::from_bytes([7; 32]),
            clock: Arc::new(care.clone()),
            entropy: Arc::new(SystemEntropy),
            dictionary: Vec::new(),
            cache_bytes: 8 << 20,
        })
        .unwrap();
        ledger.create_tenant(TENANT).await.unwrap();
        ledger.create_tenant(OTHER).await.unwrap();
        let trust = Self::trust_over(ledger, &wall);
        Self {
            trust,
            care,
            wall,
            _folder: folder,
        }
    }
    /// What a restart makes: nothing in memory.
    pub(crate) fn trust_over(ledger: Ledger, wall: &ManualClock) -> Trust {
        Trust::new(TrustOptions {
            ledger,
            wall_clock: Arc::new(wall.clone()),
            policy_folder: None,
            session_idle_s: 900,
            session_absolute_s: 12 * 3600,
        })
        .unwrap()
    }
    pub(crate) fn vault(&self) -> &Vault {
        self.trust.vault()
    }
    pub(crate) fn ledger(&self) -> &Ledger {
        self.vault().ledger()
    }
    pub(crate) async fn permit(
        &self,
        agent: &Agent,
        purpose: Purpose,
        action: Action,
    ) -> Result<Permit, TrustError> {
        self.trust
            .decide(agent, purpose, action, Target::default(), "r")
            .await
    }
    pub(crate) async fn importer(&self, tenant: TenantId) -> Permit {
        let importer = Agent::system(tenant, "importer");
        self.permit(&importer, Purpose::Operations, Action::Import)
            .await
            .unwrap()
    }
    pub(crate) fn now_ms(&self) -> u64 {
        use ledger::Clock as _;
        self.care.now_ms()
    }
    pub(crate) fn wall_ms(&self) -> u64 {
        use ledger::Clock as _;
        self.wall.now_ms()
    }
    /// Writes resources as an import does.
    pub(crate) async fn put(&self, values: impl IntoIterator<Item = Value>) -> Vec<Hit> {
        self.put_for(TENANT, values).await
    }
    pub(crate) async fn put_for(
        &self,
        tenant: TenantId,
        values: impl IntoIterator<Item = Value>,
    ) -> Vec<Hit> {
        let permit = self.importer(tenant).await;
        let mut places = Vec::new();
        for value in values {
            let resource = Resource::from_value(value).unwrap();
            let id = resource.id().unwrap().to_owned();
            let loaded = self
                .vault()
                .load(&permit, resource.kind(), &id)
                .await
                .unwrap();
            let expected = loaded.map_or(Expected::Absent, |row| Expected::Version(row.version));
            let unit = Unit {
                changes: vec![Change::Put { resource, expected }],
                ..Unit::default()
            };
            let receipt = self.vault().commit(&permit, unit).await.unwrap();
            places.push(receipt.changes[0].at);
        }
        places
    }
    /// How many audit records there are of a tenant.
    pub(crate) async fn audits(&self, tenant: TenantId) -> usize {
        self.audit_events(tenant).await.len()
    }
    /// All audit records, newest first, around the vault.
    pub(crate) async fn audit_events(&self, tenant: TenantId) -> Vec<Resource> {
        let ledger = self.ledger();
        let kind = crate::tokens::kind(ResourceType::AuditEvent);
        let query = ledger::Query::Token(ledger.kind_token(tenant, kind));
        let hits = ledger
            .search(tenant, &query, None, None, 100_000)
            .await
            .unwrap();
        let mut events = Vec::new();
        for hit in hits {
            let stored = ledger.fetch(tenant, hit).await.unwrap().unwrap();
            events.push(Resource::parse(&stored.body).unwrap());
        }
        events
    }
}

pub(crate) fn staff(role: Role) -> Agent {
    Agent {
        tenant: TENANT,
        id: format!("account-{}", role.name()),
        name: format!("Some {}", role.name()),
        role,
        patient: None,
        access: None,
        signed_in: crate::SignedIn::default(),
    }
}

pub(crate) fn patient(id: &str) -> Agent {
    Agent {
        id: format!("account-of-{id}"),
        name: String::new(),
        patient: Some(id.to_owned()),
        ..staff(Role::Patient)
    }
}

pub(crate) fn query(kind: ResourceType, parameters: &[(&str, &str)]) -> SearchQuery {
    let parameters: Vec<(String, String)> = parameters
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let mut query = SearchQuery::parse(kind, &parameters, false).unwrap();
    query.at(i64::try_from(NOW_MS).unwrap());
    query
}

pub(crate) fn a_patient(id: &str, family: &str) -> Value {
    json!({
        "resourceType": "Patient",
        "id": id,
        "name": [{"family": family, "given": ["Ann"]}],
        "birthDate": "1950-02-03",
    })
}

pub(crate) fn a_weight(id: &str, patient: &str, date: &str) -> Value {
    json!({
        "resourceType": "Observation",
        "id": id,
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "29463-7"}]},
        "subject": {"reference": format!("Patient/{patient}")},
        "effectiveDateTime": date,
        "valueQuantity": {"value": 80.5, "unit": "kg"},
    })
}

pub(crate) const READ: Action = Action::Read;

pub(crate) async fn clinician(house: &House, action: Action) -> Permit {
    house
        .permit(&staff(Role::Clinician), Purpose::Treatment, action)
        .await
        .unwrap()
}

pub(crate) async fn own(house: &House, id: &str, action: Action) -> Permit {
    house
        .permit(&patient(id), Purpose::PatientRequest, action)
        .await
        .unwrap()
}

pub(crate) async fn auditor(house: &House) -> Permit {
    let officer = staff(Role::PrivacyOfficer);
    house
        .permit(&officer, Purpose::Operations, Action::Audit)
        .await
        .unwrap()
}

pub(crate) fn put(value: Value, expected: Expected) -> Unit {
    let resource = Resource::from_value(value).unwrap();
    Unit {
        changes: vec![Change::Put { resource, expected }],
        ..Unit::default()
    }
}

pub(crate) fn is_refused<T>(result: &Result<T, TrustError>) -> bool {
    matches!(result, Err(TrustError::Refused(_)))
}

/// What a handler's future must be.
#[test]
fn futures_can_move_between_threads() {
    fn sendable<T: Send>(_: T) {}
    #[allow(dead_code, clippy::too_many_arguments)]
    fn check(trust: &Trust, permit: &Permit, query: &SearchQuery, agent: &Agent) {
        let (vault, identity) = (trust.vault(), trust.identity());
        let kind = ResourceType::Patient;
        sendable(trust.decide(
            agent,
            Purpose::Treatment,
            Action::Read,
            Target::default(),
            "",
        ));
        sendable(vault.read(permit, kind, ""));
        sendable(vault.history(permit, kind, "", None, 1));
        sendable(vault.search(permit, query, None));
        sendable(vault.commit(permit, Unit::default()));
        sendable(vault.internals(permit, crate::kinds::IMPORT, &[], None, 1));
        sendable(identity.password(TENANT, "", ""));
        sendable(identity.second_factor("", ""));
        let party = crate::identity::RelyingParty::of("", "").unwrap();
        sendable(identity.passkey(&party, TENANT, "", "", ""));
        sendable(identity.use_link(TENANT, "", ""));
        sendable(identity.session(""));
    }
}

/// A page of texts is the page: the same rows, each as it would be written. As texts come, parts of rows are
/// looked at only; how many of them were parts.
pub(crate) async fn texts_are_the_rows(
    vault: &Vault,
    (permit, query): (&Permit, &SearchQuery),
    before: Option<Number>,
    page: &SearchPage,
) -> usize {
    let first = Number(u64::MAX);
    let at = before.map(|before| PageAt { before, first });
    let texts = vault.search_texts(permit, query, at).await.unwrap();
    let all = |page: &SearchPage| -> Vec<(Hit, u32, String)> {
        let rows = page.rows.iter().chain(&page.included);
        let text = |row: &Versioned| String::from_utf8(row.json().into_owned()).unwrap();
        rows.map(|row| (row.at, row.version, text(row))).collect()
    };
    let whole = (all(page), page.total, page.next);
    assert_eq!(
        (all(&texts), texts.total, texts.next),
        whole,
        "{:?}",
        query.used
    );
    texts.rows.iter().filter(|row| row.text.is_some()).count()
}

/// A purpose of one's own, a kind of operations.
pub(crate) fn foo_bar() -> Purpose {
    let is = Purpose::Operations;
    let own = crate::OwnPurpose::of("urn:purposes", "FooBar", "the FooBar project", is);
    Purpose::Own(own.unwrap())
}
