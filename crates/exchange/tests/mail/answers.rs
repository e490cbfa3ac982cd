//! What could make an answer count for the wrong question, or be lost: attempts that were put off, answers that come twice,
//! words of other languages, other numbers, and what comes by a session, where nothing has a name.

use fhir::ResourceType;
use serde_json::{Value, json};
use trust::Unit;
use trust::outgoing::Message;

use crate::patience::Patience;
use crate::provider::Provider;
use crate::replies::{
    AGAIN, HELP, HOUR_MS, all, asks, bring, came, code, form, question, responses, status, yes_no,
};
use crate::smpp::{PLAIN, connected};
use crate::texts::{NUMBER, mobile};
use crate::world::{NOW_MS, World};

/// A question in a language.
fn question_in(language: &str, task: &str) -> impl FnOnce(&mut Message) + use<> {
    let (language, asks) = (language.to_owned(), question(task));
    move |message: &mut Message| {
        asks(message);
        if let Some(question) = &mut message.question {
            question.language = language;
        }
    }
}

/// Tasks for staff to read what came, as the worklist shows them.
async fn to_read(world: &World, patient: &str) -> usize {
    let tasks = all(world, patient, ResourceType::Task).await;
    let is_for_staff = |task: &&Value| {
        let of = &task["performerType"][0]["coding"][0]["code"];
        task["code"]["coding"][0]["code"] == "staff-task" && of == "coordinator"
    };
    tasks.iter().filter(is_for_staff).count()
}

/// A question that is put off has asked nothing; once it is handed over anew what comes is its answer, whatever is known of
/// attempts before.
#[tokio::test]
async fn what_is_handed_over_again_is_answered() {
    let world = World::new().await;
    let provider = Provider::start().await;
    let door = world.door(&provider.options());
    let patient = world.patient(&mobile(NUMBER)).await;
    let task = form(&world, &patient, yes_no()).await;
    let id = world.queue(&patient, question(&task)).await;
    let busy = json!({"status": 429, "code": 20429, "retry_after": 3});
    provider.next(json!([busy, {"take_and_hang": true}])).await;
    let running = world.run_texts(provider.options());
    world.wait_put_off(&patient, &id, 0).await;
    let told = bring(&provider, &door, NUMBER, ("SM1", "yes")).await;
    assert_eq!(told.as_deref(), Some(HELP));
    assert!(came(&world, &patient).await.is_empty());
    world.to_next_attempt().await;
    provider.wait_for(1).await;
    bring(&provider, &door, NUMBER, ("SM2", "yes")).await;
    assert_eq!(responses(&world, &patient).await.len(), 1);
    assert_eq!(status(&world, &patient, &task).await, "completed");
    running.kill().await;
}

/// The same of one that waited for its hour; and while it is handed over no other question leaves beside it.
#[tokio::test]
async fn what_has_waited_is_the_one_question_while_it_is_handed_over() {
    let world = World::new().await;
    let provider = Provider::start().await;
    let door = world.door(&provider.options());
    let patient = world.patient(&mobile(NUMBER)).await;
    let task = form(&world, &patient, yes_no()).await;
    let id = world.queue(&patient, question(&task)).await;
    // As it is left behind by what had to wait.
    let mut waiting = world.communication(&patient, &id).await;
    waiting["statusReason"] = json!({"text": "It waits for the end of quiet hours."});
    world.put(&patient, waiting).await;
    provider.next(json!([{"take_and_hang": true}])).await;
    let running = world.run_texts(provider.options());
    provider.wait_for(1).await;
    // It is under way, and nobody knows yet what becomes of it.
    let second = form(&world, &patient, yes_no()).await;
    let other = world.queue(&patient, question(&second)).await;
    let refused = world.wait_for(&patient, &other, "not-done").await;
    assert_eq!(code(&refused), "question-open");
    let first = world.communication(&patient, &id).await;
    assert_eq!(first["status"], "preparation", "it is still under way");
    bring(&provider, &door, NUMBER, ("SM1", "yes")).await;
    assert_eq!(responses(&world, &patient).await.len(), 1);
    assert_eq!(status(&world, &patient, &task).await, "completed");
    assert_eq!(provider.taken().len(), 1);
    running.kill().await;
}

