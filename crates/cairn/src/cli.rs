//! The command line. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 done but entries were refused.

mod clients;
mod keys;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::place::Place;
use crate::store::RootKeySource;
use crate::{commands, demo, terminal};

pub(crate) use self::clients::{
    ClientOptions, RegisterAppOptions, RegisterOptions, RegisteredFor, RekeyOptions, SystemProof,
};
pub(crate) use self::keys::RotateOptions;

/// Cairn runs patients' journeys through care, lawfully.
#[derive(Debug, Parser)]
#[command(
    name = "cairn",
    version,
    propagate_version = true,
    arg_required_else_help = true
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run everything with synthetic patients, in accelerated time
    Demo(demo::DemoOptions),
    /// Run the server
    Serve(ServeOptions),
    /// Import FHIR R4 bundles and NDJSON (plain, gzip, zstd) into a store that no server has open
    Import(ImportOptions),
    /// Back a store up, also while a server has it open: everything, or what came since the last backup
    Backup(BackupOptions),
    /// Restore a backup, as it was at any moment, into a folder with nothing but its root key, and check it
    Restore(RestoreArguments),
    /// Check everything that a store holds; exits with 1 when something is wrong
    Doctor {
        #[command(flatten)]
        store: StoreArguments,
        /// Write anew what follows from the rest, unless something is damaged that does not
        #[arg(long)]
        repair: bool,
        /// Print the whole report as JSON
        #[arg(long)]
        json: bool,
    },
    /// What waits to be sent, e.g. after a restore
    #[command(subcommand)]
    Outbox(OutboxCommand),
    /// Subscriptions: what became of their notifications, what is sent again, and what they are signed with
    #[command(subcommand)]
    Subscription(commands::SubscriptionCommand),
    /// Check and prove the audit
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Check and publish journeys
    #[command(subcommand)]
    Journey(JourneyCommand),
    /// Evaluate a FHIRPath expression on a resource, and print the result as a JSON array; exits with 1
    /// and the position when the expression is wrong
    Fhirpath {
        /// The expression, e.g. 'name.given.first()'
        expression: String,
        /// File with the resource as JSON or XML; - for standard input
        file: PathBuf,
    },
    /// Check, test and explain policies
    #[command(subcommand)]
    Policy(commands::PolicyCommand),
    /// What regulations require, and the proof of it
    #[command(subcommand)]
    Compliance(commands::ComplianceCommand),
    /// The database of a store
    #[command(subcommand)]
    Store(StoreCommand),
    /// Search parameters of one's own
    #[command(subcommand)]
    SearchParameter(SearchParameterCommand),
    /// Organisations that share a store, each with keys, rules and host names of its own
    #[command(subcommand)]
    Tenant(commands::TenantCommand),
    /// Root keys
    #[command(subcommand)]
    Key(KeyCommand),
    /// People's accounts
    #[command(subcommand)]
    Account(AccountCommand),
    /// Access tokens of other systems
    #[command(subcommand)]
    Client(ClientCommand),
}

/// Which store a command works on.
#[derive(Clone, Args)]
pub struct StoreArguments {
    /// Folder of the store
    #[arg(long, value_name = "DIR", required_unless_present = "store_url")]
    pub data: Option<PathBuf>,
    /// File with the root key, or pkcs11: URI of one in a token [default: DIR/root.key]
    #[arg(long, value_name = "FILE|URI")]
    pub root_key: Option<RootKeySource>,
    /// PostgreSQL database that holds the store, instead of a folder
    #[arg(
        long,
        value_name = "URL",
        env = "CAIRN_STORE_URL",
        hide_env_values = true
    )]
    pub store_url: Option<String>,
    /// File with the database's password
    #[arg(long, value_name = "FILE", env = "CAIRN_STORE_PASSWORD_FILE")]
    pub store_password_file: Option<PathBuf>,
    /// PEM file of the authority that signed the database server's certificate
    #[arg(long, value_name = "FILE", env = "CAIRN_STORE_CA_FILE")]
    pub store_ca_file: Option<PathBuf>,
    /// Schema of the store's tables
    #[arg(
        long,
        value_name = "NAME",
        env = "CAIRN_STORE_SCHEMA",
        default_value = "cairn"
    )]
    pub store_schema: String,
    /// The tenant that it is about, by its name, where the store has several
    #[arg(long, value_name = "TENANT")]
    pub of: Option<String>,
}

