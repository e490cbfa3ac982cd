//! `cairn journey migrate`.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use journey::{Goes, Journeys, Map, MoveOutcome, Moving, Portion, Preview, RATE_MAX, Stage, Who};
use ledger::Ledger;
use trust::{Action, Permit, Purpose, Target, Trust};

use super::{closing, open_existing_of, operator, tenant_of, trust_over};
use crate::cli::{StoreArguments, key_and_value};
use crate::terminal::say;

/// Journeys that are read at once where each is listed.
const EACH: usize = journey::NAMED_MAX;

/// `cairn journey migrate`.
#[derive(Debug, Args)]
pub struct MigrateOptions {
    #[command(flatten)]
    store: StoreArguments,
    /// The journey's name
    name: String,
    /// The version that they are on
    #[arg(long, value_name = "N")]
    from: u32,
    /// The version that they go on by
    #[arg(long, value_name = "N")]
    to: u32,
    /// Where those at a step go on whose step is gone or who shall go elsewhere: a step of the other version,
    /// `stay` (on their version) or `hold` (on their version, held); may be given several times
    #[arg(long = "map", value_name = "STEP=STEP|stay|hold", value_parser = key_and_value)]
    map: Vec<(String, String)>,
    /// Only so many of them, to begin with
    #[arg(long, value_name = "N", conflicts_with = "share")]
    first: Option<usize>,
    /// Only so many in a hundred of them
    #[arg(long, value_name = "P", value_parser = clap::value_parser!(u8).range(1..=100))]
    share: Option<u8>,
    /// List what becomes of each journey, too, by its id
    #[arg(long)]
    each: bool,
    /// Print the preview as JSON, and with --each one journey a line
    #[arg(long)]
    json: bool,
    /// Move them; without it nothing is changed
    #[arg(long, requires = "reason")]
    apply: bool,
    /// Why: it stands in each patient's history
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

fn goes(value: &str) -> Goes {
    match value {
        "stay" => Goes::Stay,
        "hold" => Goes::Hold,
        step => Goes::Step(step.to_owned()),
    }
}

impl MigrateOptions {
    fn moving(&self) -> anyhow::Result<Moving> {
        let mut map = Map::new();
        for (step, value) in &self.map {
            if map.insert(step.clone(), goes(value)).is_some() {
                bail!("--map names {step} twice");
            }
        }
        Ok(Moving {
            who: Who {
                journey: self.name.clone(),
                version: self.from,
                step: None,
                for_ms: 0,
                held: None,
                patients: BTreeSet::new(),
                among: 0,
            },
            portion: match (self.first, self.share) {
                (Some(first), _) => Portion::First(first),
                (None, Some(share)) => Portion::Share(share),
                (None, None) => Portion::All,
            },
            to: self.to,
            map,
        })
    }
}

fn text(options: &MigrateOptions, preview: &Preview) -> String {
    let mut lines = vec![format!(
        "{} from version {} to version {}: {} of {} journeys would be moved, {} of them with something else planned than now.",
        options.name, options.from, options.to, preview.moves, preview.total, preview.changed
    )];
    for (count, words) in [
        (preview.stays, "stay on their version"),
        (preview.held, "are held on their version"),
        (preview.waits, "are moved when something is over"),
        (preview.cannot, "can't be moved"),
    ] {
        if count > 0 {
            lines.push(format!("{count} {words}"));
        }
    }
    for (why, count) in &preview.why {
        lines.push(format!("  {count}: {why}"));
    }
    for sum in &preview.differs {
        let how = match sum.change {
            journey::PlanChange::Gone => "no more",
            journey::PlanChange::New => "new",
            journey::PlanChange::OtherTime => "at another time",
            journey::PlanChange::OtherWords => "in other words",
        };
        lines.push(format!(
            "{how}: {} ({} patients, {} times)",
            sum.what, sum.patients, sum.times
        ));
    }
    lines.join("\n")
}

/// Previews a move, and with `--apply` makes it.
pub(crate) async fn migrate(options: &MigrateOptions) -> anyhow::Result<ExitCode> {
    let moving = options.moving()?;
    let ledger = open_existing_of(&options.store).await?;
    let result = async {
        let trust = trust_over(&ledger)?;
        let permit = steers(&ledger, &trust).await?;
        let journeys = Journeys::new(trust);
        let preview = journeys.preview_migration(&permit, &moving).await?;
        if options.json {
            say(&serde_json::to_string(&preview)?);
        } else {
            say(&text(options, &preview));
        }
        if options.each {
            each(options, &journeys, &permit, &moving).await?;
        }
        if !options.apply {
            if !options.json {
                say("Nothing was changed; --apply --reason TEXT moves them.");
            }
            return Ok(ExitCode::SUCCESS);
        }
        let reason = options.reason.as_deref().unwrap_or_default();
        let id = journeys
            .begin_migration(&permit, moving, reason, RATE_MAX, Some(&preview.seen))
            .await?;
        apply(&ledger, &journeys, &permit, &id).await
    };
    let result = result.await;
    closing(&ledger, result).await
}

async fn steers(ledger: &Ledger, trust: &Trust) -> anyhow::Result<Permit> {
    let agent = operator(ledger);
    let decided = trust.decide(
        &agent,
        Purpose::CareManagement,
        Action::Steer,
        Target::default(),
        "command-line",
    );
    Ok(decided.await?)
}

/// What becomes of each, by the journey's id: who the patient is, the console shows to those who may see it.
async fn each(
    options: &MigrateOptions,
    journeys: &Journeys,
    permit: &Permit,
    moving: &Moving,
) -> anyhow::Result<()> {
    let mut after: Option<String> = None;
    loop {
        let page = journeys.preview_named(permit, moving, after.as_deref(), EACH);
        let page = page.await?;
        for one in &page {
            let (word, why) = match &one.outcome {
                MoveOutcome::Moves => ("moves", ""),
                MoveOutcome::Stays => ("stays", ""),
                MoveOutcome::Held => ("held", ""),
                MoveOutcome::Waits(what) => ("waits", what.as_str()),
                MoveOutcome::Cannot(why) => ("cannot", why.as_str()),
            };
            let (differs, instance) = (one.differs.len(), &one.instance);
            if options.json {
                let line = serde_json::json!({
                    "journey": instance, "outcome": word, "why": why, "differs": one.differs,
                });
                say(&line.to_string());
            } else if why.is_empty() {
                say(&format!("{instance} {word}, {differs} things differ"));
            } else {
                say(&format!("{instance} {word}: {why}"));
            }
        }
        match page.last() {
            Some(last) if page.len() == EACH => after = Some(last.instance.clone()),
            _ => return Ok(()),
        }
    }
}

/// Works on the move until everybody was tried.
async fn apply(
    ledger: &Ledger,
    journeys: &Journeys,
    permit: &Permit,
    id: &str,
) -> anyhow::Result<ExitCode> {
    let mut before = None;
    loop {
        let (batch, failures) = journeys.batch(permit, id).await?;
        let over = batch.stage != Stage::Running || batch.next >= batch.total;
        if over {
            let moved = batch.next - batch.failed - batch.waiting;
            say(&format!(
                "{moved} done, {} not done, {} wait for something that has to end first.",
                batch.failed, batch.waiting
            ));
            if batch.waiting > 0 {
                say("The server goes on with those who wait.");
            }
            for failure in &failures {
                say(&format!("{}: {}", failure.instance, failure.why));
            }
            return Ok(if failures.is_empty() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            });
        }
        // Where nothing comes of a turn, an older batch is being worked on, or somebody else holds it.
        if before == Some(batch.next) {
            let waits = journeys.batch_turn(tenant_of(ledger)).await?;
            let (now, _) = journeys.batch(permit, id).await?;
            if now.next == batch.next && waits.is_some_and(|wait| wait.as_secs() > 1) {
                say(&format!(
                    "It is asked for ({id}); a server that has the store goes on with it."
                ));
                return Ok(ExitCode::SUCCESS);
            }
            rest(waits).await;
            continue;
        }
        before = Some(batch.next);
        rest(journeys.batch_turn(tenant_of(ledger)).await?).await;
    }
}

/// Waits as long as a batch's rate says, at most a second: then it is looked at again.
async fn rest(wait: Option<Duration>) {
    if let Some(wait) = wait {
        tokio::time::sleep(wait.min(Duration::from_secs(1))).await;
    }
}
