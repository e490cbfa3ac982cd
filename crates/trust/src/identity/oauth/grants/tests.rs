use super::*;
use crate::identity::{NewApp, SignIn, SystemKeys, wanted_scopes};
use crate::tests::{House, TENANT, a_patient, staff};
use crate::{Action, Purpose, Trust};

const BACK: &str = "https://app.example.org/back";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

/// RFC 7636, appendix B.
#[test]
fn a_challenge_is_that_of_the_standard() {
    assert_eq!(
        s256(VERIFIER),
        "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    );
    assert!(is_challenge(&s256(VERIFIER)));
    for wrong in ["", "short", &"=".repeat(43), &"a".repeat(44)] {
        assert!(!is_challenge(wrong), "{wrong}");
    }
}

#[test]
fn a_refresh_token_has_two_parts() {
    assert_eq!(parts_of_refresh("r.1.a.1.b"), Some(("1.a", "1.b")));
    for wrong in ["", "r.", "r.1", "r.1.a", "t.1.a.1.b", "c.1.a"] {
        assert_eq!(parts_of_refresh(wrong), None, "{wrong}");
    }
}

/// What somebody lets an application do for them, also when they are away: one with this `client_id`, or a new one,
/// whose `client_id` is given. Of one that they had let in it is what they let it do from now on.
pub(crate) async fn let_in(
    house: &House,
    (agent, app): (&Agent, Option<&str>),
    scopes: &str,
    patient: Option<&str>,
) -> String {
    let identity = house.trust.identity();
    let tenant = agent.tenant;
    let app = match app {
        Some(app) => app.to_owned(),
        None => {
            let new = NewApp {
                name: "App".to_owned(),
                redirect_uris: vec![BACK.to_owned()],
                launch_uri: None,
                scopes: "offline_access user/*.cruds".to_owned(),
                keys: SystemKeys::None,
            };
            let admin = Agent {
                tenant,
                ..staff(Role::Administrator)
            };
            identity.register_app(&admin, &new).await.unwrap()
        }
    };
    let scopes = Scopes::parse(&format!("offline_access {scopes}")).unwrap();
    let now_ms = identity.now_ms();
    let grant = GrantDocument {
        code: secrets::hash(&format!("{} {app}", agent.id)),
        client: app.clone(),
        agent: AgentDocument {
            id: agent.id.clone(),
            name: agent.name.clone(),
            role: agent.role,
            patient: agent.patient.clone(),
        },
        account: None,
        session: String::new(),
        patient: patient.map(str::to_owned),
        context: LaunchContext::default(),
        scopes: KeptScopes::of(&scopes),
        nonce: None,
        signed_in_ms: None,
        stage: GrantStage::Open { refresh: None },
        created_ms: now_ms,
        used_ms: now_ms,
        expires_ms: now_ms + OFFLINE_LIFE_MS,
    };
    let id = identity.grant_id(tenant, &grant.code);
    let before: Option<Kept<GrantDocument>> = get(house.ledger(), tenant, kinds::GRANT, &id)
        .await
        .unwrap();
    let expected = before.map_or(Expected::Absent, |kept| Expected::Version(kept.version));
    let draft = identity.grant_draft(tenant, &id, expected, &grant).unwrap();
    let record = Record::new(agent, Event::LOGIN);
    identity.commit(tenant, vec![draft], record).await.unwrap();
    app
}

struct Signed {
    house: House,
    session: Session,
    secret: String,
    app: App,
}

impl Signed {
    /// A patient who came by a link, and an application.
    async fn new() -> Self {
        let house = House::new().await;
        house.put([a_patient("p", "Berg")]).await;
        let identity = house.trust.identity();
        let mailer = Agent::system(TENANT, "mail-deliverer");
        let link = identity.make_link(&mailer, "p", 3600, false).await.unwrap();
        let signed = identity.use_link(TENANT, &link, "1950-02-03").await;
        let SignIn::Done { secret, session } = signed.unwrap() else {
            panic!("no session");
        };
        let new = NewApp {
            name: "Diary".to_owned(),
            redirect_uris: vec![BACK.to_owned()],
            launch_uri: None,
            scopes: "offline_access online_access patient/*.rs".to_owned(),
            keys: SystemKeys::None,
        };
        let admin = staff(Role::Administrator);
        let id = identity.register_app(&admin, &new).await.unwrap();
        let app = identity.app(TENANT, &id).await.unwrap().unwrap();
        Self {
            house,
            session,
            secret,
            app,
        }
    }

    async fn code(&self, scopes: &str) -> String {
        let new = NewGrant {
            app: &self.app,
            redirect_uri: BACK,
            challenge: &s256(VERIFIER),
            scopes: &wanted_scopes(scopes).unwrap(),
            patient: Some("p"),
            launch: None,
            nonce: None,
            context: None,
        };
        let identity = self.house.trust.identity();
        identity.allow(&self.session, new).await.unwrap()
    }

    async fn exchange(&self, trust: &Trust, code: &str) -> Result<AppTokens, OauthError> {
        let client = ShownClient::Public(&self.app.id);
        let identity = trust.identity();
        identity
            .exchange_code(TENANT, client, code, BACK, VERIFIER)
            .await
    }

    async fn refresh(&self, trust: &Trust, tokens: &AppTokens) -> Result<AppTokens, OauthError> {
        let client = ShownClient::Public(&self.app.id);
        let token = tokens.refresh.as_deref().unwrap();
        trust.identity().refresh(TENANT, client, token, None).await
    }

    async fn tokens(&self, scopes: &str) -> AppTokens {
        let code = self.code(scopes).await;
        self.exchange(&self.house.trust, &code).await.unwrap()
    }

    async fn opens(&self, trust: &Trust, tokens: &AppTokens) -> bool {
        match trust.identity().fhir_bearer(&tokens.access).await {
            Ok(agent) => {
                assert_eq!(agent.id, "p");
                assert_eq!(agent.app().unwrap().client, self.app.id);
                true
            }
            Err(TrustError::SignIn) => false,
            Err(error) => panic!("{error}"),
        }
    }

    /// A second server over the same store, with nothing in memory.
    fn other(&self) -> Trust {
        House::trust_over(self.house.ledger().clone(), &self.house.wall)
    }
}

fn ended<T: std::fmt::Debug>(result: &Result<T, OauthError>) {
    assert!(
        matches!(result, Err(OauthError::InvalidGrant(_))),
        "{result:?}"
    );
}

// Proves: 45 CFR 164.312(d)
#[tokio::test]
async fn codes_and_tokens_end_when_they_are_to() {
    let signed = Signed::new().await;
    let (trust, wall) = (&signed.house.trust, &signed.house.wall);
    let code = signed.code("patient/*.rs").await;
    wall.advance(CODE_LIFE_MS);
    ended(&signed.exchange(trust, &code).await);
    let code = signed.code("patient/*.rs").await;
    wall.advance(CODE_LIFE_MS - 1);
    let tokens = signed.exchange(trust, &code).await.unwrap();
    assert!(tokens.refresh.is_none());
    assert_eq!(tokens.expires_in_s, APP_ACCESS_LIFE_S);
    // The person goes on with their pages; what the application asks keeps nothing awake.
    wall.advance(APP_ACCESS_LIFE_S * 1000 / 2);
    trust.identity().session(&signed.secret).await.unwrap();
    wall.advance(APP_ACCESS_LIFE_S * 1000 / 2 - 1);
    assert!(signed.opens(trust, &tokens).await);
    wall.advance(1);
    assert!(!signed.opens(trust, &tokens).await);
}

// Proves: 45 CFR 164.312(a)(2)(iii)
#[tokio::test]
async fn what_is_online_ends_with_the_session_and_what_is_offline_does_not() {
    let signed = Signed::new().await;
    let (trust, wall) = (&signed.house.trust, &signed.house.wall);
    let online = signed.tokens("online_access patient/*.rs").await;
    let offline = signed.tokens("offline_access patient/*.rs").await;
    let lists = async || {
        trust
            .identity()
            .grants_of(&signed.session)
            .await
            .unwrap()
            .len()
    };
    assert_eq!(lists().await, 2);
    // Idle for longer than a session may be.
    wall.advance(899_999);
    assert!(signed.opens(trust, &online).await);
    wall.advance(1);
    assert!(!signed.opens(trust, &online).await);
    ended(&signed.refresh(trust, &online).await);
    let mut offline = signed.refresh(trust, &offline).await.unwrap();
    assert!(signed.opens(trust, &offline).await);
    assert_eq!(lists().await, 1);
    // As long as it is used, and no longer than a year.
    for _ in 0..12 {
        wall.advance(OFFLINE_IDLE_MS - 1);
        trust.identity().sweep(TENANT).await.unwrap();
        offline = signed.refresh(trust, &offline).await.unwrap();
    }
    wall.advance(OFFLINE_LIFE_MS - 12 * (OFFLINE_IDLE_MS - 1));
    ended(&signed.refresh(trust, &offline).await);
    trust.identity().sweep(TENANT).await.unwrap();
    wall.advance(2 * 86_400_000);
    assert!(trust.identity().sweep(TENANT).await.unwrap() > 0);
    assert_eq!(lists().await, 0);
}

// Proves: 45 CFR 164.308(a)(3)(ii)(C)
#[tokio::test]
async fn an_unused_grant_ends_and_a_patient_who_is_shut_out_ends_all() {
    let signed = Signed::new().await;
    let (trust, wall) = (&signed.house.trust, &signed.house.wall);
    let idle = signed.tokens("offline_access patient/*.rs").await;
    wall.advance(60_000);
    let other = signed.tokens("offline_access patient/*.rs").await;
    wall.advance(OFFLINE_IDLE_MS - 60_000);
    ended(&signed.refresh(trust, &idle).await);
    let other = signed.refresh(trust, &other).await.unwrap();
    assert!(signed.opens(trust, &other).await);
    let permit = signed
        .house
        .permit(
            &staff(Role::Administrator),
            Purpose::Administration,
            Action::Administer,
        )
        .await
        .unwrap();
    let identity = trust.identity();
    identity
        .set_patient_active(&permit, "p", false)
        .await
        .unwrap();
    assert!(!signed.opens(trust, &other).await);
    ended(&signed.refresh(trust, &other).await);
    // Opening the portal again brings no application back.
    identity
        .set_patient_active(&permit, "p", true)
        .await
        .unwrap();
    assert!(!signed.opens(trust, &other).await);
}

#[tokio::test]
async fn two_servers_of_one_store_know_the_same() {
    let signed = Signed::new().await;
    let (here, there) = (&signed.house.trust, &signed.other());
    let code = signed.code("offline_access patient/*.rs").await;
    let first = signed.exchange(there, &code).await.unwrap();
    assert!(signed.opens(here, &first).await && signed.opens(there, &first).await);
    let second = signed.refresh(here, &first).await.unwrap();
    // The old one, shown to the other server: the grant ends for both.
    ended(&signed.refresh(there, &first).await);
    assert!(!signed.opens(here, &second).await && !signed.opens(there, &second).await);
    ended(&signed.refresh(here, &second).await);
    // At the same time, at both: one wins at most, and then the grant is over.
    for _ in 0..5 {
        let tokens = signed.tokens("offline_access patient/*.rs").await;
        let (left, right) = tokio::join!(
            signed.refresh(here, &tokens),
            signed.refresh(there, &tokens)
        );
        assert!(left.is_err() || right.is_err());
        for won in [left, right].into_iter().flatten() {
            assert!(!signed.opens(here, &won).await && !signed.opens(there, &won).await);
        }
    }
}

#[tokio::test]
async fn a_person_lets_a_bounded_number_in() {
    let signed = Signed::new().await;
    for _ in 0..GRANTS_MAX {
        signed.tokens("offline_access patient/Patient.r").await;
    }
    let new = NewGrant {
        app: &signed.app,
        redirect_uri: BACK,
        challenge: &s256(VERIFIER),
        scopes: &wanted_scopes("patient/Patient.r").unwrap(),
        patient: Some("p"),
        launch: None,
        nonce: None,
        context: None,
    };
    let identity = signed.house.trust.identity();
    let outcome = identity.allow(&signed.session, new.clone()).await;
    assert!(
        matches!(&outcome, Err(TrustError::Invalid(words)) if words.contains("take one away") || words.contains("Take one away")),
        "{outcome:?}"
    );
    let one = identity.grants_of(&signed.session).await.unwrap()[0]
        .id
        .clone();
    identity.end_grant(&signed.session, &one).await.unwrap();
    assert!(identity.allow(&signed.session, new.clone()).await.is_ok());
    // What was not shown, or can't be, is not granted, though there is room.
    let one = identity.grants_of(&signed.session).await.unwrap()[0]
        .id
        .clone();
    identity.end_grant(&signed.session, &one).await.unwrap();
    for wrong in [
        NewGrant {
            patient: Some("q"),
            ..new.clone()
        },
        NewGrant {
            patient: None,
            ..new.clone()
        },
        NewGrant {
            redirect_uri: "https://evil.example",
            ..new.clone()
        },
        NewGrant {
            challenge: "plain",
            ..new.clone()
        },
        NewGrant {
            launch: Some("nothing"),
            ..new.clone()
        },
        NewGrant {
            scopes: &wanted_scopes("user/*.rs").unwrap(),
            ..new.clone()
        },
        NewGrant {
            scopes: &wanted_scopes("patient/Patient.d").unwrap(),
            ..new.clone()
        },
    ] {
        assert!(matches!(
            identity.allow(&signed.session, wrong).await,
            Err(TrustError::Invalid(_))
        ));
    }
    assert!(identity.allow(&signed.session, new).await.is_ok());
}

// Proves: 45 CFR 164.312(b)
#[tokio::test]
async fn the_audit_names_the_application_and_no_secret() {
    let signed = Signed::new().await;
    let (trust, identity) = (&signed.house.trust, signed.house.trust.identity());
    let code = signed.code("offline_access patient/*.rs").await;
    let tokens = signed.exchange(trust, &code).await.unwrap();
    ended(&signed.exchange(trust, &code).await);
    assert!(!signed.opens(trust, &tokens).await);
    identity
        .turn_down(&signed.session, &signed.app)
        .await
        .unwrap();
    let tokens = signed.tokens("offline_access patient/*.rs").await;
    let one = identity.grants_of(&signed.session).await.unwrap()[0]
        .id
        .clone();
    identity.end_grant(&signed.session, &one).await.unwrap();
    let events = signed.house.audit_events(TENANT).await;
    let text: String = events
        .iter()
        .map(|event| String::from_utf8(event.to_json()).unwrap())
        .collect();
    let id = &signed.app.id;
    for said in [
        format!("let application {id} in, scopes"),
        format!("renewed the access of application {id}"),
        format!("had application {id} shut out: code used twice"),
        format!("application {id} was turned down"),
        format!("took application {id} away"),
        "access token of a grant that has ended".to_owned(),
        r#""name":"Diary""#.to_owned(),
    ] {
        assert!(text.contains(&said), "{said}");
    }
    for secret in [&code, &tokens.access, tokens.refresh.as_ref().unwrap()] {
        for part in secret.split('.').filter(|part| part.len() > 20) {
            assert!(!text.contains(part), "{secret}");
        }
    }
}

#[tokio::test]
async fn a_patient_sees_their_applications_whichever_way_they_came() {
    let signed = Signed::new().await;
    signed.tokens("offline_access patient/*.rs").await;
    let identity = signed.house.trust.identity();
    // The same patient, by an account with a password; and another patient with one.
    signed.house.put([a_patient("q", "Lie")]).await;
    let mut sessions = Vec::new();
    for (name, patient) in [("pia", "p"), ("quentin", "q")] {
        let account = crate::identity::NewAccount {
            tenant: TENANT,
            user_name: name.to_owned(),
            name: String::new(),
            role: Role::Patient,
            password: "wooden-horse-7".to_owned(),
            patient: Some(patient.to_owned()),
        };
        let admin = staff(Role::Administrator);
        identity.create(&admin, account).await.unwrap();
        let done = identity.password(TENANT, name, "wooden-horse-7").await;
        let SignIn::Done { session, .. } = done.unwrap() else {
            panic!("no session");
        };
        sessions.push(session);
    }
    let grants = identity.grants_of(&sessions[0]).await.unwrap();
    assert_eq!(grants.len(), 1);
    assert!(identity.grants_of(&sessions[1]).await.unwrap().is_empty());
    let id = &grants[0].id;
    assert!(identity.end_grant(&sessions[1], id).await.is_err());
    identity.end_grant(&sessions[0], id).await.unwrap();
    assert!(
        identity
            .grants_of(&signed.session)
            .await
            .unwrap()
            .is_empty()
    );
}

/// The keys that identity tokens are signed by: made when an application needs one, changed in time, by the sweep
/// and by an operator, and never shown with their secret.
#[tokio::test]
async fn keys_of_identity_tokens_rotate_with_an_overlap() {
    const DAY_MS: u64 = 86_400_000;
    let signed = Signed::new().await;
    let (trust, wall) = (&signed.house.trust, &signed.house.wall);
    let (identity, ledger) = (trust.identity(), signed.house.ledger());
    let shown = async |identity: &Identity, tenant| {
        let set = identity.signing_set(tenant).await.unwrap();
        assert!(!set.to_string().contains("secret"));
        let keys = set["keys"].as_array().unwrap().clone();
        let id = |key: serde_json::Value| key["kid"].as_str().unwrap().to_owned();
        keys.into_iter().map(id).collect::<Vec<_>>()
    };
    let rotate = async |at_once| {
        let clock = std::sync::Arc::new(wall.clone());
        super::super::rotate_signing_key(ledger, clock, TENANT, "somebody", at_once).await
    };
    // No application signs anybody in yet.
    assert!(shown(identity, TENANT).await.is_empty());
    assert_eq!(identity.sweep_signing_keys(TENANT).await.unwrap(), 0);
    assert!(matches!(rotate(true).await, Err(TrustError::Invalid(_))));
    assert!(shown(identity, TENANT).await.is_empty());
    identity.ensure_signing_key(TENANT).await.unwrap();
    identity.ensure_signing_key(TENANT).await.unwrap();
    let first = shown(identity, TENANT).await;
    assert_eq!(first.len(), 1);
    // Two servers at once make one.
    let other = signed.other();
    let made = tokio::join!(
        identity.ensure_signing_key(crate::tests::OTHER),
        other.identity().ensure_signing_key(crate::tests::OTHER)
    );
    assert!(made.0.is_ok() && made.1.is_ok());
    let theirs = shown(identity, crate::tests::OTHER).await;
    assert_eq!(theirs.len(), 1);
    assert_ne!(theirs, first);

    let signs = async |identity: &Identity| {
        let token = identity.signed(TENANT, "JWT", &serde_json::json!({})).await;
        let token = token.unwrap();
        let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap());
        let header: serde_json::Value = serde_json::from_slice(&header.unwrap()).unwrap();
        assert_eq!(header["alg"], "RS256");
        header["kid"].as_str().unwrap().to_owned()
    };
    wall.advance(88 * DAY_MS);
    assert_eq!(identity.sweep_signing_keys(TENANT).await.unwrap(), 0);
    wall.advance(DAY_MS);
    // Shown a day before it signs, on every server; the one before as long after.
    assert_eq!(identity.sweep_signing_keys(TENANT).await.unwrap(), 1);
    assert_eq!(identity.sweep_signing_keys(TENANT).await.unwrap(), 0);
    let both = shown(other.identity(), TENANT).await;
    assert_eq!((both.len(), &both[0]), (2, &first[0]));
    assert!(matches!(rotate(false).await, Err(TrustError::Invalid(_))));
    assert_eq!(signs(other.identity()).await, both[0]);
    wall.advance(DAY_MS);
    assert_eq!(signs(other.identity()).await, both[1]);
    assert_eq!(shown(identity, TENANT).await, both);
    wall.advance(DAY_MS);
    assert_eq!(identity.sweep_signing_keys(TENANT).await.unwrap(), 1);
    assert_eq!(shown(identity, TENANT).await, [both[1].clone()]);
    // By command: in time, and at once.
    let next = rotate(false).await.unwrap();
    assert_eq!(shown(identity, TENANT).await[1], next.id);
    assert_eq!(signs(identity).await, both[1]);
    let last = rotate(true).await.unwrap();
    assert_eq!(
        shown(identity, TENANT).await,
        std::slice::from_ref(&last.id)
    );
    assert_eq!(signs(identity).await, last.id);
    // The other organisation's is its own.
    assert_eq!(shown(identity, crate::tests::OTHER).await, theirs);
}

