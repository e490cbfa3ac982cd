//! The audit trees' logs as static files (C2SP `tlog-tiles`), and where witnesses bring their
//! cosignatures.
//!
//! Checkpoints and tiles of hashes show how many leaves each tree has and nothing else. In a small
//! house that may say when one patient's record is looked at, so they are for who may read the audit,
//! unless the configuration opens them to everybody. Entries show tenants, times and counts, and are
//! never open.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use ledger::{LedgerError, LogTile, Shard};
use serde_json::json;
use trust::{Action, Purpose, Target};

use super::Doors;
use super::api::{refuse, who};
use super::layers::RequestId;

/// A tile never changes.
const FOR_EVER: &str = "max-age=31536000, immutable";
/// A checkpoint is a new one every second while the log grows.
const FOR_NOW: &str = "no-cache";

pub(super) fn router() -> Router<Doors> {
    Router::new()
        .route("/audit/log/checkpoint", get(over_all))
        .route("/audit/log/keys", get(keys))
        .route("/audit/log/cosignatures", post(cosignatures))
        .route("/audit/log/{shard}/checkpoint", get(checkpoint))
        .route("/audit/log/{shard}/checkpoint.witnessed", get(witnessed))
        .route("/audit/log/{shard}/tile/{*tile}", get(tile))
}

fn text(body: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::CACHE_CONTROL, FOR_NOW),
    ];
    (headers, body).into_response()
}

fn absent(words: &str) -> Response {
    let headers = [(header::CACHE_CONTROL, FOR_NOW)];
    (
        StatusCode::NOT_FOUND,
        headers,
        Json(json!({ "error": words })),
    )
        .into_response()
}

fn no_such_log() -> Response {
    absent("there is no such log: their names are 00 to ff")
}

/// A fault of the store is never "not found".
fn fault(error: &LedgerError) -> Response {
    if let LedgerError::Invalid(reason) = error {
        return (StatusCode::BAD_REQUEST, Json(json!({ "error": reason }))).into_response();
    }
    tracing::error!(%error, "the audit's log can't be read");
    let status = match error {
        LedgerError::Closed => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, Json(json!({ "error": "an internal error" }))).into_response()
}

/// Whether the caller may read what is kept from others; the answer to give if not.
async fn admit(doors: &Doors, headers: &HeaderMap, request: &RequestId) -> Result<(), Response> {
    let agent = who(doors, headers).await?;
    let (purpose, action) = (Purpose::Operations, Action::Audit);
    let decided = (doors.trust).decide(&agent, purpose, action, Target::default(), &request.0);
    decided.await.map(drop).map_err(|error| refuse(&error))
}

/// As [`admit`], but where the configuration opens the log to everybody.
async fn admit_to_hashes(
    doors: &Doors,
    headers: &HeaderMap,
    request: &RequestId,
) -> Result<(), Response> {
    if doors.open_audit_log {
        return Ok(());
    }
    admit(doors, headers, request).await
}

/// `GET /audit/log/checkpoint`: the newest checkpoint over all trees.
async fn over_all(
    State(doors): State<Doors>,
    Extension(request): Extension<RequestId>,
    headers: HeaderMap,
) -> Result<Response, Response> {
    admit_to_hashes(&doors, &headers, &request).await?;
    let newest = doors.ledger.newest_checkpoint().await;
    Ok(text(newest.map_err(|error| fault(&error))?.note))
}

/// `GET /audit/log/keys`: the verifier keys, one a line: that of the checkpoint over all trees, then
/// that of each log, in order.
async fn keys(
    State(doors): State<Doors>,
    Extension(request): Extension<RequestId>,
    headers: HeaderMap,
) -> Result<Response, Response> {
    admit_to_hashes(&doors, &headers, &request).await?;
    Ok(text(doors.ledger.verifier_keys().join("\n") + "\n"))
}

/// `GET /audit/log/{shard}/checkpoint`: the newest checkpoint of a log.
async fn checkpoint(
    State(doors): State<Doors>,
    Extension(request): Extension<RequestId>,
    Path(shard): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Response> {
    admit_to_hashes(&doors, &headers, &request).await?;
    let shard = Shard::parse(&shard).ok_or_else(no_such_log)?;
    let note = doors.ledger.log_checkpoint(shard).await;
    Ok(text(note.map_err(|error| fault(&error))?))
}

/// `GET /audit/log/{shard}/checkpoint.witnessed`: the newest checkpoint that enough witnesses have
/// cosigned.
async fn witnessed(
    State(doors): State<Doors>,
    Extension(request): Extension<RequestId>,
    Path(shard): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Response> {
    admit_to_hashes(&doors, &headers, &request).await?;
    let shard = Shard::parse(&shard).ok_or_else(no_such_log)?;
    let note = doors.ledger.witnessed_checkpoint(shard).await;
    let note = note.map_err(|error| fault(&error))?;
    let words = "no checkpoint of this log has been cosigned by enough witnesses";
    note.map(text).ok_or_else(|| absent(words))
}

/// `GET /audit/log/{shard}/tile/…`: a tile of hashes, or a bundle of entries.
async fn tile(
    State(doors): State<Doors>,
    Extension(request): Extension<RequestId>,
    Path((shard, tile)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Response> {
    let no_such_tile = || absent("the log has no such tile");
    let tile = LogTile::parse(&tile);
    let entries = tile.is_some_and(|tile| tile.is_entries());
    let open = doors.open_audit_log && !entries;
    if !open {
        admit(&doors, &headers, &request).await?;
    }
    if entries && doors.is_named {
        // They tell when and how often others' records were looked at.
        let words = "the entries of the log are of all organisations on this store; an operator exports those of one \
                     with `cairn tenant export`";
        return Err((StatusCode::FORBIDDEN, Json(json!({ "error": words }))).into_response());
    }
    let shard = Shard::parse(&shard).ok_or_else(no_such_log)?;
    let bytes = doors
        .ledger
        .log_tile(shard, tile.ok_or_else(no_such_tile)?)
        .await
        .map_err(|error| fault(&error))?
        .ok_or_else(no_such_tile)?;
    let audience = if open { "public" } else { "private" };
    let cache = HeaderValue::from_str(&format!("{audience}, {FOR_EVER}"));
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/octet-stream"),
        ),
        (
            header::CACHE_CONTROL,
            cache.unwrap_or(HeaderValue::from_static(FOR_NOW)),
        ),
    ];
    Ok((headers, bytes).into_response())
}

/// `POST /audit/log/cosignatures`: the body is a log's checkpoint with lines of witnesses added. The
/// token says only who may take up the server's time; what counts is the witness's signature.
async fn cosignatures(
    State(doors): State<Doors>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Response> {
    who(&doors, &headers).await?;
    let words =
        |status: StatusCode, words: &str| (status, Json(json!({ "error": words }))).into_response();
    let body = body.map_err(|rejection| words(rejection.status(), "the body could not be read"))?;
    let note = std::str::from_utf8(&body)
        .map_err(|_| words(StatusCode::BAD_REQUEST, "a signed note is UTF-8 text"))?;
    let taken = doors.ledger.add_cosignatures(note).await;
    let (shard, size, count) = taken.map_err(|error| fault(&error))?;
    let taken = json!({ "log": shard.to_string(), "size": size, "cosignatures": count });
    Ok(Json(taken).into_response())
}
