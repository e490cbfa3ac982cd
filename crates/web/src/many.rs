//! Many tasks of the worklist at once: those that were ticked, or all that fit its filter. Each is decided and written
//! by itself, as one alone would be; what could not be done is listed with its reason, and what was done can be undone.

mod ask;
mod said;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use axum::response::Response;
use fhir::ResourceType;
use futures_util::StreamExt;
use ledger::Kind;
use maud::{Markup, html};
use serde_json::json;
use tracing::Instrument;
use trust::{Action, Permit};

use crate::context::{Ctx, Fields, Posted, query, same_secret};
use crate::error::PageError;
use crate::layout::{Section, console, csrf, thousands};
use crate::tasks::{self, Asked, Changed, Deed, OPEN, TaskRow, To};
use crate::time::iso;
use crate::worklist::{self, back};

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

/// A task of a form that undoes: the version that the deed wrote, and what says that the deed was this session's.
#[derive(Debug, Clone)]
struct Undoable {
    task: Seen,
    tag: String,
}

impl Undoable {
    fn parse(text: &str) -> Option<Self> {
        let (task, tag) = text.rsplit_once('/')?;
        Some(Self {
            task: Seen::parse(task)?,
            tag: tag.to_owned(),
        })
    }
}

/// What says that a version of a task was written by a deed of this session, so that no other is undone: keyed by the
/// organisation's own key, which no browser has.
fn tag(ctx: &Ctx, task: &Seen) -> String {
    let ledger = ctx.app.ledger();
    let what = format!("{}/{}/{}", ctx.session.id, task.id, task.version);
    let kind = Kind(ResourceType::Task.code());
    let token = ledger.token(ctx.session.agent.tenant, kind, "undo of many tasks", &what);
    format!("{:016x}", token.0)
}

/// What came of a task: its new version, or why there is none.
struct Tried {
    task: Seen,
    done: Result<Changed, PageError>,
}

