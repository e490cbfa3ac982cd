//! Devices on which a patient wants to be told that there is a message (Web Push, RFC 8030): where a browser's push
//! service is, and the keys by which that browser alone can read what is sent (RFC 8291).
//!
//! They are kept in one document of the patient's, sealed under the patient's key, so that the bound holds and nothing
//! is left when that key is destroyed. A browser is one patient's: whoever turns notifications on in it last has them.
//! They end where the patient is signed out everywhere, by themselves or by an administrator, and where their way in is
//! closed. Who acts for a patient gets none.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fhir::Resource;
use ledger::{Draft, Expected, Ledger, LedgerError, Owner, Query, TenantId};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::documents::{Kept, commit, draft, find, get};
use super::manage::invalid;
use super::{Identity, RETRIES, Session};
use crate::audit::{Event, Record};
use crate::consent::only_at;
use crate::{Agent, Permit, Purpose, Role, TrustError, Vault, kinds};

/// The most devices of one patient: a telephone, a tablet and a few computers.
pub const PUSH_DEVICES_MAX: usize = 5;
/// Characters of a device's name.
pub const PUSH_NAME_MAX: usize = 60;
/// Characters of a push service's address for a browser. Those of today's services are below 600.
pub const PUSH_ENDPOINT_MAX: usize = 1_000;
/// Bytes of a browser's public key: a point of P-256, not compressed (RFC 8291, section 3.1).
const KEY_BYTES: usize = 65;
/// Bytes of what only the browser and who sends know (section 3.2).
const AUTH_BYTES: usize = 16;
/// The most patients from whom one browser is taken at once; it is one in all but a race.
const OTHERS_MAX: usize = 100;
/// How long a token for a push service lasts. It may be a day (RFC 8292, section 2), and clocks differ.
const TOKEN_S: u64 = 12 * 3_600;

/// A browser in which a patient turns notifications on.
#[derive(Clone)]
pub struct NewPushDevice {
    /// What the patient calls it.
    pub name: String,
    /// Where its push service takes messages for it. Whoever passes it on has looked at where that is.
    pub endpoint: String,
    /// Its public key, in base64url.
    pub key: String,
    /// Its secret, in base64url.
    pub auth: String,
}

/// A device of one's own, as its patient sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushDeviceView {
    /// Id.
    pub id: String,
    /// What the patient calls it.
    pub name: String,
    /// Since when, by the wall clock.
    pub since_ms: u64,
}

/// A device that messages go to.
#[derive(Clone, PartialEq, Eq)]
pub struct PushDevice {
    /// Id.
    pub id: String,
    /// Where its push service takes messages for it.
    pub endpoint: String,
    /// Its public key.
    pub key: Vec<u8>,
    /// Its secret.
    pub auth: Vec<u8>,
}

impl std::fmt::Debug for PushDevice {
    /// Shows the id alone: whoever knows the rest can send to it, or tell whose it is.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = formatter.debug_struct("PushDevice");
        shown.field("id", &self.id).finish_non_exhaustive()
    }
}

/// Why a patient gets no notifications.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoPush {
    /// They have turned them on nowhere.
    Nowhere,
    /// They want to be reached at one address alone.
    Unwanted,
}

