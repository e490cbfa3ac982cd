//! `batch`: each entry for itself, and the common door of batch and transaction.
use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use fhir::{IssueCode, OperationOutcome, Resource};
use futures_util::{StreamExt, stream};
use serde_json::Value;

use crate::conditional::Aim;
use crate::criteria::Reading;
use crate::error::in_entry;
use crate::render::BundleWriter;
use crate::step::{Ask, Look, PHASES, Step, entries};
use crate::write::heavy;
use crate::{
    ANSWER_BYTES_MAX, Answer, BUNDLE_BYTES_MAX, BUNDLE_ENTRIES_MAX, Caller, PreferReturn, Record,
    RecordError, refs,
};

/// How many entries of one batch are worked on at once, so that they share the store's flushes.
const BATCH_PARALLEL: usize = 16;
/// How many GETs, each of which may hold a whole page.
const GETS_PARALLEL: usize = 4;

/// What an answer to a bundle may still hold.
pub(crate) struct Room(AtomicUsize);

impl Room {
    pub(crate) fn new() -> Self {
        Self(AtomicUsize::new(ANSWER_BYTES_MAX))
    }
    /// Takes the room of a body; `false` when there is too little.
    fn take(&self, bytes: usize) -> bool {
        let left = |left: usize| left.checked_sub(bytes);
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, left)
            .is_ok()
    }
    /// Fits the answer to a write in: without room it shows no resource, which it never has to.
    pub(crate) fn fit(&self, mut answer: Answer) -> Answer {
        if !self.take(answer.body.len()) {
            answer.body = Vec::new();
        }
        answer
    }
}

impl Record {
    /// `transaction` or `batch`.
    ///
    /// # Errors
    /// 400, 403, 409, 412, 413, 422, 500.
    pub async fn bundle(&self, caller: &Caller, body: &[u8]) -> Result<Answer, RecordError> {
        if body.len() > BUNDLE_BYTES_MAX {
            let words = format!(
                "the bundle has {} bytes; at most {BUNDLE_BYTES_MAX} are taken",
                body.len()
            );
            return Err(RecordError::new(413, IssueCode::TooLong, words));
        }
        let text = body.to_vec();
        let base = caller.base.clone();
        let owns = self.vault().owns(caller.agent.tenant);
        let (kind, steps) = heavy(text.len(), move || {
            let (kind, entries) = Resource::parse(&text)
                .and_then(entries)
                .map_err(|outcome| RecordError::with(400, outcome))?;
            if !matches!(kind.as_str(), "batch" | "transaction") {
                let words =
                    "is neither `batch` nor `transaction`; other bundles can be stored at Bundle";
                return Err(RecordError::with(
                    400,
                    OperationOutcome::at(IssueCode::Invalid, words, "Bundle.type"),
                ));
            }
            if entries.len() > BUNDLE_ENTRIES_MAX {
                let words = format!(
                    "the bundle has {} entries; at most {BUNDLE_ENTRIES_MAX} are taken",
                    entries.len()
                );
                return Err(RecordError::with(
                    413,
                    OperationOutcome::at(IssueCode::TooLong, words, "Bundle.entry"),
                ));
            }
            let reading = Reading {
                base: &base,
                owns: &owns,
            };
            let parse = |(index, entry): (usize, Value)| Step::parse(reading, index, entry);
            Ok((
                kind,
                entries
                    .into_iter()
                    .enumerate()
                    .map(parse)
                    .collect::<Vec<_>>(),
            ))
        })
        .await??;
        if kind == "transaction" {
            self.transaction(caller, steps).await
        } else {
            self.batch(caller, steps).await
        }
    }

