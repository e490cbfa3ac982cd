//! Codes by value sets and code systems (`:in`, `:not-in`, `:above`, `:below` of tokens; R4, section
//! 3.1.1.4.9): what these resources list. Whoever has them ([`CodesOf`]) puts the codes in the clause's
//! place ([`SearchQuery::each_clause`], [`Clause::set_codes`]).
use super::{Clause, Modifier, Operand, ParameterKind, SearchQuery};
use crate::Resource;
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Codes with their systems.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Codes(BTreeSet<(String, String)>);

impl Codes {
    /// Adds a code of a system.
    pub fn add(&mut self, system: &str, code: &str) {
        self.0.insert((system.to_owned(), code.to_owned()));
    }
    /// Whether a code is there.
    #[must_use]
    pub fn has(&self, system: &str, code: &str) -> bool {
        // Sets of pairs of texts can't be asked for pairs of references.
        self.0.contains(&(system.to_owned(), code.to_owned()))
    }
    /// All, in a fixed order: system and code.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(system, code)| (system.as_str(), code.as_str()))
    }
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// Adds all others.
    pub fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }
    /// Keeps those that are in another set.
    pub fn keep(&mut self, others: &Self) {
        self.0.retain(|pair| others.0.contains(pair));
    }
    /// Takes those away that are in another set.
    pub fn remove(&mut self, others: &Self) {
        self.0.retain(|pair| !others.0.contains(pair));
    }
}

/// Which codes an alternative of a clause means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CodesOf {
    /// Those of a value set: its canonical URL, or `ValueSet/id`.
    ValueSet(String),
    /// A code, and those that it is a kind of.
    Above {
        /// system
        system: String,
        /// code
        code: String,
    },
    /// A code, and those that are a kind of it.
    Below {
        /// system
        system: String,
        /// code
        code: String,
    },
}

/// A part of a value set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Included {
    /// The code system, unless it is of value sets alone.
    pub system: Option<String>,
    /// The codes, where they are listed; else all of the system.
    pub codes: Option<Vec<String>>,
    /// Value sets; what is meant is in all of them.
    pub value_sets: Vec<String>,
}

/// What a value set is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// It lists its codes.
    Listed(Codes),
    /// It is put together: what is included, and what is excluded.
    Composed(Vec<Included>, Vec<Included>),
}

fn text(value: &Value, name: &str) -> Option<String> {
    value.get(name)?.as_str().map(str::to_owned)
}

fn items<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value
        .get(name)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

/// What a value set is made of.
///
/// # Errors
/// In words, why its codes can't be known from it.
pub fn content(value_set: &Resource) -> Result<Content, &'static str> {
    let value = value_set.as_value();
    if let Some(expansion) = value.get("expansion") {
        let mut codes = Codes::default();
        let mut seen = 0;
        expanded(expansion, &mut codes, &mut seen);
        let total = expansion.get("total").and_then(Value::as_u64);
        let offset = expansion.get("offset").and_then(Value::as_u64).unwrap_or(0);
        if offset > 0 || total.is_some_and(|total| total > seen) {
            return Err("its expansion is only a part");
        }
        return Ok(Content::Listed(codes));
    }
    let Some(compose) = value.get("compose") else {
        return Err("it lists no codes");
    };
    let parts = |name: &str| items(compose, name).map(included).collect::<Result<_, _>>();
    Ok(Content::Composed(parts("include")?, parts("exclude")?))
}

fn expanded(value: &Value, codes: &mut Codes, seen: &mut u64) {
    for entry in items(value, "contains") {
        *seen += 1;
        let is_abstract = entry.get("abstract").and_then(Value::as_bool) == Some(true);
        if let (Some(code), false) = (text(entry, "code"), is_abstract) {
            codes.add(&text(entry, "system").unwrap_or_default(), &code);
        }
        expanded(entry, codes, seen);
    }
}

fn included(part: &Value) -> Result<Included, &'static str> {
    if items(part, "filter").next().is_some() {
        return Err("it is put together by filters");
    }
    let codes: Vec<String> = items(part, "concept")
        .filter_map(|concept| text(concept, "code"))
        .collect();
    let value_sets: Vec<String> = items(part, "valueSet")
        .filter_map(|url| url.as_str().map(str::to_owned))
        .collect();
    let included = Included {
        system: text(part, "system"),
        codes: Some(codes).filter(|codes| !codes.is_empty()),
        value_sets,
    };
    if included.system.is_none() && included.value_sets.is_empty() {
        return Err("it has a part without a system");
    }
    Ok(included)
}

/// All codes of a code system, each with those that it lies below, the nearest last.
///
/// # Errors
/// In words, why its codes can't be known from it.
pub fn concepts(code_system: &Resource) -> Result<Vec<(String, Vec<String>)>, &'static str> {
    if code_system.get("content").and_then(Value::as_str) != Some("complete") {
        return Err("its content is not complete here");
    }
    let mut all = Vec::new();
    below(code_system.as_value(), &mut Vec::new(), &mut all);
    Ok(all)
}

