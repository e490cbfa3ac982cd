//! Applications opened from a patient's page, or from that of a resource of theirs (EHR launch): a word that is good
//! once, for one patient and one session of one person.

use ledger::Expected;
use serde::{Deserialize, Serialize};

use super::apps::App;
use super::context::LaunchContext;
use super::systems::SystemDocument;
use crate::audit::{Event, Record};
use crate::identity::documents::{Kept, draft, get};
use crate::identity::manage::invalid;
use crate::identity::{Identity, Session, secrets};
use crate::{TrustError, kinds};

/// An application opened from a patient's page, for one sign-in of one person.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::identity) struct LaunchDocument {
    secret: String,
    client: String,
    session: String,
    pub(super) patient: String,
    /// What it was opened for beside the patient. A server of a build that knows nothing of it opens the application
    /// for the patient alone.
    #[serde(default, skip_serializing_if = "LaunchContext::is_empty")]
    pub(super) context: LaunchContext,
    pub(in crate::identity) expires_ms: u64,
}

/// What an application was opened for.
#[derive(Debug, Clone)]
pub struct Launched {
    /// The patient.
    pub patient: String,
    /// What beside.
    pub context: LaunchContext,
}

/// How long an application has to come back from having been opened.
const LAUNCH_LIFE_MS: u64 = 5 * 60_000;

impl Identity {
    /// Opens an application for a patient, and for a resource of theirs, which the person has been shown: the address
    /// to send the person's browser to. `iss` is FHIR's base.
    ///
    /// # Errors
    /// `Invalid` when the application can't be opened, or the resource is not the patient's; `Ledger`.
    pub async fn launch(
        &self,
        session: &Session,
        app: &str,
        patient: &str,
        context: &LaunchContext,
        iss: &str,
    ) -> Result<String, TrustError> {
        let tenant = session.agent.tenant;
        let document = self.app_document(tenant, app).await?;
        let address = document
            .filter(SystemDocument::is_active)
            .and_then(|document| document.app?.launch_uri);
        let Some(address) = address.filter(|_| session.agent.role.launches_apps()) else {
            return invalid("there is no such application to open");
        };
        if self.still_of(tenant, Some(patient), context).await? != *context {
            return invalid("what the application is to be opened for is not the patient's");
        }
        let secret = secrets::mint(tenant, self.inner.ledger.entropy().as_ref());
        let launch = LaunchDocument {
            secret: secrets::hash(&secret),
            client: app.to_owned(),
            session: session.id.clone(),
            patient: patient.to_owned(),
            context: context.clone(),
            expires_ms: self.now_ms().saturating_add(LAUNCH_LIFE_MS),
        };
        let draft = draft(
            &self.inner.ledger,
            tenant,
            kinds::LAUNCH,
            &self.id_of(tenant, "launch", &launch.secret),
            Expected::Absent,
            &launch,
            &[],
            Some(launch.expires_ms),
        )?;
        let note = format!("opened application {app}{context}");
        let mut record = Record::new(&session.agent, Event::LOGIN);
        record.note = Some(&note);
        record.patients.insert(patient.to_owned());
        self.commit(tenant, vec![draft], record).await?;
        let joint = if address.contains('?') { '&' } else { '?' };
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("iss", iss).append_pair("launch", &secret);
        Ok(format!("{address}{joint}{}", query.finish()))
    }

    /// What a launch is for, if it is this person's in this session, for this application, and was not
    /// used.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn launched(
        &self,
        session: &Session,
        app: &App,
        secret: &str,
    ) -> Result<Option<Launched>, TrustError> {
        let found = self.launch_document(session, app, secret).await?;
        Ok(found.map(|kept| Launched {
            patient: kept.body.patient,
            context: kept.body.context,
        }))
    }

    pub(super) async fn launch_document(
        &self,
        session: &Session,
        app: &App,
        secret: &str,
    ) -> Result<Option<Kept<LaunchDocument>>, TrustError> {
        let tenant = session.agent.tenant;
        if self.tenant_of(secret) != Some(tenant) {
            return Ok(None);
        }
        let hash = secrets::hash(secret);
        let id = self.id_of(tenant, "launch", &hash);
        let found: Option<Kept<LaunchDocument>> =
            get(&self.inner.ledger, tenant, kinds::LAUNCH, &id).await?;
        Ok(found.filter(|kept| {
            let body = &kept.body;
            secrets::same(&body.secret, &hash)
                && body.client == app.id
                && body.session == session.id
                && self.now_ms() < body.expires_ms
        }))
    }
}
