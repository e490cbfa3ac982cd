//! Words, lengths and conditions of a plan as a journey writes them. Pure.

use serde_json::Value;

/// The applicability of an action as one FHIRPath of the patient, and in words what of its conditions isn't asked.
pub(super) fn condition(action: &Value) -> (Option<String>, Vec<&'static str>) {
    let list = action["condition"].as_array();
    let (mut all, mut unasked) = (Vec::new(), Vec::new());
    for one in list.into_iter().flatten() {
        let expression = one["expression"]["expression"].as_str().unwrap_or_default();
        if one["kind"] != "applicability" {
            unasked
                .push("start and stop conditions are not carried over; write `exits` or a `wait`");
        } else if one["expression"]["language"] != "text/fhirpath" {
            unasked.push(
                "is not in text/fhirpath, so nobody here can ask it; the step is done whatever it says",
            );
        } else if expression.contains('%') || fhir::path::Expression::compile(expression).is_err() {
            unasked.push("asks what is not the patient's own entry, or doesn't compile; the step is done whatever it says (write a `check`)");
        } else {
            all.push(expression);
        }
    }
    let asked = match all.as_slice() {
        [] => None,
        [one] => Some((*one).to_owned()),
        several => Some(
            several
                .iter()
                .map(|one| format!("({one})"))
                .collect::<Vec<_>>()
                .join(" and "),
        ),
    };
    (asked, unasked)
}

/// A length of time as a journey writes it.
pub(super) fn wait(length: &Value) -> Option<String> {
    let value = length["value"].as_f64()?;
    let unit = length["code"]
        .as_str()
        .or_else(|| length["unit"].as_str())?;
    written(minutes(value, unit)?)
}

/// So many of a unit of time as minutes. Months are 30 days, years 365.
pub(super) fn minutes(value: f64, unit: &str) -> Option<f64> {
    let minutes = match unit.trim() {
        "min" | "minute" | "minutes" => 1.0,
        "h" | "hour" | "hours" => 60.0,
        "d" | "day" | "days" => 1440.0,
        "wk" | "week" | "weeks" => 10_080.0,
        "mo" | "month" | "months" => 43_200.0,
        "a" | "year" | "years" => 525_600.0,
        _ => return None,
    };
    Some(value * minutes)
}

/// The longest time that the language takes, in minutes: ten years.
pub(super) const LONGEST_MINUTES: f64 = 5_256_000.0;

/// A duration of the language that was written here, as minutes.
pub(super) fn read(duration: &str) -> f64 {
    let unit = duration.trim_start_matches(|one: char| one.is_ascii_digit());
    let number = duration.strip_suffix(unit).and_then(|one| one.parse().ok());
    let unit = if unit == "m" { "min" } else { unit };
    number
        .and_then(|number| minutes(number, unit))
        .unwrap_or(0.0)
}

/// Minutes as a duration of the language.
pub(super) fn written(minutes: f64) -> Option<String> {
    let minutes = minutes.round();
    if !(1.0..=LONGEST_MINUTES).contains(&minutes) {
        return None;
    }
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "bounded above"
    )]
    let minutes = minutes as u64;
    Some(match minutes {
        whole if whole.is_multiple_of(1440) => format!("{}d", whole / 1440),
        whole if whole.is_multiple_of(60) => format!("{}h", whole / 60),
        _ => format!("{minutes}m"),
    })
}

/// The role of a journey that is named, if one is.
pub(super) fn role(participants: Option<&Value>) -> Option<&'static str> {
    let list = participants?.as_array()?;
    let codes = list
        .iter()
        .flat_map(|one| one["role"]["coding"].as_array().into_iter().flatten());
    codes
        .filter(|code| code["system"] == trust::conventions::ROLE_SYSTEM)
        .find_map(|code| match code["code"].as_str() {
            Some("coordinator") => Some("coordinator"),
            Some("clinician") => Some("clinician"),
            _ => None,
        })
}

pub(super) fn title(action: &Value, id: &str) -> String {
    let text = [
        &action["title"],
        &action["description"],
        &action["textEquivalent"],
    ];
    let text = text.into_iter().find_map(Value::as_str).unwrap_or(id);
    line(text, 80)
}

/// Text on one line, cut where it is longer, without what the checker takes for a variable.
pub(super) fn line(text: &str, most: usize) -> String {
    let line: String = plain(text).split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(most).collect()
}

/// Words without what would be a variable in a template.
pub(super) fn plain(words: &str) -> String {
    words.replace(['{', '}'], "")
}

/// A name of the language: small letters and digits with a mark between words.
pub(super) fn name(text: &str, between: char) -> String {
    let mut name = String::new();
    let mut before = ' ';
    for character in text.chars() {
        if character.is_ascii_alphanumeric() {
            // `LowRisk` is two words.
            if character.is_ascii_uppercase() && before.is_ascii_lowercase() {
                name.push(between);
            }
            name.push(character.to_ascii_lowercase());
        } else if !name.is_empty() && !name.ends_with(between) {
            name.push(between);
        }
        before = character;
    }
    let name = name.trim_end_matches(between);
    let name = name.trim_start_matches(|first: char| !first.is_ascii_lowercase());
    let short: String = name.chars().take(40).collect();
    short.trim_end_matches(between).to_owned()
}

/// Text as YAML, in quotes.
pub(super) fn quoted(text: &str) -> String {
    // A string of JSON is one of YAML.
    Value::String(text.to_owned()).to_string()
}
