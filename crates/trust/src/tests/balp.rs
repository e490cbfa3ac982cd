//! What IHE's Basic Audit Log Patterns (BALP 1.1) ask of audit events, as facts, and a check of an
//! event against the pattern of its kind. Tests of the server use it, too.
//!
//! Two things are elsewhere than BALP has them (decision 63): the client's network address is a detail
//! of the request's entity, and the server's is in no record.

use base64::Engine as _;
use serde_json::Value;

const REST: &str = "http://terminology.hl7.org/CodeSystem/audit-event-type";
const INTERACTION: &str = "http://hl7.org/fhir/restful-interaction";
const DICOM: &str = "http://dicom.nema.org/resources/ontology/DCM";
const PURPOSE: &str = "http://terminology.hl7.org/CodeSystem/v3-ActReason";
const PARTICIPATION: &str = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType";
const ENTITY_TYPE: &str = "http://terminology.hl7.org/CodeSystem/audit-entity-type";
const OBJECT_ROLE: &str = "http://terminology.hl7.org/CodeSystem/object-role";
const LIFECYCLE: &str = "http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle";
const DECISION: &str = "https://profiles.ihe.net/ITI/BALP/CodeSystem/AuthZsubType";
const RESOURCE_TYPES: &str = "http://hl7.org/fhir/resource-types";
const ROLE_CLASS: &str = "http://terminology.hl7.org/CodeSystem/v3-RoleClass";
const SECURITY_ROLE: &str = "http://terminology.hl7.org/CodeSystem/extra-security-role-type";
const OWN_ENTITY: &str = "https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType";
/// DICOM's roles of the two ends: where data come from, and where they go.
const SOURCE: &str = "110153";
const DESTINATION: &str = "110152";

/// A pattern.
struct Pattern {
    /// The type of its events, by system and code.
    kind: (&'static str, &'static str),
    /// The system of the subtype.
    system: &'static str,
    /// The subtype that it goes by.
    subtype: &'static str,
    action: &'static str,
    /// The server's role; the client's is the other.
    server: &'static str,
    /// How many resources (`entity` in the role Domain Resource) it names.
    is_of_one: bool,
    has_query: bool,
    /// Whether it is of one patient, and tells where their data went.
    is_disclosure: bool,
    /// Whether it is of one patient, and tells which of their consents decided, and for which organisation.
    is_decision: bool,
}

/// What patterns of RESTful interactions have in common.
const OF_REST: Pattern = Pattern {
    kind: (REST, "rest"),
    system: INTERACTION,
    subtype: "",
    action: "",
    server: DESTINATION,
    is_of_one: true,
    has_query: false,
    is_disclosure: false,
    is_decision: false,
};

/// Create, Read, Update, Delete and Query; with a patient they are PatientCreate and so on. And a privacy
/// disclosure as its source records it; and the decision of an authorization by a consent.
const PATTERNS: [Pattern; 7] = [
    Pattern {
        kind: (DICOM, "110113"),
        system: DECISION,
        subtype: "AuthZ-Consent",
        action: "E",
        server: DESTINATION,
        is_of_one: false,
        has_query: false,
        is_disclosure: false,
        is_decision: true,
    },
    Pattern {
        kind: (DICOM, "110106"),
        system: LIFECYCLE,
        subtype: "disclose",
        action: "R",
        server: SOURCE,
        is_of_one: true,
        has_query: false,
        is_disclosure: true,
        is_decision: false,
    },
    Pattern {
        subtype: "create",
        action: "C",
        ..OF_REST
    },
    Pattern {
        subtype: "read",
        action: "R",
        server: SOURCE,
        ..OF_REST
    },
    Pattern {
        subtype: "update",
        action: "U",
        ..OF_REST
    },
    Pattern {
        subtype: "delete",
        action: "D",
        ..OF_REST
    },
    Pattern {
        subtype: "search",
        action: "E",
        is_of_one: false,
        has_query: true,
        ..OF_REST
    },
];

fn list<'a>(value: &'a Value, name: &str) -> Vec<&'a Value> {
    value[name].as_array().into_iter().flatten().collect()
}

fn is_coded(value: &Value, system: &str, code: &str) -> bool {
    value["system"] == system && value["code"] == code
}

