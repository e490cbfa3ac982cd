//! Queries: from the parameters of a request to clauses, and whether a resource matches them.
use super::codes::CodesOf;
use super::current::is_by_name;
use super::filter::FILTER;
use super::near::Near;
use super::number::Written;
use super::parameter::find;
use super::plan::{Compiled, Leaf, compiled};
use super::unit::{Canonical, UCUM};
use super::words::{self, is_of_words};
use super::{
    COMMON, Clause, Compartment, Condition, Link, Modifier, Named, Operand, Owns, ParameterKind,
    Prefix, Scope, SearchQuery, UnitAsked, normalise, parameters,
};
use super::{Include, Own, composite, matching};
use crate::facts::{self, Targets};
use crate::{IssueCode, OperationOutcome, Reference, Resource, ResourceType, date, is_id};
use std::sync::Arc;

/// Rows on a page when the client doesn't say.
pub const COUNT_DEFAULT: usize = 50;
/// The most rows on a page: a page is verified and audited row by row, so it must stay bounded.
pub const COUNT_MAX: usize = 1000;
/// The most alternatives of one parameter and the most clauses of one query, which bound the work
/// for one request.
pub(super) const OPERANDS_MAX: usize = 200;
const CLAUSES_MAX: usize = 50;
/// The most bytes that the parameters of a search have, names and values.
pub(super) const BYTES_MAX: usize = 1 << 20;

/// The same of chained parameters and `_has` alone: each type that one can lead to keeps its value.
pub(super) const LINKS_BYTES_MAX: usize = 16 << 10;
/// The most alternatives that parameters have, counted once for each type that they are asked of.
pub(super) const OF_TYPES_MAX: usize = 20_000;

/// Refuses parameters of more bytes than a search has.
pub(super) fn check_bytes(
    parameters: &[(String, String)],
    most: usize,
) -> Result<(), OperationOutcome> {
    let bytes = parameters
        .iter()
        .map(|(name, value)| name.len() + value.len());
    if bytes.sum::<usize>() > most {
        let words = format!("the parameters of this search have at most {most} bytes together");
        return Err(OperationOutcome::error(IssueCode::TooLong, words));
    }
    Ok(())
}

pub(super) fn bad(code: IssueCode, name: &str, words: impl Into<String>) -> OperationOutcome {
    OperationOutcome::at(code, words, shown(name))
}

/// A parameter's name in an error: never more than a name, whatever the client sent.
pub(super) fn shown(name: &str) -> String {
    name.chars()
        .filter(char::is_ascii_graphic)
        .take(64)
        .collect()
}

impl SearchQuery {
    /// Parses the parameters of a search, those that say how to answer among them. `_cursor` is left to
    /// the caller (ignored).
    ///
    /// # Errors
    /// 400-type outcomes for unknown parameters (unless `lenient`), unknown modifiers, malformed values.
    pub fn parse(
        kind: ResourceType,
        parameters: &[(String, String)],
        lenient: bool,
    ) -> Result<Self, OperationOutcome> {
        Self::parse_with(kind, parameters, lenient, &Owns::default())
    }

    /// The same where there are parameters of one's own.
    ///
    /// # Errors
    /// As [`SearchQuery::parse`].
    pub fn parse_with(
        kind: ResourceType,
        parameters: &[(String, String)],
        lenient: bool,
        owns: &Owns,
    ) -> Result<Self, OperationOutcome> {
        Self::parse_in(kind, parameters, lenient, (owns, None))
    }

