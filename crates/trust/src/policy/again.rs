//! What takes long is asked again: who began it may have been shut out meanwhile, and policies may have changed.
use super::Trust;
use crate::audit::{Event, Outcome, Record};
use crate::{Action, Agent, Permit, Purpose, Refusal, Target, TrustError};

const SHUT_OUT: &str =
    "the client, the grant or the account for which this began is let in no more";

impl Trust {
    /// As [`Trust::decide`], of somebody who was let in a while ago: they have to be let in still.
    ///
    /// # Errors
    /// `Refused`, `Ledger`.
    pub async fn decide_again(
        &self,
        agent: &Agent,
        purpose: Purpose,
        action: Action,
        request_id: &str,
    ) -> Result<Permit, TrustError> {
        if self.identity().is_still_in(agent).await? {
            let target = Target::default();
            return self
                .decide(agent, purpose, action, target, request_id)
                .await;
        }
        let mut record = Record::new(agent, Event::of(action));
        record.purpose = Some(purpose);
        record.request_id = request_id;
        record.outcome = Outcome::Refused;
        record.note = Some(SHUT_OUT);
        self.inner.auditor.commit(&record).await?;
        Err(TrustError::Refused(Refusal {
            reason: SHUT_OUT.to_owned(),
            because: Vec::new(),
        }))
    }
}
