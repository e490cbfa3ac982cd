//! Organisations outside that journeys call: what each may be told, for what, and until when its contract holds.
//!
//! They stand in `partners.toml` beside the policies, and are known to the tenant alone whose policy folder has it.
//! Whether one may be told something is asked when a journey is published and again when a call goes out, each time by
//! [`Partner::refuses`].
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

use aws_lc_rs::hmac;

use crate::Purpose;

/// What a value tells of a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DataClass {
    /// Who the patient is.
    Identity,
    /// How they are reached.
    Contact,
    /// What they are treated for, and all else that is in their record.
    Health,
}

impl DataClass {
    /// All of them: name and meaning.
    pub const ALL: [(Self, &'static str); 3] = [
        (
            Self::Identity,
            "Who the patient is: name, birth date, gender, id.",
        ),
        (
            Self::Contact,
            "How they are reached: telephone, e-mail, address.",
        ),
        (
            Self::Health,
            "What they are treated for, and all else that is in their record.",
        ),
    ];
    /// As files have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Contact => "contact",
            Self::Health => "health",
        }
    }
    /// By its name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter().map(|(class, _)| class);
        all.find(|class| class.name() == name)
    }
}

/// What binds a partner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contract {
    /// A business associate agreement (45 CFR 164.504(e)).
    Baa,
    /// A data use agreement (45 CFR 164.514(e)).
    Dua,
    /// Nothing.
    None,
}

impl Contract {
    /// As files have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Baa => "baa",
            Self::Dua => "dua",
            Self::None => "none",
        }
    }
    /// By its name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let mut all = [Self::Baa, Self::Dua, Self::None].into_iter();
        all.find(|contract| contract.name() == name)
    }
}

/// An organisation that journeys call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partner {
    /// Its name in journeys.
    pub name: String,
    /// Its name for people.
    pub title: String,
    /// The address that paths of calls begin at, without a slash at its end; empty where it isn't called.
    pub base: String,
    /// What it takes in batches of files.
    pub carries: BTreeSet<Carries>,
    /// What binds it.
    pub contract: Contract,
    /// The last day of the contract, as files have it; empty where there is none.
    pub until: String,
    /// When it ends: the end of that day in UTC, milliseconds since the epoch.
    pub until_ms: u64,
    /// What it may be told.
    pub data: BTreeSet<DataClass>,
    /// What for.
    pub purposes: Vec<Purpose>,
    /// The file with the token that it is shown.
    pub token_file: Option<PathBuf>,
    /// The file with the secret that calls are signed with.
    pub signing_key_file: Option<PathBuf>,
    /// The longest that one attempt may take, milliseconds.
    pub timeout_ms: u64,
    /// Calls that may be under way to it at once, of one server.
    pub at_once: usize,
    /// Whether it may be at an address of a private network.
    pub private_network: bool,
}

/// What a partner takes in batches of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Carries {
    /// Letters, to be printed and posted.
    Letters,
    /// Telephone calls, to be made.
    Calls,
}

impl Carries {
    /// Both: as files have it, and the channel of messages.
    pub const ALL: [(Self, &'static str); 2] = [(Self::Letters, "letters"), (Self::Calls, "calls")];
    /// As files have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Letters => "letters",
            Self::Calls => "calls",
        }
    }
    /// By its name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter().map(|(one, _)| one);
        all.find(|one| one.name() == name)
    }
    /// What it is told by that. What anybody may hear who answers a telephone has no health information in it; what is
    /// in a sealed envelope may.
    #[must_use]
    pub fn tells(self) -> BTreeSet<DataClass> {
        match self {
            Self::Letters => [DataClass::Identity, DataClass::Contact, DataClass::Health].into(),
            Self::Calls => [DataClass::Contact].into(),
        }
    }
}

/// Why something isn't told to a partner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotCleared {
    /// Nothing binds it.
    NoContract,
    /// What bound it has ended, on this day.
    Ended(String),
    /// It may not be told this.
    Data(DataClass),
    /// It is not told things for this.
    Purpose(&'static str),
}

impl NotCleared {
    /// Its code in `urn:cairn:not-done`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoContract | Self::Ended(_) => "no-contract",
            Self::Data(_) | Self::Purpose(_) => "not-cleared",
        }
    }
    /// In words, of a partner.
    #[must_use]
    pub fn words(&self, partner: &str) -> String {
        match self {
            Self::NoContract => format!("there is no contract with {partner}"),
            Self::Ended(day) => format!("the contract with {partner} ended on {day}"),
            Self::Data(class) => format!(
                "{partner} is not cleared for the data class `{}`",
                class.name()
            ),
            Self::Purpose(code) => format!("{partner} is not cleared for the purpose {code}"),
        }
    }
}

