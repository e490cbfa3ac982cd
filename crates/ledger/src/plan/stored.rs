//! Counting what tenants store that may store so much.

use super::{Group, SealedCommit};
use crate::LedgerError;
use crate::stored::{decode, encode};

impl Group<'_> {
    /// The row of this process's count as a commit leaves it that adds so many documents, or takes some away; `Full`
    /// when there would be more than may be. Nothing where they are not counted.
    pub(super) fn counted(
        &self,
        commit: &SealedCommit,
        more: i64,
    ) -> Result<Option<(String, Vec<u8>)>, LedgerError> {
        let Some(room) = commit.room.as_ref().filter(|_| more != 0) else {
            return Ok(None);
        };
        let own = decode(self.meta(&room.row)?.as_deref())?.saturating_add(more);
        if let Some(most) = room.most
            && more > 0
            && commit.bounded
            && room.others.saturating_add(own) > i64::try_from(most).unwrap_or(i64::MAX)
        {
            return Err(LedgerError::Full { most });
        }
        Ok(Some((room.row.clone(), encode(own))))
    }
}
