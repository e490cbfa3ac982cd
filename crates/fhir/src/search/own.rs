//! Search parameters of one's own: what a `SearchParameter` resource (R4) defines beside R4's own.
//!
//! An expression is a union of paths that each begin with one of the base types and go by elements,
//! `where(element = 'text')`, `where(resolve() is Type)`, `ofType()` or `as`, and an index. Of such a path
//! it is known beforehand which types it can end in, so that a parameter that could never be asked for is
//! refused when it is defined, and not found out by searching in vain.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::extract::{collect, of_parameter};
use super::matching::{operand_matches, says_nothing};
use super::plan::{Compiled, Leaf, Plan, of_own};
use super::query::{bad, clause, find, modifiers};
use super::{Clause, IndexValue, Modifier, Operand, ParameterKind};
use crate::path::Expression;
use crate::{Issue, IssueCode, OperationOutcome, Resource, ResourceType, Severity};

/// The types that a definition may have.
const KINDS: [ParameterKind; 7] = [
    ParameterKind::Token,
    ParameterKind::String,
    ParameterKind::Reference,
    ParameterKind::Uri,
    ParameterKind::Date,
    ParameterKind::Number,
    ParameterKind::Quantity,
];
/// The most base types of one definition: each is indexed by itself.
const BASES_MAX: usize = 16;
/// The longest expression: R4's own have 400 characters at most for one type.
const EXPRESSION_MAX: usize = 2000;
/// The longest code.
const CODE_MAX: usize = 64;

/// A search parameter of one's own, for one of its base types.
#[derive(Debug)]
pub struct Own {
    base: ResourceType,
    code: String,
    expression: String,
    compiled: Compiled,
    through: u64,
}

impl PartialEq for Own {
    fn eq(&self, other: &Self) -> bool {
        (self.base, self.compiled.kind, &self.code, &self.expression)
            == (
                other.base,
                other.compiled.kind,
                &other.code,
                &other.expression,
            )
    }
}

impl Eq for Own {}

impl Own {
    /// The type that has it.
    #[must_use]
    pub fn base(&self) -> ResourceType {
        self.base
    }

    /// The name that is searched by.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code
    }

    /// Its type.
    #[must_use]
    pub fn kind(&self) -> ParameterKind {
        self.compiled.kind
    }

    /// Its FHIRPath expression, as it was defined.
    #[must_use]
    pub fn expression(&self) -> &str {
        &self.expression
    }

    /// The same, with the store's number up to which all resources of the type are indexed by it.
    #[must_use]
    pub fn indexed_through(self, number: u64) -> Self {
        Self {
            through: number,
            ..self
        }
    }

    /// See [`Own::indexed_through`]; zero where nothing is known of it.
    #[must_use]
    pub fn through(&self) -> u64 {
        self.through
    }

    /// What a resource of the base type is found by, each value once.
    #[must_use]
    pub fn values(&self, resource: &Resource) -> Vec<IndexValue> {
        let mut entries = Vec::new();
        collect(&mut entries, "", |sink| {
            of_parameter(resource, &self.compiled, sink);
        });
        entries.into_iter().map(|entry| entry.value).collect()
    }

    /// The modifiers that it takes.
    pub fn modifiers(&self) -> impl Iterator<Item = &'static str> {
        let all = modifiers(self.kind()).iter().copied();
        all.filter(|name| !matches!(*name, "text" | "of-type" | "identifier"))
    }
}

/// All of one's own parameters. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Owns(Arc<BTreeMap<(&'static str, String), Arc<Own>>>);

impl Owns {
    /// The first of each name of a type counts.
    pub fn new(all: impl IntoIterator<Item = Own>) -> Self {
        let mut map = BTreeMap::new();
        for own in all {
            map.entry((own.base.name(), own.code.clone()))
                .or_insert_with(|| Arc::new(own));
        }
        Self(Arc::new(map))
    }

    /// The parameter of a name.
    #[must_use]
    pub fn find(&self, base: ResourceType, code: &str) -> Option<&Arc<Own>> {
        if self.0.is_empty() {
            return None;
        }
        self.0.get(&(base.name(), code.to_owned()))
    }

    /// All of a type, by name.
    pub fn of(&self, base: ResourceType) -> impl Iterator<Item = &Arc<Own>> {
        let all = self.0.range((base.name(), String::new())..);
        all.take_while(move |((name, _), _)| *name == base.name())
            .map(|(_, own)| own)
    }

