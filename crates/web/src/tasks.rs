//! Staff tasks (`Task`, see `trust::conventions`): what a row shows, the order by harm of waiting,
//! and what can be done with one.

use axum::extract::Path;
use axum::response::{IntoResponse, Redirect, Response};
use fhir::{Reference, Resource, ResourceType};
use ledger::Expected;
use maud::{Markup, html};
use serde_json::{Value, json};
use trust::conventions::{
    ACCOUNT_SYSTEM, DONE_BY, ROLE_SYSTEM, STEP_SYSTEM, TASK_SYSTEM, performer_types, queue_of,
};
use trust::{Action, Change, Permit, Role, TrustError, Unit, Versioned};

use crate::context::{Ctx, Posted};
use crate::error::PageError;
use crate::layout::{self, State, csrf};
use crate::time::iso;

/// Task states in which somebody still has to do something.
pub(crate) const OPEN: &str = "requested,received,accepted,ready,in-progress,on-hold";
/// Between the code of an outcome and its words, where a form for several tasks says both: no code has it.
const WORDS: char = '\t';
/// Tries of a change that others keep overtaking.
const TRIES: usize = 4;

/// A task as the worklist shows it.
#[derive(Debug, Clone, Default)]
pub(crate) struct TaskRow {
    pub(crate) id: String,
    /// The version that is shown.
    pub(crate) version: u32,
    pub(crate) status: String,
    pub(crate) title: String,
    pub(crate) reason: String,
    pub(crate) patient: Option<String>,
    /// `coordinator`, `clinician`, ...
    pub(crate) role: String,
    /// Whose of that role: a team's, a ward's.
    pub(crate) queue: Option<String>,
    /// `stat`, `asap`, `urgent` or `routine`.
    pub(crate) priority: String,
    pub(crate) due_ms: Option<i64>,
    pub(crate) since_ms: i64,
    /// Account id and name.
    pub(crate) owner: Option<(String, String)>,
    /// Journey, version, step.
    pub(crate) step: Option<(String, u32, String)>,
    /// Outcomes to choose from, code and words.
    pub(crate) outcomes: Vec<(String, String)>,
    /// How it ended.
    pub(crate) outcome: Option<String>,
    /// The account that did what this is to confirm, and so can't do this.
    pub(crate) done_by: Option<String>,
}

/// The journey, version and step that a resource came from.
pub(crate) fn step_of(resource: &Resource) -> Option<(String, u32, String)> {
    let identifiers = resource.get("identifier")?.as_array()?;
    let value = identifiers
        .iter()
        .find(|identifier| identifier["system"] == STEP_SYSTEM)?["value"]
        .as_str()?;
    let mut parts = value.splitn(3, '/');
    Some((
        parts.next()?.to_owned(),
        parts.next()?.parse().ok()?,
        parts.next()?.to_owned(),
    ))
}

/// Whether a task is one for staff. A patient's form is a `Task`, too, and is done by answering it.
pub(crate) fn is_for_staff(task: &Resource) -> bool {
    let codings = task.at(&["code", "coding"]).and_then(Value::as_array);
    codings
        .into_iter()
        .flatten()
        .any(|coding| coding["system"] == TASK_SYSTEM && coding["code"] == "staff-task")
}

/// The patient that a task is for.
pub(crate) fn task_patient(resource: &Resource) -> Option<String> {
    let reference = Reference::parse(resource.text_at(&["for", "reference"])?)?;
    (reference.kind == ResourceType::Patient).then_some(reference.id)
}

/// Who did what a task is to confirm.
fn done_by(task: &Resource) -> Option<String> {
    let inputs = task.get("input").and_then(Value::as_array);
    let found = inputs
        .into_iter()
        .flatten()
        .find(|input| fhir::human::codeable(&input["type"]) == DONE_BY)?;
    found["valueString"].as_str().map(str::to_owned)
}

/// Whose work it is.
fn role_of(task: &Resource) -> Option<String> {
    let kinds = task.get("performerType").and_then(Value::as_array)?;
    let mut codings = kinds
        .iter()
        .flat_map(|kind| kind["coding"].as_array().into_iter().flatten());
    let found = codings.find(|coding| coding["system"] == ROLE_SYSTEM)?;
    found["code"].as_str().map(str::to_owned)
}

