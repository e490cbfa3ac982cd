//! The demo's mailbox: what the demo's own mail server took instead of sending it to anybody.

use axum::extract::Path;
use axum::response::Response;
use maud::{Markup, html};

use crate::context::Ctx;
use crate::error::PageError;
use crate::layout::{self, Section, console};
use crate::time::signed;

/// Messages listed.
const SHOWN_MAX: usize = 100;

fn marked() -> Markup {
    html! { span class="tag demo-tag" { "Demo only" } }
}

/// `GET /console/mailbox`.
pub(crate) async fn page(ctx: Ctx) -> Result<Response, PageError> {
    ctx.staff()?;
    let mailbox = ctx.app.web.mailbox.as_ref().ok_or(PageError::NotFound)?;
    let messages = mailbox.messages(None, SHOWN_MAX);
    let sentence = html! {
        "What patients would have in their e-mail. The demo's own mail server keeps it here and sends nothing to anybody. "
        (layout::thousands(mailbox.count())) " so far"
        @if mailbox.count() > messages.len() as u64 { "; the newest " (messages.len()) " are listed" }
        "."
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
    let message = ctx
        .app
        .web
        .mailbox
        .as_ref()
        .and_then(|mailbox| mailbox.message(number))
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
