//! What another system said when it was registered: what for it asks, and whether there is a contract with
//! those whose it is. It lies beside the system's token or keys, so that a server of before, which knows nothing
//! of it, doesn't drop it, and is asked for with each decision: a change counts from the next request on.
use ledger::{Draft, Expected, LedgerError, TenantId};
use serde::{Deserialize, Serialize};

use super::documents::{Kept, draft, get};
use super::manage::invalid;
use super::{Identity, RETRIES};
use crate::audit::{Event, Record};
use crate::{Agent, Permit, Purpose, PurposeName, Purposes, Role, TrustError, kinds};

/// Whether there is a contract with those whose a system is (such as 45 CFR 164.504(e)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Contract {
    /// None is needed: the system is the organisation's own, or what it asks for needs none.
    #[default]
    NotNeeded,
    /// There is one.
    Signed,
    /// One is needed, and there is none: every decision is "no".
    None,
}

impl Contract {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::NotNeeded, Self::Signed, Self::None];
    /// Its name, on the command line and in forms.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NotNeeded => "not-needed",
            Self::Signed => "signed",
            Self::None => "none",
        }
    }
    /// The one of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }
}

/// What a system is registered for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// HL7's. A server of before reads these alone, and refuses requests for others.
    purposes: Vec<Purpose>,
    /// Those that the organisation has of its own, by their names: what they mean, and whether they are there still,
    /// its policy folder says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    own: Vec<PurposeName>,
    contract: Contract,
}

impl Default for Registered {
    fn default() -> Self {
        Self {
            purposes: Self::OF_BEFORE.to_vec(),
            own: Vec::new(),
            contract: Contract::default(),
        }
    }
}

impl Registered {
    /// What systems can be registered for. People declare emergencies, for one patient each; patients ask for
    /// themselves, and administrators administer. Besides, for an organisation's own purposes.
    pub const CAN_BE: [Purpose; 5] = Purposes::PARENTS;
    /// What those are registered for who said nothing of it: those of before it was asked.
    pub const OF_BEFORE: [Purpose; 4] = [
        Purpose::Treatment,
        Purpose::CareManagement,
        Purpose::Payment,
        Purpose::Operations,
    ];

    /// A registration for some purposes.
    ///
    /// # Errors
    /// `Invalid` when there are none, or for one that no system can have.
    pub fn new(purposes: &[Purpose], contract: Contract) -> Result<Self, TrustError> {
        let can_be = |one: &&Purpose| Self::CAN_BE.contains(&one.standard());
        if let Some(wrong) = purposes.iter().find(|one| !can_be(one)) {
            return invalid(&match wrong {
                Purpose::Emergency => format!(
                    "{NO_EMERGENCY}; a system has purposes of {}",
                    codes(&Self::CAN_BE)
                ),
                _ => format!(
                    "no system can be registered for {}; it has purposes of {}",
                    wrong.code(),
                    codes(&Self::CAN_BE)
                ),
            });
        }
        if purposes.is_empty() {
            return invalid(&format!(
                "say what the system asks for: one or more of {}",
                codes(&Self::CAN_BE)
            ));
        }
        let in_order = Self::CAN_BE.into_iter();
        let mut own: Vec<PurposeName> = Vec::new();
        for name in purposes.iter().filter_map(|one| Some(one.own()?.name())) {
            if !own.contains(&name) {
                own.push(name);
            }
        }
        Ok(Self {
            purposes: in_order.filter(|one| purposes.contains(one)).collect(),
            own,
            contract,
        })
    }

    /// The same of HL7's purposes as they are typed: codes with spaces or commas between.
    ///
    /// # Errors
    /// As [`Registered::new`]; `Invalid` for a code that isn't known.
    pub fn parse(purposes: &str, contract: Contract) -> Result<Self, TrustError> {
        Self::parse_among(&Purposes::default(), purposes, contract)
    }

