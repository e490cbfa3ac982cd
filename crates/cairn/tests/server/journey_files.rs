//! `cairn journey` with files alone: scenarios, simulation, differences, graphs, form.

use std::path::Path;

use crate::binary::told;
use crate::clients::peer;
use crate::house::cairn;

fn journeys() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../journeys")
}

/// A folder with the heart-failure journey and its scenarios, changed.
fn folder(
    journey: impl Fn(String) -> String,
    scenarios: impl Fn(String) -> String,
) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let copy = |name: &str, change: &dyn Fn(String) -> String| {
        let text = std::fs::read_to_string(journeys().join(name)).expect("a file that comes along");
        std::fs::write(folder.path().join(name), change(text)).expect("a copy");
    };
    copy("heart-failure-discharge.yaml", &journey);
    copy("heart-failure-discharge.test.yaml", &scenarios);
    folder
}

fn run(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    told(
        cairn().arg("journey").args(arguments).current_dir(folder),
        "",
    )
}

#[test]
fn scenarios_say_by_their_exit_code_whether_they_passed() {
    const FILE: &str = "heart-failure-discharge.yaml";
    let same = |text: String| text;
    let good = folder(same, same);
    for file in [FILE, "heart-failure-discharge.test.yaml"] {
        let (code, words) = run(good.path(), &["test", "--min-coverage", "100", file]);
        assert_eq!(code, Some(0), "{words}");
        assert!(words.contains("40 of 40 scenarios passed"), "{words}");
    }
    let changed = folder(
        |text| text.replace("remind_after: 24h", "remind_after: 12h"),
        same,
    );
    let (code, words) = run(changed.path(), &["test", FILE]);
    assert_eq!(code, Some(1), "{words}");
    assert!(
        words.contains("+ 2026-03-04 21:00 symptoms, reminder by email"),
        "{words}"
    );
    let few = folder(same, |text| {
        let end = text
            .find("  - name: A message that reaches only")
            .expect("the second scenario");
        text[..end].to_owned()
    });
    let (code, words) = run(few.path(), &["test", "--min-coverage", "90", FILE]);
    assert_eq!(code, Some(1), "{words}");
    assert!(words.contains("90 % are asked for"), "{words}");
    let (code, _) = run(few.path(), &["test", FILE]);
    assert_eq!(code, Some(0));
    let broken = folder(same, |text| text.replace("is_at:", "is_att:"));
    let (code, words) = run(broken.path(), &["test", FILE]);
    assert_eq!(code, Some(1));
    assert!(
        words.contains("error J002: `is_att` is not known"),
        "{words}"
    );
}

#[test]
fn the_same_seed_simulates_the_same() {
    let arguments = [
        "simulate",
        "heart-failure-discharge.yaml",
        "--patients",
        "50",
        "--days",
        "90",
        "--json",
    ];
    let (code, once) = run(&journeys(), &arguments);
    assert_eq!(code, Some(0), "{once}");
    assert_eq!(run(&journeys(), &arguments).1, once);
    let report: serde_json::Value = serde_json::from_str(&once).expect("a report");
    assert_eq!(report["patients"], 50);
    let against = [
        "simulate",
        "heart-failure-discharge.yaml",
        "--patients",
        "50",
        "--against",
        "heart-failure-discharge.yaml",
    ];
    let (code, words) = run(&journeys(), &against);
    assert_eq!(code, Some(0), "{words}");
    assert!(
        words.contains("difference") && words.contains("+0.00"),
        "{words}"
    );
}

