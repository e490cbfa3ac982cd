//! The inbox: messages as they are kept behind the login. Opening one notes that it was read.

use axum::extract::Path;
use axum::response::Response;
use fhir::{Reference, Resource, ResourceType};
use maud::html;
use serde_json::{Value, json};
use trust::conventions::{NO_RECEIPT, SMS_SYSTEM, reply_code};
use trust::{Action, Role};

use crate::context::{Ctx, query};
use crate::error::PageError;
use crate::layout::{self, PortalSection, portal};
use crate::patient::words::payload;
use crate::time::{fhir_time, iso};

use super::{PER_TYPE_MAX, change};

/// A line of the inbox.
pub(crate) struct Line {
    pub(crate) id: String,
    pub(crate) title: String,
    /// The language of the title, where it isn't the pages'.
    pub(crate) language: Option<String>,
    pub(crate) at_ms: i64,
    pub(crate) unread: bool,
}

/// What a message is called: one that the patient has sent is theirs.
fn title(message: &Resource) -> &str {
    match reply_code(message) {
        Some(_) => "A text message that you sent",
        None => message.text_at(&["topic", "text"]).unwrap_or("A message"),
    }
}

/// The statuses of messages that may have reached a patient.
pub(super) const STATUSES: &str = "completed,in-progress,not-done";

/// Whether a message has reached the patient, or has left for them: what a message said that came back, or did not arrive,
/// is theirs to read here. What was not sent is not, and a draft of another system isn't either.
fn is_theirs(message: &Resource) -> bool {
    match message.text_at(&["status"]) {
        Some("completed") => true,
        Some("in-progress" | "not-done") => message.get("sent").is_some(),
        _ => false,
    }
}

/// The messages that have reached the patient, newest first. The same words may have come by e-mail
/// and to the portal; what was not sent is not theirs to see.
pub(crate) fn inbox(ctx: &Ctx, communications: &[Resource]) -> Vec<Line> {
    let time = |resource: &Resource| {
        [&["sent"][..], &["meta", "lastUpdated"]]
            .iter()
            .find_map(|path| fhir_time(&ctx.times, resource.text_at(path)?))
            .map_or(0, |(ms, ..)| ms)
    };
    let mut lines: Vec<Line> = communications
        .iter()
        .filter(|message| is_theirs(message))
        .map(|message| Line {
            id: message.id().unwrap_or_default().to_owned(),
            title: title(message).to_owned(),
            language: message.text_at(&["language"]).map(str::to_owned),
            at_ms: time(message),
            unread: message.get("received").is_none(),
        })
        .collect();
    lines.sort_by_key(|line| std::cmp::Reverse(line.at_ms));
    lines
}

/// `GET /portal/inbox`.
pub(crate) async fn list(ctx: Ctx) -> Result<Response, PageError> {
    let patient = ctx.own_patient()?;
    let permit = ctx
        .permit(
            Action::Search,
            Some(ResourceType::Communication),
            Some(patient),
        )
        .await?;
    let page = ctx
        .vault()
        .search(
            &permit,
            &query(
                ResourceType::Communication,
                &[("patient", patient), ("status", STATUSES)],
                PER_TYPE_MAX,
            )?,
            None,
        )
        .await?;
    let rows: Vec<Resource> = page.rows.into_iter().map(|row| row.resource).collect();
    let lines = inbox(&ctx, &rows);
    let body = html! {
        div class="stack-wide" {
            h1 { "Messages" }
            @if lines.is_empty() { (layout::empty("No messages yet", "When your care team writes to you, it is here.")) }
            @else {
                ul class="links" {
                    @for line in &lines {
                        li {
                            a lang=[line.language.as_deref()] class=[line.unread.then_some("strong")] href={ "/portal/inbox/" (line.id) } { (line.title) }
                            p class="quiet small" { @if line.unread { "new, " } (ctx.times.plain(line.at_ms)) }
                        }
                    }
                }
                @if page.next.is_some() { p class="quiet" { "Only your newest " (PER_TYPE_MAX) " messages are listed." } }
            }
        }
    };
    Ok(portal(
        &ctx,
        "Messages",
        Some(PortalSection::Messages),
        None,
        &body,
    ))
}

/// Whether a message has left, or may have, of which it isn't known that it is there.
fn may_be_there(message: &Resource) -> bool {
    let identifiers = message.get("identifier").and_then(Value::as_array);
    let mut identifiers = identifiers.into_iter().flatten();
    let mut is_text = || identifiers.any(|one| one["system"] == SMS_SYSTEM);
    let codings = message.at(&["statusReason", "coding"]);
    let codings = codings.and_then(Value::as_array);
    let mut codings = codings.into_iter().flatten();
    let mut is_unheard = || codings.any(|coding| coding["code"] == NO_RECEIPT);
    match message.text_at(&["status"]) {
        // An e-mail that has left may still come back.
        Some("in-progress") => message.get("sent").is_some() || is_text() || is_unheard(),
        Some("not-done" | "stopped" | "on-hold") => is_text() || is_unheard(),
        _ => false,
    }
}

