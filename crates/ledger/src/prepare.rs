//! What a caller does with a commit before it goes to the writer: checks it, compresses it, seals it.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use crate::backend::{Backend, HeadKey, Home, OutboxRow, SubjectKey};
use crate::codec::{Decoder, put_varint};
use crate::data_keys::DataKey;
use crate::keys::{SealingKeys, Secret, TenantKeys, derive_for};
use crate::leases::relied_on;
use crate::plan::{SealedCommit, SealedDocument};
use crate::rows::{Header, SealedBy};
use crate::seal::{MAX_BODY_BYTES, MAX_ID_BYTES, open, seal};
use crate::shared::{Core, document_key};
use crate::tree::{sha256, sha256_all};
use crate::{
    AuditDraft, Commit, Draft, Expected, LedgerError, Number, OutboxDraft, OutboxEntry, Owner,
    SHARDS, Shard, Token,
};

/// The most documents of a commit: keeps its leaf below the 64 KiB of a `tlog-tiles` entry.
const MAX_DOCUMENTS: usize = 16_384;
/// The most bytes of a commit's bodies.
const MAX_COMMIT_BYTES: usize = 64 << 20;
/// The most tokens of a document: one for each patient of the largest transaction (5,000), in the audit
/// record, and one for each image of a study of 5 MiB. Eight bytes each.
pub const DOCUMENT_TOKENS_MAX: usize = 16_384;
/// The greatest payload of a timer, bytes; it is a reference, not a document.
const MAX_TIMER_BYTES: usize = 4096;
/// The longest name of a follower, bytes.
const MAX_CONSUMER_BYTES: usize = 128;
/// Documents sealed before other tasks get their turn.
const SEALS_A_TURN: usize = 64;

const OUTBOX_FORMAT: u8 = 1;
const OUTBOX_COMMON: u8 = 0;
const OUTBOX_PATIENT: u8 = 1;
/// Added to which key it is where that key's version follows; elsewhere it is the first.
const OUTBOX_VERSION: u8 = 2;

/// Bytes that a commit brings, for its share of the queue.
pub(crate) fn weight(commit: &Commit) -> usize {
    let documents: usize = commit
        .documents
        .iter()
        .map(|draft| draft.body.len() + 8 * draft.tokens.len() + 256)
        .sum();
    let audit = commit
        .audit
        .as_ref()
        .map_or(0, |audit| audit.body.len() + 8 * audit.tokens.len() + 256);
    let outbox: usize = commit
        .outbox_add
        .iter()
        .map(|draft| draft.body.len() + 256)
        .sum();
    documents + audit + outbox
}

fn is_shard(shard: Shard) -> bool {
    shard.0 < SHARDS
}

