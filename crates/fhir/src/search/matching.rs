//! Whether a resource matches a clause.
use serde_json::Value;

use super::extract::{Found, leaves_of, of_clause, text};
use super::near::is_placed;
use super::plan::Leaf;
use super::words::{is_of_words, matches as words_of};
use super::{
    Clause, Modifier, Operand, ParameterKind, Prefix, Quantity, UnitAsked, composite, normalise,
};
use crate::Resource;

pub(super) fn clause(clause: &Clause, resource: &Resource) -> bool {
    if clause.parameter == "_lastUpdated" {
        return true;
    }
    match clause.kind {
        ParameterKind::Composite => return composite::matches(clause, resource),
        ParameterKind::Special if is_of_words(&clause.parameter) => {
            return words_of(clause, resource);
        }
        ParameterKind::Special => return special(clause, resource),
        _ => {}
    }
    match clause.modifier {
        Some(Modifier::Missing) => {
            let mut missing = true;
            leaves_of(resource, clause, &mut |leaf, value| {
                missing &= says_nothing(leaf, value);
            });
            return clause.operands.contains(&Operand::Missing(missing));
        }
        Some(Modifier::Text | Modifier::OfType | Modifier::Identifier) => {
            return of_leaves(clause, resource);
        }
        _ => {}
    }
    let mut hit = false;
    let differs = clause.modifier == Some(Modifier::Differs);
    of_clause(resource, clause, &mut |found| {
        hit = hit || any_operand(clause, &found) != differs;
    });
    hit != (clause.modifier == Some(Modifier::Not))
}

/// Whether a value is one of those that a clause names.
pub(super) fn any_operand(clause: &Clause, found: &Found<'_>) -> bool {
    clause
        .operands
        .iter()
        .any(|operand| operand_matches(operand, clause.modifier, found))
}

/// `near`, which is all that there is of parameters of this type.
fn special(clause: &Clause, resource: &Resource) -> bool {
    clause.operands.iter().any(|operand| match operand {
        Operand::Near(near) => near.has(resource),
        Operand::Missing(missing) => *missing != is_placed(resource),
        _ => false,
    })
}

pub(super) fn operand_matches(
    operand: &Operand,
    modifier: Option<Modifier>,
    found: &Found<'_>,
) -> bool {
    match (operand, found) {
        (
            Operand::Token { system, code },
            Found::Token {
                system: found_system,
                code: found_code,
            },
        ) => {
            system
                .as_deref()
                .is_none_or(|system| system == *found_system)
                && code.as_deref().is_none_or(|code| code == *found_code)
        }
        (Operand::Codes(codes), Found::Token { system, code }) => codes.has(system, code),
        (Operand::String(wanted), Found::Text(text)) => match modifier {
            Some(Modifier::Exact) => wanted == text,
            Some(Modifier::Equals | Modifier::Differs) => normalise(text) == *wanted,
            Some(Modifier::EndsWith) => normalise(text).ends_with(wanted.as_str()),
            Some(Modifier::Contains) => normalise(text).contains(wanted.as_str()),
            _ => normalise(text).starts_with(wanted.as_str()),
        },
        (
            Operand::Date {
                prefix,
                start_ms,
                end_ms,
            },
            Found::Date {
                start_ms: found_start,
                end_ms: found_end,
            },
        ) => prefix.matches((*start_ms, *end_ms), (*found_start, *found_end)),
        (
            Operand::About { start_ms, end_ms },
            Found::Date {
                start_ms: found_start,
                end_ms: found_end,
            },
        ) => found_start < end_ms && start_ms < found_end,
        (
            Operand::Reference {
                kind,
                id,
                url: None,
            },
            Found::Literal(found_kind, found_id),
        ) => id == found_id && kind.is_none_or(|kind| kind == *found_kind),
        (
            Operand::Reference {
                url: Some(wanted), ..
            },
            Found::Url(url),
        ) => wanted == url,
        (Operand::Resources(wanted), Found::Literal(kind, id)) => wanted.has(*kind, id),
        (Operand::Resources(wanted), Found::Token { code, .. }) => wanted.has_id(code),
        (Operand::Uri(wanted), Found::Uri(uri)) => match modifier {
            Some(Modifier::Above) => is_below(wanted, uri),
            Some(Modifier::Below) => is_below(uri, wanted),
            _ => wanted == uri,
        },
        (Operand::Number { prefix, value }, Found::Number(span)) => value.matches(*prefix, span),
        (
            Operand::Quantity {
                prefix,
                value,
                unit: None,
            },
            Found::Quantity(found),
        ) => value.matches(*prefix, &found.value),
        (
            Operand::Quantity {
                prefix,
                value,
                unit: Some(unit),
            },
            Found::Quantity(found),
        ) => match (&unit.canonical, &found.canonical) {
            // One unit's values can be said in the other.
            (Some((wanted, value)), Some((unit, span))) if wanted == unit => {
                value.matches(*prefix, span)
            }
            _ => unit.names(found) && value.matches(*prefix, &found.value),
        },
        _ => false,
    }
}