    async fn batch(
        &self,
        caller: &Caller,
        steps: Vec<Result<Step, RecordError>>,
    ) -> Result<Answer, RecordError> {
        let full_urls: HashSet<String> = steps
            .iter()
            .flatten()
            .filter_map(|step| step.full_url.clone())
            .collect();
        let mut answers: Vec<Option<(bool, Result<Answer, RecordError>)>> = Vec::new();
        answers.resize_with(steps.len(), || None);
        let mut phases: [Vec<Step>; PHASES] = Default::default();
        for (index, step) in steps.into_iter().enumerate() {
            match step.and_then(|step| no_dependence(step, &full_urls)) {
                Ok(step) => phases[step.ask.phase()].push(step),
                Err(error) => answers[index] = Some((false, Err(error))),
            }
        }
        // A key of another request is told at once, and not entry by entry.
        let mut is_kept = self.before(caller).await?.is_some();
        let writes = phases[..PHASES - 1].iter().flatten();
        for step in writes.take_while(|_| caller.once.is_some()) {
            if self.before(&part_of(caller, step)).await?.is_some() {
                break;
            }
        }
        let room = Room::new();
        for phase in phases {
            let gets = matches!(phase.first().map(|step| &step.ask), Some(Ask::Get(_)));
            let parallel = if gets { GETS_PARALLEL } else { BATCH_PARALLEL };
            let mut steps = phase.into_iter();
            // The first that writes keeps the key of the batch, and the others wait until one has.
            while !gets && !is_kept && caller.once.is_some() {
                let Some(step) = steps.next() else {
                    break;
                };
                let index = step.index;
                let (kept, answer) = self.first(caller, step, &room).await?;
                is_kept = kept;
                answers[index] = Some((false, answer));
            }
            let mut running = stream::iter(steps)
                .map(|step| self.one(part_of(caller, &step), step, &room))
                .buffer_unordered(parallel);
            while let Some((index, is_get, answer)) = running.next().await {
                answers[index] = Some((is_get, answer));
            }
        }
        let mut bundle = BundleWriter::new("batch-response", None, &[]);
        for answer in answers.into_iter().flatten() {
            match answer {
                (is_get, Ok(answer)) => bundle.answered(
                    None,
                    &answer,
                    !is_get && caller.prefer_return == PreferReturn::OperationOutcome,
                ),
                (_, Err(error)) => bundle.failed(&error),
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

    /// Carries an entry out which keeps the key of the batch if it writes. Says whether the key is kept now,
    /// by this entry or by the same batch sent a second time.
    ///
    /// # Errors
    /// 422 when another request keeps the key; no entry has written then.
    async fn first(
        &self,
        caller: &Caller,
        step: Step,
        room: &Room,
    ) -> Result<(bool, Result<Answer, RecordError>), RecordError> {
        let index = step.index;
        let once = (caller.once.as_ref()).map(|once| once.first_part(index));
        let first = Caller {
            once,
            ..caller.clone()
        };
        let (.., answer) = self.one(first, step.clone(), room).await;
        let is_kept = self.before(caller).await?.is_some();
        match answer {
            // Another entry of the same batch was quicker to keep the key; this one was not carried out.
            Err(error) if is_kept && error.status == 409 => {
                let (.., answer) = self.one(part_of(caller, &step), step, room).await;
                Ok((is_kept, answer))
            }
            answer => Ok((is_kept, answer)),
        }
    }

    /// Carries an entry out. Each has a key of its own, of the request's and its place.
    async fn one(
        &self,
        caller: Caller,
        step: Step,
        room: &Room,
    ) -> (usize, bool, Result<Answer, RecordError>) {
        let caller = &caller;
        let Step {
            index,
            ask,
            resource,
            ..
        } = step;
        let is_get = matches!(ask, Ask::Get(_));
        let missing = || RecordError::new(400, IssueCode::Required, "the resource is missing");
        let answer = async {
            match ask {
                Ask::Delete {
                    kind,
                    aim,
                    if_match,
                } => match aim {
                    Aim::Id(id) => self.delete_checked(caller, kind, &id, &if_match).await,
                    Aim::Criteria(criteria) => {
                        self.delete_by_criteria(caller, &criteria, &if_match).await
                    }
                },
                Ask::Create { kind, criteria } => match resource {
                    Some(resource) => {
                        self.create_parsed(
                            caller,
                            kind,
                            resource,
                            criteria.map(|criteria| *criteria),
                        )
                        .await
                    }
                    None => Err(missing()),
                },
                Ask::Update {
                    kind,
                    aim,
                    if_match,
                } => match (resource, aim) {
                    (Some(resource), Aim::Id(id)) => {
                        self.update_parsed(caller, kind, &id, &if_match, resource)
                            .await
                    }
                    (Some(resource), Aim::Criteria(criteria)) => {
                        self.update_by_criteria(caller, &criteria, &if_match, resource)
                            .await
                    }
                    (None, _) => Err(missing()),
                },
                Ask::Patch {
                    kind,
                    aim,
                    if_match,
                    patch,
                } => match patch {
                    Some(patch) => {
                        self.patch_parsed(caller, kind, &aim, &if_match, &patch)
                            .await
                    }
                    None => Err(missing()),
                },
                Ask::Get(look) => self.look(caller, look, room).await,
            }
        };
        let answer = if is_get {
            answer.await
        } else {
            self.once(caller, answer).await
        };
        let answer = answer.map(|answer| if is_get { answer } else { room.fit(answer) });
        let part = if is_get { "request" } else { "resource" };
        (
            index,
            is_get,
            answer.map_err(|error| RecordError {
                outcome: in_entry(error.outcome, index, part),
                ..error
            }),
        )
    }

    /// Answers a GET of a bundle, if there is room for it.
    pub(crate) async fn look(
        &self,
        caller: &Caller,
        look: Look,
        room: &Room,
    ) -> Result<Answer, RecordError> {
        let full = || {
            let words = format!(
                "the answer to the bundle has {ANSWER_BYTES_MAX} bytes already; ask for this by itself"
            );
            RecordError::new(413, IssueCode::TooCostly, words)
        };
        if room.0.load(Ordering::Relaxed) == 0 {
            return Err(full());
        }
        let answer = match look {
            Look::Read {
                kind,
                id,
                parameters,
                known,
            } => {
                let answer = self.read_part(caller, kind, &id, &parameters).await;
                answer.map(|answer| known.spare(answer))
            }
            Look::Version {
                kind,
                id,
                version,
                parameters,
            } => {
                self.version_part(caller, kind, &id, &version, &parameters)
                    .await
            }
            Look::History {
                kind,
                id,
                parameters,
            } => self.history(caller, kind, &id, &parameters).await,
            Look::Past { kind, parameters } => self.past(caller, kind, &parameters).await,
            Look::Search { kind, parameters } => {
                self.search_by_post(caller, kind, &parameters).await
            }
            Look::Within { scope, parameters } => {
                self.search_within_by_post(caller, &scope, &parameters)
                    .await
            }
        }?;
        if room.take(answer.body.len()) {
            return Ok(answer);
        }
        // What comes after it is not looked for in vain.
        room.0.store(0, Ordering::Relaxed);
        Err(full())
    }
}

/// The caller of an entry of a batch.
fn part_of(caller: &Caller, step: &Step) -> Caller {
    Caller {
        once: (caller.once.as_ref()).map(|once| once.part(step.index)),
        ..caller.clone()
    }
}

/// Entries of a batch must not depend on each other (R4, section 3.1.0.11.1).
fn no_dependence(mut step: Step, full_urls: &HashSet<String>) -> Result<Step, RecordError> {
    let own = step.full_url.clone();
    let mut depends = false;
    if let Some(resource) = &mut step.resource {
        refs::replace(resource, &mut |text| {
            depends |= full_urls.contains(text) && own.as_deref() != Some(text);
            None
        });
    }
    if !depends {
        return Ok(step);
    }
    let words = "refers to another entry of the same batch; entries that depend on each other make a transaction";
    let outcome = OperationOutcome::error(IssueCode::Invalid, words);
    Err(RecordError::with(
        400,
        in_entry(outcome, step.index, "resource"),
    ))
}
