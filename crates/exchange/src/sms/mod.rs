//! Text messages: a number, a text, a provider that takes it and tells later what became of it.
//!
//! Start reading at [`Sms::hand_over`] (one message out), then `receipts.rs` (what comes back) and `heard.rs` (what people
//! send to our number). `twilio.rs` is the one provider: an HTTP API that several offer.

mod door;
mod heard;
mod number;
mod pace;
mod price;
mod receipts;
mod twilio;

use fhir::Resource;
use serde_json::{Value, json};
use trust::consent;
use trust::conventions::{SMS_COST_URL, SMS_SEGMENTS_URL, SMS_SYSTEM};
use trust::sms::segments;

pub use door::{Heard, SmsDoor, Told, Unheard};
pub(crate) use number::{Country, Number};
pub use price::Price;
pub use twilio::TwilioOptions;

use crate::carrier::Trouble;
use crate::check::{Refused, Words, first};
use crate::outcome::Outcome;
use pace::Pace;
use twilio::Twilio;

/// Stands for the link in a message's text.
const LINK: &str = "{link}";
/// The most notes that a message keeps of attempts and receipts.
const NOTES_MAX: usize = 50;

const WORDS: Words = Words {
    unusable: "The number on record is none that a text message can go to.",
    unwanted: "The patient does not want text messages.",
    none: "There is no number for text messages on record.",
};

/// Where text messages go.
#[derive(Debug, Clone)]
pub struct SmsOptions {
    /// The provider.
    pub provider: TwilioOptions,
    /// Country of numbers that are written without one (ISO 3166-1, two letters).
    pub country: String,
    /// Base URL of the portal, for links.
    pub portal_base: String,
    /// Base URL of this server, where the provider tells what became of messages.
    pub callback_base: String,
    /// Deliveries at once.
    pub parallel: usize,
    /// Segments that are handed over in a second, at most.
    pub per_second: u32,
    /// What a segment costs, if that is to be counted.
    pub price: Option<Price>,
    /// Whether links sign the patient in with their birth date (magic link) or lead to the sign-in page.
    pub magic_links: bool,
    /// What somebody is told who sends HELP, or anything else that is no STOP or START. The same for everybody.
    pub help: String,
}

/// Path before the id of a message whose provider tells what became of it.
pub const SMS_STATUS_PATH: &str = "/channels/sms/status/";
/// Path where a provider brings what people send to our number.
pub const SMS_HEARD_PATH: &str = "/channels/sms/heard";

/// What hands text messages over.
pub(crate) struct Sms {
    country: Country,
    provider: Twilio,
    callback_base: String,
    price: Option<Price>,
    pace: Pace,
}

/// What a provider has taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Taken {
    /// What the provider calls it.
    pub(crate) reference: String,
    pub(crate) segments: u32,
    pub(crate) alphabet: &'static str,
    /// What it costs, as far as that is known.
    pub(crate) cost: Option<Price>,
}

/// The text as it leaves: with the link, in one piece.
pub(crate) fn compose(text: &str, link: &str) -> String {
    let mut text = text.trim().to_owned();
    // A message without a way into the portal would leave its reader standing.
    if !text.contains(LINK) {
        text.push(' ');
        text.push_str(LINK);
    }
    text.replace(LINK, link)
}

impl Sms {
    /// Checks that the options fit together.
    pub(crate) fn new(options: SmsOptions) -> Result<Self, String> {
        let country = Country::parse(&options.country).ok_or_else(|| {
            format!(
                "{:?} is no country (two letters of ISO 3166-1, e.g. US)",
                options.country
            )
        })?;
        if options.per_second == 0 {
            return Err("segments in a second must be at least 1".to_owned());
        }
        let callback_base = options.callback_base.trim_end_matches('/').to_owned();
        Ok(Self {
            country,
            provider: Twilio::new(options.provider)?,
            callback_base,
            price: options.price,
            pace: Pace::new(options.per_second),
        })
    }

    /// Waits until the provider may have another message.
    pub(crate) async fn turn(&self) {
        self.pace.turn().await;
    }

    /// The number that a patient wants text messages at.
    pub(crate) fn find(&self, patient: &Resource, at_ms: i64) -> Result<Number, Refused> {
        let channels = consent::texts(patient, at_ms);
        first(&channels, &WORDS, |text| Number::parse(text, self.country))
    }

    /// Hands a message over. `communication` is the message's id, by which the provider tells what became of it.
    pub(crate) async fn hand_over(
        &self,
        to: &Number,
        text: &str,
        communication: &str,
    ) -> Result<Outcome, Trouble> {
        let told = segments(text);
        let count = u32::try_from(told.count).unwrap_or(u32::MAX);
        // Its first segment has had its turn.
        self.pace.spend(count.saturating_sub(1));
        let callback = format!("{}{SMS_STATUS_PATH}{communication}", self.callback_base);
        let reference = self.provider.send(to, text, &callback).await?;
        Ok(Outcome::Taken(Taken {
            reference,
            segments: count,
            alphabet: told.alphabet.name(),
            cost: self.price.as_ref().map(|price| price.times(count)),
        }))
    }
}

