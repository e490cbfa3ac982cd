//! Searches of several types at once, and of a compartment (R4, section 3.1.1.1): one query for each type,
//! all of the same parameters. What says how to answer is the same in each.
use super::parameter::find;
use super::query::{BYTES_MAX, OF_TYPES_MAX, bad, check_bytes, shown};
use super::{Compartment, Include, Owns, SearchQuery};
use crate::{IssueCode, OperationOutcome, ResourceType};

/// The most bytes that the parameters of a search of several types have, names and values: each type's
/// query keeps them.
const OF_SEVERAL_BYTES_MAX: usize = 16 << 10;

/// Where a search is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// At a type: `[base]/Type`.
    Type,
    /// At the base, for several types: `[base]`.
    System,
    /// At a compartment, for one type (`[base]/Patient/ID/Type`) or several (`[base]/Patient/ID/*`).
    Compartment(Compartment, Option<ResourceType>),
}

impl Scope {
    /// Whether rows can be of several types.
    #[must_use]
    pub fn is_of_several(&self) -> bool {
        matches!(self, Self::System | Self::Compartment(_, None))
    }
}

impl SearchQuery {
    /// The address below the base: `Patient`, `Patient/ID/*`, or nothing for the base itself.
    #[must_use]
    pub fn address(&self) -> String {
        match &self.scope {
            Scope::Type => self.kind.name().to_owned(),
            Scope::System => String::new(),
            Scope::Compartment(Compartment { kind, id }, of) => {
                format!("{kind}/{id}/{}", of.map_or("*", ResourceType::name))
            }
        }
    }

    /// Parses a search of types of a scope, one query for each; in a compartment of those that can be in
    /// it. With `_type` of those that it names, which have to be among them.
    ///
    /// # Errors
    /// As [`SearchQuery::parse`]; also for parameters that some of the types don't have, or that aren't of
    /// the same type in all of them, where no type is left, and past 16 KiB or 20,000
    /// alternatives in all.
    pub fn parse_scope(
        scope: &Scope,
        kinds: &[ResourceType],
        parameters: &[(String, String)],
        lenient: bool,
    ) -> Result<Vec<Self>, OperationOutcome> {
        Self::parse_scope_with(scope, kinds, parameters, lenient, &Owns::default())
    }