impl std::fmt::Debug for StoreArguments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the URL: a password may be in it.
        f.debug_struct("StoreArguments")
            .field("data", &self.data)
            .field("root_key", &self.root_key)
            .finish_non_exhaustive()
    }
}

impl StoreArguments {
    /// The store of a configuration.
    pub(crate) fn configured(settings: &crate::config::Settings) -> Self {
        let key_file = settings.root_key_file.clone().map(RootKeySource::File);
        let key = settings
            .root_key
            .clone()
            .map(RootKeySource::Token)
            .or(key_file);
        let store = &settings.store;
        Self {
            data: settings.data.clone(),
            root_key: key,
            store_url: store.url.clone(),
            store_password_file: store.password_file.clone(),
            store_ca_file: store.ca_file.clone(),
            store_schema: store.schema.clone(),
            of: None,
        }
    }

    /// A store in a folder.
    pub(crate) fn in_folder(data: PathBuf, root_key: Option<RootKeySource>) -> Self {
        Self {
            data: Some(data),
            root_key,
            store_url: None,
            store_password_file: None,
            store_ca_file: None,
            store_schema: String::new(),
            of: None,
        }
    }
}

/// `cairn serve`.
#[derive(Debug, Args)]
pub struct ServeOptions {
    /// Folder of the store
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Address to listen on [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE", env = "CAIRN_CONFIG")]
    pub config: Option<PathBuf>,
    /// File with the root key, or pkcs11: URI of one in a token [default: DIR/root.key]
    #[arg(long, value_name = "FILE|URI")]
    pub root_key: Option<RootKeySource>,
    /// Set any configuration key; stronger than environment and file
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_and_value)]
    pub set: Vec<(String, String)>,
}

/// `cairn import`.
#[derive(Debug, Args)]
pub struct ImportOptions {
    #[command(flatten)]
    pub(crate) store: StoreArguments,
    /// Where refused entries go, one JSON object a line
    #[arg(long, value_name = "FILE", default_value = "cairn-rejects.ndjson")]
    pub(crate) rejects: PathBuf,
    /// How many bundles are worked on at once
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) parallel: u16,
    /// Files or folders; - is standard input
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
}

/// `cairn backup`.
#[derive(Debug, Args)]
pub struct BackupOptions {
    #[command(flatten)]
    pub(crate) store: StoreArguments,
    /// Place for the backups of this store: a folder on another disk, made if it is not there, or a bucket,
    /// s3://BUCKET/PREFIX?endpoint=URL&region=REGION&credentials=FILE
    #[arg(long, value_name = "DIR|URL")]
    pub(crate) to: Place,
    /// Take everything, also where the last backup could be gone on from
    #[arg(long)]
    pub(crate) whole: bool,
    /// Remove all chains of backups but the newest N afterwards
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) keep: Option<u32>,
    /// Print the report with the signed checkpoint, as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `cairn restore`.
