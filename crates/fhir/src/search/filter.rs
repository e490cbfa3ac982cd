//! `_filter` (R4, section 3.1.3): conditions with `and`, `or` and `not`, as clauses like those of other
//! parameters. So tokens narrow it where they would narrow those, and what it means is checked on the
//! opened resource.
//!
//! `and` binds more tightly than `or`. Of several values it is enough that one compares as it is asked,
//! also for `ne`, as the specification has it. A chain (`subject.name eq "x"`) holds if one of the resources
//! that are referred to is so, and a filter within a path (`subject[active eq true].name eq "x"`) is about
//! the same one. `ss` and `sb` of what has no codes are refused by name.
use super::link::{End, begins_known, chained};
use super::parameter::find;
use super::query::{LINKS_BYTES_MAX, bad, clause, shown, unknown};
use super::{Clause, Condition, Link, Modifier, Operand, Owns, ParameterKind, SearchQuery};
use crate::{IssueCode, OperationOutcome, ResourceType};

/// The parameter's name.
pub(super) const FILTER: &str = "_filter";
/// Levels of parentheses, `not`, and filters within paths.
const DEPTH_MAX: usize = 20;
/// Comparisons in one filter, as many as a query has clauses.
const COMPARISONS_MAX: usize = 50;

/// A filter as it is written.
#[derive(Debug)]
enum Tree {
    Compare {
        path: String,
        operator: String,
        value: String,
    },
    All(Vec<Tree>),
    Any(Vec<Tree>),
    Not(Box<Tree>),
    /// What a path leads to is so, and what follows holds of the same.
    Within {
        path: String,
        filter: Box<Tree>,
        then: Box<Tree>,
    },
}

impl Tree {
    /// Whether a type has the parameters that it begins with.
    fn is_known(&self, kind: ResourceType, owns: &Owns) -> bool {
        match self {
            Self::Compare { path, .. } | Self::Within { path, .. } => {
                begins_known(kind, path, owns)
            }
            Self::All(parts) | Self::Any(parts) => {
                parts.iter().all(|part| part.is_known(kind, owns))
            }
            Self::Not(part) => part.is_known(kind, owns),
        }
    }

    /// Bytes of what is about other resources: each type that a path can lead to keeps them.
    fn linked_bytes(&self, in_link: bool) -> usize {
        match self {
            Self::Compare { path, value, .. } if in_link || path.contains('.') => {
                path.len() + value.len()
            }
            Self::Compare { .. } => 0,
            Self::All(parts) | Self::Any(parts) => {
                parts.iter().map(|part| part.linked_bytes(in_link)).sum()
            }
            Self::Not(part) => part.linked_bytes(in_link),
            Self::Within { path, filter, then } => {
                path.len() + filter.linked_bytes(true) + then.linked_bytes(true)
            }
        }
    }
}

impl SearchQuery {
    /// Takes the parameter `_filter`.
    pub(super) fn filter(&mut self, value: &str, owns: &Owns) -> Result<(), OperationOutcome> {
        let mut reader = Reader {
            rest: value,
            whole: value,
            comparisons: 0,
            within: 0,
        };
        let tree = reader.any(0)?;
        reader.space();
        if !reader.rest.is_empty() {
            return Err(reader.wrong("and, or, or the end"));
        }
        if tree.linked_bytes(false) > LINKS_BYTES_MAX {
            let words = format!(
                "what is asked of other resources has at most {LINKS_BYTES_MAX} bytes in a filter"
            );
            return Err(bad(IssueCode::TooLong, FILTER, words));
        }
        self.take(&tree, owns, 0)
    }

    /// Takes a part of a filter, with so many references before it.
    fn take(&mut self, tree: &Tree, owns: &Owns, depth: usize) -> Result<(), OperationOutcome> {
        match tree {
            Tree::All(parts) => {
                for part in parts {
                    self.take(part, owns, depth)?;
                }
            }
            tree => match condition(self.kind, tree, owns, depth)? {
                Condition::Clause(clause) => self.clauses.push(clause),
                Condition::Link(link) => self.links.push(*link),
                condition => self.conditions.push(condition),
            },
        }
        Ok(())
    }
}

