//! Devices on which a patient is notified of messages: browsers, where they turn it on here, and applications on telephones,
//! which say so themselves. Without JavaScript, or where a browser has no notifications, the
//! page says how else messages come.

use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use trust::consent::Via;
use trust::identity::{NewPushDevice, PUSH_DEVICES_MAX, PUSH_NAME_MAX, PushDeviceView};

use crate::assets;
use crate::context::{Ctx, Fields};
use crate::error::PageError;
use crate::layout::{self, State, csrf};
use crate::sign_in::set_cookie;
use crate::time::signed;

const HERE: &str = "/portal/preferences";
/// What a form of these is to do.
const ADD: &str = "notify";
const REMOVE: &str = "forget-device";
/// How long a browser knows which device it is: longer than people stay away, and it says so anew at each sign-in.
const REMEMBERED: &str = "; SameSite=Lax; Max-Age=31536000";

fn row(ctx: &Ctx, device: &PushDeviceView) -> Markup {
    html! {
        li class="card stack" {
            h3 { (device.name) }
            @if device.this { p { (layout::state(State::Running, "You are here now")) } }
            p class="quiet" { @if device.is_app { "By an app that you allowed, since " } @else { "Since " } (ctx.times.wall(signed(device.since_ms))) }
            form method="post" action=(HERE) {
                (csrf(ctx))
                input type="hidden" name="do" value=(REMOVE);
                input type="hidden" name="device" value=(device.id);
                button type="submit" { "Remove" span class="visually-hidden" { " " (device.name) } }
            }
        }
    }
}

/// The part of the page; nothing where there are no notifications. `is_reached_elsewhere` is whether the patient asked
/// to be reached at one address alone.
pub(super) async fn section(ctx: &Ctx, is_reached_elsewhere: bool) -> Result<Markup, PageError> {
    let identity = ctx.app.web.trust.identity();
    let devices = identity.push_devices(&ctx.session).await?;
    let is_offered = ctx.app.web.push.is_some();
    let are_apps_told = {
        let ways = ctx.app.web.trust.vault().notifications();
        ways.fcm || ways.apns
    };
    let are_any = is_offered || are_apps_told;
    if !are_any && devices.is_empty() {
        return Ok(html! {});
    }
    let has_room = devices.len() < PUSH_DEVICES_MAX;
    let new = if is_offered && has_room && !is_reached_elsewhere {
        add(ctx).await?
    } else {
        html! {}
    };
    let is_unwelcome = match ctx.patient_alone() {
        Ok(patient) if !devices.is_empty() && !is_reached_elsewhere => {
            crate::wishes::of(ctx, patient).await?.lacks(Via::Push)
        }
        _ => false,
    };
    Ok(html! {
        section class="stack" aria-labelledby="devices" {
            h2 id="devices" { "Notifications on your devices" }
            p { "A phone or a computer can show you at once that there is a new message. It shows who writes, and nothing of what is written, also on a locked screen. Turn this on only where the device is yours alone." }
            p class="quiet" { "They come while you are not signed in, too. Where you sign out, they end on that device; turn them on again after you have signed in." }
            @if are_apps_told { p class="quiet" { "An app that you allowed to read your messages can show you that there is one, too. It tells us so itself, and no more once you take it away under " a href="/portal/apps" { "Apps you allowed" } ". The maker of the phone learns that there is a message, and not what is in it." } }
            @if !are_any { p class="note" { "No notifications are sent at present. We tell you in the ways that you chose above." } }
            @if is_unwelcome { p class="note" { "You have chosen how messages reach you, and notifications are not among it for all of them. " a href="/portal/preferences/messages" { "Choose notifications" } "." } }
            @if is_reached_elsewhere { p class="note" { "You want to be reached at one address alone, so no notifications are sent." } }
            @if !devices.is_empty() { ul class="stack" { @for device in &devices { (row(ctx, device)) } } }
            @if !has_room { p class="quiet" { "You have notifications on " (PUSH_DEVICES_MAX) " devices, and there can't be more. Remove one to add another." } }
            (new)
        }
    })
}

/// The form for this device, which the script shows.
async fn add(ctx: &Ctx) -> Result<Markup, PageError> {
    let identity = ctx.app.web.trust.identity();
    // Nothing is made where somebody only looks, and the page has more to show.
    let key = match identity.known_push_key(ctx.app.web.tenant).await {
        Ok(key) => key,
        Err(error) => {
            tracing::error!(%error, "the key for push services can't be read");
            None
        }
    };
    let Some(key) = key else {
        return Ok(html! {
            p class="quiet" { "Notifications can't be turned on at the moment. Please come back later." }
        });
    };
    let sessions = identity.own_sessions(&ctx.session).await?;
    let here = sessions.iter().find(|session| session.this);
    let name = here.and_then(|session| session.browser.clone());
    let name = name.unwrap_or_default();
    let name: String = name.chars().take(PUSH_NAME_MAX).collect();
    Ok(html! {
        form class="fields" method="post" action=(HERE) hidden data-push=(key.public()) {
            (csrf(ctx))
            input type="hidden" name="do" value=(ADD);
            input type="hidden" name="endpoint";
            input type="hidden" name="key";
            input type="hidden" name="auth";
            input type="hidden" name="signer" value=(key.public());
            label { "Name of this device" span class="hint" { "So that you know it in this list" } input type="text" name="name" value=(name) required maxlength=(PUSH_NAME_MAX) autocomplete="off"; }
            p class="problem" role="alert" hidden {}
            button type="submit" { "Turn on notifications on this device" }
        }
        p id="push-without" class="quiet" { "This browser can't show notifications, or JavaScript is switched off in it. Your messages are in your inbox, and we tell you of them in the ways that you chose above." }
        script src=(assets::PUSH.url) defer {}
    })
}

/// Does what a form asks for, if it is one of these.
pub(super) async fn set(ctx: &Ctx, fields: &Fields) -> Result<Option<Response>, PageError> {
    let what = fields.get("do");
    if what != Some(ADD) && what != Some(REMOVE) {
        return Ok(None);
    }
    ctx.account().await?;
    let app = &ctx.app;
    let identity = app.web.trust.identity();
    let mut response = Redirect::to(&format!("{HERE}?said=saved")).into_response();
    if what == Some(REMOVE) {
        let device = fields.get("device").unwrap_or_default();
        identity.remove_push_device(&ctx.session, device).await?;
    } else {
        let services = app.web.push.as_ref().ok_or(PageError::NotFound)?;
        let said = |name| fields.get(name).unwrap_or_default().to_owned();
        let new = NewPushDevice {
            name: said("name"),
            endpoint: said("endpoint"),
            key: said("key"),
            auth: said("auth"),
            signer: said("signer"),
        };
        if !services.may_be_asked(&new.endpoint) {
            return Err(PageError::Invalid(
                "The push service of this browser is none that we send to.".to_owned(),
            ));
        }
        let id = identity.add_push_device(&ctx.session, &new).await?;
        set_cookie(app, &mut response, app.device_cookie(), &id, REMEMBERED);
    }
    Ok(Some(response))
}
