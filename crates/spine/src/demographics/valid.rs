//! What a person may be told to be: the published rules of names, addresses, contacts, dates and extensions. They
//! are held against what was changed or is new; what was there before stays as it is.

use serde_json::{Map, Value, json};

use super::refusal::{Code, Refusal};
use super::rules::Rules;
use super::trace::is_day;
use super::view::item_id;

/// What the words of refusals speak of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// A new record.
    Create,
    /// A change.
    Update,
}

impl Names {
    fn invalid(self, words: &str) -> Refusal {
        match self {
            Self::Update => Refusal::update(words),
            Self::Create => Refusal::new(
                Code::InvalidCreate,
                format!("Invalid patient create data provided - '{words}'"),
            ),
        }
    }
}

/// Rules, today as `YYYY-MM-DD`, and what is spoken of.
type By<'a> = (&'a Rules, &'a str, Names);

/// The most characters of a name.
const NAME_MAX: usize = 35;
/// The most given names, and lines of an address.
const FIVE: usize = 5;
const NAME_USES: [&str; 5] = ["usual", "temp", "nickname", "old", "maiden"];
const ADDRESS_USES: [&str; 3] = ["home", "temp", "billing"];
const TELECOM_SYSTEMS: [&str; 4] = ["phone", "fax", "email", "other"];
const TELECOM_USES: [&str; 4] = ["home", "work", "temp", "mobile"];
/// What a temporary address is.
const STAYS: [&str; 7] = [
    "Second Home",
    "Student Accommodation",
    "Respite Care Address",
    "Temporary Residence Address",
    "Convalescence Home",
    "Mobile Home",
    "Holiday Home",
];
/// Titles that are written in one way.
const TITLES: [&str; 8] = ["Mr", "Mrs", "Ms", "Dr", "Rev", "Sir", "Lady", "Lord"];
const NAME_MEMBERS: [&str; 7] = ["id", "use", "period", "given", "family", "prefix", "suffix"];
const ADDRESS_MEMBERS: [&str; 7] = [
    "id",
    "period",
    "use",
    "text",
    "line",
    "postalCode",
    "extension",
];
const TELECOM_MEMBERS: [&str; 6] = ["id", "period", "system", "value", "use", "extension"];
const CONTACT_MEMBERS: [&str; 4] = ["id", "period", "relationship", "telecom"];

/// Holds the rules against what is new in `after`, and puts what they put into form.
///
/// # Errors
/// The first that doesn't hold.
pub fn check(
    by: By<'_>,
    before: &Map<String, Value>,
    after: &mut Map<String, Value>,
) -> Result<(), Refusal> {
    let (_, today, names) = by;
    for list in [
        "address",
        "name",
        "telecom",
        "contact",
        "generalPractitioner",
    ] {
        let Some(Value::Array(items)) = after.get_mut(list) else {
            if after.contains_key(list) {
                return Err(Refusal::value(list));
            }
            continue;
        };
        let old: Vec<&Value> = (before.get(list).and_then(Value::as_array).into_iter())
            .flatten()
            .collect();
        for (place, item) in items.iter_mut().enumerate() {
            if old.contains(&&*item) {
                continue;
            }
            let at = format!("{list}/{place}");
            if !item.is_object() {
                return Err(Refusal::value(&at));
            }
            let was = old
                .iter()
                .find(|was| was["id"].is_string() && was["id"] == item["id"])
                .copied();
            match list {
                "name" => name(by, &at, was, item)?,
                "address" => address(by, &at, was, item)?,
                "telecom" => telecom(by, &at, was, item)?,
                "contact" => contact(by, &at, item)?,
                _ => practice(&at, item)?,
            }
            if !item["id"].is_string() {
                item["id"] = json!(item_id(list, place, item));
            }
        }
        if items.is_empty() {
            after.remove(list);
        }
    }
    once(names, before, after)?;
    dates(names, today, before, after)?;
    gender(before, after)?;
    extensions(by, before, after)
}

fn count(members: &Map<String, Value>, list: &str, is: impl Fn(&Value) -> bool) -> usize {
    let items = members.get(list).and_then(Value::as_array);
    items.into_iter().flatten().filter(|item| is(item)).count()
}

