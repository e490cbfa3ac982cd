//! What came of many tasks: how many are done, with what undoes it, and which were left as they were, and why. It is told
//! whatever else can't be read just then.

use std::collections::{BTreeMap, HashMap};

use maud::{Markup, html};

use super::{Seen, Tried, What, rows, tag};
use crate::context::Ctx;
use crate::error::PageError;
use crate::layout::{self, State, count_of, csrf};
use crate::tasks::{Deed, TaskRow};
use crate::worklist::{PatientLine, patient_lines};

/// Why a task was left as it was, without anything of the patient.
fn why(ctx: &Ctx, error: &PageError) -> String {
    match error {
        PageError::Conflict => {
            "Somebody else, or the journey, changed it since you saw it.".to_owned()
        }
        PageError::NotFound => "It is not there any more, or not yours to see.".to_owned(),
        // A policy's own words are for those who look after policies.
        PageError::Refused(reason) if reason.starts_with(char::is_lowercase) => {
            "Your role does not allow it for this task.".to_owned()
        }
        PageError::Refused(words) | PageError::Invalid(words) => words.clone(),
        PageError::Erased => "This record was erased.".to_owned(),
        PageError::Internal(inside) => {
            tracing::error!(request_id = %ctx.request.id, error = %inside, "one of many tasks failed");
            "Something went wrong on our side, and nothing of it was saved.".to_owned()
        }
        _ => "It could not be done just now. Try again.".to_owned(),
    }
}

/// What was to be shown beside what came of it; nothing where it can't be read, because what is done is done, and has to be
/// told.
fn or_nothing<T: Default>(ctx: &Ctx, what: &str, read: Result<T, PageError>) -> (T, bool) {
    match read {
        Ok(read) => (read, true),
        Err(error) => {
            tracing::warn!(request_id = %ctx.request.id, %error, "{what} could not be read beside what was done");
            (T::default(), false)
        }
    }
}

/// Tasks and the names of their patients, as far as they can be read; and whether the tasks could be.
pub(super) async fn described(
    ctx: &Ctx,
    tasks: &[Seen],
) -> (HashMap<String, TaskRow>, HashMap<String, PatientLine>, bool) {
    let (rows, known) = or_nothing(ctx, "tasks", rows(ctx, tasks).await);
    let patients = rows.values().filter_map(|row| row.patient.clone());
    let (names, _) = or_nothing(ctx, "patients", patient_lines(ctx, patients).await);
    (rows, names, known)
}

/// The patient of a task, as a link.
pub(super) fn patient(row: &TaskRow, names: &HashMap<String, PatientLine>) -> Markup {
    html! {
        @if let Some(patient) = &row.patient {
            a href={ "/console/patients/" (patient) } {
                @match names.get(patient) { Some(line) => (line.name), None => { "Patient " (layout::short_id(patient)) } }
            }
        }
    }
}

/// What was not done: which task, whose, and why.
async fn left(ctx: &Ctx, what: What, tried: &[Tried]) -> Markup {
    let left: Vec<(&Seen, &PageError)> = (tried.iter())
        .filter_map(|one| Some((&one.task, one.done.as_ref().err()?)))
        .collect();
    if left.is_empty() {
        return html! {};
    }
    let tasks: Vec<Seen> = left.iter().map(|(task, _)| (*task).clone()).collect();
    let (rows, names, known) = described(ctx, &tasks).await;
    html! {
        section class="problem stack" aria-labelledby="left" {
            h2 id="left" { (count_of(left.len(), "task")) " not " (what.words()) }
            div class="scroll" { table {
                thead { tr { th scope="col" { "Task" } th scope="col" { "Patient" } th scope="col" { "Why" } } }
                tbody { @for (task, error) in &left { tr {
                    @match rows.get(&task.id) {
                        Some(row) => { th scope="row" { (row.title) } td { (patient(row, &names)) } },
                        None if known => { th scope="row" { "A task that you are not shown" } td {} }
                        None => { th scope="row" { "A task that could not be read just now" } td {} }
                    }
                    td { (why(ctx, error)) }
                } } }
            } }
        }
    }
}

/// From whom they were taken: `Devi Rao (2) and Erin Moe`.
pub(super) fn whose<'a>(owners: impl Iterator<Item = &'a str>) -> (usize, String) {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for owner in owners {
        *counts.entry(owner).or_default() += 1;
    }
    let name = |(owner, count): (&&str, &usize)| {
        let owner = if owner.is_empty() {
            "somebody without a name"
        } else {
            owner
        };
        if *count > 1 {
            format!("{owner} ({count})")
        } else {
            owner.to_owned()
        }
    };
    let names: Vec<String> = counts.iter().map(name).collect();
    (counts.values().sum(), names.join(", "))
}

/// What came of it, above the list.
pub(super) async fn said(ctx: &Ctx, what: What, tried: &[Tried], back: &str) -> Markup {
    let done: Vec<(Seen, Option<&str>)> = (tried.iter())
        .filter_map(|one| {
            let changed = one.done.as_ref().ok()?;
            let task = Seen {
                id: one.task.id.clone(),
                version: changed.version,
            };
            Some((task, changed.from.as_deref()))
        })
        .collect();
    let left = left(ctx, what, tried).await;
    let (taken, from) = whose(done.iter().filter_map(|(_, from)| *from));
    html! {
        @if !done.is_empty() {
            div class="flash" role="status" {
                (layout::state(State::Done, &format!("{} {}", count_of(done.len(), "task"), what.words())))
                @if what == What::Deed(Deed::Claim) && taken > 0 { span { (taken) " of them taken over from " (from) "." } }
                @if what == What::Deed(Deed::Done) { span class="quiet small" { "What journeys do meanwhile stays done." } }
                @if what != What::Undo {
                    form method="post" data-act="undo" action=(back) {
                        (csrf(ctx))
                        // No button says it: the key u sends the form without one.
                        input type="hidden" name="deed" value="undo";
                        @for (task, _) in &done { input type="hidden" name="task" value={ (task.id) "/" (task.version) "/" (tag(ctx, task)) }; }
                        button class="plain" type="submit" { "Undo" }
                    }
                }
            }
        }
        (left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_from_whom() {
        for (owners, expected) in [
            (&[][..], (0, "")),
            (&["Devi Rao"], (1, "Devi Rao")),
            (
                &["Erin Moe", "Devi Rao", "Devi Rao", ""],
                (4, "somebody without a name, Devi Rao (2), Erin Moe"),
            ),
        ] {
            let (count, words) = whose(owners.iter().copied());
            assert_eq!((count, words.as_str()), expected);
        }
    }
}
