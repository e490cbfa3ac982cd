//! What can go wrong on the way to a page, and the page that says so.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};

use crate::context::{App, RequestInfo, escape};
use crate::layout;
use crate::step_up::Asking;

/// Why there is no page. The layer around all routes turns it into one (see `headers.rs`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PageError {
    /// There is no such page, or it is not this person's.
    #[error("not found")]
    NotFound,
    /// Policy, consent or scope says no; the words may be shown.
    #[error("refused: {0}")]
    Refused(String),
    /// The form does something sensitive: a second factor is asked for again.
    #[error("a second factor is asked for again")]
    StepUp(Box<Asking>),
    /// The form did not carry the session's token.
    #[error("the form's token does not match the session")]
    Forged,
    /// No session: where to come back to after signing in.
    #[error("signed out")]
    SignedOut(Option<String>),
    /// Somebody else changed it meanwhile.
    #[error("changed meanwhile")]
    Conflict,
    /// The request makes no sense; in words without patient details.
    #[error("{0}")]
    Invalid(String),
    /// Too many tries.
    #[error("too many tries")]
    LockedOut(u64),
    /// There is no place for more of such work just now: of the organisation's (false), or of this server's.
    #[error("no place for more of such work")]
    Busy(bool),
    /// The request is larger than the server takes.
    #[error("too long")]
    TooLong,
    /// The patient's key was destroyed.
    #[error("the key of this record has been destroyed")]
    Erased,
    /// A fault of ours; for the log, never for the page.
    #[error("{0}")]
    Internal(String),
}

impl From<trust::TrustError> for PageError {
    fn from(error: trust::TrustError) -> Self {
        match error {
            trust::TrustError::Refused(refusal) => Self::Refused(refusal.reason),
            trust::TrustError::Ledger(ledger::LedgerError::Conflict)
            | trust::TrustError::Repeated => Self::Conflict,
            trust::TrustError::Ledger(ledger::LedgerError::KeyDestroyed) => Self::Erased,
            trust::TrustError::Ledger(ledger::LedgerError::Full { most }) => {
                Self::Invalid(format!(
                    "This organisation stores as many resources as it may ({most}). Ask its operator for more."
                ))
            }
            trust::TrustError::SignIn => Self::SignedOut(None),
            trust::TrustError::LockedOut { wait_s } => Self::LockedOut(wait_s),
            trust::TrustError::Invalid(words) | trust::TrustError::TooCostly(words) => {
                Self::Invalid(words)
            }
            trust::TrustError::Unanswerable(outcome) => Self::Invalid(outcome.summary()),
            error @ (trust::TrustError::Ledger(_)
            | trust::TrustError::Damaged(_)
            | trust::TrustError::NotYet(_)
            | trust::TrustError::Policy(_)) => Self::Internal(error.to_string()),
        }
    }
}

impl From<journey::JourneyError> for PageError {
    fn from(error: journey::JourneyError) -> Self {
        match error {
            journey::JourneyError::Trust(error) => error.into(),
            journey::JourneyError::Unknown(_) => Self::NotFound,
            journey::JourneyError::Cannot(why) => {
                Self::Invalid(format!("This can't be done: {why}."))
            }
            journey::JourneyError::Busy { of_all } => Self::Busy(of_all),
            journey::JourneyError::Broken(words) => Self::Internal(words),
            journey::JourneyError::NotStarted(why) => Self::Invalid(why.to_string()),
            journey::JourneyError::Findings(findings) => {
                Self::Invalid(format!("The journey has {} finding(s).", findings.len()))
            }
        }
    }
}

impl From<ledger::LedgerError> for PageError {
    fn from(error: ledger::LedgerError) -> Self {
        trust::TrustError::Ledger(error).into()
    }
}

