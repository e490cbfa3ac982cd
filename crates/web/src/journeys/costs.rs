//! What a version's messages cost, by channel and month, beside what was simulated.

use journey::{CostRow, Costs, Report};
use maud::{Markup, html};
use trust::costs::Amount;

use crate::layout::thousands;

/// Months on the page, the newest ones.
const MONTHS: usize = 12;

/// What a channel is called.
fn named(channel: &str) -> &str {
    match channel {
        "email" => "E-mail",
        "sms" => "Text message",
        "push" => "Notification",
        "letter" => "Letter",
        "voice" => "Telephone call",
        other => other,
    }
}

/// Amounts, each in its currency.
fn amounts(amounts: &[Amount]) -> Markup {
    html! { @for (place, amount) in amounts.iter().enumerate() { @if place > 0 { br; } (amount) } }
}

/// What is known of the price of some messages: not known is not the same as nothing.
fn cost(row: &CostRow) -> Markup {
    html! {
        @if row.cost.is_empty() { span class="quiet" { "price not known" } }
        @else {
            (amounts(&row.cost))
            @if row.unpriced > 0 { div class="quiet small" { "and " (thousands(row.unpriced)) " whose price is not known" } }
        }
    }
}

/// `0.25`, messages of a journey.
#[allow(clippy::cast_precision_loss, reason = "numbers of messages")]
fn each(messages: u64, cases: u64) -> String {
    match cases {
        0 => "–".to_owned(),
        cases => format!("{:.2}", messages as f64 / cases as f64),
    }
}

fn by_channel(costs: &Costs, cases: u64) -> Markup {
    html! {
        div class="scroll" tabindex="0" role="region" aria-label="Cost by channel" { table {
            caption { "By channel" }
            thead { tr {
                th scope="col" { "Channel" } th scope="col" class="number" { "Messages" } th scope="col" class="number" { "Segments" }
                th scope="col" class="number" { "Cost" } th scope="col" class="number" { "A journey" }
                th scope="col" class="number" { "A journey, simulated" } th scope="col" class="number" { "Cost, as simulated" }
            } }
            tbody { @for row in costs.by_channel() { tr {
                th scope="row" { (named(&row.channel)) }
                td class="number" { (thousands(row.messages)) }
                td class="number" { @if row.segments > 0 { (thousands(row.segments)) } @else { "–" } }
                td class="number nowrap" { (cost(&row)) }
                td class="number" { (each(row.messages, cases)) }
                td class="number" { @match costs.simulated_each(&row.channel) { Some(each) => (format!("{each:.2}")), None => "–" } }
                td class="number nowrap" { @match costs.foreseen(&row.channel, cases) { Some(foreseen) => (foreseen), None => "–" } }
            } } }
        } }
    }
}

fn by_month(costs: &Costs) -> Markup {
    let mut months: Vec<&str> = costs.rows.iter().map(|row| row.month.as_str()).collect();
    months.dedup();
    let first = months.len().saturating_sub(MONTHS);
    let shown = &months[first..];
    html! {
        div class="scroll" tabindex="0" role="region" aria-label="Cost by month" { table {
            caption { "By month" }
            thead { tr { th scope="col" { "Month" } th scope="col" { "Channel" } th scope="col" class="number" { "Messages" } th scope="col" class="number" { "Cost" } } }
            tbody { @for row in costs.rows.iter().rev().filter(|row| shown.contains(&row.month.as_str())) { tr {
                th scope="row" class="nowrap" { (row.month) }
                td { (named(&row.channel)) }
                td class="number" { (thousands(row.messages)) }
                td class="number nowrap" { (cost(row)) }
            } } }
        } }
        @if first > 0 { p class="quiet small" { "There are " (first) " earlier months; the command has them all." } }
    }
}

/// `1 message`, `2,000 messages`.
fn counted(count: u64, noun: &str) -> String {
    if count == 1 {
        format!("1 {noun}")
    } else {
        format!("{} {noun}s", thousands(count))
    }
}

/// The section of the page.
pub(super) fn costs(report: &Report) -> Markup {
    html! {
        section class="stack" aria-labelledby="costs" {
            h2 id="costs" { "What messages cost" }
            @match &report.costs {
                None => p class="quiet" { "This analysis was made before costs were counted. Make it anew." },
                Some(costs) if costs.rows.is_empty() => p class="quiet" { "No message has left yet. What lies in the portal costs nothing." },
                Some(costs) => {
                    @let total = costs.total();
                    p {
                        @if total.is_empty() { "No price is configured of what has left." }
                        @else { span class="strong" { (amounts(&total)) } " in all, by the prices of the configuration when it left." }
                        @if costs.unpriced() > 0 && !total.is_empty() { " Of " (counted(costs.unpriced(), "message")) " no price is known: no sum has that." }
                        @if costs.unreadable > 0 { " The messages of " (counted(costs.unreadable, "journey")) " can’t be read." }
                        @if costs.kept_back > 0 { " Of " (counted(costs.kept_back, "journey")) " consents or labels keep messages back: no sum has those." }
                        @if report.left_out > 0 { " Who is left out of this analysis is left out here, too." }
                    }
                    (by_channel(costs, report.cases))
                    p class="quiet small" { "Simulated are " (thousands(costs.simulated_patients)) " made-up patients over " (costs.simulated_days) " days, by the simulator’s own assumptions; their cost is at the mean price of what really left, for as many journeys. What a provider bills may differ." }
                    (by_month(costs))
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use journey::SimulatedMessages;

    #[test]
    fn what_is_not_known_is_no_nothing() {
        let row = |month: &str, channel: &str, unpriced, cost: &[&str]| CostRow {
            month: month.into(),
            channel: channel.into(),
            messages: 4,
            segments: 0,
            unpriced,
            cost: cost
                .iter()
                .filter_map(|one| Amount::parse(one, "USD"))
                .collect(),
        };
        let mut report = Report {
            cases: 2,
            ..Report::default()
        };
        let page = |report: &Report| costs(report).into_string();
        assert!(page(&report).contains("Make it anew"));
        report.costs = Some(Costs::default());
        assert!(page(&report).contains("No message has left yet"));
        report.costs = Some(Costs {
            rows: vec![row("2026-02", "email", 4, &[])],
            ..Costs::default()
        });
        let shown = page(&report);
        assert!(shown.contains("No price is configured") && shown.contains("price not known"));
        assert!(!shown.contains("0.00"), "{shown}");
        let mut rows: Vec<CostRow> = (1..=13)
            .map(|month| row(&format!("2025-{month:02}"), "sms", 0, &["0.5"]))
            .collect();
        rows.push(row("2026-02", "email", 1, &["0.3"]));
        rows.push(row("2026-02", "sms", 0, &["1"]));
        report.costs = Some(Costs {
            rows,
            simulated_patients: 10,
            simulated_days: 365,
            simulated: vec![SimulatedMessages {
                channel: "sms".into(),
                messages: 30,
            }],
            unreadable: 0,
            kept_back: 2,
        });
        report.left_out = 1;
        let shown = page(&report);
        for said in [
            "7.80 USD</span> in all",
            "Of 1 message no price is known",
            "Of 2 journeys consents or labels keep messages back",
            "Who is left out of this analysis is left out here, too.",
            "and 1 whose price is not known",
            "2026-02",
            "There are 2 earlier months",
        ] {
            assert!(shown.contains(said), "{said} in {shown}");
        }
        assert!(!shown.contains("2025-01"));
    }
}
