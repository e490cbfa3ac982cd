//! What is told of the audit to a collector of logs outside: who, what and when in codes, and names of
//! patients and resources that nobody but this store can trace back.
//!
//! There is nothing of a patient in it, which is why it takes no permit: no name, no text, no query, no
//! network address, no id of a patient or of a resource. Who wants to know more looks the record up by
//! its id, which is told, where looking needs a permit.

use fhir::ResourceType;
use ledger::{Ledger, LedgerError, Shard, TenantId};
use serde_json::Value;

use crate::tokens;

/// A code with its system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    /// The system's URI.
    pub system: String,
    /// The code.
    pub code: String,
}

/// One audit record, as it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Id of the `AuditEvent`.
    pub id: String,
    /// When it was recorded, RFC 3339.
    pub recorded: String,
    /// C, R, U, D or E.
    pub action: String,
    /// A code of `audit-event-outcome`.
    pub outcome: String,
    /// What sort of event it is.
    pub kind: Code,
    /// What it is more precisely.
    pub subtype: Code,
    /// The purpose of use, by HL7's code.
    pub purpose: Option<Code>,
    /// Of a purpose of the organisation's own, its code. That of HL7's that it is a kind of stands in `purpose`.
    pub own_purpose: Option<Code>,
    /// Who and what took part; who asked comes first.
    pub participants: Vec<Participant>,
    /// What it was about.
    pub objects: Vec<Object>,
}

/// Somebody or something that took part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Participant {
    /// Id of the account, client or part of Cairn; of a patient, a name as those of objects.
    pub id: String,
    /// Whether they asked.
    pub asked: bool,
    /// Their role, or their end of the connection.
    pub roles: Vec<Code>,
}

/// What an event was about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Of which type it is.
    pub kind: ResourceType,
    /// Whether it stands for the person, not for the resource.
    pub is_person: bool,
    /// Its name outside: the same for the same resource until the key of search tokens rotates, and
    /// nothing that could be traced back without that key.
    pub name: String,
}

/// What is told of a leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A record.
    Record(Box<Told>),
    /// The leaf is there, and its record can't be read any more.
    Unreadable,
}

/// What is told of a leaf of a shard's audit tree; `None` when there is none there yet.
///
/// # Errors
/// `Storage` and the like. A record that is damaged is an entry, not an error, so that it holds up no
/// other.
pub async fn of_leaf(
    ledger: &Ledger,
    shard: Shard,
    index: u64,
) -> Result<Option<Entry>, LedgerError> {
    let leaf = match ledger.leaf_at(shard, index).await {
        Ok(None) => return Ok(None),
        other => other.or_else(unless_damaged)?,
    };
    let stored = match leaf {
        Some(leaf) => ledger.leaf_document(&leaf).await.or_else(unless_damaged)?,
        None => None,
    };
    let read = stored.and_then(|(tenant, stored)| {
        let event = serde_json::from_slice(&stored.body).ok()?;
        told(&event, &|what| outside(ledger, tenant, what))
    });
    Ok(Some(read.map_or(Entry::Unreadable, |told| {
        Entry::Record(Box::new(told))
    })))
}

/// What is damaged isn't there; every other fault is one.
fn unless_damaged<T>(error: LedgerError) -> Result<Option<T>, LedgerError> {
    match error {
        LedgerError::Damaged(_) | LedgerError::KeyDestroyed => Ok(None),
        other => Err(other),
    }
}

/// The name outside of what has a name inside.
fn outside(ledger: &Ledger, tenant: TenantId, what: &str) -> String {
    let kind = tokens::kind(ResourceType::AuditEvent);
    let token = ledger.token(tenant, kind, "~outside", what);
    format!("{:016x}", token.0)
}

