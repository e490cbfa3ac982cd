//! Routes for operators: health and metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use ledger::{Ledger, SystemClock};

use metrics_exporter_prometheus::PrometheusHandle;

use super::gauges::Gauges;
use crate::houses::{Follower, Houses};

/// What these routes need.
#[derive(Clone)]
pub(crate) struct Office {
    pub(crate) ledger: Ledger,
    pub(crate) houses: Arc<Houses>,
    pub(crate) metrics: PrometheusHandle,
    pub(crate) followers: Arc<Vec<Follower>>,
    pub(crate) gauges: Arc<Gauges>,
}

const LIVE: &str = "/health/live";
const READY: &str = "/health/ready";
const METRICS: &str = "/metrics";

/// Whether a path is one of these, which are the server's and no tenant's.
pub(crate) fn is_for_operators(path: &str) -> bool {
    [LIVE, READY, METRICS].contains(&path)
}

pub(super) fn router() -> Router<Office> {
    Router::new()
        .route(LIVE, get(|| async { "live\n" }))
        .route(READY, get(ready))
        .route(METRICS, get(metrics))
}

/// Ready: the store answers and every follower runs. A policy set that is refused makes no server unready,
/// because the one before is in force; what is wrong with it is for the log and the console.
async fn ready(State(office): State<Office>) -> Response {
    if let Err(error) = office.ledger.next_timer_ms().await {
        tracing::error!(%error, "the store does not answer");
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            "the store does not answer\n",
        )
            .into_response();
    }
    let refused =
        |house: &Arc<crate::houses::House>| house.contexts.trust.policy_status().refused.is_some();
    match stopped(&office.followers).or_else(|| office.houses.stopped()) {
        Some(name) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{name} has stopped\n"),
        )
            .into_response(),
        None => {
            let mut words = "ready\n".to_owned();
            if office.houses.each().iter().any(refused) {
                words.push_str(
                    "the policy set in policy_folder is refused, and the one before is in force\n",
                );
            }
            let houses = office.houses.each();
            if houses.iter().any(|house| house.lacks_sms_session()) {
                words.push_str("text messages wait: there is no session with their provider\n");
            }
            let resting = resting(&houses);
            if !resting.is_empty() {
                words.push_str(&format!(
                    "deliveries pause, because the other side can't be reached or wants fewer: {}\n",
                    resting.join(", ")
                ));
            }
            match backup_is_late(&office).await {
                Ok(Some(hours)) => words.push_str(&format!(
                    "the newest backup is older than the {hours} hours that the rule pack lets, or there is none\n"
                )),
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(%error, "when the newest backup was taken can't be told");
                    words.push_str("when the newest backup was taken can't be told\n");
                }
            }
            words.into_response()
        }
    }
}

/// The channels whose other side is left alone now, and how many of these there are where it is several. Who they are is
/// for the metrics: this is told to whoever asks.
fn resting(houses: &[Arc<crate::houses::House>]) -> Vec<String> {
    let breakers = houses.iter().flat_map(|house| &house.breakers);
    let open = breakers.flat_map(exchange::Breakers::now);
    let open = open.filter(|view| view.standing == exchange::BreakerStanding::Open);
    let mut of: BTreeMap<&'static str, BTreeSet<String>> = BTreeMap::new();
    for view in open {
        of.entry(view.channel).or_default().insert(view.provider);
    }
    let of = of.into_iter();
    of.map(|(channel, who)| match who.len() {
        1 => channel.to_owned(),
        several => format!("{channel} ({several})"),
    })
    .collect()
}

