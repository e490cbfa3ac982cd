//! Every form carries its session's token, and none does anything without it.

use axum::http::StatusCode;
use ledger::{Number, SHARDS, Shard};
use serde_json::json;
use trust::identity::{NewApp, NewGrant, NewSystem, SystemKeys, wanted_scopes};
use trust::{Agent, Role, kinds};

use crate::world::{Browser, PASSWORD, TENANT, World, check_html};

/// Every route that takes a form, out of the router's own text, so that none can be forgotten.
fn form_routes() -> Vec<String> {
    let router = include_str!("../../src/lib.rs");
    let mut found = Vec::new();
    for route in router.split(".route(").skip(1) {
        let end = [".merge(", ".fallback(", "\n}\n"]
            .iter()
            .filter_map(|end| route.find(end))
            .min();
        let route = &route[..end.unwrap_or(route.len())];
        if route.contains("post(") {
            found.push(route.split('"').nth(1).unwrap().to_owned());
        }
    }
    assert!(found.len() > 10, "{found:?}");
    found
}

/// A form: whose, where, and what stands in it besides the token.
struct Form {
    route: String,
    who: usize,
    path: String,
    fields: Vec<(&'static str, String)>,
}

/// What happened to documents since a number, sessions aside. The audit is no part of the feed.
async fn events_after(world: &World, after: Number) -> usize {
    let mut count = 0;
    for shard in 0..SHARDS {
        let events = world.ledger().events(Shard(shard), after, 1_000).await;
        count += events
            .unwrap()
            .iter()
            .filter(|event| event.kind != kinds::SESSION)
            .count();
    }
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn no_form_does_anything_without_its_token() {
    const CARLA: usize = 0;
    const SAM: usize = 1;
    const ADA: usize = 2;
    const IDA: usize = 3;
    const DEVI: usize = 4;
    const PRIYA: usize = 5;
    const MONA: usize = 6;
    const MANY: [(&str, &str); 4] = [
        ("journey", "heart-failure-discharge"),
        ("version", "1"),
        ("what", "go-on"),
        ("reason", "Home"),
    ];
    let wishes = [
        ("version", "0"),
        ("visits", "usual"),
        ("forms", "usual"),
        ("care", "inbox"),
        ("level", "all"),
    ];
    // The id of a form that was looked at.
    const FORM: &str = "0123456789abcdef0123456789abcdef";
    let (_policies, world) = crate::video::world().await;
    let ida = world.patient("Ida", "Berg").await;
    // Nobody has said no for Ida, so that she can go into her visit.
    let eva = world.patient("Eva", "Roe").await;
    let by_video = crate::video::visit(&world, &ida, |_| ()).await;
    let task = world.task(&ida, "urgent", "Call").await;
    let picked = format!("{}/1", world.task(&ida, "urgent", "Call").await);
    let (_, form) = crate::patients_own::with_form(&world, &ida).await;
    let visit = world.id_of(&ida);
    world
        .put(vec![json!({ "resourceType": "Appointment", "id": visit, "status": "proposed", "start": "2026-03-08T10:00:00Z", "end": "2026-03-08T10:30:00Z", "participant": [{ "actor": { "reference": format!("Patient/{ida}") }, "status": "needs-action" }] })])
        .await;
    let led = crate::consents::followed(&world).await;
    let journey = crate::hands::journey_of(&world, &led).await;
    crate::versions::published(&world).await;
    // It reaches somebody, and leaves them where they are.
    let moved = crate::versions::moved(&world, &[("map-welcome", "stay")]).await;
    world.journeys.batch_turn(TENANT).await.unwrap();
    let batch = crate::batches::asked_for(&world).await;
    let rests = crate::batches::asked_for(&world).await;
    let rested = crate::batches::asked_for(&world).await;
    let steers = crate::versions::steers(&world).await;
    let went_on = world.journeys.pause_batch(&steers, &rested).await;
    assert!(went_on.unwrap());
    let letter = crate::stuck::letter(&world).await;
    let identity = world.trust.identity();
    let operator = Agent::system(TENANT, "demo");
    let token = identity
        .create_client(&operator, "lab", Role::Client)
        .await
        .unwrap();
    let client = identity.bearer(&token).await.unwrap().id;
    let coordinate = "A".repeat(64);
    let keys = format!(
        r#"{{"keys":[{{"kty":"EC","kid":"k","crv":"P-384","x":"{coordinate}","y":"{coordinate}"}}]}}"#
    );
    let registry = NewSystem {
        name: "Registry".to_owned(),
        keys: SystemKeys::Set(keys.clone()),
        scopes: "system/Patient.rs".to_owned(),
    };
    let waiting = identity.ask_to_register(TENANT, &registry).await.unwrap();
    let waiting = waiting.unwrap();
    let devi = identity.account_named(&operator, "devi").await.unwrap();
    let devi = devi.unwrap();
    let second = world.staff("carla").await;
    let second = crate::passkeys::session(&world, &second).await;
    let third = world.staff("carla").await;
    let third = crate::passkeys::session(&world, &third).await;
    let carla = third.agent.id.clone();
    let her_second = world.patients_browser(&ida).await;
    let her_second = crate::passkeys::session(&world, &her_second).await;
    let mut browsers = [
        world.staff("carla").await,
        world.staff("sam").await,
        world.staff("ada").await,
        world.patients_browser(&ida).await,
        world.staff("devi").await,
        world.staff("priya").await,
        world.browser(),
    ];
    let in_danger = crate::emergency::private_patient(&world, "Olaf", "Scabies").await;
    let opened = crate::emergency::private_patient(&world, "Mona", "Gout").await;
    let clinician = crate::emergency::devi_s_agent(&world).await;
    let access = identity
        .break_glass(&clinician, &opened, "Unconscious, nobody to ask", "r")
        .await
        .unwrap();
    let looked = crate::unexplained::an_access(&world, &ida).await;
    let mut acts = Vec::new();
    for (patient, address) in [
        (&ida, "a"),
        (&ida, "b"),
        (&ida, "c"),
        (&opened, "d"),
        (&in_danger, "d"),
    ] {
        acts.push(crate::proxies::authorised(&world, patient, address).await);
    }
    browsers[MONA] = crate::proxies::signed_in(&world, &acts[3]).await;
    let pages = [
        "/console/worklist",
        "/console/journeys",
        "/console/accounts",
        "/portal",
        "/console/worklist",
        "/console/emergencies",
        "/portal/weight",
    ];
    let mut tokens = Vec::new();
    for (browser, page) in browsers.iter_mut().zip(pages) {
        tokens.push(browser.get(page).await.field("csrf"));
    }

    let back = "https://app.example.org/back";
    let app = NewApp {
        name: "Diary".to_owned(),
        redirect_uris: vec![back.to_owned()],
        launch_uri: Some("https://app.example.org/launch".to_owned()),
        scopes: "launch offline_access patient/*.rs user/*.rs".to_owned(),
        keys: SystemKeys::None,
    };
    let app = identity.register_app(&operator, &app).await.unwrap();
    let challenge = "a".repeat(43);
    let mut grants = Vec::new();
    for (who, scopes, patient) in [
        (CARLA, "user/Patient.r", None),
        (IDA, "patient/Patient.r", Some(ida.as_str())),
        (CARLA, "user/Patient.r", None),
    ] {
        let found = browsers[who]
            .cookies
            .iter()
            .find(|(name, _)| name == "cairn");
        let session = identity.peek(&found.unwrap().1).await.unwrap();
        let app = identity.app(TENANT, &app).await.unwrap().unwrap();
        let grant = NewGrant {
            app: &app,
            redirect_uri: back,
            challenge: &challenge,
            scopes: &wanted_scopes(scopes).unwrap(),
            patient,
            launch: None,
            nonce: None,
            context: None,
        };
        identity.allow(&session, grant).await.unwrap();
        grants.push(identity.grants_of(&session).await.unwrap()[0].id.clone());
    }

    let party = crate::passkeys::party();
    let mut devices = Vec::new();
    let mut of_browsers = Vec::new();
    for browser in &browsers {
        of_browsers.push(crate::passkeys::session(&world, browser).await);
    }
    for who in [SAM, PRIYA] {
        let session = &of_browsers[who];
        let mut device = crate::authenticator::Authenticator::at(&party.origin);
        let asked = identity.ask_for_new_passkey(&party, session).await.unwrap();
        let made = device.make(&asked.options);
        identity
            .add_passkey(&party, session, &asked.sealed, &made, "Key")
            .await
            .unwrap();
        devices.push(device);
    }
    let of_priya = identity.own_factors(&of_browsers[PRIYA]).await.unwrap();
    let removed = of_priya.0[0].id.clone();
    let new_passkey = identity
        .ask_for_new_passkey(&party, &of_browsers[DEVI])
        .await
        .unwrap();
    let made = devices[0].make(&new_passkey.options);
    let new_app = identity
        .ask_for_own_code(&of_browsers[CARLA])
        .await
        .unwrap();
    let first_code = world.code_of(&new_app.secret);

    let form_of = |route: &str| -> Option<Form> {
        let with = |who, path: &str, fields: &[(&'static str, &str)]| {
            let fields = fields
                .iter()
                .map(|(name, value)| (*name, (*value).to_owned()));
            Some(Form {
                route: route.to_owned(),
                who,
                path: path.to_owned(),
                fields: fields.collect(),
            })
        };
        match route {
            "/console/tasks/{id}/{deed}" => {
                with(CARLA, &format!("/console/tasks/{task}/done"), &[])
            }
            "/console/worklist" => with(CARLA, route, &[("deed", "claim"), ("task", &picked)]),
            "/console/patients" => with(CARLA, route, &[("name", "berg")]),
            "/console/record" => with(CARLA, route, &[("kind", "Patient"), ("query", "")]),
            "/console/journeys/publish" => with(
                SAM,
                route,
                &[
                    (
                        "source",
                        include_str!("../../../../journeys/heart-failure-discharge.yaml"),
                    ),
                    ("do", "publish"),
                ],
            ),
            "/console/accounts" => with(ADA, route, &[("patient", &ida)]),
            "/console/accounts/{id}/{deed}" => {
                with(ADA, &format!("/console/accounts/{devi}/close"), &[])
            }
            "/console/accounts/{id}/sessions/{session}/end" => with(
                ADA,
                &format!("/console/accounts/{carla}/sessions/{}/end", third.id),
                &[],
            ),
            "/console/accounts/{id}/apps/{grant}/end" => with(
                ADA,
                &format!("/console/accounts/{carla}/apps/{}/end", grants[2]),
                &[],
            ),
            "/console/clients" => with(
                ADA,
                route,
                &[
                    ("name", "Laboratory"),
                    ("scopes", "system/Patient.rs"),
                    ("purposes", "TREAT"),
                    ("keys", &keys),
                ],
            ),
            "/console/clients/apps" => with(
                ADA,
                route,
                &[
                    ("name", "Diary"),
                    ("redirect_uris", back),
                    ("scopes", "patient/*.rs"),
                ],
            ),
            "/console/patients/{id}/apps" => with(
                CARLA,
                &format!("/console/patients/{ida}/apps"),
                &[("app", &app)],
            ),
            "/console/access" => with(
                PRIYA,
                route,
                &[
                    ("role", "clinician"),
                    ("purpose", "TREAT"),
                    ("action", "read"),
                    ("type", "Observation"),
                ],
            ),
            "/console/patients/{id}/emergency" => with(
                DEVI,
                &format!("/console/patients/{in_danger}/emergency"),
                &[("reason", "Unconscious, nobody to ask")],
            ),
            "/console/patients/{id}/consents" => with(
                DEVI,
                &format!("/console/patients/{eva}/consents"),
                &[("do", "new"), ("type", "deny")],
            ),
            "/console/patients/{id}/consents/make" => with(
                DEVI,
                &format!("/console/patients/{eva}/consents/make"),
                &[("do", "new"), ("type", "deny"), ("form", FORM)],
            ),
            "/portal/choices" | "/portal/choices/make" => with(
                IDA,
                route,
                &[("do", "new"), ("type", "deny"), ("form", FORM)],
            ),
            "/console/patients/{id}/contact" => with(
                DEVI,
                &format!("/console/patients/{ida}/contact"),
                &[("kind", "phone"), ("address", "+1 555 0177")],
            ),
            "/console/patients/{id}/journeys/stop" => with(
                CARLA,
                &format!("/console/patients/{ida}/journeys/stop"),
                &[("reason", "In a hospice")],
            ),
            "/console/stuck/{letter}/retry" => {
                with(SAM, &format!("/console/stuck/{letter}/retry"), &[])
            }
            "/console/batches" | "/console/batches/new" => with(CARLA, route, &MANY),
            "/console/journeys/{name}/stage" => with(
                SAM,
                "/console/journeys/heart-failure-discharge/stage",
                &[("version", "3"), ("to", "retired"), ("reason", "Over")],
            ),
            "/console/journeys/{name}/analysis" => with(
                SAM,
                "/console/journeys/heart-failure-discharge/analysis",
                &[("version", "1")],
            ),
            "/console/journeys/{name}/move" => with(
                CARLA,
                "/console/journeys/heart-failure-discharge/move",
                &[("from", "1"), ("to", "2")],
            ),
            "/console/journeys/{name}/move/begin" => with(
                CARLA,
                "/console/journeys/heart-failure-discharge/move/begin",
                &[("from", "1"), ("to", "2"), ("reason", "Shorter")],
            ),
            "/console/batches/{batch}/pause" => {
                with(CARLA, &format!("/console/batches/{rests}/pause"), &[])
            }
            "/console/batches/{batch}/go-on" => {
                with(CARLA, &format!("/console/batches/{rested}/go-on"), &[])
            }
            "/console/studio" => with(SAM, route, &[("source", "name: x"), ("do", "look")]),
            "/console/studio/check" => with(SAM, route, &[("source", "name: x")]),
            "/console/batches/{batch}/back" => with(
                CARLA,
                &format!("/console/batches/{moved}/back"),
                &[("reason", "Too early")],
            ),
            "/console/batches/{batch}/cancel" => {
                with(CARLA, &format!("/console/batches/{batch}/cancel"), &[])
            }
            "/console/patients/{id}/journeys/{journey}" => with(
                CARLA,
                &format!("/console/patients/{led}/journeys/{journey}"),
                &[("do", "hold"), ("reason", "In a hospice")],
            ),
            "/console/patients/{id}/proxies" => with(
                CARLA,
                &format!("/console/patients/{ida}/proxies"),
                &[
                    ("name", "Mona"),
                    ("address", "e@example.org"),
                    ("birth_date", "1984-05-06"),
                    ("basis", "authorised"),
                    ("proof", "Signed form of today"),
                ],
            ),
            "/console/patients/{id}/proxies/{proxy}/end" => with(
                CARLA,
                &format!("/console/patients/{ida}/proxies/{}/end", acts[0]),
                &[("reason", "Asked for by phone")],
            ),
            "/console/patients/{id}/proxies/{proxy}/link" => with(
                CARLA,
                &format!("/console/patients/{ida}/proxies/{}/link", acts[1]),
                &[],
            ),
            "/portal/proxies/{id}/end" => {
                with(IDA, &format!("/portal/proxies/{}/end", acts[2]), &[])
            }
            "/portal/for" => with(MONA, route, &[("proxy", &acts[4])]),
            "/console/emergencies/{id}/end" => with(
                DEVI,
                &format!("/console/emergencies/{}/end", access.id),
                &[],
            ),
            "/console/emergencies/{id}/review" => with(
                PRIYA,
                &format!("/console/emergencies/{}/review", access.id),
                &[("outcome", "justified"), ("words", "Nobody could be asked")],
            ),
            "/console/unexplained/{event}/{patient}/review" => with(
                PRIYA,
                &format!("/console/unexplained/{looked}/{ida}/review"),
                &[("outcome", "explained"), ("words", "She helped at the desk")],
            ),
            "/console/apps/{id}/end" => {
                with(CARLA, &format!("/console/apps/{}/end", grants[0]), &[])
            }
            "/portal/sessions/{id}/end" => with(
                IDA,
                &format!("/portal/sessions/{}/end", her_second.id),
                &[],
            ),
            "/portal/sessions/end-others" => with(IDA, route, &[]),
            "/portal/apps/{id}/end" => with(IDA, &format!("/portal/apps/{}/end", grants[1]), &[]),
            "/oauth/authorize" => with(
                IDA,
                route,
                &[
                    ("response_type", "code"),
                    ("client_id", &app),
                    ("redirect_uri", back),
                    ("scope", "patient/*.rs"),
                    ("state", "s"),
                    ("aud", "https://cairn.example/fhir/r4"),
                    ("code_challenge", &challenge),
                    ("code_challenge_method", "S256"),
                    ("decision", "allow"),
                    ("agreed", "patient/*.rs"),
                ],
            ),
            "/console/clients/{id}/approve" => with(
                ADA,
                &format!("/console/clients/{waiting}/approve"),
                &[("scopes", "system/Patient.rs")],
            ),
            "/console/clients/{id}/purposes" => with(
                ADA,
                &format!("/console/clients/{client}/purposes"),
                &[("purposes", "HPAYMT"), ("contract", "signed")],
            ),
            "/console/clients/{id}/revoke" => with(
                ADA,
                &format!("/console/clients/{client}/revoke"),
                &[("reason", "it leaked")],
            ),
            "/portal/forms/{task}" => with(
                IDA,
                &format!("/portal/forms/{form}"),
                &[("q-breathless", "yes"), ("q-score", "4")],
            ),
            "/portal/visits/{id}" => with(
                IDA,
                &format!("/portal/visits/{visit}"),
                &[("answer", "accept")],
            ),
            "/portal/visits/{id}/join" => {
                with(IDA, &format!("/portal/visits/{by_video}/join"), &[])
            }
            "/console/patients/{id}/visits/{visit}/join" => with(
                DEVI,
                &format!("/console/patients/{ida}/visits/{by_video}/join"),
                &[],
            ),
            "/portal/consent" => with(IDA, route, &[("do", "withdraw")]),
            "/portal/weight" => with(IDA, route, &[("kg", "80")]),
            "/portal/preferences" => with(IDA, route, &[("wanted", "1")]),
            "/portal/preferences/messages" => with(IDA, route, &wishes),
            "/console/patients/{id}/messages" => with(
                DEVI,
                &format!("/console/patients/{opened}/messages"),
                &wishes,
            ),
            "/sign-out" => with(CARLA, route, &[]),
            // Sign-in has no session; the next test tries it. The theme is a matter of colours, and
            // its form is on pages without a session, too: it only mustn't come from elsewhere.
            "/sign-in"
            | "/sign-in/code"
            | "/sign-in/passkey"
            | "/sign-in/link/{secret}"
            // No page sends the last: an identity provider does, with a token that it signed.
            | "/theme"
            | "/sign-in/with/{provider}/logout" => None,
            "/console/sign-in/app" => with(
                CARLA,
                route,
                &[("sealed", &new_app.sealed), ("code", &first_code)],
            ),
            "/console/sign-in/app/remove" | "/console/sign-in/sessions/end-others" => {
                with(SAM, route, &[])
            }
            "/console/sign-in/passkeys" => with(
                DEVI,
                route,
                &[
                    ("sealed", &new_passkey.sealed),
                    ("answer", &made),
                    ("name", "Phone"),
                ],
            ),
            "/console/sign-in/passkeys/{id}/remove" => with(
                PRIYA,
                &format!("/console/sign-in/passkeys/{removed}/remove"),
                &[],
            ),
            "/console/sign-in/sessions/{id}/end" => with(
                CARLA,
                &format!("/console/sign-in/sessions/{}/end", second.id),
                &[],
            ),
            other => panic!("no form is known for the route {other}: add it here"),
        }
    };
    let routes = form_routes();
    let mut forms: Vec<Form> = routes.iter().filter_map(|route| form_of(route)).collect();
    // Signing out and what closes doors come last, so that the others can be tried with their token.
    let late = |form: &Form| {
        let closes = form.path == "/console/accounts" || form.path.ends_with("/close");
        usize::from(closes) + 2 * usize::from(form.path == "/sign-out")
    };
    forms.sort_by_key(late);

    let before = world.ledger().last_number();
    for form in &forms {
        let other = &tokens[(form.who + 1) % tokens.len()];
        for token in [None, Some(""), Some("0123456789abcdef"), Some(other)] {
            let mut fields: Vec<(&str, &str)> = form
                .fields
                .iter()
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            fields.extend(token.map(|token| ("csrf", token)));
            let page = browsers[form.who].post(&form.path, &fields).await;
            refused(&form.path, &page);
        }
        let mut fields = vec![("csrf", tokens[form.who].as_str())];
        fields.extend(
            form.fields
                .iter()
                .map(|(name, value)| (*name, value.as_str())),
        );
        let page = browsers[form.who]
            .post_from_elsewhere(&form.path, &fields)
            .await;
        refused(&form.path, &page);
    }
    assert_eq!(events_after(&world, before).await, 0, "something was done");

    // The same forms with their tokens do something, so the table above says what it seems to say. Those that do
    // something sensitive first ask for a second factor, and do nothing without.
    let mut asking = Vec::new();
    for form in &forms {
        let mut fields = vec![("csrf", tokens[form.who].as_str())];
        fields.extend(
            form.fields
                .iter()
                .map(|(name, value)| (*name, value.as_str())),
        );
        // What is begun is what was looked at.
        let mark = if form.path.ends_with("/move/begin") {
            crate::versions::seen(&world, &[]).await
        } else {
            String::new()
        };
        if !mark.is_empty() {
            fields.push(("seen", &mark));
        }
        let before = world.ledger().last_number();
        identity.limit_factor_age(0);
        let mut page = browsers[form.who].post(&form.path, &fields).await;
        let asks = page.has("Confirm that it is you");
        let word = if asks { "asks" } else { "does not ask" };
        asking.push(format!("{} {word}", form.route));
        if asks {
            assert_eq!(page.status, StatusCode::FORBIDDEN, "{}", form.path);
            assert_eq!(events_after(&world, before).await, 0, "{}", form.path);
            check_html(&form.path, &page.body);
            identity.limit_factor_age(8 * 3600);
            page = browsers[form.who].post(&form.path, &fields).await;
        }
        let worked = if matches!(form.path.as_str(), "/console/patients" | "/console/record") {
            page.has("Ida Berg")
        } else if form.path.ends_with("/consents")
            || matches!(
                form.path.as_str(),
                "/portal/choices"
                    | "/console/batches/new"
                    | "/console/journeys/heart-failure-discharge/move"
            )
        {
            page.has("id=\"effect\"")
        } else if form.path == "/console/studio" {
            page.has("id=\"verdict\"")
        } else if form.path == "/console/worklist" {
            page.has("1 task claimed")
        } else if form.path == "/console/studio/check" {
            page.has("\"said\":")
        } else if form.path == "/oauth/authorize" || form.path.ends_with("/join") {
            page.headers.contains_key("refresh")
        } else if form.path == "/console/access" {
            page.has("id=\"answer\"")
        } else if form.path.ends_with("/apps") && form.path.starts_with("/console/patients/") {
            page.has("https://app.example.org/launch?iss=")
        } else {
            page.status == StatusCode::SEE_OTHER && page.location() != "/sign-in?next="
        };
        assert!(worked, "{}: {} {}", form.path, page.status, page.body);
        if form.path.ends_with("/analysis") {
            // It is written behind its answer, and would be taken for what a later form did.
            let href = format!("{}?version=1", form.path);
            crate::analysis::made_anew(&mut browsers[form.who], &href).await;
        }
    }
    asking.sort();
    insta::assert_snapshot!("forms_that_ask_for_a_second_factor", asking.join("\n"));
}

#[track_caller]
fn refused(path: &str, page: &crate::world::Page) {
    assert_eq!(page.status, StatusCode::FORBIDDEN, "{path}: {}", page.body);
    assert!(page.has("The form was too old"), "{path}: {}", page.body);
    check_html(path, &page.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn sign_in_forms_have_a_token_of_their_own() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let operator = Agent::system(TENANT, "demo");
    let secret = world
        .trust
        .identity()
        .make_link(&operator, &ida, 3600, true)
        .await
        .unwrap();
    let link = format!("/sign-in/link/{secret}");
    let mut browser = world.browser();
    browser.get("/sign-in").await;
    let step = browser
        .submit("/sign-in", &[("user", "carla"), ("password", PASSWORD)])
        .await;
    let ticket = step.field("ticket");
    let code = world.code("carla");
    let token = step.field("form");
    let forms: [(&str, Vec<(&str, &str)>); 4] = [
        ("/sign-in", vec![("user", "carla"), ("password", PASSWORD)]),
        (
            "/sign-in/code",
            vec![("ticket", &ticket), ("user", "carla"), ("code", &code)],
        ),
        (&link, vec![("birth_date", "1941-03-07")]),
        ("/sign-in/passkey", vec![("sealed", "x"), ("answer", "{}")]),
    ];
    let mut stranger = world.browser();
    for (path, fields) in &forms {
        // Without a cookie, with the cookie and a wrong token, and from elsewhere with both.
        let page = stranger.post(path, fields).await;
        refused(path, &page);
        let mut wrong = fields.clone();
        wrong.push(("form", "0123456789abcdef"));
        refused(path, &browser.post(path, &wrong).await);
        refused(path, &browser.post(path, fields).await);
        let mut right = fields.clone();
        right.push(("form", &token));
        refused(path, &browser.post_from_elsewhere(path, &right).await);
    }
    let theme: &mut Browser = &mut browser;
    let page = theme
        .post_from_elsewhere("/theme", &[("back", "/sign-in")])
        .await;
    refused("/theme", &page);
    let (path, fields) = &forms[1];
    let done = browser.submit(path, fields).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.body);
}
