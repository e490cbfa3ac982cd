//! Keys and values of rows in an ordered store of bytes. Keys are big-endian, so that their byte
//! order is the order of reading; SQLite's blobs sort the same way.

use crate::backend::{Head, HeadKey, Home, KeyRow, OutboxRow, SubjectKey};
use crate::codec::{Decoder, put_varint};
use crate::{
    Event, Hit, Kind, LedgerError, Number, OutboxKey, Shard, TenantId, Timer, TimerKey, Token,
};

pub(crate) fn blind_key(tenant: TenantId, blind: &[u8; 16]) -> [u8; 20] {
    let mut key = [0; 20];
    key[..4].copy_from_slice(&tenant.0.to_be_bytes());
    key[4..].copy_from_slice(blind);
    key
}

pub(crate) fn superseded_key(key: &HeadKey, version: u32) -> [u8; 24] {
    let mut out = [0; 24];
    out[..20].copy_from_slice(&blind_key(key.tenant, &key.id));
    out[20..].copy_from_slice(&version.to_be_bytes());
    out
}

pub(crate) fn place_key(at: Hit) -> [u8; 10] {
    let mut key = [0; 10];
    key[..8].copy_from_slice(&at.number.0.to_be_bytes());
    key[8..].copy_from_slice(&at.shard.0.to_be_bytes());
    key
}

pub(crate) fn decode_place(bytes: &[u8], row: &'static str) -> Result<Hit, LedgerError> {
    let mut decoder = Decoder::new(bytes, row);
    let number = Number(decoder.u64()?);
    let shard = Shard(decoder.u16()?);
    decoder.end()?;
    Ok(Hit { number, shard })
}

/// The number's complement sorts newer before older.
pub(crate) fn posting_key(token: Token, at: Hit) -> [u8; 18] {
    let mut key = [0; 18];
    key[..8].copy_from_slice(&token.0.to_be_bytes());
    key[8..16].copy_from_slice(&(!at.number.0).to_be_bytes());
    key[16..].copy_from_slice(&at.shard.0.to_be_bytes());
    key
}

pub(crate) fn shard_key(shard: Shard, rest: u64) -> [u8; 10] {
    let mut key = [0; 10];
    key[..2].copy_from_slice(&shard.0.to_be_bytes());
    key[2..].copy_from_slice(&rest.to_be_bytes());
    key
}

pub(crate) fn due_key(due_ms: u64, shard: Shard, id: &[u8; 16]) -> [u8; 26] {
    let mut key = [0; 26];
    key[..8].copy_from_slice(&due_ms.to_be_bytes());
    key[8..10].copy_from_slice(&shard.0.to_be_bytes());
    key[10..].copy_from_slice(id);
    key
}

pub(crate) fn decode_due(
    bytes: &[u8],
    row: &'static str,
) -> Result<(u64, Shard, [u8; 16]), LedgerError> {
    let mut decoder = Decoder::new(bytes, row);
    let due = (decoder.u64()?, Shard(decoder.u16()?), decoder.array()?);
    decoder.end()?;
    Ok(due)
}

pub(crate) fn cursor_key(consumer: &str, shard: Shard) -> Vec<u8> {
    let mut key = shard.0.to_be_bytes().to_vec();
    key.extend_from_slice(consumer.as_bytes());
    key
}

/// The tenant and the keyed hash of a key that begins with them, and what follows.
fn decode_blind(bytes: &[u8], row: &'static str) -> Result<(TenantId, [u8; 16]), LedgerError> {
    let mut decoder = Decoder::new(bytes, row);
    let blind = (TenantId(decoder.u32()?), decoder.array()?);
    decoder.end()?;
    Ok(blind)
}

pub(crate) fn decode_head_key(bytes: &[u8]) -> Result<HeadKey, LedgerError> {
    let (tenant, id) = decode_blind(bytes, "head")?;
    Ok(HeadKey {
        tenant,
        id,
        home: Home(None),
    })
}

