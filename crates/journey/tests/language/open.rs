//! Words of channels that aren't cleared for PHI: what they tell by themselves.

use super::{GOOD, calling, partners};

const EMAIL: &str = "        subject: News\n        text: Read it at {link}\n";

/// What is found in a journey with an e-mail of these words: code, whether it is an error, the word that is told.
fn found(title: &str, subject: &str, text: &str) -> Vec<(String, bool, String)> {
    let email = format!("        subject: \"{subject}\"\n        text: \"{text} {{link}}\"\n");
    let source = GOOD.replacen("title: A small journey", &format!("title: {title}"), 1);
    let source = source.replacen(EMAIL, &email, 1);
    assert_ne!(source, GOOD);
    let found = journey::check(&source).into_iter();
    // How hard it is to read is another matter.
    let found = found.filter(|found| found.code != "J056");
    found
        .map(|found| {
            // The place is that of the word.
            let line = source.lines().nth(found.line - 1).unwrap();
            let word: String = line.chars().skip(found.column - 1).collect();
            let told = found.message.split(['“', '”']).nth(1).unwrap_or_default();
            assert!(word.starts_with(told), "{found:?} {word}");
            (found.code, found.error, told.to_owned())
        })
        .collect()
}

#[test]
fn what_tells_of_a_condition_is_no_subject() {
    let error = |word: &str| ("J017".to_owned(), true, word.to_owned());
    let warning = |word: &str| ("J082".to_owned(), false, word.to_owned());
    let plain = "A small journey";
    for (title, subject, text, expected) in [
        (plain, "News", "Read it at", vec![]),
        (plain, "Your next visit", "When and where we meet:", vec![]),
        (
            plain,
            "Your HIV treatment and heart failure",
            "Read it at",
            vec![error("HIV"), warning("treatment"), error("heart failure")],
        ),
        (
            plain,
            "News",
            "Take your antiretrovirals.",
            vec![error("antiretrovirals")],
        ),
        (
            plain,
            "Ihr Termin in der Onkologie",
            "Hier:",
            vec![error("Onkologie")],
        ),
        (
            plain,
            "Su próxima quimioterapia",
            "Aquí:",
            vec![error("quimioterapia")],
        ),
        (plain, "Votre dialyse", "Ici :", vec![error("dialyse")]),
        (plain, "News", "How is your pain?", vec![warning("pain")]),
        // What the journey is called by tells, whether or not the list knows it.
        (
            "Pemphigus follow-up",
            "Your pemphigus",
            "Read it at",
            vec![warning("pemphigus")],
        ),
        ("Follow-up visit", "Your next visit", "Read it at", vec![]),
    ] {
        assert_eq!(
            found(title, subject, text),
            expected,
            "{title} / {subject} / {text}"
        );
    }
    // GOOD watches the weight.
    assert_eq!(
        found(plain, "Your weight", "Read it at"),
        [warning("weight")]
    );
}

/// Nothing is left out without saying so.
#[test]
fn many_words_are_told_within_bounds() {
    let words = "asthma, cancer, dialysis, epilepsy, insulin, lupus, migraine";
    let source = GOOD.replacen("subject: News", &format!("subject: {words}"), 1);
    let found = journey::check(&source);
    let errors = found.iter().filter(|found| found.code == "J017");
    assert_eq!(errors.count(), 5, "{found:?}");
    let more = found.iter().find(|found| found.code == "J082").unwrap();
    assert!(more.message.starts_with("2 more words"), "{more:?}");
}

/// What conditions call a code by is known, where they do.
#[test]
fn what_codes_are_called_is_what_the_journey_is_about() {
    let source = GOOD
        .replacen(
            "where: status = 'finished'",
            "where: status = 'finished' and reasonCode.coding.exists(display = 'Sarcoidosis')",
            1,
        )
        .replacen("subject: News", "subject: Your sarcoidosis", 1);
    let found = journey::check(&source);
    let found: Vec<_> = found.iter().map(|found| found.code.as_str()).collect();
    assert_eq!(found, ["J082"]);
}

/// What may be a name, a currency or an everyday word stops nobody.
#[test]
fn what_may_be_harmless_is_no_error() {
    for subject in [
        "Your bill: CHF 50",
        "Ihr Termin bei Dr. Krebs",
        "Covid: please wear a mask",
        "HEARING AIDS READY",
        "For day trippers",
        "A morphing picture",
    ] {
        let found = found("A small journey", subject, "Read it at");
        assert!(
            found
                .iter()
                .all(|(code, error, _)| code == "J082" && !error),
            "{subject}: {found:?}"
        );
    }
}

