//! How the audit is kept: the newest signed checkpoint, who witnesses it, and what to take away to
//! check it elsewhere.

use axum::http::header;
use axum::response::{IntoResponse, Response};
use fhir::ResourceType;
use ledger::{LedgerError, WitnessState};
use maud::{Markup, html};
use trust::Action;

use crate::context::Ctx;
use crate::error::PageError;
use crate::layout::{self, Section, State, console};
use crate::time::signed;

const HERE: &str = "/console/checkpoint";

fn fault(error: &LedgerError) -> PageError {
    PageError::Internal(error.to_string())
}

/// The log is for who may read the audit.
async fn admit(ctx: &Ctx) -> Result<(), PageError> {
    ctx.staff()?;
    ctx.permit(Action::Audit, Some(ResourceType::AuditEvent), None)
        .await?;
    Ok(())
}

fn witness_row(ctx: &Ctx, witness: &WitnessState, logs: usize) -> Markup {
    let newest_ms = signed(witness.newest_unix_s.saturating_mul(1000));
    html! {
        tr {
            th scope="row" { (witness.name) }
            td {
                @if witness.logs == 0 { (layout::state(State::Waiting, "Not heard of yet")) }
                @else { (layout::state(State::Done, "Cosigns")) }
            }
            td { (layout::thousands(witness.logs)) " of " (layout::count_of(logs, "tree")) }
            td { @if witness.newest_unix_s > 0 { (ctx.times.wall(newest_ms)) } @else { span class="quiet" { "never" } } }
        }
    }
}

/// `GET /console/checkpoint`.
pub(crate) async fn page(ctx: Ctx) -> Result<Response, PageError> {
    admit(&ctx).await?;
    let ledger = ctx.app.ledger();
    let newest = ledger.newest_checkpoint().await;
    let newest = newest.map_err(|error| fault(&error))?;
    let states = ledger.witness_states().await;
    let states = states.map_err(|error| fault(&error))?;
    let quorum = ledger.witnesses().quorum();
    let logs = newest.trees.len();
    let body = html! {
        p class="crumbs" { a href="/console/audit" { "Audit" } }
        (layout::head(
            "Signed state of the audit",
            &html! { "Keep a checkpoint somewhere else. Whatever is changed or cut off after it was signed can then be shown." },
            &html! { a class="button primary" href={ (HERE) "/file" } download { "Download the checkpoint" } },
        ))
        div class="stack-wide" {
            dl class="facts" {
                dt { "Signed" } dd { (ctx.times.both(signed(newest.unix_ms))) }
                dt { "Audit leaves" } dd { (layout::thousands(newest.leaves())) " in " (layout::count_of(logs, "tree")) }
                dt { "Verifier keys" } dd { a href={ (HERE) "/keys" } download { "Download" } " and give them to whoever is to check, by a way of their own" }
            }
            section class="stack" aria-labelledby="witnesses" {
                h2 id="witnesses" { "Witnesses" }
                @if states.is_empty() {
                    (layout::empty("No witness is named", "Name the keys of other organisations with audit.witness_keys_file. Each confirms that the audit has only grown, so that nobody can be shown another one."))
                } @else {
                    p class="quiet" { "A checkpoint counts as witnessed when " (layout::count_of(quorum, "of them")) @if quorum == 1 { " has" } @else { " have" } " cosigned it." }
                    div class="scroll" {
                        table {
                            thead { tr { th scope="col" { "Name" } th scope="col" { "State" } th scope="col" { "Has cosigned" } th scope="col" { "Last" } } }
                            tbody { @for witness in &states { (witness_row(&ctx, witness, logs)) } }
                        }
                    }
                }
            }
            section class="stack" aria-labelledby="check" {
                h2 id="check" { "How to check it later" }
                p { "With the server stopped, " code { "cairn audit verify --against" } " and the checkpoint's file says whether everything under it is still there, unchanged. Without Cairn, any tool for C2SP transparency logs can: each tree is one, under " code { "/audit/log/" } "." }
            }
            section class="stack" aria-labelledby="checkpoint" { h2 id="checkpoint" { "The checkpoint" } pre tabindex="0" { code { (newest.note) } } }
        }
    };
    Ok(console(
        &ctx,
        "Signed state of the audit",
        Section::Audit,
        None,
        &body,
    ))
}

fn attachment(name: &str, text: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8".to_owned()),
        (
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{name}\""),
        ),
    ];
    (headers, text).into_response()
}

/// `GET /console/checkpoint/file`.
pub(crate) async fn file(ctx: Ctx) -> Result<Response, PageError> {
    admit(&ctx).await?;
    let newest = ctx.app.ledger().newest_checkpoint().await;
    let newest = newest.map_err(|error| fault(&error))?;
    let name = format!("audit-{}.checkpoint", newest.unix_ms);
    Ok(attachment(&name, newest.note))
}

/// `GET /console/checkpoint/keys`.
pub(crate) async fn keys(ctx: Ctx) -> Result<Response, PageError> {
    admit(&ctx).await?;
    let keys = ctx.app.ledger().verifier_keys().join("\n") + "\n";
    Ok(attachment("audit.verifier-keys", keys))
}