fn below(value: &Value, above: &mut Vec<String>, all: &mut Vec<(String, Vec<String>)>) {
    for concept in items(value, "concept") {
        let Some(code) = text(concept, "code") else {
            continue;
        };
        all.push((code.clone(), above.clone()));
        above.push(code);
        below(concept, above, all);
        above.pop();
    }
}

/// Whether being below another code of a code system means to be a kind of it.
#[must_use]
pub fn is_hierarchy(code_system: &Resource) -> bool {
    let meaning = code_system.get("hierarchyMeaning").and_then(Value::as_str);
    matches!(meaning, None | Some("is-a"))
}

impl Clause {
    /// The codes that it is about and nobody has looked up yet.
    pub fn codes_of(&self) -> impl Iterator<Item = &CodesOf> {
        self.operands.iter().filter_map(|operand| match operand {
            Operand::CodesOf(of) => Some(of),
            _ => None,
        })
    }

    /// Puts codes in the place of what they are of; nothing happens to a clause that is about something
    /// else.
    pub fn set_codes(&mut self, codes: Arc<Codes>) {
        if self.kind == ParameterKind::Token && self.codes_of().next().is_some() {
            self.operands = vec![Operand::Codes(codes)];
            self.modifier = (self.modifier == Some(Modifier::NotIn)).then_some(Modifier::Not);
        }
    }
}

impl SearchQuery {
    /// Whether there are codes to be looked up; before that nothing matches.
    #[must_use]
    pub fn needs_codes(&self) -> bool {
        let needs = |clause: &Clause| clause.codes_of().next().is_some();
        self.any_clause(&needs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn resource(value: Value) -> Resource {
        Resource::from_value(value).unwrap()
    }

    #[test]
    fn what_a_value_set_lists() {
        let set = |more: Value| {
            let mut value = json!({"resourceType": "ValueSet", "id": "v", "status": "active"});
            for (name, member) in more.as_object().unwrap() {
                value[name] = member.clone();
            }
            content(&resource(value))
        };
        let listed = set(json!({"expansion": {"total": 3, "contains": [
            {"system": "s", "code": "a", "contains": [{"system": "s", "code": "b"}]},
            {"system": "s", "code": "group", "abstract": true}]}}));
        let Ok(Content::Listed(codes)) = listed else {
            panic!("{listed:?}");
        };
        assert_eq!(codes.iter().collect::<Vec<_>>(), [("s", "a"), ("s", "b")]);
        let composed = set(json!({"compose": {
            "include": [{"system": "s", "concept": [{"code": "a"}]}, {"valueSet": ["http://v"]}, {"system": "t"}],
            "exclude": [{"system": "s", "concept": [{"code": "b"}]}]}}));
        let Ok(Content::Composed(include, exclude)) = composed else {
            panic!("{composed:?}");
        };
        assert_eq!((include.len(), exclude.len()), (3, 1));
        assert_eq!(include[0].codes.as_deref(), Some(&["a".to_owned()][..]));
        assert!(include[2].codes.is_none());
        for (more, words) in [
            (json!({}), "no codes"),
            (
                json!({"expansion": {"total": 9, "contains": [{"system": "s", "code": "a"}]}}),
                "a part",
            ),
            (
                json!({"compose": {"include": [{"system": "s", "filter": [{"property": "p", "op": "=", "value": "x"}]}]}}),
                "filters",
            ),
            (
                json!({"compose": {"include": [{"concept": [{"code": "a"}]}]}}),
                "without a system",
            ),
        ] {
            assert!(set(more).unwrap_err().contains(words), "{words}");
        }
    }

    #[test]
    fn what_a_code_system_has_above_a_code() {
        let system = resource(
            json!({"resourceType": "CodeSystem", "id": "c", "content": "complete",
            "concept": [{"code": "a", "concept": [{"code": "b", "concept": [{"code": "c"}]}, {"code": "d"}]}, {"code": "e"}]}),
        );
        let all = concepts(&system).unwrap();
        let above = |code: &str| all.iter().find(|(one, _)| one == code).unwrap().1.join(",");
        assert_eq!(
            (
                all.len(),
                above("c").as_str(),
                above("d").as_str(),
                above("e").as_str()
            ),
            (5, "a,b", "a", "")
        );
        assert!(is_hierarchy(&system));
        let part =
            resource(json!({"resourceType": "CodeSystem", "id": "c", "content": "fragment"}));
        assert!(concepts(&part).is_err());
        let grouped = resource(
            json!({"resourceType": "CodeSystem", "id": "c", "content": "complete", "hierarchyMeaning": "grouped-by"}),
        );
        assert!(!is_hierarchy(&grouped));
    }
}