#[test]
fn files_are_compared_drawn_and_formatted() {
    const FILE: &str = "heart-failure-discharge.yaml";
    let same = |text: String| text;
    let changed = folder(|text| text.replace("Welcome home", "Hello  "), same);
    let copy = changed.path().join(FILE);
    let copy = copy.to_str().expect("a path");
    let table: &[(&[&str], i32, &str)] = &[
        (&["diff", FILE, FILE], 0, ""),
        (
            &["diff", FILE, copy],
            1,
            "Words:\n  steps.welcome.send.title\n    - Welcome home\n    + Hello\n",
        ),
        (
            &["graph", FILE],
            0,
            "\"symptoms\" -> \"call\" [label=\"no answer\"];",
        ),
        (&["graph", "--format", "mermaid", FILE], 0, "flowchart TD"),
        (&["fmt", "--check", FILE], 0, ""),
        (&["fmt", "--check", copy], 1, "is not in its canonical form"),
        (&["fmt", copy], 0, "formatted"),
        (&["fmt", "--check", copy], 0, ""),
    ];
    for (arguments, expected, words) in table {
        let (code, said) = run(&journeys(), arguments);
        assert_eq!(code, Some(*expected), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
        assert!(
            !words.is_empty() || said.is_empty(),
            "{arguments:?}: {said}"
        );
    }
}

/// A journey goes out as definitions of FHIR and comes back as it was; a plan of others becomes a draft.
#[test]
fn journeys_go_out_and_come_in_as_plans() {
    const FILE: &str = "heart-failure-discharge.yaml";
    let folder = folder(|text| text, |text| text);
    let file = |name: &str| folder.path().join(name);
    let (code, bundle) = run(folder.path(), &["export", "--as-version", "3", FILE]);
    assert_eq!(code, Some(0), "{bundle}");
    std::fs::write(file("bundle.json"), &bundle).expect("written");
    let bundle: serde_json::Value = serde_json::from_str(&bundle).expect("JSON");
    assert_eq!(bundle["entry"][0]["resource"]["version"], "3");
    let (code, source) = run(folder.path(), &["import", "bundle.json"]);
    let before = std::fs::read_to_string(file(FILE)).expect("the journey");
    assert_eq!((code, source.trim_end()), (Some(0), before.trim_end()));

    let plan = r#"{"resourceType": "PlanDefinition", "status": "draft", "title": "Weigh twice", "action": [
        {"id": "one", "title": "Weigh"},
        {"id": "two", "title": "Weigh again", "relatedAction": [{"actionId": "one", "relationship": "after-end",
            "offsetDuration": {"value": 1, "unit": "wk"}}]}]}"#;
    std::fs::write(file("plan.json"), plan).expect("written");
    let (code, draft) = run(folder.path(), &["import", "plan.json"]);
    assert_eq!(code, Some(0), "{draft}");
    for words in [
        "wait: {for: 7d}",
        "PlanDefinition.action[0]: doesn't say how soon",
    ] {
        assert!(draft.contains(words), "{words}: {draft}");
    }
    std::fs::write(file("broken.yaml"), "name: broken\n").expect("written");
    for arguments in [["import", FILE], ["export", "broken.yaml"]] {
        let (code, words) = run(folder.path(), &arguments);
        assert_ne!(code, Some(0), "{words}");
    }
}

