//! Applications that learn who somebody is (OpenID Connect): what an identity token says, of whom, and what the
//! server says of itself. Other libraries check the same in `tokens.rs`.

use std::sync::Arc;

use trust::identity::{Asked, IdToken, IssuerKeys, check_id_token};

use super::*;

pub(crate) const WITH_IDENTITY: &str = "openid fhirUser profile launch/patient launch/encounter offline_access online_access patient/*.rs user/*.rs";

/// An application that may learn who somebody is.
pub(crate) async fn app_of(house: &House, back: &str) -> String {
    let app = NewApp {
        name: "Diary".to_owned(),
        redirect_uris: vec![back.to_owned()],
        launch_uri: None,
        scopes: WITH_IDENTITY.to_owned(),
        keys: SystemKeys::None,
    };
    let identity = house.server.trust().identity();
    identity.register_app(&by(), &app).await.expect("an id")
}

async fn json_of(house: &House, path: &str) -> Value {
    let answer = house.bare(Method::GET, path).send();
    answer.await.expect("an answer").json().await.expect("JSON")
}

pub(crate) fn claims(token: &str) -> Value {
    let part = token.split('.').nth(1).expect("claims");
    let bytes = URL_SAFE_NO_PAD.decode(part).expect("base64url");
    serde_json::from_slice(&bytes).expect("JSON")
}

/// Checks an identity token as a client does: by what the server says of itself.
async fn checked(house: &House, client: &str, nonce: &str, told: &Value) -> IdToken {
    let provider = json_of(house, "/fhir/r4/.well-known/openid-configuration").await;
    let keys = text(&provider, "jwks_uri");
    let keys = keys.strip_prefix(&house.url("")).expect("ours");
    let keys = json_of(house, keys).await.to_string();
    let asked = Asked {
        issuer: text(&provider, "issuer"),
        client_id: client,
        nonce,
        access_token: text(told, "access_token"),
    };
    let keys = IssuerKeys::parse(&keys).expect("keys");
    check_id_token(text(told, "id_token"), &keys, asked, SystemClock.now_ms()).expect("it holds")
}

async fn given(
    house: &House,
    browser: &mut Browser<'_>,
    client: &str,
    scope: &str,
    changes: &[(&str, &str)],
) -> Value {
    let code = code(browser, &request(house, client, scope, changes)).await;
    tokens(exchange(house, client, &code).await).await
}

