//! Acts by hand on many patients' journeys: asked for, with what would come of it, watched and broken off.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use axum::extract::Path;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Redirect, Response};
use fhir::ResourceType;
use fhir::search::SearchQuery;
use journey::{
    BATCH_MAX, Batch, BatchForeseen, FAILURES_MAX, FailurePage, FailurePlace, Foreseen, Many,
    RATE_MAX, Stage, StepView, Who,
};
use maud::{Markup, html};
use trust::{Action, Permit, kinds};

use crate::browse::typed;
use crate::context::{Ctx, Fields, Posted, Watching, escape};
use crate::error::PageError;
use crate::journeys::people::patient;
use crate::layout::{self, Section, State, console, csrf, thousands};
use crate::live::{self, Parts};
use crate::stopping::{REASON_MAX, reason};
use crate::time::signed;
use crate::worklist::{PatientLine, last_event_id, patient_lines};

const HERE: &str = "/console/batches";
const TITLE: &str = "Many journeys at once";
/// Patients a second where nothing else is said.
const RATE: u32 = 10;
const DAY_MS: u64 = 86_400_000;
/// Patients read at once where they are searched for.
const FOUND_PAGE: usize = 200;
/// How many failures a page was loaded with, in the address of its stream.
const LISTED: &str = "listed";
/// What a query is carried along in, from the form to what would come of it to what is asked for.
const QUERY: [&str; 8] = [
    "journey", "version", "step", "days", "held", "patients", "search", "what",
];

async fn permit(ctx: &Ctx) -> Result<Permit, PageError> {
    ctx.staff()?;
    ctx.permit(Action::Steer, None, None).await
}

fn invalid(words: &str) -> PageError {
    PageError::Invalid(words.to_owned())
}

/// What is done, from its name in forms (`skip:0`, `send:follow_up`).
fn many(fields: &Fields) -> Result<Many, PageError> {
    let what = fields.get("what").unwrap_or_default();
    Ok(match what.split_once(':') {
        Some(("skip", way)) => Many::Skip(way.parse().map_err(|_| invalid("Say by which way."))?),
        Some(("send", to)) => Many::Send(to.to_owned()),
        _ => match what {
            "hold" => Many::Hold,
            "go-on" => Many::GoOn,
            "stop" => Many::Stop,
            "again" => Many::Again,
            _ => return Err(invalid("Say what is to be done.")),
        },
    })
}

fn said(many: &Many) -> String {
    match many {
        Many::Hold => "Hold".to_owned(),
        Many::GoOn => "Let go on".to_owned(),
        Many::Stop => "Stop for good".to_owned(),
        Many::Skip(_) => "Skip the step".to_owned(),
        Many::Again => "Begin the step anew".to_owned(),
        Many::Send(to) => format!("Send to {to}"),
        Many::TakeBack => "Take back what a batch did".to_owned(),
        Many::Migrate { to, .. } => format!("Move to version {to}"),
    }
}

fn of_whom(who: &Who) -> String {
    let mut words = format!("{}, version {}", who.journey, who.version);
    if let Some(step) = &who.step {
        words += &format!(", at {step}");
    }
    if who.for_ms > 0 {
        words += &format!(", for at least {} days", who.for_ms / DAY_MS);
    }
    match who.held {
        Some(true) => words += ", held",
        Some(false) => words += ", not held",
        None => {}
    }
    let among = who.patients.len().max(who.among);
    if among > 0 {
        words += &format!(", of {} patients", thousands(among as u64));
    }
    words
}

