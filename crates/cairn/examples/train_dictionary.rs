//! Makes the compression dictionaries of new stores from synthetic patients: our own, those of gzipped
//! NDJSON files of bundles, and what a demo made of such patients (audit events, tasks, journeys).
//!
//! ```text
//! cairn demo --data DEMO --seed 77 --speed 1          # for a minute or two, then Ctrl-C
//! cairn demo --data OTHER-DEMO --seed 1234 --speed 1  # likewise, to measure with
//! cargo run -p cairn --example train_dictionary -- crates/cairn/assets DEMO OTHER-DEMO BUNDLES.ndjson.gz
//! ```
//!
//! Files that are there are kept and only measured: a new dictionary takes a new name in
//! `src/dictionaries.rs`. Each fifth bundle, the second demo and fifty of our own patients are not
//! learnt from but measured with.
//!
//! A dictionary holds pieces of what it was made from, so it is made from nobody's records. Stores
//! keep the dictionaries that they were written with.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cairn::dictionaries::Group;
use ledger::{Kind, Ledger, OpenOptions, Query, RootKey, SystemClock, SystemEntropy, TenantId};
use serde_json::Value;
use synthetic::CohortOptions;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Our own patients to learn from, and to measure with.
const PATIENTS: u64 = 400;
const MEASURED: u64 = 50;
/// Enough for zstd's advice of a hundred times the dictionary; more takes long and gains nothing.
const SAMPLES_BYTES_MAX: usize = 16 << 20;
/// The level that the ledger compresses with.
const LEVEL: i32 = 3;

/// Samples of each kind: to learn from, and to measure with.
#[derive(Default)]
struct Samples {
    learnt: BTreeMap<u16, Vec<Vec<u8>>>,
    measured: BTreeMap<u16, Vec<Vec<u8>>>,
}

impl Samples {
    fn add(&mut self, kind: u16, body: Vec<u8>, measured: bool) {
        let samples = if measured {
            &mut self.measured
        } else {
            &mut self.learnt
        };
        samples.entry(kind).or_default().push(body);
    }

    fn add_bundle(&mut self, bundle: &Value, measured: bool) -> Outcome<()> {
        for entry in bundle["entry"].as_array().into_iter().flatten() {
            let resource = &entry["resource"];
            let name = resource["resourceType"].as_str().unwrap_or_default();
            let Some(kind) = fhir::ResourceType::parse(name) else {
                continue;
            };
            self.add(kind.code(), serde_json::to_vec(resource)?, measured);
        }
        Ok(())
    }

    fn add_own(&mut self) -> Outcome<()> {
        for index in 0..PATIENTS + MEASURED {
            // Spread over years, so that no year of a date is worth more than others.
            let options = CohortOptions {
                seed: index,
                now_ms: 1_600_000_000_000 + index * 1_000_000_000,
                heart_failure_share: 0.25,
            };
            let bundle = synthetic::patient_bundle(&options, index);
            self.add_bundle(&bundle, index >= PATIENTS)?;
        }
        Ok(())
    }

    fn add_bundles(&mut self, path: &Path) -> Outcome<()> {
        let reader = flate2::read::MultiGzDecoder::new(std::fs::File::open(path)?);
        for (number, line) in BufReader::new(reader).lines().enumerate() {
            let bundle = serde_json::from_str(&line?)?;
            self.add_bundle(&bundle, number.is_multiple_of(5))?;
        }
        Ok(())
    }

    /// Everything in a demo's store.
    async fn add_demo(&mut self, data: &Path, measured: bool) -> Outcome<()> {
        let ledger = Ledger::open(OpenOptions {
            location: ledger::Location::Folder(data.join("ledger")),
            root_key: RootKey::read(&data.join("root.key"))?,
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
            dictionary: Vec::new(),
            cache_bytes: 64 << 20,
        })?;
        let tenant = TenantId(1);
        for kind in (1..2000).map(Kind) {
            let all = Query::Token(ledger.kind_token(tenant, kind));
            for hit in ledger.search(tenant, &all, None, None, 20_000).await? {
                if let Some(stored) = ledger.fetch(tenant, hit).await? {
                    self.add(kind.0, stored.body, measured);
                }
            }
        }
        ledger.close().await?;
        Ok(())
    }

    /// As many bytes of each kind of a group, from all over.
    fn of(&self, group: Group) -> Vec<&[u8]> {
        let of_group = |kind: &u16| Group::of(Kind(*kind)) == group;
        let kinds = self.learnt.keys().filter(|kind| of_group(kind)).count();
        let mut samples = Vec::new();
        for (kind, all) in &self.learnt {
            let bytes: usize = all.iter().map(Vec::len).sum();
            let step = (bytes * kinds / SAMPLES_BYTES_MAX).max(1);
            if of_group(kind) {
                samples.extend(all.iter().step_by(step).map(Vec::as_slice));
            }
        }
        samples
    }
}

fn compressed(dictionary: &[u8], samples: &[Vec<u8>]) -> Outcome<usize> {
    let mut compressor = zstd::bulk::Compressor::with_dictionary(LEVEL, dictionary)?;
    let mut bytes = 0;
    for sample in samples {
        bytes += compressor.compress(sample)?.len();
    }
    Ok(bytes)
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1).map(PathBuf::from);
    let mut next = || {
        arguments
            .next()
            .ok_or("usage: train_dictionary FOLDER DEMO DEMO BUNDLES…")
    };
    let (assets, demo, other_demo) = (next()?, next()?, next()?);
    let mut samples = Samples::default();
    samples.add_own()?;
    samples.add_demo(&demo, false).await?;
    samples.add_demo(&other_demo, true).await?;
    for path in arguments {
        samples.add_bundles(&path)?;
    }
    let mut dictionaries = BTreeMap::new();
    for group in Group::ALL {
        let path = assets.join(group.file());
        // An empty one only stands in for one that is to be made.
        let made = std::fs::read(&path).unwrap_or_default();
        let bytes = if made.is_empty() {
            let made = zstd::dict::from_samples(&samples.of(group), group.size_bytes())?;
            std::fs::write(&path, &made)?;
            made
        } else {
            made
        };
        dictionaries.insert(group.file(), bytes);
    }
    let mut out = std::io::stdout();
    let general = &dictionaries[Group::Other.file()];
    writeln!(
        out,
        "kind  resources  bytes: plain, with {}, with its own",
        Group::Other.file()
    )?;
    let (mut before, mut after) = (0, 0);
    for (kind, measured) in &samples.measured {
        let group = Group::of(Kind(*kind));
        let plain: usize = measured.iter().map(Vec::len).sum();
        let (with_general, with_own) = (
            compressed(general, measured)?,
            compressed(&dictionaries[group.file()], measured)?,
        );
        before += with_general;
        after += with_own;
        let count = measured.len();
        writeln!(
            out,
            "{kind:4}  {count:6}  {:6}  {:5}  {:5}  {group:?}",
            plain / count,
            with_general / count,
            with_own / count
        )?;
    }
    writeln!(out, "all: {before} bytes before, {after} after")?;
    Ok(())
}
