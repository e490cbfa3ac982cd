//! Visits by video: what a page says of the way in, and going in. Who may, and for how long, is decided in `exchange`, at
//! the moment at which somebody presses the button.

use axum::extract::Path;
use axum::response::Response;
use exchange::{Came, Shut, Standing, Who};
use fhir::{Resource, ResourceType};
use maud::{Markup, html};
use trust::conventions::is_by_video;
use trust::{Action, Permit, Role, TrustError};

use crate::context::{Ctx, Posted};
use crate::error::PageError;
use crate::layout::{Section, console, csrf, goes_on, portal};
use crate::time::signed;

/// How a visit stands now, where it is by video; none where it isn't, or where nobody is let in from here.
pub(crate) fn standing(ctx: &Ctx, visit: &Resource) -> Option<Standing> {
    let telehealth = ctx.app.web.telehealth.as_ref()?;
    match telehealth.standing(visit) {
        Standing::Elsewhere => None,
        standing => Some(standing),
    }
}

/// Until when a visit by video concerns its patient: to its end, because they go in while it lasts.
pub(crate) fn lasts(ctx: &Ctx, visit: &Resource) -> bool {
    matches!(standing(ctx, visit), Some(Standing::Open { .. }))
}

/// Who the person on the page is in a visit: the patient, or who acts for them.
fn guest(ctx: &Ctx) -> Who<'_> {
    ctx.acting
        .as_ref()
        .map_or(Who::Patient, |acting| Who::Proxy(&acting.id))
}

/// When the patient, or who acts for them, last went in.
pub(crate) async fn came(
    ctx: &Ctx,
    patient: &str,
    visit: &Resource,
) -> Result<Option<Came>, PageError> {
    let Some(telehealth) = (ctx.app.web.telehealth.as_ref()).filter(|_| lasts(ctx, visit)) else {
        return Ok(None);
    };
    let of = (patient, visit.id().unwrap_or_default());
    match telehealth.came(guest(ctx), of, &ctx.request.id).await {
        // Who presses is told that nobody is let in; the rest of the page is theirs to see all the same.
        Err(TrustError::Refused(_)) => Ok(None),
        came => Ok(came?),
    }
}

/// The way in, on the patient's page of a visit. Nothing where it isn't by video.
pub(crate) fn way_in(ctx: &Ctx, visit: &Resource, came: Option<Came>) -> Markup {
    if !is_by_video(visit) {
        return html! {};
    }
    let id = visit.id().unwrap_or_default();
    let host = ctx.app.web.telehealth.as_ref().map(|one| one.host());
    let words = match standing(ctx, visit) {
        None => html! { p { "Your care team will tell you how to join." } },
        Some(Standing::Open { until_ms }) => html! {
            @if let Some(came) = came {
                p { "You last went in: " (ctx.times.wall(signed(came.at_ms))) ". If you were cut off, go in again." }
                p { "If that was not you, do not go in. Please call the people who look after you." }
            }
            form method="post" action={ "/portal/visits/" (id) "/join" } {
                (csrf(ctx))
                button class="primary" type="submit" { @if came.is_some() { "Join the visit again" } @else { "Join the visit" } }
            }
            p class="quiet" { "You can join until " (ctx.times.plain(signed(until_ms))) ". " @if let Some(host) = host { "You leave this portal: the visit is at " (host) ". It learns your name only if you say it there." } }
        },
        Some(Standing::Early { opens_ms }) => html! {
            p { "You can join from " (ctx.times.plain(signed(opens_ms))) ", " (ctx.times.ago(signed(opens_ms))) "." }
            p { a href={ "/portal/visits/" (id) } { "Look again" } }
        },
        Some(Standing::NotBooked) => html! { p { "You can join here once it is booked." } },
        Some(Standing::Over) => {
            html! { p { "Its time is over, so nobody can join any more. If you still need this visit, please call the people who look after you." } }
        }
        Some(Standing::Untimed) => {
            html! { p { "It has no end yet, so nobody can join. Please call the people who look after you." } }
        }
        Some(Standing::CalledOff) => html! { p { "It was called off. There is nothing to join." } },
        Some(Standing::Missed) => {
            html! { p { "It is noted that you did not come, so nobody can join any more. Please call the people who look after you." } }
        }
        Some(Standing::Done | Standing::Elsewhere) => html! {},
    };
    html! {
        section class="stack" aria-labelledby="by-video" {
            h2 id="by-video" { "By video" }
            (words)
        }
    }
}

/// The same for staff, in the timeline: clinicians may hold a visit that they may see, whether or not it names them.
pub(crate) fn for_staff(ctx: &Ctx, visit: &Resource) -> Option<Markup> {
    if !is_by_video(visit) {
        return None;
    }
    let (patient, id) = (visit.patient()?, visit.id()?);
    let clock = |ms| ctx.times.plain(signed(ms));
    Some(match standing(ctx, visit) {
        Some(Standing::Open { until_ms }) if ctx.role() == Role::Clinician => html! {
            form class="cluster" method="post" action={ "/console/patients/" (patient) "/visits/" (id) "/join" } {
                (csrf(ctx))
                button class="primary" type="submit" { "Join the visit" }
                span class="quiet small" { "By video, until " (clock(until_ms)) }
            }
        },
        Some(Standing::Open { until_ms }) => {
            html! { p class="quiet small" { "By video, open until " (clock(until_ms)) } }
        }
        Some(Standing::Early { opens_ms }) => {
            html! { p class="quiet small" { "By video, opens " (clock(opens_ms)) ". Load this page again then." } }
        }
        Some(Standing::Untimed) => {
            html! { p class="quiet small" { "By video, and nobody can join: it has no end." } }
        }
        _ => html! { p class="quiet small" { "By video" } },
    })
}

