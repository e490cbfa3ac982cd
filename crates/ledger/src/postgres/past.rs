//! The feeds backwards: what was written last, of many shards at once.

use super::read::{PgSnapshot, hit, limit, shard_bound};
use super::rows::{Columns, big, bigs, bound, damaged, small, smalls, stored};
use super::server::Statement;
use crate::{Event, Kind, LedgerError, Number, Shard};

/// `number, shard, tenant, kind, version, deleted, cause`.
pub(super) fn event_of(row: &Columns<'_>) -> Result<Event, LedgerError> {
    let cause = row.get::<Option<i64>>(6)?;
    Ok(Event {
        at: hit(row)?,
        tenant: row.tenant(2)?,
        kind: Kind(row.int(3)?),
        version: row.big(4)?,
        deleted: row.get(5)?,
        cause: cause
            .map(|cause| {
                u64::try_from(cause)
                    .map(Number)
                    .map_err(|_| damaged("event"))
            })
            .transpose()?,
    })
}

/// See [`crate::backend::Snapshot::events_below`].
pub(super) fn events_below(
    snapshot: &PgSnapshot,
    shards: &[(Shard, Number)],
    since: Number,
    rows: usize,
) -> Result<Vec<Vec<Event>>, LedgerError> {
    let mut pages = vec![Vec::new(); shards.len()];
    if shards.is_empty() || stored(since.0).is_err() {
        return Ok(pages);
    }
    if shards.len() == 1 || snapshot.is_spread() {
        // A limit for each of several shards is nothing that could be spread.
        let one = |(shard, below): &(Shard, Number)| Statement {
            sql: "SELECT number, shard, tenant, kind, version, deleted, cause FROM event \
                  WHERE shard = $1 AND number < $2 AND number >= $3 ORDER BY number DESC LIMIT $4"
                .into(),
            params: vec![
                small(shard_bound(*shard)),
                big(bound(below.0)),
                big(bound(since.0)),
                limit(rows),
            ],
        };
        let answers = snapshot.queries(shards.iter().map(one).collect())?;
        let table = "event";
        return (answers.iter())
            .map(|rows| {
                let rows = rows.iter().map(|row| Columns { row, table });
                rows.map(|row| event_of(&row)).collect()
            })
            .collect();
    }
    let sql = "SELECT page.number, page.shard, page.tenant, page.kind, page.version, page.deleted, \
                   page.cause, place \
               FROM unnest($1, $2) WITH ORDINALITY AS wanted (shard, below, place) \
               CROSS JOIN LATERAL ( \
                   SELECT number, shard, tenant, kind, version, deleted, cause FROM event \
                   WHERE event.shard = wanted.shard AND number < wanted.below AND number >= $3 \
                   ORDER BY number DESC LIMIT $4) AS page";
    let params = vec![
        smalls(
            shards
                .iter()
                .map(|(shard, _)| shard_bound(*shard))
                .collect(),
        ),
        bigs(shards.iter().map(|(_, below)| bound(below.0)).collect()),
        big(bound(since.0)),
        limit(rows),
    ];
    let found = snapshot.page("event", sql, params, |row| {
        Ok((row.big::<usize>(7)?, event_of(row)?))
    })?;
    for (place, event) in found {
        let page = place.checked_sub(1).and_then(|place| pages.get_mut(place));
        page.ok_or_else(|| damaged("event"))?.push(event);
    }
    // Joining need not keep their order.
    for page in &mut pages {
        page.sort_unstable_by_key(|event: &Event| std::cmp::Reverse(event.at.number));
    }
    Ok(pages)
}
