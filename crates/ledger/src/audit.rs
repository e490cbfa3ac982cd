//! The audit: checkpoints, the check of everything, proofs, and the destruction of a patient's key.

use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tlog_tiles::{Hash, record_hash};

use crate::backend::Snapshot;
use crate::plan::SCRUB_DUE;
use crate::prepare::{Salts, commitment, parts_of, seal_commit};
use crate::rows::{Header, Leaf};
use crate::tree::{Heads, Tree, prove, sha256, sha256_all};
use crate::writer::{CHECKPOINT, Request};
use crate::{
    AuditDraft, AuditReport, BrokenLeaf, Commit, DisclosedPart, Hit, InclusionProof, Ledger,
    LedgerError, Number, SHARDS, Shard, Stored, TenantId,
};

/// Leaves read at once, and checked before other tasks get their turn.
const PAGE: usize = 64;

impl Ledger {
    /// Destroys a patient's key: every version of everything sealed with it, in every copy of this
    /// store made from now on, stays unreadable. The key is overwritten in the same commit as the
    /// audit record; afterwards the store's files are rewritten where the old row still lies, which
    /// takes some 65 MB of writes. In a database the old row goes as soon as nobody looks at it any
    /// more, by itself if that takes longer than some seconds.
    ///
    /// # Errors
    /// `Storage`, `Invalid`, `UnknownTenant`, `Conflict` when the audit record's id is taken.
    pub async fn destroy_patient_key(
        &self,
        tenant: TenantId,
        patient: &str,
        audit: AuditDraft,
    ) -> Result<(), LedgerError> {
        let backend = self.backend()?;
        let subject = self.tenant_keys(tenant)?.subject_key(patient);
        let commit = Commit {
            audit: Some(audit),
            ..Commit::new(tenant)
        };
        let mut sealed = seal_commit(self.core(), &*backend, commit).await?;
        sealed.destroy = Some(subject);
        self.write(sealed, 1).await?;
        self.scrub().await
    }

    /// Removes what overwritten secrets have left behind in the store's files, if there may be any.
    pub(crate) async fn scrub(&self) -> Result<(), LedgerError> {
        let backend = self.backend()?;
        let due = backend.snapshot().meta(SCRUB_DUE)?;
        let Some(due) = due.filter(|due| !due.is_empty()) else {
            return Ok(());
        };
        let scrubbed = tokio::task::spawn_blocking(move || backend.scrub_keys()).await;
        if scrubbed.map_err(|error| LedgerError::Storage(error.to_string()))?? {
            return self.ask(1, |reply| Request::Scrubbed(due, reply)).await;
        }
        tracing::warn!(
            "something still looks at what has been overwritten; it is removed from the store's files later"
        );
        Ok(())
    }

    /// Signs a checkpoint over all trees now and keeps it; also done every second while there are
    /// new leaves, and on close.
    ///
    /// The note is in the form of C2SP `tlog-checkpoint`: origin, the number of leaves of all trees,
    /// SHA-256 of the lines that follow; then `time <unix ms>` and for each tree
    /// `<shard> <size> <root>`.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn checkpoint(&self) -> Result<String, LedgerError> {
        self.ask(1, Request::Checkpoint).await
    }

    /// Checks the whole audit: each tree, each leaf's document versions, the signed checkpoint.
    /// `progress` is told the number of leaves checked so far.
    ///
    /// # Errors
    /// `Storage`; a broken audit is a report, not an error.
    pub async fn verify_audit(
        &self,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<AuditReport, LedgerError> {
        let snapshot = self.backend()?.snapshot();
        let checkpoint = snapshot
            .meta(CHECKPOINT)?
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .unwrap_or_default();
        let heads = self.core().signer.verify(&checkpoint);
        let mut check = Check {
            snapshot: &*snapshot,
            report: AuditReport {
                trees: 0,
                leaves: 0,
                documents: 0,
                broken: None,
                checkpoint_ok: heads.is_some(),
                checkpoint,
            },
            versions: vec![0; usize::from(SHARDS)],
        };
        for shard in (0..SHARDS).map(Shard) {
            check.tree(shard, heads.as_ref(), progress).await?;
        }
        check.unaudited().await?;
        Ok(check.report)
    }
}

