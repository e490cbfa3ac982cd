//! The lists behind a journey's numbers: who is at a step, came to it, went on from it or left the
//! journey, and where the number stands that leads there.

use axum::extract::Path;
use axum::response::Response;
use journey::{GraphView, HereAfter, HerePage, HereView, Passed, PassedView, Stay, VersionView};
use ledger::Number;
use maud::{Markup, html};
use std::collections::HashMap;
use trust::{Action, Role};

use super::{load, spoken, title_of};
use crate::context::{Ctx, Fields, escape};
use crate::drawing::{self, Bar};
use crate::error::PageError;
use crate::layout::{self, Section, console, thousands};
use crate::time::{duration, signed};
use crate::worklist::{PatientLine, patient_lines};

/// Rows on a page.
pub(crate) const PAGE: usize = 50;

/// Whether this person sees who is where, and not just how many.
pub(crate) fn may_see(ctx: &Ctx) -> bool {
    matches!(ctx.role(), Role::Coordinator | Role::Clinician)
}

/// The numbers of one version: each leads to its list, for those who may see it.
#[derive(Clone, Copy)]
pub(crate) struct Numbers<'a> {
    pub(crate) version: &'a VersionView,
    pub(crate) people: bool,
}

impl Numbers<'_> {
    /// The address of a list.
    pub(crate) fn href(self, list: &[(&str, &str)]) -> String {
        let mut href = format!(
            "/console/journeys/{}/people?version={}",
            self.version.name, self.version.version
        );
        for (name, value) in list {
            href += &format!("&{name}={}", escape(value));
        }
        href
    }
    /// The address of a list with so many rows, if it leads anywhere.
    pub(crate) fn leads(self, count: u64, list: &[(&str, &str)]) -> Option<String> {
        (self.people && count > 0).then(|| self.href(list))
    }
    /// A number.
    pub(crate) fn number(self, count: u64, list: &[(&str, &str)]) -> Markup {
        html! {
            @match self.leads(count, list) {
                Some(href) => a href=(href) { (thousands(count)) },
                None => (thousands(count)),
            }
        }
    }
    /// How long people stay, as bars; `list` and the class lead to those who make a bar up.
    pub(crate) fn stays(self, stays: &[u64], list: &[(&str, &str)], what: &str) -> Markup {
        let first = stays.iter().position(|count| *count > 0).unwrap_or(0);
        let last = stays.iter().rposition(|count| *count > 0).unwrap_or(0);
        let bars: Vec<Bar> = Stay::all()
            .zip(stays)
            .skip(first)
            .take(last + 1 - first)
            .map(|(stay, count)| {
                let mut list = list.to_vec();
                list.push(("stay", stay.code()));
                Bar {
                    name: stay.words().to_owned(),
                    count: *count,
                    href: self.leads(*count, &list),
                }
            })
            .collect();
        drawing::bars(&bars, what, "Patients")
    }
}

/// What a list shows, as its address says.
enum List {
    Here { step: Option<String> },
    Passed(Passed),
}

struct Asked {
    list: List,
    stay: Option<Stay>,
}

impl Asked {
    fn of(fields: &Fields) -> Result<Self, PageError> {
        let text = |name: &str| fields.get(name).map(str::to_owned);
        let stay = match fields.get("stay") {
            Some(code) => Some(Stay::parse(code).ok_or(PageError::NotFound)?),
            None => None,
        };
        let step = text("step");
        let list = match (fields.get("list").unwrap_or("here"), step) {
            ("here", step) => List::Here { step },
            ("came", step) => List::Passed(Passed::Came {
                step: step.unwrap_or_else(|| "start".to_owned()),
            }),
            ("left", Some(step)) => List::Passed(Passed::Left { step, stay }),
            ("way", Some(from)) => List::Passed(Passed::Way {
                from,
                to: text("to").ok_or(PageError::NotFound)?,
                label: text("label"),
            }),
            // Everybody who goes on from anywhere is no list; who leaves the journey is.
            ("left" | "ended", step) => List::Passed(Passed::Ended {
                step,
                reason: text("reason"),
            }),
            _ => return Err(PageError::NotFound),
        };
        Ok(Self { list, stay })
    }

