//! Everything of a tenant in one folder: its resources as NDJSON by type, what they were before, its people and
//! systems without their secrets, its journeys, its audit with the proof of each record, a manifest by which it can be
//! checked that nothing is missing or changed, and the proof that the manifest stands in the audit.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, bail, ensure};
use aws_lc_rs::digest;
use fhir::ResourceType;
use ledger::{Hit, Kind, Ledger, Tenant};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use trust::{
    Action, Agent, EXPORTER, EarlierVersion, OwnDocument, Purpose, TAKEN, Taken, Target, Trust,
    Whole, kinds,
};

const FORMAT: &str = "cairn-tenant-export-2";
/// What was written before there were earlier versions, people and journeys in it, and no proof of the manifest.
const FORMAT_BEFORE: &str = "cairn-tenant-export-1";
const MANIFEST: &str = "manifest.json";
/// The record of the audit that names the manifest's hash, and the proof that it is there.
const PROOF: &str = "proof.json";
/// The folders below it.
const FOLDERS: [&str; 5] = ["fhir", "history", "people", "journeys", "audit"];
/// What a reader might look for, and why it isn't there.
const NOT_HERE: [&str; 7] = [
    "what belongs to patients whose key was destroyed: nobody can read it",
    "password hashes, secrets of one-time codes, passkeys' credentials, hashes of clients' and sessions' secrets, access \
     tokens, sign-in links, signing keys, the key that push services know and where devices are notified: they would open this organisation's doors, or are of no use elsewhere",
    "sessions that have ended, sign-ins under way and failed ones, and links into visits by video: the audit tells of them",
    "the words of reviews of accesses that nothing explained",
    "timers and messages that wait, and the state of subscriptions, imports, bulk exports and looks through records under way: they belong to \
     the store that carries them out",
    "counts and lists of journeys, which are made from their states",
    "policies, purposes and configuration, which lie in files beside the store",
];
/// The documents of the journeys, each as it is kept.
const JOURNEYS: [(&str, Kind); 13] = [
    ("definitions", kinds::JOURNEY_DEFINITION),
    ("stages", kinds::JOURNEY_STAGE),
    ("instances", kinds::JOURNEY_INSTANCE),
    ("trails", kinds::JOURNEY_TRAIL),
    ("batches", kinds::JOURNEY_BATCH),
    ("batch-parts", kinds::JOURNEY_BATCH_PART),
    ("migrations", kinds::JOURNEY_MIGRATION),
    ("beginnings", journey::BEGINNINGS),
    ("segment-members", journey::SEGMENT_MEMBERS),
    ("message-books", journey::MESSAGE_BOOK),
    ("text-questions", kinds::TEXT_QUESTION),
    ("dead-letters", journey::DEAD_LETTER),
    ("address-marks", kinds::ADDRESS_MARK),
];

/// One file of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part {
    /// Below the folder.
    path: String,
    /// The resource type; none for what is no FHIR.
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
    /// Versions of resources and of documents of Cairn's own that are there and that nobody can open, because their
    /// patient's key was destroyed.
    #[serde(default)]
    pub(crate) unreadable: u64,
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
    for below in FOLDERS {
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
    let (earlier, unreadable) = history(&whole, to, &mut done, progress).await?;
    files.extend(earlier);
    for list in &TAKEN {
        let name = format!("people/{}", list.name);
        files.push(documents(&whole, Of::People(list), &name, to, &mut done, progress).await?);
    }
    let stops = (Of::Kind(kinds::TEXT_STOP), "people/text-stops");
    files.push(documents(&whole, stops.0, stops.1, to, &mut done, progress).await?);
    for (name, kind) in JOURNEYS {
        let name = format!("journeys/{name}");
        files.push(documents(&whole, Of::Kind(kind), &name, to, &mut done, progress).await?);
    }
    files.extend(audit(ledger, &whole, tenant, to, &mut done, progress).await?);
    let manifest = Manifest {
        format: FORMAT.to_owned(),
        tenant: tenant.clone(),
        store: ledger.verifier_keys().first().cloned().unwrap_or_default(),
        as_of: as_of.0,
        as_of_time: fhir::date::instant(as_of.unix_ms()),
        files,
        unreadable,
        not_included: NOT_HERE.map(str::to_owned).to_vec(),
    };
    write(to, MANIFEST, &serde_json::to_vec_pretty(&manifest)?)?;
    for folder in FOLDERS.map(|below| to.join(below)) {
        File::open(folder)?.sync_all()?;
    }
    File::open(to)?.sync_all()?;
    Ok(manifest)
}

