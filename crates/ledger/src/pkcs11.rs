//! A root key that stays in a PKCS#11 token, named by a `pkcs11:` URI (RFC 7512).
//!
//! The token computes HMAC-SHA-256 over the store's salt, and what comes out is the root secret of this
//! store until its next rotation. HMAC because every token can do it and none sees its result
//! differently: AES-GCM comes with nonces of the caller's or of the token's choosing, and unwrapping
//! gives key objects that most tokens do not let out. The module is loaded, and the token logged in to,
//! only while that is computed.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;

use crate::LedgerError;
use crate::keys::{Salt, Secret};
use crate::root_key::read_private;

/// A module is initialised once in a process, so one at a time uses it.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

const PURPOSE: &[u8] = b"cairn ledger 2 root\0";

fn refused(what: impl Into<String>) -> LedgerError {
    LedgerError::RootKey(what.into())
}

/// Where a key is: what the URI says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TokenKey {
    token: Option<String>,
    serial: Option<String>,
    manufacturer: Option<String>,
    model: Option<String>,
    /// The key's label.
    object: Option<String>,
    id: Option<Vec<u8>>,
    module_path: PathBuf,
    pin_source: PathBuf,
}

fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        out.push(if byte == b'%' {
            let digits = [bytes.next()?, bytes.next()?];
            let digits = std::str::from_utf8(&digits)
                .ok()
                .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
            u8::from_str_radix(digits, 16).ok()?
        } else {
            byte
        });
    }
    Some(out)
}

impl TokenKey {
    /// Takes a URI apart. Nothing of the value of an attribute that might be a PIN is in an error.
    pub(crate) fn parse(uri: &str) -> Result<Self, LedgerError> {
        let rest = uri
            .strip_prefix("pkcs11:")
            .ok_or_else(|| refused("a PKCS#11 URI begins with pkcs11:"))?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut key = Self::default();
        let mut seen = Vec::new();
        let pairs = path.split(';').chain(query.split('&'));
        for pair in pairs.filter(|pair| !pair.is_empty()) {
            let (name, value) = pair
                .split_once('=')
                .ok_or_else(|| refused("a PKCS#11 URI is made of NAME=VALUE"))?;
            if seen.contains(&name) {
                return Err(refused(format!("the PKCS#11 URI says {name} twice")));
            }
            seen.push(name);
            let bytes = percent_decoded(value).ok_or_else(|| {
                refused(format!("{name} in the PKCS#11 URI is not encoded right"))
            })?;
            if name == "id" {
                key.id = Some(bytes);
                continue;
            }
            let text = String::from_utf8(bytes)
                .map_err(|_| refused(format!("{name} in the PKCS#11 URI is not UTF-8")))?;
            match name {
                "token" => key.token = Some(text),
                "serial" => key.serial = Some(text),
                "manufacturer" => key.manufacturer = Some(text),
                "model" => key.model = Some(text),
                "object" => key.object = Some(text),
                "type" if text == "secret-key" => {}
                "type" => return Err(refused("a root key in a token has type=secret-key")),
                "module-path" => key.module_path = text.into(),
                "pin-source" => {
                    let path = text.strip_prefix("file:").unwrap_or(&text);
                    key.pin_source = path.strip_prefix("//").unwrap_or(path).into();
                }
                "pin-value" => {
                    return Err(refused(
                        "a PIN in a PKCS#11 URI is seen by everybody who lists processes or reads the \
                         configuration: put it into a file and name that with pin-source=/path",
                    ));
                }
                _ => {
                    return Err(refused(format!(
                        "the PKCS#11 URI says {name}, which is not known here: token, serial, \
                         manufacturer, model, object, id, type, module-path and pin-source are"
                    )));
                }
            }
        }
        if key.token.is_none() && key.serial.is_none() {
            return Err(refused(
                "the PKCS#11 URI names no token: token=LABEL or serial=NUMBER",
            ));
        }
        if key.object.is_none() && key.id.is_none() {
            return Err(refused(
                "the PKCS#11 URI names no key: object=LABEL or id=%01",
            ));
        }
        for (path, name) in [
            (&key.module_path, "module-path"),
            (&key.pin_source, "pin-source"),
        ] {
            if !path.is_absolute() {
                return Err(refused(format!(
                    "the PKCS#11 URI needs {name}=/path, with the whole path"
                )));
            }
        }
        Ok(key)
    }

    fn token_name(&self) -> &str {
        self.token
            .as_deref()
            .or(self.serial.as_deref())
            .unwrap_or_default()
    }

    fn key_name(&self) -> String {
        self.object.clone().unwrap_or_else(|| {
            let id = self.id.as_deref().unwrap_or_default();
            format!("id {}", crate::root_key::encode_hex(id))
        })
    }

    /// What the key in the token makes of a salt.
    pub(crate) fn derive(&self, salt: &Salt) -> Result<Secret, LedgerError> {
        self.with_session(false, |session| {
            let key = self.find(session)?;
            self.check(session, key)?;
            let input = [PURPOSE, salt].concat();
            let output = session
                .sign(&Mechanism::Sha256Hmac, key, &input)
                .map_err(|error| self.failed("could not compute HMAC-SHA-256", &error))?;
            output.try_into().map_err(|_| {
                refused(format!(
                    "the token {} gave no HMAC-SHA-256",
                    self.token_name()
                ))
            })
        })
    }

