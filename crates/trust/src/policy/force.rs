//! Which policy set is in force, the decisions made under it, and how another one comes to be.
use std::cell::Cell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use ledger::{Clock, TenantId};

use super::around::{Around, Looks, ONLY_TENANT, PolicySlice, Surroundings};
use super::files::{PolicyFault, PolicyTexts};
use super::{Asker, Grants, PolicySet, Trust};
use crate::audit::{Event, Outcome, Record};
use crate::{Agent, Purpose, TrustError};

/// The most faults that the audit and an error at the start tell. The log has all.
const FAULTS_TOLD: usize = 5;
/// The most decisions that are kept; then all are forgotten. Without policies that look at what is around there are
/// some hundred; each hour, network and second factor that is told apart makes as many more.
const DECIDED_MAX: usize = 20_000;

/// The policies in force, with the decisions that have been made under them.
pub(crate) struct Policies {
    folder: Option<PathBuf>,
    now: RwLock<Now>,
    watched: Mutex<Watched>,
    surroundings: OnceLock<Surroundings>,
    /// For policies that look at the time.
    clock: OnceLock<Arc<dyn Clock>>,
    /// How old a second factor is at most that was shown lately.
    lately_ms: AtomicU64,
}

struct Now {
    set: Arc<PolicySet>,
    since_ms: u64,
    /// Bounded by roles, parts in the program text, purposes, the one flag, and what policies look at around.
    decided: HashMap<Asker, Arc<Grants>>,
}

/// What was last seen in the folder.
#[derive(Default)]
struct Watched {
    /// What differs from the set in force, and was seen once.
    pending: Option<String>,
    /// What is in the folder and not in force, with what it is known again by.
    refused: Option<(String, RefusedSet)>,
}

/// A policy set that lies in the folder and is not in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedSet {
    /// Since when it is known, by the wall clock.
    pub at_ms: u64,
    /// What is wrong with it.
    pub faults: Vec<PolicyFault>,
}

/// Which policies are in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyStatus {
    /// The hash of the set in force, over all of its files.
    pub set: String,
    /// How many policies it has.
    pub policies: usize,
    /// Since when it is in force in this process, by the wall clock.
    pub since_ms: u64,
    /// The folder that it comes from; none where it is built in.
    pub folder: Option<PathBuf>,
    /// What lies in the folder instead and is not in force.
    pub refused: Option<RefusedSet>,
}

/// What a look at the folder came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicyLook {
    /// Nothing new.
    Same,
    /// Another set is in force from now on.
    Changed {
        /// The hash of the one before.
        from: String,
        /// Its hash.
        to: String,
    },
    /// What is there is not taken, and the set before stays in force. Said once.
    Refused(RefusedSet),
    /// After a refused one, the set in force is there again.
    Mended,
}

enum Found {
    Same,
    Mended,
    Good(Arc<PolicySet>),
    Bad(String, Vec<PolicyFault>),
}

fn told(faults: &[PolicyFault]) -> String {
    let shown: Vec<String> = (faults.iter().take(FAULTS_TOLD))
        .map(ToString::to_string)
        .collect();
    let mut words = shown.join("; ");
    if faults.len() > FAULTS_TOLD {
        words.push_str(&format!("; and {} more", faults.len() - FAULTS_TOLD));
    }
    words
}

/// A set that is valid and passes its own tests. The built-in one can't have changed since those were run
/// with the program's.
fn sound(texts: &PolicyTexts, is_built_in: bool) -> Result<PolicySet, Vec<PolicyFault>> {
    let set = PolicySet::of(texts)?;
    if is_built_in {
        return Ok(set);
    }
    let failures = set.test().failures;
    if failures.is_empty() {
        Ok(set)
    } else {
        Err(failures)
    }
}

impl Policies {
    pub(crate) fn load(folder: Option<&Path>, now_ms: u64) -> Result<Self, TrustError> {
        let set = PolicyTexts::load(folder)
            .and_then(|texts| sound(&texts, folder.is_none()))
            .map_err(|faults| TrustError::Policy(told(&faults)))?;
        Ok(Self {
            folder: folder.map(Path::to_owned),
            now: RwLock::new(Now {
                set: Arc::new(set),
                since_ms: now_ms,
                decided: HashMap::new(),
            }),
            watched: Mutex::default(),
            surroundings: OnceLock::new(),
            clock: OnceLock::new(),
            lately_ms: AtomicU64::new(crate::identity::STEP_UP_S * 1000),
        })
    }

    pub(crate) fn situate(&self, surroundings: Surroundings) {
        // Whoever comes second changes nothing: what was decided before would be otherwise.
        let _ = self.surroundings.set(surroundings);
    }

