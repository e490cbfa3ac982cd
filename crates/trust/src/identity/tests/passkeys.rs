//! Passkeys, honest and hostile, and a second factor that is asked for again.
use serde_json::{Value, json};

use super::authenticator::{Authenticator, BACKED_UP, ELIGIBLE, Key, UP, UV};
use super::*;
use crate::identity::passkeys::QUESTION_LIFE_MS;

const ORIGIN: &str = "https://care.example";
const BROWSER: &str = "a secret of this browser";

fn party() -> RelyingParty {
    RelyingParty::of(ORIGIN, "St. Cairn's").unwrap()
}

/// Somebody of staff who is signed in, with an authenticator that holds a passkey of theirs.
struct Person {
    session: Session,
    totp: String,
    device: Authenticator,
}

async fn add(
    house: &House,
    session: &Session,
    device: &mut Authenticator,
) -> Result<(), TrustError> {
    let identity = house.trust.identity();
    let asked = identity.ask_for_new_passkey(&party(), session).await?;
    let answer = device.make(&asked.options);
    identity
        .add_passkey(&party(), session, &asked.sealed, &answer, "Phone")
        .await
}

async fn person(house: &House, user_name: &str) -> Person {
    let totp = enrolled(house, user_name, Role::Clinician).await;
    let (_, session) = signed_in(house, user_name, &totp).await;
    let mut device = Authenticator::at(ORIGIN);
    add(house, &session, &mut device).await.unwrap();
    Person {
        session,
        totp,
        device,
    }
}

fn ask(house: &House) -> PasskeyQuestion {
    let identity = house.trust.identity();
    identity.ask_for_passkey(&party(), TENANT, BROWSER).unwrap()
}

async fn enter(house: &House, asked: &PasskeyQuestion, answer: &str) -> Result<SignIn, TrustError> {
    let identity = house.trust.identity();
    identity
        .passkey(&party(), TENANT, BROWSER, &asked.sealed, answer)
        .await
}

async fn last_note(house: &House) -> String {
    let events = house.audit_events(TENANT).await;
    events[0]
        .text_at(&["outcomeDesc"])
        .unwrap_or_default()
        .to_owned()
}

#[track_caller]
fn said(result: Result<(), TrustError>, words: &str) {
    match result {
        Err(TrustError::Invalid(said)) => assert!(said.contains(words), "{said}"),
        other => panic!("{other:?} instead of {words:?}"),
    }
}

// Proves: 45 CFR 164.312(d)
#[tokio::test]
async fn a_passkey_signs_in_alone_whatever_its_algorithm() {
    let house = House::new().await;
    let mut devi = person(&house, "devi").await;
    for algorithm in [-7, -8, -257] {
        devi.device.algorithm = algorithm;
        add(&house, &devi.session, &mut devi.device).await.unwrap();
        let asked = ask(&house);
        let answer = devi.device.show(&asked.options);
        let (cookie, session) = done(enter(&house, &asked, &answer).await.unwrap());
        assert_eq!(session.agent.id, devi.session.agent.id);
        assert_eq!(session.agent.role, Role::Clinician);
        house.trust.identity().session(&cookie).await.unwrap();
        assert_eq!(last_note(&house).await, "signed in with a passkey");
    }
    let identity = house.trust.identity();
    let (passkeys, code) = identity.own_factors(&devi.session).await.unwrap();
    assert!(code && passkeys.len() == 4);
    assert_eq!(passkeys[0].used_ms, Some(house.wall_ms()));
    assert_eq!(passkeys[3].used_ms, None, "the first was never shown");
}

#[tokio::test]
async fn any_server_takes_the_answer() {
    let house = House::new().await;
    let mut devi = person(&house, "devi").await;
    let asked = ask(&house);
    let answer = devi.device.show(&asked.options);
    // Nothing of the question is in memory or in the store.
    let other = House::trust_over(house.ledger().clone(), &house.wall);
    let entered = other
        .identity()
        .passkey(&party(), TENANT, BROWSER, &asked.sealed, &answer)
        .await;
    done(entered.unwrap());
    // And what one took the other doesn't take.
    no(enter(&house, &asked, &answer).await);
}

