//! The policy files: read, validated against their schema, and asked.
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::str::FromStr;

use cedar_policy::{
    Authorizer, Context, Decision, Effect, Entities, Entity, EntityId, EntityTypeName, EntityUid,
    Policy, PolicyId, PolicySet, Request, RestrictedExpression, Schema, ValidationMode, Validator,
};
use fhir::ResourceType;
use miette::Diagnostic;

use super::{Asker, Classes};
use crate::{Action, TrustError};

/// The name of the schema's file.
const SCHEMA: &str = "cairn.cedarschema";
/// The name of the file that puts resource types into groups.
const GROUPS: &str = "groups.json";

/// The policy set that is built in.
const BUILT_IN: [(&str, &str); 11] = [
    (SCHEMA, include_str!("../../policies/cairn.cedarschema")),
    (GROUPS, include_str!("../../policies/groups.json")),
    (
        "administrator.cedar",
        include_str!("../../policies/administrator.cedar"),
    ),
    ("client.cedar", include_str!("../../policies/client.cedar")),
    (
        "clinician.cedar",
        include_str!("../../policies/clinician.cedar"),
    ),
    (
        "coordinator.cedar",
        include_str!("../../policies/coordinator.cedar"),
    ),
    (
        "everybody.cedar",
        include_str!("../../policies/everybody.cedar"),
    ),
    ("parts.cedar", include_str!("../../policies/parts.cedar")),
    (
        "patient.cedar",
        include_str!("../../policies/patient.cedar"),
    ),
    (
        "privacy-officer.cedar",
        include_str!("../../policies/privacy-officer.cedar"),
    ),
    ("squad.cedar", include_str!("../../policies/squad.cedar")),
];

/// What sort of content a resource type holds. The default is clinical.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Group {
    Demographics,
    Clinical,
    Coordination,
    Consent,
    Financial,
    /// Nobody's in particular: practitioners, organisations, definitions.
    Directory,
    Audit,
}

impl Group {
    pub(super) const ALL: [Self; 7] = [
        Self::Demographics,
        Self::Clinical,
        Self::Coordination,
        Self::Consent,
        Self::Financial,
        Self::Directory,
        Self::Audit,
    ];
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Demographics => "demographics",
            Self::Clinical => "clinical",
            Self::Coordination => "coordination",
            Self::Consent => "consent",
            Self::Financial => "financial",
            Self::Directory => "directory",
            Self::Audit => "audit",
        }
    }
}

/// The entity types and names of the schema, made once.
struct Names {
    role: EntityTypeName,
    part: EntityTypeName,
    group: EntityTypeName,
    kind: EntityTypeName,
    action: EntityTypeName,
    agent: EntityUid,
    service: EntityUid,
}

pub(super) struct PolicyFiles {
    authorizer: Authorizer,
    set: PolicySet,
    schema: Schema,
    names: Names,
    /// Kinds in their groups, and the actions.
    entities: Entities,
    groups: Vec<Group>,
}

fn uid(of: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(of.clone(), EntityId::new(id))
}

fn broken(file: &str, error: impl std::fmt::Display) -> TrustError {
    TrustError::Policy(format!("{file}: {error}"))
}

/// An error of Cedar with the place that it points at.
fn placed(file: &str, text: &str, error: &dyn Diagnostic) -> TrustError {
    let offset = error
        .labels()
        .and_then(|mut labels| labels.next())
        .map(|label| label.offset());
    let Some(before) = offset.and_then(|offset| text.get(..offset)) else {
        return broken(file, error);
    };
    let line = before.matches('\n').count() + 1;
    let column = before
        .rsplit('\n')
        .next()
        .unwrap_or_default()
        .chars()
        .count()
        + 1;
    broken(&format!("{file}:{line}:{column}"), error)
}

