//! The root key: in a file, or in a token.

use std::io::{Read, Write};
use std::path::Path;

use crate::keys::{Salt, Secret, root_wrap};
use crate::pkcs11::TokenKey;
use crate::{Entropy, LedgerError};

/// The key that wraps all tenants' keys. Printed nowhere.
#[derive(Clone)]
pub struct RootKey(Source);

#[derive(Clone)]
enum Source {
    Bytes(Secret),
    Token(TokenKey),
}

fn refused(path: &Path, what: impl std::fmt::Display) -> LedgerError {
    LedgerError::RootKey(format!("{}: {what}", path.display()))
}

/// A short text file that only its owner may read.
pub(crate) fn read_private(path: &Path) -> Result<String, LedgerError> {
    let file = std::fs::File::open(path).map_err(|error| refused(path, error))?;
    #[cfg(unix)]
    {
        // Asked of the open file, so that it can't be exchanged between the look and the read.
        let metadata = file.metadata().map_err(|error| refused(path, error))?;
        let mode = std::os::unix::fs::MetadataExt::mode(&metadata) & 0o777;
        if mode & 0o077 != 0 {
            return Err(refused(
                path,
                format_args!("has mode {mode:04o}, which lets others at it; set it to 0600"),
            ));
        }
    }
    let mut text = String::new();
    (&file)
        .take(1024)
        .read_to_string(&mut text)
        .map_err(|error| refused(path, error))?;
    Ok(text)
}

impl RootKey {
    /// Reads a root key file (64 hexadecimal digits), which must have mode 0600 or stricter.
    ///
    /// # Errors
    /// [`LedgerError::RootKey`] when it is missing, malformed or readable by others.
    pub fn read(path: &Path) -> Result<Self, LedgerError> {
        let text = read_private(path)?;
        let bytes = decode_hex(text.trim_ascii_end())
            .ok_or_else(|| refused(path, "is not 64 hexadecimal digits"))?;
        Ok(Self::from_bytes(bytes))
    }

    /// A root key in a PKCS#11 token, by its URI (RFC 7512):
    /// `pkcs11:token=LABEL;object=LABEL?module-path=/PATH.so&pin-source=/PATH`. The token is asked when
    /// a store is opened or rotated, not here; the file with the PIN has mode 0600 or stricter.
    ///
    /// # Errors
    /// [`LedgerError::RootKey`] when the URI is malformed or lacks something.
    pub fn in_token(uri: &str) -> Result<Self, LedgerError> {
        TokenKey::parse(uri).map(|key| Self(Source::Token(key)))
    }

    /// Makes a root key in a PKCS#11 token, where it stays; refuses to overwrite.
    ///
    /// # Errors
    /// [`LedgerError::RootKey`] when the URI, the module, the token or the PIN is wrong, or there is
    /// such a key already.
    pub fn create_in_token(uri: &str) -> Result<Self, LedgerError> {
        let key = TokenKey::parse(uri)?;
        key.create()?;
        Ok(Self(Source::Token(key)))
    }

    /// Makes a new root key file with mode 0600; refuses to overwrite.
    ///
    /// # Errors
    /// [`LedgerError::RootKey`] when the file exists or cannot be written.
    pub fn create(path: &Path, entropy: &dyn Entropy) -> Result<Self, LedgerError> {
        let mut bytes = [0; 32];
        entropy.fill(&mut bytes);
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path).map_err(|error| refused(path, error))?;
        let mut text = encode_hex(&bytes);
        text.push('\n');
        file.write_all(text.as_bytes())
            .and_then(|()| file.sync_all())
            .map_err(|error| refused(path, error))?;
        // A store must not outlive the key that opens it, so the file's name has to be durable too.
        if let Some(folder) = path.parent() {
            let folder = if folder.as_os_str().is_empty() {
                Path::new(".")
            } else {
                folder
            };
            std::fs::File::open(folder)
                .and_then(|folder| folder.sync_all())
                .map_err(|error| refused(path, error))?;
        }
        Ok(Self::from_bytes(bytes))
    }

    /// A key from bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Source::Bytes(bytes))
    }

    /// The key that wraps a store's own secrets.
    pub(crate) fn wrapping_key(&self, salt: Option<&Salt>) -> Result<Secret, LedgerError> {
        match (&self.0, salt) {
            (Source::Bytes(bytes), salt) => Ok(root_wrap(bytes, salt)),
            (Source::Token(key), Some(salt)) => Ok(root_wrap(&key.derive(salt)?, Some(salt))),
            (Source::Token(_), None) => Err(LedgerError::RootKey(
                "this store was made with a root key file and opens with that; `cairn key rotate --to` \
                 puts it under a key in a token"
                    .into(),
            )),
        }
    }
}

pub(crate) fn encode_hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing into a string does not fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

pub(crate) fn decode_hex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
}
