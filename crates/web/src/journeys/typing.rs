//! Checks of a journey's file while somebody types in the studio: the same look as the button's, and of its answer
//! the parts of the page that it changes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::time::Instant;
use trust::Action;

use super::{checks, studio};
use crate::context::Posted;
use crate::error::PageError;

/// Where what is typed is sent to.
pub(super) const HERE: &str = "/console/studio/check";
/// Between the beginnings of two checks of one session. The page waits longer after a key than this, so that only
/// two pages of one session, or something that is no page of ours, meet it.
const PACE: Duration = Duration::from_millis(400);
/// What a page that came too early waits, in whole seconds, as the header has it.
const RETRY_S: u64 = 1;
/// Bytes of a file that is checked while somebody types. The checker itself stops at 512 KB, which the button says;
/// so much is not sent again and again.
const SOURCE_MAX: usize = 256 * 1024;
const TOO_LONG: &str =
    "The file is longer than 256 KB, so it is checked by the button and not as you type.";

/// Whose files are checked just now, or were a moment ago, by session. What is older is forgotten.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<HashMap<String, Turn>>);

#[derive(Debug, Clone, Copy)]
struct Turn {
    begun: Instant,
    busy: bool,
}

/// A session's turn, until it is dropped.
#[derive(Debug)]
struct Taken {
    turns: Arc<Turns>,
    session: String,
}

impl Turns {
    /// The session's turn, unless it has one already or had one a moment ago.
    fn take(self: &Arc<Self>, session: &str, now: Instant) -> Option<Taken> {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| turn.busy || now.duration_since(turn.begun) < PACE);
        if turns.contains_key(session) {
            return None;
        }
        let turn = Turn {
            begun: now,
            busy: true,
        };
        turns.insert(session.to_owned(), turn);
        Some(Taken {
            turns: self.clone(),
            session: session.to_owned(),
        })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut turns = self.turns.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = turns.get_mut(&self.session) {
            turn.busy = false;
        }
    }
}

/// Nothing was checked, and when to ask again.
fn later(status: StatusCode) -> Response {
    let wait = [(header::RETRY_AFTER, RETRY_S.to_string())];
    (status, wait, Json(json!({}))).into_response()
}

/// `POST /console/studio/check`: how the file stands, as `said` for who hears it and as the `parts` (id and HTML) of
/// the page. 429: this session's last check has not ended, or has only just begun. 503: there was no time for it.
/// 413: the file is too long for this.
pub(crate) async fn check(Posted { ctx, fields }: Posted) -> Result<Response, PageError> {
    ctx.staff()?;
    let permit = ctx.permit(Action::Observe, None, None).await?;
    let source = fields.raw("source").unwrap_or_default();
    let source = source.replace("\r\n", "\n");
    if source.len() > SOURCE_MAX {
        let said = Json(json!({ "said": TOO_LONG }));
        return Ok((StatusCode::PAYLOAD_TOO_LARGE, said).into_response());
    }
    let Some(turn) = ctx.app.typing.take(&ctx.session.id, Instant::now()) else {
        return Ok(later(StatusCode::TOO_MANY_REQUESTS));
    };
    let Some(looked) = studio::look_with(&ctx.app, permit, &source, turn).await? else {
        return Ok(later(StatusCode::SERVICE_UNAVAILABLE));
    };
    let parts = [
        ("looked", studio::beside_it(Some(&looked), &source)),
        ("differs", studio::against(Some(&looked))),
    ];
    let parts = parts.map(|(id, part)| json!({ "id": id, "html": part.into_string() }));
    let said = checks::spoken(&looked.0.findings);
    Ok(Json(json!({ "said": said, "parts": parts })).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_has_one_turn_at_a_time_and_not_too_often() {
        let turns = Arc::new(Turns::default());
        let begun = Instant::now();
        let first = turns.take("a", begun);
        assert!(first.is_some());
        let later = begun + PACE * 3;
        assert!(turns.take("a", later).is_none(), "it goes on");
        let other = turns.take("b", later);
        assert!(other.is_some(), "another session has its own");
        drop(first);
        let second = turns.take("a", later);
        assert!(second.is_some(), "it is over, and long ago begun");
        drop(second);
        let soon = later + PACE / 2;
        assert!(turns.take("a", soon).is_none(), "too soon");
        drop(other);
        let third = turns.take("a", later + PACE);
        assert!(third.is_some());
        assert_eq!(turns.0.lock().unwrap().len(), 1, "the others are forgotten");
    }
}
