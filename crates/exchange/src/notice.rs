//! Notices to staff by e-mail: that something waits for them, and a link to a page behind the sign-in.
//!
//! There is no patient whose consent could be asked, and nothing of one in the words. What became of each attempt
//! is in the audit, as with messages.
use ledger::{LedgerError, OutboxDraft, OutboxEntry, OutboxKey, Owner};
use trust::outgoing::Notice;
use trust::{Agent, Permit, TrustError, Unit};

use crate::check::{Reason, Refused};
use crate::compose::link;
use crate::deliverer::{DeliverError, Inner, hex, persist};
use crate::mail::{Mail, Wording};
use crate::outcome::{Outcome, count, note};
use crate::returns::Of;

impl Inner {
    /// One attempt at a notice.
    pub(crate) async fn notify(
        &self,
        agent: &Agent,
        entry: &OutboxEntry,
        mail: &Mail,
        notice: &Notice,
        request_id: &str,
    ) -> Result<(), DeliverError> {
        self.carrier.turn().await;
        let permit = self.of_nobody(agent, request_id).await?;
        let outcome = match notice.to.parse() {
            Ok(to) => {
                let link = link(&self.portal_base, &notice.link_path, None);
                let wording = Wording {
                    subject: &notice.subject,
                    text: &notice.text,
                    link: &link,
                    preferences: None,
                    visit: None,
                    now_ms: self.trust.wall_clock().now_ms(),
                };
                let content = mail.compose(entry.key.id, &to, &wording);
                let content = content.map_err(DeliverError::Compose)?;
                let (ledger, of) = (self.trust.vault().ledger(), Of::Notice(entry.key.id));
                let from = mail.return_address(ledger, entry.tenant, Some(of), "");
                let from = from.map_err(TrustError::from)?;
                let handing = async { mail.hand_over((&from, &to), &content).await };
                self.hand_over(entry, (None, 0), handing).await?
            }
            Err(_) => Outcome::NotDone(Refused::new(Reason::NoAddress, "The address is not one.")),
        };
        if let Outcome::NotDone(refused) = &outcome {
            // Somebody has to be told in another way.
            tracing::error!(outbox = %hex(entry.key.id), about = notice.about, reason = refused.reason.code(), "mail: a notice could not be sent");
        }
        persist(|| self.settle_notice(&permit, entry, notice, &outcome)).await
    }

    async fn settle_notice(
        &self,
        permit: &Permit,
        entry: &OutboxEntry,
        notice: &Notice,
        outcome: &Outcome,
    ) -> Result<(), DeliverError> {
        let mut unit = Unit {
            outbox_remove: vec![entry.key],
            held: (!outcome.was_handed_over()).then_some(entry.key.shard),
            note: Some(format!(
                "notice of {}: {}",
                notice.about,
                note(outcome, self.carrier.words())
            )),
            ..Unit::default()
        };
        if let Outcome::PutOff {
            due_ms, attempt, ..
        } = outcome
        {
            unit.outbox_add.push(OutboxDraft {
                key: OutboxKey {
                    due_ms: *due_ms,
                    ..entry.key
                },
                owner: Owner::Tenant,
                channel: entry.channel,
                attempt: *attempt,
                body: entry.body.clone(),
            });
        }
        match self.trust.vault().commit(permit, unit).await {
            // Another process has settled it.
            Err(TrustError::Ledger(LedgerError::Conflict)) => Ok(()),
            Err(error) => Err(error.into()),
            Ok(_) => {
                count(outcome, self.carrier.name());
                Ok(())
            }
        }
    }
}