/// What there is one of at most. Where there were more before, there may be as many.
fn once(
    names: Names,
    before: &Map<String, Value>,
    after: &Map<String, Value>,
) -> Result<(), Refusal> {
    let more = |list: &str, is: &dyn Fn(&Value) -> bool| {
        let now = count(after, list, is);
        now > 1 && now > count(before, list, is)
    };
    if more("name", &|name| name["use"] == "usual") {
        return Err(Refusal::forbidden("multiple usual names cannot be added"));
    }
    if more("name", &|name| name["use"] == "nickname") {
        return Err(Refusal::forbidden("multiple nicknames cannot be added"));
    }
    for one in ADDRESS_USES {
        if more("address", &|address| address["use"] == one) {
            return Err(Refusal::forbidden(&format!(
                "multiple {one} addresses cannot be added"
            )));
        }
    }
    for system in TELECOM_SYSTEMS {
        for one in TELECOM_USES {
            if more("telecom", &|telecom| {
                telecom["system"] == system && telecom["use"] == one
            }) {
                return Err(names.invalid(&format!(
                    "there is one telecom of a system and use, and several are {system} {one}"
                )));
            }
        }
    }
    if more("generalPractitioner", &|_| true) {
        let words = "Too many values submitted - in field 'generalPractitioner'";
        return Err(Refusal::new(Code::TooManyValues, words));
    }
    Ok(())
}

fn known(at: &str, item: &Value, names: &[&str]) -> Result<(), Refusal> {
    let unknown =
        |item: &Map<String, Value>| item.keys().any(|name| !names.contains(&name.as_str()));
    if item.as_object().is_some_and(unknown) {
        let words =
            format!("Invalid request with error - Additional properties are not allowed in '{at}'");
        return Err(Refusal::new(Code::AdditionalProperties, words));
    }
    Ok(())
}

fn code<'v>(at: &str, item: &'v Value, name: &str, known: &[&str]) -> Result<&'v str, Refusal> {
    let field = format!("{at}/{name}");
    match item.get(name) {
        None => Err(Refusal::missing(&field)),
        Some(Value::String(code)) if known.contains(&code.as_str()) => Ok(code),
        Some(_) => Err(Refusal::value(&field)),
    }
}

/// A period that has a start that is not to come, and an end that isn't before it.
fn period((_, today, names): By<'_>, at: &str, item: &mut Value) -> Result<(), Refusal> {
    if item.get("period").is_none() {
        if names == Names::Create {
            return Err(Refusal::missing(&format!("{at}/period")));
        }
        item["period"] = json!({"start": today});
        return Ok(());
    }
    let field = |name: &str| format!("{at}/period/{name}");
    let day = |name: &str| match item["period"].get(name) {
        None => Ok(None),
        Some(Value::String(text)) if is_day(text) => Ok(Some(text.as_str())),
        Some(_) => Err(Refusal::value(&field(name))),
    };
    let (start, end) = (day("start")?, day("end")?);
    let Some(start) = start else {
        return Err(Refusal::missing(&field("start")));
    };
    if start > today {
        return Err(names.invalid(&format!("the start date in '{at}/period' is in the future")));
    }
    if end.is_some_and(|end| end < start) {
        return Err(names.invalid(&format!(
            "the start date was after the corresponding end date in '{at}/period'"
        )));
    }
    Ok(())
}

/// Whether names may have a letter (published as code points).
fn is_of_names(letter: char) -> bool {
    matches!(u32::from(letter), 65..=90 | 97..=122 | 45 | 39 | 32 | 192..=214 | 216..=246 | 248..=383 | 46 | 48..=57)
}

fn words(at: &str, text: &Value) -> Result<(), Refusal> {
    let Some(text) = text.as_str() else {
        return Err(Refusal::value(at));
    };
    if text.trim().is_empty() || text.chars().count() > NAME_MAX {
        return Err(Refusal::value(at));
    }
    if !text.chars().all(is_of_names) {
        let words = format!("Unsupported characters in field '{at}'");
        return Err(Refusal::new(Code::UnsupportedCharacters, words));
    }
    Ok(())
}

