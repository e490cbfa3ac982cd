//! Permits: what `Trust::decide` mints and every context function takes.
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use fhir::search::SearchQuery;
use fhir::{Resource, ResourceType};
use ledger::{Number, TenantId};

use crate::policy::{ElementRule, Grants, Group};
use crate::{Agent, Purpose, Role};

/// What somebody wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Action {
    Read,
    Search,
    History,
    Create,
    Update,
    Delete,
    Transaction,
    Import,
    /// Work with a task of the worklist.
    Work,
    /// Read the audit.
    Audit,
    /// Publish a journey.
    Publish,
    /// See journeys and their counts (no patient details).
    Observe,
    /// Put a message on its way.
    Send,
    /// Move patients along journeys.
    Orchestrate,
    /// Have many patients' journeys held, led on or stopped in one go.
    Steer,
    /// Manage accounts.
    Administer,
    /// Give a patient a sign-in link.
    Invite,
    /// Define search parameters of one's own, and index by them.
    Index,
    /// Take many patients' records away in one go.
    Export,
    /// Look after one's own account: second factors, sessions, applications let in. Nothing of a record.
    Account,
}

impl Action {
    /// Whether what is written by it counts against a bound of what a tenant stores: what clients and people write,
    /// and not what goes on in journeys and tasks.
    pub(crate) fn is_bounded(self) -> bool {
        matches!(
            self,
            Self::Create | Self::Update | Self::Transaction | Self::Import
        )
    }

    /// All actions; those on resource types first.
    pub const ALL: [Self; 20] = [
        Self::Read,
        Self::Search,
        Self::History,
        Self::Create,
        Self::Update,
        Self::Delete,
        Self::Transaction,
        Self::Import,
        Self::Work,
        Self::Audit,
        Self::Publish,
        Self::Observe,
        Self::Send,
        Self::Orchestrate,
        Self::Steer,
        Self::Administer,
        Self::Invite,
        Self::Index,
        Self::Export,
        Self::Account,
    ];
    /// The actions that are done to resource types.
    pub(crate) const INTERACTIONS: [Self; 6] = [
        Self::Read,
        Self::Search,
        Self::History,
        Self::Create,
        Self::Update,
        Self::Delete,
    ];
    /// The name that policies know it by.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Search => "search",
            Self::History => "history",
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Transaction => "transaction",
            Self::Import => "import",
            Self::Work => "work",
            Self::Audit => "audit",
            Self::Publish => "publish",
            Self::Observe => "observe",
            Self::Send => "send",
            Self::Orchestrate => "orchestrate",
            Self::Steer => "steer",
            Self::Administer => "administer",
            Self::Invite => "invite",
            Self::Index => "index",
            Self::Export => "export",
            Self::Account => "account",
        }
    }
    /// The action of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name() == name)
    }
    /// Whether it is done to resource types.
    #[must_use]
    pub fn is_interaction(self) -> bool {
        self.interaction().is_some()
    }
    /// The place among [`Action::INTERACTIONS`], of those that are one.
    pub(crate) fn interaction(self) -> Option<usize> {
        Self::INTERACTIONS.iter().position(|other| *other == self)
    }
    /// Whether a permit for this action may write.
    pub(crate) fn writes(self) -> bool {
        matches!(
            self,
            Self::Create
                | Self::Update
                | Self::Delete
                | Self::Transaction
                | Self::Import
                | Self::Work
                | Self::Publish
                | Self::Send
                | Self::Orchestrate
                | Self::Steer
        )
    }
    /// Which interactions a permit for this action is a frame for. Whether each of them is allowed
    /// for a resource type is the policies' to say.
    pub(crate) fn frames(self, interaction: Self) -> bool {
        let looks = matches!(interaction, Self::Read | Self::Search | Self::History);
        match self {
            Self::Read
            | Self::Search
            | Self::History
            | Self::Audit
            | Self::Export
            | Self::Steer => looks,
            Self::Create | Self::Update | Self::Work => {
                looks || matches!(interaction, Self::Create | Self::Update)
            }
            Self::Delete => looks || interaction == Self::Delete,
            Self::Transaction | Self::Import | Self::Send | Self::Orchestrate => {
                interaction.interaction().is_some()
            }
            // A journey is published together with the forms that it asks patients to fill in.
            Self::Publish => interaction == Self::Create,
            Self::Observe | Self::Administer | Self::Invite | Self::Index | Self::Account => false,
        }
    }
}

