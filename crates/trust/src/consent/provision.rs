//! Provisions of a consent, made ready to be asked of many rows.
//!
//! A provision says for *whom, when and what for* it speaks (`period`, `actor`, `purpose`, `action`) and
//! *of what* (`class`, `code`, `securityLabel`, `data`, `dataPeriod`). Values of one element are
//! alternatives; elements add up. Of the first kind, what a nested provision doesn't say it has from the one
//! around it. A nested provision of the other type is an exception within what the one around it is about;
//! one of the same type adds to it.
//!
//! What can't be told counts for the "no": a `deny` holds where it may be meant, a `permit` where it is.
use std::collections::HashMap;
use std::sync::Arc;

use fhir::{Resource, ResourceType};
use serde_json::Value;

use super::labels::{Level, is_within};
use super::row::{Row, interval, unversioned};
use super::{ACT_CODE, codings, list, nested, type_of};
use crate::{Purpose, Role};

const CONFIDENTIALITY: &str = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality";
const ACTION: &str = "http://terminology.hl7.org/CodeSystem/consentaction";
const RESOURCE_TYPES: &str = "http://hl7.org/fhir/resource-types";
/// Roles of actors who give or witness a consent, and are not who may see something by it.
const GIVERS: [&str; 8] = [
    "CONSENTER",
    "CONSWIT",
    "COPART",
    "DELEGATOR",
    "EVTWIT",
    "GRANTOR",
    "LA",
    "WIT",
];

/// Who asks, for what, and when.
#[derive(Debug, Clone)]
pub struct Asked {
    /// In which role.
    pub role: Role,
    /// What for.
    pub purpose: Purpose,
    /// The time, milliseconds since the epoch.
    pub now_ms: i64,
    /// `Type/id` of what the asker is known as: a practitioner, their roles, organizations, groups.
    pub known_as: Vec<String>,
}

impl Asked {
    /// What is done with what is shown (`consentaction`).
    fn actions(&self) -> [&'static str; 2] {
        match self.role {
            Role::Client | Role::Biller => ["access", "disclose"],
            _ => ["access", "use"],
        }
    }

    /// Whether the asker is one of some actors; `None` where it can't be told.
    fn is_one_of(&self, actors: &[Actor]) -> Option<bool> {
        let mut told = Some(false);
        for actor in actors {
            match self.is(actor) {
                Some(true) => return Some(true),
                Some(false) => {}
                None => told = None,
            }
        }
        told
    }

    fn is(&self, actor: &Actor) -> Option<bool> {
        let Actor::Named(kind, reference) = actor else {
            return None;
        };
        if self.known_as.contains(reference) {
            return Some(true);
        }
        let has_kind = self
            .known_as
            .iter()
            .filter_map(|known| fhir::Reference::relative(known))
            .any(|(known, _)| known == *kind);
        let told = has_kind
            || match *kind {
                // Staff and systems are nobody's relatives; whoever acts for one is known as one.
                ResourceType::Patient | ResourceType::RelatedPerson => true,
                ResourceType::Device => !matches!(self.role, Role::Client | Role::Biller),
                _ => false,
            };
        told.then_some(false)
    }
}

#[derive(Debug, Clone)]
enum Actor {
    Named(ResourceType, String),
    /// By an identifier, a name or another server's address.
    Unknown,
}

/// What related instances refer to, by `Type/id`.
pub(crate) type Related = HashMap<String, Arc<[String]>>;

#[derive(Debug, Clone)]
enum Data {
    Instance(String),
    /// The instance, what refers to it, and what it refers to.
    Related(String, Arc<[String]>),
    AuthoredBy(String),
    Unknown,
}

#[derive(Debug, Clone)]
enum Class {
    Kind(ResourceType),
    Coded(String, String),
    Unknown,
}

#[derive(Debug, Clone, Default)]
struct LabelSet {
    level: Option<Level>,
    about: Vec<String>,
    unknown: bool,
}

/// What a provision is about. Empty lists are of everything.
#[derive(Debug, Clone, Default)]
struct What {
    labels: Option<LabelSet>,
    classes: Vec<Class>,
    codes: Vec<(String, String)>,
    /// A code without a coding.
    code_unknown: bool,
    data: Vec<Data>,
    period: Option<(i64, i64)>,
    period_unknown: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Provision {
    permits: bool,
    period: (i64, i64),
    actors: Option<Vec<Actor>>,
    purposes: Option<Vec<Named>>,
    actions: Option<Vec<String>>,
    what: What,
    /// Its meaning is changed by something that isn't known here.
    modified: bool,
    inner: Vec<Provision>,
}

/// What a provision says of a row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Said<'a> {
    pub(super) permits: bool,
    /// It names whom or what it is about.
    pub(super) particular: bool,
    /// It names what it is about.
    pub(super) of_this: bool,
    labels: Option<&'a LabelSet>,
}

