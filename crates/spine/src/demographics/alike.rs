//! A fuzzy trace: who is like what is asked for. By names that are alike, short or have changed places, as the matcher
//! compares them; now and before. The day of birth holds, and so do e-mail address and telephone number where they
//! are asked for. Gender, postcode, practice and day of death say how closely somebody fits.

use fhir::Resource;
use serde_json::Value;

use super::score::{is_current, is_passed_over, score};
use super::trace::Trace;
use crate::matching::{
    Address, Day, Field, Matcher, Name, Person, Sex, compare, doors, normal, shipped,
};

/// What a practice or a day of death that is another leaves of a score.
const ANOTHER: f64 = 0.9;
/// What is left of a score that rests on what was so before.
const BEFORE: f64 = 0.8;
/// The most of what is not just as it was asked for: 1 is just so.
const NEARLY: f64 = 0.9999;

/// Who is looked for, as the matcher sees them.
pub(super) struct Alike {
    sought: Person,
    matcher: Matcher<'static>,
    /// Bits of somebody who is just so, at least one.
    bits: f64,
}

impl Alike {
    pub(super) fn of(trace: &Trace) -> Self {
        let mut sought = Person::default();
        let family = trace.family.as_ref().map_or("", |family| family.prefix());
        let given = trace.given.iter().map(super::trace::Pattern::prefix);
        sought.names.push(Name::new(family, given));
        let birth = trace.birth.as_ref().and_then(|birth| birth.one());
        sought.birth_date = birth.and_then(Day::parse);
        sought.sex = match trace.gender.as_deref() {
            Some("female") => Some(Sex::Female),
            Some("male") => Some(Sex::Male),
            Some("other") => Some(Sex::Other),
            _ => None,
        };
        if let Some(postcode) = &trace.postcode {
            let place = Address::new(&[], "", postcode.prefix(), "");
            sought.addresses.push(place);
        }
        let matcher = shipped();
        let bits = matcher.bits_of_fields(&sought, &sought).max(1.0);
        Self {
            sought,
            matcher,
            bits,
        }
    }

    /// Ways to ask the record, the widest first: all who were born on the day; those of them one of whose names
    /// begins as one that is asked for.
    pub(super) fn ways(&self, trace: &Trace) -> Vec<Vec<(&'static str, String)>> {
        let birth: Vec<_> = trace
            .birth
            .iter()
            .flat_map(|birth| birth.asked("birthdate"))
            .collect();
        let mut ways = Vec::new();
        if self.sought.birth_date.is_some() {
            ways.push(birth.clone());
        }
        let family = trace.family.as_ref().map(super::trace::Pattern::prefix);
        let given = trace.given.first().map(super::trace::Pattern::prefix);
        if let Some(names) = doors::of_names(family, given) {
            let mut named = birth;
            named.push(("_filter", names));
            ways.push(named);
        }
        ways
    }

    /// How closely a patient is like who is looked for, above 0 and up to 1; none who isn't, or whom the search may
    /// not find. Today is `YYYY-MM-DD`.
    pub(super) fn score(
        &self,
        trace: &Trace,
        resource: &Resource,
        person: &Person,
        today: &str,
    ) -> Option<f64> {
        if is_passed_over(trace, resource) {
            return None;
        }
        let birth = resource.text_at(&["birthDate"])?;
        let is_born = trace.birth.as_ref().is_none_or(|days| days.hold(birth));
        let has = |list: &[String], asked: &Option<String>, form: fn(&str) -> Option<String>| {
            asked
                .as_deref()
                .is_none_or(|asked| form(asked).is_some_and(|asked| list.contains(&asked)))
        };
        let is_reached = has(&person.emails, &trace.email, normal::email)
            && has(&person.phones, &trace.phone, normal::phone);
        if !is_born || !is_reached || !self.is_alike(trace, person) {
            return None;
        }
        if score(trace, resource, today) == Some(1.0) {
            return Some(1.0);
        }
        let now = self.closeness(&current(resource, today));
        let ever = self.closeness(person) * BEFORE;
        let mut found = now.max(ever);
        if let Some(practice) = &trace.practice
            && !has_practice(resource, practice)
        {
            found *= ANOTHER;
        }
        if let Some(days) = &trace.death
            && !resource
                .text_at(&["deceasedDateTime"])
                .is_some_and(|death| days.hold(death))
        {
            found *= ANOTHER;
        }
        let found = (found.clamp(0.0001, NEARLY) * 10_000.0).round() / 10_000.0;
        (!trace.exact).then_some(found)
    }

