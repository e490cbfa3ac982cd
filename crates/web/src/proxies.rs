//! Who acts for a patient, on the patient's page: named and ended by staff, who say what proves it.

use axum::extract::Path;
use axum::response::{IntoResponse, Redirect, Response};
use fhir::{Resource, ResourceType};
use ledger::{Expected, OutboxDraft, OutboxKey, Owner};
use maud::{Markup, html};
use serde_json::json;
use trust::consent::Basis;
use trust::conventions::MEDIUM_SYSTEM;
use trust::identity::{NewProxy, Proxy};
use trust::outgoing::{CHANNEL_EMAIL, Message};
use trust::{Action, Change, Purpose, Role, Unit};

use crate::context::{Ctx, Fields, Posted};
use crate::error::PageError;
use crate::layout::{self, Section, State, console, csrf};
use crate::time::signed;

/// How long a sign-in link may wait for its mail server: after a day, somebody asks for a new one.
const LINK_WAIT_MS: u64 = 86_400_000;

fn basis(basis: Basis) -> &'static str {
    match basis {
        Basis::Parent => "Parent",
        Basis::Guardian => "Guardian appointed by a court",
        Basis::HealthCareAgent => "Power of attorney for health care",
        Basis::Authorised => "Authorised by the patient",
    }
}

fn here(patient: &str) -> String {
    format!("/console/patients/{patient}/proxies")
}

/// Who may name and end those who act for a patient: who looks after them.
fn may_name(ctx: &Ctx) -> bool {
    matches!(ctx.role(), Role::Clinician | Role::Coordinator)
}

fn row(ctx: &Ctx, patient: &str, proxy: &Proxy) -> Markup {
    let at = format!("{}/{}", here(patient), proxy.id);
    html! {
        li class="card stack" {
            p {
                @match proxy.why_not {
                    None => (layout::state(State::Running, "Acts for the patient")),
                    Some(_) if proxy.ended.is_some() => (layout::state(State::Done, "Ended")),
                    Some(_) => (layout::state(State::Waiting, "Doesn't act now")),
                }
                " " span class="strong" { (proxy.name) }
            }
            dl class="facts" {
                dt { "Right" } dd { (basis(proxy.basis)) }
                dt { "Proved by" } dd { (proxy.proof) }
                dt { "Address" } dd { (proxy.address) @if proxy.messages { " (takes a small child's messages)" } }
                @if proxy.from.is_some() || proxy.until.is_some() {
                    dt { "When" } dd { @if let Some(from) = &proxy.from { "from " (crate::time::day(from)) " " } @if let Some(until) = &proxy.until { "until " (crate::time::day(until)) } }
                }
                dt { "Named" } dd { (ctx.times.date(signed(proxy.made_ms))) " by " (proxy.made_by) }
                @if let Some((at_ms, by, reason)) = &proxy.ended {
                    dt { "Ended" } dd { (ctx.times.date(signed(*at_ms))) @if !by.is_empty() { " by " (by) } ": " (reason) }
                } @else if let Some(why_not) = proxy.why_not { dt { "Why not now" } dd { (why_not) } }
            }
            @if may_name(ctx) && proxy.ended.is_none() {
                @if proxy.why_not.is_none() {
                    form method="post" action={ (at) "/link" } {
                        (csrf(ctx))
                        button type="submit" { "Send a sign-in link" span class="visually-hidden" { " to " (proxy.name) } }
                    }
                }
                details {
                    summary { "End it" span class="visually-hidden" { ": " (proxy.name) } }
                    form class="fields" method="post" action={ (at) "/end" } {
                        (csrf(ctx))
                        label { "Why" span class="hint" { "10 to 500 characters. It counts at once." } input type="text" name="reason" required minlength="10" maxlength="500" autocomplete="off"; }
                        button type="submit" { "End it now" span class="visually-hidden" { ": " (proxy.name) } }
                    }
                }
            }
        }
    }
}

