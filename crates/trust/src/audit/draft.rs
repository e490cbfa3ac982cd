//! An event as text, with what it is found by.
//!
//! One is written for each answer, so nothing is built that is thrown away: what events of one kind by
//! one agent for one reason have in common is written and hashed once (its *frame*), and the rest is
//! put behind it. A search parameter of `AuditEvent` looks at the frame or at the rest, never at both,
//! so that the tokens of the whole are those of the parts.
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fhir::{Resource, ResourceType};
use ledger::{DOCUMENT_TOKENS_MAX, Ledger, TenantId, Token};
use serde_json::{Value, json};

use super::{
    DICOM, Decided, Event, INTERACTION, OTHER_TOKENS, Outcome, RESOURCES_MAX, Record, Touched,
    origin,
};
use crate::{Purpose, Role, tokens};

/// Frames that are kept; then all are forgotten and those in use come again. Some hundred bytes each.
const FRAMES_MAX: usize = 4096;

const PARTICIPATION: &str = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType";
/// Identifier system of accounts, clients and parts of Cairn in `agent.who`.
const AGENT: &str = "urn:cairn:agent";
/// Identifier system of organisations that have a store of their own, by their number.
const TENANT: &str = "urn:cairn:tenant";
/// What follows an entity's `what`: its type and role (`audit-entity-type`, `object-role`, BALP's).
const PERSON: &str = r#""type":{"system":"http://terminology.hl7.org/CodeSystem/audit-entity-type","code":"1","display":"Person"},"role":{"system":"http://terminology.hl7.org/CodeSystem/object-role","code":"1","display":"Patient"}"#;
const RESOURCE: &str = r#""type":{"system":"http://terminology.hl7.org/CodeSystem/audit-entity-type","code":"2","display":"System Object"},"role":{"system":"http://terminology.hl7.org/CodeSystem/object-role","code":"4","display":"Domain Resource"}"#;
const QUERY: &str = r#""type":{"system":"http://terminology.hl7.org/CodeSystem/audit-entity-type","code":"2","display":"System Object"},"role":{"system":"http://terminology.hl7.org/CodeSystem/object-role","code":"24","display":"Query"}"#;
/// Of a decision: the consent that it was made by.
const CONSENT: &str = r#""type":{"system":"http://hl7.org/fhir/resource-types","code":"Consent","display":"Consent"}"#;
const REQUEST: &str = r#""type":{"system":"https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType","code":"XrequestId","display":"X-Request-Id"}"#;

/// What a frame depends on.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    tenant: TenantId,
    agent: String,
    name: String,
    role: Role,
    patient: Option<String>,
    /// Id and name of the application that asks for somebody.
    app: Option<(String, String)>,
    event: Event,
    purpose: Option<Purpose>,
    because: Vec<String>,
    outcome: Outcome,
    recipient: Option<String>,
    /// Whether it came over the network.
    has_client: bool,
}

impl Key {
    fn of(record: &Record<'_>) -> Self {
        let agent = record.agent;
        Self {
            tenant: agent.tenant,
            agent: agent.id.clone(),
            name: agent.name.clone(),
            role: agent.role,
            patient: agent.patient.clone(),
            app: agent
                .app()
                .map(|access| (access.client.clone(), access.client_name.clone())),
            event: record.event,
            purpose: record.purpose,
            because: record.because.to_vec(),
            outcome: record.outcome,
            recipient: record.recipient.map(str::to_owned),
            has_client: origin::client().is_some(),
        }
    }
}

/// What events have in common.
struct Frame {
    /// Members of the event, with a comma before each.
    members: String,
    /// What these are found by.
    tokens: Vec<Token>,
    witness: Token,
}

/// A token that is another where a tenant's tokens are others: for a tenant who isn't known yet, or
/// whose keys can't be read just now, the ledger makes some up.
fn witness(ledger: &Ledger, tenant: TenantId) -> Token {
    ledger.token(tenant, tokens::kind(ResourceType::AuditEvent), "~frame", "")
}

/// The frames of events that were written lately.
#[derive(Clone, Default)]
pub(super) struct Frames(Arc<RwLock<HashMap<Key, Arc<Frame>>>>);