    /// The same where an organisation has purposes of its own.
    ///
    /// # Errors
    /// As [`Registered::parse`].
    pub fn parse_among(
        known: &Purposes,
        purposes: &str,
        contract: Contract,
    ) -> Result<Self, TrustError> {
        let mut all = Vec::new();
        let between = |c: char| c == ',' || c.is_whitespace();
        for code in purposes.split(between).filter(|code| !code.is_empty()) {
            let Some(purpose) = known.parse(code) else {
                let can_be: Vec<Purpose> = Self::CAN_BE.into_iter().chain(known.own()).collect();
                return invalid(&format!(
                    "a purpose is one of {}, and one of these is none",
                    codes(&can_be)
                ));
            };
            all.push(purpose);
        }
        Self::new(&all, contract)
    }

    /// What it may ask for, of HL7's purposes.
    #[must_use]
    pub fn purposes(&self) -> &[Purpose] {
        &self.purposes
    }
    /// What it may ask for besides, as long as the organisation has it.
    #[must_use]
    pub fn own(&self) -> &[PurposeName] {
        &self.own
    }
    /// Those of its own purposes that an organisation does not have any more: nothing comes of a request for one.
    pub fn gone<'a>(&'a self, known: &'a Purposes) -> impl Iterator<Item = &'a PurposeName> {
        self.own.iter().filter(|name| known.named(name).is_none())
    }
    /// Whether there is a contract.
    #[must_use]
    pub fn contract(&self) -> Contract {
        self.contract
    }
    /// Its purposes' codes, with spaces between.
    #[must_use]
    pub fn codes(&self) -> String {
        self.each_code().collect::<Vec<_>>().join(" ")
    }
    fn each_code(&self) -> impl Iterator<Item = &str> {
        let own = self.own.iter().map(|name| name.code.as_str());
        self.purposes.iter().map(|one| one.code()).chain(own)
    }
    fn in_words(&self) -> String {
        self.each_code().collect::<Vec<_>>().join(", ")
    }

    /// Why a system may not ask for a purpose, if it may not.
    pub(crate) fn refuses(&self, purpose: Purpose) -> Option<String> {
        if self.contract == Contract::None {
            return Some(
                "this system is a partner's with whom there is no contract: nothing is disclosed to it"
                    .to_owned(),
            );
        }
        let registered = self.in_words();
        let is_let = match purpose.own() {
            // Of a kind of a purpose is not said what is said of that one: each is registered by its name.
            Some(own) => self.own.contains(&own.name()),
            None => self.purposes.contains(&purpose),
        };
        match purpose {
            _ if is_let => None,
            Purpose::Emergency => Some(format!(
                "{NO_EMERGENCY}; this one is registered for {registered}"
            )),
            _ => Some(format!(
                "this system is not registered for {}; it is registered for {registered}",
                purpose.code()
            )),
        }
    }

    /// What the audit says of it.
    pub(super) fn words(&self) -> String {
        format!("for {}, contract {}", self.in_words(), self.contract.name())
    }
}

const NO_EMERGENCY: &str = "no system can ask for ETREAT: people who treat the patient declare an emergency, for one patient";

fn codes(purposes: &[Purpose]) -> String {
    let codes: Vec<&str> = purposes.iter().map(|one| one.code()).collect();
    codes.join(", ")
}

/// Whose systems are registered for something: the other roles that tokens have are the organisation's own
/// tools, with what policies let their role do for HL7's purposes.
pub(super) fn is_registered(role: Role) -> bool {
    matches!(role, Role::Client | Role::Biller)
}

/// What a role says where nobody said it: who bills does nothing else.
pub(super) fn of_role(role: Role) -> Registered {
    match role {
        Role::Biller => Registered {
            purposes: vec![Purpose::Payment],
            own: Vec::new(),
            contract: Contract::default(),
        },
        _ => Registered::default(),
    }
}

/// Whether a role can be registered so.
pub(super) fn check(role: Role, registered: &Registered) -> Result<(), TrustError> {
    match role {
        Role::Client => Ok(()),
        Role::Biller if registered.purposes == [Purpose::Payment] && registered.own.is_empty() => {
            Ok(())
        }
        Role::Biller => invalid("a biller is registered for HPAYMT and nothing else"),
        _ => invalid("the roles client and biller alone are registered for purposes"),
    }
}

