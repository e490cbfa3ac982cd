//! Many tasks of the worklist at once: those that were ticked, or all that fit its filter. Each is decided and written
//! by itself, as one alone would be; what could not be done is listed with its reason, and what was done can be undone.

use std::collections::{HashMap, HashSet};

use axum::response::Response;
use fhir::ResourceType;
use futures_util::StreamExt;
use maud::{Markup, html};
use serde_json::json;
use trust::{Action, Permit};

use crate::context::{Ctx, Fields, Posted, query};
use crate::error::PageError;
use crate::layout::{self, Section, State, console, count_of, csrf, thousands};
use crate::tasks::{self, Asked, Deed, OPEN, ROLES, TaskRow, To};
use crate::time::iso;
use crate::worklist::{self, back, patient_lines};

/// Tasks at once: what a person can look over, and what a server does within a second or two.
pub(crate) const MANY_MAX: usize = 200;
/// Tasks that are written at the same time for one person.
const TOGETHER: usize = 8;
/// What a deed can have changed of a task, and what is put back.
const TOUCHED: [&str; 6] = [
    "status",
    "owner",
    "performerType",
    "businessStatus",
    "output",
    "executionPeriod",
];

/// A task and the version of it that somebody saw.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Seen {
    id: String,
    version: u32,
}

impl Seen {
    fn parse(text: &str) -> Option<Self> {
        let (id, version) = text.split_once('/')?;
        let version = version.parse().ok().filter(|version| *version > 0)?;
        fhir::is_id(id).then(|| Self {
            id: id.to_owned(),
            version,
        })
    }
    fn field(&self) -> Markup {
        html! { input type="hidden" name="task" value={ (self.id) "/" (self.version) }; }
    }
}

/// What came of a task: its new version, or why there is none.
struct Tried {
    task: Seen,
    done: Result<u32, PageError>,
}

/// What is done to many, and the word for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Deed(Deed),
    Undo,
}

impl What {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "claim" => Some(Self::Deed(Deed::Claim)),
            "release" => Some(Self::Deed(Deed::Release)),
            "delegate" => Some(Self::Deed(Deed::Delegate)),
            "done" => Some(Self::Deed(Deed::Done)),
            "undo" => Some(Self::Undo),
            _ => None,
        }
    }
    fn words(self) -> &'static str {
        match self {
            Self::Deed(Deed::Claim) => "claimed",
            Self::Deed(Deed::Release) => "given back",
            Self::Deed(Deed::Delegate) => "handed on",
            Self::Deed(Deed::Done) => "done",
            Self::Deed(Deed::Reopen) => "opened again",
            Self::Undo => "put back as before",
        }
    }
}

/// The box of a row. It belongs to the form above the list.
pub(crate) fn pick(task: &TaskRow) -> Markup {
    html! {
        label class="pick" {
            input type="checkbox" form="many" name="task" id={ "pick-" (task.id) } data-act="pick" value={ (task.id) "/" (task.version) } aria-label={ "Tick " (task.title) };
        }
    }
}

/// What can be done to those that are ticked.
pub(crate) fn bar(ctx: &Ctx, back: &str, shown: usize, total: usize) -> Markup {
    html! {
        form id="many" class="many cluster" method="post" action=(back) aria-label="Many tasks at once" {
            (csrf(ctx))
            label class="pick scripted" { input type="checkbox" id="pick-page"; span { "All on this page" } }
            @if total > shown {
                label class="pick" { input type="checkbox" name="which" value="all" id="pick-all";
                    span { @if total > MANY_MAX { "The first " (MANY_MAX) " of all " (thousands(total as u64)) " that fit" } @else { "All " (total) " that fit" } }
                }
            }
            span id="picked" class="quiet small scripted" role="status" {}
            button type="submit" name="deed" value="claim" { "Claim" span class="visually-hidden" { " those ticked" } }
            button type="submit" name="deed" value="release" { "Give back" span class="visually-hidden" { " those ticked" } }
            button type="submit" name="deed" value="delegate" { "Hand on" span class="visually-hidden" { " those ticked" } "…" }
            button type="submit" name="deed" value="done" { "Done" span class="visually-hidden" { " with those ticked" } "…" }
        }
    }
}

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