fn write(to: &Path, name: &str, text: &[u8]) -> anyhow::Result<()> {
    let mut options = File::options();
    options.write(true).create_new(true).mode(0o600);
    let mut file = options.open(to.join(name))?;
    file.write_all(text)?;
    Ok(file.sync_all()?)
}

/// SHA-256 of a folder's manifest, as the audit names it.
pub(super) fn manifest_hash(folder: &Path) -> anyhow::Result<String> {
    let text = std::fs::read(folder.join(MANIFEST))?;
    Ok(crate::control::hex(
        digest::digest(&digest::SHA256, &text).as_ref(),
    ))
}

/// Lays the record that names the manifest's hash beside it, with its proof. Last of all, so that an export which was
/// cut short is none.
pub(super) async fn prove(
    ledger: &Ledger,
    tenant: &Tenant,
    to: &Path,
    record: Hit,
) -> anyhow::Result<()> {
    let there = "the record of the export is not in the audit";
    let stored = ledger.fetch(tenant.id, record).await?.context(there)?;
    let record_text: Value = serde_json::from_slice(&stored.body)?;
    let leaf = ledger.audit_leaf(tenant.id, record).await?.context(there)?;
    let proof = ledger.prove(&leaf).await?;
    let text = serde_json::json!({ "record": record_text, "proof": proof });
    write(to, PROOF, &serde_json::to_vec_pretty(&text)?)?;
    Ok(File::open(to)?.sync_all()?)
}