    /// The same where there are parameters of one's own.
    ///
    /// # Errors
    /// As [`SearchQuery::parse_scope`].
    pub fn parse_scope_with(
        scope: &Scope,
        kinds: &[ResourceType],
        parameters: &[(String, String)],
        lenient: bool,
        owns: &Owns,
    ) -> Result<Vec<Self>, OperationOutcome> {
        let most = if scope.is_of_several() {
            OF_SEVERAL_BYTES_MAX
        } else {
            BYTES_MAX
        };
        check_bytes(parameters, most)?;
        let compartment = match scope {
            Scope::Compartment(compartment, _) => Some(compartment),
            _ => None,
        };
        let possible = |kind: &ResourceType| {
            compartment.is_none_or(|compartment| compartment.condition(*kind).is_some())
        };
        let kinds: Vec<ResourceType> = kinds.iter().copied().filter(possible).collect();
        let kinds = named(scope, &kinds, parameters)?.unwrap_or(kinds);
        if let (Some(compartment), true) = (compartment, kinds.is_empty()) {
            let words = format!(
                "nothing of this type can be in the compartment of a {}",
                compartment.kind
            );
            return Err(OperationOutcome::error(IssueCode::NotSupported, words));
        }
        let of_several = scope.is_of_several();
        let is_own = |name: &str| of_several && (name == "_type" || is_include(name));
        let others: Vec<(String, String)> = parameters
            .iter()
            .filter(|(name, _)| !is_own(name))
            .cloned()
            .collect();
        if kinds.len() > 1 {
            for (name, value) in &others {
                same_in_all(&kinds, name, value, owns)?;
            }
        }
        let mut queries = Vec::with_capacity(kinds.len());
        let mut values = 0;
        for kind in &kinds {
            let query = Self::parse_in(*kind, &others, lenient, (owns, compartment));
            let mut query = query.map_err(|outcome| {
                if kinds.len() > 1 {
                    of_all(outcome, *kind)
                } else {
                    outcome
                }
            })?;
            values += query.values();
            if kinds.len() > 1 && values > OF_TYPES_MAX {
                let words = format!(
                    "the parameters have more than {OF_TYPES_MAX} alternatives, counted for each of {} types; name fewer in _type, or ask for fewer values",
                    kinds.len()
                );
                return Err(OperationOutcome::error(IssueCode::TooCostly, words));
            }
            queries.push(query);
        }
        let mut includes: Vec<Include> = Vec::new();
        if of_several {
            for (name, value) in parameters.iter().filter(|(name, _)| is_include(name)) {
                let mut of_one = Vec::with_capacity(kinds.len());
                for kind in &kinds {
                    let mut query = Self::empty(*kind);
                    of_one.push(query.include(name, value, owns).map(|_| query.includes));
                }
                // It has to fit one of the types.
                let fits = of_one.iter().position(Result::is_ok).unwrap_or(0);
                if !of_one.is_empty() {
                    includes.extend(of_one.swap_remove(fits)?);
                }
            }
        }
        // Nothing of one type is said of another by leniency: what one doesn't know is left out of all.
        let ignored: Vec<String> = queries
            .iter()
            .flat_map(|query| query.ignored.iter().cloned())
            .collect();
        if !ignored.is_empty() && kinds.len() > 1 {
            let known: Vec<(String, String)> = parameters
                .iter()
                .filter(|(name, _)| !ignored.contains(name))
                .cloned()
                .collect();
            let mut queries = Self::parse_scope_with(scope, &kinds, &known, false, owns)?;
            let mut names = ignored;
            names.sort_unstable();
            names.dedup();
            queries
                .iter_mut()
                .for_each(|query| query.ignored.clone_from(&names));
            return Ok(queries);
        }
        let used: Vec<(String, String)> = parameters
            .iter()
            .filter(|(name, _)| name != "_cursor" && !ignored.contains(name))
            .cloned()
            .collect();
        for query in &mut queries {
            query.scope = scope.clone();
            query.used.clone_from(&used);
            if of_several {
                query.includes.clone_from(&includes);
            }
            if let Some(compartment) = compartment {
                query.conditions.extend(compartment.condition(query.kind));
            }
        }
        Ok(queries)
    }
}

fn is_include(name: &str) -> bool {
    matches!(name.split(':').next(), Some("_include" | "_revinclude"))
}

/// The types that `_type` names.
fn named(
    scope: &Scope,
    kinds: &[ResourceType],
    parameters: &[(String, String)],
) -> Result<Option<Vec<ResourceType>>, OperationOutcome> {
    let mut given = parameters.iter().filter(|(name, _)| name == "_type");
    let (Some((name, value)), true) = (given.next(), scope.is_of_several()) else {
        return Ok(None);
    };
    if given.next().is_some() {
        return Err(bad(IssueCode::Invalid, name, "is given twice"));
    }
    let mut named = Vec::new();
    for one in value.split(',') {
        let Some(kind) = ResourceType::parse(one).filter(|kind| kinds.contains(kind)) else {
            let words = format!("`{}` is no type that can be searched here", shown(one));
            return Err(bad(IssueCode::Value, name, words));
        };
        if !named.contains(&kind) {
            named.push(kind);
        }
    }
    Ok(Some(named))
}

/// A parameter of several types has to mean the same in all of them.
fn same_in_all(
    kinds: &[ResourceType],
    name: &str,
    value: &str,
    owns: &Owns,
) -> Result<(), OperationOutcome> {
    let names: Vec<&str> = if name == "_sort" {
        let parts = value.split(',');
        parts.map(|part| part.trim_start_matches('-')).collect()
    } else {
        vec![name.split([':', '.']).next().unwrap_or_default()]
    };
    for plain in names {
        let mut of_kinds = kinds.iter().filter_map(|kind| find(*kind, plain, owns));
        let Some((_, first)) = of_kinds.next() else {
            continue;
        };
        if of_kinds.any(|(_, kind)| kind != first) {
            let words = format!(
                "is of another type in some of the resource types, so `{}` can't be asked of all of them; name fewer in _type",
                shown(plain)
            );
            return Err(bad(IssueCode::NotSupported, name, words));
        }
    }
    Ok(())
}

