//! Reading much at once: what would be a round trip for each row is one statement, or some in one
//! flight.
//!
//! Where the tables are spread over several servers (Citus), a statement asks for rows of one table by
//! what it is given, and never joins two tables by anything but the shard.

use std::collections::HashMap;

use super::read::{PgSnapshot, head_of, hit, key_of, limit, shard_bound};
use super::rows::{
    self, Columns, Param, Sixteen, big, bigs, bound, int, ints, small, smalls, stored, text, uuid,
    uuids,
};
use super::server::Statement;
use crate::backend::{Head, HeadKey, Home, KeyRow, Newest, Snapshot, SubjectKey};
use crate::query::rank;
use crate::{Hit, LedgerError, Number, Shard, StoragePart, TenantId, Token};

/// A page of one token's postings.
pub(super) fn page_of(token: Token, from: Hit, since: Number, rows: usize) -> Statement {
    Statement {
        sql: "SELECT number, shard FROM posting \
              WHERE token = $1 AND number <= $2 AND (number < $2 OR shard >= $3) AND number >= $4 \
              ORDER BY number DESC, shard LIMIT $5"
            .into(),
        params: vec![
            big(rows::token(token)),
            big(bound(from.number.0)),
            small(shard_bound(from.shard)),
            big(bound(since.0)),
            limit(rows),
        ],
    }
}

/// Postings of several tokens.
pub(super) fn pages(
    snapshot: &PgSnapshot,
    wanted: &[(Token, usize)],
    from: Hit,
    since: Number,
) -> Result<Vec<Vec<Hit>>, LedgerError> {
    if wanted.is_empty() || stored(since.0).is_err() {
        return Ok(vec![Vec::new(); wanted.len()]);
    }
    if wanted.len() == 1 || snapshot.is_spread() {
        // A limit for each of several tokens is nothing that could be spread.
        let pages = wanted
            .iter()
            .map(|(token, rows)| page_of(*token, from, since, *rows));
        let answers = snapshot.queries(pages.collect())?;
        return (answers.iter())
            .map(|rows| {
                let rows = rows.iter().map(|row| Columns {
                    row,
                    table: "posting",
                });
                rows.map(|row| hit(&row)).collect()
            })
            .collect();
    }
    // Two arrays a token and not a row a posting, which has more bytes around it than in it.
    let sql = "SELECT place, array_agg(page.number), array_agg(page.shard) \
               FROM unnest($1, $2) WITH ORDINALITY AS wanted (token, size, place) \
               CROSS JOIN LATERAL ( \
                   SELECT number, shard FROM posting \
                   WHERE posting.token = wanted.token AND number <= $3 \
                       AND (number < $3 OR shard >= $4) AND number >= $5 \
                   ORDER BY number DESC, shard LIMIT wanted.size) AS page \
               GROUP BY place";
    let sizes = wanted.iter();
    let params = vec![
        bigs(
            wanted
                .iter()
                .map(|(token, _)| rows::token(*token))
                .collect(),
        ),
        bigs(
            sizes
                .map(|(_, size)| i64::try_from(*size).unwrap_or(i64::MAX))
                .collect(),
        ),
        big(bound(from.number.0)),
        small(shard_bound(from.shard)),
        big(bound(since.0)),
    ];
    let mut pages = vec![Vec::new(); wanted.len()];
    for (place, page) in snapshot.page("posting", sql, params, |row| {
        let (numbers, shards): (Vec<i64>, Vec<i16>) = (row.get(1)?, row.get(2)?);
        let mut page = Vec::with_capacity(numbers.len());
        for (number, shard) in numbers.into_iter().zip(shards) {
            let damaged = || rows::damaged("posting");
            page.push(Hit {
                number: Number(u64::try_from(number).map_err(|_| damaged())?),
                shard: Shard(u16::try_from(shard).map_err(|_| damaged())?),
            });
        }
        // Grouping need not keep their order.
        page.sort_unstable_by_key(|hit| rank(*hit));
        Ok((row.big::<usize>(0)?, page))
    })? {
        if let Some(slot) = place.checked_sub(1).and_then(|place| pages.get_mut(place)) {
            *slot = page;
        }
    }
    Ok(pages)
}

fn places_of(places: &[Hit]) -> [Param; 2] {
    [
        bigs(places.iter().map(|at| bound(at.number.0)).collect()),
        smalls(places.iter().map(|at| shard_bound(at.shard)).collect()),
    ]
}

