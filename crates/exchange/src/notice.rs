//! Notices to staff by e-mail: that something waits for them, and a link to a page behind the sign-in.
//!
//! There is no patient whose consent could be asked, and nothing of one in the words. What became of each attempt
//! is in the audit, as with messages.
use ledger::{LedgerError, OutboxDraft, OutboxEntry, OutboxKey, Owner};
use trust::outgoing::Notice;
use trust::{Agent, Permit, TrustError, Unit};

use crate::check::{Reason, Refused};
use crate::compose::{Letter, compose, link, message_id};
use crate::deliverer::{DeliverError, Inner, hex, persist};
use crate::outcome::{Outcome, count, note};
use crate::returns::Of;

impl Inner {
    /// One attempt at a notice.
    pub(crate) async fn notify(
        &self,
        agent: &Agent,
        entry: &OutboxEntry,
        notice: &Notice,
        request_id: &str,
    ) -> Result<(), DeliverError> {
        let permit = self.of_nobody(agent, request_id).await?;
        let outcome = match notice.to.parse() {
            Ok(to) => {
                let options = &self.options;
                let content = compose(&Letter {
                    from: &self.from,
                    to: &to,
                    subject: &notice.subject,
                    text: &notice.text,
                    link: &link(&options.portal_base, &notice.link_path, None),
                    message_id: &message_id(entry.key.id, &options.message_id_domain),
                    preferences: None,
                    now_ms: self.trust.wall_clock().now_ms(),
                    dkim: options.dkim.as_ref(),
                    entry: None,
                })
                .map_err(DeliverError::Compose)?;
                let from = self.return_address(entry.tenant, Some(Of::Notice(entry.key.id)), "")?;
                self.hand_over(entry, (&from, &to), &content, None).await?
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
            held: (!matches!(outcome, Outcome::Sent)).then_some(entry.key.shard),
            note: Some(format!("notice of {}: {}", notice.about, note(outcome))),
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
                count(outcome);
                Ok(())
            }
        }
    }
}
