//! Conditional update, patch and delete: criteria say which resource is meant (R4, sections 3.1.0.4.3,
//! 3.1.0.5 and 3.1.0.7.1).
//!
//! Criteria are looked up from one view, audited as a search before anything is answered, and the write
//! is of exactly the versions that they found. Whoever loses a race looks again. A conditional update
//! that finds nothing creates where a conditional create with the same criteria would, so that the two
//! can't make two of one.
use std::ops::ControlFlow;

use fhir::{IssueCode, OperationOutcome, Resource, ResourceType};
use ledger::Expected;
use trust::{Action, Change, Permit, Sought, Unit, Vault, Versioned};

use crate::criteria::{Criteria, Found, Reading, Slot, exhausted, hidden, several, unlike};
use crate::error::{conflict, information, is_conflict};
use crate::interact::not_found;
use crate::once::kept_of;
use crate::write::{
    IfMatch, check_owner, check_type, check_unconditional, check_writable, deleted_answer,
    parse_body, pause, tidy, wrap,
};
use crate::{
    ATTEMPTS_MAX, Answer, CONDITIONAL_DELETES_MAX, Caller, Preconditions, PreferReturn, Record,
    RecordError,
};

/// Which resource a write is about.
#[derive(Debug, Clone)]
pub(crate) enum Aim {
    Id(String),
    Criteria(Box<Criteria>),
}

/// The one resource that criteria mean, if there is one.
pub(crate) fn one(found: Option<&Found>) -> Result<Option<&Versioned>, RecordError> {
    match found {
        Some(Found::One(row)) => Ok(Some(row)),
        Some(Found::Hidden) => Err(hidden()),
        Some(Found::Several) => Err(several()),
        Some(Found::Nothing) | None => Ok(None),
    }
}

/// The resources that criteria mean, without those that consents keep from who asks: to them these are not
/// there, and a patch or a deletion makes nothing that could be there twice.
fn visible(sought: &Sought) -> Result<Vec<&Versioned>, RecordError> {
    if sought.more || sought.rows.len() > CONDITIONAL_DELETES_MAX {
        let words = format!(
            "the criteria match more than the {CONDITIONAL_DELETES_MAX} resources, or four megabytes of them, that one request looks through"
        );
        return Err(RecordError::new(412, IssueCode::TooCostly, words));
    }
    let rows = sought.rows.iter().filter(|found| !found.hidden);
    Ok(rows.map(|found| &found.row).collect())
}

/// The one of them that is to be patched.
pub(crate) fn only(sought: Option<&Sought>) -> Result<&Versioned, RecordError> {
    let rows = sought.map(visible).transpose()?.unwrap_or_default();
    match rows.as_slice() {
        [row] => Ok(row),
        [] => Err(not_found()),
        _ => Err(several()),
    }
}

/// All resources that criteria mean, each of which is to be deleted.
pub(crate) fn all<'a>(
    sought: Option<&'a Sought>,
    if_match: &IfMatch,
) -> Result<Vec<&'a Versioned>, RecordError> {
    let rows = sought.map(visible).transpose()?.unwrap_or_default();
    let refused = match rows.as_slice() {
        [] => (!if_match.holds(None)).then_some(None),
        rows => rows
            .iter()
            .find(|row| !if_match.holds(Some(row)))
            .map(|row| Some(*row)),
    };
    match refused {
        Some(row) => Err(if_match.refusal(row)),
        None => Ok(rows),
    }
}

/// Gives the body of a conditional update the id of what was found. One that names another is of
/// another resource (R4, section 3.1.0.4.3).
pub(crate) fn take_id(resource: &mut Resource, row: &Versioned) -> Result<(), RecordError> {
    let id = row.resource.id().unwrap_or_default();
    if resource.id().is_some_and(|own| own != id) {
        let words = "is not the id of the resource that the criteria match";
        let place = format!("{}.id", resource.kind());
        let outcome = OperationOutcome::at(IssueCode::Invalid, words, place);
        return Err(RecordError::with(400, outcome));
    }
    resource.set_id(id);
    Ok(())
}

