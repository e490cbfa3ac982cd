//! Languages and reading levels of messages, as the checker sees them.

use super::GOOD;

fn codes(source: &str) -> Vec<String> {
    let found = journey::check(source).into_iter();
    found.map(|finding| finding.code).collect()
}

/// GOOD with what follows the e-mail of its message, and what follows its purpose.
fn with(head: &str, translations: &str) -> String {
    let email = "        text: Read it at {link}\n";
    GOOD.replacen("reading_level: 8\n", "", 1)
        .replacen("purpose: TREAT\n", &format!("purpose: TREAT\n{head}"), 1)
        .replacen(email, &format!("{email}{translations}"), 1)
}

#[test]
fn translations_are_held_to_what_their_message_is_held_to() {
    let email = "email: {subject: Noticias, text: 'Léalo: {link}'}";
    let table = [
        // The form has no Spanish.
        (format!("es: {{title: Hola, words: Hola., {email}}}"), vec!["J057"]),
        (format!("ES-mx: {{title: Hola, words: Hola., {email}}}"), vec!["J057"]),
        // Neither is there an e-mail.
        ("es: {title: Hola, words: Hola.}".to_owned(), vec!["J057", "J057"]),
        (format!("en: {{title: Hello, words: Hello., {email}}}"), vec!["J055"]),
        (format!("Spanish!: {{title: Hola, words: Hola., {email}}}"), vec!["J055"]),
        (format!("es: {{title: Hola, words: 'Hola {{patient.given}}.', {email}}}"), vec!["J019"]),
        (
            "es: {title: Hola, words: Hola., email: {subject: 'Hola {patient.given|}', text: 'Léalo: {link}'}}".to_owned(),
            vec!["J017"],
        ),
        (format!("es: {{title: Hola, {email}}}"), vec!["J003"]),
        (format!("es: {{title: Hola, words: Hola., reminder: Hola., {email}}}"), vec!["J002"]),
        (
            "es: {title: Hola, words: Hola., email: {subject: Hola, text: Hola.}}".to_owned(),
            vec!["J034"],
        ),
        (
            format!("es: {{title: Hola, words: Hola., {email}}}\n        Es: {{title: Hola, words: Hola., {email}}}"),
            vec!["J055", "J057"],
        ),
    ];
    for (translation, expected) in table {
        let source = with("", &format!("      translations:\n        {translation}\n"));
        let mut found = codes(&source);
        if !expected.contains(&"J057") {
            found.retain(|code| code != "J057");
        }
        assert_eq!(found, expected, "{translation}");
        // No file of the language loses anything when it is brought into form.
        if let Ok(formatted) = journey::format(&source) {
            assert!(formatted.contains("Hola") || formatted.contains("Hello"));
        }
    }
}

#[test]
fn what_is_too_hard_to_read_is_said() {
    let easy = "We will call you on the day and ask how you are after.";
    let hard = "Notwithstanding individual variability, pharmacological anticoagulation necessitates comprehensive periodic laboratory surveillance.";
    for (head, words, expected) in [
        ("reading_level: 6\n", easy, vec![]),
        ("reading_level: 1\n", easy, vec!["J056"]),
        ("reading_level: 6\n", hard, vec!["J056"]),
        ("", hard, vec![]),
        ("language: de\nreading_level: 6\n", hard, vec!["J056"]),
        ("reading_level: 0\n", easy, vec!["J004"]),
        ("language: english?\n", easy, vec!["J055"]),
    ] {
        let source = with(head, "").replacen("Hello {patient.given|there}.", words, 1);
        assert_eq!(codes(&source), expected, "{head}{words}");
    }
}

#[test]
fn a_changed_translation_is_a_change_of_words() {
    let with = |words: &str| {
        let said = format!(
            "      translations:\n        es: {{title: Hola, words: {words}, email: {{subject: Hola, text: 'Va: {{link}}'}}}}\n"
        );
        with("", &said)
    };
    let changes = journey::diff(&with("Hola."), &with("Buenas.")).unwrap();
    let found: Vec<_> = changes
        .iter()
        .map(|change| (change.place.as_str(), change.what))
        .collect();
    assert_eq!(
        found,
        [(
            "steps.welcome.send.translations.es.words",
            journey::Changes::Words
        )]
    );
    let came = journey::diff(GOOD, &with("Hola.")).unwrap();
    assert_eq!(came[0].what, journey::Changes::Words);
}

#[test]
fn a_visit_s_reminders_have_other_languages_too() {
    let visit = |more: &str| {
        GOOD.replacen(
            "    wait:\n      past_due: run\n      until: discharge + 2d at 09:00\n    next: questions\n",
            &format!("    book:\n      title: Visit\n      time: discharge + 9d at 10:00\n      minutes: 30\n      book_by: discharge + 5d at 12:00\n{more}    next: questions\n    not_booked: call\n    missed: call\n"),
            1,
        )
    };
    let remind = "      remind: [1d]\n      channels: [portal]\n";
    let spanish = "      translations:\n        es: {title: Visita, reminder: 'El {visit.day}.'}\n";
    let both = visit(&format!("{remind}{spanish}"));
    assert_ne!(both, GOOD);
    // The other messages have no Spanish.
    assert_eq!(codes(&both), ["J057", "J057"]);
    assert!(codes(&visit(spanish)).contains(&"J059".to_owned()));
    let nameless = visit(&format!(
        "{remind}      translations:\n        es: {{title: Visita, reminder: 'Hola {{patient.given}}.'}}\n"
    ));
    assert!(codes(&nameless).contains(&"J019".to_owned()));
}

/// What is held of an e-mail is held of a text message, and it has parts that are paid for.
#[test]
fn text_messages_are_held_to_what_e_mails_are() {
    let long = "a".repeat(460);
    let sms = |words: &str| format!("      sms: {{words: '{words}'}}\n");
    let email = "email: {subject: Noticias, text: 'Léalo: {link}'}";
    let spanish = |more: &str| {
        format!("      translations:\n        es: {{title: Hola, words: Hola., {email}{more}}}\n")
    };
    let there = sms("News: {link}");
    for (more, expected) in [
        (there.clone(), vec![]),
        (sms("News."), vec!["J034"]),
        (sms("Hello {patient.given|there}: {link}"), vec!["J017"]),
        (sms("A small journey: {link}"), vec!["J017"]),
        (sms("{welcome.delivered_by}: {link}"), vec!["J017", "J019"]),
        (
            "      sms: {text: 'News: {link}'}\n".to_owned(),
            vec!["J003", "J002"],
        ),
        ("      sms: News\n".to_owned(), vec!["J004"]),
        (sms(&format!("{long} {{link}}")), vec!["J067"]),
        (sms(&format!("{} {{link}}", &long[..450])), vec![]),
        // Without the link it is counted all the same.
        (sms(&long), vec!["J034", "J067"]),
        (
            format!("{there}{}", spanish(", sms: {words: 'Léalo: {link}'}")),
            vec![],
        ),
        (format!("{there}{}", spanish("")), vec!["J057"]),
        (
            format!(
                "{there}{}",
                spanish(", sms: {words: 'Hola {patient.given|}: {link}'}")
            ),
            vec!["J017"],
        ),
    ] {
        let mut found = codes(&with("", &more));
        // The form has no Spanish.
        if more.contains("translations")
            && let Some(at) = found.iter().rposition(|code| code == "J057")
        {
            found.remove(at);
        }
        assert_eq!(found, expected, "{more}");
    }
    let channels = GOOD.replacen("[email, portal]", "[sms, email, sms]", 1);
    assert!(codes(&channels).contains(&"J024".to_owned()));
}
