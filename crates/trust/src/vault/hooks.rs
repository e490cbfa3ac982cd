//! What is kept of a FHIR `Subscription` for its notifications: what they are signed with, what was missed, what is sent
//! again, and what became of the newest ones.
//!
//! **The book** of a subscription ([`HookBook`]) is one document. **The logs** ([`HookLog`]) are one for each shard of what
//! is written, so that servers that work on different shards never wait for each other; each has the newest
//! [`LOGGED_OF_SHARD`] deliveries. Neither has anything of a resource but its type and its id.

mod book;

use std::collections::{BTreeMap, BTreeSet};

use fhir::ResourceType;
use ledger::{Expected, LedgerError, Number, Shard, TenantId};
use serde::{Deserialize, Serialize};
use serde_json::Map;

use book::SHARD_BITS;
pub use book::{
    HookAttempt, HookBook, HookDelivery, HookFailure, HookKey, HookLog, HookOutcome, HookReplay,
    IN_FORCE_MAX, LOGGED_OF_SHARD,
};

use super::subscriptions::{CONFLICTS_MAX, damaged, internal, unwritten};
use super::{Internal, SubscribedKept, Unit, Vault, kinds};
use crate::webhooks::{self, SigningKey};
use crate::{Permit, TrustError};

/// Replays of a subscription that are kept, and the most that may be asked for within [`REPLAYS_WITHIN_MS`].
pub const REPLAYS_MAX: usize = 16;
/// See [`REPLAYS_MAX`].
pub const REPLAYS_WITHIN_MS: u64 = 24 * 3_600_000;
/// The longest range of one replay: what is written by everybody in it is looked through.
pub const REPLAY_SPAN_MAX_MS: u64 = 31 * 24 * 3_600_000;
/// The longest that a secret stays good after another has taken its place.
pub const OVERLAP_MAX_MS: u64 = 7 * 24 * 3_600_000;
/// Subscriptions that went off and are still looked at for what was written before, and for how long.
const OFF_MAX: usize = 200;
const OFF_KEPT_MS: u64 = 7 * 24 * 3_600_000;
/// The token that logs of a subscription are found by.
const OF: &str = "subscription";

/// A book as it is kept.
#[derive(Debug, Clone)]
pub struct HookBookKept {
    /// What is in it; empty before there is one.
    pub book: HookBook,
    /// What the next version takes the place of.
    pub expected: Expected,
}

fn expected(version: Option<u32>) -> Expected {
    version.map_or(Expected::Absent, Expected::Version)
}

impl Vault {
    /// The id that everything has which tells a subscription of one version of a resource: the same each time, and
    /// nothing by which subscription or resource could be known.
    #[must_use]
    pub fn hook_id(&self, tenant: TenantId, subscription: &str, at: ledger::Hit) -> [u8; 16] {
        let name = format!("\u{1f}hook/{subscription}/{}/{}", at.shard, at.number.0);
        let id = self.ledger().derive_own_id(tenant, &name);
        let digits = id.bytes().filter_map(|byte| char::from(byte).to_digit(16));
        let number = digits.fold(0_u128, |sum, digit| sum << 4 | u128::from(digit));
        number.to_be_bytes()
    }

