//! Mail that comes back: what could not be delivered, and what somebody said is unwanted.
//!
//! A mail that leaves has a return address of its own (`address.rs`). What comes back there is handed in by the mail server
//! that takes it ([`ReturnsDoor`]), read (`report.rs`), and written down with the message. While a mail may soon come
//! back, its message is `in-progress`: its journey goes on when that time is over, or by the way for failure. An address
//! without a mailbox is marked, beside the record, and not written to any more.
//!
//! See `docs/decisions/0138-mail-that-comes-back.md`.

mod address;
mod believe;
mod door;
mod report;

use fhir::Resource;
use ledger::{Ledger, LedgerError, TenantId};
use lettre::Address;
use serde_json::{Value, json};
use trust::{AddressTrouble, Permit, TrustError, Vault};

pub(crate) use address::{Of, ReturnTo, same};
pub use door::{ReturnsDoor, Unreturned};

use crate::check::{Reason, Refused};

/// Extension of a `Communication` that was sent by e-mail: what stands for the address (`valueId`, see
/// [`trust::Vault::address_id`]).
const SENT_TO: &str = "urn:cairn:sent-to";
/// Nobody waits longer than this for a mail to come back, milliseconds.
pub const RETURNS_WAIT_MS_MAX: u64 = 24 * 3_600_000;

/// Where mail that can't be delivered comes back to.
#[derive(Clone)]
pub struct ReturnOptions {
    /// The address that return addresses are made from: `returns@bounces.hospital.example` makes
    /// `returns+…@bounces.hospital.example`.
    pub address: String,
    /// What who hands mail in has to know.
    pub secret: String,
    /// How long a message counts as under way after a mail server took it, milliseconds (care clock).
    pub wait_ms: u64,
}

impl std::fmt::Debug for ReturnOptions {
    /// Shows all but the secret.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ReturnOptions")
            .field("address", &self.address)
            .field("wait_ms", &self.wait_ms)
            .finish_non_exhaustive()
    }
}

/// What the deliverer knows of returns.
pub(crate) struct Returns {
    to: ReturnTo,
    wait_ms: u64,
}

impl Returns {
    pub(crate) fn new(options: &ReturnOptions) -> Result<Self, String> {
        if options.wait_ms > RETURNS_WAIT_MS_MAX {
            return Err("mail that comes back is waited for at most a day".to_owned());
        }
        Ok(Self {
            to: ReturnTo::parse(&options.address)?,
            wait_ms: options.wait_ms,
        })
    }

    /// The address that a mail comes back to, which goes to what `went_to` stands for.
    ///
    /// # Errors
    /// `Storage` where the tenant's keys can't be read.
    pub(crate) fn address(
        &self,
        ledger: &Ledger,
        tenant: TenantId,
        of: Of,
        went_to: &str,
    ) -> Result<Option<Address>, LedgerError> {
        self.to.of(ledger, tenant, of, went_to)
    }
}

/// Why an address is not written to any more, if so.
pub(crate) async fn barred(
    vault: &Vault,
    permit: &Permit,
    patient: &str,
    address: &str,
) -> Result<Option<Refused>, TrustError> {
    let id = vault.address_id(permit.tenant(), patient, address);
    let (standing, _) = vault.address_standing(permit, &id).await?;
    Ok(standing.mark.map(|mark| match mark.why {
        AddressTrouble::Bounced | AddressTrouble::Other => Refused::new(
            Reason::NoAddress,
            "The e-mail address on record has no mailbox: what was sent there came back.",
        ),
        AddressTrouble::Complained => Refused::new(
            Reason::Preference,
            "Who reads at the address told their provider that our e-mail is unwanted.",
        ),
    }))
}

/// A patient with the addresses put out of use that are not written to any more; and why, of the first.
pub(crate) async fn without_barred(
    vault: &Vault,
    permit: &Permit,
    patient: &Resource,
) -> Result<(Resource, Option<Refused>), TrustError> {
    let mut patient = patient.clone();
    let Some(id) = patient.id().map(str::to_owned) else {
        return Ok((patient, None));
    };
    let telecoms = patient.get("telecom").and_then(Value::as_array);
    let mut telecoms = telecoms.cloned().unwrap_or_default();
    let mut first = None;
    for telecom in &mut telecoms {
        let address = telecom["value"].as_str().map(str::to_owned);
        let address = address.filter(|_| telecom["system"] == "email");
        let Some(address) = address else { continue };
        if let Some(refused) = barred(vault, permit, &id, &address).await? {
            telecom["use"] = json!("old");
            first.get_or_insert(refused);
        }
    }
    if first.is_some() {
        patient.set("telecom", Value::Array(telecoms));
    }
    Ok((patient, first))
}

/// The bytes of an id in UUID form.
pub(crate) fn sixteen(id: &str) -> Option<[u8; 16]> {
    let digits: String = id.chars().filter(|letter| *letter != '-').collect();
    let number = u128::from_str_radix(&digits, 16).ok();
    number.filter(|_| digits.len() == 32).map(u128::to_be_bytes)
}

/// An id in UUID form.
fn uuid(id: [u8; 16]) -> String {
    let digits = crate::deliverer::hex(id);
    let parts = [
        &digits[..8],
        &digits[8..12],
        &digits[12..16],
        &digits[16..20],
        &digits[20..],
    ];
    parts.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_bytes_and_back() {
        let id = "3f2504e0-4f89-41d3-9a0c-0305e82c3301";
        assert_eq!(sixteen(id).map(uuid).as_deref(), Some(id));
        for text in [
            "",
            "abc",
            "3f2504e0-4f89-41d3-9a0c-0305e82c33011",
            "+f2504e0-4f89-41d3-9a0c-0305e82c330",
        ] {
            assert_eq!(sixteen(text), None, "{text}");
        }
    }
}