    /// All.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Own>> {
        self.0.values()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// One parameter of a query that is of one's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnClause {
    /// The parameter.
    pub own: Arc<Own>,
    /// What is asked.
    pub clause: Clause,
}

impl OwnClause {
    /// Parses what is asked of a parameter.
    pub(super) fn parse(own: &Arc<Own>, name: &str, value: &str) -> Result<Self, OperationOutcome> {
        let modifier = name.split_once(':').map(|(_, modifier)| modifier);
        let clause = clause(own.base, name, &own.code, own.kind(), modifier, value)?;
        if let Some(Modifier::Text | Modifier::OfType | Modifier::Identifier) = clause.modifier {
            let known: Vec<&str> = own.modifiers().collect();
            let words = format!(
                "has a modifier that parameters of one's own don't take; known are {}",
                known.join(", ")
            );
            return Err(bad(IssueCode::NotSupported, name, words));
        }
        Ok(Self {
            own: Arc::clone(own),
            clause,
        })
    }

    /// Whether a resource matches.
    #[must_use]
    pub fn matches(&self, resource: &Resource) -> bool {
        let (compiled, clause) = (&self.own.compiled, &self.clause);
        if clause.modifier == Some(Modifier::Missing) {
            let mut missing = true;
            for plan in &compiled.plans {
                plan.run(resource.as_value(), &mut |leaf, value| {
                    missing &= says_nothing(leaf, value);
                });
            }
            return clause.operands.contains(&Operand::Missing(missing));
        }
        let mut hit = false;
        of_parameter(resource, compiled, &mut |found| {
            let mut asked = clause.operands.iter();
            hit = hit || asked.any(|operand| operand_matches(operand, clause.modifier, &found));
        });
        hit != (clause.modifier == Some(Modifier::Not))
    }
}

/// Whether values of a parameter of a type can be read from an element.
fn fits(kind: ParameterKind, leaf: Leaf) -> bool {
    match kind {
        ParameterKind::Token => matches!(
            leaf,
            Leaf::CodeableConcept
                | Leaf::Coding
                | Leaf::Identifier
                | Leaf::ContactPoint
                | Leaf::Code
                | Leaf::Text
                | Leaf::Uri
                | Leaf::Boolean
        ),
        ParameterKind::String => matches!(
            leaf,
            Leaf::HumanName | Leaf::Address | Leaf::Text | Leaf::Code
        ),
        ParameterKind::Date => matches!(leaf, Leaf::Date | Leaf::Period | Leaf::Timing),
        ParameterKind::Reference => matches!(leaf, Leaf::Reference | Leaf::Uri),
        ParameterKind::Uri => leaf == Leaf::Uri,
        ParameterKind::Number => leaf == Leaf::Decimal,
        ParameterKind::Quantity => matches!(leaf, Leaf::Quantity | Leaf::Money | Leaf::Range),
        ParameterKind::Composite | ParameterKind::Special => false,
    }
}

/// What is wrong with an element of a definition.
fn wrong(element: &str, words: impl Into<String>) -> Issue {
    Issue {
        severity: Severity::Error,
        code: IssueCode::BusinessRule,
        diagnostics: words.into(),
        expression: Some(format!("SearchParameter.{element}")),
    }
}

fn text<'a>(resource: &'a Resource, name: &str) -> &'a str {
    resource
        .get(name)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// The parameters that a `SearchParameter` defines, one for each of its base types; none when it isn't