/// A server of a build that knows nothing of who somebody is for applications may run beside this one: it reads
/// what is kept here, and what it writes is read here.
#[tokio::test]
async fn scopes_of_who_somebody_is_lie_by_themselves() {
    const IDENTITY: &str = "openid fhirUser";
    let mut signed = Signed::new().await;
    let identity = signed.house.trust.identity();
    let new = NewApp {
        name: "Diary".to_owned(),
        redirect_uris: vec![BACK.to_owned()],
        launch_uri: None,
        scopes: format!("{IDENTITY} offline_access patient/*.rs"),
        keys: SystemKeys::None,
    };
    let admin = staff(Role::Administrator);
    let app = identity.register_app(&admin, &new).await.unwrap();
    signed.app = identity.app(TENANT, &app).await.unwrap().unwrap();
    let code = signed.code(&new.scopes).await;
    let tokens = signed.exchange(&signed.house.trust, &code).await.unwrap();
    assert!(tokens.signed_in.is_some() && tokens.scopes.has(Context::FhirUser));
    let ledger = signed.house.ledger();
    let kept = async |kind, id: &str| {
        let found: Option<Kept<serde_json::Value>> = get(ledger, TENANT, kind, id).await.unwrap();
        found.unwrap()
    };
    let grant = identity.grants_of(&signed.session).await.unwrap().remove(0);
    assert!(grant.scopes.has(Context::OpenId));
    let access = identity.access_document(&tokens.access).await.unwrap();
    let access = access.unwrap().0;
    let all = [
        (kinds::OAUTH_APP, &app),
        (kinds::GRANT, &grant.id),
        (kinds::ACCESS_TOKEN, &access),
    ];
    for (kind, id) in all {
        let body = kept(kind, id).await.body;
        assert_eq!(body["identity_scopes"], IDENTITY, "{body}");
        let scopes = body["scopes"].as_str().unwrap();
        let told = Context::IDENTITY
            .iter()
            .any(|one| scopes.contains(one.name()));
        assert!(
            scopes.contains("offline_access patient/") && !told,
            "{scopes}"
        );
    }
    let write = async |change: &dyn Fn(&mut serde_json::Map<String, serde_json::Value>)| {
        for (kind, id) in all {
            let mut document = kept(kind, id).await;
            change(document.body.as_object_mut().unwrap());
            let expected = Expected::Version(document.version);
            let draft = draft(
                ledger,
                TENANT,
                kind,
                id,
                expected,
                &document.body,
                &[],
                None,
            );
            let agent = Agent::system(TENANT, "test");
            let record = Record::new(&agent, Event::SESSION_KEPT);
            let written = identity.commit(TENANT, vec![draft.unwrap()], record);
            written.await.unwrap();
        }
    };
    let knows = async |trust: &Trust, tokens: &AppTokens| {
        let identity = trust.identity();
        let app = identity.app(TENANT, &app).await.unwrap().unwrap();
        let agent = identity.fhir_bearer(&tokens.access).await.unwrap();
        let scopes = &agent.access.as_ref().unwrap().scopes;
        let wanted = wanted_scopes("openid patient/*.rs").unwrap();
        let may = identity.grantable(&signed.session, &app, &wanted);
        [may.has(Context::OpenId), scopes.has(Context::OpenId)]
    };
    // As they lay first, in one list.
    write(&|body| {
        let scopes = body["scopes"].as_str().unwrap();
        body["scopes"] = format!("{IDENTITY} {scopes}").into();
        body.remove("identity_scopes");
    })
    .await;
    let trust = signed.other();
    assert_eq!(knows(&trust, &tokens).await, [true; 2]);
    let next = signed.refresh(&trust, &tokens).await.unwrap();
    assert!(next.scopes.has(Context::FhirUser));
    // As the older server writes them: it tells nobody who somebody is, and everything else goes on.
    write(&|body| {
        let scopes = body["scopes"].as_str().unwrap();
        body["scopes"] = scopes.replace(&format!("{IDENTITY} "), "").into();
        body.remove("identity_scopes");
    })
    .await;
    let trust = signed.other();
    assert_eq!(knows(&trust, &tokens).await, [false; 2]);
    let last = signed.refresh(&trust, &next).await.unwrap();
    assert!(signed.opens(&trust, &last).await);
    assert!(!last.scopes.has(Context::OpenId) && last.scopes.has(Context::OfflineAccess));
}