impl PolicyFiles {
    pub(super) fn load(folder: Option<&Path>) -> Result<Self, TrustError> {
        let mut files: BTreeMap<String, String> = BUILT_IN
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
            .collect();
        if let Some(folder) = folder {
            files.retain(|name, _| name == SCHEMA || name == GROUPS);
            let shown = folder.display().to_string();
            for entry in std::fs::read_dir(folder).map_err(|error| broken(&shown, error))? {
                let path = entry.map_err(|error| broken(&shown, error))?.path();
                let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
                    continue;
                };
                let is_policy = path
                    .extension()
                    .is_some_and(|extension| extension == "cedar");
                if is_policy || name == SCHEMA || name == GROUPS {
                    let text =
                        std::fs::read_to_string(&path).map_err(|error| broken(name, error))?;
                    files.insert(name.to_owned(), text);
                }
            }
            if files.len() == 2 {
                return Err(broken(&shown, "holds no *.cedar file"));
            }
        }
        Self::parse(&files)
    }

    fn parse(files: &BTreeMap<String, String>) -> Result<Self, TrustError> {
        let file = |name: &str| files.get(name).map_or("", String::as_str);
        let (schema, _) = Schema::from_cedarschema_str(file(SCHEMA))
            .map_err(|error| placed(SCHEMA, file(SCHEMA), &error))?;
        let groups = groups(file(GROUPS))?;
        let mut set = PolicySet::new();
        for (name, text) in files.iter().filter(|(name, _)| name.ends_with(".cedar")) {
            let parsed = PolicySet::from_str(text).map_err(|error| placed(name, text, &error))?;
            if parsed.num_of_templates() > 0 {
                return Err(broken(name, "policy templates are not used here"));
            }
            for policy in parsed.policies() {
                let id = policy.annotation("id").ok_or_else(|| {
                    broken(
                        name,
                        "each policy needs an `@id(\"...\")`, which audit records name",
                    )
                })?;
                let policy = policy.new_id(PolicyId::new(id));
                set.add(policy).map_err(|error| broken(name, error))?;
            }
        }
        let checked = Validator::new(schema.clone()).validate(&set, ValidationMode::Strict);
        if let Some(error) = checked.validation_errors().next() {
            let id = error.policy_id().clone();
            let name = files
                .iter()
                .find(|(_, text)| text.contains(&format!("@id(\"{id}\")")))
                .map_or("policies", |(name, _)| name);
            return Err(placed(name, file(name), error));
        }
        let names = Names::new()?;
        let entities = entities(&schema, &names, &groups)?;
        Ok(Self {
            authorizer: Authorizer::new(),
            set,
            schema,
            names,
            entities,
            groups,
        })
    }

    /// Which resource types policies can tell apart: by group, and those that a policy names.
    pub(super) fn classes(&self) -> Classes {
        let named = self.literals(&self.names.kind);
        let mut classes = Classes {
            of_kind: vec![0; self.groups.len()],
            members: Vec::new(),
            groups: self.groups.clone(),
        };
        let mut known: HashMap<(Group, Option<ResourceType>), usize> = HashMap::new();
        for kind in ResourceType::all() {
            let place = usize::from(kind.code());
            let own = named.contains(kind.name()).then_some(kind);
            let class = *known.entry((self.groups[place], own)).or_insert_with(|| {
                classes.members.push(kind);
                classes.members.len() - 1
            });
            classes.of_kind[place] = class;
        }
        classes
    }

    /// The parts of Cairn that policies name.
    pub(super) fn parts(&self) -> BTreeSet<String> {
        self.literals(&self.names.part)
    }

    fn literals(&self, wanted: &EntityTypeName) -> BTreeSet<String> {
        self.set
            .policies()
            .flat_map(Policy::entity_literals)
            .filter(|uid| uid.type_name() == wanted)
            .map(|uid| uid.id().unescaped().to_owned())
            .collect()
    }

    /// The entities with the asker among them; made once for all that is asked for one.
    pub(super) fn with(&self, asker: &Asker) -> Option<Entities> {
        let names = &self.names;
        let mut parents = HashSet::from([uid(&names.role, asker.role.name())]);
        parents.extend(asker.part.as_deref().map(|part| uid(&names.part, part)));
        let agent = Entity::new_no_attrs(names.agent.clone(), parents);
        let entities = self.entities.clone();
        entities.add_entities([agent], Some(&self.schema)).ok()
    }

    /// The policies that permit it, if it is permitted. Whatever goes wrong inside means "no".
    pub(super) fn permits(
        &self,
        entities: &Entities,
        asker: &Asker,
        action: Action,
        kind: Option<ResourceType>,
    ) -> Option<Vec<String>> {
        let (decision, because) = self.ask(entities, asker, action, kind)?;
        (decision == Decision::Allow).then_some(because)
    }

    /// The policies that forbid it, where some do rather than none permits it.
    pub(super) fn forbidding(
        &self,
        asker: &Asker,
        action: Action,
        kind: Option<ResourceType>,
    ) -> Vec<String> {
        let asked = self
            .with(asker)
            .and_then(|entities| self.ask(&entities, asker, action, kind));
        match asked {
            Some((Decision::Deny, because)) => because
                .into_iter()
                .filter(|id| {
                    let policy = self.set.policy(&PolicyId::new(id));
                    policy.is_some_and(|policy| policy.effect() == Effect::Forbid)
                })
                .collect(),
            _ => Vec::new(),
        }
    }

    fn ask(
        &self,
        entities: &Entities,
        asker: &Asker,
        action: Action,
        kind: Option<ResourceType>,
    ) -> Option<(Decision, Vec<String>)> {
        let names = &self.names;
        let context = Context::from_pairs([
            (
                "purpose".to_owned(),
                RestrictedExpression::new_string(asker.purpose.code().to_owned()),
            ),
            ("own".to_owned(), RestrictedExpression::new_bool(asker.own)),
        ])
        .ok()?;
        let resource = match (action.interaction(), kind) {
            (Some(_), Some(kind)) => uid(&names.kind, kind.name()),
            (Some(_), None) => return None,
            (None, _) => names.service.clone(),
        };
        let action = uid(&names.action, action.name());
        let request = Request::new(
            names.agent.clone(),
            action,
            resource,
            context,
            Some(&self.schema),
        )
        .ok()?;
        let answer = self.authorizer.is_authorized(&request, &self.set, entities);
        // A policy that can't be evaluated must not be passed over: it may be one that forbids.
        if answer.diagnostics().errors().next().is_some() {
            return None;
        }
        let mut because: Vec<String> = answer
            .diagnostics()
            .reason()
            .map(ToString::to_string)
            .collect();
        because.sort_unstable();
        Some((answer.decision(), because))
    }
}

