//! What a search does, and what it costs: the plan that it goes by, and the counts of its first page.
//!
//! The search is made, under the permit that it needs and audited as what it is. Rows that this permit or
//! a patient's consent hides are in no count: a list's length, or how many candidates were opened, would
//! tell somebody who asks for a name that there is somebody of that name.

use std::collections::HashSet;

use fhir::ResourceType;
use fhir::search::{Clause, Modifier, ParameterKind, SearchQuery};
use ledger::{Hit, Number, View};

use super::links::{LINKED_MAX, OPENED_MAX};
use super::search::{CANDIDATES_MAX, TEXTS_MAX, at_first, may_begin_with_few, narrowed};
use super::sorted::SORTED_MAX;
use super::{Hidden, SearchPage, Sight, Vault, include};
use crate::{Action, Permit, TrustError, tokens};

/// How a clause is answered before each hit is checked on its opened body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// By where a row lies in the store, which has the order of time.
    Place,
    /// By this many lists of rows.
    Lists(usize),
    /// By lists whose rows are left out.
    ListsTakenAway(usize),
    /// By the check alone: no list holds what is asked for.
    Check,
    /// By the check alone: it would take this many lists, which is more than a query may read.
    TooManyLists(usize),
}

/// One clause, and how it is answered. The values stay out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The parameter.
    pub parameter: String,
    /// Its type.
    pub kind: ParameterKind,
    /// Its modifier.
    pub modifier: Option<Modifier>,
    /// How many alternatives it has.
    pub values: usize,
    /// How it is answered.
    pub way: Way,
    /// Whether not all rows were seen to be in its lists yet, of a parameter of one's own: those that aren't
    /// are opened and checked one by one.
    pub is_indexing: bool,
}

/// The steps of a search. What links lead to isn't among them: from which end a link is followed, and so
/// how much it leads to, depends on lists that have hidden rows too.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Steps {
    /// In the order in which they are asked.
    pub clauses: Vec<Step>,
    /// Whether the list of the permit's own patient is one of those that are read.
    pub within_patient: bool,
    /// So many of the newest rows are looked at before the lists of wide ranges are read.
    pub at_first: Option<usize>,
    /// A list beside others may be left out where opening what it would turn down costs less. Whether that
    /// is so isn't told, since it depends on rows that are hidden, too; the counts are without it.
    pub may_leave_out: bool,
}

impl Steps {
    /// Whether a list of clauses or of the patient narrows the search; otherwise all of the type are
    /// candidates.
    #[must_use]
    pub fn is_narrowed(&self) -> bool {
        let mut ways = self.clauses.iter().map(|step| step.way);
        self.within_patient || ways.any(|way| matches!(way, Way::Lists(_)))
    }
}

/// Rows that were opened and may be seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LookedAt {
    /// Those that match.
    pub matched: usize,
    /// Those that don't: candidates by their lists (which hold more than is asked for), turned down by
    /// the check.
    pub turned_down: usize,
}

/// Counts rows as they are opened, each once: pages overlap where a search takes several.
#[derive(Default)]
pub(super) struct Tally {
    known: HashSet<Hit>,
    looked_at: LookedAt,
}

impl Tally {
    pub(super) fn add(&mut self, at: Hit, matches: bool) {
        if !self.known.insert(at) {
            return;
        }
        if matches {
            self.looked_at.matched += 1;
        } else {
            self.looked_at.turned_down += 1;
        }
    }
}

/// A search as it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// What it read.
    pub steps: Steps,
    /// Rows of the first page.
    pub rows: usize,
    /// Whether there is a next page.
    pub more: bool,
    /// The number of all matches, where it was asked for, or where all were seen. It is exact.
    pub total: Option<usize>,
    /// What was included with the page.
    pub included: usize,
    /// To answer. `None` where values are hidden from the permit within rows that it shows: a candidate
    /// that is turned down for such a value would tell of it. `None` with links too: what is opened depends
    /// on the end from which they are followed.
    pub looked_at: Option<LookedAt>,
    /// Why it has no answer: it is too costly.
    pub too_costly: Option<String>,
}

