//! What regulations require, where it is implemented, and which tests prove it.
//!
//! The facts are data of the repository (`crates/cairn/compliance`) and built in: a profile for each
//! regulation, and `proofs.txt`, which the tests' markers (`// Proves: 45 CFR 164.312(b)`) are
//! collected into. A test keeps both current; CONTRIBUTING.md says how a test is marked. What a run
//! of the tests came to is read from the JUnit file that `cargo nextest` wrote.

mod evidence;
mod page;
mod report;

use std::collections::BTreeMap;

use serde::Deserialize;

pub use evidence::{Evidence, Outcome};
pub use page::page;
pub use report::{Report, report};

/// The profiles that are built in, by name.
const PROFILES: [(&str, &str); 3] = [
    ("us-hipaa", include_str!("../compliance/us-hipaa.toml")),
    (
        "us-hipaa-2025",
        include_str!("../compliance/us-hipaa-2025.toml"),
    ),
    (
        "us-42-cfr-part-2",
        include_str!("../compliance/us-42-cfr-part-2.toml"),
    ),
];
const PROOFS: &str = include_str!("../compliance/proofs.txt");

/// A regulation, or a form of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Short name, e.g. `us-hipaa`.
    pub name: String,
    /// What it is.
    pub title: String,
    /// What stands before a citation in a marker, e.g. `45 CFR`.
    pub regulation: String,
    /// What to know of it.
    pub note: String,
    /// Its requirements, in their order.
    #[serde(rename = "requirement")]
    pub requirements: Vec<Requirement>,
}

/// One requirement.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requirement {
    /// Where it stands, e.g. `164.312(b)`.
    pub citation: String,
    /// What it is about.
    pub title: String,
    /// What sort of requirement it is.
    pub kind: Sort,
    /// How much of it is here.
    pub coverage: Coverage,
    /// Where it is implemented: paths of the repository.
    #[serde(default)]
    pub paths: Vec<String>,
    /// Requirements that ask for the same, as markers have them: what proves one of them proves this one.
    #[serde(default)]
    pub like: Vec<String>,
    /// What Cairn does.
    #[serde(default)]
    pub does: String,
    /// What is left to the organisation, or not here yet.
    pub left: String,
}

/// What sort of requirement it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sort {
    /// A standard of the Security Rule.
    Standard,
    /// An implementation specification that is required.
    Required,
    /// An implementation specification that is addressable.
    Addressable,
    /// A provision of the Privacy Rule, or of 42 CFR part 2.
    Provision,
}

impl Sort {
    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Required => "required",
            Self::Addressable => "addressable",
            Self::Provision => "provision",
        }
    }
}

/// How much of a requirement is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Coverage {
    /// What software can do about it.
    Full,
    /// Some of that.
    Part,
    /// Nothing: software alone can't, or it is not here yet.
    None,
}

impl Coverage {
    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Part => "part",
            Self::None => "none",
        }
    }
}

/// A test, as `cargo nextest` names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Test {
    /// The binary that it is in, e.g. `cairn::server`.
    pub binary: String,
    /// Its name there, e.g. `policies::a_set_is_checked_tested_and_explained`.
    pub name: String,
}

/// Which tests prove which requirement: by the regulation and the citation, as a marker has them.
pub type Proofs = BTreeMap<String, Vec<Test>>;

/// The names of the profiles that are built in.
pub fn profiles() -> impl Iterator<Item = &'static str> {
    PROFILES.iter().map(|(name, _)| *name)
}

/// A profile that is built in.
///
/// # Errors
/// A sentence, if there is none of that name or its file isn't what it should be.
pub fn profile(name: &str) -> Result<Profile, String> {
    let text = PROFILES.iter().find(|(known, _)| *known == name);
    let (_, text) = text.ok_or_else(|| {
        let names: Vec<&str> = profiles().collect();
        format!("there is no profile {name}; there are {}", names.join(", "))
    })?;
    toml::from_str(text).map_err(|error| format!("the profile {name}: {error}"))
}

/// The proofs that are built in.
///
/// # Errors
/// A sentence, if a line isn't what it should be.
pub fn proofs() -> Result<Proofs, String> {
    let mut proofs = Proofs::new();
    for line in PROOFS.lines().filter(|line| !line.starts_with('#')) {
        let parts: Vec<&str> = line.split('\t').collect();
        let [requirement, binary, name] = parts[..] else {
            return Err(format!("proofs.txt: not three columns: {line}"));
        };
        proofs
            .entry(requirement.to_owned())
            .or_default()
            .push(Test {
                binary: binary.to_owned(),
                name: name.to_owned(),
            });
    }
    Ok(proofs)
}

/// Proofs as the text of `proofs.txt`.
#[must_use]
pub fn proofs_text(proofs: &Proofs) -> String {
    let mut text = String::from(
        "# Made from the markers in the tests: WRITE_DOCS=1 cargo nextest run -p cairn compliance\n",
    );
    for (requirement, tests) in proofs {
        for test in tests {
            text.push_str(&format!("{requirement}\t{}\t{}\n", test.binary, test.name));
        }
    }
    text
}

