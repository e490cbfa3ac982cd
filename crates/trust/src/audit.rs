//! The audit: what happened, as FHIR R4 `AuditEvent` in the patterns of IHE BALP.
//!
//! One event is one leaf, however many resources an answer holds. Every patient concerned is an
//! entity of its own, so that each finds it among theirs; of other resources at most
//! [`RESOURCES_MAX`] are listed, which no answer reaches, and the rest of what has more, or more patients than leave room, are counted, all
//! together and for each patient.
//!
//! Of two things BALP has another place: the client's network address is a detail of the request's
//! entity, because patients are shown the agents of what concerns them and not where somebody of the
//! staff worked; the server's address is in none, because it would be the same in all. That is why
//! events don't claim the profiles in `meta.profile` (decision 63).
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use fhir::{Resource, ResourceType};
use ledger::{AuditDraft, Clock, Commit, Kind, Ledger, LedgerError, Owner, Receipt};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::{Action, Agent, Purpose, Role};

mod draft;
pub mod origin;
pub mod told;

/// The most resources that one event lists, besides patients: as many as any answer holds.
const RESOURCES_MAX: usize = if cfg!(test) { 100 } else { 10_000 };
/// Each patient and each listed resource is a search token of its event; so many are left to the rest of it.
const OTHER_TOKENS: usize = 256;
/// Clocks that are this far apart are both recorded.
const CLOCKS_APART_MS: u64 = 1000;

const REST: &str = "http://terminology.hl7.org/CodeSystem/audit-event-type";
const INTERACTION: &str = "http://hl7.org/fhir/restful-interaction";
const DICOM: &str = "http://dicom.nema.org/resources/ontology/DCM";
/// What this server adds to FHIR's interactions.
const EVENT: &str = "urn:cairn:audit-event";
/// What happens to records in their life (ISO 21089).
const LIFECYCLE: &str = "http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle";
/// BALP's kinds of decisions.
const DECISION: &str = "https://profiles.ihe.net/ITI/BALP/CodeSystem/AuthZsubType";

/// What sort of event it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
    pub(crate) const HISTORY_OF_TYPE: Self = Self::rest("history-type", "E");
    pub(crate) const HISTORY_OF_ALL: Self = Self::rest("history-system", "E");
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
    /// DICOM's "Emergency Override Started" and "Stopped".
    pub(crate) const EMERGENCY_BEGUN: Self = Self {
        kind: (DICOM, "110113", "Security Alert"),
        subtype: (DICOM, "110127"),
        action: "E",
    };
    pub(crate) const EMERGENCY_ENDED: Self = Self {
        kind: (DICOM, "110113", "Security Alert"),
        subtype: (DICOM, "110138"),
        action: "E",
    };
    /// A privacy officer looked at emergency accesses, or into one.
    pub(crate) const EMERGENCIES: Self = Self::own("emergencies", "R");
    pub(crate) const EMERGENCY_REVIEWED: Self = Self::own("emergency-review", "U");
    /// A privacy officer looked at accesses that nothing explains, or into one.
    pub(crate) const UNEXPLAINED: Self = Self::own("unexplained", "R");
    pub(crate) const ACCESS_REVIEWED: Self = Self::own("access-review", "U");
    /// Somebody was let act for a patient, or is not any more; and who looked at who does.
    pub(crate) const PROXY_MADE: Self = Self::own("proxy-made", "C");
    pub(crate) const PROXY_ENDED: Self = Self::own("proxy-ended", "U");
    pub(crate) const PROXIES: Self = Self::own("proxies", "R");
    /// Devices on which a patient gets notifications came or went.
    pub(crate) const DEVICES: Self = Self::own("devices", "U");
    /// Somebody asked why something is permitted or refused.
    pub(crate) const EXPLAINED: Self = Self::own("explain", "R");
    /// Somebody looked at accounts.
    pub(crate) const ACCOUNTS: Self = Self::own("accounts", "R");
    /// What operators do to the store: see `upkeep.rs`.
    pub(crate) const BACKED_UP: Self = Self::own("backup", "E");
    pub(crate) const RESTORED: Self = Self::own("restore", "E");
    pub(crate) const KEYS_ROTATED: Self = Self::own("keys-rotated", "U");
    pub(crate) const OUTBOX: Self = Self::own("outbox", "U");
    pub(crate) const TENANT_CHANGED: Self = Self::own("tenant", "U");
    pub(crate) const TENANT_SUSPENDED: Self = Self::own("tenant-suspended", "U");
    pub(crate) const TENANT_EXPORTED: Self = Self::own("tenant-exported", "R");
    pub(crate) const TENANT_DESTROYED: Self = Self::own("tenant-destroyed", "D");
    /// A resource was given to somebody outside (BALP's privacy disclosure at its source).
    pub(crate) const DISCLOSED: Self = Self {
        kind: (DICOM, "110106", "Export"),
        subtype: (LIFECYCLE, "disclose"),
        action: "R",
    };
    /// A patient's consent denied what was asked for by its name (BALP's `AuthZconsent`).
    pub(crate) const DENIED: Self = Self {
        kind: (DICOM, "110113", "Security Alert"),
        subtype: (DECISION, "AuthZ-Consent"),
        action: "E",
    };
    /// A bulk export was asked for, given up, or its files were laid out.
    pub(crate) const EXPORT_JOB: Self = Self::own("export-job", "E");
    /// Which policies are in force.
    pub(crate) const POLICIES: Self = Self::own("policies", "U");
    /// What was over has been removed.
    pub(crate) const SWEPT: Self = Self::own("swept", "D");

    /// What the interaction is a kind of, where BALP goes by that.
    pub(crate) fn general(self) -> Option<&'static str> {
        match self.subtype {
            (INTERACTION, "search-type") => Some("search"),
            (INTERACTION, "vread") => Some("read"),
            _ => None,
        }
    }

    /// Whether it is about one resource, which is an entity of its own also if it is a patient's.
    fn is_of_one(self) -> bool {
        [
            Self::READ,
            Self::VREAD,
            Self::CREATE,
            Self::UPDATE,
            Self::DELETE,
            Self::DISCLOSED,
        ]
        .contains(&self)
    }

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
            | Action::Steer
            | Action::Invite
            | Action::Index
            | Action::Export
            | Action::Account => Self::own(action.name(), "E"),
        }
    }
}

