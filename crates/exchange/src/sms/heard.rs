//! What people send to our number: STOP, START, HELP, and what nobody reads.

use fhir::ResourceType;
use ledger::{Expected, LedgerError};
use trust::consent::set_texts_wanted;
use trust::{Change, Permit, TrustError, Unit};

use super::Number;
use super::door::{SmsDoor, Unheard};

/// The answer to STOP.
pub(super) const STOPPED: &str =
    "You will get no more text messages from us. Send START to get them again.";
/// The answer to START.
pub(super) const STARTED: &str = "You will get our text messages again. Send STOP to get no more.";

/// What a text means to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    Stop,
    Start,
    Help,
    /// Anything else. It is not kept.
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
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Start => "start",
            Self::Help => "help",
            Self::Other => "other",
        }
    }
}

/// What a text means.
pub(super) fn word(text: &str) -> Word {
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

impl SmsDoor {
    /// The ids of the patients with a number.
    pub(super) async fn with_number(
        &self,
        permit: &Permit,
        number: &Number,
    ) -> Result<Vec<String>, TrustError> {
        let forms = number.forms(self.country);
        let vault = self.trust.vault();
        let found = vault
            .patients_by_number(permit, number.as_str(), &forms)
            .await?;
        let ids = found.into_iter().filter_map(|row| {
            let telecoms = row.resource.get("telecom")?.as_array()?;
            let mut telecoms = telecoms.iter();
            let is_theirs = telecoms.any(|telecom| {
                let value = telecom["value"].as_str();
                value.is_some_and(|value| self.is_number(value, number))
            });
            let id = row.resource.id().filter(|_| is_theirs)?;
            Some(id.to_owned())
        });
        Ok(ids.collect())
    }

    fn is_number(&self, text: &str, number: &Number) -> bool {
        Number::parse(text, self.country).as_ref() == Some(number)
    }

    /// Writes down whether a patient wants text messages at a number. False when somebody else changed the patient
    /// meanwhile.
    pub(super) async fn prefer(
        &self,
        permit: &Permit,
        patient: &str,
        number: &Number,
        wanted: bool,
    ) -> Result<bool, Unheard> {
        let vault = self.trust.vault();
        let found = vault.load(permit, ResourceType::Patient, patient).await?;
        let Some(found) = found.filter(|found| !found.deleted) else {
            return Ok(true);
        };
        let mut resource = found.resource;
        let is_it = |value: &str| self.is_number(value, number);
        if !set_texts_wanted(&mut resource, is_it, wanted) {
            return Ok(true);
        }
        resource.strip_meta();
        let what = if wanted { "START" } else { "STOP" };
        let unit = Unit {
            changes: vec![Change::Put {
                resource,
                expected: Expected::Version(found.version),
            }],
            patient: Some(patient.to_owned()),
            note: Some(format!("{what} by text message")),
            ..Unit::default()
        };
        match vault.commit(permit, unit).await {
            Ok(_) => Ok(true),
            Err(TrustError::Ledger(LedgerError::Conflict)) => Ok(false),
            Err(error) => Err(error.into()),
        }
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
