//! The minimum necessary (45 CFR 164.502(b), 164.514(d)): which elements of which resource types are shown to
//! a role for a purpose, as data beside the policies.
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use fhir::ResourceType;
use fhir::redaction::{Redaction, Shown, has_element, is_data_type};
use fhir::search::SearchQuery;
use serde::Deserialize;
use toml::Spanned;

use super::Classes;
use super::cases::{self, Several, codes, parsed};
use super::files::{PolicyFault, PolicyTexts};
use super::set::Group;
use crate::{Purpose, Purposes, Role};

/// Before the id of a rule, where audit records name what decided.
pub(crate) const BECAUSE: &str = "elements:";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    rule: Vec<Spanned<RuleText>>,
    #[serde(default)]
    exempt: Vec<Spanned<ExemptText>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleText {
    id: String,
    says: String,
    role: Several,
    purpose: Several,
    #[serde(rename = "type")]
    kind: Option<Several>,
    group: Option<Several>,
    shows: Option<Vec<String>>,
    #[serde(default)]
    hides: Vec<String>,
    #[serde(default)]
    hides_data_types: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExemptText {
    says: String,
    under: String,
    role: Several,
    purpose: Several,
}

/// A rule as people know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ElementWords {
    /// Its id, which audit records name.
    pub id: String,
    /// What it means.
    pub says: String,
    /// The file that it stands in.
    pub file: String,
    /// Its line.
    pub line: usize,
}

/// A rule for a resource type.
#[derive(Debug)]
pub(crate) struct ElementRule {
    pub(crate) words: Arc<ElementWords>,
    pub(crate) redaction: Redaction,
    /// Whether it names the type, and not just the group.
    is_own: bool,
}

/// Why nothing has to be hidden.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exemption {
    /// In words.
    pub says: String,
    /// By which rule of the law.
    pub under: String,
}

/// Which elements are hidden from a role for a purpose.
#[derive(Debug, Default)]
pub(crate) struct Elements(BTreeMap<ResourceType, Arc<ElementRule>>);

impl Elements {
    /// The rule for a type; without one it is shown whole.
    pub(crate) fn of(&self, kind: ResourceType) -> Option<&Arc<ElementRule>> {
        self.0.get(&kind)
    }

    /// What audit records name, each once.
    pub(crate) fn because(&self, kind: Option<ResourceType>) -> Vec<String> {
        let rules = self.0.iter();
        let fitting = rules.filter(|(of, _)| kind.is_none_or(|kind| kind == **of));
        let mut ids: Vec<String> = fitting
            .map(|(_, rule)| format!("{BECAUSE}{}", rule.words.id))
            .collect();
        ids.sort();
        ids.dedup();
        ids
    }

    /// What is wrong with a search: it looks at an element that is not shown.
    pub(crate) fn refuses(&self, query: &SearchQuery) -> Option<Asked> {
        let mut found = None;
        query.each_reach(&mut |kind, parameter, reach| {
            if found.is_none()
                && let Some(rule) = self.of(kind)
                && let Some(element) = rule.redaction.hides(reach)
            {
                found = Some(Asked {
                    kind,
                    parameter: parameter.to_owned(),
                    element,
                    rule: rule.words.id.clone(),
                });
            }
        });
        found
    }
}

/// An element that a search looks at and that is not shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) kind: ResourceType,
    pub(crate) parameter: String,
    pub(crate) element: String,
    pub(crate) rule: String,
}

impl Asked {
    /// What is said of it. Parameters are names of the specification, or of the organisation's own.
    pub(crate) fn words(&self, role: Role, purpose: Purpose) -> String {
        format!(
            "the search parameter {} looks at {}.{}, which is not shown to the role {} for {} (rule {})",
            self.parameter,
            self.kind,
            self.element,
            role.name(),
            purpose.code(),
            self.rule
        )
    }
}

/// All rules of a policy set.
#[derive(Debug, Default)]
pub(super) struct ElementRules {
    by: HashMap<(Role, Purpose), Arc<Elements>>,
    exempt: HashMap<(Role, Purpose), Exemption>,
}

impl ElementRules {
    pub(super) fn of(&self, role: Role, purpose: Purpose) -> Option<&Arc<Elements>> {
        self.by.get(&(role, purpose))
    }

