//! SMART App Launch scopes (2.2, section 3): what an access token lets be done, at most.
//!
//! A scope takes away from what the policies allow and never adds to it. `patient/Observation.rs?category=laboratory`
//! is read as: of the patient that the token is for, observations with this category may be read and searched.
//! The forms of version 1 (`.read`, `.write`, `.*`) are understood and printed as what they mean.
//!
//! Pure: parsing, printing, narrowing, and whether a row is covered. [`crate::Permit`] asks it.

mod filter;

use std::collections::BTreeSet;
use std::fmt;

use fhir::search::SearchQuery;
use fhir::{Resource, ResourceType};

use crate::Action;

use filter::Filter;

/// The most bytes of a list of scopes. Those that applications ask for have some hundred.
pub const SCOPES_BYTES_MAX: usize = 8 << 10;
/// The most scopes of a list, each of which is looked at for each row: some of each of R4's types.
pub const SCOPES_MAX: usize = 300;

/// Why a scope can't be granted. Holds nothing but the client's own words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    /// The list is too long.
    #[error("a list of scopes has at most {SCOPES_BYTES_MAX} bytes and {SCOPES_MAX} scopes")]
    TooMany,
    /// A scope is not one.
    #[error("the scope {scope} is not understood: {reason}")]
    Form {
        /// The scope, as much of it as is shown.
        scope: String,
        /// What is wrong.
        reason: String,
    },
}

/// Whose data a scope is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// The patient's that the token is for.
    Patient,
    /// What the person who signed in may see.
    User,
    /// What a system may see that acts by itself.
    System,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Patient => "patient",
            Self::User => "user",
            Self::System => "system",
        }
    }
    fn parse(name: &str) -> Option<Self> {
        [Self::Patient, Self::User, Self::System]
            .into_iter()
            .find(|level| level.name() == name)
    }
}

/// Which interactions a scope is for: some of `cruds`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Permissions(u8);

impl Permissions {
    const LETTERS: [char; 5] = ['c', 'r', 'u', 'd', 's'];
    const READ: Self = Self::of("rs");
    const WRITE: Self = Self::of("cud");
    const ALL: Self = Self::of("cruds");

    const fn of(letters: &str) -> Self {
        let (bytes, mut bits, mut place) = (letters.as_bytes(), 0, 0);
        while place < bytes.len() {
            bits |= match bytes[place] {
                b'c' => 1,
                b'r' => 2,
                b'u' => 4,
                b'd' => 8,
                _ => 16,
            };
            place += 1;
        }
        Self(bits)
    }

    /// `cruds`: at least one of these letters, in this order.
    fn parse(text: &str) -> Option<Self> {
        match text {
            "read" => return Some(Self::READ),
            "write" => return Some(Self::WRITE),
            "*" => return Some(Self::ALL),
            _ => {}
        }
        let mut places = Vec::with_capacity(text.len());
        for letter in text.chars() {
            places.push(Self::LETTERS.iter().position(|known| *known == letter)?);
        }
        let in_order = places.is_sorted_by(|left, right| left < right);
        (in_order && !places.is_empty()).then(|| Self::of(text))
    }

    /// What an interaction with a resource takes. A history of one resource is read.
    fn for_action(action: Action) -> Option<Self> {
        Some(Self::of(match action {
            Action::Create => "c",
            Action::Read | Action::History => "r",
            Action::Update => "u",
            Action::Delete => "d",
            Action::Search => "s",
            _ => return None,
        }))
    }

    fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
    fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
    fn is_none(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, letter) in Self::LETTERS.iter().enumerate() {
            if self.0 & (1 << place) != 0 {
                write!(f, "{letter}")?;
            }
        }
        Ok(())
    }
}

/// One scope on resources.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ResourceScope {
    level: Level,
    /// `None` for all types.
    kind: Option<ResourceType>,
    permissions: Permissions,
    /// Which rows, if not all. Only a scope of one type has it.
    filter: Option<Filter>,
}

impl ResourceScope {
    fn parse(text: &str) -> Result<Self, String> {
        let (level, rest) = text
            .split_once('/')
            .ok_or("it is none of SMART's, like patient/Observation.rs")?;
        let level =
            Level::parse(level).ok_or("it begins with none of patient/, user/ and system/")?;
        let (target, filter) = match rest.split_once('?') {
            Some((target, filter)) => (target, Some(filter)),
            None => (rest, None),
        };
        let (kind, permissions) = target
            .rsplit_once('.')
            .ok_or("what may be done is missing, like .rs")?;
        let kind = match kind {
            "*" => None,
            name => Some(ResourceType::parse(name).ok_or("R4 has no such resource type")?),
        };
        let permissions = Permissions::parse(permissions).ok_or(
            "what may be done is some of the letters cruds, in this order, or read, write or *",
        )?;
        let filter = match (filter, kind) {
            (None, _) => None,
            (Some(_), None) => return Err("a filter goes with one resource type".to_owned()),
            (Some(text), Some(kind)) => Some(Filter::parse(kind, text)?),
        };
        Ok(Self {
            level,
            kind,
            permissions,
            filter,
        })
    }

