//! Whether a text message may ask something that is answered by replying to it.
//!
//! A reply is a number and a text. It has to be certain whose it is and what it answers, so a question goes to a
//! telephone that is one patient's alone, and not while another one is open there. Where that isn't so it isn't asked by
//! text message at all: the step takes its next channel, and the form lies in the portal whatever becomes of the message.
//!
//! Each time that one is handed over the patient's one document of questions changes, in the same commit that writes down
//! that it is handed over, and says which message that is. So of two that leave in one moment one is turned down, and
//! what is under way is known as open, whatever its `Communication` says of attempts before.

use fhir::ResourceType;
use trust::consent::Waits;
use trust::outgoing::Question;
use trust::sms::Number;
use trust::{Internal, TextQuestion};

use super::policies::hears_answers;
use super::reply::{asked_by, is_open, written_ms};
use crate::attempt::Attempt;
use crate::check::{Reason, Refused};
use crate::deliverer::DeliverError;
use crate::outcome::Outcome;

/// How long the next question waits after one was closed, milliseconds: who answers twice, or sends a correction, does it
/// at once.
const SETTLES_MS: u64 = 60_000;
/// The most messages of one question that are remembered.
const ASKED_MAX: usize = 8;

impl Attempt<'_> {
    /// What is to be written down with it that a number is asked this; or what becomes of it, where it isn't asked now.
    pub(crate) async fn asks(
        &self,
        question: &Question,
        number: &Number,
    ) -> Result<Result<Internal, Outcome>, DeliverError> {
        let no = |reason, words: &str| Ok(Err(Outcome::NotDone(Refused::new(reason, words))));
        let vault = self.inner.trust.vault();
        let (tenant, patient) = (self.entry.tenant, self.message.patient.as_str());
        if !vault.texts().replies || !hears_answers(&self.inner.trust) {
            return no(
                Reason::NoReplies,
                "Replies to our number would not be heard here.",
            );
        }
        let form = vault.load(&self.permit, ResourceType::Task, &question.task);
        let form = form.await?.filter(|form| !form.deleted);
        if !form.is_some_and(|form| is_open(&form.resource)) {
            return no(Reason::Expired, "Its form was closed when its turn came.");
        }
        // As it is found when the reply comes.
        if vault.patient_at(tenant, number).await?.as_deref() != Some(patient) {
            return no(
                Reason::SharedNumber,
                "Somebody else has the telephone too, so whose a reply is would not be known.",
            );
        }
        let known = vault.text_question(tenant, patient).await?;
        let version = known.as_ref().map(|(_, version)| *version);
        let now_ms = vault.ledger().clock().now_ms();
        let own = &self.message.communication;
        let mut asked = TextQuestion {
            task: question.task.clone(),
            communications: vec![own.clone()],
            number: number.as_str().to_owned(),
            again: question.again.clone(),
            language: question.language.clone(),
            asked_ms: now_ms,
            leaving: Some(own.clone()),
            unclear: 0,
            kept: 0,
            late: 0,
            answered: None,
            follows: false,
            before: None,
        };
        if let Some((known, _)) = known {
            let was_asked = asked_by(vault, &self.permit, &known).await?.is_some();
            if known.task == asked.task {
                // A reminder, or another attempt: the question is the same.
                let mut all = known.communications;
                if !all.contains(own) {
                    all.push(own.clone());
                }
                all.drain(..all.len().saturating_sub(ASKED_MAX));
                asked.communications = all;
                if was_asked {
                    asked.asked_ms = known.asked_ms;
                }
                (asked.unclear, asked.kept, asked.late) = (known.unclear, known.kept, known.late);
                (asked.follows, asked.before) = (known.follows, known.before);
                asked.answered = known.answered;
            } else if was_asked {
                match self.closed_ms(&known).await? {
                    Closed::Not => {
                        return no(
                            Reason::QuestionOpen,
                            "Another question is open on the telephone, and a reply could be to either.",
                        );
                    }
                    Closed::At(closed_ms) if now_ms < closed_ms.saturating_add(SETTLES_MS) => {
                        return Ok(Err(self.settles(closed_ms.saturating_add(SETTLES_MS))));
                    }
                    Closed::At(_) => {}
                }
                // The one before that is of no use any more.
                let before = TextQuestion {
                    before: None,
                    ..known
                };
                (asked.follows, asked.before) = (true, Some(Box::new(before)));
            } else {
                (asked.follows, asked.before) = (known.follows, known.before);
            }
        }
        Ok(Ok(
            vault.text_question_asked(tenant, patient, &asked, version)
        ))
    }

    /// When a question was closed. Nothing of it is known any more where its form is gone.
    async fn closed_ms(&self, known: &TextQuestion) -> Result<Closed, DeliverError> {
        let vault = self.inner.trust.vault();
        let kind = ResourceType::Task;
        let form = vault.load(&self.permit, kind, &known.task).await?;
        let Some(form) = form.filter(|form| !form.deleted) else {
            return Ok(Closed::At(0));
        };
        if is_open(&form.resource) {
            return Ok(Closed::Not);
        }
        let answered_ms = known.answered.as_ref().map(|answer| answer.at_ms);
        let closed_ms = answered_ms.or_else(|| written_ms(&form.resource));
        Ok(Closed::At(closed_ms.unwrap_or(0)))
    }

    /// It waits until what is meant for the question before it has come, if it is of use by then.
    fn settles(&self, due_ms: u64) -> Outcome {
        let expires_ms = self.message.expires_ms;
        if expires_ms.is_none_or(|expires_ms| due_ms <= expires_ms) {
            let why = Waits::Question;
            return Outcome::Waits { due_ms, why };
        }
        Outcome::NotDone(Refused::new(
            Reason::QuestionOpen,
            "Another question had just been closed on the telephone.",
        ))
    }

    /// That a question isn't being handed over any more, where it was: what became of it is in its `Communication` from
    /// now on.
    pub(crate) async fn has_been_asked(&self) -> Result<Option<Internal>, DeliverError> {
        // What this attempt hasn't said is under way isn't taken back by it.
        if self.message.question.is_none() || self.ahead.get().is_none() {
            return Ok(None);
        }
        let vault = self.inner.trust.vault();
        let (tenant, patient) = (self.entry.tenant, self.message.patient.as_str());
        let Some((mut known, version)) = vault.text_question(tenant, patient).await? else {
            return Ok(None);
        };
        if known.leaving.as_deref() != Some(self.message.communication.as_str()) {
            return Ok(None);
        }
        known.leaving = None;
        Ok(Some(vault.text_question_asked(
            tenant,
            patient,
            &known,
            Some(version),
        )))
    }
}

/// Whether no reply may come any more, and since when.
enum Closed {
    Not,
    At(u64),
}
