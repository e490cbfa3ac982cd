//! Visits by video: who is let in, by a link that is signed, good once, and for a minute.
//!
//! Who is signed in asks to go in; whether they may is decided at that moment, and the address to send their browser to is
//! made. In its fragment, which browsers keep to themselves, is a JWT that says where and as whom, and nothing of whose
//! visit it is. The place where visits are held checks it by the published keys, and redeems it here: once, and asked anew
//! whether it may be. A link that is made anew takes the former one's place.
//!
//! `standing.rs` says whether a visit is open, `seat.rs` what is kept of somebody's place in it, `redeem.rs` what a link
//! comes to.

mod redeem;
mod seat;
mod standing;

use std::collections::BTreeSet;
use std::net::IpAddr;

use fhir::search::SearchQuery;
use fhir::{Resource, ResourceType};
use ledger::{LedgerError, TenantId};
use serde_json::json;
use trust::consent::{self, Act};
use trust::partners::DataClass;
use trust::{
    Action, Agent, Disclosed, Permit, Purpose, Question, Role, Target, Trust, TrustError, Unit,
    Versioned, kinds,
};

use crate::calls::lawful::{contract, is_deceased};
pub use redeem::{Admitted, Redeemed, Turned};
use seat::Seat;
pub use seat::Who;
pub use standing::Standing;

/// The part of Cairn that the audit names.
const PART: &str = "telehealth";
/// How long a link lets in, real time: a browser follows it at once.
const LINK_LIFE_MS: u64 = 60_000;
/// How much earlier than now a link says that it was made and begins, because clocks differ.
const SKEW_S: u64 = 30;
/// The fewest characters of the secret: who guesses it learns of nobody, but keeps people out.
const SECRET_MIN: usize = 20;
/// How often a commit is tried again when something else was written meanwhile.
const CONFLICTS_MAX: u32 = 8;
/// Consents are read this many at a time (the most that a search gives).
const CONSENTS_PAGE: &str = "1000";

/// Where visits by video are held.
#[derive(Clone)]
pub struct TelehealthPlace {
    /// The address that people are sent to.
    pub join_url: String,
    /// Whom links are for (`aud`); the origin of `join_url` if not given.
    pub audience: Option<String>,
    /// The partner that holds them, as `partners.toml` names it: its contract and clearance are asked each time.
    pub partner: String,
    /// What it shows when it redeems a link.
    pub secret: String,
}

impl std::fmt::Debug for TelehealthPlace {
    /// Without the secret.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("TelehealthPlace")
            .field("join_url", &self.join_url)
            .field("audience", &self.audience)
            .field("partner", &self.partner)
            .finish_non_exhaustive()
    }
}

impl TelehealthPlace {
    /// Checks it.
    ///
    /// # Errors
    /// In words.
    pub fn check(&self) -> Result<(), String> {
        if !is_address(&self.join_url) {
            return Err(
                "the address of visits by video has to be like https://video.example.org/join, without user and fragment; http:// is for an address of this machine"
                    .to_owned(),
            );
        }
        if self.secret.len() < SECRET_MIN {
            return Err(format!(
                "the secret for links to visits has fewer than {SECRET_MIN} characters"
            ));
        }
        Ok(())
    }

    /// `https://video.example.org`, as browsers have it: in small letters, and without a port that goes without saying.
    fn origin(&self) -> String {
        let url = reqwest::Url::parse(&self.join_url);
        url.map_or_else(|_| String::new(), |url| url.origin().ascii_serialization())
    }

    fn audience(&self) -> String {
        self.audience.clone().unwrap_or_else(|| self.origin())
    }
}

