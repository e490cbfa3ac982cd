//! Chains (`subject:Patient.name`) and `_has` (R4, section 3.1.1.5.9 and .10): clauses about resources
//! that what is searched refers to, or that refer to it.
//!
//! A [`Link`] holds the queries of those resources. Whoever has them all finds what they match, and puts
//! a clause of these resources in its place ([`SearchQuery::linked`]).
use super::parameter::find;
use super::query::{bad, shown};
use super::{Clause, Current, Named, Owns, Resources, SearchQuery, can_refer, extract, references};
use crate::facts::Targets;
use crate::{IssueCode, OperationOutcome, Resource, ResourceType};

/// How deep links can lie in each other. The longest in R4's own text has two.
const DEPTH_MAX: usize = 5;

/// A condition on other resources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Whether it is a `_has`: the others refer to what is searched.
    pub reverse: bool,
    /// The reference parameter: of what is searched, or with `_has` of the others.
    pub parameter: Named,
    /// What must hold for one of the others: one query for each type that they can have.
    pub queries: Vec<SearchQuery>,
    /// Whether the type was named, rather than all that are possible meant.
    pub named: bool,
    /// The list of a name that it leads to, if it does.
    pub current: Option<&'static Current>,
}

impl Link {
    /// Calls `sink` with the ids of the resources that are linked to one of those that match
    /// [`Link::queries`], if they are of the type that is searched.
    pub fn ends<'a>(
        &self,
        searched: ResourceType,
        matching: &'a Resource,
        sink: &mut dyn FnMut(&'a str),
    ) {
        if self.reverse {
            self.refers(matching, &mut |kind, id| {
                if kind == searched {
                    sink(id);
                }
            });
        } else {
            matching.id().into_iter().for_each(sink);
        }
    }

    /// Calls `sink` with what a resource refers to under the link's parameter.
    pub fn refers<'a>(&self, resource: &'a Resource, sink: &mut dyn FnMut(ResourceType, &'a str)) {
        if self.current.is_some() {
            return Current::items(resource, sink);
        }
        extract::literals(resource, &self.parameter, sink);
    }

    /// What is searched has this, when `resources` are the [`Link::ends`] that were found.
    #[must_use]
    pub fn clause(&self, resources: Resources) -> Clause {
        let parameter = if self.reverse {
            &Named::ID
        } else {
            &self.parameter
        };
        Clause::of_resources(parameter, resources)
    }
}

impl SearchQuery {
    /// Whether a name is that of a link.
    pub(super) fn is_link(name: &str) -> bool {
        name.starts_with("_has:") || name.contains('.')
    }

    /// Parses a link; `None` where a parameter in it is unknown.
    pub(super) fn link(
        kind: ResourceType,
        name: &str,
        value: &str,
        owns: &Owns,
        depth: usize,
    ) -> Result<Link, OperationOutcome> {
        if depth >= DEPTH_MAX {
            let words = format!("goes through more than {DEPTH_MAX} references");
            return Err(bad(IssueCode::TooLong, name, words));
        }
        match name.strip_prefix("_has:") {
            Some(rest) => has((kind, name), rest, value, owns, depth),
            None => chain(kind, name, value, owns, depth),
        }
    }

    /// What is in a list (`_list=id`): what the list refers to under its parameter `item`.
    pub(super) fn list(value: &str, owns: &Owns) -> Result<Link, OperationOutcome> {
        let query = Self::of_one(ResourceType::List, "_id", value, owns, 0);
        Ok(Link {
            reverse: true,
            parameter: Named::Standard("item"),
            queries: vec![query.map_err(|mut outcome| {
                let issues = outcome.issues.iter_mut();
                issues.for_each(|issue| issue.expression = Some("_list".to_owned()));
                outcome
            })?],
            named: true,
            current: None,
        })
    }

