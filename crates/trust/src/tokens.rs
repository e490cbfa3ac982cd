//! From search values to blind tokens, and from queries to blind queries.
//!
//! | search type | tokens of a value | asked by |
//! |---|---|---|
//! | token | `name` = code | `code`; `system\|code`, whose system is left to the check |
//! | string | `name^` = each beginning of 1 to 8 characters of the normalised text (see [`crate::indexing`]) | beginnings, and `:exact` by its first 8 |
//! | date | the day of the first and the last millisecond, at several precisions: `name@` if they are the same, else `name<` and `name>` | all prefixes but `ne`, by ranges of days |
//! | composite | none of its own | the tokens of all its parts; that these stand in one element is left to the check |
//! | special (`near`) | none | – |
//! | reference | `name/` = `Type/id`, or the URL | either |
//! | uri | `name:` = the URI | equality |
//! | number | `name#@` = the place of the number among all numbers, at four precisions; of a range `name#<` that of its lower and `name#>` that of its upper end | all prefixes but `ne` |
//! | quantity in UCUM | the same of the value in the canonical unit, which is part of the name; of the value as it is written two of the four precisions; `name;~` = the unit's words if they aren't its code | `number` by these two, `number\|system\|code` and `number\|\|code` by the canonical unit or by words |
//! | other quantity | the same of the value, with `name;` = the unit's code and words and, with a system, `name;\|` = system and code | `number`, `number\|system\|code`, `number\|\|code` |
//!
//! Besides, every document of a patient has the patient's id under [`OWNER`], one that could be of a patient
//! and is of none has [`OWNERLESS`], a consent that may restrict access has [`DENIES`], an audit event of what a patient did themselves has their id under [`OWN_ACT`], and a document whose id was derived from a name has what is the same
//! for any owner under [`TWINS`]. Patients and those who are related to them are found by the last digits of their telephone numbers under [`NUMBER`]. A clause that tokens can't answer (`:contains`, `:missing`, `:text`,
//! `:identifier`, `:below`, `system|`, `ne`, `_source`) is left to the check on the opened body, which is made for every hit anyway.
//!
//! A token costs some ten bytes on disk and a part of every merge, so what is known otherwise has none:
//! an `_id` is looked up by the document's own name; a reference to the patient whom a document belongs
//! to is its [`OWNER`] (an audit event has each of its patients there, once: a transaction can have
//! 5,000); a parameter that says no more than others is asked for by those; and what
//! nearly every audit event says is left to the check. Documents that programs
//! before wrote have all of these tokens, which harms nothing.
mod event;
mod light;
mod own;
mod several;

use fhir::search::{
    Asked, Clause, Condition, IndexValue, Modifier, Operand, POSITION_MAX, ParameterKind, Prefix,
    Quantity, SearchQuery, Span, UnitAsked, above, can_be_of_patient, index_of, normalise,
};
use fhir::{Resource, ResourceType};
use ledger::{Kind, Ledger, Number, Query, TenantId, Token};
use serde_json::Value;

use crate::Way;
use crate::indexing::{
    CODED, Measure, WORDS, WORDS_BESIDE_CODE, all_but, answered_by, beginnings, ends, in_unit,
    indexed, is_common, measures, pair,
};

pub(crate) use event::{Unexplained, leave_out_own_acts, of_event};
pub(crate) use light::{ROWS_MAX, lighter, looser};
pub(crate) use own::{all, bare, mark, of_one, of_owns, unmarked};
pub(crate) use several::{LEFT_OUT_MAX, Whose, plan_all};

/// The parameter of the patient's id.
pub(crate) const OWNER: &str = "~patient";
/// The parameter of documents that are nobody's in particular, of types that can be somebody's.
const OWNERLESS: &str = "~nobody";
/// The parameter of derived ids without their first two digits, the shard.
const TWINS: &str = "~twins";
/// The parameter of the last digits of somebody's telephone numbers, however these are written.
const NUMBER: &str = "~number";
/// The parameter of audit events of accesses that nothing explains.
const RELATION: &str = "~relationship";
/// The parameter of audit events of what a patient did themselves, by no application.
const OWN_ACT: &str = "~own-act";
/// The parameter of consents that may restrict access. Servers of before ask for it.
const DENIES: &str = "~denies-access";

