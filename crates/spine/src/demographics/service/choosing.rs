//! Who is chosen among the rows of a look: each person once, as the record tells of them that is used now. The audit
//! names whom the answer tells of and nobody else.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use fhir::search::SearchQuery;
use fhir::{Resource, ResourceType};
use record::Caller;
use trust::{Action, SearchPart, Shelved, TrustError, Versioned};

use super::super::refusal::{Code, Refusal};
use super::super::view::{self, Confidentiality};
use super::{Demographics, Failure, LOOKED_AT_MAX, REPLACED_MAX, of_trust, query};
use crate::matching::Person;

/// Rows of the record in one piece.
const PIECE: usize = 200;
/// The most records of a look that others have replaced which are not in it: as many as one query takes ids.
const FOLLOWED_MAX: usize = 200;

/// A row of the record, and who it is to the matcher.
pub(super) type Row = Arc<Shelved<Person>>;
/// How closely a row fits, if it does. Beside it stands the record that is told in its place, which may be another;
/// where that isn't known yet, a row fits that may fit.
pub(super) type Scored<'a> =
    dyn Fn(&Shelved<Person>, Option<&Resource>) -> Option<f64> + Send + Sync + 'a;
/// One way to ask the record: parameters and values.
pub(super) type Way = Vec<(&'static str, String)>;

/// How many are told of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    /// The most persons.
    pub(super) most: usize,
    /// Whether the best of more are told of, or nobody.
    pub(super) best: bool,
}

/// Who was chosen.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    /// How many fit, whom nothing hides.
    pub(super) total: usize,
    /// Those who are told of, best first; those that are as good in the order of their numbers.
    pub(super) rows: Vec<(f64, Versioned)>,
    /// Whether there is somebody who fits and is told to nobody.
    pub(super) hidden: bool,
}

/// Persons who may be told of.
#[derive(Default)]
struct Found {
    /// Records that are used, each with the rows that led to it.
    people: Vec<(Row, Vec<Row>)>,
    /// Ids of records that are yet to be looked at, each with the row that leads to it.
    open: Vec<(String, Row)>,
}

impl Found {
    fn add(&mut self, told: &Row, hit: Row) {
        let id = told.resource().id();
        match self
            .people
            .iter_mut()
            .find(|(one, _)| one.resource().id() == id)
        {
            Some((_, hits)) => hits.push(hit),
            None => self.people.push((Arc::clone(told), vec![hit])),
        }
    }

    /// Follows a record to that which has taken its place, as far as the rows go.
    fn follow(&mut self, rows: &HashMap<&str, &Row>, from: &Row, hit: Row) {
        let mut row = from;
        for _ in 0..REPLACED_MAX {
            let Some(next) = view::replaced_by(row.resource()) else {
                return self.add(row, hit);
            };
            match rows.get(next) {
                Some(next) => row = next,
                None => return self.open.push((next.to_owned(), hit)),
            }
        }
    }

    fn chosen(&self, service: &Demographics, scored: &Scored<'_>, limit: Limit) -> Chosen {
        let mut chosen = Chosen::default();
        let mut rows = Vec::new();
        for (told, hits) in &self.people {
            let resource = told.resource();
            let Some(number) = view::number(&service.rules, resource) else {
                continue;
            };
            let scores = hits.iter().filter_map(|hit| scored(hit, Some(resource)));
            let Some(score) = scores.max_by(f64::total_cmp) else {
                continue;
            };
            match Confidentiality::of(resource) {
                Confidentiality::Redacted => {}
                Confidentiality::VeryRestricted => chosen.hidden = true,
                _ => rows.push((score, number, told)),
            }
        }
        rows.sort_by(|(a, one, _), (b, other, _)| b.total_cmp(a).then_with(|| one.cmp(other)));
        chosen.total = rows.len();
        if rows.len() > limit.most {
            rows.truncate(if limit.best { limit.most } else { 0 });
        }
        let rows = rows.into_iter();
        chosen.rows = rows
            .map(|(score, _, told)| (score, told.row().clone()))
            .collect();
        chosen
    }
}

fn by_id(rows: &[Row]) -> HashMap<&str, &Row> {
    let known = rows
        .iter()
        .filter_map(|row| Some((row.resource().id()?, row)));
    known.collect()
}

/// The places of the rows that are told of.
fn places(rows: &[Row], chosen: &Chosen) -> Vec<usize> {
    let ids = chosen.rows.iter().filter_map(|(_, row)| row.resource.id());
    let told: HashSet<&str> = ids.collect();
    let is_told = |row: &Row| row.resource().id().is_some_and(|id| told.contains(id));
    let rows = rows.iter().enumerate();
    rows.filter_map(|(place, row)| is_told(row).then_some(place))
        .collect()
}

