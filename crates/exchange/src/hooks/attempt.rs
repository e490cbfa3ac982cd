//! One attempt at one notification: everything is decided anew, as a search of who asked, for the one row.

use fhir::ResourceType;
use ledger::{LedgerError, OutboxDraft, OutboxEntry, OutboxKey, Owner};
use reqwest::StatusCode;
use trust::outgoing::Notification;
use trust::webhooks::SigningKey;
use trust::{
    Action, Agent, Disclosed, HookAttempt, HookFailure, HookOutcome, Internal, Permit, Purpose,
    Subscribed, SubscribedKept, SubscriptionState, Target, Telling, ToldRow, TrustError, Unit,
    Vault,
};

use super::pause::{ATTEMPTS_MAX, GIVE_UP_MS, pause_ms};
use super::post::{self, Failed, Request};
use super::{Heard, Inner, PART};
use crate::deliverer::{DeliverError, hex, persist};

/// How often it is tried again to note what was missed, where others write the same book.
const MISS_TRIES: u32 = 16;
/// The same for what is kept of an attempt, before it is settled without.
const KEPT_TRIES: u32 = 3;
/// How long what is sent again rests where policies refuse who asked (care clock).
const REFUSED_MS: u64 = 3_600_000;
/// At how many attempts it rests no more: so few that the endpoint, asked at last, is not given up at its first failure.
const REFUSED_MAX: u32 = 24;
/// What is told of one whose keys can't be read: unsigned is worse than late.
const UNSIGNED: &str = "what notifications are signed with can't be read";

/// What came of a notification, for its log.
struct Outcome {
    /// As [`trust::HookDelivery::answers`] has it; none where nobody was asked.
    answer: Option<String>,
    outcome: HookOutcome,
    /// Whether the receiver may have it.
    handed: bool,
    /// Whether a row of failures begins with it.
    begins_failing: bool,
    /// Of which turn the subscription was that the endpoint was asked for ([`trust::HookBook::turn`]); none where nobody was.
    turn: Option<u32>,
}

impl Outcome {
    /// Whether the subscription was deleted since and its id is another's by now, who is told nothing of this.
    fn is_of_before(&self, turn: u32) -> bool {
        self.turn.is_some_and(|of| of != turn)
    }
}

/// What was decided against.
static UNSENT: Outcome = Outcome {
    answer: None,
    outcome: HookOutcome::Withheld,
    handed: false,
    begins_failing: false,
    turn: None,
};

