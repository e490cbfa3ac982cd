//! A patient's journeys, as staff see and stop them: one, or all of them at once.

use axum::extract::Path;
use axum::response::{IntoResponse, Redirect, Response};
use fhir::{Resource, ResourceType};
use journey::{InstanceView, JourneyError};
use maud::{Markup, html};
use trust::{Action, Permit, Role};

use crate::context::{Ctx, Fields, Posted};
use crate::error::PageError;
use crate::hands;
use crate::layout::{self, Section, State, console, csrf};
use crate::time::{self, signed};
use crate::worklist::patient_name;

/// The longest reason, in bytes: it is kept in the journey's history.
pub(crate) const REASON_MAX: usize = 200;

/// Who may stop journeys, and whose they are: they see the patient, whose row is read before anything is stopped.
pub(crate) async fn permit(ctx: &Ctx, id: &str) -> Result<(Permit, Resource), PageError> {
    ctx.staff()?;
    if !fhir::is_id(id) {
        return Err(PageError::NotFound);
    }
    if !stops(ctx.role()) {
        return Err(PageError::Refused(
            "Journeys of a patient are led and stopped by clinicians and care coordinators."
                .to_owned(),
        ));
    }
    let reads = ctx.permit(Action::Read, Some(ResourceType::Patient), Some(id));
    let found = ctx
        .vault()
        .read(&reads.await?, ResourceType::Patient, id)
        .await?;
    let found = found.filter(|found| !found.deleted);
    let patient = found.ok_or(PageError::NotFound)?.resource;
    let permit = ctx.permit(Action::Work, Some(ResourceType::Task), None);
    let permit = permit.await?;
    // Who has nothing to do with the patient's care ends none of it.
    let kept = ctx.vault().kept_from(&permit, id, permit.purpose()).await?;
    if kept.unrelated && ctx.emergency(id).await?.is_none() {
        return Err(PageError::Refused(
            "Journeys are led and stopped by those who care for the patient, and nothing here says that you do.".to_owned(),
        ));
    }
    Ok((permit, patient))
}

/// Whether people of a role stop journeys, as far as policies let them.
pub(crate) fn stops(role: Role) -> bool {
    matches!(role, Role::Clinician | Role::Coordinator)
}

pub(crate) fn here(id: &str) -> String {
    format!("/console/patients/{id}/journeys")
}

/// The form that stops one, or all.
fn form(ctx: &Ctx, id: &str, one: Option<&InstanceView>, words: &str) -> Markup {
    html! {
        form class="ask stack" method="post" action={ (here(id)) "/stop" } {
            (csrf(ctx))
            @if let Some(one) = one { input type="hidden" name="journey" value=(one.id); }
            label { "Why" span class="hint" { "It stands in the patient's history, and the patient may see it" }
                input type="text" name="reason" required maxlength=(REASON_MAX) autocomplete="off";
            }
            div { button type="submit" { (words) } }
        }
    }
}

/// What a stop does, for whoever is about to do it.
fn effect(ctx: &Ctx, one: &InstanceView) -> Markup {
    html! {
        @if one.planned.is_empty() { p class="quiet" { "Nothing is planned in it." } }
        @else {
            p { "Would not happen any more:" }
            ul { @for planned in one.planned.iter().take(8) { li { (planned.what) span class="quiet" { " · " (ctx.times.ago(signed(planned.at_ms))) } } } }
            @if one.planned.len() > 8 { p class="quiet small" { "And " (one.planned.len() - 8) " more." } }
        }
    }
}

/// Why somebody acts, as they must say.
pub(crate) fn reason(fields: &Fields) -> Result<&str, PageError> {
    let reason = fields.get("reason").unwrap_or_default();
    if reason.is_empty() || reason.len() > REASON_MAX {
        return Err(PageError::Invalid(format!(
            "Say why, in at most {REASON_MAX} letters: the reason stands in the patient's history. Nothing was done."
        )));
    }
    Ok(reason)
}

/// Where the patient is in it.
fn waiting(ctx: &Ctx, one: &InstanceView) -> Markup {
    html! {
        ul { @for wait in &one.waiting { li {
            (layout::state_line(State::Waiting, &wait.what))
            span class="quiet" { " · began " (ctx.times.ago(signed(wait.since_ms))) @if let Some(until) = wait.until_ms { ", ends by itself " (ctx.times.ago(signed(until))) } }
        } } }
    }
}

