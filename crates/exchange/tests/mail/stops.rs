//! What people send to our number: STOP, START, HELP, and what nobody reads; and who signed it.

use exchange::Told;
use serde_json::json;

use crate::provider::{BASE, OLD_TOKEN, Provider, owned};
use crate::texts::{NUMBER, comes_to, mobile};
use crate::world::{TENANT, World};

/// A STOP is the telephone's: whoever's record it is in, however it is written there, and whatever is written there
/// later.
#[tokio::test]
async fn stop_is_of_the_telephone_and_start_takes_it_off() {
    let mut world = World::new().await;
    let provider = Provider::start().await;
    let door = world.door(&provider.options());
    let sms = |value: &str| json!([{ "system": "sms", "value": value }]);
    let forms = [
        "+16175550142",
        "617-555-0142",
        "(617) 555-0142",
        "1.617.555.0142",
        "+1/617/5550142",
    ];
    let mut theirs = Vec::new();
    for form in forms {
        theirs.push(world.patient(&[("telecom", sms(form))]).await);
        theirs.push(world.patient(&mobile(form)).await);
    }
    // The same last digits in another place.
    let other = world.patient(&[("telecom", sms("+12125550142"))]).await;
    let before = world.record(&theirs[0]).await;
    let stopped = provider.bring(&door, NUMBER, " STOP. ").await;
    assert_eq!(
        stopped.as_deref(),
        Some("You will get no more text messages from us. Send START to get them again.")
    );
    for patient in &theirs {
        assert_eq!(comes_to(&world, &provider, patient).await, "preference");
    }
    assert_eq!(comes_to(&world, &provider, &other).await, "in-progress");
    // No record was touched, and none that is written anew takes it off.
    assert_eq!(world.record(&theirs[0]).await, before);
    world.put(&theirs[0], before).await;
    assert_eq!(comes_to(&world, &provider, &theirs[0]).await, "preference");
    // Nor does somebody who comes later with the same telephone.
    let later = world.patient(&mobile("+1 617 555 0142")).await;
    assert_eq!(comes_to(&world, &provider, &later).await, "preference");
    // It is kept, behind other keys too.
    let ledger = world.trust.vault().ledger().clone();
    let rotated = ledger.rotate_tenant_keys(TENANT, &|_| {}).await;
    rotated.expect("other keys");
    let rotated = ledger.rotate_token_keys(TENANT, &|_| {}).await;
    rotated.expect("other keys of tokens");
    world = world.reopen().await;
    assert_eq!(comes_to(&world, &provider, &later).await, "preference");
    let door = world.door(&provider.options());
    // Said again, nothing is written.
    let number = trust::sms::Number::parse(NUMBER, None).expect("a number");
    let is_stopped = world.trust.vault().is_stopped(TENANT, &number).await;
    assert!(is_stopped.expect("known"));
    provider.bring(&door, NUMBER, "unsubscribe").await;
    let started = provider.bring(&door, NUMBER, "start").await;
    assert!(started.is_some_and(|reply| reply.contains("STOP")));
    for patient in [&theirs[0], &theirs[1], &later] {
        assert_eq!(comes_to(&world, &provider, patient).await, "in-progress");
    }
    // And off and on again: what was taken off can be said anew.
    provider.bring(&door, NUMBER, "STOP").await;
    assert_eq!(comes_to(&world, &provider, &later).await, "preference");
}

/// Of one's several numbers, another than the one that sent STOP is used.
#[tokio::test]
async fn another_number_of_the_patient_is_used_after_a_stop() {
    let world = World::new().await;
    let provider = Provider::start().await;
    let door = world.door(&provider.options());
    let two = json!([
        { "system": "sms", "value": NUMBER, "rank": 1 },
        { "system": "sms", "value": "+16175550143", "rank": 2 }
    ]);
    let patient = world.patient(&[("telecom", two)]).await;
    provider.bring(&door, NUMBER, "STOP").await;
    assert_eq!(comes_to(&world, &provider, &patient).await, "in-progress");
    assert_eq!(provider.taken()[0]["To"], "+16175550143");
}

/// The audit tells which STOP was taken off by which START, and nothing of the number.
#[tokio::test]
async fn the_audit_tells_stops_apart_without_their_numbers() {
    let world = World::new().await;
    let provider = Provider::start().await;
    let door = world.door(&provider.options());
    let other = "+16175550143";
    for (from, text) in [(NUMBER, "STOP"), (other, "STOP"), (NUMBER, "START")] {
        provider.bring(&door, from, text).await;
    }
    let notes = crate::notices::notes(&world).await;
    let mut stops = notes.iter().filter(|note| note.contains("by text message"));
    let mut next = || {
        stops
            .next()
            .expect("a note")
            .split_once(" by ")
            .expect("words")
    };
    let (started, second, first) = (next(), next(), next());
    assert_eq!((started.0, second.0, first.0), ("START", "STOP", "STOP"));
    assert_eq!(started.1, first.1);
    assert_ne!(second.1, first.1);
    for digits in ["5550142", "5550143"] {
        assert!(!notes.iter().any(|note| note.contains(digits)), "{notes:?}");
    }
}

