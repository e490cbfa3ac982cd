//! Who acts for the patient, and, for those who do, for whom.

use axum::extract::Path;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use trust::consent::Basis;
use trust::identity::{Proxy, SignIn};
use trust::{Action, Role};

use crate::context::{Ctx, Fields, Posted};
use crate::error::PageError;
use crate::layout::{self, PortalSection, State, csrf, portal};
use crate::sign_in::set_session;
use crate::time::signed;

use super::said;

/// By which right, to the patient.
fn basis(basis: Basis) -> &'static str {
    match basis {
        Basis::Parent => "as your parent",
        Basis::Guardian => "by order of a court",
        Basis::HealthCareAgent => "by your power of attorney",
        Basis::Authorised => "as you have allowed",
    }
}

fn row(ctx: &Ctx, proxy: &Proxy) -> Markup {
    html! {
        li class="stack" {
            p {
                @if proxy.why_not.is_none() { (layout::state(State::Running, "Acts for you")) } @else { (layout::state(State::Done, "Over, or not begun")) }
                " " span class="strong" { (proxy.name) } ", " (basis(proxy.basis)) br;
                span class="quiet small" {
                    "since " (ctx.times.date(signed(proxy.made_ms)))
                    @if let Some(from) = &proxy.from { ", from " (crate::time::day(from)) }
                    @if let Some(until) = &proxy.until { ", until " (crate::time::day(until)) }
                    @if let Some((at_ms, ..)) = &proxy.ended { ", ended on " (ctx.times.date(signed(*at_ms))) }
                }
            }
            @if proxy.ended.is_none() && proxy.basis.is_the_patient_s() {
                form method="post" action={ "/portal/proxies/" (proxy.id) "/end" } {
                    (csrf(ctx))
                    button type="submit" { "End it now" span class="visually-hidden" { ": " (proxy.name) } }
                }
            }
        }
    }
}

/// `GET /portal/proxies`.
pub(crate) async fn list(ctx: Ctx, fields: Fields) -> Result<Response, PageError> {
    let patient = ctx.patient_alone()?;
    let permit = ctx.permit(Action::Search, None, Some(patient)).await?;
    let proxies = (ctx.app.web.trust.identity())
        .proxies(&permit, patient)
        .await?;
    let body = html! {
        div class="stack-wide" {
            p class="crumbs" { a href="/portal/consent" { "Your permissions" } }
            (said(&fields))
            h1 { "Who acts for you" }
            p { "These people may see your tasks, visits and messages here, and answer in your place. They don't see where we write to you, who looked at your record, or what you allow others." }
            @if proxies.is_empty() { (layout::empty("Nobody acts for you", "If somebody should, tell your care team.")) }
            ul class="stack" { @for proxy in &proxies { (row(&ctx, proxy)) } }
            p class="quiet" { "You can end it when you are of age, and no court has ordered it. Otherwise, please ask your care team." }
        }
    };
    Ok(portal(
        &ctx,
        "Who acts for you",
        Some(PortalSection::Consent),
        None,
        &body,
    ))
}

/// `POST /portal/proxies/{id}/end`.
pub(crate) async fn end(
    Path(id): Path<String>,
    Posted { ctx, .. }: Posted,
) -> Result<Response, PageError> {
    let patient = ctx.patient_alone()?;
    ctx.account().await?;
    (ctx.app.web.trust.identity())
        .end_proxy(&ctx.session.agent, (patient, &id), "", &ctx.request.id)
        .await?;
    Ok(Redirect::to("/portal/proxies?said=ended").into_response())
}

/// Only for those who act for somebody.
fn is_proxy(ctx: &Ctx) -> Result<(), PageError> {
    if ctx.role() == Role::Proxy {
        return Ok(());
    }
    Err(PageError::Refused(
        "This page is for those who act for a patient.".to_owned(),
    ))
}

/// `GET /portal/for`: for whom somebody acts, to choose from.
pub(crate) async fn choose(ctx: Ctx) -> Result<Response, PageError> {
    is_proxy(&ctx)?;
    ctx.account().await?;
    let all = (ctx.app.web.trust.identity())
        .acting_for(&ctx.session.agent)
        .await?;
    let body = html! {
        div class="stack-wide" {
            h1 { "For whom you act" }
            @if all.is_empty() { (layout::empty("You act for nobody here", "If that surprises you, please ask the people who look after them.")) }
            ul class="stack" {
                @for acting in &all {
                    li class="spread" {
                        span class="strong" { (acting.patient_name) }
                        @if acting.id == ctx.session.agent.id { (layout::state(State::Running, "You act for them now")) }
                        @else {
                            form method="post" action="/portal/for" {
                                (csrf(&ctx))
                                input type="hidden" name="proxy" value=(acting.id);
                                button type="submit" { "Act for them" span class="visually-hidden" { ": " (acting.patient_name) } }
                            }
                        }
                    }
                }
            }
            p class="quiet" { "Everything that you do is written down as done by you for them, and they can see it." }
        }
    };
    Ok(portal(
        &ctx,
        "For whom you act",
        Some(PortalSection::ActsFor),
        None,
        &body,
    ))
}

/// `POST /portal/for`.
pub(crate) async fn act_for(Posted { ctx, fields }: Posted) -> Result<Response, PageError> {
    is_proxy(&ctx)?;
    ctx.account().await?;
    let proxy = fields.get("proxy").unwrap_or_default();
    let identity = ctx.app.web.trust.identity();
    match identity.act_for(&ctx.secret, proxy).await? {
        SignIn::Done { secret, .. } => {
            let mut response = Redirect::to("/portal").into_response();
            set_session(&ctx.app, &mut response, &secret);
            Ok(response)
        }
        SignIn::SecondFactor { .. } | SignIn::EnrolTotp { .. } => Err(PageError::SignedOut(None)),
    }
}
