//! Orders of an operator that a store takes while it is open.
//!
//! The store is open in one process at a time. Where that is the server, a command finds the server's
//! socket in the store's folder and hands its order over; where nobody has it open, the command opens
//! it and does the same itself. Who may use the socket is whom the file system lets into the folder,
//! who could read the store's files as well.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use ledger::{BackupReport, Ledger, OutboxKey, SystemClock};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use trust::{Action, Purpose, Target, Upkeep};

use trust::identity::rotate_signing_key;

use crate::commands;
use crate::explaining::{self, Asked, Decides, InForce};
use crate::operator::Operator;
use crate::place::Place;
use crate::tenancy::{self, TenantOrder};

/// The longest order: some thousand ids of outbox entries.
const ORDER_BYTES: u64 = 1 << 20;
/// Outbox entries read at once.
const PAGE: usize = 1000;
/// How long to wait when nobody could be let in.
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);

/// What an operator wants of an open store.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Order {
    /// Back up to a place.
    Backup {
        to: Place,
        whole: bool,
        /// How many chains are kept; all, if nothing is said.
        #[serde(default)]
        keep: Option<usize>,
    },
    /// The list of destroyed keys, sealed, in hexadecimal digits.
    ShredList,
    /// What lies in the outbox.
    Outbox,
    /// Put all search tokens of a tenant under a new key.
    RotateTokens {
        #[serde(default)]
        of: Option<String>,
    },
    /// Rotate the key that signs a tenant's identity tokens.
    RotateSigning {
        #[serde(default)]
        of: Option<String>,
        at_once: bool,
    },
    /// Let the outbox go.
    ReleaseOutbox,
    /// Take entries out of the outbox unsent.
    DiscardOutbox { ids: Vec<String> },
    /// The systems and apps that are registered.
    Clients,
    /// Something about subscriptions of a tenant.
    Subscriptions {
        #[serde(default)]
        of: Option<String>,
        wanted: commands::Subscriptions,
    },
    /// Say why somebody may see a row, or not.
    Explain(Asked),
    /// Something about tenants.
    Tenant(TenantOrder),
}

/// What came of a backup.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct BackedUp {
    #[serde(flatten)]
    pub(crate) report: BackupReport,
    /// Chains that were removed.
    #[serde(default)]
    pub(crate) pruned: Vec<String>,
}

/// A system or an app that is registered.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct KnownClient {
    /// By the tenant of this name.
    pub(crate) tenant: String,
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) role: String,
    /// Whether it may come in: `active`, `waiting`, `revoked` or `expired`.
    pub(crate) state: String,
    /// What it may ask for, if it has a key or is an app.
    pub(crate) scopes: Option<String>,
    /// Where people are sent back to.
    pub(crate) redirect_uris: Vec<String>,
}

/// What lies in the outbox.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Outbox {
    /// Whether nothing leaves it.
    pub(crate) held: bool,
    pub(crate) entries: Vec<Entry>,
}

/// One entry of the outbox.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// The idempotency key; an e-mail's `Message-ID` begins with it.
    pub(crate) id: String,
    pub(crate) channel: u16,
    /// When it is due, milliseconds since the Unix epoch.
    pub(crate) due_ms: u64,
}

/// A line of the answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line {
    /// How far it has come.
    Progress(u64),
    Done(Value),
    Failed(String),
}

fn folder(data: &Path) -> PathBuf {
    data.join("control")
}

fn socket(data: &Path) -> PathBuf {
    folder(data).join("socket")
}