    pub(super) fn exemption(&self, role: Role, purpose: Purpose) -> Option<&Exemption> {
        self.exempt.get(&(role, purpose))
    }

    /// Reads all files of rules of a set.
    pub(super) fn read(
        files: &PolicyTexts,
        classes: &Classes,
        purposes: &Purposes,
    ) -> Result<Self, Vec<PolicyFault>> {
        let mut rules = Self::default();
        let mut building: HashMap<(Role, Purpose), Elements> = HashMap::new();
        let mut known: HashMap<String, String> = HashMap::new();
        let mut faults = Vec::new();
        for (name, text) in files.elements() {
            let file: File = match toml::from_str(text) {
                Ok(file) => file,
                Err(error) => {
                    let start = error.span().map(|span| span.start);
                    faults.push(PolicyFault::at(name, text, start, error.message()));
                    continue;
                }
            };
            for exempt in file.exempt {
                let start = Some(exempt.span().start);
                if let Err(words) = rules.exempt(exempt.get_ref(), purposes) {
                    faults.push(PolicyFault::at(name, text, start, words));
                }
            }
            for rule in file.rule {
                let fault =
                    |words: String| PolicyFault::at(name, text, Some(rule.span().start), words);
                let line = fault(String::new()).line.unwrap_or(1);
                let rule = rule.get_ref();
                if let Some(other) = known.insert(rule.id.clone(), name.to_owned()) {
                    let words = format!("the id `{}` is taken by a rule in {other}", rule.id);
                    faults.push(fault(words));
                    continue;
                }
                let words = Arc::new(ElementWords {
                    id: rule.id.clone(),
                    says: rule.says.clone(),
                    file: name.to_owned(),
                    line,
                });
                if let Err(words) = add(rule, &words, (classes, purposes), &mut building) {
                    faults.push(fault(format!("{}: {words}", rule.id)));
                }
            }
        }
        for ((role, purpose), elements) in building {
            if rules.exempt.contains_key(&(role, purpose)) {
                let rule = elements.0.values().next();
                let (file, line) = rule.map_or(("", 1), |rule| (&rule.words.file, rule.words.line));
                faults.push(PolicyFault {
                    line: Some(line),
                    ..PolicyFault::of(
                        file,
                        format!(
                            "the role {} is exempt for {}, so nothing can be hidden from it",
                            role.name(),
                            purpose.code()
                        ),
                    )
                });
            }
            rules.by.insert((role, purpose), Arc::new(elements));
        }
        if faults.is_empty() {
            purposes.own().for_each(|own| rules.inherit(own));
            Ok(rules)
        } else {
            Err(faults)
        }
    }

    /// An own purpose has what the one has that it is a kind of: of each type of which no rule is its own, and unless
    /// it is exempt itself. What the parent says of a type holds against an own rule for its group, too: what is said of
    /// a type goes before what is said of its group.
    fn inherit(&mut self, own: Purpose) {
        for role in Role::ALL {
            let (of_own, of_parent) = ((role, own), (role, own.standard()));
            if self.exempt.contains_key(&of_own) {
                continue;
            }
            match (self.by.get(&of_own), self.by.get(&of_parent)) {
                (None, None) => {
                    if let Some(exemption) = self.exempt.get(&of_parent).cloned() {
                        self.exempt.insert(of_own, exemption);
                    }
                }
                (None, Some(parent)) => {
                    self.by.insert(of_own, Arc::clone(parent));
                }
                (Some(_), None) => {}
                (Some(own), Some(parent)) => {
                    let mut all = own.0.clone();
                    for (kind, rule) in &parent.0 {
                        let goes_before = |own: &ElementRule| rule.is_own && !own.is_own;
                        if all.get(kind).is_none_or(|own| goes_before(own)) {
                            all.insert(*kind, Arc::clone(rule));
                        }
                    }
                    self.by.insert(of_own, Arc::new(Elements(all)));
                }
            }
        }
    }

    fn exempt(&mut self, exempt: &ExemptText, purposes: &Purposes) -> Result<(), String> {
        for (role, purpose) in askers(&exempt.role, &exempt.purpose, purposes)? {
            let exemption = Exemption {
                says: exempt.says.clone(),
                under: exempt.under.clone(),
            };
            if self.exempt.insert((role, purpose), exemption).is_some() {
                return Err(format!(
                    "the role {} is exempt for {} twice",
                    role.name(),
                    purpose.code()
                ));
            }
        }
        Ok(())
    }
}

