//! The question that a patient was asked last by text message, which a reply is an answer to.
//!
//! There is one of each patient, so that there can't be two at a time: whoever sends another changes the same document,
//! and one of two that do so in the same moment is turned down. The number that it went to stands in the sealed body
//! alone. The document stays when the question is closed: what comes then is known to be late.

use ledger::{Expected, Owner, TenantId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Internal, Vault, kinds};
use crate::TrustError;

/// A question that was asked by text message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextQuestion {
    /// The `Task` of the form.
    pub task: String,
    /// The `Communication`s that asked, the newest last: an invitation and its reminders, each that was handed over or
    /// was to be.
    pub communications: Vec<String>,
    /// The number that it went to (E.164).
    pub number: String,
    /// What is said to a reply that is no answer.
    pub again: String,
    /// The language that it was asked in last.
    pub language: String,
    /// When it was handed over first, care clock. What was put off before, and had not been taken, doesn't count.
    pub asked_ms: u64,
    /// The `Communication` that is being handed over, or was when somebody was killed: nothing is known of it, so it may
    /// be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaving: Option<String>,
    /// How many replies came that were no answer.
    #[serde(default)]
    pub unclear: u32,
    /// How many texts came that were no answer, and were kept: these, and those that came late.
    #[serde(default)]
    pub kept: u32,
    /// How many of those came late, and are to be read by somebody.
    #[serde(default)]
    pub late: u32,
    /// What answered it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<TextAnswer>,
    /// Whether another question was asked here before it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub follows: bool,
    /// The one before it, without what it has here itself: until this one has left, what comes is meant for that, and
    /// what was brought for that may be brought again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Box<TextQuestion>>,
}

/// What answered a question by text message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextAnswer {
    /// The text.
    pub text: String,
    /// The answer that it was taken for, as a `QuestionnaireResponse` has it.
    pub answer: Value,
    /// When it came, care clock.
    pub at_ms: u64,
}

impl Vault {
    /// The question that a patient was asked last by text message, with the version of its document. For parts of
    /// Cairn that ask, or hear of answers.
    ///
    /// # Errors
    /// `Ledger`; `Damaged` where it can't be read.
    pub async fn text_question(
        &self,
        tenant: TenantId,
        patient: &str,
    ) -> Result<Option<(TextQuestion, u32)>, TrustError> {
        let id = self.text_question_id(tenant, patient);
        let found = (self.ledger().get(tenant, kinds::TEXT_QUESTION, &id)).await?;
        let Some(found) = found.filter(|found| !found.deleted) else {
            return Ok(None);
        };
        // Before the document stands whose it is.
        let body = found.body.iter().position(|byte| *byte == b'\n');
        let body = body.and_then(|end| found.body.get(end + 1..));
        let question = body.and_then(|body| serde_json::from_slice(body).ok());
        let question = question
            .ok_or_else(|| TrustError::Damaged(format!("the question {id} by text message")))?;
        Ok(Some((question, found.version)))
    }

    /// The document that says that a patient was asked this, in the place of the one with a version, if there is one.
    #[must_use]
    pub fn text_question_asked(
        &self,
        tenant: TenantId,
        patient: &str,
        question: &TextQuestion,
        version: Option<u32>,
    ) -> Internal {
        Internal {
            kind: kinds::TEXT_QUESTION,
            id: self.text_question_id(tenant, patient),
            owner: Owner::Patient(patient.to_owned()),
            expected: version.map_or(Expected::Absent, Expected::Version),
            // A document of strings and numbers can't fail to serialise.
            body: serde_json::to_vec(question).unwrap_or_default(),
            deleted: false,
            tokens: Vec::new(),
        }
    }

    /// The id of what came from a patient by text message, by what it is told again by: then it is the same.
    #[must_use]
    pub fn text_came_id(&self, tenant: TenantId, patient: &str, name: &str) -> String {
        let owner = Owner::Patient(patient.to_owned());
        let name = format!("text-came/{patient}/{name}");
        self.ledger().derive_id(tenant, &owner, &name)
    }

    fn text_question_id(&self, tenant: TenantId, patient: &str) -> String {
        let owner = Owner::Patient(patient.to_owned());
        let name = format!("text-question/{patient}");
        self.ledger().derive_id(tenant, &owner, &name)
    }
}
