//! Devices on which a patient wants to be told that there is a message: of a browser, where its push service is (Web
//! Push, RFC 8030), and the keys by which it alone can read what is sent (RFC 8291); of an application on a telephone
//! (`oauth/told.rs`), the token by which the service of the telephone's maker knows it.
//!
//! They are kept in one document of the patient's, sealed under the patient's key, so that the bound holds and nothing
//! is left when that key is destroyed. A browser is one patient's: whoever turns notifications on in it last has them.
//! Each device belongs to the session that was open in its browser last, and ends where somebody ends that: by signing
//! out, there or from elsewhere, and as an administrator. One that is over by itself ends nothing, because notifications
//! are for those who are not signed in. All end where the way in is closed. Who acts for a patient gets none.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fhir::Resource;
use ledger::{Draft, Expected, Ledger, LedgerError, Owner, Query, TenantId};
use serde::{Deserialize, Serialize};

use super::documents::{Kept, SessionDocument, Stage, commit, draft, find, get};
use super::manage::invalid;
use super::places::{AppService, NoPush, PushBrowser, PushDevice, PushPlace};
use super::{Identity, RETRIES, Session};
use crate::audit::{Event, Record};
use crate::consent::only_at;
use crate::{Agent, Permit, Role, TrustError, Vault, kinds};

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
/// Bytes of a device's id, which nobody can guess.
const ID_BYTES: usize = 16;

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
    /// The key that its push service was told to take messages from, as the page had it.
    pub signer: String,
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
    /// Whether it is the browser that asks, as far as is known.
    pub this: bool,
    /// Whether it is an application on a telephone.
    pub is_app: bool,
}

/// All devices of a patient.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct DevicesDocument {
    patient: String,
    devices: Vec<Named>,
    /// Where they are and what opens what is sent to them. Members of their own, so that lists of the others hold
    /// nothing of them.
    pub(super) ways: Vec<Way>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Named {
    id: String,
    name: String,
    since_ms: u64,
}

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Way {
    pub(super) id: String,
    /// Of an application, the service that knows it and the token, with a colon in between: the older programs that know
    /// none of these leave it as it is, because it has no key.
    pub(super) endpoint: String,
    pub(super) key: String,
    pub(super) auth: String,
    /// What stands for the key that its push service takes messages from. It takes none from another.
    #[serde(default)]
    pub(super) signer: String,
    /// The session that was open in its browser last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) session: Option<String>,
    /// The grant of the application that it is. One that has none, because an older program has written it, is let in
    /// by nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) grant: Option<String>,
    /// When the application said its token last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) seen_ms: Option<u64>,
}

impl Way {
    /// The application that it is: its service and token.
    pub(super) fn app(&self) -> Option<(AppService, &str)> {
        let (service, token) = self.endpoint.split_once(':')?;
        Some((AppService::parse(service)?, token))
    }

    /// How it is sent to, where that can be told.
    fn device(&self) -> Option<PushDevice> {
        let place = match self.app() {
            Some((service, token)) => PushPlace::App {
                service,
                token: token.to_owned(),
            },
            None => PushPlace::Browser(PushBrowser {
                key: bytes(&self.key, KEY_BYTES)?,
                auth: bytes(&self.auth, AUTH_BYTES)?,
                endpoint: self.endpoint.clone(),
                signer: self.signer.clone(),
            }),
        };
        Some(PushDevice {
            id: self.id.clone(),
            place,
            seen_ms: self.seen_ms.unwrap_or(0),
            grant: self.grant.clone(),
        })
    }
}

/// Whose a device is, and what ends with it.
#[derive(Clone, Copy)]
pub(super) enum Holder<'a> {
    /// A browser's: the session in it.
    Session(&'a Session),
    /// An application's: the person who let it in, and the grant.
    Grant(&'a Agent, &'a str),
}

impl Holder<'_> {
    fn agent(&self) -> &Agent {
        match self {
            Self::Session(session) => &session.agent,
            Self::Grant(agent, _) => agent,
        }
    }
}

/// Which devices end.
#[derive(Clone, Copy)]
pub(super) enum Ending<'a> {
    /// All of them.
    All,
    /// Those of a session.
    Of(&'a str),
    /// Those of all sessions but one.
    But(&'a str),
}

impl Ending<'_> {
    fn has(self, way: &Way) -> bool {
        let session = way.session.as_deref();
        match self {
            Self::All => true,
            Self::Of(id) => session == Some(id),
            Self::But(id) => session != Some(id),
        }
    }
}

