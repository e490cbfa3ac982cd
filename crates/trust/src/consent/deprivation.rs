//! Where an organisation's records say how deprived the place is that a patient lives in.

use fhir::Resource;
use serde::Deserialize;
use serde_json::Value;

/// The table `deprivation` of a rule pack. FHIR has no one place for it, so the organisation names its own.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deprivation {
    /// The extension, of a `Patient` or of one of their addresses, whose value is the group.
    extension: String,
    /// How many groups there are: 5 are quintiles, 10 are deciles.
    groups: u8,
    /// Which end is the most deprived: indices differ in that.
    most_deprived: End,
}

/// One end of a row of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum End {
    Lowest,
    Highest,
}

impl Deprivation {
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        if !(2..=20).contains(&self.groups) {
            return Err("`deprivation` has 2 to 20 groups");
        }
        let url = &self.extension;
        let is_address = url.contains(':') && !url.contains(char::is_whitespace);
        if !is_address {
            return Err("the `extension` of `deprivation` is no address (`https://…`)");
        }
        Ok(())
    }

    /// The group that a patient's record says, in words; nothing where it says none, or a number that is none.
    #[must_use]
    pub fn group(&self, patient: &Resource) -> Option<String> {
        let patient = patient.as_value();
        let addresses = patient["address"].as_array().into_iter().flatten();
        let addresses = addresses.filter(|address| address["use"] != "old");
        let mut said = std::iter::once(patient)
            .chain(addresses)
            .filter_map(|of| of["extension"].as_array())
            .flatten()
            .filter(|one| one["url"] == self.extension.as_str());
        let group = said.find_map(number)?;
        let known = (1..=u64::from(self.groups)).contains(&group);
        known.then(|| self.words(group))
    }

    fn words(&self, group: u64) -> String {
        let last = u64::from(self.groups);
        let (most, least) = match self.most_deprived {
            End::Lowest => (1, last),
            End::Highest => (last, 1),
        };
        match group {
            group if group == most => format!("{group} (most deprived)"),
            group if group == least => format!("{group} (least deprived)"),
            group => group.to_string(),
        }
    }
}

/// The number that an extension's value is, however it is typed.
fn number(extension: &Value) -> Option<u64> {
    let typed = ["valueInteger", "valuePositiveInt", "valueUnsignedInt"];
    let whole = typed.iter().find_map(|name| extension[*name].as_u64());
    let text = || {
        let text = extension["valueString"].as_str();
        let text = text.or_else(|| extension["valueCode"].as_str());
        let text = text.or_else(|| extension["valueCoding"]["code"].as_str());
        text?.trim().parse().ok()
    };
    whole.or_else(text)
}

#[cfg(test)]
mod tests {
    use crate::consent::Rules;
    use fhir::Resource;
    use serde_json::{Value, json};

    const URL: &str = "https://hospital.example/deprivation";

    fn pack(table: &str) -> Result<Rules, String> {
        let text = format!("name = \"ours\"\nextends = \"us-hipaa\"\n[deprivation]\n{table}\n");
        Rules::parse("ours.toml", &text).map_err(|error| error.to_string())
    }

    fn group(table: &str, more: &Value) -> Option<String> {
        let mut patient = json!({"resourceType": "Patient", "id": "p"});
        for (name, value) in more.as_object().unwrap() {
            patient[name] = value.clone();
        }
        let rules = pack(table).unwrap();
        let patient = Resource::from_value(patient).unwrap();
        rules.deprivation().unwrap().group(&patient)
    }

    #[test]
    fn a_group_is_read_where_the_pack_says() {
        let deciles = format!("extension = \"{URL}\"\ngroups = 10\nmost_deprived = \"lowest\"");
        let quintiles = format!("extension = \"{URL}\"\ngroups = 5\nmost_deprived = \"highest\"");
        let says = |value: Value| {
            let mut one = json!({"url": URL});
            let (name, value) = value.as_object().unwrap().iter().next().unwrap();
            one[name] = value.clone();
            json!([{"url": "https://other.example", "valueInteger": 9}, one])
        };
        for (value, first, second) in [
            (
                json!({"valueInteger": 1}),
                Some("1 (most deprived)"),
                Some("1 (least deprived)"),
            ),
            (
                json!({"valuePositiveInt": 5}),
                Some("5"),
                Some("5 (most deprived)"),
            ),
            (
                json!({"valueString": " 10 "}),
                Some("10 (least deprived)"),
                None,
            ),
            (json!({"valueCode": "2"}), Some("2"), Some("2")),
            (json!({"valueCoding": {"code": "3"}}), Some("3"), Some("3")),
            (json!({"valueInteger": 0}), None, None),
            (json!({"valueInteger": 11}), None, None),
            (json!({"valueString": "poor"}), None, None),
            (json!({"valueBoolean": true}), None, None),
        ] {
            let said = json!({"extension": says(value.clone())});
            assert_eq!(group(&deciles, &said).as_deref(), first, "{value}");
            assert_eq!(group(&quintiles, &said).as_deref(), second, "{value}");
        }
        // Of addresses the first that is not an old one.
        let address = json!({"address": [
            {"use": "old", "extension": says(json!({"valueInteger": 1}))},
            {"city": "A"},
            {"use": "home", "extension": says(json!({"valueInteger": 4}))}
        ]});
        assert_eq!(group(&deciles, &address).as_deref(), Some("4"));
        assert_eq!(group(&deciles, &json!({})), None);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (table, said) in [
            (
                "extension = \"https://a.example\"\ngroups = 1\nmost_deprived = \"lowest\"",
                "2 to 20",
            ),
            (
                "extension = \"decile\"\ngroups = 5\nmost_deprived = \"lowest\"",
                "no address",
            ),
            (
                "extension = \"https://a.example\"\ngroups = 5\nmost_deprived = \"first\"",
                "first",
            ),
            (
                "extension = \"https://a.example\"\ngroups = 5",
                "most_deprived",
            ),
            (
                "extension = \"https://a.example\"\ngroups = 5\nmost_deprived = \"lowest\"\nof = 1",
                "of",
            ),
        ] {
            let error = pack(table).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
        assert!(Rules::load(Rules::DEFAULT).unwrap().deprivation().is_none());
    }
}
