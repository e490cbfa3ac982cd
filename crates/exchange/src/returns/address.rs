//! Return addresses: where a mail comes back to that could not be delivered.
//!
//! Each mail has its own, `returns+…@…`: the id of what it is about, some bytes of a keyed hash of where it went, and a
//! keyed hash of both, so that nobody who hasn't had the mail can make one up. Nothing in it tells whom it was for.

use ledger::{Ledger, LedgerError, TenantId};
use lettre::Address;

/// Bytes of the keyed hash: 80 bits, all of them random to who has no key.
const PROOF: usize = 10;
const ID: usize = 16;
/// Bytes that tell the addresses from each other that one message went to: it may be tried again, at another.
const TO: usize = 4;
/// Characters of the part that is a mail's own: what it is of, and 30 bytes in base 32.
const TOKEN: usize = 1 + (ID + TO + PROOF) * 8 / 5;
/// The most characters before the `@` (RFC 5321, section 4.5.3.1.1).
const LOCAL_MAX: usize = 64;
/// RFC 4648, section 6, in small letters: mail servers may change the case of what stands before the `@`.
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// What a mail is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    /// A message; its id is that of the `Communication`.
    Message([u8; 16]),
    /// A notice to staff; its id is that of the outbox entry.
    Notice([u8; 16]),
}

impl Of {
    fn letter(self) -> u8 {
        match self {
            Self::Message(_) => b'm',
            Self::Notice(_) => b'n',
        }
    }
    fn id(self) -> [u8; 16] {
        match self {
            Self::Message(id) | Self::Notice(id) => id,
        }
    }
    /// What it is called where it is hashed.
    fn name(self) -> String {
        let id = u128::from_be_bytes(self.id());
        format!("{}/{id:032x}", char::from(self.letter()))
    }
}

/// The address that return addresses are made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReturnTo {
    local: String,
    domain: String,
}

impl ReturnTo {
    /// Reads an address as it is configured.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let address: Address = text
            .parse()
            .map_err(|_| format!("{text:?} is no e-mail address"))?;
        let (local, domain) = (address.user(), address.domain());
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if !local.bytes().all(is_plain) {
            return Err(format!(
                "{text:?}: before the @ stand letters, digits, dots, hyphens and underscores alone; what is a mail's own is put behind a +"
            ));
        }
        let most = LOCAL_MAX - 1 - TOKEN;
        if local.len() > most {
            return Err(format!("{text:?}: at most {most} characters before the @"));
        }
        Ok(Self {
            local: local.to_ascii_lowercase(),
            domain: domain.to_ascii_lowercase(),
        })
    }

    /// Whether an address is the one that they are made from, without anything of a mail's own.
    pub(crate) fn is_bare(&self, address: &str) -> bool {
        parts(address).is_some_and(|(local, domain)| {
            local.eq_ignore_ascii_case(&self.local) && domain.eq_ignore_ascii_case(&self.domain)
        })
    }

    /// The return address of a mail that goes to what `went_to` stands for.
    ///
    /// # Errors
    /// `Storage` where the tenant's keys can't be read.
    pub(crate) fn of(
        &self,
        ledger: &Ledger,
        tenant: TenantId,
        of: Of,
        went_to: &str,
    ) -> Result<Option<Address>, LedgerError> {
        let to = short(ledger, tenant, of, went_to)?;
        let mut bytes = of.id().to_vec();
        bytes.extend_from_slice(&to);
        bytes.extend_from_slice(&proof(ledger, tenant, of, to)?);
        let token = base32(&bytes);
        let local = format!("{}+{}{token}", self.local, char::from(of.letter()));
        Ok(Address::new(local, self.domain.clone()).ok())
    }

    /// What a return address is of, and what stands for where that mail went; nothing where it is none of ours.
    ///
    /// # Errors
    /// `Storage` where the tenant's keys can't be read.
    pub(crate) fn read(
        &self,
        ledger: &Ledger,
        tenant: TenantId,
        address: &str,
    ) -> Result<Option<(Of, [u8; TO])>, LedgerError> {
        let Some((of, to, claimed)) = self.taken_apart(address) else {
            return Ok(None);
        };
        let right = proof(ledger, tenant, of, to)?;
        Ok(same(&claimed, &right).then_some((of, to)))
    }

    fn taken_apart(&self, address: &str) -> Option<(Of, [u8; TO], Vec<u8>)> {
        let (local, domain) = parts(address)?;
        if !domain.eq_ignore_ascii_case(&self.domain) {
            return None;
        }
        let local = local.to_ascii_lowercase();
        let token = local.strip_prefix(&self.local)?.strip_prefix('+')?;
        if token.len() != TOKEN {
            return None;
        }
        let (kind, token) = token.split_at_checked(1)?;
        let bytes = unbase32(token)?;
        let id: [u8; ID] = bytes.get(..ID)?.try_into().ok()?;
        let to: [u8; TO] = bytes.get(ID..ID + TO)?.try_into().ok()?;
        let of = match kind {
            "m" => Of::Message(id),
            "n" => Of::Notice(id),
            _ => return None,
        };
        Some((of, to, bytes.get(ID + TO..)?.to_vec()))
    }
}

