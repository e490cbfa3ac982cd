//! Somebody's place in a visit by video, as it is kept: one document of the patient's for each visit and each person. It
//! holds the link that lets them in now; a new one takes its place, and using it is a conditional write, so that of two
//! servers, and of two tries, one at most lets somebody in.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ledger::{Entropy, Expected, Ledger, Owner, TenantId};
use serde::{Deserialize, Serialize};
use trust::{Internal, InternalStored, TrustError, kinds};

use crate::returns::same;

/// Who goes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who<'a> {
    /// The patient.
    Patient,
    /// Who acts for the patient: the record of that.
    Proxy(&'a str),
    /// Somebody of the staff who may hold visits, whether or not this one names them: the account.
    Host(&'a str),
}

impl Who<'_> {
    /// What the place where visits are held knows them as.
    pub(super) fn role(self) -> &'static str {
        match self {
            Self::Patient | Self::Proxy(_) => "guest",
            Self::Host(_) => "host",
        }
    }

    /// For the audit, where who asked stands already.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Patient => "the patient",
            Self::Proxy(_) => "somebody who acts for the patient",
            Self::Host(_) => "a clinician",
        }
    }

    fn name(self) -> String {
        match self {
            Self::Patient => "patient".to_owned(),
            Self::Proxy(id) => format!("proxy {id}"),
            Self::Host(id) => format!("account {id}"),
        }
    }
}

/// What is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Seat {
    pub(super) appointment: String,
    /// `guest` or `host`.
    pub(super) role: String,
    pub(super) subject: String,
    /// SHA-256 of the link's secret.
    secret: String,
    /// Until when the link lets in, wall clock.
    pub(super) expires_ms: u64,
    /// When it was used, wall clock.
    pub(super) used_ms: Option<u64>,
    /// When the person last went in, by this link or one before it, wall clock.
    pub(super) came_ms: Option<u64>,
}

/// The id of a place.
pub(super) fn place(
    ledger: &Ledger,
    tenant: TenantId,
    (patient, appointment): (&str, &str),
    who: Who<'_>,
) -> String {
    let name = format!("telehealth seat/{patient}/{appointment}/{}", who.name());
    ledger.derive_id(tenant, &Owner::Patient(patient.to_owned()), &name)
}

/// The id of a place as a link names it, and back. The first two digits of an id say in which shard its patient lies, and
/// that is the same in all their visits; here they are others in each link, by what its secret and our keys make.
pub(super) fn veiled(ledger: &Ledger, tenant: TenantId, id: &str, secret: &str) -> Option<String> {
    let first = |id: &str| u8::from_str_radix(id.get(..2)?, 16).ok();
    let veil = first(&ledger.derive_own_id(tenant, &format!("telehealth veil/{secret}")))?;
    Some(format!("{:02x}{}", first(id)? ^ veil, id.get(2..)?))
}

/// Where a visit is held. Nobody can guess it, and it is the same for all who come; it doesn't say whose it is, nor in
/// which shard that one lies.
pub(super) fn room(ledger: &Ledger, tenant: TenantId, patient: &str, appointment: &str) -> String {
    ledger.derive_own_id(tenant, &format!("telehealth room/{patient}/{appointment}"))
}

/// What somebody is called in one visit, and nowhere else.
pub(super) fn subject(
    ledger: &Ledger,
    tenant: TenantId,
    (patient, appointment): (&str, &str),
    who: Who<'_>,
) -> String {
    let name = format!("telehealth subject/{patient}/{appointment}/{}", who.name());
    ledger.derive_own_id(tenant, &name)
}

fn hash(secret: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, secret.as_bytes()))
}

/// A new secret: 256 random bits.
pub(super) fn mint(entropy: &dyn Entropy) -> String {
    let mut bytes = [0; 32];
    entropy.fill(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Seat {
    /// With a link that lets in until a moment.
    pub(super) fn new(
        appointment: &str,
        who: Who<'_>,
        subject: String,
        secret: &str,
        expires_ms: u64,
        before: Option<&Self>,
    ) -> Self {
        Self {
            appointment: appointment.to_owned(),
            role: who.role().to_owned(),
            subject,
            secret: hash(secret),
            expires_ms,
            used_ms: None,
            came_ms: before.and_then(|before| before.came_ms),
        }
    }

    pub(super) fn is_of(&self, secret: &str) -> bool {
        same(self.secret.as_bytes(), hash(secret).as_bytes())
    }

    /// For the audit: whose link it was, as the note of the link has them.
    pub(super) fn turned_down(&self, why: &str) -> String {
        format!(
            "telehealth: the link of {} {} into the visit was turned down: {why}",
            self.role, self.subject
        )
    }

    pub(super) fn read(stored: &InternalStored) -> Result<Self, TrustError> {
        serde_json::from_slice(&stored.body).map_err(|_| {
            TrustError::Damaged(format!("the place {} in a visit does not parse", stored.id))
        })
    }

    pub(super) fn document(
        &self,
        id: &str,
        patient: &str,
        before: Option<&InternalStored>,
    ) -> Internal {
        Internal {
            kind: kinds::VISIT_SEAT,
            id: id.to_owned(),
            owner: Owner::Patient(patient.to_owned()),
            expected: before.map_or(Expected::Absent, |before| Expected::Version(before.version)),
            // A document of strings and numbers can't fail to serialise.
            body: serde_json::to_vec(self).unwrap_or_default(),
            deleted: false,
            tokens: Vec::new(),
        }
    }
}