impl UnitAsked {
    /// Whether a resource's unit is the very one that is asked for.
    fn names(&self, found: &Quantity<&str>) -> bool {
        match &self.system {
            Some(system) => system == found.system && self.code == found.code,
            None => self.code == found.code || self.code == found.unit,
        }
    }
}

impl Prefix {
    /// Whether a resource's period stands in this relation to the query's, both half-open
    /// (R4, section 3.1.1.4.5).
    #[must_use]
    pub fn matches(self, query: (i64, i64), resource: (i64, i64)) -> bool {
        let within = query.0 <= resource.0 && resource.1 <= query.1;
        match self {
            Self::Eq => within,
            Self::Ne => !within,
            Self::Gt => resource.1 > query.1,
            Self::Lt => resource.0 < query.0,
            Self::Ge => resource.1 > query.1 || within,
            Self::Le => resource.0 < query.0 || within,
            Self::Sa => resource.0 >= query.1,
            Self::Eb => resource.1 <= query.0,
            // Nobody has said yet how far away it is, see `SearchQuery::at`.
            Self::Ap => false,
        }
    }
}

/// An element that is there, but says nothing that could be asked for.
pub(super) fn says_nothing(leaf: Leaf, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => normalise(text).is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => leaf == Leaf::Other,
    }
}

/// Clauses about what stands beside the values of a parameter.
fn of_leaves(clause: &Clause, resource: &Resource) -> bool {
    let mut hit = false;
    leaves_of(resource, clause, &mut |leaf, value| {
        let any = |wanted: &mut dyn FnMut(&Operand) -> bool| clause.operands.iter().any(wanted);
        hit |= match clause.modifier {
            Some(Modifier::Text) => words(leaf, value).any(|words| {
                let words = normalise(words);
                any(&mut |operand| {
                    matches!(operand, Operand::String(text) if words.starts_with(text.as_str()))
                })
            }),
            Some(Modifier::OfType) if leaf == Leaf::Identifier => {
                any(&mut |operand| is_of_type(operand, value))
            }
            Some(Modifier::Identifier) if leaf == Leaf::Reference => {
                let Some(identifier) = value.get("identifier") else {
                    return;
                };
                let found = Found::Token {
                    system: text(identifier, "system").unwrap_or_default(),
                    code: text(identifier, "value").unwrap_or_default(),
                };
                any(&mut |operand| operand_matches(operand, None, &found))
            }
            _ => false,
        };
    });
    hit
}

/// What a code or an identifier is in words.
fn words(leaf: Leaf, value: &Value) -> impl Iterator<Item = &str> {
    let codings = match leaf {
        Leaf::CodeableConcept => value.get("coding").and_then(Value::as_array),
        _ => None,
    };
    let own = match leaf {
        Leaf::CodeableConcept => text(value, "text"),
        Leaf::Coding => text(value, "display"),
        Leaf::Identifier => value.get("type").and_then(|kind| text(kind, "text")),
        _ => None,
    };
    let displays = (codings.into_iter().flatten()).filter_map(|coding| text(coding, "display"));
    own.into_iter().chain(displays)
}

fn is_of_type(operand: &Operand, identifier: &Value) -> bool {
    let Operand::OfType {
        system,
        code,
        value,
    } = operand
    else {
        return false;
    };
    let codings = (identifier.get("type"))
        .and_then(|kind| kind.get("coding"))
        .and_then(Value::as_array);
    text(identifier, "value") == Some(value)
        && codings.into_iter().flatten().any(|coding| {
            text(coding, "system") == Some(system) && text(coding, "code") == Some(code)
        })
}

