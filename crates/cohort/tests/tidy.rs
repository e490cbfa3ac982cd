//! The house in order: the map is true, files are short, decisions are dated, every key is explained.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Above this a file needs a reason here. Aim for 600.
const MAX_LINES: usize = 900;

/// Files that are longer, and why.
const LONG_FILES: &[(&str, &str)] = &[];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("crates/cohort has a root above it")
        .to_owned()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All files under `folder` with one of the endings.
fn files(folder: &str, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of ours can be read") {
            let path = entry.expect("a folder's entry can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path
                .extension()
                .is_some_and(|ending| endings.iter().any(|wanted| ending == *wanted))
            {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no files under {folder}");
    found
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root())
        .unwrap_or(path)
        .display()
        .to_string()
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Cells of the rows of all tables, without heads and rules.
fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
}

#[test]
fn the_map_names_only_what_exists() {
    let mut missing = Vec::new();
    for document in ["ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"] {
        let text = read(document);
        for name in quoted(&text) {
            let is_file = name.contains('/') || name.ends_with(".toml") || name.ends_with(".md");
            // Commands, addresses, patterns and files of the reader's own are no paths of ours.
            let is_ours =
                !name.starts_with('/') && !name.contains([' ', '*', '{']) && !name.contains("NNNN");
            if is_file && is_ours && !root().join(name).exists() {
                missing.push(format!("{document}: {name}"));
            }
        }
    }
    assert!(missing.is_empty(), "named but not there: {missing:#?}");
}

#[test]
fn crates_use_each_other_as_the_map_says() {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let ours: BTreeSet<&str> = packages
        .iter()
        .filter_map(|package| package["name"].as_str())
        .collect();

    let text = read("ARCHITECTURE.md");
    let mapped: BTreeMap<&str, BTreeSet<&str>> = rows(&text)
        .filter(|cells| cells.len() == 3)
        .map(|cells| (cells[0].trim_matches('`'), quoted(cells[2]).collect()))
        .collect();
    assert_eq!(
        mapped.keys().copied().collect::<BTreeSet<_>>(),
        ours,
        "crates on the map and in the workspace"
    );

    for package in packages {
        let name = package["name"].as_str().expect("a package has a name");
        let mut used = BTreeSet::new();
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let other = dependency["name"]
                .as_str()
                .expect("a dependency has a name");
            if !ours.contains(other) {
                continue;
            }
            if dependency["kind"].is_null() {
                used.insert(other);
            } else {
                // Tests may use what their crate may, and FHIR's vocabulary and synthetic patients.
                let is_allowed =
                    mapped[name].contains(other) || ["fhir", "synthetic", name].contains(&other);
                assert!(
                    is_allowed,
                    "{name}'s tests use {other}, which the map doesn't allow"
                );
            }
        }
        assert_eq!(
            used, mapped[name],
            "what {name} uses: in Cargo.toml (left) and on the map (right)"
        );
        assert!(!used.contains("cohort"), "{name} uses cohort; nothing may");
    }
}

