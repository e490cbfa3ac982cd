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

/// Messages say on which day an operation is; a program that doesn't know it says the fallback.
#[test]
fn words_name_the_day_of_an_anchor() {
    for (words, expected) in [
        ("On {discharge.day|a day} at {discharge.time|a time}.", None),
        ("On {discharge.day}.", Some("J019")),
        ("On {discharge.hour|a day}.", Some("J018")),
        ("On {dischrge.day|a day}.", Some("J018")),
    ] {
        let source = GOOD.replacen("words: Please answer.", &format!("words: '{words}'"), 1);
        assert_ne!(source, GOOD);
        let found = codes(&source);
        let expected: Vec<String> = expected.into_iter().map(str::to_owned).collect();
        assert_eq!(found, expected, "{words}");
    }
    let open = "text: 'On {discharge.day|a day}, read it at {link}'";
    let source = GOOD.replacen("text: Read it at {link}", open, 1);
    assert_eq!(codes(&source), ["J017"]);
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

/// A form of GOOD with more questions, in Spanish with these of them.
fn form(questions: &str) -> String {
    let form = "        - id: well
          text: Are you well?
          type: yes-no
        - {id: where, text: Where?, help: Say it., type: choice, options: {leg: Leg, arm: Arm}}
";
    let spanish = match questions {
        "" => String::new(),
        questions => format!(", questions: [{questions}]"),
    };
    let more = format!("      translations:\n        es: {{title: Hola, words: Hola.{spanish}}}\n");
    let head = "        - id: well\n          text: Are you well?\n          type: yes-no\n";
    assert!(GOOD.contains(head));
    let source = GOOD.replacen(head, form, 1);
    let end = "      remind_after: 24h\n";
    source
        .replacen(end, &format!("{end}{more}"), 1)
        // The welcome has no Spanish, which is said elsewhere.
        .replacen("        text: Read it at {link}\n", "        text: Read it at {link}\n      translations: {es: {title: Hola, words: Hola., email: {subject: Hola, text: '{link}'}}}\n", 1)
}

#[test]
fn a_form_is_whole_in_each_of_its_languages() {
    let well = "{id: well, text: ¿Bien?}";
    let place = "{id: where, text: ¿Dónde?, help: Dígalo., options: {leg: Pierna, arm: Brazo}}";
    for (questions, expected) in [
        (format!("{well}, {place}"), &[][..]),
        (format!("{place}, {well}"), &[]),
        (
            String::new(),
            &["J065 warning of this form's questions `well`, `where` aren't there in `es`"],
        ),
        (
            well.to_owned(),
            &["J065 warning of this form's questions `where` aren't there"],
        ),
        (
            format!("{well}, {{id: where, text: ¿Dónde?, help: Dígalo.}}"),
            &["J065 warning of question `where` the options `leg`, `arm` aren't there in `es`"],
        ),
        (
            format!(
                "{well}, {{id: where, text: ¿Dónde?, help: Dígalo., options: {{leg: Pierna, hand: Mano}}}}"
            ),
            &[
                "J065 error question `where` has no option `hand`",
                "J065 warning of question `where` the options `arm` aren't there",
            ],
        ),
        (
            format!("{well}, {{id: where, text: ¿Dónde?, options: {{leg: Pierna, arm: Brazo}}}}"),
            &["J065 warning the help of question `where` isn't there in `es`"],
        ),
        (
            format!("{{id: well, text: ¿Bien?, help: Dígalo.}}, {place}"),
            &["J065 error question `well` has help in `es` and none in `en`"],
        ),
        (
            format!("{{id: wel, text: ¿Bien?}}, {well}, {place}"),
            &["J065 error this form has no question `wel`; did you mean `well`?"],
        ),
        (
            format!("{well}, {place}, {well}"),
            &["J024 error question `well` stands twice in `es`"],
        ),
        (format!("{{id: well}}, {place}"), &["J003 error"]),
        (
            format!("{{id: well, text: ¿Bien?, type: yes-no}}, {place}"),
            &["J002 error"],
        ),
    ] {
        let source = form(&questions);
        let found: Vec<String> = (journey::check(&source).into_iter())
            .map(|finding| {
                let line = source.lines().nth(finding.line - 1).unwrap();
                assert!(line.contains("es:"), "{finding:?}");
                let kind = if finding.error { "error" } else { "warning" };
                format!("{} {kind} {}", finding.code, finding.message)
            })
            .collect();
        assert_eq!(found.len(), expected.len(), "{questions}: {found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{questions}: {found}");
        }
        if let Ok(formatted) = journey::format(&source) {
            assert_eq!(journey::diff(&source, &formatted).unwrap_or_default(), []);
        }
    }
}

#[test]
fn a_changed_question_of_a_translation_is_a_change_of_words() {
    let well = |words: &str| form(&format!("{{id: well, text: {words}}}"));
    let changes = journey::diff(&well("¿Bien?"), &well("¿Está bien?")).unwrap();
    let found: Vec<_> = changes
        .iter()
        .map(|change| (change.place.as_str(), change.what))
        .collect();
    let place = "steps.questions.ask.translations.es.questions.well.text";
    assert_eq!(found, [(place, journey::Changes::Words)]);
}

#[test]
fn hours_that_cannot_be_are_said() {
    let quiet = "messages: {quiet: {from: '20:00', until: '08:00'}}\n";
    let channels = "      channels: [email, portal]\n";
    let office = "{from: '09:00', until: '17:00'}";
    for (head, window, rest, expected) in [
        ("", office, "", None),
        (quiet, office, "", None),
        (
            "",
            "{from: '17:00', until: '09:00'}",
            "",
            Some((true, "ends before it begins")),
        ),
        (
            "",
            "{from: '09:00', until: '09:00'}",
            "",
            Some((true, "ends before it begins")),
        ),
        (
            quiet,
            "{from: '06:00', until: '08:00'}",
            "",
            Some((true, "leave nothing")),
        ),
        (
            quiet,
            "{from: '20:00', until: '23:00'}",
            "",
            Some((true, "leave nothing")),
        ),
        (quiet, "{from: '06:00', until: '08:30'}", "", None),
        (quiet, "{from: '19:00', until: '21:00'}", "", None),
        (
            "",
            "{from: '09:00', until: '17:00', days: [mon, tue, wed, thu, fri]}",
            "",
            Some((false, "closed for up to")),
        ),
        (
            "",
            "{from: '09:00', until: '17:00', days: [mon, tue, wed, thu, fri]}",
            "      expires: 3d\n",
            None,
        ),
        (
            "",
            office,
            "      expires: 12h\n",
            Some((false, "closed for up to")),
        ),
        (
            "",
            office,
            "      urgency: clinical\n      because: Bleeding.\n",
            Some((true, "goes out at once")),
        ),
    ] {
        let source = with(head, "").replacen(
            channels,
            &format!("{channels}      window: {window}\n{rest}"),
            1,
        );
        let found = journey::check(&source);
        let found = found.iter().find(|finding| finding.code == "J085");
        match expected {
            None => assert!(found.is_none(), "{head}{window} {rest}: {found:?}"),
            Some((error, words)) => {
                let found = found.unwrap_or_else(|| panic!("{head}{window} {rest}"));
                assert_eq!(found.error, error, "{found:?}");
                assert!(found.message.contains(words), "{found:?}");
            }
        }
    }
    let portal = with("", "").replacen(
        channels,
        &format!("      channels: [portal]\n      window: {office}\n"),
        1,
    );
    assert!(codes(&portal).iter().any(|code| code == "J085"));
}