impl Explained {
    /// The bounds of a search's work, each with its name: candidates opened, those whose words are read
    /// (`_text`, `_content`), matches sorted, resources that links lead through, resources opened to
    /// follow links, resources included.
    pub const BOUNDS: [(&'static str, usize); 6] = [
        ("candidates", CANDIDATES_MAX),
        ("words-read", TEXTS_MAX),
        ("sorted", SORTED_MAX),
        ("linked", LINKED_MAX),
        ("opened-for-links", OPENED_MAX),
        ("included", include::INCLUDED_MAX),
    ];
}

impl Vault {
    /// Makes a search, as [`Vault::search`] or [`Vault::search_sorted`] do its first page, and tells of
    /// it instead of giving its rows. Audited as that search, with the rows that it found.
    ///
    /// # Errors
    /// As [`Vault::search`], but what is too costly is told of ([`Explained::too_costly`]).
    pub async fn explain(
        &self,
        permit: &Permit,
        query: &SearchQuery,
    ) -> Result<Explained, TrustError> {
        self.require(permit, Action::Search, query.kind).await?;
        let queries = std::slice::from_ref(query);
        self.require_shown(permit, queries).await?;
        let view = self.listing_of(permit, queries, true)?;
        let mut told = Explained {
            steps: self.steps(&view, permit, query),
            rows: 0,
            more: false,
            total: None,
            included: 0,
            looked_at: None,
            too_costly: None,
        };
        let page = match self.first_page(&view, permit, query, &mut told).await {
            Ok(page) => page,
            Err(TrustError::TooCostly(words)) => {
                told.too_costly = Some(words);
                nothing()
            }
            Err(error) => return Err(error),
        };
        drop(view);
        self.record_pages(permit, &[query], vec![page]).await?;
        Ok(told)
    }

    async fn first_page(
        &self,
        view: &Sight,
        permit: &Permit,
        query: &SearchQuery,
        told: &mut Explained,
    ) -> Result<SearchPage, TrustError> {
        let mut hidden = Hidden::default();
        let asked = self.linked(view, permit, query, Some(&mut hidden)).await?;
        if query.needs_codes() {
            let mut coded = asked.query.clone().into_owned();
            // Those after them stand for links.
            coded.clauses.truncate(query.clauses.len());
            told.steps = self.steps(view, permit, &coded);
        }
        hidden.tally = Some(Tally::default());
        let mut page = if query.sort.is_empty() {
            self.scan(view, permit, &asked.query, None, Some(&mut hidden))
                .await?
        } else {
            let asked = std::slice::from_ref(&*asked.query);
            self.in_order(view, permit, (query, asked), None, &mut hidden)
                .await?
        };
        let shows_all = (query.kind != ResourceType::AuditEvent || permit.only_patient().is_none())
            && permit.in_part(query.kind).is_none();
        let tells = shows_all && !query.has_links();
        let tally = hidden.tally.take().filter(|_| tells);
        told.looked_at = tally.map(|tally| tally.looked_at);
        self.include(view, permit, query, &mut page, &mut hidden)
            .await?;
        told.rows = page.rows.len();
        told.more = page.next.is_some();
        told.total = page.total.or((!told.more).then_some(told.rows));
        told.included = page.included.len();
        Ok(page)
    }

    /// What becomes of the clauses of a query.
    fn steps(&self, view: &View, permit: &Permit, query: &SearchQuery) -> Steps {
        let mut steps = Steps {
            clauses: Vec::with_capacity(query.clauses.len()),
            within_patient: narrowed(permit, query.kind).is_some(),
            at_first: None,
            may_leave_out: false,
        };
        let plan = self.plan_told(permit, query, |clause, way| {
            steps.clauses.push(Step {
                parameter: clause.parameter.clone(),
                kind: clause.kind,
                modifier: clause.modifier,
                values: clause.operands.len(),
                way,
                is_indexing: clause.own.as_ref().is_some_and(|own| own.through() == 0),
            });
        });
        let first = at_first(view, permit.tenant(), query, &plan, true);
        steps.at_first = first.map(|first| first.rows);
        let beside_others = tokens::looser(&plan.query).is_some();
        steps.may_leave_out = beside_others && may_begin_with_few(view, query, &plan);
        steps
    }

    fn plan_told(
        &self,
        permit: &Permit,
        query: &SearchQuery,
        told: impl FnMut(&Clause, Way),
    ) -> tokens::Plan {
        let patient = narrowed(permit, query.kind);
        let left = tokens::QUERY_TOKENS_MAX;
        tokens::plan_told(self.ledger(), permit.tenant(), query, patient, left, told)
    }
}

/// The page of a search that has no answer.
fn nothing() -> SearchPage {
    SearchPage {
        rows: Vec::new(),
        next: None,
        total: None,
        as_of: Number::default(),
        moved: false,
        included: Vec::new(),
        bytes: 0,
        candidates: 0,
    }
}