/// A form that is open is answered, however long ago it was asked.
#[tokio::test]
async fn an_answer_to_an_open_form_counts_after_weeks() {
    let world = World::new().await;
    let provider = Provider::start().await;
    let door = world.door(&provider.options());
    let patient = world.patient(&mobile(NUMBER)).await;
    let task = form(&world, &patient, yes_no()).await;
    asks(&world, &provider, &patient, &task).await;
    world.clock.set(NOW_MS + 20 * 24 * HOUR_MS);
    let told = bring(&provider, &door, NUMBER, ("SM1", "yes")).await;
    assert_eq!(told, None);
    assert_eq!(responses(&world, &patient).await.len(), 1);
    assert_eq!(status(&world, &patient, &task).await, "completed");
}

/// A word that means yes in one language means no in another, or nothing.
#[tokio::test]
async fn words_are_of_the_language_that_was_written_in() {
    for (language, wrong, right) in [
        ("pl", ["no", "yes", "nej"], "tak"),
        ("da", ["tak", "no", "nei"], "Nej!"),
        ("en", ["hindi", "oo", "ja"], "Yes"),
        ("es-MX", ["yes", "non", "sim"], "Sí"),
    ] {
        let world = World::new().await;
        let provider = Provider::start().await;
        let door = world.door(&provider.options());
        let patient = world.patient(&mobile(NUMBER)).await;
        let task = form(&world, &patient, yes_no()).await;
        let id = world.queue(&patient, question_in(language, &task)).await;
        let running = world.run_texts(provider.options());
        world.wait_for(&patient, &id, "in-progress").await;
        running.stop().await;
        for (number, text) in wrong.iter().enumerate() {
            let name = format!("SM{number}");
            bring(&provider, &door, NUMBER, (&name, text)).await;
            assert!(
                responses(&world, &patient).await.is_empty(),
                "{language} {text}"
            );
        }
        bring(&provider, &door, NUMBER, ("SM9", right)).await;
        assert_eq!(responses(&world, &patient).await.len(), 1, "{language}");
    }
}

/// Who answers twice, or corrects themselves, does it at once: the next question waits until that is over, and what comes
/// before anybody can have read it is no answer to it.
#[tokio::test]
async fn what_is_sent_again_is_no_answer_to_the_next_question() {
    let world = World::new().await;
    let provider = Provider::start().await;
    let door = world.door(&provider.options());
    let patient = world.patient(&mobile(NUMBER)).await;
    let first = form(&world, &patient, yes_no()).await;
    let second = form(&world, &patient, yes_no()).await;
    asks(&world, &provider, &patient, &first).await;
    bring(&provider, &door, NUMBER, ("SM1", "yes")).await;
    let id = world.queue(&patient, question(&second)).await;
    let running = world.run_texts(provider.options());
    let mut patience = Patience::new();
    loop {
        let found = world.communication(&patient, &id).await;
        let why = found["statusReason"]["text"].as_str().unwrap_or_default();
        if why.starts_with("It waits for what may still come to the question before it") {
            break;
        }
        patience.wait(&format!("it waits: {found}")).await;
    }
    assert_eq!(world.outbox().await[0].key.due_ms, NOW_MS + 60_000);
    // Once more the same needs nobody; another answer is for somebody to read.
    for _ in 0..2 {
        assert_eq!(bring(&provider, &door, NUMBER, ("SM2", "Yes!")).await, None);
    }
    assert_eq!(to_read(&world, &patient).await, 0);
    let told = bring(&provider, &door, NUMBER, ("SM3", "no")).await;
    assert_eq!(told.as_deref(), Some(HELP));
    assert_eq!(to_read(&world, &patient).await, 1);
    bring(&provider, &door, NUMBER, ("SM3", "no")).await;
    assert_eq!(to_read(&world, &patient).await, 1, "it is told once");
    world.to_next_attempt().await;
    world.wait_for(&patient, &id, "in-progress").await;
    running.stop().await;
    // On its way when the next one left.
    let told = bring(&provider, &door, NUMBER, ("SM4", "no")).await;
    assert_eq!(told, Some(format!("{AGAIN} {HELP}")));
    assert_eq!(responses(&world, &patient).await.len(), 1);
    assert_eq!(status(&world, &patient, &second).await, "requested");
    world.clock.set(NOW_MS + 70_000);
    bring(&provider, &door, NUMBER, ("SM5", "no")).await;
    assert_eq!(status(&world, &patient, &second).await, "completed");
    let found = responses(&world, &patient).await;
    assert_eq!(found.len(), 2);
    let pair = |code: &str, text: &str| (code.to_owned(), text.to_owned());
    assert_eq!(
        came(&world, &patient).await,
        [
            pair("answer", "yes"),
            pair("kept", "Yes!"),
            pair("late", "no"),
            pair("unclear", "no"),
            pair("answer", "no"),
        ]
    );
}

