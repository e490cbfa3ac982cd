//! From leaving for a provider to the end that it tells of, over a real store. What a provider signs is made by
//! `Issuer`, checked as a server does, and given on.

use super::*;
use crate::audit::{Event, Record};
use crate::identity::documents::deletion;
use crate::identity::{NewAccount, Session, SignIn, secrets};
use crate::tests::{House, OTHER, TENANT, staff};
use crate::{Action, Agent, Permit, Purpose, Role, TrustError};

pub(super) const SUBJECT: &str = "248";

pub(super) struct Flow {
    pub(super) house: House,
    pub(super) issuer: Issuer,
    pub(super) keys: IssuerKeys,
    pub(super) account: String,
    totp: String,
}

impl Flow {
    /// A house with an account whose second factor is set up.
    pub(super) async fn new() -> Self {
        let house = House::new().await;
        let issuer = Issuer::curve("c");
        let keys = keys(&[&issuer]);
        let identity = house.trust.identity();
        let operator = Agent::system(TENANT, "demo");
        let account = NewAccount {
            tenant: TENANT,
            user_name: "carla".to_owned(),
            name: "Carla Jones".to_owned(),
            role: Role::Clinician,
            password: "wooden-horse-7".to_owned(),
            patient: None,
        };
        let account = identity.create(&operator, account).await.unwrap();
        let totp = identity.set_totp(&operator, &account, None).await.unwrap();
        Self {
            house,
            issuer,
            keys,
            account,
            totp,
        }
    }
    /// The same, linked.
    pub(super) async fn linked() -> Self {
        let flow = Self::new().await;
        flow.link(ISSUER, SUBJECT).await.unwrap();
        flow
    }
    pub(super) async fn permit(&self) -> Permit {
        let by = staff(Role::Administrator);
        let permit = (self.house).permit(&by, Purpose::Administration, Action::Administer);
        permit.await.unwrap()
    }
    pub(super) async fn link(&self, issuer: &str, subject: &str) -> Result<(), TrustError> {
        let identity = self.house.trust.identity();
        let permit = self.permit().await;
        identity
            .link_account(&permit, &self.account, issuer, subject)
            .await
    }
    pub(super) async fn unlink(&self) {
        let identity = self.house.trust.identity();
        let permit = self.permit().await;
        let done = identity.unlink_account(&permit, ISSUER, SUBJECT).await;
        done.unwrap();
    }
    pub(super) fn now_s(&self) -> u64 {
        self.house.wall_ms() / 1000
    }
    /// An identity token of now.
    pub(super) fn id_token(&self, subject: &str, session: Option<&str>) -> IdToken {
        let now_s = self.now_s();
        let mut claims = json!({
            "iss": ISSUER, "aud": "cairn", "sub": subject, "nonce": "n-1", "iat": now_s, "exp": now_s + 300,
            "auth_time": now_s,
        });
        if let Some(session) = session {
            claims = with(claims, "sid", json!(session));
        }
        let token = self.issuer.sign(&self.issuer.header("ES256"), &claims);
        let checked = check_id_token(&token, &self.keys, ASKED, now_s * 1000);
        checked.ok().unwrap()
    }
    /// Somebody comes back from a sign-in of now.
    pub(super) async fn admit(
        &self,
        token: &IdToken,
        by_two_factors: bool,
    ) -> Result<Admission, TrustError> {
        let identity = self.house.trust.identity();
        let left = identity.leave(TENANT, "hospital", ISSUER, None, false);
        self.admit_from(&left?.0, token, by_two_factors).await
    }
    pub(super) async fn admit_from(
        &self,
        away: &Away,
        token: &IdToken,
        by_two_factors: bool,
    ) -> Result<Admission, TrustError> {
        let arrival = Arrival {
            issuer: ISSUER,
            token,
            by_two_factors,
            away,
        };
        self.house.trust.identity().admit(TENANT, arrival).await
    }
    /// Somebody signs in with both factors there.
    pub(super) async fn signed_in(&self, session: Option<&str>) -> (String, Session) {
        let token = self.id_token(SUBJECT, session);
        match self.admit(&token, true).await.unwrap() {
            Admission::Known(SignIn::Done { secret, session }) => (secret, session),
            other => panic!("{other:?}"),
        }
    }
    /// A logout token of now.
    pub(super) fn logout_token(
        &self,
        id: &str,
        subject: Option<&str>,
        session: Option<&str>,
    ) -> LogoutToken {
        let now_s = self.now_s();
        let mut claims = json!({
            "iss": ISSUER, "aud": "cairn", "jti": id, "iat": now_s, "exp": now_s + 120,
            "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
        });
        for (name, value) in [("sub", subject), ("sid", session)] {
            if let Some(value) = value {
                claims = with(claims, name, json!(value));
            }
        }
        let token = self.issuer.sign(&self.issuer.header("ES256"), &claims);
        let checked = check_logout_token(&token, &self.keys, ISSUER, "cairn", now_s * 1000);
        checked.ok().unwrap()
    }
    pub(super) async fn end(&self, token: &LogoutToken) -> usize {
        let identity = self.house.trust.identity();
        identity
            .end_at_provider(TENANT, ISSUER, token)
            .await
            .unwrap()
    }
    pub(super) async fn is_open(&self, secret: &str) -> bool {
        self.house.trust.identity().session(secret).await.is_ok()
    }
    pub(super) fn code(&self) -> String {
        let totp = secrets::totp(&self.totp).unwrap();
        totp.generate(self.now_s()).to_string()
    }
    pub(super) async fn last_note(&self) -> String {
        let events = self.house.audit_events(TENANT).await;
        let note = events[0].text_at(&["outcomeDesc"]);
        note.unwrap_or_default().to_owned()
    }
}