/// `active`.
///
/// # Errors
/// All that keeps an active one from being used: a code that a type has already or that can't be one, a
/// base type that isn't supported, a type that isn't, an expression that doesn't compile or has another
/// form, or whose values aren't of the type.
pub fn define(resource: &Resource) -> Result<Vec<Own>, OperationOutcome> {
    if resource.kind() != ResourceType::SearchParameter || text(resource, "status") != "active" {
        return Ok(Vec::new());
    }
    let mut issues = Vec::new();
    let code = text(resource, "code");
    let formed = code.starts_with(|c: char| c.is_ascii_alphabetic())
        && code.len() <= CODE_MAX
        && code
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if !formed {
        let words = format!(
            "is 1 to {CODE_MAX} ASCII letters, digits, `-` and `_`, of which a letter is the first, in a parameter that is active here"
        );
        issues.push(wrong("code", words));
    }
    let kind = KINDS
        .into_iter()
        .find(|kind| kind.code() == text(resource, "type"));
    if kind.is_none() {
        let known: Vec<&str> = KINDS.iter().map(|kind| kind.code()).collect();
        let words = format!("of an active parameter is one of {} here", known.join(", "));
        issues.push(wrong("type", words));
    }
    let bases = bases(resource, code, &mut issues);
    let written = text(resource, "expression");
    let expression = match Expression::compile(written) {
        _ if written.is_empty() => Err("is missing; an active parameter is found by it".to_owned()),
        _ if written.len() > EXPRESSION_MAX => {
            Err(format!("has more than {EXPRESSION_MAX} characters"))
        }
        Ok(expression) => Ok(expression),
        Err(error) => Err(format!("does not compile: {error}")),
    };
    let mut defined = Vec::new();
    match (expression, kind) {
        (Err(words), _) => issues.push(wrong("expression", words)),
        (Ok(expression), Some(kind)) => {
            match plans(&expression, kind, &bases) {
                Ok(plans) => defined.extend(bases.iter().zip(plans).map(|(base, plans)| Own {
                    base: *base,
                    code: code.to_owned(),
                    expression: written.to_owned(),
                    compiled: Compiled {
                        name: "",
                        kind,
                        system: "",
                        plans,
                        bases: Vec::new(),
                    },
                    through: 0,
                })),
                Err(words) => issues.push(wrong("expression", words)),
            };
        }
        _ => {}
    }
    if issues.is_empty() {
        Ok(defined)
    } else {
        Err(OperationOutcome { issues })
    }
}

fn bases(resource: &Resource, code: &str, issues: &mut Vec<Issue>) -> Vec<ResourceType> {
    let list = resource.get("base").and_then(Value::as_array);
    let names: Vec<&str> = (list.into_iter().flatten())
        .filter_map(Value::as_str)
        .collect();
    let mut bases = Vec::new();
    for name in &names {
        let known = ResourceType::parse(name).filter(|kind| {
            !matches!(*name, "Parameters" | "Resource" | "DomainResource")
                && *kind != ResourceType::AuditEvent
        });
        let Some(base) = known else {
            let words = "of an active parameter are names of resource types, and neither abstract ones nor AuditEvent or Parameters";
            issues.push(wrong("base", words));
            break;
        };
        if find(base, code).is_some() {
            let words = format!("is that of a search parameter that {base} has already");
            issues.push(wrong("code", words));
        }
        if !bases.contains(&base) {
            bases.push(base);
        }
    }
    if names.is_empty() || names.len() > BASES_MAX {
        let words = format!("of an active parameter are 1 to {BASES_MAX} resource types");
        issues.push(wrong("base", words));
    }
    bases
}

