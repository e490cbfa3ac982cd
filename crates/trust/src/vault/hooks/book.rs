//! What the documents of a subscription's notifications hold, and how they change: pure, and without the store.

use ledger::Shard;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::SubscribedKept;
use crate::webhooks::SigningKey;

/// Deliveries that are kept of a subscription for what is written in one shard: 6144 of all.
pub const LOGGED_OF_SHARD: usize = 24;
/// Answers that are kept of a delivery, the newest.
const ANSWERS_MAX: usize = 5;
/// Secrets, and private keys, that sign at once: the newest, and those before it whose time isn't over.
pub const IN_FORCE_MAX: usize = 5;
pub(super) const SHARD_BITS: usize = ledger::SHARDS as usize;

/// A key that notifications are signed with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookKey {
    /// The key.
    pub key: SigningKey,
    /// Since when it signs, milliseconds since the epoch (wall clock).
    pub since_ms: u64,
    /// Until when, where another has taken its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
}

/// The first of the deliveries that failed in a row last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookFailure {
    /// The number of what it told of.
    pub number: u64,
    /// When it failed, milliseconds since the epoch (care clock).
    pub at_ms: u64,
}

/// What is sent again: everything that matches and was written from one number to another, both among them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookReplay {
    /// What the notifications are marked with.
    pub id: String,
    /// The first number.
    pub from: u64,
    /// The last.
    pub until: u64,
    /// When it was asked for, milliseconds since the epoch (care clock).
    pub asked_ms: u64,
    /// Who asked, as the audit names them.
    pub by: String,
    /// When all of it had been put on its way (care clock).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done_ms: Option<u64>,
    /// Shards of which all has been put on its way, one hexadecimal digit for four.
    #[serde(default)]
    pub shards: String,
    /// Whether some of it was taken out again before it was sent, because the subscription went off meanwhile: it covers
    /// nothing of what was missed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lost: bool,
    /// What a newer program keeps beside.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl HookReplay {
    /// Whether some of it has still to be put on its way.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        self.done_ms.is_none()
    }

    /// Notes that all of these shards has been put on its way; says whether that was news. Done where it is all of them.
    pub fn done(&mut self, shards: impl IntoIterator<Item = Shard>, now_ms: u64) -> bool {
        let mut bits = [false; SHARD_BITS];
        let digit = |text: &str, place: usize| {
            let digit = text.as_bytes().get(place / 4).copied().map(char::from);
            digit.and_then(|digit| digit.to_digit(16)).unwrap_or(0) >> (place % 4) & 1 == 1
        };
        for (place, bit) in bits.iter_mut().enumerate() {
            *bit = digit(&self.shards, place);
        }
        let before = bits;
        for shard in shards {
            if let Some(bit) = bits.get_mut(usize::from(shard.0)) {
                *bit = true;
            }
        }
        let value = |four: &[bool]| {
            let set = four.iter().enumerate().filter(|(_, bit)| **bit);
            char::from_digit(set.map(|(place, _)| 1_u32 << place).sum(), 16).unwrap_or('0')
        };
        self.shards = bits.chunks(4).map(value).collect();
        if bits.iter().all(|bit| *bit) {
            self.done_ms = Some(now_ms);
        }
        bits != before
    }
}

