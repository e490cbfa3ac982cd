//! FHIR `Subscription`s (rest-hook): what is written is notified to who asked for it.
//!
//! Each is created, updated and deleted by a request of its own, by whoever asked for it and nobody else. What is kept
//! of it beside the resource is `trust`'s ([`trust::Subscribed`]). `read.rs` says what is taken, `follow.rs` follows the
//! feed and puts notifications into the outbox, from which `exchange` delivers.
//!
//! **Nothing is decided here of what somebody may see.** A resource that matches is a reason to ask: whether it
//! is notified of is what the search of who asked, made when it goes out, says.

mod deliveries;
mod follow;
mod read;
mod replay;

use std::sync::Arc;

use fhir::{IssueCode, Resource, ResourceType};
use ledger::Expected;
use tokio::sync::Notify;
use trust::outgoing::Cleared;
use trust::{
    Action, Agent, Change, HookBook, HookBookKept, OnBehalf, Permit, Purpose, Subscribed,
    SubscribedKept, SubscriptionState, Target, TrustError, Unit, Vault, Versioned,
};

use crate::error::{conflict, is_conflict, not_supported};
use crate::once::kept_of;
use crate::validation::with_warnings;
use crate::write::{
    IfMatch, check_same_id, check_type, check_unconditional, deleted_answer, expected_over, mint,
    pause, tidy, wrap,
};
use crate::{ATTEMPTS_MAX, Answer, Caller, Record, RecordError};

use read::{Asked, Beside};

/// The most live subscriptions of one system or application: each is looked at for every write of its type.
pub const SUBSCRIPTIONS_OF_ONE_MAX: usize = 20;
/// The most of an organisation.
pub const SUBSCRIPTIONS_MAX: usize = 200;

const KIND: ResourceType = ResourceType::Subscription;
/// The part of Cairn that the audit names.
const PART: &str = "subscriptions";

/// What subscriptions of an organisation share.
#[derive(Default)]
pub(crate) struct Subscribing {
    cleared: Cleared,
    /// One was written.
    written: Notify,
    /// A notification was put into the outbox.
    queued: Arc<Notify>,
}

impl Subscribing {
    pub(crate) fn to(cleared: Cleared) -> Self {
        Self {
            cleared,
            written: Notify::new(),
            queued: Arc::default(),
        }
    }
}

/// What a write is about.
struct Aim<'a> {
    id: &'a str,
    if_match: &'a IfMatch,
}

/// Permits of the part that follows what is written and sends notifications.
struct Parts {
    follows: Permit,
    sends: Permit,
}

impl Parts {
    /// Refuses what the part may not look at, or could not write down how it stands: nobody would ever be told, or of
    /// nothing any more.
    fn may(&self, kind: ResourceType) -> Result<(), RecordError> {
        let mut both = [&self.follows, &self.sends].into_iter();
        let looks = self.follows.allows(Action::Read, kind);
        match looks && both.all(|permit| permit.allows(Action::Update, KIND)) {
            true => Ok(()),
            false => Err(nobody_is_notified()),
        }
    }
}

fn book_document(
    caller: &Caller,
    id: &str,
    kept: &HookBookKept,
    book: &HookBook,
) -> Result<trust::Internal, RecordError> {
    Vault::hook_book_document(id, kept.expected, book).map_err(wrap(caller))
}

fn nobody_is_notified() -> RecordError {
    not_supported(
        422,
        "the policies of this organisation don't let the part subscriptions notify anybody of that",
    )
}

impl Record {
    /// What is told whenever notifications were put into the outbox: the store tells of documents alone.
    #[must_use]
    pub fn notifications_queued(&self) -> Arc<Notify> {
        Arc::clone(&self.subscribing.queued)
    }

    pub(crate) async fn create_subscription(
        &self,
        caller: &Caller,
        mut resource: Resource,
    ) -> Result<Answer, RecordError> {
        check_type(KIND, &resource)?;
        resource.remove("id");
        let permit = self
            .permit(caller, Action::Create, Some(KIND), None)
            .await?;
        let parts = self.may_subscribe(caller, &mut resource).await?;
        for attempt in 0..ATTEMPTS_MAX {
            let mut resource = resource.clone();
            mint(self.vault(), &permit, &mut resource);
            if let Some(answer) = self
                .subscribe(caller, (&permit, &parts), resource, None)
                .await?
            {
                return Ok(answer);
            }
            pause(attempt).await;
        }
        Err(conflict())
    }

