//! `_include` and `_revinclude` (R4, section 3.1.1.5.5): resources that are answered beside those that
//! match, because these refer to them or are referred to by them.
use super::query::{bad, shown};
use super::{Named, Owns, SearchQuery, can_refer, extract, references};
use crate::{IssueCode, OperationOutcome, Resource, ResourceType};

/// The most of both in one query, which bounds the work for one page.
const INCLUDES_MAX: usize = 20;

/// One `_include` or `_revinclude`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Include {
    /// Whether it is a `_revinclude`: what refers to what is there already.
    pub reverse: bool,
    /// Whether it is done again for what was included (`:iterate`).
    pub iterate: bool,
    /// The type that refers; `None` for any (`*`) but audit events, which have to be named.
    pub source: Option<ResourceType>,
    /// The reference parameter; `None` for all of the type (`*`).
    pub parameter: Option<Named>,
    /// The type that is referred to, if it is said.
    pub target: Option<ResourceType>,
    /// Those of one's own that there are.
    pub owns: Owns,
}

impl Include {
    /// The parameters of a type that are followed.
    pub fn parameters_of(&self, source: ResourceType) -> impl Iterator<Item = Named> + use<'_> {
        let of_source = self.source.is_none_or(|wanted| wanted == source);
        references(source, &self.owns).filter(move |named| {
            let wanted = self.parameter.as_ref();
            of_source && wanted.is_none_or(|parameter| parameter == named)
        })
    }

    /// Whether it follows parameters of one's own.
    pub(super) fn asks_owns(&self) -> bool {
        let all = |own: &std::sync::Arc<super::Own>| {
            self.source.is_none_or(|source| source == own.base())
                && own.kind() == super::ParameterKind::Reference
        };
        match &self.parameter {
            Some(parameter) => parameter.own().is_some(),
            None => self.owns.iter().any(all),
        }
    }

    /// Calls `sink` with each resource that a resource refers to in the way that is asked for. Whatever
    /// version a reference names, the resource as it is now is meant.
    pub fn follow<'a>(&self, resource: &'a Resource, sink: &mut dyn FnMut(ResourceType, &'a str)) {
        for parameter in self.parameters_of(resource.kind()) {
            extract::literals(resource, &parameter, &mut |kind, id| {
                if self.target.is_none_or(|target| target == kind) {
                    sink(kind, id);
                }
            });
        }
    }
}

impl SearchQuery {
    /// Takes a parameter that says what to answer beside the matches.
    pub(super) fn include(
        &mut self,
        name: &str,
        value: &str,
        owns: &Owns,
    ) -> Result<bool, OperationOutcome> {
        let (plain, modifier) = name
            .split_once(':')
            .map_or((name, None), |(plain, modifier)| (plain, Some(modifier)));
        let reverse = match plain {
            "_include" => false,
            "_revinclude" => true,
            _ => return Ok(false),
        };
        if !matches!(modifier, None | Some("iterate")) {
            let words = "has a modifier that is not supported; known is iterate";
            return Err(bad(IssueCode::NotSupported, name, words));
        }
        let mut include = parse(name, value, owns)?;
        include.reverse = reverse;
        include.iterate = modifier.is_some();
        self.fits(&include, name)?;
        if !self.includes.contains(&include) {
            self.includes.push(include);
        }
        if self.includes.len() > INCLUDES_MAX {
            let words = format!("more than {INCLUDES_MAX} of _include and _revinclude");
            return Err(bad(IssueCode::TooLong, name, words));
        }
        Ok(true)
    }

    /// What can include nothing is a mistake.
    fn fits(&self, include: &Include, name: &str) -> Result<(), OperationOutcome> {
        if include.iterate {
            return Ok(());
        }
        let kind = self.kind;
        if !include.reverse && include.source.is_some_and(|source| source != kind) {
            let words = format!(
                "is about another type than {kind}, which is searched; to follow what is included write {name}:iterate"
            );
            return Err(bad(IssueCode::Value, name, words));
        }
        if include.reverse && include.target.is_some_and(|target| target != kind) {
            let words = format!("can only be about references to {kind}, which is searched");
            return Err(bad(IssueCode::Value, name, words));
        }
        if let (true, Some(source)) = (include.reverse, include.source)
            && !(include.parameters_of(source)).any(|parameter| can_refer(source, &parameter, kind))
        {
            return Err(bad(
                IssueCode::Value,
                name,
                format!("can't refer to {kind}"),
            ));
        }
        Ok(())
    }
}