#[tokio::test]
async fn only_an_open_account_that_is_linked_lets_somebody_in() {
    let flow = Flow::new().await;
    let identity = flow.house.trust.identity();
    let token = flow.id_token(SUBJECT, None);
    // A name or an address that fits an account is no link.
    assert!(matches!(
        flow.admit(&token, true).await.unwrap(),
        Admission::Unlinked
    ));
    let note = flow.last_note().await;
    assert_eq!(
        note,
        format!("{ISSUER} signed somebody in to whom no account is linked")
    );
    flow.link(ISSUER, SUBJECT).await.unwrap();
    let events = flow.house.audit_events(TENANT).await;
    let linked = events[0].text_at(&["outcomeDesc"]).unwrap();
    assert!(linked.contains(&flow.account), "{linked}");
    let (secret, session) = flow.signed_in(None).await;
    assert_eq!(session.agent.role, Role::Clinician);
    assert_eq!(session.agent.id, flow.account);
    assert_eq!(session.provider.as_deref(), Some(ISSUER));
    assert_eq!(
        flow.last_note().await,
        format!("signed in at {ISSUER} with two factors")
    );
    assert!(flow.is_open(&secret).await);
    // The subject of another issuer is somebody else, and so is another subject.
    let (away, _) = identity
        .leave(TENANT, "hospital", ISSUER, None, false)
        .unwrap();
    let arrival = Arrival {
        issuer: "https://login.other.example",
        token: &token,
        by_two_factors: true,
        away: &away,
    };
    let other = identity.admit(TENANT, arrival).await.unwrap();
    assert!(matches!(other, Admission::Unlinked));
    let other = flow.id_token("249", None);
    assert!(matches!(
        flow.admit(&other, true).await.unwrap(),
        Admission::Unlinked
    ));
    let permit = flow.permit().await;
    identity
        .set_active(&permit, &flow.account, false)
        .await
        .unwrap();
    assert!(!flow.is_open(&secret).await);
    assert!(matches!(
        flow.admit(&token, true).await.unwrap(),
        Admission::Closed
    ));
}

#[tokio::test]
async fn one_factor_there_asks_for_the_account_s_own() {
    let flow = Flow::linked().await;
    let identity = flow.house.trust.identity();
    let token = flow.id_token(SUBJECT, Some("s-1"));
    let ticket = async || match flow.admit(&token, false).await.unwrap() {
        Admission::Known(SignIn::SecondFactor { ticket }) => ticket,
        other => panic!("{other:?}"),
    };
    let first = ticket().await;
    let wrong = identity.second_factor(&first, "000000").await;
    assert!(matches!(wrong, Err(TrustError::SignIn)), "{wrong:?}");
    let done = identity.second_factor(&first, &flow.code()).await.unwrap();
    let SignIn::Done { secret, session } = done else {
        panic!("{done:?}");
    };
    assert_eq!(session.provider.as_deref(), Some(ISSUER));
    let note = format!("signed in at {ISSUER} and with second factor");
    assert_eq!(flow.last_note().await, note);
    // What ends there ends both what came of it and what waits for its second factor.
    flow.house.wall.advance(60_000);
    let waiting = ticket().await;
    assert_eq!(
        flow.end(&flow.logout_token("j-1", None, Some("s-1"))).await,
        2
    );
    assert!(!flow.is_open(&secret).await);
    let late = identity.second_factor(&waiting, &flow.code()).await;
    assert!(matches!(late, Err(TrustError::SignIn)), "{late:?}");
    // And so does a ticket that was written after it was looked for them.
    let raced = ticket().await;
    let late = identity.second_factor(&raced, &flow.code()).await;
    assert!(matches!(late, Err(TrustError::SignIn)), "{late:?}");
}

