//! Secrets: made at random, kept as hashes, compared in constant time.
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ledger::{Entropy, TenantId};
use totp_rs::{Builder, Secret, Totp};

use crate::TrustError;

/// OWASP Password Storage Cheat Sheet: argon2id with at least 19 MiB of memory, two iterations and
/// one degree of parallelism.
const ARGON2_MEMORY_KIB: u32 = 19_456;
const ARGON2_ITERATIONS: u32 = 2;
const ARGON2_PARALLELISM: u32 = 1;
/// 128 bits (RFC 9106, section 3.1).
const SALT_BYTES: usize = 16;
/// The shared secret of a one-time code: 160 bits (RFC 4226, section 4, R6).
const TOTP_SECRET_BYTES: usize = 20;

/// Shortest password beside a second factor (NIST SP 800-63B-4, section 3.1.1.2).
const PASSWORD_MIN: usize = 8;
/// Longest, so that nobody makes the server hash megabytes.
const PASSWORD_MAX: usize = 256;
/// Passwords that every list of guesses begins with and that are long enough otherwise.
const GUESSED_FIRST: [&str; 16] = [
    "password",
    "password1",
    "password123",
    "12345678",
    "123456789",
    "1234567890",
    "qwertyuiop",
    "qwerty123",
    "iloveyou",
    "11111111",
    "00000000",
    "letmein1",
    "welcome1",
    "sunshine",
    "princess",
    "football",
];

/// A secret as its bearer shows it: the tenant's number and 256 random bits. The tenant is part of
/// it, because whoever shows it hasn't said otherwise which tenant they belong to.
pub(super) fn mint(tenant: TenantId, entropy: &dyn Entropy) -> String {
    let mut bytes = [0; 32];
    entropy.fill(&mut bytes);
    format!("{:x}.{}", tenant.0, URL_SAFE_NO_PAD.encode(bytes))
}

/// The tenant of a secret; `None` for what can't be one.
pub(super) fn tenant_of(secret: &str) -> Option<TenantId> {
    let (tenant, random) = secret.split_once('.')?;
    let well_formed = random.len() == 43 && tenant.len() <= 8;
    let tenant = u32::from_str_radix(tenant, 16)
        .ok()
        .filter(|_| well_formed)?;
    Some(TenantId(tenant))
}

/// SHA-256 in hexadecimal. Enough for secrets of 256 random bits, which can't be guessed however
/// fast the hash.
pub(super) fn hash(secret: &str) -> String {
    let digest = digest::digest(&digest::SHA256, secret.as_bytes());
    digest
        .as_ref()
        .iter()
        .fold(String::with_capacity(64), |mut text, byte| {
            use std::fmt::Write as _;
            let _ = write!(text, "{byte:02x}");
            text
        })
}

pub(super) fn same(left: &str, right: &str) -> bool {
    verify_slices_are_equal(left.as_bytes(), right.as_bytes()).is_ok()
}

/// Whether a password may be chosen.
pub(super) fn check_password(user_name: &str, password: &str) -> Result<(), TrustError> {
    let length = password.chars().count();
    let folded = password.to_lowercase();
    let first = folded.chars().next();
    let words = if length < PASSWORD_MIN {
        format!("a password has at least {PASSWORD_MIN} characters")
    } else if password.len() > PASSWORD_MAX {
        format!("a password has at most {PASSWORD_MAX} bytes")
    } else if GUESSED_FIRST.contains(&folded.as_str())
        || folded == user_name
        || folded.chars().all(|c| Some(c) == first)
    {
        "this password is among the first that anybody would guess".to_owned()
    } else {
        return Ok(());
    };
    Err(TrustError::Invalid(words))
}

fn argon2() -> Result<Argon2<'static>, TrustError> {
    let params = Params::new(
        ARGON2_MEMORY_KIB,
        ARGON2_ITERATIONS,
        ARGON2_PARALLELISM,
        None,
    );
    let params = params.map_err(|error| TrustError::Invalid(format!("argon2: {error}")))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

/// The password's hash as a PHC string. Takes tens of milliseconds: not for an async thread.
pub(super) fn hash_password(password: &str, entropy: &dyn Entropy) -> Result<String, TrustError> {
    let mut salt = [0; SALT_BYTES];
    entropy.fill(&mut salt);
    let hash = argon2()?
        .hash_password_with_salt(password.as_bytes(), &salt)
        .map_err(|error| TrustError::Invalid(format!("argon2: {error}")))?;
    Ok(hash.to_string())
}

