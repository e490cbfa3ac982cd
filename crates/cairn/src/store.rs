//! Opening the store, in a data folder or in a database.

use std::convert::Infallible;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use ledger::{
    CLOCK_STEP_MAX_MS, Clock, Ledger, LedgerError, Location, OpenOptions, Postgres, RootKey,
    SystemEntropy, TenantId,
};

use crate::dictionaries::dictionaries;

/// The first tenant of a store. Others come with host names of their own.
pub const TENANT: TenantId = TenantId(1);

/// Where a root key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootKeySource {
    /// In a file.
    File(PathBuf),
    /// In a PKCS#11 token, by its URI.
    Token(String),
}

impl RootKeySource {
    /// The key; `RootKey` when the file or the URI is not as it should be.
    pub(crate) fn read(&self) -> Result<RootKey, LedgerError> {
        match self {
            Self::File(path) => RootKey::read(path),
            Self::Token(uri) => RootKey::in_token(uri),
        }
    }
}

impl FromStr for RootKeySource {
    type Err = Infallible;
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(if text.starts_with("pkcs11:") {
            Self::Token(text.to_owned())
        } else {
            Self::File(text.into())
        })
    }
}

impl fmt::Display for RootKeySource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(formatter),
            Self::Token(uri) => formatter.write_str(uri),
        }
    }
}

impl From<&Path> for RootKeySource {
    fn from(path: &Path) -> Self {
        Self::File(path.to_owned())
    }
}

impl From<&PathBuf> for RootKeySource {
    fn from(path: &PathBuf) -> Self {
        Self::File(path.clone())
    }
}

impl From<&RootKeySource> for RootKeySource {
    fn from(source: &RootKeySource) -> Self {
        source.clone()
    }
}

/// Where the root key lies if nothing else is said.
#[must_use]
pub fn root_key_path(data: &Path) -> PathBuf {
    data.join("root.key")
}

/// Where the ledger's files lie.
#[must_use]
pub fn ledger_path(data: &Path) -> PathBuf {
    data.join("ledger")
}

/// The store in a data folder.
#[must_use]
pub fn in_folder(data: &Path) -> Location {
    Location::Folder(ledger_path(data))
}

/// The store in a PostgreSQL database, with the URLs of its read replicas, separated by spaces; a line
/// break at the end of the password's file is ignored.
///
/// # Errors
/// `Storage` when the password file can't be read.
pub fn in_database(
    url: &str,
    password_file: Option<&Path>,
    ca_file: Option<&Path>,
    schema: &str,
    replicas: &str,
) -> Result<Location, LedgerError> {
    let password = password_file.map(|path| {
        let text = std::fs::read_to_string(path).map_err(|error| {
            LedgerError::Storage(format!("store.password_file {}: {error}", path.display()))
        })?;
        Ok(text.trim_end_matches(['\r', '\n']).to_owned())
    });
    Ok(Location::Postgres(Postgres {
        url: url.to_owned(),
        password: password.transpose()?,
        ca_file: ca_file.map(Path::to_owned),
        schema: schema.to_owned(),
        replicas: replicas.split_whitespace().map(str::to_owned).collect(),
    }))
}

/// Makes a root key file; refuses to overwrite one.
///
/// # Errors
/// `RootKey`.
pub fn create_root_key(path: &Path) -> Result<RootKey, LedgerError> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .map_err(|error| LedgerError::RootKey(format!("{}: {error}", folder.display())))?;
    }
    RootKey::create(path, &SystemEntropy)
}

/// Where the next root key waits while the one in a file is being rotated.
pub(crate) fn next_key_path(root_key_file: &Path) -> PathBuf {
    let mut name = root_key_file.as_os_str().to_owned();
    name.push(".next");
    name.into()
}

/// Puts the next root key in the place of the one that a store has been rotated from, which is kept
/// beside it: backups made before open with that one only. Says where.
pub(crate) fn promote_next_key(root_key_file: &Path) -> Result<PathBuf, LedgerError> {
    let failed = |path: &Path, error: std::io::Error| {
        LedgerError::RootKey(format!("{}: {error}", path.display()))
    };
    let next = next_key_path(root_key_file);
    let numbered = |number: u32| {
        let mut name = root_key_file.as_os_str().to_owned();
        name.push(format!(".old-{number}"));
        PathBuf::from(name)
    };
    let mut number = 1;
    let kept = loop {
        let kept = numbered(number);
        // A second name and not a rename, so that at no moment there is no root key file.
        match std::fs::hard_link(root_key_file, &kept) {
            Ok(()) => break kept,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(failed(&kept, error)),
        }
    };
    let folder = root_key_file.parent().unwrap_or(Path::new("."));
    let sync = || std::fs::File::open(folder).and_then(|folder| folder.sync_all());
    sync().map_err(|error| failed(folder, error))?;
    std::fs::rename(&next, root_key_file).map_err(|error| failed(&next, error))?;
    sync().map_err(|error| failed(folder, error))?;
    Ok(kept)
}