async fn who(ctx: &Ctx, fields: &Fields) -> Result<Who, PageError> {
    let days = fields.get("days").map_or(Ok(0), str::parse::<u64>);
    let days = days.map_err(|_| invalid("Days are a whole number."))?;
    let listed = fields.get("patients").unwrap_or_default();
    let listed = listed.split(|at: char| at.is_whitespace() || at == ',');
    let listed = listed.filter(|id| !id.is_empty()).map(str::to_owned);
    let mut patients: BTreeSet<String> = listed.collect();
    if patients.len() > BATCH_MAX || !patients.iter().all(|id| fhir::is_id(id)) {
        return Err(PageError::Invalid(format!(
            "Patients are named by their ids, {BATCH_MAX} at most."
        )));
    }
    if let Some(search) = fields.get("search") {
        let found = searched(ctx, search).await?;
        patients = if patients.is_empty() {
            found
        } else {
            patients.intersection(&found).cloned().collect()
        };
        if patients.is_empty() {
            return Err(invalid("No patient is found."));
        }
    }
    let version = fields.get("version").and_then(|text| text.parse().ok());
    Ok(Who {
        journey: fields.get("journey").ok_or(PageError::NotFound)?.to_owned(),
        version: version.ok_or(PageError::NotFound)?,
        step: fields.get("step").map(str::to_owned),
        for_ms: days.saturating_mul(DAY_MS),
        held: match fields.get("held") {
            Some("yes") => Some(true),
            Some("no") => Some(false),
            _ => None,
        },
        patients,
        among: 0,
    })
}

/// The patients whom a FHIR search finds, as whoever searches may see them.
async fn searched(ctx: &Ctx, search: &str) -> Result<BTreeSet<String>, PageError> {
    let kind = ResourceType::Patient;
    let permit = ctx.permit(Action::Search, Some(kind), None).await?;
    let mut parameters = typed(search);
    parameters.retain(|(name, _)| name != "_count");
    parameters.push(("_count".to_owned(), FOUND_PAGE.to_string()));
    let query = SearchQuery::parse(kind, &parameters, false);
    let query = query.map_err(|outcome| PageError::Invalid(outcome.summary()))?;
    let (mut found, mut at) = (BTreeSet::new(), None);
    loop {
        let page = ctx.vault().search(&permit, &query, at).await?;
        let ids = page.rows.iter().filter_map(|row| row.resource.id());
        found.extend(ids.map(str::to_owned));
        if found.len() > BATCH_MAX {
            return Err(PageError::Invalid(format!(
                "More than {BATCH_MAX} patients are found; search for fewer."
            )));
        }
        at = page.next;
        if at.is_none() {
            return Ok(found);
        }
    }
}

fn stage(batch: &Batch) -> Markup {
    match batch.stage {
        _ if batch.rests() => layout::state(State::Waiting, "Rests"),
        Stage::Running => layout::state(State::Running, "Under way"),
        Stage::Cancelled => layout::state(State::Failed, "Broken off"),
        Stage::Done if batch.failed > 0 => layout::state(State::Failed, "Done, not for all"),
        Stage::Done => layout::state(State::Done, "Done"),
    }
}

/// `GET /console/batches`.
pub(crate) async fn list(ctx: Ctx) -> Result<Response, PageError> {
    let permit = permit(&ctx).await?;
    let journeys = &ctx.app.web.journeys;
    let batches = journeys.batches(&permit).await?;
    let versions = journeys.versions(&permit).await?;
    let body = html! {
        p class="crumbs" { a href="/console/journeys" { "Journeys" } }
        (layout::head(TITLE, &html! { "One after another, by the server, at no more than so many a second." }, &html! {}))
        section class="card stack" aria-labelledby="new" {
            h2 id="new" { "A new one" }
            ul { @for version in &versions { @if version.running > 0 {
                li { a href={ (HERE) "/new?journey=" (escape(&version.name)) "&version=" (version.version) } { (version.title) ", version " (version.version) } span class="quiet" { " · " (thousands(version.running)) " in it now" } }
            } } }
        }
        @if batches.is_empty() { p class="quiet" { "There was none so far." } }
        @else {
            div class="scroll" { table {
                thead { tr { th scope="col" { "What" } th scope="col" { "Whose" } th scope="col" { "Asked" } th scope="col" class="number" { "Tried" } th scope="col" class="number" { "Failed" } th scope="col" { "State" } } }
                tbody { @for batch in &batches { tr {
                    th scope="row" { a href={ (HERE) "/" (batch.id) } { (said(&batch.many)) } }
                    td { (of_whom(&batch.who)) }
                    td { (ctx.times.ago(signed(batch.asked_ms))) div class="quiet small" { "by " (batch.by) } }
                    td class="number" { (thousands(batch.next as u64)) " of " (thousands(batch.total as u64)) }
                    td class="number" { (thousands(batch.failed as u64)) }
                    td { (stage(batch)) }
                } } }
            } }
        }
    };
    Ok(console(&ctx, TITLE, Section::Journeys, None, &body))
}