pub(crate) fn decode_subject_key(bytes: &[u8]) -> Result<SubjectKey, LedgerError> {
    let (tenant, subject) = decode_blind(bytes, "key")?;
    Ok(SubjectKey {
        tenant,
        subject,
        home: Home(None),
    })
}

pub(crate) fn decode_superseded_key(bytes: &[u8]) -> Result<(HeadKey, u32), LedgerError> {
    let mut decoder = Decoder::new(bytes, "superseded");
    let key = decode_head_key(decoder.bytes(20)?)?;
    let version = decoder.u32()?;
    decoder.end()?;
    Ok((key, version))
}

pub(crate) fn decode_cursor_key(bytes: &[u8]) -> Result<(String, Shard), LedgerError> {
    let mut decoder = Decoder::new(bytes, "cursor");
    let shard = Shard(decoder.u16()?);
    let consumer = String::from_utf8(decoder.rest().to_vec())
        .map_err(|_| LedgerError::Damaged("a cursor row does not decode".into()))?;
    Ok((consumer, shard))
}

pub(crate) fn encode_head(head: &Head) -> Vec<u8> {
    let mut out = place_key(head.at).to_vec();
    out.push(u8::from(head.deleted) | u8::from(head.audit) << 1);
    put_varint(&mut out, u64::from(head.version));
    out
}

pub(crate) fn decode_head(bytes: &[u8]) -> Result<Head, LedgerError> {
    let mut decoder = Decoder::new(bytes, "head");
    let at = decode_place(decoder.bytes(10)?, "head")?;
    let flags = decoder.u8()?;
    let version = decoder.small()?;
    decoder.end()?;
    Ok(Head {
        at,
        version,
        deleted: flags & 1 != 0,
        audit: flags & 2 != 0,
    })
}

#[cfg(test)]
pub(crate) fn encode_tokens(tokens: &[Token]) -> Vec<u8> {
    tokens
        .iter()
        .flat_map(|token| token.0.to_be_bytes())
        .collect()
}

pub(crate) fn encode_event(event: &Event) -> Vec<u8> {
    let mut out = Vec::with_capacity(16);
    put_varint(&mut out, u64::from(event.tenant.0));
    put_varint(&mut out, u64::from(event.kind.0));
    put_varint(
        &mut out,
        u64::from(event.version) << 1 | u64::from(event.deleted),
    );
    if let Some(cause) = event.cause {
        out.extend_from_slice(&cause.0.to_be_bytes());
    }
    out
}

pub(crate) fn decode_event(at: Hit, bytes: &[u8]) -> Result<Event, LedgerError> {
    let mut decoder = Decoder::new(bytes, "event");
    let tenant = TenantId(decoder.small()?);
    let kind = Kind(decoder.small()?);
    let version = decoder.varint()?;
    let cause = if decoder.remaining() == 0 {
        None
    } else {
        Some(Number(decoder.u64()?))
    };
    decoder.end()?;
    let deleted = version & 1 != 0;
    let version = u32::try_from(version >> 1)
        .map_err(|_| LedgerError::Damaged("an event row does not decode".into()))?;
    Ok(Event {
        at,
        tenant,
        kind,
        version,
        deleted,
        cause,
    })
}

/// A leaf row: 0x80 and the number of hashes, the hashes, the record. Of store format 1 are rows that
/// are the record alone, which begins with its own format, below 0x80; their hashes are in the `node`
/// table.
pub(crate) fn encode_leaf(record: &[u8], nodes: &[[u8; 32]]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + nodes.len() * 32 + record.len());
    // A tree has at most 64 levels.
    out.push(HASHES | nodes.len() as u8);
    out.extend_from_slice(nodes.as_flattened());
    out.extend_from_slice(record);
    out
}

const HASHES: u8 = 0x80;

/// The hashes of a leaf row and its record; no hashes when they are in a table of their own.
pub(crate) fn decode_leaf(row: &[u8]) -> Result<(&[[u8; 32]], &[u8]), LedgerError> {
    let damaged = || LedgerError::Damaged("a leaf row does not decode".into());
    let (first, rest) = row.split_first().ok_or_else(damaged)?;
    if first & HASHES == 0 {
        return Ok((&[], row));
    }
    let length = 32 * usize::from(first & !HASHES);
    let (hashes, record) = rest.split_at_checked(length).ok_or_else(damaged)?;
    Ok((hashes.as_chunks().0, record))
}

