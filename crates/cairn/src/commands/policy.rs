//! `cairn policy`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Subcommand;
use fhir::ResourceType;
use trust::{
    Action, Around, Device, DeviceKind, Factor, PolicyFault, PolicySet, Purpose, Question, Role,
    Weekday, Why,
};

use super::keep::order_by;
use super::serve::settings;
use crate::cli::{ServeOptions, StoreArguments, key_and_value};
use crate::control::Order;
use crate::explaining::{Asked, Decides, Told};
use crate::store::RootKeySource;
use crate::terminal::{say, warn};

#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Check the policies, rules about elements and test files of a folder against its schema; exits with 1 when something is wrong
    Check {
        /// Folder with *.cedar files
        folder: PathBuf,
    },
    /// Check a folder, and run its tests (*.test.toml); exits with 1 when one fails or there is none
    Test {
        /// Folder with *.cedar and *.test.toml files
        folder: PathBuf,
    },
    /// Say whether something is permitted, by which policies, what is not shown, and to whom and for what else it is; exits
    /// with 1 when it is not permitted
    Why(Box<WhyOptions>),
    /// Print what every role may do, with what, for what purpose
    Matrix {
        /// Folder of a set [default: the one that is built in]
        #[arg(long, value_name = "DIR")]
        folder: Option<PathBuf>,
    },
    /// Write the built-in policies with their tests into an empty folder, to begin a set of one's own from
    Init {
        /// The folder, made if it is not there
        folder: PathBuf,
    },
}

/// `cairn policy why`.
#[derive(Debug, clap::Args)]
pub struct WhyOptions {
    /// Role, e.g. clinician
    #[arg(long, value_name = "ROLE", conflicts_with = "part", required_unless_present_any = ["part", "who"], value_parser = role)]
    role: Option<Role>,
    /// A part of Cairn that acts by itself, e.g. journey-engine
    #[arg(long, value_name = "NAME")]
    part: Option<String>,
    /// Purpose of use, e.g. TREAT, or one of one's own that the set has
    #[arg(long, value_name = "CODE")]
    purpose: String,
    /// Action, e.g. read [default with --row: read]
    #[arg(long, value_name = "ACTION", required_unless_present = "row", value_parser = action)]
    action: Option<Action>,
    /// A row, e.g. Observation/o1: also say what relationships, consents, labels and scopes make of it, for --as or any
    /// of the --role. Asks the server that has the store open, or the store if none has; that somebody asked is in
    /// the audit of the row's patients
    #[arg(long, value_name = "TYPE/ID", conflicts_with_all = ["kind", "part", "another", "folder"])]
    row: Option<String>,
    /// Who asks for the row: the user name of an account, or the id of an account or a system; with --role patient or
    /// proxy the id of the patient, or of the record by which somebody acts for one
    #[arg(long = "as", value_name = "USER|CLIENT", requires = "row")]
    who: Option<String>,
    /// The scopes of an access token that it is asked with [default: those that a system is registered with]
    #[arg(long, value_name = "SCOPES", requires = "row")]
    scopes: Option<String>,
    /// Folder of the store, for --row
    #[arg(long, value_name = "DIR", requires = "row")]
    data: Option<PathBuf>,
    /// File with the root key, or pkcs11: URI of one in a token, for --row [default: DIR/root.key]
    #[arg(long, value_name = "FILE|URI", requires = "row")]
    root_key: Option<RootKeySource>,
    /// Configuration file (TOML), for --row: where the store is, and by what is decided if no server has it open
    #[arg(long, value_name = "FILE", env = "CAIRN_CONFIG")]
    config: Option<PathBuf>,
    /// Set any configuration key, for --row; stronger than environment and file
    #[arg(long, value_name = "KEY=VALUE", requires = "row", value_parser = key_and_value)]
    set: Vec<(String, String)>,
    /// FHIR resource type, for the actions that are done to one
    #[arg(long = "type", value_name = "TYPE", value_parser = kind)]
    kind: Option<ResourceType>,
    /// Of a patient: they ask for another's record and not their own
    #[arg(long)]
    another: bool,
    /// The second factor that was shown last: none, totp, passkey or provider [default: none]
    #[arg(long, value_name = "FACTOR", value_parser = factor)]
    second_factor: Option<Factor>,
    /// It was shown lately
    #[arg(long, requires = "second_factor")]
    confirmed: bool,
    /// A network of the configuration that is asked from, by its name; may be given several times
    #[arg(long, value_name = "NAME")]
    network: Vec<String>,
    /// The hour, 0 to 23 [default: 12]
    #[arg(long, value_name = "HOUR", value_parser = clap::value_parser!(u8).range(0..=23))]
    hour: Option<u8>,
    /// The day [default: monday]
    #[arg(long, value_name = "DAY", value_parser = weekday)]
    weekday: Option<Weekday>,
    /// An organization that the asker is known as, by its id; may be given several times
    #[arg(long, value_name = "ID")]
    organization: Vec<String>,
    /// What is asked from: unknown, browser, application, system or part [default: unknown]
    #[arg(long, value_name = "KIND", value_parser = device)]
    device: Option<DeviceKind>,
    /// The id of the application or system that is asked from
    #[arg(long, value_name = "ID", requires = "device")]
    client: Option<String>,
    /// The tenant's name [default: main]
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    /// Folder of a set [default: the one that is built in]
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
}

