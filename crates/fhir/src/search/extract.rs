//! What a resource says under a search parameter.
use super::measure::{amount, quantity};
use super::plan::{Compiled, Leaf, compiled};
use super::{
    Clause, IndexEntry, IndexValue, Named, OPEN_END_MS, OPEN_START_MS, ParameterKind, Quantity,
    Span, normalise,
};
use crate::{Reference, Resource, ResourceType, date, facts, is_id};
use serde_json::Value;
use std::cell::Cell;
use std::collections::HashSet;
use std::sync::OnceLock;

/// A value as it stands in the resource.
#[derive(Debug, Clone)]
pub(super) enum Found<'a> {
    Token {
        system: &'a str,
        code: &'a str,
    },
    Text(&'a str),
    Date {
        start_ms: i64,
        end_ms: i64,
    },
    /// `Type/id`
    Literal(ResourceType, &'a str),
    /// An absolute URL.
    Url(&'a str),
    Uri(&'a str),
    Number(Span),
    Quantity(Quantity<&'a str>),
}

impl Found<'_> {
    fn into_index(self) -> IndexValue {
        match self {
            Self::Token { system, code } => IndexValue::Token {
                system: system.to_owned(),
                code: code.to_owned(),
            },
            Self::Text(text) => IndexValue::String(normalise(text)),
            Self::Date { start_ms, end_ms } => IndexValue::Date { start_ms, end_ms },
            Self::Literal(kind, id) => {
                let mut text = String::with_capacity(kind.name().len() + 1 + id.len());
                text.push_str(kind.name());
                text.push('/');
                text.push_str(id);
                IndexValue::Reference(text)
            }
            Self::Url(url) => IndexValue::Reference(url.to_owned()),
            Self::Uri(uri) => IndexValue::Uri(uri.to_owned()),
            Self::Number(span) => IndexValue::Number(Box::new(span)),
            Self::Quantity(quantity) => IndexValue::Quantity(Box::new(Quantity {
                value: quantity.value,
                system: quantity.system.to_owned(),
                code: quantity.code.to_owned(),
                unit: quantity.unit.to_owned(),
                canonical: quantity.canonical,
            })),
        }
    }
}

pub(super) fn index(resource: &Resource, wanted: impl Fn(&str) -> bool) -> Vec<IndexEntry> {
    let parameters = compiled(resource.kind());
    let mut entries = Vec::with_capacity(24);
    let commons = ["_id", "_profile", "_security", "_source", "_tag"];
    for name in commons.into_iter().filter(|name| wanted(name)) {
        collect(&mut entries, name, |sink| common(resource, name, sink));
    }
    let by_value = |kind| !matches!(kind, ParameterKind::Composite | ParameterKind::Special);
    let parameters = parameters
        .iter()
        .filter(|parameter| by_value(parameter.kind));
    for parameter in parameters.filter(|parameter| wanted(parameter.name)) {
        collect(&mut entries, parameter.name, |sink| {
            of_parameter(resource, parameter, sink);
        });
    }
    entries
}

/// Adds the values of one parameter, each once.
pub(super) fn collect(
    entries: &mut Vec<IndexEntry>,
    parameter: &'static str,
    extract: impl FnOnce(&mut dyn FnMut(Found<'_>)),
) {
    // Comparing each with each is faster for the few that there nearly always are.
    const FEW: usize = 16;
    let first = entries.len();
    let mut seen = HashSet::new();
    extract(&mut |found| {
        let value = found.into_index();
        let doubled = if entries.len() - first < FEW {
            entries[first..].iter().any(|entry| entry.value == value)
        } else {
            if seen.is_empty() {
                seen.extend(entries[first..].iter().map(|entry| entry.value.clone()));
            }
            !seen.insert(value.clone())
        };
        if !doubled && value != IndexValue::String(String::new()) {
            entries.push(IndexEntry { parameter, value });
        }
    });
}

/// Calls `sink` with each value of a parameter, common ones included; nothing for unknown names
/// and for `_lastUpdated`.
pub(super) fn of_name<'a>(resource: &'a Resource, name: &str, sink: &mut dyn FnMut(Found<'a>)) {
    if name.starts_with('_') {
        common(resource, name, sink);
    } else if let Some(place) = facts::search(resource.kind()).position(name)
        && let Some(parameter) = compiled(resource.kind()).get(place)
    {
        of_parameter(resource, parameter, sink);
    }
}

/// Calls `sink` with each value of a parameter of the resource's type.
pub(super) fn of_named<'a>(
    resource: &'a Resource,
    parameter: &Named,
    sink: &mut dyn FnMut(Found<'a>),
) {
    match parameter {
        Named::Standard(name) => of_name(resource, name, sink),
        Named::Own(own) => of_parameter(resource, own.compiled(), sink),
    }
}

/// Calls `sink` with each value of the parameter that a clause is about.
pub(super) fn of_clause<'a>(
    resource: &'a Resource,
    clause: &Clause,
    sink: &mut dyn FnMut(Found<'a>),
) {
    match &clause.own {
        Some(own) => of_parameter(resource, own.compiled(), sink),
        None => of_name(resource, &clause.parameter, sink),
    }
}

/// Calls `sink` with each element that a clause is about, whether or not it can be asked for.
pub(super) fn leaves_of<'a>(
    resource: &'a Resource,
    clause: &Clause,
    sink: &mut dyn FnMut(Leaf, &'a Value),
) {
    match &clause.own {
        Some(own) => {
            for plan in &own.compiled().plans {
                plan.run(resource.as_value(), sink);
            }
        }
        None => leaves(resource, &clause.parameter, sink),
    }
}

/// Calls `sink` with each element that a parameter is about, whether or not it can be asked for.
fn leaves<'a>(resource: &'a Resource, name: &str, sink: &mut dyn FnMut(Leaf, &'a Value)) {
    let meta = match name {
        "_profile" => Some(("profile", Leaf::Uri)),
        "_security" => Some(("security", Leaf::Coding)),
        "_source" => Some(("source", Leaf::Uri)),
        "_tag" => Some(("tag", Leaf::Coding)),
        _ => None,
    };
    if let Some((member, leaf)) = meta {
        match resource.at(&["meta", member]) {
            Some(Value::Array(values)) => values.iter().for_each(|value| sink(leaf, value)),
            Some(value) => sink(leaf, value),
            None => {}
        }
    } else if let Some(place) = facts::search(resource.kind()).position(name)
        && let Some(parameter) = compiled(resource.kind()).get(place)
    {
        for plan in &parameter.plans {
            plan.run(resource.as_value(), sink);
        }
    }
}

/// Calls `sink` with each resource that is referred to under a parameter.
pub(super) fn literals<'a>(
    resource: &'a Resource,
    parameter: &Named,
    sink: &mut dyn FnMut(ResourceType, &'a str),
) {
    of_named(resource, parameter, &mut |found| {
        if let Found::Literal(kind, id) = found {
            sink(kind, id);
        }
    });
}

fn common<'a>(resource: &'a Resource, name: &str, sink: &mut dyn FnMut(Found<'a>)) {
    let meta = |member: &str| {
        resource
            .at(&["meta", member])
            .and_then(Value::as_array)
            .map_or(&[][..], Vec::as_slice)
    };
    match name {
        "_id" => resource.id().into_iter().for_each(|id| {
            sink(Found::Token {
                system: "",
                code: id,
            });
        }),
        "_profile" => meta("profile").iter().for_each(|value| uri(value, sink)),
        "_security" => meta("security")
            .iter()
            .for_each(|value| coding(value, sink)),
        // No canonical URL, so that it has no version to be left out.
        "_source" => (resource.at(&["meta", "source"]).and_then(Value::as_str))
            .into_iter()
            .for_each(|source| sink(Found::Uri(source))),
        "_tag" => meta("tag").iter().for_each(|value| coding(value, sink)),
        _ => {}
    }
}

/// Calls `sink` with each value of a compiled parameter.
pub(super) fn of_parameter<'a>(
    resource: &'a Resource,
    parameter: &Compiled,
    sink: &mut dyn FnMut(Found<'a>),
) {
    for plan in &parameter.plans {
        plan.run(resource.as_value(), &mut |leaf, value| {
            found(parameter.kind, parameter.system, leaf, value, sink);
        });
    }
}

/// Calls `sink` with what an element says under a parameter of a kind.
pub(super) fn found<'a>(
    kind: ParameterKind,
    system: &'static str,
    leaf: Leaf,
    value: &'a Value,
    sink: &mut dyn FnMut(Found<'a>),
) {
    match kind {
        ParameterKind::Token => token(leaf, value, system, sink),
        ParameterKind::String => string(leaf, value, sink),
        ParameterKind::Date => period(leaf, value, sink),
        ParameterKind::Reference => reference(leaf, value, sink),
        ParameterKind::Uri => uri(value, sink),
        ParameterKind::Number => {
            amount(leaf, value)
                .into_iter()
                .map(Found::Number)
                .for_each(&mut *sink);
        }
        ParameterKind::Quantity => {
            quantity(leaf, value)
                .into_iter()
                .map(Found::Quantity)
                .for_each(&mut *sink);
        }
        // What these mean, their clauses say.
        ParameterKind::Composite | ParameterKind::Special => {}
    }
}

pub(super) fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name)?.as_str().filter(|text| !text.is_empty())
}

fn coding<'a>(value: &'a Value, sink: &mut dyn FnMut(Found<'a>)) {
    let (system, code) = (text(value, "system"), text(value, "code"));
    if system.is_some() || code.is_some() {
        sink(Found::Token {
            system: system.unwrap_or_default(),
            code: code.unwrap_or_default(),
        });
    }
}

fn token<'a>(leaf: Leaf, value: &'a Value, implied: &'static str, sink: &mut dyn FnMut(Found<'a>)) {
    match leaf {
        Leaf::CodeableConcept => {
            let codings = value.get("coding").and_then(Value::as_array);
            codings
                .into_iter()
                .flatten()
                .for_each(|value| coding(value, sink));
        }
        Leaf::Coding => coding(value, sink),
        Leaf::Identifier => {
            let (system, code) = (text(value, "system"), text(value, "value"));
            if system.is_some() || code.is_some() {
                sink(Found::Token {
                    system: system.unwrap_or_default(),
                    code: code.unwrap_or_default(),
                });
            }
        }
        Leaf::ContactPoint => {
            if let Some(code) = text(value, "value") {
                sink(Found::Token { system: "", code });
            }
        }
        Leaf::Code | Leaf::Text | Leaf::Uri => {
            if let Some(code) = value.as_str().filter(|code| !code.is_empty()) {
                sink(Found::Token {
                    system: if leaf == Leaf::Code { implied } else { "" },
                    code,
                });
            }
        }
        Leaf::Boolean => {
            if let Some(value) = value.as_bool() {
                sink(Found::Token {
                    system: "",
                    code: if value { "true" } else { "false" },
                });
            }
        }
        _ => {}
    }
}

fn string<'a>(leaf: Leaf, value: &'a Value, sink: &mut dyn FnMut(Found<'a>)) {
    let parts: &[&str] = match leaf {
        Leaf::HumanName => &["text", "family", "given", "prefix", "suffix"],
        Leaf::Address => &[
            "text",
            "line",
            "city",
            "district",
            "state",
            "postalCode",
            "country",
        ],
        _ => {
            value
                .as_str()
                .into_iter()
                .for_each(|text| sink(Found::Text(text)));
            return;
        }
    };
    for part in parts {
        match value.get(part) {
            Some(Value::String(text)) => sink(Found::Text(text)),
            Some(Value::Array(texts)) => texts
                .iter()
                .filter_map(Value::as_str)
                .for_each(|text| sink(Found::Text(text))),
            _ => {}
        }
    }
}

fn parsed(value: Option<&Value>) -> Option<date::PartialDate> {
    date::parse(value?.as_str()?)
}

/// The interval of a `Period`, open where it has no end; none when it says nothing or nonsense.
fn bounds(value: &Value) -> Option<(i64, i64)> {
    let (start, end) = (value.get("start"), value.get("end"));
    let start_ms = match start {
        Some(_) => parsed(start)?.start_ms,
        None => OPEN_START_MS,
    };
    let end_ms = match end {
        Some(_) => parsed(end)?.end_ms,
        None => OPEN_END_MS,
    };
    ((start.is_some() || end.is_some()) && start_ms < end_ms).then_some((start_ms, end_ms))
}

fn period<'a>(leaf: Leaf, value: &'a Value, sink: &mut dyn FnMut(Found<'a>)) {
    let found = match leaf {
        Leaf::Date => parsed(Some(value)).map(|date| (date.start_ms, date.end_ms)),
        Leaf::Period => bounds(value),
        // Only the outer limits of a schedule count.
        Leaf::Timing => {
            let events = value.get("event").and_then(Value::as_array);
            let events = events
                .into_iter()
                .flatten()
                .filter_map(|event| parsed(Some(event)));
            let events = events.map(|date| (date.start_ms, date.end_ms));
            let repeat = value
                .get("repeat")
                .and_then(|repeat| repeat.get("boundsPeriod"))
                .and_then(bounds);
            events
                .chain(repeat)
                .reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
        }
        _ => None,
    };
    if let Some((start_ms, end_ms)) = found {
        sink(Found::Date { start_ms, end_ms });
    }
}

fn reference<'a>(leaf: Leaf, value: &'a Value, sink: &mut dyn FnMut(Found<'a>)) {
    let written = match leaf {
        Leaf::Reference => text(value, "reference"),
        Leaf::Uri => value.as_str(),
        Leaf::Resource => {
            let kind = text(value, "resourceType").and_then(ResourceType::parse);
            if let Some((kind, id)) = kind.zip(text(value, "id").filter(|id| is_id(id))) {
                sink(Found::Literal(kind, id));
            }
            None
        }
        _ => None,
    };
    let Some(written) = written.filter(|text| !text.starts_with('#')) else {
        return;
    };
    match Reference::relative(written) {
        Some((kind, id)) => sink(Found::Literal(kind, id)),
        // What is neither literal nor absolute can't be asked for.
        None if written.contains(':') => {
            with_stem(written, leaf == Leaf::Uri, Found::Url, sink);
        }
        None => {}
    }
}

fn uri<'a>(value: &'a Value, sink: &mut dyn FnMut(Found<'a>)) {
    if let Some(text) = value.as_str().filter(|text| !text.is_empty()) {
        with_stem(text, true, Found::Uri, sink);
    }
}

/// A URI and, when it is a canonical one that ends in a business version (`|1.0`), the URI without
/// that.
fn with_stem<'a>(
    text: &'a str,
    canonical: bool,
    found: fn(&'a str) -> Found<'a>,
    sink: &mut dyn FnMut(Found<'a>),
) {
    sink(found(text));
    if let Some((stem, _)) = text
        .split_once('|')
        .filter(|(stem, _)| canonical && !stem.is_empty())
    {
        sink(found(stem));
    }
}

/// What a resource says where a patient's record that it belongs to can be named. The parameter that
/// says whose it is comes first; `more` tells whether the next one is wanted.
fn compartment<'a>(
    resource: &'a Resource,
    more: &dyn Fn() -> bool,
    sink: &mut dyn FnMut(Found<'a>),
) {
    if resource.kind() == ResourceType::Binary {
        // It has no search parameter for it (R4, section 2.1.0.5).
        if let Some(context) = resource.get("securityContext") {
            reference(Leaf::Reference, context, sink);
        }
        return;
    }
    let facts = facts::search(resource.kind());
    let places = facts
        .compartment
        .iter()
        .filter_map(|name| facts.position(name));
    for parameter in places.filter_map(|place| compiled(resource.kind()).get(place)) {
        for plan in &parameter.plans {
            plan.run(resource.as_value(), &mut |leaf, value| {
                reference(leaf, value, sink);
            });
        }
        if !more() {
            break;
        }
    }
}

/// The members of a resource of a type that say whose it is, besides its id; `None` where that takes
/// the whole resource.
pub(crate) fn compartment_members(kind: ResourceType) -> Option<&'static [String]> {
    type Cell = OnceLock<Option<Vec<String>>>;
    static TABLE: OnceLock<Vec<Cell>> = OnceLock::new();
    let table = TABLE.get_or_init(|| ResourceType::all().map(|_| Cell::new()).collect());
    let members = || {
        if kind == ResourceType::Binary {
            return Some(vec!["securityContext".to_owned()]);
        }
        let facts = facts::search(kind);
        let mut members = Vec::new();
        for name in &facts.compartment {
            let parameter = compiled(kind).get(facts.position(name)?)?;
            for plan in &parameter.plans {
                members.extend(plan.begins_with()?.into_iter().map(str::to_owned));
            }
        }
        Some(members)
    };
    table[kind.index()].get_or_init(members).as_deref()
}

/// See [`Resource::patient`].
pub(crate) fn owner(resource: &Resource) -> Option<&str> {
    let owner = Cell::new(None);
    compartment(resource, &|| owner.get().is_none(), &mut |found| {
        if let (None, Found::Literal(ResourceType::Patient, id)) = (owner.get(), found) {
            owner.set(Some(id));
        }
    });
    owner.get()
}

/// Whether resources of a type can say whose they are, so that [`Resource::patient`] can be there.
#[must_use]
pub fn can_be_of_patient(kind: ResourceType) -> bool {
    kind == ResourceType::Patient
        || compartment_members(kind).is_none_or(|members| !members.is_empty())
}

/// See [`Resource::patients`].
pub(crate) fn patients(resource: &Resource) -> Vec<&str> {
    let mut patients = Vec::new();
    let mut seen = HashSet::new();
    compartment(resource, &|| true, &mut |found| {
        if let Found::Literal(ResourceType::Patient, id) = found
            && seen.insert(id)
        {
            patients.push(id);
        }
    });
    patients
}

/// See [`Resource::is_of_patient_elsewhere`].
pub(crate) fn is_of_patient_elsewhere(resource: &Resource) -> bool {
    let mut elsewhere = false;
    compartment(resource, &|| true, &mut |found| {
        if let Found::Url(url) = found {
            let kind = Reference::parse(url).map(|reference| reference.kind);
            elsewhere |= kind == Some(ResourceType::Patient);
        }
    });
    elsewhere
}
