//! Which of a resource's search values get a token.
//!
//! A token costs some ten bytes on disk and a part of every merge of the index, so what can be known
//! otherwise has none; `tokens.rs` says what it is found by instead.

use fhir::ResourceType;
use fhir::search::{POSITION_MAX, Quantity, Span};

/// The longest beginning of a string that has a token. Longer ones are found by this one and checked.
const BEGINNING_MAX: usize = 8;
/// Of how many characters the beginnings of an audit event's texts are that have a token. There are few
/// who act and one event for each act, so two of them will do.
const AUDIT_BEGINNINGS: [usize; 2] = [3, BEGINNING_MAX];

/// Parameters of audit events that nobody finds anything by.
const AUDIT_UNINDEXED: [&str; 8] = [
    "_profile",
    "address",
    "entity-name",
    "entity-role",
    "entity-type",
    "site",
    "source",
    "type",
];

/// Codes that so many audit events have that asking for them narrows nothing.
const AUDIT_COMMON: [(&str, &str); 6] = [
    ("action", "E"),
    ("action", "R"),
    ("outcome", OUTCOME_SUCCESS),
    ("subtype", "read"),
    ("subtype", "search"),
    ("subtype", "search-type"),
];
/// The outcome of nearly every event.
const OUTCOME_SUCCESS: &str = "0";
/// All others (`audit-event-outcome`).
const OUTCOMES_OF_FAILURE: [&str; 3] = ["4", "8", "12"];

/// Whether a parameter has tokens of its own.
#[must_use]
pub fn indexed(kind: ResourceType, parameter: &str) -> bool {
    // Documents of before `_source` could be asked for have no token of it, and few have a source.
    !matches!(parameter, "_id" | "_source")
        && answered_by(kind, parameter).is_empty()
        && (kind != ResourceType::AuditEvent || !AUDIT_UNINDEXED.contains(&parameter))
}

/// Whether a code has no token because so many documents of the kind have it.
#[must_use]
pub fn is_common(kind: ResourceType, parameter: &str, code: &str) -> bool {
    kind == ResourceType::AuditEvent && AUDIT_COMMON.contains(&(parameter, code))
}

/// What the documents have that don't have a common code, if it is one of a few others.
pub(crate) fn all_but(
    kind: ResourceType,
    parameter: &str,
    code: &str,
) -> Option<&'static [&'static str]> {
    let success = (kind, parameter, code) == (ResourceType::AuditEvent, "outcome", OUTCOME_SUCCESS);
    success.then_some(&OUTCOMES_OF_FAILURE)
}

/// The beginnings of a normalised text that have a token, shortest first.
pub fn beginnings(kind: ResourceType, text: &str) -> impl Iterator<Item = &str> {
    let ends = text.char_indices().map(|(at, c)| at + c.len_utf8());
    (1..=BEGINNING_MAX)
        .zip(ends)
        .filter(move |(length, _)| {
            kind != ResourceType::AuditEvent || AUDIT_BEGINNINGS.contains(length)
        })
        .map(|(_, end)| &text[..end])
}

/// The parameters whose values together are all that a parameter has, or more, which the check on the
/// opened body leaves out: what has a quantity in an observation or in a component has it in one of them.
pub(crate) fn answered_by(kind: ResourceType, parameter: &str) -> &'static [&'static str] {
    match (kind, parameter) {
        (ResourceType::Observation, "combo-code") => &["code", "component-code"],
        (ResourceType::Observation, "combo-data-absent-reason") => {
            &["component-data-absent-reason", "data-absent-reason"]
        }
        (ResourceType::Observation, "combo-value-concept") => {
            &["component-value-concept", "value-concept"]
        }
        (ResourceType::Observation, "component-value-quantity" | "value-quantity") => {
            &["combo-value-quantity"]
        }
        _ => &[],
    }
}

