//! What a system is registered for: purposes, and whether there is a contract. Apps ask for what the people may
//! who let them in, so they have none.
use axum::extract::Path;
use axum::response::Response;
use maud::{Markup, html};
use trust::identity::{ClientView, Contract, Registered};
use trust::{PolicySet, Purpose};

use super::{done, permit};
use crate::context::{Ctx, Fields, Posted};
use crate::error::PageError;
use crate::layout::csrf;
use crate::patient::words::named;

fn contract_words(contract: Contract) -> &'static str {
    match contract {
        Contract::NotNeeded => "none is needed",
        Contract::Signed => "there is one",
        Contract::None => "there is none yet: nothing is disclosed",
    }
}

/// In a list.
pub(super) fn words(ctx: &Ctx, registered: &Registered) -> Markup {
    let set = ctx.app.web.trust.policy_set();
    let own = (registered.own().iter()).filter_map(|name| set.purposes().named(name));
    let each: Vec<&str> = (registered.purposes().iter().copied().chain(own))
        .map(named)
        .collect();
    html! {
        @if !each.is_empty() { br; span class="quiet small" { "For " (each.join(", ")) } }
        (gone(&set, registered))
        @match registered.contract() {
            Contract::NotNeeded => {},
            Contract::Signed => { br; span class="quiet small" { "Has a contract" } },
            Contract::None => { br; span class="small" { "No contract: nothing is disclosed to it" } },
        }
    }
}

/// What is registered and means nothing any more.
fn gone(set: &PolicySet, registered: &Registered) -> Markup {
    html! {
        @for name in registered.gone(set.purposes()) {
            br; span class="small" { "No purpose here any more, and refused: " span class="mono" { (name.code) } " (" (name.system) ")" }
        }
    }
}

/// The fields of a form.
pub(super) fn fields(ctx: &Ctx, now: Option<&Registered>) -> Markup {
    let set = ctx.app.web.trust.policy_set();
    let has = |purpose: Purpose| {
        now.is_some_and(|now| match purpose.own() {
            Some(own) => now.own().contains(&own.name()),
            None => now.purposes().contains(&purpose),
        })
    };
    html! {
        fieldset {
            legend class="strong" { "What it asks for" }
            span class="hint" { "It is refused whatever it asks for besides. People who treat a patient declare emergencies, so no system can" }
            @for purpose in Registered::CAN_BE.into_iter().chain(set.purposes().own()) {
                label class="choice" { input type="checkbox" name="purposes" value=(purpose.code()) checked[has(purpose)]; span { (named(purpose)) } }
            }
            @if let Some(now) = now { (gone(&set, now)) }
        }
        label { "Contract with those whose it is"
            select name="contract" {
                @for contract in Contract::ALL {
                    option value=(contract.name()) selected[now.is_some_and(|now| now.contract() == contract)] { (contract_words(contract)) }
                }
            }
        }
    }
}

/// What was chosen. At least one purpose has to be.
pub(super) fn of(ctx: &Ctx, fields: &Fields) -> Result<Registered, PageError> {
    let contract = match fields.get("contract") {
        None => Contract::default(),
        Some(name) => Contract::parse(name).ok_or_else(|| {
            PageError::Invalid("There is no such state of a contract.".to_owned())
        })?,
    };
    let purposes: Vec<&str> = fields.all("purposes").collect();
    let set = ctx.app.web.trust.policy_set();
    let typed = purposes.join(" ");
    Ok(Registered::parse_among(set.purposes(), &typed, contract)?)
}

/// Registers a system for something else.
pub(super) fn form(ctx: &Ctx, client: &ClientView, back: &str) -> Markup {
    html! {
        details id={ "purposes-" (client.id) } {
            summary class="button" { "Purposes…" }
            form class="ask stack" method="post" action={ "/console/clients/" (client.id) "/purposes" } {
                (csrf(ctx))
                input type="hidden" name="back" value=(back);
                p { "It counts from the system's next request on." }
                (fields(ctx, client.registered.as_ref()))
                button class="primary" type="submit" { "Register for these" }
            }
        }
    }
}

/// `POST /console/clients/{id}/purposes`.
pub(crate) async fn set(
    Path(id): Path<String>,
    Posted { ctx, fields }: Posted,
) -> Result<Response, PageError> {
    ctx.staff()?;
    let permit = permit(&ctx).await?;
    let registered = of(&ctx, &fields)?;
    let identity = ctx.app.web.trust.identity();
    identity.set_registered(&permit, &id, &registered).await?;
    Ok(done(&fields, "purposes", &id))
}
