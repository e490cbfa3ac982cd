//! Logs, traces and metrics of the process.

use std::sync::OnceLock;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::config::{LogFormat, LogSettings, Otlp};

/// Why logs or traces can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `log.filter` does not parse.
    #[error("log.filter: {0}")]
    Filter(String),
    /// The exporter of traces can't be made.
    #[error("otlp.endpoint: {0}")]
    Exporter(String),
    /// Logs were set up before in this process.
    #[error("logs are set up already")]
    Twice,
}

/// Keeps the exporter of traces; [`Telemetry::finish`] sends what is left.
#[must_use]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Sends the spans that are left. Blocks for as long as the exporter takes, a few seconds at
    /// most, so call it when all else is done.
    pub fn finish(self) {
        if let Some(traces) = self.traces
            && let Err(error) = traces.shutdown()
        {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

/// Sets up logs to standard error and, when configured, traces over OTLP/HTTP.
///
/// # Errors
/// [`TelemetryError`].
pub fn start(log: &LogSettings, otlp: &Otlp) -> Result<Telemetry, TelemetryError> {
    let filter = EnvFilter::try_new(&log.filter)
        .map_err(|error| TelemetryError::Filter(error.to_string()))?;
    let lines = match log.format {
        LogFormat::Json => tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .with_writer(std::io::stderr)
            .boxed(),
        LogFormat::Text => tracing_subscriber::fmt::layer()
            .with_ansi(crate::terminal::is_watched())
            .with_writer(std::io::stderr)
            .boxed(),
    };
    let traces = otlp
        .endpoint
        .as_deref()
        .map(|endpoint| exporter(endpoint, otlp.sample_ratio))
        .transpose()?;
    let spans = traces.as_ref().map(|provider| {
        // Only our own spans: what libraries put into theirs is not under our rule of no PHI.
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("cairn"))
            .with_filter(tracing_subscriber::filter::filter_fn(|metadata| {
                metadata.target().starts_with("cairn")
            }))
    });
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .with(spans)
        .try_init()
        .map_err(|_| TelemetryError::Twice)?;
    hide_panic_messages();
    Ok(Telemetry { traces })
}

fn exporter(endpoint: &str, sample_ratio: f64) -> Result<SdkTracerProvider, TelemetryError> {
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
        .with_headers(std::collections::HashMap::new())
        .build()
        .map_err(|error| TelemetryError::Exporter(error.to_string()))?;
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(
            sample_ratio,
        ))))
        .with_resource(
            opentelemetry_sdk::Resource::builder_empty()
                .with_service_name("cairn")
                .with_attribute(opentelemetry::KeyValue::new(
                    "service.version",
                    env!("CARGO_PKG_VERSION"),
                ))
                .build(),
        )
        .build())
}

/// A panic's message may hold what the code was working on, so the log gets its place only.
fn hide_panic_messages() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic
            .location()
            .map_or_else(String::new, ToString::to_string);
        tracing::error!(place, "panic");
    }));
}

/// The process's Prometheus recorder, installed on first use.
///
/// # Errors
/// In words, when another recorder is installed.
pub fn metrics() -> Result<PrometheusHandle, String> {
    static HANDLE: OnceLock<Result<PrometheusHandle, String>> = OnceLock::new();
    HANDLE
        .get_or_init(|| {
            // From a page out of the cache to a large transaction on a slow disk.
            let seconds = [
                0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
            ];
            // Powers of two up to the largest group that the ledger makes.
            let commits: Vec<f64> = (0..=10).map(|power| f64::from(1 << power)).collect();
            PrometheusBuilder::new()
                .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &seconds)
                .and_then(|builder| {
                    builder.set_buckets_for_metric(
                        Matcher::Full("ledger_group_commits".to_owned()),
                        &commits,
                    )
                })
                .and_then(PrometheusBuilder::install_recorder)
                .map_err(|error| error.to_string())
        })
        .clone()
}