/// Who signed in there in the morning shows a factor again before something sensitive, as everybody does.
#[tokio::test]
async fn a_factor_is_as_old_as_the_provider_says() {
    let flow = Flow::linked().await;
    let identity = flow.house.trust.identity();
    let now_s = flow.now_s();
    for (auth_time, is_fresh) in [
        (json!(now_s), true),
        (json!(now_s + 60), true),
        (json!(now_s - 3_600), false),
        (Value::Null, false),
        (json!("now"), false),
    ] {
        let claims = json!({
            "iss": ISSUER, "aud": "cairn", "sub": SUBJECT, "nonce": "n-1", "iat": now_s, "exp": now_s + 300,
        });
        let claims = with(claims, "auth_time", auth_time.clone());
        let token = flow.issuer.sign(&flow.issuer.header("ES256"), &claims);
        let token = check_id_token(&token, &flow.keys, ASKED, now_s * 1000);
        let step = flow.admit(&token.ok().unwrap(), true).await.unwrap();
        let Admission::Known(SignIn::Done { session, .. }) = step else {
            panic!("{step:?}");
        };
        let found = identity.is_stepped_up(&session).await.unwrap();
        assert_eq!(found, is_fresh, "{auth_time}");
    }
    // The account's own factor was shown just now.
    let step = flow.admit(&flow.id_token(SUBJECT, None), false).await;
    let Admission::Known(SignIn::SecondFactor { ticket, .. }) = step.unwrap() else {
        panic!("no second factor is asked for");
    };
    let done = identity.second_factor(&ticket, &flow.code()).await.unwrap();
    let SignIn::Done { session, .. } = done else {
        panic!("{done:?}");
    };
    assert!(identity.is_stepped_up(&session).await.unwrap());
}

#[tokio::test]
async fn who_has_no_second_factor_sets_one_up() {
    let flow = Flow::linked().await;
    let identity = flow.house.trust.identity();
    let permit = flow.permit().await;
    identity
        .reset_second_factor(&permit, &flow.account, "lost")
        .await
        .unwrap();
    let token = flow.id_token(SUBJECT, None);
    let step = flow.admit(&token, false).await.unwrap();
    let Admission::Known(SignIn::EnrolTotp { ticket, secret, .. }) = step else {
        panic!("{step:?}");
    };
    let code = secrets::totp(&secret).unwrap().generate(flow.now_s());
    let done = identity.second_factor(&ticket, &code.to_string()).await;
    assert!(matches!(done, Ok(SignIn::Done { .. })), "{done:?}");
}