/// What is wrong for one of several types, said of them.
fn of_all(mut outcome: OperationOutcome, kind: ResourceType) -> OperationOutcome {
    for issue in &mut outcome.issues {
        if let Some((words, _)) = issue.diagnostics.split_once("; known are")
            && words.ends_with(kind.name())
        {
            issue.diagnostics = format!(
                "{words}; in a search of several types only parameters that all of them have can be used, so name fewer in _type"
            );
        }
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Resource;
    use serde_json::json;

    fn pairs(text: &str) -> Vec<(String, String)> {
        let parts = text.split('&').filter(|part| !part.is_empty());
        parts
            .map(|part| {
                let (name, value) = part.split_once('=').unwrap();
                (name.to_owned(), value.to_owned())
            })
            .collect()
    }

    fn all() -> Vec<ResourceType> {
        ResourceType::all().collect()
    }

    fn parse(scope: &Scope, text: &str) -> Result<Vec<SearchQuery>, OperationOutcome> {
        SearchQuery::parse_scope(scope, &all(), &pairs(text), false)
    }

    fn patients(of: Option<ResourceType>) -> Scope {
        let compartment = Compartment::of(ResourceType::Patient, "p").unwrap();
        Scope::Compartment(compartment, of)
    }

    #[test]
    fn several_types_share_their_parameters() {
        let queries = parse(&Scope::System, "_type=Patient,Observation,Patient&_id=x").unwrap();
        let kinds: Vec<&str> = queries.iter().map(|query| query.kind.name()).collect();
        assert_eq!(kinds, ["Patient", "Observation"]);
        assert!(queries.iter().all(|query| query.clauses.len() == 1));
        assert_eq!(queries[0].used.len(), 2);
        assert_eq!(parse(&Scope::System, "_tag=x").unwrap().len(), 146);
        let two = "_type=Observation,Condition&subject:Patient.name=x&_sort=code,-_lastUpdated";
        assert_eq!(parse(&Scope::System, two).unwrap()[1].links.len(), 1);
        let includes = "_type=Observation,Patient&_include=Observation:subject&_include=Patient:organization&_revinclude=Provenance:target";
        for query in parse(&Scope::System, includes).unwrap() {
            assert_eq!(query.includes.len(), 3);
        }
        for (text, words) in [
            ("code=x", "all of them have"),
            ("_type=Patient,Observation&code=x", "all of them have"),
            ("_type=Patient,Thing", "is no type"),
            ("_type=Patient&_type=Observation", "is given twice"),
            (
                "_type=Observation,Patient&_include=Encounter:subject",
                "another type",
            ),
            ("_type=Observation,Group&value-string=x", "all of them have"),
            (
                "_type=Group,Coverage&_sort=value",
                "is a list of search parameters",
            ),
            // A token here, a quantity there.
            (
                "_type=Encounter,Location&_sort=length",
                "is a list of search parameters",
            ),
            ("_type=Person,Account&name=x&_count=0", "whole number"),
        ] {
            let refused = parse(&Scope::System, text).unwrap_err().to_string();
            assert!(refused.contains(words), "{text}: {refused}");
        }
        let lenient = SearchQuery::parse_scope(
            &Scope::System,
            &all(),
            &pairs("_type=Patient,Observation&code=x&_id=y"),
            true,
        );
        for query in lenient.unwrap() {
            assert_eq!((query.clauses.len(), query.ignored.len()), (1, 1));
            assert_eq!(query.used.len(), 2);
        }
    }

    #[test]
    fn parameters_of_several_types_have_so_many_bytes_and_values() {
        let long = |bytes: usize| format!("_tag={}", "x".repeat(bytes - "_tag".len()));
        let few = parse(&Scope::System, &long(OF_SEVERAL_BYTES_MAX));
        assert_eq!(few.unwrap().len(), 146);
        for scope in [Scope::System, patients(None)] {
            let refused = parse(&scope, &long(OF_SEVERAL_BYTES_MAX + 1)).unwrap_err();
            let words = refused.to_string();
            assert!(words.contains("at most 16384 bytes"), "{words}");
        }
        let one = [ResourceType::Observation];
        let scope = patients(Some(one[0]));
        let text = pairs(&long(OF_SEVERAL_BYTES_MAX + 1));
        assert!(SearchQuery::parse_scope(&scope, &one, &text, false).is_ok());
        let text = pairs(&long(BYTES_MAX));
        assert!(SearchQuery::parse(one[0], &text, false).is_ok());
        let text = pairs(&long(BYTES_MAX + 1));
        let refused = SearchQuery::parse(one[0], &text, false).unwrap_err();
        assert!(refused.to_string().contains("at most 1048576 bytes"));

        // 136 of each type, or 137.
        let values = |count: usize| format!("_tag={}", vec!["a"; count].join(","));
        assert!(parse(&Scope::System, &values(136)).is_ok());
        let refused = parse(&Scope::System, &values(137)).unwrap_err().to_string();
        assert!(
            refused.contains("more than 20000 alternatives"),
            "{refused}"
        );
        let two = format!("_type=Patient,Observation&{}", values(200));
        assert!(parse(&Scope::System, &two).is_ok());

        // What a chain leads to keeps its values too.
        let of_link = |name: &str, value: String| {
            SearchQuery::parse(one[0], &[(name.to_owned(), value)], false)
        };
        assert!(of_link("subject._tag", vec!["a"; 200].join(",")).is_ok());
        let wide = "performer.general-practitioner._tag";
        assert!(of_link(wide, "a".to_owned()).is_ok());
        let refused = of_link("subject._tag", "x".repeat(16 << 10)).unwrap_err();
        assert!(refused.to_string().contains("at most 16384 bytes"));
    }

    #[test]
    fn a_parameter_means_the_same_in_all_types() {
        // A date in one, a reference in the other.
        let refused = parse(&Scope::System, "_type=Encounter,MedicationDispense&type=x");
        assert!(refused.is_ok());
        let differs = ResourceType::all().find_map(|one| {
            ResourceType::all().find_map(|other| {
                let of_one = super::super::parameters(one).iter();
                of_one
                    .filter_map(|parameter| {
                        let (_, kind) = find(other, parameter.name, &Owns::default())?;
                        (kind != parameter.kind).then_some((one, other, parameter.name))
                    })
                    .next()
            })
        });
        let (one, other, name) = differs.expect("R4 has such parameters");
        let text = format!("_type={one},{other}&{name}=x");
        let refused = parse(&Scope::System, &text).unwrap_err().to_string();
        assert!(refused.contains("of another type in some"), "{refused}");
    }

    #[test]
    fn a_compartment_has_what_says_so() {
        let queries = parse(&patients(None), "").unwrap();
        assert_eq!(queries.len(), 66);
        assert!(queries.iter().all(|query| query.address() == "Patient/p/*"));
        let one = Some(ResourceType::Observation);
        let queries = SearchQuery::parse_scope(
            &patients(one),
            &[ResourceType::Observation],
            &pairs("code=x"),
            false,
        );
        let [query] = queries.unwrap().try_into().unwrap();
        assert_eq!(query.address(), "Patient/p/Observation");
        let observation = |subject: &str, performer: &str, code: &str| {
            Resource::from_value(
                json!({"resourceType": "Observation", "id": "o", "status": "final",
                "code": {"coding": [{"code": code}]}, "subject": {"reference": subject},
                "performer": [{"reference": performer}]}),
            )
            .unwrap()
        };
        assert!(query.matches(&observation("Patient/p", "Patient/q", "x")));
        assert!(query.matches(&observation("Group/p", "Patient/p", "x")));
        assert!(!query.matches(&observation("Patient/q", "Practitioner/p", "x")));
        assert!(!query.matches(&observation("Patient/p", "Patient/q", "y")));
        let patient =
            |id: &str| Resource::from_value(json!({"resourceType": "Patient", "id": id})).unwrap();
        let own = parse(&patients(None), "_type=Patient").unwrap();
        assert!(own[0].matches(&patient("p")) && !own[0].matches(&patient("q")));
        let refused = parse(&patients(None), "_type=Organization").unwrap_err();
        assert!(refused.to_string().contains("is no type"), "{refused}");
        let one = patients(Some(ResourceType::Organization));
        let refused = SearchQuery::parse_scope(&one, &[ResourceType::Organization], &[], false);
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("compartment of a Patient"), "{refused}");
        assert!(Compartment::of(ResourceType::Organization, "o").is_none());
        assert!(Compartment::of(ResourceType::Patient, "p/q").is_none());
        assert_eq!(Compartment::kinds().count(), 5);
    }
}
