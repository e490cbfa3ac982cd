//! The audit: what happened, as FHIR R4 `AuditEvent` in the patterns of IHE BALP.
//!
//! One event is one leaf, however many resources an answer holds. Every patient concerned is an
//! entity of its own, so that each finds it among theirs; of other resources at most
//! [`RESOURCES_MAX`] are listed, and the rest are counted, all together and for each patient.
//!
//! BALP's agent "client" (the app, with its network address) is missing because this crate isn't told
//! of it, which is why events don't claim the profiles in `meta.profile`.
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fhir::{Resource, ResourceType};
use ledger::{AuditDraft, Clock, Commit, Kind, Ledger, LedgerError, Owner, Receipt};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::{Action, Agent, Purpose, Role, tokens};

/// The most resources that one event lists, besides patients. A page of a search has up to 1,000
/// rows; listing them all would make the audit larger than what is audited.
const RESOURCES_MAX: usize = 100;
/// Clocks that are this far apart are both recorded.
const CLOCKS_APART_MS: u64 = 1000;

const REST: &str = "http://terminology.hl7.org/CodeSystem/audit-event-type";
const INTERACTION: &str = "http://hl7.org/fhir/restful-interaction";
const DICOM: &str = "http://dicom.nema.org/resources/ontology/DCM";
const ENTITY_TYPE: &str = "http://terminology.hl7.org/CodeSystem/audit-entity-type";
const ENTITY_ROLE: &str = "http://terminology.hl7.org/CodeSystem/object-role";
const BALP_ENTITY: &str = "https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType";
const PARTICIPATION: &str = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType";
/// What this server adds to FHIR's interactions.
const EVENT: &str = "urn:cairn:audit-event";
/// Identifier system of accounts, clients and parts of Cairn in `agent.who`.
const AGENT: &str = "urn:cairn:agent";

/// What sort of event it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Event {
    kind: (&'static str, &'static str, &'static str),
    subtype: (&'static str, &'static str),
    /// C, R, U, D or E.
    action: &'static str,
}

impl Event {
    const fn rest(code: &'static str, action: &'static str) -> Self {
        Self {
            kind: (REST, "rest", "RESTful Operation"),
            subtype: (INTERACTION, code),
            action,
        }
    }
    const fn own(code: &'static str, action: &'static str) -> Self {
        Self {
            kind: (REST, "rest", "RESTful Operation"),
            subtype: (EVENT, code),
            action,
        }
    }
    pub(crate) const READ: Self = Self::rest("read", "R");
    pub(crate) const VREAD: Self = Self::rest("vread", "R");
    pub(crate) const HISTORY: Self = Self::rest("history-instance", "R");
    // BALP: a query is executed (E), not read.
    pub(crate) const SEARCH: Self = Self::rest("search-type", "E");
    pub(crate) const CREATE: Self = Self::rest("create", "C");
    pub(crate) const UPDATE: Self = Self::rest("update", "U");
    pub(crate) const DELETE: Self = Self::rest("delete", "D");
    pub(crate) const TRANSACTION: Self = Self::rest("transaction", "E");
    pub(crate) const JOURNEY: Self = Self::own("journey", "R");
    pub(crate) const LOGIN: Self = Self {
        kind: (DICOM, "110114", "User Authentication"),
        subtype: (DICOM, "110122"),
        action: "E",
    };
    pub(crate) const LOGOUT: Self = Self {
        kind: (DICOM, "110114", "User Authentication"),
        subtype: (DICOM, "110123"),
        action: "E",
    };
    pub(crate) const SESSION_KEPT: Self = Self {
        kind: (DICOM, "110114", "User Authentication"),
        subtype: (EVENT, "session-kept"),
        action: "E",
    };
    pub(crate) const ACCOUNT_CHANGED: Self = Self {
        kind: (DICOM, "110113", "Security Alert"),
        subtype: (DICOM, "110137"),
        action: "E",
    };
    /// Somebody looked at accounts.
    pub(crate) const ACCOUNTS: Self = Self::own("accounts", "R");
    /// What operators do to the store: see `upkeep.rs`.
    pub(crate) const BACKED_UP: Self = Self::own("backup", "E");
    pub(crate) const RESTORED: Self = Self::own("restore", "E");
    pub(crate) const KEYS_ROTATED: Self = Self::own("keys-rotated", "U");
    pub(crate) const OUTBOX: Self = Self::own("outbox", "U");
    /// What was over has been removed.
    pub(crate) const SWEPT: Self = Self::own("swept", "D");

