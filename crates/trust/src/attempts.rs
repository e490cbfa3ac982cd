//! Each attempt at a message and each receipt of it, as its `Communication` has them: a `note` with the time and words
//! for people, and an extension with codes for programs. `exchange` writes them, the pages read them; being siblings they
//! meet here. The words are Cairn's own: nothing of what another server answers, and nothing of whom it was for.
//!
//! ```json
//! {"time": "2026-11-30T10:00:00Z", "text": "Attempt 1 put off: the mail server could not be reached.",
//!  "extension": [{"url": "urn:cairn:attempt", "extension": [
//!    {"url": "did", "valueCode": "put-off"}, {"url": "next", "valueInstant": "2026-11-30T10:01:00Z"}]}]}
//! ```

use fhir::Resource;
use serde_json::{Value, json};

/// Extension of a message's `note`: `did` (valueCode, see [`Did`]) and, where there is one, `reason` (valueCode of
/// [`NOT_DONE_SYSTEM`](crate::conventions::NOT_DONE_SYSTEM)) and `next` (valueInstant), when it is tried again.
pub const ATTEMPT_URL: &str = "urn:cairn:attempt";

/// How many notes of attempts and receipts a message keeps, whatever notes others wrote beside them; of more, the oldest
/// that say only that it is not there yet make room, or else the oldest after the first hand-over: what is newest is always
/// written down. A message has twenty attempts at most, and a few receipts.
const NOTES_MAX: usize = 50;

/// What an attempt came to, or what a receipt says. Codes are stored, so they are for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Did {
    /// The next one on its way has it: a mail server, a provider, a push service.
    HandedOver,
    /// It was tried, and is tried again.
    PutOff,
    /// It was not tried, because it may not leave yet.
    Waits,
    /// It won't be tried any more.
    NotSent,
    /// A receipt: it is there.
    Arrived,
    /// A receipt: it won't get there, or came back.
    Returned,
    /// A receipt: it isn't there yet, and is still on its way.
    Delayed,
    /// Who got it doesn't want such messages.
    Unwanted,
}

impl Did {
    const ALL: [(Self, &'static str); 8] = [
        (Self::HandedOver, "handed-over"),
        (Self::PutOff, "put-off"),
        (Self::Waits, "waits"),
        (Self::NotSent, "not-sent"),
        (Self::Arrived, "arrived"),
        (Self::Returned, "returned"),
        (Self::Delayed, "delayed"),
        (Self::Unwanted, "unwanted"),
    ];

    /// Its code in the extension.
    #[must_use]
    pub fn code(self) -> &'static str {
        let mut all = Self::ALL.iter();
        all.find(|(did, _)| *did == self)
            .map_or("", |(_, code)| code)
    }

    /// That with this code.
    #[must_use]
    pub fn parse(code: &str) -> Option<Self> {
        let mut all = Self::ALL.iter();
        all.find(|(_, known)| *known == code).map(|(did, _)| *did)
    }

    /// Whether it says only that the message is not there yet.
    fn is_passing(self) -> bool {
        matches!(self, Self::PutOff | Self::Waits | Self::Delayed)
    }
}

/// An attempt, or a receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempted {
    /// When, milliseconds since the epoch, care clock.
    pub at_ms: u64,
    /// What came of it.
    pub did: Did,
    /// In words for staff, without patient details.
    pub words: String,
    /// Why it is not sent, or waits, as a code.
    pub reason: Option<String>,
    /// When it is tried again.
    pub next_ms: Option<u64>,
}

impl Attempted {
    /// One without reason and without a next time.
    #[must_use]
    pub fn new(did: Did, words: impl Into<String>, at_ms: u64) -> Self {
        Self {
            at_ms,
            did,
            words: words.into(),
            reason: None,
            next_ms: None,
        }
    }