/// Whether people may be sent to an address: over TLS, or on this machine.
fn is_address(text: &str) -> bool {
    let is_plain = text
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}#;".contains(&byte));
    let Some(url) = reqwest::Url::parse(text).ok().filter(|_| is_plain) else {
        return false;
    };
    let host = url.host_str().unwrap_or_default();
    let number = host.trim_start_matches('[').trim_end_matches(']');
    let here = number
        .parse::<IpAddr>()
        .is_ok_and(|host| host.is_loopback());
    let safe = url.scheme() == "https" || (url.scheme() == "http" && here);
    safe && !host.is_empty() && url.username().is_empty() && url.password().is_none()
}

/// When somebody last went into a visit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Came {
    /// Wall clock, milliseconds since the epoch.
    pub at_ms: u64,
}

/// Why somebody isn't let in.
#[derive(Debug)]
pub enum Shut {
    /// The visit isn't one that is open now, or not this patient's.
    Standing(Standing),
    /// The patient has died.
    Deceased,
    /// The patient's consents don't allow it, in words for who asks.
    Consent(String),
    /// The place where visits are held may not be told, in words for who runs this.
    NotCleared(String),
    /// The store's or a policy's fault.
    Trust(TrustError),
}

impl From<TrustError> for Shut {
    fn from(error: TrustError) -> Self {
        Self::Trust(error)
    }
}

impl Shut {
    /// For the audit: nothing of the patient.
    fn words(&self) -> String {
        match self {
            Self::Standing(standing) => match standing {
                Standing::Elsewhere => "it is not held by video here",
                Standing::NotBooked => "it is not booked",
                Standing::Untimed => "it has no time",
                Standing::Early { .. } => "it is too early",
                Standing::Open { .. } => "it is open",
                Standing::Over => "its time is over",
                Standing::Done => "it has taken place",
                Standing::CalledOff => "it was called off",
                Standing::Missed => "the patient is noted as not having come",
            }
            .to_owned(),
            Self::Deceased => "the patient has died".to_owned(),
            Self::Consent(reason) => format!("consents do not allow it: {reason}"),
            Self::NotCleared(words) => words.clone(),
            Self::Trust(_) => "it could not be looked at".to_owned(),
        }
    }
}

/// Lets people into visits by video. Cheap to share.
pub struct Telehealth {
    trust: Trust,
    tenant: TenantId,
    place: TelehealthPlace,
    /// Who signs, as clients find its keys: the base of FHIR.
    issuer: String,
    /// How long before a visit people are let in, care clock.
    before_ms: u64,
}

/// What lets somebody in.
struct Lawful {
    visit: Versioned,
    until_ms: u64,
    /// Why it is lawful, for the audit.
    why: String,
}

impl Telehealth {
    /// For one organisation; `issuer` is the base of FHIR there.
    ///
    /// # Errors
    /// In words, when the place won't do.
    pub fn new(
        trust: Trust,
        tenant: TenantId,
        place: TelehealthPlace,
        issuer: &str,
        before_ms: u64,
    ) -> Result<Self, String> {
        place.check()?;
        Ok(Self {
            trust,
            tenant,
            place,
            issuer: issuer.to_owned(),
            before_ms,
        })
    }

