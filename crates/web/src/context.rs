//! Who is on the page: the session behind the cookie, the permits that the session gets, and the
//! fields of a form that carried the session's CSRF token.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::{FromRequest, FromRequestParts, MatchedPath, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use fhir::ResourceType;
use fhir::search::SearchQuery;
use trust::identity::{Acting, EmergenciesWaiting, EmergencyAccess, RelyingParty, Session};
use trust::{Action, Freshness, Permit, Purpose, Role, Target};

use crate::WebState;
use crate::error::PageError;
use crate::step_up;
use crate::time::{Times, signed};

/// What every handler shares.
pub(crate) struct App {
    /// What `cairn` wired.
    pub(crate) web: WebState,
    /// Whom passkeys are made for; none where browsers make none for this address.
    pub(crate) party: Option<RelyingParty>,
    /// The zone that pages show times in.
    pub(crate) zone: jiff::tz::TimeZone,
    /// What lists are made of.
    pub(crate) shelves: crate::worklist::Shelves,
    /// How many live streams may still be opened.
    pub(crate) streams: Arc<tokio::sync::Semaphore>,
    /// How many more journey files may be looked at at once.
    pub(crate) looks: Arc<tokio::sync::Semaphore>,
    /// Whose files are checked just now while they type.
    pub(crate) typing: Arc<crate::journeys::typing::Turns>,
    /// How many more cohorts may be simulated at once.
    pub(crate) cohorts: Arc<tokio::sync::Semaphore>,
}

impl App {
    pub(crate) fn times(&self) -> Times {
        Times {
            care_ms: signed(self.ledger().clock().now_ms()),
            wall_ms: signed(self.web.trust.wall_clock().now_ms()),
            zone: self.zone.clone(),
        }
    }
    pub(crate) fn ledger(&self) -> &ledger::Ledger {
        self.web.trust.vault().ledger()
    }
    /// The name of the session cookie; `__Host-` binds it to this host, which needs TLS.
    pub(crate) fn session_cookie(&self) -> &'static str {
        if self.web.secure_cookies {
            "__Host-cairn"
        } else {
            "cairn"
        }
    }
    /// The name of the cookie that sign-in forms, which have no session yet, are checked against.
    pub(crate) fn form_cookie(&self) -> &'static str {
        if self.web.secure_cookies {
            "__Host-cairn-form"
        } else {
            "cairn-form"
        }
    }
    /// The name of the cookie that remembers which application's request somebody came with who then signs in
    /// by a link.
    pub(crate) fn request_cookie(&self) -> &'static str {
        if self.web.secure_cookies {
            "__Host-cairn-app"
        } else {
            "cairn-app"
        }
    }
    /// The name of the cookie that knows which device with notifications a browser is: nobody sees by it who signs in,
    /// but the device ends where somebody signs out in that browser.
    pub(crate) fn device_cookie(&self) -> &'static str {
        if self.web.secure_cookies {
            "__Host-cairn-device"
        } else {
            "cairn-device"
        }
    }
    pub(crate) fn random_hex(&self, bytes: usize) -> String {
        use std::fmt::Write as _;
        let mut buffer = vec![0; bytes];
        ledger::Entropy::fill(self.ledger().entropy().as_ref(), &mut buffer);
        buffer.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

/// What the outermost layer knows of a request; in its extensions.
#[derive(Debug, Clone, Default)]
pub(crate) struct RequestInfo {
    /// Ties the page, the log and the audit together.
    pub(crate) id: String,
    /// `light` or `dark`, when the visitor chose.
    pub(crate) theme: Option<&'static str>,
    /// Path and query, to come back to.
    pub(crate) here: String,
}

/// A cookie's value.
pub(crate) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
}

/// Somebody who is signed in, and everything that a page for them needs.
#[derive(Clone)]
pub(crate) struct Ctx {
    pub(crate) app: Arc<App>,
    pub(crate) session: Session,
    /// The cookie's secret, for checking the session again while a live page is open.
    pub(crate) secret: String,
    pub(crate) request: RequestInfo,
    pub(crate) times: Times,
    /// For privacy officers: emergency accesses that wait for them.
    pub(crate) emergencies: EmergenciesWaiting,
    /// Of somebody who acts for a patient: for whom. None when they don't any more.
    pub(crate) acting: Option<Acting>,
    /// When an emergency access ends that something on this page was shown under, by the wall clock; 0 if
    /// nothing was. Copies are of the same page.
    pub(crate) emergency_until_ms: Arc<AtomicU64>,
    /// What has to go out with what was read for this page. Copies are of the same page.
    pub(crate) freshness: Freshness,
}