/// The tasks as they are now, by id, of those that this person is shown.
async fn rows(ctx: &Ctx, tasks: &[Seen]) -> Result<HashMap<String, TaskRow>, PageError> {
    if tasks.is_empty() {
        return Ok(HashMap::new());
    }
    let permit = ctx
        .permit(Action::Search, Some(ResourceType::Task), None)
        .await?;
    let ids: Vec<&str> = tasks.iter().map(|task| task.id.as_str()).collect();
    let query = query(ResourceType::Task, &[("_id", &ids.join(","))], MANY_MAX)?;
    let pages = ctx.vault().search_many(&permit, &[query]).await?;
    let found = pages.into_iter().flat_map(|page| page.rows);
    let staff = found.filter(|row| tasks::is_for_staff(&row.resource));
    Ok(staff
        .map(|row| TaskRow::of(&row.resource))
        .map(|row| (row.id.clone(), row))
        .collect())
}

/// The tasks that are meant: those that were ticked as they were seen, or all that fit the address as they are now;
/// and how many there would be without the bound.
async fn meant(
    ctx: &Ctx,
    address: &Fields,
    fields: &Fields,
) -> Result<(Vec<Seen>, usize), PageError> {
    if fields.get("which") == Some("all") {
        let (rows, total) = worklist::fitting(ctx, address, MANY_MAX).await?;
        let seen = rows.into_iter().map(|row| Seen {
            id: row.id,
            version: row.version,
        });
        return Ok((seen.collect(), total));
    }
    let mut known = HashSet::new();
    let mut tasks = Vec::new();
    for text in fields.all("task") {
        let task = Seen::parse(text).ok_or_else(|| {
            PageError::Invalid("A task that was ticked can't be read.".to_owned())
        })?;
        if known.insert(task.id.clone()) {
            tasks.push(task);
        }
    }
    if tasks.len() > MANY_MAX {
        return Err(PageError::Invalid(format!(
            "At most {MANY_MAX} tasks are changed at once, and {} were ticked. Nothing was done.",
            tasks.len()
        )));
    }
    let total = tasks.len();
    Ok((tasks, total))
}

/// Puts a task back as it was before the version that was seen, if that is still the newest.
async fn undo(ctx: &Ctx, permits: (&Permit, &Permit), seen: &Seen) -> Result<u32, PageError> {
    let (work, read) = permits;
    let found = tasks::load(ctx, work, &seen.id).await?;
    let before = seen.version.checked_sub(1).filter(|before| *before > 0);
    let (Some(before), true) = (before, found.version == seen.version) else {
        return Err(PageError::Conflict);
    };
    let vault = ctx.vault();
    let before = vault
        .read_version(read, ResourceType::Task, &seen.id, before)
        .await?
        .ok_or(PageError::NotFound)?;
    let status = before.resource.text_at(&["status"]).unwrap_or_default();
    // A task that had ended was ended by somebody: that is no deed to put back in another's name.
    if !OPEN.split(',').any(|open| open == status) {
        return Err(PageError::Conflict);
    }
    let mut task = found.resource;
    for field in TOUCHED {
        match before.resource.get(field) {
            Some(value) => task.set(field, value.clone()),
            None => {
                task.remove(field);
            }
        }
    }
    task.set("lastModified", json!(iso(ctx.times.care_ms)));
    task.strip_meta();
    Ok(tasks::write(ctx, work, task, seen.version, "put back").await?)
}

/// Does it to each, some at a time, in their order.
async fn each(
    ctx: &Ctx,
    permits: (&Permit, &Permit),
    what: What,
    asked: &Asked<'_>,
    seen: Vec<Seen>,
) -> Vec<Tried> {
    let one = |task: Seen| async move {
        let done = match what {
            What::Undo => undo(ctx, permits, &task).await,
            What::Deed(_) => {
                tasks::change(ctx, permits.0, &task.id, asked, Some(task.version)).await
            }
        };
        Tried { task, done }
    };
    let tried = futures_util::stream::iter(seen).map(one);
    tried.buffered(TOGETHER).collect().await
}