/// Where the time of a question would be over by then, it goes by the next channel at once.
#[tokio::test]
async fn a_question_that_cannot_wait_for_the_one_before_is_not_asked() {
    let world = World::new().await;
    let provider = Provider::start().await;
    let door = world.door(&provider.options());
    let patient = world.patient(&mobile(NUMBER)).await;
    let first = form(&world, &patient, yes_no()).await;
    let second = form(&world, &patient, yes_no()).await;
    asks(&world, &provider, &patient, &first).await;
    bring(&provider, &door, NUMBER, ("SM1", "yes")).await;
    let id = world
        .queue(&patient, |message| {
            question(&second)(message);
            message.expires_ms = Some(NOW_MS + 30_000);
        })
        .await;
    let running = world.run_texts(provider.options());
    let refused = world.wait_for(&patient, &id, "not-done").await;
    running.stop().await;
    assert_eq!(code(&refused), "question-open");
    assert_eq!(provider.taken().len(), 1);
}

/// A "yes" by which the provider took a STOP off is brought again when there is none any more.
#[tokio::test]
async fn what_took_a_stop_off_is_no_answer_when_it_is_brought_again() {
    let world = World::new().await;
    let provider = Provider::start().await;
    let door = world.door(&provider.options());
    let patient = world.patient(&mobile(NUMBER)).await;
    let task = form(&world, &patient, yes_no()).await;
    asks(&world, &provider, &patient, &task).await;
    bring(&provider, &door, NUMBER, ("SM1", "stop")).await;
    assert!(crate::smpp::is_stopped(&world, NUMBER).await);
    for _ in 0..3 {
        let more = [("MessageSid", "SM2"), ("OptOutType", "START")];
        let told = provider.bring_with(&door, NUMBER, "YES", &more).await;
        assert_eq!(told, None, "the provider has answered");
        assert!(!crate::smpp::is_stopped(&world, NUMBER).await);
        assert!(responses(&world, &patient).await.is_empty());
    }
    assert_eq!(to_read(&world, &patient).await, 0);
    bring(&provider, &door, NUMBER, ("SM3", "yes")).await;
    assert_eq!(responses(&world, &patient).await.len(), 1);
}

/// Staff read what comes when the question is closed, and not more of it than helps.
#[tokio::test]
async fn what_comes_late_is_read_and_no_more_is_kept_than_is_of_use() {
    let world = World::new().await;
    let provider = Provider::start().await;
    let door = world.door(&provider.options());
    let patient = world.patient(&mobile(NUMBER)).await;
    let task = form(&world, &patient, yes_no()).await;
    asks(&world, &provider, &patient, &task).await;
    bring(&provider, &door, NUMBER, ("SM90", "no")).await;
    for number in 1..=30 {
        let name = format!("SM9{number}");
        let words = format!("My leg is swollen, {number}");
        let told = bring(&provider, &door, NUMBER, (&name, &words)).await;
        assert_eq!(told.is_some(), number <= 5, "five answers in an hour");
    }
    assert_eq!(to_read(&world, &patient).await, 3);
    let found = came(&world, &patient).await;
    let count = |wanted: &str| found.iter().filter(|(code, _)| code == wanted).count();
    assert_eq!((count("answer"), count("late"), count("kept")), (1, 3, 17));
    // Of one that is open the answer still counts after as many.
    world.clock.set(NOW_MS + HOUR_MS);
    let next = form(&world, &patient, yes_no()).await;
    asks(&world, &provider, &patient, &next).await;
    world.clock.set(NOW_MS + 2 * HOUR_MS);
    for number in 31..=60 {
        let name = format!("SM9{number}");
        bring(&provider, &door, NUMBER, (&name, "hello?")).await;
    }
    assert_eq!(came(&world, &patient).await.len(), 21 + 20);
    bring(&provider, &door, NUMBER, ("SM999", "yes")).await;
    assert_eq!(status(&world, &patient, &next).await, "completed");
}

