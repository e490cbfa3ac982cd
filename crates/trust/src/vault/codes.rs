//! Codes by value sets and code systems: what `:in`, `:not-in`, `:above` and `:below` of tokens mean is
//! looked up in the view that is searched, under the same permit, and takes their place before anything is
//! found. What isn't stored here with all of its codes is refused, and why: a list by half a value set
//! would not be the list that was asked for.

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use fhir::search::{
    Codes, CodesOf, Content, Included, SearchQuery, concepts, content, is_hierarchy,
};
use fhir::{IssueCode, OperationOutcome, Resource, ResourceType};
use ledger::Number;

use super::{Sight, Vault};
use crate::{Action, Permit, TrustError};

/// How deep value sets can lie in each other.
const DEPTH_MAX: usize = 8;
/// The most value sets and code systems that one search looks up.
const LOOKED_UP_MAX: usize = 50;
/// The most codes that one search asks for, and that are held to find out which.
const CODES_MAX: usize = if cfg!(test) { 100 } else { 100_000 };

/// How far looking up has come in one search, whatever types it is of.
pub(super) struct Look<'a> {
    view: &'a Sight,
    permit: &'a Permit,
    /// The parameter that asks.
    parameter: String,
    /// The newest of the resources that list codes.
    pub(super) newest: Number,
    looked_up: usize,
    /// What clauses asked for, and what it means: the queries of several types ask for the same.
    known: Vec<(Vec<CodesOf>, Arc<Codes>)>,
}

impl<'a> Look<'a> {
    pub(super) fn new(view: &'a Sight, permit: &'a Permit) -> Self {
        Self {
            view,
            permit,
            parameter: String::new(),
            newest: Number(0),
            looked_up: 0,
            known: Vec::new(),
        }
    }

    fn known(&self, of: &[CodesOf]) -> Option<Arc<Codes>> {
        let known = self.known.iter().find(|(asked, _)| asked == of);
        known.map(|(_, codes)| codes.clone())
    }

    /// Refuses codes that are too many together with those of other clauses.
    fn check(&self, codes: usize) -> Result<(), TrustError> {
        let others = self.known.iter().map(|(_, codes)| codes.len());
        if codes + others.sum::<usize>() > CODES_MAX {
            let words = format!("means more than {CODES_MAX} codes");
            return Err(TrustError::TooCostly(words));
        }
        Ok(())
    }

    fn refuse(&self, words: String) -> TrustError {
        let outcome = OperationOutcome::at(IssueCode::NotSupported, words, self.parameter.clone());
        TrustError::Unanswerable(outcome)
    }
}

