//! The European Health Insurance Card of a person: the one coverage that the service tells of.

use fhir::Resource;
use serde_json::{Value, json};

use super::refusal::{Code, Refusal};
use super::rules::Rules;
use super::trace::is_day;

/// By what the record knows it.
const SYSTEM: &str = "urn:cairn:coverage-type";
const EHIC: &str = "ehic";
/// What the published form has; all but the first are needed.
const MEMBERS: [&str; 7] = [
    "resourceType",
    "status",
    "subscriber",
    "identifier",
    "payor",
    "beneficiary",
    "period",
];
/// How far from now a card may end, years.
const YEARS: i32 = 150;

/// A card, understood.
#[derive(Debug, Clone, PartialEq)]
pub struct Card {
    /// The number of whose it is.
    pub number: String,
    value: Value,
}

impl Card {
    /// Understands the body of a request. Today is `YYYY-MM-DD`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(rules: &Rules, body: &[u8], today: &str) -> Result<Self, Refusal> {
        let value: Value = serde_json::from_slice(body)
            .map_err(|_| Refusal::update("the body is no JSON object"))?;
        let Some(members) = value.as_object() else {
            return Err(Refusal::update("the body is no JSON object"));
        };
        if members.keys().any(|name| !MEMBERS.contains(&name.as_str())) {
            let words = "Invalid request with error - Additional properties are not allowed";
            return Err(Refusal::new(Code::AdditionalProperties, words));
        }
        if let Some(name) = MEMBERS[1..]
            .iter()
            .find(|name| !members.contains_key(**name))
        {
            return Err(Refusal::missing(name));
        }
        if value["status"] != "active" {
            return Err(Refusal::value("status"));
        }
        for list in ["identifier", "payor"] {
            let words = |what: &str| format!("{what} values submitted - in field '{list}'");
            match value[list].as_array().map(Vec::len) {
                Some(1) => {}
                Some(0) => return Err(Refusal::new(Code::TooFewValues, words("Too few"))),
                Some(_) => return Err(Refusal::new(Code::TooManyValues, words("Too many"))),
                None => return Err(Refusal::value(list)),
            }
        }
        text(&value, "identifier/0/value", 25)?;
        text(&value, "identifier/0/assigner/identifier/value", 3)?;
        text(&value, "payor/0/identifier/value", 30)?;
        text(&value, "beneficiary/identifier/value", 25)?;
        let number = text(&value, "subscriber/identifier/value", rules.digits)?.to_owned();
        if !rules.is_number(&number) {
            return Err(Refusal::bare(Code::InvalidResourceId));
        }
        let field = "period/end";
        let end = match value.pointer("/period/end") {
            None => return Err(Refusal::missing(field)),
            Some(end) => end.as_str().filter(|end| is_day(end)),
        };
        let year = |day: &str| day.get(..4).and_then(|year| year.parse::<i32>().ok());
        let near = |end: &str| Some((year(end)? - year(today)?).abs() < YEARS);
        if end.and_then(near) != Some(true) {
            return Err(Refusal::value(field));
        }
        Ok(Self { number, value })
    }

    /// The resource that is kept, of a patient of the record; over one that is there.
    #[must_use]
    pub fn resource(&self, patient: &str, id: Option<&str>) -> Value {
        let mut value = self.value.clone();
        value["resourceType"] = json!("Coverage");
        value["type"] = json!({"coding": [{"system": SYSTEM, "code": EHIC}]});
        value["beneficiary"]["reference"] = json!(format!("Patient/{patient}"));
        if let Some(id) = id {
            value["id"] = json!(id);
        }
        value
    }
}

fn text<'v>(value: &'v Value, field: &str, most: usize) -> Result<&'v str, Refusal> {
    let text = match value.pointer(&format!("/{field}")) {
        None => return Err(Refusal::missing(field)),
        Some(text) => text.as_str().unwrap_or_default(),
    };
    let formed = |byte: u8| byte.is_ascii_alphanumeric() || b"-,/:'. ".contains(&byte);
    if (1..=most).contains(&text.len()) && text.bytes().all(formed) {
        return Ok(text);
    }
    Err(Refusal::value(field))
}