    /// As a `note` of the `Communication`.
    #[must_use]
    pub fn note(&self) -> Value {
        let mut parts = vec![json!({"url": "did", "valueCode": self.did.code()})];
        if let Some(reason) = &self.reason {
            parts.push(json!({"url": "reason", "valueCode": reason}));
        }
        if let Some(next_ms) = self.next_ms {
            parts.push(json!({"url": "next", "valueInstant": fhir::date::instant(next_ms)}));
        }
        json!({
            "extension": [{"url": ATTEMPT_URL, "extension": parts}],
            "time": fhir::date::instant(self.at_ms),
            "text": self.words
        })
    }

    /// From a `note`; nothing where it is none of an attempt, or of a kind that isn't known here.
    #[must_use]
    pub fn read(note: &Value) -> Option<Self> {
        let extensions = note["extension"].as_array()?;
        let parts =
            extensions.iter().find(|one| one["url"] == ATTEMPT_URL)?["extension"].as_array()?;
        let part = |name: &str| parts.iter().find(|part| part["url"] == name);
        let ms = |text: &Value| {
            let at = fhir::date::parse(text.as_str()?)?;
            u64::try_from(at.start_ms).ok()
        };
        Some(Self {
            at_ms: ms(&note["time"])?,
            did: Did::parse(part("did")?["valueCode"].as_str()?)?,
            words: note["text"].as_str().unwrap_or_default().to_owned(),
            reason: part("reason")
                .and_then(|part| part["valueCode"].as_str())
                .map(str::to_owned),
            next_ms: part("next").and_then(|part| ms(&part["valueInstant"])),
        })
    }

    /// Writes it into a `Communication`. One that waits for the same as a moment ago waits longer, and that is one note.
    pub fn write(&self, communication: &mut Resource) {
        let notes = communication.get("note").and_then(Value::as_array);
        let mut notes = notes.cloned().unwrap_or_default();
        // Those of others are not ours to count, and not ours to drop.
        let ours: Vec<(usize, Self)> = (notes.iter().enumerate())
            .filter_map(|(place, note)| Some((place, Self::read(note)?)))
            .collect();
        let waited = ours.last().filter(|(_, last)| {
            self.did == Did::Waits && last.did == Did::Waits && last.reason == self.reason
        });
        let no_longer = match waited {
            Some((place, _)) => Some(*place),
            None if ours.len() >= NOTES_MAX => oldest_that_goes(&ours),
            None => None,
        };
        if let Some(place) = no_longer {
            notes.remove(place);
        }
        notes.push(self.note());
        communication.set("note", Value::Array(notes));
    }
}

/// Which of them makes room for another.
fn oldest_that_goes(ours: &[(usize, Attempted)]) -> Option<usize> {
    let passing = ours.iter().find(|(_, one)| one.did.is_passing());
    let handed = ours.iter().position(|(_, one)| one.did == Did::HandedOver);
    let others = ours.iter().enumerate();
    let oldest = others.filter(|(number, _)| Some(*number) != handed);
    let oldest = oldest.map(|(_, one)| one);
    let goes = passing.or_else(|| oldest.min_by_key(|(place, _)| *place))?;
    Some(goes.0)
}