/// What a subscription that is off was not told.
static MISSED: Outcome = Outcome {
    answer: None,
    outcome: HookOutcome::Missed,
    handed: false,
    begins_failing: false,
    turn: None,
};

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
            self.miss("not delivered: the subscription is off", &MISSED)
                .await?;
            return Ok(Heard::Nothing);
        };
        match self.decide(&kept.subscribed).await? {
            Decided::Send(told) => {
                let Some((signing, turn)) = self.keys().await? else {
                    // Of one that was deleted nobody will ask.
                    let words = "not delivered: the subscription is off";
                    self.settle(words, None, None).await?;
                    return Ok(Heard::Nothing);
                };
                let sent = match signing {
                    Some(signing) => self.send(&kept.subscribed, &told, &signing).await?,
                    None => Err(Failed::before_it_was_sent(UNSIGNED)),
                };
                self.after(&kept, &told, (sent, turn), failures).await
            }
            Decided::Withheld => {
                // Nothing was asked of the endpoint, so that no row of failures goes on.
                self.recovered(&kept).await?;
                let words = "not delivered: nothing that may be told of matches";
                self.settle(words, None, Some(&UNSENT)).await?;
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
                let words = "not delivered: who asked may not";
                let made = self.entry.attempt.saturating_add(1);
                if self.notification.replay.is_some() && made < REFUSED_MAX {
                    // Their owner asks once: it isn't eaten before somebody mends the policies.
                    let now_ms = self.inner.trust.vault().ledger().clock().now_ms();
                    let again = Some((now_ms.saturating_add(REFUSED_MS), made));
                    self.settle(words, again, None).await?;
                    return Ok(Heard::Nothing);
                }
                self.settle(words, None, Some(&UNSENT)).await?;
                metrics::counter!("subscription_notifications_withheld_total").increment(1);
                Ok(Heard::Nothing)
            }
            Decided::Over(words) => {
                self.turn_off(&kept, words, &MISSED).await?;
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

    /// What it is signed with, and of which turn the subscription is: none where it was deleted meanwhile; no keys where its
    /// book can't be read.
    async fn keys(&self) -> Result<Option<(Option<Vec<SigningKey>>, Option<u32>)>, DeliverError> {
        let wall_ms = self.inner.trust.wall_clock().now_ms();
        let vault = self.inner.trust.vault();
        let of = &self.notification.subscription;
        match vault.hook_keys(&self.permit, of, wall_ms).await {
            Ok(keys) => Ok(keys.map(|(keys, turn)| {
                // Where a newer program has made all of them, none of them signs here.
                let signs = |key: &SigningKey| !matches!(key, SigningKey::Other(_));
                (Some(keys).filter(|keys| keys.iter().any(signs)), Some(turn))
            })),
            Err(error) if self.is_unreadable(&error) => Ok(Some((None, None))),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether it is that something kept beside the outbox can't be read, which is said to the log. What becomes of a
    /// notification comes before what is told of it.
    fn is_unreadable(&self, error: &TrustError) -> bool {
        let is_it = matches!(
            error,
            TrustError::Damaged(_) | TrustError::Ledger(LedgerError::Damaged(_))
        );
        if is_it {
            let subscription = &self.notification.subscription;
            tracing::error!(%error, subscription, "what is kept of notifications can't be read");
            metrics::counter!("subscription_rows_unreadable_total").increment(1);
        }
        is_it
    }

    /// Sends it, if this process is still the one to do so.
    async fn send(
        &self,
        subscribed: &Subscribed,
        ToldRow { row, notices, .. }: &ToldRow,
        signing: &[SigningKey],
    ) -> Result<Result<StatusCode, Failed>, DeliverError> {
        let shard = self.entry.key.shard;
        let wall_ms = self.inner.trust.wall_clock().now_ms();
        let vault = self.inner.trust.vault();
        if !vault.ledger().holds(shard) {
            return Err(TrustError::Ledger(LedgerError::Fenced(shard)).into());
        }
        let key = self.key();
        let kind: ResourceType = row.resource.kind();
        let id = &self.notification.id;
        let payload =
            (subscribed.with_payload).then(|| (kind.name(), id.as_str(), row.json().into_owned()));
        let request = Request {
            endpoint: &subscribed.endpoint,
            headers: &subscribed.headers,
            key: &key,
            replay: self.notification.replay.as_deref(),
            signing,
            at_s: wall_ms / 1_000,
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
        (sent, turn): (Result<StatusCode, Failed>, Option<u32>),
        failures: u32,
    ) -> Result<Heard, DeliverError> {
        let told = disclosed(&kept.subscribed, told);
        let failed = match sent {
            Ok(status) => {
                let heard = Outcome {
                    answer: Some(status.as_str().to_owned()),
                    outcome: HookOutcome::Taken,
                    handed: true,
                    begins_failing: false,
                    turn,
                };
                persist(|| self.commit(SENT, None, told.clone(), Some(&heard))).await?;
                metrics::counter!("subscription_notifications_sent_total").increment(1);
                self.recovered(kept).await?;
                return Ok(Heard::Taken);
            }
            Err(failed) => failed,
        };
        let heard = Outcome {
            answer: Some(failed.answer),
            outcome: HookOutcome::Failed,
            handed: failed.may_have_it,
            begins_failing: kept.subscribed.failing_since_ms.is_none(),
            turn,
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
            let heard = Outcome {
                outcome: HookOutcome::Missed,
                ..heard
            };
            self.turn_off(kept, Some(&format!("given up: {words}")), &heard)
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
        let again = Some((due_ms.saturating_add(1), made));
        self.settle("put off", again, Some(&heard)).await?;
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
        heard: &Outcome,
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
        self.miss("not delivered: the subscription was turned off", heard)
            .await
    }

    /// Takes the entry out of a subscription that is off, and notes in the same commit from which number on it misses
    /// something. Of one that was deleted nobody will ask.
    async fn miss(&self, what: &str, heard: &Outcome) -> Result<(), DeliverError> {
        let vault = self.inner.trust.vault();
        let id = &self.notification.subscription;
        for _ in 0..MISS_TRIES {
            let kept = match vault.hook_book(&self.permit, id).await {
                Err(error) if self.is_unreadable(&error) => {
                    return self.settle(what, None, None).await;
                }
                kept => kept?,
            };
            let number = match self.notification.number {
                Some(number) => Some(number),
                None => self.newest().await?,
            };
            let mut book = kept.book.clone();
            let is_news = number.is_some_and(|number| book.miss(number));
            if !is_news || heard.is_of_before(book.turn) || self.is_deleted().await? {
                return self.settle(what, None, Some(heard)).await;
            }
            let mut internals = vec![Vault::hook_book_document(id, kept.expected, &book)?];
            let of = (id.as_str(), book.turn);
            internals.extend(self.log(of, heard).await?);
            let unit = Unit {
                outbox_remove: vec![self.entry.key],
                internals,
                held: Some(self.entry.key.shard),
                patient: self.notification.patient.clone(),
                note: Some(self.note(what)),
                ..Unit::default()
            };
            match vault.commit(&self.permit, unit).await {
                Ok(_) => return Ok(()),
                // Somebody else has written the book, or has settled this.
                Err(TrustError::Ledger(LedgerError::Conflict)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(TrustError::Ledger(LedgerError::Conflict).into())
    }

    /// The number of the newest version of the resource: what an earlier program put on its way says none, and whoever
    /// is told of this one knows what that one would have told.
    async fn newest(&self) -> Result<Option<u64>, DeliverError> {
        let Some(kind) = ResourceType::parse(&self.notification.kind) else {
            return Ok(None);
        };
        let vault = self.inner.trust.vault();
        match vault.load(&self.permit, kind, &self.notification.id).await {
            Ok(row) => Ok(row.map(|row| row.at.number.0)),
            Err(TrustError::Ledger(LedgerError::KeyDestroyed)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn is_deleted(&self) -> Result<bool, DeliverError> {
        let vault = self.inner.trust.vault();
        let (kind, id) = (ResourceType::Subscription, &self.notification.subscription);
        let row = vault.load(&self.permit, kind, id).await?;
        Ok(row.is_none_or(|row| row.deleted))
    }

    /// What the receiver knows it by: the same for everything that tells it of the same version.
    fn key(&self) -> String {
        let again = self.notification.again.clone();
        again.unwrap_or_else(|| hex(self.entry.key.id))
    }

    /// What is kept of it beside the outbox: the log, and where a row of failures begins the book.
    async fn kept_of(&self, heard: &Outcome) -> Result<Vec<Internal>, DeliverError> {
        let vault = self.inner.trust.vault();
        let id = &self.notification.subscription;
        let kept = match vault.hook_book(&self.permit, id).await {
            Err(error) if self.is_unreadable(&error) => return Ok(Vec::new()),
            kept => kept?,
        };
        if heard.is_of_before(kept.book.turn) {
            return Ok(Vec::new());
        }
        let log = self.log((id, kept.book.turn), heard).await?;
        let mut all: Vec<Internal> = log.into_iter().collect();
        if let Some(number) = self.notification.number.filter(|_| heard.begins_failing) {
            let at_ms = vault.ledger().clock().now_ms();
            let mut book = kept.book;
            book.failed = Some(HookFailure { number, at_ms });
            all.push(Vault::hook_book_document(id, kept.expected, &book)?);
        }
        Ok(all)
    }

    /// The log with what came of this; none where that changes nothing, or it can't be read.
    async fn log(
        &self,
        (id, turn): (&str, u32),
        heard: &Outcome,
    ) -> Result<Option<Internal>, DeliverError> {
        let vault = self.inner.trust.vault();
        let at_ms = vault.ledger().clock().now_ms();
        let key = self.key();
        let attempt = HookAttempt {
            id: &key,
            number: self.notification.number,
            resource: (&self.notification.kind, &self.notification.id),
            replay: self.notification.replay.as_deref(),
            answer: heard.answer.as_deref(),
            outcome: heard.outcome,
            handed: heard.handed,
            at_ms,
        };
        let of = (id, turn, self.entry.key.shard);
        match vault.hook_log_document(&self.permit, of, &attempt).await {
            Err(error) if self.is_unreadable(&error) => Ok(None),
            log => Ok(log?),
        }
    }

    /// Writes down what became of the entry; when the store fails, tries again for a while, because what an endpoint
    /// has taken would be sent twice otherwise.
    async fn settle(
        &self,
        what: &str,
        again: Option<(u64, u32)>,
        heard: Option<&Outcome>,
    ) -> Result<(), DeliverError> {
        persist(|| self.commit(what, again, None, heard)).await
    }

    async fn commit(
        &self,
        what: &str,
        again: Option<(u64, u32)>,
        disclosed: Option<Disclosed>,
        heard: Option<&Outcome>,
    ) -> Result<(), DeliverError> {
        for tries in 0..=KEPT_TRIES {
            let draft = again.map(|again| put_off(self.entry, self.notification, again));
            let internals = match heard.filter(|_| tries < KEPT_TRIES) {
                Some(heard) => self.kept_of(heard).await?,
                None => Vec::new(),
            };
            let has_internals = !internals.is_empty();
            let unit = Unit {
                outbox_remove: vec![self.entry.key],
                outbox_add: draft.into_iter().collect(),
                internals,
                // What was sent is written down whoever holds the shard by now, so that nobody sends it again.
                held: (what != SENT).then_some(self.entry.key.shard),
                patient: self.notification.patient.clone(),
                note: Some(self.note(what)),
                disclosed: disclosed.clone(),
                ..Unit::default()
            };
            match self.inner.trust.vault().commit(&self.permit, unit).await {
                Ok(_) => return Ok(()),
                // It may be the log, or the book, that somebody else has written: they are read anew, and in the end what
                // becomes of the entry comes before what is kept of it.
                Err(TrustError::Ledger(LedgerError::Conflict)) if has_internals => {}
                Err(TrustError::Ledger(LedgerError::Conflict)) => break,
                Err(error) => return Err(error.into()),
            }
        }
        // Another process, which had taken over, has settled it. What was sent from here was sent all the same.
        match disclosed {
            Some(disclosed) => self.tell(what, disclosed).await,
            None => Ok(()),
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
