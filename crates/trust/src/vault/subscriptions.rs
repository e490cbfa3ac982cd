//! What is kept of a FHIR `Subscription` beside its resource: who asked for it and what for, what is sent where,
//! and the headers, which the resource never holds. `record` writes and follows subscriptions, `exchange` delivers for
//! them; being siblings they meet here.
//!
//! **The two say the same.** Resource and document are written in one commit, and the vault takes no `Subscription`
//! without it ([`Vault::commit`]), whichever way it would come. One more document, the *roll*, lists those that
//! are live: a follower sees by its version whether it knows them all, and bounds are counted in it exactly,
//! since of two who change it at once the second has to look again.

use std::collections::BTreeMap;

use fhir::search::{Owns, SearchQuery};
use fhir::{OperationOutcome, Resource, ResourceType};
use ledger::{Expected, LedgerError, Number, Owner, TenantId};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Change, Internal, Unit, Vault, kinds};
use crate::identity::OnBehalf;
use crate::{Permit, Purpose, TrustError};

/// How often a change is tried again that somebody else's came before.
pub(super) const CONFLICTS_MAX: u32 = 16;

/// How a subscription stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SubscriptionState {
    /// What matches is notified.
    Active,
    /// The same, but something went wrong last.
    Error,
    /// Nothing is notified any more.
    Off,
}

impl SubscriptionState {
    /// `Subscription.status`.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Error => "error",
            Self::Off => "off",
        }
    }
}

/// What a subscription is.
#[derive(Clone, Serialize, Deserialize)]
pub struct Subscribed {
    /// Who asked for it.
    pub owner: OnBehalf,
    /// What they want to know it for.
    pub purpose: Purpose,
    /// The type that is searched.
    pub kind: String,
    /// The parameters of the search.
    pub criteria: Vec<(String, String)>,
    /// The address of the server under which they were given.
    pub base: String,
    /// Where notifications go.
    pub endpoint: String,
    /// Whether the resource goes with them.
    pub with_payload: bool,
    /// Headers that go with them: names and values.
    pub headers: Vec<(String, String)>,
    /// When it ends, milliseconds since the epoch (care clock).
    pub end_ms: Option<u64>,
    /// How it stands.
    pub state: SubscriptionState,
    /// The number from which on changes are notified; that of this version where there is none.
    pub since: Option<u64>,
    /// When the first of the deliveries failed that have failed in a row (care clock).
    pub failing_since_ms: Option<u64>,
    /// What went wrong last, in words without anything of a patient: `Subscription.error`.
    pub error: Option<String>,
}

impl std::fmt::Debug for Subscribed {
    /// Shows nothing of the headers, and of what is asked for the type alone.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Subscribed")
            .field("kind", &self.kind)
            .field("purpose", &self.purpose)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl Subscribed {
    /// Where notifications go, without what may be secret in it: `https://example.org`.
    #[must_use]
    pub fn origin(&self) -> String {
        let parts: Vec<&str> = self.endpoint.split('/').take(3).collect();
        parts.join("/")
    }

    /// Whether anything is notified.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.state != SubscriptionState::Off
    }

    /// Whether its time is over.
    #[must_use]
    pub fn has_ended(&self, now_ms: u64) -> bool {
        self.end_ms.is_some_and(|end_ms| end_ms <= now_ms)
    }

    /// The search that says what matches; of one resource alone where an id is given.
    ///
    /// # Errors
    /// When it is not understood any more: a search parameter of one's own is gone.
    pub fn query(&self, owns: &Owns, id: Option<&str>) -> Result<SearchQuery, OperationOutcome> {
        let unknown = || OperationOutcome::error(fhir::IssueCode::NotSupported, "unknown type");
        let kind = ResourceType::parse(&self.kind).ok_or_else(unknown)?;
        let mut parameters = self.criteria.clone();
        parameters.extend(id.map(|id| ("_id".to_owned(), id.to_owned())));
        let mut query = SearchQuery::parse_with(kind, &parameters, false, owns)?;
        query.of_server(&self.base);
        query.count = 1;
        Ok(query)
    }

    /// Turns it off, with the reason if it is not that its time is over.
    pub fn turn_off(&mut self, error: Option<&str>) {
        self.state = SubscriptionState::Off;
        self.failing_since_ms = None;
        self.error = error.map(str::to_owned);
    }

    /// Writes into its resource how it stands.
    pub fn show(&self, resource: &mut Resource) {
        resource.set("status", json!(self.state.code()));
        match &self.error {
            Some(words) => resource.set("error", json!(words)),
            None => {
                resource.remove("error");
            }
        }
    }
}

