//! The worklist: open tasks of staff, by harm of waiting.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use axum::http::HeaderMap;
use axum::response::Response;
use fhir::{Resource, ResourceType};
use ledger::Kind;
use maud::{Markup, html};
use trust::conventions::TASK_SYSTEM;
use trust::{Action, Role, Shelf, Shelved};

use crate::context::{Ctx, Fields, Watching, escape, query};
use crate::error::PageError;
use crate::layout::{self, Section, console, count_of};
use crate::live;
use crate::many;
use crate::tasks::{OPEN, PRIORITIES, TaskRow, flash};

/// Open tasks looked at; a tenant with more open tasks is told that the list is not complete.
const TASKS_MAX: usize = 5_000;
/// Rows on a page.
const PAGE: usize = 50;
/// Finished tasks shown, newest first.
const DONE_MAX: usize = 200;
/// Whose tasks there are, and what that is called.
const TABS: [(&str, &str); 4] = [
    ("coordinator", "For coordinators"),
    ("clinician", "For clinicians"),
    ("mine", "Mine"),
    ("all", "All"),
];
/// Alternatives in one search clause.
const IDS: usize = 200;

/// Tasks that are kept opened: as many as one list goes through, and as many again.
const TASKS_KEPT: usize = 2 * TASKS_MAX;
/// Patients who are kept opened: those of a few dozen lists.
const PATIENTS_KEPT: usize = 2_000;

/// What lists are made of, kept opened by its version.
pub(crate) struct Shelves {
    tasks: Shelf<TaskRow>,
    /// With their names.
    patients: Shelf<String>,
}

impl Default for Shelves {
    fn default() -> Self {
        Self {
            tasks: Shelf::new(TASKS_KEPT, TaskRow::of),
            patients: Shelf::new(PATIENTS_KEPT, patient_name),
        }
    }
}

type Task = Arc<Shelved<TaskRow>>;

/// A patient in a list.
#[derive(Debug, Clone)]
pub(crate) struct PatientLine {
    pub(crate) name: String,
    pub(crate) age: Option<i64>,
    /// Where alone they may be reached, in words, if they have asked for that.
    pub(crate) only: Option<String>,
}

/// Name to show for a patient; never empty.
pub(crate) fn patient_name(resource: &Resource) -> String {
    let name = fhir::human::name(resource);
    if name.is_empty() {
        "Name not recorded".to_owned()
    } else {
        name
    }
}

/// Names and ages of patients, read under this person's own permit.
pub(crate) async fn patient_lines(
    ctx: &Ctx,
    ids: impl IntoIterator<Item = String>,
) -> Result<HashMap<String, PatientLine>, PageError> {
    let ids: Vec<String> = ids
        .into_iter()
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let permit = ctx
        .permit(Action::Search, Some(ResourceType::Patient), None)
        .await?;
    let queries = ids
        .chunks(IDS)
        .map(|some| query(ResourceType::Patient, &[("_id", &some.join(","))], IDS))
        .collect::<Result<Vec<_>, _>>()?;
    let patients = ctx
        .vault()
        .search_shelved(&permit, &queries, &ctx.app.shelves.patients)
        .await?;
    Ok(patients
        .iter()
        .filter_map(|row| {
            let resource = row.resource();
            let age = resource
                .text_at(&["birthDate"])
                .and_then(|born| fhir::human::age_years(born, ctx.times.care_ms));
            Some((
                resource.id()?.to_owned(),
                PatientLine {
                    name: row.made().clone(),
                    age,
                    only: crate::contact::only_words(resource, ctx.times.care_ms),
                },
            ))
        })
        .collect())
}

/// Which tasks are shown.
#[derive(Debug, Clone)]
struct Filter {
    /// `mine`, a role, or `all`.
    who: String,
    queue: Option<String>,
    journey: Option<String>,
    priority: Option<String>,
    overdue: bool,
    done: bool,
    page: usize,
    /// Rows on a page.
    size: usize,
}

