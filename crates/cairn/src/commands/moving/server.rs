//! `cairn journey migrate --server`.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use journey::{Preview, RATE_MAX};
use reqwest::{RequestBuilder, StatusCode, header};
use serde_json::{Value, json};

use super::{MigrateOptions, tell_done, tell_one, tell_preview, unchanged};
use crate::commands::Source;
use crate::commands::journey::tell_answered;
use crate::http::moving::Asked;
use crate::terminal::{say, warn};

/// How often it is asked how far a move has come.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How often a server is asked again that has no place for a preview just now.
const TRIES: usize = 12;
/// The longest that is waited for it, in seconds: who says longer means something else.
const WAIT_MAX_S: u64 = 30;
/// How long a server that gives no answer is asked again: it may be starting anew.
const NO_ANSWER_WITHIN: Duration = Duration::from_secs(600);

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

/// Why there is no answer.
enum Failed {
    /// The server was not reached: it has done nothing.
    Unreached(anyhow::Error),
    /// It gave no answer that says what it has done.
    Unknown(anyhow::Error),
    /// It says no.
    Refused(anyhow::Error),
    /// It says no for so many seconds: it has done nothing.
    Later(anyhow::Error, u64),
}

impl From<Failed> for anyhow::Error {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Unreached(error)
            | Failed::Unknown(error)
            | Failed::Refused(error)
            | Failed::Later(error, _) => error,
        }
    }
}

impl From<anyhow::Error> for Failed {
    fn from(error: anyhow::Error) -> Self {
        Self::Refused(error)
    }
}

