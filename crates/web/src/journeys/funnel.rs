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

/// Whether parts of those who started can be told: enough of them did, and all who are counted at the steps are of them.
/// Who came from another version goes along ways here and began none of them.
fn has_parts(graph: &GraphView) -> bool {
    graph.started >= FEW_CASES && graph.moved_in == 0
}

/// What the graph tells: the funnel where it is asked for, and can be told.
pub(super) fn told(graph: &GraphView, fields: &Fields) -> Told {
    if is_asked(fields) && has_parts(graph) {
        Told::Funnel {
            started: graph.started,
        }
    } else {
        Told::Counts
    }
}

/// Why no parts are told; or of whom they are, and who is not among them.
fn of_whom(graph: &GraphView) -> Markup {
    let (started, moved_in, moved_out) = (graph.started, graph.moved_in, graph.moved_out);
    html! {
        @if moved_in > 0 {
            p class="note" { (times(moved_in)) " came here from another version and went on from where they were, so that at each step those who started here can't be told from them: the graph shows how many are where. What became of each is in the " a href=(super::analysis::address(&graph.version)) { "analysis" } "." }
        } @else if started < FEW_CASES {
            p class="note" { "Parts are told from " (FEW_CASES) " who started this version. So far: " (started) "." }
        } @else {
            p class="quiet" {
                "Of " span class="strong" { (thousands(started)) } " who started this version: how many in a hundred came to each step and went each way, and (−) left the journey there. ½ is how long half of them stay at most, where " (FEW_CASES) " or more went on. Who came twice counts twice."
            }
        }
        @if moved_out > 0 { p class="note" { (times(moved_out)) " went on by another version, and are followed here until then." } }
    }
}

/// How often it was; who was moved twice is so twice.
fn times(count: u64) -> String {
    match count {
        1 => "1 patient".to_owned(),
        count => format!("{} patients", thousands(count)),
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
    let asked = is_asked(fields);
    html! {
        div class="stack" {
            nav class="tabs" aria-label="What the graph shows" {
                a href=(here) aria-current=[(!asked).then_some("true")] { "How many are where" }
                a href={ (here) "&show=" (SHOW) } aria-current=[asked.then_some("true")] { "Funnel" }
            }
            @if asked { (of_whom(graph)) }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a version: who started, came from another, and went to another; and what its funnel says.
    #[test]
    fn parts_are_told_of_those_who_started_alone() {
        let asked = Fields(vec![("show".to_owned(), SHOW.to_owned())]);
        for (started, moved_in, moved_out, expected) in [
            (
                100,
                0,
                0,
                Some(&["Of <span class=\"strong\">100</span> who started"][..]),
            ),
            // Eighty of a hundred went on by the next version: a hundred started all the same.
            (
                100,
                0,
                80,
                Some(
                    &[
                        "Of <span class=\"strong\">100</span> who started",
                        "80 patients went on by another version",
                    ][..],
                ),
            ),
            (0, 80, 0, None),
            (400, 1, 0, None),
            (10, 0, 0, None),
        ] {
            let graph = GraphView {
                started,
                moved_in,
                moved_out,
                ..crate::drawing::tests::graph()
            };
            let shown = switch(&graph, &asked).into_string();
            match expected {
                Some(words) => {
                    assert!(
                        matches!(told(&graph, &asked), Told::Funnel { started } if started == 100)
                    );
                    assert!(words.iter().all(|words| shown.contains(words)), "{shown}");
                }
                None => {
                    assert!(matches!(told(&graph, &asked), Told::Counts));
                    assert!(!shown.contains("in a hundred"), "{shown}");
                }
            }
            assert_eq!(
                shown.contains("from another version"),
                moved_in > 0,
                "{shown}"
            );
            assert!(matches!(told(&graph, &Fields::default()), Told::Counts));
        }
    }
}