/// Carries out an order.
pub(crate) async fn carry_out(
    ledger: &Ledger,
    order: Order,
    operator: &Operator,
    decides: &Decides<'_>,
    progress: impl Fn(u64) + Send + Sync + 'static,
) -> anyhow::Result<Value> {
    match order {
        Order::Backup { to, whole, keep } => {
            let target = to.create()?;
            let report = ledger.backup(Arc::clone(&target), whole, progress).await?;
            tracing::info!(
                %to,
                chain = report.chain,
                backup = report.backup,
                documents = report.documents,
                bytes = report.bytes,
                "backed up"
            );
            let pruned = match keep {
                Some(keep) => ledger.prune_backups(target, keep).await?.chains,
                None => Vec::new(),
            };
            if !pruned.is_empty() {
                tracing::info!(%to, ?pruned, "old chains of backups were removed");
            }
            let mut note = format!(
                "backup {} of chain {} to {to}, up to number {}",
                report.backup, report.chain, report.last.number.0
            );
            if !pruned.is_empty() {
                note.push_str("; removed chains ");
                note.push_str(&pruned.join(", "));
            }
            operator.did(ledger, Upkeep::BackedUp, &note).await?;
            Ok(serde_json::to_value(BackedUp { report, pruned })?)
        }
        Order::RotateTokens { of } => {
            let tenant = tenancy::named(ledger, of.as_deref()).await?.id;
            let told = |rotation: ledger::TokenRotation| progress(rotation.documents);
            let done = ledger.rotate_token_keys(tenant, &told).await?;
            tracing::info!(
                version = done.version,
                "the key of search tokens was rotated"
            );
            let note = format!(
                "the key of search tokens was rotated to version {}",
                done.version
            );
            let of = ledger.only(tenant);
            operator.did(&of, Upkeep::TokenKeyRotated, &note).await?;
            Ok(Value::from(done.version))
        }
        Order::Subscriptions { of, wanted } => {
            let wanted = (of.as_deref(), &wanted);
            commands::carry_out_subscriptions(ledger, wanted, operator, decides).await
        }
        Order::Clients => Ok(serde_json::to_value(clients(ledger).await?)?),
        Order::RotateSigning { of, at_once } => {
            let tenant = tenancy::named(ledger, of.as_deref()).await?.id;
            let (of, clock) = (ledger.only(tenant), Arc::new(SystemClock));
            let done = rotate_signing_key(&of, clock, tenant, operator.name(), at_once).await?;
            tracing::info!(key = done.id, "the key of identity tokens was rotated");
            Ok(json!({ "id": done.id, "from_ms": done.from_ms }))
        }
        Order::Explain(asked) => {
            let tenant = tenancy::named(ledger, asked.of.as_deref()).await?;
            let trust = decides.of(ledger, &tenant)?;
            let told = explaining::explain(&trust, &tenant, operator, &asked).await?;
            Ok(serde_json::to_value(told)?)
        }
        Order::Tenant(order) => tenancy::carry_out(ledger, order, operator, &progress).await,
        Order::ShredList => Ok(Value::String(hex(&ledger.shred_list()?))),
        Order::Outbox => {
            let entries = outbox(ledger).await?.into_iter();
            let entries = entries.map(|(key, channel)| Entry {
                id: hex(&key.id),
                channel,
                due_ms: key.due_ms,
            });
            Ok(serde_json::to_value(Outbox {
                held: ledger.outbox_is_held(),
                entries: entries.collect(),
            })?)
        }
        Order::ReleaseOutbox => {
            ledger.release_outbox().await?;
            tracing::warn!("the outbox was released");
            let note = "the outbox was released";
            operator.did(ledger, Upkeep::OutboxReleased, note).await?;
            Ok(Value::Null)
        }
        Order::DiscardOutbox { ids } => {
            let mut keys = Vec::new();
            let entries = outbox(ledger).await?;
            for id in &ids {
                let found = entries.iter().find(|(key, _)| hex(&key.id) == *id);
                let Some((key, _)) = found else {
                    bail!("there is no entry {id} in the outbox; nothing was taken out");
                };
                keys.push(*key);
            }
            ledger.discard_outbox(keys).await?;
            tracing::warn!(?ids, "outbox entries were taken out unsent");
            let note = format!("outbox entries taken out unsent: {}", ids.join(", "));
            operator.did(ledger, Upkeep::OutboxDiscarded, &note).await?;
            Ok(Value::from(ids.len()))
        }
    }
}

