//! Commands of SMPP 3.4 as octets: those that a transceiver needs. Numbers in parentheses are sections of the
//! specification.
//!
//! What is written is strict. What is read is taken as far as it makes sense: a message centre that leaves out the end of
//! a text, or adds parameters that nobody knows, would bring the same receipt for ever otherwise, and no other behind it.

/// Octets before the body of each command (3.2).
const HEADER_OCTETS: usize = 16;
/// The largest command that is read: a payload of 64 KiB with what stands beside it.
const OCTETS_MAX: usize = 70_000;

/// What a command is (5.1.2.1).
pub(super) mod id {
    pub(in super::super) const RESPONSE: u32 = 0x8000_0000;
    pub(in super::super) const NACK: u32 = 0x8000_0000;
    pub(in super::super) const SUBMIT: u32 = 0x04;
    pub(in super::super) const DELIVER: u32 = 0x05;
    pub(in super::super) const UNBIND: u32 = 0x06;
    pub(in super::super) const BIND_TRANSCEIVER: u32 = 0x09;
    pub(in super::super) const ENQUIRE: u32 = 0x15;
    pub(in super::super) const ALERT: u32 = 0x0102;
    pub(in super::super) const DATA: u32 = 0x0103;
}

/// What is said of a command (5.1.3).
pub(super) mod status {
    pub(in super::super) const OK: u32 = 0x00;
    pub(in super::super) const INVALID_LENGTH: u32 = 0x01;
    pub(in super::super) const INVALID_COMMAND: u32 = 0x03;
    pub(in super::super) const SYSTEM_ERROR: u32 = 0x08;
    pub(in super::super) const INVALID_RECIPIENT: u32 = 0x0B;
    pub(in super::super) const QUEUE_FULL: u32 = 0x14;
    pub(in super::super) const SUBMIT_FAILED: u32 = 0x45;
    pub(in super::super) const THROTTLED: u32 = 0x58;
    pub(in super::super) const NOT_NOW: u32 = 0x64;
    pub(in super::super) const NEVER: u32 = 0x65;
    pub(in super::super) const REJECTED: u32 = 0x66;
    pub(in super::super) const DELIVERY_FAILED: u32 = 0xFE;
    pub(in super::super) const UNKNOWN_ERROR: u32 = 0xFF;
}

/// Parameters beside the fixed ones (5.3.2).
mod tag {
    pub(super) const RECEIPTED_ID: u16 = 0x001E;
    pub(super) const MARK: u16 = 0x0204;
    pub(super) const SEGMENT: u16 = 0x020F;
    pub(super) const PAYLOAD: u16 = 0x0424;
    pub(super) const STATE: u16 = 0x0427;
}

/// The default alphabet of the message centre (5.2.19).
const CODING_DEFAULT: u8 = 0x00;
const CODING_LATIN_1: u8 = 0x03;
const CODING_UCS_2: u8 = 0x08;
/// Bits of `esm_class` that say that it is no plain message (5.2.12).
const KIND_BITS: u8 = 0b0011_1100;
/// The bit that says that a header of the network stands before the text.
const HEADER_BIT: u8 = 0b0100_0000;

/// A command, with its body as it is.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) id: u32,
    pub(super) status: u32,
    pub(super) sequence: u32,
    pub(super) body: Vec<u8>,
}

impl std::fmt::Debug for Command {
    /// Shows nothing of its body: numbers and texts are in it.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Command")
            .field("id", &self.id)
            .field("status", &self.status)
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}

/// What comes is no command; where the next one begins can't be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Garbled;

impl Command {
    pub(super) fn octets(&self) -> Vec<u8> {
        let length = u32::try_from(HEADER_OCTETS + self.body.len()).unwrap_or(u32::MAX);
        let header = [length, self.id, self.status, self.sequence];
        let mut octets: Vec<u8> = header.into_iter().flat_map(u32::to_be_bytes).collect();
        octets.extend_from_slice(&self.body);
        octets
    }

