//! Everything of a tenant in one folder: its resources as NDJSON by type, its audit with the proof of each
//! record, and a manifest by which it can be checked that nothing is missing or changed.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, bail, ensure};
use aws_lc_rs::digest;
use fhir::ResourceType;
use ledger::{Ledger, Tenant};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use trust::{Action, Agent, EXPORTER, Purpose, Target, Trust, Whole};

const FORMAT: &str = "cairn-tenant-export-1";
const MANIFEST: &str = "manifest.json";
/// What a reader might look for, and why it isn't there.
const NOT_HERE: [&str; 5] = [
    "earlier versions and deleted resources",
    "resources of patients whose key was destroyed",
    "passwords, second factors, tokens and other secrets, and the accounts and clients that have them",
    "journeys under way, their timers, and messages that wait",
    "policies and configuration, which lie in files",
];

/// One file of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part {
    /// Below the folder.
    path: String,
    /// The resource type; none for proofs.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// Lines.
    count: u64,
    bytes: u64,
    sha256: String,
}

impl fmt::Display for Part {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:9}  {}", self.count, self.path)
    }
}

/// What is in an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    format: String,
    pub(crate) tenant: Tenant,
    /// The store's name in its audit.
    store: String,
    /// What was written up to this number is in.
    as_of: u64,
    as_of_time: String,
    pub(crate) files: Vec<Part>,
    not_included: Vec<String>,
}

/// A file on its way, with what the manifest says of it.
struct Out {
    path: String,
    kind: Option<ResourceType>,
    file: BufWriter<File>,
    digest: digest::Context,
    count: u64,
    bytes: u64,
}

impl Out {
    fn create(folder: &Path, path: String, kind: Option<ResourceType>) -> anyhow::Result<Self> {
        let full = folder.join(&path);
        let mut options = File::options();
        options.write(true).create_new(true).mode(0o600);
        let file = options
            .open(&full)
            .with_context(|| full.display().to_string())?;
        Ok(Self {
            path,
            kind,
            file: BufWriter::new(file),
            digest: digest::Context::new(&digest::SHA256),
            count: 0,
            bytes: 0,
        })
    }

    fn line(&mut self, mut line: Vec<u8>) -> anyhow::Result<()> {
        line.push(b'\n');
        self.digest.update(&line);
        self.count += 1;
        self.bytes += line.len() as u64;
        Ok(self.file.write_all(&line)?)
    }

    fn finish(self) -> anyhow::Result<Part> {
        let file = self
            .file
            .into_inner()
            .map_err(std::io::IntoInnerError::into_error)?;
        file.sync_all()?;
        Ok(Part {
            path: self.path,
            kind: self.kind.map(|kind| kind.to_string()),
            count: self.count,
            bytes: self.bytes,
            sha256: crate::control::hex(self.digest.finish().as_ref()),
        })
    }
}

/// A folder for the owner alone, empty.
fn empty_folder(to: &Path) -> anyhow::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder
        .create(to)
        .with_context(|| to.display().to_string())?;
    let mut entries = std::fs::read_dir(to).with_context(|| to.display().to_string())?;
    ensure!(
        entries.next().is_none(),
        "{} is not empty: an export has a folder of its own",
        to.display()
    );
    for below in ["fhir", "audit"] {
        builder.create(to.join(below))?;
    }
    Ok(())
}

