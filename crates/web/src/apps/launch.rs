//! Opening an application from a patient's page (SMART's EHR launch). The application is told a word that is
//! good once, for this patient, this person and this session.

use axum::extract::Path;
use axum::response::Response;
use fhir::ResourceType;
use maud::html;
use trust::Action;

use crate::context::{Ctx, Posted};
use crate::error::PageError;
use crate::layout::{self, Section, console, csrf};
use crate::worklist::patient_name;

/// The patient's name, if this person may see the record.
pub(super) async fn named(ctx: &Ctx, id: &str) -> Result<String, PageError> {
    if !fhir::is_id(id) {
        return Err(PageError::NotFound);
    }
    let permit = ctx
        .permit(Action::Read, Some(ResourceType::Patient), Some(id))
        .await?;
    let found = ctx
        .vault()
        .read(&permit, ResourceType::Patient, id)
        .await?
        .filter(|found| !found.deleted)
        .ok_or(PageError::NotFound)?;
    Ok(patient_name(&found.resource))
}

/// `GET /console/patients/{id}/apps`.
pub(crate) async fn page(ctx: Ctx, Path(id): Path<String>) -> Result<Response, PageError> {
    ctx.staff()?;
    let name = named(&ctx, &id).await?;
    let identity = ctx.app.web.trust.identity();
    let apps = identity.apps_to_launch(ctx.app.web.tenant).await?;
    let body = html! {
        p class="crumbs" { a href={ "/console/patients/" (id) } { (name) } }
        (layout::head("Open in an app", &html! { "The app opens for this patient. It asks you what it may do before it sees anything." }, &html! {}))
        @if apps.is_empty() { (layout::empty("No app can be opened from here", "An administrator registers apps that open from a patient's page, under Accounts.")) }
        @for app in &apps {
            form class="spread card" method="post" action={ "/console/patients/" (id) "/apps" } {
                (csrf(&ctx))
                input type="hidden" name="app" value=(app.id);
                span class="strong" { (app.name) }
                button type="submit" { "Open" }
            }
        }
    };
    Ok(console(
        &ctx,
        "Open in an app",
        Section::Patients,
        None,
        &body,
    ))
}

/// `POST /console/patients/{id}/apps`: the link to the application. The person follows it, because the pages'
/// rules let no form lead elsewhere.
pub(crate) async fn open(
    Path(id): Path<String>,
    Posted { ctx, fields }: Posted,
) -> Result<Response, PageError> {
    ctx.staff()?;
    let name = named(&ctx, &id).await?;
    let identity = ctx.app.web.trust.identity();
    let wanted = fields.get("app").unwrap_or_default();
    let app = identity.app(ctx.app.web.tenant, wanted).await?;
    let app = app.ok_or(PageError::NotFound)?;
    let address = identity
        .launch(&ctx.session, &app.id, &id, &ctx.app.web.fhir_base)
        .await?;
    let body = html! {
        p class="crumbs" { a href={ "/console/patients/" (id) } { (name) } }
        (layout::head(&app.name, &html! { "Ready for " span class="strong" { (name) } ". The link works once, within five minutes." }, &html! {}))
        p { a class="button primary" id="launch" href=(address) target="_blank" rel="noopener noreferrer" { "Open " (app.name) } }
    };
    Ok(console(
        &ctx,
        "Open in an app",
        Section::Patients,
        None,
        &body,
    ))
}