    fn is_of(&self, kind: ResourceType) -> bool {
        self.kind.is_none_or(|only| only == kind)
    }

    /// Whether a row of a fitting type lies within the filter.
    fn lets_through(&self, resource: &Resource) -> bool {
        self.filter
            .as_ref()
            .is_none_or(|filter| filter.query().matches(resource))
    }

    /// What both let be done, if anything.
    fn meet(&self, other: &Self) -> Option<Self> {
        let permissions = self.permissions.and(other.permissions);
        let kind = match (self.kind, other.kind) {
            (None, kind) | (kind, None) => kind,
            (Some(left), Some(right)) => Some((left == right).then_some(left)?),
        };
        if self.level != other.level || permissions.is_none() {
            return None;
        }
        let filter = match (&self.filter, &other.filter) {
            (None, filter) | (filter, None) => filter.clone(),
            // More parameters than a filter has are not granted at all: less is never wrong.
            (Some(left), Some(right)) => Some(left.and(right)?),
        };
        Some(Self {
            level: self.level,
            kind,
            permissions,
            filter,
        })
    }

    /// Whether it lets everything be done that `other` does.
    fn contains(&self, other: &Self) -> bool {
        let of_types = self.kind.is_none() || self.kind == other.kind;
        let of_rows = self.filter.is_none() || self.filter == other.filter;
        self.level == other.level && of_types && of_rows && self.permissions.has(other.permissions)
    }
}

impl fmt::Display for ResourceScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind.map_or("*", ResourceType::name);
        write!(f, "{}/{kind}.{}", self.level.name(), self.permissions)?;
        match &self.filter {
            Some(filter) => write!(f, "?{filter}"),
            None => Ok(()),
        }
    }
}

/// What a token brings beside access to resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Context {
    Launch,
    LaunchPatient,
    LaunchEncounter,
    OfflineAccess,
    OnlineAccess,
    OpenId,
    FhirUser,
    Profile,
}

impl Context {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Launch,
        Self::LaunchPatient,
        Self::LaunchEncounter,
        Self::OfflineAccess,
        Self::OnlineAccess,
        Self::OpenId,
        Self::FhirUser,
        Self::Profile,
    ];
    /// Those by which an application learns who the person is (OpenID Connect).
    pub const IDENTITY: [Self; 3] = [Self::OpenId, Self::FhirUser, Self::Profile];
    /// Those that ask for the person's entry in the record. `profile` is what SMART called `fhirUser` first.
    pub const ENTRY: [Self; 2] = [Self::FhirUser, Self::Profile];
    /// As a scope spells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Launch => "launch",
            Self::LaunchPatient => "launch/patient",
            Self::LaunchEncounter => "launch/encounter",
            Self::OfflineAccess => "offline_access",
            Self::OnlineAccess => "online_access",
            Self::OpenId => "openid",
            Self::FhirUser => "fhirUser",
            Self::Profile => "profile",
        }
    }
}

/// A scope on resources, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopePart {
    /// As it is written.
    pub text: String,
    /// Whose data.
    pub level: Level,
    /// Of which type, if of one.
    pub kind: Option<ResourceType>,
    /// Whether something can be read or found.
    pub looks: bool,
    /// Whether something can be created.
    pub adds: bool,
    /// Whether something can be updated.
    pub changes: bool,
    /// Whether something can be deleted.
    pub deletes: bool,
    /// Search parameters that rows have to match.
    pub filter: Option<String>,
}

/// A list of scopes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scopes {
    resources: Vec<ResourceScope>,
    contexts: BTreeSet<Context>,
}

impl Scopes {
    /// Scopes as a client sends them, with spaces in between.
    ///
    /// # Errors
    /// [`ScopeError`] for the first that is not understood.
    pub fn parse(text: &str) -> Result<Self, ScopeError> {
        if text.len() > SCOPES_BYTES_MAX {
            return Err(ScopeError::TooMany);
        }
        let mut scopes = Self::default();
        for (position, scope) in text
            .split(' ')
            .filter(|scope| !scope.is_empty())
            .enumerate()
        {
            if position >= SCOPES_MAX {
                return Err(ScopeError::TooMany);
            }
            scopes.take(scope).map_err(|reason| ScopeError::Form {
                scope: scope
                    .chars()
                    .filter(char::is_ascii_graphic)
                    .take(100)
                    .collect(),
                reason,
            })?;
        }
        Ok(scopes)
    }

