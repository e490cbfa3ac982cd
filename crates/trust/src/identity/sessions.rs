//! Sessions: opened by a sign-in, kept while used, ended by idleness, age, sign-out or closing of the
//! account.
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use ledger::{Draft, Expected, LedgerError, TenantId};

use super::documents::{AgentDocument, Kept, SessionDocument, Stage, draft, get};
use super::oidc::AtProvider;
use super::seen::OpenedBy;
use super::{Identity, Session, SignIn, browsers, secrets};
use crate::audit::{Event, Record, origin};
use crate::policy::SignedIn;
use crate::{TrustError, kinds};

/// How long a session is taken from memory before the store is asked again whether it still is one.
pub(super) const RECHECK_MS: u64 = 30_000;
/// The shortest time between two writes of when a session was last used.
const KEEP_MS_MIN: u64 = 60_000;
/// Sessions in memory; beyond, those that have not been used longest fall out and are read again.
const SESSIONS_MAX: usize = 100_000;

/// Sessions in use, by document id.
#[derive(Default)]
pub(super) struct Sessions(Mutex<Table>);

#[derive(Default)]
struct Table {
    live: HashMap<String, Live>,
    /// Rises whenever something is taken away. What was read before that may be just that, so the
    /// store is asked again when it is used next.
    taken_away: u64,
}

/// How much had been taken away when a session was read.
#[derive(Clone, Copy)]
struct Seen(u64);

#[derive(Clone)]
struct Live {
    session: Session,
    last_seen_ms: u64,
    /// What the store knows of `last_seen_ms`.
    kept_ms: u64,
    checked_ms: u64,
}