    /// The book of a subscription.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn hook_book(&self, permit: &Permit, id: &str) -> Result<HookBookKept, TrustError> {
        let found = self.internal(permit, kinds::SUBSCRIPTION_BOOK, id).await?;
        let version = found.as_ref().map(|found| found.version);
        let book = match found {
            Some(found) => serde_json::from_slice(&found.body).map_err(|_| damaged(id))?,
            None => HookBook::default(),
        };
        Ok(HookBookKept {
            book,
            expected: expected(version),
        })
    }

    /// The document that writes a book.
    ///
    /// # Errors
    /// `Invalid` when it can't be written.
    pub fn hook_book_document(
        id: &str,
        expected: Expected,
        book: &HookBook,
    ) -> Result<Internal, TrustError> {
        let body = serde_json::to_vec(book).map_err(unwritten)?;
        Ok(internal(kinds::SUBSCRIPTION_BOOK, id, expected, body))
    }

    /// Changes the book of a subscription, with a sentence for the audit; where `tell`, so that followers read it anew.
    /// Nothing is written where `change` says that nothing changed. `asked` is who asked for it, where a part of Cairn writes it.
    ///
    /// # Errors
    /// `Refused` for a permit that may not; `Ledger`, `Damaged`.
    pub async fn change_hook_book<T>(
        &self,
        (permit, asked): (&Permit, Option<&Permit>),
        id: &str,
        (note, tell): (&str, bool),
        change: impl Fn(&mut HookBook) -> (bool, T),
    ) -> Result<T, TrustError> {
        for _ in 0..CONFLICTS_MAX {
            let HookBookKept { mut book, expected } = self.hook_book(permit, id).await?;
            let (is_changed, made) = change(&mut book);
            if !is_changed {
                return Ok(made);
            }
            let mut internals = vec![Self::hook_book_document(id, expected, &book)?];
            if tell {
                let roll = self.subscription_roll(permit).await?;
                internals.push(self.roll_document(permit.tenant(), &roll)?);
            }
            let unit = Unit {
                internals,
                asked: asked.cloned(),
                note: Some(format!("Subscription/{id}: {note}")),
                ..Unit::default()
            };
            match self.commit(permit, unit).await {
                Ok(_) => return Ok(made),
                Err(TrustError::Ledger(LedgerError::Conflict)) => {}
                Err(error) => return Err(error),
            }
        }
        Err(LedgerError::Conflict.into())
    }

    /// How far clocks of those who write to this store may be apart, milliseconds: nothing where there is one.
    ///
    /// # Errors
    /// `Ledger`.
    pub fn apart_ms(&self) -> Result<u64, TrustError> {
        let in_place = self.ledger().view()?.answers_in_place();
        Ok(if in_place {
            0
        } else {
            ledger::CLOCK_STEP_MAX_MS
        })
    }

    /// The keys that a subscription's notifications are signed with, and the turn that they are of ([`HookBook::turn`]). The
    /// first are made here, where there are none. None where the subscription was deleted meanwhile.
    ///
    /// # Errors
    /// As [`Vault::change_hook_book`].
    pub async fn hook_keys(
        &self,
        permit: &Permit,
        id: &str,
        wall_ms: u64,
    ) -> Result<Option<(Vec<SigningKey>, u32)>, TrustError> {
        let mut book = self.hook_book(permit, id).await?.book;
        if book.secrets.is_empty() || book.keys.is_empty() {
            let row = self.load(permit, ResourceType::Subscription, id).await?;
            if row.is_none_or(|row| row.deleted) {
                return Ok(None);
            }
            let (secret, seed, turn) = (self.new_secret(), self.new_seed(), book.turn);
            let made = self.change_hook_book(
                (permit, None),
                id,
                ("keys that notifications are signed with were made", false),
                |book| {
                    // Of one that was deleted by now nothing is kept.
                    if book.turn != turn {
                        return (false, None);
                    }
                    let mut is_made = false;
                    if book.secrets.is_empty() {
                        is_made |= book.rotate(secret.clone(), wall_ms, 0).is_ok();
                    }
                    if book.keys.is_empty() {
                        is_made |= book.rotate(seed.clone(), wall_ms, 0).is_ok();
                    }
                    (is_made, Some(book.clone()))
                },
            );
            match made.await? {
                Some(made) => book = made,
                None => return Ok(None),
            }
        }
        let keys = book.signing(wall_ms).cloned().collect();
        Ok(Some((keys, book.turn)))
    }

    /// A new secret.
    #[must_use]
    pub fn new_secret(&self) -> SigningKey {
        let mut bytes = [0; webhooks::SECRET_BYTES];
        self.ledger().entropy().fill(&mut bytes);
        SigningKey::secret(&bytes)
    }

    /// A new private key.
    #[must_use]
    pub fn new_seed(&self) -> SigningKey {
        let mut bytes = [0; 32];
        self.ledger().entropy().fill(&mut bytes);
        SigningKey::seed(bytes)
    }

    fn hook_log_id(&self, tenant: TenantId, subscription: &str, shard: Shard) -> String {
        let name = format!("\u{1f}hook log/{subscription}/{shard}");
        self.ledger().derive_own_id(tenant, &name)
    }

    /// The document that notes an attempt in the log of its shard.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn hook_log_document(
        &self,
        permit: &Permit,
        (subscription, turn, shard): (&str, u32, Shard),
        attempt: &HookAttempt<'_>,
    ) -> Result<Option<Internal>, TrustError> {
        let id = self.hook_log_id(permit.tenant(), subscription, shard);
        let found = self.internal(permit, kinds::SUBSCRIPTION_LOG, &id).await?;
        let version = found.as_ref().map(|found| found.version);
        let read = |body: &[u8]| serde_json::from_slice::<HookLog>(body);
        let before = found.map(|found| read(&found.body)).transpose();
        let before = before.map_err(|_| damaged(subscription))?;
        let before = before.filter(|log| log.turn == turn).unwrap_or(HookLog {
            of: subscription.to_owned(),
            turn,
            ..HookLog::default()
        });
        let mut log = before.clone();
        log.note(attempt);
        if log == before {
            return Ok(None);
        }
        let body = serde_json::to_vec(&log).map_err(unwritten)?;
        let mut document = internal(kinds::SUBSCRIPTION_LOG, &id, expected(version), body);
        document.tokens = vec![(OF.to_owned(), subscription.to_owned())];
        Ok(Some(document))
    }

    /// The logs of a subscription, in no order.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn hook_logs(
        &self,
        permit: &Permit,
        (subscription, turn): (&str, u32),
    ) -> Result<Vec<HookLog>, TrustError> {
        let tokens = [(OF, subscription)];
        let found = self
            .internals(permit, kinds::SUBSCRIPTION_LOG, &tokens, None, SHARD_BITS)
            .await?;
        let read = |body: &[u8]| serde_json::from_slice::<HookLog>(body);
        let logs = found.iter().map(|one| read(&one.body));
        let logs = logs.collect::<Result<Vec<_>, _>>();
        let mut logs = logs.map_err(|_| damaged(subscription))?;
        // Tokens can collide.
        logs.retain(|log| log.of == subscription && log.turn == turn);
        Ok(logs)
    }

    fn off_id(&self, tenant: TenantId) -> String {
        self.ledger()
            .derive_own_id(tenant, "subscriptions that went off")
    }

    /// Subscriptions that went off a while ago, which what was written before may still be missed by: when each did (care
    /// clock).
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn subscriptions_off(
        &self,
        permit: &Permit,
    ) -> Result<(BTreeMap<String, u64>, Option<u32>), TrustError> {
        let id = self.off_id(permit.tenant());
        let found = self.internal(permit, kinds::SUBSCRIPTION_BOOK, &id).await?;
        let Some(found) = found else {
            return Ok((BTreeMap::new(), None));
        };
        let off: BTreeMap<String, u64> =
            serde_json::from_slice(&found.body).map_err(|_| damaged("those that went off"))?;
        let now_ms = self.ledger().clock().now_ms();
        let is_kept = |(_, off_ms): &(String, u64)| now_ms.saturating_sub(*off_ms) < OFF_KEPT_MS;
        let off = off.into_iter().filter(is_kept).collect();
        Ok((off, Some(found.version)))
    }

    /// The document that lists a subscription among those that went off, or not; none where nothing changes.
    ///
    /// # Errors
    /// As [`Vault::subscriptions_off`].
    pub async fn subscription_off_document(
        &self,
        permit: &Permit,
        (id, is_off): (&str, bool),
    ) -> Result<Option<Internal>, TrustError> {
        let (mut off, version) = self.subscriptions_off(permit).await?;
        let now_ms = self.ledger().clock().now_ms();
        if is_off {
            off.insert(id.to_owned(), now_ms);
        } else if off.remove(id).is_none() {
            return Ok(None);
        }
        while off.len() > OFF_MAX {
            let oldest = off.iter().min_by_key(|(_, off_ms)| **off_ms);
            let Some(oldest) = oldest.map(|(id, _)| id.clone()) else {
                break;
            };
            off.remove(&oldest);
        }
        let body = serde_json::to_vec(&off).map_err(unwritten)?;
        let list = self.off_id(permit.tenant());
        let document = internal(kinds::SUBSCRIPTION_BOOK, &list, expected(version), body);
        Ok(Some(document))
    }
}

