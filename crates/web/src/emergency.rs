//! Emergency access: asked for on a patient's page, ended there, and looked into by privacy officers.

use axum::extract::Path;
use axum::response::{IntoResponse, Redirect, Response};
use ledger::Number;
use maud::{Markup, html};
use trust::identity::EmergencyAccess;
use trust::{Action, KeptFrom, Purpose, Role};

use crate::context::{Ctx, Fields, Posted};
use crate::error::PageError;
use crate::layout::{self, Section, State, console, csrf, role_words};
use crate::time::{duration, signed};

/// The privacy officers' page.
const QUEUE: &str = "/console/emergencies";

/// What an emergency access would open, and what it would not.
struct Opens {
    /// What is kept from who asks now.
    now: KeptFrom,
    /// What would be in an emergency.
    then: KeptFrom,
}

impl Opens {
    /// Reasons for labelled entries that it opens.
    fn labels(&self) -> impl Iterator<Item = &str> {
        let opened = self
            .now
            .labels
            .iter()
            .filter(|one| !self.then.labels.contains(*one));
        opened.map(String::as_str)
    }

    /// Whether it opens nothing, as far as rules can say.
    fn nothing(&self) -> bool {
        !self.by_consents() && !self.unrelated() && self.labels().next().is_none()
    }

    fn by_consents(&self) -> bool {
        self.now.by_consents && !self.then.by_consents
    }

    fn unrelated(&self) -> bool {
        self.now.unrelated && !self.then.unrelated
    }
}

/// What an emergency access to a patient would open, for who may ask for one: who treats them, and sees less than
/// all. The store says again whether they may.
async fn opens(ctx: &Ctx, id: &str) -> Result<Opens, PageError> {
    ctx.staff()?;
    if !fhir::is_id(id) {
        return Err(PageError::NotFound);
    }
    if ctx.role() != Role::Clinician {
        return Err(PageError::Refused(
            "Emergency access is for clinicians. Call one to the patient.".to_owned(),
        ));
    }
    let permit = ctx.permit(Action::Search, None, Some(id)).await?;
    let vault = ctx.vault();
    let opens = Opens {
        now: vault.kept_from(&permit, id, ctx.role().purpose()).await?,
        then: vault.kept_from(&permit, id, Purpose::Emergency).await?,
    };
    if opens.now.is_nothing() {
        return Err(PageError::Invalid(
            "Nothing of this record is kept from you, so there is nothing to open.".to_owned(),
        ));
    }
    Ok(opens)
}

/// `GET /console/patients/{id}/emergency`: what it means, and why it is needed.
pub(crate) async fn form(ctx: Ctx, Path(id): Path<String>) -> Result<Response, PageError> {
    let opens = opens(&ctx, &id).await?;
    let hours = duration(signed(ctx.app.web.trust.identity().emergency_ms()));
    let back = format!("/console/patients/{id}");
    let body = html! {
        p class="crumbs" { a href=(back) { "Patient" } }
        h1 { "Emergency access" }
        form class="stack" method="post" action={ (back) "/emergency" } {
            (csrf(&ctx))
            ul {
                @if opens.nothing() {
                    li { "It may open nothing, of this patient alone, for " (hours) " at most: by the rules here what is kept from you is kept in an emergency, too." }
                } @else {
                    li {
                        "You see, of this patient alone, for " (hours) " at most, if there is any:"
                        ul {
                            @if opens.by_consents() { li { "what this patient's consents keep from clinicians" } }
                            @if opens.unrelated() { li { "what is clinical, which nobody sees who has nothing to do with the patient" } }
                            @for reason in opens.labels() { li { "entries of which it is said: " (reason) } }
                        }
                    }
                }
                @if !opens.then.is_nothing() {
                    li {
                        "This stays hidden in an emergency, too, if there is any:"
                        ul {
                            @if opens.then.by_consents { li { "what this patient's consents keep from clinicians and don't permit in an emergency" } }
                            @if opens.then.unrelated { li { "what is clinical, which nobody sees who has nothing to do with the patient" } }
                            @for reason in &opens.then.labels { li { "entries of which it is said: " (reason) } }
                        }
                    }
                }
                li { "Privacy officers are told at once, and look into it." }
                li { "The patient sees that you did this, and the reason that you give." }
            }
            label { "What the emergency is" span class="hint" { "10 to 500 characters" }
                textarea name="reason" required minlength="10" maxlength="500" autocomplete="off" {} }
            div class="cluster" {
                button class="primary" type="submit" { "Open the record" }
                a class="button" href=(back) { "Don't" }
            }
        }
    };
    // The name stays out of the title, and so out of the browser's history.
    Ok(console(
        &ctx,
        "Emergency access",
        Section::Patients,
        None,
        &body,
    ))
}

