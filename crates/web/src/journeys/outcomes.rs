//! What came of a version's patients by the rest of the record, and what they answered, with groups side by side: from
//! the analysis that was made last.

use journey::{FEW_CASES, GraphView, OutcomeOf, OutcomeReport, Report, ScoreReport, VersionView};
use maud::{Markup, html};

use super::analysis::{address, measure, share};
use super::step::stayed;
use super::title_of;
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
    bars(&format!("By {by}"), columns, rows, most)
}

fn bars(caption: &str, columns: &[&str], rows: &[Row], most: f64) -> Markup {
    html! {
        div class="scroll" tabindex="0" role="region" aria-label=(caption) {
            table class="bars" {
                caption { (caption) }
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
    let rows = [
        (came, report.yes),
        ("In hospital, planned", report.planned),
        (not, report.no),
        ("Apart: died before", report.died),
        ("Apart: asked of no more", report.left),
        ("Apart: not observed for so long yet", report.not_yet),
        ("Apart: can’t be told", report.unknown),
    ];
    let is_row = |place: usize, count| match place {
        0 | 2 => true,
        1 if is_gap => false,
        _ => count != Some(0),
    };
    let rows = rows.into_iter().enumerate();
    let rows: Vec<Row> = rows
        .filter(|(place, (_, count))| is_row(*place, *count))
        .map(|(_, (name, count))| Row {
            group: name.to_owned(),
            told: vec![told(count)],
            value: count
                .and_then(|count| u32::try_from(count).ok())
                .map(f64::from),
        })
        .collect();
    let most = rows.iter().filter_map(|row| row.value).fold(1.0, f64::max);
    html! {
        h3 { (report.title) }
        @match (report.share(), report.measured) {
            (_, Some(0)) => p class="quiet" { "Nobody of whom it can be told yet." },
            (Some((yes, of)), _) => p {
                span class="strong" { (thousands(yes)) " of " (thousands(of)) } " (" (share(yes, of)) ")"
                @if is_gap { ": what was missing at the start has come." } @else { " were in hospital without a plan." }
                @if let Some(half) = report.after_p50_ms { " Half of these within " (stayed(half)) "." }
            },
            _ => p class="quiet" { "The share is not told: it would tell of fewer than " (FEW_CASES) " people." },
        }
        (bars("What came", &["Journeys"], &rows, most))
        @if report.measured != Some(0) && !report.groups.is_empty() {
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
                    "Shares are of those who were observed for all of these days and of whom it can be told. Numbers that would tell of fewer than " (FEW_CASES) " people, or from which one could be made that does, are not told."
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
                div class="scroll" tabindex="0" role="region" aria-label="What they answered, table" {
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

/// An outcome, what it is told apart by from one of the same name, and its title.
type Asked<'a> = (&'a OutcomeOf, &'a str, &'a str);

/// What was asked for in some version, each once. What asks for something else in another version is something else,
/// whatever its name.
fn asked<'a>(reports: impl Iterator<Item = &'a Report>) -> Vec<Asked<'a>> {
    let mut asked: Vec<Asked<'a>> = Vec::new();
    for one in reports.flat_map(|report| &report.outcomes) {
        if !asked
            .iter()
            .any(|(of, key, _)| (*of, *key) == (&one.of, one.key.as_str()))
        {
            asked.push((&one.of, &one.key, &one.title));
        }
    }
    asked.sort_by_key(|(of, ..)| *of);
    asked
}

/// To how many of how many it came in one version, in words.
fn side_by_side(report: &Report, of: &OutcomeOf, key: &str) -> Markup {
    let mut outcomes = report.outcomes.iter();
    let found = outcomes.find(|one| one.of == *of && one.key == key);
    html! {
        @match found.map(|one| (one.share(), one.measured)) {
            None | Some((_, Some(0))) => "–",
            Some((Some((yes, of)), _)) => {
                (share(yes, of))
                div class="quiet small" { "of " (thousands(of)) ", " (report.days) " days" }
            },
            Some((None, _)) => "not told",
        }
    }
}

/// The newest analyses of several versions side by side.
pub(super) fn versions(analyses: &[(&VersionView, Report)]) -> Markup {
    let asked = asked(analyses.iter().map(|(_, report)| report));
    html! {
        @if analyses.len() > 1 {
            section class="stack" aria-labelledby="versions" {
                h2 id="versions" { "Versions side by side" }
                p class="quiet" { "The newest analysis of each version that has one. Who is in which version may differ in more than the version. What asks for something else than in another version has a column of its own." }
                div class="scroll" tabindex="0" role="region" aria-label="Versions side by side, table" {
                    table {
                        thead { tr {
                            th scope="col" { "Version" }
                            @for column in ["Journeys", "Over", "Half took no longer than", "Fitness"] { th scope="col" class="number" { (column) } }
                            @for (.., title) in &asked { th scope="col" class="number" { (title) } }
                        } }
                        tbody {
                            @for (version, report) in analyses {
                                tr {
                                    th scope="row" { a href=(address(version)) { "Version " (version.version) } }
                                    td class="number" { (thousands(report.cases)) }
                                    td class="number" { (thousands(report.ended)) }
                                    td class="number nowrap" { @if let Some(half) = report.length.p50_ms { (stayed(half)) } @else { "–" } }
                                    td class="number" { (measure(report.fitness.mean)) }
                                    @for (of, key, _) in &asked { td class="number nowrap" { (side_by_side(report, of, key)) } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(key: &str, (yes, measured): (Option<u64>, Option<u64>)) -> Report {
        Report {
            days: 30,
            outcomes: vec![OutcomeReport {
                of: OutcomeOf::Gap("unweighed".into()),
                title: "Not weighed".into(),
                key: key.into(),
                measured,
                yes,
                planned: None,
                no: None,
                died: None,
                left: None,
                not_yet: None,
                unknown: None,
                after_p50_ms: None,
                groups: Vec::new(),
            }],
            ..Report::default()
        }
    }

    #[test]
    fn what_asks_for_something_else_stands_in_another_column() {
        let reports = [
            of("unweighed/a", (Some(20), Some(50))),
            of("unweighed/b", (Some(30), Some(60))),
            of("unweighed/a", (None, Some(40))),
            of("unweighed/a", (Some(0), Some(0))),
        ];
        let asked = asked(reports.iter());
        let keys: Vec<&str> = asked.iter().map(|(_, key, _)| *key).collect();
        assert_eq!(keys, ["unweighed/a", "unweighed/b"]);
        let told = |report: usize, column: usize| {
            let (of, key, _) = asked[column];
            side_by_side(&reports[report], of, key).into_string()
        };
        assert!(told(0, 0).starts_with("40 %"), "{}", told(0, 0));
        assert_eq!((told(0, 1).as_str(), told(1, 0).as_str()), ("–", "–"));
        assert!(told(1, 1).contains("of 60, 30 days"));
        assert_eq!(
            (told(2, 0).as_str(), told(3, 0).as_str()),
            ("not told", "–")
        );
    }
}