    /// Takes the first command from what was read, once it is there as a whole.
    pub(super) fn take(read: &mut Vec<u8>) -> Result<Option<Self>, Garbled> {
        let mut header = Fields(read);
        let Some(length) = header.word() else {
            return Ok(None);
        };
        let length = usize::try_from(length).map_err(|_| Garbled)?;
        if !(HEADER_OCTETS..=OCTETS_MAX).contains(&length) {
            return Err(Garbled);
        }
        let (Some(id), Some(status), Some(sequence)) =
            (header.word(), header.word(), header.word())
        else {
            return Ok(None);
        };
        if read.len() < length {
            return Ok(None);
        }
        let rest = read.split_off(length);
        let whole = std::mem::replace(read, rest);
        Ok(Some(Self {
            id,
            status,
            sequence,
            body: whole.get(HEADER_OCTETS..).unwrap_or_default().to_vec(),
        }))
    }
}

/// The body of `bind_transceiver` (4.1.5). Nothing where a text is too long for its field, or none of it.
pub(super) fn bind(system_id: &str, password: &str, system_type: &str) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    put_text(&mut body, system_id, 16)?;
    put_text(&mut body, password, 9)?;
    put_text(&mut body, system_type, 13)?;
    // Version 3.4, and all addresses of the account.
    body.extend([0x34, 0, 0, 0]);
    Some(body)
}

/// Where a message comes from: type of number, plan, and the address itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sender {
    pub(super) ton: u8,
    pub(super) npi: u8,
    pub(super) address: String,
}

impl Sender {
    /// A number, a short code or a name as it is configured.
    pub(super) fn parse(from: &str) -> Option<Self> {
        let digits = from.strip_prefix('+').unwrap_or(from);
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let is_name = from.bytes().all(|byte| (b' '..0x7F).contains(&byte))
            && from.bytes().any(|byte| byte.is_ascii_alphabetic());
        let (ton, npi, address) = match (is_number, digits.len()) {
            // A short code is the network's own.
            (true, 1..=8) => (3, 0, digits),
            (true, 9..=15) => (1, 1, digits),
            (false, 1..=11) if is_name && from.len() <= 11 => (5, 0, from),
            _ => return None,
        };
        Some(Self {
            ton,
            npi,
            address: address.to_owned(),
        })
    }
}

/// A message on its way out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outgoing<'a> {
    pub(super) from: &'a Sender,
    /// With its country.
    pub(super) to: &'a str,
    pub(super) text: &'a str,
    /// Whether it is to be told what becomes of it.
    pub(super) has_receipt: bool,
    /// By what it is known again.
    pub(super) mark: Option<u16>,
}

impl Outgoing<'_> {
    /// The body of `submit_sm` (4.4.1). What is longer than one part goes as a payload, whole: the centre cuts it.
    pub(super) fn body(&self) -> Option<Vec<u8>> {
        let is_one = trust::sms::segments(self.text).count == 1;
        let (alphabet, octets) = trust::sms::octets(self.text);
        let coding = match alphabet {
            trust::sms::Alphabet::Gsm7 => CODING_DEFAULT,
            trust::sms::Alphabet::Ucs2 => CODING_UCS_2,
        };
        let mut body = vec![0, self.from.ton, self.from.npi];
        put_text(&mut body, &self.from.address, 21)?;
        body.extend([1, 1]);
        put_text(&mut body, self.to.strip_prefix('+')?, 21)?;
        // A plain message, without protocol and priority, at once, for as long as the centre keeps one.
        body.extend([0, 0, 0, 0, 0]);
        body.extend([u8::from(self.has_receipt), 0, coding, 0]);
        if is_one {
            body.push(u8::try_from(octets.len()).ok()?);
            body.extend_from_slice(&octets);
        } else {
            body.push(0);
            put_parameter(&mut body, tag::PAYLOAD, &octets)?;
        }
        if let Some(mark) = self.mark {
            put_parameter(&mut body, tag::MARK, &mark.to_be_bytes())?;
        }
        Some(body)
    }
}

/// What the centre calls a message that it took (4.4.2). Nothing where it says none.
pub(super) fn taken_as(body: &[u8]) -> Option<String> {
    let name = Fields(body).text();
    (!name.is_empty()).then_some(name)
}