impl TaskRow {
    pub(crate) fn of(resource: &Resource) -> Self {
        let time = |path: &[&str]| {
            let text = resource.text_at(path)?;
            fhir::date::parse(text).map(|time| time.start_ms)
        };
        let text = |path: &[&str]| resource.text_at(path).unwrap_or_default().to_owned();
        let outcomes =
            resource
                .get("input")
                .and_then(Value::as_array)
                .map_or_else(Vec::new, |inputs| {
                    inputs
                        .iter()
                        .filter(|input| fhir::human::codeable(&input["type"]) == "outcome")
                        .filter_map(|input| {
                            let code = input["valueCode"]
                                .as_str()
                                .or_else(|| input["valueString"].as_str())
                                .or_else(|| input["valueCoding"]["code"].as_str())?;
                            Some((
                                code.to_owned(),
                                input["valueCoding"]["display"]
                                    .as_str()
                                    .map_or_else(|| code.replace(['-', '_'], " "), str::to_owned),
                            ))
                        })
                        .collect()
                });
        Self {
            id: resource.id().unwrap_or_default().to_owned(),
            version: (resource.text_at(&["meta", "versionId"]))
                .and_then(|version| version.parse().ok())
                .unwrap_or_default(),
            status: text(&["status"]),
            title: resource
                .text_at(&["description"])
                .or_else(|| resource.text_at(&["code", "text"]))
                .unwrap_or("Task")
                .to_owned(),
            reason: text(&["reasonCode", "text"]),
            patient: task_patient(resource),
            role: role_of(resource).unwrap_or_default(),
            queue: queue_of(resource).map(str::to_owned),
            priority: resource
                .text_at(&["priority"])
                .unwrap_or("routine")
                .to_owned(),
            due_ms: time(&["restriction", "period", "end"]),
            since_ms: time(&["authoredOn"])
                .or_else(|| time(&["meta", "lastUpdated"]))
                .unwrap_or_default(),
            owner: resource
                .text_at(&["owner", "identifier", "value"])
                .map(|id| (id.to_owned(), text(&["owner", "display"]))),
            step: step_of(resource),
            outcomes,
            done_by: done_by(resource),
            outcome: resource
                .get("output")
                .and_then(|outputs| outputs.get(0))
                .map(|output| {
                    let value = output["valueString"]
                        .as_str()
                        .or_else(|| output["valueCode"].as_str())
                        .unwrap_or_default();
                    if value.is_empty() {
                        fhir::human::codeable(&output["valueCodeableConcept"])
                    } else {
                        value.to_owned()
                    }
                }),
        }
    }
    /// Whether a deed for several tasks, which nobody looked at one by one, is meant for this: a button that one task
    /// alone would not have does nothing to it.
    fn has(&self, deed: Deed, account: &str) -> Result<(), PageError> {
        let mine = self.owner.as_ref().is_some_and(|(id, _)| id == account);
        match deed {
            Deed::Release if !mine => Err(PageError::Invalid(
                "It is not yours to give back.".to_owned(),
            )),
            Deed::Claim if mine && self.status != "requested" => {
                Err(PageError::Invalid("It is yours already.".to_owned()))
            }
            _ => Ok(()),
        }
    }
    pub(crate) fn is_open(&self) -> bool {
        OPEN.split(',').any(|status| status == self.status)
    }
    pub(crate) fn overdue(&self, now_ms: i64) -> bool {
        self.is_open() && self.due_ms.is_some_and(|due| due < now_ms)
    }
    /// How it ends with an outcome that was said for several tasks ([`outcome_value`]): as that says, if it is one of its
    /// own with the same words, and without one where it has none.
    fn ends<'a>(&self, outcome: Option<&'a str>) -> Result<Option<&'a str>, PageError> {
        if self.outcomes.is_empty() {
            return Ok(None);
        }
        let said = outcome.map(|outcome| match outcome.split_once(WORDS) {
            Some((code, words)) => (code, Some(words)),
            None => (outcome, None),
        });
        let known = |(code, words): &(&str, Option<&str>)| {
            let own = |(own, called): &(String, String)| {
                own == code && words.is_none_or(|words| words == called)
            };
            (*code, *words) == ("other", None) || self.outcomes.iter().any(own)
        };
        match said.filter(known) {
            Some((code, _)) => Ok(Some(code)),
            None => Err(PageError::Invalid(
                "It can't end so: it has outcomes of its own.".to_owned(),
            )),
        }
    }
    /// Orders by harm of waiting: how bad it would be, then what is late already, then what will be
    /// late first; age breaks ties only.
    pub(crate) fn harm(&self, now_ms: i64) -> (usize, bool, i64, i64, &str) {
        let priority = PRIORITIES
            .iter()
            .position(|(code, _)| *code == self.priority)
            .unwrap_or(PRIORITIES.len());
        (
            priority,
            !self.overdue(now_ms),
            self.due_ms.unwrap_or(i64::MAX),
            self.since_ms,
            &self.id,
        )
    }
    /// The priority as a state: shape, word, colour.
    pub(crate) fn priority_mark(&self) -> Markup {
        match self.priority.as_str() {
            "stat" => layout::state(State::Failed, "At once"),
            "asap" => layout::state(State::NeedsYou, "Very soon"),
            "urgent" => layout::state(State::NeedsYou, "Urgent"),
            _ => layout::state(State::Waiting, "Routine"),
        }
    }
    /// The state of the task itself.
    pub(crate) fn state_mark(&self) -> Markup {
        match self.status.as_str() {
            "completed" => layout::state(State::Done, "Done"),
            "cancelled" | "rejected" => layout::state(State::Waiting, "Withdrawn"),
            "failed" | "entered-in-error" => layout::state(State::Failed, "Failed"),
            "requested" if self.owner.is_some() => layout::state(State::NeedsYou, "Handed on"),
            _ if self.owner.is_some() => layout::state(State::Running, "Claimed"),
            _ => layout::state(State::NeedsYou, "Open"),
        }
    }
    /// What can be done, as forms that work without JavaScript. `back` is where to go afterwards.
    pub(crate) fn actions(&self, ctx: &Ctx, back: &str) -> Markup {
        let mine = self
            .owner
            .as_ref()
            .is_some_and(|(id, _)| *id == ctx.session.agent.id);
        let hidden = html! { (csrf(ctx)) input type="hidden" name="back" value=(back); };
        html! {
            @if !self.is_open() {
                @if self.status == "completed" { (button(&self.id, "reopen", "Open again", &hidden)) }
            } @else if self.done_by.as_ref() == Some(&ctx.session.agent.id) {
                span class="quiet" { "You did it: somebody else confirms it" }
                (self.hand_on(&hidden))
            } @else {
                @if mine && self.status != "requested" { (button(&self.id, "release", "Give back", &hidden)) }
                @else { (button(&self.id, "claim", if self.owner.is_some() { "Take over" } else { "Claim" }, &hidden)) }
                details id={ "do-" (self.id) } {
                    summary class="button" data-act="done" { "Done…" }
                    form class="pop stack" method="post" action={ "/console/tasks/" (self.id) "/done" } {
                        (hidden)
                        @if !self.outcomes.is_empty() {
                            label { "How it ended"
                                select name="outcome" required {
                                    @for (code, words) in &self.outcomes { option value=(code) { (words) } }
                                    option value="other" { "something else" }
                                }
                            }
                        }
                        label { "Note" span class="hint" { "What others should know; may stay empty" } textarea name="note" maxlength="2000" {} }
                        button class="primary" type="submit" { "Mark as done" }
                    }
                }
                (self.hand_on(&hidden))
            }
        }
    }
    /// The form that gives it to another role's worklist, or to somebody.
    fn hand_on(&self, hidden: &Markup) -> Markup {
        html! {
            details id={ "on-" (self.id) } {
                summary class="button" data-act="delegate" { "Hand on…" }
                form class="pop stack" method="post" action={ "/console/tasks/" (self.id) "/delegate" } {
                    (hidden)
                    label { "To"
                        select name="role" required {
                            @for (code, words) in ROLES {
                                option value=(code) selected[code != self.role] { (words) }
                            }
                        }
                    }
                    label { "Colleague" span class="hint" { "Their user name, whatever their role; empty for any of the role" } input type="text" name="person" autocomplete="off" autocapitalize="none" spellcheck="false" maxlength="200"; }
                    label { "Note" span class="hint" { "Why, for whoever takes it; may stay empty" } textarea name="note" maxlength="2000" {} }
                    button class="primary" type="submit" { "Hand on" }
                }
            }
        }
    }
}

