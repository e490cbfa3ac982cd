//! `transaction`: all entries in one commit or none, in the specification's order (R4, section 3.1.0.11.2).
//!
//! Criteria of conditional writes and conditional references are looked up first, against what is in the store at
//! one moment (and, for references, what the transaction itself writes), and under one audit leaf; then DELETE, POST and PUT make up one
//! unit of work; then each GET is answered on what the commit has made. A GET that finds nothing
//! says so in its own entry: by then the rest is done.
mod resolve;

use std::collections::HashSet;

use fhir::{Issue, IssueCode, OperationOutcome, Resource, ResourceType};
use ledger::{Expected, Owner};
use trust::{Action, Change, Permit, TrustError, Unit, Vault, Versioned};

use crate::batch::Room;
use crate::conditional::{Aim, deleted_all_answer, deletion};
use crate::error::{conflict, in_entry, is_conflict};
use crate::once::{Kept, Was, kept};
use crate::render::BundleWriter;
use crate::step::{Ask, Look, Step};
use crate::validation::with_warnings;
use crate::write::{check_owner, expected_over, heavy, patient_of, pause, tidy, wrap};
use crate::{ATTEMPTS_MAX, Answer, Caller, PreferReturn, Record, RecordError};

/// The most issues that one answer lists.
const ISSUES_MAX: usize = 200;

/// Why an attempt ended.
enum Stop {
    /// Somebody else wrote in between.
    Again,
    Error(RecordError),
}

impl Stop {
    /// The same, said of an entry.
    fn of(self, step: &Step) -> Self {
        match self {
            Self::Error(error) => entry_error(error, step, "request").into(),
            Self::Again => Self::Again,
        }
    }
}

impl From<RecordError> for Stop {
    fn from(error: RecordError) -> Self {
        Self::Error(error)
    }
}

/// What a write entry will be.
enum Write {
    /// Nothing to write: a conditional create that found the resource.
    Existing(Box<Versioned>),
    /// Nothing to write: the same conditional create as an earlier entry's.
    SameAs(usize),
    Put {
        resource: Resource,
        expected: Expected,
        created: bool,
    },
    Delete {
        expected: Expected,
        owner: Owner,
    },
    /// What the criteria of a delete match, as the store has it.
    DeleteAll(Vec<Versioned>),
    /// A delete of what is not there.
    Nothing,
}

/// What was written for an entry.
struct Made {
    kind: ResourceType,
    id: String,
    created: bool,
    /// The resource, if the answer shall show it.
    shown: Option<Resource>,
    /// What is wrong with it, if the answer shall say so.
    warnings: Vec<Issue>,
}

fn entry_error(error: RecordError, step: &Step, part: &str) -> RecordError {
    RecordError {
        outcome: in_entry(error.outcome, step.index, part),
        ..error
    }
}

impl Record {
    pub(crate) async fn transaction(
        &self,
        caller: &Caller,
        steps: Vec<Result<Step, RecordError>>,
    ) -> Result<Answer, RecordError> {
        let mut fine = Vec::with_capacity(steps.len());
        let mut wrong: Option<RecordError> = None;
        for step in steps {
            match (step, &mut wrong) {
                (Ok(step), _) => fine.push(step),
                (Err(error), Some(first)) if first.outcome.issues.len() < ISSUES_MAX => {
                    first.outcome.issues.extend(error.outcome.issues);
                }
                (Err(_), Some(_)) => {}
                (Err(error), none) => *none = Some(error),
            }
        }
        let permit = self.permit(caller, Action::Transaction, None, None).await?;
        if let Some(error) = wrong {
            return Err(error);
        }
        let base = caller.base.clone();
        let count = fine.len();
        let steps = heavy(count * 2048, move || {
            for step in &mut fine {
                if let Some(resource) = &mut step.resource {
                    tidy(&base, resource);
                }
            }
            overlaps(&fine)?;
            Ok::<_, RecordError>(fine)
        })
        .await??;
        if let Some(kept) = self.before(caller).await? {
            return self.transaction_again(caller, &steps, &kept).await;
        }
        let mut refused = conflict();
        for attempt in 0..ATTEMPTS_MAX {
            match self.attempt(caller, &permit, &steps).await {
                Ok(answer) => return Ok(answer),
                Err(Stop::Again) => pause(attempt).await,
                Err(Stop::Error(error)) => {
                    refused = error;
                    break;
                }
            }
        }
        if let Some(kept) = self.before_failed(caller, &refused).await? {
            return self.transaction_again(caller, &steps, &kept).await;
        }
        Err(refused)
    }