    /// Makes the key in its token: 256 random bits that never leave it.
    pub(crate) fn create(&self) -> Result<(), LedgerError> {
        self.with_session(true, |session| {
            let found = session
                .find_objects(&self.template())
                .map_err(|error| self.failed("could not be searched", &error))?;
            if !found.is_empty() {
                return Err(refused(format!(
                    "the token {} has a key {} already, and keys are never overwritten",
                    self.token_name(),
                    self.key_name()
                )));
            }
            let mut template = vec![
                Attribute::Class(ObjectClass::SECRET_KEY),
                Attribute::KeyType(KeyType::GENERIC_SECRET),
                Attribute::ValueLen(32.into()),
                Attribute::Token(true),
                Attribute::Private(true),
                Attribute::Sensitive(true),
                Attribute::Extractable(false),
                Attribute::Sign(true),
            ];
            template.extend(self.names());
            session
                .generate_key(&Mechanism::GenericSecretKeyGen, &template)
                .map_err(|error| self.failed("could not make a key", &error))?;
            Ok(())
        })
    }

    fn names(&self) -> Vec<Attribute> {
        let label = self.object.as_ref();
        let label = label.map(|label| Attribute::Label(label.clone().into_bytes()));
        let id = self.id.clone().map(Attribute::Id);
        label.into_iter().chain(id).collect()
    }

    fn template(&self) -> Vec<Attribute> {
        let mut template = vec![Attribute::Class(ObjectClass::SECRET_KEY)];
        template.extend(self.names());
        template
    }

    fn find(&self, session: &Session) -> Result<ObjectHandle, LedgerError> {
        let found = session
            .find_objects(&self.template())
            .map_err(|error| self.failed("could not be searched", &error))?;
        match found[..] {
            [key] => Ok(key),
            [] => Err(refused(format!(
                "the token {} has no secret key {}: `cairn key create` makes one",
                self.token_name(),
                self.key_name()
            ))),
            _ => Err(refused(format!(
                "the token {} has {} secret keys {}: name one with id=",
                self.token_name(),
                found.len(),
                self.key_name()
            ))),
        }
    }

    /// Another kind of key would be refused by the token in words that help nobody.
    fn check(&self, session: &Session, key: ObjectHandle) -> Result<(), LedgerError> {
        let wanted = [AttributeType::KeyType, AttributeType::Extractable];
        let attributes = session
            .get_attributes(key, &wanted)
            .map_err(|error| self.failed("could not describe its key", &error))?;
        for attribute in attributes {
            match attribute {
                Attribute::KeyType(kind)
                    if kind != KeyType::GENERIC_SECRET && kind != KeyType::SHA256_HMAC =>
                {
                    return Err(refused(format!(
                        "the key {} in the token {} is no generic secret: a root key is used for \
                         HMAC-SHA-256, and `cairn key create` makes one for it",
                        self.key_name(),
                        self.token_name()
                    )));
                }
                Attribute::Extractable(true) => tracing::warn!(
                    "the root key may be taken out of its token (CKA_EXTRACTABLE is true)"
                ),
                _ => {}
            }
        }
        Ok(())
    }

    fn failed(&self, what: &str, error: &Error) -> LedgerError {
        refused(format!("the token {} {what}: {error}", self.token_name()))
    }