/// Whether a coverage of the record is a card.
#[must_use]
pub fn is_card(resource: &Resource) -> bool {
    let codings = resource.at(&["type", "coding"]).and_then(Value::as_array);
    let mut codings = codings.into_iter().flatten();
    codings.any(|coding| coding["system"] == SYSTEM && coding["code"] == EHIC)
}

/// What is told of a card: nothing where a part is missing.
#[must_use]
pub fn told(resource: &Resource) -> Option<Value> {
    let mut value = resource.as_value().clone();
    let members = value.as_object_mut()?;
    members.retain(|name, _| MEMBERS.contains(&name.as_str()));
    members
        .get_mut("beneficiary")?
        .as_object_mut()?
        .remove("reference");
    let whole = ["/beneficiary/identifier/value", "/payor/0/identifier/value"]
        .iter()
        .all(|path| value.pointer(path).is_some());
    whole.then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card() -> Value {
        json!({
            "resourceType": "Coverage", "status": "active",
            "subscriber": {"identifier": {"system": "https://fhir.nhs.uk/Id/nhs-number", "value": "9000000009"}},
            "identifier": [{"value": "29401395498043123948", "assigner": {"identifier": {"system": "urn:iso:std:iso:3166", "value": "FRA"}}}],
            "payor": [{"identifier": {"value": "92847ADGJL"}}],
            "beneficiary": {"identifier": {"value": "178705ABC"}},
            "period": {"end": "2030-12-31"},
        })
    }

    #[test]
    fn what_is_wrong_with_a_card() {
        use Code::{
            AdditionalProperties as Additional, InvalidResourceId as Id, InvalidValue as Invalid,
            MissingValue as Missing, TooFewValues as Few, TooManyValues as Many,
        };
        let rules = Rules::named("england").expect("rules");
        let parse = |value: &Value| Card::parse(&rules, value.to_string().as_bytes(), "2026-03-01");
        assert!(parse(&card()).is_ok());
        for (path, value, expected) in [
            ("/status", json!("draft"), Invalid),
            ("/status", Value::Null, Missing),
            ("/pets", json!(1), Additional),
            ("/identifier", json!([]), Few),
            (
                "/payor",
                json!([{"identifier": {"value": "a"}}, {"identifier": {"value": "b"}}]),
                Many,
            ),
            ("/payor/0/identifier/value", json!(""), Invalid),
            ("/payor/0/identifier/value", json!("x".repeat(31)), Invalid),
            ("/identifier/0/value", Value::Null, Missing),
            ("/identifier/0/value", json!("a_b"), Invalid),
            ("/beneficiary/identifier/value", Value::Null, Missing),
            ("/subscriber/identifier/value", json!("9000000000"), Id),
            ("/period/end", json!("1860-12-15"), Invalid),
            ("/period/end", json!("2200-12-15"), Invalid),
            ("/period/end", json!("soon"), Invalid),
            ("/period/end", Value::Null, Missing),
        ] {
            let mut card = card();
            let (parent, last) = path.rsplit_once('/').expect("a path");
            let place = card.pointer_mut(parent).expect("a place");
            match (place, &value) {
                (Value::Object(members), Value::Null) => drop(members.remove(last)),
                (place, value) => place[last] = value.clone(),
            }
            let code = parse(&card).err().map(|refusal| refusal.code);
            assert_eq!(code, Some(expected), "{path}: {value}");
        }
    }

    #[test]
    fn what_is_kept_and_told_of_a_card() {
        let rules = Rules::named("england").expect("rules");
        let parsed = Card::parse(&rules, card().to_string().as_bytes(), "2026-03-01");
        let kept = parsed.expect("a card").resource("r1", None);
        let mut resource = Resource::from_value(kept).expect("a resource");
        assert!(is_card(&resource));
        assert_eq!(resource.patient(), Some("r1"));
        assert_eq!(told(&resource), Some(card()));
        resource.set("beneficiary", json!({"reference": "Patient/r1"}));
        assert_eq!(told(&resource), None);
    }
}
