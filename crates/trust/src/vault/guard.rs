//! What is asked of a permit before anything is looked at, and what the audit is told: refusals, and what was seen.

use fhir::{ResourceType, search::SearchQuery};
use ledger::LedgerError;

use super::{Hidden, Vault};
use crate::audit::{Decided, Event, Outcome, Record, Touched};
use crate::policy::in_part_only;
use crate::{Action, Permit, Refusal, TrustError};

impl Vault {
    /// The permit must allow the interaction with the type.
    pub(crate) async fn require(
        &self,
        permit: &Permit,
        interaction: Action,
        kind: ResourceType,
    ) -> Result<(), TrustError> {
        if permit.allows(interaction, kind) {
            return Ok(());
        }
        Err(self.refuse(permit, interaction, Some(kind), None).await)
    }

    /// The scopes of an access token must let an interaction with the type be done.
    pub(super) async fn require_scope(
        &self,
        permit: &Permit,
        interaction: Action,
        kind: ResourceType,
    ) -> Result<(), TrustError> {
        if permit.scopes_allow(interaction, kind) {
            return Ok(());
        }
        Err(self.refuse(permit, interaction, Some(kind), None).await)
    }

    pub(super) async fn require_writing(
        &self,
        permit: &Permit,
        interaction: Action,
        kind: ResourceType,
    ) -> Result<(), TrustError> {
        if permit.action.writes() && permit.allows(interaction, kind) {
            return Ok(());
        }
        Err(self.refuse(permit, interaction, Some(kind), None).await)
    }

    /// Audits a refusal and makes the error of it.
    pub(super) async fn refuse(
        &self,
        permit: &Permit,
        interaction: Action,
        kind: Option<ResourceType>,
        record: Option<Record<'_>>,
    ) -> TrustError {
        let what = kind.map_or_else(String::new, |kind| format!(" {kind}"));
        let by_scopes = kind.is_some_and(|kind| !permit.scopes_allow(interaction, kind));
        let unseen = kind.filter(|kind| permit.grants.changes_unseen(interaction, *kind));
        let reason = if let Some(kind) = unseen {
            in_part_only(permit.agent.role, permit.purpose, kind)
        } else if by_scopes {
            format!(
                "the scopes of this access token don't let {}{what}",
                interaction.name()
            )
        } else {
            format!(
                "a permit to {} of the role {} does not let {}{what} for {}",
                permit.action.name(),
                permit.agent.role.name(),
                interaction.name(),
                permit.purpose.code(),
            )
        };
        self.refuse_for(permit, interaction, reason, record).await
    }

    /// Refuses searches that look at what the permit does not show, before anything is looked for: what they
    /// find, how many these are and how long it takes would tell of it.
    pub(super) async fn require_shown(
        &self,
        permit: &Permit,
        queries: &[SearchQuery],
    ) -> Result<(), TrustError> {
        let Some(elements) = permit.grants.elements() else {
            return Ok(());
        };
        match queries.iter().find_map(|query| elements.refuses(query)) {
            None => Ok(()),
            Some(asked) => {
                let reason = asked.words(permit.agent.role, permit.purpose);
                Err(self.refuse_for(permit, Action::Search, reason, None).await)
            }
        }
    }

    /// Whether a search that is made later looks only at what the permit shows.
    ///
    /// # Errors
    /// `Refused` when it does not; `Ledger`.
    pub async fn may_search(
        &self,
        permit: &Permit,
        queries: &[SearchQuery],
    ) -> Result<(), TrustError> {
        self.require_shown(permit, queries).await
    }

    /// Audits a refusal for a reason and makes the error of it.
    pub(super) async fn refuse_for(
        &self,
        permit: &Permit,
        interaction: Action,
        reason: String,
        record: Option<Record<'_>>,
    ) -> TrustError {
        let mut record = record.unwrap_or_else(|| Record::under(permit, Event::of(interaction)));
        record.outcome = Outcome::Refused;
        record.note = Some(&reason);
        record.patients.extend(permit.only_patient.clone());
        match self.inner.auditor.commit(&record).await {
            Ok(_) => TrustError::Refused(Refusal {
                reason,
                because: permit.because.clone(),
            }),
            Err(error) => error.into(),
        }
    }

    /// Records that a patient's consent denied what was asked for by its name, before the refusal itself is: which
    /// consent, whose, and for which organisation. What a rule pack denies for want of one has no such record.
    pub(super) async fn tell_denied(
        &self,
        permit: &Permit,
        hidden: &mut Hidden,
        (kind, id): (ResourceType, &str),
    ) -> Result<(), TrustError> {
        let Some(denied) = hidden.denied.take() else {
            return Ok(());
        };
        let known_as = self.known_as_once(permit, hidden).await?;
        let mut organizations = crate::policy::organizations(&known_as);
        let mut record = Record::under(permit, Event::DENIED);
        record.outcome = Outcome::Refused;
        record.note = Some(&denied.reason);
        record.touch(Touched {
            kind: ResourceType::Consent,
            id: denied.consent.clone(),
            version: None,
            patient: Some(denied.patient.clone()),
            interaction: None,
        });
        record.decided = Some(Decided {
            about: format!("{kind}/{id}"),
            // Of several it isn't said for which of them they ask.
            organization: organizations.pop().filter(|_| organizations.is_empty()),
        });
        self.inner.auditor.commit(&record).await?;
        Ok(())
    }

    /// Commits the audit record of something that has been looked at.
    pub(super) async fn record(
        &self,
        permit: &Permit,
        mut record: Record<'_>,
    ) -> Result<(), LedgerError> {
        self.tell_relations(permit, &mut record).await?;
        let patients = record.patients.clone();
        let receipt = self.inner.auditor.commit(&record).await?;
        permit
            .freshness
            .note(receipt.audit.map(|at| at.number), false);
        permit.name_patients(&patients);
        Ok(())
    }
}