/// How a subscription stands, for operators and administrators: nothing of what it asks for but the type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookStanding {
    /// Its id.
    pub id: String,
    /// The type that is searched.
    pub kind: String,
    /// Where notifications go.
    pub origin: String,
    /// How it stands: `active`, `error` or `off`.
    pub status: String,
    /// What went wrong last.
    pub error: Option<String>,
    /// The first number of what it missed.
    pub missed_from: Option<u64>,
    /// The last; none while it is off.
    pub missed_until: Option<u64>,
    /// What was asked to be sent again, the oldest first.
    pub replays: Vec<HookReplay>,
}

impl Vault {
    /// How subscriptions stand that are live, or went off within a week.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn hook_standings(&self, permit: &Permit) -> Result<Vec<HookStanding>, TrustError> {
        let roll = self.subscription_roll(permit).await?;
        let mut ids: BTreeSet<String> = roll.live.into_keys().collect();
        ids.extend(self.subscriptions_off(permit).await?.0.into_keys());
        let mut all = Vec::with_capacity(ids.len());
        for id in ids {
            all.extend(self.hook_standing(permit, &id).await?);
        }
        Ok(all)
    }

    /// How one stands; none where there is none, or it was deleted.
    ///
    /// # Errors
    /// As [`Vault::hook_standings`].
    pub async fn hook_standing(
        &self,
        permit: &Permit,
        id: &str,
    ) -> Result<Option<HookStanding>, TrustError> {
        let row = self.load(permit, ResourceType::Subscription, id).await?;
        let kept = match row.is_some_and(|row| !row.deleted) {
            true => self.subscribed(permit, id).await?,
            false => None,
        };
        let Some(kept) = kept else {
            return Ok(None);
        };
        let book = self.hook_book(permit, id).await?.book;
        let missed = book.missed(&kept, self.apart_ms()?);
        Ok(Some(HookStanding {
            id: id.to_owned(),
            kind: kept.subscribed.kind.clone(),
            origin: kept.subscribed.origin(),
            status: kept.subscribed.state.code().to_owned(),
            error: kept.subscribed.error,
            missed_from: missed.map(|(from, _)| from),
            missed_until: missed.and_then(|(_, until)| until),
            replays: book.replays,
        }))
    }

    /// The deliveries of a subscription that are kept, the newest last, for operators and administrators: of a resource
    /// its type alone.
    ///
    /// # Errors
    /// As [`Vault::hook_standings`].
    pub async fn hook_deliveries(
        &self,
        permit: &Permit,
        id: &str,
    ) -> Result<Vec<HookDelivery>, TrustError> {
        let turn = self.hook_book(permit, id).await?.book.turn;
        let logs = self.hook_logs(permit, (id, turn)).await?;
        let mut all: Vec<HookDelivery> = logs.into_iter().flat_map(|log| log.newest).collect();
        all.sort_by_key(|one| (one.number, one.first_ms));
        for one in &mut all {
            one.resource.clear();
        }
        Ok(all)
    }
}

