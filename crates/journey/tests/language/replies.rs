//! Forms that are answered by replying to a text message.

use super::GOOD;

/// The form of GOOD with its question, and what makes it one that is answered by reply.
const FORM: &str = "          type: yes-no\n";
const SMS: &str = "      sms: {words: 'Are you at home? Reply YES or NO, or use {link}'}\n";
const CHANNELS: &str = "      channels: [sms, portal]\n";
const REPLY: &str = "      reply: {again: Please reply YES or NO.}\n";
const UNCLEAR: &str = "    unclear: call\n";

/// GOOD whose form is answered by reply.
fn good() -> String {
    asked(&format!("{FORM}{CHANNELS}{SMS}{REPLY}"))
}

/// The same with this from the type of the question on.
fn asked(form: &str) -> String {
    let way = format!("    no_answer: call\n{UNCLEAR}");
    let source = GOOD.replacen(FORM, form, 1);
    let source = source.replacen("    no_answer: call\n", &way, 1);
    assert_ne!(source, GOOD);
    source
}

/// A choice or a number in the place of yes or no.
fn with(question: &str, more: &str) -> String {
    let sms = "      sms: {words: 'How is it today? Reply with a number, or use {link}'}\n";
    let again = "      reply: {again: Please reply with a number.}\n";
    let source = asked(&format!("{question}{CHANNELS}{sms}{again}{more}"));
    // What it is decided by is yes or no.
    source.replacen("questions.well = false", "questions.exists()", 1)
}

pub(crate) fn broken() -> Vec<(&'static str, &'static str, String)> {
    let two = "          type: yes-no\n        - {id: more, text: And more?, type: yes-no}\n";
    vec![
        (
            "J066",
            "  decide:\n",
            good().replacen(UNCLEAR, "    unclear: end\n", 1),
        ),
        (
            "J069",
            "    no_answer: call\n",
            good().replacen(FORM, two, 1),
        ),
        ("J084", FORM, with("          type: number\n", "")),
    ]
}

#[test]
fn a_form_that_is_answered_by_reply_is_fine() {
    assert_eq!(journey::check(&good()), []);
    let number = "          type: number\n          least: 30\n          most: 250\n";
    let choice = "          type: choice\n          options: {a: Better, b: Worse}\n";
    for question in [number, choice] {
        let source = with(question, "");
        let found = journey::check(&source);
        let found: Vec<_> = found.iter().filter(|found| found.code != "J049").collect();
        assert!(found.is_empty(), "{question}: {found:#?}");
    }
}