fn acts(steps: &[StepView], step: Option<&StepView>) -> Markup {
    html! {
        option value="hold" { "Hold them" }
        option value="go-on" { "Let them go on" }
        option value="stop" { "Stop them for good" }
        @if let Some(step) = step {
            option value="again" { "Begin the step anew" }
            @for (way, label) in step.ways.iter().enumerate() { option value={ "skip:" (way) } { "Skip the step: " (label.replace('_', " ")) } }
        }
        @for to in steps { option value={ "send:" (to.step) } { "Send them to: " (to.title) } }
    }
}

/// `GET /console/batches/new`: whose journeys, and what is to be done.
pub(crate) async fn new(ctx: Ctx, fields: Fields) -> Result<Response, PageError> {
    let permit = permit(&ctx).await?;
    let name = fields.get("journey").ok_or(PageError::NotFound)?;
    let version = fields.get("version").and_then(|text| text.parse().ok());
    let version = version.ok_or(PageError::NotFound)?;
    let steps = ctx.app.web.journeys.steps(&permit, name, version).await?;
    let chosen = fields.get("step");
    let step = steps.iter().find(|step| Some(step.step.as_str()) == chosen);
    let of_version = html! {
        input type="hidden" name="journey" value=(name);
        input type="hidden" name="version" value=(version);
    };
    let body = html! {
        p class="crumbs" { a href=(HERE) { (TITLE) } }
        h1 { (name) ", version " (version) }
        form class="inline-fields" method="get" action={ (HERE) "/new" } {
            (of_version)
            label { "At which step" select name="step" {
                option value="" { "anywhere in it" }
                @for one in &steps { option value=(one.step) selected[Some(one.step.as_str()) == chosen] { (one.title) } }
            } }
            button type="submit" { "Choose" }
        }
        form class="ask stack" method="post" action={ (HERE) "/new" } {
            (csrf(&ctx))
            (of_version)
            @if let Some(step) = step { input type="hidden" name="step" value=(step.step); p { "Those who are at " span class="strong" { (step.title) } "." } }
            label { "For at least so many days" input type="number" name="days" min="0" max="3650" value="0"; }
            label { "Held or not" select name="held" { option value="" { "both" } option value="no" { "not held" } option value="yes" { "held" } } }
            label { "Only these patients" span class="hint" { "Ids, with spaces or commas between them; all where none is named" } textarea name="patients" spellcheck="false" {} }
            label { "Only patients whom this finds" span class="hint" { "A FHIR search for Patient, such as birthdate=lt1950&gender=female" } input type="text" name="search" autocomplete="off" spellcheck="false" maxlength="4000"; }
            label { "What" select name="what" { (acts(&steps, step)) } }
            div { button type="submit" { "Show what would come of it" } }
        }
    };
    Ok(console(&ctx, TITLE, Section::Journeys, None, &body))
}

fn would(ctx: &Ctx, foreseen: &Foreseen) -> Markup {
    html! {
        @if !foreseen.called_off.is_empty() { p { "Left: " (foreseen.called_off.join(", ")) } }
        @if foreseen.at_once.is_empty() { p class="quiet" { "Nothing happens at once." } }
        @else { ul { @for item in foreseen.at_once.iter().take(5) { li { (item.what) } } } }
        @if let Some(next) = foreseen.planned.first() { p class="quiet small" { "Then: " (next.what) ", " (ctx.times.ago(signed(next.at_ms))) } }
    }
}