impl Vault {
    /// Puts codes in the place of what they are of.
    pub(super) async fn coded<'q>(
        &self,
        look: &mut Look<'_>,
        query: &'q SearchQuery,
    ) -> Result<Cow<'q, SearchQuery>, TrustError> {
        if !query.needs_codes() {
            return Ok(Cow::Borrowed(query));
        }
        let mut query = query.clone();
        let mut wanted: Vec<(String, Vec<CodesOf>)> = Vec::new();
        query.each_clause(&mut |clause| {
            let of: Vec<CodesOf> = clause.codes_of().cloned().collect();
            if !of.is_empty() {
                wanted.push((clause.parameter.clone(), of));
            }
        });
        let mut found = Vec::with_capacity(wanted.len());
        for (parameter, of) in wanted {
            if let Some(known) = look.known(&of) {
                found.push(known);
                continue;
            }
            look.parameter = parameter;
            let mut codes = Codes::default();
            for one in &of {
                codes.extend(self.codes(look, one).await?);
                look.check(codes.len())?;
            }
            let codes = Arc::new(codes);
            look.known.push((of, codes.clone()));
            found.push(codes);
        }
        let mut found = found.into_iter();
        query.each_clause(&mut |clause| {
            if clause.codes_of().next().is_some()
                && let Some(codes) = found.next()
            {
                clause.set_codes(codes);
            }
        });
        Ok(Cow::Owned(query))
    }

    async fn codes(&self, look: &mut Look<'_>, of: &CodesOf) -> Result<Codes, TrustError> {
        let (system, code, above) = match of {
            CodesOf::ValueSet(url) => return self.value_set(look, url, 0).await,
            CodesOf::Above { system, code } => (system, code, true),
            CodesOf::Below { system, code } => (system, code, false),
        };
        let found = self.code_system(look, system).await?;
        if !is_hierarchy(&found) {
            let words = format!("the order of the codes of {system} is not by kind");
            return Err(look.refuse(words));
        }
        let all = concepts(&found).map_err(|why| look.refuse(why_not(system, why)))?;
        let mut codes = Codes::default();
        let mut known = false;
        for (one, kinds) in &all {
            known |= one == code;
            if above && one == code {
                kinds.iter().for_each(|kind| codes.add(system, kind));
            }
            if one == code || !above && kinds.contains(code) {
                codes.add(system, one);
            }
        }
        if !known {
            let words = format!("{system} has no such code here");
            return Err(look.refuse(words));
        }
        Ok(codes)
    }

    /// The codes of a value set, those of others in it too.
    fn value_set<'f>(
        &'f self,
        look: &'f mut Look<'_>,
        url: &'f str,
        depth: usize,
    ) -> Pin<Box<dyn Future<Output = Result<Codes, TrustError>> + Send + 'f>> {
        Box::pin(async move {
            if depth > DEPTH_MAX {
                let words = format!("value sets lie in each other more than {DEPTH_MAX} deep");
                return Err(look.refuse(words));
            }
            let found = self.canonical(look, ResourceType::ValueSet, url).await?;
            match content(&found).map_err(|why| look.refuse(why_not(url, why)))? {
                Content::Listed(codes) => {
                    look.check(codes.len())?;
                    Ok(codes)
                }
                Content::Composed(include, exclude) => {
                    let mut codes = Codes::default();
                    for part in &include {
                        codes.extend(self.part(look, part, depth).await?);
                        look.check(codes.len())?;
                    }
                    for part in &exclude {
                        codes.remove(&self.part(look, part, depth).await?);
                    }
                    Ok(codes)
                }
            }
        })
    }

    /// The codes of a part: those of its system that are in all of its value sets.
    async fn part(
        &self,
        look: &mut Look<'_>,
        part: &Included,
        depth: usize,
    ) -> Result<Codes, TrustError> {
        let mut codes: Option<Codes> = None;
        if let Some(system) = &part.system {
            let mut own = Codes::default();
            if let Some(listed) = &part.codes {
                listed.iter().for_each(|code| own.add(system, code));
            } else {
                let found = self.code_system(look, system).await?;
                let all = concepts(&found).map_err(|why| look.refuse(why_not(system, why)))?;
                all.iter().for_each(|(code, _)| own.add(system, code));
            }
            look.check(own.len())?;
            codes = Some(own);
        }
        for url in &part.value_sets {
            let others = self.value_set(look, url, depth + 1).await?;
            match &mut codes {
                Some(codes) => codes.keep(&others),
                None => codes = Some(others),
            }
        }
        Ok(codes.unwrap_or_default())
    }

    async fn code_system(&self, look: &mut Look<'_>, url: &str) -> Result<Resource, TrustError> {
        self.canonical(look, ResourceType::CodeSystem, url).await
    }

    /// The newest resource that has a canonical URL, of the version that it may end in.
    async fn canonical(
        &self,
        look: &mut Look<'_>,
        kind: ResourceType,
        url: &str,
    ) -> Result<Resource, TrustError> {
        self.require(look.permit, Action::Search, kind).await?;
        look.looked_up += 1;
        if look.looked_up > LOOKED_UP_MAX {
            let words = format!("needs more than {LOOKED_UP_MAX} value sets and code systems");
            return Err(TrustError::TooCostly(words));
        }
        let own = fhir::Reference::relative(url).filter(|(of, _)| *of == kind);
        let asked = match (own, url.split_once('|')) {
            (Some((_, id)), _) => vec![("_id", id)],
            (None, Some((url, version))) => vec![("url", url), ("version", version)],
            (None, None) => vec![("url", url)],
        };
        let escaped = asked.into_iter().map(|(name, value)| {
            let value = value
                .replace('\\', "\\\\")
                .replace(',', "\\,")
                .replace('|', "\\|");
            (name.to_owned(), value)
        });
        let parameters: Vec<(String, String)> = escaped.collect();
        let query = SearchQuery::parse(kind, &parameters, false);
        let mut query = query.map_err(TrustError::Unanswerable)?;
        query.count = 1;
        let page = self
            .scan(look.view, look.permit, &query, None, None)
            .await?;
        match page.rows.into_iter().next() {
            Some(row) => {
                look.newest = look.newest.max(row.at.number);
                Ok(row.resource)
            }
            None => Err(look.refuse(format!("there is no {kind} {url} here"))),
        }
    }
}

