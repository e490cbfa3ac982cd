//! `cairn tenant`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Subcommand;
use ledger::{Tenant, TenantQuota, TenantState};

use super::keep::order;
use crate::cli::StoreArguments;
use crate::control::Order;
use crate::tenancy::{Administrator, Destroyed, Manifest, Proven, TenantOrder, check};
use crate::terminal::{ask_secret, say};

/// With a server or without one: where a server has a store in a folder open, it does what is asked for.
#[derive(Debug, Subcommand)]
pub enum TenantCommand {
    /// Make a tenant with keys of its own; the password of its administrator is asked for, or read from standard input
    Create {
        #[command(flatten)]
        store: StoreArguments,
        /// What operators call it: a-z, 0-9 and -
        name: String,
        /// A host name that it is reached by, the one of its links first; may be given several times
        #[arg(long, value_name = "HOST", required = true)]
        host: Vec<String>,
        /// User name of its first administrator
        #[arg(long, value_name = "USER")]
        administrator: Option<String>,
    },
    /// List tenants: state, number, name, hosts, quota
    List {
        #[command(flatten)]
        store: StoreArguments,
        /// Print them as JSON
        #[arg(long)]
        json: bool,
    },
    /// Give a tenant another name, other hosts or another quota; what is not given stays
    Set(SetOptions),
    /// Refuse every request of a tenant, and let its journeys and messages wait, within seconds
    Suspend {
        #[command(flatten)]
        store: StoreArguments,
        /// Its name
        name: String,
    },
    /// Serve a suspended tenant again; what has waited goes on
    Resume {
        #[command(flatten)]
        store: StoreArguments,
        /// Its name
        name: String,
    },
    /// Write everything of a tenant into a folder: FHIR as NDJSON by type, the audit with proofs, and a manifest
    Export {
        #[command(flatten)]
        store: StoreArguments,
        /// Its name
        name: String,
        /// The folder, which is made; nothing may be in it
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
    },
    /// Check an export against its manifest; exits with 1 when something is missing or changed
    CheckExport {
        /// The folder
        folder: PathBuf,
    },
    /// Destroy the keys of a tenant that is suspended: nothing of it opens any more
    Destroy {
        #[command(flatten)]
        store: StoreArguments,
        /// Its name
        name: String,
        /// Its name again
        #[arg(long, value_name = "NAME")]
        confirm: String,
        /// Print what came of it as JSON
        #[arg(long)]
        json: bool,
    },
    /// Print what is left of a destroyed tenant, and the records of its destruction with their proofs, as JSON; exits
    /// with 1 when a secret of it is left
    Prove {
        #[command(flatten)]
        store: StoreArguments,
        /// Its name
        name: String,
    },
}

/// `cairn tenant set`.
#[derive(Debug, clap::Args)]
pub struct SetOptions {
    #[command(flatten)]
    store: StoreArguments,
    /// Its name
    name: String,
    /// Another name
    #[arg(long, value_name = "NAME")]
    rename: Option<String>,
    /// All host names that it is reached by from now on; may be given several times
    #[arg(long, value_name = "HOST")]
    host: Vec<String>,
    /// Requests a second at each server; 0 for no bound
    #[arg(long, value_name = "N")]
    requests_per_s: Option<u32>,
    /// Requests at once at each server; 0 for the bound that all have
    #[arg(long, value_name = "N")]
    at_once: Option<u32>,
    /// Resources that it may store, without earlier versions and audit records; 0 for no bound. Those that are there
    /// are counted
    #[arg(long, value_name = "N")]
    documents: Option<u64>,
}

pub(crate) async fn tenant(command: TenantCommand) -> anyhow::Result<ExitCode> {
    match command {
        TenantCommand::Create {
            store,
            name,
            host,
            administrator,
        } => create(&store, name, host, administrator).await,
        TenantCommand::List { store, json } => list(&store, json).await,
        TenantCommand::Set(options) => set(options).await,
        TenantCommand::Suspend { store, name } => suspend(&store, name, true).await,
        TenantCommand::Resume { store, name } => suspend(&store, name, false).await,
        TenantCommand::Export { store, name, to } => export(&store, name, to).await,
        TenantCommand::CheckExport { folder } => {
            told(&check(&folder)?, "is as it was written");
            Ok(ExitCode::SUCCESS)
        }
        TenantCommand::Destroy {
            store,
            name,
            confirm,
            json,
        } => destroy(&store, name, &confirm, json).await,
        TenantCommand::Prove { store, name } => prove(&store, name).await,
    }
}

async fn done<T: serde::de::DeserializeOwned>(
    store: &StoreArguments,
    wanted: TenantOrder,
) -> anyhow::Result<T> {
    let value = order(store, Order::Tenant(wanted)).await?;
    serde_json::from_value(value).context("the answer of the server that has the store open")
}

async fn create(
    store: &StoreArguments,
    name: String,
    hosts: Vec<String>,
    administrator: Option<String>,
) -> anyhow::Result<ExitCode> {
    let administrator = match administrator {
        None => None,
        Some(user_name) => {
            let password =
                ask_secret(&format!("Password for {user_name}")).context("reading the password")?;
            Some(Administrator {
                user_name,
                password,
            })
        }
    };
    let has_administrator = administrator.is_some();
    let wanted = TenantOrder::Create {
        name,
        hosts,
        administrator,
    };
    let tenant: Tenant = done(store, wanted).await?;
    say(&format!(
        "Made tenant {} (number {}), reached as {}.",
        tenant.name,
        tenant.id.0,
        tenant.hosts.join(", ")
    ));
    if has_administrator {
        say("Its administrator sets the second factor up at the first sign-in.");
    }
    Ok(ExitCode::SUCCESS)
}

