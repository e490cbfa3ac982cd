//! Import of NDJSON that a client sends, however much it is: [`crate::import`] over HTTP.

use std::io::{self, Read};

use fhir::{Issue, IssueCode, OperationOutcome, Severity};
use serde_json::json;
use tokio::sync::mpsc;
use trust::{Action, Unit};

use crate::import::{ImportError, ImportProgress, RejectedLine, run_sent};
use crate::write::wrap;
use crate::{Answer, Caller, Record, RecordError};

/// The most refused entries that an import tells of; it stops at the next one.
pub const IMPORT_REJECTS_MAX: usize = 1000;
/// The most imports that one server works on at once; each has some lines in memory.
pub const IMPORTS_MAX: usize = 4;
/// Parts of one import that are worked on at once, of a megabyte or one line.
const PARALLEL: usize = 2;

/// A part of what a client sends. Without an end it is not whole.
#[derive(Debug)]
pub enum ImportPart {
    /// The next bytes.
    Bytes(Vec<u8>),
    /// There are no more.
    End,
    /// It broke off; why.
    Broken(String),
}

/// The parts in a row.
struct Parts {
    receiver: mpsc::Receiver<ImportPart>,
    bytes: Vec<u8>,
    position: usize,
    has_ended: bool,
}

impl Read for Parts {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.position == self.bytes.len() {
            if self.has_ended {
                return Ok(0);
            }
            match self.receiver.blocking_recv() {
                Some(ImportPart::Bytes(bytes)) => (self.bytes, self.position) = (bytes, 0),
                Some(ImportPart::End) => self.has_ended = true,
                Some(ImportPart::Broken(reason)) => return Err(io::Error::other(reason)),
                None => return Err(io::Error::other("it broke off")),
            }
        }
        let rest = &self.bytes[self.position..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.position += count;
        Ok(count)
    }
}

impl Record {
    /// Imports NDJSON as it comes: a line is a resource, which keeps its id, or a bundle. Answers
    /// `Parameters` when all of it is durable: how many were written, how many were there already, how many were refused, and
    /// why. The same sent again changes nothing, so what broke off is sent again from its beginning.
    ///
    /// # Errors
    /// 400 when it breaks off, 403, 422 when more is refused than can be told of, 429; what was imported
    /// until then stays, and the outcome says how much that is.
    pub async fn import(
        &self,
        caller: &Caller,
        parts: mpsc::Receiver<ImportPart>,
    ) -> Result<Answer, RecordError> {
        let permit = self.permit(caller, Action::Import, None, None).await?;
        let Ok(_place) = self.bulk.imports.try_acquire() else {
            let words = format!("{IMPORTS_MAX} imports are under way; try again later");
            return Err(RecordError::new(429, IssueCode::Throttled, words));
        };
        // Whoever may import has looked at what is there by how it comes out.
        let begun = Unit {
            note: Some("bulk import begun".to_owned()),
            ..Unit::default()
        };
        let begun = self.vault().commit(&permit, begun).await;
        begun.map_err(wrap(caller))?;
        let history = self.permit(caller, Action::History, None, None).await.ok();
        let reader = Parts {
            receiver: parts,
            bytes: Vec::new(),
            position: 0,
            has_ended: false,
        };
        let (done, rejected, outcome) = run_sent(
            &self.trust,
            &permit,
            history,
            Box::new(reader),
            IMPORT_REJECTS_MAX,
            PARALLEL,
        )
        .await;
        match outcome {
            Ok(()) => Ok(answer(done, &rejected)),
            Err(ImportError::Trust(error)) => Err(wrap(caller)(error)),
            Err(ImportError::Input { reason, .. }) => {
                let words = format!("the body {}: {reason}", so_far(done));
                Err(stopped(400, IssueCode::Incomplete, words, &rejected))
            }
            Err(ImportError::TooManyRejects { most }) => {
                let words = format!(
                    "the import {}: more than {most} entries were refused",
                    so_far(done)
                );
                Err(stopped(422, IssueCode::TooCostly, words, &rejected))
            }
            Err(error @ ImportError::Rejects { .. }) => Err(RecordError {
                status: 500,
                outcome: OperationOutcome::error(IssueCode::Exception, "the server failed"),
                inside: Some(error.to_string()),
            }),
        }
    }
}

fn so_far(done: ImportProgress) -> String {
    format!(
        "was not imported to its end (at least {} resources were written and {} were there already; send it again, which doubles nothing)",
        done.written, done.unchanged
    )
}

fn stopped(status: u16, code: IssueCode, words: String, rejected: &[RejectedLine]) -> RecordError {
    let mut outcome = OperationOutcome::error(code, words);
    outcome.issues.extend(issues(rejected));
    RecordError::with(status, outcome)
}

/// What was refused, an issue each, with its line.
fn issues(rejected: &[RejectedLine]) -> impl Iterator<Item = Issue> {
    rejected.iter().map(|one| {
        let entry = one.entry.map(|entry| format!(", entry {entry}"));
        Issue {
            severity: Severity::Error,
            code: IssueCode::Processing,
            diagnostics: format!(
                "line {}{}: {}",
                one.line,
                entry.unwrap_or_default(),
                one.reason
            ),
            expression: None,
        }
    })
}

fn answer(done: ImportProgress, rejected: &[RejectedLine]) -> Answer {
    let mut parameters = vec![
        json!({"name": "written", "valueString": done.written.to_string()}),
        json!({"name": "unchanged", "valueString": done.unchanged.to_string()}),
        json!({"name": "rejected", "valueString": done.rejected.to_string()}),
    ];
    if !rejected.is_empty() {
        let issues = issues(rejected).collect();
        let outcome = OperationOutcome { issues }.to_resource().into_value();
        parameters.push(json!({"name": "outcome", "resource": outcome}));
    }
    let body = json!({"resourceType": "Parameters", "parameter": parameters});
    Answer {
        status: 200,
        version: None,
        last_modified_ms: None,
        location: None,
        body: body.to_string().into_bytes(),
    }
}
