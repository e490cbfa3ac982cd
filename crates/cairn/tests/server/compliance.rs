//! `docs/compliance`: what regulations require, and which tests prove it, from the markers in the
//! tests; and the report with the evidence of a run.
//!
//! `WRITE_DOCS=1 cargo nextest run -p cairn compliance` writes pages and proofs anew; without the
//! variable the test fails where they aren't what the markers say.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use cairn::compliance::{self, Proofs, Test};

use crate::house::cairn;

const MARK: &str = "// Proves: ";

fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    root.expect("a root above the crate").to_owned()
}

/// All source files of ours.
fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join("crates")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of ours") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The binary that a file's tests are in, and the module that it is, as nextest names them. `None` for
/// a file that several binaries share.
fn place(path: &Path) -> Option<(String, Vec<String>)> {
    let inside = path.strip_prefix(root().join("crates")).ok()?;
    let mut parts: Vec<String> = inside
        .with_extension("")
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    if matches!(parts.last()?.as_str(), "mod" | "main" | "lib") {
        parts.pop();
    }
    let krate = parts.remove(0);
    match parts.remove(0).as_str() {
        "src" => Some((krate, parts)),
        "tests" => {
            let folder = root().join("crates").join(&krate).join("tests");
            let first = parts.first()?.clone();
            if folder.join(format!("{first}.rs")).exists()
                || folder.join(&first).join("main.rs").exists()
            {
                parts.remove(0);
                return Some((format!("{krate}::{first}"), parts));
            }
            // A folder that is a module of one of the binaries beside it.
            let mut using = Vec::new();
            for entry in std::fs::read_dir(&folder).expect("a folder of tests") {
                let path = entry.expect("an entry").path();
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                if text.lines().any(|line| line == format!("mod {first};")) {
                    using.push(path);
                }
            }
            let [using] = using.as_slice() else {
                return None;
            };
            let binary = using.file_stem()?.to_string_lossy().into_owned();
            Some((format!("{krate}::{binary}"), parts))
        }
        _ => None,
    }
}

