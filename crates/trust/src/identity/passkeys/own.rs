//! What people see and change of their own sign-in: passkeys and the authenticator app. The last second
//! factor can't be taken away by its owner: every change of them rewrites the account, so that two at once meet.
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ledger::{Expected, LedgerError};
use serde::{Deserialize, Serialize};

use super::{PasskeyDocument, QUESTION_LIFE_MS};
use crate::audit::{Event, Record};
use crate::identity::documents::{Kept, deletion, get};
use crate::identity::manage::invalid;
use crate::identity::{Identity, RETRIES, Session, secrets};
use crate::{TrustError, kinds};

/// One's own passkey.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasskeyView {
    /// Id of its document.
    pub id: String,
    /// The name that its owner gave it.
    pub name: String,
    /// Whether it is copied to other devices of its owner.
    pub backed_up: bool,
    /// Since when, by the wall clock.
    pub created_ms: u64,
    /// When it was last shown.
    pub used_ms: Option<u64>,
}

/// A secret for an authenticator app that isn't the account's yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnCode {
    /// Base32.
    pub secret: String,
    /// `otpauth://` URL.
    pub url: String,
    /// To come back with the first code.
    pub sealed: String,
}

#[derive(Serialize, Deserialize)]
struct NewCode {
    secret: String,
    session: String,
    expires_ms: u64,
}

/// What somebody changes of their own second factors.
enum OwnChange<'a> {
    /// By the id of its document.
    RemovePasskey(&'a str),
    SetCode {
        secret: String,
        /// The time step of its first code.
        step: u64,
    },
    RemoveCode,
}

const NEW_CODE: &str = "new authenticator";

impl Identity {
    /// One's own passkeys, newest first, and whether there is an authenticator app.
    ///
    /// # Errors
    /// `Invalid` for who has no account of staff; `Ledger`.
    pub async fn own_factors(
        &self,
        session: &Session,
    ) -> Result<(Vec<PasskeyView>, bool), TrustError> {
        let account = self.own_account(session).await?;
        let found = self.passkeys_of(session.agent.tenant, &account.id).await?;
        let view = |kept: Kept<PasskeyDocument>| PasskeyView {
            id: kept.id,
            name: kept.body.name,
            backed_up: kept.body.credential.backed_up,
            created_ms: kept.body.created_ms,
            used_ms: kept.body.used_ms,
        };
        let mut passkeys: Vec<_> = found.into_iter().map(view).collect();
        passkeys.sort_by_key(|passkey| std::cmp::Reverse(passkey.created_ms));
        Ok((passkeys, account.body.totp.is_some()))
    }
    /// Removes a passkey of one's own.
    ///
    /// # Errors
    /// `Invalid` when there is none, or it is the last second factor; `Ledger`.
    pub async fn remove_passkey(&self, session: &Session, id: &str) -> Result<(), TrustError> {
        self.change_own(session, OwnChange::RemovePasskey(id)).await
    }
    /// A secret for a new authenticator app of one's own; nothing is changed until its first code comes.
    ///
    /// # Errors
    /// `Invalid` for who has no account of staff; `Ledger`.
    pub async fn ask_for_own_code(&self, session: &Session) -> Result<OwnCode, TrustError> {
        let account = self.own_account(session).await?;
        let ledger = &self.inner.ledger;
        let secret = secrets::mint_totp(ledger.entropy().as_ref());
        let new = NewCode {
            secret: secret.clone(),
            session: session.id.clone(),
            expires_ms: self.now_ms().saturating_add(QUESTION_LIFE_MS),
        };
        let text = serde_json::to_vec(&new)
            .map_err(|_| TrustError::Damaged("a secret can't be written as JSON".to_owned()))?;
        let sealed = ledger.seal_note(session.agent.tenant, NEW_CODE, &text)?;
        Ok(OwnCode {
            url: secrets::totp_url(&account.body.user_name, &secret),
            secret,
            sealed: URL_SAFE_NO_PAD.encode(sealed),
        })
    }
    /// Sets a new authenticator app up with its first code; the one before, if any, works no more.
    ///
    /// # Errors
    /// `Invalid` when the code is wrong or late; `Ledger`.
    pub async fn set_own_code(
        &self,
        session: &Session,
        sealed: &str,
        code: &str,
    ) -> Result<(), TrustError> {
        let tenant = session.agent.tenant;
        let opened = match URL_SAFE_NO_PAD.decode(sealed) {
            Ok(sealed) => self.inner.ledger.open_note(tenant, NEW_CODE, &sealed)?,
            Err(_) => None,
        };
        let now_ms = self.now_ms();
        let new = opened
            .and_then(|text| serde_json::from_slice::<NewCode>(&text).ok())
            .filter(|new| new.session == session.id && now_ms < new.expires_ms);
        let Some(new) = new else {
            return invalid("The code came too late. Start again; the key is shown anew.");
        };
        let step = secrets::totp(&new.secret)?.check(code.trim(), now_ms / 1000);
        let Some(step) = step else {
            return invalid(
                "The code does not fit the key, so nothing was changed. Check the clock of your phone, and start again.",
            );
        };
        let secret = new.secret;
        self.change_own(session, OwnChange::SetCode { secret, step })
            .await
    }
    /// Removes one's own authenticator app.
    ///
    /// # Errors
    /// `Invalid` when it is the last second factor, or there is none; `Ledger`.
    pub async fn remove_own_code(&self, session: &Session) -> Result<(), TrustError> {
        self.change_own(session, OwnChange::RemoveCode).await
    }

    async fn change_own(&self, session: &Session, change: OwnChange<'_>) -> Result<(), TrustError> {
        let tenant = session.agent.tenant;
        for _ in 0..RETRIES {
            let mut documents = vec![self.still_there(session).await?];
            let mut account = self.own_account(session).await?;
            let body = &mut account.body;
            let what = match &change {
                OwnChange::RemovePasskey(id) => {
                    let found: Option<Kept<PasskeyDocument>> =
                        get(&self.inner.ledger, tenant, kinds::PASSKEY, id).await?;
                    let Some(kept) = found.filter(|kept| kept.body.account == account.id) else {
                        return invalid("There is no such passkey.");
                    };
                    let left = self.passkeys_of(tenant, &account.id).await?.len();
                    let left = left.saturating_sub(1);
                    if body.totp.is_none() && left == 0 {
                        return invalid(
                            "This is your only second factor. Add another one first; without any, nobody could tell you from somebody with your password.",
                        );
                    }
                    body.passkeys = left;
                    documents.push(deletion(kinds::PASSKEY, &kept.id, kept.version));
                    "removed a passkey"
                }
                OwnChange::SetCode { secret, step } => {
                    body.totp = Some(secret.clone());
                    body.totp_step = *step;
                    "set an authenticator app up"
                }
                OwnChange::RemoveCode => {
                    if body.totp.is_none() {
                        return invalid("There is no authenticator app.");
                    }
                    if !self.has_passkeys(tenant, &account.id).await? {
                        return invalid(
                            "The authenticator app is your only second factor. Add a passkey first.",
                        );
                    }
                    body.totp = None;
                    body.totp_step = 0;
                    "removed its authenticator app"
                }
            };
            let expected = Expected::Version(account.version);
            documents.push(self.account_draft(tenant, &account.id, expected, &account.body)?);
            let note = format!("account {} {what}", account.id);
            let mut record = Record::new(&session.agent, Event::ACCOUNT_CHANGED);
            record.note = Some(&note);
            if let Some(outcome) = self.tried(tenant, documents, record).await {
                return outcome;
            }
        }
        Err(LedgerError::Conflict.into())
    }
}
