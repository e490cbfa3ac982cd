//! What people send to our number: STOP, START, HELP, and what else comes.

pub(super) use trust::sms::{Word, word};

/// The answer to STOP.
pub(super) const STOPPED: &str =
    "You will get no more text messages from us. Send START to get them again.";
/// The answer to START.
pub(super) const STARTED: &str = "You will get our text messages again. Send STOP to get no more.";

/// What a provider says that it took a text for and has answered. What else it may say, we don't know, and read the text.
pub(super) fn opted(by_provider: &str) -> Option<Word> {
    match by_provider {
        "STOP" => Some(Word::Stop),
        "START" => Some(Word::Start),
        "HELP" => Some(Word::Help),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_a_provider_took_a_text_for_three_words_are_known() {
        for (said, expected) in [
            ("STOP", Some(Word::Stop)),
            ("START", Some(Word::Start)),
            ("HELP", Some(Word::Help)),
            ("stop", None),
            ("CANCEL", None),
            ("MUTE", None),
            ("", None),
        ] {
            assert_eq!(opted(said), expected, "{said}");
        }
    }
}
