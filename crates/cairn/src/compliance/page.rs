//! A profile as a page of the documentation.

use std::fmt::Write as _;

use super::{Coverage, Profile, Proofs};

/// The page of a profile, in Markdown.
#[must_use]
pub fn page(profile: &Profile, proofs: &Proofs) -> String {
    let mut out = String::new();
    // Writing into a text can't fail.
    let _ = write!(
        out,
        "# {}\n\n{}\n\nThis page is made from `crates/cairn/compliance/{}.toml` and from markers in the tests (`WRITE_DOCS=1 cargo nextest run -p cairn compliance`); a test fails where it isn't current, where a path isn't there, and where a requirement claims to be covered and no test is marked with it. `cairn compliance report` prints it with what the last run of the tests came to. How a test is marked is in [CONTRIBUTING.md](../../CONTRIBUTING.md).\n\nA test proves what it tries. Nothing here says that an organisation that uses Cairn complies: what software alone can't do is said with each requirement.\n\n*full*: what software can do about it is here. *part*: some of it. *none*: software alone can't do it, or it is not here yet.\n\n| requirement | about | kind | here | tests |\n|---|---|---|---|---|\n",
        profile.title, profile.note, profile.name
    );
    for requirement in &profile.requirements {
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} |",
            requirement.citation,
            requirement.title,
            requirement.kind.name(),
            requirement.coverage.name(),
            profile.tests(requirement, proofs).len(),
        );
    }
    for requirement in &profile.requirements {
        let _ = write!(
            out,
            "\n## {} {}\n\n{}, here: {}.",
            requirement.citation,
            requirement.title,
            capital(requirement.kind.name()),
            requirement.coverage.name()
        );
        if !requirement.does.is_empty() {
            let _ = write!(out, " {}", requirement.does);
        }
        if requirement.left != "-" {
            let _ = write!(out, "\n\nLeft: {}", requirement.left);
        }
        out.push('\n');
        if requirement.coverage == Coverage::None {
            continue;
        }
        let paths: Vec<String> = (requirement.paths.iter())
            .map(|path| format!("[`{path}`](../../{path})"))
            .collect();
        let _ = writeln!(out, "\nWhere: {}\n\nProved by:\n", paths.join(", "));
        if !requirement.like.is_empty() {
            let like = requirement.like.join(", ");
            let _ = writeln!(out, "- what proves {like}, among the following");
        }
        for test in profile.tests(requirement, proofs) {
            let _ = writeln!(out, "- `{}` `{}`", test.binary, test.name);
        }
    }
    out
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}
