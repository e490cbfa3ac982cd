//! The decision: Cedar policies over role, purpose, action and target.

mod again;
mod around;
mod cases;
mod elements;
mod explain;
mod files;
mod force;
mod own;
mod partners;
mod set;
mod table;
mod what_if;
mod why;
mod widest;

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use fhir::ResourceType;
use ledger::{Clock, Ledger, LedgerError};

use crate::audit::{Auditor, Event, Outcome, Record};
use crate::consent::Rules;
use crate::identity::Identity;
use crate::{
    Access, Action, Agent, Freshness, Permit, Purpose, Refusal, Role, Target, TrustError, Vault,
};

pub(crate) use around::organizations;
pub use around::{
    Around, Device, DeviceKind, Factor, NETWORKS_MAX, PolicySlice, SignedIn, Surroundings, Weekday,
};
pub(crate) use elements::{ElementRule, Elements};
pub use elements::{ElementWords, Exemption};
pub use explain::{AskedAbout, AskedAs, EXPLAINER, Explanation};
pub use files::PolicyFault;
pub(crate) use force::Policies;
pub use force::{PolicyLook, PolicyStatus, RefusedSet};
pub(crate) use set::Group;
use set::PolicyFiles;
pub use set::PolicyWords;
pub use table::{PolicyCell, PolicyRow};
pub use why::{ElementsWhy, PolicySet, Question, Tested, Why};

/// How to set trust up.
pub struct TrustOptions {
    /// The store. A handle for one tenant makes all of this that tenant's: secrets of another are unknown,
    /// and nobody of another is let do anything.
    pub ledger: Ledger,
    /// Real time, for sessions, links and one-time codes.
    pub wall_clock: Arc<dyn Clock>,
    /// A folder with `*.cedar` policies, their tests (`*.test.toml`), `cairn.cedarschema`, `purposes.toml`,
    /// `partners.toml` and `groups.json` to use instead of the built-in set; a schema or groups that aren't there are the
    /// built-in ones. What changes in it is in force after [`Trust::look_at_policies`].
    pub policy_folder: Option<PathBuf>,
    /// Session idle time-out, seconds.
    pub session_idle_s: u64,
    /// Session absolute time-out, seconds.
    pub session_absolute_s: u64,
}

/// Identity, policy, consent and audit of a server. Cheap to clone.
#[derive(Clone)]
pub struct Trust {
    inner: Arc<Inner>,
}

struct Inner {
    policies: Arc<Policies>,
    auditor: Auditor,
    vault: Vault,
    identity: Identity,
    wall_clock: Arc<dyn Clock>,
}

/// What policies say of agents: by role, and by part for those parts of Cairn that act by themselves.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Asker {
    pub(crate) role: Role,
    pub(crate) part: Option<String>,
    pub(crate) purpose: Purpose,
    /// A patient who asks for nothing outside their own compartment.
    pub(crate) own: bool,
    /// What is around the request, as far as some policy looks at it.
    pub(crate) around: Option<Around>,
}

/// Everything that the policies allow an asker: one bit for each interaction and resource type, and
/// for each other action.
#[derive(Debug)]
pub(crate) struct Grants {
    /// By the number of the resource type's class.
    interactions: Vec<[bool; Action::INTERACTIONS.len()]>,
    services: [bool; Action::ALL.len()],
    /// The policies that said yes, by action and, for interactions, class.
    because: HashMap<(Action, Option<usize>), Vec<String>>,
    classes: Arc<Classes>,
    /// What is not shown; nothing for those from whom nothing is hidden.
    elements: Option<Arc<Elements>>,
}

/// Resource types that no policy tells apart are of one class, so a decision for one is for all.
#[derive(Debug)]
pub(crate) struct Classes {
    /// The class of each resource type, by its number.
    of_kind: Vec<usize>,
    /// One of each class.
    members: Vec<ResourceType>,
    groups: Vec<Group>,
}

impl Classes {
    fn class(&self, kind: ResourceType) -> usize {
        self.of_kind[usize::from(kind.code())]
    }
    fn group(&self, kind: ResourceType) -> Group {
        self.groups[usize::from(kind.code())]
    }
}

/// Whether only who is shown all of a resource may do this: whoever sees it in part would write it back in part, or
/// ask by changing it. A subscription is changed by whoever asked for it alone, who wrote all of it.
fn needs_the_whole(action: Action, kind: ResourceType) -> bool {
    kind != ResourceType::Subscription && matches!(action, Action::Update | Action::Delete)
}