/// What a centre brings: a receipt, or what somebody has sent to our number.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Brought {
    /// Type of the number that it comes from.
    pub(super) ton: u8,
    pub(super) from: String,
    pub(super) text: String,
    /// Whether it says of itself that it is no plain message.
    pub(super) is_special: bool,
    /// What the centre calls the message that it is a receipt of.
    pub(super) receipted: Option<String>,
    pub(super) state: Option<u8>,
    pub(super) mark: Option<u16>,
    /// Which part of a longer text it is, from 1.
    pub(super) part: u8,
}

impl std::fmt::Debug for Brought {
    /// Shows neither the number nor the text.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Brought")
            .field("ton", &self.ton)
            .field("state", &self.state)
            .field("part", &self.part)
            .finish_non_exhaustive()
    }
}

impl Brought {
    /// Reads `deliver_sm` (4.6.1).
    pub(super) fn of_deliver(body: &[u8]) -> Option<Self> {
        let mut fields = Fields(body);
        let (ton, from) = fields.addresses()?;
        let class = fields.octet()?;
        // Protocol, priority, two times, what is asked for, and what it replaces.
        fields.take(2)?;
        fields.text();
        fields.text();
        fields.take(2)?;
        let coding = fields.octet()?;
        fields.octet()?;
        let length = usize::from(fields.octet()?);
        let length = length.min(fields.0.len());
        let octets = fields.take(length)?;
        Some(Self::of((ton, from), class, (coding, octets), fields))
    }

    /// Reads `data_sm` (4.7.1), by which some bring receipts.
    pub(super) fn of_data(body: &[u8]) -> Option<Self> {
        let mut fields = Fields(body);
        let (ton, from) = fields.addresses()?;
        let class = fields.octet()?;
        fields.octet()?;
        let coding = fields.octet()?;
        Some(Self::of((ton, from), class, (coding, &[]), fields))
    }

    fn of(
        (ton, from): (u8, String),
        class: u8,
        (coding, octets): (u8, &[u8]),
        mut fields: Fields<'_>,
    ) -> Self {
        let mut found = Self {
            ton,
            from,
            is_special: class & KIND_BITS != 0,
            part: 1,
            ..Self::default()
        };
        let mut octets = octets;
        while let Some((tag, value)) = fields.parameter() {
            match (tag, value) {
                (tag::RECEIPTED_ID, _) => found.receipted = Some(Fields(value).text()),
                (tag::STATE, [state, ..]) => found.state = Some(*state),
                (tag::MARK, [high, low]) => found.mark = Some(u16::from_be_bytes([*high, *low])),
                (tag::SEGMENT, [part, ..]) => found.part = *part,
                (tag::PAYLOAD, _) => octets = value,
                _ => {}
            }
        }
        if class & HEADER_BIT != 0
            && let Some((length, rest)) = octets.split_first()
        {
            let (header, text) = rest.split_at(rest.len().min(usize::from(*length)));
            found.part = part(header).unwrap_or(found.part);
            octets = text;
        }
        // The texts of receipts are the centre's own. Many write them in ASCII whatever their alphabet is; what has octets
        // that are no letters there is in that of GSM.
        let is_own = !found.is_text() && coding == CODING_DEFAULT && is_ascii(octets);
        found.text = match coding & 0x0F {
            CODING_UCS_2 => trust::sms::from_ucs2(octets),
            CODING_DEFAULT if is_own => {
                let octets = octets.strip_suffix(&[0]).unwrap_or(octets);
                octets.iter().copied().map(char::from).collect()
            }
            CODING_LATIN_1 => octets.iter().copied().map(char::from).collect(),
            // Some say that of the alphabet of GSM, too. No other has its escape.
            1 if !octets.contains(&0x1B) => String::from_utf8_lossy(octets).into_owned(),
            _ => trust::sms::from_gsm7(octets),
        };
        found
    }

    /// Whether somebody wrote it. All else tells of a message.
    pub(super) fn is_text(&self) -> bool {
        !self.is_special && self.receipted.is_none()
    }

