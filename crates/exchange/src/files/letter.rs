//! A letter as a PDF: A4, an address where windows of envelopes are (DIN 5008, form B), the message's heading and words,
//! and at the foot where else it can be read. The same letter is the same bytes each time.

use krilla::Document;
use krilla::geom::Point;
use krilla::metadata::Metadata;
use krilla::page::PageSettings;
use krilla::text::{Font, TextDirection};
use trust::consent::Postal;
use ttf_parser::Face;

/// Points of a millimetre.
const MM: f32 = 72.0 / 25.4;
/// A4.
const WIDTH: f32 = 210.0 * MM;
const HEIGHT: f32 = 297.0 * MM;
/// Margins left, right and at the foot.
const LEFT: f32 = 25.0 * MM;
const RIGHT: f32 = 20.0 * MM;
const FOOT: f32 = 25.0 * MM;
/// Where the sender's line over the address, the address, and the words begin, from the top.
const SENDER_TOP: f32 = 48.0 * MM;
const ADDRESS_TOP: f32 = 54.0 * MM;
const WORDS_TOP: f32 = 103.0 * MM;
/// Where a following page begins.
const NEXT_TOP: f32 = 25.0 * MM;
/// Sizes of letters and distances of lines, points.
const SIZE: f32 = 11.0;
const LINE: f32 = 15.0;
const SMALL: f32 = 8.0;
const SMALL_LINE: f32 = 10.0;
/// The most pages: what is longer is no letter of a care team, and what envelopes take.
pub(crate) const PAGES_MAX: usize = 10;

/// The face that letters are set in.
#[derive(Clone)]
pub(crate) struct Typeface {
    data: Vec<u8>,
    font: Font,
}

impl Typeface {
    /// DejaVu Sans: Latin, Greek, Cyrillic and more, with the licence to be embedded.
    pub(crate) fn own() -> Option<Self> {
        Self::read(dejavu::sans::regular().to_vec())
    }

    /// One of a file (TrueType or OpenType).
    pub(crate) fn read(data: Vec<u8>) -> Option<Self> {
        Face::parse(&data, 0).ok()?;
        let font = Font::new(data.clone().into(), 0)?;
        Some(Self { data, font })
    }

    fn face(&self) -> Option<Face<'_>> {
        Face::parse(&self.data, 0).ok()
    }
}

/// What a letter is made of.
pub(crate) struct Letter<'a> {
    /// Who writes, in one line over the address.
    pub(crate) sender: &'a str,
    pub(crate) to: &'a Postal,
    /// Whether the country is the sender's own, so that it isn't written.
    pub(crate) is_inland: bool,
    /// The day, as it is written.
    pub(crate) day: &'a str,
    pub(crate) title: &'a str,
    /// Paragraphs are parted by empty lines.
    pub(crate) text: &'a str,
    /// Where else it can be read.
    pub(crate) foot: &'a str,
    /// BCP 47.
    pub(crate) language: &'a str,
}

/// Why a letter can't be printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unprintable {
    /// The face has no form for one of its characters, or it is written from right to left.
    Characters,
    /// It has more than [`PAGES_MAX`] pages.
    TooLong,
    /// The face can't be used.
    Face,
}

/// A letter, set.
pub(crate) struct Printed {
    pub(crate) pdf: Vec<u8>,
    pub(crate) pages: usize,
}

/// The lines of an address as they are written in its country, after the name.
pub(crate) fn lines(to: &Postal, is_inland: bool) -> Vec<String> {
    let mut lines = to.lines.clone();
    let join = |parts: &[&String]| {
        let parts: Vec<&str> = parts.iter().map(|part| part.as_str()).collect();
        let parts = parts.into_iter().filter(|part| !part.is_empty());
        parts.collect::<Vec<_>>().join(" ")
    };
    let town = match to.country.as_str() {
        "US" | "CA" | "AU" => vec![join(&[&to.city, &to.state, &to.postal_code])],
        "GB" | "IE" => vec![to.city.clone(), to.postal_code.clone()],
        // What doesn't say its country is written as most are that have a state.
        "" if !to.state.is_empty() => vec![join(&[&to.city, &to.state, &to.postal_code])],
        _ => vec![join(&[&to.postal_code, &to.city]), to.state.clone()],
    };
    lines.extend(town);
    if !is_inland {
        lines.push(to.country.to_uppercase());
    }
    lines.retain(|line| !line.is_empty());
    lines
}

/// Whether a character is one of a script that is written from right to left, which needs more than this setting does.
fn is_from_the_right(letter: char) -> bool {
    matches!(letter, '\u{590}'..='\u{8ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{fefc}' | '\u{10800}'..='\u{10fff}' | '\u{1e800}'..='\u{1efff}' | '\u{202b}' | '\u{202e}' | '\u{2067}')
}

