//! What a search asks for, by the published rules: which parameters go together, and what each may be.

use super::refusal::{Code, Refusal};
use super::rules::Rules;

/// The most characters of a name that is asked for.
const NAME_MAX: usize = 35;
/// What is taken.
const PARAMETERS: [&str; 14] = [
    "_fuzzy-match",
    "_exact-match",
    "_history",
    "_max-results",
    "family",
    "given",
    "gender",
    "birthdate",
    "death-date",
    "address-postcode",
    "address-postalcode",
    "general-practitioner",
    "email",
    "phone",
];
const GENDERS: [&str; 4] = ["male", "female", "other", "unknown"];
const TOO_LITTLE: &str =
    "No searches were performed as the search criteria did not meet the minimum requirements";
const TOO_LITTLE_FOR_FUZZY: &str =
    "A fuzzy search was requested however the data given did not meet the fuzzy search criteria";

/// Who asks, as far as the rules tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Somebody who works in health care.
    Worker,
    /// A system by itself.
    Application,
    /// A patient, or who acts for one.
    Patient,
}

/// A text in which `*` stands for any letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// As [`folded`], in lower case.
    text: String,
}

impl Pattern {
    fn of(field: &str, text: &str, max: usize, fuzzy: bool) -> Result<Self, Refusal> {
        let text = folded(text);
        if text.is_empty() || text.chars().count() > max {
            return Err(Refusal::value(field));
        }
        if text.contains('*') {
            if fuzzy {
                return Err(Refusal::search(
                    "Wildcards can not be used in a fuzzy search",
                ));
            }
            if text.chars().take(2).any(|letter| letter == '*') {
                return Err(Refusal::new(
                    Code::InvalidValue,
                    format!(
                        "Invalid value - a wildcard is not taken in the first two characters of field '{field}'"
                    ),
                ));
            }
        }
        Ok(Self { text })
    }
    /// Whether there are wildcards in it.
    #[must_use]
    pub fn is_wild(&self) -> bool {
        self.text.contains('*')
    }
    /// What stands before the first wildcard.
    #[must_use]
    pub fn prefix(&self) -> &str {
        self.text.split('*').next().unwrap_or_default()
    }
    /// Whether a text is what is asked for.
    #[must_use]
    pub fn fits(&self, text: &str) -> bool {
        let text = folded(text);
        let mut parts = self.text.split('*');
        let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
            return false;
        };
        let mut parts: Vec<&str> = parts.collect();
        let Some(last) = parts.pop() else {
            return rest.is_empty();
        };
        for part in parts {
            match rest.find(part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        rest.ends_with(last)
    }
}

/// A text as names are compared: in lower case, with one blank where there are several.
#[must_use]
pub fn folded(text: &str) -> String {
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .to_lowercase()
}

/// A postcode as postcodes are compared: in lower case without blanks.
#[must_use]
pub fn folded_postcode(text: &str) -> String {
    text.split_whitespace().collect::<String>().to_lowercase()
}

/// Days, both of them included, as `YYYY-MM-DD`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Days {
    /// From when, if not from ever.
    pub from: Option<String>,
    /// Until when, if not for ever.
    pub until: Option<String>,
}

impl Days {
    fn of(field: &str, values: &[&str]) -> Result<Option<Self>, Refusal> {
        let mut days = Self::default();
        if values.is_empty() {
            return Ok(None);
        }
        for value in values {
            let (sign, day) = match value.get(..2) {
                Some(sign @ ("eq" | "ge" | "le")) => (sign, &value[2..]),
                _ => ("eq", *value),
            };
            if !is_day(day) {
                return Err(Refusal::value(field));
            }
            let put = |place: &mut Option<String>| match place.replace(day.to_owned()) {
                None => Ok(()),
                Some(_) => Err(Refusal::search(&format!(
                    "{field} is one day, or one ge and one le"
                ))),
            };
            match sign {
                "ge" => put(&mut days.from)?,
                "le" => put(&mut days.until)?,
                _ => {
                    put(&mut days.from)?;
                    put(&mut days.until)?;
                }
            }
        }
        Ok(Some(days))
    }
    /// Whether a date is among them; one without a day or month isn't.
    #[must_use]
    pub fn hold(&self, date: &str) -> bool {
        let Some(day) = date.get(..10).filter(|day| is_day(day)) else {
            return false;
        };
        self.from.as_deref().is_none_or(|from| from <= day)
            && self.until.as_deref().is_none_or(|until| day <= until)
    }
    /// As a search of FHIR asks for them.
    #[must_use]
    pub fn asked(&self, parameter: &'static str) -> Vec<(&'static str, String)> {
        let ends = [("ge", &self.from), ("le", &self.until)];
        let given = ends
            .into_iter()
            .filter_map(|(sign, day)| Some((sign, day.as_ref()?)));
        given
            .map(|(sign, day)| (parameter, format!("{sign}{day}")))
            .collect()
    }
    /// The day, if it is one.
    #[must_use]
    pub fn one(&self) -> Option<&str> {
        let from = self.from.as_deref()?;
        (self.until.as_deref() == Some(from)).then_some(from)
    }
}

