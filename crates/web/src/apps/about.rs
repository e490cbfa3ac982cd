//! What an application is about beside the patient: resources of theirs, shown to the person in a few words and
//! named to the application.
//!
//! They are looked at for the person's usual purpose, whatever emergency access stands: an application acts for
//! treatment and under no emergency, so what only an emergency shows is not named to it.

use fhir::{Resource, ResourceType};
use jiff::tz::TimeZone;
use maud::{Markup, html};
use trust::identity::LaunchContext;
use trust::{Action, Permit, Target};

use crate::context::{Ctx, query};
use crate::error::PageError;
use crate::time::{day_begins, fhir_time};

/// Encounters that are shown to choose from; with more, a day narrows them.
const SHOWN_MAX: usize = 20;

async fn usual(
    ctx: &Ctx,
    action: Action,
    kind: ResourceType,
    patient: &str,
) -> Result<Permit, PageError> {
    let agent = &ctx.session.agent;
    let target = Target {
        kind: Some(kind),
        patient: Some(patient.to_owned()),
    };
    let trust = &ctx.app.web.trust;
    let purpose = ctx.role().purpose();
    let permit = trust
        .decide(agent, purpose, action, target, &ctx.request.id)
        .await?;
    Ok(permit.with(ctx.freshness.clone()))
}

/// A resource of a patient's, if this person may see it.
async fn row(
    ctx: &Ctx,
    patient: &str,
    kind: ResourceType,
    id: &str,
) -> Result<Resource, PageError> {
    if !fhir::is_id(id) {
        return Err(PageError::NotFound);
    }
    let permit = usual(ctx, Action::Read, kind, patient).await?;
    let found = ctx.vault().read(&permit, kind, id).await?;
    found
        .filter(|found| !found.deleted)
        .map(|found| found.resource)
        .filter(|row| row.patient() == Some(patient))
        .ok_or(PageError::NotFound)
}

/// A resource in a few words: what it is, when, and how it stands.
pub(super) fn line(ctx: &Ctx, row: &Resource) -> Markup {
    let when = crate::browse::when(row.as_value());
    let when = when.and_then(|when| fhir_time(&ctx.times, when));
    html! {
        span class="strong" { (row.display()) }
        @if let Some((_, when, _)) = when { " · " (when) }
        @if let Some(status) = row.text_at(&["status"]) { " · " (status) }
    }
}

/// All that a context names, each with what it is called, if this person may see all of it.
pub(super) async fn shown(
    ctx: &Ctx,
    patient: &str,
    context: &LaunchContext,
) -> Result<Vec<(&'static str, Markup)>, PageError> {
    let mut shown = Vec::new();
    for (kind, id) in context.rows() {
        let row = row(ctx, patient, kind, id).await?;
        let what = match kind {
            ResourceType::Encounter => "Visit or stay",
            _ => "About",
        };
        shown.push((what, line(ctx, &row)));
    }
    Ok(shown)
}

/// Encounters of a patient to choose from.
pub(super) enum Encounters {
    /// There are none that this person may see.
    None,
    /// That day can't be searched for.
    Wrong,
    /// There are too many to put the latest first.
    TooMany,
    /// The latest, and whether there are more.
    Latest { rows: Vec<Resource>, more: bool },
}

/// Bounds of what a day has a part of, a day of the zone that pages show times in: a stay is of each of its days.
fn bounds_of(day: &str, zone: &TimeZone) -> Option<[String; 2]> {
    let day: jiff::civil::Date = day.parse().ok()?;
    let begins = day_begins(day, zone)?;
    let ends = day_begins(day.tomorrow().ok()?, zone)?;
    Some([format!("ge{begins}"), format!("lt{ends}")])
}

