//! The demo's mailbox: what the demo's own mail server took instead of sending it to anybody.
//!
//! A message is shown to who may read the `Communication` that it delivered, which is read for it
//! under a permit and so stands in the audit with its patient.

use std::collections::HashSet;

use axum::extract::Path;
use axum::response::Response;
use exchange::sink::SunkMessage;
use fhir::ResourceType;
use maud::{Markup, html};
use trust::Action;

use crate::context::{Ctx, query};
use crate::error::PageError;
use crate::layout::{self, Section, console};
use crate::time::signed;

/// Messages listed.
const SHOWN_MAX: usize = 100;

/// The id of the `Communication` that a message delivered: its digits are the left side of the
/// `Message-ID`. `None` for what came from elsewhere.
fn communication(message: &SunkMessage) -> Option<String> {
    let (digits, _) = message.message_id.split_once('@')?;
    let is_hex = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| {
        let part = |from: usize, to: usize| &digits[from..to];
        [
            part(0, 8),
            part(8, 12),
            part(12, 16),
            part(16, 20),
            part(20, 32),
        ]
        .join("-")
    })
}

/// Those of the messages whose `Communication` this person may read, and reads hereby.
async fn readable(ctx: &Ctx, messages: Vec<SunkMessage>) -> Result<Vec<SunkMessage>, PageError> {
    let permit = ctx
        .permit(Action::Search, Some(ResourceType::Communication), None)
        .await?;
    let ids: Vec<String> = messages.iter().filter_map(communication).collect();
    // A message lies here as it went out: whoever sees a part of it in the record sees none of it here.
    if ids.is_empty() || permit.shows_in_part(ResourceType::Communication) {
        return Ok(Vec::new());
    }
    let query = query(
        ResourceType::Communication,
        &[("_id", &ids.join(","))],
        ids.len(),
    )?;
    let page = ctx.vault().search(&permit, &query, None).await?;
    let found: HashSet<&str> = page
        .rows
        .iter()
        .filter_map(|row| row.resource.id())
        .collect();
    Ok(messages
        .into_iter()
        .filter(|message| communication(message).is_some_and(|id| found.contains(id.as_str())))
        .collect())
}

fn marked() -> Markup {
    html! { span class="tag demo-tag" { "Demo only" } }
}

/// `GET /console/mailbox`.
pub(crate) async fn page(ctx: Ctx) -> Result<Response, PageError> {
    ctx.staff()?;
    let mailbox = ctx.app.web.mailbox.as_ref().ok_or(PageError::NotFound)?;
    let messages = readable(&ctx, mailbox.messages(None, SHOWN_MAX)).await?;
    let sentence = html! {
        "What patients would have in their e-mail. The demo's own mail server keeps it here and sends nothing to anybody. "
        (layout::thousands(mailbox.count())) " so far"
        @if mailbox.count() > messages.len() as u64 { "; the newest " (messages.len()) " are listed" }
        ". Looking at them is a look at the patients' records, and stands in the audit."
    };
    let body = html! {
        (layout::head("Mailbox", &sentence, &marked()))
        @if messages.is_empty() { (layout::empty("No mail yet", "It comes as soon as a journey sends some: wait a moment and load the page again.")) }
        @else {
            div class="scroll" {
                table {
                    thead { tr { th scope="col" { "Came" } th scope="col" { "To" } th scope="col" { "Subject" } } }
                    tbody data-rows {
                        @for message in &messages {
                            tr data-key=(message.number) {
                                td class="nowrap" { (ctx.times.wall(signed(message.received_ms))) }
                                td { (message.to) }
                                th scope="row" { a data-act="open" href={ "/console/mailbox/" (message.number) } { (message.subject) } }
                            }
                        }
                    }
                }
            }
        }
    };
    Ok(console(&ctx, "Mailbox", Section::Mailbox, None, &body))
}

/// The text with its web addresses as links.
fn linked(text: &str) -> Markup {
    let parts = text.split_inclusive(char::is_whitespace).map(|word| {
        let trimmed = word.trim_end().trim_end_matches(['.', ',', ')', '>']);
        let bare = trimmed.trim_start_matches(['<', '(']);
        if bare.starts_with("http://") || bare.starts_with("https://") {
            let start = trimmed.len() - bare.len();
            (&word[..start], Some(bare), &word[trimmed.len()..])
        } else {
            (word, None, "")
        }
    });
    html! { @for (before, link, after) in parts { (before) @if let Some(link) = link { a href=(link) { (link) } } (after) } }
}

/// `GET /console/mailbox/{number}`.
pub(crate) async fn message(ctx: Ctx, Path(number): Path<u64>) -> Result<Response, PageError> {
    ctx.staff()?;
    let mailbox = ctx.app.web.mailbox.as_ref().ok_or(PageError::NotFound)?;
    let found: Vec<SunkMessage> = mailbox.message(number).into_iter().collect();
    let message = readable(&ctx, found)
        .await?
        .pop()
        .ok_or(PageError::NotFound)?;
    let body = html! {
        p class="crumbs" { a href="/console/mailbox" { "Mailbox" } }
        div class="head" { h1 { (message.subject) } (marked()) }
        div class="stack-wide" {
            dl class="facts" {
                dt { "To" } dd { (message.to) }
                dt { "Came" } dd { (ctx.times.exact(signed(message.received_ms))) }
                dt { "Message-ID" } dd class="mono" { (message.message_id) }
            }
            div class="card pre-line" { (linked(&message.text)) }
            p class="quiet" { "The link asks for the patient's date of birth: it stands on the patient's page. Following it signs you out here and in as the patient; a private window keeps both." }
        }
    };
    Ok(console(&ctx, "Message", Section::Mailbox, None, &body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_become_links_and_the_rest_is_escaped() {
        let html = linked("Open <b> (http://127.0.0.1:8080/sign-in/link/ab). Bye\n").into_string();
        assert_eq!(
            html,
            "Open &lt;b&gt; (<a href=\"http://127.0.0.1:8080/sign-in/link/ab\">http://127.0.0.1:8080/sign-in/link/ab</a>). Bye\n"
        );
    }
}