    pub(crate) async fn update_subscription(
        &self,
        caller: &Caller,
        id: &str,
        if_match: &IfMatch,
        mut resource: Resource,
    ) -> Result<Answer, RecordError> {
        check_type(KIND, &resource)?;
        check_same_id(id, &resource)?;
        let mut permit = self
            .permit(caller, Action::Update, Some(KIND), None)
            .await?;
        let parts = self.may_subscribe(caller, &mut resource).await?;
        let mut may_create = false;
        for attempt in 0..ATTEMPTS_MAX {
            let aim = Aim { id, if_match };
            let existing = self.own_subscription(caller, &permit, aim).await?;
            if expected_over(existing.as_ref()).1 && !may_create {
                permit = self
                    .permit(caller, Action::Create, Some(KIND), None)
                    .await?;
                may_create = true;
            }
            let resource = resource.clone();
            let existing = existing.as_ref();
            if let Some(answer) = self
                .subscribe(caller, (&permit, &parts), resource, existing)
                .await?
            {
                return Ok(answer);
            }
            pause(attempt).await;
        }
        Err(conflict())
    }

    pub(crate) async fn delete_subscription(
        &self,
        caller: &Caller,
        id: &str,
        if_match: &IfMatch,
    ) -> Result<Answer, RecordError> {
        let permit = self
            .permit(caller, Action::Delete, Some(KIND), None)
            .await?;
        for attempt in 0..ATTEMPTS_MAX {
            let aim = Aim { id, if_match };
            let existing = self.own_subscription(caller, &permit, aim).await?;
            let Some(row) = existing.filter(|row| !row.deleted) else {
                self.note_look(caller, &permit, KIND, id).await?;
                return Ok(deleted_answer(caller, None));
            };
            let changes = vec![Change::Delete {
                kind: KIND,
                id: id.to_owned(),
                expected: Expected::Version(row.version),
                owner: trust::Vault::owner(&row.resource),
            }];
            let kept = self.kept(caller, &permit, id).await?;
            let internals = match kept {
                // An earlier build took it like any resource.
                None => Vec::new(),
                Some(kept) => {
                    let mut subscribed = kept.subscribed;
                    subscribed.turn_off(None);
                    subscribed.headers.clear();
                    let of = (id, Some(kept.version));
                    let mut documents = self.documents(caller, &permit, of, &subscribed).await?;
                    documents.extend(self.off(caller, &permit, (id, false)).await?);
                    let book = self.vault().hook_book(&permit, id).await;
                    let book = book.map_err(wrap(caller))?;
                    // Keys, what was missed and deliveries are nobody's any more.
                    documents.push(book_document(caller, id, &book, &book.book.deleted())?);
                    documents
                }
            };
            let unit = Unit {
                kept: (caller.once.as_ref()).and_then(|_| kept_of(&changes, false)),
                changes,
                internals,
                ..Unit::default()
            };
            match self.vault().commit(&permit, unit).await {
                Ok(receipt) => {
                    self.subscribing.written.notify_one();
                    return Ok(deleted_answer(caller, receipt.changes.first().copied()));
                }
                Err(error) if is_conflict(&error) => pause(attempt).await,
                Err(error) => return Err(wrap(caller)(error)),
            }
        }
        Err(conflict())
    }

