//! Conditions that are put together from clauses: what one list of clauses that must all match can't say.
use super::filter::FILTER;
use super::{Clause, Link, ParameterKind, Resources, matching};
use crate::Resource;

/// A condition on a resource. None of its clauses is of `_lastUpdated`, which the resource doesn't say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// A clause matches.
    Clause(Clause),
    /// All hold.
    All(Vec<Condition>),
    /// One of these holds.
    Any(Vec<Condition>),
    /// It does not hold.
    Not(Box<Condition>),
    /// Other resources are so. Whoever has followed it puts a clause in its place
    /// ([`Condition::linked`]); before that nobody knows.
    Link(Box<Link>),
}

impl Clause {
    /// What stands for a condition where only clauses are told of: the parameter that it comes from.
    #[must_use]
    pub fn of_condition() -> Self {
        Self {
            parameter: FILTER.to_owned(),
            own: None,
            kind: ParameterKind::Special,
            modifier: None,
            operands: Vec::new(),
        }
    }
}

impl Condition {
    /// Whether it holds for a resource.
    #[must_use]
    pub fn holds(&self, resource: &Resource) -> bool {
        match self {
            Self::Clause(clause) => matching::clause(clause, resource),
            Self::All(parts) => parts.iter().all(|part| part.holds(resource)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(resource)),
            Self::Not(part) => !part.holds(resource),
            Self::Link(_) => false,
        }
    }

    /// Whether other resources have a part in it.
    #[must_use]
    pub fn has_links(&self) -> bool {
        match self {
            Self::Clause(_) => false,
            Self::All(parts) | Self::Any(parts) => parts.iter().any(Self::has_links),
            Self::Not(part) => part.has_links(),
            Self::Link(_) => true,
        }
    }

    /// Adds its links, in their order.
    pub fn links<'a>(&'a self, all: &mut Vec<&'a Link>) {
        match self {
            Self::Clause(_) => {}
            Self::All(parts) | Self::Any(parts) => parts.iter().for_each(|part| part.links(all)),
            Self::Not(part) => part.links(all),
            Self::Link(link) => all.push(link),
        }
    }

    /// Adds its clauses, but not those of links.
    pub(super) fn clauses<'a>(&'a self, all: &mut Vec<&'a Clause>) {
        match self {
            Self::Clause(clause) => all.push(clause),
            Self::All(parts) | Self::Any(parts) => parts.iter().for_each(|part| part.clauses(all)),
            Self::Not(part) => part.clauses(all),
            Self::Link(_) => {}
        }
    }

    /// The condition with clauses in place of its links, in the order of [`Condition::links`].
    #[must_use]
    pub fn linked(&self, found: &mut dyn Iterator<Item = Resources>) -> Self {
        let each = |parts: &[Self], found: &mut dyn Iterator<Item = Resources>| {
            let parts = parts.iter().map(|part| part.linked(found));
            parts.collect::<Vec<_>>()
        };
        match self {
            Self::Clause(clause) => Self::Clause(clause.clone()),
            Self::All(parts) => Self::All(each(parts, found)),
            Self::Any(parts) => Self::Any(each(parts, found)),
            Self::Not(part) => Self::Not(Box::new(part.linked(found))),
            Self::Link(link) => match found.next() {
                Some(resources) => Self::Clause(link.clause(resources)),
                None => self.clone(),
            },
        }
    }

    pub(super) fn any_clause(&self, test: &dyn Fn(&Clause) -> bool) -> bool {
        match self {
            Self::Clause(clause) => clause.any(test),
            Self::All(parts) | Self::Any(parts) => parts.iter().any(|part| part.any_clause(test)),
            Self::Not(part) => part.any_clause(test),
            Self::Link(link) => link.queries.iter().any(|query| query.any_clause(test)),
        }
    }

    /// Calls `change` with each clause, those of links and composite values too.
    pub fn each_clause(&mut self, change: &mut dyn FnMut(&mut Clause)) {
        match self {
            Self::Clause(clause) => clause.each(change),
            Self::All(parts) | Self::Any(parts) => {
                parts.iter_mut().for_each(|part| part.each_clause(change));
            }
            Self::Not(part) => part.each_clause(change),
            Self::Link(link) => {
                let queries = link.queries.iter_mut();
                queries.for_each(|query| query.each_clause(change));
            }
        }
    }
}
