//! Ids, shards and blind search tokens: keyed hashes that say "the same" and nothing else.

use crate::keys::TenantKeys;
use crate::{Entropy, Kind, Owner, Query, SHARDS, Shard, Token};

/// The cells that ranges are made of.
#[derive(Clone, Copy)]
struct Cells {
    tag: u8,
    /// The levels that are used, narrowest first.
    levels: &'static [u32],
    /// Bits of the base: a cell of a level holds that many of the level below.
    base_bits: u32,
    /// The most cells of the widest level in one range.
    widest_max: i128,
}

/// Cells of 8⁰ to 8⁵ positions. With days as positions 128 of the widest are 128 × 32,768 days, more
/// than the years 1 to 9999 that a FHIR date can name.
const FINE: Cells = Cells {
    tag: TAG_RANGE,
    levels: &[0, 1, 2, 3, 4, 5],
    base_bits: 3,
    widest_max: 128,
};
/// Cells of 16⁰ to 16³ positions: two tokens less for each value, a few more for each question.
const COARSE: Cells = Cells {
    tag: TAG_COARSE,
    levels: &[0, 1, 2, 3],
    base_bits: 4,
    widest_max: 64,
};
/// Two levels of [`COARSE`]: what has all four is found by these, too. A question takes up to 255 cells at
/// each end, and lets in up to 15 positions more.
const ROUGH: Cells = Cells {
    levels: &[1, 3],
    ..COARSE
};

const TAG_VALUE: u8 = 0;
const TAG_KIND: u8 = 1;
const TAG_RANGE: u8 = 2;
const TAG_COARSE: u8 = 3;

impl TenantKeys {
    fn hash_token(&self, tag: u8, kind: Kind, parameter: &str, value: &[u8]) -> Token {
        let mut hasher = blake3::Hasher::new_keyed(&self.token);
        hasher.update(&[tag]).update(&kind.0.to_be_bytes());
        // The length keeps ("ab", "c") and ("a", "bc") apart.
        hasher
            .update(&(parameter.len() as u64).to_be_bytes())
            .update(parameter.as_bytes())
            .update(value);
        let mut first = [0; 8];
        first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        Token(u64::from_be_bytes(first))
    }

    pub(crate) fn token(&self, kind: Kind, parameter: &str, value: &str) -> Token {
        self.hash_token(TAG_VALUE, kind, parameter, value.as_bytes())
    }

    pub(crate) fn kind_token(&self, kind: Kind) -> Token {
        self.hash_token(TAG_KIND, kind, "", &[])
    }

    fn cell_token(
        &self,
        cells: Cells,
        kind: Kind,
        parameter: &str,
        (level, cell): (u32, i128),
    ) -> Token {
        let mut value = [0; 20];
        value[..4].copy_from_slice(&level.to_be_bytes());
        value[4..].copy_from_slice(&cell.to_be_bytes());
        self.hash_token(cells.tag, kind, parameter, &value)
    }

    fn cells_of(&self, cells: Cells, kind: Kind, parameter: &str, value: i64) -> Vec<Token> {
        (cells.levels.iter())
            .map(|&level| {
                let cell = i128::from(value) >> (cells.base_bits * level);
                self.cell_token(cells, kind, parameter, (level, cell))
            })
            .collect()
    }

    fn cells_in(
        &self,
        cells: Cells,
        kind: Kind,
        parameter: &str,
        low: i64,
        high: i64,
    ) -> Option<Query> {
        let tokens = (cover(cells, low, high)?.into_iter())
            .map(|cell| Query::Token(self.cell_token(cells, kind, parameter, cell)));
        Some(Query::Or(tokens.collect()))
    }

    pub(crate) fn range_tokens(&self, kind: Kind, parameter: &str, value: i64) -> Vec<Token> {
        self.cells_of(FINE, kind, parameter, value)
    }

    pub(crate) fn range_query(
        &self,
        kind: Kind,
        parameter: &str,
        low: i64,
        high: i64,
    ) -> Option<Query> {
        self.cells_in(FINE, kind, parameter, low, high)
    }

    pub(crate) fn coarse_tokens(&self, kind: Kind, parameter: &str, value: i64) -> Vec<Token> {
        self.cells_of(COARSE, kind, parameter, value)
    }

