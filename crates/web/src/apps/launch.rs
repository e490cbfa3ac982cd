//! Opening an application from a patient's page, or from that of a resource of theirs (SMART's EHR launch). The
//! application is told a word that is good once, for this patient, this person and this session.

use axum::extract::Path;
use axum::response::Response;
use fhir::ResourceType;
use maud::{Markup, html};
use trust::Action;
use trust::identity::LaunchContext;

use super::about;
use crate::context::{Ctx, Fields, Posted};
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

/// Whom and what an application is opened for.
struct Subject {
    /// The patient's name.
    name: String,
    context: LaunchContext,
    shown: Vec<(&'static str, Markup)>,
}

impl Subject {
    /// By the fields of an address or a form, if this person may see it all.
    async fn of(ctx: &Ctx, patient: &str, fields: &Fields) -> Result<Self, PageError> {
        let name = named(ctx, patient).await?;
        let context = match fields.get("about") {
            Some(text) => about::named_beside(text)?,
            None => LaunchContext::default(),
        };
        Ok(Self {
            shown: about::shown(ctx, patient, &context).await?,
            name,
            context,
        })
    }

    fn crumbs(&self, patient: &str) -> Markup {
        html! { p class="crumbs" { a href={ "/console/patients/" (patient) } { (self.name) } } }
    }
}

/// `GET /console/patients/{id}/apps`.
pub(crate) async fn page(
    ctx: Ctx,
    Path(id): Path<String>,
    fields: Fields,
) -> Result<Response, PageError> {
    ctx.staff()?;
    let subject = Subject::of(&ctx, &id, &fields).await?;
    let identity = ctx.app.web.trust.identity();
    let apps = identity.apps_to_launch(ctx.app.web.tenant).await?;
    let body = html! {
        (subject.crumbs(&id))
        (layout::head("Open in an app", &html! { "The app opens for this patient. It asks you what it may do before it sees anything." }, &html! {}))
        (about::lines(None, &subject.shown))
        @if apps.is_empty() { (layout::empty("No app can be opened from here", "An administrator registers apps that open from a patient's page, under Accounts.")) }
        @for app in &apps {
            form class="spread card" method="post" action={ "/console/patients/" (id) "/apps" } {
                (csrf(&ctx))
                input type="hidden" name="app" value=(app.id);
                @if let Some(about) = fields.get("about") { input type="hidden" name="about" value=(about); }
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
    let subject = Subject::of(&ctx, &id, &fields).await?;
    let identity = ctx.app.web.trust.identity();
    let wanted = fields.get("app").unwrap_or_default();
    let app = identity.app(ctx.app.web.tenant, wanted).await?;
    let app = app.ok_or(PageError::NotFound)?;
    let base = &ctx.app.web.fhir_base;
    let address = identity
        .launch(&ctx.session, &app.id, &id, &subject.context, base)
        .await?;
    let body = html! {
        (subject.crumbs(&id))
        (layout::head(&app.name, &html! { "Ready for " span class="strong" { (subject.name) } ". The link works once, within five minutes." }, &html! {}))
        (about::lines(None, &subject.shown))
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
