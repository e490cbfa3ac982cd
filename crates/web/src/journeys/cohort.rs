//! What a simulated cohort did, for people: volumes by day, work of staff, messages, endings, and what all of it
//! rests on.

use journey::{Beside, RoleLoad, Simulated};
use maud::{Markup, html};

use crate::charts::{self, Series};
use crate::drawing::{self, Bar};
use crate::layout::{self, State, thousands};

/// Hours and other figures that are no counts.
fn figure(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

fn days(report: &Simulated) -> usize {
    usize::try_from(report.days).unwrap_or(0)
}

/// What is counted by day.
fn series(report: &Simulated) -> Vec<Series> {
    let named = |name: &str, days: &[u64]| Series {
        name: name.to_owned(),
        days: days.to_vec(),
    };
    let mut all = vec![named("Patients who start", &report.starts_by_day)];
    all.extend(
        report
            .messages_by_day
            .iter()
            .map(|(channel, days)| named(&format!("Messages by {channel}"), days)),
    );
    all.push(named("Tasks for staff", &report.tasks_by_day));
    all
}

/// Bars of hours, to the busiest day's of the busiest role, or to what a role has.
fn load(roles: &[RoleLoad]) -> Markup {
    let most = roles
        .iter()
        .map(|role| role.hours_max.max(role.capacity.unwrap_or(0.0)))
        .fold(f64::MIN_POSITIVE, f64::max);
    html! {
        div class="scroll" tabindex="0" role="region" aria-label="Work of staff" { table class="load" {
            thead { tr { th scope="col" { "Role" } th scope="col" class="number" { "Hours" } th scope="col" class="number" { "A day" } th scope="col" class="number" { "Busiest day" } th scope="col" { span class="visually-hidden" { "Bar of the busiest day" } } th scope="col" { "Enough?" } } }
            tbody { @for role in roles { tr {
                th scope="row" { @if role.role.is_empty() { "Whoever takes it" } @else { (role.role) } }
                td class="number" { (figure(role.hours)) }
                td class="number" { (figure(role.hours_a_day)) }
                td class="number" { (figure(role.hours_max)) " h" }
                td class="bar" { svg width="100%" height="14" viewBox="0 0 100 14" preserveAspectRatio="none" aria-hidden="true" { rect class="barfill" x="0" y="1" height="12" width=(format!("{:.1}", role.hours_max / most * 100.0)) {} } }
                td { @match role.capacity {
                    None => span class="quiet" { "no capacity is given" },
                    Some(capacity) if role.days_over == 0 => (layout::state(State::Done, &format!("within {} h a day", figure(capacity)))),
                    Some(capacity) => (layout::state(State::NeedsYou, &format!("{} h a day is not enough on {}", figure(capacity), layout::count_of(role.days_over, "day")))),
                } }
            } } }
        } }
    }
}

fn endings(report: &Simulated) -> Vec<Bar> {
    let bar = |name: String, count: u64| Bar {
        name,
        count,
        href: None,
    };
    let ended = report.endings.iter();
    let mut bars: Vec<Bar> = ended
        .map(|ending| bar(super::spoken(&ending.code), ending.count))
        .collect();
    bars.push(bar("still under way".to_owned(), report.under_way));
    bars
}

fn messages(report: &Simulated) -> Vec<Bar> {
    let patients = report.patients_by_messages.iter();
    patients
        .map(|(messages, patients)| Bar {
            name: layout::count_of(usize::try_from(*messages).unwrap_or(usize::MAX), "message"),
            count: *patients,
            href: None,
        })
        .collect()
}

fn against(version: u32, rows: &[Beside]) -> Markup {
    html! {
        section class="stack" aria-labelledby="against" {
            h3 id="against" { "The same people along version " (version) }
            div class="scroll" tabindex="0" role="region" aria-label="Beside the other version" { table {
                thead { tr { th scope="col" { "What" } th scope="col" class="number" { "This file" } th scope="col" class="number" { "Version " (version) } th scope="col" class="number" { "Difference" } } }
                tbody { @for row in rows { tr {
                    th scope="row" { (row.what) }
                    td class="number" { (figure(row.this)) }
                    td class="number" { (figure(row.against)) }
                    td class="number" { (format!("{:+.1}", row.this - row.against)) }
                } } }
            } }
        }
    }
}

/// The report; beside that of another version, if there is one.
pub(super) fn report(report: &Simulated, other: Option<&(u32, Box<Simulated>)>) -> Markup {
    html! {
        section class="stack-wide" id="simulated" aria-labelledby="cohort" {
            div class="stack" {
                h2 id="cohort" { "A simulated cohort" }
                p { span class="strong" { (thousands(u64::from(report.patients))) } " made-up patients over " span class="strong" { (report.days) } " days, seed " span class="strong" { (report.seed) } ": the same seed gives the same again." }
                @for (why, count) in &report.refused { p class="problem" { "The engine refused to move " (layout::count_of(usize::try_from(*count).unwrap_or(usize::MAX), "patient")) ": " (why) } }
            }
            section class="stack" aria-labelledby="volumes" {
                h3 id="volumes" { "Volumes by day" }
                (charts::by_day(&series(report), days(report), "volumes-table"))
                p class="quiet" { (thousands(report.forms)) " forms opened, " (thousands(report.visits)) " visits proposed, " (thousands(report.handed_over)) " overdue tasks handed over." }
            }
            div class="columns half" {
                section class="stack" aria-labelledby="work" {
                    h3 id="work" { "Work of staff, in hours" }
                    @if report.roles.is_empty() { p class="quiet" { "No task came to anybody." } } @else { (load(&report.roles)) }
                }
                section class="stack" aria-labelledby="messages" {
                    h3 id="messages" { "Messages per patient" }
                    p { (figure(report.messages_mean)) " on average; 95 in a hundred get at most " (report.messages_p95) ", nobody more than " (report.messages_max) "." }
                    (drawing::bars(&messages(report), "Messages", "Patients"))
                }
                section class="stack" aria-labelledby="ended" {
                    h3 id="ended" { "How it ended" }
                    (drawing::bars(&endings(report), "Ending", "Patients"))
                }
                @if !report.goals.is_empty() { section class="stack" aria-labelledby="goals" {
                    h3 id="goals" { "Goals" }
                    ul { @for goal in &report.goals { li { span class="strong" { (super::spoken(&goal.goal)) } ": " (thousands(goal.count)) " patients, " (figure(goal.share * 100.0)) " in a hundred; half of them within " (figure(goal.days_median)) " days" } }  }
                } }
                @if let Some(cost) = &report.cost { section class="stack" aria-labelledby="cost" {
                    h3 id="cost" { "Cost" }
                    p { "Messages " (figure(cost.messages)) ", work " (figure(cost.work)) ", " (figure(cost.per_patient)) " a patient" @if !cost.currency.is_empty() { " (" (cost.currency) ")" } "." }
                } }
            }
            @if let Some((version, other)) = other { (against(*version, &report.against(other))) }
            details id="assumptions" {
                summary { "What this rests on" }
                ul class="stack" { @for line in &report.assumptions { li { (line) } } }
            }
        }
    }
}