/// What it is wanted for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// The resource type, if one.
    pub kind: Option<ResourceType>,
    /// The patient concerned, if one is known before.
    pub patient: Option<String>,
}

/// How old what a request reads may be, what it has brought about, and what has to go out with its answer.
/// Clones are of the same request.
#[derive(Debug, Clone, Default)]
pub struct Freshness {
    at_least: Option<Number>,
    reached: Arc<AtomicU64>,
    notices: Arc<Mutex<BTreeSet<String>>>,
}

impl Freshness {
    /// Rows may be read from a copy of the store that has everything up to a number, if it has one.
    /// Otherwise (and by default) they are read as they are now. Who may see them is always decided by
    /// what holds now.
    #[must_use]
    pub fn at_least(number: Number) -> Self {
        Self {
            at_least: Some(number),
            reached: Arc::default(),
            notices: Arc::default(),
        }
    }

    /// What a later request has to name so that it sees no less than this one has: `None` before
    /// anything was read or written.
    #[must_use]
    pub fn reached(&self) -> Option<Number> {
        let reached = self.reached.load(Ordering::Acquire);
        (reached > 0).then_some(Number(reached))
    }

    /// Notices that have to go out with what was read.
    #[must_use]
    pub fn notices(&self) -> Vec<String> {
        let notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        notices.iter().cloned().collect()
    }

    pub(crate) fn notify(&self, notice: &str) {
        let mut notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        if !notices.contains(notice) {
            notices.insert(notice.to_owned());
        }
    }

    pub(crate) fn wanted(&self) -> Option<Number> {
        self.at_least
    }

    /// Notes the record of something that was read or written: its commit came after everything that was
    /// seen. What was seen on a copy is no newer than what was asked for.
    pub(crate) fn note(&self, record: Option<Number>, has_written: bool) {
        let number = match self.at_least {
            Some(wanted) if !has_written => Some(wanted),
            _ => record,
        };
        if let Some(number) = number {
            self.reached.fetch_max(number.0, Ordering::AcqRel);
        }
    }
}

/// The right to do one thing, for the several steps of one request. Only [`crate::Trust`] makes one.
///
/// A permit says which resource types may be looked at and written within its action, and which rows
/// can be seen at all. It may be cloned, because the steps of one request run side by side; it dies
/// with the request.
#[derive(Debug, Clone)]
pub struct Permit {
    pub(crate) agent: Agent,
    pub(crate) purpose: Purpose,
    pub(crate) action: Action,
    /// Rows outside this patient's compartment are invisible.
    pub(crate) only_patient: Option<String>,
    pub(crate) grants: Arc<Grants>,
    /// Which policies said yes.
    pub(crate) because: Vec<String>,
    /// Ties log, audit and trace of one request together.
    pub(crate) request_id: String,
    /// The patients that an audit record of this request names already.
    pub(crate) named: Arc<Mutex<BTreeSet<String>>>,
    pub(crate) freshness: Freshness,
    /// What a proxy may be shown; without it, nothing.
    pub(crate) standing: Option<crate::consent::Standing>,
    /// The key of a request that is to be carried out once.
    pub(crate) once: Option<crate::Once>,
}

