//! Text messages: how many parts one takes on the air (3GPP TS 23.038 and TS 23.040), its octets, and numbers that they
//! go to. Pure.
//!
//! A part has room for 140 bytes: 160 characters of the default alphabet, or 70 units of UCS-2 where one character is
//! outside it. A text of several parts loses six bytes of each to the header that joins them, and no character is torn
//! apart between two.

mod number;
mod octets;

pub use number::{Country, Number};
pub use octets::{from_gsm7, from_ucs2, octets};

/// How a text is written on the air.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alphabet {
    /// The default alphabet of seven bits.
    Gsm7,
    /// Units of 16 bits.
    Ucs2,
}

impl Alphabet {
    /// What one part alone, and one of several, has room for.
    fn room(self) -> (usize, usize) {
        match self {
            Self::Gsm7 => (160, 153),
            Self::Ucs2 => (70, 67),
        }
    }
    /// As people call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gsm7 => "GSM-7",
            Self::Ucs2 => "UCS-2",
        }
    }
}

/// How long a text is on the air.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segments {
    /// How it is written.
    pub alphabet: Alphabet,
    /// In how many parts.
    pub count: usize,
}

/// The default alphabet without its escape (TS 23.038, 6.2.1).
const BASIC: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà";
/// Its extension: each takes two places (TS 23.038, 6.2.1.1).
const EXTENSION: &str = "\u{c}^{}\\[~]|€";

/// How many places a character takes in the default alphabet, if it is there.
fn places(character: char) -> Option<usize> {
    if BASIC.contains(character) {
        Some(1)
    } else if EXTENSION.contains(character) {
        Some(2)
    } else {
        None
    }
}

/// How long a text is on the air.
#[must_use]
pub fn segments(text: &str) -> Segments {
    let plain: Option<Vec<usize>> = text.chars().map(places).collect();
    let (alphabet, widths) = match plain {
        Some(widths) => (Alphabet::Gsm7, widths),
        None => {
            let widths = text.chars().map(char::len_utf16);
            (Alphabet::Ucs2, widths.collect())
        }
    };
    let (alone, joined) = alphabet.room();
    let all: usize = widths.iter().sum();
    if all <= alone {
        return Segments { alphabet, count: 1 };
    }
    let mut count = 1;
    let mut used = 0;
    for width in widths {
        if used + width > joined {
            count += 1;
            used = 0;
        }
        used += width;
    }
    Segments { alphabet, count }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_as_long_as_the_standard_says() {
        use Alphabet::{Gsm7, Ucs2};
        let table = [
            (String::new(), Gsm7, 1),
            ("a".repeat(160), Gsm7, 1),
            ("a".repeat(161), Gsm7, 2),
            ("a".repeat(306), Gsm7, 2),
            ("a".repeat(307), Gsm7, 3),
            ("€".repeat(80), Gsm7, 1),
            ("€".repeat(81), Gsm7, 2),
            // A character of two places is not torn apart: 152 and the first half would fit.
            (format!("{}€{}", "a".repeat(152), "a".repeat(152)), Gsm7, 3),
            ("Grüße, Ñandú à Ç".to_owned(), Ucs2, 1),
            ("Grüße à Ç".to_owned(), Gsm7, 1),
            ("é".repeat(160), Gsm7, 1),
            ("ê".repeat(70), Ucs2, 1),
            ("ê".repeat(71), Ucs2, 2),
            ("ê".repeat(134), Ucs2, 2),
            ("ê".repeat(135), Ucs2, 3),
            ("😀".repeat(35), Ucs2, 1),
            // 67 units hold 33 of these and a half.
            ("😀".repeat(67), Ucs2, 3),
            ("\u{2019}".to_owned(), Ucs2, 1),
            (
                "https://portal.example/sign-in/link/A_b-9?next=/portal/inbox/1~".to_owned(),
                Gsm7,
                1,
            ),
        ];
        for (text, alphabet, count) in table {
            assert_eq!(segments(&text), Segments { alphabet, count }, "{text}");
        }
    }
}