impl Filter {
    fn of(ctx: &Ctx, fields: &Fields) -> Self {
        let own = match ctx.role() {
            Role::Coordinator => "coordinator",
            Role::Clinician => "clinician",
            _ => "all",
        };
        Self {
            who: fields.get("who").unwrap_or(own).to_owned(),
            queue: fields.get("queue").map(str::to_owned),
            journey: fields.get("journey").map(str::to_owned),
            priority: fields.get("priority").map(str::to_owned),
            overdue: fields.get("due") == Some("overdue"),
            done: fields.get("state") == Some("done"),
            page: fields
                .get("page")
                .and_then(|page| page.parse().ok())
                .unwrap_or(1)
                .max(1),
            size: PAGE,
        }
    }
    fn who_matches(who: &str, ctx: &Ctx, task: &TaskRow) -> bool {
        match who {
            "all" => true,
            "mine" => task
                .owner
                .as_ref()
                .is_some_and(|(id, _)| *id == ctx.session.agent.id),
            role => task.role == role,
        }
    }
    fn rest_matches(&self, task: &TaskRow, now_ms: i64) -> bool {
        (self.queue.as_ref()).is_none_or(|queue| task.queue.as_ref() == Some(queue))
            && self
                .journey
                .as_ref()
                .is_none_or(|journey| task.step.as_ref().is_some_and(|(name, ..)| name == journey))
            && self
                .priority
                .as_ref()
                .is_none_or(|priority| task.priority == *priority)
            && (!self.overdue || task.overdue(now_ms))
    }
}

/// What a list says of all its tasks, and those that stand on the page.
struct Sorted {
    shown: Vec<Task>,
    journeys: BTreeSet<String>,
    queues: BTreeSet<String>,
    /// How many there are for each tab.
    tabs: Vec<(&'static str, &'static str, usize)>,
    total: usize,
    overdue: usize,
    page: usize,
    last: usize,
}

/// Puts tasks in order, and says which of them, by their places, stand on the page.
fn sort(ctx: &Ctx, filter: &Filter, rows: &[Task]) -> (Vec<usize>, Sorted) {
    let now_ms = ctx.times.care_ms;
    let mut tasks: Vec<(usize, &TaskRow)> = (rows.iter().enumerate())
        .map(|(place, row)| (place, row.made()))
        .collect();
    let journeys: BTreeSet<&str> = (tasks.iter())
        .filter_map(|(_, task)| Some(task.step.as_ref()?.0.as_str()))
        .chain(filter.journey.as_deref())
        .collect();
    let queues: BTreeSet<&str> = (tasks.iter())
        .filter_map(|(_, task)| task.queue.as_deref())
        .chain(filter.queue.as_deref())
        .collect();
    tasks.retain(|(_, task)| filter.rest_matches(task, now_ms));
    let tabs = TABS.map(|(who, words)| {
        let of_tab = |(_, task): &&(usize, &TaskRow)| Filter::who_matches(who, ctx, task);
        (who, words, tasks.iter().filter(of_tab).count())
    });
    tasks.retain(|(_, task)| Filter::who_matches(&filter.who, ctx, task));
    let total = tasks.len();
    let overdue = (tasks.iter())
        .filter(|(_, task)| task.overdue(now_ms))
        .count();
    if filter.done {
        tasks.sort_by_key(|(_, task)| std::cmp::Reverse(task.due_ms.max(Some(task.since_ms))));
    } else {
        tasks.sort_by_cached_key(|(_, task)| task.harm(now_ms));
    }
    let last = total.div_ceil(filter.size).max(1);
    let page = filter.page.min(last);
    let on_page = tasks
        .into_iter()
        .skip((page - 1) * filter.size)
        .take(filter.size);
    let places: Vec<usize> = on_page.map(|(place, _)| place).collect();
    let owned = |words: BTreeSet<&str>| words.into_iter().map(str::to_owned).collect();
    let sorted = Sorted {
        shown: (places.iter())
            .map(|place| Arc::clone(&rows[*place]))
            .collect(),
        journeys: owned(journeys),
        queues: owned(queues),
        tabs: tabs.into(),
        total,
        overdue,
        page,
        last,
    };
    (places, sorted)
}

/// What of the tasks is shown, of which alone the audit says that it was seen; and whether there are more than were
/// gone through.
async fn load(ctx: &Ctx, filter: &Filter) -> Result<(Sorted, bool), PageError> {
    let permit = ctx
        .permit(Action::Search, Some(ResourceType::Task), None)
        .await?;
    let status = if filter.done { "completed" } else { OPEN };
    let code = format!("{TASK_SYSTEM}|staff-task");
    let most = if filter.done { DONE_MAX } else { TASKS_MAX };
    let query = query(
        ResourceType::Task,
        &[("code", &code), ("status", status)],
        PAGE,
    )?;
    let shelf = &ctx.app.shelves.tasks;
    let found = ctx
        .vault()
        .search_part(&permit, &query, most, shelf, |rows| sort(ctx, filter, rows))
        .await?;
    Ok((found.whole, found.incomplete))
}