/// The plans for each base type.
fn plans(
    expression: &Expression,
    kind: ParameterKind,
    bases: &[ResourceType],
) -> Result<Vec<Vec<Plan>>, String> {
    let mut plans: Vec<Vec<Plan>> = bases.iter().map(|_| Vec::new()).collect();
    for (first, plan) in of_own(expression) {
        let place = bases
            .iter()
            .position(|base| first.as_deref() == Some(base.name()));
        let Some(place) = place else {
            return Err(
                "is a union of paths that each begin with one of the base types".to_owned(),
            );
        };
        let plan = plan.ok_or_else(|| {
            "has a path that is not made of elements of the type, where(element = 'text'), where(resolve() is Type), ofType() or as, and an index".to_owned()
        })?;
        if let Some(leaf) = plan.leaves().into_iter().find(|leaf| !fits(kind, *leaf)) {
            return Err(format!(
                "has a path that can end in an element ({leaf:?}) from which no {} is read; narrow it by ofType()",
                kind.code()
            ));
        }
        plans[place].push(plan);
    }
    match plans.iter().position(Vec::is_empty) {
        Some(place) => Err(format!("has no path for {}", bases[place])),
        None => Ok(plans),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::SearchQuery;
    use serde_json::json;

    fn definition(more: &Value) -> Resource {
        let mut value = json!({
            "resourceType": "SearchParameter", "url": "http://example.org/SearchParameter/x", "name": "x",
            "status": "active", "description": "x", "code": "eye-colour", "base": ["Patient"], "type": "token",
            "expression": "Patient.extension.where(url = 'urn:eye').value.ofType(CodeableConcept)",
        });
        for (name, one) in more.as_object().unwrap() {
            value[name] = one.clone();
        }
        Resource::from_value(value).unwrap()
    }

    #[test]
    fn an_active_one_is_one_of_each_base_type() {
        let owns = define(&definition(&json!({}))).unwrap();
        assert_eq!(owns.len(), 1);
        assert_eq!(
            (owns[0].code(), owns[0].base()),
            ("eye-colour", ResourceType::Patient)
        );
        let two = json!({"base": ["Patient", "Practitioner"], "type": "string", "code": "nick",
            "expression": "Patient.name.text | Practitioner.name.where(use = 'nickname').given"});
        assert_eq!(define(&definition(&two)).unwrap().len(), 2);
        let draft = definition(&json!({"status": "draft", "type": "special", "expression": "("}));
        assert_eq!(define(&draft).unwrap(), []);
    }

    #[test]
    fn what_could_not_be_searched_by_is_refused() {
        for (more, element, words) in [
            (json!({"code": "family"}), "code", "has already"),
            (json!({"code": "_x"}), "code", "letters"),
            (json!({"code": "a.b"}), "code", "letters"),
            (json!({"type": "composite"}), "type", "is one of token"),
            (json!({"type": "special"}), "type", "is one of token"),
            (
                json!({"base": ["AuditEvent"], "expression": "AuditEvent.type"}),
                "base",
                "AuditEvent",
            ),
            (
                json!({"base": ["Resource"], "expression": "Resource.id"}),
                "base",
                "abstract",
            ),
            (json!({"base": []}), "base", "1 to 16"),
            (
                json!({"expression": "Patient.name.("}),
                "expression",
                "does not compile",
            ),
            (json!({"expression": ""}), "expression", "missing"),
            (
                json!({"expression": "Observation.code"}),
                "expression",
                "begin with one of",
            ),
            (
                json!({"expression": "Patient.colour"}),
                "expression",
                "not made of elements",
            ),
            (
                json!({"expression": "Patient.name.exists()"}),
                "expression",
                "not made of elements",
            ),
            (
                json!({"expression": "Patient.name"}),
                "expression",
                "no token is read",
            ),
            (
                json!({"expression": "Patient.deceased"}),
                "expression",
                "narrow it by ofType()",
            ),
            (
                json!({"base": ["Patient", "Person"]}),
                "expression",
                "no path for Person",
            ),
        ] {
            let refused = define(&definition(&more)).unwrap_err();
            let place = format!("SearchParameter.{element}");
            let told = (refused.issues.iter()).any(|issue| {
                issue.expression.as_ref() == Some(&place) && issue.diagnostics.contains(words)
            });
            assert!(told, "{more}: {refused}");
        }
    }

    #[test]
    fn it_is_asked_and_checked_as_others_are() {
        let owns = Owns::new(define(&definition(&json!({}))).unwrap());
        let patient = |code: &str| {
            Resource::from_value(json!({"resourceType": "Patient", "id": "p", "extension": [
                {"url": "urn:other", "valueCodeableConcept": {"coding": [{"code": "green"}]}},
                {"url": "urn:eye", "valueCodeableConcept": {"coding": [{"system": "urn:c", "code": code}]}},
            ]}))
            .unwrap()
        };
        let asked = |name: &str, value: &str| {
            let asked = [(name.to_owned(), value.to_owned())];
            SearchQuery::parse_with(ResourceType::Patient, &asked, false, &owns)
        };
        for (name, value, matches) in [
            ("eye-colour", "blue", true),
            ("eye-colour", "urn:c|blue", true),
            ("eye-colour", "green,blue", true),
            ("eye-colour", "green", false),
            ("eye-colour:not", "blue", false),
            ("eye-colour:missing", "false", true),
        ] {
            let query = asked(name, value).unwrap();
            assert_eq!(query.matches(&patient("blue")), matches, "{name}={value}");
        }
        assert!(asked("eye-colour:missing", "true").unwrap().matches(
            &Resource::from_value(json!({"resourceType": "Patient", "id": "p"})).unwrap()
        ));
        assert!(asked("eye-colour:text", "blue").is_err());
        assert!(asked("hair-colour", "blue").is_err());
        let other = [("eye-colour".to_owned(), "blue".to_owned())];
        assert!(SearchQuery::parse_with(ResourceType::Person, &other, false, &owns).is_err());
        assert!(SearchQuery::parse(ResourceType::Patient, &other, false).is_err());
        let own = owns.find(ResourceType::Patient, "eye-colour").unwrap();
        assert_eq!(own.values(&patient("blue")).len(), 1);
    }
}
