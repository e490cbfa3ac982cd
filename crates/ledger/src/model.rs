//! The words of the ledger's interface.

use std::fmt;
use std::ops::Range;

/// How many logical shards a store has. Fixed for the life of a store, because the shard of an
/// owner is a hash modulo this number; 256 leaves twenty shards for each of a dozen nodes.
pub const SHARDS: u16 = 256;

/// A tenant: an organisation whose records, keys and rules are its own.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct TenantId(pub u32);

/// What kind of document a row holds. FHIR resource types take 1–999, Cairn's own kinds 1000 and up.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct Kind(pub u16);

/// A logical shard, 0 to [`SHARDS`] − 1.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct Shard(pub u16);

/// Hybrid time: milliseconds since the Unix epoch in the upper 44 bits, a counter in the lower 20.
/// Strictly increasing in a store, so it is at once a document's sequence number, its
/// `meta.lastUpdated` and its place in the feed.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Default,
    serde::Serialize,
    serde::Deserialize,
)]
pub struct Number(pub u64);

impl Number {
    /// Bits of the counter.
    pub const COUNTER_BITS: u32 = 20;
    /// The first number of the millisecond `unix_ms`; of the last there is, in 2527, for all after it.
    #[must_use]
    pub fn at_ms(unix_ms: u64) -> Self {
        Self(unix_ms.min(u64::MAX >> Self::COUNTER_BITS) << Self::COUNTER_BITS)
    }
    /// The millisecond that this number was given in.
    #[must_use]
    pub fn unix_ms(self) -> u64 {
        self.0 >> Self::COUNTER_BITS
    }
}

/// A keyed search token: says that a document has a value, without saying which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub u64);

/// To whom a document belongs; decides its shard and the key that seals it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Owner {
    /// A patient, by the id of the `Patient` resource: the patient's shard, the patient's key.
    Patient(String),
    /// Nobody's in particular (directory, definitions, users): its own id's shard, the tenant's key.
    Tenant,
}

/// Which version must be there for a write to go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// The id must never have been used.
    Absent,
    /// The newest version (deleted or not) must be this one; the write makes the next.
    Version(u32),
}

impl Expected {
    /// The version that the write makes.
    #[must_use]
    pub fn next(self) -> u32 {
        match self {
            Self::Absent => 1,
            Self::Version(version) => version + 1,
        }
    }
}

/// A document to be written, still in the clear; [`crate::Ledger::commit`] seals it.
#[derive(Debug, Clone)]
pub struct Draft {
    /// Kind of the document.
    pub kind: Kind,
    /// Its id, 1–64 characters.
    pub id: String,
    /// Whose it is.
    pub owner: Owner,
    /// Which version must be there.
    pub expected: Expected,
    /// The body; empty when `deleted`.
    pub body: Vec<u8>,
    /// Whether this version says that the document is deleted.
    pub deleted: bool,
    /// What it can be found by; made with [`crate::Ledger::token`]. The token that stands for
    /// "every live document of this kind" is added by the ledger.
    pub tokens: Vec<Token>,
}

/// The audit record of a commit: itself a document, sealed with the tenant's audit key, and
/// committed to by one leaf of the Merkle tree of every shard that the commit touches.
#[derive(Debug, Clone)]
pub struct AuditDraft {
    /// Kind of the audit document.
    pub kind: Kind,
    /// Its id.
    pub id: String,
    /// The shard it lies in: the patient's, so that one patient's trail is in one tree.
    pub shard: Shard,
    /// The body (a FHIR `AuditEvent`).
    pub body: Vec<u8>,
    /// Byte ranges of `body`, rising and apart, that a proof can show or withhold one by one: what an
    /// event says of one patient is not for another. The leaf commits to each by itself.
    pub parts: Vec<Range<usize>>,
    /// What it can be found by.
    pub tokens: Vec<Token>,
}

/// A part of an audit document as a proof shows it. Its hash is SHA-256 over salt and text; the leaf
/// commits to SHA-256 over the hashes of all parts, in order. The first part is the rest: the body
/// with `null` in the place of each other part.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(untagged)]
pub enum DisclosedPart {
    /// Shown.
    Shown {
        /// The text.
        text: String,
        /// The salt, base64.
        salt: String,
    },
    /// Withheld; the salt keeps the text from being guessed from the hash.
    Withheld {
        /// The hash, base64.
        hash: String,
    },
}

/// Identifies one timer.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct TimerKey {
    /// The shard of the patient that the timer is for.
    pub shard: Shard,
    /// When it is due, milliseconds since the Unix epoch.
    pub due_ms: u64,
    /// Distinguishes timers of the same millisecond; chosen by the caller.
    pub id: [u8; 16],
}