/// One of the things by which a quantity is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Measure<'a> {
    /// Where it stands among all numbers under a parameter, at all precisions.
    Precise(String, &'a Span),
    /// The same, roughly.
    Rough(String, &'a Span),
    /// A text under a parameter.
    Words(String, String),
}

/// What a quantity is found by. One that has a canonical unit is found by its value in that; by its value
/// in its own, roughly, for who asks for no unit or for the words of it; and by these words if they aren't
/// its code, which is asked for by the canonical unit.
#[must_use]
pub fn measures<'a>(parameter: &str, quantity: &'a Quantity<String>) -> Vec<Measure<'a>> {
    let words =
        |way: &str, text: &str| Measure::Words(format!("{parameter}{way}"), text.to_owned());
    let (code, unit) = (quantity.code.as_str(), quantity.unit.as_str());
    let mut found = Vec::with_capacity(4);
    if let Some((canonical, span)) = &quantity.canonical {
        found.push(Measure::Precise(in_unit(parameter, canonical), span));
        found.push(Measure::Rough(parameter.to_owned(), &quantity.value));
        if !unit.is_empty() && unit != code {
            found.push(words(WORDS_BESIDE_CODE, unit));
        }
        return found;
    }
    found.push(Measure::Precise(parameter.to_owned(), &quantity.value));
    if !code.is_empty() {
        found.push(words(WORDS, code));
    }
    if !unit.is_empty() && unit != code {
        found.push(words(WORDS, unit));
    }
    if !quantity.system.is_empty() {
        found.push(words(CODED, &pair(&quantity.system, code)));
    }
    found
}

/// The ways in which the code and the words of a unit are asked for (see `tokens.rs`).
pub(crate) const WORDS: &str = ";";
pub(crate) const WORDS_BESIDE_CODE: &str = ";~";
pub(crate) const CODED: &str = ";|";

/// System and code, kept apart by a character that neither can hold.
pub(crate) fn pair(system: &str, code: &str) -> String {
    format!("{system}\u{1f}{code}")
}

/// The parameter of the values in one of UCUM's canonical units.
pub(crate) fn in_unit(parameter: &str, canonical: &str) -> String {
    format!("{parameter} {canonical}")
}

/// The ends of a number or a range of numbers among all numbers, each with the way it is asked for.
pub fn ends(span: &Span) -> impl Iterator<Item = (&'static str, i64)> {
    let low = (span.low).map_or(-POSITION_MAX, |end| end.at.position());
    let high = (span.high).map_or(POSITION_MAX, |end| end.at.position());
    let (first, second) = if low == high {
        (("#@", low), None)
    } else {
        (("#<", low), Some(("#>", high)))
    };
    [first].into_iter().chain(second)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn expressions(kind: ResourceType, name: &str) -> BTreeSet<&'static str> {
        let parameter = fhir::search::parameters(kind)
            .iter()
            .find(|parameter| parameter.name == name)
            .unwrap();
        parameter.expression.split(" | ").collect()
    }

    #[test]
    fn what_a_parameter_is_made_of_is_all_that_it_has() {
        let kind = ResourceType::Observation;
        let (mut seen, mut more) = (0, 0);
        for parameter in fhir::search::parameters(kind) {
            let parts = answered_by(kind, parameter.name);
            if parts.is_empty() {
                continue;
            }
            let together = parts.iter().flat_map(|part| expressions(kind, part));
            let together = together.collect::<BTreeSet<_>>();
            let own = expressions(kind, parameter.name);
            assert!(parts.iter().all(|part| indexed(kind, part)));
            if parameter.name.ends_with("value-quantity") {
                assert!(together.is_superset(&own), "{}", parameter.name);
                more += 1;
            } else {
                assert_eq!(together, own);
                seen += 1;
            }
        }
        assert_eq!((seen, more), (3, 2));
    }

    #[test]
    fn beginnings_have_up_to_eight_characters() {
        let of = |kind, text| beginnings(kind, text).collect::<Vec<_>>();
        assert_eq!(of(ResourceType::Patient, "zoë"), ["z", "zo", "zoë"]);
        assert_eq!(of(ResourceType::Patient, "katharina").len(), 8);
        assert_eq!(
            of(ResourceType::AuditEvent, "katharina"),
            ["kat", "katharin"]
        );
        assert!(of(ResourceType::AuditEvent, "li").is_empty());
    }
}
