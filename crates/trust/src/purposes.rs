//! What for somebody asks: HL7's purposes of use, and those that an organisation has of its own.
//!
//! An own purpose is a narrower kind of one of HL7's, and is treated as that one wherever nobody names it itself:
//! policies, rules about elements and consents may. It is known to the tenant alone whose policy folder has it.
use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

/// What for somebody asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Purpose {
    Treatment,
    Payment,
    Operations,
    Emergency,
    PatientRequest,
    Research,
    CareManagement,
    Administration,
    /// An organisation's own.
    Own(OwnPurpose),
}

/// The codes of HL7's purposes, for what is said of one that is none.
const CODES: [&str; 8] = [
    "TREAT",
    "HPAYMT",
    "HOPERAT",
    "ETREAT",
    "PATRQT",
    "HRESCH",
    "CAREMGT",
    "HSYSADMIN",
];

impl Purpose {
    /// The code system of HL7's purposes.
    pub const SYSTEM: &str = "http://terminology.hl7.org/CodeSystem/v3-ActReason";
    /// Those of HL7 v3 `PurposeOfUse` that requests can have. A tenant's own come to them: [`Purposes`].
    pub const ALL: [Self; 8] = [
        Self::Treatment,
        Self::Payment,
        Self::Operations,
        Self::Emergency,
        Self::PatientRequest,
        Self::Research,
        Self::CareManagement,
        Self::Administration,
    ];
    /// Its code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Treatment => CODES[0],
            Self::Payment => CODES[1],
            Self::Operations => CODES[2],
            Self::Emergency => CODES[3],
            Self::PatientRequest => CODES[4],
            Self::Research => CODES[5],
            Self::CareManagement => CODES[6],
            Self::Administration => CODES[7],
            Self::Own(own) => &own.0.code,
        }
    }
    /// The code system of its code.
    #[must_use]
    pub fn system(self) -> &'static str {
        match self {
            Self::Own(own) => &own.0.system,
            _ => Self::SYSTEM,
        }
    }
    /// Of HL7's purposes, the one with this code.
    #[must_use]
    pub fn parse(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|purpose| purpose.code() == code)
    }
    /// The purpose of HL7's that it is, or is a kind of.
    #[must_use]
    pub fn standard(self) -> Self {
        match self {
            Self::Own(own) => own.0.is,
            standard => standard,
        }
    }
    /// If it is an organisation's own: what that one is.
    #[must_use]
    pub fn own(self) -> Option<OwnPurpose> {
        match self {
            Self::Own(own) => Some(own),
            _ => None,
        }
    }
    /// As a `Coding`; of an organisation's own with its words, which nobody else knows.
    #[must_use]
    pub fn coding(self) -> Value {
        let mut coding = json!({"system": self.system(), "code": self.code()});
        if let Self::Own(own) = self {
            coding["display"] = own.display().into();
        }
        coding
    }
}

/// A purpose of an organisation's own: its name, words, and what it is a kind of.
///
/// Requests carry it around, so it is one word long: what it points at is kept once for each text that it ever
/// had, as long as the process runs. It comes to be by a policy folder that is read, or by what was stored under
/// one; never by what a request says. [`KNOWN_MAX`] bounds it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OwnPurpose(&'static Own);

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Own {
    system: String,
    code: String,
    display: String,
    /// One of HL7's.
    is: Purpose,
}

/// The most texts of own purposes that a process keeps, of all its tenants together, each of 1.2 kB at most. A folder has
/// a hundred at most, so that a thousand tenants have room for all of theirs.
const KNOWN_MAX: usize = 100_000;

static KNOWN: Mutex<BTreeSet<&'static Own>> = Mutex::new(BTreeSet::new());