    /// The list's name in addresses and in the filter.
    fn code(&self) -> &'static str {
        match &self.list {
            List::Here { .. } => "here",
            List::Passed(Passed::Came { .. }) => "came",
            List::Passed(Passed::Left { .. }) => "left",
            List::Passed(Passed::Way { .. }) => "way",
            List::Passed(Passed::Ended { .. }) => "ended",
        }
    }

    fn step(&self) -> Option<&str> {
        match &self.list {
            List::Here { step } | List::Passed(Passed::Ended { step, .. }) => step.as_deref(),
            List::Passed(Passed::Came { step } | Passed::Left { step, .. }) => Some(step),
            List::Passed(Passed::Way { from, .. }) => Some(from),
        }
    }

    fn heading(&self, graph: &GraphView) -> String {
        let title = |step: &str| format!("“{}”", title_of(graph, step));
        match &self.list {
            List::Here { step: None } => "In the journey now".to_owned(),
            List::Here { step: Some(step) } => format!("Now at {}", title(step)),
            List::Passed(Passed::Came { step }) if step == "start" => {
                "Started the journey".to_owned()
            }
            List::Passed(Passed::Came { step }) => format!("Came to {}", title(step)),
            List::Passed(Passed::Left { step, .. }) => format!("Went on from {}", title(step)),
            List::Passed(Passed::Way { from, to, .. }) => {
                format!("Went from {} to {}", title(from), title(to))
            }
            List::Passed(Passed::Ended { step: None, .. }) => "Left the journey".to_owned(),
            List::Passed(Passed::Ended {
                step: Some(step), ..
            }) => format!("Left the journey at {}", title(step)),
        }
    }

    /// The number that the list makes up, as the graph counts it.
    fn total(&self, graph: &GraphView) -> Option<u64> {
        let node = |step: &str| graph.nodes.iter().find(|node| node.id == step);
        match &self.list {
            List::Here { .. } => None,
            List::Passed(Passed::Came { step }) => Some(node(step)?.entered),
            List::Passed(Passed::Left { step, stay: None }) => Some(node(step)?.left),
            List::Passed(Passed::Left {
                step,
                stay: Some(stay),
            }) => Stay::all()
                .zip(&node(step)?.stays)
                .find(|(class, _)| class == stay)
                .map(|(_, count)| *count),
            List::Passed(Passed::Way { from, to, label }) => Some(
                graph
                    .edges
                    .iter()
                    .filter(|edge| edge.from == *from && edge.to == *to)
                    .filter(|edge| label.as_ref().is_none_or(|label| edge.label == *label))
                    .map(|edge| edge.count)
                    .sum(),
            ),
            List::Passed(Passed::Ended { step, reason }) => match (step, reason) {
                (None, None) => Some(graph.version.ended),
                (Some(step), None) => Some(node(step)?.ended_here),
                (None, Some(reason)) => graph
                    .endings
                    .iter()
                    .find(|(known, _)| known == reason)
                    .map(|(_, count)| *count),
                (Some(_), Some(_)) => None,
            },
        }
    }
}

pub(crate) fn patient(names: &HashMap<String, PatientLine>, id: &str) -> Markup {
    html! {
        a data-act="open" href={ "/console/patients/" (id) } {
            @match names.get(id) { Some(line) => (line.name), None => { "Patient " (layout::short_id(id)) } }
        }
        @if let Some(age) = names.get(id).and_then(|line| line.age) { span class="quiet" { ", " (age) } }
    }
}

/// People who are somewhere now, longest first, as a short list.
pub(crate) fn here_list(
    ctx: &Ctx,
    rows: &[HereView],
    names: &HashMap<String, PatientLine>,
) -> Markup {
    html! {
        ul class="people" data-rows {
            @for row in rows {
                li data-key=(row.patient) {
                    span { (patient(names, &row.patient)) }
                    span class="quiet small nowrap" { "came " (ctx.times.ago(signed(row.since_ms))) }
                }
            }
        }
    }
}

fn here_table(ctx: &Ctx, rows: &[HereView], names: &HashMap<String, PatientLine>) -> Markup {
    html! {
        table class="people" {
            thead { tr { th scope="col" { "Patient" } th scope="col" { "Came" } th scope="col" { "For" } } }
            tbody data-rows {
                @for row in rows {
                    tr data-key=(row.instance) {
                        th scope="row" { (patient(names, &row.patient)) }
                        td class="nowrap" { (ctx.times.ago(signed(row.since_ms))) }
                        td class="nowrap" { (duration(ctx.times.care_ms - signed(row.since_ms))) }
                    }
                }
            }
        }
    }
}