fn why_not(url: &str, why: &str) -> String {
    format!("{url} can't be used to search: {why}")
}

#[cfg(test)]
mod tests {
    use fhir::search::Operand;
    use serde_json::{Value, json};

    use super::*;
    use crate::tests::{House, query, staff};
    use crate::vault::Hidden;
    use crate::{Purpose, Role};

    fn a_set(id: &str, codes: usize) -> Value {
        let listed: Vec<Value> = (0..codes)
            .map(|place| json!({"code": format!("{id}{place}")}))
            .collect();
        json!({"resourceType": "ValueSet", "id": id, "status": "active", "url": format!("http://{id}"),
            "compose": {"include": [{"system": "http://codes", "concept": listed}]}})
    }

    #[tokio::test]
    async fn all_types_share_the_codes_of_a_value_set() {
        let house = House::new().await;
        let clinician = staff(Role::Clinician);
        let permit = house
            .permit(&clinician, Purpose::Treatment, Action::Search)
            .await
            .unwrap();
        house
            .put([
                a_set("half", CODES_MAX / 2),
                a_set("other", CODES_MAX / 2),
                a_set("one", 1),
                a_set("many", CODES_MAX + 1),
            ])
            .await;
        let ask = async |parameters: &[(&str, &str)]| {
            let kinds = ResourceType::all();
            let queries: Vec<SearchQuery> = kinds.map(|kind| query(kind, parameters)).collect();
            let view = Sight::now(house.ledger().view()?);
            let mut hidden = Hidden::default();
            let vault = house.vault();
            let asked = vault.linked_all(&view, &permit, &queries, &mut hidden);
            asked.await.map(|(asked, _)| asked)
        };
        // As many codes as there may be, for more types than value sets may be looked up.
        let both = [("_tag:in", "http://half"), ("_tag:not-in", "http://other")];
        let asked = ask(&both).await.unwrap();
        assert!(asked.len() > LOOKED_UP_MAX);
        for clause in 0..2 {
            let each = asked
                .iter()
                .map(|query| match query.clauses[clause].operands.as_slice() {
                    [Operand::Codes(codes)] => codes.clone(),
                    others => panic!("{others:?}"),
                });
            let each: Vec<Arc<Codes>> = each.collect();
            assert_eq!(each[0].len(), CODES_MAX / 2);
            assert!(each.iter().all(|codes| Arc::ptr_eq(codes, &each[0])));
        }
        for parameters in [
            vec![("_tag:in", "http://many")],
            vec![("_tag:in", "http://half,http://other,http://one")],
            [&both[..], &[("_security:in", "http://one")]].concat(),
        ] {
            let refused = ask(&parameters).await;
            assert!(
                matches!(&refused, Err(TrustError::TooCostly(words)) if words.contains("codes")),
                "{refused:?}"
            );
        }
    }
}
