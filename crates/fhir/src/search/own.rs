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
use super::plan::{Compiled, Leaf, Plan, compiled, of_own};
use super::query::modifiers;
use super::{COMMON, IndexValue, ParameterKind, parameters};
use crate::facts::{self, Targets};
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
    /// What its references can be to.
    targets: Targets,
    through: u64,
}

impl PartialEq for Own {
    fn eq(&self, other: &Self) -> bool {
        let (one, another) = (&self.compiled, &other.compiled);
        (self.base, one.kind, &self.code) == (other.base, another.kind, &other.code)
            && (&self.expression, &self.targets) == (&other.expression, &other.targets)
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
    #[must_use]
    pub fn modifiers(&self) -> &'static [&'static str] {
        modifiers(self.kind())
    }

    pub(super) fn compiled(&self) -> &Compiled {
        &self.compiled
    }

    pub(super) fn targets(&self) -> &Targets {
        &self.targets
    }
}

/// All of one's own parameters. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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

/// The parameters that a `SearchParameter` defines, one for each of its base types that doesn't have it by
/// R4 already; none when it isn't `active`.
///
/// # Errors
/// All that keeps an active one from being used: a code by which a base type is searched for something
/// else already or that can't be one, a base type that isn't supported, a type that isn't, an expression
/// that doesn't compile or has another form, or whose values aren't of the type.
pub fn define(resource: &Resource) -> Result<Vec<Own>, OperationOutcome> {
    if resource.kind() != ResourceType::SearchParameter || text(resource, "status") != "active" {
        return Ok(Vec::new());
    }
    let mut issues = Vec::new();
    let code = text(resource, "code");
    let bases = bases(resource, code, &mut issues);
    if bases.is_empty() {
        // R4 has all of it, or there is nothing that could be defined.
        return no_issues(issues, Vec::new());
    }
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
    let written = text(resource, "expression");
    let expression = match Expression::compile(written) {
        _ if written.is_empty() => Err("is missing; an active parameter is found by it".to_owned()),
        _ if written.len() > EXPRESSION_MAX => {
            Err(format!("has more than {EXPRESSION_MAX} characters"))
        }
        Ok(expression) => Ok(expression),
        Err(error) => Err(format!("does not compile: {error}")),
    };
    let targets = targets(resource);
    let mut defined = Vec::new();
    match (expression, kind) {
        (Err(words), _) => issues.push(wrong("expression", words)),
        (Ok(expression), Some(kind)) => {
            let own = |base: ResourceType, plans| Own {
                base,
                code: code.to_owned(),
                expression: written.to_owned(),
                compiled: Compiled {
                    name: "",
                    kind,
                    system: "",
                    plans,
                    bases: Vec::new(),
                },
                targets: targets.clone(),
                through: 0,
            };
            match plans(&expression, kind, &bases, &standard_bases(resource)) {
                Ok(plans) => {
                    let each = bases.iter().zip(plans);
                    defined.extend(each.map(|(base, plans)| own(*base, plans)));
                }
                Err(words) => issues.push(wrong("expression", words)),
            };
        }
        _ => {}
    }
    no_issues(issues, defined)
}

fn no_issues(issues: Vec<Issue>, defined: Vec<Own>) -> Result<Vec<Own>, OperationOutcome> {
    if issues.is_empty() {
        Ok(defined)
    } else {
        Err(OperationOutcome { issues })
    }
}

/// The types that a definition lets its references be to; any where it says nothing of them.
fn targets(resource: &Resource) -> Targets {
    let listed = resource.get("target").and_then(Value::as_array);
    let names = listed.into_iter().flatten().filter_map(Value::as_str);
    let names: Vec<&str> = names.collect();
    if names.is_empty() || names.iter().any(|name| is_abstract(name)) {
        return Targets::Any;
    }
    Targets::Some(names.into_iter().filter_map(ResourceType::parse).collect())
}

fn is_abstract(name: &str) -> bool {
    matches!(name, "Resource" | "DomainResource")
}

fn base_names(resource: &Resource) -> Vec<&str> {
    let list = resource.get("base").and_then(Value::as_array);
    let names = list.into_iter().flatten();
    names.filter_map(Value::as_str).collect()
}

/// Those of a definition's base types that R4 gives the very same parameter already. An implementation
/// guide repeats R4's parameters to say which of them it needs, and R4's answer then.
#[must_use]
pub fn standard_bases(resource: &Resource) -> Vec<&str> {
    let code = text(resource, "code");
    let mut names = base_names(resource);
    names.retain(|name| standard_of(name, code).is_some_and(|found| found.is_that_of(resource)));
    names
}