/// What is kept of a subscription for its notifications.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookBook {
    /// How often a subscription of this id was deleted: what is kept of one before is not this one's.
    #[serde(default)]
    pub turn: u32,
    /// Secrets that notifications are signed with, the newest first.
    #[serde(default)]
    pub secrets: Vec<HookKey>,
    /// Private keys, likewise.
    #[serde(default)]
    pub keys: Vec<HookKey>,
    /// The least number of what was not told because the subscription went off; none where nothing was missed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed_from: Option<u64>,
    /// The first of the deliveries that failed in a row last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<HookFailure>,
    /// What was asked to be sent again, the oldest first.
    #[serde(default)]
    pub replays: Vec<HookReplay>,
    /// What a newer program keeps beside.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl HookBook {
    /// The keys that sign now.
    pub fn signing(&self, wall_ms: u64) -> impl Iterator<Item = &SigningKey> {
        let all = self.secrets.iter().chain(&self.keys);
        let in_force = move |one: &&HookKey| one.until_ms.is_none_or(|until_ms| until_ms > wall_ms);
        all.filter(in_force).map(|one| &one.key)
    }

    /// What is left of it when its subscription is deleted: nothing but that.
    #[must_use]
    pub fn deleted(&self) -> Self {
        Self {
            turn: self.turn.saturating_add(1),
            ..Self::default()
        }
    }

    /// Puts a key before the others of its sort; the one that was newest stays good for so long, and those before it as
    /// long as was said. Without such a time all others end at once: one of them may have been lost to somebody.
    ///
    /// # Errors
    /// Where [`IN_FORCE_MAX`] are in force: when the first of them ends (wall clock). Nothing is changed then.
    pub fn rotate(&mut self, key: SigningKey, wall_ms: u64, overlap_ms: u64) -> Result<(), u64> {
        let list = match key {
            SigningKey::Secret(_) => &mut self.secrets,
            SigningKey::Seed(_) | SigningKey::Other(_) => &mut self.keys,
        };
        let mut earlier = std::mem::take(list);
        if overlap_ms == 0 {
            earlier.clear();
        }
        earlier.retain(|one| one.until_ms.is_none_or(|until_ms| until_ms > wall_ms));
        if earlier.len() >= IN_FORCE_MAX {
            let ends = earlier.iter().filter_map(|one| one.until_ms).min();
            *list = earlier;
            return Err(ends.unwrap_or(wall_ms));
        }
        if let Some(newest) = earlier.first_mut() {
            newest.until_ms = Some(wall_ms.saturating_add(overlap_ms));
        }
        let newest = HookKey {
            key,
            since_ms: wall_ms,
            until_ms: None,
        };
        *list = std::iter::once(newest).chain(earlier).collect();
        Ok(())
    }

    /// Notes that something of this number was not told; says whether that was news. A replay that it may have been part of
    /// covers nothing of what was missed any more.
    pub fn miss(&mut self, number: u64) -> bool {
        let mut is_news = self.missed_from.is_none_or(|from| number < from);
        if is_news {
            self.missed_from = Some(number);
        }
        let under_way = self.replays.iter_mut().filter(|one| one.is_under_way());
        for one in under_way.filter(|one| (one.from..=one.until).contains(&number)) {
            is_news |= !one.lost;
            one.lost = true;
        }
        is_news
    }

    /// Notes that all of these shards was put on its way for a replay; says whether that was news. Where that is all, it is
    /// over, and what was missed is missed no more as far as it went. `end` is the last number of what was missed.
    pub fn put_on_its_way(
        &mut self,
        replay: &str,
        shards: impl IntoIterator<Item = Shard>,
        (now_ms, end): (u64, u64),
    ) -> bool {
        let mut under_way = self.replays.iter_mut().filter(|one| one.is_under_way());
        let Some(one) = under_way.find(|one| one.id == replay) else {
            return false;
        };
        let is_news = one.done(shards, now_ms);
        if one.is_under_way() || one.lost {
            return is_news;
        }
        let covered = (one.from..=one.until).contains(&self.missed_from.unwrap_or(u64::MAX));
        if covered {
            let next = one.until.saturating_add(1);
            self.missed_from = (one.until < end).then_some(next);
        }
        is_news
    }

    /// What is put on its way again, if something is.
    #[must_use]
    pub fn under_way(&self) -> Option<&HookReplay> {
        self.replays.iter().find(|replay| replay.is_under_way())
    }

    /// The range that was missed of a subscription, by numbers: while it is off there is no end to it. `apart_ms` is how far
    /// clocks of those who write may be apart ([`Vault::apart_ms`]).
    #[must_use]
    pub fn missed(&self, kept: &SubscribedKept, apart_ms: u64) -> Option<(u64, Option<u64>)> {
        if kept.subscribed.is_live() {
            let end = kept.missed_end(apart_ms);
            return self.missed_from.map(|from| (from, Some(end)));
        }
        let from = self.missed_from.unwrap_or(kept.number.0);
        Some((from.min(kept.number.0), None))
    }
}

/// How a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HookOutcome {
    /// The receiver took it.
    Taken,
    /// It did not, and is asked again.
    Failed,
    /// It was decided against when it was to go out again.
    Withheld,
    /// The subscription went off before.
    Missed,
    /// Something that a newer program knows of.
    #[serde(other)]
    Other,
}