/// The colleague that tasks are handed on to. Whoever has none of the tasks learns nothing of who has an account.
async fn colleague(
    ctx: &Ctx,
    permit: &Permit,
    person: &str,
    seen: &[Seen],
) -> Result<Option<(String, String, trust::Role)>, PageError> {
    for task in seen {
        let Ok(found) = tasks::load(ctx, permit, &task.id).await else {
            continue;
        };
        if TaskRow::of(&found.resource).is_open() {
            let identity = ctx.app.web.trust.identity();
            return Ok(Some(identity.colleague(permit, person).await?));
        }
    }
    Ok(None)
}

/// What was not done: which task, whose, and why.
async fn left(ctx: &Ctx, what: What, tried: &[Tried]) -> Result<Markup, PageError> {
    let left: Vec<(&Seen, &PageError)> = (tried.iter())
        .filter_map(|one| Some((&one.task, one.done.as_ref().err()?)))
        .collect();
    if left.is_empty() {
        return Ok(html! {});
    }
    let tasks: Vec<Seen> = left.iter().map(|(task, _)| (*task).clone()).collect();
    let rows = rows(ctx, &tasks).await?;
    let names = patient_lines(ctx, rows.values().filter_map(|row| row.patient.clone())).await?;
    let named = |row: &TaskRow| {
        let line = row.patient.as_ref().and_then(|patient| names.get(patient));
        line.map_or_else(String::new, |line| line.name.clone())
    };
    Ok(html! {
        section class="problem stack" aria-labelledby="left" {
            h2 id="left" { (count_of(left.len(), "task")) " not " (what.words()) }
            div class="scroll" { table {
                thead { tr { th scope="col" { "Task" } th scope="col" { "Patient" } th scope="col" { "Why" } } }
                tbody { @for (task, error) in &left { tr {
                    @match rows.get(&task.id) {
                        Some(row) => {
                            th scope="row" { (row.title) }
                            td { @if let Some(patient) = &row.patient { a href={ "/console/patients/" (patient) } { (named(row)) } } }
                        },
                        None => { th scope="row" { "A task that you are not shown" } td {} }
                    }
                    td { (why(ctx, error)) }
                } } }
            } }
        }
    })
}

/// What came of it, above the list.
async fn said(
    ctx: &Ctx,
    what: What,
    tried: &[Tried],
    total: usize,
    back: &str,
) -> Result<Markup, PageError> {
    let done: Vec<Seen> = (tried.iter())
        .filter_map(|one| {
            let version = *one.done.as_ref().ok()?;
            Some(Seen {
                id: one.task.id.clone(),
                version,
            })
        })
        .collect();
    let left = left(ctx, what, tried).await?;
    Ok(html! {
        @if !done.is_empty() {
            div class="flash" role="status" {
                (layout::state(State::Done, &format!("{} {}", count_of(done.len(), "task"), what.words())))
                @if total > tried.len() { span { "These were the first " (tried.len()) " of " (thousands(total as u64)) "." } }
                @if what == What::Deed(Deed::Done) { span class="quiet small" { "What journeys do meanwhile stays done." } }
                @if what != What::Undo {
                    form method="post" data-act="undo" action=(back) {
                        (csrf(ctx))
                        // No button says it: the key u sends the form without one.
                        input type="hidden" name="deed" value="undo";
                        @for task in &done { (task.field()) }
                        button class="plain" type="submit" { "Undo" }
                    }
                }
            }
        }
        (left)
    })
}