fn has_coding(concept: &Value, system: &str, code: &str) -> bool {
    list(concept, "coding")
        .into_iter()
        .any(|coding| is_coded(coding, system, code))
}

fn is_entity(entity: &Value, kind: &str, role: &str) -> bool {
    is_coded(&entity["type"], ENTITY_TYPE, kind) && is_coded(&entity["role"], OBJECT_ROLE, role)
}

/// The pattern of an event, if BALP has one for it.
pub(crate) fn pattern(event: &Value) -> Option<&'static str> {
    let subtypes = list(event, "subtype");
    let found = PATTERNS.iter().find(|pattern| {
        let (system, code) = pattern.kind;
        let mut subtypes = subtypes.iter();
        is_coded(&event["type"], system, code)
            && subtypes.any(|one| is_coded(one, pattern.system, pattern.subtype))
    });
    found.map(|pattern| pattern.subtype)
}

/// What is wrong with an event.
pub(crate) fn faults(event: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let mut must = |holds: bool, words: &str| {
        if !holds {
            faults.push(words.to_owned());
        }
    };
    let outcome = event["outcome"].as_str().unwrap_or_default();
    must(
        ["0", "4", "8", "12"].contains(&outcome),
        "the outcome is a code",
    );
    must(event["recorded"].is_string(), "it says when");
    must(
        list(event, "subtype").len() < 3 && !list(event, "subtype").is_empty(),
        "it has a subtype",
    );
    must(
        event["source"]["observer"].is_object(),
        "it says who observed it",
    );
    must(
        !list(&event["source"], "type").is_empty(),
        "it says what observed it",
    );

    let agents = list(event, "agent");
    let users: Vec<_> = agents
        .iter()
        .filter(|agent| agent["requestor"] == true)
        .collect();
    must(users.len() == 1, "one agent is who asked");
    let told = agents.iter().all(|agent| {
        agent["who"].is_object() && agent["requestor"].is_boolean() && agent["type"].is_object()
    });
    must(told, "each agent has a type, and is told who it is");
    if let [user] = users.as_slice() {
        let is_user =
            ["IRCP", "AUT", "INF"].map(|code| has_coding(&user["type"], PARTICIPATION, code));
        must(is_user.contains(&true), "who asked is a user");
        must(
            user["who"]["identifier"]["value"].is_string(),
            "who asked has an id",
        );
        must(!list(user, "role").is_empty(), "who asked has a role");
        // The profile's value set is extensible: what else a purpose is may be said beside it.
        let purposes = list(user, "purposeOfUse");
        let known = purposes.iter().all(|concept| {
            let mut codings = list(concept, "coding").into_iter();
            codings.any(|coding| coding["system"] == PURPOSE)
        });
        must(known, "a purpose of use is one of HL7's");
        must(
            user["purposeOfUse"] == event["purposeOfEvent"],
            "the purpose of the event is that of who asked",
        );
        let is_sign_in = is_coded(&event["type"], DICOM, "110114");
        let is_alert = is_coded(&event["type"], DICOM, "110113");
        let is_export = is_coded(&event["type"], DICOM, "110106");
        must(
            is_sign_in || is_alert || !purposes.is_empty(),
            "who asked says what for",
        );
        must(
            is_sign_in || is_alert || is_export || is_coded(&event["type"], REST, "rest"),
            "the type is one of those that there are",
        );
    }
    // The application's half of OAUTHaccessTokenUse.Comprehensive; tokens have no id that could be told.
    let is_named = |agent: &Value| agent["who"]["identifier"]["value"].is_string();
    let mut apps = agents
        .iter()
        .filter(|agent| has_coding(&agent["type"], DICOM, "110150"));
    // A decision names what asked also where it is nobody's application.
    let is_decision = pattern(event) == Some("AuthZ-Consent");
    let is_told =
        |agent: &Value| is_named(agent) || is_decision && agent["who"]["display"] == "client";
    must(
        apps.clone().count() <= 1 && apps.all(|agent| is_told(agent)),
        "an application is told by the id that it has here",
    );
    let roles = |role: &str| {
        agents
            .iter()
            .filter(|agent| has_coding(&agent["type"], DICOM, role))
            .count()
    };
    must(
        roles(SOURCE) <= 1 && roles(DESTINATION) <= 1 && roles(SOURCE) + roles(DESTINATION) >= 1,
        "the two ends are told apart",
    );

    let entities = list(event, "entity");
    for entity in &entities {
        let reference = entity["what"]["reference"].as_str().unwrap_or_default();
        let is_right = if is_entity(entity, "1", "1") {
            reference.starts_with("Patient/")
        } else if is_entity(entity, "2", "4") {
            reference
                .split_once('/')
                .is_some_and(|(kind, id)| !kind.is_empty() && !id.is_empty())
        } else if is_coded(&entity["type"], RESOURCE_TYPES, "Consent") {
            reference.starts_with("Consent/")
        } else if is_entity(entity, "2", "24") {
            let query = entity["query"].as_str().unwrap_or_default();
            !query.is_empty()
                && base64::engine::general_purpose::STANDARD
                    .decode(query)
                    .is_ok()
        } else {
            is_coded(&entity["type"], OWN_ENTITY, "XrequestId")
                && (entity["what"]["identifier"]["value"].is_string()
                    || entity["detail"].is_array())
        };
        must(
            is_right,
            "an entity is a patient, data, a query or the request",
        );
        // R4: a name or a query, never both.
        must(
            entity["name"].is_null() || entity["query"].is_null(),
            "sev-1",
        );
    }

    let Some(subtype) = pattern(event) else {
        return faults;
    };
    let Some(pattern) = PATTERNS.iter().find(|one| one.subtype == subtype) else {
        return faults;
    };
    must(
        event["action"] == pattern.action,
        "the action is that of the interaction",
    );
    must(roles(pattern.server) == 1, "the server is at its end");
    let server = agents
        .iter()
        .find(|agent| has_coding(&agent["type"], DICOM, pattern.server));
    let is_server = server.is_some_and(|agent| agent["who"]["display"] == "cairn");
    must(is_server, "what is at the server's end is the server");
    let count = |kind: &str, role: &str| {
        entities
            .iter()
            .filter(|entity| is_entity(entity, kind, role))
            .count()
    };
    // Who may not at all is refused before it is known what they would see.
    let is_refused_at_the_door = outcome == "8" && count("2", "4") == 0;
    if pattern.is_of_one && !is_refused_at_the_door {
        must(
            count("2", "4") == 1,
            "one interaction is about one resource",
        );
    }
    if pattern.is_disclosure {
        must(count("1", "1") == 1, "a disclosure is of one patient");
        must(entities.len() > 1, "it says what was disclosed");
        must(
            server.is_some_and(|agent| agent["who"] == event["source"]["observer"]),
            "who observed it is the source",
        );
        let recipient = agents
            .iter()
            .find(|agent| has_coding(&agent["type"], DICOM, DESTINATION));
        let network = recipient.map(|agent| &agent["network"]);
        must(
            network.is_some_and(|network| network["address"].is_string() && network["type"] == "5"),
            "it says where it went",
        );
    }
    if pattern.is_decision {
        let consents = (entities.iter())
            .filter(|entity| is_coded(&entity["type"], RESOURCE_TYPES, "Consent"))
            .count();
        must(count("1", "1") == 1, "a decision is of one patient");
        must(consents > 0, "it says which consent decided");
        must(
            entities.len() == consents + 1,
            "it says nothing but the patient and the consents",
        );
        let one = |system: &str, code: &str| {
            let mut found = agents
                .iter()
                .filter(|agent| has_coding(&agent["type"], system, code));
            found.next().filter(|_| found.next().is_none())
        };
        must(
            one(DICOM, "110150").is_some_and(|app| app["requestor"] == false),
            "it says what asked",
        );
        must(
            one(ROLE_CLASS, "PROV").is_some_and(|organization| organization["requestor"] == false),
            "it says for which organisation",
        );
        must(
            one(SECURITY_ROLE, "authserver")
                .is_some_and(|server| server["who"] == event["source"]["observer"]),
            "who decided is the source",
        );
        must(
            one(PARTICIPATION, "IRCP").is_some_and(|user| user["requestor"] == true),
            "it says who asked",
        );
        must(
            outcome == "8" && event["outcomeDesc"].is_string(),
            "a denial says why",
        );
    }
    if pattern.has_query && outcome == "0" {
        must(count("2", "24") > 0, "a search says what was asked for");
    }
    faults
}