/// All devices of a patient.
#[derive(Clone, Serialize, Deserialize)]
struct DevicesDocument {
    patient: String,
    devices: Vec<Named>,
    /// Where they are and what opens what is sent to them. Members of their own, so that lists of the others hold
    /// nothing of them.
    ways: Vec<Way>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Named {
    id: String,
    name: String,
    since_ms: u64,
}

#[derive(Clone, Serialize, Deserialize)]
struct Way {
    id: String,
    endpoint: String,
    key: String,
    auth: String,
}

impl DevicesDocument {
    fn remove(&mut self, is_it: impl Fn(&Way) -> bool) -> bool {
        let gone: Vec<String> = (self.ways.iter())
            .filter(|way| is_it(way))
            .map(|way| way.id.clone())
            .collect();
        self.ways.retain(|way| !gone.contains(&way.id));
        self.devices.retain(|device| !gone.contains(&device.id));
        !gone.is_empty()
    }
}

fn bytes(text: &str, length: usize) -> Option<Vec<u8>> {
    let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()?;
    (bytes.len() == length).then_some(bytes)
}

fn id_of(ledger: &Ledger, tenant: TenantId, patient: &str) -> String {
    let owner = Owner::Patient(patient.to_owned());
    ledger.derive_id(tenant, &owner, &format!("push-devices/{patient}"))
}

/// The document as it is, and which version has to be there when it is written.
async fn kept(
    ledger: &Ledger,
    tenant: TenantId,
    patient: &str,
) -> Result<(Option<DevicesDocument>, Expected), TrustError> {
    let id = id_of(ledger, tenant, patient);
    let stored = match ledger.get(tenant, kinds::PUSH_DEVICES, &id).await {
        // Nothing is left of a patient whose key is destroyed.
        Err(LedgerError::KeyDestroyed) => return Ok((None, Expected::Absent)),
        other => other?,
    };
    let Some(stored) = stored else {
        return Ok((None, Expected::Absent));
    };
    let expected = Expected::Version(stored.version);
    if stored.deleted {
        return Ok((None, expected));
    }
    let document: DevicesDocument = serde_json::from_slice(&stored.body)
        .map_err(|_| TrustError::Damaged("a patient's devices don't parse".to_owned()))?;
    Ok((
        Some(document).filter(|document| document.patient == patient),
        expected,
    ))
}

/// What is written; where no device is left, nothing is kept.
fn written(
    ledger: &Ledger,
    tenant: TenantId,
    expected: Expected,
    document: &DevicesDocument,
) -> Result<Draft, TrustError> {
    let id = id_of(ledger, tenant, &document.patient);
    let places: Vec<(&str, &str)> = (document.ways.iter())
        .map(|way| ("endpoint", way.endpoint.as_str()))
        .collect();
    let kind = kinds::PUSH_DEVICES;
    let mut draft = draft(ledger, tenant, kind, &id, expected, document, &places, None)?;
    draft.owner = Owner::Patient(document.patient.clone());
    if document.devices.is_empty() {
        draft.deleted = true;
        draft.body = Vec::new();
        draft.tokens = Vec::new();
    }
    Ok(draft)
}

impl Vault {
    /// The devices that a patient is told on now, or why there are none. For parts of Cairn that write to them.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn notifies_on(
        &self,
        tenant: TenantId,
        patient: &Resource,
        now_ms: i64,
    ) -> Result<Result<Vec<PushDevice>, NoPush>, TrustError> {
        // Who wants to be reached at one address alone is told nowhere else.
        if only_at(patient, now_ms).is_some() {
            return Ok(Err(NoPush::Unwanted));
        }
        let Some(id) = patient.id() else {
            return Ok(Err(NoPush::Nowhere));
        };
        let (document, _) = kept(self.ledger(), tenant, id).await?;
        let ways = document.map(|document| document.ways).unwrap_or_default();
        let devices: Vec<PushDevice> = (ways.into_iter())
            .filter_map(|way| {
                Some(PushDevice {
                    key: bytes(&way.key, KEY_BYTES)?,
                    auth: bytes(&way.auth, AUTH_BYTES)?,
                    id: way.id,
                    endpoint: way.endpoint,
                })
            })
            .collect();
        Ok(if devices.is_empty() {
            Err(NoPush::Nowhere)
        } else {
            Ok(devices)
        })
    }
}