impl Identity {
    /// What the system behind an agent is registered for; `None` for whoever is no system that is registered
    /// for anything, people among them. Asked of the store, so that a change counts at once.
    pub(crate) async fn registered_for(
        &self,
        agent: &Agent,
    ) -> Result<Option<Registered>, TrustError> {
        if !is_registered(agent.role) || agent.app().is_some() {
            return Ok(None);
        }
        let known = &self.inner.registered;
        let found = known.get(&self.inner.ledger, agent.tenant, &agent.id);
        Ok(match found.await? {
            Some(registered) => Some(registered),
            // An account with this role is a person's, and has nothing to register.
            None => (agent.role == Role::Client).then(Registered::default),
        })
    }

    /// Why an agent may not ask for a purpose, whatever policies say, if it may not. An own purpose is for systems that
    /// are registered for it, and for people by themselves.
    pub(crate) async fn refuses(
        &self,
        agent: &Agent,
        purpose: Purpose,
    ) -> Result<Option<String>, TrustError> {
        if let Some(registered) = self.registered_for(agent).await? {
            return Ok(registered.refuses(purpose));
        }
        if purpose.own().is_none() {
            return Ok(None);
        }
        let (code, role) = (purpose.code(), agent.role);
        if agent.app().is_some() {
            return Ok(Some(format!(
                "an application asks for the purpose of its person's role, which is {}, and not for {code}",
                role.purpose().code()
            )));
        }
        let token = self.client_with_token(agent.tenant, &agent.id);
        Ok(token.await?.map(|_| {
            format!(
                "this token has the role {}, and no registration for {code}: systems with the role client alone can have one",
                role.name()
            )
        }))
    }

    /// What a client is registered for, for lists.
    pub(super) async fn listed_as(
        &self,
        tenant: TenantId,
        id: &str,
        role: Role,
    ) -> Result<Option<Registered>, TrustError> {
        if !is_registered(role) {
            return Ok(None);
        }
        let known = &self.inner.registered;
        let found = known.get(&self.inner.ledger, tenant, id).await?;
        Ok(Some(found.unwrap_or_else(|| of_role(role))))
    }

    /// What lies beside a new client.
    pub(super) async fn registered_draft(
        &self,
        tenant: TenantId,
        id: &str,
        registered: &Registered,
    ) -> Result<Draft, TrustError> {
        let (ledger, kind) = (&self.inner.ledger, kinds::REGISTERED);
        let found: Option<Kept<Registered>> = get(ledger, tenant, kind, id).await?;
        let expected = found.map_or(Expected::Absent, |kept| Expected::Version(kept.version));
        draft(ledger, tenant, kind, id, expected, registered, &[], None)
    }