#[tokio::test]
async fn links_are_made_and_taken_away_by_those_who_may() {
    let flow = Flow::new().await;
    let identity = flow.house.trust.identity();
    let permit = flow.permit().await;
    let other = identity
        .create(
            &Agent::system(TENANT, "demo"),
            NewAccount {
                tenant: TENANT,
                user_name: "devi".to_owned(),
                name: "Devi Rao".to_owned(),
                role: Role::Clinician,
                password: "wooden-horse-7".to_owned(),
                patient: None,
            },
        )
        .await
        .unwrap();
    flow.link(ISSUER, SUBJECT).await.unwrap();
    // The same again is no error, another account is.
    flow.link(ISSUER, SUBJECT).await.unwrap();
    let refused = |outcome: Result<(), TrustError>, words: &str| {
        let error = outcome.expect_err(words).to_string();
        assert!(error.contains(words), "{words}: {error}");
    };
    let link = async |account: &str, issuer: &str, subject: &str| {
        identity
            .link_account(&permit, account, issuer, subject)
            .await
    };
    refused(link(&other, ISSUER, SUBJECT).await, "another account");
    refused(link("nobody", ISSUER, "1").await, "no such account");
    let own = &permit.agent().id;
    refused(link(own, ISSUER, "1").await, "their own account");
    let long = "x".repeat(256);
    for (issuer, subject) in [
        ("", "1"),
        (ISSUER, ""),
        (ISSUER, "a\nb"),
        (&long, "1"),
        (ISSUER, &long),
    ] {
        refused(link(&other, issuer, subject).await, "1 to 255 bytes");
    }
    assert!(identity.links_of(&permit, &other).await.unwrap().is_empty());
    let of = identity.links_of(&permit, &flow.account).await.unwrap();
    let listing = identity.links(&permit).await.unwrap();
    assert_eq!(listing.rows, of);
    assert!(listing.complete);
    let [view] = &listing.rows[..] else {
        panic!("{listing:?}");
    };
    assert_eq!(
        (
            view.account.as_str(),
            view.issuer.as_str(),
            view.subject.as_str()
        ),
        (flow.account.as_str(), ISSUER, SUBJECT)
    );
    // Taking it away ends what it opened, at once, and it can be made again, for another.
    let (secret, _) = flow.signed_in(None).await;
    flow.unlink().await;
    assert!(!flow.is_open(&secret).await);
    assert!(identity.links(&permit).await.unwrap().rows.is_empty());
    refused(
        identity.unlink_account(&permit, ISSUER, SUBJECT).await,
        "no such link",
    );
    link(&other, ISSUER, SUBJECT).await.unwrap();
    let (secret, session) = flow.signed_in(None).await;
    assert_eq!(session.agent.id, other);
    assert!(flow.is_open(&secret).await);
    // Who has no factor here sets one up where the one there was shown too long ago: what is sensitive asks for
    // a fresh one.
    let token = flow.id_token(SUBJECT, None);
    flow.house.wall.advance(10 * 60 * 1000);
    let admitted = flow.admit(&token, true).await.unwrap();
    assert!(
        matches!(admitted, Admission::Known(SignIn::EnrolTotp { .. })),
        "{admitted:?}"
    );
    // Another permit opens nothing.
    let by = staff(Role::Administrator);
    let observe = (flow.house).permit(&by, Purpose::Administration, Action::Observe);
    let observe = observe.await.unwrap();
    for outcome in [
        identity.links(&observe).await.map(|_| ()),
        identity.links_of(&observe, &other).await.map(|_| ()),
        identity.link_account(&observe, &other, ISSUER, "1").await,
        identity.unlink_account(&observe, ISSUER, SUBJECT).await,
    ] {
        assert!(
            matches!(outcome, Err(TrustError::Refused(_))),
            "{outcome:?}"
        );
    }
}

/// The link goes while somebody is on their way in: the session was written, and nothing knew of it when the
/// sessions were looked for.
#[tokio::test]
async fn a_session_without_its_link_opens_nothing() {
    let flow = Flow::linked().await;
    let token = flow.id_token(SUBJECT, None);
    let step = flow.admit(&token, false).await.unwrap();
    let Admission::Known(SignIn::SecondFactor { ticket }) = step else {
        panic!("{step:?}");
    };
    let identity = flow.house.trust.identity();
    let done = identity.second_factor(&ticket, &flow.code()).await.unwrap();
    let SignIn::Done { secret, .. } = done else {
        panic!("{done:?}");
    };
    // Only the link, as if the session had come later than the look for sessions.
    let link = identity
        .link(TENANT, ISSUER, SUBJECT)
        .await
        .unwrap()
        .unwrap();
    let gone = deletion(crate::kinds::PROVIDER_LINK, &link.id, link.version);
    let by = staff(Role::Administrator);
    let record = Record::new(&by, Event::ACCOUNT_CHANGED);
    identity.commit(TENANT, vec![gone], record).await.unwrap();
    assert!(!flow.is_open(&secret).await);
}

