//! Counting what tenants store that may store so much.

use super::{Group, SealedCommit};
use crate::LedgerError;
use crate::stored::{decode, encode};

impl Group<'_> {
    /// The row of this writer's count as a commit leaves it that adds so many documents, or takes some away; `Full`
    /// when there would be more than may be with those that it adds of kinds that are not always let in. Nothing where
    /// they are not counted.
    pub(super) fn counted(
        &self,
        commit: &SealedCommit,
        more: i64,
        asked: i64,
    ) -> Result<Option<(String, Vec<u8>)>, LedgerError> {
        let Some(room) = commit.room.as_ref().filter(|_| more != 0) else {
            return Ok(None);
        };
        let before = decode(self.meta(&room.row)?.as_deref())?;
        let own = before.saturating_add(more);
        // What is always let in may itself have made room, by going.
        let asked = asked.min(more);
        room.own.plan(&room.row, own, |rest| {
            let Some(most) = room.most.filter(|_| commit.bounded && asked > 0) else {
                return Ok(());
            };
            let all = [rest, before, asked].into_iter();
            if all.fold(room.others, i64::saturating_add) > i64::try_from(most).unwrap_or(i64::MAX)
            {
                return Err(LedgerError::Full { most });
            }
            Ok(())
        })?;
        Ok(Some((room.row.clone(), encode(own))))
    }
}