/// What a build wrote that knew of no context but the patient is read, and what this one writes without one is the
/// same.
#[tokio::test]
async fn a_grant_and_a_launch_without_a_context_are_those_of_before() {
    let signed = Signed::new().await;
    signed.tokens("offline_access patient/*.rs").await;
    let identity = signed.house.trust.identity();
    let grants = identity.grants_of(&signed.session).await.unwrap();
    let ledger = signed.house.ledger();
    let kept = get::<GrantDocument>(ledger, TENANT, kinds::GRANT, &grants[0].id).await;
    let mut written = serde_json::to_value(kept.unwrap().unwrap().body).unwrap();
    assert!(written.get("context").is_none(), "{written}");
    assert!(written.get("later_scopes").is_none(), "{written}");
    let read: GrantDocument = serde_json::from_value(written.clone()).unwrap();
    assert!(read.context.is_empty());
    written["context"] = serde_json::json!({"encounter": "e"});
    let read: GrantDocument = serde_json::from_value(written).unwrap();
    assert_eq!(read.context.encounter.as_deref(), Some("e"));
    let launch = serde_json::json!({
        "secret": "s", "client": "c", "session": "s", "patient": "p", "expires_ms": 1,
    });
    let read: super::super::LaunchDocument = serde_json::from_value(launch.clone()).unwrap();
    assert!(read.context.is_empty());
    assert_eq!(serde_json::to_value(read).unwrap(), launch);
}
