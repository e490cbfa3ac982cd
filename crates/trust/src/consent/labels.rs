//! Security labels (HL7 DS4P): how confidential a row is, and what makes it sensitive. They are those of
//! its `meta.security` (of documents also `securityLabel` and `confidentiality`), with those of all that is in
//! it, and those that its codes stand for.
//!
//! Labels that codes stand for are found when a row is decided or shown, not when it is written: a table that
//! is made better counts at once for everything that is there, and what is kept is what was sent. How they are
//! told with rows that go out is in `told.rs`.
use std::collections::{HashMap, HashSet};

use fhir::{Resource, ResourceType};
use serde::Deserialize;
use serde_json::Value;

use super::told::is_found;

pub(crate) const CONFIDENTIALITY: &str = "v3-Confidentiality";
/// How the system of labels ends, by which it is known in all of its forms.
pub(crate) const ACT_CODE_END: &str = "v3-ActCode";
/// The tables of codes that are built in.
const BUILT_IN: &str = include_str!("../../rules/labels.toml");

/// HL7 v3 `Confidentiality`, lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum Level {
    Unrestricted,
    Low,
    Moderate,
    Normal,
    Restricted,
    Very,
}

impl Level {
    /// All, lowest first.
    pub(crate) const ALL: [Self; 6] = [
        Self::Unrestricted,
        Self::Low,
        Self::Moderate,
        Self::Normal,
        Self::Restricted,
        Self::Very,
    ];

    pub(crate) fn parse(code: &str) -> Option<Self> {
        Some(match code {
            "U" => Self::Unrestricted,
            "L" => Self::Low,
            "M" => Self::Moderate,
            "N" => Self::Normal,
            "R" => Self::Restricted,
            "V" => Self::Very,
            _ => return None,
        })
    }

    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Unrestricted => "U",
            Self::Low => "L",
            Self::Moderate => "M",
            Self::Normal => "N",
            Self::Restricted => "R",
            Self::Very => "V",
        }
    }
}

impl TryFrom<String> for Level {
    type Error = String;

    fn try_from(code: String) -> Result<Self, String> {
        Self::parse(&code).ok_or_else(|| format!("`{code}` is no level of confidentiality"))
    }
}

/// Which labels are kinds of another: by the hierarchy of the v3 codes, with `ETH` for all substances.
const WITHIN: [(&str, &[&str]); 5] = [
    (
        "BH",
        &[
            "MH", "PSY", "PSYTHPN", "EMOTDIS", "COGN", "DVD", "SUD", "ETH", "ETHUD", "OPIOIDUD",
        ],
    ),
    ("MH", &["PSY", "PSYTHPN"]),
    ("PSY", &["PSYTHPN"]),
    ("ETH", &["SUD", "ETHUD", "OPIOIDUD"]),
    ("SUD", &["ETH", "ETHUD", "OPIOIDUD"]),
];

/// Whether a label is another or a kind of it.
pub(crate) fn is_within(label: &str, of: &str) -> bool {
    label == of
        || WITHIN
            .iter()
            .any(|(wide, narrow)| *wide == of && narrow.contains(&label))
}

/// Security labels that say what the receiver has to do, and nothing of the content.
const DUTIES: [&str; 9] = [
    "AOD", "CPLYCC", "CPLYCD", "CPLYPOL", "DELAU", "ENCRYPT", "ENCRYPTR", "ENCRYPTT", "PRIVMARK",
];

/// One table of codes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sensitive {
    label: String,
    #[serde(default)]
    icd10: Vec<String>,
    #[serde(default)]
    snomed: Vec<String>,
    #[serde(default)]
    loinc: Vec<String>,
    #[serde(default)]
    rxnorm: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    sensitive: Vec<Sensitive>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum System {
    Icd10,
    Snomed,
    Loinc,
    RxNorm,
}

