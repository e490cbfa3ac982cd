//! What all writes share: bodies, preconditions, owners, answers.
use std::ops::ControlFlow;

use fhir::{Issue, IssueCode, OperationOutcome, Resource, ResourceType, Severity, date};
use ledger::{Expected, Owner, Written};
use serde_json::Value;
use trust::{Change, Permit, TrustError, Unit, Vault, Versioned};

use crate::error::{conflict, information, is_conflict, not_supported};
use crate::once::kept_of;
use crate::validation::with_warnings;
use crate::{
    Answer, Caller, Preconditions, PreferReturn, Record, RecordError, is_kept, is_writable, refs,
};

/// Parsing a body of at least this many bytes goes to a blocking thread: at about 100 MB/s it would
/// keep the async ones from their work for more than a few milliseconds.
pub(crate) const HEAVY_BYTES: usize = 512 * 1024;

/// Runs `work` where `bytes` of JSON don't hold up others.
pub(crate) async fn heavy<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, RecordError> {
    if bytes < HEAVY_BYTES {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| RecordError {
            status: 500,
            outcome: OperationOutcome::error(IssueCode::Exception, "the server failed"),
            inside: Some(format!("a blocking task failed: {error}")),
        })
}

/// Refuses types that are not kept.
pub(crate) fn check_kept(kind: ResourceType) -> Result<(), RecordError> {
    if is_kept(kind) {
        Ok(())
    } else {
        Err(not_supported(
            404,
            format!("{kind} has no endpoint of its own"),
        ))
    }
}

/// Refuses types that clients can't write.
pub(crate) fn check_writable(kind: ResourceType) -> Result<(), RecordError> {
    check_kept(kind)?;
    if is_writable(kind) {
        Ok(())
    } else {
        Err(not_supported(
            405,
            format!("{kind} resources are written by this server alone"),
        ))
    }
}

pub(crate) fn check_id(id: &str) -> Result<(), RecordError> {
    if fhir::is_id(id) {
        return Ok(());
    }
    Err(RecordError::new(
        400,
        IssueCode::Value,
        "is no id: 1 to 64 letters, digits, `-` and `.`",
    ))
}

/// A single resource from a request's body.
pub(crate) async fn parse_body(kind: ResourceType, body: &[u8]) -> Result<Resource, RecordError> {
    if body.len() > crate::RESOURCE_BYTES_MAX {
        let words = format!(
            "the resource has {} bytes; at most {} are taken",
            body.len(),
            crate::RESOURCE_BYTES_MAX
        );
        return Err(RecordError::new(413, IssueCode::TooLong, words));
    }
    let parsed = if body.len() < HEAVY_BYTES {
        Resource::parse(body)
    } else {
        let body = body.to_vec();
        heavy(body.len(), move || Resource::parse(&body)).await?
    };
    let resource = parsed.map_err(|outcome| RecordError::with(400, outcome))?;
    check_type(kind, &resource)?;
    Ok(resource)
}

/// The body's type must be the URL's.
pub(crate) fn check_type(kind: ResourceType, resource: &Resource) -> Result<(), RecordError> {
    if resource.kind() == kind {
        return Ok(());
    }
    let words = format!(
        "the body is a {}, but the address says {kind}",
        resource.kind()
    );
    Err(RecordError::with(
        400,
        OperationOutcome::at(IssueCode::Invalid, words, "resourceType"),
    ))
}

/// The body of an update carries the id of the URL (R4, section 3.1.0.4).
pub(crate) fn check_same_id(id: &str, resource: &Resource) -> Result<(), RecordError> {
    let words = match resource.id() {
        Some(same) if same == id => return Ok(()),
        Some(_) => "is not the id that the address says",
        None => "is missing; an update carries the id that the address says",
    };
    Err(RecordError::with(
        400,
        OperationOutcome::at(IssueCode::Invalid, words, format!("{}.id", resource.kind())),
    ))
}

/// Takes away what the server sets, and makes references to this server relative, so that they keep
/// their meaning when its address changes.
pub(crate) fn tidy(base: &str, resource: &mut Resource) {
    resource.strip_meta();
    refs::replace(resource, &mut |text| {
        let rest = text.strip_prefix(base)?.strip_prefix('/')?;
        (fhir::Reference::parse(rest).is_some() || refs::conditional(rest).is_some())
            .then(|| rest.to_owned())
    });
}

