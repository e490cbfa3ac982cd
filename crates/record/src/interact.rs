//! What touches one resource: read, vread, create, update, delete.
use std::ops::ControlFlow;

use fhir::{IssueCode, Resource, ResourceType};
use ledger::Expected;
use trust::{Action, Change, Permit, Unit, Vault, Versioned};

use crate::criteria::{Criteria, Found, Reading, Slot, exhausted, hidden, several, unlike};
use crate::error::{conflict, is_conflict};
use crate::once::kept_of;
use crate::write::{
    IfMatch, check_id, check_kept, check_owner, check_same_id, check_type, check_unconditional,
    check_writable, deleted_answer, existing_answer, expected_over, mint, parse_body, patient_of,
    pause, tidy, wrap,
};
use crate::{ATTEMPTS_MAX, Answer, Caller, Preconditions, PreferReturn, Record, RecordError};

pub(crate) fn not_found() -> RecordError {
    RecordError::new(404, IssueCode::NotFound, "there is no such resource")
}

pub(crate) fn gone(version: u32) -> RecordError {
    let words = format!("was deleted (version {version})");
    RecordError::new(410, IssueCode::Deleted, words)
}

fn read_answer(row: Option<Versioned>) -> Result<Answer, RecordError> {
    let row = row.ok_or_else(not_found)?;
    if row.deleted {
        return Err(gone(row.version));
    }
    Ok(Answer {
        status: 200,
        version: Some(row.version),
        last_modified_ms: Some(row.at.number.unix_ms()),
        location: None,
        body: row.into_json(),
    })
}

impl Record {
    /// `read`.
    ///
    /// # Errors
    /// 404, 410, 403, 500.
    pub async fn read(
        &self,
        caller: &Caller,
        kind: ResourceType,
        id: &str,
    ) -> Result<Answer, RecordError> {
        check_kept(kind)?;
        let whose = self.whose(caller, kind, id).await?;
        let permit = self.permit(caller, Action::Read, Some(kind), whose).await?;
        if !fhir::is_id(id) {
            return Err(not_found());
        }
        read_answer(
            self.vault()
                .read_text(&permit, kind, id)
                .await
                .map_err(wrap(caller))?,
        )
    }

    /// `vread`.
    ///
    /// # Errors
    /// 404, 410, 403, 500.
    pub async fn version(
        &self,
        caller: &Caller,
        kind: ResourceType,
        id: &str,
        version: &str,
    ) -> Result<Answer, RecordError> {
        check_kept(kind)?;
        let whose = self.whose(caller, kind, id).await?;
        let permit = self.permit(caller, Action::Read, Some(kind), whose).await?;
        let number = version
            .parse()
            .ok()
            .filter(|_| version.bytes().all(|byte| byte.is_ascii_digit()));
        let (Some(number), true) = (number, fhir::is_id(id)) else {
            return Err(not_found());
        };
        read_answer(
            self.vault()
                .read_version(&permit, kind, id, number)
                .await
                .map_err(wrap(caller))?,
        )
    }

    /// The patient concerned, as far as the address says.
    #[allow(clippy::unused_self)]
    pub(crate) fn own_patient(&self, kind: ResourceType, id: &str) -> Option<String> {
        (kind == ResourceType::Patient && fhir::is_id(id)).then(|| id.to_owned())
    }

    /// `create`.
    ///
    /// # Errors
    /// 400, 403, 413, 422, 500.
    pub async fn create(
        &self,
        caller: &Caller,
        kind: ResourceType,
        body: &[u8],
    ) -> Result<Answer, RecordError> {
        check_writable(kind)?;
        let resource = parse_body(kind, body).await?;
        self.create_parsed(caller, kind, resource, None).await
    }

    /// Conditional create; `if_none_exist` is the `If-None-Exist` header. 201 when it was created, 200
    /// with the resource that is there already. However many do this at once, one resource is made.
    ///
    /// # Errors
    /// 400, 403, 409, 412 when the criteria match several, 413, 422, 500.
    pub async fn conditional_create(
        &self,
        caller: &Caller,
        kind: ResourceType,
        if_none_exist: &str,
        body: &[u8],
    ) -> Result<Answer, RecordError> {
        check_writable(kind)?;
        let owns = &self.vault().owns(caller.agent.tenant);
        let base = &caller.base;
        let criteria = Criteria::parse(Reading { base, owns }, kind, if_none_exist)
            .map_err(|outcome| RecordError::with(400, outcome))?;
        let resource = parse_body(kind, body).await?;
        self.create_parsed(caller, kind, resource, Some(criteria))
            .await
    }

    /// The same for what is given out once: what was made under the criteria keeps them, also when it is deleted,
    /// or changed so that they no longer find it.
    ///
    /// # Errors
    /// As [`Record::conditional_create`]; 409 when something was made under the criteria that they do not find.
    pub async fn create_once_for_ever(
        &self,
        caller: &Caller,
        kind: ResourceType,
        criteria: &str,
        body: &[u8],
    ) -> Result<Answer, RecordError> {
        check_writable(kind)?;
        let owns = &self.vault().owns(caller.agent.tenant);
        let base = &caller.base;
        let criteria = Criteria::parse(Reading { base, owns }, kind, criteria)
            .map_err(|outcome| RecordError::with(400, outcome))?;
        let resource = parse_body(kind, body).await?;
        self.create_parsed(caller, kind, resource, Some(criteria.for_ever()))
            .await
    }