impl Permit {
    /// Who.
    #[must_use]
    pub fn agent(&self) -> &Agent {
        &self.agent
    }
    /// What for.
    #[must_use]
    pub fn purpose(&self) -> Purpose {
        self.purpose
    }
    /// What.
    #[must_use]
    pub fn action(&self) -> Action {
        self.action
    }
    /// The tenant.
    #[must_use]
    pub fn tenant(&self) -> TenantId {
        self.agent.tenant
    }
    /// The one patient that this permit is limited to, if it is.
    #[must_use]
    pub fn only_patient(&self) -> Option<&str> {
        self.only_patient.as_deref()
    }
    /// The policies that said yes.
    #[must_use]
    pub fn because(&self) -> &[String] {
        &self.because
    }
    /// Request id.
    #[must_use]
    pub fn request_id(&self) -> &str {
        &self.request_id
    }
    /// Whether an interaction (`Read`, `Search`, `History`, `Create`, `Update`, `Delete`) with a
    /// resource type is allowed under this permit.
    #[must_use]
    pub fn allows(&self, interaction: Action, kind: ResourceType) -> bool {
        self.action.frames(interaction)
            && self.grants.interaction(interaction, kind)
            && self.scopes_allow(interaction, kind)
            && (kind != ResourceType::AuditEvent
                || self.agent.role == Role::Patient
                || self.grants.service(Action::Audit))
    }
    /// Whether who is where may be shown, and not just how many: a permit to observe journeys shows
    /// no patients.
    #[must_use]
    pub fn shows_patients(&self) -> bool {
        !matches!(
            self.action,
            Action::Observe | Action::Publish | Action::Administer
        )
    }
    /// Whether the scopes of an access token let an interaction with a type be done, if there are any.
    pub(crate) fn scopes_allow(&self, interaction: Action, kind: ResourceType) -> bool {
        let access = self.agent.access.as_ref();
        access.is_none_or(|access| access.scopes.allows(interaction, kind))
    }
    /// The rule by which elements of a type are not shown.
    pub(crate) fn in_part(&self, kind: ResourceType) -> Option<&ElementRule> {
        self.grants.in_part(kind)
    }
    /// Whether resources of a type are shown in part: some of their elements are not needed for the purpose.
    #[must_use]
    pub fn shows_in_part(&self, kind: ResourceType) -> bool {
        self.in_part(kind).is_some()
    }
    /// Whether rows of a type may be shown in a list that isn't a search for them: beside a page, or in
    /// a file. To an access token they are found as by a search.
    #[must_use]
    pub fn shows(&self, kind: ResourceType) -> bool {
        self.allows(Action::Read, kind) && self.scopes_allow(Action::Search, kind)
    }
    /// Whether a row lies within the patient that the permit is limited to, and within the scopes of an
    /// access token for an interaction. Consent is not looked at.
    pub(crate) fn covers(&self, interaction: Action, resource: &Resource) -> bool {
        if !self.is_of(resource, self.only_patient()) {
            return false;
        }
        let Some(access) = &self.agent.access else {
            return true;
        };
        let of_patient = || match access.patient.as_deref() {
            None => false,
            // What belongs to nobody is to be seen, and not to be written as a part of a record.
            Some(patient) if interaction.writes() => resource.patient() == Some(patient),
            patient => self.is_of(resource, patient),
        };
        access.scopes.cover(interaction, resource, of_patient)
    }
    /// Whether a row is a patient's, or nobody's that everybody may see; of no patient all are.
    fn is_of(&self, resource: &Resource, patient: Option<&str>) -> bool {
        let Some(only) = patient else {
            return true;
        };
        if resource.kind() == ResourceType::AuditEvent {
            return crate::audit::patients(resource).any(|patient| patient == only);
        }
        match resource.patient() {
            Some(patient) => patient == only,
            None => self.grants.group(resource.kind()) == Group::Directory,
        }
    }
    /// Whether it covers events of the audit whosever they are.
    pub(crate) fn sees_all_events(&self) -> bool {
        self.only_patient().is_none() && self.agent.access.is_none()
    }
    /// What an access token narrows the rows of a list to, as far as one query says it.
    pub(crate) fn list_filter(&self, kind: ResourceType) -> Option<&SearchQuery> {
        let access = self.agent.access.as_ref()?;
        access.scopes.filter(Action::Search, kind)
    }
    /// Whether the content of a row decides whether it is covered, beside whose it is.
    pub(crate) fn looks_into(&self, kind: ResourceType) -> bool {
        let access = self.agent.access.as_ref();
        access.is_some_and(|access| access.scopes.looks_into(kind))
    }
    /// The same permit for a request that says how old what it reads may be.
    #[must_use]
    pub fn with(mut self, freshness: Freshness) -> Self {
        self.freshness = freshness;
        self
    }
    /// The same permit for a request that is to be carried out once, if it has a key.
    #[must_use]
    pub fn once(mut self, once: Option<crate::Once>) -> Self {
        self.once = once;
        self
    }
    /// Notes the patients that an audit record names.
    pub(crate) fn name_patients<'a>(&self, patients: impl IntoIterator<Item = &'a String>) {
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        named.extend(patients.into_iter().cloned());
    }
    /// Those of `patients` that no audit record of this request names yet.
    pub(crate) fn unnamed(&self, patients: BTreeSet<String>) -> BTreeSet<String> {
        let named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        patients
            .into_iter()
            .filter(|patient| !named.contains(patient))
            .collect()
    }
}