    pub(crate) fn coarse_query(
        &self,
        kind: Kind,
        parameter: &str,
        low: i64,
        high: i64,
    ) -> Option<Query> {
        self.cells_in(COARSE, kind, parameter, low, high)
    }

    pub(crate) fn rough_tokens(&self, kind: Kind, parameter: &str, value: i64) -> Vec<Token> {
        self.cells_of(ROUGH, kind, parameter, value)
    }

    pub(crate) fn rough_query(
        &self,
        kind: Kind,
        parameter: &str,
        low: i64,
        high: i64,
    ) -> Option<Query> {
        self.cells_in(ROUGH, kind, parameter, low, high)
    }

    /// The shard of an id that is its own owner. Ids made here, and other random UUIDs, carry it in
    /// their first two digits; for any other id it is a keyed hash.
    pub(crate) fn own_shard(&self, id: &str) -> Shard {
        if let Some(first) = first_byte_of_even_uuid(id) {
            return Shard(u16::from(first) % SHARDS);
        }
        let mut hasher = blake3::Hasher::new_keyed(&self.id);
        hasher.update(b"shard").update(id.as_bytes());
        Shard(u16::from(hasher.finalize().as_bytes()[0]) % SHARDS)
    }

    pub(crate) fn shard_of(&self, owner: &Owner, id: &str) -> Shard {
        match owner {
            Owner::Patient(patient) => self.own_shard(patient),
            Owner::Tenant => self.own_shard(id),
        }
    }

    pub(crate) fn mint_id(&self, owner: &Owner, entropy: &dyn Entropy) -> String {
        let mut bytes = [0; 16];
        entropy.fill(&mut bytes);
        if let Owner::Patient(patient) = owner {
            bytes[0] = shard_byte(self.own_shard(patient));
        }
        uuid(bytes, 4)
    }

    pub(crate) fn derive_id(&self, owner: &Owner, name: &str) -> String {
        let mut hasher = blake3::Hasher::new_keyed(&self.id);
        hasher.update(b"derive").update(name.as_bytes());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        if let Owner::Patient(patient) = owner {
            bytes[0] = shard_byte(self.own_shard(patient));
        }
        uuid(bytes, 8)
    }
}

fn shard_byte(shard: Shard) -> u8 {
    // There are 256 shards, so the lower byte is the whole of it.
    shard.0.to_be_bytes()[1]
}

/// The first byte of an id in the form of a UUID whose first digits spread evenly: version 4
/// (random) or 8 (ours, derived). Those of version 7 begin with the time and would all meet in one
/// shard.
fn first_byte_of_even_uuid(id: &str) -> Option<u8> {
    let bytes = id.as_bytes();
    let is_uuid = bytes.len() == 36
        && bytes
            .iter()
            .enumerate()
            .all(|(position, byte)| match position {
                8 | 13 | 18 | 23 => *byte == b'-',
                _ => byte.is_ascii_hexdigit(),
            });
    if !is_uuid || !matches!(bytes[14], b'4' | b'8') {
        return None;
    }
    u8::from_str_radix(&id[..2], 16).ok()
}

/// RFC 9562 form.
fn uuid(mut bytes: [u8; 16], version: u8) -> String {
    bytes[6] = bytes[6] & 0x0f | version << 4;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = crate::root_key::encode_hex(&bytes);
    [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ]
    .join("-")
}