impl DevicesDocument {
    pub(super) fn remove(&mut self, is_it: impl Fn(&Way) -> bool) -> bool {
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
    // Four letters for three bytes; what is longer is not decoded.
    if text.len() > length.div_ceil(3) * 4 {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()?;
    (bytes.len() == length).then_some(bytes)
}

fn id_of(ledger: &Ledger, tenant: TenantId, patient: &str) -> String {
    let owner = Owner::Patient(patient.to_owned());
    ledger.derive_id(tenant, &owner, &format!("push-devices/{patient}"))
}

/// The document as it is, and which version has to be there when it is written.
pub(super) async fn kept(
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

/// What can't be read is no device where people see theirs or sign out: nothing is sent to it, and nobody stays signed in,
/// or is shown no page, for it.
fn or_none<T: Default>(found: Result<T, TrustError>) -> Result<T, TrustError> {
    match found {
        Err(TrustError::Damaged(_) | TrustError::Ledger(LedgerError::Damaged(_))) => {
            metrics::counter!("push_devices_unreadable_total").increment(1);
            Ok(T::default())
        }
        other => other,
    }
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
        .flat_map(|way| {
            [
                ("endpoint", way.endpoint.as_str()),
                ("device", way.id.as_str()),
            ]
        })
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
        // A journey has to take its next channel where nobody would send.
        let sends = self.notifications();
        if !sends.any() {
            return Ok(Err(NoPush::Off));
        }
        // Who wants to be reached at one address alone is told nowhere else.
        if only_at(patient, now_ms).is_some() {
            return Ok(Err(NoPush::Unwanted));
        }
        let Some(id) = patient.id() else {
            return Ok(Err(NoPush::Nowhere));
        };
        let (document, _) = kept(self.ledger(), tenant, id).await?;
        let ways = document.map(|document| document.ways).unwrap_or_default();
        let devices: Vec<PushDevice> = (ways.iter())
            .filter_map(Way::device)
            .filter(|device| sends.reaches(&device.place))
            .collect();
        Ok(if devices.is_empty() {
            Err(NoPush::Nowhere)
        } else {
            Ok(devices)
        })
    }
}

impl Identity {
    /// One's own devices with notifications, in the order in which they came; none where they can't be read.
    ///
    /// # Errors
    /// `Invalid` for who is no patient; `Ledger`.
    pub async fn push_devices(&self, session: &Session) -> Result<Vec<PushDeviceView>, TrustError> {
        let patient = own(&session.agent)?;
        let found = kept(&self.inner.ledger, session.agent.tenant, patient).await;
        let document = or_none(found.map(|(document, _)| document))?;
        let Some(DevicesDocument { devices, ways, .. }) = document else {
            return Ok(Vec::new());
        };
        let here = Ending::Of(&session.id);
        let mut views = Vec::new();
        for device in devices {
            let way = ways.iter().find(|way| way.id == device.id);
            let is_app = way.is_some_and(|way| way.app().is_some());
            // One that isn't let in any more is told nothing.
            if let Some(way) = way.filter(|_| is_app)
                && !self
                    .is_told(session.agent.tenant, way.grant.as_deref(), patient)
                    .await?
            {
                continue;
            }
            views.push(PushDeviceView {
                this: way.is_some_and(|way| here.has(way)),
                is_app,
                id: device.id,
                name: device.name,
                since_ms: device.since_ms,
            });
        }
        Ok(views)
    }

    /// Turns notifications on in a browser of one's own, and gives back the device's id. One that has them already keeps
    /// its place under the new name; another patient who had them in it has them there no more.
    ///
    /// # Errors
    /// `Invalid` for who is no patient, for what is no browser's, and past [`PUSH_DEVICES_MAX`]; `SignIn` when the
    /// session has ended; `Ledger`.
    pub async fn add_push_device(
        &self,
        session: &Session,
        new: &NewPushDevice,
    ) -> Result<String, TrustError> {
        own(&session.agent)?;
        let key = bytes(&new.key, KEY_BYTES).filter(|key| key.first() == Some(&4));
        if key.is_none()
            || bytes(&new.auth, AUTH_BYTES).is_none()
            || new.endpoint.len() > PUSH_ENDPOINT_MAX
        {
            return invalid("This browser gave nothing that notifications could be sent to.");
        }
        let signer = self.push_key(session.agent.tenant).await?;
        if new.signer != signer.public() {
            return invalid("This page is too old. Load it again, and try once more.");
        }
        let way = Way {
            id: String::new(),
            endpoint: new.endpoint.clone(),
            key: new.key.clone(),
            auth: new.auth.clone(),
            signer: signer.print(),
            session: Some(session.id.clone()),
            grant: None,
            seen_ms: None,
        };
        let note = "notifications turned on in a browser";
        self.put_device(Holder::Session(session), &way, &new.name, note)
            .await
    }

    /// Writes where a device is, together with what it ends with, and gives back its id. One that is known by its place
    /// keeps that under the new name; another patient who had it has it no more.
    pub(super) async fn put_device(
        &self,
        holder: Holder<'_>,
        new: &Way,
        name: &str,
        note: &str,
    ) -> Result<String, TrustError> {
        let name = name.trim();
        let is_plain = |text: &str| text.chars().all(|one| !one.is_control());
        if name.is_empty() || name.chars().count() > PUSH_NAME_MAX || !is_plain(name) {
            return invalid("Give the device a short name.");
        }
        let agent = holder.agent();
        let (ledger, tenant, patient) = (&self.inner.ledger, agent.tenant, own(agent)?);
        let is_new = |way: &Way| way.endpoint == new.endpoint;
        // Whoever has no room, or is signed out by now, takes nothing from others.
        self.still_open(holder).await?;
        let (found, _) = kept(ledger, tenant, patient).await?;
        if let Some(mut document) = found {
            self.drop_untold(tenant, &mut document).await?;
            if document.devices.len() >= PUSH_DEVICES_MAX && !document.ways.iter().any(is_new) {
                return invalid(NO_ROOM);
            }
        }
        self.take_from_others(tenant, patient, &new.endpoint)
            .await?;
        for _ in 0..RETRIES {
            let (found, expected) = kept(ledger, tenant, patient).await?;
            let mut document = found.unwrap_or_else(|| DevicesDocument {
                patient: patient.to_owned(),
                devices: Vec::new(),
                ways: Vec::new(),
            });
            // What is told nothing any more takes no place.
            self.drop_untold(tenant, &mut document).await?;
            let known = (document.ways.iter_mut()).find(|way| is_new(way));
            let known = known.map(|way| {
                let id = std::mem::take(&mut way.id);
                *way = Way {
                    id: id.clone(),
                    ..new.clone()
                };
                id
            });
            let id = match known {
                Some(id) => {
                    for device in (document.devices.iter_mut()).filter(|device| device.id == id) {
                        name.clone_into(&mut device.name);
                    }
                    id
                }
                None if document.devices.len() >= PUSH_DEVICES_MAX => return invalid(NO_ROOM),
                None => {
                    let mut dice = [0; ID_BYTES];
                    ledger.entropy().fill(&mut dice);
                    let id = URL_SAFE_NO_PAD.encode(dice);
                    document.devices.push(Named {
                        id: id.clone(),
                        name: name.to_owned(),
                        since_ms: self.now_ms(),
                    });
                    document.ways.push(Way {
                        id: id.clone(),
                        ..new.clone()
                    });
                    id
                }
            };
            let open = self.still_open(holder).await?;
            let mut drafts = vec![written(ledger, tenant, expected, &document)?];
            drafts.extend(open);
            let mut record = Record::new(agent, Event::DEVICES);
            record.purpose = Some(agent.role.purpose());
            record.note = Some(note);
            record.patients.insert(patient.to_owned());
            if let Some(outcome) = self.tried(tenant, drafts, record).await {
                outcome?;
                self.keep_last(tenant, &new.endpoint).await?;
                return Ok(id);
            }
        }
        Err(LedgerError::Conflict.into())
    }

    /// Takes applications out of a document that aren't let in any more.
    async fn drop_untold(
        &self,
        tenant: TenantId,
        document: &mut DevicesDocument,
    ) -> Result<(), TrustError> {
        let mut untold = Vec::new();
        for way in document.ways.iter().filter(|way| way.app().is_some()) {
            let grant = way.grant.as_deref();
            if !self.is_told(tenant, grant, &document.patient).await? {
                untold.push(way.id.clone());
            }
        }
        document.remove(|way| untold.contains(&way.id));
        Ok(())
    }

    /// Says that somebody has just signed in in the browser of a device, as far as it is one of their own: it ends with
    /// that session now.
    ///
    /// # Errors
    /// `SignIn` when the session has ended; `Ledger`, `Damaged`.
    pub async fn is_at_push_device(&self, session: &Session, id: &str) -> Result<(), TrustError> {
        let Ok(patient) = own(&session.agent) else {
            return Ok(());
        };
        let (ledger, tenant) = (&self.inner.ledger, session.agent.tenant);
        for _ in 0..RETRIES {
            let (Some(mut document), expected) = kept(ledger, tenant, patient).await? else {
                return Ok(());
            };
            let mut browsers = (document.ways.iter_mut()).filter(|way| way.app().is_none());
            let Some(way) = browsers.find(|way| way.id == id) else {
                return Ok(());
            };
            way.session = Some(session.id.clone());
            let open = self.still_open(Holder::Session(session)).await?;
            let mut drafts = vec![written(ledger, tenant, expected, &document)?];
            drafts.extend(open);
            let mut record = Record::new(&session.agent, Event::DEVICES);
            record.purpose = Some(session.agent.role.purpose());
            record.note = Some("signed in on a device with notifications");
            record.patients.insert(patient.to_owned());
            if let Some(outcome) = self.tried(tenant, drafts, record).await {
                return outcome;
            }
        }
        Err(LedgerError::Conflict.into())
    }

    /// A session as it is kept, to be written with its device: whoever ends it meanwhile is met, and ends both. Memory may
    /// know one that somebody has ended at another server. A grant is asked for again when something is sent.
    async fn still_open(&self, holder: Holder<'_>) -> Result<Option<Draft>, TrustError> {
        let session = match holder {
            Holder::Session(session) => session,
            Holder::Grant(agent, grant) => {
                let is_told = self.is_told(agent.tenant, Some(grant), own(agent)?);
                return if is_told.await? {
                    Ok(None)
                } else {
                    Err(TrustError::SignIn)
                };
            }
        };
        let tenant = session.agent.tenant;
        let found: Option<Kept<SessionDocument>> =
            get(&self.inner.ledger, tenant, kinds::SESSION, &session.id).await?;
        let Some(open) = found.filter(|kept| kept.body.stage == Stage::Open) else {
            return Err(TrustError::SignIn);
        };
        let expected = Expected::Version(open.version);
        self.session_draft(tenant, &session.id, expected, &open.body)
            .map(Some)
    }

    /// Turns notifications off on a device, whoever's it is, because its browser forgets what it knows of us: whoever
    /// signed out in it last. Only that browser knows the id besides its patient.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn leave_push_device(&self, tenant: TenantId, id: &str) -> Result<(), TrustError> {
        if !is_device_id(id) {
            return Ok(());
        }
        let note = "notifications turned off in a browser that somebody signed out in";
        self.take("device", id, tenant, (None, note), |way| way.id == id)
            .await
    }

    /// Turns notifications off on a device of one's own.
    ///
    /// # Errors
    /// `Invalid` for who is no patient, and when there is no such device; `Ledger`.
    pub async fn remove_push_device(&self, session: &Session, id: &str) -> Result<(), TrustError> {
        let patient = own(&session.agent)?;
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
        gone: &[PushDevice],
    ) -> Result<(), TrustError> {
        let mut record = Record::under(permit, Event::DEVICES);
        record.note = Some("devices that their push service doesn't know any more forgotten");
        record.patients.insert(patient.to_owned());
        // One that has been turned on anew meanwhile, for another key or elsewhere, is another.
        let is_it = |way: &Way| {
            let now = way.device();
            now.is_some_and(|now| gone.iter().any(|one| is_same(&now, one)))
        };
        self.without(permit.tenant(), patient, is_it, &record)
            .await
            .map(drop)
    }

    /// Turns a patient's own notifications off on all devices but that which they hold, where they sign out everywhere
    /// else.
    pub(super) async fn end_push_devices(&self, session: &Session) -> Result<(), TrustError> {
        let Ok(patient) = own(&session.agent) else {
            return Ok(());
        };
        let mut record = Record::new(&session.agent, Event::DEVICES);
        record.purpose = Some(session.agent.role.purpose());
        record.note = Some("notifications turned off on all other devices");
        record.patients.insert(patient.to_owned());
        let tenant = session.agent.tenant;
        let ending = Ending::But(&session.id);
        let is_it = |way: &Way| ending.has(way);
        or_none(self.without(tenant, patient, is_it, &record).await).map(drop)
    }

    /// Devices of a patient, taken away with something else; none where they can't be read.
    pub(super) async fn push_device_deletions(
        &self,
        tenant: TenantId,
        patient: Option<&str>,
        ending: Ending<'_>,
    ) -> Result<Option<Draft>, TrustError> {
        let Some(patient) = patient else {
            return Ok(None);
        };
        let ledger = &self.inner.ledger;
        let found = kept(ledger, tenant, patient).await;
        let found = found.map(|(document, expected)| document.zip(Some(expected)));
        let Some((mut document, expected)) = or_none(found)? else {
            return Ok(None);
        };
        if !document.remove(|way| ending.has(way)) {
            return Ok(None);
        }
        written(ledger, tenant, expected, &document).map(Some)
    }

    /// Takes devices of a patient away; says whether there were any.
    pub(super) async fn without(
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
        tenant: TenantId,
        patient: &str,
        endpoint: &str,
    ) -> Result<(), TrustError> {
        let note = "notifications turned off on a device that is somebody else's now";
        let but = Some(patient);
        self.take("endpoint", endpoint, tenant, (but, note), |way| {
            way.endpoint == endpoint
        })
        .await
    }

    /// Of those who said one place at the same moment, so that none found the others before, whoever said it last keeps it.
    /// Each looks once it has written, so that the last to write sees them all.
    async fn keep_last(&self, tenant: TenantId, endpoint: &str) -> Result<(), TrustError> {
        let ledger = &self.inner.ledger;
        let kind = kinds::PUSH_DEVICES;
        let query = Query::Token(ledger.token(tenant, kind, "endpoint", endpoint));
        let found: Vec<Kept<DevicesDocument>> =
            find(ledger, tenant, kind, &query, OTHERS_MAX).await?;
        let said = found.iter().flat_map(|one| {
            let ways = one.body.ways.iter().filter(|way| way.endpoint == endpoint);
            ways.map(|way| (way.seen_ms, one.body.patient.as_str()))
        });
        match said.max() {
            Some((_, last)) if found.len() > 1 => {
                self.take_from_others(tenant, last, endpoint).await
            }
            _ => Ok(()),
        }
    }

    /// Takes a device away from whoever has it, but for one patient. What they have is nothing that whoever asks did.
    async fn take(
        &self,
        name: &str,
        value: &str,
        tenant: TenantId,
        (but, note): (Option<&str>, &str),
        is_it: impl Fn(&Way) -> bool,
    ) -> Result<(), TrustError> {
        let ledger = &self.inner.ledger;
        let kind = kinds::PUSH_DEVICES;
        let query = Query::Token(ledger.token(tenant, kind, name, value));
        let found: Vec<Kept<DevicesDocument>> =
            find(ledger, tenant, kind, &query, OTHERS_MAX).await?;
        for other in found {
            let theirs = other.body.patient;
            if but == Some(theirs.as_str()) {
                continue;
            }
            let agent = Agent::system(tenant, "identity");
            let mut record = Record::new(&agent, Event::DEVICES);
            record.note = Some(note);
            record.patients.insert(theirs.clone());
            self.without(tenant, &theirs, &is_it, &record).await?;
        }
        Ok(())
    }
}

const NO_ROOM: &str =
    "You have notifications on five devices, and there can't be more. Remove one first.";

/// Whether a device is the one that it was when something was sent to it: turned on anew for another key, or by an
/// application that has said its token again, it is another.
fn is_same(now: &PushDevice, then: &PushDevice) -> bool {
    let signer = |device: &PushDevice| match &device.place {
        PushPlace::Browser(browser) => Some((browser.endpoint.clone(), browser.signer.clone())),
        PushPlace::App { .. } => None,
    };
    let is_app = |device: &PushDevice| matches!(device.place, PushPlace::App { .. });
    now.id == then.id
        && now.seen_ms == then.seen_ms
        && signer(now) == signer(then)
        && (!is_app(now) || now.place == then.place)
}

/// Whether something may be a device's id: anybody may write a cookie.
fn is_device_id(text: &str) -> bool {
    bytes(text, ID_BYTES).is_some()
}

/// Whose devices somebody looks after.
pub(super) fn own(agent: &Agent) -> Result<&str, TrustError> {
    match (agent.role, &agent.patient) {
        (Role::Patient, Some(patient)) => Ok(patient),
        _ => invalid("Notifications are turned on by patients, for themselves."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_damaged_is_no_device_and_what_fails_is_told() {
        let words = || "broken".to_owned();
        for error in [
            TrustError::Damaged(words()),
            TrustError::Ledger(LedgerError::Damaged(words())),
        ] {
            assert!(!or_none::<bool>(Err(error)).expect("none"));
        }
        assert!(or_none(Ok(true)).expect("as it is"));
        let failed = or_none::<bool>(Err(LedgerError::Conflict.into()));
        assert!(matches!(
            failed,
            Err(TrustError::Ledger(LedgerError::Conflict))
        ));
    }
}
