//! Relationships: what makes it somebody's work to look at a patient's record, as data of a rule pack.
//!
//! A relationship is told by what is written of the patient's care: the team that somebody is in, an
//! appointment with them, a stay, a referral or an order. England calls it a legitimate relationship; HIPAA
//! asks who had reason to look (45 CFR 164.308(a)(1)(ii)(D)).
use fhir::search::{COMMON, SearchQuery, parameters};
use fhir::{Resource, ResourceType, date};
use serde::Deserialize;
use serde_json::Value;

use super::worklist::Worklist;
use crate::Role;

pub(super) const DAY_MS: i64 = 24 * 60 * 60 * 1000;

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
    /// Whose rows are a reason by themselves. That of what is built in, where a pack doesn't say what makes a
    /// relationship.
    worklist: Option<Worklist>,
}

/// What makes a relationship, as it is built in.
const BUILT_IN: &str = include_str!("../../rules/relationships.toml");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BuiltIn {
    by: Vec<By>,
    worklist: Worklist,
}

/// One thing that makes a relationship.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct By {
    /// What the audit calls it.
    pub(crate) name: String,
    /// What patients are told, in words that go on from "because": `they are in your care team`.
    #[serde(default)]
    pub(crate) words: String,
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
            self.worklist.get_or_insert(built_in.worklist);
        }
        self.check()?;
        Ok(self)
    }

    fn check(&self) -> Result<(), String> {
        for role in self.needed.iter().chain(&self.told) {
            if matches!(
                role,
                Role::Patient | Role::System | Role::Client | Role::Steerer
            ) {
                return Err(format!(
                    "the role {} has no relationships of its own",
                    role.name()
                ));
            }
        }
        if !self.needed.is_empty() && self.denied.trim().is_empty() {
            return Err("a relationship is needed, and no words say so (`denied`)".to_owned());
        }
        let listed = self.worklist.iter().flat_map(Worklist::names);
        for name in listed.chain(self.by.iter().map(|by| by.name.as_str())) {
            let plain = |byte: u8| byte == b' ' || byte.is_ascii_alphanumeric();
            if name.is_empty() || !name.bytes().all(plain) {
                return Err(format!("`{name}` is no name of a relationship"));
            }
        }
        if let Some(worklist) = &self.worklist {
            worklist.check()?;
        }
        for by in &self.by {
            let kind = by
                .of_kind()
                .ok_or_else(|| format!("`{}` is no resource type of FHIR R4", by.kind))?;
            let known = parameters(kind).iter().chain(COMMON.iter());
            if !known.into_iter().any(|known| known.name == by.parameter) {
                let (kind, parameter) = (&by.kind, &by.parameter);
                return Err(format!("{kind} has no search parameter `{parameter}`"));
            }
            if kind != ResourceType::Patient
                && !parameters(kind).iter().any(|known| known.name == "patient")
            {
                return Err(format!("{} is of no patient", by.kind));
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

    pub(crate) fn worklist(&self) -> Option<&Worklist> {
        self.worklist.as_ref()
    }

    /// What makes a relationship or is a reason, by name.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let listed = self.worklist.iter().flat_map(Worklist::names);
        self.by.iter().map(|by| by.name.as_str()).chain(listed)
    }

    /// The words for one of them; none where there are none.
    pub(crate) fn words(&self, name: &str) -> Option<&str> {
        let by = self.by.iter().find(|by| by.name == name);
        let words = by.map(|by| by.words.as_str());
        let words = words.or_else(|| self.worklist.as_ref()?.words(name));
        words.filter(|words| !words.is_empty())
    }
}

impl By {
    /// Whether another looks among the same rows as this one, for other statuses or times.
    pub(crate) fn looks_where(&self, other: &Self) -> bool {
        self.kind == other.kind && self.parameter == other.parameter
    }

    fn of_kind(&self) -> Option<ResourceType> {
        ResourceType::parse(&self.kind)
    }

    /// What of this type leads to one of these references (`Type/id`), of one patient or of any. `None` where
    /// none of them can be.
    pub(crate) fn query(&self, known_as: &[String], patient: Option<&str>) -> Option<SearchQuery> {
        let kind = self.of_kind()?;
        let can_be = |reference: &&str| {
            let one = [(self.parameter.clone(), (*reference).to_owned())];
            SearchQuery::parse(kind, &one, false).is_ok()
        };
        let values: Vec<&str> = match known_as {
            // If it can't be, the whole can't be read either.
            [one] => vec![one],
            all => all.iter().map(String::as_str).filter(can_be).collect(),
        };
        if values.is_empty() {
            return None;
        }
        // Of every patient that it names, not of the first alone.
        let whose = match kind {
            ResourceType::Patient => "_id",
            _ => "patient",
        };
        let mut parameters = vec![(self.parameter.clone(), values.join(","))];
        parameters.extend(patient.map(|patient| (whose.to_owned(), patient.to_owned())));
        SearchQuery::parse(kind, &parameters, false).ok()
    }

    /// Whether one that leads to somebody who is `known_as` counts at a time.
    pub(crate) fn counts(&self, resource: &Resource, known_as: &[String], now_ms: i64) -> bool {
        let status = resource.get("status").and_then(Value::as_str);
        let right = |status: &str| self.status.iter().any(|one| one == status);
        if !self.status.is_empty() && !status.is_some_and(right) {
            return false;
        }
        if !takes_part(resource, known_as, now_ms) {
            return false;
        }
        let is_over = status.is_some_and(|status| OVER.contains(&status));
        let Some((start_ms, end_ms)) = self.when(resource, is_over) else {
            // Of what has no time it can't be told when it ended, if it did.
            return self.when.is_empty() || !is_over && self.days_after == 0;
        };
        let (before_ms, after_ms) = (
            i64::from(self.days_before) * DAY_MS,
            i64::from(self.days_after) * DAY_MS,
        );
        start_ms.saturating_sub(before_ms) <= now_ms && now_ms < end_ms.saturating_add(after_ms)
    }

    /// When it is, from and until, milliseconds since the epoch. What is over has an end, the beginning at the
    /// latest.
    fn when(&self, resource: &Resource, is_over: bool) -> Option<(i64, i64)> {
        self.when.iter().find_map(|name| match resource.get(name)? {
            Value::Object(period) => {
                let (start_ms, end_ms) = ends(period.get("start"), period.get("end"))?;
                let no_end = end_ms == i64::MAX && is_over;
                Some((start_ms, if no_end { start_ms } else { end_ms }))
            }
            Value::String(_) if name == "start" && resource.get("end").is_some() => {
                ends(resource.get("start"), resource.get("end"))
            }
            Value::String(text) => date::parse(text).map(|at| (at.start_ms, at.end_ms)),
            _ => None,
        })
    }
}

/// Statuses of what is over.
const OVER: [&str; 3] = ["finished", "completed", "fulfilled"];

fn ends(start: Option<&Value>, end: Option<&Value>) -> Option<(i64, i64)> {
    let time = |value: Option<&Value>| value.and_then(Value::as_str).and_then(date::parse);
    let (start, end) = (time(start), time(end));
    (start.is_some() || end.is_some()).then(|| {
        let start_ms = start.map_or(i64::MIN, |start| start.start_ms);
        (start_ms, end.map_or(i64::MAX, |end| end.end_ms))
    })
}

/// Whether somebody takes part now, where it says of each who takes part until when: who has left a team or
/// declined an appointment does not.
fn takes_part(resource: &Resource, known_as: &[String], now_ms: i64) -> bool {
    let Some(Value::Array(participants)) = resource.get("participant") else {
        return true;
    };
    let is_named = |participant: &Value| {
        ["member", "actor", "individual"].iter().any(|name| {
            let reference = participant[*name]["reference"].as_str();
            reference.is_some_and(|one| known_as.iter().any(|known| known == one))
        })
    };
    let mut named = participants.iter().filter(|one| is_named(one)).peekable();
    // It leads to them by something else.
    if named.peek().is_none() {
        return true;
    }
    named.any(|participant| {
        let period = &participant["period"];
        let now = ends(period.get("start"), period.get("end"));
        let now = now.is_none_or(|(start_ms, end_ms)| start_ms <= now_ms && now_ms < end_ms);
        now && participant["status"] != "declined"
    })
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
                visit.counts(&appointment("booked"), &[], at(now)),
                counts,
                "{now}"
            );
            assert!(
                !visit.counts(&appointment("cancelled"), &[], at(now)),
                "{now}"
            );
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
        assert!(team.counts(&of(Value::Null), &[], now));
        assert!(team.counts(&of(json!({"start": "2026-06-10"})), &[], now));
        assert!(!team.counts(&of(json!({"start": "2026-06-11"})), &[], now));
        // The last day of a period belongs to it.
        assert!(team.counts(&of(json!({"end": "2026-06-10"})), &[], now));
        assert!(!team.counts(&of(json!({"end": "2026-06-09"})), &[], now));
        let order = by(
            "name = 'order'\ntype = 'ServiceRequest'\nparameter = 'requester'\nwhen = ['authoredOn']\ndays_after = 365",
        );
        let mut ordered = Resource::new(ResourceType::ServiceRequest);
        ordered.set("authoredOn", json!("2025-06-11"));
        assert!(order.counts(&ordered, &[], now));
        ordered.set("authoredOn", json!("2025-06-08"));
        assert!(!order.counts(&ordered, &[], now));
        // Of what is over, or counts for a while alone, an end that isn't said is no end that never comes.
        ordered.remove("authoredOn");
        assert!(!order.counts(&ordered, &[], now));
        let stay = by(
            "name = 'encounter'\ntype = 'Encounter'\nparameter = 'participant'\nwhen = ['period']\ndays_after = 90",
        );
        let mut stayed = Resource::new(ResourceType::Encounter);
        stayed.set("period", json!({"start": "2026-01-01"}));
        stayed.set("status", json!("in-progress"));
        assert!(stay.counts(&stayed, &[], now));
        stayed.set("status", json!("finished"));
        assert!(!stay.counts(&stayed, &[], now));
        // Who has left, or declined, takes no part.
        let known_as = ["Practitioner/d".to_owned()];
        let mut left = Resource::new(ResourceType::CareTeam);
        for (participant, counts) in [
            (json!({"member": {"reference": "Practitioner/d"}}), true),
            (
                json!({"member": {"reference": "Practitioner/d"}, "period": {"end": "2026-06-09"}}),
                false,
            ),
            (
                json!({"actor": {"reference": "Practitioner/d"}, "status": "declined"}),
                false,
            ),
        ] {
            left.set("participant", json!([participant]));
            assert_eq!(team.counts(&left, &known_as, now), counts, "{left:?}");
        }
    }

    #[test]
    fn what_is_no_relationship_is_refused() {
        let check = |text: &str| {
            let rules: Relationships = toml::from_str(text).expect("TOML");
            rules.checked().map(|rules| rules.by.len())
        };
        let team = "[[by]]\nname = 'care team'\ntype = 'CareTeam'\nparameter = 'participant'";
        assert_eq!(check(&format!("told = ['clinician']\n{team}")), Ok(1));
        assert_eq!(check("told = ['clinician']"), Ok(11));
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
                "[[by]]\nname = 'x'\ntype = 'Organization'\nparameter = 'partof'",
                "is of no patient",
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