/// Those who are found by their numbers.
pub(crate) const PERSONS: [ResourceType; 2] = [ResourceType::Patient, ResourceType::RelatedPerson];
/// How many of the last digits of a number it is found by: those of a subscriber, without area and country.
const NUMBER_DIGITS: usize = 7;

/// Days outside 1696 to 2243 count as the first or last of these, so that open periods have a place.
const DAYS_MAX: i64 = 100_000;
/// Where a range of numbers without an end ends: beyond all positions, at the bounds of the widest cells, so
/// that it takes none of the narrow ones there.
const OPEN_LOW: i64 = -90_112;
const OPEN_HIGH: i64 = 90_111;
const _: () = assert!(OPEN_LOW < -POSITION_MAX && POSITION_MAX < OPEN_HIGH);
/// The most tokens that one clause may ask for, save what another search has found; the ledger takes 4,096
/// a query.
const CLAUSE_TOKENS_MAX: usize = 1600;
pub(crate) const QUERY_TOKENS_MAX: usize = 4000;

/// The ledger's number of a resource type.
pub(crate) fn kind(kind: ResourceType) -> Kind {
    Kind(kind.code())
}

fn day(ms: i64) -> i64 {
    fhir::date::day(ms).clamp(-DAYS_MAX, DAYS_MAX)
}

/// By which precisions a number has tokens or is asked for.
#[derive(Clone, Copy)]
enum Reach {
    Precise,
    /// Two of the precise ones.
    Rough,
}

/// Makes tokens of one kind.
struct Maker<'a> {
    ledger: &'a Ledger,
    tenant: TenantId,
    kind: Kind,
    /// Of queries: whether documents that may not be in the index by parameters of one's own are among the
    /// candidates.
    unmarked: bool,
}

impl Maker<'_> {
    fn one(&self, parameter: &str, way: &str, value: &str) -> Token {
        let name = format!("{parameter}{way}");
        self.ledger.token(self.tenant, self.kind, &name, value)
    }
    fn days(&self, parameter: &str, way: &str, day: i64) -> Vec<Token> {
        let name = format!("{parameter}{way}");
        self.ledger.range_tokens(self.tenant, self.kind, &name, day)
    }
    /// The tokens of a number or a range of numbers.
    fn span(&self, parameter: &str, span: &Span, reach: Reach) -> Vec<Token> {
        let of = |(way, position): (&str, i64)| {
            let name = format!("{parameter}{way}");
            let make = match reach {
                Reach::Precise => Ledger::coarse_range_tokens,
                Reach::Rough => Ledger::rough_range_tokens,
            };
            make(self.ledger, self.tenant, self.kind, &name, position)
        };
        ends(span).flat_map(of).collect()
    }
    fn positions(
        &self,
        (parameter, reach): (&str, Reach),
        way: &str,
        low: i64,
        high: i64,
    ) -> Option<Query> {
        let name = format!("{parameter}#{way}");
        let make = match reach {
            Reach::Precise => Ledger::coarse_range_query,
            Reach::Rough => Ledger::rough_range_query,
        };
        make(self.ledger, self.tenant, self.kind, &name, low, high)
    }
    fn range(&self, parameter: &str, way: &str, low: i64, high: i64) -> Option<Query> {
        let name = format!("{parameter}{way}");
        self.ledger
            .range_query(self.tenant, self.kind, &name, low, high)
    }
}

/// Whether [`OWNER`] alone answers a reference parameter of this kind of document to this type.
fn by_owner(kind: Kind, parameter: &str, target: ResourceType) -> bool {
    kind == self::kind(ResourceType::AuditEvent)
        && target == ResourceType::Patient
        && matches!(parameter, "patient" | "entity")
}

/// What ids derived from one name for several owners have in common; nothing for other ids.
fn common_part(kind: ResourceType, id: &str) -> Option<&str> {
    // A patient is its own owner. Ids derived by a keyed hash are UUIDs of version 8 (RFC 9562).
    let derived = kind != ResourceType::Patient && id.len() == 36 && id.as_bytes()[14] == b'8';
    id.get(2..).filter(|_| derived)
}

/// Documents of a kind whose ids may be derived from the same name as this one.
pub(crate) fn twins(
    ledger: &Ledger,
    tenant: TenantId,
    kind: ResourceType,
    id: &str,
) -> Option<Query> {
    let part = common_part(kind, id)?;
    Some(Query::Token(ledger.token(
        tenant,
        self::kind(kind),
        TWINS,
        part,
    )))
}