    /// What a receipt's text says under a name (appendix B).
    pub(super) fn said(&self, name: &str) -> Option<&str> {
        // Letters beyond ASCII keep their length.
        let lower = self.text.to_ascii_lowercase();
        let before = |at: usize| {
            lower
                .get(..at)
                .is_none_or(|text| text.is_empty() || text.ends_with(' '))
        };
        let name = format!("{name}:");
        let mut all = lower.match_indices(&name);
        let (at, _) = all.find(|(at, _)| before(*at))?;
        let value = self.text.get(at + name.len()..)?;
        value.split_whitespace().next()
    }
}

/// Whether octets are lines of ASCII, or end as such.
fn is_ascii(octets: &[u8]) -> bool {
    let octets = octets.strip_suffix(&[0]).unwrap_or(octets);
    let is_letter = |octet: &u8| *octet >= b' ' || matches!(octet, b'\t' | b'\n' | b'\r');
    octets.iter().all(is_letter)
}

/// Which part a header of the network says that it is (3GPP TS 23.040, 9.2.3.24).
fn part(header: &[u8]) -> Option<u8> {
    let mut fields = Fields(header);
    loop {
        let kind = fields.octet()?;
        let length = usize::from(fields.octet()?);
        match (kind, fields.take(length)?) {
            (0x00, [_, _, part]) | (0x08, [_, _, _, part]) => return Some(*part),
            _ => {}
        }
    }
}

/// Adds a text with its end. Nothing where it doesn't fit into so many octets with that.
fn put_text(body: &mut Vec<u8>, text: &str, most: usize) -> Option<()> {
    if text.len() >= most || !text.bytes().all(|byte| (0x01..0x80).contains(&byte)) {
        return None;
    }
    body.extend_from_slice(text.as_bytes());
    body.push(0);
    Some(())
}

fn put_parameter(body: &mut Vec<u8>, tag: u16, value: &[u8]) -> Option<()> {
    let length = u16::try_from(value.len()).ok()?;
    body.extend(tag.to_be_bytes());
    body.extend(length.to_be_bytes());
    body.extend_from_slice(value);
    Some(())
}

