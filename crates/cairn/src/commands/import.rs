//! `cairn import`, and how progress is shown.

use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Duration;

use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use record::import::ImportProgress;
use tokio::time::Instant;
use trust::Agent;

use super::{closing, open, trust_over};
use crate::cli::ImportOptions;
use crate::terminal::{is_watched, say, warn};

/// How often a line is printed where nobody watches.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Lets the kernel give this process small pages only. An import allocates and gives back a bundle's memory
/// over and over, and each time the kernel cleared two MiB where some KiB were needed (decision 14).
fn take_small_pages() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "huge pages stay on, which only takes time");
    }
}

pub(crate) async fn import(options: ImportOptions) -> anyhow::Result<ExitCode> {
    take_small_pages();
    let ledger = open(&options.store).await?;
    let bar = Bar::bytes("importing");
    let result = async {
        let trust = trust_over(&ledger)?;
        let what = record::import::ImportOptions {
            paths: options.paths,
            rejects: options.rejects.clone(),
            parallel: usize::from(options.parallel),
        };
        let agent = Agent::system(super::tenant_of(&ledger), "importer");
        Ok(record::import::run(&trust, &agent, &what, &|progress| bar.imported(progress)).await?)
    };
    let result = result.await;
    bar.finish();
    let done = closing(&ledger, result).await?;
    say(&format!(
        "{} resources written, {} were there already, {} entries refused.",
        done.written, done.unchanged, done.rejected
    ));
    if done.rejected > 0 {
        warn(&format!(
            "cairn: refused entries and why are in {}",
            options.rejects.display()
        ));
        return Ok(ExitCode::from(3));
    }
    Ok(ExitCode::SUCCESS)
}

/// A progress bar where somebody watches; a line now and then where nobody does.
pub(crate) struct Bar {
    bar: ProgressBar,
    what: &'static str,
    started: Instant,
    last_line: Mutex<Instant>,
}

impl Bar {
    fn new(what: &'static str, template: &str) -> Self {
        let bar = if is_watched() {
            ProgressBar::no_length()
        } else {
            ProgressBar::hidden()
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━━─"));
        }
        bar.set_prefix(what);
        let now = Instant::now();
        Self {
            bar,
            what,
            started: now,
            last_line: Mutex::new(now),
        }
    }

    /// For something that reads input.
    pub(crate) fn bytes(what: &'static str) -> Self {
        Self::new(
            what,
            "{prefix} {bar:30} {bytes}/{total_bytes}  {msg}  {eta} left",
        )
    }

    /// For what goes through all documents.
    pub(crate) fn documents() -> Self {
        Self::new("working", "{prefix} {spinner} {pos} documents, {per_sec}")
    }

    /// Shows how many documents are done.
    pub(crate) fn documents_done(&self, documents: u64) {
        self.bar.set_position(documents);
        self.line(|_| format!("{}: {documents} documents", self.what));
    }

    /// For the check of the audit.
    pub(crate) fn leaves() -> Self {
        Self::new("checking", "{prefix} {spinner} {pos} leaves, {per_sec}")
    }

    /// For a rotation of keys.
    pub(crate) fn keys() -> Self {
        Self::new("rotating", "{prefix} {spinner} {pos} keys, {per_sec}")
    }

    /// Shows how far a rotation of keys is.
    pub(crate) fn keys_looked_at(&self, keys: u64) {
        self.bar.set_position(keys);
        self.line(|_| format!("{}: {keys} keys", self.what));
    }

    /// Shows nothing.
    pub(crate) fn silent() -> Self {
        let bar = Self::new("", "");
        bar.bar.set_draw_target(ProgressDrawTarget::hidden());
        bar
    }

    /// Shows how far an import is.
    pub(crate) fn imported(&self, progress: ImportProgress) {
        if let Some(total) = progress.bytes_total {
            self.bar.set_length(total);
        }
        self.bar.set_position(progress.bytes_read);
        let resources = progress.written + progress.unchanged;
        let a_second = per_second(resources, self.started.elapsed());
        self.bar.set_message(format!(
            "{resources} resources, {a_second}/s, {} refused",
            progress.rejected
        ));
        self.line(|elapsed| {
            let left = progress
                .bytes_total
                .filter(|_| progress.bytes_read > 0)
                .map_or_else(String::new, |total| {
                    let done = progress.bytes_read.min(total);
                    format!(
                        ", about {} left",
                        HumanDuration(elapsed.mul_f64(ratio(total - done, done)))
                    )
                });
            format!(
                "{}: {} read, {resources} resources, {a_second}/s, {} refused{left}",
                self.what,
                HumanBytes(progress.bytes_read),
                progress.rejected
            )
        });
    }

    /// Shows how far the check of the audit is.
    pub(crate) fn leaves_checked(&self, leaves: u64) {
        self.bar.set_position(leaves);
        self.line(|_| format!("{}: {leaves} leaves", self.what));
    }

    fn line(&self, words: impl FnOnce(Duration) -> String) {
        if !self.bar.is_hidden() {
            return;
        }
        let Ok(mut last) = self.last_line.lock() else {
            return;
        };
        if last.elapsed() >= LINE_EVERY {
            *last = Instant::now();
            warn(&words(self.started.elapsed()));
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

#[allow(clippy::cast_precision_loss, reason = "for a person to read")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / (whole.max(1)) as f64
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "for a person to read"
)]
fn per_second(count: u64, elapsed: Duration) -> u64 {
    (count as f64 / elapsed.as_secs_f64().max(0.001)) as u64
}
