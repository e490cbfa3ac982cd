//! What a patient has paid for in full, and wants kept from the health plan (45 CFR 164.522(a)(1)(vi)): the general
//! form with what the law names already chosen, so that nobody has to know it.
use maud::{Markup, html};
use trust::Role;

use super::form::Choices;
use crate::context::Ctx;
use crate::layout::csrf;

/// The form. It says what the general one says of one visit, to one payer, for payment and operations.
pub(super) fn form(ctx: &Ctx, action: &str, choices: &Choices) -> Markup {
    let is_visit = |value: &str| value.starts_with("Encounter/");
    let mut visits = choices
        .entries
        .iter()
        .filter(|(value, _)| is_visit(value))
        .peekable();
    let is_staff = ctx.role() != Role::Patient;
    html! {
        @if visits.peek().is_some() && (is_staff || !choices.actors.is_empty()) {
            details id="paid" {
                summary { "Paid in full: keep it from the payer" }
                form class="stack" method="post" action=(action) {
                    (csrf(ctx))
                    input type="hidden" name="do" value="new";
                    input type="hidden" name="type" value="deny";
                    input type="hidden" name="related" value="yes";
                    input type="hidden" name="purpose" value="HPAYMT";
                    input type="hidden" name="purpose" value="HOPERAT";
                    p { "Whoever paid for a visit in full, out of their own pocket, can have it kept from the health plan. The visit and what belongs to it are not shown to the payer for payment and operations; who treats the patient sees them as before." }
                    @if choices.actors.is_empty() {
                        label { "Payer" span class="hint" { "As Type/id, e.g. Organization/x" } input type="text" name="actor" required autocomplete="off"; }
                    } @else {
                        label { "Payer" select name="actor" required {
                            option value="" { "Choose" }
                            @for (value, words) in &choices.actors { option value=(value) { (words) } }
                        } }
                    }
                    label { "Visit" select name="entry" required {
                        option value="" { "Choose" }
                        @for (value, words) in visits { option value=(value) { (words) } }
                    } }
                    button class="primary" type="submit" { "Show what this would change" }
                }
            }
        }
    }
}
