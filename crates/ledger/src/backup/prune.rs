//! Removing old chains of backups from their place.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::manifest::{Manifest, name_of};
use super::secrets::KEYS_ENDING;
use super::target::BackupTarget;
use crate::keys::Secret;
use crate::redo::chain_row;
use crate::writer::Request;
use crate::{Ledger, LedgerError};

/// How the name of a file of a segment ends.
pub(super) const SEGMENT_ENDING: &str = ".segment";
/// Digits of a chain's name.
const CHAIN_DIGITS: usize = 16;

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// The chains, oldest first.
    pub chains: Vec<String>,
    /// Files, those of tries that failed among them.
    pub files: u64,
}

impl Ledger {
    /// Removes all chains but the newest `keep`, and what tries that failed have left behind. A chain's
    /// manifest goes first, so that one that is cut off leaves no chain that is not whole.
    ///
    /// # Errors
    /// `Invalid` when none would be kept or a backup to the place is running, `Damaged` when the place's
    /// files are not those of this store, `Storage`, `Closed`.
    pub async fn prune_backups(
        &self,
        target: Arc<dyn BackupTarget>,
        keep: usize,
    ) -> Result<Pruned, LedgerError> {
        if keep == 0 {
            return Err(LedgerError::Invalid(
                "one chain of backups is kept at least",
            ));
        }
        let core = self.shared_core();
        let pruning = tokio::task::spawn_blocking(move || {
            let _held = target.hold()?;
            prune(&*target, &core.backup_key, keep)
        });
        let pruned = (pruning.await).map_err(|error| LedgerError::Storage(error.to_string()))??;
        if self.backend()?.shared().is_none() && !pruned.chains.is_empty() {
            // Nothing is remembered for them any more.
            let rows = pruned.chains.iter();
            let rows = rows.map(|chain| (chain_row(chain), Vec::new())).collect();
            self.ask(1, |reply| Request::Meta(rows, reply)).await?;
            self.trim_redo().await?;
        }
        Ok(pruned)
    }
}

/// The chain that a file is of, if it is one of a segment or of keys.
fn chain_of(name: &str) -> Option<&str> {
    let stem = (name.strip_suffix(SEGMENT_ENDING)).or_else(|| name.strip_suffix(KEYS_ENDING))?;
    let (chain, _) = stem.split_once('-')?;
    let is_chain =
        chain.len() == CHAIN_DIGITS && chain.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_chain.then_some(chain)
}

fn prune(target: &dyn BackupTarget, key: &Secret, keep: usize) -> Result<Pruned, LedgerError> {
    let mut old = Manifest::all(target, key)?;
    let kept = old.split_off(old.len().saturating_sub(keep));
    let mut pruned = Pruned::default();
    for chain in old {
        target.remove(&name_of(&chain.chain))?;
        pruned.files += 1;
        pruned.chains.push(chain.chain);
    }
    let needed: BTreeSet<&str> = (kept.iter())
        .flat_map(|chain| {
            let parts = chain.parts.iter().map(|part| part.name.as_str());
            parts.chain(chain.keys.iter().map(String::as_str))
        })
        .collect();
    for name in target.list()? {
        if chain_of(&name).is_some() && !needed.contains(name.as_str()) {
            target.remove(&name)?;
            pruned.files += 1;
        }
    }
    Ok(pruned)
}

#[cfg(test)]
mod tests {
    use super::chain_of;

    #[test]
    fn only_files_of_chains_are_taken_for_some() {
        let chain = "0123456789abcdef";
        for name in ["-000001-0a0b0c0d-000000.segment", "-000001-0000.keys"] {
            assert_eq!(chain_of(&format!("{chain}{name}")), Some(chain));
        }
        for name in [
            "metas",
            "shred-list",
            "0123456789abcdef.manifest",
            "notes.keys",
            "holiday-1.segment",
            "0123456789abcdeg-000001-0000.keys",
        ] {
            assert_eq!(chain_of(name), None, "{name}");
        }
    }
}
