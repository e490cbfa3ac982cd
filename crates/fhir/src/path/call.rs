//! The functions, at work.
use super::PathError;
use super::budget::STEPS_OF_PATTERN;
use super::eval::{Evaluation, Items, Outcome, Scope, boolean, single, single_raw, text};
use super::functions::Function;
use super::numbers::{calculated, rounded};
use super::parse::{Expr, Kind, TypeName, pattern_of};
use super::value::{Comparison, It, Node, compare, date_part};
use super::{bounds, quantity, texts};
use crate::date::Parts;
use crate::facts::structures;
use crate::{Reference, ResourceType};
use regex::Regex;
use serde_json::Value;
use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::HashSet;

impl<'a> Evaluation<'_, 'a> {
    pub(super) fn matches(
        &self,
        regex: &Regex,
        replacement: Option<&Expr>,
        items: Items<'a>,
        position: usize,
        scope: &Scope<'a>,
    ) -> Outcome<'a> {
        let Some(text) = text(items, position)? else {
            return Ok(Vec::new());
        };
        Ok(match replacement {
            None => {
                self.steps(position, text.len())?;
                vec![It::Bool(regex.is_match(&text))]
            }
            // Nothing is looked for, so nothing is replaced.
            Some(_) if regex.as_str().is_empty() => vec![It::Str(text)],
            Some(replacement) => match self.text_argument(replacement, scope)? {
                None => Vec::new(),
                Some(by) => vec![It::Str(Cow::Owned(
                    self.replaced(regex, &text, &by, position)?,
                ))],
            },
        })
    }

    /// As [`Regex::replace_all`], with each piece paid for before it is made.
    fn replaced(
        &self,
        regex: &Regex,
        text: &str,
        by: &str,
        position: usize,
    ) -> Result<String, PathError> {
        self.steps(position, text.len())?;
        let groups = by.bytes().filter(|byte| *byte == b'$').count();
        let (mut made, mut end) = (String::new(), 0);
        for captures in regex.captures_iter(text) {
            let Some(found) = captures.get(0) else {
                continue;
            };
            // No group is longer than what the whole finds.
            let most = by.len().saturating_add(groups.saturating_mul(found.len()));
            self.steps(position, 1)?;
            self.bytes(position, most)?;
            made.push_str(&text[end..found.start()]);
            captures.expand(by, &mut made);
            end = found.end();
        }
        made.push_str(&text[end..]);
        Ok(made)
    }

    /// A regular expression of a text that is known only now.
    fn pattern(&self, pattern: &str, position: usize) -> Result<Regex, PathError> {
        self.steps(position, STEPS_OF_PATTERN.saturating_add(pattern.len()))?;
        pattern_of(pattern, position)
    }

    /// An argument is evaluated where the call stands, not on the items that it is called on.
    pub(super) fn text_argument(
        &self,
        argument: &Expr,
        scope: &Scope<'a>,
    ) -> Result<Option<Cow<'a, str>>, PathError> {
        text(self.expr(argument, scope)?, argument.position)
    }

    pub(super) fn integer_argument(
        &self,
        argument: &Expr,
        scope: &Scope<'a>,
    ) -> Result<Option<i64>, PathError> {
        match single(self.expr(argument, scope)?, argument.position)? {
            None => Ok(None),
            Some(It::Int(value)) => Ok(Some(value)),
            Some(_) => Err(PathError::new(
                argument.position,
                "a whole number is wanted here",
            )),
        }
    }

    /// The items for which a criterion is true.
    fn filter(&self, items: Items<'a>, criterion: &Expr) -> Outcome<'a> {
        let mut kept = Vec::new();
        for (index, item) in items.into_iter().enumerate() {
            let scope = Scope { this: item, index };
            if self.truth(criterion, &scope)? == Some(true) {
                kept.push(scope.this);
            }
        }
        Ok(kept)
    }

    fn project(&self, items: &[It<'a>], projection: &Expr) -> Outcome<'a> {
        let mut found = Vec::new();
        for (index, item) in items.iter().enumerate() {
            self.copied(projection.position, item)?;
            found.extend(self.expr(
                projection,
                &Scope {
                    this: item.clone(),
                    index,
                },
            )?);
        }
        Ok(found)
    }

    #[allow(
        clippy::too_many_lines,
        reason = "one arm for each function; splitting would scatter the list"
    )]
    pub(super) fn call(
        &self,
        function: Function,
        arguments: &[Expr],
        items: Items<'a>,
        position: usize,
        scope: &Scope<'a>,
    ) -> Outcome<'a> {
        use Function as F;
        let yes = |value: bool| Ok(vec![It::Bool(value)]);
        let count = |value: usize| It::Int(i64::try_from(value).unwrap_or(i64::MAX));
        Ok(match function {
            F::Empty => return yes(items.is_empty()),
            F::Exists => match arguments.first() {
                None => return yes(!items.is_empty()),
                Some(criterion) => return yes(!self.filter(items, criterion)?.is_empty()),
            },
            F::All => {
                let all = items.len();
                return yes(self.filter(items, &arguments[0])?.len() == all);
            }
            F::AllTrue | F::AllFalse | F::AnyTrue | F::AnyFalse => {
                let wanted = matches!(function, F::AllTrue | F::AnyTrue);
                let mut values = Vec::new();
                for item in &items {
                    values.push(
                        item.as_bool()
                            .ok_or_else(|| PathError::new(position, "booleans are wanted here"))?
                            == wanted,
                    );
                }
                let every = matches!(function, F::AllTrue | F::AllFalse);
                return yes(if every {
                    values.into_iter().all(|value| value)
                } else {
                    values.into_iter().any(|value| value)
                });
            }
            F::Count => vec![count(items.len())],
            F::Distinct => self.distinct(position, items)?,
            F::IsDistinct => {
                let all = items.len();
                return yes(self.distinct(position, items)?.len() == all);
            }
            F::Where => self.filter(items, &arguments[0])?,
            F::Select => self.project(&items, &arguments[0])?,
            F::Repeat => {
                let mut seen = HashSet::new();
                let mut found = Vec::new();
                let mut next = self.project(&items, &arguments[0])?;
                while !next.is_empty() {
                    next = self.unseen(position, next, &mut seen)?;
                    self.items(position, &next)?;
                    found.extend(next.iter().cloned());
                    next = self.project(&next, &arguments[0])?;
                }
                found
            }
            F::Single => single_raw(items, position)?.into_iter().collect(),
            F::First => items.into_iter().take(1).collect(),
            F::Last => items.into_iter().last().into_iter().collect(),
            F::Tail => items.into_iter().skip(1).collect(),
            F::Skip | F::Take => {
                let number = self.integer_argument(&arguments[0], scope)?.unwrap_or(0);
                let number = usize::try_from(number).unwrap_or(0);
                if function == F::Skip {
                    items.into_iter().skip(number).collect()
                } else {
                    items.into_iter().take(number).collect()
                }
            }
            F::Union => {
                let others = self.expr(&arguments[0], scope)?;
                self.distinct(position, items.into_iter().chain(others))?
            }
            F::Combine => items
                .into_iter()
                .chain(self.expr(&arguments[0], scope)?)
                .collect(),
            F::Intersect | F::Exclude | F::SubsetOf | F::SupersetOf => {
                let others = self.expr(&arguments[0], scope)?;
                let mine = self.keys(position, &items)?;
                let theirs = self.keys(position, &others)?;
                // Once more for those that are looked up.
                self.compared(position, &items, 1)?;
                match function {
                    F::SubsetOf => return yes(mine.is_subset(&theirs)),
                    F::SupersetOf => return yes(mine.is_superset(&theirs)),
                    F::Intersect => self.distinct(
                        position,
                        items
                            .into_iter()
                            .filter(|item| theirs.contains(&item.key())),
                    )?,
                    _ => items
                        .into_iter()
                        .filter(|item| !theirs.contains(&item.key()))
                        .collect(),
                }
            }
            F::Iif => {
                // The criterion sees the item that the function is called on.
                let this = single_raw(items, position)?.unwrap_or_else(|| scope.this.clone());
                let inner = Scope {
                    this,
                    index: scope.index,
                };
                let criterion = single_raw(self.expr(&arguments[0], &inner)?, position)?;
                let truth = match &criterion {
                    None => None,
                    Some(item) => Some(item.as_bool().ok_or_else(|| {
                        PathError::new(arguments[0].position, "a boolean is wanted here")
                    })?),
                };
                match (truth, arguments.get(2)) {
                    (Some(true), _) => self.expr(&arguments[1], &inner)?,
                    (_, Some(otherwise)) => self.expr(otherwise, &inner)?,
                    (_, None) => Vec::new(),
                }
            }
            F::Not => {
                boolean(single_raw(items, position)?.map(|item| !item.as_bool().unwrap_or(true)))
            }
            F::To(target) => single_raw(items, position)?
                .and_then(|item| item.convert(target))
                .into_iter()
                .collect(),
            F::ConvertsTo(target) => single_raw(items, position)?
                .map(|item| It::Bool(item.convert(target).is_some()))
                .into_iter()
                .collect(),
            F::Now | F::Today | F::TimeOfDay => {
                let now_ms = self
                    .environment
                    .now_ms
                    .ok_or_else(|| PathError::new(position, "there is no time here"))?;
                let now = Parts::from_unix_ms(now_ms);
                vec![match function {
                    F::Now => It::DateTime(now),
                    F::Today => It::Date(date_part(now)),
                    _ => It::Time(Parts {
                        year: 1,
                        month: None,
                        day: None,
                        offset_min: None,
                        ..now
                    }),
                }]
            }
            F::Children => self.children(position, &items)?,
            F::Descendants => {
                let mut found = Vec::new();
                let mut next = self.children(position, &items)?;
                while !next.is_empty() {
                    let below = self.children(position, &next)?;
                    found.append(&mut next);
                    next = below;
                }
                found
            }
            F::Extension => match self.text_argument(&arguments[0], scope)? {
                None => Vec::new(),
                Some(url) => self.extensions(position, &items, &url)?,
            },
            F::HasValue => {
                let [It::Node(node)] = items.as_slice() else {
                    return yes(matches!(items.as_slice(), [_]));
                };
                return yes(!node.value.is_null() && !node.value.is_object());
            }
            F::GetValue => match items.as_slice() {
                [It::Node(node)] if node.value.is_null() || node.value.is_object() => Vec::new(),
                [item] => vec![item.clone().simple()],
                _ => Vec::new(),
            },
            F::Resolve => {
                let contained = match &self.root {
                    It::Node(root) => root.value.get("contained").and_then(Value::as_array),
                    _ => None,
                };
                let looked_at = contained.map_or(1, Vec::len);
                self.steps(position, items.len().saturating_mul(looked_at))?;
                items.iter().filter_map(|item| self.resolve(item)).collect()
            }
            F::Abs | F::Ceiling | F::Floor | F::Round | F::Truncate => {
                let digits = match arguments.first() {
                    Some(argument) => self.integer_argument(argument, scope)?.unwrap_or(0),
                    None => 0,
                };
                single(items, position)?
                    .map(|item| rounded(function, item, digits, position))
                    .transpose()?
                    .into_iter()
                    .collect()
            }
            F::Join => {
                let separator = match arguments.first() {
                    Some(argument) => self.text_argument(argument, scope)?.unwrap_or_default(),
                    None => Cow::Borrowed(""),
                };
                let mut texts = Vec::new();
                for item in items {
                    let text = text(vec![item], position)?;
                    let length = text.as_ref().map_or(0, |text| text.len());
                    self.bytes(position, length + separator.len())?;
                    texts.extend(text);
                }
                vec![It::Str(Cow::Owned(texts.join(separator.as_ref())))]
            }
            F::Length | F::Lower | F::Upper | F::Trim | F::ToChars => {
                let Some(text) = text(items, position)? else {
                    return Ok(Vec::new());
                };
                if function == F::ToChars {
                    self.steps(position, text.len())?;
                }
                match function {
                    F::Length => vec![count(text.chars().count())],
                    F::Lower => vec![It::Str(Cow::Owned(text.to_lowercase()))],
                    F::Upper => vec![It::Str(Cow::Owned(text.to_uppercase()))],
                    F::Trim => vec![It::Str(Cow::Owned(text.trim().to_owned()))],
                    _ => text
                        .chars()
                        .map(|c| It::Str(Cow::Owned(c.to_string())))
                        .collect(),
                }
            }
            F::StartsWith | F::EndsWith | F::Contains | F::IndexOf | F::Split | F::Matches => {
                let Some(text) = text(items, position)? else {
                    return Ok(Vec::new());
                };
                let Some(part) = self.text_argument(&arguments[0], scope)? else {
                    return Ok(Vec::new());
                };
                if function == F::Split {
                    self.steps(position, text.len() / part.len().max(1))?;
                }
                match function {
                    F::StartsWith => return yes(text.starts_with(part.as_ref())),
                    F::EndsWith => return yes(text.ends_with(part.as_ref())),
                    F::Contains => return yes(text.contains(part.as_ref())),
                    F::IndexOf => {
                        let place = text
                            .find(part.as_ref())
                            .map(|place| text[..place].chars().count());
                        vec![place.map_or(It::Int(-1), count)]
                    }
                    F::Split => text
                        .split(part.as_ref())
                        .map(|part| It::Str(Cow::Owned(part.to_owned())))
                        .collect(),
                    _ => {
                        let regex = self.pattern(&part, arguments[0].position)?;
                        self.steps(position, text.len())?;
                        return yes(regex.is_match(&text));
                    }
                }
            }
            F::MatchesFull => {
                let Some(text) = text(items, position)? else {
                    return Ok(Vec::new());
                };
                let Some(pattern) = self.text_argument(&arguments[0], scope)? else {
                    return Ok(Vec::new());
                };
                let whole = format!("^(?:{pattern})$");
                let regex = self.pattern(&whole, arguments[0].position)?;
                self.steps(position, text.len())?;
                return yes(regex.is_match(&text));
            }
            F::Encode | F::Decode | F::Escape | F::Unescape => {
                let Some(text) = text(items, position)? else {
                    return Ok(Vec::new());
                };
                let Some(how) = self.text_argument(&arguments[0], scope)? else {
                    return Ok(Vec::new());
                };
                let changed = match function {
                    F::Encode => texts::encode(&text, &how),
                    F::Decode => texts::decode(&text, &how),
                    F::Escape => texts::escape(&text, &how),
                    _ => texts::unescape(&text, &how),
                };
                changed
                    .map(|text| It::Str(Cow::Owned(text)))
                    .into_iter()
                    .collect()
            }
            F::Exp | F::Ln | F::Sqrt | F::Log | F::Power => {
                let Some(item) = single(items, position)? else {
                    return Ok(Vec::new());
                };
                let argument = match arguments.first() {
                    None => None,
                    Some(argument) => match single(self.expr(argument, scope)?, argument.position)?
                    {
                        None => return Ok(Vec::new()),
                        Some(argument) => Some(argument),
                    },
                };
                calculated(function, &item, argument.as_ref(), position)?
                    .into_iter()
                    .collect()
            }
            F::Precision => single(items, position)?
                .and_then(|item| bounds::precision(&item))
                .map(It::Int)
                .into_iter()
                .collect(),
            F::LowBoundary | F::HighBoundary => {
                let digits = match arguments.first() {
                    None => None,
                    Some(argument) => match self.integer_argument(argument, scope)? {
                        None => return Ok(Vec::new()),
                        digits => digits,
                    },
                };
                // A FHIR quantity has a value with a precision of its own.
                let item = single(items, position)?.map(|item| match item.quantity() {
                    Some((value, unit)) if matches!(item, It::Node(_)) => It::Qty(value, unit),
                    _ => item,
                });
                item.and_then(|item| bounds::boundary(item, function == F::HighBoundary, digits))
                    .into_iter()
                    .collect()
            }
            F::Type => items.iter().map(It::type_info).collect(),
            F::Trace => items,
            F::ConformsTo => {
                let Some(item) = single_raw(items, position)? else {
                    return Ok(Vec::new());
                };
                let Some(url) = self.text_argument(&arguments[0], scope)? else {
                    return Ok(Vec::new());
                };
                let name = url.strip_prefix("http://hl7.org/fhir/StructureDefinition/");
                let wanted = name
                    .and_then(|name| structures().find(name))
                    .ok_or_else(|| {
                        PathError::new(
                            arguments[0].position,
                            "no type or profile that is known here",
                        )
                    })?;
                return yes(item.is(TypeName::Fhir(wanted)));
            }
            F::Aggregate => {
                let first = match arguments.get(1) {
                    Some(first) => self.expr(first, scope)?,
                    None => Vec::new(),
                };
                let outer = self.total.replace(first);
                for (index, item) in items.into_iter().enumerate() {
                    let next = self.expr(&arguments[0], &Scope { this: item, index });
                    match next {
                        Ok(next) => self.total.replace(next),
                        Err(error) => {
                            self.total.replace(outer);
                            return Err(error);
                        }
                    };
                }
                self.total.replace(outer)
            }
            F::Sort => self.sorted(items, arguments, position)?,
            F::Comparable => {
                let other = single(self.expr(&arguments[0], scope)?, arguments[0].position)?;
                let (Some(one), Some(other)) = (single(items, position)?, other) else {
                    return Ok(Vec::new());
                };
                let units = one.quantity().zip(other.quantity());
                return yes(units.is_some_and(|((_, a), (_, b))| quantity::comparable(&a, &b)));
            }
            F::Replace => {
                let Some(text) = text(items, position)? else {
                    return Ok(Vec::new());
                };
                let (from, by) = (
                    self.text_argument(&arguments[0], scope)?,
                    self.text_argument(&arguments[1], scope)?,
                );
                let Some((from, by)) = from.zip(by) else {
                    return Ok(Vec::new());
                };
                let places = text.matches(from.as_ref()).count();
                self.bytes(position, places.saturating_mul(by.len()))?;
                vec![It::Str(Cow::Owned(text.replace(from.as_ref(), &by)))]
            }
            F::ReplaceMatches => match self.text_argument(&arguments[0], scope)? {
                None => Vec::new(),
                Some(pattern) => {
                    let regex = self.pattern(&pattern, arguments[0].position)?;
                    self.matches(&regex, Some(&arguments[1]), items, position, scope)?
                }
            },
            F::Substring => {
                let Some(text) = text(items, position)? else {
                    return Ok(Vec::new());
                };
                let Some(start) = self
                    .integer_argument(&arguments[0], scope)?
                    .and_then(|start| usize::try_from(start).ok())
                else {
                    return Ok(Vec::new());
                };
                let length = match arguments.get(1) {
                    Some(argument) => self
                        .integer_argument(argument, scope)?
                        .map(|length| usize::try_from(length).unwrap_or(0)),
                    None => None,
                };
                if start >= text.chars().count() {
                    return Ok(Vec::new());
                }
                vec![It::Str(Cow::Owned(
                    text.chars()
                        .skip(start)
                        .take(length.unwrap_or(usize::MAX))
                        .collect(),
                ))]
            }
        })
    }

    /// By the keys, each rising or, written with `-` before it, falling; what has no key comes first
    /// either way.
    fn sorted(&self, items: Items<'a>, keys: &[Expr], position: usize) -> Outcome<'a> {
        let mut rows = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            let scope = Scope { this: item, index };
            let mut row = Vec::with_capacity(keys.len().max(1));
            for key in keys {
                let inner = match &key.kind {
                    Kind::Negate(inner) => inner,
                    _ => key,
                };
                row.push(single(self.expr(inner, &scope)?, key.position)?);
            }
            if keys.is_empty() {
                row.push(Some(scope.this.clone().simple()));
            }
            rows.push((scope.this, row));
        }
        let rounds = usize::try_from(rows.len().max(2).ilog2()).unwrap_or(1);
        self.steps(position, rows.len().saturating_mul(rounds))?;
        let mut wrong = false;
        rows.sort_by(|(_, a), (_, b)| {
            for (place, pair) in a.iter().zip(b).enumerate() {
                let falling = keys
                    .get(place)
                    .is_some_and(|key| matches!(key.kind, Kind::Negate(_)));
                let ordering = match pair {
                    (None, None) => Ordering::Equal,
                    (None, Some(_)) => return Ordering::Less,
                    (Some(_), None) => return Ordering::Greater,
                    (Some(a), Some(b)) => match compare(a, b) {
                        Comparison::Is(ordering) => ordering,
                        Comparison::Unknown => Ordering::Equal,
                        Comparison::Wrong => {
                            wrong = true;
                            Ordering::Equal
                        }
                    },
                };
                let ordering = if falling {
                    ordering.reverse()
                } else {
                    ordering
                };
                if ordering.is_ne() {
                    return ordering;
                }
            }
            Ordering::Equal
        });
        if wrong {
            return Err(PathError::new(
                position,
                "values of these types can't be sorted",
            ));
        }
        Ok(rows.into_iter().map(|(item, _)| item).collect())
    }

    fn resolve(&self, item: &It<'a>) -> Option<It<'a>> {
        let It::Node(node) = item else { return None };
        let text = node
            .value
            .as_str()
            .or_else(|| node.value.get("reference")?.as_str());
        let Some(text) = text else {
            let kind = ResourceType::parse(node.value.get("type")?.as_str()?)?;
            return Some(It::Resource(kind, Cow::Borrowed("")));
        };
        if let Some(id) = text.strip_prefix('#') {
            let It::Node(root) = &self.root else {
                return None;
            };
            let contained = root.value.get("contained")?.as_array()?;
            return contained
                .iter()
                .find(|resource| resource["id"] == id)
                .map(|resource| It::Node(Node::new(resource)));
        }
        if let Some((kind, id)) = Reference::relative(text) {
            return Some(It::Resource(kind, Cow::Borrowed(id)));
        }
        let (reference, kind) = (
            Reference::parse(text),
            node.value.get("type").and_then(Value::as_str),
        );
        match reference {
            Some(reference) => Some(It::Resource(reference.kind, Cow::Owned(reference.id))),
            None => ResourceType::parse(kind?).map(|kind| It::Resource(kind, Cow::Borrowed(""))),
        }
    }
}
