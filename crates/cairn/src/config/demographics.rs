//! Demographics as a service.

use serde::Deserialize;
use spine::demographics::Rules;

use super::ConfigError;

/// Where the service is published.
const BASE: &str = "/personal-demographics/FHIR/R4";
/// What addresses of other routes begin with.
const OTHERS: [&str; 15] = [
    ".well-known",
    "api",
    "audit",
    "cds-services",
    "channels",
    "console",
    "fhir",
    "health",
    "metrics",
    "oauth",
    "portal",
    "sign-in",
    "sign-out",
    "static",
    "theme",
];

/// Demographics as a service.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DemographicsSettings {
    /// Whether it is served.
    pub serve: bool,
    /// Where it begins.
    pub base: String,
    /// The rules of the country: a built-in name, or a file.
    pub rules: String,
    /// What numbers begin with that are given out, separated by spaces, in the place of what the rules say.
    pub allocate: Option<String>,
    /// How many requests of one client are answered in a second.
    pub per_second: u32,
}

impl Default for DemographicsSettings {
    fn default() -> Self {
        Self {
            serve: false,
            base: BASE.to_owned(),
            rules: Rules::DEFAULT.to_owned(),
            allocate: None,
            per_second: 50,
        }
    }
}

impl DemographicsSettings {
    /// The rules that are meant.
    ///
    /// # Errors
    /// That there are none, or what is wrong with them.
    pub fn rules(&self) -> Result<Rules, String> {
        let mut rules = if Rules::built_in().any(|name| name == self.rules) {
            Rules::named(&self.rules)?
        } else {
            let text = std::fs::read_to_string(&self.rules);
            let text = text.map_err(|error| format!("{}: {error}", self.rules))?;
            Rules::parse(&text).map_err(|error| format!("{}: {error}", self.rules))?
        };
        if let Some(allocate) = &self.allocate {
            rules.allocate = allocate.split_whitespace().map(str::to_owned).collect();
            rules.checked()?;
        }
        Ok(rules)
    }

    /// What is wrong with them, if something is.
    ///
    /// # Errors
    /// What it is.
    pub fn check(&self) -> Result<(), String> {
        let formed = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        };
        let parts = self.base.strip_prefix('/');
        let parts: Vec<&str> = parts
            .map(|rest| rest.split('/').collect())
            .unwrap_or_default();
        if parts.is_empty() || !parts.iter().all(|part| formed(part)) {
            return Err(format!("demographics.base is a path such as {BASE}"));
        }
        if OTHERS.contains(&parts[0]) {
            return Err(format!(
                "demographics.base can't begin with /{}: other routes do",
                parts[0]
            ));
        }
        if self.per_second == 0 {
            return Err("demographics.per_second is at least 1".to_owned());
        }
        self.rules()
            .map(drop)
            .map_err(|words| format!("demographics.rules: {words}"))
    }

    pub(super) fn checked(&self) -> Result<(), ConfigError> {
        self.check().map_err(ConfigError::Invalid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said() {
        let with = |change: fn(&mut DemographicsSettings)| {
            let mut settings = DemographicsSettings::default();
            change(&mut settings);
            settings.check().err().unwrap_or_default()
        };
        assert_eq!(with(|_| {}), "");
        assert_eq!(with(|one| one.base = "/pds".to_owned()), "");
        assert_eq!(with(|one| one.allocate = Some("4 70".to_owned())), "");
        for (change, what) in [
            (
                (|one| one.base = String::new()) as fn(&mut DemographicsSettings),
                "base",
            ),
            (|one| one.base = "pds".to_owned(), "base"),
            (|one| one.base = "/pds/".to_owned(), "base"),
            (|one| one.base = "/{pds}".to_owned(), "base"),
            (|one| one.base = "/fhir/r5".to_owned(), "other routes"),
            (|one| one.per_second = 0, "per_second"),
            (|one| one.rules = "atlantis".to_owned(), "rules"),
            (|one| one.allocate = Some("4x".to_owned()), "allocate"),
            (|one| one.allocate = Some(" ".to_owned()), "allocate"),
        ] {
            let words = with(change);
            assert!(words.contains(what), "{words}");
        }
    }
}
