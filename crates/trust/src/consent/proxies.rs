//! Who acts for a patient (45 CFR 164.502(g)): until which birthday, and what is kept from them. Pure.
//!
//! Dates change who may without anybody's act. They are days where the patient lives; where nobody knows where
//! that is, the day that takes a right away begins with the first place on Earth that has it, and the day that
//! gives one begins with the last.
use fhir::{Resource, ResourceType};
use jiff::ToSpan;
use jiff::civil::Date;
use jiff::tz::{Offset, TimeZone};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::labels::{CONFIDENTIALITY, Level, is_within};
use super::list;
use super::row::Row;
use crate::TrustError;

/// FHIR's extension for a time zone (IANA).
const TIME_ZONE: &str = "http://hl7.org/fhir/StructureDefinition/timezone";

/// By which right somebody acts for a patient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Basis {
    /// A parent, or who stands in a parent's place: until the child is of age.
    Parent,
    /// Whom a court has appointed.
    Guardian,
    /// Whom the patient has given a power of attorney for health care.
    HealthCareAgent,
    /// Whom the patient has authorised to see their pages.
    Authorised,
}

impl Basis {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Parent,
        Self::Guardian,
        Self::HealthCareAgent,
        Self::Authorised,
    ];

    /// As forms and records spell it.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Parent => "parent",
            Self::Guardian => "guardian",
            Self::HealthCareAgent => "health-care-agent",
            Self::Authorised => "authorised",
        }
    }

    /// The one that is spelt so.
    #[must_use]
    pub fn parse(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|basis| basis.code() == code)
    }

    /// Whether it is the patient's to end: what a court has ordered is not.
    #[must_use]
    pub fn is_the_patient_s(self) -> bool {
        self != Self::Guardian
    }

    /// `RelatedPerson.relationship` (HL7 v3): system, code, words.
    pub(crate) fn coding(self) -> (&'static str, &'static str, &'static str) {
        const ROLE: &str = "http://terminology.hl7.org/CodeSystem/v3-RoleCode";
        const CLASS: &str = "http://terminology.hl7.org/CodeSystem/v3-RoleClass";
        match self {
            Self::Parent => (ROLE, "PRN", "parent"),
            Self::Guardian => (ROLE, "GUARD", "guardian"),
            Self::HealthCareAgent => (ROLE, "HPOWATT", "healthcare power of attorney"),
            Self::Authorised => (CLASS, "AGNT", "agent"),
        }
    }
}

/// What a rule pack says of those who act for patients.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxyRules {
    /// The age at which patients act for themselves.
    pub of_age: u8,
    /// Labels of what nobody is shown who acts for a patient.
    #[serde(default)]
    withheld: Vec<String>,
    /// What minors may keep to themselves.
    alone: Alone,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Alone {
    from: u8,
    labels: Vec<String>,
}

/// What somebody who acts for a patient may be shown now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Whether the patient is of an age to keep something from them.
    pub(crate) is_kept: bool,
    /// Whether journeys are shown: what they are about can't be weighed.
    pub(crate) sees_journeys: bool,
}

impl ProxyRules {
    pub(super) fn check(&self) -> Result<(), &'static str> {
        if self.alone.from > self.of_age || self.of_age > 30 {
            return Err("proxies: a minor's age to keep something is not above that of majority");
        }
        let labels = self.withheld.iter().chain(&self.alone.labels);
        if labels.into_iter().any(|label| label.trim().is_empty()) {
            return Err("proxies: a label is empty");
        }
        Ok(())
    }

    /// From which age minors may keep something from those who act for them.
    #[must_use]
    pub fn alone_from(&self) -> u8 {
        self.alone.from
    }

    /// Whether a patient is not of age; none where no birth date tells.
    #[must_use]
    pub fn is_minor(&self, patient: &Resource, now_ms: i64) -> Option<bool> {
        Some(now_ms < turns(patient, self.of_age)?)
    }

    /// Whether a patient is so small that they keep nothing from those who act for them, and have no address.
    #[must_use]
    pub fn is_small(&self, patient: &Resource, now_ms: i64) -> bool {
        turns(patient, self.alone.from).is_some_and(|from_ms| now_ms < from_ms)
    }

    /// Whether a patient is of an age at which they keep something from those who act for them: a minor of that
    /// age, or one of whom nobody knows.
    #[must_use]
    pub fn keeps(&self, patient: &Resource, now_ms: i64) -> bool {
        self.is_minor(patient, now_ms).unwrap_or(true) && !self.is_small(patient, now_ms)
    }
}

/// Whether a row is not for somebody who acts for its patient. What is about the patient as such is left to
/// policies, and what is nobody's is no patient's.
pub(crate) fn keeps_from_proxy(rules: &ProxyRules, standing: Standing, row: &Row<'_>) -> bool {
    if row.resource.kind() == ResourceType::Patient || row.resource.patient().is_none() {
        return false;
    }
    // Who else acts for the patient, and what was written to them, is not theirs.
    let mut recipients = list(row.resource.get("recipient"));
    if row.resource.kind() == ResourceType::Communication
        && recipients.any(|one| is_related_person(one.get("reference")))
    {
        return true;
    }
    let about = &row.labels().about;
    let has = |labels: &[String]| {
        let mut labels = labels.iter();
        labels.any(|label| about.iter().any(|one| is_within(one, label)))
    };
    if has(&rules.withheld) || row.is_opaque() {
        return true;
    }
    standing.is_kept && (has(&rules.alone.labels) || !is_ordinary(row.resource))
}

