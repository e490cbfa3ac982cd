//! Items of a collection while it is evaluated: what they are, how they compare and convert.
use super::Item;
use super::functions::Target;
use super::parse::{System, TypeName};
use super::quantity;
use super::time::{clock, fields, moments};
use crate::ResourceType;
use crate::date::Parts;
use crate::facts::{TypeId, structures};
use rust_decimal::Decimal;
use serde_json::{Map, Number, Value};
use std::borrow::Cow;
use std::cmp::Ordering;

/// An element of the input.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node<'a> {
    /// `null` where a primitive element has extensions only.
    pub(crate) value: &'a Value,
    /// The `_name` sibling of a primitive element, with its id and extensions.
    pub(crate) sibling: Option<&'a Value>,
    /// Its type, where that is known.
    pub(crate) kind: Option<TypeId>,
}

impl<'a> Node<'a> {
    /// A value whose type nothing but itself can tell.
    pub(crate) fn new(value: &'a Value) -> Self {
        Self {
            value,
            sibling: None,
            kind: resource_type(value),
        }
    }
    pub(crate) fn type_name(&self) -> Option<&'static str> {
        self.kind.map(|kind| structures().get(kind).name)
    }
    fn is_a(&self, name: &str) -> bool {
        self.kind
            .zip(structures().find(name))
            .is_some_and(|(kind, wanted)| structures().is_a(kind, wanted))
    }
}

pub(crate) fn resource_type(value: &Value) -> Option<TypeId> {
    structures().find(value.get("resourceType")?.as_str()?)
}