/// The resource of a type that a message is about.
fn about(message: &Resource, kind: ResourceType) -> Option<String> {
    let references = message.get("about")?.as_array()?;
    references
        .iter()
        .filter_map(|reference| Reference::parse(reference["reference"].as_str()?))
        .find(|reference| reference.kind == kind)
        .map(|reference| reference.id)
}

/// The visit that a message is about: its id, and whether it waits for an answer. One that was called off is none.
async fn visit(
    ctx: &Ctx,
    patient: &str,
    message: &Resource,
) -> Result<Option<(String, bool)>, PageError> {
    let Some(id) = about(message, ResourceType::Appointment) else {
        return Ok(None);
    };
    let permit = ctx
        .permit(Action::Read, Some(ResourceType::Appointment), Some(patient))
        .await?;
    let found = ctx
        .vault()
        .read(&permit, ResourceType::Appointment, &id)
        .await?;
    let found = found.filter(|found| !found.deleted);
    let status = found
        .as_ref()
        .and_then(|found| found.resource.text_at(&["status"]));
    let start = found
        .as_ref()
        .and_then(|found| found.resource.text_at(&["start"]));
    let start = start.and_then(|text| fhir_time(&ctx.times, text));
    // What is over can't be taken any more.
    let is_over = start.is_some_and(|(start_ms, ..)| start_ms <= ctx.times.care_ms);
    Ok(match status {
        Some("proposed" | "pending") if !is_over => Some((id, true)),
        Some("booked") => Some((id, false)),
        _ => None,
    })
}

/// `GET /portal/inbox/{id}`. The first opening notes the time in `Communication.received`.
pub(crate) async fn open(ctx: Ctx, Path(id): Path<String>) -> Result<Response, PageError> {
    let patient = ctx.own_patient()?.to_owned();
    if !fhir::is_id(&id) {
        return Err(PageError::NotFound);
    }
    let permit = ctx
        .permit(
            Action::Read,
            Some(ResourceType::Communication),
            Some(&patient),
        )
        .await?;
    let found = ctx
        .vault()
        .read(&permit, ResourceType::Communication, &id)
        .await?
        .filter(|found| !found.deleted)
        .ok_or(PageError::NotFound)?;
    let message = found.resource;
    // A message that is still on its way by e-mail may be opened by its link a moment too early, and a text message that
    // has left may be there though no receipt came, or one that says it isn't.
    let is_theirs = is_theirs(&message) || may_be_there(&message);
    if !is_theirs && message.text_at(&["status"]) != Some("preparation") {
        return Err(PageError::NotFound);
    }
    // It is the patient who has received it, not somebody who acts for them.
    let by_the_patient = ctx.role() == Role::Patient;
    if is_theirs && message.get("received").is_none() && by_the_patient {
        change(
            &ctx,
            ResourceType::Communication,
            &id,
            "message read in the portal",
            |message| {
                if message.get("received").is_none() {
                    message.set("received", json!(iso(ctx.times.care_ms)));
                }
                // Who reads it has it, and no receipt says more.
                if may_be_there(message) {
                    message.set("status", json!("completed"));
                    message.remove("statusReason");
                }
                Ok(Vec::new())
            },
        )
        .await?;
    }
    let mut form = None;
    if let Some(task) = about(&message, ResourceType::Task) {
        let permit = ctx
            .permit(Action::Read, Some(ResourceType::Task), Some(&patient))
            .await?;
        let open = |task: &Resource| {
            task.text_at(&["status"])
                .is_some_and(|status| crate::tasks::OPEN.split(',').any(|open| open == status))
        };
        form = ctx
            .vault()
            .read(&permit, ResourceType::Task, &task)
            .await?
            .filter(|found| !found.deleted && open(&found.resource))
            .map(|_| task);
    }
    let visit = visit(&ctx, &patient, &message).await?;
    let language = message.text_at(&["language"]);
    let sent = message
        .text_at(&["sent"])
        .and_then(|at| fhir_time(&ctx.times, at));
    let body = html! {
        div class="stack-wide" {
            div {
                p class="crumbs" { a href="/portal/inbox" { "Messages" } }
                h1 lang=[language] { (title(&message)) }
                @if let Some((at, ..)) = sent { p class="quiet small" { (ctx.times.plain(at)) ", " (ctx.times.ago(at)) } }
            }
            @for part in payload(&message) { p class="words" lang=[language] { (part) } }
            @if message.get("payload").and_then(Value::as_array).is_none_or(Vec::is_empty) { p class="quiet" { "This message has no words." } }
            @if let Some(task) = form { p { a class="button primary" href={ "/portal/forms/" (task) } { "Answer the questions" } } }
            @match &visit {
                Some((id, true)) => p { a class="button primary" href={ "/portal/visits/" (id) } { "Accept or decline the visit" } },
                Some((id, false)) => p { a href={ "/portal/visits/" (id) } { "See the visit" } },
                None => {},
            }
            @if let Some(way) = crate::patient::attempts::of_patients(&ctx.times, &message) { (way) }
            p { a href="/portal" { "What is next for me" } }
        }
    };
    Ok(portal(
        &ctx,
        "Message",
        Some(PortalSection::Messages),
        None,
        &body,
    ))
}
