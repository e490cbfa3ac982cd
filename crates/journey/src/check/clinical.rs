//! Fixed words that tell what somebody is treated for, where the channel isn't cleared for it.
//!
//! A list of words (`clinical.txt`), and what the journey says of itself: it finds what is known, and a word that it
//! doesn't know is not thereby harmless.

use super::Check;
use crate::units;
use crate::yaml::{Node, Place, inside};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::LazyLock;

const LIST: &str = include_str!("clinical.txt");

/// So many findings are told of one text, and of the rest how many there are.
const TOLD_MAX: usize = 5;
/// A German word of so many letters may begin a longer one.
const BEGINS_MIN: usize = 7;
/// Words of a title that are shorter say nothing by themselves.
const OWN_MIN: usize = 5;

/// What a word does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Does {
    /// It tells of a condition, a treatment or a department.
    Tells,
    /// It may.
    Hints,
}

/// A word of the list, or several in a row.
struct Term {
    words: Vec<String>,
    /// Whether it matches as it is written only.
    exact: bool,
    does: Does,
}

struct Terms {
    /// By the first word.
    by_first: HashMap<String, Vec<Term>>,
    /// Those that may begin a longer word.
    beginnings: Vec<(String, Does)>,
    plain: HashSet<String>,
}

static TERMS: LazyLock<Terms> = LazyLock::new(|| read(LIST));

fn read(list: &str) -> Terms {
    let mut terms = Terms {
        by_first: HashMap::new(),
        beginnings: Vec::new(),
        plain: HashSet::new(),
    };
    let lines = list.lines().map(str::trim);
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let mut columns = line.split('|').map(str::trim);
        let does = match columns.next() {
            Some("tells") => Some(Does::Tells),
            Some("hints") => Some(Does::Hints),
            _ => None,
        };
        for (language, column) in columns.enumerate() {
            for text in column.split(',').map(str::trim) {
                let exact = text.chars().skip(1).any(char::is_uppercase);
                let words: Vec<String> = words_of(text).map(|word| word.said(exact)).collect();
                let Some(first) = words.first().cloned() else {
                    continue;
                };
                let Some(does) = does else {
                    terms.plain.insert(first);
                    continue;
                };
                let alone = words.len() == 1;
                if language == 1 && alone && !exact && first.len() >= BEGINS_MIN {
                    terms.beginnings.push((first.clone(), does));
                }
                let of_first = terms.by_first.entry(first).or_default();
                of_first.push(Term { words, exact, does });
            }
        }
    }
    // Of those that begin alike the longest is told.
    for of_first in terms.by_first.values_mut() {
        of_first.sort_by_key(|term| std::cmp::Reverse(term.words.len()));
    }
    terms
}

/// A word of a text.
#[derive(Debug, Clone)]
struct Word<'a> {
    /// Where it begins, in characters.
    position: usize,
    text: &'a str,
    /// The same without what isn't seen.
    seen: String,
    folded: String,
}

impl Word<'_> {
    fn said(&self, exact: bool) -> String {
        if exact {
            self.seen.clone()
        } else {
            self.folded.clone()
        }
    }
}

/// The letters and digits of a text that stand together.
fn words_of(text: &str) -> impl Iterator<Item = Word<'_>> {
    let mut words = Vec::new();
    let mut start: Option<(usize, usize)> = None;
    let end = text.chars().count();
    let marks = text.char_indices().enumerate();
    let marks = marks.map(|(position, (byte, one))| (position, byte, one));
    for (position, byte, one) in marks.chain([(end, text.len(), ' ')]) {
        match (
            start,
            one.is_alphanumeric() || is_mark(one) || is_unseen(one),
        ) {
            (None, true) => start = Some((position, byte)),
            (Some((position, from)), false) => {
                let word = &text[from..byte];
                let seen: String = word.chars().filter(|one| !is_unseen(*one)).collect();
                let folded = fold(&seen);
                if !seen.is_empty() {
                    words.push(Word {
                        position,
                        text: word,
                        seen,
                        folded,
                    });
                }
                start = None;
            }
            _ => {}
        }
    }
    words.into_iter()
}

/// Whether it is a mark that stands by itself, after its letter.
fn is_mark(one: char) -> bool {
    ('\u{300}'..='\u{36f}').contains(&one)
}

