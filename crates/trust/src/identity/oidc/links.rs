//! Whose account somebody is whom a provider signs in: an administrator says so, by issuer and subject. Nothing
//! else that a token says of a person (name, e-mail) leads to an account, because people can have it changed.

use ledger::{Draft, Expected, LedgerError, Query, TenantId};
use serde::{Deserialize, Serialize};

use super::super::documents::{Kept, SessionDocument, deletion, draft, find, get};
use super::super::manage::{LISTED_MAX, invalid};
use super::super::{Identity, Listing, RETRIES};
use super::arrival::{AtProvider, SESSIONS_AT_ONCE};
use crate::audit::{Event, Record};
use crate::{Permit, Role, TrustError, kinds};

/// The most bytes of an issuer and of a subject (OpenID Connect Core 1.0, section 2).
const ID_BYTES_MAX: usize = 255;
/// What links are found by.
const ACCOUNT: &str = "account";

/// Whose account a subject is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ProviderLinkDocument {
    pub(super) issuer: String,
    pub(super) subject: String,
    pub(super) account: String,
}

/// Whose account a subject is, for those who manage accounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkView {
    /// Id of the link.
    pub id: String,
    /// Id of the account.
    pub account: String,
    /// The issuer.
    pub issuer: String,
    /// The subject there.
    pub subject: String,
}

fn view(kept: Kept<ProviderLinkDocument>) -> LinkView {
    LinkView {
        id: kept.id,
        account: kept.body.account,
        issuer: kept.body.issuer,
        subject: kept.body.subject,
    }
}

fn is_shown(text: &str) -> bool {
    (1..=ID_BYTES_MAX).contains(&text.len()) && text.chars().all(|c| !c.is_control())
}

impl Identity {
    /// All links of accounts to subjects of identity providers.
    ///
    /// # Errors
    /// `Refused` unless the permit is one to administer; `Ledger`, `Damaged`.
    pub async fn links(&self, permit: &Permit) -> Result<Listing<LinkView>, TrustError> {
        self.administers(permit).await?;
        let (ledger, tenant) = (&self.inner.ledger, permit.tenant());
        let query = Query::Token(ledger.kind_token(tenant, kinds::PROVIDER_LINK));
        let mut found: Vec<Kept<ProviderLinkDocument>> =
            find(ledger, tenant, kinds::PROVIDER_LINK, &query, LISTED_MAX + 1).await?;
        let complete = found.len() <= LISTED_MAX;
        found.truncate(LISTED_MAX);
        let rows: Vec<LinkView> = found.into_iter().map(view).collect();
        let note = format!("{} links to identity providers listed", rows.len());
        self.looked(permit, &note).await?;
        Ok(Listing { rows, complete })
    }

    /// The links of an account, for who lists it.
    ///
    /// # Errors
    /// As [`Identity::links`].
    pub async fn links_of(
        &self,
        permit: &Permit,
        account: &str,
    ) -> Result<Vec<LinkView>, TrustError> {
        self.administers(permit).await?;
        let (ledger, tenant) = (&self.inner.ledger, permit.tenant());
        let query = Query::Token(ledger.token(tenant, kinds::PROVIDER_LINK, ACCOUNT, account));
        let mut found: Vec<Kept<ProviderLinkDocument>> =
            find(ledger, tenant, kinds::PROVIDER_LINK, &query, LISTED_MAX).await?;
        found.retain(|kept| kept.body.account == account);
        Ok(found.into_iter().map(view).collect())
    }