/// A durable timer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timer {
    /// Its key.
    pub key: TimerKey,
    /// The tenant.
    pub tenant: TenantId,
    /// Who handles it (a context's own number).
    pub consumer: u16,
    /// Opaque reference for the consumer; must hold no patient details (ids of documents are fine).
    pub payload: Vec<u8>,
}

/// Identifies one outbox entry. The id stays when an entry is put off; only `due_ms` moves.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct OutboxKey {
    /// The shard of the patient concerned.
    pub shard: Shard,
    /// When the next attempt is due, milliseconds since the Unix epoch.
    pub due_ms: u64,
    /// The idempotency key: the same for every attempt.
    pub id: [u8; 16],
}

/// Something to be sent, still in the clear; sealed with the owner's key on commit.
#[derive(Debug, Clone)]
pub struct OutboxDraft {
    /// Its key.
    pub key: OutboxKey,
    /// Whose key seals it.
    pub owner: Owner,
    /// Which deliverer takes it (a number shared by journey and exchange).
    pub channel: u16,
    /// Attempts made so far.
    pub attempt: u32,
    /// What is to be sent.
    pub body: Vec<u8>,
}

/// An outbox entry, opened.
#[derive(Debug, Clone)]
pub struct OutboxEntry {
    /// Its key.
    pub key: OutboxKey,
    /// The tenant.
    pub tenant: TenantId,
    /// Which deliverer takes it.
    pub channel: u16,
    /// Attempts made so far.
    pub attempt: u32,
    /// What is to be sent.
    pub body: Vec<u8>,
}

/// A look at the outbox.
#[derive(Debug, Default)]
pub struct OutboxLook {
    /// Entries that are due, soonest first.
    pub entries: Vec<OutboxEntry>,
    /// Entries that are due and can't be opened, and why: damaged, or written by a newer version.
    pub unreadable: Vec<(OutboxKey, crate::LedgerError)>,
}

/// The move of a follower's position, committed together with what the follower decided.
#[derive(Debug, Clone)]
pub struct CursorMove {
    /// The follower's name.
    pub consumer: String,
    /// The shard followed.
    pub shard: Shard,
    /// Where the cursor must be.
    pub from: Number,
    /// Where it goes.
    pub to: Number,
}

/// Everything of one cause, written in one transaction or not at all.
#[derive(Debug, Clone)]
pub struct Commit {
    /// The tenant.
    pub tenant: TenantId,
    /// Documents.
    pub documents: Vec<Draft>,
    /// The audit record; required when there are documents.
    pub audit: Option<AuditDraft>,
    /// Timers to set.
    pub timers_set: Vec<Timer>,
    /// Timers to clear; clearing one that is not there is no error.
    pub timers_clear: Vec<TimerKey>,
    /// Outbox entries to add.
    pub outbox_add: Vec<OutboxDraft>,
    /// Outbox entries to remove; if one is not there the commit is refused with `Conflict`, so that
    /// two deliverers can't both settle the same entry.
    pub outbox_remove: Vec<OutboxKey>,
    /// The follower's move.
    pub cursor: Option<CursorMove>,
    /// The event that caused this commit, if one did.
    pub cause: Option<Number>,
    /// The shard that this process has to hold: the commit is part of the work on its feed, its timers or
    /// its outbox, which only the holder does. `Fenced` when another has it.
    pub held: Option<Shard>,
    /// Whether it is refused where its tenant stores as many documents as it may (`Full`). What takes documents away
    /// never is.
    pub bounded: bool,
    /// Kinds of which it may add documents even so. They are counted.
    pub always: Vec<Kind>,
}

impl Commit {
    /// An empty commit for `tenant`.
    #[must_use]
    pub fn new(tenant: TenantId) -> Self {
        Self {
            tenant,
            documents: Vec::new(),
            audit: None,
            timers_set: Vec::new(),
            timers_clear: Vec::new(),
            outbox_add: Vec::new(),
            outbox_remove: Vec::new(),
            cursor: None,
            cause: None,
            held: None,
            bounded: false,
            always: Vec::new(),
        }
    }
}

/// What a durable commit tells its caller.
#[derive(Debug, Clone)]
pub struct Receipt {
    /// For each draft, in order: where it lies and which version it became.
    pub documents: Vec<Written>,
    /// For the audit record: shard and index of its leaf in that shard's tree.
    pub leaf: Option<(Shard, u64)>,
    /// The audit document's number.
    pub audit: Option<Hit>,
}