/// Whether nothing of it is seen within a word: a soft hyphen, or a character without width.
fn is_unseen(one: char) -> bool {
    matches!(
        one,
        '\u{ad}' | '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}'
    )
}

/// Small letters without marks.
fn fold(word: &str) -> String {
    let mut folded = String::with_capacity(word.len());
    for one in word.chars().flat_map(char::to_lowercase) {
        match one {
            'à'..='å' => folded.push('a'),
            'ç' => folded.push('c'),
            'è'..='ë' => folded.push('e'),
            'ì'..='ï' => folded.push('i'),
            'ñ' => folded.push('n'),
            'ò'..='ö' | 'ø' => folded.push('o'),
            'ù'..='ü' => folded.push('u'),
            'ý' | 'ÿ' => folded.push('y'),
            'ß' => folded.push_str("ss"),
            'œ' => folded.push_str("oe"),
            'æ' => folded.push_str("ae"),
            mark if is_mark(mark) || is_unseen(mark) => {}
            other => folded.push(other),
        }
    }
    folded
}

/// The words that a word may be the plural of, itself first.
fn singulars(word: &str) -> Vec<String> {
    let mut all = vec![word.to_owned()];
    if let Some(stem) = word.strip_suffix("ies") {
        all.push(format!("{stem}y"));
    }
    // Of what ends by other letters short stems are other words.
    for (end, least) in [
        ("s", 3),
        ("es", 4),
        ("n", 4),
        ("en", 4),
        ("e", 4),
        ("er", 4),
    ] {
        if let Some(stem) = word.strip_suffix(end)
            && stem.len() >= least
        {
            all.push(stem.to_owned());
        }
    }
    all
}

fn is_one(word: &Word<'_>, term: &str, exact: bool) -> bool {
    if exact {
        return word.seen == term || word.seen.strip_suffix('s') == Some(term);
    }
    word.folded == term || singulars(&word.folded).iter().any(|one| one == term)
}

/// Something of a text that tells, or may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    /// Where it begins, in characters.
    pub(super) position: usize,
    /// As it stands there.
    pub(super) text: String,
    pub(super) does: Does,
}

