//! `cairn subscription`: what became of subscriptions' notifications, what is sent again, and what they are signed with.
//! While a server has the store open it does that itself.

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Subcommand;
use fhir::date::instant;
use ledger::Ledger;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use trust::{
    Action, Agent, HookDelivery, HookStanding, IN_FORCE_MAX, OVERLAP_MAX_MS, Permit, Purpose,
    ReplayOf, Target, Trust,
};

use super::keep::order_by;
use crate::cli::StoreArguments;
use crate::control::Order;
use crate::explaining::Decides;
use crate::operator::Operator;
use crate::tenancy;
use crate::terminal::say;

/// The part of Cairn that follows what is written for subscriptions.
const PART: &str = "subscriptions";
const HOUR_MS: u64 = 3_600_000;

/// What is wanted.
#[derive(Debug, Subcommand)]
pub(crate) enum SubscriptionCommand {
    /// List subscriptions that are live, or went off within a week: how each stands, and what it missed
    List {
        #[command(flatten)]
        store: StoreArguments,
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
    /// List the newest deliveries of a subscription: number, id, type of the resource, attempts, answers
    Deliveries {
        #[command(flatten)]
        store: StoreArguments,
        /// Id of the subscription
        id: String,
        /// Print them as JSON
        #[arg(long)]
        json: bool,
    },
    /// Have notifications sent again, under the ids that they had; whether they may be is decided anew for each
    Replay {
        #[command(flatten)]
        store: StoreArguments,
        /// Id of the subscription
        id: String,
        #[command(flatten)]
        of: Box<Wanted>,
    },
    /// Make a new secret that notifications are signed with, and print it, this once
    RotateSecret {
        #[command(flatten)]
        store: StoreArguments,
        /// Id of the subscription
        id: String,
        /// A new pair of keys (Ed25519) instead; the public one is printed
        #[arg(long)]
        key: bool,
        /// Hours for which the one before stays good, too
        #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u64).range(..=OVERLAP_MAX_MS / HOUR_MS))]
        overlap_hours: u64,
    },
}

/// What is to be sent again.
#[derive(Debug, clap::Args)]
pub(crate) struct Wanted {
    /// The delivery with this id
    #[arg(long, value_name = "ID", group = "which")]
    delivery: Option<String>,
    /// What was written from this time on, e.g. 2026-11-30T08:00:00Z
    #[arg(long, value_name = "TIME", group = "which")]
    since: Option<String>,
    /// Up to this time
    #[arg(long, value_name = "TIME", requires = "since")]
    until: Option<String>,
    /// What has this number or a greater one
    #[arg(long, value_name = "NUMBER", group = "which")]
    from_number: Option<u64>,
    /// Up to this number
    #[arg(long, value_name = "NUMBER", requires = "from_number")]
    until_number: Option<u64>,
    /// What was missed because the subscription was off
    #[arg(long, group = "which")]
    missed: bool,
    /// Everything from the first delivery that failed in the last row of failures
    #[arg(long, group = "which")]
    since_failure: bool,
}

/// The same, as a store is asked that is open elsewhere.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Subscriptions {
    List,
    Deliveries(String),
    Replay(String, ReplayOf),
    RotateSecret {
        id: String,
        is_pair: bool,
        overlap_ms: u64,
    },
}

fn time_ms(text: &str) -> anyhow::Result<u64> {
    let parsed = fhir::date::parse(text).and_then(|date| u64::try_from(date.start_ms).ok());
    parsed.with_context(|| format!("{text} is no time, like 2026-11-30T08:00:00Z"))
}

impl Wanted {
    fn of(&self) -> anyhow::Result<ReplayOf> {
        let until_ms = self.until.as_deref().map(time_ms).transpose()?;
        Ok(match self {
            Self {
                delivery: Some(id), ..
            } => ReplayOf::Delivery(id.clone()),
            Self {
                since: Some(since), ..
            } => ReplayOf::Times(time_ms(since)?, until_ms),
            Self {
                from_number: Some(from),
                until_number,
                ..
            } => ReplayOf::Numbers(*from, *until_number),
            Self { missed: true, .. } => ReplayOf::Missed,
            Self {
                since_failure: true,
                ..
            } => ReplayOf::SinceFailure,
            _ => bail!("say what: --delivery, --since, --from-number, --missed or --since-failure"),
        })
    }
}

