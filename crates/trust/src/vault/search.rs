//! Searching: blind hits, page by page, each checked on its opened body. All of one answer comes from
//! one view of the store, or what is updated meanwhile would move past the place where one looks.
use std::borrow::Cow;
use std::fmt::Write as _;

use fhir::ResourceType;
use fhir::search::{Scope, SearchQuery};
use ledger::{Number, Query, Stored, TenantId, View};

use super::consents::reach;
use super::{
    Ahead, Form, Hidden, PageAt, SearchPage, Sight, Sought, SoughtRow, Vault, Versioned, fetch_in,
    mark, open, open_for, redact, short, touched,
};
use crate::audit::{Event, Record};
use crate::consent::Reach;
use crate::policy::Group;
use crate::tokens::Whose;
use crate::{Permit, TrustError, tokens};

/// The most hits that one search checks. Checking opens bodies (about 20 µs each), so that this is
/// two seconds of work; a query that needs more has to be narrowed.
pub(super) const CANDIDATES_MAX: usize = 100_000;
/// The same where whole texts are read, which takes some ten times as long.
pub(crate) const TEXTS_MAX: usize = if cfg!(test) { 64 } else { 10_000 };
/// Hits asked for at a time: at first about as many as a page has, since where each has to be found in
/// several lists, those that aren't shown cost as much as those that are; then more each time.
const HITS_MIN: usize = if cfg!(test) { 4 } else { 16 };
const HITS_MAX: usize = 1024;
const HITS_GROW: usize = 4;
/// Where a search has come to know whose rows it need not look at, it is planned anew if so many hits are left that
/// may be theirs.
const LEFT_MIN: usize = 16;
/// Rows of a page that is filled before the lists of wide ranges are read.
const FEW: usize = 250;
/// Lists of wide ranges that are found beside a page that is filled without them: a millisecond or two.
const LISTS_AHEAD: usize = 16;
/// How many documents are looked at for one whose id was derived from the same name; there are two.
const TWINS_MAX: usize = 64;
/// Hits checked before other tasks get their turn: about a millisecond.
const HITS_A_TURN: usize = 64;
/// Bytes of documents whose texts are read before other tasks get their turn.
const TEXT_A_TURN: usize = 64 << 10;
/// A document of more bytes has its texts read where waiting hurts nobody.
const TEXT_ASIDE: usize = if cfg!(test) { 4 << 10 } else { 256 << 10 };
/// The most bytes of stored JSON on one page, which as values take a multiple; a page ends before the
/// row that would go over it.
pub(super) const PAGE_BYTES_MAX: usize = 4 << 20;
/// The most patients that the rows of one page name: all of them are named in its audit record, which
/// has at most 16,384 search tokens. Groups name thousands each.
pub(super) const PAGE_PATIENTS_MAX: usize = 10_000;
/// How many hits newer than the first page are looked at for changed ones, before it is taken that
/// there is one.
const NEWER_MAX: usize = 512;

/// What is said past `most` resources: [`TEXTS_MAX`] or [`CANDIDATES_MAX`].
pub(super) fn too_many_candidates(most: usize) -> TrustError {
    let what = if most == TEXTS_MAX {
        "read the words of"
    } else {
        "look at"
    };
    TrustError::TooCostly(format!(
        "the search would have to {what} more than {most} resources; narrow it"
    ))
}

/// What the newest rows are looked for by before all lists are asked.
pub(super) struct AtFirst {
    query: Query,
    /// How many of them.
    pub(super) rows: usize,
    /// Whether the lists of wide ranges wait; otherwise all are read, as far as that pays.
    pub(super) without_ranges: bool,
}

/// Whether a page may be begun without all lists: where many rows are wanted, or all of them, the lists pay.
pub(super) fn may_begin_with_few(view: &View, query: &SearchQuery, plan: &tokens::Plan) -> bool {
    let few = !query.total && query.sort.is_empty() && query.count <= FEW;
    few && plan.recent.is_none() && view.answers_in_place()
}

