//! A booked visit for the patient's calendar, as it goes by e-mail (iCalendar, RFC 5545; iTIP, RFC 5546; iMIP, RFC 6047).
//!
//! The mailbox isn't cleared for anything of the patient, and calendars are shared with families and at work: the entry
//! has the time, who sends it, and "Appointment". Times are in UTC, an instant that is the same in every zone and over
//! every change of the clocks; a calendar shows it in its owner's own.

use icalendar::{Calendar, Component, Event, Property};
use lettre::Address;
use lettre::message::Mailbox;
use trust::outgoing::Visit;

/// What the entry is called, whatever the visit is for.
const SUMMARY: &str = "Appointment";
/// Who has made it (RFC 5545, section 3.7.3).
const PRODUCT: &str = "-//Cairn//Cairn//EN";

/// The entry of a visit, as a part of a mail has it.
pub(crate) struct Entry {
    pub(crate) text: String,
    /// `REQUEST` or `CANCEL`.
    pub(crate) method: &'static str,
}

/// What an entry is made from.
pub(crate) struct Entered<'a> {
    pub(crate) visit: &'a Visit,
    /// The domain of `Message-ID`s, which makes the entry's name one of its own.
    pub(crate) domain: &'a str,
    pub(crate) from: &'a Mailbox,
    pub(crate) to: &'a Address,
    /// The portal, behind whose sign-in the rest is.
    pub(crate) portal: &'a str,
    pub(crate) now_ms: u64,
}

impl Entered<'_> {
    /// The entry: the same `UID` for as long as the visit is the same, and a `SEQUENCE` that rises with each change.
    pub(crate) fn entry(&self) -> Entry {
        let visit = self.visit;
        let (method, status) = if visit.cancelled {
            ("CANCEL", "CANCELLED")
        } else {
            ("REQUEST", "CONFIRMED")
        };
        let mut organizer = Property::new("ORGANIZER", format!("mailto:{}", self.from.email));
        if let Some(name) = &self.from.name {
            // No form of quoting lets a quotation mark, or what ends a line, into a parameter.
            let name: String = name
                .chars()
                .filter(|letter| *letter != '"' && !letter.is_control())
                .collect();
            organizer.add_parameter("CN", &name);
        }
        let mut attendee = Property::new("ATTENDEE", format!("mailto:{}", self.to));
        attendee
            .add_parameter("ROLE", "REQ-PARTICIPANT")
            .add_parameter("PARTSTAT", "ACCEPTED")
            // Nobody here reads an answer.
            .add_parameter("RSVP", "FALSE");
        let mut event = Event::new();
        event
            .uid(&format!("{}@{}", visit.appointment, self.domain))
            .add_property("DTSTAMP", moment(self.now_ms))
            .add_property("DTSTART", moment(visit.start_ms))
            .add_property("DTEND", moment(visit.end_ms))
            .add_property("SEQUENCE", visit.sequence.to_string())
            .add_property("STATUS", status)
            .add_property("TRANSP", "OPAQUE")
            .add_property("CLASS", "PRIVATE")
            .summary(SUMMARY)
            .description(&format!(
                "What it is about is behind the sign-in: {}",
                self.portal
            ));
        event.append_property(organizer.done());
        event.append_property(attendee.done());
        let mut calendar = Calendar::empty();
        calendar
            .append_property(Property::new("VERSION", "2.0"))
            .append_property(Property::new("PRODID", PRODUCT))
            .append_property(Property::new("CALSCALE", "GREGORIAN"))
            .append_property(Property::new("METHOD", method));
        let text = calendar.push(event.done()).done().to_string();
        Entry { text, method }
    }
}

/// A moment in UTC: `20261130T093000Z`.
fn moment(at_ms: u64) -> String {
    let text = fhir::date::instant(at_ms);
    let (second, _) = text.split_once('.').unwrap_or((&text, ""));
    let plain: String = second
        .chars()
        .filter(|letter| letter.is_ascii_digit() || *letter == 'T')
        .collect();
    format!("{plain}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(change: impl FnOnce(&mut Visit)) -> String {
        let mut visit = Visit {
            appointment: "3f2504e0-4f89-41d3-9a0c-0305e82c3301".to_owned(),
            start_ms: 1_793_000_000_000,
            end_ms: 1_793_001_800_000,
            sequence: 0,
            cancelled: false,
        };
        change(&mut visit);
        let from: Mailbox = "\"Northmoor; General, \\\"N\\\"\" <care@hospital.example>"
            .parse()
            .expect("a mailbox");
        let to: Address = "o.quandt@example.com".parse().expect("an address");
        let entered = Entered {
            visit: &visit,
            domain: "hospital.example",
            from: &from,
            to: &to,
            portal: "https://portal.example",
            now_ms: 1_792_900_000_000,
        };
        entered.entry().text
    }

    #[test]
    fn an_entry_says_when_and_from_whom_and_nothing_else() {
        let text = entry(|_| ());
        let whole = text.replace("\r\n ", "");
        for line in [
            "METHOD:REQUEST",
            "UID:3f2504e0-4f89-41d3-9a0c-0305e82c3301@hospital.example",
            "DTSTART:20261026T073320Z",
            "DTEND:20261026T080320Z",
            "SEQUENCE:0",
            "STATUS:CONFIRMED",
            "SUMMARY:Appointment",
            "ORGANIZER;CN=\"Northmoor; General, N\":mailto:care@hospital.example",
        ] {
            assert!(
                whole.lines().any(|found| found == line),
                "{line} is not in {whole}"
            );
        }
        assert!(text.lines().all(|line| line.len() <= 75), "{text}");
        assert!(!text.contains("LOCATION"), "{text}");
        let called_off = entry(|visit| {
            visit.cancelled = true;
            visit.sequence = 2;
        });
        for line in ["METHOD:CANCEL", "STATUS:CANCELLED", "SEQUENCE:2"] {
            assert!(
                called_off.lines().any(|found| found == line),
                "{line}: {called_off}"
            );
        }
    }

    #[test]
    fn moments_are_in_utc_to_the_second() {
        assert_eq!(moment(0), "19700101T000000Z");
        // Either side of the end of summer time in Europe, 2026-10-25 01:00 UTC.
        assert_eq!(moment(1_792_889_999_999), "20261025T005959Z");
        assert_eq!(moment(1_792_890_000_000), "20261025T010000Z");
    }
}