impl Said<'_> {
    /// Whether it names a label, and not just a level or a wider one.
    pub(super) fn names_label(&self, label: &str) -> bool {
        self.labels
            .is_some_and(|labels| labels.about.iter().any(|named| named == label))
    }
}

impl Provision {
    /// `unverified`: nobody could confirm the consent, so it permits nothing, at any depth.
    pub(super) fn root(
        consent: &Resource,
        denies: bool,
        unverified: bool,
        related: &Related,
    ) -> Self {
        let nothing = Value::Null;
        let provision = consent.get("provision").unwrap_or(&nothing);
        let modified = unverified || consent.get("modifierExtension").is_some();
        if parts(provision) > PARTS_MAX {
            return Self::make(&nothing, None, (false, modified), related);
        }
        Self::make(provision, None, (!denies, modified), related)
    }

    fn make(
        provision: &Value,
        around: Option<&Self>,
        (permits, modified): (bool, bool),
        related: &Related,
    ) -> Self {
        let modified = modified || provision.get("modifierExtension").is_some();
        // A period that can't be read holds always for a "no", and never for a yes.
        let unread = if permits { NEVER } else { ALWAYS };
        let own = provision
            .get("period")
            .map_or(ALWAYS, |period| interval(period).unwrap_or(unread));
        let outer = around.map_or(ALWAYS, |around| around.period);
        let mut made = Self {
            permits,
            period: (own.0.max(outer.0), own.1.min(outer.1)),
            actors: actors(provision).or_else(|| around.and_then(|around| around.actors.clone())),
            purposes: purposes(provision)
                .or_else(|| around.and_then(|around| around.purposes.clone())),
            actions: actions(provision)
                .or_else(|| around.and_then(|around| around.actions.clone())),
            what: What::of(provision, permits, related),
            modified,
            inner: Vec::new(),
        };
        made.inner = nested(provision)
            .map(|inner| {
                // A nested provision has to have a type; without one it is taken for a "no".
                let permits = type_of(inner) == Some("permit");
                Self::make(inner, Some(&made), (permits, modified), related)
            })
            .collect();
        made
    }

