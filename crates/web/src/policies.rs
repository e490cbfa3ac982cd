//! The policies in force, and who may do what by them: made anew for each request, from the set that decides.

use std::borrow::Cow;

use axum::response::Response;
use fhir::ResourceType;
use maud::{Markup, html};
use trust::{Action, PolicyCell, PolicyRow, PolicySet, PolicyStatus, Purpose, Role};

use crate::access;
use crate::context::{Ctx, Fields};
use crate::error::PageError;
use crate::layout::{self, Section, State, console, count_of, role_words};
use crate::time::signed;

/// The page itself.
const HERE: &str = "/console/policies";

/// A purpose in words, beside its code.
pub(crate) fn purpose_words(purpose: Purpose) -> Cow<'static, str> {
    let words = match purpose {
        Purpose::Treatment => "to treat",
        Purpose::Payment => "to be paid",
        Purpose::Operations => "to run the hospital",
        Purpose::Emergency => "in an emergency",
        Purpose::PatientRequest => "as the patient asks",
        Purpose::Research => "for research",
        Purpose::CareManagement => "to manage care",
        Purpose::Administration => "to administer",
        Purpose::Own(own) => return format!("for {}", own.display()).into(),
    };
    words.into()
}

fn name(row: &PolicyRow) -> String {
    match (row.role.has_one_record(), row.own, row.part.as_deref()) {
        (_, _, Some("")) => "any other part".to_owned(),
        (_, _, Some(part)) => part.replace('-', " "),
        (true, true, None) => format!("{}, own record", role_words(row.role)),
        (true, false, None) => format!("{}, another's record", role_words(row.role)),
        (false, _, None) => role_words(row.role).to_owned(),
    }
}

/// The question behind a cell, on the page that answers it. That page is about people and systems: parts ask by
/// themselves, and of another's record nobody is let ask who has one.
fn why(
    row: &PolicyRow,
    purpose: Purpose,
    group: &str,
    kind: Option<&ResourceType>,
    cells: &[PolicyCell],
) -> Markup {
    if row.part.is_some() || row.role.has_one_record() && !row.own {
        return html! {};
    }
    let first = cells.first();
    let kind = first.and_then(|cell| cell.kinds.first()).or(kind);
    let action = match (first, kind) {
        (Some(cell), _) => cell.actions[0],
        (None, Some(_)) => Action::Read,
        (None, None) => Action::Administer,
    };
    let (role, code) = (row.role.name(), purpose.code());
    let mut address = format!(
        "{}?role={role}&purpose={code}&action={}",
        access::HERE,
        action.name()
    );
    if let Some(kind) = kind {
        address.push_str(&format!("&type={kind}"));
    }
    html! {
        div { a class="small" href=(address) { "Why" span class="visually-hidden" { ": " (name(row)) ", " (group) } } }
    }
}

fn policy(set: &PolicySet, id: &str) -> Markup {
    let known = set.policies().any(|policy| policy.id == id);
    html! {
        @if known {
            // What it says stands there, once.
            a href={ "#policy-" (id) } { (id) }
        } @else { span class="mono small" { (id) } }
    }
}

fn cell(set: &PolicySet, cells: &[PolicyCell]) -> Markup {
    html! {
        // Most are, so a mark in each would hide those that are not, and make a long page.
        @if cells.is_empty() { "Denied" }
        @for cell in cells {
            div class="permitted" {
                // The mark is the style's: drawn in each cell it would make a long page.
                b { (words(cell)) }
                @if !cell.kinds.is_empty() { br; span class="small" { (kinds(cell)) } }
                @if let Some(rule) = &cell.in_part { br; span class="quiet small" { "in part, by " span class="mono" { (rule) } } }
                br; @for (place, id) in cell.policies.iter().enumerate() { @if place > 0 { ", " } (policy(set, id)) }
            }
        }
    }
}

fn words(cell: &PolicyCell) -> String {
    let names: Vec<&str> = cell.actions.iter().map(|action| action.name()).collect();
    names.join(", ")
}

/// Types that stand in a cell; more are in its title.
const KINDS_SHOWN: usize = 4;

fn kinds(cell: &PolicyCell) -> Markup {
    let names: Vec<&str> = cell.kinds.iter().map(|kind| kind.name()).collect();
    let more = names.len().saturating_sub(KINDS_SHOWN);
    html! {
        @if more == 0 { (names.join(", ")) }
        @else {
            details {
                summary { (names[..KINDS_SHOWN].join(", ")) " and " (more) " more" }
                (names[KINDS_SHOWN..].join(", "))
            }
        }
    }
}

fn table(set: &PolicySet, purpose: Purpose, rows: &[PolicyRow], label: &str) -> Markup {
    let groups = set.groups();
    html! {
        div class="scroll" {
            table class="matrix" aria-label=(label) {
                thead { tr {
                    th scope="col" { "Who" }
                    @for (group, _) in &groups { th scope="col" { (group) } }
                    th scope="col" { "other" }
                } }
                tbody {
                    @for (names, cells) in together(set, purpose, rows) {
                        tr {
                            th scope="row" { @for (place, name) in names.iter().enumerate() { @if place > 0 { ", " } (name) } }
                            (cells)
                        }
                    }
                }
            }
        }
    }
}

