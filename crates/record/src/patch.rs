//! `patch`: a change to what is there, described instead of sent whole (R4, section 3.1.0.5).
//!
//! The answer to a patch shows the resource, and its tests ask questions of it, so it is a read as well
//! as an update: it needs the right to do both, what consent hides is not there, and the read is
//! audited before anything is answered. The patch is applied to the newest version, and again to a
//! newer one if somebody else wrote in between.
use std::ops::ControlFlow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fhir::patch::Patch;
use fhir::{IssueCode, OperationOutcome, Resource, ResourceType};
use ledger::Expected;
use trust::{Action, Permit, Vault, Versioned};

use crate::conditional::Aim;
use crate::error::conflict;
use crate::interact::{gone, not_found};
use crate::write::{
    IfMatch, check_id, check_owner, check_same_id, check_unconditional, check_writable, heavy,
    pause, tidy, wrap,
};
use crate::{
    ATTEMPTS_MAX, Answer, Caller, PATCH_WORK_MAX, Preconditions, RESOURCE_BYTES_MAX, Record,
    RecordError,
};

/// The form of a patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchForm {
    /// JSON Patch (RFC 6902), `application/json-patch+json`.
    Json,
    /// XML Patch (RFC 5261), `application/xml-patch+xml`.
    Xml,
    /// FHIRPath Patch: a `Parameters` resource as JSON.
    Parameters,
}

impl PatchForm {
    /// By the media type that a `Binary` names.
    fn of(media_type: &str) -> Option<Self> {
        match media_type.split(';').next()?.trim() {
            "application/json-patch+json" => Some(Self::Json),
            "application/xml-patch+xml" => Some(Self::Xml),
            _ => None,
        }
    }
}

/// Understands the body of a patch.
async fn parse(form: PatchForm, body: &[u8]) -> Result<Patch, RecordError> {
    if body.len() > RESOURCE_BYTES_MAX {
        let words = format!(
            "the patch has {} bytes; at most {RESOURCE_BYTES_MAX} are taken",
            body.len()
        );
        return Err(RecordError::new(413, IssueCode::TooLong, words));
    }
    let text = body.to_vec();
    let parsed = heavy(text.len(), move || match form {
        PatchForm::Json => Patch::parse_json(&text),
        PatchForm::Xml => Patch::parse_xml(&text),
        PatchForm::Parameters => {
            Resource::parse(&text).and_then(|resource| Patch::from_parameters(&resource))
        }
    });
    parsed
        .await?
        .map_err(|outcome| RecordError::with(400, outcome))
}

/// Understands the resource of a bundle's entry: `Parameters`, or a patch of another form in a
/// `Binary` (R4, section 3.1.0.5).
pub(crate) fn of_entry(resource: &Resource) -> Result<Patch, RecordError> {
    let bad = |code, words: &str, part: &str| {
        RecordError::with(400, OperationOutcome::at(code, words, part))
    };
    let patch = match resource.kind() {
        ResourceType::Parameters => Patch::from_parameters(resource),
        ResourceType::Binary => {
            let form = resource.text_at(&["contentType"]).and_then(PatchForm::of);
            let Some(form) = form else {
                let words = "is neither application/json-patch+json nor application/xml-patch+xml";
                return Err(bad(IssueCode::NotSupported, words, "Binary.contentType"));
            };
            let data = resource.text_at(&["data"]).unwrap_or_default();
            let Ok(text) = STANDARD.decode(data) else {
                return Err(bad(IssueCode::Value, "is no base64", "Binary.data"));
            };
            match form {
                PatchForm::Json => Patch::parse_json(&text),
                PatchForm::Xml => Patch::parse_xml(&text),
                PatchForm::Parameters => {
                    Resource::parse(&text).and_then(|resource| Patch::from_parameters(&resource))
                }
            }
        }
        _ => {
            let words = "a patch is Parameters, or a Binary with a JSON or XML patch";
            return Err(bad(IssueCode::Invalid, words, "resourceType"));
        }
    };
    patch.map_err(|outcome| RecordError::with(400, outcome))
}

/// What a patch makes of a version: ready to be checked and written. It is a patch of what the caller reads, and
/// that has labels which aren't stored. `room` is what is left of [`PATCH_WORK_MAX`] for the request.
pub(crate) async fn patched(
    (vault, caller): (&Vault, &Caller),
    id: &str,
    patch: &Patch,
    row: &Versioned,
    room: &mut usize,
) -> Result<Resource, RecordError> {
    // Before anything of it is looked at: a test that fails would tell what is kept.
    let kind = row.resource.kind();
    if !crate::is_written_freely(kind) {
        let words =
            format!("a {kind} is changed by PUT alone: not by a patch, nor in a transaction");
        return Err(crate::error::not_supported(422, words));
    }
    let (patch, mut resource, base) = (patch.clone(), row.resource.clone(), caller.base.clone());
    vault.label(&mut resource);
    // Each operation looks through the resource.
    let work = resource
        .as_value()
        .to_string()
        .len()
        .saturating_mul(patch.len());
    *room = room.checked_sub(work).ok_or_else(|| {
        let words = format!(
            "patching takes the bytes of each resource times the operations of its patch, and one request may take {PATCH_WORK_MAX} of these; send fewer or smaller patches at once"
        );
        RecordError::new(422, IssueCode::TooCostly, words)
    })?;
    let patched = heavy(work, move || {
        let mut patched = patch.apply(&resource)?;
        tidy(&base, &mut patched);
        Ok(patched)
    });
    let mut patched = patched
        .await?
        .map_err(|outcome| RecordError::with(422, outcome))?;
    vault.take_labels_back(&mut patched);
    check_same_id(id, &patched).map_err(|error| RecordError {
        status: 422,
        ..error
    })?;
    check_unconditional(&mut patched)?;
    let bytes = patched.to_json().len();
    if bytes > RESOURCE_BYTES_MAX {
        let words = format!(
            "the patched resource has {bytes} bytes; at most {RESOURCE_BYTES_MAX} are kept"
        );
        return Err(RecordError::new(413, IssueCode::TooLong, words));
    }
    Ok(patched)
}