/// What providers call a message, of each time it was handed over.
pub(crate) fn references(communication: &Resource) -> Vec<&str> {
    let identifiers = communication.get("identifier").and_then(Value::as_array);
    let identifiers = identifiers.into_iter().flatten();
    identifiers
        .filter(|one| one["system"] == SMS_SYSTEM)
        .filter_map(|one| one["value"].as_str())
        .collect()
}

/// Notes what a provider calls a message, if it isn't noted yet. Whether the message was handed over before under another
/// name: whoever it is for gets it again.
pub(crate) fn refer(communication: &mut Resource, reference: &str) -> Referred {
    let known = references(communication);
    if known.contains(&reference) {
        return Referred::Known;
    }
    let is_again = !known.is_empty();
    let mut identifiers = list(communication, "identifier");
    identifiers.push(json!({"system": SMS_SYSTEM, "value": reference}));
    communication.set("identifier", Value::Array(identifiers));
    if is_again {
        Referred::Again
    } else {
        Referred::First
    }
}

/// Whether a message was handed over before under another name than this.
pub(crate) fn is_again(communication: &Resource, reference: &str) -> bool {
    let known = references(communication);
    !known.is_empty() && !known.contains(&reference)
}

/// Whether what a provider calls a message is new here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Referred {
    Known,
    First,
    Again,
}

/// Counts a message that was handed over twice.
pub(crate) fn count_again() {
    metrics::counter!("sms_duplicates_total").increment(1);
}

/// Adds a line about what happened to a message.
pub(crate) fn remark(communication: &mut Resource, words: &str, now_ms: u64) {
    let mut notes = list(communication, "note");
    if notes.len() < NOTES_MAX {
        notes.push(json!({"time": fhir::date::instant(now_ms), "text": words}));
        communication.set("note", Value::Array(notes));
    }
}

fn list(resource: &Resource, name: &str) -> Vec<Value> {
    let found = resource.get(name).and_then(Value::as_array);
    found.cloned().unwrap_or_default()
}

/// Writes down that a provider has a message. What it has told already stands.
pub(crate) fn taken(communication: &mut Resource, what: &Taken, now_ms: u64) {
    let referred = refer(communication, &what.reference);
    if crate::outcome::is_waiting(communication) {
        communication.set("status", json!("in-progress"));
        communication.remove("statusReason");
    }
    if communication.get("sent").is_none() {
        communication.set("sent", json!(fhir::date::instant(now_ms)));
    }
    let mut extensions = list(communication, "extension");
    extensions.push(json!({"url": SMS_SEGMENTS_URL, "valuePositiveInt": what.segments.max(1)}));
    if let Some(cost) = &what.cost {
        extensions.push(json!({"url": SMS_COST_URL, "valueMoney": cost.money()}));
    }
    communication.set("extension", Value::Array(extensions));
    let again = match referred {
        Referred::Again => " again",
        Referred::Known | Referred::First => "",
    };
    let parts = if what.segments == 1 {
        "1 segment".to_owned()
    } else {
        format!("{} segments", what.segments)
    };
    let words = format!("Handed to the provider{again}: {parts}, {}.", what.alphabet);
    remark(communication, &words, now_ms);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_its_link_once() {
        let link = "https://portal.example/x";
        assert_eq!(
            compose(" See {link} ", link),
            "See https://portal.example/x"
        );
        assert_eq!(compose("See", link), "See https://portal.example/x");
    }

    #[test]
    fn a_message_that_is_taken_twice_is_known_by_two_names() {
        let mut message = Resource::from_value(json!({
            "resourceType": "Communication", "id": "c", "status": "preparation",
            "identifier": [{"system": "urn:other", "value": "x"}]
        }))
        .expect("a message");
        let what = |reference: &str| Taken {
            reference: reference.to_owned(),
            segments: 2,
            alphabet: "GSM-7",
            cost: None,
        };
        taken(&mut message, &what("SM1"), 0);
        taken(&mut message, &what("SM1"), 1);
        assert_eq!(references(&message), ["SM1"]);
        taken(&mut message, &what("SM2"), 2);
        assert_eq!(references(&message), ["SM1", "SM2"]);
        assert_eq!(message.text_at(&["status"]), Some("in-progress"));
        assert_eq!(
            message.text_at(&["note", "2", "text"]),
            Some("Handed to the provider again: 2 segments, GSM-7.")
        );
        // What has arrived by then stays so.
        message.set("status", json!("completed"));
        taken(&mut message, &what("SM2"), 3);
        assert_eq!(message.text_at(&["status"]), Some("completed"));
    }
}