impl Frames {
    fn of(&self, ledger: &Ledger, record: &Record<'_>) -> Arc<Frame> {
        if record.note.is_some() {
            // Its words may be of this event alone.
            return Arc::new(Frame::of(ledger, record));
        }
        let key = Key::of(record);
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(frame) = known.get(&key)
            && frame.witness == witness(ledger, key.tenant)
        {
            return Arc::clone(frame);
        }
        drop(known);
        let frame = Arc::new(Frame::of(ledger, record));
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= FRAMES_MAX {
            known.clear();
        }
        known.insert(key, Arc::clone(&frame));
        frame
    }
}

impl Frame {
    fn of(ledger: &Ledger, record: &Record<'_>) -> Self {
        let mut event = Resource::new(ResourceType::AuditEvent);
        let (system, code, display) = record.event.kind;
        event.set(
            "type",
            json!({"system": system, "code": code, "display": display}),
        );
        let (system, code) = record.event.subtype;
        let mut subtypes = vec![json!({"system": system, "code": code})];
        let general = record.event.general();
        subtypes.extend(general.map(|code| json!({"system": INTERACTION, "code": code})));
        event.set("subtype", Value::Array(subtypes));
        event.set("action", record.event.action.into());
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
        let mut agents = vec![user(record)];
        agents.extend(acted_for(record));
        agents.extend(match record.recipient {
            Some(place) => Some(recipient(record, place)),
            None => client(record),
        });
        agents.extend(organization(record));
        agents.push(server(record));
        event.set("agent", Value::Array(agents));
        event.set(
            "source",
            json!({
                "observer": {"display": "cairn"},
                "type": [{"system": "http://terminology.hl7.org/CodeSystem/security-source-type", "code": "4", "display": "Application Server"}],
            }),
        );
        let mut members = String::new();
        for (name, value) in event.members() {
            if name != "resourceType" {
                let _ = write!(members, ",\"{name}\":{value}");
            }
        }
        Self {
            members,
            witness: witness(ledger, record.agent.tenant),
            tokens: tokens::of(ledger, record.agent.tenant, &event),
        }
    }
}

/// An event as it is kept.
pub(super) struct Text {
    pub(super) body: Vec<u8>,
    /// Where the elements of `entity` lie.
    pub(super) parts: Vec<Range<usize>>,
    pub(super) tokens: Vec<Token>,
}

/// The moments that an event tells.
pub(super) struct Moment {
    pub(super) now_ms: u64,
    /// The wall clock, if it says something else.
    pub(super) wall_ms: Option<u64>,
}

/// Writes an event.
pub(super) fn write(
    frames: &Frames,
    ledger: &Ledger,
    id: &str,
    moment: &Moment,
    record: &Record<'_>,
) -> Text {
    let frame = frames.of(ledger, record);
    let recorded = fhir::date::instant(moment.now_ms);
    let mut text = Writer::default();
    text.body
        .reserve(frame.members.len() + 512 * (1 + record.patients.len()));
    text.raw("{\"resourceType\":\"AuditEvent\",\"id\":");
    text.quoted(id);
    text.raw(",\"recorded\":");
    text.quoted(&recorded);
    text.raw(&frame.members);
    let references = text.entities(moment, record);
    text.raw("}");

    let tenant = record.agent.tenant;
    let mut tokens = {
        let told = record.relations.values().map(String::as_str);
        tokens::of_event(ledger, tenant, id, moment.now_ms, &references, told)
    };
    tokens.extend(&frame.tokens);
    tokens.sort_unstable();
    tokens.dedup();
    Text {
        body: text.body.into_bytes(),
        parts: text.parts,
        tokens,
    }
}

/// JSON that is being written.
#[derive(Default)]
struct Writer {
    body: String,
    parts: Vec<Range<usize>>,
}

impl Writer {
    fn raw(&mut self, text: &str) {
        self.body.push_str(text);
    }