/// Outside a transaction nobody resolves conditional references (R4, section 3.1.0.11.2), and stored as
/// they are they would mean something else tomorrow.
pub(crate) fn check_unconditional(resource: &mut Resource) -> Result<(), RecordError> {
    let mut conditional = false;
    refs::replace(resource, &mut |text| {
        conditional |= refs::conditional(text).is_some();
        None
    });
    if conditional {
        Err(not_supported(
            400,
            "conditional references are resolved in a transaction only",
        ))
    } else {
        Ok(())
    }
}

/// Why a resource can't be kept, if it holds a patient's data and can be in no patient's record, where
/// the patient's key, consents and trail would be around it.
pub(crate) fn homeless(resource: &Resource) -> Option<Issue> {
    let kind = resource.kind();
    let (words, part) = if kind == ResourceType::Bundle {
        let strange = holds_patients(resource.get("entry"));
        let words = "holds what belongs to patients, which is kept in their records: send its entries as a batch or transaction, or import it";
        (strange.then_some(words)?, "entry")
    } else if kind == ResourceType::Binary && resource.patient().is_none() {
        let words = "is missing or names no patient by `Patient/id`; what a Binary holds can't be seen, so only a patient's record can keep it";
        (words, "securityContext")
    } else {
        let mut urn = false;
        resource.each_reference(&mut |text| urn |= refs::is_urn(text));
        let contained = resource.get("contained").and_then(Value::as_array);
        let patient_within = contained.into_iter().flatten().any(|inner| {
            inner.get("resourceType").and_then(Value::as_str) == Some(ResourceType::Patient.name())
        });
        if urn {
            (
                "a reference is a URN that no entry of the same bundle has; it could never be followed",
                "",
            )
        } else if resource.patient().is_none() && resource.is_of_patient_elsewhere() {
            (
                "belongs to a patient of another server; bring the patient here and refer to `Patient/id`",
                "",
            )
        } else if resource.patient().is_none() && patient_within {
            (
                "holds a patient who is nobody here; make the Patient a resource and refer to `Patient/id`",
                "contained",
            )
        } else {
            return None;
        }
    };
    let place = if part.is_empty() {
        kind.to_string()
    } else {
        format!("{kind}.{part}")
    };
    Some(Issue {
        severity: Severity::Error,
        code: IssueCode::BusinessRule,
        diagnostics: words.to_owned(),
        expression: Some(place),
    })
}

/// Whether entries of a bundle are, or hold, resources that belong in patients' records.
fn holds_patients(entries: Option<&Value>) -> bool {
    let entries = entries.and_then(Value::as_array);
    entries.into_iter().flatten().any(|entry| {
        let Some(resource) = entry.get("resource") else {
            return false;
        };
        let kind = resource.get("resourceType").and_then(Value::as_str);
        match kind.and_then(ResourceType::parse) {
            Some(ResourceType::Bundle) => holds_patients(resource.get("entry")),
            Some(kind) => kind.may_be_patients() || !is_kept(kind),
            None => true,
        }
    })
}

/// The id of the patient that an owner is.
pub(crate) fn patient_of(owner: &Owner) -> Option<String> {
    match owner {
        Owner::Patient(id) => Some(id.clone()),
        Owner::Tenant => None,
    }
}

/// Gives a resource that is new a random id. A patient is its own owner; of anything else the owner
/// must be readable from its references already.
pub(crate) fn mint(vault: &Vault, permit: &Permit, resource: &mut Resource) {
    let id = if resource.kind() == ResourceType::Patient {
        vault.ledger().mint_own_id(permit.tenant())
    } else {
        vault
            .ledger()
            .mint_id(permit.tenant(), &Vault::owner(resource))
    };
    resource.set_id(&id);
}

/// A version that a write depends on: `If-Match`, `Bundle.entry.request.ifMatch`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum IfMatch {
    /// Nothing was asked.
    Anything,
    /// `*`: some version must be there.
    Something,
    /// One of these versions must be the newest.
    Versions(Vec<u32>),
    /// Nothing may be there (`If-None-Match: *`).
    Nothing,
    /// None of these versions may be the newest (`If-None-Match`).
    NotVersions(Vec<u32>),
    /// Nothing may have been changed after this second (`If-Unmodified-Since`).
    UnmodifiedSince(u64),
}