    /// The same within a compartment, whose condition is left to the caller.
    pub(super) fn parse_in(
        kind: ResourceType,
        parameters: &[(String, String)],
        lenient: bool,
        (owns, compartment): (&Owns, Option<&Compartment>),
    ) -> Result<Self, OperationOutcome> {
        check_bytes(parameters, BYTES_MAX)?;
        let mut query = Self::empty(kind);
        let (mut links_bytes, mut links_values) = (0, 0);
        let mut current = Vec::new();
        for (name, value) in parameters {
            if name == "_cursor" {
                continue;
            }
            if !query.control(name, value, owns)? && !query.include(name, value, owns)? {
                let taken = if name == FILTER {
                    query.filter(value, owns).map(|()| {
                        links_values = links_values.max(query.linked_values());
                    })
                } else if name == "_list" && is_by_name(value) {
                    current.push(value);
                    Ok(())
                } else if name == "_list" {
                    Self::list(value, owns).map(|link| query.links.push(link))
                } else if Self::is_link(name) {
                    links_bytes += name.len() + value.len();
                    if links_bytes > LINKS_BYTES_MAX {
                        let words = format!(
                            "chained parameters and `_has` have at most {LINKS_BYTES_MAX} bytes together"
                        );
                        return Err(OperationOutcome::error(IssueCode::TooLong, words));
                    }
                    Self::link(kind, name, value, owns, 0)
                        .map(|mut link| {
                            for inner in &mut link.queries {
                                links_values += inner.values();
                            }
                            query.links.push(link);
                        })
                        .map_err(|outcome| all_about(name, outcome))
                } else {
                    read(kind, name, value, owns).map(|clause| query.clauses.push(clause))
                };
                match taken {
                    Err(outcome) if lenient && is_unknown(&outcome) => {
                        query.ignored.push(name.clone());
                        continue;
                    }
                    taken => taken?,
                }
                if links_values > OF_TYPES_MAX {
                    let words = format!(
                        "chained parameters have more than {OF_TYPES_MAX} alternatives, counted for each type that they can lead to; name the types, or ask for fewer values"
                    );
                    return Err(OperationOutcome::error(IssueCode::TooCostly, words));
                }
                let mut inside = Vec::new();
                query
                    .conditions
                    .iter()
                    .for_each(|one| one.links(&mut inside));
                let others =
                    query.links.len() + query.conditions.len().max(inside.len()) + current.len();
                if query.clauses.len() + others > CLAUSES_MAX {
                    return Err(bad(
                        IssueCode::TooLong,
                        name,
                        format!("more than {CLAUSES_MAX} parameters"),
                    ));
                }
            }
            query.used.push((name.clone(), value.clone()));
        }
        for value in current {
            let link = query.current(value, compartment)?;
            query.links.push(link);
        }
        query.check_words()?;
        Ok(query)
    }

    /// How many alternatives the clauses of links and conditions have.
    fn linked_values(&mut self) -> usize {
        let links = self.links.iter_mut().flat_map(|link| &mut link.queries);
        let mut values: usize = links.map(Self::values).sum();
        for condition in &mut self.conditions {
            condition.each_clause(&mut |clause| values += clause.operands.len().max(1));
        }
        values
    }

    /// How many alternatives all clauses have, those of links among them.
    pub(super) fn values(&mut self) -> usize {
        let mut values = 0;
        self.each_clause(&mut |clause| values += clause.operands.len().max(1));
        values
    }

    /// Takes a parameter that says how to answer rather than what to find.
    fn control(&mut self, name: &str, value: &str, owns: &Owns) -> Result<bool, OperationOutcome> {
        if !matches!(name, "_count" | "_total" | "_sort" | "_format") {
            return Ok(false);
        }
        if self.used.iter().any(|(used, _)| used == name) {
            return Err(bad(IssueCode::Invalid, name, "is given twice"));
        }
        let fine = match name {
            "_count" => match value.parse() {
                Ok(count) if (1..=COUNT_MAX).contains(&count) => {
                    self.count = count;
                    true
                }
                _ => {
                    return Err(bad(
                        IssueCode::Value,
                        name,
                        format!("is a whole number from 1 to {COUNT_MAX}"),
                    ));
                }
            },
            "_total" => {
                self.total = matches!(value, "accurate" | "estimate");
                matches!(value, "none" | "estimate" | "accurate")
            }
            "_sort" => {
                self.order(name, value, owns)?;
                true
            }
            _ => matches!(value, "json" | "application/json" | "application/fhir+json"),
        };
        if fine {
            return Ok(true);
        }
        let words = match name {
            "_total" => "can be `none`, `estimate` or `accurate`",
            _ => "can be `json`",
        };
        Err(bad(IssueCode::NotSupported, name, words))
    }