impl Sessions {
    fn table<T>(&self, work: impl FnOnce(&mut Table) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
    fn with<T>(&self, work: impl FnOnce(&mut HashMap<String, Live>) -> T) -> T {
        self.table(|table| work(&mut table.live))
    }
    /// Asks the store again for each session when it is used next.
    pub(super) fn recheck_all(&self) {
        self.table(|table| {
            table.taken_away += 1;
            table.live.values_mut().for_each(|one| one.checked_ms = 0);
        });
    }
    /// Forgets those of which `is_over` says so, by when they were last used and when they end.
    pub(super) fn forget(&self, is_over: impl Fn(u64, u64) -> bool) {
        self.with(|live| {
            live.retain(|_, one| !is_over(one.last_seen_ms, one.session.expires_ms));
        });
    }
    /// When memory knows that a session was last used.
    pub(super) fn last_seen_ms(&self, id: &str) -> Option<u64> {
        self.with(|live| live.get(id).map(|one| one.last_seen_ms))
    }
    /// What memory knows of a session's second factor is what was just shown.
    pub(super) fn confirmed(&self, id: &str, signed_in: SignedIn) {
        self.with(|live| {
            if let Some(one) = live.get_mut(id) {
                one.session.agent.signed_in = signed_in;
            }
        });
    }
    fn seen(&self) -> Seen {
        self.table(|table| Seen(table.taken_away))
    }
    pub(super) fn remove(&self, id: &str) {
        self.table(|table| {
            table.taken_away += 1;
            table.live.remove(id);
        });
    }
    fn insert(&self, id: String, mut one: Live, seen: Seen) {
        self.table(|table| {
            if table.taken_away != seen.0 {
                one.checked_ms = 0;
            }
            let live = &mut table.live;
            if live.len() >= SESSIONS_MAX
                && let Some(oldest) = live
                    .iter()
                    .min_by_key(|(_, one)| one.last_seen_ms)
                    .map(|(id, _)| id.clone())
            {
                live.remove(&oldest);
            }
            live.insert(id, one);
        });
    }
}

impl Identity {
    /// The session behind a cookie's secret; refreshes its idle time-out. When it was last used is
    /// kept in memory and written at most each minute or half idle time-out, whichever is longer, so
    /// that after a restart a session may end up to that much early, never late.
    ///
    /// # Errors
    /// `SignIn` when unknown, idle or over.
    pub async fn session(&self, secret: &str) -> Result<Session, TrustError> {
        let tenant = self.tenant_of(secret).ok_or(TrustError::SignIn)?;
        let hash = secrets::hash(secret);
        let id = self.id_of(tenant, "session", &hash);
        let now_ms = self.now_ms();
        let in_memory = self.inner.sessions.with(|live| {
            let one = live.get_mut(&id)?;
            let fresh = now_ms.saturating_sub(one.checked_ms) < RECHECK_MS;
            if !fresh || self.over(one.last_seen_ms, one.session.expires_ms, now_ms) {
                return None;
            }
            one.last_seen_ms = one.last_seen_ms.max(now_ms);
            Some(one.clone())
        });
        let live = match in_memory {
            Some(live) => live,
            None => self.look_up(tenant, &id, &hash, now_ms).await?,
        };
        if live.last_seen_ms.saturating_sub(live.kept_ms) >= KEEP_MS_MIN.max(self.inner.idle_ms / 2)
        {
            self.keep(tenant, &id, live.last_seen_ms).await?;
        }
        origin::known().await;
        Ok(live.session)
    }
    /// The session behind a cookie's secret, without refreshing its idle time-out: for what asks by
    /// itself, such as a page that keeps itself fresh, which is no sign of a person.
    ///
    /// # Errors
    /// `SignIn` when unknown, idle or over.
    pub async fn peek(&self, secret: &str) -> Result<Session, TrustError> {
        let tenant = self.tenant_of(secret).ok_or(TrustError::SignIn)?;
        let hash = secrets::hash(secret);
        let id = self.id_of(tenant, "session", &hash);
        let now_ms = self.now_ms();
        let known = self.inner.sessions.with(|live| live.get(&id).cloned());
        let seen_ms = known.as_ref().map(|one| one.last_seen_ms);
        match known {
            Some(one) if now_ms.saturating_sub(one.checked_ms) < RECHECK_MS => {
                if self.over(one.last_seen_ms, one.session.expires_ms, now_ms) {
                    return Err(TrustError::SignIn);
                }
                origin::known().await;
                Ok(one.session)
            }
            _ => {
                let (document, _) = self.read(tenant, &id, &hash, seen_ms, now_ms).await?;
                origin::known().await;
                Ok(session_of(tenant, &id, &document))
            }
        }
    }
    /// Ends a session.
    ///
    /// # Errors
    /// `Ledger`.
    pub async fn sign_out(&self, secret: &str) -> Result<(), TrustError> {
        let Some(tenant) = self.tenant_of(secret) else {
            return Ok(());
        };
        let hash = secrets::hash(secret);
        let id = self.id_of(tenant, "session", &hash);
        for _ in 0..super::RETRIES {
            let Some(kept) = self.session_document(tenant, &id, &hash).await? else {
                self.inner.sessions.remove(&id);
                return Ok(());
            };
            let agent = kept.body.agent.agent(tenant);
            let record = Record::new(&agent, Event::LOGOUT);
            let gone = self.session_with_devices(tenant, &kept).await?;
            match self.commit(tenant, gone, record).await {
                // Its last use was written in between.
                Err(TrustError::Ledger(LedgerError::Conflict)) => {}
                other => {
                    self.inner.sessions.remove(&id);
                    return other;
                }
            }
        }
        Err(LedgerError::Conflict.into())
    }

    /// Opens a session together with what else the sign-in writes. `provider` says by whom it is opened, if an
    /// identity provider does.
    pub(super) async fn open(
        &self,
        tenant: TenantId,
        account: Option<String>,
        agent: AgentDocument,
        documents: Vec<Draft>,
        by: OpenedBy,
        provider: Option<AtProvider>,
    ) -> Result<SignIn, TrustError> {
        let note = by.note(provider.as_ref());
        let opened = (account, u64::MAX, provider);
        let by = (Some(by), note.as_str());
        self.open_until(tenant, opened, agent, documents, by).await
    }