    /// Registers a system for other purposes than before, or says what there is of a contract. It counts from
    /// its next request on, those included whose tokens it has already.
    ///
    /// # Errors
    /// `Refused` unless the permit is one to administer; `Invalid` when there is no such system, or it can't be
    /// registered so; `Ledger`.
    pub async fn set_registered(
        &self,
        permit: &Permit,
        client: &str,
        registered: &Registered,
    ) -> Result<(), TrustError> {
        self.administers(permit).await?;
        let (ledger, tenant) = (&self.inner.ledger, permit.tenant());
        let with_token = self.client_with_token(tenant, client).await?;
        let role = match with_token {
            Some(with_token) => with_token.role,
            None => match self.inner.systems.get(ledger, tenant, client).await? {
                Some(_) => Role::Client,
                None => {
                    return invalid(
                        "there is no such system; an application acts for people, and asks for what they may",
                    );
                }
            },
        };
        check(role, registered)?;
        for _ in 0..RETRIES {
            let document = self.registered_draft(tenant, client, registered).await?;
            let note = format!("client {client} is registered {}", registered.words());
            let mut record = Record::under(permit, Event::ACCOUNT_CHANGED);
            record.note = Some(&note);
            if let Some(outcome) = self.tried(tenant, vec![document], record).await {
                return outcome;
            }
        }
        Err(LedgerError::Conflict.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OwnPurpose;

    #[test]
    fn an_own_purpose_is_registered_by_its_name_and_not_by_what_it_is_a_kind_of() {
        let own = |code: &str, is| {
            let made = OwnPurpose::of("urn:purposes", code, "the study", is);
            Purpose::Own(made.unwrap())
        };
        let (foo_bar, other) = (
            own("FooBar", Purpose::Research),
            own("Other", Purpose::Research),
        );
        let known = Purposes::with(vec![foo_bar, other]);
        let parse = |typed: &str| Registered::parse_among(&known, typed, Contract::Signed);
        for (typed, codes, lets) in [
            ("FooBar", "FooBar", vec![foo_bar]),
            (
                "urn:purposes|FooBar,HRESCH FooBar",
                "HRESCH FooBar",
                vec![foo_bar, Purpose::Research],
            ),
            ("HRESCH", "HRESCH", vec![Purpose::Research]),
        ] {
            let registered = parse(typed).unwrap();
            assert_eq!(registered.codes(), codes);
            for purpose in known.all() {
                let is_let = registered.refuses(purpose).is_none();
                assert_eq!(is_let, lets.contains(&purpose), "{typed}: {purpose:?}");
            }
            let stored = serde_json::to_value(&registered).unwrap();
            // What a server of before reads: known purposes alone, and nothing that it can't read.
            let of_before = stored["purposes"].as_array().unwrap();
            assert!(of_before.iter().all(|code| code != "FooBar"), "{stored}");
            let again: Registered = serde_json::from_value(stored).unwrap();
            assert_eq!(again, registered);
            assert_eq!(again.gone(&known).count(), 0);
            assert_eq!(again.gone(&Purposes::default()).count(), again.own().len());
        }
        let words = parse("Baz").unwrap_err().to_string();
        assert!(words.contains("HRESCH, FooBar, Other, and one"), "{words}");
        assert!(Registered::parse("FooBar", Contract::Signed).is_err());
        let stored = serde_json::json!({"purposes": ["TREAT"], "contract": "signed"});
        let of_before: Registered = serde_json::from_value(stored).unwrap();
        assert_eq!(
            of_before,
            Registered::parse("TREAT", Contract::Signed).unwrap()
        );
    }

    #[test]
    fn a_system_is_registered_for_what_systems_can_ask_for() {
        for (typed, expected) in [
            ("TREAT", Ok("TREAT")),
            ("HRESCH, TREAT  TREAT", Ok("TREAT HRESCH")),
            ("HPAYMT,HOPERAT", Ok("HPAYMT HOPERAT")),
            ("", Err("one or more of TREAT")),
            ("TREAT ETREAT", Err("no system can ask for ETREAT")),
            ("PATRQT", Err("no system can be registered for PATRQT")),
            (
                "HSYSADMIN",
                Err("no system can be registered for HSYSADMIN"),
            ),
            ("treat", Err("one of these is none")),
        ] {
            match (Registered::parse(typed, Contract::default()), expected) {
                (Ok(registered), Ok(codes)) => assert_eq!(registered.codes(), codes),
                (Err(error), Err(words)) => {
                    assert!(error.to_string().contains(words), "{typed}: {error}");
                }
                (made, _) => panic!("{typed}: {made:?}"),
            }
        }
    }

    #[test]
    fn who_said_nothing_has_no_emergency_and_no_research() {
        for purpose in Purpose::ALL {
            let is_let = Registered::default().refuses(purpose).is_none();
            assert_eq!(is_let, Registered::OF_BEFORE.contains(&purpose));
        }
        let payer = Registered::parse("HPAYMT", Contract::Signed).unwrap();
        assert_eq!(payer.refuses(Purpose::Payment), None);
        assert_eq!(
            payer.refuses(Purpose::Treatment).unwrap(),
            "this system is not registered for TREAT; it is registered for HPAYMT"
        );
    }
}