/// Why nothing can be sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoReplay {
    /// It is off, and what is put on its way would be dropped.
    Off,
    /// Another is under way.
    UnderWay(String),
    /// As many were asked for as may be within a day.
    TooMany,
    /// Nothing was missed, or nothing failed.
    Nothing,
    /// The range is too long.
    TooLong,
    /// It begins after its end.
    Empty,
    /// There is no such delivery any more.
    Unknown,
}

impl NoReplay {
    /// In words.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Off => "the subscription is off: turn it on first (PUT with status requested); what it missed is kept as a range".to_owned(),
            Self::UnderWay(id) => format!("the replay {id} is still being put on its way; one at a time"),
            Self::TooMany => format!("{REPLAYS_MAX} replays of a subscription are as many as may be asked for in {} hours", REPLAYS_WITHIN_MS / 3_600_000),
            Self::Nothing => "there is nothing of that kind to send again".to_owned(),
            Self::TooLong => format!("a replay covers at most {} days; ask for the rest by another", REPLAY_SPAN_MAX_MS / 86_400_000),
            Self::Empty => "the range begins after its end, or in the future".to_owned(),
            Self::Unknown => "there is no such delivery among those that are kept, or it has no number; ask by a range of time".to_owned(),
        }
    }
}

/// What is to be sent again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReplayOf {
    /// The delivery with this id.
    Delivery(String),
    /// What was written between two times, milliseconds since the epoch; until now where no end is said.
    Times(u64, Option<u64>),
    /// What has numbers between two, both among them; until now where no end is said.
    Numbers(u64, Option<u64>),
    /// What was missed because the subscription was off.
    Missed,
    /// Everything from the first of the deliveries that failed in a row last.
    SinceFailure,
}