// Proves: 45 CFR 164.312(d)
#[tokio::test]
async fn what_is_not_as_it_was_asked_opens_nothing() {
    let house = House::new().await;
    let mut devi = person(&house, "devi").await;
    let mut carla = person(&house, "carla").await;
    type Change = fn(&mut Authenticator);
    let cases: [(&str, Change); 10] = [
        ("used at another origin", |device| {
            device.origin = "https://care.example.evil.example".to_owned();
        }),
        ("used at another origin", |device| {
            device.origin = "https://care.example:8443".to_owned();
        }),
        ("made for another server", |device| {
            device.party = Some("example".to_owned());
        }),
        ("an answer to another challenge", |device| {
            device.challenge = Some("AAAA".to_owned());
        }),
        ("the person was not verified", |device| device.flags = UP),
        ("nobody was there", |device| device.flags = UV),
        ("in a frame of another site", |device| {
            device.also = json!({ "crossOrigin": true });
        }),
        ("in a frame of another site", |device| {
            device.also = json!({ "topOrigin": "https://evil.example" });
        }),
        ("what is said about copies", |device| {
            device.flags = UP | UV | ELIGIBLE | BACKED_UP;
        }),
        ("another person's", |device| device.says_handle = false),
    ];
    let honest = |device: &mut Authenticator| {
        let held = std::mem::take(&mut device.held);
        let counter = device.counter;
        *device = Authenticator {
            held,
            counter,
            ..Authenticator::at(ORIGIN)
        };
    };
    for (words, change) in cases {
        let asked = ask(&house);
        change(&mut devi.device);
        let answer = devi.device.show(&asked.options);
        no(enter(&house, &asked, &answer).await);
        let note = last_note(&house).await;
        assert!(note.contains(words), "{note} instead of {words}");
        honest(&mut devi.device);
        // Failures are forgiven by a success, so that no lock-out comes in between.
        let answer = devi.device.show(&asked.options);
        done(enter(&house, &asked, &answer).await.unwrap());
    }

    let asked = ask(&house);
    let mut tampered: Vec<(&str, String)> = Vec::new();
    let whole = devi.device.show(&asked.options);
    let change = |name: &str, value: Value| {
        let mut answer: Value = serde_json::from_str(&whole).unwrap();
        answer[name] = value;
        answer.to_string()
    };
    // Somebody else's user handle, somebody else's credential, and a signature by another key.
    tampered.push((
        "another person's",
        change("userHandle", json!(carla.device.held[0].handle)),
    ));
    tampered.push((
        "another person's",
        change("id", json!(carla.device.held[0].id)),
    ));
    tampered.push(("signature wrong", change("signature", json!("AAAA"))));
    let swapped = std::mem::replace(&mut devi.device.held[0].key, Key::new(-7));
    tampered.push(("signature wrong", devi.device.show(&asked.options)));
    devi.device.held[0].key = swapped;
    for (words, answer) in &tampered {
        no(enter(&house, &asked, answer).await);
        let note = last_note(&house).await;
        assert!(note.contains(words), "{note} instead of {words}");
    }
    for unread in ["", "{}", "null", "[1]", &"x".repeat(100_000)] {
        no(enter(&house, &asked, unread).await);
        assert_eq!(last_note(&house).await, "a passkey that nobody has");
    }
    // An answer to a question about a new passkey answers no other.
    let identity = house.trust.identity();
    let new = identity
        .ask_for_new_passkey(&party(), &devi.session)
        .await
        .unwrap();
    let challenge = serde_json::from_str::<Value>(&new.options).unwrap()["challenge"].clone();
    carla.device.challenge = challenge.as_str().map(str::to_owned);
    let answer = carla.device.show(&asked.options);
    no(enter(&house, &new, &answer).await);
}

