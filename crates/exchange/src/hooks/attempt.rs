//! One attempt at one notification: everything is decided anew, as a search of who asked, for the one row.

use fhir::ResourceType;
use ledger::{LedgerError, OutboxDraft, OutboxEntry, OutboxKey, Owner};
use trust::outgoing::Notification;
use trust::{
    Action, Agent, Disclosed, Permit, Purpose, Subscribed, SubscribedKept, SubscriptionState,
    Target, Telling, ToldRow, TrustError, Unit,
};

use super::pause::{ATTEMPTS_MAX, GIVE_UP_MS, pause_ms};
use super::post::{self, Failed, Request};
use super::{Heard, Inner, PART};
use crate::deliverer::{DeliverError, hex, persist};

/// What is written down of a notification that was taken.
const SENT: &str = "sent";

/// What is decided of a notification.
enum Decided {
    /// The row, as who asked may see it.
    Send(Box<ToldRow>),
    /// It is not what they asked for any more, or not theirs to see.
    Withheld,
    /// They may not ask at all, in words for them.
    Refused(String),
    /// The subscription is over; why, if not that its time is.
    Over(Option<&'static str>),
}

pub(super) struct Attempt<'a> {
    pub(super) inner: &'a Inner,
    pub(super) entry: &'a OutboxEntry,
    pub(super) notification: &'a Notification,
    pub(super) permit: Permit,
    pub(super) request_id: &'a str,
}

impl Inner {
    /// A permit of the part that delivers.
    pub(super) async fn permit(
        &self,
        entry: &OutboxEntry,
        request_id: &str,
    ) -> Result<Permit, TrustError> {
        let agent = Agent::system(entry.tenant, PART);
        let (purpose, target) = (Purpose::Operations, Target::default());
        self.trust
            .decide(&agent, purpose, Action::Send, target, request_id)
            .await
    }
}