fn name(by: By<'_>, at: &str, was: Option<&Value>, item: &mut Value) -> Result<(), Refusal> {
    known(at, item, &NAME_MEMBERS)?;
    let own = code(at, item, "use", &NAME_USES)?;
    if was.is_some_and(|was| was["use"] != own) {
        return Err(Refusal::forbidden("the use of a name cannot be changed"));
    }
    let usual = own == "usual";
    if let Some(family) = item.get("family") {
        words(&format!("{at}/family"), family)?;
    }
    for list in ["given", "prefix", "suffix"] {
        let field = format!("{at}/{list}");
        let Some(texts) = item.get(list) else {
            continue;
        };
        let Some(texts) = texts.as_array() else {
            return Err(Refusal::value(&field));
        };
        if texts.is_empty() {
            let words = format!("Too few values submitted - in field '{field}'");
            return Err(Refusal::new(Code::TooFewValues, words));
        }
        if list == "given" && texts.len() > FIVE {
            let words = format!("Too many values submitted - in field '{field}'");
            return Err(Refusal::new(Code::TooManyValues, words));
        }
        for text in texts {
            words(&field, text)?;
            let first = text.as_str().and_then(|text| text.chars().next());
            if list == "suffix" && !first.is_some_and(|letter| letter.is_ascii_uppercase()) {
                return Err(Refusal::value(&field));
            }
        }
    }
    if let Some(Value::Array(titles)) = item.get_mut("prefix") {
        for title in titles {
            let bare = title.as_str().unwrap_or_default().trim_end_matches('.');
            let unlike = |one: &str| one.eq_ignore_ascii_case(bare) && one != bare;
            if TITLES.iter().any(|one| unlike(one)) {
                return Err(Refusal::value(&format!("{at}/prefix")));
            }
            *title = json!(bare);
        }
    }
    if item.get("family").is_none() && item.get("given").is_none() {
        return Err(Refusal::missing(&format!("{at}/family")));
    }
    if usual && item["period"].get("end").is_some() {
        return Err(by
            .2
            .invalid("An end date can not be provided on usual name"));
    }
    period(by, at, item)
}

fn address(by: By<'_>, at: &str, was: Option<&Value>, item: &mut Value) -> Result<(), Refusal> {
    let (rules, _, names) = by;
    known(at, item, &ADDRESS_MEMBERS)?;
    if names == Names::Create && item.get("period").is_none() {
        return Err(Refusal::missing(&format!("{at}/period")));
    }
    if item["use"] == "work" {
        return Err(legacy(&format!("{at}/use")));
    }
    let own = code(at, item, "use", &ADDRESS_USES)?.to_owned();
    if was.is_some_and(|was| was["use"] != own.as_str()) {
        return Err(Refusal::forbidden(
            "the use of an address cannot be changed",
        ));
    }
    let postcode = match item.get("postalCode") {
        None => "",
        Some(Value::String(text)) if !text.trim().is_empty() && text.len() <= 10 => text,
        Some(_) => return Err(Refusal::value(&format!("{at}/postalCode"))),
    };
    let nowhere = (rules.pseudo_postcodes.iter()).any(|pseudo| postcode.starts_with(pseudo));
    let lines = match item.get_mut("line") {
        None => 0,
        Some(Value::Array(lines)) => {
            let field = format!("{at}/line");
            if !lines.iter().all(Value::is_string) {
                return Err(Refusal::value(&field));
            }
            if lines.len() > FIVE {
                let words = format!("Too many values submitted - in field '{field}'");
                return Err(Refusal::new(Code::TooManyValues, words));
            }
            lines.retain(|line| line.as_str().is_some_and(|line| !line.trim().is_empty()));
            lines.len()
        }
        Some(_) => return Err(Refusal::value(&format!("{at}/line"))),
    };
    if lines < 2 && !nowhere {
        return Err(
            names.invalid("address lines 1 and 4 or 2 and 4 must be completed as a minimum")
        );
    }
    if lines == 0
        && let Some(members) = item.as_object_mut()
    {
        members.remove("line");
    }
    if own != "home" {
        if item["period"].get("start").is_none() || item["period"].get("end").is_none() {
            return Err(names.invalid(&format!("a {own} address has a start and an end date")));
        }
        if own == "temp" {
            code(at, item, "text", &STAYS)?;
        }
    }
    period(by, at, item)
}