fn sample(ctx: &Ctx, foreseen: &BatchForeseen, names: &HashMap<String, PatientLine>) -> Markup {
    html! {
        section class="card stack" aria-labelledby="effect" {
            h2 id="effect" { "What would come of it" }
            p { "It is for " span class="strong" { (thousands(foreseen.total as u64)) } @if foreseen.total == 1 { " journey." } @else { " journeys." } }
            @if foreseen.sample.is_empty() && foreseen.total > 0 { p class="note" { "You are not shown those of them who were looked at for examples, as in other lists: relationships, consents and labels decide." } }
            @if !foreseen.sample.is_empty() {
                p { "Some of them:" }
                ul class="stack" { @for (id, outcome) in &foreseen.sample { li {
                    p { (patient(names, id)) }
                    @match outcome { Ok(foreseen) => { (would(ctx, foreseen)) }, Err(why) => p { (layout::state(State::Failed, "Can't be done")) ": " (why) } }
                } } }
            }
        }
    }
}

/// `POST /console/batches/new`: what would come of it. Nothing is done.
pub(crate) async fn foresee(Posted { ctx, fields }: Posted) -> Result<Response, PageError> {
    let permit = permit(&ctx).await?;
    let (who, many) = (who(&ctx, &fields).await?, many(&fields)?);
    let journeys = &ctx.app.web.journeys;
    let foreseen = journeys.foresee_batch(&permit, &who, &many).await?;
    let ids = foreseen.sample.iter().map(|(id, _)| id.clone());
    let names = patient_lines(&ctx, ids).await?;
    let body = html! {
        p class="crumbs" { a href=(HERE) { (TITLE) } }
        h1 { (said(&many)) }
        p { (of_whom(&who)) }
        (sample(&ctx, &foreseen, &names))
        @if foreseen.total > 0 {
            form class="ask stack" method="post" action=(HERE) {
                (csrf(&ctx))
                @for name in QUERY { @if let Some(value) = fields.get(name) { input type="hidden" name=(name) value=(value); } }
                input type="hidden" name="seen" value=(foreseen.seen);
                label { "Why" span class="hint" { "It stands in each patient's history with your name, and the patient may see it" }
                    input type="text" name="reason" required maxlength=(REASON_MAX) autocomplete="off";
                }
                label { "Patients a second, at most" input type="number" name="rate" min="1" max=(RATE_MAX) value=(RATE); }
                div class="inline-fields" { button type="submit" { "Do it" } a class="button" href=(HERE) { "Don't" } }
            }
        }
    };
    Ok(console(&ctx, TITLE, Section::Journeys, None, &body))
}

/// `POST /console/batches`: asks for it.
pub(crate) async fn begin(Posted { ctx, fields }: Posted) -> Result<Response, PageError> {
    let permit = permit(&ctx).await?;
    let reason = reason(&fields)?;
    let (who, many) = (who(&ctx, &fields).await?, many(&fields)?);
    let rate = fields.get("rate").map_or(Ok(RATE), str::parse);
    let rate = rate.ok().filter(|rate| (1..=RATE_MAX).contains(rate));
    let rate =
        rate.ok_or_else(|| PageError::Invalid(format!("Patients a second are 1 to {RATE_MAX}.")))?;
    let journeys = &ctx.app.web.journeys;
    let id = journeys
        .begin_batch(&permit, who, many, reason, rate, fields.get("seen"))
        .await?;
    Ok(Redirect::to(&format!("{HERE}/{id}")).into_response())
}

fn failures(
    batch: &Batch,
    page: &FailurePage,
    later: bool,
    names: &HashMap<String, PatientLine>,
) -> Markup {
    html! {
        section class="stack" aria-labelledby="failures" {
            h2 id="failures" { "Not done" }
            div class="scroll" { table {
                thead { tr { th scope="col" { "Patient" } th scope="col" { "Why" } } }
                tbody { @for failure in &page.failures { tr { th scope="row" { (patient(names, &failure.patient)) } td { (failure.why) } } } }
            } }
            @if page.hidden > 0 { p class="note" { (layout::count_of(page.hidden, "patient")) " here whom you are not shown, as in other lists: relationships, consents and labels decide." } }
            @if page.next.is_some() || later {
                nav class="pager" aria-label="Pages" {
                    span class="quiet small" { (thousands(batch.failed as u64)) " in all." }
                    @if later { a href={ (HERE) "/" (batch.id) } { "First page" } }
                    @if let Some(next) = page.next { a href={ (HERE) "/" (batch.id) "?after=" (next) } { "Next page" } }
                }
            }
        }
    }
}