/// `Source:parameter[:Target]`, `Source:*[:Target]` or `*`.
fn parse(name: &str, value: &str, owns: &Owns) -> Result<Include, OperationOutcome> {
    let mut include = Include {
        reverse: false,
        iterate: false,
        source: None,
        parameter: None,
        target: None,
        owns: owns.clone(),
    };
    if value == "*" {
        return Ok(include);
    }
    let kind = |text: &str| {
        let words = || {
            format!(
                "is `Type:parameter`, `Type:parameter:Type`, `Type:*` or `*`; there is no type `{}`",
                shown(text)
            )
        };
        ResourceType::parse(text).ok_or_else(|| bad(IssueCode::Value, name, words()))
    };
    let mut parts = value.split(':');
    let source = kind(parts.next().unwrap_or_default())?;
    include.source = Some(source);
    match parts.next() {
        None => {
            let words = "is `Type:parameter`, `Type:parameter:Type`, `Type:*` or `*`";
            return Err(bad(IssueCode::Value, name, words));
        }
        Some("*") => {}
        Some(parameter) => {
            let mut all = references(source, owns);
            let Some(known) = all.find(|known| known.name() == parameter) else {
                let all: Vec<Named> = references(source, owns).collect();
                let names: Vec<&str> = all.iter().map(Named::name).collect();
                let words = format!(
                    "`{}` is no reference parameter of {source}; known are {}",
                    shown(parameter),
                    names.join(", ")
                );
                return Err(bad(IssueCode::Value, name, words));
            };
            include.parameter = Some(known);
        }
    }
    if let Some(target) = parts.next() {
        let target = kind(target)?;
        if !(include.parameters_of(source)).any(|parameter| can_refer(source, &parameter, target)) {
            return Err(bad(
                IssueCode::Value,
                name,
                format!("can't refer to {target}"),
            ));
        }
        include.target = Some(target);
    }
    if parts.next().is_some() {
        return Err(bad(IssueCode::Value, name, "has more than three parts"));
    }
    Ok(include)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn query(kind: ResourceType, name: &str, value: &str) -> Result<SearchQuery, OperationOutcome> {
        SearchQuery::parse(kind, &[(name.to_owned(), value.to_owned())], false)
    }

    #[test]
    fn what_can_be_included_is_parsed() {
        let kind = ResourceType::Observation;
        for (name, value, parts) in [
            ("_include", "*", (None, None, None)),
            ("_include", "Observation:*", (Some(kind), None, None)),
            (
                "_include",
                "Observation:subject",
                (Some(kind), Some("subject"), None),
            ),
            (
                "_include:iterate",
                "Patient:general-practitioner:Practitioner",
                (
                    Some(ResourceType::Patient),
                    Some("general-practitioner"),
                    Some(ResourceType::Practitioner),
                ),
            ),
            (
                "_revinclude",
                "Provenance:target",
                (ResourceType::parse("Provenance"), Some("target"), None),
            ),
        ] {
            let query = query(kind, name, value).unwrap();
            let [include] = query.includes.as_slice() else {
                panic!("{value}");
            };
            let parameter = include.parameter.as_ref().map(Named::name);
            assert_eq!((include.source, parameter, include.target), parts);
            assert_eq!(include.reverse, name.starts_with("_rev"), "{name}");
            assert_eq!(include.iterate, name.ends_with(":iterate"), "{name}");
            assert_eq!(query.used.len(), 1);
        }
    }

    #[test]
    fn what_can_include_nothing_is_refused() {
        for (name, value, words) in [
            ("_include", "Observation", "Type:parameter"),
            ("_include", "Observation:code", "no reference parameter"),
            ("_include", "Nothing:code", "no type `Nothing`"),
            ("_include", "Observation:subject:Medication", "can't refer"),
            ("_include", "Observation:subject:Patient:x", "three parts"),
            ("_include", "Patient:organization", "_include:iterate"),
            ("_include:recurse", "Observation:subject", "iterate"),
            (
                "_revinclude",
                "Patient:organization",
                "can't refer to Observation",
            ),
            (
                "_revinclude",
                "Provenance:target:Patient",
                "references to Observation",
            ),
        ] {
            let refused = query(ResourceType::Observation, name, value).unwrap_err();
            assert!(refused.issues[0].diagnostics.contains(words), "{refused}");
        }
    }

    #[test]
    fn references_are_followed() {
        let resource = Resource::from_value(json!({
            "resourceType": "Observation", "status": "final", "code": {"text": "x"},
            "subject": {"reference": "Patient/p"},
            "performer": [{"reference": "Practitioner/q/_history/3"}, {"reference": "#c"},
                {"reference": "Organization/o"}, {"reference": "https://else.where/Patient/x"}],
        }))
        .unwrap();
        let followed = |value: &str| {
            let query = query(ResourceType::Observation, "_include", value).unwrap();
            let mut found = std::collections::BTreeSet::new();
            query.includes[0].follow(&resource, &mut |kind, id| {
                found.insert(format!("{kind}/{id}"));
            });
            found.into_iter().collect::<Vec<_>>()
        };
        assert_eq!(
            followed("*"),
            ["Organization/o", "Patient/p", "Practitioner/q"]
        );
        assert_eq!(
            followed("Observation:performer:Organization"),
            ["Organization/o"]
        );
        assert_eq!(followed("Observation:patient"), ["Patient/p"]);
        assert!(followed("Observation:encounter").is_empty());
    }
}
