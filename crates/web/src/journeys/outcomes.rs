//! What came of a version's patients by the rest of the record, and what they answered, with groups side by side: from
//! the analysis that was made last.

use journey::{FEW_CASES, GraphView, OutcomeOf, OutcomeReport, Report, ScoreReport, VersionView};
use maud::{Markup, html};

use super::analysis::{address, measure, share};
use super::step::stayed;
use super::title_of;
use crate::drawing::{self, Bar};
use crate::layout::thousands;

/// Groups of one split on the page.
const GROUPS: usize = 12;

/// One group, with how long its bar is.
struct Row {
    group: String,
    /// What is told of it, by column.
    told: Vec<String>,
    value: Option<f64>,
}

/// Groups side by side with bars from zero to a most.
fn groups(by: &str, columns: &[&str], rows: &[Row], most: f64) -> Markup {
    html! {
        div class="scroll" {
            table class="bars" {
                caption { "By " (by) }
                thead { tr {
                    th scope="col" { "Group" }
                    @for column in columns { th scope="col" class="number" { (column) } }
                    th scope="col" class="visually-hidden" { "Bar" }
                } }
                tbody {
                    @for row in rows.iter().take(GROUPS) {
                        tr {
                            th scope="row" { (row.group) }
                            @for told in &row.told { td class="number nowrap" { (told) } }
                            td width="40%" {
                                @if let Some(value) = row.value {
                                    svg width="100%" height="14" viewBox="0 0 100 14" preserveAspectRatio="none" aria-hidden="true" { rect class="barfill" x="0" y="1" height="12" width=(format!("{:.1}", (value / most.max(f64::MIN_POSITIVE) * 100.0).clamp(0.0, 100.0))) {} }
                                }
                            }
                        }
                    }
                }
            }
        }
        @if rows.len() > GROUPS { p class="quiet small" { "There are " (rows.len() - GROUPS) " more groups; the command has them all." } }
    }
}

fn told(count: Option<u64>) -> String {
    count.map_or_else(|| "not told".to_owned(), thousands)
}

fn outcome(report: &OutcomeReport) -> Markup {
    let is_gap = matches!(report.of, OutcomeOf::Gap(_));
    let (came, not) = match report.of {
        OutcomeOf::Gap(_) => ("Closed", "Still open"),
        _ => ("In hospital, not planned", "Not in hospital"),
    };
    let bars: Vec<Bar> = [
        (came, report.yes),
        ("In hospital, planned", report.planned),
        (not, report.no),
        ("Apart: died before", report.died),
        ("Apart: asked of no more", report.left),
        ("Apart: not observed for so long yet", report.not_yet),
        ("Apart: can’t be told", report.unknown),
    ]
    .into_iter()
    .enumerate()
    .filter(|(place, (_, count))| matches!(place, 0 | 2) || *count > 0)
    .map(|(_, (name, count))| Bar {
        name: name.to_owned(),
        count,
        href: None,
    })
    .collect();
    let measured = report.measured();
    html! {
        h3 { (report.title) }
        @if measured == 0 { p class="quiet" { "Nobody of whom it can be told yet." } }
        @else {
            p {
                span class="strong" { (thousands(report.yes)) " of " (thousands(measured)) } " (" (share(report.yes, measured)) ")"
                @if is_gap { ": what was missing at the start has come." } @else { " were in hospital without a plan." }
                @if let Some(half) = report.after.p50_ms { " Half of these within " (stayed(half)) "." }
            }
        }
        div class="scroll" { (drawing::bars(&bars, "What came", "Journeys")) }
        @if measured > 0 && !report.groups.is_empty() {
            details {
                summary { "By group" }
                div class="stack" {
                    @for split in &report.groups {
                        @let rows: Vec<Row> = split.rows.iter().map(|row| Row {
                            group: row.group.clone(),
                            told: vec![
                                row.percent.map_or_else(|| "not told".to_owned(), |percent| format!("{percent} %")),
                                told(row.yes),
                                told(row.measured),
                            ],
                            value: row.percent.map(f64::from),
                        }).collect();
                        (groups(&split.by, &["Share", "How many", "Of"], &rows, 100.0))
                    }
                }
            }
        }
    }
}

/// What came of them.
pub(super) fn outcomes(report: &Report) -> Markup {
    html! {
        @if !report.outcomes.is_empty() {
            section class="stack" aria-labelledby="came" {
                h2 id="came" { "What came of them" }
                p class="quiet" {
                    "Within " (report.days) " days, as far as the record has it: stays in hospital after the discharge that began the journey, or else after its start, and what was missing at its start. "
                    "Shares are of those who were observed for all of these days and of whom it can be told."
                }
                @for one in &report.outcomes { (outcome(one)) }
            }
        }
    }
}