impl HookOutcome {
    /// Its code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Failed => "failed",
            Self::Withheld => "withheld",
            Self::Missed => "missed",
            Self::Other => "other",
        }
    }
}

/// One delivery: everything that was sent under one id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookDelivery {
    /// Its id: `webhook-id`.
    pub id: String,
    /// The number of what it tells of; none of one that an earlier program put on its way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    /// The type of the resource.
    pub kind: String,
    /// The id of the resource.
    pub resource: String,
    /// When it was tried first and last, milliseconds since the epoch (care clock).
    pub first_ms: u64,
    /// See `first_ms`.
    pub last_ms: u64,
    /// How often it was tried.
    pub attempts: u32,
    /// How often it was put on its way again.
    #[serde(default)]
    pub replays: u32,
    /// What came of the newest attempts: a status of HTTP, or `unreachable`, `silent`, `broken`.
    pub answers: Vec<String>,
    /// How it stands.
    pub outcome: HookOutcome,
    /// Whether the receiver may have it.
    pub handed: bool,
    /// The last replay that it was part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<String>,
}

impl HookDelivery {
    /// Whether who asked for the subscription is told of it: what was never handed over and was decided against is nothing
    /// that they know of.
    #[must_use]
    pub fn is_owners(&self) -> bool {
        self.handed || self.outcome != HookOutcome::Withheld
    }
}

/// What became of one attempt.
#[derive(Debug, Clone)]
pub struct HookAttempt<'a> {
    /// Its id.
    pub id: &'a str,
    /// The number of what it tells of.
    pub number: Option<u64>,
    /// Type and id of the resource.
    pub resource: (&'a str, &'a str),
    /// The replay that it is part of.
    pub replay: Option<&'a str>,
    /// What came of it, as [`HookDelivery::answers`] has it; none where nobody was asked.
    pub answer: Option<&'a str>,
    /// How it stands now.
    pub outcome: HookOutcome,
    /// Whether the receiver may have it.
    pub handed: bool,
    /// Now (care clock).
    pub at_ms: u64,
}

/// What became of the newest notifications of a subscription for what is written in one shard.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookLog {
    /// The subscription.
    pub of: String,
    /// See [`HookBook::turn`].
    #[serde(default)]
    pub turn: u32,
    /// How many were taken in all; one that was sent again counts once more.
    #[serde(default)]
    pub taken: u64,
    /// The newest deliveries, in the order in which they were tried last.
    #[serde(default)]
    pub newest: Vec<HookDelivery>,
}

