//! The server that is killed: when, and in which part of its life it was.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::door::UnderWay;
use crate::random::Random;
use crate::server::{ServerProcess, client};

/// How long after it is ready a process counts as one that has just begun: it reads what the one before left.
const FRESH: Duration = Duration::from_millis(250);
/// The shortest life that is planned.
const SHORTEST_MS: f64 = 5.0;
/// What is added to the log so that a fault can be found in it.
const TAIL_BYTES: usize = 4096;
/// A port can be taken by somebody else between the choice and the start.
const PORT_TAKEN: &str = "can't listen on";

/// In which part of its life a process was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Nobody could connect yet: the store is being opened and recovered.
    Opening,
    /// It listens and isn't ready.
    Starting,
    /// It has just become ready: what the one before left is taken up.
    Fresh,
    /// Requests were under way.
    AtWork,
    /// None was; journeys, mail and calls may have been.
    Between,
    /// It was asked to end.
    Stopping,
}

impl Phase {
    /// In words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Opening => "before it listens (the store is opened and recovered)",
            Self::Starting => "while it listens and isn't ready",
            Self::Fresh => "within 250 ms of being ready",
            Self::AtWork => "later, with requests under way",
            Self::Between => "later, with none",
            Self::Stopping => "while it stops (after SIGTERM)",
        }
    }
}

/// When the next process is killed.
#[derive(Debug, Clone, Copy)]
enum Plan {
    /// So long after it was begun, ready or not.
    Start(Duration),
    /// So long after it was ready.
    Life(Duration),
    /// So long after it was asked to end, which it was so long after it was ready.
    Stop(Duration, Duration),
}

/// What has happened to the processes.
#[derive(Debug, Clone, Default)]
pub struct Toll {
    /// Kills by phase.
    pub kills: BTreeMap<Phase, u64>,
    /// Processes that ended well before they were killed.
    pub ended: u64,
    /// From the start of a process until it was ready, of those that lived so long; in their order.
    pub ready_after: Vec<Duration>,
}

impl Toll {
    /// All kills.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.kills.values().sum()
    }
}

/// The server, one process after the other.
pub struct Victim {
    arguments: Vec<String>,
    log: PathBuf,
    random: Random,
    longest: Duration,
    http: reqwest::Client,
    /// Where it answers, while it does.
    base: watch::Sender<Option<String>>,
    under_way: UnderWay,
    toll: Toll,
    server: Option<ServerProcess>,
}

impl Victim {
    /// One that lives for `longest` at most, by the seed. Nothing is started yet.
    #[must_use]
    pub fn new(
        arguments: Vec<String>,
        log: &Path,
        seed: u64,
        longest: Duration,
        base: watch::Sender<Option<String>>,
        under_way: UnderWay,
    ) -> Self {
        Self {
            arguments,
            log: log.to_owned(),
            random: Random::new(seed),
            longest,
            http: client(),
            base,
            under_way,
            toll: Toll::default(),
            server: None,
        }
    }

    /// What has happened so far.
    #[must_use]
    pub fn toll(&self) -> &Toll {
        &self.toll
    }

    fn log_bytes(&self) -> u64 {
        std::fs::metadata(&self.log).map_or(0, |file| file.len())
    }