/// A subscription as it is kept.
#[derive(Debug, Clone)]
pub struct SubscribedKept {
    /// What it is.
    pub subscribed: Subscribed,
    /// The version of the document.
    pub version: u32,
    /// The number of the document's version.
    pub number: Number,
}

impl SubscribedKept {
    /// The number from which on changes are notified.
    #[must_use]
    pub fn since(&self) -> Number {
        self.subscribed.since.map_or(self.number, Number)
    }

    /// The last number of what it may have missed before it was on again: whose clock is ahead, by so much at most, may have
    /// written while it was off what has a greater number than its being on ([`Vault::apart_ms`]).
    #[must_use]
    pub fn missed_end(&self, apart_ms: u64) -> u64 {
        let since = self.since();
        match apart_ms {
            0 => since.0,
            _ => Number::at_ms(since.unix_ms().saturating_add(apart_ms)).0,
        }
    }
}

/// The list of live subscriptions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubscriptionRoll {
    /// By id: whose each is ([`OnBehalf::key`]).
    pub live: BTreeMap<String, String>,
    /// The version of the list; none before the first.
    pub version: Option<u32>,
}

pub(super) fn damaged(id: &str) -> TrustError {
    TrustError::Damaged(format!("what is kept of subscription {id} can't be read"))
}

pub(super) fn unwritten(_: serde_json::Error) -> TrustError {
    TrustError::Invalid("a subscription can't be written".to_owned())
}

impl Vault {
    fn roll_id(&self, tenant: TenantId) -> String {
        self.ledger().derive_own_id(tenant, "subscriptions")
    }