/// How often a password was held against a hash, which is what takes the time of a sign-in.
#[cfg(test)]
pub(super) static HELD_AGAINST: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());

/// Whether a password belongs to a hash. Takes as long as hashing.
pub(super) fn password_matches(password: &str, hash: &str) -> Result<bool, TrustError> {
    if password.len() > PASSWORD_MAX {
        return Ok(false);
    }
    #[cfg(test)]
    if let Ok(mut held) = HELD_AGAINST.lock() {
        held.push(hash.to_owned());
    }
    let parsed = PasswordHash::new(hash)
        .map_err(|_| TrustError::Damaged("a password hash does not parse".to_owned()))?;
    Ok(argon2()?
        .verify_password(password.as_bytes(), &parsed)
        .is_ok())
}

/// A new shared secret, base32.
pub(super) fn mint_totp(entropy: &dyn Entropy) -> String {
    let mut bytes = [0; TOTP_SECRET_BYTES];
    entropy.fill(&mut bytes);
    Secret::from(bytes).to_base32()
}

/// RFC 6238 with the parameters that every authenticator knows: SHA-1, six digits, 30 seconds, and
/// one step either way.
pub(super) fn totp(secret_base32: &str) -> Result<Totp, TrustError> {
    let unfit = || TrustError::Invalid("the secret is no base32 of 128 bits or more".to_owned());
    let secret = Secret::try_from_base32(secret_base32).map_err(|_| unfit())?;
    Builder::new()
        .with_secret(secret)
        .build()
        .map_err(|_| unfit())
}

/// What an authenticator reads from a QR code.
pub(super) fn totp_url(user_name: &str, secret_base32: &str) -> String {
    let user_name: String = user_name
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || "-._".contains(*c))
        .collect();
    format!(
        "otpauth://totp/Cairn:{user_name}?secret={secret_base32}&issuer=Cairn&algorithm=SHA1&digits=6&period=30"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use ledger::SystemEntropy;

    #[test]
    fn a_secret_says_its_tenant_and_nothing_else() {
        let secret = mint(TenantId(0x2a), &SystemEntropy);
        assert_eq!(tenant_of(&secret), Some(TenantId(0x2a)));
        assert_ne!(secret, mint(TenantId(0x2a), &SystemEntropy));
        for text in [
            "",
            ".",
            "1",
            "1.short",
            "x.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        ] {
            assert_eq!(tenant_of(text), None, "{text}");
        }
    }

    // Proves: 45 CFR 164.308(a)(5)(ii)(D)
    #[test]
    fn passwords_are_checked_when_chosen() {
        for (password, fine) in [
            ("short-7", false),
            ("long-enough", true),
            ("PASSWORD123", false),
            ("aaaaaaaaaaaa", false),
            ("carla.jones", false),
            ("schöne Grüße", true),
        ] {
            assert_eq!(
                check_password("carla.jones", password).is_ok(),
                fine,
                "{password}"
            );
        }
        assert!(check_password("x", &"ab".repeat(200)).is_err());
    }

    // Proves: 45 CFR 164.308(a)(5)(ii)(D)
    #[test]
    fn password_hashes_state_their_parameters() {
        let hash = hash_password("long-enough", &SystemEntropy).unwrap();
        assert!(
            hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{hash}"
        );
        assert!(password_matches("long-enough", &hash).unwrap());
        assert!(!password_matches("long-enougH", &hash).unwrap());
        assert!(password_matches("x", "no hash").is_err());
    }

    // RFC 6238, appendix B (SHA-1), cut to six digits.
    // Proves: 45 CFR 164.312(d)
    #[test]
    fn one_time_codes_are_those_of_the_standard() {
        let secret = Secret::from(*b"12345678901234567890").to_base32();
        let totp = totp(&secret).unwrap();
        for (time, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (2_000_000_000, "279037"),
        ] {
            assert_eq!(totp.generate(time).to_string(), code);
        }
        assert!(super::totp("no base32!").is_err());
        assert!(super::totp("MFRGG").is_err());
    }

    #[test]
    fn the_url_holds_nothing_that_would_need_escapes() {
        assert_eq!(
            totp_url("a&b=c?d", "ABC"),
            "otpauth://totp/Cairn:abcd?secret=ABC&issuer=Cairn&algorithm=SHA1&digits=6&period=30"
        );
    }
}
