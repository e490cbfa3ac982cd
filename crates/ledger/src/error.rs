//! What can go wrong in the store.

/// An error of the ledger. `Display` never holds patient details, so it is safe to log.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The document is not in the version that the commit expected; nothing was written.
    #[error("document is not in the expected version")]
    Conflict,
    /// A follower's cursor was not where the commit expected it; nothing was written.
    #[error("cursor of {consumer} is not where the commit expected it")]
    CursorMoved {
        /// The follower.
        consumer: String,
    },
    /// The key that sealed the document has been destroyed.
    #[error("the key of this record has been destroyed")]
    KeyDestroyed,
    /// The tenant does not exist in this store.
    #[error("unknown tenant {0}")]
    UnknownTenant(u32),
    /// A commit with documents but no audit draft, or another misuse by the caller.
    #[error("refused: {0}")]
    Invalid(&'static str),
    /// No backup holds the moment that was asked for; says which there are.
    #[error("{0}")]
    NoSuchMoment(String),
    /// A row cannot be opened or does not decode.
    #[error("store is damaged: {0}")]
    Damaged(String),
    /// The root key file is missing, unreadable, has the wrong mode or does not open this store.
    #[error("root key: {0}")]
    RootKey(String),
    /// The store under us failed (full disk, I/O). Never to be read as "absent".
    #[error("storage fault: {0}")]
    Storage(String),
    /// The commit is part of the work on a shard, and another process holds the shard; nothing was
    /// written.
    #[error("another process works on shard {0} now")]
    Fenced(crate::Shard),
    /// The tenant stores as many documents as it may; nothing was written.
    #[error("there are as many documents as there may be: {most}")]
    Full {
        /// How many there may be.
        most: u64,
    },
    /// The ledger has been closed.
    #[error("the ledger is closed")]
    Closed,
}
