//! `cairn journey migrate`: beside a store that no server has open, or of a running server.

mod server;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use journey::{
    FAILURES_MAX, Goes, JourneyError, Journeys, Map, Moving, Portion, Preview, RATE_MAX, Stage,
};
use ledger::Ledger;
use trust::{Action, Permit, Purpose, Target, Trust};

use super::journey::tell;
use super::{closing, open_existing_of, operator, read_text, tenant_of, trust_over};
use crate::cli::{StoreArguments, key_and_value};
use crate::http::moving::{on_version, told};
use crate::store::RootKeySource;
use crate::terminal::say;

/// Journeys that are read at once where each is listed.
const EACH: usize = journey::NAMED_MAX;

/// `cairn journey migrate`.
#[derive(Debug, Args)]
pub struct MigrateOptions {
    #[command(flatten)]
    place: Place,
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
    /// The same as a file, one line `STEP: STEP`, `STEP: stay` or `STEP: hold` for each step
    #[arg(long, value_name = "FILE")]
    map_file: Option<PathBuf>,
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

/// Where the journeys are.
#[derive(Args)]
struct Place {
    /// Folder of a store that no server has open
    #[arg(
        long,
        value_name = "DIR",
        conflicts_with = "server",
        required_unless_present_any = ["store_url", "server"]
    )]
    data: Option<PathBuf>,
    /// File with the root key, or pkcs11: URI of one in a token [default: DIR/root.key]
    #[arg(long, value_name = "FILE|URI", conflicts_with = "server")]
    root_key: Option<RootKeySource>,
    /// PostgreSQL database that holds the store, instead of a folder
    #[arg(
        long,
        value_name = "URL",
        env = "CAIRN_STORE_URL",
        conflicts_with = "server",
        hide_env_values = true
    )]
    store_url: Option<String>,
    /// File with the database's password
    #[arg(
        long,
        value_name = "FILE",
        env = "CAIRN_STORE_PASSWORD_FILE",
        conflicts_with = "server"
    )]
    store_password_file: Option<PathBuf>,
    /// PEM file of the authority that signed the database server's certificate
    #[arg(
        long,
        value_name = "FILE",
        env = "CAIRN_STORE_CA_FILE",
        conflicts_with = "server"
    )]
    store_ca_file: Option<PathBuf>,
    /// Schema of the store's tables
    #[arg(
        long,
        value_name = "NAME",
        env = "CAIRN_STORE_SCHEMA",
        conflicts_with = "server",
        default_value = "cairn"
    )]
    store_schema: String,
    /// The tenant that it is about, by its name, where the store has several
    #[arg(long, value_name = "TENANT", conflicts_with = "server")]
    of: Option<String>,
    /// URL of a running server, instead of a store
    #[arg(long, value_name = "URL", requires = "token")]
    server: Option<String>,
    /// Access token of a client with the role steerer
    #[arg(
        long,
        value_name = "TOKEN",
        env = "CAIRN_TOKEN",
        hide_env_values = true
    )]
    token: Option<String>,
}

impl std::fmt::Debug for Place {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without URLs and the token: a password may be in them.
        out.debug_struct("Place")
            .field("data", &self.data)
            .finish_non_exhaustive()
    }
}

impl Place {
    fn store(&self) -> StoreArguments {
        StoreArguments {
            data: self.data.clone(),
            root_key: self.root_key.clone(),
            store_url: self.store_url.clone(),
            store_password_file: self.store_password_file.clone(),
            store_ca_file: self.store_ca_file.clone(),
            store_schema: self.store_schema.clone(),
            of: self.of.clone(),
        }
    }
}

fn goes(value: &str) -> Goes {
    match value {
        "stay" => Goes::Stay,
        "hold" => Goes::Hold,
        step => Goes::Step(step.to_owned()),
    }
}

impl MigrateOptions {
    /// The lines of the file, if there is one.
    fn lines(&self) -> anyhow::Result<String> {
        self.map_file
            .as_deref()
            .map_or(Ok(String::new()), read_text)
    }

    /// What is said beside the file.
    fn beside(&self) -> anyhow::Result<Map> {
        let mut map = Map::new();
        for (step, value) in &self.map {
            if map.insert(step.clone(), goes(value)).is_some() {
                bail!("--map names {step} twice");
            }
        }
        Ok(map)
    }

