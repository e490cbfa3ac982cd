//! Checks every resource of bundles, one bundle a line, and tells what was found and how long a
//! resource took: `validation FILE.ndjson.gz`.
#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a command for whoever develops this"
)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use fhir::{Resource, validate};

/// How often each resource is checked.
const ROUNDS: u32 = 5;

fn main() -> ExitCode {
    let Some(file) = std::env::args().nth(1) else {
        println!("validation FILE.ndjson.gz");
        return ExitCode::from(2);
    };
    let file = std::fs::File::open(file).expect("the file can be read");
    let lines = BufReader::new(flate2::read::GzDecoder::new(file)).lines();
    let (mut resources, mut bytes, mut bundles) = (0_u32, 0_usize, 0_u32);
    let mut took = Duration::ZERO;
    let mut found: BTreeMap<String, u32> = BTreeMap::new();
    for line in lines {
        let line = line.expect("text");
        let bundle = Resource::parse(line.as_bytes()).expect("a bundle");
        bundles += 1;
        for entry in bundle
            .get("entry")
            .and_then(|entries| entries.as_array())
            .into_iter()
            .flatten()
        {
            let resource = Resource::from_value(entry["resource"].clone()).expect("a resource");
            resources += 1;
            bytes += resource.to_json().len();
            let start = Instant::now();
            let mut issues = Vec::new();
            for _ in 0..ROUNDS {
                issues = std::hint::black_box(validate::check(std::hint::black_box(&resource)));
            }
            took += start.elapsed();
            for issue in issues {
                let path = issue.expression.unwrap_or_default();
                *found
                    .entry(format!("{path}: {}", issue.diagnostics))
                    .or_default() += 1;
            }
        }
    }
    let each = took / ROUNDS / resources.max(1);
    println!("{bundles} bundles, {resources} resources, {bytes} bytes: {each:?} a resource");
    for (issue, times) in &found {
        println!("{times} × {issue}");
    }
    ExitCode::from(u8::from(!found.is_empty()))
}
