//! Relationships: what makes it somebody's work to look at a patient's record, as data of a rule pack.
//!
//! A relationship is told by what is written of the patient's care: the team that somebody is in, an
//! appointment with them, a stay, a referral or an order. England calls it a legitimate relationship; HIPAA
//! asks who had reason to look (45 CFR 164.308(a)(1)(ii)(D)).
use fhir::search::{COMMON, SearchQuery, parameters};
use fhir::{Resource, ResourceType, date};
use serde::Deserialize;
use serde_json::Value;

use crate::Role;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// What a rule pack says of relationships.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Relationships {
    /// Roles that see clinical and financial rows of those patients alone whom they have one with.
    #[serde(default)]
    needed: Vec<Role>,
    /// Roles of whose accesses the audit tells which relationship explains them, or that none does.
    #[serde(default)]
    told: Vec<Role>,
    /// Why something is hidden where there is none.
    #[serde(default)]
    denied: String,
    /// What makes one; the first that there is explains an access. What is built in, where nothing is said.
    #[serde(default)]
    by: Vec<By>,
}

/// What makes a relationship, as it is built in.
const BUILT_IN: &str = include_str!("../../rules/relationships.toml");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BuiltIn {
    by: Vec<By>,
}

/// One thing that makes a relationship.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct By {
    /// What the audit calls it.
    pub(crate) name: String,
    /// Its resource type.
    #[serde(rename = "type")]
    kind: String,
    /// The search parameter of it that leads to who has the relationship.
    parameter: String,
    /// Statuses in which it counts; without any, each.
    #[serde(default)]
    status: Vec<String>,
    /// Elements that say when, the first that there is counts: a `Period`, or a time. `start` and `end` beside
    /// each other are one period. Without one it counts at any time.
    #[serde(default)]
    when: Vec<String>,
    /// So many days before and after it counts as well.
    #[serde(default)]
    days_before: u16,
    #[serde(default)]
    days_after: u16,
}

/// What the rules ask of a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asks {
    pub(crate) needed: bool,
    pub(crate) told: bool,
}

impl Relationships {
    /// Ready to be asked.
    ///
    /// # Errors
    /// What is wrong with the data, in words.
    pub(crate) fn checked(mut self) -> Result<Self, String> {
        if self.by.is_empty() {
            let built_in: BuiltIn = toml::from_str(BUILT_IN).map_err(|error| error.to_string())?;
            self.by = built_in.by;
        }
        self.check()?;
        Ok(self)
    }

    fn check(&self) -> Result<(), String> {
        for role in self.needed.iter().chain(&self.told) {
            if matches!(role, Role::Patient | Role::System | Role::Client) {
                return Err(format!(
                    "the role {} has no relationships of its own",
                    role.name()
                ));
            }
        }
        if !self.needed.is_empty() && self.denied.trim().is_empty() {
            return Err("a relationship is needed, and no words say so (`denied`)".to_owned());
        }
        for by in &self.by {
            let plain = |byte: u8| byte == b' ' || byte.is_ascii_alphanumeric();
            if by.name.is_empty() || !by.name.bytes().all(plain) {
                return Err(format!("`{}` is no name of a relationship", by.name));
            }
            let kind = by
                .of_kind()
                .ok_or_else(|| format!("`{}` is no resource type of FHIR R4", by.kind))?;
            let known = parameters(kind).iter().chain(COMMON.iter());
            if !known.into_iter().any(|known| known.name == by.parameter) {
                let (kind, parameter) = (&by.kind, &by.parameter);
                return Err(format!("{kind} has no search parameter `{parameter}`"));
            }
        }
        Ok(())
    }

    /// What is asked of a role.
    pub(crate) fn asks(&self, role: Role) -> Asks {
        let needed = self.needed.contains(&role);
        Asks {
            needed,
            told: needed || self.told.contains(&role),
        }
    }

    /// Why a row is hidden where there is no relationship.
    pub(crate) fn denied(&self) -> &str {
        &self.denied
    }

    pub(crate) fn by(&self) -> &[By] {
        &self.by
    }
}

impl By {
    fn of_kind(&self) -> Option<ResourceType> {
        ResourceType::parse(&self.kind)
    }

    /// What of this type leads to one of these references (`Type/id`). `None` where none of them can be.
    pub(crate) fn query(&self, known_as: &[String]) -> Option<SearchQuery> {
        let values: Vec<&str> = (known_as.iter())
            .map(String::as_str)
            .filter(|reference| {
                let one = [(self.parameter.clone(), (*reference).to_owned())];
                SearchQuery::parse(self.of_kind().unwrap_or(ResourceType::Basic), &one, false)
                    .is_ok()
            })
            .collect();
        if values.is_empty() {
            return None;
        }
        let parameters = [(self.parameter.clone(), values.join(","))];
        SearchQuery::parse(self.of_kind()?, &parameters, false).ok()
    }