/// What is sent to another number of the account answers nothing.
#[tokio::test]
async fn what_is_sent_to_another_number_answers_nothing() {
    let world = World::numbered("+16175550100").await;
    let provider = Provider::start().await;
    let door = world.door(&provider.options());
    let patient = world.patient(&mobile(NUMBER)).await;
    let task = form(&world, &patient, yes_no()).await;
    asks(&world, &provider, &patient, &task).await;
    let to = async |number: &str, name: &str| {
        let path = exchange::SMS_HEARD_PATH;
        let form = [
            ("From", NUMBER),
            ("To", number),
            ("Body", "yes"),
            ("MessageSid", name),
        ];
        let signature = provider.sign(path, &form).await;
        let members = crate::provider::owned(&form);
        let told = exchange::Told {
            path,
            members: &members,
            signature: Some(&signature),
            request_id: "test",
        };
        door.heard(&told).await.expect("heard").reply
    };
    assert_eq!(to("+16175550199", "SM1").await.as_deref(), Some(HELP));
    assert!(came(&world, &patient).await.is_empty());
    assert_eq!(to("16175550100", "SM2").await, None);
    assert_eq!(responses(&world, &patient).await.len(), 1);
}

/// What people reply by a session has no name; it is heard by the same door, and brought again it is once.
#[tokio::test]
async fn a_session_brings_answers_too() {
    let (mut world, centre, running) = connected().await;
    let patient = world.patient(&mobile(NUMBER)).await;
    let first = form(&world, &patient, yes_no()).await;
    let id = world.queue(&patient, question(&first)).await;
    world.wait_for(&patient, &id, "in-progress").await;
    assert!(
        centre.taken()[0]["text"]
            .as_str()
            .expect("a text")
            .starts_with("Did you go out today? Reply YES or NO")
    );
    for _ in 0..2 {
        assert_eq!(centre.text(PLAIN, "I fell").await, Some(0));
    }
    let again = format!("{AGAIN} {HELP}");
    for reply in &centre.wait_for(3).await[1..] {
        assert_eq!(reply["text"], again);
    }
    // Of a longer text the first part alone is read, and that is said.
    let part = json!({ "source_addr": PLAIN, "source_addr_ton": 1, "sar_msg_ref_num": 7, "sar_total_segments": 2, "sar_segment_seqnum": 1, "short_message": "yes" });
    assert_eq!(centre.bring(part).await, Some(0));
    assert!(responses(&world, &patient).await.is_empty());
    for _ in 0..2 {
        assert_eq!(centre.text(PLAIN, " Yes.").await, Some(0));
        assert_eq!(responses(&world, &patient).await.len(), 1);
    }
    assert_eq!(status(&world, &patient, &first).await, "completed");
    let words = async |world: &World| {
        let messages = all(world, &patient, ResourceType::Communication).await;
        let theirs = messages.iter().filter(|one| one["category"].is_array());
        let mut found: Vec<(String, String)> = theirs
            .map(|one| {
                let code = &one["category"][0]["coding"][0]["code"];
                let words = &one["payload"][0]["contentString"];
                let text = |value: &Value| value.as_str().expect("a text").to_owned();
                (text(code), text(words))
            })
            .collect();
        found.sort();
        found
    };
    let pair = |code: &str, text: &str| (code.to_owned(), text.to_owned());
    assert_eq!(
        words(&world).await,
        [
            pair("answer", " Yes."),
            pair("unclear", "I fell"),
            pair(
                "unclear",
                "yes\n(it was longer, and the rest of it is not kept)"
            ),
        ]
    );

    // What had no answer of ours is brought again in the next session, when the next question may have left.
    world.clock.set(NOW_MS + HOUR_MS);
    let second = form(&world, &patient, yes_no()).await;
    let id = world.queue(&patient, question(&second)).await;
    world.wait_for(&patient, &id, "in-progress").await;
    running.stop().await;
    world.clock.set(NOW_MS + 2 * HOUR_MS);
    world = world.reopen().await;
    let running = world.run_texts(centre.options());
    centre.bound(2).await;
    assert_eq!(centre.text(PLAIN, "Yes.").await, Some(0));
    assert_eq!(status(&world, &patient, &second).await, "requested");
    // Whoever sent it is told what to send, and sends it.
    assert_eq!(centre.text(PLAIN, "Yes.").await, Some(0));
    assert_eq!(status(&world, &patient, &second).await, "completed");
    assert_eq!(centre.text(PLAIN, "Yes.").await, Some(0));
    assert_eq!(responses(&world, &patient).await.len(), 2);
    assert_eq!(to_read(&world, &patient).await, 0);
    running.stop().await;
}