    /// A query with one parameter.
    fn of_one(
        kind: ResourceType,
        name: &str,
        value: &str,
        owns: &Owns,
        depth: usize,
    ) -> Result<Self, OperationOutcome> {
        let mut query = Self::empty(kind);
        if Self::is_link(name) {
            let link = Self::link(kind, name, value, owns, depth + 1)?;
            query.links.push(link);
        } else {
            let clause = super::query::read(kind, name, value, owns)?;
            query.clauses.push(clause);
        }
        Ok(query)
    }

    /// The query with clauses in place of its links, in their order.
    #[must_use]
    pub fn linked(&self, found: impl IntoIterator<Item = Resources>) -> Self {
        let mut query = self.clone();
        let clauses = self.links.iter().zip(found);
        query
            .clauses
            .extend(clauses.map(|(link, found)| link.clause(found)));
        query.links.clear();
        query
    }
}

/// Whether a type has the parameter that a name begins with.
pub(super) fn begins_known(kind: ResourceType, name: &str, owns: &Owns) -> bool {
    let first = name.split(['.', ':']).next().unwrap_or_default();
    first == "_has" || find(kind, first, owns).is_some()
}

fn names(parameters: &[Named]) -> String {
    let names: Vec<&str> = parameters.iter().map(Named::name).collect();
    names.join(", ")
}

/// `_has:Type:parameter:rest`
fn has(
    (kind, name): (ResourceType, &str),
    rest: &str,
    value: &str,
    owns: &Owns,
    depth: usize,
) -> Result<Link, OperationOutcome> {
    let mut parts = rest.splitn(3, ':');
    let (Some(source), Some(parameter), Some(inner)) = (parts.next(), parts.next(), parts.next())
    else {
        let words = "is `_has:Type:reference:parameter`";
        return Err(bad(IssueCode::Value, name, words));
    };
    let Some(source) = ResourceType::parse(source) else {
        let words = format!("there is no type `{}`", shown(source));
        return Err(bad(IssueCode::Value, name, words));
    };
    let mut known = references(source, owns).filter(|known| can_refer(source, known, kind));
    let Some(parameter) = known.find(|known| known.name() == parameter) else {
        let all = references(source, owns).filter(|known| can_refer(source, known, kind));
        let all: Vec<Named> = all.collect();
        let words = format!(
            "`{}` is no parameter by which {source} can refer to {kind}; known are {}",
            shown(parameter),
            names(&all)
        );
        return Err(bad(IssueCode::NotSupported, name, words));
    };
    Ok(Link {
        reverse: true,
        parameter,
        queries: vec![SearchQuery::of_one(source, inner, value, owns, depth)?],
        named: true,
        current: None,
    })
}

/// `reference[:Type].rest`
fn chain(
    kind: ResourceType,
    name: &str,
    value: &str,
    owns: &Owns,
    depth: usize,
) -> Result<Link, OperationOutcome> {
    let known = |target, inner: &str| begins_known(target, inner, owns);
    chain_to((kind, name), owns, &known, &|target, inner| {
        SearchQuery::of_one(target, inner, value, owns, depth)
    })
}

/// The end of a chain.
pub(super) struct End<'a> {
    /// Whether a type can have it, where a reference can be to several.
    pub(super) known: &'a dyn Fn(ResourceType, &str) -> bool,
    /// Makes it of the type and the name that the chain comes to, with so many references before it.
    pub(super) made: &'a dyn Fn(ResourceType, &str, usize) -> Result<SearchQuery, OperationOutcome>,
}

/// A chain of plain names.
pub(super) fn chained(
    kind: ResourceType,
    name: &str,
    owns: &Owns,
    depth: usize,
    end: &End<'_>,
) -> Result<Link, OperationOutcome> {
    if depth >= DEPTH_MAX {
        let words = format!("goes through more than {DEPTH_MAX} references");
        return Err(bad(IssueCode::TooLong, name, words));
    }
    let known = |target, inner: &str| match inner.split_once('.') {
        Some(_) => begins_known(target, inner, owns),
        None => (end.known)(target, inner),
    };
    chain_to((kind, name), owns, &known, &|target, inner| {
        if inner.contains('.') {
            let mut query = SearchQuery::empty(target);
            let link = chained(target, inner, owns, depth + 1, end)?;
            query.links.push(link);
            return Ok(query);
        }
        (end.made)(target, inner, depth + 1)
    })
}