// Proves: 45 CFR 164.312(d)
#[tokio::test]
async fn a_question_is_for_one_browser_one_server_once_and_for_a_while() {
    let house = House::new().await;
    let mut devi = person(&house, "devi").await;
    let identity = house.trust.identity();
    let asked = ask(&house);
    let answer = devi.device.show(&asked.options);
    let elsewhere = identity
        .passkey(&party(), TENANT, "another browser", &asked.sealed, &answer)
        .await;
    no(elsewhere);
    let other_name = RelyingParty::of("https://other.example", "").unwrap();
    no(identity
        .passkey(&other_name, TENANT, BROWSER, &asked.sealed, &answer)
        .await);
    no(identity
        .passkey(&party(), OTHER, BROWSER, &asked.sealed, &answer)
        .await);
    let mut changed = asked.clone();
    changed.sealed.replace_range(30..32, "AA");
    no(enter(&house, &changed, &answer).await);
    done(enter(&house, &asked, &answer).await.unwrap());
    // The same answer again: by its challenge, not only by its count.
    no(enter(&house, &asked, &answer).await);
    let note = last_note(&house).await;
    assert!(note.contains("an answer that was used already"), "{note}");
    let late = ask(&house);
    let answer = devi.device.show(&late.options);
    house.wall.advance(QUESTION_LIFE_MS);
    no(enter(&house, &late, &answer).await);

    // A device that doesn't count is held to the challenge alone.
    let mut plain = Authenticator::at(ORIGIN);
    plain.counter = 0;
    add(&house, &devi.session, &mut plain).await.unwrap();
    for _ in 0..2 {
        let asked = ask(&house);
        let answer = plain.show(&asked.options);
        done(enter(&house, &asked, &answer).await.unwrap());
        no(enter(&house, &asked, &answer).await);
    }
    // Of two that come at once, one opens a session.
    let asked = ask(&house);
    let answer = plain.show(&asked.options);
    let (left, right) = tokio::join!(
        enter(&house, &asked, &answer),
        enter(&house, &asked, &answer)
    );
    assert!(left.is_ok() != right.is_ok());
    // What is kept of challenges goes.
    house.wall.advance(2 * 86_400_000);
    assert!(identity.sweep(TENANT).await.unwrap() > 0);
}

#[tokio::test]
async fn a_copy_shows_by_its_count() {
    let house = House::new().await;
    let mut devi = person(&house, "devi").await;
    for _ in 0..3 {
        let asked = ask(&house);
        let answer = devi.device.show(&asked.options);
        done(enter(&house, &asked, &answer).await.unwrap());
    }
    let now = devi.device.counter;
    for count in [1, now - 1, 0] {
        devi.device.counter = count;
        let asked = ask(&house);
        let answer = devi.device.show(&asked.options);
        no(enter(&house, &asked, &answer).await);
        let note = last_note(&house).await;
        assert!(note.contains("its count went back"), "{count}: {note}");
    }
    devi.device.counter = now;
    let asked = ask(&house);
    let answer = devi.device.show(&asked.options);
    done(enter(&house, &asked, &answer).await.unwrap());
}

#[tokio::test]
async fn what_is_said_of_copies_is_kept() {
    let house = House::new().await;
    let mut devi = person(&house, "devi").await;
    let identity = house.trust.identity();
    devi.device.flags = UP | UV | ELIGIBLE;
    add(&house, &devi.session, &mut devi.device).await.unwrap();
    let backed_up = async || {
        let (passkeys, _) = identity.own_factors(&devi.session).await.unwrap();
        passkeys[0].backed_up
    };
    assert!(!backed_up().await);
    let asked = ask(&house);
    devi.device.flags |= BACKED_UP;
    let answer = devi.device.show(&asked.options);
    done(enter(&house, &asked, &answer).await.unwrap());
    assert!(backed_up().await);
    // What could be copied can't turn into what can't.
    devi.device.flags = UP | UV;
    let asked = ask(&house);
    let answer = devi.device.show(&asked.options);
    no(enter(&house, &asked, &answer).await);
}

