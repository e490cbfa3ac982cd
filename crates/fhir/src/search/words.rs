//! `_text` and `_content` (R4, section 3.1.1.4.11): words of the narrative, and words of the whole content.
//!
//! R4 leaves open what exactly matches. Here each word that is asked for has to be the beginning of a word
//! of the text, whatever its case and accents, as in searches by string. There is no index of words: a
//! clause is a check of opened resources.
use super::query::{OPERANDS_MAX, bad, unescape};
use super::{Clause, Condition, Link, Operand, ParameterKind, SearchQuery, normalise};
use crate::{IssueCode, OperationOutcome, Resource};
use serde_json::Value;
use std::collections::BTreeSet;

/// The most words of a search, whatever they are asked of: each is held against all words of a text.
const WORDS_MAX: usize = 20;

/// Words that have to be there together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words(BTreeSet<String>);

/// What is read of a resource for a parameter of words.
pub(super) fn is_of_words(parameter: &str) -> bool {
    matches!(parameter, "_text" | "_content")
}

/// Reads the value of `_text` or `_content`.
pub(super) fn clause(name: &str, parts: &[String]) -> Result<Clause, OperationOutcome> {
    if name.contains(':') {
        let words = "has a modifier, and takes none";
        return Err(bad(IssueCode::NotSupported, name, words));
    }
    if parts.len() > OPERANDS_MAX {
        let words = format!("has more than {OPERANDS_MAX} alternatives");
        return Err(bad(IssueCode::TooLong, name, words));
    }
    let mut operands = Vec::with_capacity(parts.len());
    for part in parts {
        let mut words = BTreeSet::new();
        each_word(&unescape(part), &mut |word| {
            words.insert(word.to_owned());
        });
        if words.is_empty() {
            return Err(bad(IssueCode::Value, name, "has no words"));
        }
        operands.push(Operand::Words(Words(words)));
    }
    Ok(Clause {
        parameter: name.to_owned(),
        own: None,
        kind: ParameterKind::Special,
        modifier: None,
        operands,
    })
}

/// Whether the words of a clause are those of a resource.
pub(super) fn matches(clause: &Clause, resource: &Resource) -> bool {
    let mut left: Vec<BTreeSet<&str>> = Vec::with_capacity(clause.operands.len());
    for operand in &clause.operands {
        if let Operand::Words(Words(words)) = operand {
            left.push(words.iter().map(String::as_str).collect());
        }
    }
    let mut found = false;
    let mut see = |text: &str| {
        if found {
            return;
        }
        each_word(text, &mut |word| {
            for wanted in &mut left {
                wanted.retain(|beginning| !word.starts_with(beginning));
                found |= wanted.is_empty();
            }
        });
    };
    if let Some(narrative) = resource.at(&["text", "div"]).and_then(Value::as_str) {
        see(&plain(narrative));
    }
    if clause.parameter == "_content" {
        each_text(resource.as_value(), &mut see);
    }
    found
}

impl SearchQuery {
    /// Whether whole texts are read to answer it, which takes longer than looking at values. What is in
    /// links doesn't count.
    #[must_use]
    pub fn reads_texts(&self) -> bool {
        let reads = |clause: &Clause| is_of_words(&clause.parameter);
        let mut conditions = self.conditions.iter();
        self.clauses.iter().any(reads) || conditions.any(|one| one.any_clause(&reads))
    }

    /// Refuses more words than a search has, those of links and of all alternatives together; those of a
    /// link to several types count once.
    pub(super) fn check_words(&self) -> Result<(), OperationOutcome> {
        let words = self.words();
        if words > WORDS_MAX {
            let words = format!(
                "a search has at most {WORDS_MAX} words in `_text` and `_content` together, and this one has {words}"
            );
            return Err(OperationOutcome::error(IssueCode::TooLong, words));
        }
        Ok(())
    }

    fn words(&self) -> usize {
        let links = self.links.iter();
        self.clauses.iter().map(words).sum::<usize>()
            + self.conditions.iter().map(Condition::words).sum::<usize>()
            + links.map(Link::words).sum::<usize>()
    }
}

impl Condition {
    fn words(&self) -> usize {
        match self {
            Self::Clause(clause) => words(clause),
            Self::All(parts) | Self::Any(parts) => parts.iter().map(Self::words).sum(),
            Self::Not(part) => part.words(),
            Self::Link(link) => link.words(),
        }
    }
}

impl Link {
    fn words(&self) -> usize {
        let queries = self.queries.iter().map(SearchQuery::words);
        queries.max().unwrap_or(0)
    }
}

fn words(clause: &Clause) -> usize {
    let of = |operand: &Operand| match operand {
        Operand::Words(Words(words)) => words.len(),
        _ => 0,
    };
    clause.operands.iter().map(of).sum()
}

/// Calls `sink` with each word of a text, folded.
fn each_word(text: &str, sink: &mut dyn FnMut(&str)) {
    let folded = normalise(text);
    let words = folded.split(|letter: char| !letter.is_alphanumeric());
    words.filter(|word| !word.is_empty()).for_each(sink);
}

