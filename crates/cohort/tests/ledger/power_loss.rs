use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cohort::power::{Unsynced, rebuild};
use cohort::random::Random;
use cohort::writer::{AUDIT_KIND, KIND, TENANT, body, open};

/// Rounds of writing, losing power and opening again, unless `POWER_ROUNDS` says otherwise.
const ROUNDS: u64 = 12;
/// What the rounds are drawn from, unless `POWER_SEED` says otherwise.
const SEED: u64 = 0x0ca1_2026;

/// A number from the environment, to replay a seed or to search longer.
fn given(name: &str, default: u64) -> u64 {
    #[allow(
        clippy::disallowed_methods,
        reason = "the one who runs the test says it, not the product's configuration"
    )]
    let value = std::env::var(name);
    value.map_or(default, |text| {
        let parsed = match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => text.parse(),
        };
        parsed.expect("a number, decimal or 0x…")
    })
}

fn shim() -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/power/shim.c");
    let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join("power-shim.so");
    let status = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-o"])
        .arg(&library)
        .arg(&source)
        .args(["-ldl", "-lpthread"])
        .status()
        .expect("a C compiler (cc), which Rust needs as well");
    assert!(status.success(), "the shim compiles");
    library
}

/// Writes under the shim until `kill_after` commits are acknowledged, then kills the writer.
fn write_and_kill(
    live: &Path,
    shadow: &Path,
    library: &Path,
    seed: u64,
    kill_after: u64,
    acknowledged: &mut HashMap<String, u32>,
) -> u64 {
    for folder in ["i", "d", "k"] {
        fs::create_dir_all(shadow.join(folder)).expect("shadow");
    }
    let mut child = Command::new(env!("CARGO_BIN_EXE_cohort"))
        .args(["ledger-writer", "--seed", &seed.to_string()])
        .arg(live)
        .env("LD_PRELOAD", library)
        .env("POWER_ROOT", live)
        .env("POWER_SHADOW", shadow)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the writer starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut count = 0;
    for line in lines.by_ref() {
        note(&line.expect("a line"), acknowledged);
        count += 1;
        if count == kill_after {
            child.kill().expect("the writer is there to be killed");
            break;
        }
    }
    // What was said before the kill reached it counts as acknowledged.
    for line in lines.map_while(Result::ok) {
        note(&line, acknowledged);
        count += 1;
    }
    child.wait().expect("the writer ends");
    assert!(
        count >= kill_after,
        "the writer stopped by itself after {count} commits"
    );
    count
}

fn note(line: &str, acknowledged: &mut HashMap<String, u32>) {
    let (id, version) = line.split_once(' ').expect("ID VERSION");
    let version: u32 = version.parse().expect("a version");
    let newest = acknowledged.entry(id.to_owned()).or_insert(0);
    *newest = version.max(*newest);
}

/// Copies a folder and notes it as synced, as a disk that has been running for a while.
fn settle(from: &Path, live: &Path, shadow: &Path) {
    use std::fmt::Write as _;
    use std::os::unix::fs::MetadataExt;
    fs::create_dir_all(live).expect("folder");
    let mut names = String::new();
    for entry in fs::read_dir(from).expect("folder") {
        let entry = entry.expect("entry");
        let to = live.join(entry.file_name());
        if entry.file_type().expect("type").is_dir() {
            settle(&entry.path(), &to, shadow);
            let _ = writeln!(
                names,
                "{} d {}",
                fs::metadata(&to).expect("folder").ino(),
                entry.file_name().to_string_lossy()
            );
        } else {
            fs::copy(entry.path(), &to).expect("copied");
            let inode = fs::metadata(&to).expect("file").ino();
            fs::copy(&to, shadow.join("i").join(inode.to_string())).expect("copied");
            let _ = writeln!(names, "{inode} f {}", entry.file_name().to_string_lossy());
        }
    }
    let inode = fs::metadata(live).expect("folder").ino();
    fs::write(shadow.join("d").join(inode.to_string()), names).expect("noted");
}