impl Profile {
    /// What a marker calls a requirement of this profile.
    #[must_use]
    pub fn marked(&self, requirement: &Requirement) -> String {
        format!("{} {}", self.regulation, requirement.citation)
    }

    /// The tests that prove a requirement, or one that it is like.
    #[must_use]
    pub fn tests<'a>(&self, requirement: &Requirement, proofs: &'a Proofs) -> Vec<&'a Test> {
        let own = self.marked(requirement);
        let marks = std::iter::once(&own).chain(&requirement.like);
        let mut tests: Vec<&Test> = marks
            .filter_map(|mark| proofs.get(mark))
            .flatten()
            .collect();
        tests.sort();
        tests.dedup();
        tests
    }

    /// What is wrong with the profile beside these proofs: requirements that claim tests and have
    /// none, or have some and claim none, and what is said twice or not at all.
    #[must_use]
    pub fn faults(&self, proofs: &Proofs) -> Vec<String> {
        let mut faults = Vec::new();
        let mut seen = std::collections::BTreeSet::new();
        for requirement in &self.requirements {
            let marked = self.marked(requirement);
            let mut fault = |words: &str| faults.push(format!("{marked}: {words}"));
            if !seen.insert(&requirement.citation) {
                fault("stands there twice");
            }
            if !is_citation(&requirement.citation) {
                fault("is no citation");
            }
            if requirement.title.is_empty() || requirement.left.is_empty() {
                fault("has no title, or does not say what is left");
            }
            let tests = self.tests(requirement, proofs).len();
            for like in &requirement.like {
                if !proofs.contains_key(like) {
                    fault("is like a requirement that no test is marked with");
                }
            }
            if requirement.coverage == Coverage::None {
                if tests > 0 || !requirement.paths.is_empty() || !requirement.does.is_empty() {
                    fault("is covered by nothing, and yet has tests, paths or deeds");
                }
            } else {
                if tests == 0 {
                    fault("claims to be covered, and no test is marked with it");
                }
                if requirement.paths.is_empty() || requirement.does.is_empty() {
                    fault("claims to be covered, and doesn't say where and how");
                }
            }
        }
        faults
    }
}

/// Whether a text has the form of a citation: a section, then paragraphs in brackets.
#[must_use]
pub fn is_citation(text: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let Some((part, rest)) = text.split_once('.') else {
        return false;
    };
    let (section, paragraphs) = rest.split_at(rest.find('(').unwrap_or(rest.len()));
    let is_paragraph = |text: &str| {
        text.strip_prefix('(').is_some_and(|text| {
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
        })
    };
    is_number(part)
        && is_number(section)
        && (paragraphs.is_empty()
            || paragraphs
                .strip_suffix(')')
                .is_some_and(|inner| inner.split(')').all(is_paragraph)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn citations() {
        for right in ["164.312(b)", "164.308(a)(1)(ii)(D)", "164.105"] {
            assert!(is_citation(right), "{right}");
        }
        for wrong in [
            "",
            "164",
            "312(b)",
            "164.312 (b)",
            "164.312(b",
            "164.312()",
            "164.(b)",
            "164.312(b)x",
        ] {
            assert!(!is_citation(wrong), "{wrong}");
        }
    }

    #[test]
    fn what_is_built_in_is_read() {
        assert!(proofs().is_ok_and(|proofs| proofs.len() > 20));
        for name in profiles() {
            let profile = profile(name).expect("the profile is read");
            assert_eq!(profile.name, name);
        }
    }

    #[test]
    fn claims_without_tests_and_tests_without_claims_are_faults() {
        let profile = |coverage: &str, paths: &str| {
            let text = format!(
                "name = 'x'\ntitle = 'X'\nregulation = '45 CFR'\nnote = ''\n[[requirement]]\ncitation = '164.312(b)'\ntitle = 'A'\nkind = 'standard'\ncoverage = '{coverage}'\npaths = [{paths}]\ndoes = '{}'\nleft = 'B'",
                if paths.is_empty() { "" } else { "C" },
            );
            toml::from_str::<Profile>(&text).expect("a profile")
        };
        let test = Test {
            binary: "b".to_owned(),
            name: "n".to_owned(),
        };
        let none = Proofs::new();
        let one = Proofs::from([("45 CFR 164.312(b)".to_owned(), vec![test])]);
        assert_eq!(profile("full", "'p'").faults(&one), Vec::<String>::new());
        assert_eq!(profile("none", "").faults(&none), Vec::<String>::new());
        for (wrong, proofs, words) in [
            (profile("full", "'p'"), &none, "no test is marked"),
            (profile("part", ""), &one, "where and how"),
            (profile("none", ""), &one, "covered by nothing"),
        ] {
            let faults = wrong.faults(proofs);
            assert!(faults.len() == 1 && faults[0].contains(words), "{faults:?}");
        }
    }
}