    pub(super) fn empty(kind: ResourceType) -> Self {
        Self {
            kind,
            clauses: Vec::new(),
            conditions: Vec::new(),
            links: Vec::new(),
            scope: Scope::Type,
            count: COUNT_DEFAULT,
            total: false,
            sort: Vec::new(),
            includes: Vec::new(),
            ignored: Vec::new(),
            used: Vec::new(),
        }
    }

    /// Whether a resource matches every clause except `_lastUpdated` (which the store answers). With
    /// links that nobody has followed yet ([`SearchQuery::linked`]) nothing does.
    #[must_use]
    pub fn matches(&self, resource: &Resource) -> bool {
        resource.kind() == self.kind
            && !self.has_links()
            && self
                .clauses
                .iter()
                .all(|clause| matching::clause(clause, resource))
            && self
                .conditions
                .iter()
                .all(|condition| condition.holds(resource))
    }

    /// Whether there are links to follow, those in conditions among them.
    #[must_use]
    pub fn has_links(&self) -> bool {
        !self.links.is_empty() || self.conditions.iter().any(Condition::has_links)
    }

    /// The parameters of one's own that it asks for, but not those of links.
    pub fn owns(&self) -> impl Iterator<Item = &Arc<Own>> {
        let mut clauses: Vec<&Clause> = self.clauses.iter().collect();
        for condition in &self.conditions {
            condition.clauses(&mut clauses);
        }
        clauses.into_iter().filter_map(|clause| clause.own.as_ref())
    }

    /// Whether it asks for a parameter of one's own, those of links and inclusions among them.
    #[must_use]
    pub fn asks_owns(&self) -> bool {
        self.any_clause(&|clause| clause.own.is_some())
            || self.any_link(&|link| link.parameter.own().is_some())
            || self.includes.iter().any(Include::asks_owns)
    }

    fn any_link(&self, test: &dyn Fn(&Link) -> bool) -> bool {
        let mut links: Vec<&Link> = self.links.iter().collect();
        for condition in &self.conditions {
            condition.links(&mut links);
        }
        links.into_iter().any(|link| {
            let mut inner = link.queries.iter();
            test(link) || inner.any(|query| query.any_link(test))
        })
    }
}

/// Reads a parameter that is no link.
pub(super) fn read(
    kind: ResourceType,
    name: &str,
    value: &str,
    owns: &Owns,
) -> Result<Clause, OperationOutcome> {
    let (plain, modifier) = name
        .split_once(':')
        .map_or((name, None), |(name, rest)| (name, Some(rest)));
    if is_of_words(plain) {
        return words::clause(name, &split(value, ','));
    }
    let (parameter, found) = find(kind, plain, owns).ok_or_else(|| unknown(kind, name, owns))?;
    clause(kind, name, &parameter, found, modifier, value)
}

/// An outcome of a part of a parameter is one of the parameter.
fn all_about(name: &str, mut outcome: OperationOutcome) -> OperationOutcome {
    for issue in &mut outcome.issues {
        issue.expression = Some(shown(name));
    }
    outcome
}

/// What is said of a parameter that a type doesn't have, before the type.
const UNKNOWN: &str = "is no search parameter of ";

fn is_unknown(outcome: &OperationOutcome) -> bool {
    outcome
        .issues
        .iter()
        .any(|issue| issue.diagnostics.starts_with(UNKNOWN))
}