impl Vault {
    /// The numbers of what is to be sent again.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`; inside, why nothing can be.
    async fn replay_range(
        &self,
        permit: &Permit,
        (id, kept): (&str, &SubscribedKept),
        of: &ReplayOf,
    ) -> Result<Result<(u64, u64), NoReplay>, TrustError> {
        let book = self.hook_book(permit, id).await?.book;
        let now = self.ledger().last_number().0;
        let span = |from: u64| {
            let until_ms = Number(from).unix_ms().saturating_add(REPLAY_SPAN_MAX_MS);
            Number::at_ms(until_ms).0
        };
        let (from, until) = match of {
            ReplayOf::Delivery(delivery) => {
                let logs = self.hook_logs(permit, (id, book.turn)).await?;
                let mut all = logs.iter().flat_map(|log| &log.newest);
                let found = all.find(|one| one.id == *delivery && one.is_owners());
                match found.and_then(|one| one.number) {
                    Some(number) => (number, number),
                    None => return Ok(Err(NoReplay::Unknown)),
                }
            }
            ReplayOf::Times(from_ms, until_ms) => {
                // Up to the end of that millisecond.
                let end = |ms: u64| Number::at_ms(ms.saturating_add(1)).0.saturating_sub(1);
                let until = until_ms.map_or(now, |ms| end(ms).min(now));
                (Number::at_ms(*from_ms).0, until)
            }
            ReplayOf::Numbers(from, until) => (*from, until.unwrap_or(now).min(now)),
            // What is longer than one replay is cut: the rest stays as what was missed.
            ReplayOf::Missed => match book.missed(kept, self.apart_ms()?) {
                Some((from, Some(until))) => (from, until.min(span(from))),
                _ => return Ok(Err(NoReplay::Nothing)),
            },
            ReplayOf::SinceFailure => match book.failed {
                Some(failed) => (failed.number, now),
                None => return Ok(Err(NoReplay::Nothing)),
            },
        };
        Ok(if from > until {
            Err(NoReplay::Empty)
        } else if until > span(from) {
            Err(NoReplay::TooLong)
        } else {
            Ok((from, until))
        })
    }

    /// Asks for something to be sent again; a follower puts it on its way. `by` is who asked, as the audit names them.
    ///
    /// # Errors
    /// As [`Vault::change_hook_book`]; inside, why nothing can be.
    pub async fn ask_replay(
        &self,
        (permit, asked): (&Permit, Option<&Permit>),
        (id, by): (&str, &str),
        of: &ReplayOf,
    ) -> Result<Result<HookReplay, NoReplay>, TrustError> {
        let Some(kept) = self.subscribed(permit, id).await? else {
            return Ok(Err(NoReplay::Off));
        };
        if !kept.subscribed.is_live() {
            return Ok(Err(NoReplay::Off));
        }
        let (from, until) = match self.replay_range(permit, (id, &kept), of).await? {
            Ok(range) => range,
            Err(no) => return Ok(Err(no)),
        };
        let now_ms = self.ledger().clock().now_ms();
        let replay = HookReplay {
            id: self.ledger().mint_own_id(permit.tenant()),
            from,
            until,
            asked_ms: now_ms,
            by: by.to_owned(),
            done_ms: None,
            shards: String::new(),
            lost: false,
            rest: Map::new(),
        };
        let note = format!(
            "replay {} of what has numbers from {from} to {until} asked for",
            replay.id
        );
        let made = self.change_hook_book((permit, asked), id, (&note, true), |book| {
            if let Some(other) = book.under_way() {
                return (false, Err(NoReplay::UnderWay(other.id.clone())));
            }
            let recent =
                |one: &&HookReplay| now_ms.saturating_sub(one.asked_ms) < REPLAYS_WITHIN_MS;
            if book.replays.iter().filter(recent).count() >= REPLAYS_MAX {
                return (false, Err(NoReplay::TooMany));
            }
            book.replays.push(replay.clone());
            let more = book.replays.len().saturating_sub(REPLAYS_MAX);
            book.replays.drain(..more);
            (true, Ok(replay.clone()))
        });
        made.await
    }

    /// Makes a new secret, or a new pair of keys, that notifications are signed with from now on; the one before stays good
    /// for so long. Gives what the receiver is to know, which is told this once where it is a secret.
    ///
    /// # Errors
    /// As [`Vault::change_hook_book`]; inside, where as many are in force as may be, when the first of them ends (wall clock).
    pub async fn rotate_hook_key(
        &self,
        (permit, asked): (&Permit, Option<&Permit>),
        id: &str,
        (is_pair, wall_ms, overlap_ms): (bool, u64, u64),
    ) -> Result<Result<String, u64>, TrustError> {
        let (key, what) = match is_pair {
            true => (self.new_seed(), "pair of keys"),
            false => (self.new_secret(), "secret"),
        };
        let overlap_ms = overlap_ms.min(OVERLAP_MAX_MS);
        let note = format!("a new {what} signs notifications");
        let made = self.change_hook_book((permit, asked), id, (&note, false), |book| {
            let made = book.rotate(key.clone(), wall_ms, overlap_ms);
            (made.is_ok(), made)
        });
        Ok(made.await?.map(|()| key.shown()))
    }
}