/// `GET /console/patients/{id}/journeys`.
pub(crate) async fn page(
    ctx: Ctx,
    Path(id): Path<String>,
    fields: Fields,
) -> Result<Response, PageError> {
    let (permit, patient) = permit(&ctx, &id).await?;
    let (running, unknown) = ctx.app.web.journeys.running(&permit, &id).await?;
    let number = |name: &str| fields.get(name).and_then(|text| text.parse::<usize>().ok());
    let title = "Journeys by hand";
    let body = html! {
        p class="crumbs" { a href={ "/console/patients/" (id) } { (patient_name(&patient)) } }
        @if let Some(stopped) = number("stopped") {
            div class="flash" role="status" {
                (layout::state(State::Done, "Done")) " "
                @match stopped {
                    0 => { "Nothing ran any more, and nothing was stopped." },
                    1 => { "1 journey was stopped." },
                    stopped => { (stopped) " journeys were stopped." },
                }
            }
        }
        @if let Some(done) = hands::done(&fields) { (done) }
        @if let Some(failed) = number("failed").filter(|failed| *failed > 0) {
            div class="flash" role="alert" {
                (layout::state(State::Failed, "Not all")) " "
                (failed) @if failed == 1 { " journey" } @else { " journeys" }
                " could not be stopped. A newer version of Cairn may have begun it, or you may not change what it would call off. Tell whoever operates Cairn, with this page's address."
            }
        }
        div class="stack-wide" {
            div {
                h1 { (title) }
                p class="facts-line" {
                    span class="strong" { (patient_name(&patient)) }
                    @if let Some(born) = patient.text_at(&["birthDate"]) { span { "born " (time::day(born)) } }
                }
            }
            p { "A journey that is held begins and sends nothing until it goes on. A journey that is stopped sends nothing more, and calls off what waits: messages that have not left, forms that are open, tasks, and visits that are only proposed. It does not begin again; what happens to the patient later can begin another." }
            @if unknown > 0 {
                p class="note" {
                    (unknown) @if unknown == 1 { " journey" } @else { " journeys" }
                    " of this patient may run that this server does not know, and can't show or stop. Tell whoever operates Cairn."
                }
            }
            @if running.is_empty() && unknown == 0 { p class="quiet" { "The patient is in no journey now." } }
            @for one in &running {
                section class="card stack" aria-labelledby={ "journey-" (one.id) } {
                    h2 id={ "journey-" (one.id) } { (one.title) }
                    (waiting(&ctx, one))
                    (hands::choices(&ctx, &id, one))
                    (effect(&ctx, one))
                    (form(&ctx, &id, Some(one), "Stop this journey"))
                }
            }
            @if running.len() > 1 || (unknown > 0 && !running.is_empty()) {
                section class="card stack" aria-labelledby="all" {
                    h2 id="all" { "All " (running.len() + unknown) " at once" }
                    (form(&ctx, &id, None, "Stop all journeys"))
                }
            }
        }
    };
    Ok(console(&ctx, title, Section::Patients, None, &body))
}

/// `POST /console/patients/{id}/journeys/stop`: one, or all where none is named.
pub(crate) async fn stop(
    Path(id): Path<String>,
    Posted { ctx, fields }: Posted,
) -> Result<Response, PageError> {
    let (permit, _) = permit(&ctx, &id).await?;
    let reason = reason(&fields)?;
    let journeys = &ctx.app.web.journeys;
    let (stopped, failed) = match fields.get("journey") {
        None => {
            let all = journeys.stop_all(&permit, &id, reason).await?;
            (all.stopped, all.failed)
        }
        Some(journey) => match journeys.stop_one(&permit, &id, journey, reason).await {
            Ok(ended) => (usize::from(ended), 0),
            Err(JourneyError::Broken(_)) => (0, 1),
            Err(other) => return Err(other.into()),
        },
    };
    let to = format!("{}?stopped={stopped}&failed={failed}", here(&id));
    Ok(Redirect::to(&to).into_response())
}