#[test]
fn only_the_ledger_names_the_database_driver() {
    for path in files("crates", &["rs", "toml"]) {
        let name = shown(&path);
        if name.starts_with("crates/ledger/") || name == "crates/cohort/tests/tidy.rs" {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a source file is text");
        // In code, not in words about it.
        let named = text.lines().map(str::trim_start).any(|line| {
            !line.starts_with("//")
                && !line.starts_with('#')
                && (line.contains("fjall::") || line.starts_with("fjall"))
        });
        assert!(!named, "{name} names fjall");
    }
}

#[test]
fn files_are_short() {
    let mut too_long = Vec::new();
    for (name, _) in LONG_FILES {
        assert!(
            root().join(name).exists(),
            "{name} is gone; take it off the list"
        );
    }
    for path in files("crates", &["rs", "css", "js"]) {
        let name = shown(&path);
        let lines = std::fs::read_to_string(&path)
            .expect("a source file is text")
            .lines()
            .count();
        let has_reason = LONG_FILES.iter().any(|(file, _)| *file == name);
        if lines > MAX_LINES && !has_reason {
            too_long.push(format!("{name}: {lines} lines"));
        }
        if has_reason && lines <= MAX_LINES {
            too_long.push(format!("{name}: only {lines} lines; take it off the list"));
        }
    }
    assert!(too_long.is_empty(), "{too_long:#?}");
}

#[test]
fn nothing_is_left_undone() {
    // Put together here so that this file does not find itself.
    let forbidden = [
        ["todo", "!("].concat(),
        ["unimplemented", "!("].concat(),
        ["dbg", "!("].concat(),
    ];
    let mut found = Vec::new();
    for path in files("crates", &["rs"]) {
        let text = std::fs::read_to_string(&path).expect("a source file is text");
        for (number, line) in text.lines().enumerate() {
            if forbidden.iter().any(|word| line.contains(word.as_str())) {
                found.push(format!("{}:{}", shown(&path), number + 1));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn crates_open_with_what_they_do() {
    for path in files("crates", &["rs"]) {
        let name = shown(&path);
        let is_front_door = name.ends_with("/src/lib.rs") || name.ends_with("/src/main.rs");
        if is_front_door {
            let text = std::fs::read_to_string(&path).expect("a source file is text");
            assert!(
                text.starts_with("//! "),
                "{name} does not open with what it does"
            );
        }
    }
}

#[test]
fn decisions_are_dated_and_have_a_status() {
    let mut numbers = BTreeSet::new();
    for path in files("docs/decisions", &["md"]) {
        let name = shown(&path);
        let text = std::fs::read_to_string(&path).expect("a decision is text");
        let file = path
            .file_name()
            .and_then(|name| name.to_str())
            .expect("a decision's file has a name");
        let number = file
            .split('-')
            .next()
            .and_then(|number| number.parse::<u32>().ok());
        let number = number.unwrap_or_else(|| panic!("{name} does not begin with its number"));
        assert!(numbers.insert(number), "{name}: number {number} is taken");
        assert!(
            text.starts_with(&format!("# {number}. ")),
            "{name} does not begin with `# {number}. `"
        );
        let value = |key: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(key))
                .map(str::trim)
        };
        let date = value("Date: ").unwrap_or_else(|| panic!("{name} has no date"));
        assert!(
            date.parse::<jiff::civil::Date>().is_ok(),
            "{name}: {date} is no date"
        );
        let status = value("Status: ").unwrap_or_else(|| panic!("{name} has no status"));
        let is_known = status.starts_with("accepted")
            || status == "rejected"
            || status.starts_with("superseded by ");
        assert!(is_known, "{name}: {status} is no status");
    }
}

#[test]
fn every_configuration_key_is_explained() {
    let text = read("docs/configuration.md");
    let explained: BTreeMap<String, String> = rows(&text)
        .filter(|cells| cells.len() == 3 && !cells[2].is_empty())
        .map(|cells| {
            (
                cells[0].trim_matches('`').to_owned(),
                cells[1].trim_matches('`').to_owned(),
            )
        })
        .collect();
    let keys: BTreeMap<String, String> = cairn::config::KEYS
        .iter()
        .map(|key| (key.name.to_owned(), key.default.to_owned()))
        .collect();
    assert_eq!(
        explained, keys,
        "keys with their defaults: in docs/configuration.md (left) and in the code (right)"
    );
}

/// Each picture is made by the walk through the demo, shown somewhere, and there.
#[test]
fn guides_show_the_pictures_that_the_walk_makes() {
    let checks = read("crates/cohort/tests/browser/checks.mjs");
    let (_, list) = checks.split_once("PICTURED = {").expect("a list");
    let (list, _) = list.split_once("};").expect("an end of the list");
    let mut made: BTreeSet<String> = BTreeSet::new();
    let words = list.split('"').skip(1).step_by(2);
    // Where a picture begins on its page is no picture.
    for name in words.filter(|word| !word.starts_with('#')) {
        made.insert(format!("{name}.png"));
    }
    let there: BTreeSet<String> = files("docs/guides/pictures", &["png"])
        .iter()
        .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
        .collect();
    let mut shown: BTreeSet<String> = BTreeSet::new();
    for path in files("docs/guides", &["md"]) {
        let text = std::fs::read_to_string(&path).expect("a guide is text");
        for rest in text.split("](pictures/").skip(1) {
            shown.insert(rest.split(')').next().unwrap_or_default().to_owned());
        }
    }
    assert!(made.len() > 10, "{made:?}");
    assert_eq!(
        made, there,
        "made by the walk (left) and in the folder (right); UPDATE_PICTURES=1 makes them"
    );
    assert_eq!(
        made, shown,
        "made by the walk (left) and shown by a guide (right)"
    );
}

/// Kinds of documents that have one number for a reason that stands beside them.
const SHARED_NUMBERS: &[[&str; 2]] = &[["PASSKEY", "PROXY"]];

#[test]
fn kinds_of_documents_have_numbers_of_their_own() {
    let mut of: BTreeMap<u16, BTreeSet<String>> = BTreeMap::new();
    for krate in ["trust", "record", "journey", "exchange", "cairn", "web"] {
        for path in files(&format!("crates/{krate}/src"), &["rs"]) {
            let text = std::fs::read_to_string(&path).expect("a file of ours can be read");
            for line in text.lines() {
                let Some((name, value)) = line.split_once(": Kind = ") else {
                    continue;
                };
                let number = value.split_once("Kind(").map(|(_, rest)| rest);
                let number = number.and_then(|rest| rest.split(')').next()?.parse().ok());
                let (Some(number), Some(name)) = (number, name.rsplit(' ').next()) else {
                    continue;
                };
                of.entry(number).or_default().insert(name.to_owned());
            }
        }
    }
    assert!(of.len() > 30, "kinds are found: {of:?}");
    for (number, names) in of {
        let is_meant = |pair: &[&str; 2]| names.iter().map(String::as_str).eq(pair.iter().copied());
        assert!(
            names.len() == 1 || SHARED_NUMBERS.iter().any(is_meant),
            "{number} is the number of {names:?}"
        );
    }
}