/// Looks for a patient's encounters, the latest first, or those of a day.
pub(super) async fn encounters(
    ctx: &Ctx,
    patient: &str,
    day: Option<&str>,
) -> Result<Encounters, PageError> {
    let mut parameters = vec![("patient", patient), ("_sort", "-date")];
    let within = match day.map(|day| bounds_of(day, &ctx.times.zone)) {
        Some(None) => return Ok(Encounters::Wrong),
        Some(around) => around,
        None => None,
    };
    parameters.extend(
        within
            .iter()
            .flatten()
            .map(|bound| ("date", bound.as_str())),
    );
    let kind = ResourceType::Encounter;
    // The words of the outcome could hold what was typed.
    let Ok(query) = query(kind, &parameters, SHOWN_MAX) else {
        return Ok(Encounters::Wrong);
    };
    let permit = match usual(ctx, Action::Search, kind, patient).await {
        Err(PageError::Refused(_)) => return Ok(Encounters::None),
        other => other?,
    };
    let page = match ctx.vault().search_sorted(&permit, &query, None).await {
        Err(trust::TrustError::TooCostly(_)) => return Ok(Encounters::TooMany),
        other => other?,
    };
    let more = page.next.is_some();
    let rows: Vec<Resource> = page.rows.into_iter().map(|row| row.resource).collect();
    Ok(match rows.is_empty() && day.is_none() {
        true => Encounters::None,
        false => Encounters::Latest { rows, more },
    })
}

/// Whether an application can be opened from pages of a type: from what is a part of the record, and not from who
/// looked at it.
fn opens(kind: ResourceType) -> bool {
    kind != ResourceType::AuditEvent
}

/// What a form or an address names beside the patient, as `Type/id`: a resource whose page an application is opened
/// from.
pub(super) fn named_beside(text: &str) -> Result<LaunchContext, PageError> {
    let of = fhir::Reference::relative(text);
    // A patient is named by themselves, and a version is not what an application is about.
    let of = of.filter(|(kind, id)| {
        *kind != ResourceType::Patient && opens(*kind) && text == format!("{}/{id}", kind.name())
    });
    let (kind, id) = of.ok_or(PageError::NotFound)?;
    Ok(LaunchContext::of(kind, id))
}

/// The link that opens an application from a resource's own page, where there can be one.
pub(crate) fn link(ctx: &Ctx, row: &Resource) -> Markup {
    let (kind, id) = (row.kind(), row.id().unwrap_or_default());
    let may = ctx.role().launches_apps() && opens(kind);
    let patient = row.patient().filter(|_| may);
    html! {
        @if let Some(patient) = patient {
            a class="button" href={ "/console/patients/" (patient) "/apps" @if kind != ResourceType::Patient { "?about=" (kind.name()) "/" (id) } } { "Open in an app" }
        }
    }
}

/// Who and what a page of this flow is about, for the person.
pub(super) fn lines(patient: Option<&str>, shown: &[(&'static str, Markup)]) -> Markup {
    html! {
        @if let Some(patient) = patient { p { "Patient: " span class="strong" { (patient) } } }
        @for (what, words) in shown { p { (what) ": " (words) } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_one_of_the_zone_that_pages_show() {
        let new_york = TimeZone::get("America/New_York").expect("a zone");
        for (zone, day, bounds) in [
            (
                &new_york,
                "2025-02-03",
                ["ge2025-02-03T05:00:00", "lt2025-02-04T05:00:00"],
            ),
            // The day on which the clocks go forward has 23 hours.
            (
                &new_york,
                "2025-03-09",
                ["ge2025-03-09T05:00:00", "lt2025-03-10T04:00:00"],
            ),
            (
                &TimeZone::UTC,
                "2025-02-03",
                ["ge2025-02-03T00:00:00", "lt2025-02-04T00:00:00"],
            ),
        ] {
            let found = bounds_of(day, zone).expect("a day");
            for (found, bound) in found.iter().zip(bounds) {
                assert!(found.starts_with(bound), "{found} {bound}");
            }
        }
        assert_eq!(bounds_of("yesterday", &TimeZone::UTC), None);
    }
}