/// What stands before the `@` and behind it.
fn parts(address: &str) -> Option<(&str, &str)> {
    let address = address.trim().trim_start_matches('<').trim_end_matches('>');
    address.rsplit_once('@')
}

/// Some bytes of a keyed hash of where a mail went: others for each mail, so that two return addresses don't tell that they
/// are of one mailbox.
///
/// # Errors
/// `Storage` where the tenant's keys can't be read.
pub(super) fn short(
    ledger: &Ledger,
    tenant: TenantId,
    of: Of,
    went_to: &str,
) -> Result<[u8; TO], LedgerError> {
    let name = format!("\u{1f}mail-return-to/{}/{went_to}", of.name());
    let bytes = keyed(ledger, tenant, &name)?;
    Ok([bytes[9], bytes[10], bytes[11], bytes[12]])
}

/// The keyed hash of what an address says.
fn proof(
    ledger: &Ledger,
    tenant: TenantId,
    of: Of,
    to: [u8; TO],
) -> Result<[u8; PROOF], LedgerError> {
    let to = u32::from_be_bytes(to);
    let name = format!("\u{1f}mail-return/{}/{to:08x}", of.name());
    let id = keyed(ledger, tenant, &name)?;
    let mut proof = [0; PROOF];
    // Without the two bytes in which a UUID has its version and variant.
    proof[..6].copy_from_slice(&id[..6]);
    proof[6..].copy_from_slice(&id[9..13]);
    Ok(proof)
}

/// A keyed hash. The name begins with what no name that comes from outside can begin with.
fn keyed(ledger: &Ledger, tenant: TenantId, name: &str) -> Result<[u8; 16], LedgerError> {
    let unread = || LedgerError::Storage("the keys of the tenant could not be read".to_owned());
    crate::returns::sixteen(&ledger.derive_own_id(tenant, name)).ok_or_else(unread)
}

/// Compares without telling by its time how much is the same.
pub(crate) fn same(one: &[u8], other: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(one, other).is_ok()
}

fn base32(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 8 / 5 + 1);
    let (mut held, mut bits) = (0_u32, 0_u32);
    for byte in bytes {
        held = (held << 8) | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            out.push(char::from(ALPHABET[((held >> bits) & 31) as usize]));
        }
    }
    if bits > 0 {
        out.push(char::from(ALPHABET[((held << (5 - bits)) & 31) as usize]));
    }
    out
}

fn unbase32(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() * 5 / 8);
    let (mut held, mut bits) = (0_u32, 0_u32);
    for byte in text.bytes() {
        let value = ALPHABET.iter().position(|known| *known == byte)?;
        held = (held << 5) | u32::try_from(value).ok()?;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            out.push(u8::try_from((held >> bits) & 255).ok()?);
        }
    }
    // What is left over is zero, or there would be several ways to write one address.
    (held & ((1 << bits) - 1) == 0).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_32_is_that_of_the_standard() {
        for (bytes, expected) in [
            (&b""[..], ""),
            (b"f", "my"),
            (b"fo", "mzxq"),
            (b"foo", "mzxw6"),
            (b"foob", "mzxw6yq"),
            (b"fooba", "mzxw6ytb"),
            (b"foobar", "mzxw6ytboi"),
        ] {
            assert_eq!(base32(bytes), expected);
            assert_eq!(unbase32(expected).as_deref(), Some(bytes));
        }
        assert_eq!(unbase32("m1"), None);
        assert_eq!(unbase32("mz"), None, "bits that are left over");
        assert_eq!(base32(&[0xff; ID + TO + PROOF]).len() + 1, TOKEN);
    }

    #[test]
    fn an_address_leaves_room_for_what_is_a_mails_own() {
        let longest = format!("{}@bounces.hospital.example", "r".repeat(14));
        for (text, expected) in [
            ("returns@bounces.hospital.example", true),
            (longest.as_str(), true),
            (&longest.replacen('r', "rr", 1), false),
            ("re+turns@hospital.example", false),
            ("hospital.example", false),
            ("", false),
        ] {
            assert_eq!(ReturnTo::parse(text).is_ok(), expected, "{text}");
        }
    }
}
