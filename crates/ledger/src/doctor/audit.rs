//! The check of the audit trees.

use tlog_tiles::record_hash;

use super::Doctor;
use crate::backend::Write;
use crate::rows::Leaf;
use crate::tree::{Tree, sha256, sha256_all};
use crate::writer::CHECKPOINT;
use crate::{Hit, LedgerError, Number, SHARDS, Shard};

const PAGE: usize = 256;

impl Doctor<'_> {
    /// Rebuilds each tree from its leaves: against the hashes stored, the documents, and the newest
    /// checkpoint.
    pub(super) fn trees(&mut self) -> Result<(), LedgerError> {
        let checkpoint = self.snapshot.meta(CHECKPOINT)?.unwrap_or_default();
        let signed = String::from_utf8(checkpoint).ok();
        let signed = signed.and_then(|text| self.core.signer.verify(&text));
        if signed.is_none() {
            self.damage(
                "the newest checkpoint",
                "is missing, or its signature does not hold",
            );
        }
        let mut vouched = vec![0u64; usize::from(SHARDS)];
        for shard in (0..SHARDS).map(Shard) {
            let signed = signed.as_ref().and_then(|heads| heads.of(shard));
            self.tree(shard, signed, &mut vouched[usize::from(shard.0)])?;
        }
        self.unvouched(&vouched)
    }

    fn tree(
        &mut self,
        shard: Shard,
        signed: Option<(u64, tlog_tiles::Hash)>,
        vouched: &mut u64,
    ) -> Result<(), LedgerError> {
        let name = format!("audit tree {shard}");
        let mut tree = Tree::default();
        let mut last = Number(0);
        loop {
            let page = self.snapshot.leaves(shard, tree.size(), PAGE);
            let Some(page) = self.read(&*name, page)? else {
                return Ok(());
            };
            let count = page.len();
            for (index, record) in page {
                let place = format!("leaf {index} of {name}");
                if index != tree.size() {
                    self.damage(format!("leaf {} of {name}", tree.size()), "is missing");
                    return Ok(());
                }
                self.report.leaves += 1;
                let hashes = tree.append(record_hash(&record))?;
                let mut stored_well = true;
                for (node, hash) in &hashes {
                    // One that can't be read is as good as none.
                    stored_well &= matches!(self.snapshot.node(shard, *node), Ok(Some(stored)) if stored == hash.0);
                }
                if let Some(leaf) = self.read(&*place, Leaf::decode(&record))? {
                    if leaf.audit.number <= last {
                        self.damage(&*place, "is out of order");
                    }
                    last = leaf.audit.number;
                    *vouched += leaf.numbers.len() as u64;
                    self.leaf(shard, &place, &leaf)?;
                }
                if !stored_well {
                    self.repairable(
                        &*place,
                        "the tree's hashes that are stored with it are not its",
                        "the hashes are computed from the leaves again",
                        vec![Write::Leaf {
                            shard,
                            index,
                            record,
                            nodes: hashes.into_iter().map(|(_, hash)| hash.0).collect(),
                        }],
                    );
                }
                if let Some((size, root)) = signed
                    && size == tree.size()
                    && tree.root()? != root
                {
                    self.damage(
                        &*name,
                        format!("is not the one that was signed at {size} leaves"),
                    );
                }
            }
            if count < PAGE {
                break;
            }
        }
        if let Some((size, _)) = signed
            && size > tree.size()
        {
            self.damage(
                &*name,
                format!("has {} leaves, and {size} were signed", tree.size()),
            );
        }
        Ok(())
    }

    /// A leaf against the documents that it vouches for.
    fn leaf(&mut self, shard: Shard, place: &str, leaf: &Leaf) -> Result<(), LedgerError> {
        let mut digests = Vec::with_capacity(leaf.numbers.len());
        for number in &leaf.numbers {
            let at = Hit {
                number: *number,
                shard,
            };
            let row = self.snapshot.document(at);
            match self.read(super::place_of(at), row)? {
                Some(Some(row)) => digests.push(sha256(&row)),
                Some(None) => self.damage(super::place_of(at), "is missing"),
                None => {}
            }
        }
        if digests.len() == leaf.numbers.len() && sha256_all(digests.iter()) != leaf.digest {
            self.damage(
                place,
                "one of its documents is not the one that was written",
            );
        }
        Ok(())
    }

    /// Documents that no leaf vouches for.
    fn unvouched(&mut self, vouched: &[u64]) -> Result<(), LedgerError> {
        let mut found = vec![0u64; usize::from(SHARDS)];
        let mut place = Hit {
            number: Number(0),
            shard: Shard(0),
        };
        loop {
            let page = self.snapshot.places(place, 1024);
            let Some(page) = self.read("the documents", page)? else {
                return Ok(());
            };
            let Some(last) = page.last() else { break };
            place = *last;
            for at in &page {
                match found.get_mut(usize::from(at.shard.0)) {
                    Some(count) => *count += 1,
                    None => self.damage(super::place_of(*at), "lies in a shard that there is not"),
                }
            }
        }
        for (shard, (found, vouched)) in (0..SHARDS).zip(found.iter().zip(vouched)) {
            if found > vouched {
                self.damage(
                    format!("audit tree {}", Shard(shard)),
                    format!("{} document versions have no leaf", found - vouched),
                );
            }
        }
        Ok(())
    }
}