/// The tokens that a resource is found by.
pub(crate) fn of(ledger: &Ledger, tenant: TenantId, resource: &Resource) -> Vec<Token> {
    let make = Maker {
        ledger,
        tenant,
        kind: kind(resource.kind()),
        unmarked: false,
    };
    let owner = match resource.kind() {
        ResourceType::AuditEvent => None,
        _ => resource.patient(),
    };
    let is_owner =
        |target: ResourceType, id: &str| target == ResourceType::Patient && owner == Some(id);
    let mut tokens = Vec::with_capacity(32);
    for entry in index_of(resource, |name| indexed(resource.kind(), name)) {
        let name = entry.parameter;
        of_value(
            &make,
            resource.kind(),
            name,
            entry.value,
            &is_owner,
            &mut tokens,
        );
    }
    if resource.kind() == ResourceType::AuditEvent {
        tokens.extend(crate::audit::patients(resource).map(|patient| make.one(OWNER, "", patient)));
        tokens.extend(crate::audit::own_act(resource).map(|who| make.one(OWN_ACT, "", who)));
        let told = crate::audit::relations(resource).map(|(_, told)| told);
        tokens.extend(event::unexplained(&make, told));
    } else if let Some(patient) = owner {
        tokens.push(make.one(OWNER, "", patient));
    } else if can_be_of_patient(resource.kind()) {
        tokens.push(make.one(OWNERLESS, "", ""));
    }
    if let Some(part) = resource
        .id()
        .and_then(|id| common_part(resource.kind(), id))
    {
        tokens.push(make.one(TWINS, "", part));
    }
    if resource.kind() == ResourceType::Consent && crate::consent::may_deny_access(resource) {
        tokens.push(make.one(DENIES, "", ""));
    }
    if PERSONS.contains(&resource.kind()) {
        tokens.extend(numbers(resource).map(|digits| make.one(NUMBER, "", &digits)));
    }
    tokens.sort_unstable();
    tokens.dedup();
    tokens
}

/// What a number is found by: its last digits, which are there whether or not it is written with its country.
fn last_digits(number: &str) -> Option<String> {
    let digits: String = number.chars().filter(char::is_ascii_digit).collect();
    let from = digits.len().checked_sub(NUMBER_DIGITS)?;
    digits.get(from..).map(str::to_owned)
}

/// What the numbers of somebody are found by.
fn numbers(person: &Resource) -> impl Iterator<Item = String> {
    let telecoms = person.get("telecom").and_then(Value::as_array);
    let numbers = telecoms.into_iter().flatten().filter(|telecom| {
        let system = telecom.get("system").and_then(Value::as_str);
        matches!(system, Some("phone" | "sms"))
    });
    numbers.filter_map(|telecom| last_digits(telecom.get("value")?.as_str()?))
}

/// Who of a type may have a number: those with its last digits, and those whom programs of before wrote with one of
/// these forms of it.
pub(crate) fn of_number(
    ledger: &Ledger,
    tenant: TenantId,
    kind: ResourceType,
    number: &str,
    forms: &[String],
) -> Option<Query> {
    let make = Maker {
        ledger,
        tenant,
        kind: self::kind(kind),
        unmarked: false,
    };
    let digits = last_digits(number)?;
    let forms = forms.iter().map(|form| make.one("telecom", "", form));
    let all = std::iter::once(make.one(NUMBER, "", &digits)).chain(forms);
    Some(Query::Or(all.map(Query::Token).collect()))
}

