//! The files that a policy set is made of, as texts with one hash over all.
use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Write as _;
use std::path::Path;

use aws_lc_rs::digest;
use miette::Diagnostic;

/// The name of the schema's file.
pub(super) const SCHEMA: &str = "cairn.cedarschema";
/// The name of the file that puts resource types into groups.
pub(super) const GROUPS: &str = "groups.json";
/// The name of the file with purposes of use of one's own.
pub(super) const OWN_PURPOSES: &str = "purposes.toml";
/// The name of the file with the partners that journeys call.
pub(super) const PARTNERS: &str = "partners.toml";
/// How files of policies, and of their tests, end.
const POLICIES: &str = ".cedar";
const TESTS: &str = ".test.toml";
/// The file of what people may do with their own accounts, how a policy names that, and what a schema from
/// before it says with this line.
const ACCOUNT: &str = "account.cedar";
const ACCOUNT_NAMED: &str = "Action::\"account\"";
const ACCOUNT_DECLARED: &str =
    "\naction account appliesTo { principal: Agent, resource: Service, context: Asked };\n";
/// How files of rules about elements end.
const ELEMENTS: &str = ".elements.toml";
/// The most that one file may hold. The built-in set has 30 KB in all; what is larger was put there by
/// mistake, and is read again each second.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// The most files of a set.
const FILES_MAX: usize = 256;

macro_rules! built_in {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../policies/", $name)))),*]
    };
}

/// The policy set that is built in.
pub(super) const BUILT_IN: [(&str, &str); 31] = built_in![
    "cairn.cedarschema",
    "groups.json",
    "account.cedar",
    "account.test.toml",
    "administrator.cedar",
    "administrator.test.toml",
    "biller.cedar",
    "biller.test.toml",
    "client.cedar",
    "client.test.toml",
    "clinician.cedar",
    "clinician.test.toml",
    "coordinator.cedar",
    "coordinator.test.toml",
    "everybody.cedar",
    "everybody.test.toml",
    "necessary.elements.toml",
    "necessary.test.toml",
    "parts.cedar",
    "parts.test.toml",
    "patient.cedar",
    "patient.test.toml",
    "proxies.elements.toml",
    "proxy.cedar",
    "proxy.test.toml",
    "privacy-officer.cedar",
    "privacy-officer.test.toml",
    "squad.cedar",
    "squad.test.toml",
    "steerer.cedar",
    "steerer.test.toml",
];

/// What is wrong with a policy set: where, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyFault {
    /// The file, or the folder.
    pub file: String,
    /// Line, from 1, where it is known.
    pub line: Option<usize>,
    /// Column, from 1, where it is known.
    pub column: Option<usize>,
    /// What is wrong.
    pub words: String,
}

impl fmt::Display for PolicyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        for place in [self.line, self.column].into_iter().flatten() {
            write!(f, ":{place}")?;
        }
        write!(f, ": {}", self.words)
    }
}

impl PolicyFault {
    pub(super) fn of(file: &str, words: impl fmt::Display) -> Self {
        Self {
            file: file.to_owned(),
            line: None,
            column: None,
            words: words.to_string(),
        }
    }

    /// A fault at a place of a file's text.
    pub(super) fn at(
        file: &str,
        text: &str,
        offset: Option<usize>,
        words: impl fmt::Display,
    ) -> Self {
        let mut fault = Self::of(file, words);
        if let Some(before) = offset.and_then(|offset| text.get(..offset)) {
            let last = before.rsplit('\n').next().unwrap_or_default();
            fault.line = Some(before.matches('\n').count() + 1);
            fault.column = Some(last.chars().count() + 1);
        }
        fault
    }

    /// An error of Cedar, with the place that it points at and what Cedar says can be done.
    pub(super) fn placed(file: &str, text: &str, error: &dyn Diagnostic) -> Self {
        let offset = error
            .labels()
            .and_then(|mut labels| labels.next())
            .map(|label| label.offset());
        match error.help() {
            None => Self::at(file, text, offset, error),
            Some(help) => Self::at(file, text, offset, format_args!("{error} ({help})")),
        }
    }
}

/// The texts of a policy set, by the names of their files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PolicyTexts(BTreeMap<String, String>);

impl PolicyTexts {
    pub(super) fn built_in() -> Self {
        let owned = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
        Self(BUILT_IN.iter().map(owned).collect())
    }