impl Identity {
    /// One's own devices with notifications, in the order in which they came.
    ///
    /// # Errors
    /// `Invalid` for who is no patient; `Ledger`, `Damaged`.
    pub async fn push_devices(&self, session: &Session) -> Result<Vec<PushDeviceView>, TrustError> {
        let patient = own(session)?;
        let (document, _) = kept(&self.inner.ledger, session.agent.tenant, patient).await?;
        let devices = document
            .map(|document| document.devices)
            .unwrap_or_default();
        Ok((devices.into_iter())
            .map(|device| PushDeviceView {
                id: device.id,
                name: device.name,
                since_ms: device.since_ms,
            })
            .collect())
    }

    /// Turns notifications on in a browser of one's own. One that has them already keeps its place under the new name;
    /// another patient who had them in it has them there no more.
    ///
    /// # Errors
    /// `Invalid` for who is no patient, for what is no browser's, and past [`PUSH_DEVICES_MAX`]; `Ledger`.
    pub async fn add_push_device(
        &self,
        session: &Session,
        new: &NewPushDevice,
    ) -> Result<(), TrustError> {
        let patient = own(session)?;
        let name = new.name.trim();
        let is_plain = |text: &str| text.chars().all(|one| !one.is_control());
        if name.is_empty() || name.chars().count() > PUSH_NAME_MAX || !is_plain(name) {
            return invalid("Give the device a short name.");
        }
        let key = bytes(&new.key, KEY_BYTES).filter(|key| key.first() == Some(&4));
        if key.is_none()
            || bytes(&new.auth, AUTH_BYTES).is_none()
            || new.endpoint.len() > PUSH_ENDPOINT_MAX
        {
            return invalid("This browser gave nothing that notifications could be sent to.");
        }
        self.take_from_others(session, patient, &new.endpoint)
            .await?;
        let (ledger, tenant) = (&self.inner.ledger, session.agent.tenant);
        for _ in 0..RETRIES {
            let (found, expected) = kept(ledger, tenant, patient).await?;
            let mut document = found.unwrap_or_else(|| DevicesDocument {
                patient: patient.to_owned(),
                devices: Vec::new(),
                ways: Vec::new(),
            });
            let known = (document.ways.iter_mut()).find(|way| way.endpoint == new.endpoint);
            let id = known.map(|way| {
                way.key.clone_from(&new.key);
                way.auth.clone_from(&new.auth);
                way.id.clone()
            });
            match id {
                Some(id) => {
                    for device in (document.devices.iter_mut()).filter(|device| device.id == id) {
                        name.clone_into(&mut device.name);
                    }
                }
                None if document.devices.len() >= PUSH_DEVICES_MAX => {
                    return invalid(
                        "You have notifications on five devices, and there can't be more. Remove one first.",
                    );
                }
                None => {
                    let mut dice = [0; 8];
                    ledger.entropy().fill(&mut dice);
                    let id = URL_SAFE_NO_PAD.encode(dice);
                    document.devices.push(Named {
                        id: id.clone(),
                        name: name.to_owned(),
                        since_ms: self.now_ms(),
                    });
                    document.ways.push(Way {
                        id,
                        endpoint: new.endpoint.clone(),
                        key: new.key.clone(),
                        auth: new.auth.clone(),
                    });
                }
            }
            let draft = written(ledger, tenant, expected, &document)?;
            let mut record = Record::new(&session.agent, Event::DEVICES);
            record.purpose = Some(session.agent.role.purpose());
            record.note = Some("notifications turned on in a browser");
            record.patients.insert(patient.to_owned());
            if let Some(outcome) = self.tried(tenant, vec![draft], record).await {
                return outcome;
            }
        }
        Err(LedgerError::Conflict.into())
    }

    /// Turns notifications off on a device of one's own.
    ///
    /// # Errors
    /// `Invalid` for who is no patient, and when there is no such device; `Ledger`.
    pub async fn remove_push_device(&self, session: &Session, id: &str) -> Result<(), TrustError> {
        let patient = own(session)?;
        let mut record = Record::new(&session.agent, Event::DEVICES);
        record.purpose = Some(session.agent.role.purpose());
        record.note = Some("notifications turned off on a device");
        record.patients.insert(patient.to_owned());
        let is_it = |way: &Way| way.id == id;
        if self
            .without(session.agent.tenant, patient, is_it, &record)
            .await?
        {
            Ok(())
        } else {
            invalid("There is no such device.")
        }
    }