/// How far a batch has come: what was done, what was not, and what is still to come.
#[allow(clippy::cast_precision_loss, reason = "pixels")]
fn progress(batch: &Batch) -> Markup {
    let share = |count: usize| count as f64 / batch.total.max(1) as f64 * 100.0;
    let done = batch.next.saturating_sub(batch.failed + batch.waiting);
    let (done, failed) = (share(done), share(batch.failed));
    html! {
        svg class="progress" width="100%" height="14" viewBox="0 0 100 14" preserveAspectRatio="none" aria-hidden="true" {
            rect class="barback" x="0" y="1" height="12" width="100" {}
            rect class="barfill" x="0" y="1" height="12" width=(format!("{done:.2}")) {}
            rect class="barfail" x=(format!("{done:.2}")) y="1" height="12" width=(format!("{failed:.2}")) {}
        }
    }
}

/// A form of one button.
fn deed(ctx: &Ctx, batch: &Batch, (deed, word): (&str, &str), words: &str) -> Markup {
    html! {
        form class="ask" method="post" action={ (HERE) "/" (batch.id) "/" (deed) } {
            (csrf(ctx))
            button type="submit" { (word) }
            p class="quiet small" { (words) }
        }
    }
}

fn said_of(ctx: &Ctx, batch: &Batch) -> Markup {
    html! {
        p {
            span class="strong" { (thousands(batch.next as u64)) } " of " (thousands(batch.total as u64)) " tried, "
            span class="strong" { (thousands(batch.failed as u64)) } " not done, at no more than " (batch.rate) " a second."
            @if batch.waiting > 0 { " " span class="strong" { (thousands(batch.waiting as u64)) } " can be reached when something is over." }
            @if let Some(ended) = batch.ended_ms { " Over " (ctx.times.ago(signed(ended))) "." }
        }
        (progress(batch))
        @if let Some(paused) = &batch.paused { p { "It rests since " (ctx.times.ago(signed(paused.at_ms))) ", by " span class="strong" { (paused.by) } "." } }
    }
}

/// What is said beside the button that lets a batch go on.
fn goes_on(batch: &Batch) -> &'static str {
    match batch.many {
        Many::Hold | Many::GoOn | Many::Stop => {
            "For those whom it has not reached, whatever has happened to them since it was asked for."
        }
        _ => "For those whom it has not reached.",
    }
}

/// What a page says of a batch by itself, from its head alone: it is read each second, and no patient is looked up.
/// `listed` are the failures that the page was loaded with.
fn parts(ctx: &Ctx, batch: &Batch, listed: usize) -> Parts {
    let state = html! {
        div id="batch-state" class="stack" {
            p { (stage(batch)) }
            (said_of(ctx, batch))
            @if batch.failed > listed { p class="note" { (thousands((batch.failed - listed) as u64)) " more could not be done since this page was loaded: load it again to see whom." } }
            @if batch.stage == Stage::Running || batch.rests() {
                div class="cluster" {
                    @if batch.rests() { (deed(ctx, batch, ("go-on", "Let it go on"), goes_on(batch))) }
                    @else { (deed(ctx, batch, ("pause", "Let it rest"), "Whom it is at just now is still reached. Who was reached stays as they are; it can go on later.")) }
                    (deed(ctx, batch, ("cancel", "Break it off"), "Who was reached stays as they are; the others are left alone."))
                }
            }
        }
    };
    // A turn that was cut short may have reached somebody before it could write that down.
    let cut = batch.stage != Stage::Running && batch.next < batch.total;
    let reached = batch.many.leads() && (batch.next > batch.failed || cut);
    let back = html! { div id="batch-back" { @if reached { (crate::moving::take_back(ctx, &batch.id)) } } };
    vec![("batch-state", state), ("batch-back", back)]
}

