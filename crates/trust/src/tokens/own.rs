//! Tokens of search parameters of a tenant's own (`vault/own.rs` says how they come to be there).
//!
//! | tokens of a document | asked by |
//! |---|---|
//! | those of each value, as of R4's parameters, under a name of the definition | the same |
//! | the mark: this definition's values are there | what doesn't have it is checked |
//! | *many* instead of values, where there are more than [`VALUES_MAX`] tokens, or more than what is left of [`SHARED_MAX`] | every search by the parameter |

use fhir::Resource;
use fhir::search::{Clause, Modifier, Own, Owns};
use ledger::{Ledger, Number, Query, TenantId, Token};

use super::{Maker, clause_query, kind, of_value};

/// The most tokens of one parameter of one document.
const VALUES_MAX: usize = 1000;
/// So many tokens a parameter has in any case.
const FEW: usize = 40;
/// What the parameters with more than [`FEW`] have together in one document, in the order of their codes.
/// With the few of a hundred parameters that is at most half of what a document may have.
const SHARED_MAX: usize = 4000;
/// Goes up when values come to be found otherwise, so that documents are gone over again.
const FORM: u32 = 1;

/// What the names of all definitions begin with, and none of R4's.
const NAME: &str = "~own";

/// The name that a definition's tokens are keyed under: another definition has others.
fn name(own: &Own) -> String {
    let (code, kind) = (own.code(), own.kind().code());
    format!("{NAME}{FORM} {code} {kind} {}", own.expression())
}

/// Whether tokens under a name are of a definition.
pub(super) fn is_name(name: &str) -> bool {
    name.starts_with(NAME)
}

fn maker<'a>(ledger: &'a Ledger, tenant: TenantId, own: &Own) -> Maker<'a> {
    Maker {
        ledger,
        tenant,
        kind: kind(own.base()),
        unmarked: false,
    }
}

/// What a document has that was written, or gone over, with a parameter.
pub(crate) fn mark(ledger: &Ledger, tenant: TenantId, own: &Own) -> Token {
    maker(ledger, tenant, own).one(&name(own), "!", "")
}

fn many(make: &Maker<'_>, own: &Own) -> Token {
    make.one(&name(own), "*", "")
}

/// All documents of a type.
pub(crate) fn all(ledger: &Ledger, tenant: TenantId, base: fhir::ResourceType) -> Query {
    Query::Token(ledger.kind_token(tenant, kind(base)))
}

/// Documents of a parameter's type without its mark.
pub(crate) fn unmarked(ledger: &Ledger, tenant: TenantId, own: &Own) -> Query {
    let mark = Query::Token(mark(ledger, tenant, own));
    Query::Without(Box::new(all(ledger, tenant, own.base())), Box::new(mark))
}

/// What is left of a document's [`SHARED_MAX`].
struct Share(usize);

impl Share {
    /// Whether a parameter's tokens may be so many.
    fn takes(&mut self, tokens: usize) -> bool {
        if tokens <= FEW {
            return true;
        }
        let takes = tokens <= self.0;
        if takes {
            self.0 -= tokens;
        }
        takes
    }
}

/// The tokens that a resource to be written is found by under all of a tenant's own parameters, at most
/// `room`, or as few as can be.
pub(crate) fn of_owns(
    ledger: &Ledger,
    tenant: TenantId,
    resource: &Resource,
    owns: &Owns,
    room: usize,
) -> Vec<Token> {
    let mut share = Share(SHARED_MAX);
    let mut all = Vec::new();
    for own in owns.of(resource.kind()) {
        let tokens = of_own(ledger, tenant, resource, own);
        if share.takes(tokens.len()) {
            all.extend(tokens);
        } else {
            all.extend(bare(ledger, tenant, own));
        }
    }
    if all.len() > room {
        let owns = owns.of(resource.kind());
        return owns.flat_map(|own| bare(ledger, tenant, own)).collect();
    }
    all
}

/// The tokens of one of them, as [`of_owns`] has them.
pub(crate) fn of_one(
    ledger: &Ledger,
    tenant: TenantId,
    resource: &Resource,
    own: &Own,
    owns: &Owns,
) -> Vec<Token> {
    let tokens = of_own(ledger, tenant, resource, own);
    if tokens.len() <= FEW {
        return tokens;
    }
    let mut share = Share(SHARED_MAX);
    for other in owns.of(own.base()).filter(|one| one.code() < own.code()) {
        share.takes(of_own(ledger, tenant, resource, other).len());
    }
    if share.takes(tokens.len()) {
        tokens
    } else {
        bare(ledger, tenant, own).to_vec()
    }
}

/// The mark, and *many*: what a document has whose values aren't told.
pub(crate) fn bare(ledger: &Ledger, tenant: TenantId, own: &Own) -> [Token; 2] {
    let make = maker(ledger, tenant, own);
    [make.one(&name(own), "!", ""), many(&make, own)]
}

/// The tokens that a resource is found by under a parameter, its mark among them.
fn of_own(ledger: &Ledger, tenant: TenantId, resource: &Resource, own: &Own) -> Vec<Token> {
    let make = maker(ledger, tenant, own);
    let name = name(own);
    let mut tokens = vec![make.one(&name, "!", "")];
    for value in own.values(resource) {
        of_value(&make, own.base(), &name, value, &|_, _| false, &mut tokens);
        if tokens.len() > VALUES_MAX {
            return bare(ledger, tenant, own).to_vec();
        }
    }
    tokens
}

/// What a clause narrows a query to, as far as the tokens of its parameter can say: with `:not` what is to
/// be taken away. Where not all documents are known to have the mark, those without it are among the
/// candidates.
pub(super) fn query(make: &Maker<'_>, own: &Own, asked: &Clause) -> Option<Query> {
    let mut clause = asked.clone();
    clause.parameter = name(own);
    clause.own = None;
    let part = clause_query(make, own.base(), &clause)?;
    if clause.modifier == Some(Modifier::Not) {
        return Some(part);
    }
    let mut ways = vec![part, Query::Token(many(make, own))];
    if make.unmarked {
        ways.push(self::unmarked(make.ledger, make.tenant, own));
    }
    Some(Query::Or(ways))
}

/// Up to which number all that a query's clauses ask for is in the index; `None` where nothing else is.
pub(crate) fn indexed_through(query: &fhir::search::SearchQuery) -> Option<Number> {
    query.owns().map(|own| Number(own.through())).min()
}
