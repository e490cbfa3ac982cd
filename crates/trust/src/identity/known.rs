//! What an account or a client is known as in FHIR: the practitioner, their roles, organizations, teams and
//! groups that provisions of consents name. Administrators say so, and not the directory, which other
//! systems write: nobody comes to be somebody else by writing a resource.
use fhir::ResourceType;
use ledger::{Expected, Ledger, LedgerError, Query, TenantId};
use serde::{Deserialize, Serialize};

use super::documents::{Kept, draft, find, get};
use super::{ClientState, Identity, Listing, RETRIES};
use crate::audit::{Event, Record};
use crate::{Action, Agent, Permit, Purpose, Refusal, Role, Target, TrustError, kinds};

/// The most that are listed.
const LISTED_MAX: usize = 500;
/// The most that one account or client is known as.
const KNOWN_AS_MAX: usize = 64;
/// What a provision's actor can be, but for patients: who has a patient's record is another question.
const KINDS: [ResourceType; 7] = [
    ResourceType::CareTeam,
    ResourceType::Device,
    ResourceType::Group,
    ResourceType::Organization,
    ResourceType::Practitioner,
    ResourceType::PractitionerRole,
    ResourceType::RelatedPerson,
];

/// The id by which administrators say what the care programmes here are known as.
pub const PROGRAMMES: &str = "care-programmes";

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct KnownAs {
    references: Vec<String>,
}

/// Somebody whom provisions of consents can name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownAgent {
    /// Id of the account or client.
    pub id: String,
    /// Name.
    pub name: String,
    /// Role.
    pub role: Role,
    /// `Type/id` of what they are known as.
    pub known_as: Vec<String>,
}

/// Who is meant by a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Meant {
    /// Id of the account or client.
    pub(crate) id: String,
    pub(crate) role: Role,
    /// What a system with a key may ask for at most.
    pub(crate) scopes: Option<String>,
}

/// What an agent is known as.
pub(crate) async fn known_as(
    ledger: &Ledger,
    tenant: TenantId,
    agent: &str,
) -> Result<Vec<String>, TrustError> {
    let found: Option<Kept<KnownAs>> = get(ledger, tenant, kinds::KNOWN_AS, agent).await?;
    Ok(found.map_or_else(Vec::new, |kept| kept.body.references))
}

impl Identity {
    /// The ids of the organizations that an agent is known as, if policies look at them.
    pub(crate) async fn organizations_looked_at(
        &self,
        agent: &Agent,
    ) -> Result<Option<Vec<String>>, TrustError> {
        self.organizations_of(agent.tenant, &agent.id).await
    }

    /// The same of whoever has an id.
    pub(crate) async fn organizations_of(
        &self,
        tenant: TenantId,
        id: &str,
    ) -> Result<Option<Vec<String>>, TrustError> {
        if !self.inner.policies.looks_at_organizations() {
            return Ok(None);
        }
        Ok(Some(self.organizations_known(tenant, id).await?))
    }

    async fn organizations_known(
        &self,
        tenant: TenantId,
        id: &str,
    ) -> Result<Vec<String>, TrustError> {
        let known = known_as(&self.inner.ledger, tenant, id).await?;
        Ok(crate::policy::organizations(&known))
    }

    /// The permit or the reason why not, for an agent and the organizations that were looked up of them. Where they
    /// were not, because the set that was in force until a moment ago didn't look at any, they are looked up now: a
    /// refusal is always what policies say.
    pub(crate) async fn judged(
        &self,
        (agent, known): (&Agent, &mut Option<Vec<String>>),
        purpose: Purpose,
        action: Action,
        target: &Target,
        request_id: &str,
    ) -> Result<Result<Permit, Refusal>, TrustError> {
        loop {
            let who = (agent, known.as_deref());
            let judged = (self.inner.policies).judge_of(who, purpose, action, target, request_id);
            match judged {
                Some(judged) => return Ok(judged),
                None => *known = Some(self.organizations_known(agent.tenant, &agent.id).await?),
            }
        }
    }

    /// Who is known as something, of those who may sign in: whom provisions of consents can name. At most as
    /// many as lists show, and whether these are all.
    pub(crate) async fn all_known(
        &self,
        tenant: TenantId,
    ) -> Result<Listing<KnownAgent>, TrustError> {
        let ledger = &self.inner.ledger;
        let query = Query::Token(ledger.kind_token(tenant, kinds::KNOWN_AS));
        let mut found: Vec<Kept<KnownAs>> =
            find(ledger, tenant, kinds::KNOWN_AS, &query, LISTED_MAX + 1).await?;
        let complete = found.len() <= LISTED_MAX;
        found.truncate(LISTED_MAX);
        let mut rows = Vec::new();
        for kept in found {
            if kept.body.references.is_empty() || kept.id == PROGRAMMES {
                continue;
            }
            // Patients, and who signs in for one, are nobody's to choose from: not even that they are there.
            let found = self.named(tenant, &kept.id).await?;
            let found = found
                .filter(|(_, role)| !matches!(role, Role::Patient | Role::Proxy | Role::System));
            rows.extend(found.map(|(name, role)| KnownAgent {
                id: kept.id,
                name,
                role,
                known_as: kept.body.references,
            }));
        }
        rows.sort_by(|left, right| (&left.name, &left.id).cmp(&(&right.name, &right.id)));
        Ok(Listing { rows, complete })
    }