/// An item: an element of the input or a computed value.
#[derive(Debug, Clone)]
pub(crate) enum It<'a> {
    Node(Node<'a>),
    /// A resource of which no more is known than a reference says.
    Resource(ResourceType, Cow<'a, str>),
    Bool(bool),
    Int(i64),
    Dec(Decimal),
    Str(Cow<'a, str>),
    Date(Parts),
    DateTime(Parts),
    Time(Parts),
    Qty(Decimal, Cow<'a, str>),
    /// What `type()` tells: name space and name.
    Type(&'static str, &'static str),
}

/// A number's value, digits kept; `None` beyond 28 digits.
pub(crate) fn decimal(number: &Number) -> Option<Decimal> {
    let text = number.as_str();
    if text.contains(['e', 'E']) {
        Decimal::from_scientific(text).ok()
    } else {
        Decimal::from_str_exact(text).ok()
    }
}

/// The calendar's word for a unit, singular.
pub(super) fn calendar_unit(word: &str) -> Option<&'static str> {
    Some(match word {
        "year" | "years" => "year",
        "month" | "months" => "month",
        "week" | "weeks" => "week",
        "day" | "days" => "day",
        "hour" | "hours" => "hour",
        "minute" | "minutes" => "minute",
        "second" | "seconds" => "second",
        "millisecond" | "milliseconds" => "millisecond",
        _ => return None,
    })
}

/// One spelling of a unit: the calendar's word for UCUM's units of exact length.
pub(super) fn unit(text: &str) -> &str {
    match text {
        "wk" => "week",
        "d" => "day",
        "h" => "hour",
        "min" => "minute",
        "s" => "second",
        "ms" => "millisecond",
        _ => text,
    }
}

impl<'a> It<'a> {
    /// A primitive element as the value it stands for; everything else as it is.
    pub(crate) fn simple(self) -> Self {
        let Self::Node(node) = &self else { return self };
        match node.value {
            Value::Bool(value) => Self::Bool(*value),
            Value::Number(number) => {
                let whole = !number.as_str().contains(['.', 'e', 'E'])
                    && node.type_name() != Some("decimal");
                match (whole.then(|| number.as_i64()).flatten(), decimal(number)) {
                    (Some(value), _) => Self::Int(value),
                    (None, Some(value)) => Self::Dec(value),
                    (None, None) => self,
                }
            }
            Value::String(text) => {
                let typed = match node.type_name() {
                    Some("date") => Parts::parse(text).map(Self::Date),
                    Some("dateTime" | "instant") => Parts::parse(text).map(Self::DateTime),
                    Some("time") => Parts::parse_time(text).map(Self::Time),
                    _ => None,
                };
                typed.unwrap_or(Self::Str(Cow::Borrowed(text)))
            }
            _ => self,
        }
    }

    pub(crate) fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            Self::Node(node) => node.value.as_bool(),
            _ => None,
        }
    }

    /// The quantity that an item is or stands for.
    pub(crate) fn quantity(&self) -> Option<(Decimal, Cow<'a, str>)> {
        match self {
            Self::Qty(value, unit) => Some((*value, unit.clone())),
            Self::Int(value) => Some((Decimal::from(*value), Cow::Borrowed("1"))),
            Self::Dec(value) => Some((*value, Cow::Borrowed("1"))),
            Self::Node(node)
                if node.value.is_object() && (node.kind.is_none() || node.is_a("Quantity")) =>
            {
                let Value::Number(number) = node.value.get("value")? else {
                    return None;
                };
                let text = |name: &str| node.value.get(name).and_then(Value::as_str);
                Some((
                    decimal(number)?,
                    Cow::Borrowed(text("code").or_else(|| text("unit")).unwrap_or("1")),
                ))
            }
            _ => None,
        }
    }

    pub(crate) fn into_item(self) -> Item<'a> {
        let text = |text: String| Item::Value(Value::String(text));
        match self {
            Self::Node(node) => Item::Node(if node.value.is_null() {
                node.sibling.unwrap_or(node.value)
            } else {
                node.value
            }),
            Self::Bool(value) => Item::Value(Value::Bool(value)),
            Self::Int(value) => Item::Value(value.into()),
            Self::Dec(value) => Item::Value(number(value)),
            Self::Str(value) => text(value.into_owned()),
            Self::Date(parts) | Self::DateTime(parts) => text(parts.to_string()),
            Self::Time(parts) => text(parts.time_text()),
            Self::Qty(value, unit) => Item::Value(object([
                ("value", number(value)),
                ("unit", unit.as_ref().into()),
            ])),
            Self::Type(space, name) => {
                Item::Value(object([("namespace", space.into()), ("name", name.into())]))
            }
            Self::Resource(kind, id) => Item::Value(object([
                ("resourceType", kind.name().into()),
                ("id", id.as_ref().into()),
            ])),
        }
    }

    /// Whether the item is of a type.
    pub(crate) fn is(&self, name: TypeName) -> bool {
        match name {
            TypeName::Fhir(wanted) => match self {
                Self::Node(node) => match node.kind {
                    Some(kind) => structures().is_a(kind, wanted),
                    // Nothing but the JSON can tell.
                    None => matches!(
                        (node.value, structures().get(wanted).name),
                        (Value::Bool(_), "boolean")
                            | (Value::String(_), "string")
                            | (Value::Number(_), "decimal" | "integer")
                    ),
                },
                Self::Resource(kind, _) => structures()
                    .find(kind.name())
                    .is_some_and(|kind| structures().is_a(kind, wanted)),
                // FHIR's `Quantity` and FHIRPath's are one for whoever writes no name space.
                Self::Qty(..) => structures().get(wanted).name == "Quantity",
                _ => false,
            },
            TypeName::System(wanted) => match self {
                Self::Bool(_) => wanted == System::Boolean,
                Self::Int(_) => wanted == System::Integer,
                Self::Dec(_) => wanted == System::Decimal,
                Self::Str(_) => wanted == System::String,
                Self::Date(_) => wanted == System::Date,
                Self::DateTime(_) => wanted == System::DateTime,
                Self::Time(_) => wanted == System::Time,
                Self::Qty(..) => wanted == System::Quantity,
                Self::Node(_) | Self::Resource(..) | Self::Type(..) => false,
            },
        }
    }

    /// Whether `as` and `ofType` keep the item. Of a primitive type they keep just that type: a `code` is
    /// a `string`, but whoever asks for texts in a choice doesn't mean it.
    pub(crate) fn fits(&self, name: TypeName) -> bool {
        match (self, name) {
            (
                Self::Node(Node {
                    kind: Some(kind), ..
                }),
                TypeName::Fhir(wanted),
            ) if structures().get(wanted).is_primitive() => *kind == wanted,
            _ => self.is(name),
        }
    }

    /// The item's type: `System` for what was computed, `FHIR` for elements.
    pub(crate) fn type_info(&self) -> Self {
        let (space, name) = match self {
            Self::Node(node) => match (node.type_name(), node.value) {
                (Some(name), _) if name.contains('.') => ("FHIR", "BackboneElement"),
                (Some(name), _) => ("FHIR", name),
                (None, Value::Bool(_)) => ("FHIR", "boolean"),
                (None, Value::Number(number)) if number.as_i64().is_some() => ("FHIR", "integer"),
                (None, Value::Number(_)) => ("FHIR", "decimal"),
                (None, Value::String(_)) => ("FHIR", "string"),
                (None, _) => ("FHIR", "Element"),
            },
            Self::Resource(kind, _) => ("FHIR", kind.name()),
            Self::Bool(_) => ("System", "Boolean"),
            Self::Int(_) => ("System", "Integer"),
            Self::Dec(_) => ("System", "Decimal"),
            Self::Str(_) => ("System", "String"),
            Self::Date(_) => ("System", "Date"),
            Self::DateTime(_) => ("System", "DateTime"),
            Self::Time(_) => ("System", "Time"),
            Self::Qty(..) => ("System", "Quantity"),
            Self::Type(..) => ("System", "TypeInfo"),
        };
        Self::Type(space, name)
    }

    /// A text that is the same for equal items, to find doubles with.
    pub(crate) fn key(&self) -> String {
        match self.clone().simple() {
            Self::Bool(value) => value.to_string(),
            Self::Int(value) => format!("#{value}"),
            Self::Dec(value) => format!("#{}", value.normalize()),
            Self::Str(value) => format!("'{value}"),
            Self::Date(parts) | Self::DateTime(parts) => {
                if parts.second.is_some() && parts.offset_min.is_some() {
                    return format!("@{}", parts.start_ms());
                }
                format!("@{parts}")
            }
            Self::Time(parts) => format!("@T{}", parts.time_text()),
            Self::Qty(value, text) => format!("#{}", quantity::key(value, &text)),
            Self::Resource(kind, id) => format!("{kind}/{id}"),
            Self::Type(space, name) => format!("{space}.{name}"),
            Self::Node(node) => json_key(node.value),
        }
    }

    /// `toX()`: the converted value, or none.
    pub(crate) fn convert(self, target: Target) -> Option<Self> {
        let item = self.simple();
        match target {
            Target::Boolean => item.to_boolean().map(Self::Bool),
            Target::Integer => match &item {
                Self::Int(value) => Some(Self::Int(*value)),
                Self::Bool(value) => Some(Self::Int(i64::from(*value))),
                Self::Str(text) => text.parse().ok().map(Self::Int),
                _ => None,
            },
            Target::Decimal => match &item {
                Self::Int(value) => Some(Self::Dec(Decimal::from(*value))),
                Self::Dec(value) => Some(Self::Dec(*value)),
                Self::Bool(value) => Some(Self::Dec(Decimal::from(u8::from(*value)))),
                Self::Str(text) => plain_decimal(text).map(Self::Dec),
                _ => None,
            },
            Target::String => item.to_text().map(|text| Self::Str(Cow::Owned(text))),
            Target::Date => match item {
                Self::Date(parts) => Some(Self::Date(parts)),
                Self::DateTime(parts) => Some(Self::Date(date_part(parts))),
                Self::Str(text) => Parts::parse(&text).map(|parts| Self::Date(date_part(parts))),
                _ => None,
            },
            Target::DateTime => match item {
                Self::Date(parts) | Self::DateTime(parts) => Some(Self::DateTime(parts)),
                Self::Str(text) => Parts::parse(&text).map(Self::DateTime),
                _ => None,
            },
            Target::Time => match item {
                Self::Time(parts) => Some(Self::Time(parts)),
                Self::Str(text) => Parts::parse_time(&text).map(Self::Time),
                _ => None,
            },
            Target::Quantity => match &item {
                Self::Bool(value) => Some(Self::Qty(
                    Decimal::from(u8::from(*value)),
                    Cow::Borrowed("1"),
                )),
                Self::Str(text) => {
                    let (digits, rest) = text.split_once(' ').unwrap_or((text, "'1'"));
                    let rest = rest.trim();
                    let quoted = rest
                        .strip_prefix('\'')
                        .and_then(|rest| rest.strip_suffix('\''));
                    let unit = quoted.or_else(|| calendar_unit(rest))?.to_owned();
                    Some(Self::Qty(plain_decimal(digits)?, Cow::Owned(unit)))
                }
                _ => item.quantity().map(|(value, unit)| Self::Qty(value, unit)),
            },
        }
    }

    fn to_boolean(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            Self::Int(value) => matches!(value, 0 | 1).then_some(*value == 1),
            Self::Dec(value) => {
                (value.is_zero() || *value == Decimal::ONE).then_some(!value.is_zero())
            }
            Self::Str(text) => match text.to_ascii_lowercase().as_str() {
                "true" | "t" | "yes" | "y" | "1" | "1.0" => Some(true),
                "false" | "f" | "no" | "n" | "0" | "0.0" => Some(false),
                _ => None,
            },
            _ => None,
        }
    }

    fn to_text(&self) -> Option<String> {
        Some(match self {
            Self::Bool(value) => value.to_string(),
            Self::Int(value) => value.to_string(),
            Self::Dec(value) => value.to_string(),
            Self::Str(text) => text.clone().into_owned(),
            Self::Date(parts) | Self::DateTime(parts) => parts.to_string(),
            Self::Time(parts) => parts.time_text(),
            Self::Qty(..) | Self::Node(_) => {
                let (value, unit) = self.quantity()?;
                if calendar_unit(&unit).is_some() {
                    format!("{value} {unit}")
                } else {
                    format!("{value} '{unit}'")
                }
            }
            Self::Resource(..) | Self::Type(..) => return None,
        })
    }
}