    /// Logs in, works, and leaves the module as it was found: not loaded.
    fn with_session<T>(
        &self,
        writing: bool,
        work: impl FnOnce(&Session) -> Result<T, LedgerError>,
    ) -> Result<T, LedgerError> {
        let pin = AuthPin::new(self.pin()?.into());
        let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let module = self.module_path.display();
        let context = Pkcs11::new(&self.module_path).map_err(|error| {
            refused(format!(
                "{module} can't be loaded as a PKCS#11 module: {error}"
            ))
        })?;
        context
            .initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))
            .map_err(|error| {
                refused(format!(
                    "the PKCS#11 module {module} does not start: {error}"
                ))
            })?;
        let result = self.logged_in(&context, writing, &pin, work);
        if let Err(error) = context.finalize() {
            tracing::warn!(%error, "the PKCS#11 module could not be ended");
        }
        result
    }

    fn logged_in<T>(
        &self,
        context: &Pkcs11,
        writing: bool,
        pin: &AuthPin,
        work: impl FnOnce(&Session) -> Result<T, LedgerError>,
    ) -> Result<T, LedgerError> {
        let slot = self.slot(context)?;
        let session = if writing {
            context.open_rw_session(slot)
        } else {
            context.open_ro_session(slot)
        };
        let session = session.map_err(|error| self.failed("opens no session", &error))?;
        session
            .login(UserType::User, Some(pin))
            .map_err(|error| match error {
                Error::Pkcs11(
                    RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange,
                    _,
                ) => refused(format!(
                    "the token {} refuses the PIN in {}; after some more tries it may lock itself",
                    self.token_name(),
                    self.pin_source.display()
                )),
                Error::Pkcs11(RvError::PinLocked, _) => refused(format!(
                    "the token {} is locked after too many wrong PINs: its security officer unlocks it",
                    self.token_name()
                )),
                error => self.failed("lets nobody in", &error),
            })?;
        let result = work(&session);
        if let Err(error) = session.logout() {
            tracing::warn!(%error, "could not log out of the PKCS#11 token");
        }
        result
    }

    fn slot(&self, context: &Pkcs11) -> Result<Slot, LedgerError> {
        let failed = |error| refused(format!("the PKCS#11 module lists no tokens: {error}"));
        let (mut matching, mut others) = (Vec::new(), Vec::new());
        for slot in context.get_slots_with_token().map_err(failed)? {
            let info = context.get_token_info(slot).map_err(failed)?;
            let said = [
                (&self.token, info.label()),
                (&self.serial, info.serial_number()),
                (&self.manufacturer, info.manufacturer_id()),
                (&self.model, info.model()),
            ];
            let agrees = said.iter().all(|(wanted, is)| {
                wanted
                    .as_deref()
                    .is_none_or(|wanted| wanted.trim_end() == is.trim_end())
            });
            if agrees && info.token_initialized() {
                matching.push(slot);
            } else {
                others.push(info.label().trim_end().to_owned());
            }
        }
        match matching[..] {
            [slot] => Ok(slot),
            [] => Err(refused(format!(
                "{} has no token {}; it has: {}",
                self.module_path.display(),
                self.token_name(),
                others.join(", ")
            ))),
            _ => Err(refused(format!(
                "{} has several tokens {}: name one with serial=",
                self.module_path.display(),
                self.token_name()
            ))),
        }
    }

    fn pin(&self) -> Result<String, LedgerError> {
        let text = read_private(Path::new(&self.pin_source))?;
        let pin = text.trim_end_matches(['\r', '\n']);
        if pin.is_empty() {
            return Err(refused(format!(
                "{} holds no PIN",
                self.pin_source.display()
            )));
        }
        Ok(pin.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_are_taken_apart() {
        let key = TokenKey::parse(
            "pkcs11:token=Cairn%20root;serial=ab%3b1;object=store-1;id=%01%ff;type=secret-key\
             ?module-path=/usr/lib/m.so&pin-source=file:///etc/cairn/pin",
        )
        .unwrap();
        assert_eq!(
            key,
            TokenKey {
                token: Some("Cairn root".into()),
                serial: Some("ab;1".into()),
                object: Some("store-1".into()),
                id: Some(vec![1, 255]),
                module_path: "/usr/lib/m.so".into(),
                pin_source: "/etc/cairn/pin".into(),
                ..TokenKey::default()
            }
        );
        for source in ["/etc/pin", "file:/etc/pin", "file:///etc/pin"] {
            let uri = format!("pkcs11:token=t;object=o?pin-source={source}&module-path=/m.so");
            let key = TokenKey::parse(&uri).unwrap();
            assert_eq!(key.pin_source, Path::new("/etc/pin"));
        }
    }

    #[test]
    fn wrong_uris_are_refused_with_what_is_wrong() {
        let good = "token=t;object=o?module-path=/m.so&pin-source=/pin";
        assert!(TokenKey::parse(&format!("pkcs11:{good}")).is_ok());
        for (uri, why) in [
            (good, "begins with pkcs11:"),
            ("pkcs11:", "names no token"),
            (
                "pkcs11:object=o?module-path=/m.so&pin-source=/pin",
                "names no token",
            ),
            (
                "pkcs11:token=t?module-path=/m.so&pin-source=/pin",
                "names no key",
            ),
            ("pkcs11:token=t;object=o?pin-source=/pin", "module-path"),
            (
                "pkcs11:token=t;object=o?module-path=m.so&pin-source=/pin",
                "whole path",
            ),
            ("pkcs11:token=t;object=o?module-path=/m.so", "pin-source"),
            (
                "pkcs11:token=t;object=o?module-path=/m.so&pin-source=|cmd",
                "pin-source",
            ),
            (
                "pkcs11:token=t;object=o?module-path=/m.so&pin-value=1234",
                "into a file",
            ),
            ("pkcs11:token=t;token=u;object=o", "twice"),
            ("pkcs11:token=t;object=o;slot-id=4", "slot-id"),
            ("pkcs11:token=t;object=o;type=private", "secret-key"),
            ("pkcs11:token=%4;object=o", "not encoded right"),
            ("pkcs11:token=%+4;object=o", "not encoded right"),
            ("pkcs11:token=%ff;object=o", "UTF-8"),
            ("pkcs11:token", "NAME=VALUE"),
        ] {
            match TokenKey::parse(uri) {
                Err(LedgerError::RootKey(text)) => {
                    assert!(text.contains(why), "{uri}: {text}");
                    assert!(!text.contains("1234"), "{text}");
                }
                other => panic!("{uri}: {other:?}"),
            }
        }
    }
}
