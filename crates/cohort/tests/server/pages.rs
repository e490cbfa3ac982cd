//! The benchmark of pages runs to its end: people sign in, journeys run, and open pages show what changes.

use std::process::Command;

use serde_json::Value;

#[test]
fn the_benchmark_of_pages_measures_all_that_it_says() {
    let space = tempfile::tempdir().expect("a folder");
    let file = space.path().join("figures.json");
    let output = Command::new(env!("CARGO_BIN_EXE_cohort"))
        .args(["bench", "pages", "--patients", "60", "--under-way", "12"])
        .args(["--clients", "2", "--seconds", "1", "--open", "5", "--json"])
        .arg(&file)
        .output()
        .expect("it runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = std::fs::read(&file).expect("figures");
    let figures: Value = serde_json::from_slice(&text).expect("JSON");
    let figures = figures["figures"].as_array().expect("figures");
    for (what, most) in [
        ("list of work: p99", f64::MAX),
        ("search for a patient: p99", f64::MAX),
        ("what is next for them, and why: p99", f64::MAX),
        ("a patient's own journey: p99", f64::MAX),
        ("5 open lists of work show a change: last", f64::MAX),
        // A page has less than 100,000 bytes, whatever is on it.
        ("list of work: largest", 100.0),
        ("any patient: largest", 100.0),
        ("audit: largest", 100.0),
        ("a patient's record: largest", 100.0),
    ] {
        let figure = figures.iter().find(|figure| figure["what"] == what);
        let figure = figure.unwrap_or_else(|| panic!("no figure of {what}"));
        let value = figure["value"].as_f64().expect("a number");
        assert!(value > 0.0 && value < most, "{what}: {value}");
    }
}
