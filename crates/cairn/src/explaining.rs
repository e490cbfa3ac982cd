//! Why somebody may see a row, or not, asked from the command line: of the server that has the store open, by the
//! policies and the rule pack in force there, or of a store that none has open, by those of a configuration.

use std::sync::{Arc, OnceLock};

use anyhow::{Context, bail};
use fhir::{Reference, ResourceType};
use ledger::{Ledger, SystemClock, Tenant};
use serde::{Deserialize, Serialize};
use trust::consent::Rules;
use trust::scopes::Scopes;
use trust::{
    Action, Agent, Around, AskedAbout, AskedAs, ConsentWhy, Device, DeviceKind, EXPLAINER,
    Explanation, Factor, Purpose, Question, RelationWhy, Role, RowWhy, Surroundings, Target, Trust,
    TrustOptions, Weekday,
};

use crate::commands;
use crate::config::Settings;
use crate::houses::{Houses, Own};
use crate::operator::Operator;

/// Characters of a set's hash that people tell sets apart by.
const HASH: usize = 12;

/// A question about a row. Names are the field's own, as the command line takes them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Asked {
    /// The tenant, by its name.
    pub(crate) of: Option<String>,
    /// `Type/id`.
    pub(crate) row: String,
    /// The user name of an account, or the id of an account or a system.
    pub(crate) who: Option<String>,
    /// Where nobody is named: any of this role.
    pub(crate) role: Option<String>,
    pub(crate) purpose: String,
    pub(crate) action: String,
    /// What an access token narrows it to.
    pub(crate) scopes: Option<String>,
    pub(crate) second_factor: String,
    pub(crate) confirmed: bool,
    pub(crate) networks: Vec<String>,
    pub(crate) hour: u8,
    pub(crate) weekday: String,
    #[serde(default)]
    pub(crate) organizations: Vec<String>,
    #[serde(default)]
    pub(crate) device: String,
    #[serde(default)]
    pub(crate) client: String,
}

/// The answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Told {
    pub(crate) permitted: bool,
    pub(crate) lines: Vec<String>,
}

/// The decisions of a running server. There are none before it has begun.
#[derive(Clone, Default)]
pub(crate) struct InForce(Arc<OnceLock<Arc<Houses>>>);

impl InForce {
    /// They are those of a server's houses.
    pub(crate) fn are(&self, houses: Arc<Houses>) {
        // A server begins once.
        let _ = self.0.set(houses);
    }
}

/// Whose decisions are asked.
pub(crate) enum Decides<'a> {
    /// Those of the server that has the store open.
    Server(&'a InForce),
    /// Those that a server would make by a configuration.
    Configured(&'a Settings),
    /// Those by what is built in: for orders that ask for none about rows.
    BuiltIn,
}

impl Decides<'_> {
    /// What decides for a tenant.
    pub(crate) fn of(&self, ledger: &Ledger, tenant: &Tenant) -> anyhow::Result<Trust> {
        match self {
            Self::Server(in_force) => {
                let houses = (in_force.0.get())
                    .context("the server has not begun yet; ask again in a moment")?;
                let contexts = houses.contexts(tenant.id);
                let contexts = contexts.with_context(|| {
                    format!("this server does not serve the tenant {} now", tenant.name)
                })?;
                Ok(contexts.trust)
            }
            Self::Configured(settings) => configured(settings, ledger, tenant),
            Self::BuiltIn => commands::trust_over(&ledger.only(tenant.id)),
        }
    }
}

/// As a server with this configuration would decide for a tenant.
fn configured(settings: &Settings, ledger: &Ledger, tenant: &Tenant) -> anyhow::Result<Trust> {
    let folder = settings.tenants_folder.as_deref();
    let own = match &tenant.hosts[..] {
        [] => Own::default(),
        _ => Own::read(folder, &tenant.name).map_err(anyhow::Error::msg)?,
    };
    let rules = own.consent_rules.as_ref();
    let options = TrustOptions {
        ledger: ledger.only(tenant.id),
        wall_clock: Arc::new(SystemClock),
        policy_folder: own.policy_folder.or(settings.policy_folder.clone()),
        session_idle_s: settings.session.idle_s,
        session_absolute_s: settings.session.absolute_s,
    };
    let trust = Trust::under(
        options,
        Rules::load(rules.unwrap_or(&settings.consent_rules))?,
    )?;
    let zone = own.time_zone.as_ref().unwrap_or(&settings.time_zone);
    let networks = settings.network.iter();
    let networks = networks.map(|(name, list)| (name.as_str(), list.as_str()));
    let around = Surroundings::of(&tenant.name, zone, networks).map_err(anyhow::Error::msg)?;
    trust.situate(around);
    Ok(trust)
}

