//! How a version of a journey goes: how far patients come, where they drop off, how long they stay and what is late, from
//! the counts of this moment; and the paths, how far these are the drawn ones, and groups side by side, from the
//! analysis that was made last.

use axum::extract::Path;
use axum::response::{IntoResponse, Redirect, Response};
use journey::{
    DAYS, DAYS_OF, FEW_CASES, Fitness, GraphView, NodeView, Report, Split, StepFlow, VersionView,
};
use maud::{Markup, html};
use trust::Action;

use super::people::{Numbers, may_see};
use super::step::{href, stayed};
use super::{costs, load, outcomes, spoken, title_of};
use crate::context::{Ctx, Fields, Posted, escape};
use crate::drawing::{self, Bar};
use crate::error::PageError;
use crate::layout::{self, Section, State, console, csrf, thousands};
use crate::time::signed;

/// Paths on the page.
const PATHS: usize = 15;
/// Groups of one split on the page.
const GROUPS: usize = 12;
/// Versions side by side, the newest ones.
const VERSIONS: usize = 8;

/// The address of a version's analysis.
pub(super) fn address(version: &VersionView) -> String {
    let (name, version) = (escape(&version.name), version.version);
    format!("/console/journeys/{name}/analysis?version={version}")
}

/// A part of a whole, in words.
pub(crate) fn share(part: u64, whole: u64) -> String {
    match (part * 100).checked_div(whole) {
        Some(0) if part > 0 => "under 1 %".to_owned(),
        Some(percent) => format!("{percent} %"),
        None => "–".to_owned(),
    }
}

/// Steps that people come to, with what they are called.
fn steps(graph: &GraphView) -> impl Iterator<Item = &NodeView> {
    graph.nodes.iter().filter(|node| node.passes)
}

fn funnel(graph: &GraphView, numbers: Numbers<'_>) -> Markup {
    let bar = |name: &str, count: u64, step: &str| Bar {
        name: name.to_owned(),
        count,
        href: numbers.leads(count, &[("list", "came"), ("step", step)]),
    };
    let started = graph.started;
    let bars: Vec<Bar> = std::iter::once(bar("Started", started, "start"))
        .chain(steps(graph).map(|node| bar(&node.title, node.entered, &node.id)))
        .collect();
    let ended: Vec<Bar> = {
        let mut at: Vec<&NodeView> = steps(graph).filter(|node| node.ended_here > 0).collect();
        at.sort_by_key(|node| std::cmp::Reverse(node.ended_here));
        at.into_iter()
            .map(|node| Bar {
                name: node.title.clone(),
                count: node.ended_here,
                href: numbers.leads(node.ended_here, &[("list", "ended"), ("step", &node.id)]),
            })
            .collect()
    };
    let here: Vec<Bar> = steps(graph)
        .filter(|node| node.here > 0)
        .map(|node| Bar {
            name: node.title.clone(),
            count: node.here,
            href: numbers.leads(node.here, &[("list", "here"), ("step", &node.id)]),
        })
        .collect();
    html! {
        section class="stack" aria-labelledby="far" {
            h2 id="far" { "How far they come" }
            p class="quiet" { "How often somebody came to each step. Who came twice counts twice." }
            div class="scroll" tabindex="0" role="region" aria-label="How far they come, table" { (drawing::bars(&bars, "Step", "Came")) }
        }
        section class="stack" aria-labelledby="now" {
            h2 id="now" { "Where they are now" }
            @if here.is_empty() { p class="quiet" { "Nobody is in this version." } }
            @else { div class="scroll" tabindex="0" role="region" aria-label="Where they are now, table" { (drawing::bars(&here, "Step", "Here now")) } }
        }
        section class="stack" aria-labelledby="off" {
            h2 id="off" { "Where they drop off" }
            @if ended.is_empty() { p class="quiet" { "Nobody has left this version yet." } }
            @else {
                p class="quiet" { "Where they were when the journey ended. At its last step that is as it should be." }
                div class="scroll" tabindex="0" role="region" aria-label="Where they drop off, table" { (drawing::bars(&ended, "Step", "Left the journey here")) }
            }
        }
    }
}

