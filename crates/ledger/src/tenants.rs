//! The list of a store's tenants: their names, the host names that they are reached by, whether they are
//! served, and their ends. One sealed meta row, changed as a whole, so that no host name is ever two
//! tenants'. What is a tenant's own lies under the tenant's keys; here is nothing of a patient.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::backend::{KeyRow, Snapshot};
use crate::bootstrap::{TENANT, tenant_row, unwrap_32, wrap};
use crate::due::following;
use crate::keys::{Secret, derive_for};
use crate::plan::{NewSecret, Rekeying, SCRUB_DUE};
use crate::root_key::encode_hex;
use crate::rotation::key_rows;
use crate::seal::open;
use crate::writer::Request;
use crate::{Commit, Entropy, Ledger, LedgerError, OutboxKey, Shard, TenantId, TimerKey};

/// The meta row of the list. Stores of one tenant that was never named have none.
pub(crate) const TENANTS: &str = "tenants";
/// The store itself: what is done to tenants as such is in its audit, which outlives them. It has keys of
/// its own and is never served.
pub const STORE_TENANT: TenantId = TenantId(0);
/// What the first tenant of a store is called until somebody names it.
const FIRST: &str = "main";
/// The most tenants of a store, destroyed ones too: each that is served has caches, followers and a
/// position on each shard's feed of its own.
pub const TENANTS_MAX: usize = 256;
/// The most host names of a tenant.
pub const HOSTS_MAX: usize = 16;
/// How long a tenant has to have been suspended before it is destroyed, or exported: servers hear of a suspension
/// within two seconds, and what they were at has to end. A body may take a minute, and a house that closes half
/// of one.
pub const SETTLE_MS: u64 = 100_000;
/// As many as nobody finds a second secret for, and short enough to be read.
const FINGERPRINT_BYTES: usize = 16;
/// How often a change is tried while others change the list.
const TRIES: usize = 8;
/// Timers and outbox entries taken away at once.
const PAGE: usize = 256;

/// Whether a tenant is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TenantState {
    /// It is.
    Active,
    /// Every request is refused, and journeys and messages wait, until it is resumed.
    Suspended,
    /// Its destruction has begun, and was cut short if it is not under way.
    Ending,
    /// Its keys are gone.
    Destroyed,
}

/// What a tenant may take of the servers. Nothing stands for no bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct TenantQuota {
    /// Requests a second, at each server.
    pub requests_per_s: Option<u32>,
    /// Requests at once, at each server.
    pub at_once: Option<u32>,
    /// Documents that are there, of FHIR's kinds and without audit records.
    pub documents: Option<u64>,
}

/// One tenant of a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Tenant {
    /// Its number, which stands in rows and is never given to another.
    pub id: TenantId,
    /// What operators call it.
    pub name: String,
    /// The names of the hosts that it is reached by, in lower case.
    pub hosts: Vec<String>,
    /// Whether it is served.
    pub state: TenantState,
    /// Since when it is in that state, by the care clock.
    pub since_ms: u64,
    /// What it may take.
    #[serde(default)]
    pub quota: TenantQuota,
    /// Once its destruction has begun: what tells it from another tenant of the same number, which a store gets that
    /// was restored as it was before this one was made. It says nothing of the keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
}

impl Tenant {
    /// Whether it is there, served or not.
    #[must_use]
    pub fn is_there(&self) -> bool {
        matches!(self.state, TenantState::Active | TenantState::Suspended)
    }
}

/// What a destruction took away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantEnd {
    /// Versions of the tenant's secret that were overwritten.
    pub secrets: usize,
    /// Patients' keys that lay under them, and open no more.
    pub patients_keys: u64,
    /// Timers and outbox entries that were taken away.
    pub queued: u64,
}

/// What of a destroyed tenant is left in a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantRemains {
    /// Secrets of the tenant that are still there; none, if the destruction holds.
    pub secrets: usize,
    /// Patients' keys that lay under them.
    pub patients_keys: u64,
}