struct Setting<'a> {
    face: Face<'a>,
    per_em: f32,
}

impl Setting<'_> {
    fn width(&self, text: &str, size: f32) -> f32 {
        let glyphs = text
            .chars()
            .filter_map(|letter| self.face.glyph_index(letter));
        let advances = glyphs.filter_map(|glyph| self.face.glyph_hor_advance(glyph));
        advances.map(f32::from).sum::<f32>() * size / self.per_em
    }

    fn has_all(&self, text: &str) -> bool {
        text.chars().all(|letter| {
            letter.is_whitespace()
                || (self.face.glyph_index(letter).is_some() && !is_from_the_right(letter))
        })
    }

    /// A text in lines that fit. A word that is longer than a line is broken where it must be.
    fn broken(&self, text: &str, size: f32, room: f32) -> Vec<String> {
        let mut lines = Vec::new();
        for written in text.lines() {
            let mut line = String::new();
            for word in written.split_whitespace() {
                let longer = if line.is_empty() {
                    word.to_owned()
                } else {
                    format!("{line} {word}")
                };
                if self.width(&longer, size) <= room {
                    line = longer;
                    continue;
                }
                if !line.is_empty() {
                    lines.push(std::mem::take(&mut line));
                }
                for letter in word.chars() {
                    line.push(letter);
                    if self.width(&line, size) > room {
                        line.pop();
                        lines.push(std::mem::replace(&mut line, letter.to_string()));
                    }
                }
            }
            lines.push(line);
        }
        lines
    }
}

/// A line at a place: from the left, and from the top to its foot.
struct Placed {
    at: (f32, f32),
    size: f32,
    text: String,
}

/// Sets a letter.
pub(crate) fn print(face: &Typeface, letter: &Letter<'_>) -> Result<Printed, Unprintable> {
    let pages = set(face, letter)?;
    let count = pages.len();
    let mut document = Document::new();
    document.set_metadata(Metadata::new().language(letter.language.to_owned()));
    for page in pages {
        let settings = PageSettings::from_wh(WIDTH, HEIGHT).ok_or(Unprintable::Face)?;
        let mut sheet = document.start_page_with(settings);
        let mut surface = sheet.surface();
        for line in page {
            surface.draw_text(
                Point::from_xy(line.at.0, line.at.1),
                face.font.clone(),
                line.size,
                &line.text,
                false,
                TextDirection::LeftToRight,
            );
        }
        surface.finish();
        sheet.finish();
    }
    let pdf = document.finish().map_err(|_| Unprintable::Face)?;
    Ok(Printed { pdf, pages: count })
}