impl Partner {
    /// Why it may not be told something of these classes for a purpose now; nothing where it may.
    #[must_use]
    pub fn refuses(
        &self,
        purpose: Purpose,
        classes: &BTreeSet<DataClass>,
        now_ms: u64,
    ) -> Option<NotCleared> {
        if self.contract == Contract::None {
            return Some(NotCleared::NoContract);
        }
        if now_ms >= self.until_ms {
            return Some(NotCleared::Ended(self.until.clone()));
        }
        if !self.purposes.contains(&purpose) {
            return Some(NotCleared::Purpose(purpose.code()));
        }
        let mut classes = classes.iter();
        let refused = classes.find(|class| !self.data.contains(class))?;
        Some(NotCleared::Data(*refused))
    }
}

/// The partners of a tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Partners(BTreeMap<String, Partner>);

impl Partners {
    /// These.
    #[must_use]
    pub fn of(all: impl IntoIterator<Item = Partner>) -> Self {
        let all = all.into_iter();
        Self(all.map(|one| (one.name.clone(), one)).collect())
    }
    /// One by name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Partner> {
        self.0.get(name)
    }
    /// The one that takes letters, or calls.
    #[must_use]
    pub fn carrier(&self, what: Carries) -> Option<&Partner> {
        self.0
            .values()
            .find(|partner| partner.carries.contains(&what))
    }
    /// All of them, by name.
    pub fn all(&self) -> impl Iterator<Item = &Partner> {
        self.0.values()
    }
}

/// The signature of a call: HMAC with SHA-256 over the second, the key and the body, each but the last with a full
/// stop behind it, hexadecimal.
#[must_use]
pub fn signature(secret: &[u8], at_s: u64, key: &str, body: &[u8]) -> String {
    let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let mut context = hmac::Context::with_key(&secret);
    context.update(format!("{at_s}.{key}.").as_bytes());
    context.update(body);
    let mut text = String::with_capacity(64);
    for byte in context.sign().as_ref() {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partner() -> Partner {
        Partner {
            name: "rides".to_owned(),
            title: "Rides".to_owned(),
            base: "https://rides.example.org".to_owned(),
            carries: BTreeSet::new(),
            contract: Contract::Baa,
            until: "2026-12-31".to_owned(),
            until_ms: 1_000,
            data: [DataClass::Identity, DataClass::Contact].into(),
            purposes: vec![Purpose::Treatment],
            token_file: None,
            signing_key_file: None,
            timeout_ms: 1_000,
            at_once: 1,
            private_network: false,
        }
    }

    #[test]
    fn what_isnt_covered_is_not_told() {
        let (treat, care) = (Purpose::Treatment, Purpose::CareManagement);
        let classes = |all: &[DataClass]| all.iter().copied().collect::<BTreeSet<_>>();
        let who = classes(&[DataClass::Identity]);
        let both = classes(&[DataClass::Contact, DataClass::Health]);
        let without = Partner {
            contract: Contract::None,
            ..partner()
        };
        let ended = NotCleared::Ended("2026-12-31".to_owned());
        for (partner, purpose, classes, now_ms, expected) in [
            (&partner(), treat, &who, 999, None),
            (&partner(), treat, &classes(&[]), 0, None),
            (&partner(), treat, &who, 1_000, Some(ended)),
            (&without, treat, &who, 0, Some(NotCleared::NoContract)),
            (
                &without,
                treat,
                &classes(&[]),
                0,
                Some(NotCleared::NoContract),
            ),
            (
                &partner(),
                care,
                &who,
                0,
                Some(NotCleared::Purpose("CAREMGT")),
            ),
            (
                &partner(),
                treat,
                &both,
                0,
                Some(NotCleared::Data(DataClass::Health)),
            ),
        ] {
            let found = partner.refuses(purpose, classes, now_ms);
            assert_eq!(found, expected, "{partner:?} {purpose:?} {classes:?}");
        }
    }

    #[test]
    fn a_signature_is_over_time_key_and_body() {
        // As `printf '7.k.{}' | openssl dgst -sha256 -hmac s` has it.
        let known = signature(b"s", 7, "k", b"{}");
        assert_eq!(
            known,
            "bac88e11a2bd35e7779707c465ec1653a402338bf4e3e5b442b737b6872107fc"
        );
        assert_ne!(known, signature(b"s", 8, "k", b"{}"));
        assert_ne!(known, signature(b"s", 7, "l", b"{}"));
        assert_ne!(known, signature(b"s", 7, "k", b"{ }"));
        assert_ne!(known, signature(b"t", 7, "k", b"{}"));
    }
}
