//! Codes by value sets and code systems: what `:in`, `:not-in`, `:above` and `:below` of tokens mean is
//! looked up in the view that is searched, under the same permit, and takes their place before anything is
//! found. What isn't stored here with all of its codes is refused, and why: a list by half a value set
//! would not be the list that was asked for.

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;

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
/// The most codes that one search asks for.
const CODES_MAX: usize = 100_000;

/// A query whose codes have been looked up.
pub(super) struct Coded<'a> {
    pub(super) query: Cow<'a, SearchQuery>,
    /// The newest of the resources that list them.
    pub(super) newest: Number,
}

/// How far looking up has come.
struct Look<'a> {
    view: &'a Sight,
    permit: &'a Permit,
    /// The parameter that asks.
    parameter: String,
    newest: Number,
    looked_up: usize,
}

impl Look<'_> {
    fn refuse(&self, words: String) -> TrustError {
        let outcome = OperationOutcome::at(IssueCode::NotSupported, words, self.parameter.clone());
        TrustError::Unanswerable(outcome)
    }
}

impl Vault {
    /// Puts codes in the place of what they are of.
    pub(super) async fn coded<'q>(
        &self,
        view: &Sight,
        permit: &Permit,
        query: &'q SearchQuery,
    ) -> Result<Coded<'q>, TrustError> {
        if !query.needs_codes() {
            return Ok(Coded {
                query: Cow::Borrowed(query),
                newest: Number(0),
            });
        }
        let mut query = query.clone();
        let mut wanted: Vec<(String, Vec<CodesOf>)> = Vec::new();
        query.each_clause(&mut |clause| {
            let of: Vec<CodesOf> = clause.codes_of().cloned().collect();
            if !of.is_empty() {
                wanted.push((clause.parameter.clone(), of));
            }
        });
        let mut look = Look {
            view,
            permit,
            parameter: String::new(),
            newest: Number(0),
            looked_up: 0,
        };
        let mut found = Vec::with_capacity(wanted.len());
        for (parameter, of) in wanted {
            look.parameter = parameter;
            let mut codes = Codes::default();
            for one in of {
                codes.extend(self.codes(&mut look, &one).await?);
            }
            if codes.len() > CODES_MAX {
                let words = format!("means more than {CODES_MAX} codes");
                return Err(TrustError::TooCostly(words));
            }
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
        Ok(Coded {
            query: Cow::Owned(query),
            newest: look.newest,
        })
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
                Content::Listed(codes) => Ok(codes),
                Content::Composed(include, exclude) => {
                    let mut codes = Codes::default();
                    for part in &include {
                        codes.extend(self.part(look, part, depth).await?);
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
