//! Finding a patient. The search is posted, so that no name or date of birth gets into an address,
//! a log or a history.

use axum::response::Response;
use fhir::{Resource, ResourceType};
use maud::{Markup, html};
use trust::Action;

use crate::context::{Ctx, Fields, Posted, query};
use crate::error::PageError;
use crate::layout::{self, Section, console, csrf};
use crate::time;
use crate::worklist::patient_name;

/// Matches shown; with more, the page asks for a narrower search.
const SHOWN_MAX: usize = 50;

fn form(ctx: &Ctx, name: &str, birth_date: &str, identifier: &str) -> Markup {
    html! {
        form class="filters inline-fields" method="post" action="/console/patients" role="search" {
            (csrf(ctx))
            label { "Name" input type="text" name="name" value=(name) autocomplete="off" spellcheck="false" maxlength="100"; }
            label { "Date of birth" input type="date" name="birth_date" value=(birth_date) autocomplete="off"; }
            label { "Number (MRN or other)" input type="text" name="identifier" value=(identifier) autocomplete="off" spellcheck="false" maxlength="100"; }
            button class="primary" type="submit" { "Search" }
        }
    }
}

fn shell(ctx: &Ctx, form: &Markup, results: &Markup) -> Response {
    let body = html! {
        (layout::head("Patients", &html! { "Find one by name, date of birth or number. What you search for is recorded in the audit." }, &html! {}))
        (form)
        (results)
    };
    console(ctx, "Patients", Section::Patients, None, &body)
}

/// `GET /console/patients`.
pub(crate) async fn page(ctx: Ctx) -> Result<Response, PageError> {
    ctx.staff()?;
    ctx.permit(Action::Search, Some(ResourceType::Patient), None)
        .await?;
    Ok(shell(
        &ctx,
        &form(&ctx, "", "", ""),
        &layout::empty(
            "No search yet",
            "Type the beginning of a name, a date of birth, or a number.",
        ),
    ))
}

/// What came of a search for a patient.
pub(crate) enum Sought {
    /// No field was filled in.
    Nothing,
    /// A field can't be searched for.
    Wrong,
    /// Those who fit, and whether there are more.
    Found { rows: Vec<Resource>, more: bool },
}

/// Looks for patients by the fields of a form.
pub(crate) async fn sought(ctx: &Ctx, fields: &Fields) -> Result<Sought, PageError> {
    // Commas and bars mean something in FHIR's search; here people just type.
    let plain = |text: &str| {
        text.replace('\\', "\\\\")
            .replace(',', "\\,")
            .replace('|', "\\|")
            .replace('$', "\\$")
    };
    let mut parameters: Vec<(&str, String)> = (fields.get("name").unwrap_or_default())
        .split_whitespace()
        .map(|word| ("name", plain(word)))
        .collect();
    if let Some(birth_date) = fields.get("birth_date") {
        parameters.push(("birthdate", birth_date.to_owned()));
    }
    if let Some(identifier) = fields.get("identifier") {
        parameters.push(("identifier", plain(identifier)));
    }
    if parameters.is_empty() {
        return Ok(Sought::Nothing);
    }
    let borrowed: Vec<(&str, &str)> = parameters
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    // The words of the outcome could hold what was typed.
    let Ok(query) = query(ResourceType::Patient, &borrowed, SHOWN_MAX) else {
        return Ok(Sought::Wrong);
    };
    let permit = ctx
        .permit(Action::Search, Some(ResourceType::Patient), None)
        .await?;
    let page = ctx.vault().search(&permit, &query, None).await?;
    Ok(Sought::Found {
        more: page.next.is_some(),
        rows: page.rows.into_iter().map(|row| row.resource).collect(),
    })
}

/// `POST /console/patients`.
pub(crate) async fn search(Posted { ctx, fields }: Posted) -> Result<Response, PageError> {
    ctx.staff()?;
    let form = form(
        &ctx,
        fields.get("name").unwrap_or_default(),
        fields.get("birth_date").unwrap_or_default(),
        fields.get("identifier").unwrap_or_default(),
    );
    let (rows, more) = match sought(&ctx, &fields).await? {
        Sought::Found { rows, more } => (rows, more),
        Sought::Nothing => {
            let words = "Fill in at least one of the fields.";
            let results = layout::empty("Nothing to search for", words);
            return Ok(shell(&ctx, &form, &results));
        }
        Sought::Wrong => {
            let words = "Check the date of birth and the number.";
            let results = layout::empty("That can't be searched for", words);
            return Ok(shell(&ctx, &form, &results));
        }
    };
    let results = html! {
        @if rows.is_empty() {
            (layout::empty("Nobody found", "Try fewer letters, or another field. A name is found by how each of its parts begins."))
        } @else {
            p class="quiet" aria-live="polite" {
                @if more { "More than " (SHOWN_MAX) " match. These are the ones changed last; add something to narrow the search." }
                @else { (layout::count_of(rows.len(), "patient")) " found." }
            }
            div class="scroll" {
                table {
                    thead { tr { th scope="col" { "Name" } th scope="col" { "Born" } th scope="col" { "Sex" } th scope="col" { "Number" } } }
                    tbody data-rows {
                        @for patient in &rows {
                            tr data-key=(patient.id().unwrap_or_default()) {
                                th scope="row" { a data-act="open" href={ "/console/patients/" (patient.id().unwrap_or_default()) } { (patient_name(patient)) } }
                                td {
                                    @if let Some(born) = patient.text_at(&["birthDate"]) {
                                        (time::day(born))
                                        @if let Some(age) = fhir::human::age_years(born, ctx.times.care_ms) { span class="quiet" { " (" (age) ")" } }
                                    }
                                }
                                td { (patient.text_at(&["gender"]).unwrap_or("not recorded")) }
                                td class="mono" { (patient.text_at(&["identifier", "0", "value"]).unwrap_or("")) }
                            }
                        }
                    }
                }
            }
        }
    };
    Ok(shell(&ctx, &form, &results))
}
