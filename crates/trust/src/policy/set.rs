//! The policy files: read, validated against their schema, and asked.
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::str::FromStr;
use std::sync::Arc;

use cedar_policy::{
    Authorizer, Context, Decision, Effect, Entities, Entity, EntityId, EntityTypeName, EntityUid,
    Policy, PolicyId, PolicySet, Request, RestrictedExpression, Schema, ValidationMode, Validator,
};
use fhir::ResourceType;

use super::around::{Around, Looks};
use super::files::{GROUPS, PolicyFault, PolicyTexts, SCHEMA};
use super::widest::widest;
use super::{Asker, Classes, own, partners};
use crate::partners::Partners;
use crate::{Action, Purpose, Purposes};

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
    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|group| group.name() == name)
    }
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
#[derive(Clone)]
struct Names {
    role: EntityTypeName,
    part: EntityTypeName,
    group: EntityTypeName,
    kind: EntityTypeName,
    action: EntityTypeName,
    agent: EntityUid,
    service: EntityUid,
}

/// How much of a request a schema knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Knows {
    /// The purpose, and whose record it is.
    Purpose,
    /// Session, networks, time and tenant besides.
    Around,
    /// Organizations and device besides.
    Device,
    /// Purposes of one's own besides.
    Whole,
}

pub(super) struct PolicyFiles {
    authorizer: Authorizer,
    set: PolicySet,
    schema: Schema,
    names: Names,
    /// Kinds in their groups, and the actions.
    entities: Entities,
    groups: Vec<Group>,
    /// What for somebody can ask.
    purposes: Purposes,
    /// Whom journeys may call.
    partners: Arc<Partners>,
    /// What is known of each policy, by its id.
    known: BTreeMap<String, PolicyWords>,
    /// What policies look at around a request.
    looks: Looks,
    /// The same where what is around lets the most, if they look at what changes.
    widest: Option<Box<Self>>,
    /// How much of a request the schema knows; one of before knows less.
    knows: Knows,
}

/// A policy as people know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyWords {
    /// Its `@id`, which audit records name.
    pub id: String,
    /// What it means, from its `@says`; empty where it has none.
    pub says: String,
    /// Whether it forbids rather than permits.
    pub forbids: bool,
    /// The file that it stands in.
    pub file: String,
    /// The line of its `@id`.
    pub line: usize,
}

fn uid(of: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(of.clone(), EntityId::new(id))
}