fn is_related_person(reference: Option<&Value>) -> bool {
    let found = reference
        .and_then(Value::as_str)
        .and_then(fhir::Reference::parse);
    found.is_some_and(|found| found.kind == ResourceType::RelatedPerson)
}

/// Whether who wrote it has marked it as no more confidential than others. Codes alone don't tell what words
/// say, and tables of codes have gaps.
fn is_ordinary(resource: &Resource) -> bool {
    let mut levels = list(resource.at(&["meta", "security"])).filter_map(|coding| {
        let system = coding.get("system")?.as_str()?;
        let code = coding.get("code")?.as_str()?;
        system
            .ends_with(CONFIDENTIALITY)
            .then(|| Level::parse(code))
    });
    match levels.next() {
        None => false,
        Some(first) => {
            let is_low = |level: Option<Level>| level.is_some_and(|level| level <= Level::Normal);
            is_low(first) && levels.all(is_low)
        }
    }
}

/// When a patient comes to an age. Of a birth date in part, the first day that it may be.
fn turns(patient: &Resource, years: u8) -> Option<i64> {
    let mut parts = patient.text_at(&["birthDate"])?.splitn(3, '-');
    let year: i16 = parts.next()?.parse().ok()?;
    let mut part = || parts.next().map_or(Some(1), |part| part.parse::<i8>().ok());
    let born = Date::new(year, part()?, part()?).ok()?;
    let day = born.checked_add(i16::from(years).years()).ok()?;
    begins_ms(day, &zone(patient).unwrap_or_else(first_zone))
}

/// The place on Earth whose days begin first.
fn first_zone() -> TimeZone {
    TimeZone::fixed(Offset::constant(14))
}

/// The place on Earth whose days begin last.
fn last_zone() -> TimeZone {
    TimeZone::fixed(Offset::constant(-12))
}

/// Where a patient lives, as far as it matters for the time.
fn zone(patient: &Resource) -> Option<TimeZone> {
    let of = |value: Option<&Value>| {
        let zone =
            list(value).find(|one| one.get("url").and_then(Value::as_str) == Some(TIME_ZONE));
        TimeZone::get(zone?.get("valueCode")?.as_str()?).ok()
    };
    of(patient.get("extension"))
        .or_else(|| list(patient.get("address")).find_map(|address| of(address.get("extension"))))
}

fn begins_ms(day: Date, zone: &TimeZone) -> Option<i64> {
    let begins = zone.to_timestamp(day.at(0, 0, 0, 0)).ok()?;
    Some(begins.as_millisecond())
}

/// A day as forms give it.
pub(crate) fn day(text: &str) -> Result<Date, TrustError> {
    (text.len() == 10)
        .then(|| text.parse().ok())
        .flatten()
        .ok_or_else(|| TrustError::Invalid("a date is YYYY-MM-DD".to_owned()))
}

