//! Opening the store in a data folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ledger::{Clock, Ledger, LedgerError, OpenOptions, RootKey, SystemEntropy, TenantId};

/// The one tenant of this release. Several tenants in one server come with host names of their own.
pub const TENANT: TenantId = TenantId(1);

/// The compression dictionary for new bodies; `examples/train_dictionary.rs` makes it.
const DICTIONARY: &[u8] = include_bytes!("../assets/fhir-r4-1.dict");

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

/// Opens the store in `data` with the key in `root_key_file`, and makes the tenant's keys at the
/// first start.
///
/// # Errors
/// `RootKey` when the key file is missing, readable by others, or not this store's; `Storage`.
pub async fn open(
    data: &Path,
    root_key_file: &Path,
    clock: Arc<dyn Clock>,
    cache_bytes: u64,
) -> Result<Ledger, LedgerError> {
    if !root_key_file.exists() {
        return Err(LedgerError::RootKey(format!(
            "{} does not exist. A store is readable only with the key that it was made with, so it is never made \
             silently: for a new store run `cairn key create --data {}`, for an existing one bring its key back",
            root_key_file.display(),
            data.display(),
        )));
    }
    let root_key = RootKey::read(root_key_file)?;
    let path = ledger_path(data);
    std::fs::create_dir_all(&path)
        .map_err(|error| LedgerError::Storage(format!("{}: {error}", path.display())))?;
    let options = OpenOptions {
        path,
        root_key,
        clock,
        entropy: Arc::new(SystemEntropy),
        dictionary: DICTIONARY.to_vec(),
        cache_bytes,
    };
    // Opening reads the journal; that is work for a thread that may block.
    let ledger = tokio::task::spawn_blocking(move || Ledger::open(options))
        .await
        .map_err(|_| LedgerError::Storage("opening the store was cut short".to_owned()))??;
    ledger.create_tenant(TENANT).await?;
    Ok(ledger)
}
