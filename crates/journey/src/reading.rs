//! How hard a text is to read, as a school grade. Pure.
//!
//! English: the grade of Flesch and Kincaid (Kincaid et al. 1975, Navy Research Branch Report 8-75), syllables
//! counted by groups of vowels. Other languages: Anderson's rate of long words, RIX, which needs no syllables, and
//! its table of grades (Anderson 1983, "Lix and Rix", Journal of Reading 26).

/// Fewer words say nothing about how a text reads.
const WORDS_MIN: usize = 10;
/// From so many letters on a word is long (RIX).
const LONG: usize = 7;
/// RIX from which on a text is of a grade, the highest first; below the last it is of the first grade.
const RIX: [(f64, u8); 12] = [
    (7.2, 13),
    (6.2, 12),
    (5.3, 11),
    (4.5, 10),
    (3.7, 9),
    (3.0, 8),
    (2.4, 7),
    (1.8, 6),
    (1.3, 5),
    (0.8, 4),
    (0.5, 3),
    (0.2, 2),
];

/// The school grade of a text in a language (BCP 47), 1 to 13, where 13 is beyond school; nothing where the text is
/// too short to tell.
pub(crate) fn grade(text: &str, language: &str) -> Option<u8> {
    let words: Vec<&str> = text
        .split(|c: char| !(c.is_alphanumeric() || c == '\'' || c == '’'))
        .filter(|word| word.chars().any(char::is_alphanumeric))
        .collect();
    if words.len() < WORDS_MIN {
        return None;
    }
    let sentences = sentences(text).max(1) as f64;
    let count = words.len() as f64;
    if language == "en" || language.starts_with("en-") {
        let syllables: usize = words.iter().map(|word| syllables(word)).sum();
        let grade = 0.39 * count / sentences + 11.8 * syllables as f64 / count - 15.59;
        // A float that is clamped to 1 to 13.
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 1 and 13"
        )]
        return Some(grade.round().clamp(1.0, 13.0) as u8);
    }
    let long = words.iter().filter(|word| word.chars().count() >= LONG);
    let rate = long.count() as f64 / sentences;
    let grade = RIX.iter().find(|(from, _)| rate >= *from);
    Some(grade.map_or(1, |(_, grade)| *grade))
}

/// Sentences: what ends with a full stop and the like, or with a line.
fn sentences(text: &str) -> usize {
    let mut found = 0;
    for line in text.lines() {
        let mut open = false;
        let mut characters = line.chars().peekable();
        while let Some(character) = characters.next() {
            if character.is_alphanumeric() {
                open = true;
            }
            let ends = matches!(character, '.' | '!' | '?' | '…' | '。' | '！' | '？');
            // A full stop within a number or an abbreviation ends nothing.
            if ends && open && characters.peek().is_none_or(|next| !next.is_alphanumeric()) {
                found += 1;
                open = false;
            }
        }
        found += usize::from(open);
    }
    found
}

/// Syllables of an English word, by its groups of vowels.
fn syllables(word: &str) -> usize {
    let word = word.to_lowercase();
    let letters: Vec<char> = word.chars().filter(|c| c.is_alphabetic()).collect();
    let is_vowel = |c: char| matches!(c, 'a' | 'e' | 'i' | 'o' | 'u' | 'y');
    let mut count = 0;
    let mut before = false;
    for letter in &letters {
        let vowel = is_vowel(*letter);
        count += usize::from(vowel && !before);
        before = vowel;
    }
    let text: String = letters.iter().collect();
    let silent = if let Some(stem) = text.strip_suffix("le") {
        // `table` has two, `while` one.
        stem.ends_with(is_vowel)
    } else if let Some(stem) = text.strip_suffix("ed") {
        !stem.ends_with(['t', 'd']) && !stem.ends_with(is_vowel)
    } else if let Some(stem) = text.strip_suffix("es") {
        !stem.ends_with(['s', 'x', 'z', 'c', 'g', 'h']) && !stem.ends_with(is_vowel)
    } else {
        text.strip_suffix('e')
            .is_some_and(|stem| !stem.ends_with(is_vowel))
    };
    (count - usize::from(silent && count > 1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syllables_of_words() {
        let table = [
            ("cat", 1),
            ("home", 1),
            ("table", 2),
            ("while", 1),
            ("medicine", 3),
            ("walked", 1),
            ("wanted", 2),
            ("takes", 1),
            ("dishes", 2),
            ("we", 1),
            ("appointment", 3),
            ("2026", 1),
            ("hospitalization", 6),
        ];
        for (word, expected) in table {
            assert_eq!(syllables(word), expected, "{word}");
        }
    }

    #[test]
    fn sentences_end_with_stops_and_lines() {
        let table = [
            ("One. Two! Three?", 3),
            ("Dose of 2.5 mg.", 1),
            ("First line\nsecond line", 2),
            ("...", 0),
            ("No stop", 1),
        ];
        for (text, expected) in table {
            assert_eq!(sentences(text), expected, "{text}");
        }
    }

    #[test]
    fn grades_rise_with_long_words_and_sentences() {
        let plain =
            "Take one pill each day. Drink a glass of water with it. Call us if you feel ill.";
        let hard = "Notwithstanding individual variability, pharmacological anticoagulation necessitates \
                    comprehensive periodic laboratory surveillance of coagulation parameters.";
        assert_eq!(grade(plain, "en"), Some(1));
        assert_eq!(grade(hard, "en-GB"), Some(13));
        let leicht =
            "Nehmen Sie jeden Tag eine Pille. Trinken Sie dazu ein Glas Wasser. Es tut gut.";
        let schwer = "Ungeachtet individueller Unterschiede erfordert medikamentöse Gerinnungshemmung \
                      regelmäßige laborchemische Überwachung sämtlicher Gerinnungsparameter.";
        // One long word in three sentences.
        assert_eq!(grade(leicht, "de"), Some(2));
        assert_eq!(grade(schwer, "de"), Some(13));
        // 13 words, 1 sentence, 14 syllables: 0.39 * 13 + 11.8 * 14 / 13 - 15.59 = 2.2.
        let words = "We will call you on the day and ask how you are after.";
        assert_eq!(grade(words, "en"), Some(2));
        assert_eq!(grade("Too short to tell.", "en"), None);
    }
}