#[tokio::test]
async fn an_app_learns_who_a_patient_is_and_others_don_t() {
    let house = house().await;
    furnished(&house).await;
    let (client, other) = (app_of(&house, BACK).await, app_of(&house, BACK).await);
    let scope = "openid fhirUser profile offline_access patient/Patient.rs";
    let mut ann = Browser::patient(&house, "ann", "1950-02-03").await;
    let before_s = SystemClock.now_ms() / 1000;
    let pairs = request(&house, &client, scope, &[("nonce", "n&1")]);
    let page = ann.get(&address(&pairs)).await;
    page.shows("Know who you are: your own entry in the record");
    let told = given(&house, &mut ann, &client, scope, &[("nonce", "n&1")]).await;
    assert_eq!(
        told["scope"],
        "offline_access openid fhirUser profile patient/Patient.rs"
    );
    let token = checked(&house, &client, "n&1", &told).await;
    let said = claims(text(&told, "id_token"));
    let me = house.url("/fhir/r4/Patient/ann");
    assert_eq!(said["fhirUser"], me);
    assert_eq!(said["profile"], me);
    assert_eq!(said["aud"], client);
    let at_s = token.signed_in_s().expect("when");
    assert!((before_s - 10..=before_s).contains(&at_s), "{at_s}");
    assert_eq!(
        said["exp"].as_u64().expect("a time") - said["iat"].as_u64().expect("a time"),
        300
    );
    // Nothing of the person but that.
    let names: Vec<_> = said.as_object().expect("claims").keys().collect();
    assert_eq!(
        names,
        [
            "iss",
            "sub",
            "aud",
            "iat",
            "exp",
            "at_hash",
            "auth_time",
            "nonce",
            "fhirUser",
            "profile"
        ]
    );
    assert!(!token.subject.contains("ann"));
    // What it is led to it can read, as far as its scopes go.
    let path = me.strip_prefix(&house.url("")).expect("ours");
    let answer = get(&house, text(&told, "access_token"), path).await;
    assert_eq!(answer.status(), StatusCode::OK);
    // A refresh is no sign-in.
    let again = refresh(&house, &client, text(&told, "refresh_token"), &[]).await;
    let again = tokens(again).await;
    assert_eq!(again["id_token"], Value::Null);
    assert_eq!(again["scope"], told["scope"]);

    // Each application knows them by the same, however they signed in, and nobody else.
    let subject = |told: &Value| claims(text(told, "id_token"))["sub"].clone();
    let mut again = Browser::patient(&house, "ann", "1950-02-03").await;
    let second = given(&house, &mut again, &other, scope, &[]).await;
    assert_eq!(subject(&second), subject(&told));
    assert_eq!(claims(text(&second, "id_token"))["nonce"], Value::Null);
    let mut bob = Browser::patient(&house, "bob", "1950-02-03").await;
    let bobs = given(&house, &mut bob, &client, scope, &[]).await;
    assert_ne!(subject(&bobs), subject(&told));

    // `openid` alone names no entry, and what asks for an entry alone nobody.
    let alone = given(&house, &mut ann, &client, "openid patient/*.rs", &[]).await;
    assert_eq!(alone["scope"], "openid patient/*.rs");
    assert_eq!(claims(text(&alone, "id_token"))["fhirUser"], Value::Null);
    assert_eq!(subject(&alone), subject(&told));
    let none = given(&house, &mut ann, &client, "fhirUser patient/*.rs", &[]).await;
    assert_eq!(none["scope"], "patient/*.rs");
    assert_eq!(none["id_token"], Value::Null);
    // Whoever takes the tick away is not told of, and an application that was not registered for it neither.
    let pairs = request(&house, &client, scope, &[]);
    let page = ann.get(&address(&pairs)).await;
    let done = agree(&mut ann, &page, &pairs, Some(&["patient/Patient.rs"])).await;
    let code = done.told("code").expect("a code");
    let unticked = tokens(exchange(&house, &client, &code).await).await;
    assert_eq!(unticked["scope"], "patient/Patient.rs");
    assert_eq!(unticked["id_token"], Value::Null);
    let plain = app(&house).await;
    let page = ann
        .get(&address(&request(&house, &plain, scope, &[])))
        .await;
    assert!(!page.body.contains("Know "), "{}", page.body);
    let told = given(&house, &mut ann, &plain, scope, &[]).await;
    assert_eq!(told["id_token"], Value::Null);
    house.end().await;
}

