//! Signing in, agreeing, opening an application, and what of this must not work.

use serde_json::Value;

use super::*;

// Proves: 45 CFR 164.308(a)(4)(ii)(B)
#[tokio::test]
async fn a_patient_lets_an_app_see_a_part_of_their_record() {
    let house = house().await;
    furnished(&house).await;
    let client = app(&house).await;
    let mut ann = Browser::patient(&house, "ann", "1950-02-03").await;
    let scope = "openid fhirUser launch/patient offline_access patient/Observation.rs?category=laboratory patient/Patient.cruds patient/Condition.rs user/Observation.rs";
    let pairs = request(&house, &client, scope, &[]);
    let page = ann.get(&address(&pairs)).await;
    page.shows("Let Growth Chart in?");
    page.shows(
        "See: measurements and test results, of your record, only where category=laboratory",
    );
    // Patients let nobody write, and nothing is offered that is of other people.
    page.shows("See: name, address, date of birth");
    let ticks = page.fields("agreed");
    assert!(ticks.iter().any(|tick| tick == "patient/Patient.rs"));
    assert!(
        !ticks.iter().any(|tick| tick.contains("cruds")),
        "{ticks:?}"
    );
    assert!(
        !ticks.iter().any(|tick| tick.starts_with("user/")),
        "{ticks:?}"
    );
    assert_eq!(page.frames, "DENY");
    assert!(
        page.policy.contains("form-action 'self';"),
        "{}",
        page.policy
    );

    let some = [
        "patient/Observation.rs?category=laboratory",
        "patient/Patient.r",
        "offline_access",
        "user/*.cruds",
        "patient/Procedure.r",
    ];
    let done = agree(&mut ann, &page, &pairs, Some(&some)).await;
    assert!(
        done.location
            .starts_with("https://app.example.org/back?code="),
        "{}",
        done.location
    );
    let told = tokens(exchange(&house, &client, &done.told("code").expect("a code")).await).await;
    assert_eq!(told["token_type"], "Bearer");
    assert_eq!(told["patient"], "ann");
    assert_eq!(told["need_patient_banner"], true);
    assert_eq!(told["expires_in"], 900);
    assert_eq!(
        told["scope"],
        "launch/patient offline_access patient/Observation.rs?category=laboratory patient/Patient.r"
    );
    let token = text(&told, "access_token");
    assert_eq!(
        get(&house, token, "/fhir/r4/Patient/ann").await.status(),
        StatusCode::OK
    );
    assert_eq!(
        get(&house, token, "/fhir/r4/Observation/lab-ann")
            .await
            .status(),
        StatusCode::OK
    );
    for hidden in [
        "Observation/vital-ann",
        "Observation/lab-bob",
        "Patient/bob",
    ] {
        let answer = get(&house, token, &format!("/fhir/r4/{hidden}")).await;
        assert!(
            matches!(answer.status().as_u16(), 403 | 404),
            "{hidden}: {}",
            answer.status()
        );
    }
    let found: Value = get(&house, token, "/fhir/r4/Observation")
        .await
        .json()
        .await
        .expect("JSON");
    assert_eq!(found["entry"].as_array().map(Vec::len), Some(1), "{found}");
    assert_outcome(
        get(&house, token, "/fhir/r4/Condition").await,
        403,
        "forbidden",
    )
    .await;
    // It is for FHIR and nothing else.
    for path in [
        "/audit/log/checkpoint",
        "/portal",
        "/console/worklist",
        "/portal/apps",
    ] {
        let answer = Browser::new(&house)
            .http
            .get(house.url(path))
            .bearer_auth(token)
            .send()
            .await
            .expect("an answer");
        assert!(
            matches!(answer.status().as_u16(), 401 | 303),
            "{path}: {}",
            answer.status()
        );
    }
    // The purpose is the person's; no application declares an emergency.
    let emergency = house
        .bare(Method::GET, "/fhir/r4/Patient/ann")
        .bearer_auth(token)
        .header("x-purpose-of-use", "ETREAT");
    assert_outcome(emergency.send().await.expect("an answer"), 403, "forbidden").await;

    // The patient sees which app looked, and takes it away.
    let looked = ann.get("/portal/record").await;
    looked.shows("through the app Growth Chart");
    let list = ann.get("/portal/apps").await;
    list.shows("Growth Chart");
    let csrf = list.field("csrf");
    let at = list.body.find("/portal/apps/").expect("a form");
    let end = list.body[at..]
        .split('"')
        .next()
        .expect("an address")
        .to_owned();
    assert_eq!(
        ann.post(&end, &[("csrf", "x")]).await.status,
        StatusCode::FORBIDDEN
    );
    assert_eq!(
        get(&house, token, "/fhir/r4/Patient/ann").await.status(),
        StatusCode::OK
    );
    let mut bob = Browser::patient(&house, "bob", "1950-02-03").await;
    let his = bob.get("/portal/apps").await;
    his.shows("No app acts for you");
    let theft = bob
        .post(&end, &[("csrf", &his.fields("csrf").concat())])
        .await;
    assert!(theft.status.is_client_error());
    assert_eq!(
        ann.post(&end, &[("csrf", &csrf)]).await.location,
        "/portal/apps?said=gone"
    );
    assert_outcome(
        get(&house, token, "/fhir/r4/Patient/ann").await,
        401,
        "login",
    )
    .await;
    assert_error(
        refresh(&house, &client, text(&told, "refresh_token"), &[]).await,
        400,
        "invalid_grant",
    )
    .await;
    house.end().await;
}