    /// Whom a name means: the account with this user name, or the account or system with this id. Nobody who can't
    /// come in.
    pub(crate) async fn meant(
        &self,
        tenant: TenantId,
        name: &str,
    ) -> Result<Option<Meant>, TrustError> {
        let by_name = self.account_id(tenant, &super::fold(name));
        for id in [by_name, name.to_owned()] {
            let ledger = &self.inner.ledger;
            let system = self.inner.systems.get(ledger, tenant, &id).await?;
            if let Some((_, role)) = self.named(tenant, &id).await? {
                let waits = (system.as_ref()).is_some_and(|one| one.state() != ClientState::Active);
                return Ok((!waits).then(|| Meant {
                    id,
                    role,
                    scopes: system.map(|system| system.scopes.text()),
                }));
            }
        }
        Ok(None)
    }

    /// The name and role of an account or client that can sign in.
    async fn named(
        &self,
        tenant: TenantId,
        id: &str,
    ) -> Result<Option<(String, Role)>, TrustError> {
        #[derive(Deserialize)]
        struct System {
            name: String,
        }
        if let Some(account) = self.account(tenant, id).await? {
            let body = account.body;
            return Ok(body.active.then_some((body.name, body.role)));
        }
        if let Some(client) = self.client_with_token(tenant, id).await? {
            let is_active = client.state(self.now_ms()) == ClientState::Active;
            return Ok(is_active.then(|| (client.name.clone(), client.role)));
        }
        let ledger = &self.inner.ledger;
        let system: Option<Kept<System>> = get(ledger, tenant, kinds::OAUTH_CLIENT, id).await?;
        Ok(system.map(|system| (system.body.name, Role::Client)))
    }

    /// Says what an account or a client is known as (`Type/id`), instead of what was said before. It counts
    /// from the next request on.
    ///
    /// # Errors
    /// `Refused` unless the permit is one to administer; `Invalid` when there is no such account or client,
    /// or for what no actor of a consent is; `Ledger`.
    pub async fn set_known_as(
        &self,
        permit: &Permit,
        agent: &str,
        references: &[String],
    ) -> Result<(), TrustError> {
        self.administers(permit).await?;
        if references.len() > KNOWN_AS_MAX {
            return Err(TrustError::Invalid(format!(
                "nobody is known as more than {KNOWN_AS_MAX}"
            )));
        }
        for reference in references {
            let found = fhir::Reference::relative(reference)
                .filter(|(kind, id)| KINDS.contains(kind) && reference.ends_with(id));
            if found.is_none() {
                let kinds: Vec<_> = KINDS.iter().map(|kind| kind.name()).collect();
                return Err(TrustError::Invalid(format!(
                    "what somebody is known as is Type/id, of one of the types {}",
                    kinds.join(", ")
                )));
            }
        }
        let (ledger, tenant) = (&self.inner.ledger, permit.tenant());
        let system = ledger.get(tenant, kinds::OAUTH_CLIENT, agent).await?;
        let is_here = agent == PROGRAMMES
            || self.account(tenant, agent).await?.is_some()
            || self.client_with_token(tenant, agent).await?.is_some()
            || system.is_some_and(|system| !system.deleted);
        if !is_here {
            let words = "there is no such account or client";
            return Err(TrustError::Invalid(words.to_owned()));
        }
        let body = KnownAs {
            references: references.to_vec(),
        };
        for _ in 0..RETRIES {
            let found: Option<Kept<KnownAs>> = get(ledger, tenant, kinds::KNOWN_AS, agent).await?;
            let expected = found.map_or(Expected::Absent, |kept| Expected::Version(kept.version));
            let document = draft(
                ledger,
                tenant,
                kinds::KNOWN_AS,
                agent,
                expected,
                &body,
                &[],
                None,
            )?;
            let names = match references {
                [] => "nobody".to_owned(),
                some => some.join(", "),
            };
            let note = format!("{agent} is known as {names}");
            let mut record = Record::under(permit, Event::ACCOUNT_CHANGED);
            record.note = Some(&note);
            if let Some(outcome) = self.tried(tenant, vec![document], record).await {
                return outcome;
            }
        }
        Err(LedgerError::Conflict.into())
    }
}