    pub(crate) fn follow_clock(&self, clock: Arc<dyn Clock>) {
        let _ = self.clock.set(clock);
    }

    /// How old a second factor is at most that policies take for shown lately.
    pub(crate) fn limit_factor_age(&self, age_ms: u64) {
        self.lately_ms.store(age_ms, Ordering::Relaxed);
    }

    fn tenant(&self) -> &str {
        let place = self.surroundings.get();
        place.map_or(ONLY_TENANT, Surroundings::tenant)
    }

    fn now_ms(&self) -> u64 {
        self.clock.get().map_or(0, |clock| clock.now_ms())
    }

    /// What is around a question that doesn't say, here.
    fn usual(&self) -> Around {
        Around {
            tenant: self.tenant().to_owned(),
            ..Around::default()
        }
    }

    /// Whether what somebody is known as has to be looked up before it is decided.
    pub(crate) fn looks_at_organizations(&self) -> bool {
        self.set().looks().organizations
    }

    /// What is around somebody who asks now, of these organizations.
    fn around(&self, agent: &Agent, organizations: &[String]) -> Around {
        let client = crate::audit::origin::client();
        let lately_ms = self.lately_ms.load(Ordering::Relaxed);
        let now_ms = self.now_ms();
        match self.surroundings.get() {
            Some(place) => place.around(agent, organizations.to_vec(), client, now_ms, lately_ms),
            None => Surroundings::default().around(
                agent,
                organizations.to_vec(),
                client,
                now_ms,
                lately_ms,
            ),
        }
    }

    /// What somebody's page is decided under now, but for their organizations.
    pub(super) fn slice(&self, agent: &Agent) -> PolicySlice {
        let set = self.set();
        let looks = set.looks();
        let around = looks.any().then(|| self.around(agent, &[]).words(looks));
        PolicySlice {
            set: set.hash().to_owned(),
            around: around.unwrap_or_default(),
        }
    }

    /// The set in force.
    pub(super) fn set(&self) -> Arc<PolicySet> {
        let now = self.now.read().unwrap_or_else(PoisonError::into_inner);
        now.set.clone()
    }

    /// What is decided for an asker with what is around them said, or nothing around.
    pub(crate) fn grants(&self, asker: &Asker) -> Arc<Grants> {
        let around = |_| asker.around.clone().unwrap_or_default();
        self.grants_around(asker.clone(), Some(&around)).1
    }

    /// What is decided for an asker at this tenant where what changes lets the most.
    pub(crate) fn widest_grants(&self, asker: &Asker) -> Arc<Grants> {
        self.grants_around(asker.clone(), None).1
    }

    /// What is decided for somebody who asks now, and as whom they asked. Nothing where the set that decides looks
    /// at organizations and theirs were not looked up: it has just come to be in force.
    pub(super) fn grants_now(
        &self,
        asker: Asker,
        agent: &Agent,
        organizations: Option<&[String]>,
    ) -> Option<(Asker, Arc<Grants>)> {
        let known = organizations.unwrap_or_default();
        let missed = Cell::new(false);
        let around = |looks: Looks| {
            missed.set(organizations.is_none() && looks.organizations);
            self.around(agent, known)
        };
        let decided = self.grants_around(asker, Some(&around));
        (!missed.get()).then_some(decided)
    }

    /// What is around is looked at under the set that decides, and only as far as that set does. Without it, it is
    /// what lets the most; where a set looks at something, nobody else is known without.
    fn grants_around(
        &self,
        mut asker: Asker,
        around: Option<&dyn Fn(Looks) -> Around>,
    ) -> (Asker, Arc<Grants>) {
        loop {
            let now = self.now.read().unwrap_or_else(PoisonError::into_inner);
            let looks = now.set.looks();
            let around = around.filter(|_| looks.any());
            asker.around = around.map(|around| around(looks).seen(looks));
            if let Some(grants) = now.decided.get(&asker).cloned() {
                return (asker, grants);
            }
            let set = now.set.clone();
            drop(now);
            let grants = Arc::new(match asker.around {
                None if looks.any() => set.decide_widest(&asker, self.tenant()),
                _ => set.decide_all(&asker),
            });
            let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
            // What was decided under a set that is no longer in force counts no longer.
            if Arc::ptr_eq(&now.set, &set) {
                if now.decided.len() >= DECIDED_MAX {
                    now.decided.clear();
                }
                let kept = now.decided.entry(asker.clone()).or_insert(grants).clone();
                return (asker, kept);
            }
        }
    }

    fn status(&self) -> PolicyStatus {
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.now.read().unwrap_or_else(PoisonError::into_inner);
        PolicyStatus {
            set: now.set.hash().to_owned(),
            policies: now.set.policies().count(),
            since_ms: now.since_ms,
            folder: self.folder.clone(),
            refused: watched.refused.as_ref().map(|(_, set)| set.clone()),
        }
    }

