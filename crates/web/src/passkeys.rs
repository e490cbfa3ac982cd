//! Forms that a passkey fills in, and signing in with one. The script `assets/passkey.js` shows them where a
//! browser can do it; without it they stay hidden.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use maud::{Markup, html};
use trust::identity::PasskeyQuestion;

use crate::assets;
use crate::context::{App, cookie};
use crate::error::PageError;
use crate::sign_in::{checked, go_on, login_page, safe_next, trouble};

/// A form that a passkey fills in.
pub(crate) struct Form<'a> {
    pub(crate) id: &'a str,
    /// `make` or `show`.
    pub(crate) what: &'a str,
    pub(crate) action: &'a str,
    /// Where a newer question is to be had, for pages that stay open.
    pub(crate) again: Option<&'a str>,
    /// Names of the fields for the question and the answer.
    pub(crate) names: (&'a str, &'a str),
    pub(crate) question: &'a PasskeyQuestion,
    pub(crate) word: &'a str,
    /// Whether it is what most people want on this page.
    pub(crate) primary: bool,
}

/// Draws it, with `inside` before its button.
pub(crate) fn form(app: &App, form: &Form<'_>, inside: &Markup) -> Markup {
    let Some(party) = &app.party else {
        return html! {};
    };
    let (sealed, answer) = form.names;
    html! {
        form id=(form.id) class="fields" method="post" action=(form.action) data-passkey=(form.what) data-origin=(party.origin) data-again=[form.again] data-options=(form.question.options) hidden {
            (inside)
            input type="hidden" name=(sealed) value=(form.question.sealed) data-sealed;
            input type="hidden" name=(answer) value="" data-answer;
            p class="problem" role="alert" hidden {}
            div { button class=[form.primary.then_some("primary")] type="submit" { (form.word) } }
        }
        script src=(assets::PASSKEY.url) defer {}
    }
}

/// `POST /sign-in/passkey`: alone, or after a password with its ticket.
pub(crate) async fn sign_in(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, PageError> {
    let (info, headers, fields) = checked(&app, request).await?;
    let party = app.party.as_ref().ok_or(PageError::NotFound)?;
    let browser = cookie(&headers, app.form_cookie()).unwrap_or_default();
    let next = safe_next(fields.get("next"));
    let (sealed, answer) = (
        fields.get("sealed").unwrap_or_default(),
        fields.get("answer").unwrap_or_default(),
    );
    let identity = app.web.trust.identity();
    let entered = match fields.get("ticket") {
        Some(ticket) => {
            identity
                .second_factor_passkey(party, ticket, browser, sealed, answer)
                .await
        }
        None => {
            identity
                .passkey(party, app.web.tenant, browser, sealed, answer)
                .await
        }
    };
    match entered {
        Ok(step) => go_on(&app, &info, &headers, step, "", next, None).await,
        Err(error) => {
            let words = trouble(
                error,
                "The passkey was not taken: it is not known here any more, or it came too late. Start again.",
            )?;
            login_page(&app, &info, &headers, next, Some(&words))
        }
    }
}