/// Why somebody isn't let in, for them.
fn refusal(shut: Shut, patient: bool) -> PageError {
    let call = if patient {
        " Please call the people who look after you."
    } else {
        ""
    };
    match shut {
        Shut::Trust(error) => error.into(),
        Shut::Standing(Standing::Elsewhere) => PageError::NotFound,
        Shut::Standing(standing) => PageError::Invalid(match standing {
            Standing::Early { .. } => {
                "It is too early to join this visit. Go back and load the page again.".to_owned()
            }
            Standing::Over | Standing::Done => {
                format!("This visit is over, so nobody can join it any more.{call}")
            }
            Standing::CalledOff => {
                "This visit was called off. There is nothing to join.".to_owned()
            }
            Standing::Missed => format!(
                "It is noted that nobody came to this visit, so nobody can join it any more.{call}"
            ),
            _ => format!("This visit can't be joined yet: it is not booked, or has no time.{call}"),
        }),
        Shut::Deceased => {
            PageError::Refused("This visit can't be joined: the patient has died.".to_owned())
        }
        Shut::Consent(reason) => PageError::Refused(if patient {
            format!(
                "What is said about this record under \u{201c}Your choices\u{201d} does not let us tell the place where visits by video are held who comes.{call}"
            )
        } else {
            format!("The patient's consents don't allow a visit by video: {reason}.")
        }),
        Shut::NotCleared(words) => {
            tracing::warn!(words, "telehealth: somebody could not be let into a visit");
            PageError::Refused(format!(
                "Visits by video can't be joined just now, because of something that is not yours to mend.{call}"
            ))
        }
    }
}

/// Sends somebody's browser into a visit that they may see, where they may go in.
async fn enter(
    ctx: &Ctx,
    asked: &Permit,
    who: Who<'_>,
    of: (&str, &str),
) -> Result<String, PageError> {
    let telehealth = ctx.app.web.telehealth.as_ref();
    let telehealth = telehealth.ok_or(PageError::NotFound)?;
    let entered = Box::pin(telehealth.enter(asked, who, of, &ctx.request.id)).await;
    let is_patient = ctx.role().has_one_record();
    entered.map_err(|shut| refusal(shut, is_patient))
}

/// A permit to see a visit, which they see.
async fn sees(ctx: &Ctx, patient: &str, id: &str) -> Result<Permit, PageError> {
    if !fhir::is_id(id) || !fhir::is_id(patient) {
        return Err(PageError::NotFound);
    }
    let kind = ResourceType::Appointment;
    let permit = ctx.permit(Action::Read, Some(kind), Some(patient)).await?;
    let found = ctx.vault().read(&permit, kind, id).await?;
    found
        .filter(|found| !found.deleted && is_by_video(&found.resource))
        .ok_or(PageError::NotFound)?;
    Ok(permit)
}

/// The page that goes on to a visit.
fn lead(ctx: &Ctx, address: &str, back: &str) -> Response {
    let body = html! {
        div class="narrow stack-wide" {
            h1 { "To the visit" }
            p { "If the visit does not open by itself, go on here. This works once, and for a minute." }
            p { a class="button primary" id="join" href=(address) { "Go into the visit" } }
            p { a href=(back) { "Back" } }
        }
    };
    let page = match ctx.role() {
        Role::Patient | Role::Proxy => portal(ctx, "To the visit", None, None, &body),
        _ => console(ctx, "To the visit", Section::Patients, None, &body),
    };
    goes_on(page, address)
}

/// `POST /portal/visits/{id}/join`.
pub(crate) async fn join(
    Path(id): Path<String>,
    Posted { ctx, .. }: Posted,
) -> Result<Response, PageError> {
    let patient = ctx.own_patient()?.to_owned();
    let permit = sees(&ctx, &patient, &id).await?;
    let address = enter(&ctx, &permit, guest(&ctx), (&patient, &id)).await?;
    Ok(lead(&ctx, &address, &format!("/portal/visits/{id}")))
}

/// `POST /console/patients/{id}/visits/{visit}/join`.
pub(crate) async fn host(
    Path((patient, id)): Path<(String, String)>,
    Posted { ctx, .. }: Posted,
) -> Result<Response, PageError> {
    ctx.staff()?;
    if ctx.role() != Role::Clinician {
        return Err(PageError::Refused(
            "Visits by video are held by clinicians.".to_owned(),
        ));
    }
    let permit = sees(&ctx, &patient, &id).await?;
    let who = Who::Host(&ctx.session.agent.id);
    let address = enter(&ctx, &permit, who, (&patient, &id)).await?;
    Ok(lead(
        &ctx,
        &address,
        &format!("/console/patients/{patient}"),
    ))
}