/// A value of before that is not given any more.
fn legacy(field: &str) -> Refusal {
    Refusal::new(
        Code::UnsupportedValue,
        format!("Unsupported value - in field '{field}'"),
    )
    .shown(format!("Unsupported value in field '{field}'"))
}

fn reached(names: Names, at: &str, item: &Value) -> Result<(), Refusal> {
    let Some(value) = item["value"]
        .as_str()
        .filter(|value| !value.trim().is_empty())
    else {
        return Err(Refusal::missing(&format!("{at}/value")));
    };
    if item["system"] == "email" {
        let formed = value.split_once('@').is_some_and(|(who, place)| {
            !who.is_empty()
                && place
                    .split_once('.')
                    .is_some_and(|(a, b)| !a.is_empty() && !b.is_empty())
        });
        let length = value.chars().count();
        if !formed || value.contains(char::is_whitespace) || length <= 6 || length >= 90 {
            return Err(names.invalid("email format is invalid"));
        }
    }
    Ok(())
}

fn telecom(by: By<'_>, at: &str, was: Option<&Value>, item: &mut Value) -> Result<(), Refusal> {
    known(at, item, &TELECOM_MEMBERS)?;
    let system = code(at, item, "system", &TELECOM_SYSTEMS)?;
    if item.get("use").is_some() {
        code(at, item, "use", &TELECOM_USES)?;
    }
    if was.is_some_and(|was| was["system"] != system || was["use"] != item["use"]) {
        return Err(Refusal::forbidden(
            "use and system of a telecom cannot be changed",
        ));
    }
    reached(by.2, at, item)?;
    if by.2 == Names::Create && item.get("period").is_none() {
        item["period"] = json!({"start": by.1});
    }
    period(by, at, item)
}

fn contact((_, _, names): By<'_>, at: &str, item: &mut Value) -> Result<(), Refusal> {
    known(at, item, &CONTACT_MEMBERS)?;
    let codings = item["relationship"][0]["coding"].as_array();
    let is_emergency =
        codings.is_some_and(|codings| codings.len() == 1 && codings[0]["code"] == "C");
    if !is_emergency || item["relationship"].as_array().map(Vec::len) != Some(1) {
        return Err(Refusal::value(&format!("{at}/relationship")));
    }
    let Some(ways) = item["telecom"].as_array().filter(|ways| !ways.is_empty()) else {
        return Err(Refusal::missing(&format!("{at}/telecom")));
    };
    for way in ways {
        let field = format!("{at}/telecom");
        known(&field, way, &["id", "system", "value", "extension"])?;
        code(&field, way, "system", &["phone", "email", "other"])?;
        reached(names, &field, way)?;
    }
    if let Some(period) = item.get("period") {
        let (start, end) = (&period["start"], &period["end"]);
        let fine = |day: &Value| day.is_null() || day.as_str().is_some_and(is_day);
        if !fine(start) || !fine(end) {
            return Err(Refusal::value(&format!("{at}/period")));
        }
        if matches!((start.as_str(), end.as_str()), (Some(start), Some(end)) if end < start) {
            return Err(names.invalid(&format!(
                "the start date was after the corresponding end date in '{at}/period'"
            )));
        }
    }
    Ok(())
}

fn practice(at: &str, item: &Value) -> Result<(), Refusal> {
    let code = item["identifier"]["value"].as_str();
    let field = format!("{at}/identifier/value");
    let Some(code) = code else {
        return Err(Refusal::missing(&field));
    };
    let formed = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_uppercase();
    if code.is_empty() || !code.bytes().all(formed) {
        return Err(Refusal::value(&field));
    }
    if item["identifier"]["period"].get("end").is_some() {
        return Err(Refusal::update(
            "an end date can not be provided on a general practice",
        ));
    }
    Ok(())
}

