//! `cairn demo`: a hospital of synthetic patients, played in accelerated time.
//!
//! The demo is the same server as `cairn serve`. What it adds is said on the screen: a root key and
//! accounts made by themselves, an SMTP sink whose mailbox the console shows, a care clock that runs
//! fast, and a driver that plays hospital and patients through the FHIR interactions.

mod acts;
mod clock;
mod driver;
mod setup;
mod state;
mod team;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Args;
use ledger::Clock;
use tokio::sync::watch;

use crate::config::{LogFormat, LogSettings, Otlp, StoreSettings};
use crate::explaining::InForce;
use crate::server::{DemoPages, Ending, Server, ServerError, ServerOptions};
use crate::store::{self, TENANT};
use crate::terminal::{say, warn};
use crate::{control, http, telemetry};
use clock::{DemoClock, speed};
use driver::Driver;
use state::{DemoState, Source};

/// With this seed, somebody withdraws consent, somebody dies, somebody comes back and several gain
/// weight among the first patients that leave hospital, so that a newcomer sees each soon.
const SEED: u64 = 14;

/// Synthetic patients at first.
const PATIENTS: u64 = 300;

/// `cairn demo`.
#[derive(Debug, Args)]
pub struct DemoOptions {
    /// Folder of the demo; made if it isn't there
    #[arg(long, value_name = "DIR", default_value = "cairn-demo")]
    data: PathBuf,
    /// Address of this machine to listen on; only loopback, because everyone who opens the pages is
    /// shown the logins
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// How many synthetic patients there are at first [default: 300]
    #[arg(long, value_name = "N", conflicts_with = "import", value_parser = clap::value_parser!(u64).range(1..))]
    patients: Option<u64>,
    /// What the synthetic patients are made from: the same seed, the same patients [default: 14]
    #[arg(long, value_name = "N", conflicts_with = "import")]
    seed: Option<u64>,
    /// How many seconds a day takes
    #[arg(long, value_name = "SECONDS", default_value_t = 4.0, value_parser = seconds)]
    speed: f64,
    /// Use these FHIR bundles or NDJSON instead of synthetic patients
    #[arg(long, value_name = "PATH")]
    import: Vec<PathBuf>,
    /// Don't open a browser
    #[arg(long)]
    no_open: bool,
    /// Which log lines to show, e.g. info or cairn=debug
    #[arg(long, value_name = "FILTER", default_value = "warn")]
    log: String,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        // Slower than real time makes no sense here; faster than a day in 50 ms, a laptop can't follow.
        Ok(seconds) if (0.05..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("takes seconds a day, from 0.05 to 86400".to_owned()),
    }
}

/// Runs the demo until it is asked to end.
///
/// # Errors
/// What keeps it from starting, in words.
pub async fn run(options: DemoOptions) -> anyhow::Result<ExitCode> {
    let log = LogSettings {
        format: LogFormat::Text,
        filter: options.log.clone(),
    };
    let telemetry = telemetry::start(&log, &Otlp::default())?;
    let result = play(&options).await;
    tokio::task::spawn_blocking(|| telemetry.finish())
        .await
        .context("sending the last traces")?;
    result?;
    Ok(ExitCode::SUCCESS)
}

async fn play(options: &DemoOptions) -> anyhow::Result<()> {
    // Before anything is made; the server would refuse it, too.
    if !options.listen.ip().is_loopback() {
        return Err(ServerError::Exposed(options.listen).into());
    }
    std::fs::create_dir_all(&options.data).with_context(|| options.data.display().to_string())?;
    let root_key = store::root_key_path(&options.data);
    let state_path = options.data.join("demo.json");
    let mut state = match state::load::<DemoState>(&state_path)? {
        Some(state) => same_source(options, state)?,
        None => {
            if store::ledger_path(&options.data).exists() {
                bail!(
                    "{} holds a store that is no demo's; give another folder with --data",
                    options.data.display()
                );
            }
            let state = setup::new_state(source(options));
            state::save(&state_path, &state)?;
            state
        }
    };
    if !root_key.exists() && !store::ledger_path(&options.data).exists() {
        store::create_root_key(&root_key)?;
        say(&format!(
            "Made root key {}. A real store's key is made by hand (cairn key create).",
            root_key.display()
        ));
    }

    let clock = Arc::new(DemoClock::new(state.started_ms));
    let ledger = store::open(
        store::in_folder(&options.data),
        &root_key,
        clock.clone(),
        StoreSettings::default().cache_bytes,
    )
    .await?;
    // So that a backup can be tried on it.
    let in_force = InForce::default();
    let door = control::open(&options.data, &ledger, &in_force)?;
    let (stop, stopped) = watch::channel(false);
    let mailbox = exchange::sink::Mailbox::default();
    mailbox.close_domain(synthetic::CLOSED_MAIL_DOMAIN);
    let mail_port = mailbox
        .listen(0, stopped.clone())
        .await
        .context("starting the SMTP sink")?;
    let server = Server::start(ServerOptions {
        listen: options.listen,
        organisation: "Cairn demo hospital".to_owned(),
        mail: Some(setup::mail_to_sink(mail_port)),
        demo: Some(DemoPages {
            mailbox: mailbox.clone(),
            logins: state.logins.iter().map(setup::shown_login).collect(),
            speed: speed(options.speed),
            people_imported: matches!(state.source, Source::Import { .. }),
        }),
        ..ServerOptions::new(ledger, TENANT)
    })
    .await?;
    in_force.are(server.houses());

    let mut ending = Ending::listen()?;
    let result = async {
        setup::people(&server, &state_path, &mut state).await?;
        setup::journey(&server).await?;
        setup::patients(&server, &state_path, &mut state).await?;
        let driver = Driver::new(&server, &options.data, &state).await?;
        setup::links(&server, &state_path, &mut state, &driver).await?;
        anyhow::Ok(driver)
    };
    let driver = tokio::select! {
        result = result => result,
        () = ending.asked() => Err(anyhow::anyhow!("ended while the demo was being set up; starting again goes on")),
    };
    let driver = match driver {
        Ok(driver) => driver,
        Err(error) => {
            server.stop().await?;
            return Err(error);
        }
    };
    let origin_ms = server.ledger().last_number().unix_ms();
    clock.start(origin_ms, speed(options.speed));
    let playing = tokio::spawn(driver.run(stopped));
    introduce(options, &state, &server, clock.now_ms()).await?;
    if !options.no_open {
        open_browser(server.base_url());
    }

    ending.asked().await;
    say("Stopping …");
    let _ = stop.send(true);
    // The words of a panic may hold a patient's.
    if playing.await.is_err() {
        warn("cairn: the driver had failed");
    }
    drop(door);
    server.stop().await?;
    say(&format!(
        "Stopped. `cairn demo --data {}` goes on from here.",
        options.data.display()
    ));
    Ok(())
}