    /// What it says of a row, if anything. The outermost one that permits a part only denies the rest.
    pub(super) fn says(&self, asked: &Asked, row: &Row<'_>) -> Option<Said<'_>> {
        let said = self.within(asked, row);
        if said.is_some() || !self.permits || self.what.is_everything() {
            return said;
        }
        let speaks = self.is_for(asked, false) && !self.what.has(row, true);
        speaks.then_some(Said {
            permits: false,
            particular: true,
            of_this: false,
            labels: None,
        })
    }

    fn within(&self, asked: &Asked, row: &Row<'_>) -> Option<Said<'_>> {
        let mut found = None;
        let mut has = None;
        for inner in &self.inner {
            let is_exception = inner.permits != self.permits;
            if is_exception && !*has.get_or_insert_with(|| self.what.has(row, self.permits)) {
                continue;
            }
            match inner.within(asked, row) {
                Some(no) if !no.permits => return Some(no),
                Some(yes) => found = Some(yes),
                None => {}
            }
        }
        if found.is_some() {
            return found;
        }
        let holds = !(self.permits && self.modified)
            && self.is_for(asked, self.permits)
            && has.unwrap_or_else(|| self.what.has(row, self.permits));
        holds.then(|| Said {
            permits: self.permits,
            particular: self.actors.is_some() || !self.what.is_everything(),
            of_this: !self.what.is_everything(),
            labels: self.what.labels.as_ref(),
        })
    }

    /// Whether it speaks for who asks, now, and for their purpose; `permits` is what it says then.
    fn is_for(&self, asked: &Asked, permits: bool) -> bool {
        let (start_ms, end_ms) = self.period;
        let now = start_ms <= asked.now_ms && asked.now_ms < end_ms;
        now && self.purposes.as_ref().is_none_or(|named| {
            named
                .iter()
                .any(|named| named.is_for(asked.purpose, permits))
        }) && self
            .actors
            .as_ref()
            .is_none_or(|actors| asked.is_one_of(actors).unwrap_or(!permits))
            && self.actions.as_ref().is_none_or(|actions| {
                actions.iter().any(|action| {
                    asked.actions().contains(&action.as_str()) || (!permits && action.is_empty())
                })
            })
    }

    /// Whether it, or one within, may deny a part to who asks.
    pub(super) fn may_deny_part(&self, asked: &Asked) -> bool {
        let denies = if self.permits {
            !self.what.is_everything()
        } else {
            self.actors.is_some() || !self.what.is_everything()
        };
        denies && self.is_for(asked, false)
            || self.inner.iter().any(|inner| {
                inner.may_deny_part(asked) || !inner.permits && inner.is_for(asked, false)
            })
    }

    /// Whether it matters what a row says.
    pub(super) fn looks_into_rows(&self) -> bool {
        !self.what.is_everything() || self.inner.iter().any(Self::looks_into_rows)
    }

    /// Calls with `Type/id` of each actor that it names.
    pub(super) fn each_actor(&self, visit: &mut impl FnMut(&str)) {
        for actor in self.actors.iter().flatten() {
            if let Actor::Named(_, reference) = actor {
                visit(reference);
            }
        }
        self.inner.iter().for_each(|inner| inner.each_actor(visit));
    }

    /// Whether it matters who asks.
    pub(super) fn names_actors(&self) -> bool {
        self.actors.is_some() || self.inner.iter().any(Self::names_actors)
    }
}

const ALWAYS: (i64, i64) = (i64::MIN, i64::MAX);
const NEVER: (i64, i64) = (i64::MAX, i64::MIN);
/// The most parts (provisions, actors, codes, instances …) of one consent. What a nested provision doesn't say
/// it takes from the one around it, so memory goes by the square of this. Consents that people give have some
/// ten; one with more denies all.
pub(super) const PARTS_MAX: usize = 500;

/// How many parts a provision has: the elements of all lists in it.
fn parts(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.len() + items.iter().map(parts).sum::<usize>(),
        Value::Object(members) => members.values().map(parts).sum(),
        _ => 0,
    }
}

/// A purpose that a provision names, by system and code; the code is empty where there is none.
#[derive(Debug, Clone)]
pub(super) struct Named {
    system: Option<String>,
    code: String,
}

impl Named {
    pub(super) fn of(value: &Value) -> Self {
        let text = |name: &str| Some(value.get(name)?.as_str()?.to_owned());
        Self {
            system: text("system"),
            code: text("code").unwrap_or_default(),
        }
    }

