//! Requests with an `Idempotency-Key`: carried out once, answered again.
//!
//! A write keeps in its own commit which versions it made, entry by entry, under the key. The same request
//! again finds that and is answered from these versions, as they were. A request that wrote nothing keeps
//! nothing: doing it again does nothing twice.
use std::future::Future;

use fhir::{IssueCode, ResourceType};
use ledger::Written;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use trust::{Action, Before, Change, Permit, Versioned};

use crate::batch::Room;
use crate::conditional::deleted_all_answer;
use crate::error::conflict;
use crate::render::BundleWriter;
use crate::step::{Ask, Step};
use crate::validation::with_warnings;
use crate::write::{existing_answer, wrap};
use crate::{Answer, Caller, PreferReturn, Record, RecordError};

/// What an entry did to one resource.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Was {
    kind: String,
    id: String,
    version: u32,
    /// 201 made, 200 changed or found, 204 deleted.
    status: u16,
    /// It was there already, and nothing was written.
    #[serde(default)]
    found: bool,
}

/// What each entry did; a request that is no bundle has one.
pub(crate) type Kept = Vec<Vec<Was>>;

impl Was {
    /// Of a change that is about to be committed.
    pub(crate) fn change(change: &Change, created: bool) -> Self {
        let (kind, id, expected, status) = match change {
            Change::Put { resource, expected } => {
                let id = resource.id().unwrap_or_default();
                let status = if created { 201 } else { 200 };
                (resource.kind(), id, expected, status)
            }
            Change::Delete {
                kind, id, expected, ..
            } => (*kind, id.as_str(), expected, 204),
        };
        Self {
            kind: kind.name().to_owned(),
            id: id.to_owned(),
            version: expected.next(),
            status,
            found: false,
        }
    }
    /// Of what was there already.
    pub(crate) fn found(row: &Versioned) -> Self {
        Self {
            kind: row.resource.kind().name().to_owned(),
            id: row.resource.id().unwrap_or_default().to_owned(),
            version: row.version,
            status: 200,
            found: true,
        }
    }
    /// The same for an entry that did not make it.
    pub(crate) fn same(&self) -> Self {
        Self {
            status: 200,
            ..self.clone()
        }
    }
}

/// What a commit keeps of entries.
pub(crate) fn kept(entries: &Kept) -> Option<Value> {
    Some(json!(entries))
}

/// What a commit keeps of a request that is no bundle.
pub(crate) fn kept_of(changes: &[Change], created: bool) -> Option<Value> {
    let entry = changes.iter().map(|change| Was::change(change, created));
    kept(&vec![entry.collect()])
}

impl Record {
    /// Carries a request out, or answers it again where its key says that it was carried out. Of several
    /// at once one is carried out, and all have its answer.
    ///
    /// # Errors
    /// Those of `work`; 422 when the key was another request's.
    pub async fn once(
        &self,
        caller: &Caller,
        work: impl Future<Output = Result<Answer, RecordError>>,
    ) -> Result<Answer, RecordError> {
        if let Some(kept) = self.before(caller).await? {
            return self.again(caller, &kept).await;
        }
        match work.await {
            Err(error) => match self.before_failed(caller, &error).await? {
                Some(kept) => self.again(caller, &kept).await,
                None => Err(error),
            },
            answer => answer,
        }
    }

    /// What the request did if its like was faster. Whatever the client is told to be wrong may be what
    /// that one's write made so: a version that is no longer expected, a test of a patch, a resource that
    /// is gone.
    pub(crate) async fn before_failed(
        &self,
        caller: &Caller,
        error: &RecordError,
    ) -> Result<Option<Kept>, RecordError> {
        if (400..500).contains(&error.status) {
            self.before(caller).await
        } else {
            Ok(None)
        }
    }