/// The server gives the id where criteria match nothing: two clients that brought ids of their own
/// would make two resources under the same criteria.
pub(crate) fn check_no_id(resource: &Resource) -> Result<(), RecordError> {
    if resource.id().is_none() {
        return Ok(());
    }
    let words = "the criteria match nothing, and what is created under criteria gets its id from the server: leave it out, or PUT to Type/id";
    let place = format!("{}.id", resource.kind());
    let outcome = OperationOutcome::at(IssueCode::BusinessRule, words, place);
    Err(RecordError::with(422, outcome))
}

/// The answer to a delete of what criteria match.
pub(crate) fn deleted_all_answer(caller: &Caller, written: &[ledger::Written]) -> Answer {
    match written {
        [] | [_] => deleted_answer(caller, written.first().copied()),
        several => {
            let words = format!("{} resources deleted", several.len());
            let body = match caller.prefer_return {
                PreferReturn::OperationOutcome => information(words).to_resource().to_json(),
                _ => Vec::new(),
            };
            Answer {
                status: if body.is_empty() { 204 } else { 200 },
                version: None,
                last_modified_ms: several
                    .iter()
                    .map(|written| written.at.number.unix_ms())
                    .max(),
                location: None,
                body,
            }
        }
    }
}

impl Record {
    pub(crate) fn criteria(
        &self,
        caller: &Caller,
        kind: ResourceType,
        criteria: &[(String, String)],
    ) -> Result<Box<Criteria>, RecordError> {
        let owns = &self.vault().owns(caller.agent.tenant);
        let base = &caller.base;
        Criteria::of_pairs(Reading { base, owns }, kind, criteria)
            .map(Box::new)
            .map_err(|outcome| RecordError::with(400, outcome))
    }

    /// Conditional `update`: of the one resource that matches, or a create if none does.
    ///
    /// # Errors
    /// 400, 403, 409, 412 when the criteria match several, 413, 422, 500.
    pub async fn conditional_update(
        &self,
        caller: &Caller,
        kind: ResourceType,
        criteria: &[(String, String)],
        preconditions: Preconditions<'_>,
        body: &[u8],
    ) -> Result<Answer, RecordError> {
        check_writable(kind)?;
        let criteria = self.criteria(caller, kind, criteria)?;
        let if_match = IfMatch::of(preconditions)?;
        let resource = parse_body(kind, body).await?;
        self.update_by_criteria(caller, &criteria, &if_match, resource)
            .await
    }

    pub(crate) async fn update_by_criteria(
        &self,
        caller: &Caller,
        criteria: &Criteria,
        if_match: &IfMatch,
        mut resource: Resource,
    ) -> Result<Answer, RecordError> {
        let kind = criteria.kind();
        check_type(kind, &resource)?;
        tidy(&caller.base, &mut resource);
        check_unconditional(&mut resource)?;
        // The permit must see beyond one patient's rows, or criteria would miss what is another's.
        let mut permit = self
            .permit(caller, Action::Update, Some(kind), None)
            .await?;
        self.check_valid(&resource)
            .map_err(|outcome| RecordError::with(422, outcome))?;
        let vault = self.vault();
        for attempt in 0..ATTEMPTS_MAX {
            let mut resource = resource.clone();
            let found = self.sought(caller, &permit, criteria).await?;
            let row = one(Some(&found))?;
            if !if_match.holds(row) {
                return Err(if_match.refusal(row));
            }
            let expected = if let Some(row) = row {
                take_id(&mut resource, row)?;
                Expected::Version(row.version)
            } else {
                check_no_id(&resource)?;
                permit = self
                    .permit(caller, Action::Create, Some(kind), None)
                    .await?;
                match criteria.slot(vault, &permit).await.map_err(wrap(caller))? {
                    Slot::Free(id) => resource.set_id(&id),
                    // Found when looked for again.
                    Slot::Taken(_) => {
                        pause(attempt).await;
                        continue;
                    }
                    Slot::Exhausted => return Err(exhausted()),
                }
                Expected::Absent
            };
            if !criteria.matches(&resource) {
                return Err(unlike());
            }
            check_owner(row, &Vault::owner(&resource))
                .map_err(|outcome| RecordError::with(422, outcome))?;
            let put = self.put(caller, &permit, resource, expected, row.is_none());
            if let ControlFlow::Break(answer) = put.await? {
                return Ok(answer);
            }
            pause(attempt).await;
        }
        Err(conflict())
    }