    /// Whether it is one that is asked for. A purpose of one's own is meant by its own name, and by that of the one
    /// which it is a kind of; by a "no" as well where no system is said.
    pub(super) fn is_for(&self, asked: Purpose, permits: bool) -> bool {
        let is_itself = asked.own().is_some()
            && self.code == asked.code()
            && (self.system.as_deref()).map_or(!permits, |system| system == asked.system());
        is_itself || is_for_purpose(&self.code, asked.standard(), permits)
    }
}

/// Whether a purpose that a provision names is one of HL7's that is asked for. A yes to treatment is one to treatment
/// in an emergency; a no to treatment isn't (45 CFR 164.522(a)(1)(iii)).
fn is_for_purpose(code: &str, asked: Purpose, permits: bool) -> bool {
    let wider: &[&str] = match asked {
        // The journey's messages are care management in the service of treatment.
        Purpose::CareManagement => &["TREAT", "HOPERAT"],
        Purpose::Administration => &["HOPERAT"],
        Purpose::Emergency => &["BTG", "ERTREAT"],
        _ => &[],
    };
    // Nobody who asks says more than the wider purpose, so a "no" to a kind of it counts (HL7 v3
    // `PurposeOfUse`). Treatment is left out: who treats a patient is not to be kept from the record by a no
    // to population health.
    let narrower: &[&str] = match asked {
        _ if permits => &[],
        Purpose::Research => &[
            "BIORCH",
            "CLINTRCH",
            "CLINTRCHNPC",
            "CLINTRCHPC",
            "PRECLINTRCH",
            "DSRCH",
            "POARCH",
            "TRANSRCH",
        ],
        Purpose::Operations => &[
            "DONAT",
            "FRAUD",
            "GOV",
            "HACCRED",
            "HCOMPL",
            "HDECD",
            "HDIRECT",
            "HDM",
            "HLEGAL",
            "HOUTCOMS",
            "HPRGRP",
            "HQUALIMP",
            "LABELING",
            "METAMGT",
            "MEMADMIN",
            "MILCDM",
            "PATADMIN",
            "PATSFTY",
            "PERFMSR",
            "RECORDMGT",
            "SYSDEV",
            "HTEST",
            "TRAIN",
        ],
        Purpose::Payment => &[
            "CLMATTCH", "COVAUTH", "COVERAGE", "ELIGDTRM", "ELIGVER", "ENROLLM", "MILDCRG",
            "REMITADV",
        ],
        _ => &[],
    };
    code == asked.code()
        || (!permits && code.is_empty())
        || wider.contains(&code)
        || narrower.contains(&code)
        || (permits && asked == Purpose::Emergency && code == "TREAT")
}

/// The purposes. Nothing where none is named.
fn purposes(provision: &Value) -> Option<Vec<Named>> {
    let mut values = list(provision.get("purpose")).peekable();
    values.peek()?;
    Some(values.map(Named::of).collect())
}

/// Codes of `action`; an empty one where it is none that is known.
fn actions(provision: &Value) -> Option<Vec<String>> {
    let mut concepts = list(provision.get("action")).peekable();
    concepts.peek()?;
    let code = |concept: &Value| {
        codings(concept)
            .filter(|coding| coding.get("system").and_then(Value::as_str) == Some(ACTION))
            .find_map(|coding| coding.get("code")?.as_str().map(str::to_owned))
            .unwrap_or_default()
    };
    Some(concepts.map(code).collect())
}

/// Whether an actor gives or witnesses the consent, and is not who may see something by it.
#[must_use]
pub fn gives(actor: &Value) -> bool {
    let role = actor.get("role").unwrap_or(&Value::Null);
    codings(role).any(|coding| {
        let code = coding.get("code").and_then(Value::as_str);
        code.is_some_and(|code| GIVERS.contains(&code))
    })
}

fn actors(provision: &Value) -> Option<Vec<Actor>> {
    let mut actors = list(provision.get("actor"))
        .filter(|actor| !gives(actor))
        .peekable();
    actors.peek()?;
    let named = |actor: &Value| match local(actor.get("reference")) {
        Some((kind, reference)) => Actor::Named(kind, reference),
        None => Actor::Unknown,
    };
    Some(actors.map(named).collect())
}

/// A reference to something here.
pub(super) fn local(reference: Option<&Value>) -> Option<(ResourceType, String)> {
    let text = reference?.get("reference")?.as_str()?;
    let reference = unversioned(text)?;
    let (kind, _) = fhir::Reference::relative(reference)?;
    Some((kind, reference.to_owned()))
}

/// `Type/id` of the instances that provisions call related, and of those whose own references therefore
/// matter.
pub(crate) fn related_of(consent: &Resource) -> Vec<String> {
    fn gather(provision: &Value, found: &mut Vec<String>) {
        for data in list(provision.get("data")) {
            if data.get("meaning").and_then(Value::as_str) == Some("related") {
                found.extend(local(data.get("reference")).map(|(_, reference)| reference));
            }
        }
        for inner in nested(provision) {
            gather(inner, found);
        }
    }
    let mut found = Vec::new();
    if let Some(provision) = consent.get("provision") {
        gather(provision, &mut found);
    }
    found
}

impl What {
    fn of(provision: &Value, permits: bool, related: &Related) -> Self {
        let mut what = Self::default();
        for label in list(provision.get("securityLabel")) {
            what.labels.get_or_insert_default().add(label, permits);
        }
        what.classes = list(provision.get("class")).map(class).collect();
        for concept in list(provision.get("code")) {
            let before = what.codes.len();
            what.codes.extend(codings(concept).filter_map(|coding| {
                let text = |name: &str| coding.get(name)?.as_str().map(str::to_owned);
                Some((text("system").unwrap_or_default(), text("code")?))
            }));
            what.code_unknown |= what.codes.len() == before;
        }
        what.data = list(provision.get("data"))
            .map(|data| data_of(data, related))
            .collect();
        if let Some(period) = provision.get("dataPeriod") {
            what.period = interval(period);
            what.period_unknown = what.period.is_none();
        }
        what
    }

    fn is_everything(&self) -> bool {
        self.labels.is_none()
            && self.classes.is_empty()
            && self.codes.is_empty()
            && !self.code_unknown
            && self.data.is_empty()
            && self.period.is_none()
            && !self.period_unknown
    }

    /// Whether a row is among what it is about, so that the provision `permits` or denies it.
    fn has(&self, row: &Row<'_>, permits: bool) -> bool {
        self.data_has(row, permits)
            && self.class_has(row, permits)
            && self.period_has(row, permits)
            && self.code_has(row, permits)
            && self
                .labels
                .as_ref()
                .is_none_or(|labels| labels.has(row, permits))
    }