impl IfMatch {
    /// Parses the headers of an update.
    pub(crate) fn of(preconditions: Preconditions<'_>) -> Result<Self, RecordError> {
        let Some(text) = preconditions.if_none_match else {
            return match (preconditions.if_match, preconditions.if_unmodified_since_s) {
                // With If-Match the date is to be ignored (RFC 9110, section 13.1.4).
                (None, Some(seconds)) => Ok(Self::UnmodifiedSince(seconds)),
                (if_match, _) => Self::parse(if_match),
            };
        };
        if preconditions.if_unmodified_since_s.is_some() {
            return Err(not_supported(
                400,
                "If-None-Match and If-Unmodified-Since together are not supported",
            ));
        }
        if preconditions.if_match.is_some() {
            return Err(not_supported(
                400,
                "If-Match and If-None-Match together are not supported",
            ));
        }
        if text.trim() == "*" {
            return Ok(Self::Nothing);
        }
        Ok(Self::NotVersions(versions(text, "If-None-Match")?))
    }
    /// Parses `W/"3"`, `"3"`, `3`, `*` or a list of them.
    pub(crate) fn parse(text: Option<&str>) -> Result<Self, RecordError> {
        let Some(text) = text else {
            return Ok(Self::Anything);
        };
        if text.trim() == "*" {
            return Ok(Self::Something);
        }
        Ok(Self::Versions(versions(text, "If-Match")?))
    }
    /// Whether what is there is what the client depends on.
    pub(crate) fn holds(&self, existing: Option<&Versioned>) -> bool {
        let live = existing.filter(|row| !row.deleted);
        match self {
            Self::Anything => true,
            Self::Something => live.is_some(),
            Self::Versions(versions) => live.is_some_and(|row| versions.contains(&row.version)),
            Self::Nothing => live.is_none(),
            Self::NotVersions(versions) => live.is_none_or(|row| !versions.contains(&row.version)),
            // A deletion is a change, too. What never was has no date (section 13.1.4).
            Self::UnmodifiedSince(seconds) => {
                existing.is_none_or(|row| row.at.number.unix_ms() / 1000 <= *seconds)
            }
        }
    }
    /// 412, with what the client may see.
    pub(crate) fn refusal(&self, seen: Option<&Versioned>) -> RecordError {
        let words = match (self, seen.filter(|row| !row.deleted)) {
            (Self::Nothing | Self::NotVersions(_), _) => {
                "there is a version that If-None-Match names".to_owned()
            }
            (Self::UnmodifiedSince(_), _) => {
                "it was changed after the date that If-Unmodified-Since names".to_owned()
            }
            (_, Some(row)) => format!(
                "the newest version is {}, not the one that If-Match names",
                row.version
            ),
            (_, None) => "there is no version that If-Match could name".to_owned(),
        };
        RecordError::new(412, IssueCode::Conflict, words)
    }
}

/// What a client that reads knows already (R4, section 3.1.0.2.1).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// `ifNoneMatch`.
    versions: Option<Vec<u32>>,
    /// `ifModifiedSince`, milliseconds since the epoch.
    since_ms: Option<i64>,
}

impl Known {
    /// Parses what an entry of a bundle says.
    pub(crate) fn parse(
        if_none_match: Option<&str>,
        if_modified_since: Option<&str>,
    ) -> Result<Self, RecordError> {
        let since = |text: &str| {
            date::parse(text)
                .map(|since| since.start_ms)
                .ok_or_else(|| {
                    RecordError::new(400, IssueCode::Value, "ifModifiedSince is no instant")
                })
        };
        Ok(Self {
            versions: if_none_match
                .map(|text| versions(text, "ifNoneMatch"))
                .transpose()?,
            since_ms: if_modified_since.map(since).transpose()?,
        })
    }
    /// Takes the body from an answer that tells nothing new: 304.
    pub(crate) fn spare(&self, answer: Answer) -> Answer {
        let same = match (&self.versions, self.since_ms) {
            (Some(versions), _) => answer.version.is_some_and(|own| versions.contains(&own)),
            // With a version the date is to be ignored (RFC 9110, section 13.1.3).
            (None, Some(since)) => answer
                .last_modified_ms
                .is_some_and(|at| i64::try_from(at).is_ok_and(|at| at <= since)),
            (None, None) => false,
        };
        if !same || answer.status != 200 {
            return answer;
        }
        Answer {
            status: 304,
            body: Vec::new(),
            ..answer
        }
    }
}

fn versions(text: &str, header: &str) -> Result<Vec<u32>, RecordError> {
    let mut versions = Vec::new();
    for part in text.split(',') {
        let part = part.trim();
        let part = part.strip_prefix("W/").unwrap_or(part);
        let plain = part
            .strip_prefix('"')
            .map_or(Some(part), |rest| rest.strip_suffix('"'));
        let version = plain.filter(|digits| {
            !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
        });
        match version {
            // A number too great to be a version is a version that is not there.
            Some(digits) => versions.push(digits.parse().unwrap_or(u32::MAX)),
            None => {
                return Err(RecordError::new(
                    400,
                    IssueCode::Value,
                    format!("{header} is no version like W/\"3\""),
                ));
            }
        }
    }
    Ok(versions)
}