impl Grants {
    pub(crate) fn interaction(&self, interaction: Action, kind: ResourceType) -> bool {
        interaction
            .interaction()
            .is_some_and(|place| self.interactions[self.classes.class(kind)][place])
            && !self.changes_unseen(interaction, kind)
    }
    /// Which elements of a type are not shown.
    pub(crate) fn in_part(&self, kind: ResourceType) -> Option<&ElementRule> {
        let rule = self.elements.as_ref()?.of(kind)?;
        Some(rule)
    }
    pub(crate) fn elements(&self) -> Option<&Elements> {
        self.elements.as_deref()
    }
    /// Whether an interaction would change what is not shown.
    pub(crate) fn changes_unseen(&self, interaction: Action, kind: ResourceType) -> bool {
        needs_the_whole(interaction, kind) && self.in_part(kind).is_some()
    }
    pub(crate) fn service(&self, action: Action) -> bool {
        self.services[action as usize]
    }
    pub(crate) fn group(&self, kind: ResourceType) -> Group {
        self.classes.group(kind)
    }
    fn any(&self, interaction: Action) -> bool {
        interaction
            .interaction()
            .is_some_and(|place| self.interactions.iter().any(|class| class[place]))
    }
    fn because(&self, action: Action, kind: Option<ResourceType>) -> Vec<String> {
        let of_class = |class| self.because.get(&(action, class)).into_iter().flatten();
        let all: BTreeSet<&String> = match (kind, action.interaction()) {
            (Some(kind), Some(_)) => of_class(Some(self.classes.class(kind))).collect(),
            (None, Some(_)) => (0..self.classes.members.len())
                .flat_map(|class| of_class(Some(class)))
                .collect(),
            (_, None) => of_class(None).collect(),
        };
        all.into_iter().cloned().collect()
    }
}

impl PolicySet {
    fn forbidding(&self, asker: &Asker, action: Action, kind: Option<ResourceType>) -> Vec<String> {
        let entities = self.files.with(asker);
        entities.map_or_else(Vec::new, |entities| {
            self.files.forbidding(&entities, asker, action, kind)
        })
    }

    fn decide_all(&self, asker: &Asker) -> Grants {
        self.decide_by(&self.files, asker)
    }

    /// What is decided where what changes around a request lets the most: what the asker might do at all, at a tenant.
    fn decide_widest(&self, asker: &Asker, tenant: &str) -> Grants {
        let around = Around {
            tenant: tenant.to_owned(),
            ..Around::default()
        };
        let around = Some(around.seen(self.looks()));
        let asker = Asker {
            around,
            ..asker.clone()
        };
        self.decide_by(self.files.widest(), &asker)
    }

    fn decide_by(&self, files: &PolicyFiles, asker: &Asker) -> Grants {
        let mut grants = Grants {
            interactions: vec![[false; Action::INTERACTIONS.len()]; self.classes.members.len()],
            services: [false; Action::ALL.len()],
            because: HashMap::new(),
            classes: self.classes.clone(),
            elements: self.elements.of(asker.role, asker.purpose).cloned(),
        };
        let Some(entities) = files.with(asker) else {
            return grants;
        };
        for action in Action::ALL {
            match action.interaction() {
                Some(place) => {
                    for (class, kind) in self.classes.members.iter().enumerate() {
                        let because = files.permits(&entities, asker, action, Some(*kind));
                        if let Some(because) = because {
                            grants.interactions[class][place] = true;
                            grants.because.insert((action, Some(class)), because);
                        }
                    }
                }
                None => {
                    let because = files.permits(&entities, asker, action, None);
                    if let Some(because) = because {
                        grants.services[action as usize] = true;
                        grants.because.insert((action, None), because);
                    }
                }
            }
        }
        grants
    }
}

impl Policies {
    /// The permit or the reason why not. Pure but for the cache. `organizations` are those of the agent, where
    /// they were looked up; nothing where they were not, and the set that decides looks at them: that is no answer,
    /// and [`Identity::judged`] looks them up then.
    pub(crate) fn judge_of(
        &self,
        (agent, organizations): (&Agent, Option<&[String]>),
        purpose: Purpose,
        action: Action,
        target: &Target,
        request_id: &str,
    ) -> Option<Result<Permit, Refusal>> {
        let asker = match asker(agent, purpose, target) {
            Ok(asker) => asker,
            Err(refusal) => return Some(Err(refusal)),
        };
        let (asker, grants) = self.grants_now(asker, agent, organizations)?;
        Some(self.judge_by((agent, &asker, grants), action, target, request_id))
    }

