//! One step: who is there, how long people stay, where they come from and go to, and what it says to
//! the patient; as a page, and in short beside the graph.

use std::sync::Arc;

use axum::extract::Path;
use axum::http::HeaderMap;
use axum::response::Response;
use journey::{EdgeView, GraphView, HerePage, NodeView, VersionView};
use maud::{Markup, html};

use super::people::{self, Numbers, here_list, may_see};
use super::{load, matters, spoken, title_of};
use crate::context::{Ctx, Fields, Watching, escape};
use crate::error::PageError;
use crate::layout::{self, Section, console, thousands};
use crate::live::{self, Parts};
use crate::time::{duration, signed};
use crate::worklist::last_event_id;

/// People listed beside the graph; the step's page lists more.
const BESIDE: usize = 10;

/// The address of a step's page.
pub(crate) fn href(version: &VersionView, step: &str) -> String {
    format!(
        "/console/journeys/{}/steps/{}?version={}",
        version.name,
        escape(step),
        version.version
    )
}

/// How long somebody stayed, in words.
pub(crate) fn stayed(stayed_ms: u64) -> String {
    if stayed_ms < 60_000 {
        "a minute".to_owned()
    } else {
        duration(signed(stayed_ms))
    }
}

fn facts(numbers: Numbers<'_>, node: &NodeView) -> Markup {
    let of = |list: &'static str| [("list", list), ("step", node.id.as_str())];
    html! {
        dl class="facts" {
            dt { "Here now" } dd { (numbers.number(node.here, &of("here"))) }
            dt { "Came here" } dd { (numbers.number(node.entered, &of("came"))) }
            @if node.passes { dt { "Went on" } dd { (numbers.number(node.left, &of("left"))) } }
            dt { "Left the journey here" } dd { (numbers.number(node.ended_here, &of("ended"))) }
            @if let Some(median) = node.dwell_median_ms { dt { "Half stay less than" } dd { (stayed(median)) } }
        }
    }
}

fn words(node: &NodeView) -> Markup {
    html! {
        @if let Some(words) = &node.words {
            @match words.split_once('\n') {
                Some((title, text)) => div class="words" { p class="strong" { (title) } p { (text) } },
                None => p class="words" { (words) },
            }
        }
    }
}

async fn here(
    ctx: &Ctx,
    graph: &GraphView,
    node: &NodeView,
    limit: usize,
) -> Result<Option<(HerePage, Markup)>, PageError> {
    if !may_see(ctx) {
        return Ok(None);
    }
    let step = Some(node.id.as_str());
    let (page, names) = people::who_is_here(ctx, &graph.version, step, None, None, limit).await?;
    let list = here_list(ctx, &page.rows, &names);
    Ok(Some((page, list)))
}

fn not_who() -> Markup {
    html! { p class="quiet small" { "Your role sees how many patients are here, not who." } }
}

/// The step in short, beside the graph.
pub(super) async fn panel(
    ctx: &Ctx,
    graph: &GraphView,
    step: Option<&str>,
) -> Result<Markup, PageError> {
    let Some(node) = step.and_then(|step| graph.nodes.iter().find(|node| node.id == step)) else {
        return Ok(html! { div id="step" hidden {} });
    };
    let numbers = Numbers {
        version: &graph.version,
        people: may_see(ctx),
    };
    let here = here(ctx, graph, node, BESIDE).await?;
    let page = href(&graph.version, &node.id);
    Ok(html! {
        aside id="step" class="card raised stack" aria-labelledby="step-title" {
            p class="quiet small" { (node.kind) " · " span class="mono" { (node.id) } }
            h2 id="step-title" { (node.title) }
            (facts(numbers, node))
            p { a href=(page) { "How long they stay, and where they go" } }
            @if node.words.is_some() { h3 { "Words to the patient" } (words(node)) }
            @match &here {
                None => (not_who()),
                Some((found, list)) => {
                    h3 { "Who is here" }
                    @if found.rows.is_empty() { p class="quiet" { "Nobody at the moment." } } @else { (list) }
                    @if found.next.is_some() {
                        p { "The " (found.rows.len()) " who are here longest. " a href=(numbers.href(&[("list", "here"), ("step", &node.id)])) { "All " (thousands(found.total)) } }
                    }
                },
            }
        }
    })
}

/// Ways that lead to a step, or from it.
fn ways(
    graph: &GraphView,
    numbers: Numbers<'_>,
    caption: &str,
    edges: &[&EdgeView],
    other: fn(&EdgeView) -> &str,
) -> Markup {
    html! {
        div class="scroll" {
            table {
                caption { (caption) }
                thead { tr { th scope="col" { "Step" } th scope="col" { "When" } th scope="col" class="number" { "Went this way" } } }
                tbody {
                    @for edge in edges {
                        tr {
                            td { a href=(href(&graph.version, other(edge))) { (title_of(graph, other(edge))) } }
                            td { (spoken(&edge.label)) }
                            td class="number" { (way(numbers, edge)) }
                        }
                    }
                }
            }
        }
    }
}

/// How many went a way.
pub(super) fn way(numbers: Numbers<'_>, edge: &EdgeView) -> Markup {
    let mut list = vec![
        ("list", "way"),
        ("step", edge.from.as_str()),
        ("to", edge.to.as_str()),
    ];
    if !edge.label.is_empty() {
        list.push(("label", edge.label.as_str()));
    }
    numbers.number(edge.count, &list)
}

