//! A decision explained to those who watch over decisions.
use std::sync::{Arc, Mutex};

use fhir::Resource;

use super::{Policies, Question, Trust, Why, check_access, check_filters};
use crate::audit::{Event, Outcome, Record};
use crate::scopes::Scopes;
use crate::{
    Access, Action, Agent, Freshness, Permit, Purpose, Refusal, Role, RowWhy, Target, TrustError,
};

/// What somebody asks about besides the question to the policies.
#[derive(Debug, Clone, Default)]
pub struct AskedAbout<'a> {
    /// Id of the account, client or patient that the question is about; of who acts for a patient, of the record
    /// by which they do.
    pub person: Option<&'a str>,
    /// Id of a row of the question's type.
    pub row: Option<&'a str>,
    /// What an application's access token narrows it to.
    pub scopes: Option<Scopes>,
}

/// A decision, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// What policies say.
    pub why: Why,
    /// Why the scopes of the access token don't let it be done, if they don't.
    pub scopes: Option<String>,
    /// What is asked of the row besides.
    pub row: Option<RowWhy>,
}

impl Explanation {
    /// Whether it is permitted, all in all.
    #[must_use]
    pub fn permitted(&self) -> bool {
        self.why.permitted
            && self.scopes.is_none()
            && self.row.as_ref().is_none_or(|row| row.permitted)
    }
}

/// The part of Cairn that explains decisions to an operator of the machine that holds the root key.
pub const EXPLAINER: &str = "explainer";

/// Somebody whom a question is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskedAs {
    /// Id of the account or client.
    pub id: String,
    /// Role.
    pub role: Role,
    /// What a system with a key may ask for at most.
    pub scopes: Option<Scopes>,
}

impl Trust {
    /// Whom a name means in a question: the account with this user name, or the account or system with this id;
    /// nobody who can't come in. For those who are explained rows (a permit to audit); that somebody asked is in
    /// the audit with the question.
    ///
    /// # Errors
    /// `Refused`; `Ledger`, `Damaged`; `Invalid` where a system's scopes can't be read.
    pub async fn asked_as(&self, by: &Permit, name: &str) -> Result<Option<AskedAs>, TrustError> {
        if by.action() != Action::Audit {
            return Err(TrustError::Refused(Refusal {
                reason: "who is meant by a name is told to those alone who may audit".to_owned(),
                because: Vec::new(),
            }));
        }
        let Some(meant) = self.inner.identity.meant(by.tenant(), name).await? else {
            return Ok(None);
        };
        let scopes = meant.scopes.as_deref().map(Scopes::parse).transpose();
        let scopes = scopes.map_err(|error| TrustError::Invalid(error.to_string()))?;
        Ok(Some(AskedAs {
            id: meant.id,
            role: meant.role,
            scopes,
        }))
    }

    /// Why something would be permitted or refused, and with a row's id what is asked of it besides: just what
    /// is asked when it is done. For privacy
    /// officers (a permit to audit) and administrators (a permit to administer); a row is for privacy
    /// officers only. It shows no content of the row, and is in the audit before it is told.
    ///
    /// # Errors
    /// `Refused`; `Invalid` for a question that can't be asked; `Ledger`, `Damaged`.
    pub async fn explain(
        &self,
        by: &Permit,
        question: &Question,
        about: &AskedAbout<'_>,
    ) -> Result<Explanation, TrustError> {
        let row = about.row;
        let audits = by.action() == Action::Audit;
        if !(audits || by.action() == Action::Administer && row.is_none()) {
            let refusal = Refusal {
                reason: "decisions about a row are explained to privacy officers, and others to \
                         administrators too"
                    .to_owned(),
                because: Vec::new(),
            };
            let mut record = Record::under(by, Event::EXPLAINED);
            record.outcome = Outcome::Refused;
            record.note = Some(&refusal.reason);
            self.inner.auditor.commit(&record).await?;
            return Err(TrustError::Refused(refusal));
        }
        if question.action.is_interaction() != question.kind.is_some() {
            let words = "a resource type belongs to reading, searching, history and writing, and to no other action";
            return Err(TrustError::Invalid(words.to_owned()));
        }
        let question = &self.with_organizations(by, question, about).await?;
        let why = self.policy_set().why(question);
        let note = format!("asked why {}", why.answer);
        let vault = self.vault();
        let found = match (row, question.kind) {
            (Some(id), Some(kind)) => Some(((kind, id), vault.asked_row(by, kind, id).await?)),
            _ => None,
        };
        let Some(((kind, id), asked)) = found else {
            let scopes = self.refused_by_scopes(question, about, None);
            let mut record = Record::under(by, Event::EXPLAINED);
            record.note = Some(&note);
            self.inner.auditor.commit(&record).await?;
            return Ok(Explanation {
                why,
                scopes,
                row: None,
            });
        };
        let Some(asked) = asked else {
            vault.record_explained(by, (kind, id), None, &note).await?;
            return Err(TrustError::Invalid("there is no such row".to_owned()));
        };
        let patient = asked.row.patient().map(str::to_owned);
        let scopes = self.refused_by_scopes(question, about, patient);
        let told = match self.as_if(by, question, about, &asked.row).await? {
            Ok(permit) => vault.why_row(&permit, &asked).await?,
            Err(refusal) => RowWhy::barred(refusal.reason),
        };
        vault
            .record_explained(by, (kind, id), Some(&asked), &note)
            .await?;
        Ok(Explanation {
            why,
            scopes,
            row: Some(told),
        })
    }

