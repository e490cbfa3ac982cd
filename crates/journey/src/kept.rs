//! The counts of each shard, kept in the store with the place in its feed up to which they reach.
//!
//! Without them whoever opens the books would have to read every journey that there ever was. With them
//! it reads one document a shard, and from the feed what came after. They are derived: one that is
//! missing, of another format, or from a time after the store's own (a backup was restored), is made anew
//! from the instances themselves.

use crate::books::all_internals;
use crate::counts::VersionCounts;
use crate::mover::MoveError;
use ledger::{Expected, Kind, Ledger, Number, Owner, SHARDS, Shard, TenantId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use trust::{Internal, Permit, Vault};

/// Kind of the documents.
pub(crate) const KEPT_COUNTS: Kind = Kind(1052);
/// What is counted, and how it is written. Kept counts of another format are made anew.
pub(crate) const FORMAT: u32 = 2;
/// After so many moves in a shard its counts are kept: reading them from the feed takes about 6 ms.
pub(crate) const MOVES: u32 = 128;
/// With fewer moves, but any, after so many events, which is about as long.
pub(crate) const EVENTS: u32 = 2048;
/// Without any move after so many: where nobody moves, counting everybody is seldom long.
pub(crate) const EVENTS_OF_OTHERS: u32 = 8 * EVENTS;
/// Which shards these are is looked at after so many events of all of them: four a shard.
pub(crate) const LOOK: u32 = 1024;
/// With fewer journeys than this counting them all takes a fifth of a second, and nothing is kept.
pub(crate) const FEW: u64 = 10_000;
/// Events that can be read in the time in which one journey is counted.
const EVENTS_A_JOURNEY: u64 = 10;

/// The counts of one shard.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    format: u32,
    shard: u16,
    /// The number of the last event that is in them.
    pub(crate) to: u64,
    versions: Vec<Version>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Version {
    journey: String,
    version: u32,
    counts: VersionCounts,
}

impl Kept {
    pub(crate) fn new(
        shard: Shard,
        to: Number,
        versions: &BTreeMap<(String, u32), VersionCounts>,
    ) -> Self {
        let versions = versions.iter().map(|((journey, version), counts)| Version {
            journey: journey.clone(),
            version: *version,
            counts: counts.clone(),
        });
        Self {
            format: FORMAT,
            shard: shard.0,
            to: to.0,
            versions: versions.collect(),
        }
    }

    pub(crate) fn shard(&self) -> Shard {
        Shard(self.shard)
    }

    /// How many journeys are counted.
    pub(crate) fn journeys(&self) -> u64 {
        let counts = self.versions.iter().map(|version| &version.counts);
        counts.map(|counts| counts.running() + counts.ended()).sum()
    }

    pub(crate) fn versions(self) -> BTreeMap<(String, u32), VersionCounts> {
        let versions = self.versions.into_iter();
        versions
            .map(|kept| ((kept.journey, kept.version), kept.counts))
            .collect()
    }

    /// The document, after the version that is there.
    pub(crate) fn document(&self, ledger: &Ledger, tenant: TenantId, at: Option<u32>) -> Internal {
        Internal {
            kind: KEPT_COUNTS,
            id: id(ledger, tenant, self.shard()),
            owner: Owner::Tenant,
            expected: at.map_or(Expected::Absent, Expected::Version),
            // Strings and numbers can't fail to serialise.
            body: serde_json::to_vec(self).unwrap_or_default(),
            deleted: false,
            tokens: Vec::new(),
        }
    }
}

/// How many events after the kept counts may be read for a shard, with so many journeys counted in all:
/// where there are more, counting everybody anew is faster.
pub(crate) fn worth_reading(journeys: u64) -> usize {
    let events = journeys * EVENTS_A_JOURNEY / u64::from(SHARDS);
    usize::try_from(events)
        .unwrap_or(usize::MAX)
        .max(EVENTS as usize)
}

/// The id of a shard's counts.
pub(crate) fn id(ledger: &Ledger, tenant: TenantId, shard: Shard) -> String {
    ledger.derive_id(tenant, &Owner::Tenant, &format!("counts/{}", shard.0))
}

/// Everything that is kept, by shard, with the versions of the documents. What can't be read here is kept
/// for a program that can, until this one has counted anew.
pub(crate) async fn read(
    vault: &Vault,
    permit: &Permit,
) -> Result<HashMap<u16, (Option<Kept>, u32)>, MoveError> {
    let ledger = vault.ledger();
    let shards: HashMap<String, u16> = (0..SHARDS)
        .map(|shard| (id(ledger, permit.tenant(), Shard(shard)), shard))
        .collect();
    let mut kept = HashMap::new();
    for stored in all_internals(vault, permit, KEPT_COUNTS, &[]).await? {
        let Some(shard) = shards.get(&stored.id) else {
            continue;
        };
        let counts: Option<Kept> = serde_json::from_slice(&stored.body)
            .ok()
            .filter(|kept: &Kept| kept.format == FORMAT && kept.shard == *shard);
        kept.insert(*shard, (counts, stored.version));
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_as_they_were_kept() {
        let mut counts = VersionCounts::default();
        counts.sample();
        let versions = BTreeMap::from([(("hip".to_owned(), 3), counts)]);
        let kept = Kept::new(Shard(7), Number(41), &versions);
        let body = serde_json::to_vec(&kept).unwrap();
        let read: Kept = serde_json::from_slice(&body).unwrap();
        assert_eq!(read, kept);
        assert_eq!(read.versions(), versions);
    }
}
