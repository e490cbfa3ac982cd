//! Applications on telephones that a patient is told in that there is a message: the token by which the service of the
//! telephone's maker knows the application (FCM, APNs), beside the browsers of `devices.rs` and in the same document.
//!
//! An application says its token by its access token, and is told as long as it is let in: until its grant is taken
//! away, ends, or, without `offline_access`, its session is over. That is asked anew at each sending, so that nothing
//! that ends a grant has to know of devices.

use ledger::TenantId;

use super::grants::GrantDocument;
use crate::audit::{Event, Record};
use crate::identity::Identity;
use crate::identity::devices::{Holder, PUSH_ENDPOINT_MAX, Way, own};
use crate::identity::documents::{Kept, get};
use crate::identity::manage::invalid;
use crate::identity::places::{AppService, PushDevice, PushPlace};
use crate::{Agent, Role, TrustError, kinds};

/// Letters and digits of a token of APNs: today's are 32 bytes in hexadecimal, and more are to be reckoned with.
const APNS_TOKEN: std::ops::RangeInclusive<usize> = 64..=200;
/// Characters of a token of FCM at least: today's have about 150.
const FCM_TOKEN_MIN: usize = 20;

/// An application that is to be told.
#[derive(Clone)]
pub struct NewAppDevice {
    /// The service that knows it.
    pub service: AppService,
    /// What that service knows it by.
    pub token: String,
    /// What the patient is to see it as, such as the telephone's name.
    pub name: String,
}

/// A token as it is kept, if it can be one. Nothing that has a meaning in an address is in it.
fn token(service: AppService, text: &str) -> Option<String> {
    match service {
        AppService::Fcm => {
            let is_it = |byte: u8| byte.is_ascii_alphanumeric() || b"-_:.~".contains(&byte);
            let fits = text.len() >= FCM_TOKEN_MIN && text.bytes().all(is_it);
            fits.then(|| text.to_owned())
        }
        AppService::Apns => {
            let fits = APNS_TOKEN.contains(&text.len()) && text.len().is_multiple_of(2);
            let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
            (fits && is_hex).then(|| text.to_ascii_lowercase())
        }
    }
}

impl Identity {
    /// Turns notifications on in an application that a patient let in, and gives back the device's id. An application
    /// that says its token again keeps its place.
    ///
    /// # Errors
    /// `Invalid` for who is no patient's application, for what is no token, and past `PUSH_DEVICES_MAX`; `SignIn` when
    /// it isn't let in any more; `Ledger`.
    pub async fn add_app_device(
        &self,
        agent: &Agent,
        new: &NewAppDevice,
    ) -> Result<String, TrustError> {
        own(agent)?;
        let grant = grant_of(agent)?;
        let kept = token(new.service, &new.token);
        let Some(token) = kept.filter(|token| token.len() < PUSH_ENDPOINT_MAX) else {
            return invalid("This is no token that the service gives to an application.");
        };
        let way = Way {
            id: String::new(),
            endpoint: format!("{}:{token}", new.service.code()),
            key: String::new(),
            auth: String::new(),
            signer: String::new(),
            session: None,
            grant: Some(grant.to_owned()),
            seen_ms: Some(self.now_ms()),
        };
        let note = "notifications turned on in an application";
        self.put_device(Holder::Grant(agent, grant), &way, &new.name, note)
            .await
    }

    /// Turns notifications off in an application, which alone can say so by its access token.
    ///
    /// # Errors
    /// `Invalid` for who is no patient's application, and when it has no such device; `Ledger`.
    pub async fn remove_app_device(&self, agent: &Agent, id: &str) -> Result<(), TrustError> {
        let (patient, grant) = (own(agent)?, grant_of(agent)?);
        let mut record = Record::new(agent, Event::DEVICES);
        record.purpose = Some(agent.role.purpose());
        record.note = Some("notifications turned off in an application");
        record.patients.insert(patient.to_owned());
        let is_it = |way: &Way| way.id == id && way.grant.as_deref() == Some(grant);
        match self.without(agent.tenant, patient, is_it, &record).await? {
            true => Ok(()),
            false => invalid("There is no such device."),
        }
    }

    /// Of devices that a patient is told on, those that aren't let in any more: of applications whose grant has ended.
    /// For the part of Cairn that sends.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn untold_devices(
        &self,
        tenant: TenantId,
        patient: &str,
        devices: &[PushDevice],
    ) -> Result<Vec<String>, TrustError> {
        let mut untold = Vec::new();
        for device in devices {
            if matches!(device.place, PushPlace::App { .. })
                && !self
                    .is_told(tenant, device.grant.as_deref(), patient)
                    .await?
            {
                untold.push(device.id.clone());
            }
        }
        Ok(untold)
    }

    /// Whether the application of a grant is let in by a patient now.
    pub(in crate::identity) async fn is_told(
        &self,
        tenant: TenantId,
        grant: Option<&str>,
        patient: &str,
    ) -> Result<bool, TrustError> {
        match grant {
            None => Ok(false),
            Some(id) => self.opens(tenant, id, patient).await,
        }
    }

    /// Whether a grant of a patient's opens something now, with an application that wasn't revoked. The grant isn't
    /// written together with a device: a refresh token that is used in the same moment would be taken for a stolen one,
    /// and what was ended meanwhile is told nothing in any case.
    async fn opens(&self, tenant: TenantId, id: &str, patient: &str) -> Result<bool, TrustError> {
        let found: Option<Kept<GrantDocument>> =
            get(&self.inner.ledger, tenant, kinds::GRANT, id).await?;
        let Some(kept) = found else {
            return Ok(false);
        };
        let of = &kept.body.agent;
        let is_theirs = of.role == Role::Patient && of.patient.as_deref() == Some(patient);
        if !is_theirs || !self.lives(tenant, &kept.body).await? {
            return Ok(false);
        }
        let app = self.app_document(tenant, &kept.body.client).await?;
        Ok(app.is_some_and(|app| app.is_active()))
    }
}

/// The grant by which an application asks for a person.
fn grant_of(agent: &Agent) -> Result<&str, TrustError> {
    let grant = agent.app().and_then(|access| access.grant.as_deref());
    match grant {
        Some(grant) => Ok(grant),
        None => invalid("Notifications are turned on so by applications that a patient let in."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_nothing_that_an_address_could_mean_something_by() {
        let apple = "AB12".repeat(16);
        assert_eq!(token(AppService::Apns, &apple), Some(apple.to_lowercase()));
        let google = "cX0:APA91bH-_x.~".repeat(4);
        assert_eq!(token(AppService::Fcm, &google), Some(google.clone()));
        for (service, text) in [
            (AppService::Apns, String::new()),
            (AppService::Apns, "ab".repeat(31)),
            (AppService::Apns, "ab".repeat(101)),
            (AppService::Apns, format!("{}a", "ab".repeat(32))),
            (AppService::Apns, format!("{}/?", "ab".repeat(32))),
            (AppService::Apns, format!("{}zz", "ab".repeat(32))),
            (AppService::Fcm, "short".to_owned()),
            (AppService::Fcm, format!("{google}/../x")),
            (AppService::Fcm, format!("{google} ")),
            (AppService::Fcm, format!("{google}\"")),
            (AppService::Fcm, format!("{google}\n")),
        ] {
            assert_eq!(token(service, &text), None, "{text:?}");
        }
        for service in AppService::ALL {
            assert_eq!(AppService::parse(service.code()), Some(service));
        }
        assert_eq!(AppService::parse("FCM"), None);
    }
}