    /// Sees to it that the key by which links are signed is published before the first is, and says to the log what stands
    /// in the way of all of them.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn ready(&self) -> Result<(), TrustError> {
        let set = self.trust.policy_set();
        let lets = |action, kind| {
            set.allows(&Question {
                role: Role::System,
                part: Some(PART.to_owned()),
                purpose: Purpose::Treatment,
                action,
                kind: Some(kind),
                own: false,
                around: self.trust.usual_around(),
            })
        };
        let needs = [
            (Action::Send, ResourceType::Appointment),
            (Action::Read, ResourceType::Appointment),
            (Action::Read, ResourceType::Patient),
            (Action::Search, ResourceType::Consent),
        ];
        if !needs.into_iter().all(|(action, kind)| lets(action, kind)) {
            tracing::warn!(
                "telehealth: the policies let nobody into visits by video: the part `telehealth` may not send, or not look at visits, patients and consents"
            );
        }
        let partner = self.trust.partner(&self.place.partner);
        if let Err(words) = self.cleared(partner.as_ref(), self.now_ms()) {
            tracing::warn!("telehealth: nobody is let into visits by video: {words}");
        }
        self.trust.identity().ready_to_sign(self.tenant).await
    }

    fn now_ms(&self) -> u64 {
        self.trust.vault().ledger().clock().now_ms()
    }

    /// The host that people are sent to, with its port where it has one of its own.
    #[must_use]
    pub fn host(&self) -> String {
        let origin = self.place.origin();
        let host = origin.split_once("://").map(|(_, host)| host.to_owned());
        host.unwrap_or_default()
    }

    /// How a visit stands now.
    #[must_use]
    pub fn standing(&self, visit: &Resource) -> Standing {
        standing::standing(visit, self.now_ms(), self.before_ms)
    }

    /// When somebody last went in. For a page that shows them the visit.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`, `Refused`.
    pub async fn came(
        &self,
        who: Who<'_>,
        (patient, appointment): (&str, &str),
        request_id: &str,
    ) -> Result<Option<Came>, TrustError> {
        let permit = self.permit(Some(patient), request_id).await?;
        let vault = self.trust.vault();
        let id = seat::place(vault.ledger(), self.tenant, (patient, appointment), who);
        let found = vault.internal(&permit, kinds::VISIT_SEAT, &id).await?;
        let seat = found.as_ref().map(Seat::read).transpose()?;
        let came_ms = seat.and_then(|seat| seat.came_ms);
        Ok(came_ms.map(|at_ms| Came { at_ms }))
    }

    /// Lets somebody in who asks, and who may see the visit: the address to send their browser to. `asked` is what they
    /// were let see it by; the audit has them, and the disclosure.
    ///
    /// # Errors
    /// [`Shut`]; the audit has it, but for faults.
    pub async fn enter(
        &self,
        asked: &Permit,
        who: Who<'_>,
        of: (&str, &str),
        request_id: &str,
    ) -> Result<String, Shut> {
        let entered = match self.permit(Some(of.0), request_id).await {
            Ok(permit) => self.enter_or_say(&permit, asked, who, of).await,
            Err(error) => Err(error.into()),
        };
        let outcome = match &entered {
            Ok(_) => "made",
            // Policies let nobody in: that is no fault that goes away.
            Err(Shut::Trust(TrustError::Refused(_))) => "refused",
            Err(Shut::Trust(_)) => "failed",
            Err(_) => "refused",
        };
        metrics::counter!("telehealth_links_total", "outcome" => outcome).increment(1);
        entered
    }

    /// The same; who isn't let in, and why, is in the audit.
    async fn enter_or_say(
        &self,
        permit: &Permit,
        asked: &Permit,
        who: Who<'_>,
        of: (&str, &str),
    ) -> Result<String, Shut> {
        let entered = self.enter_by(permit, asked, who, of).await;
        if let Err(shut) = &entered
            && !matches!(shut, Shut::Trust(_))
        {
            let note = format!(
                "telehealth: {} is not let in: {}",
                who.words(),
                shut.words()
            );
            self.note(permit, Some(asked), of.0, note).await?;
        }
        entered
    }

    async fn enter_by(
        &self,
        permit: &Permit,
        asked: &Permit,
        who: Who<'_>,
        of: (&str, &str),
    ) -> Result<String, Shut> {
        let (patient, appointment) = of;
        let lawful = self.lawful(permit, of).await?;
        let vault = self.trust.vault();
        let ledger = vault.ledger();
        let id = seat::place(ledger, self.tenant, of, who);
        let secret = seat::mint(ledger.entropy().as_ref());
        let subject = seat::subject(ledger, self.tenant, of, who);
        let veiled = seat::veiled(ledger, self.tenant, &id, &secret).ok_or_else(|| {
            TrustError::Damaged("the id of a place in a visit has no form of ours".to_owned())
        })?;
        let now_ms = self.trust.wall_clock().now_ms();
        let expires_ms = now_ms.saturating_add(LINK_LIFE_MS);
        let begins_s = (now_ms / 1000).saturating_sub(SKEW_S);
        let claims = json!({
            "iss": self.issuer,
            "sub": subject,
            "aud": self.place.audience(),
            "iat": begins_s,
            "nbf": begins_s,
            "exp": expires_ms / 1000,
            "jti": format!("{veiled}.{secret}"),
            "room": seat::room(ledger, self.tenant, patient, appointment),
            "role": who.role(),
        });
        let token = self
            .trust
            .identity()
            .sign_visit(self.tenant, &claims)
            .await?;
        for _ in 0..CONFLICTS_MAX {
            let before = vault.internal(permit, kinds::VISIT_SEAT, &id).await?;
            let known = before.as_ref().map(Seat::read).transpose()?;
            let seat = Seat::new(
                appointment,
                who,
                subject.clone(),
                &secret,
                expires_ms,
                known.as_ref(),
            );
            let unit = Unit {
                internals: vec![seat.document(&id, patient, before.as_ref())],
                patient: Some(patient.to_owned()),
                asked: Some(asked.clone()),
                note: Some(format!(
                    "telehealth: a link into the visit for {}, who is {} {subject} there; {} is told health under that pseudonym ({})",
                    who.words(),
                    who.role(),
                    self.place.partner,
                    lawful.why
                )),
                disclosed: Some(Disclosed {
                    kind: ResourceType::Appointment,
                    id: appointment.to_owned(),
                    version: lawful.visit.version,
                    to: self.place.origin(),
                    // Whoever looks for what was done in an emergency finds it.
                    purpose: match asked.purpose() {
                        Purpose::Emergency => Purpose::Emergency,
                        _ => Purpose::Treatment,
                    },
                }),
                ..Unit::default()
            };
            match vault.commit(permit, unit).await {
                Ok(_) => return Ok(format!("{}#token={token}", self.place.join_url)),
                // Somebody pressed twice, or it is being redeemed.
                Err(TrustError::Ledger(LedgerError::Conflict)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(TrustError::Ledger(LedgerError::Conflict).into())
    }

    async fn permit(&self, patient: Option<&str>, request_id: &str) -> Result<Permit, TrustError> {
        let agent = Agent::system(self.tenant, PART);
        let target = Target {
            kind: Some(ResourceType::Appointment),
            patient: patient.map(str::to_owned),
        };
        let purpose = Purpose::Treatment;
        let decided = self
            .trust
            .decide(&agent, purpose, Action::Send, target, request_id);
        decided.await
    }

    /// Writes down something that is about a patient and changes nothing.
    async fn note(
        &self,
        permit: &Permit,
        asked: Option<&Permit>,
        patient: &str,
        note: String,
    ) -> Result<(), TrustError> {
        let unit = Unit {
            patient: Some(patient.to_owned()),
            asked: asked.cloned(),
            note: Some(note),
            ..Unit::default()
        };
        self.trust.vault().commit(permit, unit).await.map(|_| ())
    }

    /// The contract under which the place is told, or why it isn't.
    fn cleared(
        &self,
        partner: Option<&trust::partners::Partner>,
        now_ms: u64,
    ) -> Result<String, String> {
        let name = &self.place.partner;
        let Some(partner) = partner else {
            return Err(format!("there is no partner {name} in partners.toml"));
        };
        let classes = BTreeSet::from([DataClass::Health]);
        match partner.refuses(Purpose::Treatment, &classes, now_ms) {
            Some(why) => Err(why.words(name)),
            None => Ok(contract(partner)),
        }
    }

    /// Whether a visit is open, and lets in whom it lets in: asked when a link is made, and when it is used.
    async fn lawful(&self, permit: &Permit, (patient, id): (&str, &str)) -> Result<Lawful, Shut> {
        let vault = self.trust.vault();
        let visit = vault.load(permit, ResourceType::Appointment, id).await?;
        let visit = visit
            .filter(|found| !found.deleted && found.resource.patient() == Some(patient))
            .ok_or(Shut::Standing(Standing::Elsewhere))?;
        let until_ms = match self.standing(&visit.resource) {
            Standing::Open { until_ms } => until_ms,
            other => return Err(Shut::Standing(other)),
        };
        let person = vault.load(permit, ResourceType::Patient, patient).await?;
        let person = person
            .filter(|found| !found.deleted)
            .ok_or(Shut::Standing(Standing::Elsewhere))?
            .resource;
        if is_deceased(&person) {
            return Err(Shut::Deceased);
        }
        let now_ms = self.now_ms();
        let partner = self.trust.partner(&self.place.partner);
        let contract = self
            .cleared(partner.as_ref(), now_ms)
            .map_err(Shut::NotCleared)?;
        let parameters = [
            ("patient".to_owned(), format!("Patient/{patient}")),
            ("_count".to_owned(), CONSENTS_PAGE.to_owned()),
        ];
        let query = SearchQuery::parse(ResourceType::Consent, &parameters, false)
            .map_err(|outcome| TrustError::Invalid(outcome.summary()))?;
        let consents = vault.load_all(permit, &query).await?.into_iter();
        let consents: Vec<Resource> = consents.map(|row| row.resource).collect();
        let act = Act {
            purpose: Purpose::Treatment,
            about: vec![ResourceType::Appointment],
            known_as: vault.programmes_known_as(self.tenant).await?,
        };
        let at_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
        // Who wants no messages of care programmes has still booked this visit.
        let decision = consent::decide_use(vault.rules(), &consents, &act, at_ms);
        if !decision.permitted {
            return Err(Shut::Consent(decision.reason));
        }
        Ok(Lawful {
            visit,
            until_ms,
            why: format!("{contract}, consents allow it"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(join_url: &str) -> TelehealthPlace {
        TelehealthPlace {
            join_url: join_url.to_owned(),
            audience: None,
            partner: "video".to_owned(),
            secret: "x".repeat(SECRET_MIN),
        }
    }

    #[test]
    fn people_are_sent_over_tls_or_nowhere_else_than_here() {
        for good in [
            "https://video.example.org/join",
            "https://video.example.org",
            "https://video.example.org:8443/join?house=1",
            "http://127.0.0.1:9000/join",
            "http://[::1]:9000/join",
        ] {
            assert_eq!(place(good).check(), Ok(()), "{good}");
        }
        for bad in [
            "",
            "video.example.org",
            "http://video.example.org/join",
            "http://localhost.example.org/join",
            "https://user@video.example.org/join",
            "https://video.example.org/join#room",
            "https://video.example.org/a b",
            "javascript:alert(1)",
            "ftp://video.example.org/",
        ] {
            assert!(place(bad).check().is_err(), "{bad}");
        }
        let short = TelehealthPlace {
            secret: "x".repeat(SECRET_MIN - 1),
            ..place("https://video.example.org/join")
        };
        assert!(short.check().is_err());
        assert!(!format!("{short:?}").contains("xxx"));
    }

    #[test]
    fn whom_a_link_is_for_is_said_or_the_origin() {
        let of_port = place("https://video.example.org:8443/join?x=1");
        assert_eq!(of_port.audience(), "https://video.example.org:8443");
        // As browsers and libraries write origins.
        for odd in [
            "https://Video.Example.org/join",
            "https://video.example.org:443/join",
            "https://video.example.org?house=1",
        ] {
            assert_eq!(place(odd).audience(), "https://video.example.org", "{odd}");
        }
        let six = place("http://[::1]:9000/join");
        assert_eq!(six.audience(), "http://[::1]:9000");
        let named = TelehealthPlace {
            audience: Some("video".to_owned()),
            ..of_port
        };
        assert_eq!(named.audience(), "video");
    }
}