fn button(id: &str, act: &str, word: &str, hidden: &Markup) -> Markup {
    html! { form method="post" data-act=(act) action={ "/console/tasks/" (id) "/" (act) } { (hidden) button type="submit" data-act=(act) { (word) } } }
}

/// An outcome as a form for several tasks says it: one code may have other words in another journey.
pub(crate) fn outcome_value(code: &str, words: &str) -> String {
    format!("{code}{WORDS}{words}")
}

/// Priorities by harm, with their words.
pub(crate) const PRIORITIES: [(&str, &str); 4] = [
    ("stat", "At once"),
    ("asap", "Very soon"),
    ("urgent", "Urgent"),
    ("routine", "Routine"),
];

/// Whose worklists a task can be handed on to, with their words.
pub(crate) const ROLES: [(&str, &str); 2] = [
    ("coordinator", "Care coordinators"),
    ("clinician", "Clinicians"),
];

/// What is done to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    Claim,
    Release,
    Done,
    Reopen,
    Delegate,
}

/// Who does it.
#[derive(Debug, Clone, Copy)]
struct Doer<'a> {
    account: &'a str,
    name: &'a str,
}

/// What they said with it.
#[derive(Debug, Clone, Copy, Default)]
struct Said<'a> {
    outcome: Option<&'a str>,
    note: Option<&'a str>,
    role: Option<&'a str>,
    /// Account, name and role of a colleague.
    to: Option<&'a (String, String, Role)>,
}