impl Names {
    fn new() -> Result<Self, TrustError> {
        let of = |name: &str| EntityTypeName::from_str(name).map_err(|error| broken(SCHEMA, error));
        Ok(Self {
            role: of("Role")?,
            part: of("Part")?,
            group: of("Group")?,
            kind: of("Kind")?,
            action: of("Action")?,
            agent: uid(&of("Agent")?, "asker"),
            service: uid(&of("Service")?, "cairn"),
        })
    }
}

fn entities(schema: &Schema, names: &Names, groups: &[Group]) -> Result<Entities, TrustError> {
    let kinds = ResourceType::all().map(|kind| {
        let group = groups[usize::from(kind.code())];
        Entity::new_no_attrs(
            uid(&names.kind, kind.name()),
            HashSet::from([uid(&names.group, group.name())]),
        )
    });
    let groups = Group::ALL
        .iter()
        .map(|group| Entity::new_no_attrs(uid(&names.group, group.name()), HashSet::new()));
    let others = [Entity::new_no_attrs(names.service.clone(), HashSet::new())];
    Entities::from_entities(kinds.chain(groups).chain(others), Some(schema))
        .map_err(|error| broken(SCHEMA, error))
}

/// The group of each resource type, by its number.
fn groups(text: &str) -> Result<Vec<Group>, TrustError> {
    let read: BTreeMap<String, Vec<String>> =
        serde_json::from_str(text).map_err(|error| broken(GROUPS, error))?;
    let last = ResourceType::all().map(ResourceType::code).max();
    let mut groups = vec![Group::Clinical; usize::from(last.unwrap_or(0)) + 1];
    let mut seen = HashSet::new();
    for (name, kinds) in read {
        let group = Group::ALL
            .into_iter()
            .find(|group| group.name() == name)
            .ok_or_else(|| broken(GROUPS, format!("there is no group `{name}`")))?;
        for kind in kinds {
            let kind = ResourceType::parse(&kind)
                .ok_or_else(|| broken(GROUPS, format!("`{kind}` is no resource type")))?;
            if !seen.insert(kind) {
                return Err(broken(GROUPS, format!("{kind} is there twice")));
            }
            groups[usize::from(kind.code())] = group;
        }
    }
    Ok(groups)
}