/// A leaf of an audit tree, found and ready to be proved.
#[derive(Debug, Clone)]
pub struct AuditLeaf {
    tenant: TenantId,
    /// The audit document of its commit.
    audit: Hit,
    shard: Shard,
    index: u64,
    record: Vec<u8>,
}

impl AuditLeaf {
    /// Whose it is.
    #[must_use]
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }
}

impl Ledger {
    /// The leaf of an audit document, by the document's place; `None` when no audit document of the
    /// tenant lies there.
    ///
    /// # Errors
    /// `Damaged`, `Storage`.
    pub async fn audit_leaf(
        &self,
        tenant: TenantId,
        audit: Hit,
    ) -> Result<Option<AuditLeaf>, LedgerError> {
        self.is_for(tenant)?;
        let found = find_leaf(&*self.backend()?.snapshot(), tenant, audit)?;
        Ok(found.map(|(index, record)| AuditLeaf {
            tenant,
            audit,
            shard: audit.shard,
            index,
            record,
        }))
    }

    /// A leaf by its place in its tree; `None` when the tree has none there.
    ///
    /// # Errors
    /// `Damaged`, `Storage`.
    pub async fn leaf_at(
        &self,
        shard: Shard,
        index: u64,
    ) -> Result<Option<AuditLeaf>, LedgerError> {
        let Some(record) = self.backend()?.snapshot().leaf(shard, index)? else {
            return Ok(None);
        };
        let leaf = Leaf::decode(&record)?;
        Ok(Some(AuditLeaf {
            tenant: leaf.tenant,
            audit: leaf.audit,
            shard,
            index,
            record,
        }))
    }

    /// A leaf's audit document, and whose it is; `None` when it isn't there.
    ///
    /// # Errors
    /// `Damaged`, `Storage`.
    pub async fn leaf_document(
        &self,
        leaf: &AuditLeaf,
    ) -> Result<Option<(TenantId, Stored)>, LedgerError> {
        let stored = self.fetch(leaf.tenant, leaf.audit).await?;
        Ok(stored.map(|stored| (leaf.tenant, stored)))
    }

    /// A proof that a leaf is in its shard's tree, against the newest checkpoint; a newer one is
    /// signed if the leaf is not under it yet.
    ///
    /// # Errors
    /// `Damaged`, `Storage`.
    pub async fn prove(&self, leaf: &AuditLeaf) -> Result<InclusionProof, LedgerError> {
        let signer = &self.core().signer;
        let stored = self
            .backend()?
            .snapshot()
            .meta(CHECKPOINT)?
            .and_then(|bytes| String::from_utf8(bytes).ok());
        let covers = |text: &str| {
            signer
                .verify(text)?
                .of(leaf.shard)
                .filter(|(size, _)| *size > leaf.index)
        };
        let (checkpoint, (size, root)) =
            match stored.and_then(|text| covers(&text).map(|head| (text, head))) {
                Some(covering) => covering,
                None => {
                    let text = self.checkpoint().await?;
                    let head = covers(&text).ok_or_else(|| {
                        LedgerError::Damaged("a leaf is not under its checkpoint".into())
                    })?;
                    (text, head)
                }
            };
        let snapshot = self.backend()?.snapshot();
        let path =
            |(size, root)| prove(&*snapshot, leaf.shard, size, leaf.index, &leaf.record, root);
        let witnessed = self
            .newest_witnessed(&*snapshot, leaf.shard)?
            .filter(|witnessed| witnessed.head.0 > leaf.index);
        let tlog_proof = match witnessed {
            Some(witnessed) => tlog_proof(leaf, &path(witnessed.head)?, &witnessed.note),
            None => tlog_proof(
                leaf,
                &path((size, root))?,
                &signer.sign_log(leaf.shard, (size, root))?,
            ),
        };
        let text = |hash: Hash| STANDARD.encode(hash.0);
        Ok(InclusionProof {
            shard: leaf.shard.0,
            leaf_index: leaf.index,
            tree_size: size,
            leaf_hash: text(record_hash(&leaf.record)),
            leaf_record: STANDARD.encode(&leaf.record),
            root_hash: text(root),
            path: path((size, root))?.into_iter().map(text).collect(),
            checkpoint,
            verifier_key: signer.verifier_key(),
            tlog_proof,
            log_verifier_key: signer.log_verifier_key(leaf.shard),
        })
    }