fn is_label(label: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&label.len())
        && label.bytes().all(inner)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// A tenant's name is in file names, commands and the audit.
fn check_name(name: &str) -> Result<(), LedgerError> {
    let letter = name
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_lowercase());
    if is_label(name) && letter && name != "store" {
        return Ok(());
    }
    Err(LedgerError::Invalid(
        "a tenant's name is 1 to 63 of a-z, 0-9 and -, begins with a letter, and is not `store`",
    ))
}

/// A host name that a tenant can have. Addresses and `localhost` are the operator's.
fn check_host(host: &str) -> Result<(), LedgerError> {
    let labels: Vec<&str> = host.split('.').collect();
    let number = labels
        .last()
        .is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    if host.len() <= 253
        && host != "localhost"
        && !number
        && labels.iter().all(|label| is_label(label))
    {
        return Ok(());
    }
    Err(LedgerError::Invalid(
        "a host is a name in lower case such as north.example.org, without port, and neither an address nor `localhost`",
    ))
}

/// Whether a list can be: no name and no host twice, and none that nobody reaches where there are several.
fn check(tenants: &[Tenant]) -> Result<(), LedgerError> {
    if tenants.len() > TENANTS_MAX {
        return Err(LedgerError::Invalid(
            "a store has at most 256 tenants, destroyed ones too",
        ));
    }
    let (mut names, mut hosts) = (BTreeSet::new(), BTreeSet::new());
    for tenant in tenants {
        if !names.insert(&tenant.name) {
            return Err(LedgerError::Invalid(
                "another tenant has that name, or had it before it was destroyed",
            ));
        }
        if tenant.hosts.len() > HOSTS_MAX {
            return Err(LedgerError::Invalid("a tenant has at most 16 host names"));
        }
        for host in &tenant.hosts {
            check_host(host)?;
            if !hosts.insert(host) {
                return Err(LedgerError::Invalid("that host name is given already"));
            }
        }
    }
    let there = || tenants.iter().filter(|tenant| tenant.is_there());
    if there().count() > 1 && there().any(|tenant| tenant.hosts.is_empty()) {
        return Err(LedgerError::Invalid(
            "where a store has several tenants, each has a host name, or nobody would reach it: give those that have none \
             theirs first (`cairn tenant set NAME --host HOST`)",
        ));
    }
    Ok(())
}

/// The list as a snapshot has it, and the row that it was read from.
pub(crate) fn read(
    rows: &dyn Snapshot,
    root_wrap: &Secret,
) -> Result<(Vec<Tenant>, Option<Vec<u8>>), LedgerError> {
    let row = rows.meta(TENANTS)?;
    let list = match &row {
        Some(sealed) => decode(root_wrap, sealed)?,
        None => {
            let secrets = rows.metas(TENANT)?;
            unnamed(secrets.iter().map(|(name, _)| name.as_str()))
        }
    };
    Ok((list, row))
}

/// The list that a row holds.
pub(crate) fn decode(root_wrap: &Secret, sealed: &[u8]) -> Result<Vec<Tenant>, LedgerError> {
    let damaged = |what: &str| LedgerError::Damaged(format!("the list of tenants {what}"));
    let plain =
        open(root_wrap, TENANTS.as_bytes(), sealed).ok_or_else(|| damaged("does not unwrap"))?;
    serde_json::from_slice(&plain).map_err(|_| damaged("does not decode"))
}

/// The row of a list.
pub(crate) fn encode(
    root_wrap: &Secret,
    entropy: &dyn Entropy,
    list: &[Tenant],
) -> Result<Vec<u8>, LedgerError> {
    let plain =
        serde_json::to_vec(list).map_err(|error| LedgerError::Storage(error.to_string()))?;
    Ok(wrap(root_wrap, entropy, TENANTS, &plain))
}