fn number(value: Decimal) -> Value {
    value.to_string().parse().map_or(Value::Null, Value::Number)
}

fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    Value::Object(
        members
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect::<Map<_, _>>(),
    )
}

fn plain_decimal(text: &str) -> Option<Decimal> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let all_digits =
        |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (all_digits(whole) && all_digits(fraction)).then(|| Decimal::from_str_exact(text).ok())?
}

/// A date without a time of day.
pub(super) fn date_part(parts: Parts) -> Parts {
    Parts {
        hour: None,
        minute: None,
        second: None,
        millisecond: None,
        offset_min: None,
        ..parts
    }
}

fn json_key(value: &Value) -> String {
    match value {
        Value::Number(number) => decimal(number)
            .map_or_else(|| number.to_string(), |value| value.normalize().to_string()),
        Value::Array(items) => format!(
            "[{}]",
            items.iter().map(json_key).collect::<Vec<_>>().join(",")
        ),
        Value::Object(members) => {
            let mut parts: Vec<String> = members
                .iter()
                .map(|(name, value)| format!("{name:?}:{}", json_key(value)))
                .collect();
            parts.sort_unstable();
            format!("{{{}}}", parts.join(","))
        }
        _ => value.to_string(),
    }
}

/// `=` of two items; `None` when it can't be told.
pub(crate) fn equal(left: &It<'_>, right: &It<'_>) -> Option<bool> {
    match (left.clone().simple(), right.clone().simple()) {
        (It::Bool(a), It::Bool(b)) => Some(a == b),
        (It::Str(a), It::Str(b)) => Some(a == b),
        (It::Resource(a, x), It::Resource(b, y)) => Some(a == b && x == y),
        (It::Type(a, x), It::Type(b, y)) => Some(a == b && x == y),
        (a @ It::Node(_), b @ It::Node(_)) => Some(a.key() == b.key()),
        (a, b) => match compare(&a, &b) {
            Comparison::Is(ordering) => Some(ordering.is_eq()),
            Comparison::Unknown => None,
            Comparison::Wrong => Some(false),
        },
    }
}

