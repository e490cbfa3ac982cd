//! How other systems and applications are registered.

use std::path::PathBuf;

use clap::Args;
use trust::identity::Contract;

use super::{ClientRole, StoreArguments};

/// `cairn client register`.
#[derive(Debug, Args)]
pub(crate) struct RegisterOptions {
    #[command(flatten)]
    pub(crate) store: StoreArguments,
    /// Name of the system, for the audit
    #[arg(long, value_name = "NAME")]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) proof: SystemProof,
    /// What it may ask for at most, e.g. "system/Patient.rs system/Observation.rs?category=laboratory"
    #[arg(long, value_name = "SCOPES")]
    pub(crate) scopes: String,
    #[command(flatten)]
    pub(crate) registered: RegisteredFor,
}

/// What a system proves itself by.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct SystemProof {
    /// File with its public keys, a JSON Web Key Set; - for standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) keys: Option<PathBuf>,
    /// Or the address where they are fetched from, at an origin that oauth.key_origins lists
    #[arg(long, value_name = "URL")]
    pub(crate) keys_url: Option<String>,
    /// Or the subject of the certificate that it connects with, which leads to an authority of
    /// oauth.client_ca_file, as RFC 4514 writes it: CN=laboratory,O=Example
    #[arg(long, value_name = "NAME")]
    pub(crate) tls_subject: Option<String>,
    /// Or another name of such a certificate: dns:, uri:, ip: or email:, and the name
    #[arg(long, value_name = "NAME")]
    pub(crate) tls_name: Option<String>,
    /// Or a PEM file with the one certificate that it connects with, whoever signed it; may be given several
    /// times, while certificates rotate
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_certificate: Vec<PathBuf>,
}

/// `cairn client rekey`.
#[derive(Debug, Args)]
pub(crate) struct RekeyOptions {
    #[command(flatten)]
    pub(crate) store: StoreArguments,
    /// Its client_id, as `cairn client list` shows it
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) proof: SystemProof,
    /// How many hours the keys or certificates of before stay good beside the new ones, at most 2160 (90 days)
    #[arg(
        long,
        value_name = "HOURS",
        default_value_t = 24,
        conflicts_with = "at_once"
    )]
    pub(crate) keep_h: u64,
    /// End those of before at once, and all access tokens with them, because they may be known to others; with the
    /// --keys-url that it has, what is there is fetched anew
    #[arg(long)]
    pub(crate) at_once: bool,
}

/// What a system is registered for.
#[derive(Debug, Clone, Args)]
pub(crate) struct RegisteredFor {
    /// What for it may ask (X-Purpose-Of-Use): some of TREAT, CAREMGT, HPAYMT, HOPERAT, HRESCH, and of the purposes of
    /// one's own in --policy-folder, with commas between [default: TREAT,CAREMGT,HPAYMT,HOPERAT; HPAYMT of a biller]
    #[arg(long, value_name = "PURPOSES")]
    pub(crate) purposes: Option<String>,
    /// Folder of the policies, whose purposes.toml has the purposes of one's own that --purposes names
    #[arg(long, value_name = "DIR", requires = "purposes")]
    pub(crate) policy_folder: Option<PathBuf>,
    /// Whether there is a contract with those whose it is: not-needed, signed, or none, and then nothing is
    /// disclosed [default: not-needed]
    #[arg(long, value_name = "STATE", value_parser = contract)]
    pub(crate) contract: Option<Contract>,
}

fn contract(text: &str) -> Result<Contract, String> {
    Contract::parse(text).ok_or_else(|| "takes not-needed, signed or none".to_owned())
}

/// `cairn client register-app`.
#[derive(Debug, Args)]
pub(crate) struct RegisterAppOptions {
    #[command(flatten)]
    pub(crate) store: StoreArguments,
    /// Name of the application, for the people who let it in
    #[arg(long, value_name = "NAME")]
    pub(crate) name: String,
    /// Where people are sent back to: https, or http://127.0.0.1 for programs on their own machine, with any
    /// port; may be given several times
    #[arg(long, value_name = "URL", required = true)]
    pub(crate) redirect_uri: Vec<String>,
    /// Where it opens from a patient's page; it needs the scope launch, too
    #[arg(long, value_name = "URL")]
    pub(crate) launch_uri: Option<String>,
    /// File with its public keys, a JSON Web Key Set; - for standard input. Without keys it keeps no secret
    #[arg(long, value_name = "FILE")]
    pub(crate) keys: Option<PathBuf>,
    /// Or the address where they are fetched from, at an origin that oauth.key_origins lists
    #[arg(long, value_name = "URL", conflicts_with = "keys")]
    pub(crate) keys_url: Option<String>,
    /// What it may ask for at most, e.g. "launch/patient offline_access patient/*.rs"
    #[arg(long, value_name = "SCOPES")]
    pub(crate) scopes: String,
}

/// `cairn client create`.
#[derive(Debug, Args)]
pub(crate) struct ClientOptions {
    #[command(flatten)]
    pub(crate) store: StoreArguments,
    /// Role: client for FHIR, squad to publish journeys, privacy-officer for the audit, biller for payment,
    /// steerer to move patients between versions of a journey
    #[arg(long, value_enum, default_value_t = ClientRole::Client)]
    pub(crate) role: ClientRole,
    /// Name of the system, for the audit
    #[arg(long, value_name = "NAME")]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) registered: RegisteredFor,
}