/// How to begin; `None` if with all lists. Where it is `told` how a search is made, none is left out because
/// that pays: whether it does depends on rows that are hidden, too.
pub(super) fn at_first(
    view: &View,
    tenant: TenantId,
    query: &SearchQuery,
    plan: &tokens::Plan,
    told: bool,
) -> Option<AtFirst> {
    if !may_begin_with_few(view, query, plan) {
        return None;
    }
    // What can't be read now, the search will not read either, and say so.
    let to_find =
        |part: &Query| (view.lists_to_find(tenant, part)).unwrap_or_else(|_| tokens::count(part));
    let looser = |query: &Query| tokens::looser(query).filter(|_| !told);
    match tokens::lighter(&plan.query, &to_find) {
        Some((lighter, rows)) => Some(AtFirst {
            query: looser(&lighter).unwrap_or(lighter),
            rows,
            without_ranges: true,
        }),
        None => Some(AtFirst {
            query: looser(&plan.query)?,
            rows: tokens::ROWS_MAX,
            without_ranges: false,
        }),
    }
}

impl Vault {
    /// A row of a hit, if it matches the query of its type and may be seen. Where `elements` tell whether it
    /// matches and its text is enough, nothing else is made values of.
    pub(super) async fn seen(
        &self,
        view: &Sight,
        permit: &Permit,
        (queries, elements): (&[SearchQuery], Option<&[&str]>),
        stored: Option<Stored>,
        mut hidden: Option<&mut Hidden>,
    ) -> Result<Option<(Versioned, usize)>, TrustError> {
        let Some(stored) = stored else {
            return Ok(None);
        };
        let of_kind = queries
            .iter()
            .find(|query| stored.kind == tokens::kind(query.kind));
        let Some(query) = of_kind.filter(|_| !stored.deleted) else {
            return Ok(None);
        };
        if !tokens::last_updated_matches(query, stored.at.number) {
            return Ok(None);
        }
        if let (Some(elements), Some(hidden)) = (elements, hidden.as_deref_mut())
            && let Some(part) = short::part(permit, &stored, elements)
        {
            if !permit.covers(crate::Action::Search, &part) || !query.matches(&part) {
                return Ok(None);
            }
            let row = (&part, stored.body.as_slice());
            if !self.consents_look_into(view, permit, row, hidden).await? {
                if self.hides(view, permit, &part, hidden).await? {
                    return Ok(None);
                }
                let length = stored.body.len();
                return Ok(Some((self.short_row(part, &stored)?, length)));
            }
        }
        let mut row = open_for(permit, &stored)?;
        if !permit.covers(crate::Action::Search, &row.resource) {
            return Ok(None);
        }
        // A consent is about the whole of a row, of which a part may go now.
        let is_cut = hidden.is_some() && permit.in_part(row.resource.kind()).is_some();
        let whole = is_cut.then(|| row.resource.clone());
        // What isn't shown must not be found by either, or it could be found out by asking.
        redact(permit, &mut row.resource);
        let matches = if stored.body.len() > TEXT_ASIDE && query.reads_texts() {
            let query = query.clone();
            let read = tokio::task::spawn_blocking(move || {
                let matches = query.matches(&row.resource);
                (row, matches)
            });
            let (read, matches) = read
                .await
                .map_err(|error| TrustError::Damaged(format!("texts weren't read: {error}")))?;
            row = read;
            matches
        } else {
            query.matches(&row.resource)
        };
        // Others are counted at most, and then only those that may be seen.
        let Some(hidden) = hidden.filter(|hidden| matches || hidden.tally.is_some()) else {
            return Ok(matches.then_some((row, stored.body.len())));
        };
        let whole = whole.as_ref().unwrap_or(&row.resource);
        if self.hides(view, permit, whole, hidden).await? {
            return Ok(None);
        }
        if let Some(tally) = &mut hidden.tally {
            tally.add(row.at, matches);
        }
        if !matches {
            return Ok(None);
        }
        Ok(Some((row, stored.body.len())))
    }