    /// What is kept of a subscription.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn subscribed(
        &self,
        permit: &Permit,
        id: &str,
    ) -> Result<Option<SubscribedKept>, TrustError> {
        let found = self.internal(permit, kinds::SUBSCRIPTION, id).await?;
        let Some(found) = found else {
            return Ok(None);
        };
        let subscribed = serde_json::from_slice(&found.body).map_err(|_| damaged(id))?;
        Ok(Some(SubscribedKept {
            subscribed,
            version: found.version,
            number: found.at.number,
        }))
    }

    /// Whether there ever was a subscription; who asks needs no permit to learn that there is nothing to follow.
    ///
    /// # Errors
    /// `Ledger`.
    pub async fn has_subscriptions(&self, tenant: TenantId) -> Result<bool, TrustError> {
        let id = self.roll_id(tenant);
        let roll = self.ledger().get(tenant, kinds::SUBSCRIPTION_ROLL, &id);
        Ok(roll.await?.is_some())
    }

    /// Which subscriptions are live.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn subscription_roll(&self, permit: &Permit) -> Result<SubscriptionRoll, TrustError> {
        let id = self.roll_id(permit.tenant());
        let Some(found) = self.internal(permit, kinds::SUBSCRIPTION_ROLL, &id).await? else {
            return Ok(SubscriptionRoll::default());
        };
        Ok(SubscriptionRoll {
            live: serde_json::from_slice(&found.body).map_err(|_| damaged("roll"))?,
            version: Some(found.version),
        })
    }

    /// The documents that go with the resource of a subscription; `before` is the version of what is kept of it. The
    /// list is written whenever what is asked for may have changed, so that followers read it anew.
    ///
    /// # Errors
    /// `Invalid` when it can't be written.
    pub fn subscription_documents(
        &self,
        tenant: TenantId,
        (id, before): (&str, Option<u32>),
        subscribed: &Subscribed,
        mut roll: SubscriptionRoll,
    ) -> Result<Vec<Internal>, TrustError> {
        if subscribed.is_live() {
            roll.live.insert(id.to_owned(), subscribed.owner.key());
        } else {
            roll.live.remove(id);
        }
        let before = before.map_or(Expected::Absent, Expected::Version);
        let one = subscription_document(id, before, subscribed)?;
        Ok(vec![one, self.roll_document(tenant, &roll)?])
    }

    /// The document that writes the list anew, so that followers read everything anew that it is about.
    pub(super) fn roll_document(
        &self,
        tenant: TenantId,
        roll: &SubscriptionRoll,
    ) -> Result<Internal, TrustError> {
        let body = serde_json::to_vec(&roll.live).map_err(unwritten)?;
        let expected = roll.version.map_or(Expected::Absent, Expected::Version);
        let id = self.roll_id(tenant);
        Ok(internal(kinds::SUBSCRIPTION_ROLL, &id, expected, body))
    }

    /// Changes how a subscription stands, in its resource as well. Does nothing where `change` changes neither state nor
    /// error nor since when deliveries fail, or the subscription is off or gone; nor, where a version of what is kept
    /// is given, if that is another by now: what became of an attempt says nothing of what was asked for anew meanwhile.
    ///
    /// # Errors
    /// `Refused` for a permit that may not; `Ledger`, `Damaged`.
    pub async fn change_subscription(
        &self,
        permit: &Permit,
        (id, of): (&str, Option<u32>),
        change: impl Fn(&mut Subscribed),
    ) -> Result<(), TrustError> {
        let kind = ResourceType::Subscription;
        for _ in 0..CONFLICTS_MAX {
            let Some(kept) = self.subscribed(permit, id).await? else {
                return Ok(());
            };
            if of.is_some_and(|of| of != kept.version) {
                return Ok(());
            }
            let mut subscribed = kept.subscribed.clone();
            subscribed.since = Some(kept.since().0);
            change(&mut subscribed);
            let before = &kept.subscribed;
            let is_same = subscribed.state == before.state
                && subscribed.error == before.error
                && subscribed.failing_since_ms == before.failing_since_ms;
            if !before.is_live() || is_same {
                return Ok(());
            }
            let found = self.load(permit, kind, id).await?;
            let Some(row) = found.filter(|row| !row.deleted) else {
                return Ok(());
            };
            let documents = if subscribed.is_live() {
                let expected = Expected::Version(kept.version);
                vec![subscription_document(id, expected, &subscribed)?]
            } else {
                let roll = self.subscription_roll(permit).await?;
                let of = (id, Some(kept.version));
                let tenant = permit.tenant();
                let mut documents = self.subscription_documents(tenant, of, &subscribed, roll)?;
                documents.extend(self.subscription_off_document(permit, (id, true)).await?);
                documents
            };
            let mut resource = row.resource;
            subscribed.show(&mut resource);
            let unit = Unit {
                changes: vec![Change::Put {
                    resource,
                    expected: Expected::Version(row.version),
                }],
                internals: documents,
                note: Some(format!(
                    "Subscription/{id} is {}{}",
                    subscribed.state.code(),
                    (subscribed.error.as_ref())
                        .map_or_else(String::new, |words| format!(": {words}"))
                )),
                ..Unit::default()
            };
            match self.commit(permit, unit).await {
                Ok(_) => return Ok(()),
                Err(TrustError::Ledger(LedgerError::Conflict)) => {}
                Err(error) => return Err(error),
            }
        }
        Err(LedgerError::Conflict.into())
    }

    /// Takes no change of a `Subscription` without what is kept of it: whichever way it comes, it would say something
    /// else than is done.
    pub(super) async fn check_subscription(
        &self,
        tenant: TenantId,
        change: &Change,
        internals: &[Internal],
    ) -> Result<(), TrustError> {
        let (id, is_put) = match change {
            Change::Put { resource, .. } if resource.kind() == ResourceType::Subscription => {
                (resource.id().unwrap_or_default(), true)
            }
            Change::Delete { kind, id, .. } if *kind == ResourceType::Subscription => {
                (id.as_str(), false)
            }
            _ => return Ok(()),
        };
        let with = |one: &Internal| one.kind == kinds::SUBSCRIPTION && one.id == id;
        if internals.iter().any(with) {
            return Ok(());
        }
        // One that an earlier build took like any resource was never followed, and goes like any.
        let kept = self.ledger().get(tenant, kinds::SUBSCRIPTION, id).await?;
        if !is_put && kept.is_none() {
            return Ok(());
        }
        Err(TrustError::Invalid(
            "a Subscription is created, updated and deleted by requests of its own (POST, PUT and DELETE): not by a patch, by criteria, in a transaction or in an import".to_owned(),
        ))
    }
}

fn subscription_document(
    id: &str,
    expected: Expected,
    subscribed: &Subscribed,
) -> Result<Internal, TrustError> {
    let body = serde_json::to_vec(subscribed).map_err(unwritten)?;
    Ok(internal(kinds::SUBSCRIPTION, id, expected, body))
}

pub(super) fn internal(
    kind: ledger::Kind,
    id: &str,
    expected: Expected,
    body: Vec<u8>,
) -> Internal {
    Internal {
        kind,
        id: id.to_owned(),
        owner: Owner::Tenant,
        expected,
        body,
        deleted: false,
        tokens: Vec::new(),
    }
}