#[allow(
    clippy::cast_precision_loss,
    reason = "both are compared as seconds, far below where that shows"
)]
/// How many hours old the newest backup may be, where it is older. That makes no server unready: one more that
/// doesn't answer helps nobody.
async fn backup_is_late(office: &Office) -> Result<Option<u64>, ledger::LedgerError> {
    let houses = office.houses.each();
    let hours = houses
        .iter()
        .filter_map(|house| house.contexts.backup_hours);
    let Some(hours) = hours.min() else {
        return Ok(None);
    };
    let age_s = backup_age_s(&office.ledger).await?;
    Ok((age_s > hours.saturating_mul(3600) as f64).then_some(hours))
}

#[allow(
    clippy::cast_precision_loss,
    reason = "gauges are floating-point numbers"
)]
/// How old the newest backup is, seconds; without one, infinitely old.
async fn backup_age_s(ledger: &Ledger) -> Result<f64, ledger::LedgerError> {
    let taken = ledger.last_backup_ms().await?;
    let now_ms = ledger.clock().now_ms();
    Ok(taken.map_or(f64::INFINITY, |taken| {
        now_ms.saturating_sub(taken) as f64 / 1000.0
    }))
}

/// A follower that should run and doesn't.
pub(crate) fn stopped(followers: &[Follower]) -> Option<&'static str> {
    let stopped = followers.iter().find(|follower| !follower.is_running());
    stopped.map(|follower| follower.name)
}

/// Prometheus text. What moves by itself (ages, lags, sizes) is measured when it is asked for, so that it
/// is true whatever has become of those who work on it; the rest (commits, flushes, deliveries) the
/// contexts count as it happens, under their own names.
async fn metrics(State(office): State<Office>) -> Response {
    if let Err(error) = measure(&office).await {
        tracing::error!(%error, "the store does not answer");
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            "the store does not answer\n",
        )
            .into_response();
    }
    office.metrics.run_upkeep();
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        office.metrics.render(),
    )
        .into_response()
}

#[allow(
    clippy::cast_precision_loss,
    reason = "gauges are floating-point numbers"
)]
async fn measure(office: &Office) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let ledger = &office.ledger;
    let now_ms = ledger.clock().now_ms();
    let late = |due_ms: Option<u64>| {
        due_ms.map_or(0, |due_ms| now_ms.saturating_sub(due_ms)) as f64 / 1000.0
    };
    // Of those that are served: what waits while a tenant is suspended is not late.
    let (mut timer_s, mut outbox_s, mut behind_ms) = (0.0_f64, 0.0_f64, 0);
    let (mut open, mut overdue) = (0, 0);
    let houses = office.houses.each();
    office.gauges.show(&houses);
    for house in houses {
        let of = &house.contexts;
        timer_s = timer_s.max(late(of.ledger.next_timer_ms().await?));
        outbox_s = outbox_s.max(late(of.ledger.next_outbox_ms().await?));
        behind_ms = behind_ms.max(of.journeys.feed_lag_ms(of.tenant).await?);
        if let Some(documents) = of.ledger.stored(of.tenant).await? {
            let tenant = house.entry.name.clone();
            metrics::gauge!("cairn_stored_resources", "tenant" => tenant).set(documents as f64);
        }
        let waiting = of.trust.identity().emergencies_waiting(of.tenant).await?;
        open += waiting.open;
        overdue += waiting.overdue;
    }
    metrics::gauge!("cairn_timer_lateness_seconds").set(timer_s);
    metrics::gauge!("cairn_outbox_age_seconds").set(outbox_s);
    metrics::gauge!("journey_feed_lag_seconds").set(behind_ms as f64 / 1000.0);
    metrics::gauge!("cairn_clock_step_seconds").set(SystemClock::step_ms() as f64 / 1000.0);
    metrics::gauge!("cairn_newest_ahead_seconds").set(ledger.newest_ahead_ms() as f64 / 1000.0);
    metrics::gauge!("cairn_emergency_reviews_open").set(open as f64);
    metrics::gauge!("cairn_emergency_reviews_overdue").set(overdue as f64);
    metrics::gauge!("cairn_backup_age_seconds").set(backup_age_s(ledger).await?);
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
