//! The audit on the command line: checked, proved, exported, and the witnesses' words taken.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use ledger::{
    AuditLeaf, AuditReport, ConsistencyReport, Kind, Ledger, LedgerError, LogTile, SHARDS,
    STORE_TENANT, Shard, Tenant, Witnesses,
};

use super::{Bar, closing, open_existing, read_text};
use crate::cli::{ExportOptions, ProofFormat, ProveOptions, StoreArguments, WitnessArguments};
use crate::tenancy;
use crate::terminal::say;

/// What `cairn audit verify --json` prints.
#[derive(serde::Serialize)]
struct Verified<'a> {
    #[serde(flatten)]
    report: &'a AuditReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    consistency: Option<&'a ConsistencyReport>,
}

pub(crate) async fn verify(
    arguments: &StoreArguments,
    against: Option<&Path>,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let older = against.map(read_text).transpose()?;
    let ledger = open_existing(arguments).await?;
    let bar = Bar::leaves();
    let checked = async {
        let report = ledger
            .verify_audit(&|leaves| bar.leaves_checked(leaves))
            .await?;
        let consistency = match (&older, against) {
            (Some(older), Some(file)) => Some(
                ledger
                    .verify_against(older)
                    .await
                    .with_context(|| file.display().to_string())?,
            ),
            _ => None,
        };
        Ok((report, consistency))
    };
    let checked = checked.await;
    bar.finish();
    let (report, consistency) = closing(&ledger, checked).await?;
    let goes_on = (consistency.as_ref()).is_none_or(|consistency| consistency.broken.is_none());
    let sound = report.broken.is_none() && report.checkpoint_ok && goes_on;
    if json {
        let verified = Verified {
            report: &report,
            consistency: consistency.as_ref(),
        };
        say(&serde_json::to_string_pretty(&verified)?);
    } else {
        tell(&report, consistency.as_ref());
        if sound {
            say("Sound.");
        }
    }
    Ok(if sound {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn tell(report: &AuditReport, consistency: Option<&ConsistencyReport>) {
    say(&format!(
        "Checked {} leaves in {} trees, and the {} document versions that they stand for.",
        report.leaves, report.trees, report.documents
    ));
    if let Some(broken) = &report.broken {
        say(&format!(
            "BROKEN: first at leaf {} of tree {:02x}: {}",
            broken.leaf, broken.shard, broken.reason
        ));
    }
    say(if report.checkpoint_ok {
        "The newest signed checkpoint matches."
    } else {
        "BROKEN: the newest signed checkpoint is missing, is not signed by this store, or does not match the trees"
    });
    match consistency {
        None => {}
        Some(ConsistencyReport {
            broken: Some(broken),
            ..
        }) => say(&format!(
            "BROKEN: tree {:02x} does not go on from the older checkpoint: {}.",
            broken.shard, broken.reason
        )),
        Some(consistency) => {
            let added = |proof: &ledger::ConsistencyProof| proof.new_size - proof.old_size;
            say(&format!(
                "The older checkpoint is contained whole: its {} trees have only grown, by {} leaves.",
                consistency.trees.len(),
                consistency.trees.iter().map(added).sum::<u64>()
            ));
        }
    }
}

/// The witnesses of a file with their verifier keys, one a line.
pub(crate) fn witnesses(file: &Path, quorum: u16) -> anyhow::Result<Witnesses> {
    Witnesses::parse(&read_text(file)?, usize::from(quorum))
        .with_context(|| file.display().to_string())
}

fn trust_witnesses(ledger: &Ledger, arguments: &WitnessArguments) -> anyhow::Result<()> {
    if let Some(file) = &arguments.witness_keys {
        ledger.trust_witnesses(witnesses(file, arguments.witness_quorum)?)?;
    }
    Ok(())
}

/// The leaf that `SHARD/INDEX` or the id of an `AuditEvent` names: of the tenant that is said, or of whichever has
/// it.
async fn leaf_named(ledger: &Ledger, of: Option<&str>, name: &str) -> anyhow::Result<AuditLeaf> {
    let said = match of {
        Some(of) => Some(tenancy::named(ledger, Some(of)).await?.id),
        None => None,
    };
    if let Some((shard, index)) = name.split_once('/') {
        let place = Shard::parse(shard).zip(index.parse().ok());
        let (shard, index) = place.with_context(|| {
            format!("{name} names no leaf: SHARD/INDEX is two hexadecimal digits and a number, e.g. 3f/120")
        })?;
        let found = ledger.leaf_at(shard, index).await?;
        let leaf = found.with_context(|| format!("tree {shard} has no leaf {index}"))?;
        if said.is_some_and(|said| said != leaf.tenant()) {
            bail!("leaf {index} of tree {shard} is not of that tenant; leave --of out to prove it");
        }
        return Ok(leaf);
    }
    let tenants = match said {
        Some(said) => vec![said],
        None => {
            let list = ledger.tenants().await?.into_iter();
            let there = list.filter(Tenant::is_there).map(|tenant| tenant.id);
            there.chain([STORE_TENANT]).collect()
        }
    };
    let kind = Kind(fhir::ResourceType::AuditEvent.code());
    let mut found = Vec::new();
    for tenant in tenants {
        match ledger.get(tenant, kind, name).await {
            Ok(Some(event)) => found.push((tenant, event.at)),
            // A store whose tenants were never changed has no audit of its own.
            Ok(None) | Err(LedgerError::UnknownTenant(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let (tenant, at) = match found[..] {
        [one] => one,
        [] => bail!("there is no AuditEvent {name}"),
        _ => bail!("several tenants have an AuditEvent {name}: say --of which"),
    };
    let leaf = ledger.audit_leaf(tenant, at).await?;
    leaf.with_context(|| format!("AuditEvent {name} has no leaf"))
}

pub(crate) async fn prove(options: &ProveOptions) -> anyhow::Result<ExitCode> {
    let ledger = open_existing(&options.store).await?;
    let proof = async {
        trust_witnesses(&ledger, &options.witnesses)?;
        let leaf = leaf_named(&ledger, options.store.of.as_deref(), &options.leaf).await?;
        Ok(ledger.prove(&leaf).await?)
    };
    let proof = proof.await;
    let proof = closing(&ledger, proof).await?;
    match options.format {
        ProofFormat::Json => say(&serde_json::to_string_pretty(&proof)?),
        // It ends in a line break of its own, and its bytes are signed.
        ProofFormat::TlogProof => say(proof.tlog_proof.trim_end_matches('\n')),
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn cosign(
    store: &StoreArguments,
    arguments: &WitnessArguments,
    file: &Path,
) -> anyhow::Result<ExitCode> {
    if arguments.witness_keys.is_none() {
        bail!(
            "give --witness-keys FILE: the verifier keys of the witnesses that count, one a line"
        );
    }
    let cosigned = read_text(file)?;
    let ledger = open_existing(store).await?;
    let taken = async {
        trust_witnesses(&ledger, arguments)?;
        ledger
            .add_cosignatures(&cosigned)
            .await
            .with_context(|| file.display().to_string())
    };
    let taken = taken.await;
    let (shard, size, count) = closing(&ledger, taken).await?;
    say(&format!(
        "Kept {count} cosignatures on the checkpoint of tree {shard} with {size} leaves."
    ));
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn export(options: &ExportOptions) -> anyhow::Result<ExitCode> {
    let ledger = open_existing(&options.store).await?;
    let written = async {
        trust_witnesses(&ledger, &options.witnesses)?;
        write_all(&ledger, &options.to, options.entries).await
    };
    let written = written.await;
    let (files, leaves) = closing(&ledger, written).await?;
    say(&format!(
        "Wrote {files} new files to {}; its checkpoint has {leaves} leaves.",
        options.to.display()
    ));
    Ok(ExitCode::SUCCESS)
}

/// Writes what the server serves under `/audit/log/`. Checkpoints come after the tiles that they need,
/// and the one over all trees last, so that who copies the folder at any time has nothing that can't
/// be verified. Gives the number of new files and of leaves.
async fn write_all(ledger: &Ledger, to: &Path, entries: bool) -> anyhow::Result<(u64, u64)> {
    let newest = ledger.newest_checkpoint().await?;
    let over_all = to.join("checkpoint");
    if over_all.exists() {
        let report = ledger
            .verify_against(&read_text(&over_all)?)
            .await
            .with_context(|| over_all.display().to_string())?;
        if let Some(broken) = report.broken {
            bail!(
                "{} was exported before, and tree {:02x} does not go on from it: {}. Nothing was written",
                over_all.display(),
                broken.shard,
                broken.reason
            );
        }
    }
    let mut files = 0;
    let newest_sizes: HashMap<Shard, u64> = newest.trees.iter().copied().collect();
    for shard in (0..SHARDS).map(Shard) {
        let own = ledger.log_checkpoint(shard).await?;
        let witnessed = ledger.witnessed_checkpoint(shard).await?;
        // A witnessed checkpoint can be older than the log's own, and needs the last tiles of then.
        let mut sizes = BTreeSet::from_iter(newest_sizes.get(&shard).copied());
        for note in [Some(&own), witnessed.as_ref()].into_iter().flatten() {
            sizes.insert(
                leaves_of(note).with_context(|| format!("the checkpoint of tree {shard}"))?,
            );
        }
        let tiles: HashSet<LogTile> = sizes.into_iter().flat_map(LogTile::of_log).collect();
        for tile in tiles {
            if tile.is_entries() && !entries {
                continue;
            }
            let bytes = ledger
                .log_tile(shard, tile)
                .await?
                .with_context(|| format!("tree {shard} has no tile {}", tile.path()))?;
            let path = to.join(format!("{shard}/tile/{}", tile.path()));
            if keep(&path, &bytes)? {
                files += 1;
            }
        }
        let folder = to.join(shard.to_string());
        replace(&folder.join("checkpoint"), own.as_bytes())?;
        if let Some(witnessed) = witnessed {
            replace(&folder.join("checkpoint.witnessed"), witnessed.as_bytes())?;
        }
    }
    let keys = ledger.verifier_keys().join("\n") + "\n";
    replace(&to.join("keys"), keys.as_bytes())?;
    replace(&over_all, newest.note.as_bytes())?;
    Ok((files, newest.leaves()))
}

/// How many leaves a checkpoint covers: its second line (C2SP `tlog-checkpoint`).
fn leaves_of(note: &str) -> anyhow::Result<u64> {
    let line = note.lines().nth(1).context("it has one line")?;
    line.parse().context("its second line is no number")
}

/// Writes a file that never changes; gives whether it is new.
fn keep(path: &Path, bytes: &[u8]) -> anyhow::Result<bool> {
    match std::fs::read(path) {
        Ok(there) if there == bytes => return Ok(false),
        Ok(_) => bail!(
            "{} holds something else. Tiles never change: it was damaged, or is another store's",
            path.display()
        ),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    }
    replace(path, bytes)?;
    Ok(true)
}

/// Writes a file whole or not at all.
fn replace(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let written = || -> std::io::Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut name = path.as_os_str().to_owned();
        name.push(".new");
        let beside = PathBuf::from(name);
        let mut file = File::create(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    };
    written().with_context(|| path.display().to_string())
}