impl PolicyFiles {
    /// Reads and validates a set, and gives everything that is wrong with it.
    pub(super) fn parse(files: &PolicyTexts) -> Result<Self, Vec<PolicyFault>> {
        let (schema, _) = Schema::from_cedarschema_str(files.text(SCHEMA))
            .map_err(|error| vec![PolicyFault::placed(SCHEMA, files.text(SCHEMA), &error)])?;
        let groups = groups(files.text(GROUPS)).map_err(|fault| vec![fault])?;
        let purposes = own::read(files)?;
        let partners = Arc::new(partners::read(files, &purposes)?);
        let mut set = PolicySet::new();
        let mut known = BTreeMap::new();
        let mut faults = Vec::new();
        for (name, text) in files.policies() {
            if let Err(fault) = read_policies(name, text, &mut set, &mut known) {
                faults.push(fault);
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let checked = Validator::new(schema.clone()).validate(&set, ValidationMode::Strict);
        for error in checked.validation_errors() {
            let id = error.policy_id().to_string();
            let file = known.get(&id).map_or("policies", |words| &words.file);
            faults.push(PolicyFault::placed(file, files.text(file), error));
        }
        for policy in set.policies() {
            let of = known.get(&policy.id().to_string());
            faults.extend(own::faults(policy, &purposes).into_iter().map(|words| {
                let fault = PolicyFault::of(of.map_or("policies", |of| &of.file), words);
                let line = of.map(|of| of.line);
                PolicyFault { line, ..fault }
            }));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let made = || {
            let names = Names::new()?;
            let entities = entities(&schema, &names, &groups)?;
            Ok((names, entities))
        };
        let (names, entities) = made().map_err(|fault| vec![fault])?;
        let knows = knows(&schema, &names).map_err(|fault| vec![fault])?;
        let mut looks = Looks::default();
        for policy in set.policies() {
            match policy.to_json() {
                Ok(json) => looks.add(&json),
                // What can't be told may look at everything.
                Err(_) => looks = Looks::ALL,
            }
        }
        match knows {
            Knows::Purpose => looks = Looks::default(),
            Knows::Around => {
                looks.organizations = false;
                looks.device = false;
            }
            Knows::Device | Knows::Whole => {}
        }
        let mut files = Self {
            authorizer: Authorizer::new(),
            set,
            schema,
            names,
            entities,
            groups,
            purposes,
            partners,
            known,
            looks,
            widest: None,
            knows,
        };
        if looks.changes() {
            let set =
                widest(&files.set).map_err(|words| vec![PolicyFault::of("policies", words)])?;
            files.widest = Some(Box::new(files.with_set(set)));
        }
        Ok(files)
    }

    fn with_set(&self, set: PolicySet) -> Self {
        Self {
            authorizer: Authorizer::new(),
            set,
            schema: self.schema.clone(),
            names: self.names.clone(),
            entities: self.entities.clone(),
            groups: self.groups.clone(),
            purposes: self.purposes.clone(),
            partners: Arc::clone(&self.partners),
            known: self.known.clone(),
            looks: self.looks,
            widest: None,
            knows: self.knows,
        }
    }

    /// The policies where what changes around lets the most.
    pub(super) fn widest(&self) -> &Self {
        self.widest.as_deref().unwrap_or(self)
    }

    /// What for somebody can ask.
    pub(super) fn purposes(&self) -> &Purposes {
        &self.purposes
    }

    /// Whom journeys may call.
    pub(super) fn partners(&self) -> &Partners {
        &self.partners
    }

    /// What policies look at around a request.
    pub(super) fn looks(&self) -> Looks {
        self.looks
    }

    /// What is known of a policy.
    pub(super) fn known(&self, id: &str) -> Option<&PolicyWords> {
        self.known.get(id)
    }

    /// What is known of all policies, by their ids.
    pub(super) fn all_known(&self) -> impl Iterator<Item = &PolicyWords> {
        self.known.values()
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

    /// The entities with the asker among them; made once for all that is asked for one. None who asks for a
    /// purpose that this set does not have: nothing is permitted for it.
    pub(super) fn with(&self, asker: &Asker) -> Option<Entities> {
        if !self.purposes.has(asker.purpose) {
            return None;
        }
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
        entities: &Entities,
        asker: &Asker,
        action: Action,
        kind: Option<ResourceType>,
    ) -> Vec<String> {
        match self.ask(entities, asker, action, kind) {
            Some((Decision::Deny, because)) => {
                let forbids = |id: &String| self.known.get(id).is_some_and(|one| one.forbids);
                because.into_iter().filter(forbids).collect()
            }
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
        let usual = Around::default();
        let around = asker.around.as_ref().unwrap_or(&usual);
        let context = context(asker.purpose, asker.own, around, self.knows)?;
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

/// What policies see as `context`.
fn context(purpose: Purpose, own: bool, around: &Around, knows: Knows) -> Option<Context> {
    let text = |text: &str| RestrictedExpression::new_string(text.to_owned());
    let mut pairs = vec![
        ("purpose".to_owned(), text(purpose.standard().code())),
        ("own".to_owned(), RestrictedExpression::new_bool(own)),
    ];
    if knows >= Knows::Around {
        let session = RestrictedExpression::new_record([
            ("factor".to_owned(), text(around.factor.name())),
            (
                "confirmed".to_owned(),
                RestrictedExpression::new_bool(around.confirmed),
            ),
        ]);
        let time = RestrictedExpression::new_record([
            (
                "hour".to_owned(),
                RestrictedExpression::new_long(i64::from(around.hour)),
            ),
            ("weekday".to_owned(), text(around.weekday.name())),
        ]);
        let networks = around.networks.iter().map(|name| text(name));
        pairs.push(("session".to_owned(), session.ok()?));
        pairs.push(("time".to_owned(), time.ok()?));
        pairs.push((
            "networks".to_owned(),
            RestrictedExpression::new_set(networks),
        ));
        pairs.push(("tenant".to_owned(), text(&around.tenant)));
    }
    if knows >= Knows::Device {
        let device = RestrictedExpression::new_record([
            ("kind".to_owned(), text(around.device.kind.name())),
            ("client".to_owned(), text(&around.device.client)),
        ]);
        let organizations = around.organizations.iter().map(|id| text(id));
        pairs.push(("device".to_owned(), device.ok()?));
        pairs.push((
            "organizations".to_owned(),
            RestrictedExpression::new_set(organizations),
        ));
    }
    if knows == Knows::Whole {
        let code = purpose.own().map_or("", |_| purpose.code());
        pairs.push(("own_purpose".to_owned(), text(code)));
    }
    Context::from_pairs(pairs).ok()
}

/// How much a schema's requests have of what is around them: all, or as much as those from before. Another one would
/// refuse every request.
fn knows(schema: &Schema, names: &Names) -> Result<Knows, PolicyFault> {
    let asks = |knows| {
        let context = context(Purpose::Treatment, false, &Around::default(), knows)
            .ok_or_else(|| "the context can't be made".to_owned())?;
        let (action, kind) = (uid(&names.action, "read"), uid(&names.kind, "Patient"));
        Request::new(names.agent.clone(), action, kind, context, Some(schema))
            .map(drop)
            .map_err(|error| error.to_string())
    };
    let Err(words) = asks(Knows::Whole) else {
        return Ok(Knows::Whole);
    };
    let before = [Knows::Device, Knows::Around, Knows::Purpose];
    match before.into_iter().find(|knows| asks(*knows).is_ok()) {
        Some(knows) => Ok(knows),
        None => Err(PolicyFault::of(
            SCHEMA,
            format!(
                "requests have a context with `purpose` and `own`, and all or none of `session`, `networks`, `time` and \
                 `tenant`, with these both or none of `organizations` and `device`, and with these `own_purpose` or not, as in the built-in schema (`cairn policy init`): {words}"
            ),
        )),
    }
}

/// Adds the policies of a file to the set.
fn read_policies(
    name: &str,
    text: &str,
    set: &mut PolicySet,
    known: &mut BTreeMap<String, PolicyWords>,
) -> Result<(), PolicyFault> {
    let parsed =
        PolicySet::from_str(text).map_err(|error| PolicyFault::placed(name, text, &error))?;
    if parsed.num_of_templates() > 0 {
        return Err(PolicyFault::of(name, "policy templates are not used here"));
    }
    for policy in parsed.policies() {
        let id = policy.annotation("id").ok_or_else(|| {
            PolicyFault::of(
                name,
                "each policy needs an `@id(\"...\")`, which audit records name",
            )
        })?;
        let offset = text.find(&format!("@id(\"{id}\")"));
        if let Some(other) = known.get(id) {
            let words = format!(
                "the id `{id}` is taken by a policy in {}; give this one another",
                other.file
            );
            let again = text.rfind(&format!("@id(\"{id}\")"));
            return Err(PolicyFault::at(name, text, again, words));
        }
        let before = offset.and_then(|offset| text.get(..offset));
        known.insert(
            id.to_owned(),
            PolicyWords {
                id: id.to_owned(),
                says: policy.annotation("says").unwrap_or_default().to_owned(),
                forbids: policy.effect() == Effect::Forbid,
                file: name.to_owned(),
                line: before.map_or(0, |before| before.matches('\n').count()) + 1,
            },
        );
        let policy = policy.new_id(PolicyId::new(id));
        set.add(policy)
            .map_err(|error| PolicyFault::of(name, error))?;
    }
    Ok(())
}

impl Names {
    fn new() -> Result<Self, PolicyFault> {
        let of = |name: &str| {
            EntityTypeName::from_str(name).map_err(|error| PolicyFault::of(SCHEMA, error))
        };
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

fn entities(schema: &Schema, names: &Names, groups: &[Group]) -> Result<Entities, PolicyFault> {
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
        .map_err(|error| PolicyFault::of(SCHEMA, error))
}

/// The group of each resource type, by its number.
fn groups(text: &str) -> Result<Vec<Group>, PolicyFault> {
    let read: BTreeMap<String, Vec<String>> =
        serde_json::from_str(text).map_err(|error: serde_json::Error| PolicyFault {
            line: Some(error.line()),
            column: Some(error.column()),
            ..PolicyFault::of(GROUPS, error)
        })?;
    let last = ResourceType::all().map(ResourceType::code).max();
    let mut groups = vec![Group::Clinical; usize::from(last.unwrap_or(0)) + 1];
    let mut seen = HashSet::new();
    for (name, kinds) in read {
        let group = Group::parse(&name)
            .ok_or_else(|| PolicyFault::of(GROUPS, format!("there is no group `{name}`")))?;
        for kind in kinds {
            let kind = ResourceType::parse(&kind)
                .ok_or_else(|| PolicyFault::of(GROUPS, format!("`{kind}` is no resource type")))?;
            if !seen.insert(kind) {
                return Err(PolicyFault::of(GROUPS, format!("{kind} is there twice")));
            }
            groups[usize::from(kind.code())] = group;
        }
    }
    Ok(groups)
}