/// A parameter that a base type has by R4.
struct Standard {
    base: String,
    code: &'static str,
    kind: ParameterKind,
    expression: &'static str,
    /// Where it is one type's.
    of: Option<ResourceType>,
}

fn standard_of(base: &str, code: &str) -> Option<Standard> {
    let common = COMMON.into_iter().find(|parameter| parameter.name == code);
    let known = ResourceType::parse(base);
    if known.is_none() && !is_abstract(base) {
        return None;
    }
    let of = known.filter(|_| common.is_none());
    let parameter = match (common, of) {
        (Some(common), _) => common,
        (None, Some(of)) => *parameters(of).get(facts::search(of).position(code)?)?,
        (None, None) => return None,
    };
    Some(Standard {
        base: base.to_owned(),
        code: parameter.name,
        kind: parameter.kind,
        expression: parameter.expression,
        of,
    })
}

/// What R4's own definitions are called by that several types have.
const GROUPS: [&str; 6] = [
    "Resource",
    "DomainResource",
    "clinical",
    "individual",
    "conformance",
    "medications",
];

impl Standard {
    /// Whether a definition means this one: it is of the same type and says that it is R4's, or has the
    /// same values.
    fn is_that_of(&self, resource: &Resource) -> bool {
        self.kind.code() == text(resource, "type")
            && (self.is_named(text(resource, "derivedFrom"))
                || self.is_named(text(resource, "url"))
                || self.is_expressed(text(resource, "expression")))
    }

    /// Whether a canonical URL is that of R4's definition.
    fn is_named(&self, url: &str) -> bool {
        let plain = url.split_once('|').map_or(url, |(plain, _)| plain);
        let name = plain.strip_prefix("http://hl7.org/fhir/SearchParameter/");
        let group = name
            .and_then(|name| name.strip_suffix(self.code.trim_start_matches('_')))
            .and_then(|rest| rest.strip_suffix('-'));
        group.is_some_and(|group| group == self.base || GROUPS.contains(&group))
    }

    fn is_expressed(&self, expression: &str) -> bool {
        let plain = |text: &str| -> String { text.split_whitespace().collect() };
        if plain(expression) == plain(self.expression) {
            return true;
        }
        let Some(of) = self.of else {
            return false;
        };
        let Ok(expression) = Expression::compile(expression) else {
            return false;
        };
        let place = facts::search(of).position(self.code);
        let Some(own) = place.and_then(|place| compiled(of).get(place)) else {
            return false;
        };
        let parts = of_own(&expression, &|leaf| fits(self.kind, leaf));
        let parts = parts
            .into_iter()
            .filter(|(first, _)| first.as_deref() == Some(of.name()));
        let mut plans = Vec::new();
        for (_, part) in parts {
            match part {
                Some(part) => plans.extend(part),
                None => return false,
            }
        }
        let all_in = |some: &[Plan], others: &[Plan]| {
            some.iter()
                .all(|one| others.iter().any(|other| one.is_like(other)))
        };
        !plans.is_empty() && all_in(&plans, &own.plans) && all_in(&own.plans, &plans)
    }
}

