//! What the checker and the monitors know of LOINC codes and UCUM units.

/// A unit that observation rules can compare in, with its dimension and factor to that dimension's base.
struct Unit {
    code: &'static str,
    dimension: &'static str,
    factor: f64,
}

/// UCUM units of the measurements that patients take at home. Within a dimension values convert by
/// factor; temperature is left to one unit because its scales have different zeros.
const UNITS: &[Unit] = &[
    Unit {
        code: "kg",
        dimension: "mass",
        factor: 1.0,
    },
    Unit {
        code: "g",
        dimension: "mass",
        factor: 0.001,
    },
    Unit {
        code: "[lb_av]",
        dimension: "mass",
        factor: 0.453_592_37,
    },
    Unit {
        code: "mm[Hg]",
        dimension: "pressure",
        factor: 1.0,
    },
    Unit {
        code: "kPa",
        dimension: "pressure",
        factor: 7.500_615_759,
    },
    Unit {
        code: "/min",
        dimension: "rate",
        factor: 1.0,
    },
    Unit {
        code: "{beats}/min",
        dimension: "rate",
        factor: 1.0,
    },
    Unit {
        code: "{breaths}/min",
        dimension: "rate",
        factor: 1.0,
    },
    Unit {
        code: "%",
        dimension: "fraction",
        factor: 1.0,
    },
    Unit {
        code: "Cel",
        dimension: "temperature",
        factor: 1.0,
    },
    Unit {
        code: "mg/dL",
        dimension: "mass concentration",
        factor: 1.0,
    },
    Unit {
        code: "g/L",
        dimension: "mass concentration",
        factor: 100.0,
    },
    Unit {
        code: "mmol/L",
        dimension: "substance concentration",
        factor: 1.0,
    },
    Unit {
        code: "umol/L",
        dimension: "substance concentration",
        factor: 0.001,
    },
    Unit {
        code: "pg/mL",
        dimension: "peptide concentration",
        factor: 1.0,
    },
    Unit {
        code: "ng/L",
        dimension: "peptide concentration",
        factor: 1.0,
    },
    Unit {
        code: "cm",
        dimension: "length",
        factor: 0.01,
    },
    Unit {
        code: "m",
        dimension: "length",
        factor: 1.0,
    },
];

/// LOINC codes whose dimension is known, so that a unit that can't fit is found before publishing.
const CODES: &[(&str, &str, &str)] = &[
    ("29463-7", "Body weight", "mass"),
    ("3141-9", "Body weight measured", "mass"),
    ("8302-2", "Body height", "length"),
    ("8867-4", "Heart rate", "rate"),
    ("9279-1", "Respiratory rate", "rate"),
    ("8480-6", "Systolic blood pressure", "pressure"),
    ("8462-4", "Diastolic blood pressure", "pressure"),
    ("2708-6", "Oxygen saturation in arterial blood", "fraction"),
    ("59408-5", "Oxygen saturation by pulse oximetry", "fraction"),
    ("8310-5", "Body temperature", "temperature"),
    ("2339-0", "Glucose in blood", "mass concentration"),
    (
        "2160-0",
        "Creatinine in serum or plasma",
        "mass concentration",
    ),
    (
        "33762-6",
        "NT-proBNP in serum or plasma",
        "peptide concentration",
    ),
];

/// LOINC codes of what tells that somebody gets worse: vital signs, weight, pain, and what is measured at home or often
/// in the blood.
const TELL_RISK: &[&str] = &[
    "29463-7", "3141-9", "8867-4", "9279-1", "85354-9", "8480-6", "8462-4", "2708-6", "59408-5",
    "8310-5", "2339-0", "2345-7", "15074-8", "41653-7", "72514-3", "19935-6", "2160-0", "2823-3",
    "2951-2", "33762-6", "6301-6", "718-7",
];

/// Whether measurements of this code may tell that somebody gets worse.
pub(crate) fn tells_risk(code: &str) -> bool {
    TELL_RISK.contains(&code)
}

/// All units, for the schema.
pub(crate) fn all_units() -> impl Iterator<Item = &'static str> {
    UNITS.iter().map(|unit| unit.code)
}