impl PageError {
    /// The page for an answer that a part below the pages made in plain words of its own, such as an
    /// address that is no UTF-8.
    pub(crate) fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Self::NotFound,
            StatusCode::PAYLOAD_TOO_LARGE => Self::TooLong,
            status if status.is_client_error() => Self::Invalid(
                "The request can't be read. Go back, load the page again and try once more."
                    .to_owned(),
            ),
            status => Self::Internal(format!("a part below the pages answered {status}")),
        }
    }
    fn status(&self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Refused(_) | Self::Forged | Self::StepUp(_) => StatusCode::FORBIDDEN,
            Self::SignedOut(_) => StatusCode::UNAUTHORIZED,
            Self::Conflict => StatusCode::CONFLICT,
            Self::Invalid(_) => StatusCode::BAD_REQUEST,
            Self::LockedOut(_) | Self::Busy(false) => StatusCode::TOO_MANY_REQUESTS,
            Self::Busy(true) => StatusCode::SERVICE_UNAVAILABLE,
            Self::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Erased => StatusCode::GONE,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
    /// Title, and what happened and what to do next.
    fn words(&self) -> (&'static str, String) {
        match self {
            Self::NotFound => ("Page not found", "There is nothing at this address, or it is not yours to see. Check the address, or go back to the start.".to_owned()),
            // A policy's reason is for those who look after policies; first comes what it means.
            Self::Refused(reason) if reason.starts_with(char::is_lowercase) => (
                "Not allowed",
                "Your role does not open this. That you tried is in the audit, as every refusal is."
                    .to_owned(),
            ),
            Self::Refused(reason) => ("Not allowed", reason.clone()),
            Self::Forged => ("The form was too old", "This form did not come from a page of your present session, so nothing was changed. Go back, load the page again and send it once more.".to_owned()),
            Self::StepUp(_) => ("Confirm that it is you", String::new()),
            Self::SignedOut(_) => ("Please sign in", "You are signed out.".to_owned()),
            Self::Conflict => ("Changed meanwhile", "Somebody else, or the journey, changed this while you had it open. Nothing of yours was saved. Load the page again to see how it is now.".to_owned()),
            Self::Invalid(words) => ("That did not work", words.clone()),
            Self::LockedOut(wait_s) => ("Too many tries", format!("For safety, sign-in is closed for a while. Try again in {wait_s} seconds.")),
            Self::Busy(_) => ("Others are looking ahead, too", format!("What would come of it is worked out for as many people at once as may be. Nothing was done. Try again in {} seconds.", journey::BUSY_RETRY_S)),
            Self::TooLong => ("Too long", "What you sent is larger than this server takes, so nothing was saved. Send less, or ask your administrator for the limit.".to_owned()),
            Self::Erased => ("This record was erased", "The key of this record was destroyed, so nobody can read it any more, here or in any copy.".to_owned()),
            Self::Internal(_) => ("Something went wrong on our side", "Nothing was lost that you were told was saved. Try again in a moment. If it stays so, tell your administrator the number below.".to_owned()),
        }
    }
    /// The designed page.
    pub(crate) fn page(&self, app: &App, request: &RequestInfo) -> Response {
        if let Self::SignedOut(back) = self {
            let target = back.as_deref().filter(|path| *path != "/").map_or_else(
                || "/sign-in".to_owned(),
                |path| format!("/sign-in?next={}", escape(path)),
            );
            return Redirect::to(&target).into_response();
        }
        let status = self.status();
        let (title, words) = self.words();
        if let Self::StepUp(asking) = self {
            // The page's own address takes forms only.
            let elsewhere = RequestInfo {
                here: "/".to_owned(),
                ..request.clone()
            };
            let page = layout::bare_as(app, &elsewhere, title, None, &asking.body(app));
            return (status, page).into_response();
        }
        let body: Markup = html! {
            div class="stack narrow" {
                p class="quiet" { "Error " (status.as_u16()) }
                h1 { (title) }
                p { (words) }
                @if let Self::Refused(reason) = self && *reason != words { p class="quiet" { "The reason: " (reason) "." } }
                @if !request.id.is_empty() { p class="quiet small" { "Request " code { (request.id) } } }
                p { a class="button" href="/" { "Back to the start" } }
            }
        };
        // The address may hold what somebody typed by mistake, so it is not said again.
        let class = request.here.starts_with("/portal").then_some("portal");
        let elsewhere = RequestInfo {
            here: "/".to_owned(),
            ..request.clone()
        };
        let page = layout::bare_as(app, &elsewhere, title, class, &body);
        let mut response = (status, page).into_response();
        let wait_s = match self {
            Self::LockedOut(wait_s) => Some(*wait_s),
            Self::Busy(_) => Some(journey::BUSY_RETRY_S),
            _ => None,
        };
        if let Some(wait_s) = wait_s
            && let Ok(value) = wait_s.to_string().parse()
        {
            response.headers_mut().insert(header::RETRY_AFTER, value);
        }
        response
    }
}

/// Carries the error to the layer that knows how to show it.
impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}