/// Asks for what a deed needs to be said with it.
fn ask(
    ctx: &Ctx,
    deed: Deed,
    rows: &HashMap<String, TaskRow>,
    (tasks, total): (&[Seen], usize),
    back: &str,
) -> Response {
    let mut outcomes: Vec<(&str, &str, usize)> = Vec::new();
    for (code, words) in rows.values().flat_map(|row| &row.outcomes) {
        match outcomes.iter_mut().find(|(known, ..)| known == code) {
            Some((.., count)) => *count += 1,
            None => outcomes.push((code, words, 1)),
        }
    }
    outcomes.sort_by_key(|(code, _, count)| (std::cmp::Reverse(*count), *code));
    let title = match deed {
        Deed::Done => "Tasks that are done",
        _ => "Tasks to hand on",
    };
    let body = html! {
        p class="crumbs" { a href=(back) { "Worklist" } }
        h1 { (title) }
        p { "It is for " span class="strong" { (count_of(tasks.len(), "task")) } "." @if total > tasks.len() { " These are the first of " (thousands(total as u64)) "." } " Each is decided by itself; what can't be done is listed, and the rest can be undone." }
        form class="ask stack fields" method="post" action=(back) {
            (csrf(ctx))
            input type="hidden" name="said" value="yes";
            @for task in tasks { (task.field()) }
            @if deed == Deed::Done {
                @if !outcomes.is_empty() {
                    label { "How they ended" span class="hint" { "A task that can't end so is left as it is" }
                        select name="outcome" required {
                            @for (code, words, count) in &outcomes { option value=(code) { (words) @if *count < tasks.len() { " (" (count) " of " (tasks.len()) " can end so)" } } }
                            option value="other" { "something else" }
                        }
                    }
                }
                label { "Note" span class="hint" { "What others should know of each of them; may stay empty" } textarea name="note" maxlength="2000" {} }
                div class="inline-fields" { button class="primary" type="submit" name="deed" value="done" { "Mark as done" } a class="button" href=(back) { "Don't" } }
            } @else {
                label { "To" select name="role" required { @for (code, words) in ROLES { option value=(code) { (words) } } } }
                label { "Colleague" span class="hint" { "Their user name, whatever their role; empty for any of the role" } input type="text" name="person" autocomplete="off" autocapitalize="none" spellcheck="false" maxlength="200"; }
                label { "Note" span class="hint" { "Why, for whoever takes them; may stay empty" } textarea name="note" maxlength="2000" {} }
                div class="inline-fields" { button class="primary" type="submit" name="deed" value="delegate" { "Hand on" } a class="button" href=(back) { "Don't" } }
            }
        }
    };
    console(ctx, title, Section::Worklist, None, &body)
}

/// `POST /console/worklist`: does something to many tasks, or asks first for what has to be said with it. The list that
/// it was chosen from is in the address.
pub(crate) async fn act(
    address: Fields,
    Posted { ctx, fields }: Posted,
) -> Result<Response, PageError> {
    ctx.staff()?;
    let work = ctx
        .permit(Action::Work, Some(ResourceType::Task), None)
        .await?;
    let read = ctx
        .permit(Action::Read, Some(ResourceType::Task), None)
        .await?;
    let what = fields.get("deed").and_then(What::parse);
    let what = what.ok_or(PageError::NotFound)?;
    let back = back(&address);
    let (tasks, total) = meant(&ctx, &address, &fields).await?;
    if tasks.is_empty() {
        let none = html! { div class="problem" role="alert" { strong { "Nothing was done. " } "Tick the tasks that are meant first." } };
        return worklist::with(&ctx, &address, &none).await;
    }
    if let What::Deed(deed @ (Deed::Delegate | Deed::Done)) = what
        && fields.get("said").is_none()
    {
        let rows = rows(&ctx, &tasks).await?;
        return Ok(ask(&ctx, deed, &rows, (&tasks, total), &back));
    }
    let person = fields.get("person");
    let known = match person {
        Some(person) if what == What::Deed(Deed::Delegate) => {
            colleague(&ctx, &work, person, &tasks).await?
        }
        _ => None,
    };
    let asked = Asked {
        deed: match what {
            What::Deed(deed) => deed,
            What::Undo => Deed::Reopen,
        },
        words: what.words(),
        outcome: fields.get("outcome"),
        note: fields.get("note"),
        role: fields.get("role"),
        to: match (&known, person) {
            (Some(known), _) => To::Known(known),
            (None, Some(person)) => To::Named(person),
            (None, None) => To::Role,
        },
        among: true,
    };
    let tried = each(&ctx, (&work, &read), what, &asked, tasks).await;
    let said = said(&ctx, what, &tried, total, &back).await?;
    worklist::with(&ctx, &address, &said).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ticked_names_a_task_and_its_version() {
        let seen = |id: &str, version| {
            Some(Seen {
                id: id.to_owned(),
                version,
            })
        };
        for (text, parsed) in [
            ("a-1/3", seen("a-1", 3)),
            ("a/0", None),
            ("a", None),
            ("/1", None),
            ("a/b/1", None),
            ("a b/1", None),
            ("a/-1", None),
            ("a/99999999999", None),
        ] {
            assert_eq!(Seen::parse(text), parsed, "{text}");
        }
    }
}