impl Server<'_> {
    async fn answer(&self, request: RequestBuilder, url: &str) -> Result<Answer, Failed> {
        let answer = request.bearer_auth(self.token).send().await;
        let answer = answer.map_err(|error| {
            let unreached = error.is_connect() || error.is_builder();
            let error = anyhow::Error::new(error);
            if unreached {
                Failed::Unreached(error.context(format!("can't reach {url}")))
            } else {
                Failed::Unknown(error.context(format!("{url} gave no answer")))
            }
        })?;
        let status = answer.status();
        let later = answer.headers().get(header::RETRY_AFTER);
        let later = later.and_then(|wait| wait.to_str().ok()?.parse::<u64>().ok());
        let body = answer.json::<Value>().await;
        // What stands in front of a server says so without its words, and knows nothing of what that does.
        let said = body.as_ref().ok().and_then(|body| body["error"].as_str());
        if let (
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE,
            Some(wait),
            Some(said),
        ) = (status, later, said)
        {
            return Err(Failed::Later(
                anyhow!("{url} answered {status}: {said}"),
                wait,
            ));
        }
        if status.is_server_error() {
            let said = said.unwrap_or_default();
            return Err(Failed::Unknown(anyhow!("{url} answered {status}: {said}")));
        }
        let body = body.map_err(|error| {
            let error = anyhow::Error::new(error);
            let error = error.context(format!("{url} answered {status} without JSON"));
            if status.is_success() {
                Failed::Unknown(error)
            } else {
                Failed::Refused(error)
            }
        })?;
        if status.is_success() {
            return Ok(Answer::Body(body));
        }
        match body["findings"].as_array() {
            Some(findings) => Ok(Answer::Findings(findings.clone())),
            None => {
                let said = body["error"].as_str().unwrap_or_default();
                Err(Failed::Refused(anyhow!("{url} answered {status}: {said}")))
            }
        }
    }

    async fn asked(&self, name: &str, asked: &Asked) -> Result<Answer, Failed> {
        let mut url = reqwest::Url::parse(self.base).context("--server is no URL")?;
        url.path_segments_mut()
            .map_err(|()| anyhow::anyhow!("--server is no URL of a server"))?
            .pop_if_empty()
            .extend(["api", "journeys", name, "move"]);
        let shown = url.to_string();
        let mut tries = 0;
        loop {
            let request = self.client.post(url.clone()).json(asked);
            match self.answer(request, &shown).await {
                Err(Failed::Later(_, wait)) if tries < TRIES && wait <= WAIT_MAX_S => {
                    tries += 1;
                    tokio::time::sleep(Duration::from_secs(wait)).await;
                }
                answer => return answer,
            }
        }
    }

    async fn body(&self, name: &str, asked: &Asked) -> Result<Value, Failed> {
        match self.asked(name, asked).await? {
            Answer::Body(body) => Ok(body),
            Answer::Findings(_) => Err(Failed::Refused(anyhow!(
                "the server finds mistakes now that it did not find before"
            ))),
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
        let (mut after, mut hidden) = (Some(String::new()), 0);
        while let Some(each_after) = after.take() {
            let asked = Asked {
                each_after: Some(each_after),
                ..asked()
            };
            let page = server.body(&options.name, &asked).await?;
            for one in page["each"].as_array().into_iter().flatten() {
                tell_one(options, one);
            }
            hidden += number(&page["hidden"]);
            after = page["next"].as_str().map(str::to_owned);
        }
        tell_hidden(hidden);
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
    let id = began(&server, &options.name, &begun).await?;
    if options.json {
        say(&json!({ "batch": id }).to_string());
    } else {
        say(&format!("It has begun: /console/batches/{id}"));
    }
    followed(&server, &id).await
}

/// Says how many are not told of, because whose token it is would not be shown these patients.
fn tell_hidden(hidden: u64) {
    if hidden > 0 {
        warn(&format!(
            "cairn: {hidden} more are of patients whom this token is not shown"
        ));
    }
}

/// Asks for a move; the id of its batch.
async fn began(server: &Server<'_>, name: &str, asked: &Asked) -> anyhow::Result<String> {
    const MAY: &str = "it may have begun: look at /console/batches";
    let begun = match server.body(name, asked).await {
        Err(Failed::Unknown(error)) => return Err(error.context(MAY)),
        begun => begun?,
    };
    let id = begun["batch"].as_str().map(str::to_owned);
    id.with_context(|| format!("the server named no batch; {MAY}"))
}

/// Waits until everybody was tried. Anything but a batch that is done is no success: a script goes on with nobody
/// left behind.
async fn followed(server: &Server<'_>, id: &str) -> anyhow::Result<ExitCode> {
    let url = format!("{}/api/batches/{id}", server.base.trim_end_matches('/'));
    let goes_on = || format!("how far it is, the server knows: /console/batches/{id}");
    let mut heard = tokio::time::Instant::now();
    loop {
        // Whom it could not reach is told of when it is over, and so stands once in the audit.
        let request = server.client.get(format!("{url}?count=0"));
        let batch = match server.answer(request, &url).await {
            Ok(Answer::Body(batch)) => batch,
            Ok(Answer::Findings(_)) => bail!("{url} answered with findings"),
            Err(Failed::Unreached(_) | Failed::Unknown(_) | Failed::Later(..))
                if heard.elapsed() < NO_ANSWER_WITHIN =>
            {
                tokio::time::sleep(ASK_EVERY).await;
                continue;
            }
            Err(failed) => return Err(anyhow::Error::from(failed).context(goes_on())),
        };
        heard = tokio::time::Instant::now();
        let (total, tried) = (number(&batch["total"]), number(&batch["tried"]));
        let (failed, waiting) = (number(&batch["failed"]), number(&batch["waiting"]));
        let stage = batch["stage"].as_str().unwrap_or_default();
        if stage != "running" || (tried >= total && waiting > 0) {
            match stage {
                "rests" => say(&format!(
                    "Somebody has it rest: {tried} of {total} were tried. It goes on from /console/batches/{id}"
                )),
                "cancelled" => say(&format!(
                    "Somebody has broken it off: {tried} of {total} were tried."
                )),
                _ => {}
            }
            let failures = match failed {
                0 => Vec::new(),
                _ => not_reached(server, &url).await.with_context(goes_on)?,
            };
            let done = tried.saturating_sub(failed + waiting);
            let code = tell_done((done, failed, waiting), &failures);
            return Ok(if stage == "done" {
                code
            } else {
                ExitCode::FAILURE
            });
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// Whom a batch could not reach, page by page: the journey and why.
async fn not_reached(server: &Server<'_>, url: &str) -> anyhow::Result<Vec<(String, String)>> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (mut all, mut hidden, mut after) = (Vec::new(), 0, None::<String>);
    loop {
        let of_page = after.map_or_else(|| url.to_owned(), |after| format!("{url}?after={after}"));
        let request = server.client.get(of_page);
        let Answer::Body(page) = server.answer(request, url).await? else {
            bail!("{url} answered with findings");
        };
        let failures = page["failures"].as_array().into_iter().flatten();
        all.extend(failures.map(|failure| (text(&failure["journey"]), text(&failure["why"]))));
        hidden += number(&page["hidden"]);
        after = page["next"].as_str().map(str::to_owned);
        if after.is_none() {
            tell_hidden(hidden);
            return Ok(all);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A server that gives these answers, one after another; an empty one is a connection that breaks.
    async fn answers(answers: &'static [(u16, &'static str)]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            for (status, body) in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut asked = [0; 4096];
                let _ = stream.read(&mut asked).await.unwrap();
                if *status > 0 {
                    let length = body.len();
                    let later = match status {
                        429 | 503 => "retry-after: 0\r\n",
                        _ => "",
                    };
                    let answer = format!(
                        "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n{later}connection: close\r\n\r\n{body}"
                    );
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            }
        });
        base
    }

    async fn end_of(list: &'static [(u16, &'static str)]) -> anyhow::Result<bool> {
        let base = answers(list).await;
        let server = Server {
            base: &base,
            token: "t",
            client: crate::commands::asking()?,
        };
        let code = followed(&server, "b").await?;
        Ok(format!("{code:?}") == format!("{:?}", ExitCode::SUCCESS))
    }

    #[tokio::test]
    async fn a_batch_is_followed_through_answers_that_fail_and_only_done_is_success() {
        const DONE: &str = r#"{"stage":"done","total":1,"tried":1,"failed":0,"waiting":0}"#;
        const RUNS: &str = r#"{"stage":"running","total":1,"tried":1,"failed":0,"waiting":0}"#;
        const THROUGH: &[(u16, &str)] = &[(502, "<html>"), (0, ""), (200, RUNS), (200, DONE)];
        assert!(end_of(THROUGH).await.unwrap());
        // Somebody whom it could not reach is no success, and is told of page by page, at its end alone.
        const NOT_ALL: &str = r#"{"stage":"done","total":2,"tried":2,"failed":2,"waiting":0}"#;
        const PAGE: &str = r#"{"failures":[{"journey":"j","why":"w"}],"hidden":0,"next":"0.0"}"#;
        const LAST: &str = r#"{"failures":[],"hidden":1,"next":null}"#;
        let not_all = &[(429, BUSY), (200, NOT_ALL), (200, PAGE), (200, LAST)];
        assert!(!end_of(not_all).await.unwrap());
        for over in [
            &[(
                200,
                r#"{"stage":"rests","total":2,"tried":1,"failed":0,"waiting":0}"#,
            )],
            &[(
                200,
                r#"{"stage":"cancelled","total":2,"tried":2,"failed":0,"waiting":0}"#,
            )],
            &[(
                200,
                r#"{"stage":"running","total":2,"tried":2,"failed":0,"waiting":1}"#,
            )],
        ] {
            assert!(!end_of(over).await.unwrap(), "{over:?}");
        }
        let refused = end_of(&[(401, r#"{"error":"no such token"}"#)]).await;
        let refused = format!("{:#}", refused.unwrap_err());
        assert!(refused.contains("/console/batches/b") && refused.contains("no such token"));
    }

    const BUSY: &str = r#"{"error":"ask again"}"#;

    #[tokio::test]
    async fn where_there_is_no_place_for_a_preview_it_is_asked_again() {
        let base = answers(&[(429, BUSY), (503, BUSY), (202, r#"{"batch":"b"}"#)]).await;
        let server = Server {
            base: &base,
            token: "t",
            client: crate::commands::asking().unwrap(),
        };
        let begun = began(&server, "short", &Asked::default()).await;
        assert_eq!(begun.unwrap(), "b");
    }

    #[tokio::test]
    async fn a_move_that_may_have_begun_is_said_to() {
        let may = "it may have begun: look at /console/batches";
        for (list, said) in [
            (&[(0, "")][..], true),
            (&[(504, "late")], true),
            (&[(503, "<html>")], true),
            (&[(202, "{}")], true),
            (&[(202, "{")], true),
            (
                &[(409, r#"{"error":"something else would come of it"}"#)],
                false,
            ),
        ] {
            let base = answers(list).await;
            let server = Server {
                base: &base,
                token: "t",
                client: crate::commands::asking().unwrap(),
            };
            let error = began(&server, "short", &Asked::default())
                .await
                .unwrap_err();
            assert_eq!(
                format!("{error:#}").contains(may),
                said,
                "{list:?} {error:#}"
            );
        }
        // Nobody listens there.
        let server = Server {
            base: "http://127.0.0.1:1",
            token: "t",
            client: crate::commands::asking().unwrap(),
        };
        let error = began(&server, "short", &Asked::default())
            .await
            .unwrap_err();
        assert!(!format!("{error:#}").contains(may), "{error:#}");
    }
}
