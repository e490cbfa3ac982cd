//! A person of whom there is no record yet: what a request has to say, and what becomes of it.

use fhir::Resource;
use serde_json::{Map, Value, json};

use super::refusal::{Code, Refusal};
use super::rules::Rules;
use super::score::is_current;
use super::trace::{folded, folded_postcode};
use super::valid::{Names, check};
use super::view::Confidentiality;

const NEEDED: [&str; 4] = ["name", "address", "gender", "birthDate"];
const TAKEN: [&str; 7] = [
    "resourceType",
    "name",
    "address",
    "gender",
    "birthDate",
    "telecom",
    "extension",
];

/// A new person, understood: what is kept of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newcomer {
    members: Map<String, Value>,
}

impl Newcomer {
    /// Understands the body of a request. Today is `YYYY-MM-DD`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(rules: &Rules, body: &[u8], today: &str) -> Result<Self, Refusal> {
        let value: Value = serde_json::from_slice(body).map_err(|_| not_an_object())?;
        let Value::Object(mut members) = value else {
            return Err(not_an_object());
        };
        for name in NEEDED {
            if members.get(name).is_none_or(Value::is_null) {
                return Err(Refusal::missing(name));
            }
        }
        if members.keys().any(|name| !TAKEN.contains(&name.as_str())) {
            let words = "Invalid request with error - Additional properties are not allowed";
            return Err(Refusal::new(Code::AdditionalProperties, words));
        }
        if members
            .remove("resourceType")
            .is_some_and(|kind| kind != "Patient")
        {
            return Err(Refusal::value("resourceType"));
        }
        one_to(&members, "name", 1)?;
        one_to(&members, "address", usize::MAX)?;
        registered(rules, &members)?;
        // What isn't kept of a new record is taken and passed over, as published.
        if let Some(Value::Array(items)) = members.get_mut("extension") {
            items.retain(|item| {
                let url = item["url"].as_str();
                (url.and_then(|url| rules.extension(url)))
                    .is_some_and(|extension| extension.created)
            });
        }
        check((rules, today, Names::Create), &Map::new(), &mut members)?;
        let name = &members["name"][0];
        if name["use"] != "usual" {
            return Err(Refusal::value("name/0/use"));
        }
        if name["family"].as_str().is_none() {
            return Err(Refusal::missing("name/0/family"));
        }
        Ok(Self { members })
    }

    fn text(&self, name: &str) -> &str {
        self.members
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }
    /// Family name.
    #[must_use]
    pub fn family(&self) -> &str {
        self.members["name"][0]["family"]
            .as_str()
            .unwrap_or_default()
    }
    /// First given name.
    #[must_use]
    pub fn given(&self) -> &str {
        self.members["name"][0]["given"][0]
            .as_str()
            .unwrap_or_default()
    }
    /// Day of birth.
    #[must_use]
    pub fn birth_date(&self) -> &str {
        self.text("birthDate")
    }

    fn postcodes(&self) -> Vec<String> {
        postcodes(self.members.get("address"), "")
    }

    /// Whether a patient is the same person by what is said of them: family name, first given name, gender and day
    /// of birth, and where both have one and it is `placed`, a postcode. Of somebody restricted the postcode says
    /// nothing.
    #[must_use]
    pub fn is(&self, patient: &Resource, today: &str, placed: bool) -> bool {
        let level = Confidentiality::of(patient);
        if level == Confidentiality::Redacted {
            return false;
        }
        let same = |name: &str| patient.text_at(&[name]) == Some(self.text(name));
        if !same("gender") || !same("birthDate") {
            return false;
        }
        let names = patient.get("name").and_then(Value::as_array);
        let named = |name: &Value| {
            let text = |value: &Value| folded(value.as_str().unwrap_or_default());
            is_current(name, today)
                && text(&name["family"]) == folded(self.family())
                && text(&name["given"][0]) == folded(self.given())
        };
        if !names.into_iter().flatten().any(named) {
            return false;
        }
        let (own, theirs) = (self.postcodes(), postcodes(patient.get("address"), today));
        !placed
            || level >= Confidentiality::Restricted
            || own.is_empty()
            || theirs.is_empty()
            || own.iter().any(|one| theirs.contains(one))
    }

    /// The same text for whoever is said to be the same person.
    #[must_use]
    pub fn canonical(&self) -> String {
        let mut postcodes = self.postcodes();
        postcodes.sort_unstable();
        let parts = [
            folded(self.family()),
            folded(self.given()),
            self.text("gender").to_owned(),
            self.birth_date().to_owned(),
            postcodes.join(" "),
        ];
        parts.join("\n")
    }

    /// The person as a patient, without a number.
    #[must_use]
    pub fn patient(&self) -> Value {
        let mut value = Value::Object(self.members.clone());
        value["resourceType"] = json!("Patient");
        value
    }

    /// The resource that is kept, under a number.
    #[must_use]
    pub fn resource(&self, rules: &Rules, number: &str) -> Value {
        let mut identifier = json!({"system": rules.identifier_system, "value": number});
        if let Some(status) = &rules.verification {
            identifier["extension"] = json!([{
                "url": status.url,
                "valueCodeableConcept": {"coding": [{
                    "system": status.system, "version": status.version,
                    "code": status.code, "display": status.display,
                }]},
            }]);
        }
        let mut value = self.patient();
        value["identifier"] = json!([identifier]);
        value
    }
}

