//! `cairn fhirpath`.

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use fhir::path::{Environment, Expression, PathError};
use ledger::{Clock, SystemClock};
use serde_json::Value;

use crate::terminal::{say, warn};

/// Evaluates an expression on the resource in a file (`-` for standard input) and prints the resulting
/// collection as a JSON array.
pub(crate) fn fhirpath(expression: &str, file: &Path) -> anyhow::Result<ExitCode> {
    let compiled = match Expression::compile(expression) {
        Ok(compiled) => compiled,
        Err(error) => return Ok(wrong(expression, &error)),
    };
    let resource = resource(file)?;
    let environment = Environment {
        now_ms: i64::try_from(SystemClock.now_ms()).ok(),
        ..Environment::default()
    };
    match compiled.evaluate(&resource, &environment) {
        Ok(items) => {
            let items: Vec<&Value> = items.iter().map(fhir::path::Item::value).collect();
            say(&serde_json::to_string_pretty(&items)?);
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => Ok(wrong(expression, &error)),
    }
}

fn resource(file: &Path) -> anyhow::Result<Value> {
    let name = file.display().to_string();
    let mut text = Vec::new();
    if name == "-" {
        std::io::stdin()
            .read_to_end(&mut text)
            .context("standard input")?;
    } else {
        text = std::fs::read(file).context(name.clone())?;
    }
    let first = text.iter().find(|byte| !byte.is_ascii_whitespace());
    // A byte order mark comes before XML, and never before JSON.
    if matches!(first, Some(b'<' | 0xef)) {
        return fhir::xml::parse(&text).map_err(|outcome| {
            let words: Vec<&str> = outcome
                .issues
                .iter()
                .map(|issue| issue.diagnostics.as_str())
                .collect();
            anyhow!("{name}: {}", words.join("; "))
        });
    }
    serde_json::from_slice(&text).with_context(|| format!("{name}: neither JSON nor XML"))
}

/// Says what is wrong, and shows where.
fn wrong(expression: &str, error: &PathError) -> ExitCode {
    warn(&format!("cairn: {error}"));
    let mut before = 0;
    for line in expression.split('\n') {
        let length = line.chars().count();
        if error.position <= before + length {
            // Tabs stay, so that the mark stands below its character.
            let space: String = line
                .chars()
                .take(error.position - before)
                .map(|c| if c == '\t' { c } else { ' ' })
                .collect();
            warn(&format!("  {line}\n  {space}^"));
            break;
        }
        before += length + 1;
    }
    ExitCode::FAILURE
}