/// The clients of all tenants that are there. Nothing of a patient is among what is told of them.
async fn clients(ledger: &Ledger) -> anyhow::Result<Vec<KnownClient>> {
    let mut all = Vec::new();
    for tenant in ledger.tenants().await? {
        if !tenant.is_there() {
            continue;
        }
        let of = ledger.only(tenant.id);
        let trust = commands::trust_over(&of)?;
        let (purpose, action) = (Purpose::Administration, Action::Administer);
        let operator = commands::operator(&of);
        let permit = trust.decide(&operator, purpose, action, Target::default(), "");
        let listing = trust.identity().clients(&permit.await?).await?;
        if !listing.complete {
            bail!(
                "the tenant {} has more clients than are listed at once",
                tenant.name
            );
        }
        all.extend(listing.rows.into_iter().map(|client| KnownClient {
            tenant: tenant.name.clone(),
            id: client.id,
            name: client.name,
            role: client.role.name().to_owned(),
            state: commands::state_of(client.state).to_owned(),
            scopes: client.scopes,
            redirect_uris: client.redirect_uris,
        }));
    }
    Ok(all)
}

async fn outbox(ledger: &Ledger) -> anyhow::Result<Vec<(OutboxKey, u16)>> {
    let mut all = Vec::new();
    loop {
        let last = all.last().map(|(key, _)| *key);
        let page = ledger.outbox_keys(last, PAGE).await?;
        let count = page.len();
        all.extend(page);
        if count < PAGE {
            return Ok(all);
        }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing into a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Takes orders until it is dropped.
pub(crate) struct Door {
    task: JoinHandle<()>,
    path: PathBuf,
}

impl Drop for Door {
    fn drop(&mut self) {
        self.task.abort();
        // It may be gone already; the next server makes its own.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Opens the door of a store's folder. The caller has the store open, so nobody else has a door there.
pub(crate) fn open(data: &Path, ledger: &Ledger, in_force: &InForce) -> anyhow::Result<Door> {
    let folder = folder(data);
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    // Nobody but the owner gets at the socket, whatever the mode of the data folder.
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(&folder)
        .with_context(|| folder.display().to_string())?;
    let path = socket(data);
    if let Err(error) = std::fs::remove_file(&path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(error).with_context(|| path.display().to_string());
    }
    let listener = UnixListener::bind(&path).with_context(|| path.display().to_string())?;
    let (ledger, in_force) = (ledger.clone(), in_force.clone());
    let task = tokio::spawn(async move {
        let listener = &listener;
        let accept = || async move { listener.accept().await.map(|(stream, _)| stream) };
        take_orders(accept, |stream| {
            let (ledger, in_force) = (ledger.clone(), in_force.clone());
            tokio::spawn(async move {
                if let Err(error) = serve(stream, &ledger, &in_force).await {
                    tracing::warn!(%error, "an operator's command has gone away");
                }
            });
        })
        .await;
    });
    Ok(Door { task, path })
}

/// Lets in who knocks, for ever. What keeps one out (too many open files, say) may be gone soon.
async fn take_orders<S, A: Future<Output = std::io::Result<S>>>(
    mut accept: impl FnMut() -> A,
    mut let_in: impl FnMut(S),
) {
    let mut failing = false;
    loop {
        match accept().await {
            Ok(stream) => {
                failing = false;
                let_in(stream);
            }
            Err(error) => {
                // Said once: what lasts would fill the log.
                if !failing {
                    tracing::error!(%error, "an operator's command could not be let in; trying again");
                }
                failing = true;
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

async fn send(stream: &mut (impl AsyncWriteExt + Unpin), line: &Line) -> anyhow::Result<()> {
    let mut text = serde_json::to_string(line)?;
    text.push('\n');
    Ok(stream.write_all(text.as_bytes()).await?)
}

async fn serve(mut stream: UnixStream, ledger: &Ledger, in_force: &InForce) -> anyhow::Result<()> {
    let operator = Operator::at(&stream);
    let (reading, mut writing) = stream.split();
    let mut line = String::new();
    let mut reading = BufReader::new(reading.take(ORDER_BYTES));
    reading.read_line(&mut line).await?;
    let order = match serde_json::from_str(&line) {
        Ok(order) => order,
        Err(error) => {
            let text = format!("this server does not know that order: {error}");
            return send(&mut writing, &Line::Failed(text)).await;
        }
    };
    let (told, mut news) = mpsc::channel(1);
    let decides = Decides::Server(in_force);
    let work = carry_out(ledger, order, &operator, &decides, move |count| {
        // Who is slow to listen misses some.
        let _ = told.try_send(count);
    });
    tokio::pin!(work);
    let outcome = loop {
        tokio::select! {
            outcome = &mut work => break outcome,
            // A command says nothing more; that it is gone ends what it asked for.
            _ = reading.read_u8() => anyhow::bail!("it went away before it was done"),
            Some(count) = news.recv() => send(&mut writing, &Line::Progress(count)).await?,
        }
    };
    let last = match outcome {
        Ok(value) => Line::Done(value),
        Err(error) => Line::Failed(format!("{error:#}")),
    };
    send(&mut writing, &last).await
}

/// Hands an order to the server that has a store open; `None` when no server has.
pub(crate) async fn hand_over(
    data: &Path,
    order: &Order,
    progress: impl Fn(u64),
) -> anyhow::Result<Option<Value>> {
    let Ok(mut stream) = UnixStream::connect(socket(data)).await else {
        // None, or the socket of one that was killed; then the store can be opened.
        return Ok(None);
    };
    let mut text = serde_json::to_string(order)?;
    text.push('\n');
    stream.write_all(text.as_bytes()).await?;
    let mut lines = BufReader::new(stream).lines();
    while let Some(line) = lines.next_line().await? {
        match serde_json::from_str(&line)? {
            Line::Progress(count) => progress(count),
            Line::Done(value) => return Ok(Some(value)),
            Line::Failed(text) => bail!("{text}"),
        }
    }
    bail!("the server has gone away before it was done; look at its log, and run the command again")
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use ledger::SystemClock;

    use super::*;
    use crate::store;

    #[tokio::test]
    async fn the_door_stays_open_when_one_cannot_be_let_in() {
        let busy = || std::io::Error::other("too many open files");
        let mut knocks = VecDeque::from([Ok(1), Err(busy()), Err(busy()), Ok(2)]);
        let (told, mut news) = tokio::sync::mpsc::unbounded_channel();
        let accept = move || {
            let knock = knocks.pop_front();
            async move {
                match knock {
                    Some(knock) => knock,
                    None => std::future::pending().await,
                }
            }
        };
        let door = take_orders(accept, |who| {
            let _ = told.send(who);
        });
        let both = async { (news.recv().await, news.recv().await) };
        let long = std::time::Duration::from_secs(60);
        tokio::select! {
            () = door => panic!("the door was closed"),
            let_in = tokio::time::timeout(long, both) => {
                assert_eq!(let_in.expect("both come"), (Some(1), Some(2)));
            }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_order_ends_with_the_command_that_gave_it() {
        let folder = tempfile::tempdir().unwrap();
        let key = store::root_key_path(folder.path());
        store::create_root_key(&key).unwrap();
        let at = store::in_folder(folder.path());
        let ledger = store::open(at, &key, Arc::new(SystemClock), 1 << 20)
            .await
            .unwrap();
        // Writing this file takes until somebody reads it.
        let to = folder.path().join("backups");
        std::fs::create_dir(&to).unwrap();
        let slow = to.join(".unfinished-metas");
        let made = std::process::Command::new("mkfifo").arg(&slow).status();
        assert!(made.unwrap().success());
        let (mut command, door) = UnixStream::pair().unwrap();
        let serving = tokio::spawn({
            let ledger = ledger.clone();
            async move { serve(door, &ledger, &InForce::default()).await }
        });
        let order = Order::Backup {
            to: Place::Folder(to.clone()),
            whole: false,
            keep: None,
        };
        let line = serde_json::to_string(&order).unwrap() + "\n";
        command.write_all(line.as_bytes()).await.unwrap();
        let has_begun = || {
            let names = std::fs::read_dir(&to).unwrap().flatten();
            names.map(|entry| entry.file_name()).any(|name| {
                let name = name.to_string_lossy().into_owned();
                name.ends_with(".segment") && !name.starts_with('.')
            })
        };
        for _ in 0..1200 {
            if has_begun() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(has_begun());
        drop(command);
        let ended = tokio::time::timeout(Duration::from_secs(60), serving).await;
        let outcome = ended
            .expect("nobody works for a command that is gone")
            .unwrap();
        assert!(outcome.unwrap_err().to_string().contains("went away"));
        let read = tokio::task::spawn_blocking(move || std::fs::read(slow));
        read.await.unwrap().unwrap();
        ledger.close().await.unwrap();
    }
}
