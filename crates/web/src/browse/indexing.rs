//! How far a search parameter of one's own is, on its own page.

use maud::{Markup, html};
use serde_json::Value;
use trust::Role;

use super::explain::{named, number, text};
use super::{caller, json};
use crate::context::Ctx;
use crate::layout::{self, State};

/// For who may define search parameters: whether this one is in force, and what is indexed by it.
pub(super) async fn status(ctx: &Ctx, id: &str) -> Markup {
    // Asking as anybody else would be a refusal in the audit.
    if ctx.role() != Role::Administrator {
        return html! {};
    }
    let record = &ctx.app.web.record;
    let told = match record
        .search_parameter_status(&caller(ctx, ctx.role().purpose()), id)
        .await
    {
        Ok(answer) => json(&answer),
        // The organisation's own policies may say otherwise.
        Err(_) => return html! {},
    };
    match told {
        Ok(told) => shown(&told),
        Err(_) => html! {},
    }
}

fn shown(told: &Value) -> Markup {
    let reason = named(told, "reason").next();
    let reason = reason.and_then(|one| one["valueString"].as_str());
    html! {
        section class="section stack" aria-labelledby="indexing" {
            h2 id="indexing" { "Searching by it" }
            @if let Some(reason) = reason {
                p { (layout::state(State::Waiting, "Not in force")) ": " (reason) "." }
            }
            @for base in named(told, "base") {
                @let (documents, left) = (number(base, "documents"), number(base, "unindexed"));
                p {
                    @if text(base, "state") == "complete" { (layout::state(State::Done, "Complete")) } @else { (layout::state(State::Running, "Indexing")) }
                    " " (text(base, "type")) ": " (layout::thousands(documents.saturating_sub(left))) " of " (layout::thousands(documents)) " indexed"
                    @if left > 0 { ". The others are looked at one by one, so every search is right" }
                    "."
                }
            }
        }
    }
}
