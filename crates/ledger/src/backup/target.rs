//! Where backups go: a place that keeps whole files by name.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::LedgerError;

/// A place for backups. Names are of letters, digits, `-` and `.`; files are at most some 50 MB.
pub trait BackupTarget: Send + Sync + 'static {
    /// Keeps a file, in place of one of the same name: whole or not at all, and durable on return.
    ///
    /// # Errors
    /// `Storage`.
    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), LedgerError>;
    /// A file; `None` only when there is none of that name.
    ///
    /// # Errors
    /// `Storage`.
    fn get(&self, name: &str) -> Result<Option<Vec<u8>>, LedgerError>;
    /// The names of all files.
    ///
    /// # Errors
    /// `Storage`.
    fn list(&self) -> Result<Vec<String>, LedgerError>;
    /// Removes a file, if it is there.
    ///
    /// # Errors
    /// `Storage`.
    fn remove(&self, name: &str) -> Result<(), LedgerError>;
    /// Keeps other backups off the place until what it gives is dropped. A place that can't keeps nobody
    /// off.
    ///
    /// # Errors
    /// `Invalid` when another backup to the place is running, `Storage`.
    fn hold(&self) -> Result<Box<dyn Send>, LedgerError> {
        Ok(Box::new(()))
    }
    /// How an operator knows the place.
    fn describe(&self) -> String;
}

/// A folder: another disk, or a file system of another machine.
#[derive(Debug, Clone)]
pub struct FolderTarget {
    folder: PathBuf,
}

/// Another backup has the place.
pub(crate) const HELD: LedgerError = LedgerError::Invalid(
    "another backup to this place is running; wait for it, and run the command again",
);
/// The file that who backs up to a folder has locked.
const LOCK: &str = ".lock";
/// How the name of a file begins that is not whole yet.
const UNFINISHED: &str = ".unfinished-";

fn failed(path: &Path, what: &str, error: &io::Error) -> LedgerError {
    LedgerError::Storage(format!("{}: {what}: {error}", path.display()))
}

impl FolderTarget {
    /// The backups in a folder that is there.
    ///
    /// # Errors
    /// `Storage` when it can't be read.
    pub fn open(folder: &Path) -> Result<Self, LedgerError> {
        std::fs::read_dir(folder).map_err(|error| failed(folder, "no backups to read", &error))?;
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    /// A folder for backups; made, for its owner only, if it is not there.
    ///
    /// # Errors
    /// `Storage` when it can't be made.
    pub fn create(folder: &Path) -> Result<Self, LedgerError> {
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        (builder.create(folder)).map_err(|error| failed(folder, "can't be made", &error))?;
        Self::open(folder)
    }

    fn write(&self, unfinished: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(unfinished, path)?;
        File::open(&self.folder)?.sync_all()
    }
}

impl BackupTarget for FolderTarget {
    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), LedgerError> {
        let path = self.folder.join(name);
        let unfinished = self.folder.join(format!("{UNFINISHED}{name}"));
        self.write(&unfinished, &path, bytes).map_err(|error| {
            // Half a file takes room and is of no use; if it can't go either, the next try takes its
            // name again.
            let _ = std::fs::remove_file(&unfinished);
            failed(&path, "can't be written", &error)
        })
    }

    fn get(&self, name: &str) -> Result<Option<Vec<u8>>, LedgerError> {
        let path = self.folder.join(name);
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(&path, "can't be read", &error)),
        }
    }

    fn remove(&self, name: &str) -> Result<(), LedgerError> {
        let path = self.folder.join(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed(&path, "can't be removed", &error))
            }
            _ => Ok(()),
        }
    }

    fn hold(&self) -> Result<Box<dyn Send>, LedgerError> {
        let path = self.folder.join(LOCK);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let refused = |error| failed(&path, "can't be locked", &error);
        let file = options.open(&path).map_err(refused)?;
        match file.try_lock() {
            // It is unlocked when it is closed, also by a process that dies.
            Ok(()) => Ok(Box::new(file)),
            Err(TryLockError::WouldBlock) => Err(HELD),
            // A file system without locks, of a server that has none.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                Ok(Box::new(()))
            }
            Err(TryLockError::Error(error)) => Err(refused(error)),
        }
    }

    fn list(&self) -> Result<Vec<String>, LedgerError> {
        let unlisted = |error| failed(&self.folder, "can't be listed", &error);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.folder).map_err(unlisted)? {
            // A name that is no text is none of ours.
            if let Ok(name) = entry.map_err(unlisted)?.file_name().into_string()
                && !name.starts_with('.')
            {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn describe(&self) -> String {
        self.folder.display().to_string()
    }
}