#[derive(Debug, Args)]
pub struct RestoreArguments {
    #[command(flatten)]
    pub(crate) store: StoreArguments,
    /// Folder or bucket with the backups, as `cairn backup --to` takes it
    #[arg(long, value_name = "DIR|URL")]
    pub(crate) from: Place,
    /// The moment: a sequence number, or a time in RFC 3339 [default: the newest]
    #[arg(long, value_name = "TIME|SEQUENCE", value_parser = commands::parse_moment)]
    pub(crate) to: Option<ledger::Moment>,
    /// Which chain of backups [default: the newest that holds the moment]
    #[arg(long, value_name = "CHAIN")]
    pub(crate) chain: Option<String>,
    /// A newer list of destroyed keys than the backup has; may be given several times
    #[arg(long, value_name = "FILE")]
    pub(crate) shred_list: Vec<PathBuf>,
    /// Let messages leave at once, though some may have been sent already
    #[arg(long)]
    pub(crate) release_outbox: bool,
    /// Print the report as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
enum OutboxCommand {
    /// List what waits: id (an e-mail's Message-ID begins with it), channel, when it is due
    List {
        #[command(flatten)]
        store: StoreArguments,
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
    /// Let what waits go, after a restore
    Release {
        #[command(flatten)]
        store: StoreArguments,
    },
    /// Take entries out unsent, e.g. because they were sent before the restore
    Discard {
        #[command(flatten)]
        store: StoreArguments,
        /// Ids, as `cairn outbox list` shows them
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Check every tree, every leaf and the signed checkpoint; exits with 1 when something is broken
    Verify {
        #[command(flatten)]
        store: StoreArguments,
        /// Also prove that today's trees go on from this older checkpoint, of all trees or of one
        #[arg(long, value_name = "FILE")]
        against: Option<PathBuf>,
        /// Print the whole report with the signed checkpoint and the consistency proofs, as JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the proof that a leaf is in its tree
    Prove(ProveOptions),
    /// Write the trees' logs as static files (C2SP tlog-tiles), for a web server or a court
    Export(ExportOptions),
    /// Keep the cosignatures of witnesses on a checkpoint of a tree's log
    Cosign {
        #[command(flatten)]
        store: StoreArguments,
        #[command(flatten)]
        witnesses: WitnessArguments,
        /// The log's checkpoint with the witnesses' lines added
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
    },
}

/// Whose cosignatures count.
#[derive(Debug, Args)]
pub struct WitnessArguments {
    /// File with the verifier keys of witnesses, one a line
    #[arg(long, value_name = "FILE")]
    pub(crate) witness_keys: Option<PathBuf>,
    /// How many cosignatures make a checkpoint a witnessed one
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) witness_quorum: u16,
}

/// `cairn audit prove`.
#[derive(Debug, Args)]
pub struct ProveOptions {
    #[command(flatten)]
    pub(crate) store: StoreArguments,
    #[command(flatten)]
    pub(crate) witnesses: WitnessArguments,
    /// In which form
    #[arg(long, value_enum, default_value_t = ProofFormat::Json)]
    pub(crate) format: ProofFormat,
    /// Id of the AuditEvent, or SHARD/INDEX of a leaf (e.g. 3f/120)
    pub(crate) leaf: String,
}

/// `cairn audit export`.
#[derive(Debug, Args)]
pub struct ExportOptions {
    #[command(flatten)]
    pub(crate) store: StoreArguments,
    #[command(flatten)]
    pub(crate) witnesses: WitnessArguments,
    /// Folder for the files; what an earlier export left there is added to
    #[arg(long, value_name = "DIR")]
    pub(crate) to: PathBuf,
    /// Also the leaves' records, which show tenants, times and counts
    #[arg(long)]
    pub(crate) entries: bool,
}

/// The form of a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProofFormat {
    /// Everything, against the checkpoint over all trees too.
    Json,
    /// C2SP tlog-proof, against the checkpoint of the leaf's log.
    TlogProof,
}

#[derive(Debug, Subcommand)]
enum JourneyCommand {
    /// Check a journey file; exits with 1 when it has errors
    Check(commands::CheckOptions),
    #[command(flatten)]
    Files(commands::JourneyFiles),
    /// Publish a journey file as the journey's next version, or bring it to another stage
    Publish(PublishOptions),
    /// Tell what would come of moving patients to another version of their journey; with --apply, move them
    Migrate(Box<commands::MigrateOptions>),
    /// Play what really happened to patients again with a draft: where it goes the same way, where it differs, and
    /// where it can't be told; writes nothing but the audit of the look, and exits with 1 when it is not the same
    Replay(Box<commands::ReplayOptions>),
    #[command(flatten)]
    Analysis(commands::JourneyAnalysis),
    /// List the events and timers that no journey could be moved by; exits with 1 when there are some
    DeadLetters {
        #[command(flatten)]
        store: StoreArguments,
        /// Print them as JSON, one a line
        #[arg(long)]
        json: bool,
    },
    /// Play dead letters again, e.g. after a repair; exits with 1 when some still can't be worked on
    Retry {
        #[command(flatten)]
        store: StoreArguments,
        /// Ids of the letters
        #[arg(value_name = "LETTER", required_unless_present = "all")]
        letters: Vec<String>,
        /// All of them, in the order in which they came
        #[arg(long, conflicts_with = "letters")]
        all: bool,
    },
}

/// `cairn journey publish`.
#[derive(Debug, Args)]
pub struct PublishOptions {
    /// Folder of a store that no server has open; one in a database is published to by its server
    #[arg(
        long,
        value_name = "DIR",
        conflicts_with = "server",
        required_unless_present = "server"
    )]
    pub(crate) data: Option<PathBuf>,
    /// File with the root key, or pkcs11: URI of one in a token [default: DIR/root.key]
    #[arg(long, value_name = "FILE|URI", requires = "data")]
    pub(crate) root_key: Option<RootKeySource>,
    /// Folder of the policies, whose partners.toml says whom journeys may call and with what [default: nobody]
    #[arg(long, value_name = "DIR", requires = "data")]
    pub(crate) policy_folder: Option<PathBuf>,
    /// URL of a running server
    #[arg(long, value_name = "URL", requires = "token")]
    pub(crate) server: Option<String>,
    /// Access token of a client with the role squad
    #[arg(
        long,
        value_name = "TOKEN",
        env = "CAIRN_TOKEN",
        hide_env_values = true
    )]
    pub(crate) token: Option<String>,
    /// The stage that the version with this file is brought to, by those between
    #[arg(long, value_enum, default_value_t = commands::StageName::Live)]
    pub(crate) stage: commands::StageName,
    /// With --stage staged: so many in a hundred of the new patients start on it
    #[arg(long, value_name = "P", value_parser = clap::value_parser!(u8).range(1..=100))]
    pub(crate) share: Option<u8>,
    /// With --stage staged: only those of this organization, by its id; may be given several times
    #[arg(long = "site", value_name = "ID")]
    pub(crate) sites: Vec<String>,
    /// Why: it stands in the version's history; needed for each stage but live
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// The file
    pub(crate) file: PathBuf,
}

