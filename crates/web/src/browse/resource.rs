//! One resource.

use axum::extract::Path;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use fhir::{Resource, ResourceType};
use maud::{Markup, html};
use serde_json::Value;

use super::{Asks, changed, failed, json, kind, tree, words};
use crate::context::{Ctx, Fields};
use crate::error::PageError;
use crate::layout::{self, Section, console};

/// The largest resource that is shown on a page, bytes; larger ones are a file.
pub(super) const SHOWN_BYTES_MAX: usize = 256 * 1024;

/// Which of a resource's pages one is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tab {
    Elements,
    Json,
    History,
    /// A former version, or a change: none of the three.
    Version,
}

/// The head of all pages of one resource.
pub(super) fn head(kind: ResourceType, id: &str, title: &str, line: &Markup, tab: Tab) -> Markup {
    let here = super::address(kind.name(), id);
    html! {
        p class="crumbs" { a href="/console/record" { "Record" } " › " a href={ "/console/record?kind=" (kind.name()) } { (kind.name()) } }
        div class="head" {
            div { h1 { (title) } p class="quiet" { (line) } }
            nav class="tabs" aria-label="Of this resource" {
                a href=(here) aria-current=[(tab == Tab::Elements).then_some("page")] { "Elements" }
                a href={ (here) "?as=json" } aria-current=[(tab == Tab::Json).then_some("page")] { "JSON" }
                a href={ (here) "/history" } aria-current=[(tab == Tab::History).then_some("page")] { "History" }
            }
        }
    }
}

/// What a resource is called on its pages.
pub(super) fn title(kind: ResourceType, id: &str, resource: &Value) -> String {
    let words = words(resource);
    if words.is_empty() {
        format!("{} {}", kind.name(), layout::short_id(id))
    } else {
        words
    }
}

/// Type, id, version and age, in one line.
pub(super) fn line(ctx: &Ctx, kind: ResourceType, id: &str, resource: &Value) -> Markup {
    html! {
        span class="mono" { (kind.name()) "/" (id) }
        " · version " (resource["meta"]["versionId"].as_str().unwrap_or("?"))
        " · changed " (changed(ctx, resource))
    }
}

/// The content, as elements or as JSON; too much of it is a file.
pub(super) fn content(resource: &Value, bytes: usize, as_json: bool, file: &str) -> Markup {
    html! {
        @if bytes > SHOWN_BYTES_MAX {
            (layout::empty("Too long for a page", "It is whole in the file."))
            p class="pager" { a class="button" href=(file) download { "Download (" (layout::thousands(bytes as u64)) " bytes)" } }
        } @else if as_json {
            pre class="json" tabindex="0" { (tree::Json(resource)) }
        } @else {
            (tree::tree(resource))
        }
    }
}

/// `GET /console/record/{kind}/{id}`.
pub(crate) async fn page(
    ctx: Ctx,
    Path((name, id)): Path<(String, String)>,
    fields: Fields,
) -> Result<Response, PageError> {
    ctx.staff()?;
    let kind = kind(&name)?;
    let as_json = fields.get("as") == Some("json");
    let tab = if as_json { Tab::Json } else { Tab::Elements };
    let asks = Asks::for_one(&ctx, kind, &id).await?;
    let answer = match ctx.app.web.record.read(&asks.caller, kind, &id).await {
        Ok(answer) => answer,
        Err(error) if error.status == 410 => {
            let body = html! {
                (head(kind, &id, &format!("{} {}", kind.name(), layout::short_id(&id)), &html! { "Not there any more" }, tab))
                (layout::empty("There is no content", &error.outcome.summary()))
            };
            return Ok(console(&ctx, kind.name(), Section::Record, None, &body));
        }
        Err(error) => return Err(failed(error)),
    };
    let resource = json(&answer)?;
    let file = format!("{}/file", super::address(kind.name(), &id));
    // An application acts under no emergency.
    let opens = Resource::from_value(resource.clone()).ok();
    let opens = opens.filter(|_| asks.open.is_none());
    let indexing = if kind == ResourceType::SearchParameter {
        super::indexing::status(&ctx, &id).await
    } else {
        html! {}
    };
    let body = html! {
        (head(kind, &id, &title(kind, &id, &resource), &line(&ctx, kind, &id, &resource), tab))
        (crate::emergency::note(&ctx, asks.open.as_ref()))
        (indexing)
        (content(&resource, answer.body.len(), as_json, &file))
        p class="pager" {
            a class="button" href=(file) download { "Download" }
            @if kind == ResourceType::Patient { a class="button" href={ "/console/patients/" (id) } { "Timeline" } }
            @if let Some(row) = &opens { (crate::apps::about::link(&ctx, row)) }
        }
    };
    Ok(console(&ctx, kind.name(), Section::Record, None, &body))
}

/// `GET /console/record/{kind}/{id}/file?version=…`: the resource, or a former version of it, as it would
/// come by FHIR's API.
pub(crate) async fn file(
    ctx: Ctx,
    Path((name, id)): Path<(String, String)>,
    fields: Fields,
) -> Result<Response, PageError> {
    ctx.staff()?;
    let kind = kind(&name)?;
    let Asks { caller, .. } = Asks::for_one(&ctx, kind, &id).await?;
    let record = &ctx.app.web.record;
    let answer = match fields.get("version") {
        Some(version) => record.version(&caller, kind, &id, version).await,
        None => record.read(&caller, kind, &id).await,
    };
    let answer = answer.map_err(failed)?;
    let disposition = format!("attachment; filename=\"{}-{id}.json\"", kind.name());
    let mut response = (
        [
            (header::CONTENT_TYPE, "application/fhir+json".to_owned()),
            (header::CONTENT_DISPOSITION, disposition),
        ],
        answer.body,
    )
        .into_response();
    // As FHIR's answers have them (42 CFR 2.32). The page that leads here shows them, too.
    for notice in ctx.freshness.notices() {
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{notice}\"")) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
    Ok(response)
}