/// Which version a write over `existing` makes, and whether it makes the resource anew.
pub(crate) fn expected_over(existing: Option<&Versioned>) -> (Expected, bool) {
    match existing {
        None => (Expected::Absent, true),
        Some(row) => (Expected::Version(row.version), row.deleted),
    }
}

/// A resource stays in the record that it belongs to: its versions lie in one shard under one
/// patient's key. (Of a deleted one nobody knows any more whose it was.)
pub(crate) fn check_owner(
    existing: Option<&Versioned>,
    new: &Owner,
) -> Result<(), OperationOutcome> {
    let moved = existing.is_some_and(|row| !row.deleted && Vault::owner(&row.resource) != *new);
    if !moved {
        return Ok(());
    }
    let words = "an update can't move a resource to another patient's record; delete it and create it there";
    Err(OperationOutcome::error(IssueCode::BusinessRule, words))
}

/// Waits a little before a write is tried again; longer each time, so that one of many gets through.
pub(crate) async fn pause(attempt: u32) {
    tokio::time::sleep(std::time::Duration::from_millis(u64::from(attempt))).await;
}

/// `Type/id/_history/version`.
pub(crate) fn location(kind: ResourceType, id: &str, version: u32) -> String {
    format!("{kind}/{id}/_history/{version}")
}

impl Record {
    /// Writes one resource in a commit of its own, and answers. Gives the resource back when somebody else
    /// wrote it in between: who asked for it looks again.
    pub(crate) async fn put(
        &self,
        caller: &Caller,
        permit: &Permit,
        resource: Resource,
        expected: Expected,
        created: bool,
    ) -> Result<ControlFlow<Answer, Resource>, RecordError> {
        let changes = vec![Change::Put {
            resource: resource.clone(),
            expected,
        }];
        let unit = Unit {
            kept: (caller.once.as_ref()).and_then(|_| kept_of(&changes, created)),
            changes,
            ..Unit::default()
        };
        match self.vault().commit(permit, unit).await {
            Ok(receipt) => {
                let written = *receipt.changes.first().ok_or_else(conflict)?;
                let warnings = self.warnings(caller, &resource);
                let (kind, id) = (
                    resource.kind(),
                    resource.id().unwrap_or_default().to_owned(),
                );
                let resource = Some(resource);
                let answer = self.written_answer(caller, (kind, &id), resource, written, created);
                Ok(ControlFlow::Break(with_warnings(answer, warnings)))
            }
            Err(error) if is_conflict(&error) => Ok(ControlFlow::Continue(resource)),
            Err(error) => Err(wrap(caller)(error)),
        }
    }
}

impl Record {
    /// The answer to a create or update. `resource` is needed for `Prefer: return=representation` only.
    pub(crate) fn written_answer(
        &self,
        caller: &Caller,
        (kind, id): (ResourceType, &str),
        resource: Option<Resource>,
        written: Written,
        created: bool,
    ) -> Answer {
        let last_modified_ms = written.at.number.unix_ms();
        let body = match (caller.prefer_return, resource) {
            (PreferReturn::Representation, Some(mut resource)) => {
                resource.set_meta(written.version, last_modified_ms);
                // As a read gives it.
                self.vault().take_labels_back(&mut resource);
                self.vault().label(&mut resource);
                resource.to_json()
            }
            (PreferReturn::OperationOutcome, _) => {
                let words = if created { "created" } else { "updated" };
                information(format!(
                    "{kind}/{id} {words} as version {}",
                    written.version
                ))
                .to_resource()
                .to_json()
            }
            _ => Vec::new(),
        };
        Answer {
            status: if created { 201 } else { 200 },
            version: Some(written.version),
            last_modified_ms: Some(last_modified_ms),
            location: Some(location(kind, id, written.version)),
            body,
        }
    }
}

/// The answer to a conditional create that found the resource: nothing was written.
pub(crate) fn existing_answer(caller: &Caller, existing: &Versioned) -> Answer {
    let (kind, id) = (
        existing.resource.kind(),
        existing.resource.id().unwrap_or_default(),
    );
    let body = match caller.prefer_return {
        PreferReturn::Representation => existing.resource.to_json(),
        PreferReturn::Minimal => Vec::new(),
        PreferReturn::OperationOutcome => {
            information(format!("{kind}/{id} is there already; nothing was written"))
                .to_resource()
                .to_json()
        }
    };
    Answer {
        status: 200,
        version: Some(existing.version),
        last_modified_ms: Some(existing.at.number.unix_ms()),
        location: Some(location(kind, id, existing.version)),
        body,
    }
}

