//! Check digits of codes that conditions name: a code that is mistyped matches nothing, and nobody would notice.

use crate::decode::Findings;
use crate::units::is_loinc;
use crate::yaml::{Node, inside};
use fhir::ResourceType;
use fhir::path::Expression;

const LOINC: &str = "http://loinc.org";
const SNOMED: &str = "http://snomed.info/sct";

/// The multiplication of the dihedral group of order ten, by which Verhoeff's check digit is worked out.
const TIMES: [[u8; 10]; 10] = [
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
    [1, 2, 3, 4, 0, 6, 7, 8, 9, 5],
    [2, 3, 4, 0, 1, 7, 8, 9, 5, 6],
    [3, 4, 0, 1, 2, 8, 9, 5, 6, 7],
    [4, 0, 1, 2, 3, 9, 5, 6, 7, 8],
    [5, 9, 8, 7, 6, 0, 4, 3, 2, 1],
    [6, 5, 9, 8, 7, 1, 0, 4, 3, 2],
    [7, 6, 5, 9, 8, 2, 1, 0, 4, 3],
    [8, 7, 6, 5, 9, 3, 2, 1, 0, 4],
    [9, 8, 7, 6, 5, 4, 3, 2, 1, 0],
];
/// What a digit is taken as at each place, from the last on.
const AT_PLACE: [[u8; 10]; 8] = [
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
    [1, 5, 7, 6, 2, 8, 3, 0, 9, 4],
    [5, 8, 0, 3, 7, 9, 6, 1, 4, 2],
    [8, 9, 1, 6, 0, 4, 3, 5, 2, 7],
    [9, 4, 5, 3, 1, 2, 6, 8, 7, 0],
    [4, 2, 8, 6, 5, 7, 3, 9, 0, 1],
    [2, 7, 9, 3, 8, 0, 6, 4, 1, 5],
    [7, 0, 4, 6, 9, 1, 3, 2, 5, 8],
];

/// Whether the last digit is the check digit of those before it.
fn verhoeff(digits: &[u8]) -> bool {
    let last_first = digits.iter().rev().enumerate();
    let check = last_first.fold(0_u8, |check, (place, digit)| {
        let taken = AT_PLACE[place % 8][usize::from(digit - b'0')];
        TIMES[usize::from(check)][usize::from(taken)]
    });
    check == 0
}

/// Whether it has the form of the identifier of a concept of SNOMED CT: 6 to 18 digits, of which those before the last
/// say that it is one of a concept.
fn is_like_snomed(code: &str) -> bool {
    let digits = code.as_bytes();
    (6..=18).contains(&digits.len())
        && digits.iter().all(u8::is_ascii_digit)
        && digits[0] != b'0'
        && matches!(&digits[digits.len() - 3..digits.len() - 1], b"00" | b"10")
}

fn is_snomed(code: &str) -> bool {
    is_like_snomed(code) && verhoeff(code.as_bytes())
}

/// Whether it has the form of a LOINC code: up to seven digits, a hyphen and one more.
fn is_like_loinc(code: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    code.split_once('-').is_some_and(|(body, check)| {
        is_number(body) && is_number(check) && body.len() <= 7 && check.len() == 1
    })
}

/// Whether it is an answer, a part, a list or a group of LOINC, which have letters before the digits.
fn is_other_loinc(code: &str) -> bool {
    ["LA", "LP", "LL", "LG"]
        .iter()
        .any(|letters| code.starts_with(letters))
}

/// Types in which codes of medicines are numbers, too, by systems that have no check digit.
fn is_of_medicines(kind: ResourceType) -> bool {
    kind.name().starts_with("Medication") || kind.name() == "Immunization"
}

/// Looks at the codes that a condition on a type names.
pub(super) fn codes_of(
    findings: &mut Findings<'_>,
    kind: ResourceType,
    node: &Node,
    expression: &Expression,
) {
    for named in expression.codes() {
        let code = named.code.as_str();
        let place = inside(
            findings.source,
            node.place,
            node.text().unwrap_or_default(),
            named.position,
        );
        match named.system.as_deref() {
            Some(LOINC) if !is_loinc(code) && !is_other_loinc(code) => {
                let words =
                    format!("`{code}` is no LOINC code: its check digit, or its form, is wrong");
                findings.error("J021", place, words);
            }
            Some(SNOMED) if !is_snomed(code) => {
                let words = format!(
                    "`{code}` is no concept of SNOMED CT: its check digit, or its form, is wrong"
                );
                findings.error("J021", place, words);
            }
            None if is_like_loinc(code) && !is_loinc(code) => {
                let words = format!(
                    "`{code}` looks like a LOINC code, and its check digit is wrong; name the `system` beside it if it is of another one"
                );
                findings.warning("J021", place, words);
            }
            None if is_like_snomed(code) && !is_snomed(code) && !is_of_medicines(kind) => {
                let words = format!(
                    "`{code}` looks like a concept of SNOMED CT, and its check digit is wrong; name the `system` beside it if it is of another one"
                );
                findings.warning("J021", place, words);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_digits_of_snomed_are_held_to() {
        for code in [
            "84114007",
            "88805009",
            "42343007",
            "44054006",
            "73211009",
            "38341003",
            "900000000000207008",
        ] {
            assert!(is_snomed(code), "{code}");
            let (body, check) = code.split_at(code.len() - 1);
            let check: u8 = check.parse().unwrap();
            for other in (0..10).filter(|other| *other != check) {
                assert!(!is_snomed(&format!("{body}{other}")), "{body}{other}");
            }
        }
        // Two digits changed over are found as well.
        for code in ["48114007", "84141007", "084114007", "84114", "8411400x", ""] {
            assert!(!is_snomed(code), "{code}");
        }
    }
}
