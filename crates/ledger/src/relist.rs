//! Tokens for documents that are there: what is to be found by something new gets its postings without a
//! version of its own.

use crate::backend::SharedStore;
use crate::outer::{LayerStates, put_on};
use crate::plan::{Rekeying, Retoken, Retokening};
use crate::prepare::DOCUMENT_TOKENS_MAX;
use crate::rows::{Header, SealedBy};
use crate::token_rotation::document;
use crate::writer::Request;
use crate::{Hit, Ledger, LedgerError, Number, TenantId, Token};

/// The most documents of one call: some ten milliseconds of the writer's time.
pub const RELISTED_MAX: usize = 256;

/// Meta rows of numbers up to which documents are known to have some token. Backups leave them out: the
/// lists that a restore makes are those of when documents were backed up.
pub(crate) const INDEXED: &str = "indexed/";

fn indexed_row(tenant: TenantId, mark: Token) -> String {
    format!("{INDEXED}{:08x}/{:016x}", tenant.0, mark.0)
}

impl Ledger {
    /// Up to which number somebody has seen all documents that are to have a token to have it
    /// ([`Ledger::note_indexed`]); zero where nobody has. A store that was restored from a backup knows
    /// nothing of it.
    ///
    /// # Errors
    /// `Damaged`, `Storage`, `Closed`.
    pub fn indexed_through(&self, tenant: TenantId, mark: Token) -> Result<Number, LedgerError> {
        let row = self.backend()?.now().meta(&indexed_row(tenant, mark))?;
        let Some(row) = row else {
            return Ok(Number(0));
        };
        let number = <[u8; 8]>::try_from(row.as_slice()).map_err(|_| {
            LedgerError::Damaged("a meta row of what is indexed does not decode".into())
        })?;
        Ok(Number(u64::from_be_bytes(number)))
    }

    /// Notes that all documents up to a number that are to have a token have it. It never falls. Durable
    /// when it returns.
    ///
    /// # Errors
    /// As [`Ledger::indexed_through`].
    pub async fn note_indexed(
        &self,
        tenant: TenantId,
        mark: Token,
        through: Number,
    ) -> Result<(), LedgerError> {
        let name = indexed_row(tenant, mark);
        let from = self.backend()?.now().meta(&name)?;
        if self.indexed_through(tenant, mark)? >= through {
            return Ok(());
        }
        // Whoever was faster has seen as much, or the next look sees it again.
        let rekeying = Rekeying {
            rows: Vec::new(),
            position: Some((name, from, through.0.to_be_bytes().to_vec())),
        };
        let done = self.ask(1, |reply| Request::Rekey(rekeying, reply)).await;
        done.map(drop)
    }

    /// Adds tokens to newest versions of documents, all in one batch. Those that were superseded or
    /// deleted meanwhile, which nobody finds any more, are passed over; their successors were written
    /// with what their writer knew. Durable when it returns.
    ///
    /// Gives back those that got nothing, as they would have more than [`DOCUMENT_TOKENS_MAX`] with it;
    /// `None` when nothing was done because a rotation of the tenant's token keys is under way, or has
    /// begun meanwhile: it moves lists as it found them. Ask again later.
    ///
    /// # Errors
    /// `Invalid` for more than [`RELISTED_MAX`] documents and for a store that is spread over Citus,
    /// `UnknownTenant`, `Damaged`, `Storage`, `Closed`.
    pub async fn add_tokens(
        &self,
        tenant: TenantId,
        documents: &[(Hit, Vec<Token>)],
    ) -> Result<Option<Vec<Hit>>, LedgerError> {
        if documents.len() > RELISTED_MAX {
            return Err(LedgerError::Invalid(
                "tokens are added to at most 256 documents at a time",
            ));
        }
        if self.is_spread()? {
            return Err(LedgerError::Invalid(
                "documents of a store on Citus get no more tokens: it has no one moment over its servers",
            ));
        }
        let core = self.core();
        let keys = self.tenant_keys(tenant)?;
        let mut full = Vec::new();
        let retokening = {
            let backend = self.backend()?;
            let snapshot = backend.snapshot();
            let state = LayerStates::read(&*snapshot)?.of(tenant);
            if state.moving.is_some() {
                return Ok(None);
            }
            let layer = core.layer(&*snapshot, tenant, state.version)?;
            let mut rows = Vec::with_capacity(documents.len());
            for (at, more) in documents {
                let listed = snapshot.posted(*at)?;
                if listed.is_empty() {
                    continue;
                }
                let row = document(&*snapshot, *at)?;
                let (header, _) = Header::decode(&row)?;
                if header.key.tenant != tenant || header.sealed_by == SealedBy::Audit {
                    return Err(LedgerError::Invalid(
                        "tokens are added to a tenant's own documents, and not to audit records",
                    ));
                }
                let mut tokens = listed.clone();
                tokens.extend(more.iter().map(|token| put_on(&layer, *token)));
                tokens.sort_unstable();
                tokens.dedup();
                if tokens.len() == listed.len() {
                    continue;
                }
                if tokens.len() > DOCUMENT_TOKENS_MAX {
                    full.push(*at);
                    continue;
                }
                rows.push(Retoken {
                    at: *at,
                    key: Some(self.name_of(&*backend, &keys, *at, &header, &row)?),
                    listed,
                    tokens,
                });
            }
            Retokening {
                tenant,
                from: state,
                to: state,
                rows,
                metas: Vec::new(),
            }
        };
        if retokening.rows.is_empty() {
            return Ok(Some(full));
        }
        let done = self
            .ask(64, |reply| Request::Retoken(retokening, reply))
            .await?;
        Ok(done.then_some(full))
    }

    /// Whether the store is spread over the servers of a Citus cluster, which have no one moment: there
    /// documents can't get more tokens, nor token keys rotate.
    ///
    /// # Errors
    /// `Closed`.
    pub fn is_spread(&self) -> Result<bool, LedgerError> {
        Ok((self.backend()?.shared()).is_some_and(SharedStore::is_spread))
    }
}