// Proves: 45 CFR 164.312(d)
#[tokio::test]
async fn failures_lock_out_and_a_closed_account_is_closed() {
    let house = House::new().await;
    let mut devi = person(&house, "devi").await;
    let identity = house.trust.identity();
    devi.device.flags = UP;
    for _ in 0..5 {
        let asked = ask(&house);
        let answer = devi.device.show(&asked.options);
        no(enter(&house, &asked, &answer).await);
    }
    devi.device.flags = UP | UV;
    let asked = ask(&house);
    let answer = devi.device.show(&asked.options);
    let locked = enter(&house, &asked, &answer).await;
    assert!(matches!(locked, Err(TrustError::LockedOut { .. })));
    // One count for all ways in.
    let locked = identity.password(TENANT, "devi", PASSWORD).await;
    assert!(matches!(locked, Err(TrustError::LockedOut { .. })));
    house.wall.advance(30_000);
    done(enter(&house, &asked, &answer).await.unwrap());

    let account = devi.session.agent.id.clone();
    let permit = house
        .permit(
            &staff(Role::Administrator),
            Purpose::Administration,
            Action::Administer,
        )
        .await
        .unwrap();
    identity.set_active(&permit, &account, false).await.unwrap();
    let asked = ask(&house);
    let answer = devi.device.show(&asked.options);
    no(enter(&house, &asked, &answer).await);
    let note = last_note(&house).await;
    assert!(note.contains("tried on a closed account"), "{note}");
    identity.set_active(&permit, &account, true).await.unwrap();
    let answer = devi.device.show(&asked.options);
    done(enter(&house, &asked, &answer).await.unwrap());
    // An administrator's reset takes passkeys, too.
    identity
        .reset_second_factor(&permit, &account, "lost everything")
        .await
        .unwrap();
    let asked = ask(&house);
    let answer = devi.device.show(&asked.options);
    no(enter(&house, &asked, &answer).await);
    let step = identity.password(TENANT, "devi", PASSWORD).await.unwrap();
    assert!(matches!(step, SignIn::EnrolTotp { .. }), "{step:?}");
}

#[tokio::test]
async fn a_passkey_follows_a_password() {
    let house = House::new().await;
    let mut devi = person(&house, "devi").await;
    let mut carla = person(&house, "carla").await;
    let identity = house.trust.identity();
    let factors = async |ticket: &str| {
        identity
            .second_factors(Some(&party()), ticket, BROWSER)
            .await
    };
    let finish = async |ticket: &str, asked: &PasskeyQuestion, answer: &str| {
        identity
            .second_factor_passkey(&party(), ticket, BROWSER, &asked.sealed, answer)
            .await
    };
    let one = ticket(&house, "devi").await;
    let found = factors(&one).await.unwrap();
    assert!(found.code);
    let asked = found.passkey.unwrap();
    // Somebody else's passkey, asked for or not.
    let other = carla.device.held[0].id.clone();
    let answer = carla.device.show_this(&asked.options, &other);
    no(finish(&one, &asked, &answer).await);
    assert!(last_note(&house).await.contains("another person's"));
    // The question of one sign-in doesn't serve to sign in alone, nor another account's.
    let answer = devi.device.show(&asked.options);
    no(enter(&house, &asked, &answer).await);
    let others = ticket(&house, "carla").await;
    no(finish(&others, &asked, &answer).await);
    done(finish(&one, &asked, &answer).await.unwrap());
    assert_eq!(
        last_note(&house).await,
        "signed in with password and passkey"
    );
    // A ticket works once, whichever factor comes.
    let answer = devi.device.show(&asked.options);
    no(finish(&one, &asked, &answer).await);
    no(factors(&one).await);
    let late = ticket(&house, "devi").await;
    let asked = factors(&late).await.unwrap().passkey.unwrap();
    house.wall.advance(300_000);
    let answer = devi.device.show(&asked.options);
    no(finish(&late, &asked, &answer).await);
    no(factors("nonsense").await);

    // With a passkey alone the password leads to it, and to no new authenticator app.
    identity.remove_own_code(&devi.session).await.unwrap();
    let last = ticket(&house, "devi").await;
    let found = factors(&last).await.unwrap();
    assert!(!found.code);
    no(identity.second_factor(&last, "000000").await);
    let asked = found.passkey.unwrap();
    let answer = devi.device.show(&asked.options);
    done(finish(&last, &asked, &answer).await.unwrap());
}

