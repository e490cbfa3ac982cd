//! Why a search takes what it takes: what the record's `$explain` tells, as a page.

use fhir::ResourceType;
use maud::{Markup, html};
use record::{Answer, RecordError};
use serde_json::Value;

use super::{failed, issues, json};
use crate::error::PageError;
use crate::layout::{self, State};

/// Parameters of a name, of an answer or of one of its parameters.
pub(super) fn named<'a>(of: &'a Value, name: &'a str) -> impl Iterator<Item = &'a Value> {
    let list = of["parameter"].as_array().or(of["part"].as_array());
    list.into_iter()
        .flatten()
        .filter(move |one| one["name"] == name)
}

fn value<'a>(of: &'a Value, name: &'a str) -> Option<&'a Value> {
    let members = named(of, name).next()?.as_object()?;
    let mut values = members
        .iter()
        .filter(|(member, _)| member.starts_with("value"));
    values.next().map(|(_, value)| value)
}

pub(super) fn text<'a>(of: &'a Value, name: &'a str) -> &'a str {
    value(of, name).and_then(Value::as_str).unwrap_or_default()
}

pub(super) fn number(of: &Value, name: &str) -> u64 {
    value(of, name).and_then(Value::as_u64).unwrap_or_default()
}

fn is_true(of: &Value, name: &str) -> bool {
    value(of, name).and_then(Value::as_bool).unwrap_or_default()
}

/// `code:not`
fn with_modifier(clause: &Value) -> String {
    match text(clause, "modifier") {
        "" => text(clause, "parameter").to_owned(),
        modifier => format!("{}:{modifier}", text(clause, "parameter")),
    }
}

/// How a clause is answered: shape and word.
fn way(clause: &Value) -> Markup {
    match text(clause, "way") {
        "lists" => layout::state(State::Done, "Looked up"),
        "lists-taken-away" => layout::state(State::Done, "Left out"),
        "place" => layout::state(State::Done, "By time"),
        _ => layout::state(State::Waiting, "Checked one by one"),
    }
}

fn clauses(told: &Value) -> Markup {
    html! {
        div class="scroll" {
            table {
                caption { "How each parameter is answered" }
                thead { tr { th scope="col" { "Parameter" } th scope="col" { "Type" } th scope="col" class="number" { "Values" } th scope="col" { "Answered" } th scope="col" { "How" } } }
                tbody {
                    @for clause in named(told, "clause") {
                        tr {
                            th scope="row" class="mono" { (with_modifier(clause)) }
                            td { (text(clause, "type")) }
                            td class="number" { (layout::thousands(number(clause, "values"))) }
                            td class="nowrap" { (way(clause)) }
                            td class="wrap" { (text(clause, "words")) }
                        }
                    }
                }
            }
        }
    }
}

/// A chained parameter, in words.
fn link(link: &Value) -> String {
    let types: Vec<&str> = named(link, "type")
        .filter_map(|one| one["valueCode"].as_str())
        .collect();
    let inner: Vec<String> = named(link, "clause")
        .map(with_modifier)
        .chain(named(link, "link").map(self::link))
        .collect();
    let (parameter, types) = (text(link, "parameter"), types.join(", "));
    let inner = inner.join(", ");
    if is_true(link, "reverse") {
        format!("what refers to it by {parameter}: {types}, by {inner}")
    } else {
        format!("what it refers to by {parameter}: {types}, by {inner}")
    }
}

/// The bound of a name.
fn bound(told: &Value, name: &str) -> u64 {
    let one = named(told, "bound").find(|bound| text(bound, "name") == name);
    one.map_or(0, |bound| number(bound, "value"))
}

fn opened(told: &Value, name: &str, words: &str) -> Markup {
    html! {
        @if let Some(opened) = named(told, name).next() {
            dt { (words) }
            dd {
                (layout::thousands(number(opened, "matched") + number(opened, "turned-down")))
                span class="quiet" {
                    ": " (layout::thousands(number(opened, "matched"))) " matched, "
                    (layout::thousands(number(opened, "turned-down"))) " turned down by the check"
                }
            }
        }
    }
}

fn cost(told: &Value) -> Markup {
    let time = named(told, "time").next();
    let ms = time.and_then(|time| time["valueQuantity"]["value"].as_f64());
    html! {
        dl class="facts" {
            @if let Some(result) = named(told, "result").next() {
                dt { "First page" }
                dd {
                    (layout::count_of(usize::try_from(number(result, "rows")).unwrap_or(usize::MAX), "resource"))
                    @if number(result, "included") > 0 { ", and " (layout::thousands(number(result, "included"))) " included" }
                    @if is_true(result, "more") { ", with a next page" }
                }
                dt { "Total" }
                dd {
                    @match value(result, "total").and_then(Value::as_u64) {
                        Some(total) => { (layout::thousands(total)) span class="quiet" { ", exact" } },
                        None => "not counted; ask for it by _total=accurate",
                    }
                }
            }
            (opened(told, "opened", "Opened"))
            dt { "Bound" }
            dd { (layout::thousands(bound(told, "candidates"))) " candidates; to be sorted, " (layout::thousands(bound(told, "sorted"))) " matches" }
            @if let Some(ms) = ms {
                dt { "Time" }
                dd { (format!("{ms:.1}")) " ms" span class="quiet" { ", with its record in the audit" } }
            }
        }
    }
}

fn told(kind: ResourceType, told: &Value) -> Markup {
    let has_clauses = named(told, "clause").next().is_some();
    html! {
        section class="section stack" aria-labelledby="explained" {
            h2 id="explained" { "How " (kind.name()) " is searched" }
            @for outcome in named(told, "outcome") { (issues("It is too costly as it stands", &outcome["resource"])) }
            p {
                // Names stand between backticks.
                @for (place, part) in text(told, "plan").split('`').enumerate() {
                    @if place % 2 == 1 { code { (part) } } @else { (part) }
                }
            }
            @if has_clauses { (clauses(told)) }
            @for one in named(told, "link") { p { "First followed: " (link(one)) "." } }
            (cost(told))
            p class="quiet" { "Rows that you may not see are in none of these numbers." }
        }
    }
}

/// What a search does, or what is wrong with it.
pub(super) fn outcome(
    kind: ResourceType,
    answer: Result<Answer, RecordError>,
) -> Result<Markup, PageError> {
    match answer {
        Ok(answer) => Ok(told(kind, &json(&answer)?)),
        Err(error) if matches!(error.status, 400 | 413 | 422 | 501) => Ok(issues(
            "This can't be searched for",
            error.outcome.to_resource().as_value(),
        )),
        Err(error) => Err(failed(error)),
    }
}