/// A correction comes at once, however long ago the question was asked: what is late is counted from the form's end.
#[tokio::test]
async fn a_correction_of_an_answer_after_weeks_is_read() {
    let world = World::new().await;
    let provider = Provider::start().await;
    let door = world.door(&provider.options());
    let patient = world.patient(&mobile(NUMBER)).await;
    let task = form(&world, &patient, yes_no()).await;
    asks(&world, &provider, &patient, &task).await;
    world.clock.set(NOW_MS + 20 * 24 * HOUR_MS);
    bring(&provider, &door, NUMBER, ("SM1", "yes")).await;
    let told = bring(&provider, &door, NUMBER, ("SM2", "no, I fell")).await;
    assert_eq!(told.as_deref(), Some(HELP));
    let pair = |code: &str, text: &str| (code.to_owned(), text.to_owned());
    assert_eq!(
        came(&world, &patient).await,
        [pair("answer", "yes"), pair("late", "no, I fell")]
    );
    assert_eq!(to_read(&world, &patient).await, 1);
    // The same of a form that was closed otherwise.
    let task = form(&world, &patient, yes_no()).await;
    world.clock.set(NOW_MS + 21 * 24 * HOUR_MS);
    asks(&world, &provider, &patient, &task).await;
    world.clock.set(NOW_MS + 50 * 24 * HOUR_MS);
    close(&world, &patient, &task).await;
    bring(&provider, &door, NUMBER, ("SM3", "I went out")).await;
    assert_eq!(came(&world, &patient).await[2], pair("late", "I went out"));
    assert_eq!(to_read(&world, &patient).await, 2);
}

/// Closes a form as staff do.
async fn close(world: &World, patient: &str, task: &str) {
    let tasks = all(world, patient, ResourceType::Task).await;
    let mut tasks = tasks.into_iter();
    let mut closed = tasks.find(|one| one["id"] == task).expect("a task");
    closed["status"] = json!("cancelled");
    world.put(patient, closed).await;
}

/// Whatever a text was taken for, an answer or none or one that came late: a session that brings it again doesn't make it
/// an answer to the next question.
#[tokio::test]
async fn what_a_session_brings_again_is_no_answer_to_the_next_question() {
    let option = |code: &str, words: &str| json!({"valueCoding": {"code": code, "display": words}});
    let choice = json!({"linkId": "how", "text": "How?", "type": "choice", "answerOption": [option("b", "Better"), option("w", "Worse")]});
    for (sent, next, again, reads) in [
        (["yes", "no"], yes_no(), "no", 1),
        (["2", "yes"], choice, "2", 0),
    ] {
        let (mut world, centre, running) = connected().await;
        let patient = world.patient(&mobile(NUMBER)).await;
        let first = form(&world, &patient, yes_no()).await;
        let id = world.queue(&patient, question(&first)).await;
        world.wait_for(&patient, &id, "in-progress").await;
        for text in sent {
            assert_eq!(centre.text(PLAIN, text).await, Some(0));
        }
        assert_eq!(responses(&world, &patient).await.len(), 1);
        assert_eq!(to_read(&world, &patient).await, reads);
        world.clock.set(NOW_MS + HOUR_MS);
        let second = form(&world, &patient, next).await;
        let id = world.queue(&patient, question(&second)).await;
        world.wait_for(&patient, &id, "in-progress").await;
        running.stop().await;
        world.clock.set(NOW_MS + 2 * HOUR_MS);
        world = world.reopen().await;
        let running = world.run_texts(centre.options());
        centre.bound(2).await;
        assert_eq!(centre.text(PLAIN, again).await, Some(0));
        assert_eq!(responses(&world, &patient).await.len(), 1, "{again}");
        assert_eq!(status(&world, &patient, &second).await, "requested");
        // Whoever sent it is told what to send, and sends it.
        assert_eq!(centre.text(PLAIN, again).await, Some(0));
        assert_eq!(status(&world, &patient, &second).await, "completed");
        assert_eq!(to_read(&world, &patient).await, reads);
        running.stop().await;
    }
}