/// A server of before passkeys, which runs beside this one for a while, writes accounts without their number.
#[tokio::test]
async fn a_server_that_knows_no_passkeys_takes_none_away() {
    let house = House::new().await;
    let devi = person(&house, "devi").await;
    let identity = house.trust.identity();
    identity.remove_own_code(&devi.session).await.unwrap();
    let id = &devi.session.agent.id;
    let mut kept = identity.account(TENANT, id).await.unwrap().unwrap();
    kept.body.passkeys = 0;
    let expected = Expected::Version(kept.version);
    let draft = identity
        .account_draft(TENANT, id, expected, &kept.body)
        .unwrap();
    let by = demo();
    let record = Record::new(&by, Event::ACCOUNT_CHANGED);
    identity.commit(TENANT, vec![draft], record).await.unwrap();
    // The password still leads to the passkey, and to no new authenticator app.
    let ticket = ticket(&house, "devi").await;
    let found = identity
        .second_factors(Some(&party()), &ticket, BROWSER)
        .await
        .unwrap();
    assert!(!found.code && found.passkey.is_some());
    let only = identity.own_factors(&devi.session).await.unwrap().0;
    said(
        identity.remove_passkey(&devi.session, &only[0].id).await,
        "only second factor",
    );
}

#[tokio::test]
async fn a_passkey_is_added_by_who_was_asked_and_as_it_was_asked() {
    let house = House::new().await;
    let devi = person(&house, "devi").await;
    let carla = person(&house, "carla").await;
    let identity = house.trust.identity();
    let before = house.audits(TENANT).await;
    let asked = identity
        .ask_for_new_passkey(&party(), &devi.session)
        .await
        .unwrap();
    let give = async |session: &Session, answer: &str, name: &str| {
        identity
            .add_passkey(&party(), session, &asked.sealed, answer, name)
            .await
    };
    let mut device = Authenticator::at(ORIGIN);
    let answer = device.make(&asked.options);
    said(give(&carla.session, &answer, "x").await, "came too late");
    said(give(&devi.session, &answer, " ").await, "has a name");
    said(
        give(&devi.session, &answer, &"x".repeat(65)).await,
        "has a name",
    );
    device.flags = UP;
    let unverified = device.make(&asked.options);
    said(
        give(&devi.session, &unverified, "x").await,
        "can't be taken",
    );
    device.flags = UP | UV;
    device.origin = "https://evil.example".to_owned();
    let elsewhere = device.make(&asked.options);
    said(give(&devi.session, &elsewhere, "x").await, "can't be taken");
    for (name, value) in [
        ("publicKey", json!("AAAA")),
        ("algorithm", json!(-36)),
        ("algorithm", json!(-257)),
        ("id", json!("AAAA")),
        ("attestationObject", json!("AAAA")),
    ] {
        let mut changed: Value = serde_json::from_str(&answer).unwrap();
        changed[name] = value;
        said(
            give(&devi.session, &changed.to_string(), "x").await,
            "can't be taken",
        );
    }
    assert_eq!(house.audits(TENANT).await, before + 7, "each try is seen");
    give(&devi.session, &answer, "Key").await.unwrap();
    // The same passkey can't be anybody else's.
    said(give(&devi.session, &answer, "Key").await, "is, or was");
    let asked = identity
        .ask_for_new_passkey(&party(), &devi.session)
        .await
        .unwrap();
    let excluded = serde_json::from_str::<Value>(&asked.options).unwrap()["exclude"].clone();
    assert_eq!(excluded.as_array().unwrap().len(), 2);
    // Patients have no second factor, and there is a bound.
    house.put([a_patient("p", "Berg")]).await;
    let link = identity.make_link(&demo(), "p", 60, false).await.unwrap();
    let (_, of_patient) = done(
        identity
            .use_link(TENANT, &link, "1950-02-03")
            .await
            .unwrap(),
    );
    let asked = identity.ask_for_new_passkey(&party(), &of_patient).await;
    said(asked.map(|_| ()), "for accounts of staff");
    for _ in 0..8 {
        let mut device = Authenticator::at(ORIGIN);
        add(&house, &devi.session, &mut device).await.unwrap();
    }
    let mut device = Authenticator::at(ORIGIN);
    said(
        add(&house, &devi.session, &mut device).await,
        "ten passkeys already",
    );
}

