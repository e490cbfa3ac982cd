//! `cairn backup`, `cairn restore`, `cairn doctor`, `cairn outbox` and `cairn key shred-list`.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use ledger::{Moment, Number, Position, RestoreOptions, Severity, SystemClock};
use serde_json::Value;
use trust::Upkeep;

use super::{Bar, closing, location, open_existing, root_key};
use crate::cli::{BackupOptions, RestoreArguments, StoreArguments};
use crate::config::StoreSettings;
use crate::control::{self, BackedUp, Order, Outbox};
use crate::explaining::Decides;
use crate::operator::Operator;
use crate::store;
use crate::terminal::{say, warn};

/// Has an order carried out: by the server that has the store open, or here if none has.
pub(super) async fn order(store: &StoreArguments, order: Order) -> anyhow::Result<Value> {
    order_by(store, order, &Decides::BuiltIn).await
}

/// The same; `decides` is whose decisions are asked where no server has the store open.
pub(super) async fn order_by(
    store: &StoreArguments,
    order: Order,
    decides: &Decides<'_>,
) -> anyhow::Result<Value> {
    let bar = Arc::new(Bar::documents());
    // A store in a database is open to this command as well as to its servers.
    if let (Some(data), None) = (&store.data, &store.store_url) {
        let handed = control::hand_over(data, &order, |count| bar.documents_done(count)).await;
        if let Some(value) = handed.inspect_err(|_| bar.finish())? {
            bar.finish();
            return Ok(value);
        }
    }
    let ledger = open_existing(store).await?;
    let told = Arc::clone(&bar);
    let operator = Operator::here();
    let told = move |count| told.documents_done(count);
    let done = control::carry_out(&ledger, order, &operator, decides, told).await;
    bar.finish();
    closing(&ledger, done).await
}

fn moment(position: Position) -> String {
    format!(
        "{} (number {})",
        fhir::date::instant(position.unix_ms),
        position.number.0
    )
}

pub(crate) async fn backup(options: BackupOptions) -> anyhow::Result<ExitCode> {
    let (to, whole) = (options.to.absolute()?, options.whole);
    let keep = options.keep.map(|keep| keep as usize);
    let value = order(&options.store, Order::Backup { to, whole, keep }).await?;
    if options.json {
        say(&serde_json::to_string_pretty(&value)?);
        return Ok(ExitCode::SUCCESS);
    }
    let BackedUp { report, pruned } = serde_json::from_value(value)?;
    let what = if report.backup == 1 {
        "everything".to_owned()
    } else {
        format!("what came since backup {}", report.backup - 1)
    };
    say(&format!(
        "Backup {} of chain {}: {what}, {} documents and {} audit leaves in {} groups, {} bytes.",
        report.backup, report.chain, report.documents, report.leaves, report.groups, report.bytes
    ));
    say(&format!(
        "The chain restores any moment from {} to {}.",
        moment(report.first),
        moment(report.last)
    ));
    if !pruned.is_empty() {
        say(&format!("Removed old chains: {}.", pruned.join(", ")));
    }
    say("The root key is not in it: keep a copy of its file in another place.");
    Ok(ExitCode::SUCCESS)
}

/// A number, or a time in RFC 3339.
pub(crate) fn parse_moment(text: &str) -> Result<Moment, String> {
    if let Ok(number) = text.parse() {
        return Ok(Moment::Number(Number(number)));
    }
    let time: jiff::Timestamp = text.parse().map_err(|error| {
        format!("takes a sequence number, or a time such as 2026-11-27T08:30:00Z: {error}")
    })?;
    let unix_ms = u64::try_from(time.as_millisecond())
        .map_err(|_| "is before 1970, when nothing was written".to_owned())?;
    Ok(Moment::Time(unix_ms))
}