fn dates(
    names: Names,
    today: &str,
    before: &Map<String, Value>,
    after: &Map<String, Value>,
) -> Result<(), Refusal> {
    let changed = |name: &str| before.get(name) != after.get(name);
    let born = after.get("birthDate").and_then(Value::as_str);
    if changed("birthDate") {
        if !born.is_some_and(is_day) {
            return Err(Refusal::value("birthDate"));
        }
        if born > Some(today) {
            return Err(names.invalid("birthDate is in the future"));
        }
    }
    let died = after.get("deceasedDateTime");
    if changed("deceasedDateTime") {
        let text = died.and_then(Value::as_str).unwrap_or_default();
        let formed = match text.get(10..) {
            Some("") => is_day(text),
            Some(rest) => {
                let time = rest.strip_suffix("+00:00").unwrap_or(rest);
                let whole = format!("{}{time}Z", &text[..10]);
                time.len() == 9 && fhir::date::parse(&whole).is_some()
            }
            None => false,
        };
        if !formed {
            return Err(Refusal::value("deceasedDateTime"));
        }
        if text.get(..10) > Some(today) {
            return Err(names.invalid("deceasedDateTime is in the future"));
        }
    }
    let day = died.and_then(Value::as_str).and_then(|text| text.get(..10));
    if (changed("birthDate") || changed("deceasedDateTime"))
        && matches!((born, day), (Some(born), Some(day)) if day < born)
    {
        return Err(names.invalid("deceasedDateTime is before birthDate"));
    }
    if changed("multipleBirthInteger")
        && let Some(order) = after.get("multipleBirthInteger")
        && !order.as_u64().is_some_and(|order| (1..=9).contains(&order))
    {
        return Err(Refusal::value("multipleBirthInteger"));
    }
    Ok(())
}

fn gender(before: &Map<String, Value>, after: &Map<String, Value>) -> Result<(), Refusal> {
    if before.get("gender") == after.get("gender") {
        return Ok(());
    }
    match after.get("gender").and_then(Value::as_str) {
        Some("male" | "female" | "unknown") => Ok(()),
        Some("other") => Err(legacy("gender")),
        _ => Err(Refusal::value("gender")),
    }
}

fn extensions(
    (rules, _, names): By<'_>,
    before: &Map<String, Value>,
    after: &mut Map<String, Value>,
) -> Result<(), Refusal> {
    let of = |members: &Map<String, Value>| -> Vec<Value> {
        let items = members.get("extension").and_then(Value::as_array);
        items.cloned().unwrap_or_default()
    };
    let (old, new) = (of(before), of(after));
    let mut seen = Vec::new();
    for (place, item) in new.iter().enumerate() {
        let at = format!("extension/{place}");
        let Some(url) = item["url"].as_str() else {
            return Err(Refusal::missing(&format!("{at}/url")));
        };
        if rules.extension(url).is_none() {
            return Err(legacy(&format!("{at}/url")));
        }
        if seen.contains(&url) {
            let words = format!("Too many values submitted - several of one url in field '{at}'");
            return Err(Refusal::new(Code::TooManyValues, words));
        }
        seen.push(url);
    }
    if new.is_empty() {
        after.remove("extension");
    }
    let is_death = |item: &&Value| {
        let extension = item["url"].as_str().and_then(|url| rules.extension(url));
        extension.is_some_and(|extension| extension.death)
    };
    let (was, is) = (old.iter().find(is_death), new.iter().find(is_death));
    if was.and_then(status) == Some(FORMAL)
        && (was != is || before.get("deceasedDateTime") != after.get("deceasedDateTime"))
    {
        return Err(Refusal::forbidden(
            "a formal notification of a death cannot be replaced",
        ));
    }
    if was != is {
        match is.and_then(status) {
            Some(FORMAL) => {
                return Err(Refusal::forbidden(
                    "source not permitted to add a formal notification of a death",
                ));
            }
            Some("1") => {}
            Some("U") => return Err(legacy("extension/deathNotificationStatus")),
            _ if is.is_some() => {
                return Err(Refusal::value("extension/deathNotificationStatus"));
            }
            _ => {}
        }
    }
    let added = |name: &str| before.get(name).is_none() && after.get(name).is_some();
    let informed = is.is_some() && was.is_none();
    if (added("deceasedDateTime") && is.is_none())
        || (informed && after.get("deceasedDateTime").is_none())
    {
        return Err(
            names.invalid("a date of death and the status of its notification are added together")
        );
    }
    Ok(())
}

/// A death that the registrar has told of.
const FORMAL: &str = "2";

/// How a death became known.
fn status(item: &Value) -> Option<&str> {
    let parts = item["extension"].as_array()?;
    let part = parts
        .iter()
        .find(|part| part["url"] == "deathNotificationStatus")?;
    part["valueCodeableConcept"]["coding"][0]["code"].as_str()
}