fn set(face: &Typeface, letter: &Letter<'_>) -> Result<Vec<Vec<Placed>>, Unprintable> {
    let parsed = face.face().ok_or(Unprintable::Face)?;
    let per_em = f32::from(parsed.units_per_em());
    let setting = Setting {
        face: parsed,
        per_em,
    };
    let room = WIDTH - LEFT - RIGHT;
    let address = lines(letter.to, letter.is_inland);
    let mut all = vec![letter.sender, &letter.to.name, letter.day, letter.title];
    all.extend([letter.text, letter.foot]);
    all.extend(address.iter().map(String::as_str));
    if !all.into_iter().all(|text| setting.has_all(text)) {
        return Err(Unprintable::Characters);
    }
    let placed = |x: f32, y: f32, size: f32, text: &str| Placed {
        at: (x, y),
        size,
        text: text.to_owned(),
    };
    let mut page = Vec::new();
    for (place, line) in (0u8..).zip(
        setting
            .broken(letter.sender, SMALL, 80.0 * MM)
            .iter()
            .take(1),
    ) {
        page.push(placed(
            LEFT,
            SENDER_TOP + f32::from(place) * SMALL_LINE,
            SMALL,
            line,
        ));
    }
    let written =
        std::iter::once(letter.to.name.as_str()).chain(address.iter().map(String::as_str));
    for (place, line) in (0u8..).zip(written) {
        page.push(placed(
            LEFT,
            ADDRESS_TOP + f32::from(place) * LINE,
            SIZE,
            line,
        ));
    }
    let day_width = setting.width(letter.day, SIZE);
    page.push(placed(
        WIDTH - RIGHT - day_width,
        WORDS_TOP - 2.0 * LINE,
        SIZE,
        letter.day,
    ));
    let mut words = setting.broken(letter.title, SIZE + 2.0, room);
    let titles = words.len();
    words.push(String::new());
    words.extend(setting.broken(letter.text, SIZE, room));
    let foot = setting.broken(letter.foot, SMALL, room);
    #[allow(clippy::cast_precision_loss, reason = "a few lines")]
    let foot_height = foot.len() as f32 * SMALL_LINE;
    let last = HEIGHT - FOOT - foot_height;
    let mut pages = Vec::new();
    let mut y = WORDS_TOP;
    for (place, line) in words.iter().enumerate() {
        if y > last {
            pages.push(std::mem::take(&mut page));
            y = NEXT_TOP;
        }
        let size = if place < titles { SIZE + 2.0 } else { SIZE };
        if !line.is_empty() {
            page.push(placed(LEFT, y, size, line));
        }
        y += LINE;
    }
    for (place, line) in (0u8..).zip(&foot) {
        page.push(placed(
            LEFT,
            last + SMALL_LINE + f32::from(place) * SMALL_LINE,
            SMALL,
            line,
        ));
    }
    pages.push(page);
    if pages.len() > PAGES_MAX {
        return Err(Unprintable::TooLong);
    }
    Ok(pages)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn postal(country: &str, state: &str) -> Postal {
        Postal {
            name: "Ottilie Quandt".to_owned(),
            lines: vec!["12 Alder Street".to_owned()],
            postal_code: "01991".to_owned(),
            city: "Ashbrook".to_owned(),
            state: state.to_owned(),
            country: country.to_owned(),
        }
    }

    fn letter<'a>(to: &'a Postal, text: &'a str) -> Letter<'a> {
        Letter {
            sender: "Northmoor General, 1 Hill Road, Northmoor",
            to,
            is_inland: true,
            day: "2026-12-01",
            title: "Your medicines",
            text,
            foot: "Read it in the portal too: https://portal.example",
            language: "en",
        }
    }

    #[test]
    fn addresses_are_written_as_in_their_country() {
        for (country, state, inland, expected) in [
            (
                "US",
                "MA",
                true,
                vec!["12 Alder Street", "Ashbrook MA 01991"],
            ),
            (
                "US",
                "MA",
                false,
                vec!["12 Alder Street", "Ashbrook MA 01991", "US"],
            ),
            ("DE", "", true, vec!["12 Alder Street", "01991 Ashbrook"]),
            ("GB", "", true, vec!["12 Alder Street", "Ashbrook", "01991"]),
            ("", "MA", true, vec!["12 Alder Street", "Ashbrook MA 01991"]),
            ("", "", false, vec!["12 Alder Street", "01991 Ashbrook"]),
        ] {
            assert_eq!(
                lines(&postal(country, state), inland),
                expected,
                "{country} {state}"
            );
        }
    }

    #[test]
    fn a_letter_is_the_same_bytes_each_time_and_has_as_many_pages_as_it_needs() {
        let face = Typeface::own().expect("a face");
        let to = postal("US", "MA");
        let one = print(&face, &letter(&to, "Take them.")).expect("printed");
        let again = print(&face, &letter(&to, "Take them.")).expect("printed");
        assert!(one.pdf == again.pdf && one.pdf.starts_with(b"%PDF-"));
        assert_eq!(one.pages, 1);
        let long = "Take them in the morning.\n".repeat(60);
        assert_eq!(print(&face, &letter(&to, &long)).expect("printed").pages, 2);
        let endless = "Take them.\n".repeat(700);
        let found = print(&face, &letter(&to, &endless)).map(|printed| printed.pages);
        assert_eq!(found, Err(Unprintable::TooLong));
    }

    #[test]
    fn what_the_face_has_not_is_not_printed() {
        let face = Typeface::own().expect("a face");
        let to = postal("US", "MA");
        for (text, printable) in [
            ("Größe, Łódź, Ελλάδα, Київ, Đặng", true),
            ("中文", false),
            ("שלום", false),
            ("مرحبا", false),
            ("\u{10ffff}", false),
        ] {
            let found = print(&face, &letter(&to, text)).map(|printed| printed.pages);
            let expected = if printable {
                Ok(1)
            } else {
                Err(Unprintable::Characters)
            };
            assert_eq!(found, expected, "{text}");
        }
        assert!(Typeface::read(b"no face".to_vec()).is_none());
    }

    #[test]
    fn words_that_are_longer_than_a_line_are_broken() {
        let face = Typeface::own().expect("a face");
        let parsed = face.face().expect("parsed");
        let per_em = f32::from(parsed.units_per_em());
        let setting = Setting {
            face: parsed,
            per_em,
        };
        let lines = setting.broken(&"x".repeat(300), SIZE, 160.0 * MM);
        assert!(lines.len() > 2);
        assert_eq!(lines.concat().len(), 300);
        assert!(
            lines
                .iter()
                .all(|line| setting.width(line, SIZE) <= 160.0 * MM)
        );
    }
}