/// The fewest cells (level, cell) that cover `low..=high`, widest levels in the middle; exactly, but for
/// what the narrowest level lets in at both ends. An empty range gives no cells, too wide a one `None`.
fn cover(of: Cells, low: i64, high: i64) -> Option<Vec<(u32, i128)>> {
    if low > high {
        return Some(Vec::new());
    }
    let (mut low, mut high) = (i128::from(low), i128::from(high));
    let mut cells = Vec::new();
    let mut below = 0;
    for (&level, next) in of.levels.iter().zip(1..) {
        low >>= of.base_bits * (level - below);
        high >>= of.base_bits * (level - below);
        below = level;
        let Some(wider) = of.levels.get(next) else {
            if high - low >= of.widest_max {
                return None;
            }
            cells.extend((low..=high).map(|cell| (level, cell)));
            break;
        };
        // A cell of the next level holds so many of this one.
        let held = 1i128 << (of.base_bits * (wider - level));
        while low <= high && low.rem_euclid(held) != 0 {
            cells.push((level, low));
            low += 1;
        }
        while low <= high && high.rem_euclid(held) != held - 1 {
            cells.push((level, high));
            high -= 1;
        }
        if low > high {
            break;
        }
    }
    Some(cells)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;
    use crate::{SystemEntropy, TenantId};

    fn keys(tenant: u32) -> TenantKeys {
        TenantKeys::derive(TenantId(tenant), &[tenant as u8; 32])
    }

    fn tokens_of(query: &Query) -> HashSet<Token> {
        let Query::Or(parts) = query else {
            panic!("a range is an Or")
        };
        parts
            .iter()
            .map(|part| match part {
                Query::Token(token) => *token,
                other => panic!("a range has only tokens, not {other:?}"),
            })
            .collect()
    }

    fn hits(keys: &TenantKeys, low: i64, high: i64, value: i64) -> bool {
        let query = keys.range_query(Kind(1), "date", low, high).unwrap();
        let wanted = tokens_of(&query);
        keys.range_tokens(Kind(1), "date", value)
            .iter()
            .any(|token| wanted.contains(token))
    }

    #[test]
    fn tokens_differ_by_tenant_kind_parameter_value_and_use() {
        let (one, two) = (keys(1), keys(2));
        let tokens = [
            one.token(Kind(1), "ab", "c"),
            one.token(Kind(1), "a", "bc"),
            one.token(Kind(2), "ab", "c"),
            one.token(Kind(1), "", ""),
            one.kind_token(Kind(1)),
            one.kind_token(Kind(2)),
            two.token(Kind(1), "ab", "c"),
            two.kind_token(Kind(1)),
        ];
        assert_eq!(tokens.iter().collect::<HashSet<_>>().len(), tokens.len());
        assert_eq!(
            one.token(Kind(1), "ab", "c"),
            keys(1).token(Kind(1), "ab", "c")
        );
    }

    #[test]
    fn ranges_at_the_edges() {
        let keys = keys(1);
        for (low, high, value, expected) in [
            (0, 0, 0, true),
            (0, 0, 1, false),
            (-1, 0, -1, true),
            (-9, -9, -9, true),
            (-9, -9, -8, false),
            (1, 0, 0, false),
            (1, 0, 1, false),
            (7, 8, 7, true),
            (7, 8, 8, true),
            (7, 8, 9, false),
            (-719_162, 2_932_896, 20_000, true),
            (-719_162, 2_932_896, -719_162, true),
            (-719_162, 2_932_896, 2_932_896, true),
            (-719_162, 2_932_896, 2_932_897, false),
            (-719_162, 2_932_896, -719_163, false),
            (i64::MAX, i64::MAX, i64::MAX, true),
            (i64::MIN, i64::MIN, i64::MIN, true),
            (i64::MIN, i64::MIN, i64::MAX, false),
        ] {
            assert_eq!(
                hits(&keys, low, high, value),
                expected,
                "{value} in {low}..={high}"
            );
        }
    }

    #[test]
    fn ranges_that_say_nothing_are_none() {
        assert!(
            keys(1)
                .range_query(Kind(1), "date", i64::MIN, i64::MAX)
                .is_none()
        );
        assert!(keys(1).range_query(Kind(1), "date", 0, 1 << 30).is_none());
        assert_eq!(
            keys(1).range_query(Kind(1), "date", 5, 4),
            Some(Query::Or(Vec::new()))
        );
    }

    proptest! {
        #[test]
        fn a_cover_holds_exactly_the_range(low in -100_000i64..100_000, width in 0i64..200_000, near in -70_000i64..300_000) {
            let high = low + width;
            let cells = cover(FINE, low, high).unwrap();
            // No cell is named twice, so no position is covered twice within a level.
            prop_assert_eq!(cells.iter().collect::<HashSet<_>>().len(), cells.len());
            let value = low + near;
            let covered = cells.iter().filter(|(level, cell)| i128::from(value) >> (3 * level) == *cell).count();
            prop_assert_eq!(covered, usize::from((low..=high).contains(&value)));
            prop_assert!(cells.len() <= 14 * 5 + 128);
        }

        #[test]
        fn coarse_covers_hold_exactly_the_range(low in -131_000i64..131_000, width in 0i64..131_000, near in -70_000i64..200_000) {
            let high = low + width;
            let cells = cover(COARSE, low, high).unwrap();
            prop_assert_eq!(cells.iter().collect::<HashSet<_>>().len(), cells.len());
            let value = low + near;
            let covered = cells.iter().filter(|(level, cell)| i128::from(value) >> (4 * level) == *cell).count();
            prop_assert_eq!(covered, usize::from((low..=high).contains(&value)));
            prop_assert!(cells.len() <= 30 * 3 + 64);
            let keys = keys(1);
            let wanted = tokens_of(&keys.coarse_query(Kind(1), "value", low, high).unwrap());
            let found = keys.coarse_tokens(Kind(1), "value", value);
            prop_assert_eq!(found.len(), 4);
            prop_assert_eq!(found.iter().any(|token| wanted.contains(token)), (low..=high).contains(&value));
        }

        #[test]
        fn rough_ranges_hold_what_they_should(low in -90_112i64..90_112, width in -3i64..180_000, near in -70_000i64..200_000) {
            let high = (low + width).min(90_111);
            let value = low + near;
            let keys = keys(1);
            let query = keys.rough_query(Kind(1), "value", low, high).unwrap();
            let wanted = tokens_of(&query);
            prop_assert!(wanted.len() <= 2 * 255 + 44);
            let found = keys.rough_tokens(Kind(1), "value", value);
            prop_assert_eq!(found.len(), 2);
            let within = low <= high && (low >> 4..=high >> 4).contains(&(value >> 4));
            prop_assert_eq!(found.iter().any(|token| wanted.contains(token)), within);
            // What has the other levels has these.
            let coarse = keys.coarse_tokens(Kind(1), "value", value);
            prop_assert!(found.iter().all(|token| coarse.contains(token)));
        }

        #[test]
        fn range_tokens_are_found_by_their_ranges(low in any::<i64>(), width in 0i64..4_000_000, at in 0i64..8_000_000) {
            let high = low.saturating_add(width);
            let value = low.saturating_add(at).saturating_sub(2_000_000);
            prop_assert_eq!(hits(&keys(1), low, high, value), (low..=high).contains(&value));
        }
    }

    #[test]
    fn ids_carry_their_shard() {
        let keys = keys(1);
        let patient = keys.mint_id(&Owner::Tenant, &SystemEntropy);
        let owner = Owner::Patient(patient.clone());
        let shard = keys.shard_of(&owner, "whatever");
        assert_eq!(keys.shard_of(&Owner::Tenant, &patient), shard);
        for id in [
            patient.clone(),
            keys.mint_id(&owner, &SystemEntropy),
            keys.derive_id(&owner, "bundle/3"),
        ] {
            assert_eq!(id.len(), 36);
            assert_eq!(u16::from_str_radix(&id[..2], 16).unwrap(), shard.0);
            assert_eq!(keys.shard_of(&Owner::Tenant, &id), shard);
        }
        assert_eq!(keys.derive_id(&owner, "a"), keys.derive_id(&owner, "a"));
        assert_ne!(keys.derive_id(&owner, "a"), keys.derive_id(&owner, "b"));
        assert_ne!(
            keys.derive_id(&owner, "a")[2..],
            super::tests::keys(2).derive_id(&owner, "a")[2..]
        );
    }

    #[test]
    fn ids_that_are_no_even_uuid_spread_by_hash() {
        let keys = keys(1);
        let shards: HashSet<_> = (0..1000)
            .map(|number| keys.shard_of(&Owner::Tenant, &format!("example-{number}")))
            .collect();
        assert!(shards.len() > 200, "{}", shards.len());
        // Version 7 begins with the time.
        let shards: HashSet<_> = (0..1000)
            .map(|number| {
                keys.shard_of(
                    &Owner::Tenant,
                    &format!("01890a5d-ac96-774b-bcce-{number:012x}"),
                )
            })
            .collect();
        assert!(shards.len() > 200, "{}", shards.len());
    }
}
