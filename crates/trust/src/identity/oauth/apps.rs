//! Applications that people launch (SMART App Launch 2.2): where they may be sent back to, and what they may
//! ask for at most. They are registered like systems; `systems.rs` has what both have in common.

use ledger::TenantId;
use serde::{Deserialize, Serialize};

use super::kept_scopes::KeptScopes;
use super::systems::{State, SystemDocument, SystemKeys, checked_name};
use crate::identity::manage::invalid;
use crate::identity::{Identity, Session};
use crate::scopes::{Context, Level, SCOPES_BYTES_MAX, Scopes};
use crate::{Action, Agent, TrustError};

/// The most addresses that an application is sent back to.
const REDIRECTS_MAX: usize = 10;
/// The most bytes of an address.
const URL_BYTES_MAX: usize = 1000;
/// Scopes of OpenID Connect of which nothing is here. Applications ask for them as a matter of course; they are
/// not granted, and what is granted is told.
const PASSED_OVER: [&str; 3] = ["email", "phone", "address"];
/// Where programs on people's own machines listen (RFC 8252, section 7.3). Not `localhost`, which can be
/// another machine (section 8.3).
pub(super) const LOOPBACK: [&str; 2] = ["http://127.0.0.1", "http://[::1]"];

/// An application to be registered.
#[derive(Debug, Clone)]
pub struct NewApp {
    /// Name, for the people who let it in.
    pub name: String,
    /// Where people may be sent back to.
    pub redirect_uris: Vec<String>,
    /// Where it is opened from a patient's page, if it can be.
    pub launch_uri: Option<String>,
    /// What it may ask for at most: `patient/` and `user/` scopes, and contexts.
    pub scopes: String,
    /// Its public keys; none for an application that keeps no secret.
    pub keys: SystemKeys,
}

/// What an application has beside what a system has.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::identity) struct AppPart {
    pub(in crate::identity) redirect_uris: Vec<String>,
    pub(in crate::identity) launch_uri: Option<String>,
}

/// An application that is let in.
#[derive(Debug, Clone)]
pub struct App {
    /// Its `client_id`.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whether it can be opened from a patient's page.
    pub launches: bool,
    redirect_uris: Vec<String>,
    scopes: Scopes,
}

impl App {
    /// Whether people may be sent back to an address: one that is registered, to the letter; of a program on
    /// the person's own machine, with any port.
    #[must_use]
    pub fn comes_back_to(&self, address: &str) -> bool {
        self.redirect_uris.iter().any(|registered| {
            registered == address
                || loopback(registered).is_some_and(|own| loopback(address) == Some(own))
        })
    }
}

/// Scopes that an application asks for.
///
/// # Errors
/// [`crate::scopes::ScopeError`] for the first that is not understood.
pub fn wanted_scopes(text: &str) -> Result<Scopes, crate::scopes::ScopeError> {
    // An application may send no more than is looked at.
    if text.len() > SCOPES_BYTES_MAX {
        return Err(crate::scopes::ScopeError::TooMany);
    }
    let ours: Vec<&str> = text
        .split(' ')
        .filter(|scope| !PASSED_OVER.contains(scope))
        .collect();
    Scopes::parse(&ours.join(" "))
}

pub(super) fn scopes_of_app(text: &str) -> Result<Scopes, TrustError> {
    let scopes = wanted_scopes(text).map_err(|error| TrustError::Invalid(error.to_string()))?;
    if !scopes.has_resources() || scopes.at(&[Level::System]).has_resources() {
        return invalid(
            "an application has scopes like patient/Observation.rs or user/Observation.rs, and no system/ ones",
        );
    }
    if scopes.to_string().len() > SCOPES_BYTES_MAX {
        return invalid("written out, the scopes are too long; give fewer of them");
    }
    Ok(scopes)
}

/// The host, and what comes behind the port, of an address on the person's own machine.
pub(super) fn loopback(address: &str) -> Option<(&'static str, &str)> {
    LOOPBACK.into_iter().find_map(|host| {
        let rest = address.strip_prefix(host)?;
        let path = match rest.strip_prefix(':') {
            None => rest,
            Some(rest) => {
                let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
                let port: u16 = rest[..digits].parse().ok()?;
                (port > 0).then_some(&rest[digits..])?
            }
        };
        (path.is_empty() || path.starts_with(['/', '?'])).then_some((host, path))
    })
}