pub(crate) fn encode_timer(timer: &Timer) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + timer.payload.len());
    put_varint(&mut out, u64::from(timer.tenant.0));
    put_varint(&mut out, u64::from(timer.consumer));
    out.extend_from_slice(&timer.payload);
    out
}

pub(crate) fn encode_outbox(row: &OutboxRow) -> Vec<u8> {
    let mut out = Vec::with_capacity(12 + row.sealed.len());
    put_varint(&mut out, u64::from(row.tenant.0));
    put_varint(&mut out, u64::from(row.channel));
    put_varint(&mut out, u64::from(row.attempt));
    out.extend_from_slice(&row.sealed);
    out
}

pub(crate) fn encode_key_row(row: &KeyRow) -> Vec<u8> {
    match row {
        KeyRow::Wrapped(bytes) => [&[1], bytes.as_slice()].concat(),
        KeyRow::Destroyed { at_ms } => [&[0], at_ms.to_be_bytes().as_slice()].concat(),
    }
}

pub(crate) fn decode_key_row(bytes: &[u8]) -> Result<KeyRow, LedgerError> {
    let mut decoder = Decoder::new(bytes, "key");
    match decoder.u8()? {
        1 => Ok(KeyRow::Wrapped(decoder.rest().to_vec())),
        0 => {
            let at_ms = decoder.u64()?;
            decoder.end()?;
            Ok(KeyRow::Destroyed { at_ms })
        }
        _ => Err(LedgerError::Damaged("a key row does not decode".into())),
    }
}

pub(crate) fn decode_timer(key: &[u8], value: &[u8]) -> Result<Timer, LedgerError> {
    let (due_ms, shard, id) = decode_due(key, "timer")?;
    let mut decoder = Decoder::new(value, "timer");
    let tenant = TenantId(decoder.small()?);
    let consumer = decoder.small()?;
    let payload = decoder.rest().to_vec();
    Ok(Timer {
        key: TimerKey { shard, due_ms, id },
        tenant,
        consumer,
        payload,
    })
}

pub(crate) fn decode_outbox(key: &[u8], value: &[u8]) -> Result<OutboxRow, LedgerError> {
    let (due_ms, shard, id) = decode_due(key, "outbox")?;
    let mut decoder = Decoder::new(value, "outbox");
    let tenant = TenantId(decoder.small()?);
    let channel = decoder.small()?;
    let attempt = decoder.small()?;
    let sealed = decoder.rest().to_vec();
    Ok(OutboxRow {
        key: OutboxKey { shard, due_ms, id },
        tenant,
        channel,
        attempt,
        sealed,
    })
}

pub(crate) fn decode_posting(key: &[u8]) -> Result<Hit, LedgerError> {
    let mut decoder = Decoder::new(key, "posting");
    decoder.u64()?;
    let number = Number(!decoder.u64()?);
    let shard = Shard(decoder.u16()?);
    decoder.end()?;
    Ok(Hit { number, shard })
}

