//! The patient's weight, as weighed at home: noted here, watched by the journey.

use axum::response::{IntoResponse, Redirect, Response};
use fhir::search::SearchQuery;
use fhir::{Resource, ResourceType};
use ledger::{Expected, Owner};
use maud::{Markup, html};
use serde_json::{Number, json};
use trust::conventions::{BODY_WEIGHT, LOINC};
use trust::{Action, Change, Unit};

use crate::context::{Ctx, Posted};
use crate::error::PageError;
use crate::layout::{csrf, portal};
use crate::patient::chart::{self, Weight};
use crate::time::iso;

/// Weights shown.
const SHOWN_MAX: usize = 200;
/// What a person can weigh, kilograms; outside it is a slip of the finger.
const PLAUSIBLE_KG: std::ops::RangeInclusive<f64> = 20.0..=400.0;

/// The search for a patient's weights.
pub(super) fn query(patient: &str, count: usize) -> Result<SearchQuery, PageError> {
    let code = format!("{LOINC}|{BODY_WEIGHT}");
    crate::context::query(
        ResourceType::Observation,
        &[("patient", patient), ("code", &code)],
        count,
    )
}

/// The weight on the home page, when a journey runs that may ask for it or one was noted before.
pub(super) fn teaser(ctx: &Ctx, newest: Option<Weight>, in_journey: bool) -> Markup {
    html! {
        @if in_journey || newest.is_some() {
            section class="stack" aria-labelledby="weight" {
                h2 id="weight" { "Your weight" }
                @if let Some((at_ms, kg)) = newest { p { "Last: " span class="strong" { (format!("{kg:.1}")) " kg" } ", " (ctx.times.ago(at_ms)) "." } }
                p { a class="button" href="/portal/weight" { "Write down my weight" } }
            }
        }
    }
}

async fn draw(ctx: &Ctx, typed: &str, wrong: Option<&str>) -> Result<Response, PageError> {
    let patient = ctx.own_patient()?;
    let permit = ctx
        .permit(
            Action::Search,
            Some(ResourceType::Observation),
            Some(patient),
        )
        .await?;
    let page = ctx
        .vault()
        .search(&permit, &query(patient, SHOWN_MAX)?, None)
        .await?;
    let rows: Vec<&Resource> = page.rows.iter().map(|row| &row.resource).collect();
    let weights = chart::weights(&ctx.times, &rows);
    let body = html! {
        div class="stack-wide" {
            h1 { "Your weight" }
            p { "Weigh yourself in the morning, before breakfast, in light clothes. A quick rise can mean water in your body, and we want to know early." }
            form class="fields" method="post" action="/portal/weight" {
                (csrf(ctx))
                div {
                    label class="question" for="kg" { "Weight today, in kilograms" }
                    span class="hint" id="kg-hint" { "For example 81.4" @if let Some(wrong) = wrong { span class="alert" { ". " (wrong) } } }
                    input type="text" id="kg" name="kg" value=(typed) inputmode="decimal" autocomplete="off" maxlength="8" required aria-describedby="kg-hint" aria-invalid=[wrong.map(|_| "true")];
                }
                div { button class="primary" type="submit" { "Save" } }
            }
            @if let Some(chart) = chart::draw(&ctx.times, &weights) { (chart) }
            @else if let Some((at_ms, kg)) = weights.last() { p { "Last: " span class="strong" { (format!("{kg:.1}")) " kg" } ", " (ctx.times.plain(*at_ms)) "." } }
            p class="quiet small" { "If you are short of breath or feel very unwell, do not wait: call the emergency number." }
        }
    };
    Ok(portal(ctx, "Your weight", None, None, &body))
}

/// `GET /portal/weight`.
pub(crate) async fn page(ctx: Ctx) -> Result<Response, PageError> {
    draw(&ctx, "", None).await
}

/// What was typed as kilograms, digits kept.
fn read(typed: &str) -> Result<Number, &'static str> {
    let typed = typed
        .trim()
        .trim_end_matches("kg")
        .trim_end()
        .replace(',', ".");
    let number: Number = typed.parse().map_err(|_| "Please give a number.")?;
    let plausible = number.as_f64().is_some_and(|kg| PLAUSIBLE_KG.contains(&kg));
    if plausible {
        Ok(number)
    } else {
        Err("That can't be a weight in kilograms. Please check it.")
    }
}

/// `POST /portal/weight`.
pub(crate) async fn note(Posted { ctx, fields }: Posted) -> Result<Response, PageError> {
    let patient = ctx.own_patient()?.to_owned();
    let typed = fields.get("kg").unwrap_or_default();
    let kg = match read(typed) {
        Ok(kg) => kg,
        Err(wrong) => return draw(&ctx, typed, Some(wrong)).await,
    };
    let permit = ctx
        .permit(
            Action::Create,
            Some(ResourceType::Observation),
            Some(&patient),
        )
        .await?;
    let now = iso(ctx.times.care_ms);
    let own = json!({ "reference": format!("Patient/{patient}") });
    let mut weight = Resource::new(ResourceType::Observation);
    weight.set_id(
        &ctx.app
            .ledger()
            .mint_id(ctx.app.web.tenant, &Owner::Patient(patient.clone())),
    );
    weight.set("status", json!("final"));
    weight.set("category", json!([{ "coding": [{ "system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs" }] }]));
    weight.set("code", json!({ "coding": [{ "system": LOINC, "code": BODY_WEIGHT, "display": "Body weight" }], "text": "Body weight" }));
    weight.set("subject", own);
    weight.set("effectiveDateTime", json!(now));
    weight.set("performer", json!([{ "reference": ctx.own_reference()? }]));
    weight.set(
        "valueQuantity",
        json!({ "value": kg, "unit": "kg", "system": "http://unitsofmeasure.org", "code": "kg" }),
    );
    let unit = Unit {
        changes: vec![Change::Put {
            resource: weight,
            expected: Expected::Absent,
        }],
        note: Some("weight noted in the portal".to_owned()),
        patient: Some(patient),
        ..Unit::default()
    };
    ctx.vault().commit(&permit, unit).await?;
    Ok(Redirect::to("/portal?said=weighed").into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_read_as_people_type_them() {
        for (typed, kg) in [
            ("81.4", Some("81.4")),
            ("81,4", Some("81.4")),
            (" 80 kg", Some("80")),
            ("80.50", Some("80.50")),
            ("8", None),
            ("814", None),
            ("NaN", None),
            ("", None),
            ("heavy", None),
        ] {
            assert_eq!(
                read(typed).ok().map(|kg| kg.to_string()).as_deref(),
                kg,
                "{typed}"
            );
        }
    }
}