/// Why, in lines. That the operator asked is in the audit of the row's patients before anything is told.
pub(crate) async fn explain(
    trust: &Trust,
    tenant: &Tenant,
    operator: &Operator,
    asked: &Asked,
) -> anyhow::Result<Told> {
    let agent = Agent {
        name: operator.name().to_owned(),
        ..Agent::system(tenant.id, EXPLAINER)
    };
    let (purpose, action) = (Purpose::Operations, Action::Audit);
    let permit = trust
        .decide(&agent, purpose, action, Target::default(), "")
        .await
        .context("rows are explained where policies let the part `explainer` audit")?;
    let Some((kind, id)) = Reference::relative(&asked.row) else {
        bail!("{} is no row: give it as Type/id", asked.row);
    };
    let who = named(trust, &permit, asked).await?;
    let scopes = asked.scopes.as_deref().map(Scopes::parse).transpose()?;
    let question = question(trust, tenant, asked, kind, who.role)?;
    let about = AskedAbout {
        person: Some(who.id.as_str()).filter(|id| !id.is_empty()),
        row: Some(id),
        scopes: scopes.or(who.scopes),
    };
    let narrowed = about.scopes.is_some();
    let told = trust.explain(&permit, &question, &about).await?;
    let mut lines = vec![by_what(trust)];
    lines.extend(commands::policy_lines(&told.why));
    lines.extend(of_token(&told, narrowed));
    if let Some(row) = &told.row {
        lines.extend(of_row(row));
    }
    let permitted = told.permitted();
    let verdict = if permitted { "shown" } else { "not shown" };
    lines.push(format!("All in all the row is {verdict}."));
    Ok(Told { permitted, lines })
}

/// Who asks, in the question.
async fn named(trust: &Trust, permit: &trust::Permit, asked: &Asked) -> anyhow::Result<AskedAs> {
    let role = asked.role.as_deref().map(|name| {
        let role = Role::parse(name).filter(|role| *role != Role::System);
        role.with_context(|| format!("there is no role {name} that sees rows"))
    });
    match (&asked.who, role.transpose()?) {
        // Who acts for a patient, and a patient who comes by a link, have no account: ids of their own tell them.
        (Some(id), Some(role)) if role.has_one_record() => Ok(AskedAs {
            id: id.clone(),
            role,
            scopes: None,
        }),
        (Some(name), role) => {
            let found = trust.asked_as(permit, name).await?;
            let found = found.with_context(|| {
                format!("nobody comes in as {name}: give the user name of an account, or the id of an account or a system")
            })?;
            match role {
                Some(role) if role != found.role => {
                    bail!("{name} has the role {}", found.role.name())
                }
                _ => Ok(found),
            }
        }
        (None, Some(role)) => Ok(AskedAs {
            id: String::new(),
            role,
            scopes: None,
        }),
        (None, None) => bail!("say who asks, or in which role"),
    }
}

fn question(
    trust: &Trust,
    tenant: &Tenant,
    asked: &Asked,
    kind: ResourceType,
    role: Role,
) -> anyhow::Result<Question> {
    let unknown = |what: &str, name: &str| format!("there is no {what} {name}");
    let action = Action::parse(&asked.action).with_context(|| unknown("action", &asked.action))?;
    Ok(Question {
        role,
        part: None,
        purpose: (trust.policy_set().purposes())
            .parse(&asked.purpose)
            .with_context(|| unknown("purpose", &asked.purpose))?,
        action,
        kind: Some(kind),
        own: role.has_one_record(),
        around: Around {
            factor: Factor::parse(&asked.second_factor)
                .with_context(|| unknown("second factor", &asked.second_factor))?,
            confirmed: asked.confirmed,
            networks: asked.networks.clone(),
            hour: asked.hour,
            weekday: Weekday::parse(&asked.weekday)
                .with_context(|| unknown("day", &asked.weekday))?,
            tenant: tenant.name.clone(),
            organizations: asked.organizations.clone(),
            device: Device {
                // An older command line says nothing of it.
                kind: DeviceKind::parse(&asked.device).unwrap_or_default(),
                client: asked.client.clone(),
            },
        },
    })
}

fn by_what(trust: &Trust) -> String {
    let status = trust.policy_status();
    let set = status.set.get(..HASH).unwrap_or(&status.set);
    let place = match &status.folder {
        Some(folder) => folder.display().to_string(),
        None => "built in".to_owned(),
    };
    let rules = trust.vault().rules().name();
    format!("By the policy set {set} ({place}) and the rule pack {rules}:")
}

fn of_token(told: &Explanation, narrowed: bool) -> Option<String> {
    match &told.scopes {
        Some(refused) => Some(format!("Access token: refused: {refused}.")),
        None if narrowed => {
            Some("Access token: its scopes let it be done with the type.".to_owned())
        }
        None => None,
    }
}

fn of_row(row: &RowWhy) -> Vec<String> {
    let verdict = |permitted| if permitted { "permitted" } else { "refused" };
    let mut lines = Vec::new();
    lines.extend(
        row.barred
            .iter()
            .map(|words| format!("Row: refused: {words}.")),
    );
    lines.extend(row.relations.iter().map(|relation| {
        let RelationWhy {
            patient,
            by,
            needed,
        } = relation;
        let words = match (by, needed) {
            (Some(by), _) => by.as_str(),
            (None, true) => "none, and one is needed",
            (None, false) => "none, and none is needed",
        };
        format!("Relationship with Patient/{patient}: {words}.")
    }));
    lines.extend((row.unasked.iter()).map(|words| format!("Consents: none is asked: {words}.")));
    lines.extend(row.consents.iter().map(|one| {
        let ConsentWhy {
            patient,
            permitted,
            reason,
            consent,
        } = one;
        let whose = (patient.as_ref()).map_or_else(String::new, |id| format!(" of Patient/{id}"));
        let by = (consent.as_ref()).map_or_else(String::new, |id| format!(" (Consent/{id})"));
        format!("Row{whose}: {}: {reason}{by}.", verdict(*permitted))
    }));
    lines
}