fn condition(
    kind: ResourceType,
    tree: &Tree,
    owns: &Owns,
    depth: usize,
) -> Result<Condition, OperationOutcome> {
    let joined = |parts: &[Tree]| -> Result<Vec<Condition>, OperationOutcome> {
        let part = |part: &Tree| {
            if matches!(part, Tree::Compare { path, .. } if path == "_lastUpdated") {
                let words = "`_lastUpdated` can be asked for in parts joined by `and` only";
                return Err(bad(IssueCode::NotSupported, FILTER, words));
            }
            condition(kind, part, owns, depth)
        };
        parts.iter().map(part).collect()
    };
    Ok(match tree {
        Tree::All(parts) => Condition::All(joined(parts)?),
        Tree::Any(parts) => Condition::Any(joined(parts)?),
        Tree::Not(part) => {
            let mut parts = joined(std::slice::from_ref(part))?;
            Condition::Not(Box::new(parts.swap_remove(0)))
        }
        Tree::Compare {
            path,
            operator,
            value,
        } => {
            if !path.contains('.') {
                let clause = compare(kind, path, operator, value, owns)?;
                return Ok(Condition::Clause(clause));
            }
            let end = End {
                known: &|target, inner| begins_known(target, inner, owns),
                made: &|target, inner, _| {
                    let mut query = SearchQuery::empty(target);
                    let clause = compare(target, inner, operator, value, owns)?;
                    query.clauses.push(clause);
                    Ok(query)
                },
            };
            Condition::Link(Box::new(chain(kind, path, owns, depth, &end)?))
        }
        Tree::Within { path, filter, then } => {
            let end = End {
                known: &|target, _| filter.is_known(target, owns) && then.is_known(target, owns),
                made: &|target, _, depth| {
                    let mut query = SearchQuery::empty(target);
                    query.take(filter, owns, depth)?;
                    query.take(then, owns, depth)?;
                    Ok(query)
                },
            };
            // What the last reference leads to is asked for as a whole.
            let path = format!("{path}.");
            Condition::Link(Box::new(chain(kind, &path, owns, depth, &end)?))
        }
    })
}

/// A chain whose mistakes are the filter's.
fn chain(
    kind: ResourceType,
    path: &str,
    owns: &Owns,
    depth: usize,
    end: &End<'_>,
) -> Result<Link, OperationOutcome> {
    chained(kind, path, owns, depth, end).map_err(|mut outcome| {
        let issues = outcome.issues.iter_mut();
        issues.for_each(|issue| issue.expression = Some(FILTER.to_owned()));
        outcome
    })
}

/// A clause of a comparison.
fn compare(
    kind: ResourceType,
    path: &str,
    operator: &str,
    value: &str,
    owns: &Owns,
) -> Result<Clause, OperationOutcome> {
    let Some((parameter, of)) = find(kind, path, owns) else {
        let mut outcome = unknown(kind, FILTER, owns);
        for issue in &mut outcome.issues {
            issue.diagnostics = format!("`{}` {}", shown(path), issue.diagnostics);
        }
        return Err(outcome);
    };
    let refused = |words: String| bad(IssueCode::NotSupported, FILTER, words);
    let read = |modifier: Option<&str>, prefix: &str| {
        // What separates values elsewhere is a part of this one.
        let mut text = String::from(prefix);
        for letter in value.chars() {
            if matches!(letter, ',' | '$' | '\\') {
                text.push('\\');
            }
            text.push(letter);
        }
        clause(kind, FILTER, &parameter, of, modifier, &text)
    };
    let mut made = match (operator, of) {
        ("pr", _) => {
            let missing = match value {
                "true" => "false",
                "false" => "true",
                _ => {
                    let words = format!("`{}` pr is true or false", shown(path));
                    return Err(bad(IssueCode::Value, FILTER, words));
                }
            };
            return clause(kind, FILTER, &parameter, of, Some("missing"), missing);
        }
        (_, ParameterKind::Composite | ParameterKind::Special) => {
            return Err(refused(format!("`{}` can't be compared here", shown(path))));
        }
        (
            "eq" | "ne" | "gt" | "lt" | "ge" | "le" | "sa" | "eb" | "ap",
            ParameterKind::Date | ParameterKind::Number | ParameterKind::Quantity,
        ) => read(None, operator)?,
        ("po", ParameterKind::Date) => {
            let mut made = read(None, "eq")?;
            for operand in &mut made.operands {
                if let Operand::Date {
                    start_ms, end_ms, ..
                } = *operand
                {
                    *operand = Operand::About { start_ms, end_ms };
                }
            }
            made
        }
        ("eq" | "ne", _)
        | ("sw" | "ew", ParameterKind::String)
        | ("re", ParameterKind::Reference) => read(None, "")?,
        ("co", ParameterKind::String) => read(Some("contains"), "")?,
        ("in", ParameterKind::Token) => read(Some("in"), "")?,
        ("ni", ParameterKind::Token) => read(Some("not-in"), "")?,
        ("ss", ParameterKind::Token | ParameterKind::Uri) => read(Some("above"), "")?,
        ("sb", ParameterKind::Token | ParameterKind::Uri) => read(Some("below"), "")?,
        _ => {
            let words = format!(
                "`{}` is no way here to compare `{}`, which is of the type {}",
                shown(operator),
                shown(path),
                of.code()
            );
            return Err(refused(words));
        }
    };
    match (operator, of) {
        ("eq", ParameterKind::String) => made.modifier = Some(Modifier::Equals),
        ("ew", ParameterKind::String) => made.modifier = Some(Modifier::EndsWith),
        ("ne", ParameterKind::Date | ParameterKind::Number | ParameterKind::Quantity) => {}
        ("ne", _) => made.modifier = Some(Modifier::Differs),
        _ => {}
    }
    Ok(made)
}

