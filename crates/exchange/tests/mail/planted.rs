//! Messages in the outbox that say who a patient is where no journey may: as a program would put them out that had a fault,
//! or an older one whose checker knew less. By each channel, in each of their parts, what says it does not leave.

use serde_json::json;
use trust::identity::AppService;
use trust::outgoing::Message;

use crate::apps::{SCOPES, apns_token, fcm_token, let_in, told_in};
use crate::entries::visit;
use crate::letters::{call, home, letter};
use crate::push::{browsers, push};
use crate::stopping::Peers;
use crate::texts::text;
use crate::world::{NOW_MS, Running, World};

const HOUR_MS: u64 = 3_600_000;

/// What a record says of its patient, as a program may write it.
const DETAILS: [&str; 7] = [
    "Ottilie",
    "QUANDT",
    "1941-03-07",
    "7 March 1941",
    "MRN 0081277",
    "617 555 0142",
    "12 Alder Street",
];

/// Where in a message.
const PARTS: [&str; 3] = ["subject", "text", "link"];

fn plant(message: &mut Message, part: &str, detail: &str) {
    match part {
        "subject" => message.subject = format!("News for {detail}"),
        "text" => message.text = format!("News for {detail}: {{link}}"),
        _ => message.link_path = format!("/portal/inbox/{detail}"),
    }
}

#[expect(clippy::print_stdout, reason = "what a test has counted is told")]
async fn nothing_leaves(
    channels: &[&'static str],
    running: impl AsyncFnOnce(&World, &Peers) -> Vec<Running>,
) {
    let peers = Peers::start().await;
    let world = World::bound(peers.partner.policies.path()).await;
    let telecom = json!([
        { "system": "email", "value": "somebody@example.com" },
        { "system": "phone", "use": "mobile", "value": "+16175550142" }
    ]);
    let patient = world.patient(&[home(), ("telecom", telecom)]).await;
    let browser = browsers(&world, &peers.pusher, &patient, 1).await.remove(0);
    let (agent, _) = let_in(&world, &patient, SCOPES).await;
    told_in(&world, &agent, AppService::Fcm, &fcm_token(1)).await;
    told_in(&world, &agent, AppService::Apns, &apns_token(1)).await;
    let mut all = Vec::new();
    for channel in channels {
        let sort = |message: &mut Message| {
            match *channel {
                "e-mail" => {}
                "calendar" => message.visit = Some(visit("2026-11-20T09:00:00Z", 0, false)),
                "sms" | "smpp" => text(message),
                "letter" => letter(message),
                "voice" => call(message),
                _ => push(message),
            }
            message.expires_ms = Some(NOW_MS + 48 * HOUR_MS);
        };
        for part in PARTS {
            for detail in DETAILS {
                let change = |message: &mut Message| {
                    sort(message);
                    plant(message, part, detail);
                };
                let id = world.queue(&patient, change).await;
                all.push((channel, part, detail, id));
            }
        }
        // Without it, the same leaves.
        all.push((channel, "none", "", world.queue(&patient, sort).await));
    }
    let running = running(&world, &peers).await;
    world.clock.set(NOW_MS + HOUR_MS);
    let mut good = Vec::new();
    for (channel, part, detail, id) in &all {
        if *part == "none" {
            let mut patience = crate::patience::Patience::new();
            loop {
                let found = world.communication(&patient, id).await;
                if found["status"] == "completed" || found["status"] == "in-progress" {
                    break;
                }
                patience.wait(&format!("{channel}: {found}")).await;
            }
            good.push(id.as_str());
            continue;
        }
        let ended = world.wait_for(&patient, id, "not-done").await;
        let reason = &ended["statusReason"];
        let what = format!("{detail} in the {part} by {channel}: {ended}");
        assert_eq!(reason["coding"][0]["code"], "phi-guard", "{what}");
        let words = reason["text"].as_str().expect("words");
        assert!(!words.contains(detail), "{what}");
    }
    for one in running {
        one.stop().await;
    }
    let shown = peers.pusher.read(&browser).await;
    let is_asked = channels.contains(&"browser");
    assert_eq!(shown.len(), usize::from(is_asked), "{shown:?}");
    // All that anybody had, and nothing of it is of those that say who somebody is.
    let mut came = format!(
        "{:?}{:?}{:?}{:?}{:?}",
        peers.provider.taken(),
        peers.centre.taken(),
        shown,
        peers.telephones.heard("fcm"),
        peers.telephones.heard("apns"),
    );
    for mail in peers.mail.seen() {
        came += &format!("{} {}", mail.header("Subject"), mail.text());
    }
    came += &format!("{:?}", peers.partner.rows("out"));
    for (_, part, detail, id) in &all {
        let is_good = good.contains(&id.as_str());
        assert_eq!(came.contains(id.as_str()), is_good, "{part} {detail}");
    }
    assert!(!came.contains("News for"), "{came}");
    println!("planted: {} messages, {} left", all.len(), good.len());
}

#[tokio::test]
async fn what_says_who_somebody_is_does_not_leave_by_any_channel() {
    let channels = ["e-mail", "calendar", "sms", "browser", "letter", "voice"];
    nothing_leaves(&channels, async |world, peers| {
        vec![
            world.run(world.options(peers.mail.port)),
            world.run_texts(peers.provider.options()),
            // By all three services at once.
            world.run_push(peers.push()),
            world.run_files(peers.partner.letters()),
            world.run_files(peers.partner.calls()),
        ]
    })
    .await;
}

#[tokio::test]
async fn what_says_who_somebody_is_does_not_leave_by_smpp() {
    nothing_leaves(&["smpp"], async |world, peers| {
        vec![world.run_texts(peers.centre.options())]
    })
    .await;
}