impl OwnPurpose {
    /// The one of that text.
    ///
    /// # Errors
    /// In words, where there is no room, or it can be no own purpose's.
    pub(crate) fn of(system: &str, code: &str, display: &str, is: Purpose) -> Result<Self, String> {
        if !Purposes::PARENTS.contains(&is) {
            return Err(format!("{} has no kinds", is.code()));
        }
        let own = Own {
            system: system.to_owned(),
            code: code.to_owned(),
            display: display.to_owned(),
            is,
        };
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        Self::kept(&mut known, own, KNOWN_MAX)
    }
    fn kept(known: &mut BTreeSet<&'static Own>, own: Own, most: usize) -> Result<Self, String> {
        if let Some(found) = known.get(&own) {
            return Ok(Self(found));
        }
        if known.len() >= most {
            return Err(format!(
                "no room: this server has seen {most} own purposes and changes of them, of all its tenants together, since it was started, and keeps no more; a restart empties that"
            ));
        }
        let kept: &'static Own = Box::leak(Box::new(own));
        known.insert(kept);
        Ok(Self(kept))
    }
    /// What it is in plain words, so that it follows "for".
    #[must_use]
    pub fn display(self) -> &'static str {
        &self.0.display
    }
    /// What it is called, whatever else is said of it.
    #[must_use]
    pub fn name(self) -> PurposeName {
        PurposeName {
            system: self.0.system.clone(),
            code: self.0.code.clone(),
        }
    }
}

impl fmt::Debug for OwnPurpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}|{}", self.0.system, self.0.code)
    }
}

/// The name of an own purpose. What is stored by its name means what the policy folder says of it by now, and
/// nothing where that says nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PurposeName {
    /// The code system.
    pub system: String,
    /// The code.
    pub code: String,
}

/// As it is stored: HL7's by their codes, as ever. A server of before can't read another, and so does nothing by it.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Stored {
    Code(String),
    Own {
        system: String,
        code: String,
        display: String,
        is: String,
    },
}

impl Serialize for Purpose {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Own(OwnPurpose(own)) => Stored::Own {
                system: own.system.clone(),
                code: own.code.clone(),
                display: own.display.clone(),
                is: own.is.code().to_owned(),
            }
            .serialize(serializer),
            standard => serializer.serialize_str(standard.code()),
        }
    }
}

impl<'de> Deserialize<'de> for Purpose {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let standard =
            |code: &str| Self::parse(code).ok_or_else(|| D::Error::unknown_variant(code, &CODES));
        match Stored::deserialize(deserializer)? {
            Stored::Code(code) => standard(&code),
            Stored::Own {
                system,
                code,
                display,
                is,
            } => OwnPurpose::of(&system, &code, &display, standard(&is)?)
                .map(Self::Own)
                .map_err(|words| D::Error::custom(format!("the own purpose {code}: {words}"))),
        }
    }
}

/// The purposes that a tenant knows: HL7's, and its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Purposes {
    own: Vec<Purpose>,
}

impl Purposes {
    /// What an own purpose can be a kind of. An emergency is declared by a person for one patient, patients ask for
    /// themselves, and administrators administer: none of these has kinds.
    pub const PARENTS: [Purpose; 5] = [
        Purpose::Treatment,
        Purpose::CareManagement,
        Purpose::Payment,
        Purpose::Operations,
        Purpose::Research,
    ];

