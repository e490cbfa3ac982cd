//! The benchmark of the ledger runs to its end and finds what it wrote: it is itself a test of loads
//! that share commits, of searches over them, and of opening after an abort.

use std::process::Command;

use serde_json::Value;

#[test]
fn the_benchmark_measures_all_that_it_says() {
    let space = tempfile::tempdir().unwrap();
    let file = space.path().join("figures.json");
    let output = Command::new(env!("CARGO_BIN_EXE_cohort"))
        .args(["bench", "ledger", "--documents", "600", "--seconds", "1"])
        .args(["--mixed-seconds", "0", "--json"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let figures: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let value = |what: &str| {
        assert_eq!(figures["stores"][0]["store"], "embedded");
        let figures = figures["stores"][0]["figures"].as_array().unwrap();
        let figure = figures.iter().find(|figure| figure["what"] == what);
        figure.unwrap_or_else(|| panic!("no figure of {what}"))["value"]
            .as_f64()
            .unwrap()
    };
    assert!(value("load: documents") >= 600.0);
    for what in [
        "load: last tenth of the first",
        "disk, all in",
        "disk: journal",
        "commit of 1 document, 64 at once: p99",
        "audited read, 64 at once: rate",
        "rare token: p50",
        "newest 20 of 500: p50",
        "all of the intersection of two tokens of 500: p50",
        "feed followed",
        "memory after all of this, peak",
        "opening after an abort, 600 documents later",
    ] {
        assert!(value(what) > 0.0, "{what}");
    }
}

#[test]
fn the_benchmark_of_decisions_measures_all_that_it_says() {
    let space = tempfile::tempdir().unwrap();
    let file = space.path().join("figures.json");
    let output = Command::new(env!("CARGO_BIN_EXE_cohort"))
        .args(["bench", "decisions", "--patients", "12"])
        .args(["--seconds", "0", "--at-once", "1", "--json"])
        .arg(&file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    // Seconds are whole, and in none nothing is measured: that is said, not left out.
    assert!(
        !output.status.success() && said.contains("nothing was measured"),
        "{said}"
    );
    let output = Command::new(env!("CARGO_BIN_EXE_cohort"))
        .args(["bench", "decisions", "--patients", "12"])
        .args(["--seconds", "1", "--at-once", "2", "--json"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let figures: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    for what in [
        "first decision of a process: p99",
        "a patient's first decision: p99",
        "client: p99",
        "coordinator: p50",
        "clinician: p99",
        "client: rate",
    ] {
        let figure = figures["figures"]
            .as_array()
            .unwrap()
            .iter()
            .find(|one| one["what"] == what);
        let value = figure.and_then(|figure| figure["value"].as_f64());
        assert!(value.is_some_and(|value| value > 0.0), "{what}: {figures}");
    }
}