impl System {
    fn parse(system: &str) -> Option<Self> {
        Some(match system {
            "http://hl7.org/fhir/sid/icd-10-cm" | "http://hl7.org/fhir/sid/icd-10" => Self::Icd10,
            "http://snomed.info/sct" => Self::Snomed,
            "http://loinc.org" => Self::Loinc,
            "http://www.nlm.nih.gov/research/umls/rxnorm" => Self::RxNorm,
            _ => return None,
        })
    }
}

/// From codes to what they stand for.
#[derive(Debug, Clone)]
pub(crate) struct Tables {
    labels: Vec<String>,
    codes: HashMap<System, HashMap<String, usize>>,
    /// All codes but ICD-10's, and how ICD-10's begin.
    glance: HashSet<String>,
}

/// So much of a code of ICD-10 is its category; no code of the tables is looked for by less.
const CATEGORY: usize = 3;

impl Tables {
    /// The built-in tables and some more. Where a code is in both, the later counts.
    pub(crate) fn with(more: Vec<Sensitive>) -> Result<Self, String> {
        let file: File = toml::from_str(BUILT_IN).map_err(|error| error.to_string())?;
        let mut tables = Self {
            labels: Vec::new(),
            codes: HashMap::new(),
            glance: HashSet::new(),
        };
        for one in file.sensitive.into_iter().chain(more) {
            if one.label.trim().is_empty() {
                return Err("a table of codes names no label".to_owned());
            }
            let place = tables.labels.len();
            let lists = [
                (System::Icd10, one.icd10),
                (System::Snomed, one.snomed),
                (System::Loinc, one.loinc),
                (System::RxNorm, one.rxnorm),
            ];
            for (system, codes) in lists {
                let known = tables.codes.entry(system).or_default();
                for code in codes {
                    let glance = match system {
                        System::Icd10 => code.get(..CATEGORY).unwrap_or(&code),
                        _ => &code,
                    };
                    tables.glance.insert(glance.to_owned());
                    known.insert(code, place);
                }
            }
            tables.labels.push(one.label);
        }
        Ok(tables)
    }

    fn label(&self, system: &str, code: &str) -> Option<&str> {
        let system = System::parse(system)?;
        let codes = self.codes.get(&system)?;
        let place = match system {
            // A category stands for all codes that begin with it.
            System::Icd10 => (CATEGORY..=code.len())
                .rev()
                .filter_map(|length| code.get(..length))
                .find_map(|beginning| codes.get(beginning)),
            _ => codes.get(code),
        };
        self.labels.get(*place?).map(String::as_str)
    }

    /// Whether a resource as compact JSON may have labels that it doesn't say, at a glance: yes where there is
    /// any doubt, no only where there is none.
    pub(crate) fn may_label(&self, text: &[u8]) -> bool {
        let Ok(text) = std::str::from_utf8(text) else {
            return true;
        };
        // Labels of what is in it, and how confidential documents say that they are.
        if text.contains("\"security") || text.contains("\"confidentiality\"") {
            return true;
        }
        let mut codes = text.split("\"code\":\"");
        codes.next();
        codes.any(|rest| {
            let code = rest.split('"').next().unwrap_or(rest);
            let beginning = code.get(..CATEGORY).unwrap_or(code);
            // Of a code with escapes it isn't looked for what it says.
            code.contains('\\') || self.glance.contains(code) || self.glance.contains(beginning)
        })
    }
}

/// What a row's labels come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Labels<'a> {
    pub(crate) level: Level,
    /// The highest that somebody has marked it with, or anything in it, whatever its codes stand for. What Cairn
    /// has found and told is nobody's mark, nor is an `R` that looks as if it were such a label sent back by who
    /// drops extensions: of codes for which it says each sensitivity, too.
    pub(crate) marked: Option<Level>,
    /// Codes of what it is about, and of laws that it is under.
    pub(crate) about: Vec<&'a str>,
    /// Whether it can't be told by its codes what is in it.
    pub(crate) is_opaque: bool,
}

