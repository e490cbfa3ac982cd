//! The canonical form: it means the same, keeps comments, and is a form that stays.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "a test says by failing what went wrong"
)]

use journey::format;
use proptest::prelude::*;
use std::fs;

fn visible(text: &str) -> Vec<String> {
    let lines = text.lines().map(|line| line.trim().to_owned());
    let mut lines: Vec<String> = lines.filter(|line| !line.is_empty()).collect();
    lines.sort_unstable();
    lines
}

#[test]
fn files_become_canonical() {
    let table = [
        (
            "nothing to do",
            "name: x\ntitle: y\n",
            "name: x\ntitle: y\n",
        ),
        (
            "ends of lines",
            "name: x  \r\ntitle: y",
            "name: x\ntitle: y\n",
        ),
        (
            "a carriage return alone ends a line for YAML: left as it is",
            "title: y  \r# b\rname: x\n",
            "title: y  \r# b\rname: x\n",
        ),
        (
            "blank lines",
            "\n\nname: x\n\n\n\ntitle: y\n\n",
            "name: x\n\ntitle: y\n",
        ),
        (
            "four columns become two",
            "steps:\n    a:\n        title: A\n",
            "steps:\n  a:\n    title: A\n",
        ),
        (
            "items stand to the right",
            "steps:\n  a:\n    channels:\n    - email\n    - portal\n",
            "steps:\n  a:\n    channels:\n      - email\n      - portal\n",
        ),
        (
            "members of items",
            "q:\n-   id: a\n    text: A\n",
            "q:\n  -   id: a\n      text: A\n",
        ),
        (
            "comments stand with what is below",
            "steps:\n    # About a.\n    a:\n        title: A # here\n",
            "steps:\n  # About a.\n  a:\n    title: A # here\n",
        ),
        (
            "words that go on move along",
            "a:\n    words: >-\n        one\n        two\n    b: c\n",
            "a:\n  words: >-\n      one\n      two\n  b: c\n",
        ),
        (
            "the first members have an order",
            "# About the file.\n\nsteps:\n  a: {}\n# Its name.\nname: x\n",
            "# About the file.\n\n# Its name.\nname: x\n\nsteps:\n  a: {}\n",
        ),
        (
            "words keep their blank lines",
            "a: |\n  one\n\n\n  two\n",
            "a: |\n  one\n\n\n  two\n",
        ),
        (
            "a sharp in words is no comment",
            "a:\n    b: |\n        # one\n    c: '# two'\n",
            "a:\n  b: |\n      # one\n  c: '# two'\n",
        ),
        (
            "braces stay",
            "a: {b: 1,\n   c: 2}\n",
            "a: {b: 1,\n   c: 2}\n",
        ),
    ];
    for (name, source, expected) in table {
        let once = format(source).unwrap();
        assert_eq!(once, expected, "{name}");
        assert_eq!(format(&once).unwrap(), once, "{name}, again");
    }
    let findings = format("a: [b\n").unwrap_err();
    assert_eq!((findings[0].code.as_str(), findings[0].line), ("J001", 1));
}

#[test]
fn the_journey_that_comes_along_is_canonical() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../journeys/heart-failure-discharge.yaml"
    );
    let source = fs::read_to_string(path).unwrap();
    assert_eq!(format(&source).unwrap(), source);
}

/// A piece of a file: members, lists, words and comments, as deep as it goes.
fn block(depth: u32) -> BoxedStrategy<Vec<String>> {
    let leaf = prop_oneof![
        "[a-z]{1,6}".prop_map(|word| vec![format!("= {word}")]),
        Just(vec!["= {a: 1, b: [2]}".to_owned()]),
        Just(vec![
            "= |".to_owned(),
            "  one".to_owned(),
            "    # two".to_owned(),
            String::new(),
            "  three".to_owned()
        ]),
        Just(vec![
            "= >-".to_owned(),
            "  one".to_owned(),
            "  two  ".to_owned()
        ]),
    ];
    if depth == 0 {
        return leaf.boxed();
    }
    let member = (block(depth - 1), 1..4usize, any::<bool>(), any::<bool>());
    let map = prop::collection::vec(member, 1..4);
    (map, any::<bool>())
        .prop_map(|(members, list)| {
            let mut lines = vec!["=".to_owned()];
            for (index, (value, wide, comment, blank)) in members.into_iter().enumerate() {
                let pad = " ".repeat(if list { 2 } else { wide + 1 });
                let first = if list {
                    "  -".to_owned()
                } else {
                    format!("  k{index}:")
                };
                if comment {
                    lines.push("  # A comment.".to_owned());
                }
                if blank {
                    lines.push(String::new());
                }
                lines.push(format!("{first}{}", value[0].trim_start_matches('=')));
                lines.extend(value[1..].iter().map(|line| {
                    if line.is_empty() {
                        line.clone()
                    } else {
                        format!("{}{pad}{line}", "  ")
                    }
                }));
            }
            lines
        })
        .boxed()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn whatever_the_file_its_form_stays_and_its_lines_are_kept(lines in block(3)) {
        let source = lines[1..].iter().map(|line| format!("{line}\n")).collect::<String>();
        // What isn't YAML is refused, which is told elsewhere.
        if let Ok(once) = format(&source) {
            prop_assert_eq!(visible(&once), visible(&source));
            prop_assert_eq!(format(&once).unwrap(), once);
        }
    }
}
