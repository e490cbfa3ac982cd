//! A decision explained to those who watch over decisions.
use std::sync::Arc;

use super::{Question, Trust, Why};
use crate::audit::{Event, Outcome, Record};
use crate::{Action, Agent, Freshness, Permit, Refusal, RowWhy, TrustError};

impl Trust {
    /// Why something would be permitted or refused, and with a row's id what consents say of it. For privacy
    /// officers (a permit to audit) and administrators (a permit to administer); a row is for privacy
    /// officers only. It shows no content of the row, and is in the audit before it is told.
    ///
    /// # Errors
    /// `Refused`; `Invalid` for a question that can't be asked; `Ledger`, `Damaged`.
    pub async fn explain(
        &self,
        by: &Permit,
        question: &Question,
        person: Option<&str>,
        row: Option<&str>,
    ) -> Result<(Why, Option<RowWhy>), TrustError> {
        let audits = by.action() == Action::Audit;
        if !(audits || by.action() == Action::Administer && row.is_none()) {
            let refusal = Refusal {
                reason: "decisions about a row are explained to privacy officers, and others to \
                         administrators too"
                    .to_owned(),
                because: Vec::new(),
            };
            let mut record = Record::under(by, Event::EXPLAINED);
            record.outcome = Outcome::Refused;
            record.note = Some(&refusal.reason);
            self.inner.auditor.commit(&record).await?;
            return Err(TrustError::Refused(refusal));
        }
        if question.action.is_interaction() != question.kind.is_some() {
            let words = "a resource type belongs to reading, searching, history and writing, and to no other action";
            return Err(TrustError::Invalid(words.to_owned()));
        }
        let why = self.policy_set().why(question);
        let note = format!("asked why {}", why.answer);
        let (Some(id), Some(kind)) = (row, question.kind) else {
            let mut record = Record::under(by, Event::EXPLAINED);
            record.note = Some(&note);
            self.inner.auditor.commit(&record).await?;
            return Ok((why, None));
        };
        let agent = Agent {
            tenant: by.tenant(),
            id: person.unwrap_or_default().to_owned(),
            name: String::new(),
            role: question.role,
            patient: None,
            access: None,
        };
        let asked = Permit {
            because: Vec::new(),
            purpose: question.purpose,
            action: question.action,
            only_patient: None,
            grants: self.inner.policies.grants(&question.asker()),
            request_id: by.request_id.clone(),
            named: Arc::default(),
            freshness: Freshness::default(),
            standing: None,
            once: None,
            agent,
        };
        let found = self.vault().why_row(by, &asked, kind, id, &note).await?;
        let found = found.ok_or_else(|| TrustError::Invalid("there is no such row".to_owned()))?;
        Ok((why, Some(found)))
    }
}
