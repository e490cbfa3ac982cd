//! Counting what tenants store that may store so much.

use super::{Group, SealedCommit};
use crate::LedgerError;
use crate::stored::{decode, encode};

impl Group<'_> {
    /// The row of this writer's count as a commit leaves it that adds so many documents, or takes some away; `Full`
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
        room.own.plan(&room.row, own, |rest| {
            let Some(most) = room.most.filter(|_| commit.bounded && more > 0) else {
                return Ok(());
            };
            let all = [rest, own].into_iter();
            if all.fold(room.others, i64::saturating_add) > i64::try_from(most).unwrap_or(i64::MAX)
            {
                return Err(LedgerError::Full { most });
            }
            Ok(())
        })?;
        Ok(Some((room.row.clone(), encode(own))))
    }
}