    pub(crate) fn with(own: Vec<Purpose>) -> Self {
        Self { own }
    }
    /// All of them, HL7's first.
    pub fn all(&self) -> impl Iterator<Item = Purpose> {
        Purpose::ALL.into_iter().chain(self.own())
    }
    /// Its own.
    pub fn own(&self) -> impl Iterator<Item = Purpose> {
        self.own.iter().copied()
    }
    /// The one that is meant by `TREAT`, `FooBar` or `urn:purposes|FooBar`: the code of one of HL7's, or of an own one
    /// with or without its system.
    #[must_use]
    pub fn parse(&self, name: &str) -> Option<Purpose> {
        let Some((system, code)) = name.split_once('|') else {
            return self.all().find(|purpose| purpose.code() == name);
        };
        self.own()
            .find(|own| own.system() == system && own.code() == code)
    }
    /// The codes of all, with commas between.
    #[must_use]
    pub fn codes(&self) -> String {
        self.all().map(Purpose::code).collect::<Vec<_>>().join(", ")
    }
    /// Whether it is one of them, as it is now.
    pub(crate) fn has(&self, purpose: Purpose) -> bool {
        purpose.own().is_none() || self.own.contains(&purpose)
    }
    /// An own purpose of this name, whatever was said of it before.
    #[must_use]
    pub fn named(&self, name: &PurposeName) -> Option<Purpose> {
        let mut own = self.own();
        own.find(|own| own.system() == name.system && own.code() == name.code)
    }
    /// What a purpose is now; none where it is an own one that there is no more.
    pub(crate) fn now(&self, purpose: Purpose) -> Option<Purpose> {
        match purpose {
            Purpose::Own(own) => self.named(&own.name()),
            standard => Some(standard),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn foo_bar(display: &str) -> Purpose {
        let own = OwnPurpose::of("urn:purposes", "FooBar", display, Purpose::Research);
        Purpose::Own(own.unwrap())
    }

    #[test]
    fn what_is_stored_is_read_again_and_means_what_it_means_now() {
        for purpose in Purpose::ALL {
            let stored = serde_json::to_value(purpose).unwrap();
            assert_eq!(stored, purpose.code(), "as servers of before have it");
            assert_eq!(serde_json::from_value::<Purpose>(stored).unwrap(), purpose);
        }
        let (before, now) = (foo_bar("a study"), foo_bar("the study"));
        let stored = serde_json::to_value(before).unwrap();
        assert!(stored.is_object(), "no server of before takes it for one");
        assert_eq!(serde_json::from_value::<Purpose>(stored).unwrap(), before);
        let purposes = Purposes::with(vec![now]);
        assert_eq!(purposes.now(before), Some(now));
        assert!(purposes.has(now) && !purposes.has(before));
        assert_eq!(Purposes::default().now(now), None);
        for wrong in [
            json!("FooBar"),
            json!({"system": "urn:x", "code": "X", "display": "x", "is": "ETREAT"}),
            json!({"system": "urn:x", "code": "X", "display": "x", "is": "Y"}),
        ] {
            assert!(serde_json::from_value::<Purpose>(wrong).is_err());
        }
    }

    #[test]
    fn what_is_kept_is_bounded_and_an_error_says_what_is_full() {
        let own = |code: &str| Own {
            system: "urn:purposes".to_owned(),
            code: code.to_owned(),
            display: "a study".to_owned(),
            is: Purpose::Research,
        };
        let mut known = BTreeSet::new();
        let mut kept = |code: &str| OwnPurpose::kept(&mut known, own(code), 2);
        let first = kept("A").unwrap();
        kept("B").unwrap();
        let words = kept("C").unwrap_err();
        for part in ["has seen 2 own purposes", "all its tenants", "a restart"] {
            assert!(words.contains(part), "{words}");
        }
        assert_eq!(kept("A").unwrap(), first, "what is known needs no room");
        // A thousand tenants have room for all of theirs.
        const { assert!(KNOWN_MAX >= 1000 * 100) };
    }

    #[test]
    fn a_purpose_is_found_by_its_name() {
        let own = foo_bar("a study");
        let purposes = Purposes::with(vec![own]);
        for (name, expected) in [
            ("TREAT", Some(Purpose::Treatment)),
            ("FooBar", Some(own)),
            ("urn:purposes|FooBar", Some(own)),
            ("urn:other|FooBar", None),
            ("urn:purposes|TREAT", None),
            ("|FooBar", None),
            ("foobar", None),
            ("", None),
        ] {
            assert_eq!(purposes.parse(name), expected, "{name}");
            if expected == Some(own) {
                assert_eq!(Purposes::default().parse(name), None);
            }
        }
        assert!(purposes.codes().ends_with("HSYSADMIN, FooBar"));
    }
}