    fn quoted(&mut self, text: &str) {
        let is_plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
        if text.bytes().all(is_plain) {
            self.body.push('"');
            self.body.push_str(text);
            self.body.push('"');
        } else {
            let _ = write!(self.body, "{}", Value::from(text));
        }
    }

    /// Writes `entity`, and gives what its elements refer to.
    fn entities(&mut self, moment: &Moment, record: &Record<'_>) -> Vec<String> {
        let (patients, resources): (Vec<_>, Vec<_>) = record
            .resources
            .iter()
            .partition(|touched| touched.kind == ResourceType::Patient);
        let room = DOCUMENT_TOKENS_MAX.saturating_sub(record.patients.len() + OTHER_TOKENS);
        let listed = RESOURCES_MAX.min(room);
        // Each patient is told of their own, so what isn't listed is counted for each of them, too.
        let mut unlisted = BTreeMap::<&str, usize>::new();
        for touched in resources.iter().skip(listed) {
            if let Some(patient) = &touched.patient {
                *unlisted.entry(patient).or_default() += 1;
            }
        }
        let mut touched_patients: HashMap<&str, &Touched> = HashMap::new();
        for touched in patients {
            touched_patients
                .entry(touched.id.as_str())
                .or_insert(touched);
        }
        let mut references = Vec::with_capacity(record.patients.len() + resources.len());
        for patient in &record.patients {
            let touched = touched_patients.get(patient.as_str());
            let mut details = touched.map_or_else(Vec::new, |touched| touched_details(touched));
            if let Some(relation) = record.relations.get(patient) {
                details.push(("relationship", relation.clone()));
            }
            if let Some(count) = unlisted.get(patient.as_str()) {
                details.push(("further-resources", count.to_string()));
            }
            let reference = format!("Patient/{patient}");
            self.entity(&reference, PERSON, &details);
            references.push(reference);
        }
        if record.event.is_of_one() {
            // What was done to a patient's own resource is about that resource as well.
            for touched in record
                .resources
                .iter()
                .filter(|one| one.kind == ResourceType::Patient)
            {
                let reference = format!("Patient/{}", touched.id);
                self.entity(&reference, RESOURCE, &[]);
                references.push(reference);
            }
        }
        for touched in resources.iter().take(listed) {
            let reference = format!("{}/{}", touched.kind, touched.id);
            let mut details = touched_details(touched);
            match &record.decided {
                None => self.entity(&reference, RESOURCE, &details),
                Some(decided) => {
                    details.extend(decided_details(decided, moment, record));
                    self.entity(&reference, CONSENT, &details);
                }
            }
            references.push(reference);
        }
        if record.decided.is_some() {
            // BALP has no place there for the request.
            self.raw("]");
            return references;
        }
        // A history may have been asked for without anything that narrows it.
        for query in record.queries.iter().filter(|query| !query.is_empty()) {
            self.begin_entity();
            self.raw(QUERY);
            self.raw(",\"query\":");
            self.quoted(&STANDARD.encode(query));
            self.end_entity();
        }
        let mut details = Vec::new();
        if let Some(client) = origin::client() {
            details.push(("client-address", client.to_string()));
        }
        if let Some(wall_ms) = moment.wall_ms {
            details.push(("wall-clock", fhir::date::instant(wall_ms)));
        }
        if resources.len() > listed {
            let count = resources.len() - listed;
            details.push(("further-resources", count.to_string()));
        }
        if !record.request_id.is_empty() || !details.is_empty() {
            self.begin_entity();
            if !record.request_id.is_empty() {
                self.raw("\"what\":{\"identifier\":{\"value\":");
                self.quoted(record.request_id);
                self.raw("}},");
            }
            self.raw(REQUEST);
            self.details(&details);
            self.end_entity();
        }
        if !self.parts.is_empty() {
            self.raw("]");
        }
        references
    }

    fn begin_entity(&mut self) {
        self.raw(if self.parts.is_empty() {
            ",\"entity\":["
        } else {
            ","
        });
        let start = self.body.len();
        self.parts.push(start..start);
        self.raw("{");
    }

    fn end_entity(&mut self) {
        self.raw("}");
        let end = self.body.len();
        if let Some(part) = self.parts.last_mut() {
            part.end = end;
        }
    }