fn form(ctx: &Ctx, patient: &str) -> Markup {
    let rules = ctx.vault().rules().proxies();
    html! {
        @if let Some(rules) = rules {
            section class="stack" aria-labelledby="new" {
                h2 id="new" { "Let somebody act for the patient" }
                p class="quiet" {
                    "They see the patient's tasks, visits, messages and readings in the portal, and answer in the patient's place. A parent's right ends by itself on the day on which the patient is "
                    (rules.of_age) ". From " (rules.alone_from()) " years until then, they are shown nothing but entries that are marked as ordinary."
                }
                form class="fields" method="post" action=(here(patient)) {
                    (csrf(ctx))
                    label { "Name" input type="text" name="name" required maxlength="200" autocomplete="off"; }
                    label { "Their own e-mail address" span class="hint" { "Never the patient's. Sign-in links go there." } input type="text" inputmode="email" name="address" required maxlength="254" autocomplete="off"; }
                    label { "Their date of birth" span class="hint" { "Each sign-in asks for it" } input type="date" name="birth_date" required; }
                    label { "Right"
                        select name="basis" required {
                            option value="" { "Choose" }
                            @for one in Basis::ALL { option value=(one.code()) { (basis(one)) } }
                        }
                    }
                    label { "What proves it" span class="hint" { "Which document, seen by whom: 10 to 500 characters" } textarea name="proof" required minlength="10" maxlength="500" autocomplete="off" {} }
                    div class="inline-fields" {
                        label { "From" span class="hint" { "Empty: from now" } input type="date" name="from"; }
                        label { "Until" span class="hint" { "Empty: until it is ended" } input type="date" name="until"; }
                    }
                    label class="choice" { input type="checkbox" name="messages" value="yes"; span { "Messages for a small child go to them" span class="hint" { "Of a parent or guardian, while the child is under " (rules.alone_from()) " and has no e-mail address" } } }
                    div { button class="primary" type="submit" { "Let them act" } }
                }
            }
        } @else { p class="note" { "The rules in force here let nobody act for a patient." } }
    }
}

fn flash(fields: &Fields) -> Markup {
    let words = match fields.get("done") {
        Some("made") => "They may act for the patient. A sign-in link is on its way to them.",
        Some("named") => "They are named. A sign-in link can be sent when they may act.",
        Some("linked") => "A sign-in link is on its way to them.",
        Some("ended") => "It has ended, and counts from now on.",
        _ => return html! {},
    };
    html! { div class="flash" role="status" { (layout::state(State::Done, "Done")) (words) } }
}

fn checked(ctx: &Ctx, patient: &str) -> Result<(), PageError> {
    ctx.staff()?;
    if fhir::is_id(patient) {
        return Ok(());
    }
    Err(PageError::NotFound)
}

async fn all(ctx: &Ctx, patient: &str) -> Result<Vec<Proxy>, PageError> {
    let kind = Some(ResourceType::Patient);
    let permit = ctx.permit(Action::Read, kind, Some(patient)).await?;
    let found = ctx
        .vault()
        .read(&permit, ResourceType::Patient, patient)
        .await?;
    if found.is_none_or(|found| found.deleted) {
        return Err(PageError::NotFound);
    }
    let identity = ctx.app.web.trust.identity();
    Ok(identity.proxies(&permit, patient).await?)
}

/// `GET /console/patients/{id}/proxies`.
pub(crate) async fn page(
    ctx: Ctx,
    Path(id): Path<String>,
    fields: Fields,
) -> Result<Response, PageError> {
    checked(&ctx, &id)?;
    let proxies = all(&ctx, &id).await?;
    let body = html! {
        p class="crumbs" { a href={ "/console/patients/" (id) } { "Patient" } }
        (flash(&fields))
        div class="stack-wide" {
            h1 { "Who acts for the patient" }
            @if proxies.is_empty() { (layout::empty("Nobody acts for this patient", "Name somebody below, if a document proves that they may.")) }
            ul class="stack" { @for proxy in &proxies { (row(&ctx, &id, proxy)) } }
            @if may_name(&ctx) { (form(&ctx, &id)) }
        }
    };
    // The name stays out of the title, and so out of the browser's history.
    Ok(console(
        &ctx,
        "Who acts for the patient",
        Section::Patients,
        None,
        &body,
    ))
}

fn refuse_others(ctx: &Ctx) -> Result<(), PageError> {
    if may_name(ctx) {
        return Ok(());
    }
    Err(PageError::Refused(
        "Who acts for a patient is said by clinicians and care coordinators.".to_owned(),
    ))
}

/// `POST /console/patients/{id}/proxies`.
pub(crate) async fn make(
    Path(id): Path<String>,
    Posted { ctx, fields }: Posted,
) -> Result<Response, PageError> {
    checked(&ctx, &id)?;
    refuse_others(&ctx)?;
    let text = |name: &str| fields.get(name).unwrap_or_default().to_owned();
    let basis = Basis::parse(&text("basis"))
        .ok_or_else(|| PageError::Invalid("Choose by which right they act.".to_owned()))?;
    let new = NewProxy {
        patient: id.clone(),
        name: text("name"),
        address: text("address"),
        birth_date: text("birth_date"),
        basis,
        proof: text("proof"),
        from: fields.get("from").map(str::to_owned),
        until: fields.get("until").map(str::to_owned),
        messages: fields.get("messages") == Some("yes"),
    };
    let identity = ctx.app.web.trust.identity();
    let proxy = identity
        .make_proxy(&ctx.session.agent, new, &ctx.request.id)
        .await?;
    let stands = all(&ctx, &id)
        .await?
        .iter()
        .any(|one| one.id == proxy && one.why_not.is_none());
    if stands {
        invite(&ctx, &id, &proxy).await?;
    }
    let done = if stands { "made" } else { "named" };
    Ok(Redirect::to(&format!("{}?done={done}", here(&id))).into_response())
}