/// What the provider has answered by itself is done and not answered again; what else it says, the text itself tells.
#[tokio::test]
async fn what_the_provider_took_a_text_for_is_believed() {
    let world = World::new().await;
    let provider = Provider::start().await;
    let door = world.door(&provider.options());
    let number = trust::sms::Number::parse(NUMBER, None).expect("a number");
    let is_stopped = async || {
        let found = world.trust.vault().is_stopped(TENANT, &number).await;
        found.expect("known")
    };
    for (text, said, stopped, answered) in [
        ("No more of this", "STOP", true, false),
        ("Hello", "HELP", true, false),
        ("Again please", "START", false, false),
        ("stop", "MUTE", true, true),
        ("start", "CANCEL", false, true),
    ] {
        let more = [("OptOutType", said)];
        let reply = provider.bring_with(&door, NUMBER, text, &more).await;
        assert_eq!(reply.is_some(), answered, "{text} {said}");
        assert_eq!(is_stopped().await, stopped, "{text} {said}");
    }
    // A long text is read as far as words go, and no further.
    let long = format!("STOP {}", "please ".repeat(10_000));
    provider.bring(&door, NUMBER, &long).await;
    assert!(is_stopped().await);
}

/// A machine that answers our answers is not answered for ever.
#[tokio::test]
async fn one_number_gets_a_few_answers_in_an_hour() {
    let world = World::new().await;
    let provider = Provider::start().await;
    let door = world.door(&provider.options());
    let mut answered = 0;
    for _ in 0..20 {
        let reply = provider.bring(&door, NUMBER, "I am out of office").await;
        answered += usize::from(reply.is_some());
    }
    assert_eq!(answered, 5);
    assert!(
        provider
            .bring(&door, "+12125550199", "hello")
            .await
            .is_some()
    );
    // It is done, answered or not.
    provider.bring(&door, NUMBER, "STOP").await;
    let number = trust::sms::Number::parse(NUMBER, None).expect("a number");
    let is_stopped = world.trust.vault().is_stopped(TENANT, &number).await;
    assert!(is_stopped.expect("known"));
}

/// Providers sign the address with its port or without, and while a token changes, some with the one before.
#[tokio::test]
async fn what_is_signed_in_another_way_is_known() {
    let world = World::new().await;
    let provider = Provider::start().await;
    let door = world.door(&provider.options());
    let path = exchange::SMS_HEARD_PATH;
    let form = [("From", NUMBER), ("Body", "hello")];
    let good = "a-token-of-the-tests";
    for (url, token, known) in [
        (format!("{BASE}{path}"), good, true),
        (format!("{BASE}:443{path}"), good, true),
        (format!("{BASE}{path}#rc=5&rp=all"), good, true),
        (format!("{BASE}{path}"), OLD_TOKEN, true),
        (format!("{BASE}:443{path}"), OLD_TOKEN, true),
        (format!("{BASE}:8443{path}"), good, false),
        (format!("http://care.example{path}"), good, false),
        (format!("{BASE}{path}#rc=1"), good, false),
        (format!("{BASE}{path}"), "another-token", false),
        (format!("{BASE}{path}"), "", false),
    ] {
        let signature = provider.sign_as(&url, &form, token).await;
        let members = owned(&form);
        let told = Told {
            path,
            members: &members,
            signature: Some(&signature),
            request_id: "test",
        };
        let heard = door.heard(&told).await;
        assert_eq!(heard.is_ok(), known, "{url} {token}: {heard:?}");
    }
}

#[tokio::test]
async fn everybody_is_told_the_same_and_nothing_is_kept() {
    let world = World::new().await;
    let provider = Provider::start().await;
    let door = world.door(&provider.options());
    let patient = world.patient(&mobile(NUMBER)).await;
    let before = world.record(&patient).await;
    let help = Some("Nobody reads this number.".to_owned());
    for from in [NUMBER, "+12125550199"] {
        for text in ["HELP", "info", "I have pain in my chest", "yes"] {
            assert_eq!(
                provider.bring(&door, from, text).await,
                help,
                "{from} {text}"
            );
        }
    }
    // Who has no patient with the number is told the same as who has.
    let nobody = provider.bring(&door, "+12125550199", "STOP").await;
    assert!(nobody.is_some());
    // A short code or a name is a machine; it gets no answer that it could answer.
    for from in ["12345", "BANK"] {
        assert_eq!(provider.bring(&door, from, "STOP").await, None, "{from}");
    }
    assert_eq!(world.record(&patient).await, before);
}