/// `~` of two items.
pub(crate) fn equivalent(left: &It<'_>, right: &It<'_>) -> bool {
    match (left.clone().simple(), right.clone().simple()) {
        (It::Str(a), It::Str(b)) => crate::search::normalise(&a) == crate::search::normalise(&b),
        (a, b) if matches!(a, It::Qty(..)) || matches!(b, It::Qty(..)) => {
            let (Some((a, x)), Some((b, y))) = (a.quantity(), b.quantity()) else {
                return false;
            };
            quantity::in_one_unit(a, &x, b, &y).is_some_and(|(a, b)| rounded_equal(a, b))
        }
        (It::Node(a), It::Node(b)) => json_equivalent(a.value, b.value),
        (a, b) => match (plain(&a), plain(&b)) {
            (Some(a), Some(b)) => rounded_equal(a, b),
            _ => equal(&a, &b).unwrap_or(false),
        },
    }
}

fn plain(item: &It<'_>) -> Option<Decimal> {
    match item {
        It::Int(value) => Some(Decimal::from(*value)),
        It::Dec(value) => Some(*value),
        _ => None,
    }
}

/// Equal when rounded to the digits of the less precise one.
fn rounded_equal(a: Decimal, b: Decimal) -> bool {
    let digits = a.normalize().scale().min(b.normalize().scale());
    a.round_dp(digits) == b.round_dp(digits)
}