/// Adds the tokens of one value. `is_owner` says whether a reference is to the document's own patient.
fn of_value(
    make: &Maker<'_>,
    kind: ResourceType,
    name: &str,
    value: IndexValue,
    is_owner: &dyn Fn(ResourceType, &str) -> bool,
    tokens: &mut Vec<Token>,
) {
    match value {
        IndexValue::Token { code, .. } => {
            if !is_common(kind, name, &code) {
                tokens.push(make.one(name, "", &code));
            }
        }
        IndexValue::String(text) => {
            for beginning in beginnings(kind, &text) {
                tokens.push(make.one(name, "^", beginning));
            }
        }
        IndexValue::Date { start_ms, end_ms } => {
            let (first, last) = (day(start_ms), day(end_ms.saturating_sub(1)));
            if first == last {
                tokens.extend(make.days(name, "@", first));
            } else {
                tokens.extend(make.days(name, "<", first));
                tokens.extend(make.days(name, ">", last));
            }
        }
        IndexValue::Reference(reference) => {
            let by_owner = fhir::Reference::relative(&reference).is_some_and(|(target, id)| {
                by_owner(make.kind, name, target) || is_owner(target, id)
            });
            if !by_owner {
                tokens.push(make.one(name, "/", &reference));
            }
        }
        IndexValue::Uri(uri) => tokens.push(make.one(name, ":", &uri)),
        IndexValue::Number(span) => tokens.extend(make.span(name, &span, Reach::Precise)),
        IndexValue::Quantity(quantity) => tokens.extend(of_quantity(make, name, &quantity)),
    }
}

/// At most seven tokens for a point that has a canonical unit, 13 for a range.
fn of_quantity(make: &Maker<'_>, name: &str, quantity: &Quantity<String>) -> Vec<Token> {
    let of = |measure| match measure {
        Measure::Precise(name, span) => make.span(&name, span, Reach::Precise),
        Measure::Rough(name, span) => make.span(&name, span, Reach::Rough),
        Measure::Words(name, words) => vec![make.one(&name, "", &words)],
    };
    measures(name, quantity).into_iter().flat_map(of).collect()
}

/// A query as the ledger can answer it: its hits hold all matches, and maybe more.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) query: Query,
    /// Exclusive.
    pub(crate) before: Option<Number>,
    /// Inclusive.
    pub(crate) since: Option<Number>,
    /// What is asked instead of rows above a number, where not all are in the index by all that is asked.
    pub(crate) recent: Option<(Number, Query)>,
}

impl Plan {
    /// What is asked of the newest rows; of all others it finds as much, or more.
    pub(crate) fn recently(&self) -> &Query {
        self.recent.as_ref().map_or(&self.query, |(_, query)| query)
    }
}

/// Documents of a kind that belong to a patient.
pub(crate) fn of_patient(
    ledger: &Ledger,
    tenant: TenantId,
    kind: ResourceType,
    patient: &str,
) -> Query {
    let make = Maker {
        ledger,
        tenant,
        kind: self::kind(kind),
        unmarked: false,
    };
    Query::Token(make.one(OWNER, "", patient))
}

/// Plans a query. `only_patient` narrows it to documents of a patient.
pub(crate) fn plan(
    ledger: &Ledger,
    tenant: TenantId,
    query: &SearchQuery,
    only_patient: Option<&str>,
) -> Plan {
    plan_within(ledger, tenant, query, only_patient, QUERY_TOKENS_MAX)
}

/// Plans a query with so many tokens at most.
pub(crate) fn plan_within(
    ledger: &Ledger,
    tenant: TenantId,
    query: &SearchQuery,
    only_patient: Option<&str>,
    left: usize,
) -> Plan {
    plan_told(ledger, tenant, query, only_patient, left, |_, _| {})
}

/// The same, telling of each clause what has become of it.
pub(crate) fn plan_told(
    ledger: &Ledger,
    tenant: TenantId,
    query: &SearchQuery,
    only_patient: Option<&str>,
    left: usize,
    mut told: impl FnMut(&Clause, Way),
) -> Plan {
    let mut plan = plan_of(
        ledger,
        tenant,
        query,
        (only_patient, left),
        false,
        &mut told,
    );
    if let Some(through) = own::indexed_through(query) {
        let of_all = (only_patient, left);
        let recent = plan_of(ledger, tenant, query, of_all, true, &mut |_, _| {});
        plan.recent = Some((through, recent.query));
    }
    plan
}