impl WhyOptions {
    fn around(&self) -> Around {
        let usual = Around::default();
        let mut networks = self.network.clone();
        networks.sort();
        let mut organizations = self.organization.clone();
        organizations.sort();
        Around {
            factor: self.second_factor.unwrap_or(usual.factor),
            confirmed: self.confirmed,
            networks,
            hour: self.hour.unwrap_or(usual.hour),
            weekday: self.weekday.unwrap_or(usual.weekday),
            tenant: self.tenant.clone().unwrap_or(usual.tenant),
            organizations,
            device: Device {
                kind: self.device.unwrap_or_default(),
                client: self.client.clone().unwrap_or_default(),
            },
        }
    }
}

fn factor(name: &str) -> Result<Factor, String> {
    Factor::parse(name).ok_or_else(|| list(Factor::ALL.into_iter().map(Factor::name)))
}

fn device(name: &str) -> Result<DeviceKind, String> {
    DeviceKind::parse(name).ok_or_else(|| list(DeviceKind::ALL.into_iter().map(DeviceKind::name)))
}

fn weekday(name: &str) -> Result<Weekday, String> {
    Weekday::parse(name).ok_or_else(|| list(Weekday::ALL.into_iter().map(Weekday::name)))
}

fn role(name: &str) -> Result<Role, String> {
    let people = || Role::ALL.into_iter().filter(|role| *role != Role::System);
    let found = people().find(|role| role.name() == name);
    found.ok_or_else(|| list(people().map(Role::name)))
}

fn action(name: &str) -> Result<Action, String> {
    Action::parse(name).ok_or_else(|| list(Action::ALL.into_iter().map(Action::name)))
}

fn kind(name: &str) -> Result<ResourceType, String> {
    ResourceType::parse(name).ok_or_else(|| "no resource type of FHIR R4".to_owned())
}

fn list(names: impl Iterator<Item = &'static str>) -> String {
    format!("there are {}", names.collect::<Vec<_>>().join(", "))
}

pub(crate) async fn policy(command: &PolicyCommand) -> anyhow::Result<ExitCode> {
    match command {
        PolicyCommand::Check { folder } => Ok(check(folder)),
        PolicyCommand::Test { folder } => Ok(test(folder)),
        PolicyCommand::Why(options) => match &options.row {
            Some(row) => why_row(options, row).await,
            None => why(options),
        },
        PolicyCommand::Matrix { folder } => Ok(match load(folder.as_deref()) {
            Err(code) => code,
            Ok(set) => {
                say(&set.matrix().join("\n"));
                ExitCode::SUCCESS
            }
        }),
        PolicyCommand::Init { folder } => init(folder),
    }
}

/// A set that is valid, or everything that is wrong with it said.
fn load(folder: Option<&Path>) -> Result<PolicySet, ExitCode> {
    PolicySet::load(folder).map_err(|faults| told(folder, &faults))
}

fn told(folder: Option<&Path>, faults: &[PolicyFault]) -> ExitCode {
    for fault in faults {
        warn(&fault.to_string());
    }
    let place = folder.map_or_else(|| "built in".to_owned(), |path| path.display().to_string());
    let ones = if faults.len() == 1 { "fault" } else { "faults" };
    warn(&format!("{place}: {} {ones}", faults.len()));
    ExitCode::FAILURE
}

fn check(folder: &Path) -> ExitCode {
    match load(Some(folder)) {
        Err(code) => code,
        Ok(set) => {
            say(&format!(
                "{}: {} policies are valid (set {}).",
                folder.display(),
                set.policies().count(),
                set.hash()
            ));
            ExitCode::SUCCESS
        }
    }
}

fn test(folder: &Path) -> ExitCode {
    let set = match load(Some(folder)) {
        Err(code) => return code,
        Ok(set) => set,
    };
    let tested = set.test();
    if tested.cases == 0 {
        warn(&format!(
            "{}: there are no tests; put some into *.test.toml (`cairn policy init` shows how)",
            folder.display()
        ));
        return ExitCode::FAILURE;
    }
    if !tested.failures.is_empty() {
        return told(Some(folder), &tested.failures);
    }
    say(&format!(
        "{}: {} cases with {} questions come out as expected (set {}).",
        folder.display(),
        tested.cases,
        tested.questions,
        set.hash()
    ));
    ExitCode::SUCCESS
}