fn check(commit: &Commit) -> Result<(), LedgerError> {
    let refuse = |wrong: bool, what: &'static str| {
        if wrong {
            Err(LedgerError::Invalid(what))
        } else {
            Ok(())
        }
    };
    refuse(
        !commit.documents.is_empty() && commit.audit.is_none(),
        "documents need an audit record",
    )?;
    refuse(
        commit.documents.len() > MAX_DOCUMENTS,
        "a commit has at most 16,384 documents",
    )?;
    refuse(
        weight(commit) > MAX_COMMIT_BYTES,
        "a commit has at most 64 MiB",
    )?;
    for draft in &commit.documents {
        refuse(
            draft.id.is_empty() || draft.id.len() > MAX_ID_BYTES,
            "an id has 1 to 64 characters",
        )?;
        refuse(
            draft.body.len() > MAX_BODY_BYTES,
            "a body has at most 16 MiB",
        )?;
        refuse(
            draft.deleted && !draft.body.is_empty(),
            "a deleted version has no body",
        )?;
        refuse(
            draft.tokens.len() > DOCUMENT_TOKENS_MAX,
            "a document has at most 16,384 search tokens",
        )?;
        refuse(
            draft.expected == Expected::Version(u32::MAX),
            "a document has too many versions",
        )?;
    }
    if let Some(audit) = &commit.audit {
        refuse(
            audit.id.is_empty() || audit.id.len() > MAX_ID_BYTES,
            "an id has 1 to 64 characters",
        )?;
        refuse(
            audit.body.len() > MAX_BODY_BYTES,
            "a body has at most 16 MiB",
        )?;
        refuse(
            audit.tokens.len() > DOCUMENT_TOKENS_MAX,
            "a document has at most 16,384 search tokens",
        )?;
        refuse(!is_shard(audit.shard), "there is no such shard")?;
        refuse(
            parts_of(&audit.body, &audit.parts).is_none(),
            "an audit record's parts rise, do not touch, and are text",
        )?;
    }
    for timer in &commit.timers_set {
        refuse(!is_shard(timer.key.shard), "there is no such shard")?;
        refuse(
            timer.payload.len() > MAX_TIMER_BYTES,
            "a timer's payload has at most 4096 bytes",
        )?;
    }
    let cleared = commit.timers_clear.iter().map(|key| key.shard);
    let removed = commit.outbox_remove.iter().map(|key| key.shard);
    refuse(
        cleared.chain(removed).any(|shard| !is_shard(shard)),
        "there is no such shard",
    )?;
    for draft in &commit.outbox_add {
        refuse(!is_shard(draft.key.shard), "there is no such shard")?;
        refuse(
            draft.body.len() > MAX_BODY_BYTES,
            "a body has at most 16 MiB",
        )?;
    }
    let is_late = |number: u64| i64::try_from(number).is_err();
    let due = (commit.timers_set.iter().map(|timer| timer.key.due_ms))
        .chain(commit.outbox_add.iter().map(|draft| draft.key.due_ms));
    refuse(due.into_iter().any(is_late), "a time is below 2^63 ms")?;
    refuse(
        commit.cause.is_some_and(|cause| is_late(cause.0)),
        "a number is below 2^63",
    )?;
    if let Some(step) = &commit.cursor {
        refuse(is_late(step.to.0), "a number is below 2^63")?;
        refuse(!is_shard(step.shard), "there is no such shard")?;
        refuse(
            step.consumer.is_empty() || step.consumer.len() > MAX_CONSUMER_BYTES,
            "a follower's name has 1 to 128 bytes",
        )?;
    }
    Ok(())
}

struct Sealing<'a> {
    core: &'a Core,
    backend: &'a dyn Backend,
    keys: &'a TenantKeys,
    /// Patients' keys in use, each once.
    used: Vec<Arc<DataKey>>,
}

impl Sealing<'_> {
    fn data_key(&mut self, patient: &str) -> Result<Arc<DataKey>, LedgerError> {
        let row = self.keys.subject_key(patient);
        if let Some(key) = self.used.iter().find(|key| key.row == row) {
            return Ok(Arc::clone(key));
        }
        let key = self.core.key_for_writing(self.backend, self.keys, row)?;
        self.used.push(Arc::clone(&key));
        Ok(key)
    }

    fn document(
        &mut self,
        draft: Draft,
        cause: Option<Number>,
    ) -> Result<SealedDocument, LedgerError> {
        let shard = self.keys.shard_of(&draft.owner, &draft.id);
        let patient;
        let (sealed_by, key_version, data_key) = match &draft.owner {
            Owner::Tenant => {
                let keys = self.keys.newest();
                (SealedBy::Common, keys.version, &keys.common)
            }
            Owner::Patient(id) => {
                patient = self.data_key(id)?;
                let (version, secret) = patient.newest();
                (SealedBy::Patient(patient.row.subject), version, secret)
            }
        };
        let mut tokens = draft.tokens;
        tokens.push(self.keys.kind_token(draft.kind));
        if draft.deleted {
            tokens.clear();
        }
        let header = Header {
            key: self.keys.head_key(draft.kind, &draft.id),
            kind: draft.kind,
            version: draft.expected.next(),
            deleted: draft.deleted,
            sealed_by,
            key_version,
            cause,
            dictionary: self.core.packer.version(Some(draft.kind)),
        };
        self.row(
            &header,
            data_key,
            &draft.id,
            &draft.body,
            shard,
            draft.expected,
            tokens,
        )
    }

    fn audit(
        &self,
        draft: AuditDraft,
        cause: Option<Number>,
    ) -> Result<SealedDocument, LedgerError> {
        let mut tokens = draft.tokens;
        tokens.push(self.keys.kind_token(draft.kind));
        let header = Header {
            key: self.keys.head_key(draft.kind, &draft.id),
            kind: draft.kind,
            version: 1,
            deleted: false,
            sealed_by: SealedBy::Audit,
            key_version: self.keys.newest().version,
            cause,
            dictionary: self.core.packer.version(Some(draft.kind)),
        };
        self.row(
            &header,
            &self.keys.newest().audit,
            &draft.id,
            &draft.body,
            draft.shard,
            Expected::Absent,
            tokens,
        )
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of a row")]
    fn row(
        &self,
        header: &Header,
        data_key: &[u8; 32],
        id: &str,
        body: &[u8],
        shard: Shard,
        expected: Expected,
        mut tokens: Vec<Token>,
    ) -> Result<SealedDocument, LedgerError> {
        let mut row = header.encode();
        let packed = self.core.packer.pack(header.dictionary, id, body)?;
        let sealed = seal(
            &document_key(data_key, header),
            &*self.core.entropy,
            &row,
            packed,
        );
        row.extend_from_slice(&sealed);
        tokens.sort_unstable();
        tokens.dedup();
        Ok(SealedDocument {
            key: header.key,
            kind: header.kind,
            shard,
            expected,
            deleted: header.deleted,
            audit: header.sealed_by == SealedBy::Audit,
            digest: sha256(&row),
            row,
            tokens,
        })
    }

    fn outbox(&mut self, draft: &OutboxDraft) -> Result<OutboxRow, LedgerError> {
        let patient;
        let mut sealed = vec![OUTBOX_FORMAT];
        let (which, subject, version, data_key) = match &draft.owner {
            Owner::Tenant => {
                let keys = self.keys.newest();
                (OUTBOX_COMMON, None, keys.version, &keys.common)
            }
            Owner::Patient(id) => {
                patient = self.data_key(id)?;
                let (version, secret) = patient.newest();
                (OUTBOX_PATIENT, Some(patient.row.subject), version, secret)
            }
        };
        if version == 1 {
            sealed.push(which);
        } else {
            sealed.push(which + OUTBOX_VERSION);
            put_varint(&mut sealed, u64::from(version));
        }
        sealed.extend(subject.into_iter().flatten());
        let dictionary = self.core.packer.version(None);
        put_varint(&mut sealed, u64::from(dictionary));
        let mut row = OutboxRow {
            key: draft.key,
            tenant: self.keys.tenant,
            channel: draft.channel,
            attempt: draft.attempt,
            sealed: Vec::new(),
        };
        let packed = self.core.packer.pack(dictionary, "", &draft.body)?;
        let associated = outbox_associated(&row, &sealed);
        let key = derive_for(data_key, b"outbox", &draft.key.id);
        sealed.extend_from_slice(&seal(&key, &*self.core.entropy, &associated, packed));
        row.sealed = sealed;
        Ok(row)
    }
}

