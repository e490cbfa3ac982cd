//! What a bulk export is asked for with (Bulk Data Access, section 2.4.1).

use std::collections::BTreeSet;

use fhir::subset::Subset;
use fhir::{IssueCode, Reference, Resource, ResourceType};
use serde_json::Value;
use trust::{Action, ExportOf, Permit};

use super::filter::TYPE_FILTER;
use super::shown;
use crate::operations::{parameters, refuse};
use crate::{Caller, Record, RecordError, is_kept};

/// The most patients that an export is of by name, whether by a group or by `patient`: they are kept
/// with the job.
const PATIENTS_MAX: usize = 10_000;
/// The media types of NDJSON that `_outputFormat` may name.
const FORMATS: [&str; 3] = ["application/fhir+ndjson", "application/ndjson", "ndjson"];
/// What HL7 lets a server do without, and what to do instead.
const NOT_HERE: [(&str, &str); 2] = [
    (
        "includeAssociatedData",
        "is not supported: what Provenance there is comes as a type of its own, with _type or without",
    ),
    (
        "organizeOutputBy",
        "is not supported: a file has resources of one type",
    ),
];

/// What an export is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExportLevel {
    /// `[base]/$export`
    System,
    /// `[base]/Patient/$export`
    Patients,
    /// `[base]/Group/ID/$export`
    Group(String),
}

/// What is asked.
pub(super) struct Asked {
    /// Empty: all.
    pub(super) kinds: Vec<ResourceType>,
    pub(super) since_ms: Option<u64>,
    pub(super) elements: Vec<String>,
    /// `_typeFilter` as it was given.
    pub(super) filters: Vec<String>,
    patients: Option<BTreeSet<String>>,
    pub(super) ignored: Vec<String>,
}

/// The parameters of a kick-off that came in a body: `Parameters`, with `patient` as references.
///
/// # Errors
/// 400 when the body is something else, or has a parameter that is none of an export.
pub fn export_parameters_of(body: &[u8]) -> Result<Vec<(String, String)>, RecordError> {
    let resource = parameters(body)?;
    let list = resource.get("parameter").and_then(Value::as_array);
    let pair = |one: &Value| {
        let members = one.as_object()?;
        let name = members.get("name")?.as_str()?;
        let mut values = (members.iter()).filter(|(member, _)| member.starts_with("value"));
        let value = match (values.next()?, values.next()) {
            ((member, value), None) if member == "valueReference" => {
                value.get("reference")?.as_str()?.to_owned()
            }
            ((_, Value::String(text)), None) => text.clone(),
            _ => return None,
        };
        Some((name.to_owned(), value))
    };
    let words = "has a parameter that is no name with one text or reference";
    (list.into_iter().flatten())
        .map(|one| pair(one).ok_or_else(|| refuse(IssueCode::Value, "Parameters.parameter", words)))
        .collect()
}

pub(super) fn read(
    level: &ExportLevel,
    parameters: &[(String, String)],
    lenient: bool,
) -> Result<Asked, RecordError> {
    let mut asked = Asked {
        kinds: Vec::new(),
        since_ms: None,
        elements: Vec::new(),
        filters: Vec::new(),
        patients: None,
        ignored: Vec::new(),
    };
    let bad = |name: &str, words: &str| Err(refuse(IssueCode::Value, name, words));
    let parts = |value: &str| -> Vec<String> {
        let parts = value.split(',').map(str::trim);
        parts
            .filter(|one| !one.is_empty())
            .map(str::to_owned)
            .collect()
    };
    for (name, value) in parameters {
        match name.as_str() {
            "_outputFormat" => {
                // A plus sign that was not encoded arrives as a space.
                let format = value.replace(' ', "+");
                if !FORMATS.contains(&format.as_str()) {
                    return bad(name, "can be application/fhir+ndjson only");
                }
            }
            "_since" if asked.since_ms.is_none() => {
                let since = date_ms(&value.replace(' ', "+"));
                let Some(since) = since else {
                    return bad(name, "is no instant, like 2026-11-26T10:00:00Z");
                };
                asked.since_ms = Some(since);
            }
            "_type" => {
                for one in parts(value) {
                    let kind = ResourceType::parse(&one).filter(|kind| is_kept(*kind));
                    let Some(kind) = kind else {
                        return bad(name, "names what is no type that is kept here");
                    };
                    if *level != ExportLevel::System && !is_in_record(kind) {
                        let words = format!(
                            "{kind} is in no patient's record; it comes with [base]/$export"
                        );
                        return bad(name, &words);
                    }
                    if !asked.kinds.contains(&kind) {
                        asked.kinds.push(kind);
                    }
                }
            }
            "_elements" => asked.elements.extend(parts(value)),
            TYPE_FILTER => asked.filters.push(value.clone()),
            "patient" if *level != ExportLevel::System => {
                let id = Reference::relative(value)
                    .filter(|(kind, _)| *kind == ResourceType::Patient)
                    .map(|(_, id)| id.to_owned());
                let Some(id) = id else {
                    return bad(name, "is a reference to a patient here, like Patient/1");
                };
                asked.patients.get_or_insert_default().insert(id);
            }
            _ if lenient => asked.ignored.push(shown(name)),
            other if NOT_HERE.iter().any(|(known, _)| other == *known) => {
                let words = NOT_HERE.iter().find(|(known, _)| other == *known);
                let words = words.map_or("", |(_, words)| words);
                return Err(refuse(IssueCode::NotSupported, name, words));
            }
            _ => {
                let words = "is no parameter of this $export, or is there twice; there are _outputFormat, _since, _type, _typeFilter, _elements and, of patients and by POST, patient";
                return Err(refuse(IssueCode::NotSupported, name, words));
            }
        }
    }
    if asked
        .patients
        .as_ref()
        .is_some_and(|some| some.len() > PATIENTS_MAX)
    {
        return Err(too_many("patient"));
    }
    check_elements(&asked)?;
    Ok(asked)
}

