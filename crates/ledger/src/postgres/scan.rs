//! Going through whole tables, page by page in the order of their keys.

use super::many::subject_of;
use super::read::{PgSnapshot, head_of, hit_of, key_of};
use super::rows::{self, Columns, Param, Sixteen, big, boolean, int, small, stored, text, uuid};
use crate::backend::{HeadKey, Home, Table, Write};
use crate::{Hit, LedgerError, Token};

/// Rows of a table behind the one that `after` makes; see [`crate::backend::Snapshot::scan`].
pub(super) fn scan(
    snapshot: &PgSnapshot,
    table: Table,
    after: Option<&Write>,
    limit: Param,
) -> Result<Vec<Write>, LedgerError> {
    // The server knows the values when it plans, so that `$1 OR` costs nothing.
    let is_first = boolean(after.is_none());
    let start = Hit {
        number: crate::Number(0),
        shard: crate::Shard(0),
    };
    let odd = || LedgerError::Storage("a table is gone on with behind another's row".into());
    match table {
        Table::Head => {
            let key = match after {
                Some(Write::Head(key, _)) => *key,
                None => nobody(),
                _ => return Err(odd()),
            };
            let sql = "SELECT tenant, id, shard, number, at_shard, version, deleted, audit FROM head \
                       WHERE $1 OR (tenant, id) > ($2, $3) ORDER BY tenant, id LIMIT $4";
            let params = vec![
                is_first,
                int(rows::tenant(key.tenant)?),
                uuid(Sixteen(key.id)),
                limit,
            ];
            snapshot.page("head", sql, params, |row| {
                Ok(Write::Head(name_of(row)?, head_of(row, 3)?))
            })
        }
        Table::Superseded => {
            let (key, version) = match after {
                Some(Write::Superseded { key, version, .. }) => (*key, *version),
                None => (nobody(), 0),
                _ => return Err(odd()),
            };
            let sql = "SELECT tenant, id, shard, number, at_shard, version FROM superseded \
                       WHERE $1 OR (tenant, id, version) > ($2, $3, $4) \
                       ORDER BY tenant, id, version LIMIT $5";
            let params = vec![
                is_first,
                int(rows::tenant(key.tenant)?),
                uuid(Sixteen(key.id)),
                big(version.into()),
                limit,
            ];
            snapshot.page("superseded", sql, params, |row| {
                Ok(Write::Superseded {
                    key: name_of(row)?,
                    version: row.big(5)?,
                    at: hit_of(row, 3)?,
                })
            })
        }
        Table::Posting => {
            let (token, at) = match after {
                Some(Write::Posting { token, at }) => (*token, *at),
                None => (Token(0), start),
                _ => return Err(odd()),
            };
            let sql = "SELECT number, shard, token FROM posting WHERE $1 OR token > $2 \
                           OR (token = $2 AND (number < $3 OR (number = $3 AND shard > $4))) \
                       ORDER BY token, number DESC, shard LIMIT $5";
            let params = vec![
                is_first,
                big(rows::token(token)),
                big(stored(at.number.0)?),
                small(rows::shard(at.shard)?),
                limit,
            ];
            snapshot.page("posting", sql, params, |row| {
                Ok(Write::Posting {
                    token: rows::decode_token(row.get(2)?),
                    at: hit_of(row, 0)?,
                })
            })
        }
        Table::Posted => {
            let at = match after {
                Some(Write::Posted { at, .. }) => *at,
                None => start,
                _ => return Err(odd()),
            };
            let sql = "SELECT number, shard, tokens FROM posted \
                       WHERE $1 OR (number, shard) > ($2, $3) ORDER BY number, shard LIMIT $4";
            let params = vec![
                is_first,
                big(stored(at.number.0)?),
                small(rows::shard(at.shard)?),
                limit,
            ];
            snapshot.page("posted", sql, params, |row| {
                Ok(Write::Posted {
                    at: hit_of(row, 0)?,
                    tokens: rows::decode_tokens(row.get(2)?)?,
                })
            })
        }
        Table::Cursor => {
            let (consumer, shard) = match after {
                Some(Write::Cursor {
                    consumer, shard, ..
                }) => (consumer.clone(), *shard),
                None => (String::new(), start.shard),
                _ => return Err(odd()),
            };
            let sql = "SELECT consumer, shard, number FROM cursor \
                       WHERE $1 OR (consumer, shard) > ($2, $3) ORDER BY consumer, shard LIMIT $4";
            let params = vec![is_first, text(consumer), small(rows::shard(shard)?), limit];
            snapshot.page("cursor", sql, params, |row| {
                Ok(Write::Cursor {
                    consumer: row.get(0)?,
                    shard: row.shard(1)?,
                    at: row.number(2)?,
                })
            })
        }
        Table::Key => {
            let (tenant, subject) = match after {
                Some(Write::Key(key, _)) => (key.tenant, key.subject),
                None => (nobody().tenant, [0; 16]),
                _ => return Err(odd()),
            };
            let sql = "SELECT tenant, subject, shard, wrapped, destroyed_ms FROM key \
                       WHERE $1 OR (tenant, subject) > ($2, $3) ORDER BY tenant, subject LIMIT $4";
            let params = vec![
                is_first,
                int(rows::tenant(tenant)?),
                uuid(Sixteen(subject)),
                limit,
            ];
            snapshot.page("key", sql, params, |row| {
                Ok(Write::Key(subject_of(row)?, key_of(row, 3)?))
            })
        }
    }
}

/// Stands where there is no row to go on from.
fn nobody() -> HeadKey {
    HeadKey {
        tenant: crate::TenantId(0),
        id: [0; 16],
        home: Home(None),
    }
}

/// `tenant, id, shard`.
fn name_of(row: &Columns<'_>) -> Result<HeadKey, LedgerError> {
    Ok(HeadKey {
        tenant: row.tenant(0)?,
        id: row.sixteen(1)?,
        home: Home(Some(row.shard(2)?)),
    })
}
