//! Who looked at a patient's record: the audit without what the patient did themselves.

use fhir::ResourceType;
use fhir::search::SearchQuery;
use ledger::Number;

use super::part::is_plain;
use super::{Ahead, Hidden, SearchPage, Vault};
use crate::{Action, Permit, TrustError, audit, tokens};

/// Records opened for one page: those of the patient's own acts that programs of before wrote have no token by which
/// they could be left out. Opening one takes about 10 µs.
const OPENED_MAX: usize = if cfg!(test) { 8 } else { 1000 };
/// Hits asked for beyond a page.
const MORE: usize = 1;

impl Vault {
    /// Searches the audit as [`Vault::search`], newest first, below `before`, without what the patient whom the permit
    /// is limited to did themselves, by no application. A page may have fewer rows than were asked
    /// for and a next one all the same. Audited as one leaf that lists the rows.
    ///
    /// # Errors
    /// As [`Vault::search`]; `Invalid` where the permit is not limited to a patient, or the query is not one of
    /// `AuditEvent` that is answered newest first by the rows' own content.
    pub async fn search_others_acts(
        &self,
        permit: &Permit,
        query: &SearchQuery,
        before: Option<Number>,
    ) -> Result<SearchPage, TrustError> {
        self.require(permit, Action::Search, query.kind).await?;
        let invalid = |words: &str| TrustError::Invalid(words.to_owned());
        let Some(patient) = permit.only_patient() else {
            return Err(invalid("whose acts are left out isn't said"));
        };
        if query.kind != ResourceType::AuditEvent || !is_plain(query) {
            return Err(invalid("this isn't a plain search of the audit"));
        }
        let mut hidden = Hidden::default();
        let queries = std::slice::from_ref(query);
        self.require_shown(permit, queries).await?;
        let view = self.listing_of(permit, queries, before.is_none())?;
        let mut plan = self.plan(permit, query);
        let tenant = permit.tenant();
        tokens::leave_out_own_acts(&mut plan, self.ledger(), tenant, patient);
        let mut page = SearchPage {
            rows: Vec::new(),
            next: None,
            total: None,
            as_of: Number::default(),
            moved: false,
            included: Vec::new(),
            bytes: 0,
            candidates: 0,
        };
        let mut place = match (plan.before, before) {
            (Some(top), Some(before)) => Some(top.min(before)),
            (top, before) => top.or(before),
        };
        let wanted = query.count + MORE;
        'pages: loop {
            let hits = view
                .search(tenant, &plan.query, place, plan.since, wanted)
                .await?;
            let mut ahead = Ahead::default();
            for (position, hit) in hits.iter().enumerate() {
                if page.rows.len() >= query.count || page.candidates >= OPENED_MAX {
                    page.next = place;
                    break 'pages;
                }
                page.candidates += 1;
                if page.candidates.is_multiple_of(wanted) {
                    tokio::task::yield_now().await;
                }
                place = Some(hit.number);
                let stored = ahead.first_of(&view, tenant, &hits[position..]).await?;
                let seen = self
                    .seen(&view, permit, (queries, None), stored, Some(&mut hidden))
                    .await?;
                // The token may be of another patient, and what was written before has none.
                page.rows.extend(
                    seen.map(|(row, _)| row)
                        .filter(|row| !audit::is_own_act(&row.resource, patient)),
                );
            }
            if hits.len() < wanted {
                break;
            }
        }
        if page.next.is_some() {
            page.as_of = view.as_of().await?;
        }
        drop(view);
        let mut pages = self.record_pages(permit, &[query], vec![page]).await?;
        pages
            .pop()
            .ok_or_else(|| TrustError::Damaged("a page was lost".to_owned()))
    }
}