impl Demographics {
    /// Who fits among those whom one of the ways leads to: the first of them that leads to no more rows than are
    /// looked at.
    ///
    /// # Errors
    /// That all of them lead to more; what the record refuses.
    pub(super) async fn choose(
        &self,
        caller: &Caller,
        ways: &[Way],
        scored: &Scored<'_>,
        limit: Limit,
    ) -> Result<Chosen, Failure> {
        for way in ways {
            if let Some(chosen) = self.look(caller, way, scored, limit).await? {
                return Ok(chosen);
            }
        }
        Err(Refusal::bare(Code::TooManyMatches).into())
    }

    /// One look, and those that follow it; nothing where it leads to more rows than are looked at.
    async fn look(
        &self,
        caller: &Caller,
        way: &Way,
        scored: &Scored<'_>,
        limit: Limit,
    ) -> Result<Option<Chosen>, Failure> {
        let pairs: Vec<(&str, &str)> = way
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let query = query(ResourceType::Patient, &pairs, PIECE)?;
        let looked = self.part(caller, &query, |rows: &[Row]| {
            let mut found = Found::default();
            // One more than are gone through: nobody is told of a part.
            if rows.len() > LOOKED_AT_MAX {
                return (Vec::new(), None);
            }
            let known = by_id(rows);
            for row in rows.iter().filter(|row| scored(row, None).is_some()) {
                found.follow(&known, row, Arc::clone(row));
            }
            let chosen = found
                .open
                .is_empty()
                .then(|| found.chosen(self, scored, limit));
            let places = chosen.as_ref().map(|chosen| places(rows, chosen));
            (places.unwrap_or_default(), Some((found, chosen)))
        });
        let Some((mut found, chosen)) = looked.await? else {
            return Ok(None);
        };
        if chosen.is_some() {
            return Ok(chosen);
        }
        for _ in 0..REPLACED_MAX {
            let open = std::mem::take(&mut found.open);
            let ids: BTreeSet<&str> = open.iter().map(|(id, _)| id.as_str()).collect();
            if ids.len() > FOLLOWED_MAX {
                return Ok(None);
            }
            if ids.is_empty() {
                break;
            }
            let query = of_ids(ids)?;
            let rows = self.part(caller, &query, |rows: &[Row]| (Vec::new(), rows.to_vec()));
            let rows = rows.await?;
            let known = by_id(&rows);
            for (id, hit) in open {
                // Whoever may not be seen is nobody.
                if let Some(row) = known.get(id.as_str()) {
                    found.follow(&known, row, hit);
                }
            }
        }
        let mut chosen = found.chosen(self, scored, limit);
        // Those who are told of, as they are now, in the audit.
        let ids = chosen.rows.iter().filter_map(|(_, row)| row.resource.id());
        let ids: BTreeSet<&str> = ids.collect();
        if !ids.is_empty() {
            let query = of_ids(ids)?;
            let all = |rows: &[Row]| ((0..rows.len()).collect(), rows.to_vec());
            let rows = self.part(caller, &query, all).await?;
            let known = by_id(&rows);
            chosen.rows.retain(|(_, row)| {
                let now = row.resource.id().and_then(|id| known.get(id));
                now.is_some_and(|now| now.row().version == row.version)
            });
        }
        Ok(Some(chosen))
    }

    /// Goes through the rows of a query, one more at most than are looked at.
    pub(super) async fn part<R>(
        &self,
        caller: &Caller,
        query: &SearchQuery,
        choose: impl FnOnce(&[Row]) -> (Vec<usize>, R) + Send,
    ) -> Result<R, Failure> {
        let permit = self.permit(caller, Action::Search, (ResourceType::Patient, None));
        let permit = permit.await?;
        let part = self
            .vault()
            .search_part(&permit, query, LOOKED_AT_MAX + 1, &self.shelf, choose)
            .await;
        let SearchPart { whole, .. } = match part {
            Err(TrustError::TooCostly(_)) => {
                return Err(Refusal::bare(Code::TooManyMatches).into());
            }
            part => part.map_err(|error| of_trust(caller, error))?,
        };
        Ok(whole)
    }
}

/// The query for records by their ids.
pub(super) fn of_ids<'a>(ids: impl IntoIterator<Item = &'a str>) -> Result<SearchQuery, Failure> {
    // Ids have no sign that means something in a list.
    let ids: Vec<&str> = ids.into_iter().collect();
    let mut query = super::parsed(ResourceType::Patient, &[("_id".to_owned(), ids.join(","))])?;
    query.count = PIECE;
    Ok(query)
}