    /// The same, ending no later than at a time.
    pub(super) async fn open_until(
        &self,
        tenant: TenantId,
        (account, until_ms, provider): (Option<String>, u64, Option<AtProvider>),
        agent: AgentDocument,
        mut documents: Vec<Draft>,
        (opened, note): (Option<OpenedBy>, &str),
    ) -> Result<SignIn, TrustError> {
        let entropy = self.inner.ledger.entropy();
        let secret = secrets::mint(tenant, entropy.as_ref());
        let now_ms = self.now_ms();
        // Nobody of staff gets here without one.
        let factor_ms = match &provider {
            _ if agent.role.has_one_record() => 0,
            Some(at) => at.factor_ms(now_ms),
            None => now_ms,
        };
        let document = SessionDocument {
            secret: secrets::hash(&secret),
            stage: Stage::Open,
            account,
            agent,
            provider,
            opened,
            browser: browsers::browser(),
            csrf: secrets::mint(tenant, entropy.as_ref()),
            created_ms: now_ms,
            last_seen_ms: now_ms,
            expires_ms: now_ms.saturating_add(self.inner.absolute_ms).min(until_ms),
            factor_ms,
            factor: None,
        };
        let id = self.id_of(tenant, "session", &document.secret);
        documents.push(self.session_draft(tenant, &id, Expected::Absent, &document)?);
        let agent = document.agent.agent(tenant);
        let mut record = Record::new(&agent, Event::LOGIN);
        record.note = Some(note);
        record.patients.extend(agent.patient.clone());
        match self.commit(tenant, documents, record).await {
            Ok(()) => {}
            // Somebody else used the same link, ticket or code at the same time.
            Err(TrustError::Ledger(LedgerError::Conflict)) => return Err(TrustError::SignIn),
            Err(error) => return Err(error),
        }
        if let Some(at) = &document.provider
            && self.has_ended(tenant, at).await?
        {
            // Who ends what a provider opened remembers it first and looks for sessions then, so that one of
            // both sees the other.
            self.sign_out(&secret).await?;
            return Err(TrustError::SignIn);
        }
        // Not taken into memory yet: the account may have been closed while this was on its way, and
        // the first use looks at it.
        let session = session_of(tenant, &id, &document);
        Ok(SignIn::Done { secret, session })
    }

    pub(super) fn over(&self, last_seen_ms: u64, expires_ms: u64, now_ms: u64) -> bool {
        now_ms.saturating_sub(last_seen_ms) >= self.inner.idle_ms || now_ms >= expires_ms
    }

    pub(super) async fn session_document(
        &self,
        tenant: TenantId,
        id: &str,
        hash: &str,
    ) -> Result<Option<Kept<SessionDocument>>, TrustError> {
        let found: Option<Kept<SessionDocument>> =
            get(&self.inner.ledger, tenant, kinds::SESSION, id).await?;
        Ok(found.filter(|kept| {
            kept.body.stage == Stage::Open && secrets::same(&kept.body.secret, hash)
        }))
    }

    pub(super) fn session_draft(
        &self,
        tenant: TenantId,
        id: &str,
        expected: Expected,
        document: &SessionDocument,
    ) -> Result<Draft, TrustError> {
        let mut found_by = Vec::new();
        found_by.extend(document.account.as_deref().map(|id| ("account", id)));
        found_by.extend(document.agent.patient.as_deref().map(|id| ("patient", id)));
        let by_provider = document.provider.as_ref().map(AtProvider::found_by);
        for (name, value) in by_provider.iter().flatten() {
            found_by.push((name, value));
        }
        let ledger = &self.inner.ledger;
        draft(
            ledger,
            tenant,
            kinds::SESSION,
            id,
            expected,
            document,
            &found_by,
            Some(document.expires_ms),
        )
    }

    /// Takes a session from the store.
    async fn look_up(
        &self,
        tenant: TenantId,
        id: &str,
        hash: &str,
        now_ms: u64,
    ) -> Result<Live, TrustError> {
        let sessions = &self.inner.sessions;
        let seen = sessions.seen();
        // What memory knows is newer than what is kept.
        let seen_ms = sessions
            .with(|live| live.remove(id))
            .map(|one| one.last_seen_ms);
        let (document, last_seen_ms) = self.read(tenant, id, hash, seen_ms, now_ms).await?;
        let live = Live {
            session: session_of(tenant, id, &document),
            last_seen_ms: last_seen_ms.max(now_ms),
            kept_ms: document.last_seen_ms,
            checked_ms: now_ms,
        };
        sessions.insert(id.to_owned(), live.clone(), seen);
        Ok(live)
    }

