//! A link that the place where visits are held redeems: once.
//!
//! What was used is written down before the answer goes out. Where the answer is lost, the link is used all the same, and
//! the person makes a new one: nobody is let in twice by one.

use ledger::LedgerError;
use serde_json::Value;
use trust::{TrustError, Unit, kinds};

use super::seat::{Seat, room, veiled};
use super::{CONFLICTS_MAX, Shut, Telehealth};
use crate::returns::same;

/// The longest name of a place in a visit, or of its secret.
const NAME_MAX: usize = 64;

/// Who is let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// Where.
    pub room: String,
    /// `guest` or `host`.
    pub role: String,
    /// What they are called in this visit, and nowhere else.
    pub subject: String,
    /// When the visit ends, by real time, seconds since the epoch.
    pub until_s: u64,
}

/// Why nobody is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turned {
    /// It is no link of ours for this place.
    Unknown,
    /// Its minute is over.
    Expired,
    /// It was used.
    Used,
    /// A newer one was made.
    Replaced,
    /// The visit isn't open any more, or lets nobody in.
    Shut,
}

impl Turned {
    /// As the answer has it.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Expired => "expired",
            Self::Used => "used",
            Self::Replaced => "replaced",
            Self::Shut => "shut",
        }
    }
}

/// What a link comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redeemed {
    /// Somebody is let in.
    In(Admitted),
    /// Nobody is.
    Out(Turned),
}

/// What a link names.
struct Named {
    seat: String,
    secret: String,
}

impl Telehealth {
    fn named(&self, claims: &Value) -> Option<Named> {
        let (seat, secret) = claims["jti"].as_str()?.split_once('.')?;
        if !fhir::is_id(seat) || secret.len() > NAME_MAX {
            return None;
        }
        let seat = veiled(self.trust.vault().ledger(), self.tenant, seat, secret)?;
        Some(Named {
            seat,
            secret: secret.to_owned(),
        })
    }

    /// Whether somebody may redeem links: who shows the secret.
    #[must_use]
    pub fn admits(&self, secret: Option<&str>) -> bool {
        secret.is_some_and(|secret| same(secret.as_bytes(), self.place.secret.as_bytes()))
    }

    /// Redeems a link. What becomes of one that was made here is in its patient's audit.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`, and a conflict where others kept changing it: nobody was let in, and it may be tried again. Where
    /// policies refuse, that stays so until somebody changes them, so the visit is shut.
    pub async fn redeem(&self, token: &str, request_id: &str) -> Result<Redeemed, TrustError> {
        let redeemed = match self.redeem_by(token, request_id).await {
            // That is in the audit already, with the policy.
            Err(TrustError::Refused(_)) => Ok(Redeemed::Out(Turned::Shut)),
            redeemed => redeemed,
        };
        let outcome = match &redeemed {
            Ok(Redeemed::In(_)) => "in",
            Ok(Redeemed::Out(turned)) => turned.code(),
            Err(_) => "failed",
        };
        metrics::counter!("telehealth_redeemed_total", "outcome" => outcome).increment(1);
        redeemed
    }

    async fn redeem_by(&self, token: &str, request_id: &str) -> Result<Redeemed, TrustError> {
        let unknown = Ok(Redeemed::Out(Turned::Unknown));
        let claims = self
            .trust
            .identity()
            .signed_visit(self.tenant, token)
            .await?;
        let Some(claims) = claims else {
            return unknown;
        };
        let is = |name: &str, expected: &str| claims[name].as_str() == Some(expected);
        let Some(named) = (self.named(&claims))
            .filter(|_| is("iss", &self.issuer) && is("aud", &self.place.audience()))
        else {
            return unknown;
        };
        let vault = self.trust.vault();
        let of_nobody = self.permit(None, request_id).await?;
        for _ in 0..CONFLICTS_MAX {
            let found = vault.internal(&of_nobody, kinds::VISIT_SEAT, &named.seat);
            let found = match found.await {
                // The patient's key was destroyed, and all that was theirs with it.
                Err(TrustError::Ledger(LedgerError::KeyDestroyed)) => None,
                found => found?,
            };
            let Some(found) = found else {
                return unknown;
            };
            let Some(patient) = found.patient.clone() else {
                return unknown;
            };
            let mut seat = Seat::read(&found)?;
            let permit = self.permit(Some(&patient), request_id).await?;
            let now_ms = self.trust.wall_clock().now_ms();
            let turned = if !seat.is_of(&named.secret) {
                Some(Turned::Replaced)
            } else if seat.used_ms.is_some() {
                Some(Turned::Used)
            } else if now_ms >= seat.expires_ms {
                Some(Turned::Expired)
            } else {
                None
            };
            if let Some(turned) = turned {
                let note = seat.turned_down(turned.code());
                self.note(&permit, None, &patient, note).await?;
                return Ok(Redeemed::Out(turned));
            }
            let lawful = match self.lawful(&permit, (&patient, &seat.appointment)).await {
                Ok(lawful) => lawful,
                Err(Shut::Trust(error)) => return Err(error),
                Err(shut) => {
                    let note = seat.turned_down(&shut.words());
                    self.note(&permit, None, &patient, note).await?;
                    return Ok(Redeemed::Out(Turned::Shut));
                }
            };
            seat.used_ms = Some(now_ms);
            seat.came_ms = Some(now_ms);
            let unit = Unit {
                internals: vec![seat.document(&found.id, &patient, Some(&found))],
                patient: Some(patient.clone()),
                note: Some(format!(
                    "telehealth: {} {} came into the visit; the link is used",
                    seat.role, seat.subject
                )),
                ..Unit::default()
            };
            match vault.commit(&permit, unit).await {
                Ok(_) => {
                    let ledger = vault.ledger();
                    // The visit's end is the care clock's, and the other side has another.
                    let left = ledger.clock().real_wait(lawful.until_ms);
                    return Ok(Redeemed::In(Admitted {
                        room: room(ledger, self.tenant, &patient, &seat.appointment),
                        role: seat.role,
                        subject: seat.subject,
                        until_s: (now_ms / 1000).saturating_add(left.as_secs()),
                    }));
                }
                // Another server let somebody in by it, or a newer link was made.
                Err(TrustError::Ledger(LedgerError::Conflict)) => {}
                Err(error) => return Err(error),
            }
        }
        Err(TrustError::Ledger(LedgerError::Conflict))
    }
}