/// How it came out (`audit-event-outcome`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
    /// Of patients: what explains that their record is looked at.
    pub(crate) relations: BTreeMap<String, String>,
    /// Of patients: what explains it by itself, where no relationship does.
    pub(crate) reasons: BTreeMap<String, String>,
    pub(crate) resources: Vec<Touched>,
    /// The query of a search. It may hold a patient's details, which is why only auditors see it.
    pub(crate) queries: Vec<String>,
    /// Of a disclosure: the place that it went to, without anything that tells more than whose it is.
    pub(crate) recipient: Option<&'a str>,
    /// Of a decision by consent: what it is about.
    pub(crate) decided: Option<Decided>,
    /// Where the record lies if it concerns no patient and no resource.
    pub(crate) anchor: Option<&'a str>,
}

/// What a decision by consent is about.
#[derive(Debug, Clone)]
pub(crate) struct Decided {
    /// What was asked for, as `Type/id`.
    pub(crate) about: String,
    /// The id of the organization that the asker is known as, if it is one; else the tenant's own is meant.
    pub(crate) organization: Option<String>,
}

impl<'a> Record<'a> {
    pub(crate) fn new(agent: &'a Agent, event: Event) -> Self {
        Self {
            agent,
            event,
            // Parts of Cairn work for the organisation's operations, where nothing else is said.
            purpose: (agent.role == Role::System && event.kind.0 == REST)
                .then_some(Purpose::Operations),
            because: &[],
            request_id: "",
            outcome: Outcome::Success,
            note: None,
            patients: BTreeSet::new(),
            relations: BTreeMap::new(),
            reasons: BTreeMap::new(),
            resources: Vec::new(),
            queries: Vec::new(),
            recipient: None,
            decided: None,
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
    frames: draft::Frames,
}

impl Auditor {
    pub(crate) fn new(ledger: Ledger, wall_clock: Arc<dyn Clock>) -> Self {
        Self {
            ledger,
            wall_clock,
            frames: draft::Frames::default(),
        }
    }

    /// What the wall clock shows, milliseconds since the epoch.
    pub(crate) fn wall_ms(&self) -> u64 {
        self.wall_clock.now_ms()
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
        let now_ms = self.ledger.clock().now_ms();
        let wall_ms = self.wall_clock.now_ms();
        let moment = draft::Moment {
            now_ms,
            wall_ms: (now_ms.abs_diff(wall_ms) > CLOCKS_APART_MS).then_some(wall_ms),
        };
        let text = draft::write(&self.frames, &self.ledger, &id, &moment, record);
        #[cfg(test)]
        tests::fits(&text.body);
        AuditDraft {
            kind,
            shard,
            tokens: text.tokens,
            parts: text.parts,
            body: text.body,
            id,
        }
    }
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

/// What an event says explains the access to a patient's record that nothing explains.
pub(crate) const NONE: &str = "none";
/// What it says where that couldn't be told.
pub(crate) const UNKNOWN: &str = "unknown";

/// The patients of whom an event tells what explains the access, and what does.
pub(crate) fn relations(event: &Resource) -> impl Iterator<Item = (&str, &str)> {
    let entities = event.get("entity").and_then(Value::as_array);
    entities.into_iter().flatten().filter_map(|entity| {
        let reference = entity.pointer("/what/reference")?.as_str()?;
        let details = entity.get("detail")?.as_array()?;
        let told = details.iter().find(|one| one["type"] == "relationship")?;
        Some((
            reference.strip_prefix("Patient/")?,
            told["valueString"].as_str()?,
        ))
    })
}

/// For each patient of an event of whom that is told: what explains that their record was looked at.
/// [`crate::Vault::relation_told`] reads it.
#[must_use]
pub fn relations_told(event: &Resource) -> Vec<(String, String)> {
    relations(event)
        .map(|(patient, told)| (patient.to_owned(), told.to_owned()))
        .collect()
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

/// The application among those who took part (`110150` of DICOM's codes).
const APPLICATION: &str = "110150";

/// The one who asked for what an event tells, if that was a patient by themselves and by no application.
fn patient_alone(event: &Resource) -> Option<&Value> {
    let agents = event.get("agent").and_then(Value::as_array)?;
    let is_app = |agent: &Value| {
        agent.pointer("/type/coding/0/code").and_then(Value::as_str) == Some(APPLICATION)
            && agent["name"].is_string()
    };
    let asked = agents.iter().find(|agent| agent["requestor"] == true)?;
    let role = asked.pointer("/role/0/coding/0/code")?.as_str()?;
    (role == Role::Patient.name() && !agents.iter().any(is_app)).then_some(asked)
}

/// The patient who did what an event tells, if they did it themselves, by no application.
pub(crate) fn own_act(event: &Resource) -> Option<&str> {
    let who = patient_alone(event)?.pointer("/who/reference")?.as_str()?;
    who.strip_prefix("Patient/")
}

/// Whether what an event of a patient's tells was done by themselves, by no application: it is no look of somebody
/// else at their record.
pub(crate) fn is_own_act(event: &Resource, patient: &str) -> bool {
    patient_alone(event).is_some() && own_act(event).is_none_or(|who| who == patient)
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

/// An event as [`keep_only`] leaves it, of its text: of what concerns others no values are made, which are most of a
/// page that a coordinator saw. `None` where it has to be parsed.
pub(crate) fn part_for(text: &[u8], patient: &str) -> Option<Resource> {
    let keep = |entity: &str| {
        // An id has nothing that needs escapes; where there are any, it is read what they stand for.
        (entity.contains(patient) || entity.contains('\\')) && concerns_text(entity, patient)
    };
    fhir::stored::with_items(ResourceType::AuditEvent, text, "entity", keep)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{House, balp};

    /// Every event that any test of this crate has made is looked at.
    pub(super) fn fits(body: &[u8]) {
        let event: Value = serde_json::from_slice(body).expect("an event is JSON");
        let faults = balp::faults(&event);
        assert!(faults.is_empty(), "{faults:?} of {event:#}");
        let event = Resource::parse(body).expect("an event is a resource");
        assert_eq!(fhir::validate::check(&event), [], "{event:?}");
    }

    fn consent_of(patient: &str) -> Touched {
        Touched {
            kind: ResourceType::Consent,
            id: "c".to_owned(),
            version: None,
            patient: Some(patient.to_owned()),
            interaction: None,
        }
    }

    // Proves: 45 CFR 164.312(b)
    #[tokio::test]
    async fn every_kind_of_event_fits_its_pattern() {
        let house = House::new().await;
        let auditor = Auditor::new(house.ledger().clone(), Arc::new(house.wall.clone()));
        let agent = crate::tests::staff(crate::Role::Clinician);
        let (read, create, update) = ("read", "create", "update");
        let patterns = [
            (Event::READ, Some(read)),
            (Event::VREAD, Some(read)),
            (Event::SEARCH, Some("search")),
            (Event::CREATE, Some(create)),
            (Event::UPDATE, Some(update)),
            (Event::DELETE, Some("delete")),
            (Event::HISTORY, None),
            (Event::HISTORY_OF_TYPE, None),
            (Event::HISTORY_OF_ALL, None),
            (Event::TRANSACTION, None),
            (Event::JOURNEY, None),
            (Event::LOGIN, None),
            (Event::LOGOUT, None),
            (Event::SESSION_KEPT, None),
            (Event::ACCOUNT_CHANGED, None),
            (Event::EMERGENCY_BEGUN, None),
            (Event::EMERGENCY_ENDED, None),
            (Event::EMERGENCIES, None),
            (Event::EMERGENCY_REVIEWED, None),
            (Event::EXPLAINED, None),
            (Event::ACCOUNTS, None),
            (Event::BACKED_UP, None),
            (Event::RESTORED, None),
            (Event::KEYS_ROTATED, None),
            (Event::OUTBOX, None),
            (Event::EXPORT_JOB, None),
            (Event::POLICIES, None),
            (Event::PROXY_MADE, None),
            (Event::PROXY_ENDED, None),
            (Event::PROXIES, None),
            (Event::SWEPT, None),
            (Event::DISCLOSED, Some("disclose")),
            (Event::DENIED, Some("AuthZ-Consent")),
        ];
        for (event, pattern) in patterns {
            for kind in [ResourceType::Patient, ResourceType::Observation] {
                let is_patient = kind == ResourceType::Patient;
                let touched = Touched {
                    kind,
                    id: if is_patient { "p" } else { "o" }.to_owned(),
                    version: Some(1),
                    patient: Some("p".to_owned()),
                    interaction: None,
                };
                for outcome in [Outcome::Success, Outcome::Missed, Outcome::Refused] {
                    let mut record = Record::new(&agent, event);
                    record.purpose = Some(Purpose::Treatment);
                    record.outcome = outcome;
                    record.request_id = "request-1";
                    record.touch(touched.clone());
                    let is_disclosed = event == Event::DISCLOSED;
                    record.recipient = is_disclosed.then_some("https://receiver.example");
                    if event == Event::DENIED {
                        record.resources.clear();
                        record.touch(consent_of("p"));
                        record.note = Some("the patient's consent denies it");
                        record.outcome = Outcome::Refused;
                        record.decided = Some(Decided {
                            about: "Observation/o".to_owned(),
                            organization: is_patient.then(|| "ward".to_owned()),
                        });
                    }
                    if event == Event::SEARCH {
                        record.queries.push("Observation?code=x".to_owned());
                    }
                    let client = std::net::IpAddr::from([192, 0, 2, 7]);
                    // Drafting it checks it.
                    let draft = origin::at(client, async { auditor.draft(&record) }).await;
                    let event: Value = serde_json::from_slice(&draft.body).expect("JSON");
                    assert_eq!(balp::pattern(&event), pattern, "{event}");
                    let agents = event["agent"].as_array().expect("agents");
                    let is_decision = pattern == Some("AuthZ-Consent");
                    assert_eq!(
                        agents.len(),
                        3 + usize::from(is_decision),
                        "who asked, the client, the server, and for whom where it was decided: {event}"
                    );
                    let text = event["agent"].to_string();
                    assert!(!text.contains("192.0.2.7"), "patients are shown the agents");
                    // A decision has no place for the request; its refusal has it.
                    let tells = event["entity"].to_string().contains("192.0.2.7");
                    assert_eq!(tells, !is_decision, "{event}");
                    let mut seen = Resource::from_value(event).expect("a resource");
                    keep_only(&mut seen, "p");
                    let seen = String::from_utf8(seen.to_json()).expect("UTF-8");
                    assert!(
                        seen.contains("Patient/p") && !seen.contains("192.0.2.7"),
                        "{seen}"
                    );
                }
            }
        }
    }
}