    pub(super) fn plan(&self, permit: &Permit, query: &SearchQuery) -> tokens::Plan {
        let narrowed = narrowed(permit, query.kind);
        let query = within_scopes(permit, query);
        tokens::plan(self.ledger(), permit.tenant(), &query, narrowed)
    }

    /// The same for queries of several types together, narrowed to the patients of `hidden` with whom somebody
    /// has a relationship, where rows of no others are shown and it is known by now who they are; and without
    /// those whose consents are known by now to show nothing.
    fn plan_all(
        &self,
        permit: &Permit,
        queries: &[SearchQuery],
        hidden: Option<&Hidden>,
    ) -> tokens::Plan {
        let related = hidden.and_then(|hidden| self.narrows_to(permit, hidden));
        let related: Option<Vec<&str>> =
            related.map(|all| all.keys().map(String::as_str).collect());
        let whose = |query: &SearchQuery| match &related {
            Some(related) if self.wants_relations(permit, query.kind) => Whose::Some(related),
            _ => Whose::only(narrowed(permit, query.kind)),
        };
        let queries: Vec<_> = (queries.iter())
            .map(|query| within_scopes(permit, query))
            .collect();
        let each = queries.iter().map(|query| (&**query, whose(query)));
        let mut plan = tokens::plan_all(self.ledger(), permit.tenant(), each);
        let barred = hidden.map_or(&[][..], Hidden::barred);
        if !barred.is_empty() {
            let kinds = queries.iter().map(|query| query.kind);
            let kinds: Vec<_> = kinds
                .filter(|kind| reach(permit, *kind) == Some(Reach::Whole))
                .collect();
            plan.leave_out((self.ledger(), permit.tenant()), &kinds, barred);
        }
        plan
    }

    /// The rows that a row-by-row check of everything would give, without checking everything.
    /// Consent is looked at where `hidden` is given.
    pub(super) async fn scan(
        &self,
        view: &Sight,
        permit: &Permit,
        query: &SearchQuery,
        before: Option<Number>,
        hidden: Option<&mut Hidden>,
    ) -> Result<SearchPage, TrustError> {
        let queries = std::slice::from_ref(query);
        let place = (before, Form::Whole);
        self.scan_all(view, permit, queries, place, hidden).await
    }