fn told(words: &[Word<'_>], does: Does) -> Told {
    let text: Vec<&str> = words.iter().map(|word| word.text).collect();
    Told {
        position: words.first().map_or(0, |word| word.position),
        text: text.join(" "),
        does,
    }
}

/// Whether a language is German, of whichever country.
pub(super) fn is_german(language: &str) -> bool {
    let main = language.split(['-', '_']).next();
    main.is_some_and(|main| main.eq_ignore_ascii_case("de"))
}

/// What tells in a text, each once and in order. Words that begin others are those of German, so they do in `german`
/// text alone.
pub(super) fn telling(text: &str, german: bool) -> Vec<Told> {
    let words: Vec<Word<'_>> = words_of(text).collect();
    let mut found = Vec::new();
    let mut at = 0;
    while at < words.len() {
        match longest(&words[at..], german) {
            Some((length, does)) => {
                found.push(told(&words[at..at + length], does));
                at += length;
            }
            None => at += 1,
        }
    }
    let mut seen = HashSet::new();
    found.retain(|one| seen.insert(fold(&one.text)));
    found
}

/// The longest term that a row of words begins with, and what it does.
fn longest(words: &[Word<'_>], german: bool) -> Option<(usize, Does)> {
    let terms = &*TERMS;
    let word = words.first()?;
    let mut first = singulars(&word.folded);
    first.push(word.seen.clone());
    first.extend(word.seen.strip_suffix('s').map(str::to_owned));
    let matching = first
        .iter()
        .filter_map(|one| terms.by_first.get(one))
        .flatten()
        .filter(|term| {
            let enough = words.len() >= term.words.len();
            let mut pairs = words.iter().zip(&term.words);
            enough && pairs.all(|(word, wanted)| is_one(word, wanted, term.exact))
        });
    let whole = matching
        .map(|term| (term.words.len(), term.does))
        .max_by_key(|(length, does)| (*length, std::cmp::Reverse(*does)));
    whole.or_else(|| {
        let mut beginnings = terms.beginnings.iter().filter(|_| german);
        let begins = beginnings.find(|(beginning, _)| word.folded.starts_with(beginning));
        begins.map(|(_, does)| (1, *does))
    })
}

/// What the journey says of itself: titles, and the names of what its codes mean.
pub(super) struct Own {
    /// Words that say something by themselves, folded.
    words: BTreeSet<String>,
    /// Two in a row that do.
    pairs: BTreeSet<(String, String)>,
}

impl Own {
    fn of(titles: &[&str], names: &[String], parts: &[&str]) -> Self {
        let mut own = Self {
            words: BTreeSet::new(),
            pairs: BTreeSet::new(),
        };
        for title in titles
            .iter()
            .copied()
            .chain(names.iter().map(String::as_str))
        {
            own.words
                .extend(saying(title).filter(|word| word.len() >= OWN_MIN));
        }
        for title in titles.iter().chain(parts) {
            let words: Vec<String> = words_of(title).map(|word| word.folded).collect();
            for pair in words.windows(2) {
                if let [one, other] = pair
                    && says(one)
                    && says(other)
                {
                    own.pairs.insert((one.clone(), other.clone()));
                }
            }
        }
        own
    }

    fn in_text(&self, text: &str) -> Vec<Told> {
        let words: Vec<Word<'_>> = words_of(text).collect();
        let mut found = Vec::new();
        for (at, word) in words.iter().enumerate() {
            let alone = singulars(&word.folded);
            let next = words.get(at + 1);
            let pair = next.map(|next| (word.folded.clone(), next.folded.clone()));
            if pair.is_some_and(|pair| self.pairs.contains(&pair)) {
                found.push(told(&words[at..at + 2], Does::Hints));
            } else if alone.iter().any(|one| self.words.contains(one)) {
                found.push(told(&words[at..=at], Does::Hints));
            }
        }
        found
    }
}

/// Whether a word of a title says something.
fn says(folded: &str) -> bool {
    folded.len() >= 4
        && !folded.bytes().all(|byte| byte.is_ascii_digit())
        && !singulars(folded)
            .iter()
            .any(|one| TERMS.plain.contains(one))
}

fn saying(title: &str) -> impl Iterator<Item = String> {
    words_of(title)
        .map(|word| word.folded)
        .filter(|folded| says(folded))
}

/// The texts that conditions ask a `display` or a `text` for, which are words for what a code means.
fn displays(node: &Node, found: &mut Vec<String>) {
    if let Some(text) = node.text() {
        for name in ["display", "text"] {
            for (at, _) in text.match_indices(name) {
                let after = text[at + name.len()..].trim_start_matches([' ', '=', '~']);
                let after = after.strip_prefix(".contains(").unwrap_or(after);
                if let Some((value, _)) = after
                    .strip_prefix('\'')
                    .and_then(|text| text.split_once('\''))
                {
                    found.push(value.to_owned());
                }
            }
        }
    }
    let members = node.members().iter().map(|(_, member)| member);
    for inner in members.chain(node.items()) {
        displays(inner, found);
    }
}

/// What codes mean that a file names, as far as it is known.
fn names_of_codes(node: &Node, found: &mut Vec<String>) {
    for (key, member) in node.members() {
        match key.name.as_str() {
            "where" | "this" => displays(member, found),
            "code" => {
                let name = member.text().and_then(units::loinc_name);
                // "Glucose in blood" is glucose.
                found.extend(name.map(|name| name.split(" in ").next().unwrap_or(name).to_owned()));
            }
            _ => {}
        }
        names_of_codes(member, found);
    }
    for item in node.items() {
        names_of_codes(item, found);
    }
}

impl Check<'_, '_> {
    /// What words tell that stand elsewhere in the file and go out by an open channel too.
    pub(crate) fn open_words_of(&mut self, place: Place, text: &str, language: &str) {
        self.open_words(place, text, is_german(language));
    }

    /// What words of an open channel tell.
    pub(super) fn open_words(&mut self, place: Place, text: &str, german: bool) {
        let listed = telling(text, german);
        // The whole file is gone through once, however many texts there are.
        let own = self.own.get_or_init(|| self.own_words());
        let own = own.in_text(text).into_iter();
        let overlaps = |one: &Told| {
            let end = one.position + one.text.chars().count();
            let mut known = listed.iter();
            known.any(|known| {
                known.position < end && one.position < known.position + known.text.chars().count()
            })
        };
        let own: Vec<Told> = own.filter(|one| !overlaps(one)).collect();
        let listed = listed.into_iter().map(|one| (one, false));
        let own = own.into_iter().map(|one| (one, true));
        let mut all: Vec<(Told, bool)> = listed.chain(own).collect();
        all.sort_by_key(|(one, _)| (one.does, one.position));
        let left = all.len().saturating_sub(TOLD_MAX);
        if left > 0 {
            let words =
                format!("{left} more words here tell, or may tell, what somebody is treated for");
            self.findings.warning("J082", place, words);
        }
        for (one, own) in all.into_iter().take(TOLD_MAX) {
            let at = inside(self.findings.source, place, text, one.position);
            let word = &one.text;
            match (one.does, own) {
                (Does::Tells, _) => self.findings.error(
                    "J017",
                    at,
                    format!("“{word}” tells what somebody is treated for, and these words go over a channel that isn't cleared for PHI; say it in `words`, which are shown behind login, and send the link"),
                ),
                (Does::Hints, false) => self.findings.warning(
                    "J082",
                    at,
                    format!("“{word}” may tell what somebody is treated for, and these words go over a channel that isn't cleared for PHI; leave it out where it does"),
                ),
                (Does::Hints, true) => self.findings.warning(
                    "J082",
                    at,
                    format!("“{word}” is what the journey is about by its own titles or codes, and these words go over a channel that isn't cleared for PHI; leave it out where it tells what somebody is treated for"),
                ),
            }
        }
    }

    fn own_words(&self) -> Own {
        #[cfg(test)]
        WALKS.set(WALKS.get() + 1);
        let definition = self.definition;
        let segments = definition
            .segments
            .iter()
            .map(|segment| segment.title.as_str());
        let titles: Vec<&str> = [definition.title.as_str()]
            .into_iter()
            .chain(segments)
            .collect();
        let steps = definition.steps.iter().map(|step| step.title.as_str());
        let parts: Vec<&str> = steps.collect();
        let mut names = Vec::new();
        names_of_codes(self.root, &mut names);
        Own::of(&titles, &names, &parts)
    }
}

#[cfg(test)]
thread_local! {
    /// How often a file was gone through for what it says of itself.
    static WALKS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<(String, Does)> {
        let found = telling(text, true).into_iter();
        found.map(|one| (one.text, one.does)).collect()
    }

    #[test]
    fn words_are_found_whole_in_each_language_and_form() {
        use Does::{Hints, Tells};
        let table: &[(&str, &[(&str, Does)])] = &[
            (
                "Your HIV treatment and heart failure",
                &[
                    ("HIV", Tells),
                    ("treatment", Hints),
                    ("heart failure", Tells),
                ],
            ),
            ("Take your antiretrovirals", &[("antiretrovirals", Tells)]),
            ("HEART-FAILURE clinic", &[("HEART FAILURE", Tells)]),
            ("Ihre Herzinsuffizienz", &[("Herzinsuffizienz", Tells)]),
            (
                "Termin zur Chemotherapievorbereitung",
                &[("Chemotherapievorbereitung", Tells)],
            ),
            ("Su DIÁLISIS de mañana", &[("DIÁLISIS", Tells)]),
            ("Su dialisis", &[("dialisis", Tells)]),
            (
                "Insuffisances cardiaques",
                &[("Insuffisances cardiaques", Tells)],
            ),
            ("de\u{301}pression", &[("de\u{301}pression", Tells)]),
            ("Knee replacements", &[("Knee replacements", Tells)]),
            ("Biopsies", &[("Biopsies", Tells)]),
            ("AIDS", &[("AIDS", Hints)]),
            // Plurals of short words, and of those in capitals.
            ("Your hips", &[("hips", Hints)]),
            ("STIs", &[("STIs", Hints)]),
            ("MRIs", &[("MRIs", Hints)]),
            // What isn't seen hides nothing.
            ("onco\u{ad}logy", &[("onco\u{ad}logy", Tells)]),
            ("H\u{200b}I\u{2060}V", &[("H\u{200b}I\u{2060}V", Tells)]),
            (
                "\u{feff}heart fail\u{200d}ure",
                &[("\u{feff}heart fail\u{200d}ure", Tells)],
            ),
            ("\u{200b} \u{ad}", &[]),
            // Within other words, and words that are written alike, they are none.
            ("Hearing aids, stents-free", &[("stents", Tells)]),
            ("This aids you. Cancerland, asthmatically, hearty", &[]),
            ("There is something new for you to read: {link}", &[]),
            ("A message from your care team", &[]),
            ("Your next visit", &[]),
            ("Ihr nächster Termin", &[]),
            ("Léalo aquí, por favor", &[]),
            ("Votre prochain rendez-vous", &[]),
        ];
        for (text, expected) in table {
            let found = of(text);
            let found: Vec<_> = found
                .iter()
                .map(|(text, does)| (text.as_str(), *does))
                .collect();
            assert_eq!(found, *expected, "{text}");
        }
    }

    /// What may be harmless is told and stops nothing, and German words begin none of other languages.
    #[test]
    fn words_that_may_mean_something_else_only_hint() {
        let tells = |text: &str, german| {
            let found = telling(text, german).into_iter();
            found.map(|one| one.does).min()
        };
        for text in [
            "Your bill: CHF 50",
            "Ihr Termin bei Dr. Krebs",
            "Your visit with Dr. Parkinson",
            "Votre visite chez le Dr Crohn",
            "Covid: please wear a mask",
            "HEARING AIDS READY",
            "For day trippers",
            "At the stroke of noon",
            "Le rendez-vous est dans l'enceinte de l'hôpital",
            "Entrada por la calle Cataratas",
            "Bring lithium batteries for the scale",
        ] {
            assert_eq!(tells(text, false), Some(Does::Hints), "{text}");
        }
        for text in [
            "A morphing picture",
            "Rheumatoidly",
            "Insulinde",
            "Depressionism",
        ] {
            assert_eq!(tells(text, false), None, "{text}");
        }
        assert_eq!(tells("Morphingabe", true), Some(Does::Tells));
        for text in [
            "Your stroke clinic",
            "Parkinson's disease",
            "Ihre Krebserkrankung",
            "Brustkrebs",
            "Living with HIV",
        ] {
            assert_eq!(tells(text, false), Some(Does::Tells), "{text}");
        }
        for (language, german) in [
            ("de", true),
            ("de-CH", true),
            ("DE", true),
            ("den", false),
            ("en", false),
        ] {
            assert_eq!(is_german(language), german, "{language}");
        }
    }

    /// A file of many texts is gone through once for all of them.
    #[test]
    fn a_file_says_of_itself_once() {
        let send = |n: usize| {
            let next = if n == 60 {
                "end".to_owned()
            } else {
                format!("s{}", n + 1)
            };
            format!(
                "  s{n}: {{title: Note, send: {{title: Note, words: Note, channels: [email, portal], email: {{subject: Note, text: 'At {{link}}'}}}}, next: {next}}}\n"
            )
        };
        let steps: String = (1..=60).map(send).collect();
        let source = format!(
            "name: many\ntitle: A journey\nowner: Team\npurpose: TREAT\nat_most: 60d\nentry:\n  event: Encounter\n  where: status = 'finished'\n  anchors: {{discharge: period.end}}\n  within: 3d\n  per: event\nexits:\n  death: {{title: Died, event: Patient, where: deceased.exists()}}\n  consent: {{title: Consent withdrawn, consent: withdrawn}}\nstart: s1\nsteps:\n{steps}"
        );
        let before = WALKS.get();
        let (definition, found) = crate::check::compile(&source);
        assert!(definition.is_some(), "{found:?}");
        assert_eq!(WALKS.get() - before, 1);
        crate::check::read(&source);
        assert_eq!(
            WALKS.get() - before,
            1,
            "what only reads a file looks at no words"
        );
    }

    /// A line that says something else than the reader takes it for would be no word at all.
    #[test]
    fn each_line_of_the_list_is_whole() {
        let lines = LIST.lines().map(str::trim);
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let columns: Vec<&str> = line.split('|').map(str::trim).collect();
            assert_eq!(columns.len(), 5, "{line}");
            assert!(matches!(columns[0], "tells" | "hints" | "plain"), "{line}");
            for word in columns[1..].iter().flat_map(|column| column.split(',')) {
                assert!(!word.trim().is_empty(), "{line}");
                if columns[0] != "plain" {
                    assert!(!telling(word.trim(), false).is_empty(), "{word}");
                }
            }
        }
    }
}