/// Everything about an entry that is in the clear is bound to its body.
fn outbox_associated(row: &OutboxRow, header: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    out.extend_from_slice(&row.tenant.0.to_be_bytes());
    out.extend_from_slice(&row.key.shard.0.to_be_bytes());
    out.extend_from_slice(&row.key.due_ms.to_be_bytes());
    out.extend_from_slice(&row.key.id);
    out.extend_from_slice(&row.channel.to_be_bytes());
    out.extend_from_slice(&row.attempt.to_be_bytes());
    out.extend_from_slice(header);
    out
}

/// The texts of an audit document's parts; the first is the rest, with `null` for each other part.
/// `None` when the ranges do not fit.
pub(crate) fn parts_of<'a>(body: &'a [u8], parts: &[Range<usize>]) -> Option<Vec<Cow<'a, str>>> {
    let text = std::str::from_utf8(body).ok()?;
    let (mut rest, mut last) = (String::new(), 0);
    let mut texts = vec![Cow::Borrowed("")];
    for part in parts {
        if part.start < last || part.is_empty() {
            return None;
        }
        rest.push_str(text.get(last..part.start)?);
        rest.push_str("null");
        texts.push(Cow::Borrowed(text.get(part.clone())?));
        last = part.end;
    }
    rest.push_str(&text[last..]);
    texts[0] = Cow::Owned(rest);
    Some(texts)
}

/// The salts of an audit document's parts. They follow from its key, so none is stored.
pub(crate) struct Salts(Secret);

impl Salts {
    pub(crate) fn of(keys: &SealingKeys, key: &HeadKey) -> Self {
        Self(derive_for(&keys.audit, b"disclosure", &key.id))
    }

    pub(crate) fn salt(&self, part: usize) -> [u8; 32] {
        sha256_all([&self.0[..], &(part as u64).to_be_bytes()])
    }

    pub(crate) fn hash(&self, part: usize, text: &str) -> [u8; 32] {
        sha256_all([&self.salt(part)[..], text.as_bytes()])
    }
}