/// Who may do what: those who may do the same stand in one row.
fn together(set: &PolicySet, purpose: Purpose, rows: &[PolicyRow]) -> Vec<(Vec<String>, Markup)> {
    let groups = set.groups();
    let mut together: Vec<(Vec<String>, Markup)> = Vec::new();
    for row in rows {
        let cells = html! {
            @for ((group, kinds), cells) in groups.iter().zip(&row.of_groups) {
                td { (cell(set, cells)) (why(row, purpose, group, kinds.first(), cells)) }
            }
            td { (cell(set, &row.others)) (why(row, purpose, "others", None, &row.others)) }
        };
        let mut known = together.iter_mut();
        match known.find(|(_, known)| known.0 == cells.0) {
            Some((names, _)) => names.push(name(row)),
            None => together.push((vec![name(row)], cells)),
        }
    }
    together
}

fn status(ctx: &Ctx, set: &PolicySet, status: &PolicyStatus) -> Markup {
    let files: Vec<&str> = set.files().collect();
    html! {
        section class="stack" aria-labelledby="set" {
            h2 id="set" { "The set in force" }
            dl class="facts" {
                dt { "State" }
                dd {
                    @if status.refused.is_some() { (layout::state(State::NeedsYou, "In force")) ", and another is refused" }
                    @else { (layout::state(State::Running, "In force")) }
                }
                dt { "Since" } dd { (ctx.times.wall(signed(status.since_ms))) }
                dt { "Comes from" } dd { @if status.folder.is_some() { "the policy folder of this server" } @else { "what is built in" } }
                dt { "Holds" } dd { (count_of(set.policies().count(), "policy").replace("policys", "policies")) ", in " (count_of(files.len(), "file")) }
                dt { "Hash" } dd class="mono" { (set.hash()) }
            }
            @if let Some(refused) = &status.refused {
                div class="note stack" id="refused" {
                    p { (layout::state(State::Failed, "Refused")) " What is in the policy folder now is not in force, and was seen " (ctx.times.wall(signed(refused.at_ms))) ". The set above decides until this is mended:" }
                    ul { @for fault in &refused.faults { li class="mono small" { (fault) } } }
                }
            }
            details {
                summary { "Files and groups of types" }
                div class="stack" {
                    h3 { "Files" }
                    ul class="mono small" { @for file in &files { li { (file) } } }
                    h3 { "Groups" }
                    dl class="facts" {
                        @for (group, kinds) in set.groups() {
                            dt { (group) }
                            dd class="small" { (kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", ")) }
                        }
                    }
                }
            }
        }
    }
}

/// The purposes that this organisation has besides HL7's.
fn own_purposes(set: &PolicySet) -> Markup {
    html! {
        @if set.purposes().own().next().is_some() {
            section class="stack" aria-labelledby="purposes" {
                h2 id="purposes" { "Purposes of your own" }
                dl class="facts" {
                    @for own in set.purposes().own() {
                        dt class="mono" { (own.code()) }
                        dd {
                            (purpose_words(own)) ", a kind of " span class="mono" { (own.standard().code()) }
                            " " span class="quiet small" { (own.system()) }
                        }
                    }
                }
            }
        }
    }
}

fn policies(set: &PolicySet) -> Markup {
    html! {
        section class="stack" aria-labelledby="policies" {
            h2 id="policies" { "Policies in words" }
            dl class="facts" {
                @for policy in set.policies() {
                    dt id={ "policy-" (policy.id) } class="mono" { (policy.id) }
                    dd {
                        @if policy.forbids { span class="tag" { "forbids" } " " }
                        (policy.says)
                        " " span class="quiet small" { (policy.file) ", line " (policy.line) }
                    }
                }
            }
        }
    }
}

/// `GET /console/policies`.
pub(crate) async fn page(ctx: Ctx, fields: Fields) -> Result<Response, PageError> {
    access::permit(&ctx).await?;
    let trust = &ctx.app.web.trust;
    let (set, in_force) = (trust.policy_set(), trust.policy_status());
    let purpose = match fields.get("purpose") {
        None => Purpose::Treatment,
        Some(code) => set.purposes().parse(code).ok_or_else(|| {
            PageError::Invalid(
                "There is no such purpose of use. Choose one of the list.".to_owned(),
            )
        })?,
    };
    let around = trust.usual_around();
    let (parts, roles): (Vec<_>, Vec<_>) =
        (set.table(purpose, &around).into_iter()).partition(|row| row.role == Role::System);
    let body = html! {
        (layout::head("Policies", &html! { "Who may do what, by the policies that decide now. Scopes of access tokens and patients' consents narrow it." }, &html! { a class="button" href=(access::HERE) { "Ask about one decision" } }))
        div class="stack-wide" {
            (status(&ctx, &set, &in_force))
            section class="stack" aria-labelledby="matrix" {
                h2 id="matrix" { "What is permitted " (purpose_words(purpose)) }
                form class="filters inline-fields" method="get" action=(HERE) data-auto {
                    label { "Purpose" select name="purpose" {
                        @for of in set.purposes().all() { option value=(of.code()) selected[of == purpose] { (of.code()) ", " (purpose_words(of)) } }
                    } }
                    button type="submit" data-auto-hide { "Show" }
                }
                @if let Some(words) = set.looked_at(&around) {
                    p class="note" id="around" {
                        "Some policies look at what is around a request. Both tables show what is permitted " (words)
                        "; under other circumstances it may be more or less. Ask about one decision to see them."
                    }
                }
                (table(&set, purpose, &roles, "Roles"))
            }
            section class="stack" aria-labelledby="parts" {
                h2 id="parts" { "Parts of Cairn that act by themselves" }
                (table(&set, purpose, &parts, "Parts of Cairn"))
            }
            (own_purposes(&set))
            (policies(&set))
        }
    };
    Ok(console(&ctx, "Policies", Section::Policies, None, &body))
}