/// `POST /console/patients/{id}/proxies/{proxy}/link`.
pub(crate) async fn link(
    Path((id, proxy)): Path<(String, String)>,
    Posted { ctx, .. }: Posted,
) -> Result<Response, PageError> {
    checked(&ctx, &id)?;
    refuse_others(&ctx)?;
    let stands = |one: &Proxy| one.id == proxy && one.why_not.is_none();
    if !all(&ctx, &id).await?.iter().any(stands) {
        return Err(PageError::Invalid(
            "They don't act for the patient now.".to_owned(),
        ));
    }
    invite(&ctx, &id, &proxy).await?;
    Ok(Redirect::to(&format!("{}?done=linked", here(&id))).into_response())
}

/// `POST /console/patients/{id}/proxies/{proxy}/end`.
pub(crate) async fn end(
    Path((id, proxy)): Path<(String, String)>,
    Posted { ctx, fields }: Posted,
) -> Result<Response, PageError> {
    checked(&ctx, &id)?;
    refuse_others(&ctx)?;
    let reason = fields.get("reason").unwrap_or_default();
    let identity = ctx.app.web.trust.identity();
    identity
        .end_proxy(&ctx.session.agent, (&id, &proxy), reason, &ctx.request.id)
        .await?;
    Ok(Redirect::to(&format!("{}?done=ended", here(&id))).into_response())
}

/// The sixteen bytes of an id in UUID form.
fn outbox_id(id: &str) -> [u8; 16] {
    let digits = id.bytes().filter_map(|byte| char::from(byte).to_digit(16));
    let number = digits.fold(0, |number: u128, digit| number << 4 | u128::from(digit));
    number.to_be_bytes()
}

/// Puts a mail with a sign-in link on its way to somebody who acts for a patient. It is a `Communication` of
/// the patient's record, so that the patient sees that it was sent.
async fn invite(ctx: &Ctx, patient: &str, proxy: &str) -> Result<(), PageError> {
    let kind = Some(ResourceType::Communication);
    let permit = ctx.permit(Action::Work, kind, Some(patient)).await?;
    let ledger = ctx.app.ledger();
    let (tenant, owner) = (ctx.app.web.tenant, Owner::Patient(patient.to_owned()));
    let id = ledger.mint_id(tenant, &owner);
    let now_ms = ledger.clock().now_ms();
    let mut resource = Resource::new(ResourceType::Communication);
    resource.set_id(&id);
    resource.set("status", json!("preparation"));
    resource.set(
        "medium",
        json!([{ "coding": [{ "system": MEDIUM_SYSTEM, "code": "EMAILWRIT" }] }]),
    );
    resource.set(
        "subject",
        json!({ "reference": format!("Patient/{patient}") }),
    );
    resource.set(
        "topic",
        json!({ "text": "A sign-in link for somebody who acts for you" }),
    );
    resource.set(
        "recipient",
        json!([{ "reference": format!("RelatedPerson/{proxy}") }]),
    );
    resource.set(
        "payload",
        json!([{ "contentString": "A link to these pages was sent to somebody who acts for you. Your permissions say who that is." }]),
    );
    let message = Message {
        patient: patient.to_owned(),
        proxy: Some(proxy.to_owned()),
        communication: id.clone(),
        channel: "email".to_owned(),
        purpose: Purpose::Treatment.code().to_owned(),
        about: Vec::new(),
        subject: "Your link to sign in".to_owned(),
        text: "Somebody whom you act for is looked after here. With this link and your own date of birth you can sign in: {link}".to_owned(),
        link_path: "/portal".to_owned(),
        journey: "sign-in link".to_owned(),
        step: String::new(),
        expires_ms: Some(now_ms.saturating_add(LINK_WAIT_MS)),
        hours: None,
        sort: None,
        unanswered: 0,
        language: None,
        script: None,
        segments: None,
        question: None,
        visit: None,
        while_admitted: trust::outgoing::WhileAdmitted::Send,
    };
    let body = serde_json::to_vec(&message)
        .map_err(|_| PageError::Internal("a message can't be written as JSON".to_owned()))?;
    // The message is known by its `Communication`, as those of journeys are.
    let key = outbox_id(&id);
    let unit = Unit {
        changes: vec![Change::Put {
            resource,
            expected: Expected::Absent,
        }],
        outbox_add: vec![OutboxDraft {
            key: OutboxKey {
                shard: ledger.shard_of(tenant, &owner, &id),
                due_ms: now_ms,
                id: key,
            },
            owner,
            channel: CHANNEL_EMAIL,
            attempt: 0,
            body,
        }],
        note: Some("a sign-in link for who acts for the patient".to_owned()),
        patient: Some(patient.to_owned()),
        ..Unit::default()
    };
    ctx.vault().commit(&permit, unit).await?;
    Ok(())
}