pub(super) fn unknown(kind: ResourceType, name: &str, owns: &Owns) -> OperationOutcome {
    if name == "_query" {
        // Never passed over: what it names would have chosen the rows.
        let words = "names a query that an OperationDefinition defines; none is defined here";
        return bad(IssueCode::NotSupported, name, words);
    }
    let standard = COMMON.iter().chain(parameters(kind));
    let own = owns.of(kind).map(|own| own.code());
    let names = standard.map(|parameter| parameter.name).chain(own);
    let names: Vec<&str> = names.collect();
    let words = format!("{UNKNOWN}{kind}; known are {}", names.join(", "));
    bad(IssueCode::NotSupported, name, words)
}

pub(super) fn clause(
    kind: ResourceType,
    name: &str,
    named: &Named,
    parameter_kind: ParameterKind,
    modifier: Option<&str>,
    value: &str,
) -> Result<Clause, OperationOutcome> {
    let parameter = named.name();
    let mut target = None;
    let mut coded = None;
    let modifier = match (modifier, parameter_kind) {
        (None, _) => None,
        (Some("missing"), _) if parameter != "_id" && parameter != "_lastUpdated" => {
            Some(Modifier::Missing)
        }
        (Some("exact"), ParameterKind::String) => Some(Modifier::Exact),
        (Some("contains"), ParameterKind::String) => Some(Modifier::Contains),
        (Some("not"), ParameterKind::Token) => Some(Modifier::Not),
        (Some("text"), ParameterKind::Token) if parameter != "_id" => Some(Modifier::Text),
        (Some("of-type"), ParameterKind::Token) => {
            if !has_identifiers(kind, named) {
                let words = "has no identifiers, so it can't be asked for one of a type";
                return Err(bad(IssueCode::NotSupported, name, words));
            }
            Some(Modifier::OfType)
        }
        (Some("identifier"), ParameterKind::Reference) => Some(Modifier::Identifier),
        (Some("above"), ParameterKind::Uri) => Some(Modifier::Above),
        (Some("below"), ParameterKind::Uri) => Some(Modifier::Below),
        (Some(other), ParameterKind::Reference) if ResourceType::parse(other).is_some() => {
            target = ResourceType::parse(other);
            None
        }
        (Some(way @ ("in" | "not-in" | "above" | "below")), ParameterKind::Token)
            if parameter != "_id" =>
        {
            coded = Some(way);
            match way {
                "in" => Some(Modifier::In),
                "not-in" => Some(Modifier::NotIn),
                _ => None,
            }
        }
        (Some(_), kind) => {
            let more = match kind {
                ParameterKind::Reference => " and names of resource types",
                _ => "",
            };
            let known = modifiers(kind).join(", ");
            return Err(bad(
                IssueCode::NotSupported,
                name,
                format!("has a modifier that is not supported; known are {known}{more}"),
            ));
        }
    };
    let mut operands = Vec::new();
    for part in split(value, ',') {
        if part.is_empty() {
            return Err(bad(IssueCode::Value, name, "has no value"));
        }
        if modifier == Some(Modifier::Missing) {
            match part.as_str() {
                "true" | "false" => operands.push(Operand::Missing(part == "true")),
                _ => return Err(bad(IssueCode::Value, name, "is `true` or `false`")),
            }
            continue;
        }
        if let Some(way) = coded {
            operands.push(Operand::CodesOf(codes_of(name, way, &part)?));
            continue;
        }
        match parameter_kind {
            _ if modifier == Some(Modifier::Identifier) => {
                operands.push(token(name, parameter, &part)?);
            }
            _ if modifier == Some(Modifier::OfType) => operands.push(of_type(name, &part)?),
            _ if modifier == Some(Modifier::Text) => {
                let text = normalise(&unescape(&part));
                if text.is_empty() {
                    return Err(bad(IssueCode::Value, name, "has no value"));
                }
                operands.push(Operand::String(text));
            }
            ParameterKind::Token => operands.push(token(name, parameter, &part)?),
            ParameterKind::String => {
                let text = unescape(&part);
                let text = if modifier == Some(Modifier::Exact) {
                    text
                } else {
                    normalise(&text)
                };
                if text.is_empty() {
                    return Err(bad(IssueCode::Value, name, "has no value"));
                }
                operands.push(Operand::String(text));
            }
            ParameterKind::Date => operands.push(date_operand(name, &part)?),
            ParameterKind::Reference => {
                reference((kind, named), name, target, &unescape(&part), &mut operands)?;
            }
            ParameterKind::Uri => {
                let uri = unescape(&part);
                if modifier.is_some() && !uri.contains("://") {
                    let words = "is a URL; other URIs have nothing above or below them";
                    return Err(bad(IssueCode::Value, name, words));
                }
                operands.push(Operand::Uri(uri));
            }
            ParameterKind::Number => {
                let (prefix, rest) = prefixed(name, &part)?;
                let value = written(name, rest)?.asked(None);
                let value = value.ok_or_else(|| out_of_range(name))?;
                operands.push(Operand::Number {
                    prefix,
                    value: Box::new(value),
                });
            }
            ParameterKind::Quantity => operands.push(quantity(name, &part)?),
            ParameterKind::Composite => {
                operands.push(composite::operand(kind, name, parameter, &part)?);
            }
            ParameterKind::Special => operands.push(Operand::Near(Near::parse(name, &part)?)),
        }
        if operands.len() > OPERANDS_MAX {
            return Err(bad(
                IssueCode::TooLong,
                name,
                format!("has more than {OPERANDS_MAX} alternatives"),
            ));
        }
    }
    Ok(Clause {
        parameter: parameter.to_owned(),
        own: named.own().cloned(),
        kind: parameter_kind,
        modifier,
        operands,
    })
}