#[tokio::test]
async fn a_logout_ends_what_it_names_and_nothing_else() {
    let flow = Flow::linked().await;
    flow.link(ISSUER, "249").await.unwrap();
    let (first, _) = flow.signed_in(Some("s-1")).await;
    let (again, _) = flow.signed_in(Some("s-1")).await;
    let (second, _) = flow.signed_in(Some("s-2")).await;
    let open = async || {
        let mut open = Vec::new();
        for secret in [&first, &again, &second] {
            open.push(flow.is_open(secret).await);
        }
        open
    };
    assert_eq!(open().await, [true; 3]);
    // Another session, another subject with that session, somebody else.
    for (id, subject, session) in [
        ("a", None, Some("s-3")),
        ("b", Some("249"), Some("s-1")),
        ("c", Some("249"), None),
    ] {
        let token = flow.logout_token(id, subject, session);
        assert_eq!(flow.end(&token).await, 0, "{id}");
    }
    assert_eq!(open().await, [true; 3]);
    let token = flow.logout_token("d", Some(SUBJECT), Some("s-1"));
    assert_eq!(flow.end(&token).await, 2);
    assert_eq!(open().await, [false, false, true]);
    // A session that ended there opens nothing more here.
    let late = flow.id_token(SUBJECT, Some("s-1"));
    let late = flow.admit(&late, true).await;
    assert!(matches!(late, Err(TrustError::SignIn)), "{late:?}");
    // Without a session, all of the subject's end.
    let everywhere = flow.logout_token("e", Some(SUBJECT), None);
    assert_eq!(flow.end(&everywhere).await, 1);
    assert_eq!(open().await, [false; 3]);
    assert!(flow.last_note().await.contains("1 sessions ended"));
}

#[tokio::test]
async fn a_logout_token_that_comes_again_ends_nothing_new() {
    let flow = Flow::linked().await;
    let (first, _) = flow.signed_in(None).await;
    let early = flow.id_token(SUBJECT, None);
    flow.house.wall.advance(5_000);
    let token = flow.logout_token("j-1", Some(SUBJECT), None);
    assert_eq!(flow.end(&token).await, 1);
    assert!(!flow.is_open(&first).await);
    // What was signed before it opens nothing, however late it comes.
    let late = flow.admit(&early, true).await;
    assert!(matches!(late, Err(TrustError::SignIn)), "{late:?}");
    flow.house.wall.advance(5_000);
    let (second, _) = flow.signed_in(None).await;
    assert_eq!(flow.end(&token).await, 0);
    assert!(flow.is_open(&second).await);
    // An id that comes with another content does what it did the first time.
    let same_id = flow.logout_token("j-1", Some(SUBJECT), None);
    assert_eq!(flow.end(&same_id).await, 0);
    assert!(flow.is_open(&second).await);
    // It is remembered as long as its sign-ins could come, and swept then.
    let identity = flow.house.trust.identity();
    flow.house.wall.advance(2 * 86_400_000);
    assert!(identity.sweep(TENANT).await.unwrap() > 0);
    let at = AtProvider {
        issuer: ISSUER.to_owned(),
        subject: SUBJECT.to_owned(),
        session: None,
        made_s: 0,
        factor_s: None,
    };
    assert!(!identity.has_ended(TENANT, &at).await.unwrap());
}

#[tokio::test]
async fn what_left_comes_back_to_the_same_browser_in_time() {
    let flow = Flow::new().await;
    let identity = flow.house.trust.identity();
    let next = "/console/worklist?who=mine";
    let (away, note) = identity
        .leave(TENANT, "hospital", ISSUER, Some(next), false)
        .unwrap();
    let (other, other_note) = identity
        .leave(TENANT, "hospital", ISSUER, None, false)
        .unwrap();
    assert_ne!(away.state, other.state);
    assert_ne!(away.nonce, other.nonce);
    assert_ne!(away.verifier, other.verifier);
    // Nothing of it can be read in the browser.
    let readable = URL_SAFE_NO_PAD.decode(&note).unwrap();
    for secret in [&away.state, &away.nonce, &away.verifier, next] {
        assert!(
            !readable
                .windows(secret.len())
                .any(|part| part == secret.as_bytes())
        );
    }
    let back = async |provider: &str, note: &str, state: &str| {
        identity
            .come_back(TENANT, provider, note, state)
            .await
            .unwrap()
    };
    let found = back("hospital", &note, &away.state).await.unwrap();
    assert_eq!(found.next.as_deref(), Some(next));
    assert_eq!(found.verifier, away.verifier);
    assert_eq!(found.nonce, away.nonce);
    let mut changed = note.clone().into_bytes();
    changed[40] ^= 1;
    let changed = String::from_utf8(changed).unwrap();
    let long = "A".repeat(5000);
    for (provider, note, state) in [
        ("hospital", note.as_str(), other.state.as_str()),
        ("hospital", &other_note, &away.state),
        ("other", &note, &away.state),
        ("hospital", &note, ""),
        ("hospital", "", &away.state),
        ("hospital", "%", &away.state),
        ("hospital", &changed, &away.state),
        ("hospital", &long, &away.state),
    ] {
        let lost = back(provider, note, state).await.unwrap_err();
        assert_eq!(lost, Lost::NotOfThisBrowser, "{provider} {note} {state}");
    }
    // It comes back once, whatever came of it, also with another code.
    assert_eq!(
        back("hospital", &note, &away.state).await.unwrap_err(),
        Lost::Used
    );
    assert!(back("hospital", &other_note, &other.state).await.is_ok());
    // Another tenant's is no one's here.
    let (theirs, theirs_note) = identity
        .leave(OTHER, "hospital", ISSUER, None, false)
        .unwrap();
    let lost = back("hospital", &theirs_note, &theirs.state).await;
    assert_eq!(lost.unwrap_err(), Lost::NotOfThisBrowser);
    flow.house.wall.advance(600_000);
    let lost = back("hospital", &note, &away.state).await.unwrap_err();
    assert_eq!(lost, Lost::TooLate);
}