/// The tokens of several newest versions.
pub(super) fn posted_of(
    snapshot: &PgSnapshot,
    places: &[Hit],
) -> Result<Vec<Vec<Token>>, LedgerError> {
    if places.is_empty() {
        return Ok(Vec::new());
    }
    let sql = "SELECT posted.number, posted.shard, tokens \
               FROM unnest($1, $2) AS wanted (number, shard) \
               JOIN posted ON posted.number = wanted.number AND posted.shard = wanted.shard";
    let found = snapshot.page("posted", sql, places_of(places).into(), |row| {
        Ok((hit(row)?, rows::decode_tokens(row.get(2)?)?))
    })?;
    let found: HashMap<Hit, Vec<Token>> = found.into_iter().collect();
    Ok((places.iter())
        .map(|at| found.get(at).cloned().unwrap_or_default())
        .collect())
}

/// A document's newest version with its row.
pub(super) fn newest(snapshot: &PgSnapshot, key: &HeadKey) -> Result<Option<Newest>, LedgerError> {
    if snapshot.is_spread() {
        // The name lies in one shard and the document in another.
        let Some(head) = snapshot.head(key)? else {
            return Ok(None);
        };
        return Ok(Some((head, snapshot.document(head.at)?)));
    }
    // The name's home may not be known, and follows from the id.
    let sql = "SELECT head.number, at_shard, version, deleted, audit, body FROM head \
               LEFT JOIN document ON document.number = head.number AND document.shard = at_shard \
               WHERE head.tenant = $1 AND head.id = $2";
    let params = vec![int(rows::tenant(key.tenant)?), uuid(Sixteen(key.id))];
    snapshot.one("head", sql, params, |row| {
        Ok((head_of(row, 0)?, row.get(5)?))
    })
}

/// Documents of the first of several places, of as many as have so many bytes together.
pub(super) fn documents(
    snapshot: &PgSnapshot,
    places: &[Hit],
    bytes_max: usize,
) -> Result<Vec<Option<Vec<u8>>>, LedgerError> {
    if places.is_empty() {
        return Ok(Vec::new());
    }
    if snapshot.is_spread() {
        return documents_by_size(snapshot, places, bytes_max);
    }
    // The bytes of a body are known without reading it.
    let sql = "SELECT place, CASE WHEN bytes <= $4 OR place = first THEN body END FROM ( \
                   SELECT body, place, \
                       sum(octet_length(body)) OVER (ORDER BY place) AS bytes, \
                       min(place) OVER () AS first \
                   FROM unnest($1, $2, $3) AS wanted (number, shard, place) \
                   JOIN document ON document.number = wanted.number \
                       AND document.shard = wanted.shard) AS found";
    let [numbers, shards] = places_of(places);
    let order = (0..).take(places.len()).collect();
    let params = vec![
        numbers,
        shards,
        ints(order),
        big(i64::try_from(bytes_max).unwrap_or(i64::MAX)),
    ];
    let found = snapshot.page("document", sql, params, |row| {
        Ok((row.int::<usize>(0)?, row.get::<Option<Vec<u8>>>(1)?))
    })?;
    let mut found: HashMap<usize, Option<Vec<u8>>> = found.into_iter().collect();
    let mut rows = Vec::with_capacity(places.len());
    for place in 0..places.len() {
        match found.remove(&place) {
            // There, and too much for this time.
            Some(None) => break,
            row => rows.push(row.flatten()),
        }
    }
    Ok(rows)
}

/// The same in two steps, since adding up over the rows of several servers is nothing that could be sent
/// to them.
fn documents_by_size(
    snapshot: &PgSnapshot,
    places: &[Hit],
    bytes_max: usize,
) -> Result<Vec<Option<Vec<u8>>>, LedgerError> {
    let sql = "SELECT document.number, document.shard, octet_length(body)::bigint \
               FROM unnest($1, $2) AS wanted (number, shard) \
               JOIN document ON document.number = wanted.number AND document.shard = wanted.shard";
    let sizes = snapshot.page("document", sql, places_of(places).into(), |row| {
        Ok((hit(row)?, row.big::<usize>(2)?))
    })?;
    let sizes: HashMap<Hit, usize> = sizes.into_iter().collect();
    let mut bytes = 0;
    let some = places.iter().take_while(|at| {
        let is_first = bytes == 0;
        bytes += sizes.get(at).copied().unwrap_or(0);
        is_first || bytes <= bytes_max
    });
    let some = &places[..some.count()];
    let sql = "SELECT document.number, document.shard, body \
               FROM unnest($1, $2) AS wanted (number, shard) \
               JOIN document ON document.number = wanted.number AND document.shard = wanted.shard";
    let found = snapshot.page("document", sql, places_of(some).into(), |row| {
        Ok((hit(row)?, row.get::<Vec<u8>>(2)?))
    })?;
    let found: HashMap<Hit, Vec<u8>> = found.into_iter().collect();
    Ok(some.iter().map(|at| found.get(at).cloned()).collect())
}

