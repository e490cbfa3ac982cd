//! Rules of demographics as data: what a country's numbers look like, and what its persons are told with.

use serde::Deserialize;

/// The packs that are built in.
const BUILT_IN: [(&str, &str); 1] = [(
    "england",
    include_str!("../../rules/england-demographics.toml"),
)];

/// How the last digit of a number follows from the others.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Check {
    /// Each digit is weighed; the check digit is `modulus` less the rest of their sum, and `modulus` itself is
    /// written as 0. A number that would need more than one digit there is none.
    Weights {
        /// One for each digit before the last.
        weights: Vec<u32>,
        /// 11 for NHS numbers.
        modulus: u32,
    },
    /// Luhn's formula (ISO/IEC 7812-1, annex B).
    Luhn,
    /// No digit checks the others.
    None,
}

/// An extension of a person that is told.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extension {
    /// Its address.
    pub url: String,
    /// Whether it would tell where somebody is.
    #[serde(default)]
    pub place: bool,
    /// Whether it says how a death became known.
    #[serde(default)]
    pub death: bool,
    /// Whether a search shows it.
    #[serde(default)]
    pub searched: bool,
    /// Whether it is kept of what a new record is made from.
    #[serde(default)]
    pub created: bool,
}

/// The status that a number is told with.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Verification {
    pub url: String,
    pub system: String,
    pub version: String,
    pub code: String,
    pub display: String,
}

/// What a record has to say of who registers a person.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registering {
    /// The extension's address.
    pub url: String,
}

/// The rules of one country.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// The identifier system of the number that persons are known by.
    pub identifier_system: String,
    /// The identifier system of organisations.
    pub organization_system: String,
    /// How many digits a number has.
    pub digits: usize,
    /// What its last digit is.
    pub check: Check,
    /// What numbers that are given out begin with.
    pub allocate: Vec<String>,
    /// The system of the codes of errors.
    pub error_system: String,
    /// Its version.
    pub error_version: String,
    /// The most persons that a search answers.
    pub results_max: usize,
    /// The same for systems by themselves.
    pub application_results_max: usize,
    /// What postcodes begin with that are no place.
    pub pseudo_postcodes: Vec<String>,
    /// The status of numbers that are given out here.
    pub verification: Option<Verification>,
    /// Extensions that are told.
    #[serde(default, rename = "extension")]
    pub extensions: Vec<Extension>,
    /// What a new record has to say of who registers the person, if anything.
    pub registering: Option<Registering>,
}

impl Rules {
    /// The pack that is taken where none is named.
    pub const DEFAULT: &str = "england";

    /// Names of the packs that are built in.
    pub fn built_in() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|(name, _)| *name)
    }

    /// A pack that is built in.
    ///
    /// # Errors
    /// That there is none of the name, or what is wrong with it.
    pub fn named(name: &str) -> Result<Self, String> {
        let found = BUILT_IN.iter().find(|(one, _)| *one == name);
        let (_, text) = found.ok_or_else(|| format!("there are no rules of the name {name}"))?;
        Self::parse(text)
    }

    /// Understands a pack.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let rules: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        rules.checked()?;
        Ok(rules)
    }

    /// What is wrong with them, if something was changed.
    ///
    /// # Errors
    /// What it is.
    pub fn checked(&self) -> Result<(), String> {
        if !(4..=18).contains(&self.digits) {
            return Err("digits: a number has 4 to 18 digits".to_owned());
        }
        if let Check::Weights { weights, modulus } = &self.check {
            if weights.len() + 1 != self.digits {
                return Err("check: there is one weight for each digit before the last".to_owned());
            }
            if !(2..=11).contains(modulus) {
                return Err("check: the modulus is 2 to 11".to_owned());
            }
        }
        let fits = |prefix: &String| {
            !prefix.is_empty()
                && prefix.len() < self.digits
                && prefix.bytes().all(|byte| byte.is_ascii_digit())
        };
        if !self.allocate.iter().all(fits) {
            return Err("allocate: numbers begin with fewer digits than they have".to_owned());
        }
        if self.allocate.is_empty() {
            return Err("allocate: no new person could be given a number".to_owned());
        }
        let within = 1..=50;
        if !within.contains(&self.results_max) || !within.contains(&self.application_results_max) {
            return Err("results_max and application_results_max are 1 to 50".to_owned());
        }
        Ok(())
    }

    /// The extension of an address, if it is told.
    #[must_use]
    pub fn extension(&self, url: &str) -> Option<&Extension> {
        self.extensions
            .iter()
            .find(|extension| extension.url == url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_pack_is_said() {
        let text = BUILT_IN[0].1;
        assert!(Rules::parse(text).is_ok());
        for (from, to, what) in [
            ("digits = 10", "digits = 9", "one weight"),
            ("modulus = 11", "modulus = 12", "modulus"),
            ("allocate = [\"999\"]", "allocate = [\"9x\"]", "allocate"),
            ("results_max = 50", "results_max = 51", "results_max"),
            ("digits = 10", "digit = 10", "digit"),
        ] {
            assert!(text.contains(from), "{from}");
            let error = Rules::parse(&text.replacen(from, to, 1)).expect_err(to);
            assert!(error.contains(what), "{error}");
        }
        assert!(Rules::named("atlantis").is_err());
    }
}
