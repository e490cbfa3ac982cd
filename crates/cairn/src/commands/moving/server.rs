//! `cairn journey migrate --server`.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use journey::{Preview, RATE_MAX};
use reqwest::RequestBuilder;
use serde_json::Value;

use super::{MigrateOptions, tell_done, tell_one, tell_preview, unchanged};
use crate::commands::Source;
use crate::commands::journey::tell_answered;
use crate::http::moving::Asked;
use crate::terminal::say;

/// How often it is asked how far a move has come.
const ASK_EVERY: Duration = Duration::from_secs(1);

struct Server<'a> {
    base: &'a str,
    token: &'a str,
    client: reqwest::Client,
}

/// What a server has found in the lines.
enum Answer {
    Findings(Vec<Value>),
    Body(Value),
}

impl Server<'_> {
    async fn answer(&self, request: RequestBuilder, url: &str) -> anyhow::Result<Answer> {
        let answer = request.bearer_auth(self.token).send().await;
        let answer = answer.with_context(|| format!("can't reach {url}"))?;
        let status = answer.status();
        let body: anyhow::Result<Value> = answer.json().await.map_err(Into::into);
        let body = body.with_context(|| format!("{url} answered {status} without JSON"))?;
        if status.is_success() {
            return Ok(Answer::Body(body));
        }
        match body["findings"].as_array() {
            Some(findings) => Ok(Answer::Findings(findings.clone())),
            None => bail!(
                "{url} answered {status}: {}",
                body["error"].as_str().unwrap_or_default()
            ),
        }
    }

    async fn asked(&self, name: &str, asked: &Asked) -> anyhow::Result<Answer> {
        let mut url = reqwest::Url::parse(self.base).context("--server is no URL")?;
        url.path_segments_mut()
            .map_err(|()| anyhow::anyhow!("--server is no URL of a server"))?
            .pop_if_empty()
            .extend(["api", "journeys", name, "move"]);
        let shown = url.to_string();
        self.answer(self.client.post(url).json(asked), &shown).await
    }

    async fn body(&self, name: &str, asked: &Asked) -> anyhow::Result<Value> {
        match self.asked(name, asked).await? {
            Answer::Body(body) => Ok(body),
            Answer::Findings(_) => {
                bail!("the server finds mistakes now that it did not find before")
            }
        }
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

/// Previews a move of a running server's patients, and with `--apply` asks for it and waits for it.
pub(super) async fn migrate(
    options: &MigrateOptions,
    base: &str,
    token: &str,
) -> anyhow::Result<ExitCode> {
    options.beside()?;
    let server = Server {
        base,
        token,
        client: crate::commands::asking()?,
    };
    // What is said beside the file comes behind its lines, so that their numbers stay.
    let mut map = options.lines()?;
    for (step, goes) in &options.map {
        if !map.is_empty() && !map.ends_with('\n') {
            map.push('\n');
        }
        map += &format!("{step}: {goes}\n");
    }
    let asked = || Asked {
        from: options.from,
        to: options.to,
        map: map.clone(),
        first: options.first,
        share: options.share,
        ..Asked::default()
    };
    let told = match server.asked(&options.name, &asked()).await? {
        Answer::Body(told) => told,
        Answer::Findings(findings) => {
            let file = options.map_file.as_deref();
            tell_answered(
                &Source::alone(file.unwrap_or(Path::new("--map"))),
                &findings,
            );
            return Ok(ExitCode::FAILURE);
        }
    };
    let preview: Preview = serde_json::from_value(told["preview"].clone())
        .context("the server's preview can't be read")?;
    tell_preview(options, &preview)?;
    if options.each {
        let mut after = Some(String::new());
        while let Some(each_after) = after.take() {
            let asked = Asked {
                each_after: Some(each_after),
                ..asked()
            };
            let page = server.body(&options.name, &asked).await?;
            for one in page["each"].as_array().into_iter().flatten() {
                tell_one(options, one);
            }
            after = page["next"].as_str().map(str::to_owned);
        }
    }
    if !options.apply {
        return Ok(unchanged(options));
    }
    let begun = Asked {
        reason: options.reason.clone(),
        seen: told["seen"].as_str().map(str::to_owned),
        rate: Some(RATE_MAX),
        ..asked()
    };
    let begun = server.body(&options.name, &begun).await?;
    let id = begun["batch"]
        .as_str()
        .context("the server named no batch")?;
    followed(&server, id).await
}

/// Waits until everybody was tried.
async fn followed(server: &Server<'_>, id: &str) -> anyhow::Result<ExitCode> {
    let url = format!("{}/api/batches/{id}", server.base.trim_end_matches('/'));
    loop {
        let Answer::Body(batch) = server.answer(server.client.get(&url), &url).await? else {
            bail!("{url} answered with findings");
        };
        let (total, tried) = (number(&batch["total"]), number(&batch["tried"]));
        let (failed, waiting) = (number(&batch["failed"]), number(&batch["waiting"]));
        if batch["stage"] != "running" || tried >= total {
            if batch["stage"] != "done" && tried < total {
                say(&format!(
                    "Somebody has stopped it: {tried} of {total} were tried."
                ));
            }
            let failures = batch["failures"].as_array().into_iter().flatten();
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let failures: Vec<_> = failures
                .map(|failure| (text(&failure["journey"]), text(&failure["why"])))
                .collect();
            let done = tried.saturating_sub(failed + waiting);
            return Ok(tell_done((done, failed, waiting), &failures));
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}