/// The modifiers that parameters of a type take; those of references take types' names as well.
#[must_use]
pub fn modifiers(kind: ParameterKind) -> &'static [&'static str] {
    match kind {
        ParameterKind::Token => &[
            "not", "text", "in", "not-in", "above", "below", "of-type", "missing",
        ],
        ParameterKind::String => &["exact", "contains", "missing"],
        ParameterKind::Reference => &["identifier", "missing"],
        ParameterKind::Uri => &["above", "below", "missing"],
        ParameterKind::Date
        | ParameterKind::Number
        | ParameterKind::Quantity
        | ParameterKind::Composite
        | ParameterKind::Special => &["missing"],
    }
}

/// Whether a parameter's values can be identifiers.
fn has_identifiers(kind: ResourceType, parameter: &Named) -> bool {
    let of = |parameter: &Compiled| {
        let mut plans = parameter.plans.iter();
        plans.any(|plan| plan.leaves().contains(&Leaf::Identifier))
    };
    match parameter {
        Named::Standard(name) => (facts::search(kind).position(name))
            .and_then(|place| compiled(kind).get(place))
            .is_some_and(of),
        Named::Own(own) => of(own.compiled()),
    }
}

/// What a token's code is of: a value set by its URL or as `ValueSet/id`, or `system|code`.
fn codes_of(name: &str, way: &str, part: &str) -> Result<CodesOf, OperationOutcome> {
    if matches!(way, "in" | "not-in") {
        let url = unescape(part);
        let is_own =
            Reference::relative(&url).is_some_and(|(kind, _)| kind == ResourceType::ValueSet);
        if !is_own && !url.contains(':') {
            let words = "is the canonical URL of a ValueSet, or `ValueSet/id`";
            return Err(bad(IssueCode::Value, name, words));
        }
        return Ok(CodesOf::ValueSet(url));
    }
    let sides: Vec<String> = split(part, '|').iter().map(|side| unescape(side)).collect();
    match <[String; 2]>::try_from(sides) {
        Ok([system, code]) if !system.is_empty() && !code.is_empty() => Ok(if way == "above" {
            CodesOf::Above { system, code }
        } else {
            CodesOf::Below { system, code }
        }),
        _ => {
            let words = "is `system|code`: what is above or below a code, its system says";
            Err(bad(IssueCode::Value, name, words))
        }
    }
}