/// `POST /console/patients/{id}/emergency`.
pub(crate) async fn begin(
    Path(id): Path<String>,
    Posted { ctx, fields }: Posted,
) -> Result<Response, PageError> {
    let to = Redirect::to(&format!("/console/patients/{id}")).into_response();
    let identity = ctx.app.web.trust.identity();
    let agent = &ctx.session.agent;
    if fhir::is_id(&id) && identity.emergency(agent, &id).await?.is_some() {
        return Ok(to);
    }
    opens(&ctx, &id).await?;
    let reason = fields.get("reason").unwrap_or_default();
    identity
        .break_glass(agent, &id, reason, &ctx.request.id)
        .await?;
    // For whoever is on call: that there is one, and nothing of whose.
    tracing::warn!(request_id = %ctx.request.id, "emergency access to a record began; it waits for a review");
    Ok(to)
}

/// `POST /console/emergencies/{id}/end`: one's own, before its time.
pub(crate) async fn end(
    Path(id): Path<String>,
    Posted { ctx, .. }: Posted,
) -> Result<Response, PageError> {
    ctx.staff()?;
    ctx.account().await?;
    let identity = ctx.app.web.trust.identity();
    let ended = identity
        .end_emergency(&ctx.session.agent, &id, &ctx.request.id)
        .await?;
    Ok(Redirect::to(&format!("/console/patients/{}", ended.patient)).into_response())
}

/// On pages of the record browser: that they show what an emergency access opens.
pub(crate) fn note(ctx: &Ctx, open: Option<&EmergencyAccess>) -> Markup {
    html! {
        @if let Some(access) = open {
            p class="note" {
                (layout::state(State::NeedsYou, "Emergency access")) " to " a href={ "/console/patients/" (access.patient) } { "this patient" }
                " ends " (ctx.times.wall(signed(access.until_ms))) ". You see what is kept from you otherwise."
            }
        }
    }
}

/// On a patient's page: that the record is open, or how it can be.
pub(crate) fn banner(
    ctx: &Ctx,
    patient: &str,
    open: Option<&EmergencyAccess>,
    opens: bool,
) -> Markup {
    html! {
        @if let Some(access) = open {
            div class="note stack" {
                p {
                    (layout::state(State::NeedsYou, "Emergency access")) " ends "
                    (ctx.times.wall(signed(access.until_ms))) ". You see what is kept from you otherwise."
                }
                form method="post" action={ (QUEUE) "/" (access.id) "/end" } {
                    (csrf(ctx))
                    button type="submit" { "End it now" }
                }
            }
        } @else if opens {
            p { a href={ "/console/patients/" (patient) "/emergency" } { "Emergency access" } span class="quiet" { " if the patient is in danger and you need what is kept from you" } }
        }
    }
}

fn verdict(justified: bool) -> Markup {
    if justified {
        layout::state(State::Done, "Justified")
    } else {
        layout::state(State::Failed, "Not justified")
    }
}