/// Gives a task to a role's worklist, or to somebody, whoever had it.
fn delegate(
    task: &mut Resource,
    by: Doer<'_>,
    said: Said<'_>,
    now_ms: i64,
) -> Result<(), PageError> {
    let role = said.to.map_or(said.role, |(_, _, role)| Some(role.name()));
    let known = ROLES.iter().find(|(code, _)| Some(*code) == role);
    let Some((role, _)) = known else {
        return Err(PageError::Invalid("That is nobody's worklist.".to_owned()));
    };
    let types = performer_types(role, queue_of(task));
    task.set("performerType", types);
    task.set("status", json!("requested"));
    match said.to {
        Some((account, ..)) if done_by(task).as_ref() == Some(account) => {
            return Err(PageError::Invalid(
                "They did it themselves; somebody else has to confirm it.".to_owned(),
            ));
        }
        Some((account, name, _)) => task.set("owner", owner_of(account, name)),
        None => {
            task.remove("owner");
        }
    }
    task.set(
        "businessStatus",
        json!({ "text": format!("Handed on by {}", by.name) }),
    );
    if let Some(note) = said.note {
        let kept = task.get("note").and_then(Value::as_array);
        let mut notes = kept.cloned().unwrap_or_default();
        notes.push(json!({ "authorString": by.name, "time": iso(now_ms), "text": note }));
        task.set("note", Value::Array(notes));
    }
    Ok(())
}

fn owner_of(account: &str, name: &str) -> Value {
    json!({ "identifier": { "system": ACCOUNT_SYSTEM, "value": account }, "display": name })
}

/// Changes a task as the deed says; `Err` when its state does not allow it.
fn apply(
    deed: Deed,
    task: &mut Resource,
    by: Doer<'_>,
    said: Said<'_>,
    now_ms: i64,
) -> Result<(), PageError> {
    let status = task.text_at(&["status"]).unwrap_or_default().to_owned();
    let open = OPEN.split(',').any(|candidate| candidate == status);
    if (deed == Deed::Reopen) == open || (deed == Deed::Reopen && status != "completed") {
        return Err(PageError::Conflict);
    }
    // Who did it doesn't confirm it.
    if matches!(deed, Deed::Claim | Deed::Done) && done_by(task).as_deref() == Some(by.account) {
        return Err(PageError::Refused(
            "You did this yourself; somebody else has to confirm it.".to_owned(),
        ));
    }
    let owner = owner_of(by.account, by.name);
    match deed {
        Deed::Claim => {
            task.set("status", json!("accepted"));
            task.set("owner", owner);
        }
        Deed::Release => {
            task.set("status", json!("requested"));
            task.remove("owner");
        }
        Deed::Done => {
            task.set("status", json!("completed"));
            // Whoever had claimed it: it is theirs who did it.
            task.set("owner", owner);
            let mut outputs = vec![
                json!({ "type": { "text": "outcome" }, "valueString": said.outcome.unwrap_or("done") }),
            ];
            if let Some(note) = said.note {
                outputs.push(json!({ "type": { "text": "note" }, "valueString": note }));
            }
            task.set("output", Value::Array(outputs));
            task.set("executionPeriod", json!({ "end": iso(now_ms) }));
        }
        Deed::Reopen => {
            task.set(
                "status",
                json!(if task.get("owner").is_some() {
                    "accepted"
                } else {
                    "requested"
                }),
            );
            task.remove("output");
            task.remove("executionPeriod");
        }
        Deed::Delegate => delegate(task, by, said, now_ms)?,
    }
    task.set("lastModified", json!(iso(now_ms)));
    task.strip_meta();
    Ok(())
}