    async fn attempt(
        &self,
        caller: &Caller,
        permit: &Permit,
        steps: &[Step],
    ) -> Result<Answer, Stop> {
        let mut writes = self.resolve(caller, permit, steps).await?;
        self.check_rights(caller, steps, &writes).await?;
        self.load_versions(caller, permit, steps, &mut writes)
            .await?;

        // One commit; entries that write nothing take no part in it.
        let mut changes = Vec::new();
        // Which changes are an entry's.
        let mut places = vec![0..0; writes.len()];
        let mut touched = HashSet::new();
        let mut order: Vec<usize> = (0..steps.len()).collect();
        order.sort_by_key(|&place| steps[place].ask.phase());
        let show = caller.prefer_return == PreferReturn::Representation;
        let mut made: Vec<Option<Made>> = Vec::new();
        made.resize_with(writes.len(), || None);
        for place in order {
            let change = match (&steps[place].ask, writes[place].take()) {
                (
                    _,
                    Some(Write::Put {
                        resource,
                        expected,
                        created,
                    }),
                ) => {
                    let id = resource.id().unwrap_or_default().to_owned();
                    made[place] = Some(Made {
                        kind: resource.kind(),
                        id,
                        created,
                        shown: show.then(|| resource.clone()),
                        warnings: self.warnings(caller, &resource),
                    });
                    vec![Change::Put { resource, expected }]
                }
                (
                    Ask::Delete {
                        kind,
                        aim: Aim::Id(id),
                        ..
                    },
                    Some(Write::Delete { expected, owner }),
                ) => vec![Change::Delete {
                    kind: *kind,
                    id: id.clone(),
                    expected,
                    owner,
                }],
                (_, Some(Write::DeleteAll(rows))) => rows.iter().map(deletion).collect(),
                // Nothing that a client asked for may be passed over in silence.
                (Ask::Create { .. } | Ask::Update { .. } | Ask::Patch { .. }, None) => {
                    let error = RecordError::new(
                        500,
                        IssueCode::Exception,
                        "the server failed to process the entry",
                    );
                    return Err(entry_error(error, &steps[place], "request").into());
                }
                (_, other) => {
                    writes[place] = other;
                    continue;
                }
            };
            for change in &change {
                if !touched.insert(target(change)) {
                    let outcome = OperationOutcome::error(IssueCode::Duplicate, TWICE);
                    let error = RecordError::with(400, outcome);
                    return Err(entry_error(error, &steps[place], "request").into());
                }
            }
            let first = changes.len();
            changes.extend(change);
            places[place] = first..changes.len();
        }
        let mut written = Vec::new();
        if !changes.is_empty() {
            let mut entries: Kept = Vec::new();
            for place in 0..steps.len() * usize::from(caller.once.is_some()) {
                let created = made[place].as_ref().is_some_and(|made| made.created);
                let own = changes.get(places[place].clone()).unwrap_or_default();
                entries.push(match &writes[place] {
                    Some(Write::Existing(row)) => vec![Was::found(row)],
                    Some(Write::SameAs(first)) => {
                        let first = entries.get(*first).map_or(&[][..], Vec::as_slice);
                        first.iter().map(Was::same).collect()
                    }
                    _ => own.iter().map(|one| Was::change(one, created)).collect(),
                });
            }
            let unit = Unit {
                kept: (caller.once.as_ref()).and_then(|_| kept(&entries)),
                changes,
                ..Unit::default()
            };
            match self.vault().commit(permit, unit).await {
                Ok(receipt) => written = receipt.changes,
                Err(error) if is_conflict(&error) => return Err(Stop::Again),
                Err(error) => return Err(wrap(caller)(error).into()),
            }
        }

        let room = Room::new();
        let mut answers: Vec<Result<Answer, RecordError>> = Vec::with_capacity(steps.len());
        for (place, step) in steps.iter().enumerate() {
            let all = written.get(places[place].clone()).unwrap_or_default();
            let written = all.first().copied();
            let answer = match (&step.ask, made[place].take(), writes[place].take()) {
                (Ask::Get(look), ..) => self.look(caller, look.clone(), &room).await,
                (_, Some(made), _) => match written {
                    Some(written) => {
                        let answer = self.written_answer(
                            caller,
                            (made.kind, &made.id),
                            made.shown,
                            written,
                            made.created,
                        );
                        Ok(with_warnings(answer, made.warnings))
                    }
                    None => Err(conflict()),
                },
                (_, _, Some(Write::Existing(row))) => self.found_existing(caller, *row).await,
                // The earlier entry's answer, but it was not this entry that created it.
                (_, _, Some(Write::SameAs(first))) => match answers.get(first) {
                    Some(Ok(answer)) => Ok(Answer {
                        status: 200,
                        ..answer.clone()
                    }),
                    _ => Err(conflict()),
                },
                (_, _, _) => Ok(deleted_all_answer(caller, all)),
            };
            let is_get = matches!(step.ask, Ask::Get(_));
            answers.push(answer.map(|answer| if is_get { answer } else { room.fit(answer) }));
        }
        let mut bundle = BundleWriter::new("transaction-response", None, &[]);
        for (step, answer) in steps.iter().zip(answers) {
            let is_get = matches!(step.ask, Ask::Get(_));
            match answer {
                Ok(answer) => bundle.answered(
                    None,
                    &answer,
                    !is_get && caller.prefer_return == PreferReturn::OperationOutcome,
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

    /// A transaction needs the right to do each of its parts.
    async fn check_rights(
        &self,
        caller: &Caller,
        steps: &[Step],
        writes: &[Option<Write>],
    ) -> Result<(), RecordError> {
        let mut asked = HashSet::new();
        for (step, write) in steps.iter().zip(writes) {
            let (action, kind, patient) = match (&step.ask, write) {
                (Ask::Delete { kind, .. }, _) => (Action::Delete, Some(*kind), None),
                (Ask::Create { kind, .. }, Some(Write::Put { resource, .. })) => (
                    Action::Create,
                    Some(*kind),
                    patient_of(&Vault::owner(resource)),
                ),
                (Ask::Create { kind, .. }, _) => (Action::Create, Some(*kind), None),
                (
                    Ask::Update { kind, .. } | Ask::Patch { kind, .. },
                    Some(Write::Put { resource, .. }),
                ) => (
                    Action::Update,
                    Some(*kind),
                    patient_of(&Vault::owner(resource)),
                ),
                (Ask::Update { kind, .. } | Ask::Patch { kind, .. }, _) => {
                    (Action::Update, Some(*kind), None)
                }
                // Decided again and used when the entry is answered; asked here so that a "no" comes before the commit.
                (Ask::Get(Look::Read { kind, .. } | Look::Version { kind, .. }), _) => {
                    (Action::Read, Some(*kind), None)
                }
                (Ask::Get(Look::History { kind, .. }), _) => (Action::History, Some(*kind), None),
                (Ask::Get(Look::Past { kind, .. }), _) => (Action::History, *kind, None),
                (Ask::Get(Look::Search { kind, .. }), _) => (Action::Search, Some(*kind), None),
                (Ask::Get(Look::Within { scope, .. }), _) => {
                    // What it is decided by, if it is of several types, is each of their rows.
                    let (Some(kind), patient) = crate::searched::target(scope) else {
                        continue;
                    };
                    (Action::Search, Some(kind), patient)
                }
            };
            if asked.insert((action, kind, patient.clone())) {
                self.permit(caller, action, kind, patient)
                    .await
                    .map_err(|error| entry_error(error, step, "request"))?;
            }
        }
        Ok(())
    }

    /// What is there of what is updated or deleted, and whether that is what the client expects.
    async fn load_versions(
        &self,
        caller: &Caller,
        permit: &Permit,
        steps: &[Step],
        writes: &mut [Option<Write>],
    ) -> Result<(), RecordError> {
        for (step, write) in steps.iter().zip(writes) {
            let (kind, aim, if_match) = match &step.ask {
                Ask::Update {
                    kind,
                    aim,
                    if_match,
                }
                | Ask::Delete {
                    kind,
                    aim,
                    if_match,
                }
                | Ask::Patch {
                    kind,
                    aim,
                    if_match,
                    ..
                } => (*kind, aim, if_match),
                _ => continue,
            };
            // What criteria found is what will be written, or nothing.
            let id = match (aim, &*write) {
                (Aim::Id(id), _) => id.clone(),
                (Aim::Criteria(_), Some(Write::Put { resource, .. })) => {
                    resource.id().unwrap_or_default().to_owned()
                }
                (Aim::Criteria(_), _) => continue,
            };
            let id = &id;
            let existing = self.vault().load(permit, kind, id).await;
            let existing = existing
                .map_err(|error: TrustError| entry_error(wrap(caller)(error), step, "request"))?;
            self.check_match(caller, permit, (kind, id), if_match, existing.as_ref())
                .await
                .map_err(|error| entry_error(error, step, "request"))?;
            match write {
                Some(Write::Put {
                    resource,
                    expected,
                    created,
                }) => {
                    if let Err(outcome) = check_owner(existing.as_ref(), &Vault::owner(resource)) {
                        self.note_look(caller, permit, kind, id).await?;
                        let error = RecordError::with(422, outcome);
                        return Err(entry_error(error, step, "resource"));
                    }
                    // A patch is of the version that it was applied to, and criteria are about the
                    // version that they found.
                    if matches!((&step.ask, aim), (Ask::Update { .. }, Aim::Id(_))) {
                        (*expected, *created) = expected_over(existing.as_ref());
                    }
                    if *created {
                        self.permit(
                            caller,
                            Action::Create,
                            Some(kind),
                            patient_of(&Vault::owner(resource)),
                        )
                        .await
                        .map_err(|error| entry_error(error, step, "request"))?;
                    }
                }
                _ => {
                    *write = Some(match existing.filter(|row| !row.deleted) {
                        Some(row) => Write::Delete {
                            expected: Expected::Version(row.version),
                            owner: Vault::owner(&row.resource),
                        },
                        None => {
                            self.note_look(caller, permit, kind, id).await?;
                            Write::Nothing
                        }
                    });
                }
            }
        }
        Ok(())
    }
}

const TWICE: &str = "the same resource is in the transaction twice";

/// What a change is of.
fn target(change: &Change) -> (ResourceType, String) {
    match change {
        Change::Put { resource, .. } => (
            resource.kind(),
            resource.id().unwrap_or_default().to_owned(),
        ),
        Change::Delete { kind, id, .. } => (*kind, id.clone()),
    }
}

/// No resource may be in a transaction twice (R4, section 3.1.0.11.2), and no `fullUrl`. What criteria
/// mean is looked at when it is known.
fn overlaps(steps: &[Step]) -> Result<(), RecordError> {
    let mut ids = HashSet::new();
    let mut full_urls = HashSet::new();
    for step in steps {
        let twice = |words: &str| {
            let outcome = OperationOutcome::error(IssueCode::Duplicate, words);
            RecordError::with(400, in_entry(outcome, step.index, "request"))
        };
        if let Ask::Update {
            kind,
            aim: Aim::Id(id),
            ..
        }
        | Ask::Delete {
            kind,
            aim: Aim::Id(id),
            ..
        }
        | Ask::Patch {
            kind,
            aim: Aim::Id(id),
            ..
        } = &step.ask
            && !ids.insert((*kind, id.as_str()))
        {
            return Err(twice(TWICE));
        }
        if let (Some(full_url), Ask::Create { .. } | Ask::Update { .. }) =
            (&step.full_url, &step.ask)
            && !full_urls.insert(full_url.as_str())
        {
            return Err(twice("the same fullUrl is in the transaction twice"));
        }
    }
    Ok(())
}