    /// What the request did before, if it did something.
    pub(crate) async fn before(&self, caller: &Caller) -> Result<Option<Kept>, RecordError> {
        let Some(once) = &caller.once else {
            return Ok(None);
        };
        let before = self.vault().once_before(&caller.agent, once).await;
        match before.map_err(wrap(caller))? {
            Before::Nothing => Ok(None),
            Before::Same(kept) => serde_json::from_value(kept)
                .map(Some)
                .map_err(|_| RecordError {
                    inside: Some("what a key's request did does not parse".to_owned()),
                    ..RecordError::new(500, IssueCode::Exception, "the server failed")
                }),
            Before::Other => {
                let words = "this Idempotency-Key was used for another request; each request has a key of its own";
                Err(RecordError::new(422, IssueCode::Duplicate, words))
            }
        }
    }

    /// The answer to a request that is no bundle, from what it did.
    async fn again(&self, caller: &Caller, kept: &Kept) -> Result<Answer, RecordError> {
        let entry = kept.first().map_or(&[][..], Vec::as_slice);
        let kind = (entry.first()).and_then(|was| ResourceType::parse(&was.kind));
        let action = match entry.first().map(|was| was.status) {
            Some(204) | None => Action::Delete,
            Some(201) => Action::Create,
            Some(_) => Action::Update,
        };
        let permit = self.permit(caller, action, kind, None).await?;
        self.entry_again(caller, &permit, entry).await
    }

    /// The answer to an entry, from what it did.
    async fn entry_again(
        &self,
        caller: &Caller,
        permit: &Permit,
        entry: &[Was],
    ) -> Result<Answer, RecordError> {
        let mut deleted = Vec::new();
        for was in entry {
            let kind = ResourceType::parse(&was.kind).ok_or_else(conflict)?;
            let (id, version) = (was.id.as_str(), was.version);
            let row = self.vault().written_before(permit, kind, id, version).await;
            let row = row.map_err(wrap(caller))?;
            if was.status == 204 {
                deleted.extend(row.map(|row| Written {
                    at: row.at,
                    version,
                }));
                continue;
            }
            // Hidden since from who wrote it: what is known of it is that it was written.
            let Some(row) = row else {
                return Ok(Answer {
                    status: was.status,
                    version: Some(version),
                    last_modified_ms: None,
                    location: Some(crate::write::location(kind, id, version)),
                    body: Vec::new(),
                });
            };
            if was.found {
                return Ok(existing_answer(caller, &row));
            }
            let written = Written {
                at: row.at,
                version,
            };
            let warnings = self.warnings(caller, &row.resource);
            let created = was.status == 201;
            let answer =
                self.written_answer(caller, (kind, id), Some(row.resource), written, created);
            return Ok(with_warnings(answer, warnings));
        }
        Ok(deleted_all_answer(caller, &deleted))
    }

    /// The answer to a transaction, from what it did. What it only looked at is looked at anew.
    pub(crate) async fn transaction_again(
        &self,
        caller: &Caller,
        steps: &[Step],
        kept: &Kept,
    ) -> Result<Answer, RecordError> {
        let permit = self.permit(caller, Action::Transaction, None, None).await?;
        let room = Room::new();
        let mut bundle = BundleWriter::new("transaction-response", None, &[]);
        for (place, step) in steps.iter().enumerate() {
            if let Ask::Get(look) = &step.ask {
                match self.look(caller, look.clone(), &room).await {
                    Ok(answer) => bundle.answered(None, &answer, false),
                    Err(error) => bundle.failed(&error),
                }
                continue;
            }
            let entry = kept.get(place).map_or(&[][..], Vec::as_slice);
            match self.entry_again(caller, &permit, entry).await {
                Ok(answer) => bundle.answered(
                    None,
                    &room.fit(answer),
                    caller.prefer_return == PreferReturn::OperationOutcome,
                ),
                Err(error) => bundle.failed(&error),
            }
        }
        Ok(Answer {
            status: 200,
            version: None,
            last_modified_ms: None,
            location: None,
            body: bundle.finish(),
        })
    }
}
