//! What functions make of what they are called on.

use super::Check;
use super::kinds::{Kind, Sort, What};
use crate::facts::structures;
use crate::path::functions::{Function, Target};
use crate::path::parse::{Expr, System};

/// The type that a conversion gives.
fn converted(target: Target) -> System {
    match target {
        Target::Boolean => System::Boolean,
        Target::Integer => System::Integer,
        Target::Decimal => System::Decimal,
        Target::String => System::String,
        Target::Date => System::Date,
        Target::DateTime => System::DateTime,
        Target::Time => System::Time,
        Target::Quantity => System::Quantity,
    }
}

/// Functions of one text, by name.
fn of_text(function: Function) -> Option<&'static str> {
    use Function as F;
    Some(match function {
        F::Contains => "contains",
        F::EndsWith => "endsWith",
        F::IndexOf => "indexOf",
        F::Length => "length",
        F::Lower => "lower",
        F::Matches => "matches",
        F::Replace => "replace",
        F::ReplaceMatches => "replaceMatches",
        F::Split => "split",
        F::StartsWith => "startsWith",
        F::Substring => "substring",
        F::ToChars => "toChars",
        F::Trim => "trim",
        F::Upper => "upper",
        _ => return None,
    })
}

impl<'a> Check<'a> {
    pub(super) fn call(
        &mut self,
        position: usize,
        function: Function,
        arguments: &[Expr],
        what: What<'a>,
        this: &What<'a>,
    ) -> What<'a> {
        use Function as F;
        let inner = match function {
            F::Where | F::Select | F::Exists | F::All | F::Trace => what.clone().single(),
            // These see items that have been through the expression before.
            F::Repeat | F::Aggregate | F::Sort | F::Iif => What::unknown(),
            _ => this.clone(),
        };
        let mut given = Vec::with_capacity(arguments.len());
        for argument in arguments {
            given.push(self.expr(argument, &inner));
        }
        if matches!(function, F::Where | F::Exists | F::All)
            && let Some((criterion, holds)) = arguments.iter().zip(&given).next()
        {
            self.truth(criterion, holds);
        }
        if let Some(name) = of_text(function) {
            self.wants_text(position, name, &what);
        }
        given_by(function, what, &given)
    }

    pub(super) fn wants_text(&mut self, position: usize, name: &str, what: &What<'_>) {
        // Elements that are dates or times are read as they are written.
        if what.is_never(|sort| matches!(sort, Sort::Text | Sort::Moment | Sort::Time)) {
            let words = format!("`{name}` wants a text, and is called on {}", what.words());
            self.wrong(position, words);
        } else if what.many && what.sorts().is_some() {
            let words = format!("`{name}` wants one text, and there may be several here");
            self.unsure(position, words);
        }
    }
}

/// What comes of a function on this, where its arguments give that.
fn given_by<'a>(function: Function, what: What<'a>, given: &[What<'a>]) -> What<'a> {
    use Function as F;
    let first = || given.first().cloned().unwrap_or_else(What::unknown);
    match function {
        F::Where
        | F::Tail
        | F::Skip
        | F::Take
        | F::Distinct
        | F::Trace
        | F::Exclude
        | F::Intersect
        | F::Sort => what,
        F::First | F::Last | F::Single => what.single(),
        F::Select => {
            let many = what.many;
            let made = first();
            What {
                many: many || made.many,
                ..made
            }
        }
        F::Union | F::Combine => what.or(first()).several(),
        F::Iif => match given {
            [_, one] => one.clone(),
            [_, one, other] => one.clone().or(other.clone()),
            _ => What::unknown(),
        },
        F::All
        | F::AllFalse
        | F::AllTrue
        | F::AnyFalse
        | F::AnyTrue
        | F::Comparable
        | F::ConformsTo
        | F::Contains
        | F::ConvertsTo(_)
        | F::Empty
        | F::EndsWith
        | F::Exists
        | F::HasValue
        | F::IsDistinct
        | F::Matches
        | F::MatchesFull
        | F::Not
        | F::StartsWith
        | F::SubsetOf
        | F::SupersetOf => What::system(System::Boolean),
        F::Count | F::IndexOf | F::Length | F::Precision => What::system(System::Integer),
        F::Ceiling | F::Floor | F::Truncate | F::Exp | F::Ln | F::Log | F::Power | F::Sqrt => {
            What::number()
        }
        F::Decode
        | F::Encode
        | F::Escape
        | F::Join
        | F::Lower
        | F::Replace
        | F::ReplaceMatches
        | F::Substring
        | F::Trim
        | F::Unescape
        | F::Upper => What::system(System::String),
        F::Split | F::ToChars => What::system(System::String).several(),
        F::To(target) => What::system(converted(target)),
        F::Now => What::system(System::DateTime),
        F::Today => What::system(System::Date),
        F::TimeOfDay => What::system(System::Time),
        F::Extension => {
            let kind = structures().find("Extension");
            kind.map_or_else(What::unknown, |kind| What::one(Kind::fhir(kind)))
                .several()
        }
        F::Abs
        | F::Aggregate
        | F::Children
        | F::Descendants
        | F::GetValue
        | F::HighBoundary
        | F::LowBoundary
        | F::Repeat
        | F::Resolve
        | F::Round
        | F::Type => What::unknown(),
    }
}