/// The list of a store that has none, by the names of the rows of its tenants' secrets.
pub(crate) fn unnamed<'a>(secrets: impl Iterator<Item = &'a str>) -> Vec<Tenant> {
    let mut list = Vec::new();
    for name in secrets {
        let number = name.strip_prefix(TENANT).unwrap_or_default();
        // A tenant's later secrets have another slash.
        let Ok(id) = u32::from_str_radix(number, 16) else {
            continue;
        };
        if TenantId(id) == STORE_TENANT {
            continue;
        }
        list.push(Tenant {
            id: TenantId(id),
            name: if list.is_empty() {
                FIRST.to_owned()
            } else {
                format!("tenant-{id}")
            },
            hosts: Vec::new(),
            state: TenantState::Active,
            since_ms: 0,
            quota: TenantQuota::default(),
            fingerprint: None,
        });
    }
    list
}

/// The fingerprint of a tenant by the row of its first secret; nothing where there is none any more.
pub(crate) fn fingerprint(
    key: &Secret,
    root_wrap: &Secret,
    id: TenantId,
    row: Option<&[u8]>,
) -> Result<Option<String>, LedgerError> {
    let Some(row) = row.filter(|row| !row.is_empty()) else {
        return Ok(None);
    };
    let secret = unwrap_32(root_wrap, &tenant_row(id), row)?;
    let whole = derive_for(key, b"tenant fingerprint", &secret);
    Ok(Some(encode_hex(&whole[..FINGERPRINT_BYTES])))
}

/// Those of a list whose destruction has begun, which nothing takes back.
pub(crate) fn ended(list: Vec<Tenant>) -> impl Iterator<Item = Tenant> {
    list.into_iter()
        .filter(|tenant| matches!(tenant.state, TenantState::Ending | TenantState::Destroyed))
}

impl Ledger {
    /// The tenants of the store, destroyed ones too, by number. What this process knew of the keys of those
    /// whose destruction has begun is forgotten.
    ///
    /// # Errors
    /// `Damaged`, `Storage`, `Closed`; `RootKey` when another process has rotated the root key.
    pub async fn tenants(&self) -> Result<Vec<Tenant>, LedgerError> {
        let core = self.core();
        let backend = self.backend()?;
        let rows = backend.now();
        let (list, _) = read(&*rows, &core.root_wrap())?;
        for tenant in &list {
            core.set_room(tenant.id, crate::stored::room(core, &*rows, tenant)?);
        }
        for tenant in list
            .iter()
            .filter(|tenant| tenant.state == TenantState::Destroyed)
        {
            core.forget_tenant(tenant.id);
        }
        Ok(list)
    }

    /// Changes the list, if what comes of it can be; `change` may be called again where others change it.
    async fn change_tenants<T>(
        &self,
        change: impl Fn(&mut Vec<Tenant>, u64) -> Result<T, LedgerError>,
    ) -> Result<T, LedgerError> {
        if self.tenant().is_some() {
            return Err(LedgerError::Invalid(
                "the list of tenants is not one tenant's to change",
            ));
        }
        let _one_at_a_time = self.changing_secrets().await;
        let core = self.core();
        let root_wrap = core.root_wrap();
        for _ in 0..TRIES {
            let backend = self.backend()?;
            let (mut list, from) = read(&*backend.now(), &root_wrap)?;
            let done = change(&mut list, core.clock.now_ms())?;
            check(&list)?;
            let to = encode(&root_wrap, &*core.entropy, &list)?;
            match from {
                Some(from) => {
                    let rekeying = Rekeying {
                        rows: Vec::new(),
                        position: Some((TENANTS.to_owned(), Some(from), to.clone())),
                    };
                    self.ask(1, |reply| Request::Rekey(rekeying, reply)).await?;
                }
                None => {
                    let first = NewSecret {
                        root_wrap,
                        name: TENANTS.to_owned(),
                        value: to.clone(),
                    };
                    self.ask(1, |reply| Request::NewSecret(first, reply))
                        .await?;
                }
            }
            // Nobody else's row is the same: it is sealed with a nonce of its own.
            if backend.now().meta(TENANTS)?.as_ref() == Some(&to) {
                return Ok(done);
            }
        }
        Err(LedgerError::Conflict)
    }

