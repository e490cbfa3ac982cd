//! Conditions that are put together from clauses: what one list of clauses that must all match can't say.
use super::filter::FILTER;
use super::{Clause, ParameterKind, matching};
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
}

impl Clause {
    /// What stands for a condition where only clauses are told of: the parameter that it comes from.
    #[must_use]
    pub fn of_condition() -> Self {
        Self {
            parameter: FILTER.to_owned(),
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
        }
    }

    pub(super) fn any_clause(&self, test: &dyn Fn(&Clause) -> bool) -> bool {
        match self {
            Self::Clause(clause) => test(clause),
            Self::All(parts) | Self::Any(parts) => parts.iter().any(|part| part.any_clause(test)),
            Self::Not(part) => part.any_clause(test),
        }
    }

    /// Calls `change` with each clause.
    pub fn each_clause(&mut self, change: &mut dyn FnMut(&mut Clause)) {
        match self {
            Self::Clause(clause) => change(clause),
            Self::All(parts) | Self::Any(parts) => {
                parts.iter_mut().for_each(|part| part.each_clause(change));
            }
            Self::Not(part) => part.each_clause(change),
        }
    }
}
