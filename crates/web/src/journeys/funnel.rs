//! The funnel on a journey's graph: at each step and way the part of those who started, who dropped off, and how long
//! half of them stay, from the counts of this moment; instead of how many are where.

use journey::{FEW_CASES, GraphView};
use maud::{Markup, html};

use super::analysis::share;
use super::{spoken, step_href, title_of};
use crate::context::{Fields, escape};
use crate::drawing::{Told, half_stay};
use crate::layout::thousands;

/// What the address has where the graph shows the funnel.
const SHOW: &str = "funnel";

fn is_asked(fields: &Fields) -> bool {
    fields.get("show") == Some(SHOW)
}

fn started(graph: &GraphView) -> u64 {
    graph.version.running + graph.version.ended
}

/// What the graph tells: the funnel where it is asked for, and where enough started that a part of them is not one.
pub(super) fn told(graph: &GraphView, fields: &Fields) -> Told {
    let started = started(graph);
    if is_asked(fields) && started >= FEW_CASES {
        Told::Funnel { started }
    } else {
        Told::Counts
    }
}

/// What links to other versions have, so that they show the same.
pub(super) fn kept(fields: &Fields) -> &'static str {
    if is_asked(fields) { "&show=funnel" } else { "" }
}

/// The switch between counts and funnel, and what the funnel is of.
pub(super) fn switch(graph: &GraphView, fields: &Fields) -> Markup {
    let version = &graph.version;
    let step = fields
        .get("step")
        .map(|step| format!("&step={}", escape(step)));
    let here = format!(
        "/console/journeys/{}?version={}{}",
        escape(&version.name),
        version.version,
        step.unwrap_or_default()
    );
    let started = started(graph);
    let asked = is_asked(fields);
    html! {
        div class="stack" {
            nav class="tabs" aria-label="What the graph shows" {
                a href=(here) aria-current=[(!asked).then_some("true")] { "How many are where" }
                a href={ (here) "&show=" (SHOW) } aria-current=[asked.then_some("true")] { "Funnel" }
            }
            @if asked && started < FEW_CASES { p class="note" { "Parts are told from " (FEW_CASES) " who started this version. So far: " (started) "." } }
            @else if asked {
                p class="quiet" {
                    "Of " span class="strong" { (thousands(started)) } " who started this version: how many in a hundred came to each step and went each way, and (−) left the journey there. ½ is how long half of them stay at most, where " (FEW_CASES) " or more went on. Who came twice counts twice."
                }
            }
        }
    }
}

/// The same as tables.
pub(super) fn tables(graph: &GraphView, started: u64) -> Markup {
    html! {
        div class="stack" {
            div class="scroll" tabindex="0" role="region" aria-label="Steps, of those who started" {
                table {
                    caption { "Steps" }
                    thead { tr { th scope="col" { "Step" } th scope="col" { "Kind" } th scope="col" class="number" { "Came here, of those who started" } th scope="col" class="number" { "Left the journey here, of those who started" } th scope="col" class="number" { "Left the journey here, of those who came" } th scope="col" { "Half stay less than" } } }
                    tbody {
                        @for node in graph.nodes.iter().filter(|node| !matches!(node.kind.as_str(), "entry" | "end")) {
                            tr {
                                th scope="row" { a href=(step_href(graph, &node.id)) { (node.title) } }
                                td { (node.kind) }
                                td class="number" { (share(node.entered, started)) }
                                td class="number" { (share(node.ended_here, started)) }
                                td class="number" { @if node.entered >= FEW_CASES { (share(node.ended_here, node.entered)) } @else { "not told" } }
                                td { @if let Some(half) = half_stay(node) { (half) } @else if node.left > 0 { "not told" } }
                            }
                        }
                    }
                }
            }
            div class="scroll" tabindex="0" role="region" aria-label="Ways, of those who started" {
                table {
                    caption { "Ways between them" }
                    thead { tr { th scope="col" { "From" } th scope="col" { "To" } th scope="col" { "When" } th scope="col" class="number" { "Went this way, of those who started" } } }
                    tbody { @for edge in &graph.edges { tr { td { (title_of(graph, &edge.from)) } td { (title_of(graph, &edge.to)) } td { (spoken(&edge.label)) } td class="number" { (share(edge.count, started)) } } } }
                }
            }
        }
    }
}
