//! An authenticator in software with a browser around it, for tests: honest unless its fields are changed.
use aws_lc_rs::digest;
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
    RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

pub(crate) enum Key {
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
    Rsa(Box<RsaKeyPair>),
}

impl Key {
    pub(crate) fn new(algorithm: i32) -> Self {
        match algorithm {
            -7 => Self::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap()),
            -8 => Self::Ed(Ed25519KeyPair::generate().unwrap()),
            -257 => Self::Rsa(Box::new(RsaKeyPair::generate(KeySize::Rsa2048).unwrap())),
            other => panic!("no key of algorithm {other}"),
        }
    }
    fn public(&self) -> Vec<u8> {
        let der: PublicKeyX509Der<'_> = match self {
            Self::Ec(pair) => pair.public_key().as_der().unwrap(),
            Self::Ed(pair) => pair.public_key().as_der().unwrap(),
            Self::Rsa(pair) => pair.public_key().as_der().unwrap(),
        };
        der.as_ref().to_vec()
    }
    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Ec(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Ed(pair) => pair.sign(message).as_ref().to_vec(),
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .unwrap();
                signature
            }
        }
    }
}

/// A passkey with its private half.
pub(crate) struct Held {
    pub(crate) id: String,
    pub(crate) key: Key,
    /// As the server gave it, base64url.
    pub(crate) handle: String,
}

pub(crate) struct Authenticator {
    pub(crate) origin: String,
    /// Whom it signs for, whatever it was asked for.
    pub(crate) party: Option<String>,
    /// What it says of the challenge, whatever it was asked.
    pub(crate) challenge: Option<String>,
    pub(crate) algorithm: i32,
    /// User present, user verified, backup eligible, backed up.
    pub(crate) flags: u8,
    /// The count of the next signature; stays zero if it is.
    pub(crate) counter: u32,
    /// What the browser adds to the client data.
    pub(crate) also: Value,
    pub(crate) says_handle: bool,
    pub(crate) held: Vec<Held>,
}

pub(crate) const UP: u8 = 1;
pub(crate) const UV: u8 = 4;
#[allow(dead_code, reason = "pages are tested without")]
pub(crate) const ELIGIBLE: u8 = 8;
#[allow(dead_code, reason = "pages are tested without")]
pub(crate) const BACKED_UP: u8 = 16;
const ATTESTED: u8 = 64;

impl Authenticator {
    pub(crate) fn at(origin: &str) -> Self {
        Self {
            origin: origin.to_owned(),
            party: None,
            challenge: None,
            algorithm: -7,
            flags: UP | UV,
            counter: 1,
            also: json!({ "crossOrigin": false }),
            says_handle: true,
            held: Vec::new(),
        }
    }

    fn client_data(&self, purpose: &str, challenge: &Value) -> String {
        let mut data = json!({ "type": purpose, "challenge": challenge, "origin": self.origin });
        if let Some(challenge) = &self.challenge {
            data["challenge"] = json!(challenge);
        }
        for (name, value) in self.also.as_object().unwrap() {
            data[name.as_str()] = value.clone();
        }
        data.to_string()
    }

    fn data(&mut self, party: &Value, more: u8) -> Vec<u8> {
        let party = self.party.as_deref().or(party.as_str()).unwrap();
        let mut data = digest::digest(&digest::SHA256, party.as_bytes())
            .as_ref()
            .to_vec();
        data.push(self.flags | more);
        data.extend(self.counter.to_be_bytes());
        if self.counter > 0 {
            self.counter += 1;
        }
        data
    }

    /// Makes a passkey and answers.
    pub(crate) fn make(&mut self, options: &str) -> String {
        let options: Value = serde_json::from_str(options).unwrap();
        let algorithms = options["algorithms"].as_array().unwrap();
        assert!(algorithms.contains(&json!(self.algorithm)), "{options}");
        let mut id = [0; 32];
        aws_lc_rs::rand::fill(&mut id).unwrap();
        let key = Key::new(self.algorithm);
        let mut data = self.data(&options["rp"]["id"], ATTESTED);
        data.extend([0; 16]);
        data.extend([0, 32]);
        data.extend(id);
        // The key in CBOR, which nobody reads here.
        data.extend([0xa0]);
        let id = URL_SAFE_NO_PAD.encode(id);
        let answer = json!({
            "id": id,
            "clientData": URL_SAFE_NO_PAD.encode(self.client_data("webauthn.create", &options["challenge"])),
            "authenticatorData": URL_SAFE_NO_PAD.encode(data),
            "publicKey": URL_SAFE_NO_PAD.encode(key.public()),
            "algorithm": self.algorithm,
            "transports": ["internal"],
        });
        self.held.push(Held {
            id,
            key,
            handle: options["user"]["id"].as_str().unwrap().to_owned(),
        });
        answer.to_string()
    }

    /// Shows the newest passkey that it is asked for.
    pub(crate) fn show(&mut self, options: &str) -> String {
        let options: Value = serde_json::from_str(options).unwrap();
        let allowed = options["allow"].as_array().unwrap();
        let fits = |held: &&Held| {
            allowed.is_empty() || allowed.iter().any(|one| one["id"] == held.id.as_str())
        };
        let id = self.held.iter().rev().find(fits).unwrap().id.clone();
        self.show_this(&options.to_string(), &id)
    }

    /// Shows a passkey, asked for or not.
    pub(crate) fn show_this(&mut self, options: &str, id: &str) -> String {
        let options: Value = serde_json::from_str(options).unwrap();
        let client = self.client_data("webauthn.get", &options["challenge"]);
        let data = self.data(&options["rpId"], 0);
        let hash = digest::digest(&digest::SHA256, client.as_bytes());
        let held = self.held.iter().find(|held| held.id == id).unwrap();
        let signature = held.key.sign(&[&data[..], hash.as_ref()].concat());
        let mut answer = json!({
            "id": id,
            "clientData": URL_SAFE_NO_PAD.encode(client),
            "authenticatorData": URL_SAFE_NO_PAD.encode(data),
            "signature": URL_SAFE_NO_PAD.encode(signature),
        });
        if self.says_handle {
            answer["userHandle"] = json!(held.handle);
        }
        answer.to_string()
    }
}