    /// Whether one that leads to somebody counts at a time.
    pub(crate) fn counts(&self, resource: &Resource, now_ms: i64) -> bool {
        let status = resource.get("status").and_then(Value::as_str);
        let right = |status: &str| self.status.iter().any(|one| one == status);
        if !self.status.is_empty() && !status.is_some_and(right) {
            return false;
        }
        let Some((start_ms, end_ms)) = self.when(resource) else {
            return true;
        };
        let (before_ms, after_ms) = (
            i64::from(self.days_before) * DAY_MS,
            i64::from(self.days_after) * DAY_MS,
        );
        start_ms.saturating_sub(before_ms) <= now_ms && now_ms < end_ms.saturating_add(after_ms)
    }

    /// When it is, from and until, milliseconds since the epoch.
    fn when(&self, resource: &Resource) -> Option<(i64, i64)> {
        let ends = |start: Option<&Value>, end: Option<&Value>| {
            let time = |value: Option<&Value>| value.and_then(Value::as_str).and_then(date::parse);
            let (start, end) = (time(start), time(end));
            (start.is_some() || end.is_some()).then(|| {
                let start_ms = start.map_or(i64::MIN, |start| start.start_ms);
                (start_ms, end.map_or(i64::MAX, |end| end.end_ms))
            })
        };
        self.when.iter().find_map(|name| match resource.get(name)? {
            Value::Object(period) => ends(period.get("start"), period.get("end")),
            Value::String(text) if name == "start" && resource.get("end").is_some() => {
                let _ = text;
                ends(resource.get("start"), resource.get("end"))
            }
            Value::String(text) => date::parse(text).map(|at| (at.start_ms, at.end_ms)),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn by(text: &str) -> By {
        toml::from_str(text).expect("a relationship")
    }

    fn at(text: &str) -> i64 {
        date::parse(text).expect("a date").start_ms
    }

    #[test]
    fn a_relationship_counts_in_its_time_and_status() {
        let visit = by(
            "name = 'appointment'\ntype = 'Appointment'\nparameter = 'actor'\nstatus = ['booked']\nwhen = ['start']\ndays_before = 2\ndays_after = 3",
        );
        let appointment = |status: &str| {
            Resource::from_value(json!({"resourceType": "Appointment", "status": status,
                "start": "2026-06-10T10:00:00Z", "end": "2026-06-10T11:00:00Z"}))
            .expect("a resource")
        };
        for (now, counts) in [
            ("2026-06-08T09:59:00Z", false),
            ("2026-06-08T10:00:00Z", true),
            ("2026-06-10T10:30:00Z", true),
            ("2026-06-13T10:59:00Z", true),
            ("2026-06-13T11:01:00Z", false),
        ] {
            assert_eq!(
                visit.counts(&appointment("booked"), at(now)),
                counts,
                "{now}"
            );
            assert!(!visit.counts(&appointment("cancelled"), at(now)), "{now}");
        }
        let team = by(
            "name = 'care team'\ntype = 'CareTeam'\nparameter = 'participant'\nwhen = ['period']",
        );
        let of = |period: Value| {
            let mut team = Resource::new(ResourceType::CareTeam);
            if !period.is_null() {
                team.set("period", period);
            }
            team
        };
        let now = at("2026-06-10");
        assert!(team.counts(&of(Value::Null), now));
        assert!(team.counts(&of(json!({"start": "2026-06-10"})), now));
        assert!(!team.counts(&of(json!({"start": "2026-06-11"})), now));
        // The last day of a period belongs to it.
        assert!(team.counts(&of(json!({"end": "2026-06-10"})), now));
        assert!(!team.counts(&of(json!({"end": "2026-06-09"})), now));
        let order = by(
            "name = 'order'\ntype = 'ServiceRequest'\nparameter = 'requester'\nwhen = ['authoredOn']\ndays_after = 365",
        );
        let mut ordered = Resource::new(ResourceType::ServiceRequest);
        ordered.set("authoredOn", json!("2025-06-11"));
        assert!(order.counts(&ordered, now));
        ordered.set("authoredOn", json!("2025-06-08"));
        assert!(!order.counts(&ordered, now));
    }

    #[test]
    fn what_is_no_relationship_is_refused() {
        let check = |text: &str| {
            let rules: Relationships = toml::from_str(text).expect("TOML");
            rules.checked().map(|rules| rules.by.len())
        };
        let team = "[[by]]\nname = 'care team'\ntype = 'CareTeam'\nparameter = 'participant'";
        assert_eq!(check(&format!("told = ['clinician']\n{team}")), Ok(1));
        assert_eq!(check("told = ['clinician']"), Ok(9));
        for (text, words) in [
            ("told = ['client']", "no relationships of its own"),
            ("needed = ['clinician']", "no words say so"),
            (
                "[[by]]\nname = 'x'\ntype = 'Team'\nparameter = 'participant'",
                "no resource type",
            ),
            (
                "[[by]]\nname = 'x'\ntype = 'CareTeam'\nparameter = 'member'",
                "no search parameter",
            ),
            (
                "[[by]]\nname = '<b>'\ntype = 'CareTeam'\nparameter = 'participant'",
                "is no name",
            ),
        ] {
            let said = check(text).expect_err(text);
            assert!(said.contains(words), "{text}: {said}");
        }
    }
}