#[tokio::test]
async fn the_last_second_factor_stays() {
    let house = House::new().await;
    let mut devi = person(&house, "devi").await;
    let carla = person(&house, "carla").await;
    let identity = house.trust.identity();
    let own = async |session: &Session| identity.own_factors(session).await.unwrap().0;
    let first = own(&devi.session).await[0].id.clone();
    said(
        identity.remove_passkey(&carla.session, &first).await,
        "no such passkey",
    );
    identity.remove_own_code(&devi.session).await.unwrap();
    said(
        identity.remove_own_code(&devi.session).await,
        "no authenticator app",
    );
    said(
        identity.remove_passkey(&devi.session, &first).await,
        "only second factor",
    );
    let mut other = Authenticator::at(ORIGIN);
    add(&house, &devi.session, &mut other).await.unwrap();
    // Of two that are removed at once one stays.
    let second = own(&devi.session).await[0].id.clone();
    let (left, right) = tokio::join!(
        identity.remove_passkey(&devi.session, &first),
        identity.remove_passkey(&devi.session, &second)
    );
    assert!(left.is_ok() != right.is_ok(), "{left:?} {right:?}");
    assert_eq!(own(&devi.session).await.len(), 1);
    let gone = if left.is_ok() {
        &mut devi.device
    } else {
        &mut other
    };
    let asked = ask(&house);
    let answer = gone.show(&asked.options);
    no(enter(&house, &asked, &answer).await);

    // An authenticator app is set up by its first code, in the same session and in time.
    let app = identity.ask_for_own_code(&devi.session).await.unwrap();
    let set = async |session: &Session, code: &str| {
        identity.set_own_code(session, &app.sealed, code).await
    };
    let code = code(&house, &app.secret);
    said(set(&carla.session, &code).await, "too late");
    let wrong = if code == "000000" { "000001" } else { "000000" };
    said(set(&devi.session, wrong).await, "does not fit");
    set(&devi.session, &code).await.unwrap();
    let last = own(&devi.session).await[0].id.clone();
    identity.remove_passkey(&devi.session, &last).await.unwrap();
    said(
        identity.remove_own_code(&devi.session).await,
        "only second factor",
    );
    house.wall.advance(30_000);
    signed_in(&house, "devi", &app.secret).await;
    house.wall.advance(QUESTION_LIFE_MS);
    said(set(&devi.session, &code).await, "too late");
}

#[tokio::test]
async fn one_s_own_sessions_are_seen_and_ended() {
    let house = House::new().await;
    let mut devi = person(&house, "devi").await;
    let carla = person(&house, "carla").await;
    let identity = house.trust.identity();
    let asked = ask(&house);
    let answer = devi.device.show(&asked.options);
    house.wall.advance(1_000);
    let (cookie, other) = done(enter(&house, &asked, &answer).await.unwrap());
    identity.session(&cookie).await.unwrap();
    let rows = identity.own_sessions(&devi.session).await.unwrap();
    let seen: Vec<_> = rows.iter().map(|row| (row.id.as_str(), row.this)).collect();
    assert_eq!(
        seen,
        [(other.id.as_str(), false), (devi.session.id.as_str(), true)]
    );
    said(
        identity.end_own_session(&carla.session, &other.id).await,
        "no such session",
    );
    identity.session(&cookie).await.unwrap();
    identity
        .end_own_session(&devi.session, &other.id)
        .await
        .unwrap();
    no(identity.session(&cookie).await);
    assert_eq!(identity.own_sessions(&devi.session).await.unwrap().len(), 1);
}

