//! Everything of a tenant, for an operator who takes it out of the store for the organisation that it is of.
//! Consents hide nothing of it: the organisation is told nothing that it does not have, and its patients'
//! consents go with it.

use fhir::ResourceType;
use ledger::{Hit, Kind, Ledger, LedgerError, Number, Query, Shard, Stored, TenantId, View};
use serde_json::Value;

use super::search::PAGE_BYTES_MAX;
use super::{Taken, Vault, Versioned, fetch_in, kinds, open};
use crate::{Action, Permit, Refusal, Role, TrustError, tokens};

/// The part of Cairn that takes everything.
pub const EXPORTER: &str = "tenant-exporter";
/// Resources of one page.
const PAGE: usize = 500;

/// Versions looked at for one page of what was there before.
const VERSIONS: usize = 2_000;

/// A version that is no longer the newest one of something living.
#[derive(Debug)]
pub struct EarlierVersion {
    /// The version.
    pub row: Versioned,
    /// Whether it made the resource, or made it anew after a deletion.
    pub made: bool,
}

/// A page of what was there before.
#[derive(Debug, Default)]
pub struct EarlierPage {
    /// Newest first, of all types.
    pub rows: Vec<EarlierVersion>,
    /// Behind which place it goes on, if it does.
    pub next: Option<Hit>,
    /// Versions of any kind, newest ones too, that nobody can open any more: their patient's key was destroyed.
    pub unreadable: u64,
}

/// A document of Cairn's own, as it goes with its organisation.
#[derive(Debug)]
pub struct OwnDocument {
    /// Its id.
    pub id: String,
    /// Its version.
    pub version: u32,
    /// Where it lies.
    pub at: Hit,
    /// The patient whose it is, where it says so.
    pub patient: Option<String>,
    /// What is told of it.
    pub content: Value,
}

/// A page of documents of Cairn's own.
#[derive(Debug, Default)]
pub struct OwnPage {
    /// Newest first.
    pub rows: Vec<OwnDocument>,
    /// Below which number it goes on, if it does.
    pub next: Option<Number>,
}

/// What a tenant has at one moment.
pub struct Whole {
    ledger: Ledger,
    tenant: TenantId,
    view: View,
}

impl Vault {
    /// Everything that a tenant has now. The caller has written into the audit that it is taken.
    ///
    /// # Errors
    /// `Refused` when the permit is not the exporter's; `Ledger`.
    pub fn everything(&self, permit: &Permit) -> Result<Whole, TrustError> {
        let agent = permit.agent();
        let ours = agent.role == Role::System && agent.id == EXPORTER;
        if !ours || permit.action() != Action::Export {
            return Err(TrustError::Refused(Refusal {
                reason: "everything of an organisation is for its operator alone".to_owned(),
                because: Vec::new(),
            }));
        }
        Ok(Whole {
            ledger: self.ledger().clone(),
            tenant: permit.tenant(),
            view: self.ledger().view()?,
        })
    }
}