/// Calls `sink` with each text of a resource but the narrative and what is no text: base64, and what the
/// store says of it.
fn each_text(value: &Value, sink: &mut dyn FnMut(&str)) {
    match value {
        Value::String(text) => sink(text),
        Value::Array(items) => items.iter().for_each(|item| each_text(item, sink)),
        Value::Object(members) => {
            let told = |name: &str| matches!(name, "resourceType" | "id" | "meta" | "div" | "data");
            for (_, value) in members.iter().filter(|(name, _)| !told(name)) {
                each_text(value, sink);
            }
        }
        _ => {}
    }
}

/// The text of XHTML: without tags, each of which ends a word, and with entities as what they mean.
fn plain(narrative: &str) -> String {
    let mut text = String::with_capacity(narrative.len());
    let mut rest = narrative;
    while let Some(at) = rest.find(['<', '&']) {
        text.push_str(&rest[..at]);
        let (end, meant) = if rest[at..].starts_with('<') {
            ('>', None)
        } else {
            (';', Some(()))
        };
        let Some(length) = rest[at..].find(end) else {
            rest = &rest[at + 1..];
            continue;
        };
        if meant.is_some() {
            text.push(entity(&rest[at + 1..at + length]));
        } else {
            text.push(' ');
        }
        rest = &rest[at + length + 1..];
    }
    text.push_str(rest);
    text
}

/// What an entity means. Those that XML doesn't know are no letters in any word that is looked for.
fn entity(name: &str) -> char {
    let number = name
        .strip_prefix('#')
        .and_then(|number| match number.strip_prefix(['x', 'X']) {
            Some(digits) => u32::from_str_radix(digits, 16).ok(),
            None => number.parse().ok(),
        });
    match (name, number.and_then(char::from_u32)) {
        (_, Some(letter)) => letter,
        ("amp", _) => '&',
        ("lt", _) => '<',
        ("gt", _) => '>',
        ("quot", _) => '"',
        ("apos", _) => '\'',
        _ => ' ',
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ResourceType;
    use serde_json::json;

    #[test]
    fn words_are_found_where_they_stand() {
        let value = json!({"resourceType": "Condition", "id": "hidden", "code": {"text": "Heart failure"},
            "note": [{"text": "Übelkeit am Morgen"}], "meta": {"tag": [{"code": "secret"}]},
            "text": {"status": "generated", "div": "<div xmlns=\"http://www.w3.org/1999/xhtml\"><p>Herz&shy;insuffizienz &amp; M&#252;digkeit</p><p>seit<b>Mai</b></p></div>"}});
        let resource = Resource::from_value(value).unwrap();
        for (name, value, matches) in [
            ("_text", "mudigkeit", true),
            ("_text", "MÜDIG", true),
            ("_text", "digkeit", false),
            ("_text", "mai müdigkeit", true),
            ("_text", "mai juni", false),
            ("_text", "juni,mai", true),
            // Tags and their attributes are no words.
            ("_text", "xhtml", false),
            ("_text", "seitmai", false),
            ("_text", "ubelkeit", false),
            ("_content", "ubelkeit mudigkeit", true),
            ("_content", "heart failure", true),
            ("_content", "hidden", false),
            ("_content", "secret", false),
            ("_content", "condition", false),
        ] {
            let pair = [(name.to_owned(), value.to_owned())];
            let query = SearchQuery::parse(ResourceType::Condition, &pair, false).unwrap();
            assert!(query.reads_texts());
            assert_eq!(query.matches(&resource), matches, "{name}={value}");
        }
        for (name, value) in [
            ("_text", ""),
            ("_text", "a,"),
            ("_content", "..."),
            ("_text:not", "a"),
        ] {
            let pair = [(name.to_owned(), value.to_owned())];
            assert!(
                SearchQuery::parse(ResourceType::Condition, &pair, false).is_err(),
                "{name}={value}"
            );
        }
    }

    #[test]
    fn a_search_has_so_many_words() {
        let words = |from: usize, to: usize| {
            let words: Vec<String> = (from..to).map(|place| format!("w{place}")).collect();
            words.join(" ")
        };
        let ask = |pairs: &[(&str, String)]| {
            let pairs = pairs.iter();
            let pairs: Vec<(String, String)> = pairs
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect();
            SearchQuery::parse(ResourceType::Observation, &pairs, false)
        };
        let linked = "subject:Patient._content";
        assert!(ask(&[("_text", words(0, 10)), ("_content", words(0, 10))]).is_ok());
        assert!(ask(&[("_text", words(0, 20).replace(' ', ","))]).is_ok());
        assert!(ask(&[(linked, words(0, 20))]).is_ok());
        for pairs in [
            vec![("_text", words(0, 21))],
            vec![("_content", words(0, 21).replace(' ', ","))],
            vec![("_text", words(0, 10)), ("_content", words(0, 11))],
            vec![("_text", words(0, 10)), (linked, words(0, 11))],
        ] {
            let refused = ask(&pairs).unwrap_err().to_string();
            assert!(refused.contains("has 21"), "{refused}");
        }
    }

    #[test]
    fn broken_narratives_are_read_as_far_as_they_go() {
        for (narrative, text) in [
            ("a<b", "ab"),
            ("a & b", "a  b"),
            ("<div>x</div", " x/div"),
            ("&#x110000;&#65;&bogus;", " A "),
            ("", ""),
        ] {
            assert_eq!(plain(narrative), text, "{narrative}");
        }
    }
}