/// An address that a browser may be sent to.
fn check_address(address: &str) -> Result<(), TrustError> {
    let is_plain = address.len() <= URL_BYTES_MAX
        && address
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"#\\\"<>".contains(&byte));
    let is_https = address.strip_prefix("https://").is_some_and(|rest| {
        let host = rest.split(['/', '?']).next().unwrap_or_default();
        let (name, port) = host.split_once(':').unwrap_or((host, "443"));
        let named = name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte));
        named && port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
    });
    if is_plain && (is_https || loopback(address).is_some()) {
        return Ok(());
    }
    invalid(
        "the address of an application is like https://app.example.org/back, without a user and without #, or of the person's own machine like http://127.0.0.1/back",
    )
}

/// Scheme, host and port.
pub(super) fn origin(address: &str) -> &str {
    let host = address.find("://").map_or(0, |at| at + 3);
    let end = address[host..].find(['/', '?']);
    end.map_or(address, |end| &address[..host + end])
}

fn checked(app: &NewApp, state: State, now_ms: u64) -> Result<SystemDocument, TrustError> {
    if app.redirect_uris.is_empty() || app.redirect_uris.len() > REDIRECTS_MAX {
        return invalid("an application has 1 to 10 addresses that people are sent back to");
    }
    // People see where an application sends them back to, and are led to where it opens.
    if let Some(launch) = &app.launch_uri
        && !app
            .redirect_uris
            .iter()
            .any(|address| origin(address) == origin(launch))
    {
        return invalid(
            "the address at which an application opens has the scheme, host and port of one of its redirect addresses",
        );
    }
    for address in app.redirect_uris.iter().chain(&app.launch_uri) {
        check_address(address)?;
    }
    match app.keys {
        SystemKeys::None => {}
        SystemKeys::Certificates(_) => {
            return invalid("an application has keys, and no certificates");
        }
        SystemKeys::Set(_) | SystemKeys::At(_) => app.keys.check(now_ms)?,
    }
    Ok(SystemDocument {
        name: checked_name(&app.name)?,
        keys: app.keys.clone(),
        certificates: None,
        earlier: Vec::new(),
        round: 0,
        scopes: KeptScopes::of(&scopes_of_app(&app.scopes)?),
        state,
        app: Some(AppPart {
            redirect_uris: app.redirect_uris.clone(),
            launch_uri: app.launch_uri.clone(),
        }),
    })
}

impl Identity {
    /// Registers an application, and gives its `client_id`.
    ///
    /// # Errors
    /// `Refused`; `Invalid` when addresses, keys, scopes or name can't be taken; `Ledger`.
    pub async fn register_app(&self, by: &Agent, app: &NewApp) -> Result<String, TrustError> {
        let permit = self.permit(by, Action::Administer).await?;
        let document = checked(app, State::Active, self.now_ms())?;
        let id = self.register(&permit, &document, "as an application", None);
        let id = id.await?;
        self.signs_for(permit.tenant(), &document.scopes).await?;
        Ok(id)
    }

    /// Sees to it that there is a key for an application that signs people in: before it asks for a token, it
    /// asks for the keys.
    pub(super) async fn signs_for(
        &self,
        tenant: TenantId,
        scopes: &KeptScopes,
    ) -> Result<(), TrustError> {
        let scopes = wanted_scopes(&scopes.text()).unwrap_or_default();
        match scopes.has(Context::OpenId) {
            true => self.ensure_signing_key(tenant).await,
            false => Ok(()),
        }
    }

    /// Takes a stranger's wish that an application be registered. `None` when too many wait already.
    ///
    /// # Errors
    /// As [`Identity::register_app`].
    pub async fn ask_to_register_app(
        &self,
        tenant: TenantId,
        app: &NewApp,
    ) -> Result<Option<String>, TrustError> {
        let document = checked(app, self.waits_from_now(), self.now_ms())?;
        self.ask(tenant, &document).await
    }

