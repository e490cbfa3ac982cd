//! Chains and `_has`: what the other resources are is searched first, in the same view and under the
//! same permit, and takes the place of the link. So a link finds nothing by what may not be seen: a type
//! that may not be searched is refused, and rows that the permit or a consent hides are not there.
//!
//! Of the two ends of a link the one is followed that has fewer candidates; if both have many, what is
//! asked for is too costly.

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;

use fhir::search::{Clause, Condition, Current, Link, Named, Resources, SearchQuery};
use ledger::Number;

use super::codes::Look;
use super::search::{TEXTS_MAX, too_many_candidates};
use super::{Hidden, Sight, Vault};
use crate::{Action, Permit, TrustError};

/// The most resources that take the place of a link: twice as many tokens where they are patients, of the
/// 4,096 that a query of the ledger has.
pub(super) const LINKED_MAX: usize = 2000;
/// The most resources that are opened to follow the links of a search: less than half a second's work.
pub(super) const OPENED_MAX: usize = 20_000;
/// So few resources are opened without a look at what else could be.
const FEW: usize = if cfg!(test) { 2 } else { 32 };
/// The other end of a link is followed if it has fewer than one in so many: each resource there is opened and
/// then looked for here.
const TIMES_FEWER: usize = 4;
/// Rows that are held at a time.
const AT_A_TIME: usize = if cfg!(test) { 16 } else { 256 };

/// A query whose links have been followed.
pub(super) struct Asked<'a> {
    pub(super) query: Cow<'a, SearchQuery>,
    /// The newest of the resources that the links were followed through.
    pub(super) newest: Number,
}

/// How far following links has come.
struct Course<'a> {
    view: &'a Sight,
    permit: &'a Permit,
    opened: usize,
    /// Those of them whose texts were read.
    texts: usize,
    newest: Number,
}

fn too_costly() -> TrustError {
    TrustError::TooCostly(format!(
        "a chained parameter or _has leads through more than {LINKED_MAX} resources, or more than {OPENED_MAX} have to be looked at to follow it; narrow it, or the search around it"
    ))
}