fn state(state: TenantState) -> &'static str {
    match state {
        TenantState::Active => "active",
        TenantState::Suspended => "suspended",
        TenantState::Ending => "ending",
        TenantState::Destroyed => "destroyed",
    }
}

async fn list(store: &StoreArguments, json: bool) -> anyhow::Result<ExitCode> {
    let tenants: Vec<Tenant> = done(store, TenantOrder::List).await?;
    if json {
        say(&serde_json::to_string_pretty(&tenants)?);
        return Ok(ExitCode::SUCCESS);
    }
    for tenant in tenants {
        let hosts = match tenant.hosts.as_slice() {
            [] if tenant.is_there() => "any host".to_owned(),
            hosts => hosts.join(", "),
        };
        let bound = |bound: Option<u64>, of: &str| bound.map(|bound| format!("  {bound} {of}"));
        let quota = [
            bound(tenant.quota.requests_per_s.map(u64::from), "requests/s"),
            bound(tenant.quota.at_once.map(u64::from), "at once"),
            bound(tenant.quota.documents, "resources"),
        ];
        let quota: String = quota.into_iter().flatten().collect();
        say(&format!(
            "{:9}  {:4}  {:20}  {hosts}{quota}",
            state(tenant.state),
            tenant.id.0,
            tenant.name,
        ));
    }
    Ok(ExitCode::SUCCESS)
}

async fn set(options: SetOptions) -> anyhow::Result<ExitCode> {
    let is_kept = options.requests_per_s.is_none()
        && options.at_once.is_none()
        && options.documents.is_none();
    let quota = if is_kept {
        None
    } else {
        let tenants: Vec<Tenant> = done(&options.store, TenantOrder::List).await?;
        let before = tenants.iter().find(|tenant| tenant.name == options.name);
        let before = before.map_or_else(TenantQuota::default, |tenant| tenant.quota);
        let bound = |given: Option<u32>, before| match given {
            None => before,
            Some(0) => None,
            Some(bound) => Some(bound),
        };
        Some(TenantQuota {
            requests_per_s: bound(options.requests_per_s, before.requests_per_s),
            at_once: bound(options.at_once, before.at_once),
            documents: match options.documents {
                None => before.documents,
                given => given.filter(|most| *most > 0),
            },
        })
    };
    let hosts = Some(options.host).filter(|hosts| !hosts.is_empty());
    if options.rename.is_none() && hosts.is_none() && quota.is_none() {
        bail!("give --rename, --host, --requests-per-s, --at-once or --documents");
    }
    let wanted = TenantOrder::Set {
        tenant: options.name,
        name: options.rename,
        hosts,
        quota,
    };
    let tenant: Tenant = done(&options.store, wanted).await?;
    say(&format!(
        "Changed tenant {}. Servers follow within two seconds.",
        tenant.name
    ));
    Ok(ExitCode::SUCCESS)
}

async fn suspend(store: &StoreArguments, name: String, suspend: bool) -> anyhow::Result<ExitCode> {
    let wanted = TenantOrder::Suspend {
        tenant: name,
        suspend,
    };
    let tenant: Tenant = done(store, wanted).await?;
    let words = if suspend {
        "is suspended: servers refuse its requests within two seconds, and its journeys and messages wait"
    } else {
        "is served again within two seconds, and what has waited goes on"
    };
    say(&format!("Tenant {} {words}.", tenant.name));
    Ok(ExitCode::SUCCESS)
}

async fn export(store: &StoreArguments, name: String, to: PathBuf) -> anyhow::Result<ExitCode> {
    // The server that does it may run elsewhere.
    let to = std::path::absolute(&to).with_context(|| to.display().to_string())?;
    let manifest: Manifest = done(store, TenantOrder::Export { tenant: name, to }).await?;
    told(&manifest, "was written");
    say("Its files are in the clear: keep them as you keep the records.");
    Ok(ExitCode::SUCCESS)
}

fn told(manifest: &Manifest, what: &str) {
    for part in &manifest.files {
        say(&part.to_string());
    }
    say(&format!(
        "The export of tenant {} {what}.",
        manifest.tenant.name
    ));
}

async fn destroy(
    store: &StoreArguments,
    name: String,
    confirm: &str,
    json: bool,
) -> anyhow::Result<ExitCode> {
    if name != confirm {
        bail!("--confirm is not the tenant's name; nothing was destroyed");
    }
    let destroyed: Destroyed = done(store, TenantOrder::Destroy { tenant: name }).await?;
    if json {
        say(&serde_json::to_string_pretty(&destroyed)?);
        return Ok(ExitCode::SUCCESS);
    }
    say(&format!(
        "Destroyed tenant {}: {} secrets of its keys, and with them {} patients' keys. {} timers and messages that waited \
         were taken away.",
        destroyed.tenant.name,
        destroyed.end.secrets,
        destroyed.end.patients_keys,
        destroyed.end.queued
    ));
    say(&format!(
        "It stands in the store's audit as leaf {}; `cairn tenant prove` prints the proof.",
        destroyed.leaf
    ));
    say(
        "Back up to each place now: until then its backups hold the tenant's keys, wrapped by the root key.",
    );
    Ok(ExitCode::SUCCESS)
}

async fn prove(store: &StoreArguments, name: String) -> anyhow::Result<ExitCode> {
    let proven: Proven = done(store, TenantOrder::Prove { tenant: name }).await?;
    say(&serde_json::to_string_pretty(&proven)?);
    let holds = proven.remains.secrets == 0 && !proven.records.is_empty();
    Ok(if holds {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
