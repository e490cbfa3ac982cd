//! A visit: what, when, where, what to prepare; accept or decline it.

use axum::extract::Path;
use axum::response::{IntoResponse, Redirect, Response};
use fhir::{Resource, ResourceType};
use maud::html;
use serde_json::{Value, json};
use trust::Action;
use trust::conventions::is_by_video;

use crate::context::{Ctx, Posted};
use crate::error::PageError;
use crate::layout::{self, State, csrf, portal};
use crate::time::fhir_time;
use crate::video;

use super::{change, items};

/// `GET /portal/visits/{id}`.
pub(crate) async fn page(ctx: Ctx, Path(id): Path<String>) -> Result<Response, PageError> {
    let patient = ctx.own_patient()?;
    if !fhir::is_id(&id) {
        return Err(PageError::NotFound);
    }
    let permit = ctx
        .permit(Action::Read, Some(ResourceType::Appointment), Some(patient))
        .await?;
    let visit = ctx
        .vault()
        .read(&permit, ResourceType::Appointment, &id)
        .await?
        .filter(|found| !found.deleted)
        .ok_or(PageError::NotFound)?
        .resource;
    let status = visit.text_at(&["status"]).unwrap_or_default();
    let at = |path: &[&str]| {
        visit
            .text_at(path)
            .and_then(|text| fhir_time(&ctx.times, text))
            .map(|(ms, ..)| ms)
    };
    let start = at(&["start"]);
    let over = start.is_some_and(|start| start < ctx.times.care_ms);
    let came = video::came(&ctx, patient, &visit).await?;
    let answer = |value: &str, words: &str, primary: bool| {
        html! {
            form method="post" action={ "/portal/visits/" (id) } {
                (csrf(&ctx))
                input type="hidden" name="answer" value=(value);
                button class=[primary.then_some("primary")] type="submit" { (words) }
            }
        }
    };
    let body = html! {
        div class="stack-wide" {
            div class="stack" {
                h1 { (visit.text_at(&["description"]).unwrap_or("A visit")) }
                @match status {
                    "booked" | "arrived" | "checked-in" => (layout::state(State::Waiting, "Booked")),
                    "proposed" | "pending" if over => (layout::state(State::Waiting, "Its time has passed")),
                    "proposed" | "pending" => (layout::state(State::NeedsYou, "Please accept or decline")),
                    "fulfilled" => (layout::state(State::Done, "You were there")),
                    "noshow" => (layout::state(State::Failed, "You did not come")),
                    _ => (layout::state(State::Failed, "Cancelled")),
                }
            }
            dl class="facts" {
                @if let Some(start) = start { dt { "When" } dd { (ctx.times.plain(start)) ", " (ctx.times.ago(start)) } }
                @if let Some(minutes) = visit.get("minutesDuration").and_then(Value::as_i64) { dt { "How long" } dd { "about " (minutes) " minutes" } }
                @if is_by_video(&visit) { dt { "Where" } dd { @if video::standing(&ctx, &visit).is_some() { "By video, from this page" } @else { "By video" } } }
                @else if let Some(place) = items::place(&visit) { dt { "Where" } dd { (place) } }
                @if let (Some(by), "proposed" | "pending") = (at(&["requestedPeriod", "0", "end"]), status) { dt { "Answer by" } dd { (ctx.times.plain(by)) } }
            }
            (video::way_in(&ctx, &visit, came))
            @if let Some(words) = visit.text_at(&["patientInstruction"]) { h2 { "What to know" } p class="words" { (words) } }
            @if !over {
                div class="cluster" {
                    @match status {
                        "proposed" | "pending" => { (answer("accept", "Yes, I will come", true)) (answer("decline", "No, I can't come", false)) },
                        "booked" => (answer("decline", "I can't come after all", false)),
                        _ => {},
                    }
                }
            }
            p { a href="/portal" { "What is next for me" } }
        }
    };
    Ok(portal(&ctx, "Visit", None, None, &body))
}

/// Answers a visit. `Err` when it can't be answered (any more).
fn answer(
    visit: &mut Resource,
    accept: bool,
    (patient, by_proxy): (&str, bool),
    now_ms: i64,
    start_ms: Option<i64>,
) -> Result<(), PageError> {
    let status = visit.text_at(&["status"]).unwrap_or_default();
    let open = matches!(status, "proposed" | "pending") || (!accept && status == "booked");
    if !open || start_ms.is_some_and(|start| start < now_ms) {
        return Err(PageError::Conflict);
    }
    visit.set("status", json!(if accept { "booked" } else { "cancelled" }));
    let own = format!("Patient/{patient}");
    if let Some(Value::Array(participants)) = visit.members_mut().get_mut("participant") {
        for participant in participants.iter_mut().filter(|participant| {
            participant
                .pointer("/actor/reference")
                .and_then(Value::as_str)
                == Some(own.as_str())
        }) {
            participant["status"] = json!(if accept { "accepted" } else { "declined" });
        }
    }
    if !accept {
        let words = if by_proxy {
            "declined by somebody who acts for the patient"
        } else {
            "declined by the patient"
        };
        visit.set("cancelationReason", json!({ "text": words }));
    }
    Ok(())
}

/// `POST /portal/visits/{id}`.
pub(crate) async fn decide(
    Path(id): Path<String>,
    Posted { ctx, fields }: Posted,
) -> Result<Response, PageError> {
    let patient = ctx.own_patient()?.to_owned();
    let accept = match fields.get("answer") {
        Some("accept") => true,
        Some("decline") => false,
        _ => return Err(PageError::Invalid("Please choose yes or no.".to_owned())),
    };
    let note = if accept {
        "visit accepted"
    } else {
        "visit declined"
    };
    change(&ctx, ResourceType::Appointment, &id, note, |visit| {
        let start = visit
            .text_at(&["start"])
            .and_then(|text| fhir_time(&ctx.times, text))
            .map(|(ms, ..)| ms);
        let by = (patient.as_str(), ctx.acting.is_some());
        answer(visit, accept, by, ctx.times.care_ms, start)?;
        Ok(Vec::new())
    })
    .await?;
    Ok(Redirect::to(if accept {
        "/portal?said=booked"
    } else {
        "/portal?said=declined"
    })
    .into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visits_are_answered_once_and_in_time() {
        let visit = |status: &str| {
            Resource::from_value(json!({ "resourceType": "Appointment", "id": "v", "status": status, "participant": [{ "actor": { "reference": "Patient/p" }, "status": "needs-action" }] })).unwrap()
        };
        let mut offered = visit("proposed");
        answer(&mut offered, true, ("p", false), 5, Some(10)).unwrap();
        assert_eq!(
            (
                offered.text_at(&["status"]),
                offered.text_at(&["participant", "0", "status"])
            ),
            (Some("booked"), Some("accepted"))
        );
        answer(&mut offered, false, ("p", false), 5, Some(10)).unwrap();
        assert_eq!(
            (
                offered.text_at(&["status"]),
                offered.text_at(&["participant", "0", "status"])
            ),
            (Some("cancelled"), Some("declined"))
        );
        assert_eq!(
            answer(&mut offered, true, ("p", false), 5, Some(10)),
            Err(PageError::Conflict)
        );
        assert_eq!(
            answer(&mut visit("proposed"), true, ("p", false), 11, Some(10)),
            Err(PageError::Conflict)
        );
    }
}