impl HookLog {
    /// Notes an attempt. One that nobody was asked for makes no delivery, and changes one that is there.
    pub fn note(&mut self, attempt: &HookAttempt<'_>) {
        let place = self.newest.iter().position(|one| one.id == attempt.id);
        let mut one = match place {
            Some(place) => self.newest.remove(place),
            None if attempt.answer.is_none() => return,
            None => HookDelivery {
                id: attempt.id.to_owned(),
                number: attempt.number,
                kind: attempt.resource.0.to_owned(),
                resource: attempt.resource.1.to_owned(),
                first_ms: attempt.at_ms,
                last_ms: attempt.at_ms,
                attempts: 0,
                replays: 0,
                answers: Vec::new(),
                outcome: attempt.outcome,
                handed: false,
                replay: None,
            },
        };
        if let Some(answer) = attempt.answer {
            one.attempts = one.attempts.saturating_add(1);
            one.last_ms = attempt.at_ms;
            one.answers.push(answer.to_owned());
            if one.answers.len() > ANSWERS_MAX {
                one.answers.remove(0);
            }
        }
        if attempt.replay.is_some() && one.replay.as_deref() != attempt.replay {
            one.replays = one.replays.saturating_add(1);
            one.replay = attempt.replay.map(str::to_owned);
        }
        one.outcome = attempt.outcome;
        one.handed |= attempt.handed;
        if attempt.outcome == HookOutcome::Taken {
            self.taken = self.taken.saturating_add(1);
        }
        self.newest.push(one);
        if self.newest.len() > LOGGED_OF_SHARD {
            self.newest.remove(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const HOUR_MS: u64 = 3_600_000;

    fn replay(from: u64, until: u64) -> HookReplay {
        HookReplay {
            id: format!("{from}-{until}"),
            from,
            until,
            asked_ms: 0,
            by: "a test".to_owned(),
            done_ms: None,
            shards: String::new(),
            lost: false,
            rest: Map::new(),
        }
    }

    fn all() -> impl Iterator<Item = Shard> {
        (0..ledger::SHARDS).map(Shard)
    }

    #[test]
    fn a_secret_stays_as_long_as_was_said_whatever_comes_after_it() {
        let secret = |byte| SigningKey::secret(&[byte; 32]);
        let mut book = HookBook::default();
        let in_force = |book: &HookBook, now_ms| {
            let keys: Vec<SigningKey> = book.signing(now_ms).cloned().collect();
            keys
        };
        for (byte, now_ms) in [(1, 0), (2, 10), (3, 20), (4, 30), (5, 40)] {
            assert_eq!(book.rotate(secret(byte), now_ms, HOUR_MS), Ok(()));
        }
        assert_eq!(in_force(&book, 40), [5, 4, 3, 2, 1].map(secret));
        // As many as may be are in force: until the first of them ends there is no other.
        let before = book.clone();
        assert_eq!(book.rotate(secret(6), 50, HOUR_MS), Err(10 + HOUR_MS));
        assert_eq!(book, before);
        assert_eq!(in_force(&book, 10 + HOUR_MS), [5, 4, 3, 2].map(secret));
        assert_eq!(book.rotate(secret(6), 10 + HOUR_MS, HOUR_MS), Ok(()));
        // What was lost to somebody signs no more, whichever it was.
        assert_eq!(book.rotate(secret(7), 10 + HOUR_MS, 0), Ok(()));
        assert_eq!(in_force(&book, 10 + HOUR_MS), [secret(7)]);
        // Pairs of keys are apart from that.
        assert_eq!(book.rotate(SigningKey::seed([1; 32]), 0, HOUR_MS), Ok(()));
        assert_eq!((book.secrets.len(), book.keys.len()), (1, 1));
    }

    #[test]
    fn a_replay_covers_what_was_missed_unless_some_of_it_was_lost() {
        for (lost, left) in [(None, Some(21)), (Some(12), Some(10)), (Some(30), Some(21))] {
            let mut book = HookBook::default();
            assert!(book.miss(10));
            assert!(!book.miss(11));
            book.replays.push(replay(10, 20));
            // Off again meanwhile: what waited is taken out.
            if let Some(number) = lost {
                assert_eq!(book.miss(number), number <= 20, "{number}");
                assert!(!book.miss(number), "it is no news twice");
            }
            assert!(book.put_on_its_way("10-20", [Shard(0)], (1, 100)));
            assert_eq!(book.missed_from, Some(10));
            assert!(book.put_on_its_way("10-20", all(), (2, 100)));
            assert_eq!(book.replays[0].done_ms, Some(2));
            assert_eq!(book.missed_from, left, "{lost:?}");
            assert!(!book.put_on_its_way("10-20", all(), (3, 100)));
        }
        // As far as it was missed at all.
        let mut book = HookBook::default();
        book.miss(10);
        book.replays.push(replay(5, 20));
        assert!(book.put_on_its_way("5-20", all(), (1, 20)));
        assert_eq!(book.missed_from, None);
    }

    #[test]
    fn what_a_newer_program_keeps_stays_where_an_older_one_writes() {
        let newer = json!({
            "turn": 3, "sort": "new",
            "secrets": [{"key": {"secret": "AQEB"}, "since_ms": 1}],
            "keys": [{"key": {"curve": "Ag=="}, "since_ms": 2}, {"key": {"seed": "AwMD"}, "since_ms": 1, "until_ms": 9}],
            "replays": [{
                "id": "r", "from": 1, "until": 2, "asked_ms": 3, "by": "x", "shards": "0", "speed": 7
            }]
        });
        let mut book: HookBook = serde_json::from_value(newer.clone()).expect("it is read");
        assert_eq!(book.signing(10).count(), 2);
        assert_eq!(
            crate::webhooks::signatures(&[book.keys[0].key.clone()], ("i", 1), b""),
            ""
        );
        book.miss(7);
        let mut wanted = newer;
        wanted["missed_from"] = json!(7);
        assert_eq!(serde_json::to_value(&book).expect("written"), wanted);
    }
}