    /// What the newest process said last.
    fn last_words(&self, since: u64) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let since = usize::try_from(since).unwrap_or(0).min(text.len());
        let said = &text[since..];
        let tail = &said[said.len().saturating_sub(TAIL_BYTES)..];
        String::from_utf8_lossy(tail).into_owned()
    }

    /// Any time between the shortest and the longest life, each power of ten as often as the others.
    fn life(&mut self) -> Duration {
        let longest = self.longest.as_secs_f64() * 1000.0;
        let span = (longest / SHORTEST_MS).ln().max(0.0);
        let dice = self.random.below(1_000_000) as f64 / 1_000_000.0;
        Duration::from_secs_f64(SHORTEST_MS * (span * dice).exp() / 1000.0)
    }

    fn plan(&mut self) -> Plan {
        match self.random.below(100) {
            0..35 => {
                // As long as the last one took, so that all of the start is hit alike.
                let last = self.toll.ready_after.last();
                let last_ms = last.map_or(500, |last| last.as_millis() as u64);
                Plan::Start(Duration::from_millis(5 + self.random.below(last_ms.max(1))))
            }
            35..90 => Plan::Life(self.life()),
            _ => {
                let life = self.life();
                Plan::Stop(life, Duration::from_millis(self.random.below(150)))
            }
        }
    }

    /// Starts a process and waits until it is ready.
    ///
    /// # Errors
    /// When it doesn't become ready.
    pub async fn start(&mut self) -> Result<()> {
        self.start_by(None).await.map(drop)
    }

    /// Starts a process; when it was ready, unless it was killed before that.
    async fn start_by(&mut self, kill_after: Option<Duration>) -> Result<Option<Instant>> {
        loop {
            let (begun, log_bytes) = (Instant::now(), self.log_bytes());
            let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
            let mut server = ServerProcess::spawn(&self.log, &arguments)?;
            let ready = server.ready(&self.http, &self.log);
            let ready = match kill_after {
                None => Some(ready.await),
                Some(after) => tokio::select! {
                    ready = ready => Some(ready),
                    () = sleep_until(begun + after) => None,
                },
            };
            match ready {
                None => {
                    let address = server.base.trim_start_matches("http://").to_owned();
                    let listens = matches!(
                        timeout(Duration::from_millis(5), TcpStream::connect(address)).await,
                        Ok(Ok(_))
                    );
                    let phase = if listens {
                        Phase::Starting
                    } else {
                        Phase::Opening
                    };
                    self.killed(server, phase)?;
                    return Ok(None);
                }
                Some(Ok(())) => {
                    let now = Instant::now();
                    self.toll.ready_after.push(now - begun);
                    self.base.send_replace(Some(server.base.clone()));
                    self.server = Some(server);
                    return Ok(Some(now));
                }
                Some(Err(error)) => {
                    let words = self.last_words(log_bytes);
                    if !words.contains(PORT_TAKEN) {
                        bail!("a server did not come up: {error}\n{words}");
                    }
                }
            }
        }
    }

    fn killed(&mut self, server: ServerProcess, phase: Phase) -> Result<()> {
        self.base.send_replace(None);
        server.kill().context("SIGKILL")?;
        *self.toll.kills.entry(phase).or_default() += 1;
        Ok(())
    }

    /// Starts a process and kills it.
    ///
    /// # Errors
    /// When it ends by itself, or doesn't become ready.
    pub async fn live_and_die(&mut self) -> Result<()> {
        let plan = self.plan();
        let kill_after = match plan {
            Plan::Start(after) => Some(after),
            Plan::Life(_) | Plan::Stop(..) => None,
        };
        let log_bytes = self.log_bytes();
        let Some(ready) = self.start_by(kill_after).await? else {
            return Ok(());
        };
        let life = match plan {
            // It was ready sooner than the one before.
            Plan::Start(_) => Duration::ZERO,
            Plan::Life(life) | Plan::Stop(life, _) => life,
        };
        sleep(life).await;
        let Some(mut server) = self.server.take() else {
            bail!("no server runs");
        };
        if let Some(status) = server.ended()? {
            let words = self.last_words(log_bytes);
            bail!("a server ended by itself with {status}\n{words}");
        }
        if let Plan::Stop(_, after) = plan {
            server.signal("TERM")?;
            sleep(after).await;
            if server.ended()?.is_some() {
                self.base.send_replace(None);
                self.toll.ended += 1;
                return Ok(());
            }
            return self.killed(server, Phase::Stopping);
        }
        let phase = if ready.elapsed() < FRESH {
            Phase::Fresh
        } else if self.under_way.now() > 0 {
            Phase::AtWork
        } else {
            Phase::Between
        };
        self.killed(server, phase)
    }

    /// Kills what runs, as often as it is wanted without a plan.
    ///
    /// # Errors
    /// When nothing runs.
    pub fn kill(&mut self) -> Result<()> {
        let server = self.server.take().context("no server runs")?;
        self.killed(server, Phase::Between)
    }

    /// Ends the server; whether that went well.
    ///
    /// # Errors
    /// When nothing runs.
    pub fn terminate(&mut self) -> Result<bool> {
        self.base.send_replace(None);
        let server = self.server.take().context("no server runs")?;
        Ok(server.terminate()?)
    }
}
