//! Shapes of what an expression is evaluated on, where that is no resource.

use super::kinds::Sort;

/// What is known of a value before there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Given<'a> {
    /// True or false.
    Boolean,
    /// A text.
    Text,
    /// One of these texts.
    Code(Vec<&'a str>),
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// A date.
    Date,
    /// Anything at all.
    Unknown,
    /// An object of these members.
    Members(Vec<(&'a str, Given<'a>)>),
}

impl Given<'_> {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Boolean => "Boolean",
            Self::Text | Self::Code(_) => "String",
            Self::Integer => "Integer",
            Self::Number => "Decimal",
            Self::Date => "Date",
            Self::Unknown => "something else",
            Self::Members(_) => "several values",
        }
    }

    pub(super) fn sort(&self) -> Option<Sort> {
        Some(match self {
            Self::Boolean => Sort::Boolean,
            Self::Text | Self::Code(_) => Sort::Text,
            Self::Integer | Self::Number => Sort::Number,
            Self::Date => Sort::Moment,
            Self::Members(_) => Sort::Other,
            Self::Unknown => return None,
        })
    }
}