    /// The application of a `client_id`, if it is let in.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn app(&self, tenant: TenantId, id: &str) -> Result<Option<App>, TrustError> {
        let document = self.app_document(tenant, id).await?;
        let Some(document) = document.filter(SystemDocument::is_active) else {
            return Ok(None);
        };
        let Some(part) = document.app else {
            return Ok(None);
        };
        Ok(Some(App {
            scopes: document.scopes.parsed(id)?,
            id: id.to_owned(),
            name: document.name,
            launches: part.launch_uri.is_some(),
            redirect_uris: part.redirect_uris,
        }))
    }

    /// The applications that can be opened from a patient's page.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn apps_to_launch(&self, tenant: TenantId) -> Result<Vec<App>, TrustError> {
        const SHOWN_MAX: usize = 1000;
        let mut apps = Vec::new();
        for kept in self.systems(tenant, SHOWN_MAX).await? {
            let launches = |part: &AppPart| part.launch_uri.is_some();
            if kept.body.is_active()
                && kept.body.app.as_ref().is_some_and(launches)
                && let Some(app) = self.app(tenant, &kept.id).await?
                && app.scopes.has(Context::Launch)
            {
                apps.push(app);
            }
        }
        apps.sort_by(|left, right| (&left.name, &left.id).cmp(&(&right.name, &right.id)));
        Ok(apps)
    }

    /// What an application can get at most for a person, of what it asks for: what it is registered for, at
    /// the levels of the person's role, and what policies let that role do wherever and whenever: a grant lasts, and
    /// each request is decided by what is around it.
    #[must_use]
    pub fn grantable(&self, session: &Session, app: &App, wanted: &Scopes) -> Scopes {
        let role = session.agent.role;
        let levels: &[Level] = match role {
            _ if !role.launches_apps() => &[],
            crate::Role::Patient => &[Level::Patient],
            _ => &[Level::Patient, Level::User],
        };
        let asker = crate::policy::Asker {
            role,
            part: None,
            purpose: role.purpose(),
            own: role == crate::Role::Patient,
            around: None,
        };
        let grants = self.inner.policies.widest_grants(&asker);
        let mut asked = wanted.narrow(&app.scopes).at(levels);
        if !asked.has(Context::OpenId) {
            asked = asked.without_all(&Context::IDENTITY);
        }
        // What a patient may change is narrowed by the portal's own forms: policies let them write resources
        // whole, which is more than any application needs (`Patient.telecom` is where sign-in links go).
        let looks_only = role == crate::Role::Patient;
        asked.let_by(|action, kind| {
            let looks = matches!(action, Action::Read | Action::Search | Action::History);
            (looks || !looks_only) && grants.interaction(action, kind)
        })
    }

    pub(super) async fn app_document(
        &self,
        tenant: TenantId,
        id: &str,
    ) -> Result<Option<SystemDocument>, TrustError> {
        if !fhir::is_id(id) {
            return Ok(None);
        }
        self.inner.apps.get(&self.inner.ledger, tenant, id).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(registered: &str) -> App {
        App {
            id: "a".to_owned(),
            name: "A".to_owned(),
            launches: false,
            redirect_uris: vec![registered.to_owned()],
            scopes: Scopes::default(),
        }
    }

    #[test]
    fn people_are_sent_back_to_what_was_registered_alone() {
        let https = "https://app.example.org/back?a=1";
        let own = "http://127.0.0.1/back";
        let table = [
            (https, https, true),
            (https, "https://app.example.org/back", false),
            (https, "https://app.example.org/back?a=1&b=2", false),
            (https, "https://app.example.org/back?a=1#x", false),
            (https, "https://app.example.org:443/back?a=1", false),
            (https, "https://APP.example.org/back?a=1", false),
            (https, "http://app.example.org/back?a=1", false),
            (https, "https://x@app.example.org/back?a=1", false),
            (https, "https://app.example.org.evil/back?a=1", false),
            (https, "https://app.example.org/./back?a=1", false),
            (own, "http://127.0.0.1:8123/back", true),
            (own, "http://127.0.0.1/back", true),
            (own, "http://127.0.0.1:8123/back/", false),
            (own, "http://127.0.0.1:8123/other", false),
            (own, "http://127.0.0.1:0/back", false),
            (own, "http://127.0.0.1:70000/back", false),
            (own, "http://127.0.0.1:80@evil.example/back", false),
            (own, "http://127.0.0.1.evil.example/back", false),
            (own, "http://[::1]:8123/back", false),
            (own, "http://localhost:8123/back", false),
            (own, "https://127.0.0.1:8123/back", false),
            (own, "http://127.0.0.1:8123", false),
        ];
        for (registered, address, fits) in table {
            assert_eq!(app(registered).comes_back_to(address), fits, "{address}");
        }
    }

    #[test]
    fn addresses_that_can_be_registered() {
        for (address, fine) in [
            ("https://app.example.org/back", true),
            ("https://app.example.org", true),
            ("https://app.example.org:8443/back?x=1", true),
            ("http://127.0.0.1/back", true),
            ("http://127.0.0.1:4000/back", true),
            ("http://[::1]/back", true),
            ("http://app.example.org/back", false),
            ("http://localhost/back", false),
            ("https://user@app.example.org/back", false),
            ("https://app.example.org/back#part", false),
            ("https://app.example.org\\@evil/", false),
            ("https:///back", false),
            ("https://app.example.org:x/", false),
            ("https://app.example.org:99999/", false),
            ("https://app.example.org/a b", false),
            ("javascript:alert(1)", false),
            ("org.example.app:/back", false),
            ("", false),
        ] {
            assert_eq!(check_address(address).is_ok(), fine, "{address}");
        }
    }
}
