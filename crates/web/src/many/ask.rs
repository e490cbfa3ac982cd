//! What many tasks are asked about before anything is done: what has to be said with a deed, and, of all that fit a
//! filter, which those are.

use std::collections::HashMap;

use axum::response::Response;
use maud::{Markup, html};

use super::said::{described, patient, whose};
use super::{Meant, Seen, What};
use crate::context::Ctx;
use crate::error::PageError;
use crate::layout::{Section, console, count_of, csrf, thousands};
use crate::tasks::{Deed, ROLES, TaskRow, outcome_value};

/// A way to end, of several tasks: its code, its words, and how many can end so.
#[derive(Debug, PartialEq, Eq)]
struct Ending<'a> {
    code: &'a str,
    words: &'a str,
    count: usize,
}

/// The ways in which tasks can end, those of most of them first. One code may have other words in another journey, and then
/// means something else; a task without outcomes is done whatever is chosen.
fn endings<'a>(rows: &[&'a TaskRow]) -> Vec<Ending<'a>> {
    let mut endings: Vec<Ending<'a>> = Vec::new();
    for (code, words) in rows.iter().flat_map(|row| &row.outcomes) {
        match (endings.iter_mut()).find(|known| known.code == code && known.words == words) {
            Some(known) => known.count += 1,
            None => endings.push(Ending {
                code,
                words,
                count: 1,
            }),
        }
    }
    let plain = rows.iter().filter(|row| row.outcomes.is_empty()).count();
    for ending in &mut endings {
        ending.count += plain;
    }
    // Which was first among as many stays first.
    endings.sort_by_key(|ending| std::cmp::Reverse(ending.count));
    endings
}

fn outcome(endings: &[Ending<'_>], tasks: usize) -> Markup {
    html! {
        @if !endings.is_empty() {
            label { "How they ended" span class="hint" { "A task that can't end so is left as it is" }
                select name="outcome" required {
                    @for Ending { code, words, count } in endings {
                        option value=(outcome_value(code, words)) { (words) @if *count < tasks { " (" (count) " of " (tasks) " can end so)" } }
                    }
                    option value="other" { "something else" }
                }
            }
        }
    }
}

/// Which tasks they are.
fn listed(
    tasks: &[Seen],
    rows: &HashMap<String, TaskRow>,
    names: &HashMap<String, crate::worklist::PatientLine>,
) -> Markup {
    html! {
        details id="which" {
            summary { "Which tasks these are" }
            ul class="small" {
                @for task in tasks { li {
                    @match rows.get(&task.id) {
                        Some(row) => { (row.title) @if row.patient.is_some() { ": " (patient(row, names)) } @if let Some((_, owner)) = &row.owner { span class="quiet" { ", " (owner) } } },
                        None => "A task that you are not shown, or that could not be read",
                    }
                } }
            }
        }
    }
}

/// Asks for what a deed needs to be said with it. What is sent then names each task as it was seen here, so that it is the
/// same tasks, and sent again it finds them changed.
pub(super) async fn ask(
    ctx: &Ctx,
    what: What,
    meant: &Meant,
    back: &str,
) -> Result<Response, PageError> {
    let What::Deed(deed) = what else {
        return Err(PageError::NotFound);
    };
    let tasks = &meant.tasks;
    let (rows, names, _) = described(ctx, tasks).await;
    let (title, button) = match deed {
        Deed::Claim => ("Tasks to claim", "Claim"),
        Deed::Release => ("Tasks to give back", "Give back"),
        Deed::Done => ("Tasks that are done", "Mark as done"),
        Deed::Delegate | Deed::Reopen => ("Tasks to hand on", "Hand on"),
    };
    let me = &ctx.session.agent.id;
    let others = tasks.iter().filter_map(|task| {
        let (id, name) = rows.get(&task.id)?.owner.as_ref()?;
        (id != me).then_some(name.as_str())
    });
    let (others, names_of_others) = whose(others);
    let in_order: Vec<&TaskRow> = tasks.iter().filter_map(|task| rows.get(&task.id)).collect();
    let body = html! {
        p class="crumbs" { a href=(back) { "Worklist" } }
        h1 { (title) }
        p {
            "It is for " span class="strong" { (count_of(tasks.len(), "task")) } "."
            @if meant.total > tasks.len() { " These are the first of " (thousands(meant.total as u64)) "." }
            @if let Some(looked_at) = meant.only { " Only the newest " (thousands(looked_at as u64)) " open tasks were looked at, so there may be others whose waiting harms more." }
            " Each is decided by itself; what can't be done is listed, and the rest can be undone."
        }
        @if others > 0 {
            p class="note" {
                (others) @if others == 1 { " is" } @else { " are" } " somebody else's: " (names_of_others) "."
                @match deed {
                    Deed::Claim => " Claiming takes them over.",
                    Deed::Release => " You can't give those back.",
                    _ => "",
                }
            }
        }
        (listed(tasks, &rows, &names))
        form class="ask stack fields" method="post" action=(back) {
            (csrf(ctx))
            input type="hidden" name="said" value="yes";
            @for task in tasks { (task.field()) }
            @if deed == Deed::Done {
                (outcome(&endings(&in_order), tasks.len()))
                label { "Note" span class="hint" { "What others should know of each of them; may stay empty" } textarea name="note" maxlength="2000" {} }
            } @else if deed == Deed::Delegate {
                label { "To" select name="role" required { @for (code, words) in ROLES { option value=(code) { (words) } } } }
                label { "Colleague" span class="hint" { "Their user name, whatever their role; empty for any of the role" } input type="text" name="person" autocomplete="off" autocapitalize="none" spellcheck="false" maxlength="200"; }
                label { "Note" span class="hint" { "Why, for whoever takes them; may stay empty" } textarea name="note" maxlength="2000" {} }
            }
            div class="inline-fields" { button class="primary" type="submit" name="deed" value=(what.code()) { (button) } a class="button" href=(back) { "Don't" } }
        }
    };
    Ok(console(ctx, title, Section::Worklist, None, &body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_to_end_has_its_own_words_and_count() {
        let row = |outcomes: &[(&str, &str)]| TaskRow {
            outcomes: (outcomes.iter())
                .map(|(code, words)| ((*code).to_owned(), (*words).to_owned()))
                .collect(),
            ..TaskRow::default()
        };
        let (reached, came) = (
            ("reached", "Reached by telephone"),
            ("reached", "Came to the clinic"),
        );
        let rows = [
            row(&[reached]),
            row(&[came]),
            row(&[came, ("missed", "Not reached")]),
            row(&[]),
        ];
        let rows: Vec<&TaskRow> = rows.iter().collect();
        let ending = |(code, words), count| Ending { code, words, count };
        let expected = [
            ending(came, 3),
            ending(reached, 2),
            ending(("missed", "Not reached"), 2),
        ];
        // The same at each look: none of it comes out of a map without an order.
        for _ in 0..20 {
            assert_eq!(endings(&rows), expected);
        }
        assert_eq!(endings(&rows[3..]), []);
    }
}