fn chain_to(
    (kind, name): (ResourceType, &str),
    owns: &Owns,
    known: &dyn Fn(ResourceType, &str) -> bool,
    end: &dyn Fn(ResourceType, &str) -> Result<SearchQuery, OperationOutcome>,
) -> Result<Link, OperationOutcome> {
    let (head, inner) = name.split_once('.').unwrap_or((name, ""));
    let (plain, target) = head
        .split_once(':')
        .map_or((head, None), |(plain, target)| (plain, Some(target)));
    let mut all = references(kind, owns);
    let Some(parameter) = all.find(|known| known.name() == plain) else {
        let all: Vec<Named> = references(kind, owns).collect();
        let words = format!(
            "`{}` is no reference parameter of {kind}, so no chain can begin with it; known are {}",
            shown(plain),
            names(&all)
        );
        return Err(bad(IssueCode::NotSupported, name, words));
    };
    let one = |target| {
        Ok(Link {
            reverse: false,
            parameter: parameter.clone(),
            queries: vec![end(target, inner)?],
            named: true,
            current: None,
        })
    };
    if let Some(target) = target {
        return match ResourceType::parse(target).filter(|to| can_refer(kind, &parameter, *to)) {
            Some(target) => one(target),
            None => {
                let words = format!("can't refer to `{}`", shown(target));
                Err(bad(IssueCode::Value, name, words))
            }
        };
    }
    let Targets::Some(targets) = parameter.targets(kind) else {
        let words = format!(
            "can refer to any type, so it needs one: `{}:Type.…`",
            parameter.name()
        );
        return Err(bad(IssueCode::Value, name, words));
    };
    if let [target] = targets.as_slice() {
        return one(*target);
    }
    let fitting = targets.iter().filter(|target| known(**target, inner));
    let queries = fitting.map(|target| end(*target, inner));
    let queries = queries.collect::<Result<Vec<_>, _>>()?;
    if queries.is_empty() {
        let targets: Vec<String> = targets.iter().map(ToString::to_string).collect();
        let words = format!(
            "none of the types that it can refer to has such a parameter: {}",
            targets.join(", ")
        );
        return Err(bad(IssueCode::NotSupported, name, words));
    }
    Ok(Link {
        reverse: false,
        parameter,
        queries,
        named: false,
        current: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(kind: ResourceType, name: &str, value: &str) -> Result<Link, OperationOutcome> {
        let query = SearchQuery::parse(kind, &[(name.to_owned(), value.to_owned())], false)?;
        let [link] = query.links.as_slice() else {
            panic!("{name} is no link");
        };
        assert!(query.clauses.is_empty() && query.used.len() == 1);
        Ok(link.clone())
    }

    /// A link in short: parameter, types and what is asked of them.
    fn short(link: &Link) -> String {
        let queries = link.queries.iter().map(|query| {
            let inner = query.links.iter().map(short);
            let clauses = query.clauses.iter().map(|clause| match clause.modifier {
                None => clause.parameter.clone(),
                Some(modifier) => format!("{}:{modifier:?}", clause.parameter),
            });
            let all: Vec<String> = inner.chain(clauses).collect();
            format!("{}({})", query.kind, all.join("&"))
        });
        let queries: Vec<String> = queries.collect();
        let arrow = if link.reverse { "<-" } else { "->" };
        format!("{arrow}{} {}", link.parameter.name(), queries.join("|"))
    }

    #[test]
    fn links_are_parsed() {
        let observation = ResourceType::Observation;
        for (kind, name, value, expected) in [
            (observation, "patient.name", "x", "->patient Patient(name)"),
            (
                observation,
                "subject:Patient.family:exact",
                "x",
                "->subject Patient(family:Exact)",
            ),
            (
                observation,
                "subject.name",
                "x",
                "->subject Location(name)|Patient(name)",
            ),
            (
                observation,
                "patient.organization.name",
                "x",
                "->patient Patient(->organization Organization(name))",
            ),
            (
                ResourceType::Patient,
                "_has:Observation:patient:code",
                "1|2",
                "<-patient Observation(code)",
            ),
            (
                ResourceType::Patient,
                "_has:Observation:patient:_has:AuditEvent:entity:agent-name",
                "x",
                "<-patient Observation(<-entity AuditEvent(agent-name))",
            ),
            (
                ResourceType::Encounter,
                "patient._has:Group:member:_id",
                "x",
                "->patient Patient(<-member Group(_id))",
            ),
            (
                ResourceType::Patient,
                "_has:Observation:patient:performer:Practitioner.name",
                "x",
                "<-patient Observation(->performer Practitioner(name))",
            ),
        ] {
            assert_eq!(
                short(&parse(kind, name, value).unwrap()),
                expected,
                "{name}"
            );
        }
    }

    #[test]
    fn links_that_lead_nowhere_are_refused() {
        let observation = ResourceType::Observation;
        for (kind, name, value, words) in [
            (observation, "code.name", "x", "no reference parameter"),
            (
                observation,
                "patient.nothing",
                "x",
                "is no search parameter of Patient",
            ),
            (observation, "subject.nothing", "x", "none of the types"),
            (
                observation,
                "subject:Medication.code",
                "x",
                "can't refer to `Medication`",
            ),
            (observation, "focus.name", "x", "needs one"),
            (
                observation,
                "patient.",
                "x",
                "is no search parameter of Patient",
            ),
            (observation, "subject.birthdate", "x", "is a date"),
            (
                ResourceType::Patient,
                "_has:Observation:code",
                "x",
                "_has:Type",
            ),
            (
                ResourceType::Patient,
                "_has:Nothing:patient:code",
                "x",
                "no type",
            ),
            (
                ResourceType::Patient,
                "_has:Observation:code:code",
                "x",
                "known are",
            ),
            (
                observation,
                "_has:Claim:patient:status",
                "x",
                "can refer to Observation",
            ),
            (
                ResourceType::Organization,
                "partof.partof.partof.partof.partof.partof.name",
                "x",
                "more than 5",
            ),
        ] {
            let refused = parse(kind, name, value).unwrap_err();
            let said = &refused.issues[0].diagnostics;
            assert!(said.contains(words), "{name}: {said}");
        }
        let unknown = [("patient.nothing".to_owned(), "x".to_owned())];
        let lenient = SearchQuery::parse(observation, &unknown, true).unwrap();
        assert_eq!(lenient.ignored, ["patient.nothing"]);
    }

    #[test]
    fn what_was_found_takes_the_place_of_a_link() {
        let name = [("patient.name".to_owned(), "x".to_owned())];
        let query = SearchQuery::parse(ResourceType::Observation, &name, false).unwrap();
        let of = |id: &str| {
            Resource::from_value(json!({"resourceType": "Observation", "id": "o",
                "subject": {"reference": format!("Patient/{id}")}}))
            .unwrap()
        };
        assert!(!query.matches(&of("p")), "nobody knows yet");
        let mut found = Resources::default();
        found.add(ResourceType::Patient, "p");
        let query = query.linked([found]);
        assert!(query.matches(&of("p")) && !query.matches(&of("q")));
        let nothing = query.linked([]);
        assert_eq!(nothing, query);

        let name = [("_has:Observation:patient:code".to_owned(), "x".to_owned())];
        let query = SearchQuery::parse(ResourceType::Patient, &name, false).unwrap();
        let mut ends = Vec::new();
        let observation = of("p");
        query.links[0].ends(ResourceType::Patient, &observation, &mut |id| ends.push(id));
        assert_eq!(ends, ["p"]);
    }
}