fn row(ctx: &Ctx, access: &EmergencyAccess, due_ms: u64) -> Markup {
    let wall_ms = u64::try_from(ctx.times.wall_ms).unwrap_or(0);
    let live = access.is_live(wall_ms);
    let over_ms = access.ended_ms.unwrap_or(access.until_ms);
    html! {
        section class="card stack" data-key=(access.id) aria-label={ "Emergency access of " (access.name) } {
            div class="spread" {
                div {
                    p {
                        span class="strong" { (access.name) } " (" (role_words(access.role)) ") opened the record of patient "
                        span class="mono" { (layout::short_id(&access.patient)) } " " (ctx.times.wall(signed(access.began_ms))) "."
                    }
                    p { "Reason: " (access.reason) }
                    p class="quiet" {
                        @if live { (layout::state(State::Running, "Open")) " until " (ctx.times.exact(signed(access.until_ms))) }
                        @else { (layout::state(State::Waiting, "Over")) " since " (ctx.times.exact(signed(over_ms))) }
                        " · " a href={ "/console/audit?patient=" (access.patient) } { "What was looked at" }
                    }
                }
                @if access.review.is_none() {
                    @if due_ms <= wall_ms { (layout::state(State::Failed, "Overdue")) }
                    @else { span { (layout::state(State::NeedsYou, "To review")) span class="quiet" { " by " (ctx.times.exact(signed(due_ms))) } } }
                }
            }
            @if let Some(review) = &access.review {
                p { (verdict(review.justified)) ": " (review.words) br;
                    span class="quiet small" { (review.name) ", " (ctx.times.exact(signed(review.at_ms))) } }
            } @else {
                form class="stack" method="post" action={ (QUEUE) "/" (access.id) "/review" } {
                    (csrf(ctx))
                    fieldset {
                        legend { "Was there an emergency?" }
                        label class="choice" { input type="radio" name="outcome" value="justified" required; " Yes, it was justified" }
                        label class="choice" { input type="radio" name="outcome" value="not-justified" required; " No" @if live { " (it ends at once)" } }
                    }
                    label { "What you found" span class="hint" { "10 to 500 characters; closes the review for good, and the patient can read it" }
                        textarea name="words" required minlength="10" maxlength="500" autocomplete="off" {} }
                    button class="primary" type="submit" { "Close the review" }
                }
            }
        }
    }
}

/// `GET /console/emergencies`.
pub(crate) async fn queue(ctx: Ctx, fields: Fields) -> Result<Response, PageError> {
    ctx.staff()?;
    let permit = ctx.permit(Action::Audit, None, None).await?;
    let identity = ctx.app.web.trust.identity();
    let before = fields.get("before").and_then(|number| number.parse().ok());
    let found = identity.emergencies(&permit, before.map(Number)).await?;
    let waiting = found.rows.iter().filter(|one| one.review.is_none()).count();
    let more = found.next.is_some();
    let body = html! {
        (layout::head("Emergency access", &html! {
            @if waiting == 0 { "Nothing waits for a review." }
            @else { @if more { "More than " } (layout::count_of(waiting, "review")) " to do" @if before.is_some() { " from this page back" } ". Each access ends by itself after a time, whatever the review says." }
        }, &html! {}))
        @if fields.get("closed").is_some() { div class="flash" role="status" { (layout::state(State::Done, "Review closed")) } }
        @if found.rows.is_empty() { (layout::empty("No emergency access yet", "When a clinician opens a record in an emergency, it stands here at once.")) }
        div class="stack-wide" {
            @for access in &found.rows { (row(&ctx, access, identity.review_due_ms(access))) }
        }
        @if let Some(next) = found.next {
            nav class="pager" aria-label="Pages" { a href={ (QUEUE) "?before=" (next.0) } { "Older" } }
        }
        @if !found.complete { p class="note" { "Older ones that were looked into are left out here; the audit has their verdicts, without the words." } }
    };
    Ok(console(
        &ctx,
        "Emergency access",
        Section::Emergencies,
        None,
        &body,
    ))
}

/// `POST /console/emergencies/{id}/review`.
pub(crate) async fn review(
    Path(id): Path<String>,
    Posted { ctx, fields }: Posted,
) -> Result<Response, PageError> {
    ctx.staff()?;
    let permit = ctx.permit(Action::Audit, None, None).await?;
    let justified = match fields.get("outcome") {
        Some("justified") => true,
        Some("not-justified") => false,
        _ => {
            return Err(PageError::Invalid(
                "Say whether it was justified.".to_owned(),
            ));
        }
    };
    let words = fields.get("words").unwrap_or_default();
    let identity = ctx.app.web.trust.identity();
    identity
        .review_emergency(&permit, &id, justified, words)
        .await?;
    Ok(Redirect::to(&format!("{QUEUE}?closed=yes")).into_response())
}
