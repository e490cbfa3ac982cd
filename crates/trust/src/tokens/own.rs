//! Tokens of search parameters of a tenant's own (`vault/own.rs` says how they come to be there).
//!
//! | tokens of a document | asked by |
//! |---|---|
//! | those of each value, as of R4's parameters, under a name of the definition | the same |
//! | the mark: this definition's values are there | what doesn't have it is checked |
//! | *many* instead of values, where there are more than [`VALUES_MAX`] tokens | every search by the parameter |

use fhir::Resource;
use fhir::search::{Modifier, Own, OwnClause};
use ledger::{Ledger, Number, Query, TenantId, Token};

use super::{Maker, clause_query, kind, of_value};

/// The most tokens of one parameter of one document.
const VALUES_MAX: usize = 1000;
/// Goes up when values come to be found otherwise, so that documents are gone over again.
const FORM: u32 = 1;

/// The name that a definition's tokens are keyed under: another definition has others.
fn name(own: &Own) -> String {
    let (code, kind) = (own.code(), own.kind().code());
    format!("~own{FORM} {code} {kind} {}", own.expression())
}

fn maker<'a>(ledger: &'a Ledger, tenant: TenantId, own: &Own) -> Maker<'a> {
    Maker {
        ledger,
        tenant,
        kind: kind(own.base()),
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

/// The tokens that a resource is found by under a parameter, its mark among them.
pub(crate) fn of_own(
    ledger: &Ledger,
    tenant: TenantId,
    resource: &Resource,
    own: &Own,
) -> Vec<Token> {
    let make = maker(ledger, tenant, own);
    let name = name(own);
    let mut tokens = vec![make.one(&name, "!", "")];
    for value in own.values(resource) {
        of_value(&make, own.base(), &name, value, &|_, _| false, &mut tokens);
        if tokens.len() > VALUES_MAX {
            return vec![tokens[0], many(&make, own)];
        }
    }
    tokens
}

/// What a clause narrows a query to, as far as the tokens of its parameter can say: with `:not` what is to
/// be taken away. Where not all documents are known to have the mark (`unmarked`), those without it are
/// among the candidates.
pub(super) fn query(make: &Maker<'_>, asked: &OwnClause, unmarked: bool) -> Option<Query> {
    let own = &asked.own;
    let mut clause = asked.clause.clone();
    clause.parameter = name(own);
    let part = clause_query(make, own.base(), &clause)?;
    if clause.modifier == Some(Modifier::Not) {
        return Some(part);
    }
    let mut ways = vec![part, Query::Token(many(make, own))];
    if unmarked {
        ways.push(self::unmarked(make.ledger, make.tenant, own));
    }
    Some(Query::Or(ways))
}

/// Up to which number all that a query's clauses ask for is in the index; `None` where nothing else is.
pub(crate) fn indexed_through(query: &fhir::search::SearchQuery) -> Option<Number> {
    let through = query.own.iter().map(|asked| Number(asked.own.through()));
    through.min()
}
