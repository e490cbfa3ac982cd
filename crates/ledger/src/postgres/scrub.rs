//! Removing overwritten rows, and knowing that they are gone.
//!
//! A row that was overwritten stays in its page until VACUUM removes it, and VACUUM leaves what any
//! transaction, replica or replication slot may still look at without saying so. But with FREEZE it takes
//! the id of every transaction that it can out of the table, and writes down which is the oldest that may
//! be left (`relfrozenxid`). A row that was overwritten bears the id of who did that as long as it is
//! there. So when the oldest id that may be left is later than all who have overwritten something, no such
//! row is left.
//!
//! What PostgreSQL leaves of the bytes in the free space of pages, in its log and in the archives of that
//! goes when they are used again or removed; it is wrapped by a tenant's key.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::Client;

use super::connect::fault;
use super::server::Server;
use crate::LedgerError;

/// How long to wait for transactions that were under way. Those of the ledger take milliseconds.
const WAIT_FOR: Duration = Duration::from_secs(5);
const WAIT_EVERY: Duration = Duration::from_millis(50);

/// The tables that hold secrets.
const TABLES: [&str; 2] = ["key", "meta"];

/// Removes what was overwritten before now. Whether it is gone.
pub(super) fn scrub(server: &Arc<Server>) -> Result<bool, LedgerError> {
    let (work, schema) = (Arc::clone(&server.work), server.names.schema.clone());
    let is_spread = server.is_spread;
    server.wait(async move {
        let connection = work.get().await?;
        let gone = scrub_with(connection.client()?, &schema, is_spread).await?;
        connection.give_back();
        Ok(gone)
    })
}

async fn number(client: &Client, sql: &str) -> Result<i64, LedgerError> {
    let row = client.query_typed_one(sql, &[]).await;
    Ok(row.map_err(|error| fault(&error))?.get(0))
}

/// A number of each part of a spread table: of the part, or of the server that it lies on.
async fn of_parts(
    client: &Client,
    table: &str,
    sql: &str,
) -> Result<BTreeMap<i64, i64>, LedgerError> {
    let sql = format!(
        "SELECT shardid, success, result FROM run_command_on_placements('{table}', $$ {sql} $$)"
    );
    let rows = client.query_typed(&sql, &[]).await;
    let rows = rows.map_err(|error| fault(&error))?;
    let mut numbers = BTreeMap::new();
    for row in rows {
        let (part, success, result): (i64, bool, String) = (row.get(0), row.get(1), row.get(2));
        let number = result.parse().ok().filter(|_| success);
        numbers.insert(
            part,
            number.ok_or_else(|| {
                LedgerError::Storage(format!("a part of {table} can't be asked: {result}"))
            })?,
        );
    }
    Ok(numbers)
}

/// Whether one id of a transaction is not before another. A table keeps their lower half, which goes round.
fn is_as_late(kept: i64, id: i64) -> bool {
    let lower = |id: i64| u32::try_from(id & i64::from(u32::MAX)).unwrap_or(0);
    lower(kept).wrapping_sub(lower(id)) < 1 << 31
}

async fn scrub_with(client: &Client, schema: &str, is_spread: bool) -> Result<bool, LedgerError> {
    let spread = format!("{schema}.key");
    let id_there = "SELECT pg_current_xact_id()::text::bigint";
    let ids = if is_spread {
        of_parts(client, &spread, id_there).await?
    } else {
        BTreeMap::new()
    };
    // Later than the id of everybody who has overwritten something.
    let id = number(client, "SELECT pg_current_xact_id()::text::bigint").await?;
    let began = Instant::now();
    let lowest = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint";
    while number(client, lowest).await? <= id && began.elapsed() < WAIT_FOR {
        tokio::time::sleep(WAIT_EVERY).await;
    }
    for table in TABLES {
        // Each by itself: it can't be in a transaction.
        let sql = format!("VACUUM (FREEZE, INDEX_CLEANUP ON) {schema}.{table}");
        let done = client.batch_execute(&sql).await;
        done.map_err(|error| fault(&error))?;
    }
    if is_spread {
        let oldest = "SELECT relfrozenxid::text::bigint FROM pg_catalog.pg_class \
                      WHERE oid = '%s'::regclass";
        let oldest = of_parts(client, &spread, oldest).await?;
        let is_gone = |part: &i64, id: i64| {
            oldest
                .get(part)
                .is_some_and(|oldest| is_as_late(*oldest, id))
        };
        if !ids.iter().all(|(part, id)| is_gone(part, *id)) {
            return Ok(false);
        }
    }
    let here = if is_spread {
        format!("'{schema}.meta'::regclass")
    } else {
        format!("'{schema}.key'::regclass, '{schema}.meta'::regclass")
    };
    // Of what lies beside the table, because a value was long, as well.
    let gone = format!(
        "WITH scrubbed AS ( \
             SELECT oid, reltoastrelid FROM pg_catalog.pg_class WHERE oid IN ({here})) \
         SELECT bool_and(age(relfrozenxid) <= age('{id}'::xid8::xid)) FROM pg_catalog.pg_class \
         WHERE oid IN (SELECT oid FROM scrubbed UNION ALL SELECT reltoastrelid FROM scrubbed)"
    );
    let row = client.query_typed_one(&gone, &[]).await;
    Ok(row.map_err(|error| fault(&error))?.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_go_round() {
        for (kept, id, expected) in [
            (10, 10, true),
            (11, 10, true),
            (9, 10, false),
            (5, (1 << 32) + 4, true),
            (5, (1 << 32) + 6, false),
            // Just past the turn is after just before it.
            (3, (1 << 32) - 3, true),
            (4_294_967_290, (1 << 32) + 3, false),
        ] {
            assert_eq!(is_as_late(kept, id), expected, "{kept} {id}");
        }
    }
}
