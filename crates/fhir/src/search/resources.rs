//! Sets of resources, which one search finds and another asks for.
use super::{Clause, Named, Operand, ParameterKind, SearchQuery};
use crate::ResourceType;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Resources by type and id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources(BTreeMap<ResourceType, BTreeSet<String>>);

impl Resources {
    /// Adds one; `false` when it was there.
    pub fn add(&mut self, kind: ResourceType, id: &str) -> bool {
        let ids = self.0.entry(kind).or_default();
        !ids.contains(id) && ids.insert(id.to_owned())
    }
    /// Whether one is there.
    #[must_use]
    pub fn has(&self, kind: ResourceType, id: &str) -> bool {
        self.0.get(&kind).is_some_and(|ids| ids.contains(id))
    }
    pub(super) fn has_id(&self, id: &str) -> bool {
        self.0.values().any(|ids| ids.contains(id))
    }
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.values().map(BTreeSet::len).sum()
    }
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.values().all(BTreeSet::is_empty)
    }
    /// All, in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = (ResourceType, &str)> {
        let kinds = self.0.iter();
        kinds.flat_map(|(kind, ids)| ids.iter().map(|id| (*kind, id.as_str())))
    }
    /// The types of which there are any.
    pub fn kinds(&self) -> impl Iterator<Item = ResourceType> {
        self.0
            .iter()
            .filter(|(_, ids)| !ids.is_empty())
            .map(|(kind, _)| *kind)
    }
    /// Those of a type in sets of at most so many.
    #[must_use]
    pub fn chunks(&self, kind: ResourceType, most: usize) -> Vec<Self> {
        let ids: Vec<&String> = self.0.get(&kind).into_iter().flatten().collect();
        let one = |ids: &[&String]| {
            let ids = ids.iter().map(|id| (*id).clone()).collect();
            Self(BTreeMap::from([(kind, ids)]))
        };
        ids.chunks(most).map(one).collect()
    }
}

impl SearchQuery {
    /// What has one of these resources under a parameter: `_id` or one of references.
    #[must_use]
    pub fn of_resources(kind: ResourceType, parameter: &Named, resources: Resources) -> Self {
        let mut query = Self::empty(kind);
        query
            .clauses
            .push(Clause::of_resources(parameter, resources));
        query
    }
}

impl Clause {
    /// One of these resources under a parameter: `_id` or one of references.
    #[must_use]
    pub fn of_resources(parameter: &Named, resources: Resources) -> Self {
        Self {
            parameter: parameter.name().to_owned(),
            own: parameter.own().cloned(),
            kind: if *parameter == Named::ID {
                ParameterKind::Token
            } else {
                ParameterKind::Reference
            },
            modifier: None,
            operands: vec![Operand::Resources(Arc::new(resources))],
        }
    }
}
