//! After a mail server took a message: for a while it may come back, and then it is taken to have arrived.

use fhir::{Resource, ResourceType};
use ledger::{Expected, LedgerError, OutboxDraft, OutboxEntry, OutboxKey, Owner};
use serde_json::{Value, json};
use trust::outgoing::{CHANNEL_MAIL_TAKEN, Message};
use trust::{Action, Agent, Change, Permit, Purpose, Target, TrustError, Unit};

use super::{Returns, SENT_TO};
use crate::attempt::CONFLICTS_MAX;
use crate::deliverer::{DeliverError, Inner, persist};

/// What is said of a message that may come back.
const TAKEN: &str =
    "The mail server has it. It counts as delivered if it has not come back by then: ";

/// How long before its time is over a message has to count as delivered, milliseconds: its journey must hear of it first, or
/// it goes another way for what has arrived.
const SLACK_MS: u64 = 5 * 60_000;

/// Notes where a message went, as what stands for the address.
pub(super) fn set_sent_to(communication: &mut Resource, address_id: &str) {
    let extensions = communication.get("extension").and_then(Value::as_array);
    let mut extensions = extensions.cloned().unwrap_or_default();
    extensions.retain(|one| one["url"] != SENT_TO);
    extensions.push(json!({"url": SENT_TO, "valueId": address_id}));
    communication.set("extension", Value::Array(extensions));
}

/// Where a message went.
pub(super) fn sent_to(communication: &Resource) -> Option<&str> {
    let extensions = communication.get("extension").and_then(Value::as_array)?;
    let found = extensions.iter().find(|one| one["url"] == SENT_TO)?;
    found["valueId"].as_str()
}

impl Returns {
    /// Of a message that a mail server has just taken: notes where it went, and puts off that it counts as delivered
    /// until it would have come back. At once where its time would be over by then.
    pub(crate) fn taken(
        &self,
        (unit, communication): (&mut Unit, &mut Resource),
        (entry, message): (&OutboxEntry, &Message),
        address_id: &str,
        now_ms: u64,
    ) {
        set_sent_to(communication, address_id);
        let due_ms = now_ms.saturating_add(self.wait_ms);
        let in_time = message
            .expires_ms
            .is_none_or(|expires_ms| due_ms.saturating_add(SLACK_MS) < expires_ms);
        if self.wait_ms == 0 || !in_time {
            return;
        }
        communication.set("status", json!("in-progress"));
        let words = format!("{TAKEN}{}.", fhir::date::instant(due_ms));
        communication.set("statusReason", json!({ "text": words }));
        unit.outbox_add.push(OutboxDraft {
            key: OutboxKey {
                due_ms,
                ..entry.key
            },
            owner: Owner::Patient(message.patient.clone()),
            channel: CHANNEL_MAIL_TAKEN,
            attempt: entry.attempt,
            body: entry.body.clone(),
        });
    }
}

impl Inner {
    /// The time is over in which a message would have come back.
    pub(crate) async fn believe(
        &self,
        agent: &Agent,
        entry: &OutboxEntry,
        request_id: &str,
    ) -> Result<(), DeliverError> {
        let Ok(message) = serde_json::from_slice::<Message>(&entry.body) else {
            return Err(self.unread());
        };
        let purpose: Option<Purpose> = serde_json::from_value(message.purpose.as_str().into()).ok();
        let target = Target {
            kind: Some(ResourceType::Communication),
            patient: Some(message.patient.clone()),
        };
        let purpose = purpose.unwrap_or(Purpose::Operations);
        let permit = self
            .trust
            .decide(agent, purpose, Action::Send, target, request_id)
            .await?;
        Box::pin(persist(|| {
            self.count_as_delivered(&permit, entry, &message)
        }))
        .await
    }

    async fn count_as_delivered(
        &self,
        permit: &Permit,
        entry: &OutboxEntry,
        message: &Message,
    ) -> Result<(), DeliverError> {
        let vault = self.trust.vault();
        for _ in 0..CONFLICTS_MAX {
            let mut unit = Unit {
                outbox_remove: vec![entry.key],
                held: Some(entry.key.shard),
                patient: Some(message.patient.clone()),
                note: Some(format!(
                    "{}: no e-mail came back in its time",
                    message.journey
                )),
                ..Unit::default()
            };
            let kind = ResourceType::Communication;
            let found = vault.load(permit, kind, &message.communication).await?;
            if let Some(found) = found.filter(|found| !found.deleted) {
                let mut resource = found.resource;
                if resource.text_at(&["status"]) == Some("in-progress") {
                    resource.strip_meta();
                    resource.set("status", json!("completed"));
                    resource.remove("statusReason");
                    unit.changes.push(Change::Put {
                        resource,
                        expected: Expected::Version(found.version),
                    });
                }
            }
            match vault.commit(permit, unit).await {
                Ok(_) => return Ok(()),
                Err(TrustError::Ledger(LedgerError::Conflict)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(DeliverError::Contended)
    }
}
