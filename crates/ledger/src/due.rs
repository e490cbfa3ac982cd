//! Tables ordered by due time, of which somebody looks for what is theirs: timers and the outbox.
//!
//! All tenants' rows lie in one order. So that nobody's look goes through what others have waiting, again and
//! again, each remembers from where on something of theirs may be: [`Floors`].

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::{LedgerError, OutboxKey, SHARDS, Shard, TenantId, TimerKey};

/// Rows of one page of timers or outbox entries.
pub(crate) const PAGE: usize = 256;

/// Due time, shard and id: the key of a table ordered by due time.
pub(crate) type Due = (u64, Shard, [u8; 16]);

impl TimerKey {
    pub(crate) fn due(&self) -> Due {
        (self.due_ms, self.shard, self.id)
    }
}

impl OutboxKey {
    pub(crate) fn due(&self) -> Due {
        (self.due_ms, self.shard, self.id)
    }
}

/// The key right behind one of a table ordered by due time, shard and id.
pub(crate) fn following(due_ms: u64, shard: Shard, id: [u8; 16]) -> Option<Due> {
    if let Some(next) = u128::from_be_bytes(id).checked_add(1) {
        return Some((due_ms, shard, next.to_be_bytes()));
    }
    if shard.0 + 1 < SHARDS {
        return Some((due_ms, Shard(shard.0 + 1), [0; 16]));
    }
    Some((due_ms.checked_add(1)?, Shard(0), [0; 16]))
}

/// Whose rows are looked for.
#[derive(Debug, Default)]
pub(crate) struct Whose {
    /// Of this tenant; of all where there is none.
    pub(crate) tenant: Option<TenantId>,
    /// Of these consumers (of timers) or channels (of the outbox); of all where there is none.
    pub(crate) numbers: Vec<u16>,
    /// On these shards; on all where it isn't said.
    pub(crate) shards: Option<Vec<Shard>>,
}

impl Whose {
    pub(crate) fn has(&self, tenant: TenantId, number: u16, shard: Shard) -> bool {
        self.tenant.is_none_or(|of| of == tenant)
            && (self.numbers.is_empty() || self.numbers.contains(&number))
            && (self.shards.as_ref()).is_none_or(|shards| shards.binary_search(&shard).is_ok())
    }

    /// The looks that this one is made of: a tenant, or all, and a number, or all.
    fn looks(&self) -> impl Iterator<Item = Look> + '_ {
        let all = self.numbers.is_empty().then_some((self.tenant, None));
        let each = (self.numbers.iter()).map(|number| (self.tenant, Some(*number)));
        all.into_iter().chain(each)
    }
}

/// Up to `limit` rows from a key on for which something holds, out of pages of all.
pub(crate) fn sift<T>(
    from: Due,
    limit: usize,
    page: impl Fn(Due, usize) -> Result<Vec<(Due, T)>, LedgerError>,
    holds: impl Fn(&T) -> bool,
) -> Result<Vec<T>, LedgerError> {
    let mut found = Vec::new();
    // The first one that is there is often the one that is looked for.
    let (mut from, mut rows) = (Some(from), limit.min(PAGE));
    while let (Some(at), true) = (from, found.len() < limit) {
        let read = page(at, rows)?;
        let last = read.last().filter(|_| read.len() == rows);
        from = last.and_then(|((due_ms, shard, id), _)| following(*due_ms, *shard, *id));
        found.extend(read.into_iter().map(|(_, row)| row).filter(&holds));
        rows = PAGE;
    }
    found.truncate(limit);
    Ok(found)
}

/// A tenant, or all, and a consumer or channel, or all.
type Look = (Option<TenantId>, Option<u16>);

/// From where on something of a look may be, and how often something of it was set.
#[derive(Debug, Clone, Copy, Default)]
struct Floor {
    due_ms: u64,
    mark: u64,
}

/// Nothing of a look in a table ordered by due time is earlier than its floor. Handled rows leave tombstones
/// behind until compaction takes them, and others' rows lie between; a look for what is due begins above both.
/// Where other processes may set something earlier, the floors stay at zero.
pub(crate) struct Floors {
    floors: Mutex<HashMap<Look, Floor>>,
    rises: bool,
}

/// What was known when a look began.
pub(crate) struct Mark(Vec<(Look, u64)>);

impl Floors {
    pub(crate) fn new(rises: bool) -> Self {
        Self {
            floors: Mutex::default(),
            rises,
        }
    }

    /// From where on to look, and a mark of when it was asked for.
    pub(crate) fn read(&self, whose: &Whose) -> (u64, Mark) {
        if !self.rises {
            return (0, Mark(Vec::new()));
        }
        let floors = self.floors.lock().unwrap_or_else(PoisonError::into_inner);
        let floor = |look| floors.get(&look).copied().unwrap_or_default();
        let looks: Vec<(Look, Floor)> = whose.looks().map(|look| (look, floor(look))).collect();
        // What is nobody's before a time is not theirs either.
        let wider = floor((None, None))
            .due_ms
            .max(floor((whose.tenant, None)).due_ms);
        let least = looks.iter().map(|(_, floor)| floor.due_ms).min();
        let marks = looks.into_iter().map(|(look, floor)| (look, floor.mark));
        (least.unwrap_or_default().max(wider), Mark(marks.collect()))
    }

