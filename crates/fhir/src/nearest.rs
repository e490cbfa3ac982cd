//! The name that somebody who misspelt one meant.

/// The nearest of some names, if it is near enough to be meant: a third of its letters may be others, added, left out
/// or swapped with their neighbours.
pub fn nearest<'a>(name: &str, among: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    among
        .map(|candidate| (strsim::osa_distance(name, candidate), candidate))
        .filter(|(distance, candidate)| {
            let letters = candidate.chars().count().max(name.chars().count());
            *distance <= (letters / 3).max(1)
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The same as the end of a sentence, where there is one.
#[must_use]
pub fn suggestion<'a>(name: &str, among: impl Iterator<Item = &'a str>) -> String {
    nearest(name, among).map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn near_names_are_suggested() {
        let among = ["send", "ask", "remind_after", "give_up_after"];
        for (name, expected) in [
            ("sned", Some("send")),
            ("remind_aftr", Some("remind_after")),
            ("zzz", None),
            ("aks", Some("ask")),
        ] {
            assert_eq!(nearest(name, among.into_iter()), expected, "{name}");
        }
    }
}