#[derive(Debug, Subcommand)]
enum SearchParameterCommand {
    /// Tell of each active one how many resources are indexed by it; exits with 1 when one is not complete
    Status(SearchParameterStatus),
}

/// `cairn search-parameter status`.
#[derive(Debug, Args)]
pub struct SearchParameterStatus {
    /// URL of a running server
    #[arg(long, value_name = "URL")]
    pub(crate) server: String,
    /// Access token of a client
    #[arg(
        long,
        value_name = "TOKEN",
        env = "CAIRN_TOKEN",
        hide_env_values = true
    )]
    pub(crate) token: String,
    /// Ask again until all are complete
    #[arg(long)]
    pub(crate) wait: bool,
}

#[derive(Debug, Subcommand)]
enum StoreCommand {
    /// Make or migrate the schema of a store in a PostgreSQL database; doing it again changes nothing
    Init {
        #[command(flatten)]
        store: StoreArguments,
        /// Spread the tables of a new store over the servers of a Citus cluster
        #[arg(long)]
        citus: bool,
    },
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Make a root key for a new store, in a file or a PKCS#11 token; never overwrites one
    Create {
        /// Folder of the store
        #[arg(long, value_name = "DIR", required_unless_present = "root_key")]
        data: Option<PathBuf>,
        /// Where the key goes: a file, or pkcs11: URI [default: DIR/root.key]
        #[arg(long, value_name = "FILE|URI")]
        root_key: Option<RootKeySource>,
    },
    /// Rotate a key of a store: the root key, if nothing else is said. No server may have the store in a folder
    /// open, but for those of tokens and signing; those that share one in a database need to be stopped for the root key only
    Rotate(RotateOptions),
    /// Write the sealed list of destroyed patients' and tenants' keys, for `cairn restore --shred-list`
    ShredList {
        #[command(flatten)]
        store: StoreArguments,
        /// Where it goes
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
enum AccountCommand {
    /// Make an account; the password is asked for, or read from standard input
    Create(AccountOptions),
    /// List accounts: state, role, user name, second factor, name
    List {
        #[command(flatten)]
        store: StoreArguments,
        /// Only this role
        #[arg(long, value_enum)]
        role: Option<StaffRole>,
    },
    /// Close an account, or the portal for a patient: sessions end, and nobody signs in with it
    Close(WhichAccount),
    /// Open a closed account again; failed tries are forgiven
    Reopen(WhichAccount),
    /// Take a lost second factor away: the next sign-in with the password sets another one up
    ResetSecondFactor {
        #[command(flatten)]
        store: StoreArguments,
        /// User name
        #[arg(long, value_name = "NAME")]
        user_name: String,
        /// Why; stands in the audit
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Let somebody in with an account whom an identity provider signs in
    Link(LinkOptions),
    /// Take such a link away; what it opened ends
    Unlink {
        #[command(flatten)]
        store: StoreArguments,
        #[command(flatten)]
        who: AtProvider,
    },
    /// List such links: user name, issuer, subject
    Links {
        #[command(flatten)]
        store: StoreArguments,
    },
    /// Switch signing in by password off for an account that is linked to somebody at a provider, or on again
    Password {
        #[command(flatten)]
        store: StoreArguments,
        /// User name
        #[arg(long, value_name = "NAME")]
        user_name: String,
        /// on or off
        state: OnOff,
    },
    /// Say which actors of consents an account is
    KnownAs {
        #[command(flatten)]
        store: StoreArguments,
        /// User name
        #[arg(long, value_name = "NAME")]
        user_name: String,
        /// Type/id of a practitioner, organization, group or the like; all that it is known as, or none
        references: Vec<String>,
    },
}

/// Whether something is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OnOff {
    On,
    Off,
}

/// Somebody at an identity provider.
#[derive(Debug, Args)]
pub struct AtProvider {
    /// The provider's issuer, as the configuration has it
    #[arg(long, value_name = "URL")]
    pub(crate) issuer: String,
    /// What it calls them (sub)
    #[arg(long, value_name = "TEXT")]
    pub(crate) subject: String,
}

/// `cairn account link`.
#[derive(Debug, Args)]
pub struct LinkOptions {
    #[command(flatten)]
    pub(crate) store: StoreArguments,
    /// User name
    #[arg(long, value_name = "NAME")]
    pub(crate) user_name: String,
    #[command(flatten)]
    pub(crate) who: AtProvider,
}

/// Which account a command is about. With the server running, use its page /console/accounts.
#[derive(Debug, Args)]
pub struct WhichAccount {
    #[command(flatten)]
    pub(crate) store: StoreArguments,
    /// User name
    #[arg(
        long,
        value_name = "NAME",
        conflicts_with = "patient",
        required_unless_present = "patient"
    )]
    pub(crate) user_name: Option<String>,
    /// Id of a patient, who signs in by links
    #[arg(long, value_name = "ID")]
    pub(crate) patient: Option<String>,
}