/// Whether a text is a day of the calendar, `YYYY-MM-DD`.
#[must_use]
pub fn is_day(text: &str) -> bool {
    text.len() == 10 && fhir::date::parse(text).is_some()
}

/// A search, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// Whether what is like it is looked for as well.
    pub fuzzy: bool,
    /// Whether only what is just so is wanted.
    pub exact: bool,
    /// Whether names, addresses and contacts of before are looked at.
    pub history: bool,
    /// The most persons to answer.
    pub results_max: usize,
    /// Family name.
    pub family: Option<Pattern>,
    /// Given names, the first one first.
    pub given: Vec<Pattern>,
    /// Gender.
    pub gender: Option<String>,
    /// Day of birth.
    pub birth: Option<Days>,
    /// Day of death.
    pub death: Option<Days>,
    /// Postcode, folded, perhaps with wildcards.
    pub postcode: Option<Pattern>,
    /// The code of the practice that the patient is registered with, in upper case.
    pub practice: Option<String>,
    /// E-mail address, in lower case.
    pub email: Option<String>,
    /// Telephone number, without blanks.
    pub phone: Option<String>,
}

impl Trace {
    /// Understands the parameters of a search.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(
        rules: &Rules,
        mode: Mode,
        parameters: &[(String, String)],
    ) -> Result<Self, Refusal> {
        let all = |name: &str| -> Vec<&str> {
            (parameters.iter())
                .filter(|(one, _)| one == name)
                .map(|(_, value)| value.as_str())
                .collect()
        };
        let one = |name: &str| match all(name).as_slice() {
            [] => Ok(None),
            [value] => Ok(Some(value.trim().to_owned())),
            _ => Err(Refusal::search(&format!("{name} is there more than once"))),
        };
        if parameters.is_empty() {
            return Err(Refusal::bare(Code::UnsupportedService));
        }
        if parameters
            .iter()
            .any(|(name, _)| !PARAMETERS.contains(&name.as_str()))
        {
            let words = "Invalid request with error - Additional properties are not allowed";
            return Err(Refusal::new(Code::AdditionalProperties, words));
        }
        let flag = |name: &str| match one(name)?.as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(Refusal::value(name)),
        };
        let fuzzy = flag("_fuzzy-match")?;
        let (exact, history) = (flag("_exact-match")?, flag("_history")? || fuzzy);
        let results_max = results_max(rules, mode, one("_max-results")?.as_deref())?;
        let birth = Days::of("birthdate", &all("birthdate"))?;
        let death = Days::of("death-date", &all("death-date"))?;
        let gender = one("gender")?.map(|gender| gender.to_lowercase());
        if gender
            .as_deref()
            .is_some_and(|gender| !GENDERS.contains(&gender))
        {
            return Err(Refusal::value("gender"));
        }
        let name = |field: &str, text: &str| Pattern::of(field, text, NAME_MAX, fuzzy);
        let family = one("family")?
            .map(|text| name("family", &text))
            .transpose()?;
        let given = all("given")
            .iter()
            .map(|text| name("given", text))
            .collect::<Result<Vec<_>, _>>()?;
        let (old, new) = (one("address-postcode")?, one("address-postalcode")?);
        let postcode = match (old, new) {
            (Some(_), Some(_)) => {
                let words = "address-postcode and address-postalcode can not be given together";
                return Err(Refusal::search(words));
            }
            (text, None) | (None, text) => text,
        };
        let postcode = postcode
            .map(|text| {
                Pattern::of(
                    "address-postalcode",
                    &folded_postcode(&text),
                    NAME_MAX,
                    fuzzy,
                )
            })
            .transpose()?;
        let text = |field: &str| match one(field)? {
            Some(text) if text.is_empty() || text.contains('*') => Err(Refusal::value(field)),
            text => Ok(text),
        };
        let practice = text("general-practitioner")?.map(|text| text.to_uppercase());
        let email = text("email")?.map(|text| text.to_lowercase());
        let phone = text("phone")?.map(|text| without_blanks(&text));
        let trace = Self {
            fuzzy,
            exact,
            history,
            results_max,
            family,
            given,
            gender,
            birth,
            death,
            postcode,
            practice,
            email,
            phone,
        };
        trace.check_enough()?;
        Ok(trace)
    }

    fn check_enough(&self) -> Result<(), Refusal> {
        if self.birth.is_none() {
            let field = "birth_date/birth_date_range_start/birth_date_range_end";
            return Err(Refusal::missing(field));
        }
        if !self.fuzzy {
            return match self.family {
                Some(_) => Ok(()),
                None => Err(Refusal::search(TOO_LITTLE)),
            };
        }
        let (family, given) = (self.family.is_some(), !self.given.is_empty());
        let placed = self.gender.is_some() && self.postcode.is_some();
        if (family && given) || ((family || given) && placed) {
            return Ok(());
        }
        Err(Refusal::search(TOO_LITTLE_FOR_FUZZY))
    }
}