/// What is left to read of a body.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn octet(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn word(&mut self) -> Option<u32> {
        let four: [u8; 4] = self.take(4)?.try_into().ok()?;
        Some(u32::from_be_bytes(four))
    }

    /// A text to its end, or to that of the body.
    fn text(&mut self) -> String {
        let end = self.0.iter().position(|octet| *octet == 0);
        let (text, rest) = match end {
            Some(end) => (
                self.0.get(..end).unwrap_or_default(),
                self.0.get(end + 1..).unwrap_or_default(),
            ),
            None => (self.0, &[][..]),
        };
        self.0 = rest;
        String::from_utf8_lossy(text).into_owned()
    }

    /// The type of the number that a message comes from, and the number; what it was sent to is passed over.
    fn addresses(&mut self) -> Option<(u8, String)> {
        self.text();
        let ton = self.octet()?;
        self.octet()?;
        let from = self.text();
        self.take(2)?;
        self.text();
        Some((ton, from))
    }

    /// The next parameter; one that is cut short ends them.
    fn parameter(&mut self) -> Option<(u16, &'a [u8])> {
        let head = self.take(4)?;
        let [tag_high, tag_low, high, low] = head else {
            return None;
        };
        let length = u16::from_be_bytes([*high, *low]);
        let value = self.take(usize::from(length))?;
        Some((u16::from_be_bytes([*tag_high, *tag_low]), value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A `deliver_sm` as a centre writes it.
    fn delivered(class: u8, coding: u8, octets: &[u8], parameters: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = vec![0, 1, 1];
        put_text(&mut body, "16175550142", 21).expect("a number");
        body.extend([1, 1]);
        put_text(&mut body, "16175550100", 21).expect("a number");
        body.extend([class, 0, 0, 0, 0, 0, 0, coding, 0]);
        body.push(u8::try_from(octets.len()).expect("a short text"));
        body.extend_from_slice(octets);
        for (tag, value) in parameters {
            put_parameter(&mut body, *tag, value).expect("a parameter");
        }
        body
    }

    const WORDS: &[u8] = b"id:0123456789 sub:001 dlvrd:001 submit date:2611301200 done date:2611301201 stat:DELIVRD err:000 text:Your id:7";

    #[test]
    fn commands_are_taken_one_by_one_as_they_come() {
        let command = |sequence, body: &[u8]| Command {
            id: id::DELIVER,
            status: 0,
            sequence,
            body: body.to_vec(),
        };
        let (first, second) = (command(1, b"abc"), command(2, b""));
        let all = [first.octets(), second.octets()].concat();
        assert_eq!(all.len(), 19 + 16);
        for cut in 0..all.len() {
            let mut read = all[..cut].to_vec();
            let mut found = Vec::new();
            while let Some(one) = Command::take(&mut read).expect("a command") {
                found.push(one);
            }
            read.extend_from_slice(&all[cut..]);
            while let Some(one) = Command::take(&mut read).expect("a command") {
                found.push(one);
            }
            assert_eq!(found, [first.clone(), second.clone()], "{cut}");
        }
        for length in [0_u32, 15, 70_001, u32::MAX] {
            let mut read = length.to_be_bytes().to_vec();
            assert_eq!(Command::take(&mut read), Err(Garbled), "{length}");
        }
    }

    #[test]
    fn a_bind_is_as_the_specification_has_it() {
        let body = bind("cairn", "secret08", "").expect("a body");
        assert_eq!(body, b"cairn\0secret08\0\0\x34\0\0\0");
        assert_eq!(bind("cairn", "secret089", ""), None);
        assert_eq!(bind("sixteen-octets-x", "x", ""), None);
        assert_eq!(bind("caïrn", "x", ""), None);
    }

    #[test]
    fn senders_are_numbers_codes_or_names() {
        for (from, expected) in [
            ("+16175550100", Some((1, "16175550100"))),
            ("16175550100", Some((1, "16175550100"))),
            ("61755", Some((3, "61755"))),
            ("Northmoor", Some((5, "Northmoor"))),
            ("Northmoor General", None),
            ("Nörd", None),
            ("", None),
            ("+", None),
            ("+1234567890123456", None),
        ] {
            let found = Sender::parse(from);
            let found = found.as_ref().map(|one| (one.ton, one.address.as_str()));
            assert_eq!(found, expected, "{from}");
        }
    }

    #[test]
    fn a_message_of_one_part_is_short_and_a_longer_one_a_payload() {
        let from = Sender::parse("+16175550100").expect("a sender");
        let body = |text: &str, has_receipt, mark| {
            let outgoing = Outgoing {
                from: &from,
                to: "+16175550142",
                text,
                has_receipt,
                mark,
            };
            outgoing.body().expect("a body")
        };
        let head = |receipts: u8, coding: u8| {
            let mut head = b"\0\x01\x0116175550100\0\x01\x0116175550142\0\0\0\0\0\0".to_vec();
            head.extend([receipts, 0, coding, 0]);
            head
        };
        let expected = [&head(1, 0)[..], b"\x03a\x11\x00", b"\x02\x04\0\x02\xBE\xEF"].concat();
        assert_eq!(body("a_@", true, Some(0xBEEF)), expected);
        let expected = [&head(0, 8)[..], b"\x06\x04\x16\xD8\x3D\xDE\0"].concat();
        assert_eq!(body("Ж😀", false, None), expected);
        let whole = body(&"a".repeat(160), false, None);
        assert_eq!(whole.len(), head(0, 0).len() + 1 + 160);
        let long = body(&"a".repeat(161), false, None);
        let expected = [&head(0, 0)[..], b"\0\x04\x24\0\xA1", &[b'a'; 161]].concat();
        assert_eq!(long, expected);
        let long = body(&"ê".repeat(71), false, None);
        assert_eq!(long.len(), head(0, 8).len() + 1 + 4 + 142);
    }

    #[test]
    fn receipts_are_read_by_parameters_and_by_words() {
        let receipt = Brought::of_deliver(&delivered(4, 0, WORDS, &[])).expect("a receipt");
        assert!(!receipt.is_text());
        assert_eq!(receipt.from, "16175550142");
        assert_eq!(receipt.said("id"), Some("0123456789"));
        assert_eq!(receipt.said("stat"), Some("DELIVRD"));
        assert_eq!(receipt.said("err"), Some("000"));
        assert_eq!(receipt.said("nothing"), None);
        // Names have what is another letter in the alphabet of GSM: in this, and in ASCII.
        let read = |octets: &[u8]| {
            let read = Brought::of_deliver(&delivered(4, 0, octets, &[]));
            read.expect("a receipt")
        };
        let strange = read(b"id:a_b@$ stat:DELIVRD\0");
        assert_eq!(strange.said("id"), Some("a_b@$"));
        assert_eq!(strange.said("stat"), Some("DELIVRD"));
        let strange = read(b"id:a\x11b\x00\x02 stat:DELIVRD");
        assert_eq!(strange.said("id"), Some("a_b@$"));
        let shown = format!("{strange:?}");
        assert!(
            !shown.contains("1617") && !shown.contains("DELIVRD"),
            "{shown}"
        );
        // With the end of the name, without it, and with what nobody knows between them.
        for name in [&b"m1\0"[..], b"m1"] {
            let parameters = [
                (tag::RECEIPTED_ID, name),
                (0x1400, b"x"),
                (tag::STATE, b"\x02"),
                (tag::MARK, b"\xBE\xEF"),
            ];
            let body = delivered(0, 0, b"", &parameters);
            let receipt = Brought::of_deliver(&body).expect("a receipt");
            assert!(!receipt.is_text());
            assert_eq!(receipt.receipted.as_deref(), Some("m1"));
            assert_eq!((receipt.state, receipt.mark), (Some(2), Some(0xBEEF)));
        }
    }

    #[test]
    fn what_people_write_is_read_in_each_alphabet() {
        let joined = [&[5, 0, 3, 9, 2, 2][..], b"STOP"].concat();
        let table: [(u8, u8, &[u8], &str, u8); 6] = [
            (0, 0, b"STOP", "STOP", 1),
            (0, 0, &[0x41, 0x52, 0x52, 0x1C], "ARRÆ", 1),
            (0, 3, &[0x41, 0xCA], "AÊ", 1),
            (0, 8, &[0x00, 0x53, 0x04, 0x16], "SЖ", 1),
            (0x40, 0, &joined, "STOP", 2),
            (0, 1, b"stop", "stop", 1),
        ];
        for (class, coding, octets, text, part) in table {
            let found = Brought::of_deliver(&delivered(class, coding, octets, &[]));
            let found = found.expect("a text");
            assert!(found.is_text(), "{text}");
            assert_eq!((found.text.as_str(), found.part), (text, part));
        }
        let body = delivered(
            0,
            0,
            b"",
            &[(tag::PAYLOAD, b"STOP"), (tag::SEGMENT, b"\x02")],
        );
        let found = Brought::of_deliver(&body).expect("a text");
        assert_eq!((found.text.as_str(), found.part), ("STOP", 2));
    }

    /// Whatever comes: each command cut anywhere, and with each octet changed.
    #[test]
    fn nothing_that_comes_breaks_the_reader() {
        let parameters = [(tag::RECEIPTED_ID, &b"m1\0"[..]), (tag::STATE, b"\x02")];
        let bodies = [
            delivered(4, 0, WORDS, &parameters),
            delivered(0x40, 8, &[5, 0, 3, 9, 2, 1, 0, 0x53], &[]),
        ];
        for body in &bodies {
            for cut in 0..body.len() {
                let read = Brought::of_deliver(&body[..cut]);
                read.map(|one| one.said("id").map(str::to_owned));
                Brought::of_data(&body[..cut]);
                taken_as(&body[..cut]);
            }
            for place in 0..body.len() {
                for value in [0x00, 0x01, 0x7F, 0x80, 0xC3, 0xFF] {
                    let mut changed = body.clone();
                    changed[place] = value;
                    let read = Brought::of_deliver(&changed);
                    read.map(|one| one.said("stat").map(str::to_owned));
                    Brought::of_data(&changed);
                }
            }
        }
    }
}