    fn take(&mut self, scope: &str) -> Result<(), String> {
        // RFC 6749, section 3.3.
        let is_token = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
        if !scope.bytes().all(is_token) {
            return Err("it has a character that no scope has".to_owned());
        }
        match Context::ALL
            .into_iter()
            .find(|context| context.name() == scope)
        {
            Some(context) => {
                self.contexts.insert(context);
            }
            None => self.add(ResourceScope::parse(scope)?),
        }
        Ok(())
    }

    /// Adds a scope, unless it is in another; what is in it goes.
    fn add(&mut self, scope: ResourceScope) {
        if self.resources.iter().any(|known| known.contains(&scope)) {
            return;
        }
        self.resources.retain(|known| !scope.contains(known));
        self.resources.push(scope);
    }

    /// Whether nothing can be done with it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.resources.is_empty() && self.contexts.is_empty()
    }

    /// Whether it has anything to do with resources.
    #[must_use]
    pub fn has_resources(&self) -> bool {
        !self.resources.is_empty()
    }

    /// Whether it has a context.
    #[must_use]
    pub fn has(&self, context: Context) -> bool {
        self.contexts.contains(&context)
    }

    /// Whether all scopes on resources are of a level.
    #[must_use]
    pub fn are_all(&self, level: Level) -> bool {
        self.resources.iter().all(|scope| scope.level == level)
    }

    /// What both lists let be done.
    #[must_use]
    pub fn narrow(&self, other: &Self) -> Self {
        let mut narrowed = Self {
            resources: Vec::new(),
            contexts: self
                .contexts
                .intersection(&other.contexts)
                .copied()
                .collect(),
        };
        for left in &self.resources {
            for right in &other.resources {
                // Less is never wrong, and what is granted is told.
                if narrowed.resources.len() < SCOPES_MAX
                    && let Some(both) = left.meet(right)
                {
                    narrowed.add(both);
                }
            }
        }
        narrowed
    }

    /// Those on resources at some levels, and all contexts.
    #[must_use]
    pub fn at(&self, levels: &[Level]) -> Self {
        let of_level = |scope: &&ResourceScope| levels.contains(&scope.level);
        Self {
            resources: self.resources.iter().filter(of_level).cloned().collect(),
            contexts: self.contexts.clone(),
        }
    }

    /// These contexts, with what another list has on resources.
    #[must_use]
    pub fn with_resources_of(&self, other: &Self) -> Self {
        Self {
            resources: other.resources.clone(),
            contexts: self.contexts.clone(),
        }
    }

    /// The same without a context.
    #[must_use]
    pub fn without(&self, context: Context) -> Self {
        let mut without = self.clone();
        without.contexts.remove(&context);
        without
    }

    /// The same without some contexts.
    #[must_use]
    pub fn without_all(&self, contexts: &[Context]) -> Self {
        let mut without = self.clone();
        without.contexts.retain(|one| !contexts.contains(one));
        without
    }

    /// Whether everything that it lets be done is let be done by another list.
    #[must_use]
    pub fn lies_in(&self, other: &Self) -> bool {
        let is_there =
            |scope: &ResourceScope| other.resources.iter().any(|all| all.contains(scope));
        self.resources.iter().all(is_there) && self.contexts.is_subset(&other.contexts)
    }

    /// What is left where policies let only some interactions with a type be done. A scope of all types
    /// keeps what is let be done with one of them at least.
    pub(crate) fn let_by(&self, lets: impl Fn(Action, ResourceType) -> bool) -> Self {
        let kept = |scope: &ResourceScope| {
            let lets = |action| match scope.kind {
                Some(kind) => lets(action, kind),
                None => ResourceType::all().any(|kind| lets(action, kind)),
            };
            let mut left = Permissions(0);
            for action in Action::INTERACTIONS {
                if action != Action::History
                    && let Some(one) = Permissions::for_action(action)
                    && lets(action)
                {
                    left = Permissions(left.0 | one.0);
                }
            }
            let permissions = scope.permissions.and(left);
            (!permissions.is_none()).then(|| ResourceScope {
                permissions,
                ..scope.clone()
            })
        };
        let mut all = Self {
            resources: Vec::new(),
            contexts: self.contexts.clone(),
        };
        self.resources
            .iter()
            .filter_map(kept)
            .for_each(|scope| all.add(scope));
        all
    }

    /// The scopes on resources, one by one, to be shown to a person.
    pub fn parts(&self) -> impl Iterator<Item = ScopePart> {
        self.resources.iter().map(|scope| ScopePart {
            text: scope.to_string(),
            level: scope.level,
            kind: scope.kind,
            looks: scope.permissions.and(Permissions::READ) != Permissions(0),
            adds: scope.permissions.has(Permissions::of("c")),
            changes: scope.permissions.has(Permissions::of("u")),
            deletes: scope.permissions.has(Permissions::of("d")),
            filter: scope.filter.as_ref().map(ToString::to_string),
        })
    }

    /// Whether an interaction with a type is let be done, with some rows at least.
    #[must_use]
    pub fn allows(&self, interaction: Action, kind: ResourceType) -> bool {
        Permissions::for_action(interaction).is_some_and(|wanted| {
            self.resources
                .iter()
                .any(|scope| scope.is_of(kind) && scope.permissions.has(wanted))
        })
    }

    /// Whether an action can be begun at all; what it does is asked for each resource.
    pub(crate) fn begins(&self, action: Action) -> bool {
        let has = |level: Option<Level>, letters: &str| {
            self.resources.iter().any(|scope| {
                level.is_none_or(|level| scope.level == level)
                    && scope.permissions.has(Permissions::of(letters))
            })
        };
        match action {
            Action::Read | Action::History => has(None, "r"),
            Action::Search => has(None, "s"),
            Action::Create => has(None, "c"),
            Action::Update => has(None, "u"),
            Action::Delete => has(None, "d"),
            Action::Transaction => self.has_resources(),
            // Many patients at once are no matter of one patient's token.
            Action::Export => has(Some(Level::System), "rs"),
            Action::Import => has(Some(Level::System), "cru"),
            // What is defined is no patient's.
            Action::Index => ["c", "u", "d"].iter().any(|letter| {
                self.resources.iter().any(|scope| {
                    scope.level != Level::Patient
                        && scope.is_of(ResourceType::SearchParameter)
                        && scope.permissions.has(Permissions::of(letter))
                })
            }),
            Action::Work
            | Action::Audit
            | Action::Publish
            | Action::Observe
            | Action::Send
            | Action::Orchestrate
            | Action::Steer
            | Action::Administer
            | Action::Invite
            | Action::Account => false,
        }
    }

    /// Whether a row is let be looked at or written. `of_patient` says whether it is the patient's that
    /// the token is for. Rows of a type's history are found like those of a search.
    pub(crate) fn cover(
        &self,
        interaction: Action,
        resource: &Resource,
        of_patient: impl Fn() -> bool,
    ) -> bool {
        let Some(wanted) = Permissions::for_action(interaction) else {
            return false;
        };
        self.resources.iter().any(|scope| {
            scope.is_of(resource.kind())
                && scope.permissions.has(wanted)
                && (scope.level != Level::Patient || of_patient())
                && scope.lets_through(resource)
        })
    }

    /// The one query that all rows of a type match that an interaction is let be done with, where there
    /// is one. Lists of candidates are narrowed by it; each row is still asked for.
    pub(crate) fn filter(&self, interaction: Action, kind: ResourceType) -> Option<&SearchQuery> {
        let wanted = Permissions::for_action(interaction)?;
        let mut fitting = self
            .resources
            .iter()
            .filter(|scope| scope.is_of(kind) && scope.permissions.has(wanted));
        let first = fitting.next()?.filter.as_ref()?;
        fitting
            .all(|scope| scope.filter.as_ref() == Some(first))
            .then(|| first.query())
    }

    /// The queries of all filters.
    pub(crate) fn filters(&self) -> impl Iterator<Item = &SearchQuery> {
        let scopes = self.resources.iter();
        scopes.filter_map(|scope| Some(scope.filter.as_ref()?.query()))
    }

    /// Whether what a row of a type holds decides whether it is covered.
    pub(crate) fn looks_into(&self, kind: ResourceType) -> bool {
        self.resources
            .iter()
            .any(|scope| scope.is_of(kind) && scope.filter.is_some())
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let contexts = self
            .contexts
            .iter()
            .map(|context| context.name().to_owned());
        let resources = self.resources.iter().map(ToString::to_string);
        for (position, scope) in contexts.chain(resources).enumerate() {
            if position > 0 {
                f.write_str(" ")?;
            }
            f.write_str(&scope)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