    pub(crate) async fn create_parsed(
        &self,
        caller: &Caller,
        kind: ResourceType,
        mut resource: Resource,
        criteria: Option<Criteria>,
    ) -> Result<Answer, RecordError> {
        if kind == ResourceType::Subscription && criteria.is_none() {
            // In a box: what a subscription needs is no part of every other write's stack.
            return Box::pin(self.create_subscription(caller, resource)).await;
        }
        check_type(kind, &resource)?;
        resource.remove("id");
        tidy(&caller.base, &mut resource);
        check_unconditional(&mut resource)?;
        // The permit must see beyond one patient's rows, or criteria would miss what is another's.
        let permit = self
            .permit(caller, Action::Create, Some(kind), None)
            .await?;
        self.check_valid(&resource)
            .map_err(|outcome| RecordError::with(422, outcome))?;
        let vault = self.vault();
        for attempt in 0..ATTEMPTS_MAX {
            let expected = match &criteria {
                None => {
                    mint(vault, &permit, &mut resource);
                    Expected::Absent
                }
                Some(criteria) => {
                    let found = Criteria::seek(vault, &permit, &[criteria]).await;
                    match found.map_err(wrap(caller))?.pop() {
                        Some(Found::One(row)) => return self.found_existing(caller, *row).await,
                        Some(Found::Hidden) => return Err(hidden()),
                        Some(Found::Several) => return Err(several()),
                        Some(Found::Nothing) | None => {}
                    }
                    match criteria.slot(vault, &permit).await.map_err(wrap(caller))? {
                        Slot::Free(id) => {
                            resource.set_id(&id);
                            if !criteria.matches(&resource) {
                                return Err(unlike());
                            }
                            Expected::Absent
                        }
                        // Found when looked for again.
                        Slot::Taken(_) => {
                            pause(attempt).await;
                            continue;
                        }
                        Slot::Exhausted => return Err(exhausted()),
                    }
                }
            };
            match self.put(caller, &permit, resource, expected, true).await? {
                ControlFlow::Break(answer) => return Ok(answer),
                ControlFlow::Continue(unwritten) => resource = unwritten,
            }
            pause(attempt).await;
        }
        Err(conflict())
    }

    /// Answers with a resource that is there already, and was looked for on behalf of the caller; showing
    /// it is a read, decided and audited as one.
    pub(crate) async fn found_existing(
        &self,
        caller: &Caller,
        row: Versioned,
    ) -> Result<Answer, RecordError> {
        if caller.prefer_return != PreferReturn::Representation {
            return Ok(existing_answer(caller, &row));
        }
        let (kind, id) = (
            row.resource.kind(),
            row.resource.id().unwrap_or_default().to_owned(),
        );
        let permit = self
            .permit(
                caller,
                Action::Read,
                Some(kind),
                patient_of(&Vault::owner(&row.resource)),
            )
            .await?;
        let shown = self.vault().read(&permit, kind, &id).await;
        match shown.map_err(wrap(caller))? {
            Some(row) if !row.deleted => Ok(existing_answer(caller, &row)),
            // Gone in between, or hidden.
            _ => Err(conflict()),
        }
    }

    /// 412 when what is there is not what the client depends on. The answer tells something of it, so
    /// it is a read, audited as one; what the caller may not see is not there.
    pub(crate) async fn check_match(
        &self,
        caller: &Caller,
        permit: &Permit,
        (kind, id): (ResourceType, &str),
        if_match: &IfMatch,
        existing: Option<&Versioned>,
    ) -> Result<(), RecordError> {
        if if_match.holds(existing) {
            return Ok(());
        }
        let seen = self.vault().read(permit, kind, id).await;
        Err(if_match.refusal(seen.map_err(wrap(caller))?.as_ref()))
    }

    /// Records that the answer tells of a resource which is not written.
    pub(crate) async fn note_look(
        &self,
        caller: &Caller,
        permit: &Permit,
        kind: ResourceType,
        id: &str,
    ) -> Result<(), RecordError> {
        let seen = self.vault().read(permit, kind, id).await;
        seen.map(drop).map_err(wrap(caller))
    }

    /// `update` (and update-as-create); `if_match` is the version of an `If-Match: W/"n"` header.
    ///
    /// # Errors
    /// 400, 403, 409, 412, 413, 422, 500.
    pub async fn update(
        &self,
        caller: &Caller,
        kind: ResourceType,
        id: &str,
        if_match: Option<&str>,
        body: &[u8],
    ) -> Result<Answer, RecordError> {
        let preconditions = Preconditions {
            if_match,
            ..Preconditions::default()
        };
        self.update_if(caller, kind, id, preconditions, body).await
    }