    /// The event of an action as such, e.g. one that is refused.
    pub(crate) fn of(action: Action) -> Self {
        match action {
            Action::Read => Self::READ,
            Action::Search => Self::SEARCH,
            Action::History => Self::HISTORY,
            Action::Create => Self::CREATE,
            Action::Update => Self::UPDATE,
            Action::Delete => Self::DELETE,
            Action::Transaction => Self::TRANSACTION,
            Action::Administer => Self::ACCOUNT_CHANGED,
            Action::Import
            | Action::Work
            | Action::Audit
            | Action::Publish
            | Action::Observe
            | Action::Send
            | Action::Orchestrate
            | Action::Invite => Self::own(action.name(), "E"),
        }
    }
}

/// How it came out (`audit-event-outcome`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Success,
    /// Not there.
    Missed,
    /// Not allowed.
    Refused,
}

/// A resource that was looked at or written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Touched {
    pub(crate) kind: ResourceType,
    pub(crate) id: String,
    pub(crate) version: Option<u32>,
    pub(crate) patient: Option<String>,
    /// `create`, `update` or `delete`, where the event is a transaction of several.
    pub(crate) interaction: Option<&'static str>,
}

/// One event to be recorded.
#[derive(Debug, Clone)]
pub(crate) struct Record<'a> {
    pub(crate) agent: &'a Agent,
    pub(crate) event: Event,
    pub(crate) purpose: Option<Purpose>,
    pub(crate) because: &'a [String],
    pub(crate) request_id: &'a str,
    pub(crate) outcome: Outcome,
    /// A sentence without patient details.
    pub(crate) note: Option<&'a str>,
    pub(crate) patients: BTreeSet<String>,
    pub(crate) resources: Vec<Touched>,
    /// The query of a search. It may hold a patient's details, which is why only auditors see it.
    pub(crate) queries: Vec<String>,
    /// Where the record lies if it concerns no patient and no resource.
    pub(crate) anchor: Option<&'a str>,
}

impl<'a> Record<'a> {
    pub(crate) fn new(agent: &'a Agent, event: Event) -> Self {
        Self {
            agent,
            event,
            purpose: None,
            because: &[],
            request_id: "",
            outcome: Outcome::Success,
            note: None,
            patients: BTreeSet::new(),
            resources: Vec::new(),
            queries: Vec::new(),
            anchor: None,
        }
    }
    pub(crate) fn under(permit: &'a crate::Permit, event: Event) -> Self {
        Self {
            purpose: Some(permit.purpose),
            because: &permit.because,
            request_id: &permit.request_id,
            ..Self::new(&permit.agent, event)
        }
    }
    /// Adds a resource, and its patient.
    pub(crate) fn touch(&mut self, touched: Touched) {
        self.patients.extend(touched.patient.clone());
        self.resources.push(touched);
    }
}

/// Writes audit records. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Auditor {
    ledger: Ledger,
    wall_clock: Arc<dyn Clock>,
}

impl Auditor {
    pub(crate) fn new(ledger: Ledger, wall_clock: Arc<dyn Clock>) -> Self {
        Self { ledger, wall_clock }
    }

    /// Records an event by itself; returns when it is durable.
    pub(crate) async fn commit(&self, record: &Record<'_>) -> Result<Receipt, LedgerError> {
        let mut commit = Commit::new(record.agent.tenant);
        commit.audit = Some(self.draft(record));
        self.ledger.commit(commit).await
    }

    /// The record as a draft, to go into the commit that it is about.
    pub(crate) fn draft(&self, record: &Record<'_>) -> AuditDraft {
        let tenant = record.agent.tenant;
        let kind = Kind(ResourceType::AuditEvent.code());
        // One patient's trail is in one tree, so the record lies beside the patient.
        let anchor = record
            .resources
            .iter()
            .find_map(|touched| touched.patient.as_deref())
            .or_else(|| record.patients.first().map(String::as_str))
            .or_else(|| record.resources.first().map(|touched| touched.id.as_str()))
            .or(record.anchor)
            .unwrap_or(&record.agent.id)
            .to_owned();
        let owner = Owner::Patient(anchor);
        let id = self.ledger.mint_id(tenant, &owner);
        let shard = self.ledger.shard_of(tenant, &owner, &id);
        let event = self.event(&id, record);
        let body = event.to_json();
        AuditDraft {
            kind,
            shard,
            tokens: tokens::of(&self.ledger, tenant, &event),
            parts: entities(&body),
            body,
            id,
        }
    }