/// What stands in segments.yaml beside a journey is part of it for each command.
#[test]
fn segments_beside_a_journey_are_taken_along() {
    const FILE: &str = "overdue-recall.yaml";
    let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/journeys/recipes");
    let folder = tempfile::tempdir().expect("a folder");
    let here = folder.path();
    for name in [FILE, "overdue-recall.test.yaml", "segments.yaml"] {
        std::fs::copy(recipes.join(name), here.join(name)).expect("a recipe");
    }
    let (code, words) = run(here, &["check", FILE]);
    assert_eq!(code, Some(0), "{words}");
    let (code, words) = run(here, &["check", "segments.yaml"]);
    assert_eq!(code, Some(0), "{words}");
    let (code, words) = run(here, &["fmt", "--check", FILE, "segments.yaml"]);
    assert_eq!(code, Some(0), "{words}");
    let (code, words) = run(here, &["test", "--min-coverage", "100", FILE]);
    assert_eq!(code, Some(0), "{words}");
    let (code, words) = run(here, &["graph", FILE]);
    assert_eq!(code, Some(0), "{words}");
    assert!(words.contains("in seen_lately"), "{words}");
    let (code, words) = run(here, &["simulate", "--patients", "50", FILE]);
    assert_eq!(code, Some(0), "{words}");
    assert!(words.contains("no record by which segments"), "{words}");

    // Another folder's segments make another journey of the same file.
    let other = here.join("other");
    std::fs::create_dir(&other).expect("a folder");
    std::fs::copy(here.join(FILE), other.join(FILE)).expect("a copy");
    let shared = std::fs::read_to_string(here.join("segments.yaml")).expect("segments");
    let sooner = shared.replace("within: 12mo", "within: 6mo");
    std::fs::write(other.join("segments.yaml"), sooner).expect("written");
    let (code, words) = run(here, &["diff", FILE, &format!("other/{FILE}")]);
    assert_eq!(code, Some(1), "{words}");
    assert!(words.contains("segments.overdue_hba1c"), "{words}");
    assert!(words.contains("12mo") && words.contains("6mo"), "{words}");

    // What is wrong with them is told with their file's name and lines.
    let wrong = shared.replace("aged: {from: 18}", "aged: {}");
    std::fs::write(here.join("segments.yaml"), wrong).expect("written");
    for arguments in [
        &["check", "segments.yaml"][..],
        &["check", FILE],
        &["test", FILE],
    ] {
        let (code, words) = run(here, arguments);
        assert_eq!(code, Some(1), "{words}");
        assert!(words.contains("segments.yaml:10:"), "{words}");
        assert!(words.contains("J091"), "{words}");
    }
    std::fs::remove_file(here.join("segments.yaml")).expect("removed");
    let (code, words) = run(here, &["check", FILE]);
    assert_eq!(code, Some(1), "{words}");
    assert!(words.contains("J090"), "{words}");
}