    /// The same with all the preconditions that an update can have; `If-None-Match: *` makes it a
    /// create that overwrites nothing.
    ///
    /// # Errors
    /// As [`Record::update`].
    pub async fn update_if(
        &self,
        caller: &Caller,
        kind: ResourceType,
        id: &str,
        preconditions: Preconditions<'_>,
        body: &[u8],
    ) -> Result<Answer, RecordError> {
        check_writable(kind)?;
        check_id(id)?;
        let if_match = IfMatch::of(preconditions)?;
        let resource = parse_body(kind, body).await?;
        self.update_parsed(caller, kind, id, &if_match, resource)
            .await
    }

    pub(crate) async fn update_parsed(
        &self,
        caller: &Caller,
        kind: ResourceType,
        id: &str,
        if_match: &IfMatch,
        mut resource: Resource,
    ) -> Result<Answer, RecordError> {
        if kind == ResourceType::Subscription {
            return Box::pin(self.update_subscription(caller, id, if_match, resource)).await;
        }
        check_type(kind, &resource)?;
        check_same_id(id, &resource)?;
        tidy(&caller.base, &mut resource);
        check_unconditional(&mut resource)?;
        let owner = Vault::owner(&resource);
        let mut permit = self
            .permit(caller, Action::Update, Some(kind), None)
            .await?;
        self.check_valid(&resource)
            .map_err(|outcome| RecordError::with(422, outcome))?;
        let mut may_create = false;
        for attempt in 0..ATTEMPTS_MAX {
            let existing = self
                .vault()
                .load(&permit, kind, id)
                .await
                .map_err(wrap(caller))?;
            self.check_match(caller, &permit, (kind, id), if_match, existing.as_ref())
                .await?;
            if let Err(outcome) = check_owner(existing.as_ref(), &owner) {
                self.note_look(caller, &permit, kind, id).await?;
                return Err(RecordError::with(422, outcome));
            }
            let (expected, created) = expected_over(existing.as_ref());
            if created && !may_create {
                // Creating by update needs the right to create as well.
                permit = self
                    .permit(caller, Action::Create, Some(kind), None)
                    .await?;
                may_create = true;
            }
            match self
                .put(caller, &permit, resource, expected, created)
                .await?
            {
                ControlFlow::Break(answer) => return Ok(answer),
                ControlFlow::Continue(unwritten) => resource = unwritten,
            }
            pause(attempt).await;
        }
        Err(conflict())
    }

    /// `delete`. Idempotent; the history stays.
    ///
    /// # Errors
    /// 403, 409, 412, 500.
    pub async fn delete(
        &self,
        caller: &Caller,
        kind: ResourceType,
        id: &str,
        if_match: Option<&str>,
    ) -> Result<Answer, RecordError> {
        let preconditions = Preconditions {
            if_match,
            ..Preconditions::default()
        };
        self.delete_if(caller, kind, id, preconditions).await
    }

    /// The same with all the preconditions that a delete can have.
    ///
    /// # Errors
    /// As [`Record::delete`].
    pub async fn delete_if(
        &self,
        caller: &Caller,
        kind: ResourceType,
        id: &str,
        preconditions: Preconditions<'_>,
    ) -> Result<Answer, RecordError> {
        check_writable(kind)?;
        check_id(id)?;
        self.delete_checked(caller, kind, id, &IfMatch::of(preconditions)?)
            .await
    }

    pub(crate) async fn delete_checked(
        &self,
        caller: &Caller,
        kind: ResourceType,
        id: &str,
        if_match: &IfMatch,
    ) -> Result<Answer, RecordError> {
        if kind == ResourceType::Subscription {
            return Box::pin(self.delete_subscription(caller, id, if_match)).await;
        }
        let permit = self
            .permit(caller, Action::Delete, Some(kind), None)
            .await?;
        for attempt in 0..ATTEMPTS_MAX {
            let existing = self
                .vault()
                .load(&permit, kind, id)
                .await
                .map_err(wrap(caller))?;
            self.check_match(caller, &permit, (kind, id), if_match, existing.as_ref())
                .await?;
            let Some(row) = existing.filter(|row| !row.deleted) else {
                self.note_look(caller, &permit, kind, id).await?;
                return Ok(deleted_answer(caller, None));
            };
            let owner = Vault::owner(&row.resource);
            let change = Change::Delete {
                kind,
                id: id.to_owned(),
                expected: Expected::Version(row.version),
                owner,
            };
            let changes = vec![change];
            let unit = Unit {
                kept: (caller.once.as_ref()).and_then(|_| kept_of(&changes, false)),
                changes,
                ..Unit::default()
            };
            match self.vault().commit(&permit, unit).await {
                Ok(receipt) => return Ok(deleted_answer(caller, receipt.changes.first().copied())),
                Err(error) if is_conflict(&error) => pause(attempt).await,
                Err(error) => return Err(wrap(caller)(error)),
            }
        }
        Err(conflict())
    }
}