/// What is wrong, each with its code and some of its words.
#[test]
fn what_cannot_be_answered_by_reply_is_told() {
    let without = |text: &str| {
        let source = good();
        assert!(source.contains(text), "{text}");
        source.replacen(text, "", 1)
    };
    let instead = |from: &str, to: &str| {
        let source = good();
        assert!(source.contains(from), "{from}");
        source.replacen(from, to, 1)
    };
    let choice = |options: &str| {
        with(
            &format!("          type: choice\n          options: {options}\n"),
            "",
        )
    };
    let number = |bounds: &str| with(&format!("          type: whole-number\n{bounds}"), "");
    let many: Vec<String> = (0..10)
        .map(|at| format!("o{at}: \"{}\"", "x".repeat(at + 1)))
        .collect();
    let long: Vec<String> = (1..=9)
        .map(|at| format!("o{at}: \"{} {}\"", "ж".repeat(28), "ж".repeat(at)))
        .collect();
    let spanish = |sms: &str, reply: &str| {
        let translation = format!(
            "      translations: {{es: {{title: Hola, words: Hola., questions: [{{id: well, text: ¿Bien?}}], sms: {{words: '{sms}'}}{reply}}}}}\n"
        );
        asked(&format!("{FORM}{CHANNELS}{SMS}{REPLY}{translation}"))
    };
    for (source, code, error, words) in [
        (without(UNCLEAR), "J066", true, "no `unclear`"),
        (
            instead(UNCLEAR, "    unclear: end\n"),
            "J066",
            true,
            "read by nobody",
        ),
        (
            instead(UNCLEAR, "    unclear: pause\n"),
            "J066",
            true,
            "read by nobody",
        ),
        (
            instead("[sms, portal]", "[email, sms]"),
            "J066",
            true,
            "behind `sms`",
        ),
        (
            instead("[sms, portal]", "[email, portal]"),
            "J069",
            true,
            "goes by `sms`",
        ),
        (without(CHANNELS), "J069", true, "goes by `sms`"),
        (without(SMS), "J069", true, "are the question"),
        (without(REPLY), "J069", true, "`unclear` is never gone"),
        (
            instead("Reply YES or NO, or", "Please answer, or"),
            "J069",
            true,
            "what to reply",
        ),
        (
            instead("type: yes-no", "type: text"),
            "J069",
            true,
            "can't be answered by reply",
        ),
        (
            instead("type: yes-no", "type: date"),
            "J069",
            true,
            "can't be answered by reply",
        ),
        (
            choice("{a: Yes, b: 'yes!'}"),
            "J069",
            true,
            "the same words",
        ),
        (
            choice("{a: '2', b: '1'}"),
            "J069",
            true,
            "as the number of an option",
        ),
        (
            choice(&format!("{{a: Fine, b: {}}}", "x".repeat(41))),
            "J069",
            true,
            "shorten it",
        ),
        (
            choice(&format!("{{{}}}", many.join(", "))),
            "J069",
            true,
            "9 at most",
        ),
        (
            choice("{a: Fine, b: Stop taking it}"),
            "J069",
            true,
            "ends all text messages",
        ),
        (
            choice("{a: Fine, b: cancel}"),
            "J069",
            true,
            "ends all text messages",
        ),
        (
            choice("{a: Fine, b: Resume}"),
            "J069",
            true,
            "text messages again",
        ),
        (choice("{a: Fine, b: Info?}"), "J069", true, "whom to call"),
        (
            choice("{a: Fine, b: 'Bad {link}'}"),
            "J069",
            true,
            "a brace",
        ),
        // Each option is in the message.
        (
            choice(&format!("{{{}}}", long.join(", "))),
            "J067",
            false,
            "parts",
        ),
        (choice("{a: Fine, b: My cancer}"), "J017", true, "cancer"),
        (
            instead(
                "again: Please reply YES or NO.",
                "again: '{patient.given|You}, reply YES or NO.'",
            ),
            "J017",
            true,
            "",
        ),
        (number(""), "J084", true, "needs `least` and `most`"),
        (
            number("          least: 1\n"),
            "J084",
            true,
            "needs `least` and `most`",
        ),
        (
            spanish(
                "¿Está en casa? Diga algo: {link}",
                ", reply: {again: Diga SÍ o NO.}",
            ),
            "J069",
            true,
            "what to reply",
        ),
        (
            spanish(
                "Ydych chi gartref? Atebwch YDW neu NAC YDW: {link}",
                ", reply: {again: Atebwch.}",
            )
            .replacen("{es: ", "{cy: ", 1),
            "J069",
            true,
            "isn't known here",
        ),
        // Words of another language say nothing of what is understood in this one.
        (
            spanish(
                "¿Está en casa? YES or NO: {link}",
                ", reply: {again: Diga SÍ o NO.}",
            ),
            "J069",
            true,
            "what to reply",
        ),
        (
            spanish("¿Está en casa? Responda SÍ o NO: {link}", ""),
            "J057",
            false,
            "no answer isn't there",
        ),
    ] {
        let found = journey::check(&source);
        let one = found
            .iter()
            .find(|found| found.code == code && found.message.contains(words));
        let one = one.unwrap_or_else(|| panic!("{code} {words}: {found:#?}\n{source}"));
        assert_eq!(one.error, error, "{one:?}");
    }
    let whole = spanish(
        "¿Está en casa? Responda SÍ o NO: {link}",
        ", reply: {again: Diga SÍ o NO.}",
    );
    // Other messages of the journey aren't there in Spanish.
    let found = journey::check(&whole);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!((found[0].code.as_str(), found[0].line), ("J057", 28));
}
