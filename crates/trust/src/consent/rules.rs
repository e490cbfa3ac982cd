//! Rule packs: what the law of a place makes of a patient's consents, as data.
use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::deprivation::Deprivation;
use super::labels::{Sensitive, Tables};
use super::messages::MessageRules;
use super::proxies::ProxyRules;
use super::relations::Relationships;
use super::sealed::{Seal, Seals};
use super::security::Security;
use crate::{Purpose, Role, TrustError};

/// The packs that are built in, each with its text.
const BUILT_IN: [(&str, &str); 3] = [
    ("us-hipaa", include_str!("../../rules/us-hipaa.toml")),
    ("england", include_str!("../../rules/england.toml")),
    (
        "us-hipaa-2025",
        include_str!("../../rules/us-hipaa-2025.toml"),
    ),
];
/// How many packs may be built one upon the other. More are a mistake, and one that builds upon itself is found.
const LAYERS_MAX: usize = 8;

/// Whether a patient's word binds a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Binding {
    /// Every consent does.
    Always,
    /// Consents do that name the organization that keeps to them.
    Agreed,
}

/// What a labelled row needs before it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Needs {
    /// A consent that permits it.
    Consent,
    /// A consent that permits it and names the label.
    Named,
}

/// Rows with a label that need more than others.
#[derive(Debug, Clone)]
pub(crate) struct Labelled {
    pub(crate) label: String,
    pub(crate) needs: Needs,
    pub(crate) denied: String,
    /// What goes out with it.
    pub(crate) notice: Option<String>,
    roles: Vec<Role>,
    except: Vec<Purpose>,
}

