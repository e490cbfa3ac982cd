//! The two rows whose exact bytes matter in every backend: the stored document, because a leaf
//! commits to its hash and its header is authenticated with the body, and the leaf, because the
//! audit tree hashes it.

use crate::backend::{Blind, HeadKey, Home};
use crate::codec::{Decoder, put_varint};
use crate::{Hit, Kind, LedgerError, Number, Shard, TenantId};

/// The format of document rows that this program writes.
const DOCUMENT_FORMAT: u8 = 1;
/// The format of leaf records that this program writes. Format 1 had no commitment.
const LEAF_FORMAT: u8 = 2;

const FLAG_DELETED: u8 = 1;
const FLAG_PATIENT_KEY: u8 = 2;
const FLAG_AUDIT_KEY: u8 = 4;
const FLAG_CAUSE: u8 = 8;
const FLAG_KEY_VERSION: u8 = 16;

/// Which key seals a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SealedBy {
    /// The tenant's common data key.
    Common,
    /// The tenant's audit key.
    Audit,
    /// A patient's data key.
    Patient(Blind),
}

/// What a document row says in the clear, in front of the sealed body. All of it is associated data
/// of the seal, so no field can be changed and no body moved under another header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) key: HeadKey,
    pub(crate) kind: Kind,
    pub(crate) version: u32,
    pub(crate) deleted: bool,
    pub(crate) sealed_by: SealedBy,
    /// Version of that key, from 1.
    pub(crate) key_version: u32,
    pub(crate) cause: Option<Number>,
    /// Version of the zstd dictionary; 0 is none.
    pub(crate) dictionary: u32,
}

impl Header {
    /// format u8, flags u8, tenant, kind, version, dictionary (variable), the key's version (variable)
    /// where it is not the first, blind id 16, then the blind subject (16) and the cause (8) where the
    /// flags say so.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        out.push(DOCUMENT_FORMAT);
        let mut flags = 0;
        if self.deleted {
            flags |= FLAG_DELETED;
        }
        match self.sealed_by {
            SealedBy::Common => {}
            SealedBy::Audit => flags |= FLAG_AUDIT_KEY,
            SealedBy::Patient(_) => flags |= FLAG_PATIENT_KEY,
        }
        if self.cause.is_some() {
            flags |= FLAG_CAUSE;
        }
        if self.key_version != 1 {
            flags |= FLAG_KEY_VERSION;
        }
        out.push(flags);
        put_varint(&mut out, u64::from(self.key.tenant.0));
        put_varint(&mut out, u64::from(self.kind.0));
        put_varint(&mut out, u64::from(self.version));
        put_varint(&mut out, u64::from(self.dictionary));
        if self.key_version != 1 {
            put_varint(&mut out, u64::from(self.key_version));
        }
        out.extend_from_slice(&self.key.id);
        if let SealedBy::Patient(subject) = self.sealed_by {
            out.extend_from_slice(&subject);
        }
        if let Some(cause) = self.cause {
            out.extend_from_slice(&cause.0.to_be_bytes());
        }
        out
    }

    /// The header of a row, and its length.
    pub(crate) fn decode(row: &[u8]) -> Result<(Self, usize), LedgerError> {
        let mut decoder = Decoder::new(row, "document");
        let format = decoder.u8()?;
        if format != DOCUMENT_FORMAT {
            return Err(LedgerError::Damaged(format!(
                "a document row has the unknown format {format}"
            )));
        }
        let flags = decoder.u8()?;
        let tenant = TenantId(decoder.small()?);
        let kind = Kind(decoder.small()?);
        let version = decoder.small()?;
        let dictionary = decoder.small()?;
        let key_version = if flags & FLAG_KEY_VERSION == 0 {
            1
        } else {
            decoder.small()?
        };
        let id = decoder.array()?;
        let sealed_by = match flags & (FLAG_PATIENT_KEY | FLAG_AUDIT_KEY) {
            0 => SealedBy::Common,
            FLAG_AUDIT_KEY => SealedBy::Audit,
            FLAG_PATIENT_KEY => SealedBy::Patient(decoder.array()?),
            _ => return Err(LedgerError::Damaged("a document row names two keys".into())),
        };
        let cause = if flags & FLAG_CAUSE == 0 {
            None
        } else {
            Some(Number(decoder.u64()?))
        };
        let header = Self {
            key: HeadKey {
                tenant,
                id,
                home: Home(None),
            },
            kind,
            version,
            deleted: flags & FLAG_DELETED != 0,
            sealed_by,
            key_version,
            cause,
            dictionary,
        };
        Ok((header, row.len() - decoder.remaining()))
    }
}

/// One leaf of a shard's audit tree: the document versions that one commit put into that shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leaf {
    pub(crate) tenant: TenantId,
    /// The audit document of the commit; its number says when.
    pub(crate) audit: Hit,
    /// Numbers of the versions in this shard, rising; the audit document's is the last one in its
    /// own shard.
    pub(crate) numbers: Vec<Number>,
    /// SHA-256 of the concatenated SHA-256 hashes of the stored rows, in the order of `numbers`.
    pub(crate) digest: [u8; 32],
    /// Commits to the text of the audit document, so that a proof can show it to who has no key:
    /// the rows that `digest` covers are sealed.
    pub(crate) commitment: Option<[u8; 32]>,
}