impl Record {
    /// `patch`. Without `If-Match` it is applied to whatever the newest version is.
    ///
    /// # Errors
    /// 400, 403, 404, 409, 410, 412, 413, 422 when it can't be applied or what it makes is not valid,
    /// 500.
    pub async fn patch(
        &self,
        caller: &Caller,
        kind: ResourceType,
        id: &str,
        preconditions: Preconditions<'_>,
        form: PatchForm,
        body: &[u8],
    ) -> Result<Answer, RecordError> {
        check_writable(kind)?;
        check_id(id)?;
        let if_match = IfMatch::of(preconditions)?;
        let patch = parse(form, body).await?;
        let aim = Aim::Id(id.to_owned());
        self.patch_parsed(caller, kind, &aim, &if_match, &patch)
            .await
    }

    /// Conditional `patch`: of the one resource that matches.
    ///
    /// # Errors
    /// As [`Record::patch`]; 404 when the criteria match nothing, 412 when they match several.
    pub async fn conditional_patch(
        &self,
        caller: &Caller,
        kind: ResourceType,
        criteria: &[(String, String)],
        preconditions: Preconditions<'_>,
        form: PatchForm,
        body: &[u8],
    ) -> Result<Answer, RecordError> {
        check_writable(kind)?;
        let aim = Aim::Criteria(self.criteria(caller, kind, criteria)?);
        let if_match = IfMatch::of(preconditions)?;
        let patch = parse(form, body).await?;
        self.patch_parsed(caller, kind, &aim, &if_match, &patch)
            .await
    }

    pub(crate) async fn patch_parsed(
        &self,
        caller: &Caller,
        kind: ResourceType,
        aim: &Aim,
        if_match: &IfMatch,
        patch: &Patch,
    ) -> Result<Answer, RecordError> {
        let permit = self
            .permit(caller, Action::Update, Some(kind), None)
            .await?;
        for attempt in 0..ATTEMPTS_MAX {
            let found = match aim {
                Aim::Id(id) => (id.clone(), None),
                Aim::Criteria(criteria) => {
                    let (id, version) = self.meant(caller, &permit, criteria).await?;
                    (id, Some(version))
                }
            };
            let (id, version) = (found.0.as_str(), found.1);
            let row = self
                .to_be_patched(caller, &permit, (kind, id), if_match)
                .await?;
            // Changed since it was found, it may not be what is meant any more.
            if version.is_some_and(|version| version != row.version) {
                pause(attempt).await;
                continue;
            }
            let mut room = PATCH_WORK_MAX;
            let resource = patched((self.vault(), caller), id, patch, &row, &mut room).await?;
            self.check_valid(&resource)
                .map_err(|outcome| RecordError::with(422, outcome))?;
            check_owner(Some(&row), &Vault::owner(&resource))
                .map_err(|outcome| RecordError::with(422, outcome))?;
            let put = self.put(
                caller,
                &permit,
                resource,
                Expected::Version(row.version),
                false,
            );
            if let ControlFlow::Break(answer) = put.await? {
                return Ok(answer);
            }
            pause(attempt).await;
        }
        Err(conflict())
    }

    /// The version that a patch is applied to, shown to the caller: decided and audited as a read.
    pub(crate) async fn to_be_patched(
        &self,
        caller: &Caller,
        permit: &Permit,
        (kind, id): (ResourceType, &str),
        if_match: &IfMatch,
    ) -> Result<Versioned, RecordError> {
        let reading = self
            .permit(caller, Action::Read, Some(kind), self.own_patient(kind, id))
            .await?;
        let existing = self
            .vault()
            .load(permit, kind, id)
            .await
            .map_err(wrap(caller))?;
        self.check_match(caller, permit, (kind, id), if_match, existing.as_ref())
            .await?;
        let shown = self.vault().read(&reading, kind, id).await;
        let shown = shown.map_err(wrap(caller))?;
        match (existing, shown) {
            (Some(row), Some(_)) if !row.deleted => Ok(row),
            (Some(row), Some(_)) => Err(gone(row.version)),
            _ => Err(not_found()),
        }
    }
}