fn told(event: &Value, outside: &dyn Fn(&str) -> String) -> Option<Told> {
    let text = |value: &Value, name: &str| value[name].as_str().map(str::to_owned);
    let code = |value: &Value| {
        let (system, code) = (text(value, "system"), text(value, "code"));
        Some(Code {
            system: system?,
            code: code?,
        })
    };
    let list = |value: &'_ Value, name: &str| -> Vec<Value> {
        value[name].as_array().cloned().unwrap_or_default()
    };
    let mut participants: Vec<Participant> = Vec::new();
    for agent in list(event, "agent") {
        let patient = text(&agent["who"], "reference");
        let inside = text(&agent, "altId")
            .or_else(|| patient.clone())
            .or_else(|| text(&agent["who"], "display"))
            .unwrap_or_default();
        let is_patient = patient.is_some();
        let mut roles: Vec<Code> = Vec::new();
        for concept in list(&agent, "role").iter().chain([&agent["type"]]) {
            roles.extend(list(concept, "coding").iter().filter_map(code));
        }
        participants.push(Participant {
            id: if is_patient { outside(&inside) } else { inside },
            asked: agent["requestor"] == true,
            roles,
        });
    }
    participants.sort_by_key(|participant| !participant.asked);
    let entities = list(event, "entity");
    let objects = entities.iter().filter_map(|entity| {
        let reference = text(&entity["what"], "reference")?;
        let kind = ResourceType::parse(reference.split('/').next()?)?;
        let is_person = entity["role"]["code"] == "1";
        let name = outside(&reference);
        Some(Object {
            kind,
            is_person,
            name,
        })
    });
    // Before the code of HL7's stands that of one's own, if there is one.
    let purposes = list(&event["purposeOfEvent"][0], "coding");
    let mut purposes: Vec<Code> = purposes.iter().filter_map(code).collect();
    let purpose = purposes.pop();
    Some(Told {
        id: text(event, "id")?,
        recorded: text(event, "recorded")?,
        action: text(event, "action")?,
        outcome: text(event, "outcome")?,
        kind: code(&event["type"])?,
        subtype: code(list(event, "subtype").first()?)?,
        purpose,
        own_purpose: purposes.into_iter().next(),
        participants,
        objects: objects.collect(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_but_codes_and_names_for_outside_is_told() {
        let system = "urn:x";
        let event = json!({
            "resourceType": "AuditEvent", "id": "event-1", "recorded": "2026-06-15T13:00:00.000Z",
            "type": {"system": system, "code": "rest", "display": "SECRET"},
            "subtype": [{"system": system, "code": "search-type"}, {"system": system, "code": "search"}],
            "action": "E", "outcome": "0", "outcomeDesc": "SECRET",
            "purposeOfEvent": [{"coding": [{"system": system, "code": "PATRQT"}]}],
            "agent": [
                {"who": {"display": "recipient"}, "network": {"address": "SECRET", "type": "5"}, "requestor": false},
                {"who": {"display": "cairn"}, "requestor": false, "type": {"coding": [{"system": system, "code": "110152"}]}},
                {"who": {"reference": "Patient/SECRET", "identifier": {"value": "SECRET"}}, "altId": "SECRET", "name": "SECRET",
                 "requestor": true, "role": [{"coding": [{"system": system, "code": "patient"}]}], "policy": ["SECRET"]},
            ],
            "entity": [
                {"what": {"reference": "Patient/SECRET"}, "role": {"code": "1"}, "detail": [{"type": "version", "valueString": "SECRET"}]},
                {"what": {"reference": "Observation/SECRET"}, "role": {"code": "4"}},
                {"query": "SECRET", "role": {"code": "24"}},
                {"what": {"identifier": {"value": "SECRET"}}, "detail": [{"type": "client-address", "valueString": "SECRET"}]},
            ],
        });
        let told = told(&event, &|what| format!("<{}>", what.len())).expect("it is told");
        assert!(!format!("{told:?}").contains("SECRET"), "{told:?}");
        assert_eq!(told.id, "event-1");
        assert_eq!(told.subtype.code, "search-type");
        assert_eq!(
            told.purpose.as_ref().map(|code| code.code.as_str()),
            Some("PATRQT")
        );
        assert_eq!(told.own_purpose, None);
        let ids: Vec<_> = told
            .participants
            .iter()
            .map(|one| (one.id.as_str(), one.asked))
            .collect();
        assert_eq!(ids, [("<6>", true), ("recipient", false), ("cairn", false)]);
        let objects: Vec<_> = told
            .objects
            .iter()
            .map(|one| (one.kind.name(), one.is_person, one.name.as_str()))
            .collect();
        assert_eq!(
            objects,
            [("Patient", true, "<14>"), ("Observation", false, "<18>")]
        );
    }
    #[test]
    fn a_purpose_of_ones_own_is_told_beside_hl7s() {
        let coding = |system: &str, code: &str| json!({"system": system, "code": code});
        let (foo_bar, research) = (
            coding("urn:purposes", "FooBar"),
            coding(crate::Purpose::SYSTEM, "HRESCH"),
        );
        for (codings, standard, own) in [
            (json!([foo_bar, research]), Some("HRESCH"), Some("FooBar")),
            (json!([research]), Some("HRESCH"), None),
            (json!([]), None, None),
        ] {
            let event = json!({
                "id": "e", "recorded": "r", "action": "R", "outcome": "0",
                "type": coding("urn:x", "rest"), "subtype": [coding("urn:x", "read")],
                "purposeOfEvent": [{"coding": codings}],
            });
            let told = told(&event, &str::to_owned).expect("it is told");
            let is = |code: Option<Code>| code.map(|code| code.code);
            assert_eq!(is(told.purpose).as_deref(), standard);
            assert_eq!(is(told.own_purpose).as_deref(), own);
        }
    }
}