    /// What is in the store for criteria; audited.
    pub(crate) async fn sought(
        &self,
        caller: &Caller,
        permit: &Permit,
        criteria: &Criteria,
    ) -> Result<Found, RecordError> {
        let found = Criteria::seek(self.vault(), permit, &[criteria]).await;
        let found = found.map_err(wrap(caller))?.pop();
        Ok(found.unwrap_or(Found::Nothing))
    }

    /// The id of the one resource that criteria match, for a write that has to be of one.
    pub(crate) async fn meant(
        &self,
        caller: &Caller,
        permit: &Permit,
        criteria: &Criteria,
    ) -> Result<(String, u32), RecordError> {
        let criteria = criteria.clone().for_all();
        let sought = Criteria::seek_rows(self.vault(), permit, &[&criteria]).await;
        let sought = sought.map_err(wrap(caller))?;
        let row = only(sought.first())?;
        Ok((
            row.resource.id().unwrap_or_default().to_owned(),
            row.version,
        ))
    }

    /// Conditional `delete`: of all that match, in one commit, up to [`CONDITIONAL_DELETES_MAX`].
    ///
    /// # Errors
    /// 400, 403, 409, 412 when the criteria match too many, 500.
    pub async fn conditional_delete(
        &self,
        caller: &Caller,
        kind: ResourceType,
        criteria: &[(String, String)],
        preconditions: Preconditions<'_>,
    ) -> Result<Answer, RecordError> {
        check_writable(kind)?;
        let criteria = self.criteria(caller, kind, criteria)?;
        let if_match = IfMatch::of(preconditions)?;
        self.delete_by_criteria(caller, &criteria, &if_match).await
    }

    pub(crate) async fn delete_by_criteria(
        &self,
        caller: &Caller,
        criteria: &Criteria,
        if_match: &IfMatch,
    ) -> Result<Answer, RecordError> {
        let kind = criteria.kind();
        let criteria = criteria.clone().for_all();
        let permit = self
            .permit(caller, Action::Delete, Some(kind), None)
            .await?;
        for attempt in 0..ATTEMPTS_MAX {
            let sought = Criteria::seek_rows(self.vault(), &permit, &[&criteria]).await;
            let sought = sought.map_err(wrap(caller))?;
            let rows = all(sought.first(), if_match)?;
            let changes: Vec<Change> = rows.into_iter().map(deletion).collect();
            if changes.is_empty() {
                return Ok(deleted_answer(caller, None));
            }
            let unit = Unit {
                kept: (caller.once.as_ref()).and_then(|_| kept_of(&changes, false)),
                changes,
                ..Unit::default()
            };
            match self.vault().commit(&permit, unit).await {
                Ok(receipt) => return Ok(deleted_all_answer(caller, &receipt.changes)),
                Err(error) if is_conflict(&error) => pause(attempt).await,
                Err(error) => return Err(wrap(caller)(error)),
            }
        }
        Err(conflict())
    }
}

/// The deletion of exactly this version.
pub(crate) fn deletion(row: &Versioned) -> Change {
    Change::Delete {
        kind: row.resource.kind(),
        id: row.resource.id().unwrap_or_default().to_owned(),
        expected: Expected::Version(row.version),
        owner: Vault::owner(&row.resource),
    }
}
