//! The matrix of a policy set as pages show it: who may do what with which types, by which policies.
use std::collections::BTreeMap;

use fhir::ResourceType;

use super::{Around, Asker, Grants, Group, PolicySet};
use crate::{Action, Purpose, Role};

/// What one asker may do for a purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyRow {
    /// The role.
    pub role: Role,
    /// Of a part of Cairn that acts by itself: its name; empty for those that no policy names.
    pub part: Option<String>,
    /// Whether a patient, or who acts for one, asks for that one's record and not for another's.
    pub own: bool,
    /// What is permitted with the types of each group, in the order of [`PolicySet::groups`]. Nothing else is.
    pub of_groups: Vec<Vec<PolicyCell>>,
    /// What is permitted that is done to no type.
    pub others: Vec<PolicyCell>,
}

/// Something that is permitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyCell {
    /// The actions.
    pub actions: Vec<Action>,
    /// The types, where it is not the whole group.
    pub kinds: Vec<ResourceType>,
    /// The policies that permit it.
    pub policies: Vec<String>,
    /// The rule by which the types are shown in part, if they are.
    pub in_part: Option<String>,
}

/// Who asks, besides the purpose.
pub(super) struct Who {
    pub(super) role: Role,
    pub(super) part: Option<String>,
    pub(super) own: bool,
}

impl Who {
    pub(super) fn asker(&self, purpose: Purpose) -> Asker {
        Asker {
            role: self.role,
            part: self.part.clone(),
            purpose,
            own: self.own,
            around: None,
        }
    }
}

/// What policies say of one type: for each action that is permitted, by which; and the rule for its elements.
type Said = (Vec<(Action, Vec<String>)>, Option<String>);

impl PolicySet {
    /// Everybody whom policies can tell apart.
    pub(super) fn askers(&self) -> Vec<Who> {
        let who = |role, part, own| Who { role, part, own };
        let mut askers = Vec::new();
        for role in Role::ALL.into_iter().filter(|role| *role != Role::System) {
            if role.has_one_record() {
                askers.push(who(role, None, true));
            }
            askers.push(who(role, None, false));
        }
        let parts = self.files.parts();
        askers.extend((parts.into_iter()).map(|part| who(Role::System, Some(part), false)));
        askers.push(who(Role::System, Some(String::new()), false));
        askers
    }

    /// Its files, by name.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// The groups that resource types are in, by name.
    #[must_use]
    pub fn groups(&self) -> Vec<(&'static str, Vec<ResourceType>)> {
        let of = |group| ResourceType::all().filter(move |kind| self.classes.group(*kind) == group);
        Group::ALL
            .map(|group| (group.name(), of(group).collect()))
            .to_vec()
    }

    /// Who may do what for a purpose with this around the request, as [`PolicySet::why`] says it of each question.
    #[must_use]
    pub fn table(&self, purpose: Purpose, around: &Around) -> Vec<PolicyRow> {
        let groups = self.groups();
        let row = |who: Who| {
            let asker = Asker {
                around: Some(around.clone()),
                ..who.asker(purpose)
            };
            let grants = self.decide_all(&asker);
            let of_group = |(_, kinds): &(_, Vec<ResourceType>)| cells(&grants, who.role, kinds);
            let mut others: Vec<PolicyCell> = Vec::new();
            let services = Action::ALL
                .into_iter()
                .filter(|action| !action.is_interaction());
            for action in services.filter(|action| grants.service(*action)) {
                add(&mut others, action, &[], grants.because(action, None), None);
            }
            PolicyRow {
                of_groups: groups.iter().map(of_group).collect(),
                others,
                role: who.role,
                part: who.part,
                own: who.own,
            }
        };
        self.askers().into_iter().map(row).collect()
    }
}

/// Adds an action to what the same policies permit with the same types.
fn add(
    cells: &mut Vec<PolicyCell>,
    action: Action,
    kinds: &[ResourceType],
    policies: Vec<String>,
    in_part: Option<&String>,
) {
    let same = |cell: &&mut PolicyCell| cell.policies == policies && cell.kinds == kinds;
    if let Some(cell) = cells.iter_mut().find(same) {
        cell.actions.push(action);
        return;
    }
    cells.push(PolicyCell {
        actions: vec![action],
        kinds: kinds.to_vec(),
        policies,
        in_part: in_part.cloned(),
    });
}

fn cells(grants: &Grants, role: Role, kinds: &[ResourceType]) -> Vec<PolicyCell> {
    // Types of which the same is said stand together.
    let mut alike: BTreeMap<Said, Vec<ResourceType>> = BTreeMap::new();
    for kind in kinds {
        alike
            .entry(said(grants, role, *kind))
            .or_default()
            .push(*kind);
    }
    let mut cells = Vec::new();
    for ((permitted, in_part), of) in &alike {
        let of: &[ResourceType] = if of.len() == kinds.len() { &[] } else { of };
        for (action, policies) in permitted {
            add(&mut cells, *action, of, policies.clone(), in_part.as_ref());
        }
    }
    cells
}

fn said(grants: &Grants, role: Role, kind: ResourceType) -> Said {
    // Whoever reads the audit must be allowed to audit, except patients their own.
    let is_open =
        kind != ResourceType::AuditEvent || role == Role::Patient || grants.service(Action::Audit);
    let permitted: Vec<(Action, Vec<String>)> = (Action::INTERACTIONS.into_iter())
        .filter(|action| is_open && grants.interaction(*action, kind))
        .map(|action| (action, grants.because(action, Some(kind))))
        .collect();
    let rule = grants.in_part(kind).filter(|_| !permitted.is_empty());
    let rule = rule.map(|rule| rule.words.id.clone());
    (permitted, rule)
}