    /// Reads a session that holds, and when it was last used. `seen_ms` is what memory knows of that.
    async fn read(
        &self,
        tenant: TenantId,
        id: &str,
        hash: &str,
        seen_ms: Option<u64>,
        now_ms: u64,
    ) -> Result<(SessionDocument, u64), TrustError> {
        let kept = self
            .session_document(tenant, id, hash)
            .await?
            .ok_or(TrustError::SignIn)?;
        let document = kept.body;
        let last_seen_ms = document.last_seen_ms.max(seen_ms.unwrap_or(0));
        if self.over(last_seen_ms, document.expires_ms, now_ms) {
            return Err(TrustError::SignIn);
        }
        if let Some(account) = &document.account {
            let account = self.account(tenant, account).await?;
            if !account.is_some_and(|kept| kept.body.active) {
                return Err(TrustError::SignIn);
            }
        }
        if let Some(at) = &document.provider
            && !self
                .is_linked(tenant, document.account.as_deref(), at)
                .await?
        {
            return Err(TrustError::SignIn);
        }
        // What was kept ends it, though ending sessions was cut short.
        if let Some(at) = &document.provider
            && self.has_ended(tenant, at).await?
        {
            return Err(TrustError::SignIn);
        }
        if let Some(patient) = &document.agent.patient
            && self.is_shut_out(tenant, patient).await?
        {
            return Err(TrustError::SignIn);
        }
        Ok((document, last_seen_ms))
    }

    /// Writes when a session was last used.
    async fn keep(&self, tenant: TenantId, id: &str, last_seen_ms: u64) -> Result<(), TrustError> {
        let found: Option<Kept<SessionDocument>> =
            get(&self.inner.ledger, tenant, kinds::SESSION, id).await?;
        let Some(mut kept) = found else {
            return Ok(());
        };
        kept.body.last_seen_ms = last_seen_ms;
        let expected = Expected::Version(kept.version);
        let draft = self.session_draft(tenant, id, expected, &kept.body)?;
        let agent = kept.body.agent.agent(tenant);
        let record = Record::new(&agent, Event::SESSION_KEPT);
        match self.commit(tenant, vec![draft], record).await {
            // Somebody else wrote the same thing, or signed out.
            Ok(()) | Err(TrustError::Ledger(LedgerError::Conflict)) => {}
            Err(error) => return Err(error),
        }
        self.inner.sessions.with(|live| {
            if let Some(one) = live.get_mut(id) {
                one.kept_ms = one.kept_ms.max(last_seen_ms);
            }
        });
        Ok(())
    }
}

fn session_of(tenant: TenantId, id: &str, document: &SessionDocument) -> Session {
    Session {
        id: id.to_owned(),
        agent: crate::Agent {
            signed_in: document.signed_in(),
            ..document.agent.agent(tenant)
        },
        csrf: document.csrf.clone(),
        provider: (document.provider.as_ref()).map(|provider| provider.issuer.clone()),
        expires_ms: document.expires_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Agent;

    const CHECKED_MS: u64 = 1_000_000;

    fn live() -> Live {
        let session = Session {
            id: "s".to_owned(),
            agent: Agent {
                tenant: TenantId(1),
                id: "a".to_owned(),
                name: String::new(),
                role: crate::Role::Clinician,
                patient: None,
                access: None,
                signed_in: crate::SignedIn::default(),
            },
            csrf: String::new(),
            provider: None,
            expires_ms: 10,
        };
        Live {
            session,
            last_seen_ms: 0,
            kept_ms: 0,
            checked_ms: CHECKED_MS,
        }
    }

    /// A request reads the session, another one signs out, and only then does the first come to put
    /// into memory what it read.
    // Proves: 45 CFR 164.308(a)(3)(ii)(C)
    #[test]
    fn what_was_read_before_something_was_taken_away_is_not_trusted() {
        let sessions = Sessions::default();
        let checked_ms = || sessions.with(|live| live.get("s").map(|one| one.checked_ms));
        let put = |seen| sessions.insert("s".to_owned(), live(), seen);
        let before = sessions.seen();
        sessions.remove("s");
        put(before);
        assert_eq!(checked_ms(), Some(0), "a sign-out was undone");
        let before = sessions.seen();
        sessions.recheck_all();
        put(before);
        assert_eq!(checked_ms(), Some(0), "a closed account was let in");
        put(sessions.seen());
        assert_eq!(checked_ms(), Some(CHECKED_MS));
        sessions.forget(|_, expires_ms| expires_ms > 10);
        assert_eq!(checked_ms(), Some(CHECKED_MS));
        sessions.forget(|_, expires_ms| expires_ms <= 10);
        assert_eq!(checked_ms(), None);
    }
}