    fn event(&self, id: &str, record: &Record<'_>) -> Resource {
        let now_ms = self.ledger.clock().now_ms();
        let wall_ms = self.wall_clock.now_ms();
        let (system, code, display) = record.event.kind;
        let mut event = Resource::new(ResourceType::AuditEvent);
        event.set_id(id);
        event.set(
            "type",
            json!({"system": system, "code": code, "display": display}),
        );
        let (system, code) = record.event.subtype;
        event.set("subtype", json!([{"system": system, "code": code}]));
        event.set("action", record.event.action.into());
        event.set("recorded", fhir::date::instant(now_ms).into());
        let (outcome, words) = match record.outcome {
            Outcome::Success => ("0", None),
            Outcome::Missed => ("4", Some("not found")),
            Outcome::Refused => ("8", Some("refused")),
        };
        event.set("outcome", outcome.into());
        if let Some(words) = record.note.or(words) {
            event.set("outcomeDesc", words.into());
        }
        if let Some(purpose) = record.purpose {
            event.set("purposeOfEvent", json!([purpose_concept(purpose)]));
        }
        event.set("agent", json!([user(record), server(record)]));
        event.set(
            "source",
            json!({
                "observer": {"display": "cairn"},
                "type": [{"system": "http://terminology.hl7.org/CodeSystem/security-source-type", "code": "4", "display": "Application Server"}],
            }),
        );
        let mut details = Vec::new();
        let mut detail =
            |name: &str, value: String| details.push(json!({"type": name, "valueString": value}));
        if now_ms.abs_diff(wall_ms) > CLOCKS_APART_MS {
            detail("wall-clock", fhir::date::instant(wall_ms));
        }
        let (patients, resources): (Vec<_>, Vec<_>) = record
            .resources
            .iter()
            .partition(|touched| touched.kind == ResourceType::Patient);
        if resources.len() > RESOURCES_MAX {
            detail(
                "further-resources",
                (resources.len() - RESOURCES_MAX).to_string(),
            );
        }
        // Each patient is told of their own, so what isn't listed is counted for each of them, too.
        let mut unlisted = BTreeMap::<&str, usize>::new();
        for touched in resources.iter().skip(RESOURCES_MAX) {
            if let Some(patient) = &touched.patient {
                *unlisted.entry(patient).or_default() += 1;
            }
        }
        let mut entities = Vec::with_capacity(record.patients.len() + resources.len() + 2);
        let mut touched_patients: HashMap<&str, &Touched> = HashMap::new();
        for touched in patients {
            touched_patients
                .entry(touched.id.as_str())
                .or_insert(touched);
        }
        for patient in &record.patients {
            let touched = touched_patients.get(patient.as_str());
            let mut details = touched.map_or_else(Vec::new, |touched| touched_details(touched));
            if let Some(count) = unlisted.get(patient.as_str()) {
                details
                    .push(json!({"type": "further-resources", "valueString": count.to_string()}));
            }
            entities.push(entity(
                &format!("Patient/{patient}"),
                ("1", "Person"),
                ("1", "Patient"),
                details,
            ));
        }
        for touched in resources.into_iter().take(RESOURCES_MAX) {
            entities.push(entity(
                &format!("{}/{}", touched.kind, touched.id),
                ("2", "System Object"),
                ("4", "Domain Resource"),
                touched_details(touched),
            ));
        }
        for query in &record.queries {
            entities.push(json!({
                "type": coding(ENTITY_TYPE, "2", "System Object"),
                "role": coding(ENTITY_ROLE, "24", "Query"),
                "query": STANDARD.encode(query),
            }));
        }
        if !record.request_id.is_empty() || !details.is_empty() {
            let mut request = json!({"type": coding(BALP_ENTITY, "XrequestId", "X-Request-Id")});
            if !record.request_id.is_empty() {
                request["what"] = json!({"identifier": {"value": record.request_id}});
            }
            if !details.is_empty() {
                request["detail"] = Value::Array(details);
            }
            entities.push(request);
        }
        if !entities.is_empty() {
            event.set("entity", Value::Array(entities));
        }
        event
    }
}

fn coding(system: &str, code: &str, display: &str) -> Value {
    json!({"system": system, "code": code, "display": display})
}

fn purpose_concept(purpose: Purpose) -> Value {
    json!({"coding": [{"system": Purpose::SYSTEM, "code": purpose.code()}]})
}

fn entity(reference: &str, kind: (&str, &str), role: (&str, &str), details: Vec<Value>) -> Value {
    let mut entity = json!({
        "what": {"reference": reference},
        "type": coding(ENTITY_TYPE, kind.0, kind.1),
        "role": coding(ENTITY_ROLE, role.0, role.1),
    });
    if !details.is_empty() {
        entity["detail"] = Value::Array(details);
    }
    entity
}