/// Whether a time is within days where the patient lives; what can't be read is over.
pub(crate) fn is_within_days(
    patient: &Resource,
    (from, until): (Option<&str>, Option<&str>),
    now_ms: i64,
) -> bool {
    let place = zone(patient);
    let has_begun = |text: &str| {
        let zone = place.clone().unwrap_or_else(last_zone);
        let begins = day(text).ok().and_then(|day| begins_ms(day, &zone));
        begins.is_some_and(|begins| begins <= now_ms)
    };
    let goes_on = |text: &str| {
        let zone = place.clone().unwrap_or_else(first_zone);
        let next = day(text).ok().and_then(|day| day.tomorrow().ok());
        let ends = next.and_then(|day| begins_ms(day, &zone));
        ends.is_some_and(|ends| now_ms < ends)
    };
    from.is_none_or(has_begun) && until.is_none_or(goes_on)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::consent::Rules;

    fn at(text: &str) -> i64 {
        fhir::date::parse(text).unwrap().start_ms
    }

    fn born(birth_date: &str, zone: Option<&str>) -> Resource {
        let mut patient = json!({"resourceType": "Patient", "id": "p", "birthDate": birth_date});
        if let Some(zone) = zone {
            patient["address"] =
                json!([{"city": "x", "extension": [{"url": TIME_ZONE, "valueCode": zone}]}]);
        }
        Resource::from_value(patient).unwrap()
    }

    #[test]
    fn birthdays_change_who_may() {
        let rules = Rules::load("us-hipaa").unwrap();
        let rules = rules.proxies().unwrap();
        let honolulu = Some("Pacific/Honolulu");
        for (birth_date, zone, moment, minor, small) in [
            // In a place that is known, the day begins there.
            (
                "2010-03-01",
                honolulu,
                "2028-03-01T09:59:59Z",
                Some(true),
                false,
            ),
            (
                "2010-03-01",
                honolulu,
                "2028-03-01T10:00:00Z",
                Some(false),
                false,
            ),
            // In one that isn't, where it begins first.
            (
                "2010-03-01",
                None,
                "2028-02-29T09:59:59Z",
                Some(true),
                false,
            ),
            (
                "2010-03-01",
                None,
                "2028-02-29T10:00:00Z",
                Some(false),
                false,
            ),
            (
                "2010-03-01",
                Some("Nowhere/Town"),
                "2028-02-29T10:00:00Z",
                Some(false),
                false,
            ),
            ("2010-03-01", None, "2022-02-28T09:59:59Z", Some(true), true),
            (
                "2010-03-01",
                None,
                "2022-02-28T10:00:00Z",
                Some(true),
                false,
            ),
            // A leap day's child is of age on the last of February.
            (
                "2008-02-29",
                Some("Etc/UTC"),
                "2026-02-27T23:59:59Z",
                Some(true),
                false,
            ),
            (
                "2008-02-29",
                Some("Etc/UTC"),
                "2026-02-28T00:00:00Z",
                Some(false),
                false,
            ),
            // Of a date in part, the first day that it may be.
            (
                "2010",
                Some("Etc/UTC"),
                "2028-01-01T00:00:00Z",
                Some(false),
                false,
            ),
            (
                "2010-05",
                Some("Etc/UTC"),
                "2028-04-30T23:59:59Z",
                Some(true),
                false,
            ),
            ("nonsense", None, "2028-04-30T23:59:59Z", None, false),
        ] {
            let patient = born(birth_date, zone);
            let words = format!("{birth_date} {zone:?} {moment}");
            assert_eq!(rules.is_minor(&patient, at(moment)), minor, "{words}");
            assert_eq!(rules.is_small(&patient, at(moment)), small, "{words}");
            let keeps = minor != Some(false) && !small;
            assert_eq!(rules.keeps(&patient, at(moment)), keeps, "{words}");
        }
        let england = Rules::load("england").unwrap();
        let england = england.proxies().unwrap();
        assert_eq!((england.of_age, england.alone_from()), (16, 11));
    }

    #[test]
    fn days_begin_and_end_where_the_patient_lives() {
        let days = (Some("2026-03-01"), Some("2026-03-02"));
        for (zone, moment, within) in [
            (Some("Etc/UTC"), "2026-02-28T23:59:59Z", false),
            (Some("Etc/UTC"), "2026-03-01T00:00:00Z", true),
            (Some("Etc/UTC"), "2026-03-02T23:59:59Z", true),
            (Some("Etc/UTC"), "2026-03-03T00:00:00Z", false),
            (None, "2026-03-01T11:59:59Z", false),
            (None, "2026-03-01T12:00:00Z", true),
            (None, "2026-03-02T09:59:59Z", true),
            (None, "2026-03-02T10:00:00Z", false),
        ] {
            let patient = born("1950-01-01", zone);
            assert_eq!(
                is_within_days(&patient, days, at(moment)),
                within,
                "{zone:?} {moment}"
            );
        }
        let patient = born("1950-01-01", None);
        assert!(is_within_days(&patient, (None, None), 0));
        assert!(!is_within_days(&patient, (None, Some("2026-13-01")), 0));
    }

    #[test]
    fn what_is_kept_from_who_acts_for_a_patient() {
        let pack = Rules::load("us-hipaa").unwrap();
        let rules = pack.proxies().unwrap();
        let security = |code: &str| {
            let system = if code.len() == 1 {
                "v3-Confidentiality"
            } else {
                "v3-ActCode"
            };
            json!({"system": format!("http://terminology.hl7.org/CodeSystem/{system}"), "code": code})
        };
        let icd = |code: &str| json!({"coding": [{"system": "http://hl7.org/fhir/sid/icd-10", "code": code}]});
        // Of what: labels, a code, whether it is kept while the patient keeps things, and otherwise.
        for (labels, code, kept, otherwise) in [
            (vec![], "I10", true, false),
            (vec!["N"], "I10", false, false),
            (vec!["L"], "I10", false, false),
            (vec!["R"], "I10", true, false),
            (vec!["N", "V"], "I10", true, false),
            (vec!["N"], "A56", true, false),
            (vec!["N", "STD"], "I10", true, false),
            (vec!["N", "OPIOIDUD"], "I10", true, false),
            (vec!["N"], "T74", true, true),
            (vec!["SDV"], "I10", true, true),
        ] {
            let security: Vec<_> = labels.iter().map(|code| security(code)).collect();
            let row = Resource::from_value(json!({
                "resourceType": "Condition", "id": "c", "subject": {"reference": "Patient/p"},
                "meta": {"security": security}, "code": icd(code),
            }))
            .unwrap();
            for (is_kept, expected) in [(true, kept), (false, otherwise)] {
                let standing = Standing {
                    is_kept,
                    sees_journeys: true,
                };
                let row = Row::new(&pack.tables, &row);
                let found = keeps_from_proxy(rules, standing, &row);
                assert_eq!(found, expected, "{labels:?} {code} {is_kept}");
            }
        }
    }
}