/// From a quarter to three quarters of the stays, with half of them marked, on a scale from nothing.
#[allow(clippy::cast_precision_loss, reason = "pixels")]
fn range(flow: &StepFlow, most_ms: u64) -> Markup {
    let at = |ms: Option<u64>| {
        let part = ms.unwrap_or(0) as f64 / most_ms.max(1) as f64;
        format!("{:.1}", part * 100.0)
    };
    let dwell = &flow.dwell;
    let wide = |from: Option<u64>, to: Option<u64>| {
        at(Some(to.unwrap_or(0).saturating_sub(from.unwrap_or(0))))
    };
    html! {
        svg width="100%" height="14" viewBox="0 0 100 14" preserveAspectRatio="none" aria-hidden="true" {
            rect class="barfill" x="0" y="6" height="2" width=(at(dwell.p90_ms)) {}
            rect class="barfill" x=(at(dwell.p25_ms)) y="1" height="12" width=(wide(dwell.p25_ms, dwell.p75_ms)) {}
            rect class="barfill" x=(at(dwell.p50_ms)) y="0" height="14" width="0.8" {}
        }
    }
}

fn dwell(graph: &GraphView, flow: &[StepFlow]) -> Markup {
    let all: u64 = flow.iter().map(|step| step.spent_ms / 1000).sum();
    let most = flow.iter().filter_map(|step| step.dwell.p90_ms).max();
    let mut rows: Vec<&StepFlow> = flow.iter().filter(|step| step.dwell.count > 0).collect();
    rows.sort_by_key(|step| std::cmp::Reverse(step.spent_ms));
    html! {
        section class="stack" aria-labelledby="long" {
            h2 id="long" { "How long they stay" }
            @if rows.is_empty() { p class="quiet" { "Nobody has gone on from a step yet." } }
            @else {
                p class="quiet" { "Of those who went on; where most time goes comes first. The bar is where the middle half lies, the thin line reaches to nine in ten, and the scale begins at nothing." }
                div class="scroll" tabindex="0" role="region" aria-label="How long they stay, table" {
                    table class="bars" {
                        thead { tr { th scope="col" { "Step" } th scope="col" class="number" { "Half within" } th scope="col" class="number" { "Nine in ten within" } th scope="col" class="number" { "Of all time" } th scope="col" class="visually-hidden" { "Bar" } } }
                        tbody {
                            @for step in rows {
                                tr {
                                    th scope="row" { a href=(href(&graph.version, &step.id)) { (title_of(graph, &step.id)) } }
                                    td class="number nowrap" { @if let Some(half) = step.dwell.p50_ms { (stayed(half)) } }
                                    td class="number nowrap" { @if let Some(most) = step.dwell.p90_ms { (stayed(most)) } }
                                    td class="number nowrap" { @if step.spent_ms > 0 { (share(step.spent_ms / 1000, all)) } }
                                    td width="40%" { (range(step, most.unwrap_or(0))) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn late(graph: &GraphView, flow: &[StepFlow], numbers: Numbers<'_>) -> Markup {
    let mut bars: Vec<Bar> = Vec::new();
    for step in flow {
        for way in step.late.iter().filter(|way| way.count > 0) {
            let list = [
                ("list", "way"),
                ("step", step.id.as_str()),
                ("to", way.to.as_str()),
                ("label", way.label.as_str()),
            ];
            bars.push(Bar {
                name: format!("{}: {}", title_of(graph, &step.id), spoken(&way.label)),
                count: way.count,
                href: numbers.leads(way.count, &list),
            });
        }
    }
    bars.sort_by_key(|bar| std::cmp::Reverse(bar.count));
    html! {
        section class="stack" aria-labelledby="late" {
            h2 id="late" { "What ran out of time" }
            @if bars.is_empty() { p class="quiet" { "Nothing so far." } }
            @else {
                p class="quiet" { "How often a step was left because what it waits for did not come in time." }
                div class="scroll" tabindex="0" role="region" aria-label="What ran out of time, table" { (drawing::bars(&bars, "Step", "Times")) }
            }
        }
    }
}

/// How it ended, and what it aims at.
fn endings(graph: &GraphView, numbers: Numbers<'_>) -> Markup {
    let endings = graph.endings.iter().map(|(reason, count)| Bar {
        name: reason.clone(),
        count: *count,
        href: numbers.leads(*count, &[("list", "ended"), ("reason", reason)]),
    });
    let goals = graph.nodes.iter().filter(|node| node.kind == "goal");
    let goals = goals.map(|node| Bar {
        name: format!("Goal: {}", node.title),
        count: node.entered,
        href: numbers.leads(node.entered, &[("list", "came"), ("step", &node.id)]),
    });
    let bars: Vec<Bar> = endings.chain(goals).collect();
    html! {
        section class="stack" aria-labelledby="outcomes" {
            h2 id="outcomes" { "How it ended" }
            @if bars.is_empty() { p class="quiet" { "Nobody has left this version yet." } }
            @else { div class="scroll" tabindex="0" role="region" aria-label="How it ended, table" { (drawing::bars(&bars, "Outcome", "Patients")) } }
        }
    }
}

/// `0.987`; 1 only where it is.
pub(super) fn measure(value: Option<f64>) -> String {
    value.map_or_else(
        || "not told".to_owned(),
        |value| format!("{:.3}", (value * 1000.0).floor() / 1000.0),
    )
}

/// An activity of a path in words.
fn activity(graph: &GraphView, report: &Report, activity: &str) -> String {
    if let Some(code) = activity.strip_prefix("end:") {
        let ending = report.endings.iter().find(|ending| ending.code == code);
        return format!("ended: {}", ending.map_or(code, |ending| &ending.title));
    }
    match activity.strip_suffix(":late") {
        Some(step) => format!("late answer: {}", title_of(graph, step)),
        None => title_of(graph, activity).to_owned(),
    }
}

fn conformance(graph: &GraphView, report: &Report, fitness: &Fitness) -> Markup {
    html! {
        section class="stack" aria-labelledby="drawn" {
            h2 id="drawn" { "Did they go as drawn?" }
            @if fitness.measured == 0 { p class="quiet" { "No journey that is over could be held against the graph yet." } }
            @else {
                p {
                    span class="strong" { (thousands(fitness.fit)) " of " (thousands(fitness.measured)) }
                    " that are over went only as the graph has it. "
                    @if fitness.not_measured > 0 { (thousands(fitness.not_measured)) " more were not held against it." }
                }
                dl class="facts" {
                    dt { "Fitness, each journey alike" } dd { (measure(fitness.mean)) }
                    dt { "Fitness of all together" } dd { (measure(fitness.of_log)) }
                    dt { "Weighted by what matters" } dd { (measure(fitness.weighted)) }
                }
                p class="quiet small" { "1 is wholly as drawn. A step that is skipped or too much takes from it; what is about a risk counts four times, work of staff, visits and goals twice." }
                @if !fitness.deviations.is_empty() {
                    div class="scroll" tabindex="0" role="region" aria-label="Where they differ most" {
                        table {
                            caption { "Where they differ most" }
                            thead { tr { th scope="col" { "Step" } th scope="col" class="number" { "Skipped" } th scope="col" class="number" { "Too much" } } }
                            tbody { @for one in fitness.deviations.iter().take(10) { tr { th scope="row" { (activity(graph, report, &one.activity)) } td class="number" { (thousands(one.skipped)) } td class="number" { (thousands(one.extra)) } } } }
                        }
                    }
                }
            }
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "pixels")]
fn paths(graph: &GraphView, report: &Report) -> Markup {
    let most = report.paths.first().map_or(1, |path| path.count.max(1));
    html! {
        section class="stack" aria-labelledby="paths" {
            h2 id="paths" { "Paths" }
            @if report.paths.is_empty() { p class="quiet" { "Nobody has begun it yet." } }
            @else {
                p class="quiet" {
                    @if report.paths_known > PATHS as u64 { "The " (PATHS) " most frequent of " (thousands(report.paths_known)) "." } @else { "All of them, the most frequent first." }
                    @if report.paths_untold > 0 { " " (thousands(report.paths_untold)) " journeys went paths that are not told apart, because there are too many." }
                }
                div class="scroll" tabindex="0" role="region" aria-label="Paths, table" {
                    table class="bars" {
                        thead { tr { th scope="col" class="number" { "Journeys" } th scope="col" { "Path" } } }
                        tbody {
                            @for path in report.paths.iter().take(PATHS) {
                                tr {
                                    th scope="row" class="number nowrap" { (thousands(path.count)) div class="quiet small" { (share(path.count, report.cases)) } }
                                    td width="90%" {
                                        svg width="100%" height="8" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true" { rect class="barfill" x="0" y="0" height="8" width=(format!("{:.1}", path.count as f64 / most as f64 * 100.0)) {} }
                                        @if path.path.is_empty() { "nothing yet" }
                                        @for (place, step) in path.path.iter().enumerate() { @if place > 0 { " › " } (activity(graph, report, step)) }
                                        div class="quiet small" {
                                            (thousands(path.ended)) " of them over"
                                            @match path.deviations { Some(0) => ", as drawn", Some(many) => { ", " (layout::count_of(usize::try_from(many).unwrap_or(usize::MAX), "deviation")) }, None => "" }
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn split(split: &Split) -> Markup {
    let told = |count: Option<u64>| count.map_or_else(|| "not told".to_owned(), thousands);
    html! {
        div class="scroll" tabindex="0" role="region" aria-label={ "By " (split.by) } {
            table {
                caption { "By " (split.by) }
                thead { tr { th scope="col" { "Group" } th scope="col" class="number" { "Journeys" } th scope="col" class="number" { "Over" } th scope="col" class="number" { "Reached a goal" } th scope="col" class="number" { "Something late" } th scope="col" class="number" { "Missed a visit" } th scope="col" class="number" { "Half took no longer than" } } }
                tbody {
                    @for row in split.rows.iter().take(GROUPS) {
                        tr {
                            th scope="row" { (row.group) }
                            td class="number" { (told(row.cases)) }
                            td class="number" { (told(row.ended)) }
                            td class="number" { (told(row.reached_goal)) }
                            td class="number" { (told(row.late)) }
                            td class="number" { (told(row.missed)) }
                            td class="number nowrap" { @match row.length_p50_ms { Some(length) => (stayed(length)), None => "not told" } }
                        }
                    }
                }
            }
        }
        @if split.rows.len() > GROUPS { p class="quiet small" { "There are " (split.rows.len() - GROUPS) " more groups; the command has them all." } }
    }
}

fn last_analysis(ctx: &Ctx, graph: &GraphView, report: Option<&Report>, under_way: bool) -> Markup {
    html! {
        section class="stack" aria-labelledby="analysis" {
            h2 id="analysis" { "Analysis" }
            @if under_way { p { (layout::state(State::Running, "Being made")) } p class="quiet" { "Every journey of this version is read, without keeping anybody waiting. Look again in a moment." } }
            @match report {
                None if !under_way => (layout::empty("No analysis was made yet", "Paths, how far they are the drawn ones, what came of patients, and groups side by side need every journey to be read once.")),
                None => {},
                Some(report) => {
                    p {
                        "Of " span class="strong" { (thousands(report.cases)) } " journeys, " (ctx.times.ago(signed(report.at_ms))) "."
                        @if report.left_out > 0 { " " (thousands(report.left_out)) " were left out, because the patient’s consents don’t allow an analysis." }
                        @if report.unreadable > 0 { " " (thousands(report.unreadable)) " could not be read here." }
                        @if report.moved > 0 { " " (thousands(report.moved)) " came from another version." }
                    }
                },
            }
            @if !under_way {
                form class="stack" method="post" action={ "/console/journeys/" (escape(&graph.version.name)) "/analysis" } {
                    (csrf(ctx))
                    input type="hidden" name="version" value=(graph.version.version);
                    label { "Days of observation" span class="hint" { "For what came of patients, such as being in hospital again" }
                        select name="days" { @for days in DAYS_OF {
                            option value=(days) selected[days == report.map(|report| report.days).filter(|days| DAYS_OF.contains(days)).unwrap_or(DAYS)] { (days) }
                        } }
                    }
                    div {
                    button type="submit" { @if report.is_some() { "Make it anew" } @else { "Make the analysis" } }
                    }
                }
            }
        }
        @if let Some(report) = report {
            (conformance(graph, report, &report.fitness))
            (paths(graph, report))
            (costs::costs(report))
            (outcomes::outcomes(report))
            (outcomes::scores(graph, report))
            section class="stack" aria-labelledby="groups" {
                h2 id="groups" { "Groups side by side" }
                @if report.splits.is_empty() { p class="quiet" { "Nothing is known to tell patients apart by." } }
                @else {
                    p class="quiet" { "Where there are fewer than " (FEW_CASES) " people, or where fewer could be told from the rest, nothing is told." }
                    @for one in &report.splits { (split(one)) }
                }
            }
        }
    }
}

/// `GET /console/journeys/{name}/analysis`.
pub(crate) async fn page(
    ctx: Ctx,
    Path(name): Path<String>,
    fields: Fields,
) -> Result<Response, PageError> {
    ctx.staff()?;
    let graph = load(&ctx, &name, &fields).await?;
    let version = &graph.version;
    let permit = ctx.permit(Action::Observe, None, None).await?;
    let journeys = &ctx.app.web.journeys;
    let number = version.version;
    let flow = journeys.flow(&permit, &name, Some(number)).await?;
    let (report, under_way) = journeys.kept_analysis(&permit, &name, number).await?;
    let all = journeys.versions(&permit).await?;
    let versions: Vec<&VersionView> = all.iter().filter(|one| one.name == name).collect();
    let mut analyses: Vec<(&VersionView, Report)> = Vec::new();
    let mut newest = versions.clone();
    newest.sort_by_key(|one| std::cmp::Reverse(one.version));
    for other in newest.into_iter().take(VERSIONS) {
        let (kept, _) = journeys
            .kept_analysis(&permit, &name, other.version)
            .await?;
        analyses.extend(kept.map(|kept| (other, kept)));
    }
    let numbers = Numbers {
        version,
        people: may_see(&ctx),
    };
    let journey = format!("/console/journeys/{}?version={number}", escape(&name));
    let body = html! {
        p class="crumbs" { a href="/console/journeys" { "Journeys" } " / " a href=(journey) { (version.title) ", version " (number) } }
        (layout::head("How it goes", &html! {
            span class="strong" { (numbers.number(version.running, &[("list", "here")])) } " in it now, "
            span class="strong" { (numbers.number(version.ended, &[("list", "ended")])) } " have left it."
        }, &html! {}))
        @if versions.len() > 1 {
            nav class="tabs" aria-label="Versions" {
                @for other in versions {
                    a href=(address(other)) aria-current=[(other.version == number).then_some("page")] { "Version " (other.version) }
                }
            }
        }
        div class="stack-wide" {
            (funnel(&graph, numbers))
            (dwell(&graph, &flow))
            (late(&graph, &flow, numbers))
            (endings(&graph, numbers))
            (last_analysis(&ctx, &graph, report.as_ref(), under_way))
            (outcomes::versions(&analyses))
        }
    };
    Ok(console(&ctx, "How it goes", Section::Journeys, None, &body))
}

/// `POST /console/journeys/{name}/analysis`.
pub(crate) async fn make(
    Path(name): Path<String>,
    Posted { ctx, fields }: Posted,
) -> Result<Response, PageError> {
    ctx.staff()?;
    let permit = ctx.permit(Action::Observe, None, None).await?;
    let version = fields.get("version").and_then(|text| text.parse().ok());
    let version = version.ok_or(PageError::NotFound)?;
    let days = match fields.get("days").map(str::trim) {
        None | Some("") => DAYS,
        Some(days) => {
            let days = days.parse().ok().filter(|days| DAYS_OF.contains(days));
            let of = DAYS_OF.map(|days| days.to_string()).join(", ");
            let words = format!("Days of observation are one of {of}.");
            days.ok_or(PageError::Invalid(words))?
        }
    };
    let journeys = &ctx.app.web.journeys;
    journeys
        .begin_analysis(permit, &name, version, days)
        .await?;
    let name = escape(&name);
    let href = format!("/console/journeys/{name}/analysis?version={version}#analysis");
    Ok(Redirect::to(&href).into_response())
}
