//! Where backups lie: a folder, or a bucket of an object store.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use anyhow::Context;
use ledger::{BackupTarget, FolderTarget, LedgerError};
use serde::{Deserialize, Serialize};

use crate::bucket::{Bucket, BucketUrl};

/// A place for backups, as an operator names it. What it says may be logged: secrets are refused in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum Place {
    Folder(PathBuf),
    Bucket(BucketUrl),
}

impl Place {
    /// The same as a server sees it, whatever folder it was started in.
    pub(crate) fn absolute(self) -> anyhow::Result<Self> {
        let absolute =
            |path: &Path| std::path::absolute(path).with_context(|| path.display().to_string());
        Ok(match self {
            Self::Folder(path) => Self::Folder(absolute(&path)?),
            Self::Bucket(mut url) => {
                if let Some(file) = &mut url.credentials {
                    *file = absolute(file)?;
                }
                Self::Bucket(url)
            }
        })
    }

    /// The place to back up to; a folder is made if it is not there.
    pub(crate) fn create(&self) -> Result<Arc<dyn BackupTarget>, LedgerError> {
        Ok(match self {
            Self::Folder(path) => Arc::new(FolderTarget::create(path)?),
            Self::Bucket(url) => Arc::new(Bucket::open(url)?),
        })
    }

    /// The place to restore from.
    pub(crate) fn open(&self) -> Result<Arc<dyn BackupTarget>, LedgerError> {
        Ok(match self {
            Self::Folder(path) => Arc::new(FolderTarget::open(path)?),
            Self::Bucket(url) => Arc::new(Bucket::open(url)?),
        })
    }
}

impl FromStr for Place {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with("s3:") {
            return text.parse().map(Self::Bucket);
        }
        Ok(Self::Folder(text.into()))
    }
}

impl TryFrom<String> for Place {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Place> for String {
    fn from(place: Place) -> Self {
        place.to_string()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => path.display().fmt(formatter),
            Self::Bucket(url) => url.fmt(formatter),
        }
    }
}