/// The name of a line's function, if it begins one.
fn function(line: &str) -> Option<&str> {
    let mut words = line
        .split_whitespace()
        .skip_while(|word| *word == "async" || *word == "pub" || word.starts_with("pub("));
    if words.next()? != "fn" {
        return None;
    }
    words.next()?.split(['(', '<']).next()
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// The cases of the ledger's shared suites, each with the tests that are made of it.
fn suites() -> BTreeMap<String, Vec<Test>> {
    let text = std::fs::read_to_string(root().join("crates/ledger/tests/suite/mod.rs"))
        .expect("the suites");
    let named = |macro_name: &str| {
        let start = text
            .find(&format!("macro_rules! {macro_name}"))
            .expect(macro_name);
        let body = text[start..]
            .split("$store;")
            .nth(1)
            .expect("the list of cases");
        let list = body.split('}').next().expect("an end of the list");
        let names: BTreeSet<String> = list.split(',').map(|name| name.trim().to_owned()).collect();
        assert!(names.len() > 5, "{macro_name}: {names:?}");
        names
    };
    let mut cases: BTreeMap<String, Vec<Test>> = BTreeMap::new();
    let mut add = |names: BTreeSet<String>, places: &[(&str, &str)]| {
        for name in names {
            let tests = places.iter().map(|(binary, module)| Test {
                binary: (*binary).to_owned(),
                name: format!("{module}{name}"),
            });
            cases.insert(name.clone(), tests.collect());
        }
    };
    let mut conformance = named("conformance");
    conformance.insert("model_agrees".to_owned());
    add(
        conformance,
        &[
            ("ledger::embedded", ""),
            ("ledger::postgres", "straight::"),
            ("ledger::postgres", "pooled::"),
        ],
    );
    add(named("backups"), &[("ledger::embedded", "")]);
    cases
}

/// Collects the markers of a file's text; what is wrong with one is a fault.
fn collect(
    text: &str,
    place: Option<&(String, Vec<String>)>,
    suites: Option<&BTreeMap<String, Vec<Test>>>,
    proofs: &mut Proofs,
    faults: &mut Vec<String>,
) {
    let mut modules: Vec<(usize, String)> = Vec::new();
    let mut marks: Vec<String> = Vec::new();
    let mut is_test = false;
    for (number, line) in text.lines().enumerate() {
        let inner = line.trim_start();
        let mut fault = |words: &str| faults.push(format!("line {}: {words}: {inner}", number + 1));
        if let Some(said) = inner.strip_prefix(MARK) {
            let Some((regulation, citations)) = said.rfind("CFR ").map(|at| said.split_at(at + 4))
            else {
                fault("names no regulation");
                continue;
            };
            for citation in citations.split(", ") {
                if compliance::is_citation(citation) {
                    marks.push(format!("{regulation}{citation}"));
                } else {
                    fault("is no citation");
                }
            }
            continue;
        }
        if inner.starts_with("// Proves") {
            fault("is not written as a marker is");
        }
        if let Some(name) = function(inner) {
            let name = name.to_owned();
            let inside = modules.iter().map(|(_, name)| name.as_str());
            let tests = if let Some(cases) = suites {
                cases.get(&name).cloned()
            } else if is_test {
                place.map(|(binary, parts)| {
                    let parts = parts.iter().map(String::as_str).chain(inside);
                    let path: Vec<&str> = parts.chain([name.as_str()]).collect();
                    vec![Test {
                        binary: binary.clone(),
                        name: path.join("::"),
                    }]
                })
            } else {
                None
            };
            if !marks.is_empty() {
                match tests {
                    Some(tests) => {
                        for mark in marks.drain(..) {
                            proofs.entry(mark).or_default().extend(tests.clone());
                        }
                    }
                    None => fault("has a marker and is no test"),
                }
            }
            marks.clear();
            is_test = false;
            continue;
        }
        is_test |= inner.starts_with("#[test]") || inner.starts_with("#[tokio::test");
        let is_between = inner.starts_with('#')
            || inner.starts_with("//")
            || inner.starts_with("reason =")
            || inner.starts_with("clippy::")
            || inner == ")]";
        if !is_between {
            if !marks.is_empty() {
                fault("stands between a marker and its test");
                marks.clear();
            }
            is_test = false;
        }
        let module = inner.strip_prefix("pub(crate) ").unwrap_or(inner);
        if let Some(name) = module
            .strip_prefix("mod ")
            .and_then(|rest| rest.strip_suffix(" {"))
        {
            modules.push((indent(line), name.to_owned()));
        } else if inner == "}" && modules.last().is_some_and(|(at, _)| *at == indent(line)) {
            modules.pop();
        }
    }
    if !marks.is_empty() {
        faults.push("ends with a marker on nothing".to_owned());
    }
}

/// All markers of the repository.
fn collected() -> (Proofs, Vec<String>) {
    let suites = suites();
    let (mut proofs, mut faults) = (Proofs::new(), Vec::new());
    for path in sources() {
        let text = std::fs::read_to_string(&path).expect("a source file is text");
        let is_suite = path.starts_with(root().join("crates/ledger/tests/suite"));
        let mut found = Vec::new();
        collect(
            &text,
            place(&path).as_ref(),
            is_suite.then_some(&suites),
            &mut proofs,
            &mut found,
        );
        let name = path
            .strip_prefix(root())
            .unwrap_or(&path)
            .display()
            .to_string();
        faults.extend(found.into_iter().map(|fault| format!("{name}: {fault}")));
    }
    for tests in proofs.values_mut() {
        tests.sort();
        tests.dedup();
    }
    (proofs, faults)
}

/// Compares a file with what it should be, or writes it.
#[allow(
    clippy::disallowed_methods,
    reason = "whoever develops this says so that the page is to be written"
)]
fn is_current(file: &Path, wanted: &str) {
    if std::env::var_os("WRITE_DOCS").is_some() {
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("the folder");
        std::fs::write(file, wanted).expect("the page can be written");
    }
    let there = std::fs::read_to_string(file).unwrap_or_default();
    let name = file.display();
    for (place, (there, wanted)) in there.lines().zip(wanted.lines()).enumerate() {
        assert_eq!(there, wanted, "{name}, line {}", place + 1);
    }
    assert_eq!(there, wanted, "{name} is another length than it should be");
}