/// `cairn account create`.
#[derive(Debug, Args)]
pub struct AccountOptions {
    #[command(flatten)]
    pub(crate) store: StoreArguments,
    /// Role
    #[arg(long, value_enum)]
    pub(crate) role: StaffRole,
    /// User name
    #[arg(long, value_name = "NAME")]
    pub(crate) user_name: String,
    /// Name to show
    #[arg(long, value_name = "NAME")]
    pub(crate) name: String,
}

#[derive(Debug, Subcommand)]
enum ClientCommand {
    /// Make an access token for another system; it is shown once
    Create(ClientOptions),
    /// Register a system that signs in with a key (SMART Backend Services) or a certificate of its own; prints its
    /// client_id
    Register(RegisterOptions),
    /// Register an application that people launch (SMART App Launch); prints its client_id
    RegisterApp(RegisterAppOptions),
    /// Give a system or an application other keys or certificates, without revoking it
    Rekey(RekeyOptions),
    /// Let a system or an application in that asked to be registered, with the scopes that it asked for or others
    Approve {
        #[command(flatten)]
        store: StoreArguments,
        /// Its client_id, as `cairn client list` shows it
        id: String,
        /// What it may ask for at most
        #[arg(long, value_name = "SCOPES")]
        scopes: String,
        #[command(flatten)]
        registered: RegisteredFor,
    },
    /// Say what for a system may ask, and what there is of a contract, instead of what was said before
    Purposes {
        #[command(flatten)]
        store: StoreArguments,
        /// Its id, as `cairn client list` shows it
        id: String,
        #[command(flatten)]
        registered: RegisteredFor,
    },
    /// List other systems: state, role, id, end of the token or scopes, what it is registered for, name
    List {
        #[command(flatten)]
        store: StoreArguments,
    },
    /// Say which actors of consents a client is
    KnownAs {
        #[command(flatten)]
        store: StoreArguments,
        /// Id of the client, as `cairn client list` shows it
        id: String,
        /// Type/id of an organization, practitioner, group or the like; all that it is known as, or none
        references: Vec<String>,
    },
    /// Revoke an access token for good, or a system with all of its tokens
    Revoke {
        #[command(flatten)]
        store: StoreArguments,
        /// Id of the client, as `cairn client list` shows it
        id: String,
        /// Why; stands in the audit
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

/// Roles that people's accounts can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StaffRole {
    /// Works the list of tasks.
    Coordinator,
    /// Treats patients.
    Clinician,
    /// Watches over the audit.
    PrivacyOfficer,
    /// Owns journeys.
    Squad,
    /// Manages accounts.
    Administrator,
    /// Bills for what was done, and sees what that needs.
    Biller,
}

impl From<StaffRole> for trust::Role {
    fn from(role: StaffRole) -> Self {
        match role {
            StaffRole::Coordinator => Self::Coordinator,
            StaffRole::Clinician => Self::Clinician,
            StaffRole::PrivacyOfficer => Self::PrivacyOfficer,
            StaffRole::Squad => Self::Squad,
            StaffRole::Administrator => Self::Administrator,
            StaffRole::Biller => Self::Biller,
        }
    }
}

/// Roles that access tokens can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ClientRole {
    /// Reads and writes FHIR.
    Client,
    /// Publishes journeys.
    Squad,
    /// Reads the audit and the entries of its logs.
    PrivacyOfficer,
    /// Reads for payment what that needs, and writes bills.
    Biller,
    /// Moves patients between versions of a journey, and nothing else: it sees how many, never who. Lasts 90 days.
    Steerer,
}