/// How the store at `location` is opened with the root key that `source` names.
///
/// # Errors
/// `RootKey` when the key file is missing or readable by others, or the token can't be used.
pub fn options(
    location: Location,
    source: &RootKeySource,
    clock: Arc<dyn Clock>,
    cache_bytes: u64,
) -> Result<OpenOptions, LedgerError> {
    if let RootKeySource::File(file) = source
        && !file.exists()
    {
        return Err(LedgerError::RootKey(format!(
            "{} does not exist. A store is readable only with the key that it was made with, so it is never made \
             silently: for a new store run `cairn key create --root-key {}`, for an existing one bring its key back",
            file.display(),
            file.display(),
        )));
    }
    Ok(OpenOptions {
        location,
        root_key: source.read()?,
        clock,
        entropy: Arc::new(SystemEntropy),
        dictionary: dictionaries(),
        cache_bytes,
    })
}

/// Opens the store with the root key that `root_key` names, and makes the tenant's keys at
/// the first start. A rotation of a key file that was cut short after the store had changed over is
/// finished here.
///
/// # Errors
/// `RootKey` when the key file is missing, readable by others, or not this store's, or the token can't
/// be used; `Storage`, also when the clock is not the database's.
pub async fn open(
    location: Location,
    root_key: impl Into<RootKeySource>,
    clock: Arc<dyn Clock>,
    cache_bytes: u64,
) -> Result<Ledger, LedgerError> {
    let source = root_key.into();
    let refused = match open_with(location.clone(), &source, &clock, cache_bytes).await {
        Err(error @ LedgerError::RootKey(_)) => error,
        outcome => return outcome,
    };
    let RootKeySource::File(file) = &source else {
        return Err(refused);
    };
    let next = next_key_path(file);
    let is_there = match &location {
        Location::Folder(path) => path.exists(),
        Location::Postgres(_) => true,
    };
    if !next.exists() || !is_there {
        return Err(refused);
    }
    let next = RootKeySource::File(next);
    let Ok(ledger) = open_with(location, &next, &clock, cache_bytes).await else {
        return Err(refused);
    };
    let kept = promote_next_key(file)?;
    tracing::warn!(
        kept = %kept.display(),
        "a rotation of the root key had been cut short; the new key is in its place now"
    );
    Ok(ledger)
}

async fn open_with(
    location: Location,
    source: &RootKeySource,
    clock: &Arc<dyn Clock>,
    cache_bytes: u64,
) -> Result<Ledger, LedgerError> {
    let options = options(location, source, Arc::clone(clock), cache_bytes)?;
    if let Location::Folder(path) = &options.location {
        std::fs::create_dir_all(path)
            .map_err(|error| LedgerError::Storage(format!("{}: {error}", path.display())))?;
    }
    // Opening reads the journal, or waits for a database; that is work for a thread that may block.
    let ledger = tokio::task::spawn_blocking(move || Ledger::open(options))
        .await
        .map_err(|_| LedgerError::Storage("opening the store was cut short".to_owned()))??;
    if let Some(ahead_ms) = ledger.clock_ahead_ms().await?
        && let Some(words) = clocks_differ(ahead_ms)
    {
        ledger.close().await?;
        return Err(LedgerError::Storage(words));
    }
    match ledger.create_tenant(TENANT).await {
        // It had a first tenant.
        Ok(()) | Err(LedgerError::KeyDestroyed) => Ok(ledger),
        Err(error) => Err(error),
    }
}

/// What is wrong when this machine's clock is so far ahead of the database's. Servers that share a store
/// number its records; one whose clock is ahead would take all others' along.
fn clocks_differ(ahead_ms: i64) -> Option<String> {
    let way = if ahead_ms < 0 { "behind" } else { "ahead of" };
    (ahead_ms.unsigned_abs() > CLOCK_STEP_MAX_MS).then(|| {
        format!(
            "this machine's clock is {} s {way} the database's: set the one that is wrong, and have both follow a time \
             service",
            ahead_ms.unsigned_abs() / 1000
        )
    })
}