// Proves: 45 CFR 164.312(d)
#[tokio::test]
async fn a_second_factor_is_asked_for_again() {
    let house = House::new().await;
    let mut devi = person(&house, "devi").await;
    let mut carla = person(&house, "carla").await;
    let identity = house.trust.identity();
    let fresh = async || identity.is_stepped_up(&devi.session).await.unwrap();
    let by_code = async |password: &str, code: &str| {
        let shown = StepUp::Code { password, code };
        identity.step_up(&devi.session, shown).await
    };
    assert!(fresh().await);
    house.wall.advance(STEP_UP_S * 1000 - 1);
    assert!(fresh().await);
    house.wall.advance(1);
    assert!(!fresh().await);
    let now = code(&house, &devi.totp);
    no(by_code("wrong-password", &now).await);
    no(by_code(PASSWORD, "000000x").await);
    assert!(!fresh().await);
    by_code(PASSWORD, &now).await.unwrap();
    assert_eq!(last_note(&house).await, "confirmed with password and code");
    assert!(fresh().await);
    // Another server sees it, too, and a code works once.
    let other = House::trust_over(house.ledger().clone(), &house.wall);
    assert!(other.identity().is_stepped_up(&devi.session).await.unwrap());
    no(by_code(PASSWORD, &now).await);

    house.wall.advance(STEP_UP_S * 1000);
    assert!(!fresh().await);
    let ways = identity
        .step_up_ways(Some(&party()), &devi.session)
        .await
        .unwrap();
    assert!(ways.password && ways.code);
    let asked = ways.passkey.unwrap();
    let party = party();
    let by_passkey = async |session: &Session, answer: &str| {
        let shown = StepUp::Passkey {
            party: &party,
            sealed: &asked.sealed,
            answer,
        };
        identity.step_up(session, shown).await
    };
    let others = carla.device.held[0].id.clone();
    let answer = carla.device.show_this(&asked.options, &others);
    no(by_passkey(&devi.session, &answer).await);
    let answer = devi.device.show(&asked.options);
    no(by_passkey(&carla.session, &answer).await);
    assert!(!fresh().await);
    by_passkey(&devi.session, &answer).await.unwrap();
    assert!(fresh().await);
    no(by_passkey(&devi.session, &answer).await);

    // Zero asks each time, failures count, and who was signed out has nothing to confirm.
    identity.limit_factor_age(0);
    assert!(!fresh().await);
    identity.limit_factor_age(60);
    assert!(fresh().await);
    for _ in 0..5 {
        let _ = by_code("wrong-password", "000000").await;
    }
    let locked = by_code(PASSWORD, "000000").await;
    assert!(matches!(locked, Err(TrustError::LockedOut { .. })));
    identity
        .end_own_session(&devi.session, &devi.session.id)
        .await
        .unwrap();
    no(identity.is_stepped_up(&devi.session).await);
}