/// Plans a query; where rows may not be in the index by parameters of one's own (`unmarked`), those that
/// aren't are among the candidates.
fn plan_of(
    ledger: &Ledger,
    tenant: TenantId,
    query: &SearchQuery,
    (only_patient, mut left): (Option<&str>, usize),
    unmarked: bool,
    told: &mut dyn FnMut(&Clause, Way),
) -> Plan {
    let make = Maker {
        ledger,
        tenant,
        kind: kind(query.kind),
        unmarked,
    };
    let mut plan = Plan {
        query: Query::Token(ledger.kind_token(tenant, make.kind)),
        before: None,
        since: None,
        recent: None,
    };
    let mut with = Vec::new();
    let mut without = Vec::new();
    if let Some(patient) = only_patient {
        with.push(Query::Token(make.one(OWNER, "", patient)));
    }
    for clause in &query.clauses {
        if clause.parameter == "_lastUpdated" {
            narrow(&mut plan, clause);
            told(clause, Way::Place);
            continue;
        }
        if let Some(part) = failures(&make, query.kind, clause) {
            told(clause, Way::Lists(count(&part)));
            with.push(part);
            continue;
        }
        let Some(part) = clause_query_since(&make, query.kind, clause) else {
            told(clause, Way::Check);
            continue;
        };
        let tokens = count(&part);
        let is_set = matches!(clause.operands.as_slice(), [Operand::Resources(_)]);
        if tokens > left || (tokens > CLAUSE_TOKENS_MAX && !is_set) {
            told(clause, Way::TooManyLists(tokens));
            continue;
        }
        left -= tokens;
        if clause.modifier == Some(Modifier::Not) {
            told(clause, Way::ListsTakenAway(tokens));
            without.push(part);
        } else {
            told(clause, Way::Lists(tokens));
            with.push(part);
        }
    }
    for condition in &query.conditions {
        let asked = Clause::of_condition();
        let Some(part) = condition_query(&make, query.kind, condition) else {
            told(&asked, Way::Check);
            continue;
        };
        let tokens = count(&part);
        if tokens > left.min(CLAUSE_TOKENS_MAX) {
            told(&asked, Way::TooManyLists(tokens));
            continue;
        }
        left -= tokens;
        told(&asked, Way::Lists(tokens));
        with.push(part);
    }
    if with.len() == 1
        && let Some(one) = with.pop()
    {
        plan.query = one;
    } else if !with.is_empty() {
        plan.query = Query::And(with);
    }
    if !without.is_empty() {
        plan.query = Query::Without(Box::new(plan.query), Box::new(Query::Or(without)));
    }
    plan
}

pub(crate) fn count(query: &Query) -> usize {
    match query {
        Query::Token(_) | Query::Document(..) => 1,
        Query::And(parts) | Query::Or(parts) => parts.iter().map(count).sum(),
        Query::Without(with, without) => count(with) + count(without),
        Query::Below(_, query) | Query::Maybe(query) => count(query),
    }
}

fn any(mut parts: Vec<Query>) -> Option<Query> {
    match parts.len() {
        0 => None,
        1 => parts.pop(),
        _ => Some(Query::Or(parts)),
    }
}

/// What holds for all that a condition holds for; `None` when tokens can't say.
fn condition_query(make: &Maker<'_>, kind: ResourceType, condition: &Condition) -> Option<Query> {
    match condition {
        Condition::Clause(clause) => match failures(make, kind, clause) {
            None if clause.modifier == Some(Modifier::Not) => None,
            None => clause_query_since(make, kind, clause),
            found => found,
        },
        Condition::All(parts) => {
            let known = parts
                .iter()
                .filter_map(|part| condition_query(make, kind, part));
            let mut known: Vec<Query> = known.collect();
            match known.len() {
                0 => None,
                1 => known.pop(),
                _ => Some(Query::And(known)),
            }
        }
        Condition::Any(parts) => {
            let known = parts.iter().map(|part| condition_query(make, kind, part));
            any(known.collect::<Option<Vec<Query>>>()?)
        }
        Condition::Not(_) | Condition::Link(_) => None,
    }
}

/// As [`clause_query`], also for documents of before some values had tokens.
fn clause_query_since(make: &Maker<'_>, kind: ResourceType, clause: &Clause) -> Option<Query> {
    let part = clause_query(make, kind, clause)?;
    let since = make.ledger.indexed_since();
    let is_new = matches!(clause.kind, ParameterKind::Number | ParameterKind::Quantity);
    // What documents have by parameters of one's own, their marks say.
    if !is_new || clause.own.is_some() || since == Number(0) {
        return Some(part);
    }
    // What no token says of older documents, the check on the opened body says.
    let every = Query::Token(make.ledger.kind_token(make.tenant, make.kind));
    Some(Query::Or(vec![part, Query::Below(since, Box::new(every))]))
}