fn touched_details(touched: &Touched) -> Vec<Value> {
    let mut details = Vec::new();
    let mut detail =
        |name: &str, value: String| details.push(json!({"type": name, "valueString": value}));
    if let Some(patient) = &touched.patient
        && touched.kind != ResourceType::Patient
    {
        detail("patient", patient.clone());
    }
    if let Some(version) = touched.version {
        detail("version", version.to_string());
    }
    if let Some(interaction) = touched.interaction {
        detail("interaction", interaction.to_owned());
    }
    details
}

/// The one who asked.
fn user(record: &Record<'_>) -> Value {
    let agent = record.agent;
    let (code, display) = if matches!(record.event.action, "C" | "U" | "D") {
        ("AUT", "author (originator)")
    } else {
        ("IRCP", "information recipient")
    };
    let mut who = json!({"identifier": {"system": AGENT, "value": agent.id}});
    if let Some(patient) = &agent.patient {
        who["reference"] = format!("Patient/{patient}").into();
    }
    let mut user = json!({
        "type": {"coding": [coding(PARTICIPATION, code, display)]},
        "role": [{"coding": [{"system": crate::conventions::ROLE_SYSTEM, "code": agent.role.name()}]}],
        "who": who,
        "altId": agent.id,
        "requestor": true,
    });
    if !agent.name.is_empty() && agent.role != Role::Patient {
        user["name"] = agent.name.clone().into();
    }
    if !record.because.is_empty() {
        let policies = record
            .because
            .iter()
            .map(|id| format!("urn:cairn:policy:{id}").into());
        user["policy"] = Value::Array(policies.collect());
    }
    if let Some(purpose) = record.purpose {
        user["purposeOfUse"] = json!([purpose_concept(purpose)]);
    }
    user
}

/// This server. By BALP, data flows from the source to the destination, and a query from the client
/// (source) to the server.
fn server(record: &Record<'_>) -> Value {
    let (code, display) = if record.event.action == "R" {
        ("110153", "Source Role ID")
    } else {
        ("110152", "Destination Role ID")
    };
    json!({
        "type": {"coding": [coding(DICOM, code, display)]},
        "who": {"display": "cairn"},
        "requestor": false,
    })
}

/// The patients that an event concerns, including a patient who acted.
pub(crate) fn patients(event: &Resource) -> impl Iterator<Item = &str> {
    let list = |name: &str| {
        event
            .get(name)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    };
    let entities = list("entity").filter_map(|entity| entity.pointer("/what/reference"));
    let agents = list("agent").filter_map(|agent| agent.pointer("/who/reference"));
    entities
        .chain(agents)
        .filter_map(|reference| reference.as_str()?.strip_prefix("Patient/"))
}

/// Where the elements of `entity` lie in an event's text. The audit tree commits to each by itself,
/// so that a proof for one patient can leave out the others.
pub(crate) fn entities(body: &[u8]) -> Vec<Range<usize>> {
    #[derive(serde::Deserialize)]
    struct Event<'a> {
        #[serde(borrow, default)]
        entity: Vec<&'a RawValue>,
    }
    let Ok(text) = std::str::from_utf8(body) else {
        return Vec::new();
    };
    let Ok(event) = serde_json::from_str::<Event<'_>>(text) else {
        return Vec::new();
    };
    let start = |raw: &RawValue| raw.get().as_ptr() as usize - text.as_ptr() as usize;
    (event.entity.iter())
        .map(|raw| start(raw)..start(raw) + raw.get().len())
        .collect()
}

/// Whether an entity of an event concerns a patient.
fn concerns(entity: &Value, patient: &str) -> bool {
    let details = entity.get("detail").and_then(Value::as_array);
    let of_patient = details.into_iter().flatten().any(|detail| {
        detail.get("type").and_then(Value::as_str) == Some("patient")
            && detail.get("valueString").and_then(Value::as_str) == Some(patient)
    });
    let reference = entity.pointer("/what/reference").and_then(Value::as_str);
    of_patient
        || reference.and_then(|reference| reference.strip_prefix("Patient/")) == Some(patient)
}

/// Whether the text of an entity concerns a patient.
pub(crate) fn concerns_text(entity: &str, patient: &str) -> bool {
    serde_json::from_str(entity).is_ok_and(|entity| concerns(&entity, patient))
}

/// Leaves of an event what concerns one patient: a page that a coordinator saw holds others as well,
/// and a query may name them.
pub(crate) fn keep_only(event: &mut Resource, patient: &str) {
    let Some(Value::Array(entities)) = event.members_mut().get_mut("entity") else {
        return;
    };
    entities.retain(|entity| concerns(entity, patient));
    if entities.is_empty() {
        event.remove("entity");
    }
}