    /// The same by what the policies grant.
    fn judge_by(
        &self,
        (agent, asker, grants): (&Agent, &Asker, Arc<Grants>),
        action: Action,
        target: &Target,
        request_id: &str,
    ) -> Result<Permit, Refusal> {
        let purpose = asker.purpose;
        let patient = agent.role == Role::Patient;
        let has_one = agent.role.has_one_record();
        let kind_ok = |kind| {
            if action.interaction().is_some() {
                grants.interaction(action, kind)
            } else {
                Action::INTERACTIONS
                    .iter()
                    .any(|interaction| grants.interaction(*interaction, kind))
            }
        };
        let allowed = match action.interaction() {
            Some(_) => target.kind.map_or_else(|| grants.any(action), kind_ok),
            None => grants.service(action) && target.kind.is_none_or(kind_ok),
        };
        // Whoever reads the audit must be allowed to audit, except patients their own.
        let allowed = allowed
            && (target.kind != Some(ResourceType::AuditEvent)
                || patient
                || grants.service(Action::Audit));
        if !allowed {
            let what = target
                .kind
                .map_or_else(String::new, |kind| format!(" {kind}"));
            let unseen = target
                .kind
                .filter(|kind| grants.changes_unseen(action, *kind));
            let reason = if let Some(kind) = unseen {
                in_part_only(agent.role, purpose, kind)
            } else if has_one && !asker.own {
                "patients may act on their own record only, and who acts for one on that one's"
                    .to_owned()
            } else {
                let who = asker.part.as_deref().unwrap_or(agent.role.name());
                let around = asker.around.as_ref();
                let around = around.map_or_else(String::new, |around| {
                    format!(" ({})", around.words(self.set().looks()))
                });
                format!(
                    "no policy lets the role {who} {}{what} for {}{around}",
                    action.name(),
                    purpose.code()
                )
            };
            let because = match (unseen, grants.elements()) {
                (Some(_), Some(elements)) => elements.because(unseen),
                _ => self.set().forbidding(asker, action, target.kind),
            };
            return Err(Refusal { reason, because });
        }
        if let Some(access) = &agent.access {
            check_access(access, action, target)?;
            check_filters(access, &grants, agent.role, purpose)?;
        }
        let only_patient = if has_one {
            agent.patient.clone()
        } else {
            target.patient.clone()
        };
        let of_token = || agent.access.as_ref()?.only_patient().map(str::to_owned);
        let mut because = grants.because(action, target.kind);
        let looks = action.frames(Action::Read);
        if let Some(elements) = grants.elements().filter(|_| looks) {
            because.extend(elements.because(target.kind));
        }
        Ok(Permit {
            because,
            agent: agent.clone(),
            purpose,
            action,
            only_patient: only_patient.or_else(of_token),
            grants,
            request_id: request_id.to_owned(),
            named: Arc::new(Mutex::new(BTreeSet::new())),
            freshness: Freshness::default(),
            standing: None,
            once: None,
        })
    }
}

/// As whom an agent asks, with nothing around them.
fn asker(agent: &Agent, purpose: Purpose, target: &Target) -> Result<Asker, Refusal> {
    let has_one = agent.role.has_one_record();
    if has_one && agent.patient.is_none() {
        return Err(Refusal {
            reason: "this account belongs to no patient".to_owned(),
            because: Vec::new(),
        });
    }
    Ok(Asker {
        role: agent.role,
        part: (agent.role == Role::System).then(|| agent.id.clone()),
        purpose,
        own: has_one && (target.patient.is_none() || target.patient == agent.patient),
        around: None,
    })
}

/// What the policies allow is narrowed by the scopes of an access token, and to its patient.
fn check_access(access: &Access, action: Action, target: &Target) -> Result<(), Refusal> {
    let refuse = |reason: String| {
        Err(Refusal {
            reason,
            because: Vec::new(),
        })
    };
    if let (Some(only), Some(patient)) = (access.only_patient(), &target.patient)
        && only != patient
    {
        return refuse("this access token is for another patient's record".to_owned());
    }
    let lets = access.scopes.begins(action)
        && target.kind.is_none_or(|kind| match action.interaction() {
            Some(_) => access.scopes.allows(action, kind),
            None => (Action::INTERACTIONS.iter())
                .any(|interaction| access.scopes.allows(*interaction, kind)),
        });
    if lets {
        return Ok(());
    }
    let what = target
        .kind
        .map_or_else(String::new, |kind| format!(" {kind}"));
    refuse(format!(
        "the scopes of this access token don't let {}{what}",
        action.name()
    ))
}