    /// Those of a folder; a schema, groups, and each file of rules about elements that isn't there, is the
    /// built-in one: a rule more takes none away. So is what people may do with their own accounts, where no
    /// policy names that: sets from before that action lock nobody out.
    pub(super) fn of(folder: &Path) -> Result<Self, Vec<PolicyFault>> {
        let Self(mut files) = Self::built_in();
        files.retain(|name, _| name == SCHEMA || name == GROUPS || name.ends_with(ELEMENTS));
        let shown = folder.display().to_string();
        let unreadable = |error: std::io::Error| vec![PolicyFault::of(&shown, error)];
        let mut faults = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            // Hidden files are what editors and mounts leave there.
            let wanted = name.ends_with(POLICIES)
                || name.ends_with(TESTS)
                || name.ends_with(ELEMENTS)
                || [SCHEMA, GROUPS, OWN_PURPOSES, PARTNERS].contains(&name);
            if !wanted || name.starts_with('.') {
                continue;
            }
            match read(&path) {
                Ok(text) => {
                    files.insert(name.to_owned(), text);
                }
                Err(words) => faults.push(PolicyFault::of(name, words)),
            }
            if files.len() > FILES_MAX {
                let words = format!("holds more than {FILES_MAX} files of policies and tests");
                return Err(vec![PolicyFault::of(&shown, words)]);
            }
        }
        if faults.is_empty() && !files.keys().any(|name| name.ends_with(POLICIES)) {
            faults.push(PolicyFault::of(&shown, "holds no *.cedar file"));
        }
        with_accounts(&mut files);
        if faults.is_empty() {
            Ok(Self(files))
        } else {
            Err(faults)
        }
    }

    pub(super) fn load(folder: Option<&Path>) -> Result<Self, Vec<PolicyFault>> {
        folder.map_or_else(|| Ok(Self::built_in()), Self::of)
    }

    pub(super) fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// The names of its files.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub(super) fn policies(&self) -> impl Iterator<Item = (&str, &str)> {
        self.ending(POLICIES)
    }

    pub(super) fn tests(&self) -> impl Iterator<Item = (&str, &str)> {
        self.ending(TESTS)
    }

    pub(super) fn elements(&self) -> impl Iterator<Item = (&str, &str)> {
        self.ending(ELEMENTS)
    }

    fn ending(&self, end: &'static str) -> impl Iterator<Item = (&str, &str)> {
        let files = self.0.iter().filter(move |(name, _)| name.ends_with(end));
        files.map(|(name, text)| (name.as_str(), text.as_str()))
    }

    /// SHA-256 over names and texts, hexadecimal.
    pub(super) fn hash(&self) -> String {
        let mut context = digest::Context::new(&digest::SHA256);
        for part in self.0.iter().flat_map(|(name, text)| [name, text]) {
            // The lengths keep apart what is one file's and what is the next one's.
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        let mut hash = String::with_capacity(64);
        for byte in context.finish().as_ref() {
            let _ = write!(hash, "{byte:02x}");
        }
        hash
    }
}

/// Adds what is built in about one's own account to a set that says nothing of it, beside the files of the
/// folder.
fn with_accounts(files: &mut BTreeMap<String, String>) {
    if let Some(schema) = files.get_mut(SCHEMA)
        && !declares_account(schema)
    {
        schema.push_str(ACCOUNT_DECLARED);
    }
    let mut policies = files.iter().filter(|(name, _)| name.ends_with(POLICIES));
    let built_in = BUILT_IN.iter().find(|(name, _)| *name == ACCOUNT);
    if let Some((name, text)) = built_in
        && !policies.any(|(_, text)| without_comments(text).contains(ACCOUNT_NAMED))
    {
        // No file of a folder has this name.
        files.insert(format!("built-in/{name}"), (*text).to_owned());
    }
}

fn without_comments(text: &str) -> String {
    let lines = text.lines();
    let code = lines.map(|line| line.split("//").next().unwrap_or_default());
    code.collect::<Vec<_>>().join("\n")
}

/// Whether a schema declares the action.
fn declares_account(schema: &str) -> bool {
    without_comments(schema).split(';').any(|declared| {
        let Some(names) = declared.trim().strip_prefix("action ") else {
            return false;
        };
        let names = names.split("appliesTo").next().unwrap_or_default();
        let mut names = names.split(',').flat_map(|name| name.split_whitespace());
        names.any(|name| name.trim_matches('"') == "account")
    })
}

fn read(path: &Path) -> Result<String, String> {
    let size = std::fs::metadata(path)
        .map_err(|error| error.to_string())?
        .len();
    if size > FILE_BYTES_MAX {
        return Err(format!(
            "has {size} bytes; a file of a policy set has {FILE_BYTES_MAX} at most"
        ));
    }
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}