/// What stands in connectors.yaml beside a journey is part of it for each command.
#[test]
fn connectors_beside_a_journey_are_taken_along() {
    const FILE: &str = "ride-by-connector.yaml";
    const SHARED: &str = "connectors.yaml";
    let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/journeys/recipes");
    let folder = tempfile::tempdir().expect("a folder");
    let here = folder.path();
    for name in [FILE, "ride-by-connector.test.yaml", SHARED] {
        std::fs::copy(recipes.join(name), here.join(name)).expect("a recipe");
    }
    for arguments in [
        &["check", FILE][..],
        &["check", SHARED],
        &["fmt", "--check", FILE, SHARED],
        &["test", "--min-coverage", "100", FILE],
        &["graph", FILE],
        &["simulate", "--patients", "50", FILE],
        &["export", FILE],
    ] {
        let (code, words) = run(here, arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {words}");
    }

    // Comments stay where they are, also where the form is not canonical.
    let shared = std::fs::read_to_string(here.join(SHARED)).expect("connectors");
    let wide = shared.replace(
        "    title: Order a ride\n",
        "    title: Order a ride   \n\n\n",
    );
    std::fs::write(here.join(SHARED), wide).expect("written");
    let (code, words) = run(here, &["fmt", SHARED]);
    assert_eq!(code, Some(0), "{words}");
    let formatted = std::fs::read_to_string(here.join(SHARED)).expect("connectors");
    let lines = |text: &str| {
        let lines = text.lines().filter(|line| !line.is_empty());
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(lines(&formatted), lines(&shared));

    // Another folder's connectors make another journey of the same file.
    let other = here.join("other");
    std::fs::create_dir(&other).expect("a folder");
    std::fs::copy(here.join(FILE), other.join(FILE)).expect("a copy");
    let later = shared.replace("path: /bookings", "path: /v2/bookings");
    std::fs::write(other.join(SHARED), later).expect("written");
    let (code, words) = run(here, &["diff", FILE, &format!("other/{FILE}")]);
    assert_eq!(code, Some(1), "{words}");
    assert!(
        words.contains("connectors.ride_booking.call.path"),
        "{words}"
    );
    assert!(words.contains("+ /v2/bookings"), "{words}");

    // What is wrong with them is told with their file's name and lines, and why it matters.
    let wrong = shared.replace("{input: phone, as: passenger.phone}", "{input: fone}");
    let at = wrong.lines().position(|line| line.contains("fone"));
    let at = format!("connectors.yaml:{}:24: error J086", at.expect("a line") + 1);
    std::fs::write(here.join(SHARED), wrong).expect("written");
    for arguments in [&["check", SHARED][..], &["check", FILE], &["test", FILE]] {
        let (code, words) = run(here, arguments);
        assert_eq!(code, Some(1), "{words}");
        assert!(words.contains(&at), "{at}: {words}");
    }
    let (_, words) = run(here, &["check", SHARED]);
    assert!(
        words.contains("why: A connector is checked by itself"),
        "{words}"
    );
    assert!(
        words.contains("see: docs/journeys/checks.md#j086-"),
        "{words}"
    );
    std::fs::remove_file(here.join(SHARED)).expect("removed");
    let (code, words) = run(here, &["check", FILE]);
    assert_eq!(code, Some(1), "{words}");
    assert!(
        words.contains("error J087: there is no connector"),
        "{words}"
    );

    // An editor sees by the schema what the checker would say of the form.
    let good = std::fs::read_to_string(here.join(FILE)).expect("the journey");
    let mut files = Vec::new();
    for (name, from, to) in [
        (
            "no-partner",
            "      connector: desk_note\n",
            "      path: /notes\n",
        ),
        (
            "both",
            "      connector: desk_note\n",
            "      connector: desk_note\n      path: /notes\n",
        ),
        ("with", "{patient: phone}", "{patient: phone, as: x}"),
        (
            "with-alone",
            "      connector: desk_note\n",
            "      partner: front-desk\n      path: /notes\n",
        ),
        (
            "beside",
            "      connector: desk_note\n",
            "      connector: desk_note\n      timeout_s: 5\n",
        ),
        (
            "values",
            "      connector: desk_note\n",
            "      connector: desk_note\n      values: {x: {is: y}}\n",
        ),
    ] {
        assert!(good.contains(from), "{name}");
        let path = here.join(format!("{name}.yaml"));
        std::fs::write(&path, good.replacen(from, to, 1)).expect("written");
        files.push(path);
    }
    for file in by_the_schema("journey", &files) {
        assert_ne!(file["wrong"], serde_json::json!([]), "{file}");
    }
    let path = here.join(SHARED);
    let wrong = shared.replacen("answer: booking", "learnt: ride.booking", 1);
    std::fs::write(&path, wrong).expect("written");
    for file in by_the_schema("connectors", &[path]) {
        assert_ne!(file["wrong"], serde_json::json!([]), "{file}");
    }
}

/// What is found stands where its author wrote it, also where lines of both files beside a journey come before it.
#[test]
fn findings_stand_where_they_were_written() {
    const FILE: &str = "ride-by-connector.yaml";
    let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/journeys/recipes");
    let folder = tempfile::tempdir().expect("a folder");
    let here = folder.path();
    let copy = |name: &str, change: &dyn Fn(String) -> String| {
        let text = std::fs::read_to_string(recipes.join(name)).expect("a recipe");
        let text = change(text);
        std::fs::write(here.join(name), &text).expect("written");
        text
    };
    let shared = copy("connectors.yaml", &|text| text);
    copy("segments.yaml", &|text| text);
    let place = |text: &str, at: &str| {
        let found = text.find(at).expect("it is there");
        let before = &text[..found];
        let begins = before.rfind('\n').map_or(0, |end| end + 1);
        format!(
            "{}:{}",
            before.matches('\n').count() + 1,
            found - begins + 1
        )
    };
    // Its own stand before its steps, and what is taken of the files beside it, too.
    let own = "segments:\n  mine:\n    title: Mine\n    all: [{aged: {from: 20}}]\nconnectors:\n  mine:\n    title: Mine\n    call: {partner: front-desk, path: /mine}\nexits:\n  out: {title: Out, segment: {left: overdue_hba1c}}\n";
    let journey = copy(FILE, &|text| {
        let text = text.replacen("exits:\n", own, 1);
        text.replacen("connector: desk_note", "connector: desk_nots", 1)
    });
    let (code, words) = run(here, &["check", FILE]);
    assert_eq!(code, Some(1), "{words}");
    let at = format!(
        "{FILE}:{}: error J087: there is no connector",
        place(&journey, "desk_nots")
    );
    assert!(words.contains(&at), "{at}: {words}");
    // A warning of what was taken stands in the file that it was taken of.
    let unused = shared.replacen(
        "      seat: {title",
        "      fax: {title: Fax, needed: false}\n      seat: {title",
        1,
    );
    std::fs::write(here.join("connectors.yaml"), &unused).expect("written");
    let journey = journey.replacen("desk_nots", "desk_note", 1);
    std::fs::write(here.join(FILE), &journey).expect("written");
    let (_, words) = run(here, &["check", FILE]);
    let at = format!(
        "connectors.yaml:{}: warning J086: `fax`",
        place(&unused, "fax: ")
    );
    assert!(words.contains(&at), "{at}: {words}");
    // A journey's own wins, and the commands say so, beside what they print.
    let wins = journey.replacen(
        "  mine:\n    title: Mine\n    call",
        "  desk_note:\n    title: Mine\n    call",
        1,
    );
    std::fs::write(here.join(FILE), &wins).expect("written");
    let (_, words) = run(here, &["check", "--terse", FILE]);
    let at = format!(
        "{FILE}:{}: warning J086: the shared file has",
        place(&wins, "desk_note:")
    );
    assert!(words.contains(&at), "{at}: {words}");
    // What can't be taken is told of the journey where that is why.
    let braces = journey.replacen(
        "connectors:\n  mine:\n    title: Mine\n    call: {partner: front-desk, path: /mine}\n",
        "connectors: {mine: {title: Mine, call: {partner: front-desk, path: /mine}}}\n",
        1,
    );
    assert_ne!(braces, journey);
    std::fs::write(here.join(FILE), &braces).expect("written");
    let (code, words) = run(here, &["check", FILE]);
    assert_eq!(code, Some(1), "{words}");
    let at = format!("{FILE}:{}: error J086", place(&braces, "{mine: {title"));
    assert!(words.contains(&at), "{at}: {words}");
}

/// The files of a folder whose names end so and not otherwise.
fn files(folder: &Path, wanted: impl Fn(&str) -> bool) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let files = entries.map(|entry| entry.expect("an entry").path());
    let named = |path: &std::path::PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.ends_with(".yaml") && wanted(name))
    };
    let mut files: Vec<_> = files.filter(named).collect();
    files.sort();
    files
}