impl Labelled {
    pub(crate) fn is_about(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }
    pub(crate) fn is_for(&self, role: Role, purpose: Purpose) -> bool {
        self.roles.contains(&role) && !self.except.contains(&purpose.standard())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    /// The pack that this one is built upon.
    extends: Option<String>,
    emergency: Option<Vec<Role>>,
    default: Option<DefaultFile>,
    bound: Option<BTreeMap<Role, Binding>>,
    #[serde(default)]
    labelled: Vec<LabelledFile>,
    #[serde(default)]
    sensitive: Vec<Sensitive>,
    proxies: Option<ProxyRules>,
    relationship: Option<Relationships>,
    #[serde(default)]
    sealed: Vec<Seal>,
    #[serde(default)]
    security: Security,
    messages: Option<MessageRules>,
    deprivation: Option<Deprivation>,
}

impl File {
    /// This pack over the one that it is built upon: a table that it has takes the other's place, labels and codes
    /// come to those of the other, and of floors the stricter hold.
    fn over(self, base: Self) -> Self {
        let added = |own: Vec<LabelledFile>, base: Vec<LabelledFile>| {
            let mut all = base;
            all.extend(own);
            all
        };
        let mut sensitive = base.sensitive;
        sensitive.extend(self.sensitive);
        let mut sealed = base.sealed;
        sealed.extend(self.sealed);
        Self {
            name: self.name,
            extends: base.extends,
            emergency: self.emergency.or(base.emergency),
            default: self.default.or(base.default),
            bound: self.bound.or(base.bound),
            labelled: added(self.labelled, base.labelled),
            sensitive,
            proxies: self.proxies.or(base.proxies),
            relationship: self.relationship.or(base.relationship),
            sealed,
            security: self.security.over(base.security),
            messages: self.messages.or(base.messages),
            deprivation: self.deprivation.or(base.deprivation),
        }
    }
}

/// The text of a pack that is built in or else of a file, and what it is called when something is wrong.
fn text_of(name_or_file: &str) -> Result<String, TrustError> {
    if let Some((_, text)) = BUILT_IN.iter().find(|(name, _)| *name == name_or_file) {
        return Ok((*text).to_owned());
    }
    std::fs::read_to_string(Path::new(name_or_file)).map_err(|error| {
        let names: Vec<_> = Rules::built_in().collect();
        TrustError::Policy(format!(
            "rules of consent {name_or_file}: {error}; built in are {}",
            names.join(", ")
        ))
    })
}

/// What a pack calls another: one that is built in, or a file, which begins at the folder of its own.
fn beside(place: &str, name_or_file: &str) -> String {
    if Rules::built_in().any(|name| name == name_or_file) {
        return name_or_file.to_owned();
    }
    let folder = Path::new(place).parent().unwrap_or(Path::new(""));
    folder.join(name_or_file).display().to_string()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DefaultFile {
    permit: Vec<Purpose>,
    permitted: String,
    denied: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LabelledFile {
    label: String,
    roles: Vec<Role>,
    #[serde(default)]
    except: Vec<Purpose>,
    needs: Needs,
    denied: String,
    notice: Option<String>,
}

/// A rule pack.
#[derive(Debug, Clone)]
pub struct Rules {
    name: String,
    permit: Vec<Purpose>,
    permitted: String,
    denied: String,
    emergency: Vec<Role>,
    bound: BTreeMap<Role, Binding>,
    pub(crate) labelled: Vec<Labelled>,
    pub(crate) tables: Tables,
    proxies: Option<ProxyRules>,
    relationships: Relationships,
    seals: Seals,
    security: Security,
    messages: MessageRules,
    deprivation: Option<Deprivation>,
}

impl Rules {
    /// The pack that is taken where none is named.
    pub const DEFAULT: &'static str = BUILT_IN[0].0;

    /// The names of the packs that are built in.
    pub fn built_in() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|(name, _)| *name)
    }

    /// The pack of a name that is built in, or else of a file, with those that it is built upon.
    ///
    /// # Errors
    /// `Policy` when there is no such file, or it isn't a pack.
    pub fn load(name_or_file: &str) -> Result<Self, TrustError> {
        let text = text_of(name_or_file)?;
        Self::parse(name_or_file, &text)
    }

    /// A pack from its text; `place` is for what is said of mistakes.
    ///
    /// # Errors
    /// `Policy` when it isn't one.
    pub fn parse(place: &str, text: &str) -> Result<Self, TrustError> {
        let wrong = |words: &str| TrustError::Policy(format!("rules of consent {place}: {words}"));
        let read = |place: &str, text: &str| {
            toml::from_str::<File>(text)
                .map_err(|error| TrustError::Policy(format!("rules of consent {place}: {error}")))
        };
        let mut file = read(place, text)?;
        let (mut at, mut layers) = (place.to_owned(), 1);
        while let Some(base) = file.extends.take() {
            layers += 1;
            if layers > LAYERS_MAX {
                let words = format!(
                    "it extends itself, or more than {LAYERS_MAX} packs lie one upon the other"
                );
                return Err(wrong(&words));
            }
            at = beside(&at, &base);
            file = file.over(read(&at, &text_of(&at)?)?);
        }
        file.security.check().map_err(wrong)?;
        let messages = file.messages.take().unwrap_or_default();
        messages.check().map_err(wrong)?;
        if let Some(deprivation) = &file.deprivation {
            deprivation.check().map_err(wrong)?;
        }
        let Some(default) = file.default else {
            return Err(wrong("missing field `default`"));
        };
        let mut named =
            (default.permit.iter()).chain(file.labelled.iter().flat_map(|one| &one.except));
        if named.any(|purpose| purpose.own().is_some()) {
            return Err(wrong("it names a purpose that is none of HL7's"));
        }
        // A patient has their own record (45 CFR 164.524), and parts of Cairn act by what is decided for
        // messages and journeys.
        let unbound = [Role::Patient, Role::System];
        if let Some(role) = unbound
            .iter()
            .find(|role| (file.bound.iter()).any(|bound| bound.contains_key(role)))
        {
            let words = format!("a consent can't bind the role {}", role.name());
            return Err(wrong(&words));
        }
        let mut labelled = Vec::with_capacity(file.labelled.len());
        for one in file.labelled {
            if one.label.trim().is_empty() {
                return Err(wrong("a labelled rule names no label"));
            }
            // It goes out as the quoted text of a header.
            let plain =
                |byte: u8| (byte == b' ' || byte.is_ascii_graphic()) && !b"\"\\".contains(&byte);
            if one
                .notice
                .as_ref()
                .is_some_and(|notice| !notice.bytes().all(plain))
            {
                let words = format!(
                    "the notice of {} is not plain ASCII without quotes",
                    one.label
                );
                return Err(wrong(&words));
            }
            if let Some(role) = unbound.iter().find(|role| one.roles.contains(role)) {
                let words = format!(
                    "what is labelled {} can't be kept from the role {}",
                    one.label,
                    role.name()
                );
                return Err(wrong(&words));
            }
            labelled.push(Labelled {
                label: one.label,
                needs: one.needs,
                denied: one.denied,
                notice: one.notice,
                roles: one.roles,
                except: one.except,
            });
        }
        // Of packs from before there were billers, what is said of other systems holds of them.
        let mut bound = file.bound.unwrap_or_default();
        if let Some(binding) = bound.get(&Role::Client).copied() {
            bound.entry(Role::Biller).or_insert(binding);
        }
        // The same of proxies, whom nothing else is said of: what isn't theirs to see is hidden.
        bound.entry(Role::Proxy).or_insert(Binding::Always);
        if let Some(proxies) = &file.proxies {
            proxies.check().map_err(wrong)?;
        }
        if !(labelled.iter()).any(|one| one.roles.contains(&Role::Biller)) {
            let of_systems = (labelled.iter_mut()).filter(|one| one.roles.contains(&Role::Client));
            of_systems.for_each(|one| one.roles.push(Role::Biller));
        }
        let relationships = file.relationship.unwrap_or_default().checked();
        let relationships = relationships.map_err(|words| wrong(&words))?;
        let seals = Seals::of(file.sealed, relationships.by());
        Ok(Self {
            relationships,
            seals: seals.map_err(|words| wrong(&words))?,
            name: file.name,
            permit: default.permit,
            permitted: default.permitted,
            denied: default.denied,
            emergency: file.emergency.unwrap_or_default(),
            bound,
            labelled,
            proxies: file.proxies,
            tables: Tables::with(file.sensitive).map_err(|words| wrong(&words))?,
            security: file.security,
            messages,
            deprivation: file.deprivation,
        })
    }

    /// Which relationships are needed, and told of.
    pub(crate) fn relationships(&self) -> &Relationships {
        &self.relationships
    }

    /// Which marks seal rows, and what opens them.
    pub(crate) fn seals(&self) -> &Seals {
        &self.seals
    }

    /// What it asks of how a server is set up.
    #[must_use]
    pub fn security(&self) -> &Security {
        &self.security
    }

    /// When and how often messages may reach out to a patient.
    #[must_use]
    pub fn messages(&self) -> &MessageRules {
        &self.messages
    }

    /// Where a patient's record says how deprived the place is that they live in, if the organisation has said so.
    #[must_use]
    pub fn deprivation(&self) -> Option<&Deprivation> {
        self.deprivation.as_ref()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What holds for a purpose where no consent decides, and why.
    #[must_use]
    pub fn without_consent(&self, purpose: Purpose) -> (bool, &str) {
        if self.permit.contains(&purpose.standard()) {
            (true, &self.permitted)
        } else {
            (false, &self.denied)
        }
    }

    /// Whom patients' consents bind; and of each, whether only those do that name the organization that keeps
    /// to them.
    pub fn bound(&self) -> impl Iterator<Item = (Role, bool)> {
        self.bound
            .iter()
            .map(|(role, binding)| (*role, *binding == Binding::Agreed))
    }

    /// Whom no consent binds in an emergency.
    #[must_use]
    pub fn free_in_emergency(&self) -> &[Role] {
        &self.emergency
    }

    /// Labels of rows that need a consent, each with the reason.
    pub fn labels_that_need_consent(&self) -> impl Iterator<Item = (&str, &str)> {
        self.labelled
            .iter()
            .map(|one| (one.label.as_str(), one.denied.as_str()))
    }

    /// Who may act for a patient; none where nobody may.
    #[must_use]
    pub fn proxies(&self) -> Option<&ProxyRules> {
        self.proxies.as_ref()
    }

    pub(crate) fn binding(&self, role: Role, purpose: Purpose) -> Option<Binding> {
        let is_free = purpose == Purpose::Emergency && self.emergency.contains(&role);
        self.bound.get(&role).copied().filter(|_| !is_free)
    }

    /// Whether a row has a label that the pack has a rule about for a role.
    pub(crate) fn labels_any(&self, role: Role, row: &super::row::Row<'_>) -> bool {
        let mut about = self.labelled.iter().filter(|one| one.is_about(role));
        about.any(|one| row.is_labelled(&one.label))
    }

    /// The notices that go out to a role, each with the label of the rows that it belongs to.
    pub(crate) fn notices(&self, role: Role) -> impl Iterator<Item = (&str, &str)> {
        let about = self.labelled.iter().filter(move |one| one.is_about(role));
        about.filter_map(|one| Some((one.label.as_str(), one.notice.as_deref()?)))
    }

    /// Whether a row may be hidden from a role at all.
    pub(crate) fn reaches(&self, role: Role, purpose: Purpose) -> bool {
        self.binding(role, purpose).is_some()
            || self
                .labelled
                .iter()
                .any(|one| one.is_for(role, purpose) || one.notice.is_some() && one.is_about(role))
    }
}