fn too_deep() -> OperationOutcome {
    let words = format!("has more than {DEPTH_MAX} levels of parentheses and brackets");
    bad(IssueCode::TooLong, FILTER, words)
}

/// Reads a filter from its beginning.
struct Reader<'a> {
    rest: &'a str,
    whole: &'a str,
    comparisons: usize,
    /// How many brackets it is in.
    within: usize,
}

impl<'a> Reader<'a> {
    fn wrong(&self, wanted: &str) -> OperationOutcome {
        let at = self.whole.chars().count() - self.rest.chars().count() + 1;
        let words = format!("at character {at}: {wanted} was expected");
        bad(IssueCode::Invalid, FILTER, words)
    }

    fn space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// Takes a word if it is the next.
    fn keyword(&mut self, word: &str) -> bool {
        self.space();
        let Some(rest) = self.rest.strip_prefix(word) else {
            return false;
        };
        if rest.starts_with(|next: char| !next.is_whitespace() && next != '(') {
            return false;
        }
        self.rest = rest;
        true
    }

    fn any(&mut self, depth: usize) -> Result<Tree, OperationOutcome> {
        let mut parts = vec![self.all(depth)?];
        while self.keyword("or") {
            parts.push(self.all(depth)?);
        }
        Ok(match (parts.len(), parts.pop()) {
            (1, Some(one)) => one,
            (_, last) => Tree::Any(parts.into_iter().chain(last).collect()),
        })
    }

    fn all(&mut self, depth: usize) -> Result<Tree, OperationOutcome> {
        let mut parts = Vec::new();
        loop {
            match self.one(depth)? {
                Tree::All(more) => parts.extend(more),
                one => parts.push(one),
            }
            if !self.keyword("and") {
                break;
            }
        }
        Ok(match (parts.len(), parts.pop()) {
            (1, Some(one)) => one,
            (_, last) => Tree::All(parts.into_iter().chain(last).collect()),
        })
    }

    fn one(&mut self, depth: usize) -> Result<Tree, OperationOutcome> {
        if depth >= DEPTH_MAX {
            return Err(too_deep());
        }
        let negated = self.keyword("not");
        self.space();
        if let Some(rest) = self.rest.strip_prefix('(') {
            self.rest = rest;
            let inner = self.any(depth + 1)?;
            self.space();
            self.rest = (self.rest.strip_prefix(')')).ok_or_else(|| self.wrong("`)`"))?;
            return Ok(if negated {
                Tree::Not(Box::new(inner))
            } else {
                inner
            });
        }
        if negated {
            return Err(self.wrong("`(`"));
        }
        self.comparison(depth)
    }

    /// The letters up to the next space or parenthesis.
    fn word(&mut self) -> &'a str {
        self.space();
        let ends = |letter: char| letter.is_whitespace() || matches!(letter, '(' | ')' | '[' | ']');
        let end = self.rest.find(ends).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn comparison(&mut self, depth: usize) -> Result<Tree, OperationOutcome> {
        self.comparisons += 1;
        if self.comparisons > COMPARISONS_MAX {
            let words = format!("has more than {COMPARISONS_MAX} comparisons");
            return Err(bad(IssueCode::TooLong, FILTER, words));
        }
        let path = self.word();
        if path.is_empty() {
            return Err(self.wrong("the name of a search parameter"));
        }
        if let Some(rest) = self.rest.strip_prefix('[') {
            if depth >= DEPTH_MAX {
                return Err(too_deep());
            }
            self.rest = rest;
            self.within += 1;
            let filter = self.any(depth + 1)?;
            self.within -= 1;
            self.space();
            let closed = self.rest.strip_prefix("].");
            self.rest = closed.ok_or_else(|| self.wrong("`].` and a search parameter"))?;
            let then = self.comparison(depth + 1)?;
            return Ok(Tree::Within {
                path: path.to_owned(),
                filter: Box::new(filter),
                then: Box::new(then),
            });
        }
        let operator = self.word();
        if operator.is_empty() {
            return Err(self.wrong("an operator such as eq"));
        }
        self.space();
        let value = if self.rest.starts_with('"') {
            self.text()?
        } else {
            let within = self.within > 0;
            let end =
                |letter: char| letter.is_whitespace() || letter == ')' || within && letter == ']';
            let end = self.rest.find(end).unwrap_or(self.rest.len());
            let (value, rest) = self.rest.split_at(end);
            self.rest = rest;
            value.to_owned()
        };
        if value.is_empty() {
            return Err(self.wrong("a value"));
        }
        Ok(Tree::Compare {
            path: path.to_owned(),
            operator: operator.to_owned(),
            value,
        })
    }

