//! Whether a text message may ask something that is answered by replying to it.
//!
//! A reply is a number and a text. It has to be certain whose it is and what it answers, so a question goes to a
//! telephone that is one patient's alone, and not while another one is open there. Where that isn't so it isn't asked by
//! text message at all: the step takes its next channel, and the form lies in the portal whatever becomes of the message.

use fhir::ResourceType;
use trust::outgoing::Question;
use trust::sms::Number;
use trust::{Internal, TextQuestion};

use super::policies::hears_answers;
use super::reply::{asked_by, is_open};
use crate::attempt::Attempt;
use crate::check::{Reason, Refused};
use crate::deliverer::DeliverError;

/// The most messages of one question that are remembered.
const ASKED_MAX: usize = 8;

impl Attempt<'_> {
    /// What is to be written down with it that a number is asked this, if that isn't there yet; or why it isn't asked.
    pub(crate) async fn asks(
        &self,
        question: &Question,
        number: &Number,
    ) -> Result<Result<Option<Internal>, Refused>, DeliverError> {
        let no = |reason, words: &str| Ok(Err(Refused::new(reason, words)));
        let vault = self.inner.trust.vault();
        let (tenant, patient) = (self.entry.tenant, self.message.patient.as_str());
        if !vault.texts().replies || !hears_answers(&self.inner.trust) {
            return no(
                Reason::NoReplies,
                "Replies to our number would not be heard here.",
            );
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
        let mut asked = TextQuestion {
            task: question.task.clone(),
            communications: vec![self.message.communication.clone()],
            number: number.as_str().to_owned(),
            again: question.again.clone(),
            asked_ms: vault.ledger().clock().now_ms(),
            unclear: 0,
        };
        if let Some((known, _)) = known {
            if known.task == asked.task {
                // A reminder, or another attempt: the question is the same.
                let own = asked.communications.pop();
                let mut all = known.communications.clone();
                all.extend(own.filter(|own| !all.contains(own)));
                all.drain(..all.len().saturating_sub(ASKED_MAX));
                asked.communications = all;
                asked.asked_ms = known.asked_ms;
                asked.unclear = known.unclear;
            } else if self.is_open(&known).await? {
                return no(
                    Reason::QuestionOpen,
                    "Another question is open on the telephone, and a reply could be to either.",
                );
            }
            if known == asked {
                return Ok(Ok(None));
            }
        }
        Ok(Ok(Some(
            vault.text_question_asked(tenant, patient, &asked, version),
        )))
    }

    /// Whether a reply may come to a question. One whose text has not left, and won't, is answered in the portal.
    async fn is_open(&self, known: &TextQuestion) -> Result<bool, DeliverError> {
        let vault = self.inner.trust.vault();
        let kind = ResourceType::Task;
        let form = vault.load(&self.permit, kind, &known.task).await?;
        let is_open = form.is_some_and(|form| !form.deleted && is_open(&form.resource));
        Ok(is_open && asked_by(vault, &self.permit, known).await?.is_some())
    }
}