    /// The text of a leaf's audit document as the leaf commits to it: the parts to whose text `shown`
    /// says yes, and the rest; of the others only what proves that they are left
    /// out. `parts` are those that the document was written with. `None` when it was written before
    /// leaves committed to texts.
    ///
    /// # Errors
    /// `Damaged` when the text is not the one that the leaf commits to, `Invalid` when `parts` do not
    /// fit, `Storage`.
    pub async fn disclose(
        &self,
        leaf: &AuditLeaf,
        parts: impl FnOnce(&[u8]) -> Vec<Range<usize>>,
        shown: impl Fn(&str) -> bool,
    ) -> Result<Option<Vec<DisclosedPart>>, LedgerError> {
        let core = self.core();
        let keys = self.tenant_keys(leaf.tenant)?;
        let Some(committed) = Leaf::decode(&leaf.record)?.commitment else {
            return Ok(None);
        };
        let missing = || {
            LedgerError::Damaged(format!(
                "audit document {}/{} is missing",
                leaf.audit.shard, leaf.audit.number.0
            ))
        };
        let backend = self.backend()?;
        let row = backend.snapshot().document(leaf.audit)?;
        let stored_by = Header::decode(&row.ok_or_else(missing)?)?.0.key_version;
        let stored = self.fetch(leaf.tenant, leaf.audit).await?;
        let stored = stored.ok_or_else(missing)?;
        let texts = parts_of(&stored.body, &parts(&stored.body))
            .ok_or(LedgerError::Invalid("the parts do not fit the record"))?;
        let sealing = core.sealing_keys(&*backend, &keys, stored_by)?;
        let salts = Salts::of(&sealing, &keys.head_key(stored.kind, &stored.id));
        if commitment(&salts, &texts) != committed {
            return Err(LedgerError::Damaged(
                "an audit document's text is not the one that its leaf commits to".into(),
            ));
        }
        let disclosed = texts.iter().enumerate().map(|(part, text)| {
            if part == 0 || shown(text) {
                DisclosedPart::Shown {
                    text: text.clone().into_owned(),
                    salt: STANDARD.encode(salts.salt(part)),
                }
            } else {
                DisclosedPart::Withheld {
                    hash: STANDARD.encode(salts.hash(part, text)),
                }
            }
        });
        Ok(Some(disclosed.collect()))
    }
}

/// A proof in the form of C2SP `tlog-proof`.
fn tlog_proof(leaf: &AuditLeaf, path: &[Hash], checkpoint: &str) -> String {
    let mut text = format!(
        "c2sp.org/tlog-proof@v1\nextra {}\nindex {}\n",
        STANDARD.encode(&leaf.record),
        leaf.index
    );
    for hash in path {
        text.push_str(&STANDARD.encode(hash.0));
        text.push('\n');
    }
    text.push('\n');
    text.push_str(checkpoint);
    text
}