impl Ctx {
    pub(crate) fn role(&self) -> Role {
        self.session.agent.role
    }
    pub(crate) fn vault(&self) -> &trust::Vault {
        self.app.web.trust.vault()
    }
    /// A clinician's emergency access to a patient, while it stands.
    pub(crate) async fn emergency(
        &self,
        patient: &str,
    ) -> Result<Option<EmergencyAccess>, PageError> {
        if self.role() != Role::Clinician {
            return Ok(None);
        }
        let identity = self.app.web.trust.identity();
        Ok(identity.emergency(&self.session.agent, patient).await?)
    }
    /// Asks `trust` for a permit for this person's purpose: in an emergency, while their access to the patient
    /// stands.
    pub(crate) async fn permit(
        &self,
        action: Action,
        kind: Option<ResourceType>,
        patient: Option<&str>,
    ) -> Result<Permit, PageError> {
        let mut purpose = self.role().purpose();
        if let Some(patient) = patient
            && let Some(access) = self.emergency(patient).await?
        {
            let until_ms = &self.emergency_until_ms;
            until_ms.store(access.until_ms, Ordering::Relaxed);
            purpose = Purpose::Emergency;
        }
        let target = Target {
            kind,
            patient: patient.map(str::to_owned),
        };
        Ok(self
            .app
            .web
            .trust
            .decide(
                &self.session.agent,
                purpose,
                action,
                target,
                &self.request.id,
            )
            .await?
            .with(self.freshness.clone()))
    }
    /// Asks whether they may look after their own account, which shows and changes nothing of a record.
    pub(crate) async fn account(&self) -> Result<(), PageError> {
        self.permit(Action::Account, None, None).await.map(drop)
    }
    /// The same context a while later, for live parts.
    pub(crate) fn later(&self) -> Self {
        Self {
            times: self.app.times(),
            ..self.clone()
        }
    }
    /// For pages of the console. A patient is sent away with the policy's reason.
    pub(crate) fn staff(&self) -> Result<(), PageError> {
        if self.role().has_one_record() {
            return Err(PageError::Refused(
                "The console is for staff. Your own pages are in the portal.".to_owned(),
            ));
        }
        Ok(())
    }
    /// For pages of the portal: whose record it is.
    pub(crate) fn own_patient(&self) -> Result<&str, PageError> {
        if self.role() == Role::Proxy {
            let acting = self.acting.as_ref().ok_or_else(|| {
                PageError::Refused("You don't act for this patient, or not any more. If that surprises you, please ask the people who look after them.".to_owned())
            })?;
            return Ok(&acting.patient);
        }
        self.session.agent.patient.as_deref().ok_or_else(|| {
            PageError::Refused("The portal shows patients their own record. You are signed in as a member of staff.".to_owned())
        })
    }
    /// For pages of the portal that are the patient's alone, and of nobody who acts for them.
    pub(crate) fn patient_alone(&self) -> Result<&str, PageError> {
        if self.role() == Role::Proxy {
            return Err(PageError::Refused(
                "This page is for the patient alone. Ask the people who look after them if you need something changed here.".to_owned(),
            ));
        }
        self.own_patient()
    }
    /// `Type/id` of who answers and notes here: the patient, or who acts for them.
    pub(crate) fn own_reference(&self) -> Result<String, PageError> {
        let patient = self.own_patient()?;
        Ok(match &self.acting {
            Some(acting) => format!("{}/{}", ResourceType::RelatedPerson, acting.id),
            None => format!("{}/{patient}", ResourceType::Patient),
        })
    }
    /// Where this person's work starts.
    pub(crate) fn home(&self) -> &'static str {
        home(self.role())
    }
}

/// Where a role's work starts.
pub(crate) fn home(role: Role) -> &'static str {
    match role {
        Role::Patient | Role::Proxy => "/portal",
        Role::PrivacyOfficer => "/console/audit",
        Role::Squad => "/console/journeys",
        Role::Administrator => "/console/accounts",
        Role::Biller => "/console/record",
        _ => "/console/worklist",
    }
}

/// A query that this crate wrote itself.
pub(crate) fn query(
    kind: ResourceType,
    parameters: &[(&str, &str)],
    count: usize,
) -> Result<SearchQuery, PageError> {
    let mut owned: Vec<(String, String)> = parameters
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    owned.push(("_count".to_owned(), count.to_string()));
    SearchQuery::parse(kind, &owned, false).map_err(|outcome| PageError::Invalid(outcome.summary()))
}

impl Ctx {
    /// Reads the session of a request. `person`: whether somebody did something, which keeps the
    /// session awake.
    async fn of(parts: &Parts, app: &Arc<App>, person: bool) -> Result<Self, PageError> {
        let request = parts
            .extensions
            .get::<RequestInfo>()
            .cloned()
            .unwrap_or_default();
        // After signing in, come back here; only a page can be come back to.
        let back = (parts.method == Method::GET && person).then(|| request.here.clone());
        let secret = cookie(&parts.headers, app.session_cookie())
            .ok_or_else(|| PageError::SignedOut(back.clone()))?
            .to_owned();
        let identity = app.web.trust.identity();
        let found = if person {
            identity.session(&secret).await
        } else {
            identity.peek(&secret).await
        };
        let session = match found {
            Ok(session) => session,
            Err(trust::TrustError::SignIn) => return Err(PageError::SignedOut(back)),
            Err(error) => return Err(error.into()),
        };
        let emergencies = if session.agent.role == Role::PrivacyOfficer {
            identity.emergencies_waiting(session.agent.tenant).await?
        } else {
            EmergenciesWaiting::default()
        };
        let acting = identity.acting(&session.agent).await?;
        Ok(Self {
            acting,
            times: app.times(),
            app: app.clone(),
            session,
            secret,
            request,
            emergencies,
            emergency_until_ms: Arc::default(),
            freshness: Freshness::default(),
        })
    }
}