/// What a clause asks for that leaves out what nearly all have, if it does.
fn failures(make: &Maker<'_>, kind: ResourceType, clause: &Clause) -> Option<Query> {
    let (Some(Modifier::Not), [operand]) = (clause.modifier, clause.operands.as_slice()) else {
        return None;
    };
    let Operand::Token {
        system: None,
        code: Some(code),
    } = operand
    else {
        return None;
    };
    let others = all_but(kind, &clause.parameter, code)?;
    let tokens = (others.iter()).map(|code| Query::Token(make.one(&clause.parameter, "", code)));
    Some(Query::Or(tokens.collect()))
}

/// What holds for every match of a clause (with `:not`: for no match); `None` when tokens can't say.
fn clause_query(make: &Maker<'_>, kind: ResourceType, clause: &Clause) -> Option<Query> {
    if let Some(own) = &clause.own {
        return own::query(make, own, clause);
    }
    match clause.modifier {
        None
        | Some(
            Modifier::Exact | Modifier::Equals | Modifier::Not | Modifier::OfType | Modifier::Above,
        ) => {}
        Some(
            Modifier::Contains
            | Modifier::Missing
            | Modifier::Text
            | Modifier::Identifier
            | Modifier::Below
            | Modifier::Differs
            | Modifier::EndsWith
            | Modifier::In
            | Modifier::NotIn,
        ) => return None,
    }
    let exactly = clause.modifier == Some(Modifier::Not);
    let parameter = clause.parameter.as_str();
    let names = match answered_by(kind, parameter) {
        [] => std::slice::from_ref(&parameter),
        names => names,
    };
    let asked = names
        .iter()
        .flat_map(|name| clause.operands.iter().map(move |operand| (*name, operand)));
    let parts: Option<Vec<Query>> = asked
        .map(|(name, operand)| match operand {
            Operand::Token {
                code: Some(code), ..
            } if name == "_id" => Some(Query::Document(make.kind, code.clone())),
            Operand::Resources(resources) if name == "_id" => {
                let documents =
                    (resources.iter()).map(|(_, id)| Query::Document(make.kind, id.to_owned()));
                Some(Query::Or(documents.collect()))
            }
            _ if !indexed(kind, name) => None,
            Operand::Token {
                system,
                code: Some(code),
            } => {
                // Codes of other systems, or of any, are hits too, which for `:not` is too many.
                let exact_enough = system.is_none() || !exactly;
                (exact_enough && !is_common(kind, name, code))
                    .then(|| Query::Token(make.one(name, "", code)))
            }
            Operand::String(text) => {
                let text = normalise(text);
                let longest = beginnings(kind, &text).last();
                longest.map(|beginning| Query::Token(make.one(name, "^", beginning)))
            }
            Operand::Date {
                prefix,
                start_ms,
                end_ms,
            } => date_query(make, name, *prefix, *start_ms, *end_ms),
            Operand::About { start_ms, end_ms } => about_query(make, name, *start_ms, *end_ms),
            // Each part is there somewhere; that they are of one element is left to the check.
            Operand::Composite(parts) => {
                let known = parts
                    .iter()
                    .filter_map(|part| clause_query_since(make, kind, part));
                let known: Vec<Query> = known.collect();
                (!known.is_empty()).then_some(Query::And(known))
            }
            // Codes of other systems are hits too, which for `:not` is too many.
            Operand::Codes(codes) => {
                let few = !exactly && codes.len() <= CLAUSE_TOKENS_MAX;
                let known = few && !codes.iter().any(|(_, code)| is_common(kind, name, code));
                let each = codes.iter().map(|(_, code)| code);
                let each: std::collections::BTreeSet<&str> = each.filter(|_| known).collect();
                let tokens = each
                    .into_iter()
                    .map(|code| Query::Token(make.one(name, "", code)));
                known.then(|| Query::Or(tokens.collect()))
            }
            Operand::Near(_) | Operand::Words(_) | Operand::CodesOf(_) => None,
            Operand::Reference { url: Some(url), .. } => {
                Some(Query::Token(make.one(name, "/", url)))
            }
            Operand::Reference {
                kind: Some(kind),
                id,
                ..
            } => any(referring(make, name, *kind, id).collect()),
            Operand::Token { code: None, .. } | Operand::Reference { .. } | Operand::Missing(_) => {
                None
            }
            // Of none at all, nothing has any.
            Operand::Resources(resources) => {
                let named =
                    (resources.iter()).flat_map(|(kind, id)| referring(make, name, kind, id));
                Some(Query::Or(named.collect()))
            }
            // Whatever the type, the value is the same.
            Operand::OfType { value, .. } => Some(Query::Token(make.one(name, "", value))),
            Operand::Uri(uri) if clause.modifier == Some(Modifier::Above) => {
                let above = above(uri).into_iter();
                any(above
                    .map(|uri| Query::Token(make.one(name, ":", &uri)))
                    .collect())
            }
            Operand::Uri(uri) => Some(Query::Token(make.one(name, ":", uri))),
            Operand::Number { prefix, value } => {
                number_query(make, (name, Reach::Precise), *prefix, value)
            }
            Operand::Quantity {
                prefix,
                value,
                unit,
            } => quantity_query(make, name, *prefix, value, unit.as_deref()),
        })
        .collect();
    any(parts?)
}