fn not_an_object() -> Refusal {
    Refusal::new(
        Code::ValidationError,
        "Validation error - the body is no JSON object",
    )
}

fn postcodes(addresses: Option<&Value>, today: &str) -> Vec<String> {
    let addresses = addresses.and_then(Value::as_array);
    addresses
        .into_iter()
        .flatten()
        .filter(|address| is_current(address, today))
        .filter_map(|address| address["postalCode"].as_str())
        .map(folded_postcode)
        .collect()
}

/// A list of at least one and at most so many.
fn one_to(members: &Map<String, Value>, name: &str, most: usize) -> Result<(), Refusal> {
    let Some(items) = members.get(name).and_then(Value::as_array) else {
        return Err(Refusal::value(name));
    };
    let told = |what: &str| format!("{what} values submitted - in field '{name}'");
    if items.is_empty() {
        return Err(Refusal::new(Code::TooFewValues, told("Too few")));
    }
    if items.len() > most {
        return Err(Refusal::new(Code::TooManyValues, told("Too many")));
    }
    Ok(())
}

/// A request says who registers the person, where the rules want that.
fn registered(rules: &Rules, members: &Map<String, Value>) -> Result<(), Refusal> {
    let Some(registering) = &rules.registering else {
        return Ok(());
    };
    let Some(extensions) = members.get("extension") else {
        return Err(Refusal::missing("extension"));
    };
    let mut extensions = extensions.as_array().into_iter().flatten();
    if extensions.any(|item| item["url"] == registering.url.as_str()) {
        return Ok(());
    }
    Err(Refusal::missing("extension/registeringAuthority"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TODAY: &str = "2026-03-01";

    fn person() -> Value {
        json!({
            "resourceType": "Patient",
            "name": [{"use": "usual", "given": ["Mickey"], "family": "Mouse", "prefix": ["Mr."], "period": {"start": "1954-10-26"}}],
            "address": [{"use": "home", "line": ["", "317 Stuart Streets", "", "Glasgow"], "postalCode": "G1 1AA", "period": {"start": "2024-05-09"}}],
            "gender": "male", "birthDate": "1954-10-26",
            "extension": [
                {"url": "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-RegisteringAuthority"},
                {"url": "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-EthnicCategory"},
                {"url": "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-NHSCommunication"},
            ],
        })
    }

    fn parse(value: &Value) -> Result<Newcomer, Refusal> {
        let rules = Rules::named("england").expect("rules");
        Newcomer::parse(&rules, value.to_string().as_bytes(), TODAY)
    }

    #[test]
    fn what_is_kept_of_a_new_person() {
        let rules = Rules::named("england").expect("rules");
        let resource = parse(&person())
            .expect("a person")
            .resource(&rules, "9990000000");
        assert_eq!(resource["identifier"][0]["value"], "9990000000");
        assert_eq!(
            resource["address"][0]["line"],
            json!(["317 Stuart Streets", "Glasgow"])
        );
        assert_eq!(resource["name"][0]["prefix"], json!(["Mr"]));
        assert_eq!(resource["extension"].as_array().map(Vec::len), Some(1));
        assert!(resource["name"][0]["id"].is_string());
    }

    #[test]
    fn what_is_wrong_with_a_request() {
        use Code::{
            AdditionalProperties as Additional, InvalidCreate as Create, InvalidValue as Invalid,
            MissingValue as Missing, TooFewValues as Few, TooManyValues as Many,
            UnsupportedCharacters as Characters, UnsupportedValue as Unsupported,
        };
        type Row = (&'static str, Value, Code);
        let table: Vec<Row> = vec![
            ("/name", Value::Null, Missing),
            ("/address", Value::Null, Missing),
            ("/gender", Value::Null, Missing),
            ("/birthDate", Value::Null, Missing),
            ("/extension", json!([]), Missing),
            ("/pets", json!([]), Additional),
            ("/name/0/pets", json!("x"), Additional),
            ("/name", json!([]), Few),
            ("/name/1", json!({"use": "usual"}), Many),
            ("/name", json!({"family": "x"}), Invalid),
            ("/name/0/given", json!("x"), Invalid),
            ("/name/0/given", json!(["1", "2", "3", "4", "5", "6"]), Many),
            ("/name/0/given", json!([]), Few),
            ("/name/0/given", json!(["O`Brien"]), Characters),
            ("/name/0/family", json!("x".repeat(36)), Invalid),
            ("/name/0/suffix", json!(["mBE"]), Invalid),
            ("/name/0/prefix", json!(["MR"]), Invalid),
            ("/name/0/use", json!("other"), Invalid),
            (
                "/name/0/period",
                json!({"start": "1954-10-26", "end": "2030-01-01"}),
                Create,
            ),
            ("/name/0/period", json!({"start": "2026-03-02"}), Create),
            ("/gender", json!("other"), Unsupported),
            ("/gender", json!("x"), Invalid),
            ("/birthDate", json!("not-a-date"), Invalid),
            ("/birthDate", json!("2026-03-02"), Create),
            ("/address/0", json!(["another", "array"]), Invalid),
            ("/address/0/period", Value::Null, Missing),
            ("/address/0/line", json!(["317 Stuart Streets"]), Create),
            (
                "/address/0/line",
                json!(["1", "2", "3", "4", "5", "6"]),
                Many,
            ),
            ("/address/0/use", json!("work"), Unsupported),
            ("/address/0/use", json!("temp"), Create),
            (
                "/telecom",
                json!([{"system": "email", "use": "home", "value": "testemail"}]),
                Create,
            ),
            (
                "/telecom",
                json!([{"system": "pigeon", "use": "home", "value": "x"}]),
                Invalid,
            ),
            (
                "/telecom",
                json!([{"system": "phone", "use": "home"}]),
                Missing,
            ),
        ];
        assert!(parse(&person()).is_ok());
        for (path, value, expected) in table {
            let mut person = person();
            let (parent, last) = path.rsplit_once('/').expect("a path");
            let place = person.pointer_mut(parent).expect("a place");
            match (place, last.parse::<usize>()) {
                (Value::Array(items), Ok(at)) if at < items.len() => items[at] = value.clone(),
                (Value::Array(items), _) => items.push(value.clone()),
                (Value::Object(members), _) if value.is_null() => drop(members.remove(last)),
                (place, _) => place[last] = value.clone(),
            }
            let code = parse(&person).err().map(|refusal| refusal.code);
            assert_eq!(code, Some(expected), "{path}: {value}");
        }
    }

    #[test]
    fn who_is_the_same() {
        let newcomer = parse(&person()).expect("a person");
        for (path, value, expected) in [
            ("/gender", json!("male"), true),
            ("/gender", json!("female"), false),
            ("/birthDate", json!("1954-10-27"), false),
            ("/name/0/family", json!("MOUSE"), true),
            ("/name/0/family", json!("Duck"), false),
            ("/name/0/given", json!(["Minnie"]), false),
            ("/name/0/given", json!(["Mickey", "Walt"]), true),
            ("/address/0/postalCode", json!("g11aa"), true),
            ("/address/0/postalCode", json!("G2 2BB"), false),
            ("/address", json!([]), true),
        ] {
            let mut other = person();
            *other.pointer_mut(path).expect("a place") = value.clone();
            let other = Resource::from_value(other).expect("a patient");
            assert_eq!(newcomer.is(&other, TODAY, true), expected, "{path} {value}");
        }
        let mut restricted = person();
        restricted["address"][0]["postalCode"] = json!("G2 2BB");
        restricted["meta"] =
            json!({"security": [{"system": super::super::view::CONFIDENTIALITY, "code": "R"}]});
        let mut restricted = Resource::from_value(restricted).expect("a patient");
        assert!(newcomer.is(&restricted, TODAY, true));
        restricted.remove("meta");
        assert!(newcomer.is(&restricted, TODAY, false) && !newcomer.is(&restricted, TODAY, true));
    }
}