    fn data_has(&self, row: &Row<'_>, permits: bool) -> bool {
        self.data.is_empty()
            || self.data.iter().any(|data| match data {
                Data::Instance(reference) => row.reference() == reference,
                Data::Related(reference, refers_to) => {
                    row.reference() == reference
                        || row.refers_to(reference)
                        || refers_to.iter().any(|one| one == row.reference())
                }
                Data::AuthoredBy(who) => row.is_of(who),
                Data::Unknown => !permits,
            })
    }

    fn class_has(&self, row: &Row<'_>, permits: bool) -> bool {
        self.classes.is_empty()
            || self.classes.iter().any(|class| match class {
                Class::Kind(kind) => row.resource.kind() == *kind,
                Class::Coded(system, code) => {
                    let mut profiles = list(row.resource.at(&["meta", "profile"]));
                    profiles.any(|profile| profile == code.as_str())
                        || row.codings().contains(&(system, code))
                }
                Class::Unknown => !permits,
            })
    }

    fn period_has(&self, row: &Row<'_>, permits: bool) -> bool {
        if self.period_unknown {
            return !permits;
        }
        let Some((start_ms, end_ms)) = self.period else {
            return true;
        };
        match row.time() {
            Some((from_ms, until_ms)) if permits => start_ms <= from_ms && until_ms <= end_ms,
            Some((from_ms, until_ms)) => from_ms < end_ms && start_ms < until_ms,
            None => !permits,
        }
    }

    fn code_has(&self, row: &Row<'_>, permits: bool) -> bool {
        if self.codes.is_empty() && !self.code_unknown {
            return true;
        }
        if !permits && (self.code_unknown || row.is_opaque()) {
            return true;
        }
        self.codes.iter().any(|(system, code)| {
            // A code without a system is any system's where it denies.
            let is_any = system.is_empty() && !permits;
            row.codings()
                .iter()
                .any(|(other, found)| found == code && (is_any || other == system))
        })
    }
}

impl LabelSet {
    /// Adds a label: of levels the highest that is permitted, or the lowest that is denied.
    fn add(&mut self, label: &Value, permits: bool) {
        let text = |name: &str| label.get(name).and_then(Value::as_str).unwrap_or_default();
        let code = text("code");
        match (text("system"), Level::parse(code)) {
            (CONFIDENTIALITY, Some(level)) => {
                self.level = Some(match self.level {
                    Some(known) if permits => known.max(level),
                    Some(known) => known.min(level),
                    None => level,
                });
            }
            (ACT_CODE, _) if !code.is_empty() => self.about.push(code.to_owned()),
            _ => self.unknown = true,
        }
    }

    fn has(&self, row: &Row<'_>, permits: bool) -> bool {
        let labels = row.labels();
        let is_named = |label: &str| self.about.iter().any(|named| is_within(label, named));
        if permits {
            let by_level = self.level.is_some_and(|level| labels.level <= level);
            // All that it is about has to be permitted, and what is very restricted by its level.
            let by_content = !labels.about.is_empty()
                && labels.level <= Level::Restricted
                && labels.about.iter().all(|label| is_named(label));
            return !labels.is_opaque && (by_level || by_content);
        }
        labels.is_opaque
            || self.unknown
            || self.level.is_some_and(|level| labels.level >= level)
            || labels.about.iter().any(|label| is_named(label))
    }
}

/// The resource type that a class is; `None` for any other class.
pub(super) fn class_kind(coding: &Value) -> Option<ResourceType> {
    match class(coding) {
        Class::Kind(kind) => Some(kind),
        Class::Coded(..) | Class::Unknown => None,
    }
}

fn class(coding: &Value) -> Class {
    let text = |name: &str| coding.get(name).and_then(Value::as_str);
    let Some(code) = text("code") else {
        return Class::Unknown;
    };
    match (text("system"), ResourceType::parse(code)) {
        (None | Some(RESOURCE_TYPES), Some(kind)) => Class::Kind(kind),
        (None | Some(RESOURCE_TYPES), None) => Class::Unknown,
        (Some(system), _) => Class::Coded(system.to_owned(), code.to_owned()),
    }
}

fn data_of(data: &Value, related: &Related) -> Data {
    let Some((_, reference)) = local(data.get("reference")) else {
        return Data::Unknown;
    };
    match data.get("meaning").and_then(Value::as_str) {
        Some("instance") => Data::Instance(reference),
        // What depends on an instance is what refers to it.
        Some("dependents") => Data::Related(reference, Arc::default()),
        Some("related") => {
            let refers_to = related.get(&reference).cloned().unwrap_or_default();
            Data::Related(reference, refers_to)
        }
        Some("authoredby") => Data::AuthoredBy(reference),
        _ => Data::Unknown,
    }
}