fn results_max(rules: &Rules, mode: Mode, given: Option<&str>) -> Result<usize, Refusal> {
    let most = match mode {
        Mode::Application => rules.application_results_max,
        Mode::Worker | Mode::Patient => rules.results_max,
    };
    let Some(text) = given else {
        return Ok(most);
    };
    let number: usize = text.parse().map_err(|_| Refusal::value("_max-results"))?;
    if !(1..=rules.results_max).contains(&number) {
        return Err(Refusal::value("_max-results"));
    }
    if number > most {
        let words = "Your app has insufficient permissions to perform this search.";
        return Err(Refusal::new(Code::TooManyAsked, words));
    }
    Ok(number)
}

/// A telephone number as numbers are compared.
#[must_use]
pub fn without_blanks(text: &str) -> String {
    text.split_whitespace().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(mode: Mode, query: &str) -> Result<Trace, Refusal> {
        let rules = Rules::named("england").expect("rules");
        let pairs: Vec<_> = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once('=').expect("a pair"))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Trace::parse(&rules, mode, &pairs)
    }

    #[test]
    fn which_parameters_go_together() {
        use Code::{
            AdditionalProperties as Additional, InvalidSearchData as Search, InvalidValue as Value,
            MissingValue as Missing, TooManyAsked, UnsupportedService as Service,
        };
        let long = format!("family={}&birthdate=eq2010-10-22", "a".repeat(36));
        for (query, expected) in [
            ("", Some(Service)),
            ("family=Smith&birthdate=eq2010-10-22", None),
            ("family=Smith&birthdate=2010-10-22", None),
            (
                "family=Smith&birthdate=ge2010-10-21&birthdate=le2010-10-23",
                None,
            ),
            (
                "family=Smith&birthdate=eq2010-10-22&birthdate=eq2010-10-23",
                Some(Search),
            ),
            (
                "family=Smith&birthdate=ge2010-10-22&birthdate=ge2010-10-23",
                Some(Search),
            ),
            ("family=Smith&birthdate=20101022", Some(Value)),
            ("family=Smith&birthdate=2010-02-31", Some(Value)),
            ("family=Smith&birthdate=gt2010-10-22", Some(Value)),
            ("family=Smith&birthdate=2010", Some(Value)),
            ("family=Smith&death-date=20101022", Some(Value)),
            ("family=Smith", Some(Missing)),
            ("gender=female", Some(Missing)),
            ("email=a@b.org&phone=0163", Some(Missing)),
            ("birthdate=eq2010-10-22", Some(Search)),
            (
                "family=Smith&birthdate=eq2010-10-22&pets=1",
                Some(Additional),
            ),
            (
                "family=Smith&birthdate=eq2010-10-22&gender=mal",
                Some(Value),
            ),
            ("family=Smith&birthdate=eq2010-10-22&gender=Male", None),
            ("family=Sm*&birthdate=eq2010-10-22", None),
            ("family=S*&birthdate=eq2010-10-22", Some(Value)),
            ("family=*th&birthdate=eq2010-10-22", Some(Value)),
            ("given=J*&family=Sm&birthdate=eq2010-10-22", Some(Value)),
            (
                "address-postalcode=L*&family=Sm&birthdate=eq2010-10-22",
                Some(Value),
            ),
            (
                "address-postalcode=LS*&family=Sm&birthdate=eq2010-10-22",
                None,
            ),
            (
                "address-postcode=LS1&family=Sm&birthdate=eq2010-10-22",
                None,
            ),
            (
                "address-postcode=LS1&address-postalcode=LS1&family=Sm&birthdate=eq2010-10-22",
                Some(Search),
            ),
            (
                "family=Smith&family=Smythe&birthdate=eq2010-10-22",
                Some(Search),
            ),
            (&long, Some(Value)),
            ("family=&birthdate=eq2010-10-22", Some(Value)),
            ("email=j*&family=Smith&birthdate=eq2010-10-22", Some(Value)),
            ("phone=01*&family=Smith&birthdate=eq2010-10-22", Some(Value)),
            (
                "_history=yes&family=Smith&birthdate=eq2010-10-22",
                Some(Value),
            ),
            ("_max-results=50&family=Smith&birthdate=eq2010-10-22", None),
            (
                "_max-results=51&family=Smith&birthdate=eq2010-10-22",
                Some(Value),
            ),
            (
                "_max-results=0&family=Smith&birthdate=eq2010-10-22",
                Some(Value),
            ),
            (
                "_max-results=x&family=Smith&birthdate=eq2010-10-22",
                Some(Value),
            ),
            // Fuzzy: given, family and birth; family, birth, gender and postcode; given, the same.
            (
                "_fuzzy-match=true&family=Smith&birthdate=eq2010-10-22",
                Some(Search),
            ),
            (
                "_fuzzy-match=true&given=Jane&family=Smith&birthdate=eq2010-10-22",
                None,
            ),
            (
                "_fuzzy-match=true&family=Smith&birthdate=eq2010-10-22&gender=female&address-postalcode=LS1",
                None,
            ),
            (
                "_fuzzy-match=true&given=Jane&birthdate=eq2010-10-22&gender=female&address-postalcode=LS1",
                None,
            ),
            (
                "_fuzzy-match=true&given=Jane&birthdate=eq2010-10-22&gender=female",
                Some(Search),
            ),
            (
                "_fuzzy-match=true&given=Ja*&family=Smith&birthdate=eq2010-10-22",
                Some(Search),
            ),
        ] {
            let found = parse(Mode::Worker, query).err().map(|refusal| refusal.code);
            assert_eq!(found, expected, "{query}");
        }
        for (query, expected) in [
            ("family=Smith&birthdate=eq2010-10-22", None),
            ("_max-results=1&family=Smith&birthdate=eq2010-10-22", None),
            (
                "_max-results=2&family=Smith&birthdate=eq2010-10-22",
                Some(TooManyAsked),
            ),
        ] {
            let trace = parse(Mode::Application, query);
            assert_eq!(
                trace.as_ref().err().map(|refusal| refusal.code),
                expected,
                "{query}"
            );
            assert!(trace.is_err() || trace.is_ok_and(|trace| trace.results_max == 1));
        }
    }

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("smith", "SMITH", true),
            ("smith", "Smithe", false),
            ("sm*", "Smith", true),
            ("sm*", "Sm", true),
            ("sm*t*", "Smith", true),
            ("sm*t*", "Smythe", true),
            ("sm*t*", "Smiley", false),
            ("sm*th", "Smith", true),
            ("sm*th", "Smithe", false),
            ("sm*m", "Sm", false),
            ("john  paul", "John Paul", true),
            ("o'reilly", "O'REILLY", true),
            ("müller", "MÜLLER", true),
        ] {
            let made = Pattern::of("family", pattern, NAME_MAX, false).expect(pattern);
            assert_eq!(made.fits(text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn days() {
        for (values, date, expected) in [
            (&["eq2010-10-22"][..], "2010-10-22", true),
            (&["2010-10-22"], "2010-10-23", false),
            (&["ge2010-10-22"], "2010-10-22", true),
            (&["ge2010-10-22"], "2010-10-21", false),
            (&["le2010-10-22"], "2010-10-22", true),
            (&["le2010-10-22"], "2010-10-23", false),
            (&["ge2010-10-21", "le2010-10-23"], "2010-10-22", true),
            (&["ge2010-10-21", "le2010-10-23"], "2010-10-24", false),
            (&["eq2010-10-22"], "2010-10-22T00:00:00+00:00", true),
            (&["eq2010-10-22"], "2010-10", false),
        ] {
            let days = Days::of("birthdate", values).expect("days").expect("days");
            assert_eq!(days.hold(date), expected, "{values:?} {date}");
        }
    }
}