/// The same of a row: asked where the store is.
async fn why_row(options: &WhyOptions, row: &str) -> anyhow::Result<ExitCode> {
    let settings = settings(ServeOptions {
        data: options.data.clone(),
        listen: None,
        config: options.config.clone(),
        root_key: options.root_key.clone(),
        set: options.set.clone(),
    })?;
    let around = options.around();
    let asked = Asked {
        of: options.tenant.clone(),
        row: row.to_owned(),
        who: options.who.clone(),
        role: options.role.map(|role| role.name().to_owned()),
        purpose: options.purpose.clone(),
        action: options.action.unwrap_or(Action::Read).name().to_owned(),
        scopes: options.scopes.clone(),
        second_factor: around.factor.name().to_owned(),
        confirmed: around.confirmed,
        networks: around.networks,
        hour: around.hour,
        weekday: around.weekday.name().to_owned(),
        organizations: around.organizations,
        device: around.device.kind.name().to_owned(),
        client: around.device.client,
    };
    let store = StoreArguments::configured(&settings);
    let decides = Decides::Configured(&settings);
    let told = order_by(&store, Order::Explain(asked), &decides).await?;
    let told: Told = serde_json::from_value(told)?;
    say(&told.lines.join("\n"));
    Ok(exit(told.permitted))
}

fn exit(permitted: bool) -> ExitCode {
    if permitted {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn why(options: &WhyOptions) -> anyhow::Result<ExitCode> {
    let Some(action) = options.action else {
        bail!("say with --action what is to be done");
    };
    match (action.is_interaction(), options.kind) {
        (true, None) => bail!(
            "to {} is done to a resource type: give it with --type",
            action.name()
        ),
        (false, Some(_)) => bail!(
            "to {} is done to no resource type: leave --type out",
            action.name()
        ),
        _ => {}
    }
    if options.another && !options.role.is_some_and(Role::has_one_record) {
        bail!("--another is for the roles patient and proxy");
    }
    let set = match load(options.folder.as_deref()) {
        Err(code) => return Ok(code),
        Ok(set) => set,
    };
    let known = set.purposes();
    let Some(purpose) = known.parse(&options.purpose) else {
        bail!("--purpose {}: there are {}", options.purpose, known.codes());
    };
    let question = Question {
        role: options.role.unwrap_or(Role::System),
        part: options.part.clone(),
        purpose,
        action,
        kind: options.kind,
        own: options.role.is_some_and(Role::has_one_record) && !options.another,
        around: options.around(),
    };
    let why = set.why(&question);
    say(&policy_lines(&why).join("\n"));
    say(
        "Scopes of access tokens, relationships and consents of patients narrow what policies permit.",
    );
    Ok(exit(why.permitted))
}

/// What policies say, in lines.
pub(crate) fn policy_lines(why: &Why) -> Vec<String> {
    let mut lines = Vec::new();
    let mut say = |line: &str| lines.push(line.to_owned());
    let mut answer = why.answer.clone();
    if let Some(first) = answer.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    say(&format!("{answer}."));
    for policy in &why.policies {
        say(&format!(
            "  {} {} ({}:{}): {}",
            if policy.forbids { "forbid" } else { "permit" },
            policy.id,
            policy.file,
            policy.line,
            if policy.says.is_empty() {
                "it has no @says"
            } else {
                &policy.says
            }
        ));
    }
    if let Some(elements) = &why.elements {
        let rule = &elements.rule;
        say(&format!(
            "  in part {} ({}:{}): {}",
            rule.id, rule.file, rule.line, rule.says
        ));
        say(&format!(
            "Elements that are not shown: {}.",
            elements.hidden.join(", ")
        ));
        if !elements.data_types.is_empty() {
            say(&format!(
                "Not shown wherever they lie: {}.",
                elements.data_types.join(", ")
            ));
        }
    }
    if let Some(exempt) = &why.exempt {
        say(&format!(
            "Nothing has to be hidden ({}): {}",
            exempt.under, exempt.says
        ));
    }
    let or_none = |names: Vec<&str>| {
        if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(", ")
        }
    };
    let purposes = why.purposes.iter().copied().map(Purpose::code).collect();
    say(&format!(
        "Purposes for which it is permitted: {}.",
        or_none(purposes)
    ));
    let roles = why.roles.iter().copied().map(Role::name).collect();
    say(&format!(
        "Roles to which it is permitted for this purpose: {}.",
        or_none(roles)
    ));
    lines
}

fn init(folder: &Path) -> anyhow::Result<ExitCode> {
    let shown = folder.display().to_string();
    std::fs::create_dir_all(folder).with_context(|| shown.clone())?;
    if std::fs::read_dir(folder)
        .with_context(|| shown.clone())?
        .next()
        .is_some()
    {
        bail!("{shown} is not empty");
    }
    for (name, text) in PolicySet::built_in_files() {
        std::fs::write(folder.join(name), text).with_context(|| format!("{shown}/{name}"))?;
    }
    say(&format!(
        "{shown}: the built-in policies with their tests. Change them, run `cairn policy test {shown}`, and set policy_folder."
    ));
    Ok(ExitCode::SUCCESS)
}