async fn parts(ctx: &Ctx, graph: &GraphView, node: &NodeView) -> Result<Parts, PageError> {
    let numbers = Numbers {
        version: &graph.version,
        people: may_see(ctx),
    };
    let here = here(ctx, graph, node, people::PAGE).await?;
    let step = node.id.as_str();
    let into: Vec<&EdgeView> = graph.edges.iter().filter(|edge| edge.to == step).collect();
    let out: Vec<&EdgeView> = graph
        .edges
        .iter()
        .filter(|edge| edge.from == step)
        .collect();
    let main = html! {
        div id="step-main" class="stack-wide" {
            section class="stack" aria-labelledby="stays" {
                h2 id="stays" { "How long they stayed" }
                @if node.left == 0 { p class="quiet" { @if node.kind == "observe" { "This rule watches everybody in the journey; nobody stays at it." } @else if node.kind == "goal" { "It is watched for everybody in the journey; nobody stays at it." } @else { "Nobody has gone on from here yet." } } }
                @else {
                    @if let Some(median) = node.dwell_median_ms { p { "Half of them went on within " span class="strong" { (stayed(median)) } "." } }
                    (numbers.stays(&node.stays, &[("list", "left"), ("step", step)], "Stayed"))
                }
            }
            section class="stack" aria-labelledby="who" {
                h2 id="who" { "Who is here" }
                @match &here {
                    None => (not_who()),
                    Some((found, _)) if found.rows.is_empty() => p class="quiet" { "Nobody at the moment." },
                    Some((found, list)) => {
                        (numbers.stays(&found.stays, &[("list", "here"), ("step", step)], "Here for"))
                        @if !found.complete { p class="note" { "There are more patients here than can be put in order, so these are not all." } }
                        (list)
                        @if found.next.is_some() { p { "These are the " (found.rows.len()) " who are here longest. " a href=(numbers.href(&[("list", "here"), ("step", step)])) { "All " (thousands(found.total)) } } }
                    },
                }
            }
        }
    };
    let side = html! {
        aside id="step-side" class="stack-wide" aria-label="The step in figures and words" {
            section class="card raised" { (facts(numbers, node)) }
            @if node.words.is_some() { section class="stack" aria-labelledby="words" { h2 id="words" { "Words to the patient" } (words(node)) p class="quiet small" { "What stands in brackets is filled in for each patient." } } }
            section class="stack" aria-labelledby="ways" {
                h2 id="ways" { "Ways" }
                @if !into.is_empty() { (ways(graph, numbers, "From where they come", &into, |edge| &edge.from)) }
                @if !out.is_empty() { (ways(graph, numbers, "Where they go", &out, |edge| &edge.to)) }
            }
        }
    };
    Ok(vec![("step-main", main), ("step-side", side)])
}

async fn found(
    ctx: &Ctx,
    name: &str,
    step: &str,
    fields: &Fields,
) -> Result<(GraphView, NodeView), PageError> {
    let graph = load(ctx, name, fields).await?;
    let node = graph.nodes.iter().find(|node| node.id == step);
    let node = node.ok_or(PageError::NotFound)?.clone();
    Ok((graph, node))
}

/// `GET /console/journeys/{name}/steps/{step}`.
pub(crate) async fn page(
    ctx: Ctx,
    Path((name, step)): Path<(String, String)>,
    fields: Fields,
) -> Result<Response, PageError> {
    ctx.staff()?;
    let live = live::address(
        &ctx,
        &format!(
            "/console/live/journeys/{}/steps/{}",
            escape(&name),
            escape(&step)
        ),
        &fields.to_query(&["after"]),
    );
    let (graph, node) = found(&ctx, &name, &step, &fields).await?;
    let parts = parts(&ctx, &graph, &node).await?;
    let version = &graph.version;
    let journey = format!("/console/journeys/{name}?version={}", version.version);
    let body = html! {
        div class="spread" {
            p class="crumbs" { a href="/console/journeys" { "Journeys" } " / " a href=(journey) { (version.title) ", version " (version.version) } }
            (layout::live_light())
        }
        (layout::head(&node.title, &html! { (node.kind) " · " span class="mono" { (node.id) } }, &html! { a class="button" href={ (journey) "&step=" (escape(&step)) "#graph" } { "Show in the graph" } }))
        div class="columns step" { @for (_, part) in &parts { (part) } }
    };
    Ok(console(
        &ctx,
        &node.title,
        Section::Journeys,
        Some(&live),
        &body,
    ))
}

/// `GET /console/live/journeys/{name}/steps/{step}`.
pub(crate) async fn stream(
    Watching(ctx): Watching,
    Path(names): Path<(String, String)>,
    fields: Fields,
    headers: HeaderMap,
) -> Result<Response, PageError> {
    ctx.staff()?;
    found(&ctx, &names.0, &names.1, &fields).await?;
    let (shown, names) = (Arc::new(live::shown(&fields)), Arc::new(names));
    let source = live::Source {
        shard: None,
        matters,
        render: Box::new(move |ctx| {
            let (fields, names) = (shown.clone(), names.clone());
            Box::pin(async move {
                let (graph, node) = found(&ctx, &names.0, &names.1, &fields).await?;
                parts(&ctx, &graph, &node).await
            })
        }),
    };
    Ok(live::serve(ctx, &fields, last_event_id(&headers), source).await)
}