pub(crate) fn decode_tokens(value: &[u8]) -> Result<Vec<Token>, LedgerError> {
    let mut decoder = Decoder::new(value, "posted");
    let mut tokens = Vec::with_capacity(value.len() / 8);
    while decoder.remaining() > 0 {
        tokens.push(Token(decoder.u64()?));
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_order_is_the_order_of_reading() {
        let hit = |number, shard| Hit {
            number: Number(number),
            shard: Shard(shard),
        };
        // Newest first within a token, lower shards first within a number.
        let keys = [
            posting_key(Token(1), hit(u64::MAX, 0)),
            posting_key(Token(1), hit(300, 0)),
            posting_key(Token(1), hit(299, 0)),
            posting_key(Token(1), hit(299, 7)),
            posting_key(Token(1), hit(0, u16::MAX)),
            posting_key(Token(2), hit(9, 0)),
            posting_key(Token(u64::MAX), hit(9, 0)),
        ];
        assert!(keys.is_sorted());
        for key in keys {
            let at = decode_posting(&key).unwrap();
            assert_eq!(
                posting_key(Token(u64::from_be_bytes(key[..8].try_into().unwrap())), at),
                key
            );
        }
        assert!(due_key(255, Shard(9), &[9; 16]) < due_key(256, Shard(0), &[0; 16]));
        assert!(place_key(hit(1, 255)) < place_key(hit(2, 0)));
        assert!(shard_key(Shard(1), u64::MAX) < shard_key(Shard(2), 0));
    }

    #[test]
    fn rows_come_back() {
        let at = Hit {
            number: Number(u64::MAX - 1),
            shard: Shard(255),
        };
        for (version, deleted, audit) in
            [(1, false, false), (u32::MAX, true, false), (1, false, true)]
        {
            let head = Head {
                at,
                version,
                deleted,
                audit,
            };
            assert_eq!(decode_head(&encode_head(&head)).unwrap(), head);
        }
        for (version, deleted, cause) in [(1, false, None), (u32::MAX, true, Some(Number(7)))] {
            let event = Event {
                at,
                tenant: TenantId(u32::MAX),
                kind: Kind(u16::MAX),
                version,
                deleted,
                cause,
            };
            assert_eq!(decode_event(at, &encode_event(&event)).unwrap(), event);
        }
        let key = TimerKey {
            shard: Shard(3),
            due_ms: u64::MAX,
            id: [4; 16],
        };
        let timer = Timer {
            key,
            tenant: TenantId(1),
            consumer: u16::MAX,
            payload: vec![1, 2],
        };
        assert_eq!(
            decode_timer(
                &due_key(key.due_ms, key.shard, &key.id),
                &encode_timer(&timer)
            )
            .unwrap(),
            timer
        );
        let key = OutboxKey {
            shard: Shard(3),
            due_ms: 5,
            id: [4; 16],
        };
        let row = OutboxRow {
            key,
            tenant: TenantId(1),
            channel: 300,
            attempt: 70_000,
            sealed: vec![9; 40],
        };
        assert_eq!(
            decode_outbox(&due_key(5, Shard(3), &[4; 16]), &encode_outbox(&row)).unwrap(),
            row
        );
        for row in [
            KeyRow::Wrapped(vec![1, 2, 3]),
            KeyRow::Destroyed { at_ms: 5 },
        ] {
            assert_eq!(decode_key_row(&encode_key_row(&row)).unwrap(), row);
        }
        let head = HeadKey {
            tenant: TenantId(u32::MAX),
            id: [5; 16],
            home: Home(None),
        };
        assert_eq!(
            decode_head_key(&blind_key(head.tenant, &head.id)).unwrap(),
            head
        );
        assert_eq!(
            decode_superseded_key(&superseded_key(&head, 7)).unwrap(),
            (head, 7)
        );
        let cursor = ("consumer".to_owned(), Shard(255));
        assert_eq!(
            decode_cursor_key(&cursor_key(&cursor.0, cursor.1)).unwrap(),
            cursor
        );
        assert!(decode_superseded_key(&[0; 23]).is_err() && decode_head_key(&[0; 21]).is_err());
        for nodes in [vec![], vec![[1; 32]], vec![[2; 32]; 64]] {
            let row = encode_leaf(b"\x02record", &nodes);
            assert_eq!(decode_leaf(&row).unwrap(), (&nodes[..], &b"\x02record"[..]));
            assert!(nodes.is_empty() || decode_leaf(&row[..32 * nodes.len()]).is_err());
        }
        // As format 1 had them.
        let (nodes, record) = decode_leaf(b"\x02record").unwrap();
        assert!(nodes.is_empty() && record == b"\x02record");
        assert!(decode_leaf(&[]).is_err());
        let tokens = vec![Token(1), Token(u64::MAX)];
        assert_eq!(decode_tokens(&encode_tokens(&tokens)).unwrap(), tokens);
        assert!(decode_tokens(&[1, 2, 3]).is_err());
    }
}
