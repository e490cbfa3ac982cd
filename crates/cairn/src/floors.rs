//! The floors of a rule pack, held against what is configured. A server whose configuration lies below one of them
//! does not start, and a tenant's house whose own pack asks for more than the server has does not open.

use std::fmt;
use std::path::{Path, PathBuf};

use trust::consent::Rules;

use crate::config::{ConfigError, SessionSettings, Settings};
use crate::inventory::{Inventory, OnTheWay};
use crate::store::RootKeySource;

/// What of a configuration floors are about.
#[derive(Debug, Clone)]
pub struct Configured {
    pub(crate) inventory: Inventory,
    session: SessionSettings,
    /// The methods that stand for two factors, with the setting that says so.
    methods: Vec<(String, Vec<String>)>,
    /// The file of the root key, where it lies with the store that it opens.
    key_beside: Option<PathBuf>,
}

/// A setting that lies below a floor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Below {
    /// The paragraph that the floor rests on.
    pub under: String,
    /// The setting.
    pub setting: String,
    /// What is wrong with it, and what to do.
    pub words: String,
}

impl fmt::Display for Below {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.setting, self.words, self.under)
    }
}

/// What a rule pack refuses of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The pack.
    pub pack: String,
    /// The settings, each with its floor.
    pub below: Vec<Below>,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the rule pack {} refuses this configuration", self.pack)?;
        self.below.iter().try_for_each(|one| write!(f, "\n  {one}"))
    }
}

impl std::error::Error for Refused {}

impl Configured {
    /// What a configuration says.
    ///
    /// # Errors
    /// `Invalid` when it says too little, or a file that it names can't be read.
    pub fn of(settings: &Settings) -> Result<Self, ConfigError> {
        let providers = settings.identity_provider.iter();
        let methods = providers.map(|(id, provider)| {
            let list = provider.amr.split_whitespace().map(str::to_owned);
            (format!("identity_provider.{id}.amr"), list.collect())
        });
        Ok(Self {
            inventory: Inventory::of(settings)?,
            session: settings.session,
            methods: methods.collect(),
            key_beside: key_beside(settings)?,
        })
    }

    /// The same with the sessions that a server really has.
    #[must_use]
    pub(crate) fn with_sessions(self, session: SessionSettings) -> Self {
        Self { session, ..self }
    }

    /// Refuses what lies below a floor of a pack.
    ///
    /// # Errors
    /// Everything that does.
    pub fn check(&self, rules: &Rules) -> Result<(), Refused> {
        let below = self.below(rules);
        if below.is_empty() {
            return Ok(());
        }
        Err(Refused {
            pack: rules.name().to_owned(),
            below,
        })
    }

    fn below(&self, rules: &Rules) -> Vec<Below> {
        let floors = rules.security();
        let mut below = Vec::new();
        let mut add = |under: &str, setting: &str, words: String| {
            below.push(Below {
                under: under.to_owned(),
                setting: setting.to_owned(),
                words,
            });
        };
        if let Some(floor) = &floors.second_factor {
            for (setting, methods) in &self.methods {
                let alone = methods.iter().filter(|one| floor.not_alone.contains(one));
                for method in alone {
                    let words = format!(
                        "`{method}` says that somebody showed one factor at most, so it can't stand for two; take it out"
                    );
                    add(&floor.under, setting, words);
                }
            }
        }
        if let Some(floor) = &floors.encrypted {
            let open = self.inventory.assets.iter();
            for asset in open.filter(|asset| asset.on_the_way == OnTheWay::InTheClear) {
                let (setting, place) = (asset.setting.as_str(), &asset.place);
                let words = format!("{place} is reached in the clear; {}", remedy(setting));
                add(&floor.under, setting, words);
            }
        }
        if let Some(floor) = &floors.sessions {
            let figures = [
                ("session.idle_s", self.session.idle_s, floor.idle_s),
                (
                    "session.absolute_s",
                    self.session.absolute_s,
                    floor.absolute_s,
                ),
                ("session.step_up_s", self.session.step_up_s, floor.step_up_s),
            ];
            for (setting, is, most) in figures.into_iter().filter(|(_, is, most)| is > most) {
                let words =
                    format!("is {is}, and {most} seconds are the most; set it to {most} or less");
                add(&floor.under, setting, words);
            }
        }
        if let (Some(floor), Some(key)) = (&floors.keys_apart, &self.key_beside) {
            let words = format!(
                "{} lies in the folder of the store that it opens; move it to another disk, or into a token (root_key)",
                key.display()
            );
            add(&floor.under, "root_key_file", words);
        }
        below
    }
}

/// What to do about a way in the clear.
fn remedy(setting: &str) -> &'static str {
    match setting {
        "listen" => {
            "set tls.certificate_file and tls.private_key_file, or listen on a loopback address behind a proxy on this \
             machine (a proxy elsewhere has to come by TLS)"
        }
        "store.url" | "store.replicas" => "take sslmode=disable out of it",
        "smtp.tls" => "set it to starttls or implicit",
        "smpp.tls" => "set it to true",
        _ => "begin it with https://",
    }
}

/// The file of the root key, if it lies in the data folder that the store is in.
fn key_beside(settings: &Settings) -> Result<Option<PathBuf>, ConfigError> {
    let RootKeySource::File(key) = settings.root_key()? else {
        return Ok(None);
    };
    let Some(data) = settings
        .data
        .as_deref()
        .filter(|_| settings.store.url.is_none())
    else {
        return Ok(None);
    };
    Ok(real(&key).starts_with(real(data)).then_some(key))
}

/// Where a path leads, as far as it is there.
fn real(path: &Path) -> PathBuf {
    if let Ok(found) = path.canonicalize() {
        return found;
    }
    match (path.parent(), path.file_name()) {
        (Some(folder), Some(name)) if folder != Path::new("") => real(folder).join(name),
        (_, Some(name)) => real(Path::new(".")).join(name),
        _ => path.to_owned(),
    }
}