    /// Makes a tenant with keys of its own.
    ///
    /// # Errors
    /// `Invalid` when name or hosts can't be; `Conflict` when others keep changing the list; `Storage`.
    pub async fn add_tenant(&self, name: &str, hosts: &[String]) -> Result<Tenant, LedgerError> {
        check_name(name)?;
        self.create_tenant(STORE_TENANT).await?;
        if self.backend()?.now().meta(TENANTS)?.is_none() {
            self.change_tenants(|_, _| Ok(())).await?;
        }
        for _ in 0..TRIES {
            let list = self.tenants().await?;
            let newest = list.iter().map(|tenant| tenant.id.0).max().unwrap_or(0);
            let tenant = Tenant {
                id: TenantId(newest + 1),
                name: name.to_owned(),
                hosts: hosts.to_vec(),
                state: TenantState::Active,
                since_ms: self.core().clock.now_ms(),
                quota: TenantQuota::default(),
                fingerprint: None,
            };
            // Before anything is written for a tenant that can't be.
            check(&[&list[..], std::slice::from_ref(&tenant)].concat())?;
            // Keys first: a tenant on the list has some. Of two who make one at once, one takes the next
            // number, and the keys that it has made are the other's.
            self.create_tenant(tenant.id).await?;
            let added = self.change_tenants(|list, _| {
                if list.iter().any(|other| other.id == tenant.id) {
                    return Ok(false);
                }
                list.push(tenant.clone());
                Ok(true)
            });
            if added.await? {
                return Ok(tenant);
            }
        }
        Err(LedgerError::Conflict)
    }

    /// Gives a tenant another name, other hosts or another quota; what is not given stays.
    ///
    /// # Errors
    /// `Invalid` when they can't be, or the tenant is not there; `Conflict`, `Storage`.
    pub async fn set_tenant(
        &self,
        id: TenantId,
        name: Option<&str>,
        hosts: Option<&[String]>,
        quota: Option<TenantQuota>,
    ) -> Result<Tenant, LedgerError> {
        name.map_or(Ok(()), check_name)?;
        self.change_tenants(|list, _| {
            let tenant = there(list, id)?;
            if let Some(name) = name {
                name.clone_into(&mut tenant.name);
            }
            if let Some(hosts) = hosts {
                tenant.hosts = hosts.to_vec();
            }
            if let Some(quota) = quota {
                tenant.quota = quota;
            }
            Ok(tenant.clone())
        })
        .await
    }

    /// Suspends a tenant, or resumes it. Servers follow within two seconds.
    ///
    /// # Errors
    /// `Invalid` when the tenant is not there; `Conflict`, `Storage`.
    pub async fn suspend_tenant(&self, id: TenantId, suspend: bool) -> Result<Tenant, LedgerError> {
        let state = if suspend {
            TenantState::Suspended
        } else {
            TenantState::Active
        };
        self.change_tenants(|list, now_ms| {
            let tenant = there(list, id)?;
            if tenant.state != state {
                tenant.state = state;
                tenant.since_ms = now_ms;
            }
            Ok(tenant.clone())
        })
        .await
    }