/// The open tasks that fit what an address says, first those whose waiting would harm most, at most so many; how many
/// fit; and of how many, where not all open tasks were looked at.
pub(crate) async fn fitting(
    ctx: &Ctx,
    fields: &Fields,
    most: usize,
) -> Result<(Vec<TaskRow>, usize, Option<usize>), PageError> {
    let filter = Filter {
        done: false,
        page: 1,
        size: most,
        ..Filter::of(ctx, fields)
    };
    let (sorted, incomplete) = load(ctx, &filter).await?;
    let shown = sorted.shown.iter().map(|task| task.made().clone());
    let only = incomplete.then_some(TASKS_MAX);
    Ok((shown.collect(), sorted.total, only))
}

fn link(fields: &Fields, name: &str, value: &str) -> String {
    let rest = fields.to_query(&[name, "page", "done", "claimed", "reopened", "after"]);
    let joint = if rest.is_empty() { "" } else { "&" };
    format!("/console/worklist?{rest}{joint}{name}={}", escape(value))
}

/// The address of the list as it is filtered, without what was done last.
pub(crate) fn back(fields: &Fields) -> String {
    let rest = fields.to_query(&["done", "claimed", "reopened", "after"]);
    if rest.is_empty() {
        "/console/worklist".to_owned()
    } else {
        format!("/console/worklist?{rest}")
    }
}

fn row(ctx: &Ctx, task: &TaskRow, names: &HashMap<String, PatientLine>, back: &str) -> Markup {
    let now = ctx.times.care_ms;
    html! {
        li class="row" data-key=(task.id) {
            div class="cluster" {
                @if task.is_open() { (many::pick(ctx, task)) }
                (task.priority_mark())
            }
            div {
                div class="strong" { (task.title) }
                @if !task.reason.is_empty() { div class="quiet" { (task.reason) } }
                @if let Some(outcome) = &task.outcome { div class="quiet" { "Ended: " (outcome.replace(['-', '_'], " ")) } }
            }
            div {
                @if let Some(patient) = &task.patient {
                    a data-act="open" href={ "/console/patients/" (patient) } {
                        @match names.get(patient) { Some(line) => (line.name), None => { "Patient " (layout::short_id(patient)) } }
                    }
                    @if let Some(age) = names.get(patient).and_then(|line| line.age) { span class="quiet" { ", " (age) } }
                    @if let Some(only) = names.get(patient).and_then(|line| line.only.as_ref()) { div class="small" { span class="tag" { (only) } } }
                }
                @if let Some((journey, version, step)) = &task.step {
                    div class="small quiet" { a class="quiet" href={ "/console/journeys/" (journey) "?version=" (version) "&step=" (step) } { (journey.replace('-', " ")) } }
                }
            }
            div {
                @if task.is_open() {
                    @match task.due_ms {
                        Some(due) if task.overdue(now) => span class="overdue" { "Was due " (ctx.times.ago(due)) },
                        Some(due) => span { "Due " (ctx.times.ago(due)) },
                        None => span class="quiet" { "No due time" },
                    }
                } @else { (task.state_mark()) }
                div class="small quiet" {
                    @match &task.owner {
                        Some((id, _)) if *id == ctx.session.agent.id => "Yours",
                        Some((_, name)) => (name),
                        None => { "For any " (task.role) },
                    }
                    @if let Some(queue) = &task.queue { " · " (queue.replace('-', " ")) }
                }
            }
            div class="acts" { (task.actions(ctx, back)) }
        }
    }
}