/// Staff are whom administrators say they are, or nobody.
#[tokio::test]
async fn staff_without_an_entry_of_their_own_have_none_made_up() {
    let house = house().await;
    furnished(&house).await;
    for resource in [
        json!({"resourceType": "Practitioner", "id": "dr"}),
        json!({"resourceType": "Practitioner", "id": "other"}),
        json!({"resourceType": "PractitionerRole", "id": "role"}),
    ] {
        put(&house, &resource).await;
    }
    let client = app_of(&house, BACK).await;
    let staff = Staff::new(&house, "doctor", Role::Clinician).await;
    let trust = house.server.trust();
    let permit = administers(&house.server).await;
    let mut doctor = Browser::new(&house);
    doctor.staff(&staff, "/sign-in").await;
    let scope = "openid fhirUser user/Observation.rs";
    let mut subjects = Vec::new();
    for (known, expected) in [
        (&[][..], None),
        (&["Practitioner/dr"], Some("Practitioner/dr")),
        (
            &["Organization/ward", "PractitionerRole/role"],
            Some("PractitionerRole/role"),
        ),
        (
            &["PractitionerRole/role", "Practitioner/dr"],
            Some("Practitioner/dr"),
        ),
        // Which of both they are isn't clear.
        (&["Practitioner/dr", "Practitioner/other"], None),
        (&["Organization/ward"], None),
        // There is none of this id here.
        (&["Practitioner/gone"], None),
    ] {
        let known: Vec<String> = known.iter().map(|one| (*one).to_owned()).collect();
        let identity = trust.identity();
        let said = identity.set_known_as(&permit, &staff.id, &known).await;
        said.expect("it is said");
        let told = given(&house, &mut doctor, &client, scope, &[]).await;
        let said = claims(text(&told, "id_token"));
        let entry = expected.map(|entry| house.url(&format!("/fhir/r4/{entry}")));
        assert_eq!(said["fhirUser"].as_str(), entry.as_deref(), "{known:?}");
        // What is granted is what is told.
        let granted = text(&told, "scope").contains("fhirUser");
        assert_eq!(granted, expected.is_some(), "{known:?}");
        subjects.push(said["sub"].clone());
    }
    subjects.dedup();
    assert_eq!(subjects.len(), 1);
    // What somebody is known as may end between their agreement and the code.
    let pairs = request(&house, &client, scope, &[]);
    let known = ["Practitioner/dr".to_owned()];
    let identity = trust.identity();
    let said = identity.set_known_as(&permit, &staff.id, &known);
    said.await.expect("it is said");
    let code = code(&mut doctor, &pairs).await;
    let said = identity.set_known_as(&permit, &staff.id, &[]).await;
    said.expect("it is said");
    let told = tokens(exchange(&house, &client, &code).await).await;
    assert_eq!(claims(text(&told, "id_token"))["fhirUser"], Value::Null);
    assert_eq!(told["scope"], "openid user/Observation.rs");
    house.end().await;
}

#[tokio::test]
async fn what_the_server_says_of_itself_is_so() {
    let house = house().await;
    let base = house.url("/fhir/r4");
    // Nobody is signed in by an application yet, so there is no key, and who asks makes none.
    assert_eq!(json_of(&house, "/oauth/keys").await, json!({"keys": []}));
    app(&house).await;
    assert_eq!(json_of(&house, "/oauth/keys").await, json!({"keys": []}));
    app_of(&house, BACK).await;
    let answer = house.bare(Method::GET, "/oauth/keys").send().await;
    let answer = answer.expect("an answer");
    assert_eq!(header(&answer, "cache-control"), "public, max-age=300");
    let keys: Value = answer.json().await.expect("JSON");
    let key = &keys["keys"][0];
    let members: Vec<_> = key.as_object().expect("a key").keys().collect();
    assert_eq!(members, ["kty", "kid", "use", "alg", "n", "e"]);
    assert_eq!((&key["kty"], &key["alg"]), (&json!("RSA"), &json!("RS256")));
    app_of(&house, BACK).await;
    assert_eq!(json_of(&house, "/oauth/keys").await, keys);

    let provider = json_of(&house, "/fhir/r4/.well-known/openid-configuration").await;
    assert_eq!(provider["issuer"], base);
    assert_eq!(provider["jwks_uri"], house.url("/oauth/keys"));
    assert_eq!(provider["subject_types_supported"], json!(["public"]));
    assert_eq!(
        provider["id_token_signing_alg_values_supported"],
        json!(["RS256"])
    );
    for no in [
        "claims_parameter_supported",
        "request_parameter_supported",
        "request_uri_parameter_supported",
    ] {
        assert_eq!(provider[no], false, "{no}");
    }
    assert_eq!(provider["userinfo_endpoint"], Value::Null);
    for path in [
        "/fhir/r4/.well-known/smart-configuration",
        "/.well-known/oauth-authorization-server/fhir/r4",
    ] {
        let told = json_of(&house, path).await;
        assert_eq!(told["issuer"], base, "{path}");
        assert_eq!(told["jwks_uri"], provider["jwks_uri"], "{path}");
        let has = |name: &str, value: &str| {
            let all = told[name].as_array().expect("a list");
            all.iter().any(|one| one == value)
        };
        assert!(has("capabilities", "sso-openid-connect"), "{path}");
        for scope in ["openid", "fhirUser", "profile"] {
            assert!(has("scopes_supported", scope), "{path}: {scope}");
        }
    }
    house.end().await;
}