/// The answer to a delete; `version` is that of the deletion, if there was anything to delete.
pub(crate) fn deleted_answer(caller: &Caller, version: Option<Written>) -> Answer {
    let words = if version.is_some() {
        "deleted"
    } else {
        "there was nothing to delete"
    };
    let body = match caller.prefer_return {
        PreferReturn::OperationOutcome => information(words).to_resource().to_json(),
        _ => Vec::new(),
    };
    Answer {
        status: if body.is_empty() { 204 } else { 200 },
        version: version.map(|written| written.version),
        last_modified_ms: version.map(|written| written.at.number.unix_ms()),
        location: None,
        body,
    }
}

/// Wraps trust's errors of one request.
pub(crate) fn wrap(caller: &Caller) -> impl Fn(TrustError) -> RecordError + '_ {
    |error| RecordError::from_trust(error, &caller.request_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn if_match() {
        for (text, expected) in [
            (None, Some(IfMatch::Anything)),
            (Some("*"), Some(IfMatch::Something)),
            (Some("W/\"3\""), Some(IfMatch::Versions(vec![3]))),
            (Some("\"3\""), Some(IfMatch::Versions(vec![3]))),
            (Some("3"), Some(IfMatch::Versions(vec![3]))),
            (
                Some("W/\"1\", W/\"2\""),
                Some(IfMatch::Versions(vec![1, 2])),
            ),
            (Some("99999999999"), Some(IfMatch::Versions(vec![u32::MAX]))),
            (Some("W/\"x\""), None),
            (Some("W/\"3"), None),
            (Some("+3"), None),
            (Some(""), None),
        ] {
            assert_eq!(IfMatch::parse(text).ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn if_none_match() {
        for (if_match, if_none_match, expected) in [
            (None, None, Some(IfMatch::Anything)),
            (None, Some("*"), Some(IfMatch::Nothing)),
            (None, Some("W/\"3\""), Some(IfMatch::NotVersions(vec![3]))),
            (Some("*"), Some("*"), None),
            (None, Some("x"), None),
        ] {
            let preconditions = Preconditions {
                if_match,
                if_none_match,
                ..Preconditions::default()
            };
            assert_eq!(
                IfMatch::of(preconditions).ok(),
                expected,
                "{preconditions:?}"
            );
        }
    }

    #[test]
    fn what_no_record_can_hold() {
        let entry = |resource: Value| serde_json::json!({"resourceType": "Bundle", "type": "document", "entry": [{"fullUrl": "urn:uuid:1", "resource": resource}]});
        let observation = |subject: &str| serde_json::json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "subject": {"reference": subject}});
        let contained = serde_json::json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "subject": {"reference": "#p"},
            "contained": [{"resourceType": "Patient", "id": "p"}]});
        let binary = |context: &str| serde_json::json!({"resourceType": "Binary", "contentType": "text/plain", "securityContext": {"reference": context}});
        for (value, fine) in [
            (observation("Patient/p"), true),
            (observation("Patient/nowhere"), true),
            (observation("Group/g"), true),
            (observation("urn:uuid:typo"), false),
            (observation("URN:oid:1.2"), false),
            (observation("http://x.org/fhir/Patient/p"), false),
            (observation("http://x.org/fhir/Group/g"), true),
            (contained, false),
            (binary("Patient/p"), true),
            (binary("DocumentReference/d"), false),
            (
                serde_json::json!({"resourceType": "Binary", "contentType": "text/plain"}),
                false,
            ),
            (entry(serde_json::json!({"resourceType": "Patient"})), false),
            (entry(observation("Group/g")), false),
            (entry(entry(observation("Group/g"))), false),
            (
                entry(serde_json::json!({"resourceType": "Parameters"})),
                false,
            ),
            (entry(binary("Patient/p")), false),
            (
                entry(
                    serde_json::json!({"resourceType": "Organization", "partOf": {"reference": "urn:uuid:1"}}),
                ),
                true,
            ),
            (
                serde_json::json!({"resourceType": "Organization", "partOf": {"reference": "urn:uuid:1"}}),
                false,
            ),
        ] {
            let resource = Resource::from_value(value.clone()).unwrap();
            assert_eq!(homeless(&resource).is_none(), fine, "{value}");
        }
    }
}