/// `GET /console/batches/{batch}`.
pub(crate) async fn page(
    ctx: Ctx,
    Path(id): Path<String>,
    fields: Fields,
) -> Result<Response, PageError> {
    let permit = permit(&ctx).await?;
    let after = match fields.get("after") {
        Some(after) => Some(FailurePlace::parse(after).ok_or(PageError::NotFound)?),
        None => None,
    };
    let live = live::address(&ctx, &format!("/console/live/batches/{}", escape(&id)), "");
    let journeys = &ctx.app.web.journeys;
    let (batch, failed) = journeys
        .batch_failures(&permit, &id, after, FAILURES_MAX)
        .await?;
    let live = format!("{live}&{LISTED}={}", batch.failed);
    let patients = failed
        .failures
        .iter()
        .map(|failure| failure.patient.clone());
    let names = patient_lines(&ctx, patients).await?;
    let body = html! {
        div class="spread" { p class="crumbs" { a href=(HERE) { (TITLE) } } (layout::live_light()) }
        h1 { (said(&batch.many)) }
        div class="stack-wide" {
            div class="stack" {
                p { (of_whom(&batch.who)) }
                p { "Asked for by " span class="strong" { (batch.by) } ", " (ctx.times.ago(signed(batch.asked_ms))) ": " (batch.reason) }
            }
            @for (_, part) in parts(&ctx, &batch, batch.failed) { (part) }
            @if !failed.failures.is_empty() || failed.hidden > 0 || after.is_some() { (failures(&batch, &failed, after.is_some(), &names)) }
        }
    };
    Ok(console(&ctx, TITLE, Section::Journeys, Some(&live), &body))
}

/// `GET /console/live/batches/{batch}`.
pub(crate) async fn stream(
    Watching(ctx): Watching,
    Path(id): Path<String>,
    fields: Fields,
    headers: HeaderMap,
) -> Result<Response, PageError> {
    let may = permit(&ctx).await?;
    ctx.app.web.journeys.batch_head(&may, &id).await?;
    let listed = fields.get(LISTED).and_then(|text| text.parse().ok());
    let (id, listed) = (Arc::new(id), listed.unwrap_or_default());
    let source = live::Source {
        shard: None,
        matters: |kind| kind == kinds::JOURNEY_BATCH || kind == kinds::JOURNEY_MIGRATION,
        render: Box::new(move |ctx| {
            let id = id.clone();
            Box::pin(async move {
                let permit = permit(&ctx).await?;
                let batch = ctx.app.web.journeys.batch_head(&permit, &id).await?;
                Ok(parts(&ctx, &batch, listed))
            })
        }),
    };
    Ok(live::serve(ctx, &fields, last_event_id(&headers), source).await)
}

/// `POST /console/batches/{batch}/pause`.
pub(crate) async fn pause(
    Path(id): Path<String>,
    Posted { ctx, .. }: Posted,
) -> Result<Response, PageError> {
    let permit = permit(&ctx).await?;
    ctx.app.web.journeys.pause_batch(&permit, &id).await?;
    Ok(Redirect::to(&format!("{HERE}/{id}")).into_response())
}

/// `POST /console/batches/{batch}/go-on`.
pub(crate) async fn go_on(
    Path(id): Path<String>,
    Posted { ctx, .. }: Posted,
) -> Result<Response, PageError> {
    let permit = permit(&ctx).await?;
    ctx.app.web.journeys.resume_batch(&permit, &id).await?;
    Ok(Redirect::to(&format!("{HERE}/{id}")).into_response())
}

/// `POST /console/batches/{batch}/cancel`.
pub(crate) async fn cancel(
    Path(id): Path<String>,
    Posted { ctx, .. }: Posted,
) -> Result<Response, PageError> {
    let permit = permit(&ctx).await?;
    ctx.app.web.journeys.cancel_batch(&permit, &id).await?;
    Ok(Redirect::to(&format!("{HERE}/{id}")).into_response())
}