    /// Destroys a tenant's secrets: nothing that lies under them opens any more, in this store and in every
    /// backup whose secrets are brought up to date with the next one that is taken to the same place. Its
    /// timers and outbox entries go. One that was cut short is finished by calling this again, and so is one that
    /// left a secret.
    ///
    /// # Errors
    /// `Invalid` when the tenant is not suspended, or was so less than [`SETTLE_MS`] ago; `Conflict`,
    /// `Storage`.
    pub async fn destroy_tenant(&self, id: TenantId) -> Result<TenantEnd, LedgerError> {
        let left = self.remains(id)?.secrets;
        let first = self.backend()?.now().meta(&tenant_row(id))?;
        let core = self.core();
        let fingerprint = fingerprint(&core.backup_key, &core.root_wrap(), id, first.as_deref())?;
        self.change_tenants(|list, now_ms| {
            let tenant = (list.iter_mut().find(|tenant| tenant.id == id))
                .ok_or(LedgerError::Invalid("there is no such tenant"))?;
            if tenant.fingerprint.is_none() && tenant.state != TenantState::Active {
                tenant.fingerprint.clone_from(&fingerprint);
            }
            match tenant.state {
                TenantState::Active => Err(LedgerError::Invalid(
                    "a tenant is suspended before it is destroyed",
                )),
                TenantState::Suspended if now_ms < tenant.since_ms.saturating_add(SETTLE_MS) => {
                    Err(LedgerError::Invalid(
                        "the tenant was suspended less than 100 seconds ago, and requests may still be under way: try \
                         again in a moment",
                    ))
                }
                TenantState::Suspended => {
                    tenant.state = TenantState::Ending;
                    tenant.since_ms = now_ms;
                    Ok(())
                }
                TenantState::Ending => Ok(()),
                // A program of before could leave one, of a rotation that was under way.
                TenantState::Destroyed if left > 0 => Ok(()),
                TenantState::Destroyed => Err(LedgerError::Invalid(
                    "the tenant was destroyed before: `cairn tenant prove` tells of it",
                )),
            }
        })
        .await?;
        let queued = match self.tenant_keys(id) {
            Ok(_) => self.clear_queues(id).await?,
            // It had come further than this the time before.
            Err(LedgerError::KeyDestroyed) => 0,
            Err(error) => return Err(error),
        };
        let mut end = TenantEnd {
            secrets: 0,
            patients_keys: self.remains(id)?.patients_keys,
            queued,
        };
        loop {
            let secrets = self.backend()?.now().metas(&tenant_row(id))?;
            let there = secrets.iter().filter(|(_, secret)| !secret.is_empty());
            let there = there.count();
            if there == 0 {
                break;
            }
            end.secrets += there;
            let mut mark = [0; 8];
            self.core().entropy.fill(&mut mark);
            let due = [&self.core().held.node[..], &mark].concat();
            let gone = secrets.into_iter().map(|(name, _)| (name, Vec::new()));
            let rows = gone.chain([(SCRUB_DUE.to_owned(), due)]).collect();
            // Once the first of them is gone nobody makes another; one that another process made before that, and
            // after they were read, is found by looking again.
            self.ask(1, |reply| Request::Meta(rows, reply)).await?;
        }
        self.core().forget_tenant(id);
        self.scrub().await?;
        self.change_tenants(|list, now_ms| {
            for tenant in list.iter_mut().filter(|tenant| tenant.id == id) {
                tenant.state = TenantState::Destroyed;
                tenant.since_ms = now_ms;
                tenant.hosts.clear();
            }
            Ok(())
        })
        .await?;
        Ok(end)
    }

