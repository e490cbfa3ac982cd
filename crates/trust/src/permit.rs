//! Permits: what `Trust::decide` mints and every context function takes.
use crate::{Agent, Purpose};

/// What somebody wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Action { Read, Search, History, Create, Update, Delete, Transaction, Import,
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
    /// Manage accounts.
    Administer,
}

/// What it is wanted for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// The resource type, if one.
    pub kind: Option<fhir::ResourceType>,
    /// The patient concerned, if one is known before.
    pub patient: Option<String>,
}

/// The right to do one thing. Only [`crate::Trust`] makes one; it is not `Clone` on purpose? It is:
/// a permit may be used for the several steps of one request.
#[derive(Debug, Clone)]
pub struct Permit {
    pub(crate) agent: Agent,
    pub(crate) purpose: Purpose,
    pub(crate) action: Action,
    pub(crate) target: Target,
    /// Rows outside this patient's compartment are invisible.
    pub(crate) only_patient: Option<String>,
    /// Resource types that may be seen; `None`: all.
    pub(crate) only_kinds: Option<Vec<fhir::ResourceType>>,
    /// Which policies said yes.
    pub(crate) because: Vec<String>,
    /// Ties log, audit and trace of one request together.
    pub(crate) request_id: String,
}

impl Permit {
    /// Who.
    #[must_use]
    pub fn agent(&self) -> &Agent { &self.agent }
    /// What for.
    #[must_use]
    pub fn purpose(&self) -> Purpose { self.purpose }
    /// What.
    #[must_use]
    pub fn action(&self) -> Action { self.action }
    /// The tenant.
    #[must_use]
    pub fn tenant(&self) -> ledger::TenantId { self.agent.tenant }
    /// The one patient that this permit is limited to, if it is.
    #[must_use]
    pub fn only_patient(&self) -> Option<&str> { self.only_patient.as_deref() }
    /// The policies that said yes.
    #[must_use]
    pub fn because(&self) -> &[String] { &self.because }
    /// Request id.
    #[must_use]
    pub fn request_id(&self) -> &str { &self.request_id }
}
