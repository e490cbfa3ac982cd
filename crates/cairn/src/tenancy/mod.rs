//! What operators do to tenants: make, name, suspend, resume, export and destroy them.

mod export;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use ledger::{
    Kind, Ledger, LedgerError, Receipt, SETTLE_MS, STORE_TENANT, SystemClock, Tenant, TenantEnd,
    TenantId, TenantQuota, TenantRemains, TenantState,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use trust::identity::NewAccount;
use trust::{Agent, Role, Trust, TrustOptions, Upkeep};

use crate::config::SessionSettings;
use crate::operator::Operator;

pub(crate) use export::{Manifest, check};

/// How soon all servers have heard of a change to the list of tenants.
const SERVERS_HEAR: Duration = Duration::from_secs(2);

/// What an operator wants of a store's tenants.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum TenantOrder {
    /// Which there are.
    List,
    /// Make one.
    Create {
        name: String,
        hosts: Vec<String>,
        /// Who lets everybody else in.
        administrator: Option<Administrator>,
    },
    /// Give one another name, other hosts or another quota.
    Set {
        tenant: String,
        name: Option<String>,
        hosts: Option<Vec<String>>,
        quota: Option<TenantQuota>,
    },
    /// Suspend one, or resume it.
    Suspend { tenant: String, suspend: bool },
    /// Write everything of one into a folder.
    Export { tenant: String, to: PathBuf },
    /// Destroy one's keys.
    Destroy { tenant: String },
    /// What is left of a destroyed one, and where its destruction stands in the audit.
    Prove { tenant: String },
}

/// The first administrator of a tenant.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Administrator {
    pub(crate) user_name: String,
    pub(crate) password: String,
}

impl fmt::Debug for Administrator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Administrator")
            .field("user_name", &self.user_name)
            .finish_non_exhaustive()
    }
}

/// What came of a destruction.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Destroyed {
    pub(crate) tenant: Tenant,
    #[serde(flatten)]
    pub(crate) end: TenantEnd,
    /// Where it stands in the store's audit: tree and leaf.
    pub(crate) leaf: String,
}

/// The proof of a destruction.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Proven {
    pub(crate) tenant: Tenant,
    #[serde(flatten)]
    pub(crate) remains: TenantRemains,
    /// The records of it in the store's audit, each with the proof that it is there.
    pub(crate) records: Vec<Value>,
}

/// The tenant with a name, or the one that a store has.
pub(crate) async fn named(ledger: &Ledger, name: Option<&str>) -> anyhow::Result<Tenant> {
    let list = ledger.tenants().await?;
    let there: Vec<&Tenant> = list.iter().filter(|tenant| tenant.is_there()).collect();
    let names: Vec<&str> = there.iter().map(|tenant| tenant.name.as_str()).collect();
    match (name, &there[..]) {
        (Some(name), _) => {
            let found = there.iter().find(|tenant| tenant.name == name);
            let found = found.with_context(|| {
                format!("there is no tenant {name}; there are: {}", names.join(", "))
            })?;
            Ok((*found).clone())
        }
        (None, [one]) => Ok((*one).clone()),
        (None, []) => bail!("this store has no tenant: make one with `cairn tenant create`"),
        (None, _) => bail!(
            "this store has several tenants: say --of which, one of {}",
            names.join(", ")
        ),
    }
}

/// Any tenant with a name, destroyed ones too.
async fn known(ledger: &Ledger, name: &str) -> anyhow::Result<Tenant> {
    let list = ledger.tenants().await?.into_iter();
    let found = list.into_iter().find(|tenant| tenant.name == name);
    found.with_context(|| format!("there is no tenant {name}, and there was none"))
}