/// The part of the page that is live.
async fn list(ctx: &Ctx, fields: &Fields) -> Result<Markup, PageError> {
    let filter = Filter::of(ctx, fields);
    let (sorted, incomplete) = load(ctx, &filter).await?;
    let Sorted {
        shown,
        journeys,
        queues,
        tabs,
        total,
        overdue,
        page,
        last,
    } = sorted;
    let shown: Vec<&TaskRow> = shown.iter().map(|task| task.made()).collect();
    let names = patient_lines(ctx, shown.iter().filter_map(|task| task.patient.clone())).await?;
    let back = back(fields);
    Ok(html! {
        div id="worklist" {
            div class="filters spread" {
                nav class="tabs" aria-label="Whose tasks" {
                    @for (who, words, count) in &tabs {
                        a href=(link(fields, "who", who)) aria-current=[(*who == filter.who).then_some("true")] { (words) " " span class="quiet" { (count) } }
                    }
                }
                form class="inline-fields" method="get" action="/console/worklist" data-auto {
                    input type="hidden" name="who" value=(filter.who);
                    @if !queues.is_empty() {
                        label { "Queue" select name="queue" {
                            option value="" { "any" }
                            @for queue in &queues { option value=(queue) selected[filter.queue.as_deref() == Some(queue)] { (queue.replace('-', " ")) } }
                        } }
                    }
                    label { "Journey" select name="journey" {
                        option value="" { "any" }
                        @for journey in &journeys { option value=(journey) selected[filter.journey.as_deref() == Some(journey)] { (journey.replace('-', " ")) } }
                    } }
                    label { "Priority" select name="priority" {
                        option value="" { "any" }
                        @for (code, words) in PRIORITIES { option value=(code) selected[filter.priority.as_deref() == Some(code)] { (words) } }
                    } }
                    label { "Due" select name="due" {
                        option value="" { "any time" }
                        option value="overdue" selected[filter.overdue] { "overdue" }
                    } }
                    label { "State" select name="state" {
                        option value="" { "open" }
                        option value="done" selected[filter.done] { "done" }
                    } }
                    button type="submit" data-auto-hide { "Filter" }
                }
            }
            p class="quiet" aria-live="polite" {
                (count_of(total, if filter.done { "finished task" } else { "open task" }))
                @if overdue > 0 && !filter.overdue { ", " a class="overdue" href=(link(fields, "due", "overdue")) { (overdue) " overdue" } }
                @if filter.done && incomplete { ". These are the newest " (DONE_MAX) "; older ones are on the patients' pages" }
                @if !filter.done && incomplete { ". Only the newest " (layout::thousands(TASKS_MAX as u64)) " open tasks were looked at, so this list is not complete" }
                "."
            }
            @if shown.is_empty() {
                @if filter.done { (layout::empty("Nothing finished yet", "Tasks that are marked as done appear here.")) }
                @else if filter.queue.is_some() || filter.journey.is_some() || filter.priority.is_some() || filter.overdue || filter.who != "all" { (layout::empty("Nothing is waiting here", "No open task fits these filters. Look at all tasks, or enjoy the quiet.")) }
                @else { (layout::empty("Nothing is waiting", "Journeys put tasks here when a patient needs somebody.")) }
            } @else {
                @if !filter.done { (many::bar(ctx, &back, shown.len(), total)) }
                ol class="rows" data-rows { @for task in &shown { (row(ctx, task, &names, &back)) } }
            }
            @if last > 1 {
                nav class="pager" aria-label="Pages" {
                    @if page > 1 { a href=(link(fields, "page", &(page - 1).to_string())) { "Previous" } }
                    span class="quiet" { "Page " (page) " of " (last) }
                    @if page < last { a href=(link(fields, "page", &(page + 1).to_string())) { "Next" } }
                }
            }
        }
    })
}

/// `GET /console/worklist`.
pub(crate) async fn page(ctx: Ctx, fields: Fields) -> Result<Response, PageError> {
    ctx.staff()?;
    let said = flash(&ctx, &fields, &back(&fields));
    with(&ctx, &fields, &said).await
}

/// The list, with what was just done above it.
pub(crate) async fn with(ctx: &Ctx, fields: &Fields, said: &Markup) -> Result<Response, PageError> {
    let live = live::address(
        ctx,
        "/console/live/worklist",
        &fields.to_query(&["done", "claimed", "reopened", "after"]),
    );
    let list = list(ctx, fields).await?;
    let body = html! {
        (layout::head("Worklist", &html! { "What waiting would harm most comes first." }, &layout::live_light()))
        (said)
        (list)
        p class="foot" {
            kbd { "j" } " " kbd { "k" } " move · " kbd { "Enter" } " opens the patient · " kbd { "c" } " claims · " kbd { "e" } " done · " kbd { "u" } " undo · " kbd { "x" } " ticks, " kbd { "Shift" } "+" kbd { "x" } " all up to the last that was ticked"
        }
    };
    Ok(console(
        ctx,
        "Worklist",
        Section::Worklist,
        Some(&live),
        &body,
    ))
}

/// `GET /console/live/worklist`.
pub(crate) async fn stream(
    Watching(ctx): Watching,
    fields: Fields,
    headers: HeaderMap,
) -> Result<Response, PageError> {
    ctx.staff()?;
    ctx.permit(Action::Search, Some(ResourceType::Task), None)
        .await?;
    let shown = Arc::new(live::shown(&fields));
    let source = live::Source {
        shard: None,
        // What a consent takes away is taken off the page.
        matters: |kind| {
            [ResourceType::Task, ResourceType::Consent]
                .iter()
                .any(|one| kind == Kind(one.code()))
        },
        render: Box::new(move |ctx| {
            let fields = shown.clone();
            Box::pin(async move { Ok(vec![("worklist", list(&ctx, &fields).await?)]) })
        }),
    };
    Ok(live::serve(ctx, &fields, last_event_id(&headers), source).await)
}

/// Where a stream that broke off had come to.
pub(crate) fn last_event_id(headers: &HeaderMap) -> Option<&str> {
    headers
        .get("last-event-id")
        .and_then(|value| value.to_str().ok())
}