/// What documents have that refer to a resource; a patient's own have it by their owner.
fn referring(
    make: &Maker<'_>,
    name: &str,
    kind: ResourceType,
    id: &str,
) -> impl Iterator<Item = Query> {
    // Tokens of one's own parameters are there for owners, too.
    let owner = kind == ResourceType::Patient && !own::is_name(name);
    let owner = owner.then(|| make.one(OWNER, "", id));
    let named =
        (!by_owner(make.kind, name, kind)).then(|| make.one(name, "/", &format!("{kind}/{id}")));
    owner.into_iter().chain(named).map(Query::Token)
}

/// Where the ends of what matches stand among all numbers.
fn number_query(
    make: &Maker<'_>,
    name: (&str, Reach),
    prefix: Prefix,
    asked: &Asked,
) -> Option<Query> {
    let at = asked.value.position();
    let (way, low, high) = match prefix {
        Prefix::Ne => return None,
        Prefix::Eq => ("<", asked.means.0.position(), asked.means.1.position()),
        Prefix::Gt | Prefix::Ge => (">", at, OPEN_HIGH),
        Prefix::Lt | Prefix::Le => ("<", OPEN_LOW, at),
        Prefix::Sa => ("<", at, OPEN_HIGH),
        Prefix::Eb => (">", OPEN_LOW, at),
        Prefix::Ap => {
            let (low, high) = (asked.near.0.position(), asked.near.1.position());
            let begun = make.positions(name, "<", OPEN_LOW, high)?;
            let range = match name.1 {
                Reach::Precise => {
                    Query::And(vec![begun, make.positions(name, ">", low, OPEN_HIGH)?])
                }
                // Ranges are rare, and the other end would take as many tokens again.
                Reach::Rough => begun,
            };
            let point = make.positions(name, "@", low, high)?;
            return Some(Query::Or(vec![point, range]));
        }
    };
    let point = make.positions(name, "@", low, high)?;
    let range = make.positions(name, way, low, high)?;
    Some(Query::Or(vec![point, range]))
}

fn quantity_query(
    make: &Maker<'_>,
    name: &str,
    prefix: Prefix,
    value: &Asked,
    unit: Option<&UnitAsked>,
) -> Option<Query> {
    // Every value has the rough tokens, and what has no canonical unit all.
    let asked = |reach| number_query(make, (name, reach), prefix, value);
    let Some(unit) = unit else {
        return asked(Reach::Rough);
    };
    let mut ways = Vec::new();
    if let Some((canonical, value)) = &unit.canonical {
        let name = in_unit(name, canonical);
        ways.push(number_query(make, (&name, Reach::Precise), prefix, value)?);
    }
    let mut named = |way: &str, text: &str, values: Query| {
        let words = Query::Token(make.one(name, way, text));
        ways.push(Query::And(vec![words, values]));
    };
    match &unit.system {
        None => {
            named(WORDS, &unit.code, asked(Reach::Precise)?);
            named(WORDS_BESIDE_CODE, &unit.code, asked(Reach::Rough)?);
        }
        // What has this very code has this canonical unit.
        Some(_) if unit.canonical.is_some() => {}
        Some(system) => named(CODED, &pair(system, &unit.code), asked(Reach::Precise)?),
    }
    any(ways)
}

