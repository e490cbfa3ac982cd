//! Which key is rotated.

use clap::Args;

use super::StoreArguments;
use crate::store::RootKeySource;

/// `cairn key rotate`.
#[derive(Debug, Args)]
pub(crate) struct RotateOptions {
    #[command(flatten)]
    pub(crate) store: StoreArguments,
    /// Where the next root key is: a file, made if it is not there, or pkcs11: URI [default: a new key in
    /// the old one's place]
    #[arg(long, value_name = "FILE|URI", conflicts_with_all = ["tenant", "tokens", "patient"])]
    pub(crate) to: Option<RootKeySource>,
    /// Rotate the organisation's keys, under which its patients' keys and its audit lie
    #[arg(long, conflicts_with_all = ["tokens", "patient"])]
    pub(crate) tenant: bool,
    /// Rotate the key of the organisation's search tokens, under a running server or without one
    #[arg(long, conflicts_with = "patient")]
    pub(crate) tokens: bool,
    /// Rotate the key of one patient
    #[arg(long, value_name = "ID")]
    pub(crate) patient: Option<String>,
    /// Rotate the key that signs identity tokens for applications, under a running server or without one: the new
    /// one is shown at once and signs after a day
    #[arg(long, conflicts_with_all = ["tenant", "tokens", "patient", "to"])]
    pub(crate) signing: bool,
    /// Have the new one sign at once and take all others away, because the present one may be known to others
    #[arg(long)]
    pub(crate) at_once: bool,
}