    /// What is asked about; nothing where the file has mistakes, which are told.
    async fn moving(&self, journeys: &Journeys, permit: &Permit) -> anyhow::Result<Option<Moving>> {
        let versions = (self.name.as_str(), self.from, self.to);
        let mut map = match &self.map_file {
            None => Map::new(),
            Some(file) => match journeys.map_in(permit, versions, &self.lines()?).await {
                Ok(map) => map,
                Err(JourneyError::Findings(findings)) => {
                    tell(file, &findings);
                    return Ok(None);
                }
                Err(error) => return Err(error.into()),
            },
        };
        for (step, goes) in self.beside()? {
            if map.insert(step.clone(), goes).is_some() {
                bail!("{step} is in the file and in --map");
            }
        }
        Ok(Some(Moving {
            who: on_version(&self.name, self.from),
            portion: match (self.first, self.share) {
                (Some(first), _) => Portion::First(first),
                (None, Some(share)) => Portion::Share(share),
                (None, None) => Portion::All,
            },
            to: self.to,
            map,
        }))
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
    if let (Some(server), Some(token)) = (&options.place.server, &options.place.token) {
        return server::migrate(options, server, token).await;
    }
    options.beside()?;
    let ledger = open_existing_of(&options.place.store()).await?;
    let result = async {
        let trust = trust_over(&ledger)?;
        let permit = steers(&ledger, &trust).await?;
        let journeys = Journeys::new(trust);
        let Some(moving) = options.moving(&journeys, &permit).await? else {
            return Ok(ExitCode::FAILURE);
        };
        let preview = journeys.preview_migration(&permit, &moving).await?;
        tell_preview(options, &preview)?;
        if options.each {
            each(options, &journeys, &permit, &moving).await?;
        }
        if !options.apply {
            return Ok(unchanged(options));
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

fn tell_preview(options: &MigrateOptions, preview: &Preview) -> anyhow::Result<()> {
    if options.json {
        say(&serde_json::to_string(preview)?);
    } else {
        say(&text(options, preview));
    }
    Ok(())
}

fn unchanged(options: &MigrateOptions) -> ExitCode {
    if !options.json {
        say("Nothing was changed; --apply --reason TEXT moves them.");
    }
    ExitCode::SUCCESS
}

/// What becomes of one journey, on a line.
fn tell_one(options: &MigrateOptions, one: &serde_json::Value) {
    if options.json {
        return say(&one.to_string());
    }
    let text = |name: &str| one[name].as_str().unwrap_or_default();
    let (instance, word, why) = (text("journey"), text("outcome"), text("why"));
    if why.is_empty() {
        let differs = one["differs"].as_array().map_or(0, Vec::len);
        say(&format!("{instance} {word}, {differs} things differ"));
    } else {
        say(&format!("{instance} {word}: {why}"));
    }
}

/// What came of a batch whose turn is over.
fn tell_done((done, failed, waiting): (u64, u64, u64), failures: &[(String, String)]) -> ExitCode {
    say(&format!(
        "{done} done, {failed} not done, {waiting} wait for something that has to end first."
    ));
    if waiting > 0 {
        say("The server goes on with those who wait.");
    }
    for (instance, why) in failures {
        say(&format!("{instance}: {why}"));
    }
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
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
        for one in &page.each {
            tell_one(options, &told(one));
        }
        if page.next.is_none() {
            return Ok(());
        }
        after = page.next;
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
        let batch = journeys.batch_head(permit, id).await?;
        let over = batch.stage != Stage::Running || batch.next >= batch.total;
        if over {
            let moved = batch.next - batch.failed - batch.waiting;
            let sums = (moved as u64, batch.failed as u64, batch.waiting as u64);
            let (mut failures, mut after) = (Vec::new(), None);
            loop {
                let page = journeys.batch_failures(permit, id, after, FAILURES_MAX);
                let (_, page) = page.await?;
                let of_page = page.failures.into_iter();
                failures.extend(of_page.map(|failure| (failure.instance, failure.why)));
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            return Ok(tell_done(sums, &failures));
        }
        // Where nothing comes of a turn, an older batch is being worked on, or somebody else holds it.
        if before == Some(batch.next) {
            let waits = journeys.batch_turn(tenant_of(ledger)).await?;
            let now = journeys.batch_head(permit, id).await?;
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