/// The tasks that are meant.
struct Meant {
    tasks: Vec<Seen>,
    /// How many there would be without the bound.
    total: usize,
    /// How many open tasks were looked at for them, where those were not all.
    only: Option<usize>,
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
    /// As forms say it.
    fn code(self) -> &'static str {
        match self {
            Self::Deed(Deed::Claim) => "claim",
            Self::Deed(Deed::Release) => "release",
            Self::Deed(Deed::Delegate) => "delegate",
            Self::Deed(Deed::Done) => "done",
            Self::Deed(Deed::Reopen) => "reopen",
            Self::Undo => "undo",
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

/// The box of a row. It belongs to the form above the list, which says how many of those ticked are somebody else's.
pub(crate) fn pick(ctx: &Ctx, task: &TaskRow) -> Markup {
    let theirs = (task.owner.as_ref()).is_some_and(|(id, _)| *id != ctx.session.agent.id);
    html! {
        label class="pick" {
            input type="checkbox" form="many" name="task" id={ "pick-" (task.id) } data-theirs[theirs] data-act="pick" value={ (task.id) "/" (task.version) } aria-label={ "Tick " (task.title) };
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

/// Tasks that a form names, each once, at most [`MANY_MAX`].
fn named<T>(
    fields: &Fields,
    parse: impl Fn(&str) -> Option<T>,
    id: impl Fn(&T) -> &str,
) -> Result<Vec<T>, PageError> {
    let mut known = HashSet::new();
    let mut tasks = Vec::new();
    for text in fields.all("task") {
        let task = parse(text).ok_or_else(|| {
            PageError::Invalid("A task that was ticked can't be read.".to_owned())
        })?;
        if known.insert(id(&task).to_owned()) {
            tasks.push(task);
        }
    }
    if tasks.len() > MANY_MAX {
        return Err(PageError::Invalid(format!(
            "At most {MANY_MAX} tasks are changed at once, and {} were ticked. Nothing was done.",
            tasks.len()
        )));
    }
    Ok(tasks)
}

/// The tasks that are meant: those that were ticked as they were seen, or all that fit the address as they are now.
async fn meant(ctx: &Ctx, address: &Fields, fields: &Fields) -> Result<Meant, PageError> {
    if is_all(fields) {
        let (rows, total, only) = worklist::fitting(ctx, address, MANY_MAX).await?;
        let seen = rows.into_iter().map(|row| Seen {
            id: row.id,
            version: row.version,
        });
        return Ok(Meant {
            tasks: seen.collect(),
            total,
            only,
        });
    }
    let tasks = named(fields, Seen::parse, |task| &task.id)?;
    Ok(Meant {
        total: tasks.len(),
        tasks,
        only: None,
    })
}

/// Whether all that fit are meant, whichever are ticked.
fn is_all(fields: &Fields) -> bool {
    fields.get("which") == Some("all")
}

/// Puts a task back as it was before the version that was seen, if that is still the newest and was written by a deed of
/// this session.
async fn undo(ctx: &Ctx, permits: (&Permit, &Permit), what: &Undoable) -> Result<u32, PageError> {
    let ((work, read), seen) = (permits, &what.task);
    if !same_secret(&what.tag, &tag(ctx, seen)) {
        return Err(PageError::Invalid(
            "It was not done here since you signed in, so it can't be put back here.".to_owned(),
        ));
    }
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

/// What is done to many tasks, with all that it needs.
struct Job {
    ctx: Ctx,
    work: Permit,
    deed: Deed,
    words: &'static str,
    outcome: Option<String>,
    note: Option<String>,
    role: Option<String>,
    person: Option<String>,
    known: Option<(String, String, trust::Role)>,
}

impl Job {
    async fn one(&self, task: Seen) -> Tried {
        let asked = Asked {
            deed: self.deed,
            words: self.words,
            outcome: self.outcome.as_deref(),
            note: self.note.as_deref(),
            role: self.role.as_deref(),
            to: match (&self.known, &self.person) {
                (Some(known), _) => To::Known(known),
                (None, Some(person)) => To::Named(person),
                (None, None) => To::Role,
            },
            among: true,
        };
        let expected = Some(task.version);
        let done = tasks::change(&self.ctx, &self.work, &task.id, &asked, expected).await;
        Tried { task, done }
    }
}

/// Does something to each, some at a time, in their order; to its end, also where nobody waits for the answer any more.
async fn each<T, F>(
    tasks: Vec<T>,
    one: impl Fn(T) -> F + Send + 'static,
) -> Result<Vec<Tried>, PageError>
where
    T: Send + 'static,
    F: Future<Output = Tried> + Send + 'static,
{
    let all = async move {
        let tried = futures_util::stream::iter(tasks).map(one);
        tried.buffered(TOGETHER).collect::<Vec<_>>().await
    };
    let done = tokio::spawn(all.in_current_span()).await;
    done.map_err(|_| PageError::Internal("work on many tasks broke off".to_owned()))
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

/// The list with what came of it; where the list can't be had just now, that alone.
async fn listed(ctx: &Ctx, address: &Fields, said: &Markup) -> Response {
    match worklist::with(ctx, address, said).await {
        Ok(page) => page,
        Err(error) => {
            tracing::warn!(request_id = %ctx.request.id, %error, "the worklist could not be read after many tasks");
            let body = html! {
                h1 { "Worklist" }
                (said)
                p { "The list itself could not be loaded just now." }
                p { a class="button" href=(back(address)) { "Load the list" } }
            };
            console(ctx, "Worklist", Section::Worklist, None, &body)
        }
    }
}

/// `POST /console/worklist`: does something to many tasks, or asks first for what has to be said with it, and which all
/// that fit are. The list that it was chosen from is in the address.
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
    let tried = match what {
        What::Undo => {
            let tasks = named(&fields, Undoable::parse, |undoable| &undoable.task.id)?;
            let shared = Arc::new((ctx.clone(), work, read));
            each(tasks, move |undoable: Undoable| {
                let shared = Arc::clone(&shared);
                async move {
                    let (ctx, work, read) = &*shared;
                    let done = undo(ctx, (work, read), &undoable).await;
                    let done = done.map(|version| Changed {
                        version,
                        from: None,
                    });
                    let task = undoable.task;
                    Tried { task, done }
                }
            })
            .await?
        }
        What::Deed(deed) => {
            let meant = meant(&ctx, &address, &fields).await?;
            let is_asked =
                matches!(deed, Deed::Delegate | Deed::Done) && fields.get("said").is_none();
            if !meant.tasks.is_empty() && (is_asked || is_all(&fields)) {
                return ask::ask(&ctx, what, &meant, &back).await;
            }
            let tasks = meant.tasks;
            let person = fields.get("person").filter(|_| deed == Deed::Delegate);
            let known = match person {
                Some(person) => colleague(&ctx, &work, person, &tasks).await?,
                None => None,
            };
            let owned = |name| fields.get(name).map(str::to_owned);
            let job = Arc::new(Job {
                ctx: ctx.clone(),
                work,
                deed,
                words: what.words(),
                outcome: owned("outcome"),
                note: owned("note"),
                role: owned("role"),
                person: person.map(str::to_owned),
                known,
            });
            each(tasks, move |task: Seen| {
                let job = Arc::clone(&job);
                async move { job.one(task).await }
            })
            .await?
        }
    };
    if tried.is_empty() {
        let none = html! { div class="problem" role="alert" { strong { "Nothing was done. " } "Tick the tasks that are meant first." } };
        return worklist::with(&ctx, &address, &none).await;
    }
    let said = said::said(&ctx, what, &tried, &back).await;
    Ok(listed(&ctx, &address, &said).await)
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
