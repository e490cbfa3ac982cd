//! `cairn search-parameter`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;

use crate::cli::SearchParameterStatus;
use crate::terminal::say;

/// How often it is asked while somebody waits.
const ASK_EVERY: Duration = Duration::from_secs(2);

/// Tells how far each active parameter is; fails when one isn't complete, or not in force.
pub(crate) async fn status(options: SearchParameterStatus) -> anyhow::Result<ExitCode> {
    let client = super::asking()?;
    loop {
        let mut all_complete = true;
        let mut lines = Vec::new();
        for id in active(&client, &options).await? {
            let path = format!("SearchParameter/{id}/$status");
            let told = get(&client, &options, &path).await?;
            let (line, complete) = in_words(&id, &told);
            all_complete &= complete;
            lines.push(line);
        }
        if all_complete || !options.wait {
            if lines.is_empty() {
                say("There are no search parameters of your own.");
            }
            lines.iter().for_each(|line| say(line));
            return Ok(if all_complete {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            });
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// The ids of all active definitions.
async fn active(
    client: &reqwest::Client,
    options: &SearchParameterStatus,
) -> anyhow::Result<Vec<String>> {
    let mut path = "SearchParameter?status=active&_elements=code&_count=1000".to_owned();
    let mut ids = Vec::new();
    loop {
        let page = get(client, options, &path).await?;
        for entry in page["entry"].as_array().into_iter().flatten() {
            ids.extend(entry["resource"]["id"].as_str().map(str::to_owned));
        }
        let links = page["link"].as_array();
        let next = links
            .into_iter()
            .flatten()
            .find(|link| link["relation"] == "next");
        let next = next.and_then(|link| link["url"].as_str()?.split_once("/fhir/r4/"));
        match next {
            Some((_, next)) => path = next.to_owned(),
            None => return Ok(ids),
        }
    }
}

async fn get(
    client: &reqwest::Client,
    options: &SearchParameterStatus,
    path: &str,
) -> anyhow::Result<Value> {
    let url = format!("{}/fhir/r4/{path}", options.server.trim_end_matches('/'));
    let answer = client
        .get(&url)
        .bearer_auth(&options.token)
        .header("x-purpose-of-use", trust::Purpose::Operations.code())
        .send()
        .await
        .with_context(|| format!("can't reach {url}"))?;
    let status = answer.status();
    let body: Value = answer
        .json()
        .await
        .with_context(|| format!("{url} answered {status} without JSON"))?;
    if !status.is_success() {
        let words = body["issue"][0]["diagnostics"].as_str().unwrap_or_default();
        bail!("{url} answered {status}: {words}");
    }
    Ok(body)
}

/// One definition in a line, and whether it is complete.
fn in_words(id: &str, told: &Value) -> (String, bool) {
    let list = told["parameter"].as_array().map_or(&[][..], Vec::as_slice);
    let value = |list: &[Value], name: &str| {
        let one = list.iter().find(|one| one["name"] == name)?;
        let (_, value) = one
            .as_object()?
            .iter()
            .find(|(member, _)| member.starts_with("value"))?;
        Some(
            value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned),
        )
    };
    let mut complete = true;
    let mut bases = Vec::new();
    for base in list.iter().filter(|one| one["name"] == "base") {
        let parts = base["part"].as_array().map_or(&[][..], Vec::as_slice);
        let of = |name| value(parts, name).unwrap_or_default();
        complete &= of("state") == "complete";
        bases.push(format!(
            "{} {}, {} of {} not indexed",
            of("type"),
            of("state"),
            of("unindexed"),
            of("documents")
        ));
    }
    if bases.is_empty() {
        let reason = value(list, "reason").unwrap_or_default();
        return (format!("{id}: not in force: {reason}"), false);
    }
    (format!("{id}: {}", bases.join("; ")), complete)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_status_is_a_line() {
        let told = |state: &str| {
            json!({"parameter": [{"name": "in-force", "valueBoolean": true}, {"name": "base", "part": [
                {"name": "type", "valueCode": "Patient"}, {"name": "state", "valueCode": state},
                {"name": "documents", "valueInteger": 7}, {"name": "unindexed", "valueInteger": 3}]}]})
        };
        let line = "eyes: Patient indexing, 3 of 7 not indexed".to_owned();
        assert_eq!(in_words("eyes", &told("indexing")), (line, false));
        assert!(in_words("eyes", &told("complete")).1);
        let not = json!({"parameter": [{"name": "in-force", "valueBoolean": false},
            {"name": "reason", "valueString": "it is not active"}]});
        let line = "x: not in force: it is not active".to_owned();
        assert_eq!(in_words("x", &not), (line, false));
    }
}
