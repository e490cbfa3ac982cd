//! A mixed load: four audited reads to one update, of documents of 10 KB, some of them asked for far
//! more often than others, and now and then a question to the index.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use ledger::{Draft, Expected, Kind, Ledger, LedgerError, Owner};
use tokio::time::Instant;

use super::Bench;
use super::documents::{Known, TENANT};
use super::measure::{Figures, Worst, together};
use crate::random::Random;

/// Documents of the mixed load.
const DOCUMENTS: usize = 10_000;
const BODY_BYTES: usize = 10_000;
const TOKENS: usize = 20;
const AT_ONCE: usize = 64;
/// Of 100 operations.
const UPDATES: u64 = 20;
const QUERIES: u64 = 3;
const KIND: Kind = Kind(96);

struct Set {
    versions: Vec<AtomicU32>,
    updates: Worst,
    reads: Worst,
    queries: Worst,
}

/// Loads the documents, then reads and writes for the time of the options.
pub(super) async fn run(bench: &Bench, figures: &mut Figures) -> Result<()> {
    if bench.options.mixed_seconds == 0 {
        return Ok(());
    }
    for from in (0..DOCUMENTS).step_by(100) {
        let drafts = (from..from + 100).map(|number| draft(&bench.ledger, number, 0));
        let mut commit = bench
            .documents
            .read_of(&bench.ledger, &known(&bench.ledger, from));
        commit.documents = drafts.collect();
        bench.ledger.commit(commit).await?;
    }
    let set = Arc::new(Set {
        versions: (0..DOCUMENTS).map(|_| AtomicU32::new(1)).collect(),
        updates: Worst::default(),
        reads: Worst::default(),
        queries: Worst::default(),
    });
    let (mine, shared) = (bench.clone(), Arc::clone(&set));
    let work = move |random: Random| {
        let (bench, set) = (mine.clone(), Arc::clone(&shared));
        async move { operation(&bench, &set, random).await }
    };
    let time = Duration::from_secs(bench.options.mixed_seconds);
    let times = together(AT_ONCE, time, bench.options.seed, work).await?;
    let what = format!("mixed 80/20, 10 KB, {AT_ONCE} at once");
    figures.times(&what, &times);
    for (name, worst) in [
        ("update", &set.updates),
        ("read", &set.reads),
        ("index query", &set.queries),
    ] {
        figures.add(format!("{what}: worst {name}"), worst.ms(), "ms");
    }
    Ok(())
}

async fn operation(bench: &Bench, set: &Set, mut random: Random) -> Result<()> {
    let number = skewed(&mut random);
    let kind = random.below(100);
    let began = Instant::now();
    if kind < UPDATES {
        let version = set.versions[number].load(Ordering::Relaxed);
        let mut commit = bench
            .documents
            .read_of(&bench.ledger, &known(&bench.ledger, number));
        commit.documents.push(draft(&bench.ledger, number, version));
        match bench.ledger.commit(commit).await {
            Ok(_) => {
                set.versions[number].fetch_max(version + 1, Ordering::Relaxed);
            }
            // Another writer was first, as happens with documents that many want.
            Err(LedgerError::Conflict) => {}
            Err(error) => return Err(error.into()),
        }
        set.updates.tell(began.elapsed());
    } else if kind < UPDATES + QUERIES {
        let token = bench
            .ledger
            .token(TENANT, KIND, "value", &format!("{}", number % 500));
        let query = ledger::Query::Token(token);
        let record = bench
            .documents
            .read_of(&bench.ledger, &known(&bench.ledger, number));
        bench.ledger.search(TENANT, &query, None, None, 20).await?;
        bench.ledger.commit(record).await?;
        set.queries.tell(began.elapsed());
    } else {
        let known = known(&bench.ledger, number);
        let record = bench.documents.read_of(&bench.ledger, &known);
        let stored = bench.ledger.get(TENANT, known.kind, &known.id).await?;
        bench.ledger.commit(record).await?;
        stored.context("a document of the mixed load is not there")?;
        set.reads.tell(began.elapsed());
    }
    Ok(())
}

/// One half of the operations is on one eighth of the documents.
fn skewed(random: &mut Random) -> usize {
    let share = random.below(1 << 20) as f64 / f64::from(1 << 20);
    (share.powi(3) * DOCUMENTS as f64) as usize
}

fn known(ledger: &Ledger, number: usize) -> Known {
    let patient = ledger.derive_own_id(TENANT, &format!("mixed {number}"));
    let owner = Owner::Patient(patient.clone());
    Known {
        kind: KIND,
        id: ledger.derive_id(TENANT, &owner, &format!("mixed {number}")),
        patient,
    }
}

fn draft(ledger: &Ledger, number: usize, version: u32) -> Draft {
    let known = known(ledger, number);
    let value = |place: usize| match place {
        0 => (number % 500).to_string(),
        _ => format!("{number}/{place}/{}", if place < 4 { version } else { 0 }),
    };
    Draft {
        kind: KIND,
        id: known.id,
        owner: Owner::Patient(known.patient),
        expected: match version {
            0 => Expected::Absent,
            version => Expected::Version(version),
        },
        body: body(number, version),
        deleted: false,
        tokens: (0..TOKENS)
            .map(|place| ledger.token(TENANT, KIND, "value", &value(place)))
            .collect(),
    }
}

/// Many measured values, as a monitor at a bedside brings them.
fn body(number: usize, version: u32) -> Vec<u8> {
    let mut random = Random::new((number as u64) << 32 | u64::from(version));
    let mut text = String::from(r#"{"resourceType":"Observation","status":"final","component":["#);
    while text.len() < BODY_BYTES {
        let value = random.below(10_000);
        text.push_str(&format!(
            r#"{{"code":{{"coding":[{{"system":"http://loinc.org","code":"{}-{}"}}]}},"valueQuantity":{{"value":{}.{:02},"unit":"mmol/L"}}}},"#,
            1000 + random.below(80_000),
            random.below(10),
            value / 100,
            value % 100
        ));
    }
    text.pop();
    text.push_str("]}");
    text.into_bytes()
}