    fn entity(&mut self, what: &str, sort: &str, details: &[(&str, String)]) {
        self.begin_entity();
        self.raw("\"what\":{\"reference\":");
        self.quoted(what);
        self.raw("},");
        self.raw(sort);
        self.details(details);
        self.end_entity();
    }

    fn details(&mut self, details: &[(&str, String)]) {
        for (position, (name, value)) in details.iter().enumerate() {
            self.raw(if position == 0 { ",\"detail\":[" } else { "," });
            self.raw("{\"type\":");
            self.quoted(name);
            self.raw(",\"valueString\":");
            self.quoted(value);
            self.raw("}");
        }
        if !details.is_empty() {
            self.raw("]");
        }
    }
}

fn touched_details(touched: &Touched) -> Vec<(&'static str, String)> {
    let mut details = Vec::new();
    if let Some(patient) = &touched.patient
        && touched.kind != ResourceType::Patient
    {
        details.push(("patient", patient.clone()));
    }
    if let Some(version) = touched.version {
        details.push(("version", version.to_string()));
    }
    if let Some(interaction) = touched.interaction {
        details.push(("interaction", interaction.to_owned()));
    }
    details
}

/// What a decision by a consent tells beside it: what was asked for, and of which request. The rest of the
/// request is in the record of its refusal.
fn decided_details(
    decided: &Decided,
    moment: &Moment,
    record: &Record<'_>,
) -> Vec<(&'static str, String)> {
    let mut details = vec![("about", decided.about.clone())];
    if !record.request_id.is_empty() {
        details.push(("request", record.request_id.to_owned()));
    }
    let wall_clock = moment.wall_ms.map(fhir::date::instant);
    details.extend(wall_clock.map(|at| ("wall-clock", at)));
    details
}

fn coding(system: &str, code: &str, display: &str) -> Value {
    json!({"system": system, "code": code, "display": display})
}

fn purpose_concept(purpose: Purpose) -> Value {
    // BALP knows HL7's purposes: one of one's own stands before the one that it is a kind of.
    let mut coding = vec![purpose.coding()];
    coding.extend(purpose.own().map(|_| purpose.standard().coding()));
    json!({"coding": coding})
}

