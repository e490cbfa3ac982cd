//! Who has looked at my record: the patient's own audit, in sentences, each with its proof.

use axum::extract::Path;
use axum::response::Response;
use fhir::ResourceType;
use ledger::Number;
use maud::{Markup, html};
use trust::{Action, Permit, Role};

use crate::audit::{event, proof_file, proof_words, prove};
use crate::context::{Ctx, Fields, query};
use crate::error::PageError;
use crate::layout::{self, PortalSection, portal};
use crate::sentence::Sentence;

/// Lines on a page.
const PAGE: usize = 50;

async fn permit(ctx: &Ctx, action: Action) -> Result<Permit, PageError> {
    ctx.permit(
        action,
        Some(ResourceType::AuditEvent),
        Some(ctx.own_patient()?),
    )
    .await
}

/// The sentence in the second person.
fn plain(sentence: &Sentence) -> Markup {
    let own = sentence.role == Some(Role::Patient);
    let what = if own {
        sentence.what.replace("who they are", "who you are")
    } else {
        sentence
            .what
            .replace("who they are", "who you are (name, birth date, address)")
    };
    let purpose = match sentence.purpose.as_str() {
        "TREAT" => "to treat you",
        "CAREMGT" => "to look after you",
        "PATRQT" => "",
        _ => sentence.purpose_words(),
    };
    html! {
        span class="strong" { @if own { "You" } @else { (sentence.actor()) } }
        " " (what)
        @if !own && !purpose.is_empty() { " " (purpose) }
        @if sentence.refused { ". " span class="refused" { "This was not allowed, and did not happen." } } @else { "." }
    }
}

/// `GET /portal/record`.
pub(crate) async fn page(ctx: Ctx, fields: Fields) -> Result<Response, PageError> {
    let patient = ctx.own_patient()?;
    let permit = permit(&ctx, Action::Search).await?;
    let query = query(
        ResourceType::AuditEvent,
        &[("patient", &format!("Patient/{patient}"))],
        PAGE,
    )?;
    let before = fields
        .get("before")
        .and_then(|number| number.parse().ok())
        .map(Number);
    let found = ctx.vault().search(&permit, &query, before).await?;
    let sentences: Vec<Sentence> = found
        .rows
        .iter()
        .map(|row| Sentence::of(&ctx.times, &row.resource))
        .collect();
    let body = html! {
        div class="stack-wide" {
            div class="stack" {
                h1 { "Who looked at your record" }
                p { "Every time somebody looks at your record or changes it, it is written down here. Nobody can take a line out, not even us. If a line surprises you, please ask us." }
            }
            @if sentences.is_empty() { (layout::empty("Nothing here", "Nobody has looked at your record.")) }
            ol {
                @for sentence in &sentences {
                    li class="sentence" {
                        span { (plain(sentence)) }
                        span class="quiet small" { (ctx.times.plain(sentence.at_ms)) " · " a href={ "/portal/record/" (sentence.id) } { "Proof" span class="visually-hidden" { " of " (ctx.times.exact(sentence.at_ms)) } } }
                    }
                }
            }
            @if let Some(next) = found.next { p { a class="button" href={ "/portal/record?before=" (next.0) } { "Older" } } }
        }
    };
    Ok(portal(
        &ctx,
        "Who looked at your record",
        Some(PortalSection::Record),
        None,
        &body,
    ))
}

/// `GET /portal/record/{id}`: one line with its proof.
pub(crate) async fn proof(ctx: Ctx, Path(id): Path<String>) -> Result<Response, PageError> {
    let permit = permit(&ctx, Action::Read).await?;
    let found = event(&ctx, &permit, &id).await?;
    let sentence = Sentence::of(&ctx.times, &found.resource);
    let proof = prove(&ctx, &found).await?;
    let body = html! {
        div class="stack-wide" {
            div {
                p class="crumbs" { a href="/portal/record" { "Who looked at your record" } }
                h1 { "Proof of one line" }
            }
            p { (plain(&sentence)) br; span class="quiet small" { (ctx.times.exact(sentence.at_ms)) } }
            p { "This proof shows that the line stands in our books and was not changed since. You can keep it, and give it to anybody who should check it." }
            (proof_words(&proof, &format!("/portal/record/{id}/proof.json")))
        }
    };
    Ok(portal(
        &ctx,
        "Proof",
        Some(PortalSection::Record),
        None,
        &body,
    ))
}

/// `GET /portal/record/{id}/proof.json`.
pub(crate) async fn proof_json(ctx: Ctx, Path(id): Path<String>) -> Result<Response, PageError> {
    let permit = permit(&ctx, Action::Read).await?;
    let found = event(&ctx, &permit, &id).await?;
    proof_file(&id, &found, &prove(&ctx, &found).await?)
}