pub(crate) async fn subscription(command: &SubscriptionCommand) -> anyhow::Result<ExitCode> {
    let (store, wanted) = match command {
        SubscriptionCommand::List { store, .. } => (store, Subscriptions::List),
        SubscriptionCommand::Deliveries { store, id, .. } => {
            (store, Subscriptions::Deliveries(id.clone()))
        }
        SubscriptionCommand::Replay { store, id, of } => {
            (store, Subscriptions::Replay(id.clone(), of.of()?))
        }
        SubscriptionCommand::RotateSecret {
            store,
            id,
            key,
            overlap_hours,
        } => {
            let wanted = Subscriptions::RotateSecret {
                id: id.clone(),
                is_pair: *key,
                overlap_ms: overlap_hours * HOUR_MS,
            };
            (store, wanted)
        }
    };
    let order = Order::Subscriptions {
        of: store.of.clone(),
        wanted,
    };
    let value = order_by(store, order, &Decides::BuiltIn).await?;
    match command {
        SubscriptionCommand::List { json: true, .. }
        | SubscriptionCommand::Deliveries { json: true, .. } => {
            say(&serde_json::to_string_pretty(&value)?);
        }
        SubscriptionCommand::List { .. } => {
            for one in serde_json::from_value::<Vec<HookStanding>>(value)? {
                say(&standing_words(&one));
            }
        }
        SubscriptionCommand::Deliveries { .. } => {
            for one in serde_json::from_value::<Vec<HookDelivery>>(value)? {
                say(&delivery_words(&one));
            }
        }
        SubscriptionCommand::Replay { .. } => say(&format!(
            "Replay {} of what has numbers from {} to {} was asked for.",
            value["id"].as_str().unwrap_or_default(),
            value["from"],
            value["until"]
        )),
        SubscriptionCommand::RotateSecret { .. } => say(value.as_str().unwrap_or_default()),
    }
    Ok(ExitCode::SUCCESS)
}

fn standing_words(one: &HookStanding) -> String {
    let mut words = format!("{} {} to {}: {}", one.id, one.kind, one.origin, one.status);
    if let Some(error) = &one.error {
        words.push_str(&format!(" ({error})"));
    }
    match (one.missed_from, one.missed_until) {
        (Some(from), Some(until)) => words.push_str(&format!("; missed from {from} to {until}")),
        (Some(from), None) => words.push_str(&format!("; misses what is written from {from} on")),
        _ => {}
    }
    let mut replays = one.replays.iter();
    if let Some(replay) = replays.find(|replay| replay.is_under_way()) {
        words.push_str(&format!("; replay {} under way", replay.id));
    }
    words
}

fn delivery_words(one: &HookDelivery) -> String {
    let number = one
        .number
        .map_or_else(|| "-".to_owned(), |number| number.to_string());
    let replays = match one.replays {
        0 => String::new(),
        count => format!(", replayed {count}"),
    };
    format!(
        "{number} {} {} {}: {} attempts from {} to {}{replays}; answers {}",
        one.id,
        one.kind,
        one.outcome.code(),
        one.attempts,
        instant(one.first_ms),
        instant(one.last_ms),
        one.answers.join(" ")
    )
}

/// Permits of who asks and of the part that does it.
struct Permits {
    asked: Permit,
    part: Permit,
}

async fn permits(
    trust: &Trust,
    operator: &Operator,
    tenant: ledger::TenantId,
) -> anyhow::Result<Permits> {
    let agent = Agent {
        name: operator.name().to_owned(),
        ..Agent::system(tenant, "command-line")
    };
    let (purpose, action) = (Purpose::Administration, Action::Administer);
    let asked = trust.decide(&agent, purpose, action, Target::default(), "");
    let part = Agent::system(tenant, PART);
    let (purpose, action) = (Purpose::Operations, Action::Orchestrate);
    let part = trust.decide(&part, purpose, action, Target::default(), "");
    Ok(Permits {
        asked: asked.await?,
        part: part.await?,
    })
}

/// Carries out what is wanted of an open store. Nothing of a patient is told: of a resource the type alone.
pub(crate) async fn carry_out(
    ledger: &Ledger,
    (of, wanted): (Option<&str>, &Subscriptions),
    operator: &Operator,
    decides: &Decides<'_>,
) -> anyhow::Result<Value> {
    let tenant = tenancy::named(ledger, of).await?;
    let trust = decides.of(ledger, &tenant)?;
    let permits = permits(&trust, operator, tenant.id).await?;
    let (vault, part) = (trust.vault(), &permits.part);
    let by = (part, Some(&permits.asked));
    match wanted {
        Subscriptions::List => Ok(serde_json::to_value(vault.hook_standings(part).await?)?),
        Subscriptions::Deliveries(id) => {
            there(&trust, part, id).await?;
            Ok(serde_json::to_value(
                vault.hook_deliveries(part, id).await?,
            )?)
        }
        Subscriptions::Replay(id, of) => {
            there(&trust, part, id).await?;
            match vault.ask_replay(by, (id, operator.name()), of).await? {
                Ok(replay) => Ok(serde_json::to_value(replay)?),
                Err(no) => bail!("{}", no.words()),
            }
        }
        Subscriptions::RotateSecret {
            id,
            is_pair,
            overlap_ms,
        } => {
            there(&trust, part, id).await?;
            let wall_ms = trust.wall_clock().now_ms();
            let how = (*is_pair, wall_ms, *overlap_ms);
            match vault.rotate_hook_key(by, id, how).await? {
                Ok(shown) => Ok(json!(shown)),
                Err(ends_ms) => bail!(
                    "{IN_FORCE_MAX} are in force, and the first of them ends at {}: wait until then, or say --overlap-hours 0, which ends all others at once",
                    instant(ends_ms)
                ),
            }
        }
    }
}

/// Refuses what is no subscription, or was deleted.
async fn there(trust: &Trust, part: &Permit, id: &str) -> anyhow::Result<()> {
    if trust.vault().hook_standing(part, id).await?.is_some() {
        return Ok(());
    }
    bail!("there is no subscription {id}; see `cairn subscription list`")
}