/// Whether a URL is another one or lies below it, step by step of its path. A slash at the end is none.
fn is_below(url: &str, root: &str) -> bool {
    if url == root {
        return true;
    }
    let root = root.strip_suffix('/').unwrap_or(root);
    let rooted = root
        .split_once("://")
        .is_some_and(|(_, rest)| !rest.is_empty());
    rooted
        && url
            .strip_prefix(root)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// All URLs that a URL lies below, and itself, as each can be written.
#[must_use]
pub fn above(url: &str) -> Vec<String> {
    let start = url.find("://").map_or(0, |at| at + 3);
    let steps = url
        .char_indices()
        .filter(|(at, c)| *at > start && *c == '/');
    let steps = steps.flat_map(|(at, _)| [&url[..at], &url[..=at]]);
    let mut all: Vec<String> = steps.map(str::to_owned).collect();
    all.push(url.to_owned());
    all.push(format!("{url}/"));
    all.sort_unstable();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ResourceType as T;
    use crate::search::SearchQuery;
    use serde_json::json;

    #[test]
    fn what_is_above_has_what_it_is_above_below_it() {
        let urls = [
            "http://a",
            "http://a/",
            "http://a/b",
            "http://a/b/",
            "http://a/bc",
            "http://a//b",
            "http://a//",
            "http://",
            "https://a/b",
            "http://a/b/c/d",
        ];
        let mut pairs = 0;
        for url in urls {
            for root in urls {
                let listed = above(url).iter().any(|above| above == root);
                assert_eq!(is_below(url, root), listed, "{url} {root}");
                pairs += usize::from(listed);
            }
        }
        assert!(pairs > 20, "{pairs}");
        assert!(is_below("http://a/b/c/d", "http://a/b") && !is_below("http://a/bc", "http://a/b"));
    }

    #[test]
    fn modifiers_look_beside_the_values() {
        let observation = json!({
            "resourceType": "Observation", "id": "o", "status": "final",
            "code": {"text": "Körpergewicht", "coding": [{"system": "http://loinc.org", "code": "29463-7", "display": "Body weight"}]},
            "category": [{"text": "Vital signs"}],
            "subject": {"identifier": {"system": "urn:mrn", "value": "17"}},
            "identifier": [{"value": "x", "type": {"text": "Lab order", "coding": [{"system": "urn:t", "code": "PLAC"}]}},
                {"value": "y"}],
            "meta": {"tag": [{"code": "t", "display": "Training"}], "source": "http://acme.org/lab/7#a|1", "profile": ["http://acme.org/fhir/P|1.0"]},
        });
        let resource = Resource::from_value(observation).unwrap();
        for (parameter, matches) in [
            ("code:text=korper", true),
            ("code:text=body w,x", true),
            ("code:text=weight", false),
            ("code:text=29463-7", false),
            ("identifier:text=lab", true),
            ("_tag:text=training", true),
            ("identifier:of-type=urn:t|PLAC|x", true),
            ("identifier:of-type=urn:t|PLAC|y", false),
            ("identifier:of-type=urn:t|FILL|x", false),
            ("subject:identifier=urn:mrn|17", true),
            ("subject:identifier=17", true),
            ("subject:identifier=|17", false),
            ("subject:identifier=urn:mrn|", true),
            ("patient:identifier=17", false),
            // What is there in words only is there.
            ("category:missing=false", true),
            ("subject:missing=true", false),
            ("encounter:missing=true", true),
            ("_profile:below=http://acme.org/fhir", true),
            ("_profile:below=http://acme.org/fh", false),
            ("_profile:above=http://acme.org/fhir/P/x", true),
            ("_profile:above=http://acme.org/fhir", false),
            ("_source=http://acme.org/lab/7%23a|1", false),
            ("_source=http://acme.org/lab/7#a|1", true),
            ("_source=http://acme.org/lab/7#a", false),
            ("_source=http://acme.org/lab/7", false),
            ("_source:below=http://acme.org/lab", true),
            ("_source:below=http://acme.org/l", false),
            ("_source:above=http://acme.org/lab/7#a|1/x", true),
            ("_source:above=http://acme.org/lab", false),
            ("_source:missing=false", true),
            ("_source:missing=true", false),
        ] {
            let (name, value) = parameter.split_once('=').unwrap();
            let asked = [(name.to_owned(), value.to_owned())];
            let query = SearchQuery::parse(T::Observation, &asked, false).unwrap();
            assert_eq!(query.matches(&resource), matches, "{parameter}");
        }
        for (parameter, words) in [
            ("code:of-type=a|b|c", "no identifiers"),
            ("identifier:of-type=a|b", "system|code|value"),
            ("code:in=x", "canonical URL of a ValueSet"),
            ("code:in=Patient/x", "canonical URL of a ValueSet"),
            ("code:below=1", "`system|code`"),
            ("_id:in=http://x/vs", "known are"),
            ("_profile:above=urn:x", "is a URL"),
            ("_source:exact=urn:x", "known are"),
            ("date:text=x", "known are missing"),
        ] {
            let (name, value) = parameter.split_once('=').unwrap();
            let asked = [(name.to_owned(), value.to_owned())];
            let refused = SearchQuery::parse(T::Observation, &asked, false).unwrap_err();
            assert!(
                refused.to_string().contains(words),
                "{parameter}: {refused}"
            );
        }
    }
}
