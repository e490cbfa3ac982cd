//! Routes for operators: health and metrics.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use ledger::SystemClock;

use super::Doors;
use crate::server::Follower;

pub(super) fn router() -> Router<Doors> {
    Router::new()
        .route("/health/live", get(|| async { "live\n" }))
        .route("/health/ready", get(ready))
        .route("/metrics", get(metrics))
}

/// Ready: the store answers and every follower runs. A policy set that is refused makes no server unready,
/// because the one before is in force; what is wrong with it is for the log and the console.
async fn ready(State(doors): State<Doors>) -> Response {
    if let Err(error) = doors.ledger.next_timer_ms().await {
        tracing::error!(%error, "the store does not answer");
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            "the store does not answer\n",
        )
            .into_response();
    }
    match stopped(&doors.followers) {
        Some(name) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{name} has stopped\n"),
        )
            .into_response(),
        None if doors.trust.policy_status().refused.is_some() => {
            "ready\nthe policy set in policy_folder is refused, and the one before is in force\n"
                .into_response()
        }
        None => "ready\n".into_response(),
    }
}

/// A follower that should run and doesn't.
fn stopped(followers: &[Follower]) -> Option<&'static str> {
    let stopped = followers.iter().find(|follower| !follower.is_running());
    stopped.map(|follower| follower.name)
}

/// Prometheus text. What moves by itself (ages, lags, sizes) is measured when it is asked for, so that it
/// is true whatever has become of those who work on it; the rest (commits, flushes, deliveries) the
/// contexts count as it happens, under their own names.
async fn metrics(State(doors): State<Doors>) -> Response {
    if let Err(error) = measure(&doors).await {
        tracing::error!(%error, "the store does not answer");
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            "the store does not answer\n",
        )
            .into_response();
    }
    doors.metrics.run_upkeep();
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        doors.metrics.render(),
    )
        .into_response()
}

#[allow(
    clippy::cast_precision_loss,
    reason = "gauges are floating-point numbers"
)]
async fn measure(doors: &Doors) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let ledger = &doors.ledger;
    let now_ms = ledger.clock().now_ms();
    let late = |due_ms: Option<u64>| {
        due_ms.map_or(0, |due_ms| now_ms.saturating_sub(due_ms)) as f64 / 1000.0
    };
    metrics::gauge!("cairn_timer_lateness_seconds").set(late(ledger.next_timer_ms().await?));
    metrics::gauge!("cairn_outbox_age_seconds").set(late(ledger.next_outbox_ms().await?));
    let behind_ms = doors.journeys.feed_lag_ms(doors.pages.tenant).await?;
    metrics::gauge!("journey_feed_lag_seconds").set(behind_ms as f64 / 1000.0);
    metrics::gauge!("cairn_clock_step_seconds").set(SystemClock::step_ms() as f64 / 1000.0);
    metrics::gauge!("cairn_newest_ahead_seconds").set(ledger.newest_ahead_ms() as f64 / 1000.0);
    let identity = doors.trust.identity();
    let waiting = identity.emergencies_waiting(doors.pages.tenant).await?;
    metrics::gauge!("cairn_emergency_reviews_open").set(waiting.open as f64);
    metrics::gauge!("cairn_emergency_reviews_overdue").set(waiting.overdue as f64);
    metrics::gauge!("cairn_store_bytes").set(ledger.disk_bytes() as f64);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_follower_that_ended_is_named() {
        let runs = || Follower::new("runs", tokio::spawn(std::future::pending()));
        let ended = tokio::spawn(async {});
        while !ended.is_finished() {
            tokio::task::yield_now().await;
        }
        assert_eq!(stopped(&[]), None);
        assert_eq!(stopped(&[runs()]), None);
        assert_eq!(
            stopped(&[runs(), Follower::new("mail", ended), runs()]),
            Some("mail")
        );
    }
}