#[tokio::test]
async fn an_app_may_want_a_sign_in_that_is_new() {
    let house = house().await;
    furnished(&house).await;
    let client = app_of(&house, BACK).await;
    let staff = Staff::new(&house, "doctor", Role::Clinician).await;
    let scope = "openid user/Observation.rs";
    let page_for = |changes: &[(&str, &str)]| address(&request(&house, &client, scope, changes));
    // Who just signed in need not do it again.
    let login = page_for(&[("prompt", "login")]);
    let mut doctor = Browser::new(&house);
    let to = doctor.get(&login).await.location;
    assert!(to.starts_with("/sign-in?next="), "{to}");
    let at = doctor.staff(&staff, &to).await.location;
    assert_eq!(at, login);
    doctor.get(&at).await.shows("Let Diary in?");
    for (changes, words) in [
        (&[("max_age", "x")][..], "max_age"),
        (&[("max_age", "-1")], "max_age"),
        (&[("nonce", &"n".repeat(1025))], "nonce"),
    ] {
        let told = doctor.get(&page_for(changes)).await;
        assert_eq!(told.told("error").as_deref(), Some("invalid_request"));
        let said = told.told("error_description").expect("words");
        assert!(said.contains(words), "{said}");
    }
    let none = doctor.get(&page_for(&[("prompt", "none login")])).await;
    assert_eq!(none.told("error").as_deref(), Some("interaction_required"));
    house.end().await;
}

/// A page that was opened by a new sign-in and lay open for long is answered by whoever sits there then.
#[tokio::test]
async fn a_new_sign_in_is_asked_for_when_the_form_comes_back_late() {
    let wall = ledger::ManualClock::new(SystemClock.now_ms());
    let its_clock = wall.clone();
    let house = house_with(|options| options.wall_clock = Arc::new(its_clock)).await;
    furnished(&house).await;
    let client = app_of(&house, BACK).await;
    let staff = Staff::new(&house, "doctor", Role::Clinician).await;
    let mut doctor = Browser::new(&house);
    doctor.staff(&staff, "/sign-in").await;
    let scope = "openid user/Observation.rs";
    let of = |changes: &[(&str, &str)]| request(&house, &client, scope, changes);
    let wanting = [
        of(&[("prompt", "login")]),
        of(&[("prompt", "select_account")]),
        of(&[("max_age", "0")]),
        of(&[("max_age", "60")]),
    ];
    let longer = [of(&[("max_age", "120")]), of(&[])];
    let mut pages = Vec::new();
    for pairs in wanting.iter().chain(&longer) {
        let page = doctor.get(&address(pairs)).await;
        page.shows("Let Diary in?");
        pages.push(page);
    }
    // Eleven minutes: the one of a sign-in that counts as new, and ten in which the page may lie open.
    wall.advance(660_000);
    let done = agree(&mut doctor, &pages[0], &wanting[0], None).await;
    assert!(done.told("code").is_some(), "{}", done.body);
    wall.advance(1_000);
    for (page, pairs) in pages.iter().zip(&wanting) {
        let late = agree(&mut doctor, page, pairs, None).await;
        late.shows("Diary wants to be sure that it is you");
        assert!(late.told("code").is_none(), "{pairs:?}");
        let next = late.fields("next").join(" ").replace("%20", "+");
        assert_eq!(next, address(pairs), "{pairs:?}");
        // Whoever wants to let nothing in need not sign in for that.
        let csrf = page.field("csrf");
        let mut form = borrowed(pairs);
        form.extend([("csrf", csrf.as_str()), ("decision", "deny")]);
        let denied = doctor.post("/oauth/authorize", &form).await;
        assert_eq!(denied.told("error").as_deref(), Some("access_denied"));
    }
    for (page, pairs) in pages[wanting.len()..].iter().zip(&longer) {
        let done = agree(&mut doctor, page, pairs, None).await;
        assert!(done.told("code").is_some(), "{pairs:?}");
    }
    house.end().await;
}