impl FromRequestParts<Arc<App>> for Ctx {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, PageError> {
        Self::of(parts, app, true).await
    }
}

/// Somebody whose page asks by itself: that is no sign of a person and keeps no session awake.
pub(crate) struct Watching(pub(crate) Ctx);

impl FromRequestParts<Arc<App>> for Watching {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, PageError> {
        Ctx::of(parts, app, false).await.map(Self)
    }
}

/// The fields of a form or a query.
#[derive(Default)]
pub(crate) struct Fields(pub(crate) Vec<(String, String)>);

impl Fields {
    /// A field, trimmed; `None` when it is missing or empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.trim())
            .filter(|value| !value.is_empty())
    }
    /// A field as it was typed.
    pub(crate) fn raw(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
    /// All values of a field that may come several times.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.trim())
    }
    /// The query string of these fields, without the empty ones.
    pub(crate) fn to_query(&self, without: &[&str]) -> String {
        let pairs: Vec<String> = self
            .0
            .iter()
            .filter(|(name, value)| !value.is_empty() && !without.contains(&name.as_str()))
            .map(|(name, value)| format!("{}={}", escape(name), escape(value)))
            .collect();
        pairs.join("&")
    }
}

/// Percent-encodes a part of a URL.
pub(crate) fn escape(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes()
        .fold(String::with_capacity(text.len()), |mut out, byte| {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                out.push(char::from(byte));
            } else {
                let _ = write!(out, "%{byte:02X}");
            }
            out
        })
}

/// The query of a page.
impl FromRequestParts<Arc<App>> for Fields {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, PageError> {
        axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
            .map(|query| Self(query.0))
            .map_err(|_| {
                PageError::Invalid("The address has a part that can't be read.".to_owned())
            })
    }
}

/// Fields of a form without a check of who sent it; sign-in checks them against a cookie.
pub(crate) async fn form_fields(request: Request) -> Result<Fields, PageError> {
    axum::extract::Form::<Vec<(String, String)>>::from_request(request, &())
        .await
        .map(|form| Fields(form.0))
        .map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => PageError::TooLong,
            _ => PageError::Invalid("The form can't be read.".to_owned()),
        })
}

/// Whether a browser says that another site sent this. Pages send no referrer, so `Origin` is
/// `null` on their own forms; `Sec-Fetch-Site` is what tells.
pub(crate) fn from_elsewhere(headers: &HeaderMap) -> bool {
    headers
        .get("sec-fetch-site")
        .is_some_and(|site| site != "same-origin" && site != "none")
}

/// Compares in a time that does not depend on where the texts differ.
pub(crate) fn same_secret(left: &str, right: &str) -> bool {
    left.len() == right.len()
        && left
            .bytes()
            .zip(right.bytes())
            .fold(0u8, |gap, (a, b)| gap | (a ^ b))
            == 0
}

/// A form of somebody who is signed in, sent from one of our pages; where the form does something sensitive, by
/// somebody who has shown a fresh second factor.
pub(crate) struct Posted {
    pub(crate) ctx: Ctx,
    pub(crate) fields: Fields,
}

impl FromRequest<Arc<App>> for Posted {
    type Rejection = PageError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, PageError> {
        let (mut parts, body) = request.into_parts();
        let mut ctx = Ctx::from_request_parts(&mut parts, app).await?;
        let elsewhere = from_elsewhere(&parts.headers);
        let route = parts.extensions.get::<MatchedPath>().cloned();
        let fields = form_fields(Request::from_parts(parts, body)).await?;
        let token = fields.raw("csrf").unwrap_or_default();
        if elsewhere || token.is_empty() || !same_secret(token, &ctx.session.csrf) {
            return Err(PageError::Forged);
        }
        let route = route.as_ref().map_or("", MatchedPath::as_str);
        let fields = step_up::through(&mut ctx, route, fields).await?;
        Ok(Self { ctx, fields })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_told_apart() {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::COOKIE,
            "cairn-form=a; cairn=b; xcairn=c".parse().unwrap(),
        );
        assert_eq!(cookie(&headers, "cairn"), Some("b"));
        assert_eq!(cookie(&headers, "cairn-form"), Some("a"));
        assert_eq!(cookie(&headers, "other"), None);
    }

    #[test]
    fn secrets_compare() {
        assert!(same_secret("abc", "abc"));
        assert!(!same_secret("abc", "abd"));
        assert!(!same_secret("abc", "ab"));
        assert!(!same_secret("", "a"));
    }

    #[test]
    fn queries_are_escaped() {
        let fields = Fields(vec![
            ("a".into(), "x y&z".into()),
            ("b".into(), String::new()),
            ("page".into(), "2".into()),
        ]);
        assert_eq!(fields.to_query(&["page"]), "a=x%20y%26z");
    }
}
