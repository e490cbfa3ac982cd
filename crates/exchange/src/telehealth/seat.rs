//! Somebody's place in a visit by video, as it is kept: one document of the patient's for each visit and each person. It
//! holds the link that lets them in now; a new one takes its place, and using it is a conditional write, so that of two
//! servers, and of two tries, one at most lets somebody in.

use aws_lc_rs::{constant_time, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ledger::{Entropy, Expected, Ledger, Owner, TenantId};
use serde::{Deserialize, Serialize};
use trust::{Internal, InternalStored, TrustError, kinds};

/// Who goes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who<'a> {
    /// The patient.
    Patient,
    /// Who acts for the patient: the record of that.
    Proxy(&'a str),
    /// Somebody of the staff, who holds the visit: the account.
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
            Self::Host(_) => "who holds the visit",
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

/// Compares in a time that doesn't depend on where two texts differ.
pub(super) fn same(one: &str, other: &str) -> bool {
    constant_time::verify_slices_are_equal(one.as_bytes(), other.as_bytes()).is_ok()
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
        same(&self.secret, &hash(secret))
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