/// The attempts at a message and its receipts, oldest first.
#[must_use]
pub fn attempts(communication: &Resource) -> Vec<Attempted> {
    let notes = communication.get("note").and_then(Value::as_array);
    let notes = notes.into_iter().flatten();
    notes.filter_map(Attempted::read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Resource {
        let message = json!({"resourceType": "Communication", "id": "c", "status": "preparation"});
        Resource::from_value(message).expect("a message")
    }

    #[test]
    fn what_is_written_is_read() {
        let mut message = message();
        for (place, (did, code)) in Did::ALL.into_iter().enumerate() {
            assert_eq!(
                (did.code(), Did::parse(code)),
                (code, Some(did)),
                "{code} is one"
            );
            let written = Attempted {
                reason: (place % 2 == 0).then(|| "consent".to_owned()),
                next_ms: (place % 3 == 0).then_some(1_793_000_060_000),
                ..Attempted::new(did, format!("Words {place}."), 1_793_000_000_000)
            };
            written.write(&mut message);
            assert_eq!(attempts(&message).last(), Some(&written));
        }
        assert_eq!(attempts(&message).len(), Did::ALL.len());
    }

    #[test]
    fn others_notes_and_kinds_that_are_not_known_are_passed_over() {
        let mut message = message();
        let odd = json!([
            {"text": "rang twice, is at her daughter's"},
            {"time": "2026-11-30T10:00:00Z", "text": "x", "extension": [{"url": ATTEMPT_URL, "extension": [{"url": "did", "valueCode": "carried-by-pigeon"}]}]},
            {"text": "without a time", "extension": [{"url": ATTEMPT_URL, "extension": [{"url": "did", "valueCode": "arrived"}]}]},
            {"extension": "none"}
        ]);
        message.set("note", odd);
        assert_eq!(attempts(&message), []);
    }

    #[test]
    fn what_waits_on_is_one_note_and_many_put_off_make_room() {
        let mut message = message();
        let waits = |reason: &str, at_ms| Attempted {
            reason: Some(reason.to_owned()),
            ..Attempted::new(Did::Waits, "It waits.", at_ms)
        };
        waits("quiet-hours", 1_000).write(&mut message);
        waits("quiet-hours", 2_000).write(&mut message);
        waits("capped", 3_000).write(&mut message);
        let times: Vec<_> = attempts(&message).iter().map(|one| one.at_ms).collect();
        assert_eq!(times, [2_000, 3_000]);
        Attempted::new(Did::HandedOver, "Handed over.", 4_000).write(&mut message);
        for count in 0..200_u64 {
            Attempted::new(Did::PutOff, "Put off.", 5_000 + count * 1_000).write(&mut message);
        }
        let kept = attempts(&message);
        assert_eq!(kept.len(), NOTES_MAX);
        assert_eq!(kept[0].did, Did::HandedOver, "what counts is kept");
        assert_eq!(kept.last().map(|one| one.at_ms), Some(204_000));
    }

    #[test]
    fn the_newest_is_written_down_however_many_notes_there_are() {
        let dids = |message: &Resource| -> Vec<Did> {
            attempts(message).iter().map(|one| one.did).collect()
        };
        // Others filled it.
        let mut full = message();
        let foreign: Vec<Value> = (0..50)
            .map(|number| json!({"text": format!("call {number}")}))
            .collect();
        full.set("note", Value::Array(foreign));
        Attempted::new(Did::HandedOver, "Handed over.", 1_000).write(&mut full);
        Attempted::new(Did::Arrived, "It has arrived.", 2_000).write(&mut full);
        assert_eq!(dids(&full), [Did::HandedOver, Did::Arrived]);
        let notes = full.get("note").and_then(Value::as_array).expect("notes");
        assert_eq!(notes.len(), 52, "what others wrote is kept");

        // It was on its way for long, or came back again and again.
        for did in [Did::Delayed, Did::Returned] {
            let mut long = message();
            Attempted::new(Did::HandedOver, "Handed over.", 1_000).write(&mut long);
            for count in 0..60_u64 {
                Attempted::new(did, "A receipt.", 2_000 + count).write(&mut long);
            }
            Attempted::new(Did::Arrived, "It has arrived.", 9_000).write(&mut long);
            let kept = attempts(&long);
            assert_eq!(kept.len(), NOTES_MAX);
            assert_eq!(kept[0].did, Did::HandedOver);
            assert_eq!(kept[1].at_ms, 2_000 + 12, "{did:?}: the oldest went");
            assert_eq!(kept.last().map(|one| one.did), Some(Did::Arrived));
        }

        // One that waits on is one note, whatever others write meanwhile.
        let mut waiting = message();
        Attempted::new(Did::Waits, "It waits.", 1_000).write(&mut waiting);
        let mut notes = waiting
            .get("note")
            .and_then(Value::as_array)
            .cloned()
            .expect("notes");
        notes.push(json!({"text": "rang"}));
        waiting.set("note", Value::Array(notes));
        Attempted::new(Did::Waits, "It waits.", 2_000).write(&mut waiting);
        let kept = attempts(&waiting);
        assert_eq!((kept.len(), kept[0].at_ms), (1, 2_000));
    }
}