/// Writes everything that a tenant has now into a folder. The caller has written into the audit that it does.
pub(super) async fn export(
    ledger: &Ledger,
    trust: &Trust,
    tenant: &Tenant,
    to: &Path,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> anyhow::Result<Manifest> {
    empty_folder(to)?;
    let agent = Agent::system(tenant.id, EXPORTER);
    let permit = trust
        .decide(
            &agent,
            Purpose::Operations,
            Action::Export,
            Target::default(),
            "",
        )
        .await?;
    let whole = trust.vault().everything(&permit)?;
    let as_of = whole.as_of().await?;
    let mut files = Vec::new();
    let mut done = 0;
    for kind in ResourceType::all() {
        if kind == ResourceType::AuditEvent {
            continue;
        }
        files.extend(resources(&whole, kind, to, &mut done, progress).await?);
    }
    files.extend(audit(ledger, &whole, tenant, to, &mut done, progress).await?);
    let manifest = Manifest {
        format: FORMAT.to_owned(),
        tenant: tenant.clone(),
        store: ledger.verifier_keys().first().cloned().unwrap_or_default(),
        as_of: as_of.0,
        as_of_time: fhir::date::instant(as_of.unix_ms()),
        files,
        not_included: NOT_HERE.map(str::to_owned).to_vec(),
    };
    // Last, so that an export that was cut short is none.
    let mut options = File::options();
    options.write(true).create_new(true).mode(0o600);
    let mut file = options.open(to.join(MANIFEST))?;
    file.write_all(&serde_json::to_vec_pretty(&manifest)?)?;
    file.sync_all()?;
    for folder in [to.join("fhir"), to.join("audit"), to.to_owned()] {
        File::open(folder)?.sync_all()?;
    }
    Ok(manifest)
}

/// The file of one type; none where there is no resource of it.
async fn resources(
    whole: &Whole,
    kind: ResourceType,
    to: &Path,
    done: &mut u64,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> anyhow::Result<Option<Part>> {
    let mut out: Option<Out> = None;
    let mut before = None;
    loop {
        let (rows, next) = whole.page(kind, before).await?;
        for row in rows {
            let out = match &mut out {
                Some(out) => out,
                None => out.insert(Out::create(to, format!("fhir/{kind}.ndjson"), Some(kind))?),
            };
            out.line(row.resource.to_json())?;
            *done += 1;
        }
        progress(*done);
        let Some(next) = next else { break };
        before = Some(next);
        tokio::task::yield_now().await;
    }
    out.map(Out::finish).transpose()
}

/// The audit's records, and of each, in the same order, the proof that it is in its tree.
async fn audit(
    ledger: &Ledger,
    whole: &Whole,
    tenant: &Tenant,
    to: &Path,
    done: &mut u64,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> anyhow::Result<Vec<Part>> {
    let kind = ResourceType::AuditEvent;
    let mut events = Out::create(to, "audit/AuditEvent.ndjson".to_owned(), Some(kind))?;
    let mut proofs = Out::create(to, "audit/proofs.ndjson".to_owned(), None)?;
    let mut before = None;
    loop {
        let (rows, next) = whole.page(kind, before).await?;
        for row in rows {
            let id = row.resource.id().unwrap_or_default();
            let leaf = ledger.audit_leaf(tenant.id, row.at).await?;
            let leaf = leaf.with_context(|| format!("AuditEvent {id} has no leaf"))?;
            let proof = ledger.prove(&leaf).await?;
            proofs.line(serde_json::to_vec(
                &serde_json::json!({ "id": id, "proof": proof }),
            )?)?;
            events.line(row.resource.to_json())?;
            *done += 1;
        }
        progress(*done);
        let Some(next) = next else { break };
        before = Some(next);
        tokio::task::yield_now().await;
    }
    Ok(vec![events.finish()?, proofs.finish()?])
}

/// Checks an export against its manifest: every file is there and no other, each as it was written, each line a
/// resource of its type under an id of its own, and a proof for each record of the audit.
pub(crate) fn check(folder: &Path) -> anyhow::Result<Manifest> {
    let text = std::fs::read(folder.join(MANIFEST)).with_context(|| {
        format!(
            "{} holds no whole export: {MANIFEST} is not there",
            folder.display()
        )
    })?;
    let manifest: Manifest = serde_json::from_slice(&text).context(MANIFEST)?;
    ensure!(
        manifest.format == FORMAT,
        "the manifest's format is {:?}, not {FORMAT}",
        manifest.format
    );
    let mut listed = BTreeSet::new();
    for part in &manifest.files {
        listed.insert(part.path.clone());
        check_part(folder, part).with_context(|| part.path.clone())?;
    }
    for below in ["fhir", "audit"] {
        for entry in std::fs::read_dir(folder.join(below))? {
            let name = entry?.file_name();
            let path = format!("{below}/{}", name.to_string_lossy());
            ensure!(listed.contains(&path), "{path} is not in the manifest");
        }
    }
    let count = |path: &str| {
        let part = manifest.files.iter().find(|part| part.path == path);
        part.map(|part| part.count)
    };
    ensure!(
        count("audit/AuditEvent.ndjson") == count("audit/proofs.ndjson"),
        "not every record of the audit has its proof"
    );
    Ok(manifest)
}

fn check_part(folder: &Path, part: &Part) -> anyhow::Result<()> {
    // A manifest from elsewhere leads nowhere else.
    let plain = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'.')
    };
    let named = part.path.split_once('/').is_some_and(|(below, name)| {
        ["fhir", "audit"].contains(&below) && plain(name) && !name.starts_with('.')
    });
    ensure!(named, "is no file of an export");
    let mut reader = BufReader::new(File::open(folder.join(&part.path))?);
    let (mut digest, mut count, mut bytes) = (digest::Context::new(&digest::SHA256), 0, 0);
    let mut ids = BTreeSet::new();
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        digest.update(&line);
        (count, bytes) = (count + 1, bytes + line.len() as u64);
        let value: Value =
            serde_json::from_slice(&line).with_context(|| format!("line {count} is no JSON"))?;
        let id = value["id"]
            .as_str()
            .with_context(|| format!("line {count} has no id"))?;
        ensure!(
            ids.insert(id.to_owned()),
            "line {count} has the id of an earlier one"
        );
        if let Some(kind) = &part.kind
            && value["resourceType"].as_str() != Some(kind)
        {
            bail!("line {count} is no {kind}");
        }
        line.clear();
    }
    let sha256 = crate::control::hex(digest.finish().as_ref());
    ensure!(
        (count, bytes, &sha256) == (part.count, part.bytes, &part.sha256),
        "is not as it was written: {count} lines, {bytes} bytes, SHA-256 {sha256}; the manifest says {} lines, {} bytes, \
         SHA-256 {}",
        part.count,
        part.bytes,
        part.sha256
    );
    Ok(())
}