/// Whom a task is handed on to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum To<'a> {
    /// Anybody of the role that is said with it.
    Role,
    /// A colleague, by user name, who is looked up when there is a task to hand on.
    Named(&'a str),
    /// A colleague who was looked up: account, name and role.
    Known(&'a (String, String, Role)),
}

/// What is to be done to a task, and what is said with it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) deed: Deed,
    /// What the audit says of it.
    pub(crate) words: &'a str,
    pub(crate) outcome: Option<&'a str>,
    pub(crate) note: Option<&'a str>,
    pub(crate) role: Option<&'a str>,
    pub(crate) to: To<'a>,
    /// Whether the outcome has to be one that the task itself has, as where one form is for several tasks.
    pub(crate) among: bool,
}

/// What a change of a task came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Changed {
    /// The version that it wrote.
    pub(crate) version: u32,
    /// The name of somebody else who had the task before.
    pub(crate) from: Option<String>,
}

/// A task for staff, for a change under the permit.
pub(crate) async fn load(ctx: &Ctx, permit: &Permit, id: &str) -> Result<Versioned, PageError> {
    let found = ctx.vault().load(permit, ResourceType::Task, id).await?;
    found
        .filter(|found| !found.deleted && is_for_staff(&found.resource))
        .ok_or(PageError::NotFound)
}

/// Writes a task over the version that it was made of; gives the new version.
pub(crate) async fn write(
    ctx: &Ctx,
    permit: &Permit,
    task: Resource,
    over: u32,
    words: &str,
) -> Result<u32, TrustError> {
    let unit = Unit {
        changes: vec![Change::Put {
            resource: task,
            expected: Expected::Version(over),
        }],
        note: Some(format!("task {words}")),
        ..Unit::default()
    };
    ctx.vault().commit(permit, unit).await?;
    Ok(over + 1)
}