/// The one who asked.
fn user(record: &Record<'_>) -> Value {
    let agent = record.agent;
    let (code, display) = if matches!(record.event.action, "C" | "U" | "D") {
        ("AUT", "author (originator)")
    } else if record.event == Event::DISCLOSED {
        ("INF", "informant")
    } else {
        ("IRCP", "information recipient")
    };
    let mut who = json!({"identifier": {"system": AGENT, "value": agent.id}});
    if agent.role == Role::Proxy {
        who["reference"] = format!("RelatedPerson/{}", agent.id).into();
    } else if let Some(patient) = &agent.patient {
        who["reference"] = format!("Patient/{patient}").into();
    }
    let mut user = json!({
        "type": {"coding": [coding(PARTICIPATION, code, display)]},
        "role": [{"coding": [{"system": crate::conventions::ROLE_SYSTEM, "code": agent.role.name()}]}],
        "who": who,
        "altId": agent.id,
        "requestor": true,
    });
    if !agent.name.is_empty() && !agent.role.has_one_record() {
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

/// The patient whom somebody acts for, where they act for one.
fn acted_for(record: &Record<'_>) -> Option<Value> {
    let agent = record.agent;
    let patient = agent
        .patient
        .as_ref()
        .filter(|_| agent.role == Role::Proxy)?;
    Some(json!({
        "type": {"coding": [coding(PARTICIPATION, "BEN", "beneficiary")]},
        "who": {"reference": format!("Patient/{patient}")},
        "requestor": false,
    }))
}

/// DICOM's roles of the two ends, the client's and the server's. By BALP, data flow from the source to the
/// destination, and what is asked for or written goes from the client to the server.
fn ends(record: &Record<'_>) -> [(&'static str, &'static str); 2] {
    let source = ("110153", "Source Role ID");
    let destination = ("110152", "Destination Role ID");
    if record.event.action == "R" {
        [destination, source]
    } else {
        [source, destination]
    }
}

/// What somebody asks by: the application, where one does, or else whatever is at the other end of the
/// connection.
fn client(record: &Record<'_>) -> Option<Value> {
    let [(code, display), _] = ends(record);
    let end = coding(DICOM, code, display);
    if let Some(access) = record.agent.app() {
        return Some(json!({
            "type": {"coding": [coding(DICOM, "110150", "Application"), end]},
            "who": {"identifier": {"system": AGENT, "value": access.client}},
            "altId": access.client,
            "name": access.client_name,
            "requestor": false,
        }));
    }
    if record.decided.is_some() {
        // A decision names what asked, also where it is whatever somebody's pages are shown by.
        let who = match record.agent.role {
            Role::Client | Role::Steerer => {
                json!({"identifier": {"system": AGENT, "value": record.agent.id}})
            }
            _ => json!({"display": "client"}),
        };
        return Some(json!({
            "type": {"coding": [coding(DICOM, "110150", "Application"), end]},
            "who": who,
            "requestor": false,
        }));
    }
    origin::client()?;
    Some(json!({
        "type": {"coding": [end]},
        "who": {"display": "client"},
        "requestor": false,
    }))
}

/// The organisation of who asks, where something was decided for it: the one that they are known as, or else that
/// whose account they have.
fn organization(record: &Record<'_>) -> Option<Value> {
    const ROLES: &str = "http://terminology.hl7.org/CodeSystem/v3-RoleClass";
    let decided = record.decided.as_ref()?;
    let who = match &decided.organization {
        Some(id) => json!({"reference": format!("Organization/{id}")}),
        None => {
            json!({"identifier": {"system": TENANT, "value": record.agent.tenant.0.to_string()}})
        }
    };
    Some(json!({
        "type": {"coding": [coding(ROLES, "PROV", "healthcare provider")]},
        "who": who,
        "requestor": false,
    }))
}

/// Where a disclosure went: an origin that the configuration lets data go to.
fn recipient(record: &Record<'_>, place: &str) -> Value {
    let [(code, display), _] = ends(record);
    json!({
        "type": {"coding": [coding(DICOM, code, display)]},
        "who": {"display": "recipient"},
        "network": {"address": place, "type": "5"},
        "requestor": false,
    })
}

/// This server.
fn server(record: &Record<'_>) -> Value {
    const SECURITY_ROLES: &str = "http://terminology.hl7.org/CodeSystem/extra-security-role-type";
    let [_, (code, display)] = ends(record);
    let mut codes = vec![coding(DICOM, code, display)];
    if record.decided.is_some() {
        let decides = coding(SECURITY_ROLES, "authserver", "authorization server");
        codes.insert(0, decides);
    }
    json!({
        "type": {"coding": codes},
        "who": {"display": "cairn"},
        "requestor": false,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use proptest::sample::select;
    use proptest::test_runner::{Config, TestRunner};

    use super::*;
    use crate::Agent;
    use crate::tests::{House, NOW_MS, TENANT};

    fn touched() -> impl Strategy<Value = Touched> {
        let kinds = vec![
            ResourceType::Patient,
            ResourceType::Observation,
            ResourceType::Consent,
        ];
        (
            select(kinds),
            "[a-c]{1,2}",
            prop::option::of(1..9u32),
            prop::option::of("[p-q]"),
            prop::option::of(select(vec!["create", "update"])),
        )
            .prop_map(|(kind, id, version, patient, interaction)| Touched {
                kind,
                id,
                version,
                patient,
                interaction,
            })
    }

    /// More than an event lists.
    fn many() -> Vec<Touched> {
        let one = |number: usize| Touched {
            kind: ResourceType::Observation,
            id: format!("o{number}"),
            version: Some(1),
            patient: Some("p".to_owned()),
            interaction: None,
        };
        (0..RESOURCES_MAX + 3).map(one).collect()
    }

    /// What is put together of a frame and the rest is a whole event: it parses, its entities lie where
    /// it says, and it is found by all that it would be found by if it had been made in one piece.
    #[tokio::test]
    async fn the_parts_make_the_whole() {
        let house = House::new().await;
        let ledger = house.ledger();
        let roles = vec![
            Role::Coordinator,
            Role::Patient,
            Role::Proxy,
            Role::Client,
            Role::System,
        ];
        let events = vec![
            Event::READ,
            Event::SEARCH,
            Event::CREATE,
            Event::LOGIN,
            Event::DENIED,
        ];
        let outcomes = vec![Outcome::Success, Outcome::Missed, Outcome::Refused];
        let agent = (
            select(roles),
            prop::option::of("[p-q]"),
            r#"[a-z"\\é\x01]{0,4}"#,
        )
            .prop_map(|(role, patient, name)| Agent {
                tenant: TENANT,
                id: "a1".to_owned(),
                name,
                role,
                patient,
                access: None,
                signed_in: crate::SignedIn::default(),
            });
        let own = crate::OwnPurpose::of("urn:purposes", "FooBar", "\"a\" study", Purpose::Research);
        let mut purposes = Purpose::ALL.to_vec();
        purposes.push(Purpose::Own(own.unwrap()));
        let why = (
            prop::option::of(select(purposes)),
            prop::collection::vec("[a-b]", 0..2),
            prop::option::of(r#"[a-z"]{0,3}"#),
        );
        let what = (
            prop::collection::btree_set("[p-q]", 0..3),
            prop::collection::vec(touched(), 0..4),
            prop::bool::weighted(0.1),
            prop::collection::vec("[a-z?=]{0,5}", 0..2),
            "[0-9]{0,2}",
            select(vec!["", "none", "unknown", "care team CareTeam/t"]),
        );
        let strategy = (
            agent,
            (select(events), select(outcomes)),
            why,
            what,
            prop::option::of(Just(NOW_MS + 5000)),
        );
        let frames = Frames::default();
        let outcome = TestRunner::new(Config::with_cases(256)).run(
            &strategy,
            |(agent, (event, outcome), (purpose, because, note), what, wall_ms)| {
                let (patients, resources, has_many, queries, request_id, told) = what;
                let mut record = Record::new(&agent, event);
                record.purpose = purpose;
                record.outcome = outcome;
                record.because = &because;
                record.note = note.as_deref();
                record.request_id = &request_id;
                record.patients = patients;
                if event == Event::DENIED {
                    // One patient, and the consent that decided.
                    record.note = Some("denied");
                    record.outcome = Outcome::Refused;
                    record.patients = BTreeSet::new();
                    record.touch(Touched {
                        kind: ResourceType::Consent,
                        id: "c".to_owned(),
                        version: None,
                        patient: Some("p".to_owned()),
                        interaction: None,
                    });
                    record.decided = Some(Decided {
                        about: "Observation/o".to_owned(),
                        organization: queries.first().map(|_| "ward".to_owned()),
                    });
                }
                let is_decision = event == Event::DENIED;
                record.queries = if is_decision { Vec::new() } else { queries };
                let resources = if is_decision { Vec::new() } else { resources };
                let more = if has_many && !is_decision {
                    many()
                } else {
                    Vec::new()
                };
                for touched in resources.into_iter().chain(more) {
                    record.touch(touched);
                }
                if !told.is_empty() {
                    let relation = |patient: &String| (patient.clone(), told.to_owned());
                    record.relations = record.patients.iter().map(relation).collect();
                }
                let moment = Moment {
                    now_ms: NOW_MS,
                    wall_ms,
                };
                let text = write(&frames, ledger, "e1", &moment, &record);
                let whole = Resource::parse(&text.body).expect("an event");
                prop_assert_eq!(&text.tokens, &tokens::of(ledger, TENANT, &whole));
                prop_assert_eq!(text.parts, crate::audit::entities(&text.body));
                // Written by one who knows no frames yet, it is the same.
                let anew = write(&Frames::default(), ledger, "e1", &moment, &record);
                prop_assert_eq!((text.body, text.tokens), (anew.body, anew.tokens));
                Ok(())
            },
        );
        outcome.unwrap();
    }
}