/// Whether a patient's record can hold the type.
pub(super) fn is_in_record(kind: ResourceType) -> bool {
    kind == ResourceType::Patient || kind.may_be_patients()
}

/// Each element must be one of its type, or of some.
fn check_elements(asked: &Asked) -> Result<(), RecordError> {
    for given in &asked.elements {
        let (kind, element) = match given.split_once('.') {
            Some((kind, element)) => (ResourceType::parse(kind), element),
            None => (None, given.as_str()),
        };
        if kind.is_none() && given.contains('.') {
            let words = "names elements as Type.element or element";
            return Err(refuse(IssueCode::Value, "_elements", words));
        }
        let one = [("_elements".to_owned(), element.to_owned())];
        Subset::parse(kind, &one).map_err(|outcome| RecordError::with(400, outcome))?;
    }
    Ok(())
}

/// The first millisecond of a date or instant, not before the epoch.
fn date_ms(text: &str) -> Option<u64> {
    let start_ms = fhir::date::parse(text)?.start_ms;
    u64::try_from(start_ms).ok().filter(|ms| *ms < 1 << 44)
}

fn too_many(name: &str) -> RecordError {
    let words = format!("are more than {PATIENTS_MAX} patients; ask for fewer at a time");
    let outcome = fhir::OperationOutcome::at(IssueCode::TooCostly, words, name);
    RecordError::with(422, outcome)
}

impl Record {
    /// The types of an export: those that were named, each of which must be allowed, or all that are.
    pub(super) async fn kinds(
        &self,
        caller: &Caller,
        level: &ExportLevel,
        asked: &Asked,
        permit: &Permit,
    ) -> Result<Vec<ResourceType>, RecordError> {
        for kind in &asked.kinds {
            if !(permit.allows(Action::Search, *kind) && permit.shows(*kind)) {
                // Says why not, and leaves the trace of it.
                self.permit(caller, Action::Search, Some(*kind), None)
                    .await?;
                let words = format!("{kind} can't be exported");
                return Err(RecordError::new(403, IssueCode::Forbidden, words));
            }
        }
        if !asked.kinds.is_empty() {
            return Ok(asked.kinds.clone());
        }
        let all = ResourceType::all().filter(|kind| {
            is_kept(*kind)
                && *kind != ResourceType::AuditEvent
                && permit.allows(Action::Search, *kind)
                && permit.shows(*kind)
                && (*level == ExportLevel::System || is_in_record(*kind))
        });
        Ok(all.collect())
    }

    /// Whose resources an export is of.
    pub(super) async fn of(
        &self,
        caller: &Caller,
        level: &ExportLevel,
        asked: &Asked,
    ) -> Result<ExportOf, RecordError> {
        let named = asked.patients.clone();
        let group = match level {
            ExportLevel::System => return Ok(ExportOf::System),
            ExportLevel::Patients => {
                return Ok(named.map_or(ExportOf::Patients, ExportOf::These));
            }
            ExportLevel::Group(id) => id,
        };
        let answer = self.read(caller, ResourceType::Group, group).await?;
        let members = members(&answer.body, &caller.base)?;
        let Some(named) = named else {
            return Ok(ExportOf::These(members));
        };
        if !named.is_subset(&members) {
            let words = "names a patient who is no member of the group";
            return Err(refuse(IssueCode::Value, "patient", words));
        }
        Ok(ExportOf::These(named))
    }
}

/// The patients of a group who are active members.
fn members(body: &[u8], base: &str) -> Result<BTreeSet<String>, RecordError> {
    let group = Resource::parse(body).map_err(|outcome| RecordError::with(500, outcome))?;
    let list = group.get("member").and_then(Value::as_array);
    let mut members = BTreeSet::new();
    for member in list.into_iter().flatten() {
        if member.get("inactive") == Some(&Value::Bool(true)) {
            continue;
        }
        let reference = member.pointer("/entity/reference").and_then(Value::as_str);
        let reference = reference.unwrap_or_default();
        let local = reference
            .strip_prefix(base)
            .and_then(|rest| rest.strip_prefix('/'))
            .unwrap_or(reference);
        match Reference::relative(local) {
            Some((ResourceType::Patient, id)) => {
                members.insert(id.to_owned());
            }
            Some((kind, _)) if kind.name() == "Group" => {
                let words = "a member of the group is a group itself; export that one by itself";
                return Err(RecordError::new(422, IssueCode::NotSupported, words));
            }
            // Staff, devices, patients of other servers: none of them has a record here.
            _ => {}
        }
    }
    if members.len() > PATIENTS_MAX {
        return Err(too_many("Group.member"));
    }
    Ok(members)
}
