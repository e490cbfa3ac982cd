//! A policy set's own tests, as data beside it: who asks what for which purpose, and what has to come of it.
use fhir::ResourceType;
use serde::Deserialize;
use toml::Spanned;

use super::Classes;
use super::around::{Around, Device, DeviceKind, Factor, Weekday};
use super::files::{PolicyFault, PolicyTexts};
use super::set::Group;
use super::why::Question;
use crate::{Action, Purpose, Purposes, Role};

/// One value or several.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Several {
    One(String),
    Many(Vec<String>),
}

impl Several {
    pub(super) fn list(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

/// One hour of the day or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Hours {
    One(u8),
    Many(Vec<u8>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    case: Vec<Spanned<CaseText>>,
    #[serde(default)]
    elements: Vec<Spanned<ElementsText>>,
}

/// Which elements have to be shown, and which not.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ElementsText {
    name: String,
    role: Several,
    purpose: Several,
    #[serde(rename = "type")]
    kind: Several,
    #[serde(default)]
    shows: Vec<String>,
    #[serde(default)]
    hides: Vec<String>,
}

/// A case about elements.
#[derive(Debug)]
pub(super) struct ElementsCase {
    pub(super) name: String,
    pub(super) file: String,
    pub(super) line: usize,
    pub(super) askers: Vec<(Role, Purpose, ResourceType)>,
    pub(super) shows: Vec<String>,
    pub(super) hides: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseText {
    name: String,
    role: Option<Several>,
    part: Option<Several>,
    purpose: Several,
    action: Several,
    #[serde(rename = "type")]
    kind: Option<Several>,
    group: Option<Several>,
    own: Option<bool>,
    second_factor: Option<Several>,
    #[serde(default)]
    confirmed: bool,
    #[serde(default)]
    networks: Vec<String>,
    hour: Option<Hours>,
    weekday: Option<Several>,
    tenant: Option<Several>,
    #[serde(default)]
    organizations: Vec<String>,
    device: Option<String>,
    client: Option<String>,
    expect: Expected,
    by: Option<Vec<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Expected {
    Permit,
    Deny,
}

/// A case of a test file. Each of its questions has to be answered as expected.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) file: String,
    pub(super) line: usize,
    pub(super) questions: Vec<Question>,
    pub(super) expect: Expected,
    /// The policies that have to be those that decide, if the case says so.
    pub(super) by: Option<Vec<String>>,
}

/// Reads all test files of a set. `knows` says whether there is a policy of a name.
pub(super) fn read(
    files: &PolicyTexts,
    knows: impl Fn(&str) -> bool,
    classes: &Classes,
    purposes: &Purposes,
) -> Result<(Vec<Case>, Vec<ElementsCase>), Vec<PolicyFault>> {
    let mut cases = Vec::new();
    let mut of_elements = Vec::new();
    let mut faults = Vec::new();
    for (name, text) in files.tests() {
        let file: File = match toml::from_str(text) {
            Ok(file) => file,
            Err(error) => {
                let start = error.span().map(|span| span.start);
                faults.push(PolicyFault::at(name, text, start, error.message()));
                continue;
            }
        };
        for case in file.elements {
            let fault = |words: String| PolicyFault::at(name, text, Some(case.span().start), words);
            match elements(case.get_ref(), purposes) {
                Err(words) => faults.push(fault(words)),
                Ok(askers) => of_elements.push(ElementsCase {
                    line: fault(String::new()).line.unwrap_or(1),
                    name: case.get_ref().name.clone(),
                    file: name.to_owned(),
                    askers,
                    shows: case.get_ref().shows.clone(),
                    hides: case.get_ref().hides.clone(),
                }),
            }
        }
        if file.case.is_empty() && of_elements.iter().all(|case| case.file != name) {
            faults.push(PolicyFault::of(name, "has no [[case]]"));
        }
        for case in file.case {
            let offset = case.span().start;
            let fault = |words: String| PolicyFault::at(name, text, Some(offset), words);
            let case = case.into_inner();
            match questions(&case, classes, purposes) {
                Err(words) => faults.push(fault(words)),
                Ok(_) if case.by.iter().flatten().any(|id| !knows(id)) => {
                    let mut unknown = case.by.iter().flatten().filter(|id| !knows(id));
                    let id = unknown.next().map_or("", String::as_str);
                    faults.push(fault(format!(
                        "`by` names `{id}`, and no policy has that id"
                    )));
                }
                Ok(questions) => cases.push(Case {
                    line: fault(String::new()).line.unwrap_or(1),
                    name: case.name,
                    file: name.to_owned(),
                    questions,
                    expect: case.expect,
                    by: case.by,
                }),
            }
        }
    }
    if faults.is_empty() {
        Ok((cases, of_elements))
    } else {
        Err(faults)
    }
}

/// All combinations of what a case about elements names.
fn elements(
    case: &ElementsText,
    known: &Purposes,
) -> Result<Vec<(Role, Purpose, ResourceType)>, String> {
    let roles = parsed(&case.role, "role", Role::parse, || {
        codes(Role::ALL.map(Role::name))
    })?;
    let purposes = purposes(&case.purpose, known)?;
    let kinds = parsed(&case.kind, "resource type", ResourceType::parse, || {
        "names as FHIR R4 has them".to_owned()
    })?;
    if case.shows.is_empty() && case.hides.is_empty() {
        return Err("needs `shows` or `hides`".to_owned());
    }
    let mut all = Vec::new();
    for role in roles {
        for purpose in &purposes {
            for kind in &kinds {
                let named = case.shows.iter().chain(&case.hides);
                for path in named {
                    if !fhir::redaction::has_element(*kind, path) {
                        return Err(format!("`{path}` is no element of {kind}"));
                    }
                }
                all.push((role, *purpose, *kind));
            }
        }
    }
    if all.is_empty() {
        return Err("asks nothing: one of its lists is empty".to_owned());
    }
    Ok(all)
}

/// All combinations of what a case names.
fn questions(
    case: &CaseText,
    classes: &Classes,
    known: &Purposes,
) -> Result<Vec<Question>, String> {
    let askers = askers(case)?;
    let purposes = purposes(&case.purpose, known)?;
    let actions = parsed(&case.action, "action", Action::parse, || {
        codes(Action::ALL.map(Action::name))
    })?;
    let kinds = kinds(case, classes)?;
    let arounds = arounds(case)?;
    let mut asked = Vec::new();
    for asker in &askers {
        for purpose in &purposes {
            asked.extend(arounds.iter().map(|around| (asker, purpose, around)));
        }
    }
    let mut questions = Vec::new();
    for ((role, part), purpose, around) in asked {
        for action in &actions {
            let of_kind = action.interaction().is_some();
            if of_kind == kinds.is_empty() {
                return Err(if of_kind {
                    format!(
                        "to {} is done to resource types: name them with `type` or `group`",
                        action.name()
                    )
                } else {
                    format!("to {} is done to no resource type", action.name())
                });
            }
            let all = kinds.iter().copied().map(Some);
            let none = (!of_kind).then_some(None);
            questions.extend(all.chain(none).map(|kind| Question {
                role: *role,
                part: part.clone(),
                purpose: *purpose,
                action: *action,
                kind,
                own: case.own.unwrap_or(false),
                around: around.clone(),
            }));
        }
    }
    if questions.is_empty() {
        return Err("asks nothing: one of its lists is empty".to_owned());
    }
    Ok(questions)
}

/// All combinations of what a case says is around; what it doesn't say is as nobody says anything.
fn arounds(case: &CaseText) -> Result<Vec<Around>, String> {
    let usual = Around::default();
    let hours = match &case.hour {
        None => vec![usual.hour],
        Some(Hours::One(hour)) => vec![*hour],
        Some(Hours::Many(hours)) => hours.clone(),
    };
    if let Some(hour) = hours.iter().find(|hour| **hour > 23) {
        return Err(format!("`{hour}` is no hour; there are 0 to 23"));
    }
    let factors = case.second_factor.as_ref().map_or_else(
        || Ok(vec![usual.factor]),
        |names| {
            parsed(names, "second factor", Factor::parse, || {
                codes(Factor::ALL.map(Factor::name))
            })
        },
    )?;
    let days = case.weekday.as_ref().map_or_else(
        || Ok(vec![usual.weekday]),
        |names| {
            parsed(names, "weekday", Weekday::parse, || {
                codes(Weekday::ALL.map(Weekday::name))
            })
        },
    )?;
    let tenants = case
        .tenant
        .as_ref()
        .map_or_else(|| vec![usual.tenant], |names| names.list().to_vec());
    if case.confirmed && factors.contains(&Factor::None) {
        return Err("`confirmed` is of a second factor: say which with `second_factor`".to_owned());
    }
    let mut networks = case.networks.clone();
    networks.sort();
    let mut organizations = case.organizations.clone();
    organizations.sort();
    let device = device(case)?;
    let mut all = Vec::new();
    for hour in &hours {
        for weekday in &days {
            for factor in &factors {
                all.extend(tenants.iter().map(|tenant| Around {
                    factor: *factor,
                    confirmed: case.confirmed,
                    networks: networks.clone(),
                    hour: *hour,
                    weekday: *weekday,
                    tenant: tenant.clone(),
                    organizations: organizations.clone(),
                    device: device.clone(),
                }));
            }
        }
    }
    Ok(all)
}

fn device(case: &CaseText) -> Result<Device, String> {
    let kind = case.device.as_deref().map(|name| {
        let known = || codes(DeviceKind::ALL.map(DeviceKind::name));
        DeviceKind::parse(name)
            .ok_or_else(|| format!("`{name}` is no device; there are {}", known()))
    });
    let kind = kind.transpose()?.unwrap_or_default();
    let has_client = matches!(kind, DeviceKind::Application | DeviceKind::System);
    if case.client.is_some() && !has_client {
        return Err("`client` is of the devices application and system".to_owned());
    }
    Ok(Device {
        kind,
        client: case.client.clone().unwrap_or_default(),
    })
}

fn askers(case: &CaseText) -> Result<Vec<(Role, Option<String>)>, String> {
    match (&case.role, &case.part) {
        (Some(roles), None) => {
            let people = || codes(Role::ALL.map(Role::name));
            let roles = parsed(roles, "role", Role::parse, people)?;
            if roles.contains(&Role::System) {
                return Err("parts of Cairn are named with `part`, not `role`".to_owned());
            }
            if case.own.is_some() != roles.iter().any(|role| role.has_one_record()) {
                return Err(
                    "`own` says whether a patient asks for their own record: a case of the roles \
                     patient and proxy needs it, and no other has it"
                        .to_owned(),
                );
            }
            Ok(roles.into_iter().map(|role| (role, None)).collect())
        }
        (None, Some(_)) if case.own.is_some() => Err("`own` is for patients".to_owned()),
        (None, Some(parts)) => {
            let of = |part: &String| (Role::System, Some(part.clone()));
            Ok(parts.list().iter().map(of).collect())
        }
        _ => Err("needs either `role` or `part`".to_owned()),
    }
}

fn kinds(case: &CaseText, classes: &Classes) -> Result<Vec<ResourceType>, String> {
    let mut kinds = Vec::new();
    if let Some(names) = &case.kind {
        kinds.extend(parsed(names, "resource type", ResourceType::parse, || {
            "names as FHIR R4 has them".to_owned()
        })?);
    }
    if let Some(names) = &case.group {
        let of = parsed(names, "group", Group::parse, || {
            codes(Group::ALL.map(Group::name))
        })?;
        // Of types that no policy tells apart, one stands for all.
        let members = classes.members.iter().copied();
        kinds.extend(members.filter(|kind| of.contains(&classes.group(*kind))));
    }
    Ok(kinds)
}

pub(super) fn parsed<T>(
    names: &Several,
    what: &str,
    parse: impl Fn(&str) -> Option<T>,
    known: impl Fn() -> String,
) -> Result<Vec<T>, String> {
    let list = names.list().iter();
    list.map(|name| {
        parse(name).ok_or_else(|| format!("`{name}` is no {what}; there are {}", known()))
    })
    .collect()
}

/// The purposes that are named, of those that a set has.
pub(super) fn purposes(names: &Several, known: &Purposes) -> Result<Vec<Purpose>, String> {
    parsed(names, "purpose", |name| known.parse(name), || known.codes())
}

pub(super) fn codes<const N: usize>(names: [&str; N]) -> String {
    names.join(", ")
}