pub(crate) async fn restore(arguments: RestoreArguments) -> anyhow::Result<ExitCode> {
    if arguments.store.store_url.is_some() {
        bail!("a backup is restored into a folder: give --data DIR, not --store-url");
    }
    let key = root_key(&arguments.store)?;
    let mut shred_lists = Vec::new();
    for path in &arguments.shred_list {
        shred_lists.push(std::fs::read(path).with_context(|| path.display().to_string())?);
    }
    let cache_bytes = StoreSettings::default().cache_bytes;
    let to = arguments.to.unwrap_or(Moment::Newest);
    let options = RestoreOptions {
        source: arguments.from.open()?,
        open: store::options(
            location(&arguments.store)?,
            &key,
            Arc::new(SystemClock),
            cache_bytes,
        )?,
        to,
        chain: arguments.chain,
        shred_lists,
        release_outbox: arguments.release_outbox,
    };
    let bar = Arc::new(Bar::documents());
    let told = Arc::clone(&bar);
    let report = ledger::restore(options, move |count| told.documents_done(count)).await;
    bar.finish();
    let report = report?;
    let ledger = open_existing(&arguments.store).await?;
    let note = format!(
        "restored from chain {} in {}, as it was at number {}",
        report.chain, arguments.from, report.at.number.0
    );
    let recorded = Operator::here().did(&ledger, Upkeep::Restored, &note).await;
    closing(&ledger, recorded).await?;
    if arguments.json {
        say(&serde_json::to_string_pretty(&report)?);
        return Ok(ExitCode::SUCCESS);
    }
    say(&format!(
        "Restored chain {} as it was at {}: {} documents, {} audit leaves, {} destroyed keys, {} destroyed tenants.",
        report.chain,
        moment(report.at),
        report.documents,
        report.leaves,
        report.destroyed_keys,
        report.destroyed_tenants
    ));
    say("The audit of the new store was checked, all of it, and holds.");
    if let Moment::Time(unix_ms) = to
        && unix_ms > report.latest.unix_ms
    {
        warn(&format!(
            "The backup ends at {}, before the time that was asked for.",
            moment(report.latest)
        ));
    }
    if report.outbox_held {
        say(&format!(
            "The outbox is held: {} messages lie in it, and some may have been sent already. `cairn outbox list` shows \
             them, `cairn outbox discard` takes out what must not go, `cairn outbox release` lets the rest go.",
            report.outbox
        ));
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn doctor(
    arguments: &StoreArguments,
    repair: bool,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let key = root_key(arguments)?;
    let cache_bytes = StoreSettings::default().cache_bytes;
    let clock = Arc::new(SystemClock);
    let options = store::options(location(arguments)?, &key, clock, cache_bytes)?;
    let bar = Arc::new(Bar::documents());
    let told = Arc::clone(&bar);
    let report = ledger::doctor(options, repair, move |count| told.documents_done(count)).await;
    bar.finish();
    let report = report?;
    let now_ms = ledger::Clock::now_ms(&SystemClock);
    if json {
        say(&serde_json::to_string_pretty(&report)?);
    } else {
        say(&newest_backup(report.last_backup_ms, now_ms));
        say(&format!(
            "Checked {} documents, {} audit leaves, {} postings, {} keys, {} queued rows.",
            report.documents, report.leaves, report.postings, report.keys, report.queued
        ));
        for finding in &report.findings {
            let severity = match finding.severity {
                Severity::Notice => "notice",
                Severity::Repairable => "repairable",
                Severity::Damage => "DAMAGE",
            };
            say(&format!(
                "{severity}: {}: {} [{}]",
                finding.place, finding.what, finding.remedy
            ));
        }
        let all = report.damaged + report.repairable;
        if report.repaired > 0 {
            say(&format!(
                "{} of {all} repaired; run it again to see what is left.",
                report.repaired
            ));
        } else if report.damaged > 0 {
            say(&format!(
                "{} damaged, {} repairable. Nothing was changed, and nothing is repaired while something is damaged.",
                report.damaged, report.repairable
            ));
        } else if report.repairable > 0 {
            say(&format!(
                "{all} repairable. Nothing was changed; --repair writes them anew."
            ));
        } else {
            say("Sound.");
        }
    }
    Ok(if report.is_sound() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// How old the newest backup is, in words.
fn newest_backup(taken_ms: Option<u64>, now_ms: u64) -> String {
    let Some(taken_ms) = taken_ms else {
        return "No backup was taken of this store.".to_owned();
    };
    let hours = now_ms.saturating_sub(taken_ms) / 3_600_000;
    format!(
        "The newest backup is of {}, {hours} hours ago.",
        fhir::date::instant(taken_ms)
    )
}

pub(crate) async fn shred_list(store: &StoreArguments, to: &Path) -> anyhow::Result<ExitCode> {
    let value = order(store, Order::ShredList).await?;
    let text = value.as_str().unwrap_or_default();
    let bytes: Option<Vec<u8>> = (text.as_bytes().chunks(2))
        .map(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok())
        .collect();
    let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) else {
        bail!("the server's answer is no shred list");
    };
    std::fs::write(to, bytes).with_context(|| to.display().to_string())?;
    say(&format!("Wrote {}.", to.display()));
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn list_outbox(store: &StoreArguments, json: bool) -> anyhow::Result<ExitCode> {
    let value = order(store, Order::Outbox).await?;
    if json {
        say(&serde_json::to_string_pretty(&value)?);
        return Ok(ExitCode::SUCCESS);
    }
    let outbox: Outbox = serde_json::from_value(value)?;
    for entry in &outbox.entries {
        say(&format!(
            "{} channel {}, due {}",
            entry.id,
            entry.channel,
            fhir::date::instant(entry.due_ms)
        ));
    }
    say(&format!(
        "{} in the outbox; {}.",
        outbox.entries.len(),
        if outbox.held {
            "it is held, so nothing leaves it"
        } else {
            "they leave when they are due"
        }
    ));
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn release_outbox(store: &StoreArguments) -> anyhow::Result<ExitCode> {
    order(store, Order::ReleaseOutbox).await?;
    say("Released: what lies in the outbox leaves when it is due.");
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn discard_outbox(
    store: &StoreArguments,
    ids: Vec<String>,
) -> anyhow::Result<ExitCode> {
    let count = order(store, Order::DiscardOutbox { ids }).await?;
    say(&format!("{count} taken out, unsent."));
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_numbers_or_times() {
        assert_eq!(parse_moment("17"), Ok(Moment::Number(Number(17))));
        let at = Moment::Time(1_795_768_200_000);
        assert_eq!(parse_moment("2026-11-27T08:30:00Z"), Ok(at));
        assert_eq!(parse_moment("2026-11-27T09:30:00+01:00"), Ok(at));
        for text in ["", "yesterday", "2026-11-27", "1960-01-01T00:00:00Z"] {
            assert!(parse_moment(text).is_err(), "{text}");
        }
    }
}