/// The base types that need a parameter of one's own.
fn bases(resource: &Resource, code: &str, issues: &mut Vec<Issue>) -> Vec<ResourceType> {
    let names = base_names(resource);
    let mut bases = Vec::new();
    for name in &names {
        if let Some(found) = standard_of(name, code) {
            if !found.is_that_of(resource) {
                let words = format!(
                    "is that of a search parameter that {name} has already, of the type {} and with the expression `{}`; take another code or, if the same is meant, name R4's definition in derivedFrom",
                    found.kind.code(),
                    found.expression
                );
                issues.push(wrong("code", words));
            }
            continue;
        }
        let known = ResourceType::parse(name).filter(|kind| {
            !is_abstract(name) && *name != "Parameters" && *kind != ResourceType::AuditEvent
        });
        let Some(base) = known else {
            let words = "of an active parameter are names of resource types, and neither abstract ones nor AuditEvent or Parameters";
            issues.push(wrong("base", words));
            break;
        };
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
    standard: &[&str],
) -> Result<Vec<Vec<Plan>>, String> {
    let mut plans: Vec<Vec<Plan>> = bases.iter().map(|_| Vec::new()).collect();
    for (first, part) in of_own(expression, &|leaf| fits(kind, leaf)) {
        if first
            .as_deref()
            .is_some_and(|first| standard.contains(&first))
        {
            continue;
        }
        let place = bases
            .iter()
            .position(|base| first.as_deref() == Some(base.name()));
        let Some(place) = place else {
            return Err(
                "is a union of paths that each begin with one of the base types".to_owned(),
            );
        };
        let part = part.ok_or_else(|| {
            "has a path that is not made of elements of the type, where(element = 'text'), where(resolve() is Type), ofType() or as, and an index".to_owned()
        })?;
        let mut ends = part.iter().flat_map(Plan::leaves);
        if let Some(leaf) = ends.find(|leaf| !fits(kind, *leaf)) {
            return Err(format!(
                "has a path that can end in an element ({leaf:?}) from which no {} is read; narrow it by ofType()",
                kind.code()
            ));
        }
        plans[place].extend(part);
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
        assert!(asked("hair-colour", "blue").is_err());
        let other = [("eye-colour".to_owned(), "blue".to_owned())];
        assert!(SearchQuery::parse_with(ResourceType::Person, &other, false, &owns).is_err());
        assert!(SearchQuery::parse(ResourceType::Patient, &other, false).is_err());
        let own = owns.find(ResourceType::Patient, "eye-colour").unwrap();
        assert_eq!(own.values(&patient("blue")).len(), 1);
    }

    #[test]
    fn what_repeats_r4_needs_nothing() {
        let observation = |code: &str, kind: &str, expression: &str| json!({"code": code, "type": kind, "base": ["Observation"], "expression": expression});
        for (more, named) in [
            (observation("code", "token", "Observation.code"), true),
            (observation("date", "date", "Observation.effective"), true),
            (
                observation(
                    "value-concept",
                    "token",
                    "Observation.value.ofType(CodeableConcept)",
                ),
                true,
            ),
            (observation("status", "token", "Observation . status"), true),
            (
                observation("status", "token", "Observation.category"),
                false,
            ),
            (observation("status", "string", "Observation.status"), false),
            (
                observation(
                    "value-concept",
                    "token",
                    "Observation.component.value.ofType(CodeableConcept)",
                ),
                false,
            ),
        ] {
            let given = definition(&more);
            let defined = define(&given);
            assert_eq!(standard_bases(&given).len(), usize::from(named), "{more}");
            assert_eq!(defined.is_ok_and(|owns| owns.is_empty()), named, "{more}");
        }
        for (url, is) in [
            (
                "http://hl7.org/fhir/SearchParameter/Observation-status",
                true,
            ),
            (
                "http://hl7.org/fhir/SearchParameter/Observation-status|4.0.1",
                true,
            ),
            (
                "http://hl7.org/fhir/SearchParameter/Encounter-status",
                false,
            ),
            (
                "http://example.org/SearchParameter/Observation-status",
                false,
            ),
        ] {
            let mut more = observation("status", "token", "Observation.extension.value");
            more["derivedFrom"] = json!(url);
            assert_eq!(define(&definition(&more)).is_ok(), is, "{url}");
        }
    }

    #[test]
    fn values_of_extensions_are_read_by_their_type() {
        let of = |kind: &str, path: &str| {
            let more = json!({"type": kind, "expression": format!("Patient.extension.where(url = 'x').{path}")});
            define(&definition(&more)).map(|mut owns| owns.remove(0))
        };
        let patient = |member: &str, value: &Value| {
            let mut extension = json!({"url": "x"});
            extension[member] = value.clone();
            Resource::from_value(
                json!({"resourceType": "Patient", "id": "p", "extension": [extension]}),
            )
            .unwrap()
        };
        let coding = json!({"system": "s", "code": "c"});
        for (kind, path, member, value, found) in [
            ("token", "value.code", "valueCoding", &coding, 1),
            (
                "token",
                "value.code",
                "valueCodeableConcept",
                &json!({"coding": [coding]}),
                0,
            ),
            ("token", "value.code", "valueString", &json!("c"), 0),
            (
                "token",
                "value",
                "valueCodeableConcept",
                &json!({"coding": [coding]}),
                1,
            ),
            ("token", "value", "valueDate", &json!("2026-01-01"), 0),
            ("date", "value", "valueDate", &json!("2026-01-01"), 1),
            (
                "date",
                "value",
                "valuePeriod",
                &json!({"start": "2026-01-01"}),
                1,
            ),
            (
                "reference",
                "value",
                "valueReference",
                &json!({"reference": "Patient/q"}),
                1,
            ),
            (
                "string",
                "value.text",
                "valueCodeableConcept",
                &json!({"text": "t"}),
                1,
            ),
        ] {
            let own = of(kind, path).unwrap();
            let values = own.values(&patient(member, value));
            assert_eq!(values.len(), found, "{kind} {path} {member}");
        }
        // What follows a criterion is of no one type, and nothing of a type is a number of it.
        for (kind, path) in [
            ("token", "value.where(system = 's').code"),
            ("number", "value.code"),
            ("token", "value.colour"),
        ] {
            assert!(of(kind, path).is_err(), "{kind} {path}");
        }
    }
}