    /// What has to be so before anything is looked at: the resource is one, there is somewhere to notify, and the
    /// part that notifies is let do so.
    async fn may_subscribe(
        &self,
        caller: &Caller,
        resource: &mut Resource,
    ) -> Result<Parts, RecordError> {
        if self.subscribing.cleared.is_empty() {
            return Err(not_supported(
                422,
                "there are no subscriptions here: the configuration of this organisation names no place that notifications may go to (subscriptions.origins)",
            ));
        }
        if caller.purpose == Purpose::Emergency {
            return Err(RecordError::new(
                422,
                IssueCode::BusinessRule,
                "an emergency ends; nobody is notified for one",
            ));
        }
        tidy(&caller.base, resource);
        check_unconditional(resource)?;
        self.check_valid(resource)
            .map_err(|outcome| RecordError::with(422, outcome))?;
        let part = async |action| {
            let tenant = caller.agent.tenant;
            match self.part_permit(tenant, action, &caller.request_id).await {
                Err(TrustError::Refused(_)) => Err(nobody_is_notified()),
                decided => decided.map_err(wrap(caller)),
            }
        };
        Ok(Parts {
            follows: part(Action::Orchestrate).await?,
            sends: part(Action::Send).await?,
        })
    }

    /// A permit of the part that follows and delivers.
    async fn part_permit(
        &self,
        tenant: ledger::TenantId,
        action: Action,
        request_id: &str,
    ) -> Result<Permit, TrustError> {
        let agent = Agent::system(tenant, PART);
        let (purpose, target) = (Purpose::Operations, Target::default());
        self.trust
            .decide(&agent, purpose, action, target, request_id)
            .await
    }

    /// What is there, if it is the caller's to change.
    async fn own_subscription(
        &self,
        caller: &Caller,
        permit: &Permit,
        aim: Aim<'_>,
    ) -> Result<Option<Versioned>, RecordError> {
        let (id, if_match) = (aim.id, aim.if_match);
        let existing = self.vault().load(permit, KIND, id).await;
        let existing = existing.map_err(wrap(caller))?;
        if existing.as_ref().is_some_and(|row| !row.deleted) {
            let kept = self.kept(caller, permit, id).await?;
            if kept.is_some_and(|kept| !kept.subscribed.owner.is(&caller.agent)) {
                self.note_look(caller, permit, KIND, id).await?;
                return Err(RecordError::new(
                    403,
                    IssueCode::Forbidden,
                    "a subscription is changed and deleted by whoever asked for it alone",
                ));
            }
        }
        self.check_match(caller, permit, (KIND, id), if_match, existing.as_ref())
            .await?;
        Ok(existing)
    }

    async fn kept(
        &self,
        caller: &Caller,
        permit: &Permit,
        id: &str,
    ) -> Result<Option<SubscribedKept>, RecordError> {
        let kept = self.vault().subscribed(permit, id).await;
        kept.map_err(wrap(caller))
    }

    async fn documents(
        &self,
        caller: &Caller,
        permit: &Permit,
        of: (&str, Option<u32>),
        subscribed: &Subscribed,
    ) -> Result<Vec<trust::Internal>, RecordError> {
        let vault = self.vault();
        let roll = vault.subscription_roll(permit).await;
        let roll = roll.map_err(wrap(caller))?;
        if subscribed.is_live() {
            let key = subscribed.owner.key();
            let others = || roll.live.iter().filter(|(id, _)| *id != of.0);
            let own = others().filter(|(_, owner)| **owner == key).count();
            let words = if own >= SUBSCRIPTIONS_OF_ONE_MAX {
                format!(
                    "has {own} live subscriptions, as many as one may have; delete or turn off one"
                )
            } else if others().count() >= SUBSCRIPTIONS_MAX {
                format!("{SUBSCRIPTIONS_MAX} live subscriptions are as many as an organisation has")
            } else {
                String::new()
            };
            if !words.is_empty() {
                return Err(RecordError::new(422, IssueCode::TooCostly, words));
            }
        }
        vault
            .subscription_documents(permit.tenant(), of, subscribed, roll)
            .map_err(wrap(caller))
    }

    /// The document that lists one among those that went off, or not.
    async fn off(
        &self,
        caller: &Caller,
        permit: &Permit,
        of: (&str, bool),
    ) -> Result<Option<trust::Internal>, RecordError> {
        let document = self.vault().subscription_off_document(permit, of).await;
        document.map_err(wrap(caller))
    }