/// Words that begin others are those of one language, and hold in its texts alone.
#[test]
fn german_words_begin_others_in_german_text() {
    let errors = |source: &str| {
        let found = journey::check(source).into_iter();
        let found = found.filter(|found| found.code == "J017");
        found.count()
    };
    let source = GOOD.replacen("subject: News", "subject: Morphinpläne", 1);
    assert_eq!(errors(&source), 0);
    let german = source.replacen("title: A small", "language: de-AT\ntitle: A small", 1);
    assert_eq!(errors(&german), 1);
    let email = "        text: Read it at {link}\n";
    for (language, expected) in [("de", 1), ("es", 0)] {
        let more = format!(
            "      translations:\n        {language}: {{title: Hallo, words: Hallo., email: {{subject: Morphinpläne, text: 'Hier: {{link}}'}}}}\n"
        );
        let source = GOOD.replacen(email, &format!("{email}{more}"), 1);
        assert_eq!(errors(&source), expected, "{language}");
    }
}

/// Translations go out as the rest does.
#[test]
fn every_language_of_a_message_is_looked_at() {
    let email = "        text: Read it at {link}\n";
    let more = "      translations:\n        es: {title: Hola, words: Hola., email: {subject: Su diálisis, text: 'Léalo: {link}'}}\n";
    let source = GOOD.replacen(email, &format!("{email}{more}"), 1);
    let found = journey::check(&source);
    let found = found.iter().filter(|found| found.error);
    let found: Vec<_> = found.map(|found| found.code.as_str()).collect();
    assert_eq!(found, ["J017"]);
}

#[test]
fn fixed_words_tell_partners_too() {
    let call = |path: &str, is: &str| {
        calling(&format!(
            "      partner: rides\n      path: {path}\n      values: {{why: {{is: {is}}}}}\n      up_to: 1d\n"
        ))
    };
    let codes = |source: &str| {
        let found = journey::check_with(source, &partners(), 0).into_iter();
        found.map(|found| found.code).collect::<Vec<_>>()
    };
    assert_eq!(codes(&call("/bookings", "wheelchair")), [""; 0]);
    assert_eq!(codes(&call("/bookings", "to dialysis")), ["J061"]);
    assert_eq!(codes(&call("/oncology/bookings", "wheelchair")), ["J061"]);
    // What a partner's machine reads may have braces of its own.
    assert_eq!(codes(&call("/bookings", "\"Hello {name}\"")), [""; 0]);
    let or = "      partner: rides\n      path: /bookings\n      values: {phone: {patient: phone, or: \"{name}\"}}\n      compensate: {path: /off, values: {path: {is: \"{link}\"}}}\n      up_to: 1d\n";
    assert_eq!(codes(&calling(or)), [""; 0]);
    assert_eq!(codes(&call("\"/{name}\"", "wheelchair")), ["J062"]);
}

/// Staff would read the braces.
#[test]
fn lines_that_take_no_variables_have_none() {
    for (from, to, fine) in [
        (
            "      title: Call\n",
            "      title: \"Call {questions.well|x}\"\n",
            false,
        ),
        (
            "      title: Call\n",
            "      title: \"Call {patient.given}\"\n",
            false,
        ),
        (
            "title: A small journey",
            "title: \"A {owner} journey\"",
            false,
        ),
        ("    title: Died", "    title: \"Died {link}\"", false),
        (
            "          text: Are you well?",
            "          text: \"Are you well, {patient.given|you}?\"",
            false,
        ),
        ("      title: Call\n", "      title: Call {1}\n", true),
        ("      title: Call\n", "      title: Call } and {\n", true),
        (
            "      reason: Not well.\n",
            "      reason: \"Not well: {questions.well|x}\"\n",
            true,
        ),
    ] {
        let source = GOOD.replacen(from, to, 1);
        assert_ne!(source, GOOD);
        let found = journey::check(&source);
        let told = found.iter().find(|found| found.code == "J018");
        assert_eq!(told.is_none(), fine, "{to}: {found:?}");
        if let Some(told) = told {
            let line = source.lines().nth(told.line - 1).unwrap();
            assert!(
                told.error && line.chars().nth(told.column - 1) == Some('{'),
                "{told:?}"
            );
        }
    }
}