fn source(options: &DemoOptions) -> Source {
    if options.import.is_empty() {
        Source::Synthetic {
            seed: options.seed.unwrap_or(SEED),
            patients: options.patients.unwrap_or(PATIENTS),
        }
    } else {
        Source::Import {
            paths: options.import.clone(),
        }
    }
}

/// A demo that is there already keeps its patients; asking for others is a mistake to be told.
fn same_source(options: &DemoOptions, state: DemoState) -> anyhow::Result<DemoState> {
    let asked_for_others = match &state.source {
        Source::Synthetic { seed, patients } => {
            !options.import.is_empty()
                || options.seed.is_some_and(|asked| asked != *seed)
                || options.patients.is_some_and(|asked| asked != *patients)
        }
        Source::Import { paths } => {
            options.seed.is_some()
                || options.patients.is_some()
                || (!options.import.is_empty() && options.import != *paths)
        }
    };
    if asked_for_others {
        bail!(
            "the demo in {} has its patients already ({}); for others give another folder with --data",
            options.data.display(),
            match &state.source {
                Source::Synthetic { seed, patients } =>
                    format!("--seed {seed} --patients {patients}"),
                Source::Import { .. } => "imported".to_owned(),
            },
        );
    }
    Ok(state)
}

async fn introduce(
    options: &DemoOptions,
    state: &DemoState,
    server: &Server,
    now_ms: u64,
) -> anyhow::Result<()> {
    let base = server.base_url();
    say("");
    say(&format!("  Cairn demo        {base}"));
    say(&format!("  Data              {}", options.data.display()));
    say(&format!(
        "  Care clock        {}, a day each {} s",
        fhir::date::instant(now_ms),
        options.speed
    ));
    say(match state.source {
        Source::Synthetic { .. } => "  Patients          synthetic; no real person is among them",
        Source::Import { .. } => {
            "  Patients          imported; the demo admits some of the adults with heart failure, discharges\n                    \
             them, and plays what they do afterwards: that part is made up"
        }
    });
    say(
        "  E-mail            goes to the demo's own mailbox, which the console shows; nothing leaves this machine",
    );
    say("");
    say("  Sign in   Password              One-time code's secret           Role");
    for login in &state.logins {
        say(&format!(
            "  {:8} {:21} {:32} {}",
            login.user_name,
            login.password,
            login.totp,
            setup::role_words(login.role)
        ));
    }
    say("  The sign-in page shows the code of the moment.");
    say("");
    for link in &state.links {
        let birth_date = setup::birth_date(server, &link.patient).await?;
        say(&format!(
            "  A patient         {base}{}  born {birth_date}",
            http::portal_link(&link.secret)
        ));
    }
    if let Some(token) = &state.squad_token {
        say("");
        say("  Publish a journey that you changed:");
        // As it was started: a newcomer has no `cairn` on the path.
        let program = std::env::args_os().next().unwrap_or_else(|| "cairn".into());
        say(&format!(
            "  {} journey publish --server {base} --token {token} FILE",
            program.display()
        ));
    }
    say("");
    say("  Ctrl-C stops; starting again goes on where it was.");
    say("");
    Ok(())
}

/// Opens a browser if this machine has one that can be asked; otherwise says nothing.
fn open_browser(url: &str) {
    let _ = std::process::Command::new("xdg-open")
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
}

/// The file in which the driver keeps how far it is.
fn driver_state_path(data: &Path) -> PathBuf {
    data.join("driver.json")
}