/// The newest versions of several names.
pub(super) fn heads(
    snapshot: &PgSnapshot,
    keys: &[HeadKey],
) -> Result<Vec<Option<Head>>, LedgerError> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    // The home follows from the id, so there is no second row of a name.
    let sql = "SELECT head.tenant, head.id, number, at_shard, version, deleted, audit \
               FROM unnest($1, $2) AS wanted (tenant, id) \
               JOIN head ON head.tenant = wanted.tenant AND head.id = wanted.id";
    let found = snapshot.page(
        "head",
        sql,
        names(keys.iter().map(|key| (key.tenant, key.id)))?,
        |row| Ok(((row.tenant(0)?, row.sixteen(1)?), head_of(row, 2)?)),
    )?;
    let found: HashMap<_, Head> = found.into_iter().collect();
    Ok((keys.iter())
        .map(|key| found.get(&(key.tenant, key.id)).copied())
        .collect())
}

/// The data keys of several patients.
pub(super) fn keys(
    snapshot: &PgSnapshot,
    keys: &[SubjectKey],
) -> Result<Vec<Option<KeyRow>>, LedgerError> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let sql = "SELECT key.tenant, key.subject, wrapped, destroyed_ms \
               FROM unnest($1, $2) AS wanted (tenant, subject) \
               JOIN key ON key.tenant = wanted.tenant AND key.subject = wanted.subject";
    let found = snapshot.page(
        "key",
        sql,
        names(keys.iter().map(|key| (key.tenant, key.subject)))?,
        |row| Ok(((row.tenant(0)?, row.sixteen(1)?), key_of(row, 2)?)),
    )?;
    let found: HashMap<_, KeyRow> = found.into_iter().collect();
    Ok((keys.iter())
        .map(|key| found.get(&(key.tenant, key.subject)).cloned())
        .collect())
}

/// Tenants and blind names, each once: a name that is asked for twice would be found twice.
fn names(names: impl Iterator<Item = (TenantId, [u8; 16])>) -> Result<Vec<Param>, LedgerError> {
    let names: std::collections::BTreeSet<_> = names.collect();
    let tenants = names.iter().map(|(tenant, _)| rows::tenant(*tenant));
    Ok(vec![
        ints(tenants.collect::<Result<_, _>>()?),
        uuids(names.iter().map(|(_, id)| Sixteen(*id)).collect()),
    ])
}

/// `tenant, subject, shard`.
pub(super) fn subject_of(row: &Columns<'_>) -> Result<SubjectKey, LedgerError> {
    Ok(SubjectKey {
        tenant: row.tenant(0)?,
        subject: row.sixteen(1)?,
        home: Home(Some(row.shard(2)?)),
    })
}

/// What each table takes, with its indexes.
pub(super) fn storage(
    snapshot: &PgSnapshot,
    schema: &str,
) -> Result<Vec<StoragePart>, LedgerError> {
    let sql = if snapshot.is_spread() {
        "SELECT relname::text, \
             CASE WHEN EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = pg_class.oid) \
                 THEN citus_total_relation_size(pg_class.oid) \
                 ELSE pg_total_relation_size(pg_class.oid) END \
         FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace \
         WHERE nspname = $1 AND relkind = 'r' ORDER BY relname"
    } else {
        "SELECT relname::text, pg_total_relation_size(pg_class.oid) FROM pg_class \
         JOIN pg_namespace ON pg_namespace.oid = relnamespace \
         WHERE nspname = $1 AND relkind = 'r' ORDER BY relname"
    };
    snapshot.page("pg_class", sql, vec![text(schema.to_owned())], |row| {
        Ok(StoragePart {
            name: row.get(0)?,
            bytes: row.big(1)?,
        })
    })
}