/// The leaf whose audit document lies at a place. Leaves of a tree are in the order of their audit
/// documents' numbers.
fn find_leaf(
    snapshot: &dyn Snapshot,
    tenant: TenantId,
    audit: Hit,
) -> Result<Option<(u64, Vec<u8>)>, LedgerError> {
    let (mut low, mut high) = (0, snapshot.tree_size(audit.shard)?);
    while low < high {
        let middle = low + (high - low) / 2;
        let record = snapshot.leaf(audit.shard, middle)?.ok_or_else(|| {
            LedgerError::Damaged(format!(
                "leaf {middle} of audit tree {} is missing",
                audit.shard
            ))
        })?;
        let leaf = Leaf::decode(&record)?;
        match leaf.audit.number.cmp(&audit.number) {
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
            std::cmp::Ordering::Equal if leaf.audit == audit && leaf.tenant == tenant => {
                return Ok(Some((middle, record)));
            }
            std::cmp::Ordering::Equal => return Ok(None),
        }
    }
    Ok(None)
}

struct Check<'a> {
    snapshot: &'a dyn Snapshot,
    report: AuditReport,
    /// Versions that the leaves of each shard vouch for.
    versions: Vec<u64>,
}

impl Check<'_> {
    fn broken(&mut self, shard: Shard, leaf: u64, reason: String) {
        if self.report.broken.is_none() {
            self.report.broken = Some(BrokenLeaf {
                shard: shard.0,
                leaf,
                reason,
            });
        }
    }

    /// Checks one tree; rows of it that the store itself can't read are a broken leaf too.
    async fn tree(
        &mut self,
        shard: Shard,
        heads: Option<&Heads>,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), LedgerError> {
        let signed = heads.and_then(|heads| heads.of(shard));
        let mut tree = Tree::default();
        match self.rebuild(shard, signed, &mut tree, progress).await {
            Ok(holds) => self.report.checkpoint_ok &= holds,
            Err(LedgerError::Damaged(what)) => {
                self.broken(shard, tree.size(), what);
                self.report.checkpoint_ok = false;
            }
            Err(error) => return Err(error),
        }
        self.report.trees += u64::from(tree.size() > 0);
        Ok(())
    }

    /// Rebuilds one tree from its leaves and compares it with what is stored; whether it is also
    /// the one that was signed.
    async fn rebuild(
        &mut self,
        shard: Shard,
        signed: Option<(u64, Hash)>,
        tree: &mut Tree,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<bool, LedgerError> {
        let mut holds = signed.is_none();
        let mut last_audit = Number(0);
        loop {
            let page = self.snapshot.leaves(shard, tree.size(), PAGE)?;
            let count = page.len();
            for (index, record) in page {
                if index != tree.size() {
                    // What follows can't be placed any more.
                    self.broken(shard, tree.size(), "the leaf is missing".into());
                    return Ok(holds);
                }
                let wrong = self.leaf(shard, &record, &mut last_audit)?;
                let mut stored_well = true;
                for (node, hash) in tree.append(record_hash(&record))? {
                    stored_well &= self.snapshot.node(shard, node)? == Some(hash.0);
                }
                let unlike = "the leaf is not the one that the stored tree has";
                let unlike = (!stored_well).then(|| unlike.to_owned());
                if let Some(reason) = wrong.or(unlike) {
                    self.broken(shard, index, reason);
                }
                if let Some((size, root)) = signed
                    && size == tree.size()
                {
                    holds = tree.root()? == root;
                }
                self.report.leaves += 1;
            }
            progress(self.report.leaves);
            if count < PAGE {
                break;
            }
            tokio::task::yield_now().await;
        }
        match signed {
            Some((size, _)) if size > tree.size() => {
                self.broken(
                    shard,
                    tree.size(),
                    format!("the leaf is missing: {size} were signed"),
                );
            }
            Some((size, _)) if !holds => {
                let reason =
                    "this leaf or an earlier one of the tree is not the one that was signed";
                self.broken(shard, size.saturating_sub(1), reason.into());
            }
            _ => {}
        }
        Ok(holds)
    }

    /// What is wrong with a leaf, if anything.
    fn leaf(
        &mut self,
        shard: Shard,
        record: &[u8],
        last_audit: &mut Number,
    ) -> Result<Option<String>, LedgerError> {
        let leaf = match Leaf::decode(record) {
            Ok(leaf) => leaf,
            Err(error) => return Ok(Some(error.to_string())),
        };
        if leaf.audit.number <= *last_audit {
            return Ok(Some("the leaf is out of order".into()));
        }
        *last_audit = leaf.audit.number;
        self.versions[usize::from(shard.0)] += leaf.numbers.len() as u64;
        let mut digests = Vec::with_capacity(leaf.numbers.len());
        for number in &leaf.numbers {
            let at = Hit {
                number: *number,
                shard,
            };
            let name = format!("{shard}/{}", number.0);
            let row = match self.snapshot.document(at) {
                Ok(Some(row)) => row,
                Ok(None) => return Ok(Some(format!("document {name} is missing"))),
                // The store's own checksum has found it first.
                Err(LedgerError::Damaged(what)) => {
                    return Ok(Some(format!("document {name} cannot be read: {what}")));
                }
                Err(error) => return Err(error),
            };
            digests.push(sha256(&row));
            if let Some(reason) = self.document(at, &leaf, &row)? {
                return Ok(Some(format!("document {name} {reason}")));
            }
            self.report.documents += 1;
        }
        if sha256_all(digests.iter()) != leaf.digest {
            let names: Vec<_> = leaf
                .numbers
                .iter()
                .map(|number| format!("{shard}/{}", number.0))
                .collect();
            return Ok(Some(format!(
                "a stored document is not the one that was written, among {}",
                names.join(", ")
            )));
        }
        if leaf.audit.shard != shard && self.snapshot.document(leaf.audit)?.is_none() {
            return Ok(Some(format!(
                "its audit document {}/{} is missing",
                leaf.audit.shard, leaf.audit.number.0
            )));
        }
        Ok(None)
    }

    /// Whether a version can still be found under its name.
    fn document(
        &self,
        at: Hit,
        leaf: &Leaf,
        row: &[u8],
    ) -> Result<Option<&'static str>, LedgerError> {
        let Ok((header, _)) = Header::decode(row) else {
            return Ok(Some("does not decode"));
        };
        if header.key.tenant != leaf.tenant {
            return Ok(Some("is another tenant's"));
        }
        let Some(head) = self.snapshot.head(&header.key)? else {
            return Ok(Some("has no newest version"));
        };
        let place = if head.version == header.version {
            Some(head.at)
        } else {
            self.snapshot.superseded(&header.key, header.version)?
        };
        Ok((place != Some(at)).then_some("is not the version that its name leads to"))
    }

    /// Looks for documents that no leaf vouches for.
    async fn unaudited(&mut self) -> Result<(), LedgerError> {
        let mut found = vec![0u64; usize::from(SHARDS)];
        let mut place = Hit {
            number: Number(0),
            shard: Shard(0),
        };
        loop {
            let page = match self.snapshot.places(place, 1024) {
                Ok(page) => page,
                // Then the leaf of what can't be read has been named, and counting is pointless.
                Err(LedgerError::Damaged(_)) if self.report.broken.is_some() => return Ok(()),
                Err(error) => return Err(error),
            };
            let Some(last) = page.last() else { break };
            place = *last;
            for hit in &page {
                if let Some(count) = found.get_mut(usize::from(hit.shard.0)) {
                    *count += 1;
                }
            }
            tokio::task::yield_now().await;
        }
        for shard in 0..SHARDS {
            let (found, vouched) = (found[usize::from(shard)], self.versions[usize::from(shard)]);
            if found > vouched {
                let size = self.snapshot.tree_size(Shard(shard))?;
                self.broken(
                    Shard(shard),
                    size,
                    format!("{} document versions have no leaf", found - vouched),
                );
            }
        }
        Ok(())
    }
}