/// The roles and purposes that are named, each with each.
fn askers(
    roles: &Several,
    purposes: &Several,
    known: &Purposes,
) -> Result<Vec<(Role, Purpose)>, String> {
    let roles = parsed(roles, "role", Role::parse, || {
        codes(Role::ALL.map(Role::name))
    })?;
    if roles.contains(&Role::System) {
        return Err("parts of Cairn see what their work needs, by policies".to_owned());
    }
    let purposes = cases::purposes(purposes, known)?;
    let with_all = |role: &Role| {
        let role = *role;
        purposes.iter().map(move |purpose| (role, *purpose))
    };
    Ok(roles.iter().flat_map(with_all).collect())
}

/// Adds a rule to those of its roles and purposes.
fn add(
    rule: &RuleText,
    words: &Arc<ElementWords>,
    (classes, purposes): (&Classes, &Purposes),
    all: &mut HashMap<(Role, Purpose), Elements>,
) -> Result<(), String> {
    let askers = askers(&rule.role, &rule.purpose, purposes)?;
    if let Some((role, _)) = askers.iter().find(|(role, _)| *role == Role::Patient) {
        return Err(format!(
            "the role {} sees its own record whole (45 CFR 164.502(b)(2)(ii))",
            role.name()
        ));
    }
    let (kinds, is_own) = kinds(rule, classes)?;
    check_names(rule, &kinds)?;
    for kind in kinds {
        let shown = Shown {
            shows: rule.shows.as_deref(),
            hides: &rule.hides,
            data_types: &rule.hides_data_types,
        };
        let made = Arc::new(ElementRule {
            words: Arc::clone(words),
            redaction: Redaction::new(kind, shown)?,
            is_own,
        });
        for asker in &askers {
            let elements = all.entry(*asker).or_default();
            match elements.0.get(&kind) {
                Some(other) if other.is_own == is_own => {
                    return Err(format!(
                        "the rule `{}` is about {kind} for the role {} and {}, too; one of them has to be enough",
                        other.words.id,
                        asker.0.name(),
                        asker.1.code()
                    ));
                }
                // What is said of a type goes before what is said of its group.
                Some(other) if other.is_own => {}
                _ => {
                    elements.0.insert(kind, Arc::clone(&made));
                }
            }
        }
    }
    Ok(())
}

/// The types that a rule is about, and whether it names them.
fn kinds(rule: &RuleText, classes: &Classes) -> Result<(Vec<ResourceType>, bool), String> {
    match (&rule.kind, &rule.group) {
        (Some(names), None) => {
            let kinds = parsed(names, "resource type", ResourceType::parse, || {
                "names as FHIR R4 has them".to_owned()
            })?;
            Ok((kinds, true))
        }
        (None, Some(names)) => {
            let groups = parsed(names, "group", Group::parse, || {
                codes(Group::ALL.map(Group::name))
            })?;
            let kinds = ResourceType::all().filter(|kind| groups.contains(&classes.group(*kind)));
            Ok((kinds.collect(), false))
        }
        _ => Err("needs either `type` or `group`".to_owned()),
    }
}

/// A name that none of the types has is a mistake, which would show what was to be hidden.
fn check_names(rule: &RuleText, kinds: &[ResourceType]) -> Result<(), String> {
    if kinds.is_empty() {
        return Err("is about no resource type".to_owned());
    }
    if rule.says.trim().is_empty() {
        return Err("`says` has to say what it means".to_owned());
    }
    let hides = rule.hides.iter();
    let shows = rule.shows.iter().flatten();
    if let Some(path) = shows.clone().find(|path| path.contains('.')) {
        return Err(format!(
            "`{path}`: what is shown is listed by elements at the top; name what lies below in `hides`"
        ));
    }
    for path in hides.chain(shows) {
        if !kinds.iter().any(|kind| has_element(*kind, path)) {
            let of = match kinds {
                [one] => one.to_string(),
                _ => "any of its types".to_owned(),
            };
            return Err(format!("`{path}` is no element of {of}"));
        }
    }
    if let Some(name) = (rule.hides_data_types.iter()).find(|name| !is_data_type(name)) {
        return Err(format!("`{name}` is no data type, and no element of one"));
    }
    Ok(())
}
