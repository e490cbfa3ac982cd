//! What came of patients, and answers by group, in words for terminals.

use super::FEW_CASES;
use super::outcomes::OutcomeOf;
use super::report::{Report, ScoreReport, share, spoken};
use std::fmt::Write as _;

fn told(count: Option<u64>) -> String {
    count.map_or_else(|| "not told".to_owned(), |count| count.to_string())
}

/// What came of them.
pub(super) fn outcomes(text: &mut String, report: &Report) {
    for outcome in &report.outcomes {
        let _ = writeln!(text, "\n{}, within {} days", outcome.title, report.days);
        let (came, planned, not) = match outcome.of {
            OutcomeOf::Gap(_) => ("closed", "", "still open"),
            _ => ("unplanned", "planned", "not in hospital"),
        };
        let _ = match outcome.share() {
            Some((yes, of)) => writeln!(text, "  {came}: {yes} of {of} ({})", share(yes, of)),
            None => writeln!(
                text,
                "  {came}: {} of {}",
                told(outcome.yes),
                told(outcome.measured)
            ),
        };
        if let Some(half) = outcome.after_p50_ms {
            let _ = writeln!(text, "      half of these within {}", spoken(half));
        }
        for (count, words) in [
            (outcome.planned, planned),
            (outcome.no, not),
            (outcome.died, "died before, apart"),
            (outcome.left, "asked of no more, apart"),
            (outcome.not_yet, "not observed for so long yet, apart"),
            (outcome.unknown, "can't be told, apart"),
        ] {
            if count != Some(0) && !words.is_empty() {
                let _ = writeln!(text, "  {}: {words}", told(count));
            }
        }
        for split in &outcome.groups {
            let _ = writeln!(text, "  by {}", split.by);
            for row in &split.rows {
                let _ = match (row.percent, row.yes, row.measured) {
                    (Some(percent), Some(yes), Some(of)) => {
                        writeln!(text, "    {}: {percent} % ({yes} of {of})", row.group)
                    }
                    _ => writeln!(text, "    {}: not told", row.group),
                };
            }
        }
    }
}

/// One question's answers by groups.
pub(super) fn answers_by_group(text: &mut String, score: &ScoreReport) {
    for split in &score.groups {
        let _ = writeln!(text, "    by {}", split.by);
        for row in &split.rows {
            let _ = match (row.mean, row.deviation) {
                (Some(mean), Some(deviation)) => writeln!(
                    text,
                    "      {}: {mean:.2} on average, give or take {deviation:.2}, of {}",
                    row.group,
                    told(row.count)
                ),
                _ => writeln!(
                    text,
                    "      {}: not told, of fewer than {FEW_CASES} or because of those",
                    row.group
                ),
            };
        }
    }
}