impl<'a> Labels<'a> {
    /// The labels of a resource, with all that is in it: the highest level of any part, and whatever is
    /// sensitive is restricted at least.
    pub(crate) fn of(tables: &'a Tables, resource: &'a Resource) -> Self {
        let (mut level, mut marked) = (None, None);
        let mut about: Vec<&'a str> = Vec::new();
        let (mut coded, mut said): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
        each_coding(resource.as_value(), false, &mut |coding, is_label| {
            let text = |name: &str| coding.get(name).and_then(Value::as_str);
            let (Some(system), Some(code)) = (text("system"), text("code")) else {
                return;
            };
            let label = if !is_label {
                let label = tables.label(system, code);
                coded.extend(label);
                label
            } else if system.ends_with(CONFIDENTIALITY) {
                level = level.max(Level::parse(code));
                if !is_found(coding) {
                    marked = marked.max(Level::parse(code));
                }
                None
            } else if system.ends_with(ACT_CODE_END) {
                if !is_found(coding) {
                    said.push(code);
                }
                Some(code).filter(|code| !code.starts_with("NO") && !DUTIES.contains(code))
            } else {
                None
            };
            if let Some(label) = label.filter(|label| !about.contains(label)) {
                about.push(label);
            }
        });
        if marked == Some(Level::Restricted)
            && !coded.is_empty()
            && coded.iter().all(|label| said.contains(label))
        {
            marked = None;
        }
        for composition in compositions(resource) {
            let code = composition.get("confidentiality").and_then(Value::as_str);
            level = level.max(code.and_then(Level::parse));
            marked = marked.max(code.and_then(Level::parse));
        }
        let is_opaque =
            resource.kind() == ResourceType::Binary && about.is_empty() && level.is_none();
        let implied = if about.is_empty() {
            Level::Normal
        } else {
            Level::Restricted
        };
        let level = match level {
            None => implied,
            Some(level) if about.is_empty() => level,
            Some(level) => level.max(implied),
        };
        Self {
            level,
            marked,
            about,
            is_opaque,
        }
    }
}

/// A composition, or those of a document.
fn compositions(resource: &Resource) -> impl Iterator<Item = &Value> {
    let entries = resource.get("entry").and_then(Value::as_array);
    let entries = entries.into_iter().flatten();
    std::iter::once(resource.as_value())
        .chain(entries.filter_map(|entry| entry.get("resource")))
        .filter(|one| {
            one.get("resourceType").and_then(Value::as_str)
                == Some(ResourceType::Composition.name())
        })
}

/// Codes of `v3-ActCode` that a resource, or what is contained in it, is labelled with.
pub(crate) fn acts(resource: &Resource) -> Vec<&str> {
    let mut acts = Vec::new();
    each_coding(resource.as_value(), false, &mut |coding, is_label| {
        let text = |name: &str| coding.get(name).and_then(Value::as_str);
        if let (true, Some(system), Some(code)) = (is_label, text("system"), text("code"))
            && system.ends_with(ACT_CODE_END)
        {
            acts.push(code);
        }
    });
    acts
}

/// Calls `visit` with each coding in a value, and whether it is a security label.
pub(crate) fn each_coding<'a>(
    value: &'a Value,
    is_label: bool,
    visit: &mut dyn FnMut(&'a Value, bool),
) {
    match value {
        Value::Array(items) => {
            for item in items {
                each_coding(item, is_label, visit);
            }
        }
        Value::Object(members) => {
            if members.get("code").is_some_and(Value::is_string)
                && members.get("system").is_some_and(Value::is_string)
            {
                visit(value, is_label);
            }
            // A document's labels are its own element; of a `Consent` it is what the consent is about.
            let is_document = members.get("resourceType").and_then(Value::as_str)
                == Some(ResourceType::DocumentReference.name());
            for (name, value) in members {
                if matches!(value, Value::Array(_) | Value::Object(_)) {
                    let labels = name == "security" || is_document && name == "securityLabel";
                    each_coding(value, is_label || labels, visit);
                }
            }
        }
        _ => {}
    }
}
