//! What items of a collection may be, as far as it can be told without them.

use super::given::Given;
use crate::facts::{TypeId, structures};
use crate::path::parse::{Literal, System};

/// What one item may be of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of<'a> {
    /// An element or a resource.
    Fhir(TypeId),
    /// Something whose shape was told.
    Given(&'a Given<'a>),
    /// A computed value.
    System(System),
}

/// One of the types that items may be of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind<'a> {
    pub(super) of: Of<'a>,
    /// The codes that a required binding, or what was told, allows.
    pub(super) codes: Option<&'a [&'a str]>,
    /// Whether it is a coding of the concept that is bound, beside which there may be others.
    pub(super) beside: bool,
}

impl<'a> Kind<'a> {
    pub(super) fn given(given: &'a Given<'a>) -> Self {
        let codes = match given {
            Given::Code(codes) => Some(codes.as_slice()),
            _ => None,
        };
        Self {
            of: Of::Given(given),
            codes,
            beside: false,
        }
    }

    pub(super) fn fhir(kind: TypeId) -> Self {
        Self {
            of: Of::Fhir(kind),
            codes: None,
            beside: false,
        }
    }

    pub(super) fn system(system: System) -> Self {
        Self {
            of: Of::System(system),
            codes: None,
            beside: false,
        }
    }

    fn name(self) -> &'static str {
        match self.of {
            Of::Fhir(kind) => structures().get(kind).name,
            Of::Given(given) => given.name(),
            Of::System(System::Boolean) => "Boolean",
            Of::System(System::String) => "String",
            Of::System(System::Integer) => "Integer",
            Of::System(System::Decimal) => "Decimal",
            Of::System(System::Date) => "Date",
            Of::System(System::DateTime) => "DateTime",
            Of::System(System::Time) => "Time",
            Of::System(System::Quantity) => "Quantity",
            Of::System(System::Other) => "something else",
        }
    }

    /// How it behaves in operators; nothing where other types may stand behind it.
    fn sort(self) -> Option<Sort> {
        match self.of {
            Of::Given(given) => given.sort(),
            Of::System(system) => Some(match system {
                System::Boolean => Sort::Boolean,
                System::String => Sort::Text,
                System::Integer | System::Decimal => Sort::Number,
                System::Date | System::DateTime => Sort::Moment,
                System::Time => Sort::Time,
                System::Quantity => Sort::Quantity,
                System::Other => Sort::Other,
            }),
            Of::Fhir(kind) => {
                let structure = structures().get(kind);
                match structure.name {
                    "Resource" | "DomainResource" | "Element" | "BackboneElement" => None,
                    "boolean" => Some(Sort::Boolean),
                    "integer" | "positiveInt" | "unsignedInt" | "decimal" => Some(Sort::Number),
                    "date" | "dateTime" | "instant" => Some(Sort::Moment),
                    "time" => Some(Sort::Time),
                    _ if structure.is_primitive() => Some(Sort::Text),
                    _ => {
                        let quantity = structures().find("Quantity");
                        let is_one = quantity.is_some_and(|one| structures().is_a(kind, one));
                        Some(if is_one { Sort::Quantity } else { Sort::Other })
                    }
                }
            }
        }
    }
}

/// How an item behaves in operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    Boolean,
    Text,
    Number,
    Moment,
    Time,
    Quantity,
    Other,
}

/// What a collection may hold.
#[derive(Debug, Clone)]
pub(super) struct What<'a> {
    /// The types; nothing where any is possible.
    pub(super) kinds: Option<Vec<Kind<'a>>>,
    /// Whether there may be several.
    pub(super) many: bool,
}

impl<'a> What<'a> {
    pub(super) fn unknown() -> Self {
        Self {
            kinds: None,
            many: false,
        }
    }

    pub(super) fn nothing() -> Self {
        Self {
            kinds: Some(Vec::new()),
            many: false,
        }
    }

    pub(super) fn one(kind: Kind<'a>) -> Self {
        Self {
            kinds: Some(vec![kind]),
            many: false,
        }
    }

    /// What comes of something whose shape was told.
    pub(super) fn given(given: &'a Given<'a>) -> Self {
        match given {
            Given::Unknown => Self::unknown(),
            given => Self::one(Kind::given(given)),
        }
    }

    pub(super) fn system(system: System) -> Self {
        Self::one(Kind::system(system))
    }

    pub(super) fn number() -> Self {
        Self {
            kinds: Some(vec![
                Kind::system(System::Integer),
                Kind::system(System::Decimal),
            ]),
            many: false,
        }
    }

    pub(super) fn literal(literal: &Literal) -> Self {
        Self::system(match literal {
            Literal::Bool(_) => System::Boolean,
            Literal::Text(_) => System::String,
            Literal::Integer(_) => System::Integer,
            Literal::Decimal(_) => System::Decimal,
            Literal::Date(_) => System::Date,
            Literal::DateTime(_) => System::DateTime,
            Literal::Time(_) => System::Time,
            Literal::Quantity(..) => System::Quantity,
        })
    }

    pub(super) fn single(self) -> Self {
        Self {
            many: false,
            ..self
        }
    }

    pub(super) fn several(self) -> Self {
        Self { many: true, ..self }
    }

    pub(super) fn or(self, other: Self) -> Self {
        let many = self.many || other.many;
        let kinds = self.kinds.zip(other.kinds).map(|(mut kinds, others)| {
            for kind in others {
                if !kinds.contains(&kind) {
                    kinds.push(kind);
                }
            }
            kinds
        });
        Self { kinds, many }
    }

    /// How its items behave, if that is known of all that there may be.
    pub(super) fn sorts(&self) -> Option<Vec<Sort>> {
        let kinds = self.kinds.as_ref().filter(|kinds| !kinds.is_empty())?;
        kinds.iter().map(|kind| kind.sort()).collect()
    }

    /// Whether it is known that no item behaves so.
    pub(super) fn is_never(&self, wanted: impl Fn(Sort) -> bool) -> bool {
        self.sorts()
            .is_some_and(|sorts| !sorts.into_iter().any(wanted))
    }

    /// Whether it is known that no two items fit each other so.
    pub(super) fn never_fits(&self, other: &Self, fits: impl Fn(Sort, Sort) -> bool) -> bool {
        let Some((left, right)) = self.sorts().zip(other.sorts()) else {
            return false;
        };
        !left
            .iter()
            .any(|left| right.iter().any(|right| fits(*left, *right)))
    }

    /// The codes that there may be, and whether there may be others beside them.
    pub(super) fn codes(&self) -> Option<(Vec<&'a str>, bool)> {
        let kinds = self.kinds.as_ref().filter(|kinds| !kinds.is_empty())?;
        let mut all = Vec::new();
        for kind in kinds {
            all.extend(kind.codes?);
        }
        let beside = kinds.iter().any(|kind| kind.beside);
        (!all.is_empty()).then_some((all, beside))
    }

    /// Its types, for people.
    pub(super) fn words(&self) -> String {
        let kinds = self.kinds.as_deref().unwrap_or_default();
        let mut names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
        names.dedup();
        names.join(" or ")
    }
}