impl Leaf {
    /// format u8, tenant (variable), audit shard u16, audit number u64, count (variable), first
    /// number u64, differences to the next ones (variable), digest 32, commitment 32.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.numbers.len());
        out.push(self.commitment.map_or(1, |_| LEAF_FORMAT));
        put_varint(&mut out, u64::from(self.tenant.0));
        out.extend_from_slice(&self.audit.shard.0.to_be_bytes());
        out.extend_from_slice(&self.audit.number.0.to_be_bytes());
        put_varint(&mut out, self.numbers.len() as u64);
        let mut last = None;
        for number in &self.numbers {
            match last {
                None => out.extend_from_slice(&number.0.to_be_bytes()),
                Some(before) => put_varint(&mut out, number.0 - before),
            }
            last = Some(number.0);
        }
        out.extend_from_slice(&self.digest);
        out.extend(self.commitment.into_iter().flatten());
        out
    }

    pub(crate) fn decode(record: &[u8]) -> Result<Self, LedgerError> {
        let damaged = || LedgerError::Damaged("a leaf row does not decode".into());
        let mut decoder = Decoder::new(record, "leaf");
        let format = decoder.u8()?;
        if !(1..=LEAF_FORMAT).contains(&format) {
            return Err(LedgerError::Damaged(
                "a leaf row has an unknown format".into(),
            ));
        }
        let tenant = TenantId(decoder.small()?);
        let shard = Shard(decoder.u16()?);
        let audit = Hit {
            number: Number(decoder.u64()?),
            shard,
        };
        let count: usize = decoder.small()?;
        if count == 0 || count > decoder.remaining() {
            return Err(damaged());
        }
        let mut numbers = Vec::with_capacity(count);
        let mut number = decoder.u64()?;
        numbers.push(Number(number));
        for _ in 1..count {
            let step = decoder.varint()?;
            number = number
                .checked_add(step)
                .filter(|_| step > 0)
                .ok_or_else(damaged)?;
            numbers.push(Number(number));
        }
        let digest = decoder.array()?;
        let commitment = (format > 1).then(|| decoder.array()).transpose()?;
        decoder.end()?;
        Ok(Self {
            tenant,
            audit,
            numbers,
            digest,
            commitment,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(sealed_by: SealedBy, cause: Option<Number>, deleted: bool) -> Header {
        Header {
            key: HeadKey {
                tenant: TenantId(300),
                id: [7; 16],
                home: Home(None),
            },
            kind: Kind(1003),
            version: 70_000,
            deleted,
            sealed_by,
            key_version: 1,
            cause,
            dictionary: 2,
        }
    }

    #[test]
    fn headers_come_back_and_say_their_length() {
        for sealed_by in [
            SealedBy::Common,
            SealedBy::Audit,
            SealedBy::Patient([9; 16]),
        ] {
            for cause in [None, Some(Number(u64::MAX))] {
                for deleted in [false, true] {
                    for key_version in [1, 2, 300] {
                        let header = Header {
                            key_version,
                            ..header(sealed_by, cause, deleted)
                        };
                        let mut row = header.encode();
                        let length = row.len();
                        row.extend_from_slice(b"sealed");
                        assert_eq!(Header::decode(&row).unwrap(), (header, length));
                    }
                }
            }
        }
    }

    #[test]
    fn cut_headers_are_damage() {
        let row = Header {
            key_version: 300,
            ..header(SealedBy::Patient([9; 16]), Some(Number(1)), false)
        }
        .encode();
        for length in 0..row.len() {
            assert!(
                matches!(Header::decode(&row[..length]), Err(LedgerError::Damaged(_))),
                "{length}"
            );
        }
    }

    #[test]
    fn leaves_come_back() {
        for numbers in [vec![5], vec![5, 6, 7], vec![1, 1 << 40, u64::MAX]] {
            let leaf = Leaf {
                tenant: TenantId(1),
                audit: Hit {
                    number: Number(*numbers.last().unwrap()),
                    shard: Shard(255),
                },
                numbers: numbers.into_iter().map(Number).collect(),
                digest: [3; 32],
                commitment: Some([4; 32]),
            };
            assert_eq!(Leaf::decode(&leaf.encode()).unwrap(), leaf);
            let leaf = Leaf {
                commitment: None,
                ..leaf
            };
            assert_eq!(Leaf::decode(&leaf.encode()).unwrap(), leaf);
        }
    }

    #[test]
    fn leaves_that_do_not_rise_or_are_cut_are_damage() {
        let leaf = Leaf {
            tenant: TenantId(1),
            audit: Hit {
                number: Number(9),
                shard: Shard(0),
            },
            numbers: vec![Number(8), Number(9)],
            digest: [3; 32],
            commitment: Some([4; 32]),
        };
        let record = leaf.encode();
        for length in 0..record.len() {
            assert!(Leaf::decode(&record[..length]).is_err(), "{length}");
        }
        let mut standing = record.clone();
        let step = record.len() - 65;
        assert_eq!(standing[step], 1);
        standing[step] = 0;
        assert!(Leaf::decode(&standing).is_err());
    }
}