/// What `jsonschema` finds wrong with files by the schema that the program prints.
fn by_the_schema(of: &str, files: &[std::path::PathBuf]) -> Vec<serde_json::Value> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = peer("jsonschema/bin/python");
    let folder = tempfile::tempdir().expect("a folder");
    let (code, schema) = run(folder.path(), &["schema", "--of", of]);
    assert_eq!(code, Some(0), "{schema}");
    let printed: serde_json::Value = serde_json::from_str(&schema).expect("JSON");
    assert_eq!(printed["$id"], format!("urn:cairn:schema:{of}"));
    let path = folder.path().join("schema.json");
    std::fs::write(&path, &schema).expect("written");
    let script = home.join("tests/server/clients/with_jsonschema.py");
    let mut command = std::process::Command::new(python);
    let output = command.arg(script).arg(path).args(files).output();
    let output = output.expect("python runs");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{words}");
    let text = String::from_utf8(output.stdout).expect("text");
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

#[test]
fn the_printed_schema_takes_what_comes_along_and_refuses_what_is_wrong() {
    let recipes = journeys().join("../docs/journeys/recipes");
    let is_plain = |name: &str| {
        let beside = [
            ".test.yaml",
            ".behaviour.yaml",
            "segments.yaml",
            "connectors.yaml",
        ];
        !beside.iter().any(|end| name.ends_with(end))
    };
    let both = |wanted: &dyn Fn(&str) -> bool| {
        let mut all = files(&journeys(), wanted);
        all.extend(files(&recipes, wanted));
        all
    };
    let plain = both(&is_plain);
    assert!(plain.len() > 12, "{plain:?}");
    for (of, files) in [
        ("journey", plain),
        ("segments", both(&|name| name == "segments.yaml")),
        ("connectors", both(&|name| name == "connectors.yaml")),
        ("scenarios", both(&|name| name.ends_with(".test.yaml"))),
        ("behaviour", both(&|name| name.ends_with(".behaviour.yaml"))),
    ] {
        assert!(!files.is_empty(), "{of}");
        let told = by_the_schema(of, &files);
        assert_eq!(told.len(), files.len());
        for file in told {
            assert_eq!(file["wrong"], serde_json::json!([]), "{file}");
        }
    }

    // What is wrong by its form is refused by both, the schema and the checker.
    let good = std::fs::read_to_string(journeys().join("heart-failure-discharge.yaml"));
    let good = good.expect("the journey");
    let folder = tempfile::tempdir().expect("a folder");
    let mut wrong = Vec::new();
    for (name, from, to) in [
        ("member", "remind_after:", "remind_aftr:"),
        ("missing", "at_most: 45d\n", ""),
        ("kind", "    send:\n", "    sned:\n"),
        ("list", "channels: [email, portal]", "channels: email"),
        ("channel", "channels: [email, portal]", "channels: [pigeon]"),
        ("purpose", "purpose: TREAT", "purpose: FUN"),
        ("duration", "at_most: 45d", "at_most: soon"),
    ] {
        let text = good.replacen(from, to, 1);
        assert_ne!(text, good, "{name}");
        let path = folder.path().join(format!("{name}.yaml"));
        std::fs::write(&path, text).expect("written");
        let (code, words) = run(folder.path(), &["check", &format!("{name}.yaml")]);
        assert_eq!(code, Some(1), "{name}: {words}");
        wrong.push(path);
    }
    for file in by_the_schema("journey", &wrong) {
        let found = file["wrong"].as_array().expect("a list");
        assert!(!found.is_empty(), "{file}");
    }
}