    /// A look that began at a mark found nothing earlier than `due_ms`. Something set since then may have been
    /// missed, so then the floor stays.
    pub(crate) fn raise(&self, mark: Mark, due_ms: u64) {
        let mut floors = self.floors.lock().unwrap_or_else(PoisonError::into_inner);
        for (look, mark) in mark.0 {
            let floor = floors.entry(look).or_default();
            if floor.mark == mark {
                floor.due_ms = floor.due_ms.max(due_ms);
            }
        }
    }

    /// Something has been set of a tenant and a consumer or channel.
    pub(crate) fn lower(&self, set: &Earliest) {
        if !self.rises || set.0.is_empty() {
            return;
        }
        let mut floors = self.floors.lock().unwrap_or_else(PoisonError::into_inner);
        for ((tenant, number), due_ms) in &set.0 {
            for look in [
                (None, None),
                (Some(*tenant), None),
                (None, Some(*number)),
                (Some(*tenant), Some(*number)),
            ] {
                let floor = floors.entry(look).or_default();
                floor.due_ms = floor.due_ms.min(*due_ms);
                floor.mark += 1;
            }
        }
    }
}

/// When the earliest is due of what was set, of each tenant and consumer or channel.
#[derive(Debug, Default)]
pub(crate) struct Earliest(HashMap<(TenantId, u16), u64>);

impl Earliest {
    pub(crate) fn add(&mut self, tenant: TenantId, number: u16, due_ms: u64) {
        let earliest = self.0.entry((tenant, number)).or_insert(due_ms);
        *earliest = due_ms.min(*earliest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(tenant: u32, numbers: &[u16]) -> Whose {
        Whose {
            tenant: Some(TenantId(tenant)),
            numbers: numbers.to_vec(),
            shards: None,
        }
    }

    fn set(floors: &Floors, tenant: u32, number: u16, due_ms: u64) {
        let mut earliest = Earliest::default();
        earliest.add(TenantId(tenant), number, due_ms + 5);
        earliest.add(TenantId(tenant), number, due_ms);
        floors.lower(&earliest);
    }

    #[test]
    fn a_floor_is_of_its_look() {
        let floors = Floors::new(true);
        let (from, mark) = floors.read(&of(1, &[4]));
        assert_eq!(from, 0);
        floors.raise(mark, 100);
        assert_eq!(floors.read(&of(1, &[4])).0, 100);
        assert_eq!(floors.read(&of(1, &[5])).0, 0);
        assert_eq!(
            floors.read(&of(1, &[4, 5])).0,
            0,
            "the other may be earlier"
        );
        assert_eq!(floors.read(&of(2, &[4])).0, 0);
        assert_eq!(floors.read(&of(1, &[])).0, 0);
        // What others set is nothing to it; what is its own is.
        set(&floors, 2, 4, 10);
        set(&floors, 1, 5, 10);
        assert_eq!(floors.read(&of(1, &[4])).0, 100);
        set(&floors, 1, 4, 30);
        assert_eq!(floors.read(&of(1, &[4])).0, 30);
    }

    #[test]
    fn what_is_set_during_a_look_is_not_passed_over() {
        let floors = Floors::new(true);
        for whose in [of(1, &[4]), of(1, &[]), Whose::default()] {
            let (_, mark) = floors.read(&whose);
            set(&floors, 1, 4, 30);
            floors.raise(mark, 100);
            assert!(floors.read(&whose).0 <= 30);
        }
    }

    #[test]
    fn what_is_nobodys_is_no_tenants() {
        let floors = Floors::new(true);
        let (_, mark) = floors.read(&Whose::default());
        floors.raise(mark, 70);
        assert_eq!(floors.read(&of(3, &[1])).0, 70);
        let (_, mark) = floors.read(&of(3, &[]));
        floors.raise(mark, 90);
        assert_eq!(floors.read(&of(3, &[1, 2])).0, 90);
        assert_eq!(floors.read(&of(4, &[1])).0, 70);
    }

    #[test]
    fn where_others_set_too_nothing_rises() {
        let floors = Floors::new(false);
        let (_, mark) = floors.read(&of(1, &[4]));
        floors.raise(mark, 100);
        assert_eq!(floors.read(&of(1, &[4])).0, 0);
    }

    #[test]
    fn rows_are_sifted_over_pages() {
        let rows: Vec<(Due, u32)> = (0..1000)
            .map(|n| ((u64::from(n), Shard(0), [0; 16]), n))
            .collect();
        let page = |from: Due, limit: usize| {
            let rest = rows.iter().filter(|(due, _)| *due >= from);
            Ok(rest.take(limit).copied().collect())
        };
        let sevens = |limit| sift(rows[1].0, limit, page, |n| n % 7 == 0).unwrap();
        assert_eq!(sevens(3), [7, 14, 21]);
        assert_eq!(sevens(1000).len(), 142);
        assert!(sevens(0).is_empty());
        assert_eq!(sift(rows[0].0, 1, page, |n| *n == 999).unwrap(), [999]);
    }
}