/// What resources were before, a file for each type, each line an entry of a FHIR `Bundle` of type `history`. Also how
/// many versions nobody can open.
async fn history(
    whole: &Whole,
    to: &Path,
    done: &mut u64,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> anyhow::Result<(Vec<Part>, u64)> {
    let mut outs: BTreeMap<String, Out> = BTreeMap::new();
    let (mut behind, mut unreadable) = (None, 0);
    loop {
        let page = whole.earlier(behind).await?;
        unreadable += page.unreadable;
        for version in &page.rows {
            let kind = version.row.resource.kind();
            let out = match outs.entry(kind.to_string()) {
                Entry::Occupied(there) => there.into_mut(),
                Entry::Vacant(new) => new.insert(Out::create(
                    to,
                    format!("history/{kind}.ndjson"),
                    Some(kind),
                )?),
            };
            out.line(entry(version))?;
            *done += 1;
        }
        progress(*done);
        let Some(next) = page.next else { break };
        behind = Some(next);
        tokio::task::yield_now().await;
    }
    let parts: anyhow::Result<Vec<Part>> = outs.into_values().map(Out::finish).collect();
    Ok((parts?, unreadable))
}

/// As `_history` of the server has it, but for `fullUrl`: the address is another one elsewhere.
fn entry(version: &EarlierVersion) -> Vec<u8> {
    let row = &version.row;
    let (method, status) = match (row.deleted, version.made) {
        (true, _) => ("DELETE", "204 No Content"),
        (false, true) => ("PUT", "201 Created"),
        (false, false) => ("PUT", "200 OK"),
    };
    let (kind, id) = (row.resource.kind(), row.resource.id().unwrap_or_default());
    let rest = serde_json::json!({
        "request": { "method": method, "url": format!("{kind}/{id}") },
        "response": {
            "status": status,
            "etag": format!("W/\"{}\"", row.version),
            "lastModified": fhir::date::instant(row.at.number.unix_ms()),
        },
    });
    let rest = rest.to_string();
    if row.deleted {
        return rest.into_bytes();
    }
    let mut line = b"{\"resource\":".to_vec();
    line.extend(row.resource.to_json());
    line.push(b',');
    line.extend(rest.bytes().skip(1));
    line
}

/// Documents of Cairn's own that a file of the export has.
enum Of {
    People(&'static Taken),
    Kind(Kind),
}

/// A file of documents of Cairn's own, page by page; the name is below the folder, without its end.
async fn documents(
    whole: &Whole,
    of: Of,
    name: &str,
    to: &Path,
    done: &mut u64,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> anyhow::Result<Part> {
    let mut out = Out::create(to, format!("{name}.ndjson"), None)?;
    let mut before = None;
    loop {
        let page = match of {
            Of::People(list) => whole.people(list, before).await?,
            Of::Kind(kind) => whole.own(kind, before).await?,
        };
        own(&mut out, &page.rows, done)?;
        progress(*done);
        let Some(next) = page.next else { break };
        before = Some(next);
        tokio::task::yield_now().await;
    }
    out.finish()
}

/// The lines of documents of Cairn's own.
fn own(out: &mut Out, rows: &[OwnDocument], done: &mut u64) -> anyhow::Result<()> {
    for row in rows {
        let mut line = serde_json::json!({
            "id": row.id,
            "version": row.version,
            "lastUpdated": fhir::date::instant(row.at.number.unix_ms()),
            "content": row.content,
        });
        if let Some(patient) = &row.patient {
            line["patient"] = Value::String(patient.clone());
        }
        out.line(serde_json::to_vec(&line)?)?;
        *done += 1;
    }
    Ok(())
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
    match manifest.format.as_str() {
        FORMAT => check_proof(folder)?,
        FORMAT_BEFORE => {}
        other => bail!("the manifest's format is {other:?}, neither {FORMAT} nor {FORMAT_BEFORE}"),
    }
    let mut listed = BTreeSet::new();
    for part in &manifest.files {
        listed.insert(part.path.clone());
        check_part(folder, part).with_context(|| part.path.clone())?;
    }
    for below in FOLDERS {
        let entries = match std::fs::read_dir(folder.join(below)) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
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

/// Whether the record that the audit has of the manifest is of this one. That the record is in the audit, its proof
/// shows to whoever has the store's public key.
fn check_proof(folder: &Path) -> anyhow::Result<()> {
    let text = std::fs::read(folder.join(PROOF)).with_context(|| {
        format!(
            "{} holds no whole export: {PROOF} is not there",
            folder.display()
        )
    })?;
    let proof: Value = serde_json::from_slice(&text).context(PROOF)?;
    let hash = manifest_hash(folder)?;
    ensure!(
        proof["record"].to_string().contains(&hash) && proof["proof"].is_object(),
        "{MANIFEST} is not the one that the audit has a record of: its SHA-256 is {hash}"
    );
    Ok(())
}

/// By what a line is told from the others of its file, and the type that it is of.
fn named(value: &Value, is_history: bool) -> Option<(String, Option<&str>)> {
    if !is_history {
        let kind = value["resourceType"].as_str();
        return Some((value["id"].as_str()?.to_owned(), kind));
    }
    let (url, etag) = (
        value["request"]["url"].as_str()?,
        value["response"]["etag"].as_str()?,
    );
    let (kind, id) = url.split_once('/')?;
    let resource = &value["resource"];
    let is_it = match value["request"]["method"].as_str()? {
        "DELETE" => resource.is_null(),
        _ => resource["resourceType"] == kind && resource["id"] == id,
    };
    is_it.then(|| (format!("{id} {etag}"), Some(kind)))
}

fn check_part(folder: &Path, part: &Part) -> anyhow::Result<()> {
    // A manifest from elsewhere leads nowhere else.
    let plain = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte))
    };
    let is_named = part.path.split_once('/').is_some_and(|(below, name)| {
        FOLDERS.contains(&below) && plain(name) && !name.starts_with('.')
    });
    ensure!(is_named, "is no file of an export");
    let is_history = part.path.starts_with("history/");
    let mut reader = BufReader::new(File::open(folder.join(&part.path))?);
    let (mut digest, mut count, mut bytes) = (digest::Context::new(&digest::SHA256), 0, 0);
    let mut ids = BTreeSet::new();
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        digest.update(&line);
        (count, bytes) = (count + 1, bytes + line.len() as u64);
        let value: Value =
            serde_json::from_slice(&line).with_context(|| format!("line {count} is no JSON"))?;
        let (name, kind) = named(&value, is_history)
            .with_context(|| format!("line {count} has no id, or is not what it says"))?;
        ensure!(
            ids.insert(name),
            "line {count} has the id of an earlier one"
        );
        if let Some(wanted) = &part.kind
            && kind != Some(wanted.as_str())
        {
            bail!("line {count} is no {wanted}");
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
