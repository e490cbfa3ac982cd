//! Which parameter of a type a name means: R4's, or one of one's own.
use std::sync::Arc;

use super::{COMMON, Own, Owns, ParameterKind};
use crate::ResourceType;
use crate::facts::{self, Targets};

/// A parameter of a type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// R4's.
    Standard(&'static str),
    /// One of one's own.
    Own(Arc<Own>),
}

impl Named {
    /// The id of a resource.
    pub const ID: Self = Self::Standard("_id");

    /// The name that is searched by.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Standard(name) => name,
            Self::Own(own) => own.code(),
        }
    }

    /// The definition of one of one's own.
    #[must_use]
    pub fn own(&self) -> Option<&Arc<Own>> {
        match self {
            Self::Standard(_) => None,
            Self::Own(own) => Some(own),
        }
    }

    /// What a reference parameter of a type can refer to.
    pub(super) fn targets(&self, kind: ResourceType) -> &Targets {
        match self {
            Self::Standard(name) => {
                let search = facts::search(kind);
                let place = search.position(name);
                place.map_or(&Targets::Any, |place| &search.details[place].targets)
            }
            Self::Own(own) => own.targets(),
        }
    }
}

/// The parameter of a name and its type, R4's first.
pub(super) fn find(kind: ResourceType, name: &str, owns: &Owns) -> Option<(Named, ParameterKind)> {
    if let Some((name, found)) = standard(kind, name) {
        return Some((Named::Standard(name), found));
    }
    let own = owns.find(kind, name)?;
    Some((Named::Own(Arc::clone(own)), own.kind()))
}

/// The same of R4's alone.
pub(super) fn standard(kind: ResourceType, name: &str) -> Option<(&'static str, ParameterKind)> {
    let search = facts::search(kind);
    let common = || COMMON.into_iter().find(|parameter| parameter.name == name);
    let parameter = search
        .position(name)
        .map(|place| search.parameters[place])
        .or_else(common)?;
    Some((parameter.name, parameter.kind))
}

/// The reference parameters of a type, R4's first.
pub fn references(kind: ResourceType, owns: &Owns) -> impl Iterator<Item = Named> + use<'_> {
    let standard = super::parameters(kind).iter();
    let standard = standard
        .filter(|parameter| parameter.kind == ParameterKind::Reference)
        .map(|parameter| Named::Standard(parameter.name));
    let own = owns.of(kind);
    let own = own.filter(|own| own.kind() == ParameterKind::Reference);
    standard.chain(own.map(|own| Named::Own(Arc::clone(own))))
}

/// Whether a reference parameter of a type can refer to another type.
#[must_use]
pub fn can_refer(kind: ResourceType, parameter: &Named, target: ResourceType) -> bool {
    let is_reference = match parameter {
        Named::Standard(name) => {
            standard(kind, name).is_some_and(|(_, kind)| kind == ParameterKind::Reference)
        }
        Named::Own(own) => own.base() == kind && own.kind() == ParameterKind::Reference,
    };
    is_reference
        && match parameter.targets(kind) {
            Targets::Any => true,
            Targets::Some(list) => list.contains(&target),
        }
}