// Proves: 45 CFR 164.316(b)(2)(iii)
#[test]
fn compliance_is_as_the_markers_say() {
    let (proofs, mut faults) = collected();
    let mut known = BTreeSet::new();
    let mut index = String::from(
        "# Compliance\n\nWhat regulations require, where it is implemented, which tests prove it, and what software alone can't do. `cairn compliance report` prints a page with what the last run of the tests came to; `scripts/test` leaves that in `target/nextest/evidence/junit.xml`.\n\n| page | what | requirements | tests |\n|---|---|---|---|\n",
    );
    for name in compliance::profiles() {
        let profile = compliance::profile(name).expect("a profile");
        faults.extend(profile.faults(&proofs));
        let mut tests = BTreeSet::new();
        for requirement in &profile.requirements {
            tests.extend(profile.tests(requirement, &proofs));
            known.insert(profile.marked(requirement));
            for path in &requirement.paths {
                if !root().join(path).exists() {
                    faults.push(format!("{}: {path} is not there", requirement.citation));
                }
            }
            let words = [&requirement.does, &requirement.left];
            for path in words
                .iter()
                .flat_map(|text| text.split('`').skip(1).step_by(2))
            {
                if path.contains('/') && !path.contains(' ') && !root().join(path).exists() {
                    faults.push(format!("{}: {path} is not there", requirement.citation));
                }
            }
        }
        let count = profile.requirements.len();
        writeln!(
            index,
            "| [{name}]({name}.md) | {} | {count} | {} |",
            profile.title,
            tests.len()
        )
        .expect("text");
        let file = root().join(format!("docs/compliance/{name}.md"));
        is_current(&file, &compliance::page(&profile, &proofs));
    }
    for marked in proofs.keys() {
        if !known.contains(marked) {
            faults.push(format!("{marked} is in no profile"));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    is_current(&root().join("docs/compliance/README.md"), &index);
    let file = root().join("crates/cairn/compliance/proofs.txt");
    is_current(&file, &compliance::proofs_text(&proofs));
}

#[test]
fn tests_are_named_as_they_are_run() {
    let (proofs, _) = collected();
    let this = std::env::current_exe().expect("this binary");
    let output = std::process::Command::new(this)
        .arg("--list")
        .output()
        .expect("it runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let listed: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .collect();
    let ours = proofs
        .values()
        .flatten()
        .filter(|test| test.binary == "cairn::server");
    let ours: BTreeSet<&str> = ours.map(|test| test.name.as_str()).collect();
    assert!(ours.len() > 20);
    assert_eq!(
        ours.difference(&listed).collect::<Vec<_>>(),
        Vec::<&&str>::new()
    );
}

#[test]
fn markers_are_read_and_what_is_wrong_with_them_is_said() {
    let place = ("trust".to_owned(), vec!["audit".to_owned()]);
    let read = |text: &str| {
        let (mut proofs, mut faults) = (Proofs::new(), Vec::new());
        collect(text, Some(&place), None, &mut proofs, &mut faults);
        (proofs, faults)
    };
    let (proofs, faults) = read(
        "mod tests {\n    mod inner {\n        #[test]\n        fn other() {}\n    }\n    /// Words.\n    // Proves: 45 CFR 164.312(b), 164.312(d)\n    // Proves: 45 CFR 164.310(b)\n    #[tokio::test(flavor = \"x\")]\n    #[allow(\n        clippy::x,\n        reason = \"y\"\n    )]\n    async fn here() {\n    }\n}\n",
    );
    assert_eq!(faults, Vec::<String>::new());
    let test = Test {
        binary: "trust".to_owned(),
        name: "audit::tests::here".to_owned(),
    };
    let wanted = [
        "45 CFR 164.310(b)",
        "45 CFR 164.312(b)",
        "45 CFR 164.312(d)",
    ];
    assert_eq!(
        proofs,
        wanted
            .map(|mark| (mark.to_owned(), vec![test.clone()]))
            .into()
    );
    for (text, words) in [
        ("// Proves: 45 CFR 164.312(b)\nfn helper() {}", "is no test"),
        (
            "// Proves: 45 CFR 164.312(b)\n\n#[test]\nfn x() {}",
            "stands between",
        ),
        (
            "// Proves: 45 CFR 164.312(b)\nlet x = 1;\n#[test]\nfn x() {}",
            "stands between",
        ),
        ("// Proves: 45 CFR 164.312(b)", "on nothing"),
        (
            "// Proves: 45 CFR 312\n#[test]\nfn x() {}",
            "is no citation",
        ),
        ("// Proves: 164.312(b)\n#[test]\nfn x() {}", "no regulation"),
        (
            "// Proves 45 CFR 164.312(b)\n#[test]\nfn x() {}",
            "not written",
        ),
    ] {
        let (_, faults) = read(text);
        assert!(
            faults.iter().any(|fault| fault.contains(words)),
            "{text}: {faults:?}"
        );
    }
}

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = cairn();
    command.args(["compliance", "report"]).args(arguments);
    let output = command.stdin(Stdio::null()).output().expect("cairn runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// A run in which all proofs passed but one.
fn junit(but: &str, how: &str) -> String {
    let tests: BTreeSet<Test> = compliance::proofs()
        .expect("proofs")
        .into_values()
        .flatten()
        .collect();
    let mut text = String::from(
        "<testsuites name=\"nextest-run\" uuid=\"u-1\" timestamp=\"2026-06-01T10:00:00.000+00:00\"><testsuite name=\"all\">",
    );
    for test in tests {
        let (inner, is_there) = match (test.name == but, how) {
            (true, "missing") => ("", false),
            (true, inner) => (inner, true),
            _ => ("", true),
        };
        if is_there {
            write!(text, "<testcase classname=\"{}\" name=\"{}\" timestamp=\"2026-06-01T10:00:01.000+00:00\">{inner}</testcase>", test.binary, test.name).expect("text");
        }
    }
    text.push_str("</testsuite></testsuites>");
    text
}

#[test]
fn the_report_tells_what_the_last_run_came_to() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("junit.xml");
    let name = file.to_str().expect("UTF-8").to_owned();
    let one = "tests::audit::no_answer_without_an_audit_leaf";
    let tried = |text: &str, more: &[&str]| {
        std::fs::write(&file, text).expect("written");
        run(&[&["--evidence", &name], more].concat())
    };

    let (code, out, _) = tried(&junit("", ""), &[]);
    assert_eq!(code, Some(0), "{out}");
    assert!(
        out.contains("164.312(b) Audit controls (standard): proved\n"),
        "{out}"
    );
    assert!(
        out.contains(&format!(
            "passed                 trust {one} (2026-06-01T10:00:01.000+00:00)"
        )),
        "{out}"
    );
    assert!(out.contains("run 2026-06-01T10:00:00.000+00:00"), "{out}");
    assert!(
        out.contains("164.310(b) Use of workstations (standard): left to the organisation\n"),
        "{out}"
    );
    assert!(out.contains(" 0 failed, 0 not run."), "{out}");

    for (how, words, outcome) in [
        ("<failure type=\"x\">cause</failure>", "failed", "failed"),
        ("missing", "not run", "not-run"),
    ] {
        let (code, out, _) = tried(&junit(one, how), &[]);
        assert_eq!(code, Some(1), "{out}");
        assert!(
            out.contains(&format!("Audit controls (standard): {words}\n")),
            "{out}"
        );
        let (code, out, _) = tried(&junit(one, how), &["--json"]);
        assert_eq!(code, Some(1));
        let report: serde_json::Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!(report["run"], "u-1");
        let requirements = report["requirements"].as_array().expect("requirements");
        let audit = requirements
            .iter()
            .find(|line| line["citation"] == "164.312(b)")
            .expect("it is there");
        assert_eq!(audit["outcome"], words);
        let tests = audit["tests"].as_array().expect("tests");
        let test = tests
            .iter()
            .find(|test| test["name"] == one)
            .expect("the test");
        assert_eq!(
            (&test["binary"], &test["outcome"]),
            (&"trust".into(), &outcome.into())
        );
    }
    let (code, out, _) = tried(&junit(one, "<flakyFailure/>"), &[]);
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("passed at another try"), "{out}");

    let (code, _, err) = tried("<html/>", &[]);
    assert_eq!(code, Some(1));
    assert!(err.contains("no JUnit file"), "{err}");
    let (code, _, err) = run(&["--evidence", &format!("{name}.none")]);
    assert_eq!(code, Some(1));
    assert!(err.contains("junit.xml.none"), "{err}");
    let (code, _, err) = tried(&junit("", ""), &["--profile", "none"]);
    assert_eq!(code, Some(1));
    assert!(
        err.contains("there are us-hipaa, us-hipaa-2025, us-42-cfr-part-2"),
        "{err}"
    );
}
