//! Texts that mean something by themselves, whatever was asked: STOP, START and HELP. Pure.

/// What a text means to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// No more.
    Stop,
    /// Again.
    Start,
    /// Who we are.
    Help,
    /// Anything else: an answer, where something was asked. Otherwise it is not kept.
    Other,
}

/// Texts that mean "no more", as a whole.
const STOP: [&str; 15] = [
    "STOP",
    "STOPALL",
    "STOP ALL",
    "UNSUBSCRIBE",
    "CANCEL",
    "END",
    "QUIT",
    "OPTOUT",
    "OPT OUT",
    "REVOKE",
    "ARRET",
    "ARRÊT",
    "STOPP",
    "PARAR",
    "ALTO",
];
/// Those after which whatever follows changes nothing: who writes "stop it" means it, and who writes "cancel my visit"
/// means something else.
const STOP_FIRST: [&str; 5] = ["STOP", "STOPALL", "UNSUBSCRIBE", "STOPP", "ARRET"];
/// Texts that mean "again". A "yes" may be the answer to something else.
const START: [&str; 3] = ["START", "UNSTOP", "RESUME"];
/// Texts that ask who we are.
const HELP: [&str; 6] = ["HELP", "INFO", "AIDE", "HILFE", "AYUDA", "?"];

impl Word {
    /// The `what` label of the metric `sms_heard_total`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Start => "start",
            Self::Help => "help",
            Self::Other => "other",
        }
    }
}

/// What a text means.
#[must_use]
pub fn word(text: &str) -> Word {
    let loud = text.to_uppercase();
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '?';
    let words: Vec<&str> = loud
        .split(|letter: char| !is_part(letter))
        .filter(|word| !word.is_empty())
        .collect();
    let whole = words.join(" ");
    let first = words.first().copied().unwrap_or_default();
    if STOP.contains(&whole.as_str()) || STOP_FIRST.contains(&first) {
        Word::Stop
    } else if START.contains(&whole.as_str()) {
        Word::Start
    } else if HELP.contains(&whole.as_str()) {
        Word::Help
    } else {
        Word::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_heard_however_they_are_written() {
        for (text, expected) in [
            ("STOP", Word::Stop),
            (" stop.", Word::Stop),
            ("Stop!", Word::Stop),
            ("\"STOP\"", Word::Stop),
            ("Stop all", Word::Stop),
            ("stop sending me these", Word::Stop),
            ("opt-out", Word::Stop),
            ("Unsubscribe please", Word::Stop),
            ("arrêt", Word::Stop),
            ("QUIT", Word::Stop),
            ("cancel my visit on Monday", Word::Other),
            ("End of the week is fine", Word::Other),
            ("Don't stop", Word::Other),
            ("nonstop", Word::Other),
            ("start", Word::Start),
            ("UNSTOP", Word::Start),
            ("start of pain on Monday", Word::Other),
            ("yes", Word::Other),
            ("Help", Word::Help),
            ("?", Word::Help),
            ("info!", Word::Help),
            ("I have pain in my chest", Word::Other),
            ("", Word::Other),
        ] {
            assert_eq!(word(text), expected, "{text}");
        }
    }
}
