//! Given names and their short forms, out of `data/nicknames.txt`: a line for each full name (with
//! spellings of it), followed by what people who have it are called. English names.

use std::collections::HashMap;
use std::sync::LazyLock;

/// Which lines a name stands in.
static GROUPS: LazyLock<HashMap<&'static str, Vec<u16>>> = LazyLock::new(|| {
    let mut groups: HashMap<&'static str, Vec<u16>> = HashMap::new();
    for (line, names) in (0..).zip(include_str!("../../data/nicknames.txt").lines()) {
        for name in names.split(' ') {
            groups.entry(name).or_default().push(line);
        }
    }
    groups
});

/// Whether two given names, in the form of [`super::normal::words`], may be of one person because one
/// is short for the other or both for a third.
#[must_use]
pub fn are_related(one: &str, other: &str) -> bool {
    let (Some(ones), Some(others)) = (GROUPS.get(one), GROUPS.get(other)) else {
        return false;
    };
    ones.iter().any(|line| others.contains(line))
}

/// The full names (the first of each line) that a name may stand for; none where it isn't known.
pub fn full_names(name: &str) -> impl Iterator<Item = &'static str> {
    static FIRSTS: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
        include_str!("../../data/nicknames.txt")
            .lines()
            .filter_map(|line| line.split(' ').next())
            .collect()
    });
    GROUPS
        .get(name)
        .into_iter()
        .flatten()
        .filter_map(|line| FIRSTS.get(usize::from(*line)).copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_forms_are_known_both_ways() {
        for (one, other, expected) in [
            ("william", "bill", true),
            ("bill", "william", true),
            ("bill", "will", true),
            ("elizabeth", "betty", true),
            ("william", "robert", false),
            ("xyz", "william", false),
        ] {
            assert_eq!(are_related(one, other), expected, "{one} {other}");
        }
        assert_eq!(full_names("bob").collect::<Vec<_>>(), ["robert"]);
    }
}
