//! Choosing whose record an application works on, and which of the patient's encounters it is about, before it is
//! let in.

use axum::response::Response;
use maud::{Markup, html};
use trust::Role;

use super::about::{self, Encounters};
use super::authorize::{Asked, HERE, carried, shell, who};
use crate::context::{Ctx, Fields};
use crate::layout;
use crate::patients::Sought;
use crate::time;
use crate::worklist::patient_name;

/// In the place of an encounter's id, and no id: the person goes on without one.
pub(super) const NO_ENCOUNTER: &str = "?";

/// The patient who was chosen, for the next form. A patient's own record is chosen by itself.
pub(super) fn chosen(ctx: &Ctx, patient: Option<&(String, String)>) -> Markup {
    let patient = patient.filter(|_| ctx.role() != Role::Patient);
    html! {
        @if let Some((id, _)) = patient { input type="hidden" name="patient" value=(id); }
    }
}

/// Whose record it is.
pub(super) fn patient(
    ctx: &Ctx,
    asked: &Asked,
    fields: &Fields,
    sought: Option<&Sought>,
) -> Response {
    let body = html! {
        div class="stack-wide" {
            (layout::head(&format!("Whose record is {} about?", asked.client.name), &html! { "The app works on one patient. " (who(asked)) }, &html! {}))
            form class="filters inline-fields" method="post" action=(HERE) role="search" {
                (carried(ctx, fields))
                label { "Name" input type="text" name="name" autocomplete="off" spellcheck="false" maxlength="100"; }
                label { "Date of birth" input type="date" name="birth_date" autocomplete="off"; }
                label { "Number (MRN or other)" input type="text" name="identifier" autocomplete="off" spellcheck="false" maxlength="100"; }
                button class="primary" type="submit" name="decision" value="find" { "Search" }
            }
            @match sought {
                None => {},
                Some(Sought::Nothing) => (layout::empty("Nothing to search for", "Fill in at least one of the fields.")),
                Some(Sought::Wrong) => (layout::empty("That can't be searched for", "Check the date of birth and the number.")),
                Some(Sought::Found { rows, .. }) if rows.is_empty() => (layout::empty("Nobody found", "Try fewer letters, or another field.")),
                Some(Sought::Found { rows, more }) => {
                    @if *more { p class="quiet" { "There are more. Add something to narrow the search." } }
                    form class="stack" method="post" action=(HERE) {
                        (carried(ctx, fields))
                        input type="hidden" name="decision" value="choose";
                        @for patient in rows {
                            div class="spread card" {
                                span {
                                    span class="strong" { (patient_name(patient)) }
                                    @if let Some(born) = patient.text_at(&["birthDate"]) { " · born " (time::day(born)) }
                                    @if let Some(number) = patient.text_at(&["identifier", "0", "value"]) { " · no. " span class="mono" { (number) } }
                                }
                                button type="submit" name="patient" value=(patient.id().unwrap_or_default()) { "Choose" }
                            }
                        }
                    }
                }
            }
            form method="post" action=(HERE) {
                (carried(ctx, fields))
                button type="submit" name="decision" value="deny" { "Don't allow" }
            }
        }
    };
    shell(ctx, "Choose a patient", &body)
}

/// Which of the patient's encounters it is about.
pub(super) fn encounter(
    ctx: &Ctx,
    asked: &Asked,
    fields: &Fields,
    patient: &(String, String),
    encounters: &Encounters,
) -> Response {
    let name = &asked.client.name;
    let again = html! { (carried(ctx, fields)) (chosen(ctx, Some(patient))) };
    let body = html! {
        div class="stack-wide" {
            (layout::head(&format!("Which visit is {name} about?"), &html! { "The app is told which one. That alone lets it see nothing of it. " (who(asked)) }, &html! {}))
            @if ctx.role() != Role::Patient { p { "Patient: " span class="strong" { (patient.1) } } }
            form class="filters inline-fields" method="post" action=(HERE) role="search" {
                (again)
                label { "Day" input type="date" name="day" value=(fields.get("day").unwrap_or_default()) autocomplete="off"; }
                button type="submit" name="decision" value="choose" { "Show that day" }
            }
            @match encounters {
                Encounters::None => {},
                Encounters::Wrong => (layout::empty("That can't be searched for", "Check the day.")),
                Encounters::TooMany => (layout::empty("Too many to list", "Give the day of the one that it is about.")),
                Encounters::Latest { rows, .. } if rows.is_empty() => (layout::empty("Nothing on that day", "Try another day, or go on without.")),
                Encounters::Latest { rows, more } => {
                    @if *more { p class="quiet" { "These are the latest. Give a day to see others." } }
                    form class="stack" method="post" action=(HERE) {
                        (again)
                        input type="hidden" name="decision" value="choose";
                        @for row in rows {
                            div class="spread card" {
                                span { (about::line(ctx, row)) }
                                button type="submit" name="encounter" value=(row.id().unwrap_or_default()) { "Choose" }
                            }
                        }
                    }
                }
            }
            form class="cluster" method="post" action=(HERE) {
                (again)
                input type="hidden" name="encounter" value=(NO_ENCOUNTER);
                button type="submit" name="decision" value="choose" { "Go on without" }
                button type="submit" name="decision" value="deny" { "Don't allow" }
            }
        }
    };
    shell(ctx, "Choose a visit", &body)
}