/// What a leaf says of its audit document's text.
pub(crate) fn commitment(salts: &Salts, parts: &[Cow<'_, str>]) -> [u8; 32] {
    let hashes = (parts.iter().enumerate()).map(|(part, text)| salts.hash(part, text));
    sha256_all(hashes.collect::<Vec<_>>())
}

/// Checks and seals a commit.
pub(crate) async fn seal_commit(
    core: &Core,
    backend: &dyn Backend,
    commit: Commit,
) -> Result<SealedCommit, LedgerError> {
    check(&commit)?;
    let drafts = (commit.documents.iter()).map(|draft| (&draft.id, &draft.tokens));
    for (id, tokens) in drafts.chain(commit.audit.iter().map(|draft| (&draft.id, &draft.tokens))) {
        core.stand_ins.check_draft(id, tokens)?;
    }
    let held = relied_on(core, &commit)?;
    let keys = core.tenant(commit.tenant)?;
    let mut sealing = Sealing {
        core,
        backend,
        keys: &keys,
        used: Vec::new(),
    };
    let mut documents = Vec::with_capacity(commit.documents.len());
    for draft in commit.documents {
        documents.push(sealing.document(draft, commit.cause)?);
        if documents.len().is_multiple_of(SEALS_A_TURN) {
            tokio::task::yield_now().await;
        }
    }
    let commitment = commit.audit.as_ref().and_then(|draft| {
        let parts = parts_of(&draft.body, &draft.parts)?;
        let key = keys.head_key(draft.kind, &draft.id);
        Some(commitment(&Salts::of(keys.newest(), &key), &parts))
    });
    let audit = commit
        .audit
        .map(|draft| sealing.audit(draft, commit.cause))
        .transpose()?;
    let outbox_add = commit
        .outbox_add
        .iter()
        .map(|draft| sealing.outbox(draft))
        .collect::<Result<_, _>>()?;
    Ok(SealedCommit {
        tenant: commit.tenant,
        documents,
        audit,
        commitment,
        timers_set: commit.timers_set,
        timers_clear: commit.timers_clear,
        outbox_add,
        outbox_remove: commit.outbox_remove,
        cursor: commit.cursor,
        cause: commit.cause,
        held,
        keys: sealing.used,
        destroy: None,
        room: core.room(commit.tenant),
        bounded: commit.bounded,
        always: commit.always,
    })
}

/// Opens an outbox entry.
pub(crate) fn open_outbox(
    core: &Core,
    backend: &dyn Backend,
    row: &OutboxRow,
) -> Result<OutboxEntry, LedgerError> {
    let keys = core.tenant(row.tenant)?;
    let mut decoder = Decoder::new(&row.sealed, "outbox");
    if decoder.u8()? != OUTBOX_FORMAT {
        return Err(LedgerError::Damaged(
            "an outbox row has an unknown format".into(),
        ));
    }
    let which = decoder.u8()?;
    let (which, version) = match which.checked_sub(OUTBOX_VERSION) {
        None => (which, 1),
        Some(which) => (which, decoder.small()?),
    };
    let data_key = match which {
        OUTBOX_COMMON => core.sealing_keys(backend, &keys, version)?.common,
        OUTBOX_PATIENT => {
            let row = SubjectKey {
                tenant: keys.tenant,
                subject: decoder.array()?,
                home: Home(None),
            };
            *core
                .key_for_reading(backend, &keys, row, version)?
                .version(version)?
        }
        _ => {
            return Err(LedgerError::Damaged(
                "an outbox row names an unknown key".into(),
            ));
        }
    };
    let dictionary = decoder.small()?;
    let (header, sealed) = row.sealed.split_at(row.sealed.len() - decoder.remaining());
    let key = derive_for(&data_key, b"outbox", &row.key.id);
    let packed = open(&key, &outbox_associated(row, header), sealed)
        .ok_or_else(|| LedgerError::Damaged("an outbox entry cannot be opened".into()))?;
    let (_, body) = core.unpack(dictionary, &packed)?;
    Ok(OutboxEntry {
        key: row.key,
        tenant: row.tenant,
        channel: row.channel,
        attempt: row.attempt,
        body,
    })
}

/// A place of a document whose head has been read: the row, and that it is the head's.
pub(crate) fn same(
    header: &Header,
    key: &HeadKey,
    version: u32,
    deleted: bool,
) -> Result<(), LedgerError> {
    if header.key == *key && header.version == version && header.deleted == deleted {
        Ok(())
    } else {
        Err(LedgerError::Damaged(
            "a document lies in another's place".into(),
        ))
    }
}
