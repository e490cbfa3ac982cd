//! What one backup has taken, in files of some 32 MiB that are never changed: groups of commits in
//! their order, then the leaves, then the checkpoint over them. All rows are sealed or blind as they
//! are in the store, and no key is among them.

use crate::codec::{Decoder, put_varint};
use crate::redo::Change;
use crate::{Hit, LedgerError, Number, Shard, Token};

/// The file begins with this, and the format of what follows.
const MAGIC: &[u8] = b"cairn segment 1\n";
/// A file is closed when it is longer than this. The longest row, a body of 16 MiB, may follow.
const PART_BYTES: usize = 32 << 20;

const GROUP: u8 = 1;
const DOCUMENT: u8 = 2;
const CHANGE: u8 = 3;
const LEAF: u8 = 4;
const END: u8 = 5;

/// A piece of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    /// Documents and changes of one group of commits follow. The first group of a chain is all that
    /// the store held when it was taken.
    Group {
        unix_ms: u64,
        through: Number,
    },
    Document {
        at: Hit,
        tokens: Vec<Token>,
        row: Vec<u8>,
    },
    Change(Change),
    Leaf {
        shard: Shard,
        index: u64,
        record: Vec<u8>,
    },
    /// The segment is whole; the checkpoint is over all leaves of the chain so far.
    End {
        checkpoint: String,
    },
}

impl Frame {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Group { unix_ms, through } => {
                out.push(GROUP);
                put_varint(out, *unix_ms);
                put_varint(out, through.0);
            }
            Self::Document { at, tokens, row } => {
                out.push(DOCUMENT);
                out.extend_from_slice(&at.number.0.to_be_bytes());
                out.extend_from_slice(&at.shard.0.to_be_bytes());
                put_varint(out, tokens.len() as u64);
                for token in tokens {
                    out.extend_from_slice(&token.0.to_be_bytes());
                }
                out.extend_from_slice(row);
            }
            Self::Change(change) => {
                out.push(CHANGE);
                change.encode(out);
            }
            Self::Leaf {
                shard,
                index,
                record,
            } => {
                out.push(LEAF);
                out.extend_from_slice(&shard.0.to_be_bytes());
                put_varint(out, *index);
                out.extend_from_slice(record);
            }
            Self::End { checkpoint } => {
                out.push(END);
                out.extend_from_slice(checkpoint.as_bytes());
            }
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, LedgerError> {
        let mut decoder = Decoder::new(bytes, "backup");
        Ok(match decoder.u8()? {
            GROUP => {
                let unix_ms = decoder.varint()?;
                let through = Number(decoder.varint()?);
                decoder.end()?;
                Self::Group { unix_ms, through }
            }
            DOCUMENT => {
                let number = Number(decoder.u64()?);
                let shard = Shard(decoder.u16()?);
                let count: usize = decoder.small()?;
                let mut tokens = Vec::with_capacity(count.min(decoder.remaining() / 8));
                for _ in 0..count {
                    tokens.push(Token(decoder.u64()?));
                }
                Self::Document {
                    at: Hit { number, shard },
                    tokens,
                    row: decoder.rest().to_vec(),
                }
            }
            CHANGE => {
                let change = Change::decode(&mut decoder)?;
                decoder.end()?;
                Self::Change(change)
            }
            LEAF => Self::Leaf {
                shard: Shard(decoder.u16()?),
                index: decoder.varint()?,
                record: decoder.rest().to_vec(),
            },
            END => Self::End {
                checkpoint: String::from_utf8(decoder.rest().to_vec())
                    .map_err(|_| LedgerError::Damaged("a checkpoint is not text".into()))?,
            },
            _ => {
                return Err(LedgerError::Damaged(
                    "a backup has a piece that this program does not know".into(),
                ));
            }
        })
    }
}

/// Gathers frames into parts.
pub(super) struct Parts {
    bytes: Vec<u8>,
}

impl Parts {
    pub(super) fn new() -> Self {
        Self {
            bytes: MAGIC.to_vec(),
        }
    }

    /// Adds a frame; gives a part when one is full.
    pub(super) fn push(&mut self, frame: &Frame) -> Option<Vec<u8>> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        frame.encode(&mut self.bytes);
        let length = (self.bytes.len() - start - 4) as u32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_be_bytes());
        (self.bytes.len() > PART_BYTES).then(|| std::mem::replace(&mut self.bytes, MAGIC.to_vec()))
    }

    /// The last part.
    pub(super) fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// The frames of a part.
pub(super) fn frames(
    part: &[u8],
) -> Result<impl Iterator<Item = Result<Frame, LedgerError>>, LedgerError> {
    let rest = part.strip_prefix(MAGIC).ok_or_else(|| {
        LedgerError::Damaged("a backup's file does not begin as a segment does".into())
    })?;
    let mut decoder = Some(Decoder::new(rest, "backup"));
    Ok(std::iter::from_fn(move || {
        let source = decoder.as_mut().filter(|source| source.remaining() > 0)?;
        let frame = source
            .u32()
            .and_then(|length| source.bytes(length as usize))
            .and_then(Frame::decode);
        if frame.is_err() {
            decoder = None;
        }
        Some(frame)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_and_cut_parts_are_damage() {
        let at = Hit {
            number: Number(7),
            shard: Shard(3),
        };
        let written = vec![
            Frame::Group {
                unix_ms: 5,
                through: Number(u64::MAX),
            },
            Frame::Document {
                at,
                tokens: vec![Token(1), Token(u64::MAX)],
                row: b"row".to_vec(),
            },
            Frame::Change(Change::Cursor {
                consumer: "c".into(),
                shard: Shard(1),
                at: Number(2),
            }),
            Frame::Leaf {
                shard: Shard(255),
                index: 1 << 40,
                record: b"record".to_vec(),
            },
            Frame::End {
                checkpoint: "text".into(),
            },
        ];
        let mut parts = Parts::new();
        for frame in &written {
            assert!(parts.push(frame).is_none());
        }
        let part = parts.finish();
        let read = |bytes: &[u8]| frames(bytes).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        assert_eq!(read(&part).unwrap(), written);
        for length in 0..part.len() {
            // Cut between two frames it is only shorter; the hash of the part tells.
            let cut = read(&part[..length]);
            assert!(
                cut.is_err() || cut.unwrap().len() < written.len(),
                "{length}"
            );
        }
    }

    #[test]
    fn a_part_is_closed_when_it_is_long() {
        let frame = Frame::Document {
            at: Hit {
                number: Number(7),
                shard: Shard(3),
            },
            tokens: Vec::new(),
            row: vec![1; 10 << 20],
        };
        let mut parts = Parts::new();
        let full: Vec<_> = (0..7).filter_map(|_| parts.push(&frame)).collect();
        assert_eq!(full.len(), 1);
        assert_eq!(frames(&full[0]).unwrap().count(), 4);
        assert_eq!(frames(&parts.finish()).unwrap().count(), 3);
    }
}