    /// A string as JSON writes it.
    fn text(&mut self) -> Result<String, OperationOutcome> {
        let mut escaped = false;
        let end = self.rest.char_indices().skip(1).find(|(_, letter)| {
            let ends = *letter == '"' && !escaped;
            escaped = *letter == '\\' && !escaped;
            ends
        });
        let Some((end, _)) = end else {
            return Err(self.wrong("a string that ends"));
        };
        let (text, rest) = self.rest.split_at(end + 1);
        let value = serde_json::from_str(text);
        let value = value.map_err(|_| self.wrong("a string as JSON writes it"))?;
        self.rest = rest;
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Resource;
    use serde_json::json;

    fn parse(kind: ResourceType, filter: &str) -> Result<SearchQuery, OperationOutcome> {
        SearchQuery::parse(kind, &[(FILTER.to_owned(), filter.to_owned())], false)
    }

    #[test]
    fn filters_mean_what_they_say() {
        let patient = json!({"resourceType": "Patient", "id": "p", "active": true, "gender": "male", "birthDate": "1950-02-03",
            "name": [{"family": "van der Berg", "given": ["Jörg", "Max"]}], "telecom": [{"system": "phone", "value": "1 (2)"}],
            "identifier": [{"system": "urn:mrn", "value": "a,b"}], "managingOrganization": {"reference": "Organization/o"},
            "meta": {"profile": ["http://acme.org/fhir/P"]}});
        let patient = Resource::from_value(patient).unwrap();
        for (filter, holds) in [
            ("family eq \"van der berg\"", true),
            ("family eq \"van\"", false),
            ("family sw van", true),
            ("family ew BERG", true),
            ("family ew van", false),
            ("family co der", true),
            ("given eq jorg", true),
            // One of the values is another.
            ("given ne jorg", true),
            ("family ne \"van der berg\"", false),
            ("gender eq male", true),
            ("gender ne male", false),
            ("birthdate gt 1949 and birthdate lt 1951", true),
            ("birthdate po 1950-02", true),
            ("birthdate po 1951", false),
            ("birthdate ne 1950-02-03", false),
            ("birthdate sa 1950", false),
            ("gender eq female or family co berg", true),
            ("gender eq female or family co x and active eq true", false),
            // `and` first, whichever comes first.
            ("active eq true or gender eq female and family co x", true),
            (
                "(active eq true or gender eq female) and family co x",
                false,
            ),
            ("not(gender eq female)", true),
            ("not (gender eq male or family co x)", false),
            ("not(not(gender eq male))", true),
            ("identifier eq \"urn:mrn|a,b\"", true),
            ("identifier eq a,b", true),
            ("phone eq \"1 (2)\"", true),
            ("organization re Organization/o", true),
            ("organization eq o", true),
            ("organization ne Organization/o", false),
            ("phone pr true", true),
            ("address pr false", true),
            ("email pr true", false),
            ("_profile sb http://acme.org/fhir", true),
            ("_profile ss http://acme.org/fhir/P/x", true),
            ("_id eq p", true),
            ("family eq \"x\\\"y\" or gender eq male", true),
        ] {
            let query = parse(ResourceType::Patient, filter);
            let query = query.unwrap_or_else(|error| panic!("{filter}: {error}"));
            assert_eq!(query.matches(&patient), holds, "{filter}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_filter_is_said() {
        for (filter, words) in [
            ("", "at character 1: the name"),
            ("family", "an operator"),
            ("family eq", "a value"),
            ("family eq x gender eq male", "at character 13: and, or"),
            ("family eq x and", "the name of"),
            ("(family eq x", "`)` was expected"),
            ("family eq x)", "at character 12"),
            ("not family eq x", "`(` was expected"),
            ("family eq \"x", "a string that ends"),
            ("family eq \"\\q\"", "as JSON writes it"),
            (
                "nothing eq x",
                "`nothing` is no search parameter of Patient",
            ),
            ("family gt x", "`gt` is no way here to compare `family`"),
            ("family zz x", "no way here"),
            ("birthdate eq x", "is a date"),
            ("not(_lastUpdated gt 2020)", "joined by `and` only"),
            ("family[given eq x].given eq y", "no reference parameter"),
            (
                "organization[name eq x] eq y",
                "`].` and a search parameter",
            ),
            ("organization[name eq x.name eq y", "`].` and a search"),
            (
                "organization[family eq x].name eq y",
                "`family` is no search parameter of Organization",
            ),
            (
                "general-practitioner[address co x].date eq y",
                "none of the types",
            ),
            ("family.name eq x", "no reference parameter"),
            ("deceased pr x", "true or false"),
        ] {
            let refused = parse(ResourceType::Patient, filter)
                .unwrap_err()
                .to_string();
            assert!(refused.contains(words), "{filter}: {refused}");
        }
        let deep = format!("{}family eq x{}", "(".repeat(21), ")".repeat(21));
        assert!(parse(ResourceType::Patient, &deep).is_err());
        let long = vec!["family eq x"; 51].join(" or ");
        assert!(parse(ResourceType::Patient, &long).is_err());
    }

    #[test]
    fn conjuncts_are_clauses_and_links() {
        let query = parse(
            ResourceType::Observation,
            "code eq x and patient.name co berg and (status eq final or date gt 2026) and _lastUpdated gt 2020",
        );
        let query = query.unwrap();
        assert_eq!(
            (
                query.clauses.len(),
                query.links.len(),
                query.conditions.len()
            ),
            (2, 1, 1)
        );
        let deep = parse(ResourceType::Observation, "patient.organization.name eq x").unwrap();
        assert_eq!(
            deep.links[0].queries[0].links[0].queries[0].clauses.len(),
            1
        );
    }

    #[test]
    fn links_can_be_conditions() {
        let kind = ResourceType::Observation;
        let of = |filter: &str| parse(kind, filter).unwrap();
        let query = of("code eq x or not(patient.name co berg)");
        assert!(query.has_links() && query.links.is_empty() && query.clauses.is_empty());
        let mut links = Vec::new();
        query.conditions[0].links(&mut links);
        assert_eq!(links.len(), 1);
        // Nobody has followed it, so neither what it is nor what it is not is known.
        let observation = json!({"resourceType": "Observation", "id": "o", "code": {"coding": [{"code": "x"}]},
            "subject": {"reference": "Patient/p"}});
        let observation = Resource::from_value(observation).unwrap();
        assert!(!query.matches(&observation));
        let mut followed = of("code eq y or not(patient.name co berg)");
        for (id, holds) in [("p", false), ("q", true)] {
            let mut found = super::super::Resources::default();
            found.add(ResourceType::Patient, id);
            let condition = of("code eq y or not(patient.name co berg)").conditions[0]
                .linked(&mut [found].into_iter());
            followed.conditions = vec![condition];
            assert!(!followed.has_links());
            assert_eq!(followed.matches(&observation), holds, "{id}");
        }
        let one = of(
            "subject[name co x and (birthdate gt 2000 or active eq true)].organization[name eq y].address co z",
        );
        let [link] = one.links.as_slice() else {
            panic!("{one:?}");
        };
        // A device or a group has no date of birth.
        let [inner] = link.queries.as_slice() else {
            panic!("{link:?}");
        };
        assert_eq!(
            (
                inner.kind,
                inner.clauses.len(),
                inner.conditions.len(),
                inner.links.len()
            ),
            (ResourceType::Patient, 1, 1, 1)
        );
        assert_eq!(inner.links[0].queries[0].clauses.len(), 2);
        let deep = "partof[name eq x].partof[name eq x].partof[name eq x].partof[name eq x].partof[name eq x].partof.name eq x";
        let refused = parse(ResourceType::Organization, deep).unwrap_err();
        assert!(refused.to_string().contains("more than 5"), "{refused}");
        let long = format!("patient.name eq \"{}\"", "x".repeat(LINKS_BYTES_MAX));
        let refused = parse(kind, &long).unwrap_err();
        assert!(
            refused.to_string().contains("bytes in a filter"),
            "{refused}"
        );
    }
}