fn find(code: &str) -> Option<&'static Unit> {
    // FHIR data in the field carries the older spelling of the pound too.
    let code = if code == "[lb_us]" || code == "lb" {
        "[lb_av]"
    } else {
        code
    };
    UNITS.iter().find(|unit| unit.code == code)
}

/// Whether this is a unit that rules can be written in.
pub(crate) fn is_unit(code: &str) -> bool {
    find(code).is_some()
}

/// Converts a value between units of one dimension.
pub(crate) fn convert(value: f64, from: &str, to: &str) -> Option<f64> {
    let (from, to) = (find(from)?, find(to)?);
    (from.dimension == to.dimension).then(|| {
        if from.code == to.code {
            value
        } else {
            value * from.factor / to.factor
        }
    })
}

/// Checks the form and the check digit of a LOINC code (Luhn mod 10, LOINC Users' Guide, appendix C).
pub(crate) fn is_loinc(code: &str) -> bool {
    let Some((body, check)) = code.split_once('-') else {
        return false;
    };
    if body.is_empty()
        || body.len() > 7
        || check.len() != 1
        || !body.bytes().all(|b| b.is_ascii_digit())
    {
        return false;
    }
    let sum: u32 = body
        .bytes()
        .rev()
        .enumerate()
        .map(|(place, digit)| {
            let digit = u32::from(digit - b'0');
            if place % 2 == 0 {
                digit * 2 / 10 + digit * 2 % 10
            } else {
                digit
            }
        })
        .sum();
    check.parse() == Ok((10 - sum % 10) % 10)
}

/// What is wrong with measuring this code in this unit, where it is known.
pub(crate) fn mismatch(code: &str, unit: &str) -> Option<String> {
    let (_, name, dimension) = CODES.iter().find(|(known, _, _)| *known == code)?;
    let unit = find(unit)?;
    if unit.dimension == *dimension {
        return None;
    }
    let fitting: Vec<&str> = UNITS
        .iter()
        .filter(|unit| unit.dimension == *dimension)
        .map(|unit| unit.code)
        .collect();
    Some(format!(
        "LOINC {code} is {name}, a {dimension}, and `{}` measures {}; use {}",
        unit.code,
        unit.dimension,
        fitting.join(" or ")
    ))
}

/// Panels, and the codes of their components that rules are about.
const PANELS: &[(&str, &[&str])] = &[
    ("85354-9", &["8480-6", "8462-4"]),
    ("55284-4", &["8480-6", "8462-4"]),
];

/// Whether a measurement of one code is one of another: the same, or the panel that has it.
pub(crate) fn has(whole: &str, code: &str) -> bool {
    let mut panels = PANELS.iter();
    whole == code || panels.any(|(panel, parts)| *panel == whole && parts.contains(&code))
}

/// The name of a LOINC code, where it is known.
pub(crate) fn loinc_name(code: &str) -> Option<&'static str> {
    CODES
        .iter()
        .find(|(known, _, _)| *known == code)
        .map(|(_, name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_digits_hold_for_every_code_in_the_table() {
        for (code, _, _) in CODES {
            assert!(is_loinc(code), "{code}");
        }
        for code in TELL_RISK {
            assert!(is_loinc(code), "{code}");
        }
        for code in [
            "29463-8", "29463", "-7", "29463-", "abc-1", "29463-77", "94636-7",
        ] {
            assert!(!is_loinc(code), "{code}");
        }
    }

    #[test]
    fn values_convert_within_a_dimension_only() {
        assert_eq!(convert(82_000.0, "g", "kg"), Some(82.0));
        assert!((convert(180.0, "[lb_av]", "kg").unwrap() - 81.646_626_6).abs() < 1e-9);
        assert_eq!(convert(82.5, "kg", "kg"), Some(82.5));
        assert_eq!(convert(1.0, "kg", "mm[Hg]"), None);
        assert_eq!(convert(1.0, "stone", "kg"), None);
        assert!(mismatch("29463-7", "mm[Hg]").is_some());
        assert!(mismatch("29463-7", "g").is_none());
        assert!(mismatch("11111-1", "kg").is_none());
    }
}