    /// The question with the organizations of whom it is about, where it says none and policies look at them.
    async fn with_organizations(
        &self,
        by: &Permit,
        question: &Question,
        about: &AskedAbout<'_>,
    ) -> Result<Question, TrustError> {
        let mut question = question.clone();
        let unsaid = question.around.organizations.is_empty();
        if let Some(person) = about.person.filter(|_| unsaid) {
            let known = self.inner.identity.organizations_of(by.tenant(), person);
            question.around.organizations = known.await?.unwrap_or_default();
        }
        Ok(question)
    }

    /// Why the scopes of a token don't let something be done, if they don't.
    fn refused_by_scopes(
        &self,
        question: &Question,
        about: &AskedAbout<'_>,
        patient: Option<String>,
    ) -> Option<String> {
        let access = access(about, patient.clone())?;
        let target = Target {
            kind: question.kind,
            patient,
        };
        let grants = self.inner.policies.grants(&question.asker());
        let (role, purpose) = (question.role, question.purpose);
        let lets = check_access(&access, question.action, &target)
            .and_then(|()| check_filters(&access, &grants, role, purpose));
        lets.err().map(|refusal| refusal.reason)
    }

    /// The permit under which the question's asker would come to a row, but for what policies say of its type;
    /// or why they would get none.
    async fn as_if(
        &self,
        by: &Permit,
        question: &Question,
        about: &AskedAbout<'_>,
        row: &Resource,
    ) -> Result<Result<Permit, Refusal>, TrustError> {
        let refuse = |reason: &str| {
            Ok(Err(Refusal {
                reason: reason.to_owned(),
                because: Vec::new(),
            }))
        };
        if question.role == Role::Proxy && about.scopes.is_some() {
            return refuse("an application can't act for somebody who acts for a patient");
        }
        let (tenant, of_row) = (by.tenant(), row.patient().map(str::to_owned));
        let mut standing = None;
        let patient = match (question.role, about.person) {
            (Role::Patient, None) => of_row.clone(),
            (Role::Patient, Some(person)) => {
                let of_account = self.inner.identity.patient_of(tenant, person).await?;
                Some(of_account.unwrap_or_else(|| person.to_owned()))
            }
            (Role::Proxy, None) => {
                return refuse(
                    "what is kept from who acts for a patient depends on who they are: ask with the id of the record by which they act",
                );
            }
            (Role::Proxy, Some(person)) => {
                let Some(acts) = self.vault().proxy_acts(tenant, person).await? else {
                    return refuse(super::NO_PROXY);
                };
                standing = Some(acts.standing);
                Some(acts.patient)
            }
            _ => None,
        };
        let mut access = access(about, of_row.clone());
        // A system asks for itself, and not as an application of somebody.
        if let (Role::Client, Some(access), Some(system)) =
            (question.role, &mut access, about.person)
        {
            system.clone_into(&mut access.client);
        }
        let access = access.map(Arc::new);
        let agent = Agent {
            tenant,
            id: about.person.unwrap_or_default().to_owned(),
            name: String::new(),
            role: question.role,
            patient,
            access,
            signed_in: crate::SignedIn::default(),
        };
        if about.person.is_some() {
            let refused = self.inner.identity.refuses(&agent, question.purpose);
            if let Some(reason) = refused.await? {
                return refuse(&reason);
            }
        }
        let mut only_patient = agent.patient.clone();
        let is_person = !matches!(question.role, Role::Client | Role::System | Role::Steerer)
            && !question.role.has_one_record();
        if question.purpose == Purpose::Emergency && is_person {
            only_patient = of_row;
            // Without a person, it is told what one would see who has the access.
            if about.person.is_some() {
                let patient = only_patient.as_deref();
                let stands = self.inner.identity.emergency_for(&agent, patient).await?;
                match stands {
                    Ok(access) => only_patient = Some(access.patient),
                    Err(words) => return refuse(words),
                }
            }
        }
        let of_token = || agent.access.as_ref()?.only_patient().map(str::to_owned);
        let only_patient = only_patient.or_else(of_token);
        let policies: &Policies = &self.inner.policies;
        Ok(Ok(Permit {
            because: Vec::new(),
            purpose: question.purpose,
            action: question.action,
            only_patient,
            grants: policies.grants(&question.asker()),
            request_id: by.request_id.clone(),
            named: Arc::new(Mutex::default()),
            freshness: Freshness::default(),
            standing,
            once: None,
            agent,
        }))
    }
}

/// The access token that is asked about, as it would be for a patient.
fn access(about: &AskedAbout<'_>, patient: Option<String>) -> Option<Access> {
    Some(Access {
        client: String::new(),
        client_name: String::new(),
        scopes: about.scopes.clone()?,
        patient,
        round: 0,
        grant: None,
    })
}