fn passed_table(
    ctx: &Ctx,
    graph: &GraphView,
    list: &Passed,
    rows: &[PassedView],
    names: &HashMap<String, PatientLine>,
) -> Markup {
    let titles = |steps: &[String]| {
        let titles: Vec<&str> = steps.iter().map(|step| title_of(graph, step)).collect();
        titles.join(", ")
    };
    let when = match list {
        Passed::Came { .. } => "Came",
        Passed::Left { .. } | Passed::Way { .. } => "Went on",
        Passed::Ended { .. } => "Left",
    };
    let stayed = matches!(list, Passed::Left { .. } | Passed::Way { .. });
    html! {
        table class="people" {
            thead {
                tr {
                    th scope="col" { "Patient" }
                    th scope="col" { (when) }
                    @if stayed { th scope="col" { "After" } th scope="col" { "Because" } }
                    @if matches!(list, Passed::Left { .. }) { th scope="col" { "To" } }
                    @if matches!(list, Passed::Ended { .. }) { th scope="col" { "Why" } th scope="col" { "Was at" } }
                }
            }
            tbody data-rows {
                @for (number, row) in rows.iter().enumerate() {
                    tr data-key={ (row.instance) "-" (row.at_ms) "-" (number) } {
                        th scope="row" { (patient(names, &row.patient)) }
                        td class="nowrap" { (ctx.times.ago(signed(row.at_ms))) }
                        @if stayed {
                            td class="nowrap" { @if let Some(since_ms) = row.since_ms { (super::step::stayed(row.at_ms.saturating_sub(since_ms))) } }
                            td { (spoken(&row.label)) }
                        }
                        @if matches!(list, Passed::Left { .. }) { td { (titles(&row.steps)) } }
                        @if matches!(list, Passed::Ended { .. }) { td { (row.label) } td { (titles(&row.steps)) } }
                    }
                }
            }
        }
    }
}

fn filter(graph: &GraphView, asked: &Asked, fields: &Fields) -> Markup {
    let version = &graph.version;
    let code = asked.code();
    let stay = matches!(code, "here" | "left");
    html! {
        form class="filters inline-fields" method="get" action={ "/console/journeys/" (version.name) "/people" } data-auto {
            input type="hidden" name="version" value=(version.version);
            label { "Who" select name="list" {
                option value="here" selected[code == "here"] { "are here now" }
                option value="came" selected[code == "came"] { "came here" }
                option value="left" selected[code == "left"] { "went on from here" }
                option value="ended" selected[code == "ended"] { "left the journey here" }
                @if code == "way" { option value="way" selected { "went this way" } }
            } }
            @if code == "way" {
                @for field in ["step", "to", "label"] { @if let Some(value) = fields.get(field) { input type="hidden" name=(field) value=(value); } }
            } @else {
                label { "Step" select name="step" {
                    option value="" { "the whole journey" }
                    @for node in graph.nodes.iter().filter(|node| !matches!(node.kind.as_str(), "entry" | "end")) {
                        option value=(node.id) selected[asked.step() == Some(node.id.as_str())] { (node.title) }
                    }
                } }
            }
            @if stay {
                label { "For" select name="stay" {
                    option value="" { "any time" }
                    @for class in Stay::all() { option value=(class.code()) selected[asked.stay == Some(class)] { (class.words()) } }
                } }
            }
            @if code == "ended" {
                label { "Why" select name="reason" {
                    option value="" { "any reason" }
                    @for (reason, _) in &graph.endings { option value=(reason) selected[fields.get("reason") == Some(reason)] { (reason) } }
                } }
            }
            button type="submit" data-auto-hide { "Filter" }
        }
    }
}