    /// Looks at the folder. What is new there is taken when it is the same at two looks, so that no set
    /// that is just being written is.
    fn look(&self) -> Found {
        let Some(folder) = &self.folder else {
            return Found::Same;
        };
        let read = PolicyTexts::of(folder);
        let mark = match &read {
            Ok(texts) => texts.hash(),
            Err(faults) => told(faults),
        };
        let in_force = self.set();
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if mark == in_force.hash() {
            watched.pending = None;
            return match watched.refused.take() {
                Some(_) => Found::Mended,
                None => Found::Same,
            };
        }
        let is_known = |(known, _): &(String, RefusedSet)| *known == mark;
        if watched.refused.as_ref().is_some_and(is_known) {
            watched.pending = None;
            return Found::Same;
        }
        if watched.pending.as_ref() != Some(&mark) {
            watched.pending = Some(mark);
            return Found::Same;
        }
        drop(watched);
        match read.and_then(|texts| sound(&texts, false)) {
            Ok(set) => Found::Good(Arc::new(set)),
            Err(faults) => Found::Bad(mark, faults),
        }
    }

    /// Puts a set in force; every decision under the one before is forgotten.
    fn put(&self, set: Arc<PolicySet>, now_ms: u64) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
        now.set = set;
        now.since_ms = now_ms;
        now.decided.clear();
        watched.pending = None;
        watched.refused = None;
    }

    fn refuse(&self, mark: String, set: RefusedSet) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.pending = None;
        watched.refused = Some((mark, set));
    }
}

impl Trust {
    /// Which policies are in force, and what lies in their folder instead.
    #[must_use]
    pub fn policy_status(&self) -> PolicyStatus {
        self.inner.policies.status()
    }

    /// The policy set in force.
    #[must_use]
    pub fn policy_set(&self) -> Arc<PolicySet> {
        self.inner.policies.set()
    }

    /// What is around a question that doesn't say: as [`Around::default`], at this tenant.
    #[must_use]
    pub fn usual_around(&self) -> Around {
        self.inner.policies.usual()
    }

    /// Records which policy set a process begins with.
    ///
    /// # Errors
    /// `Ledger`.
    pub async fn record_policies(&self, tenant: TenantId) -> Result<(), TrustError> {
        let status = self.policy_status();
        let from = if status.folder.is_some() {
            "from policy_folder"
        } else {
            "built in"
        };
        let note = format!(
            "started with the policy set {} ({} policies, {from})",
            status.set, status.policies
        );
        self.note(tenant, Outcome::Success, &note).await
    }

    /// Looks at the policies' folder once. A set that is another, valid, and passes its own tests is in force
    /// when this returns; what is wrong with one that isn't is told, and the set before stays in force.
    /// Either is in the audit first.
    ///
    /// # Errors
    /// `Ledger`: nothing has changed then, and the next look tries again.
    pub async fn look_at_policies(&self, tenant: TenantId) -> Result<PolicyLook, TrustError> {
        let policies = self.inner.policies.clone();
        let found = tokio::task::spawn_blocking(move || policies.look())
            .await
            .map_err(|error| TrustError::Policy(error.to_string()))?;
        let policies = &self.inner.policies;
        let now_ms = self.wall_clock().now_ms();
        Ok(match found {
            Found::Same => PolicyLook::Same,
            Found::Mended => PolicyLook::Mended,
            Found::Good(set) => {
                let (from, to) = (policies.set().hash().to_owned(), set.hash().to_owned());
                let note = format!(
                    "the policy set {to} ({} policies, from policy_folder) is in force instead of {from}",
                    set.policies().count()
                );
                self.note(tenant, Outcome::Success, &note).await?;
                policies.put(set, now_ms);
                PolicyLook::Changed { from, to }
            }
            Found::Bad(mark, faults) => {
                let note = format!(
                    "what is in policy_folder is refused, and the policy set {} stays in force: {}",
                    policies.set().hash(),
                    told(&faults)
                );
                self.note(tenant, Outcome::Refused, &note).await?;
                let set = RefusedSet {
                    at_ms: now_ms,
                    faults,
                };
                policies.refuse(mark, set.clone());
                PolicyLook::Refused(set)
            }
        })
    }

    async fn note(&self, tenant: TenantId, outcome: Outcome, note: &str) -> Result<(), TrustError> {
        let agent = Agent::system(tenant, "policies");
        let mut record = Record::new(&agent, Event::POLICIES);
        record.purpose = Some(Purpose::Administration);
        record.outcome = outcome;
        record.note = Some(note);
        self.inner.auditor.commit(&record).await?;
        Ok(())
    }
}