fn json_equivalent(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::String(a), Value::String(b)) => {
            crate::search::normalise(a) == crate::search::normalise(b)
        }
        (Value::Number(a), Value::Number(b)) => match (decimal(a), decimal(b)) {
            (Some(a), Some(b)) => rounded_equal(a, b),
            _ => a == b,
        },
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|item| b.iter().any(|other| json_equivalent(item, other)))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter().all(|(name, value)| {
                    b.get(name)
                        .is_some_and(|other| json_equivalent(value, other))
                })
        }
        _ => a == b,
    }
}

/// What comparing two items tells.
pub(crate) enum Comparison {
    Is(Ordering),
    /// Their precision or their units don't allow to tell.
    Unknown,
    /// They are of types that can't be compared.
    Wrong,
}

impl From<Option<Ordering>> for Comparison {
    fn from(ordering: Option<Ordering>) -> Self {
        ordering.map_or(Self::Unknown, Self::Is)
    }
}

/// Compares two items by FHIRPath's rules.
pub(crate) fn compare(left: &It<'_>, right: &It<'_>) -> Comparison {
    match (left.clone().simple(), right.clone().simple()) {
        (It::Int(a), It::Int(b)) => Comparison::Is(a.cmp(&b)),
        (It::Str(a), It::Str(b)) => Comparison::Is(a.cmp(&b)),
        (It::Date(a) | It::DateTime(a), It::Date(b) | It::DateTime(b)) => moments(a, b).into(),
        (It::Time(a), It::Time(b)) => fields(&clock(a), &clock(b)).into(),
        // A text of a type that isn't known may well be a date.
        (It::Str(text), It::Date(b) | It::DateTime(b)) => {
            Parts::parse(&text).map_or(Comparison::Wrong, |a| moments(a, b).into())
        }
        (It::Date(a) | It::DateTime(a), It::Str(text)) => {
            Parts::parse(&text).map_or(Comparison::Wrong, |b| moments(a, b).into())
        }
        (It::Str(text), It::Time(b)) => Parts::parse_time(&text)
            .map_or(Comparison::Wrong, |a| fields(&clock(a), &clock(b)).into()),
        (It::Time(a), It::Str(text)) => Parts::parse_time(&text)
            .map_or(Comparison::Wrong, |b| fields(&clock(a), &clock(b)).into()),
        (a, b) => match (plain(&a), plain(&b)) {
            (Some(a), Some(b)) => Comparison::Is(a.cmp(&b)),
            _ => match (a.quantity(), b.quantity()) {
                (Some((a, x)), Some((b, y))) => quantity::compare(a, &x, b, &y).into(),
                _ => Comparison::Wrong,
            },
        },
    }
}