    /// Takes away what would still be done for a tenant.
    async fn clear_queues(&self, id: TenantId) -> Result<u64, LedgerError> {
        let mut taken = 0;
        let (mut due_ms, mut shard, mut last) = (0, Shard(0), [0; 16]);
        loop {
            let from = TimerKey {
                shard,
                due_ms,
                id: last,
            };
            let page = self.backend()?.now().timers(from, u64::MAX, PAGE)?;
            let keys: Vec<TimerKey> = (page.iter().filter(|timer| timer.tenant == id))
                .map(|timer| timer.key)
                .collect();
            taken += keys.len() as u64;
            if !keys.is_empty() {
                let commit = Commit {
                    timers_clear: keys,
                    ..Commit::new(id)
                };
                self.commit(commit).await?;
            }
            let end = page.last().filter(|_| page.len() == PAGE);
            let next =
                end.and_then(|timer| following(timer.key.due_ms, timer.key.shard, timer.key.id));
            let Some(next) = next else { break };
            (due_ms, shard, last) = next;
        }
        (due_ms, shard, last) = (0, Shard(0), [0; 16]);
        loop {
            let from = OutboxKey {
                shard,
                due_ms,
                id: last,
            };
            let page = self.backend()?.now().outbox(from, u64::MAX, PAGE)?;
            let keys: Vec<OutboxKey> = (page.iter().filter(|row| row.tenant == id))
                .map(|row| row.key)
                .collect();
            taken += keys.len() as u64;
            if !keys.is_empty() {
                self.discard_outbox(keys).await?;
            }
            let end = page.last().filter(|_| page.len() == PAGE);
            let next = end.and_then(|row| following(row.key.due_ms, row.key.shard, row.key.id));
            let Some(next) = next else {
                return Ok(taken);
            };
            (due_ms, shard, last) = next;
        }
    }

    fn remains(&self, id: TenantId) -> Result<TenantRemains, LedgerError> {
        let rows = self.backend()?.snapshot();
        let secrets = rows.metas(&tenant_row(id))?;
        let mut remains = TenantRemains {
            secrets: secrets
                .iter()
                .filter(|(_, secret)| !secret.is_empty())
                .count(),
            patients_keys: 0,
        };
        let mut after = None;
        loop {
            let page = key_rows(&*rows, id, after)?;
            let Some((last, _)) = page.last() else {
                return Ok(remains);
            };
            after = Some(last.subject);
            let wrapped = page
                .iter()
                .filter(|(_, row)| matches!(row, KeyRow::Wrapped(_)));
            remains.patients_keys += wrapped.count() as u64;
        }
    }

    /// What is left of a destroyed tenant: no secret, and patients' keys that nothing opens.
    ///
    /// # Errors
    /// `Invalid` when it was not destroyed; `Storage`.
    pub async fn tenant_remains(&self, id: TenantId) -> Result<TenantRemains, LedgerError> {
        let list = self.tenants().await?;
        let tenant = list.iter().find(|tenant| tenant.id == id);
        if tenant.is_none_or(|tenant| tenant.state != TenantState::Destroyed) {
            return Err(LedgerError::Invalid("that tenant was not destroyed"));
        }
        self.remains(id)
    }
}

/// A tenant on the list that is there.
fn there(list: &mut [Tenant], id: TenantId) -> Result<&mut Tenant, LedgerError> {
    let found = list
        .iter_mut()
        .find(|tenant| tenant.id == id && tenant.is_there());
    found.ok_or(LedgerError::Invalid(
        "there is no such tenant, or it was destroyed",
    ))
}

#[cfg(test)]
mod tests {
    use super::{check_host, check_name};

    #[test]
    fn names_and_hosts() {
        for (name, can_be) in [
            ("north", true),
            ("north-2", true),
            ("n", true),
            ("", false),
            ("2north", false),
            ("North", false),
            ("north_2", false),
            ("-north", false),
            ("north-", false),
            ("north/south", false),
            ("..", false),
            ("store", false),
        ] {
            assert_eq!(check_name(name).is_ok(), can_be, "{name}");
        }
        for (host, can_be) in [
            ("north.example.org", true),
            ("north", true),
            ("xn--nrd-xla.example", true),
            ("North.example.org", false),
            ("north.example.org.", false),
            ("north.example.org:443", false),
            ("127.0.0.1", false),
            ("::1", false),
            ("localhost", false),
            ("*.example.org", false),
            ("", false),
            ("a b", false),
        ] {
            assert_eq!(check_host(host).is_ok(), can_be, "{host}");
        }
    }
}