    /// Whether the names that are asked for are alike, and the postcode where it stands for one of them.
    fn is_alike(&self, trace: &Trace, person: &Person) -> bool {
        let levels = compare(&self.sought, person);
        let is = |field: Field| levels.differs(field) == Some(false);
        match (trace.family.is_some(), trace.given.is_empty()) {
            // Names that have changed places are told at the given name alone.
            (true, false) => is(Field::Given) && levels.differs(Field::Family) != Some(true),
            (true, true) => is(Field::Family) && is(Field::Postcode),
            (false, _) => is(Field::Given) && is(Field::Postcode),
        }
    }

    fn closeness(&self, person: &Person) -> f64 {
        (self.matcher.bits_of_fields(&self.sought, person) / self.bits).clamp(0.0, 1.0)
    }
}

/// A patient as they are now.
fn current(resource: &Resource, today: &str) -> Person {
    let mut now = resource.as_value().clone();
    for list in ["name", "address", "telecom"] {
        if let Some(Value::Array(items)) = now.get_mut(list) {
            items.retain(|item| is_current(item, today));
        }
    }
    Person::of(&now)
}

fn has_practice(resource: &Resource, practice: &str) -> bool {
    let practices = resource
        .get("generalPractitioner")
        .and_then(Value::as_array);
    let codes =
        (practices.into_iter().flatten()).filter_map(|item| item["identifier"]["value"].as_str());
    codes
        .into_iter()
        .any(|code| code.eq_ignore_ascii_case(practice))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::rules::Rules;
    use super::super::trace::Mode;
    use super::super::view::CONFIDENTIALITY;
    use super::*;

    const TODAY: &str = "2026-03-01";

    fn patient(code: &str) -> Resource {
        Resource::from_value(json!({
            "resourceType": "Patient", "id": "p",
            "meta": {"security": [{"system": CONFIDENTIALITY, "code": code}]},
            "name": [
                {"use": "usual", "given": ["Catherine", "Rose"], "family": "Abernathy"},
                {"use": "maiden", "given": ["Catherine"], "family": "O'Reilly"},
            ],
            "gender": "female", "birthDate": "2010-10-22",
            "address": [{"use": "home", "postalCode": "LS1 6AE"}, {"use": "old", "postalCode": "DN16 3SS"}],
            "telecom": [
                {"system": "phone", "value": "01632 960587"},
                {"system": "email", "value": "Jane.Smith@example.com"},
            ],
            "generalPractitioner": [{"identifier": {"value": "Y12345"}}],
        }))
        .expect("a patient")
    }

    fn scored(code: &str, query: &str) -> Option<f64> {
        let rules = Rules::named("england").expect("rules");
        let query = format!("_fuzzy-match=true&{query}");
        let pairs: Vec<_> = query
            .split('&')
            .map(|pair| pair.split_once('=').expect("a pair"))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let trace = Trace::parse(&rules, Mode::Worker, &pairs).expect(&query);
        let patient = patient(code);
        let person = Person::of(patient.as_value());
        Alike::of(&trace).score(&trace, &patient, &person, TODAY)
    }

    const BORN: &str = "birthdate=eq2010-10-22";

    #[test]
    fn who_is_alike() {
        let just_so = Some(true);
        let nearly = Some(false);
        for (query, expected) in [
            ("family=abernathy&given=catherine", just_so),
            ("family=abernathy&given=catherine&given=rose", just_so),
            ("family=Abernethy&given=Catherine", nearly),
            ("family=Abernathy&given=Kate", nearly),
            ("family=Abernathy&given=C", nearly),
            ("family=Abernathy&given=Catherine Rose", nearly),
            // Changed places, also with a middle name.
            ("family=Catherine&given=Abernathy", nearly),
            // Before.
            ("family=OReilly&given=Catherine", nearly),
            ("family=Abernathy&given=Margaret", None),
            ("family=Okonkwo&given=Catherine", None),
            // Historic genders, moves and slips in postcodes are found.
            ("family=Abernathy&given=Catherine&gender=male", nearly),
            (
                "family=Abernathy&given=Catherine&address-postalcode=EX4 4QJ",
                nearly,
            ),
            (
                "family=Abernathy&given=Catherine&address-postalcode=DN16 3SS",
                nearly,
            ),
            (
                "family=Abernathy&gender=female&address-postalcode=LS1 6AE",
                just_so,
            ),
            (
                "family=Abernethy&gender=female&address-postalcode=LS1 6AF",
                nearly,
            ),
            (
                "family=Abernathy&gender=female&address-postalcode=EX4 4QJ",
                None,
            ),
            (
                "given=Cathrine&gender=female&address-postalcode=LS1 6AE",
                nearly,
            ),
            (
                "family=Abernathy&given=Catherine&email=JANE.smith@example.com",
                just_so,
            ),
            (
                "family=Abernathy&given=Catherine&email=jane@example.com",
                None,
            ),
            (
                "family=Abernathy&given=Catherine&phone=0044 1632 960587",
                nearly,
            ),
            ("family=Abernathy&given=Catherine&phone=01632960588", None),
            (
                "family=Abernathy&given=Catherine&general-practitioner=Y12345",
                just_so,
            ),
            (
                "family=Abernathy&given=Catherine&general-practitioner=A1",
                nearly,
            ),
            (
                "family=Abernathy&given=Catherine&death-date=eq2020-01-01",
                nearly,
            ),
            ("family=Abernethy&given=Catherine&_exact-match=true", None),
            (
                "family=Abernathy&given=Catherine&_exact-match=true",
                just_so,
            ),
            (
                "family=Abernethy&given=Catherine&_exact-match=false",
                nearly,
            ),
        ] {
            let found = scored("U", &format!("{query}&{BORN}"));
            assert_eq!(
                found.map(|score| score >= 1.0),
                expected,
                "{query}: {found:?}"
            );
        }
        let born = |days: &str| scored("U", &format!("family=Abernethy&given=Kate&{days}"));
        assert!(born("birthdate=ge2010-10-21&birthdate=le2010-10-23").is_some());
        assert_eq!(born("birthdate=eq2010-10-23"), None);
    }

    #[test]
    fn the_more_is_so_the_higher_the_score() {
        let score = |query: &str| scored("U", &format!("{query}&{BORN}")).expect(query);
        let best = "family=Abernathy&given=Catherine";
        for (better, worse) in [
            (best, "family=Abernethy&given=Catherine"),
            (
                "family=Abernethy&given=Catherine",
                "family=Abernethy&given=Kate",
            ),
            (
                "family=Abernathy&given=Catherine&address-postalcode=LS1 6AF",
                "family=Abernathy&given=Catherine&address-postalcode=EX4 4QJ",
            ),
            ("family=Abernathy&given=Kate", "family=OReilly&given=Kate"),
            (
                "family=Abernathy&given=Kate&general-practitioner=Y12345",
                "family=Abernathy&given=Kate&general-practitioner=A1",
            ),
        ] {
            assert!(
                score(better) > score(worse),
                "{better} {} {worse} {}",
                score(better),
                score(worse)
            );
        }
    }

    #[test]
    fn whom_confidentiality_hides() {
        let names = format!("family=Abernethy&given=Catherine&{BORN}");
        for (code, more, expected) in [
            ("U", "&address-postalcode=LS1 6AE", true),
            ("R", "", true),
            ("R", "&address-postalcode=LS1 6AE", false),
            ("R", "&general-practitioner=Y12345", false),
            ("V", "", false),
            ("REDACTED", "", false),
        ] {
            let found = scored(code, &format!("{names}{more}"));
            assert_eq!(found.is_some(), expected, "{code} {more}");
        }
    }
}