    /// Links an account to a subject of an issuer: whom it signs in as that subject gets in with this account.
    /// Nobody links their own account.
    ///
    /// # Errors
    /// `Refused` unless the permit is one to administer; `Invalid` when there is no such account, it is a
    /// patient's or one's own, or the subject is linked to another; `Ledger`.
    pub async fn link_account(
        &self,
        permit: &Permit,
        account: &str,
        issuer: &str,
        subject: &str,
    ) -> Result<(), TrustError> {
        self.administers(permit).await?;
        if permit.agent().id == account {
            return invalid("nobody links their own account; ask another administrator");
        }
        if !is_shown(issuer) || !is_shown(subject) {
            return invalid("issuer and subject have 1 to 255 bytes, without control characters");
        }
        let (ledger, tenant) = (&self.inner.ledger, permit.tenant());
        let Some(kept) = self.account(tenant, account).await? else {
            return invalid("there is no such account");
        };
        if kept.body.role == Role::Patient {
            return invalid("patients sign in with the link in their e-mail");
        }
        let id = self.link_id(tenant, issuer, subject);
        for _ in 0..RETRIES {
            // A link that was taken away still has its version.
            let stored = ledger.get(tenant, kinds::PROVIDER_LINK, &id).await?;
            let expected = match &stored {
                None => Expected::Absent,
                Some(stored) if stored.deleted => Expected::Version(stored.version),
                Some(_) => match self.link(tenant, issuer, subject).await? {
                    None => continue,
                    Some(link) if link.body.account == account => return Ok(()),
                    Some(_) => {
                        return invalid(
                            "this subject is linked to another account; take that link away first",
                        );
                    }
                },
            };
            let document = ProviderLinkDocument {
                issuer: issuer.to_owned(),
                subject: subject.to_owned(),
                account: account.to_owned(),
            };
            const KIND: ledger::Kind = kinds::PROVIDER_LINK;
            let found_by = [(ACCOUNT, account)];
            let draft = draft(
                ledger, tenant, KIND, &id, expected, &document, &found_by, None,
            )?;
            let note = format!("account {account} was linked to subject {subject} of {issuer}");
            let mut record = Record::under(permit, Event::ACCOUNT_CHANGED);
            record.note = Some(&note);
            if let Some(outcome) = self.tried(tenant, vec![draft], record).await {
                return outcome;
            }
        }
        Err(LedgerError::Conflict.into())
    }

    /// Takes a link away. What was opened by it ends.
    ///
    /// # Errors
    /// As [`Identity::link_account`]; `Invalid` when there is no such link.
    pub async fn unlink_account(
        &self,
        permit: &Permit,
        issuer: &str,
        subject: &str,
    ) -> Result<(), TrustError> {
        self.administers(permit).await?;
        let tenant = permit.tenant();
        for _ in 0..RETRIES {
            let Some(kept) = self.link(tenant, issuer, subject).await? else {
                return invalid("there is no such link");
            };
            let account = &kept.body.account;
            let mut gone: Vec<Draft> = vec![deletion(kinds::PROVIDER_LINK, &kept.id, kept.version)];
            let sessions = self.sessions_of_subject(tenant, issuer, subject).await?;
            let sessions = sessions.iter().take(SESSIONS_AT_ONCE);
            gone.extend(
                sessions.map(|session| deletion(kinds::SESSION, &session.id, session.version)),
            );
            // What applications were let do by it goes as well.
            gone.extend(self.grant_deletions(tenant, account, None).await?);
            let note = format!("account {account} lost its link to subject {subject} of {issuer}");
            let mut record = Record::under(permit, Event::ACCOUNT_CHANGED);
            record.note = Some(&note);
            let outcome = self.tried(tenant, gone, record).await;
            self.inner.sessions.recheck_all();
            if let Some(outcome) = outcome {
                return outcome;
            }
        }
        Err(LedgerError::Conflict.into())
    }

    /// Whose account a subject is, if an administrator said so.
    pub(super) async fn link(
        &self,
        tenant: TenantId,
        issuer: &str,
        subject: &str,
    ) -> Result<Option<Kept<ProviderLinkDocument>>, TrustError> {
        let id = self.link_id(tenant, issuer, subject);
        let found: Option<Kept<ProviderLinkDocument>> =
            get(&self.inner.ledger, tenant, kinds::PROVIDER_LINK, &id).await?;
        Ok(found.filter(|kept| kept.body.issuer == issuer && kept.body.subject == subject))
    }

    /// Whether a session's account is still linked to whom the provider signed in.
    pub(in crate::identity) async fn is_linked(
        &self,
        tenant: TenantId,
        account: Option<&str>,
        at: &AtProvider,
    ) -> Result<bool, TrustError> {
        let link = self.link(tenant, &at.issuer, &at.subject).await?;
        Ok(link.is_some_and(|link| Some(link.body.account.as_str()) == account))
    }

    /// Sessions and sign-ins under way that a provider opened for a subject.
    pub(super) async fn sessions_of_subject(
        &self,
        tenant: TenantId,
        issuer: &str,
        subject: &str,
    ) -> Result<Vec<Kept<SessionDocument>>, TrustError> {
        let by = AtProvider::by_subject(issuer, subject);
        let mut found = self.sessions_by(tenant, AtProvider::SUBJECT, &by).await?;
        found.retain(|kept| {
            let at = kept.body.provider.as_ref();
            at.is_some_and(|at| at.issuer == issuer && at.subject == subject)
        });
        Ok(found)
    }

    fn link_id(&self, tenant: TenantId, issuer: &str, subject: &str) -> String {
        self.id_of(
            tenant,
            "link to a provider",
            &format!("{issuer}\n{subject}"),
        )
    }
}