    /// Forgets devices of a patient that their push services don't know any more. For the part of Cairn that sends.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn forget_push_devices(
        &self,
        permit: &Permit,
        patient: &str,
        ids: &[String],
    ) -> Result<(), TrustError> {
        let mut record = Record::under(permit, Event::DEVICES);
        record.note = Some("devices that their push service doesn't know any more forgotten");
        record.patients.insert(patient.to_owned());
        let is_it = |way: &Way| ids.contains(&way.id);
        self.without(permit.tenant(), patient, is_it, &record)
            .await
            .map(drop)
    }

    /// Turns a patient's own notifications off on all devices, where they sign out everywhere: which of them is the one
    /// that they hold isn't known here.
    pub(super) async fn end_push_devices(&self, session: &Session) -> Result<(), TrustError> {
        let Ok(patient) = own(session) else {
            return Ok(());
        };
        let mut record = Record::new(&session.agent, Event::DEVICES);
        record.purpose = Some(session.agent.role.purpose());
        record.note = Some("notifications turned off on all devices");
        record.patients.insert(patient.to_owned());
        let tenant = session.agent.tenant;
        self.without(tenant, patient, |_| true, &record)
            .await
            .map(drop)
    }

    /// All devices of a patient, taken away with something else.
    pub(super) async fn push_device_deletions(
        &self,
        tenant: TenantId,
        patient: Option<&str>,
    ) -> Result<Vec<Draft>, TrustError> {
        let Some(patient) = patient else {
            return Ok(Vec::new());
        };
        let ledger = &self.inner.ledger;
        let (found, expected) = kept(ledger, tenant, patient).await?;
        let Some(mut document) = found else {
            return Ok(Vec::new());
        };
        document.remove(|_| true);
        Ok(vec![written(ledger, tenant, expected, &document)?])
    }

    /// Takes devices of a patient away; says whether there were any.
    async fn without(
        &self,
        tenant: TenantId,
        patient: &str,
        is_it: impl Fn(&Way) -> bool,
        record: &Record<'_>,
    ) -> Result<bool, TrustError> {
        let ledger = &self.inner.ledger;
        for _ in 0..RETRIES {
            let (found, expected) = kept(ledger, tenant, patient).await?;
            let Some(mut document) = found else {
                return Ok(false);
            };
            if !document.remove(&is_it) {
                return Ok(false);
            }
            let draft = written(ledger, tenant, expected, &document)?;
            let audit = self.inner.auditor.draft(record);
            match commit(ledger, tenant, vec![draft], audit).await {
                Err(LedgerError::Conflict) => {}
                other => return other.map(|()| true).map_err(TrustError::from),
            }
        }
        Err(LedgerError::Conflict.into())
    }

    /// A browser is one patient's: another who had notifications in it would read of them by what is somebody else's
    /// now.
    async fn take_from_others(
        &self,
        session: &Session,
        patient: &str,
        endpoint: &str,
    ) -> Result<(), TrustError> {
        let (ledger, tenant) = (&self.inner.ledger, session.agent.tenant);
        let kind = kinds::PUSH_DEVICES;
        let query = Query::Token(ledger.token(tenant, kind, "endpoint", endpoint));
        let found: Vec<Kept<DevicesDocument>> =
            find(ledger, tenant, kind, &query, OTHERS_MAX).await?;
        let is_it = |way: &Way| way.endpoint == endpoint;
        for other in found {
            let theirs = other.body.patient;
            if theirs == patient {
                continue;
            }
            // What another patient has is nothing that this one did.
            let agent = Agent::system(tenant, "identity");
            let mut record = Record::new(&agent, Event::DEVICES);
            record.note = Some("notifications turned off in a browser that is somebody else's now");
            record.patients.insert(theirs.clone());
            self.without(tenant, &theirs, is_it, &record).await?;
        }
        Ok(())
    }

    /// The key by which push services know an organisation (RFC 8292), made when it is needed first.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn push_key(&self, tenant: TenantId) -> Result<PushKey, TrustError> {
        let ledger = &self.inner.ledger;
        let id = ledger.derive_own_id(tenant, "push key");
        for _ in 0..RETRIES {
            let found: Option<Kept<KeyDocument>> =
                get(ledger, tenant, kinds::PUSH_KEY, &id).await?;
            if let Some(kept) = found {
                return PushKey::open(&kept.body);
            }
            let made = KeyDocument::make()?;
            let expected = Expected::Absent;
            let kind = kinds::PUSH_KEY;
            let draft = draft(ledger, tenant, kind, &id, expected, &made, &[], None)?;
            let agent = Agent::system(tenant, "identity");
            let mut record = Record::new(&agent, Event::KEYS_ROTATED);
            record.purpose = Some(Purpose::Administration);
            record.note = Some("a key was made by which push services know this organisation");
            let audit = self.inner.auditor.draft(&record);
            match commit(ledger, tenant, vec![draft], audit).await {
                // Somebody else was faster.
                Ok(()) | Err(LedgerError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(LedgerError::Conflict.into())
    }
}

/// Whose devices a session is about.
fn own(session: &Session) -> Result<&str, TrustError> {
    let agent = &session.agent;
    match (agent.role, &agent.patient) {
        (Role::Patient, Some(patient)) => Ok(patient),
        _ => invalid("Notifications are turned on by patients, for themselves."),
    }
}

#[derive(Serialize, Deserialize)]
struct KeyDocument {
    /// PKCS #8, in base64url.
    secret: String,
}

fn unable() -> TrustError {
    TrustError::Damaged("the key for push services can't be used".to_owned())
}

impl KeyDocument {
    /// A new key. The library's own randomness makes it, as it makes the keys of TLS.
    fn make() -> Result<Self, TrustError> {
        let pair =
            EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| unable())?;
        let secret = pair.to_pkcs8v1().map_err(|_| unable())?;
        Ok(Self {
            secret: URL_SAFE_NO_PAD.encode(secret.as_ref()),
        })
    }
}