/// Beneath each finding stands why it matters and where its page is; editors get a line for each.
#[test]
fn findings_say_why_unless_a_tool_asks_for_lines() {
    const FILE: &str = "heart-failure-discharge.yaml";
    let same = |text: String| text;
    let broken = folder(
        |text| {
            text.replacen(
                "channels: [email, portal]",
                "channels: [email, portal]\n      email: {subject: Your heart failure, text: 'Read it: {link}'}",
                1,
            )
        },
        same,
    );
    let (code, words) = run(broken.path(), &["check", FILE]);
    assert_eq!(code, Some(1), "{words}");
    let lines: Vec<&str> = words.lines().collect();
    assert!(lines[0].contains(": error J017: "), "{words}");
    assert!(
        lines[1].starts_with("    why: ") && lines[1].len() > 40,
        "{words}"
    );
    assert_eq!(lines[2], "    see: docs/journeys/checks.md#j017-error");
    let (code, terse) = run(broken.path(), &["check", "--terse", FILE]);
    assert_eq!(code, Some(1), "{terse}");
    assert_eq!(terse.lines().collect::<Vec<_>>(), [lines[0]]);
}

#[test]
fn starters_are_listed_and_written_but_nothing_is_written_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let (code, words) = run(folder.path(), &["starters"]);
    assert_eq!(code, Some(0), "{words}");
    assert!(
        words.contains("colonoscopy-preparation      diet"),
        "{words}"
    );
    assert_eq!(words.lines().count(), journey::STARTERS.len());
    let write = ["starters", "--write", "own", "maternity", "maternity-loss"];
    let (code, words) = run(folder.path(), &write);
    assert_eq!(code, Some(0), "{words}");
    assert_eq!(words.lines().count(), 6, "{words}");
    let (code, words) = run(
        folder.path(),
        &["test", "--min-coverage", "100", "own/maternity.yaml"],
    );
    assert_eq!(code, Some(0), "{words}");
    let (code, words) = run(folder.path(), &write);
    assert_eq!(code, Some(1), "{words}");
    assert!(words.contains("can't write own/maternity.yaml"), "{words}");
    let (code, words) = run(folder.path(), &["starters", "maternitty"]);
    assert_eq!(code, Some(1), "{words}");
    assert!(words.contains("no starter `maternitty`"), "{words}");
}