/// The filters of an access token must not ask for what is not shown: which rows it covers would tell.
fn check_filters(
    access: &Access,
    grants: &Grants,
    role: Role,
    purpose: Purpose,
) -> Result<(), Refusal> {
    let Some(elements) = grants.elements() else {
        return Ok(());
    };
    let mut filters = access.scopes.filters();
    match filters.find_map(|query| elements.refuses(query)) {
        None => Ok(()),
        Some(asked) => Err(Refusal {
            reason: format!(
                "a scope of this access token can't be used: {}",
                asked.words(role, purpose)
            ),
            because: Vec::new(),
        }),
    }
}

/// What is said to somebody who acts for a patient no more.
pub(crate) const NO_PROXY: &str = "you don't act for this patient, or not any more";

/// What is said to whoever would change what they don't see whole.
pub(crate) fn in_part_only(role: Role, purpose: Purpose, kind: ResourceType) -> String {
    format!(
        "the role {} is shown {kind} in part for {}, and what is seen in part is not changed: its other elements would be lost",
        role.name(),
        purpose.code()
    )
}

/// What is said of an own purpose that there is no more.
pub(crate) fn gone(purpose: Purpose) -> String {
    format!(
        "{} ({}) is no purpose of this organisation's any more",
        purpose.code(),
        purpose.system()
    )
}

