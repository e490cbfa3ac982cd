//! The events of a shard's feed, those that were written together in one row.

use std::collections::BTreeMap;

use super::rows::{decode_event, encode_event};
use crate::codec::{Decoder, put_varint};
use crate::{Event, Hit, LedgerError, Number, Shard};

const ROW: &str = "event";
/// The most events of a row: whoever reads from a place on takes apart the row that it lies in.
const EVENTS_MAX: usize = 256;
/// What ends the key of a row of several events. Keys of store formats 1 and 2 are without, and their
/// rows are an event each.
const SEVERAL: u8 = 1;

/// A row's key: shard, number of the last event, [`SEVERAL`].
pub(super) type EventsKey = [u8; 11];

pub(super) fn key(shard: Shard, last: Number) -> EventsKey {
    let mut key = [SEVERAL; 11];
    key[..2].copy_from_slice(&shard.0.to_be_bytes());
    key[2..10].copy_from_slice(&last.0.to_be_bytes());
    key
}

fn damaged() -> LedgerError {
    LedgerError::Damaged(format!("an {ROW} row does not decode"))
}

/// Parts a shard's events, oldest first, into those of one row each.
pub(super) fn rows(events: &[Event]) -> impl Iterator<Item = &[Event]> {
    events.chunks(EVENTS_MAX)
}

/// The bytes of a row: for each event by how much its number is less than the last one's, the length of
/// what it says, and that.
pub(super) fn encode(events: &[Event]) -> Vec<u8> {
    let last = events.last().map_or(0, |event| event.at.number.0);
    let mut out = Vec::with_capacity(8 * events.len());
    for event in events {
        let said = encode_event(event);
        put_varint(&mut out, last - event.at.number.0);
        put_varint(&mut out, said.len() as u64);
        out.extend_from_slice(&said);
    }
    out
}

/// The number of the last event of a row.
pub(super) fn last(key: &[u8]) -> Result<Number, LedgerError> {
    Ok(Number(
        Decoder::new(key.get(2..).unwrap_or_default(), ROW).u64()?,
    ))
}

/// The events of a row, oldest first.
pub(super) fn decode(key: &[u8], row: &[u8]) -> Result<Vec<Event>, LedgerError> {
    let mut decoder = Decoder::new(key, ROW);
    let shard = Shard(decoder.u16()?);
    let last = decoder.u64()?;
    let at = |number| Hit {
        number: Number(number),
        shard,
    };
    if decoder.remaining() == 0 {
        return Ok(vec![decode_event(at(last), row)?]);
    }
    if decoder.rest() != [SEVERAL] {
        return Err(damaged());
    }
    let mut decoder = Decoder::new(row, ROW);
    let mut events: Vec<Event> = Vec::with_capacity(row.len() / 6);
    while decoder.remaining() > 0 {
        let number = last.checked_sub(decoder.varint()?).ok_or_else(damaged)?;
        let length = decoder.small()?;
        let event = decode_event(at(number), decoder.bytes(length)?)?;
        if events.last().is_some_and(|before| before.at >= event.at) {
            return Err(damaged());
        }
        events.push(event);
    }
    if events.last().is_none_or(|event| event.at.number.0 != last) {
        return Err(damaged());
    }
    Ok(events)
}

/// Rows that a repair changes, by their keys in the store; old rows of one event go.
#[derive(Default)]
pub(super) struct Repairs(pub(super) BTreeMap<Vec<u8>, Vec<Event>>);

impl Repairs {
    /// Puts an event into the row whose last event is the first at or behind it, if there is one and it
    /// begins before; else into a row of its own.
    pub(super) fn put(
        &mut self,
        event: Event,
        around: Option<(&[u8], &[u8])>,
    ) -> Result<(), LedgerError> {
        let own = key(event.at.shard, event.at.number).to_vec();
        let (key, stored) = match around {
            Some((key, row)) if key.len() == own.len() => match decode(key, row) {
                Ok(events) if events[0].at <= event.at => (key.to_vec(), events),
                Ok(_) => (own, Vec::new()),
                Err(_) if key == own => (own, Vec::new()),
                Err(error) => return Err(error),
            },
            _ => (own, Vec::new()),
        };
        let events = self.0.entry(key).or_insert(stored);
        match events.binary_search_by_key(&event.at, |event| event.at) {
            Ok(place) => events[place] = event,
            Err(place) => events.insert(place, event),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kind, TenantId};

    fn event(number: u64, cause: Option<u64>) -> Event {
        Event {
            at: Hit {
                number: Number(number),
                shard: Shard(3),
            },
            tenant: TenantId(1),
            kind: Kind(300),
            version: 2,
            deleted: false,
            cause: cause.map(Number),
        }
    }

    #[test]
    fn rows_come_back() {
        let events = [event(5, None), event(6, Some(9)), event(u64::MAX, None)];
        let row_key = key(Shard(3), Number(u64::MAX));
        let row = encode(&events);
        assert_eq!(decode(&row_key, &row).unwrap(), events);
        assert_eq!(last(&row_key).unwrap(), Number(u64::MAX));
        for length in 0..row.len() {
            assert!(decode(&row_key, &row[..length]).is_err(), "{length}");
        }
        assert!(decode(&key(Shard(3), Number(7)), &row).is_err());
        // As formats 1 and 2 had them.
        let (old, one) = (&row_key[..10], event(u64::MAX, Some(1)));
        assert_eq!(decode(old, &encode_event(&one)).unwrap(), [one]);
    }

    #[test]
    fn what_comes_back_goes_into_the_row_around_it() {
        let stored = [event(5, None), event(9, None)];
        let (around, row) = (key(Shard(3), Number(9)), encode(&stored));
        let put = |number| {
            let mut repairs = Repairs::default();
            repairs
                .put(event(number, None), Some((around.as_slice(), &row)))
                .unwrap();
            let numbers = |events: &Vec<Event>| {
                events
                    .iter()
                    .map(|event| event.at.number.0)
                    .collect::<Vec<_>>()
            };
            let rows = repairs.0.iter();
            rows.map(|(key, events)| (last(key).unwrap().0, numbers(events)))
                .collect::<Vec<_>>()
        };
        assert_eq!(put(7), [(9, vec![5, 7, 9])]);
        assert_eq!(put(5), [(9, vec![5, 9])]);
        assert_eq!(put(4), [(4, vec![4])]);
        let mut repairs = Repairs::default();
        repairs.put(event(4, None), None).unwrap();
        assert_eq!(repairs.0.len(), 1);
    }
}
