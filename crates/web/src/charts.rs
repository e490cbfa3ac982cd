//! Charts of days: one strip for each thing, bars from zero, its name and its numbers beside it as text, and a table
//! beneath for who doesn't see the bars.

use std::fmt::Write as _;

use maud::{Markup, html};

use crate::layout::thousands;

/// Days of one row of the table.
const WEEK: usize = 7;

/// What is counted by day.
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) days: Vec<u64>,
}

impl Series {
    fn sum(&self) -> u64 {
        self.days.iter().sum()
    }
}

/// The bars of some days as one path, a unit wide each and 100 high where the most are.
#[allow(clippy::cast_precision_loss, reason = "pixels")]
fn bars(days: &[u64]) -> String {
    let most = days.iter().copied().max().unwrap_or(0).max(1);
    let mut path = String::new();
    for (day, count) in days.iter().enumerate().filter(|(_, count)| **count > 0) {
        // What is rare stays visible.
        let top = (100.0 - *count as f64 / most as f64 * 100.0).min(98.0);
        let _ = write!(path, "M{day}.08 100V{top:.1}h.84V100z");
    }
    path
}

/// The most of a day, and on which day that is first.
fn busiest(days: &[u64]) -> Option<(u64, usize)> {
    let most = days.iter().copied().max().filter(|most| *most > 0)?;
    let day = days.iter().position(|count| *count == most)?;
    Some((most, day + 1))
}

/// A strip for each series, all over the same days, and what they say as a table by week.
pub(crate) fn by_day(series: &[Series], length: usize, table: &'static str) -> Markup {
    let length = length.max(1);
    html! {
        div class="strips" {
            @for one in series {
                figure {
                    figcaption {
                        span class="strong" { (one.name) } " " (thousands(one.sum()))
                        @if let Some((most, day)) = busiest(&one.days) { span class="quiet" { " · most " (thousands(most)) ", on day " (day) } }
                    }
                    svg class="strip" viewBox={ "0 0 " (length) " 100" } preserveAspectRatio="none" aria-hidden="true" { path class="barfill" d=(bars(&one.days)) {} }
                }
            }
            p class="spread quiet small" aria-hidden="true" { span { "day 1" } span { "day " (length) } }
        }
        details id=(table) {
            summary { "The same as a table, by week" }
            div class="scroll" tabindex="0" role="region" aria-label="By week" { table {
                thead { tr { th scope="col" { "Days" } @for one in series { th scope="col" class="number" { (one.name) } } } }
                tbody { @for begin in (0..length).step_by(WEEK) { tr {
                    @let end = (begin + WEEK).min(length);
                    th scope="row" class="nowrap" { (begin + 1) "–" (end) }
                    @for one in series { td class="number" { (thousands(one.days.iter().take(end).skip(begin).sum())) } }
                } } }
            } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_begin_at_zero_and_the_most_is_the_highest() {
        assert_eq!(
            bars(&[0, 4, 1, 0]),
            "M1.08 100V0.0h.84V100zM2.08 100V75.0h.84V100z"
        );
        // One of a thousand is still to be seen.
        assert_eq!(
            bars(&[1000, 1]),
            "M0.08 100V0.0h.84V100zM1.08 100V98.0h.84V100z"
        );
        assert_eq!(bars(&[0, 0]), "");
    }

    #[test]
    fn the_table_says_what_the_bars_say() {
        let series = Series {
            name: "e-mail <b>".to_owned(),
            days: vec![1, 0, 0, 0, 0, 0, 0, 2_000, 3],
        };
        let drawn = by_day(&[series], 10, "t").into_string();
        assert!(drawn.contains("e-mail &lt;b&gt;") && !drawn.contains("<b>"));
        assert!(drawn.contains("2,004") && drawn.contains("most 2,000, on day 8"));
        assert!(drawn.contains("1–7</th><td class=\"number\">1</td>"));
        assert!(drawn.contains("8–10</th><td class=\"number\">2,003</td>"));
        assert!(!drawn.contains("style="));
        let none = Series {
            name: "tasks".to_owned(),
            days: Vec::new(),
        };
        let drawn = by_day(&[none], 0, "t").into_string();
        assert!(drawn.contains("tasks</span> 0") && !drawn.contains("most"));
    }
}