/// Carries out an order.
pub(crate) async fn carry_out(
    ledger: &Ledger,
    order: TenantOrder,
    operator: &Operator,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> anyhow::Result<Value> {
    match order {
        TenantOrder::List => Ok(serde_json::to_value(ledger.tenants().await?)?),
        TenantOrder::Create {
            name,
            hosts,
            administrator,
        } => {
            let tenant = ledger.add_tenant(&name, &hosts).await?;
            tracing::info!(tenant = name, "a tenant was made");
            note(
                ledger,
                operator,
                &tenant,
                Upkeep::TenantChanged,
                &changed(&tenant),
            )
            .await?;
            if let Some(administrator) = administrator {
                let made = first_account(ledger, &tenant, administrator).await;
                made.context(
                    "the tenant was made, but not its administrator's account: stop the server, and make it with \
                     `cairn account create --of`",
                )?;
            }
            Ok(serde_json::to_value(tenant)?)
        }
        TenantOrder::Set {
            tenant,
            name,
            hosts,
            quota,
        } => {
            let before = named(ledger, Some(&tenant)).await?;
            let tenant = ledger
                .set_tenant(before.id, name.as_deref(), hosts.as_deref(), quota)
                .await?;
            match (quota.is_some(), tenant.quota.documents) {
                (true, Some(_)) => {
                    // What a server adds before it has heard of the bound is only found by counting afterwards.
                    tokio::time::sleep(SERVERS_HEAR).await;
                    count(ledger, tenant.id).await?;
                }
                (true, None) => ledger.forget_stored(tenant.id).await?,
                (false, _) => {}
            }
            let mut words = changed(&tenant);
            if before.name != tenant.name {
                words.push_str(&format!("; it was called {}", before.name));
            }
            note(ledger, operator, &tenant, Upkeep::TenantChanged, &words).await?;
            Ok(serde_json::to_value(tenant)?)
        }
        TenantOrder::Suspend { tenant, suspend } => {
            let before = named(ledger, Some(&tenant)).await?;
            let tenant = ledger.suspend_tenant(before.id, suspend).await?;
            if before.state != tenant.state {
                let done = if suspend { "suspended" } else { "resumed" };
                tracing::warn!(
                    tenant = tenant.name,
                    done,
                    "a tenant was suspended or resumed"
                );
                let words = format!("tenant {} was {done}", tenant.name);
                note(ledger, operator, &tenant, Upkeep::TenantSuspended, &words).await?;
            }
            Ok(serde_json::to_value(tenant)?)
        }
        TenantOrder::Export { tenant, to } => {
            let tenant = named(ledger, Some(&tenant)).await?;
            // What was being written when it was suspended is in it, or nobody was told that it was written.
            let settled = tenant.since_ms.saturating_add(SETTLE_MS) <= ledger.clock().now_ms();
            if tenant.state == TenantState::Suspended && !settled {
                bail!(
                    "tenant {} was suspended less than {} seconds ago, and requests may still be under way: try again in a moment",
                    tenant.name,
                    SETTLE_MS / 1000
                );
            }
            // Before anything is read, so that nothing is taken without a record.
            let words = format!(
                "everything of tenant {} is exported to {}",
                tenant.name,
                to.display()
            );
            note(ledger, operator, &tenant, Upkeep::TenantExported, &words).await?;
            let of = ledger.only(tenant.id);
            let trust = trust_over(&of)?;
            let manifest = export::export(&of, &trust, &tenant, &to, progress).await?;
            // The audit's own word for what was taken.
            let words = format!(
                "everything of tenant {} is in {}: manifest with SHA-256 {}",
                tenant.name,
                to.display(),
                export::manifest_hash(&to)?
            );
            let receipt = note(ledger, operator, &tenant, Upkeep::TenantExported, &words).await?;
            let record = receipt.audit.context("a record without a place")?;
            export::prove(&of, &tenant, &to, record).await?;
            tracing::info!(tenant = tenant.name, to = %to.display(), "a tenant was exported");
            Ok(serde_json::to_value(manifest)?)
        }
        TenantOrder::Destroy { tenant } => {
            let tenant = known(ledger, &tenant).await?;
            ledger.create_tenant(STORE_TENANT).await?;
            // Before it begins, so that no destruction is without a record.
            let settled = tenant.since_ms.saturating_add(SETTLE_MS) <= ledger.clock().now_ms();
            if tenant.state == TenantState::Suspended && settled {
                let words = format!(
                    "the destruction of tenant {} (number {}) was ordered",
                    tenant.name, tenant.id.0
                );
                let upkeep = Upkeep::TenantDestroyed;
                operator
                    .did_to(ledger, STORE_TENANT, upkeep, &words)
                    .await?;
            }
            let end = ledger.destroy_tenant(tenant.id).await?;
            tracing::warn!(tenant = tenant.name, "a tenant was destroyed");
            let words = format!(
                "tenant {} (number {}) was destroyed: {} secrets of its keys, and with them {} patients' keys",
                tenant.name, tenant.id.0, end.secrets, end.patients_keys
            );
            let upkeep = Upkeep::TenantDestroyed;
            let receipt = operator
                .did_to(ledger, STORE_TENANT, upkeep, &words)
                .await?;
            let (shard, index) = receipt.leaf.context("a record without a leaf")?;
            let tenant = known(ledger, &tenant.name).await?;
            let leaf = format!("{shard}/{index}");
            Ok(serde_json::to_value(Destroyed { tenant, end, leaf })?)
        }
        TenantOrder::Prove { tenant } => {
            let tenant = known(ledger, &tenant).await?;
            let remains = ledger.tenant_remains(tenant.id).await?;
            let records = records(ledger, &tenant).await?;
            Ok(serde_json::to_value(Proven {
                tenant,
                remains,
                records,
            })?)
        }
    }
}

/// Counts the resources that a tenant stores, audit records apart.
async fn count(ledger: &Ledger, tenant: TenantId) -> Result<u64, LedgerError> {
    let kinds = fhir::ResourceType::all();
    let kinds = kinds.filter(|kind| *kind != fhir::ResourceType::AuditEvent);
    let kinds: Vec<Kind> = kinds.map(|kind| Kind(kind.code())).collect();
    ledger.count_stored(tenant, &kinds).await
}

/// Counts the resources of a tenant that may store so many, if that has not been done: the store was restored.
pub(crate) async fn count_again(ledger: Ledger, tenant: TenantId) {
    let counted = async {
        if ledger.stored(tenant).await?.is_some() {
            return Ok(None);
        }
        count(&ledger, tenant).await.map(Some)
    };
    match counted.await {
        Ok(None) | Err(LedgerError::Closed) => {}
        Ok(Some(documents)) => {
            tracing::info!(
                tenant = tenant.0,
                documents,
                "a tenant's resources were counted"
            );
        }
        Err(error) => tracing::error!(
            %error,
            tenant = tenant.0,
            "a tenant's resources could not be counted, so their bound is not kept; set it again"
        ),
    }
}

fn changed(tenant: &Tenant) -> String {
    let bound = |bound: Option<u64>| bound.map_or("no bound".to_owned(), |bound| bound.to_string());
    format!(
        "tenant {} (number {}): hosts {}, requests a second: {}, at once: {}, resources: {}",
        tenant.name,
        tenant.id.0,
        if tenant.hosts.is_empty() {
            "any".to_owned()
        } else {
            tenant.hosts.join(", ")
        },
        bound(tenant.quota.requests_per_s.map(u64::from)),
        bound(tenant.quota.at_once.map(u64::from)),
        bound(tenant.quota.documents),
    )
}

/// Writes down in the tenant's audit and in the store's what was done to a tenant; gives the receipt of the first.
async fn note(
    ledger: &Ledger,
    operator: &Operator,
    tenant: &Tenant,
    upkeep: Upkeep,
    words: &str,
) -> anyhow::Result<Receipt> {
    ledger.create_tenant(STORE_TENANT).await?;
    operator
        .did_to(ledger, STORE_TENANT, upkeep.clone(), words)
        .await?;
    operator.did_to(ledger, tenant.id, upkeep, words).await
}

/// Trust over a store for one tenant, with the built-in policies.
fn trust_over(ledger: &Ledger) -> anyhow::Result<Trust> {
    let session = SessionSettings::default();
    Ok(Trust::new(TrustOptions {
        ledger: ledger.clone(),
        wall_clock: Arc::new(SystemClock),
        policy_folder: None,
        session_idle_s: session.idle_s,
        session_absolute_s: session.absolute_s,
    })?)
}

async fn first_account(
    ledger: &Ledger,
    tenant: &Tenant,
    administrator: Administrator,
) -> anyhow::Result<()> {
    let trust = trust_over(&ledger.only(tenant.id))?;
    let account = NewAccount {
        tenant: tenant.id,
        name: administrator.user_name.clone(),
        user_name: administrator.user_name,
        role: Role::Administrator,
        password: administrator.password,
        patient: None,
    };
    let by = Agent::system(tenant.id, "command-line");
    trust.identity().create(&by, account).await?;
    Ok(())
}

/// The records of a tenant's destruction in the store's audit, with their proofs.
async fn records(ledger: &Ledger, tenant: &Tenant) -> anyhow::Result<Vec<Value>> {
    const PAGE: usize = 500;
    let kind = ledger::Kind(fhir::ResourceType::AuditEvent.code());
    let query = ledger::Query::Token(ledger.kind_token(STORE_TENANT, kind));
    // As the record names it.
    let mark = format!("tenant {} (number {})", tenant.name, tenant.id.0);
    let (mut found, mut before) = (Vec::new(), None);
    loop {
        let hits = ledger
            .search(STORE_TENANT, &query, before, None, PAGE)
            .await?;
        before = hits.last().map(|hit| hit.number);
        for hit in &hits {
            let Some(stored) = ledger.fetch(STORE_TENANT, *hit).await? else {
                continue;
            };
            let event: Value = serde_json::from_slice(&stored.body)?;
            let text = event.to_string();
            if !text.contains(&mark) || !text.contains("destr") {
                continue;
            }
            let leaf = ledger.audit_leaf(STORE_TENANT, *hit).await?;
            let leaf = leaf.context("a record of the destruction has no leaf")?;
            let proof = serde_json::to_value(ledger.prove(&leaf).await?)?;
            found.push(serde_json::json!({ "record": event, "proof": proof }));
        }
        if hits.len() < PAGE {
            return Ok(found);
        }
    }
}
