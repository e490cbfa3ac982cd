//! What the page of the checker's codes says of one, for whoever has the program alone.

const PAGE: &str = include_str!("../../../../docs/journeys/checks.md");
/// Where the page is among the sources.
const AT: &str = "docs/journeys/checks.md";
/// Of a first sentence that is shorter the next belongs to it.
const SHORT: usize = 40;

/// Why a code of the checker matters, in a sentence or two, and where its page is: `docs/journeys/checks.md#…`. Nothing
/// for what is no code.
#[must_use]
pub fn why(code: &str) -> Option<(&'static str, String)> {
    let heading = format!("## {code} ");
    let start = PAGE.find(&heading)?;
    let (line, section) = PAGE[start..].split_once('\n')?;
    let section = section.split("\n## ").next()?;
    let text = section.lines().find(|line| line.starts_with("**"))?;
    let (_, text) = text.trim_start_matches('*').split_once("** ")?;
    let ends = text.match_indices(". ").map(|(at, _)| at + 1);
    // What follows a sentence begins with a capital letter, or with what is in the file.
    let ends = ends.filter(|end| {
        text[*end..]
            .trim_start()
            .starts_with(|c: char| c.is_uppercase() || c == '`')
    });
    let end = ends.into_iter().find(|end| *end >= SHORT);
    Some((
        &text[..end.unwrap_or(text.len())],
        format!("{AT}#{}", anchor(line)),
    ))
}

/// The anchor that a heading has where Markdown is shown.
fn anchor(heading: &str) -> String {
    let heading = heading.trim_start_matches(['#', ' ']).to_lowercase();
    let kept = heading
        .chars()
        .filter(|one| one.is_alphanumeric() || matches!(one, ' ' | '-'));
    kept.map(|one| if one == ' ' { '-' } else { one }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_says_why_and_where() {
        for (code, _) in crate::CODES {
            let (why, page) = why(code).unwrap_or_else(|| panic!("{code}"));
            assert!(why.len() >= 30 && why.len() <= 320, "{code}: {why}");
            assert!(why.ends_with('.'), "{code}: {why}");
            let anchor = page.strip_prefix("docs/journeys/checks.md#").unwrap();
            assert!(anchor.starts_with(&code.to_lowercase()), "{code}: {page}");
        }
        assert_eq!(why("J999"), None);
        let (_, page) = why("J014").unwrap();
        assert_eq!(
            page,
            "docs/journeys/checks.md#j014-error-sometimes-a-warning"
        );
    }
}