/// Which days the first or the last millisecond of a matching period is on.
fn date_query(
    make: &Maker<'_>,
    name: &str,
    prefix: Prefix,
    start_ms: i64,
    end_ms: i64,
) -> Option<Query> {
    let last_ms = end_ms.saturating_sub(1);
    let (way, low, high) = match prefix {
        Prefix::Ne | Prefix::Ap => return None,
        Prefix::Eq => ("<", day(start_ms), day(last_ms)),
        Prefix::Gt => (">", day(end_ms), DAYS_MAX),
        Prefix::Ge => (">", day(start_ms), DAYS_MAX),
        Prefix::Lt => ("<", -DAYS_MAX, day(start_ms.saturating_sub(1))),
        Prefix::Le => ("<", -DAYS_MAX, day(last_ms)),
        Prefix::Sa => ("<", day(end_ms), DAYS_MAX),
        Prefix::Eb => (">", -DAYS_MAX, day(start_ms.saturating_sub(1))),
    };
    let same_day = make.range(name, "@", low, high)?;
    let several_days = make.range(name, way, low, high)?;
    Some(Query::Or(vec![same_day, several_days]))
}

/// Which days a period begins and ends on that has a part of this one.
fn about_query(make: &Maker<'_>, name: &str, start_ms: i64, end_ms: i64) -> Option<Query> {
    let (low, high) = (day(start_ms), day(end_ms.saturating_sub(1)));
    let several_days = Query::And(vec![
        make.range(name, "<", -DAYS_MAX, high)?,
        make.range(name, ">", low, DAYS_MAX)?,
    ]);
    Some(Query::Or(vec![
        make.range(name, "@", low, high)?,
        several_days,
    ]))
}

/// Narrows the numbers that a match can have to the widest of a clause's alternatives.
fn narrow(plan: &mut Plan, clause: &Clause) {
    // Numbers have 44 bits for milliseconds.
    let at = |ms: i64| Number::at_ms(u64::try_from(ms).unwrap_or(0).min((1 << 44) - 1));
    let mut since: Option<Number> = None;
    let mut before: Option<Number> = None;
    let mut open = (false, false);
    for operand in &clause.operands {
        let (prefix, start_ms, end_ms) = match operand {
            Operand::Date {
                prefix,
                start_ms,
                end_ms,
            } => (prefix, start_ms, end_ms),
            // A moment has no length, so to lie within it is to overlap it.
            Operand::About { start_ms, end_ms } => (&Prefix::Eq, start_ms, end_ms),
            _ => return,
        };
        let (low, high) = match prefix {
            Prefix::Eq => (Some(at(*start_ms)), Some(at(*end_ms))),
            Prefix::Ne | Prefix::Ap => (None, None),
            Prefix::Gt | Prefix::Sa => (Some(at(*end_ms)), None),
            Prefix::Ge => (Some(at(*start_ms)), None),
            Prefix::Lt | Prefix::Eb => (None, Some(at(*start_ms))),
            Prefix::Le => (None, Some(at(*end_ms))),
        };
        match low {
            Some(low) => since = Some(since.map_or(low, |since| since.min(low))),
            None => open.0 = true,
        }
        match high {
            Some(high) => before = Some(before.map_or(high, |before| before.max(high))),
            None => open.1 = true,
        }
    }
    if let (Some(since), false) = (since, open.0) {
        plan.since = Some(plan.since.map_or(since, |old| old.max(since)));
    }
    if let (Some(before), false) = (before, open.1) {
        plan.before = Some(plan.before.map_or(before, |old| old.min(before)));
    }
}

/// Whether a document of this number matches the query's `_lastUpdated`.
pub(crate) fn last_updated_matches(query: &SearchQuery, number: Number) -> bool {
    let ms = i64::try_from(number.unix_ms()).unwrap_or(i64::MAX);
    let asked = query
        .clauses
        .iter()
        .filter(|clause| clause.parameter == "_lastUpdated");
    asked.into_iter().all(|clause| {
        clause.operands.iter().any(|operand| match operand {
            Operand::Date {
                prefix,
                start_ms,
                end_ms,
            } => prefix.matches((*start_ms, *end_ms), (ms, ms.saturating_add(1))),
            Operand::About { start_ms, end_ms } => (*start_ms..*end_ms).contains(&ms),
            _ => false,
        })
    })
}