/// The key by which push services know an organisation.
pub struct PushKey {
    pair: EcdsaKeyPair,
    public: String,
}

impl std::fmt::Debug for PushKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = formatter.debug_struct("PushKey");
        shown.field("public", &self.public).finish_non_exhaustive()
    }
}

impl PushKey {
    fn open(document: &KeyDocument) -> Result<Self, TrustError> {
        let secret = URL_SAFE_NO_PAD
            .decode(&document.secret)
            .map_err(|_| unable())?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &secret)
            .map_err(|_| unable())?;
        let public = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
        Ok(Self { pair, public })
    }

    /// The public key, as browsers are given it (`applicationServerKey`): a point of P-256, in base64url.
    #[must_use]
    pub fn public(&self) -> &str {
        &self.public
    }

    /// The value of `Authorization` for a push service (RFC 8292): who sends, signed. `contact` is where its operator
    /// finds who sends (`mailto:` or `https:`).
    ///
    /// # Errors
    /// `Damaged` when the key can't sign.
    pub fn authorization(
        &self,
        audience: &str,
        contact: &str,
        now_ms: u64,
    ) -> Result<String, TrustError> {
        let claims = json!({"aud": audience, "exp": now_ms / 1_000 + TOKEN_S, "sub": contact});
        let head = URL_SAFE_NO_PAD.encode(r#"{"typ":"JWT","alg":"ES256"}"#);
        let signed = format!("{head}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes());
        let signature = signature.map_err(|_| unable())?;
        let signature = URL_SAFE_NO_PAD.encode(signature.as_ref());
        Ok(format!("vapid t={signed}.{signature}, k={}", self.public))
    }
}