    /// Writes it; `None` when somebody else wrote in between.
    async fn subscribe(
        &self,
        caller: &Caller,
        (permit, parts): (&Permit, &Parts),
        mut resource: Resource,
        existing: Option<&Versioned>,
    ) -> Result<Option<Answer>, RecordError> {
        let vault = self.vault();
        let id = resource.id().unwrap_or_default().to_owned();
        let before = self.kept(caller, permit, &id).await?;
        // Headers of another's that was deleted are nobody's any more.
        let headers = match (&before, existing) {
            (Some(kept), Some(row)) if !row.deleted => kept.subscribed.headers.as_slice(),
            _ => &[],
        };
        // What the follower has not looked at yet is not passed over because its owner changed something meanwhile.
        let since = match (&before, existing) {
            (Some(kept), Some(row)) if !row.deleted && kept.subscribed.is_live() => {
                Some(kept.since().0)
            }
            _ => None,
        };
        let tenant = permit.tenant();
        let owns = vault.owns(tenant);
        let beside = Beside {
            base: &caller.base,
            owns: &owns,
            cleared: &self.subscribing.cleared,
            headers,
            now_ms: vault.ledger().clock().now_ms(),
        };
        let asked = read::read(&mut resource, &beside)
            .map_err(|outcome| RecordError::with(422, outcome))?;
        self.may_ask(caller, &asked).await?;
        parts.may(asked.kind)?;
        let state = match asked.is_off {
            true => SubscriptionState::Off,
            false => SubscriptionState::Active,
        };
        let subscribed = Subscribed {
            owner: OnBehalf::of(&caller.agent),
            purpose: caller.purpose,
            kind: asked.kind.name().to_owned(),
            criteria: asked.criteria,
            base: caller.base.clone(),
            endpoint: asked.endpoint,
            with_payload: asked.with_payload,
            headers: asked.headers,
            end_ms: asked.end_ms,
            state,
            since,
            failing_since_ms: None,
            error: None,
        };
        subscribed.show(&mut resource);
        let of = (id.as_str(), before.as_ref().map(|kept| kept.version));
        let mut internals = self.documents(caller, permit, of, &subscribed).await?;
        let is_there = existing.is_some_and(|row| !row.deleted);
        let before = before.filter(|_| is_there);
        let was_live = before.as_ref().map(|kept| kept.subscribed.is_live());
        if was_live.unwrap_or(true) && !subscribed.is_live() {
            internals.extend(self.off(caller, permit, (&id, true)).await?);
        }
        if let Some(before) = before.filter(|kept| !kept.subscribed.is_live()) {
            if subscribed.is_live() {
                internals.extend(self.off(caller, permit, (&id, false)).await?);
            }
            // What it missed is kept as a range, to be sent when its owner asks; where it stays off, too, because from when on
            // it has been off is known by this version alone.
            let kept = vault.hook_book(permit, &id).await.map_err(wrap(caller))?;
            let mut book = kept.book.clone();
            if book.miss(before.number.0) {
                internals.push(book_document(caller, &id, &kept, &book)?);
            }
        }
        let (expected, created) = expected_over(existing);
        let changes = vec![Change::Put {
            resource: resource.clone(),
            expected,
        }];
        let unit = Unit {
            kept: (caller.once.as_ref()).and_then(|_| kept_of(&changes, created)),
            changes,
            internals,
            ..Unit::default()
        };
        match vault.commit(permit, unit).await {
            Ok(receipt) => {
                self.subscribing.written.notify_one();
                let written = *receipt.changes.first().ok_or_else(conflict)?;
                let warnings = self.warnings(caller, &resource);
                let answer =
                    self.written_answer(caller, (KIND, &id), Some(resource), written, created);
                Ok(Some(with_warnings(answer, warnings)))
            }
            Err(error) if is_conflict(&error) => Ok(None),
            Err(error) => Err(wrap(caller)(error)),
        }
    }

    /// Refuses what the caller may not search for: what is notified of would tell of it.
    async fn may_ask(&self, caller: &Caller, asked: &Asked) -> Result<(), RecordError> {
        let target = Target {
            kind: Some(asked.kind),
            patient: caller.agent.patient.clone(),
        };
        let permit = self.permit_for(caller, Action::Search, target).await?;
        self.vault()
            .may_search(&permit, std::slice::from_ref(&asked.query))
            .await
            .map_err(wrap(caller))
    }
}
