//! What a subscription tells of one row: as a search of whoever asked, made at that moment, by the criteria and the id.
//! That one search is the match, the decision, the cut to what the purpose needs, and the audit record.

use fhir::search::SearchQuery;
use ledger::{LedgerError, TenantId};

use super::{Subscribed, Versioned};
use crate::{Action, Freshness, Purpose, Target, Trust, TrustError};

/// What may be told.
#[derive(Debug)]
pub enum Telling {
    /// There is one for them.
    Row(Box<ToldRow>),
    /// It is not what they asked for, or not theirs to see.
    Nothing,
    /// They may not ask at all, in words for them.
    Refused(String),
    /// Who asked is let in no more.
    Nobody,
    /// The criteria are not understood any more.
    Unclear,
}

/// A row that may be told.
#[derive(Debug)]
pub struct ToldRow {
    /// As who asked may see it.
    pub row: Versioned,
    /// What goes with it.
    pub notices: Vec<String>,
    /// What for it was decided. An own purpose is what the policy folder says of it by now, and not what it said when
    /// the subscription was asked for.
    pub purpose: Purpose,
}

impl Trust {
    /// What may be told now of the row with this id. Whether the subscription is live, and may send where it does, is
    /// for who sends to look at.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`; also while a search parameter of the criteria can't be read.
    pub async fn telling(
        &self,
        tenant: TenantId,
        subscribed: &Subscribed,
        id: &str,
        request_id: &str,
    ) -> Result<Telling, TrustError> {
        let owner = self.identity().still(tenant, &subscribed.owner).await?;
        let Some(owner) = owner else {
            return Ok(Telling::Nobody);
        };
        let Some(query) = self.understood(tenant, subscribed, id).await? else {
            return Ok(Telling::Unclear);
        };
        let target = Target {
            kind: Some(query.kind),
            patient: owner.patient.clone(),
        };
        let purpose = subscribed.purpose;
        let decided = self.decide(&owner, purpose, Action::Search, target, request_id);
        let freshness = Freshness::default();
        let found = match decided.await {
            Ok(permit) => {
                let permit = permit.with(freshness.clone());
                let found = self.vault().search(&permit, &query, None).await;
                found.map(|page| (page, permit.purpose()))
            }
            Err(error) => Err(error),
        };
        match found {
            Ok((mut page, purpose)) => Ok(match page.rows.pop() {
                Some(row) => Telling::Row(Box::new(ToldRow {
                    row,
                    notices: freshness.notices(),
                    purpose,
                })),
                None => Telling::Nothing,
            }),
            // The words are those that a search would be answered with.
            Err(TrustError::Refused(refusal)) => Ok(Telling::Refused(refusal.reason)),
            // The patient's key was destroyed.
            Err(TrustError::Ledger(LedgerError::KeyDestroyed)) => Ok(Telling::Nothing),
            Err(error) => Err(error),
        }
    }

    /// What it asks for; none where a search parameter is gone.
    async fn understood(
        &self,
        tenant: TenantId,
        subscribed: &Subscribed,
        id: &str,
    ) -> Result<Option<SearchQuery>, TrustError> {
        let vault = self.vault();
        let parsed = || subscribed.query(&vault.owns(tenant), Some(id)).ok();
        if let Some(query) = parsed() {
            return Ok(Some(query));
        }
        vault.refresh_owns(tenant).await?;
        match parsed() {
            None if vault.unread_definitions(tenant) > 0 => {
                let words = "a search parameter of a subscription can't be read";
                Err(TrustError::Damaged(words.to_owned()))
            }
            query => Ok(query),
        }
    }
}