impl Vault {
    /// Puts what links lead to in their place. Each search that somebody asks for comes by here or by
    /// [`Vault::linked_all`], so it is here that those are refused that look at what isn't shown.
    pub(super) async fn linked<'q>(
        &self,
        view: &Sight,
        permit: &Permit,
        query: &'q SearchQuery,
        hidden: Option<&mut Hidden>,
    ) -> Result<Asked<'q>, TrustError> {
        self.require_shown(permit, std::slice::from_ref(query))
            .await?;
        let mut course = Course {
            view,
            permit,
            opened: 0,
            texts: 0,
            newest: Number(0),
        };
        let mut look = Look::new(view, permit);
        let query = match self.coded(&mut look, query).await? {
            query if !query.has_links() => query,
            query => Cow::Owned(self.resolve(&mut course, &query, hidden).await?),
        };
        Ok(Asked {
            query,
            newest: course.newest.max(look.newest),
        })
    }

    /// The same for queries of several types, all within the bounds of one search; and the newest of the
    /// resources that links were followed through.
    pub(super) async fn linked_all(
        &self,
        view: &Sight,
        permit: &Permit,
        queries: &[SearchQuery],
        hidden: &mut Hidden,
    ) -> Result<(Vec<SearchQuery>, Number), TrustError> {
        self.require_shown(permit, queries).await?;
        let mut course = Course {
            view,
            permit,
            opened: 0,
            texts: 0,
            newest: Number(0),
        };
        let mut all = Vec::with_capacity(queries.len());
        let mut look = Look::new(view, permit);
        for query in queries {
            let coded = self.coded(&mut look, query).await?;
            all.push(if !coded.has_links() {
                coded.into_owned()
            } else {
                self.resolve(&mut course, &coded, Some(&mut *hidden))
                    .await?
            });
        }
        Ok((all, course.newest.max(look.newest)))
    }

    /// The same, links in links first.
    fn resolve<'f>(
        &'f self,
        course: &'f mut Course<'_>,
        query: &'f SearchQuery,
        mut hidden: Option<&'f mut Hidden>,
    ) -> Pin<Box<dyn Future<Output = Result<SearchQuery, TrustError>> + Send + 'f>> {
        Box::pin(async move {
            let mut narrowed = query.clone();
            narrowed.links.clear();
            // Conditions with links come back when these are followed. Until then what is left finds as
            // much, or more.
            let (waiting, ready): (Vec<Condition>, Vec<Condition>) = (narrowed.conditions)
                .drain(..)
                .partition(Condition::has_links);
            narrowed.conditions = ready;
            let mut inside = Vec::new();
            waiting.iter().for_each(|one| one.links(&mut inside));
            let mut answers: Vec<Resources> = vec![Resources::default(); inside.len()];
            let outside = query.links.iter().map(|link| (None, link));
            let inside = inside.into_iter().enumerate();
            let all: Vec<(Option<usize>, &Link)> = outside
                .chain(inside.map(|(place, link)| (Some(place), link)))
                .collect();
            // Those that few resources match make few of the rest to look at.
            let mut late = Vec::new();
            for (place, link) in all {
                let inner = self.allowed(course.permit, link).await?;
                let around = link.reverse.then_some(&narrowed);
                if link.current.is_none() && !self.is_first(course, around, &inner).await? {
                    late.push((place, link, inner));
                    continue;
                }
                let found = self
                    .follow(course, query, link, inner, hidden.as_deref_mut())
                    .await?;
                match place {
                    None => narrowed.clauses.push(link.clause(found)),
                    Some(place) => answers[place] = found,
                }
            }
            for (place, link, inner) in late {
                let around = std::slice::from_ref(&narrowed);
                let inner = if self.candidates(course, around, LINKED_MAX).await? <= LINKED_MAX {
                    self.narrowed_by(course, &narrowed, link, inner, hidden.as_deref_mut())
                        .await?
                } else {
                    inner
                };
                let found = self
                    .follow(course, query, link, inner, hidden.as_deref_mut())
                    .await?;
                match place {
                    None => narrowed.clauses.push(link.clause(found)),
                    Some(place) => answers[place] = found,
                }
            }
            let mut answers = answers.into_iter();
            for condition in waiting {
                narrowed.conditions.push(condition.linked(&mut answers));
            }
            Ok(narrowed)
        })
    }

    /// The queries of a link that may be asked under a permit.
    async fn allowed(&self, permit: &Permit, link: &Link) -> Result<Vec<SearchQuery>, TrustError> {
        let may = |query: &&SearchQuery| permit.allows(Action::Search, query.kind);
        let allowed: Vec<SearchQuery> = link.queries.iter().filter(may).cloned().collect();
        if let (true, Some(query)) = (allowed.is_empty(), link.queries.first()) {
            self.require(permit, Action::Search, query.kind).await?;
        }
        Ok(allowed)
    }

    /// Whether a link is followed from its own end before the others: few resources can match there, and not
    /// several times fewer around it. The latter is for what is referred to only: a resource around that
    /// refers may refer to thousands.
    async fn is_first(
        &self,
        course: &Course<'_>,
        around: Option<&SearchQuery>,
        inner: &[SearchQuery],
    ) -> Result<bool, TrustError> {
        let there = self.candidates(course, inner, LINKED_MAX).await?;
        let Some(around) = around.filter(|_| (FEW + 1..=LINKED_MAX).contains(&there)) else {
            return Ok(there <= LINKED_MAX);
        };
        let fewer = there / TIMES_FEWER;
        let around = std::slice::from_ref(around);
        Ok(self.candidates(course, around, fewer).await? > fewer)
    }

    /// How many resources can match, as far as tokens tell, or one more than `most`. What is in links isn't
    /// looked at.
    async fn candidates(
        &self,
        course: &Course<'_>,
        queries: &[SearchQuery],
        most: usize,
    ) -> Result<usize, TrustError> {
        let mut found = 0;
        for query in queries {
            let plan = self.plan(course.permit, query);
            let hits = course
                .view
                .search(
                    course.permit.tenant(),
                    plan.recently(),
                    plan.before,
                    plan.since,
                    most + 1 - found,
                )
                .await?;
            found += hits.len();
            if found > most {
                break;
            }
        }
        Ok(found)
    }

    /// Narrows the queries of a link to resources that are linked to what is searched.
    async fn narrowed_by(
        &self,
        course: &mut Course<'_>,
        around: &SearchQuery,
        link: &Link,
        inner: Vec<SearchQuery>,
        hidden: Option<&mut Hidden>,
    ) -> Result<Vec<SearchQuery>, TrustError> {
        let mut near = Resources::default();
        let newest = course.newest;
        self.each(course, around, hidden, &mut |row| {
            if link.reverse {
                near.add(row.kind(), row.id().unwrap_or_default());
            } else {
                link.refers(row, &mut |kind, id| {
                    near.add(kind, id);
                });
            }
            near.len() <= LINKED_MAX
        })
        .await?;
        // These are searched themselves.
        course.newest = newest;
        let narrow = |mut query: SearchQuery| {
            if link.reverse {
                let clause = Clause::of_resources(&link.parameter, near.clone());
                query.clauses.push(clause);
            } else {
                let of_kind = near.chunks(query.kind, LINKED_MAX).pop();
                let clause = Clause::of_resources(&Named::ID, of_kind.unwrap_or_default());
                query.clauses.push(clause);
            }
            query
        };
        Ok(inner.into_iter().map(narrow).collect())
    }

    /// The ends of a link.
    async fn follow(
        &self,
        course: &mut Course<'_>,
        around: &SearchQuery,
        link: &Link,
        inner: Vec<SearchQuery>,
        mut hidden: Option<&mut Hidden>,
    ) -> Result<Resources, TrustError> {
        let mut found = Resources::default();
        let mut is_there = link.current.is_none();
        for query in inner {
            let query = if !query.has_links() {
                query
            } else {
                self.resolve(course, &query, hidden.as_deref_mut()).await?
            };
            self.each(course, &query, hidden.as_deref_mut(), &mut |row| {
                let kind = if link.reverse {
                    around.kind
                } else {
                    row.kind()
                };
                if link.current.is_none() || Current::is_kept(row) {
                    is_there = true;
                    link.ends(around.kind, row, &mut |id| {
                        found.add(kind, id);
                    });
                }
                found.len() <= LINKED_MAX
            })
            .await?;
        }
        match link.current {
            Some(list) if !is_there => Err(TrustError::Unanswerable(list.none())),
            _ => Ok(found),
        }
    }

    /// Shows each row of a query to `sink`, as long as it takes more.
    async fn each(
        &self,
        course: &mut Course<'_>,
        query: &SearchQuery,
        mut hidden: Option<&mut Hidden>,
        sink: &mut (dyn FnMut(&fhir::Resource) -> bool + Send),
    ) -> Result<(), TrustError> {
        let mut query = query.clone();
        query.count = AT_A_TIME;
        query.total = false;
        let mut before = None;
        loop {
            let page = self
                .scan(
                    course.view,
                    course.permit,
                    &query,
                    before,
                    hidden.as_deref_mut(),
                )
                .await?;
            let opened = page.candidates - usize::from(page.next.is_some());
            course.opened += opened;
            if query.reads_texts() {
                course.texts += opened;
                if course.texts > TEXTS_MAX {
                    return Err(too_many_candidates(TEXTS_MAX));
                }
            }
            for row in &page.rows {
                course.newest = course.newest.max(row.at.number);
                if !sink(&row.resource) {
                    return Err(too_costly());
                }
            }
            // The last page counts as well: many links that find nothing have one page each.
            if course.opened > OPENED_MAX {
                return Err(too_costly());
            }
            before = page.next;
            if before.is_none() {
                return Ok(());
            }
        }
    }
}