#[tokio::test]
async fn staff_sign_in_choose_a_patient_and_come_back() {
    let house = house().await;
    furnished(&house).await;
    let client = app(&house).await;
    let dora = Staff::new(&house, "dora", Role::Clinician).await;
    let mut browser = Browser::new(&house);
    let pairs = request(
        &house,
        &client,
        "launch/patient online_access patient/Observation.rs",
        &[],
    );
    let out = browser.get(&address(&pairs)).await;
    assert!(
        out.location.starts_with("/sign-in?next="),
        "{}",
        out.location
    );
    let before = browser.cookies.clone();
    let signed = browser.staff(&dora, &out.location.clone()).await;
    // The session is one that there was not before, and the way leads back to the request alone.
    assert!(before.iter().all(|(name, _)| name != "cairn"));
    assert_eq!(signed.location, address(&pairs));
    let page = browser.get(&signed.location).await;
    page.shows("Whose record is Growth Chart about?");
    let csrf = page.field("csrf");
    let with = |more: &[(&'static str, &'static str)]| {
        let mut form: Vec<(String, String)> = pairs.clone();
        form.push(("csrf".to_owned(), csrf.clone()));
        form.extend(
            more.iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        form
    };
    let none = browser
        .post(
            "/oauth/authorize",
            &borrowed(&with(&[
                ("decision", "allow"),
                ("agreed", "patient/Observation.rs"),
            ])),
        )
        .await;
    none.shows("Whose record is Growth Chart about?");
    let found = browser
        .post(
            "/oauth/authorize",
            &borrowed(&with(&[("decision", "find"), ("name", "berg")])),
        )
        .await;
    assert_eq!(found.fields("patient"), ["ann"]);
    let page = browser
        .post(
            "/oauth/authorize",
            &borrowed(&with(&[("decision", "choose"), ("patient", "ann")])),
        )
        .await;
    page.shows("T Berg");
    page.shows("See: measurements and test results, of this patient");
    let nobody = browser
        .post(
            "/oauth/authorize",
            &borrowed(&with(&[("decision", "choose"), ("patient", "../x")])),
        )
        .await;
    assert_eq!(nobody.status, StatusCode::NOT_FOUND);
    let done = agree(&mut browser, &page, &pairs, None).await;
    let told = tokens(exchange(&house, &client, &done.told("code").expect("a code")).await).await;
    assert_eq!(told["patient"], "ann");
    let token = text(&told, "access_token");
    assert_eq!(
        get(&house, token, "/fhir/r4/Observation/lab-ann")
            .await
            .status(),
        StatusCode::OK
    );
    let other = get(&house, token, "/fhir/r4/Observation/lab-bob").await;
    assert!(matches!(other.status().as_u16(), 403 | 404));
    // Signing out ends it at once, and so does closing the account what outlives the session.
    let again = request(&house, &client, "offline_access user/Observation.rs", &[]);
    let lasting = code(&mut browser, &again).await;
    let lasting = tokens(exchange(&house, &client, &lasting).await).await;
    assert!(lasting.get("patient").is_none());
    let page = browser.get("/console/apps").await;
    assert_eq!(page.body.matches("data-key=").count(), 2, "{}", page.body);
    let csrf = page.field("csrf");
    assert_eq!(
        browser.post("/sign-out", &[("csrf", &csrf)]).await.location,
        "/sign-in"
    );
    assert_outcome(
        get(&house, token, "/fhir/r4/Observation/lab-ann").await,
        401,
        "login",
    )
    .await;
    assert_error(
        refresh(&house, &client, text(&told, "refresh_token"), &[]).await,
        400,
        "invalid_grant",
    )
    .await;
    let token = text(&lasting, "access_token");
    assert_eq!(
        get(&house, token, "/fhir/r4/Observation/lab-bob")
            .await
            .status(),
        StatusCode::OK
    );
    let trust = house.server.trust();
    let permit = administers(&house.server).await;
    trust
        .identity()
        .set_active(&permit, &dora.id, false)
        .await
        .expect("closed");
    assert_outcome(
        get(&house, token, "/fhir/r4/Observation/lab-bob").await,
        401,
        "login",
    )
    .await;
    assert_error(
        refresh(&house, &client, text(&lasting, "refresh_token"), &[]).await,
        400,
        "invalid_grant",
    )
    .await;
    house.end().await;
}

#[tokio::test]
async fn an_app_opens_from_a_patient_s_page_once() {
    let house = house().await;
    furnished(&house).await;
    let client = app(&house).await;
    let (dora, carl) = (
        Staff::new(&house, "dora", Role::Clinician).await,
        Staff::new(&house, "carl", Role::Coordinator).await,
    );
    let mut browser = Browser::new(&house);
    browser.staff(&dora, "/sign-in").await;
    browser
        .get("/console/patients/ann")
        .await
        .shows("Open in an app");
    let page = browser.get("/console/patients/ann/apps").await;
    page.shows("Growth Chart");
    let form = [("csrf", page.field("csrf")), ("app", page.field("app"))];
    let form: Vec<(&str, &str)> = form
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let opened = browser.post("/console/patients/ann/apps", &form).await;
    let at = opened
        .body
        .find("https://app.example.org/launch?")
        .expect("a link");
    let link = unescaped(opened.body[at..].split('"').next().expect("an address"));
    let asked: Vec<(String, String)> =
        form_urlencoded::parse(link.split_once('?').expect("a query").1.as_bytes())
            .into_owned()
            .collect();
    assert_eq!(asked[0], ("iss".to_owned(), house.url("/fhir/r4")));
    assert!(!link.contains("ann"), "{link}");
    let launch = asked[1].1.as_str();
    let pairs = request(
        &house,
        &client,
        "launch patient/Observation.rs",
        &[("launch", launch)],
    );
    // It is this person's, in this session, and for this application.
    let mut other = Browser::new(&house);
    other.staff(&carl, "/sign-in").await;
    assert_eq!(
        other.get(&address(&pairs)).await.status,
        StatusCode::BAD_REQUEST
    );
    let second = app(&house).await;
    let theirs = request(
        &house,
        &second,
        "launch patient/Observation.rs",
        &[("launch", launch)],
    );
    assert_eq!(
        browser.get(&address(&theirs)).await.status,
        StatusCode::BAD_REQUEST
    );
    let page = browser.get(&address(&pairs)).await;
    page.shows("T Berg");
    // Another patient in the form is not the one that it was opened for.
    let csrf = page.field("csrf");
    let mut forged = borrowed(&pairs);
    forged.extend([
        ("csrf", csrf.as_str()),
        ("decision", "allow"),
        ("agreed", "patient/Observation.rs"),
        ("patient", "bob"),
    ]);
    let done = browser.post("/oauth/authorize", &forged).await;
    let told = tokens(exchange(&house, &client, &done.told("code").expect("a code")).await).await;
    assert_eq!(told["patient"], "ann");
    assert!(told.get("refresh_token").is_none());
    assert_eq!(
        browser.get(&address(&pairs)).await.status,
        StatusCode::BAD_REQUEST,
        "a launch was used twice"
    );
    house.end().await;
}

#[tokio::test]
async fn requests_that_are_wrong_are_told_to_the_right_one() {
    let house = house().await;
    furnished(&house).await;
    let client = app(&house).await;
    let mut ann = Browser::patient(&house, "ann", "1950-02-03").await;
    let scope = "patient/Observation.rs";
    // To the person: nobody is sent to an address that wasn't registered.
    for changes in [
        [("client_id", "nobody")],
        [("client_id", "")],
        [("redirect_uri", "")],
        [("redirect_uri", "https://app.example.org/back/")],
        [("redirect_uri", "https://app.example.org/other")],
        [("redirect_uri", "https://app.example.org:8443/back")],
        [("redirect_uri", "https://evil.example/back")],
        [("redirect_uri", "https://app.example.org@evil.example/back")],
        [("redirect_uri", "https://x@app.example.org/back")],
        [("redirect_uri", "https://app.example.org/back#x")],
        [("redirect_uri", "https://app.example.org/back?x=1")],
        [("redirect_uri", "http://app.example.org/back")],
        [("redirect_uri", "//app.example.org/back")],
        [("redirect_uri", "javascript:alert(1)")],
    ] {
        for browser in [&mut ann, &mut Browser::new(&house)] {
            let page = browser
                .get(&address(&request(&house, &client, scope, &changes)))
                .await;
            assert_eq!(page.status, StatusCode::BAD_REQUEST, "{changes:?}");
            assert_eq!(page.location, "");
            assert!(!page.body.contains("evil"), "{}", page.body);
        }
    }
    let twice = format!(
        "{}&redirect_uri=https%3A%2F%2Fevil.example",
        address(&request(&house, &client, scope, &[]))
    );
    assert_eq!(ann.get(&twice).await.status, StatusCode::BAD_REQUEST);
    // To the application.
    let long = "x".repeat(1025);
    let plain = s256("x");
    for (changes, error) in [
        (
            vec![("response_type", "token")],
            "unsupported_response_type",
        ),
        (vec![("response_type", "")], "unsupported_response_type"),
        (vec![("response_mode", "fragment")], "invalid_request"),
        (vec![("code_challenge", "")], "invalid_request"),
        (vec![("code_challenge_method", "plain")], "invalid_request"),
        (vec![("code_challenge_method", "")], "invalid_request"),
        (vec![("code_challenge", "short")], "invalid_request"),
        (
            vec![("aud", "https://other.example/fhir")],
            "invalid_request",
        ),
        (vec![("aud", "")], "invalid_request"),
        (vec![("state", "")], "invalid_request"),
        (vec![("state", long.as_str())], "invalid_request"),
        (vec![("scope", "")], "invalid_scope"),
        (vec![("scope", "openid")], "invalid_scope"),
        (vec![("scope", "patient/Everything.rs")], "invalid_scope"),
        (vec![("scope", "launch patient/*.rs")], "invalid_request"),
        (vec![("launch", plain.as_str())], "invalid_request"),
        (
            vec![("request_uri", "https://evil.example")],
            "request_not_supported",
        ),
        (vec![("prompt", "none")], "interaction_required"),
        (vec![("scope", "system/*.rs")], "invalid_scope"),
        (vec![("scope", "user/*.rs")], "invalid_scope"),
    ] {
        let page = ann
            .get(&address(&request(&house, &client, scope, &changes)))
            .await;
        // Who is signed in may have come by a form, which leads nowhere else: they get a page that goes on.
        assert_eq!(page.status, StatusCode::OK, "{changes:?}");
        assert_eq!(page.told("iss"), Some(house.url("/fhir/r4")));
        page.shows("Go on to app.example.org");
        let out = Browser::new(&house)
            .get(&address(&request(&house, &client, scope, &changes)))
            .await;
        // Nobody is led on by a page who has no session; what it takes one to know is told after the sign-in.
        assert_eq!(out.status, StatusCode::SEE_OTHER, "{changes:?}");
        assert!(
            out.location == page.location || out.location.starts_with("/sign-in?next="),
            "{changes:?}: {}",
            out.location
        );
        assert!(
            page.location
                .starts_with("https://app.example.org/back?error="),
            "{}",
            page.location
        );
        assert_eq!(page.told("error").as_deref(), Some(error), "{changes:?}");
        assert!(
            page.told("error_description")
                .is_some_and(|words| !words.is_empty())
        );
        let echoed = changes[0].0 != "state";
        assert_eq!(page.told("state").is_some(), echoed, "{changes:?}");
        assert!(page.told("code").is_none());
    }
    // Only those who care for patients let anything in, and only by their own form.
    let pairs = request(&house, &client, scope, &[]);
    let page = ann.get(&address(&pairs)).await;
    let mut form = borrowed(&pairs);
    form.extend([("decision", "allow"), ("agreed", scope)]);
    assert_eq!(
        ann.post("/oauth/authorize", &form).await.status,
        StatusCode::FORBIDDEN
    );
    form.push(("csrf", "x"));
    assert_eq!(
        ann.post("/oauth/authorize", &form).await.status,
        StatusCode::FORBIDDEN
    );
    let mut bob = Browser::patient(&house, "bob", "1950-02-03").await;
    let csrf = page.field("csrf");
    *form.last_mut().expect("a field") = ("csrf", csrf.as_str());
    assert_eq!(
        bob.post("/oauth/authorize", &form).await.status,
        StatusCode::FORBIDDEN
    );
    let denied = agree(&mut ann, &page, &pairs, Some(&[])).await;
    assert_eq!(denied.told("error").as_deref(), Some("access_denied"));
    let mut form = borrowed(&pairs);
    form.extend([
        ("csrf", csrf.as_str()),
        ("decision", "deny"),
        ("agreed", scope),
    ]);
    assert_eq!(
        ann.post("/oauth/authorize", &form)
            .await
            .told("error")
            .as_deref(),
        Some("access_denied")
    );
    let olga = Staff::new(&house, "olga", Role::Administrator).await;
    let mut browser = Browser::new(&house);
    browser.staff(&olga, "/sign-in").await;
    assert_eq!(
        browser.get(&address(&pairs)).await.status,
        StatusCode::FORBIDDEN
    );
    assert_eq!(
        browser.get("/console/apps").await.status,
        StatusCode::FORBIDDEN
    );
    house.end().await;
}

#[tokio::test]
async fn a_patient_comes_back_to_the_app_s_request_after_a_link() {
    let house = house().await;
    furnished(&house).await;
    let client = app(&house).await;
    let identity = house.server.trust().identity();
    let link = identity
        .make_link(&agent(Role::Coordinator), "ann", 3600, true)
        .await
        .expect("a link");
    let link = format!("/sign-in/link/{link}");
    let signed = async |browser: &mut Browser<'_>| {
        let form = browser.get(&link).await.field("form");
        let fields = [
            ("form", form.as_str()),
            ("birth_date", "1950-02-03"),
            ("next", "/portal/inbox"),
        ];
        browser.post(&link, &fields).await.location
    };
    let pairs = request(&house, &client, "patient/Observation.rs", &[]);
    let mut browser = Browser::new(&house);
    let out = browser.get(&address(&pairs)).await;
    browser
        .get(&out.location)
        .await
        .shows("then they are asked about the app");
    assert_eq!(signed(&mut browser).await, address(&pairs));
    browser
        .get(&address(&pairs))
        .await
        .shows("Let Growth Chart in?");
    // Once.
    assert_eq!(signed(&mut browser).await, "/portal/inbox");
    // What somebody else wrote there leads nowhere.
    for value in [
        "https%3A%2F%2Fevil.example",
        "%2F%2Fevil.example",
        "%2Fconsole%2Faccounts",
        "%2Foauth%2Fauthorize%3F%0D%0Aset-cookie%3Ax",
        "%2Foauth%2Fauthorize",
        "%zz",
        "",
    ] {
        let mut browser = Browser::new(&house);
        browser.cookies = vec![("cairn-app".to_owned(), value.to_owned())];
        assert_eq!(signed(&mut browser).await, "/portal/inbox", "{value}");
    }
    house.end().await;
}