/// One written document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Where it lies.
    pub at: Hit,
    /// The version that it became.
    pub version: u32,
}

/// The place of one document version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hit {
    /// Its number; greater is newer.
    pub number: Number,
    /// Its shard.
    pub shard: Shard,
}

/// A document version, opened.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Kind of the document.
    pub kind: Kind,
    /// Its id.
    pub id: String,
    /// Where it lies; `at.number.unix_ms()` is when it was written.
    pub at: Hit,
    /// Its version, from 1.
    pub version: u32,
    /// Whether this version says that the document is deleted.
    pub deleted: bool,
    /// The body; empty when deleted.
    pub body: Vec<u8>,
}

/// A blind query over tokens of one tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// Documents with the token.
    Token(Token),
    /// The document of this kind with this id.
    Document(Kind, String),
    /// Documents that all parts hold.
    And(Vec<Query>),
    /// Documents that some part holds.
    Or(Vec<Query>),
    /// Documents that the first holds and the second doesn't.
    Without(Box<Query>, Box<Query>),
    /// Documents below a number that the query holds for.
    Below(Number, Box<Query>),
    /// As a part of an `And`: documents that the query holds for, and maybe others. It is left out where
    /// asking it costs more than looking at what it would turn down. Elsewhere it is the query itself.
    Maybe(Box<Query>),
}

/// One event of a shard's feed. Holds no patient details.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Where the document version lies, and the event's place in the feed.
    pub at: Hit,
    /// The tenant.
    pub tenant: TenantId,
    /// Kind of the document.
    pub kind: Kind,
    /// The version written.
    pub version: u32,
    /// Whether it was a deletion.
    pub deleted: bool,
    /// The event that caused it.
    pub cause: Option<Number>,
}

/// What a part of the store takes on disk.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct StoragePart {
    /// Name of a table, or `journal`.
    pub name: String,
    /// Bytes of its files.
    pub bytes: u64,
}

/// How a check of the audit trees came out.
#[derive(Debug, Clone, serde::Serialize)]
pub struct AuditReport {
    /// Trees (shards) with at least one leaf.
    pub trees: u64,
    /// Leaves checked.
    pub leaves: u64,
    /// Document versions checked.
    pub documents: u64,
    /// The first broken leaf, if any.
    pub broken: Option<BrokenLeaf>,
    /// Whether the newest signed checkpoint is there, its signature holds and it matches the trees.
    pub checkpoint_ok: bool,
    /// The checkpoint's text (a C2SP signed note).
    pub checkpoint: String,
}

/// The first leaf that does not hold.
#[derive(Debug, Clone, serde::Serialize)]
pub struct BrokenLeaf {
    /// Shard of the tree.
    pub shard: u16,
    /// Index of the leaf.
    pub leaf: u64,
    /// What is wrong, in words.
    pub reason: String,
}

/// A proof that a leaf is in a shard's tree, in the terms of C2SP `tlog-tiles` / RFC 6962.
#[derive(Debug, Clone, serde::Serialize)]
pub struct InclusionProof {
    /// Shard of the tree.
    pub shard: u16,
    /// Index of the leaf.
    pub leaf_index: u64,
    /// Size of the tree.
    pub tree_size: u64,
    /// The leaf's record (what is hashed), base64. Its last 32 bytes commit to the audit document's
    /// text, see [`DisclosedPart`].
    pub leaf_record: String,
    /// The leaf's hash, base64.
    pub leaf_hash: String,
    /// The tree's hash, base64.
    pub root_hash: String,
    /// Hashes from the leaf to the root, base64.
    pub path: Vec<String>,
    /// The signed checkpoint (a C2SP signed note) over this tree.
    pub checkpoint: String,
    /// The key that verifies the checkpoint (C2SP verifier key).
    pub verifier_key: String,
    /// The same in the form of C2SP `tlog-proof`, for tools that know it: against the newest checkpoint
    /// of this tree's own log that enough witnesses have cosigned, if there is one that covers the
    /// leaf, else against its checkpoint of `tree_size`. `extra` is the leaf's record.
    pub tlog_proof: String,
    /// The key that verifies the checkpoint in `tlog_proof` (C2SP verifier key).
    pub log_verifier_key: String,
}

impl Shard {
    /// The shard of two hexadecimal digits, as `Display` writes it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let shard = Self(u16::from_str_radix(text, 16).ok()?);
        (shard.0 < SHARDS && shard.to_string() == text).then_some(shard)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:02x}", self.0)
    }
}