pub(crate) fn key_and_value(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(key, value)| (key.trim().to_owned(), value.to_owned()))
        .ok_or_else(|| "takes KEY=VALUE".to_owned())
}

/// Runs the command line of this process.
#[must_use]
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            terminal::warn(&format!("cairn: {error}"));
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(command(cli.command)) {
        Ok(code) => code,
        Err(error) => {
            terminal::warn(&format!("cairn: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn command(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Demo(options) => demo::run(options).await,
        Command::Serve(options) => commands::serve(options).await,
        Command::Import(options) => commands::import(options).await,
        Command::Backup(options) => commands::backup(options).await,
        Command::Restore(arguments) => commands::restore(arguments).await,
        Command::Doctor {
            store,
            repair,
            json,
        } => commands::doctor(&store, repair, json).await,
        Command::Outbox(OutboxCommand::List { store, json }) => {
            commands::list_outbox(&store, json).await
        }
        Command::Subscription(command) => commands::subscription(&command).await,
        Command::Outbox(OutboxCommand::Release { store }) => commands::release_outbox(&store).await,
        Command::Outbox(OutboxCommand::Discard { store, ids }) => {
            commands::discard_outbox(&store, ids).await
        }
        Command::Audit(AuditCommand::Verify {
            store,
            against,
            json,
        }) => commands::verify(&store, against.as_deref(), json).await,
        Command::Audit(AuditCommand::Prove(options)) => commands::prove(&options).await,
        Command::Audit(AuditCommand::Export(options)) => commands::export(&options).await,
        Command::Audit(AuditCommand::Cosign {
            store,
            witnesses,
            file,
        }) => commands::cosign(&store, &witnesses, &file).await,
        Command::Journey(JourneyCommand::Check(options)) => commands::check(&options),
        Command::Journey(JourneyCommand::Files(command)) => commands::journey_files(&command),
        Command::Journey(JourneyCommand::Publish(options)) => commands::publish(options).await,
        Command::Journey(JourneyCommand::Migrate(options)) => commands::migrate(&options).await,
        Command::Journey(JourneyCommand::Replay(options)) => commands::replay(&options).await,
        Command::Journey(JourneyCommand::Analysis(of)) => commands::journey_analysis(&of).await,
        Command::Journey(JourneyCommand::DeadLetters { store, json }) => {
            commands::dead_letters(&store, json).await
        }
        Command::Journey(JourneyCommand::Retry {
            store,
            letters,
            all: _,
        }) => commands::retry(&store, &letters).await,
        Command::Fhirpath { expression, file } => commands::fhirpath(&expression, &file),
        Command::Policy(command) => commands::policy(&command).await,
        Command::Compliance(command) => commands::compliance(command).await,
        Command::Tenant(command) => commands::tenant(command).await,
        Command::Store(StoreCommand::Init { store, citus }) => {
            commands::init_store(&store, citus).await
        }
        Command::SearchParameter(SearchParameterCommand::Status(options)) => {
            commands::search_parameter_status(options).await
        }
        Command::Key(KeyCommand::Create { data, root_key }) => commands::create_key(data, root_key),
        Command::Key(KeyCommand::Rotate(options)) => commands::rotate_key(options).await,
        Command::Key(KeyCommand::ShredList { store, to }) => {
            commands::shred_list(&store, &to).await
        }
        Command::Account(AccountCommand::Create(options)) => {
            commands::create_account(options).await
        }
        Command::Account(AccountCommand::List { store, role }) => {
            commands::list_accounts(&store, role.map(Into::into)).await
        }
        Command::Account(AccountCommand::Close(which)) => commands::set_active(which, false).await,
        Command::Account(AccountCommand::Reopen(which)) => commands::set_active(which, true).await,
        Command::Account(AccountCommand::ResetSecondFactor {
            store,
            user_name,
            reason,
        }) => commands::reset_second_factor(&store, &user_name, &reason).await,
        Command::Account(AccountCommand::Link(options)) => commands::link_account(options).await,
        Command::Account(AccountCommand::Unlink { store, who }) => {
            commands::unlink_account(&store, &who).await
        }
        Command::Account(AccountCommand::Links { store }) => commands::list_links(&store).await,
        Command::Account(AccountCommand::Password {
            store,
            user_name,
            state,
        }) => commands::set_password_sign_in(&store, &user_name, state == OnOff::On).await,
        Command::Account(AccountCommand::KnownAs {
            store,
            user_name,
            references,
        }) => {
            commands::set_known_as(&store, commands::Known::Account(&user_name), &references).await
        }
        Command::Client(ClientCommand::Create(options)) => commands::create_client(options).await,
        Command::Client(ClientCommand::Register(options)) => {
            commands::register_client(options).await
        }
        Command::Client(ClientCommand::RegisterApp(options)) => {
            commands::register_app(options).await
        }
        Command::Client(ClientCommand::Rekey(options)) => commands::rekey_client(options).await,
        Command::Client(ClientCommand::Approve {
            store,
            id,
            scopes,
            registered,
        }) => commands::approve_client(&store, &id, &scopes, &registered).await,
        Command::Client(ClientCommand::Purposes {
            store,
            id,
            registered,
        }) => commands::set_registered(&store, &id, &registered).await,
        Command::Client(ClientCommand::List { store }) => commands::list_clients(&store).await,
        Command::Client(ClientCommand::KnownAs {
            store,
            id,
            references,
        }) => commands::set_known_as(&store, commands::Known::Client(&id), &references).await,
        Command::Client(ClientCommand::Revoke { store, id, reason }) => {
            commands::revoke_client(&store, &id, &reason).await
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        super::Cli::command().debug_assert();
    }
}
