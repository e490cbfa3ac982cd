//! Devices on which a patient is notified of messages. Without JavaScript, or where a browser has no notifications, the
//! page says how else messages come.

use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use trust::identity::{NewPushDevice, PUSH_DEVICES_MAX, PUSH_NAME_MAX, PushDeviceView};

use crate::assets;
use crate::context::{Ctx, Fields};
use crate::error::PageError;
use crate::layout::csrf;
use crate::time::signed;

const HERE: &str = "/portal/preferences";
/// What a form of these is to do.
const ADD: &str = "notify";
const REMOVE: &str = "forget-device";

fn row(ctx: &Ctx, device: &PushDeviceView) -> Markup {
    html! {
        li class="card stack" {
            h3 { (device.name) }
            p class="quiet" { "Since " (ctx.times.wall(signed(device.since_ms))) }
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
    if !is_offered && devices.is_empty() {
        return Ok(html! {});
    }
    let has_room = devices.len() < PUSH_DEVICES_MAX;
    let new = if is_offered && has_room && !is_reached_elsewhere {
        add(ctx).await?
    } else {
        html! {}
    };
    Ok(html! {
        section class="stack" aria-labelledby="devices" {
            h2 id="devices" { "Notifications on your devices" }
            p { "A phone or a computer can show you at once that there is a new message. It shows who writes, and nothing of what is written, also on a locked screen. Turn this on only where the device is yours alone." }
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
    let key = identity.push_key(ctx.app.web.tenant).await?;
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
    let identity = ctx.app.web.trust.identity();
    if what == Some(REMOVE) {
        let device = fields.get("device").unwrap_or_default();
        identity.remove_push_device(&ctx.session, device).await?;
    } else {
        let services = ctx.app.web.push.as_ref().ok_or(PageError::NotFound)?;
        let said = |name| fields.get(name).unwrap_or_default().to_owned();
        let new = NewPushDevice {
            name: said("name"),
            endpoint: said("endpoint"),
            key: said("key"),
            auth: said("auth"),
        };
        if !services.may_be_asked(&new.endpoint) {
            return Err(PageError::Invalid(
                "The push service of this browser is none that we send to.".to_owned(),
            ));
        }
        identity.add_push_device(&ctx.session, &new).await?;
    }
    let to = format!("{HERE}?said=saved");
    Ok(Some(Redirect::to(&to).into_response()))
}