/// Somebody holds a session that was confirmed lately, while an administrator takes the factors away.
// Proves: 45 CFR 164.308(a)(3)(ii)(C)
#[tokio::test]
async fn no_factor_survives_a_reset_that_it_was_added_beside() {
    let house = House::new().await;
    let thief = person(&house, "devi").await;
    let identity = house.trust.identity();
    let party = party();
    let account = thief.session.agent.id.clone();
    let permit = house
        .permit(
            &staff(Role::Administrator),
            Purpose::Administration,
            Action::Administer,
        )
        .await
        .unwrap();
    // The form came in before the reset, and is worked on after it.
    let mut device = Authenticator::at(ORIGIN);
    let session = thief.session.clone();
    let asked = identity.ask_for_new_passkey(&party, &session).await;
    let asked = asked.unwrap();
    let answer = device.make(&asked.options);
    let new_code = identity.ask_for_own_code(&session).await.unwrap();
    let reset = identity.reset_second_factor(&permit, &account, "stolen");
    reset.await.unwrap();
    let added = identity.add_passkey(&party, &session, &asked.sealed, &answer, "Mine");
    no(added.await);
    let code = code(&house, &new_code.secret);
    no(identity
        .set_own_code(&session, &new_code.sealed, &code)
        .await);
    let step = identity.password(TENANT, "devi", PASSWORD).await.unwrap();
    assert!(matches!(step, SignIn::EnrolTotp { .. }), "{step:?}");

    // And at the same moment, whoever is faster.
    for round in 0..8 {
        let name = format!("carla{round}");
        let person = person(&house, &name).await;
        let (session, account) = (&person.session, &person.session.agent.id);
        let asked = identity.ask_for_new_passkey(&party, session).await;
        let asked = asked.unwrap();
        let mut device = Authenticator::at(ORIGIN);
        let answer = device.make(&asked.options);
        let adding = identity.add_passkey(&party, session, &asked.sealed, &answer, "Mine");
        let resetting = identity.reset_second_factor(&permit, account, "stolen");
        let (_, reset) = tokio::join!(adding, resetting);
        reset.unwrap();
        let asked = ask(&house);
        let answer = device.show(&asked.options);
        assert!(enter(&house, &asked, &answer).await.is_err(), "{name}");
        let step = identity.password(TENANT, &name, PASSWORD).await.unwrap();
        assert!(matches!(step, SignIn::EnrolTotp { .. }), "{step:?}");
    }
}

// Proves: 45 CFR 164.308(a)(5)(ii)(C)
#[tokio::test]
async fn a_passkey_that_nobody_has_has_as_few_tries() {
    let house = House::new().await;
    let mut devi = person(&house, "devi").await;
    let asked = ask(&house);
    let shown = devi.device.show(&asked.options);
    let mut nobodys: Value = serde_json::from_str(&shown).unwrap();
    nobodys["id"] = "bm9ib2R5LWhhcy10aGlzLXBhc3NrZXk".into();
    let nobodys = nobodys.to_string();
    for failure in 1..=5 {
        no(enter(&house, &asked, &nobodys).await);
        let words = format!("a passkey that nobody has (no such account), failure {failure}");
        assert_eq!(last_note(&house).await, words);
    }
    let locked = enter(&house, &asked, &nobodys).await;
    assert!(
        matches!(locked, Err(TrustError::LockedOut { .. })),
        "{locked:?}"
    );
    // That keeps nobody else out.
    done(enter(&house, &asked, &shown).await.unwrap());
}

#[tokio::test]
async fn codes_for_who_has_none_count_and_answers_for_no_sign_in_are_recorded() {
    let house = House::new().await;
    let mut devi = person(&house, "devi").await;
    let identity = house.trust.identity();
    identity.remove_own_code(&devi.session).await.unwrap();
    let ticket = ticket(&house, "devi").await;
    no(identity.second_factor(&ticket, "123456").await);
    let note = last_note(&house).await;
    assert!(
        note.starts_with("a one-time code for an account that has none (account ")
            && note.ends_with("failure 1"),
        "{note}"
    );
    let factors = identity
        .second_factors(Some(&party()), &ticket, BROWSER)
        .await
        .unwrap();
    let asked = factors.passkey.unwrap();
    let answer = devi.device.show(&asked.options);
    let nowhere = secrets::mint(TENANT, &ledger::SystemEntropy);
    let finish = async |ticket: &str| {
        identity
            .second_factor_passkey(&party(), ticket, BROWSER, &asked.sealed, &answer)
            .await
    };
    no(finish(&nowhere).await);
    let words = "a sign-in that is unknown, or was finished or ended before";
    assert_eq!(last_note(&house).await, words);
    done(finish(&ticket).await.unwrap());
}