/// Until the next question has left, what comes is meant for the one before.
#[tokio::test]
async fn what_comes_while_the_next_question_is_put_off_is_late_to_the_one_before() {
    let world = World::new().await;
    let provider = Provider::start().await;
    let door = world.door(&provider.options());
    let patient = world.patient(&mobile(NUMBER)).await;
    let first = form(&world, &patient, yes_no()).await;
    asks(&world, &provider, &patient, &first).await;
    bring(&provider, &door, NUMBER, ("SM1", "yes")).await;
    world.clock.set(NOW_MS + HOUR_MS);
    let second = form(&world, &patient, yes_no()).await;
    let id = world.queue(&patient, question(&second)).await;
    let busy = json!({"status": 429, "code": 20429, "retry_after": 3});
    provider.next(json!([busy])).await;
    let running = world.run_texts(provider.options());
    world.wait_put_off(&patient, &id, 0).await;
    let told = bring(&provider, &door, NUMBER, ("SM2", "no, I fell")).await;
    assert_eq!(told.as_deref(), Some(HELP));
    let pair = |code: &str, text: &str| (code.to_owned(), text.to_owned());
    assert_eq!(
        came(&world, &patient).await,
        [pair("answer", "yes"), pair("late", "no, I fell")]
    );
    assert_eq!(to_read(&world, &patient).await, 1);
    assert_eq!(bring(&provider, &door, NUMBER, ("SM3", "yes")).await, None);
    assert_eq!(status(&world, &patient, &second).await, "requested");
    world.to_next_attempt().await;
    world.wait_for(&patient, &id, "in-progress").await;
    running.stop().await;
    world.clock.set(NOW_MS + 2 * HOUR_MS);
    bring(&provider, &door, NUMBER, ("SM4", "no")).await;
    assert_eq!(status(&world, &patient, &second).await, "completed");
    assert_eq!(responses(&world, &patient).await.len(), 2);
}

/// What was closed before its question left is asked of nobody.
#[tokio::test]
async fn a_form_that_is_closed_is_not_asked() {
    let world = World::new().await;
    let provider = Provider::start().await;
    let patient = world.patient(&mobile(NUMBER)).await;
    let task = form(&world, &patient, yes_no()).await;
    close(&world, &patient, &task).await;
    let refused = asks(&world, &provider, &patient, &task).await;
    assert_eq!(code(&refused), "expired");
    assert!(provider.taken().is_empty());
}

/// A reply that can never be written down doesn't keep a session from what comes behind it.
#[tokio::test]
async fn a_reply_that_cannot_be_taken_blocks_no_session() {
    let (world, centre, running) = connected().await;
    let patient = world.patient(&mobile(NUMBER)).await;
    let task = form(&world, &patient, yes_no()).await;
    let id = world.queue(&patient, question(&task)).await;
    world.wait_for(&patient, &id, "in-progress").await;
    let vault = world.trust.vault();
    let tenant = crate::world::TENANT;
    let found = vault.text_question(tenant, &patient).await;
    let (found, version) = found.expect("read").expect("a question");
    let mut damaged = vault.text_question_asked(tenant, &patient, &found, Some(version));
    damaged.body = b"no question".to_vec();
    let unit = Unit {
        internals: vec![damaged],
        patient: Some(patient.clone()),
        ..Unit::default()
    };
    let permit = world.journey(&patient).await;
    vault.commit(&permit, unit).await.expect("committed");
    assert_eq!(centre.text(PLAIN, "yes").await, Some(0));
    assert_eq!(centre.wait_for(2).await[1]["text"], HELP);
    assert_eq!(centre.text(PLAIN, "stop").await, Some(0));
    assert!(crate::smpp::is_stopped(&world, NUMBER).await);
    running.stop().await;
}