    /// The same of several types, each with its query; how many rows a page has and whether there is a
    /// total says the first.
    pub(super) async fn scan_all(
        &self,
        view: &Sight,
        permit: &Permit,
        queries: &[SearchQuery],
        (before, form): (Option<Number>, Form),
        mut hidden: Option<&mut Hidden>,
    ) -> Result<SearchPage, TrustError> {
        let Some(query) = queries.first() else {
            return Err(TrustError::Invalid("nothing is searched".to_owned()));
        };
        if !query.sort.is_empty() {
            let words = "the order of this list is newest first; it can't be sorted otherwise";
            return Err(TrustError::Invalid(words.to_owned()));
        }
        if queries.iter().any(SearchQuery::has_links) {
            // Nobody has followed them, and passing over them would find too much.
            return Err(TrustError::Invalid(
                "chained parameters and _has can't be used here".to_owned(),
            ));
        }
        if queries.iter().any(SearchQuery::depends_on_now) {
            // Nobody has said when it is asked, and it would find nothing.
            return Err(TrustError::Invalid(
                "what is about a date (ap) can't be asked for here".to_owned(),
            ));
        }
        if queries.iter().any(SearchQuery::needs_codes) {
            return Err(TrustError::Invalid(
                "codes of value sets and code systems can't be asked for here".to_owned(),
            ));
        }
        let reads_texts = queries.iter().any(SearchQuery::reads_texts);
        let most = if reads_texts {
            TEXTS_MAX
        } else {
            CANDIDATES_MAX
        };
        let tenant = permit.tenant();
        let mut plan = self.plan_all(permit, queries, hidden.as_deref());
        let mut known = hidden.as_deref().map_or(0, Hidden::known);
        let mut page = SearchPage {
            rows: Vec::new(),
            next: None,
            total: query.total.then_some(0),
            as_of: Number::default(),
            moved: false,
            included: Vec::new(),
            bytes: 0,
            candidates: 0,
        };
        let mut patients = 0;
        let mut text_read = 0;
        // A total counts from the top, whichever page is shown.
        let mut place = match (query.total, plan.before, before) {
            (true, top, _) => top,
            (false, Some(top), Some(before)) => Some(top.min(before)),
            (false, top, before) => top.or(before),
        };
        let mut more = false;
        let mut hits_wanted = if query.total {
            HITS_MAX
        } else {
            (query.count + 1).clamp(HITS_MIN, HITS_MAX)
        };
        let told = hidden.as_ref().is_some_and(|hidden| hidden.tally.is_some());
        let elements = match (form, queries) {
            (Form::Text, [one]) if !told && !reads_texts => one.elements(),
            _ => None,
        };
        let mut light = at_first(view, tenant, query, &plan, told);
        if light.as_ref().is_some_and(|light| light.without_ranges) {
            // So that the ranges that are asked for again and again need not wait for long.
            view.find_lists(tenant, &plan.query, LISTS_AHEAD)?;
        }
        // Above a number other lists are asked, and first, since the newest come first.
        let mut recently = true;
        'pages: loop {
            // Once it is known whose rows can be shown, and whose can't, no others are looked at.
            let known_now = hidden.as_deref().map_or(0, Hidden::known);
            if known_now > known {
                known = known_now;
                plan = self.plan_all(permit, queries, hidden.as_deref());
                light = None;
            }
            let recent = plan.recent.as_ref().filter(|_| recently);
            let (asked, since) = match (recent, &light) {
                (Some((through, asked)), _) => {
                    let above = Number(through.0.saturating_add(1));
                    (
                        asked,
                        Some(plan.since.map_or(above, |since| since.max(above))),
                    )
                }
                (None, Some(light)) => {
                    hits_wanted = hits_wanted.min(light.rows);
                    (&light.query, plan.since)
                }
                (None, None) => (&plan.query, plan.since),
            };
            let hits = view
                .search(tenant, asked, place, since, hits_wanted)
                .await?;
            let mut ahead = Ahead::default();
            for (position, hit) in hits.iter().enumerate() {
                page.candidates += 1;
                if page.candidates > most {
                    return Err(too_many_candidates(most));
                }
                if page.candidates.is_multiple_of(HITS_A_TURN) {
                    tokio::task::yield_now().await;
                }
                let stored = ahead.first_of(view, tenant, &hits[position..]).await?;
                if reads_texts {
                    text_read += stored.as_ref().map_or(0, |stored| stored.body.len());
                    if text_read > TEXT_A_TURN {
                        text_read = 0;
                        tokio::task::yield_now().await;
                    }
                }
                let parts = (queries, elements.as_deref());
                let seen = self
                    .seen(view, permit, parts, stored, hidden.as_deref_mut())
                    .await?;
                let Some((row, length)) = seen else {
                    let known_now = hidden.as_deref().map_or(0, Hidden::known);
                    if known_now > known && hits.len() - position > LEFT_MIN {
                        place = Some(hit.number);
                        continue 'pages;
                    }
                    continue;
                };
                if let Some(total) = &mut page.total {
                    *total += 1;
                }
                let on_page = before.is_none_or(|before| hit.number < before);
                if !on_page {
                    continue;
                }
                let more_patients = patients + row.resource.patients().len();
                let fits =
                    page.bytes + length <= PAGE_BYTES_MAX && more_patients <= PAGE_PATIENTS_MAX;
                let fits = fits || page.rows.is_empty();
                if page.rows.len() < query.count && fits && !more {
                    page.bytes += length;
                    patients = more_patients;
                    page.rows.push(row);
                } else {
                    more = true;
                    if !query.total {
                        break 'pages;
                    }
                }
            }
            match hits.last() {
                Some(last) if hits.len() == hits_wanted => {
                    place = Some(last.number);
                    hits_wanted = (hits_wanted * HITS_GROW).min(HITS_MAX);
                    light = light.and_then(|light| {
                        let rows = light.rows.checked_sub(hits.len())?;
                        (rows > 0).then_some(AtFirst { rows, ..light })
                    });
                }
                _ => match recent {
                    Some((through, _)) => {
                        recently = false;
                        let below = Number(through.0.saturating_add(1));
                        place = Some(place.map_or(below, |place| place.min(below)));
                    }
                    None => break,
                },
            }
        }
        if more {
            page.next = page.rows.last().map(|row| row.at.number);
            page.as_of = view.as_of().await?;
        }
        Ok(page)
    }

    /// Whether a row that matches was changed after `first`: it may then lie in front of pages that
    /// were shown before, and be missing from those that follow.
    pub(super) async fn has_moved(
        &self,
        view: &Sight,
        permit: &Permit,
        queries: &[SearchQuery],
        at: PageAt,
        hidden: &mut Hidden,
    ) -> Result<bool, TrustError> {
        let plan = self.plan_all(permit, queries, Some(hidden));
        let newer = Number(at.first.0.saturating_add(1));
        let since = plan.since.map_or(newer, |since| since.max(newer));
        let asked = plan.recently();
        let hits = view
            .search(permit.tenant(), asked, plan.before, Some(since), NEWER_MAX)
            .await?;
        let mut ahead = Ahead::default();
        for position in 0..hits.len() {
            let stored = ahead
                .first_of(view, permit.tenant(), &hits[position..])
                .await?;
            let seen = self
                .seen(view, permit, (queries, None), stored, Some(&mut *hidden))
                .await?;
            // What was made since was on no page before.
            if seen.is_some_and(|(row, _)| row.version > 1) {
                return Ok(true);
            }
        }
        Ok(hits.len() == NEWER_MAX)
    }

    /// What the criteria of conditional writes mean, all from one view, whatever consents hide: a
    /// conditional write must not make twice what is there once. One audit leaf lists the queries and
    /// what they found, because the answer will tell something of it even if nothing is written.
    ///
    /// # Errors
    /// As [`Vault::search`]; `Refused` also when the permit does not write.
    pub async fn seek(
        &self,
        permit: &Permit,
        queries: &[&SearchQuery],
    ) -> Result<Vec<Sought>, TrustError> {
        let view = Sight::now(self.ledger().view()?);
        let mut hidden = Hidden::default();
        let mut answers = Vec::with_capacity(queries.len());
        let mut pages = Vec::with_capacity(queries.len());
        for query in queries {
            self.require_writing(permit, crate::Action::Search, query.kind)
                .await?;
            let asked = self.linked(&view, permit, query, None).await?;
            let page = self.scan(&view, permit, &asked.query, None, None).await?;
            let mut rows = Vec::with_capacity(page.rows.len());
            for row in &page.rows {
                let mut row = row.clone();
                // Consents are about the whole of it.
                let whole = match permit.in_part(query.kind) {
                    None => None,
                    Some(_) => view.fetch(permit.tenant(), row.at).await?,
                };
                let whole = whole.map(|stored| open(&stored)).transpose()?;
                let asked = whole
                    .as_ref()
                    .map_or(&row.resource, |whole| &whole.resource);
                let hidden = self.hides(&view, permit, asked, &mut hidden).await?;
                mark(permit, &mut row.resource);
                rows.push(SoughtRow { row, hidden });
            }
            let more = page.next.is_some();
            answers.push(Sought { rows, more });
            pages.push(page);
        }
        if !queries.is_empty() {
            self.record_pages(permit, queries, pages).await?;
        }
        Ok(answers)
    }

    /// The live resource whose id was derived from the same name for another owner, if there is one:
    /// such ids differ in their shard only.
    ///
    /// # Errors
    /// As [`Vault::load`].
    pub async fn twin(
        &self,
        permit: &Permit,
        kind: ResourceType,
        id: &str,
    ) -> Result<Option<String>, TrustError> {
        self.require_writing(permit, crate::Action::Search, kind)
            .await?;
        let (ledger, tenant) = (self.ledger(), permit.tenant());
        let Some(query) = tokens::twins(ledger, tenant, kind, id) else {
            return Ok(None);
        };
        let view = ledger.view()?;
        for hit in view.search(tenant, &query, None, None, TWINS_MAX).await? {
            let Some(stored) = fetch_in(&view, tenant, hit).await? else {
                continue;
            };
            let alike = stored.id != id && stored.id.get(2..) == id.get(2..);
            if stored.kind == tokens::kind(kind) && !stored.deleted && alike {
                return Ok(Some(stored.id));
            }
        }
        Ok(None)
    }

    /// Audits the pages of one request as one leaf, then gives them out.
    pub(super) async fn record_pages(
        &self,
        permit: &Permit,
        queries: &[&SearchQuery],
        pages: Vec<SearchPage>,
    ) -> Result<Vec<SearchPage>, TrustError> {
        self.record_noted(permit, queries, pages, None).await
    }

    /// The same with a sentence beside, without patient details.
    pub(super) async fn record_noted(
        &self,
        permit: &Permit,
        queries: &[&SearchQuery],
        mut pages: Vec<SearchPage>,
        note: Option<&str>,
    ) -> Result<Vec<SearchPage>, TrustError> {
        for page in &mut pages {
            let rows = page.rows.iter_mut().chain(&mut page.included);
            rows.for_each(|row| self.show(permit, row));
        }
        let rows: Vec<&Versioned> = (pages.iter())
            .flat_map(|page| page.rows.iter().chain(&page.included))
            .collect();
        self.record_rows(permit, queries, &rows, note).await?;
        Ok(pages)
    }

    /// Audits rows that are shown as one leaf.
    pub(super) async fn record_rows(
        &self,
        permit: &Permit,
        queries: &[&SearchQuery],
        rows: &[&Versioned],
        note: Option<&str>,
    ) -> Result<(), TrustError> {
        let mut record = Record::under(permit, Event::SEARCH);
        record.note = note;
        // A search within a patient's compartment is a look at the patient even if it finds nothing.
        record.patients.extend(permit.only_patient.clone());
        record.queries = queries.iter().map(|query| in_words(query)).collect();
        for query in queries {
            if let Scope::Compartment(compartment, _) = &query.scope
                && compartment.kind == fhir::ResourceType::Patient
            {
                record.patients.insert(compartment.id.clone());
            }
        }
        for row in rows {
            let patients = super::named(&row.resource);
            record.touch(touched(row, patients.first().cloned()));
            record.patients.extend(patients);
        }
        self.work_among(permit, rows.iter().copied(), &mut record);
        self.record(permit, record).await?;
        Ok(())
    }
}

/// The patient whose list narrows a search of a type under a permit.
pub(super) fn narrowed(permit: &Permit, kind: ResourceType) -> Option<&str> {
    // Directory entries belong to no patient and are visible all the same.
    permit
        .only_patient()
        .filter(|_| permit.grants.group(kind) != Group::Directory)
}

/// The query with what an access token narrows its rows to, to ask for fewer candidates by. Each of them
/// is asked for its rows' own sake all the same.
fn within_scopes<'q>(permit: &Permit, query: &'q SearchQuery) -> Cow<'q, SearchQuery> {
    let Some(filter) = permit.list_filter(query.kind) else {
        return Cow::Borrowed(query);
    };
    let mut query = query.clone();
    query.clauses.extend(filter.clauses.iter().cloned());
    Cow::Owned(query)
}

/// The query as in a URL.
fn in_words(query: &SearchQuery) -> String {
    let mut text = query.address();
    for (position, (name, value)) in query.used.iter().enumerate() {
        let mark = if position == 0 { '?' } else { '&' };
        let _ = write!(text, "{mark}{name}={value}");
    }
    text
}