impl Whole {
    /// The newest versions of living resources of a type, newest first, below a number, and the number to go on
    /// below; `None` at the end.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn page(
        &self,
        kind: ResourceType,
        before: Option<Number>,
    ) -> Result<(Vec<Versioned>, Option<Number>), TrustError> {
        let (tenant, view) = (self.tenant, &self.view);
        let query = Query::Token(self.ledger.kind_token(tenant, tokens::kind(kind)));
        let hits = view.search(tenant, &query, before, None, PAGE).await?;
        let mut rows = Vec::with_capacity(hits.len());
        for hit in &hits {
            // `None`: its patient's key was destroyed.
            if let Some(stored) = fetch_in(view, tenant, *hit).await? {
                rows.push(open(&stored)?);
            }
        }
        // No two documents have one number.
        let next = hits
            .last()
            .filter(|_| hits.len() == PAGE)
            .map(|hit| hit.number);
        Ok((rows, next))
    }

    /// What was there before: each version of a resource that another followed, and each deletion that was the last
    /// word, so that with the newest versions of what lives there is every version once. The audit has one version of
    /// each. From the newest on, or behind a place.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn earlier(&self, behind: Option<Hit>) -> Result<EarlierPage, TrustError> {
        let (tenant, view) = (self.tenant, &self.view);
        let newest = Hit {
            number: Number(u64::MAX),
            shard: Shard(u16::MAX),
        };
        let facts = view
            .past(
                tenant,
                behind.unwrap_or(newest),
                Number(0),
                VERSIONS,
                usize::MAX,
                |_| true,
            )
            .await?;
        let mut page = EarlierPage {
            next: facts.next,
            ..EarlierPage::default()
        };
        let mut rest = facts.events.as_slice();
        let (mut bytes, mut last) = (0, None);
        while !rest.is_empty() {
            if bytes >= PAGE_BYTES_MAX {
                // What was found behind the last one is found again.
                page.next = last;
                break;
            }
            let some = view.fetch_past(tenant, rest).await?;
            last = rest.get(some.len().saturating_sub(1)).map(|fact| fact.at);
            rest = rest.get(some.len()..).unwrap_or_default();
            for past in some {
                let past = match past {
                    Err(LedgerError::KeyDestroyed) => {
                        page.unreadable += 1;
                        continue;
                    }
                    past => past?,
                };
                let stored = past.stored;
                bytes += stored.body.len();
                let is_resource = ResourceType::from_code(stored.kind.0).is_some();
                if is_resource && (stored.deleted || past.followed.is_some()) {
                    let made = self.made(&stored).await?;
                    let row = open(&stored)?;
                    page.rows.push(EarlierVersion { row, made });
                }
            }
            tokio::task::yield_now().await;
        }
        Ok(page)
    }

    /// Whether a version made its resource.
    async fn made(&self, stored: &Stored) -> Result<bool, TrustError> {
        if stored.deleted || stored.version == 1 {
            return Ok(!stored.deleted);
        }
        let (kind, id) = (stored.kind, &stored.id);
        let before = self.view.version(self.tenant, kind, id, stored.version - 1);
        match before.await {
            // It was another patient's then, whose key was destroyed: there was something.
            Err(LedgerError::KeyDestroyed) => Ok(false),
            before => Ok(before?.is_none_or(|before| before.deleted)),
        }
    }

    /// What is told of the people or systems of a list, below a number.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn people(
        &self,
        list: &Taken,
        before: Option<Number>,
    ) -> Result<OwnPage, TrustError> {
        let (stored, next) = self.living(list.kind, before).await?;
        let mut page = OwnPage {
            next,
            ..OwnPage::default()
        };
        for stored in stored {
            if let Some(content) = list.of(&content(&stored, &stored.body)?) {
                page.rows.push(OwnDocument {
                    id: stored.id,
                    version: stored.version,
                    at: stored.at,
                    patient: None,
                    content,
                });
            }
        }
        Ok(page)
    }

    /// Documents of the journeys, below a number, whole as they are kept.
    ///
    /// # Errors
    /// `Invalid` for kinds that belong to identity; `Ledger`, `Damaged`.
    pub async fn own(&self, kind: Kind, before: Option<Number>) -> Result<OwnPage, TrustError> {
        if kinds::OF_IDENTITY.contains(&kind) {
            return Err(TrustError::Invalid(
                "documents of identity have secrets, and are not taken whole".to_owned(),
            ));
        }
        let (stored, next) = self.living(kind, before).await?;
        let mut page = OwnPage {
            next,
            ..OwnPage::default()
        };
        for stored in stored {
            // The owner's line stands before the body, see `internal.rs`.
            let end = stored.body.iter().position(|byte| *byte == b'\n');
            let damaged = || TrustError::Damaged(format!("document {} names no owner", stored.id));
            let (owner, body) = stored.body.split_at(end.ok_or_else(damaged)?);
            let owner = std::str::from_utf8(owner).map_err(|_| damaged())?;
            let (patient, content) = (
                (!owner.is_empty()).then(|| owner.to_owned()),
                content(&stored, body)?,
            );
            page.rows.push(OwnDocument {
                id: stored.id,
                version: stored.version,
                at: stored.at,
                patient,
                content,
            });
        }
        Ok(page)
    }

    /// The living documents of a kind, below a number; those whose key was destroyed are left out, and counted where
    /// all versions are gone through.
    async fn living(
        &self,
        kind: Kind,
        before: Option<Number>,
    ) -> Result<(Vec<Stored>, Option<Number>), TrustError> {
        let (tenant, view) = (self.tenant, &self.view);
        let query = Query::Token(self.ledger.kind_token(tenant, kind));
        let hits = view.search(tenant, &query, before, None, PAGE).await?;
        let mut found = Vec::with_capacity(hits.len());
        for hit in &hits {
            let stored = fetch_in(view, tenant, *hit).await?;
            found.extend(stored.filter(|stored| stored.kind == kind && !stored.deleted));
        }
        let next = hits.last().filter(|_| hits.len() == PAGE);
        Ok((found, next.map(|hit| hit.number)))
    }

    /// The number that this is of: what was written up to it is in.
    ///
    /// # Errors
    /// `Ledger`.
    pub async fn as_of(&self) -> Result<Number, TrustError> {
        Ok(self.view.as_of().await?)
    }
}

fn content(stored: &Stored, body: &[u8]) -> Result<Value, TrustError> {
    // The parser's own words may hold a patient's.
    serde_json::from_slice(body).map_err(|_| {
        TrustError::Damaged(format!(
            "document {} of kind {} does not parse",
            stored.id, stored.kind.0
        ))
    })
}