impl Trust {
    /// Loads and validates policies. Consents are read by the rule pack that is the default.
    ///
    /// # Errors
    /// `Policy` with file and position.
    pub fn new(options: TrustOptions) -> Result<Self, TrustError> {
        let rules = Rules::load(Rules::DEFAULT)?;
        Self::under(options, rules)
    }
    /// The same with a rule pack.
    ///
    /// # Errors
    /// As [`Trust::new`].
    pub fn under(options: TrustOptions, rules: Rules) -> Result<Self, TrustError> {
        let policies = Arc::new(Policies::load(
            options.policy_folder.as_deref(),
            options.wall_clock.now_ms(),
        )?);
        policies.follow_clock(options.wall_clock.clone());
        let auditor = Auditor::new(options.ledger.clone(), options.wall_clock.clone());
        let vault = Vault::new(options.ledger, auditor.clone(), rules);
        let identity = Identity::new(
            policies.clone(),
            auditor.clone(),
            vault.clone(),
            options.wall_clock.clone(),
            options.session_idle_s,
            options.session_absolute_s,
        )?;
        Ok(Self {
            inner: Arc::new(Inner {
                policies,
                auditor,
                vault,
                identity,
                wall_clock: options.wall_clock,
            }),
        })
    }
    /// Says where the server stands, for policies that look at networks, the time or the tenant. Once, before
    /// anything is decided; without it there is one tenant `main`, no network has a name, and it is UTC.
    pub fn situate(&self, surroundings: Surroundings) {
        self.inner.policies.situate(surroundings);
    }
    /// Whom journeys may call by this name, as it is now.
    #[must_use]
    pub fn partner(&self, name: &str) -> Option<crate::partners::Partner> {
        self.policy_set().partners().get(name).cloned()
    }
    /// What a page of somebody's is decided under now: one that stays open has to be drawn anew when it changes.
    #[must_use]
    pub fn policy_slice(&self, agent: &Agent) -> PolicySlice {
        self.inner.policies.slice(agent)
    }
    /// Decides, and mints a permit on "yes". A "no" is audited before it is returned.
    ///
    /// The permit covers what the policies allow the same role for the same purpose within the
    /// action: `target.kind` asks for a "no" early, `target.patient` limits the rows.
    ///
    /// # Errors
    /// `Refused`, `Ledger`.
    pub async fn decide(
        &self,
        agent: &Agent,
        purpose: Purpose,
        action: Action,
        target: Target,
        request_id: &str,
    ) -> Result<Permit, TrustError> {
        self.decide_any(agent, purpose, &[action], target, request_id)
            .await
    }
    /// The same of several actions, of which one has to be allowed: the permit is for the first that is. A
    /// "no" to all of them is audited as one to the first.
    ///
    /// # Errors
    /// `Refused`, `Ledger`; `Invalid` when there is no action.
    pub async fn decide_any(
        &self,
        agent: &Agent,
        purpose: Purpose,
        actions: &[Action],
        target: Target,
        request_id: &str,
    ) -> Result<Permit, TrustError> {
        // Nobody of another tenant gets this far; the store would know nothing of theirs either.
        let only = self.inner.vault.ledger().tenant();
        if only.is_some_and(|only| only != agent.tenant) {
            return Err(LedgerError::UnknownTenant(agent.tenant.0).into());
        }
        // A system's purposes are asked before policies are, so that a "no" says what it is registered for.
        let now = self.policy_set().purposes().now(purpose);
        let unasked = match now {
            None => Some(gone(purpose)),
            Some(purpose) => self.inner.identity.refuses(agent, purpose).await?,
        };
        let purpose = now.unwrap_or(purpose);
        let mut refused = unasked.and_then(|reason| {
            let because = Vec::new();
            Some((*actions.first()?, Refusal { reason, because }))
        });
        let asked: &[Action] = if refused.is_some() { &[] } else { actions };
        let identity = &self.inner.identity;
        let mut known = match asked {
            [] => None,
            _ => identity.organizations_looked_at(agent).await?,
        };
        for action in asked {
            let who = (agent, &mut known);
            let judged = identity.judged(who, purpose, *action, &target, request_id);
            let judged = match judged.await? {
                Ok(permit) => match self.in_emergency(permit).await? {
                    Ok(permit) => self.by_proxy(permit).await?,
                    refused => refused,
                },
                Err(refusal) => Err(refusal),
            };
            match judged {
                Ok(permit) => return Ok(permit),
                Err(refusal) => refused.get_or_insert((*action, refusal)),
            };
        }
        let Some((action, refusal)) = refused else {
            return Err(TrustError::Invalid("nothing is decided".to_owned()));
        };
        let mut record = Record::new(agent, Event::of(action));
        record.purpose = Some(purpose);
        record.because = &refusal.because;
        record.request_id = request_id;
        record.outcome = Outcome::Refused;
        record.note = Some(&refusal.reason);
        record.patients.extend(target.patient);
        self.inner.auditor.commit(&record).await?;
        Err(TrustError::Refused(refusal))
    }
    /// What is done in an emergency needs an emergency access of a person that stands, and is limited to its
    /// patient.
    async fn in_emergency(
        &self,
        mut permit: Permit,
    ) -> Result<Result<Permit, Refusal>, TrustError> {
        if permit.purpose != Purpose::Emergency {
            return Ok(Ok(permit));
        }
        let patient = permit.only_patient.as_deref();
        let standing = self.inner.identity.emergency_for(&permit.agent, patient);
        Ok(match standing.await? {
            Ok(access) => {
                permit
                    .because
                    .push(format!("emergency-access:{}", access.id));
                permit.only_patient = Some(access.patient);
                Ok(permit)
            }
            Err(words) => Err(Refusal {
                reason: words.to_owned(),
                because: Vec::new(),
            }),
        })
    }
    /// Whoever acts for a patient may as long as the record of it stands, and the dates and the patient's age
    /// say so: asked for each permit, so that what is ended is over at the next request.
    async fn by_proxy(&self, mut permit: Permit) -> Result<Result<Permit, Refusal>, TrustError> {
        if permit.agent.role != Role::Proxy {
            return Ok(Ok(permit));
        }
        let refuse = |words: &str| {
            Ok(Err(Refusal {
                reason: words.to_owned(),
                because: Vec::new(),
            }))
        };
        if permit.agent.access.is_some() {
            return refuse("an application can't act for somebody who acts for a patient");
        }
        // It is about no record: who acts for this patient no more chooses another, and ends their sessions.
        if permit.action == Action::Account {
            return Ok(Ok(permit));
        }
        let vault = self.vault();
        let (tenant, id) = (permit.tenant(), permit.agent.id.clone());
        let Some(acts) = vault.proxy_acts(tenant, &id).await? else {
            return refuse(NO_PROXY);
        };
        if permit.agent.patient.as_deref() != Some(&acts.patient) {
            return refuse(NO_PROXY);
        }
        let mut standing = acts.standing;
        permit.standing = Some(standing);
        // A journey is no row that consents could be asked about.
        standing.sees_journeys &= !vault.may_hide(&permit, &acts.patient).await?;
        permit.standing = Some(standing);
        permit.because.push(format!("proxy:{id}"));
        Ok(Ok(permit))
    }
    /// The gate to the record.
    #[must_use]
    pub fn vault(&self) -> &Vault {
        &self.inner.vault
    }
    /// Accounts and sessions.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.inner.identity
    }
    /// Real time.
    #[must_use]
    pub fn wall_clock(&self) -> &Arc<dyn Clock> {
        &self.inner.wall_clock
    }
    /// Every role × action × kind of target decided, as lines for a snapshot:
    /// `role | action | resource types by group | purposes`. Parts of Cairn that policies name stand
    /// beside the roles.
    #[must_use]
    pub fn matrix(&self) -> Vec<String> {
        self.inner.policies.set().matrix()
    }
}