/// `system|code|value`
fn of_type(name: &str, part: &str) -> Result<Operand, OperationOutcome> {
    let sides: Vec<String> = split(part, '|').iter().map(|side| unescape(side)).collect();
    match <[String; 3]>::try_from(sides) {
        Ok([system, code, value])
            if !system.is_empty() && !code.is_empty() && !value.is_empty() =>
        {
            Ok(Operand::OfType {
                system,
                code,
                value,
            })
        }
        _ => {
            let words =
                "is `system|code|value`: system and code of the identifier's type, and its value";
            Err(bad(IssueCode::Value, name, words))
        }
    }
}

/// Splits where a character stands without a backslash before it; escapes stay as they are.
pub(super) fn split(text: &str, at: char) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut escaped = false;
    for c in text.chars() {
        if c == at && !escaped {
            parts.push(String::new());
            continue;
        }
        escaped = c == '\\' && !escaped;
        if let Some(part) = parts.last_mut() {
            part.push(c);
        }
    }
    parts
}

/// Takes the backslashes of `\,` `\|` `\$` and `\\` away.
pub(super) fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('\\', Some(next @ (',' | '|' | '$' | '\\'))) => {
                plain.push(*next);
                chars.next();
            }
            _ => plain.push(c),
        }
    }
    plain
}

fn token(name: &str, parameter: &str, part: &str) -> Result<Operand, OperationOutcome> {
    let mut sides = split(part, '|').into_iter().map(|side| unescape(&side));
    let (first, second, more) = (sides.next().unwrap_or_default(), sides.next(), sides.next());
    let operand = match (first, second, more) {
        (code, None, _) => Operand::Token {
            system: None,
            code: Some(code),
        },
        (system, Some(code), None) if !(system.is_empty() && code.is_empty()) => Operand::Token {
            system: Some(system),
            code: Some(code).filter(|code| !code.is_empty()),
        },
        _ => {
            return Err(bad(
                IssueCode::Value,
                name,
                "is `code`, `system|code`, `|code` or `system|`",
            ));
        }
    };
    if parameter == "_id"
        && !matches!(&operand, Operand::Token { system: None, code: Some(id) } if is_id(id))
    {
        return Err(bad(
            IssueCode::Value,
            name,
            "is a logical id: 1 to 64 letters, digits, `-` and `.`",
        ));
    }
    Ok(operand)
}

/// The prefix of a value and the rest.
fn prefixed<'a>(name: &str, part: &'a str) -> Result<(Prefix, &'a str), OperationOutcome> {
    let (prefix, rest) = match part.as_bytes() {
        [b'a'..=b'z', b'a'..=b'z', ..] => part.split_at(2),
        _ => ("eq", part),
    };
    let prefix = match prefix {
        "eq" => Prefix::Eq,
        "ne" => Prefix::Ne,
        "gt" => Prefix::Gt,
        "lt" => Prefix::Lt,
        "ge" => Prefix::Ge,
        "le" => Prefix::Le,
        "sa" => Prefix::Sa,
        "eb" => Prefix::Eb,
        "ap" => Prefix::Ap,
        _ => {
            return Err(bad(
                IssueCode::NotSupported,
                name,
                "has a prefix that is not supported; known are eq, ne, gt, lt, ge, le, sa, eb, ap",
            ));
        }
    };
    Ok((prefix, rest))
}

fn written(name: &str, text: &str) -> Result<Written, OperationOutcome> {
    // In a URL that isn't escaped as it should be, a leading `+` arrives as a space.
    Written::parse(text.trim_start_matches(' ')).ok_or_else(|| {
        bad(
            IssueCode::Value,
            name,
            "begins with a number as FHIR writes it, such as 100, 5.40 or 1e-3",
        )
    })
}

fn out_of_range(name: &str) -> OperationOutcome {
    bad(IssueCode::Value, name, "is too great or too small a number")
}