impl Attempt<'_> {
    /// An error leaves the entry where it is. `failures` says how many deliveries of the subscription failed in a row.
    pub(super) async fn run(&self, failures: u32) -> Result<Heard, DeliverError> {
        let vault = self.inner.trust.vault();
        let id = &self.notification.subscription;
        let kept = vault.subscribed(&self.permit, id).await?;
        let Some(kept) = kept.filter(|kept| kept.subscribed.is_live()) else {
            // It was deleted, or is off.
            self.settle("not delivered: the subscription is off", None)
                .await?;
            return Ok(Heard::Nothing);
        };
        match self.decide(&kept.subscribed).await? {
            Decided::Send(told) => {
                let sent = self.send(&kept.subscribed, &told).await?;
                self.after(&kept, &told, sent, failures).await
            }
            Decided::Withheld => {
                // Nothing was asked of the endpoint, so that no row of failures goes on.
                self.recovered(&kept).await?;
                self.settle("not delivered: nothing that may be told of matches", None)
                    .await?;
                metrics::counter!("subscription_notifications_withheld_total").increment(1);
                Ok(Heard::Nothing)
            }
            Decided::Refused(words) => {
                self.change(&kept, |subscribed| {
                    subscribed.state = SubscriptionState::Error;
                    subscribed.error = Some(words.clone());
                    subscribed.failing_since_ms = None;
                })
                .await?;
                self.settle("not delivered: who asked may not", None)
                    .await?;
                metrics::counter!("subscription_notifications_withheld_total").increment(1);
                Ok(Heard::Nothing)
            }
            Decided::Over(words) => {
                self.turn_off(&kept, words).await?;
                Ok(Heard::Nothing)
            }
        }
    }

    async fn decide(&self, subscribed: &Subscribed) -> Result<Decided, DeliverError> {
        let trust = &self.inner.trust;
        if subscribed.has_ended(trust.vault().ledger().clock().now_ms()) {
            return Ok(Decided::Over(None));
        }
        if !self.inner.cleared.covers(&subscribed.endpoint) {
            let words = "the configuration does not let notifications go to the endpoint any more";
            return Ok(Decided::Over(Some(words)));
        }
        let (tenant, id) = (self.entry.tenant, self.notification.id.as_str());
        let telling = trust.telling(tenant, subscribed, id, self.request_id);
        Ok(match telling.await? {
            Telling::Row(told) => Decided::Send(told),
            Telling::Nothing => Decided::Withheld,
            Telling::Refused(words) => Decided::Refused(words),
            Telling::Nobody => Decided::Over(Some("who asked for it is let in no more")),
            Telling::Unclear => Decided::Over(Some("the criteria are not understood any more")),
        })
    }

    /// Sends it, if this process is still the one to do so.
    async fn send(
        &self,
        subscribed: &Subscribed,
        ToldRow { row, notices, .. }: &ToldRow,
    ) -> Result<Result<(), Failed>, DeliverError> {
        let shard = self.entry.key.shard;
        if !self.inner.trust.vault().ledger().holds(shard) {
            return Err(TrustError::Ledger(LedgerError::Fenced(shard)).into());
        }
        let key = hex(self.entry.key.id);
        let kind: ResourceType = row.resource.kind();
        let id = &self.notification.id;
        let payload =
            (subscribed.with_payload).then(|| (kind.name(), id.as_str(), row.json().into_owned()));
        let request = Request {
            endpoint: &subscribed.endpoint,
            headers: &subscribed.headers,
            key: &key,
            notices: if payload.is_some() {
                notices.clone()
            } else {
                Vec::new()
            },
            payload,
        };
        Ok(post::send(&self.inner.http, request).await)
    }

    async fn after(
        &self,
        kept: &SubscribedKept,
        told: &ToldRow,
        sent: Result<(), Failed>,
        failures: u32,
    ) -> Result<Heard, DeliverError> {
        let told = disclosed(&kept.subscribed, told);
        let failed = match sent {
            Ok(()) => {
                persist(|| self.commit(SENT, None, told.clone())).await?;
                metrics::counter!("subscription_notifications_sent_total").increment(1);
                self.recovered(kept).await?;
                return Ok(Heard::Taken);
            }
            Err(failed) => failed,
        };
        let words = failed.words;
        if let Some(told) = told.filter(|_| failed.may_have_it) {
            // By itself and first, so that it stands whatever becomes of the entry and whoever settles that.
            let what = format!("{SENT}, no receipt: {words}");
            persist(|| self.tell(&what, told.clone())).await?;
        }
        let made = self.entry.attempt.saturating_add(1);
        metrics::counter!("subscription_notifications_failed_total").increment(1);
        tracing::info!(
            subscription = self.notification.subscription,
            attempt = made,
            why = words,
            "a notification was not delivered"
        );
        let ledger = self.inner.trust.vault().ledger();
        let now_ms = ledger.clock().now_ms();
        let since_ms = kept.subscribed.failing_since_ms.unwrap_or(now_ms);
        if made >= ATTEMPTS_MAX || now_ms.saturating_sub(since_ms) >= GIVE_UP_MS {
            self.turn_off(kept, Some(&format!("given up: {words}")))
                .await?;
            return Ok(Heard::Nothing);
        }
        let failures = failures.saturating_add(1);
        let mut dice = [0; 8];
        ledger.entropy().fill(&mut dice);
        let dice = u64::from_be_bytes(dice);
        let until_ms = now_ms.saturating_add(pause_ms(failures, dice));
        // What was refused itself comes back after the others of the subscription.
        let due_ms = until_ms.max(now_ms.saturating_add(pause_ms(made, dice)));
        self.settle("put off", Some((due_ms.saturating_add(1), made)))
            .await?;
        self.change(kept, |subscribed| {
            subscribed.state = SubscriptionState::Error;
            subscribed.error = Some(words.clone());
            subscribed.failing_since_ms.get_or_insert(now_ms);
        })
        .await?;
        Ok(Heard::Failed { until_ms })
    }

    /// Ends what stood as an error.
    async fn recovered(&self, kept: &SubscribedKept) -> Result<(), DeliverError> {
        if kept.subscribed.state != SubscriptionState::Error {
            return Ok(());
        }
        self.change(kept, |subscribed| {
            subscribed.state = SubscriptionState::Active;
            subscribed.error = None;
            subscribed.failing_since_ms = None;
        })
        .await
    }

    /// Changes how the subscription stands, if it still is what this attempt was made for.
    async fn change(
        &self,
        kept: &SubscribedKept,
        change: impl Fn(&mut Subscribed),
    ) -> Result<(), DeliverError> {
        let of = (self.notification.subscription.as_str(), Some(kept.version));
        let vault = self.inner.trust.vault();
        let changed = vault.change_subscription(&self.permit, of, change);
        Ok(changed.await?)
    }

    /// Turns the subscription off, and takes this entry out; others of it find it off when their turn comes. If it was
    /// asked for anew meanwhile, the entry stays for a new look.
    async fn turn_off(
        &self,
        kept: &SubscribedKept,
        words: Option<&str>,
    ) -> Result<(), DeliverError> {
        self.change(kept, |subscribed| subscribed.turn_off(words))
            .await?;
        let vault = self.inner.trust.vault();
        let id = &self.notification.subscription;
        let now = vault.subscribed(&self.permit, id).await?;
        if now.is_some_and(|now| now.subscribed.is_live() && now.version != kept.version) {
            return Ok(());
        }
        metrics::counter!("subscriptions_turned_off_total").increment(1);
        self.settle("not delivered: the subscription was turned off", None)
            .await
    }

    /// Writes down what became of the entry; when the store fails, tries again for a while, because what an endpoint
    /// has taken would be sent twice otherwise.
    async fn settle(&self, what: &str, again: Option<(u64, u32)>) -> Result<(), DeliverError> {
        persist(|| self.commit(what, again, None)).await
    }

    async fn commit(
        &self,
        what: &str,
        again: Option<(u64, u32)>,
        disclosed: Option<Disclosed>,
    ) -> Result<(), DeliverError> {
        let again = again.map(|again| put_off(self.entry, self.notification, again));
        let unit = Unit {
            outbox_remove: vec![self.entry.key],
            outbox_add: again.into_iter().collect(),
            // What was sent is written down whoever holds the shard by now, so that nobody sends it again.
            held: (what != SENT).then_some(self.entry.key.shard),
            patient: self.notification.patient.clone(),
            note: Some(self.note(what)),
            disclosed: disclosed.clone(),
            ..Unit::default()
        };
        match self.inner.trust.vault().commit(&self.permit, unit).await {
            Ok(_) => Ok(()),
            // Another process, which had taken over, has settled it. What was sent from here was sent all the same.
            Err(TrustError::Ledger(LedgerError::Conflict)) => match disclosed {
                Some(disclosed) => self.tell(what, disclosed).await,
                None => Ok(()),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// Writes down what was disclosed and nothing else, whoever holds the shard.
    async fn tell(&self, what: &str, disclosed: Disclosed) -> Result<(), DeliverError> {
        let unit = Unit {
            patient: self.notification.patient.clone(),
            note: Some(self.note(what)),
            disclosed: Some(disclosed),
            ..Unit::default()
        };
        let told = self.inner.trust.vault().commit(&self.permit, unit).await;
        told.map(drop).map_err(DeliverError::from)
    }

    fn note(&self, what: &str) -> String {
        let id = &self.notification.subscription;
        format!("Subscription/{id}: notification {what}")
    }
}

/// What the endpoint has once it is sent. Without the resource it has learnt only that there is something.
fn disclosed(subscribed: &Subscribed, told: &ToldRow) -> Option<Disclosed> {
    let ToldRow { row, purpose, .. } = told;
    subscribed.with_payload.then(|| Disclosed {
        kind: row.resource.kind(),
        id: row.resource.id().unwrap_or_default().to_owned(),
        version: row.version,
        to: subscribed.origin(),
        purpose: *purpose,
    })
}

/// The same entry at a later time, under the same key.
pub(super) fn put_off(
    entry: &OutboxEntry,
    notification: &Notification,
    (due_ms, attempt): (u64, u32),
) -> OutboxDraft {
    let owner = match &notification.patient {
        Some(patient) => Owner::Patient(patient.clone()),
        None => Owner::Tenant,
    };
    OutboxDraft {
        key: OutboxKey {
            due_ms,
            ..entry.key
        },
        owner,
        channel: entry.channel,
        attempt,
        body: entry.body.clone(),
    }
}