/// Does it to one task; gives what came of it. Where a version is `expected`, it is done to that one or
/// to none; otherwise to the newest.
pub(crate) async fn change(
    ctx: &Ctx,
    permit: &Permit,
    id: &str,
    asked: &Asked<'_>,
    expected: Option<u32>,
) -> Result<Changed, PageError> {
    let by = Doer {
        account: &ctx.session.agent.id,
        name: &ctx.session.agent.name,
    };
    let mut named = None;
    let mut tries = 0;
    loop {
        let found = load(ctx, permit, id).await?;
        if expected.is_some_and(|expected| expected != found.version) {
            return Err(PageError::Conflict);
        }
        let mut task = found.resource;
        // Whoever has no such task learns nothing of who has an account.
        if let (To::Named(person), None) = (asked.to, &named)
            && TaskRow::of(&task).is_open()
        {
            let identity = ctx.app.web.trust.identity();
            named = Some(identity.colleague(permit, person).await?);
        }
        let row = TaskRow::of(&task);
        if asked.among && row.is_open() {
            row.has(asked.deed, by.account)?;
        }
        let outcome = match asked.deed {
            Deed::Done if asked.among => row.ends(asked.outcome)?,
            _ => asked.outcome,
        };
        let from = (row.owner.as_ref()).filter(|(id, _)| id != by.account);
        let from = from.map(|(_, name)| name.clone());
        let said = Said {
            outcome,
            note: asked.note,
            role: asked.role,
            to: match asked.to {
                To::Known(known) => Some(known),
                To::Role | To::Named(_) => named.as_ref(),
            },
        };
        apply(asked.deed, &mut task, by, said, ctx.times.care_ms)?;
        match write(ctx, permit, task, found.version, asked.words).await {
            Ok(version) => return Ok(Changed { version, from }),
            Err(TrustError::Ledger(ledger::LedgerError::Conflict))
                if expected.is_none() && tries < TRIES =>
            {
                tries += 1;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// `POST /console/tasks/{id}/{deed}`.
pub(crate) async fn act(
    Path((id, deed)): Path<(String, String)>,
    Posted { ctx, fields }: Posted,
) -> Result<Response, PageError> {
    ctx.staff()?;
    let (deed, words) = match deed.as_str() {
        "claim" => (Deed::Claim, "claimed"),
        "release" => (Deed::Release, "given back"),
        "done" => (Deed::Done, "done"),
        "reopen" => (Deed::Reopen, "opened again"),
        "delegate" => (Deed::Delegate, "handed on"),
        _ => return Err(PageError::NotFound),
    };
    let permit = ctx
        .permit(Action::Work, Some(ResourceType::Task), None)
        .await?;
    let person = fields.get("person").map(str::trim);
    let person = person.filter(|person| deed == Deed::Delegate && !person.is_empty());
    let asked = Asked {
        deed,
        words,
        outcome: fields.get("outcome"),
        note: fields.get("note"),
        role: fields.get("role"),
        to: person.map_or(To::Role, To::Named),
        among: false,
    };
    change(&ctx, &permit, &id, &asked, None).await?;
    let back = fields
        .get("back")
        .filter(|path| path.starts_with("/console/") && !path.contains("//"))
        .unwrap_or("/console/worklist");
    let joint = if back.contains('?') { '&' } else { '?' };
    let flash = match deed {
        Deed::Done => format!("{joint}done={id}"),
        Deed::Reopen => format!("{joint}reopened={id}"),
        Deed::Claim => format!("{joint}claimed={id}"),
        Deed::Delegate => format!("{joint}delegated={id}"),
        Deed::Release => String::new(),
    };
    Ok(Redirect::to(&format!("{back}{flash}")).into_response())
}

/// What was just done, with its undo. The ids come from the address, so they are checked.
pub(crate) fn flash(ctx: &Ctx, fields: &crate::context::Fields, back: &str) -> Markup {
    let id = |name: &str| {
        fields
            .get(name)
            .filter(|id| fhir::is_id(id))
            .map(str::to_owned)
    };
    let undo = |id: &str, deed: &str| {
        html! {
            form method="post" data-act="undo" action={ "/console/tasks/" (id) "/" (deed) } {
                (csrf(ctx))
                input type="hidden" name="back" value=(back);
                button class="plain" type="submit" { "Undo" }
            }
        }
    };
    html! {
        @if let Some(id) = id("done") {
            div class="flash" role="status" { (layout::state(State::Done, "Task done")) (undo(&id, "reopen")) }
        } @else if let Some(id) = id("claimed") {
            div class="flash" role="status" { (layout::state(State::Running, "Task claimed")) (undo(&id, "release")) }
        } @else if fields.get("delegated").is_some() {
            div class="flash" role="status" { (layout::state(State::Running, "Task handed on")) }
        } @else if fields.get("reopened").is_some() {
            div class="flash" role="status" { "The task is open again. What the journey did in the meantime stays done." }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, priority: &str, due_ms: Option<i64>, since_ms: i64) -> TaskRow {
        TaskRow {
            id: id.into(),
            priority: priority.into(),
            status: "requested".into(),
            due_ms,
            since_ms,
            ..TaskRow::default()
        }
    }

    #[test]
    fn the_worklist_is_sorted_by_harm_of_waiting() {
        let now = 1_000;
        let mut rows = [
            row("routine late", "routine", Some(10), 0),
            row("routine soon", "routine", Some(2_000), 0),
            row("urgent later", "urgent", Some(9_000), 0),
            row("urgent late", "urgent", Some(500), 900),
            row("urgent latest", "urgent", Some(400), 950),
            row("stat", "stat", Some(50_000), 999),
            row("no due", "routine", None, 5),
            row("no due older", "routine", None, 1),
            row("unknown", "whenever", Some(1), 0),
        ];
        rows.sort_by(|left, right| left.harm(now).cmp(&right.harm(now)));
        let order: Vec<&str> = rows.iter().map(|row| row.id.as_str()).collect();
        assert_eq!(
            order,
            [
                "stat",
                "urgent latest",
                "urgent late",
                "urgent later",
                "routine late",
                "routine soon",
                "no due older",
                "no due",
                "unknown"
            ]
        );
    }

    #[test]
    fn deeds_change_tasks_and_can_be_undone() {
        let task = || {
            Resource::from_value(json!({ "resourceType": "Task", "id": "t", "status": "requested", "intent": "order" })).unwrap()
        };
        let carla = Doer {
            account: "a1",
            name: "Carla",
        };
        let devi = Doer {
            account: "a2",
            name: "Devi",
        };
        let none = Said::default();
        let reached = Said {
            outcome: Some("reached"),
            note: Some("all well"),
            ..none
        };
        let mut changed = task();
        apply(Deed::Claim, &mut changed, carla, none, 0).unwrap();
        assert_eq!(changed.text_at(&["status"]), Some("accepted"));
        let owner = ["owner", "identifier", "value"];
        assert_eq!(changed.text_at(&owner), Some("a1"));
        apply(Deed::Done, &mut changed, devi, reached, 1_000).unwrap();
        assert_eq!(changed.text_at(&["status"]), Some("completed"));
        assert_eq!(changed.text_at(&owner), Some("a2"), "who did it");
        for (place, text) in [("0", "reached"), ("1", "all well")] {
            let output = changed.text_at(&["output", place, "valueString"]);
            assert_eq!(output, Some(text));
        }
        for deed in [Deed::Claim, Deed::Delegate] {
            let refused = apply(deed, &mut changed, carla, none, 0);
            assert_eq!(refused, Err(PageError::Conflict));
        }
        apply(Deed::Reopen, &mut changed, carla, none, 2_000).unwrap();
        assert_eq!(changed.text_at(&["status"]), Some("accepted"));
        assert!(changed.get("output").is_none());
        apply(Deed::Release, &mut changed, carla, none, 3_000).unwrap();
        assert_eq!(changed.text_at(&["status"]), Some("requested"));
        let reopened = apply(Deed::Reopen, &mut task(), carla, none, 0);
        assert_eq!(reopened, Err(PageError::Conflict));
        // Handed on: another role's, and nobody's of that role yet.
        apply(Deed::Claim, &mut changed, carla, none, 4_000).unwrap();
        let to = |role, note| Said {
            note,
            role: Some(role),
            ..none
        };
        apply(
            Deed::Delegate,
            &mut changed,
            carla,
            to("clinician", Some("odd")),
            5_000,
        )
        .unwrap();
        assert_eq!(changed.text_at(&["status"]), Some("requested"));
        assert!(changed.get("owner").is_none());
        let role = ["performerType", "0", "coding", "0", "code"];
        assert_eq!(changed.text_at(&role), Some("clinician"));
        assert_eq!(changed.text_at(&["note", "0", "text"]), Some("odd"));
        let nobody = apply(Deed::Delegate, &mut changed, carla, to("cook", None), 6_000);
        assert!(matches!(nobody, Err(PageError::Invalid(_))), "{nobody:?}");
        // To somebody: theirs, in their role's worklist, of the same queue.
        changed.set(
            "performerType",
            performer_types("clinician", Some("ward-3")),
        );
        let erin = ("a3".to_owned(), "Erin".to_owned(), Role::Coordinator);
        let hers = Said {
            role: Some("clinician"),
            to: Some(&erin),
            ..none
        };
        apply(Deed::Delegate, &mut changed, carla, hers, 7_000).unwrap();
        assert_eq!(changed.text_at(&owner), Some("a3"));
        assert_eq!(changed.text_at(&role), Some("coordinator"));
        assert_eq!(queue_of(&changed), Some("ward-3"));
        let did = json!([{ "type": { "text": DONE_BY }, "valueString": "a3" }]);
        changed.set("input", did);
        let refused = apply(Deed::Delegate, &mut changed, carla, hers, 8_000);
        assert!(matches!(refused, Err(PageError::Invalid(_))), "{refused:?}");
    }

    #[test]
    fn who_did_it_does_not_confirm_it() {
        let confirm = json!({
            "resourceType": "Task", "id": "t", "status": "requested", "intent": "order",
            "input": [
                { "type": { "text": "outcome" }, "valueString": "confirmed" },
                { "type": { "text": DONE_BY }, "valueString": "a1" }
            ]
        });
        for (account, deed, may) in [
            ("a1", Deed::Claim, false),
            ("a1", Deed::Done, false),
            ("a1", Deed::Release, true),
            ("a2", Deed::Claim, true),
            ("a2", Deed::Done, true),
        ] {
            let by = Doer { account, name: "x" };
            let mut task = Resource::from_value(confirm.clone()).unwrap();
            let done = apply(deed, &mut task, by, Said::default(), 0);
            assert_eq!(done.is_ok(), may, "{account} {deed:?}");
        }
    }
}