/// `number`, `number|system|code` or `number||code`.
fn quantity(name: &str, part: &str) -> Result<Operand, OperationOutcome> {
    let sides: Vec<String> = split(part, '|').iter().map(|side| unescape(side)).collect();
    let (text, unit) = match sides.as_slice() {
        [text] => (text, None),
        [text, system, code] if !code.is_empty() => (text, Some((system, code))),
        _ => {
            return Err(bad(
                IssueCode::Value,
                name,
                "is `number`, `number|system|code` or `number||code`",
            ));
        }
    };
    let (prefix, rest) = prefixed(name, text)?;
    let written = written(name, rest)?;
    let unit = match unit {
        None => None,
        Some((system, code)) => {
            let canonical = (system.is_empty() || system == UCUM)
                .then(|| Canonical::of(code))
                .flatten();
            let canonical = match canonical {
                None => None,
                Some(canonical) => {
                    let value = written.asked(Some(&canonical));
                    let value = value.ok_or_else(|| out_of_range(name))?;
                    Some((canonical.unit.clone(), value))
                }
            };
            Some(Box::new(UnitAsked {
                system: Some(system.clone()).filter(|system| !system.is_empty()),
                code: code.clone(),
                canonical,
            }))
        }
    };
    Ok(Operand::Quantity {
        prefix,
        value: Box::new(written.asked(None).ok_or_else(|| out_of_range(name))?),
        unit,
    })
}

fn date_operand(name: &str, part: &str) -> Result<Operand, OperationOutcome> {
    let (prefix, rest) = prefixed(name, part)?;
    // In a URL that isn't escaped as it should be, the `+` of a zone arrives as a space.
    let date = date::parse(rest).or_else(|| date::parse(&rest.replace(' ', "+")));
    let date = date.ok_or_else(|| {
        bad(
            IssueCode::Value,
            name,
            "is a date as FHIR writes it, such as 2026, 2026-11-26 or 2026-11-26T19:23:32Z",
        )
    })?;
    Ok(Operand::Date {
        prefix,
        start_ms: date.start_ms,
        end_ms: date.end_ms,
    })
}

fn reference(
    (kind, parameter): (ResourceType, &Named),
    name: &str,
    target: Option<ResourceType>,
    text: &str,
    operands: &mut Vec<Operand>,
) -> Result<(), OperationOutcome> {
    let targets = parameter.targets(kind);
    let possible = |kind: ResourceType| match targets {
        Targets::Any => true,
        Targets::Some(list) => list.contains(&kind),
    };
    let mut literal = |kind: ResourceType, id: &str| {
        operands.push(Operand::Reference {
            kind: Some(kind),
            id: id.to_owned(),
            url: None,
        });
    };
    if let Some(target) = target.filter(|target| !possible(*target)) {
        return Err(bad(
            IssueCode::Value,
            name,
            format!("can't refer to {target}"),
        ));
    }
    if let Some((found, id)) = Reference::relative(text) {
        if target.is_some_and(|target| target != found) || !possible(found) {
            return Err(bad(
                IssueCode::Value,
                name,
                format!("can't refer to {found} here"),
            ));
        }
        literal(found, id);
        return Ok(());
    }
    if text.contains(':') {
        operands.push(Operand::Reference {
            kind: None,
            id: String::new(),
            url: Some(text.to_owned()),
        });
        return Ok(());
    }
    if !is_id(text) {
        return Err(bad(
            IssueCode::Value,
            name,
            "is an id, `Type/id` or an absolute URL",
        ));
    }
    match (target, targets) {
        (Some(target), _) => literal(target, text),
        (None, Targets::Some(list)) => list.iter().for_each(|kind| literal(*kind, text)),
        (None, Targets::Any) => {
            return Err(bad(
                IssueCode::Value,
                name,
                "can refer to any type, so it needs one: `Type/id`",
            ));
        }
    }
    Ok(())
}