impl PolicySet {
    /// Every role × action × kind of target decided: see [`Trust::matrix`].
    #[must_use]
    pub fn matrix(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(words) = self.looked_at(&Around::default()) {
            lines.push(format!("policies look at what is around: this is {words}"));
        }
        for who in self.askers() {
            let name = match (who.role.has_one_record(), who.own, who.part.as_deref()) {
                (_, _, Some("")) => "part (any other)".to_owned(),
                (_, _, Some(part)) => format!("part {part}"),
                (true, true, None) => format!("{} (own record)", who.role.name()),
                (true, false, None) => format!("{} (another's record)", who.role.name()),
                (false, _, None) => who.role.name().to_owned(),
            };
            let of_purpose: Vec<(Purpose, Grants)> = (self.purposes().all())
                .map(|purpose| (purpose, self.decide_all(&who.asker(purpose))))
                .collect();
            for action in Action::ALL {
                // Purposes with the same answer share a line.
                let mut answers: Vec<(String, Vec<&str>)> = Vec::new();
                for (purpose, grants) in &of_purpose {
                    let answer = match action.interaction() {
                        Some(_) => self.kinds_in_words(grants, action),
                        None if grants.service(action) => "yes".to_owned(),
                        None => "no".to_owned(),
                    };
                    match answers.iter_mut().find(|(other, _)| *other == answer) {
                        Some((_, purposes)) => purposes.push(purpose.code()),
                        None => answers.push((answer, vec![purpose.code()])),
                    }
                }
                for (answer, purposes) in answers {
                    let purposes = if purposes.len() == of_purpose.len() {
                        "any purpose".to_owned()
                    } else {
                        purposes.join(" ")
                    };
                    lines.push(format!(
                        "{name} | {} | {answer} | {purposes}",
                        action.name()
                    ));
                }
            }
        }
        for role in Role::ALL {
            for purpose in self.purposes().all() {
                lines.extend(self.elements_in_words(role, purpose));
            }
        }
        lines
    }

    /// What is not shown to a role for a purpose: `role | elements | types: the rule | purpose`.
    fn elements_in_words(&self, role: Role, purpose: Purpose) -> Vec<String> {
        let line = |words: String| {
            let (role, purpose) = (role.name(), purpose.code());
            format!("{role} | elements | {words} | {purpose}")
        };
        if let Some(exemption) = self.elements.exemption(role, purpose) {
            return vec![line(format!("all ({})", exemption.under))];
        }
        let Some(elements) = self.elements.of(role, purpose) else {
            return Vec::new();
        };
        let mut rules: Vec<(&str, Vec<&str>)> = Vec::new();
        for kind in ResourceType::all() {
            let Some(rule) = elements.of(kind) else {
                continue;
            };
            let id = rule.words.id.as_str();
            match rules.iter_mut().find(|(other, _)| *other == id) {
                Some((_, kinds)) => kinds.push(kind.name()),
                None => rules.push((id, vec![kind.name()])),
            }
        }
        let each = rules.into_iter();
        each.map(|(id, kinds)| line(format!("by {id}: {}", kinds.join(", "))))
            .collect()
    }

    /// Groups that are allowed whole, and the types of those that are in part.
    fn kinds_in_words(&self, grants: &Grants, interaction: Action) -> String {
        let mut words = Vec::new();
        for group in Group::ALL {
            let (yes, no): (Vec<_>, Vec<_>) = ResourceType::all()
                .filter(|kind| grants.group(*kind) == group)
                .partition(|kind| grants.interaction(interaction, *kind));
            match (yes.is_empty(), no.is_empty()) {
                (true, _) => {}
                (false, true) => words.push(group.name().to_owned()),
                (false, false) => words.extend(yes.iter().map(ToString::to_string)),
            }
        }
        if words.is_empty() {
            "no".to_owned()
        } else {
            words.join(", ")
        }
    }
}

#[cfg(test)]
mod tests;
