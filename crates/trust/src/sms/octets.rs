//! Texts as octets, as SMPP has them: one for each place in the default alphabet, unpacked, or the units of UCS-2.

use super::{Alphabet, BASIC, EXTENSION};

/// Before a character of the extension. It stands among the basic ones, and isn't in their list.
const ESCAPE: u8 = 0x1B;
/// The codes of the extension, in the order of its list (TS 23.038, 6.2.1.1).
const EXTENSION_CODES: [u8; 10] = [0x0A, 0x14, 0x28, 0x29, 0x2F, 0x3C, 0x3D, 0x3E, 0x40, 0x65];

/// The octets of a text, and in which alphabet.
#[must_use]
pub fn octets(text: &str) -> (Alphabet, Vec<u8>) {
    let mut plain = Vec::with_capacity(text.len());
    if text.chars().all(|character| put(character, &mut plain)) {
        return (Alphabet::Gsm7, plain);
    }
    let units = text.encode_utf16().flat_map(u16::to_be_bytes);
    (Alphabet::Ucs2, units.collect())
}

/// Adds a character of the default alphabet. Whether it is one.
fn put(character: char, octets: &mut Vec<u8>) -> bool {
    let at = |alphabet: &str| alphabet.chars().position(|one| one == character);
    if let Some(place) = at(BASIC).and_then(|place| u8::try_from(place).ok()) {
        octets.push(if place < ESCAPE { place } else { place + 1 });
        return true;
    }
    let code = at(EXTENSION).and_then(|place| EXTENSION_CODES.get(place));
    octets.extend(code.into_iter().flat_map(|code| [ESCAPE, *code]));
    code.is_some()
}

/// The text of octets of the default alphabet. Those outside of it are taken for Latin-1, which is what they are where a
/// message centre says the one and sends the other.
#[must_use]
pub fn from_gsm7(octets: &[u8]) -> String {
    let basic: Vec<char> = BASIC.chars().collect();
    let of = |octet: u8| {
        let place = match octet {
            0x80.. => return char::from(octet),
            ESCAPE => return ' ',
            _ if octet > ESCAPE => octet - 1,
            _ => octet,
        };
        basic.get(usize::from(place)).copied().unwrap_or(' ')
    };
    let mut text = String::with_capacity(octets.len());
    let mut all = octets.iter().copied();
    while let Some(octet) = all.next() {
        if octet != ESCAPE {
            text.push(of(octet));
            continue;
        }
        let Some(code) = all.next() else { break };
        let place = EXTENSION_CODES.iter().position(|known| *known == code);
        let found = place.and_then(|place| EXTENSION.chars().nth(place));
        // What an extension doesn't have is shown as the basic character (TS 23.038, 6.2.1.1).
        text.push(found.unwrap_or_else(|| of(code)));
    }
    text
}

/// The text of units of UCS-2, of which some are pairs.
#[must_use]
pub fn from_ucs2(octets: &[u8]) -> String {
    let units = octets.as_chunks::<2>().0.iter();
    let units: Vec<u16> = units.map(|pair| u16::from_be_bytes(*pair)).collect();
    String::from_utf16_lossy(&units)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_are_those_of_the_standard() {
        let table: [(&str, Alphabet, &[u8]); 9] = [
            ("", Alphabet::Gsm7, &[]),
            ("@", Alphabet::Gsm7, &[0x00]),
            ("_", Alphabet::Gsm7, &[0x11]),
            ("Æ", Alphabet::Gsm7, &[0x1C]),
            (" ", Alphabet::Gsm7, &[0x20]),
            ("Aa¿à", Alphabet::Gsm7, &[0x41, 0x61, 0x60, 0x7F]),
            ("€[~", Alphabet::Gsm7, &[0x1B, 0x65, 0x1B, 0x3C, 0x1B, 0x3D]),
            ("Ж", Alphabet::Ucs2, &[0x04, 0x16]),
            ("😀", Alphabet::Ucs2, &[0xD8, 0x3D, 0xDE, 0x00]),
        ];
        for (text, alphabet, expected) in table {
            assert_eq!(octets(text), (alphabet, expected.to_vec()), "{text}");
        }
    }

    #[test]
    fn all_of_the_alphabet_comes_back_and_takes_the_places_that_are_counted() {
        for character in BASIC.chars().chain(EXTENSION.chars()) {
            let text = character.to_string();
            let (alphabet, found) = octets(&text);
            assert_eq!(alphabet, Alphabet::Gsm7);
            assert_eq!(Some(found.len()), super::super::places(character));
            assert_eq!(from_gsm7(&found), text, "{found:?}");
        }
        let text = "Привет 😀";
        assert_eq!(from_ucs2(&octets(text).1), text);
        // Whatever comes is a text.
        assert_eq!(from_gsm7(&[0x1B, 0x41, 0xE9, 0x1B]), "Aé");
        assert_eq!(from_ucs2(&[0xD8, 0x3D, 0x00]), "\u{FFFD}");
    }
}
