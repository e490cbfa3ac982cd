//! What all writes share: bodies, preconditions, owners, answers.
use fhir::{IssueCode, OperationOutcome, Resource, ResourceType, validate};
use ledger::{Expected, Owner, Written};
use trust::{Permit, TrustError, Vault, Versioned};

use crate::error::{information, not_supported};
use crate::{Answer, Caller, PreferReturn, RecordError, is_kept, is_writable, refs};

/// Parsing a body of at least this many bytes goes to a blocking thread: at about 100 MB/s it would
/// keep the async ones from their work for more than a few milliseconds.
const HEAVY_BYTES: usize = 512 * 1024;

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

/// All that is structurally wrong with a resource.
pub(crate) fn check_valid(resource: &Resource) -> Result<(), OperationOutcome> {
    let issues = validate::check(resource);
    if issues.is_empty() {
        Ok(())
    } else {
        Err(OperationOutcome { issues })
    }
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
}

impl IfMatch {
    /// Parses `W/"3"`, `"3"`, `3`, `*` or a list of them.
    pub(crate) fn parse(text: Option<&str>) -> Result<Self, RecordError> {
        let Some(text) = text else {
            return Ok(Self::Anything);
        };
        if text.trim() == "*" {
            return Ok(Self::Something);
        }
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
                        "If-Match is no version like W/\"3\"",
                    ));
                }
            }
        }
        Ok(Self::Versions(versions))
    }
    /// 412 when what is there is not what the client depends on.
    pub(crate) fn check(&self, existing: Option<&Versioned>) -> Result<(), RecordError> {
        let live = existing.filter(|row| !row.deleted);
        let fine = match self {
            Self::Anything => true,
            Self::Something => live.is_some(),
            Self::Versions(versions) => live.is_some_and(|row| versions.contains(&row.version)),
        };
        if fine {
            return Ok(());
        }
        let words = match live {
            Some(row) => format!(
                "the newest version is {}, not the one that If-Match names",
                row.version
            ),
            None => "there is no version that If-Match could name".to_owned(),
        };
        Err(RecordError::new(412, IssueCode::Conflict, words))
    }
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

/// The answer to a create or update. `resource` is needed for `Prefer: return=representation` only.
pub(crate) fn written_answer(
    caller: &Caller,
    kind: ResourceType,
    id: &str,
    resource: Option<Resource>,
    written: Written,
    created: bool,
) -> Answer {
    let last_modified_ms = written.at.number.unix_ms();
    let body = match (caller.prefer_return, resource) {
        (PreferReturn::Representation, Some(mut resource)) => {
            resource.set_meta(written.version, last_modified_ms);
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
}