#[tokio::test]
async fn what_is_longest_fits_into_a_cookie() {
    let flow = Flow::new().await;
    let identity = flow.house.trust.identity();
    let (provider, issuer) = ("p".repeat(32), "i".repeat(255));
    let leave = |bytes: usize| {
        let next = "\\".repeat(bytes);
        identity.leave(TENANT, &provider, &issuer, Some(&next), false)
    };
    // Backslashes are the worst case of JSON; addresses to come back to have none.
    let (_, note) = leave(AWAY_NEXT_BYTES_MAX / 2).unwrap();
    assert!(note.len() < 4000, "{}", note.len());
    let plain = "n".repeat(AWAY_NEXT_BYTES_MAX);
    let (_, note) = identity
        .leave(TENANT, &provider, &issuer, Some(&plain), false)
        .unwrap();
    assert!(note.len() < 4000, "{}", note.len());
    let refused = leave(AWAY_NEXT_BYTES_MAX + 1).unwrap_err();
    assert!(refused.to_string().contains("too long"), "{refused}");
}

/// Keys as OpenSSL makes them, checked by their public set.
#[test]
fn proofs_of_this_server_hold() {
    let curve = |name: &'static str| ["-algorithm", "EC", "-pkeyopt", name];
    let table = [
        (
            "RS256",
            pem(&["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]),
        ),
        ("ES256", pem(&curve("ec_paramgen_curve:P-256"))),
        ("ES384", pem(&curve("ec_paramgen_curve:P-384"))),
        ("EdDSA", pem(&["-algorithm", "ED25519"])),
    ];
    for (algorithm, pem) in table {
        let key = ClientKey::parse(&pem).unwrap();
        assert_eq!(key.algorithm(), algorithm);
        let set = key.public_set();
        assert_eq!(set["keys"][0]["alg"], algorithm);
        let public = IssuerKeys::parse(&set.to_string()).unwrap();
        let audience = "https://login.hospital.example/token";
        let proof = key
            .assertion("cairn", audience, NOW_MS, &ledger::SystemEntropy)
            .unwrap();
        let kid = set["keys"][0]["kid"].as_str();
        let found = public.find(kid, keys::algorithm(algorithm).unwrap());
        let mut validation = jsonwebtoken::Validation::new(keys::algorithm(algorithm).unwrap());
        validation.set_audience(&[audience]);
        validation.validate_exp = false;
        let claims = jsonwebtoken::decode::<Value>(&proof, &found.unwrap(), &validation);
        let claims = claims.unwrap().claims;
        assert_eq!(claims["iss"], "cairn");
        assert_eq!(claims["sub"], "cairn");
        assert_eq!(claims["exp"], NOW_S + 60);
        assert_eq!(claims["jti"].as_str().unwrap().len(), 22);
    }
    let short = pem(&["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"]);
    let other = pem(&curve("ec_paramgen_curve:P-521"));
    let empty = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    for text in ["", "x", empty, &short, &other] {
        assert!(ClientKey::parse(text).is_err(), "{text}");
    }
}

/// RFC 7638, section 3.1: the thumbprint of its example.
#[test]
fn key_ids_are_thumbprints() {
    let members = json!({
        "e": "AQAB", "kty": "RSA",
        "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
    });
    assert_eq!(
        client::thumbprint(members.as_object().unwrap()),
        "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
    );
}

/// A key as OpenSSL makes it.
fn pem(options: &[&str]) -> String {
    let made = std::process::Command::new("openssl")
        .arg("genpkey")
        .args(options)
        .output()
        .expect("openssl is installed (scripts/test installs it)");
    assert!(made.status.success(), "{made:?}");
    String::from_utf8(made.stdout).unwrap()
}