/// What stands on one page of a list.
struct Shown {
    table: Markup,
    rows: usize,
    /// Rows of the whole list, where known.
    total: Option<u64>,
    /// The address's member that the next page starts behind.
    next: Option<(&'static str, String)>,
    /// What the list doesn't hold.
    note: Option<String>,
}

/// One page of those who are in a journey now, at a step if given, and who they are.
pub(super) async fn who_is_here(
    ctx: &Ctx,
    version: &VersionView,
    step: Option<&str>,
    stay: Option<Stay>,
    after: Option<&HereAfter>,
    limit: usize,
) -> Result<(HerePage, HashMap<String, PatientLine>), PageError> {
    let permit = ctx
        .permit(Action::Search, Some(fhir::ResourceType::Patient), None)
        .await?;
    let (name, number) = (&version.name, version.version);
    let journeys = &ctx.app.web.journeys;
    let page = journeys
        .here(&permit, name, number, step, stay, after, limit)
        .await?;
    let names = patient_lines(ctx, page.rows.iter().map(|row| row.patient.clone())).await?;
    Ok((page, names))
}

async fn here(
    ctx: &Ctx,
    graph: &GraphView,
    step: Option<&str>,
    stay: Option<Stay>,
    fields: &Fields,
) -> Result<Shown, PageError> {
    let after: Option<HereAfter> = fields.get("after").and_then(|after| {
        let (since_ms, instance) = after.split_once('.')?;
        Some((since_ms.parse().ok()?, instance.to_owned()))
    });
    let (page, names) = who_is_here(ctx, &graph.version, step, stay, after.as_ref(), PAGE).await?;
    Ok(Shown {
        table: here_table(ctx, &page.rows, &names),
        rows: page.rows.len(),
        total: Some(page.total),
        next: page
            .next
            .map(|(since_ms, instance)| ("after", format!("{since_ms}.{instance}"))),
        note: (!page.complete).then(|| {
            "There are more patients here than can be put in order. Only those whose journey moved last were looked at, so this list is not complete.".to_owned()
        }),
    })
}

async fn passed(
    ctx: &Ctx,
    graph: &GraphView,
    list: &Passed,
    total: Option<u64>,
    seen: u64,
    fields: &Fields,
) -> Result<Shown, PageError> {
    let version = &graph.version;
    let permit = ctx
        .permit(Action::Search, Some(fhir::ResourceType::Patient), None)
        .await?;
    let before = fields
        .get("before")
        .and_then(|number| number.parse().ok())
        .map(Number);
    let page = ctx
        .app
        .web
        .journeys
        .passed(&permit, &version.name, version.version, list, before, PAGE)
        .await?;
    let names = patient_lines(ctx, page.rows.iter().map(|row| row.patient.clone())).await?;
    let listed = seen + page.rows.len() as u64;
    // The count was taken before the list was read, so a list can be longer, but not shorter.
    let missing = total
        .filter(|_| page.next.is_none())
        .map_or(0, |total| total.saturating_sub(listed));
    Ok(Shown {
        table: passed_table(ctx, graph, list, &page.rows, &names),
        rows: page.rows.len(),
        total: total.map(|total| total.max(listed)),
        next: page.next.map(|next| ("before", next.0.to_string())),
        note: (missing > 0).then(|| {
            format!(
                "{} more were counted but can't be listed: their records were erased, or they moved before such lists were kept.",
                thousands(missing)
            )
        }),
    })
}

/// `GET /console/journeys/{name}/people`.
pub(crate) async fn page(
    ctx: Ctx,
    Path(name): Path<String>,
    fields: Fields,
) -> Result<Response, PageError> {
    ctx.staff()?;
    if !may_see(&ctx) {
        return Err(PageError::Refused(
            "Your role sees how many patients are where in a journey, not who they are.".to_owned(),
        ));
    }
    let graph = load(&ctx, &name, &fields).await?;
    let asked = Asked::of(&fields)?;
    if asked
        .step()
        .is_some_and(|step| !graph.nodes.iter().any(|node| node.id == step))
    {
        return Err(PageError::NotFound);
    }
    let paged = fields.get("before").is_some() || fields.get("after").is_some();
    let seen: u64 = fields
        .get("seen")
        .filter(|_| paged)
        .and_then(|seen| seen.parse().ok())
        .unwrap_or(0);
    let shown = match &asked.list {
        List::Here { step } => here(&ctx, &graph, step.as_deref(), asked.stay, &fields).await?,
        List::Passed(list) => {
            passed(&ctx, &graph, list, asked.total(&graph), seen, &fields).await?
        }
    };
    let version = &graph.version;
    let own = fields.to_query(&["before", "after", "seen"]);
    let last = seen + shown.rows as u64;
    let order = if matches!(asked.list, List::Here { .. }) {
        "longest first"
    } else {
        "newest first"
    };
    let journey = format!("/console/journeys/{name}?version={}", version.version);
    let body = html! {
        p class="crumbs" {
            a href="/console/journeys" { "Journeys" } " / " a href=(journey) { (version.title) ", version " (version.version) }
            @if let Some(step) = asked.step() { " / " a href=(super::step::href(version, step)) { (title_of(&graph, step)) } }
        }
        (layout::head(&asked.heading(&graph), &html! {
            @if asked.code() == "here" { "Who is there at this moment." } @else { "Who did so twice stands here twice." }
            @if let Some(label) = fields.get("label") { " Because: " (spoken(label)) "." }
        }, &html! {}))
        (filter(&graph, &asked, &fields))
        @if shown.rows == 0 {
            (layout::empty(if paged { "Nobody else" } else { "Nobody" }, "Nobody fits these filters. Choose another step, or another question about it."))
        } @else {
            p class="quiet" aria-live="polite" {
                (thousands(seen + 1)) "–" (thousands(last))
                @if let Some(total) = shown.total { " of " (thousands(total)) }
                ", " (order) "."
            }
            div class="scroll" { (shown.table) }
        }
        @if let Some(note) = &shown.note { p class="note" { (note) } }
        @if paged || shown.next.is_some() {
            nav class="pager" aria-label="Pages" {
                @if paged { a href={ "/console/journeys/" (name) "/people?" (own) } { "First page" } }
                @if let Some((field, value)) = &shown.next {
                    a href={ "/console/journeys/" (name) "/people?" (own) "&" (field) "=" (escape(value)) "&seen=" (last) } { "Next page" }
                }
            }
        }
    };
    Ok(console(
        &ctx,
        "People in a journey",
        Section::Journeys,
        None,
        &body,
    ))
}