// Proves: 45 CFR 164.312(c)(1), 164.308(a)(7)(ii)(C)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_power_loss() {
    let (seed, rounds) = (given("POWER_SEED", SEED), given("POWER_ROUNDS", ROUNDS));
    let library = shim();
    let mut random = Random::new(seed);
    let space = tempfile::tempdir().expect("a folder");
    let mut disk: Option<PathBuf> = None;
    let mut acknowledged = HashMap::new();
    let (mut commits, mut opened_ms_max) = (0, 0);
    for round in 0..rounds {
        let at = space.path().join(format!("round-{round}"));
        let (live, shadow, after) = (at.join("live"), at.join("shadow"), at.join("after"));
        for folder in [
            &live,
            &after,
            &shadow.join("i"),
            &shadow.join("d"),
            &shadow.join("k"),
        ] {
            fs::create_dir_all(folder).expect("folder");
        }
        if let Some(disk) = &disk {
            settle(disk, &live, &shadow);
        }
        let kill_after = 1 + random.below(400);
        commits += write_and_kill(
            &live,
            &shadow,
            &library,
            seed + round,
            kill_after,
            &mut acknowledged,
        );
        let unsynced = if round % 2 == 0 {
            Unsynced::Lost
        } else {
            Unsynced::Torn
        };
        rebuild(&live, &shadow, &after, unsynced, &mut random)
            .expect("the disk after the power loss");

        let started = tokio::time::Instant::now();
        let ledger = open(&after)
            .unwrap_or_else(|error| panic!("seed {seed:#x} round {round} ({unsynced:?}): {error}"));
        opened_ms_max = opened_ms_max.max(started.elapsed().as_millis());
        for (id, version) in &acknowledged {
            let stored = ledger
                .get(TENANT, KIND, id)
                .await
                .expect("readable")
                .unwrap_or_else(|| {
                    panic!("seed {seed:#x} round {round}: acknowledged document {id} is missing")
                });
            // A commit that was not acknowledged may be there, whole.
            assert!(
                stored.version >= *version,
                "seed {seed:#x} round {round}: {id} fell back from version {version} to {}",
                stored.version
            );
            assert_eq!(
                stored.body,
                body(id, stored.version),
                "seed {seed:#x} round {round}: {id} is whole"
            );
            for earlier in 1..stored.version {
                let old = ledger
                    .version(TENANT, KIND, id, earlier)
                    .await
                    .expect("readable")
                    .expect("earlier versions are kept");
                assert_eq!(old.body, body(id, earlier));
            }
            let found = ledger
                .search(
                    TENANT,
                    &ledger::Query::Token(ledger.token(TENANT, KIND, "value", &format!("{id}3"))),
                    None,
                    None,
                    10,
                )
                .await
                .expect("searchable");
            assert!(
                found.contains(&stored.at),
                "seed {seed:#x} round {round}: {id} is found by its token"
            );
        }
        let audits = ledger
            .search(
                TENANT,
                &ledger::Query::Token(ledger.kind_token(TENANT, AUDIT_KIND)),
                None,
                None,
                usize::MAX,
            )
            .await
            .expect("searchable")
            .len();
        let report = ledger.verify_audit(&|_| ()).await.expect("checked");
        assert!(
            report.broken.is_none() && report.checkpoint_ok,
            "seed {seed:#x} round {round}: {report:?}"
        );
        assert!(
            audits as u64 >= u64::from(acknowledged.values().sum::<u32>()),
            "an audit record for each acknowledged commit"
        );
        ledger.close().await.expect("closed");
        if round > 0 {
            let _ = fs::remove_dir_all(space.path().join(format!("round-{}", round - 1)));
        }
        disk = Some(after);
    }
    println!(
        "power loss: seed {seed:#x}, {rounds} rounds, {commits} acknowledged commits, {} documents, none missing; slowest opening {opened_ms_max} ms",
        acknowledged.len()
    );
}