/// What one question's answers are by groups.
fn answers(graph: &GraphView, score: &ScoreReport) -> Markup {
    let means = score.groups.iter().flat_map(|split| &split.rows);
    let means: Vec<f64> = means.filter_map(|row| row.mean).collect();
    let most = means.iter().copied().fold(0.0, f64::max);
    // A bar from zero says nothing of what is below it.
    let drawn = means.iter().all(|mean| *mean >= 0.0);
    html! {
        details {
            summary { "By group: " (title_of(graph, &score.step)) ", " span class="mono" { (score.question) } }
            div class="stack" {
                @for split in &score.groups {
                    @let rows: Vec<Row> = split.rows.iter().map(|row| Row {
                        group: row.group.clone(),
                        told: vec![
                            row.mean.map_or_else(|| "not told".to_owned(), |mean| format!("{mean:.2}")),
                            row.deviation.map_or_else(String::new, |deviation| format!("{deviation:.2}")),
                            told(row.count),
                        ],
                        value: row.mean.filter(|_| drawn),
                    }).collect();
                    (groups(&split.by, &["Mean", "Give or take", "Answers"], &rows, most))
                }
            }
        }
    }
}

/// What was answered by numbers.
pub(super) fn scores(graph: &GraphView, report: &Report) -> Markup {
    html! {
        @if !report.scores.is_empty() {
            section class="stack" aria-labelledby="answers" {
                h2 id="answers" { "What they answered" }
                p class="quiet" { "Answers that are numbers. Of fewer than " (FEW_CASES) " nothing is told." }
                div class="scroll" {
                    table {
                        thead { tr { th scope="col" { "Question" } th scope="col" class="number" { "Answers" } th scope="col" class="number" { "Mean" } th scope="col" class="number" { "Give or take" } } }
                        tbody { @for score in &report.scores { tr {
                            th scope="row" { (title_of(graph, &score.step)) div class="quiet small mono" { (score.question) } }
                            td class="number" { @match score.count { Some(count) => (thousands(count)), None => "not told" } }
                            td class="number" { @if let Some(mean) = score.mean { (format!("{mean:.2}")) } }
                            td class="number" { @if let Some(deviation) = score.deviation { (format!("{deviation:.2}")) } }
                        } } }
                    }
                }
                @for score in report.scores.iter().filter(|score| !score.groups.is_empty()) { (answers(graph, score)) }
            }
        }
    }
}

/// The newest analyses of several versions side by side.
pub(super) fn versions(analyses: &[(&VersionView, Report)]) -> Markup {
    let mut asked: Vec<(&OutcomeOf, &str)> = Vec::new();
    for outcome in analyses.iter().flat_map(|(_, report)| &report.outcomes) {
        if asked.iter().all(|(of, _)| **of != outcome.of) {
            asked.push((&outcome.of, &outcome.title));
        }
    }
    asked.sort_unstable();
    html! {
        @if analyses.len() > 1 {
            section class="stack" aria-labelledby="versions" {
                h2 id="versions" { "Versions side by side" }
                p class="quiet" { "The newest analysis of each version that has one. Who is in which version may differ in more than the version." }
                div class="scroll" {
                    table {
                        thead { tr {
                            th scope="col" { "Version" }
                            @for column in ["Journeys", "Over", "Half took no longer than", "Fitness"] { th scope="col" class="number" { (column) } }
                            @for (_, title) in &asked { th scope="col" class="number" { (title) } }
                        } }
                        tbody {
                            @for (version, report) in analyses {
                                tr {
                                    th scope="row" { a href=(address(version)) { "Version " (version.version) } }
                                    td class="number" { (thousands(report.cases)) }
                                    td class="number" { (thousands(report.ended)) }
                                    td class="number nowrap" { @if let Some(half) = report.length.p50_ms { (stayed(half)) } @else { "–" } }
                                    td class="number" { (measure(report.fitness.mean)) }
                                    @for (of, _) in &asked {
                                        td class="number nowrap" {
                                            @match report.outcomes.iter().find(|one| one.of == **of) {
                                                Some(one) if one.measured() > 0 => {
                                                    (share(one.yes, one.measured()))
                                                    div class="quiet small" { "of " (thousands(one.measured())) ", " (report.days) " days" }
                                                },
                                                _ => "–",
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
}
